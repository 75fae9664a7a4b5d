#!/usr/bin/env python3
"""Moves the images of a folder into its subfolders train, val and test.

    python tools/split.py --dir photos/combined
    python tools/split.py --dir photos/combined --train_frac 0.7 --test_frac 0.1

The flags are those of affinelayer/pix2pix-tensorflow's tools/split.py. Which image goes where
depends on the names, the fractions and the seed alone; a run that was interrupted goes on when
the same command is given again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import os
import random
import signal
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pix2pix  # noqa: E402
from pix2pix import OneLineParser, UserError, number_type, printable  # noqa: E402

PARTS = ["train", "val", "test"]


class Options(NamedTuple):
    """The command line, frozen. Meanings and defaults stand in `create_parser`."""

    dir: Path
    train_frac: float
    test_frac: float
    sort: bool
    seed: int


# --------------------------------------------------------------------------------------------------
# What goes where
# --------------------------------------------------------------------------------------------------


def count_parts(num_images, train_frac, test_frac):
    """Number of images of each part; val gets what the others leave."""
    # 1e-9: 0.57 * 100 is 56.99999999999999
    num_train = min(num_images, math.floor(train_frac * num_images + 1e-9))
    num_test = min(num_images - num_train, math.floor(test_frac * num_images + 1e-9))
    return {"train": num_train, "val": num_images - num_train - num_test, "test": num_test}


def assign_names(names, train_frac, test_frac, seed=None):
    """Name -> part, a function of the set of names; in their order where seed is None."""
    ordered = [path.name for path in pix2pix.sorted_by_name(set(names))]
    if seed is not None:
        random.Random(seed).shuffle(ordered)
    counts = count_parts(len(ordered), train_frac, test_frac)
    parts = [part for part in PARTS for _ in range(counts[part])]
    return dict(zip(ordered, parts))


def list_images(folder):
    """Names of a folder's images but for hidden files; none where there is no folder."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: take it away")
    return [path.name for path in pix2pix.find_images(folder) if not path.name.startswith(".")]


def plan_moves(options):
    """The parts by name of all images, and the names not moved yet. Raises UserError."""
    folder = options.dir
    waiting = list_images(folder)
    moved = {part: list_images(folder / part) for part in PARTS}
    names = waiting + [name for part in PARTS for name in moved[part]]
    if not names:
        raise UserError(f"--dir {folder} holds no JPEG or PNG images: check the path")
    assignment = assign_names(names, options.train_frac, options.test_frac,
                              None if options.sort else options.seed)
    for name in waiting:
        for part in PARTS:
            if os.path.lexists(folder / part / name):
                raise UserError(f"{folder / part / name} exists, and so does {folder / name}: "
                                "take one away")
    for part in PARTS:
        for name in moved[part]:
            if assignment[name] != part:
                raise UserError(f"{folder / part / name} is of another split (now it belongs in "
                                f"{assignment[name]}): move it back to {folder}, or give the "
                                "flags and images of that split")
    return assignment, waiting


# --------------------------------------------------------------------------------------------------
# Moving
# --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock_folder(folder):
    """Waits until no other run works in a folder, and keeps others waiting inside.

    What goes where depends on all names, and they cannot be listed while another run moves them.
    The lock is on the folder itself; nothing is left of it, however the run ends.
    """
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def move(source, target):
    """Renames a file, on the same disk. Raises UserError where the target exists."""
    if os.path.lexists(target):  # os.rename would replace it on Linux
        raise UserError(f"{target} exists: take it away")
    os.rename(source, target)


def split_folder(options):
    """Moves the images; returns part -> number in it, and how many moved. Raises UserError."""
    if not options.dir.is_dir():
        raise UserError(f"--dir {options.dir} is not a folder: check the path")
    with lock_folder(options.dir):
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
    parser = OneLineParser(prog="split.py", description="Moves the images of a folder into its "
                           "subfolders train, val and test.",
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add, fraction = parser.add_argument, number_type(float, 0, 1)
    add("--dir", type=Path, required=True, help="folder of JPEG and PNG images")
    add("--train_frac", type=fraction, default=0.8, help="share of the images for train")
    add("--test_frac", type=fraction, default=0.0, help="share for test; val gets the rest")
    add("--sort", action="store_true", help="in the order of the names, not shuffled")
    add("--seed", type=int, default=0, help="of the shuffle")
    return parser


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    options = Options(**vars(create_parser().parse_args(argv)))
    total = options.train_frac + options.test_frac
    if total > 1 + 1e-9:
        raise UserError(f"--train_frac and --test_frac add up to {total:g}: give at most 1 of both")
    return options


def stop(number, _frame):
    """Ends the tool as Ctrl-C does, at a signal; `main` returns its exit code."""
    raise KeyboardInterrupt(number)


def main(argv=None):
    """Runs the tool; returns its exit code: 0, 1 where the disk failed, 2, 130 or 143."""
    try:
        counts, num_moved = split_folder(parse_args(argv))
    except UserError as error:
        print(f"split.py: error: {printable(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"split.py: error: {printable(error)}: look at the disk, the same command "
              "goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        return 128 + next(iter(interrupt.args), signal.SIGINT)
    print(", ".join(f"{part} {counts[part]}" for part in PARTS) + f" (moved {num_moved})")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
