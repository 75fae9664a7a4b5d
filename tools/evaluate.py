#!/usr/bin/env python3
"""Scores test results against their targets, several runs side by side.

    python tools/evaluate.py facades_test
    python tools/evaluate.py facades_test other_test --output_dir comparison
    python tools/evaluate.py facades_test results/facades --targets targets

A run is a folder that test mode wrote, or any folder of images with the names of the targets. The
figures are those of test mode. Each run is compared with the first, image by image.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "tensorflow", "scipy")

from tools.lib.cli import Options, UserError, printable, say, warn
from tools.lib.comparison import ABOUT, compare_runs
from tools.lib.evaluation_page import Shown, write_evaluation_page
from tools.lib.files import (
    describe_missing, lock_folder, match_names, unique_names, write_atomic, write_json)
from tools.lib.image_files import describe_no_images, list_folder
from tools.lib.images import read_image
from tools.lib.metrics import (
    METRICS, create_metrics, describe_protocol, summarize_rows, summary_data)
from tools.lib.tf1 import session_config, tf

KINDS = ("outputs", "targets", "inputs")
ENDINGS = [  # of file names, by program: in the order of KINDS
    ("-outputs", "-targets", "-inputs"),  # pix2pix.py, and affinelayer's
    ("_fake_B", "_real_B", "_real_A"),  # pytorch-CycleGAN-and-pix2pix
    ("_synthesized_image", None, "_input_label")]  # pix2pixHD, SPADE
EXAMPLES = """\
  python tools/evaluate.py facades_test
  python tools/evaluate.py facades_test other_test --output_dir comparison
  python tools/evaluate.py facades_test results/facades --targets targets"""

# --------------------------------------------------------------------------------------------------
# Folders
# --------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A run to score."""

    label: str  # as it is shown
    folder: Path
    outputs: dict  # name of an image -> path


def list_images(folder, flag):
    """The images of a folder, and of its folder images/: a list for each. Raises UserError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{flag} {folder} is not a folder: {describe_missing(folder)}")
    try:
        return [list_folder(path).images for path in (folder / "images", folder) if path.is_dir()]
    except OSError as error:
        raise UserError(f"{flag} {folder} cannot be read ({error.strerror}): choose another") \
            from error


def strip_ending(path, ending):
    """The path without what a program adds to an image's name."""
    return path.with_name(path.stem.removesuffix(ending) + path.suffix)


def find_kind(folder, flag, kind):
    """The images of one kind in a folder that a program wrote: path without the ending -> path.
    Empty where no file has such an ending. Raises UserError."""
    column = KINDS.index(kind)
    for images in list_images(folder, flag):
        for endings in ENDINGS:
            ending = endings[column]
            found = [path for path in images if ending and path.stem.endswith(ending)
                     and path.stem != ending]
            if found:
                return {strip_ending(path, ending): path for path in found}
    return {}


def list_kind(folder, flag, kind):
    """`find_kind`, or all images of a folder without such endings. Raises UserError."""
    found = find_kind(folder, flag, kind)
    if not found:
        found = {path: path for path in next(filter(None, reversed(list_images(folder, flag))), [])}
    if not found:
        raise UserError(f"{flag} {describe_no_images(folder, list_folder(folder))}")
    return found


def list_targets(options):
    """The folder of the targets, and name -> path: of --targets, else of the first run that has
    some. Raises UserError."""
    folder, found = options.targets, {}
    if folder is not None:
        found = list_kind(folder, "--targets", "targets")
    for run in [] if found else options.runs:
        folder, found = run, find_kind(run, "the run", "targets")
        if found:
            break
    if not found:
        raise UserError(f"{options.runs[0]} contains no targets, such as NAME-targets.png: give "
                        "their folder as --targets")
    return folder, found


def match_run(folder, label, targets, target_dir):
    """The Run of a folder, and lines on files without a partner. targets: path without an ending ->
    path, in the order of the names. Raises UserError."""
    found = list_kind(folder, "the run", "outputs")
    partners = match_names([*targets], [*found])
    if not partners:
        raise UserError(f"no image in {folder} has the name of one in {target_dir}, such as "
                        f"{next(iter(targets)).name}: give both the same names")
    names = dict(zip(targets, unique_names([*targets]), strict=True))
    matched = {*partners.values()}
    lines = [f"{path} has no target in {target_dir}: ignored" for plain, path in found.items()
             if plain not in matched]
    lines += [f"{path} has no output in {folder}: ignored for it" for plain, path in targets.items()
              if plain not in partners]
    outputs = {names[plain]: found[partners[plain]] for plain in targets if plain in partners}
    return Run(label, Path(folder), outputs), lines


def label_runs(folders):
    """A name for each run: of its folder, the path where others have that name. Raises UserError
    where one is no folder or given twice."""
    paths = [os.path.abspath(folder) for folder in folders]
    for index, path in enumerate(paths):
        list_images(folders[index], "the run")
        if path in paths[:index]:
            raise UserError(f"{folders[index]} is given twice: give each run once")
    names = [os.path.basename(path) or path for path in paths]
    return [printable(name if names.count(name) == 1 else path)
            for name, path in zip(names, folders, strict=True)]


def check_output_dir(folder):
    """Raises UserError where a folder holds something else than an earlier evaluation."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder} is a file: choose another")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        known = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        is_evaluation = "comparisons" in known
    except (OSError, ValueError, TypeError):
        is_evaluation = False
    if not is_evaluation:
        raise UserError(f"--output_dir {folder} is neither empty nor an earlier evaluation: choose "
                        "another")


# --------------------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------------------


def create_scorer():
    """A function from an output and its target, uint8 [height, width, 3], to name -> value: the
    METRICS as test mode computes them."""
    with tf.Graph().as_default() as graph:
        batches = [tf.placeholder(tf.uint8, [1, None, None, 3]) for _ in range(2)]
        sess = tf.Session(graph=graph, config=session_config())
        measure = sess.make_callable(create_metrics(*batches), batches)
        graph.finalize()

    def score(output, target):
        """The metrics of one image."""
        found = measure(output[None], target[None])
        return {name: float(value) for name, (value,) in found.items()}
    return score


def check_sizes(path, image, target_path, target):
    """Raises UserError where an image is not as large as its target."""
    (height, width), (target_height, target_width) = image.shape[:2], target.shape[:2]
    if image.shape != target.shape:
        raise UserError(
            f"{path} is {width}x{height} and {target_path} {target_width}x{target_height} pixels: "
            "make them equal, such as with tools/process.py --operation resize --size "
            f"{target_height}x{target_width}")


def score_runs(runs, targets):
    """Scores of every run, label -> name -> metric -> value, and name -> size [height, width].
    targets: name -> path. Raises UserError where sizes differ, RunError for unreadable images."""
    score, scores, sizes = create_scorer(), {run.label: {} for run in runs}, {}
    total = sum(len(run.outputs) for run in runs)
    with cli.create_progress_bar(total, 0, "image") as bar:
        for name, target_path in targets.items():
            having = [run for run in runs if name in run.outputs]
            target = read_image(target_path) if having else None
            for run in having:
                output = read_image(run.outputs[name])
                check_sizes(run.outputs[name], output, target_path, target)
                scores[run.label][name] = score(output, target)
                sizes[name] = target.shape[:2]
                bar.update(1)
    return scores, sizes


# --------------------------------------------------------------------------------------------------
# Results
# --------------------------------------------------------------------------------------------------


def mean_text(summary, digits):
    """A Summary for the table: "0.1234 (0.1200 to 0.1268)"."""
    if summary.mean is None:
        return "infinite"
    interval = "" if summary.interval is None else \
        " ({:.{digits}f} to {:.{digits}f})".format(*summary.interval, digits=digits)
    return f"{summary.mean:.{digits}f}{interval}"


def format_table(summaries, counts, metrics):
    """Lines of a table with a row per run. summaries: run -> metric -> Summary."""
    rows = [["", *(metric.label for metric in metrics.values()), "images"]]
    for run, found in summaries.items():
        rows.append([run, *(mean_text(found[key], metric.digits)
                            for key, metric in metrics.items()), str(counts[run])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]


def write_csv(path, names, scores):
    """Writes metrics.csv: a row per image, a column per run and metric; empty where a run does not
    have the image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *(f"{run} {key}" for run in scores for key in METRICS)])
    for name in names:
        writer.writerow([name, *(f"{rows[name][key]:.6g}" if name in rows else ""
                                 for rows in scores.values() for key in METRICS)])
    write_atomic(path, os.fsencode(text.getvalue()))


def write_results(options, runs, target_dir, targets, scores, sizes, notes):
    """Writes metrics.json, metrics.csv and the page; prints the table and the comparisons."""
    output_dir, labels = Path(options.output_dir), [run.label for run in runs]
    counts = {label: len(scores[label]) for label in labels}
    summaries = {label: summarize_rows([*scores[label].values()]) for label in labels}
    comparisons = compare_runs(scores, METRICS)
    for line in format_table(summaries, counts, METRICS):
        say(line)
    for comparison in comparisons:
        say(printable(comparison.words))
    protocol = {**describe_protocol(), **ABOUT}
    with lock_folder(output_dir):
        write_csv(output_dir / "metrics.csv", targets, scores)
        write_evaluation_page(output_dir, Shown(
            title=output_dir.name or "evaluation", notes=notes,
            facts=[("targets", str(target_dir)), ("reference", labels[0])], metrics=METRICS,
            summaries=summaries, counts=counts, comparisons=comparisons, targets=targets,
            outputs={run.label: run.outputs for run in runs}, scores=scores, sizes=sizes,
            about=protocol))
        write_json(output_dir / "metrics.json", {
            "targets": printable(target_dir), "protocol": protocol,
            "runs": [{"name": run.label, "folder": printable(run.folder),
                      **summary_data(summaries[run.label], counts[run.label])} for run in runs],
            "comparisons": [comparison._asdict() for comparison in comparisons]})
    say(f"wrote {printable(output_dir / 'index.html')}")


def evaluate(options):
    """Scores the runs and writes the results. Raises UserError."""
    check_output_dir(options.output_dir)
    labels = label_runs(options.runs)
    target_dir, found = list_targets(options)
    runs, notes = [], []
    for folder, label in zip(options.runs, labels, strict=True):
        run, lines = match_run(folder, label, found, target_dir)
        runs.append(run)
        for line in lines:
            warn(printable(line))
        if lines:
            notes.append(f"{label}: {len(run.outputs)} of {len(found)} targets have an output; "
                         "files without a partner are ignored.")
    targets = dict(zip(unique_names([*found]), found.values(), strict=True))
    scores, sizes = score_runs(runs, targets)
    write_results(options, runs, target_dir, targets, scores, sizes, notes)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line."""
    parser = cli.Parser("evaluate.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of test mode, or of images with the names "
        "of the targets; the others are compared with the first")
    add("--targets", metavar="DIR", help="folder of the targets; without it those of the first run "
        "that has some")
    add("--output_dir", help="folder for the results; without it NAME_evaluate, after the first "
        "run")
    return parser


def parse_args(argv=None):
    """Options from the command line."""
    options = Options(**vars(create_parser().parse_args(argv)))
    name = Path(os.path.abspath(options.runs[0])).name.removesuffix("_test") or "runs"
    return cli.with_options(options, output_dir=options.output_dir or f"{name}_evaluate")


def run(argv):
    """Evaluates."""
    evaluate(parse_args(argv))


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("evaluate.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
