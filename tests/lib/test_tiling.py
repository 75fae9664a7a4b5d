"""tools/lib/tiling.py: layers in strips against the whole image at once."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import draw, draw_pairs, read_images, read_pixels, run, start_session, train_small
from PIL import Image

import pix2pix
from tools.lib import tiling
from tools.lib.cli import with_options
from tools.lib.tf1 import tf

FLAGS = {  # of a model -> height and width of an image
    "unet": ({"crop_size": 64}, (128, 192)),
    "unet of old models": ({"crop_size": 64, "bottleneck_norm": True}, (64, 128)),
    "no skips, no norm": ({"crop_size": 32, "generator": "encoder_decoder", "norm": "none"},
                          (96, 32)),
    "mirrored, resized": ({"crop_size": 32, "padding": "reflect", "upsample": "resize",
                           "norm": "instance"}, (96, 64)),
    "separable": ({"crop_size": 32, "separable_conv": True}, (96, 64)),
    "resnet": ({"generator": "resnet", "crop_size": 64}, (36, 44)),
    "mirrored resnet": ({"generator": "resnet", "crop_size": 64, "padding": "reflect",
                         "norm": "instance"}, (20, 44)),
    "resnet without norm": ({"generator": "resnet", "crop_size": 64, "norm": "none"}, (20, 12)),
    "dropout": ({"crop_size": 64, "test_dropout": True}, (128, 64)),
    "dropout in resnet": ({"generator": "resnet", "crop_size": 64, "test_dropout": True}, (28, 20)),
    "from Lab": ({"crop_size": 32, "lab_colorization": True}, (64, 32)),
}


def run_both(options, size, all_rows):
    """The outputs of the whole image and of strips of each of these heights."""
    channels = 1 if options.lab_colorization else 3
    image = draw(3, *size, channels)
    with tf.Graph().as_default() as graph:
        inputs, key = tf.constant(image[np.newaxis]), pix2pix.DrawKey(5, 6)
        outputs = pix2pix.create_outputs(inputs, options, key=key)
        generator = pix2pix.create_strips(inputs, options, key)
        with start_session(graph, fill=True) as sess:
            whole = sess.run(outputs)
            return whole, [tiling.run(sess, generator, generator.outputs, rows)
                           for rows in all_rows]


@pytest.mark.parametrize("name", FLAGS)
def test_strips_equal_the_whole_image(name, options):
    flags, size = FLAGS[name]
    whole, results = run_both(with_options(options, **flags), size, [1, 6, 50, 1000])
    assert np.abs(whole - np.roll(whole, 1, axis=1)).max() > 0.1
    for result in results:
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, whole, atol=5e-5)


def test_strips_in_bfloat16_are_as_near_as_its_rounding(options):
    options = with_options(options, crop_size=64, precision="bfloat16")
    whole, results = run_both(options, (128, 64), [2, 32, 1000])
    for result in results:
        assert np.abs(result - whole).mean() < 0.01 < whole.std() / 10


def test_the_strips_height_does_not_change_the_moments():
    """A mean of a million values that is far from 0 has few digits left in float32."""
    x = 100 + draw(4, 1, 700, 900, 2)
    with tf.Graph().as_default(), tf.Session() as sess:
        rows = tf.placeholder(tf.float32, [1, None, 900, 2])
        moments = tf.nn.moments(rows, axes=[2], keepdims=True)
        strips = [sess.run(moments, {rows: x[:, first:first + 300]}) for first in (0, 300, 600)]
    mean, variance = tiling.combine_moments(strips)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(1, 2), keepdims=True), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(axis=(1, 2), keepdims=True), rtol=1e-4)


def test_rows_of_a_map_are_read_across_strips_until_they_are_freed():
    x = draw(5, 1, 12, 3, 2)
    feature_map = tiling.FeatureMap([x[:, :5], x[:, 5:6], x[:, 6:]])
    for first, last in ((0, 12), (0, 5), (4, 7), (5, 6), (7, 12)):
        np.testing.assert_array_equal(feature_map.read(first, last), x[:, first:last])
    feature_map.free(5)
    assert (len(feature_map.strips), feature_map.height) == (2, 12)
    np.testing.assert_array_equal(feature_map.read(5, 8), x[:, 5:8])
    feature_map.free(11)
    assert len(feature_map.strips) == 1
    np.testing.assert_array_equal(feature_map.read(6, 12), x[:, 6:])


def test_results_are_freed_as_their_last_reader_passes(options):
    """A U-Net's skips but the first, which is not kept, are as large together as the first. That,
    some strips and the outputs are all that need be in memory."""
    options, image = with_options(options, crop_size=32, ngf=32), draw(6, 1, 512, 64, 3)
    with tf.Graph().as_default() as graph:
        generator = pix2pix.create_strips(tf.constant(image), options)
        with start_session(graph, fill=True) as sess:
            tracemalloc.start()
            tiling.generate(sess.run, generator.layers, image, 16)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    first_skip = 256 * 32 * 32 * 4  # bytes
    assert first_skip < peak < 1.5 * first_skip


# ---- test mode


def test_test_mode_writes_what_it_writes_of_whole_images(in_empty_folder):
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 2, "--norm", "batch", "--lr", 0.02) == 0
    Path("pairs").mkdir()
    for number, (height, width) in enumerate([(75, 124), (33, 64), (130, 40)]):
        pixels = np.random.default_rng(number).integers(0, 256, (height, 2 * width, 3), np.uint8)
        Image.fromarray(pixels).save(f"pairs/{number}.png")
    results, metrics = [], []
    for name, flags in (("whole", ["--native_size"]), ("strips", ["--tile", 16])):
        assert run("--mode", "test", "--checkpoint", "run", "--input_dir", "pairs", "--layout",
                   "pairs", "--output_dir", name, *flags) == 0
        results.append(read_images(name))
        rows = Path(name, "metrics.csv").read_text().splitlines()[1:]
        metrics.append([[float(value) for value in row.split(",")[1:]] for row in rows])
    whole, strips = results
    assert len(whole) == 9 and {*whole} == {*strips}
    for name, contents in whole.items():
        one, other = read_pixels(contents), read_pixels(strips[name])
        assert one.std() > 1 and np.abs(one - other).max() <= ("outputs" in name)
    np.testing.assert_allclose(*metrics, rtol=1e-3)
