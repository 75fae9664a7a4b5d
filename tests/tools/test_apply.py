"""tools/apply.py: one image, folders, frames, every format, and nothing but TensorFlow."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys

import models
import numpy as np
import pytest
from helpers import HAS_ONNX, ROOT
from PIL import Image

from tools import apply as apply_tool
from tools.lib.tf1 import tf


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    """A model of size 32 in every format."""
    return models.small_model(tmp_path_factory) / "export"


def save_frames(folder, count=3, size=(40, 32)):
    """Writes numbered frames, each of another colour; returns the folder."""
    folder.mkdir()
    for number in range(1, count + 1):
        Image.new("RGB", size, (60 * number, 20, 200 - 50 * number)).save(
            folder / f"frame_{number:04d}.jpg")
    return folder


def run(*arguments):
    return apply_tool.main([str(argument) for argument in arguments])


def test_a_folder_of_frames_keeps_names_order_and_size(export_dir, tmp_path, capsys, monkeypatch):
    frames = save_frames(tmp_path / "frames")
    order, real = [], apply_tool.apply_to_file

    def follow(generate, path, *more):
        order.append(path.name)
        return real(generate, path, *more)
    monkeypatch.setattr(apply_tool, "apply_to_file", follow)
    monkeypatch.setattr(apply_tool, "REPORT_FREQ", 2)
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out") == 0
    assert order == ["frame_0001.jpg", "frame_0002.jpg", "frame_0003.jpg"]
    results = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in results] == [f"frame_000{n}.png" for n in (1, 2, 3)]
    assert all(Image.open(path).size == (40, 32) for path in results)
    printed = capsys.readouterr().out
    assert "2 of 3, " in printed and "wrote 3, skipped 0, failed 0, " in printed
    before = results[0].stat().st_mtime_ns
    (tmp_path / "out/frame_0002.png").unlink()
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out") == 0
    assert "wrote 1, skipped 2" in capsys.readouterr().out
    assert results[0].stat().st_mtime_ns == before and results[1].exists()
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out",
               "--force") == 0
    assert "wrote 3, skipped 0" in capsys.readouterr().out


@pytest.mark.parametrize("file", [
    "saved_model.pb", "export.meta", "graph.pb", "model.tflite", "model.pict",
    pytest.param("model.onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="needs tf2onnx"))])
def test_one_image_by_every_format(export_dir, tmp_path, file):
    frames = save_frames(tmp_path / "frames", size=(32, 32))
    for name, model in (("out", export_dir / file), ("reference", export_dir)):
        assert run("--model", model, "--input", frames / "frame_0002.jpg", "--output",
                   tmp_path / name) == 0
    got, expected = (np.asarray(Image.open(tmp_path / name / "frame_0002.png"), int)
                     for name in ("out", "reference"))
    assert got.shape == (32, 32, 3)
    assert np.abs(got - expected).max() <= (20 if file.endswith("pict") else 1)


def test_a_broken_image_is_reported_and_the_others_are_done(export_dir, tmp_path, capsys):
    frames = save_frames(tmp_path / "frames")
    whole = (frames / "frame_0002.jpg").read_bytes()
    (frames / "frame_0002.jpg").write_bytes(whole[:len(whole) // 3])
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "frame_0002.jpg cannot be read" in printed.err
    assert "wrote 2, skipped 0, failed 1" in printed.out
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("file, changed", [
    (".", "variables/variables.data-00000-of-00001"), ("saved_model.pb", "saved_model.pb"),
    ("export.meta", "export.data-00000-of-00001"), ("model.tflite", "model.tflite")])
def test_results_of_another_model_are_not_skipped_in_silence(export_dir, tmp_path, capsys, file,
                                                             changed):
    """Also of one that has replaced it in its folder; in another folder it is the same."""
    frames, moved = save_frames(tmp_path / "frames"), tmp_path / "moved"
    shutil.copytree(export_dir, tmp_path / "model")
    command = ["--input", frames, "--output", tmp_path / "out", "--model"]
    assert run(*command, tmp_path / "model" / file) == 0
    (tmp_path / "model").rename(moved)
    assert run(*command, moved / file) == 0
    assert "wrote 0, skipped 3, " in capsys.readouterr().out
    with open(moved / changed, "ab") as contents:
        contents.write(b"another")
    before = sorted(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert run(*command, moved / file) == 2
    assert capsys.readouterr().err == (
        f"apply.py: error: 3 of 3 results in --output {tmp_path}/out, such as "
        f"{tmp_path}/out/frame_0001.png, were made by another model: give --force to make them "
        "again, or another --output\n")
    assert sorted(path.read_bytes() for path in (tmp_path / "out").iterdir()) == before


def test_strange_names_print_as_one_line(export_dir, tmp_path, capsys):
    frames = save_frames(tmp_path / "frames", 1)
    (frames / "line\nbreak \udcff.jpg").write_bytes(b"\xff\xd8\xff no image")
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and r"/line\nbreak \udcff.jpg cannot be read" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frame_0001.png"]


def test_sigterm_leaves_no_half_written_result_and_the_same_command_continues(
        tmp_path, monkeypatch, capsys):
    """While an image is translated, and while a result is written; without TensorFlow."""
    frames, result = save_frames(tmp_path / "frames"), io.BytesIO()
    Image.new("RGB", (2, 3)).save(result, "PNG")
    moments = iter([None, signal.SIGTERM])

    def generate(_contents):
        """A model; SIGTERM arrives while it translates the second image."""
        if number := next(moments, None):
            signal.raise_signal(number)
        return result.getvalue()
    monkeypatch.setattr(apply_tool, "load_export", lambda _path: generate)
    command = ["--model", "model", "--input", frames, "--output", tmp_path / "out"]
    assert run(*command) == 143
    assert os.listdir(tmp_path / "out") == ["frame_0001.png"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: signal.raise_signal(signal.SIGTERM))
        assert run(*command) == 143
    assert os.listdir(tmp_path / "out") == ["frame_0001.png"]
    assert run(*command) == 0
    assert capsys.readouterr().out.startswith("wrote 2, skipped 1, failed 0")


def test_formats_that_are_one_file_may_be_called_anything(export_dir, tmp_path):
    frames = save_frames(tmp_path / "frames", 1)
    for file in ("graph.pb", "model.tflite", "model.pict"):
        place = tmp_path / f"a [1] {file}" / file
        place.parent.mkdir()
        shutil.copy(export_dir / file, place)
        assert run("--model", place, "--input", frames, "--output", tmp_path / f"{file}-out") == 0


@pytest.mark.parametrize("flags, part", [
    (["--input", "gone"], "--input gone does not exist"),
    (["--input", "empty"], "--input empty contains no"),
    (["--output", "frames"], "is the folder of"),
    (["--output", "frames/frame_0001.jpg"], "is a file"),
    (["--model", "empty"], "--model empty is not an export, it is an empty folder: give a folder"),
    (["--model", "gone"], "--model gone is not an export, it does not exist: check the path"),
    (["--model", "run"], "it is a training folder: export it with pix2pix.py --mode export "
     "--checkpoint run"),
    (["--model", "other"], "--model other/saved_model.pb is a SavedModel of another program: give"),
    (["--model", "photo [1]"], "has [ ] in its name, which TensorFlow reads as a pattern: rename"),
    (["--nonsense"], "--nonsense")])
def test_mistakes_are_one_line(export_dir, tmp_path, monkeypatch, capsys, flags, part):
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "frames")
    (tmp_path / "empty").mkdir()
    shutil.copytree(export_dir, "photo [1]")
    shutil.copytree(export_dir.parent / "run", "run")
    with tf.Graph().as_default(), tf.Session() as sess:
        place = tf.placeholder(tf.float32, [1])
        tf.saved_model.simple_save(sess, "other", {"x": place}, {"y": place + 1})
    assert run("--model", export_dir, "--input", "frames", "--output", "out", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("apply.py: error: ") and part in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_needs_nothing_but_tensorflow(export_dir, tmp_path):
    frames = save_frames(tmp_path / "frames", 1)
    arguments = ["--model", str(export_dir), "--input", str(frames), "--output",
                 str(tmp_path / "out")]
    code = ("import json, runpy, sys; sys.modules.update(PIL=None, tqdm=None, skimage=None); "
            f"sys.argv = ['apply.py', *json.loads({json.dumps(arguments)!r})]; "
            f"runpy.run_path({str(ROOT / 'tools/apply.py')!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items()
                               if name != "TF_CPP_MIN_LOG_LEVEL"})  # that shows lines on purpose
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/frame_0001.png").exists() and done.stderr == ""
