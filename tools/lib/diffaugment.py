"""DiffAugment: the same random colour, translation and cutout for all that the discriminator sees
(Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", arXiv 2006.10738)."""

from __future__ import annotations

from tools.lib.tf1 import tf

CUTOUT_SIZE = 0.5  # of the image's side (Zhao et al. 2020)
TRANSLATION = 0.125
NUM_DRAWS = 7  # uniform draws per image


def add_options(add):
    """--diffaugment."""
    add("--diffaugment", action="store_true", help="augment what the discriminator sees")
    add("--no_diffaugment", dest="diffaugment", action="store_false",
        help="do not (the default)")


def jitter_colour(images, brightness, saturation, contrast):
    """Adds brightness [batch]; multiplies the distance from a pixel's grey by saturation [batch],
    from an image's mean by contrast [batch]."""
    brightness, saturation, contrast = (draws[:, tf.newaxis, tf.newaxis, tf.newaxis]
                                        for draws in (brightness, saturation, contrast))
    x = images + brightness
    grey = tf.reduce_mean(x, axis=3, keepdims=True)
    x = (x - grey) * saturation + grey
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    return (x - mean) * contrast + mean


def translate_images(images, offsets):
    """Moves each image [batch, height, width, channels] by offsets [batch, 2] int32, down and
    right; uncovered pixels are 0."""
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        sources = tf.range(size) - offsets[:, axis - 1, tf.newaxis]  # [batch, size]
        inside = tf.cast((sources >= 0) & (sources < size), images.dtype)
        images = tf.gather(images, tf.clip_by_value(sources, 0, size - 1), axis=axis,
                             batch_dims=1)
        images *= tf.expand_dims(inside[..., tf.newaxis], 3 - axis)
    return images


def cutout_mask(centres, size):
    """[batch, height, width, 1]: 0 in a square hole around centres [batch, 2] 0..1, which may
    extend over the edge; 1 elsewhere. size: [2] height and width."""
    outside = []
    for axis in (0, 1):
        side = tf.cast(size[axis], tf.float32)
        place = tf.range(side) - tf.floor(centres[:, axis, tf.newaxis] * (side + 1))
        outside.append((place < -CUTOUT_SIZE * side / 2) | (place >= CUTOUT_SIZE * side / 2))
    mask = outside[0][:, :, tf.newaxis] | outside[1][:, tf.newaxis, :]
    return tf.cast(mask[..., tf.newaxis], tf.float32)


def augment_pair(pair, draw):
    """Colour, translation and cutout of images that belong together, the same for all of them.

    pair: each [batch, height, width, channels] -1..1; draw: a function of batch and number ->
    uniform 0..1 [batch, number]. Differs from the paper: real and generated pairs of a step get the
    same draws.
    """
    shape = tf.shape(pair[0])
    draws = draw(shape[0], NUM_DRAWS)
    furthest = tf.round(TRANSLATION * tf.cast(shape[1:3], tf.float32))
    offsets = tf.cast(tf.floor(draws[:, 3:5] * (2 * furthest + 1)) - furthest, tf.int32)
    mask = cutout_mask(draws[:, 5:7], shape[1:3])
    return [mask * translate_images(
        jitter_colour(images, draws[:, 0] - 0.5, 2 * draws[:, 1], draws[:, 2] + 0.5), offsets)
            for images in pair]
