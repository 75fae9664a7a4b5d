"""Images: what a pair's images are to the network; reading, writing, resizing.

One rule for reading, in the graph and in arrays: a file's format is told by its content; EXIF turns
the image upright; transparent parts lie on white; grey, palette and CMYK become RGB; of 16 bits the
upper 8 count; of several frames or pages the first is read. An ImageType says what the images on
one side of a pair are, from the file to the network's end, and a PairType how a file holds the two:
decoding, checking, caching, both ends of the network, export and the tools ask these.
"""

from __future__ import annotations

import errno
import io
from typing import Any, NamedTuple

import numpy as np

from tools.lib import exif
from tools.lib.cli import describe_error, warn
from tools.lib.colour import join_lab, split_lab
from tools.lib.files import write_atomic
from tools.lib.image_files import GRAPH_FORMATS, format_of
from tools.lib.stored import ImageError, blend_on_white, check_size, decode_with, read_with
from tools.lib.tf1 import session_config, tf

PNG_HEADER_SIZE = 26  # bytes, up to the colour type
PNG_LEVEL = 1  # of zlib: a quarter of 6's time for files a tenth larger (docs/benchmarks.md)

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
    is_rgb: bool = True  # the network sees the file's own values, scaled

    @property
    def max_value(self):
        """Of the decoded file's values; the lowest is 0."""
        return np.iinfo(self.dtype).max

    @property
    def bytes_per_pixel(self):
        """Of the decoded file in memory."""
        return self.file_channels * np.dtype(self.dtype).itemsize

    def from_pixels(self, pixels):
        """A decoded file [height, width, 3] that holds this side alone -> the same for RGB, which
        becomes -1..1 when it is scaled; else [height, width, channels] -1..1."""
        if self.is_rgb:
            return pixels
        return self.from_rgb(tf.image.convert_image_dtype(pixels, tf.float32))


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
LIGHTNESS = ImageType(1, lambda rgb: split_lab(rgb)[0], to_unit_range, is_rgb=False)  # in grey
COLOUR = ImageType(2, lambda rgb: split_lab(rgb)[1], lambda images, other: join_lab(other, images),
                   is_rgb=False)


def split_columns(pixels, count):
    """The images that lie side by side in [height, count * width, channels]; columns that are left
    over belong to none. Tensors or arrays."""
    width = (tf.shape(pixels) if tf.is_tensor(pixels) else pixels.shape)[1] // count
    return tuple(pixels[:, place * width:(place + 1) * width] for place in range(count))


def stack_images(image, count):
    """Images side by side, [height, count * width, 3], as the channels of one,
    [height, width, 3 * count]."""
    if count == 1:
        return image
    join = tf.concat if tf.is_tensor(image) else np.concatenate
    return join(split_columns(image, count), axis=2)


def unstack_images(images, count):
    """[..., height, width, 3 * count] -> [..., height, count * width, 3], side by side."""
    return tf.concat(tf.split(images, count, axis=-1), axis=-2)


def stacked(count):
    """The ImageType of so many RGB images, stacked by channel and shown side by side."""
    return ImageType(3 * count, RGB.from_rgb,
                     lambda images, _other=None: unstack_images(to_unit_range(images), count))


def split_colour(pixels):
    """sRGB uint8 [height, width, 3] -> lightness [height, width, 1] and colour
    [height, width, 2], both -1..1."""
    return split_lab(tf.image.convert_image_dtype(pixels, tf.float32))


SIDE_BY_SIDE = PairType(RGB, RGB, lambda pixels: split_columns(pixels, 2), side_by_side=True)
LAB = PairType(LIGHTNESS, COLOUR, split_colour, side_by_side=False)


def choose_pair(lab_colorization, which_direction, num_inputs=1):
    """The PairType of --lab_colorization, --which_direction and the number of --a_dir."""
    pair = LAB if lab_colorization else SIDE_BY_SIDE
    if num_inputs > 1:
        return pair._replace(inputs=stacked(num_inputs))
    return pair if which_direction == "AtoB" else pair.reversed()


def pair_of(options):
    """The PairType of a model."""
    return choose_pair(options.lab_colorization, options.which_direction, options.num_inputs)


def infer_pair(input_channels, target_channels):
    """The options of the pair that has so many channels at the network's ends, as far as they tell;
    {} where there is none."""
    if input_channels > 3 and input_channels % 3 == 0 and target_channels == 3:
        return {"num_inputs": input_channels // 3, "lab_colorization": False,
                "which_direction": "AtoB"}
    found = [{"lab_colorization": lab, "which_direction": direction, "num_inputs": 1}
             for lab in (False, True) for direction in ("AtoB", "BtoA")
             if [side.channels for side in choose_pair(lab, direction)[:2]]
             == [input_channels, target_channels]]
    # equal channels on both sides tell no direction
    return {name: value for name, value in (found[0] if found else {}).items()
            if all(options[name] == value for options in found)}


# --------------------------------------------------------------------------------------------------
# In the graph
# --------------------------------------------------------------------------------------------------


def png_shape(contents):
    """Height and width [2] of a PNG file by its header (PNG 3rd edition, 11.2.1)."""
    return tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)[::-1]


def jpeg_shape(contents):
    """Height and width [2] of a JPEG file by its header."""
    return tf.image.extract_jpeg_shape(contents)[:2]


def over_white(rgba):
    """uint8 [height, width, 4] -> [height, width, 3], composited on white and rounded."""
    colour, alpha = tf.split(tf.cast(rgba, tf.int32), [3, 1], axis=2)
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def decode_jpeg(contents, image_type):
    """Bytes of a JPEG file -> [height, width, file_channels], upright, as Pillow and browsers
    decode it: TensorFlow's faster cosine transform is up to 23 levels off on facades."""
    pixels = tf.image.decode_jpeg(contents, channels=image_type.file_channels,
                                  dct_method="INTEGER_ACCURATE")
    pixels = tf.image.convert_image_dtype(pixels, tf.as_dtype(image_type.dtype))
    return exif.turn_jpeg(pixels, contents)


def decode_png(contents, image_type):
    """Bytes of a PNG file -> [height, width, file_channels], upright."""
    block, has_key = exif.scan_png(contents)
    colour_type = tf.strings.substr(contents, 25, 1)  # PNG 3rd edition, 11.2.1
    has_alpha = has_key | tf.equal(colour_type, b"\4") | tf.equal(colour_type, b"\6")
    if (image_type.file_channels, image_type.dtype) == (3, "uint8"):
        pixels = tf.cond(has_alpha, lambda: over_white(tf.image.decode_png(contents, channels=4)),
                         lambda: tf.image.decode_png(contents, channels=3))
    else:
        pixels = tf.image.decode_png(contents, channels=image_type.file_channels,
                                     dtype=tf.as_dtype(image_type.dtype))
    return exif.turn(pixels, block)


def decode_by_pillow(contents, image_type):
    """Bytes of another file -> [height, width, file_channels], upright."""
    def decode(file_bytes):
        """Through Python."""
        return decode_bytes(file_bytes).pixels
    pixels = tf.numpy_function(decode, [contents], tf.uint8)
    pixels.set_shape([None, None, 3])
    if image_type.file_channels == 1:
        pixels = tf.image.rgb_to_grayscale(pixels)
    return tf.image.convert_image_dtype(pixels, tf.as_dtype(image_type.dtype))


def refuse(_contents, image_type):
    """Stops with an error: what `decode_by_pillow` does needs Python."""
    stop = tf.debugging.Assert(False, ["not a JPEG or PNG file: convert it to one of these"])
    with tf.control_dependencies([stop]):
        empty = tf.zeros([0, 0, image_type.file_channels], tf.as_dtype(image_type.dtype))
        return tf.identity(empty)


def decode_pixels(contents, image_type=RGB, decode_other=decode_by_pillow):
    """Bytes of an image file, told by content -> sRGB [height, width, file_channels], upright.

    decode_other: of what is neither JPEG nor PNG.
    """
    start = tf.strings.substr(contents, 0, 3)
    pixels = tf.cond(tf.equal(start, b"\xff\xd8\xff"), lambda: decode_jpeg(contents, image_type),
                     lambda: tf.cond(tf.equal(start, b"\x89PN"),
                                     lambda: decode_png(contents, image_type),
                                     lambda: decode_other(contents, image_type)))
    pixels.set_shape([None, None, image_type.file_channels])
    return pixels


def decode_image(contents):
    """Bytes of a JPEG or PNG file -> sRGB 0..1 [height, width, 3], upright; for graphs that leave
    Python. Other files stop it with an error."""
    return tf.image.convert_image_dtype(decode_pixels(contents, decode_other=refuse), tf.float32)


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


def create_shape_reader():
    """A function from the bytes of a PNG or JPEG file to height and width, as its header has them.
    It raises ValueError with the reason where that fails, or where there are too many pixels: a
    small file can hold an image larger than memory."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        sess = tf.Session(graph=graph, config=session_config())
        read = {"jpeg": sess.make_callable(jpeg_shape(contents), [contents]),
                "png": sess.make_callable(png_shape(contents), [contents])}

    def run(file_bytes):
        """One file."""
        name = format_of(file_bytes)
        if name == "png" and len(file_bytes) < PNG_HEADER_SIZE:
            raise ValueError("truncated in its header")
        try:
            height, width = map(int, read[name](file_bytes))
        except tf.errors.OpError as error:
            raise ValueError(f"cannot be decoded: {describe_error(error)}") from None
        check_size(width, height)
        return height, width
    return run


def create_decoder(with_range=False):
    """A function from an image file's bytes to height, width and `deep_range`, after decoding all
    of it as training does; with_range: and to the lowest and the highest value of its pixels. It
    raises ValueError with the reason where that fails."""
    read_shape = create_shape_reader()
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        deep = tf.image.decode_png(contents, channels=3, dtype=tf.uint16)
        sess = tf.Session(graph=graph, config=session_config())
        pixels = decode_pixels(contents)
        value_range = [tf.reduce_min(pixels), tf.reduce_max(pixels)] if with_range else []
        decode = sess.make_callable([*tf.unstack(tf.shape(pixels)[:2]), *value_range], [contents])
        find_range = sess.make_callable([tf.reduce_min(deep), tf.reduce_max(deep)], [contents])

    def run_graph(file_bytes):
        """The header first."""
        read_shape(file_bytes)
        try:
            height, width, *values = map(int, decode(file_bytes))
            deep = [*map(int, find_range(file_bytes))] if is_deep_png(file_bytes) else None
            return height, width, deep, *values
        except tf.errors.OpError as error:
            raise ValueError(f"cannot be decoded: {describe_error(error)}") from None

    def run(file_bytes):
        """One file."""
        if format_of(file_bytes) in GRAPH_FORMATS:
            return run_graph(file_bytes)
        pixels, deep = decode_bytes(file_bytes)
        values = (int(pixels.min()), int(pixels.max())) if with_range else ()
        return *pixels.shape[:2], deep, *values
    return run


# --------------------------------------------------------------------------------------------------
# In arrays
# --------------------------------------------------------------------------------------------------

ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ)  # other names may still be written


class Decoded(NamedTuple):
    """An image file, decoded."""

    pixels: Any  # uint8 [height, width, 3], upright
    deep_range: Any = None  # lowest and highest value of a file of 16 bits; None for other files


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


def flatten(stored):
    """A Stored -> Decoded: the upper 8 bits, on white, as RGB; a fourth channel that is not alpha
    is left out. Raises ValueError where values or channels do not allow that."""
    pixels, channels, deep_range = stored.pixels, stored.pixels.shape[2], None
    if stored.palette is not None:
        return Decoded(stored.palette[pixels[..., 0]])
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
    pixels = blend_on_white(pixels) if stored.has_alpha else pixels[..., :3]
    return Decoded(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels, deep_range)


def decode_bytes(contents):
    """Bytes of an image file of any of FORMATS, told by content -> Decoded, without TensorFlow.
    Raises ValueError with the reason, whatever is wrong with the file."""
    return decode_with(contents, flatten)


def read_decoded(path):
    """An image file -> Decoded. Raises ImageError."""
    return read_with(path, decode_bytes)


def read_image(path):
    """An image file, upright -> uint8 [height, width, 3]. Raises ImageError."""
    return read_decoded(path).pixels


def to_bytes(image, filetype="PNG", **settings):
    """uint8 [height, width, 3] or [height, width] -> bytes of a file. settings: Pillow's."""
    from PIL import Image
    contents = io.BytesIO()
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
