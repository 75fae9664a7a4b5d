"""Images of values: depth and other measurements, in their files' units; missing measurements.

A pixel without a measurement has one of the values that --a_ignore or --b_ignore name, or is not
finite. `measured` is where there is one: bool, a channel of its own. No function lets through
what is stored in the other pixels, NaN included.
"""

from __future__ import annotations

import math

import numpy as np

from tools.lib.tf1 import tf

MIN_AREA = 1e-3  # of a scaled pixel, that must be measured: see `scale_measured`
HELD = 99.9  # percent of the measured values that a suggested range holds, at least
RANGE_STEPS = 10  # of a suggested range, at most, before it is rounded outwards
ROUND = (1, 2, 5)  # times a power of ten

# --------------------------------------------------------------------------------------------------
# The file's units and the network's
# --------------------------------------------------------------------------------------------------


def to_network(values, low, high):
    """Values in the file's units [...] -> float32 -1..1, where low becomes -1 and high 1; what lies
    outside is clipped."""
    share = (tf.cast(values, tf.float32) - low) / (high - low)
    return tf.clip_by_value(share, 0.0, 1.0) * 2 - 1


def from_network(images, low, high):
    """-1..1 [...] -> float32 in the file's units, low..high."""
    return (tf.cast(images, tf.float32) + 1) / 2 * (high - low) + low


def to_stored(values, dtype):
    """Values in the file's units [...] -> the type that a file stores: integers are rounded, half
    to even, and clipped to what the type holds."""
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer:
        values = tf.clip_by_value(tf.round(values), float(dtype.min), float(dtype.max))
    return tf.cast(values, dtype)


# --------------------------------------------------------------------------------------------------
# Missing measurements
# --------------------------------------------------------------------------------------------------


def find_missing(pixels, ignore=()):
    """Pixels as stored [height, width, channels] -> where one of the channels has one of the values
    to ignore, or is NaN or infinite: bool [height, width, 1]."""
    values = tf.cast(pixels, tf.float32)
    # not is_finite, which ONNX does not have
    missing = tf.math.is_nan(values) | tf.math.is_inf(values)
    for value in ignore:
        missing |= tf.equal(values, value)
    return tf.reduce_any(missing, axis=-1, keepdims=True)


def scale_measured(values, measured, size):
    """Scales by area the measured pixels alone: float32 [height, width, channels] and bool
    [height, width, 1] -> [*size, channels] and [*size, 1].

    A pixel of the result is the mean of the measured values in its area, weighted by their share of
    it, and 0 where there are none. Values may be in any units: of those -1..1, 0 is the middle.
    """
    shares = tf.cast(measured, tf.float32)
    values = tf.where_v2(measured, values, 0.0)  # NaN times 0 is NaN
    scaled = tf.image.resize(tf.concat([values, shares], axis=-1), size, method="area")
    sums, shares = scaled[..., :-1], scaled[..., -1:]
    # rounding moves the edges of areas onto their neighbours: at 3000 pixels by a share of 1e-5;
    # a single measurement still counts among a thousand pixels
    measured = shares > MIN_AREA
    return tf.where_v2(measured, sums / tf.where_v2(measured, shares, 1.0), 0.0), measured


# --------------------------------------------------------------------------------------------------
# Metrics
# --------------------------------------------------------------------------------------------------
# Of outputs and targets [batch, height, width, channels] in the file's units, and measured
# [batch, height, width, 1] -> [batch] float32: of each image's measured pixels. An image without
# one gives NaN, which `metrics.summarize` leaves out and counts, as an infinite PSNR. The
# definitions are those of Eigen, Puhrsch, Fergus 2014 (section 4.1).


def mean_of(errors, counted):
    """Mean of each image's errors [batch, height, width, channels] where counted is true, which has
    the same shape or one channel. NaN where it is nowhere; what is not counted gets no gradient."""
    counted = tf.broadcast_to(counted, tf.shape(errors))
    total = tf.reduce_sum(tf.where_v2(counted, errors, 0.0), axis=[1, 2, 3])
    count = tf.reduce_sum(tf.cast(counted, tf.float32), axis=[1, 2, 3])
    return tf.where_v2(count > 0, total / tf.maximum(count, 1.0), math.nan)


def only_measured(outputs, targets, measured):
    """Outputs and targets with 0 where nothing is measured: from NaN there, gradients would be NaN
    too."""
    return [tf.where_v2(measured, images, 0.0) for images in (outputs, targets)]


def masked_absolute_error(outputs, targets, measured):
    """|output - target|, mean [batch]."""
    outputs, targets = only_measured(outputs, targets, measured)
    return mean_of(tf.abs(outputs - targets), measured)


def rmse(outputs, targets, measured):
    """Root of the mean of (output - target)**2, [batch]."""
    outputs, targets = only_measured(outputs, targets, measured)
    return tf.sqrt(mean_of(tf.math.squared_difference(outputs, targets), measured))


def abs_rel(outputs, targets, measured):
    """|output - target| / target, mean over targets above 0, [batch]."""
    outputs, targets = only_measured(outputs, targets, measured)
    above = targets > 0
    return mean_of(tf.abs(outputs - targets) / tf.where_v2(above, targets, 1.0), measured & above)


def within_125(outputs, targets, measured):
    """Share of the targets above 0 for which max(output / target, target / output) < 1.25,
    [batch]; an output of 0 or less is not."""
    outputs, targets = only_measured(outputs, targets, measured)
    near = (outputs < 1.25 * targets) & (targets < 1.25 * outputs)
    return mean_of(tf.cast(near, tf.float32), measured & (targets > 0))


# --------------------------------------------------------------------------------------------------
# Ranges, in arrays
# --------------------------------------------------------------------------------------------------


def round_step(least):
    """The lowest of 1, 2 and 5 times a power of ten that is not below a number above 0."""
    power = math.floor(math.log10(least))
    for factor in (*ROUND, 10):
        step = float(f"{factor}e{power}")
        if step >= least:
            break
    return step


def multiple(count, step):
    """count * step without the dust of its last digits, such as 0.3, not 0.30000000000000004."""
    return float(f"{count * step:.12g}")


def suggest_range(pixels, missing=None):
    """A range of round numbers that holds HELD percent of the measured values, as (low, high); None
    where nothing is measured. pixels: as stored, an array of any shape; missing: bool, of the same.

    Half of what may lie outside is left out at each end. The rest is rounded outwards to multiples
    of a step: 1, 2 or 5 times a power of ten, about a tenth of what there is; not beyond what the
    type of whole numbers holds.
    """
    values = np.asarray(pixels)
    known = np.isfinite(values) if missing is None else np.isfinite(values) & ~missing
    values = values[known]
    if not values.size:
        return None
    low = float(np.percentile(values, (100 - HELD) / 2, method="lower"))
    high = float(np.percentile(values, (100 + HELD) / 2, method="higher"))
    step = round_step((high - low or abs(high) or 1) / RANGE_STEPS)
    first, last = math.floor(low / step), math.ceil(high / step)
    low, high = multiple(first, step), multiple(max(last, first + 1), step)
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        low, high = max(low, float(limits.min)), min(high, float(limits.max))
    return low, high
