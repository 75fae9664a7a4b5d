"""The generator on images that do not fit in memory: a layer at a time, each in strips of rows.

A strip of a layer follows from the rows that it sees: its own and a halo above and below, whose
results are dropped. At the image's edge there is no halo: the layer pads as it always does. The
norm needs the statistics of the whole image, so a layer is first convolved, strip by strip, and
normalized when the moments of all its strips are known. The outputs are those of the whole image,
up to rounding. Only results of layers stay in memory, each strip until its last reader has passed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tools.lib import tf1
from tools.lib.cli import number_type
from tools.lib.tf1 import tf


def add_options(add):
    """--tile."""
    add("--tile", type=number_type(int, 0), default=0,
        help="use the model on images of any size in little memory: in strips of so many rows, at "
             "the images' own size; 0: whole images")


# --------------------------------------------------------------------------------------------------
# The generator as a list of layers, each with a graph of its own
# --------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """A layer and the maps that it reads: map 0 is the image, map n the result of the n-th layer.
    """

    scope: str  # of its variables
    stream: int  # of its dropout's draws
    row: Any  # of the GeneratorTable
    inputs: tuple  # maps that it takes, joined by channel
    upward: bool = False  # larger by its stride, else smaller
    added: tuple = ()  # the map that is added to the result, if any
    last: Any = None  # function of the result that ends it, if any
    graph: Any = None  # StripGraph

    @property
    def rows_in(self):
        """Rows of its inputs for each row of the smaller map, inputs or result."""
        return 1 if self.upward else self.row.stride

    @property
    def rows_out(self):
        """Rows of its result for each row of the smaller map."""
        return self.row.stride if self.upward else 1

    @property
    def halo(self):
        """How far it sees up and down, in rows of the smaller map."""
        return -(-(self.row.kernel_size // 2) // self.row.stride)


class StripGraph(NamedTuple):
    """What computes a strip of a layer: convolution of inputs, then the rest of `convolved`."""

    inputs: list  # placeholders [1, rows with halo, width, channels]
    kept: Any  # placeholder [2] int32: where the strip begins and ends in the results with halo
    convolved: Any  # [1, rows, width, channels], which is fed when the moments are known
    row_moments: list  # mean and variance of its rows [1, rows, 1, channels]; [] without a norm
    image_moments: list  # placeholders for those of the whole image [1, 1, 1, channels]
    added: list  # placeholder [1, rows, width, channels], if any
    result: Any  # [1, rows, width, channels]
    draws: bool  # whether it has dropout, whose draws are those of a whole map


class Generator(NamedTuple):
    """A generator in strips, in a graph of which `run` runs what comes before and after it."""

    inputs: Any  # [1, height, width, in_channels] -1..1
    outputs: Any  # placeholder [1, height, width, out_channels] -1..1, float32
    layers: list


def list_layers(table):
    """The Layers of a GeneratorTable in their order, connected as in `create_generator`."""
    layers = [Layer(f"encoder_{number}", number, row, inputs=(number - 1,))
              for number, row in enumerate(table.encoder, 1)]
    if table.num_blocks:
        layers[-1] = layers[-1]._replace(last=tf.nn.relu)
    for number in range(1, table.num_blocks + 1):
        before = len(layers)
        layers += [Layer(f"block_{number}/layer_{part}", number, row, inputs=(before + part - 1,))
                   for part, row in enumerate(table.block, 1)]
        layers[-1] = layers[-1]._replace(added=(before,))
    for number, row in zip(range(len(table.decoder), 0, -1), table.decoder, strict=True):
        skip = (number,) if table.skips and number < len(table.decoder) else ()
        layers.append(Layer(f"decoder_{number}", number, row, (len(layers), *skip), upward=True))
    layers[-1] = layers[-1]._replace(last=lambda x: tf.tanh(tf.cast(x, tf.float32)))
    return layers


def build_strip(layer, in_channels, out_channels, apply_row, choose_layers, dtype, dropout_key):
    """The StripGraph of a Layer. in_channels: of each of its inputs."""
    inputs = [tf.placeholder(dtype, [1, None, None, channels]) for channels in in_channels]
    kept = tf.placeholder(tf.int32, [2])
    convolved, row_moments, image_moments = [], [], []

    def drop_halo(convolution):
        """The convolution without the rows that belong to the strip's neighbours."""
        def convolve(*arguments):
            """The strip."""
            convolved.append(convolution(*arguments)[:, kept[0]:kept[1]])
            return convolved[0]
        return convolve

    def find_moments(x):
        """What the norm uses: the moments of the whole image."""
        row_moments.extend(tf.nn.moments(x, axes=[2], keepdims=True))
        image_moments.extend(tf.placeholder(tf.float32, [1, 1, 1, x.shape[3]]) for _ in row_moments)
        return image_moments

    layers = choose_layers(find_moments)
    layers = layers._replace(conv=drop_halo(layers.conv), deconv=drop_halo(layers.deconv))
    with tf.variable_scope(layer.scope):
        result = apply_row(tf.concat(inputs, axis=3), layer.row, out_channels, layers, dropout_key,
                           layer.stream, layer.upward)
    added = [tf.placeholder(dtype, [1, None, None, out_channels]) for _ in layer.added]
    result = tf.add_n([result, *added])
    result = layer.last(result) if layer.last else result
    return StripGraph(inputs, kept, convolved[0], row_moments, image_moments, added, result,
                      draws=layer.row.dropout > 0 and dropout_key is not None)


def build_generator(inputs, out_channels, ngf, table, apply_row, choose_layers, dropout_key=None):
    """The Generator of a GeneratorTable, in the variable scope of its layers.

    inputs: [1, height, width, channels] -1..1, of the type in which layers compute. choose_layers:
    function of what gives the norms their moments -> Layers. dropout_key: DrawKey; None: no
    dropout.
    """
    widths, layers = [inputs.shape[3]], []
    for layer in list_layers(table):
        widths.append(out_channels if layer.row.width is None else ngf * layer.row.width)
        graph = build_strip(layer, [widths[source] for source in layer.inputs], widths[-1],
                            apply_row, choose_layers, inputs.dtype, dropout_key)
        layers.append(layer._replace(graph=graph))
    return Generator(inputs, tf.placeholder(tf.float32, [1, None, None, out_channels]), layers)


# --------------------------------------------------------------------------------------------------
# Running it
# --------------------------------------------------------------------------------------------------


def session_config():
    """As that of tf1, for a session in which `run` runs."""
    config = tf1.session_config()
    config.inter_op_parallelism_threads = 1  # operations that run side by side take more memory
    # graphs are optimized for each new pair of fetches and feeds: for a second at each layer
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


class FeatureMap:
    """What a layer makes of an image, in strips [1, rows, width, channels]."""

    def __init__(self, strips):
        self.strips = list(strips)
        self.top = 0  # row at which the first of them begins
        self.height = sum(strip.shape[1] for strip in self.strips)

    def read(self, first, last):
        """The rows from first to last, exclusive: [1, rows, width, channels]."""
        parts, start = [], self.top
        for strip in self.strips:
            part = strip[:, max(first - start, 0):max(last - start, 0)]
            parts += [part] if part.shape[1] else []
            start += strip.shape[1]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def free(self, row):
        """Forgets the strips above a row."""
        while self.strips and self.top + self.strips[0].shape[1] <= row:
            self.top += self.strips.pop(0).shape[1]


class RecomputedMap:
    """The result of a U-Net's first layer, which is computed wherever it is read: that is quick,
    and it is as large as all others that need be in memory at a time."""

    def __init__(self, run, layer, image):
        self.run, self.layer, self.image = run, layer, image
        self.height = image.height // layer.row.stride

    def read(self, first, last):
        """As that of FeatureMap."""
        return convolve_strip(self.run, self.layer, [self.image], first, last)[0]

    def free(self, row):
        """There is nothing to forget."""


def is_recomputed(layer):
    """Whether a layer is only a convolution of the image."""
    graph = layer.graph
    return layer.inputs == (0,) and not (graph.row_moments or graph.draws or layer.last)


def combine_moments(moments):
    """Mean and variance of a map from those of its rows. moments: of each strip."""
    # in float64: a sum of a million values in float32 has four digits
    means, variances = np.concatenate(moments, axis=2, dtype=np.float64)
    mean = means.mean(axis=1, keepdims=True)
    return mean, (variances + (means - mean) ** 2).mean(axis=1, keepdims=True)


def convolve_strip(run, layer, inputs, first, last):
    """Rows first to last of a layer, in rows of the smaller of its maps, before its norm: the
    strip, and the moments of its rows."""
    graph, halo, into, out = layer.graph, layer.halo, layer.rows_in, layer.rows_out
    low, high = max(first - halo, 0), min(last + halo, inputs[0].height // into)
    feeds = {graph.kept: [(first - low) * out, (last - low) * out]}
    for placeholder, source in zip(graph.inputs, inputs, strict=True):
        feeds[placeholder] = source.read(low * into, high * into)
    return run([graph.convolved, graph.row_moments], feeds)


def convolve(run, layer, inputs, spent, strip_rows):
    """A layer before its norm, as a FeatureMap, and the moments that its norm uses.

    spent: those of the inputs that no later layer reads.
    """
    height, step = inputs[0].height // layer.rows_in, max(strip_rows // layer.row.stride, 1)
    strips, moments = [], []
    for first in range(0, height, step):
        last = min(first + step, height)
        strip, row_moments = convolve_strip(run, layer, inputs, first, last)
        strips.append(strip.copy())  # TensorFlow does not give memory back that it once held
        moments.append(row_moments)
        for source in spent:
            source.free((last - layer.halo) * layer.rows_in)
    return FeatureMap(strips), combine_moments(moments) if layer.graph.row_moments else []


def finish(run, graph, convolved, moments, added):
    """What follows a layer's convolution: the FeatureMap after norm, dropout and addition."""
    strips = [convolved.read(0, convolved.height)] if graph.draws else convolved.strips
    feeds, first = dict(zip(graph.image_moments, moments, strict=True)), 0
    for index, strip in enumerate(strips):
        last = first + strip.shape[1]
        for placeholder, source in zip(graph.added, added, strict=True):
            feeds[placeholder] = source.read(first, last)
        strips[index] = run(graph.result, {**feeds, graph.convolved: strip}).copy()
        first = last
    return FeatureMap(strips)


def generate(run, layers, image, strip_rows):
    """What the last of `layers` makes of an image, both [1, height, width, channels] -1..1.

    run: function of fetches and feeds, as a session's. strip_rows: the most rows of a layer that
    are computed at a time, of its inputs or outputs, whichever is the larger.
    """
    maps = {0: FeatureMap([image])}
    last_reader = {source: number for number, layer in enumerate(layers, 1)
                   for source in (*layer.inputs, *layer.added)}
    for number, layer in enumerate(layers, 1):
        done = [source for source in maps if last_reader[source] == number]
        spent = [maps[source] for source in done if source not in layer.added]
        inputs, added = ([maps[source] for source in sources]
                         for sources in (layer.inputs, layer.added))
        if is_recomputed(layer):
            maps[number] = RecomputedMap(run, layer, *inputs)
        else:
            maps[number] = finish(run, layer.graph,
                                  *convolve(run, layer, inputs, spent, strip_rows), added)
        for source in done:
            del maps[source]
    result = maps[len(layers)]
    return result.read(0, result.height)


def run(sess, generator, fetches, strip_rows, once=(), feeds=None):
    """The values of fetches, tensors that follow from a Generator's outputs. strip_rows: as in
    `generate`.

    once: nested tensors that are computed once, such as the next images of an iterator: what they
    are before the generator they are after it.
    """
    once = [*tf.nest.flatten(once), generator.inputs]
    known = dict(feeds or {})
    known.update(zip(once, sess.run(once, known), strict=True))
    known[generator.outputs] = generate(lambda fetches, more: sess.run(fetches, {**known, **more}),
                                        generator.layers, known[generator.inputs], strip_rows)
    return sess.run(fetches, known)
