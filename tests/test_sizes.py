"""Images of any size: rectangles, --resize, --native_size, and models at another size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import (HAS_ONNX, SMALL, draw_pairs, read_images, read_pixels, read_variables, run,
                     run_graph, train_small)
from PIL import Image

import pix2pix
from tools.lib import dataset
from tools.lib.cli import with_options
from tools.lib.images import scale_back, to_bytes
from tools.lib.tf1 import tf

pytestmark = pytest.mark.usefixtures("in_empty_folder")
SHAPES = [(75, 124), (33, 64), (64, 33), (1, 1), (32, 96), (9, 500)]  # height, width


def draw_noise(height, width, seed=0):
    rng = np.random.default_rng([seed, height, width])
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def save_noise(folder, shapes, pairs=False):
    """An image, or a pair side by side, of each shape; returns them."""
    Path(folder).mkdir()
    images = [draw_noise(height, width * (1 + pairs)) for height, width in shapes]
    for number, image in enumerate(images):
        Image.fromarray(image).save(f"{folder}/{number}.png")
    return images


def copy(monkeypatch):
    """A generator that returns its inputs."""
    monkeypatch.setattr(pix2pix, "generate", lambda inputs, *_, **__: tf.cast(inputs, tf.float32))
    monkeypatch.setattr(pix2pix.checkpoints, "restore", lambda *_: None)


def run_test_mode(output_dir, *arguments):
    assert run("--mode", "test", "--output_dir", output_dir, *arguments) == 0
    return {name: read_pixels(contents) for name, contents in read_images(output_dir).items()}


# ---- the same size out


@pytest.mark.parametrize("resize, flags", [("none", []), ("stretch", ["--native_size"]),
                                           ("pad", ["--native_size"])])
def test_a_generator_that_copies_returns_every_size_unchanged(monkeypatch, resize, flags):
    images = save_noise("single", SHAPES)
    pairs = save_noise("pairs", SHAPES, pairs=True)
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1, "--resize", resize) == 0
    copy(monkeypatch)
    flags = ["--checkpoint", "run", *flags]
    got = run_test_mode("out", "--input_dir", "single", "--no_targets", *flags)
    assert len(got) == 2 * len(SHAPES)
    for number, image in enumerate(images):
        for kind in ("inputs", "outputs"):
            np.testing.assert_array_equal(got[f"{number}-{kind}.png"], image)
    got = run_test_mode("pairs_out", "--input_dir", "pairs", "--layout", "pairs", *flags)
    rows = Path("pairs_out/metrics.csv").read_text().splitlines()[1:]
    for number, image in enumerate(pairs):
        left, right = np.split(image.astype(int), 2, axis=1)
        np.testing.assert_array_equal(got[f"{number}-outputs.png"], left)
        np.testing.assert_array_equal(got[f"{number}-targets.png"], right)
        l1 = float(rows[number].split(",")[1])  # at the size that is written
        assert l1 == pytest.approx(np.abs(left - right).mean() / 255, rel=1e-4)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_images_come_to_the_models_size_as_in_training(monkeypatch, resize):
    """Without the flag, at the scale of the crop; pads are cut off again."""
    image, = save_noise("single", [(96, 48)])
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1, "--resize", resize) == 0
    copy(monkeypatch)
    got = run_test_mode("out", "--input_dir", "single", "--no_targets", "--checkpoint", "run",
                        "--layout", "single")
    high, wide = {"stretch": (32, 32), "crop": (64, 32), "pad": (32, 16)}[resize]
    rows = np.repeat(image, high, axis=0).reshape(high, 96, 48, 3).mean(axis=1)  # by area
    scaled = np.repeat(rows, wide, axis=1).reshape(high, wide, 48, 3).mean(axis=2)
    expected = scaled[16:48] if resize == "crop" else scaled
    for kind in ("inputs", "outputs"):
        assert np.abs(got[f"0-{kind}.png"] - expected).max() <= 1
        assert got[f"0-{kind}.png"].shape == expected.shape


def test_a_shift_by_the_stride_shifts_the_inside():
    """Nothing depends on where an image's edge is, away from it."""
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 3, "--lr", 0.02) == 0  # --norm none, 5 halvings
    image = draw_noise(64, 416 + 32)
    Path("single").mkdir()
    Image.fromarray(image[:, :416]).save("single/1.png")
    Image.fromarray(image[:, 32:]).save("single/2.png")
    got = run_test_mode("out", "--input_dir", "single", "--no_targets", "--checkpoint", "run",
                        "--native_size")
    one, other = got["1-outputs.png"], got["2-outputs.png"]
    assert one.std() > 1  # it has something to shift
    assert np.abs(one[:, 192:256] - other[:, 160:224]).max() <= 1
    assert np.abs(one[:, 191:255] - other[:, 160:224]).max() > 1


@pytest.mark.parametrize("shape", SHAPES)
def test_an_export_of_a_model_at_its_own_size_keeps_every_pixel(options, monkeypatch, shape):
    copy(monkeypatch)
    image = draw_noise(*shape)
    for changes in (dict(resize="none"), dict(native_size=True)):
        contents = run_graph(lambda: pix2pix.generate_encoded(
            tf.constant(to_bytes(image)), with_options(options, mode="export", **changes)))
        np.testing.assert_array_equal(read_pixels(contents), image)


def test_exports_of_a_model_at_its_own_size():
    """In every format that takes any size; the checkpoint's own test mode is the oracle."""
    image, = save_noise("single", [(40, 75)])
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1, "--resize", "none") == 0
    got = run_test_mode("out", "--input_dir", "single", "--no_targets", "--checkpoint", "run")
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", "saved_model", "graph") == 0
    for file in ("saved_model.pb", "graph.pb"):
        result = read_pixels(pix2pix.load_model(Path("export", file)).generate(to_bytes(image)))
        assert np.abs(result - got["0-outputs.png"]).max() <= 1


def test_apply_squeezes_images_as_test_does():
    """Those of the shape of training's: its result is that of test mode, scaled back."""
    image, = save_noise("single", [(40, 80)])
    save_noise("pairs", [(32, 64)], pairs=True)
    assert run("--mode", "train", "--input_dir", "pairs", "--output_dir", "run", *SMALL, "--lr",
               0.02, "--max_steps", 3) == 0
    tested = run_test_mode("out", "--input_dir", "single", "--no_targets", "--layout", "single",
                           "--checkpoint", "run")["0-outputs.png"]
    formats = {"graph": "graph.pb", **({"onnx": "model.onnx"} if HAS_ONNX else {})}
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", *formats, "pict") == 0
    expected = run_graph(lambda: scale_back(tf.constant(tested, tf.float32), (40, 80)))
    assert tested.shape == (32, 32, 3) and tested.std() > 1
    for file in ("../run", *formats.values()):
        model = pix2pix.load_model(Path("export", file))
        assert np.abs(read_pixels(model.generate(to_bytes(image))) - expected).max() < 1.5
        assert model.network_shape((40, 80)) == model.network_shape((50, 101)) == (32, 32)
        assert model.network_shape((40, 40)) == (64, 32)
    shutil.copytree("export", "alone")
    Path("alone/options.json").unlink()  # what says so of a .pict file
    for folder, size in (("export", (32, 32)), ("alone", (32, 64))):
        model = pix2pix.load_model(Path(folder, "model.pict"))
        assert model.network_shape((40, 80)) == size


# ---- rectangles, and what a model remembers


def test_a_rectangle_trains_tests_exports_and_resumes(capsys):
    draw_pairs("bars/train", 3)
    train_small("run", "--max_steps", 2, "--crop_size", "32x64", "--display_freq", 1)
    stored = json.loads(Path("run/options.json").read_text())
    assert (stored["crop_size"], stored["scale_size"], stored["depth"]) == ("32x64", "36x72", None)
    assert {read_pixels(contents).shape for contents in read_images("run").values()} == {
        (32, 64, 3)}
    got = run_test_mode("out", "--input_dir", "bars/train", "--checkpoint", "run")
    assert {pixels.shape for pixels in got.values()} == {(32, 64, 3)}
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", "saved_model", "affinelayer", "tflite") == 0
    apply = pix2pix.load_model(Path("export/model.tflite")).generate
    assert read_pixels(apply(Path("bars/train/1.JPG").read_bytes())).shape == (64, 128, 3)
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--input_dir", "bars/train",
               "--max_steps", 3) == 0
    capsys.readouterr()
    assert train_small("x", "--crop_size", "32x64", "--augment", "rot90", "--max_steps", 1) == 2
    assert capsys.readouterr().err == (
        "pix2pix.py: error: --augment rot90 needs a square, --crop_size 32x64 is none: remove "
        "one\n")


def test_training_says_what_stretching_does_to_the_shape(capsys):
    save_noise("pairs", [(40, 60)], pairs=True)
    command = ["--mode", "train", "--input_dir", "pairs", "--output_dir", "x", "--overwrite", *SMALL,
               "--max_steps", 1]
    line = "images are 1.5 times as wide as high and are stretched to 32x32: --aspect_ratio 1.5 " \
        "gives results their shape, --resize crop or pad keeps it\n"
    for flags, expected in (([], line), (["--aspect_ratio", 1.5], ""), (["--resize", "crop"], ""),
                            (["--crop_size", "64x96"], "")):
        assert run(*command, *flags) == 0
        said = capsys.readouterr().out
        assert line in said if expected else "stretched" not in said


@pytest.mark.parametrize("ratios, changes, text", [
    ([1.5, 0.667, 1.5, 0.667], {}, "images have different shapes, 0.667 to 1.5 times as wide as high, "
     "and are stretched to 64x64: --resize crop or pad keeps them"),
    ([1.5, 0.667], {"aspect_ratio": 1.5}, "images have different shapes, 0.667 to 1.5 times as wide "
     "as high, and are stretched to 64x64: --resize crop or pad keeps them"),
    ([1.5] * 10, {"aspect_ratio": 2.0}, "images are 1.5 times as wide as high and are stretched to "
     "64x64: --resize crop or pad keeps their shape"),
    ([1.5] * 9 + [1], {}, "images are 1.5 times as wide as high and are stretched to 64x64: "
     "--aspect_ratio 1.5 gives results their shape, --resize crop or pad keeps it"),
    ([1.5] * 9 + [1], {"aspect_ratio": 1.5}, None), ([1] * 9 + [1.5], {}, None)])
def test_shapes_are_named_where_most_images_have_one(options, capsys, ratios, changes, text):
    dataset.report_stretching(ratios, with_options(options, crop_size=64, **changes))
    assert capsys.readouterr().out == (f"{text}\n" if text else "")


def test_test_mode_says_which_images_it_squeezes_otherwise_than_training(capsys):
    """Once, and how to keep their shape."""
    save_noise("single", [(40, 60), (40, 40)])
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1) == 0
    for flags, expected in (([], 1), (["--native_size"], 0), (["--resize", "pad"], 0)):
        capsys.readouterr()
        run_test_mode("out", "--input_dir", "single", "--no_targets", "--checkpoint", "run", *flags)
        assert capsys.readouterr().out.count(
            "1 of 2 images are of another shape than most training images, 1 times as wide as high, "
            "and are stretched to 32x32: --native_size and tools/apply.py keep their shape\n") \
            == expected


def test_the_aspect_ratio_is_remembered():
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1, "--aspect_ratio", 1.5) == 0
    for flags, width in (([], 48), (["--aspect_ratio", 2], 64)):
        got = run_test_mode("out", "--input_dir", "bars/train", "--checkpoint", "run", *flags)
        assert {pixels.shape for pixels in got.values()} == {(32, width, 3)}


def test_a_scale_that_is_not_used_is_reported(capsys):
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1, "--resize", "none", "--scale_size", 40) == 0
    assert "ignoring --scale_size: --resize none does not scale" in capsys.readouterr().err


def test_a_model_is_trained_on_and_used_at_another_size_of_its_depth(capsys):
    draw_pairs("bars/train", 3)
    assert train_small("run", "--max_steps", 1) == 0
    flags = ["--mode", "train", "--input_dir", "bars/train", "--output_dir", "larger",
             "--checkpoint", "run", "--max_steps", 1, "--patch_size", 16, "--precision", "float32",
             "--crop_size"]
    assert run(*flags, 64) == 0
    stored = json.loads(Path("larger/options.json").read_text())
    assert (stored["crop_size"], stored["scale_size"], stored["depth"]) == (64, 72, 5)
    assert read_variables("run").keys() == read_variables("larger").keys()
    got = run_test_mode("out", "--input_dir", "bars/train", "--checkpoint", "larger")
    assert {pixels.shape for pixels in got.values()} == {(64, 64, 3)}
    assert run("--mode", "train", "--resume", "--output_dir", "larger", "--crop_size", "32x96",
               "--max_steps", 3) == 0
    capsys.readouterr()
    draw = [*flags[:5], "x", *flags[6:]]
    assert run(*draw, 48) == 2
    assert capsys.readouterr().err == ("pix2pix.py: error: --crop_size 48 is not a multiple of 32: "
                                       "give 32 or 64\n")


def test_a_network_of_many_halvings_refuses_what_it_does_not_fit(capsys):
    draw_pairs("bars/train", 2)
    assert train_small("run", "--max_steps", 1, "--crop_size", 64) == 0
    assert run("--mode", "test", "--input_dir", "bars/train", "--checkpoint", "run", "--output_dir",
               "out", "--crop_size", "96x128") == 2
    assert capsys.readouterr().err.endswith(
        "error: --crop_size 96x128 does not fit the model, which takes multiples of 64: give 64x128 "
        "or 128\n")


@pytest.mark.parametrize("flags, text", [
    ("--crop_size 64x100", "--crop_size 64x100 is not a multiple of 32: give 64x96 or 64x128"),
    ("--crop_size 64x96 --scale_size 96", None),
    ("--crop_size 96x64 --scale_size 80x90", "--scale_size 80x90 is below --crop_size 96x64: give "
     "at least that"),
    ("--resize crop --aspect_ratio 2", "--aspect_ratio 2.0 belongs to --resize stretch, --resize "
     "crop keeps the images' shape: remove one"),
    ("--crop_size 64x96 --aspect_ratio 2", "--aspect_ratio 2.0 needs a square --crop_size, 64x96 is "
     "none: remove one"),
    ("--native_size", "--native_size is for --mode test and export: remove it; for training at the "
     "images' own size give --resize none"),
    ("--resize none --scale_size 40 --crop_size 64", None)])
def test_sizes_that_do_not_go_together(capsys, flags, text):
    Path("in").mkdir()
    command = ["--mode", "train", "--input_dir", "in", "--max_steps", "1", *flags.split()]
    if text is None:
        pix2pix.parse_args(command)
    else:
        assert run(*command) == 2
        assert capsys.readouterr().err == f"pix2pix.py: error: {text}\n"


@pytest.mark.parametrize("resize, augment", [("crop", "scale"), ("pad", "scale"),
                                             ("none", "scale"), ("none", "none")])
def test_mixed_sizes_train_and_stay_aligned(resize, augment):
    """Portraits and panoramas, larger and smaller than the crop; inputs and targets are equal."""
    Path("same").mkdir()
    for number, (height, width) in enumerate([(40, 90), (90, 40), (20, 20), (33, 70)]):
        half = draw_noise(height, width)
        Image.fromarray(np.concatenate([half, half], axis=1)).save(f"same/{number}.png")
    options = pix2pix.parse_args([
        "--mode", "train", "--input_dir", "same", "--layout", "pairs", *SMALL, "--resize", resize,
        "--augment", augment, "--batch_size", "4", "--output_dir", "x"])
    found = pix2pix.dataset.list_images(options)
    with tf.Graph().as_default(), tf.Session() as sess:
        examples = pix2pix.create_examples(found, options)
        for _ in range(4):
            batch = sess.run(examples)
            assert batch.inputs.shape == (4, 32, 32, 3)
            np.testing.assert_array_equal(batch.inputs, batch.targets)
            assert (batch.inputs.std(axis=(1, 2, 3)) > 0.1).all()
