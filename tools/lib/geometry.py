"""Where an image lies in the network: scaled, cropped or padded for it; its result put back.

--resize says how an image comes to a size, --scale_size in training, --crop_size in test:

    stretch    scaled to it, whatever shape it has
    crop       scaled to cover it: one side fits, the other may be longer
    pad        scaled to fit into it: one side fits, the other may be shorter
    none       not scaled

What the network sees is a window of --crop_size on the result. Where the window reaches over an
edge, the image goes on mirrored. Pairs of height and width are [2] int32 tensors, or `Size`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tools.lib.cli import Size, number_type, size_of, size_option, size_type
from tools.lib.tf1 import tf

RESIZES = ("stretch", "crop", "pad", "none")
MIRRORING = ("pad", "none")  # the window may reach over an edge
MIN_CROP = 32  # the least side of --crop_size, of which all are multiples
MIN_SHOWN = 11  # the least side of results: SSIM's window
MIN_SIDE = 8  # of a network's input: a residual block can reflect 2x2 values, not 1x1
MAX_ASPECT = 16  # longest ratio of sides; beyond it the shorter side gets fewer pixels
MAX_OVERHANG = 64  # how often a side may be as long as the target's; beyond it shapes are not kept
LARGEST_ZOOM = 1.25  # of --augment scale


def add_options(add):
    """How images come to the network's size."""
    add("--crop_size", type=size_type(MIN_CROP, 4096), default=256,
        help="N, or HEIGHTxWIDTH, of an image in the network; multiples of 32")
    add("--scale_size", type=size_type(MIN_CROP, 8192), default=286,
        help="N, or HEIGHTxWIDTH, that training scales images to before cropping")
    add("--resize", default="stretch", choices=RESIZES,
        help="how images come to that size: stretched; scaled and cropped or padded, which keep "
             "their shape; or as they are")
    add("--aspect_ratio", type=number_type(float, 0, 100, open_low=True), default=1.0,
        help="width / height of the images before --resize stretch, and of the results")
    add("--native_size", action="store_true",
        help="test and export: use the model at each image's own size")


def usual_scale(crop_size):
    """The --scale_size of a --crop_size, in the paper's ratio."""
    return size_option(Size(*(round(side * 286 / 256) for side in size_of(crop_size))))


def refuse_crop(size, multiple):
    """Why a --crop_size cannot be had, with the nearest that can; "" where it can. multiple: of
    what both sides must be."""
    below = Size(*(max(side // multiple, 1) * multiple for side in size))
    above = Size(*(-(-side // multiple) * multiple for side in size))
    if size == above:
        return ""
    choices = f"{below} or {above}" if below != above else below
    if multiple > MIN_CROP:
        return f"--crop_size {size} does not fit the model, which takes multiples of {multiple}: " \
               f"give {choices}"
    return f"--crop_size {size} is not a multiple of {multiple}: give {choices}"


def refused_sizes(options, explicit, multiple):
    """Rows for `cli.check_combinations`. multiple: of what the network takes, at least."""
    size, scale = size_of(options.crop_size), size_of(options.scale_size)
    aspect_ratio, resize = options.aspect_ratio, options.resize
    refusal = refuse_crop(size, max(multiple, MIN_CROP))
    return [
        (refusal, refusal),
        (resize != "none" and (scale.height < size.height or scale.width < size.width),
         f"--scale_size {scale} is below --crop_size {size}: give at least that"),
        (aspect_ratio != 1 and resize != "stretch" and {"aspect_ratio", "resize"} & explicit,
         f"--aspect_ratio {aspect_ratio} belongs to --resize stretch, --resize {resize} keeps the "
         "images' shape: remove one"),
        (aspect_ratio != 1 and size.height != size.width,
         f"--aspect_ratio {aspect_ratio} needs a square --crop_size, {size} is none: remove one"),
        (round(size.height * aspect_ratio) < MIN_SHOWN,
         f"--aspect_ratio {aspect_ratio} makes images less than {MIN_SHOWN} pixels wide: "
         "give a larger one"),
        (options.native_size and options.mode == "train",
         "--native_size is for --mode test and export: remove it; for training at the images' own "
         "size give --resize none")]


class Sizing(NamedTuple):
    """How images of any size become the network's input."""

    resize: str  # one of RESIZES
    scale: Size | None  # what it scales them to; None: nothing
    crop: Size | None  # of what the network sees; None: the whole image
    multiple: int  # that the network needs where it sees the whole image


class Window(NamedTuple):
    """Where the network looks at an image."""

    scaled: Any  # [2]: size to which the whole image is scaled
    corner: Any  # [2]: top, left of the window on it; less than 0 in its mirrored border
    size: Any  # [2]: of the window


def training_sizing(options, multiple):
    """The Sizing of training."""
    scale = None if options.resize == "none" else size_of(options.scale_size)
    return Sizing(options.resize, scale, size_of(options.crop_size), multiple)


def is_own_size(options):
    """Whether test and export use the model at each image's own size."""
    return options.resize == "none" or options.native_size


def test_sizing(options, multiple):
    """The Sizing of test and export: that of training without what is random."""
    if is_own_size(options):
        return Sizing("none", None, None, multiple)
    return Sizing(options.resize, size_of(options.crop_size), size_of(options.crop_size), multiple)


def round_up(size, multiple):
    """The least size that is a multiple in both directions, and large enough for a network."""
    return tf.maximum((size + multiple - 1) // multiple * multiple, MIN_SIDE)


def scale_shape(shape, target, resize):
    """The size that an image of a shape is scaled to, for a target size."""
    if resize == "none":
        return tf.convert_to_tensor(shape)
    target = tf.convert_to_tensor(target, tf.int32)
    if resize == "stretch":
        return target
    # a side as long as the target's gives the other, rounded: whole numbers, for they are exact
    shape, wanted = tf.cast(shape, tf.int64), tf.cast(target, tf.int64)
    others = (2 * shape * wanted[::-1] + shape[::-1]) // (2 * shape[::-1])
    others = tf.cast(tf.minimum(others, MAX_OVERHANG * wanted), tf.int32)
    return tf.maximum(target, others) if resize == "crop" \
        else tf.maximum(tf.minimum(target, others), 1)


def zoom_target(sizing, zoom):
    """The size that --augment scale has images scaled to: from that of the crop to LARGEST_ZOOM
    times that of the scale, both sides by the same draw, zoom [] 0..1."""
    rooms = [int(LARGEST_ZOOM * scale) - crop + 1
             for scale, crop in zip(sizing.scale, sizing.crop, strict=True)]
    return sizing.crop + tf.cast(zoom * tf.cast(rooms, tf.float32), tf.int32)


def choose_window(shape, sizing, place=None, zoom=None):
    """The Window on an image of a shape [2]. place: [2] 0..1, where in the room that there is it
    lies; None: in the middle. zoom: [] 0..1 of --augment scale; None: not scaled further."""
    target = sizing.scale if zoom is None or sizing.scale is None else zoom_target(sizing, zoom)
    scaled = scale_shape(shape, target, sizing.resize)
    if sizing.resize == "none" and zoom is not None:
        scaled = tf.cast(tf.cast(scaled, tf.float32) * (1 + (LARGEST_ZOOM - 1) * zoom), tf.int32)
    size = round_up(scaled, sizing.multiple) if sizing.crop is None \
        else tf.convert_to_tensor(sizing.crop, tf.int32)
    padded = tf.maximum(scaled, size if target is None else tf.maximum(size, target))
    room = padded - size
    offset = room // 2 if place is None else \
        tf.cast(place * tf.cast(room + 1, tf.float32), tf.int32)
    return Window(scaled, offset - (padded - scaled) // 2, size)


def frame_of(window):
    """Where the image lies in what the network sees: top, left, height, width [4]."""
    start = tf.maximum(-window.corner, 0)
    seen = tf.minimum(window.scaled - tf.maximum(window.corner, 0), window.size - start)
    return tf.concat([start, seen], axis=0)


def take_frame(images, frame):
    """What lies in a frame [4] of images [batch, height, width, channels]."""
    top, left, height, width = tf.unstack(frame)
    return images[:, top:top + height, left:left + width]


def mirrored(images, start, size, axis):
    """Rows or columns start to start + size of images, which go on mirrored at both ends."""
    length = tf.shape(images)[axis]
    # whole periods more keep it positive: converted to ONNX, floormod of less than 0 is wrong
    periods = (tf.maximum(-start, 0) + 2 * length - 1) // (2 * length)
    place = tf.math.floormod(tf.range(size) + start + periods * 2 * length, 2 * length)
    return tf.gather(images, tf.minimum(place, 2 * length - 1 - place), axis=axis)


def scale_by_area(images, size):
    """[..., height, width, channels] -> float32 [..., *size, channels], in the same range. size:
    [2]; None: its own."""
    if size is not None:
        images = tf.image.resize(images, size, method="area")
    return tf.cast(images, tf.float32)  # an image of that size may have stayed as it was


def take_window(image, window, resize, scale=scale_by_area):
    """What a Window sees of an image [height, width, channels]: float32 [*window.size, channels].
    scale: function of an image and a size [2], or None for its own, as `ImageType.scale`."""
    (top, left), (height, width) = tf.unstack(window.corner), tf.unstack(window.size)

    def cut(image):
        """The part of the scaled image."""
        if resize in MIRRORING:
            return mirrored(mirrored(image, top, height, axis=0), left, width, axis=1)
        return image[top:top + height, left:left + width]

    if resize != "none":
        return cut(scale(image, window.scaled))
    is_scaled = tf.reduce_all(tf.equal(tf.shape(image)[:2], window.scaled))
    return tf.cond(is_scaled, lambda: scale(cut(image), None),
                   lambda: cut(scale(image, window.scaled)))


def mirror_pad(images, size):
    """Pads [batch, height, width, channels] on all sides to a size [2], mirroring as often as
    necessary; returns it with top and left."""
    starts = [(total - tf.shape(images)[axis]) // 2
              for axis, total in ((1, size[0]), (2, size[1]))]
    for axis, start in zip((1, 2), starts, strict=True):
        images = mirrored(images, -start, size[axis - 1], axis)
    return images, *starts


def run_padded(run, images, multiple):
    """What `run` gives of images [batch, height, width, channels], as large. Unless these are known
    to be multiples, they are mirrored at their edges up to the next ones, and the results cut back.
    """
    _, height, width, _ = images.shape.as_list()
    if None not in (height, width) and height % multiple == width % multiple == 0 \
            and min(height, width) >= MIN_SIDE:
        return run(images)
    shape = tf.shape(images)[1:3]
    padded, top, left = mirror_pad(images, round_up(shape, multiple))
    return take_frame(run(padded), tf.concat([[top, left], shape], axis=0))


def run_any_size(run, images, multiple, trained_size=None):
    """`run_padded` with a branch of its own for images of the trained size (height, width), where
    theirs is not known: layers are faster on maps of known size. Both use the same variables.
    trained_size: None: without that branch."""
    batch, height, width, channels = images.shape.as_list()
    if trained_size is None or None not in (height, width):
        return run_padded(run, images, multiple)
    is_trained_size = tf.reduce_all(tf.equal(tf.shape(images)[1:3], trained_size))
    # not ensure_shape: TensorFlow would take what it says for true outside the branch too
    return tf.cond(is_trained_size,
                   lambda: run(tf.reshape(images, [batch or -1, *trained_size, channels])),
                   lambda: run_padded(run, images, multiple))


def squeeze_of(options):
    """How much wider images were than --crop_size before --resize stretch gave them its shape."""
    if options.resize != "stretch" or is_own_size(options):
        return 1.0
    crop = size_of(options.crop_size)
    return options.trained_ratio * crop.height / crop.width if options.trained_ratio \
        else options.aspect_ratio


def network_shape(shape, sizing, squeeze=1.0):
    """Height and width [2] at which the network works on the whole of an image of a shape [2]: as
    large as images were in training, and squeezed as much. Nothing is cut off.

    squeeze: of `squeeze_of`.
    """
    if sizing.crop is None:
        return tf.convert_to_tensor(shape)
    crop, shape = tf.constant(sizing.crop, tf.float32), tf.cast(shape, tf.float32)
    sides = shape / [1.0, squeeze]
    scales = crop / sides
    least, most = tf.reduce_min(scales), tf.reduce_max(scales)
    scale = least if sizing.resize == "pad" else tf.minimum(most, MAX_ASPECT * least)
    scaled = tf.maximum(tf.round(sides * scale), 1)
    # less than one of its pixels off still is of the crop's shape
    return tf.cast(tf.where(tf.abs(scaled - crop) <= scale, crop, scaled), tf.int32)
