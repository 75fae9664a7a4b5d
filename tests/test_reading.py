"""Images as people have them, through training, test and export: one rule for reading, pairs told
from single images by their shape, and every file accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, draw_pairs, read_files, read_images, read_pixels, read_variables, run
from PIL import Image

import pix2pix
from tools.lib import dataset
from tools.lib.cli import UserError, with_options
from tools.lib.dataset import ImageCheck, list_images
from tools.lib.options import read_options

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def photo(seed, height, width):
    """uint8 [height, width, 3] with slopes and edges."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 90, width)[None, :, None] + np.linspace(0, 90, height)[:, None, None]
    blocks = np.repeat(np.repeat(rng.integers(0, 70, (height // 8, width // 8, 3)), 8, 0), 8, 1)
    return (ramp + blocks).astype(np.uint8)


def train(folder, *flags):
    """Trains the smallest model for a step on folder/train; returns the exit code."""
    return run("--mode", "train", "--input_dir", f"{folder}/train", "--output_dir", "run", *SMALL,
               "--max_steps", 1, *flags)


def apply_model(tiny, folder, *flags):
    """Tests the tiny model on a folder of images; returns the exit code."""
    return run("--mode", "test", "--input_dir", folder, "--checkpoint", tiny / "whole",
               "--output_dir", "out", *flags)


# ---- one rule for reading


def test_results_do_not_depend_on_how_a_file_holds_its_pixels(tiny):
    """A pair as JPEG, and what Pillow decodes of it as PNG, BMP, WebP, TIFF and turned by EXIF: the
    same bytes of inputs, outputs and targets."""
    Path("pairs").mkdir()
    Image.fromarray(photo(1, 32, 64)).save("pairs/1.jpg", quality=90)
    pixels = read_pixels("pairs/1.jpg").astype(np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 8
    image.save("pairs/2.png")
    image.save("pairs/3.bmp")
    image.save("pairs/4.webp", lossless=True)
    image.save("pairs/5.tif")
    Image.fromarray(np.rot90(pixels, -1)).save("pairs/6.png", exif=exif)
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save("pairs/7.png")
    assert apply_model(tiny, "pairs") == 0
    results = read_images("out")
    for kind in ("inputs", "outputs", "targets"):
        assert len({results[f"{number}-{kind}.png"] for number in range(1, 8)}) == 1
    np.testing.assert_array_equal(read_pixels("out/images/1-inputs.png"), pixels[:, :32])
    np.testing.assert_array_equal(read_pixels("out/images/1-targets.png"), pixels[:, 32:])


def test_training_reads_as_test_does(capsys):
    """The same weights after a step on files of other formats and on PNG files of their pixels."""
    for name, filetypes in (("one", ["JPEG", "WEBP", "GIF", "TIFF"]), ("other", ["PNG"] * 4)):
        Path(name, "train").mkdir(parents=True)
        for number, filetype in enumerate(filetypes):
            path = Path(name, "train", f"{number}.{filetype.lower()}")
            Image.fromarray(photo(number, 32, 64)).save(path, filetype)
            if filetype == "PNG":
                theirs, = Path("one", "train").glob(f"{number}.*")
                Image.fromarray(read_pixels(theirs).astype(np.uint8)).save(path)
        assert train(name, "--batch_size", 4, "--overwrite", "--cache", 1) == 0
        variables = read_variables("run")
        if name == "one":
            first = variables
    for key, value in first.items():
        np.testing.assert_array_equal(value, variables[key], err_msg=key)
    assert "not used" not in capsys.readouterr().err


def test_a_drawing_on_transparency_is_not_black(tiny):
    drawing = np.zeros([32, 32, 4], np.uint8)
    drawing[8:12, 4:28, 3] = 255  # black strokes; elsewhere transparent black, as in a browser
    Path("drawings").mkdir()
    Image.fromarray(drawing).save("drawings/1.png")
    assert apply_model(tiny, "drawings", "--no_targets") == 0
    expected = np.where(drawing[..., 3:] > 0, 0, 255)
    np.testing.assert_array_equal(read_pixels("out/images/1-inputs.png"),
                                  np.repeat(expected, 3, axis=2))


def test_deep_images_are_reported(tiny, capsys):
    Path("depth").mkdir()
    for number in (1, 2):
        depth = (number * 500 + np.mgrid[:32, :32][1] * 100).astype(np.uint16)
        Image.fromarray(depth).save(f"depth/{number}.png")
    Image.new("L", (32, 32)).save("depth/3.png")
    for _ in range(2):  # also when it is remembered
        assert apply_model(tiny, "depth", "--no_targets") == 0
        assert ("2 of 3 images have 16 bits and are read as 8; their values 500 to 4100 become "
                "1 to 16: scale the values to 0..65535 first") in capsys.readouterr().err


def test_what_a_folder_holds_besides_images_is_counted(tiny, capsys):
    folder = draw_pairs("pairs", 2)
    for name in ("1.JPG_original", "2.THM"):
        (folder / name).write_bytes((folder / "1.JPG").read_bytes())
    (folder / "3.heic").write_bytes(b"x")
    draw_pairs("pairs/old", 1)
    assert apply_model(tiny, "pairs") == 0
    printed = capsys.readouterr()
    assert printed.err == ("pix2pix.py: not used in pairs: 2 copies or thumbnails, 1 .heic, "
                           "1 in folder old\n")
    assert "wrote 2 of 2 images" in printed.out


def test_a_dataset_given_without_its_part_is_explained(capsys):
    draw_pairs("bars/val", 1)
    draw_pairs("bars/train", 2)
    assert run("--mode", "train", "--input_dir", "bars", "--max_steps", 1) == 2
    assert capsys.readouterr().err == (
        "pix2pix.py: error: --input_dir bars contains no JPEG, PNG, BMP, GIF, TIFF, WebP, PPM or npy images, "
        "only 3 in folders train, val: did you mean bars/train?\n")


# ---- pairs or single images


def check_shape(options, *sizes):
    """Has the layout of images of these (width, height) checked; returns the reasons of those that
    cannot be used. Raises UserError."""
    checks = {Path(str(number)): ImageCheck(1, 1, *size) for number, size in enumerate(sizes)}
    dataset.refuse_layout(checks, options)
    return [check.reason for check in dataset.refuse_other_shapes(checks, options).values()
            if check.reason]


FACADES, MAPS, KITTI, WIDE = (512, 256), (1200, 600), (2484, 375), (1024, 256)


@pytest.mark.parametrize("size", [FACADES, MAPS, KITTI, WIDE, (513, 256), (962, 321)])
def test_pairs_keep_working(options, size):
    """Of squares, of photos from a car, of panoramas, of an odd width."""
    assert check_shape(options, *[size] * 3) == []
    testing = with_options(options, mode="test")
    assert check_shape(testing, *[size] * 3) == []
    known = with_options(testing, trained_ratio=size[0] / size[1] / 2)
    assert check_shape(known, *[size] * 3) == []


@pytest.mark.parametrize("size", [(256, 256), (320, 240), (640, 427), (1920, 1080), (256, 512)])
def test_single_images_are_not_halved_in_silence(options, size):
    width, height = size
    for flag, text in (("train", "combine them into pairs"), ("test", "give --no_targets")):
        with pytest.raises(UserError) as caught:
            check_shape(with_options(options, mode=flag), size, size)
        assert f"{width}x{height} pixels look single, as pairs their halves would be " \
               f"{width // 2}x{height}: if they are pairs, give --layout pairs; if they are " \
               f"single, {text}" in str(caught.value)
        assert ("one above the other" in str(caught.value)) == (size == (256, 512))
    assert check_shape(with_options(options, layout="pairs"), size, size) == []
    for changes in ({"lab_colorization": True}, {"mode": "test", "no_targets": True}):
        changes |= {"layout": "single"} if size == (256, 512) else {}
        assert check_shape(with_options(options, **changes), size, size) == []


@pytest.mark.parametrize("changes, flag", [
    ({"lab_colorization": True}, "--lab_colorization"),
    ({"mode": "test", "no_targets": True}, "--no_targets")])
def test_pairs_are_not_taken_for_single_images_in_silence(options, changes, flag):
    options = with_options(options, **changes)
    with pytest.raises(UserError, match=f"512x256 pixels look like pairs of 256x256: if they are "
                                        f"pairs, remove {flag}; if they are single, give --layout "
                                        "single$"):
        check_shape(options, FACADES, FACADES)
    assert check_shape(with_options(options, layout="single"), FACADES) == []
    assert check_shape(options, KITTI, KITTI) == [] == check_shape(options, (640, 427))
    with pytest.raises(UserError, match="256x512 pixels look like pairs of 256x256, one above the "
                                        f"other: if they are pairs, remove {flag} and put them"):
        check_shape(options, (256, 512))
    with pytest.raises(UserError, match=f"--layout pairs contradicts {flag}, which takes single"):
        dataset.check(with_options(options, layout="pairs"), set())


def test_a_lab_model_whose_shape_is_not_known_is_tested_on_any(options, capsys):
    """affinelayer's: their images may have been of that shape."""
    options = with_options(options, mode="test", lab_colorization=True, checkpoint="old")
    assert check_shape(options, FACADES) == []
    assert "512x256 pixels look like pairs of 256x256, but are taken whole" in \
        capsys.readouterr().err
    with pytest.raises(UserError, match="like pairs of 256x256: the model takes single images"):
        check_shape(with_options(options, trained_ratio=1.0), FACADES)
    # trained on, too: the flag is the checkpoint's
    options = with_options(options, mode="train")
    assert check_shape(options, FACADES) == []
    assert "512x256 pixels look like pairs of 256x256, but are taken" in capsys.readouterr().err


def test_the_models_own_shape_decides_in_test(options):
    """Of portraits in pairs 4:3; of panoramas 2:1, whose pairs are 4:1."""
    testing = with_options(options, mode="test", trained_ratio=2 / 3)
    assert check_shape(testing, (400, 300)) == []
    with pytest.raises(UserError, match="look single"):
        check_shape(testing, (200, 300))
    panorama = with_options(options, mode="test", trained_ratio=2.0)
    with pytest.raises(UserError, match="look single"):
        check_shape(panorama, FACADES)
    panorama = with_options(panorama, no_targets=True)
    assert check_shape(panorama, FACADES) == []
    with pytest.raises(UserError, match="look like pairs of 512x256"):
        check_shape(panorama, WIDE)
    resumed = with_options(options, resume=True, trained_ratio=2 / 3)
    assert check_shape(resumed, (400, 300)) == []
    new = with_options(options, trained_ratio=2 / 3)  # training from that model, on other images
    with pytest.raises(UserError, match="look single"):
        check_shape(new, (400, 300))


@pytest.mark.parametrize("odd", [(480, 270), (384, 256), (256, 256), (640, 480)])
def test_a_photo_among_pairs_is_named(options, odd):
    """16:9, 3:2, 1:1 and 4:3 among 2:1; most of them, or few."""
    width, height = odd
    got = check_shape(options, *[FACADES] * 11, odd)
    assert got == [f"{width}x{height} pixels, but nearly all others are 2 times as wide as high: "
                   "cannot be split into a pair"]
    got = check_shape(options, FACADES, KITTI, odd)
    assert got == [f"{width}x{height} pixels look like a single image: cannot be split into a pair"]
    assert check_shape(with_options(options, layout="pairs"), *[FACADES] * 11, odd) == []
    assert check_shape(options, *[FACADES] * 11, (520, 256)) == []


def test_training_stores_the_shape_and_test_reads_it(capsys):
    """Portraits: insisted on once, then known."""
    for part in ("train", "val"):
        Path("faces", part).mkdir(parents=True)
        for number in (1, 2):
            Image.fromarray(photo(number, 48, 64)).save(f"faces/{part}/{number}.png")
    assert train("faces") == 2
    assert "give --layout pairs" in capsys.readouterr().err and not Path("run").exists()
    assert train("faces", "--layout", "pairs") == 0
    stored = json.loads(Path("run/options.json").read_text())
    assert (stored["layout"], stored["trained_ratio"]) == ("pairs", 0.6667)
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--max_steps", 2) == 0
    before = read_files("run")
    test = ["--mode", "test", "--checkpoint", "run", "--output_dir", "out", "--input_dir"]
    assert run(*test, "faces/val") == 0
    draw_pairs("single", 2, "single")
    capsys.readouterr()
    assert run(*test, "single") == 2
    assert "64x64 pixels look single" in capsys.readouterr().err
    assert read_files("run") == before


@pytest.mark.parametrize("flags, text", [
    (["--layout", "single"], "--layout single needs --lab_colorization"),
    (["--layout", "pairs", "--lab_colorization"], "--layout pairs contradicts")])
def test_a_layout_that_contradicts_the_mode_is_refused(capsys, flags, text):
    draw_pairs("bars/train", 1)
    assert train("bars", *flags) == 2
    assert text in capsys.readouterr().err and not Path("run").exists()


@pytest.mark.parametrize("value, expected", [
    (1.5, 1.5), (2, 2), ("wide", None), (-3, None), (None, None), ([2], None)])
def test_a_stored_shape_that_is_none_is_as_unknown(tiny, value, expected):
    stored = json.loads((tiny / "whole/options.json").read_text())
    assert stored["trained_ratio"] == 1.0
    Path("options.json").write_text(json.dumps({**stored, "trained_ratio": value}))
    options = read_options(".", pix2pix.create_parser())
    assert options.get("trained_ratio") == expected and options["ngf"] == 1


def test_the_list_of_images_knows_their_shape(options, tmp_path):
    draw_pairs(tmp_path / "pairs", 3)
    found = list_images(with_options(options, input_dir=str(tmp_path / "pairs")))
    assert [path.name for path in found.paths] == ["1.JPG", "2.png", "3.JPG"]
    assert found.names == ["1", "2", "3"] and found.ratio == 1.0 and found.largest == 128 * 64
