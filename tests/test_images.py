"""Images and summaries: what a person looks at."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

import pix2pix
from tools.lib.cli import Options
from tools.lib.display import DisplayImages
from tools.lib.options import MODEL_OPTIONS
from tools.lib.tf1 import tf


def options_for(**changes):
    return Options(**{**MODEL_OPTIONS, "lab_colorization": False, "which_direction": "AtoB", "num_inputs": 1,
                      "aspect_ratio": 1.0, "crop_size": 256, **changes})


def run_images(examples, outputs, options):
    with tf.Graph().as_default(), tf.Session() as sess:
        examples = pix2pix.Examples(None, *map(tf.constant, examples))
        return sess.run(pix2pix.create_images(examples, tf.constant(outputs), options))


def test_range_becomes_0_to_255_and_saturates():
    values = np.array([-1, 0, 1, 1.5, -2, 0.2], np.float32).reshape(1, 2, 3, 1)
    got = run_images((values, values), values, options_for())
    np.testing.assert_array_equal(got.outputs.ravel(), [0, 127, 255, 255, 0, 153])


def test_aspect_ratio_widens_every_image():
    image = np.linspace(-1, 1, 256 * 256 * 3, dtype=np.float32).reshape(1, 256, 256, 3)
    got = run_images((image, image), image, options_for(aspect_ratio=1.5))
    assert [batch.shape for batch in got] == [(1, 256, 384, 3)] * 3
    np.testing.assert_allclose(got.outputs[0, 100].mean(), (image[0, 100].mean() + 1) * 127.5,
                               atol=1)


def test_lab_images_in_both_directions():
    red_l, red_ab = np.float32(53.24 / 50 - 1), np.float32([80.09 / 110, 67.20 / 110])
    lightness = np.full((1, 2, 3, 1), red_l, np.float32)
    colour = np.broadcast_to(red_ab, (1, 2, 3, 2)).astype(np.float32)
    to_b = run_images((lightness, colour), colour, options_for(lab_colorization=True))
    to_a = run_images((colour, lightness), lightness,
                        options_for(lab_colorization=True, which_direction="BtoA"))
    for coloured in (to_b.outputs, to_b.targets, to_a.inputs):
        np.testing.assert_allclose(coloured.astype(int), np.broadcast_to([255, 0, 0], (1, 2, 3, 3)),
                                   atol=1)
    for grey in (to_b.inputs, to_a.outputs, to_a.targets):
        assert grey.shape == (1, 2, 3, 1) and abs(int(grey[0, 0, 0, 0]) - 136) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_png_files_hold_the_pixels(channels):
    pixels = np.random.default_rng(8).integers(0, 256, (2, 7, 9, channels), np.uint8)
    with tf.Graph().as_default(), tf.Session() as sess:
        got = sess.run(pix2pix.encode_images(DisplayImages(pixels, pixels[::-1])))
    assert isinstance(got.targets, list) and not got.targets
    for index in (0, 1):
        for contents, expected in ((got.inputs[index], pixels[index]),
                                   (got.outputs[index], pixels[1 - index])):
            decoded = np.asarray(Image.open(io.BytesIO(contents)))
            np.testing.assert_array_equal(decoded.reshape(expected.shape), expected)
            lines = zlib.decompress(contents[contents.index(b"IDAT") + 4:-16])
            assert {*lines[::1 + 9 * channels]} == {4}  # of `encode_png`
