"""The training page: index.html, and beside it run.js with the run's figures, which the page reads
again and again while it is open."""

from __future__ import annotations

import json
import math

from tools.lib.cli import printable
from tools.lib.files import write_atomic
from tools.lib.metrics import ALL_METRICS, column_of, metrics_of
from tools.lib.page import image_link, render
from tools.lib.run_folder import list_sources

SOURCES = ("series", "verdict", "chart", "strip")  # of pages/, which run.js there needs
MAX_ROWS = 4000  # of log.csv that the page shows
HEALTHY = (0.3, 1.2)  # of discrim_loss, with cross entropy and without label smoothing
TRAIN_L1 = "train_l1"  # a column that the log does not have
FOUND = ("seed", "trained_ratio", "a_channels", "b_channels", "a_type",
         "b_type")  # that nobody has to choose
ABOUT = {  # column of the log -> title of its chart, and what it shows
    "discrim_loss": ("Discriminator loss", "near 0 the discriminator always wins, and teaches the "
                     "generator little"),
    "gen_loss_GAN": ("Generator's GAN loss", "how far the discriminator is from taking generated "
                     "images for real"),
    "gen_loss_feature": ("Feature loss", "difference of the discriminator's features")}


# --------------------------------------------------------------------------------------------------
# What the page is told
# --------------------------------------------------------------------------------------------------


def choose_charts(options, columns):
    """The charts of a run whose log has some columns, the most telling first."""
    def chart(title, about, *lines, better=None, unit="", healthy=None):
        """A chart; lines: (name, column), of which there may be none in the log."""
        lines = [{"name": name, "column": column} for name, column in lines
                 if column in (*columns, TRAIN_L1)]
        return {"title": title, "about": about, "better": better, "unit": unit,
                "healthy": healthy, "lines": lines}

    training = [] if options.lab_colorization else [("training", TRAIN_L1)]
    charts = [chart(metric.label, metric.about, *(training if name == "l1" else []),
                    ("validation", column_of(name)), better=metric.better, unit=metric.unit)
              for name, metric in metrics_of(options).items()]
    if options.lab_colorization:
        charts.append(chart("L1 of colour", "mean absolute difference of Lab's channels -1..1",
                            ("training", "gen_loss_L1"), better="lower"))
    plain = options.gan_loss == "vanilla" and options.label_smoothing == 0
    charts += [chart(*ABOUT.get(name, (name, "a loss")), ("training", name),
                     healthy=HEALTHY if plain and name == "discrim_loss" else None)
               for name in columns if name in ABOUT or name.startswith("gen_loss_")
               and name != "gen_loss_L1"]
    charts.append(chart("Discriminator accuracy", "share of real pairs it calls real, and of "
                        "generated pairs it calls generated; 0.5 is guessing",
                        ("real", "discrim_real_accuracy"), ("generated", "discrim_fake_accuracy")))
    if options.lr_decay != "none":
        charts.append(chart("Learning rate", f"falls by --lr_decay {options.lr_decay}",
                            ("training", "lr")))
    return [chart for chart in charts if chart["lines"]]


def choose_rows(rows):
    """Every so many of the rows, so that there are about MAX_ROWS at most; all validations."""
    step = math.ceil(max(len(rows), 1) / MAX_ROWS)
    return [row for index, row in enumerate(rows)
            if index % step == 0 or index == len(rows) - 1
            or any(row.get(column_of(name)) for name in ALL_METRICS)]


def read_number(text):
    """A cell of the log as a number; None for an empty one, or one that somebody has edited."""
    try:
        return float("" if text is None else text)
    except ValueError:
        return None


def read_columns(rows, charts):
    """What the charts show of the rows of a log, name -> text or number: name -> list of numbers.
    The training images' L1 is for pixels 0..1, as the metric is; the loss is for -1..1."""
    names = {line["column"] for chart in charts for line in chart["lines"]}
    table = {name: [read_number(row.get(name)) for row in rows] for name in names - {TRAIN_L1}}
    if TRAIN_L1 in names:
        losses = [read_number(row.get("gen_loss_L1")) for row in rows]
        table[TRAIN_L1] = [None if loss is None else loss / 2 for loss in losses]
    return {"step": [int(row["step"]) for row in rows], **table}


def list_options(options, defaults):
    """(flag, value as text, whether it is as nobody has chosen it) of each option. defaults: name
    -> value. The seed may have been drawn, and the ratio is found in the images."""
    def text_of(value):
        """As it is on a command line; of classes their names."""
        if isinstance(value, list):
            return " ".join(str(item["name"] if isinstance(item, dict) else item) for item in value)
        return str(value)
    return [(f"--{name}", text_of(value), value == defaults.get(name) or name in FOUND)
            for name, value in sorted(vars(options).items())]


def describe_run(options, found, val_found):
    """(name, value) texts: what a run learns from and is validated on, each a dataset.ImageList or
    None, and how."""
    folders = ", ".join(folder for _, folder in list_sources(options))
    facts = [("training", f"{len(found.examples):,} pairs in {folders}")]
    if val_found:
        facts.append(("validation", f"{len(val_found.examples):,} pairs in "
                      f"{', '.join(options.val_dir)}"))
    return [*facts, ("--batch_size", str(options.batch_size)), ("--lr", str(options.lr)),
            ("--crop_size", str(options.crop_size))]


# --------------------------------------------------------------------------------------------------
# Writing it
# --------------------------------------------------------------------------------------------------


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
    charts: [{title, about: a sentence, better: "lower", "higher" or None, unit: of differences,
        "" for percent, healthy: (low, high) or None, lines: [{name, column}]}]; the line of the
        validation is named "validation"
    columns: {"step": [...], column: [value, or None where it was not measured]}, rows in order
    best: {metric: the title of its chart, step, value, checkpoint: its name in the folder, or None
        where it is not there} or None
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
