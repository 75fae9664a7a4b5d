"""How well two label images agree: pixel accuracy, class accuracy, mean IoU.

The definitions are those of Long, Shelhamer, Darrell 2015 (section 5), which the paper's FCN scores
use. With n[i, j] pixels of class i that are read as class j:

    pixel accuracy  sum over i of n[i, i] / sum of all n
    class accuracy  mean over i of n[i, i] / sum over j of n[i, j]
    mean IoU        mean over i of n[i, i] / (sum over j of n[i, j] + n[j, i], less n[i, i])

Means are over the classes that occur in the real label images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tools.lib.inputs import Statistics
from tools.lib.metrics import INTERVAL, RESAMPLES, Metric, Summary
from tools.lib.tf1 import tf

METRICS = {
    "pixel_accuracy": Metric("pixel accuracy", "higher", 4, "share of all pixels whose class is "
                             "read as it is (Long et al. 2015)", None),
    "class_accuracy": Metric("class accuracy", "higher", 4, "that share of each class's pixels; "
                             "mean over the classes (Long et al. 2015)", None),
    "mean_iou": Metric("mean IoU", "higher", 4, "pixels of a class that are read as it, of all "
                       "that are of it or read as it; mean over the classes (Long et al. 2015)",
                       None)}


class Agreement(NamedTuple):
    """How well label images agree."""

    pixel_accuracy: float
    class_accuracy: float
    mean_iou: float
    accuracies: np.ndarray  # [classes]; NaN for a class that does not occur
    ious: np.ndarray  # [classes], likewise


def find_colours(images):
    """The colours of label images, [classes, 3] uint8, the most frequent first; None where the
    images are no label images: many colours, or few but not in areas. images: uint8
    [height, width, 3]."""
    statistics = Statistics()
    for image in images:
        statistics.add([image])
    if not statistics.has_few_colours():
        return None
    return np.array([row["rgb"] for row in statistics.list_colours()], np.uint8)


def nearest_classes(image, colours):
    """Index of the nearest colour in RGB, [height, width], of uint8 [height, width, 3]."""
    best, nearest = None, np.zeros(image.shape[:2], np.int64)
    for index, colour in enumerate(colours):
        distance = ((image.astype(np.int32) - colour.astype(np.int32))**2).sum(axis=2)
        if best is None:
            best = distance
            continue
        nearest[distance < best] = index
        best = np.minimum(best, distance)
    return nearest


def count_confusion(real, read, count):
    """Pixels of class i that are read as class j: [count, count]. real, read: indices."""
    return np.bincount((real * count + read).ravel(), minlength=count**2).reshape(count, count)


def create_confusions(real, read, count):
    """`count_confusion` of each image of a batch, in the graph: int32 [batch, height, width] ->
    int32 [batch, count, count]. Pixels of class -1 in real are left out, for both; read has none.
    """
    batch = tf.shape(real)[0]
    images = tf.range(batch)[:, tf.newaxis, tf.newaxis]
    pairs = tf.boolean_mask((images * count + real) * count + read, real >= 0)
    size = batch * count * count
    counts = tf.math.bincount(pairs, minlength=size, maxlength=size)
    return tf.reshape(counts, [batch, count, count])


def agreement_of(confusion):
    """The Agreement of a confusion matrix."""
    right, real, read = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):  # classes that do not occur
        accuracies = np.where(real > 0, right / real, np.nan)
        ious = np.where(real > 0, right / (real + read - right), np.nan)
    return Agreement(float(right.sum() / real.sum()), float(np.nanmean(accuracies)),
                     float(np.nanmean(ious)), accuracies, ious)


def summarize_labels(confusions):
    """Name -> Summary of METRICS over all pixels of several images. confusions: [images, classes,
    classes]. The interval is that of the images, by bootstrap."""
    confusions, rng, count = np.asarray(confusions), np.random.default_rng(0), len(confusions)
    found, drawn = agreement_of(confusions.sum(axis=0)), []
    for _ in range(RESAMPLES if count > 1 else 0):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        drawn.append(agreement_of(np.tensordot(times, confusions, axes=1))[:len(METRICS)])
    rest = (100 - INTERVAL) / 2
    intervals = np.percentile(drawn, [rest, 100 - rest], axis=0).T.tolist() if drawn else \
        [None] * len(METRICS)
    return {name: Summary(getattr(found, name), None, None, interval, 0)
            for name, interval in zip(METRICS, intervals, strict=True)}
