"""tools/benchmark.py: what it counts, by arithmetic; the rows it writes; what a step may cost."""

import json
import signal
import sys
import tempfile

import numpy as np
import pytest
from PIL import Image

import pix2pix
from tools import benchmark
from tools.lib import fast_conv
from tools.lib.cli import UserError, with_options
from tools.lib.fast_conv import conv2d, conv2d_transpose, winograd_conv2d
from tools.lib.image_files import find_images
from tools.lib.tf1 import fast_precision, tf

# ---- what is counted in a graph


@pytest.mark.parametrize("max_pixels", [0, 256])  # as convolutions, as products
def test_operations_by_hand(monkeypatch, max_pixels):
    monkeypatch.setattr(fast_conv, "IM2COL_MAX_PIXELS", max_pixels)
    with tf.Graph().as_default():
        x = tf.zeros([2, 8, 16, 3])
        small = conv2d(x, tf.ones([4, 4, 3, 5]), 2, "SAME")  # [2, 4, 8, 5]
        forward = 2 * 16 * 3 * 5 * 2 * 4 * 8
        assert benchmark.count_operations(small.op) == forward
        kernel = tf.ones([4, 4, 7, 5])
        large = conv2d_transpose(small, kernel)
        upward = 2 * 16 * 7 * 5 * 2 * 4 * 8
        assert benchmark.count_operations(large.op) == forward + upward
        gradients = tf.group(*tf.gradients(tf.square(large), [x, kernel]))
        assert benchmark.count_operations(gradients) == 2 * forward + 3 * upward


def test_operations_of_winograds_tiles_by_hand():
    with tf.Graph().as_default():
        outputs = winograd_conv2d(tf.zeros([2, 9, 8, 3]), tf.ones([4, 4, 3, 5]))
        num_tiles = 2 * 3 * 3  # of 2x2 for 6x5 results
        assert benchmark.count_operations(outputs.op) == 2 * 25 * (
            25 * num_tiles * 3 + 16 * 3 * 5 + num_tiles * 3 * 5 + 4 * num_tiles * 5)


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


@pytest.mark.parametrize("precision, num_bytes", [("float32", 4.524e9), ("bfloat16", 3.938e9)])
def test_a_step_does_no_more_work_than_documented(tmp_path, precision, num_bytes):
    """docs/tools.md, benchmark.py: another layer, pass or copy of the weights shows here."""
    step = create_default_step(tmp_path, precision=precision)
    assert benchmark.count_operations(step) == pytest.approx(65.03e9, rel=0.001)
    assert benchmark.count_bytes(step) == pytest.approx(num_bytes, rel=0.005)
    needed = benchmark.find_needed(step)
    types = [operation.outputs[0].dtype.name for operation in needed
             if "MatMul" in operation.type or operation.type.startswith("Conv2D")]
    assert len(types) > 60 and {*types} == {precision}
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


# ---- the groups, on tiny networks and images


@pytest.fixture
def small(monkeypatch):
    """Little work in each turn, and the tutorial's step without compiling it."""
    for name, value in (("MATRIX_SIZE", 64), ("COPY_BYTES", 2**16), ("STEPS_IN_TURN", 2),
                        ("PAIRS_IN_TURN", 8), ("NUM_TESTED", 5), ("NUM_PHOTOS", 3),
                        ("NUM_PLAIN", 2), ("NUM_DRAWN", 2)):
        monkeypatch.setattr(benchmark, name, value)
    for what, group in benchmark.GROUPS.items():
        monkeypatch.setitem(benchmark.GROUPS, what, group._replace(warm_up=0))
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


MACHINE = ["product float32", "product bfloat16", "copy"]
NETWORKS = ["float32", "bfloat16", "keras"]


@pytest.mark.parametrize("what, names, unit, columns", [
    ("step", MACHINE + NETWORKS, "steps/s", {"to_baseline", "to_limit"}),
    ("train", MACHINE + NETWORKS, "steps/s", {"to_baseline", "to_limit"}),
    ("input", ["create_examples", "keras", "step"], "pairs/s", {"to_baseline", "to_step"}),
    ("test", MACHINE + NETWORKS, "images/s", {"to_baseline", "to_limit"}),
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


def test_a_share_is_the_second_functions_extra_time(monkeypatch):
    clock = iter([10.0, 14.0, 19.0])  # 4 seconds, then 5
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert benchmark.share(lambda: None, lambda: None, 50)() == 100 / 4 / 50


def test_groups_sizes_and_batches_are_chosen(monkeypatch, tmp_path, capsys):
    seen = []

    def create(model, files):
        """A group of one contestant."""
        seen.append((model.crop_size, model.batch_size, model.ngf, model.ndf,
                     len(find_images(files.pairs))))
        return [benchmark.Contestant("a", lambda: 1.0, "s")]
    for what in ("start", "memory"):
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


def test_drawn_images_are_like_facades(tmp_path):
    path, = benchmark.draw_folder(tmp_path / "pairs", 512, 256, 1).iterdir()
    with Image.open(path) as image:
        assert image.size == (512, 256) and image.format == "JPEG"
    assert 40_000 < path.stat().st_size < 65_000
    copies = benchmark.fill_folder(tmp_path / "copies", tmp_path / "pairs", 3)
    assert [copy.read_bytes() for copy in copies.iterdir()] == [path.read_bytes()] * 3


def test_test_mode_is_timed_from_its_first_image_to_its_last(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()

    def write(_arguments):
        """Three results, the last after 6 seconds."""
        for number, seconds in enumerate((100, 102.5, 106)):
            path = tmp_path / f"images/{number}-outputs.png"
            path.touch()
            benchmark.os.utime(path, (seconds, seconds))
    monkeypatch.setattr(benchmark, "run_here", write)
    assert benchmark.create_test([], tmp_path)() == pytest.approx(2 / 6)


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
    started = benchmark.start_contestants(options, files)
    assert [(one.name, one.baseline) for one in started] == [
        ("--help", None), ("option error", None), ("train", "keras train"), ("test", "keras test"),
        ("keras train", "keras train"), ("keras test", "keras test")]
    assert [one.turn() for one in started] == [1.5] * 6
    assert len(commands) == 6 and commands["usage"][2:] == ["--help"]
    train = commands["progress  epoch"]
    assert train[train.index("--max_steps") + 1] == "1"
    assert "keras_baseline.train(*" in commands["step 1"][2]
    measured = benchmark.memory_contestants(options, files)
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
    benchmark.draw_folder(tmp_path / "pairs", 64, 32, 3)
    assert "does not divide the 3 pairs" in error(
        "--input_dir", str(tmp_path / "pairs"), "--batch_sizes", "1", "2")
