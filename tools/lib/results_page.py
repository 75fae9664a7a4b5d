"""The page of a test: index.html with the metrics, and a row per image that opens a large view."""

from __future__ import annotations

import math
from typing import NamedTuple

from tools.lib.files import write_atomic
from tools.lib.page import (
    escape, image_link, number_data, number_text, render, write_facts, write_notes)

SOURCES = ("histogram", "table", "viewer")  # of pages/, which test.js there needs


class Ends(NamedTuple):
    """What the page links or counts of a metric's values."""

    worst: int | None  # index of the value; NaN is none
    best: int | None
    infinite: int  # number of values
    nan: int


def find_ends(values, better):
    """Ends of a metric's values. better: "lower" or "higher"."""
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    ends = [choose(known, key=values.__getitem__, default=None) for choose in (max, min)]
    worst, best = ends if better == "lower" else reversed(ends)
    infinite = sum(map(math.isinf, values))
    return Ends(worst, best, infinite, len(values) - len(known))


def write_statistic(word, value, digits, link=""):
    """A statistic as HTML. link: to the image that has this value."""
    return f"<div><dt>{word}</dt><dd>{number_text(value, digits)}</dd>{link}</div>"


def write_end(word, index, name, metric, rows, ending):
    """A metric's worst or best image as HTML: its value and a link. ending: of the shown output."""
    if index is None:
        return ""
    image, values = rows[index]
    link = (f'<dd><a href="images/{image_link(image)}{ending}" data-row="{index}">'
            f"{escape(image)}</a></dd>")
    return write_statistic(word, values[name], metric.digits, link)


def write_excluded(ends, total):
    """What a metric's chart and mean do not contain, as HTML."""
    counts = [(ends.infinite, "infinite"), (ends.nan, "NaN")]
    parts = [f"{count:,} {'is' if count == 1 else 'are'} {what}" for count, what in counts if count]
    if not parts:
        return ""
    return (f'<p class="note">Of {total:,} values {" and ".join(parts)}: not in the chart, the '
            "mean, the median and the deviation.</p>")


def write_interval(interval, digits, is_of_all=False):
    """The interval of a mean, low and high, as HTML; "" for None. is_of_all: it is no mean, but the
    figure of all pixels."""
    if interval is None:
        return ""
    low, high = (number_text(value, digits) for value in interval)
    what, text = ("it", "interval") if is_of_all else ("the mean", "interval of the mean")
    return (f'<div><dt title="where {what} would lie with other images of this kind">95 % '
            f"{text}</dt><dd>{low} to {high}</dd></div>")


def write_metric(name, metric, summary, rows, ending):
    """A metric's place on the page as HTML: chart, statistics, what they leave out. ending: of the
    shown output."""
    ends = find_ends([values[name] for _, values in rows], metric.better)
    is_of_all = summary.mean is not None and summary.median is None  # pixels, of label maps
    shown = [write_statistic("of all pixels" if is_of_all else "mean", summary.mean, metric.digits),
             write_interval(summary.interval, metric.digits, is_of_all),
             *([] if is_of_all else [
                 write_statistic("median", summary.median, metric.digits),
                 write_statistic("std. dev.", summary.standard_deviation, metric.digits)]),
             write_end("worst", ends.worst, name, metric, rows, ending),
             write_end("best", ends.best, name, metric, rows, ending)]
    hint, chart = ("", "") if summary.mean is None else (
        ' <span class="hint muted small"></span>', '<div class="chart"></div>\n')
    return (f'<section class="card" data-metric="{escape(name)}">\n'
            f'<h2>{escape(metric.label)} <span class="muted small">{metric.better} is better</span>'
            f"{hint}</h2>\n{chart}"
            f'<dl class="statistics number">{"".join(shown)}</dl>\n'
            f"{write_excluded(ends, len(rows))}</section>")


def write_class(item):
    """A row of the table of classes as HTML; figures that are not known are dashes."""
    colour = "#{:02x}{:02x}{:02x}".format(*item["rgb"])
    share = item.get("share")
    texts = ["–" if share is None else f"{share:.1%}",
             *(number_text(item.get(name), 3) for name in ("accuracy", "iou"))]
    figures = "".join(f'<td class="number">{text}</td>' for text in texts)
    return (f'<tr><th scope="row"><svg width="14" height="14" aria-hidden="true">'
            f'<rect width="14" height="14" fill="{colour}"/></svg> {escape(item["name"])}</th>'
            f"{figures}</tr>")


def write_classes(classes):
    """The table of classes as HTML, which is their legend too. classes: as in
    `write_results_page`."""
    titles = ("Class", "of the pixels", "accuracy", "IoU")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    rows = "\n".join(map(write_class, classes))
    return (f'<section class="card" id="classes">\n<h2>Classes</h2>\n<div tabindex="0"><table>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div></section>")


def write_about(metrics):
    """What the metrics are, as HTML that can be unfolded."""
    if not metrics:
        return ""
    rows = "".join(f"<div><dt>{escape(metric.label)}</dt><dd>{escape(metric.about)}</dd></div>"
                   for metric in metrics.values())
    return ('<details class="small"><summary>What the metrics are</summary>'
            f'<dl class="facts">{rows}</dl></details>')


def write_results_page(output_dir, title, facts, notes, endings, metrics, rows, summaries,
                       classes=()):
    """Writes index.html of a test: metrics, and a row per image that opens a large view.

    facts: (name, value) texts. endings: each of KINDS, or of the first two -> how the names of its
    files end, first of the one that is shown. metrics: name -> metrics.Metric.
    rows: list of (name of an image, {name of a metric: float}), where floats may be infinite or
    NaN. summaries: name of a metric -> metrics.Summary. classes: of label maps, dicts with name,
    rgb, and where there are targets share, accuracy and iou, which may be None.
    """
    shown = [{"name": name, "label": metric.label, "better": metric.better,
              "digits": metric.digits, "about": metric.about, "mean": summaries[name].mean,
              "median": summaries[name].median} for name, metric in metrics.items()]
    data = {"kinds": [*endings], "endings": endings, "metrics": shown,
            "rows": [[image, image_link(image), *(number_data(values[name]) for name in metrics)]
                     for image, values in rows]}
    cards = [write_metric(name, metric, summaries[name], rows, endings["outputs"][0])
             for name, metric in metrics.items()]
    parts = {"facts": write_facts(facts), "notes": write_notes(notes),
             "metrics": "\n".join([*cards, *[write_classes(classes)] * bool(classes)]),
             "about": write_about(metrics)}
    write_atomic(output_dir / "index.html", render("test", title, parts, data, sources=SOURCES))
