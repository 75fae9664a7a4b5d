"""How close generated images are to their targets: L1, PSNR, SSIM, in the graph and in files.

METRICS drives all that shows them: metrics.csv, metrics.json, log.csv, the pages, evaluate.py.
"""

from __future__ import annotations

import csv
import io
import math
import os
from typing import Any, NamedTuple

import numpy as np

from tools.lib.files import write_atomic, write_json
from tools.lib.geometry import mirror_pad
from tools.lib.image_types import ImageType, pair_of
from tools.lib.label_maps import labels_data
from tools.lib.label_metrics import agreement_of_counts, create_counts
from tools.lib.tf1 import tf
from tools.lib.values import abs_rel, find_missing, masked_absolute_error, rmse, within_125

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


class Metric(NamedTuple):
    """A way to compare an output with its target."""

    label: str  # as people read it
    better: str  # "lower" or "higher"
    digits: int | None  # after the point, where it is shown; None: as many as suit the range
    about: str  # what it is, for metrics.json and the pages
    measure: Any  # function of outputs and targets 0..1 -> [batch] float32
    unit: str = ""  # of its values; differences are shown in it, else in percent


METRICS = {  # by the column of metrics.csv
    "l1": Metric("L1", "lower", 4, "mean absolute difference of pixels 0..1", mean_absolute_error),
    "psnr": Metric("PSNR", "higher", 2, "peak signal-to-noise ratio in dB, of pixels 0..1; "
                   "infinite where an output equals its target", peak_signal_to_noise, "dB"),
    "ssim": Metric("SSIM", "higher", 4, "structural similarity of pixels 0..1 (Wang et al. 2004): "
                   "mean over channels, Gaussian window of 11x11 pixels, sigma 1.5, only places "
                   "where it fits", structural_similarity),
}
VALUE_METRICS = {  # of values in their files' units; measure takes the measured pixels as well
    "l1": Metric("L1", "lower", None, "mean absolute difference of the measured pixels, in the "
                 "files' units", masked_absolute_error),
    "rmse": Metric("RMSE", "lower", None, "root of the mean squared difference of the measured "
                   "pixels, in the files' units", rmse),
    "abs_rel": Metric("AbsRel", "lower", 4, "mean absolute difference as a share of the target, of "
                      "the measured pixels above 0 (Eigen et al. 2014)", abs_rel),
    "within_125": Metric("within 1.25", "higher", 4, "share of the measured pixels above 0 that "
                         "differ from their target by a factor of less than 1.25 (Eigen et al. "
                         "2014)", within_125),
}
LABEL_METRICS = {  # of label maps; all three follow from the counts of an image
    "pixel_accuracy": Metric("pixel accuracy", "higher", 4, "share of all pixels whose class is "
                             "read as it is (Long et al. 2015)", None),
    "class_accuracy": Metric("class accuracy", "higher", 4, "that share of each class's pixels; "
                             "mean over the classes (Long et al. 2015)", None),
    "mean_iou": Metric("mean IoU", "higher", 4, "pixels of a class that are read as it, of all "
                       "that are of it or read as it; mean over the classes (Long et al. 2015)",
                       None),
}
KINDS = {"images": METRICS, "values": VALUE_METRICS, "labels": LABEL_METRICS}  # by ImageType.kind
ALL_METRICS = {name: metric for metrics in KINDS.values() for name, metric in metrics.items()}
COUNTS = "counts"  # what a row has of label maps besides: `label_metrics.counts_of` its image
IMAGES = "output and target as written, at the size that is written"
RESAMPLES = 2000  # of the bootstrap
INTERVAL = 95  # percent
INTERVAL_ABOUT = (f"{INTERVAL} % interval of the mean: percentiles of the means of {RESAMPLES} "
                  "resamples of the images (bootstrap); null for fewer than two images")


def column_of(metric):
    """A validation's metric in log.csv and TensorBoard."""
    return f"val_{metric}"


def create_metrics(outputs, targets, side=ImageType()):
    """Name -> values [batch] of what files hold, [batch, height, width, channels]; of label maps
    COUNTS [batch, 3, classes]. side: what these are."""
    if side.kind == "labels":
        return {COUNTS: create_counts(side.classes_of(targets), side.classes_of(outputs, ignore=()),
                                      len(side.names))}
    outputs, targets = tf.convert_to_tensor(outputs), tf.convert_to_tensor(targets)
    most = targets.dtype.max
    measured = ~find_missing(targets, side.ignore) if side.kind == "values" else None
    outputs, targets = (tf.cast(batch, tf.float32) for batch in (outputs, targets))
    if side.kind == "values":
        return {name: metric.measure(outputs, targets, measured)
                for name, metric in VALUE_METRICS.items()}
    return {name: metric.measure(outputs / most, targets / most)
            for name, metric in METRICS.items()}


def read_row(values):
    """What is known of an image: name -> value, and of label maps COUNTS. values: what
    `create_metrics` gives of a batch of one."""
    if COUNTS in values:
        counts, = values[COUNTS]
        return {**dict(zip(LABEL_METRICS, map(float, agreement_of_counts(counts)), strict=False)),
                COUNTS: counts}
    return {name: float(value) for name, (value,) in values.items()}


class Summary(NamedTuple):
    """A metric over several images: of its finite values; None where these are too few. Of label
    maps the mean is the metric of all pixels of all images, and there is no deviation and no
    median."""

    mean: float | None
    standard_deviation: float | None  # of a sample: divided by n - 1
    median: float | None
    interval: list | None  # low and high
    infinite: int  # number of values that are left out
    unmeasured: int = 0  # likewise: of images without a measurement, NaN

    @property
    def is_unmeasured(self):
        """Whether no image has a measurement."""
        return self.mean is None and not self.infinite


def bootstrap_interval(values):
    """The INTERVAL of the mean of values [count], as [low, high]: the same for the same values, in
    whatever order."""
    values, rng, count = np.sort(values), np.random.default_rng(0), len(values)
    means = [values[rng.integers(0, count, count)].mean() for _ in range(RESAMPLES)]
    rest = (100 - INTERVAL) / 2
    return [float(value) for value in np.percentile(means, [rest, 100 - rest])]


def summarize(values):
    """The Summary of a metric's values."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    many = len(finite) > 1
    left_out = int(np.isinf(values).sum()), int(np.isnan(values).sum())
    if not len(finite):
        return Summary(None, None, None, None, *left_out)
    return Summary(float(finite.mean()), float(finite.std(ddof=1)) if many else None,
                   float(np.median(finite)), bootstrap_interval(finite) if many else None,
                   *left_out)


def bootstrap_labels(counts):
    """The INTERVAL of each of LABEL_METRICS over all pixels of several images, as [low, high].
    counts: [images, 3, classes]."""
    rng, number = np.random.default_rng(0), len(counts)
    times = np.stack([np.bincount(rng.integers(0, number, number), minlength=number)
                      for _ in range(RESAMPLES)])
    drawn = agreement_of_counts(np.tensordot(times.astype(np.float64), counts, axes=1))
    rest = (100 - INTERVAL) / 2
    return [np.nanpercentile(values, [rest, 100 - rest]).tolist()
            for values in drawn[:len(LABEL_METRICS)]]


def summarize_labels(counts):
    """Name -> Summary of LABEL_METRICS over all pixels of several images. counts: [images, 3,
    classes]."""
    counts = np.asarray(counts, np.float64)
    is_measured = counts[:, 1].any(axis=1)
    counts, unmeasured = counts[is_measured], int((~is_measured).sum())
    if not len(counts):
        return {name: Summary(None, None, None, None, 0, unmeasured) for name in LABEL_METRICS}
    intervals = bootstrap_labels(counts) if len(counts) > 1 else [None] * len(LABEL_METRICS)
    found = agreement_of_counts(counts.sum(axis=0))
    return {name: Summary(float(value), None, None, interval, 0, unmeasured)
            for name, value, interval in zip(LABEL_METRICS, found, intervals, strict=False)}


def describe_classes(rows, side):
    """What metrics.json and the page say of each class of label maps, as dicts: name and colour,
    its pixels in the targets, their share, its accuracy and IoU over all images, None for a class
    that does not occur. side: ImageType of the targets."""
    counts = np.sum([row[COUNTS] for row in rows], axis=0)
    found, real = agreement_of_counts(counts), counts[1]

    def known(value):
        """None for NaN."""
        return float(value) if np.isfinite(value) else None
    return [{**item, "pixels": int(pixels), "share": float(pixels / max(real.sum(), 1)),
             "accuracy": known(accuracy), "iou": known(iou)}
            for item, pixels, accuracy, iou in zip(
                labels_data(side.labels), real, found.accuracies, found.ious, strict=True)]


def metrics_of(options):
    """Name -> Metric of what a model makes; of measurements with digits that suit their range."""
    side = pair_of(options).targets
    digits = max(0, 4 - math.floor(math.log10(side.high - side.low)))
    return {name: metric._replace(digits=digits) if metric.digits is None else metric
            for name, metric in KINDS[side.kind].items()}


def summarize_rows(rows, metrics=METRICS):
    """Name -> Summary of rows, each name -> value of an image. metrics: name -> Metric."""
    if metrics.keys() == LABEL_METRICS.keys():
        return summarize_labels([row[COUNTS] for row in rows])
    return {name: summarize([row[name] for row in rows]) for name in metrics}


def describe_means(summaries):
    """The means in one line. summaries: name -> Summary."""
    def describe(summary):
        """One of them."""
        if summary.mean is not None:
            return f"{summary.mean:.4g}"
        return "not measured" if summary.is_unmeasured else "infinite"
    return ", ".join(f"{name} {describe(summary)}" for name, summary in summaries.items())


def summary_data(summaries, count):
    """What metrics.json says of count images. summaries: name -> Summary."""
    return {
        "count": count, **{name: summary.mean for name, summary in summaries.items()},
        "standard_deviation": {name: summary.standard_deviation
                               for name, summary in summaries.items()},
        "median": {name: summary.median for name, summary in summaries.items()},
        "interval": {name: summary.interval for name, summary in summaries.items()},
        "infinite": {name: summary.infinite for name, summary in summaries.items()},
        **({"unmeasured": {name: summary.unmeasured for name, summary in summaries.items()}}
           if any(summary.unmeasured for summary in summaries.values()) else {})}


def describe_protocol(metrics=METRICS):
    """What metrics.json says of how the figures are computed. metrics: name -> Metric."""
    return {"images": IMAGES, "interval": INTERVAL_ABOUT,
            **{name: metric.about for name, metric in metrics.items()}}


def write_metrics(output_dir, names, rows, summaries, about=None, metrics=METRICS):
    """Writes metrics.csv (a row per image) and metrics.json.

    rows: name -> value of each image; summaries: of `summarize_rows`. about: more for metrics.json,
    such as the checkpoint. metrics: name -> Metric.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *metrics])
    writer.writerows([name, *(f"{row[metric]:.6g}" for metric in metrics)]
                     for name, row in zip(names, rows, strict=True))
    write_atomic(output_dir / "metrics.csv", os.fsencode(text.getvalue()))
    write_json(output_dir / "metrics.json", {
        **(about or {}), **summary_data(summaries, len(rows)),
        "protocol": describe_protocol(metrics)})
