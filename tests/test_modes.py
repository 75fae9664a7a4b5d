"""The modes, end to end through main([...]), on small drawn pairs."""

import json
import math
import os
import re
import signal
import threading
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
from helpers import (SHARED, assert_equal_runs, draw_pairs, read_files, read_images, read_page_data,
                     read_pixels, read_shown, read_variables, resume, run, smooth_images,
                     start_session, stop_at, train_small)
from PIL import Image

import pix2pix
from tools.lib import testing
from tools.lib.cli import Options, UserError, with_options
from tools.lib.fast_conv import layers_for
from tools.lib.page import save_images
from tools.lib.resume import with_totals
from tools.lib.schedule import ENDLESS, Progress, due_after, find_stop_step, measure_progress
from tools.lib.tf1 import tf

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def train(folder, *flags):
    """Trains a small model on 64x64 images of a folder; returns the exit code."""
    return run("--mode", "train", "--input_dir", folder, "--ngf", 2, "--ndf", 2, "--crop_size", 64,
               "--seed", 7, *flags)


def run_test(trained, folder, *flags):
    """Tests `trained` on its bars/val."""
    assert run("--mode", "test", "--input_dir", trained / "bars/val", "--checkpoint",
               trained / "bars_train", "--output_dir", folder, *flags) == 0


def test_training_folder_holds_what_the_docs_say(trained):
    run_dir = trained / "bars_train"
    assert json.loads((run_dir / "options.json").read_text())["which_direction"] == "BtoA"
    steps = [path.stem for path in sorted(run_dir.glob("model-*.index"))]
    assert steps == ["model-2", "model-4", "model-6"]
    assert tf.train.latest_checkpoint(str(run_dir)).endswith("model-6")
    rows = (run_dir / "log.csv").read_text().splitlines()
    assert rows[0].startswith("step,epoch,discrim_loss,gen_loss_GAN,gen_loss_L1")
    assert [row.split(",")[:2] for row in rows[1:]] == [["2", "1"], ["4", "2"], ["6", "2"]]
    assert all(math.isfinite(float(cell)) for row in rows[1:] for cell in row.split(","))
    shown = read_shown(run_dir)
    # batches of 2, 2 and 1: after steps 4 (2 images) and 6 (1), three files each
    assert len(shown["display"]) == 3 and len([*(run_dir / "images").iterdir()]) == 9
    assert all((run_dir / f"images/{link}-{kind}.png").exists()
               for _, link in shown["display"] for kind in ("inputs", "outputs", "targets"))
    assert shown["state"] == "finished" and shown["progress"]["step"] == 6
    assert shown["columns"]["step"] == [2, 4, 6]
    assert ["training", "5 pairs in bars/train"] in shown["facts"]
    given = {flag: value for flag, value, is_default in shown["options"] if not is_default}
    assert given["--batch_size"] == "2" and not {"--lr", "--seed", "--trained_ratio"} & {*given}
    assert ["--batch_size", "2"] in shown["facts"] and ["--lr", "0.0002"] in shown["facts"]
    trace = json.loads((run_dir / "trace-5.json").read_text())
    assert any("conv2d" in str(event.get("args", "")) for event in trace["traceEvents"])


def test_tensorboard_events_hold_scalars_and_images_but_no_histograms(trained):
    path, = (trained / "bars_train").glob("events.out.tfevents.*")
    tags = {}
    for event in tf.train.summary_iterator(str(path)):
        for value in event.summary.value:
            tags.setdefault(value.tag, []).append((event.step, value.WhichOneof("value")))
    assert tags["discrim_loss"] == [(3, "simple_value"), (6, "simple_value")]
    assert any(tag.startswith("outputs") and values[0] == (3, "image")
               for tag, values in tags.items())
    assert not any(kind == "histo" for values in tags.values() for _, kind in values)


def test_histograms_behind_their_flag(tmp_path):
    draw_pairs(tmp_path / "bars" / "train", 2)
    assert train("bars/train", "--max_steps", 1, "--summary_freq", 1, "--summary_histograms") == 0
    path, = Path("bars_train").glob("events.out.tfevents.*")
    kinds = {value.WhichOneof("value") for event in tf.train.summary_iterator(str(path))
             for value in event.summary.value}
    assert "histo" in kinds


def test_lines_are_affinelayers(tmp_path, capsys):
    draw_pairs(tmp_path / "bars" / "train", 3)
    assert train("bars/train", "--max_epochs", 2, "--progress_freq", 4, "--summary_freq", 0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "examples count = 3" in lines and "ngf = 2" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("progress  "))
    assert re.fullmatch(r"progress  epoch 2  step 1  image/sec [\d.]+  remaining 0m", lines[at])
    assert [line.split()[0] for line in lines[at + 1:at + 4]] == [
        "discrim_loss", "gen_loss_GAN", "gen_loss_L1"]


def test_test_writes_each_image_once_in_order(trained, tmp_path, capsys):
    run_test(trained, "out", "--batch_size", 3)
    assert "wrote 7 of 7 images" in capsys.readouterr().out
    images = read_images(tmp_path / "out")
    assert sorted(images) == sorted(f"{number}-{kind}.png" for number in range(1, 8)
                                    for kind in ("inputs", "outputs", "targets"))
    assert [row[0] for row in read_page_data("out")["rows"]] == list("1234567")
    # the right half is the input (BtoA); number 2 is a PNG, so exact
    with Image.open(trained / "bars/val/2.png") as pair, \
            Image.open(tmp_path / "out/images/2-inputs.png") as inputs, \
            Image.open(tmp_path / "out/images/2-targets.png") as targets:
        np.testing.assert_array_equal(inputs, np.asarray(pair)[:, 64:])
        np.testing.assert_array_equal(targets, np.asarray(pair)[:, :64])
    rows = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["name", *"1234567"]
    outputs, targets = (read_pixels(f"out/images/3-{kind}.png") for kind in ("outputs", "targets"))
    l1 = np.abs(outputs - targets).mean() / 255
    assert abs(float(rows[3].split(",")[1]) - l1) < 1e-4


def test_same_bytes_whatever_the_batch_and_run(trained, tmp_path):
    results = []
    for number, batch_size in enumerate([1, 1, 4]):
        run_test(trained, f"out{number}", "--batch_size", batch_size)
        results.append(read_images(tmp_path / f"out{number}"))
    assert len(results[0]) == 3 * 7 and results[0] == results[1] == results[2]


def test_images_done_out_of_order_are_listed_in_order(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    lock, second, first_two = threading.Lock(), threading.Event(), threading.Barrier(2)
    begun, at_once, most, real = [], 0, 0, save_images

    def save(output_dir, names, images, drawn):
        """Holds the first two that come until both are there, and image 1 until 2 is done."""
        nonlocal at_once, most
        with lock:
            begun.append(*names)
            at_once += 1
            most, count = max(most, at_once), len(begun)
        if count <= 2:
            first_two.wait(60)
        assert names != ["1"] or second.wait(60), "no other image is worked on meanwhile"
        real(output_dir, names, images, drawn)
        with lock:
            at_once -= 1
        if names == ["2"]:
            second.set()
    monkeypatch.setattr(testing, "save_images", save)
    run_test(trained, "out")
    assert most in (2, 3) and sorted(begun) == [*"1234567"]
    assert [row[0] for row in read_page_data("out")["rows"]] == list("1234567")
    rows = Path("out/metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["name", *"1234567"]


@pytest.mark.parametrize("crop_size, cores, expected", [
    (256, 1, 1), (256, 5, 5), (512, 64, 8), (4096, 64, 1)])
def test_no_more_images_at_once_than_cores_and_memory_allow(monkeypatch, crop_size, cores,
                                                              expected):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(testing, "save_images", lambda *_: None)
    lock, all_there, at_once, most = threading.Lock(), threading.Barrier(expected), 0, 0

    def generate():
        """Passes when as many as expected have come."""
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        all_there.wait(60)
        with lock:
            at_once -= 1
        return [0], (), (), {}
    results = testing.generate_images([generate], ["name"] * 40, "out", {}, crop_size**2)
    assert [*results] == [None] * 40
    assert most == expected


def no_space():
    """A full disk."""
    raise OSError(28, "No space left on device")


def test_a_test_that_cannot_go_on_ends_with_all_its_threads(trained, capsys, monkeypatch):
    monkeypatch.setattr(testing, "save_images",
                        lambda _, names, *__: names == ["1"] and no_space())
    assert run("--mode", "test", "--input_dir", trained / "bars/val", "--checkpoint",
               trained / "bars_train", "--output_dir", "out") == 1
    assert "No space left" in capsys.readouterr().err
    assert not Path("out/index.html").exists()
    assert not [thread for thread in threading.enumerate() if "(worker)" in thread.name]


def stop_test_at(monkeypatch, name, number):
    """A signal while a test is saving the image of this name, which waits until it has arrived, as
    those after it do."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    real_save, real_terminate, arrived = save_images, ThreadPool.terminate, threading.Event()

    def save(output_dir, names, images, drawn):
        if names == [name]:
            signal.pthread_kill(threading.main_thread().ident, number)
        if int(names[0]) >= int(name):
            assert arrived.wait(60)
        real_save(output_dir, names, images, drawn)

    def terminate(pool):
        arrived.set()
        real_terminate(pool)
    monkeypatch.setattr(testing, "save_images", save)
    monkeypatch.setattr(ThreadPool, "terminate", terminate)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_test_that_is_stopped_leaves_a_page_of_what_is_done(trained, tmp_path, capsys,
                                                              monkeypatch, number, code):
    run_test(trained, "whole")
    stop_test_at(monkeypatch, "3", number)
    capsys.readouterr()
    assert run("--mode", "test", "--input_dir", trained / "bars/val", "--checkpoint",
               trained / "bars_train", "--output_dir", "out") == code
    printed = capsys.readouterr()
    assert printed.err == "" and not [thread for thread in threading.enumerate()
                                      if "(worker)" in thread.name]
    names = [row[0] for row in read_page_data("out")["rows"]]
    assert "3" in names and 3 <= len(names) < 7 and names == sorted(names)
    assert f"This page shows {len(names)} of 7 images: " in Path("out/index.html").read_text()
    assert re.search(rf"^wrote {len(names)} of 7 images to out/index.html, ", printed.out, re.M)
    assert "\nstopped; the same command tests all images again\n" in printed.out
    # everything there is listed, and equals what a whole test gives
    images, whole = read_images(tmp_path / "out"), read_images(tmp_path / "whole")
    assert sorted(images) == [f"{name}-{kind}.png" for name in names
                              for kind in ("inputs", "outputs", "targets")]
    assert images.items() <= whole.items()
    rows, whole_rows = (Path(folder, "metrics.csv").read_text().splitlines()
                        for folder in ("out", "whole"))
    assert [row.split(",")[0] for row in rows] == ["name", *names] and {*rows} <= {*whole_rows}
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["count"] == len(names)
    assert metrics["l1"] == pytest.approx(np.mean([float(row.split(",")[1]) for row in rows[1:]]),
                                          rel=1e-4)


def test_a_test_that_is_stopped_before_its_first_image_says_so(trained, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt
        yield
    monkeypatch.setattr(testing, "generate_images", interrupted)
    assert run("--mode", "test", "--input_dir", trained / "bars/val", "--checkpoint",
               trained / "bars_train", "--output_dir", "out") == 130
    assert "wrote 0 of 7 images to out/index.html" in capsys.readouterr().out
    assert "This page shows 0 of 7 images: " in Path("out/index.html").read_text()
    assert not Path("out/metrics.csv").exists() and not Path("out/sheet.png").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_kernels_are_converted_once_and_give_the_same_bits(options, precision):
    inputs = smooth_images(4, 1, size=64)
    options = with_options(options, crop_size=64, precision=precision)

    def outputs(getter):
        """The generator's outputs, and the types of its kernels."""
        with tf.Graph().as_default() as graph:
            with layers_for("inference"), tf.variable_scope("", custom_getter=getter):
                fetch = pix2pix.create_outputs(tf.constant(inputs), options)
            with start_session(graph, fill=True) as sess:
                types = {variable.op.name: variable.dtype.base_dtype.name
                         for variable in tf.global_variables()}
                return sess.run(fetch), types
    expected, before = outputs(None)
    got, after = outputs(pix2pix.kernels_in(precision))
    np.testing.assert_array_equal(got, expected)
    assert before.keys() == after.keys() and set(before.values()) == {"float32"}
    assert {name for name, dtype in after.items() if dtype == precision} >= {
        name for name in after if name.endswith("/kernel")}
    assert after["generator/decoder_1/conv2d_transpose/bias"] == "float32"


def test_test_replaces_earlier_results(trained, tmp_path):
    arguments = ["--mode", "test", "--checkpoint", trained / "bars_train", "--output_dir", "out"]
    assert run(*arguments, "--input_dir", trained / "bars/val") == 0
    assert run(*arguments, "--input_dir", trained / "bars/train") == 0
    assert len(read_images(tmp_path / "out")) == 3 * 5


@pytest.mark.parametrize("flags, test_flags, size, mode", [
    (["--bottleneck_norm", "--no_flip"], ["--aspect_ratio", 1.5], (96, 64), "RGB"),
    (["--lab_colorization"], [], (64, 64), "RGB"),
    (["--lab_colorization", "--which_direction", "BtoA", "--batch_size", 2], [], (64, 64), "L"),
    (["--gan_weight", 0, "--scale_size", 64], [], (64, 64), "RGB")])
def test_variants_train_and_test(tmp_path, flags, test_flags, size, mode):
    kind = "single" if "--lab_colorization" in flags else "pair"
    draw_pairs(tmp_path / "bars" / "train", 3, kind)
    assert train("bars/train", "--max_steps", 2, "--summary_freq", 2, *flags) == 0
    assert run("--mode", "test", "--input_dir", "bars/train", *test_flags) == 0
    with Image.open("bars_test/images/1-outputs.png") as image:
        assert (image.size, image.mode) == (size, mode)


def test_defaults_train_and_test(tmp_path, optimized):
    """At the size and with the optimization of graphs that users have."""
    draw_pairs(tmp_path / "bars" / "train", 3)
    assert run("--mode", "train", "--input_dir", "bars/train", "--ngf", 1, "--ndf", 1,
               "--max_steps", 2) == 0
    assert run("--mode", "test", "--input_dir", "bars/train") == 0
    assert read_pixels("bars_test/images/1-outputs.png").shape == (256, 256, 3)


def test_resume_equals_one_run(tmp_path):
    draw_pairs(tmp_path / "bars" / "train", 5)
    flags = ["--batch_size", 2, "--progress_freq", 1]
    assert train_small("whole", "--max_steps", 5, *flags) == 0
    assert train_small("parts", "--max_steps", 2, *flags) == 0
    assert resume("parts", "--max_steps", 5) == 0
    assert_equal_runs("whole", "parts")
    assert read_variables("whole")["global_step"] == 5


def test_resume_is_exact_with_schedule_averages_parts_and_augmentation(tmp_path, monkeypatch):
    draw_pairs(tmp_path / "bars" / "train", 5)
    flags = ["--max_epochs", 2, "--progress_freq", 1, "--lr_decay", "cosine", "--decay_from", 1,
             "--ema_generator", 0.9, "--grad_accumulation", 2, "--diffaugment",
             "--label_smoothing", 0.1,
             "--augment", "vflip", "rot90", "scale", "brightness", "contrast", "noise"]
    assert train_small("whole", *flags) == 0
    stop_at(monkeypatch, 2)
    assert train_small("parts", *flags) == 130
    assert read_variables("parts")["global_step"] == 2
    assert resume("parts") == 0
    assert_equal_runs("whole", "parts")
    rows = [row.split(",") for row in Path("whole/log.csv").read_text().splitlines()]
    lr = rows[0].index("lr")
    expected = [0.0002 * (1 + math.cos(math.pi * max(step - 1, 0) / 5)) / 2 for step in range(6)]
    assert [float(row[lr]) for row in rows[1:]] == pytest.approx(expected, rel=1e-5)


def test_a_run_from_a_checkpoint_resumes_to_its_own_end(tiny, monkeypatch, capsys):
    os.symlink(tiny / "bars", "bars")
    flags = ["--checkpoint", tiny / "whole", "--progress_freq", 1, "--batch_size", 2,
             "--max_epochs", 1, "--lr_decay", "linear"]
    assert train_small("whole", *flags) == 0
    stop_at(monkeypatch, 9)  # 7 steps came along, 5 are to be taken
    assert train_small("parts", *flags) == 130
    # not the same command with --resume: --max_epochs, which is added to a checkpoint's, is a total
    advice = capsys.readouterr().out.splitlines()[-1].split("continue with ")[1]
    assert run(*advice.split()) == 0
    assert_equal_runs("whole", "parts")
    assert read_variables("parts")["global_step"] == 12
    assert json.loads(Path("parts/options.json").read_text())["decay_from"] == 9


def test_a_run_from_a_checkpoint_does_what_is_asked_where_its_weights_fit(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    flags = ["--checkpoint", tiny / "whole", "--which_direction", "BtoA", "--crop_size", 96]
    assert train_small("run", *flags, "--padding", "reflect", "--max_steps", 1, "--batch_size", 10,
                       "--no_flip", "--scale_size", 96, "--display_freq", 1) == 0
    # neither a rate nor what remains is known at the first step
    assert "\nprogress  epoch 8  step 1\ndiscrim_loss " in capsys.readouterr().out
    options = json.loads(Path("run/options.json").read_text())
    assert (options["which_direction"], options["padding"], options["crop_size"]) == (
        "BtoA", "reflect", 96)
    for path in sorted(Path("run/images").glob("*-inputs.png")):  # the right halves
        number = path.name.split("-")[1]
        pair, = Path("bars/train").glob(f"{number}.*")
        half = read_pixels(pair)[:, 64:].mean(axis=(0, 1))
        np.testing.assert_allclose(read_pixels(path).mean(axis=(0, 1)), half, atol=3)
    before = read_files("run")
    assert resume("run", "--which_direction", "AtoB", "--max_steps", 9) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "pix2pix.py: error: cannot resume with --which_direction AtoB, the run in run was trained "
        "with --which_direction BtoA: remove what differs, or train without --resume into another "
        "--output_dir")
    assert train_small("new", *flags, "--ngf", 2) == 2
    assert read_files("run") == before and not Path("new").exists()
    assert resume("run", "--which_direction", "BtoA", "--max_steps", 9, "--progress_freq", 1) == 0
    assert "\nprogress  epoch 9  step 1\ndiscrim_loss " in capsys.readouterr().out


def test_no_targets_takes_single_images(trained, tmp_path):
    draw_pairs(tmp_path / "single", 2, "single")
    assert run("--mode", "test", "--input_dir", "single", "--checkpoint", trained / "bars_train",
               "--no_targets", "--output_dir", "out") == 0
    names = {path.name for path in Path("out/images").iterdir()}
    assert names == {f"{n}-{kind}.png" for n in (1, 2) for kind in ("inputs", "outputs")}
    with Image.open("out/images/2-inputs.png") as got, Image.open("single/2.png") as expected:
        np.testing.assert_array_equal(got, expected)  # the whole image
    data = read_page_data("out")
    assert data["kinds"] == ["inputs", "outputs"] and not data["metrics"]
    assert data["rows"] == [["1", "1"], ["2", "2"]]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "images", "index.html", "options.json", "sheet.png"]


def test_dropout_at_test_is_drawn_by_seed_and_image(trained, tmp_path):
    def outputs(folder, *flags):
        run_test(trained, folder, *flags)
        return {name: contents for name, contents in read_images(tmp_path / folder).items()
                if "outputs" in name}
    without = outputs("none", "--seed", 1)
    first = outputs("first", "--seed", 1, "--test_dropout")
    assert first == outputs("again", "--seed", 1, "--test_dropout")
    other = outputs("other", "--seed", 2, "--test_dropout")
    assert all(first[name] != other[name] and first[name] != without[name] for name in first)


def test_strange_names_go_through(trained, tmp_path):
    draw_pairs(tmp_path / "bars" / "val", 1)
    whole = Path("bars/val/1.JPG").read_bytes()
    names = [b"a b", b"<i>%41#?&'", "\N{CAT}".encode(), b"\xff\xfe", b"two\nlines"]
    for name in names:
        with open(b"bars/val/" + name + b".jpg", "wb") as file:
            file.write(whole)
    assert run("--mode", "test", "--input_dir", "bars/val", "--checkpoint",
               trained / "bars_train", "--output_dir", "out") == 0
    written = os.listdir(b"out/images")
    assert len(written) == 3 * 6
    assert all(name + b"-outputs.png" in written for name in names)
    assert b"<i>" not in Path("out/index.html").read_bytes()
    shown = {os.fsencode(row[0]) for row in read_page_data("out")["rows"]}
    assert shown == {b"1", *names}


def test_a_test_writes_a_sheet_that_the_next_one_replaces(trained):
    run_test(trained, "out", "--sheet_columns", 3)
    with Image.open("out/sheet.png") as sheet:
        assert sheet.mode == "RGB"
        wide = np.asarray(sheet, int)
    first = read_pixels("out/images/1-outputs.png")
    assert (wide[10:74, 10 + 64 + 2:10 + 2 * 64 + 2] == first).all()
    run_test(trained, "out")
    with Image.open("out/sheet.png") as sheet:
        assert sheet.width < wide.shape[1] and sheet.height > wide.shape[0]
    run_test(trained, "out", "--sheet_columns", 0)
    assert not Path("out/sheet.png").exists()
    assert not list(Path("out").glob(".*"))


def test_resume_when_done_and_overwrite(tmp_path, capsys):
    draw_pairs(tmp_path / "bars" / "train", 2)
    assert train_small("run", "--max_steps", 2) == 0
    assert train_small("run", "--max_steps", 2, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert train_small("run", "--max_steps", 1, "--overwrite") == 0
    assert read_variables("run")["global_step"] == 1


def test_training_from_a_checkpoint_adds_steps(trained, tmp_path):
    assert train(trained / "bars/train", "--output_dir", "more", "--max_steps", 1, "--checkpoint",
                 trained / "bars_train") == 0
    before, after = read_variables(trained / "bars_train"), read_variables("more")
    assert (before["global_step"], after["global_step"]) == (6, 7)
    name = "generator/encoder_3/conv2d/kernel"
    assert 0 < np.abs(before[name] - after[name]).max() < 0.002
    assert json.loads(Path("more/options.json").read_text())["which_direction"] == "BtoA"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_stopped_saves_and_says_how_to_go_on(tmp_path, capsys, monkeypatch, number, code):
    draw_pairs(tmp_path / "bars" / "train", 2)
    stop_at(monkeypatch, 3, number)
    assert train_small("run", "--max_steps", 50) == code
    assert read_variables("run")["global_step"] == 3
    assert "--resume" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checkpoint_of_another_shape_is_refused(trained, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (trained / "bars_train").iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    stored = json.loads((copy / "options.json").read_text())
    (copy / "options.json").write_text(json.dumps({**stored, "ngf": 3}))
    arguments = ["--mode", "test", "--input_dir", trained / "bars/val", "--checkpoint", copy]
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "generator/encoder_1/conv2d/kernel" in error and "[4, 4, 3, 2]" in error


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["plain", "lab", "separable"])
def test_affinelayers_checkpoints_give_its_images(tmp_path, name):
    compat = SHARED / "compat"
    assert run("--mode", "test", "--input_dir", compat / "images", "--checkpoint",
               compat / name / "checkpoint", "--output_dir", "out") == 0
    for path in sorted((compat / name / "expected").iterdir()):
        got = read_pixels(tmp_path / "out/images" / path.name)
        assert np.abs(read_pixels(path) - got).max() <= 1, path.name
    assert len(list((tmp_path / "out/images").iterdir())) == 6


# The loop's small decisions


def options_with(**changes):
    """Options that the arithmetic of steps sees."""
    return Options(**{**dict.fromkeys(["max_steps", "max_epochs", "resume", "decay_from",
                                       "decay_from_epoch", "lr_decay", "val_dir"]), **changes})


def test_what_is_due():
    options = options_with(progress_freq=2, summary_freq=3, display_freq=0, trace_freq=0,
                           save_freq=4, keep_every_epochs=0, val_freq=3, sample_freq=2)
    due = [due_after(step, 5, 10, options) for step in range(1, 6)]
    assert [step for step, d in enumerate(due, 1) if d.sample] == [2, 4, 5]
    assert not any(d.validate for d in due)
    validating = [due_after(step, 5, 10, with_options(options, val_dir=["val"]))
                  for step in range(1, 6)]
    assert [step for step, d in enumerate(validating, 1) if d.validate] == [3, 5]
    assert [step for step, d in enumerate(validating, 1) if d.progress] == [2, 3, 4, 5]
    assert [step for step, d in enumerate(due, 1) if d.progress] == [2, 4, 5]
    assert [step for step, d in enumerate(due, 1) if d.summary] == [3, 5]
    assert [step for step, d in enumerate(due, 1) if d.save] == [4, 5]
    assert not any(d.display or d.trace or d.monitor or d.keep for d in due)
    options = options_with(progress_freq=0, summary_freq=0, display_freq=0, trace_freq=0,
                           save_freq=0, keep_every_epochs=2, val_freq=1, sample_freq=0)
    due = [due_after(step, 105, 10, options) for step in range(1, 106)]
    assert [step for step, d in enumerate(due, 1) if d.save] == [20, 40, 60, 80, 100, 105]
    assert [step for step, d in enumerate(due, 1) if d.keep] == [20, 40, 60, 80, 100]
    assert [step for step, d in enumerate(due, 1) if d.monitor] == [50, 100]


@pytest.mark.parametrize("changes, expected", [
    (dict(max_steps=7), 107), (dict(max_epochs=3), 130), (dict(max_steps=7, max_epochs=3), 107),
    (dict(), 100 + 2**32), (dict(max_steps=150, resume=True), 150),
    (dict(max_epochs=11, resume=True), 110)])
def test_where_a_run_stops(changes, expected):
    assert find_stop_step(options_with(**changes), 100, 10) == expected


@pytest.mark.parametrize("changes, start, expected", [
    (dict(max_epochs=3), 0, dict(max_epochs=3, max_steps=None, decay_from=None)),
    (dict(max_epochs=3), 100, dict(max_epochs=None, max_steps=130)),
    (dict(max_steps=7), 100, dict(max_steps=107)),
    (dict(), 100, dict(max_steps=None, max_epochs=None)),
    (dict(max_epochs=3, lr_decay="linear"), 0, dict(decay_from=15)),
    (dict(max_steps=50, lr_decay="linear"), 100, dict(decay_from=125)),
    (dict(max_steps=50, lr_decay="linear", decay_from=20), 100, dict(decay_from=120)),
    (dict(max_epochs=9, lr_decay="linear", decay_from_epoch=2), 0,
     dict(decay_from=20, decay_from_epoch=None)),
    (dict(max_steps=150, resume=True, lr_decay="cosine", decay_from=120), 110,
     dict(max_steps=150, decay_from=120))])
def test_counts_are_stored_as_totals(changes, start, expected):
    options = options_with(**{"lr_decay": "none", **changes})
    stop = find_stop_step(options, start, 10)
    totals = with_totals(options, start, stop, 10)
    assert {name: getattr(totals, name) for name in expected} == expected
    # resumed, they mean the same
    again = with_options(totals, resume=True)
    assert find_stop_step(again, start, 10) == stop or stop > ENDLESS
    assert with_totals(again, start, stop, 10).decay_from == totals.decay_from


def test_a_decay_after_the_end_is_refused():
    options = options_with(lr_decay="linear", decay_from=30, max_steps=30)
    with pytest.raises(UserError, match="begin to fall at step 30, .* end at step 30"):
        with_totals(options, 0, 30, 10)


def test_progress_is_right_after_a_resume():
    # step 25 of 65; epochs of 10 steps hold 15 images; 4 steps of this run took 8 seconds
    progress = measure_progress(25, 65, 10, 15, 4, 8.0)
    assert progress == Progress(epoch=3, step=5, rate=0.75, remaining=80.0)
    endless = measure_progress(20, ENDLESS, 10, 15, 4, 8.0)
    assert (endless.epoch, endless.step, endless.remaining) == (2, 10, None)
