"""Image files as they store their values: any type, any number of channels, palettes.

A 16-bit depth map stays 16 bits, a palette image stays indices and a palette, and a TIFF or .npy
file may have any number of channels. Files are told by their content and turned upright. What
training and the tools flatten to 8-bit RGB (`images.flatten`) is read here too.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.lib import exif
from tools.lib.cli import RunError, quiet_stderr
from tools.lib.image_files import FORMAT_NAMES, format_of

MAX_PIXELS = 89_478_485  # of an image: a quarter of a gigabyte in RGB, which is Pillow's limit too
MAX_PAGES = 1000  # of a TIFF file that are counted: those of a damaged one may go in circles
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # tags of TIFF
UNSIGNED = 1  # the SampleFormat of whole numbers from 0
PLAIN_MODES = {  # of Pillow: channels in the file, where it keeps every value of 8 bits
    "1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3, "YCbCr": 3, "LAB": 3, "RGBA": 4, "RGBa": 4,
    "RGBX": 4, "CMYK": 4}
WITH_ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}  # mode -> read
PALETTE = 3  # colour type of PNG (3rd edition, 11.2.1)
PNG_CHANNELS = {0: 1, 2: 3, PALETTE: 1, 4: 2, 6: 4}  # by colour type
PNG_TYPES = {channels: number for number, channels in PNG_CHANNELS.items() if number != PALETTE}
BLOCK_BYTES = 2**16  # of rows that are filtered at once
GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"  # between the numbers of a PGM or PPM header
PNM_HEADER = re.compile(rb"P([2356])" + GAP + rb"(\d+)" + GAP + rb"(\d+)" + GAP + rb"(\d+)\s")
SAMPLE_FORMATS = ("standard", "swapped", "rotated")  # of 16 bits: how files may store them
SMOOTHER = 8  # times: how much smoother an image is with its bytes swapped that must be so
SHARE_OF_EIGHTS = 0.9  # of the values of a file of rotated bits, those below 8192
SMOOTHER_WHERE_ROTATED = 2  # times: SUN RGB-D's example is 5 times smoother, others are rougher
CONVERT_FIRST = \
    "convert the folder first by tools/process.py --operation convert --sample_format"


class ImageError(RunError):
    """One image fails; a command that has others to do prints the text and continues."""


class TooLargeError(ValueError):
    """An image has more pixels than are read."""


class Stored(NamedTuple):
    """An image as its file stores it, upright."""

    pixels: Any  # [height, width, channels]; uint8, uint16, uint32, int32 or float32
    palette: Any = None  # uint8 [n, 3] on white; then the pixels are its indices, uint8, 1 channel
    has_alpha: bool = False  # the last channel says how opaque a pixel is


# --------------------------------------------------------------------------------------------------
# What all formats share
# --------------------------------------------------------------------------------------------------


def check_size(width, height):
    """Raises TooLargeError for more pixels than MAX_PIXELS."""
    if not 0 <= width * height <= MAX_PIXELS:
        raise TooLargeError(f"{width}x{height} pixels are more than {MAX_PIXELS}")


def to_stored_type(values):
    """An array -> the type of `Stored.pixels` that holds its values; bool becomes 0 and 255. Raises
    ValueError where none does."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return np.where(values, 255, 0).astype(np.uint8)
    if kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    if kind == "u" and size <= 4:
        return values.astype(values.dtype.newbyteorder("="))
    limits = np.iinfo(np.int32)
    if kind in "iu" and limits.min <= values.min() and values.max() <= limits.max:
        return values.astype(np.int32)
    raise ValueError(f"its values are of type {values.dtype}: save them as uint8, uint16, int32 or "
                     "float32")


def narrow(pixels, dtype):
    """Whole numbers of 32 bits as uint16, where that is the type wanted and holds all of them;
    other pixels as they are."""
    limits = np.iinfo(np.uint16)
    fits = np.dtype(dtype) == np.uint16 and pixels.dtype in (np.int32, np.uint32) \
        and limits.min <= pixels.min() and pixels.max() <= limits.max
    return pixels.astype(np.uint16) if fits else pixels


def blend_on_white(pixels):
    """uint8 or uint16 [..., channels] of which the last is alpha -> [..., channels - 1], composited
    on white and rounded."""
    white = np.iinfo(pixels.dtype).max
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    return ((colour * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)


def roughness(values):
    """Mean difference of neighbours in a row of [height, width, channels]."""
    return np.abs(np.diff(values.astype(np.int32), axis=1)).mean() if values.shape[1] > 1 else 0


def unrotate(values):
    """uint16 as SUN RGB-D stores it, rotated to the left by 3 bits -> as it was."""
    return (values >> 3) | (values << 13)


def are_swapped(values):
    """Whether uint16 [height, width, channels] must have its bytes in the wrong order: it is far
    smoother in the other. A low byte that is the same everywhere shows nothing: values times 256
    are valid."""
    low = values & 255
    return low.min() < low.max() and roughness(values) > SMOOTHER * roughness(values.byteswap())


def are_rotated(values):
    """Whether uint16 [height, width, channels] must be rotated by 3 bits: nearly all values are
    multiples of 8, and where others begin beside them, rotating back makes the image smoother."""
    is_eight = values & 7 == 0
    if not SHARE_OF_EIGHTS <= is_eight.mean() < 1:
        return False
    left, right = values[:, :-1], values[:, 1:]
    places = (is_eight[:, :-1] != is_eight[:, 1:]) & (left > 0) & (right > 0)  # 0: no measurement
    as_stored, rotated_back = (np.abs(a[places].astype(np.int64) - b[places]).sum() for a, b in
                               ((left, right), (unrotate(left), unrotate(right))))
    return as_stored > SMOOTHER_WHERE_ROTATED * 8 * rotated_back


def may_be_rotated(values):
    """Whether values could be those of SUN RGB-D, below 8192 and rotated by 3 bits, or as well
    values times 8: all of many are multiples of 8."""
    return values.dtype == np.uint16 and not np.any(values & 7) and len(np.unique(values)) > 16


def apply_sample_format(stored, sample_format):
    """Pixels of 16 bits that were stored otherwise than the format says -> as they were meant.
    sample_format: of SAMPLE_FORMATS, or None to check. Raises ValueError."""
    pixels = stored.pixels
    if pixels.dtype != np.uint16:
        return stored
    if sample_format == "swapped":
        return stored._replace(pixels=pixels.byteswap())
    if sample_format == "rotated":
        return stored._replace(pixels=unrotate(pixels))
    if sample_format is None and are_rotated(pixels):
        raise ValueError("its values look rotated by 3 bits, as SUN RGB-D stores millimetres: "
                         f"{CONVERT_FIRST} rotated, or by standard if the values are right")
    return stored


# --------------------------------------------------------------------------------------------------
# By Pillow
# --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_by_pillow(contents, name):
    """The Pillow image of a file without metadata, its pixels still to be decoded."""
    from PIL import Image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata; the size is checked here
        try:
            image = Image.open(io.BytesIO(contents), formats=[name.upper()])
        except Image.DecompressionBombError as error:
            found = re.search(r"\d+ pixels", str(error))
            raise TooLargeError(f"{found[0] if found else 'its pixels'} are more than "
                                f"{MAX_PIXELS}") from None
        with image:
            check_size(*image.size)
            yield image


def to_array(image):
    """A Pillow image -> [height, width, channels]."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def add_alpha(pixels, is_opaque):
    """Appends an alpha channel of two values. is_opaque: bool [height, width]."""
    alpha = np.where(is_opaque, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
    return Stored(np.concatenate([pixels, alpha[..., np.newaxis]], axis=2), has_alpha=True)


def read_palette(image, alpha):
    """A Pillow image of mode P -> Stored. alpha: of its first colours, as bytes."""
    indices = to_array(image)
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.zeros([max(len(colours), int(indices.max()) + 1), 4], np.uint8)
    palette[:len(colours), :3], palette[:, 3] = colours, 255
    palette[:len(alpha), 3] = np.frombuffer(alpha, np.uint8)[:len(palette)]
    return Stored(indices, blend_on_white(palette))


def read_plain(image, transparent=None):
    """A Pillow image of a mode of 8 bits -> Stored; CMYK, YCbCr and the like as RGB. transparent:
    index or value that is so, or a palette's alpha as bytes."""
    if image.mode == "P":
        alpha = b"\xff" * transparent + b"\0" if isinstance(transparent, int) else transparent
        return read_palette(image, alpha or b"")
    if image.mode in WITH_ALPHA:
        return Stored(to_array(image.convert(WITH_ALPHA[image.mode])), has_alpha=True)
    pixels = to_array(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    if transparent is not None:
        return add_alpha(pixels, (pixels != transparent).any(axis=2))
    return Stored(pixels)


def other_bytes(rawmode):
    """The rawmode of Pillow that reads the lower bytes, where this one reads the upper ones. Raises
    ValueError where there is none."""
    mode, is_deep, order = rawmode.partition(";16")
    if not is_deep:
        raise ValueError("its 16 bits are stored in a way that is not supported")
    native, other = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    return f"{mode};16{ {'B': 'L', 'L': 'B', 'N': other}[order or native]}"


def replace_rawmode(tile, replace):
    """A tile of a Pillow image with another rawmode, its last entry or the first of that."""
    *start, arguments = tile
    rawmode, *rest = (arguments,) if isinstance(arguments, str) else arguments
    arguments = (replace(rawmode), *rest) if rest else replace(rawmode)
    return getattr(type(tile), "_make", tuple)([*start, arguments])  # a tuple until Pillow 11


def read_low_bytes(contents, name):
    """The lower bytes of the samples of an RGB or RGBA file of 16 bits, of which Pillow reads the
    upper ones: it has readers for both orders, each takes another byte."""
    with open_by_pillow(contents, name) as image:
        image.tile = [replace_rawmode(tile, other_bytes) for tile in image.tile]
        return to_array(image)


def read_deep(contents, name):
    """A PNG or TIFF file of 16 bits -> uint16 [height, width, channels], by Pillow."""
    with open_by_pillow(contents, name) as image:
        if image.mode.startswith("I"):
            return to_array(image).astype(np.uint16)
        if image.mode == "RGBA" and image.tile and "LA;16B" in image.tile[0]:  # grey and alpha
            image.tile = [replace_rawmode(image.tile[0], lambda _: "RGBA")]  # both bytes of both
            return to_array(image).view(">u2").astype(np.uint16)
        high = to_array(image)
    return high.astype(np.uint16) << 8 | read_low_bytes(contents, name)


# --------------------------------------------------------------------------------------------------
# Formats
# --------------------------------------------------------------------------------------------------


def decode_png(contents):
    """Bytes of a PNG file without metadata -> Stored, not turned. A transparent colour (tRNS)
    becomes alpha."""
    bits, colour_type = contents[24:26]  # PNG 3rd edition, 11.2.1
    key = next((chunk[8:-4] for name, chunk in exif.png_chunks(contents) if name == b"tRNS"), None)
    if key is not None and colour_type in (0, 2):
        samples = np.frombuffer(key[:2 * PNG_CHANNELS[colour_type]], ">u2")
        key = samples * (255 // (2**bits - 1)) if bits < 8 else samples
    if bits != 16:
        with open_by_pillow(contents, "png") as image:
            return read_plain(image, key)
    pixels = read_deep(contents, "png")
    if key is not None:
        return add_alpha(pixels, (pixels != key).any(axis=2))
    return Stored(pixels, has_alpha=colour_type in (4, 6))


def open_tiff(contents):
    """tifffile's file of bytes. What it logs of damaged ones is in the error that follows."""
    import tifffile
    logging.getLogger("tifffile").disabled = True
    return tifffile.TiffFile(io.BytesIO(contents))


def read_page(contents):
    """Bytes of a TIFF file -> Stored, not turned: any type and number of channels. Raises
    ValueError for several pages, of which one would be read."""
    with open_tiff(contents) as file:
        page, pages = file.pages[0], itertools.islice(file.pages, MAX_PAGES)
        num_pages = sum(not page.is_reduced for page in pages)
        check_size(page.imagewidth, page.imagelength)
        if num_pages > 1:
            raise ValueError(f"it has {num_pages} pages: save the one to read alone, or all as "
                             "channels of one .npy file [height, width, channels]")
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise NotImplementedError(page.compression.name) from error
        axes, extra = page.axes, page.extrasamples
    pixels = np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels
    if axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"its axes are {axes}: save it as height, width and channels")
    pixels = pixels[..., np.newaxis] if axes == "YX" else pixels
    return Stored(to_stored_type(pixels), has_alpha=len(extra) == 1 and int(extra[0]) in (1, 2)
                  and is_png_type(pixels))


def decode_tiff(contents):
    """Bytes of a TIFF file -> Stored, not turned."""
    from PIL import UnidentifiedImageError
    mode, message = "", "damaged in its header, or a kind of TIFF that is not supported"
    with contextlib.suppress(UnidentifiedImageError), open_by_pillow(contents, "tiff") as image:
        mode = image.mode
        bits, forms = (image.tag_v2.get(tag, (1,)) for tag in (BITS_PER_SAMPLE, SAMPLE_FORMAT))
        if max(bits) <= 8 and {*forms} == {UNSIGNED} and PLAIN_MODES.get(mode) == len(bits):
            return read_plain(image)
    try:
        return read_page(contents)
    except NotImplementedError as error:  # a compression that Pillow may have
        if mode.startswith("I;16") or mode in ("RGB", "RGBA"):
            return Stored(read_deep(contents, "tiff"), has_alpha=mode == "RGBA")
        if mode == "F":
            with open_by_pillow(contents, "tiff") as image:
                return Stored(to_array(image))
        raise ValueError(f"its compression {error} is not supported for such values: save it "
                         "uncompressed or by Deflate") from error
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError(message) from error


def read_pnm_head(contents):
    """Of a PGM or PPM file: the number in its kind, width, height and largest value, and where its
    pixels begin. Raises ValueError."""
    header = PNM_HEADER.match(contents)
    if header is None:
        raise ValueError("damaged in its header")
    kind, width, height, largest = map(int, header.groups())
    check_size(width, height)
    return kind, width, height, largest, header.end()


def decode_pnm(contents, sample_format=None):
    """Bytes of a PGM or PPM file, binary or text -> Stored: the values as they stand there,
    whatever the largest one is said to be. Raises ValueError."""
    kind, width, height, largest, start = read_pnm_head(contents)
    if not (width and height and 0 < largest < 65536):
        raise ValueError("damaged in its header")
    dtype, channels = np.dtype(">u2" if largest > 255 else "u1"), 3 if kind in (3, 6) else 1
    count = height * width * channels
    if kind in (2, 3):
        numbers = contents[start:].split(maxsplit=count)[:count]
        samples = np.array(numbers, np.int64).astype(dtype).tobytes()
    else:
        samples = contents[start:][:count * dtype.itemsize]
    if len(samples) < count * dtype.itemsize:
        raise ValueError("truncated")
    pixels = to_stored_type(np.frombuffer(samples, dtype).reshape(height, width, channels))
    if kind in (5, 6) and largest > 255 and sample_format is None and are_swapped(pixels):
        raise ValueError("its 16-bit samples look little-endian, as in NYU Depth's raw files, "
                         f"where the format has them big-endian: {CONVERT_FIRST} swapped, or by "
                         "standard if they are right")
    return Stored(pixels)


def read_npy_head(file):
    """The shape of a .npy file's array, whether it is stored column by column, and its type. Raises
    ValueError where it is no image."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"of an unknown version {version} of the format")
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, is_column_first, dtype = read_header[version[0]](file)
    if dtype.kind not in "biuf":
        raise ValueError(f"its values are of type {dtype}: save numbers, such as uint16 or float32")
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"its shape is {shape}: save [height, width] or [height, width, channels]")
    if len(shape) == 3 and shape[0] <= 16 <= shape[2] and shape[0] < min(shape[1:]):
        raise ValueError(f"its shape {shape} looks like channels first: save "
                         "np.moveaxis(array, 0, 2)")
    check_size(shape[1], shape[0])
    return shape, is_column_first, dtype


def decode_npy(contents):
    """Bytes of a .npy file (numpy.save) of [height, width] or [height, width, channels] -> Stored.
    Objects, which would be unpickled, are refused. Raises ValueError."""
    file = io.BytesIO(contents)
    shape, is_column_first, dtype = read_npy_head(file)
    count, start = int(np.prod(shape, dtype=np.int64)), file.tell()
    if len(contents) - start < count * dtype.itemsize:
        raise ValueError("truncated")
    values = np.frombuffer(contents, dtype, count, start)
    values = values.reshape(shape, order="F" if is_column_first else "C")
    return Stored(to_stored_type(values if len(shape) == 3 else values[..., np.newaxis]))


def size_in_head(contents, name):
    """`read_size` of a file of a format."""
    from PIL import UnidentifiedImageError
    if name == "npy":
        (height, width, *_), *_ = read_npy_head(io.BytesIO(contents))
        return width, height
    if name == "ppm":
        return read_pnm_head(contents)[1:3]
    try:
        with open_by_pillow(contents, name) as image:
            return image.size
    except UnidentifiedImageError:
        if name != "tiff":
            raise
    with open_tiff(contents) as file:  # of values that Pillow does not know
        return file.pages[0].imagewidth, file.pages[0].imagelength


def decode_other(contents, name):
    """Bytes of a file of another format -> Stored, not turned, by Pillow."""
    with open_by_pillow(contents, name) as image:
        if image.mode not in (*PLAIN_MODES, "La"):
            raise ValueError(f"a {name.upper()} file of mode {image.mode}, which is not supported")
        return read_plain(image, image.info.get("transparency"))


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


def decode_any(contents, name, sample_format=None):
    """Bytes of a file of a format -> Stored, upright."""
    if name == "ppm":
        return decode_pnm(contents, sample_format)
    if name == "npy":
        return decode_npy(contents)
    contents, orientation = exif.separate_metadata(contents, name)
    decode = {"png": decode_png, "tiff": decode_tiff}.get(name)
    stored = decode(contents) if decode else decode_other(contents, name)
    return stored._replace(pixels=exif.turn_array(stored.pixels, orientation))


def use_format(contents, read):
    """read(contents, name) of the bytes of an image file and its format's name in FORMATS, told by
    content. Raises ValueError with the reason, whatever is wrong with the file, TooLargeError."""
    name = format_of(contents)
    if name is None:
        raise ValueError(f"not a {FORMAT_NAMES} file" if contents else "empty")
    try:
        return read(contents, name)
    except TooLargeError:
        raise
    except Exception as error:  # libraries raise nearly everything on broken files
        reason = str(error) or type(error).__name__
        if type(error).__name__ == "UnidentifiedImageError":  # its text is of the object in memory
            reason = f"damaged in its header, or a kind of {name.upper()} that is not supported"
        raise ValueError(reason) from error


def decode_with(contents, finish, sample_format=None):
    """finish(Stored) of the bytes of an image file of any of FORMATS. Raises as `use_format`."""
    return use_format(contents, lambda contents, name: finish(
        decode_any(contents, name, sample_format)))


def decode_stored(contents, sample_format=None):
    """Bytes of an image file -> Stored. sample_format: of SAMPLE_FORMATS, or None to follow the
    file's format and refuse values that cannot have been stored by it. Raises ValueError with the
    reason."""
    return decode_with(contents, lambda stored: apply_sample_format(stored, sample_format),
                       sample_format)


def read_size(contents):
    """(width, height) that the bytes of an image file begin with, before it is turned upright; no
    pixel is decoded. Raises as `use_format`."""
    return use_format(contents, size_in_head)


def read_with(path, decode):
    """decode(bytes) of a file. Raises ImageError."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")  # opening a FIFO would wait
        contents = path.read_bytes()
        quiet = quiet_stderr() if format_of(contents) == "tiff" else contextlib.nullcontext()
        with quiet:  # libtiff prints its errors too
            return decode(contents)
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path} cannot be read ({reason}): repair or remove it") from error


def read_stored(path):
    """An image file -> Stored. Raises ImageError."""
    return read_with(path, decode_stored)


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def encode_by_pillow(pixels, palette, **settings):
    """uint8, or uint16 of one channel -> bytes of a PNG file."""
    from PIL import Image
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if palette is not None:
        image.putpalette(np.ascontiguousarray(palette).tobytes())  # mode L becomes P
    contents = io.BytesIO()
    image.save(contents, "PNG", **settings)
    return contents.getvalue()


def png_chunk(name, data):
    """A chunk of a PNG file with its length and check (PNG 3rd edition, 5.3)."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def predict(left, up, corner):
    """Of three bytes around others, uint8 arrays, the nearest to left + up - corner: Paeth's
    predictor (PNG 3rd edition, 9.4), without a larger type, and without np.where, which takes four
    times as long as all of this."""
    low, high = np.minimum(left, up), np.maximum(left, up)
    from_left = np.maximum(up, corner) - np.minimum(up, corner)  # how far that sum is from each
    from_up = np.maximum(left, corner) - np.minimum(left, corner)
    nearer = np.minimum(from_left, from_up)
    from_corner = np.maximum(from_left, from_up) - nearer  # where it lies between the others
    is_corner = (low < corner) & (corner < high) & (from_corner < nearer)
    nearest = up ^ (up ^ left) & np.negative((from_left <= from_up).view(np.uint8))
    return nearest ^ (nearest ^ corner) & np.negative(is_corner.view(np.uint8))


def filter_rows(pixels):
    """The rows of a PNG file, each with its filter's number in front: uint8 [height, 1 + bytes of a
    row]. The filter is Paeth's: what is left of a byte without `predict`'s."""
    height, _, channels = pixels.shape
    step = channels * pixels.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">"), order="C").view(np.uint8)
    around = np.pad(rows.reshape(height, -1), [(1, 0), (step, 0)])  # with the zeros outside
    lines = np.full([height, 1 + rows.size // height], 4, np.uint8)
    block = max(BLOCK_BYTES // around.shape[1], 1)  # rows that stay in the processor's cache
    for first in range(0, height, block):
        here = around[1 + first:1 + first + block]
        above = around[first:first + len(here)]
        predicted = predict(here[:, :-step], above[:, step:], above[:, :-step])
        np.subtract(here[:, step:], predicted, out=lines[first:first + block, 1:])
    return lines


def encode_png(pixels):
    """uint8 or uint16 [height, width, 1..4] -> bytes of a PNG file, by Intel's ISA-L: as small as
    by zlib's level 1, in a third of its time or less (docs/benchmarks.md)."""
    from isal import isal_zlib
    height, width, channels = pixels.shape
    depth, colour_type = 8 * pixels.itemsize, PNG_TYPES[channels]
    header = struct.pack(">2I5B", width, height, depth, colour_type, 0, 0, 0)
    data = isal_zlib.compress(filter_rows(pixels), 1)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) \
        + png_chunk(b"IEND", b"")


def is_png_type(pixels):
    """Whether a PNG file can hold such pixels [height, width, channels]."""
    return pixels.dtype in (np.uint8, np.uint16) and pixels.shape[2] in PNG_TYPES


def encode_stored(pixels, palette=None, **settings):
    """[height, width, channels] -> bytes of a PNG file where it can hold such pixels, else of a
    .npy file. palette: uint8 [n, 3] of uint8 indices. settings: Pillow's, of PNG; without any, and
    where Pillow cannot write the pixels, it is `encode_png`."""
    if not is_png_type(pixels):
        contents = io.BytesIO()
        np.save(contents, pixels, allow_pickle=False)
        return contents.getvalue()
    is_deep = pixels.dtype == np.uint16 and pixels.shape[2] > 1
    if is_deep or palette is None and not settings:
        return encode_png(pixels)
    return encode_by_pillow(pixels, palette, **settings)
