"""Networks against NumPy forward passes; names and shapes of variables, which are a file format."""

import math

import numpy as np
import pytest
from conftest import ROOT, SHARED, draw, filled, run, smooth_pictures

import pix2pix
from pix2pix import tf

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
    for number, width in zip([8, 7, 6, 5, 4, 3, 2], [8, 8, 8, 8, 4, 2, 1]):
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


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("bottleneck_norm", [False, True])
def test_generator(separable, bottleneck_norm):
    x = smooth_pictures(1, 2) * 0.7 + draw(2, 2, 256, 256, 3) * 0.3
    result = run(lambda: pix2pix.create_generator(
        tf.constant(x), 2, 3, separable=separable,
        encoder=pix2pix.encoder_rows(bottleneck_norm)), fill=True)
    expected = generator(x.astype(np.float64), 2, 3, separable, bottleneck_norm)
    assert result.shape == (2, 256, 256, 2) and expected.std() > 0.1
    np.testing.assert_allclose(result, expected, atol=1e-3)
    other = generator(x.astype(np.float64), 2, 3, separable, not bottleneck_norm)
    assert np.abs(result - other).max() > 0.02
    # statistics of the batch: a picture by itself comes out otherwise
    alone = generator(x[:1].astype(np.float64), 2, 3, separable, bottleneck_norm)
    assert np.abs(result[:1] - alone).max() > 0.02


def test_generator_takes_multiples_of_256():
    x = smooth_pictures(3, 1, size=512)[:, :256]
    result = run(lambda: pix2pix.create_generator(tf.constant(x), 1, 2), fill=True)
    assert result.shape == (1, 256, 512, 1)
    np.testing.assert_allclose(result, generator(x, 1, 2), atol=1e-3)


def test_dropout_draws_by_seed_and_step_and_layer():
    x = smooth_pictures(4, 1)

    def build():
        def outputs(dropout_seed):
            with tf.variable_scope("", reuse=tf.AUTO_REUSE):
                return pix2pix.create_generator(tf.constant(x), 3, 2, dropout_seed=dropout_seed)
        first = outputs((2**31 - 1, tf.constant(6, tf.int64)))
        layers = [tensor for operation in tf.get_default_graph().get_operations()
                  if operation.type.startswith("Select") for tensor in operation.outputs]
        return (first, outputs((2**31 - 1, 6)), outputs((2**31 - 1, 7)), outputs((2**31 - 2, 6)),
                outputs(None)), layers
    (first, again, later, other, without), layers = run(build, fill=True)
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
    inputs, targets = smooth_pictures(5, 2), draw(6, 2, 256, 256, 2)
    result = run(lambda: pix2pix.create_discriminator(
        tf.constant(inputs), tf.constant(targets), 3), fill=True)
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
        logits = pix2pix.create_discriminator(*pair, 2, rows=rows)
        return tf.gradients(logits[0, row, column, 0], pair)
    for slopes in run(build, fill=True):
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
        pictures = tf.zeros([1, 256, 256, 3])
        examples = pix2pix.Examples(tf.zeros([1], tf.int64), pictures, pictures)
        pix2pix.create_model(examples, pix2pix.with_options(options, ngf=4, ndf=4, **changes))
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
    picture = (1, 256, 256, 3)
    encoder = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    decoder = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128),
               (256, 64), (128, 3)]
    pairs = [*zip(encoder, encoder[1:]), *decoder]
    norms = sum(encoder[2:8]) + sum(out for _, out in decoder[:-1])
    expected = sum(16 * size * out + out for size, out in pairs) + 2 * norms
    generator_count = count(lambda: pix2pix.create_generator(tf.zeros(picture), 3, 64))
    assert generator_count == expected and 54.41e6 < expected < 54.42e6
    discriminator_count = count(
        lambda: pix2pix.create_discriminator(tf.zeros(picture), tf.zeros(picture), 64))
    pairs = [(6, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    expected = sum(16 * size * out + out for size, out in pairs) + 2 * (128 + 256 + 512)
    assert discriminator_count == expected and round(expected / 1e6, 2) == 2.77
    # affinelayer's first script printed 57183616: a norm more, and no biases
    biases = sum(encoder[1:]) + sum(out for _, out in decoder) + sum(out for _, out in pairs)
    assert generator_count + discriminator_count + 2 * 512 - biases == 57183616
