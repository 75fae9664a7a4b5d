"""Convolutions by im2col and Winograd, where these are faster than TensorFlow's own on a CPU.

Graph functions: tensors in, tensors out, no variables. Measured in docs/experiments.
"""

from __future__ import annotations

import functools

import numpy as np

from tools.lib.tf1 import tf

IM2COL_MAX_PIXELS = 16 * 16  # of the smaller map; a matrix product is faster up to here
WINOGRAD_MIN_CHANNELS = 256 * 512  # in * out; Winograd is faster from here
WINOGRAD_POINTS = (0.5, -0.5, 1.5, -1.5)  # and infinity: their polynomials have few bits


def custom_gradient(function):
    """`tf.custom_gradient`; TensorFlow is imported only when the function is called."""
    @functools.wraps(function)
    def call(x):
        """The function with its own gradient."""
        return tf.custom_gradient(function)(x)
    return call


@custom_gradient
def im2col(x):
    """The patches that a 4x4 convolution with stride 2 sees: [batch, 2height, 2width, channels]
    -> [batch, height, width, 16 * channels], in the order of a kernel's rows and columns.

    Patch (i, j) begins at pixel (2i - 1, 2j - 1). Its row 2a + b is row b of block i + a, where
    blocks are 2x2 pixels; columns alike.
    """
    height, width, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    blocks = tf.nn.space_to_depth(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 2)
    rows = []
    for a in (0, 1):
        parts = [tf.reshape(blocks[:, a:a + height, c:c + width],
                            [-1, height * width, 2, 2 * channels]) for c in (0, 1)]
        rows.append(tf.reshape(tf.stack(parts, axis=3), [-1, height * width, 8 * channels]))
    patches = tf.stack(rows, axis=2)
    return tf.reshape(patches, [-1, height, width, 16 * channels]), col2im


@custom_gradient
def col2im(patches):
    """The transpose of `im2col`, and its gradient: adds patches where they overlap,
    [batch, height, width, 16 * channels] -> [batch, 2height, 2width, channels]."""
    height, width, channels = patches.shape[1], patches.shape[2], patches.shape[3] // 16
    rows, blocks = tf.reshape(patches, [-1, height * width, 2, 8 * channels]), []
    for a in (0, 1):
        parts = tf.reshape(rows[:, :, a], [-1, height * width, 2, 2, 2 * channels])
        blocks += [tf.pad(tf.reshape(parts[:, :, :, c], [-1, height, width, 4 * channels]),
                          [[0, 0], [a, 1 - a], [c, 1 - c], [0, 0]]) for c in (0, 1)]
    return tf.nn.depth_to_space(tf.add_n(blocks), 2)[:, 1:-1, 1:-1], im2col


def fits_im2col(height, width):
    """Whether a map is known to have at most IM2COL_MAX_PIXELS pixels.

    Its layer has few pixels and many weights. There oneDNN spends its time on reordering the
    kernel, in the forward pass and for both gradients; a matrix product uses it as it is stored. A
    training step takes 0.83 times as long in float32, 0.82 in bfloat16 (docs/experiments).
    """
    return None not in (height, width) and height * width <= IM2COL_MAX_PIXELS


def winograd_matrices():
    """The transforms of F(2x2, 4x4), rows and columns together: of outputs [4, 25], of the kernel
    [25, 16], of inputs [25, 25]. The 25 are in column order, everything else in row order.

    In one dimension, 2 outputs of a filter of length 4 from 5 inputs are the transpose of
    multiplying polynomials of degree 1 and 3: evaluate at 5 points, multiply, interpolate (Toom and
    Cook).
    """
    outputs, kernel, inputs = np.zeros([2, 5]), np.zeros([5, 4]), np.zeros([5, 5])
    for row, point in enumerate(WINOGRAD_POINTS):
        others = [other for other in WINOGRAD_POINTS if other != point]
        inputs[row, :4] = np.poly(others)[::-1]
        kernel[row] = np.power(point, range(4))
        outputs[:, row] = np.array([1, point]) / np.prod([point - other for other in others])
    inputs[4], kernel[4], outputs[:, 4] = np.poly(WINOGRAD_POINTS)[::-1], [0, 0, 0, 1], [0, 1]
    return (np.einsum("iu,jv->ijvu", outputs, outputs).reshape(4, 25),
            np.einsum("ui,vj->vuij", kernel, kernel).reshape(25, 16), np.kron(inputs, inputs))


@custom_gradient
def extract_tiles(x):
    """Overlapping tiles of length 5 with stride 2: [rest, 2n + 4, inner] -> [5, rest, n, inner].
    """
    n, pairs = x.shape[1] // 2 - 2, tf.reshape(x, [-1, x.shape[1] // 2, 2, x.shape[2]])
    return tf.stack([pairs[:, i // 2:i // 2 + n, i % 2] for i in range(5)]), overlap_add_tiles


@custom_gradient
def overlap_add_tiles(tiles):
    """The transpose of `extract_tiles`, and its gradient: adds tiles where they overlap."""
    n, inner = tiles.shape[2:]
    padded = [tf.pad(tiles[i], [[0, 0], [i // 2, 2 - i // 2], [0, 0]]) for i in range(5)]
    pairs = tf.stack([tf.add_n(padded[::2]), tf.add_n(padded[1::2])], axis=2)
    return tf.reshape(pairs, [-1, 2 * n + 4, inner]), extract_tiles


def winograd_conv2d(inputs, kernel):
    """`tf.nn.conv2d` of a 4x4 kernel with stride 1 and no padding, by Winograd's F(2x2, 4x4): 25
    multiplications for 2x2 outputs instead of 64 (Lavin and Gray, arXiv 1509.09308, section 4.1).

    It pays where there are many channels: layer_4 of the discriminator does a third of a step's
    arithmetic, and the step takes 0.93 times as long in bfloat16, 0.92 in float32
    (docs/experiments). Equal to 1e-6 in float32 and to 1% in bfloat16, like oneDNN's gradients.
    """
    to_outputs, to_kernel, to_inputs = (tf.constant(matrix, inputs.dtype)
                                        for matrix in winograd_matrices())
    height, width, channels = inputs.shape[1] - 3, inputs.shape[2] - 3, inputs.shape[3]
    rows, columns, out_channels = (height + 1) // 2, (width + 1) // 2, kernel.shape[3]  # of tiles
    x = tf.pad(inputs, [[0, 0], [0, height % 2 + 1], [0, width % 2 + 1], [0, 0]])  # whole tiles
    x = extract_tiles(tf.reshape(x, [-1, 2 * rows + 4, (2 * columns + 4) * channels]))
    x = extract_tiles(tf.reshape(x, [-1, 2 * columns + 4, channels]))
    x = tf.matmul(to_inputs, tf.reshape(x, [25, -1]))
    k = tf.matmul(to_kernel, tf.reshape(kernel, [16, channels * out_channels]))
    x = tf.matmul(tf.reshape(x, [25, -1, channels]), tf.reshape(k, [25, channels, out_channels]))
    x = tf.matmul(to_outputs, tf.reshape(x, [25, -1]))
    x = tf.transpose(tf.reshape(x, [2, 2, -1, rows, columns, out_channels]), [2, 3, 0, 4, 1, 5])
    x = tf.reshape(x, [-1, 2 * rows, 2 * columns, out_channels])
    return tf.slice(x, [0, 0, 0, 0], [-1, height, width, -1])  # [:, ...] has a slow gradient


def conv2d(inputs, kernel, stride, padding):
    """`tf.nn.conv2d`: im2col and one matrix product where the result is small, Winograd with many
    channels and stride 1."""
    (size, _, _, channels), (height, width) = kernel.shape, inputs.shape.as_list()[1:3]
    if (size, stride, padding) == (4, 1, "VALID") and None not in (height, width) \
            and kernel.shape[2] * channels >= WINOGRAD_MIN_CHANNELS:
        return winograd_conv2d(inputs, kernel)
    in_blocks = None not in (height, width) and height % 2 == width % 2 == 0
    if (size, stride, padding, in_blocks) != (4, 2, "SAME", True) \
            or not fits_im2col(height // 2, width // 2):
        return tf.nn.conv2d(inputs, kernel, strides=stride, padding=padding)
    patches = im2col(inputs)
    outputs = tf.matmul(tf.reshape(patches, [-1, patches.shape[3]]),
                        tf.reshape(kernel, [patches.shape[3], channels]))
    return tf.reshape(outputs, [-1, height // 2, width // 2, channels])


def doubled_shape(inputs, channels):
    """Static shape of a layer that doubles height and width, as far as they are known."""
    batch, height, width = inputs.shape.as_list()[:3]
    return [batch, height and 2 * height, width and 2 * width, channels]


def conv2d_transpose(inputs, kernel):
    """`tf.nn.conv2d_transpose` that doubles height and width, kernel [height, width, out, in]: one
    matrix product and col2im where the input is small."""
    size, _, out_channels, channels = kernel.shape.as_list()
    height, width = inputs.shape.as_list()[1:3]
    if size == 4 and fits_im2col(height, width):
        # in this order: 1.04 times as fast a step in float32 as pixels x kernel
        patches = tf.matmul(tf.reshape(kernel, [16 * out_channels, channels]),
                            tf.reshape(inputs, [-1, channels]), transpose_b=True)
        return col2im(tf.reshape(tf.transpose(patches),
                                      [-1, height, width, 16 * out_channels]))
    batch, height, width, _ = tf.unstack(tf.shape(inputs))
    outputs = tf.nn.conv2d_transpose(
        inputs, kernel, [batch, 2 * height, 2 * width, out_channels], strides=2)
    outputs.set_shape(doubled_shape(inputs, out_channels))
    return outputs
