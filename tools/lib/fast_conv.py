"""Convolutions by im2col and Winograd, where these are faster than TensorFlow's own on a CPU.

Graph functions: tensors in, tensors out, no variables but those of `layers_for("inference")`.
Measured in docs/experiments.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from typing import Any, NamedTuple

import numpy as np

from tools.lib import tf1
from tools.lib.tf1 import tf

IM2COL_MAX_PIXELS = 16 * 16  # of the smaller map; a matrix product is faster up to here
FEW_PIXELS = 16  # of a batch's smaller maps, up to which converting a kernel takes too long
GRAM_MAX_PIXELS = 64  # of the same, up to which a gradient's norm is that of its factors
# channels of the larger map * of the smaller, from which Winograd is faster in layers of stride 2:
# in training, where all three results share the transforms, and in inference
STRIDED_MIN_CHANNELS = {"float32": (64 * 256, 128 * 256), "bfloat16": (64 * 128, 64 * 256),
                        "bfloat16 amx": (256 * 1024, 256 * 1024)}
STRIDED_MAX_SIDES = (128, 64)  # of the smaller map, alike: the transforms grow with its sides
WINOGRAD_MIN_CHANNELS = 256 * 512  # in * out; Winograd is faster from here with stride 1
NARROW_MAX_CHANNELS = 4  # of a transposed convolution's result, up to which taps are placed
KEPT = ("winograd", "inner_taps")  # names of what `keep` keeps

_purpose = contextvars.ContextVar("purpose", default="training")


@contextlib.contextmanager
def layers_for(purpose):
    """Within it layers are built for "training", which is the default, for "inference", for
    inference from a "checkpoint" that holds nothing but the model's own variables, or for a
    "foreign" program, which has its own fast forms of plain layers.

    In inference kernels must be variables of the type that layers compute in, and their transforms
    are local variables: run tf.local_variables_initializer() once the kernels have their values.
    """
    token = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(token)


def as_type(kernel, dtype):
    """In a type; one that has it stays the variable that it is."""
    return kernel if kernel.dtype.base_dtype == dtype else tf.cast(kernel, dtype)


def keep(name, transform, kernel):
    """transform(kernel), of its type; in inference a variable of the layer's scope, which is
    computed once and which all forms of the layer share. name: one of KEPT."""
    if _purpose.get() != "inference":
        return transform(kernel)
    return tf.get_variable(name, dtype=kernel.dtype.base_dtype, trainable=False, use_resource=True,
                           initializer=lambda: transform(kernel),
                           collections=[tf.GraphKeys.LOCAL_VARIABLES])


def with_gradient(layer):
    """`tf.custom_gradient`, which as a decorator would import TensorFlow together with this module.
    """
    @functools.wraps(layer)
    def apply(*tensors):
        """The layer."""
        return tf.custom_gradient(layer)(*tensors)
    return apply


def linear(function, transpose):
    """A linear function of a tensor as one whose gradient is its transpose, and the transpose as
    one whose gradient is the function."""
    def apply(x):
        """function(x)."""
        return tf.custom_gradient(lambda x: (function(x), apply_transpose))(x)

    def apply_transpose(x):
        """transpose(x)."""
        return tf.custom_gradient(lambda x: (transpose(x), apply))(x)
    return apply, apply_transpose


# --------------------------------------------------------------------------------------------------
# im2col: a small map's layer as matrix products
# --------------------------------------------------------------------------------------------------


def pixels_at(rows, columns, height, width):
    """Indices of pixels in a map with a zero pixel behind it, which stands for those outside: rows
    [a, b] and columns [c, d] -> [a, c, b, d]."""
    rows, columns = rows[:, np.newaxis, :, np.newaxis], columns[np.newaxis, :, np.newaxis]
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(is_inside, rows * width + columns, height * width).astype(np.int32)


def append_zero(x):
    """[batch, height, width, channels] -> [batch, height * width + 1, channels]."""
    _, height, width, channels = x.shape
    return tf.pad(tf.reshape(x, [-1, height * width, channels]), [[0, 0], [0, 1], [0, 0]])


def take_patches(x):
    """The patches that a 4x4 convolution with stride 2 sees: [batch, 2height, 2width, channels]
    -> [batch * height * width, 16 * channels]. Patch (i, j) begins at pixel (2i - 1, 2j - 1)."""
    _, height, width, channels = x.shape
    rows, columns = (np.arange(-1, size - 1, 2)[:, np.newaxis] + np.arange(4)
                     for size in (height, width))
    indices = pixels_at(rows, columns, height, width).ravel()
    return tf.reshape(tf.gather(append_zero(x), indices, axis=1), [-1, 16 * channels])


def add_patches(patches, height, width):
    """Adds patches where they overlap, as `take_patches` takes them: [16, batch * (height * width +
    1), channels], with zeros behind each map -> [batch, 2height, 2width, channels].

    Pixel (i, j) of the result is in patches i' = (i + 1) // 2 and i' - 1, in row (i + 1) % 2 of the
    one and 2 + (i + 1) % 2 of the other; columns alike.
    """
    num_pixels, channels = height * width + 1, patches.shape[2]
    maps = tf.shape(patches)[1] // num_pixels
    (rows, taps_down), (columns, taps_right) = (np.divmod(np.arange(1, 2 * size + 1), 2)
                                                for size in (height, width))
    corners = [(a, b) for a in (0, 1) for b in (0, 1)]
    taps = np.stack([4 * (taps_down + 2 * a)[:, np.newaxis] + taps_right + 2 * b
                     for a, b in corners]).reshape(4, 1, -1)
    pixels = np.stack([pixels_at(rows[:, np.newaxis] - a, columns[:, np.newaxis] - b, height, width)
                       for a, b in corners]).reshape(4, 1, -1)
    first = num_pixels * tf.range(maps)[:, np.newaxis]  # of each map
    indices = taps * (num_pixels * maps) + pixels + first
    parts = tf.gather(tf.reshape(patches, [-1, channels]), indices)
    return tf.reshape(tf.add_n(tf.unstack(parts)), [-1, 2 * height, 2 * width, channels])


def multiply_patches(patches, kernel, height, width):
    """The convolution of maps whose patches are known: [batch, height, width, out]."""
    channels, out_channels = kernel.shape[2:]
    outputs = tf.matmul(patches, tf.reshape(kernel, [16 * channels, out_channels]))
    return tf.reshape(outputs, [-1, height, width, out_channels])


def kernel_gradient(patches, small):
    """Of a layer between maps with these patches and small ones: [4, 4, larger, smaller]."""
    smaller = small.shape[3]
    product = tf.matmul(patches, tf.reshape(small, [-1, smaller]), transpose_a=True)
    return tf.reshape(product, [4, 4, -1, smaller])


@with_gradient
def im2col_conv2d(inputs, kernel):
    """`tf.nn.conv2d` with stride 2 of a 4x4 kernel."""
    height, width = (side // 2 for side in inputs.shape[1:3])
    patches = take_patches(inputs)

    def gradient(outputs):
        """Of the inputs and the kernel."""
        return im2col_conv2d_transpose(outputs, kernel), kernel_gradient(patches, outputs)
    return multiply_patches(patches, kernel, height, width), gradient


@with_gradient
def im2col_conv2d_transpose(inputs, kernel):
    """`tf.nn.conv2d_transpose` with stride 2 of a kernel [4, 4, out, in]: a product for each tap,
    then the sum where they overlap."""
    _, height, width, channels = inputs.shape
    products = tf.matmul(tf.reshape(append_zero(inputs), [1, -1, channels]),
                         tf.reshape(kernel, [16, -1, channels]), transpose_b=True)

    def gradient(outputs):
        """Of the inputs and the kernel."""
        patches = take_patches(outputs)
        return multiply_patches(patches, kernel, height, width), kernel_gradient(patches, inputs)
    return add_patches(products, height, width), gradient


def inner_taps(kernel):
    """Of a layer between 2x2 pixels and one, the taps that do not meet its zeros: a quarter of the
    kernel, [4 * larger, smaller]."""
    smaller = kernel.shape[3]
    return keep("inner_taps", lambda kernel: tf.reshape(
        tf.slice(kernel, [1, 1, 0, 0], [2, 2, -1, -1]), [-1, smaller]), kernel)


def small_conv2d(inputs, kernel):
    """`tf.nn.conv2d` of a 4x4 kernel with stride 2 to a small map."""
    if inputs.shape[1:3] == (2, 2):
        inner = inner_taps(kernel)
        outputs = tf.matmul(tf.reshape(inputs, [-1, inner.shape[0]]), inner)
        return tf.reshape(outputs, [-1, 1, 1, kernel.shape[3]])
    return im2col_conv2d(inputs, kernel)


def small_conv2d_transpose(inputs, kernel):
    """`tf.nn.conv2d_transpose` of a kernel [4, 4, out, in] with stride 2 of a small map."""
    if inputs.shape[1:3] == (1, 1):
        pixels = tf.reshape(inputs, [-1, inputs.shape[3]])
        return tf.reshape(tf.matmul(pixels, inner_taps(kernel), transpose_b=True),
                          [-1, 2, 2, kernel.shape[2]])
    return im2col_conv2d_transpose(inputs, kernel)


def in_fast_type(layer, inputs, kernel, map_size):
    """layer(inputs, kernel) of small maps of map_size pixels, in the inputs' type; in training in
    the kernel's where a batch is known to have few pixels: to convert a kernel and its gradient
    takes longer than the products."""
    batch = inputs.shape.as_list()[0]
    has_few = _purpose.get() == "training" and batch and batch * map_size <= FEW_PIXELS
    dtype = kernel.dtype.base_dtype if has_few else inputs.dtype
    return tf.cast(layer(tf.cast(inputs, dtype), as_type(kernel, dtype)), inputs.dtype)


# --------------------------------------------------------------------------------------------------
# Winograd: few multiplications for many channels
# --------------------------------------------------------------------------------------------------


class Winograd(NamedTuple):
    """F(results, taps): the results of a filter in one dimension from a tile of the input, by as
    many products as the tile has values (Lavin and Gray, arXiv 1509.09308, section 4.1)."""

    results: Any  # [results, products]: of products
    kernel: Any  # [products, taps]: of the filter's taps
    tile: Any  # [products, products]: of a tile


def toom_cook(points, num_taps):
    """The Winograd form whose polynomials are evaluated at points and infinity.

    Some results of a filter from a tile are the transpose of multiplying polynomials of as many
    coefficients as there are results and taps: evaluate, multiply, interpolate (Toom and Cook).
    """
    num_products = len(points) + 1
    num_results = num_products - num_taps + 1
    results, kernel, tile = (np.zeros([rows, columns]) for rows, columns in (
        (num_results, num_products), (num_products, num_taps), (num_products, num_products)))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        tile[row, :-1] = np.poly(others)[::-1]
        kernel[row] = np.power(point, range(num_taps))
        results[:, row] = np.power(point, range(num_results)) / np.prod(
            [point - other for other in others])
    tile[-1], kernel[-1, -1], results[-1, -1] = np.poly(points)[::-1], 1, 1
    return Winograd(results, kernel, tile)


F_2_4 = toom_cook((0.5, -0.5, 1.5, -1.5), 4)  # 25 products for 2x2 results, 64 without
F_3_2 = toom_cook((0.0, 1.0, -1.0), 2)  # 16 products for 3x3 results, 36 without


def both_axes(matrix):
    """A matrix [rows, columns] for rows and columns of a map: [rows * rows, columns * columns]."""
    return np.kron(matrix, matrix)


def tile_matrix(form, size, before):
    """What cuts `size` values, with zeros `before` and after them, into overlapping tiles and
    transforms these: [products, tiles, size]."""
    step, length = len(form.results), len(form.tile)
    num_tiles = math.ceil((size + 2 * before - length + step) / step)
    matrix = np.zeros([length, num_tiles, max(step * num_tiles + length, before + size)])
    for index in range(num_tiles):
        matrix[:, index, step * index:step * index + length] = form.tile
    return matrix[:, :, before:before + size]


def tiles_of(form, height, width, channels, before=0):
    """Cuts maps into transformed tiles: a function of [batch, height, width, channels] -> [products
    of both axes, all tiles, channels], and its transpose. before: zeros around a map.

    Each axis is one matrix product, which holds zeros too: slices and stacks would take longer.
    """
    rows, columns = (tile_matrix(form, size, before) for size in (height, width))
    products, num_rows, _ = rows.shape
    num_columns = columns.shape[1]

    def cut(x):
        """To tiles."""
        by_row, by_column = (tf.constant(matrix, x.dtype) for matrix in (
            rows.reshape(-1, height), columns[np.newaxis, :, np.newaxis]))
        x = tf.matmul(by_row, tf.reshape(x, [-1, height, width * channels]))
        x = tf.transpose(tf.reshape(x, [-1, products, num_rows * width * channels]), [1, 0, 2])
        x = tf.matmul(by_column, tf.reshape(x, [products, 1, -1, width, channels]))
        return tf.reshape(x, [products**2, -1, channels])

    def add(tiles):
        """Adds tiles where they overlap."""
        by_row, by_column = (tf.constant(matrix.reshape(-1, matrix.shape[2]), tiles.dtype)
                             for matrix in (rows, columns))
        x = tf.reshape(tiles, [products, products, -1, num_columns * channels])
        x = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, products * num_columns, channels])
        x = tf.matmul(by_column, x, transpose_a=True)
        x = tf.transpose(tf.reshape(x, [products, -1, num_rows * width * channels]), [1, 0, 2])
        x = tf.matmul(by_row, tf.reshape(x, [-1, products * num_rows, width * channels]),
                      transpose_a=True)
        return tf.reshape(x, [-1, height, width, channels])
    return linear(cut, add)


def results_of(form, height, width, channels, phases=1):
    """Makes maps of products: a function of [products of both axes, all tiles, phases * phases *
    channels] -> [batch, height, width, channels], and its transpose.

    phases: how many results, of filters of their own, lie side by side where one filter has one;
    then the first row and column of results lie outside of the map.
    """
    num_results, first = len(form.results), phases - 1
    num_rows, num_columns = (math.ceil((size + first) / (num_results * phases))
                             for size in (height, width))
    shape = [num_results * phases * count for count in (num_rows, num_columns)]
    matrix = both_axes(form.results)

    def place(products):
        """To maps."""
        x = tf.matmul(tf.constant(matrix, products.dtype),
                      tf.reshape(products, [matrix.shape[1], -1]))
        x = tf.reshape(x, [num_results, num_results, -1, num_columns, phases, phases * channels])
        x = tf.reshape(tf.transpose(x, [2, 0, 4, 3, 1, 5]), [-1, *shape, channels])
        return tf.slice(x, [0, first, first, 0], [-1, height, width, -1])

    def take(maps):
        """The transpose."""
        x = tf.pad(maps, [[0, 0], *([first, whole - first - size] for whole, size in
                                    zip(shape, (height, width), strict=True)), [0, 0]])
        x = tf.reshape(x, [-1, num_results, phases, num_columns, num_results, phases * channels])
        x = tf.reshape(tf.transpose(x, [1, 4, 0, 3, 2, 5]), [num_results**2, -1])
        x = tf.matmul(tf.constant(matrix, maps.dtype), x, transpose_a=True)
        return tf.reshape(x, [matrix.shape[1], -1, phases**2 * channels])
    return linear(place, take)


def winograd_conv2d(inputs, kernel):
    """`tf.nn.conv2d` of a 4x4 kernel with stride 1 and no padding, by Winograd's F(2x2, 4x4): 25
    multiplications for 2x2 outputs instead of 64.

    It pays where there are many channels: layer_4 of the discriminator does a third of a step's
    arithmetic, and the step takes 0.93 times as long in bfloat16, 0.92 in float32
    (docs/experiments). Equal to 1e-6 in float32 and to 1% in bfloat16, like oneDNN's gradients.
    """
    (height, width), (channels, out_channels) = inputs.shape[1:3], kernel.shape[2:]
    cut, _ = tiles_of(F_2_4, height, width, channels)
    place, _ = results_of(F_2_4, height - 3, width - 3, out_channels)
    transform = tf.constant(both_axes(F_2_4.kernel), kernel.dtype)
    kernel = tf.matmul(transform, tf.reshape(kernel, [16, channels * out_channels]))
    return place(tf.matmul(cut(inputs), tf.reshape(kernel, [-1, channels, out_channels])))


def taps_of_phases(kernel):
    """The filters that a kernel with stride 2 is: [4, 4, larger, smaller] -> [2, 2, 2, 2, larger *
    smaller], taps and phases of rows and columns.

    There are four of 2x2 taps, one for each phase of the larger map: of rows 0 and 2 for odd
    pixels, 1 and 3 for even ones, columns alike.
    """
    return tf.transpose(tf.reshape(kernel, [2, 2, 2, 2, -1]), [0, 2, 1, 3, 4])


def strided_kernel(kernel):
    """The transformed kernel of a layer of stride 2: [4, 4, larger, smaller] -> [16, 4 * larger,
    smaller], channels of the larger and the smaller map."""
    larger, smaller = kernel.shape[2:]

    def transform(kernel):
        """On both axes."""
        matrix = tf.constant(both_axes(F_3_2.kernel[:, ::-1]), kernel.dtype.base_dtype)
        products = tf.matmul(matrix, tf.reshape(taps_of_phases(kernel), [4, -1]))
        return tf.reshape(products, [-1, 4 * larger, smaller])
    return keep("winograd", transform, kernel)


def winograd_strided(inputs, kernel, is_transposed):
    """A 4x4 convolution with stride 2, or its transpose, by Winograd's F(3x3, 2x2): 16 products for
    3x3 pixels of the smaller map instead of 36. kernel: [4, 4, larger, smaller].

    One is the transpose of the other, so both and their gradients have the same transforms, which
    forward pass and gradients share. Equal to 2e-6 in float32 and to 1% in bfloat16.
    """
    larger, smaller = kernel.shape[2:]
    height, width = (side if is_transposed else side // 2 for side in inputs.shape[1:3])
    cut, add = tiles_of(F_3_2, height, width, smaller, before=1)
    place, take = results_of(F_3_2, 2 * height, 2 * width, larger, phases=2)
    kernel = strided_kernel(kernel)
    if is_transposed:
        return place(tf.matmul(cut(inputs), kernel, transpose_b=True))
    return add(tf.matmul(take(inputs), kernel))


# --------------------------------------------------------------------------------------------------
# Gradients' norm
# --------------------------------------------------------------------------------------------------


def global_norm(gradients):
    """`tf.linalg.global_norm`: [] float32.

    A kernel's gradient that is a product A'B over few pixels is not read again: |A'B|**2 is the sum
    of AA' * BB', whose sides are the number of pixels. A step takes 0.96 times as long in bfloat16,
    0.98 in float32 (docs/experiments). Where a gradient is not finite, neither is this.
    """
    squares = []
    for gradient in gradients:
        source = gradient
        while source.op.type in ("Cast", "Reshape", "Pad"):  # with zeros
            source = source.op.inputs[0]
        factors = [tf.cast(factor, tf.float32) for factor in source.op.inputs] \
            if source.op.type == "MatMul" and source.op.get_attr("transpose_a") else []
        if factors and (factors[0].shape[0] or math.inf) <= GRAM_MAX_PIXELS:
            grams = [tf.matmul(factor, factor, transpose_b=True) for factor in factors]
            # what rounding leaves of zero can be negative
            squares.append(tf.abs(tf.reduce_sum(grams[0] * grams[1])))
        else:
            squares.append(2 * tf.nn.l2_loss(gradient))
    return tf.sqrt(tf.add_n(squares))


# --------------------------------------------------------------------------------------------------
# Narrow: a transposed convolution to an image's few channels
# --------------------------------------------------------------------------------------------------


@with_gradient
def place_taps(inputs, kernel):
    """`tf.nn.conv2d_transpose` with stride 2 of a kernel [4, 4, out, in]: what each pixel gives to
    the 16 around it, in planes, then their sum.

    A plain convolution spends its time on few results of many channels: decoder_1 takes half as
    long in float32 (docs/experiments). Its gradients are the plain ones, which are fast.
    """
    def gradient(outputs):
        """Of the inputs and the kernel."""
        return tf.nn.conv2d(outputs, kernel, strides=2, padding="SAME"), \
            tf.nn.conv2d_backprop_filter(outputs, kernel.shape, inputs, [1, 2, 2, 1], "SAME")
    (height, width, channels), out_channels = inputs.shape[1:], kernel.shape[2]
    planes = tf.matmul(tf.reshape(taps_of_phases(kernel), [16 * out_channels, channels]),
                       tf.reshape(inputs, [-1, channels]), transpose_b=True)
    planes = tf.reshape(planes, [4, 4 * out_channels, -1, height, width])
    blocks = tf.add_n([tf.pad(planes[2 * a + b], [[0, 0], [0, 0], [a, 1 - a], [b, 1 - b]])
                       for a in (0, 1) for b in (0, 1)])  # of 2x2 pixels, the first one outside
    blocks = tf.reshape(blocks, [2, 2, out_channels, -1, height + 1, width + 1])
    outputs = tf.reshape(tf.transpose(blocks, [3, 4, 0, 5, 1, 2]),
                         [-1, 2 * height + 2, 2 * width + 2, out_channels])
    return tf.slice(outputs, [0, 1, 1, 0], [-1, 2 * height, 2 * width, -1]), gradient


# --------------------------------------------------------------------------------------------------
# Which form a layer has
# --------------------------------------------------------------------------------------------------


def fits_im2col(height, width):
    """Whether a map is known to have at most IM2COL_MAX_PIXELS pixels.

    Its layer has few pixels and many weights. There oneDNN spends its time on reordering the
    kernel, in the forward pass and for both gradients; a matrix product uses it as it is stored. A
    training step takes 0.83 times as long in float32, 0.82 in bfloat16 (docs/experiments).
    """
    return None not in (height, width) and height * width <= IM2COL_MAX_PIXELS


def machine_kind(dtype):
    """What decides how fast products are in a type: its name, with " amx" where the processor
    multiplies matrices of bfloat16 by itself; None on a GPU, whose library has forms of its own,
    and in other programs."""
    if tf1.list_gpus() or _purpose.get() == "foreign":
        return None
    has_amx = dtype.name == "bfloat16" and "amx_bf16" in tf1.processor_flags()
    return f"{dtype.name} amx" if has_amx else dtype.name


def fits_strided(height, width, channels, dtype):
    """Whether Winograd is faster in a layer of stride 2: on maps that are known not to be large,
    with many channels. channels: of the larger map * of the smaller; height, width: of the smaller.

    Where products are as fast as in bfloat16 with AMX, moving the tiles takes longer than the
    products that they save. Times by size, channels and type are in docs/experiments.
    """
    least = STRIDED_MIN_CHANNELS.get(machine_kind(dtype))
    is_inference = _purpose.get() != "training"
    return None not in (height, width) and least is not None and channels >= least[is_inference] \
        and max(height, width) <= STRIDED_MAX_SIDES[is_inference]


def fits_narrow(height, width, out_channels, dtype):
    """Whether a transposed convolution to few channels is faster by `place_taps`."""
    return None not in (height, width) and out_channels <= NARROW_MAX_CHANNELS \
        and machine_kind(dtype) in ("float32", "bfloat16")


def plain_conv2d(inputs, kernel, stride, padding):
    """`tf.nn.conv2d` in the inputs' type, but in float32 where a stride leaves one column: with AMX
    oneDNN's results and gradients are wrong there in bfloat16, up to infinity. For a foreign
    program, whose converter may not know conditions, in float32 wherever it might."""
    def convolve(dtype):
        """In a type."""
        outputs = tf.nn.conv2d(tf.cast(inputs, dtype), tf.cast(kernel, dtype), stride, padding)
        return tf.cast(outputs, inputs.dtype)
    if inputs.dtype != tf.bfloat16 or stride == 1:
        return convolve(inputs.dtype)
    widest = stride if padding == "SAME" else kernel.shape[1] + stride - 1  # that leaves one
    width = inputs.shape.as_list()[2]
    if width is None and _purpose.get() != "foreign":
        return tf.cond(tf.shape(inputs)[2] <= widest, lambda: convolve(tf.float32),
                       lambda: convolve(tf.bfloat16))
    return convolve(tf.bfloat16 if width and width > widest else tf.float32)


def conv2d(inputs, kernel, stride, padding):
    """`tf.nn.conv2d` in the inputs' type, kernel of this or float32: im2col and one matrix product
    where the result is small, Winograd with many channels."""
    (size, _, channels, out_channels), (height, width) = (
        kernel.shape, inputs.shape.as_list()[1:3])
    is_known = None not in (height, width)
    halves = (size, stride, padding) == (4, 2, "SAME") and is_known and height % 2 == width % 2 == 0
    half = [height // 2, width // 2] if halves else [None, None]
    if fits_im2col(*half):
        return in_fast_type(small_conv2d, inputs, kernel, math.prod(half))
    kernel = as_type(kernel, inputs.dtype)
    if fits_strided(*half, channels * out_channels, inputs.dtype):
        return winograd_strided(inputs, kernel, is_transposed=False)
    if (size, stride, padding) == (4, 1, "VALID") and is_known \
            and channels * out_channels >= WINOGRAD_MIN_CHANNELS:
        return winograd_conv2d(inputs, kernel)
    return plain_conv2d(inputs, kernel, stride, padding)


def doubled_shape(inputs, channels):
    """Static shape of a layer that doubles height and width, as far as they are known."""
    batch, height, width = inputs.shape.as_list()[:3]
    return [batch, height and 2 * height, width and 2 * width, channels]


def conv2d_transpose(inputs, kernel):
    """`tf.nn.conv2d_transpose` that doubles height and width, in the inputs' type, kernel [height,
    width, out, in] of this or float32: matrix products and col2im where the input is small,
    Winograd with many channels, taps placed where the result has few."""
    size, _, out_channels, channels = kernel.shape.as_list()
    height, width = inputs.shape.as_list()[1:3]
    if size == 4 and fits_im2col(height, width):
        return in_fast_type(small_conv2d_transpose, inputs, kernel, height * width)
    kernel = as_type(kernel, inputs.dtype)
    if size == 4 and fits_strided(height, width, channels * out_channels, inputs.dtype):
        return winograd_strided(inputs, kernel, is_transposed=True)
    if size == 4 and fits_narrow(height, width, out_channels, inputs.dtype):
        return place_taps(inputs, kernel)
    batch, height, width, _ = tf.unstack(tf.shape(inputs))
    outputs = tf.nn.conv2d_transpose(
        inputs, kernel, [batch, 2 * height, 2 * width, out_channels], strides=2)
    outputs.set_shape(doubled_shape(inputs, out_channels))
    return outputs
