"""Images: file formats, what a pair's images are to the network, decoding, encoding, resizing.

A file's format is told by its content. An ImageType says what the images on one side of a pair are,
from the file to the network's end, and a PairType how a file holds the two: decoding, checking,
caching, both ends of the network, export and the tools ask these.
"""

from __future__ import annotations

import errno
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.lib.cli import RunError, UserError, describe_error
from tools.lib.colour import join_lab, split_lab
from tools.lib.files import sorted_by_name, write_atomic
from tools.lib.tf1 import session_config, tf

MAX_PIXELS = 89_478_485  # of an image: a quarter of a gigabyte in RGB, which is Pillow's limit too
PNG_LEVEL = 1  # of zlib: a quarter of 6's time for files a tenth larger (docs/benchmarks.md)

# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------


class ImageFormat(NamedTuple):
    """A format of image files."""

    signature: bytes  # what a file begins with
    extensions: tuple  # of file names; the first is the one we write
    read_shape: Any  # function of a file's bytes [], a tensor -> height and width [2] by its header
    header_size: int = 0  # bytes that read_shape needs


def png_shape(contents):
    """Height and width [2] of a PNG file by its header (RFC 2083, 4.1.1)."""
    return tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)[::-1]


FORMATS = {
    "jpeg": ImageFormat(b"\xff\xd8\xff", (".jpg", ".jpeg"),
                        lambda contents: tf.image.extract_jpeg_shape(contents)[:2]),
    "png": ImageFormat(b"\x89PNG\r\n\x1a\n", (".png",), png_shape, header_size=24),
}
EXTENSIONS = tuple(extension for row in FORMATS.values() for extension in row.extensions)
FORMAT_NAMES = " or ".join(name.upper() for name in FORMATS)


def format_of(contents):
    """Format of a file's bytes, such as "jpeg", by its first ones; None for no image."""
    return next((name for name, row in FORMATS.items() if contents.startswith(row.signature)), None)


def image_format(path):
    """Format of a file by its first bytes, whatever its extension says; None for no image."""
    with open(path, "rb") as file:
        return format_of(file.read(max(len(row.signature) for row in FORMATS.values())))


def is_candidate(path):
    """Whether a path should be an image: its extension or its first bytes say so. Hidden files
    are another program's, or half written."""
    if path.name.startswith("."):
        return False
    try:
        if path.suffix.lower() in EXTENSIONS:
            return True
        return path.is_file() and image_format(path) is not None
    except OSError:
        return False


def find_images(folder):
    """The image files directly in a folder, found by content, sorted by name, without hidden ones.
    """
    return sorted_by_name(path for path in Path(folder).iterdir()
                          if path.name[0] != "." and path.is_file() and image_format(path))


def require_images(folder, flag):
    """`find_images` of what a flag names. Raises UserError where there are none."""
    if not Path(folder).is_dir():
        raise UserError(f"{flag} {folder} is not a folder: check the path")
    paths = find_images(folder)
    if not paths:
        raise UserError(f"{flag} {folder} contains no {FORMAT_NAMES} images: check the path")
    return paths


# --------------------------------------------------------------------------------------------------
# What images are to the network
# --------------------------------------------------------------------------------------------------


class ImageType(NamedTuple):
    """What the images on one side of a pair are, from the file to the network's end."""

    channels: int  # at the network's end, where values are -1..1
    from_rgb: Any  # function of sRGB 0..1 [..., 3] -> [..., channels] -1..1
    to_rgb: Any  # function of [..., channels] -1..1 and the pair's other side -> 0..1 [..., 1 or 3]
    file_channels: int = 3  # of the decoded file
    dtype: str = "uint8"  # of the decoded file

    @property
    def max_value(self):
        """Of the decoded file's values; the lowest is 0."""
        return np.iinfo(self.dtype).max

    @property
    def bytes_per_pixel(self):
        """Of the decoded file in memory."""
        return self.file_channels * np.dtype(self.dtype).itemsize


class PairType(NamedTuple):
    """What inputs and targets are, and how a file holds a pair."""

    inputs: ImageType
    targets: ImageType
    split: Any  # function of a file's pixels -> input and target
    side_by_side: bool  # the file is twice as wide as an image; otherwise it is one image

    def reversed(self):
        """The pair with inputs and targets exchanged."""
        return PairType(self.targets, self.inputs, lambda pixels: self.split(pixels)[::-1],
                        self.side_by_side)


def to_unit_range(images, _other=None):
    """-1..1 -> 0..1."""
    return (images + 1) / 2


RGB = ImageType(3, lambda rgb: rgb * 2 - 1, to_unit_range)
LIGHTNESS = ImageType(1, lambda rgb: split_lab(rgb)[0], to_unit_range)  # shown in grey
COLOUR = ImageType(2, lambda rgb: split_lab(rgb)[1], lambda images, other: join_lab(other, images))


def split_halves(pixels):
    """[height, width, channels] -> the left and the right half, of an odd width without its last
    column."""
    middle = tf.shape(pixels)[1] // 2
    return pixels[:, :middle], pixels[:, middle:2 * middle]


def split_colour(pixels):
    """sRGB uint8 [height, width, 3] -> lightness [height, width, 1] and colour
    [height, width, 2], both -1..1."""
    return split_lab(tf.image.convert_image_dtype(pixels, tf.float32))


SIDE_BY_SIDE = PairType(RGB, RGB, split_halves, side_by_side=True)
LAB = PairType(LIGHTNESS, COLOUR, split_colour, side_by_side=False)


def choose_pair(lab_colorization, which_direction):
    """The PairType of --lab_colorization and --which_direction."""
    pair = LAB if lab_colorization else SIDE_BY_SIDE
    return pair if which_direction == "AtoB" else pair.reversed()


def infer_pair(input_channels, target_channels):
    """The options of the pair that has so many channels at the network's ends, as far as they tell;
    {} where there is none."""
    found = [{"lab_colorization": lab, "which_direction": direction}
             for lab in (False, True) for direction in ("AtoB", "BtoA")
             if [side.channels for side in choose_pair(lab, direction)[:2]]
             == [input_channels, target_channels]]
    # equal channels on both sides tell no direction
    return {name: value for name, value in (found[0] if found else {}).items()
            if all(options[name] == value for options in found)}


# --------------------------------------------------------------------------------------------------
# In the graph
# --------------------------------------------------------------------------------------------------


def decode_pixels(contents, image_type=RGB):
    """Bytes of an image file, told by content -> sRGB [height, width, file_channels]."""
    pixels = tf.image.decode_image(contents, channels=image_type.file_channels,
                                   dtype=tf.as_dtype(image_type.dtype), expand_animations=False)
    pixels.set_shape([None, None, image_type.file_channels])
    return pixels


def decode_image(contents):
    """Bytes of an image file, told by content -> sRGB 0..1 [height, width, 3]."""
    return tf.image.convert_image_dtype(decode_pixels(contents), tf.float32)


def encode_image(image, filetype):
    """sRGB [height, width, 3], clipped to 0..1 -> bytes of a PNG or JPEG file."""
    pixels = tf.image.convert_image_dtype(image, tf.uint8, saturate=True)
    return {"png": tf.image.encode_png, "jpeg": tf.image.encode_jpeg}[filetype](pixels)


def encode_pngs(images):
    """uint8 [batch, height, width, 1 or 3] -> bytes of PNG files [batch]."""
    return tf.map_fn(lambda image: tf.image.encode_png(image, compression=PNG_LEVEL), images,
                     fn_output_signature=tf.string)


def scale_back(images, size):
    """[..., height, width, channels] -> [..., *size, channels]; the centre stays where it is, which
    version 1's bicubic interpolation does not ensure."""
    return tf.compat.v2.image.resize(images, size, method="bicubic", antialias=True)


def create_decoder():
    """A function from an image file's bytes to height and width, after decoding all of it as
    training does. It raises ValueError with the reason where that fails."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        shapes = {name: row.read_shape(contents) for name, row in FORMATS.items()}
        decoded_shape = tf.shape(decode_pixels(contents))[:2]
        sess = tf.Session(graph=graph, config=session_config())
        read_shape = {name: sess.make_callable(shape, [contents])
                      for name, shape in shapes.items()}
        decode = sess.make_callable(decoded_shape, [contents])

    def run(file_bytes):
        """The header first: a small file can hold an image larger than memory."""
        name = format_of(file_bytes)
        if len(file_bytes) < FORMATS[name].header_size:
            raise ValueError("truncated in its header")
        try:
            height, width = read_shape[name](file_bytes)
            if not 0 <= int(height) * int(width) <= MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels are more than {MAX_PIXELS}")
            return decode(file_bytes)
        except tf.errors.OpError as error:
            raise ValueError(f"cannot be decoded: {describe_error(error)}") from None
    return run


# --------------------------------------------------------------------------------------------------
# In arrays
# --------------------------------------------------------------------------------------------------

ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ)  # other names may still be written


class ImageError(RunError):
    """One image fails; a command that has others to do prints the text and continues."""


def flatten(image):
    """A Pillow image of any mode -> uint8 [height, width, 3]; transparent parts become white."""
    from PIL import Image
    if image.mode.startswith("I"):  # 16 bits, 0..65535, also where Pillow calls it "I"
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path):
    """An image file, upright -> uint8 [height, width, 3]. Raises ImageError."""
    from PIL import Image, ImageOps
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")  # opening a FIFO would wait
        if image_format(path) is None:
            raise ValueError(f"not a {FORMAT_NAMES} file")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=[name.upper() for name in FORMATS]) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return flatten(image)
    # what Pillow raises on broken files
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, TypeError,
            MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path} cannot be read ({reason}): repair or remove it") from error


def to_bytes(image, filetype="PNG", **settings):
    """uint8 [height, width, 3] or [height, width] -> bytes of a file. settings: Pillow's."""
    from PIL import Image
    contents = io.BytesIO()
    Image.fromarray(image).save(contents, filetype, **settings)
    return contents.getvalue()


def write_image(path, image, sync=True, **settings):
    """Writes uint8 [height, width, 3] or [height, width] as a PNG file, atomically. settings:
    Pillow's.

    Raises ImageError where this name cannot be written, OSError where no other could be either.
    """
    contents = to_bytes(image, **settings)
    try:
        write_atomic(path, contents, sync)
    except OSError as error:
        if error.errno in ONE_NAME:
            raise ImageError(f"{path} cannot be written ({error.strerror}): change the name or "
                             "remove what is in its place") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
