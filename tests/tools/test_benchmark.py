"""tools/benchmark.py: what it counts, by arithmetic; that it runs; what a step may cost."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import ROOT

import pix2pix
from pix2pix import tf

spec = importlib.util.spec_from_file_location("benchmark_tool", ROOT / "tools/benchmark.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize("most", [0, 256])  # as convolutions, as products
def test_operations_are_those_of_a_pencil(monkeypatch, most):
    monkeypatch.setattr(pix2pix, "SMALL_MAP", most)
    with tf.Graph().as_default():
        x = tf.zeros([2, 8, 16, 3])
        small = pix2pix.convolve(x, tf.ones([4, 4, 3, 5]), 2, "SAME")  # [2, 4, 8, 5]
        forward = 2 * 16 * 3 * 5 * 2 * 4 * 8
        assert benchmark.count_operations(small.op) == forward
        kernel = tf.ones([4, 4, 7, 5])
        large = pix2pix.deconvolve(small, kernel)
        upward = 2 * 16 * 7 * 5 * 2 * 4 * 8
        assert benchmark.count_operations(large.op) == forward + upward
        gradients = tf.group(*tf.gradients(tf.square(large), [x, kernel]))
        assert benchmark.count_operations(gradients) == 2 * forward + 3 * upward


def create_default_step(folder, **changes):
    """The op of the default training step on one picture."""
    options = pix2pix.parse_args(["--mode", "train", "--input_dir", str(folder), "--output_dir",
                                  str(folder / "run"), "--seed", "1"])
    with tf.Graph().as_default():
        picture = tf.zeros([1, 256, 256, 3])
        return pix2pix.create_model(pix2pix.Examples(tf.range(1), picture, picture),
                                    pix2pix.with_options(options, **changes)).train


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_does_no_more_work_than_documented(tmp_path, precision):
    """docs/benchmarks.md: 80.5 GFLOP; a layer or a pass more shows here."""
    step = create_default_step(tmp_path, precision=precision)
    assert benchmark.count_operations(step) == pytest.approx(80.55e9, rel=0.001)
    types = [operation.outputs[0].dtype.name for operation in benchmark.find_needed(step)
             if operation.type == "MatMul" or operation.type.startswith("Conv2D")]
    assert len(types) > 60 and {*types} == {precision}


def test_the_rows_are_by_turns_and_in_ratio(tmp_path, capsys):
    out = tmp_path / "bench.jsonl"
    assert benchmark.main(["--sizes", "32", "--ngf", "1", "--rounds", "2", "--output",
                           str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["float32", "bfloat16", "keras"]
    keras = rows[2]["steps_per_second"]
    for row in rows:
        assert row["to_keras"] == pytest.approx(row["steps_per_second"] / keras)
        seconds = row["operations"] / row["bfloat16" if row["name"] == "bfloat16" else "float32"] \
            + 28 * row["weights"] / row["copy"]
        assert row["to_limit"] == pytest.approx(seconds * row["steps_per_second"])
    assert capsys.readouterr().out.count("| 32 | 1 | 1 |") == 3


def test_everything_has_its_turn_in_every_round():
    order = []
    seconds = benchmark.measure({name: lambda name=name: order.append(name) for name in "abc"}, 4)
    assert order == list("abc") * 6
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 4)
    assert np.min([*seconds.values()]) >= 0


def test_wrong_options_are_one_line(capsys):
    assert benchmark.main(["--sizes", "31"]) == 2
    assert capsys.readouterr().err.startswith("benchmark.py: error: ")
    assert benchmark.main(["--sizes", "40", "--rounds", "2"]) == 2  # no multiple of 32
    assert "multiple of 32" in capsys.readouterr().err
