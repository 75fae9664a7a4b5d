"""Layers against plain NumPy loops over every output value."""

import functools
from unittest import mock

import numpy as np
import pytest
from helpers import draw, filled, run_graph

import pix2pix
from tools import benchmark
from tools.lib import fast_conv, tf1
from tools.lib.cli import with_options
from tools.lib.tf1 import tf

SIZES = [(5, 7), (6, 10), (6, 7)]


def check(build, expected, atol=1e-5):
    """A layer with filled weights gives what is expected, and the comparison can fail."""
    result = run_graph(build, fill=True)
    np.testing.assert_allclose(result, expected, atol=atol)
    assert np.abs(expected[::-1] - result).max() > 100 * atol  # images in wrong order
    assert np.abs(expected * 1.01 - result).max() > 10 * atol


def pads(size, stride, padding):
    """Pixels before the image and number of outputs along one side, kernel 4."""
    if padding == "VALID":
        return 0, (size - 4) // stride + 1
    count = -(-size // stride)
    return max((count - 1) * stride + 4 - size, 0) // 2, count


def loop_conv(x, kernel, stride, padding="SAME"):
    batch, height, width, _ = x.shape
    (top, rows), (left, columns) = (pads(size, stride, padding) for size in (height, width))
    out = np.zeros([batch, rows, columns, kernel.shape[3]])
    for n, i, j, dy, dx in np.ndindex(batch, rows, columns, 4, 4):
        y, z = i * stride + dy - top, j * stride + dx - left
        if 0 <= y < height and 0 <= z < width:
            out[n, i, j] += x[n, y, z] @ kernel[dy, dx]
    return out


def loop_deconv(x, kernel):
    """Each input pixel paints a 4x4 part, two apart, from one pixel outside."""
    batch, height, width, _ = x.shape
    out = np.zeros([batch, 2 * height, 2 * width, kernel.shape[2]])
    for n, i, j, dy, dx in np.ndindex(batch, height, width, 4, 4):
        y, z = 2 * i + dy - 1, 2 * j + dx - 1
        if 0 <= y < 2 * height and 0 <= z < 2 * width:
            out[n, y, z] += kernel[dy, dx] @ x[n, i, j]
    return out


def loop_separable(x, depthwise, pointwise, stride):
    """As a full convolution whose kernel is the product of the two."""
    return loop_conv(x, depthwise * pointwise, stride)


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("stride, padding", [(2, "SAME"), (1, "SAME"), (1, "VALID"), (2, "VALID")])
def test_conv(height, width, stride, padding):
    x = draw(1, 2, height, width, 3)
    expected = loop_conv(x, filled("conv2d/kernel", [4, 4, 3, 4]), stride, padding)
    check(lambda: pix2pix.conv(tf.constant(x), 4, stride=stride, padding=padding),
          expected + filled("conv2d/bias", [4]))


@pytest.mark.parametrize("height, width", SIZES)
def test_deconv(height, width):
    x = draw(2, 2, height, width, 3)
    expected = loop_deconv(x, filled("conv2d_transpose/kernel", [4, 4, 4, 3]))
    check(lambda: pix2pix.deconv(tf.constant(x), 4),
          expected + filled("conv2d_transpose/bias", [4]))


@pytest.mark.parametrize("layer", ["conv2d", "conv2d_transpose"])
@pytest.mark.parametrize("height, width", [(1, 1), (2, 2), (2, 4), (6, 4), (10, 14), (16, 16)])
def test_im2col_is_the_convolution_with_its_gradients(monkeypatch, height, width, layer):
    """In float64, where both are the same sums but for their order; and gradients of gradients.
    height, width: of the smaller map."""
    if layer == "conv2d":
        height, width = 2 * height, 2 * width
    x = np.random.default_rng(1).standard_normal([3, height, width, 5])
    weights = np.random.default_rng(2).standard_normal(
        [4, 4, 5, 7] if layer == "conv2d" else [4, 4, 7, 5])

    def build():
        results, before = [], set()
        for most, kind in ((16 * 16, "MatMul"), (0, "Conv2D")):
            monkeypatch.setattr(fast_conv, "IM2COL_MAX_PIXELS", most)
            inputs, kernel = tf.constant(x), tf.constant(weights)
            more = [2, "SAME"] if layer == "conv2d" else []
            outputs = getattr(fast_conv, layer)(inputs, kernel, *more)
            gradients = tf.gradients(tf.sin(outputs), [inputs, kernel])
            results.append([outputs, *gradients, *tf.gradients(gradients[0] ** 2, kernel)])
            operations = {*tf.get_default_graph().get_operations()} - before
            types = {operation.type.removeprefix("Batch")[:6] for operation in operations}
            assert types & {"MatMul", "Conv2D"} == {kind}
            before |= operations
        return results
    products, plain = run_graph(build)
    for got, expected in zip(products, plain, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch, size, used", [
    (1, 4, "float32"), (4, 2, "float32"), (16, 1, "float32"), (2, 4, "bfloat16"),
    (17, 1, "bfloat16"), (None, 1, "bfloat16")])
@pytest.mark.parametrize("purpose", ["training", "inference"])
def test_few_pixels_are_multiplied_in_the_kernels_type(batch, size, used, purpose):
    """In training, where a batch is known; the layer's type is that of its inputs."""
    with tf.Graph().as_default() as graph, fast_conv.layers_for(purpose), \
            tf.variable_scope("", reuse=tf.AUTO_REUSE):
        inputs = tf.placeholder(tf.bfloat16, [batch, size, size, 5])
        kernel = tf.get_variable("kernel", [4, 4, 6, 5], use_resource=True)
        larger = pix2pix.conv2d_transpose(inputs, kernel)
        if purpose == "training":
            gradient, = tf.gradients(larger, kernel)
            assert gradient.dtype == tf.float32
        outputs = pix2pix.conv2d(tf.placeholder(tf.bfloat16, [batch, 2 * size, 2 * size, 6]),
                                 kernel, 2, "SAME")
        products = {operation.outputs[0].dtype.name for operation in graph.get_operations()
                    if "MatMul" in operation.type}
    assert larger.dtype == outputs.dtype == tf.bfloat16
    assert products == {used if purpose == "training" else "bfloat16"}


def small_gradients(dtype, size, scale=1.0):
    """Gradients of two layers' kernels, through a small map of size x size pixels, and of a bias,
    all times scale."""
    x = tf.cast(draw(1, 2, 2 * size, 2 * size, 3), dtype)
    kernels = [tf.constant(draw(seed, 4, 4, 3, 5)) for seed in (2, 3)]
    bias = tf.ones([3])
    small = pix2pix.conv2d(x, kernels[0], 2, "SAME")
    outputs = tf.nn.bias_add(pix2pix.conv2d_transpose(small, kernels[1]), tf.cast(bias, dtype))
    return tf.gradients(tf.sin(outputs), [*kernels, bias], tf.ones_like(outputs) * scale)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size, is_read", [(1, False), (2, False), (4, False), (8, True)])
def test_the_norm_of_small_layers_gradients_is_known_without_reading_them(dtype, size, is_read):
    with tf.Graph().as_default() as graph:
        gradients = small_gradients(dtype, size)
        norm, expected = fast_conv.global_norm(gradients), tf.linalg.global_norm(gradients)
        needed = benchmark.find_needed(norm.op)
        assert {gradient.op in needed for gradient in gradients[:2]} == {is_read}
        assert gradients[2].op in needed
        with tf.Session(graph=graph) as sess:
            got, expected = sess.run([norm, expected])
    assert got == pytest.approx(expected, rel=1e-6 if dtype == "float32" else 0.01)
    assert expected > 1


@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e38])  # each is finite, their sums are not
def test_a_norm_is_as_finite_as_its_gradients(scale):
    with tf.Graph().as_default() as graph:
        gradients = small_gradients("float32", 2, scale)
        norm = fast_conv.global_norm(gradients[:1])
        with tf.Session(graph=graph) as sess:
            assert not np.isfinite(sess.run(norm))
            assert not np.isfinite(sess.run(gradients[0])).all() or scale == 1e38


def test_a_gradient_that_cancels_has_a_norm():
    """What rounding leaves of zero is not below it."""
    pixels = draw(1, 1, 8)
    with tf.Graph().as_default() as graph:
        factors = [tf.constant(np.concatenate([pixels, sign * pixels])) for sign in (1, -1)]
        norm = fast_conv.global_norm([tf.matmul(*factors, transpose_a=True)])
        with tf.Session(graph=graph) as sess:
            assert 0 <= sess.run(norm) < 1e-3


def compare_winograd(monkeypatch, dtype, height, width):
    """The outputs of a 4x4 convolution with stride 1 and the gradients of inputs and kernel, and
    that of the first gradient: by Winograd, and as a plain convolution in float64."""
    x = np.random.default_rng(1).standard_normal([2, height, width, 12])
    weights = np.random.default_rng(2).standard_normal([4, 4, 12, 7]) / 14  # outputs around 1

    def build():
        results = []
        for least, kind, used in ((0, "BatchMatMulV2", dtype), (12 * 7 + 1, "Conv2D", "float64")):
            monkeypatch.setattr(fast_conv, "WINOGRAD_MIN_CHANNELS", least)
            with tf.name_scope(kind):
                inputs, kernel = tf.constant(x, used), tf.constant(weights, used)
                outputs = fast_conv.conv2d(inputs, kernel, 1, "VALID")
                gradients = tf.gradients(tf.sin(outputs), [inputs, kernel])
            more = tf.gradients(gradients[0] ** 2, kernel) if dtype == "float64" else []
            types = {operation.type for operation in tf.get_default_graph().get_operations()
                     if operation.name.startswith(f"{kind}/")}
            assert types & {"BatchMatMulV2", "Conv2D"} == {kind}
            results.append([tf.cast(value, tf.float64) for value in (outputs, *gradients, *more)])
        return results
    return run_graph(build)


@pytest.mark.parametrize("height, width", [(4, 4), (5, 8), (9, 6), (11, 13)])
def test_winograd_is_the_convolution_with_its_gradients(monkeypatch, height, width):
    """In float64, where both are the same sums but for their order; and gradients of gradients."""
    winograd, plain = compare_winograd(monkeypatch, "float64", height, width)
    for got, expected in zip(winograd, plain, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype, most", [("float32", 2e-6), ("bfloat16", 0.02)])
def test_winograd_rounds_little(monkeypatch, dtype, most):
    for got, expected in zip(*compare_winograd(monkeypatch, dtype, 11, 8), strict=True):
        assert 0 < np.linalg.norm(got - expected) < most * np.linalg.norm(expected)


def strided_forms(layer, kind):
    """A layer of stride 2 in a form and as TensorFlow has it: functions of inputs and kernel."""
    if layer == "conv2d":
        return (functools.partial(fast_conv.winograd_strided, is_transposed=False),
                lambda x, kernel: tf.nn.conv2d(x, kernel, 2, "SAME"))

    def plain(x, kernel):
        batch, height, width, _ = x.shape
        return tf.nn.conv2d_transpose(
            x, kernel, [batch, 2 * height, 2 * width, kernel.shape[2]], strides=2)
    return {"winograd": functools.partial(fast_conv.winograd_strided, is_transposed=True),
            "taps": fast_conv.place_taps}[kind], plain


def compare_strided(layer, kind, dtype, size, channels):
    """The outputs of a layer of stride 2, the gradients of inputs and kernel, and the gradient of
    the first gradient: in a form, and as a plain layer in float64. size: of the smaller map;
    channels: of the larger map and the smaller."""
    (height, width), (larger, smaller) = size, channels
    shapes = [[3, height, width, smaller], [3, 2 * height, 2 * width, larger]]
    x, wanted = map(np.random.default_rng(1).standard_normal,
                    shapes if layer == "conv2d_transpose" else shapes[::-1])
    weights = np.random.default_rng(2).standard_normal([4, 4, larger, smaller]) / 14

    def build():
        results = []
        for form, used in zip(strided_forms(layer, kind), (dtype, "float64"), strict=True):
            inputs, kernel = tf.constant(x, used), tf.constant(weights, used)
            outputs = form(inputs, kernel)
            assert outputs.shape == wanted.shape
            gradients = tf.gradients(outputs, [inputs, kernel], tf.constant(wanted, used))
            more = tf.gradients(gradients[0] ** 2, kernel) if dtype == "float64" else []
            results.append([tf.cast(value, tf.float64) for value in (outputs, *gradients, *more)])
        return results
    return run_graph(build)


STRIDED = [("conv2d", "winograd"), ("conv2d_transpose", "winograd"), ("conv2d_transpose", "taps")]


@pytest.mark.parametrize("layer, kind", STRIDED)
@pytest.mark.parametrize("size, channels", [
    ((1, 1), (1, 1)), ((2, 5), (3, 7)), ((5, 2), (4, 1)), ((7, 9), (3, 5)), ((12, 10), (2, 6)),
    ((33, 18), (3, 2))])
def test_strided_forms_are_the_layer_with_its_gradients(layer, kind, size, channels):
    for got, expected in zip(*compare_strided(layer, kind, "float64", size, channels), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("layer, kind", STRIDED)
@pytest.mark.parametrize("dtype, most", [("float32", 2e-6), ("bfloat16", 0.02)])
def test_strided_forms_round_little(layer, kind, dtype, most):
    for got, expected in zip(*compare_strided(layer, kind, dtype, (11, 9), (12, 31)), strict=True):
        assert 0 < np.linalg.norm(got - expected) < most * np.linalg.norm(expected)


def list_forms(build):
    """How many layers of a network are by Winograd, and how many are plain convolutions."""
    spies = [mock.patch.object(fast_conv, name, wraps=getattr(fast_conv, name))
             for name in ("winograd_conv2d", "winograd_strided")]
    with tf.Graph().as_default() as graph, spies[0] as one, spies[1] as other:
        build()
        types = [operation.type for operation in graph.get_operations()]
    return one.call_count + other.call_count, sum(kind.startswith("Conv2D") for kind in types)


@pytest.fixture
def on_processor(monkeypatch):
    """A function that sets what instructions the processor has."""
    return lambda *flags: monkeypatch.setattr(tf1, "processor_flags", lambda: {*flags})


@pytest.mark.parametrize("ndf, products", [(63, 0), (64, 1)])
def test_layer_4_of_the_discriminator_is_by_winograd_from_64_filters(ndf, products):
    """At 64x64, where its layers of stride 2 are small or narrow."""
    assert list_forms(lambda: pix2pix.create_discriminator(
        tf.zeros([1, 64, 64, 6]), ndf))[0] == products


@pytest.mark.parametrize("flags, dtype, size, purpose, expected", [
    # layers 2 and 3 of the encoder, 3 and 2 of the decoder
    ((), "float32", 256, "training", (3, 2)), ((), "float32", 256, "inference", (2, 3)),
    ((), "float32", 256, "checkpoint", (2, 3)), ((), "float32", 256, "foreign", (0, 6)),
    ((), "bfloat16", 256, "training", (4, 1)), ((), "bfloat16", 256, "inference", (3, 2)),
    (("amx_bf16",), "float32", 256, "training", (3, 2)),
    (("amx_bf16",), "bfloat16", 256, "training", (0, 6)),
    (("amx_bf16",), "bfloat16", 256, "inference", (0, 6)),
    ((), "float32", 64, "training", (0, 1))])
def test_winograd_is_used_where_it_is_faster(
        options, on_processor, flags, dtype, size, purpose, expected):
    """In a U-Net of 64 filters: the table of fast_conv.py, layer by layer."""
    on_processor(*flags)
    options = with_options(options, ngf=64, crop_size=size, precision=dtype)

    def build():
        with fast_conv.layers_for(purpose):
            pix2pix.create_outputs(tf.zeros([1, size, size, 3]), options)
    assert list_forms(build) == expected


def test_a_gpus_library_chooses_for_itself(monkeypatch):
    monkeypatch.setattr(tf1, "list_gpus", lambda: ["/gpu:0"])
    assert list_forms(lambda: pix2pix.deconv(tf.zeros([1, 32, 32, 512]), 128)) == (0, 1)
    assert list_forms(lambda: pix2pix.deconv(tf.zeros([1, 32, 32, 512]), 3)) == (0, 1)
    monkeypatch.setattr(tf1, "list_gpus", lambda: [])
    assert list_forms(lambda: pix2pix.deconv(tf.zeros([1, 32, 32, 512]), 128)) == (1, 0)
    assert list_forms(lambda: pix2pix.deconv(tf.zeros([1, 32, 32, 512]), 3)) == (0, 0)


def test_kernels_are_transformed_once_in_inference():
    """A layer of theirs gives the same bits, and no longer follows its kernel. Layers that share a
    kernel share that too, in the branches of a graph and in its loops as well."""
    x = draw(7, 1, 32, 32, 256)
    with tf.Graph().as_default():
        with tf.variable_scope("", reuse=tf.AUTO_REUSE):
            plain = pix2pix.deconv(tf.constant(x), 128)
            with fast_conv.layers_for("inference"):
                fixed, *others = (function() for function in (
                    lambda: pix2pix.deconv(tf.constant(x), 128),
                    lambda: tf.cond(tf.constant(True), lambda: pix2pix.deconv(tf.constant(x), 128),
                                    lambda: pix2pix.deconv(tf.zeros([1, 32, 32, 256]), 128)),
                    lambda: tf.map_fn(lambda image: pix2pix.deconv(image[tf.newaxis], 128)[0], x)))
        kept, = tf.local_variables()
        assert kept.op.name == "conv2d_transpose/winograd"
        assert kept.shape == [16, 4 * 128, 256] and not kept.trainable
        kernel = next(each for each in tf.global_variables() if each.op.name.endswith("kernel"))
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            sess.run(tf.local_variables_initializer())
            before, same, *shared = sess.run([plain, fixed, *others])
            np.testing.assert_array_equal(before, same)
            for each in shared:
                np.testing.assert_allclose(each, same, atol=1e-5)
            sess.run(tf.assign(kernel, 2 * kernel))
            np.testing.assert_array_equal(sess.run(fixed), same)
            assert np.abs(sess.run(plain) - same).max() > 0.1


@pytest.mark.parametrize("layer", ["conv", "deconv", "resize_conv", "reflect_conv",
                                   "separable_conv", "separable_deconv"])
@pytest.mark.parametrize("size", [8, 40])  # as a product and as a convolution
def test_layers_compute_in_the_type_of_their_inputs(layer, size):
    x = draw(5, 1, size, size, 6)

    def build():
        with tf.variable_scope("a"):
            exact = getattr(pix2pix, layer)(tf.constant(x), 5)
        with tf.variable_scope("a", reuse=True):
            rough = getattr(pix2pix, layer)(tf.cast(x, tf.bfloat16), 5)
        assert rough.dtype == tf.bfloat16
        assert {variable.dtype.base_dtype for variable in tf.global_variables()} == {tf.float32}
        return exact, tf.cast(rough, tf.float32)
    exact, rough = run_graph(build, fill=True)
    assert 0 < np.abs(rough - exact).max() < 0.02 * np.abs(exact).max()  # 8 bits of mantissa


def separable_weights():
    return (filled("separable_conv2d/depthwise_kernel", [4, 4, 3, 1]),
            filled("separable_conv2d/pointwise_kernel", [1, 1, 3, 4]))


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
def test_separable_conv(height, width, stride):
    x = draw(3, 2, height, width, 3)
    expected = loop_separable(x, *separable_weights(), stride)
    check(lambda: pix2pix.separable_conv(tf.constant(x), 4, stride=stride),
          expected + filled("separable_conv2d/bias", [4]))


@pytest.mark.parametrize("height, width", SIZES)
def test_separable_deconv(height, width):
    x = draw(4, 2, height, width, 3)
    larger = np.stack([[[image[i // 2, j // 2] for j in range(2 * width)]
                        for i in range(2 * height)] for image in x])
    expected = loop_separable(larger, *separable_weights(), 1)
    check(lambda: pix2pix.separable_deconv(tf.constant(x), 4),
          expected + filled("separable_conv2d/bias", [4]))


@pytest.mark.parametrize("up", [pix2pix.deconv, pix2pix.separable_deconv])
def test_upsampling_takes_sizes_unknown_beforehand(up):
    x = draw(5, 2, 5, 7, 3)

    def build():
        unknown = tf.placeholder_with_default(x, [None, None, None, 3])
        known = tf.constant(x)
        with tf.variable_scope("a"):
            outputs = up(unknown, 4)
        with tf.variable_scope("a", reuse=True):
            expected = up(known, 4)
        assert outputs.shape.as_list() == [None, None, None, 4]
        assert expected.shape.as_list()[1:] == [10, 14, 4]
        return outputs, expected
    outputs, expected = run_graph(build, fill=True)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def loop_norm(x):
    """Channel by channel, from the definition."""
    gamma, beta = (filled(f"batch_normalization/{name}", [3]) for name in ("gamma", "beta"))
    result = np.empty_like(x)
    for c in range(3):
        values = x[..., c].ravel()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        result[..., c] = (x[..., c] - mean) / np.sqrt(variance + 1e-5) * gamma[c] + beta[c]
    return result


@pytest.mark.parametrize("scale", [1, 0.003])  # a variance of the size of epsilon counts it
def test_batchnorm(scale):
    x = draw(6, 2, 5, 7, 3).astype(np.float64) * [1, 2, 3] * scale
    x[1] = x[1] * 3 + scale * 2
    check(lambda: pix2pix.batchnorm(tf.constant(x, tf.float32)), loop_norm(x),
          atol=2e-4)


def test_batchnorm_takes_statistics_of_the_whole_batch():
    x, other = draw(7, 1, 5, 7, 3), draw(8, 2, 5, 7, 3) * 9 + 4

    def first(batch):
        return run_graph(lambda: pix2pix.batchnorm(tf.constant(batch)), fill=True)[0]
    np.testing.assert_allclose(first(x), first(np.repeat(x, 2, axis=0)), atol=1e-5)
    assert np.abs(first(np.concatenate([x, other])) - first(x)).max() > 0.1


def test_batchnorm_of_one_value_is_its_shift():
    x = draw(9, 1, 1, 1, 3)  # the innermost layer, one image
    result = run_graph(lambda: pix2pix.batchnorm(tf.constant(x)), fill=True)
    np.testing.assert_allclose(result[0, 0, 0], filled("batch_normalization/beta", [3]), atol=1e-6)


def test_lrelu():
    x = np.array([-10, -1, -0.5, 0, 0.25, 3], np.float32)
    np.testing.assert_allclose(run_graph(lambda: pix2pix.lrelu(tf.constant(x))),
                               [-2, -0.2, -0.1, 0, 0.25, 3], rtol=1e-6)


def dropped(rate, seed, step, number=2, shape=(2, 50, 70, 3)):
    """Dropout of draws in 1..2."""
    x, key = draw(9, *shape, low=1, high=2), pix2pix.DrawKey(seed, step)
    return x, run_graph(lambda: pix2pix.dropout(tf.constant(x), rate, key, number))


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_dropout_zeroes_its_share_and_scales_the_rest(rate):
    x, result = dropped(rate, 3, 4)
    kept = result != 0
    # 21000 draws: 5 standard deviations are 0.0173 at most
    assert (~kept).mean() == pytest.approx(rate, abs=0.018)
    np.testing.assert_allclose(result[kept], x[kept] / (1 - rate), rtol=1e-6)
    for axes in [(1, 2, 3), (0, 2, 3), (0, 1, 2)]:  # spread over images, rows and channels
        assert np.abs((~kept).mean(axis=axes) - rate).max() < 0.2


def test_dropout_draws_by_its_seed():
    first = dropped(0.5, 3, 4)[1]
    np.testing.assert_array_equal(first, dropped(0.5, 3, 4)[1])
    for key in ((3, 5), (4, 4), (4, 3), (3, 4, 7)):  # another step, seed, both, layer
        agreement = ((dropped(0.5, *key)[1] == 0) == (first == 0)).mean()
        assert agreement == pytest.approx(0.5, abs=0.02)


def test_a_step_in_parts_draws_as_a_whole():
    key = pix2pix.DrawKey(5, 6)

    def build():
        return (pix2pix.draw_uniform(key, 3, 7, [2, 5]),
                [pix2pix.draw_uniform(key._replace(first=tf.constant(first)), 3, size,
                                      [2, 5]) for first, size in ((0, 3), (3, 3), (6, 1))],
                pix2pix.draw_uniform(key._replace(first=None), 3, 7, [2, 5]))
    whole, parts, alike = run_graph(build)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole)) == whole.size and alike.shape == (1, 2, 5)
    np.testing.assert_array_equal(alike, whole[:1])


def test_initial_weights():
    def build():
        x = tf.zeros([1, 8, 8, 40])
        for layer in (pix2pix.conv, pix2pix.deconv, pix2pix.separable_conv):
            layer(x, 60)
        pix2pix.batchnorm(tf.zeros([1, 2, 2, 4000]))
        return {variable.op.name: variable.read_value()
                for variable in tf.trainable_variables()}
    values = run_graph(build)
    assert len(values) == 3 + 4 + 2
    for name, value in values.items():
        if name.endswith(("bias", "beta")):
            assert not value.any()
            continue
        mean = 1 if name.endswith("gamma") else 0
        error = 0.02 / np.sqrt(value.size)  # a mean's deviation; a deviation's is 1.4 times less
        assert value.mean() == pytest.approx(mean, abs=5 * error), name
        assert value.std() == pytest.approx(0.02, abs=4 * error), name
        # a truncated normal distribution has nothing beyond two deviations
        beyond = (np.abs(value - mean) > 0.04).mean()
        assert beyond == pytest.approx(0.0455, abs=5 * np.sqrt(0.0455 / value.size)), name


# Layers of the family


@pytest.mark.parametrize("kernel_size, stride", [(4, 2), (3, 1), (3, 2), (7, 1)])
def test_reflect_conv_mirrors_at_the_outermost_pixels(kernel_size, stride):
    x, around = draw(11, 2, 8, 10, 3), kernel_size - stride
    sides = (around // 2, around - around // 2)

    def build():
        with tf.variable_scope("a"):
            outputs = pix2pix.reflect_conv(tf.constant(x), 5, kernel_size, stride)
        padded = np.pad(x, [(0, 0), sides, sides, (0, 0)], mode="reflect")
        with tf.variable_scope("a", reuse=True):
            return outputs, pix2pix.conv(tf.constant(padded), 5, kernel_size, stride, "VALID"), \
                pix2pix.conv(tf.constant(x), 5, kernel_size, stride)
    outputs, expected, zeros = run_graph(build, fill=True)
    assert outputs.shape == (2, 8 // stride, 10 // stride, 5) == zeros.shape
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    inner = slice(2, -2) if kernel_size < 7 else slice(3, -3)
    np.testing.assert_allclose(outputs[:, inner, inner], zeros[:, inner, inner], atol=1e-5)
    assert np.abs(outputs - zeros).max() > 0.1


def test_resize_conv_doubles_and_convolves_3x3():
    x = draw(12, 2, 5, 7, 3)

    def build():
        outputs = pix2pix.resize_conv(tf.constant(x), 4)
        assert [variable.shape.as_list() for variable in tf.trainable_variables()] == [
            [3, 3, 3, 4], [4]]
        return outputs
    result = run_graph(build, fill=True)
    larger = np.pad(x.repeat(2, axis=1).repeat(2, axis=2), [(0, 0), (1, 1), (1, 1), (0, 0)])
    patches = np.lib.stride_tricks.sliding_window_view(larger, (3, 3), axis=(1, 2))
    expected = np.einsum("nijcyx,yxco->nijo", patches, filled("conv2d/kernel", [3, 3, 3, 4]))
    np.testing.assert_allclose(result, expected + filled("conv2d/bias", [4]), atol=1e-4)


@pytest.mark.parametrize("layer, scope", [
    (lambda x: pix2pix.batchnorm(x, pix2pix.normalize_images), "batch_normalization"),
    (pix2pix.instancenorm, "instance_normalization")])
def test_norms_of_each_image_by_itself(layer, scope):
    x = draw(13, 3, 5, 7, 4) * np.array([1, 2, 3])[:, None, None, None].astype(np.float32)
    result = run_graph(lambda: layer(tf.constant(x)), fill=True)
    gamma, beta = (filled(f"{scope}/{part}", [4]) for part in ("gamma", "beta"))
    mean, deviation = (f(x, axis=(1, 2), keepdims=True) for f in (np.mean, np.var))
    np.testing.assert_allclose(result, (x - mean) / np.sqrt(deviation + 1e-5) * gamma + beta,
                               atol=1e-4)
    alone = run_graph(lambda: layer(tf.constant(x[1:2])), fill=True)
    np.testing.assert_allclose(result[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("padding, size", [("SAME", 4), ("SAME", 3), ("VALID", 4)])
@pytest.mark.parametrize("is_known", [True, False])
def test_bfloat16_is_right_where_one_column_is_left(padding, size, is_known):
    """With AMX a plain convolution of oneDNN is not, and its gradients neither."""
    kernel = draw(23, size, size, 256, 256) / 50
    for height, width in ((4, 2), (6, 1), (6, 5), (16, 4), (34, 2), (8, 6)):
        x = draw(24, 1, height, width, 256)
        if padding == "VALID" and min(height, width) < size:
            continue

        def build(x=x):
            results = []
            for dtype in ("bfloat16", "float32"):
                inputs = tf.constant(x, dtype)
                seen = inputs if is_known else tf.placeholder_with_default(
                    inputs, [None, None, None, 256])
                weights = tf.constant(kernel)
                outputs = fast_conv.plain_conv2d(seen, tf.cast(weights, dtype), 2, padding)
                assert outputs.dtype == dtype
                results.append([tf.cast(each, tf.float32) for each in (
                    outputs, *tf.gradients(tf.square(outputs), [inputs, weights]))])
            return results
        for got, expected in zip(*run_graph(build), strict=True):
            np.testing.assert_allclose(got, expected, atol=0.1 * expected.std())


@pytest.mark.parametrize("width, purpose, types, has_branches", [
    (2, "training", {"float32"}, False), (6, "training", {"bfloat16"}, False),
    (None, "foreign", {"float32"}, False), (None, "inference", {"float32", "bfloat16"}, True)])
def test_one_column_is_computed_in_float32(width, purpose, types, has_branches):
    """On any processor: an export may run on another."""
    with tf.Graph().as_default() as graph, fast_conv.layers_for(purpose):
        outputs = fast_conv.plain_conv2d(tf.placeholder(tf.bfloat16, [1, 8, width, 3]),
                                         tf.zeros([4, 4, 3, 5], tf.bfloat16), 2, "SAME")
        operations = {inner for operation in graph.get_operations()
                      for inner in (operation, *benchmark.inner_operations(operation))}
    assert outputs.dtype == tf.bfloat16
    assert {operation.outputs[0].dtype.name for operation in operations
            if operation.type == "Conv2D"} == types
    assert any(operation.type.endswith("If") for operation in operations) == has_branches


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_norm_of_one_image_is_that_of_its_batch(dtype):
    """By the fused operation, whether a batch is known to have one image or turns out to."""
    images = draw(14, 3, 6, 5, 4) * 3

    def build():
        results = []
        for batch in (1, 3):
            x = tf.constant(images[:batch], dtype)
            unknown = tf.placeholder_with_default(x, [None, 6, 5, 4])
            results += [pix2pix.batchnorm(x), pix2pix.batchnorm(x, pix2pix.normalize_images),
                        pix2pix.batchnorm(unknown, pix2pix.normalize_images)]
        return [tf.cast(result, tf.float32) for result in results]
    alone, known, unknown, together, each, any_batch = run_graph(
        lambda: in_one_scope(build), fill=True)
    np.testing.assert_array_equal(known, alone)
    np.testing.assert_array_equal(unknown, alone)
    np.testing.assert_array_equal(any_batch, each)
    np.testing.assert_allclose(each[:1], alone, atol=1e-5 if dtype == "float32" else 0.02)
    assert np.abs(together - each).max() > 0.1


def in_one_scope(build):
    """What a function builds, whose layers share variables."""
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        return build()
