"""Pairs whose images are files of their own: --a_dir and --b_dir."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers import (SMALL, assert_equal_runs, draw_pairs, read_files, read_images, read_pixels,
                     read_variables, run)
from PIL import Image

import pix2pix
from tools.lib.cli import Options
from tools.lib.partners import group_images, match_trees
from tools.lib.run_folder import dataset_dir, default_dirs

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def save(path, *shape, seed=0):
    """An image of noise."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, len(str(path))]).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)


def split_pairs(folder):
    """The halves of pairs, in a and b; the names of B end differently."""
    for path in sorted(Path(folder).iterdir()):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        middle = pixels.shape[1] // 2
        for side, half, ending in (("a", pixels[:, :middle], "png"), ("b", pixels[:, middle:], "PNG")):
            target = Path(side, f"{path.stem}.{ending}")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(half).save(target, "PNG")


def train(output_dir, *arguments):
    return run("--mode", "train", "--output_dir", output_dir, *SMALL, "--progress_freq", 1,
               *arguments)


def error_of(capsys, *arguments):
    """The lines on stderr of a command that is refused, without the program's name."""
    assert run(*arguments) == 2
    return capsys.readouterr().err.replace("pix2pix.py: ", "")


# ---- the same as pairs side by side


@pytest.mark.parametrize("flags", [[], ["--which_direction", "BtoA", "--cache", "1"]])
def test_two_folders_give_what_pairs_of_their_images_give(flags):
    draw_pairs("bars/train", 5)
    split_pairs("bars/train")
    flags = [*flags, "--max_steps", 6, "--batch_size", 2, "--augment", "vflip", "noise", "scale",
             "--display_freq", 3]
    assert train("pairs", "--input_dir", "bars/train", *flags) == 0
    assert train("folders", "--a_dir", "a", "--b_dir", "b", *flags) == 0
    assert_equal_runs("pairs", "folders")
    assert read_images("pairs") == read_images("folders")
    for name, source in (("pairs", ["--input_dir", "bars/train"]),
                         ("folders", ["--a_dir", "a", "--b_dir", "b"])):
        assert run("--mode", "test", "--checkpoint", "pairs", "--output_dir", f"{name}_test",
                   *source) == 0
    names = ["metrics.csv", *(f"images/{name}" for name in read_images("pairs_test"))]
    one, other = (read_files(f"{name}_test") for name in ("pairs", "folders"))
    assert len(names) == 16
    for name in names:
        assert one[Path("pairs_test", name)] == other[Path("folders_test", name)], name


def test_a_resumed_run_on_folders_goes_on_as_if_it_had_not_stopped(capsys):
    draw_pairs("bars/train", 5)
    split_pairs("bars/train")
    folders = ["--a_dir", "a", "--b_dir", "b"]
    assert train("whole", *folders, "--max_steps", 7) == 0
    assert train("parts", *folders, "--max_steps", 3) == 0
    assert run("--mode", "train", "--resume", "--output_dir", "parts", "--max_steps", 7) == 0
    assert_equal_runs("whole", "parts")
    os.rename("b", "c")
    assert "was trained on b, which counts from where training was started and does not exist " \
        "here: give --b_dir" in error_of(capsys, "--mode", "train", "--resume", "--output_dir",
                                         "parts", "--max_steps", 8)
    assert run("--mode", "train", "--resume", "--output_dir", "parts", "--max_steps", 8, "--a_dir",
               "a", "--b_dir", "c") == 0


def test_lab_takes_lightness_from_a_and_colour_from_b():
    draw_pairs("bars/single", 4, kind="single")
    shutil.copytree("bars/single", "copy")
    flags = ["--lab_colorization", "--max_steps", 3]
    assert train("one", "--input_dir", "bars/single", *flags) == 0
    assert train("two", "--a_dir", "bars/single", "--b_dir", "copy", *flags) == 0
    assert_equal_runs("one", "two")


@pytest.mark.parametrize("direction, side, other", [("AtoB", "a", "b"), ("BtoA", "b", "a")])
def test_inputs_alone_have_no_targets(capsys, direction, side, other):
    draw_pairs("bars/train", 3)
    split_pairs("bars/train")
    assert train("run", "--input_dir", "bars/train", "--max_steps", 2, "--which_direction",
                 direction) == 0
    test = ["--mode", "test", "--checkpoint", "run"]
    assert run(*test, "--output_dir", "pairs_out", "--input_dir", "bars/train") == 0
    assert run(*test, "--output_dir", "alone", f"--{side}_dir", side) == 0
    alone, pairs = read_images("alone"), read_images("pairs_out")
    assert alone == {name: contents for name, contents in pairs.items() if "targets" not in name}
    assert not Path("alone/metrics.json").exists()
    single = ["--no_targets", "--input_dir"]
    assert run(*test, "--output_dir", "single", *single, side) == 0
    assert read_images("single") == alone
    file = next(Path(side).glob("2.*"))  # one file is a folder of one
    assert run(*test, "--output_dir", "file", *single, file) == 0
    assert read_images("file") == {f"2-{kind}.png": alone[f"2-{kind}.png"]
                                   for kind in ("inputs", "outputs")}
    if direction == "AtoB":
        assert "the model takes 1 image as its input: give --a_dir once" in error_of(
            capsys, *test, "--output_dir", "x", "--a_dir", "a", "--a_dir", "b")
    text = error_of(capsys, *test, "--output_dir", "x", f"--{other}_dir", other)
    assert f"the model's inputs are {side.upper()}, by " in text
    assert text.endswith(f"--which_direction {direction}: give --{side}_dir\n")


# ---- several inputs


def test_several_folders_of_inputs_are_stacked_by_channel(capsys, monkeypatch):
    for number in range(3):
        for place, side in enumerate(("first", "second", "b")):
            save(f"{side}/{number}.png", 32, 32, 3, seed=place)
    folders = ["--a_dir", "first", "--a_dir", "second"]
    assert train("run", *folders, "--b_dir", "b", "--max_steps", 2, "--display_freq", 2,
                 "--scale_size", 32, "--no_flip") == 0
    assert json.loads(Path("run/options.json").read_text())["num_inputs"] == 2
    variables = read_variables("run")
    assert variables["generator/encoder_1/conv2d/kernel"].shape == (4, 4, 6, 1)
    assert variables["discriminator/layer_1/conv2d/kernel"].shape == (4, 4, 9, 1)
    seen = []
    real = pix2pix.generate

    def generate(inputs, *arguments, **more):
        seen.append(inputs.shape.as_list())
        return real(inputs, *arguments, **more)
    monkeypatch.setattr(pix2pix, "generate", generate)
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "out", *folders) == 0
    assert seen == [[None, 32, 32, 6]]
    for number in range(3):  # shown side by side
        shown = read_pixels(f"out/images/{number}-inputs.png")
        sides = [read_pixels(f"{side}/{number}.png") for side in ("first", "second")]
        np.testing.assert_array_equal(shown, np.concatenate(sides, axis=1))
        assert read_pixels(f"out/images/{number}-outputs.png").shape == (32, 32, 3)
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "own", *folders,
               "--native_size") == 0
    assert {name: contents for name, contents in read_images("own").items() if "inputs" in name} \
        == {name: contents for name, contents in read_images("out").items() if "inputs" in name}
    for given in (["--a_dir", "first"], ["--input_dir", "first", "--no_targets"]):
        assert "the model takes 2 images as its input: give --a_dir 2 times" in error_of(
            capsys, "--mode", "test", "--checkpoint", "run", "--output_dir", "x", *given)
    # an export takes them as its own page shows them
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", "saved_model", "affinelayer", "tflite", "pict") == 0
    for file in ("saved_model.pb", "export.meta", "model.tflite", "model.pict"):
        model = pix2pix.load_model(Path("export", file))
        assert (model.num_inputs, model.trained_ratio) == (2, 1.0)
        contents = Path("out/images/1-inputs.png").read_bytes()
        Path("result").write_bytes(model.generate(contents))
        difference = read_pixels("result") - read_pixels("out/images/1-outputs.png")
        assert np.abs(difference).max() <= 2


# ---- names


def match(*folders):
    """What match_trees makes of folders, as text."""
    trees = [group_images(folder, folders) for folder in folders]
    examples, lines = match_trees(trees, folders)
    return [tuple(path.as_posix() for path in paths) for paths in examples], lines


def test_names_match_by_subfolder_without_their_endings():
    for name in ("1.jpg", "deep/1.png", "deep/er/2.png", "10.png"):
        save(f"a/{name}", 2, 2, 3)
    for name in ("1.png", "deep/1.JPG", "deep/er/2.bmp", "10.webp"):
        save(f"b/{name}", 2, 2, 3)
    Path("a/.hidden").mkdir()
    save("a/.hidden/x.png", 2, 2, 3)
    examples, lines = match("a", "b")
    assert not lines
    assert examples == [("a/1.jpg", "b/1.png"), ("a/10.png", "b/10.webp"),
                        ("a/deep/1.png", "b/deep/1.JPG"), ("a/deep/er/2.png", "b/deep/er/2.bmp")]


def test_accents_match_composed_and_not():
    name = "d\u00e9j\u00e0/\u00e9t\u00e9.png"
    save(f"a/{unicodedata.normalize('NFC', name)}", 2, 2, 3)
    save(f"b/{unicodedata.normalize('NFD', name)}", 2, 2, 3)
    examples, lines = match("a", "b")
    assert len(examples) == 1 and not lines


def test_every_image_without_a_partner_is_named(capsys):
    for name in ("a/1.png", "a/2.png", "a/sub/3.png", "a/Case.png", "a/5.png", "b/1.png",
                 "b/3.png", "b/case.png", "b/5.jpg", "b/5.bmp"):
        save(name, 40, 40, 3)
    command = ["--mode", "train", "--a_dir", "a", "--b_dir", "b", "--output_dir", "run", *SMALL,
               "--max_steps", 1]
    lines = error_of(capsys, *command).splitlines()
    assert lines == [
        "a/2.png has no partner in b: add it or remove the image",
        "a/5.png has no partner in b: 5.jpg is not the only one with this stem, give both the same "
        "name",
        "a/Case.png has no partner in b: case.png differs only in case, rename one",
        "b/3.png has no partner in a: add it or remove the image",
        "b/5.bmp has no partner in a: 5.png is not the only one with this stem, give both the same "
        "name",
        "b/5.jpg has no partner in a: 5.png is not the only one with this stem, give both the same "
        "name",
        "b/case.png has no partner in a: Case.png differs only in case, rename one",
        "a/sub/3.png has no partner in b/sub: add it or remove the image",
        "error: 8 images have no partner: add or remove what is named above, or give "
        "--on_bad_image skip"]
    assert not Path("run").exists()
    assert run(*command, "--on_bad_image", "skip") == 0
    assert "examples count = 1\n" in capsys.readouterr().out


def test_no_partner_at_all(capsys):
    save("a/1.png", 4, 4, 3)
    save("b/2.png", 4, 4, 3)
    text = error_of(capsys, "--mode", "train", "--a_dir", "a", "--b_dir", "b", *SMALL)
    assert text.splitlines()[-1] == "error: no image of --a_dir a has a partner in --b_dir b: " \
        "partners have the same name, endings aside"


@pytest.mark.parametrize("flags", [["--a_dir", "one", "--b_dir", "one/b"],
                                   ["--a_dir", "one/b", "--b_dir", "one"]])
def test_a_folder_in_the_other_without_partners_is_told(capsys, flags):
    save("one/a/1.png", 4, 4, 3)
    save("one/b/1.png", 4, 4, 3)
    inner, outer = sorted([flags[:2], flags[2:]], key=lambda words: -len(words[1]))
    assert error_of(capsys, "--mode", "train", *flags, *SMALL) == (
        f"error: {' '.join(inner)} lies in {' '.join(outer)}, and no image has a partner: give two "
        "folders that do not hold each other, such as one/a\n")


def test_a_folder_in_the_other_and_links_in_a_circle():
    save("a/1.png", 4, 4, 3)
    save("a/b/1.png", 4, 4, 3)
    os.symlink("..", "a/loop")
    assert match("a", "a/b") == ([("a/1.png", "a/b/1.png")], [])


def test_results_are_named_with_their_subfolders():
    draw_pairs("bars/train", 2)
    for sub in ("x", "y"):
        split_pairs("bars/train")
        Path(sub).mkdir()
        for side in "ab":
            os.rename(side, f"{sub}/{side}")
    Path("a").mkdir()
    Path("b").mkdir()
    for sub in ("x", "y"):
        for side in "ab":
            os.rename(f"{sub}/{side}", f"{side}/{sub}")
    assert train("run", "--a_dir", "a", "--b_dir", "b", "--max_steps", 1) == 0
    assert run("--mode", "test", "--a_dir", "a", "--b_dir", "b", "--checkpoint", "run",
               "--output_dir", "out") == 0
    assert {name for name in read_images("out") if "inputs" in name} == {
        f"{sub}_{number}-inputs.png" for sub in "xy" for number in (1, 2)}
    assert Path("out/metrics.csv").read_text().splitlines()[1].startswith("x_1,")


# ---- sizes


def test_images_of_a_pair_may_differ_in_size_but_not_in_shape(capsys):
    for name, shape in (("a/1.png", (40, 60, 3)), ("b/1.png", (80, 120, 3)),
                        ("a/2.png", (40, 60, 3)), ("b/2.png", (40, 60, 3))):
        save(name, *shape)
    command = ["--mode", "train", "--a_dir", "a", "--b_dir", "b", *SMALL, "--max_steps", 1]
    for number, resize in enumerate(("stretch", "crop", "pad")):
        assert run(*command, "--resize", resize, "--output_dir", f"run{number}") == 0
    assert error_of(capsys, *command, "--resize", "none", "--output_dir", "x").splitlines() == [
        "b/1.png cannot be used: 120x80 pixels, a/1.png has 60x40: scale one of them, or do without "
        "--resize none",
        "error: 1 of 2 images cannot be used: repair or remove them, or give --on_bad_image skip"]
    save("b/2.png", 60, 60, 3)
    assert "b/2.png cannot be used: 60x60 pixels, a/2.png has 60x40: crop one of them to the " \
        "other's shape" in error_of(capsys, *command, "--output_dir", "x")


# ---- command lines


@pytest.mark.parametrize("flags, text", [
    ("--a_dir a", "error: training needs pairs: give --b_dir too"),
    ("--b_dir b", "error: training needs pairs: give --a_dir too"),
    ("--a_dir a --b_dir b --input_dir a", "error: --input_dir holds pairs side by side and --a_dir "
     "one image of each: give one of them"),
    ("--a_dir a --b_dir ./a", "error: --b_dir ./a is --a_dir too: give another folder"),
    ("--a_dir a --b_dir c", "error: --b_dir c is not a folder: check the path"),
    ("--a_dir a --b_dir b --layout pairs", "error: --layout pairs is for --input_dir: remove it"),
    ("--a_dir a --a_dir b --b_dir d --which_direction BtoA", "error: several --a_dir are the "
     "channels of an input: they need --which_direction AtoB"),
    ("--a_dir a --b_dir empty", "error: --b_dir empty contains no JPEG, PNG, BMP, GIF, TIFF, "
     "WebP, PPM or npy images: check the path"),
    ("--a_dir a --b_dir b --output_dir a", "error: --output_dir a would mix the results with the "
     "images of --a_dir: choose another")])
def test_folders_that_do_not_go_together(capsys, flags, text):
    for name in ("a/1.png", "b/1.png", "d/1.png"):
        save(name, 4, 4, 3)
    Path("empty").mkdir()
    before = read_files(".")
    assert error_of(capsys, "--mode", "train", "--max_steps", 1, *flags.split()) == text + "\n"
    assert read_files(".") == before


def sources(**folders):
    return Options(**{"input_dir": None, "a_dir": None, "b_dir": None, **folders})


@pytest.mark.parametrize("folders, name", [
    (dict(a_dir=["set/A/train"], b_dir="set/B/train"), "set"),
    (dict(a_dir=["set/train/A"], b_dir="set/train/B"), "set"),
    (dict(a_dir=["set/A"], b_dir="set/B"), "set"),
    (dict(a_dir=["set/rgb", "set/depth"], b_dir="set/labels"), "set"),
    (dict(a_dir=["set/A/val"]), "set"), (dict(a_dir=["set/val/A"]), "set"),
    (dict(b_dir="other/B"), "other"), (dict(input_dir="set/val/x.png"), "set")])
def test_results_are_named_after_what_the_folders_share(folders, name):
    for folder in ("set/A/train", "set/A/val", "set/B/train", "set/train/A", "set/val/A",
                   "set/train/B", "set/rgb"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    save("set/val/x.png", 2, 2, 3)
    options = sources(**folders)
    assert default_dirs({**vars(options), "mode": "test", "output_dir": None, "checkpoint": None,
                         "resume": False}) == {"output_dir": f"{name}_test",
                                               "checkpoint": f"{name}_train"}
    assert dataset_dir(sources()) is None


def test_a_quick_look_takes_the_first_of_the_seeded_order(capsys):
    draw_pairs("bars/train", 9)
    chosen = {}
    for seed in (1, 2):
        for number in (3, 5, 9):
            output = f"out{seed}{number}"
            if not Path("run").exists():
                assert train("run", "--input_dir", "bars/train", "--max_steps", 1) == 0
            assert run("--mode", "test", "--input_dir", "bars/train", "--checkpoint", "run", "--seed",
                       seed, "--max_images", number, "--output_dir", output) == 0
            chosen[seed, number] = {name for name in read_images(output) if "inputs" in name}
            assert len(chosen[seed, number]) == number
        assert chosen[seed, 3] < chosen[seed, 5] < chosen[seed, 9]
    assert chosen[1, 3] != chosen[2, 3]
    assert train("look", "--input_dir", "bars/train", "--max_images", 2, "--max_epochs", 3) == 0
    assert "examples count = 2\n" in capsys.readouterr().out
