"""What people see of a step: the images of its pairs as files, and TensorBoard's summary."""

from __future__ import annotations

from typing import Any, NamedTuple

from tools.lib import geometry
from tools.lib.image_types import pair_of
from tools.lib.images import encode_files
from tools.lib.tf1 import is_absent, tf


class DisplayImages(NamedTuple):
    """The images of a batch: pixels or files. The fields are KINDS."""

    inputs: Any
    outputs: Any
    targets: Any = []  # [] where there are none


def create_images(examples, outputs, options):
    """-1..1 in the model's channels -> DisplayImages [batch, height, width, file_channels] of what
    files of the two sides hold."""
    pair_type, size = pair_of(options), None
    batches = (examples.inputs, outputs, examples.targets, examples.measured,
               examples.inputs_measured)
    if not is_absent(examples.frame):  # a batch of one
        batches = (batch if is_absent(batch) else geometry.take_frame(batch, examples.frame[0])
                   for batch in batches)
    elif options.aspect_ratio != 1.0:
        height, width = examples.inputs.shape[1:3]
        size = [height, round(width * options.aspect_ratio)]
    inputs, outputs, targets, *masks = batches
    measured, inputs_measured = (None if is_absent(mask) else mask for mask in masks)
    # without targets there is no lightness to show a colour input with: the middle of the range
    partners = tf.zeros_like(inputs[..., :1]) if is_absent(targets) else targets
    images = [pair_type.inputs.to_pixels(inputs, partners, inputs_measured, size),
              pair_type.targets.to_pixels(outputs, inputs, size=size)]
    if not is_absent(targets):
        images.append(pair_type.targets.to_pixels(targets, inputs, measured, size))
    return DisplayImages(*images)


def show_images(images, options):
    """DisplayImages of `create_images` as people look at them: uint8 [batch, height, width, 1, 3 or
    4]."""
    pair_type = pair_of(options)
    sides = pair_type.inputs, pair_type.targets, pair_type.targets
    return DisplayImages(*(batch if is_absent(batch) else side.shown(batch)
                           for side, batch in zip(sides, images, strict=True)))


def encode_images(images):
    """DisplayImages -> DisplayImages of files, each [batch] bytes."""
    return DisplayImages(*(encode_files(batch) for batch in images if not is_absent(batch)))


def draw_images(images, options):
    """DisplayImages of `create_images` -> DisplayImages of the PNG files that people look at, each
    [batch] bytes, with a scale where they need one; [] for what PNG files show anyway."""
    pair_type = pair_of(options)
    sides = pair_type.inputs, pair_type.targets, pair_type.targets
    return DisplayImages(*(side.draw(batch) if not is_absent(batch) and side.is_drawn else []
                           for side, batch in zip(sides, images, strict=True)))


def create_summaries(model, accuracy, images, histograms):
    """TensorBoard's summary of a step, [] bytes; histograms of all weights only on request."""
    for name, batch in images._asdict().items():
        tf.summary.image(name, batch)
    for name in ("predict_real", "predict_fake"):
        prediction = getattr(model, name)
        if not is_absent(prediction):
            tf.summary.image(name, tf.image.convert_image_dtype(prediction, tf.uint8))
    for name, value in {**model.averages, **accuracy, "learning_rate": model.lr}.items():
        tf.summary.scalar(name, value)
    if histograms:
        for gradient, variable in model.gradients:
            tf.summary.histogram(f"{variable.op.name}/values", variable)
            # TensorFlow would stop the step at a histogram of a non-finite value
            finite = tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))
            tf.summary.histogram(f"{variable.op.name}/gradients", finite)
    return tf.summary.merge_all()
