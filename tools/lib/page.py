"""The HTML page of a run or a test: index.html beside its images.

A page is one file. Its style and script, which lie in pages/, are written into it, and its policy
names their hashes, so that nothing else runs and nothing is loaded but images beside it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import statistics
import string
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from tools.lib.cli import printable
from tools.lib.files import write_atomic

KINDS = ("inputs", "outputs", "targets")  # of images/NAME-KIND.png, and columns of the page
PAGES = Path(__file__).with_name("pages")


def escape(text):
    """A text as HTML shows it, on one line."""
    return html.escape(printable(text))


def source_hash(source):
    """What a Content-Security-Policy calls a style or script that a page holds."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def read_sources(ending, names):
    """Style or script files of pages/, those of these names that there are, as one text."""
    paths = [PAGES / f"{name}{ending}" for name in names]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.exists())


def write_data(data):
    """Data as JSON that an HTML script element may hold: no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def render(name, title, parts=None, data=None, siblings=False, sources=()):
    """A page of pages/NAME.html with base and NAME of both .css and .js: bytes.

    parts: name -> HTML that stands for $name in NAME.html. data: what the script reads from the
    element `data`. siblings: whether the page loads scripts that lie beside it. sources: more
    styles and scripts, between base and NAME.
    """
    css, js = (read_sources(ending, ["base", *sources, name]) for ending in (".css", ".js"))
    own = " 'self'" if siblings else ""
    policy = ("default-src 'none'; img-src 'self' data: blob:; "
              f"style-src {source_hash(css)}; script-src {source_hash(js)}{own}; "
              "base-uri 'none'; form-action 'none'")
    shell, body = (string.Template((PAGES / f"{part}.html").read_text(encoding="utf-8"))
                   for part in ("shell", name))
    body = body.substitute({"title": escape(title), **(parts or {})})
    return shell.substitute(policy=policy, title=escape(title), css=css, js=js, body=body.rstrip(),
                            data=write_data(data)).encode()


def number_data(value):
    """A float for `write_data`, as JavaScript's Number reads it: the text where it is not finite,
    for which JSON has no number."""
    if math.isfinite(value):
        return float(f"{value:.6g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def write_facts(facts):
    """(name, value) texts as an HTML list."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
                   for name, value in facts)
    return f'<dl class="facts">{rows}</dl>' if facts else ""


def write_notes(notes):
    """Warnings as HTML."""
    return "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes)


# --------------------------------------------------------------------------------------------------
# The page of a test
# --------------------------------------------------------------------------------------------------


class Metric(NamedTuple):
    """How the page shows a metric."""

    name: str  # column of metrics.csv
    label: str
    better: str  # "lower" or "higher"
    digits: int  # after the point
    about: str  # what it is


class Statistics(NamedTuple):
    """What the values of a metric come to; None where there are too few."""

    mean: float | None  # this and the next two: of the finite values
    median: float | None
    deviation: float | None  # of the sample, by n - 1
    worst: int | None  # index of the value; NaN is none
    best: int | None
    infinite: int  # number of values
    nan: int


def summarize(values, better):
    """Statistics of a metric's values. better: "lower" or "higher"."""
    finite = [value for value in values if math.isfinite(value)]
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    ends = [choose(known, key=values.__getitem__, default=None) for choose in (max, min)]
    worst, best = ends if better == "lower" else reversed(ends)
    return Statistics(
        mean=statistics.fmean(finite) if finite else None,
        median=statistics.median(finite) if finite else None,
        deviation=statistics.stdev(finite) if len(finite) > 1 else None,
        worst=worst, best=best, infinite=len(known) - len(finite), nan=len(values) - len(known))


def number_text(value, digits):
    """A number as the page shows it, as `formatNumber` of base.js does."""
    if value is None or math.isnan(value):
        return "–" if value is None else "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}".replace("-", "−")


def image_link(name):
    """The name of an image's files, without "-KIND.png", as part of an address."""
    return urllib.parse.quote(os.fsencode(name))


def write_statistic(word, value, digits, link=""):
    """A statistic as HTML. link: to the image that has this value."""
    return f"<div><dt>{word}</dt><dd>{number_text(value, digits)}</dd>{link}</div>"


def write_extreme(word, index, metric, rows):
    """A metric's worst or best image as HTML: its value and a link."""
    if index is None:
        return ""
    name, values = rows[index]
    link = (f'<dd><a href="images/{image_link(name)}-outputs.png" data-row="{index}">'
            f"{escape(name)}</a></dd>")
    return write_statistic(word, values[metric.name], metric.digits, link)


def write_excluded(counted, total):
    """What a metric's chart and mean do not contain, as HTML. counted: Statistics."""
    counts = [(counted.infinite, "infinite"), (counted.nan, "NaN")]
    parts = [f"{count:,} {'is' if count == 1 else 'are'} {what}" for count, what in counts if count]
    if not parts:
        return ""
    return (f'<p class="note">Of {total:,} values {" and ".join(parts)}: not in the chart, the '
            "mean, the median and the deviation.</p>")


def write_interval(interval, digits):
    """The interval of a mean, low and high, as HTML; "" for None."""
    if interval is None:
        return ""
    low, high = (number_text(value, digits) for value in interval)
    return (f'<div><dt title="of the mean: where it would lie with other images of this kind">95 % '
            f"interval</dt><dd>{low} to {high}</dd></div>")


def write_metric(metric, counted, interval, rows):
    """A metric's place on the page as HTML: chart, statistics, what they leave out. interval: of
    the mean, or None."""
    shown = [write_statistic(word, getattr(counted, word), metric.digits)
             for word in ("mean", "median", "deviation")]
    shown.insert(1, write_interval(interval, metric.digits))
    shown += [write_extreme(word, getattr(counted, word), metric, rows)
              for word in ("worst", "best")]
    chart = "" if counted.mean is None else \
        '<div class="chart"></div>\n<p class="hint muted small"></p>\n'
    return (f'<section class="card" data-metric="{escape(metric.name)}">\n'
            f'<h2>{escape(metric.label)} <span class="muted small">{metric.better} is better</span>'
            f"</h2>\n{chart}"
            f'<dl class="statistics number">{"".join(shown)}</dl>\n'
            f"{write_excluded(counted, len(rows))}</section>")


def write_about(metrics):
    """What the metrics are, as HTML that can be unfolded."""
    if not metrics:
        return ""
    rows = "".join(f"<div><dt>{escape(metric.label)}</dt><dd>{escape(metric.about)}</dd></div>"
                   for metric in metrics)
    return ('<details class="small"><summary>What the metrics are</summary>'
            f'<dl class="facts">{rows}</dl></details>')


def write_test_page(output_dir, title, facts, notes, kinds, metrics, rows, intervals=None):
    """Writes index.html of a test: metrics, and a row per image that opens a large view.

    facts: (name, value) texts. kinds: KINDS or the first two. metrics: list of Metric. rows: list
    of (name, {name of a metric: float}), where floats may be infinite or NaN. intervals: name of a
    metric -> (low, high) of its mean, or None.
    """
    intervals = intervals or {}
    counted = {metric.name: summarize([values[metric.name] for _, values in rows], metric.better)
               for metric in metrics}
    data = {
        "kinds": [*kinds],
        "metrics": [{**metric._asdict(), "mean": counted[metric.name].mean,
                     "median": counted[metric.name].median} for metric in metrics],
        "rows": [[name, image_link(name), *(number_data(values[metric.name]) for metric in metrics)]
                 for name, values in rows]}
    parts = {"facts": write_facts(facts), "notes": write_notes(notes),
             "metrics": "\n".join([write_metric(metric, counted[metric.name],
                                                intervals.get(metric.name), rows)
                                   for metric in metrics] + [write_about(metrics)])}
    write_atomic(output_dir / "index.html",
                 render("test", title, parts, data, sources=("histogram", "table", "viewer")))


# --------------------------------------------------------------------------------------------------
# The images
# --------------------------------------------------------------------------------------------------


def save_images(output_dir, names, images):
    """Writes images/NAME-{inputs,outputs,targets}.png. images: for each kind a list of PNG files,
    which is empty where there is no such kind."""
    for kind, batch in zip(KINDS, images, strict=True):
        for name, contents in zip(names, batch, strict=len(batch) > 0):
            (output_dir / "images" / f"{name}-{kind}.png").write_bytes(contents)
