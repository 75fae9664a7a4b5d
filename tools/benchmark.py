#!/usr/bin/env python3
"""Measures the program against the machine's own limits and other programs.

    python tools/benchmark.py
    python tools/benchmark.py --what step train --sizes 128 256 --batch_sizes 1 4 --ngf 32
    python tools/benchmark.py --what test memory --input_dir facades/val --output bench.jsonl
    python tools/benchmark.py --what step network --rounds 8

The other programs are TensorFlow's pix2pix tutorial and, where they are installed, PyTorch, ONNX
Runtime and OpenVINO. Everything that is compared runs interleaved, round after round, so that other
load on the machine affects all of it the same. Prints a JSON line per row, then a table of each
group.

Read from the top: contestants and rows, the machine, the peers, the step, what a step costs, input
and files, extras, programs, the network, serving, devices, command line.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import functools
import http.client
import importlib
import io
import json
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "PIL", "isal", "tensorflow", "tqdm")
    cli.use_huge_pages()

import numpy as np
from PIL import Image

import pix2pix
from tools.lib import cluster, fast_conv, runtimes, tf1
from tools.lib.checkpoints import CheckpointManager, load_variables, open_checkpoint
from tools.lib.cli import (
    UserError, describe_error, number_type, quiet_stderr, say, warn, with_options)
from tools.lib.dataset import ImageList
from tools.lib.files import unique_names, write_atomic
from tools.lib.image_files import find_images, require_images
from tools.lib.monitor import TrainingMonitor
from tools.lib.run_folder import prepare_run
from tools.lib.run_log import RunLog
from tools.lib.schedule import MONITOR_FREQ, Due, Progress
from tools.lib.tf1 import fast_precision, session_config, tf
from tools.lib.validation import Validator, choose_samples, with_metric

EXAMPLES = """\
  python tools/benchmark.py
  python tools/benchmark.py --what step train --sizes 128 256 --batch_sizes 1 4 --ngf 32"""
ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
PRECISIONS = ("float32", "bfloat16")

# --------------------------------------------------------------------------------------------------
# Contestants and rows
# --------------------------------------------------------------------------------------------------

SMALLER_IS_BETTER = ("s", "MB")


class Work(NamedTuple):
    """The least that one step or image asks of the machine."""

    precision: str  # of the operations
    operations: int  # floating-point
    num_bytes: int  # read and written


class Contestant(NamedTuple):
    """One of the things that are compared."""

    name: str
    turn: Any  # function without arguments -> a measured value, in `unit`, or Answers or Taken
    unit: str
    baseline: str | None = None  # name of the contestant to compare with
    work: Work | None = None  # of one unit


class Answers(NamedTuple):
    """What was measured while threads asked for images, one after the other in each."""

    rate: float  # images per second, of all threads
    latencies: list  # seconds that each image took
    client: float  # seconds of CPU time that an image took in the asking thread


class Taken(NamedTuple):
    """What a program says of a training step that it has taken on its devices."""

    seconds: float
    megabytes: float | None  # that passed the loopback interface meanwhile, of all programs
    megabytes_sent: float  # between the machines of a cluster, by arithmetic
    first_seconds: float  # to build the graph and take the first step
    checksum: str  # of all variables after the second step


class Row(NamedTuple):
    """What was measured of one contestant; None where it does not apply."""

    what: str  # the group
    name: str
    size: int  # height and width of the images
    batch_size: int  # of the training step
    ngf: int
    median: float
    unit: str
    spread: float  # half the distance between the quartiles, as a share of the median
    to_baseline: float | None  # times as fast, or as small
    to_limit: float | None  # share of what the machine's rates allow
    to_step: float | None  # times as many pairs as a training step takes
    operations: int | None  # those of Work
    num_bytes: int | None
    latency: float | None  # median of all images' in all Answers, in milliseconds
    latency_99: float | None  # that 99% of them do not exceed
    client: float | None  # CPU time in the asking thread, median of all Answers, in milliseconds
    parts: int = 1  # of the training step
    first_seconds: float | None = None  # those of Taken
    megabytes_sent: float | None = None
    megabytes: float | None = None  # median of all Taken
    checksum: str | None = None
    same_bits: bool | None = None  # whether the baseline has the same checksum


def per_second(function, times=1, amount=1):
    """A function that calls another `times` times, each of which does `amount`, and returns the
    amount per second."""
    def timed():
        """The amount per second."""
        start = time.perf_counter()
        for _ in range(times):
            function()
        return times * amount / (time.perf_counter() - start)
    return timed


def measure(contestants, num_rounds, warm_up):
    """Name -> what each round measured of the contestants, which take turns; the rounds of
    `warm_up` come first and do not count."""
    values = {contestant.name: [] for contestant in contestants}
    for number in range(warm_up + num_rounds):
        for contestant in contestants:
            value = contestant.turn()
            if number >= warm_up:
                values[contestant.name].append(value)
    return values


def summarize_latencies(answers):
    """Latency, its 99% and the client's time, as in Row, of the Answers of all rounds."""
    latencies = [1000 * seconds for turn in answers for seconds in turn.latencies]
    return (statistics.median(latencies),
            statistics.quantiles(latencies, n=100, method="inclusive")[-1],
            1000 * statistics.median(turn.client for turn in answers))


def summarize_steps(steps, baseline):
    """Fields of a Row, by name, of a contestant's Taken and those of its baseline."""
    megabytes = [step.megabytes for step in steps]
    return {"first_seconds": steps[0].first_seconds, "megabytes_sent": steps[0].megabytes_sent,
            "megabytes": None if None in megabytes else statistics.median(megabytes),
            "checksum": steps[0].checksum,
            "same_bits": steps[0].checksum == baseline[0].checksum}


def make_rows(what, contestants, values, model):
    """The Rows of contestants from the values of `measure`. model: Options."""
    answers = {name: found for name, found in values.items() if isinstance(found[0], Answers)}
    steps = {name: found for name, found in values.items() if isinstance(found[0], Taken)}
    values = {**values, **{name: [turn.rate for turn in found] for name, found in answers.items()},
              **{name: [turn.seconds for turn in found] for name, found in steps.items()}}
    medians = {name: statistics.median(found) for name, found in values.items()}
    rows = []
    for name, _, unit, baseline, work in contestants:
        low, _, high = statistics.quantiles(values[name], n=4)
        to_baseline = medians[name] / medians[baseline] if baseline else None
        rows.append(Row(
            what, name, model.crop_size, model.batch_size, model.ngf, medians[name], unit,
            (high - low) / 2 / abs(medians[name]),
            1 / to_baseline if baseline and unit in SMALLER_IS_BETTER else to_baseline,
            medians[name] * least_seconds(work, medians) if work else None,
            medians[name] / medians["step"] if unit == "pairs/s" else None,
            *(work[1:] if work else (None, None)),
            *(summarize_latencies(answers[name]) if name in answers else (None, None, None)),
            parts=model.grad_accumulation,
            **(summarize_steps(steps[name], steps[baseline]) if name in steps else {})))
    return rows


# --------------------------------------------------------------------------------------------------
# The machine
# --------------------------------------------------------------------------------------------------

MATRIX_SIZE = 2048  # of the product that measures the machine's rate
COPY_BYTES = 2**28


def create_session(build):
    """A function that runs what build() returns in a graph and session of its own."""
    graph = tf.Graph()
    with graph.as_default():
        fetches = build()
        sess = tf.Session(graph=graph, config=session_config())
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


def machine_contestants():
    """The machine's rates, under the names that least_seconds looks for."""
    product = 2 * MATRIX_SIZE**3 / 1e9
    return [*(Contestant(f"product {name}", per_second(create_product(name), amount=product),
                         "GFLOP/s") for name in PRECISIONS),
            Contestant("copy", per_second(create_copy(), amount=2 * COPY_BYTES / 1e9), "GB/s")]


def least_seconds(work, medians):
    """How long some Work takes at the machine's rates, which are among the medians."""
    return work.operations / (medians[f"product {work.precision}"] * 1e9) \
        + work.num_bytes / (medians["copy"] * 1e9)


def keras_tutorial():
    """keras_baseline.py, imported quietly at first use: TensorFlow takes seconds."""
    with quiet_stderr():
        return importlib.import_module("tools.keras_baseline")


# --------------------------------------------------------------------------------------------------
# The peers: other programs, where they are installed
# --------------------------------------------------------------------------------------------------

TORCH = {f"torch {precision}": ("torch",) for precision in PRECISIONS}  # name -> its packages
COMPILED = "torch.compile"
TORCH_WARM_UP = 5  # calls before the rounds: a new process takes its first steps more slowly


@functools.cache
def warn_once(line):
    """Of what is missing, however many models are measured without it."""
    warn(line)


def installed(needed):
    """Those of some names whose packages are installed; says how to install the others."""
    names, lines = runtimes.find_installed(needed)
    for line in lines:
        warn_once(line)
    return names


def compiled_torch():
    """The names of torch.compile's contestants; none where it cannot work, and says so where
    PyTorch is installed."""
    if not runtimes.is_installed("torch"):
        return []
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        warn_once(f"leaving out {COMPILED}: it needs a C++ compiler: install {compiler}")
        return []
    return [f"{COMPILED} {precision}" for precision in PRECISIONS]


def precision_of(name):
    """What a contestant computes in: its name ends with it, where that is not float32."""
    return name.split()[-1] if name.split()[-1] in PRECISIONS else "float32"


def start_program(code, programs):
    """Starts a Python program in tools/, for `ask_program`. programs: ExitStack that ends it."""
    process = programs.enter_context(subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, cwd=TOOLS))
    programs.callback(process.kill)
    return process


def ask_program(process, line, what):
    """Writes a line to a program and returns the first JSON object that it prints then. Raises
    UserError where it ends before; what: that failed then."""
    with contextlib.suppress(BrokenPipeError):  # then its output says why
        os.write(process.stdin.fileno(), f"{line}\n".encode())
    lines = []
    for answer in process.stdout:
        lines.append(answer)
        if answer.startswith("{"):
            return json.loads(answer)
    raise UserError(f"{what} failed: {(lines or ['its program was killed'])[-1].strip()}")


def start_torch(what, names, model, programs):
    """Name -> function of a number of calls to the seconds that they take, of contestants of
    torch_baseline.py in a program of their own: what PyTorch loads can end a process that has
    loaded TensorFlow. what: "step" or "network"; programs: ExitStack."""
    if not names:
        return {}
    code = "import torch_baseline; torch_baseline.take_turns" \
        f"{(what, names, model.crop_size, model.batch_size, model.ngf, model.ndf)!r}"
    process = start_program(code, programs)

    def take(name, times):
        """Seconds."""
        return ask_program(process, json.dumps([name, times]), f"{what}: {name}")["seconds"]
    for name in names:  # waits until all are ready: no other program is measured beside that
        take(name, TORCH_WARM_UP)
    return {name: functools.partial(take, name) for name in names}


def conclude_peers(rows):
    """Lines: how the program compares with the fastest other program in each precision, and its
    exports with its own network."""
    lines, models = [], {(row.size, row.batch_size, row.ngf) for row in rows}
    for size, batch_size, ngf in sorted(models):
        medians = {row.name: row.median for row in rows if row.unit in ("steps/s", "images/s")
                   and (row.size, row.batch_size, row.ngf) == (size, batch_size, ngf)}
        exports = [name for name in EXPORTS if name in medians]
        model = f"{size}x{size}, batch {batch_size}, ngf {ngf}"
        for precision in PRECISIONS:
            compiled = f"{COMPILED} {precision}"
            peers = [name for name in medians if precision_of(name) == precision
                     and name not in (*PRECISIONS, *exports, compiled)]
            best = max(peers, key=medians.get, default=None)
            lines += [f"{model}, {precision}: {medians[precision] / medians[name]:.2f} times {text}"
                      for name, text in ((best, f"the fastest other program, {best}"),
                                         (compiled, compiled)) if name in medians]
        lines += [f"{model}, {name}: {medians[name] / medians['float32']:.0%} of the network in "
                  "float32" for name in exports]
    return lines


# --------------------------------------------------------------------------------------------------
# The step: from a fixed batch in memory
# --------------------------------------------------------------------------------------------------

ADAM_BYTES = 28  # per weight: weight, gradient and both moments are read, all but one written


def draw_pair(options):
    """Inputs and targets [batch, size, size, 3] -1..1."""
    shape = [options.batch_size, options.crop_size, options.crop_size, 3]
    return [tf.random.stateless_uniform(shape, seed=[1, seed], minval=-1) for seed in (1, 2)]


def draw_arrays(options):
    """`draw_pair` as arrays."""
    with tf.Graph().as_default(), tf.Session() as sess:
        return sess.run(draw_pair(options))


def keep_batch(options):
    """Examples that are always the same batch."""
    images = [tf.get_variable(f"images_{number}", initializer=batch, trainable=False,
                                use_resource=True)
                for number, batch in enumerate(draw_pair(options))]
    return pix2pix.Examples(tf.range(options.batch_size), *images)


def create_step(options, create_examples=keep_batch):
    """A function that takes one training step of the program on what create_examples(options)
    gives."""
    return create_session(lambda: pix2pix.create_model(create_examples(options), options).train)


def find_work(options):
    """The Work of one training step in float32: plain convolutions' operations, and Adam's bytes.
    """
    with tf.Graph().as_default(), mock.patch.multiple(
            fast_conv, WINOGRAD_MIN_CHANNELS=math.inf, STRIDED_MIN_CHANNELS={}):
        step = pix2pix.create_model(keep_batch(options), options).train
        num_weights = sum(math.prod(variable.shape.as_list())
                          for variable in tf.trainable_variables())
        return Work("float32", count_operations(step), ADAM_BYTES * num_weights)


def create_tutorial(model):
    """A function that takes one training step of the tutorial's model, on a fixed batch."""
    import tensorflow
    step = keras_tutorial().create_step(model.crop_size, model.ngf, model.ndf)
    with tensorflow.init_scope():
        pair = draw_pair(model)
    return lambda: step(*pair).numpy()


def compete(functions, times, work, unit, amount=1, programs=None):
    """The machine's rates as contestants; then functions by `precision_of`'s names, each called so
    many times in a turn, of which "keras" is the baseline. amount: as in `per_second`; programs:
    name -> function as `start_torch` gives."""
    turns = {name: per_second(function, times, amount) for name, function in functions.items()}
    turns |= {name: lambda take=take: times * amount / take(times)
              for name, take in (programs or {}).items()}
    return machine_contestants() + [
        Contestant(name, turn, unit, "keras", work._replace(precision=precision_of(name)))
        for name, turn in turns.items()]


def step_contestants(model, files, _options):
    """A step in each precision, the tutorial's, and PyTorch's."""
    steps = {name: create_step(with_options(model, precision=name)) for name in PRECISIONS}
    steps["keras"] = create_tutorial(model)
    return compete(steps, 1, find_work(model), "steps/s",
                   programs=start_torch("step", installed(TORCH), model, files.programs))


# --------------------------------------------------------------------------------------------------
# What a step costs, counted in its graph
# --------------------------------------------------------------------------------------------------

# passes a tensor on unchanged or reads its shape; calls, whose functions are counted instead
MOVES_NOTHING = {
    "Const", "Identity", "IdentityN", "StopGradient", "PreventGradient", "Placeholder", "NoOp",
    "Reshape", "Squeeze", "ExpandDims", "Shape", "ShapeN", "Size", "Rank", "ConcatOffset",
    "BroadcastGradientArgs", "InvertPermutation", "VarHandleOp", "ReadVariableOp", "If",
    "StatelessIf", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"}
READS_A_PART = {"Slice", "StridedSlice", "Gather", "GatherV2"}  # of the input, as large as it gives
# how often something as large as its last input is read or written when a variable changes;
# Adam reads and writes the weights and both moments, 28 bytes for each weight
PASSES = {"AssignVariableOp": 2, "AssignAddVariableOp": 3, "AssignSubVariableOp": 3,
          "ResourceApplyAdam": 7}


def inner_operations(operation):
    """The operations of the functions that an operation calls: of both branches of a condition, of
    which one is taken; of a loop's body once, however often it runs."""
    names = [value.func.name for value in operation.node_def.attr.values() if value.func.name]
    # _get_function has no public name; the definitions that have one lack shapes
    graphs = [operation.graph._get_function(name).graph for name in names]
    return {inner for graph in graphs for inner in graph.get_operations()}


def find_needed(operation):
    """An operation and all that it needs, as session.run sees them, inside functions too."""
    needed, new = {operation}, [operation]
    while new:
        last = new.pop()
        more = {tensor.op for tensor in last.inputs} | {*last.control_inputs} \
            | inner_operations(last)
        new += more - needed
        needed |= more
    return needed


def count_operations(operation):
    """Floating-point operations of the convolutions and matrix products that an operation needs;
    all others together have a hundredth of them. A multiply-add counts as 2."""
    total = 0
    for operation in find_needed(operation):
        if operation.type in ("MatMul", "BatchMatMulV2"):
            flag = "transpose_a" if operation.type == "MatMul" else "adj_x"
            inner = operation.inputs[0].shape[-2 if operation.get_attr(flag) else -1]
            total += 2 * inner * math.prod(operation.outputs[0].shape.as_list())
        elif operation.type.startswith("Conv2D"):
            # the kernel, and the smaller of the two maps: each of its pixels meets all weights
            # once
            backward = operation.type != "Conv2D"
            smaller = operation.inputs[2] if backward else operation.outputs[0]
            kernel = operation.outputs[0] if operation.type == "Conv2DBackpropFilter" \
                else operation.inputs[1]
            total += 2 * math.prod(kernel.shape.as_list()) * math.prod(smaller.shape.as_list()[:3])
    return total


def bytes_of(tensors):
    """Bytes of tensors; those of unknown shape, which norms pass to their gradients, count as 0."""
    return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors
               if tensor.shape.is_fully_defined())


def count_bytes(operation):
    """Bytes that an operation and all that it needs read and write, as if each read its inputs from
    memory and wrote its outputs there."""
    total = 0
    for operation in find_needed(operation):
        if operation.type in PASSES:
            total += PASSES[operation.type] * bytes_of([operation.inputs[-1]])
        elif operation.type in READS_A_PART:
            total += 2 * bytes_of(operation.outputs)
        elif operation.type not in MOVES_NOTHING:
            total += bytes_of([*operation.inputs, *operation.outputs])
    return total


# --------------------------------------------------------------------------------------------------
# Input and files
# --------------------------------------------------------------------------------------------------

NUM_DRAWN = 16  # images
STEPS_IN_TURN = 8  # prefetched batches are soon used up
PAIRS_IN_TURN = 256  # at least; whole epochs, since the tutorial's shuffle reads ahead in each
NOISE = 8  # levels, in drawn images: gives files the size of the facades'


class Files(NamedTuple):
    """The folders that contestants work with."""

    pairs: Path
    work: Path  # for all files created; removed at the end
    programs: Any = None  # ExitStack of the programs that contestants need; ended with their group


def draw_image(path, width, height, seed):
    """Writes a JPEG file with about as many bytes per pixel as the facades have."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, [height // 16, width // 16, 3], np.uint8))
    smooth = np.asarray(coarse.resize([width, height], Image.Resampling.BICUBIC))
    noisy = smooth + random.normal(0, NOISE, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def draw_folder(folder, width, height, count):
    """Draws `count` images into a new folder and returns it."""
    folder.mkdir()
    for number in range(count):
        draw_image(folder / f"{number:04}.jpg", width, height, number)
    return folder


def fill_folder(folder, source, count):
    """Copies the images of a folder into another, repeatedly, until there are `count`; returns the
    folder."""
    if not folder.exists():
        images = find_images(source)
        folder.mkdir()
        for number in range(count):
            image = images[number % len(images)]
            shutil.copy(image, folder / f"{number:04}{image.suffix}")
    return folder


def read_examples(options):
    """The program's examples from --input_dir."""
    paths = find_images(options.input_dir)
    return pix2pix.create_examples(ImageList([(path,) for path in paths], []), options)


def read_tutorial(model):
    """The tutorial's batches from --input_dir, without end."""
    return iter(keras_tutorial().create_input(model.input_dir, model.crop_size, model.batch_size))


def train_contestants(model, _files, _options):
    """Steps from files in each precision, and the tutorial's."""
    steps = {name: create_step(with_options(model, precision=name), read_examples)
             for name in PRECISIONS}
    batches = read_tutorial(model)
    step = keras_tutorial().create_step(model.crop_size, model.ngf, model.ndf)
    return compete({**steps, "keras": lambda: step(*next(batches)).numpy()}, STEPS_IN_TURN,
                   find_work(model), "steps/s")


def input_contestants(model, _files, _options):
    """The program's examples and the tutorial's, without a step; then the step, in pairs too."""
    def build():
        """The op of a batch."""
        return tf.group(*read_examples(model))
    num_pairs = len(find_images(model.input_dir))
    times = math.ceil(PAIRS_IN_TURN / num_pairs) * num_pairs // model.batch_size
    batches = read_tutorial(model)
    step = create_step(with_options(model, precision=fast_precision()))
    return [Contestant(name, per_second(function, times, model.batch_size), "pairs/s", "keras")
            for name, function in (("create_examples", create_session(build)),
                                   ("keras", lambda: next(batches)))] \
        + [Contestant("step", per_second(step, STEPS_IN_TURN, model.batch_size), "pairs/s")]


# --------------------------------------------------------------------------------------------------
# Extras: what is shown, monitored, saved and checked beside training
# --------------------------------------------------------------------------------------------------


def create_shown_step(options, paths):
    """A function that takes a training step on a fixed batch and does what a run does after a step
    at which `kind` is due: a field of Due, or None for nothing."""
    prepare_run(options)
    options = with_metric(options)
    with tf.Graph().as_default() as graph:
        examples = keep_batch(options)
        model = pix2pix.create_model(examples, options)
        show = pix2pix.create_fetches(model, options)
        sess = tf.Session(graph=graph, config=session_config())
        sess.run(tf.global_variables_initializer())
        checkpoint_manager = CheckpointManager(sess, options, 0)
        health = TrainingMonitor(options, pix2pix.generator_weight(options))
        found = ImageList([(path,) for path in paths], unique_names(paths))
        samples = choose_samples(found, options)
        judge = pix2pix.create_judge(found, samples, options)
        judge = judge._replace(measure=sess.make_callable(judge.measure),
                               draw=sess.make_callable(judge.draw))
        validator = Validator(options, judge, found, samples, [])
        run = pix2pix.Run(options, found, sess, show, None, None, validator, None, 0, 1, 1)
        log = RunLog(run, ((), []), [], {})
        graph.finalize()
    nothing = Due(*[False] * len(Due._fields))

    def step(kind=None):
        """One step."""
        due = nothing._replace(**{kind: True}) if kind else nothing
        with graph.as_default(), contextlib.redirect_stdout(io.StringIO()):
            results = sess.run(pix2pix.due_fetches(show, due))
            if due.validate:
                validator.validate(1)
            if due.sample:
                log.draw_samples(1)
            log.show(1, due, results, Progress(1, 1, 1.0, 1.0), {})
            if due.monitor:
                health.update(results.health)
            if due.save:
                checkpoint_manager.save(1)
    return step


def share(plain, other, freq=1):
    """A function that times two functions and returns the extra time of the second, spread over
    `freq` calls, in percent of the first."""
    def timed():
        """Percent."""
        start = time.perf_counter()
        plain()
        middle = time.perf_counter()
        other()
        seconds = middle - start
        return 100 * (time.perf_counter() - middle - seconds) / seconds / freq
    return timed


def extras_contestants(model, files, _options):
    """The time of each extra at its default frequency; the finite check is in every step."""
    paths = find_images(files.pairs)
    options = with_options(model, precision=fast_precision(), overwrite=True,
                                   output_dir=str(files.work / "extras"))
    step = create_shown_step(options, paths)
    with mock.patch.object(pix2pix, "global_norm", lambda _: tf.constant(0.0)):
        unchecked = create_step(options)
    freqs = {"progress": options.progress_freq, "summary": options.summary_freq,
             "monitor": MONITOR_FREQ, "sample": options.sample_freq, "save": options.save_freq,
             "validate 100": options.val_freq * len(paths) / 100}
    shares = {name: share(step, functools.partial(step, name.split()[0]), freq)
              for name, freq in freqs.items()}
    shares["check"] = share(unchecked, create_step(options))
    return [Contestant(name, turn, "% of a step") for name, turn in shares.items()]


# --------------------------------------------------------------------------------------------------
# Programs
# --------------------------------------------------------------------------------------------------

NUM_TESTED = 48  # images in a turn of test mode
FIRST_TESTED = 8  # of them, in which the network sets itself up on each core
NETWORK_ALONE = "network"  # what the names of its contestants begin with
NUM_PHOTOS = 512  # in a turn of process.py: its start is a small part of it
NUM_PLAIN = 64  # of them in a turn of the plain loops
WORKERS = 2
STEPS_FOR_MEMORY = 3
KERAS_PROGRAMS = {"train": "keras train", "test": "keras test", "keras train": "keras train",
                  "keras test": "keras test"}  # name -> baseline
TICK = 0.004  # seconds to which a disk may round its times
# a process of its own, because a child's record begins with its parent's size
PEAK = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""


def run_here(arguments):
    """Runs the program in this process, hiding its output. Raises UserError where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pix2pix.main(arguments)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise KeyboardInterrupt(code - 128)
    if code != 0:
        raise UserError(f"pix2pix.py {' '.join(arguments)} ended with {code}: "
                        f"{said.getvalue().strip()}")


def run_command(command):
    """Runs a command and returns its output. Raises UserError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOOLS)
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def seconds_until(command, sign):
    """Seconds from the start of a command to the line of its output that begins with `sign`, where
    it is killed. Raises UserError where there is none."""
    start, lines = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          cwd=TOOLS) as process:
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith(sign):
                    return time.perf_counter() - start
        finally:
            process.kill()
    raise UserError(f"{' '.join(command)} never printed {sign}: {''.join(lines[-3:]).strip()}")


def peak_megabytes(command):
    """Peak resident memory of a command, in MB. Raises UserError where it fails."""
    peak = int(run_command([sys.executable, "-c", PEAK, *command]))
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, else kilobytes


def train_flags(model, files, output_dir, num_steps):
    """The program's command line for some steps of training, with a progress line for each."""
    return [*map(str, (
        "--mode", "train", "--input_dir", files.pairs, "--output_dir", output_dir, "--overwrite",
        "--seed", 1, "--crop_size", model.crop_size, "--batch_size", model.batch_size, "--ngf",
        model.ngf, "--ndf", model.ndf, "--max_steps", num_steps, "--progress_freq", 1,
        "--summary_freq", 0))]


def train_model(model, files):
    """The folder of a model; if there is none yet, trains one for two steps."""
    folder = files.work / f"model-{model.crop_size}-{model.ngf}"
    if not folder.exists():
        run_here(train_flags(with_options(model, batch_size=1), files, folder, 2))
    return folder


def test_flags(model, files, input_dir, output_dir, precision="float32"):
    """The program's command line for test mode."""
    return [*map(str, ("--mode", "test", "--input_dir", input_dir, "--output_dir", output_dir,
                       "--checkpoint", train_model(model, files), "--precision", precision))]


def create_test(arguments, output_dir):
    """A function that runs test mode and returns its images per second, after the first results, by
    the times of the files: the time before is its start."""
    def test():
        """Images per second."""
        run_here(arguments)
        times = sorted(path.stat().st_mtime for path in output_dir.glob("images/*-outputs.png"))
        first, *others = times[FIRST_TESTED - 1:]
        return len(others) / max(others[-1] - first, TICK)
    return test


def find_generator_work(options):
    """The Work of the generator on one image in float32."""
    with tf.Graph().as_default():
        inputs = tf.zeros([1, options.crop_size, options.crop_size, 3])
        return Work("float32", count_operations(pix2pix.create_outputs(inputs, options).op), 0)


def test_contestants(model, files, _options):
    """Test mode in each precision, and its network alone; the tutorial's generator with plain
    decoding and encoding."""
    folder = fill_folder(files.work / "tested", files.pairs, NUM_TESTED)
    generator = keras_tutorial().create_generator(model.crop_size, model.ngf)
    paths, work = keras_tutorial().list_images(folder), find_generator_work(model)

    def generate():
        """The images through the tutorial's generator."""
        for path in paths:
            keras_tutorial().generate(generator, path, model.crop_size, files.work / "keras")

    (images, _), contestants = draw_arrays(model), machine_contestants()
    for name in PRECISIONS:
        output_dir = files.work / f"test-{name}"
        arguments = test_flags(model, files, folder, output_dir, name)
        network = create_network(with_options(model, precision=name), train_model(model, files))
        turns = {name: create_test(arguments, output_dir), f"{NETWORK_ALONE} {name}": per_second(
            functools.partial(network, images), BATCHES_IN_TURN)}
        contestants += [Contestant(each, turn, "images/s", "keras", work._replace(precision=name))
                        for each, turn in turns.items()]
    return [*contestants, Contestant("keras", per_second(generate, amount=len(paths)),
                                     "images/s", "keras", work)]


def conclude_test(rows):
    """Lines: how fast test mode is, against its network alone."""
    medians = {(row.size, row.ngf, row.name): row.median for row in rows}
    return [f"{size}x{size}, ngf {ngf}, {name}: "
            f"{median / medians[size, ngf, f'{NETWORK_ALONE} {name}']:.0%} of the network alone"
            for (size, ngf, name), median in medians.items() if name in PRECISIONS]


def resize_plainly(paths, size, output_dir):
    """Crops the central squares of images, resizes them, writes PNG files."""
    for path in paths:
        with Image.open(path) as photo:
            side = min(photo.size)
            left, top = (photo.width - side) // 2, (photo.height - side) // 2
            square = photo.crop([left, top, left + side, top + side])
            square.resize([size, size]).save(output_dir / f"{path.stem}.png")


def combine_plainly(paths, output_dir):
    """Puts images beside themselves, writes PNG files."""
    for path in paths:
        with Image.open(path) as left, Image.open(path) as right:
            pair = Image.new("RGB", [left.width + right.width, left.height])
            pair.paste(left, [0, 0])
            pair.paste(right, [left.width, 0])
            pair.save(output_dir / path.name)


def create_process(operation, input_dir, output_dir, *more):
    """A function that runs process.py, start to end."""
    command = [sys.executable, "process.py", "--operation", operation, "--workers", str(WORKERS),
               "--input_dir", str(input_dir), "--output_dir", str(output_dir), "--force", *more]
    return lambda: run_command(command)


def process_contestants(model, files, _options):
    """process.py and a plain loop in one process, resizing photos and combining the results."""
    size = model.crop_size
    resized, combined, plain = (files.work / f"{name}-{size}"
                                for name in ("resized", "combined", "plain"))
    if not (files.work / "photos").exists():
        draw_folder(files.work / "drawn", 640, 480, NUM_DRAWN)
    photos = fill_folder(files.work / "photos", files.work / "drawn", NUM_PHOTOS)
    resize = create_process("resize", photos, resized, "--size", str(size))
    combine = create_process("combine", resized, combined, "--b_dir", str(resized))
    resize()  # the input of combine
    plain.mkdir(exist_ok=True)
    some_photos, some_resized = (find_images(folder)[:NUM_PLAIN]
                                 for folder in (photos, resized))
    return [Contestant(name, per_second(function, amount=amount), "images/s", baseline)
            for name, baseline, amount, function in (
                ("resize", "plain resize", NUM_PHOTOS, resize),
                ("plain resize", "plain resize", len(some_photos),
                 lambda: resize_plainly(some_photos, size, plain)),
                ("combine", "plain combine", NUM_PHOTOS, combine),
                ("plain combine", "plain combine", len(some_resized),
                 lambda: combine_plainly(some_resized, plain)))]


def create_commands(model, files, num_images, num_steps):
    """Name -> command of training and of test mode, the program's and the tutorial's."""
    def pix2pix_command(arguments):
        """The program's."""
        return [sys.executable, str(ROOT / "pix2pix.py"), *arguments]

    def keras_command(function, *values):
        """Of a function of keras_baseline.py."""
        code = f"import keras_baseline; keras_baseline.{function}(*{values!r})"
        return [sys.executable, "-c", code]

    folder = fill_folder(files.work / f"tested-{num_images}", files.pairs, num_images)
    size, ngf = model.crop_size, model.ngf
    return {
        "--help": pix2pix_command(["--help"]),
        "option error": pix2pix_command(["--mode", "train", "--lr", "none"]),
        "train": pix2pix_command(train_flags(model, files, files.work / "train", num_steps)),
        "test": pix2pix_command(test_flags(model, files, folder, files.work / "test")),
        "keras train": keras_command("train", str(files.pairs), size, model.batch_size, ngf,
                                     num_steps),
        "keras test": keras_command("test", str(folder), size, ngf, str(files.work / "keras"))}


SIGNS = {  # what a program prints when its start is over
    "--help": "usage", "option error": "pix2pix.py: error", "train": "progress  epoch",
    "test": "wrote 1 ", "keras train": "step 1", "keras test": "image 1"}


def start_contestants(model, files, _options):
    """Programs until they have answered, taken the first step or translated the first image."""
    commands = create_commands(model, files, 1, 1)
    return [Contestant(name, lambda name=name: seconds_until(commands[name], SIGNS[name]), "s",
                       KERAS_PROGRAMS.get(name)) for name in commands]


def memory_contestants(model, files, _options):
    """Training for a few steps and test mode of some images, as whole processes."""
    commands = create_commands(model, files, NUM_TESTED, STEPS_FOR_MEMORY)
    return [Contestant(name, lambda name=name: peak_megabytes(commands[name]), "MB", baseline)
            for name, baseline in KERAS_PROGRAMS.items()]


# --------------------------------------------------------------------------------------------------
# The network: the generator alone, on images in memory
# --------------------------------------------------------------------------------------------------

EXPORTS = ("saved_model", "graph", "tflite")  # of RUNTIMES, those that TensorFlow runs
BATCHES_IN_TURN = 8


def export_model(model, files, formats):
    """The folder of the exports of `train_model`'s model, by the program itself."""
    folder = files.work / f"export-{model.crop_size}-{model.ngf}"
    if not folder.exists():
        run_here(["--mode", "export", "--checkpoint", str(train_model(model, files)),
                  "--output_dir", str(folder), "--export_format", *formats])
    return folder


def create_network(model, checkpoint):
    """Test mode's network of a checkpoint, as a function of arrays [batch, height, width, 3] -1..1
    to the same."""
    with tf.Graph().as_default() as graph:
        inputs = tf.placeholder(tf.float32, [model.batch_size, model.crop_size, model.crop_size, 3])
        with fast_conv.layers_for("inference"), \
                tf.variable_scope("", custom_getter=pix2pix.kernels_in(model.precision)):
            outputs = pix2pix.create_outputs(inputs, model)
        sess = tf.Session(graph=graph, config=session_config())
        load_variables(sess, open_checkpoint(str(checkpoint)), tf.global_variables(), model)
        sess.run(tf.local_variables_initializer())  # of layers_for
        return sess.make_callable(outputs, [inputs])


def create_tutorial_network(model):
    """The tutorial's new generator as a graph, as a function like `create_network`'s."""
    import tensorflow
    generator = keras_tutorial().create_generator(model.crop_size, model.ngf)

    @tensorflow.function
    def generate(images):
        """As the tutorial's generate_images: norms see these images alone."""
        return generator(images, training=True)
    return lambda images: generate(tensorflow.constant(images)).numpy()


def network_contestants(model, files, _options):
    """The generator in each precision, the tutorial's, the exports in all programs that run them,
    and PyTorch's."""
    found = {name: runtimes.RUNTIMES[name] for name in installed(
        {name: runtime.packages for name, runtime in runtimes.RUNTIMES.items()})}
    folder = export_model(model, files, {row.export_format: None for row in found.values()})
    shape = [model.batch_size, model.crop_size, model.crop_size, 3]
    (images, _), checkpoint = draw_arrays(model), train_model(model, files)
    networks = {name: create_network(with_options(model, precision=name), checkpoint)
                for name in PRECISIONS}
    networks["keras"] = create_tutorial_network(model)
    functions = {name: functools.partial(run, images) for name, run in networks.items()}
    functions |= {name: functools.partial(row.open(folder, shape), (images + 1) / 2)
                  for name, row in found.items()}
    torch = start_torch("network", installed(TORCH) + compiled_torch(), model, files.programs)
    return compete(functions, BATCHES_IN_TURN, find_generator_work(model), "images/s",
                   model.batch_size, torch)


# --------------------------------------------------------------------------------------------------
# Serving
# --------------------------------------------------------------------------------------------------

PARALLEL = 2  # images that the server computes at once, and the network alone
NUM_CLIENTS = 16
IMAGES_ALONE = 16  # in a turn of one at a time
IMAGES_TOGETHER = 64  # in a turn of several at once
FIRST_REQUESTS = 100  # after which a server should have all the memory that it needs
CLIENT_SECONDS = 300  # that an answer may take
SERVED = "model"  # its name
SERVER_SIGN = "draw at "  # before the server's address


def ask_together(functions, count):
    """The Answers to `count` calls of functions, each in a thread of its own."""
    numbers, latencies, used = iter(range(count)), [], []

    def ask(function):
        """In a thread: calls a function until there were enough calls in all."""
        began = time.thread_time()
        for _ in numbers:
            start = time.perf_counter()
            function()
            latencies.append(time.perf_counter() - start)
        used.append(time.thread_time() - began)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as threads:
        try:
            [*threads.map(ask, functions)]  # raises what they raise
        finally:
            [*numbers]  # after an error or a signal none begins another
    return Answers(count / (time.perf_counter() - start), latencies, sum(used) / count)


def create_client(url, body):
    """A connection that stays open, and a function that posts a body over it and reads the answer,
    which raises UserError where this is an error."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=CLIENT_SECONDS)

    def post():
        """One request."""
        connection.request("POST", place.path, body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        contents = answer.read()
        if answer.status != 200:
            raise UserError(f"{url} answered {answer.status}: {contents[:200].decode('latin-1')}")
    return connection, post


def ask_server(url, body, num_clients, count):
    """The Answers to `count` requests of clients, each with a connection of its own. Raises
    UserError."""
    clients = [create_client(url, body) for _ in range(num_clients)]
    with contextlib.ExitStack() as connections:
        try:
            for connection, _ in clients:
                connections.callback(connection.close)
                connection.connect()
            return ask_together([post for _, post in clients], count)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"{url} does not answer ({describe_error(error)}): see whether its "
                            "server runs") from None


def start_server(folder, programs):
    """Starts tools/serve.py with the model of a folder; returns the process and the URL that
    translates images. programs: ExitStack. Raises UserError where it does not start."""
    command = [sys.executable, "serve.py", "--model", f"{SERVED}={folder}", "--port", "0",
               "--parallel", str(PARALLEL)]
    process = programs.enter_context(subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TOOLS))
    programs.callback(process.kill)
    lines = []
    for line in process.stdout:
        if line.startswith(SERVER_SIGN):
            return process, f"{line.removeprefix(SERVER_SIGN).split()[0]}{SERVED}"
        lines.append(line)
    raise UserError(f"{' '.join(command)} never printed {SERVER_SIGN}: {''.join(lines).strip()}")


def resident_megabytes(process):
    """Resident memory of a process now, in MB."""
    pages = Path(f"/proc/{process.pid}/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return int(run_command(["ps", "-o", "rss=", "-p", str(process.pid)])) / 2**10


def measure_memory(process, url, image, num_requests):
    """Name -> MB that a new server has after the first requests, and after all."""
    megabytes = {}
    for total, new in ((FIRST_REQUESTS, FIRST_REQUESTS),
                       (num_requests, num_requests - FIRST_REQUESTS)):
        ask_server(url, image, NUM_CLIENTS, new)
        megabytes[f"after {total} requests"] = resident_megabytes(process)
    return megabytes


def compare_server(name, url, body):
    """Contestants: a server with one client and with several, against the network alone."""
    return [Contestant(f"{name}, 1 client",
                       lambda: ask_server(url, body, 1, IMAGES_ALONE), "images/s", "network"),
            Contestant(f"{name}, {NUM_CLIENTS} clients",
                       lambda: ask_server(url, body, NUM_CLIENTS, IMAGES_TOGETHER), "images/s",
                       f"network, {PARALLEL} at once")]


def compare_tensorflow_serving(url, image):
    """`compare_server` for the signature of image files that TensorFlow Serving has of an exported
    model. Raises UserError where it does not translate an image."""
    body = json.dumps({"signature_name": "encoded", "instances": [
        {"input_bytes": {"b64": base64.b64encode(image).decode()}}]}).encode()
    ask_server(f"{url}:predict", body, 1, 1)
    return compare_server("TensorFlow Serving", f"{url}:predict", body)


def serve_contestants(model, files, options):
    """The network in this process, one image at a time and several at once; tools/serve.py in a
    process of its own; its memory, measured before; TensorFlow Serving."""
    path, folder = files.work / f"input-{model.crop_size}.jpg", train_model(model, files)
    draw_image(path, model.crop_size, model.crop_size, 0)
    image = path.read_bytes()
    others = compare_tensorflow_serving(options.tensorflow_serving, image) \
        if options.tensorflow_serving else []
    loaded = pix2pix.load_model(folder)
    process, url = start_server(folder, files.programs)
    megabytes = measure_memory(process, url, image, options.requests)

    def generate():
        """One image through the network."""
        loaded.generate(image)
    return [
        Contestant("network", lambda: ask_together([generate], IMAGES_ALONE), "images/s"),
        Contestant(f"network, {PARALLEL} at once",
                   lambda: ask_together([generate] * PARALLEL, IMAGES_TOGETHER), "images/s"),
        *compare_server("server", url, image), *others,
        *(Contestant(f"server {name}", lambda value=value: value, "MB")
          for name, value in megabytes.items())]


def conclude_serving(rows):
    """Lines: what a server adds to the network's time, and which share of its rate it keeps."""
    found, lines = {(row.name, row.size): row for row in rows}, []
    for name, size in found:
        server, is_alone, _ = name.partition(", 1 client")
        if is_alone:
            added = found[name, size].latency / found["network", size].latency - 1
            kept = found[f"{server}, {NUM_CLIENTS} clients", size].to_baseline
            lines.append(f"{server}, {size}x{size}: adds {added:.1%} to the network's time at one "
                         f"client, {kept:.1%} of the network's rate with {NUM_CLIENTS} clients")
    return lines


# --------------------------------------------------------------------------------------------------
# Devices
# --------------------------------------------------------------------------------------------------

NUM_DEVICES = (2, 4)  # of this machine
NUM_PROCESSES = (2, 3)  # of a cluster
WAIT_SECONDS = 300  # for a worker, at the start and in a step


def count_sent(num_machines, num_parts, weights, images):
    """Bytes that a step sends between the machines of a cluster: the weights to every worker, sums
    as large from each machine to the next and from the last to the first, and the images of the
    workers' parts. weights: bytes of all; images: bytes of a part's inputs, targets and results.
    """
    first_parts = math.ceil(num_parts / num_machines)
    num_sums = num_machines if num_machines > 1 else 0
    return (num_machines - 1 + num_sums) * weights + (num_parts - first_parts) * images


def read_loopback():
    """Bytes that have passed the loopback interface; None where the system does not say."""
    path = Path("/proc/net/dev")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split(":")[1].split()[0]) for line in lines
                 if line.split(":")[0].strip() == "lo"), None)


def find_checksum(sess):
    """A checksum of all variables, as text."""
    values = sess.run({variable.op.name: variable for variable in tf.global_variables()})
    checksum = 0
    for _, value in sorted(values.items()):
        checksum = zlib.crc32(value.tobytes(), checksum)
    return f"{checksum:08x}"


@contextlib.contextmanager
def open_step(options, devices):
    """A function that takes a training step on cluster.Devices and returns it as Taken."""
    size, parts = options.batch_size, options.grad_accumulation
    with tf.Graph().as_default() as graph, devices.open_session(graph) as (sess, _):
        start = time.perf_counter()
        tf.set_random_seed(options.seed)
        examples = keep_batch(with_options(options, batch_size=size * parts))
        model = pix2pix.create_model(examples, options, devices=devices.names,
                                     is_staged=len(devices.workers) > 0)
        sess.run(tf.global_variables_initializer())
        graph.finalize()
        images = bytes_of(tf.nest.flatten(examples)) / parts + size * sum(
            math.prod(tensor.shape.as_list()[1:]) * tensor.dtype.size
            for tensor in tf.nest.flatten(model[:3]))
        sent = count_sent(len(devices.workers) + 1, parts, bytes_of(tf.trainable_variables()),
                          images)

        def step():
            """One step."""
            if model.compute is not None:
                devices.compute(functools.partial(sess.run, model.compute))
            sess.run(model.train)

        def take():
            """One step, as Taken."""
            before, start = read_loopback(), time.perf_counter()
            step()
            seconds = time.perf_counter() - start
            passed = None if before is None else (read_loopback() - before) / 1e6
            return Taken(seconds, passed, sent / 1e6, first_seconds, checksum)
        step()
        first_seconds = time.perf_counter() - start
        step()
        checksum = find_checksum(sess)
        yield take


def take_steps(argv, counts, num_cpus):
    """A program: reads a number of devices, line by line, and prints a training step on as many as
    Taken in JSON. argv: of a training on all devices; counts: the numbers to come; num_cpus:
    devices that are made of the CPU."""
    def several_cpus():
        """A session's configuration."""
        config = session_config()
        config.device_count["CPU"] = num_cpus
        return config
    options = pix2pix.parse_args(argv)
    create_session(lambda: tf.constant(0))()  # TensorFlow sets itself up
    with mock.patch.object(tf1, "session_config", several_cpus), \
            cluster.open_devices(options) as devices, contextlib.ExitStack() as sessions:
        names = [*devices.names, *(f"/cpu:{number}" for number in range(1, num_cpus))]
        steps = {}
        for count in counts:
            workers = devices.workers[:count - 1]
            steps[count] = sessions.enter_context(open_step(options, cluster.Devices(
                options, names[:count], workers, devices.server if workers else None)))
        for line in sys.stdin:
            say(json.dumps(steps[int(line)]()._asdict()))


def start_steps(flags, counts, num_cpus, programs):
    """Starts `take_steps`; returns a function that has it take a step on some devices and returns
    Taken. programs: ExitStack."""
    code = "import sys, benchmark; sys.exit(benchmark.cli.run_main('pix2pix.py', " \
        f"lambda argv: benchmark.take_steps(argv, {counts}, {num_cpus}), {flags!r}))"
    process = start_program(code, programs)

    def take(count):
        """One step. Raises UserError where the program ends."""
        return Taken(**ask_program(process, count,
                                   f"a training step on {count} of {counts[-1]} devices"))
    take(1)  # waits until all are ready: no other program is measured beside that
    return take


@contextlib.contextmanager
def on_core(number):
    """Programs that are started inside have a single core, where the system can restrict them, and
    no GPU. Cores are counted from 0, and from the first again where there are fewer."""
    with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES="-1"):
        if not hasattr(os, "sched_setaffinity"):
            yield
            return
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
        try:
            yield
        finally:
            os.sched_setaffinity(0, cores)


def free_addresses(count):
    """Addresses of this machine whose ports nothing listens on."""
    with contextlib.ExitStack() as sockets:
        probes = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


def start_cluster(flags, counts, programs):
    """`start_steps` on the first machine of a cluster whose machines are processes, each on a core
    of its own."""
    addresses = ",".join(free_addresses(counts[-1]))
    cluster_flags = ["--cluster", addresses]
    for task in range(1, counts[-1]):
        command = [sys.executable, str(ROOT / "pix2pix.py"), "--mode", "worker", *cluster_flags,
                   "--task", str(task)]
        with on_core(task):
            worker = programs.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        programs.callback(worker.kill)
    with on_core(0):
        return start_steps([*flags, *cluster_flags, "--worker_timeout", str(WAIT_SECONDS)], counts,
                           1, programs)


def devices_contestants(model, files, _options):
    """A step on devices of this machine, its GPUs or as many of its CPU, against one device; on
    processes of one core each against one process. Each computes at least a part of the step."""
    parts, gpus = model.grad_accumulation, tf1.list_gpus()
    flags = [*train_flags(model, files, files.work / "none", 1), "--grad_accumulation", str(parts),
             "--precision", fast_precision()]
    machines = [1, *(count for count in NUM_PROCESSES if count <= parts)]
    devices = [1, *(count for count in sorted({*NUM_DEVICES, len(gpus)})
                    if 1 < count <= min(parts, len(gpus) or parts))]
    gpu_flags = ["--num_gpus", str(devices[-1])] if gpus else []
    take = start_steps([*flags, *gpu_flags], devices, 1 if gpus else devices[-1], files.programs)
    take_together = start_cluster(flags, machines, files.programs)
    return [
        *(Contestant(f"{count} device{'s' * (count > 1)}", functools.partial(take, count), "s",
                     "1 device") for count in devices),
        *(Contestant(f"{count} process{'es' * (count > 1)}",
                     functools.partial(take_together, count), "s", "1 process")
          for count in machines)]


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """A group of contestants."""

    create: Any  # function of pix2pix's Options, Files and the command line's -> contestants
    by_batch: bool  # whether the number of images in a step matters
    warm_up: int  # rounds that are not counted
    conclude: Any = None  # function of its rows -> lines below their table
    by_parts: bool = False  # whether a step has parts


GROUPS = {
    "step": Group(step_contestants, True, 2, conclude_peers),
    "network": Group(network_contestants, True, 2, conclude_peers),
    "train": Group(train_contestants, True, 1),
    "input": Group(input_contestants, True, 1),
    "extras": Group(extras_contestants, True, 1),
    "test": Group(test_contestants, False, 1, conclude_test),
    "process": Group(process_contestants, False, 1),
    "start": Group(start_contestants, False, 1),
    "memory": Group(memory_contestants, True, 0),
    "serve": Group(serve_contestants, False, 1, conclude_serving),
    "devices": Group(devices_contestants, True, 1, by_parts=True),
}
COLUMNS = {  # of a table -> a Row's value as text
    "name": lambda row: row.name,
    "size": lambda row: row.size,
    "batch": lambda row: row.batch_size,
    "ngf": lambda row: row.ngf,
    "parts": lambda row: row.parts if row.parts > 1 else None,
    "median": lambda row: f"{row.median:.{0 if row.median >= 100 else 2}f}",
    "unit": lambda row: row.unit,
    "spread": lambda row: f"{row.spread:.0%}",
    "to baseline": lambda row: row.to_baseline and f"{row.to_baseline:.2f}",
    "to the limit": lambda row: row.to_limit and f"{row.to_limit:.0%}",
    "to the step": lambda row: row.to_step and f"{row.to_step:.1f}",
    "latency, ms": lambda row: row.latency and f"{row.latency:.1f}",
    "99%, ms": lambda row: row.latency_99 and f"{row.latency_99:.1f}",
    "client, ms": lambda row: row.client and f"{row.client:.2f}",
    "first step, s": lambda row: row.first_seconds and f"{row.first_seconds:.1f}",
    "sent, MB": lambda row: row.megabytes_sent and f"{row.megabytes_sent:.1f}",
    "measured, MB": lambda row: row.megabytes and f"{row.megabytes:.1f}",
    "checksum": lambda row: row.checksum,
    "same bits": lambda row: {True: "yes", False: "no"}.get(row.same_bits),
}


def format_table(rows):
    """The rows as a Markdown table, without the columns that none of them has."""
    cells = {title: [show(row) for row in rows] for title, show in COLUMNS.items()}
    cells = {title: column for title, column in cells.items() if any(column)}
    lines = ["| " + " | ".join(cells) + " |", "|" + "---|" * len(cells)]
    lines += ["| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |"
              for line in zip(*cells.values(), strict=True)]
    return "\n".join(lines)


def model_address(text):
    """An argparse type: the address of a model by HTTP. Raises ArgumentTypeError."""
    wrong = argparse.ArgumentTypeError(f"{text}: give http://HOST:PORT/v1/models/NAME")
    try:
        place = urllib.parse.urlsplit(text)
        parts = place.hostname, place.port or 80, place.path.strip("/")
    except ValueError:
        raise wrong from None
    if place.scheme != "http" or not all(parts):
        raise wrong
    return text.rstrip("/")


def create_parser():
    """The command line."""
    count = number_type(int, 1)
    parser = cli.Parser("benchmark.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("--what", nargs="+", choices=[*GROUPS], default=[*GROUPS], help="groups to measure")
    add("--input_dir", help="folder of pairs; drawn if not given")
    add("--sizes", type=number_type(int, 32, 4096), nargs="+", default=[256],
        help="heights and widths of images")
    add("--batch_sizes", type=count, nargs="+", default=[1], help="images in a step")
    add("--ngf", type=count, nargs="+", default=[64], help="filters in both networks' first layers")
    add("--parts", type=number_type(int, 2, 65536), nargs="+", default=[4],
        help="in devices: parts of a step, of --batch_sizes images each")
    add("--rounds", type=number_type(int, 2), default=10, help="number of rounds")
    add("--requests", type=number_type(int, FIRST_REQUESTS + 1), default=1000,
        help="requests after which a server's memory is measured")
    add("--tensorflow_serving", type=model_address, metavar="URL",
        help="model of a TensorFlow Serving that runs, to measure in serve too, such as "
        "http://127.0.0.1:8501/v1/models/facades")
    add("--output", help="file for the JSON lines")
    return parser


def list_models(options, files):
    """pix2pix's Options of every size with every number of filters, of images in a step and of its
    parts. Raises UserError."""
    return [pix2pix.parse_args([
        "--mode", "train", "--input_dir", str(files.pairs), "--output_dir",
        str(files.work / "none"), "--seed", "1", "--crop_size", str(size), "--batch_size",
        str(batch_size), "--grad_accumulation", str(parts), "--ngf", str(ngf), "--ndf", str(ngf),
        "--precision", "float32"])
        for size in options.sizes for ngf in options.ngf for batch_size in options.batch_sizes
        for parts in options.parts]


def run_group(what, models, options, files):
    """Measures a group and prints its rows; returns them."""
    group, rows = GROUPS[what], []
    if not group.by_batch:
        models = [with_options(model, batch_size=1) for model in models]
    if not group.by_parts:
        models = [with_options(model, grad_accumulation=1) for model in models]
    for model in [one for number, one in enumerate(models) if one not in models[:number]]:
        with contextlib.ExitStack() as programs:
            contestants = group.create(model, files._replace(programs=programs), options)
            values = measure(contestants, options.rounds, group.warm_up)
        new = make_rows(what, contestants, values, model)
        rows += new
        for row in new:
            say(json.dumps(row._asdict()))
    return rows


def prepare_pairs(options, work):
    """The folder of pairs; draws some where none is given. Raises UserError."""
    if options.input_dir is None:
        return draw_folder(work / "pairs", 512, 256, math.lcm(NUM_DRAWN, *options.batch_sizes))
    pairs = Path(options.input_dir).resolve()
    num_pairs = len(require_images(pairs, "--input_dir"))
    for batch_size in options.batch_sizes:
        if num_pairs % batch_size:
            raise UserError(f"--batch_sizes {batch_size} does not divide the {num_pairs} pairs of "
                            "--input_dir, whose last step would be smaller: choose another")
    return pairs


def run(argv):
    """Measures and prints. Raises UserError."""
    options = create_parser().parse_args(argv)
    warn_once.cache_clear()
    with tempfile.TemporaryDirectory() as folder, \
            mock.patch.dict(os.environ, XDG_CACHE_HOME=folder,  # not the user's caches
                            TORCHINDUCTOR_CACHE_DIR=f"{folder}/inductor"):
        files = Files(prepare_pairs(options, Path(folder)), Path(folder))
        models = list_models(options, files)
        groups = {what: run_group(what, models, options, files) for what in options.what}
    if options.output:
        lines = [json.dumps(row._asdict()) for rows in groups.values() for row in rows]
        write_atomic(options.output, ("\n".join(lines) + "\n").encode())
    for what, rows in groups.items():
        say(f"\n## {what}\n\n{format_table(rows)}")
        for line in GROUPS[what].conclude(rows) if GROUPS[what].conclude else []:
            say(f"\n{line}")


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("benchmark.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
