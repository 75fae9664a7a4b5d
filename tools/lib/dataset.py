"""Which files make an example: found by content, checked before the first step, cached decoded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing.pool
import os
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.lib.cli import (RunError, UserError, check_combinations, create_progress_bar,
                           describe_error, home_dir, number_type, printable, quiet_stderr, say,
                           warn)
from tools.lib.files import sorted_by_name, write_atomic
from tools.lib.images import FORMAT_NAMES, RGB, choose_pair, create_decoder, format_of, is_candidate
from tools.lib.tf1 import tf

MAX_BYTES = 2**30  # of a file
MAX_BAD_SHARE = 0.1  # of the images, with --on_bad_image skip
CHECK_SECONDS = 10  # spent on checking before the first step


def add_options(add):
    """Which files are examples, and how they are read."""
    add("--no_targets", action="store_true",
        help="test: images are inputs without targets, not pairs")
    add("--on_bad_image", default="fail", choices=["fail", "skip"],
        help="what to do with an image that cannot be read: end the run, or warn and leave it out")
    add("--cache", type=number_type(int, 0), default=0,
        help="MiB of memory for decoded images, so that later epochs need not decode them")


def check(options, _explicit):
    """Raises UserError for flags of another mode."""
    check_combinations([
        (options.cache and options.mode != "train",
         f"--cache {options.cache} is for --mode train, other modes read each image once: "
         "remove it"),
        (options.no_targets and options.mode != "test",
         "--no_targets is for --mode test: training needs pairs")])


# --------------------------------------------------------------------------------------------------
# Checking files
# --------------------------------------------------------------------------------------------------


class ImageCheck(NamedTuple):
    """What a check of a file found."""

    size: int = 0  # bytes
    changed: int = 0  # time of modification, ns
    width: int = 0
    height: int = 0
    reason: str = ""  # why it cannot be used, "" where it can


UNCHECKED = ImageCheck()


def read_stamp(path):
    """Size in bytes and time of modification in ns of a file; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def check_file(path, decode):
    """The ImageCheck of one file, which is read completely. decode: from `create_decoder`."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return ImageCheck(reason="a folder" if path.is_dir() else "not a file")
        if state.st_size > MAX_BYTES:
            return ImageCheck(reason=f"{state.st_size} bytes are more than {MAX_BYTES}")
        contents = path.read_bytes()
        if format_of(contents) is None:
            return ImageCheck(reason=f"not a {FORMAT_NAMES} file" if contents else "empty")
        height, width = decode(contents)
        return ImageCheck(state.st_size, state.st_mtime_ns, int(width), int(height))
    except OSError as error:
        reason = "a broken link" if path.is_symlink() and not path.exists() else error.strerror
        return ImageCheck(reason=reason)
    except ValueError as error:
        return ImageCheck(reason=str(error))


def checks_path(folder):
    """Where the checks of a folder are remembered: in the user's cache, by the XDG specification.
    Raises FileNotFoundError for a user without a home, as in a container."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # the specification ignores a relative path
        if home_dir() is None:
            raise FileNotFoundError("there is no home folder")
        cache = os.path.join(home_dir(), ".cache")
    name = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:16]
    return Path(cache, "pix2pix", f"{name}.json")


def read_checks(folder):
    """Name -> remembered ImageCheck of a folder's usable files; {} where there is none."""
    try:
        stored = json.loads(checks_path(folder).read_text(encoding="utf-8"))
        return {name: ImageCheck(*check) for name, check in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def check_files(paths):
    """Path -> ImageCheck of the first of these files: as many as can be decoded in CHECK_SECONDS,
    in parallel, and at least one."""
    decode, checks, end = create_decoder(), {}, time.monotonic() + CHECK_SECONDS
    with quiet_stderr() as stderr, multiprocessing.pool.ThreadPool() as pool, \
            create_progress_bar(len(paths), 0, "image checked", stderr) as bar:
        results = pool.imap(lambda path: check_file(path, decode), paths)
        for path, result in zip(paths, results, strict=True):
            checks[path] = result
            bar.update()
            if time.monotonic() >= end:
                break
    return checks


def check_folder(folder):
    """Path -> ImageCheck of what is or should be an image in a folder, ordered by name.

    A usable file whose size and time have not changed is not read again; of the others as many are
    checked as time allows, and the next start continues from there. The rest are UNCHECKED.
    """
    known, checks = read_checks(folder), {}
    for path in Path(folder).iterdir():
        if path.name in known and read_stamp(path) == known[path.name][:2]:
            checks[path] = known[path.name]
        elif is_candidate(path):
            checks[path] = UNCHECKED
    checks = {path: checks[path] for path in sorted_by_name(checks)}
    new = [path for path, check in checks.items() if check is UNCHECKED]
    if new:
        checks.update(check_files(new))
        good = {path.name: check for path, check in checks.items()
                if check is not UNCHECKED and not check.reason}
        with contextlib.suppress(OSError):  # then the next start checks again
            checks_path(folder).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(checks_path(folder), json.dumps(good).encode())
    return checks


def check_shapes(checks, options):
    """The checks, with those images refused that cannot be split into a pair: narrower than two
    pixels, or of another shape than nine tenths of all, as a single image among pairs is."""
    pair = choose_pair(options.lab_colorization, options.which_direction)
    if options.no_targets or not pair.side_by_side:
        return checks
    ratios = {path: check.width / check.height for path, check in checks.items()
              if check is not UNCHECKED and not check.reason}
    usual = float(np.median([*ratios.values()])) if ratios else 1.0
    alike = sum(abs(ratio / usual - 1) < 0.01 for ratio in ratios.values())
    checked = dict(checks)
    for path, ratio in ratios.items():
        check = checks[path]
        if check.width < 2:
            checked[path] = check._replace(reason="1 pixel wide: cannot be split into a pair")
        elif alike >= 0.9 * len(ratios) and not 1 / 1.5 < ratio / usual < 1.5:
            checked[path] = check._replace(
                reason=f"{check.width}x{check.height} pixels, but nearly all others are "
                       f"{usual:.3g} times as wide as high: cannot be split into a pair")
    return checked


def refuse_unusable(num_bad, num_all, options):
    """Raises UserError where too many images of --input_dir cannot be used."""
    if num_bad and options.on_bad_image == "fail":
        raise UserError(f"{num_bad} of {num_all} images cannot be used: repair or remove them, or "
                        "give --on_bad_image skip")
    if num_bad > MAX_BAD_SHARE * num_all:
        raise UserError(f"{num_bad} of {num_all} images cannot be used, "
                        f"more than {MAX_BAD_SHARE:.0%}: repair or remove them")


def count_cached(checks, options):
    """Number of these images that --cache has room for. Unchecked ones count as the mean of the
    others; which ones are cached depends on the order in which they are read."""
    sizes = [RGB.bytes_per_pixel * check.width * check.height
             for check in checks if check is not UNCHECKED]
    return min(len(checks), int(options.cache * 2**20 / np.mean(sizes)))


def list_images(options):
    """The usable images of --input_dir; warns of the others. Raises UserError where these are too
    many or all."""
    checks = check_shapes(check_folder(options.input_dir), options)
    if not checks:
        raise UserError(f"--input_dir {options.input_dir} contains no {FORMAT_NAMES} images: "
                        "check the path")
    bad = {path: check.reason for path, check in checks.items() if check.reason}
    for path, reason in bad.items():
        warn(f"{printable(path)} cannot be used: {reason}")
    num_checked = sum(check is not UNCHECKED for check in checks.values())
    refuse_unusable(len(bad), num_checked, options)
    if num_checked < len(checks):
        say(f"checked {num_checked} of {len(checks)} images; the others are checked when they are "
            "read")
    usable = {path: check for path, check in checks.items() if path not in bad}
    if options.cache:
        num_cached = count_cached([*usable.values()], options)
        if num_cached < len(usable):
            say(f"--cache {options.cache} has room for about {num_cached} of {len(usable)} images; "
                "the others are decoded every time")
    return [*usable]


def reading_errors():
    """TensorFlow's errors for a step whose images cannot be read."""
    errors = tf.errors
    return (errors.InvalidArgumentError, errors.NotFoundError, errors.DataLossError,
            errors.FailedPreconditionError, errors.PermissionDeniedError, errors.UnknownError)


class UnreadableImages:
    """The images that turned out unreadable while a run was reading them."""

    def __init__(self, options, paths):
        """paths: of the images, by index."""
        self.options, self.paths, self.bad = options, paths, {}

    def report(self, error, indices):
        """Finds out which of these images a TensorFlow error is about, and warns of them.

        Raises UserError where they end the run, RunError where the error has another cause.
        """
        try:
            os.listdir(self.options.input_dir)
        except OSError as reason:
            raise UserError(f"--input_dir {self.options.input_dir} cannot be read any more "
                            f"({reason.strerror}): restore it") from None
        suspects, decode = [self.paths[index] for index in indices], create_decoder()
        # decoded again whatever size and time are: the medium may have changed
        checks = check_shapes({path: check_file(path, decode) for path in suspects}, self.options)
        bad = {path: check.reason for path, check in checks.items() if check.reason}
        if not bad:
            raise RunError(describe_error(error))
        for path in bad.keys() - self.bad.keys():
            warn(f"{printable(path)} cannot be used: {bad[path]}")
        self.bad.update(bad)
        refuse_unusable(len(self.bad), len(self.paths), self.options)


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

    def __init__(self, num_bytes, image_type=RGB):
        """num_bytes: the room."""
        self.room, self.image_type = num_bytes, image_type
        self.images, self.lock = {}, threading.Lock()

    def get(self, index):
        """The image [height, width, file_channels]; an empty one if it is not cached."""
        empty = np.zeros([0, 0, self.image_type.file_channels], self.image_type.dtype)
        return self.images.get(int(index), empty)

    def put(self, index, pixels):
        """Caches a copy of an image if there is room, and returns it."""
        with self.lock:
            if int(index) not in self.images and pixels.nbytes <= self.room:
                self.images[int(index)] = pixels.copy()
                self.room -= pixels.nbytes
        return pixels

    def read(self, index, load):
        """The image of an index [] int64, from memory or from `load(index)`:
        [height, width, file_channels]."""
        dtype = tf.as_dtype(self.image_type.dtype)
        cached = tf.numpy_function(self.get, [index], dtype)
        pixels = tf.cond(tf.size(cached) > 0, lambda: cached,
                         lambda: tf.numpy_function(self.put, [index, load(index)], dtype))
        pixels.set_shape([None, None, self.image_type.file_channels])
        return pixels
