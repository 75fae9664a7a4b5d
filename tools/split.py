#!/usr/bin/env python3
"""Moves the images of a folder into its subfolders train, val and test.

    python tools/split.py --dir photos/combined
    python tools/split.py --dir photos/combined --train_frac 0.7 --test_frac 0.1

The flags are those of affinelayer/pix2pix-tensorflow's tools/split.py. Which image goes where
depends on the names, the fractions and the seed alone; an interrupted run continues when you run
the same command again.
"""

from __future__ import annotations

import math
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy")

from tools.lib.cli import Options, UserError, number_type
from tools.lib.files import lock_folder, sorted_by_name
from tools.lib.image_files import FORMAT_NAMES, find_images

PARTS = ["train", "val", "test"]
EXAMPLES = """\
  python tools/split.py --dir pairs
  python tools/split.py --dir pairs --train_frac 0.7 --test_frac 0.1"""


# --------------------------------------------------------------------------------------------------
# What goes where
# --------------------------------------------------------------------------------------------------


def count_parts(num_images, train_frac, test_frac):
    """Number of images in each part; val gets the rest."""
    # 1e-9: 0.57 * 100 is 56.99999999999999
    num_train = min(num_images, math.floor(train_frac * num_images + 1e-9))
    num_test = min(num_images - num_train, math.floor(test_frac * num_images + 1e-9))
    return {"train": num_train, "val": num_images - num_train - num_test, "test": num_test}


def assign_names(names, train_frac, test_frac, seed=None):
    """Name -> part, a function of the set of names; in their order where seed is None."""
    ordered = [path.name for path in sorted_by_name(set(names))]
    if seed is not None:
        random.Random(seed).shuffle(ordered)
    counts = count_parts(len(ordered), train_frac, test_frac)
    parts = [part for part in PARTS for _ in range(counts[part])]
    return dict(zip(ordered, parts, strict=True))


def list_images(folder):
    """Names of a folder's images; none where there is no folder."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: remove it")
    return [path.name for path in find_images(folder)]


def plan_moves(options):
    """The parts by name of all images, and the names not moved yet. Raises UserError."""
    folder = options.dir
    waiting = list_images(folder)
    moved = {part: list_images(folder / part) for part in PARTS}
    names = waiting + [name for part in PARTS for name in moved[part]]
    if not names:
        raise UserError(f"--dir {folder} contains no {FORMAT_NAMES} images: check the path")
    assignment = assign_names(names, options.train_frac, options.test_frac,
                              None if options.sort else options.seed)
    for name in waiting:
        for part in PARTS:
            if os.path.lexists(folder / part / name):
                raise UserError(f"{folder / part / name} exists, and so does {folder / name}: "
                                "remove one")
    for part in PARTS:
        for name in moved[part]:
            if assignment[name] != part:
                raise UserError(f"{folder / part / name} is from another split (now it belongs "
                                f"in {assignment[name]}): move it back to {folder}, or give the "
                                "flags and images of that split")
    return assignment, waiting


# --------------------------------------------------------------------------------------------------
# Moving
# --------------------------------------------------------------------------------------------------


def move(source, target):
    """Renames a file, on the same disk. Raises UserError where the target exists."""
    if os.path.lexists(target):  # os.rename would replace it on Linux
        raise UserError(f"{target} exists: remove it")
    os.rename(source, target)


def split_folder(options):
    """Moves the images; returns part -> number in it, and how many moved. Raises UserError."""
    if not options.dir.is_dir():
        raise UserError(f"--dir {options.dir} is not a folder: check the path")
    # what goes where depends on all names, which cannot be listed while another run moves them
    with lock_folder(options.dir, wait=True):
        assignment, waiting = plan_moves(options)
        for name in waiting:
            target_dir = options.dir / assignment[name]
            target_dir.mkdir(exist_ok=True)
            move(options.dir / name, target_dir / name)
    parts = list(assignment.values())
    return {part: parts.count(part) for part in PARTS}, len(waiting)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line: affinelayer's flags with their defaults, and --seed."""
    parser = cli.Parser("split.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add, fraction = parser.add_argument, number_type(float, 0, 1)
    add("--dir", type=Path, required=True, help="folder of JPEG or PNG images")
    add("--train_frac", type=fraction, default=0.8, help="share of the images for train")
    add("--test_frac", type=fraction, default=0.0, help="share for test; val gets the rest")
    add("--sort", action="store_true", help="in the order of the names instead of shuffled")
    add("--seed", type=int, default=0, help="of the shuffle")
    return parser


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    options = Options(**vars(create_parser().parse_args(argv)))
    total = options.train_frac + options.test_frac
    if total > 1 + 1e-9:
        raise UserError(f"--train_frac and --test_frac add up to {total:g}: give at most 1 in all")
    return options


def run(argv):
    """Splits a folder and prints the number of images in each part."""
    counts, num_moved = split_folder(parse_args(argv))
    cli.say(", ".join(f"{part} {counts[part]}" for part in PARTS) + f" (moved {num_moved})")


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("split.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
