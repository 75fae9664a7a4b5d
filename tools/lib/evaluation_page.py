"""The page of an evaluation: runs side by side, index.html that links their images."""

from __future__ import annotations

import math
import os
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

from tools.lib.files import write_atomic
from tools.lib.page import escape, number_text, render, write_facts, write_notes
from tools.lib.read_back import ABOUT


class Shown(NamedTuple):
    """What the page shows of an evaluation."""

    title: str
    facts: list  # (name, value) texts
    notes: list  # warnings
    metrics: dict  # of images: key -> metrics.Metric
    means: dict  # these, and metrics of a run as a whole
    summaries: dict  # run -> key -> metrics.Summary
    counts: dict  # run -> number of images
    comparisons: list  # of comparison.Comparison
    targets: dict  # name of an image -> path, in the order of the names
    outputs: dict  # run -> name -> path
    scores: dict  # run -> name -> key -> value
    sizes: dict  # name -> (height, width)
    about: dict  # name -> what the page explains of it
    read_back: Any = None  # of read_back.ReadBack


def link_to(path, folder):
    """A file's address as a page in a folder gives it: relative, absolute on another drive."""
    path = Path(os.path.abspath(path))
    try:
        relative = Path(os.path.relpath(path, os.path.abspath(folder))).as_posix()
    except ValueError:  # Windows
        return path.as_uri()
    return urllib.parse.quote(os.fsencode(relative))


# --------------------------------------------------------------------------------------------------
# Means
# --------------------------------------------------------------------------------------------------


def write_mean(summary, digits):
    """A Summary as the cell of a table."""
    interval = ""
    if summary.interval:
        low, high = (number_text(value, digits) for value in summary.interval)
        interval = f"<small>{low} to {high}</small>"
    mean = "∞" if summary.mean is None and summary.infinite else number_text(summary.mean, digits)
    if summary.mean is not None and summary.infinite:
        interval += f"<small>{summary.infinite} infinite, not counted</small>"
    return f'<td class="number">{mean}{interval}</td>'


def write_means(summaries, counts, metrics):
    """The table of means: a column per run, a row per metric. summaries: run -> key -> Summary;
    counts: run -> number of images."""
    head = "".join(f'<th scope="col" class="number">{escape(run)}</th>' for run in summaries)
    rows = [f'<tr><th scope="row">{escape(metric.label)} '
            f'<span class="muted small">{metric.better} is better</span></th>'
            + "".join(write_mean(found[key], metric.digits) for found in summaries.values())
            + "</tr>" for key, metric in metrics.items()]
    counts = "".join(f'<td class="number">{counts[run]:,}</td>' for run in summaries)
    return ('<table class="means" aria-label="Means">\n'
            f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n"
            + "\n".join(rows) + f'\n<tr><th scope="row">Images</th>{counts}</tr>\n</tbody>\n'
            "</table>")


def write_comparisons(comparisons):
    """The verdicts as a list."""
    if not comparisons:
        return ""
    lines = "\n".join(f'<li class="{"few" if row.p is None else row.verdict}">{escape(row.words)}'
                      "</li>" for row in comparisons)
    return f'<ul class="verdicts">\n{lines}\n</ul>'


def write_explanations(about):
    """What the figures are, as HTML that can be unfolded."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
                   for name, text in about.items())
    return (f'<details class="small"><summary>What the figures are</summary>'
            f'<dl class="facts">{rows}</dl></details>')


def write_read_back(found):
    """A section on what was read back from the outputs. found: ReadBack or None."""
    if found is None:
        return ""
    counts = {run: len(rows) for run, rows in found.scores.items()}
    about = {"What this is": ABOUT,
             **{metric.label: metric.about for metric in found.metrics.values()}}
    return ('<section class="card" aria-labelledby="read-back">\n<h2 id="read-back">Inputs read '
            'back <span class="muted small">from each output, and from the real targets as the '
            'ceiling</span></h2>\n<div class="wide" tabindex="0" role="region" '
            'aria-label="Means of what was read back">\n'
            + write_means(found.summaries, counts, found.metrics) + "\n</div>\n"
            + write_comparisons(found.comparisons) + write_explanations(about) + "\n</section>")


# --------------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------------


def write_image(path, output_dir, alt, size):
    """An image as HTML that opens it."""
    link, (height, width) = escape(link_to(path, output_dir)), size
    return (f'<a href="{link}"><img src="{link}" alt="{escape(alt)}" width="{width}" '
            f'height="{height}" loading="lazy" decoding="async"></a>')


def write_values(values, metrics):
    """An image's metrics as HTML."""
    return '<dl class="number">' + "".join(
        f"<div><dt>{escape(metric.label)}</dt><dd>{number_text(values[key], metric.digits)}</dd>"
        "</div>" for key, metric in metrics.items()) + "</dl>"


def write_row(shown, name, output_dir):
    """The target of a name and each run's output, as a row of a table."""
    cells = [write_image(shown.targets[name], output_dir, f"target {name}", shown.sizes[name])]
    for run, outputs in shown.outputs.items():
        cells.append('<span class="muted">none</span>' if name not in outputs else
                     write_image(outputs[name], output_dir, f"{run} {name}", shown.sizes[name])
                     + write_values(shown.scores[run][name], shown.metrics))
    return (f'<tr><th scope="row">{escape(name)}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")


def spread(name, key, scores):
    """The largest difference between runs in one metric of an image; -1 where fewer than two have
    it."""
    values = [rows[name][key] for rows in scores.values() if name in rows]
    if len(values) < 2:
        return -1.0
    difference = 0.0 if max(values) == min(values) else max(values) - min(values)
    return -1.0 if math.isnan(difference) else difference


def list_orders(shown, names):
    """Orders of the images: [{"label", "order": indices of names}], the first as they are shown."""
    def order_by(key_of):
        """Indices of names, the largest key first."""
        keys = [key_of(name) for name in names]
        return sorted(range(len(names)), key=lambda index: -keys[index])

    orders = []
    for key, metric in shown.metrics.items():
        if len(shown.outputs) > 1:
            orders.append({"label": f"largest difference in {metric.label}",
                           "order": order_by(lambda name, key=key: spread(name, key,
                                                                          shown.scores))})
    orders.append({"label": "name", "order": [*range(len(names))]})
    for key, metric in shown.metrics.items():
        sign = 1 if metric.better == "lower" else -1
        for run, rows in shown.scores.items():
            orders.append({"label": f"worst {metric.label} of {run}", "order": order_by(
                lambda name, rows=rows, key=key, sign=sign:
                    sign * rows[name][key] if name in rows else -math.inf)})
    return orders


def write_images(shown, names, output_dir):
    """The table of images: a row per name, a column for the target and for each run."""
    head = "".join(f'<th scope="col">{escape(text)}</th>'
                   for text in ("name", "target", *shown.outputs))
    return (f'<table id="rows" aria-label="Images">\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
            + "\n".join(write_row(shown, name, output_dir) for name in names)
            + "\n</tbody>\n</table>")


def write_evaluation_page(output_dir, shown):
    """Writes index.html of an evaluation. shown: Shown.

    Images are linked where they are: a copy would take as much room as all the tests together.
    """
    names = [name for name in shown.targets if any(name in rows for rows in shown.scores.values())]
    orders = list_orders(shown, names)
    first = [names[index] for index in orders[0]["order"]]
    place = {name: index for index, name in enumerate(first)}
    data = {"orders": [{"label": order["label"],
                        "order": [place[names[index]] for index in order["order"]]}
                       for order in orders]}
    parts = {"facts": write_facts(shown.facts), "notes": write_notes(shown.notes),
             "summary": write_means(shown.summaries, shown.counts, shown.means),
             "comparisons": write_comparisons(shown.comparisons),
             "about": write_explanations(shown.about),
             "read_back": write_read_back(shown.read_back),
             "images": write_images(shown, first, output_dir)}
    write_atomic(output_dir / "index.html", render("evaluate", shown.title, parts, data))
