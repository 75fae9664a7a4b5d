"""Where images lie in the network."""

import numpy as np
import pytest
from helpers import draw, run_graph

from tools.lib.cli import Options, Size
from tools.lib.geometry import (Sizing, Window, choose_window, frame_of, mirror_pad, network_shape,
                                refuse_crop, scale_shape, squeeze_of, take_frame, take_window,
                                usual_scale)
from tools.lib.tf1 import tf

SHAPES = [(375, 1242), (100, 100), (33, 640), (640, 33), (1, 1), (4000, 3000), (9, 300)]


@pytest.mark.parametrize("resize, shape, expected", [
    ("stretch", (375, 1242), (64, 96)), ("none", (375, 1242), (375, 1242)),
    ("crop", (375, 1242), (64, 212)), ("crop", (200, 100), (192, 96)), ("crop", (64, 96), (64, 96)),
    ("pad", (375, 1242), (29, 96)), ("pad", (200, 100), (64, 32)), ("pad", (1, 5000), (1, 96))])
def test_a_shape_is_stretched_covers_or_fits(resize, shape, expected):
    got = run_graph(lambda: scale_shape(tf.constant(shape), Size(64, 96), resize))
    assert tuple(got) == expected


def test_a_line_of_millions_of_pixels_needs_no_more_memory_than_others():
    got = run_graph(lambda: scale_shape(tf.constant([1, 80_000_000]), Size(64, 96), "crop"))
    assert tuple(got) == (64, 64 * 96)


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_the_shape_is_kept_to_half_a_pixel(resize):
    def scaled():
        return [scale_shape(tf.constant(shape), Size(96, 64), resize) for shape in SHAPES]
    for (height, width), (high, wide) in zip(SHAPES, run_graph(scaled), strict=True):
        inside = high <= 96 and wide <= 64
        covers = high >= 96 and wide >= 64
        assert (covers if resize == "crop" else inside) and (high == 96 or wide == 64)
        exact = (96, 96 * width / height) if high == 96 else (64 * height / width, 64)
        other = np.maximum(exact, 1) if resize == "pad" else exact
        assert np.abs(np.subtract((high, wide), other)).max() <= 0.5


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad", "none"])
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_a_window_lies_in_the_image_or_its_border_wherever_it_is_drawn(resize, shape):
    """In training. Where it reaches over an edge the whole side of the image is in it."""
    sizing = Sizing(resize, None if resize == "none" else Size(72, 110), Size(64, 96), 32)

    def windows():
        return [choose_window(tf.constant(shape), sizing, tf.constant(place, tf.float32))
                for place in ([0.0, 0.0], [0.999999, 0.999999], [0.5, 0.2])]
    for window in run_graph(windows):
        assert tuple(window.size) == (64, 96)
        for corner, scaled, size, scale in zip(window.corner, window.scaled, window.size,
                                               sizing.scale or window.scaled, strict=True):
            border = max(max(scale, size) - scaled, 0)  # of both ends
            assert -(border // 2) <= corner <= scaled - size + border - border // 2
            assert corner >= 0 or resize in ("pad", "none")


@pytest.mark.parametrize("shape, frame, size", [
    ((375, 1242), (4, 19, 375, 1242), (384, 1280)), ((1, 1), (31, 31, 1, 1), (64, 64)),
    ((64, 128), (0, 0, 64, 128), (64, 128)), ((65, 64), (31, 0, 65, 64), (128, 64))])
def test_an_image_at_its_own_size_lies_in_the_middle_of_the_next_multiple(shape, frame, size):
    def build():
        window = choose_window(tf.constant(shape), Sizing("none", None, None, 64))
        return window.size, frame_of(window)
    got = run_graph(build)
    assert tuple(got[0]) == size and tuple(got[1]) == frame


@pytest.mark.parametrize("resize", ["pad", "none"])
@pytest.mark.parametrize("shape", [(5, 7), (40, 3), (2, 90), (64, 96)])
def test_a_window_over_the_edge_is_numpys_symmetric_padding(resize, shape):
    image = draw(7, *shape, 2)

    def build():
        crop = Size(64, 96) if resize == "pad" else None
        window = choose_window(tf.shape(image)[:2], Sizing(resize, crop, crop, 64))
        return window, take_window(tf.constant(image), window, resize), frame_of(window)
    window, got, frame = run_graph(build)
    scaled = image if resize == "none" else run_graph(
        lambda: tf.image.resize(tf.constant(image), window.scaled, method="area"))
    top, left, height, width = frame
    high, wide = got.shape[:2]
    expected = np.pad(scaled, [(top, high - top - height), (left, wide - left - width), (0, 0)],
                      mode="symmetric")
    np.testing.assert_array_equal(got, expected)
    inside = run_graph(lambda: take_frame(tf.constant(got[np.newaxis]), tf.constant(frame)))
    np.testing.assert_array_equal(inside[0], scaled)


def test_a_window_inside_is_a_slice():
    image = draw(7, 20, 30, 2)
    window = Window([20, 30], [3, 4], [8, 9])
    for resize in ("crop", "pad", "none"):
        got = run_graph(lambda: take_window(tf.constant(image), window, resize))
        np.testing.assert_array_equal(got, image[3:11, 4:13])


def test_mirror_pad_reaches_any_multiple():
    image = draw(7, 1, 3, 5, 2)
    padded, top, left = run_graph(lambda: mirror_pad(tf.constant(image), tf.constant([16, 16])))
    assert (padded.shape, top, left) == ((1, 16, 16, 2), 6, 5)
    expected = np.pad(image, [(0, 0), (6, 7), (5, 6), (0, 0)], mode="symmetric")
    np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize("resize, crop, shape, squeeze, expected", [
    ("stretch", (256, 256), (600, 900), 1.0, (256, 384)),  # the shorter side as in training
    ("stretch", (256, 256), (600, 900), 1.5, (256, 256)),  # training squeezed such images
    ("stretch", (256, 256), (256, 257), 1.0, (256, 256)),  # less than a pixel off
    ("stretch", (256, 512), (600, 900), 1.0, (341, 512)), ("crop", (256, 256), (900, 600), 1.0,
                                                          (384, 256)),
    ("pad", (256, 256), (600, 900), 1.0, (171, 256)), ("stretch", (64, 64), (10, 1000), 1.0,
                                                      (10, 1024))])
def test_the_network_sees_a_whole_image_as_large_as_in_training(resize, crop, shape, squeeze,
                                                                expected):
    sizing = Sizing(resize, Size(*crop), Size(*crop), 1)
    got = run_graph(lambda: network_shape(tf.constant(shape), sizing, squeeze))
    assert tuple(got) == expected
    own = Sizing("none", None, None, 32)
    assert tuple(run_graph(lambda: network_shape(tf.constant(shape), own, squeeze))) == shape


@pytest.mark.parametrize("changes, expected", [
    (dict(aspect_ratio=1.5), 1.5), (dict(aspect_ratio=1.5, trained_ratio=2.0), 2.0),
    (dict(trained_ratio=3.0, crop_size="64x96"), 2.0), (dict(crop_size="64x96"), 1.0),
    (dict(trained_ratio=2.0, resize="crop"), 1.0), (dict(trained_ratio=2.0, resize="pad"), 1.0),
    (dict(trained_ratio=2.0, native_size=True), 1.0)])
def test_what_training_squeezed_and_how_much(changes, expected):
    options = Options(**{"crop_size": 64, "resize": "stretch", "aspect_ratio": 1.0,
                         "trained_ratio": None, "native_size": False, **changes})
    assert squeeze_of(options) == expected


@pytest.mark.parametrize("size, multiple, text", [
    ((100, 256), 32, "--crop_size 100x256 is not a multiple of 32: give 96x256 or 128x256"),
    ((20, 20), 32, "--crop_size 20 is not a multiple of 32: give 32"),
    ((320, 512), 256, "--crop_size 320x512 does not fit the model, which takes multiples of 256: "
                      "give 256x512 or 512"), ((96, 512), 32, "")])
def test_the_nearest_sizes_that_can_be_had_are_named(size, multiple, text):
    assert refuse_crop(Size(*size), multiple) == text


def test_the_usual_scale_is_the_papers():
    assert [usual_scale(size) for size in (256, 512, "256x512", "128x64")] == [
        286, 572, "286x572", "143x72"]
