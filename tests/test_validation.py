"""Validation while training: its figures, the best checkpoint, patience, samples, and resuming."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import (assert_equal_runs, before_step, die_at, draw_pairs, read_files, read_pixels,
                     read_shown, read_variables, resume, run, stop_at, train_small)
from PIL import Image

import pix2pix
from tools.lib import validation
from tools.lib.checkpoints import open_checkpoint, read_step
from tools.lib.metrics import METRICS, summarize
from tools.lib.tf1 import tf

pytestmark = pytest.mark.usefixtures("in_empty_folder")
VALIDATE = ["--val_dir", "bars/val", "--val_freq", 2, "--progress_freq", 3]


@pytest.fixture
def bars():
    """Makes bars/train (6 images) and bars/val (4)."""
    draw_pairs("bars/train", 6)
    draw_pairs("bars/val", 4)


def read_rows(folder):
    """Rows of a run's log."""
    with open(Path(folder, "log.csv"), encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def names_of(folder, pattern):
    """Names of the files of a pattern, sorted."""
    return sorted(path.name for path in Path(folder).glob(pattern))


def script(monkeypatch, *values):
    """Lets validations find these L1s, one after the other, whatever the model does."""
    left = iter(values)

    def measure(_):
        return {name: summarize([next(left) if name == "l1" else 0.5]) for name in METRICS}
    monkeypatch.setattr(validation.Validator, "measure", measure)


# ---- figures


@pytest.mark.parametrize("flags", [
    [], ["--ema_generator", 0.9], ["--precision", "bfloat16"], ["--lab_colorization"],
    ["--resize", "none", "--which_direction", "BtoA"],
    ["--test_dropout", "--crop_size", 64, "--norm", "batch"]],
    ids=["plain", "averaged", "bfloat16", "Lab", "own size", "dropout"])
def test_the_figures_are_those_of_a_test(flags):
    for folder, count in (("bars/train", 3), ("bars/val", 5)):
        draw_pairs(folder, count, "single" if "--lab_colorization" in flags else "pair")
    assert train_small("run", "--max_steps", 4, "--lr", 0.01, *VALIDATE, *flags) == 0
    *_, row = read_rows("run")
    assert run("--mode", "test", "--input_dir", "bars/val", "--checkpoint", "run", "--output_dir",
               "out", "--seed", 7) == 0
    metrics = json.loads(Path("out/metrics.json").read_text())
    for name in METRICS:
        assert row[f"val_{name}"] == f"{metrics[name]:.6g}"
    assert {f"{json.loads(row['val_l1']):.3f}" for row in read_rows("run")
            if row["val_l1"]} != {"0.000"}


def test_the_figures_of_two_folders_are_those_of_a_test(bars):
    for part in ("train", "val"):
        for folder, left in (("a", 0), ("b", 64)):
            Path(folder, part).mkdir(parents=True)
            for path in Path("bars", part).iterdir():
                with Image.open(path) as image:
                    image.crop((left, 0, left + 64, 64)).save(
                        Path(folder, part, f"{path.stem}.png"))
    assert run("--mode", "train", "--a_dir", "a/train", "--b_dir", "b/train", "--output_dir", "run",
               "--crop_size", 32, "--ngf", 1, "--ndf", 1, "--patch_size", 16, "--max_steps", 2,
               "--val_dir", "a/val", "b/val") == 0
    assert run("--mode", "test", "--a_dir", "a/val", "--b_dir", "b/val", "--checkpoint", "run",
               "--output_dir", "out") == 0
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert read_rows("run")[-1]["val_l1"] == f"{metrics['l1']:.6g}"


def test_validation_and_samples_change_nothing_of_the_training(bars):
    assert train_small("one", "--max_steps", 5, "--ema_generator", 0.5) == 0
    assert train_small("other", "--max_steps", 5, "--ema_generator", 0.5, *VALIDATE,
                       "--sample_freq", 1) == 0
    variables = read_variables("one")
    for name, value in read_variables("other").items():
        np.testing.assert_array_equal(value, variables.pop(name), err_msg=name)
    assert not variables


def test_figures_are_in_the_log_on_the_screen_and_in_tensorboard(bars, capsys):
    assert train_small("run", "--max_steps", 5, *VALIDATE) == 0
    rows = read_rows("run")
    assert [row["step"] for row in rows] == ["2", "3", "4", "5"]
    assert [bool(row["val_l1"]) for row in rows] == [True, False, True, True]
    printed = capsys.readouterr().out
    found = {}
    path, = Path("run").glob("events*")
    for event in tf.train.summary_iterator(str(path)):
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    for row in rows:
        for name in METRICS if row["val_l1"] else ():
            text = row[f"val_{name}"]
            assert found[f"val_{name}", int(row["step"])] == pytest.approx(float(text))
        line = f"validation after step {row['step']}: l1 {float(row['val_l1'] or 0):.4g}, psnr "
        assert (line in printed) == bool(row["val_l1"])


@pytest.mark.parametrize("gan_loss, threshold", [("vanilla", 0), ("hinge", 0), ("lsgan", 0.5)])
def test_the_discriminators_accuracy_is_the_share_of_logits_it_gets_right(gan_loss, threshold):
    logits = np.random.default_rng(5).normal(threshold, 0.4, (2, 2, 5, 7, 1)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        model = pix2pix.Model([], *map(tf.sigmoid, logits), *[None] * 7)
        got = sess.run(pix2pix.discriminator_accuracy(model, gan_loss))
    real, fake = logits > threshold
    assert got == {"discrim_real_accuracy": pytest.approx(real.mean(), abs=1e-6),
                   "discrim_fake_accuracy": pytest.approx(1 - fake.mean(), abs=1e-6)}
    assert 0.3 < real.mean() < 0.7 and real.mean() != 1 - fake.mean()


# ---- the best checkpoint


def test_the_best_checkpoint_is_kept_and_used_by_which(bars, monkeypatch, capsys):
    script(monkeypatch, 0.4, 0.2, 0.3, 0.25, 0.28)
    assert train_small("run", "--max_steps", 10, *VALIDATE, "--save_freq", 0) == 0
    assert names_of("run", "*-*.index") == ["best-4.index", "model-10.index"]
    printed = capsys.readouterr().out
    assert "validation after step 4: l1 0.2, psnr 0.5, ssim 0.5 (the best so far)" in printed
    assert "validation after step 8: l1 0.25, psnr 0.5, ssim 0.5 (the best was step 4)" in printed
    assert read_shown("run")["best"] == {"metric": "L1", "step": 4, "value": 0.2,
                                        "checkpoint": "best-4"}
    folder = Path.cwd()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    for which, step in (("newest", 10), ("best", 4)):
        assert run("--mode", "test", "--input_dir", "bars/val", "--checkpoint", "run", "--which",
                   which, "--output_dir", f"{which}_test") == 0
        metrics = json.loads(Path(f"{which}_test/metrics.json").read_text())
        assert metrics["step"] == step
        page = Path(f"{which}_test/index.html").read_text()
        assert ("best-4, which --which best tests" in page) == (which == "newest")
        assert run("--mode", "export", "--checkpoint", "run", "--which", which, "--output_dir",
                   f"{which}_export", "--export_format", "pict") == 0
    assert Path("newest_export/model.pict").read_bytes() != Path(
        "best_export/model.pict").read_bytes()
    assert train_small("on", "--checkpoint", "run", "--which", "best", "--max_steps", 1) == 0
    assert read_variables("on")["global_step"] == 5


def test_which_best_needs_a_folder_with_a_best_checkpoint(tiny, capsys):
    shutil.copytree(tiny / "whole", "run")
    for checkpoint, reason in (("run", "run has no best checkpoint, which training with --val_dir "
                                "keeps"), ("run/model-7", "run/model-7 is none")):
        assert run("--mode", "test", "--input_dir", tiny / "bars/train", "--checkpoint", checkpoint,
                   "--which", "best", "--output_dir", "out") == 2
        assert reason in capsys.readouterr().err and not Path("out").exists()


def test_a_run_that_was_killed_goes_on_from_its_best_checkpoint(bars, monkeypatch):
    """It is newer than the last of the others."""
    go_on = die_at(monkeypatch, 6)
    with pytest.raises(SystemExit):
        train_small("run", "--max_steps", 8, *VALIDATE, "--lr", 0.01)
    go_on()
    newest = max(int(name[5:-6]) for name in names_of("run", "best-*.index"))
    assert read_step(open_checkpoint("run")) == newest > 0
    assert resume("run") == 0
    assert train_small("whole", "--max_steps", 8, *VALIDATE, "--lr", 0.01) == 0
    assert_equal_runs("run", "whole")


def test_which_is_without_effect_where_no_checkpoint_is_chosen(bars, capsys):
    assert train_small("run", "--max_steps", 1, "--which", "best") == 0
    assert "ignoring --which: no --checkpoint is given" in capsys.readouterr().err


# ---- patience


def test_patience_ends_a_run_and_a_larger_one_goes_on(bars, monkeypatch, capsys):
    script(monkeypatch, 0.4, 0.2, 0.3, 0.25, 0.1, 0.3, 0.3)
    flags = ["--max_steps", 14, *VALIDATE]
    assert train_small("run", *flags, "--patience", 2) == 0
    text = ("val_l1 has not improved in 2 validations; its best was 0.2 at step 4: test and export "
            "use that checkpoint with --which best, a larger --patience with --resume goes on")
    assert f"stopped after step 8: {text}\n" in capsys.readouterr().out
    assert names_of("run", "*-*.index") == ["best-4.index", "model-8.index"]
    assert resume("run") == 0
    assert f"nothing to do: {text}\n" in capsys.readouterr().out
    assert resume("run", "--patience", 3) == 0
    assert "trained to step 14" in capsys.readouterr().out
    assert names_of("run", "best-*.index") == ["best-10.index"]
    assert [float(row["val_l1"]) for row in read_rows("run") if row["val_l1"]] == [
        0.4, 0.2, 0.3, 0.25, 0.1, 0.3, 0.3]


# ---- resuming


@pytest.mark.parametrize("save_freq, at_step, end", [(3, 6, die_at), (3, 8, die_at),
                                                     (100, 5, stop_at), (100, 4, stop_at)])
def test_resume_is_exact(bars, monkeypatch, save_freq, at_step, end):
    flags = ["--max_steps", 9, *VALIDATE, "--save_freq", save_freq, "--sample_freq", 2, "--lr",
             0.02, "--keep_checkpoints", 9]
    assert train_small("one", *flags) == 0
    go_on = end(monkeypatch, at_step)
    if end is die_at:
        with pytest.raises(SystemExit):
            train_small("parts", *flags)
    else:
        assert train_small("parts", *flags) == 130
    go_on()
    assert resume("parts") == 0
    assert_equal_runs("one", "parts")
    assert names_of("one", "best-*.index") == names_of("parts", "best-*.index") != []
    drawn, again = ({path.name: contents for path, contents in read_files(folder).items()}
                    for folder in ("one/samples", "parts/samples"))
    extra = {name for name in again if name.startswith(f"{at_step:08d}-") and end is stop_at}
    assert {name: contents for name, contents in again.items() if name not in extra} == {
        name: contents for name, contents in drawn.items() if name not in extra}


def test_a_validation_of_the_last_step_alone_is_not_one_of_a_longer_run(bars, monkeypatch):
    """Neither its row in the log nor its best checkpoint."""
    script(monkeypatch, 0.4, 0.3, 0.2, 0.35, 0.5)
    assert train_small("run", "--max_steps", 5, *VALIDATE) == 0
    assert names_of("run", "best-*.index") == ["best-4.index", "best-5.index"]
    assert resume("run", "--max_steps", 8) == 0
    assert [(row["step"], row["val_l1"]) for row in read_rows("run")] == [
        ("2", "0.4"), ("3", ""), ("4", "0.3"), ("6", "0.35"), ("8", "0.5")]
    assert names_of("run", "best-*.index") == ["best-4.index"]


def test_a_run_from_before_keeps_the_columns_of_its_log(tiny):
    shutil.copytree(tiny / "whole", "run")
    shutil.copytree(tiny / "bars", "bars")
    draw_pairs("bars/val", 2)
    log = Path("run/log.csv")
    rows = [row.split(",")[:6] for row in log.read_text().splitlines()]
    log.write_text("".join(",".join([*row, "mine"]) + "\n" for row in rows))
    assert resume("run", "--max_steps", 9, *VALIDATE) == 0
    after = [row.split(",") for row in log.read_text().splitlines()]
    assert after[0] == [*rows[0], "mine", "discrim_real_accuracy", "discrim_fake_accuracy",
                        "val_l1", "val_psnr", "val_ssim"]
    for row, old in zip(after[1:], rows[1:4], strict=False):
        assert row == [*old, "mine", "", "", "", "", ""]
    assert [row[0] for row in after[1:]] == ["2", "4", "6", "8", "9"] and all(after[-1][-5:])


def test_a_log_with_figures_that_are_none_is_kept_under_another_name(bars, capsys):
    assert train_small("run", "--max_steps", 4, *VALIDATE) == 0
    log = Path("run/log.csv")
    spoiled = log.read_text().replace(read_rows("run")[0]["val_l1"], "good")
    log.write_text(spoiled)
    assert resume("run", "--max_steps", 6) == 0
    assert "has been edited, renaming it to log.csv.old" in capsys.readouterr().err
    assert Path("run/log.csv.old").read_text() == spoiled
    assert [row["step"] for row in read_rows("run")] == ["6"]


# ---- samples


def test_samples_show_the_same_images_as_test_mode_makes_them(bars):
    assert train_small("run", "--max_steps", 5, *VALIDATE, "--sample_freq", 2) == 0
    names = [f"{step:08d}-{name}-outputs.png" for step in (0, 2, 4, 5) for name in "1234"]
    assert names_of("run/samples", "*-outputs.png") == names
    assert run("--mode", "test", "--input_dir", "bars/val", "--checkpoint", "run", "--output_dir",
               "out") == 0
    for name in "1234":
        for kind, sample in (("inputs", ""), ("targets", ""), ("outputs", "00000005-")):
            np.testing.assert_array_equal(read_pixels(f"run/samples/{sample}{name}-{kind}.png"),
                                          read_pixels(f"out/images/{name}-{kind}.png"))


def test_without_validation_samples_are_training_images(bars, capsys):
    assert train_small("run", "--max_steps", 2, "--sample_freq", 250) == 0
    assert names_of("run/samples", "*-targets.png") == [f"{name}-targets.png" for name in "1245"]
    assert names_of("run/samples", "*-1-outputs.png") == ["00000000-1-outputs.png",
                                                          "00000002-1-outputs.png"]
    assert ("--val_dir bars/val would show how good the model is on images that it has not seen, "
            "and keep the best checkpoint\n") in capsys.readouterr().out


def test_overwrite_removes_samples_and_best_checkpoints(bars):
    flags = ["--max_steps", 2, "--sample_freq", 1]
    assert train_small("run", *flags, *VALIDATE) == 0
    assert names_of("run", "best-*") and names_of("run", "samples/*")
    assert train_small("run", "--max_steps", 1, "--overwrite") == 0
    assert not names_of("run", "best-*") + names_of("run", "samples/*")


# ---- what goes wrong


def test_an_image_that_vanishes_leaves_a_validation_out(bars, monkeypatch, capsys):
    before_step(monkeypatch, 3, lambda: Path("bars/val/2.png").write_bytes(b"no image"))
    assert train_small("run", "--max_steps", 20, *VALIDATE, "--sample_freq", 2) == 0
    error = capsys.readouterr().err
    steps = [int(row["step"]) for row in read_rows("run") if row["val_l1"]]
    assert 2 in steps and steps == [*range(2, 20, 2)][:len(steps)]  # some images were read ahead
    assert ("no validation after step 20: bars/val/2.png cannot be used: not a JPEG, PNG, BMP, GIF, "
            "TIFF, WebP, PPM or npy file\n") in error
    assert error.count("cannot write samples") == 1 and read_variables("run")["global_step"] == 20


@pytest.mark.parametrize("flags, reason", [
    (["--val_freq", 5], "--val_freq needs validation images: give --val_dir"),
    (["--val_metric", "psnr", "--patience", 2], "--val_metric and --patience need validation"),
    (["--val_dir", "none"], "--val_dir none is not a folder: check the path"),
    (["--val_dir", "bars/train"], "--val_dir bars/train is --input_dir too"),
    (["--val_dir", "empty"], "--val_dir empty"),
    (["--val_dir", "bars/val", "bars/train"],
     "--val_dir has 2 folders, training 1: give one folder of pairs")])
def test_wrong_options_are_refused_before_anything_is_written(bars, capsys, flags, reason):
    Path("empty").mkdir()
    assert train_small("run", "--max_steps", 1, *flags) == 2
    line, = capsys.readouterr().err.splitlines()
    assert reason in line and not Path("run").exists()


def test_validation_images_of_another_shape_are_named(bars, capsys):
    Path("wide").mkdir()
    for number in (1, 2):
        Image.new("RGB", (160, 40)).save(f"wide/{number}.png")
    for flags, expected in (([], 1), (["--resize", "pad"], 0)):
        assert train_small("run", "--max_steps", 1, "--overwrite", "--val_dir", "wide", *flags) == 0
        line = "2 of 2 images are of another shape than most training images, 1 times as wide as " \
            "high, and are stretched to 32x32: --resize crop or pad keeps shapes\n"
        assert capsys.readouterr().out.count(line) == expected


def test_a_validation_image_that_cannot_be_used_is_refused(bars, capsys):
    Path("bars/val/3.JPG").write_bytes(b"no image")
    assert train_small("run", "--max_steps", 1, *VALIDATE) == 2
    error = capsys.readouterr().err
    assert "bars/val/3.JPG cannot be used" in error and not Path("run").exists()
