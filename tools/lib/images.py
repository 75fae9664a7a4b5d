"""Reading, writing and resizing images, in the graph and in arrays.

One rule for reading: a file's format is told by its content; EXIF turns the image upright; of 16
bits the upper 8 count; of several frames or pages the first is read. Palette and CMYK become RGB.
What is read has 1, 3 or 4 channels, as asked: grey is the luminance of colours; for 1 and 3
channels transparent parts lie on white.
"""

from __future__ import annotations

import errno
import functools
import io
import math
from typing import Any, NamedTuple

import numpy as np

from tools.lib import exif
from tools.lib.cli import describe_error, warn
from tools.lib.files import write_atomic
from tools.lib.image_files import GRAPH_FORMATS, format_of
from tools.lib.stored import (
    PALETTE, PNG_CHANNELS, PNG_TYPES, ImageError, Stored, blend_on_white, check_size, decode_stored,
    decode_with, encode_stored, narrow, read_with)
from tools.lib.tf1 import session_config, tf

PNG_HEADER_SIZE = 26  # bytes, up to the colour type
LUMINANCE = (19595, 38470, 7471)  # of red, green and blue, in parts of 65536
MAX_PNG_CHANNELS = 4

# --------------------------------------------------------------------------------------------------
# In the graph
# --------------------------------------------------------------------------------------------------


def png_shape(contents):
    """Height and width [2] of a PNG file by its header (PNG 3rd edition, 11.2.1)."""
    return tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)[::-1]


def png_channels(file_bytes):
    """1 or 3 channels of a PNG file, of which a palette has 3, and one more with alpha."""
    colour_type = file_bytes[25]
    channels = 3 if colour_type == PALETTE else PNG_CHANNELS.get(colour_type, 3)
    has_key = any(name == b"tRNS" for name, _ in exif.png_chunks(file_bytes))
    return channels + (has_key and channels in (1, 3))


def over_white(rgba):
    """uint8 [height, width, 4] -> [height, width, 3], composited on white and rounded."""
    colour, alpha = tf.split(tf.cast(rgba, tf.int32), [3, 1], axis=2)
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def luminance(rgb):
    """uint8 [..., 3] -> [..., 1], a tensor or an array: ITU-R BT.601 in whole numbers, as Pillow
    computes it. What is grey stays as it is."""
    cast, total = (tf.cast, tf.reduce_sum) if tf.is_tensor(rgb) else (np.asarray, np.sum)
    weighted = cast(rgb, np.int32) * LUMINANCE
    return cast((total(weighted, axis=-1, keepdims=True) + 2**15) // 2**16, np.uint8)


def convert_channels(pixels, channels):
    """uint8 [height, width, 1, 3 or 4] -> [height, width, channels], a tensor or an array."""
    join, white = (tf.concat, over_white) if tf.is_tensor(pixels) else (
        np.concatenate, blend_on_white)
    if pixels.shape[-1] == channels:
        return pixels
    if pixels.shape[-1] == 4:
        return convert_channels(white(pixels), channels)
    if channels == 1:
        return luminance(pixels)
    colour = pixels if pixels.shape[-1] == 3 else join([pixels] * 3, axis=-1)
    return colour if channels == 3 else join([colour, 0 * colour[..., :1] + 255], axis=-1)


def decode_jpeg(contents):
    """Bytes of a JPEG file -> uint8 [height, width, 3], upright, as Pillow and browsers decode it:
    TensorFlow's faster cosine transform is up to 23 levels off on facades."""
    pixels = tf.image.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
    return exif.turn_jpeg(pixels, contents)


def decode_png(contents, channels):
    """Bytes of a PNG file -> uint8 [height, width, 3, or 4 if that is `channels`], upright."""
    block, has_key = exif.scan_png(contents)
    colour_type = tf.strings.substr(contents, 25, 1)  # PNG 3rd edition, 11.2.1
    has_alpha = tf.equal(colour_type, b"\4") | tf.equal(colour_type, b"\6")
    is_palette = tf.equal(colour_type, b"\3")
    with_alpha = functools.partial(tf.image.decode_png, contents, channels=4)
    if channels == 4:  # a palette's colours that are transparent are on white
        pixels = tf.cond(has_key & is_palette,
                         lambda: convert_channels(over_white(with_alpha()), 4), with_alpha)
    else:
        pixels = tf.cond(has_alpha | has_key, lambda: over_white(with_alpha()),
                         lambda: tf.image.decode_png(contents, channels=3))
    return exif.turn(pixels, block)


def decode_by_pillow(contents, channels):
    """Bytes of another file -> uint8 [height, width, channels], upright."""
    def decode(file_bytes):
        """Through Python."""
        return decode_bytes(file_bytes, channels).pixels
    pixels = tf.numpy_function(decode, [contents], tf.uint8)
    pixels.set_shape([None, None, channels])
    return pixels


def refuse(_contents, channels):
    """In place of `decode_by_pillow` in graphs that leave Python: stops with an error."""
    stop = tf.debugging.Assert(False, ["not a JPEG or PNG file: convert it to one of these"])
    with tf.control_dependencies([stop]):
        return tf.identity(tf.zeros([0, 0, channels], tf.uint8))


def is_exact_png(contents, channels, dtype):
    """Whether the bytes of a file are a PNG file of so many channels and this type, uint8 or
    uint16, [] bool."""
    form = bytes([8 * np.dtype(dtype).itemsize, PNG_TYPES[channels]])  # PNG 3rd edition, 11.2.1
    return tf.equal(tf.strings.substr(contents, 0, 3), b"\x89PN") \
        & tf.equal(tf.strings.substr(contents, 24, 2), form)


def decode_exact_png(contents, channels, dtype):
    """Bytes of a file for which `is_exact_png` is true, of 1, 3 or 4 channels, ->
    [height, width, channels] of its type, upright. Another file stops it with an error."""
    check = tf.debugging.Assert(is_exact_png(contents, channels, dtype), [
        f"not a PNG file of {8 * np.dtype(dtype).itemsize} bits in {channels} channels: convert it "
        "to one"])
    with tf.control_dependencies([check]):
        pixels = tf.image.decode_png(contents, channels=channels, dtype=tf.as_dtype(dtype))
    return exif.turn(pixels, exif.scan_png(contents)[0])


def decode_indices(contents, dtype):
    """Bytes of an image file -> indices as it stores them, those of a palette too: [height, width,
    1] of a type, uint8 or uint16, upright. Another file stops it with an error."""
    def decode(file_bytes):
        """Through Python."""
        return to_indices(decode_stored(file_bytes), dtype)
    is_quick = is_exact_png(contents, 1, dtype) & ~exif.scan_png(contents)[1]
    pixels = tf.cond(is_quick, lambda: decode_exact_png(contents, 1, dtype),
                     lambda: tf.numpy_function(decode, [contents], tf.as_dtype(dtype)))
    pixels.set_shape([None, None, 1])
    return pixels


def decode_values(contents, channels, dtype):
    """Bytes of an image file, told by content -> what it stores, of so many channels and this type
    alone, for uint16 wider ones with such values too: [height, width, channels], upright. Another
    file stops it with an error."""
    def decode(file_bytes):
        """Through Python."""
        pixels = narrow(decode_stored(file_bytes).pixels, dtype)
        if pixels.shape[2] != channels or pixels.dtype != dtype:
            raise ValueError(f"{pixels.shape[2]} channels of {pixels.dtype}, not {channels} of "
                             f"{dtype}")
        return pixels

    def decode_in_python():
        """Any file."""
        return tf.numpy_function(decode, [contents], tf.as_dtype(dtype))
    if dtype == "uint16" and channels in (1, 3):  # which TensorFlow decodes
        pixels = tf.cond(is_exact_png(contents, channels, dtype),
                         lambda: decode_exact_png(contents, channels, dtype), decode_in_python)
    else:
        pixels = decode_in_python()
    pixels.set_shape([None, None, channels])
    return pixels


def decode_pixels(contents, channels=3, decode_other=decode_by_pillow):
    """Bytes of an image file, told by content -> uint8 [height, width, channels], upright.

    channels: 1, 3 or 4. decode_other: of what is neither JPEG nor PNG.
    """
    start = tf.strings.substr(contents, 0, 3)
    pixels = tf.cond(
        tf.equal(start, b"\xff\xd8\xff"),
        lambda: convert_channels(decode_jpeg(contents), channels),
        lambda: tf.cond(tf.equal(start, b"\x89PN"),
                        lambda: convert_channels(decode_png(contents, channels), channels),
                        lambda: decode_other(contents, channels)))
    pixels.set_shape([None, None, channels])
    return pixels


def encode_image(pixels, filetype="png", portable=True):
    """[height, width, channels] as a file holds it -> bytes of a file: of type "png", or .npy where
    that cannot hold it; or "jpeg", of uint8 alone, which has no alpha. portable: PNG without
    Python, which takes ten times as long."""
    if filetype == "jpeg":
        return tf.image.encode_jpeg(over_white(pixels) if pixels.shape[-1] == 4 else pixels)
    if portable and pixels.dtype in (tf.uint8, tf.uint16) \
            and (pixels.shape[-1] or 1) <= MAX_PNG_CHANNELS:
        return tf.image.encode_png(pixels)
    contents = tf.numpy_function(encode_stored, [pixels], tf.string)
    contents.set_shape([])
    return contents


def encode_files(images):
    """[batch, height, width, channels] -> bytes of files [batch]: PNG where it can hold such
    pixels, else .npy."""
    return tf.numpy_function(
        lambda batch: np.array([*map(encode_stored, batch)], object), [images], tf.string)


def scale_back(images, size):
    """[..., height, width, channels] -> [..., *size, channels]; the centre stays where it is, which
    version 1's bicubic interpolation does not ensure."""
    return tf.compat.v2.image.resize(images, size, method="bicubic", antialias=True)


def create_shape_reader():
    """A function from the bytes of a PNG, JPEG or .npy file to height, width and channels, as its
    header has them: 1 or 3, and one more with alpha. It raises ValueError with the reason where
    that fails, or where there are too many pixels: a small file can hold an image larger than
    memory."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        sess = tf.Session(graph=graph, config=session_config())
        read = {"jpeg": sess.make_callable(tf.image.extract_jpeg_shape(contents), [contents]),
                "png": sess.make_callable(png_shape(contents), [contents])}

    def run(file_bytes):
        """One file."""
        name = format_of(file_bytes)
        if name == "npy":
            return decode_stored(file_bytes).pixels.shape
        if name == "png" and len(file_bytes) < PNG_HEADER_SIZE:
            raise ValueError("truncated in its header")
        try:
            height, width, *channels = map(int, read[name](file_bytes))
        except tf.errors.OpError as error:
            raise ValueError(f"cannot be decoded: {describe_error(error)}") from None
        check_size(width, height)
        # CMYK has 4
        return height, width, min(*channels, 3) if name == "jpeg" else png_channels(file_bytes)
    return run


class Described(NamedTuple):
    """What is known of an image file that has been decoded."""

    height: int
    width: int
    channels: int  # of 8 bits 1 or 3, and one more with alpha, or as many as there are
    dtype: str = "uint8"  # of its values
    is_stack: bool = False  # its channels are no colours: 2, 4 without alpha, or more
    # lowest and highest value of other types than uint8; None where no pixel is finite
    deep_range: list | None = None
    values: tuple = ()  # those of all types where they were asked for; NaN where no pixel is finite


def describe_stored(stored, with_range=False):
    """Described of a Stored."""
    if stored.palette is not None:
        stored = Stored(stored.palette[stored.pixels[..., 0]])
    (height, width, channels), dtype = stored.pixels.shape, stored.pixels.dtype
    finite = np.isfinite(stored.pixels)
    known, found = stored.pixels[finite], None
    if finite.all(axis=2).any():
        found = [known.min().item(), known.max().item()]
    return Described(height, width, channels, dtype.name,
                     channels not in (1, 3) and not stored.has_alpha,
                     None if dtype == np.uint8 else found,
                     tuple(found or (math.nan, math.nan)) if with_range else ())


def create_decoder(with_range=False):
    """A function from an image file's bytes to Described, after decoding all of it as training
    does. It raises ValueError with the reason where that fails."""
    read_shape = create_shape_reader()
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        sess = tf.Session(graph=graph, config=session_config())
        pixels = decode_pixels(contents)
        value_range = [tf.reduce_min(pixels), tf.reduce_max(pixels)] if with_range else []
        decode = sess.make_callable([*tf.unstack(tf.shape(pixels)[:2]), *value_range], [contents])

    def run_graph(file_bytes):
        """The header first."""
        channels = read_shape(file_bytes)[2]
        try:
            height, width, *values = map(int, decode(file_bytes))
            return Described(height, width, channels, values=tuple(values))
        except tf.errors.OpError as error:
            raise ValueError(f"cannot be decoded: {describe_error(error)}") from None

    def run(file_bytes):
        """One file."""
        if format_of(file_bytes) in GRAPH_FORMATS:
            described = run_graph(file_bytes)
            if not is_deep_png(file_bytes):
                return described
        return describe_stored(decode_stored(file_bytes), with_range)
    return run


# --------------------------------------------------------------------------------------------------
# In arrays
# --------------------------------------------------------------------------------------------------

ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ)  # other names may still be written


class Decoded(NamedTuple):
    """An image file, decoded."""

    pixels: Any  # uint8 [height, width, channels], upright
    deep_range: Any = None  # lowest and highest value of a file of 16 bits; None for other files
    channels: int = 3  # of the file: 1 or 3, and one more with alpha


def is_deep_png(contents):
    """Whether a file's bytes are a PNG file of 16 bits."""
    return format_of(contents) == "png" and contents[24:25] == b"\x10"


def report_deep(deep_ranges):
    """Warns of images of 16 bits, of which the upper 8 are read. deep_ranges: of all images."""
    ranges = [deep_range for deep_range in deep_ranges if deep_range]
    if ranges:
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        advice = "" if (high >> 8) - (low >> 8) > 127 else \
            ": scale the values to 0..65535 first, or most of what differs is lost"
        warn(f"{len(ranges)} of {len(deep_ranges)} images have 16 bits and are read as 8; their "
             f"values {low} to {high} become {low >> 8} to {high >> 8}{advice}")


def flatten(stored, wanted=3):
    """A Stored -> Decoded of so many channels, 1, 3 or 4: the upper 8 bits; a fourth channel that
    is not alpha is left out. Raises ValueError where values or channels do not allow that."""
    pixels, channels, deep_range = stored.pixels, stored.pixels.shape[2], None
    if stored.palette is not None:
        return Decoded(convert_channels(stored.palette[pixels[..., 0]], wanted))
    if channels > 4 or channels == 2 and not stored.has_alpha:
        raise ValueError(f"it has {channels} channels: convert it to 1, 3 or 4")
    if pixels.dtype.kind == "f":
        raise ValueError("its values are floating-point: convert it to 8 or 16 bits")
    if pixels.dtype != np.uint8:
        colours = pixels[..., :-1] if stored.has_alpha else pixels
        low, high = deep_range = [int(colours.min()), int(colours.max())]
        if low < 0 or high > 65535:
            raise ValueError(f"its values {low} to {high} do not fit in 16 bits: convert it")
        pixels = (pixels >> 8).astype(np.uint8)
    if not stored.has_alpha:
        pixels = pixels[..., :3] if wanted < 4 else pixels
    elif channels == 2:  # grey
        pixels = pixels[..., [0, 0, 0, 1]]
    stored_channels = channels if stored.has_alpha else min(channels, 3)
    return Decoded(convert_channels(pixels, wanted), deep_range, stored_channels)


def to_indices(stored, dtype):
    """A Stored -> its values as indices [height, width, 1] of a type, uint8 or uint16. Grey that is
    stored as RGB has one channel. Raises ValueError where it is not such an image."""
    pixels = stored.pixels
    if stored.has_alpha:
        if (pixels[..., -1] != np.iinfo(pixels.dtype).max).any():
            raise ValueError("it is partly transparent, and indices are not: remove the alpha "
                             "channel")
        pixels = pixels[..., :-1]
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    if pixels.shape[2] != 1:
        raise ValueError(f"it has {pixels.shape[2]} channels, and indices have 1: list the classes "
                         "with their colours")
    if pixels.dtype.kind == "f":
        raise ValueError("its values are floating-point, and indices are whole numbers: convert it")
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > np.iinfo(dtype).max:
        raise ValueError(f"its values {low} to {high} do not fit in "
                         f"{8 * np.dtype(dtype).itemsize} bits: convert it")
    return pixels.astype(dtype)


def decode_bytes(contents, channels=3):
    """Bytes of an image file of any of FORMATS, told by content -> Decoded, without TensorFlow.
    channels: 1, 3 or 4. Raises ValueError with the reason, whatever is wrong with the file."""
    return decode_with(contents, lambda stored: flatten(stored, channels))


def read_decoded(path, channels=3):
    """An image file -> Decoded. channels: as in `decode_bytes`. Raises ImageError."""
    return read_with(path, lambda contents: decode_bytes(contents, channels))


def read_image(path):
    """An image file, upright -> uint8 [height, width, 3]. Raises ImageError."""
    return read_decoded(path).pixels


def to_bytes(image, filetype="PNG", **settings):
    """uint8 [height, width, 1, 3 or 4] or [height, width] -> bytes of a file. settings: Pillow's.
    """
    from PIL import Image
    contents = io.BytesIO()
    image = image[..., 0] if image.shape[2:] == (1,) else image
    Image.fromarray(image).save(contents, filetype, **settings)
    return contents.getvalue()


def write_file(path, contents, sync=True):
    """Writes an image file's bytes, atomically. Raises ImageError where this name cannot be
    written, OSError where no other could be either."""
    try:
        write_atomic(path, contents, sync)
    except OSError as error:
        if error.errno in ONE_NAME:
            raise ImageError(f"{path} cannot be written ({error.strerror}): change the name or "
                             "remove what is in its place") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_image(path, image, sync=True, **settings):
    """Writes uint8 [height, width, 3] or [height, width] as a PNG file by `write_file`. settings:
    Pillow's."""
    write_file(path, to_bytes(image, **settings), sync)
