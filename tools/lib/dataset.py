"""Which files make an example: found by content, checked before the first step, cached decoded."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import json
import math
import multiprocessing.pool
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.lib import run_folder
from tools.lib.cli import (RunError, UserError, all_of, check_combinations, create_progress_bar,
                           describe_error, home_dir, number_type, printable, quiet_stderr, say,
                           size_of, warn, with_options)
from tools.lib.files import unique_names, write_atomic
from tools.lib.geometry import is_own_size
from tools.lib.image_files import (FORMAT_NAMES, describe_no_images, format_of, list_folder,
                                    report_others)
from tools.lib.image_types import CHANNELS, VALUE_TYPES, ImageType, pair_of, sides_of
from tools.lib.images import create_decoder, report_deep
from tools.lib.label_maps import labels_data, read_labels
from tools.lib.partners import match_folders, raise_error
from tools.lib.tf1 import tf
from tools.lib.values import suggest_range

MAX_VALUE = 3.4e38  # of float32
MAX_BYTES = 2**30  # of a file
MAX_ALIKE = 4  # readable files that are named of those with one reason against them
MAX_BAD_SHARE = 0.1  # of the images, with --on_bad_image skip
CHECK_SECONDS = 10  # spent on checking before the first step
CHECKS_VERSION = 7  # of what is remembered: what an older version found is not used
SAME_SHAPE = 0.02  # relative difference of width / height up to which images are of one shape
OTHER_SHAPE = 0.05  # from which one image among many of one shape is of another
MOST = 0.9  # of the images are of one shape where that is called theirs
TEST_REMEDY = "--native_size and tools/apply.py keep their shape"
PAIR_RATIO = 1.9  # least width / height of a pair: photos have up to 16:9, two squares have 2


def add_options(add):
    """Which files are examples, and how they are read."""
    add("--max_images", type=number_type(int, 1),
        help="train or test on so many of the images, chosen by --seed: a quick look")
    add("--no_targets", action="store_true",
        help="test: images are inputs without targets, not pairs; --input_dir may be one file")
    add("--layout", choices=["pairs", "single"],
        help="what images are where their shape leaves doubt: pairs side by side, or single ones")
    for letter in "AB":
        side = f"--{letter.lower()}"
        add(f"{side}_channels", type=number_type(int, 1),
            help=f"channels of {letter}'s images: 1 grey, 3 RGB, 4 with alpha, others of .npy and "
            "TIFF files; default: as they are stored, of 8-bit images 1 where all are grey, else 3")
        add(f"{side}_range", type=number_type(float, -MAX_VALUE), nargs=2, metavar=("LO", "HI"),
            help=f"values in {letter}'s files that become -1 and 1 in the network, what lies "
            "outside is clipped; default: what their type holds, floats need one")
        add(f"{side}_ignore", type=number_type(float, -MAX_VALUE), nargs="+", metavar="V",
            help=f"values in {letter}'s files of pixels without a measurement, such as 0 of depth; "
            "of label maps numbers of classes that do not count")
        add(f"{side}_labels", metavar="FILE|N",
            help=f"{letter}'s images are label maps: a file that lists the classes with their "
            "colours, or so many classes of index, palette or grey images; one channel for each")
        add(f"{side}_nearest", action="store_true",
            help=f"scale {letter}'s images by the nearest pixel, and give a colour that is no "
            "class that of the nearest: for label maps saved as JPEG")
    add("--mask_channel", action="store_true",
        help="give the network a channel more that says where the input has a measurement")
    add("--on_bad_image", default="fail", choices=["fail", "skip"],
        help="what to do with an image that cannot be read: end the run, or warn and leave it out")
    add("--cache", type=number_type(int, 0), default=0,
        help="MiB of memory for decoded images, so that later epochs need not decode them")


def read_classes(values):
    """The options a_classes and b_classes by the files or numbers of --a_labels and --b_labels of a
    command line. Raises UserError."""
    found = {}
    for side in "ab":
        given = values[f"{side}_labels"]
        if given is not None:
            labels = read_labels(given, f"--{side}_labels", values[f"{side}_nearest"])
            found[f"{side}_classes"] = labels_data(labels)
    return found


def check(options, explicit):
    """Raises UserError for flags that contradict each other or the mode. explicit: names of those
    that were given."""
    folders, mode = run_folder.from_folders(options), options.mode
    num_a, inputs = len(options.a_dir or ()), "b" if options.which_direction == "BtoA" else "a"
    taken = "1 image as its input: give --a_dir once" if options.num_inputs == 1 else \
        f"{options.num_inputs} images as its input: give --a_dir {options.num_inputs} times"
    check_combinations([
        (folders and options.layout,
         f"--layout {options.layout} is for --input_dir: remove it"),
        (folders and options.no_targets and options.a_dir and options.b_dir,
         f"--no_targets contradicts --{'a' if inputs == 'b' else 'b'}_dir: remove one"),
        (folders and mode == "train" and not (options.a_dir and options.b_dir),
         f"training needs pairs: give --{'b' if options.a_dir else 'a'}_dir too"),
        (folders and mode == "test" and not getattr(options, f"{inputs}_dir"),
         f"the model's inputs are {inputs.upper()}, by --which_direction "
         f"{options.which_direction}: give --{inputs}_dir"),
        (num_a > 1 and (options.lab_colorization or options.which_direction == "BtoA"),
         f"several --a_dir are the channels of an input: they need --which_direction AtoB"
         f"{' and no --lab_colorization' * options.lab_colorization}"),
        (mode != "export" and max(num_a, 1) != options.num_inputs,
         f"the model takes {taken}"),
        (options.lab_colorization and {1, 4} & {options.a_channels, options.b_channels},
         "--lab_colorization needs the 3 channels of RGB: remove --a_channels and --b_channels"),
        *refused_values("a", options), *refused_values("b", options),
        *refused_labels("a", options, explicit), *refused_labels("b", options, explicit),
        (options.mask_channel and not (getattr(options, f"{inputs}_ignore")
                                       or getattr(options, f"{inputs}_range")),
         f"--mask_channel needs inputs that may have no measurement: give --{inputs}_ignore with "
         "the values that say so, or remove it"),
        (options.cache and options.mode != "train",
         f"--cache {options.cache} is for --mode train, other modes read each image once: "
         "remove it"),
        (options.no_targets and options.mode != "test",
         "--no_targets is for --mode test: training needs pairs"),
        (options.layout == "pairs" and options.mode != "export" and not takes_pairs(options),
         f"--layout pairs contradicts {single_flag(options)}, which takes single images: remove "
         "one"),
        (options.layout == "single" and options.mode != "export" and takes_pairs(options),
         "--layout single needs --lab_colorization, or --no_targets in test: images are pairs "
         "otherwise")])


def refused_values(side, options):
    """Rows for `check_combinations` of --a_range and --a_ignore, or those of B."""
    low, high = getattr(options, f"{side}_range") or (0, 1)
    given = [f"--{side}_{name}" for name in ("range", "ignore")
             if getattr(options, f"{side}_{name}")]
    return [
        (low >= high, f"--{side}_range {low:g} {high:g} is empty: give the lower value first"),
        (given and options.lab_colorization,
         f"--lab_colorization takes colours: remove {' and '.join(given)}")]


def refused_labels(side, options, explicit):
    """Rows for `check_combinations` of --a_labels and --a_nearest, or those of B."""
    classes, flag = getattr(options, f"{side}_classes"), f"--{side}_labels"
    given = [f"--{side}_{name}" for name in ("labels", "nearest")
             if getattr(options, f"{side}_{name}")]
    rows = [(given and options.lab_colorization,
             f"--lab_colorization takes colours: remove {' and '.join(given)}")]
    if not classes:
        return rows
    has_colours, count = "color" in classes[0], len(classes)
    ignore = getattr(options, f"{side}_ignore") or ()
    most = count if has_colours else 65536
    wrong = [f"{value:g}" for value in ignore if value != int(value) or not 0 <= value < most]
    others = [f"--{side}_{name}" for name in ("channels", "range") if f"{side}_{name}" in explicit]
    return [
        *rows,
        (others, f"{' and '.join(others)} contradict{'s' * (len(others) == 1)} {flag}, whose "
         "classes are the channels: remove one"),
        (getattr(options, f"{side}_nearest") and not has_colours,
         f"--{side}_nearest needs colours, {flag} {getattr(options, f'{side}_labels')} has "
         "indices: list the classes with their colours"),
        (wrong, f"--{side}_ignore {' '.join(wrong)} is no class of {flag}, which are 0 to "
         f"{count - 1}" + ", nor an index" * (not has_colours) + ": give a class's number"),
        (len({*ignore} & {*range(count)}) > count - 2,
         f"--{side}_ignore leaves less than two classes of {flag}: ignore fewer")]


def judging_mode(options):
    """The mode that judges the images: of check the one whose verdict it gives."""
    if options.mode != "check":
        return options.mode
    return "test" if options.no_targets else "train"


def single_flag(options):
    """The flag for which images are single."""
    return "--no_targets" if options.no_targets else "--lab_colorization"


def takes_pairs(options):
    """Whether an image file holds two images side by side."""
    return pair_of(options).side_by_side and not options.no_targets \
        and not run_folder.from_folders(options)


# --------------------------------------------------------------------------------------------------
# Checking files
# --------------------------------------------------------------------------------------------------


class ImageCheck(NamedTuple):
    """What a check of a file found."""

    size: int = 0  # bytes
    changed: int = 0  # time of modification, ns
    width: int = 0  # upright
    height: int = 0
    reason: str = ""  # why it cannot be used, "" where it can
    deep_range: list | None = None  # these and the rest: as in images.Described
    channels: int = 3
    dtype: str = "uint8"
    is_stack: bool = False
    is_misfit: bool = False  # readable, but not what its side takes
    is_measured: bool = True  # whether a pixel has a measurement; of a pair in both halves

    @property
    def ratio(self):
        """Width / height."""
        return self.width / self.height


UNCHECKED = ImageCheck()


def read_stamp(path):
    """Size in bytes and time of modification in ns of a file; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def check_file(path, decode, file_type=ImageType()):
    """The ImageCheck of one file, which is read completely. decode: from `create_decoder`.
    file_type: of `types_of_files`."""
    found = None
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return ImageCheck(reason="a folder" if path.is_dir() else "not a file")
        if state.st_size > MAX_BYTES:
            return ImageCheck(reason=f"{state.st_size} bytes are more than {MAX_BYTES}")
        contents = path.read_bytes()
        if format_of(contents) is None:
            return ImageCheck(reason=f"not a {FORMAT_NAMES} file" if contents else "empty")
        found = decode(contents)
        is_measured = file_type.check(contents) and not (
            found.dtype == "float32" and found.deep_range is None)
        return ImageCheck(state.st_size, state.st_mtime_ns, found.width, found.height, "",
                          found.deep_range, found.channels, found.dtype, found.is_stack,
                          is_measured=is_measured)
    except OSError as error:
        reason = "a broken link" if path.is_symlink() and not path.exists() else error.strerror
        return ImageCheck(reason=reason)
    except ValueError as error:
        return ImageCheck(reason=str(error), is_misfit=found is not None)


def checks_path(folder, file_type=ImageType()):
    """Where the checks of a folder are remembered: in the user's cache, by the XDG specification.
    Those of label maps hold for their classes. Raises FileNotFoundError for a user without a home,
    as in a container."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # the specification ignores a relative path
        if home_dir() is None:
            raise FileNotFoundError("there is no home folder")
        cache = os.path.join(home_dir(), ".cache")
    key = b"%d:%b%b" % (CHECKS_VERSION, os.fsencode(os.path.abspath(folder)),
                        file_type.checked_as.encode())
    name = hashlib.sha256(key).hexdigest()[:16]
    return Path(cache, "pix2pix", f"{name}.json")


def read_checks(folder, file_type=ImageType()):
    """Name -> remembered ImageCheck of a folder's usable files; {} where there is none."""
    try:
        stored = json.loads(checks_path(folder, file_type).read_text(encoding="utf-8"))
        return {name: ImageCheck(*check) for name, check in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def read_files(paths, read, seconds=math.inf):
    """Path -> read(path) of the first of these files: as many as can be read in so many seconds, in
    parallel, and at least one."""
    checks, end = {}, time.monotonic() + seconds
    with quiet_stderr() as stderr, multiprocessing.pool.ThreadPool() as pool, \
            create_progress_bar(len(paths), 0, "image checked", stderr) as bar:
        for path, result in zip(paths, pool.imap(read, paths), strict=True):
            checks[path] = result
            bar.update()
            if time.monotonic() >= end:
                break
    return checks


def check_files(paths, file_type=ImageType()):
    """Path -> ImageCheck of the first of these files: as many as can be decoded in CHECK_SECONDS.
    """
    decode = create_decoder()
    return read_files(paths, lambda path: check_file(path, decode, file_type), CHECK_SECONDS)


def remember_checks(folder, checks, file_type=ImageType()):
    """Stores the checks of a folder's usable files for the next start. checks: path -> ImageCheck.
    """
    good = {os.path.relpath(path, folder): check for path, check in checks.items()
            if check is not UNCHECKED and not check.reason}
    with contextlib.suppress(OSError):  # then the next start checks again
        path = checks_path(folder, file_type)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(good).encode())


def check_folder(folder, paths, file_type=ImageType()):
    """Path -> ImageCheck of these images of a folder. file_type: of `types_of_files`.

    A usable file whose size and time have not changed is not read again; of the others as many are
    checked as time allows, and the next start continues from there. The rest are UNCHECKED.
    """
    known = read_checks(folder, file_type)
    names = {path: os.path.relpath(path, folder) for path in paths}
    checks = {path: known[name] if name in known
              and read_stamp(path) == known[name][:2] else UNCHECKED
              for path, name in names.items()}
    new = [path for path, check in checks.items() if check is UNCHECKED]
    if new:
        checks.update(check_files(new, file_type))
        remember_checks(folder, checks, file_type)
    return checks


# --------------------------------------------------------------------------------------------------
# Shapes: pairs or single images. Judged by width / height alone
# --------------------------------------------------------------------------------------------------


def is_alike(ratio, other):
    """Whether two values of width / height are those of one shape."""
    return abs(ratio / other - 1) < SAME_SHAPE


def usual_ratio(ratios):
    """The width / height that most of the images have; None where their shapes differ."""
    middle = float(np.median(ratios))
    alike = sum(is_alike(ratio, middle) for ratio in ratios)
    return middle if alike >= MOST * len(ratios) else None


def trained_ratio(options):
    """Width / height of the images that the model was trained on; None where it is not known."""
    return options.trained_ratio if options.mode == "test" or options.resume else None


def is_pair(ratio, options):
    """Whether an image of this width / height is a pair rather than a single image."""
    trained = trained_ratio(options)
    if trained and is_alike(ratio, 2 * trained):
        return True
    return ratio >= PAIR_RATIO and not (trained and is_alike(ratio, trained))


def is_pair_of_usual(ratio, options):
    """Whether an image of this width / height is two of the model's, side by side or one above the
    other, rather than one: of squares where the model's are not known."""
    trained = trained_ratio(options)
    single = trained or 1
    return (is_alike(ratio, 2 * single) or is_alike(ratio, single / 2)) \
        and not (trained and is_alike(ratio, trained))


def usable_ratios(checks):
    """Path -> width / height of the images that have been checked and can be used."""
    return {path: check.ratio for path, check in checks.items()
            if check is not UNCHECKED and not check.reason}


def refuse_layout(checks, options):
    """Raises UserError where images look like single ones but are to be split into pairs, or like
    pairs but are to be taken whole."""
    ratios = usable_ratios(checks)
    if options.layout or not ratios:
        return
    usual = float(np.median([*ratios.values()]))
    check = checks[min(ratios, key=lambda path: abs(ratios[path] - usual))]
    size, halves = f"{check.width}x{check.height}", f"{check.width // 2}x{check.height}"
    if takes_pairs(options) and not is_pair(usual, options):
        single = "give --no_targets" if options.mode == "test" \
            else "combine them into pairs (docs/data.md) or give --lab_colorization"
        stacked = "; if they are pairs one above the other, put them side by side" \
            if is_alike(usual, 0.5) else ""
        raise UserError(f"--input_dir {options.input_dir}: images of {size} pixels look single, as "
                        f"pairs their halves would be {halves}: if they are pairs, give --layout "
                        f"pairs; if they are single, {single}{stacked}")
    if not takes_pairs(options) and is_pair_of_usual(usual, options):
        stacked = usual < 1
        if stacked:
            halves = f"{check.width}x{check.height // 2}, one above the other"
        text = f"--input_dir {options.input_dir}: images of {size} pixels look like pairs of " \
               f"{halves}"
        own = options.checkpoint and not options.no_targets  # the flag is the model's
        if own and not trained_ratio(options):
            warn(printable(f"{text}, but are taken whole: the model learnt from single images"))
            return
        remedy = "the model takes single images" if own else \
            f"if they are pairs, remove {single_flag(options)}" \
            + " and put them side by side" * stacked
        raise UserError(f"{text}: {remedy}; if they are single, give --layout single")


def refuse_other_shapes(checks, options):
    """The checks, with those images refused that cannot be split into a pair: narrower than two
    pixels, of a single image's shape, or of another shape than nine tenths of all."""
    if not takes_pairs(options):
        return checks
    ratios, checked = usable_ratios(checks), dict(checks)
    usual = usual_ratio([*ratios.values()]) if ratios else None
    for path, ratio in ratios.items():
        check, reason = checks[path], ""
        if check.width < 2:
            reason = "1 pixel wide"
        elif options.layout:
            continue
        elif usual and abs(ratio / usual - 1) > OTHER_SHAPE:
            reason = f"{check.width}x{check.height} pixels, but nearly all others are " \
                     f"{usual:.3g} times as wide as high"
        elif not is_pair(ratio, options):
            reason = f"{check.width}x{check.height} pixels look like a single image"
        if reason:
            checked[path] = check._replace(reason=f"{reason}: cannot be split into a pair")
    return checked


def image_ratios(checks, options):
    """Width / height of the images that have been checked, of one half where files are pairs."""
    return [ratio / (2 if takes_pairs(options) else 1) for ratio in usable_ratios(checks).values()]


def refuse_different_shapes(checks, examples, options):
    """The checks, with those images refused that are of another shape than the first image of their
    example; of another size, where images are taken as they are."""
    checked, exact = dict(checks), is_own_size(options)
    for first, *others in examples:
        for path in others:
            one, other = checks[first], checks[path]
            if UNCHECKED in (one, other) or one.reason or other.reason:
                continue
            same = (one.width, one.height) == (other.width, other.height)
            if same or (not exact and is_alike(one.ratio, other.ratio)):
                continue
            sizes = f"{other.width}x{other.height} pixels, {first} has {one.width}x{one.height}"
            flag = "--native_size" if options.native_size else "--resize none"
            remedy = f"scale one of them, or do without {flag}" \
                if is_alike(one.ratio, other.ratio) else "crop one of them to the other's shape"
            checked[path] = other._replace(reason=f"{sizes}: {remedy}")
    return checked


# --------------------------------------------------------------------------------------------------
# The images of a mode
# --------------------------------------------------------------------------------------------------


class FoundSide(NamedTuple):
    """What the files of a side are."""

    channels: int = 3  # of 8 bits 1 where all are grey, else 3, also where not all were checked
    dtype: str = "uint8"  # of the values


class ImageList(NamedTuple):
    """The images that a mode uses, by index; ordered by name."""

    examples: list  # the paths of each: one file, or one of each --a_dir and --b_dir
    names: list  # of their results
    ratio: float | None = None  # width / height of the usual image, of one half in files of pairs
    largest: int = 0  # pixels of the largest file that was checked
    sides: tuple = (FoundSide(), FoundSide())  # A's and B's files

    @property
    def paths(self):
        """The first file of each."""
        return [paths[0] for paths in self.examples]


def refuse_unusable(num_bad, num_all, options):
    """Raises UserError where too many images cannot be used."""
    if num_bad and options.on_bad_image == "fail":
        raise UserError(f"{num_bad} of {num_all} images cannot be used: repair or remove them, or "
                        "give --on_bad_image skip")
    if num_bad > MAX_BAD_SHARE * num_all:
        raise UserError(f"{num_bad} of {num_all} images cannot be used, "
                        f"more than {MAX_BAD_SHARE:.0%}: repair or remove them")


def report_bad(checks):
    """Warns of images that cannot be used. Of readable ones that a flag may suit, so with the same
    reason but for its numbers, only the first are named. checks: path -> ImageCheck."""
    alike = collections.defaultdict(list)
    for path, check in checks.items():
        if check.reason:
            alike[re.sub(r"\d+", "", check.reason) if check.is_misfit else path].append(path)
    for paths in alike.values():
        for path in paths[:MAX_ALIKE]:
            warn(f"{printable(path)} cannot be used: {checks[path].reason}")
        if len(paths) > MAX_ALIKE:
            warn(f"and {len(paths) - MAX_ALIKE} more, for reasons like these")


def split_by_side(examples, options):
    """The files of A and those of B; where files hold both, they are in both."""
    places = [*zip(*examples, strict=True)]
    if not run_folder.from_folders(options):
        return places[0], places[0]
    num_a = len(options.a_dir or ())
    return [path for paths in places[:num_a] for path in paths], \
        [path for paths in places[num_a:] for path in paths]


def list_checked(paths, checks):
    """The ImageChecks of those of these files that have been checked."""
    return [checks[path] for path in paths if checks[path] is not UNCHECKED]


def count_channels(paths, checks):
    """Number of the files that have been checked, by their channels."""
    return collections.Counter(check.channels for check in list_checked(paths, checks))


def type_of(check):
    """The type of the values in a file that has been checked: of whole numbers of 32 bits uint16
    where that holds them."""
    low, high = check.deep_range or (0, 0)
    return "uint16" if check.dtype in ("int32", "uint32") and 0 <= low <= high <= 65535 \
        else check.dtype


def find_type(letter, paths, checks, is_mixable=True):
    """The type of the values in a side's files; where some have 8 bits and some 16, all are read as
    8 if that is_mixable. Raises UserError where they differ otherwise, or have a type that is not
    read."""
    known = [path for path in paths if checks[path] is not UNCHECKED]
    firsts = {type_of(checks[path]): path for path in reversed(known)}
    for dtype, path in firsts.items():
        if dtype not in VALUE_TYPES:
            flag = f"--{letter.lower()}_range"
            ranges = [checks[path].deep_range for path in known if checks[path].deep_range]
            suited = " ".join(f"{value:g}" for value in suggest_range(np.float64(ranges)))
            low, high = checks[path].deep_range
            raise UserError(printable(
                f"{path} has whole numbers from {low} to {high} (read as {dtype}), and 0 to 65535 "
                f"are taken: save all images of {letter} as float32, in .npy or TIFF files, and "
                f"give {flag}, such as {flag} {suited}"))
    if len(firsts) > 1 and ("float32" in firsts or not is_mixable):
        names = all_of([f"{dtype}, such as {path}" for dtype, path in sorted(firsts.items())])
        raise UserError(printable(f"images of {letter} have values of {names}: convert them to one "
                                  "type"))
    return "uint8" if len(firsts) != 1 else next(iter(firsts))


def find_side(letter, paths, checks, options):
    """What the files of a side are, as a FoundSide. checks: path -> ImageCheck. Raises UserError
    where they differ too much, or cannot be read."""
    side = letter.lower()
    # a model of 8-bit images reads 16 bits; else values would not be what flags or folders say
    is_mixable = getattr(options, f"{side}_type") == "uint8" or not (
        getattr(options, f"{side}_range") or getattr(options, f"{side}_ignore")
        or side == "a" and options.num_inputs > 1)
    counts, known = count_channels(paths, checks), list_checked(paths, checks)
    dtype = find_type(letter, paths, checks, is_mixable)
    if dtype == "uint8" and not any(check.is_stack for check in known):
        is_grey = {*counts} <= {1, 2} and len(known) == len(paths)
        return FoundSide(1 if is_grey else 3)
    if len(counts) > 1:
        raise UserError(f"images of {letter} have {all_of(sorted(map(str, counts)))} channels: "
                        "give them all the same")
    return FoundSide(known[0].channels, dtype)


def find_label_side(labels, paths, checks):
    """What the files of a side of label maps are, as a FoundSide. labels: LabelMap."""
    known = list_checked(paths, checks)
    is_deep = labels.is_drawn and any(check.dtype == "uint16" or (check.deep_range or [0])[-1] > 255
                                      for check in known)
    return FoundSide(labels.file_channels, "uint16" if is_deep else "uint8")


def find_sides(examples, checks, options):
    """`find_side` of A and B, of which one may have no files."""
    sides = zip("ab", sides_of(options), split_by_side(examples, options), strict=True)
    return tuple(FoundSide() if not paths else find_label_side(side, paths, checks)
                 if side.kind == "labels" else find_side(letter.upper(), paths, checks, options)
                 for letter, side, paths in sides)


def report_channels(examples, checks, options):
    """Says what of the images the network does not see or make, by the channels that it has."""
    inputs = "b" if options.which_direction == "BtoA" else "a"
    for side, paths in zip("ab", split_by_side(examples, options), strict=True):
        if options.lab_colorization or options.no_targets and side != inputs \
                or getattr(options, f"{side}_classes"):
            continue
        is_stack = any(check.is_stack for check in list_checked(paths, checks))
        if is_stack or getattr(options, f"{side}_type") != "uint8":
            continue
        counts, channels = count_channels(paths, checks), getattr(options, f"{side}_channels")
        images = f"of {sum(counts.values())} images of {side.upper()}"
        coloured, with_alpha = counts[3] + counts[4], counts[2] + counts[4]
        if channels == 1 and coloured:
            say(f"{coloured} {images} have colours: with 1 channel their luminance counts")
        if channels < 4 and with_alpha:
            say(f"{with_alpha} {images} have an alpha channel: what is transparent lies on white, "
                f"--{side}_channels 4 keeps it in training")
        if channels == 3 and coloured == 0 and 0 < sum(counts.values()) < len(paths):
            say(f"all images of {side.upper()} that were checked are grey, {len(paths)} in all: "
                f"--{side}_channels 1 takes them as grey")


def with_sides(options, found):
    """The options with what the files of A and B are, as far as they do not say it. found: a
    FoundSide of each."""
    values = {}
    for side, (channels, dtype) in zip("ab", found, strict=True):
        if options.lab_colorization:
            channels, dtype = 3, "uint8"
        values[f"{side}_channels"] = getattr(options, f"{side}_channels") or channels
        values[f"{side}_type"] = getattr(options, f"{side}_type") or dtype
    return with_options(options, **values)


def refuse_ignored(side, options):
    """Raises UserError where --a_ignore, or --b_ignore, has what the files' type cannot hold."""
    dtype = getattr(options, f"{side}_type")
    for value in getattr(options, f"{side}_ignore") or ():
        if dtype != "float32" and not (value == int(value) and 0 <= value <= np.iinfo(dtype).max):
            raise UserError(f"--{side}_ignore {value:g} is no value of images of "
                            f"{8 * np.dtype(dtype).itemsize} bits: remove it")


def refuse_unmeasured(what, sides, paths, checks, options):
    """Raises UserError where training would have no measurement, and says which images hold none.
    what: such as "images of B"; sides: such as "b"; paths: of the images; checks: path ->
    ImageCheck."""
    empty = [path for path in paths if not checks[path].is_measured]
    if not empty:
        return
    has_floats = any(checks[path].dtype == "float32" for path in empty)
    flags = [f"--{side}_ignore" for side in sides if getattr(options, f"{side}_ignore")]
    has_classes = any(getattr(options, f"{side}_classes") for side in sides)
    noun = "label that counts" if has_classes else "measurement"
    if len(empty) == len(paths) and options.mode == "train":
        reasons = ["NaN or infinite"] * has_floats + [f"ignored by {flag}" for flag in flags]
        remedy = f"correct {all_of(flags)}, or " if flags else ""
        raise UserError(f"{what} hold no {noun}, every pixel is {' or '.join(reasons)}: {remedy}"
                        "give others")
    names = [*map(str, empty[:MAX_ALIKE])]
    names += [f"{len(empty) - MAX_ALIKE} more"] * (len(empty) > MAX_ALIKE)
    say(printable(f"{len(empty)} of {len(paths)} {what} hold{'s' * (len(empty) == 1)} no {noun}: "
                  f"{all_of(names)}"))


def refuse_unmeasured_sides(examples, checks, options):
    """`refuse_unmeasured` of A and of B, or of files that hold both."""
    places = split_by_side(examples, options)
    if not run_folder.from_folders(options):
        refuse_unmeasured("images", "ab", places[0], checks, options)
        return
    for side, paths in zip("ab", places, strict=True):
        refuse_unmeasured(f"images of {side.upper()}", side, paths, checks, options)


def report_range(side, checks, options):
    """Says what of the values of a side, "a" or "b", lies outside its range, or how little of it
    they use. checks: of its files."""
    dtype, value_range, ignore = (
        getattr(options, f"{side}_{name}") for name in ("type", "range", "ignore"))
    letter = side.upper()
    ranges = np.array([check.deep_range for check in checks if check.deep_range])
    low, high = value_range or (0, 65535)
    if dtype == "uint8" and value_range and (low > 0 or high < 255):
        say(f"values of {letter} outside --{side}_range {low:g} {high:g} are clipped: --mode check "
            "says how many there are")
    if not ranges.size or dtype == "uint8":
        return
    lowest, highest = ranges.min(), ranges.max()
    parts = [f"{what} {value:g}" for what, value, is_outside in (
        ("from", lowest, lowest < low), ("up to", highest, highest > high))
        if is_outside and value not in (ignore or ())]
    if parts:
        say(f"values of {letter} go {' '.join(parts)}: what lies outside --{side}_range "
            f"{low:g} {high:g} is clipped")
    elif not value_range and 2 * (highest - lowest) < high - low:
        say(f"values of {letter} are {lowest:g} to {highest:g}, and {low} to {high} become -1 to 1 "
            f"in the network: --mode check says which --{side}_range and --{side}_ignore suit them")


def refuse_values(side, paths, checks, options):
    """Raises UserError where --a_range, --a_ignore or --a_channels do not fit the files of a side,
    "a" or "b". checks: of them."""
    channels, dtype, value_range = (
        getattr(options, f"{side}_{name}") for name in ("channels", "type", "range"))
    letter, stacks = side.upper(), {check.channels for check in checks if check.is_stack}
    counts = {check.channels for check in checks}
    known = all_of([*map(str, sorted(counts))])
    if dtype == "uint8" and channels in CHANNELS and not stacks:
        counts = {channels}  # colours can be converted
    elif dtype == "uint8" and not stacks:
        raise UserError(f"--{side}_channels {channels}: images of 8 bits have 1, 3 or 4")
    if counts - {channels}:
        raise UserError(printable(
            f"images of {letter}, such as {paths[0]}, have {known} channels, the model takes "
            f"{channels}: remove --{side}_channels, or convert them"))
    if dtype == "float32" and not value_range:
        ranges = [check.deep_range for check in checks if check.deep_range]
        low, high = suggest_range(np.float32(ranges)) or (0, 1)
        found = f", {np.min(ranges):.6g} to {np.max(ranges):.6g}" if ranges else ""
        raise UserError(f"images of {letter} hold floating-point values{found}: give their range, "
                        f"such as --{side}_range {low:g} {high:g}")
    report_range(side, checks, options)
    refuse_ignored(side, options)


def refuse_sides(found, checks, examples, options):
    """Raises UserError where the files of a side are not what the model takes, and warns of 16 bits
    that are read as 8. found: of `find_sides`; options: with them."""
    inputs = "b" if options.which_direction == "BtoA" else "a"
    sides = zip("ab", split_by_side(examples, options), found, strict=True)
    for side, paths, (_, dtype) in sides:
        letter, taken = side.upper(), getattr(options, f"{side}_type")
        if not paths or options.no_targets and side != inputs:
            continue
        if getattr(options, f"{side}_classes"):
            refuse_ignored(side, options)
            continue
        if taken == "uint8" and dtype != "float32":
            deep = [check.deep_range for check in list_checked(paths, checks)]
            if side == inputs or run_folder.from_folders(options):  # else these have been reported
                report_deep(deep)
        elif taken != dtype:
            raise UserError(printable(f"images of {letter}, such as {paths[0]}, have values of "
                                      f"{dtype}, the model takes {taken}: convert them"))
        refuse_values(side, paths, list_checked(paths, checks), options)
    if options.mask_channel and not pair_of(options).inputs.has_mask:
        raise UserError(f"--mask_channel needs inputs that may have no measurement: give --{inputs}"
                        "_ignore with the values that say so, or remove it")
    if takes_pairs(options) and options.a_type != options.b_type:
        raise UserError(f"the model takes values of {options.a_type} from A and of "
                        f"{options.b_type} from B, which no file of pairs holds: give --a_dir and "
                        "--b_dir")


def count_cached(examples, checks, options):
    """Number of these examples that --cache has room for. Unchecked ones count as the mean of the
    others; which ones are cached depends on the order in which they are read."""
    known = [check for check in checks.values() if check is not UNCHECKED]
    pixels = np.mean([check.width * check.height for check in known])
    types = types_of_files(len(examples[0]), options)
    num_bytes = pixels * sum(side.bytes_per_pixel for side in types)
    return min(len(examples), int(options.cache * 2**20 / num_bytes))


def list_files(folder):
    """The images of --input_dir, which may be one file. Raises UserError where there are none."""
    if os.path.isfile(folder):
        return [Path(folder)]
    contents = list_folder(folder)
    if not contents.images:
        raise UserError(f"--input_dir {describe_no_images(folder, contents)}")
    report_others(folder, contents)
    return contents.images


def choose_some(examples, options):
    """--max_images of the examples, the first of an order that follows from --seed."""
    if options.max_images is None or options.max_images >= len(examples):
        return examples
    order = np.random.default_rng(options.seed).permutation(len(examples))
    say(f"--max_images {options.max_images}: using {options.max_images} of {len(examples)} images")
    return [examples[index] for index in sorted(order[:options.max_images])]


def check_examples(examples, options, look=check_folder):
    """Path -> ImageCheck of the files of examples. look: as in `list_images`. Raises UserError
    where they are not what the mode takes."""
    checks, sources = {}, run_folder.list_sources(options)
    types = types_of_files(len(sources), options)
    for (_, folder), file_type, *paths in zip(sources, types, *examples, strict=True):
        checks.update(look(folder, paths, file_type))
    if run_folder.from_folders(options):
        return refuse_different_shapes(checks, examples, options)
    refuse_layout(checks, options)
    return refuse_other_shapes(checks, options)


def report_stretching(ratios, options):
    """Says so where training squeezes images into another shape, and results keep that. ratios:
    width / height of the images."""
    (height, width), usual = size_of(options.crop_size), usual_ratio(ratios)
    kept = options.aspect_ratio * width / height
    if usual is None:
        say(f"images have different shapes, {min(ratios):.3g} to {max(ratios):.3g} times as wide "
            f"as high, and are stretched to {width}x{height}: --resize crop or pad keeps them")
    elif not is_alike(usual, kept):
        remedy = "--resize crop or pad keeps their shape"
        if width == height and options.aspect_ratio == 1:
            remedy = f"--aspect_ratio {usual:.3g} gives results their shape, --resize crop or " \
                     "pad keeps it"
        say(f"images are {usual:.3g} times as wide as high and are stretched to {width}x{height}: "
            f"{remedy}")


def report_squeezing(ratios, options, remedy):
    """Says so where images are squeezed otherwise than training's. ratios: width / height of the
    images; remedy: what keeps their shape, with a verb."""
    trained, size = trained_ratio(options), size_of(options.crop_size)
    others = [ratio for ratio in ratios if trained and abs(ratio / trained - 1) > OTHER_SHAPE]
    if others:
        say(f"{len(others)} of {len(ratios)} images are of another shape than most training "
            f"images, {trained:.3g} times as wide as high, and are stretched to {size.width}x"
            f"{size.height}: {remedy}")


def list_images(options, look=check_folder, refuse=raise_error, remedy=TEST_REMEDY):
    """The ImageList of a mode; warns of what is not used. Raises UserError where too many or all of
    them cannot be used, or are not what the mode takes.

    look: a function of a folder, paths in it and what their files are read as that returns path ->
    ImageCheck. refuse: is called with a UserError after which there is more to be found. remedy: as
    in `report_squeezing`.
    """
    examples = match_folders(options, refuse) if run_folder.from_folders(options) else \
        [(path,) for path in list_files(options.input_dir)]
    examples = choose_some(examples, options)
    checks = check_examples(examples, options, look)
    bad = {path for path, check in checks.items() if check.reason}
    report_bad(checks)
    num_checked = sum(all(checks[path] is not UNCHECKED for path in paths) for paths in examples)
    usable = [paths for paths in examples if not bad & {*paths}]
    refuse_unusable(len(examples) - len(usable), num_checked, options)
    if num_checked < len(examples):
        say(f"checked {num_checked} of {len(examples)} images; the others are checked when they "
            "are read")
    good = {path: checks[path] for paths in usable for path in paths}
    sides = find_sides(usable, good, options)
    options = with_sides(options, sides)
    refuse_unmeasured_sides(usable, good, options)
    refuse_sides(sides, good, usable, options)
    report_channels(usable, good, options)
    if options.cache:
        num_cached = count_cached(usable, good, options)
        if num_cached < len(usable):
            say(f"--cache {options.cache} has room for about {num_cached} of {len(usable)} images; "
                "the others are decoded every time")
    firsts = {paths[0]: checks[paths[0]] for paths in usable}
    folder = run_folder.list_sources(options)[0][1] if run_folder.from_folders(options) else None
    largest = max((check.width * check.height for check in firsts.values()), default=0)
    ratios = image_ratios(firsts, options)
    if ratios and options.resize == "stretch" and not options.native_size:
        if options.mode == "train":
            report_stretching(ratios, options)
        else:
            report_squeezing(ratios, options, remedy)
    ratio = round(float(np.median(ratios)), 4) if ratios else None
    return ImageList(usable, unique_names([*firsts], folder), ratio, largest, sides)


def reading_errors():
    """TensorFlow's errors for a step whose images cannot be read."""
    errors = tf.errors
    return (errors.InvalidArgumentError, errors.NotFoundError, errors.DataLossError,
            errors.FailedPreconditionError, errors.PermissionDeniedError, errors.UnknownError)


def check_again(examples, options):
    """Yields path and ImageCheck of the files of some examples, whatever is remembered: the medium
    may have changed, or the first check did not come to them."""
    decode = create_decoder()
    for paths in examples:
        for path, file_type in zip(paths, types_of_files(len(paths), options), strict=True):
            check = check_file(path, decode, file_type)
            side = getattr(file_type, "whole", file_type)
            found, taken = (check.channels, type_of(check)), (side.file_channels, side.dtype)
            if not check.reason and side.is_exact and found != taken:
                check = check._replace(reason="channels and type of its values are {} and {}, the "
                                       "model takes {} and {}".format(*found, *taken))
            yield path, check


def explain_unreadable(error, examples, options):
    """Which of the examples a TensorFlow error is about, and why; the error where it has another
    cause."""
    for path, check in check_again(examples, options):
        if check.reason:
            return f"{printable(path)} cannot be used: {check.reason}"
    return describe_error(error)


class UnreadableImages:
    """The images that turned out unreadable while a run was reading them."""

    def __init__(self, options, examples):
        """examples: ImageList's."""
        self.options, self.examples, self.bad = options, examples, set()

    def report(self, error, indices):
        """Finds out which of these images a TensorFlow error is about, and warns of them.

        Raises UserError where they end the run, RunError where the error has another cause.
        """
        for flag, folder in run_folder.list_sources(self.options):
            try:
                if not os.path.isfile(folder):
                    os.listdir(folder)
            except OSError as reason:
                raise UserError(f"{flag} {folder} cannot be read any more ({reason.strerror}): "
                                "restore it") from None
        suspects = [self.examples[index] for index in indices]
        checks = dict(check_again(suspects, self.options))
        checks = refuse_different_shapes(checks, suspects, self.options) \
            if run_folder.from_folders(self.options) else refuse_other_shapes(checks, self.options)
        bad = {path: check.reason for path, check in checks.items() if check.reason}
        if not bad:
            raise RunError(describe_error(error))
        for path in bad.keys() - self.bad:
            warn(f"{printable(path)} cannot be used: {bad[path]}")
        self.bad.update(bad)
        num_bad = sum(bool({*paths} & self.bad) for paths in self.examples)
        refuse_unusable(num_bad, len(self.examples), self.options)


# --------------------------------------------------------------------------------------------------
# Reading files in the graph
# --------------------------------------------------------------------------------------------------


def create_path_reader(paths):
    """A function from an image's index [] int64 to the bytes of its file.

    The paths are one string: as a list, 137,000 of them took 1.2 s more to start and 180 MB.
    """
    encoded = [os.fsencode(path) for path in paths]
    lengths = np.array([len(path) for path in encoded])
    joined, starts = tf.constant(b"".join(encoded)), tf.constant(np.cumsum(lengths) - lengths)
    lengths = tf.constant(lengths)
    return lambda index: tf.io.read_file(tf.strings.substr(joined, starts[index], lengths[index]))


class ImageCache:
    """Decoded images by index: the first that are read, as many as there is room for. A file that
    changes is not read again."""

    def __init__(self, num_bytes):
        """num_bytes: the room."""
        self.room, self.images, self.lock = num_bytes, {}, threading.Lock()

    def get(self, index, dtype):
        """The image [height, width, channels]; an empty one if it is not cached."""
        return self.images.get(int(index), np.zeros([0, 0, 0], dtype))

    def put(self, index, pixels):
        """Caches a copy of an image if there is room, and returns it."""
        with self.lock:
            if int(index) not in self.images and pixels.nbytes <= self.room:
                self.images[int(index)] = pixels.copy()
                self.room -= pixels.nbytes
        return pixels

    def read(self, index, load, dtype):
        """The image of an index [] int64, from memory or from `load(index)`: [height, width,
        channels] of a type."""
        get = functools.partial(self.get, dtype=dtype)
        cached, loaded = tf.numpy_function(get, [index], tf.as_dtype(dtype)), []

        def load_and_put():
            """When it is not there yet."""
            loaded.append(load(index))
            return tf.numpy_function(self.put, [index, loaded[0]], tf.as_dtype(dtype))
        pixels = tf.cond(tf.size(cached) > 0, lambda: cached, load_and_put)
        pixels.set_shape(loaded[0].shape)
        return pixels


def types_of_files(count, options):
    """What each of the `count` files of an example is read as: an ImageType, or a PairType."""
    pair_type = pair_of(options)
    if options.no_targets:
        return [pair_type.inputs] * count
    if count == 1:
        return [pair_type]
    sides = [pair_type.inputs] * (count - 1) + [pair_type.targets]
    return sides if options.which_direction == "AtoB" else sides[::-1]


def create_loader(examples, options):
    """A function from an example's index [] int64 to its images, inputs first: each
    [height, width, channels], as `ImageType.take` gives it."""
    pair_type = pair_of(options)
    readers = [create_path_reader(paths) for paths in zip(*examples, strict=True)]
    types, cache = types_of_files(len(readers), options), ImageCache(options.cache * 2**20)

    def load_pixels(index, place):
        """The pixels of one file of an example."""
        def decode(_):
            """From the file."""
            return types[place].decode(readers[place](index))
        if not options.cache:
            return decode(index)
        return cache.read(len(readers) * index + place, decode, types[place].dtype)

    def load(index):
        """One example."""
        files = [load_pixels(index, place) for place in range(len(readers))]
        if options.no_targets:
            return [*map(pair_type.inputs.take, files)]
        if len(files) == 1:
            return pair_type.take(files[0])
        *inputs, targets = files if options.which_direction == "AtoB" else files[::-1]
        return [*map(pair_type.inputs.take, inputs), pair_type.targets.take(targets)]
    return load
