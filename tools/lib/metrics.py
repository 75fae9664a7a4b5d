"""How close generated images are to their targets: L1, PSNR, SSIM, in the graph and in files.

METRICS drives all that shows them: metrics.csv, metrics.json, the page, the line at the end.
"""

from __future__ import annotations

import csv
import io
import os

import numpy as np

from tools.lib.files import write_atomic, write_json
from tools.lib.geometry import mirror_pad
from tools.lib.tf1 import tf

SSIM_SIZE = 11  # pixels; with its sigma the window of Wang et al. 2004
SSIM_SIGMA = 1.5
SSIM_BAND = 256  # rows that it is computed for at a time


def mean_absolute_error(outputs, targets):
    """[batch] of images 0..1 [batch, height, width, channels]."""
    return tf.reduce_mean(tf.abs(outputs - targets), axis=[1, 2, 3])


def peak_signal_to_noise(outputs, targets):
    """PSNR in dB [batch] of images 0..1 [batch, height, width, channels]."""
    return tf.image.psnr(outputs, targets, max_val=1.0)


def blur(images):
    """Means under SSIM's window: [batch, height, width, channels] -> 10 less in height and width.

    The window exp(-(x**2 + y**2) / (2 sigma**2)) is separable: 22 multiplications per value instead
    of `tf.image.ssim`'s 121, in half of its time.
    """
    window = np.exp(-((np.arange(SSIM_SIZE) - SSIM_SIZE // 2) / SSIM_SIGMA) ** 2 / 2)
    window = (window / window.sum()).astype(np.float32)
    for shape in ([SSIM_SIZE, 1, 1, 1], [1, SSIM_SIZE, 1, 1]):
        kernel = np.tile(window.reshape(shape), [1, 1, images.shape[3], 1])
        images = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "VALID")
    return images


def similarity_map(x, y):
    """SSIM at each place of its window in images 0..1 [batch, height, width, channels] (Wang et al.
    2004)."""
    means_x, means_y, means_xy, means_squares = tf.split(
        blur(tf.concat([x, y, x * y, x * x + y * y], axis=0)), 4)
    product, squares = means_x * means_y, means_x**2 + means_y**2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * (means_xy - product) + c2) / (means_squares - squares + c2)
    return luminance * structure


def structural_similarity(x, y):
    """SSIM [batch] of images 0..1 [batch, height, width, channels]. Images smaller than its window
    are mirrored up to that.

    A band of rows at a time: of images of 4096x4096 at once, it took 3 GB of memory.
    """
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    if None in x.shape[1:3].as_list() or min(x.shape[1:3]) < SSIM_SIZE:
        size = tf.maximum(tf.shape(x)[1:3], SSIM_SIZE)
        x, y = tf.cond(tf.reduce_all(tf.shape(x)[1:3] >= SSIM_SIZE), lambda: (x, y),
                       lambda: (mirror_pad(x, size)[0], mirror_pad(y, size)[0]))
    rows = tf.shape(x)[1] - SSIM_SIZE + 1  # places of the window

    def add_band(first, total):
        """Loop body: adds the mean of the band that begins at a row, by its share of all rows."""
        last = tf.minimum(first + SSIM_BAND, rows)
        band = similarity_map(*(batch[:, first:last + SSIM_SIZE - 1] for batch in (x, y)))
        share = tf.cast(last - first, tf.float32) / tf.cast(rows, tf.float32)
        return last, total + share * tf.reduce_mean(band, axis=[1, 2, 3])

    start = [tf.constant(0), tf.zeros_like(x[:, 0, 0, 0])]
    _, total = tf.while_loop(lambda first, _: first < rows, add_band, start,
                             [tf.TensorShape([]), tf.TensorShape([None])], parallel_iterations=1)
    return total


METRICS = {  # column of metrics.csv -> function of outputs and targets 0..1 -> [batch] float32
    "l1": mean_absolute_error,
    "psnr": peak_signal_to_noise,
    "ssim": structural_similarity,  # RGB, Gaussian 11x11 window, sigma 1.5
}


def create_metrics(outputs, targets):
    """Name -> values [batch] of uint8 images [batch, height, width, channels]."""
    outputs, targets = (tf.cast(batch, tf.float32) / 255 for batch in (outputs, targets))
    return {name: metric(outputs, targets) for name, metric in METRICS.items()}


def write_metrics(output_dir, names, rows):
    """Writes metrics.csv (a row per image) and metrics.json (means); returns name -> mean.

    rows: name -> value of each image.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *METRICS])
    writer.writerows([name, *(f"{row[metric]:.6g}" for metric in METRICS)]
                     for name, row in zip(names, rows, strict=True))
    write_atomic(output_dir / "metrics.csv", os.fsencode(text.getvalue()))
    means = dict(zip(METRICS, map(float, np.mean([[*row.values()] for row in rows], axis=0)),
                     strict=True))
    write_json(output_dir / "metrics.json", {"count": len(rows), **means})
    return means
