"""tools/lib/image_types.py: what the images of a pair are at the network's ends and in files."""

import numpy as np
import pytest
from helpers import draw, run_graph

from tools.lib.image_types import (
    LAB, ImageType, choose_pair, choose_side, infer_pair, stack_images)
from tools.lib.images import convert_channels, to_indices
from tools.lib.stored import Stored
from tools.lib.tf1 import tf


def noise(seed, *shape):
    """Random uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


PAIRS = {(lab, direction): choose_pair(lab, direction)
         for lab in (False, True) for direction in ("AtoB", "BtoA")}


SIDE_BY_SIDE = PAIRS[False, "AtoB"]


def test_the_four_pairs():
    assert PAIRS[True, "AtoB"] == LAB
    channels = {key: (pair.inputs.channels, pair.targets.channels) for key, pair in PAIRS.items()}
    assert channels == {(False, "AtoB"): (3, 3), (False, "BtoA"): (3, 3), (True, "AtoB"): (1, 2),
                        (True, "BtoA"): (2, 1)}
    assert {key: pair.side_by_side for key, pair in PAIRS.items()} == {
        (lab, direction): not lab for lab, direction in PAIRS}


def test_a_file_is_split_into_halves():
    """An odd width loses its last column; reversed, the right half is the input."""
    pixels = noise(2, 4, 9, 3)
    halves = run_graph(lambda: SIDE_BY_SIDE.split(tf.constant(pixels)))
    np.testing.assert_array_equal(halves[0], pixels[:, :4])
    np.testing.assert_array_equal(halves[1], pixels[:, 4:8])
    swapped = run_graph(lambda: SIDE_BY_SIDE.reversed().split(tf.constant(pixels)))
    np.testing.assert_array_equal(swapped[0], halves[1])
    np.testing.assert_array_equal(swapped[1], halves[0])


@pytest.mark.parametrize("key", PAIRS)
def test_both_ends_of_a_type_are_inverse(key):
    """What goes into the network from an image comes out as the image. Lightness is shown in
    grey, and colour takes its lightness from the other side."""
    rgb, pair = draw(3, 2, 5, 7, 3, low=0, high=1), PAIRS[key]
    grey = np.repeat(rgb.mean(axis=3, keepdims=True), 3, axis=3)
    for side, other in (pair[:2], pair[1::-1]):
        image = grey if side.channels == 1 else rgb

        def build(side=side, other=other, image=image):
            """The values at the network's end, and the image they stand for."""
            values = side.from_floats(tf.constant(image))
            return values, side.to_unit(values, other.from_floats(tf.constant(image)))
        values, shown = run_graph(build)
        assert values.shape == (2, 5, 7, side.channels) and np.abs(values).max() <= 1
        if side.channels == 3:
            np.testing.assert_allclose(values, 2 * image - 1, atol=1e-6)
        if side.channels == 1:  # lightness 0..100 of CIE Lab, shown as grey 0..1
            assert shown.shape == (2, 5, 7, 1)
            luminance = np.where(image > 0.04045, ((image + 0.055) / 1.055)**2.4, image / 12.92)
            lightness = 116 * np.cbrt(luminance[..., :1]) - 16  # where above 0.008856
            np.testing.assert_allclose(shown * 100, lightness, atol=0.05)
        else:
            np.testing.assert_allclose(shown, image, atol=2e-3)


def test_a_lab_file_is_split_as_both_ends_say():
    """The same values whether a file is split or an image is converted at an end."""
    pixels = noise(4, 5, 7, 3)

    def build():
        """Lightness and colour, from the split and from both ends."""
        rgb = tf.constant(pixels / 255, tf.float32)
        return LAB.split(tf.constant(pixels)), (LAB.inputs.from_floats(rgb),
                                                LAB.targets.from_floats(rgb))
    split, ends = run_graph(build)
    for got, expected in zip(split, ends, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("channels, expected", [
    ((3, 3), {"lab_colorization": False, "num_inputs": 1, "a_channels": 3, "b_channels": 3}),
    *[(channels, {"lab_colorization": True, "which_direction": direction, "num_inputs": 1,
                  "a_channels": 3, "b_channels": 3})
      for channels, direction in (((1, 2), "AtoB"), ((2, 1), "BtoA"))],
    *[((count * inputs, targets), {
        "lab_colorization": False, "num_inputs": count, "a_channels": inputs,
        "b_channels": targets, **({"which_direction": "AtoB"} if count > 1 else {})})
      for count, inputs, targets in [(3, 3, 3), (2, 3, 1), (1, 3, 1), (1, 1, 1), (1, 4, 3)]],
    ((3, 6), {}), ((0, 3), {}), ((5, 3), {})])
def test_a_pair_is_inferred_from_the_networks_ends(channels, expected):
    """One input of plain images tells no direction."""
    assert infer_pair(*channels) == expected


@pytest.mark.parametrize("count, a_channels, b_channels", [(1, 1, 4), (1, 4, 1), (2, 1, 3)])
def test_the_channels_of_both_sides(count, a_channels, b_channels):
    sides = ImageType(a_channels), ImageType(b_channels)
    pair = choose_pair(False, "AtoB", count, *sides)
    assert (pair.inputs.channels, pair.targets.channels) == (count * a_channels, b_channels)
    assert pair.file_channels == max(a_channels, b_channels)
    unit = draw(5, 1, 4, 6, count * a_channels, low=0, high=1)
    values, shown = run_graph(lambda: (
        pair.inputs.from_floats(tf.constant(unit)),
        pair.inputs.to_unit(pair.inputs.from_floats(tf.constant(unit)), None)))
    np.testing.assert_allclose(values, 2 * unit - 1, atol=1e-6)
    assert shown.shape == (1, 4, 6 * count, a_channels)
    np.testing.assert_allclose(stack_images(shown[0], count), unit[0], atol=1e-6)
    if count == 1:
        back = choose_pair(False, "BtoA", 1, *sides)
        assert (back.inputs.channels, back.targets.channels) == (b_channels, a_channels)


def test_each_half_of_a_file_has_the_channels_of_its_side():
    pixels = noise(7, 4, 8, 4)
    pair = choose_pair(False, "BtoA", 1, ImageType(1), ImageType(4))
    inputs, targets = run_graph(lambda: pair.take(tf.constant(pixels)))
    np.testing.assert_array_equal(inputs, pixels[:, 4:])
    np.testing.assert_array_equal(targets, convert_channels(pixels[:, :4], 1))


# ---- label maps

COLOURS = [{"name": "sky", "color": [128, 128, 128]}, {"name": "wall", "color": [128, 0, 0]},
           {"name": "road", "color": [60, 40, 222]}]
INDICES = [{"name": "0"}, {"name": "1"}, {"name": "2"}]


@pytest.mark.parametrize("classes, ignore, values", [
    (COLOURS, [2], [0, 1, 2]), (INDICES, [1, 255], [0, 1, 2, 255])], ids=["colours", "indices"])
def test_classes_at_both_ends_of_a_label_map(classes, ignore, values):
    """One channel each, 0 in all where they are ignored; back come the files' pixels, of ignored
    ones the first of the values."""
    side = choose_side("b", ignore=ignore, classes=classes)
    assert (side.kind, side.channels, side.file_channels) == (
        "labels", 3, 3 if classes == COLOURS else 1)
    drawn = np.random.default_rng(3).choice(values, (4, 6))
    pixels = np.array([row["color"] for row in COLOURS], np.uint8)[drawn] if classes == COLOURS \
        else drawn[..., np.newaxis].astype(np.uint8)

    def build():
        """What the network sees, scaled to 2x3, and what a file holds of it unscaled."""
        taken = side.take(tf.constant(pixels))
        seen = side.scale(taken)
        back = side.to_pixels(seen[tf.newaxis, ..., :-1], measured=seen[tf.newaxis, ..., -1:])
        return side.scale(taken, [2, 3]), seen, back[0], \
            side.from_floats(side.floats_of(tf.constant(pixels)))
    small, seen, back, by_floats = run_graph(build)
    measured = ~np.isin(drawn, ignore)
    one_hot = np.where(drawn[..., np.newaxis] == np.arange(3), 1, -1) * measured[..., np.newaxis]
    np.testing.assert_array_equal(seen, np.dstack([one_hot, measured]))
    np.testing.assert_array_equal(small, seen[1::2, 1::2])
    np.testing.assert_array_equal(by_floats[..., 0], np.where(measured, drawn, -1))
    missing = [60, 40, 222] if classes == COLOURS else [1]
    np.testing.assert_array_equal(back, np.where(measured[..., np.newaxis], pixels, missing))


def test_a_label_map_stops_at_what_no_class_has():
    pixels = np.array([[[128, 0, 0], [128, 0, 1]]], np.uint8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no class of --b_labels has"):
        run_graph(lambda: choose_side("b", classes=COLOURS).take(tf.constant(pixels)))
    nearest = choose_side("b", classes=COLOURS, nearest=True)
    assert run_graph(lambda: nearest.take(tf.constant(pixels))).tolist() == [[[1], [1]]]


@pytest.mark.parametrize("stored, message", [
    (Stored(np.zeros([2, 2, 1], np.float32)), "floating-point"),
    (Stored(np.full([2, 2, 1], -1, np.int32)), "its values -1 to -1 do not fit in 16 bits"),
    (Stored(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), "it has 3 channels"),
    (Stored(np.zeros([2, 2, 2], np.uint8), has_alpha=True), "partly transparent")])
def test_what_holds_no_indices_is_refused(stored, message):
    with pytest.raises(ValueError, match=message):
        to_indices(stored, "uint16")


def test_indices_of_any_whole_numbers_are_read():
    indices = np.arange(6).reshape(2, 3, 1)
    for stored in (Stored(indices.astype(np.int32)), Stored(indices.astype(np.uint16)),
                   Stored(np.repeat(indices, 3, axis=2).astype(np.uint8)),
                   Stored(np.dstack([indices, indices * 0 + 255]).astype(np.uint8), None, True)):
        got = to_indices(stored, "uint8")
        np.testing.assert_array_equal(got, indices)
        assert got.dtype == np.uint8
