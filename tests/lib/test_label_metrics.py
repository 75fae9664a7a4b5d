"""Label images: their colours, classes, and the three figures, by arithmetic."""

import numpy as np
import pytest
from helpers import run_graph

from tools.lib import inputs, label_metrics
from tools.lib.metrics import COUNTS, LABEL_METRICS, read_row, summarize_labels
from tools.lib.tf1 import tf

COLOURS = np.array([[0, 0, 222], [0, 48, 255], [255, 159, 0]], np.uint8)


def draw_labels(seed, size=(12, 20), block=4):
    """Classes in blocks, and their image: [height, width] and uint8 [height, width, 3]."""
    height, width = size
    classes = np.random.default_rng(seed).integers(0, len(COLOURS), (height // block,
                                                                     width // block))
    classes = np.kron(classes, np.ones((block, block), int))
    return classes, COLOURS[classes]


def test_figures_are_those_of_arithmetic():
    """Class 0: 6 pixels, 4 read right; class 1: 3, of which 2; class 2: none, one read as it."""
    confusion = np.array([[4, 1, 1], [1, 2, 0], [0, 0, 0]])
    found = label_metrics.agreement_of(confusion)
    assert found.pixel_accuracy == pytest.approx(6 / 9)
    assert found.class_accuracy == pytest.approx((4 / 6 + 2 / 3) / 2)
    assert found.mean_iou == pytest.approx((4 / (6 + 5 - 4) + 2 / (3 + 3 - 2)) / 2)
    np.testing.assert_allclose(found.ious, [4 / 7, 2 / 4, np.nan])


def test_a_confusion_matrix_counts_pixels():
    real, read = np.array([[0, 0, 1], [2, 2, 2]]), np.array([[0, 1, 1], [2, 0, 2]])
    np.testing.assert_array_equal(label_metrics.count_confusion(real, read, 3),
                                  [[1, 1, 0], [0, 1, 0], [1, 0, 2]])


def test_colours_are_found_where_they_are_few_and_in_areas():
    images = [draw_labels(seed)[1] for seed in range(4)]
    found = inputs.find_colours(images)
    assert {*map(tuple, found.tolist())} == {*map(tuple, COLOURS.tolist())}
    noise = np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8)
    assert inputs.find_colours([*images, noise]) is None
    assert inputs.find_colours([draw_labels(1, block=1)[1]]) is None  # few, but no areas


def test_the_nearest_colour_is_the_class():
    classes, image = draw_labels(3)
    noise = np.random.default_rng(2).integers(-20, 21, image.shape)
    noisy = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(label_metrics.nearest_classes(noisy, COLOURS), classes)
    distances = [np.linalg.norm(noisy.astype(float) - colour, axis=2) for colour in COLOURS]
    np.testing.assert_array_equal(label_metrics.nearest_classes(noisy, COLOURS),
                                  np.argmin(distances, axis=0))


def test_figures_of_several_images_are_of_all_their_pixels():
    confusions = [np.diag([5, 1]), np.array([[0, 4], [0, 2]]), np.array([[3, 0], [1, 1]])]
    counts = [*map(label_metrics.counts_of, confusions)]
    found = summarize_labels(counts)
    total = label_metrics.agreement_of(np.sum(confusions, axis=0))
    for name, summary in found.items():
        low, high = summary.interval
        assert low < summary.mean == getattr(total, name) < high <= 1
        assert (summary.median, summary.standard_deviation, summary.unmeasured) == (None, None, 0)
    assert found == summarize_labels(counts)
    assert summarize_labels(counts[:1])["mean_iou"].interval is None


def test_images_without_a_pixel_that_counts_are_left_out_and_counted():
    empty, one = np.zeros([3, 2], int), label_metrics.counts_of(np.array([[3, 1], [0, 2]]))
    found = summarize_labels([empty, one, one])
    assert found["pixel_accuracy"].mean == pytest.approx(5 / 6)
    assert {summary.unmeasured for summary in found.values()} == {1}
    for summary in summarize_labels([empty]).values():
        assert (summary.mean, summary.interval, summary.unmeasured) == (None, None, 1)
    row = read_row({COUNTS: empty[np.newaxis]})
    assert all(np.isnan(row[name]) for name in LABEL_METRICS)


def test_the_graph_counts_each_image_of_a_batch_without_ignored_pixels():
    rng = np.random.default_rng(3)
    real, read = rng.integers(-1, 5, (3, 7, 9)), rng.integers(0, 5, (3, 7, 9))
    real[2] = -1
    got = run_graph(lambda: label_metrics.create_counts(
        tf.constant(real, tf.int32), tf.constant(read, tf.int32), 5))
    expected = [label_metrics.counts_of(label_metrics.count_confusion(a[a >= 0], b[a >= 0], 5))
                for a, b in zip(real, read, strict=True)]
    np.testing.assert_array_equal(got, expected)
    assert 30 < got[0, 1].sum() == got[0, 2].sum() < 63 and got[2].sum() == 0
