"""What the images on either side of a pair are, from the file to the network's end and back.

An ImageType says it of one side, and a PairType how a file holds the two: decoding, checking,
caching, both ends of the network, export and the tools ask these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tools.lib.colour import join_lab, split_lab
from tools.lib.images import convert_channels
from tools.lib.tf1 import tf

CHANNELS = (1, 3, 4)  # of an image: grey, RGB, RGB with alpha


class ImageType(NamedTuple):
    """What the images on one side of a pair are, from the file to the network's end."""

    channels: int  # at the network's end, where values are -1..1
    from_unit: Any  # function of 0..1 [..., file_channels] -> [..., channels] -1..1
    to_unit: Any  # function of [..., channels] -1..1 and the pair's other side -> 0..1, for a file
    file_channels: int = 3  # of one decoded file, uint8
    is_scaled: bool = True  # the network sees the file's own values, scaled

    def from_pixels(self, pixels):
        """A decoded file or a part of it, uint8 [height, width, 1, 3 or 4], that holds this side
        alone -> the same of file_channels, which becomes -1..1 when it is scaled; where the network
        sees other values, [height, width, channels] -1..1."""
        pixels = convert_channels(pixels, self.file_channels)
        return pixels if self.is_scaled else \
            self.from_unit(tf.image.convert_image_dtype(pixels, tf.float32))


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

    def reversed(self):
        """The pair with inputs and targets exchanged."""
        return PairType(self.targets, self.inputs, lambda pixels: self.split(pixels)[::-1],
                        self.side_by_side)

    def from_pixels(self, pixels):
        """`ImageType.from_pixels` of both images of a decoded file."""
        images = self.split(pixels)
        return [side.from_pixels(image) for side, image in zip(self[:2], images, strict=True)] \
            if self.side_by_side else [*images]


def to_unit_range(images, _other=None):
    """-1..1 -> 0..1."""
    return (images + 1) / 2


PLAIN = {channels: ImageType(channels, lambda unit: unit * 2 - 1, to_unit_range, channels)
         for channels in CHANNELS}
LIGHTNESS = ImageType(1, lambda rgb: split_lab(rgb)[0], to_unit_range, is_scaled=False)  # in grey
COLOUR = ImageType(2, lambda rgb: split_lab(rgb)[1], lambda images, other: join_lab(other, images),
                   is_scaled=False)


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
    return tf.concat(tf.split(images, count, axis=-1), axis=-2)


def stacked(count, image_type):
    """The ImageType of so many images, stacked by channel and shown side by side."""
    return image_type._replace(
        channels=count * image_type.channels,
        to_unit=lambda images, _other=None: unstack_images(to_unit_range(images), count))


def split_colour(pixels):
    """sRGB uint8 [height, width, 3] -> lightness [height, width, 1] and colour
    [height, width, 2], both -1..1."""
    return split_lab(tf.image.convert_image_dtype(pixels, tf.float32))


LAB = PairType(LIGHTNESS, COLOUR, split_colour, side_by_side=False)


def split_pair(pixels):
    """The halves of a file."""
    return split_columns(pixels, 2)


def choose_pair(lab_colorization, which_direction, num_inputs=1, a_channels=None, b_channels=None):
    """The PairType of --lab_colorization, --which_direction, the number of --a_dir, --a_channels
    and --b_channels; None is RGB."""
    a, b = PLAIN[a_channels or 3], PLAIN[b_channels or 3]
    pair = LAB if lab_colorization else PairType(a, b, split_pair, side_by_side=True)
    if num_inputs > 1:
        return pair._replace(inputs=stacked(num_inputs, a))
    return pair if which_direction == "AtoB" else pair.reversed()


def pair_of(options):
    """The PairType of a model."""
    return choose_pair(options.lab_colorization, options.which_direction, options.num_inputs,
                       options.a_channels, options.b_channels)


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
