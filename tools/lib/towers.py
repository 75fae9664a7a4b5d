"""The parts of a training step on several devices, with the bits of one.

Every device computes parts that follow each other, one at a time. The first device adds what its
parts give as it goes; the others keep it, and each adds it in the order of the parts to the sum of
the devices before it: rounding depends on that order. So weights travel to a device, and sums to it
and back, once a step, however many parts it computes.
"""

from __future__ import annotations

from typing import NamedTuple

from tools.lib.tf1 import is_absent, tf


class Part(NamedTuple):
    """What a part of a step gives."""

    images: list  # of each image: [images, ...] each
    means: list  # over its images: of losses and gradients


class Step(NamedTuple):
    """A step in parts."""

    examples: tuple  # NamedTuple of batches, the first of all images
    size: int  # images in a part
    compute: object  # function of a part's images, the place of the first in the step, and copies
    # of the weights, by name, or None, to a Part
    total: object  # [] int32: images


def take_images(examples, first, stop):
    """Some images of a NamedTuple of batches."""
    return type(examples)(*(field if is_absent(field) else field[first:stop] for field in examples))


def compute_part(step, images, first, copies=None):
    """The Part of images that come from `first` on, its means multiplied by their share."""
    part = step.compute(images, first, copies)
    share = tf.cast(tf.shape(images[0])[0], tf.float32) / tf.cast(step.total, tf.float32)
    return part._replace(means=[share * mean for mean in part.means])


def add_parts(step, part, stop):
    """The Part of all images up to `stop`: means are added as they come, so that only one part's
    layers and the sums are in memory. part: the first one."""
    size, num_parts = step.size, (stop + step.size - 1) // step.size
    arrays = [tf.TensorArray(tf.float32, num_parts, infer_shape=False,
                             element_shape=[None, *value.shape[1:]]).write(0, value)
              for value in part.images]

    def next_part(first, arrays, sums):
        """Loop body: writes a part's images and adds its means."""
        part = compute_part(step, take_images(step.examples, first, first + size), first)
        arrays = [array.write(first // size, value)
                  for array, value in zip(arrays, part.images, strict=True)]
        return first + size, arrays, [one + other
                                      for one, other in zip(sums, part.means, strict=True)]
    _, arrays, sums = tf.while_loop(lambda first, *_: first < stop, next_part,
                                    [tf.constant(size), arrays, part.means], parallel_iterations=1)
    return Part([array.concat() for array in arrays], sums)


def copy_weights():
    """Values of all weights, by name, on the device of the scope: they are sent there once."""
    return {variable.op.name: tf.identity(variable) for variable in tf.trainable_variables()}


def use_copies(weights, create):
    """What `create(copies)` gives, where variables are copies of the weights: gradients in these
    end there."""
    copies = {name: tf.identity(value) for name, value in weights.items()}

    def take_copy(getter, name, *arguments, **more):
        """A custom getter."""
        return copies[getter(name, *arguments, **more).op.name]
    with tf.variable_scope("", custom_getter=take_copy):
        return create(copies)


def keep_parts(step, like, examples, start):
    """The Part of some images, which come from `start` on, on another device; its means have a
    dimension more, the parts. like: a Part."""
    weights, size, count = copy_weights(), step.size, len(like.images)
    # a loop's values stay where they come from, and would be sent for every part
    examples, start, total = tf.nest.map_structure(tf.identity, (examples, start, step.total))
    step = step._replace(total=total)
    num_parts = (tf.shape(examples[0])[0] + size - 1) // size
    shapes = [[None, *value.shape[1:]] for value in like.images] \
        + [value.shape for value in like.means]
    arrays = [tf.TensorArray(tf.float32, num_parts, infer_shape=False, element_shape=shape)
              for shape in shapes]

    def next_part(number, arrays):
        """Loop body: writes what a part gives."""
        first = number * size
        images = take_images(examples, first, first + size)
        part = use_copies(weights,
                          lambda copies: compute_part(step, images, start + first, copies))
        return number + 1, [array.write(number, value) for array, value in
                            zip(arrays, [*part.images, *part.means], strict=True)]
    _, arrays = tf.while_loop(lambda number, _: number < num_parts, next_part,
                              [tf.constant(0), arrays], parallel_iterations=1)
    return Part([array.concat() for array in arrays[:count]],
                [array.stack() for array in arrays[count:]])


def add_in_order(sums, means):
    """The sums, to which the means of parts [parts, ...] are added, one part after the other."""
    num_parts = tf.shape(means[0])[0]
    sums = [tf.identity(one) for one in sums]  # as in keep_parts
    return tf.while_loop(
        lambda number, _: number < num_parts,
        lambda number, sums: (number + 1, [one + values[number] for one, values in
                                           zip(sums, means, strict=True)]),
        [tf.constant(0), sums], parallel_iterations=1)[1]


def hold(values):
    """Keeps tensors, in any structure, from one run of a session to the next; returns them as the
    second sees them, and the operation of the first."""
    held, stores = [], []
    for number, value in enumerate(tf.nest.flatten(values)):
        handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape,
                                        shared_name=f"held_{number}")
        stores.append(tf.raw_ops.AssignVariableOp(resource=handle, value=value))
        held.append(tf.raw_ops.ReadVariableOp(resource=handle, dtype=value.dtype))
        held[-1].set_shape(value.shape)
    return tf.nest.pack_sequence_as(values, held), tf.group(stores)


def deal_parts(examples, size, compute, devices):
    """A Part of a whole step, whose parts of `size` images are computed on devices: the first,
    where the variables are, and others. Its means are those over all images.

    examples, compute: as in Step; the first call of compute creates the variables.
    """
    step = Step(examples, size, compute, tf.shape(examples[0])[0])
    first = compute_part(step, take_images(examples, 0, size), 0)
    if len(devices) == 1:
        return add_parts(step, first, step.total)
    num_parts = (step.total + size - 1) // size
    bounds = [size * ((num_parts * index + len(devices) - 1) // len(devices))
              for index in range(1, len(devices))] + [step.total]  # the first always has a part
    parts = [add_parts(step, first, bounds[0])]
    sums = parts[0].means
    for device, start, stop in zip(devices[1:], bounds[:-1], bounds[1:], strict=True):
        own = take_images(examples, start, stop)  # here: the others need not travel
        with tf.device(device):
            parts.append(keep_parts(step, first, own, start))
            sums = add_in_order(sums, parts[-1].means)
    images = [tf.concat(values, axis=0)
              for values in zip(*(part.images for part in parts), strict=True)]
    return Part(images, sums)
