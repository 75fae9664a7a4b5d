"""The colour map of values and its scale."""

from itertools import pairwise

import numpy as np
import pytest
import skimage.color

from tools.lib.colour_map import (BACKGROUND, CHROMA, COLOURS, HUE, INK, LIGHTNESS, MISSING,
                                  colour_map, draw_scale, draw_shown, map_colours, place_ticks)


def lab_of(colours):
    return skimage.color.rgb2lab(np.asarray(colours, np.uint8))


# ---- the map


def test_the_map_is_a_helix_in_lab_and_in_srgb():
    """None of its colours had to be clipped: rounding to 8 bits is all that is lost."""
    place = np.linspace(0, 1, COLOURS)[:, np.newaxis]
    lightness, hue = (low + place * (high - low) for low, high in (LIGHTNESS, np.radians(HUE)))
    expected = np.concatenate([lightness, CHROMA * np.cos(hue), CHROMA * np.sin(hue)], axis=1)
    np.testing.assert_allclose(lab_of(map_colours()), expected, atol=1)


def test_lightness_rises():
    lightness = lab_of(map_colours())[:, 0]
    assert (np.diff(lightness[::3]) > 0).all() and (np.diff(lightness) > -0.1).all()
    assert lightness[-1] - lightness[0] > 75


@pytest.mark.parametrize("distance, unevenness", [
    (skimage.color.deltaE_cie76, 1.1), (skimage.color.deltaE_ciede2000, 1.5)])
def test_equal_differences_of_values_look_equal(distance, unevenness):
    """By both of CIE's formulas; a rainbow is uneven by far."""
    rainbow = 255 * skimage.color.hsv2rgb([[hue, 1, 1] for hue in np.linspace(0.7, 0, 18)])
    map_steps, rainbow_steps = (distance(lab[:-1], lab[1:]) for lab in (
        lab_of(map_colours()[::15]), lab_of(rainbow)))
    assert len(map_steps) == len(rainbow_steps) == 17 and map_steps.min() > 5
    assert map_steps.max() / map_steps.min() < unevenness
    assert rainbow_steps.max() / rainbow_steps.min() > 3 * unevenness


def test_missing_pixels_look_like_no_value():
    distances = skimage.color.deltaE_cie76(lab_of(map_colours()), lab_of([MISSING]))
    assert distances.min() > CHROMA - 1 and len({*MISSING}) == 1


def test_values_have_the_colours_of_their_place_in_the_range():
    colours = map_colours()
    values = np.array([[-9, 400, 410, 655, 910, 1e30], [402, 0, 405, 655, 500, np.nan]], np.float32)
    missing = np.zeros([2, 6], bool)
    missing[1, 1] = True
    shown = colour_map(values, 400, 910, missing)  # 2 units a colour
    assert shown.dtype == np.uint8 and shown.shape == (2, 6, 3)
    np.testing.assert_array_equal(shown[0], colours[[0, 0, 5, 128, 255, 255]])
    np.testing.assert_array_equal(shown[1, [0, 4]], colours[[1, 50]])
    np.testing.assert_array_equal(shown[1, [1, 5]], [MISSING] * 2)
    whole = colour_map(np.array([[0, 65535]], np.uint16), 0, 65535)
    np.testing.assert_array_equal(whole[0], colours[[0, 255]])


# ---- the scale


RANGES = [(0, 65535, ""), (1000, 5500, "mm"), (0, 85.3, "m"), (-1, 1, ""), (0.02, 0.0301, "rad"),
          (-3e-7, 2e-7, ""), (99990, 100010, "Pa"), (0, 3e8, "m/s")]


@pytest.mark.parametrize("low, high, unit", RANGES)
@pytest.mark.parametrize("width", [64, 256, 1242])
def test_ticks_are_round_and_readable(low, high, unit, width):
    room = width - 10
    ticks = place_ticks(low, high, 5, room, width, lambda label: 6 * len(label), unit)
    values = [float(tick.label.removesuffix(unit)) for tick in ticks]
    assert all(tick.label.endswith(unit) == (tick is ticks[-1]) for tick in ticks if unit)
    places = [5 + (value - low) / (high - low) * (room - 1) for value in values]
    np.testing.assert_allclose([tick.place for tick in ticks], places, atol=0.51)
    assert all(after.start - before.end >= 6 for before, after in pairwise(ticks))
    assert all(0 <= tick.start and tick.end <= width for tick in ticks) or width == 64
    assert len(values) >= {64: 0, 256: 2, 1242: 6}[width] and len({*values}) == len(values)
    if len(values) > 1:  # equal steps, which are round and have room for no more
        step = values[1] - values[0]
        np.testing.assert_allclose(np.diff(values), step, rtol=1e-6)
        assert float(f"{step:.6g}") == pytest.approx(float(f"{step:.0e}"), rel=1e-6)
        assert f"{step:.0e}"[0] in "125"


@pytest.mark.parametrize("width", [180, 256, 540, 1242])
def test_the_bar_above_a_tick_has_the_colour_of_its_label(width):
    scale = np.asarray(draw_scale(width, 0, 85, "m"))
    row = scale[next(y for y in range(len(scale)) if (scale[y] != BACKGROUND).any())]
    below = next(y for y in range(len(scale)) if (scale[y] == INK).all(axis=1).any())
    marks = np.flatnonzero((scale[below] == INK).all(axis=1))
    step = {180: 20, 256: 10, 540: 10, 1242: 5}[width]
    assert len(marks) == 85 // step + 1
    for number, x in enumerate(marks):
        expected = colour_map(np.array([[number * step]]), 0, 85)[0, 0].astype(int)
        assert np.abs(row[x] - expected).max() <= 4 * 256 / width + 1, number


@pytest.mark.parametrize("width", [1, 7, 31, 100, 256, 2000])
def test_an_image_of_any_width_has_a_scale(width):
    values = np.linspace(3, 9, 5 * width).reshape(5, width)
    shown = draw_shown(values, 3, 9, unit="m")
    np.testing.assert_array_equal(shown[:5], colour_map(values, 3, 9))
    assert shown.shape[1] == width and 35 <= len(shown) - 5 <= 80 and shown.dtype == np.uint8


def test_the_scale_says_what_grey_is_where_there_is_grey():
    values = np.tile(np.linspace(0, 9, 256), (40, 1))
    missing = np.zeros(values.shape, bool)
    plain = draw_shown(values, 0, 9, missing)
    missing[3, 5] = True
    legend = draw_shown(values, 0, 9, missing)
    found, others = ((image == MISSING).all(axis=2) for image in (legend, plain))
    assert found[3, 5] and found[:40].sum() == 1 and not others[:40].any()
    assert (found[40:].sum(axis=1) >= 11).sum() == 11  # a square
    assert (others[40:].sum(axis=1) < 11).all()
    np.testing.assert_array_equal(draw_shown(np.where(missing, np.nan, values), 0, 9), legend)


def test_few_measurements_are_drawn_larger():
    values, missing = np.zeros([30, 60], np.float32), np.ones([30, 60], bool)
    for y, x, value in ((0, 0, 2), (9, 9, 5), (9, 11, 7), (20, 40, 9)):
        values[y, x], missing[y, x] = value, False
    shown = draw_shown(values, 0, 9, missing)[:30]
    colours = {value: colour_map(np.array([[value]]), 0, 9)[0, 0] for value in (2, 5, 7, 9)}
    np.testing.assert_array_equal(shown[~missing], [*colours.values()])
    np.testing.assert_array_equal(shown[19:22, 39:42], np.broadcast_to(colours[9], (3, 3, 3)))
    np.testing.assert_array_equal(shown[0:2, 0:2], np.broadcast_to(colours[2], (2, 2, 3)))
    assert (shown == MISSING).all(axis=2).sum() == 30 * 60 - 9 - 4 - 15
    missing[:8] = values[:8] = 0  # measured: a quarter, nothing grows
    np.testing.assert_array_equal(draw_shown(values, 0, 9, missing)[:30],
                                  colour_map(values, 0, 9, missing))
