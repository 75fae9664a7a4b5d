"""Depth and other measurements: 16 bits, floats, many channels, missing ones, in every mode."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import (EXPORTS, SMALL, assert_equal_runs, in_folder, read_variables, run,
                     run_test_mode, train)
from PIL import Image

import pix2pix
from tools import apply as apply_tool
from tools.lib import dataset
from tools.lib.image_types import choose_side
from tools.lib.stored import decode_stored, encode_stored, read_stored

pytestmark = pytest.mark.usefixtures("in_empty_folder")
SIZE = (48, 40)  # height, width
DEPTH = ["--a_dir", "photos", "--b_dir", "depth", "--b_ignore", 0, "--b_range", 500, 4500]


def write(path, pixels):
    """An array as a PNG or .npy file."""
    contents = encode_stored(pixels)
    path = Path(path).with_suffix(".npy" if contents.startswith(b"\x93NUMPY") else ".png")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(contents)


def draw_photos(folder="photos", count=3, size=SIZE, seed=0):
    """Images 0.png, 1.png, ... of coloured blocks."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        blocks = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
        write(Path(folder, str(number)), np.kron(blocks, np.ones((8, 8, 1), np.uint8)))


def draw_depth(folder="depth", count=3, size=SIZE, channels=1, missing=0.3, seed=1):
    """Slopes of 600 to 4000, and 0 in blocks and single pixels; returns them."""
    rng, drawn = np.random.default_rng(seed), []
    for number in range(count):
        slope = np.linspace(600, 4000, size[1]) * rng.uniform(0.8, 1, (size[0], 1))
        pixels = np.uint16(np.stack([slope + 10 * channel for channel in range(channels)], 2))
        pixels[rng.random(size) < missing] = 0
        pixels[8:20, 8:24] = 0
        write(Path(folder, str(number)), pixels)
        drawn.append(pixels)
    return drawn


def draw_floats(folder, channels, count=3, seed=2):
    """.npy files of values -3..7 in so many channels."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.uniform(-3, 7, (*SIZE, channels)).astype(np.float32)
        Path(folder).mkdir(exist_ok=True)
        np.save(Path(folder, f"{number}.npy"), pixels)


def read_rows(folder):
    """Name -> metric -> value, of metrics.csv."""
    header, *rows = [line.split(",") for line in
                     Path(folder, "metrics.csv").read_text().splitlines()]
    return {row[0]: dict(zip(header[1:], map(float, row[1:]), strict=True)) for row in rows}


def read_result(folder, name, kind="outputs", ending=".png"):
    """The pixels of a test's file."""
    return read_stored(Path(folder, "images", f"{name}-{kind}{ending}")).pixels


def shrink(pixels, missing, factor=1):
    """The mean of the measured pixels of each block, and which blocks have one."""
    height, width = pixels.shape
    blocks = (height // factor, factor, width // factor, factor)
    known = (~missing).reshape(blocks).sum((1, 3))
    total = np.where(missing, 0, pixels.astype(float)).reshape(blocks).sum((1, 3))
    return np.where(known > 0, total / np.maximum(known, 1), 0), known > 0


# ---- depth from photos


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    """A folder with photos, depth of 16 bits, a run of 2 steps, and its test `out`."""
    folder = tmp_path_factory.mktemp("depth")
    with in_folder(folder):
        draw_photos(size=(64, 64))
        draw_depth(size=(64, 64))
        assert train("run", *DEPTH, "--max_steps", 2) == 0
        run_test_mode("out", "--checkpoint", "run", *DEPTH[:4])
    return folder


def test_targets_are_written_as_they_were_read(depth):
    """Scaled by the mean of the measured pixels; where there are none they stay 0."""
    for name in "012":
        source = read_stored(depth / f"depth/{name}.png").pixels[..., 0]
        means, measured = shrink(np.clip(source, 500, 4500), source == 0, 2)
        got = read_result(depth / "out", name, "targets")
        assert got.dtype == np.uint16 and got.shape == (32, 32, 1)
        assert np.array_equal(got[..., 0] > 0, measured)
        # a value is -1..1 in float32 in between
        assert np.abs(got[..., 0] - means)[measured].max() <= 0.51


def test_outputs_are_in_the_files_units(depth):
    for name in "012":
        got = read_result(depth / "out", name)
        assert got.dtype == np.uint16 and got.shape == (32, 32, 1)
        assert 500 <= got.min() and got.max() <= 4500 and got.std() > 0
        shown = read_result(depth / "out", name, ending="-shown.png")
        assert shown.dtype == np.uint8 and shown.shape[1:] == (32, 3) and shown.shape[0] > 32
        assert read_result(depth / "out", name, "inputs").dtype == np.uint8
        assert not Path(depth, "out/images", f"{name}-inputs-shown.png").exists()


def test_metrics_are_of_the_measured_pixels(depth):
    rows, found = read_rows(depth / "out"), json.loads((depth / "out/metrics.json").read_text())
    for name, row in rows.items():
        output, target = (read_result(depth / "out", name, kind).astype(float)
                          for kind in ("outputs", "targets"))
        output, target = output[target > 0], target[target > 0]
        expected = {"l1": np.abs(output - target).mean(),
                    "rmse": np.sqrt(((output - target)**2).mean()),
                    "abs_rel": (np.abs(output - target) / target).mean(),
                    "within_125": (np.maximum(output / target, target / output) < 1.25).mean()}
        assert row == pytest.approx(expected, rel=1e-4)
    for metric in ("l1", "rmse", "abs_rel", "within_125"):
        assert found[metric] == pytest.approx(np.mean([row[metric] for row in rows.values()]),
                                              rel=1e-4)
    assert "files' units" in found["protocol"]["rmse"] and "unmeasured" not in found


def test_the_page_shows_the_colour_map(depth):
    text = (depth / "out/index.html").read_text()
    assert '"outputs":["-outputs-shown.png","-outputs.png"]' in text
    assert '"inputs":["-inputs.png"]' in text
    with Image.open(depth / "out/sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 60).mean() > 0.1


def test_displayed_inputs_show_what_is_missing():
    """In the grey of a colour map, as in test and samples; not in the colour of the middle."""
    draw_photos(size=(32, 32))
    drawn = draw_depth("sparse", size=(32, 32))
    for name, more in (("plain", []), ("parts", ["--batch_size", 1, "--grad_accumulation", 2])):
        assert train(name, "--a_dir", "sparse", "--b_dir", "photos", "--a_ignore", 0, "--a_range",
                     500, 4500, "--scale_size", 32, "--no_flip", "--max_steps", 1, "--display_freq",
                     1, *more) == 0
        shown = sorted(Path(name, "images").glob("*-inputs.png"))
        assert len(shown) == 1 + (name == "parts")
        for path in shown:
            number = int(path.name.split("-")[1])
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB")).astype(int)
            missing = drawn[number][..., 0] == 0
            colours = np.unique(pixels[missing], axis=0)
            assert len(colours) == 1 and np.ptp(colours) == 0
            assert (pixels[~missing] != colours[0]).any(axis=1).all()
            expected = choose_side("a", 1, "uint16", (500, 4500), (0,)).paint(drawn[number])
            assert np.abs(pixels - expected).max() <= 4


def test_what_is_missing_counts_nowhere():
    """Two sets that differ in pixels without a measurement alone give the same bits: in L1, in the
    loss of features, to the discriminator, and in validation."""
    draw_photos()
    drawn = draw_depth()
    for number, pixels in enumerate(drawn):
        rng = np.random.default_rng(number)
        other = np.where(pixels == 0, rng.choice([0, 65535, 4000], pixels.shape), pixels)
        other[pixels == 4000] = 3999
        write(f"depth/{number}", np.where(pixels == 4000, 3999, pixels).astype(np.uint16))
        write(f"other/{number}", other.astype(np.uint16))
    flags = ["--b_ignore", 0, 65535, 4000, "--max_steps", 4, "--batch_size", 2, "--scale_size", 40,
             "--feature_weight", 5, "--val_freq", 2, "--progress_freq", 1]
    for name in ("depth", "other"):
        for folder in ("photos", name):
            shutil.copytree(folder, f"val-{folder}", dirs_exist_ok=True)
        assert train(f"run-{name}", "--a_dir", "photos", "--b_dir", name, "--val_dir", "val-photos",
                     f"val-{name}", *flags) == 0
    assert_equal_runs("run-depth", "run-other")
    assert train("run-all", "--a_dir", "photos", "--b_dir", "other", "--max_steps", 4,
                 "--batch_size", 2, "--scale_size", 40, "--feature_weight", 5) == 0
    one, other = read_variables("run-all"), read_variables("run-other")
    assert any(np.abs(one[name] - other[name]).max() > 0 for name in other)


def test_an_image_without_a_measurement_is_left_out_and_counted(capsys):
    draw_photos()
    draw_depth()
    write("depth/1", np.zeros((*SIZE, 1), np.uint16))
    assert train("run", *DEPTH, "--max_steps", 3, "--progress_freq", 1) == 0
    assert "nan" not in Path("run/log.csv").read_text()
    found = run_test_mode("out", "--checkpoint", "run", *DEPTH[:4])
    assert found["unmeasured"] == dict.fromkeys(("l1", "rmse", "abs_rel", "within_125"), 1)
    rows = read_rows("out")
    assert np.isnan(rows["1"]["l1"])
    assert found["l1"] == pytest.approx((rows["0"]["l1"] + rows["2"]["l1"]) / 2, rel=1e-4)
    for path in Path("photos").iterdir():
        if path.stem != "1":
            path.unlink()
            Path("depth", path.name).unlink()
    capsys.readouterr()
    run_test_mode("none", "--checkpoint", "run", *DEPTH[:4])
    assert "l1 not measured, rmse not measured" in capsys.readouterr().out


def test_runs_go_on_bit_for_bit_and_a_cache_changes_nothing():
    draw_photos()
    draw_depth()
    flags = [*DEPTH, "--batch_size", 2, "--scale_size", 40]
    assert train("whole", *flags, "--max_steps", 6, "--progress_freq", 1) == 0
    assert train("cut", *flags, "--max_steps", 3, "--cache", 50, "--progress_freq", 1) == 0
    assert run("--mode", "train", "--resume", "--output_dir", "cut", "--max_steps", 6) == 0
    assert_equal_runs("whole", "cut")


def test_validation_has_the_figures_of_test():
    draw_photos()
    draw_depth()
    for folder in ("photos", "depth"):
        shutil.copytree(folder, f"val-{folder}")
    assert train("run", *DEPTH, "--max_steps", 2, "--val_dir", "val-photos", "val-depth",
                 "--val_freq", 2, "--val_metric", "rmse") == 0
    header, *_, row = [line.split(",") for line in Path("run/log.csv").read_text().splitlines()]
    logged = {name.removeprefix("val_"): float(value)
              for name, value in zip(header, row, strict=True) if name.startswith("val_")}
    found = run_test_mode("out", "--checkpoint", "run", *DEPTH[:4])
    assert logged == pytest.approx({name: found[name] for name in logged}, rel=1e-5)
    assert {*logged} == {"l1", "rmse", "abs_rel", "within_125"}


def test_val_metric_must_be_one_of_the_kind(capsys):
    draw_photos()
    draw_depth()
    for folder in ("photos", "depth"):
        shutil.copytree(folder, f"val-{folder}")
    assert train("run", *DEPTH, "--max_steps", 2, "--val_dir", "val-photos", "val-depth",
                 "--val_metric", "ssim") == 2
    assert "--val_metric ssim is none of the metrics of these targets: give l1, rmse, abs_rel or " \
        "within_125" in capsys.readouterr().err


# ---- inputs with missing measurements


def test_a_mask_channel_says_where_inputs_are_measured():
    """The network's second channel is 1 where there is a measurement, else -1; the first is 0 there.
    """
    drawn = draw_depth("sparse", missing=0.8, size=(32, 32))
    draw_photos(size=(32, 32))
    flags = ["--a_dir", "sparse", "--b_dir", "photos", "--a_ignore", 0, "--a_range", 0, 5000]
    assert train("run", *flags, "--mask_channel", "--max_steps", 1) == 0
    assert train("plain", *flags, "--max_steps", 1) == 0
    shapes = [read_variables(name)["generator/encoder_1/conv2d/kernel"].shape
              for name in ("run", "plain")]
    assert shapes == [(4, 4, 2, 1), (4, 4, 1, 1)]
    options = pix2pix.parse_args(["--mode", "test", "--checkpoint", "run", "--output_dir", "out",
                                  *map(str, flags[:4])])
    options = pix2pix.with_options(options, batch_size=1, grad_accumulation=1)
    with pix2pix.tf.Graph().as_default(), pix2pix.tf.Session() as sess:
        examples = pix2pix.create_examples(pix2pix.dataset.list_images(options), options)
        seen = sess.run(examples.inputs)[0]
    values, known = drawn[0][..., 0], drawn[0][..., 0] > 0
    np.testing.assert_array_equal(seen[..., 1], np.where(known, 1, -1))
    np.testing.assert_allclose(seen[..., 0], np.where(known, values / 2500 - 1, 0), atol=1e-6)
    run_test_mode("out", "--checkpoint", "run", *flags[:4])
    np.testing.assert_array_equal(read_result("out", "0", "inputs"), drawn[0])


def test_several_inputs_each_have_a_mask():
    for seed, folder in enumerate(("near", "far")):
        draw_depth(folder, seed=seed, size=(32, 32))
    draw_photos(size=(32, 32))
    flags = ["--a_dir", "near", "--a_dir", "far", "--b_dir", "photos"]
    assert train("run", *flags, "--a_ignore", 0, "--mask_channel", "--max_steps", 1,
                 "--augment", "contrast", "brightness", "noise") == 0
    assert read_variables("run")["generator/encoder_1/conv2d/kernel"].shape == (4, 4, 4, 1)
    run_test_mode("out", "--checkpoint", "run", *flags)
    both = np.concatenate([read_stored(Path(folder, "0.png")).pixels for folder in ("near", "far")],
                          axis=1)
    np.testing.assert_array_equal(read_result("out", "0", "inputs"), both)


@pytest.mark.parametrize("flags, text", [
    (["--mask_channel"], "--mask_channel needs inputs that may have no measurement: give "
     "--a_ignore with the values that say so, or remove it"),
    (["--mask_channel", "--a_range", 0, 9], "--mask_channel needs inputs that may have no "),
    (["--b_range", 9, 9], "--b_range 9 9 is empty: give the lower value first"),
    (["--b_range", 0, "nan"], "argument --b_range: nan: give a number"),
    (["--a_ignore", 300], "--a_ignore 300 is no value of images of 8 bits: remove it"),
    (["--b_ignore", 0.5], "--b_ignore 0.5 is no value of images of 16 bits: remove it"),
    (["--b_channels", 3], "images of B, such as depth/0.png, have 1 channels, the model takes 3"),
    (["--a_channels", 2], "--a_channels 2: images of 8 bits have 1, 3 or 4"),
    (["--lab_colorization", "--b_range", 0, 9], "--lab_colorization takes colours: remove "
     "--b_range")])
def test_what_does_not_fit_is_refused(capsys, flags, text):
    draw_photos()
    draw_depth()
    assert train("run", "--a_dir", "photos", "--b_dir", "depth", "--max_steps", 1, *flags) == 2
    printed = capsys.readouterr().err
    assert text in printed and "Traceback" not in printed
    assert not Path("run").exists()


# ---- other types and channels


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_floats_of_any_number_of_channels(channels, capsys):
    draw_photos()
    draw_floats("values", channels)
    flags = ["--a_dir", "photos", "--b_dir", "values"]
    assert train("run", *flags, "--max_steps", 1) == 2
    printed = capsys.readouterr().err
    assert "images of B hold floating-point values, -2." in printed
    assert ": give their range, such as --b_range -3 7\n" in printed
    flags += ["--b_range", -3, 7]
    assert train("run", *flags, "--max_steps", 1) == 0
    stored = json.loads(Path("run/options.json").read_text())
    assert (stored["b_type"], stored["b_channels"]) == ("float32", channels)
    run_test_mode("out", "--checkpoint", "run", *flags[:4])
    got = np.load("out/images/0-outputs.npy")
    assert got.dtype == np.float32 and got.shape == (32, 32, channels)
    assert -3 <= got.min() and got.max() <= 7
    with Image.open("out/images/0-outputs-shown.png") as shown:
        assert shown.size[0] == 32
    # and back
    assert train("back", "--which_direction", "BtoA", *flags, "--max_steps", 1) == 0
    run_test_mode("back-out", "--checkpoint", "back", *flags[:4])


def test_missing_floats_are_nan():
    draw_photos()
    draw_floats("values", 1)
    for path in Path("values").iterdir():
        pixels = np.load(path)
        pixels[3:20, 5:9], pixels[30:, 30:] = np.nan, np.inf
        np.save(path, pixels)
    assert train("run", "--a_dir", "photos", "--b_dir", "values", "--b_range", -3, 7, "--resize",
                 "none", "--max_steps", 2, "--progress_freq", 1) == 0
    assert "nan" not in Path("run/log.csv").read_text()
    run_test_mode("out", "--checkpoint", "run", "--a_dir", "photos", "--b_dir", "values")
    target, source = np.load("out/images/0-targets.npy"), np.load("values/0.npy")
    np.testing.assert_array_equal(np.isnan(target), ~np.isfinite(source))
    known = np.isfinite(source)
    np.testing.assert_allclose(target[known], source[known], atol=2e-6)


def test_bytes_in_channels_that_are_no_colours(capsys):
    """Of .npy files: 6 channels of 8 bits are values 0 to 255."""
    draw_photos()
    Path("values").mkdir()
    for number in range(3):
        np.save(f"values/{number}.npy", np.random.default_rng(number).integers(
            0, 256, (*SIZE, 6), np.uint8))
    flags = ["--a_dir", "values", "--b_dir", "photos"]
    assert train("run", *flags, "--max_steps", 1) == 0
    assert read_variables("run")["generator/encoder_1/conv2d/kernel"].shape[2] == 6
    run_test_mode("out", "--checkpoint", "run", *flags)
    assert np.load("out/images/0-inputs.npy").shape == (32, 32, 6)
    np.save("values/1.npy", np.zeros((*SIZE, 5), np.uint8))
    assert train("other", *flags, "--max_steps", 1) == 2
    assert "images of A have 5 and 6 channels: give them all the same" in capsys.readouterr().err


def test_pairs_of_16_bits_in_one_file():
    Path("pairs").mkdir()
    halves = [draw_depth("x", seed=seed, size=(32, 32), missing=0) for seed in (1, 2)]
    for number, pair in enumerate(zip(*halves, strict=True)):
        write(f"pairs/{number}", np.concatenate(pair, axis=1))
    assert train("run", "--input_dir", "pairs", "--max_steps", 1, "--resize", "none",
                 "--which_direction", "BtoA") == 0
    run_test_mode("out", "--checkpoint", "run", "--input_dir", "pairs")
    np.testing.assert_array_equal(read_result("out", "0", "inputs"), halves[1][0])
    np.testing.assert_array_equal(read_result("out", "0", "targets"), halves[0][0])


def test_photos_of_16_bits_stay_images(capsys):
    """Their metrics are those of images, and nothing of their 16 bits is lost."""
    for folder in ("a", "b"):
        for number in range(2):
            write(f"{folder}/{number}", np.random.default_rng(number).integers(
                0, 65536, (32, 32, 3), np.uint16))
    folders = ["--a_dir", "a", "--b_dir", "b"]
    assert train("run", *folders, "--max_steps", 1, "--resize", "none") == 0
    found = run_test_mode("out", "--checkpoint", "run", *folders)
    assert {"l1", "psnr", "ssim"} <= {*found} and 0 < found["l1"] < 1
    assert "16 bits" not in capsys.readouterr().err
    np.testing.assert_array_equal(read_result("out", "1", "targets"),
                                  read_stored(Path("b/1.png")).pixels)


def test_16_bits_among_8_are_read_as_8_with_a_line(capsys):
    draw_photos()
    draw_photos("others")
    write("others/1", np.full((*SIZE, 3), 300, np.uint16))
    assert train("run", "--a_dir", "photos", "--b_dir", "others", "--max_steps", 1) == 0
    assert "1 of 3 images have 16 bits and are read as 8" in capsys.readouterr().err
    assert json.loads(Path("run/options.json").read_text())["b_type"] == "uint8"


def write_whole_numbers(folder, dtype, ending, count=3, least=None):
    """Files of the values of `draw_depth` in another type; least: the lowest value of 1."""
    Path(folder).mkdir()
    for number, pixels in enumerate(draw_depth(count=count)):
        pixels = pixels[..., 0].astype(dtype)
        if number == 1 and least is not None:
            pixels[0, 0] = least
        path = Path(folder, f"{number}.{ending}")
        tifffile.imwrite(path, pixels) if ending == "tif" else np.save(path, pixels)


@pytest.mark.parametrize("dtype, ending", [
    ("int16", "npy"), ("int32", "tif"), ("uint32", "npy"), ("int64", "npy"), ("int16", "tif")])
def test_whole_numbers_that_16_bits_hold_are_read_as_these(capsys, dtype, ending):
    """The oracle: the same values as 16-bit PNG, in training, test, apply.py and --mode check."""
    draw_photos()
    write_whole_numbers("other", dtype, ending)
    for name, folder in (("png", "depth"), ("wide", "other")):
        shutil.copytree(folder, f"{folder}-b")
        sides = ["--a_dir", folder, "--b_dir", f"{folder}-b", *DEPTH[4:], "--a_ignore", 0]
        assert train(name, *sides, "--max_steps", 3, "--progress_freq", 1) == 0
        run_test_mode(f"{name}-out", "--checkpoint", name, *sides[:4])
        assert apply_tool.main(["--model", name, "--input", folder, "--output",
                                f"{name}-applied"]) == 0
        capsys.readouterr()
        assert run("--mode", "check", *sides) == 0
        assert "values of A  uint16, 0 to 65535 in the network\n" in capsys.readouterr().out
    assert_equal_runs("png", "wide")
    assert json.loads(Path("wide/options.json").read_text())["b_type"] == "uint16"
    assert read_rows("png-out") == read_rows("wide-out")
    for number in range(3):
        np.testing.assert_array_equal(*(read_stored(Path(f"{name}-applied/{number}.png")).pixels
                                        for name in ("png", "wide")))


@pytest.mark.parametrize("dtype, least, suited", [("int16", -1, "-500 4000"),
                                                  ("int32", 65536, "0 70000")])
def test_whole_numbers_that_16_bits_do_not_hold_are_refused(capsys, dtype, least, suited):
    """One such file is enough; converted as the line says, they are trained."""
    draw_photos()
    write_whole_numbers("other", dtype, "npy", least=least)
    sides = ["--a_dir", "photos", "--b_dir", "other"]
    for mode in (["check"], ["train", "--output_dir", "run", *SMALL]):
        assert run("--mode", *mode, *sides) == 2
        low, high = (least, 3) if least < 0 else (0, least)
        assert f"error: other/1.npy has whole numbers from {low} to {high}" in (
            error := capsys.readouterr().err.splitlines()[-1])
        assert error.endswith(
            "(read as int32), and 0 to 65535 are taken: save all images of B as float32, in .npy "
            f"or TIFF files, and give --b_range, such as --b_range {suited}")
    assert train("other-run", "--a_dir", "other", "--b_dir", "photos") == 2
    assert "save all images of A as float32" in capsys.readouterr().err
    for path in Path("other").iterdir():
        np.save(path, np.load(path).astype(np.float32))
    assert train("run", *sides, "--b_range", *suited.split(), "--max_steps", 1) == 0


def test_whole_numbers_that_training_meets_late_are_told(capsys, monkeypatch):
    draw_photos()
    write_whole_numbers("other", "int16", "npy", least=-1)
    monkeypatch.setattr(dataset, "CHECK_SECONDS", 0)
    assert train("run", "--a_dir", "photos", "--b_dir", "other", "--max_steps", 3) == 2
    assert "other/1.npy cannot be used: channels and type of its values are 1 and int32, the " \
        "model takes 1 and uint16\n" in capsys.readouterr().err


def test_types_do_not_mix_where_values_count(capsys):
    """8 bits of a range of 16 would be other values."""
    draw_photos()
    draw_depth()
    write("depth/1", np.full((*SIZE, 1), 9, np.uint8))
    assert train("run", *DEPTH, "--max_steps", 1) == 2
    assert "images of B have values of uint16, such as depth/0.png and uint8, such as " \
        "depth/1.png: convert them to one type" in capsys.readouterr().err
    draw_depth()
    draw_photos("others")
    assert train("run", "--a_dir", "photos", "--a_dir", "depth", "--b_dir", "others",
                 "--max_steps", 1) == 2
    assert "images of A have values of uint16, such as depth/0.png and uint8, such as " \
        "photos/0.png: convert them to one type" in capsys.readouterr().err


def empty_files(kind, count):
    """So many files of a kind without a measurement, of 6 in the folder `b`; the flags."""
    flags = {"depth": ["--b_ignore", 0, 65535], "colours": ["--b_ignore", 9],
             "floats": ["--b_range", 0, 9], "two floats": ["--b_range", 0, 9],
             "ignored floats": ["--b_range", 0, 9, "--b_ignore", -1],
             "indices": ["--b_labels", 4, "--b_ignore", 3]}[kind]
    for number in range(6):
        is_empty, channels = number < count, {"colours": 3, "two floats": 2}.get(kind, 1)
        pixels = np.zeros((*SIZE, channels))
        if "floats" in kind:
            pixels[..., -1:] = -1 if kind == "ignored floats" else np.nan
        elif kind == "depth":
            pixels[:, :9] = 65535
        else:
            pixels[...] = 9 if kind == "colours" else 3
        if not is_empty:
            pixels[5, 7] = 2
        dtype = np.uint16 if kind == "depth" else np.float32 if "floats" in kind else np.uint8
        write(f"b/{number}", pixels.astype(dtype))
    return flags


@pytest.mark.parametrize("kind", ["depth", "colours", "floats", "two floats", "ignored floats",
                                  "indices"])
def test_images_without_a_measurement_are_named_and_a_set_of_them_is_refused(capsys, kind):
    draw_photos(count=6)
    what = "label that counts" if kind == "indices" else "measurement"
    for count in (0, 1, 5, 6):
        flags = empty_files(kind, count)
        ending = "npy" if "floats" in kind else "png"
        names = ", ".join(f"b/{number}.{ending}" for number in range(min(count, 4)))
        line = f"{count} of 6 images of B hold{'s' * (count == 1)} no {what}: {names}" \
            + " and 1 more" * (count == 5)
        for mode in ("check", "train"):
            given = ["--output_dir", f"run-{count}", *SMALL, "--max_steps", 2] * (mode == "train")
            code = run("--mode", mode, "--a_dir", "photos", "--b_dir", "b", *flags, *given)
            printed = capsys.readouterr()
            if count == 6:
                assert code == 2 and not Path("run-6").exists()
                error = printed.err.splitlines()[-1]
                assert f"error: images of B hold no {what}, every pixel is " in error
                assert ("NaN or infinite" in error) == ("floats" in kind)
                assert ("ignored by --b_ignore: correct --b_ignore" in error) == (
                    "--b_ignore" in flags)
                continue
            assert code == 0
            assert (f"{line}\n" in printed.out) == (f"no {what}: " in printed.out) == (count > 0)


def test_pairs_without_a_measurement_are_named(capsys):
    """Whatever was found of the same files with other flags."""
    for number in range(3):
        pixels = np.full((SIZE[0], 2 * SIZE[1], 1), number, np.uint8)
        pixels[5, SIZE[1] + 7] = 4
        write(f"pairs/{number}", pixels)
    for ignored, empty in (([9], 0), ([0, 4], 1), ([0, 1, 2, 4], 3)):
        code = train(f"run-{empty}", "--input_dir", "pairs", "--layout", "pairs", "--max_steps", 1,
                     "--b_ignore", *ignored)
        printed = capsys.readouterr()
        assert code == (2 if empty == 3 else 0)
        assert ("1 of 3 images holds no measurement: pairs/0.png\n" in printed.out) == (empty == 1)
        assert ("error: images hold no measurement, every pixel is ignored by --b_ignore: correct "
                "--b_ignore, or give others" in printed.err) == (empty == 3)


def test_floats_without_a_measurement_are_refused_before_their_range_is_asked_for(capsys):
    draw_photos()
    for number in range(3):
        write(f"b/{number}", np.full((*SIZE, 1), np.nan, np.float32))
    assert train("run", "--a_dir", "photos", "--b_dir", "b", "--max_steps", 1) == 2
    assert capsys.readouterr().err.endswith(
        "error: images of B hold no measurement, every pixel is NaN or infinite: give others\n")
    write("b/1", np.full((*SIZE, 1), 7, np.float32))
    assert train("run", "--a_dir", "photos", "--b_dir", "b", "--max_steps", 1) == 2
    assert "hold floating-point values, 7 to 7: give their range" in capsys.readouterr().err


def test_rotated_bits_are_refused_everywhere(capsys):
    """As SUN RGB-D stores millimetres."""
    draw_photos(size=(64, 64))
    for number in range(3):
        pixels = np.tile(np.linspace(5000, 8250, 64), (64, 1)).astype(np.uint16)[..., np.newaxis]
        write(f"depth/{number}", (pixels >> 13) | (pixels << 3))
    for mode in (["--mode", "train", "--output_dir", "run", *SMALL, "--max_steps", 1],
                 ["--mode", "check"]):
        assert run(*mode, *DEPTH[:4]) == 2
        assert "depth/0.png cannot be used: its values look rotated by 3 bits, as SUN RGB-D stores" \
            in capsys.readouterr().err


def test_little_of_the_range_is_worth_a_line(capsys):
    draw_photos()
    draw_depth()
    assert train("run", *DEPTH[:4], "--max_steps", 1) == 0
    assert "values of B are 0 to 3" in (printed := capsys.readouterr().out)
    assert ", and 0 to 65535 become -1 to 1 in the network: --mode check says which --b_range and " \
        "--b_ignore suit them\n" in printed


def test_training_from_a_checkpoint_takes_its_own_files_type():
    draw_photos()
    draw_photos("grey")
    for path in Path("grey").iterdir():
        with Image.open(path) as image:
            image.convert("L").save(path)
    draw_depth()
    assert train("old", "--a_dir", "photos", "--b_dir", "grey", "--max_steps", 1) == 0
    assert run("--mode", "train", "--checkpoint", "old", "--output_dir", "run", *DEPTH,
               "--max_steps", 1, "--sample_freq", 0) == 0
    stored = json.loads(Path("run/options.json").read_text())
    assert (stored["b_type"], stored["b_range"]) == ("uint16", [500, 4500])


def test_a_model_takes_the_type_that_it_was_trained_on(depth, capsys):
    shutil.copytree(depth / "run", "run")
    draw_photos("photos")
    draw_photos("depth")
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "out", *DEPTH[:4]) == 2
    assert "images of B, such as depth/0.png, have values of uint8, the model takes uint16: " \
        "convert them" in capsys.readouterr().err
    Path("pairs").mkdir()
    write("pairs/0", np.zeros((32, 64, 1), np.uint16))
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "out", "--input_dir",
               "pairs") == 2
    assert "which no file of pairs holds: give --a_dir and --b_dir" in capsys.readouterr().err


def test_check_mode_says_what_ranges_suit(depth, capsys):
    folders = ["--mode", "check", "--a_dir", depth / "photos", "--b_dir", depth / "depth"]
    assert run(*folders) == 0
    printed = capsys.readouterr().out
    assert "  values of B  uint16, 0 to 65535 in the network\n" in printed
    assert "% of the values are 0: where that stands for no measurement, give --b_ignore 0\n" \
        in printed
    assert "--b_range 0 4000 holds 99.9 % of them\n" in printed
    assert run(*folders, "--b_ignore", 0, "--b_range", 1000, 4000) == 0
    printed = capsys.readouterr().out
    assert "  values of B  uint16, 1000 to 4000 in the network\n" in printed
    assert "% of the pixels have no measurement\n" in printed
    assert "% of the values lie outside and are clipped\n" in printed


# ---- outside the program


def read_bytes(contents):
    """The pixels of a file's bytes."""
    return decode_stored(contents).pixels


@pytest.mark.parametrize("name", [name for name in EXPORTS if name != "pict"])
def test_each_export_speaks_the_files_units(depth, name):
    """As the training folder does, but for 2 of 255 levels of the range."""
    assert run("--mode", "export", "--checkpoint", depth / "run", "--output_dir", "export",
               "--export_format", name) == 0
    photo = (depth / "photos/0.png").read_bytes()
    expected = read_bytes(pix2pix.load_model(depth / "run").generate(photo))
    got = read_bytes(pix2pix.load_model(Path("export")).generate(photo))
    assert got.dtype == np.uint16 and got.shape == (64, 64, 1)
    assert np.abs(got.astype(int) - expected).max() <= 2 / 255 * 4000


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A folder with sparse depth, depth, and a run from one to the other with a mask."""
    folder = tmp_path_factory.mktemp("sparse")
    with in_folder(folder):
        draw_depth("sparse", missing=0.8, size=(32, 32))
        draw_depth(size=(32, 32))
        assert train("run", "--a_dir", "sparse", *DEPTH[2:], "--a_ignore", 0, "--mask_channel",
                     "--a_range", 0, 5000, "--max_steps", 2) == 0
        run_test_mode("out", "--checkpoint", "run", "--a_dir", "sparse", *DEPTH[2:4])
    return folder


@pytest.mark.parametrize("name", [name for name in EXPORTS if name != "pict"])
def test_exports_take_what_has_gaps(sparse, name):
    assert run("--mode", "export", "--checkpoint", sparse / "run", "--output_dir", "export",
               "--export_format", name) == 0
    expected = read_result(sparse / "out", "0").astype(int)
    got = read_bytes(pix2pix.load_model(Path("export")).generate(
        (sparse / "sparse/0.png").read_bytes()))
    assert got.shape == expected.shape and np.abs(got - expected).max() <= 2 / 255 * 4000


def test_exports_that_cannot_hold_it_are_refused_by_name(sparse, capsys):
    for flags, text in (
            (["--export_format", "pict"], "--export_format pict cannot hold that images of A have "
             "a type of their own"),
            (["--output_filetype", "jpeg"], "--output_filetype jpeg holds 8 bits in 1 or 3 "
             "channels, the results have 1 of uint16")):
        assert run("--mode", "export", "--checkpoint", sparse / "run", "--output_dir", "export",
                   *flags) == 2
        assert text in capsys.readouterr().err
    assert not Path("export").exists()


def test_floats_are_exported_and_applied(capsys):
    draw_floats("values", 2)
    draw_floats("others", 2, seed=3)
    assert train("run", "--a_dir", "values", "--b_dir", "others", "--a_range", -3, 7, "--b_range",
                 -3, 7, "--which_direction", "BtoA", "--max_steps", 1) == 0
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export") == 2
    assert "--export_format affinelayer needs files that TensorFlow reads and writes" \
        in capsys.readouterr().err
    formats = [name for name in EXPORTS if name not in ("pict", "affinelayer")]
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", *formats) == 0
    assert apply_tool.main(["--model", "run", "--input", "values", "--output", "results"]) == 0
    expected = np.load("results/0.npy")
    assert expected.shape == (*SIZE, 2) and expected.dtype == np.float32
    for file in ("saved_model.pb", "graph.pb", "model.tflite", "model.onnx"):
        if Path("export", file).exists():
            assert apply_tool.main(["--model", f"export/{file}", "--input", "values/0.npy",
                                    "--output", f"{file}.npy"]) == 0
            assert np.abs(np.load(f"{file}.npy") - expected).max() < 0.08, file


def test_apply_writes_16_bits_and_refuses_other_types(depth, capsys):
    assert apply_tool.main(["--model", str(depth / "run"), "--input", str(depth / "photos"),
                            "--output", "results"]) == 0
    got = read_stored(Path("results/0.png")).pixels
    assert got.dtype == np.uint16 and got.shape == (64, 64, 1) and 500 <= got.min()
    capsys.readouterr()
    assert apply_tool.main(["--model", str(depth / "run"), "--input", str(depth / "photos/0.png"),
                            "--output", "result.jpg"]) == 1
    assert "result.jpg: the model's results are of type png: change the ending" \
        in capsys.readouterr().err


def test_apply_refuses_what_the_model_does_not_take(sparse, capsys):
    draw_photos()
    assert apply_tool.main(["--model", str(sparse / "run"), "--input", "photos/0.png",
                            "--output", "results"]) == 1
    assert "photos/0.png has 3 channels of uint8, the model takes 1 of uint16: convert it" \
        in capsys.readouterr().err
