#!/usr/bin/env python3
"""Moves the images of a folder into its subfolders train, val and test.

    python tools/split.py --dir photos/combined
    python tools/split.py --dir photos/combined --train_frac 0.7 --test_frac 0.1

The flags are those of affinelayer/pix2pix-tensorflow's tools/split.py. Which image goes where
depends on the names, the fractions and the seed alone; an interrupted run continues when you run
the same command again. Images added later are distributed so that the fractions hold; those already
in train, val and test stay where they are.
"""

from __future__ import annotations

import collections
import math
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy")

from tools.lib.cli import Options, UserError, number_type, with_options
from tools.lib.files import lock_folder, normal_name, sorted_by_name
from tools.lib.images import EXTENSIONS, FORMAT_NAMES, find_images

PARTS = ["train", "val", "test"]
EXAMPLES = """\
  python tools/split.py --dir pairs
  python tools/split.py --dir pairs --train_frac 0.7 --test_frac 0.1"""


# --------------------------------------------------------------------------------------------------
# What goes where
# --------------------------------------------------------------------------------------------------


def group_name(name):
    """What versions of one image have in common, such as 3.png and 3.jpg: the name without an
    image's extension. They go to one part, so that training sees no image of val."""
    path = Path(normal_name(name))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


def count_parts(num_images, train_frac, test_frac):
    """Number of images in each part; val gets the rest."""
    # 1e-9: 0.57 * 100 is 56.99999999999999
    num_train = min(num_images, math.floor(train_frac * num_images + 1e-9))
    num_test = min(num_images - num_train, math.floor(test_frac * num_images + 1e-9))
    return {"train": num_train, "val": num_images - num_train - num_test, "test": num_test}


def fill_parts(counts, wanted):
    """The numbers wanted, or as near to them as possible where some parts hold more already: the
    next image goes to the part that has the smallest share of what it should have."""
    counts = dict(counts)
    for _ in range(sum(wanted.values()) - sum(counts.values())):
        part = min((part for part in PARTS if counts[part] < wanted[part]),
                   key=lambda part: counts[part] / wanted[part])
        counts[part] += 1
    return counts


def assign_names(names, train_frac, test_frac, seed=None, placed=()):
    """Name -> part, a function of the set of names; in their order where seed is None.

    Images that are placed stay, the others fill the parts up. If some of those are placed as
    assigned, the rest are assigned as before: an interrupted run continues.
    """
    placed, groups = dict(placed), {}
    for part in PARTS:
        for name in placed:
            if placed[name] == part:
                groups.setdefault(group_name(name), part)
    counts = collections.Counter(groups.values())
    ordered = sorted_by_name({normal_name(name) for name in names})
    ordered = [*dict.fromkeys(group_name(path.name) for path in ordered)]
    if seed is not None:
        random.Random(seed).shuffle(ordered)
    full = fill_parts({part: counts[part] for part in PARTS},
                      count_parts(len(ordered), train_frac, test_frac))
    free = [part for part in PARTS for _ in range(full[part] - counts[part])]
    groups.update(zip((group for group in ordered if group not in groups), free, strict=True))
    return {name: placed.get(name, groups[group_name(name)]) for name in names}


def list_images(folder):
    """Names of a folder's images; none where there is no folder."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: remove it")
    return [path.name for path in find_images(folder)]


def list_placed(folder):
    """Name -> part of the images in the parts. Raises UserError where two have one name."""
    placed = {}
    for part in PARTS:
        for name in list_images(folder / part):
            if name in placed:
                raise UserError(f"{folder / placed[name] / name} and {folder / part / name} have "
                                "one name: rename or remove one")
            placed[name] = part
    return placed


def plan_moves(options):
    """The parts by name of all images, those of the images placed already, and the names of the
    others. Raises UserError."""
    folder = options.dir
    waiting, placed = list_images(folder), list_placed(folder)
    if not waiting and not placed:
        raise UserError(f"--dir {folder} contains no {FORMAT_NAMES} images: check the path")
    for name in waiting:
        for part in PARTS:
            if os.path.lexists(folder / part / name):
                raise UserError(f"{folder / part / name} exists, and so does {folder / name}: "
                                "remove one")
    assignment = assign_names([*waiting, *placed], options.train_frac, options.test_frac,
                              options.seed, placed)
    return assignment, placed, waiting


def describe_placed(options, assignment, placed):
    """Lines on images that are placed in other ways than a new split would place them."""
    lines, groups = [], {}
    for name, part in assignment.items():
        groups.setdefault(group_name(name), {}).setdefault(part, name)
    apart = [names for names in groups.values() if len(names) > 1]
    if apart:
        paths = " and ".join(str(options.dir / part / name) for part, name in apart[0].items())
        lines.append(f"{paths} may be versions of one image in two parts ({len(apart)} in all): "
                     "move them together if they are")
    fractions = options.train_frac, options.test_frac
    wanted = count_parts(len(groups), *fractions)
    counts = collections.Counter(part for names in groups.values() for part in names)
    stay = f"images that are placed stay; to split them again, move them back to {options.dir}"
    if any(abs(counts[part] - wanted[part]) > 1 for part in PARTS):  # 1 is by rounding
        shares = ", ".join(f"{part} {wanted[part]}" for part in PARTS)
        lines.append(f"--train_frac {fractions[0]:g} and --test_frac {fractions[1]:g} ask for "
                     f"{shares}, but {stay}")
    elif placed == assignment != assign_names(placed, *fractions, options.seed):
        lines.append(f"nothing to move: {stay}")
    return lines


# --------------------------------------------------------------------------------------------------
# Moving
# --------------------------------------------------------------------------------------------------


def move(source, target):
    """Renames a file, on the same disk. Raises UserError where the target exists."""
    if os.path.lexists(target):  # os.rename would replace it on Linux
        raise UserError(f"{target} exists: remove it")
    os.rename(source, target)


def split_folder(options):
    """Moves the images; returns part -> number in it, how many moved, and lines on what stays.
    Raises UserError."""
    if not options.dir.is_dir():
        raise UserError(f"--dir {options.dir} is not a folder: check the path")
    # what goes where depends on all names, which cannot be listed while another run moves them
    with lock_folder(options.dir, wait=True):
        assignment, placed, waiting = plan_moves(options)
        for name in waiting:
            target_dir = options.dir / assignment[name]
            target_dir.mkdir(exist_ok=True)
            move(options.dir / name, target_dir / name)
    parts = list(assignment.values())
    return {part: parts.count(part) for part in PARTS}, len(waiting), \
        describe_placed(options, assignment, placed)


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
    return with_options(options, seed=None if options.sort else options.seed)


def run(argv):
    """Splits a folder and prints the number of images in each part."""
    counts, num_moved, lines = split_folder(parse_args(argv))
    for line in lines:
        cli.warn(cli.printable(line))
    cli.say(", ".join(f"{part} {counts[part]}" for part in PARTS) + f" (moved {num_moved})")


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("split.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
