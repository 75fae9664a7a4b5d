"""tools/apply.py: every model, images, folders, patterns, frames, sizes, and nothing but TensorFlow.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from helpers import HAS_ONNX, ROOT, SHARED, read_pixels
from PIL import Image

import pix2pix
from tools import apply as apply_tool
from tools.lib import images, stored
from tools.lib.image_types import choose_pair
from tools.lib.models import LoadedModel, options_to_apply
from tools.lib.tf1 import tf

needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs tf2onnx and onnxruntime")


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    """A model of size 32 in every format."""
    return models.small_model(tmp_path_factory) / "export"


@pytest.fixture(scope="module")
def frame_and_result(export_dir, tmp_path_factory):
    """An image of the model's size, and what the SavedModel makes of it."""
    folder = tmp_path_factory.mktemp("reference")
    frame = save_frames(folder / "frames", 1, (32, 32)) / "frame_0001.jpg"
    assert run("--model", export_dir, "--input", frame, "--output", folder / "x.png") == 0
    return frame, read_pixels(folder / "x.png")


@pytest.fixture(scope="module")
def large_and_result(export_dir, tmp_path_factory):
    """An image larger than the model's size, and what the SavedModel's floats make of it."""
    folder = tmp_path_factory.mktemp("large")
    pixels = np.random.default_rng(5).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).resize((70, 90)).save(folder / "in.png")
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = tf.saved_model.load(sess, ["serve"], str(export_dir))
        signature = meta.signature_def["serving_default"]
        result = sess.run(signature.outputs["output"].name, {
            signature.inputs["input"].name: read_pixels(folder / "in.png")[np.newaxis] / 255})
    return folder / "in.png", np.floor(result[0] * 255.5)


def save_frames(folder, count=3, size=(40, 32)):
    """Writes numbered frames, each of another colour; returns the folder."""
    folder.mkdir()
    for number in range(1, count + 1):
        Image.new("RGB", size, (60 * number, 20, 200 - 50 * number)).save(
            folder / f"frame_{number:04d}.jpg")
    return folder


def run(*arguments):
    return apply_tool.main([str(argument) for argument in arguments])


@pytest.fixture
def replace_model(monkeypatch):
    """A function that puts another in the model's place, by default one that copies: of a file's
    bytes to another's. more: of LoadedModel."""
    def replace(generate=lambda contents: contents, num_inputs=1, **more):
        """From now on, whatever --model says."""
        more["pair"] = choose_pair(False, "AtoB", num_inputs)
        monkeypatch.setattr(apply_tool, "find_model_files", lambda _model: [])
        monkeypatch.setattr(apply_tool, "load_model",
                            lambda *_: LoadedModel("model", generate, **more))
    return replace


def list_files(folder):
    """The files below a folder, by their paths in it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file())


def draw_images(folder, *names, size=(20, 16)):
    """Writes images, each of another colour; returns the folder."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (9 * number, 80, 200)).save(folder / name)
    return folder


def test_a_folder_of_frames_keeps_names_order_and_size(export_dir, tmp_path, capsys, monkeypatch):
    frames = save_frames(tmp_path / "frames")
    order, real = [], apply_tool.Translator.translate

    def follow(translator, job):
        order.append(job.path.name)
        return real(translator, job)
    monkeypatch.setattr(apply_tool.Translator, "translate", follow)
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
    "../run", "../run/model-2", "../run/model-2.index", "../run/checkpoint",
    "saved_model.pb", "export.meta", "graph.pb", "model.tflite", "model.pict",
    pytest.param("model.onnx", marks=needs_onnx)])
def test_one_image_by_every_kind_of_model(export_dir, frame_and_result, tmp_path, file):
    frame, expected = frame_and_result
    assert run("--model", export_dir / file, "--input", frame, "--output", tmp_path / "x.png") == 0
    got = read_pixels(tmp_path / "x.png")
    assert got.shape == (32, 32, 3)
    assert np.abs(got - expected).max() <= (20 if file.endswith("pict") else 1)


def test_a_broken_image_is_reported_and_the_others_are_done(export_dir, tmp_path, capfd):
    frames = save_frames(tmp_path / "frames")
    whole = (frames / "frame_0002.jpg").read_bytes()
    (frames / "frame_0002.jpg").write_bytes(whole[:len(whole) // 3])
    assert run("--model", export_dir, "--input", frames, "--output", tmp_path / "out") == 1
    printed = capfd.readouterr()  # libjpeg prints past Python
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"apply.py: {frames}/frame_0002.jpg cannot be read")
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
        tmp_path, monkeypatch, capsys, replace_model):
    """While an image is translated, and while a result is written; without TensorFlow."""
    frames, result = save_frames(tmp_path / "frames"), io.BytesIO()
    Image.new("RGB", (2, 3)).save(result, "PNG")
    moments = iter([None, signal.SIGTERM])

    def generate(_contents):
        """A model; SIGTERM arrives while it translates the second image."""
        if number := next(moments, None):
            signal.raise_signal(number)
        return result.getvalue()
    replace_model(generate)
    command = ["--model", "model", "--input", frames, "--output", tmp_path / "out"]
    assert run(*command) == 143
    assert os.listdir(tmp_path / "out") == ["frame_0001.png"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: signal.raise_signal(signal.SIGTERM))
        assert run(*command) == 143
    assert os.listdir(tmp_path / "out") == ["frame_0001.png"]
    assert run(*command) == 0
    printed = capsys.readouterr()
    assert printed.err == 2 * "apply.py: interrupted; the same command continues\n"
    assert printed.out.count("wrote") == 1 and "\nwrote 2, skipped 1, failed 0" in printed.out


def test_formats_that_are_one_file_may_be_called_anything(export_dir, tmp_path):
    frames = save_frames(tmp_path / "frames", 1)
    for file in ("graph.pb", "model.tflite", "model.pict"):
        place = tmp_path / f"a [1] {file}" / file
        place.parent.mkdir()
        shutil.copy(export_dir / file, place)
        assert run("--model", place, "--input", frames, "--output", tmp_path / f"{file}-out") == 0


@pytest.mark.parametrize("flags, part", [
    (["--input", ""], "--input is empty: give a path"),
    (["--output", ""], "--output is empty: give a path"),
    (["--model", ""], "--model is empty: give a path"),
    (["--input", "gone"], "--input gone does not exist: check the path"),
    (["--input", "FRAMES"], "--input FRAMES does not exist: frames differs only in case, give"),
    (["--input", "empty"], "--input empty contains no"),
    (["--input", "no*.png"], "--input no*.png matches no file: check the path"),
    (["--input", "frames/a_%d.png"], "--input frames/a_%d.png matches no file: check the path"),
    (["--output", "frames"], "--output frames is the folder of --input too: choose another"),
    (["--output", "frames/frame_0001.jpg"], "--output frames/frame_0001.jpg is a file, and there "
     "are 3 images: give a folder, such as frames/frame_0001/"),
    (["--output", "new.png"], "new.png is a file, and there are 3 images: give a folder, such as "
     "new/"),
    (["--output", "notes"], "--output notes is a file: give a folder"),
    (["--output", "notes/out"], "--output notes/out is inside a file, "),
    (["--output", "new.bmp"], "--output new.bmp: results are PNG or JPEG files: give new.png, or "
     "new.bmp/ for a folder"),
    (["--input", "one.png", "--output", "one.png", "--force"],
     "--output one.png would replace one.png, an image of --input: choose another"),
    (["--model", "empty"], "--model empty is not a model, it is an empty folder: give a training "
     "folder, a checkpoint, an export or a .pict file (training folders here: photo [1], run, "
     "unsaved)"),
    (["--model", "unsaved"], "unsaved contains no checkpoint, it is a training folder without a "
     "save: continue it with --resume"),
    (["--model", "frames"], "--model frames is not a model, it is a folder with 3 files, such as a JPEG image: "
     "give"),
    (["--model", "notes"], "--model notes is not a model, it is another file: give"),
    (["--model", "one.png"], "--model one.png is not a model, it is a PNG image: give"),
    (["--model", "gone"], "--model gone is not a folder, checkpoint or .pict file: check the path "
     "(training folders here: photo [1], run, unsaved)"),
    (["--model", "run/model-9"], "--model run/model-9 does not exist: give one of those in run "
     "(model-1, model-2)"),
    (["--model", "other"], "--model other/saved_model.pb is a SavedModel of another program: give"),
    (["--model", "photo [1]"], "has [ ] in its name, which TensorFlow reads as a pattern: rename"),
    (["--model", "export/model.tflite", "--native_size"], "--native_size does not work with "
     "export/model.tflite, which has one size: give the training folder or another format"),
    (["--nonsense"], "--nonsense")])
def test_mistakes_are_one_line(export_dir, tmp_path, monkeypatch, capsys, flags, part):
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path / "frames")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").write_text("no model, no image")
    draw_images(tmp_path, "one.png")
    (tmp_path / "export").symlink_to(export_dir)
    for name in ("photo [1]", "run"):
        shutil.copytree(export_dir.parent / "run", name)
    Path("unsaved").mkdir()
    shutil.copy(export_dir.parent / "run/options.json", "unsaved")
    with tf.Graph().as_default(), tf.Session() as sess:
        place = tf.placeholder(tf.float32, [1])
        tf.saved_model.simple_save(sess, "other", {"x": place}, {"y": place + 1})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run("--model", export_dir, "--input", "frames", "--output", "out", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("apply.py: error: ") and part in error and error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ---- which images


@pytest.mark.parametrize("inputs, results", [
    (["shots/a.png"], ["a.png"]),
    (["shots/a.png", "shots/b.jpg", "shots/a.png"], ["a.png", "b.jpg"]),
    (["shots/a.png", "shots/late/c.png"], ["a.png", "late/c.png"]),
    (["shots"], ["a.png", "b.jpg", "late/c.png", "late/night/c.png"]),
    (["shots/late", "more"], ["more/a.png", "shots/late/c.png", "shots/late/night/c.png"]),
    (["shots/*.png"], ["a.png"]),
    (["shots/*"], ["a.png", "b.jpg", "late/c.png", "late/night/c.png"]),
    (["*/a.png"], ["more/a.png", "shots/a.png"]),
    (["shots/**/[bc].*"], ["b.jpg", "late/c.png", "late/night/c.png"]),
    (["odd[1].png"], ["odd[1].png"]),
    (["f_%02d.png"], ["f_02.png", "f_10.png", "f_100.png"]),
    (["f_%d.png"], ["f_02.png", "f_10.png", "f_100.png", "f_3.png"])])
def test_inputs_of_every_kind(tmp_path, monkeypatch, replace_model, inputs, results):
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, "shots/a.png", "shots/b.jpg", "shots/late/c.png",
                "shots/late/night/c.png", "more/a.png", "odd[1].png", "odd1.png", "f_02.png",
                "f_10.png", "f_3.png", "f_100.png", "f_x.png")
    replace_model()
    assert run("--model", "model", "--input", *inputs, "--output", "out") == 0
    assert list_files(tmp_path / "out") == results


def test_frames_with_other_numbers_of_digits_are_counted(tmp_path, monkeypatch, capsys,
                                                         replace_model):
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, *(f"f_{number}.png" for number in range(1, 13)), "f_x.png")
    replace_model()
    for pattern, error in (("f_%02d.png", "apply.py: --input f_%02d.png matches 3 files; 9 more "
                            "have fewer digits: f_%d.png matches them too\n"), ("f_%d.png", "")):
        assert run("--model", "model", "--input", pattern, "--output", pattern[3:5]) == 0
        assert capsys.readouterr().err == error
    assert run("--model", "model", "--input", "f_%04d.png", "--output", "out") == 2
    assert capsys.readouterr().err == ("apply.py: error: --input f_%04d.png matches no file: 12 have "
                                       "another number of digits, give f_%d.png\n")


def test_frames_are_in_the_order_in_which_people_count(tmp_path, replace_model):
    draw_images(tmp_path / "in", "frame_10.png", "frame_9.png", "frame_2.png", "b/x10.png",
                "b/x9.png", "frame_09.png", "a.png")
    order = []

    def generate(contents):
        """Notes the image by its colour, which tells its place in the list above."""
        order.append(int(read_pixels(contents)[0, 0, 0]) // 9)
        return contents
    replace_model(generate)
    assert run("--model", "model", "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert order == [6, 4, 3, 2, 5, 1, 0]


def test_what_a_folder_holds_besides_images_is_counted(tmp_path, monkeypatch, capsys,
                                                       replace_model):
    """With those below it; results that are in it are no images of it."""
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, "in/1.png", "in/below/2.png", "in/below/2.png~.png")
    for name in ("in/notes.txt", "in/below/more.txt", "in/below/1.png~", "in/.hidden"):
        (tmp_path / name).write_text("text")
    (tmp_path / "in/below/up").symlink_to(tmp_path / "in")  # without an end
    (tmp_path / "in/below/3.png").write_text("no image")
    replace_model()
    command = ["--model", "model", "--input", "in", "--output", "in/results"]
    for text, more in (("wrote 3, skipped 0, failed 1", ""),
                       ("wrote 0, skipped 3, failed 1", ", 3 in folder results")):
        assert run(*command) == 1
        printed = capsys.readouterr()
        assert printed.err == (
            f"apply.py: not used in in: 2 .txt, 1 copy or thumbnail{more}\n"
            "apply.py: in/below/3.png cannot be read (not a JPEG, PNG, BMP, GIF, TIFF, WebP, PPM "
            "or npy file): repair or remove it\n")
        assert text in printed.out
    assert list_files(tmp_path / "in/results") == ["1.png", "below/2.png", "below/2.png~.png"]
    (tmp_path / "in/folder.png").mkdir()
    assert run(*command[:3], "in/**/*", *command[4:]) == 1
    assert capsys.readouterr().err == printed.err.replace("in in:", "in in/**/*:")


def test_results_beside_their_images_are_refused(tmp_path, monkeypatch, capsys):
    """Of folders that have the one for results in common too."""
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, "a/1.png", "b/1.png", "c/c/1.png", "c/d/c/1.png", "c/1.png")
    for inputs, output in ((["a", "b"], "."), (["a/1.png"], "a/"), (["*/1.png"], ".")):
        assert run("--model", "model", "--input", *inputs, "--output", output) == 2
        assert f"--output {output} is the folder of --input too" in capsys.readouterr().err
    assert run("--model", "model", "--input", "c", "--output", "c/..") == 2
    assert "--output c/.. would replace c/../c/1.png, an image of --input" in \
        capsys.readouterr().err


# ---- where results go, and their size


@pytest.mark.parametrize("output, result, filetype", [
    ("x.png", "x.png", "PNG"), ("x.PNG", "x.PNG", "PNG"), ("x.jpg", "x.jpg", "JPEG"),
    ("new/x.jpeg", "new/x.jpeg", "JPEG"), ("x", "x/in.png", "PNG"), ("x.png/", "x.png/in.png", "PNG"),
    ("v1.5", "v1.5/in.png", "PNG"), ("there.jpg", "there.jpg/in.png", "PNG")])
def test_output_is_a_file_or_a_folder(tmp_path, monkeypatch, replace_model, output, result,
                                      filetype):
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, "in.png")
    (tmp_path / "there.jpg").mkdir()
    replace_model()
    command = ["--model", "model", "--input", "in.png", "--output", output]
    assert run(*command) == 0
    assert list_files(tmp_path) == sorted(["in.png", result])
    with Image.open(result) as image:
        assert image.format == filetype
    assert np.abs(read_pixels("in.png") - read_pixels(result)).max() <= 3


def test_a_file_that_exists_is_kept(tmp_path, monkeypatch, capsys, replace_model):
    """Someone else's, and a result of another image, unless --force is given."""
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, "in.png", "other.png", "mine.png")
    replace_model()
    mine = (tmp_path / "mine.png").read_bytes()
    command = ["--model", "model", "--output", "mine.png", "--input"]
    assert run(*command, "in.png") == 0
    assert "1 of 1 results in --output mine.png do not say how they were made and are kept" in \
        capsys.readouterr().err
    assert (tmp_path / "mine.png").read_bytes() == mine
    assert run(*command, "in.png", "--force") == 0
    assert run(*command, "other.png") == 2
    assert "were made of other files" in capsys.readouterr().err
    assert (read_pixels("mine.png") == read_pixels("in.png")).all()


@pytest.mark.parametrize("file", ["../run", "saved_model.pb", "export.meta", "model.tflite"])
def test_results_are_upright_and_as_large_as_the_image(export_dir, tmp_path, capsys, file):
    pixels = np.random.default_rng(3).integers(0, 256, (3, 5, 3), np.uint8)
    image = Image.fromarray(pixels).resize((50, 42), Image.Resampling.BICUBIC)
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in/upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in/phone.png", exif=exif)
    assert run("--model", export_dir / file, "--input", tmp_path / "in", "--output",
               tmp_path / "out") == 0
    upright, phone = (read_pixels(tmp_path / f"out/{name}.png") for name in ("upright", "phone"))
    assert upright.shape == (42, 50, 3)
    np.testing.assert_array_equal(upright, phone)
    width = 32 if "." in file[2:] and file != "saved_model.pb" else 38
    advice = "--native_size uses" if width == 38 else \
        "give the training folder and --native_size for"
    assert (f"apply.py: the model works at {width}x32 on an image of 50x42: 2 of 2 results are "
            f"enlarged; {advice} the image's own size\n") in capsys.readouterr().err


def test_results_of_exports_that_return_jpeg_files_keep_their_size(export_dir, tmp_path):
    assert pix2pix.main(["--mode", "export", "--checkpoint", str(export_dir.parent / "run"),
                         "--output_dir", str(tmp_path / "export"), "--export_format",
                         "affinelayer", "--output_filetype", "jpeg"]) == 0
    draw_images(tmp_path, "in.png", size=(40, 70))
    command = ["--model", tmp_path / "export", "--input", tmp_path / "in.png", "--output"]
    assert run(*command, tmp_path / "out") == run(*command, tmp_path / "out/x.png") == 0
    shapes = [read_pixels(tmp_path / "out" / name).shape for name in ("in.jpg", "x.png")]
    assert shapes == [(70, 40, 3)] * 2


def test_enlarged_results_are_counted(tmp_path, capsys, replace_model):
    draw_images(tmp_path / "in", "1.png", "2.png", size=(20, 16))
    draw_images(tmp_path / "in", "3.png", "4.png", "5.png", size=(400, 300))
    replace_model(network_shape=lambda shape: min(shape, (32, 43)))
    command = ["--model", "model", "--output", tmp_path / "out", "--force", "--input"]
    assert run(*command, tmp_path / "in") == 0
    line = "apply.py: the model works at 43x32 on an image of 400x300: {} enlarged; " \
        "--native_size uses the image's own size\n"
    assert capsys.readouterr().err == line.format("3 of 5 results are")
    assert run(*command, tmp_path / "in/3.png") == 0
    assert capsys.readouterr().err == line.format("the result is")
    assert run(*command, tmp_path / "in/1.png") == 0
    assert capsys.readouterr().err == ""


def test_the_largest_enlarged_result_is_the_example(tmp_path, capsys, replace_model):
    draw_images(tmp_path / "in", "1.png", size=(40, 30))
    draw_images(tmp_path / "in", "2.png", size=(400, 300))
    replace_model(network_shape=lambda _shape: (24, 32))
    assert run("--model", "model", "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert "works at 32x24 on an image of 400x300: 2 of 2 results" in capsys.readouterr().err


# ---- several inputs, and pairs


def left_third(contents):
    """A model of three inputs side by side that returns the first."""
    pixels = read_pixels(contents).astype(np.uint8)
    return images.to_bytes(pixels[:, :pixels.shape[1] // 3])


def test_files_that_do_not_hold_several_inputs_are_named(tmp_path, monkeypatch, capsys,
                                                         replace_model):
    monkeypatch.chdir(tmp_path)
    for number, size in enumerate([(60, 20), (21, 21), (45, 20), (120, 20), (60, 20)]):
        draw_images(tmp_path, f"in/{number}.png", size=size)
    replace_model(left_third, num_inputs=3, trained_ratio=1.0,
                  network_shape=lambda shape: (min(shape), min(shape)))
    assert run("--model", "model", "--input", "in", "--output", "out") == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "apply.py: in/1.png: about 21x21 pixels look like one image, the model takes 3 side by "
        "side: put them into one file, 3 times as wide as high",
        "apply.py: 1 of 4 images, such as in/2.png with 45x20 pixels, may be single images: the "
        "model takes 3 side by side in a file, 3 times as wide as high",
        "apply.py: the model works at 20x20 on an image of 40x20: 2 of 4 results are enlarged; "
        "--native_size uses the image's own size"]
    assert "wrote 4, skipped 0, failed 1" in printed.out
    replace_model(left_third, num_inputs=3, trained_ratio=0.75)  # of portraits
    assert run("--model", "model", "--input", "in/2.png", "--output", "portrait.png") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("trained_ratio, sizes, warns", [
    (1.0, [(40, 20), (40, 20)], True), (1.5, [(60, 20), (60, 20)], True),
    (1.0, [(40, 20), (20, 20)], False), (2.0, [(40, 20), (40, 20)], False),
    (1.0, [(20, 40), (50, 20)], False), (None, [(40, 20), (40, 20)], False)])
def test_pairs_for_a_model_of_single_images_are_reported(tmp_path, monkeypatch, capsys,
                                                         replace_model, trained_ratio, sizes,
                                                         warns):
    monkeypatch.chdir(tmp_path)
    for number, size in enumerate(sizes):
        draw_images(tmp_path, f"in/{number}.png", size=size)
    replace_model(trained_ratio=trained_ratio)
    assert run("--model", "model", "--input", "in", "--output", "out") == 0
    expected = f"apply.py: 2 of 2 images, such as in/0.png with {sizes[0][0]}x20 pixels, may be " \
        f"pairs: the model takes single images, {trained_ratio or 0:.3g} times as wide as high " \
        "(--mode test takes pairs)\n"
    assert capsys.readouterr().err == expected * warns


# ---- --native_size


def test_exports_made_at_the_images_own_size_need_no_flag(export_dir, tmp_path, large_and_result,
                                                          capsys):
    """A .pict file knows it by the options.json beside it."""
    large, expected = large_and_result
    assert pix2pix.main(["--mode", "export", "--native_size", "--checkpoint",
                         str(export_dir.parent / "run"), "--output_dir", str(tmp_path / "own"),
                         "--export_format", "graph", "pict"]) == 0
    capsys.readouterr()
    for file, tolerance in (("graph.pb", 1), ("model.pict", 20)):
        assert run("--model", tmp_path / "own" / file, "--input", large, "--output",
                   tmp_path / f"{file}.png") == 0
        assert capsys.readouterr().err == ""
        assert np.abs(read_pixels(tmp_path / f"{file}.png") - expected).max() <= tolerance
    (tmp_path / "own/options.json").unlink()
    assert run("--model", tmp_path / "own/model.pict", "--input", large, "--output",
               tmp_path / "alone.png") == 0
    assert "the result is enlarged" in capsys.readouterr().err


def test_a_generator_that_copies_returns_every_size_unchanged(export_dir, tmp_path, monkeypatch,
                                                              capsys):
    monkeypatch.setattr(pix2pix, "create_outputs", lambda inputs, *_, **__: inputs)
    rng = np.random.default_rng(4)
    (tmp_path / "in").mkdir()
    for number, shape in enumerate([(1, 1), (3, 90), (31, 33), (64, 32), (100, 45)]):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(
            tmp_path / f"in/{number}.png")
    assert run("--model", export_dir.parent / "run", "--native_size", "--input", tmp_path / "in",
               "--output", tmp_path / "out") == 0
    for path in (tmp_path / "in").iterdir():
        np.testing.assert_array_equal(read_pixels(path), read_pixels(tmp_path / "out" / path.name))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("file", [
    "graph.pb", "model.pict", pytest.param("model.onnx", marks=needs_onnx), "../run"])
def test_native_size_of_every_model(export_dir, tmp_path, large_and_result, file):
    large, expected = large_and_result
    assert run("--model", export_dir / file, "--native_size", "--input", large, "--output",
               tmp_path / "x.png") == 0
    got = read_pixels(tmp_path / "x.png")
    assert got.shape == (90, 70, 3)
    assert np.abs(got - expected).max() <= (20 if file.endswith("pict") else 1)


@pytest.mark.parametrize("file", ["model.pict", "../run"])
def test_strips_give_what_whole_images_give(export_dir, tmp_path, large_and_result, file):
    large, expected = large_and_result
    assert run("--model", export_dir / file, "--tile", 16, "--input", large, "--output",
               tmp_path / "x.png") == 0
    got = read_pixels(tmp_path / "x.png")
    assert np.abs(got - expected).max() <= (20 if file.endswith("pict") else 1)


def test_strips_of_an_export_are_refused(export_dir, tmp_path, capsys):
    draw_images(tmp_path, "1.png")
    assert run("--model", export_dir / "graph.pb", "--tile", 16, "--input", tmp_path / "1.png",
               "--output", tmp_path / "x.png") == 2
    assert capsys.readouterr().err == (
        f"apply.py: error: --tile 16 does not work with {export_dir / 'graph.pb'}, which is one "
        "graph: give the training folder, a checkpoint or a .pict file\n")
    assert not (tmp_path / "x.png").exists()


def test_native_size_is_recorded_and_warns_of_memory(tmp_path, monkeypatch, capsys, replace_model):
    monkeypatch.chdir(tmp_path)
    draw_images(tmp_path, "in/1.png", "in/2.png", size=(2000, 1000))
    replace_model(bytes_per_pixel=3000)
    command = ["--model", "model", "--input", "in", "--output", "out"]
    assert run(*command) == 0
    assert capsys.readouterr().err == ""
    assert run(*command, "--native_size") == 2
    assert "such as out/1.png, were made without --native_size: give" in capsys.readouterr().err
    assert run(*command, "--native_size", "--force") == 0
    assert capsys.readouterr().err == ("apply.py: in/1.png: 2 megapixels at their own size take "
                                       "about 6 GB of memory, with --tile 128 less\n")
    assert run(*command) == 2
    assert "were made with --native_size: give" in capsys.readouterr().err


def test_too_little_memory_and_too_many_pixels_fail_one_image(tmp_path, monkeypatch, capsys,
                                                              replace_model):
    monkeypatch.setattr(stored, "MAX_PIXELS", 500)
    draw_images(tmp_path / "in", "1.png", "2.png")
    draw_images(tmp_path / "in", "3.png", size=(30, 20))

    def generate(contents):
        """A model that has no memory for the first."""
        if read_pixels(contents)[0, 0, 0] == 0:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return contents
    replace_model(generate)
    assert run("--model", "model", "--input", tmp_path / "in", "--output", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "1.png needs more memory than there is (OOM when allocating): close" in printed.err
    assert "3.png cannot be read (30x20 pixels are more than 500): repair" in printed.err
    assert "wrote 1, skipped 0, failed 2" in printed.out


# ---- models


def test_options_are_those_of_the_model(export_dir):
    options = options_to_apply(export_dir.parent / "run", pix2pix.NETWORK)
    assert (options.ema_generator, options.crop_size, options.ngf) == (0.9, 32, 2)
    assert (options.precision, options.seed) == ("float32", 0)


def test_every_frame_has_the_same_dropout(whole, tmp_path, monkeypatch):
    """And every run."""
    shutil.copytree(whole / "whole", tmp_path / "model")
    draw_images(tmp_path / "in", "1.png", size=(64, 80))
    shutil.copy(tmp_path / "in/1.png", tmp_path / "in/2.png")
    stored = json.loads((tmp_path / "model/options.json").read_text())
    results = []
    for name, has_dropout in (("one", True), ("two", True), ("none", False)):
        stored["test_dropout"] = has_dropout
        (tmp_path / "model/options.json").write_text(json.dumps(stored))
        assert run("--model", tmp_path / "model", "--input", tmp_path / "in", "--output",
                   tmp_path / name) == 0
        results += [(tmp_path / name / f"{number}.png").read_bytes() for number in (1, 2)]
    assert len({*results[:4]}) == 1 and results[4] == results[5] != results[0]


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["plain", "separable"])
def test_affinelayers_checkpoints(tmp_path, name):
    compat = SHARED / "compat" / name
    assert run("--model", compat / "checkpoint", "--input", compat / "expected/1-inputs.png",
               "--output", tmp_path / "out.png") == 0
    expected = read_pixels(compat / "expected/1-outputs.png")
    assert np.abs(read_pixels(tmp_path / "out.png") - expected).max() <= 2


def test_a_newer_checkpoint_is_another_model(export_dir, tmp_path, capsys):
    """Also where a file of the newest is missing."""
    shutil.copytree(export_dir.parent / "run", tmp_path / "run")
    draw_images(tmp_path, "in.png")
    command = ["--model", tmp_path / "run", "--input", tmp_path / "in.png", "--output",
               tmp_path / "out"]
    (tmp_path / "run/model-2.index").rename(tmp_path / "index")
    assert run(*command) == 0
    assert f"loaded model from {tmp_path}/run/model-1\n" in capsys.readouterr().out
    (tmp_path / "index").rename(tmp_path / "run/model-2.index")
    assert run(*command) == 2
    assert "were made by another model" in capsys.readouterr().err


# ---- on a terminal


class Terminal(io.StringIO):
    """A terminal's stderr."""

    def isatty(self):
        """It is one."""
        return True

    def fileno(self):
        """That of the tests."""
        return 2


def test_a_terminal_shows_a_bar_and_errors_on_their_own_lines(tmp_path, monkeypatch, replace_model):
    draw_images(tmp_path / "in", "1.png", "3.png")
    (tmp_path / "in/2.png").write_text("no image")
    replace_model()
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("--model", "model", "--input", tmp_path / "in", "--output", tmp_path / "out") == 1
    lines = sys.stderr.getvalue().replace("\r", "\n").splitlines()
    assert any("3/3" in line for line in lines)
    assert [line for line in lines if "cannot be read" in line][0].startswith("apply.py: ")


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
