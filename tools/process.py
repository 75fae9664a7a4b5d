#!/usr/bin/env python3
"""Processes a folder of images: resizes, crops, greys, blanks, finds edges, combines pairs.

    python tools/process.py --input_dir photos/original --operation resize \\
        --output_dir photos/resized
    python tools/process.py --input_dir photos/resized --operation blank --output_dir photos/blank
    python tools/process.py --input_dir photos/resized --b_dir photos/blank --operation combine \\
        --output_dir photos/combined

The flags are those of affinelayer/pix2pix-tensorflow's tools/process.py. Results are NAME.png.
"""

from __future__ import annotations

import functools
import math
import os
import random
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "PIL", "tqdm")

import numpy as np
from PIL import Image

from tools.lib import provenance, workers
from tools.lib.cli import (Options, Size, UserError, all_of, number_type, printable,
                           read_command_line, size_of, size_type, with_options)
from tools.lib.files import (PARTS, describe_lonely, match_names, normal_name, share_folder,
                             sorted_by_name, unique_names)
from tools.lib.image_files import require_images
from tools.lib.images import ImageError, read_decoded, report_deep, write_image

OPERATIONS = ["resize", "crop", "convert", "grayscale", "blank", "combine", "edges"]
# Compression of PNG files, by time and size (docs/benchmarks.md). Runs of one byte are as small as
# level 6 in a quarter of its time, but do not see that the two halves of a pair resemble each other
RUNS, REPEATS = {"compress_type": zlib.Z_RLE}, {"compress_level": 1}
# An image has few colours if it has at most so many, and on average as many pixels of each or more:
# tiny photos have few of both. Labels of CamVid, ISBI and BSDS have 2 to 12, KITTI's depth up to 77
# in 8 bits, micrographs of ISBI 147 or more, photos of CamVid and BSDS 9,000 or more
MAX_COLOURS, PIXELS_PER_COLOUR = 100, 16
MAX_SIDE = 32768  # of --size, in pixels: two such sides would take 3 GB
HOLE = 0.3  # height and width of a blank hole, as shares of the image's: affinelayer's
USED_OPTIONS = {"resize": ("size", "pad", "resample"), "crop": ("size",), "blank": ("mask", "seed"),
                "combine": ("b_dir", "resize_b", "resample"),
                "edges": ("edge_sigma", "edge_min_length")}
# Values that stand for what the tool did before it had the option: results have no record of them
UNRECORDED = {"mask": "center", "resample": "area", "resize_b": False}
EXAMPLES = """\
  python tools/process.py --input_dir photos --operation resize --output_dir a
  python tools/process.py --input_dir a --operation edges --output_dir b
  python tools/process.py --input_dir a --b_dir b --operation combine --output_dir pairs"""


class Made(NamedTuple):
    """What there is to report of one result."""

    deep_ranges: Any = ()  # `Decoded.deep_range` of each input
    num_blended: int | None = None  # `count_blended` of the image that was scaled
    stretched: str | None = None  # sizes of a right image and of a left one of another aspect ratio
    error: str | None = None  # why there is no result


class Job(NamedTuple):
    """One result: the files it is made from and its own path."""

    input_path: Path
    b_path: Path | None
    output_path: Path

    @property
    def inputs(self):
        """The files it is made from."""
        return [path for path in (self.input_path, self.b_path) if path is not None]


# --------------------------------------------------------------------------------------------------
# Arrays: uint8 [height, width, 3] in; [height, width, 3] or [height, width] out
# --------------------------------------------------------------------------------------------------


def sides_in_aspect(image, size):
    """The height that matches an image's width, and the width that matches its height, in the
    aspect ratio of a Size."""
    height, width = image.shape[:2]
    return (max(1, round(width * size.height / size.width)),
            max(1, round(height * size.width / size.height)))


def crop_center(image, size):
    """The central part: [height, width, 3] -> [size.height, size.width, 3]."""
    height, width = image.shape[:2]
    top, left = (height - size.height) // 2, (width - size.width) // 2
    return image[top:top + size.height, left:left + size.width]


def crop_to_aspect(image, size):
    """The largest central part with the aspect ratio of a Size."""
    height, width = sides_in_aspect(image, size)
    return crop_center(image, Size(min(height, image.shape[0]), min(width, image.shape[1])))


def pad_to_aspect(image, size):
    """As little black around it as gives it the aspect ratio of a Size."""
    height, width = image.shape[:2]
    padded_height, padded_width = map(max, sides_in_aspect(image, size), (height, width))
    top, left = (padded_height - height) // 2, (padded_width - width) // 2
    padded = np.zeros([padded_height, padded_width, 3], np.uint8)
    padded[top:top + height, left:left + width] = image
    return padded


def weigh_rows(rows, size, tap):
    """Source row number `tap` of those that each result row covers, times the covered share of it:
    [height, width] -> float32 [size, width]."""
    height = len(rows)
    # result row i covers source rows i * height / size to (i + 1) * height / size
    start = np.arange(size) * (height / size)
    end = (np.arange(size) + 1) * (height / size)
    index = np.arange(size) * height // size + tap
    share = np.clip(np.minimum(end, index + 1) - np.maximum(start, index), 0, 1)
    return rows[np.minimum(index, height - 1)] * share.astype(np.float32)[:, None]


def sum_rows(rows, size):
    """[height, width, 3] -> float32 [size, width, 3]: sums of height / size rows, with parts."""
    height = len(rows)
    flat = rows.reshape(height, -1)  # [height, width * 3]: a fifth faster than three axes
    sums = weigh_rows(flat, size, 0)
    for tap in range(1, math.ceil(height / size) + 1):
        sums += weigh_rows(flat, size, tap)
    return sums.reshape(size, *rows.shape[1:])


def shrink(image, size):
    """[height, width, 3] -> [size.height, size.width, 3], which are no larger: area averages."""
    height, width = image.shape[:2]
    # not Image.BOX: where height / size.height is not a whole number, it takes a pixel completely
    # or not
    rows = sum_rows(image, size.height)  # [size.height, width, 3]
    columns = sum_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), size.width)  # x first
    columns /= (height / size.height) * (width / size.width)
    columns += 0.5  # rounds
    return columns.swapaxes(0, 1).astype(np.uint8)


def take_nearest(image, size):
    """[height, width, 3] -> [size.height, size.width, 3]: the pixel that the centre of each result
    pixel is in, so no other colours appear."""
    rows, columns = ((2 * np.arange(length) + 1) * side // (2 * length)
                     for length, side in zip(size, image.shape[:2], strict=True))
    return image[rows][:, columns]


def scale(image, size, resample="area"):
    """[height, width, 3] -> [size.height, size.width, 3]. "area": averages along the sides that
    shrink, bicubic along those that grow; "nearest": `take_nearest`."""
    if resample == "nearest":
        return take_nearest(image, size)
    smaller = Size(*map(min, image.shape[:2], size))
    if smaller != image.shape[:2]:
        image = shrink(image, smaller)
    if smaller != size:
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    return image


def count_blended(image, scaled):
    """The number of an image's colours if they are few and were blended when it was scaled, else
    None."""
    height, width = image.shape[:2]
    most = min(MAX_COLOURS, height * width // PIXELS_PER_COLOUR)
    for part in (image[::max(1, height // 4)], image):  # some rows show that most photos have more
        colours = Image.fromarray(part).getcolors(most)  # None where they are more
        if colours is None:
            return None
    # a blend need not be a new colour: that of labels 1 and 3 is label 2
    blended = not np.array_equal(scaled, take_nearest(image, Size(*scaled.shape[:2])))
    return len(colours) if blended else None


def crop(image, size):
    """The central part, not scaled: [height, width, 3] -> [size.height, size.width, 3]. Raises
    ValueError for smaller images."""
    height, width = image.shape[:2]
    if height < size.height or width < size.width:
        raise ValueError(f"{height} pixels high and {width} wide, smaller than --size {size}")
    return crop_center(image, size)


def grayscale(image):
    """Luminance (ITU-R BT.601): [height, width, 3] -> [height, width]."""
    return np.asarray(Image.fromarray(image).convert("L"))


def center_hole(height, width):
    """Top, left, height and width of a hole in the middle of an image, affinelayer's."""
    hole_height, hole_width = int(height * HOLE), int(width * HOLE)
    return (height - hole_height) // 2, (width - hole_width) // 2, hole_height, hole_width


def random_hole(height, width, name, seed):
    """Top, left, height and width of a hole anywhere in an image. It has the area of `center_hole`
    and half to twice the ratio of width to height. It depends on the arguments alone."""
    # random() of bytes is the same in all versions of Python
    draw = random.Random(os.fsencode(f"{seed}/{normal_name(name)}")).random
    hole_height = max(1, round(height * HOLE * 2**(draw() - 0.5)))
    hole_width = max(1, round(height * width * HOLE**2 / hole_height))
    return (int(draw() * (height - hole_height + 1)), int(draw() * (width - hole_width + 1)),
            hole_height, hole_width)


def blank(image, hole):
    """White in a hole (top, left, height, width): [height, width, 3] -> the same."""
    top, left, hole_height, hole_width = hole
    blanked = image.copy()
    blanked[top:top + hole_height, left:left + hole_width] = 255
    return blanked


def show_size(image):
    """An image's width and height as text."""
    return "%dx%d" % image.shape[1::-1]


def combine(left, right):
    """Two of [height, width, 3] -> [height, 2 * width, 3]. Raises ValueError on other sizes."""
    if left.shape != right.shape:
        raise ValueError(f"{show_size(left)} and {show_size(right)} differ in size")
    return np.concatenate([left, right], axis=1)


def have_one_aspect(left, right):
    """Whether two images have the same aspect ratio, but for one pixel of the smaller one."""
    (height, width), (right_height, right_width) = left.shape[:2], right.shape[:2]
    return abs(height * right_width - width * right_height) \
        <= max(height, width, right_height, right_width)


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


def list_unused(options):
    """Options without effect and why, as rows (names, reason)."""
    operation, used = options.operation, USED_OPTIONS.get(options.operation, ())
    others = [name for names in USED_OPTIONS.values() for name in names if name not in used]
    return [([*dict.fromkeys(others)], f"not used by --operation {operation}"),
            (["seed"] * (operation == "blank" and options.mask == "center"),
             "--mask center is the same for every seed"),
            (["resample"] * (operation == "combine" and not options.resize_b),
             "--operation combine scales nothing without --resize_b")]


def recorded_options(options):
    """The options that a result depends on, by name; its inputs are recorded by their contents."""
    left_out = {"b_dir"}.union(*(names for names, _ in list_unused(options)))
    names = ("operation", *USED_OPTIONS.get(options.operation, ()))
    values = {name: getattr(options, name) for name in names if name not in left_out}
    return {name: value for name, value in values.items()
            if (name, value) not in UNRECORDED.items()}


def create_record(job, options):
    """A PNG file's record of how a result was made. Raises ImageError."""
    try:
        return provenance.create_pnginfo(recorded_options(options), job.inputs)
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read ({error.strerror}): repair or remove "
                         "it") from error


def make_one(image, job, options):
    """A result of one image. Raises ImageError."""
    if options.operation == "crop":
        try:
            return crop(image, size_of(options.size))
        except ValueError as error:
            raise ImageError(f"{job.input_path} is {error}: give a smaller --size, or --operation "
                             "resize") from error
    if options.operation == "grayscale":
        return grayscale(image)
    if options.operation == "blank":
        size = image.shape[:2]
        return blank(image, center_hole(*size) if options.mask == "center" else
                     random_hole(*size, job.input_path.name, options.seed))
    if options.operation == "edges":
        return find_edges(image, options.edge_sigma, options.edge_min_length)
    return image  # convert


def make_scaled(image, size, options):
    """An image in another size, and its `count_blended`."""
    scaled = scale(image, size, options.resample)
    return scaled, count_blended(image, scaled)


def make_resized(image, options):
    """A result of resize, and its `count_blended`."""
    size = size_of(options.size)
    fitted = (pad_to_aspect if options.pad else crop_to_aspect)(image, size)
    return make_scaled(fitted, size, options)


def make_pair(left, right, job, options):
    """A result of combine, the right image's `count_blended` and `Made.stretched`. Raises
    ImageError."""
    scaled, num_blended, stretched = right, None, None
    if options.resize_b and left.shape != right.shape:
        scaled, num_blended = make_scaled(right, Size(*left.shape[:2]), options)
        if not have_one_aspect(left, right):
            stretched = f"{show_size(right)}, left {show_size(left)}"
    try:
        return combine(left, scaled), num_blended, stretched
    except ValueError as error:
        raise ImageError(f"{job.input_path} and {job.b_path}: {error}: give --resize_b to scale "
                         "the right one, or resize both") from error


def process_file(job, options):
    """Makes one result, with a record of how; returns a Made. Raises ImageError, or OSError where
    the disk fails."""
    inputs = [read_decoded(path) for path in job.inputs]
    pixels, num_blended, stretched = [decoded.pixels for decoded in inputs], None, None
    if options.operation == "resize":
        result, num_blended = make_resized(*pixels, options)
    elif options.operation == "combine":
        result, num_blended, stretched = make_pair(*pixels, job, options)
    else:
        result = make_one(*pixels, job, options)
    # a pair of one size is the same with --resize_b and without
    is_scaled = options.resize_b and len({image.shape for image in pixels}) > 1
    record = create_record(job, with_options(options, resize_b=is_scaled))
    write_image(job.output_path, result, sync=False, pnginfo=record,
                **(REPEATS if job.b_path else RUNS))
    return Made([decoded.deep_range for decoded in inputs], num_blended, stretched)


def try_file(job, options):
    """`process_file`, or a Made with the line to show where it fails. Raises OSError."""
    try:
        return process_file(job, options)
    except ImageError as error:
        return Made(error=str(error))
    except MemoryError:
        return Made(error=f"{job.input_path} needs more memory than there is: make it or --size "
                          "smaller")


# --------------------------------------------------------------------------------------------------
# Folders
# --------------------------------------------------------------------------------------------------


def list_parts(options):
    """Names of the subfolders of --output_dir to which split.py may have moved results."""
    read = [os.path.realpath(folder) for folder in (options.input_dir, options.b_dir) if folder]
    return [part for part in PARTS if (options.output_dir / part).is_dir()
            and os.path.realpath(options.output_dir / part) not in read]


def choose_results(paths, options):
    """Path -> path of its result: in --output_dir, or where split.py has moved it. Only a record
    tells a result there from an image of another origin."""
    folders, results = [options.output_dir / part for part in list_parts(options)], {}
    for path, name in zip(paths, unique_names(paths), strict=True):
        result = options.output_dir / f"{name}.png"
        moved = [folder / result.name for folder in folders] if not result.is_file() else []
        results[path] = next((place for place in moved if provenance.read_record(place)), result)
    return results


def list_jobs(options):
    """All jobs in order, and a line for each image without a partner. Raises UserError."""
    paths = require_images(options.input_dir, "--input_dir")
    results = choose_results(paths, options)
    if options.operation != "combine":
        return [Job(path, None, result) for path, result in results.items()], []
    b_paths = require_images(options.b_dir, "--b_dir")
    partners = match_names(paths, b_paths)
    jobs = [Job(path, partners[path], results[path]) for path in paths if path in partners]
    taken = {*partners.values()}
    lonely = [path for path in paths if path not in partners]
    lonely_b = [path for path in b_paths if path not in taken]
    return jobs, [*describe_lonely(lonely, lonely_b, options.b_dir),
                  *describe_lonely(lonely_b, lonely, options.input_dir)]


def find_outdated(jobs):
    """Results that images had before they shared their stem with others."""
    results = {job.output_path for job in jobs}
    former = {job.output_path.with_name(f"{job.input_path.stem}.png") for job in jobs} - results
    return [path for path in sorted_by_name(former) if path.is_file()
            and provenance.read_record(path)]


def report_scaled(jobs, made):
    """Warns of label images whose colours were blended, and of right images that were stretched.
    made: the Made of each job."""
    blended = [(job.inputs[-1], result.num_blended) for job, result in zip(jobs, made, strict=True)
               if result.num_blended]
    if blended:
        path, number = blended[0]
        cli.warn(printable(
            f"{len(blended)} of {len(jobs)} images have few colours, such as {path} with {number}, "
            "and these were blended: for label images, give --resample nearest --force"))
    stretched = [(job.b_path, result.stretched) for job, result in zip(jobs, made, strict=True)
                 if result.stretched]
    if stretched:
        path, sizes = stretched[0]
        cli.warn(printable(
            f"{len(stretched)} of {len(jobs)} right images have another aspect ratio than the left "
            f"ones, such as {path} ({sizes}), and were stretched: to crop or pad them instead, "
            "resize both folders in the same way first"))


def process_folder(options):
    """Makes all results that are missing; returns the number of failures.

    Raises UserError, OSError where the disk fails.
    """
    all_jobs, lonely = list_jobs(options)
    kept = {} if options.force else {
        job.output_path: job.inputs for job in all_jobs if job.output_path.is_file()}
    provenance.check_results(kept, recorded_options(options), "--output_dir", options.output_dir,
                             alike=[recorded_options(with_options(options, resize_b=False))])
    jobs = [job for job in all_jobs if job.output_path not in kept]
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir {options.output_dir} cannot be created ({error.strerror}): "
                        "choose another") from error
    outdated = [f"{path} is of an image that shares its stem with others now, so its result has "
                "another name: remove this one" for path in find_outdated(all_jobs)]
    for line in lonely + outdated:
        cli.warn(printable(line))
    work, made = functools.partial(try_file, options=options), []
    with share_folder(options.output_dir, (".", *list_parts(options))), \
            cli.create_progress_bar(len(jobs), 0, "image") as bar:
        for result in workers.map_parallel(work, jobs, options.workers):
            made.append(result)
            if result.error is not None:
                bar.clear()
                cli.warn(printable(result.error))
            bar.update()
    report_deep([deep_range for result in made for deep_range in result.deep_ranges])
    report_scaled(jobs, made)
    num_failed = sum(result.error is not None for result in made)
    cli.say(f"wrote {len(jobs) - num_failed}, skipped {len(all_jobs) - len(jobs)}, "
            f"failed {num_failed + len(lonely)}")
    return num_failed + len(lonely)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line: affinelayer's flags with their meaning, and ours."""
    parser = cli.Parser("process.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("--input_dir", type=Path, required=True, help="folder of images")
    add("--output_dir", type=Path, required=True, help="folder for the results, NAME.png")
    add("--operation", required=True, choices=OPERATIONS, help="what to do")
    workers.add_options(add)
    add("--pad", action="store_true", help="resize: pad with black instead of cropping")
    add("--size", type=size_type(1, MAX_SIDE), default=256,
        help="resize, crop: N or HEIGHTxWIDTH of the results, in pixels")
    add("--resample", choices=["area", "nearest"], default="area",
        help="resize, combine: area blends colours, nearest keeps those of label images")
    add("--mask", choices=["center", "random"], default="center",
        help="blank: a hole in the middle, or one of random place and shape in each image")
    add("--seed", type=int, default=0, help="blank: seed of --mask random")
    add("--b_dir", type=Path, help="combine: folder of the right halves")
    add("--resize_b", action="store_true",
        help="combine: scale the right image to the size of the left one")
    add("--edge_sigma", type=number_type(float, 0.1), default=2.0,
        help="edges: blur before the search, in pixels; more finds fewer edges")
    add("--edge_min_length", type=number_type(int, 1), default=10,
        help="edges: shortest piece of line kept, in pixels")
    add("--force", action="store_true", help="make results again that exist")
    return parser


def report_unused(options, explicit):
    """Prints which of the flags that were given have no effect. explicit: names of their options.
    """
    for names, reason in list_unused(options):
        flags = [f"--{name}" for name in names if name in explicit]
        if flags:
            cli.warn(f"ignoring {all_of(flags)}: {reason}")


def parse_args(argv=None):
    """Options from the command line. Prints which flags have no effect. Raises UserError."""
    values, explicit = read_command_line(argv, create_parser())
    options = Options(**values)
    if options.operation == "combine" and options.b_dir is None:
        raise UserError("--b_dir is missing: combine needs the folder of the right halves")
    for flag, folder in (("--input_dir", options.input_dir), ("--b_dir", options.b_dir)):
        if folder is not None and os.path.realpath(folder) == os.path.realpath(options.output_dir):
            raise UserError(f"--output_dir {options.output_dir} is {flag} too: choose another")
    report_unused(options, explicit)
    return options


def run(argv):
    """Processes a folder; returns the exit code, 1 where images failed."""
    return 1 if process_folder(parse_args(argv)) else 0


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("process.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
