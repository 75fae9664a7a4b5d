#!/usr/bin/env python3
"""Measures the training step against the machine's own limits and TensorFlow's pix2pix tutorial.

    python tools/benchmark.py
    python tools/benchmark.py --sizes 128 256 --batch_sizes 1 4 --ngf 32 --output bench.jsonl

All that is compared runs in one process by turns, round after round, so that what else the machine
does meets all alike. A row is a JSON line; then comes a table.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import pix2pix  # noqa: E402
from pix2pix import OneLineParser, UserError, number_type, tf, write_whole  # noqa: E402

MATRIX_SIZE = 2048  # of the product that tells the machine's rate
COPY_BYTES = 2**28
ADAM_BYTES = 28  # per weight: weight, gradient and both moments are read, all but one written
WARM_UP = 2  # rounds that are not counted


class Row(NamedTuple):
    """What was measured of one thing."""

    name: str
    size: int
    batch_size: int
    ngf: int
    steps_per_second: float  # median
    spread: float  # half the distance between the quartiles, as a share of the median
    to_keras: float  # times as fast as the tutorial's model
    to_limit: float  # share of what the machine's rates allow in this type


def create_session(build):
    """A function that runs what build() returns in a graph and session of its own."""
    graph = tf.Graph()
    with graph.as_default():
        fetches = build()
        sess = tf.Session(graph=graph, config=pix2pix.session_config())
        sess.run(tf.global_variables_initializer())
        return sess.make_callable(fetches)


def create_product(dtype):
    """A function that multiplies two large matrices."""
    def build():
        """The product's op."""
        matrix = tf.get_variable(
            "matrix", initializer=tf.cast(tf.random.stateless_normal(
                [MATRIX_SIZE, MATRIX_SIZE], seed=[1, 2]), dtype), use_resource=True)
        return tf.matmul(matrix, matrix).op
    return create_session(build)


def create_copy():
    """A function that copies COPY_BYTES."""
    source = np.ones(COPY_BYTES // 4, np.float32)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def draw_pair(options):
    """Inputs and targets [batch, size, size, 3] -1..1."""
    shape = [options.batch_size, options.crop_size, options.crop_size, 3]
    return [tf.random.stateless_uniform(shape, seed=[1, seed], minval=-1) for seed in (1, 2)]


def create_step(options):
    """A function that takes one training step of the program on a fixed batch; then its FLOP and
    number of weights."""
    work = []

    def build():
        """The step's op."""
        pictures = [tf.get_variable(f"pictures_{number}", initializer=batch, trainable=False,
                                    use_resource=True)
                    for number, batch in enumerate(draw_pair(options))]
        examples = pix2pix.Examples(tf.range(options.batch_size), *pictures)
        model = pix2pix.create_model(examples, options)
        work.extend([count_operations(model.train),
                     sum(math.prod(variable.shape.as_list())
                         for variable in tf.trainable_variables())])
        return model.train
    return create_session(build), *work


def find_needed(operation):
    """An operation and all that it needs, as session.run sees them."""
    needed, new = {operation}, [operation]
    while new:
        last = new.pop()
        more = {tensor.op for tensor in last.inputs} | {*last.control_inputs}
        new += more - needed
        needed |= more
    return needed


def count_operations(operation):
    """Floating-point operations of the convolutions and matrix products that an operation needs;
    all others together have a hundredth of them. 2 for a multiplication and an addition."""
    total = 0
    for operation in find_needed(operation):
        if operation.type == "MatMul":
            one, other = (tensor.shape.as_list() for tensor in operation.inputs)
            inner = one[0] if operation.get_attr("transpose_a") else one[1]
            total += 2 * inner * math.prod(operation.outputs[0].shape.as_list())
        elif operation.type.startswith("Conv2D"):
            # where the kernel is, and the smaller of the two pictures: each of its pixels meets
            # all weights once
            backward = operation.type != "Conv2D"
            smaller = operation.inputs[2] if backward else operation.outputs[0]
            kernel = operation.outputs[0] if operation.type == "Conv2DBackpropFilter" \
                else operation.inputs[1]
            total += 2 * math.prod(kernel.shape.as_list()) * math.prod(smaller.shape.as_list()[:3])
    return total


def create_tutorial(options):
    """A function that takes one training step of the tutorial's model."""
    import tensorflow
    from keras_baseline import create_step as create_keras_step  # beside this file
    step = create_keras_step(options.crop_size, options.ngf, options.ndf)
    with tensorflow.init_scope():
        pair = draw_pair(options)
    return lambda: step(*pair).numpy()


def measure(functions, num_rounds):
    """Name -> seconds of each round, of functions called by turns."""
    seconds = {name: [] for name in functions}
    for number in range(WARM_UP + num_rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(options, num_rounds):
    """Rows of the program in each type and of the tutorial, at one size; the rates as a dict."""
    types = ["float32", "bfloat16"]
    functions = {f"product {name}": create_product(name) for name in types}
    functions["copy"] = create_copy()
    for name in types:
        step, num_operations, num_weights = create_step(
            pix2pix.with_options(options, precision=name))
        functions[name] = step
    functions["keras"] = create_tutorial(options)
    seconds = measure(functions, num_rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rates = {name: 2 * MATRIX_SIZE**3 / medians[f"product {name}"] for name in types}
    rates["copy"] = 2 * COPY_BYTES / medians["copy"]
    rows = []
    for name in (*types, "keras"):
        limit = num_operations / rates[name.replace("keras", "float32")] \
            + ADAM_BYTES * num_weights / rates["copy"]
        low, _, high = statistics.quantiles(seconds[name], n=4)
        rows.append(Row(name, options.crop_size, options.batch_size, options.ngf,
                        1 / medians[name], (high - low) / 2 / medians[name],
                        medians["keras"] / medians[name], limit / medians[name]))
    return rows, {"operations": num_operations, "weights": num_weights, **rates}


def format_table(rows):
    """The rows as a Markdown table."""
    head = "| step | size | batch | ngf | steps/s | spread | to Keras | to the limit |"
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    lines += [f"| {row.name} | {row.size} | {row.batch_size} | {row.ngf} "
              f"| {row.steps_per_second:.2f} | {row.spread:.0%} | {row.to_keras:.2f} "
              f"| {row.to_limit:.0%} |" for row in rows]
    return "\n".join(lines)


def create_parser():
    """The command line."""
    count = number_type(int, 1)
    parser = OneLineParser(prog="benchmark.py", description=__doc__.split("\n\n", 1)[0],
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--sizes", type=number_type(int, 32, 4096), nargs="+", default=[256],
        help="heights and widths of pictures")
    add("--batch_sizes", type=count, nargs="+", default=[1], help="pictures in a step")
    add("--ngf", type=count, default=64, help="filters in both networks' first layers")
    add("--rounds", type=number_type(int, 2), default=10, help="times that everything has its turn")
    add("--output", help="file for the JSON lines; left out: none")
    return parser


def run(options):
    """Measures and prints; returns the exit code."""
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as folder:  # parse_args wants one; nothing is written
        for size in options.sizes:
            for batch_size in options.batch_sizes:
                model = pix2pix.parse_args([
                    "--mode", "train", "--input_dir", folder, "--output_dir", f"{folder}/none",
                    "--seed", "1", "--crop_size", str(size), "--batch_size", str(batch_size),
                    "--ngf", str(options.ngf), "--ndf", str(options.ngf)])
                new, rates = compare(model, options.rounds)
                rows += new
                lines += [json.dumps({**row._asdict(), **rates}) for row in new]
                print("\n".join(lines[-len(new):]), flush=True)
    if options.output:
        write_whole(options.output, ("\n".join(lines) + "\n").encode())
    print(format_table(rows))
    return 0


def main(argv=None):
    """Runs the tool; returns its exit code: 0, 2 or 130."""
    try:
        return run(create_parser().parse_args(argv))
    except UserError as error:
        print(f"benchmark.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
