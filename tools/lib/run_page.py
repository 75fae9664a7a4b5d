"""The training page: index.html, and beside it run.js with the run's figures, which the page reads
again and again while it is open."""

from __future__ import annotations

import json

from tools.lib.cli import printable
from tools.lib.files import write_atomic
from tools.lib.page import image_link, render

SOURCES = ("series", "verdict", "chart", "strip")  # of pages/, which run.js there needs


def make_printable(value):
    """A value of JSON with each text in it on one line."""
    if isinstance(value, dict):
        return {name: make_printable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_printable(part) for part in value]
    return printable(value) if isinstance(value, str) else value


def write_script(run):
    """The figures of a run as a script that hands them to the page: bytes.

    None becomes null: not measured. NaN and infinite values stay what they are, which JavaScript
    reads and JSON does not.
    """
    shown = {key: part if key == "columns" else make_printable(part) for key, part in run.items()}
    shown["samples"]["links"] = [image_link(name) for name in run["samples"]["names"]]
    shown["display"] = [(printable(name), image_link(name)) for name in run["display"]]
    return f"showRun({json.dumps(shown, separators=(',', ':'))});\n".encode("ascii")


def write_run_page(output_dir, run):
    """Writes index.html, if it is not there yet, and run.js. run: a dict of

    title: text; number: grows with every write, over resumes too; written: seconds since 1970
    state: "running", "finished", "stopped" (by hand) or "failed"
    next: seconds within which the next write is due while the run lives
    progress: {step, stop_step or None, epoch, rate: images per second or None, remaining: seconds
        or None}
    facts: (name, value) texts; options: (flag, value text, whether it is the default)
    notes: warnings
    charts: [{title, about: a sentence, better: "lower", "higher" or None, healthy: (low, high) or
        None, lines: [{name, column}]}]; the line of the validation is named "validation"
    columns: {"step": [...], column: [value, or None where it was not measured]}, rows in order
    best: {metric: the title of its chart, step, value} or None
    samples: {folder, about: "validation" or "training", names, steps: those on disk}: the files are
        FOLDER/NAME-inputs.png, FOLDER/NAME-targets.png and FOLDER/STEP-NAME-outputs.png, where STEP
        has 8 digits
    display: names of the rows images/NAME-{inputs,outputs,targets}.png, the newest first
    """
    path, page = output_dir / "index.html", render("run", run["title"], siblings=True,
                                                   sources=SOURCES)
    if not path.exists() or path.read_bytes() != page:  # another program's, or an older version's
        write_atomic(path, page)
    write_atomic(output_dir / "run.js", write_script(run), sync=False)  # the next write mends it
