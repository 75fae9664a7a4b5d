#!/usr/bin/env python3
"""Shows what a model is: its options, its size, its steps and its variables.

    python tools/inspect-checkpoint.py facades_train
    python tools/inspect-checkpoint.py doodle2face_ngf16.pict --variables

Takes a training folder, a checkpoint's prefix (facades_train/model-4000), an export (its folder or
export.index, saved_model.pb) or a .pict file; of this program and of affinelayer's scripts.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "tensorflow")

from pix2pix import create_parser as create_model_parser
from tools.lib.checkpoints import (
    EMA_SUFFIX, describe_variables, infer_options, open_checkpoint, read_step)
from tools.lib.cli import UserError, printable, say
from tools.lib.foreign_files import describe_file
from tools.lib.options import MODEL_OPTIONS, TRAINING_OPTIONS, options_path, read_options
from tools.lib.run_folder import find_checkpoint

SLOTS = ("/Adam", "/Adam_1", EMA_SUFFIX, "/moving_mean", "/moving_variance")
EXAMPLES = """\
  python tools/inspect-checkpoint.py facades_train
  python tools/inspect-checkpoint.py facades_train/model-4000 --variables"""


def find_variables(model):
    """The checkpoint's prefix, training folder or .pict file of a path. Raises UserError."""
    path = Path(find_checkpoint(model))
    inside = path.parent if path.name == "saved_model.pb" else path
    for prefix in (inside / "variables" / "variables", inside / "export", path):
        if os.path.exists(f"{prefix}.index"):
            return str(prefix)
    if path.is_file() and path.suffix != ".pict":
        raise UserError(f"{path} is not a checkpoint, an export with variables or a .pict file, it "
                        f"is {describe_file(path)}: give one")
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path")
    return str(path)


def describe_options(path, shapes):
    """Option -> value of a model: as stored, or as its variables show."""
    if options_path(path).exists() and not path.endswith(".pict"):
        stored = read_options(path, create_model_parser())
        names = [*MODEL_OPTIONS, *TRAINING_OPTIONS]
        return {name: stored[name] for name in names if name in stored}
    return infer_options(shapes)


def is_weight(name):
    """Whether a variable is trained, not state of the optimizer or an average."""
    return name.startswith(("generator/", "discriminator/")) and not name.endswith(SLOTS)


def describe(model, with_variables):
    """The lines that describe a model. Raises UserError."""
    stored = open_checkpoint(find_variables(model))
    path = stored.path
    shapes = dict(sorted(stored.shapes.items()))
    if not infer_options(shapes):
        cli.warn(printable(f"{path} is a model of another program, with "
                           f"{describe_variables(stored)}"))
    files = [file for file in Path(path).parent.glob(f"{Path(path).name}*") if file.is_file()]
    lines = [f"file = {printable(path)}",
             f"bytes = {sum(file.stat().st_size for file in files)}"]
    lines += [f"{name} = {value}" for name, value in describe_options(path, shapes).items()]
    if "global_step" in shapes:
        lines.append(f"steps = {read_step(stored)}")
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
    parser = cli.Parser("inspect-checkpoint.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    parser.add_argument("model", help="training folder, checkpoint, export or .pict file")
    parser.add_argument("--variables", action="store_true", help="list all variables too")
    return parser


def run(argv):
    """Prints the description."""
    options = create_parser().parse_args(argv)
    say("\n".join(describe(options.model, options.variables)))


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("inspect-checkpoint.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
