"""Reading the inputs back from outputs, by a model of the other direction.

The paper's FCN score (section 4.1) asks whether a network that was trained on real images
recognizes in generated ones what they were made from. Here that network is a model of this program.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tools.lib import label_metrics
from tools.lib.cli import create_progress_bar
from tools.lib.comparison import compare_runs
from tools.lib.images import decode_bytes, read_image, to_bytes
from tools.lib.metrics import (
    LABEL_METRICS, METRICS, summarize_labels, summarize_rows, summary_data)

CEILING = "real targets"  # as a run: what the reader reads from the targets themselves
ABOUT = ("The reader, a model trained in the other direction, reads the input back from each "
         "output, which is scored against the real input. The score says how much of the input an "
         "output still shows, in a way that the reader recognizes; it does not say how close the "
         "output is to its target, nor how real it looks to people. It depends on the reader: "
         "compare only scores of one reader. A perfect output reaches about what the real targets "
         "reach, and an output that hides the input in faint patterns may reach more.")
ACCURACY = "pixel_accuracy"  # of a single image too


class ReadBack(NamedTuple):
    """What a reader makes of several runs."""

    colours: Any  # [classes, 3] uint8; None: the inputs are no label images
    metrics: dict  # key -> Metric, in the order of a table
    summaries: dict  # run, CEILING first -> key -> Summary
    scores: dict  # run -> name of an image -> key -> value
    confusions: dict  # run -> [classes, classes]; {} without label images
    comparisons: list


def read_output(generate, score, path, real_path, colours):
    """What an image gives when it is read back: key -> value, and the confusion matrix, None
    without colours. generate: from bytes to bytes; real_path: of the real input."""
    read, real = decode_bytes(generate(to_bytes(read_image(path)))).pixels, read_image(real_path)
    scores = score(read, real)
    if colours is None:
        return scores, None
    confusion = label_metrics.count_confusion(label_metrics.nearest_classes(real, colours),
                                              label_metrics.nearest_classes(read, colours),
                                              len(colours))
    return {ACCURACY: label_metrics.agreement_of(confusion).pixel_accuracy, **scores}, confusion


def read_back(generate, score, outputs, targets, real, colours):
    """The ReadBack of runs, run -> name -> path. targets, real: name -> path of the target and of
    the real input, of the same names; others are not read. score: of two images."""
    runs = {CEILING: targets, **outputs}
    runs = {run: {name: path for name, path in paths.items() if name in real}
            for run, paths in runs.items()}
    scores, confusions, summaries = {}, {}, {}
    with create_progress_bar(sum(map(len, runs.values())), 0, "image") as bar:
        for run, paths in runs.items():
            scores[run], matrices = {}, []
            for name, path in paths.items():
                scores[run][name], confusion = read_output(generate, score, path, real[name],
                                                           colours)
                matrices.append(confusion)
                bar.update(1)
            summaries[run] = summarize_rows([*scores[run].values()])
            if colours is not None:
                confusions[run] = np.sum(matrices, axis=0)
                summaries[run] |= summarize_labels([*map(label_metrics.counts_of, matrices)])
    metrics, single = METRICS, METRICS
    if colours is not None:
        metrics = {**LABEL_METRICS, **METRICS}
        single = {ACCURACY: LABEL_METRICS[ACCURACY], **METRICS}
    comparisons = compare_runs({run: scores[run] for run in outputs}, single)
    return ReadBack(colours, metrics, summaries, scores, confusions, comparisons)


def colour_text(colour):
    """A colour as --label_colours takes it."""
    return "{:02x}{:02x}{:02x}".format(*colour)


def describe_classes(confusion, colours):
    """What metrics.json says of each class that occurs."""
    found, real = label_metrics.agreement_of(confusion), confusion.sum(axis=1)
    return [{"colour": colour_text(colour), "share": float(count / real.sum()),
             "accuracy": float(accuracy), "iou": float(iou)}
            for colour, count, accuracy, iou in zip(
                colours, real, found.accuracies, found.ious, strict=True) if count]


def read_back_data(found, reader):
    """What metrics.json says of a ReadBack. reader: its path."""
    return {
        "reader": reader, "about": ABOUT,
        "protocol": {key: metric.about for key, metric in found.metrics.items()},
        "runs": [{"name": run, **summary_data(summary, len(found.scores[run])),
                  **({"classes": describe_classes(found.confusions[run], found.colours)}
                     if found.confusions else {})} for run, summary in found.summaries.items()],
        "comparisons": [row._asdict() for row in found.comparisons]}
