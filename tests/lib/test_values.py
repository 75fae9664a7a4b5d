"""Values and missing measurements, by arithmetic."""

import math

import numpy as np
import pytest
import skimage.metrics
from helpers import SHARED, draw, run_graph
from PIL import Image

from tools.lib.metrics import VALUE_METRICS, summarize
from tools.lib.tf1 import tf
from tools.lib.values import (abs_rel, find_missing, from_network, masked_absolute_error, rmse,
                              round_step, scale_measured, suggest_range, to_network, to_stored,
                              within_125)

# ---- the file's units and the network's


@pytest.mark.parametrize("low, high", [(0, 65535), (0, 20000), (412, 9000), (-3, 65535)])
def test_every_value_of_16_bits_comes_back_from_the_network(low, high):
    stored = np.arange(65536, dtype=np.uint16)

    def build():
        images = to_network(tf.constant(stored), low, high)
        return images, to_stored(from_network(images, low, high), "uint16")
    images, back = run_graph(build)
    expected = 2 * (np.clip(stored.astype(float), low, high) - low) / (high - low) - 1
    np.testing.assert_allclose(images, expected, atol=2e-7)
    assert images.dtype == np.float32 and -1 <= images.min() and images.max() == 1
    np.testing.assert_array_equal(back, np.clip(stored, max(low, 0), high))
    assert back.dtype == np.uint16


def test_floats_are_mapped_and_come_back_in_their_units():
    values = np.array([[-0.5, 0.25, 1, 2.5, 99]], np.float32)

    def build():
        images = to_network(tf.constant(values), -0.5, 2.5)
        return images, to_stored(from_network(images, -0.5, 2.5), "float32")
    images, back = run_graph(build)
    np.testing.assert_allclose(images, [[-1, -0.5, 0, 1, 1]], atol=1e-7)
    np.testing.assert_allclose(back, [[-0.5, 0.25, 1, 2.5, 2.5]], atol=1e-6)


@pytest.mark.parametrize("dtype, expected", [
    ("uint8", [0, 0, 2, 2, 255, 255]), ("uint16", [0, 0, 2, 2, 300, 65535]),
    ("float32", [-7, 0.5, 1.5, 2.4, 300, 70000])])
def test_what_is_stored_is_rounded_half_to_even_and_clipped(dtype, expected):
    values = np.array([-7, 0.5, 1.5, 2.4, 300, 70000], np.float32)
    stored = run_graph(lambda: to_stored(tf.constant(values), dtype))
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, np.array(expected, dtype))


# ---- missing measurements


def missing_of(pixels, *ignore):
    return run_graph(lambda: find_missing(tf.constant(pixels), ignore))


def test_ignored_values_are_missing_in_any_channel():
    pixels = np.array([[[0, 7], [7, 0], [7, 7]], [[65535, 1], [1, 1], [65534, 65535]]], np.uint16)
    np.testing.assert_array_equal(missing_of(pixels, 0, 65535)[..., 0],
                                  [[True, True, False], [True, False, True]])
    np.testing.assert_array_equal(missing_of(pixels, 7)[..., 0], [[True] * 3, [False] * 3])
    assert not missing_of(pixels).any() and not missing_of(pixels, -1, 0.5, 65536).any()


def test_values_that_are_not_finite_are_always_missing():
    pixels = np.array([[[np.nan], [np.inf], [-np.inf], [-9999], [0.1], [0]]], np.float32)
    assert missing_of(pixels)[0, :, 0].tolist() == [True] * 3 + [False] * 3
    assert missing_of(pixels, -9999, 0.1)[0, :, 0].tolist() == [True] * 5 + [False]


def overlaps(size, count):
    """[count, size]: the share of each pixel in the area of each pixel of the result."""
    edges, pixels = np.arange(count + 1) * size / count, np.arange(size)
    ends = np.minimum(pixels + 1, edges[1:, np.newaxis])
    starts = np.maximum(pixels, edges[:-1, np.newaxis])
    return np.maximum(ends - starts, 0) * count / size


def scale(values, measured, size):
    return run_graph(lambda: scale_measured(tf.constant(values), tf.constant(measured),
                                            tf.constant(size)))


@pytest.mark.parametrize("size", [(6, 7), (4, 14), (12, 21), (5, 9), (17, 40), (1, 1), (24, 42)])
@pytest.mark.parametrize("share", [0.04, 0.5, 0.97])
def test_only_measured_values_are_scaled(size, share):
    """Shrunk, enlarged and both, by whole and other factors."""
    values = draw(4, 12, 21, 2, low=500, high=60000)
    measured = draw(5, 12, 21, 1, low=0, high=1) < share
    stored = np.where(measured, values, np.array([np.nan, 1e30], np.float32))
    got, where = scale(stored, measured, size)
    rows, columns = overlaps(12, size[0]), overlaps(21, size[1])
    shares = rows @ measured[..., 0] @ columns.T
    with np.errstate(invalid="ignore"):
        expected = np.stack([rows @ (values[..., channel] * measured[..., 0]) @ columns.T / shares
                             for channel in range(2)], axis=-1)
    np.testing.assert_array_equal(where[..., 0], shares > 1e-9)
    np.testing.assert_allclose(got, np.where(where, expected, 0), rtol=1e-5, atol=0.5)
    assert got.shape == (*size, 2) and where.shape == (*size, 1)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("size", [(4, 5), (8, 10), (16, 20), (11, 13)])
def test_a_missing_value_changes_no_other(size):
    """Whatever is stored for it, 0 or the highest value, results are of measured values: two
    planes of 1000 and 3000 with a gap between them stay two."""
    values = np.repeat(np.array([[1000] * 4 + [0] * 2 + [3000] * 4], np.float32), 8, axis=0)
    measured = values[..., np.newaxis] > 0
    got, where = scale(values[..., np.newaxis], measured, size)
    others, same = scale(np.where(measured, values[..., np.newaxis], 65535), measured, size)
    np.testing.assert_array_equal(got, others)
    np.testing.assert_array_equal(where, same)
    assert {*np.round(got[where], 2)} == {1000, 3000}


def test_rounded_edges_of_areas_let_no_neighbour_in():
    """Of 3000 rows as 270, row 153 begins at row 1700; TensorFlow's area begins 1e-4 rows before."""
    measured = np.arange(3000) < 1700
    values = np.where(measured, 500, 0).astype(np.float32)[:, np.newaxis, np.newaxis]
    got, where = scale(values, measured[:, np.newaxis, np.newaxis], (270, 1))
    assert where[:, 0, 0].tolist() == [True] * 153 + [False] * 117
    np.testing.assert_allclose(got[:, 0, 0], [500] * 153 + [0] * 117, rtol=1e-6)


def test_a_single_measurement_among_hundreds_remains():
    values, measured = np.zeros([60, 60, 1], np.float32), np.zeros([60, 60, 1], bool)
    values[47, 13], measured[47, 13] = 1234, True
    got, where = scale(values, measured, (2, 2))
    assert where[..., 0].tolist() == [[False, False], [True, False]]
    np.testing.assert_allclose(got[..., 0], [[0, 0], [1234, 0]], rtol=1e-6)


def test_an_image_that_keeps_its_size_keeps_its_values():
    values = draw(6, 7, 9, 1, low=0, high=65535)
    measured = values > 30000
    got, where = scale(values, measured, (7, 9))
    np.testing.assert_array_equal(got, np.where(measured, values, 0))
    np.testing.assert_array_equal(where, measured)


def test_without_missing_pixels_scaling_is_by_area():
    values = draw(7, 30, 41, 3)
    got, where = scale(values, np.ones([30, 41, 1], bool), (13, 55))
    expected = run_graph(lambda: tf.image.resize(tf.constant(values), [13, 55], method="area"))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert where.all()


def test_scaling_in_the_networks_range_is_scaling_in_the_files_units():
    """So a missing pixel can become the middle of the range."""
    values, measured = draw(8, 20, 30, 1, low=400, high=900), draw(9, 20, 30, 1) > 0.6

    def build():
        images, where = scale_measured(to_network(values, 400, 900), tf.constant(measured), (9, 8))
        others, _ = scale_measured(tf.constant(values), tf.constant(measured), (9, 8))
        return images, to_network(others, 400, 900), where
    images, others, where = run_graph(build)
    np.testing.assert_allclose(images[where], others[where], atol=1e-6)
    assert not where.all() and (images[~where] == 0).all()


# ---- metrics


def measure(function, outputs, targets, measured):
    return run_graph(lambda: function(tf.constant(outputs, tf.float32),
                                      tf.constant(targets, tf.float32), tf.constant(measured)))


def test_metrics_of_a_few_pixels_by_hand():
    outputs, targets, measured = np.array([
        [1, 5, 10, -4, 8, 4, 3], [2, 4, 10, 4, 0, 5, 900], [1, 1, 1, 1, 1, 1, 0]]).reshape(
            3, 1, 1, 7, 1)
    measured = measured > 0
    assert measure(masked_absolute_error, outputs, targets, measured) \
        == pytest.approx([(1 + 1 + 0 + 8 + 8 + 1) / 6])
    assert measure(rmse, outputs, targets, measured) \
        == pytest.approx([((1 + 1 + 0 + 64 + 64 + 1) / 6) ** 0.5])
    # the target of 0 does not count; exactly 1.25 is not less, nor is an output below 0
    assert measure(abs_rel, outputs, targets, measured) \
        == pytest.approx([(1 / 2 + 1 / 4 + 0 + 2 + 1 / 5) / 5])
    assert measure(within_125, outputs, targets, measured) == pytest.approx([1 / 5])


def numpy_metrics(outputs, targets, measured):
    """Of one image, in float64, as Eigen et al. write them."""
    outputs, targets = (image[measured[..., 0]].astype(float) for image in (outputs, targets))
    above = targets > 0
    ratios = np.maximum(outputs[above] / targets[above], targets[above] / outputs[above])
    return {"l1": np.abs(outputs - targets).mean(),
            "rmse": skimage.metrics.mean_squared_error(outputs, targets) ** 0.5,
            "abs_rel": (np.abs(outputs - targets)[above] / targets[above]).mean(),
            "within_125": (ratios < 1.25).mean()}


@pytest.mark.parametrize("channels", [1, 3])
def test_metrics_are_of_measured_pixels_alone(channels):
    targets = draw(1, 3, 200, 301, channels, low=0, high=65535)
    targets[:, :4] = 0
    outputs = np.clip(targets * draw(2, *targets.shape, low=0.6, high=1.4), 1, 65535)
    measured = draw(3, 3, 200, 301, 1, low=0, high=1) < np.array([0.04, 0.5, 1]).reshape(3, 1, 1, 1)
    stored = np.where(measured, targets, np.nan)
    for name, metric in VALUE_METRICS.items():
        expected = [numpy_metrics(*image)[name]
                    for image in zip(outputs, targets, measured, strict=True)]
        np.testing.assert_allclose(measure(metric.measure, outputs, stored, measured), expected,
                                   rtol=2e-5, err_msg=name)
        unmasked = measure(metric.measure, outputs, targets, np.ones_like(measured))
        assert abs(unmasked[0] / expected[0] - 1) > 1e-4, name


def test_an_image_without_a_measured_pixel_is_left_out_and_counted():
    outputs, targets = draw(1, 2, 5, 6, 1, low=3, high=4), draw(2, 2, 5, 6, 1, low=3, high=4)
    measured = np.ones([2, 5, 6, 1], bool)
    measured[1] = False
    for name, metric in VALUE_METRICS.items():
        values = measure(metric.measure, outputs, targets, measured)
        assert math.isnan(values[1]) and math.isfinite(values[0]), name
        summary = summarize(values)
        assert (summary.mean, summary.infinite, summary.unmeasured) == (
            pytest.approx(values[0]), 0, 1)
    # none above 0: measured, but not for shares of the target
    values = {name: measure(metric.measure, outputs, 0 * targets, np.ones_like(measured))
              for name, metric in VALUE_METRICS.items()}
    assert {name for name, found in values.items() if np.isnan(found).all()} \
        == {"abs_rel", "within_125"}


def test_only_measured_pixels_of_l1_have_a_gradient():
    """And all of it is finite, whatever is stored elsewhere, also where nothing is measured."""
    outputs, targets = np.ones([2, 1, 4, 1], np.float32), np.zeros([2, 1, 4, 1], np.float32)
    measured = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool).reshape(2, 1, 4, 1)
    targets[~measured] = np.nan

    def build():
        x = tf.constant(outputs)
        return tf.gradients(masked_absolute_error(x, tf.constant(targets), measured), x)[0]
    np.testing.assert_allclose(run_graph(build)[:, 0, :, 0], [[0.5, 0, 0.5, 0], [0] * 4])


# ---- ranges


@pytest.mark.parametrize("least, step", [
    (1, 1), (1.01, 2), (2, 2), (3, 5), (5.5, 10), (832.1, 1000), (0.03, 0.05), (0.1, 0.1),
    (1000, 1000), (6.1e-7, 1e-6)])
def test_a_step_is_the_next_round_number(least, step):
    assert round_step(least) == step


@pytest.mark.parametrize("low, high, dtype, expected", [
    (412, 8733, np.uint16, (0, 9000)), (1143, 5386, np.uint16, (1000, 5500)),
    (0, 1, np.float32, (0, 1)), (-0.93, 0.41, np.float32, (-1, 0.6)),
    (3, 65500, np.uint16, (0, 65535)), (10003, 10021, np.int32, (10002, 10020))])
def test_a_suggested_range_is_round(low, high, dtype, expected):
    values = np.linspace(low, high, 10007).astype(dtype)
    assert suggest_range(values) == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_suggested_range_holds_all_but_a_thousandth_of_the_measured_values(seed):
    values = np.exp(3 * draw(seed, 50, 70)) * 2000  # up to 40,000
    values[0, :2] = 1e7, -1e7  # of a sensor that fails
    missing = draw(seed + 9, 50, 70) > 0.3
    missing[0, :2] = False
    measured = values[~missing]
    for stored, named in ((np.where(missing, np.float32(1e8), values), missing),
                          (np.where(missing, np.nan, values), None)):
        low, high = suggest_range(stored, named)
        assert ((measured >= low) & (measured <= high)).mean() >= 0.999
        assert low == 0 and 30000 <= high <= 50000


def test_a_suggested_range_without_a_difference_or_a_measurement():
    assert suggest_range(np.zeros([3, 4], np.uint16), np.ones([3, 4], bool)) is None
    assert suggest_range(np.full([3], np.nan)) is None
    for value in (0, 7, 65535):
        low, high = suggest_range(np.full([3, 4], value, np.uint16))
        assert 0 <= low <= value <= high <= 65535 and low < high


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="no real data here")
@pytest.mark.parametrize("folder, expected", [("depth_tof_hololens", (500, 6000)),
                                              ("depth_sparse_kitti", (0, 20000))])
def test_depth_of_a_room_and_of_a_street(folder, expected):
    files = sorted((SHARED / "data" / folder / "train/depth").glob("*.png"))[:9]
    values = np.concatenate([np.asarray(Image.open(path)).ravel() for path in files])
    assert suggest_range(values, values == 0) == expected
