#!/usr/bin/env python3
"""Turns a folder of images into another: resizes, greys, blanks, draws edges, joins pairs.

    python tools/process.py --input_dir photos/original --operation resize \\
        --output_dir photos/resized
    python tools/process.py --input_dir photos/resized --operation blank --output_dir photos/blank
    python tools/process.py --input_dir photos/resized --b_dir photos/blank --operation combine \\
        --output_dir photos/combined

The flags are those of affinelayer/pix2pix-tensorflow's tools/process.py. Results are NAME.png.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib
import io
import math
import multiprocessing
import os
import re
import signal
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pix2pix  # noqa: E402
from pix2pix import OneLineParser, UserError, number_type, printable  # noqa: E402

OPERATIONS = ["resize", "grayscale", "blank", "combine", "edges"]
ENDINGS = {".jpg", ".jpeg", ".png"}  # a file that has one of these must be an image
CHUNK = 8  # images that a worker takes at once
# of PNG files, by time and size (docs/benchmarks.md). Runs of one byte: as small as level 6 in a
# quarter of its time; but what is there twice, as in pairs with their blanked copies, takes twice
RUNS, REPEATS = {"compress_type": zlib.Z_RLE}, {"compress_level": 1}
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, TypeError,
              MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
              Image.DecompressionBombWarning)  # what Pillow raises on broken files
ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ)  # other names may be written all right
LEFTOVER = re.compile(r"\..+\.png\.\d+\.tmp", re.DOTALL)  # pix2pix.write_atomic's, of a killed run


class ImageError(ValueError):
    """One image fails, the others go on; its text is the one line that is shown."""


class Options(NamedTuple):
    """The command line, frozen. Meanings and defaults stand in `create_parser`."""

    input_dir: Path
    output_dir: Path
    operation: str
    workers: int
    pad: bool
    size: int
    b_dir: Path | None
    edge_sigma: float
    edge_min_length: int
    force: bool


class Job(NamedTuple):
    """One result: the files it is made from and its own path."""

    input_path: Path
    b_path: Path | None
    output_path: Path


# --------------------------------------------------------------------------------------------------
# Arrays: uint8 [height, width, 3] in; [height, width, 3] or [height, width] out
# --------------------------------------------------------------------------------------------------


def crop_square(image):
    """The central square: [height, width, 3] -> [side, side, 3], side the shorter of the two."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top:top + side, left:left + side]


def pad_square(image):
    """Black around it: [height, width, 3] -> [side, side, 3], side the longer of the two."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.zeros([side, side, 3], np.uint8)
    padded[top:top + height, left:left + width] = image
    return padded


def sum_rows(rows, size):
    """[height, width, 3] -> float32 [size, width, 3]: sums of height / size rows, with parts."""
    height = len(rows)
    # result row i covers source rows i * height / size to (i + 1) * height / size
    start = np.arange(size) * (height / size)
    end = (np.arange(size) + 1) * (height / size)
    flat = rows.reshape(height, -1)  # [height, width * 3]: a fifth faster than three axes
    sums = np.zeros([size, flat.shape[1]], np.float32)
    for tap in range(math.ceil(height / size) + 1):
        index = np.arange(size) * height // size + tap
        share = np.clip(np.minimum(end, index + 1) - np.maximum(start, index), 0, 1)
        sums += flat[np.minimum(index, height - 1)] * share.astype(np.float32)[:, None]
    return sums.reshape(size, *rows.shape[1:])


def scale_square(image, size):
    """[side, side, 3] -> [size, size, 3]: area averages when shrinking, bicubic when enlarging."""
    side = len(image)
    if side < size:
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    if side == size:
        return image
    # not Image.BOX: where side / size is no whole number it takes a pixel whole or not at all
    rows = sum_rows(image, size)  # [size, side, 3]
    columns = sum_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), size)  # [size, size, 3], x first
    return (columns.swapaxes(0, 1) / (side / size)**2 + 0.5).astype(np.uint8)


def resize(image, size, pad=False):
    """[height, width, 3] -> [size, size, 3] from the central square, or padded to a square."""
    return scale_square(pad_square(image) if pad else crop_square(image), size)


def grayscale(image):
    """Luminance (ITU-R BT.601): [height, width, 3] -> [height, width]."""
    return np.asarray(Image.fromarray(image).convert("L"))


def blank(image):
    """White over the centre, 0.3 of height and width as affinelayer's: [height, width, 3], same."""
    height, width = image.shape[:2]
    blanked = image.copy()
    hole_height, hole_width = int(height * 0.3), int(width * 0.3)
    top, left = (height - hole_height) // 2, (width - hole_width) // 2
    blanked[top:top + hole_height, left:left + hole_width] = 255
    return blanked


def combine(left, right):
    """Two of [height, width, 3] -> [height, 2 * width, 3]. Raises ValueError on other sizes."""
    if left.shape != right.shape:
        sizes = ["%dx%d" % image.shape[1::-1] for image in (left, right)]
        raise ValueError(f"{sizes[0]} and {sizes[1]} differ in size")
    return np.concatenate([left, right], axis=1)


def find_edges(image, sigma, min_length):
    """Canny's edges one pixel wide, black on white: [height, width, 3] -> [height, width].

    `sigma` of the blur and `min_length` of the shortest piece kept are in pixels.
    """
    from skimage import feature, measure, morphology  # slow to import, and only edges need it
    lines = morphology.thin(feature.canny(grayscale(image) / 255, sigma=sigma))
    # remove_small_objects does the same, but its argument changes name between versions
    pieces = measure.label(lines, connectivity=2)  # 0 is the background
    keep = np.bincount(pieces.ravel()) >= min_length
    keep[0] = False
    return np.where(keep[pieces], 0, 255).astype(np.uint8)


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------


def to_rgb(image):
    """A Pillow image of any mode -> uint8 [height, width, 3]; transparent parts become white."""
    if image.mode.startswith("I"):  # 16 bits, 0..65535, also where Pillow calls it "I"
        gray = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((gray + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path):
    """A JPEG or PNG file, upright -> uint8 [height, width, 3]. Raises ImageError."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")  # opening a FIFO would wait
        if pix2pix.image_format(path) is None:
            raise ValueError("neither JPEG nor PNG")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["JPEG", "PNG"]) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return to_rgb(image)
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path} cannot be read ({reason}): repair it or take it out") from error


def write_image(path, image, compression):
    """Writes uint8 [height, width, 3] or [height, width] as a PNG file, whole. compression: RUNS or
    REPEATS.

    Raises ImageError where this name cannot be written, OSError where no other could either.
    """
    contents = io.BytesIO()
    Image.fromarray(image).save(contents, "PNG", **compression)
    try:
        pix2pix.write_atomic(path, contents.getvalue(), sync=False)
    except OSError as error:
        if error.errno in ONE_NAME:
            raise ImageError(f"{path} cannot be written ({error.strerror}): change the name or "
                               "what is in its place") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def process_file(job, options):
    """Makes one result. Raises ImageError, OSError where the disk fails."""
    image = read_image(job.input_path)
    if options.operation == "resize":
        result = resize(image, options.size, options.pad)
    elif options.operation == "grayscale":
        result = grayscale(image)
    elif options.operation == "blank":
        result = blank(image)
    elif options.operation == "edges":
        result = find_edges(image, options.edge_sigma, options.edge_min_length)
    else:
        try:
            result = combine(image, read_image(job.b_path))
        except ImageError:
            raise
        except ValueError as error:
            raise ImageError(f"{job.input_path} and {job.b_path}: {error}: resize both") \
                from error
    write_image(job.output_path, result, REPEATS if job.b_path else RUNS)


def try_file(job, options):
    """Makes one result; returns None, or the line to show. Raises OSError."""
    try:
        return process_file(job, options)
    except ImageError as error:
        return str(error)
    except MemoryError:
        return f"{job.input_path} needs more memory than there is: make it or --size smaller"


# --------------------------------------------------------------------------------------------------
# Folders
# --------------------------------------------------------------------------------------------------


def is_candidate(path):
    """Whether a file is an image by its content, or should be by its ending."""
    if path.name.startswith(".") or path.is_dir():
        return False
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        return path.is_file() and pix2pix.image_format(path) is not None
    except OSError:
        return False


def list_images(folder, flag):
    """Stem -> path of a folder's images in the order of their names. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{flag} {folder} is not a folder: check the path")
    try:
        paths = pix2pix.sorted_by_name(filter(is_candidate, folder.iterdir()))
    except OSError as error:
        raise UserError(f"{flag} {folder} cannot be read ({error.strerror}): give another") \
            from error
    images = {}
    for path in paths:
        if path.stem in images:
            raise UserError(f"{flag} {folder} has both {images[path.stem].name} and {path.name}, "
                            f"which would share one result: rename one")
        images[path.stem] = path
    if not images:
        raise UserError(f"{flag} {folder} holds no JPEG or PNG images: check the path")
    return images


def list_jobs(options):
    """All jobs in order, and a line for each image without a partner. Raises UserError."""
    images = list_images(options.input_dir, "--input_dir")
    results = {stem: options.output_dir / f"{stem}.png" for stem in images}
    if options.operation != "combine":
        return [Job(path, None, results[stem]) for stem, path in images.items()], []
    partners = list_images(options.b_dir, "--b_dir")
    jobs = [Job(path, partners[stem], results[stem])
            for stem, path in images.items() if stem in partners]
    lines = [f"{path} has no partner in {folder}: add it or take the image out"
             for these, those, folder in ((images, partners, options.b_dir),
                                          (partners, images, options.input_dir))
             for stem, path in these.items() if stem not in those]
    return jobs, lines


@contextlib.contextmanager
def lock_folder(folder):
    """Clears a folder of what killed runs left half written, if no other run works in it.

    A lock on the folder itself tells: runs share it, and only who gets it alone may clear.
    """
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:  # Windows: hidden files stay
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # another run is at work, or the disk knows no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in filter(LEFTOVER.fullmatch, os.listdir(folder)):
                os.unlink(folder / name)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def ignore_interrupt():
    """Ctrl-C does nothing inside, nor in processes that are started inside."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def keep_memory():
    """Lets this process keep what it frees, for the next image: saves 4 of 16 ms each."""
    np.empty(31 << 20, np.uint8)  # glibc's threshold for giving memory back follows such a block


def end_with_parent():
    """Waits for the main process to end, then ends this one: killed, it tells nobody."""
    multiprocessing.parent_process().join()
    os._exit(1)


def start_worker():
    """What a worker process does first: leaves Ctrl-C to the main process, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    keep_memory()


def run_jobs(jobs, options):
    """Yields None or a line to show for each job, in order, from options.workers processes."""
    work = functools.partial(try_file, options=options)
    workers = min(options.workers, len(jobs))
    if workers <= 1:
        keep_memory()
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        with ignore_interrupt():
            lines = pool.map(work, jobs, chunksize=min(CHUNK, math.ceil(len(jobs) / workers)))
        yield from lines
    finally:
        pool.shutdown(cancel_futures=True)


def process_folder(options):
    """Makes all results that are missing; returns the number of failures.

    Raises UserError, OSError where the disk fails.
    """
    all_jobs, lonely = list_jobs(options)
    jobs = [job for job in all_jobs if options.force or not job.output_path.is_file()]
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir {options.output_dir} cannot be made ({error.strerror}): "
                        "give another") from error
    for line in lonely:
        print(f"process.py: {printable(line)}", file=sys.stderr)
    num_failed = 0
    with lock_folder(options.output_dir), \
            tqdm(total=len(jobs), unit="image", disable=None) as progress:
        for line in run_jobs(jobs, options):
            if line is not None:
                num_failed += 1
                tqdm.write(f"process.py: {printable(line)}", file=sys.stderr)
            progress.update()
    print(f"wrote {len(jobs) - num_failed}, skipped {len(all_jobs) - len(jobs)}, "
          f"failed {num_failed + len(lonely)}")
    return num_failed + len(lonely)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line: affinelayer's flags with their meaning, and ours."""
    parser = OneLineParser(prog="process.py", description="Turns a folder of images into another "
                           "of PNG files.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--input_dir", type=Path, required=True, help="folder of JPEG and PNG images")
    add("--output_dir", type=Path, required=True, help="folder for the results, NAME.png")
    add("--operation", required=True, choices=OPERATIONS, help="what to do")
    add("--workers", type=number_type(int, 1), default=os.cpu_count() or 1,
        help="number of processes")
    add("--pad", action="store_true", help="resize: pads to a square with black, crops nothing")
    add("--size", type=number_type(int, 1), default=256, help="resize: height and width in pixels")
    add("--b_dir", type=Path, help="combine: folder of the right halves")
    add("--edge_sigma", type=number_type(float, 0.1), default=2.0,
        help="edges: blur before the search, in pixels; more finds fewer edges")
    add("--edge_min_length", type=number_type(int, 1), default=10,
        help="edges: shortest piece of line kept, in pixels")
    add("--force", action="store_true", help="makes results that exist again")
    return parser


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    options = Options(**vars(create_parser().parse_args(argv)))
    if options.operation == "combine" and options.b_dir is None:
        raise UserError("--b_dir is missing: combine needs the folder of the right halves")
    for flag, folder in (("--input_dir", options.input_dir), ("--b_dir", options.b_dir)):
        if folder is not None and os.path.realpath(folder) == os.path.realpath(options.output_dir):
            raise UserError(f"--output_dir {options.output_dir} is {flag} too: give another")
    return options


def stop(number, _frame):
    """Ends the tool as Ctrl-C does, at a signal; `main` returns its exit code."""
    raise KeyboardInterrupt(number)


def main(argv=None):
    """Runs the tool; returns its exit code: 0, 1 where images or the disk failed, 2, 130, 143."""
    try:
        return 1 if process_folder(parse_args(argv)) else 0
    except UserError as error:
        print(f"process.py: error: {printable(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"process.py: error: {printable(error)}: look at the disk, the same command "
              "goes on", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("process.py: error: a worker was killed: give fewer --workers, the same command "
              "goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        return 128 + next(iter(interrupt.args), signal.SIGINT)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
