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
from tools.lib.images import (
    MAX_PNG_CHANNELS, convert_channels, decode_deep_png, decode_pixels, decode_values,
    encode_files, refuse, scale_back, to_bytes)
from tools.lib.tf1 import tf
from tools.lib.values import find_missing, from_network, scale_measured, to_network, to_stored

CHANNELS = (1, 3, 4)  # of an image of 8 bits: grey, RGB, RGB with alpha
VALUE_TYPES = ("uint8", "uint16", "float32")  # of what files store
SIDE_OPTIONS = ("channels", "type", "range", "ignore")  # --a_channels ...; type is that of files

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

    dtype = "uint8"  # of a decoded file
    low, high = 0, 255  # of its values; become -1 and 1
    ignore = ()  # values of pixels without a measurement
    kind = "images"  # which metrics there are of it
    # whether a pixel may have no measurement: what `take` gives has a last channel, 0 or 1, that
    # says where there is one
    has_mask = False
    is_drawn = False  # files are not what people look at: `draw` makes that

    @property
    def channels(self):
        """At the network's end."""
        return self.count * (self.file_channels + self.mask_channel)

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

    def take(self, pixels):
        """A decoded file or a part of it that holds this side alone, uint8
        [height, width, 1, 3 or 4] -> what `scale` takes."""
        return convert_channels(pixels, self.file_channels)

    def scale(self, images, size=None):
        """What `take` gives, an image or a batch, -> float32 [..., *size, channels] as the network
        sees it, -1..1, and a mask where it has one. size: [2]; None: its own."""
        scaled = scale_by_area(images, size)
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
            joined *= tf.concat([tf.repeat(mask, self.file_channels, axis=-1) for mask in masks],
                                axis=-1)
        return tf.concat([joined, *(2 * mask - 1 for mask in masks)], axis=-1) \
            if self.mask_channel else joined

    def split(self, images):
        """The network's input -> the values of its images side by side, and their masks, 0 or 1
        [..., 1]; None without."""
        masks = None
        if self.mask_channel:
            images, masks = images[..., :-self.count], images[..., -self.count:]
            masks = unstack_images((masks + 1) / 2, self.count)
        return unstack_images(images, self.count), masks

    def floats_of(self, pixels):
        """The pixels of a file -> what exports take and give in its place: 0..1."""
        return tf.image.convert_image_dtype(pixels, tf.float32)

    def pixels_of(self, floats):
        """What exports give -> the pixels of a file."""
        return tf.image.convert_image_dtype(floats, tf.uint8, saturate=True)

    def scaled_floats(self, pixels, size):
        """`floats_of` a decoded file, scaled as in the network."""
        return scale_by_area(self.floats_of(pixels), size)

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

    def size_of_all(self, size):
        """The size [2] of all images side by side, by that of one."""
        return size if self.count == 1 else [size[0], size[1] * self.count]

    def shown(self, pixels):
        """What `to_pixels` gives, as people look at it: uint8 [batch, height, width, 1, 3 or 4]."""
        return pixels

    def draw(self, pixels):
        """What `to_pixels` gives -> the PNG files that people look at [batch]."""
        return encode_files(self.shown(pixels))


@dataclasses.dataclass(frozen=True)
class Lightness(ImageType):
    """L of CIE Lab, one channel; as a file it is grey."""

    channels = 1

    def take(self, pixels):
        """An sRGB image of its own: -1..1."""
        return split_lab(tf.image.convert_image_dtype(pixels, tf.float32))[0]

    def from_floats(self, images):
        """Of sRGB 0..1."""
        return split_lab(images)[0]

    def to_floats(self, images, other=None):
        """As RGB."""
        return tf.image.grayscale_to_rgb(self.to_unit(images, other))


@dataclasses.dataclass(frozen=True)
class Colour(ImageType):
    """a and b of CIE Lab, two channels; a file has them with the lightness of the other side."""

    channels = 2

    def take(self, pixels):
        """An sRGB image of its own: -1..1."""
        return split_lab(tf.image.convert_image_dtype(pixels, tf.float32))[1]

    def from_floats(self, images):
        """Of sRGB 0..1."""
        return split_lab(images)[1]

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
        return decode_deep_png(contents, self.file_channels)

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
        measured = masks if measured is None else unstack_images(measured, self.count)
        if size is not None:
            size = self.size_of_all(size)
            values = scale_back(values, size)
            measured = None if measured is None else \
                tf.image.resize(measured, size, method="area")
        pixels = self.pixels_of(values)
        if measured is None:
            return pixels
        missing = np.array(self.ignore[0] if self.ignore else np.nan, self.dtype)
        return tf.where_v2(measured > 0.5, pixels, missing)

    def missing_in(self, pixels):
        """Where there is no measurement in an array [height, width, channels]: [height, width]."""
        missing = ~np.isfinite(pixels)
        for value in self.ignore:
            missing |= pixels == value
        return missing.any(axis=-1)

    def paint(self, pixels, has_scale=False):
        """A file's pixels, an array, as people look at it: uint8 [height, width, 1 or 3]. Of one
        channel it is a colour map, and where that is asked for its scale is below it."""
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
            return np.array([to_bytes(self.paint(image, has_scale=True), compress_level=1)
                             for image in batch], object)
        return tf.numpy_function(encode, [pixels], tf.string)


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
        return self.inputs.dtype

    @property
    def bytes_per_pixel(self):
        """Of a decoded file in memory."""
        return self.file_channels * np.dtype(self.dtype).itemsize

    def decode(self, contents):
        """Bytes of a file that holds both -> its pixels."""
        return dataclasses.replace(self.inputs, file_channels=self.file_channels).decode(contents)

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


def choose_side(channels=None, dtype=None, value_range=None, ignore=None):
    """The ImageType of a side by its --a_channels, what type its files hold, --a_range and
    --a_ignore; None of all is RGB."""
    channels, dtype = channels or 3, dtype or "uint8"
    if dtype == "uint8" and channels in CHANNELS and not value_range and not ignore:
        return ImageType(channels)
    low, high = value_range or ((0, np.iinfo(dtype).max) if dtype != "float32" else (0, 1))
    return Measurements(channels, dtype=dtype, low=float(low), high=float(high),
                        ignore=tuple(map(float, ignore or ())))


def choose_pair(lab_colorization, which_direction, num_inputs=1, a=ImageType(), b=ImageType()):
    """The PairType of --lab_colorization, --which_direction, the number of --a_dir, and the
    ImageTypes of A's and B's files."""
    pair = LAB if lab_colorization else PairType(a, b, split_pair, side_by_side=True)
    if num_inputs > 1:
        return pair._replace(inputs=dataclasses.replace(a, count=num_inputs))
    return pair if which_direction == "AtoB" else pair.reversed()


def pair_of(options):
    """The PairType of a model."""
    sides = [choose_side(*(getattr(options, f"{side}_{name}") for name in SIDE_OPTIONS))
             for side in "ab"]
    pair = choose_pair(options.lab_colorization, options.which_direction, options.num_inputs,
                       *sides)
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
