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
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy")

from tools.lib.cli import Options, UserError, number_type, with_options
from tools.lib.files import (PARTS, describe_missing, identity, link_target, lock_folder,
                             normal_name, replace_link, sorted_by_name)
from tools.lib.image_files import (EXTENSIONS, describe_no_images, find_images, is_image,
                                    list_folder, report_others)

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
    return [path.name for path in find_images(folder) if is_image(path)]


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
# Moving. A link opens the same file afterwards, also where that moves too
# --------------------------------------------------------------------------------------------------


class Move(NamedTuple):
    """An image that moves."""

    source: Path
    target: Path
    text: str | None  # what a link must contain there; None for a file


def new_place(link, new_paths):
    """Where the file or link that a link names, or in the end opens, moves to; None where it stays.
    new_paths: identity -> new path of what moves."""
    for path in (link_target(link), Path(os.path.realpath(link))):
        new_path = new_paths.get(identity(path))
        if new_path not in (None, path):
            return new_path
    return None


def new_text(link, new_dir, new_paths):
    """What a link must contain in new_dir."""
    text, new_path = os.readlink(link), new_place(link, new_paths)
    if os.path.isabs(text):
        return str(new_path or text)
    return os.path.relpath(new_path or link_target(link), os.path.realpath(new_dir))


def is_begun(move):
    """Whether an interrupted run has made what is at a move's target."""
    if move.text is None:
        return identity(move.target) == identity(move.source)
    return move.target.is_symlink() and os.readlink(move.target) == move.text


def plan_moves(folder, parts):
    """The moves of name -> part, and identity -> new path of what moves. Raises UserError where a
    name is taken."""
    new_paths = {identity(folder / name): Path(os.path.realpath(folder / part), name)
                 for name, part in parts.items()}
    moves = []
    for name, part in parts.items():
        source, target = folder / name, folder / part / name
        text = new_text(source, target.parent, new_paths) if source.is_symlink() else None
        moves.append(Move(source, target, text))
        for path in (folder / other / name for other in PARTS):
            if os.path.lexists(path) and not (path == target and is_begun(moves[-1])):
                raise UserError(f"{path} exists, and so does {source}: remove one")
    return moves, new_paths


def find_links(folder):
    """The symbolic links in a folder and all that it contains."""
    paths = (Path(root, name) for root, folders, names in os.walk(folder)
             for name in (*folders, *names))
    return [path for path in paths if path.is_symlink()]


def count_links(path):
    """How many links lead from a path to its file, one by way of the other."""
    number = 0
    while path.is_symlink():
        path, number = link_target(path), number + 1
    return number


def move(source, target):
    """Renames a file, on the same disk. Raises UserError where the target exists."""
    if os.path.lexists(target):  # os.rename would replace it on Linux
        raise UserError(f"{target} exists: remove it")
    os.rename(source, target)


def move_images(moves, new_paths, links):
    """Moves images. links: those that exist, whether they move or not.

    A link, and what one opens, is in both places for a while: all open the same files whenever a
    run is interrupted.
    """
    opened = {new_place(link, new_paths) for link in links}
    twice, rest = [], []
    for image in moves:
        image.target.parent.mkdir(exist_ok=True)
        in_both = image.text is not None or new_paths[identity(image.source)] in opened \
            or os.path.lexists(image.target)
        (twice if in_both else rest).append(image)
    twice.sort(key=lambda image: count_links(image.source))  # each after what it opens
    for image in twice:
        if not is_begun(image):
            if image.text is None:
                os.link(image.source, image.target)
            else:
                os.symlink(image.text, image.target)
    for link in {*links}.difference(image.source for image in moves):
        if new_place(link, new_paths):
            replace_link(link, new_text(link, link.parent, new_paths))
    for image in reversed(twice):
        os.unlink(image.source)
    for image in rest:
        move(image.source, image.target)


def split_folder(options):
    """Moves the images; returns part -> number in it, how many moved, and lines on what stays.
    Raises UserError."""
    folder = options.dir
    if not folder.is_dir():
        raise UserError(f"--dir {folder} is not a folder: {describe_missing(folder)}")
    # what goes where depends on all names, which cannot be listed while another run moves them
    folders = [os.path.relpath(path, folder) for path, _, _ in os.walk(folder)]
    with lock_folder(folder, wait=True, parts=folders):
        contents, placed = list_folder(folder), list_placed(folder)
        waiting = [path.name for path in contents.images if is_image(path)]
        if not waiting and not placed:
            raise UserError(f"--dir {describe_no_images(folder, contents)}")
        broken = len(contents.images) - len(waiting)
        others = {**contents.others, **({"that cannot be read": broken} if broken else {})}
        report_others(folder, contents._replace(others=others), PARTS)
        assignment = assign_names([*waiting, *placed], options.train_frac, options.test_frac,
                                  options.seed, placed)
        moves, new_paths = plan_moves(folder, {name: assignment[name] for name in waiting})
        move_images(moves, new_paths, find_links(folder))
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
    add("--dir", type=Path, required=True, help="folder of images")
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
        raise UserError(f"--train_frac {options.train_frac:g} and --test_frac "
                        f"{options.test_frac:g} add up to {total:g}: give at most 1 in all")
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
