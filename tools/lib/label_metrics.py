"""How well two label images agree: pixel accuracy, class accuracy, mean IoU.

The definitions are those of Long, Shelhamer, Darrell 2015 (section 5), which the paper's FCN scores
use. With n[i, j] pixels of class i that are read as class j:

    pixel accuracy  sum over i of n[i, i] / sum of all n
    class accuracy  mean over i of n[i, i] / sum over j of n[i, j]
    mean IoU        mean over i of n[i, i] / (sum over j of n[i, j] + n[j, i], less n[i, i])

Means are over the classes that occur in the real label images. Of the confusion matrix n these need
three numbers per class, its `counts`: the pixels of it that are read as it, those of it, and those
read as it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tools.lib.tf1 import tf


class Agreement(NamedTuple):
    """How well label images agree; NaN where nothing can be compared."""

    pixel_accuracy: float
    class_accuracy: float
    mean_iou: float
    accuracies: np.ndarray  # [classes]; NaN for a class that does not occur
    ious: np.ndarray  # [classes], likewise


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


def counts_of(confusion):
    """The counts of a confusion matrix: [3, classes]."""
    return np.stack([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])


def create_counts(real, read, count):
    """`counts_of` each image of a batch, in the graph: int32 [batch, height, width] -> int32
    [batch, 3, count]. Pixels of class -1 in real are left out, for both; read has none.
    """
    def count_pixels(classes, counted):
        """Of each class: [batch, count]."""
        images = tf.range(batch)[:, tf.newaxis, tf.newaxis] * count
        numbers = tf.math.bincount(tf.boolean_mask(images + classes, counted), minlength=size,
                                   maxlength=size)
        return tf.reshape(numbers, [batch, count])
    batch = tf.shape(real)[0]
    size, is_real = batch * count, real >= 0
    return tf.stack([count_pixels(real, is_real & tf.equal(real, read)),
                     count_pixels(real, is_real), count_pixels(read, is_real)], axis=1)


def mean_of_classes(shares):
    """The mean over the classes that occur: [..., classes] -> [...]; NaN where none does."""
    occurs = np.isfinite(shares)
    with np.errstate(invalid="ignore"):
        return np.where(occurs, shares, 0).sum(axis=-1) / occurs.sum(axis=-1)


def agreement_of_counts(counts):
    """The Agreement of counts [..., 3, classes]: each field [...], or [..., classes]."""
    right, real, read = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    with np.errstate(invalid="ignore"):  # classes that do not occur
        accuracies = np.where(real > 0, right / real, np.nan)
        ious = np.where(real > 0, right / (real + read - right), np.nan)
        accuracy = right.sum(axis=-1) / real.sum(axis=-1)
    return Agreement(accuracy, mean_of_classes(accuracies), mean_of_classes(ious), accuracies, ious)


def agreement_of(confusion):
    """The Agreement of a confusion matrix."""
    return agreement_of_counts(counts_of(confusion))
