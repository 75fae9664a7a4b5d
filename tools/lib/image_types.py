"""What the images on either side of a pair are, from the file to the network's end and back.

An ImageType says it of one side, and a PairType how a file holds the two: decoding, checking,
caching, both ends of the network, metrics, export and the tools ask these.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tools.lib.colour import join_lab, split_lab
from tools.lib.colour_map import colour_map, draw_shown, map_colours
from tools.lib.geometry import scale_by_area
from tools.lib.image_files import format_of
from tools.lib.images import (
    MAX_PNG_CHANNELS, convert_channels, decode_bytes, decode_exact_png, decode_indices,
    decode_pixels, decode_values, encode_files, flatten, refuse, scale_back, to_indices)
from tools.lib.label_maps import (
    Labels, arg_max, describe_unknown, find_unknown, labels_of, legend, nearest_flag, one_hot,
    pack_array, shown, take_nearest, to_classes)
from tools.lib.label_maps import to_pixels as label_pixels
from tools.lib.stored import Stored, blend_on_white, decode_stored, encode_stored
from tools.lib.tf1 import tf
from tools.lib.values import find_missing, from_network, scale_measured, to_network, to_stored

CHANNELS = (1, 3, 4)  # of an image of 8 bits: grey, RGB, RGB with alpha
VALUE_TYPES = ("uint8", "uint16", "float32")  # of what files store
# --a_channels ...; type is that of files, classes those that --a_labels lists
SIDE_OPTIONS = ("channels", "type", "range", "ignore", "classes", "nearest")

# --------------------------------------------------------------------------------------------------
# One side
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ImageType:
    """Images of 8 bits: 0..255 is -1..1 at the network's end.

    What `take` makes of a decoded file becomes what the network sees by `scale`, `to_pixels` makes
    a file of what the network gives, and `shown` makes it an image that people look at. Exports
    have floats in place of files: 0..1 here.
    """

    file_channels: int = 3  # of one decoded file
    count: int = 1  # images that are stacked by channel at the network's end
    mask_channel: bool = False  # whether each has a channel there that says where it is measured
    nearest: bool = False  # scaled by the nearest pixel, not by area

    dtype = "uint8"  # of a decoded file
    low, high = 0, 255  # of its values; become -1 and 1
    ignore = ()  # values of pixels without a measurement
    kind = "images"  # which metrics there are of it
    # whether a pixel may have no measurement: what `take` gives has a last channel, 0 or 1, that
    # says where there is one
    has_mask = False
    is_exact = False  # files of other types or channels are not converted
    is_drawn = False  # files are not what people look at: `draw` makes that
    checked_as = ""  # what it depends on whether `check` refuses a file
    legend = ()  # (name, (red, green, blue)) of each class, as people look at it

    @property
    def value_channels(self):
        """Of one image at the network's end, without a mask."""
        return self.file_channels

    @property
    def channels(self):
        """At the network's end."""
        return self.count * (self.value_channels + self.mask_channel)

    @property
    def bytes_per_pixel(self):
        """Of a decoded file in memory."""
        return self.file_channels * np.dtype(self.dtype).itemsize

    @property
    def filetypes(self):
        """Of image files that can hold its files' pixels."""
        return ("png", "jpeg") if self.dtype == "uint8" and self.file_channels in CHANNELS \
            else ("png",)

    @property
    def extension(self):
        """Of the files that `to_pixels` becomes."""
        return ".png" if self.dtype != "float32" and self.file_channels <= MAX_PNG_CHANNELS \
            else ".npy"

    def decode(self, contents):
        """Bytes of a file -> its pixels [height, width, file_channels] of dtype."""
        return decode_pixels(contents, self.file_channels)

    def decode_portable(self, contents):
        """`decode` in graphs that leave Python: of JPEG and PNG files; others stop it with an
        error."""
        return decode_pixels(contents, self.file_channels, decode_other=refuse)

    def check(self, contents):
        """Whether the bytes of a file that can be decoded hold a measurement. Raises ValueError
        where they hold what this side cannot be."""
        return True

    def is_measured(self, pixels):
        """Whether a pixel of a file, an array, has a measurement."""
        return True

    def take(self, pixels):
        """A decoded file or a part of it that holds this side alone, uint8
        [height, width, 1, 3 or 4] -> what `scale` takes."""
        return convert_channels(pixels, self.file_channels)

    def resample(self, images, size):
        """`scale_by_area`, or by the nearest pixel where the side is scaled so."""
        if self.nearest and size is not None:
            images = take_nearest(images, size)
            size = None
        return scale_by_area(images, size)

    def scale(self, images, size=None):
        """What `take` gives, an image or a batch, -> float32 [..., *size, channels] as the network
        sees it, -1..1, and a mask where it has one. size: [2]; None: its own."""
        scaled = self.resample(images, size)
        return scaled / (images.dtype.max / 2) - 1 if images.dtype.is_integer else scaled

    def join(self, images, change=None):
        """What `scale` gives of each of `count` images -> the network's input. change: function of
        their values, all in one."""
        values = [image[..., :-1] if self.has_mask else image for image in images]
        joined = tf.concat(values, axis=-1)
        if change is not None:
            joined = change(joined)
        if not self.has_mask:
            return joined
        masks = [image[..., -1:] for image in images]
        if change is not None:  # what is missing stays the middle of the range
            joined *= tf.concat([tf.repeat(mask, self.value_channels, axis=-1) for mask in masks],
                                axis=-1)
        return tf.concat([joined, *(2 * mask - 1 for mask in masks)], axis=-1) \
            if self.mask_channel else joined

    def split(self, images):
        """The network's input -> the values of its images side by side, and their masks, 0 or 1
        [..., count]; None without."""
        masks = None
        if self.mask_channel:
            images, masks = images[..., :-self.count], (images[..., -self.count:] + 1) / 2
        return unstack_images(images, self.count), masks

    def floats_of(self, pixels):
        """The pixels of a file -> what exports take and give in its place: 0..1."""
        return tf.image.convert_image_dtype(pixels, tf.float32)

    def pixels_of(self, floats):
        """What exports give -> the pixels of a file."""
        return tf.image.convert_image_dtype(floats, tf.uint8, saturate=True)

    def scaled_floats(self, pixels, size):
        """`floats_of` a decoded file, scaled as in the network."""
        return self.resample(self.floats_of(pixels), size)

    def scaled_pixels(self, floats, size):
        """`pixels_of`, scaled back to an image's size."""
        return self.pixels_of(scale_back(floats, size))

    def from_floats(self, images):
        """What exports take, [..., file_channels] -> what `scale` takes, -1..1."""
        return images * 2 - 1

    def to_unit(self, images, _other=None):
        """[..., channels] -1..1 and the pair's other side -> 0..1, side by side."""
        return to_unit_range(unstack_images(images, self.count))

    def to_floats(self, images, other=None):
        """`to_unit` in the channels of files: what exports give."""
        return self.to_unit(images, other)

    def to_pixels(self, images, other=None, _measured=None, size=None):
        """[batch, height, width, channels] -1..1 and the pair's other side -> what a file holds, of
        dtype. size: height and width to scale one image to.

        Where measured, 0 or 1 [batch, height, width, count], is 0, there is no measurement.
        """
        unit = self.to_unit(images, other)
        return self.pixels_of(unit if size is None else scale_back(unit, self.size_of_all(size)))

    def leave_out(self, pixels, measured, size, missing):
        """Pixels of files with a value in place of those for which measured, of `to_pixels`, is 0;
        size: [2] of the pixels, if they were scaled to it."""
        if measured is None:
            return pixels
        measured = unstack_images(measured, self.count)
        if size is not None:
            measured = tf.image.resize(measured, size, method="area")
        return tf.where_v2(measured > 0.5, pixels, np.array(missing, self.dtype))

    def size_of_all(self, size):
        """The size [2] of all images side by side, by that of one."""
        return size if self.count == 1 else [size[0], size[1] * self.count]

    def shown(self, pixels):
        """What `to_pixels` gives, as people look at it: uint8 [batch, height, width, 1, 3 or 4]."""
        return pixels

    def draw(self, pixels):
        """What `to_pixels` gives -> the PNG files that people look at [batch]."""
        return encode_files(self.shown(pixels))

    def paint(self, pixels, has_scale=False):
        """`shown` of one file's pixels, an array -> uint8 [height, width, 1 or 3]; with the scale
        of what has one."""
        return blend_on_white(pixels) if pixels.shape[2] == 4 else pixels


@dataclasses.dataclass(frozen=True)
class LabPart(ImageType):
    """A part of CIE Lab, as which sRGB files are read."""

    part = 0  # of `split_lab`

    def take(self, pixels):
        """An sRGB image of its own: -1..1."""
        return self.from_floats(self.floats_of(pixels))

    def from_floats(self, images):
        """Of sRGB 0..1."""
        return split_lab(images)[self.part]


@dataclasses.dataclass(frozen=True)
class Lightness(LabPart):
    """L, one channel; as a file it is grey."""

    channels = 1

    def to_floats(self, images, other=None):
        """As RGB."""
        return tf.image.grayscale_to_rgb(self.to_unit(images, other))


@dataclasses.dataclass(frozen=True)
class Colour(LabPart):
    """a and b, two channels; a file has them with the lightness of the other side."""

    channels = 2
    part = 1

    def to_unit(self, images, other=None):
        """sRGB 0..1."""
        return join_lab(other, images)


@dataclasses.dataclass(frozen=True)
class Measurements(ImageType):
    """Values such as depth: low..high in the file's units is -1..1, what lies outside is clipped.

    A pixel without a measurement has one of the values to ignore, or is not finite. At the
    network's end it is 0, the middle of the range, and a mask says where it is. Exports have the
    files' units.
    """

    dtype: str = "uint16"  # of a decoded file
    low: float = 0
    high: float = 65535
    ignore: tuple = ()

    is_drawn = True

    @property
    def kind(self):
        """Photos of 16 bits are images too."""
        is_photo = self.file_channels in (3, 4) and self.dtype == "uint16" and not self.ignore \
            and (self.low, self.high) == (0, np.iinfo(self.dtype).max)
        return "images" if is_photo else "values"

    @property
    def has_mask(self):
        """Whether a pixel may have no measurement."""
        return self.dtype == "float32" or len(self.ignore) > 0

    @property
    def is_exact(self):
        """Colours of 8 bits are converted."""
        return not self.is_colour

    @property
    def checked_as(self):
        """What is ignored."""
        return repr(self.ignore) if self.ignore else ""

    @property
    def is_colour(self):
        """Whether files are converted to the channels, as other images of 8 bits."""
        return self.dtype == "uint8" and self.file_channels in CHANNELS

    def decode(self, contents):
        """By Python where TensorFlow has no decoder."""
        if self.is_colour:
            return super().decode(contents)
        return decode_values(contents, self.file_channels, self.dtype)

    def decode_portable(self, contents):
        """Of PNG files alone if they have 16 bits."""
        if self.is_colour:
            return super().decode_portable(contents)
        return decode_exact_png(contents, self.file_channels, self.dtype)

    def check(self, contents):
        """Of files of any type, which is not known yet. Those of floats without one are told by
        `images.Described`."""
        return not self.ignore or self.is_measured(read_array(contents, self.file_channels))

    def is_measured(self, pixels):
        """By what is ignored and not finite."""
        return not self.missing_in(pixels).all()

    def take(self, pixels):
        """[height, width, file_channels] of dtype -> -1..1, and the mask if there is one."""
        if self.is_colour:
            pixels = convert_channels(pixels, self.file_channels)
        return self.from_floats(self.floats_of(pixels))

    def floats_of(self, pixels):
        """In the files' units."""
        return tf.cast(pixels, tf.float32)

    def pixels_of(self, floats):
        """Never one of the values to ignore: the next ones stand for them."""
        pixels = to_stored(tf.clip_by_value(floats, self.low, self.high), self.dtype)
        for value in self.ignore:
            other = next_value(value, self)
            if other is not None:
                value, other = np.array([value, other], self.dtype)
                pixels = tf.where_v2(tf.equal(pixels, value), other, pixels)
        return pixels

    def scaled_floats(self, pixels, size):
        """What is missing has a value to ignore."""
        one = dataclasses.replace(self, count=1, mask_channel=self.has_mask)
        images = one.join([one.scale(one.take(pixels), size)])
        return self.floats_of(one.to_pixels(images[tf.newaxis])[0])

    def from_floats(self, images):
        """Of the files' units."""
        # by is_nan alone: converted to ONNX, other conditions multiply, and NaN times 0 is NaN
        known = images if self.dtype != "float32" else \
            tf.where_v2(tf.math.is_nan(images), self.low, images)
        values = to_network(known, self.low, self.high)
        if not self.has_mask:
            return values
        measured = ~find_missing(images, self.ignore)
        values = tf.where_v2(measured, values, 0.0)
        return tf.concat([values, tf.cast(measured, tf.float32)], axis=-1)

    def scale(self, images, size=None):
        """Measurements are blended with each other alone."""
        if size is None:
            return images
        if self.nearest:
            return take_nearest(images, size)
        if not self.has_mask:
            return scale_by_area(images, size)
        values, measured = scale_measured(images[..., :-1], images[..., -1:] > 0.5, size)
        return tf.concat([values, tf.cast(measured, tf.float32)], axis=-1)

    def to_floats(self, images, _other=None):
        """In the files' units, side by side."""
        return from_network(self.split(images)[0], self.low, self.high)

    def to_pixels(self, images, other=None, measured=None, size=None):
        """Where nothing is measured, pixels have the first of the values to ignore, or are NaN."""
        values, masks = self.split(images)
        values = from_network(values, self.low, self.high)
        if size is not None:
            size = self.size_of_all(size)
            values = scale_back(values, size)
        return self.leave_out(self.pixels_of(values), masks if measured is None else measured, size,
                              self.ignore[0] if self.ignore else np.nan)

    def missing_in(self, pixels):
        """Where there is no measurement in an array [height, width, channels]: [height, width]."""
        missing = ~np.isfinite(pixels)
        for value in self.ignore:
            missing |= pixels == value
        return missing.any(axis=-1)

    def paint(self, pixels, has_scale=False):
        """Of one channel it is a colour map, and where that is asked for its scale is below it."""
        missing = self.missing_in(pixels)
        if self.file_channels == 1:
            draw = draw_shown if has_scale else colour_map
            return draw(pixels[..., 0], self.low, self.high, missing)
        share = (np.where(missing[..., np.newaxis], self.low, pixels) - self.low) \
            / (self.high - self.low)
        levels = np.uint8(np.clip(share, 0, 1) * 255.5)
        return levels[..., :3] if self.file_channels > 2 else levels[..., :1]

    def shown(self, pixels):
        """As `paint`."""
        map_colours()  # which runs a session, and none may begin inside another
        painted = tf.numpy_function(lambda batch: np.stack([*map(self.paint, batch)]), [pixels],
                                    tf.uint8)
        painted.set_shape([*pixels.shape[:3], 3 if self.file_channels != 2 else 1])
        return painted

    def draw(self, pixels):
        """As `paint`, with a scale."""
        map_colours()

        def encode(batch):
            """In arrays."""
            return np.array([encode_stored(self.paint(image, has_scale=True)) for image in batch],
                            object)
        return tf.numpy_function(encode, [pixels], tf.string)


def read_array(contents, channels):
    """The pixels of the bytes of a file: colours of 8 bits in so many channels, others as they are
    stored."""
    stored = decode_stored(contents)
    is_colour = stored.pixels.shape[2] in (1, 3) or stored.has_alpha
    return flatten(stored, channels).pixels if is_colour and stored.pixels.dtype == np.uint8 \
        else stored.pixels


def next_value(value, side):
    """The value nearest to one that Measurements ignore which they do not, within what they are
    clipped to; None where there is none, or the value never comes about."""
    if not side.low <= value <= side.high:
        return None
    if side.dtype == "float32":
        return float(np.nextafter(np.float32(value), np.float32(
            side.low if value > side.low else side.high)))
    least, most = max(side.low, 0), min(side.high, np.iinfo(side.dtype).max)
    others = [other for distance in range(1, len(side.ignore) + 2)
              for other in (value + distance, value - distance)
              if least <= other <= most and other not in side.ignore]
    return next(iter(others), None)


# --------------------------------------------------------------------------------------------------
# Label maps
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LabelMap(ImageType):
    """Classes: exact colours, or indices that are values of pixels. At the network's end each class
    has a channel, 1 where it is and -1 elsewhere.

    Classes to ignore are 0 in all of these, and a mask says where. What `take` gives is classes,
    int32 [..., 1], -1 where they are ignored. Exports have the files' pixels: colours 0..1, or
    indices.
    """

    dtype: str = "uint8"  # of a decoded file
    names: tuple = ()  # of the classes
    colours: Any = None  # (red, green, blue) of each; None: indices
    ignore: tuple = ()  # numbers of classes, and other indices, that do not count
    letter: str = "a"  # of the side

    kind = "labels"
    filetypes = ("png",)

    @property
    def labels(self):
        """The Labels."""
        colours = None if self.colours is None else np.array(self.colours, np.uint8)
        return Labels(colours, [*self.names], self.nearest)

    @property
    def high(self):
        """Of the values in a file."""
        return 255 if self.colours else len(self.names) - 1

    @property
    def value_channels(self):
        """One for each class."""
        return len(self.names)

    @property
    def has_mask(self):
        """Whether a pixel may not count."""
        return len(self.ignore) > 0

    @property
    def is_drawn(self):
        """Indices are."""
        return self.colours is None

    @property
    def legend(self):
        """Indices have colours far apart."""
        return legend(self.labels)

    @property
    def checked_as(self):
        """All but the type."""
        return repr((self.letter, self.names if self.colours is None else self.colours,
                     self.nearest, self.ignore))

    # ---- files

    def decode(self, contents):
        """Colours as RGB; indices as they are stored, of palettes too."""
        if self.colours:
            return super().decode(contents)
        return decode_indices(contents, self.dtype)

    def decode_portable(self, contents):
        """Indices of grey PNG files alone."""
        if self.colours:
            return super().decode_portable(contents)
        return decode_exact_png(contents, 1, self.dtype)

    def read(self, contents):
        """`decode` of the bytes of a file, as an array. Raises ValueError where that cannot be, or
        has what no class has."""
        self.check_format(format_of(contents))
        if self.colours:
            pixels = decode_bytes(contents, 3).pixels
        else:
            pixels = to_indices(decode_stored(contents), self.dtype)
        self.check_array(pixels)
        return pixels

    def check(self, contents):
        """By `read`, of any type. Of JPEG files, whose colours are not exact, nothing is told."""
        if self.colours and self.nearest:
            return True
        return self.is_measured(dataclasses.replace(self, dtype="uint16").read(contents))

    def is_measured(self, pixels):
        """Whether one is of a class that counts."""
        ignored = [self.colours[number] if self.colours else [number] for number in self.ignore]
        codes = pack_array(np.array(ignored, np.uint16)) if ignored else []
        return not np.isin(pack_array(pixels), codes).all()

    def check_format(self, file_format):
        """Raises ValueError for one that does not keep classes. file_format: such as "jpeg"."""
        flag = f"--{self.letter}_labels"
        if file_format == "jpeg" and not self.colours:
            raise ValueError("JPEG compression changes indices: save it as PNG, or list the "
                             f"classes with their colours and give {nearest_flag(flag)}")
        if file_format == "jpeg" and not self.nearest:
            raise ValueError("JPEG compression leaves no exact colours: give "
                             f"{nearest_flag(flag)}, or save it as PNG")

    def check_array(self, pixels):
        """Raises ValueError for an array of a file's pixels, uint8 [height, width, 3] or indices
        [height, width, 1], that has what no class has."""
        unknown = find_unknown(pixels, self.labels)
        unknown = {value: count for value, count in unknown.items() if value not in self.ignore}
        if unknown:
            raise ValueError(describe_unknown(unknown, self.labels, f"--{self.letter}_labels"))

    def paint(self, pixels, has_scale=False):
        """Indices as `shown`."""
        if self.colours:
            return pixels
        return shown(np.minimum(pixels[..., 0], len(self.names)), self.labels)

    def draw_classes(self, classes):
        """An array of classes [height, width] -> a file's pixels, an array."""
        return self.labels.colours[classes] if self.colours \
            else classes[..., np.newaxis].astype(self.dtype)

    # ---- the graph

    def find_ignored(self, pixels, classes, ignore):
        """Where pixels of files and their classes are to be ignored, bool [...]."""
        values = pixels[..., 0] if self.colours is None else classes
        ignored = tf.zeros_like(classes, tf.bool)
        for value in ignore:
            ignored |= tf.equal(tf.cast(values, tf.int32), int(value))
        return ignored

    def classes_of(self, pixels, ignore=None):
        """Pixels of files, exact -> int32 [...]: classes, -1 where they are of none or ignored.
        ignore: what is; None: what the side ignores."""
        classes = to_classes(pixels, self.labels._replace(nearest=False))
        ignored = self.find_ignored(pixels, classes, self.ignore if ignore is None else ignore)
        return tf.where_v2(ignored, -1, classes)

    def find_classes(self, pixels):
        """Pixels of files -> classes [..., 1], -1 where they are ignored, and where they are
        neither, bool [...]."""
        pixels = convert_channels(pixels, self.file_channels)
        classes = to_classes(pixels, self.labels)
        ignored = self.find_ignored(pixels, classes, self.ignore)
        unknown = (classes < 0) & ~ignored
        return tf.where_v2(ignored, -1, classes)[..., tf.newaxis], unknown

    def take(self, pixels):
        """Stops with an error where a pixel is of no class."""
        classes, unknown = self.find_classes(pixels)
        check = tf.debugging.Assert(~tf.reduce_any(unknown), [
            f"pixels that no class of --{self.letter}_labels has"])
        with tf.control_dependencies([check]):
            return tf.identity(classes)

    def scale(self, images, size=None):
        """By the nearest pixel."""
        classes = images[..., 0] if size is None else take_nearest(images, size)[..., 0]
        scores = one_hot(classes, len(self.names))
        if not self.has_mask:
            return scores
        measured = tf.cast(classes >= 0, tf.float32)[..., tf.newaxis]
        return tf.concat([scores * measured, measured], axis=-1)

    def floats_of(self, pixels):
        """Colours 0..1, or indices."""
        return super().floats_of(pixels) if self.colours else tf.cast(pixels, tf.float32)

    def pixels_of(self, floats):
        """The nearest. By operations that TFLite has too: it has no `tf.clip_by_value`."""
        levels = floats * 255 if self.colours else floats
        dtype = tf.as_dtype(self.dtype)
        return tf.cast(tf.minimum(tf.maximum(tf.round(levels), 0.0), float(dtype.max)), dtype)

    def scaled_floats(self, pixels, size):
        """By the nearest pixel."""
        return self.floats_of(take_nearest(pixels, size))

    def scaled_pixels(self, floats, size):
        """By the nearest pixel."""
        return take_nearest(self.pixels_of(floats), size)

    def from_floats(self, images):
        """Stops as `take` does, where a graph can."""
        return self.take(self.pixels_of(images))

    def to_floats(self, images, other=None):
        """Of the class with the highest score."""
        return self.floats_of(self.to_pixels(images, other))

    def to_pixels(self, images, _other=None, measured=None, size=None):
        """The class with the highest score; where nothing is measured, the first of the values to
        ignore."""
        scores = self.split(images)[0]
        if size is not None:
            size = self.size_of_all(size)
            scores = scale_back(scores, size)
        pixels = tf.cast(label_pixels(arg_max(scores), self.labels), self.dtype)
        if not self.ignore:
            return pixels
        missing = self.colours[self.ignore[0]] if self.colours else self.ignore[0]
        return self.leave_out(pixels, measured, size, missing)

    def shown(self, pixels):
        """Indices in colours far apart, those of no class in black."""
        if self.colours:
            return pixels
        colours = shown(np.arange(len(self.names) + 1), self.labels)
        return tf.gather(colours, tf.minimum(tf.cast(pixels[..., 0], tf.int32), len(self.names)))


# --------------------------------------------------------------------------------------------------
# Both sides
# --------------------------------------------------------------------------------------------------


class PairType(NamedTuple):
    """What inputs and targets are, and how a file holds a pair."""

    inputs: ImageType
    targets: ImageType
    split: Any  # function of a file's pixels -> input and target
    side_by_side: bool  # the file is twice as wide as an image; otherwise it is one image

    @property
    def file_channels(self):
        """Of a decoded file that holds both."""
        return max(self.inputs.file_channels, self.targets.file_channels)

    @property
    def dtype(self):
        """Of a decoded file that holds both."""
        return self.whole.dtype

    @property
    def bytes_per_pixel(self):
        """Of a decoded file in memory."""
        return self.whole.bytes_per_pixel

    @property
    def checked_as(self):
        """`ImageType.checked_as` of both."""
        parts = [side.checked_as for side in self[:2]]
        return " | ".join(parts) if any(parts) else ""

    @property
    def whole(self):
        """The ImageType that a file which holds both is read as: of label maps alone in indices
        these, of others the images beside them."""
        side = min(self[:2], key=lambda side: (side.kind == "labels", side.file_channels == 1))
        return dataclasses.replace(side, file_channels=self.file_channels)

    def decode(self, contents):
        """Bytes of a file that holds both -> its pixels."""
        return self.whole.decode(contents)

    def read_labels(self, contents):
        """Yields the LabelMap, and the pixels as an array, of each half of a file that is one.
        Raises ValueError where it has what no class has."""
        whole, labels = self.whole, [side for side in self[:2] if side.kind == "labels"]
        for side in labels:
            side.check_format(format_of(contents))
        if whole.is_drawn and whole.kind == "labels":
            pixels = to_indices(decode_stored(contents), "uint16")
        elif whole.dtype == "uint8":
            pixels = decode_bytes(contents, whole.file_channels).pixels
        else:
            pixels = decode_stored(contents).pixels
        for side, half in zip(self[:2], self.split(pixels), strict=True):
            if side in labels:
                half = convert_channels(half, 3) if side.colours else \
                    to_indices(Stored(half), "uint16")
                side.check_array(half)
                yield side, half

    def check(self, contents):
        """`ImageType.check` of a file: whether both halves have a measurement."""
        if not self.checked_as:
            return True
        measured = [side.is_measured(half) for side, half in self.read_labels(contents)]
        if any(side.kind == "values" and side.ignore for side in self[:2]):
            halves = self.split(read_array(contents, self.file_channels))
            measured += [side.is_measured(half) for side, half in zip(self[:2], halves, strict=True)
                         if side.kind != "labels"]
        return all(measured)

    def reversed(self):
        """The pair with inputs and targets exchanged."""
        return PairType(self.targets, self.inputs, lambda pixels: self.split(pixels)[::-1],
                        self.side_by_side)

    def take(self, pixels):
        """`ImageType.take` of both images of a decoded file."""
        images = self.split(pixels)
        return [side.take(image) for side, image in zip(self[:2], images, strict=True)] \
            if self.side_by_side else [*images]


def to_unit_range(images):
    """-1..1 -> 0..1."""
    return (images + 1) / 2


def split_columns(pixels, count):
    """The images that lie side by side in [height, count * width, channels]; columns that are left
    over belong to none. Tensors or arrays."""
    width = (tf.shape(pixels) if tf.is_tensor(pixels) else pixels.shape)[1] // count
    return tuple(pixels[:, place * width:(place + 1) * width] for place in range(count))


def stack_images(image, count):
    """Images side by side, [height, count * width, channels], as the channels of one,
    [height, width, count * channels]."""
    if count == 1:
        return image
    join = tf.concat if tf.is_tensor(image) else np.concatenate
    return join(split_columns(image, count), axis=2)


def unstack_images(images, count):
    """[..., height, width, count * channels] -> [..., height, count * width, channels], side by
    side."""
    return images if count == 1 else tf.concat(tf.split(images, count, axis=-1), axis=-2)


def split_colour(pixels):
    """sRGB uint8 [height, width, 3] -> lightness [height, width, 1] and colour
    [height, width, 2], both -1..1."""
    return split_lab(tf.image.convert_image_dtype(pixels, tf.float32))


LAB = PairType(Lightness(), Colour(), split_colour, side_by_side=False)


def split_pair(pixels):
    """The halves of a file."""
    return split_columns(pixels, 2)


def choose_labels(letter, dtype, ignore, classes, nearest):
    """The LabelMap of a side. classes: as `labels_data` has them."""
    labels = labels_of(classes)
    colours = None if labels.colours is None else tuple(map(tuple, labels.colours.tolist()))
    return LabelMap(1 if colours is None else 3, nearest=nearest, dtype=dtype,
                    names=tuple(labels.names), colours=colours, letter=letter,
                    ignore=tuple(map(int, ignore or ())))


def choose_side(letter="a", channels=None, dtype=None, value_range=None, ignore=None, classes=None,
                nearest=False):
    """The ImageType of a side, "a" or "b", by its --a_channels, what type its files hold,
    --a_range, --a_ignore, the classes of --a_labels, and --a_nearest; None of all is RGB."""
    channels, dtype = channels or 3, dtype or "uint8"
    if classes:
        return choose_labels(letter, dtype, ignore, classes, nearest)
    if dtype == "uint8" and channels in CHANNELS and not value_range and not ignore:
        return ImageType(channels, nearest=nearest)
    low, high = value_range or ((0, np.iinfo(dtype).max) if dtype != "float32" else (0, 1))
    return Measurements(channels, nearest=nearest, dtype=dtype, low=float(low), high=float(high),
                        ignore=tuple(map(float, ignore or ())))


def choose_pair(lab_colorization, which_direction, num_inputs=1, a=ImageType(), b=ImageType()):
    """The PairType of --lab_colorization, --which_direction, the number of --a_dir, and the
    ImageTypes of A's and B's files."""
    pair = LAB if lab_colorization else PairType(a, b, split_pair, side_by_side=True)
    if num_inputs > 1:
        return pair._replace(inputs=dataclasses.replace(a, count=num_inputs))
    return pair if which_direction == "AtoB" else pair.reversed()


def sides_of(options):
    """The ImageTypes of A's and B's files, of a model of image pairs."""
    return [choose_side(side, *(getattr(options, f"{side}_{name}") for name in SIDE_OPTIONS))
            for side in "ab"]


def pair_of(options):
    """The PairType of a model."""
    pair = choose_pair(options.lab_colorization, options.which_direction, options.num_inputs,
                       *sides_of(options))
    return pair._replace(inputs=dataclasses.replace(pair.inputs, mask_channel=True)) \
        if options.mask_channel else pair


def infer_pair(input_channels, target_channels):
    """The options of the pair that has so many channels at the network's ends, as far as they tell;
    {} where there is none. The direction is told by Lab and by several inputs alone: without it
    A's channels are the inputs' (`turn_sides`)."""
    if (input_channels, target_channels) in ((1, 2), (2, 1)):
        return {"lab_colorization": True, "num_inputs": 1, "a_channels": 3, "b_channels": 3,
                "which_direction": "AtoB" if input_channels == 1 else "BtoA"}
    if target_channels not in CHANNELS or input_channels < 1:
        return {}
    found = {"lab_colorization": False, "num_inputs": 1}
    if input_channels not in CHANNELS:
        if input_channels % 3:
            return {}
        found.update(num_inputs=input_channels // 3, which_direction="AtoB")
        input_channels = 3
    return {**found, "a_channels": input_channels, "b_channels": target_channels}


def turn_sides(values, which_direction):
    """Options by `infer_pair`, once the direction that they do not tell is known; others stay."""
    if which_direction == "AtoB" or "which_direction" in values or "a_channels" not in values:
        return values
    return {**values, "a_channels": values["b_channels"], "b_channels": values["a_channels"]}
