#!/usr/bin/env python3
"""Scores test results against their targets, several runs side by side.

    python tools/evaluate.py facades_test
    python tools/evaluate.py facades_test other_test --output_dir comparison
    python tools/evaluate.py facades_test results/facades --targets targets
    python tools/evaluate.py facades_test --read_back labels_train

A run is a folder that test mode wrote, or any folder of images with the names of the targets. The
figures are those of test mode. Each run is compared with the first, image by image.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "tensorflow", "scipy")
    cli.use_huge_pages()

import numpy as np

from pix2pix import load_model
from tools.lib import outside_metrics
from tools.lib.cli import Options, UserError, printable, say, warn
from tools.lib.comparison import ABOUT, compare_runs
from tools.lib.evaluation_page import Shown, write_evaluation_page
from tools.lib.files import (
    describe_missing, lock_folder, match_names, unique_names, write_atomic, write_json)
from tools.lib.image_files import describe_no_images, list_folder
from tools.lib.image_types import pair_of
from tools.lib.images import ImageError, read_decoded
from tools.lib.inputs import find_colours
from tools.lib.metrics import (
    METRICS, Summary, create_metrics, describe_protocol, summarize, summary_data)
from tools.lib.options import MODEL_OPTIONS
from tools.lib.read_back import read_back, read_back_data
from tools.lib.run_folder import model_dir, read_stored
from tools.lib.tf1 import session_config, tf

KINDS = ("outputs", "targets", "inputs")
ENDINGS = [  # of file names, by program: in the order of KINDS
    ("-outputs", "-targets", "-inputs"),  # pix2pix.py, and affinelayer's
    ("_fake_B", "_real_B", "_real_A"),  # pytorch-CycleGAN-and-pix2pix
    ("_synthesized_image", None, "_input_label")]  # pix2pixHD, SPADE
EXAMPLES = """\
  python tools/evaluate.py facades_test
  python tools/evaluate.py facades_test other_test --output_dir comparison
  python tools/evaluate.py facades_test results/facades --targets targets
  python tools/evaluate.py facades_test --read_back labels_train"""

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


def list_real(options, kind):
    """The folder of the real images of a kind, "targets" or "inputs", and path without the ending
    -> path: of the flag of that name, else of the first run that has some. Raises UserError."""
    folder = getattr(options, kind)
    if folder is not None:
        return folder, list_kind(folder, f"--{kind}", kind)
    for run in options.runs:
        found = find_kind(run, "the run", kind)
        if found:
            return run, found
    raise UserError(f"{options.runs[0]} contains no {kind}, such as NAME-{kind}.png: give their "
                    f"folder as --{kind}")


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
        is_pair = target_width * height == 2 * width * target_height  # at any scale
        remedy = "that seems to be a pair, give a folder of the targets alone" if is_pair else \
            ("make them equal, such as with tools/process.py --operation resize --size "
             f"{target_height}x{target_width}")
        raise UserError(f"{path} is {width}x{height} and {target_path} {target_width}x"
                        f"{target_height} pixels: {remedy}")


def read_pixels(path):
    """An image file -> uint8 [height, width, 3]. Raises ImageError."""
    decoded = read_decoded(path)
    if decoded.deep_range:
        raise ImageError(f"{path} has 16 bits, and images are compared in 8: the metrics.json of "
                         "test mode has the figures")
    return decoded.pixels


def score_runs(runs, targets, measures):
    """Scores of every run, label -> name -> metric -> value, and name -> size [height, width].
    targets: name -> path; measures: more metrics, key -> function of output and target. Raises
    UserError where sizes differ, RunError for unreadable images."""
    score, scores, sizes = create_scorer(), {run.label: {} for run in runs}, {}
    total = sum(len(run.outputs) for run in runs)
    with cli.create_progress_bar(total, 0, "image") as bar:
        for name, target_path in targets.items():
            having = [run for run in runs if name in run.outputs]
            target = read_pixels(target_path) if having else None
            for run in having:
                output = read_pixels(run.outputs[name])
                check_sizes(run.outputs[name], output, target_path, target)
                scores[run.label][name] = {
                    **score(output, target),
                    **{key: measure(output, target) for key, measure in measures.items()}}
                sizes[name] = target.shape[:2]
                bar.update(1)
    return scores, sizes


# --------------------------------------------------------------------------------------------------
# Reading the inputs back
# --------------------------------------------------------------------------------------------------


def find_inputs(options, plain_targets, targets):
    """The real inputs of --inputs, else of the first run that has some: name of their target ->
    path; reports targets without one. plain_targets: path without an ending -> path; targets: name
    -> path, in the same order. Raises UserError."""
    folder, found = list_real(options, "inputs")
    partners = match_names([*plain_targets], [*found])
    if not partners:
        raise UserError(f"no image in {folder} has the name of a target, such as "
                        f"{next(iter(plain_targets)).name}: give both the same names")
    for plain, path in plain_targets.items():
        if plain not in partners:
            warn(printable(f"{path} has no input in {folder}: not read back"))
    inputs = {name: found[partners[plain]]
              for name, plain in zip(targets, plain_targets, strict=True) if plain in partners}
    for name, path in inputs.items():
        check_sizes(path, read_pixels(path), targets[name], read_pixels(targets[name]))
    return inputs


def warn_of_direction(options):
    """Warns of a reader that was trained in the direction of the runs."""
    directions = [(read_stored(folder) or {}).get("which_direction")
                  for folder in (model_dir(options.read_back), *options.runs)]
    if directions[0] and directions[0] in directions[1:]:
        warn(printable(f"{options.read_back} was trained {directions[0]}, as was a model that is "
                       "scored: a reader is trained in the other direction"))


def choose_colours(options, inputs):
    """The colours of the classes, or None where the inputs are no label images, which a line says.
    inputs: paths."""
    if options.label_colours:
        return np.array(options.label_colours, np.uint8)
    colours = find_colours(map(read_pixels, inputs))
    if colours is None:
        say("the inputs are not made of a few exact colours: read back by L1, PSNR and SSIM alone; "
            "for label images that were scaled or JPEG files give --label_colours")
    return colours


def read_inputs_back(options, model, runs, targets, inputs):
    """The ReadBack of the runs; prints its table and verdicts. model: LoadedModel; targets, inputs:
    name -> path."""
    warn_of_direction(options)
    found = read_back(model.generate, create_scorer(), {run.label: run.outputs for run in runs},
                      targets, inputs, choose_colours(options, inputs.values()))
    say(f"inputs read back by {printable(model.path)}:")
    print_results(found.summaries, {run: len(rows) for run, rows in found.scores.items()},
                  found.metrics, found.comparisons)
    return found


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


def list_columns(scores, prefix=""):
    """Columns of metrics.csv: header -> name of an image -> value. scores: run -> name -> key ->
    value."""
    keys = {run: next(iter(rows.values()), {}) for run, rows in scores.items()}
    return {f"{run} {prefix}{key}": {name: row[key] for name, row in scores[run].items()}
            for run in scores for key in keys[run]}


def write_csv(path, names, columns):
    """Writes metrics.csv: a row per image, a column per run and metric; empty where a run does not
    have the image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *columns])
    for name in names:
        writer.writerow([name, *(f"{values[name]:.6g}" if name in values else ""
                                 for values in columns.values())])
    write_atomic(path, os.fsencode(text.getvalue()))


def print_results(summaries, counts, metrics, comparisons):
    """Prints the table and the verdicts."""
    for line in format_table(summaries, counts, metrics):
        say(line)
    for comparison in comparisons:
        say(printable(comparison.words))


def write_results(output_dir, shown, runs, target_dir, reader):
    """Writes metrics.json, metrics.csv and the page. shown: Shown; reader: path of the model that
    has read the inputs back."""
    columns, more = list_columns(shown.scores), {}
    if shown.read_back:
        columns |= list_columns(shown.read_back.scores, "read_back_")
        more = {"read_back": read_back_data(shown.read_back, printable(reader))}
    with lock_folder(output_dir):
        # first: by it the next evaluation knows the folder, also where this one is killed
        write_json(output_dir / "metrics.json", {
            "targets": printable(target_dir), "protocol": shown.about,
            "runs": [{"name": run.label, "folder": printable(run.folder),
                      **summary_data(shown.summaries[run.label], shown.counts[run.label])}
                     for run in runs],
            "comparisons": [comparison._asdict() for comparison in shown.comparisons], **more})
        write_csv(output_dir / "metrics.csv", shown.targets, columns)
        write_evaluation_page(output_dir, shown)
    say(f"wrote {printable(output_dir / 'index.html')}")


# --------------------------------------------------------------------------------------------------
# An evaluation
# --------------------------------------------------------------------------------------------------


def find_runs(options, labels, targets, target_dir):
    """The Runs, and notes on files without a partner, which are reported. targets: path without an
    ending -> path. Raises UserError."""
    runs, notes = [], []
    for folder, label in zip(options.runs, labels, strict=True):
        run, lines = match_run(folder, label, targets, target_dir)
        if options.fid and len(run.outputs) < 2:
            raise UserError(f"--fid needs at least two images, {folder} has one: leave --fid out")
        runs.append(run)
        for line in lines:
            warn(printable(line))
        if lines:
            notes.append(f"{label}: {len(run.outputs)} of {len(targets)} targets have an output; "
                         "files without a partner are ignored.")
    return runs, notes


def score_all(options, runs, targets):
    """What Shown has of the scores: metrics, means, summaries, counts, comparisons, scores, sizes;
    prints the table and the verdicts. Raises UserError."""
    measure_fid = outside_metrics.load_fid() if options.fid else None
    measures = {"lpips": outside_metrics.load_lpips()} if options.lpips else {}
    metrics = {**METRICS, **({"lpips": outside_metrics.LPIPS} if measures else {})}
    means = {**metrics, **({"fid": outside_metrics.FID} if measure_fid else {})}
    scores, sizes = score_runs(runs, targets, measures)
    counts = {run: len(rows) for run, rows in scores.items()}
    summaries = {run: {key: summarize([row[key] for row in rows.values()]) for key in metrics}
                 for run, rows in scores.items()}
    for run in runs if measure_fid else []:
        fid = measure_fid([*run.outputs.values()], [targets[name] for name in run.outputs])
        summaries[run.label]["fid"] = Summary(fid, None, None, None, 0)
    comparisons = compare_runs(scores, metrics)
    print_results(summaries, counts, means, comparisons)
    return {"metrics": metrics, "means": means, "summaries": summaries, "counts": counts,
            "comparisons": comparisons, "scores": scores, "sizes": sizes}


def evaluate(options):
    """Scores the runs and writes the results. Raises UserError."""
    output_dir = Path(options.output_dir)
    check_output_dir(output_dir)
    labels_of_runs = label_runs(options.runs)
    target_dir, plain_targets = list_real(options, "targets")
    runs, notes = find_runs(options, labels_of_runs, plain_targets, target_dir)
    targets = dict(zip(unique_names([*plain_targets]), plain_targets.values(), strict=True))
    model = load_model(options.read_back) if options.read_back else None
    inputs = find_inputs(options, plain_targets, targets) if model else {}
    scored = score_all(options, runs, targets)
    found = read_inputs_back(options, model, runs, targets, inputs) if model else None
    protocol = {key: metric.about for key, metric in scored["means"].items()}
    write_results(output_dir, Shown(
        title=output_dir.name or "evaluation", notes=notes,
        facts=[("targets", str(target_dir)), ("reference", runs[0].label),
               *([("reader", str(model.path))] if model else [])],
        targets=targets, outputs={run.label: run.outputs for run in runs},
        about={**describe_protocol(), **protocol, **ABOUT}, read_back=found, **scored),
        runs, target_dir, model and model.path)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def parse_colour(text):
    """An argparse type: RRGGBB -> (red, green, blue)."""
    if not re.fullmatch("#?[0-9a-fA-F]{6}", text):
        raise argparse.ArgumentTypeError(f"{text}: give a colour as RRGGBB, such as ff8000")
    return tuple(bytes.fromhex(text.removeprefix("#")))


def create_parser():
    """The command line."""
    parser = cli.Parser("evaluate.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of test mode, or of images with the names "
        "of the targets; the others are compared with the first")
    add("--targets", metavar="DIR", help="folder of the targets; without it those of the first run "
        "that has some")
    add("--read_back", metavar="MODEL", help="score how well this model, trained in the other "
        "direction, reads the inputs back from the outputs")
    add("--inputs", metavar="DIR", help="--read_back: folder of the real inputs; without it those "
        "of the first run that has some")
    add("--label_colours", metavar="RRGGBB", nargs="+", type=parse_colour, help="--read_back: the "
        "colours of label images; without it those found in the inputs, if they are few")
    add("--fid", action="store_true", help="the Frechet inception distance too, by clean-fid, if "
        "you have installed it and its weights")
    add("--lpips", action="store_true", help="LPIPS too, by lpips, if you have installed it and "
        "its weights")
    add("--output_dir", help="folder for the results; without it NAME_evaluate, after the first "
        "run")
    return parser


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    options = Options(**vars(create_parser().parse_args(argv)))
    for flag in ("inputs", "label_colours"):
        if getattr(options, flag) and not options.read_back:
            raise UserError(f"--{flag} belongs to --read_back: give that too")
    name = Path(os.path.abspath(options.runs[0])).name.removesuffix("_test") or "runs"
    return cli.with_options(options, output_dir=options.output_dir or f"{name}_evaluate")


def refuse_other_kinds(runs):
    """Raises UserError for runs whose results are no images of 8 bits."""
    for folder in runs:
        stored = read_stored(folder) or {}
        targets = pair_of(Options(**{**MODEL_OPTIONS, **stored})).targets
        if targets.kind != "images" or targets.dtype != "uint8":
            what = "label maps" if targets.kind == "labels" else f"values of {targets.dtype}"
            raise UserError(f"{folder} holds {what}, and images of 8 bits are compared: its "
                            "metrics.json has the figures")


def run(argv):
    """Evaluates."""
    options = parse_args(argv)
    refuse_other_kinds(options.runs)
    evaluate(options)


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("evaluate.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
