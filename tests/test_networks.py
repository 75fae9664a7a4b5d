"""Networks against NumPy forward passes; names and shapes of variables, which are a file format."""

import itertools
import math

import numpy as np
import pytest
from helpers import ROOT, SHARED, draw, filled, run_graph, smooth_images

import pix2pix
from tools.lib.cli import with_options
from tools.lib.options import usual_depth
from tools.lib.tf1 import tf

MANIFEST = ROOT / "tests" / "golden" / "variables.txt"


def conv(x, kernel, stride, before, after):
    """4x4 convolution with zeros around: patches as a matrix, times the kernel."""
    x = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])
    patches = np.lib.stride_tricks.sliding_window_view(x, (4, 4), axis=(1, 2))
    return np.einsum("nijcyx,yxco->nijo", patches[:, ::stride, ::stride], kernel, optimize=True)


def down(x, name, width, separable):
    """A layer that halves height and width."""
    if separable:
        depthwise = filled(f"{name}/separable_conv2d/depthwise_kernel", [4, 4, x.shape[3], 1])
        pointwise = filled(f"{name}/separable_conv2d/pointwise_kernel", [1, 1, x.shape[3], width])
        return conv(x, depthwise * pointwise, 2, 1, 1) + filled(
            f"{name}/separable_conv2d/bias", [width])
    return conv(x, filled(f"{name}/conv2d/kernel", [4, 4, x.shape[3], width]), 2, 1, 1) + filled(
        f"{name}/conv2d/bias", [width])


def up(x, name, width, separable):
    """A layer that doubles height and width."""
    batch, height, size, channels = x.shape
    if separable:
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        depthwise = filled(f"{name}/separable_conv2d/depthwise_kernel", [4, 4, channels, 1])
        pointwise = filled(f"{name}/separable_conv2d/pointwise_kernel", [1, 1, channels, width])
        return conv(x, depthwise * pointwise, 1, 1, 2) + filled(
            f"{name}/separable_conv2d/bias", [width])
    # zeros between the pixels, then the mirrored kernel
    spread = np.zeros([batch, 2 * height - 1, 2 * size - 1, channels])
    spread[:, ::2, ::2] = x
    kernel = filled(f"{name}/conv2d_transpose/kernel", [4, 4, width, channels])
    return conv(spread, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1, 2, 2) + filled(
        f"{name}/conv2d_transpose/bias", [width])


def norm(x, name):
    """Zero mean, unit variance per channel over the batch, scale and shift."""
    gamma, beta = (filled(f"{name}/batch_normalization/{part}", [x.shape[3]])
                   for part in ("gamma", "beta"))
    x = x - x.mean(axis=(0, 1, 2))
    return x / np.sqrt((x**2).mean(axis=(0, 1, 2)) + 1e-5) * gamma + beta


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x)


def generator(x, out_channels, ngf, separable=False, bottleneck_norm=False):
    """The paper's U-Net, written out: C64-C128-...; CD512-..., skips from the mirrored layer."""
    skips = {}
    for number, width in enumerate([1, 2, 4, 8, 8, 8, 8, 8], 1):
        x = down(x if number == 1 else lrelu(x), f"encoder_{number}", ngf * width, separable)
        if 1 < number < 8 or number == 8 and bottleneck_norm:
            x = norm(x, f"encoder_{number}")
        skips[number] = x
    for number, width in zip([8, 7, 6, 5, 4, 3, 2], [8, 8, 8, 8, 4, 2, 1], strict=True):
        x = np.maximum(x, 0)
        x = norm(up(x, f"decoder_{number}", ngf * width, separable), f"decoder_{number}")
        x = np.concatenate([x, skips[number - 1]], axis=3)
    return np.tanh(up(np.maximum(x, 0), "decoder_1", out_channels, separable))


def discriminator(inputs, targets, ndf):
    """The paper's 70x70 PatchGAN, written out."""
    x = np.concatenate([inputs, targets], axis=3)
    for number, (width, stride) in enumerate([(1, 2), (2, 2), (4, 2), (8, 1), (0, 1)], 1):
        name, width = f"layer_{number}", ndf * width or 1
        kernel = filled(f"{name}/conv2d/kernel", [4, 4, x.shape[3], width])
        x = conv(x, kernel, stride, 1, 1) + filled(f"{name}/conv2d/bias", [width])
        x = norm(x, name) if 1 < number < 5 else x
        x = lrelu(x) if number < 5 else x
    return x


PLAIN = pix2pix.Layers(pix2pix.conv, pix2pix.deconv, pix2pix.batchnorm, pix2pix.lrelu)
SEPARABLE = PLAIN._replace(conv=pix2pix.separable_conv, deconv=pix2pix.separable_deconv)


def create_unet(x, out_channels, ngf, separable=False, bottleneck_norm=False, dropout_key=None):
    """The generator of affinelayer's script."""
    rows = pix2pix.choose_generator("unet", 8, bottleneck_norm)
    return pix2pix.create_generator(tf.constant(x), out_channels, ngf, rows,
                                    SEPARABLE if separable else PLAIN, dropout_key)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("bottleneck_norm", [False, True])
def test_generator(separable, bottleneck_norm):
    x = smooth_images(1, 2) * 0.7 + draw(2, 2, 256, 256, 3) * 0.3
    result = run_graph(lambda: create_unet(x, 2, 3, separable, bottleneck_norm), fill=True)
    expected = generator(x.astype(np.float64), 2, 3, separable, bottleneck_norm)
    assert result.shape == (2, 256, 256, 2) and expected.std() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-3)
    other = generator(x.astype(np.float64), 2, 3, separable, not bottleneck_norm)
    assert np.abs(result - other).max() > 0.02
    # statistics of the batch: an image by itself comes out otherwise
    alone = generator(x[:1].astype(np.float64), 2, 3, separable, bottleneck_norm)
    assert np.abs(result[:1] - alone).max() > 0.02


def test_generator_takes_multiples_of_256():
    x = smooth_images(3, 1, size=512)[:, :256]
    result = run_graph(lambda: create_unet(x, 1, 2), fill=True)
    assert result.shape == (1, 256, 512, 1)
    np.testing.assert_allclose(result, generator(x, 1, 2), atol=1e-3)


def test_dropout_draws_by_seed_and_step_and_layer():
    x = smooth_images(4, 1)

    def build():
        def outputs(*key):
            with tf.variable_scope("", reuse=tf.AUTO_REUSE):
                return create_unet(x, 3, 2, dropout_key=pix2pix.DrawKey(*key) if key else None)
        first = outputs(2**31 - 1, tf.constant(6, tf.int64))
        layers = [tensor for operation in tf.get_default_graph().get_operations()
                  if operation.type.startswith("Select") for tensor in operation.outputs]
        return (first, outputs(2**31 - 1, 6), outputs(2**31 - 1, 7), outputs(2**31 - 2, 6),
                outputs()), layers
    (first, again, later, other, without), layers = run_graph(build, fill=True)
    np.testing.assert_array_equal(first, again)
    for result in (later, other, without):
        assert np.abs(first - result).mean() > 1e-3
    np.testing.assert_allclose(without, generator(x, 3, 2), atol=1e-3)
    assert [layer.shape for layer in layers] == [(1, size, size, 16) for size in (2, 4, 8)]
    dropped = [layer == 0 for layer in layers]
    assert dropped[2].mean() == pytest.approx(0.5, abs=0.08)  # 1024 draws: 5 deviations
    for one, two in ((0, 1), (1, 2)):  # no layer's draws begin as another's
        count = dropped[one].size
        assert (dropped[one].ravel() != dropped[two].ravel()[:count]).any()


def test_discriminator():
    inputs, targets = smooth_images(5, 2), draw(6, 2, 256, 256, 2)
    result = run_graph(lambda: pix2pix.create_discriminator(
        tf.concat([inputs, targets], axis=3), 3).logits, fill=True)
    expected = discriminator(inputs.astype(np.float64), targets, 3)
    assert result.shape == (2, 30, 30, 1) and expected.std() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-3)
    assert np.abs(result - expected[::-1]).max() > 0.1
    assert np.abs(result - expected.transpose(0, 2, 1, 3)).max() > 0.1


@pytest.mark.parametrize("row, column", [(3, 26), (15, 14)])
def test_receptive_field_of_a_logit_is_70x70(row, column):
    # without norms, whose statistics see everything
    rows = [row._replace(norm=False) for row in pix2pix.DISCRIMINATOR]

    def build():
        pair = [tf.constant(draw(seed, 1, 256, 256, 3)) for seed in (7, 8)]
        logits = pix2pix.create_discriminator(tf.concat(pair, axis=3), 2, rows).logits
        return tf.gradients(logits[0, row, column, 0], pair)
    for slopes in run_graph(build, fill=True):
        seen_rows = np.flatnonzero(slopes[0].any(axis=(1, 2)))
        seen_columns = np.flatnonzero(slopes[0].any(axis=(0, 2)))
        # 8 pixels between logits; the padding of five layers lies 1 + 2 + 4 + 8 + 8 = 23 outside
        for seen, place in ((seen_rows, row), (seen_columns, column)):
            first = 8 * place - 23
            assert list(seen) == list(range(max(first, 0), min(first + 70, 256)))
    assert len(seen_rows) == 70 or row == 3


def shapes(build):
    """Name -> shape of the variables that a builder makes."""
    with tf.Graph().as_default():
        build()
        return {variable.op.name: tuple(variable.shape.as_list())
                for variable in tf.global_variables()}


def model_shapes(options, **changes):
    def build():
        images = tf.zeros([1, 256, 256, 3])
        examples = pix2pix.Examples(tf.zeros([1], tf.int64), images, images)
        pix2pix.create_model(examples, with_options(options, ngf=4, ndf=4, **changes))
    return shapes(build)


def manifest_lines(variables):
    return [f"{name} {'x'.join(map(str, shape)) or 'scalar'}"
            for name, shape in sorted(variables.items())]


@pytest.mark.parametrize("kind", ["plain", "separable"])
def test_variables_are_those_of_the_manifest(kind, options):
    sections = dict(section.split("]\n") for section in MANIFEST.read_text().split("[")[1:])
    assert list(sections) == ["plain", "separable"]
    variables = model_shapes(options, separable_conv=kind == "separable")
    assert manifest_lines(variables) == sections[kind].split("\n")[:-1]


@pytest.mark.parametrize("kind", ["plain", "separable"])
def test_variables_are_those_of_an_affinelayer_checkpoint(kind, options):
    path = SHARED / "compat" / kind / "checkpoint"
    if not path.exists():
        pytest.skip(f"no {path}")
    reader = tf.train.load_checkpoint(str(path))
    theirs = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    ours = model_shapes(options, separable_conv=kind == "separable", bottleneck_norm=True)
    assert {name: theirs.get(name) for name in ours} == ours
    extras = {name.rsplit("/", 1)[1] for name in theirs.keys() - ours.keys()}
    assert extras == {"moving_mean", "moving_variance"}


def test_number_of_weights_at_full_width():
    def count(build):
        return sum(math.prod(shape) for shape in shapes(build).values())
    image = (1, 256, 256, 3)
    encoder = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    decoder = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128),
               (256, 64), (128, 3)]
    pairs = [*itertools.pairwise(encoder), *decoder]
    norms = sum(encoder[2:8]) + sum(out for _, out in decoder[:-1])
    expected = sum(16 * size * out + out for size, out in pairs) + 2 * norms
    generator_count = count(lambda: create_unet(np.zeros(image, np.float32), 3, 64))
    assert generator_count == expected and 54.41e6 < expected < 54.42e6
    discriminator_count = count(
        lambda: pix2pix.create_discriminator(tf.zeros([1, 256, 256, 6]), 64))
    pairs = [(6, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    expected = sum(16 * size * out + out for size, out in pairs) + 2 * (128 + 256 + 512)
    assert discriminator_count == expected and round(expected / 1e6, 2) == 2.77
    # affinelayer's first script printed 57183616: a norm more, and no biases
    biases = sum(encoder[1:]) + sum(out for _, out in decoder) + sum(out for _, out in pairs)
    assert generator_count + discriminator_count + 2 * 512 - biases == 57183616


# The family


def discriminator_widths(patch_size):
    """The paper's C64-C128-... (appendix 6.1.2), in ndf, and the size of kernels."""
    return {1: ((1, 2), 1), 16: ((1, 2), 4), 34: ((1, 2, 4), 4), 70: ((1, 2, 4, 8), 4),
            142: ((1, 2, 4, 8, 8), 4), 286: ((1, 2, 4, 8, 8, 8), 4)}[patch_size]


@pytest.mark.parametrize("patch_size", [1, 16, 34, 70, 142, 286])
def test_receptive_field_and_weights_of_every_patch_size(patch_size):
    rows = pix2pix.choose_discriminator(patch_size)
    bare = [row._replace(norm=False) for row in rows]  # a norm's statistics see everything
    size, places = 320, {}

    def build():
        pairs = tf.constant(draw(7, 1, size, size, 2))
        logits = pix2pix.create_discriminator(pairs, 1, bare).logits
        places["rows"] = logits.shape.as_list()[1]
        middle = places["rows"] // 2
        return tf.gradients(logits[0, middle, middle, 0], pairs)[0]
    slope, = run_graph(build, fill=True)
    for axes in ((1, 2), (0, 2)):
        seen = np.flatnonzero(slope.any(axis=axes))
        assert list(seen) == list(range(seen[0], seen[0] + patch_size))  # whole, inside
    assert places["rows"] == pix2pix.map_size(size, rows)

    ndf, (widths, kernel) = 64, discriminator_widths(patch_size)
    channels = [6, *(ndf * width for width in widths), 1]
    expected = sum(kernel**2 * one * other + other for one, other in itertools.pairwise(channels))
    expected += 2 * sum(channels[2:-1])  # norms
    count = sum(math.prod(shape) for shape in shapes(
        lambda: pix2pix.create_discriminator(tf.zeros([1, 256, 256, 6]), ndf, rows)).values())
    assert count == expected
    assert {1: 9153, 70: 2769601}.get(patch_size, count) == count


@pytest.mark.parametrize("size, patch_size", [(32, 16), (96, 34), (64, 142), (96, 286), (64, 286)])
def test_map_size_is_that_of_the_logits_or_below_1(size, patch_size):
    rows = pix2pix.choose_discriminator(patch_size)
    with tf.Graph().as_default():
        pairs = tf.zeros([1, size, size, 6])
        if pix2pix.map_size(size, rows) < 1:
            with pytest.raises(ValueError):
                pix2pix.create_discriminator(pairs, 2, rows)
        else:
            logits = pix2pix.create_discriminator(pairs, 2, rows).logits
            assert logits.shape.as_list()[1] == pix2pix.map_size(size, rows)
    assert (size, patch_size) != (64, 286) or pix2pix.map_size(size, rows) < 1


def test_unconditional_does_not_see_the_input(options):
    def build(unconditional):
        changed = with_options(options, unconditional=unconditional, crop_size=64)
        pair = pix2pix.Examples(None, *(tf.constant(draw(seed, 1, 64, 64, 3)) for seed in (1, 2)))
        with tf.variable_scope(str(unconditional)):
            logits = pix2pix.discriminate(pair, pair.targets, changed, None).logits
        return tf.gradients(logits, [pair.inputs, pair.targets])

    def both():
        alone, paired = build(True), build(False)
        assert alone[0] is None
        return alone[1], paired
    target_slope, paired = run_graph(both, fill=True)
    assert target_slope.any() and paired[0].any() and paired[1].any()


@pytest.mark.parametrize("crop_size, depth", [
    (32, 5), (64, 6), (96, 5), (128, 7), (256, 8), (384, 7), (512, 9), ("256x384", 7),
    ("32x2048", 5)])
def test_a_unets_depth_follows_the_size(crop_size, depth):
    assert usual_depth("unet", crop_size) == depth
    rows = pix2pix.choose_generator("unet", depth)
    assert len(rows.encoder) == len(rows.decoder) == depth
    widths = [1, 2, 4] + [8] * (depth - 3)
    assert [row.width for row in rows.encoder] == widths
    # each decoder row has the width of the encoder row that it meets, the last the image's
    assert [row.width for row in rows.decoder] == [*widths[-2::-1], None]
    # the authors' unet_128 has two layers with dropout, unet_256 three: size 16 and up has none
    assert sum(row.dropout > 0 for row in rows.decoder) == depth - 5
    assert [row.norm for row in rows.encoder] == [False] + [True] * (depth - 2) + [False]
    assert [row.norm for row in rows.decoder] == [True] * (depth - 1) + [False]


def test_an_encoder_decoder_is_a_unet_without_its_skips():
    def skipless(x, depth=5):
        """The same network, written out for 32x32."""
        for number, width in enumerate([1, 2, 4, 8, 8], 1):
            x = down(x if number == 1 else lrelu(x), f"encoder_{number}", 2 * width, False)
            x = norm(x, f"encoder_{number}") if 1 < number < depth else x
        for number, width in zip([5, 4, 3, 2], [8, 4, 2, 1], strict=True):
            x = norm(up(np.maximum(x, 0), f"decoder_{number}", 2 * width, False),
                     f"decoder_{number}")
        return np.tanh(up(np.maximum(x, 0), "decoder_1", 3, False))
    x = draw(4, 2, 32, 32, 3)
    result = run_graph(lambda: pix2pix.create_generator(
        tf.constant(x), 3, 2, pix2pix.choose_generator("encoder_decoder", 5), PLAIN), fill=True)
    expected = skipless(x.astype(np.float64))
    # five doublings: decoder widths 8, 4, 2, 1 of the 32x32 table
    np.testing.assert_allclose(result, expected, atol=1e-3)
    assert expected.std() > 0.1


def same_conv(x, name, width, kernel_size, stride, mode):
    """Convolution with a border of zeros or mirrored, as TensorFlow's SAME places it."""
    around = kernel_size - stride
    sides = around // 2, around - around // 2
    x = np.pad(x, [(0, 0), sides, sides, (0, 0)], mode=mode)
    kernel = filled(f"{name}/conv2d/kernel", [kernel_size, kernel_size, x.shape[3], width])
    patches = np.lib.stride_tricks.sliding_window_view(x, (kernel_size,) * 2, axis=(1, 2))
    return np.einsum("nijcyx,yxco->nijo", patches[:, ::stride, ::stride], kernel,
                     optimize=True) + filled(f"{name}/conv2d/bias", [width])


def up3(x, name, width):
    """3x3 transposed convolution: zeros between the pixels and after, then the mirrored kernel."""
    batch, height, size, channels = x.shape
    spread = np.zeros([batch, 2 * height + 2, 2 * size + 2, channels])
    spread[:, 2:2 * height + 2:2, 2:2 * size + 2:2] = x
    kernel = filled(f"{name}/conv2d_transpose/kernel", [3, 3, width, channels])
    patches = np.lib.stride_tricks.sliding_window_view(spread, (3, 3), axis=(1, 2))
    return np.einsum("nijcyx,yxoc->nijo", patches, kernel[::-1, ::-1], optimize=True) + filled(
        f"{name}/conv2d_transpose/bias", [width])


def resnet(x, ngf, blocks, mode):
    """c7s1-64, d128, d256, R256, ..., u128, u64, c7s1-3 (CycleGAN, appendix 7.2)."""
    for number, (width, kernel_size, stride) in enumerate([(1, 7, 1), (2, 3, 2), (4, 3, 2)], 1):
        x = same_conv(x, f"encoder_{number}", ngf * width, kernel_size, stride, mode)
        x = np.maximum(norm(x, f"encoder_{number}"), 0)
    for number in range(1, blocks + 1):
        part = x
        for layer in (1, 2):
            name = f"block_{number}/layer_{layer}"
            part = norm(same_conv(part, name, 4 * ngf, 3, 1, mode), name)
            part = np.maximum(part, 0) if layer == 1 else part
        x = x + part
    for number, width in ((3, 2), (2, 1)):
        x = np.maximum(norm(up3(x, f"decoder_{number}", ngf * width), f"decoder_{number}"), 0)
    return np.tanh(same_conv(x, "decoder_1", 3, 7, 1, mode))


@pytest.mark.parametrize("padding, mode", [("zero", "constant"), ("reflect", "reflect")])
def test_resnet(options, padding, mode):
    x = draw(5, 2, 32, 32, 3)
    rows = pix2pix.choose_generator("resnet", 6)
    layers = pix2pix.choose_layers(with_options(options, padding=padding))
    result = run_graph(lambda: pix2pix.create_generator(tf.constant(x), 3, 2, rows, layers),
                       fill=True)
    expected = resnet(x.astype(np.float64), 2, 6, mode)
    np.testing.assert_allclose(result, expected, atol=2e-3)
    other = resnet(x.astype(np.float64), 2, 6, "edge")
    assert np.abs(result - other).max() > 0.05


def test_resnets_blocks_and_weights():
    assert [usual_depth("resnet", size) for size in (64, 128, 160, 256, "128x512", "160x288")] == [
        6, 6, 9, 9, 6, 9]
    assert pix2pix.choose_generator("resnet", 6).num_blocks == 6
    with_norms = shapes(lambda: pix2pix.create_generator(
        tf.zeros([1, 256, 256, 3]), 3, 64, pix2pix.choose_generator("resnet", 9), PLAIN))
    count = sum(math.prod(shape) for name, shape in with_norms.items()
                if name.endswith(("kernel", "bias")))
    assert count == 11_378_179  # CycleGAN's code prints 11.378 M: its norms have no weights


def test_resnets_dropout_lies_inside_the_blocks():
    rows = pix2pix.choose_generator("resnet", 6)

    def build():
        outputs = pix2pix.create_generator(tf.constant(draw(6, 1, 32, 32, 3)), 3, 2, rows, PLAIN,
                                           pix2pix.DrawKey(1, 2))
        return outputs, [operation.name for operation in tf.get_default_graph().get_operations()
                         if operation.type.startswith("Select")]
    with tf.Graph().as_default():
        _, names = build()
    assert [name.rsplit("/", 1)[0] for name in names] == [
        f"block_{number}/layer_1" for number in range(1, 7)]


@pytest.mark.parametrize("norm, kind", [("batch", "batch_normalization"), ("none", None),
                                        ("instance", "instance_normalization")])
def test_norms_of_both_networks(options, norm, kind):
    def build():
        image, changed = tf.zeros([1, 256, 256, 3]), with_options(options, norm=norm)
        pix2pix.create_outputs(image, changed)
        pix2pix.discriminate(pix2pix.Examples([0], image, image), image, changed, None)
    names = shapes(build)
    kinds = {name.split("/")[-2] for name in names if name.endswith("gamma")}
    assert kinds == ({kind} if kind else set())
    for network, count in (("generator", 13), ("discriminator", 3)):
        gammas = [name for name in names if name.startswith(f"{network}/")
                  and name.endswith("gamma")]
        assert len(gammas) == (count if kind else 0)
