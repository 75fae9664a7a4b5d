"""tools/benchmark.py: what it counts, by arithmetic; the rows it writes; what a step may cost."""

import base64
import contextlib
import http.server
import io
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter

import numpy as np
import pytest
from helpers import SMALL
from PIL import Image

import pix2pix
from tools import benchmark
from tools.lib import fast_conv, runtimes, tf1
from tools.lib.cli import UserError, with_options
from tools.lib.fast_conv import conv2d, conv2d_transpose, winograd_conv2d, winograd_strided
from tools.lib.image_files import find_images
from tools.lib.models import options_to_apply
from tools.lib.tf1 import fast_precision, tf

# ---- what is counted in a graph


# as convolutions; as products, where a layer that enlarges has a zero pixel behind each map
@pytest.mark.parametrize("max_pixels, zeros", [(0, 0), (256, 1)])
def test_operations_by_hand(monkeypatch, max_pixels, zeros):
    monkeypatch.setattr(fast_conv, "IM2COL_MAX_PIXELS", max_pixels)
    with tf.Graph().as_default():
        x = tf.zeros([2, 8, 16, 3])
        small = conv2d(x, tf.ones([4, 4, 3, 5]), 2, "SAME")  # [2, 4, 8, 5]
        forward = 2 * 16 * 3 * 5 * 2 * 4 * 8
        assert benchmark.count_operations(small.op) == forward
        kernel = tf.ones([4, 4, 7, 5])
        large = conv2d_transpose(small, kernel)
        upward = 2 * 16 * 7 * 5 * 2 * (4 * 8 + zeros)
        assert benchmark.count_operations(large.op) == forward + upward
        gradients = tf.group(*tf.gradients(tf.square(large), [x, kernel]))
        backward = 2 * 16 * 3 * 5 * 2 * (4 * 8 + zeros) + 2 * 2 * 16 * 7 * 5 * 2 * 4 * 8
        assert benchmark.count_operations(gradients) == forward + upward + backward


def test_operations_of_winograds_tiles_by_hand():
    with tf.Graph().as_default():
        outputs = winograd_conv2d(tf.zeros([2, 9, 8, 3]), tf.ones([4, 4, 3, 5]))
        num_tiles = 2 * 3 * 3  # of 2x2 for 6x5 results
        axes = 2 * (5 * 3) * 9 * (8 * 3) + 25 * (2 * 3) * 3 * 8 * 3  # rows, then columns
        assert benchmark.count_operations(outputs.op) == 2 * axes + 2 * 25 * (
            16 * 3 * 5 + num_tiles * 3 * 5 + 4 * num_tiles * 5)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_operations_of_strided_tiles_by_hand(is_transposed):
    with tf.Graph().as_default():
        inputs = tf.zeros([2, 8, 7, 5] if is_transposed else [2, 16, 14, 3])
        outputs = winograd_strided(inputs, tf.ones([4, 4, 3, 5]), is_transposed)
        num_tiles = 2 * 3 * 3  # of 3x3 pixels, for one more than 8x7
        axes = 2 * (4 * 3) * 8 * (7 * 5) + 2 * (4 * 3) * 4 * (3 * 7) * 5  # of the smaller map
        assert benchmark.count_operations(outputs.op) == 2 * axes + 2 * 16 * (
            4 * (4 * 3 * 5) + num_tiles * (4 * 3) * 5 + 9 * num_tiles * (4 * 3))


def test_the_limit_is_that_of_plain_convolutions(options):
    options = with_options(options, crop_size=64, ndf=64)
    with tf.Graph().as_default():
        step = pix2pix.create_model(benchmark.keep_batch(options), options).train
        plain = benchmark.find_work(options).operations
        assert benchmark.count_operations(step) < 0.9 * plain


def test_bytes_by_hand():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [3, 5])
        y = tf.reshape(tf.identity(x), [5, 3])
        assert benchmark.count_bytes(y.op) == 0
        half = tf.cast(y, tf.bfloat16)  # 15 floats are read, 15 halves written
        assert benchmark.count_bytes(half.op) == 15 * (4 + 2)
        product = tf.matmul(half, tf.cast(x, tf.bfloat16))  # [5, 5]
        both = 2 * 15 * (4 + 2) + (15 + 15 + 25) * 2
        assert benchmark.count_bytes(product.op) == both
        row = tf.slice(product, [1, 0], [1, 5])  # of the 25 five are read
        assert benchmark.count_bytes(row.op) == both + 2 * 5 * 2


def test_bytes_of_variables_by_hand():
    with tf.Graph().as_default():
        weights = tf.get_variable("weights", [7, 11], use_resource=True)
        gradient = tf.placeholder(tf.float32, [7, 11])
        assert benchmark.count_bytes(weights.read_value().op) == 0
        assert benchmark.count_bytes(tf.assign(weights, gradient).op) == 77 * 8
        assert benchmark.count_bytes(tf.assign_add(weights, gradient).op) == 77 * 12
        adam = tf.train.AdamOptimizer().apply_gradients([(gradient, weights)])
        scalars = benchmark.count_bytes(adam) - 77 * benchmark.ADAM_BYTES
        assert 0 < scalars < 50  # both powers of beta: multiplied, assigned


def test_what_conditions_and_loops_do_is_counted():
    with tf.Graph().as_default():
        x, no = tf.placeholder(tf.float32, [3, 5]), tf.placeholder(tf.bool, [])
        chosen = tf.cond(no, lambda: tf.matmul(x, tf.transpose(x)), lambda: tf.ones([3, 3]))
        assert benchmark.count_operations(chosen.op) == 2 * 3 * 5 * 3
        transposed = 2 * 15 * 4 + 2 * 4  # and the order of its axes
        assert benchmark.count_bytes(chosen.op) == transposed + (15 + 15 + 9) * 4
        # a loop's body once
        square = tf.while_loop(lambda _: no, lambda y: [tf.matmul(y, y)], [tf.ones([7, 7])])
        assert benchmark.count_operations(square.op) == 2 * 7**3


def create_default_step(folder, **changes):
    """The op of the default training step on one image."""
    options = pix2pix.parse_args(["--mode", "train", "--input_dir", str(folder), "--output_dir",
                                  str(folder / "run"), "--seed", "1"])
    with tf.Graph().as_default():
        image = tf.zeros([1, 256, 256, 3])
        return pix2pix.create_model(pix2pix.Examples(tf.range(1), image, image),
                                    with_options(options, **changes)).train


@pytest.mark.parametrize("precision, flags, num_operations, num_bytes", [
    ("float32", (), 58.60e9, 4.424e9), ("bfloat16", (), 57.42e9, 3.674e9),
    ("bfloat16", ("amx_bf16",), 65.63e9, 3.357e9)])
def test_a_step_does_no_more_work_than_documented(
        monkeypatch, tmp_path, precision, flags, num_operations, num_bytes):
    """docs/tools.md, benchmark.py: another layer, pass or copy of the weights shows here."""
    monkeypatch.setattr(tf1, "processor_flags", lambda: {*flags})
    step = create_default_step(tmp_path, precision=precision)
    assert benchmark.count_operations(step) == pytest.approx(num_operations, rel=0.001)
    assert benchmark.count_bytes(step) == pytest.approx(num_bytes, rel=0.005)
    needed = benchmark.find_needed(step)
    types = Counter(operation.outputs[0].dtype.name for operation in needed
                    if "MatMul" in operation.type or operation.type.startswith("Conv2D"))
    # in bfloat16: all three products of the six layers with few pixels, two norms' of eight layers
    assert {name: count for name, count in types.items() if name != precision} == (
        {} if precision == "float32" else {"float32": 6 * 3 + 8 * 2})
    assert types[precision] > 60
    uncounted = {tensor.name.split(":")[1] + operation.type for operation in needed
                 for tensor in operation.outputs if not tensor.shape.is_fully_defined()}
    assert uncounted == {"5FusedBatchNormV3"}  # reserve_space_3, a GPU's


@pytest.mark.slow
def test_a_step_is_faster_than_the_tutorials(capsys, tmp_path):
    """With a generous margin: docs/benchmarks.md has more than 2 and 1.3."""
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "step", "--rounds", "4", "--output", str(out)]) == 0
    rows = {row["name"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["float32"]["to_baseline"] >= 1.1
    if fast_precision() == "bfloat16":
        assert rows["bfloat16"]["to_baseline"] >= 1.7


# ---- measuring


def test_contestants_are_interleaved_in_every_round():
    order = []
    contestants = [benchmark.Contestant(name, lambda name=name: order.append(name) or len(order),
                                        "s") for name in "abc"]
    values = benchmark.measure(contestants, 4, 2)
    assert order == list("abc") * 6
    assert values == {"a": [7, 10, 13, 16], "b": [8, 11, 14, 17], "c": [9, 12, 15, 18]}


def test_amounts_are_divided_by_time(monkeypatch):
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    calls = []
    assert benchmark.per_second(lambda: calls.append(1), times=3, amount=8)() == 3 * 8 / 4
    assert len(calls) == 3


def make_rows(what, contestants, values, options):
    """Name -> Row."""
    made = benchmark.make_rows(what, [benchmark.Contestant(name, None, *more)
                                      for name, *more in contestants], values, options)
    return {row.name: row for row in made}


def test_rows_are_medians_and_ratios(options):
    work = benchmark.Work("bfloat16", 6_000_000_000, 500_000_000)
    rows = make_rows(
        "step", [("product bfloat16", "GFLOP/s"), ("copy", "GB/s"),
                 ("bfloat16", "steps/s", "keras", work), ("keras", "steps/s", "keras")],
        {"product bfloat16": [300, 300, 300], "copy": [10, 10, 10],
         "bfloat16": [4, 1, 2, 3, 5], "keras": [2, 2, 2]}, options)
    row = rows["bfloat16"]
    assert row.median == 3 and row.unit == "steps/s" and row.what == "step"
    assert row.spread == (4.5 - 1.5) / 2 / 3
    assert row.to_baseline == 1.5 and rows["keras"].to_baseline == 1
    assert row.to_limit == pytest.approx(3 * (6 / 300 + 0.5 / 10))
    assert row[2:5] == (options.crop_size, options.batch_size, options.ngf)
    assert rows["copy"].to_limit is None and rows["copy"].to_baseline is None
    assert rows["keras"].to_limit is None and rows["keras"].to_step is None


@pytest.mark.parametrize("unit", ["s", "MB"])
def test_less_time_and_memory_is_better(options, unit):
    rows = make_rows("start", [("test", unit, "keras"), ("keras", unit, "keras")],
                     {"test": [2, 2], "keras": [5, 5]}, options)
    assert rows["test"].to_baseline == 2.5 and rows["keras"].to_baseline == 1


def test_input_is_compared_with_the_pairs_of_a_step(options):
    rows = make_rows("input", [("create_examples", "pairs/s", "keras"), ("keras", "pairs/s"),
                               ("step", "pairs/s")],
                     {"create_examples": [300, 300], "keras": [200, 200], "step": [4, 4]}, options)
    assert [row.to_step for row in rows.values()] == [75, 50, 1]


def test_tables_have_the_columns_that_rows_have(options):
    rows = make_rows("start", [("--help", "s"), ("train", "s", "keras"), ("keras", "s", "keras")],
                     {"--help": [0.125, 0.125], "train": [8, 8], "keras": [120, 120]}, options)
    assert benchmark.format_table(rows.values()) == """\
| name | size | batch | ngf | median | unit | spread | to baseline |
|---|---|---|---|---|---|---|---|
| --help | 256 | 1 | 2 | 0.12 | s | 0% |  |
| train | 256 | 1 | 2 | 8.00 | s | 0% | 15.00 |
| keras | 256 | 1 | 2 | 120 | s | 0% | 1.00 |"""


def test_latencies_are_of_all_rounds_and_rates_of_each(options):
    turns = [benchmark.Answers(20.0, [0.001 * n for n in range(1, 51)], 0.002),
             benchmark.Answers(30.0, [0.001 * n for n in range(51, 102)], 0.004),
             benchmark.Answers(10.0, [], 0.005)]
    rows = make_rows("serve", [("network", "images/s"), ("server", "images/s", "network")],
                     {"server": turns, "network": [turns[1]] * 2}, options)
    row = rows["server"]
    assert (row.median, row.to_baseline) == (20, 20 / 30)
    assert (row.latency, row.latency_99, row.client) == pytest.approx((51, 100, 4))  # 1..101
    assert rows["network"].latency == pytest.approx(76)
    assert "| 20.00 | images/s | 50% | 0.67 | 51.0 | 100.0 | 4.00 |" \
        in benchmark.format_table(rows.values())


def test_threads_share_the_calls_and_keep_their_times():
    together, seen = threading.Barrier(3, timeout=60), []

    def call():
        """Waits for the other two, so that three threads must call at once."""
        together.wait()
        seen.append(threading.get_ident())
    answers = benchmark.ask_together([call] * 3, 12)
    assert len(seen) == len(answers.latencies) == 12 and len({*seen}) == 3
    assert sum(answers.latencies) <= 3 * 12 / answers.rate  # each thread's in the turn's seconds
    assert 0 < answers.client < 12 / answers.rate


def test_the_clients_time_is_what_its_thread_computes():
    def compute():
        """20 ms of CPU time."""
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
    assert benchmark.ask_together([compute], 3).client == pytest.approx(0.02, rel=0.2)


def test_a_thread_that_fails_ends_the_turn():
    calls, begun = [], threading.Event()

    def call():
        """Tells the other, which fails then."""
        begun.set()
        calls.append(1)
    with pytest.raises(ZeroDivisionError):
        benchmark.ask_together([lambda: begun.wait(60) and 1 / 0, call], 10**6)
    assert 0 < len(calls) < 10**6 - 1


def test_what_a_server_adds_and_keeps_is_said_for_every_size(options):
    def row(name, size, latency, to_baseline=None):
        """A Row."""
        return benchmark.Row("serve", name, size, 1, 2, 5.0, "images/s", 0.0, to_baseline, None,
                             None, None, None, latency, latency, 0.1)
    names = ("network", "server, 1 client", "server, 16 clients")
    rows = [row(names[0], 64, 40.0), row(names[1], 64, 41.0, 0.5), row(names[2], 64, 700.0, 0.95),
            row(names[0], 32, 10.0), row(names[1], 32, 12.0, 0.5), row(names[2], 32, 700.0, 0.625),
            row("TensorFlow Serving, 1 client", 32, 9.0, 0.5),
            row("TensorFlow Serving, 16 clients", 32, 9.0, 1.125)]
    ends = "to the network's time at one client, {} of the network's rate with 16 clients"
    assert benchmark.conclude_serving(rows) == [
        "server, 64x64: adds 2.5% " + ends.format("95.0%"),
        "server, 32x32: adds 20.0% " + ends.format("62.5%"),
        "TensorFlow Serving, 32x32: adds -10.0% " + ends.format("112.5%")]


def test_steps_are_compared_in_time_bytes_and_bits(options):
    options = with_options(options, grad_accumulation=4)
    turns = {"1 process": [benchmark.Taken(second, 0.25, 0, 5.0, "0a") for second in (8, 6, 9)],
             "2 processes": [benchmark.Taken(second, megabytes, 20.5, 7.0, "0a")
                             for second, megabytes in ((5, 21), (4, 24), (2, 22))],
             "3 processes": [benchmark.Taken(4, None, 40, 9.0, "0b")] * 3}
    rows = make_rows("devices", [(name, "s", "1 process") for name in turns], turns, options)
    assert [(row.median, row.to_baseline, row.parts) for row in rows.values()] == [
        (8, 1, 4), (4, 2, 4), (4, 2, 4)]
    assert [row.same_bits for row in rows.values()] == [True, True, False]
    assert benchmark.format_table(rows.values()).splitlines()[3:] == [
        "| 2 processes | 256 | 1 | 2 | 4 | 4.00 | s | 38% | 2.00 | 7.0 | 20.5 | 22.0 | 0a | yes |",
        "| 3 processes | 256 | 1 | 2 | 4 | 4.00 | s | 0% | 2.00 | 9.0 | 40.0 |  | 0b | no |"]


# ---- the groups, on tiny networks and images


@pytest.fixture
def small(monkeypatch):
    """Little work in each turn, and the tutorial's step without compiling it."""
    for name, value in (("MATRIX_SIZE", 64), ("COPY_BYTES", 2**16), ("STEPS_IN_TURN", 2),
                        ("PAIRS_IN_TURN", 8), ("NUM_TESTED", 5), ("FIRST_TESTED", 2), ("NUM_PHOTOS", 3),
                        ("NUM_PLAIN", 2), ("NUM_DRAWN", 2), ("IMAGES_ALONE", 2),
                        ("IMAGES_TOGETHER", 20), ("FIRST_REQUESTS", 17),
                        ("BATCHES_IN_TURN", 2)):
        monkeypatch.setattr(benchmark, name, value)
    for what, group in benchmark.GROUPS.items():
        monkeypatch.setitem(benchmark.GROUPS, what, group._replace(warm_up=0))
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


MACHINE = ["product float32", "product bfloat16", "copy"]
NETWORKS = ["float32", "bfloat16", "keras"]
TORCH = [name for name in benchmark.TORCH if runtimes.is_installed("torch")]


@pytest.mark.parametrize("what, names, unit, columns", [
    ("step", MACHINE + NETWORKS + TORCH, "steps/s", {"to_baseline", "to_limit"}),
    ("train", MACHINE + NETWORKS, "steps/s", {"to_baseline", "to_limit"}),
    ("input", ["create_examples", "keras", "step"], "pairs/s", {"to_baseline", "to_step"}),
    ("test", [*MACHINE, "float32", "network float32", "bfloat16", "network bfloat16", "keras"],
     "images/s", {"to_baseline", "to_limit"}),
    ("process", ["resize", "plain resize", "combine", "plain combine"], "images/s",
     {"to_baseline"})])
@pytest.mark.filterwarnings("ignore:Even though")  # tf.data compiles its functions nevertheless
def test_a_group_writes_its_rows(small, tmp_path, monkeypatch, capsys, what, names, unit, columns):
    if what == "train":  # step's rows have the real one
        monkeypatch.setattr(benchmark, "find_work",
                            lambda options: benchmark.Work("float32", 10**9, 10**9))
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", what, "--sizes", "32", "--ngf", "1", "--rounds", "2",
                           "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows] == names
    first = rows[len(MACHINE) if names[0] == MACHINE[0] else 0]
    assert first["unit"] == unit and first["median"] > 0
    assert {name for name in ("to_baseline", "to_limit", "to_step") if first[name]} == columns
    shown = capsys.readouterr().out
    assert shown.startswith(out.read_text())
    assert shown.split(f"## {what}\n")[1].count("| 32 | 1 | 1 |") == len(names)


@pytest.mark.parametrize("runs", [["graph"], pytest.param([*runtimes.RUNTIMES],
                                                          marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:Even though")
def test_the_network_is_compared_with_its_exports_and_peers(small, tmp_path, monkeypatch, capsys,
                                                            runs):
    """Those of an --ngf are its own."""
    monkeypatch.setattr(runtimes, "RUNTIMES", {name: runtimes.RUNTIMES[name] for name in runs})
    monkeypatch.setattr(benchmark, "compiled_torch", lambda: [])  # it compiles for a minute
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "network", "--sizes", "32", "--ngf", "1", "2", "--batch_sizes",
                           "2", "--rounds", "2", "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    exports = runtimes.find_installed({name: runtime.packages
                                       for name, runtime in runtimes.RUNTIMES.items()})[0]
    names = MACHINE + NETWORKS + exports + TORCH
    assert [row["name"] for row in rows] == 2 * names
    narrow, wide = (rows[first + len(MACHINE):first + len(names)] for first in (0, len(names)))
    for made, ngf in ((narrow, 1), (wide, 2)):
        assert {(row["unit"], row["batch_size"], row["ngf"]) for row in made} == {
            ("images/s", 2, ngf)}
        assert all(row["median"] > 0 and row["to_baseline"] and row["to_limit"] for row in made)
    assert len({row["operations"] for row in narrow}) == 1
    assert wide[0]["operations"] > 2 * narrow[0]["operations"]
    lines = capsys.readouterr().out.split("## network\n")[1].splitlines()
    assert [line.split(": ")[0] for line in lines if "of the network in float32" in line] == [
        f"32x32, batch 2, ngf {ngf}, {name}" for ngf in (1, 2) for name in benchmark.EXPORTS
        if name in runs]


@pytest.mark.slow
@pytest.mark.skipif(not benchmark.compiled_torch(), reason="PyTorch has no compiler")
@pytest.mark.filterwarnings("ignore:Even though")
def test_torch_compile_is_measured(small, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "RUNTIMES", {"graph": runtimes.RUNTIMES["graph"]})
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "network", "--sizes", "32", "--ngf", "1", "--rounds", "2",
                           "--output", str(out)]) == 0
    rows = {row["name"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert [*rows][-2:] == ["torch.compile float32", "torch.compile bfloat16"]
    assert all(row["median"] > 0 for row in rows.values())


def test_the_network_measured_is_test_modes(tiny, options):
    """The results of a checkpoint are those that its users get, in each precision."""
    images = np.random.default_rng(3).uniform(-1, 1, [1, 32, 32, 3]).astype(np.float32)
    model = pix2pix.load_model(tiny / "whole", with_floats=True)
    expected = 2 * model.generate_floats((images + 1) / 2) - 1
    own = options_to_apply(tiny / "whole", pix2pix.NETWORK)
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.05)):
        generate = benchmark.create_network(
            with_options(own, precision=precision, batch_size=1), tiny / "whole")
        assert 0 < np.abs(generate(images) - expected).max() < tolerance


def test_peers_that_are_missing_are_named_once(small, monkeypatch, tmp_path, capsys):
    real = runtimes.is_installed
    monkeypatch.setattr(runtimes, "is_installed",
                        lambda package: package not in ("torch", "openvino") and real(package))
    monkeypatch.setattr(benchmark, "find_work",
                        lambda options: benchmark.Work("float32", 10**9, 10**9))
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "step", "--sizes", "32", "--ngf", "1", "2", "--rounds", "2",
                           "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows] == 2 * (MACHINE + NETWORKS)
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmark.py: leaving out torch float32, torch bfloat16: ")
    assert f"-m pip install torch tensorflow=={tf.__version__}" in line


@pytest.mark.skipif(not TORCH, reason="needs PyTorch")
def test_a_failure_in_pytorch_is_one_line(options):
    with contextlib.ExitStack() as programs, \
            pytest.raises(UserError, match="^network: torch float3 failed: .*float3") as caught:
        benchmark.start_torch("network", ["torch float3"], with_options(options, crop_size=32),
                              programs)
    assert "\n" not in str(caught.value)


def test_torch_compile_needs_pytorch_and_a_compiler(monkeypatch, capsys):
    benchmark.warn_once.cache_clear()
    monkeypatch.setattr(runtimes, "is_installed", lambda package: False)
    assert benchmark.compiled_torch() == [] and capsys.readouterr().err == ""
    monkeypatch.setattr(runtimes, "is_installed", lambda package: True)
    monkeypatch.setenv("CXX", sys.executable)
    assert benchmark.compiled_torch() == ["torch.compile float32", "torch.compile bfloat16"]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert benchmark.compiled_torch() == []
    assert "leaving out torch.compile: it needs a C++ compiler" in capsys.readouterr().err


def test_the_fastest_other_program_is_named_in_each_precision(options):
    names = {"product float32": "GFLOP/s", "float32": "images/s", "bfloat16": "images/s",
             "keras": "images/s", "torch bfloat16": "images/s", "openvino float32": "images/s",
             "openvino bfloat16": "images/s", "saved_model": "images/s",
             "torch.compile bfloat16": "images/s"}
    medians = [900, 12, 20, 5, 16, 8, 10, 9, 25]
    rows = make_rows("network", [(name, unit, "keras") for name, unit in names.items()],
                     {name: [value] * 2 for name, value in zip(names, medians, strict=True)},
                     with_options(options, batch_size=4))
    model = "256x256, batch 4, ngf 2"
    assert benchmark.conclude_peers(rows.values()) == [
        f"{model}, float32: 1.50 times the fastest other program, openvino float32",
        f"{model}, bfloat16: 1.25 times the fastest other program, torch bfloat16",
        f"{model}, bfloat16: 0.80 times torch.compile bfloat16",
        f"{model}, saved_model: 75% of the network in float32"]
    assert benchmark.conclude_peers([rows["float32"], rows["bfloat16"], rows["keras"]]) == [
        f"{model}, float32: 2.40 times the fastest other program, keras"]


def test_the_extras_write_their_rows(small, tmp_path, capsys):
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "extras", "--sizes", "32", "--ngf", "1", "--rounds", "2",
                           "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["progress", "summary", "monitor", "sample", "save",
                                              "validate 100", "check"]
    assert {row["unit"] for row in rows} == {"% of a step"}
    assert rows[4]["median"] > 0  # a checkpoint takes longer than the tiny step
    assert "progress  epoch" not in capsys.readouterr().out


class StandIn(http.server.BaseHTTPRequestHandler):
    """Answers as TensorFlow Serving: the image of a request in lower case, by its signature."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is sent at once, not header by header

    def do_POST(self):
        """Keeps the request in the server's `asked`."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.client_address, self.path, request))
        (image,), is_right = request["instances"], self.path == "/v1/models/facades:predict" \
            and request["signature_name"] == "encoded"
        result = base64.b64encode(base64.b64decode(image["input_bytes"]["b64"]).lower()).decode()
        body = json.dumps({"predictions": [{"b64": result}]} if is_right else
                          {"error": f"Servable not found for {self.path}"}).encode()
        self.send_response(200 if is_right else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Prints nothing."""


@pytest.fixture
def stand_in():
    """A StandIn's server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        server.asked, server.daemon_threads = [], True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address_of(server, name="facades"):
    """That of a model."""
    return f"http://127.0.0.1:{server.server_address[1]}/v1/models/{name}"


def test_tensorflow_serving_is_asked_by_the_same_clients(small, stand_in):
    alone, together = benchmark.compare_tensorflow_serving(address_of(stand_in), b"AN IMAGE")
    assert (alone.name, alone.baseline) == ("TensorFlow Serving, 1 client", "network")
    assert (together.name, together.baseline) == ("TensorFlow Serving, 16 clients",
                                                  "network, 2 at once")
    stand_in.asked.clear()
    assert len(alone.turn().latencies) == 2
    assert len({client for client, *_ in stand_in.asked}) == 1  # the connection stays open
    assert {path for _, path, _ in stand_in.asked} == {"/v1/models/facades:predict"}
    assert [request for *_, request in stand_in.asked] == 2 * [{
        "signature_name": "encoded",
        "instances": [{"input_bytes": {"b64": base64.b64encode(b"AN IMAGE").decode()}}]}]
    answers = together.turn()
    assert len(answers.latencies) == 20 and len(stand_in.asked) == 22


def test_a_tensorflow_serving_that_does_not_help_is_one_line(stand_in):
    with pytest.raises(UserError, match="maps:predict answered 404: .*Servable not found for"):
        benchmark.compare_tensorflow_serving(address_of(stand_in, "maps"), b"AN IMAGE")
    gone = "http://127.0.0.1:1/v1/models/facades"
    with pytest.raises(UserError, match=f"{gone}:predict does not answer .*refused"):
        benchmark.compare_tensorflow_serving(gone, b"AN IMAGE")


def test_the_server_is_measured_beside_the_network(small, stand_in, tiny, tmp_path, monkeypatch,
                                                   capsys):
    monkeypatch.setattr(benchmark, "train_model", lambda model, files: tiny / "whole")
    out = tmp_path / "bench.jsonl"
    assert benchmark.main([
        "--what", "serve", "--sizes", "32", "--ngf", "1", "--rounds", "2", "--requests", "40",
        "--tensorflow_serving", address_of(stand_in), "--output", str(out)]) == 0
    rows = {row["name"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert [*rows] == [
        "network", "network, 2 at once", "server, 1 client", "server, 16 clients",
        "TensorFlow Serving, 1 client", "TensorFlow Serving, 16 clients",
        "server after 17 requests", "server after 40 requests"]
    for row in [*rows.values()][:6]:
        assert row["unit"] == "images/s" and 0 < row["latency"] <= row["latency_99"]
    memory = [rows[f"server after {count} requests"]["median"] for count in (17, 40)]
    assert all(100 < megabytes < 4000 for megabytes in memory)  # TensorFlow is in it
    lines = capsys.readouterr().out.split("## serve\n")[1].splitlines()
    assert [line.partition(":")[0] for line in lines if "to the network's time" in line] == [
        "server, 32x32", "TensorFlow Serving, 32x32"]


def test_a_server_is_ended_with_its_group(small, tmp_path, monkeypatch):
    """Also where its answers are errors."""
    started, popen = [], benchmark.subprocess.Popen
    monkeypatch.setattr(benchmark.subprocess, "Popen",
                        lambda *arguments, **more: started.append(popen(*arguments, **more))
                        or started[-1])
    monkeypatch.setattr(benchmark, "train_model", lambda model, files: tmp_path)
    monkeypatch.setattr(pix2pix, "load_model", lambda path: None)
    code = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_error(503)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"draw at http://127.0.0.1:{server.server_address[1]}/", flush=True)
server.serve_forever()"""
    (tmp_path / "serve.py").write_text(code)
    monkeypatch.setattr(benchmark, "TOOLS", tmp_path)
    options = benchmark.create_parser().parse_args(["--sizes", "32"])
    files = benchmark.Files(tmp_path, tmp_path)
    with pytest.raises(UserError, match="/model answered 503"):
        benchmark.run_group("serve", benchmark.list_models(options, files), options, files)
    server, = started
    assert server.returncode == -signal.SIGKILL
    (tmp_path / "serve.py").write_text("raise SystemExit('serve.py: error: no such thing')")
    with pytest.raises(UserError, match="never printed draw at .*no such thing"):
        benchmark.run_group("serve", benchmark.list_models(options, files), options, files)


def test_bytes_between_machines_by_hand():
    """Weights to each worker, sums from machine to machine and back, images of workers' parts."""
    assert benchmark.count_sent(1, 4, 1000, 7) == 0
    assert benchmark.count_sent(2, 4, 1000, 7) == 1000 + 2 * 1000 + 2 * 7
    assert benchmark.count_sent(2, 5, 1000, 7) == 1000 + 2 * 1000 + 2 * 7
    assert benchmark.count_sent(3, 8, 1000, 7) == 2 * 1000 + 3 * 1000 + 5 * 7


@pytest.mark.skipif(benchmark.read_loopback() is None, reason="the system does not count bytes")
def test_bytes_of_the_loopback_interface_are_counted():
    with socket.create_server(("127.0.0.1", 0)) as server, \
            socket.create_connection(server.getsockname()) as client:
        other, _ = server.accept()
        before = benchmark.read_loopback()
        with other:
            for _ in range(64):
                client.sendall(bytes(2**16))
                other.recv(2**16, socket.MSG_WAITALL)
        assert benchmark.read_loopback() - before >= 2**22


def test_a_checksum_is_of_all_variables():
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as sess:
        one, _ = (tf.get_variable(name, initializer=tf.constant(value), use_resource=True)
                      for name, value in (("b", [1.0, 2.0]), ("a", 3)))
        sess.run(tf.global_variables_initializer())
        assert benchmark.find_checksum(sess) == \
            f"{zlib.crc32(struct.pack('=iff', 3, 1.0, 2.0)):08x}"  # by name
        sess.run(one.assign([1.0, 2.0000002]))
        assert benchmark.find_checksum(sess) == \
            f"{zlib.crc32(struct.pack('=iff', 3, 1.0, 2.0000002)):08x}"


def test_steps_on_devices_have_the_bits_of_one(monkeypatch, capsys):
    used, real = [], pix2pix.create_model

    def create_model(examples, options, devices, is_staged):
        """Keeps what there is."""
        used.append((devices, is_staged, examples.inputs.shape[0]))
        return real(examples, options, devices=devices, is_staged=is_staged)
    monkeypatch.setattr(pix2pix, "create_model", create_model)
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\n1\n2\n"))
    benchmark.take_steps(["--mode", "train", "--input_dir", ".", "--output_dir", "none", *SMALL,
                          "--grad_accumulation", "3"], [1, 2], 2)
    assert used == [([""], False, 3), (["", "/cpu:1"], False, 3)]
    taken = [benchmark.Taken(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert len(taken) == 3 and taken[0][2:] == taken[2][2:]
    assert all(0 < step.seconds < step.first_seconds for step in taken)
    assert taken[0].first_seconds != taken[1].first_seconds
    assert {(step.checksum, step.megabytes_sent) for step in taken} == {(taken[0].checksum, 0)}


def test_a_step_that_fails_is_one_line():
    with contextlib.ExitStack() as programs, \
            pytest.raises(UserError, match=r"step on 1 of 2 devices failed: pix2pix.py: error: .*"
                                           r"--ngf") as caught:
        benchmark.start_steps(["--mode", "train", "--ngf", "none"], [1, 2], 1, programs)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has none")
def test_programs_have_cores_of_their_own_and_no_gpu():
    code = "import os; print(*os.sched_getaffinity(0), os.environ['CUDA_VISIBLE_DEVICES'])"
    cores, seen = os.sched_getaffinity(0), []
    for number in range(len(cores) + 1):
        with benchmark.on_core(number):
            seen.append(benchmark.run_command([sys.executable, "-c", code]))
    assert seen == [f"{core} -1\n" for core in [*sorted(cores), min(cores)]]
    assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize("num_gpus, parts, names, flags", [
    (0, 3, ["1 device", "2 devices", "1 process", "2 processes", "3 processes"], []),
    (0, 2, ["1 device", "2 devices", "1 process", "2 processes"], []),
    (6, 8, ["1 device", "2 devices", "4 devices", "6 devices", "1 process", "2 processes",
            "3 processes"], ["--num_gpus", "6"]),
    (1, 2, ["1 device", "1 process", "2 processes"], ["--num_gpus", "1"])])
def test_devices_are_the_gpus_or_made_of_the_cpu(monkeypatch, tmp_path, options, num_gpus, parts,
                                                 names, flags):
    started = []

    def start(flags, *more):
        """Instead of programs: what it is called with, and what it is asked for."""
        started.append((flags, *more[:-1]))
        return lambda count: (len(more), count)
    monkeypatch.setattr(benchmark.tf1, "list_gpus",
                        lambda: [f"/gpu:{number}" for number in range(num_gpus)])
    monkeypatch.setattr(benchmark, "start_steps", start)
    monkeypatch.setattr(benchmark, "start_cluster", start)
    made = benchmark.devices_contestants(with_options(options, grad_accumulation=parts),
                                         benchmark.Files(tmp_path, tmp_path), None)
    assert [one.name for one in made] == names
    assert [one.baseline for one in made] == [
        "1 device" if "device" in name else "1 process" for name in names]
    assert [one.turn() for one in made] == [
        (3 if "device" in name else 2, int(name.split()[0])) for name in names]
    (used, counts, num_cpus), (_, machines) = started
    assert used[len(used) - len(flags):] == flags and ("--num_gpus" in used) == (num_gpus > 0)
    assert num_cpus == (1 if num_gpus else counts[-1])
    assert [*counts, *machines] == [int(name.split()[0]) for name in names]


@pytest.mark.slow
def test_devices_and_processes_are_measured(small, tmp_path, monkeypatch, capsys):
    for name in ("NUM_DEVICES", "NUM_PROCESSES"):
        monkeypatch.setattr(benchmark, name, (2,))
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "devices", "--sizes", "32", "--ngf", "2", "--rounds", "2",
                           "--parts", "2", "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["1 device", "2 devices", "1 process", "2 processes"]
    assert all(row["same_bits"] and row["parts"] == 2 for row in rows)
    assert all(0 < row["median"] < row["first_seconds"] for row in rows)
    assert [row["megabytes_sent"] > 0 for row in rows] == [False, False, False, True]
    if benchmark.read_loopback() is not None:
        assert rows[3]["megabytes"] > rows[3]["megabytes_sent"]


def test_memory_is_what_a_program_holds_now():
    code = "import sys; held = b'1' * int(sys.argv[1]); print(flush=True); sys.stdin.read()"
    found = []
    for num_bytes in (2**20, 2**26):
        with benchmark.subprocess.Popen(
                [sys.executable, "-c", code, str(num_bytes)], stdin=benchmark.subprocess.PIPE,
                stdout=benchmark.subprocess.PIPE) as process:
            process.stdout.readline()
            found.append(benchmark.resident_megabytes(process))
            process.stdin.close()
    assert found[1] - found[0] == pytest.approx(63, abs=3)


def test_a_share_is_the_second_functions_extra_time(monkeypatch):
    clock = iter([10.0, 14.0, 19.0])  # 4 seconds, then 5
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert benchmark.share(lambda: None, lambda: None, 50)() == 100 / 4 / 50


def test_groups_sizes_and_batches_are_chosen(monkeypatch, tmp_path, capsys):
    seen, parts = [], []

    def create(model, files, _options):
        """A group of one contestant."""
        seen.append((model.crop_size, model.batch_size, model.ngf, model.ndf,
                     len(find_images(files.pairs))))
        parts.append(model.grad_accumulation)
        return [benchmark.Contestant("a", lambda: 1.0, "s")]
    for what in ("start", "memory", "devices"):
        monkeypatch.setitem(benchmark.GROUPS, what, benchmark.GROUPS[what]._replace(create=create))
    benchmark.draw_folder(tmp_path / "pairs", 64, 32, 6)
    common = ["--input_dir", str(tmp_path / "pairs"), "--sizes", "32", "64", "--batch_sizes", "2",
              "3", "--ngf", "5"]
    assert benchmark.main(["--what", "memory", *common]) == 0
    assert seen == [(size, batch_size, 5, 5, 6) for size in (32, 64) for batch_size in (2, 3)]
    seen.clear()
    assert benchmark.main(["--what", "start", *common]) == 0
    assert seen == [(32, 1, 5, 5, 6), (64, 1, 5, 5, 6)]
    seen.clear()
    assert benchmark.main(["--what", "memory", "--batch_sizes", "3"]) == 0
    assert seen == [(256, 3, 64, 64, 48)]  # drawn: a multiple of 3 and 16
    assert {*parts} == {1}
    seen.clear()
    parts.clear()
    several = ["--ngf", "5", "7", "--parts", "2", "6"]
    assert benchmark.main(["--what", "devices", *several]) == 0
    assert [(ngf, count) for (_, _, ngf, *_), count in zip(seen, parts, strict=True)] == [
        (5, 2), (5, 6), (7, 2), (7, 6)]
    seen.clear()
    assert benchmark.main(["--what", "memory", *several]) == 0
    assert [ngf for _, _, ngf, *_ in seen] == [5, 7]


def test_drawn_images_are_like_facades(tmp_path):
    path, = benchmark.draw_folder(tmp_path / "pairs", 512, 256, 1).iterdir()
    with Image.open(path) as image:
        assert image.size == (512, 256) and image.format == "JPEG"
    assert 40_000 < path.stat().st_size < 65_000
    copies = benchmark.fill_folder(tmp_path / "copies", tmp_path / "pairs", 3)
    assert [copy.read_bytes() for copy in copies.iterdir()] == [path.read_bytes()] * 3


def test_test_mode_is_timed_after_its_first_images(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "FIRST_TESTED", 2)
    (tmp_path / "images").mkdir()

    def write(_arguments):
        """Two results, and two more in 6 seconds."""
        for number, seconds in enumerate((100, 90, 106, 102.5)):
            path = tmp_path / f"images/{number}-outputs.png"
            path.touch()
            benchmark.os.utime(path, (seconds, seconds))
    monkeypatch.setattr(benchmark, "run_here", write)
    assert benchmark.create_test([], tmp_path)() == pytest.approx(2 / 6)


def test_test_mode_is_compared_with_its_network(options):
    names = ["float32", "network float32", "bfloat16", "network bfloat16", "keras"]
    medians = [16, 20, 24, 32, 8]
    rows = make_rows("test", [(name, "images/s", "keras") for name in names],
                     {name: [value] * 2 for name, value in zip(names, medians, strict=True)},
                     options)
    assert benchmark.conclude_test(rows.values()) == [
        "256x256, ngf 2, float32: 80% of the network alone",
        "256x256, ngf 2, bfloat16: 75% of the network alone"]


def test_a_failing_program_is_one_line(capsys, tmp_path):
    with pytest.raises(UserError, match="ended with 2: .*is missing|required"):
        benchmark.run_here([])
    broken = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with pytest.raises(UserError, match="ended with 1: no such thing"):
        benchmark.run_command(broken)
    with pytest.raises(UserError, match="never printed step: no such thing"):
        benchmark.seconds_until(broken, "step")


def test_an_error_of_the_program_names_the_benchmark(small, tmp_path, monkeypatch, capsys):
    """The program runs in the same process, under its own name."""
    monkeypatch.setattr(pix2pix, "run_mode", lambda argv: 1)
    assert benchmark.main(["--what", "test", "--sizes", "32", "--ngf", "1", "--rounds", "2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmark.py: error: pix2pix.py --mode train --input_dir ")
    assert "ended with 1" in error and error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_without_temporary_files(small, tmp_path, monkeypatch, capsys, number):
    """While the program runs in this process; what was drawn for it is removed."""
    def interrupted(argv):
        """A run of the program that a signal ends."""
        assert [path for path in tmp_path.rglob("*") if path.name == "0001.jpg"]
        signal.raise_signal(number)
    monkeypatch.setattr(pix2pix, "run_mode", interrupted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert benchmark.main(["--what", "test", "--sizes", "32", "--ngf", "1", "--rounds", "2"]) \
        == 128 + number
    assert capsys.readouterr() == ("", "") and not [*tmp_path.iterdir()]


def test_a_program_is_killed_at_its_sign():
    code = "import time; print('other'); print('step 1', flush=True); time.sleep(600)"
    assert 0 < benchmark.seconds_until([sys.executable, "-c", code], "step") < 300


def test_peaks_are_the_programs_own():
    held = np.ones(2**27, np.uint8)  # of this process, which does not count
    empty = benchmark.peak_megabytes([sys.executable, "-c", ""])
    full = benchmark.peak_megabytes([sys.executable, "-c", "b'1' * 2**26"])
    assert empty < held.nbytes / 2**20
    assert full - empty == pytest.approx(64, abs=3)


def test_programs_and_their_signs(small, tmp_path, options, monkeypatch):
    monkeypatch.setattr(benchmark, "run_here", lambda arguments: None)
    commands = {}
    monkeypatch.setattr(benchmark, "seconds_until",
                        lambda command, sign: commands.update({sign: command}) or 1.5)
    monkeypatch.setattr(benchmark, "peak_megabytes", lambda command: len(command))
    files = benchmark.Files(benchmark.draw_folder(tmp_path / "pairs", 64, 32, 2), tmp_path)
    started = benchmark.start_contestants(options, files, None)
    assert [(one.name, one.baseline) for one in started] == [
        ("--help", None), ("option error", None), ("train", "keras train"), ("test", "keras test"),
        ("keras train", "keras train"), ("keras test", "keras test")]
    assert [one.turn() for one in started] == [1.5] * 6
    assert len(commands) == 6 and commands["usage"][2:] == ["--help"]
    train = commands["progress  epoch"]
    assert train[train.index("--max_steps") + 1] == "1"
    assert "keras_baseline.train(*" in commands["step 1"][2]
    measured = benchmark.memory_contestants(options, files, None)
    assert [one.name for one in measured] == ["train", "test", "keras train", "keras test"]
    assert all(one.turn() > 0 for one in measured)
    assert len(find_images(tmp_path / "tested-5")) == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Even though")
def test_programs_start_and_end(small, tmp_path, capsys):
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--what", "start", "memory", "--sizes", "32", "--ngf", "1", "--rounds",
                           "2", "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["unit"] for row in rows] == ["s"] * 6 + ["MB"] * 4
    medians = {row["name"]: row["median"] for row in rows[:6]}
    assert medians["train"] > medians["--help"] + 1  # TensorFlow has been imported
    assert all(row["median"] > 100 for row in rows[6:])


def test_wrong_options_are_one_line(capsys, tmp_path):
    def error(*arguments):
        """The error of a command line that is refused."""
        assert benchmark.main([*arguments]) == 2
        text = capsys.readouterr().err
        assert text.startswith("benchmark.py: error: ") and text.count("\n") == 1
        return text
    assert "31" in error("--sizes", "31")
    assert "multiple of 32" in error("--sizes", "40", "--rounds", "2")
    assert "lunch" in error("--what", "lunch")
    assert "is not a folder" in error("--input_dir", str(tmp_path / "none"))
    assert "contains no" in error("--input_dir", str(tmp_path))
    for address in ("https://host/v1/models/a", "http://host", "127.0.0.1:8501", "http://[/a",
                    "http://host:port/v1/models/a"):
        assert f"{address}: give http://HOST:PORT/v1/models/NAME" in error(
            "--tensorflow_serving", address)
    assert "at least 101" in error("--requests", "100")
    assert "at least 2" in error("--parts", "1")
    benchmark.draw_folder(tmp_path / "pairs", 64, 32, 3)
    assert "does not divide the 3 pairs" in error(
        "--input_dir", str(tmp_path / "pairs"), "--batch_sizes", "1", "2")
