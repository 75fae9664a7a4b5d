"""Grey images and images with alpha: --a_channels and --b_channels, in every mode."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import EXPORTS, assert_equal_runs, read_variables, run, run_test_mode, train
from PIL import Image

import pix2pix
from tools import apply as apply_tool
from tools.lib import dataset
from tools.lib.images import convert_channels, read_decoded, to_bytes

pytestmark = pytest.mark.usefixtures("in_empty_folder")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def draw_folder(folder, channels, count=3, size=(64, 64), seed=0):
    """Images 0.png, 1.png, ... of coloured blocks."""
    Path(folder).mkdir()
    rng = np.random.default_rng([seed, channels])
    for number in range(count):
        blocks = rng.integers(0, 256, (size[0] // 8, size[1] // 8, channels), np.uint8)
        pixels = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
        Path(folder, f"{number}.png").write_bytes(to_bytes(pixels))


def draw_again(folder, channels):
    """`draw_folder` of one that there is."""
    shutil.rmtree(folder)
    draw_folder(folder, channels)


def read_mode(path):
    """Of a PNG file."""
    with Image.open(path) as image:
        return image.mode


def channels_of(folder):
    """What a run's options.json says, and the channels at the network's ends."""
    stored, variables = json.loads(Path(folder, "options.json").read_text()), read_variables(folder)
    inputs = variables["generator/encoder_1/conv2d/kernel"].shape[2]
    targets = variables["generator/decoder_1/conv2d_transpose/kernel"].shape[2]
    return stored["a_channels"], stored["b_channels"], inputs, targets


# ---- what is found, and given


def test_grey_folders_make_a_grey_model(capsys):
    draw_folder("pairs", 1, size=(64, 128))
    assert train("run", "--max_steps", 2, "--input_dir", "pairs") == 0
    assert channels_of("run") == (1, 1, 1, 1)
    assert "colours" not in capsys.readouterr().out
    run_test_mode("out", "--checkpoint", "run", "--input_dir", "pairs")
    assert {read_mode(path) for path in Path("out/images").iterdir()} == {"L"}
    with Image.open("pairs/0.png") as pair, Image.open("out/images/0-inputs.png") as shown:
        half = pair.crop((0, 0, 64, 64))
        np.testing.assert_array_equal(np.asarray(shown),
                                      np.asarray(half.resize((32, 32), Image.Resampling.BOX)))
    assert train("rgb", "--max_steps", 2, "--input_dir", "pairs", "--a_channels", 3,
                       "--b_channels", 3) == 0
    assert channels_of("rgb") == (3, 3, 3, 3)


def test_one_image_in_colours_makes_rgb(capsys):
    draw_folder("a", 1)
    draw_folder("b", 1)
    folders = ["--mode", "check", "--a_dir", "a", "--b_dir", "b"]
    assert run(*folders) == 0
    assert "  channels  1 of the input, 1 of the target\n" in capsys.readouterr().out
    Path("b/1.png").write_bytes(to_bytes(np.full((64, 64, 3), [200, 10, 10], np.uint8)))
    assert run(*folders) == 0
    assert "  channels  1 of the input, 3 of the target\n" in capsys.readouterr().out
    assert train("run", "--max_steps", 1, "--a_dir", "a", "--b_dir", "b",
                       "--which_direction", "BtoA") == 0
    assert channels_of("run") == (1, 3, 3, 1)


def test_photos_made_grey_learn_their_colours(capsys):
    """The same folder is both sides; the network sees the luminance that Pillow has."""
    draw_folder("photos", 3)
    flags = ["--a_dir", "photos", "--b_dir", "photos"]
    assert train("run", "--max_steps", 1, "--a_channels", 1, *flags) == 0
    assert channels_of("run") == (1, 3, 1, 3)
    line = "3 of 3 images of A have colours: with 1 channel their luminance counts\n"
    assert capsys.readouterr().out.count(line) == 1
    run_test_mode("out", "--checkpoint", "run", *flags)
    assert capsys.readouterr().out.count(line) == 1
    assert [read_mode(f"out/images/0-{kind}.png") for kind in ("inputs", "outputs", "targets")] \
        == ["L", "RGB", "RGB"]
    with Image.open("photos/0.png") as photo, Image.open("out/images/0-inputs.png") as shown:
        expected = photo.convert("L").resize((32, 32), Image.Resampling.BOX)
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))


def test_alpha_lies_on_white_unless_it_is_a_channel(capsys):
    draw_folder("a", 4)
    draw_folder("b", 3)
    flags = ["--a_dir", "a", "--b_dir", "b", "--max_steps", 1]
    assert train("white", *flags) == 0
    line = "3 of 3 images of A have an alpha channel: what is transparent lies on white, " \
        "--a_channels 4 keeps it in training\n"
    assert capsys.readouterr().out.count(line) == 1
    for image, settings in (("LA", {}), ("L", {"transparency": 7}), ("RGB", {
            "transparency": (1, 2, 3)})):  # alpha of other kinds
        for path in Path("a").iterdir():
            with Image.open(path) as file:
                file.convert(image).save(path, **settings)
        assert run("--mode", "check", *flags[:4], *flags[4:]) == 0
        assert capsys.readouterr().out.count(line) == 1
        draw_again("a", 4)
    assert channels_of("white") == (3, 3, 3, 3)
    assert train("alpha", *flags, "--a_channels", 4) == 0
    assert "alpha channel" not in capsys.readouterr().out
    assert channels_of("alpha") == (4, 3, 4, 3)
    run_test_mode("out", "--checkpoint", "alpha", "--a_dir", "a", "--b_dir", "b")
    assert read_mode("out/images/0-inputs.png") == "RGBA"


def test_several_grey_inputs_are_stacked():
    """Three, which could be one in RGB."""
    for number in (1, 2, 3):
        draw_folder(f"a{number}", 1, seed=number)
    draw_folder("b", 3)
    folders = ["--a_dir", "a1", "--a_dir", "a2", "--a_dir", "a3", "--b_dir", "b"]
    assert train("run", "--max_steps", 1, *folders) == 0
    assert channels_of("run") == (1, 3, 3, 3)
    run_test_mode("out", "--checkpoint", "run", *folders)
    with Image.open("out/images/0-inputs.png") as shown:
        assert (shown.mode, shown.size) == ("L", (96, 32))
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", "saved_model", "tflite") == 0
    row = np.concatenate([read_decoded(f"a{side}/0.png", 1).pixels for side in (1, 2, 3)], axis=1)
    results = [pix2pix.load_model(Path("export", file)).generate(to_bytes(row))
               for file in ("saved_model.pb", "model.tflite")]
    images = [read_decoded_bytes(contents) for contents in results]
    assert np.abs(images[0].astype(int) - images[1]).max() <= 2


def read_decoded_bytes(contents):
    """The pixels of a file's bytes, as they are."""
    Path("result.png").write_bytes(contents)
    with Image.open("result.png") as image:
        return np.asarray(image)


def test_one_folder_is_both_sides_only_with_other_channels(capsys):
    draw_folder("photos", 3)
    folders = ["--a_dir", "photos", "--b_dir", "photos"]
    assert train("run", "--max_steps", 1, *folders) == 2
    assert "--b_dir photos is --a_dir too: give another folder" in capsys.readouterr().err
    assert train("run", "--max_steps", 1, *folders, "--a_channels", 1, "--a_dir", "photos") == 2
    assert "--a_dir photos is --a_dir too: give another folder" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--a_channels", 1], ["--b_channels", 4]])
def test_lab_needs_rgb(capsys, flags):
    draw_folder("photos", 3)
    assert train("run", "--max_steps", 1, "--input_dir", "photos", "--lab_colorization",
                       *flags) == 2
    assert "--lab_colorization needs the 3 channels of RGB: remove --a_channels and --b_channels" \
        in capsys.readouterr().err


# ---- the same bits


def test_cached_and_resumed_runs_are_the_same():
    draw_folder("a", 1)
    draw_folder("b", 4)
    flags = ["--a_dir", "a", "--b_dir", "b", "--b_channels", 4, "--progress_freq", 1,
             "--max_steps"]
    assert train("whole", *flags, 5) == 0
    assert train("cached", *flags, 5, "--cache", 1) == 0
    assert_equal_runs("whole", "cached")
    assert train("parts", *flags, 2) == 0
    assert run("--mode", "train", "--resume", "--output_dir", "parts", "--max_steps", 5) == 0
    assert_equal_runs("whole", "parts")


def test_resuming_with_other_channels_is_refused(capsys):
    draw_folder("pairs", 1, size=(64, 128))
    assert train("run", "--max_steps", 1, "--input_dir", "pairs") == 0
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--max_steps", 2,
               "--a_channels", 3) == 2
    assert "cannot resume with --a_channels 3, the run in run was trained with --a_channels 1" \
        in capsys.readouterr().err


def test_a_model_from_before_takes_rgb(capsys):
    draw_folder("pairs", 1, size=(64, 128))
    assert train("run", "--max_steps", 1, "--input_dir", "pairs", "--a_channels", 3,
                       "--b_channels", 3) == 0
    stored = json.loads(Path("run/options.json").read_text())
    del stored["a_channels"], stored["b_channels"]
    Path("run/options.json").write_text(json.dumps(stored))
    run_test_mode("out", "--checkpoint", "run", "--input_dir", "pairs")
    assert read_mode("out/images/0-outputs.png") == "RGB"
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--max_steps", 2) == 0
    assert channels_of("run") == (3, 3, 3, 3)


# ---- outside the program


@pytest.mark.parametrize("a_channels, b_channels, direction", [
    (1, 3, "AtoB"), (1, 4, "BtoA"), (1, 1, "AtoB")])
def test_every_export_has_the_models_channels(capsys, a_channels, b_channels, direction):
    """What it gives is what test mode writes, but for a level."""
    draw_folder("a", a_channels, size=(32, 32))
    draw_folder("b", b_channels, size=(32, 32), seed=1)
    folders = ["--a_dir", "a", "--b_dir", "b"]
    assert train("run", "--max_steps", 2, *folders, "--b_channels", b_channels,
                       "--which_direction", direction) == 0
    run_test_mode("out", "--checkpoint", "run", *folders)
    expected = np.asarray(Image.open("out/images/0-outputs.png")).astype(int)
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", *EXPORTS) == 0
    inputs = Path("b" if direction == "BtoA" else "a")
    for file in ("saved_model.pb", "export.meta", "graph.pb", "model.tflite", "model.onnx",
                 "model.pict"):
        if not Path("export", file).exists():
            continue
        Path("alone").mkdir(exist_ok=True)
        model = pix2pix.load_model(Path("export", file))
        assert model.channels == (b_channels if direction == "BtoA" else a_channels)
        result = read_decoded_bytes(model.generate((inputs / "0.png").read_bytes()))
        assert result.shape == expected.shape, file
        tolerance = 8 if file == "model.pict" else 2  # it has 8 bits per weight
        assert np.abs(result - expected).max() <= tolerance, file


def test_an_export_to_jpeg_lies_on_white():
    draw_folder("a", 3)
    draw_folder("b", 4)
    assert train("run", "--max_steps", 1, "--a_dir", "a", "--b_dir", "b",
                       "--b_channels", 4) == 0
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--output_filetype", "jpeg", "--export_format", "saved_model") == 0
    contents = pix2pix.load_model(Path("export")).generate(Path("a/0.png").read_bytes())
    expected = pix2pix.load_model(Path("run")).generate(Path("a/0.png").read_bytes())
    on_white = convert_channels(read_decoded_bytes(expected), 3).astype(int)
    assert np.abs(read_decoded_bytes(contents) - on_white).mean() < 8


def test_apply_reads_what_the_model_takes(capsys):
    draw_folder("a", 1)
    draw_folder("b", 3)
    assert train("run", "--max_steps", 1, "--a_dir", "a", "--b_dir", "b") == 0
    draw_folder("colours", 4, count=2)
    with Image.open("colours/1.png") as image:
        image.save("colours/1.webp", lossless=True, exact=True)
    Path("colours/1.png").unlink()
    capsys.readouterr()
    assert apply_tool.main(["--model", "run", "--input", "colours", "--output", "results"]) == 0
    assert "2 of 2 images have colours, and the model takes grey: it sees their luminance\n" \
        in capsys.readouterr().out
    assert train("alpha", "--max_steps", 1, "--a_dir", "colours", "--b_dir", "colours",
                 "--a_channels", 4) == 0
    capsys.readouterr()
    assert apply_tool.main(["--model", "alpha", "--input", "colours", "--output", "seen"]) == 0
    assert "alpha channel" not in capsys.readouterr().out
    with Image.open("seen/0.png") as one:
        assert np.asarray(one).std() > 0
    shutil.copy("colours/1.webp", "colours/2.webp")
    with Image.open("colours/1.webp") as image:
        image.save("colours/2.png")
    Path("colours/2.webp").unlink()
    assert apply_tool.main(["--model", "alpha", "--input", "colours", "--output", "seen"]) == 0
    with Image.open("seen/1.png") as one, Image.open("seen/2.png") as other:  # of equal pixels
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("keep", ["model.pict", "model-1"])
def test_the_direction_turns_what_variables_show_of_the_channels(keep):
    """Without a run's options.json; a .pict file's direction is that of its export."""
    draw_folder("a", 1)
    draw_folder("b", 3)
    folders = ["--a_dir", "a", "--b_dir", "b"]
    assert train("run", "--max_steps", 1, *folders, "--which_direction", "BtoA") == 0
    run_test_mode("expected", "--checkpoint", "run", *folders)
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", "pict") == 0
    Path("run/options.json").unlink()
    model, more = ("export/model.pict", []) if keep == "model.pict" else (
        "run/model-1", ["--which_direction", "BtoA", "--crop_size", 32])
    run_test_mode("out", "--checkpoint", model, *folders, *more)
    images = [np.asarray(Image.open(f"{folder}/images/0-outputs.png")).astype(int)
              for folder in ("out", "expected")]
    assert images[0].shape == (32, 32) and np.abs(images[0] - images[1]).max() <= 8


def test_grey_is_found_only_where_all_images_were_checked(monkeypatch, capsys):
    monkeypatch.setattr(dataset, "CHECK_SECONDS", 0)
    draw_folder("a", 1)
    draw_folder("b", 3)
    assert train("run", "--max_steps", 1, "--a_dir", "a", "--b_dir", "b") == 0
    assert channels_of("run") == (3, 3, 3, 3)
    assert "all images of A that were checked are grey, 3 in all: --a_channels 1 takes them as " \
        "grey\n" in capsys.readouterr().out


def test_what_is_no_target_has_no_line(capsys):
    draw_folder("a", 3)
    draw_folder("b", 1)
    assert train("run", "--max_steps", 1, "--a_dir", "a", "--b_dir", "b") == 0
    capsys.readouterr()
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "out", "--input_dir", "a",
               "--no_targets") == 0
    assert "colours" not in capsys.readouterr().out


def test_one_folder_is_refused_twice_in_every_mode(capsys):
    draw_folder("photos", 3)
    folders = ["--a_dir", "photos", "--b_dir", "photos"]
    assert train("run", "--max_steps", 1, *folders, "--a_channels", 1) == 0
    for flags, code in ((["--mode", "check"], 2), (["--mode", "check", "--a_channels", 1], 0),
                        (["--mode", "check", "--a_channels", 3], 2),
                        (["--mode", "test", "--checkpoint", "run", "--output_dir", "out"], 0)):
        assert run(*flags, *folders) == code, flags
