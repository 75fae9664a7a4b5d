"""Colour: Lab against published values and scikit-image."""

import warnings

import numpy as np
import pytest
from helpers import draw, run_graph

from tools.lib.colour import join_lab, lab_to_rgb, rgb_to_lab, split_lab
from tools.lib.tf1 import tf

PUBLISHED = [  # sRGB 0..1 -> Lab, D65, two decimals
    ([1, 0, 0], [53.24, 80.09, 67.20]),
    ([0, 1, 0], [87.73, -86.18, 83.18]),
    ([0, 0, 1], [32.30, 79.19, -107.86]),
    ([1, 1, 0], [97.14, -21.55, 94.48]),
    ([1, 1, 1], [100, 0, 0]),
    ([0, 0, 0], [0, 0, 0]),
]


def to_lab(rgb):
    return run_graph(lambda: rgb_to_lab(tf.constant(rgb, tf.float32)))


@pytest.mark.parametrize("rgb, lab", PUBLISHED)
def test_lab_of_published_colours(rgb, lab):
    # 0.02: tables round the matrix and the white point differently
    np.testing.assert_allclose(to_lab([[rgb]])[0, 0], lab, atol=0.02)


def test_lab_agrees_with_skimage():
    skimage_color = pytest.importorskip("skimage.color")
    bright = draw(1, 7, 9, 3, low=0)
    dark = draw(2, 7, 9, 3, low=0, high=0.06)  # both sides of the sRGB knee and of Lab's
    rgb = np.concatenate([bright, dark])
    expected = skimage_color.rgb2lab(rgb)
    np.testing.assert_allclose(to_lab(rgb), expected, atol=0.02)
    assert np.abs(to_lab(rgb * 0.99) - expected).max() > 0.2
    assert np.abs(to_lab(rgb[..., ::-1]) - expected).max() > 10


def test_rgb_of_lab_agrees_with_skimage_inside_and_outside_of_srgb():
    skimage_color = pytest.importorskip("skimage.color")
    grid = [[lightness, a, b] for lightness in (2, 7, 31, 60, 93)
            for a in (-90, -13, 0, 20, 75) for b in (-100, -9, 0, 4, 80)]
    lab = np.array([grid], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skimage's, about colours outside of sRGB
        expected = skimage_color.lab2rgb(lab.astype(np.float64))
    ours = run_graph(lambda: lab_to_rgb(tf.constant(lab)))
    inside = np.abs(skimage_color.rgb2lab(expected) - lab).max(axis=-1) < 0.01
    assert 20 < inside.sum() < lab.shape[1] - 20
    np.testing.assert_allclose(ours[inside], expected[inside], atol=2e-4)
    assert np.isfinite(ours).all() and ours.min() == 0 and ours.max() == pytest.approx(1, abs=1e-6)


def test_lab_and_back_is_the_same():
    rgb = np.concatenate([draw(3, 5, 8, 3, low=0), draw(4, 5, 8, 3, low=0, high=0.05),
                          np.zeros([1, 8, 3], np.float32), np.ones([1, 8, 3], np.float32)])
    back = run_graph(lambda: lab_to_rgb(rgb_to_lab(tf.constant(rgb))))
    np.testing.assert_allclose(back, rgb, atol=2e-4)
    assert np.abs(back - rgb).max() < 1 / 255 / 2  # no 8-bit value changes


def gradient(function, value):
    """Of the sum of all results."""
    def build():
        x = tf.constant(value)
        return tf.gradients(function(x), x)[0]
    return run_graph(build)


def test_gradients_are_right_at_black_and_white():
    rgb = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]], np.float32)
    slopes = gradient(lambda x: rgb_to_lab(x)[..., 0], rgb).sum(axis=-1)
    # along grey, y = linear: L is 903.3 y near 0, 116 y**(1/3) - 16 elsewhere
    middle = ((0.5 + 0.055) / 1.055)
    np.testing.assert_allclose(slopes, [
        24389 / 27 / 12.92, 116 / 3 * 2.4 / 1.055,
        116 / 3 * (middle**2.4) ** (-2 / 3) * 2.4 / 1.055 * middle**1.4], rtol=1e-3)
    assert np.isfinite(gradient(rgb_to_lab, rgb)).all()
    lab = np.array([[0, 0, 0], [100, 0, 0], [0, 90, -90], [100, -90, 90]], np.float32)
    slopes = gradient(lab_to_rgb, lab)
    assert np.isfinite(slopes).all()
    assert slopes[0, 0] == pytest.approx(3 * 12.92 * 27 / 24389, rel=1e-2)


def test_split_lab_scales_and_join_lab_is_its_inverse():
    steps = np.linspace(0, 1, 9, dtype=np.float32)
    rgb = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)

    def build():
        lightness, colour = split_lab(tf.constant(rgb))
        return lightness, colour, join_lab(lightness, colour)
    lightness, colour, joined = run_graph(build)
    lab = to_lab(rgb)
    np.testing.assert_allclose(lightness[..., 0], lab[..., 0] / 50 - 1, atol=1e-6)
    np.testing.assert_allclose(colour, lab[..., 1:] / 110, atol=1e-6)
    assert lightness.shape == (27, 27, 1) and colour.shape == (27, 27, 2)
    assert lightness.min() == pytest.approx(-1, abs=1e-4)
    assert lightness.max() == pytest.approx(1, abs=1e-4)
    assert -1 <= colour.min() < -0.9 and 0.85 < colour.max() <= 1
    np.testing.assert_allclose(joined, rgb, atol=1e-3)
