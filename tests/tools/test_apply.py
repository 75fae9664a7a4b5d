"""tools/apply.py: one image, folders, frames, every format, and nothing but TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pix2pix

TOOL = Path(pix2pix.__file__).resolve().parent / "tools" / "apply.py"
spec = importlib.util.spec_from_file_location("apply_tool", TOOL)
apply_tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(apply_tool)


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    """A model of size 32 in every format."""
    root = tmp_path_factory.mktemp("apply")
    (root / "pairs").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (32, 64, 3), np.uint8)
    Image.fromarray(pixels).save(root / "pairs/1.png")
    assert pix2pix.main(["--mode", "train", "--input_dir", str(root / "pairs"), "--output_dir",
                         str(root / "run"), "--crop_size", "32", "--ngf", "2", "--gan_weight", "0",
                         "--max_steps", "1", "--seed", "2"]) == 0
    assert pix2pix.main(["--mode", "export", "--checkpoint", str(root / "run"), "--output_dir",
                         str(root / "export"), "--export_format", *pix2pix.EXPORT_FORMATS]) == 0
    return root / "export"


def save_frames(folder, count=3, size=(40, 32)):
    """Numbered frames of another colour each."""
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


@pytest.mark.parametrize("file", ["saved_model.pb", "export.meta", "graph.pb", "model.tflite",
                                  "model.pict"])
def test_one_image_by_every_format(export_dir, tmp_path, file):
    frames = save_frames(tmp_path / "frames", size=(32, 32))
    for name, model in (("out", export_dir / file), ("reference", export_dir)):
        assert run("--model", model, "--input", frames / "frame_0002.jpg", "--output",
                   tmp_path / name) == 0
    got, expected = (np.asarray(Image.open(tmp_path / name / "frame_0002.png"), int)
                     for name in ("out", "reference"))
    assert got.shape == (32, 32, 3)
    assert np.abs(got - expected).max() <= (20 if file.endswith("pict") else 1)


def test_a_broken_image_is_named_and_the_others_are_made(export_dir, tmp_path, capsys):
    frames = save_frames(tmp_path / "frames")
    whole = (frames / "frame_0002.jpg").read_bytes()
    (frames / "frame_0002.jpg").write_bytes(whole[:len(whole) // 3])
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "frame_0002.jpg cannot be read" in printed.err
    assert "wrote 2, skipped 0, failed 1" in printed.out
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("flags, part", [
    (["--input", "gone"], "--input gone does not exist"),
    (["--input", "empty"], "--input empty holds no"), (["--output", "frames"], "is the folder of"),
    (["--output", "frames/frame_0001.jpg"], "is a file"), (["--model", "empty"], "is no export"),
    (["--nonsense"], "--nonsense")])
def test_mistakes_are_one_line(export_dir, tmp_path, monkeypatch, capsys, flags, part):
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "frames")
    (tmp_path / "empty").mkdir()
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
            f"runpy.run_path({str(TOOL)!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items()
                               if name != "TF_CPP_MIN_LOG_LEVEL"})  # that shows lines on purpose
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/frame_0001.png").exists() and done.stderr == ""
