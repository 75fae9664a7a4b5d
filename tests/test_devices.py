"""Several devices of one machine: here parts of the CPU, which have the same code in TensorFlow."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import (assert_equal_runs, draw_pairs, read_files, read_images, read_variables, resume,
                     run, run_graph, start_session, stop_at, train_small)
from test_reliability import cut, poison, save_pair

import pix2pix
from tools.lib import cluster, dataset, tf1, towers
from tools.lib.cli import UserError
from tools.lib.tf1 import tf

pytestmark = pytest.mark.usefixtures("in_empty_folder", "gpus")

PARTS = ["--batch_size", 2, "--grad_accumulation", 4, "--max_steps", 3, "--progress_freq", 1]
KINDS = [  # of models and steps, the number of devices before them
    "2 --crop_size 64 --norm batch --ema_generator 0.9 --lr_decay linear --feature_weight 10",
    "3 --generator encoder_decoder --norm instance --gan_loss hinge --diffaugment --display_freq 1",
    "4 --crop_size 64 --norm batch --precision bfloat16 --unconditional --augment vflip noise",
    "2 --separable_conv --b_range 0 255 --b_ignore 7 --a_ignore 9 --mask_channel"]


@pytest.fixture
def gpus(monkeypatch):
    """Four devices that pass for GPUs."""
    real = tf1.session_config

    def session_config():
        config = real()
        config.device_count["CPU"] = 4
        return config
    monkeypatch.setattr(tf1, "session_config", session_config)
    monkeypatch.setattr(tf1, "list_gpus", lambda: [f"/cpu:{number}" for number in range(4)])


def record_devices(monkeypatch):
    """The devices of the loops in the graphs that are trained."""
    found, real = [], pix2pix.run_training

    def run_training(training, *more):
        found.append({operation.device for operation in training.sess.graph.get_operations()
                      if operation.type.endswith("While") and operation.device})
        return real(training, *more)
    monkeypatch.setattr(pix2pix, "run_training", run_training)
    return found


@pytest.mark.usefixtures("optimized")  # some kernels are fused there, with other bits
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[:40])
def test_devices_change_no_bit(tmp_path, monkeypatch, kind):
    """11 images make steps of 8 and 3: parts of 2, 2, 2, 2 and 2, 1."""
    draw_pairs(tmp_path / "bars/train", 11)
    num_gpus, *flags = kind.split()
    assert train_small("one", *PARTS, *flags) == 0
    used = record_devices(monkeypatch)
    assert train_small("several", *PARTS, *flags, "--num_gpus", num_gpus) == 0
    assert len(used[0]) == int(num_gpus) - 1  # and that which TensorFlow chooses
    assert_equal_runs("one", "several")
    images = read_images("one")
    assert len(images) > 20 * ("display_freq" in kind) - 1 and read_images("several") == images


def test_a_resume_may_have_another_number_of_devices(tmp_path, monkeypatch):
    draw_pairs(tmp_path / "bars/train", 11)
    assert train_small("one", *PARTS, "--max_steps", 4) == 0
    go_on = stop_at(monkeypatch, 1)
    assert train_small("parts", *PARTS, "--num_gpus", 3) == 130
    go_on()
    stored = json.loads(Path("parts/options.json").read_text())
    assert not {"num_gpus", "cluster", "worker_timeout", "allow_public", "task", "keep"} & {*stored}
    used = record_devices(monkeypatch)
    assert resume("parts", "--max_steps", 2) == 0
    assert len(used[-1]) == 0  # they are the command's, not the run's
    assert resume("parts", "--max_steps", 4, "--num_gpus", "all") == 0
    assert len(used[-1]) == 3
    assert_equal_runs("one", "parts")


def test_what_goes_wrong_in_a_step_costs_the_same(tmp_path, monkeypatch, capsys):
    """Non-finite values of one part, and a file that cannot be read."""
    folder, real = tmp_path / "bars/train", dataset.check_files
    folder.mkdir(parents=True)
    for number in range(23):
        save_pair(folder / f"{number:02}.png", 10 + number)
    cut(folder / "06.png", 0.3)
    monkeypatch.setattr(dataset, "check_files", lambda paths, *more: real(paths[:1], *more))
    poison(monkeypatch, 12)
    for run_dir, *flags in (["one"], ["several", "--num_gpus", 3]):
        assert train_small(run_dir, *PARTS, "--max_steps", 6, "--on_bad_image", "skip", *flags) == 0
        error = capsys.readouterr().err
        assert "is not finite" in error and "06.png cannot be used" in error
    assert_equal_runs("one", "several")
    assert read_variables("several")["global_step"] == 6


def test_too_few_parts_or_gpus_are_refused(tmp_path, capsys):
    draw_pairs(tmp_path / "bars/train", 4)
    for flags, text in (
            (["--num_gpus", 4, "--batch_size", 4],
             "give --batch_size 1 --grad_accumulation 4 for steps of 4 images as now"),
            (["--num_gpus", "all", "--grad_accumulation", 3], "4 devices need a step of 4 parts at "
             "least, --grad_accumulation 3 has 3: give --grad_accumulation 4, or fewer devices"),
            (["--num_gpus", 5, "--grad_accumulation", 8],
             "--num_gpus 5: TensorFlow finds 4 here: give fewer, or --num_gpus all"),
            (["--num_gpus", 0], "--num_gpus: 0: give a whole number of at least 1"),
            (["--num_gpus", "some"], "--num_gpus: some: give a whole number")):
        assert train_small("run", *flags) == 2
        assert text in capsys.readouterr().err
    assert not Path("run").exists()


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(tf1, "list_gpus", lambda: [])
    assert cluster.local_devices(None) == cluster.local_devices(1) == [""]
    assert cluster.local_devices("all") == [""]
    with pytest.raises(UserError, match="--num_gpus 2: TensorFlow finds no GPU here"):
        cluster.local_devices(2)


@pytest.mark.parametrize("flags", [[], ["--tile", 32], ["--test_dropout"]])
def test_test_mode_gives_the_same_files(trained, monkeypatch, flags):
    """Seven images on three devices."""
    real, devices = pix2pix.create_test_run, []

    def create_test_run(found, options, shard, device):
        devices.append(device)
        return real(found, options, shard, device)
    monkeypatch.setattr(pix2pix, "create_test_run", create_test_run)
    results = []
    for num_gpus in (1, 3):
        assert run("--mode", "test", "--input_dir", trained / "bars/val", "--checkpoint",
                   trained / "bars_train", "--output_dir", "out", "--num_gpus", num_gpus,
                   *flags) == 0
        results.append(read_files("out"))
    assert devices == ["", "", "/cpu:1", "/cpu:2"]
    assert results[0] == results[1]


def test_no_more_devices_than_images(trained, capsys):
    assert run("--mode", "test", "--input_dir", trained / "bars/val", "--max_images", 2,
               "--checkpoint", trained / "bars_train", "--output_dir", "out", "--num_gpus", 4) == 0
    assert "wrote 2 of 2 images" in capsys.readouterr().out


# ---- towers


def test_sums_are_made_in_the_order_of_the_parts():
    """Of float32 numbers that give another sum in another order."""
    values = np.float32([1e8, 3, -1e8, 1e-3, 7, 1e8, 5, -1e8, 0.1, 2, 3])

    def compute(part, first, _):
        return towers.Part([part.inputs], [tf.reduce_sum(part.inputs) + tf.cast(first, tf.float32)])

    def deal(count, num_devices):
        devices = ["", "/cpu:1", "/cpu:2", "/cpu:3"][:num_devices]
        return run_graph(lambda: towers.deal_parts(
            pix2pix.Examples(tf.range(count), tf.constant(values[:count, None, None, None])), 2,
            compute, devices))
    for count in (1, 2, 5, 8, 11):
        total = np.float32(0)
        for first in range(0, count, 2):
            part = values[first:first + 2][:count - first]
            share = np.float32(len(part)) / np.float32(count)
            total = np.float32(total + share * np.float32(part.sum(dtype=np.float32) + first))
        for num_devices in (1, 2, 3, 4):
            images, (mean,) = deal(count, num_devices)
            assert mean == total, (count, num_devices)
            np.testing.assert_array_equal(images[0].ravel(), values[:count])


def test_what_is_held_is_seen_by_the_next_run():
    with tf.Graph().as_default() as graph:
        number = tf.placeholder(tf.float32, [None])
        (held, absent), store = towers.hold(({"a": number, "b": number + 1}, []))
        with start_session(graph) as sess:
            for values in ([1], [2, 3]):
                sess.run(store, {number: values})
                assert sess.run(held["b"]).tolist() == [value + 1 for value in values]
    assert absent == [] and held["a"].shape.as_list() == [None]
