#!/usr/bin/env python3
"""Shows what a model is: its options, its size, its steps and its variables.

    python tools/inspect-checkpoint.py facades_train
    python tools/inspect-checkpoint.py doodle2face_ngf16.pict --variables

Takes a training folder, a checkpoint's prefix (facades_train/model-4000), an export (its folder or
export.index, saved_model.pb) or a .pict file; of this program and of affinelayer's scripts.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pix2pix  # noqa: E402
from pix2pix import OneLineParser, UserError  # noqa: E402

SLOTS = ("/Adam", "/Adam_1", pix2pix.EMA_SUFFIX, "/moving_mean", "/moving_variance")


def find_variables(model):
    """What a path stands for: a checkpoint's prefix, a training folder or a .pict file. Raises
    UserError."""
    path = Path(model)
    inside = path.parent if path.name == "saved_model.pb" else path
    for prefix in (inside / "variables" / "variables", inside / "export",
                   path.with_suffix("") if path.suffix in (".index", ".meta") else path):
        if os.path.exists(f"{prefix}.index"):
            return str(prefix)
    if path.is_file() and path.suffix != ".pict":
        raise UserError(f"{path} is no checkpoint, export with variables or .pict file: name one")
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path")
    return str(path)


def describe_options(path, shapes):
    """Option -> value of a model: the stored ones, else what its variables tell."""
    inferred = pix2pix.infer_options(shapes)
    if (Path(path).parent / "options.json").exists() and not path.endswith(".pict"):
        stored = pix2pix.read_options(path)
        names = [*pix2pix.MODEL_OPTIONS, *pix2pix.TRAINING_OPTIONS]
        return {name: stored[name] for name in names if name in stored}
    return inferred


def is_weight(name):
    """Whether a variable is learnt, not bookkeeping of the optimizer or of averages."""
    return name.startswith(("generator/", "discriminator/")) and not name.endswith(SLOTS)


def describe(model, with_variables):
    """The lines that describe a model. Raises UserError."""
    stored = pix2pix.open_checkpoint(find_variables(model))
    path = stored.path
    shapes = dict(sorted(stored.shapes.items()))
    files = [file for file in Path(path).parent.glob(f"{Path(path).name}*") if file.is_file()]
    lines = [f"file = {path}",
             f"bytes = {sum(file.stat().st_size for file in files)}"]
    lines += [f"{name} = {value}" for name, value in describe_options(path, shapes).items()]
    if "global_step" in shapes:
        lines.append(f"steps = {pix2pix.read_step(stored)}")
    for network in ("generator", "discriminator"):
        count = sum(math.prod(shape) for name, shape in shapes.items()
                    if is_weight(name) and name.startswith(network))
        lines.append(f"{network}_weights = {count}")
    lines.append(f"variables = {len(shapes)}")
    if with_variables:
        lines += [f"{name} {'x'.join(map(str, shape)) or 'scalar'}"
                  for name, shape in shapes.items()]
    return lines


def create_parser():
    """The command line."""
    parser = OneLineParser(prog="inspect-checkpoint.py", description="Shows what a model is.",
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("model", help="training folder, checkpoint, export or .pict file")
    parser.add_argument("--variables", action="store_true", help="lists all variables too")
    return parser


def main(argv=None):
    """Runs the tool; returns its exit code: 0, 2 or 130."""
    try:
        options = create_parser().parse_args(argv)
        print("\n".join(describe(options.model, options.variables)))
    except UserError as error:
        print(f"inspect-checkpoint.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
