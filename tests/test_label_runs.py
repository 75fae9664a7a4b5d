"""Label maps: --a_labels, --b_labels and --b_nearest, in every mode."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import (EXPORTS, SMALL, assert_equal_runs, read_images, read_page_data, read_variables,
                     run, run_test_mode, to_jpeg)
from PIL import Image

import pix2pix
from tools import apply as apply_tool
from tools.lib import dataset, label_metrics
from tools.lib.images import to_bytes

pytestmark = pytest.mark.usefixtures("in_empty_folder")
COLOURS = np.array([[128, 128, 128], [128, 0, 0], [60, 40, 222], [0, 0, 0]], np.uint8)
NAMES = ["sky", "wall", "side walk", "void"]
SIZE = 64
FOLDERS = ["--a_dir", "a", "--b_dir", "b"]


def draw_blocks(number, count=len(NAMES)):
    """Blocks of classes [64, 64]; the last is rare."""
    blocks = np.random.default_rng(number).integers(0, count - 1, (8, 8))
    blocks[number % 8, 3] = count - 1
    return np.kron(blocks, np.ones((8, 8), int))


def draw_classes(number):
    """`draw_blocks` whose edges lie between those of larger pixels."""
    return np.roll(draw_blocks(number), 1, axis=(0, 1))


def draw_photo(number):
    blocks = np.random.default_rng([9, number]).integers(0, 256, (8, 8, 3), np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


def write_colours(path, classes):
    path.write_bytes(to_bytes(COLOURS[classes]))


def write_indices(path, classes):
    path.write_bytes(to_bytes(classes.astype(np.uint8)))


def write_palette(path, classes):
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette([7, 8, 9, 250, 0, 0, 1, 2, 3, 90, 91, 92])
    image.save(path)


def write_grey_rgb(path, classes):
    path.write_bytes(to_bytes(np.repeat(classes[..., np.newaxis], 3, axis=2).astype(np.uint8)))



def write_deep(path, classes):
    Image.fromarray(classes.astype(np.uint16)).save(path)


def write_jpeg(path, classes):
    path.with_suffix(".jpg").write_bytes(to_jpeg(COLOURS[classes]))


def draw_set(write=write_colours, photos="a", labels="b", count=3, draw=draw_classes):
    """Photos, their label maps, and classes.txt."""
    for folder in (photos, labels):
        Path(folder).mkdir(exist_ok=True)
    for number in range(count):
        Path(photos, f"{number}.png").write_bytes(to_bytes(draw_photo(number)))
        write(Path(labels, f"{number}.png"), draw(number))
    Path("classes.txt").write_text("".join(
        f"{','.join(map(str, colour))} {name}\n"
        for colour, name in zip(COLOURS.tolist(), NAMES, strict=True)))


def train(output_dir, *flags):
    """Trains a small model on FOLDERS or what flags say; returns the exit code."""
    sources = [] if {"--input_dir", "--resume", "--a_dir"} & {*map(str, flags)} else FOLDERS
    return run("--mode", "train", "--output_dir", output_dir, *SMALL, *sources, "--max_steps", 2,
               "--progress_freq", 1, *flags)


def read(path):
    """An image file as it stores its values."""
    with Image.open(path) as image:
        return np.asarray(image)


def scaled(classes):
    """By the nearest pixel to 32x32: of each block of 2x2 the lower right pixel."""
    return classes[1::2, 1::2]


def classes_in(path):
    """Those of an image of colours."""
    pixels = read(path)
    matches = (pixels[..., np.newaxis, :] == COLOURS).all(axis=3)
    assert matches.any(axis=2).all()
    return matches.argmax(axis=2)


def agreement(names, ignored=(), folder="out", find=classes_in):
    """The figures of some images, by their files."""
    confusion = np.zeros([len(NAMES)] * 2, int)
    for name in names:
        real, made = (find(f"{folder}/images/{name}-{kind}.png") for kind in ("targets", "outputs"))
        counted = ~np.isin(real, ignored)
        confusion += label_metrics.count_confusion(real[counted], made[counted], len(NAMES))
    return label_metrics.agreement_of(confusion), confusion


# ---- what is learnt and written


def test_photos_to_colours(capsys):
    draw_set()
    assert train("run", "--b_labels", "classes.txt") == 0
    stored = json.loads(Path("run/options.json").read_text())
    assert stored["b_labels"] == "classes.txt" and stored["b_classes"] == [
        {"name": name, "color": colour} for name, colour in zip(NAMES, COLOURS.tolist(),
                                                                strict=True)]
    assert read_variables("run")["generator/decoder_1/conv2d_transpose/bias"].shape == (4,)
    figures = run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    for number in range(3):
        np.testing.assert_array_equal(classes_in(f"out/images/{number}-targets.png"),
                                      scaled(draw_classes(number)))
    rows = Path("out/metrics.csv").read_text().splitlines()
    assert rows[0] == "name,pixel_accuracy,class_accuracy,mean_iou"
    for number, row in enumerate(rows[1:]):
        expected, _ = agreement([number])
        np.testing.assert_allclose([*map(float, row.split(",")[1:])], expected[:3], rtol=1e-5)
    expected, confusion = agreement(range(3))
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou"):
        assert figures[name] == pytest.approx(getattr(expected, name))
        assert figures["median"][name] is None and len(figures["interval"][name]) == 2
    assert [row["name"] for row in figures["classes"]] == NAMES
    for place, row in enumerate(figures["classes"]):
        assert row["color"] == COLOURS[place].tolist()
        assert row["pixels"] == confusion.sum(axis=1)[place]
        assert row["share"] == pytest.approx(row["pixels"] / confusion.sum())
        assert row["accuracy"] == pytest.approx(expected.accuracies[place])
        assert row["iou"] == pytest.approx(expected.ious[place])
    assert f"mean_iou {expected.mean_iou:.4g}\n" in capsys.readouterr().out
    page = Path("out/index.html").read_text()
    assert 'fill="#3c28de"/></svg> side walk</th>' in page and "of all pixels" in page
    assert [metric["name"] for metric in read_page_data("out")["metrics"]] == [
        "pixel_accuracy", "class_accuracy", "mean_iou"]


def test_indices_are_read_wherever_they_are_stored():
    """Also where all ways are mixed."""
    draw_set(write_indices, count=5)
    draw_set(write_indices, labels="other", count=5)
    for number, write in enumerate((write_palette, write_grey_rgb, write_deep)):
        Path(f"other/{number}.png").unlink()
        write(Path(f"other/{number}.png"), draw_classes(number))
    assert train("run", "--b_labels", 4, "--max_steps", 5) == 0
    assert train("other_run", "--b_labels", 4, "--a_dir", "a", "--b_dir", "other", "--max_steps",
                 5) == 0
    assert_equal_runs("run", "other_run")


def test_photos_to_indices():
    """Files have the indices, and what people look at colours far apart."""
    draw_set(write_indices)
    assert train("run", "--b_labels", 4) == 0
    figures = run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    colours = [row["rgb"] for row in read_classes_shown("out")]
    for number in range(3):
        for kind in ("targets", "outputs"):
            indices = read(f"out/images/{number}-{kind}.png")
            assert indices.dtype == np.uint8 and indices.shape == (32, 32) and indices.max() < 4
            np.testing.assert_array_equal(read(f"out/images/{number}-{kind}-shown.png"),
                                          np.array(colours, np.uint8)[indices])
        np.testing.assert_array_equal(read(f"out/images/{number}-targets.png"),
                                      scaled(draw_classes(number)))
    expected, _ = agreement(range(3), find=read)
    assert figures["mean_iou"] == pytest.approx(expected.mean_iou)
    endings = read_page_data("out")["endings"]
    assert endings["targets"] == ["-targets-shown.png", "-targets.png"]


def read_classes_shown(folder):
    """The colours in a page's table of classes."""
    page = Path(folder, "index.html").read_text()
    parts = page.split('fill="#')[1:]
    return [{"rgb": [*bytes.fromhex(part[:6])]} for part in parts]


def test_indices_of_16_bits_stay_so():
    draw_set(write_deep)
    assert train("run", "--b_labels", 4, "--b_ignore", 300) == 0
    assert json.loads(Path("run/options.json").read_text())["b_type"] == "uint16"
    run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    assert {read(path).dtype for path in Path("out/images").glob("*puts.png")} == {
        np.dtype("uint8"), np.dtype("uint16")}  # of inputs and outputs


def test_jpeg_colours_are_those_of_the_nearest_class():
    draw_set(draw=draw_blocks)
    draw_set(write_jpeg, labels="jpeg", draw=draw_blocks)
    assert train("run", "--b_labels", "classes.txt") == 0
    assert train("jpeg_run", "--b_labels", "classes.txt", "--b_nearest", "--a_dir", "a", "--b_dir",
                 "jpeg") == 0
    assert_equal_runs("run", "jpeg_run")
    run_test_mode("out", "--checkpoint", "jpeg_run", "--a_dir", "a", "--b_dir", "jpeg")
    np.testing.assert_array_equal(classes_in("out/images/1-targets.png"), scaled(draw_blocks(1)))


def test_ignored_classes_do_not_count():
    """Which of the ignored values a pixel has is the same to training and metrics."""
    def with_255(number):
        classes = draw_classes(number)
        return np.where(classes == 3, 255, classes)
    draw_set(write_indices)
    draw_set(write_indices, labels="other", draw=with_255)
    flags = ["--b_labels", 4, "--b_ignore", 3, 255]
    assert train("run", *flags) == 0
    assert train("other_run", *flags, "--a_dir", "a", "--b_dir", "other") == 0
    assert_equal_runs("run", "other_run")
    figures = run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    assert figures["classes"][3]["pixels"] == 0 and figures["classes"][3]["iou"] is None
    expected, confusion = agreement(range(3), ignored=[3], find=read)
    assert figures["mean_iou"] == pytest.approx(expected.mean_iou)
    assert sum(row["pixels"] for row in figures["classes"]) == confusion.sum() < 3 * 32 * 32
    assert (read("out/images/0-targets.png") == 3).any()  # the first of the values, in both
    run_test_mode("other_out", "--checkpoint", "run", "--a_dir", "a", "--b_dir", "other")
    for name in ("0-targets.png", "1-outputs.png"):
        assert read_images("out")[name] == read_images("other_out")[name]


@pytest.mark.parametrize("write, labels", [(write_colours, "classes.txt"), (write_indices, 4)])
def test_label_maps_to_photos(write, labels):
    """What is ignored in an input is nothing to the network, and shown as it was."""
    draw_set(write)
    flags = ["--which_direction", "BtoA", "--b_labels", labels, "--b_ignore", 3]
    assert train("run", *flags) == 0
    assert read_variables("run")["generator/encoder_1/conv2d/kernel"].shape[2] == 4
    run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    find = classes_in if write == write_colours else read
    for number in range(3):
        np.testing.assert_array_equal(find(f"out/images/{number}-inputs.png"),
                                      scaled(draw_classes(number)))
    about = json.loads(Path("run/inputs.json").read_text())
    assert about["kind"] == "labels" and about["channels"] == 4 and about["ignore"] == [3]
    assert about["indices"] == (write == write_indices)
    names = [row["name"] for row in about["classes"]]
    assert names == (NAMES if write == write_colours else ["0", "1", "2", "3"])
    shown = {tuple(row["rgb"]) for row in about["colours"]}
    assert shown == {tuple(row["color"]) for row in about["classes"]}


def test_several_inputs_and_masks():
    draw_set(write_indices)
    shutil.copytree("b", "c")
    folders = ["--a_dir", "b", "--a_dir", "c", "--b_dir", "a"]
    assert train("run", *folders, "--a_labels", 4, "--a_ignore", 3, "--mask_channel") == 0
    assert read_variables("run")["generator/encoder_1/conv2d/kernel"].shape[2] == 10
    run_test_mode("out", "--checkpoint", "run", *folders)
    twice = np.concatenate([scaled(draw_classes(1))] * 2, axis=1)
    np.testing.assert_array_equal(read("out/images/1-inputs.png"), twice)


@pytest.mark.parametrize("write, labels, direction", [
    (write_colours, "classes.txt", "AtoB"), (write_grey_rgb, 4, "BtoA")])
def test_pairs_in_one_file_give_the_same(write, labels, direction):
    draw_set(write)
    Path("pairs").mkdir()
    for number in range(3):
        both = np.concatenate([read(f"{folder}/{number}.png") for folder in "ab"], axis=1)
        Path(f"pairs/{number}.png").write_bytes(to_bytes(both))
    flags = ["--b_labels", labels, "--which_direction", direction]
    assert train("run", *flags) == 0
    assert train("pairs_run", *flags, "--input_dir", "pairs") == 0
    assert_equal_runs("run", "pairs_run")
    run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    run_test_mode("pairs_out", "--checkpoint", "pairs_run", "--input_dir", "pairs")
    assert read_images("out") == read_images("pairs_out")


def test_a_plain_side_scaled_by_the_nearest_pixel():
    draw_set()
    assert train("run", "--b_nearest") == 0
    run_test_mode("out", "--checkpoint", "run", *FOLDERS)
    np.testing.assert_array_equal(read("out/images/1-targets.png"),
                                  COLOURS[scaled(draw_classes(1))])


# ---- continuing, validating, exporting


@pytest.mark.parametrize("labels", ["classes.txt", 4])
def test_a_resumed_run_gives_the_same_bits_without_the_list(labels):
    draw_set(write_colours if labels == "classes.txt" else write_indices)
    flags = ["--b_labels", labels, "--b_ignore", 3, "--augment", "vflip", "scale"]
    assert train("whole", *flags, "--max_steps", 5) == 0
    assert train("run", *flags, "--max_steps", 2) == 0
    Path("classes.txt").unlink()
    assert run("--mode", "train", "--output_dir", "run", "--resume", "--max_steps", 5) == 0
    variables, others = read_variables("whole"), read_variables("run")
    for name, value in variables.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)


def test_other_classes_cannot_be_resumed_with(capsys):
    draw_set()
    assert train("run", "--b_labels", "classes.txt") == 0
    shutil.copy("classes.txt", "same.txt")
    resume = ["--mode", "train", "--output_dir", "run", "--resume", "--max_steps", 3, "--b_labels"]
    assert run(*resume, "same.txt") == 0
    stored = json.loads(Path("run/options.json").read_text())
    assert stored["b_labels"] == "classes.txt"
    Path("other.txt").write_text(Path("same.txt").read_text().replace("wall", "house"))
    capsys.readouterr()
    assert run(*resume, "other.txt") == 2
    rest = "remove what differs, or train without --resume into another --output_dir\n"
    assert capsys.readouterr().err == (
        "pix2pix.py: error: cannot resume with --b_labels other.txt, the run in run was trained "
        f"with --b_labels classes.txt: {rest}")
    shutil.copy("other.txt", "classes.txt")
    assert run(*resume, "classes.txt") == 2
    assert "was trained with --b_labels classes.txt as it was then: " in capsys.readouterr().err
    run_test_mode("out", "--checkpoint", "run", "--b_labels", "other.txt", *FOLDERS)
    assert capsys.readouterr().err == ("pix2pix.py: ignoring --b_labels other.txt: the checkpoint "
                                       "was trained with --b_labels classes.txt\n")
    stored["b_classes"] = [{"name": "sky"}]
    Path("run/options.json").write_text(json.dumps(stored))
    assert run(*resume[:-1]) == 2
    assert capsys.readouterr().err.startswith(
        "pix2pix.py: error: run/options.json has no classes of --b_labels as b_classes (1 class: ")


def test_a_new_run_may_start_with_as_many_other_classes():
    draw_set()
    draw_set(write_indices, labels="indices")
    assert train("run", "--b_labels", "classes.txt") == 0
    assert train("new", "--checkpoint", "run", "--b_labels", 4, "--a_dir", "a", "--b_dir",
                 "indices") == 0
    stored = json.loads(Path("new/options.json").read_text())
    assert stored["b_labels"] == "4" and stored["b_classes"][1] == {"name": "1"}


def test_validation_gives_the_figures_of_a_test():
    draw_set()
    draw_set(photos="val_a", labels="val_b", count=4)
    assert train("run", "--b_labels", "classes.txt", "--b_ignore", 3, "--val_dir", "val_a", "val_b",
                 "--val_freq", 1, "--max_steps", 4, "--val_metric", "mean_iou") == 0
    head, *rows = (line.split(",") for line in Path("run/log.csv").read_text().splitlines())
    rows = [dict(zip(head, row, strict=True)) for row in rows]
    figures = run_test_mode("out", "--checkpoint", "run", "--a_dir", "val_a", "--b_dir", "val_b")
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou"):
        assert float(rows[-1][f"val_{name}"]) == pytest.approx(figures[name], rel=1e-5)
    values = [float(row["val_mean_iou"]) for row in rows]
    assert Path(f"run/best-{1 + int(np.argmax(values))}.index").exists()


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("write, labels", [(write_colours, "classes.txt"), (write_indices, 4)])
def test_exports_take_and_give_files(capsys, side, write, labels):
    draw_set(write, photos="b" if side == "a" else "a", labels=side)
    flags = [f"--{side}_labels", labels, f"--{side}_ignore", 3]
    assert train("run", *flags, "--resize", "none") == 0
    formats = ["saved_model", "graph", "affinelayer"]
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", *formats) == 0
    out, num_compared = capsys.readouterr().out, 4 + 4 + 1  # files and floats, each of two sizes
    assert out.count("0.00 % of the pixels are of another class than in the checkpoint's image, "
                     "allowed 1 %\n" if side == "b" else "allowed 1\n") == num_compared
    assert apply_tool.main(["--model", "run", "--input", "a/1.png", "--output", "one.png"]) == 0
    assert apply_tool.main(["--model", "export", "--input", "a/1.png", "--output", "two.png"]) == 0
    one, two = read("one.png"), read("two.png")
    assert one.shape == two.shape and one.shape[:2] == (SIZE, SIZE)
    if side == "a":
        assert np.abs(one.astype(int) - two).max() <= 1
        return
    assert (one != two).mean() < 0.01
    classes = classes_in("one.png") if write == write_colours else one
    assert classes.max() < 4


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("write, labels, more", [
    (write_colours, "classes.txt", []), (write_colours, "classes.txt", ["nearest"]),
    (write_indices, 4, [])], ids=["colours", "nearest", "indices"])
@pytest.mark.slow
def test_every_format_of_floats(capsys, side, write, labels, more):
    draw_set(write, photos="b" if side == "a" else "a", labels=side)
    assert train("run", f"--{side}_labels", labels, *(f"--{side}_{name}" for name in more)) == 0
    for name in {*EXPORTS} & {"tflite", "onnx"}:
        assert run("--mode", "export", "--checkpoint", "run", "--output_dir", name,
                   "--export_format", name) == 0
        model = pix2pix.load_model(name)
        result = model.generate(Path("a/1.png").read_bytes())
        Path("result.png").write_bytes(result)
        assert read("result.png").shape[:2] == (SIZE, SIZE)
        if side == "b" and write == write_colours:
            classes_in("result.png")


def test_a_browser_model_holds_no_classes(capsys):
    draw_set()
    assert train("run", "--b_labels", "classes.txt") == 0
    capsys.readouterr()
    for flags, text in (
            (["--export_format", "pict"], "--export_format pict cannot hold that images of B have "
             "classes of their own: choose another format"),
            (["--output_filetype", "jpeg"], "--output_filetype jpeg changes the colours and "
             "indices of label maps: remove it")):
        assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "e", *flags) == 2
        assert capsys.readouterr().err == f"pix2pix.py: error: {text}\n"


def test_apply_refuses_what_no_class_has(capsys):
    draw_set()
    assert train("run", "--which_direction", "BtoA", "--b_labels", "classes.txt") == 0
    capsys.readouterr()
    assert apply_tool.main(["--model", "run", "--input", "a/1.png", "--output", "x.png"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("apply.py: a/1.png cannot be read (4096 pixels of 64 colours that no "
                            "class of --b_labels has, most often ")


# ---- what is refused


def spoil(path, colour=(1, 2, 3), rows=2):
    """Gives the first pixels of an image another colour, or index."""
    pixels = read(path).copy()
    pixels[0, :rows] = colour
    Path(path).write_bytes(to_bytes(pixels))


UNKNOWN = ("pix2pix.py: b/1.png cannot be used: 2 pixels of the colour 1,2,3, which no class of "
           "--b_labels has: add it to the list, or give --b_nearest for label images that were "
           "saved as JPEG\n")


def test_unknown_colours_are_named_before_the_first_step(capsys):
    """Whatever was found of the same files for other classes."""
    draw_set()
    spoil("b/1.png")
    assert train("plain") == 0
    capsys.readouterr()
    for _ in range(2):
        assert train("run", "--b_labels", "classes.txt") == 2
        assert capsys.readouterr().err == (
            f"{UNKNOWN}pix2pix.py: error: 1 of 3 images cannot be used: repair or remove them, or "
            "give --on_bad_image skip\n")
    assert not Path("run").exists()
    with open("classes.txt", "a") as file:
        file.write("1,2,3 marking\n")
    assert train("run", "--b_labels", "classes.txt") == 0


def test_unknown_colours_are_left_out_with_skip(capsys):
    draw_set(count=11)
    spoil("b/1.png")
    assert train("run", "--b_labels", "classes.txt", "--on_bad_image", "skip") == 0
    found = capsys.readouterr()
    assert UNKNOWN in found.err and "examples count = 10\n" in found.out


@pytest.mark.parametrize("mode", ["train", "check"])
def test_of_many_unknown_colours_the_first_are_named(capsys, mode):
    """Numbers aside, for each reason; damaged files are named one by one."""
    draw_set(count=16)
    for number in range(1, 10):
        spoil(f"b/{number}.png", rows=number + 1)
    for number in range(10, 16):
        Path(f"b/{number}.png").write_bytes(Path(f"b/{number}.png").read_bytes()[:90])
    assert run("--mode", mode, *FOLDERS, "--b_labels", "classes.txt") == 2
    *lines, last = capsys.readouterr().err.splitlines()
    named = [line.split()[1] for line in lines if " cannot be used: " in line]
    assert sorted(named) == sorted(f"b/{number}.png" for number in (1, 2, 3, 4, *range(10, 16)))
    assert lines[named.index("b/4.png") + 1] == "pix2pix.py: and 5 more, for reasons like these"
    assert len(lines) == len(named) + 1 and "15 of 16 images cannot be used" in last


def test_unknown_colours_that_training_meets_are_named(capsys, monkeypatch):
    monkeypatch.setattr(dataset, "CHECK_SECONDS", 0)
    draw_set(count=11)
    for number in range(1, 11):
        spoil(f"b/{number}.png")
    assert train("run", "--b_labels", "classes.txt", "--max_steps", 9) == 2
    error = capsys.readouterr().err
    assert "cannot be used: 2 pixels of the colour 1,2,3, which no class of --b_labels has" in error
    assert error.splitlines()[-1].startswith("pix2pix.py: error: 1 of 11 images cannot be used")


@pytest.mark.parametrize("write, labels, reason", [
    (write_jpeg, "classes.txt", "JPEG compression leaves no exact colours: give --b_nearest, or "
     "save it as PNG"),
    (write_jpeg, 4, "JPEG compression changes indices: save it as PNG, or list the classes with "
     "their colours and give --b_nearest"),
    (write_colours, 4, "it has 3 channels, and indices have 1: list the classes with their "
     "colours"),
    (write_indices, 3, "64 pixels of the value 3, which no class of --b_labels has: give "
     "--b_labels 4 if every value up to it is a class")])
def test_files_that_hold_no_classes_are_refused(capsys, write, labels, reason):
    draw_set(write)
    assert train("run", "--b_labels", labels) == 2
    error = capsys.readouterr().err.splitlines()
    assert [line.split(" cannot be used: ")[1] for line in error[:3]] == [reason] * 3


@pytest.mark.parametrize("flags, text", [
    (["--b_labels", 1], "--b_labels 1: give 2 to 255 classes, or a file that lists them"),
    (["--b_labels", "no.txt"], "--b_labels no.txt: cannot be read (No such file or directory): "
     "give the number of classes, or a file that lists them"),
    (["--b_labels", 4, "--b_nearest"], "--b_nearest needs colours, --b_labels 4 has indices: list "
     "the classes with their colours"),
    (["--b_labels", 4, "--b_channels", 3], "--b_channels contradicts --b_labels, whose classes are "
     "the channels: remove one"),
    (["--b_labels", "classes.txt", "--b_ignore", 4], "--b_ignore 4 is no class of --b_labels, "
     "which are 0 to 3: give a class's number"),
    (["--b_labels", 4, "--b_ignore", 0.5], "--b_ignore 0.5 is no class of --b_labels, which are 0 "
     "to 3, nor an index: give a class's number"),
    (["--b_labels", 4, "--b_ignore", 0, 1, 2], "--b_ignore leaves less than two classes of "
     "--b_labels: ignore fewer"),
    (["--lab_colorization", "--a_nearest"], "--lab_colorization takes colours: remove "
     "--a_nearest"),
    (["--b_labels", 4, "--val_dir", "a", "b", "--val_metric", "psnr"], "--val_metric psnr is none "
     "of the metrics of these targets: give pixel_accuracy, class_accuracy or mean_iou"),
    (["--a_labels", 4, "--augment", "brightness"], "--augment brightness and contrast need "
     "lightness in the input: remove them")])
def test_contradictions(capsys, flags, text):
    draw_set(write_indices)
    shutil.copytree("a", "c")
    shutil.copytree("b", "d")
    flags = ["c" if flag == "a" else "d" if flag == "b" else flag for flag in flags]
    assert train("run", *flags) == 2
    assert capsys.readouterr().err == f"pix2pix.py: error: {text}\n"


# ---- check mode


@pytest.mark.parametrize("write, flags, lines", [
    (write_indices, [], ["4 values in areas, 0 to 3, look like classes: --b_labels 4 gives each a "
                         "channel"]),
    (write_palette, [], ["4 values in areas, 0 to 3, look like classes: --b_labels 4 gives each a "
                         "channel"]),
    (write_colours, [], ["4 colours in areas look like classes: --b_labels with a file that lists "
                         "them gives each a channel"]),
    (write_jpeg, [], []),
    (write_indices, ["--b_labels", 6], ["6 classes, most frequently ", "4 and 5 do not occur: "
                                        "--b_labels 4 is enough for what does"]),
    (write_colours, ["--b_labels", "classes.txt", "--b_ignore", 3], [
        "4 classes, most frequently ", "1.6% of the pixels are ignored"])])
def test_check_mode_tells_the_classes(capsys, write, flags, lines):
    draw_set(write)
    assert run("--mode", "check", *FOLDERS, *flags) == 0
    out = capsys.readouterr().out.split("In --mode train:\n")[1].splitlines()
    found = [line for line in out if line.startswith("  labels of B")]
    assert len(found) == bool(lines)
    if lines:
        first = out.index(found[0])
        assert all(line[15:].startswith(text) for line, text in zip(out[first:], lines))
