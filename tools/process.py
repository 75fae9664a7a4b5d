#!/usr/bin/env python3
"""Processes a folder of images: resizes, crops, greys, blanks, finds edges, combines, stacks.

    python tools/process.py --input_dir photos/original --operation resize \\
        --output_dir photos/resized
    python tools/process.py --input_dir photos/resized --operation blank --output_dir photos/blank
    python tools/process.py --input_dir photos/resized --b_dir photos/blank --operation combine \\
        --output_dir photos/combined

The flags are those of affinelayer/pix2pix-tensorflow's tools/process.py. Results are NAME.png. Of
images of 8 bits they are 8-bit RGB; 16 bits, palettes and other channels are kept, and what PNG
does not hold, such as floating-point values, becomes NAME.npy.
"""

from __future__ import annotations

import argparse
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
    cli.require("numpy", "PIL", "isal", "tifffile", "tqdm")

import numpy as np
from PIL import Image

from tools.lib import provenance, workers
from tools.lib.cli import (Options, Size, UserError, all_of, number_type, printable,
                           read_command_line, size_of, size_type, with_options)
from tools.lib.files import (PARTS, describe_lonely, match_names, normal_name, share_folder,
                             sorted_by_name, unique_names)
from tools.lib.image_files import format_of, require_images
from tools.lib.images import PNG_HEADER_SIZE, flatten, is_deep_png, report_deep, write_file
from tools.lib.stored import (SAMPLE_FORMATS, ImageError, Stored, apply_sample_format,
                              blend_on_white, decode_with, encode_stored, is_png_type,
                              may_be_rotated, read_with)

OPERATIONS = ["resize", "crop", "convert", "grayscale", "blank", "combine", "stack", "edges"]
# Compression of PNG files, by time and size (docs/benchmarks.md). Runs of one byte are as small as
# level 6 in a quarter of its time, but do not see that the two halves of a pair resemble each other
RUNS, REPEATS = {"compress_type": zlib.Z_RLE}, {"compress_level": 1}
# An image has few colours if it has at most so many, and on average as many pixels of each or more:
# tiny photos have few of both. Labels of CamVid, ISBI and BSDS have 2 to 12, KITTI's depth up to 77
# in 8 bits, micrographs of ISBI 147 or more, photos of CamVid and BSDS 9,000 or more
MAX_COLOURS, PIXELS_PER_COLOUR = 100, 16
MAX_SIDE = 32768  # of --size, in pixels: two such sides would take 3 GB
TWO_FOLDERS = {"combine": "right halves", "stack": "channels to append"}  # what --b_dir holds
SUFFIXES = (".png", ".npy")  # of results
HOLE = 0.3  # height and width of a blank hole, as shares of the image's: affinelayer's
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
MEASURED = 1e-6  # of a result pixel's area: a smaller part is what rounding leaves
USED_OPTIONS = {"resize": ("size", "pad", "resample", "ignore", "keep_alpha"),
                "crop": ("size", "keep_alpha"), "convert": ("sample_format", "keep_alpha"),
                "blank": ("mask", "seed", "keep_alpha"),
                "combine": ("b_dir", "resize_b", "resample", "ignore", "keep_alpha"),
                "stack": ("b_dir",), "edges": ("edge_sigma", "edge_min_length")}
# Values that stand for what the tool did before it had the option: results have no record of them
UNRECORDED = {"mask": "center", "resample": "area", "resize_b": False, "ignore": None,
              "sample_format": None, "keep_alpha": False}
EXAMPLES = """\
  python tools/process.py --input_dir photos --operation resize --output_dir a
  python tools/process.py --input_dir a --operation edges --output_dir b
  python tools/process.py --input_dir a --b_dir b --operation combine --output_dir pairs"""


class Made(NamedTuple):
    """What there is to report of one result."""

    deep_ranges: Any = ()  # `Decoded.deep_range` of each input that was read as 8 bits
    rotated: Path | None = None  # an input that may be rotated by 3 bits
    grey_rgb: Path | None = None  # an input of stack with three equal channels
    num_blended: int | None = None  # `count_blended` of the image that was scaled
    stretched: str | None = None  # sizes of a right image and of a left one of another aspect ratio
    error: str | None = None  # why there is no result


class Job(NamedTuple):
    """One result: the files it is made from and its own path."""

    input_path: Path
    b_path: Path | None
    output_path: Path  # NAME.png, or NAME.npy where that is there

    @property
    def inputs(self):
        """The files it is made from."""
        return [path for path in (self.input_path, self.b_path) if path is not None]


# --------------------------------------------------------------------------------------------------
# Arrays of any type [height, width, channels], in and out
# --------------------------------------------------------------------------------------------------


def sides_in_aspect(image, size):
    """The height that matches an image's width, and the width that matches its height, in the
    aspect ratio of a Size."""
    height, width = image.shape[:2]
    return (max(1, round(width * size.height / size.width)),
            max(1, round(height * size.width / size.height)))


def crop_center(image, size):
    """The central part: [height, width, channels] -> [size.height, size.width, channels]."""
    height, width = image.shape[:2]
    top, left = (height - size.height) // 2, (width - size.width) // 2
    return image[top:top + size.height, left:left + size.width]


def crop_to_aspect(image, size):
    """The largest central part with the aspect ratio of a Size."""
    height, width = sides_in_aspect(image, size)
    return crop_center(image, Size(min(height, image.shape[0]), min(width, image.shape[1])))


def pad_to_aspect(image, size, fill=0):
    """As little around it, black or another value, as gives it the aspect ratio of a Size."""
    height, width = image.shape[:2]
    padded_height, padded_width = map(max, sides_in_aspect(image, size), (height, width))
    top, left = (padded_height - height) // 2, (padded_width - width) // 2
    padded = np.full([padded_height, padded_width, image.shape[2]], fill, image.dtype)
    padded[top:top + height, left:left + width] = image
    return padded


def weigh_rows(rows, size, tap):
    """Source row number `tap` of those that each result row covers, times the covered share of it:
    [height, width] -> float32 [size, width], or float64 if they are."""
    height = len(rows)
    # result row i covers source rows i * height / size to (i + 1) * height / size
    start = np.arange(size) * (height / size)
    end = (np.arange(size) + 1) * (height / size)
    index = np.arange(size) * height // size + tap
    share = np.clip(np.minimum(end, index + 1) - np.maximum(start, index), 0, 1)
    share = share.astype(np.result_type(rows.dtype, np.float32))
    return rows[np.minimum(index, height - 1)] * share[:, None]


def sum_rows(rows, size):
    """[height, width, channels] -> [size, width, channels]: sums of height / size rows, with parts;
    float32, or float64 if they are."""
    height = len(rows)
    flat = rows.reshape(height, -1)  # [height, width * channels]: a fifth faster than three axes
    sums = weigh_rows(flat, size, 0)
    for tap in range(1, math.ceil(height / size) + 1):
        sums += weigh_rows(flat, size, tap)
    return sums.reshape(size, *rows.shape[1:])


def average(image, size):
    """[height, width, channels] -> [size.height, size.width, channels], which are no larger: area
    averages. float32 of uint8; float64 of other types, whose digits float32 does not hold."""
    height, width = image.shape[:2]
    # not Image.BOX: where height / size.height is not a whole number, it takes a pixel completely
    # or not
    rows = sum_rows(image if image.dtype == np.uint8 else image.astype(np.float64), size.height)
    columns = sum_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), size.width)  # x first
    columns /= (height / size.height) * (width / size.width)
    return columns.swapaxes(0, 1)


def to_type(values, dtype):
    """Floating-point values -> the nearest ones of a type, halves up."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.floor(values + 0.5), limits.min, limits.max).astype(dtype)


def shrink(image, size):
    """[height, width, channels] -> [size.height, size.width, channels], which are no larger: area
    averages."""
    averages = average(image, size)
    if image.dtype == np.uint8:
        averages += 0.5  # rounds
        return averages.astype(np.uint8)
    return to_type(averages, image.dtype)


def enlarge(image, size, resampling=Image.Resampling.BICUBIC):
    """[height, width, channels] -> [size.height, size.width, channels], which are no smaller, by
    Pillow."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size[::-1], resampling))
    planes = image if image.dtype == np.uint8 else image.astype(np.float32)
    planes = [Image.fromarray(np.ascontiguousarray(planes[..., channel])).resize(
        size[::-1], resampling) for channel in range(image.shape[2])]
    enlarged = np.stack(planes, axis=2)
    return enlarged if image.dtype == np.uint8 else to_type(enlarged, image.dtype)


def take_nearest(image, size):
    """[height, width, channels] -> [size.height, size.width, channels]: the pixel that the centre
    of each result pixel is in, so no other values appear."""
    rows, columns = ((2 * np.arange(length) + 1) * side // (2 * length)
                     for length, side in zip(size, image.shape[:2], strict=True))
    return image[rows][:, columns]


def parse_ignored(texts, dtype):
    """The values of --ignore in an image's type. Raises ValueError for one that it does not hold.
    """
    values = np.array([float(text) for text in texts])
    with np.errstate(invalid="ignore"):
        typed = values.astype(dtype)
    for text, value, same in zip(texts, values, typed, strict=True):
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        if limits and not (limits.min <= value <= limits.max and value == same):
            raise ValueError(f"has values of type {dtype}, of which none is {text}")
    return typed


def find_missing(image, ignored):
    """Which values of an image are missing: bool [height, width, channels]. ignored: values of its
    type that mean that."""
    missing = np.isin(image, ignored)
    return missing | np.isnan(image) if np.isnan(ignored).any() else missing


def scale_measured(image, size, ignored):
    """`scale` by area of an image with missing values, each channel by itself: values x mask and
    mask are scaled, linearly along sides that grow, and divided. What has no measured part becomes
    the first of the values that mean that."""
    mask = ~find_missing(image, ignored)
    weights, smaller = mask.astype(np.float64), Size(*map(min, image.shape[:2], size))
    weighted = np.where(mask, image, 0).astype(np.float64)
    if smaller != image.shape[:2]:
        weighted, weights = average(weighted, smaller), average(weights, smaller)
    if smaller != size:
        weighted, weights = (enlarge(values, size, Image.Resampling.BILINEAR)
                             for values in (weighted, weights))
    is_measured = weights > MEASURED
    values = to_type(weighted / np.where(is_measured, weights, 1), image.dtype)
    return np.where(is_measured, values, ignored[0])


def scale(image, size, resample="area", ignored=()):
    """[height, width, channels] -> [size.height, size.width, channels]. "area": averages along the
    sides that shrink, bicubic along those that grow, `scale_measured` where values are ignored;
    "nearest": `take_nearest`."""
    if resample == "nearest":
        return take_nearest(image, size)
    if len(ignored):
        return scale_measured(image, size, ignored)
    smaller = Size(*map(min, image.shape[:2], size))
    if smaller != image.shape[:2]:
        image = shrink(image, smaller)
    return enlarge(image, size) if smaller != size else image


def count_colours(image, most):
    """The number of colours or values of an image, None for more than `most` and for types of
    images that no label images have."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return len(Image.fromarray(image).getcolors(most) or []) or None
    if image.dtype.kind == "f" or image.shape[2] > 1:
        return None
    count = len(np.unique(image))
    return count if count <= most else None


def count_blended(image, scaled):
    """The number of an image's colours if they are few and were blended when it was scaled, else
    None."""
    height, width = image.shape[:2]
    most = min(MAX_COLOURS, height * width // PIXELS_PER_COLOUR)
    for part in (image[::max(1, height // 4)], image):  # some rows show that most photos have more
        count = count_colours(part, most)
        if count is None:
            return None
    # a blend need not be a new colour: that of labels 1 and 3 is label 2
    blended = not np.array_equal(scaled, take_nearest(image, Size(*scaled.shape[:2])))
    return count if blended else None


def crop(image, size):
    """The central part, not scaled: [height, width, channels] ->
    [size.height, size.width, channels]. Raises ValueError for smaller images."""
    height, width = image.shape[:2]
    if height < size.height or width < size.width:
        raise ValueError(f"{height} pixels high and {width} wide, smaller than --size {size}")
    return crop_center(image, size)


def grayscale(image):
    """Luminance (ITU-R BT.601) in an image's own type: [height, width, 1 or 3] -> [height, width].
    Raises ValueError for other channels."""
    channels = image.shape[2]
    if channels not in (1, 3):
        raise ValueError(f"has {channels} channels, which are no colours")
    if channels == 1:
        return image[..., 0]
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).convert("L"))
    return to_type(image.astype(np.float64) @ LUMINANCE, image.dtype)


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


def blank(image, hole, white=255):
    """White in a hole (top, left, height, width): [height, width, channels] -> the same."""
    top, left, hole_height, hole_width = hole
    blanked = image.copy()
    blanked[top:top + hole_height, left:left + hole_width] = white
    return blanked


def show_size(image):
    """An image's width and height as text."""
    return "%dx%d" % image.shape[1::-1]


def check_sizes(left, right):
    """Raises ValueError for two images of different sizes."""
    if left.shape[:2] != right.shape[:2]:
        raise ValueError(f"{show_size(left)} and {show_size(right)} differ in size")


def combine(left, right):
    """Two of [height, width, channels] -> [height, 2 * width, channels]. Raises ValueError on other
    sizes."""
    check_sizes(left, right)
    return np.concatenate([left, right], axis=1)


def stack(first, second):
    """[height, width, channels] and [height, width, others] ->
    [height, width, channels + others]. Raises ValueError on other sizes."""
    check_sizes(first, second)
    return np.concatenate([first, second], axis=2)


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
# Palettes
# --------------------------------------------------------------------------------------------------


def show_colours(image):
    """A Stored with a palette -> RGB, or grey where all its colours are."""
    colours = image.palette[image.pixels[..., 0]]
    is_grey = (image.palette == image.palette[:, :1]).all()
    return Stored(colours[..., :1] if is_grey else colours)


def to_rgb(image):
    """A Stored of 8 bits, with or without a palette, grey or RGB -> RGB."""
    return Stored(flatten(image).pixels)


def find_colour(image, grey):
    """A Stored with a palette that has a grey, and its index: of those that the palette has the
    first, else a new one. A Stored of RGB and the value itself where the palette is full."""
    found, = np.nonzero((image.palette == grey).all(axis=1))
    if len(found):
        return image, found[0]
    if len(image.palette) == 256:
        return to_rgb(image), grey
    colour = np.full([1, 3], grey, np.uint8)
    return image._replace(palette=np.concatenate([image.palette, colour])), len(image.palette)


def share_palette(left, right):
    """Two Stored of which at least one has a palette -> the same if their palettes are equal, else
    RGB."""
    if left.palette is not None and right.palette is not None \
            and np.array_equal(left.palette, right.palette):
        return left, right
    return tuple(image if image.palette is None else to_rgb(image) for image in (left, right))


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
            (["resample", "ignore"] * (operation == "combine" and not options.resize_b),
             "--operation combine scales nothing without --resize_b"),
            (["ignore"] * ("ignore" in used and options.resample == "nearest"
                           and not (operation == "resize" and options.pad)),
             "--resample nearest blends nothing")]


def recorded_options(options):
    """The options that a result depends on, by name; its inputs are recorded by their contents."""
    left_out = {"b_dir"}.union(*(names for names, _ in list_unused(options)))
    names = ("operation", *USED_OPTIONS.get(options.operation, ()))
    values = {name: getattr(options, name) for name in names if name not in left_out}
    if values.get("ignore"):
        values["ignore"] = " ".join(values["ignore"])
    return {name: value for name, value in values.items()
            if (name, value) not in UNRECORDED.items()}


def create_record(job, options):
    """A file's record of how a result was made. Raises ImageError."""
    try:
        return provenance.encode_record(recorded_options(options), job.inputs)
    except OSError as error:
        raise ImageError(f"{error.filename} cannot be read ({error.strerror}): repair or remove "
                         "it") from error


def prepare(image, options):
    """A Stored as an operation takes it, and its `Decoded.deep_range` if it is read as 8 bits. What
    8 bits and grey or RGB hold becomes RGB, for --operation stack it stays. Raises ValueError."""
    operation = options.operation
    if operation == "edges":
        flat = flatten(image)
        return Stored(flat.pixels), flat.deep_range
    if image.palette is not None:
        return (show_colours(image) if operation == "stack" else image), None
    if image.has_alpha and not options.keep_alpha and operation != "stack":
        image = Stored(blend_on_white(image.pixels))
    is_plain = image.pixels.dtype == np.uint8 and image.pixels.shape[2] in (1, 3)
    return (to_rgb(image) if is_plain and operation != "stack" else image), None


def read_prepared(path, options):
    """`prepare` of an image file. Raises ImageError."""
    def finish(stored):
        """What the file stores as the operation takes it."""
        return prepare(apply_sample_format(stored, options.sample_format), options)
    return read_with(path, lambda contents: decode_with(contents, finish, options.sample_format))


def ignored_in(image, path, options):
    """The values of --ignore in an image's type. Raises ImageError."""
    try:
        return parse_ignored(options.ignore or (), image.pixels.dtype)
    except ValueError as error:
        raise ImageError(f"{path} {error}: give --ignore values that it may have") from error


def make_cropped(image, job, options):
    """A result of crop. Raises ImageError."""
    try:
        return image._replace(pixels=crop(image.pixels, size_of(options.size)))
    except ValueError as error:
        raise ImageError(f"{job.input_path} is {error}: give a smaller --size, or --operation "
                         "resize") from error


def make_grey(image, job):
    """A result of grayscale. Raises ImageError."""
    image = image if image.palette is None else to_rgb(image)
    try:
        return Stored(grayscale(image.pixels)[..., np.newaxis])
    except ValueError as error:
        raise ImageError(f"{job.input_path} {error}: give images of 1 or 3") from error


def make_blanked(image, job, options):
    """A result of blank. Raises ImageError."""
    if image.pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{job.input_path} has values of type {image.pixels.dtype}, of which none "
                         "is white: give images of 8 or 16 bits")
    white = np.iinfo(image.pixels.dtype).max
    if image.palette is not None:
        image, white = find_colour(image, white)
    size = image.pixels.shape[:2]
    hole = center_hole(*size) if options.mask == "center" else \
        random_hole(*size, job.input_path.name, options.seed)
    return image._replace(pixels=blank(image.pixels, hole, white))


def make_one(image, job, options):
    """A result of one image that is not scaled. Raises ImageError."""
    if options.operation == "crop":
        return make_cropped(image, job, options)
    if options.operation == "grayscale":
        return make_grey(image, job)
    if options.operation == "blank":
        return make_blanked(image, job, options)
    if options.operation == "edges":
        edges = find_edges(image.pixels, options.edge_sigma, options.edge_min_length)
        return Stored(edges[..., np.newaxis])
    return image  # convert


def make_scaled(image, size, ignored, options):
    """A Stored in another size, and its `count_blended`. Averages of a palette's colours are RGB.
    """
    if image.palette is not None and options.resample == "area":
        image = to_rgb(image)
    scaled = scale(image.pixels, size, options.resample, ignored)
    num_blended = None if len(ignored) else count_blended(image.pixels, scaled)
    return image._replace(pixels=scaled), num_blended


def make_resized(image, job, options):
    """A result of resize, and its `count_blended`. Raises ImageError."""
    size, ignored = size_of(options.size), ignored_in(image, job.input_path, options)
    if not options.pad:
        fitted = crop_to_aspect(image.pixels, size)
        return make_scaled(image._replace(pixels=fitted), size, ignored, options)
    fill = ignored[0] if len(ignored) else 0
    if image.palette is not None:
        image, fill = find_colour(image, 0)
    padded = pad_to_aspect(image.pixels, size, fill)
    return make_scaled(image._replace(pixels=padded), size, ignored, options)


def describe_type(image):
    """Bits and channels of a Stored, such as "16-bit grey"."""
    dtype, channels = image.pixels.dtype, image.pixels.shape[2]
    bits = f"{8 * dtype.itemsize}-bit" + " floating-point" * (dtype.kind == "f")
    kind = "palette" if image.palette is not None else {1: "grey", 3: "RGB"}.get(channels)
    return f"{bits} {kind or f'with {channels} channels'}"


def check_types(left, right, job, options):
    """Raises ImageError for two images that one file cannot hold."""
    is_stack = options.operation == "stack"
    same = [image.pixels.dtype for image in (left, right)] if is_stack else \
        [(image.pixels.dtype, image.pixels.shape[2]) for image in (left, right)]
    if len({*same}) > 1:
        folders = f"--a_dir {job.input_path.parent} {'--a' if is_stack else '--b'}_dir " \
            f"{job.b_path.parent}" + " --b_dir TARGETS" * is_stack
        raise ImageError(f"{job.input_path} is {describe_type(left)} and {job.b_path} "
                         f"{describe_type(right)}, which one file cannot hold: keep the two "
                         f"folders and train by python pix2pix.py --mode train {folders}")


def make_pair(left, right, job, options):
    """A result of combine, the right image's `count_blended` and `Made.stretched`. Raises
    ImageError."""
    num_blended, stretched = None, None
    left, right = share_palette(left, right)
    sizes = [image.pixels.shape[:2] for image in (left, right)]
    check_types(left, right, job, options)
    scaled = right
    if options.resize_b and sizes[0] != sizes[1]:
        scaled, num_blended = make_scaled(right, Size(*sizes[0]),
                                          ignored_in(right, job.b_path, options), options)
        left, scaled = share_palette(left, scaled)  # area makes RGB of a palette
        if not have_one_aspect(left.pixels, right.pixels):
            stretched = f"{show_size(right.pixels)}, left {show_size(left.pixels)}"
    try:
        pair = left._replace(pixels=combine(left.pixels, scaled.pixels))
        return pair, num_blended, stretched
    except ValueError as error:
        raise ImageError(f"{job.input_path} and {job.b_path}: {error}: give --resize_b to scale "
                         "the right one, or resize both") from error


def make_stack(first, second, job, options):
    """A result of stack. Raises ImageError."""
    check_types(first, second, job, options)
    try:
        return Stored(stack(first.pixels, second.pixels))
    except ValueError as error:
        raise ImageError(f"{job.input_path} and {job.b_path}: {error}: resize both") from error


def is_grey_rgb(image):
    """Whether a Stored has three channels that are equal."""
    pixels = image.pixels
    return pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all()


def write_result(path, result, record, **settings):
    """Writes a Stored as NAME.png, or NAME.npy where a PNG file cannot hold it; removes a result of
    the other kind. Raises ImageError, or OSError where the disk fails."""
    suffix, other = SUFFIXES if is_png_type(result.pixels) else SUFFIXES[::-1]
    contents = encode_stored(result.pixels, result.palette, **settings)
    write_file(path.with_suffix(suffix), provenance.add_record(contents, record), sync=False)
    if provenance.read_record(path.with_suffix(other)):
        path.with_suffix(other).unlink(missing_ok=True)


def process_file(job, options):
    """Makes one result, with a record of how; returns a Made. Raises ImageError, or OSError where
    the disk fails."""
    images, deep_ranges = zip(*[read_prepared(path, options) for path in job.inputs], strict=True)
    num_blended, stretched = None, None
    if options.operation == "resize":
        result, num_blended = make_resized(*images, job, options)
    elif options.operation == "combine":
        result, num_blended, stretched = make_pair(*images, job, options)
    elif options.operation == "stack":
        result = make_stack(*images, job, options)
    else:
        result = make_one(*images, job, options)
    # a pair of one size is the same with --resize_b and without
    is_scaled = options.resize_b and len({image.pixels.shape[:2] for image in images}) > 1
    record = create_record(job, with_options(options, resize_b=is_scaled))
    write_result(job.output_path, result, record, **(REPEATS if job.b_path else RUNS))
    inputs = [*zip(job.inputs, images, strict=True)]
    is_checked = options.sample_format is None
    return Made(
        deep_ranges=deep_ranges, num_blended=num_blended, stretched=stretched,
        rotated=next((path for path, image in inputs
                      if is_checked and may_be_rotated(image.pixels)), None),
        grey_rgb=next((path for path, image in inputs
                       if options.operation == "stack" and is_grey_rgb(image)), None))


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
        result, array = (options.output_dir / f"{name}{suffix}" for suffix in SUFFIXES)
        others = [array, *(folder / file.name for folder in folders for file in (result, array))] \
            if not result.is_file() else []
        results[path] = next((place for place in others if provenance.read_record(place)), result)
    return results


def list_jobs(options):
    """All jobs in order, and a line for each image without a partner. Raises UserError."""
    paths = require_images(options.input_dir, "--input_dir")
    results = choose_results(paths, options)
    if options.operation not in TWO_FOLDERS:
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


def read_start(path):
    """The bytes that a file begins with, up to the type of a PNG file."""
    with open(path, "rb") as file:
        return file.read(PNG_HEADER_SIZE)


def has_lost_bits(job):
    """Whether a result of an image of 16 bits has 8, as older versions made them."""
    try:
        made_of, made = (read_start(path) for path in (job.input_path, job.output_path))
    except OSError:  # it has vanished, its result stays
        return False
    return is_deep_png(made_of) and format_of(made) == "png" and not is_deep_png(made)


def check_bits(jobs, options):
    """Raises UserError where results that would be skipped `has_lost_bits`; edges never have more.
    """
    lost = [job.output_path for job in jobs if has_lost_bits(job)] \
        if options.operation != "edges" else []
    if lost:
        raise UserError(f"{len(lost)} of {len(jobs)} results in --output_dir {options.output_dir}, "
                        f"such as {lost[0]}, have 8 bits of images of 16, as older versions made "
                        "them: give --force to make them again, or another --output_dir")


def check_first_types(jobs, options):
    """Raises UserError where the images of two folders cannot be in one file: the first two show
    it."""
    if options.operation not in TWO_FOLDERS or not jobs:
        return
    try:
        images = [read_prepared(path, options)[0] for path in jobs[0].inputs]
    except ImageError:
        return  # it is reported in its turn
    if options.operation == "combine":
        images = share_palette(*images)
    try:
        check_types(*images, jobs[0], options)
    except ImageError as error:
        raise UserError(str(error)) from error


def report_stored(jobs, made):
    """Warns of values that may be meant otherwise, and of grey images that were stacked as RGB.
    made: the Made of each job."""
    rotated = [result.rotated for result in made if result.rotated]
    if rotated:
        cli.warn(printable(
            f"{len(rotated)} of {len(jobs)} images have only multiples of 8, such as {rotated[0]}:"
            " if they are SUN RGB-D's, whose bits are rotated by 3, convert the folder first with "
            "--operation convert --sample_format rotated"))
    grey = [result.grey_rgb for result in made if result.grey_rgb]
    if grey:
        cli.warn(printable(
            f"{len(grey)} of {len(jobs)} results have an image of three equal channels, such as "
            f"{grey[0]}: --operation grayscale makes one channel of it"))


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
    check_bits([job for job in all_jobs if job.output_path in kept], options)
    jobs = [job for job in all_jobs if job.output_path not in kept]
    check_first_types(jobs, options)
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
    report_stored(jobs, made)
    report_scaled(jobs, made)
    num_failed = sum(result.error is not None for result in made)
    cli.say(f"wrote {len(jobs) - num_failed}, skipped {len(all_jobs) - len(jobs)}, "
            f"failed {num_failed + len(lonely)}")
    return num_failed + len(lonely)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def number_text(text):
    """An argparse type: a number, or "nan", as the shortest text that stands for it."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a number, or nan") from None
    return str(int(value)) if value.is_integer() else repr(value)


def create_parser():
    """The command line: affinelayer's flags with their meaning, and ours."""
    parser = cli.Parser("process.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("--input_dir", type=Path, required=True, help="folder of images")
    add("--output_dir", type=Path, required=True,
        help="folder for the results, NAME.png, or NAME.npy of what PNG does not hold")
    add("--operation", required=True, choices=OPERATIONS, help="what to do")
    workers.add_options(add)
    add("--pad", action="store_true", help="resize: pad with black instead of cropping")
    add("--size", type=size_type(1, MAX_SIDE), default=256,
        help="resize, crop: N or HEIGHTxWIDTH of the results, in pixels")
    add("--resample", choices=["area", "nearest"], default="area",
        help="resize, combine: area blends colours, nearest keeps those of label images")
    add("--ignore", type=number_text, nargs="+", metavar="V",
        help="resize, combine: values that mean no measurement, such as 0 of depth maps; area does "
        "not blend them with others")
    add("--keep_alpha", action="store_true",
        help="resize, crop, convert, blank, combine: keep transparency as a channel instead of "
        "putting images on white")
    add("--sample_format", choices=SAMPLE_FORMATS,
        help="convert: how 16 bits are stored: as the file's format says, with their bytes swapped "
        "(NYU Depth's raw files), rotated by 3 bits (SUN RGB-D)")
    add("--mask", choices=["center", "random"], default="center",
        help="blank: a hole in the middle, or one of random place and shape in each image")
    add("--seed", type=int, default=0, help="blank: seed of --mask random")
    add("--b_dir", type=Path,
        help="combine: folder of the right halves; stack: of the channels to append")
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
    if options.operation in TWO_FOLDERS and options.b_dir is None:
        raise UserError(f"--b_dir is missing: {options.operation} needs the folder of the "
                        f"{TWO_FOLDERS[options.operation]}")
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
