"""Whose folder it is: default names, what a mode may replace, options.json."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tools.lib.cli import UserError, check_combinations, with_options
from tools.lib.files import remove, write_json

RESULT_PATTERNS = {  # mode -> the files and folders that it writes, and may replace
    "train": ("checkpoint", "model-[0-9]*", "epoch-[0-9]*", "events.out.tfevents.*",
              "trace-*.json", "log.csv", "index.html", "images/*-inputs.png",
              "images/*-outputs.png", "images/*-targets.png"),
    "test": ("metrics.csv", "metrics.json", "index.html", "images/*-inputs.png",
             "images/*-outputs.png", "images/*-targets.png"),
    "export": ("saved_model.pb", "variables", "assets", "export.meta", "export.index",
               "export.data-*", "checkpoint", "graph.pb", "model.tflite", "model.onnx",
               "model.pict")}


def add_options(add):
    """Which folders a mode reads and writes."""
    add("--input_dir", help="folder of JPEG or PNG images, each a pair side by side")
    add("--output_dir", help="folder for the results; DATASET_MODE if not given")
    add("--checkpoint", help="training folder, checkpoint or .pict file to start from; in test and "
        "export DATASET_train if not given")
    add("--resume", action="store_true",
        help="continue the run in --output_dir; --max_steps and --max_epochs are totals")
    add("--overwrite", action="store_true", help="replace the run in --output_dir")


def check(options, _explicit):
    """Raises UserError for flags of another mode."""
    check_combinations([
        ((options.resume or options.overwrite) and options.mode != "train",
         f"--{'resume' if options.resume else 'overwrite'} is for --mode train: remove it")])


# --------------------------------------------------------------------------------------------------
# What is in a folder
# --------------------------------------------------------------------------------------------------


def find_results(folder, mode):
    """The files and folders in a folder that have the names of a mode's results."""
    return [path for pattern in RESULT_PATTERNS[mode]
            for path in sorted(Path(folder).glob(pattern))]


def remove_results(folder, mode):
    """Removes the files and folders in a folder that have the names of a mode's results."""
    for path in find_results(folder, mode):
        remove(path)


def default_dir(input_dir, mode):
    """The folder that a mode uses for a dataset: facades/val, "test" -> facades_test."""
    return f"{Path(os.path.abspath(input_dir)).parent.name or 'pix2pix'}_{mode}"


def default_dirs(values):
    """output_dir and checkpoint of a command line, which need not give them. Raises UserError."""
    mode, input_dir, checkpoint = (values[name] for name in ("mode", "input_dir", "checkpoint"))
    if input_dir is None and (mode != "export" or checkpoint is None):
        other = " or --checkpoint" if mode == "export" else ""
        raise UserError(f"--input_dir{other} is missing: give a folder")
    output_dir = values["output_dir"]
    if output_dir is None and input_dir is None:
        name = Path(os.path.abspath(checkpoint)).name.removesuffix("_train").removesuffix(".pict")
        output_dir = f"{name}_{mode}"
    elif output_dir is None:
        output_dir = default_dir(input_dir, mode)
    if checkpoint is None and mode != "train":
        checkpoint = default_dir(input_dir, "train")
    return {"output_dir": output_dir, "checkpoint": checkpoint}


def read_mode(folder):
    """The --mode that made a folder, by its options.json; None where there is none."""
    path = Path(folder) / "options.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("mode", "train")
    except (ValueError, AttributeError, RecursionError):
        return "train"  # a damaged file may be a run's: protect it
    except OSError:
        return None


def holds_run(folder):
    """Whether a folder contains a training run, with or without its options."""
    return read_mode(folder) == "train" or any(Path(folder).glob("model-*.index"))


def refuse_run(output_dir):
    """Raises UserError where a folder already contains a run."""
    if holds_run(output_dir):
        raise UserError(f"--output_dir {output_dir} already contains a run: give "
                        "--resume to continue it, --overwrite to replace it, or another folder")


def check_results(options):
    """Raises UserError where results would replace anything but results of the same mode."""
    mode, output_dir = options.mode, Path(options.output_dir)
    if mode != "train" and holds_run(output_dir):
        raise UserError(f"--output_dir {output_dir} contains a training run: choose another")
    if options.checkpoint and (mode == "export" or options.overwrite):
        checkpoint = Path(options.checkpoint).resolve()
        if output_dir.resolve() in (checkpoint, checkpoint.parent):
            raise UserError(f"--checkpoint {options.checkpoint} is in --output_dir and would be "
                            "replaced: choose another --output_dir")
    if mode == "train" and options.resume and not holds_run(output_dir):
        raise UserError(f"--resume finds no run in {output_dir}: remove the flag to start one")
    if mode == "train" and not options.resume and not options.overwrite:
        refuse_run(output_dir)
    foreign = find_results(output_dir, mode) if read_mode(output_dir) != mode else []
    if foreign and not holds_run(output_dir):
        raise UserError(f"{foreign[0]} would be replaced, but --mode {mode} did not write "
                        "it: choose another --output_dir")


def check_folders(options, explicit):
    """Raises UserError where the folders are not what the mode needs; creates nothing."""
    for name in ("input_dir", "output_dir", "checkpoint"):
        path = getattr(options, name)
        if path is not None and not path:
            raise UserError(f"--{name} is empty: give a folder")
    for name in ("checkpoint", "output_dir"):
        path = getattr(options, name) or ""
        if set("*?[") & set(path) and options.mode != "test":
            raise UserError(f"--{name} {path} has one of * ? [ in its name, "
                            "which TensorFlow reads as a pattern: rename it")
        if os.fsencode(path).decode(errors="ignore") != path:
            raise UserError(f"--{name} {path} is not valid UTF-8, which TensorFlow cannot "
                            "write: rename it")
    if options.mode != "export" and not os.path.isdir(options.input_dir):
        raise UserError(f"--input_dir {options.input_dir} is not a folder: check the path")
    checkpoint = options.checkpoint
    if checkpoint is not None and not os.path.isdir(checkpoint) \
            and not os.path.exists(f"{checkpoint}.index") \
            and not (checkpoint.endswith(".pict") and os.path.isfile(checkpoint)):
        hint = "give a training folder" if "checkpoint" in explicit \
            else "give one with --checkpoint"
        raise UserError(f"--checkpoint {checkpoint} is not a folder, checkpoint or .pict file: "
                        f"{hint}")
    output_dir = Path(options.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir} is a file: give a folder")
    if options.mode != "export" and not os.access(options.input_dir, os.R_OK | os.X_OK):
        raise UserError(f"--input_dir {options.input_dir} is not readable: check its permissions")
    existing = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--output_dir {output_dir} is inside a file, {existing}: give a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"--output_dir {output_dir} is not writable: choose another")
    if options.input_dir and Path(options.input_dir).resolve() in (
            output_dir.resolve(), (output_dir / "images").resolve()):
        raise UserError(f"--output_dir {output_dir} would mix the results with the images of "
                        "--input_dir: choose another")
    check_results(options)


# --------------------------------------------------------------------------------------------------
# Filling a folder
# --------------------------------------------------------------------------------------------------


def write_options(options):
    """Writes options.json, which --resume and users of the model read."""
    write_json(Path(options.output_dir) / "options.json", vars(with_options(options, resume=False)))


def prepare_run(options):
    """Prepares a training folder; --overwrite removes the files of the run in it. Raises UserError
    where another run has begun there meanwhile."""
    output_dir = Path(options.output_dir)
    if not options.resume and not options.overwrite:
        refuse_run(output_dir)
    if options.overwrite:
        remove_results(output_dir, "train")
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    write_options(options)


def prepare_test(options):
    """Prepares a test folder and removes the results of an earlier test."""
    output_dir = Path(options.output_dir)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    remove_results(output_dir, "test")
    write_options(options)
