"""process.py: arithmetic on small images, and folders with unreadable files in them."""

import importlib
import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
import unicodedata

import killing
import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from tools import process, split
from tools.lib import images, provenance
from tools.lib.cli import Size
from tools.lib.stored import encode_stored, read_stored


def noise(seed, height, width):
    """Random uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, [height, width, 3], np.uint8)


def load(path):
    """A file's pixels as Pillow has them, and its mode."""
    with Image.open(path) as image:
        return np.asarray(image), image.mode


def write(path, image):
    """Writes pixels as a PNG file, and makes the folder. Returns the path."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path, "PNG")
    return path


def run(tmp_path, operation, *flags, output="out", workers=1):
    """The exit code of the tool on tmp_path/in."""
    return process.main(["--input_dir", str(tmp_path / "in"), "--output_dir",
                         str(tmp_path / output), "--operation", operation, "--workers",
                         str(workers), *map(str, flags)])


def contents(folder):
    """Name -> bytes of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- arrays


def square(size):
    """The Size of a square."""
    return Size(size, size)


def test_crop_takes_the_centre():
    image = noise(1, 5, 12)
    assert np.array_equal(process.crop_to_aspect(image, square(256)), image[:, 3:8])
    assert np.array_equal(process.crop_to_aspect(image.swapaxes(0, 1), square(3)),
                          image.swapaxes(0, 1)[3:8])


def test_pad_is_black_and_centred():
    image = noise(2, 4, 9)
    padded = process.pad_to_aspect(image, square(256))
    assert padded.shape == (9, 9, 3)
    assert np.array_equal(padded[2:6], image)
    assert padded.sum() == image.astype(int).sum()


@pytest.mark.parametrize("height, width, size, rows, columns, padded", [
    (20, 30, Size(64, 96), (0, 20), (0, 30), (20, 30)),
    (20, 41, Size(64, 96), (0, 20), (5, 35), (27, 41)),  # 41 * 64 / 96 = 27.3
    (31, 30, Size(64, 96), (5, 25), (0, 30), (31, 46)),  # 31 * 96 / 64 = 46.5
    (375, 1242, Size(256, 512), (0, 375), (246, 996), (621, 1242)),
    (1, 9, Size(512, 32), (0, 1), (4, 5), (144, 9)),
    (9, 1, Size(32, 512), (4, 5), (0, 1), (9, 144))])
def test_crop_and_pad_to_a_rectangle(height, width, size, rows, columns, padded):
    image = noise(3, height, width) // 2 + 1
    assert np.array_equal(process.crop_to_aspect(image, size), image[slice(*rows), slice(*columns)])
    result = process.pad_to_aspect(image, size)
    assert result.shape == (*padded, 3)
    top, left = (padded[0] - height) // 2, (padded[1] - width) // 2
    assert np.array_equal(result[top:top + height, left:left + width], image)
    assert np.count_nonzero(result) == image.size


@pytest.mark.parametrize("down, across", [(2, 2), (3, 7), (7, 1)])
def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks(down, across):
    image = noise(down, 5 * down, 4 * across)
    blocks = image.reshape(5, down, 4, across, 3).astype(int).sum(axis=(1, 3))
    expected = (2 * blocks + down * across) // (2 * down * across)  # halves up
    assert np.array_equal(process.scale(image, Size(5, 4)), expected)


@pytest.mark.parametrize("height, width, size", [
    (7, 7, Size(5, 5)), (13, 12, Size(9, 8)), (11, 8, Size(2, 7)), (300, 290, Size(256, 128))])
def test_shrinking_weighs_by_covered_area(height, width, size):
    image = noise(height, height, width)

    def shares(side, length):
        """What each result pixel takes of each source pixel: as repeating every pixel length
        times, then the mean of blocks of side."""
        share, fine = np.zeros([length, side]), np.arange(length * side)
        np.add.at(share, (fine // side, fine // length), 1 / side)
        return share
    expected = np.einsum("yi,xj,ijc->yxc", shares(height, size.height), shares(width, size.width),
                         image, optimize=True)
    result = process.scale(image, size)
    assert np.abs(result - expected).max() <= 0.5 + 1e-4
    assert np.abs(result - expected).max() > 0.4  # the bound is one that the rounding needs


def test_enlarging_is_pillows_bicubic_and_equal_size_changes_nothing():
    image = noise(4, 7, 9)
    expected = np.asarray(Image.fromarray(image).resize((19, 23), Image.Resampling.BICUBIC))
    assert np.array_equal(process.scale(image, Size(23, 19)), expected)
    assert np.array_equal(process.scale(image, Size(7, 9)), image)


def test_one_side_may_shrink_while_the_other_grows():
    image = noise(4, 8, 5)
    means = (image.reshape(4, 2, 5, 3).astype(int).sum(axis=1) + 1) // 2
    expected = Image.fromarray(means.astype(np.uint8)).resize((11, 4), Image.Resampling.BICUBIC)
    assert np.array_equal(process.scale(image, Size(4, 11)), np.asarray(expected))


def test_one_pixel_high_image_resizes():
    image, size = np.full([1, 9, 3], 77, np.uint8), square(5)
    assert (process.scale(process.crop_to_aspect(image, size), size) == 77).all()
    padded = process.scale(process.pad_to_aspect(image, size), square(3))
    assert padded[:, 0, 0].tolist() == [0, 26, 0]  # 77 / 3 = 25.67


@pytest.mark.parametrize("size", [Size(5, 7), Size(9, 13), Size(23, 31), Size(1, 1), Size(4, 40),
                                  Size(27, 6)])
def test_nearest_takes_the_pixel_at_the_centre(size):
    image = noise(4, 9, 13)
    fine = image.repeat(2 * size.height, axis=0).repeat(2 * size.width, axis=1)
    expected = fine[9::18, 13::26]  # each result pixel is 18x26 of these
    assert np.array_equal(process.scale(image, size, "nearest"), expected)


@pytest.mark.parametrize("seed", range(20))
def test_nearest_is_pillows(seed):
    """At odd sizes: where a centre is on a border between pixels, Pillow's rounding decides."""
    rng = np.random.default_rng(seed)
    height, width, *size = (2 * rng.integers(1, 60, 4) + 1).tolist()
    image = noise(seed, height, width)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.NEAREST)
    assert np.array_equal(process.scale(image, Size(*size), "nearest"), np.asarray(expected))


def label_map(height, width, num_colours):
    """Stripes of equal colours, as of a label image: uint8 [height, width, 3]."""
    colours = noise(7, 1, num_colours)[0]
    return np.tile(colours[np.arange(width) * num_colours // width], [height, 1, 1])


@pytest.mark.parametrize("image, size, expected", [
    (label_map(60, 97, 5), Size(20, 31), 5), (label_map(10, 97, 97), Size(5, 31), None),
    (label_map(160, 397, 100), Size(20, 31), 100), (label_map(160, 397, 101), Size(20, 31), None),
    (label_map(60, 97, 5), Size(90, 160), 5), (label_map(60, 97, 1), Size(20, 31), None),
    (label_map(60, 97, 5), Size(60, 97), None),  # not scaled
    (label_map(60, 100, 5), Size(30, 50), None),  # nothing to blend: 2x2 pixels have one colour
    (np.array([[[1] * 3] * 12, [[3] * 3] * 12, [[2] * 3] * 12] * 4, np.uint8), Size(6, 6), 3),
    (noise(1, 5, 7), Size(4, 4), None), (noise(1, 60, 97), Size(20, 31), None),
    (noise(1, 60, 97) // 64 * 64, Size(20, 31), 64), (noise(1, 1, 9), Size(3, 3), None)])
def test_blended_colours_are_counted_where_there_are_few(image, size, expected):
    assert process.count_blended(image, process.scale(image, size)) == expected
    assert process.count_blended(image, process.scale(image, size, "nearest")) is None


def blank_center(image):
    """An image as --operation blank makes it."""
    return process.blank(image, process.center_hole(*image.shape[:2]))


def test_grayscale_is_luminance():
    image = noise(5, 9, 11)
    expected = image @ np.array([0.299, 0.587, 0.114])
    result = process.grayscale(image)
    assert result.shape == (9, 11)
    assert np.abs(result - expected).max() <= 0.51


@pytest.mark.parametrize("height, width, rows, columns", [
    (256, 256, (90, 166), (90, 166)), (9, 14, (3, 5), (5, 9)), (11, 7, (4, 7), (2, 4))])
def test_blank_is_white_where_affinelayers_is(height, width, rows, columns):
    image = noise(6, height, width) // 2
    expected = image.copy()
    expected[slice(*rows), slice(*columns)] = 255
    before = image.copy()
    assert np.array_equal(blank_center(image), expected)
    assert np.array_equal(image, before)


def test_random_holes_are_inside_of_the_same_area_and_everywhere():
    height, width = 96, 150
    holes = np.array([process.random_hole(height, width, f"{number}.png", 0)
                      for number in range(3000)])
    top, left, hole_height, hole_width = holes.T
    assert holes.min() >= 0
    assert (top + hole_height <= height).all() and (left + hole_width <= width).all()
    area = 0.3**2 * height * width
    assert (np.abs(hole_height * hole_width - area) <= hole_height / 2 + 1).all()
    ratio = (hole_width / width) / (hole_height / height)
    assert 0.48 < ratio.min() < 0.52 and 1.92 < ratio.max() < 2.1
    assert abs(np.log(ratio).mean()) < 0.05  # as often wide as high
    places = top / (height - hole_height), left / (width - hole_width)
    for place in places:  # uniform
        counts, _ = np.histogram(place, 5, (0, 1))
        assert np.abs(counts - 600).max() < 100  # 4.6 standard deviations of 22
    assert np.abs(np.corrcoef([*places, ratio]) - np.eye(3)).max() < 0.08


@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (2, 3), (9, 1), (1, 500)])
def test_random_holes_fit_into_the_smallest_images(height, width):
    for number in range(100):
        top, left, hole_height, hole_width = process.random_hole(height, width, f"{number}", 0)
        assert 0 <= top <= top + hole_height <= height and 0 <= left <= left + hole_width <= width


def test_a_random_hole_depends_on_name_and_seed_alone():
    """The values are recorded ones: a later version must find the same holes."""
    assert process.random_hole(96, 150, "a.png", 0) == (24, 16, 34, 38)
    assert process.random_hole(96, 150, "a.png", 1) == (36, 111, 34, 38)
    assert process.random_hole(96, 150, "a.jpg", 0) == (60, 8, 26, 50)
    composed, decomposed = (unicodedata.normalize(form, "Fotó.png") for form in ("NFC", "NFD"))
    assert process.random_hole(96, 150, composed, 0) == process.random_hole(96, 150, decomposed, 0)
    process.random_hole(96, 150, os.fsdecode(b"\xff"), 0)  # any name has one


def test_combine_is_left_then_right():
    left, right = noise(7, 3, 5), noise(8, 3, 5)
    both = process.combine(left, right)
    assert np.array_equal(both[:, :5], left) and np.array_equal(both[:, 5:], right)
    with pytest.raises(ValueError, match="5x3 and 3x5 differ in size"):
        process.combine(left, noise(8, 5, 3))


def test_edges_are_thin_lines_on_white_where_the_step_is():
    image = np.zeros([61, 83, 3], np.uint8)
    image[:, 40:] = 255
    image[30:33, 10:13] = 255  # a speck, its outline is shorter than 25
    edges = process.find_edges(image, sigma=1.0, min_length=25)
    assert set(np.unique(edges)) == {0, 255}
    rows, columns = np.nonzero(edges == 0)
    assert set(columns) <= {39, 40} and len(rows) == len(set(rows)) >= 55
    with_speck = process.find_edges(image, sigma=1.0, min_length=3)
    assert (with_speck[25:38, 5:18] == 0).any()
    assert (process.find_edges(image, sigma=1.0, min_length=1000) == 255).all()
    assert (process.find_edges(image[:, :30] * 0, sigma=2.0, min_length=1) == 255).all()


# ---- writing


def photo(height, width):
    """Smooth colours under a little noise, as of a camera: uint8 [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width]
    smooth = [110 + 80 * np.sin(rows / 31), 120 + 70 * np.cos(columns / 23),
              90 + 60 * np.sin((rows + columns) / 41)]
    return (np.stack(smooth, axis=2) + noise(1, height, width) % 5).astype(np.uint8)


def size_by_pillow(image, level):
    """Bytes of Pillow's PNG file, at a level of zlib."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=level)
    return len(file.getvalue())


def test_png_files_are_small(tmp_path):
    image = photo(200, 240)
    write(tmp_path / "in" / "a.png", image)
    write(tmp_path / "b" / "a.png", blank_center(image))
    assert run(tmp_path, "blank") == 0
    size = (tmp_path / "out" / "a.png").stat().st_size
    assert size < 1.02 * size_by_pillow(blank_center(image), 6)
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b", output="pairs") == 0
    size = (tmp_path / "pairs" / "a.png").stat().st_size  # a half is found again in the other
    assert size < 1.4 * size_by_pillow(image, 6)


def test_results_appear_whole_without_waiting_for_the_disk(tmp_path, monkeypatch):
    write(tmp_path / "in" / "a.png", noise(1, 5, 7))

    def fail(*_):
        """A call that must not be, or that the disk refuses."""
        raise OSError(5, "failed")
    monkeypatch.setattr(os, "fsync", fail)
    assert run(tmp_path, "blank") == 0
    assert set(contents(tmp_path / "out")) == {"a.png"}
    monkeypatch.setattr(os, "replace", fail)
    assert run(tmp_path, "blank", output="none") == 1
    assert not contents(tmp_path / "none")


# ---- folders


def test_results_do_not_depend_on_the_workers(tmp_path, capsys):
    names = ["a b", "100%", "\N{GRINNING FACE}", "ü.x", "5", "6", "7", "8", "9", "10", "11"]
    for seed, name in enumerate(names):
        write(tmp_path / "in" / f"{name}.png", noise(seed, 20 + seed, 31 - 2 * seed))
    assert run(tmp_path, "resize", "--size", 17, output="one") == 0
    assert run(tmp_path, "resize", "--size", 17, output="two", workers=2) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert set(contents(tmp_path / "one")) == {f"{name}.png" for name in names}
    pixels, mode = load(tmp_path / "one" / "a b.png")
    assert (pixels.shape, mode) == ((17, 17, 3), "RGB")
    assert capsys.readouterr().out == "wrote 11, skipped 0, failed 0\n" * 2


def test_rectangles_are_height_then_width(tmp_path, capsys):
    image = noise(1, 40, 90)
    write(tmp_path / "in" / "a.png", image)
    assert run(tmp_path, "resize", "--size", "20x30") == 0
    means = (image[:, 15:75].reshape(20, 2, 30, 2, 3).astype(int).sum(axis=(1, 3)) + 2) // 4
    assert np.array_equal(load(tmp_path / "out" / "a.png")[0], means)
    assert run(tmp_path, "resize", "--size", "60x90", "--pad", output="padded") == 0
    padded, _ = load(tmp_path / "padded" / "a.png")
    assert np.array_equal(padded[10:50], image) and not padded[:10].any() and not padded[50:].any()
    assert run(tmp_path, "resize", "--size", 20, output="square") == 0
    assert run(tmp_path, "resize", "--size", "20x20", output="square") == 0  # the same command
    assert capsys.readouterr().out.splitlines()[-1] == "wrote 0, skipped 1, failed 0"


def test_crop_does_not_scale_and_names_smaller_images(tmp_path, capsys):
    image = noise(1, 9, 14)
    write(tmp_path / "in" / "a.png", image)
    write(tmp_path / "in" / "low.png", noise(2, 5, 14))
    write(tmp_path / "in" / "narrow.png", noise(2, 9, 9))
    assert run(tmp_path, "crop", "--size", "6x11") == 1
    assert np.array_equal(load(tmp_path / "out" / "a.png")[0], image[1:7, 1:12])
    assert {*contents(tmp_path / "out")} == {"a.png"}
    advice = "smaller than --size 6x11: give a smaller --size, or --operation resize"
    assert capsys.readouterr() == (
        "wrote 1, skipped 0, failed 2\n",
        f"process.py: {tmp_path}/in/low.png is 5 pixels high and 14 wide, {advice}\n"
        f"process.py: {tmp_path}/in/narrow.png is 9 pixels high and 9 wide, {advice}\n")


def test_convert_writes_images_upright_on_white(tmp_path):
    pixels = noise(1, 5, 7)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise makes it upright
    image.save(write(tmp_path / "in" / "turned.png", pixels), exif=exif)
    image.save(tmp_path / "in" / "tiff.tif")
    image.save(tmp_path / "in" / "webp.webp", lossless=True)
    image.save(tmp_path / "in" / "bmp.bmp")
    alpha = np.where(np.arange(7) < 3, 255, 0) * np.ones([5, 1])
    Image.fromarray(np.dstack([pixels, alpha.astype(np.uint8)])).save(tmp_path / "in" / "clear.png")
    assert run(tmp_path, "convert") == 0
    on_white = np.where(alpha[..., None] == 255, pixels, 255)
    expected = {"turned": np.rot90(pixels, -1), "tiff": pixels, "webp": pixels, "bmp": pixels,
                "clear": on_white}
    assert {*contents(tmp_path / "out")} == {f"{name}.png" for name in expected}
    for name, result in expected.items():
        converted, mode = load(tmp_path / "out" / f"{name}.png")
        assert mode == "RGB" and np.array_equal(converted, result), name
        with Image.open(tmp_path / "out" / f"{name}.png") as file:
            assert file.format == "PNG" and not file.getexif()


def test_random_holes_are_the_same_in_every_run(tmp_path, capsys):
    for number in range(12):
        write(tmp_path / "in" / f"{number}.png", noise(number, 40, 61) // 2)
    flags = ["blank", "--mask", "random"]
    assert run(tmp_path, *flags, output="one") == 0
    assert run(tmp_path, *flags, output="two", workers=2) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    for number in range(11):  # what else the folder holds does not matter
        (tmp_path / "in" / f"{number}.png").unlink()
    assert run(tmp_path, *flags, output="alone") == 0
    assert (tmp_path / "alone" / "11.png").read_bytes() == \
        (tmp_path / "one" / "11.png").read_bytes()
    assert run(tmp_path, *flags, "--seed", 1, output="other") == 0
    assert capsys.readouterr().err == ""
    masks = [(load(tmp_path / name / "11.png")[0] == 255).all(axis=2) for name in ("one", "other")]
    for mask in masks:
        rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        assert mask.sum() == len(rows) * len(columns)  # a rectangle
        assert abs(mask.sum() - 0.09 * mask.size) <= len(rows) / 2
    assert (masks[0] != masks[1]).any()
    image, _ = load(tmp_path / "one" / "11.png")
    assert np.array_equal(image[~masks[0]], (noise(11, 40, 61) // 2)[~masks[0]])


@pytest.mark.parametrize("workers", [1, 2])
def test_blended_label_images_are_reported_once(tmp_path, capsys, workers):
    for number in range(9):
        image = label_map(40, 61, number) if number in (3, 5, 8) else noise(number, 40, 61)
        write(tmp_path / "in" / f"{number}.png", image)
    flags = ["resize", "--size", 24]
    assert run(tmp_path, *flags, workers=workers) == 0
    assert capsys.readouterr() == (
        "wrote 9, skipped 0, failed 0\n",
        f"process.py: 3 of 9 images have few colours, such as {tmp_path}/in/3.png with 3, and "
        "these were blended: for label images, give --resample nearest --force\n")
    assert run(tmp_path, *flags, "--resample", "nearest", "--force", workers=workers) == 0
    assert run(tmp_path, *flags, "--resample", "nearest", workers=workers) == 0
    assert capsys.readouterr() == (
        "wrote 9, skipped 0, failed 0\nwrote 0, skipped 9, failed 0\n", "")
    labels, _ = load(tmp_path / "out" / "8.png")
    assert {*map(tuple, labels.reshape(-1, 3))} <= {*map(tuple, label_map(1, 8, 8)[0])}


def test_existing_results_are_skipped_unless_forced(tmp_path, capsys):
    write(tmp_path / "in" / "a.png", noise(1, 5, 7))
    write(tmp_path / "in" / "b.JPG", noise(2, 7, 5))  # PNG content, whatever the ending
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    assert run(tmp_path, "grayscale") == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert capsys.readouterr().out == "wrote 1, skipped 1, failed 0\n"
    assert run(tmp_path, "grayscale", "--force") == 0
    pixels, mode = load(tmp_path / "out" / "a.png")
    assert mode == "L" and np.array_equal(pixels, process.grayscale(noise(1, 5, 7)))
    assert capsys.readouterr().out == "wrote 2, skipped 0, failed 0\n"
    assert set(contents(tmp_path / "out")) == {"a.png", "b.png"}


@pytest.mark.parametrize("first, second, made, asked", [
    (["resize", "--size", 6], ["resize", "--size", 5], "--operation resize --size 6",
     "--operation resize --size 5"),
    (["resize", "--size", 6], ["resize", "--size", 6, "--pad"], "--operation resize --size 6",
     "--operation resize --size 6 --pad"),
    (["resize", "--size", "6"], ["resize", "--size", "6x5"], "--operation resize --size 6",
     "--operation resize --size 6x5"),
    (["resize", "--size", 6], ["resize", "--size", 6, "--resample", "nearest"],
     "--operation resize --size 6", "--operation resize --size 6 --resample nearest"),
    (["crop", "--size", 6], ["crop", "--size", "6x5"], "--operation crop --size 6",
     "--operation crop --size 6x5"),
    (["blank"], ["grayscale"], "--operation blank", "--operation grayscale"),
    (["blank"], ["blank", "--mask", "random"], "--operation blank",
     "--operation blank --mask random"),
    (["blank", "--mask", "random"], ["blank", "--mask", "random", "--seed", 3],
     "--mask random --operation blank", "--operation blank --mask random --seed 3"),
    (["edges"], ["edges", "--edge_sigma", 1], "--edge_sigma 2.0", "--edge_sigma 1.0"),
    (["edges"], ["edges", "--edge_min_length", 9], "--edge_min_length 10", "--edge_min_length 9")])
def test_results_of_other_options_are_not_skipped_in_silence(tmp_path, capsys, first, second, made,
                                                             asked):
    for seed in range(3):
        write(tmp_path / "in" / f"{seed}.png", noise(seed, 8, 9))
    assert run(tmp_path, *first) == 0
    assert run(tmp_path, *first) == 0  # its own are
    assert capsys.readouterr() == (
        "wrote 3, skipped 0, failed 0\nwrote 0, skipped 3, failed 0\n", "")
    write(tmp_path / "in" / "3.png", noise(3, 8, 9))
    before = contents(tmp_path / "out")
    assert run(tmp_path, *second) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and contents(tmp_path / "out") == before
    start, both, advice = re.fullmatch(
        r"process\.py: error: (.*), were made with (.*): (give --force .*)\n", streams.err).groups()
    assert start == f"3 of 3 results in --output_dir {tmp_path}/out, such as {tmp_path}/out/0.png"
    assert advice == "give --force to make them again, or another --output_dir"
    assert made in both.split(", this command has ")[0]
    assert asked in both.split(", this command has ")[1]
    assert run(tmp_path, *second, "--force") == 0
    assert run(tmp_path, *second, output="clean") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_results_of_an_interrupted_run_with_other_options_are_counted(tmp_path, capsys):
    for seed in range(5):
        write(tmp_path / "in" / f"{seed}.png", noise(seed, 8, 9))
    assert run(tmp_path, "resize", "--size", 6) == 0
    assert run(tmp_path, "resize", "--size", 5, output="new") == 0
    for name in ("0.png", "1.png"):  # --force was interrupted
        (tmp_path / "new" / name).replace(tmp_path / "out" / name)
    capsys.readouterr()
    assert run(tmp_path, "resize", "--size", 5) == 2
    assert "3 of 5 results in " in capsys.readouterr().err
    assert run(tmp_path, "resize", "--size", 6) == 2
    assert f"2 of 5 results in --output_dir {tmp_path}/out, such as {tmp_path}/out/0.png, were " \
        "made with --operation resize --size 5" in capsys.readouterr().err


def set_time(path, seconds):
    """Moves a file's time of modification away from now."""
    stamp = time.time() + seconds
    os.utime(path, (stamp, stamp))


@pytest.mark.parametrize("image, seconds, is_refused", [
    (noise(9, 5, 7) // 99, 10, True), (noise(9, 5, 7) // 99, -10, True),  # of other sizes in bytes
    (255 - noise(1, 5, 7), 10, True), (noise(1, 5, 7), 10, False), (noise(1, 5, 7), -10, False)])
@pytest.mark.parametrize("folder", ["in", "b"])
def test_results_of_images_that_changed_are_not_skipped_in_silence(tmp_path, capsys, image, seconds,
                                                                  is_refused, folder):
    """A newer file of the same contents, as after a copy, is the same."""
    for name in ("in", "b"):
        write(tmp_path / name / "a.png", noise(1, 5, 7))
        write(tmp_path / name / "c.png", noise(2, 5, 7))
    flags = ["combine", "--b_dir", tmp_path / "b"]
    assert run(tmp_path, *flags) == 0
    size = (tmp_path / folder / "a.png").stat().st_size
    changed = write(tmp_path / folder / "a.png", image)
    assert (changed.stat().st_size == size) == (image.max() > 2)
    set_time(changed, seconds)
    capsys.readouterr()
    assert run(tmp_path, *flags) == (2 if is_refused else 0)
    assert capsys.readouterr().err == is_refused * (
        f"process.py: error: 1 of 2 results in --output_dir {tmp_path}/out, such as "
        f"{tmp_path}/out/a.png, were made of other files, or of files that have changed: give "
        "--force to make them again, or remove them\n")
    (tmp_path / "out" / "a.png").unlink()
    assert run(tmp_path, *flags) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote 1, skipped 1, failed 0"


def test_results_of_older_versions_are_kept_and_that_is_said(tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.png", noise(1, 5, 7))
    write(tmp_path / "out" / "a.png", noise(1, 256, 256))
    before = (tmp_path / "out" / "a.png").read_bytes()
    assert run(tmp_path, "resize") == 0
    assert capsys.readouterr() == (
        "wrote 1, skipped 1, failed 0\n",
        f"process.py: 1 of 1 results in --output_dir {tmp_path}/out do not say how they were made "
        "and are kept: if this command would make others, give --force\n")
    assert (tmp_path / "out" / "a.png").read_bytes() == before


@pytest.mark.parametrize("operation, flags, recorded", [
    ("resize", ["--size", 5], {"pad": False, "size": 5}), ("grayscale", [], {}),
    ("blank", ["--mask", "center"], {}), ("blank", ["--seed", 3], {}),
    ("edges", [], {"edge_min_length": 10, "edge_sigma": 2.0}), ("combine", ["--b_dir", "in"], {}),
    ("combine", ["--b_dir", "in", "--resize_b", "--resample", "nearest"], {})])
def test_what_an_older_version_made_alike_is_recorded_alike(tmp_path, monkeypatch, operation, flags,
                                                            recorded):
    """The records are those of the version before crop, so its results count as made alike."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in" / "a.png", noise(1, 9, 14))
    assert run(tmp_path, operation, *flags) == 0
    assert provenance.read_record(tmp_path / "out" / "a.png")["options"] == {
        "operation": operation, **recorded}


def test_records_depend_on_options_and_contents_alone(tmp_path):
    path = write(tmp_path / "in" / "a.png", noise(1, 5, 7))
    assert run(tmp_path, "blank") == 0
    set_time(path, -1000)
    path.rename(tmp_path / "in" / "b.png")
    (tmp_path / "in").rename(tmp_path / "other")
    assert process.main(["--input_dir", str(tmp_path / "other"), "--output_dir",
                         str(tmp_path / "again"), "--operation", "blank"]) == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "again" / "b.png").read_bytes()


def test_a_set_that_was_split_grows_through_the_same_commands(tmp_path, capsys):
    """Results that split.py has moved are not made twice; new images join them."""
    def make_pairs(*flags):
        assert run(tmp_path, "blank", *flags, output="b") == 0
        assert run(tmp_path, "combine", "--b_dir", tmp_path / "b", *flags) == 0
        return capsys.readouterr().out.splitlines()[-1]
    for number in range(1, 11):
        write(tmp_path / "in" / f"{number}.png", noise(number, 5, 7))
    assert make_pairs() == "wrote 10, skipped 0, failed 0"
    assert split.main(["--dir", str(tmp_path / "out")]) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("out/*/*")}
    for number in range(11, 16):
        write(tmp_path / "in" / f"{number}.png", noise(number, 5, 7))
    assert make_pairs() == "wrote 5, skipped 10, failed 0"
    assert split.main(["--dir", str(tmp_path / "out")]) == 0
    assert capsys.readouterr() == ("train 12, val 3, test 0 (moved 5)\n", "")
    after = {path: path.read_bytes() for path in tmp_path.glob("out/*/*")}
    assert before.items() <= after.items() and len(after) == 15
    assert make_pairs("--force") == "wrote 15, skipped 0, failed 0"  # each where it is
    assert {path: path.read_bytes() for path in tmp_path.glob("out/*/*")} == after
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "val"}


def test_images_of_other_origin_in_the_parts_are_no_results(tmp_path, capsys):
    """Also those that are read; --force replaces none of them."""
    path = write(tmp_path / "in" / "1.png", noise(1, 5, 7))
    (tmp_path / "out" / "train").mkdir(parents=True)
    mine = write(tmp_path / "out" / "train" / "1.png", noise(2, 5, 7))
    assert run(tmp_path, "blank", "--force") == 0
    assert np.array_equal(load(mine)[0], noise(2, 5, 7))
    path = (tmp_path / "out" / "1.png").replace(mine)  # with a record
    before = path.read_bytes()
    assert process.main(["--input_dir", str(mine.parent), "--output_dir", str(tmp_path / "out"),
                         "--operation", "grayscale", "--force"]) == 0
    assert path.read_bytes() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "1.png"}


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_files_are_reported_and_the_others_done(tmp_path, capsys, workers):
    write(tmp_path / "in" / "a.png", noise(1, 5, 7))
    write(tmp_path / "in" / "z", noise(2, 5, 7))  # by content
    (tmp_path / "in" / "b.JPeG").write_bytes(b"no image")
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:60])
    (tmp_path / "in" / "notes.txt").write_bytes(b"no image either")
    (tmp_path / "in" / "folder.png").mkdir()
    assert run(tmp_path, "blank", workers=workers) == 1
    streams = capsys.readouterr()
    assert streams.out == "wrote 2, skipped 0, failed 2\n"
    others, *lines = streams.err.splitlines()
    assert others == f"process.py: not used in {tmp_path / 'in'}: 1 .txt"
    assert [line.split(" cannot be read ")[0] for line in lines] == [
        f"process.py: {tmp_path / 'in' / name}" for name in ("b.JPeG", "c.png")]
    assert set(contents(tmp_path / "out")) == {"a.png", "z.png"}


@pytest.mark.parametrize("workers", [1, 2])
def test_deep_images_are_reported_with_their_range(tmp_path, capsys, workers):
    (tmp_path / "in").mkdir()
    for number in range(4):
        depth = (500 + 100 * number + np.mgrid[:5, :7][1]).astype(np.uint16)
        Image.fromarray(depth).save(tmp_path / "in" / f"{number}.png")
    write(tmp_path / "in" / "9.png", noise(1, 5, 7))
    assert run(tmp_path, "edges", workers=workers) == 0
    assert capsys.readouterr().err == (
        "process.py: 4 of 5 images have 16 bits and are read as 8; their values 500 to 806 become "
        "1 to 3: scale the values to 0..65535 first, or most of what differs is lost\n")


def test_any_error_of_one_image_is_its_own(tmp_path, capsys, monkeypatch):
    """Whatever a library raises while it reads one."""
    for name in ("a", "b", "c"):
        write(tmp_path / "in" / f"{name}.png", noise(1, 5, 7))
    real, calls = process.flatten, []

    def flatten(image):
        """As Pillow's EXIF code did."""
        calls.append(image)
        if len(calls) == 2:
            raise AttributeError("'tuple' object has no attribute 'denominator'")
        return real(image)
    monkeypatch.setattr(process, "flatten", flatten)
    assert run(tmp_path, "blank", workers=1) == 1
    streams = capsys.readouterr()
    assert streams.out == "wrote 2, skipped 0, failed 1\n"
    assert streams.err == (f"process.py: {tmp_path / 'in' / 'b.png'} cannot be read ('tuple' object "
                           "has no attribute 'denominator'): repair or remove it\n")


def test_combine_matches_stems_and_reports_the_rest(tmp_path, capsys):
    a = {stem: noise(seed, 6, 9) for seed, stem in enumerate(["1", "2", "3", "4"])}
    for stem, image in a.items():
        write(tmp_path / "in" / f"{stem}.JPG", image)
    write(tmp_path / "b" / "1.png", noise(11, 6, 9))
    write(tmp_path / "b" / "2.jpeg", noise(12, 6, 9))
    write(tmp_path / "b" / "3.png", noise(13, 9, 6))
    write(tmp_path / "b" / "5.png", noise(15, 6, 9))
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b") == 1
    streams = capsys.readouterr()
    assert streams.out == "wrote 2, skipped 0, failed 3\n"
    lonely_a, lonely_b, sizes = streams.err.splitlines()
    assert f"{tmp_path / 'in' / '4.JPG'} has no partner in {tmp_path / 'b'}" in lonely_a
    assert f"{tmp_path / 'b' / '5.png'} has no partner in {tmp_path / 'in'}" in lonely_b
    assert sizes == f"process.py: {tmp_path}/in/3.JPG and {tmp_path}/b/3.png: 9x6 and 6x9 differ " \
        "in size: give --resize_b to scale the right one, or resize both"
    assert set(contents(tmp_path / "out")) == {"1.png", "2.png"}
    pixels, _ = load(tmp_path / "out" / "2.png")
    assert np.array_equal(pixels, np.concatenate([a["2"], noise(12, 6, 9)], axis=1))


def write_pairs(tmp_path, sizes):
    """Pairs of noise and of label images of four colours, by name -> (height, width) of the left
    one and of the right one."""
    for number, (name, (left, right)) in enumerate(sizes.items()):
        write(tmp_path / "in" / f"{name}.png", noise(number, *left))
        write(tmp_path / "b" / f"{name}.png", label_map(*right, 4))


def test_combine_scales_right_images_to_the_left_ones(tmp_path, capsys):
    write_pairs(tmp_path, {"equal": [(40, 60), (40, 60)], "larger": [(40, 60), (52, 78)],
                           "other": [(40, 60), (50, 50)], "rounded": [(37, 61), (74, 121)],
                           "smaller": [(40, 60), (20, 30)]})
    flags = ["combine", "--b_dir", tmp_path / "b", "--resize_b"]
    assert run(tmp_path, *flags) == 0
    for name in ("equal", "larger", "other", "rounded", "smaller"):
        left, right = (load(tmp_path / folder / f"{name}.png")[0] for folder in ("in", "b"))
        pair, _ = load(tmp_path / "out" / f"{name}.png")
        scaled = process.scale(right, Size(*left.shape[:2]))
        assert np.array_equal(pair, np.concatenate([left, scaled], axis=1))
    blended, stretched = capsys.readouterr().err.splitlines()
    assert blended == (
        f"process.py: 4 of 5 images have few colours, such as {tmp_path}/b/larger.png with 4, and "
        "these were blended: for label images, give --resample nearest --force")
    assert stretched == (
        "process.py: 1 of 5 right images have another aspect ratio than the left ones, such as "
        f"{tmp_path}/b/other.png (50x50, left 60x40), and were stretched: to crop or pad them "
        "instead, resize both folders in the same way first")
    assert run(tmp_path, *flags, "--resample", "nearest", "--force") == 0
    assert capsys.readouterr().err == f"{stretched}\n"
    pair, _ = load(tmp_path / "out" / "larger.png")
    expected = process.scale(label_map(52, 78, 4), Size(40, 60), "nearest")
    assert np.array_equal(pair[:, 60:], expected)


def test_pairs_of_equal_size_need_not_be_made_again_for_resize_b(tmp_path, capsys):
    """As the error of the others advises it."""
    write_pairs(tmp_path, {"equal": [(9, 14), (9, 14)], "other": [(9, 14), (18, 28)]})
    flags = ["combine", "--b_dir", tmp_path / "b"]
    assert run(tmp_path, *flags) == 1
    assert run(tmp_path, *flags, "--resize_b", "--resample", "nearest") == 0
    assert capsys.readouterr().out == (
        "wrote 1, skipped 0, failed 1\nwrote 1, skipped 1, failed 0\n")
    for others in ([], ["--resize_b"]):
        assert run(tmp_path, *flags, *others) == 2
        assert capsys.readouterr().err.startswith(
            f"process.py: error: 1 of 2 results in --output_dir {tmp_path}/out, such as "
            f"{tmp_path}/out/other.png, were made with --operation combine --resample nearest "
            f"--resize_b, this command has {' '.join(['--operation combine', *others])}: ")
    assert run(tmp_path, *flags, "--resize_b", "--force") == 0
    assert run(tmp_path, *flags, "--resize_b") == 0
    assert run(tmp_path, *flags, "--resize_b", output="clean") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


@pytest.mark.parametrize("left, right, expected", [
    ((40, 60), (20, 30), True), ((375, 1242), (188, 621), True), ((375, 1242), (187, 621), True),
    ((375, 1242), (185, 621), False), ((188, 621), (375, 1242), True), ((40, 60), (60, 40), False),
    ((256, 256), (480, 640), False), ((480, 640), (240, 322), False), ((5, 7), (5, 7), True)])
def test_one_aspect_ratio_but_for_rounding(left, right, expected):
    images = [np.zeros([*size, 3], np.uint8) for size in (left, right)]
    assert process.have_one_aspect(*images) == expected == process.have_one_aspect(*images[::-1])


def test_combine_matches_macos_names_and_names_a_near_miss(tmp_path, capsys):
    for folder, form in (("in", "NFC"), ("b", "NFD")):
        write(tmp_path / folder / (unicodedata.normalize(form, "Fotó") + ".png"), noise(1, 5, 7))
    write(tmp_path / "in" / "A.png", noise(2, 5, 7))
    write(tmp_path / "b" / "a.png", noise(3, 5, 7))
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b") == 1
    streams = capsys.readouterr()
    assert streams.out == "wrote 1, skipped 0, failed 2\n"
    assert streams.err == (
        f"process.py: {tmp_path}/in/A.png has no partner in {tmp_path}/b: a.png differs only in "
        "case, rename one\n"
        f"process.py: {tmp_path}/b/a.png has no partner in {tmp_path}/in: A.png differs only in "
        "case, rename one\n")
    assert {*contents(tmp_path / "out")} == {unicodedata.normalize("NFC", "Fotó.png")}


def test_stems_that_collide_keep_whole_names_through_all_operations(tmp_path, capsys):
    names = ["shot.0000", "shot.0001", "a.png", "a.jpg", "b.jpg"]
    for seed, name in enumerate(names):
        write(tmp_path / "in" / name, noise(seed, 5, 7))
    assert run(tmp_path, "blank", output="b") == 0
    assert {*contents(tmp_path / "b")} == {"shot.0000.png", "shot.0001.png", "a.png.png",
                                           "a.jpg.png", "b.png"}
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b") == 0
    assert capsys.readouterr().out == "wrote 5, skipped 0, failed 0\n" * 2
    for seed, result in enumerate(["shot.0000", "shot.0001", "a.png", "a.jpg", "b"]):
        pixels, _ = load(tmp_path / "out" / f"{result}.png")
        image = noise(seed, 5, 7)
        assert np.array_equal(pixels, process.combine(image, blank_center(image)))


def test_a_result_from_before_a_stem_was_shared_is_named(tmp_path, capsys):
    write(tmp_path / "in" / "a.png", noise(1, 5, 7))
    assert run(tmp_path, "blank") == 0
    write(tmp_path / "in" / "a.jpg", noise(2, 5, 7))
    capsys.readouterr()
    assert run(tmp_path, "blank") == 0
    assert capsys.readouterr() == (
        "wrote 2, skipped 0, failed 0\n",
        f"process.py: {tmp_path}/out/a.png is of an image that shares its stem with others now, so "
        "its result has another name: remove this one\n")
    assert {*contents(tmp_path / "out")} == {"a.png", "a.png.png", "a.jpg.png"}


@pytest.mark.parametrize("flags, words", [
    (["--operation", "turn"], "--operation: turn: give "),
    (["--size", "0"], "--size: 0: give a whole number of at least 1"),
    (["--size", "32769"], "--size: 32769: give a whole number of at least 1 and at most 32768"),
    (["--size", "64x"], "--size: 64x: give N, or HEIGHTxWIDTH"),
    (["--size", "2.5"], "2.5: give a whole number"),
    (["--workers", "0"], "--workers: 0"),
    (["--edge_sigma", "nan"], "--edge_sigma: nan"),
    (["--operation", "combine"], "--b_dir is missing: combine needs the folder of the right"),
    (["--operation", "stack"], "--b_dir is missing: stack needs the folder of the channels to"),
    (["--ignore", "black"], "--ignore: black: give a number, or nan"),
    (["--operation", "convert", "--sample_format", "nyu"], "--sample_format: nyu: give standard, "),
    (["--operation", "combine", "--b_dir", "nowhere"], "--b_dir nowhere is not a folder"),
    (["--input_dir", "nowhere"], "--input_dir nowhere is not a folder: check the path"),
    (["--input_dir", "IN"], "--input_dir IN is not a folder: in differs only in case, give that"),
    (["--input_dir", "empty"], "--input_dir empty contains no JPEG, PNG"),
    (["--output_dir", "in/../in"], "is --input_dir too"),
    (["--output_dir", "in/a.png"], "--output_dir in/a.png cannot be created"),
])
def test_user_errors_are_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in" / "a.png", noise(1, 3, 5))
    (tmp_path / "empty").mkdir()
    start = ["--input_dir", "in", "--output_dir", "out", "--operation", "resize"]
    assert process.main(start + flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("process.py: error: ") and error.count("\n") == 1
    assert words in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("operation, flags, expected", [
    ("edges", ["--pad"], "--pad: not used by --operation edges"),
    ("blank", ["--size", 256, "--edge_sigma", 1, "--b_dir", "nowhere"],
     "--size, --b_dir and --edge_sigma: not used by --operation blank"),
    ("resize", ["--edge_min_length", 9, "--size", 5],
     "--edge_min_length: not used by --operation resize"),
    ("crop", ["--pad", "--size", 5], "--pad: not used by --operation crop"),
    ("crop", ["--ignore", 0, "--size", 5], "--ignore: not used by --operation crop"),
    ("resize", ["--ignore", 0, "--resample", "nearest", "--size", 5],
     "--ignore: --resample nearest blends nothing"),
    ("resize", ["--ignore", 0, "--resample", "nearest", "--pad", "--size", 5], None),
    ("resize", ["--ignore", 0, "--size", 9], None),
    ("grayscale", ["--keep_alpha"], "--keep_alpha: not used by --operation grayscale"),
    ("resize", ["--sample_format", "swapped", "--size", 5],
     "--sample_format: not used by --operation resize"),
    ("convert", ["--size", 5], "--size: not used by --operation convert"),
    ("blank", ["--seed", 3], "--seed: --mask center is the same for every seed"),
    ("blank", ["--seed", 3, "--mask", "random"], None),
    ("resize", ["--seed", 3, "--size", 4], "--seed: not used by --operation resize"),
    ("resize", ["--resize_b", "--size", 4], "--resize_b: not used by --operation resize"),
    ("combine", ["--b_dir", "in", "--resample", "nearest"],
     "--resample: --operation combine scales nothing without --resize_b"),
    ("combine", ["--b_dir", "in", "--resample", "nearest", "--resize_b"], None),
    ("resize", ["--size", 5, "--pad", "--force"], None), ("edges", ["--edge_sigma", 1], None)])
def test_flags_without_effect_are_reported(tmp_path, monkeypatch, capsys, operation, flags,
                                           expected):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in" / "a.png", noise(1, 9, 14))
    assert run(tmp_path, operation, *flags) == 0
    assert capsys.readouterr() == (
        "wrote 1, skipped 0, failed 0\n", expected and f"process.py: ignoring {expected}\n" or "")


def test_affinelayers_commands(tmp_path):
    write(tmp_path / "photos" / "x.png", noise(1, 40, 51))
    (tmp_path / "photos").rename(tmp_path / "original")
    (tmp_path / "photos").mkdir()
    (tmp_path / "original").rename(tmp_path / "photos" / "original")
    for command in (
            "--input_dir photos/original --operation resize --output_dir photos/resized",
            "--input_dir photos/resized --operation blank --output_dir photos/blank",
            "--input_dir photos/resized --b_dir photos/blank --operation combine "
            "--output_dir photos/combined"):
        done = subprocess.run([sys.executable, "-W", "error", ROOT / "tools" / "process.py",
                               *command.split()], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (
            0, "wrote 1, skipped 0, failed 0\n", "")
    combined, _ = load(tmp_path / "photos" / "combined" / "x.png")
    resized, _ = load(tmp_path / "photos" / "resized" / "x.png")
    assert np.array_equal(combined, process.combine(resized, blank_center(resized)))


def test_edges_from_the_command_line_warn_of_nothing(tmp_path):
    image = np.zeros([30, 41, 3], np.uint8)
    image[:, 20:] = 255
    write(tmp_path / "in" / "a.png", image)
    done = subprocess.run([
        sys.executable, "-W", "error::FutureWarning", "-W", "error::DeprecationWarning",
        ROOT / "tools" / "process.py", "--input_dir", "in", "--output_dir", "out",
        "--operation", "edges", "--edge_min_length", "5"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    edges, mode = load(tmp_path / "out" / "a.png")
    assert mode == "L" and np.array_equal(edges, process.find_edges(image, 2.0, 5))


# ---- 16 bits, floating-point values, palettes, channels


def values(seed, *shape, dtype=np.uint16, low=0, high=65536):
    """Random values [height, width, channels] of a type."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def store(path, pixels, palette=None):
    """Writes pixels as `encode_stored` does, and makes the folder. Returns the path."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_stored(pixels, palette))
    return path


def found(path):
    """A file as it stores its pixels: these, its palette or None."""
    image = read_stored(path)
    return image.pixels, image.palette


def test_plain_images_are_written_as_before(tmp_path):
    """To the byte: Pillow's file of RGB with the record as a chunk of text."""
    image = noise(1, 6, 9)
    path = write(tmp_path / "in" / "a.png", image)
    assert run(tmp_path, "convert") == 0
    record = provenance.create_pnginfo({"operation": "convert"}, [path])
    assert (tmp_path / "out" / "a.png").read_bytes() == \
        images.to_bytes(image, pnginfo=record, **process.RUNS)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_other_types_are_averaged_exactly(dtype, channels):
    """Means of blocks by a whole factor; shares of the covered area otherwise."""
    image = values(1, 20, 42, channels, dtype=dtype)
    means = image.astype(float).reshape(5, 4, 14, 3, channels).mean(axis=(1, 3))
    expected = means if dtype == np.float32 else np.floor(means + 0.5)
    result = process.scale(image, Size(5, 14))
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    result = process.scale(image[:3, :2], Size(2, 1))  # of three rows one and a half each
    rows = image[:3, :2].astype(float).mean(axis=1)
    expected = np.stack([2 * rows[0] + rows[1], rows[1] + 2 * rows[2]])[:, np.newaxis] / 3
    assert np.abs(result - expected).max() <= (0.5 if dtype != np.float32 else 0.01)


def test_other_types_grow_within_their_type():
    """Bicubic interpolation overshoots: a step from 0 to 65535 stays in 16 bits."""
    image = np.uint16([[0, 0, 65535, 65535]])[..., np.newaxis]
    result = process.scale(image, Size(1, 16))[0, :, 0]
    assert result.dtype == np.uint16 and result[:5].max() == 0 and result[-5:].min() == 65535
    assert (np.diff(result.astype(int)) >= 0).all() and len({*result}) > 4
    planes = Image.fromarray(np.float32(image[..., 0])).resize((16, 1), Image.Resampling.BICUBIC)
    expected = np.clip(np.asarray(planes)[0], 0, 65535)
    assert np.abs(result - expected).max() <= 0.5
    pixels = noise(1, 5, 6)[..., :2]
    result = process.scale(pixels, Size(9, 11))
    expected = process.scale(np.concatenate([pixels, pixels[..., :1]], axis=2), Size(9, 11))
    assert np.array_equal(result, expected[..., :2])  # each channel as of RGB


def shares(length, size):
    """What each of `size` result pixels takes of each of `length` pixels: covered lengths."""
    borders, pixels = np.arange(size + 1)[:, np.newaxis] * length / size, np.arange(length)
    return np.clip(np.minimum(borders[1:], pixels + 1) - np.maximum(borders[:-1], pixels), 0, 1)


@pytest.mark.parametrize("height, width, size", [
    (8, 6, Size(4, 3)), (9, 7, Size(4, 3)), (13, 5, Size(5, 5)), (6, 6, Size(1, 1))])
def test_missing_values_are_never_blended(height, width, size):
    """The oracle: the mean of the measured ones, weighed by the area that a result covers."""
    image = values(1, height, width, 1, low=1000, high=9000)
    rng = np.random.default_rng(2)
    image[rng.random(image.shape) < 0.6] = 0
    image[:height // 2, :width // 2] = 0  # so that some results have nothing measured
    rows, columns = shares(height, size.height), shares(width, size.width)
    measured = (image[..., 0] > 0).astype(float)
    weight = rows @ measured @ columns.T
    expected = np.where(weight > 1e-9, rows @ (image[..., 0] * measured) @ columns.T
                        / np.maximum(weight, 1e-9), 0)
    result = process.scale(image, size, ignored=np.uint16([0]))[..., 0]
    assert np.abs(result - expected).max() <= 0.5 + 1e-6
    assert ((result == 0) == (weight < 1e-9)).all() and result[result > 0].min() >= 1000
    blended = process.scale(image, size)[..., 0]
    assert ((0 < blended) & (blended < 1000)).any() or size == Size(1, 1)  # without --ignore


def test_missing_values_by_hand():
    """2x2 pixels become one: the mean of what is measured, else the first of the values."""
    image = np.uint16([[0, 500, 7, 0, 900, 100], [0, 300, 0, 7, 100, 100]])[..., np.newaxis]
    result = process.scale(image, Size(1, 3), ignored=np.uint16([7, 0]))
    assert result[0, :, 0].tolist() == [400, 7, 300]
    depth = np.float32([[np.nan, 2.0, np.nan, np.nan], [1.0, 6.0, -1.0, np.nan]])[..., np.newaxis]
    result = process.scale(depth, Size(1, 2), ignored=np.float32([np.nan, -1]))
    assert result[0, 0, 0] == 3 and np.isnan(result[0, 1, 0])
    both = np.dstack([image[..., 0], np.full([2, 6], 9, np.uint16)])  # each channel by itself
    result = process.scale(both, Size(1, 3), ignored=np.uint16([0, 7]))
    assert result[0].tolist() == [[400, 9], [0, 9], [300, 9]]


def test_missing_values_do_not_spread_where_an_image_grows():
    image = values(1, 7, 9, 1, low=1000, high=9000)
    image[2:5, 3:7] = 0
    result = process.scale(image, Size(20, 31), ignored=np.uint16([0]))
    assert result[result > 0].min() >= 1000 and (result == 0).any()
    assert result[7:12, 13:20].max() == 0  # the middle of the hole
    assert ((0 < process.scale(image, Size(20, 31))) & (process.scale(image, Size(20, 31)) < 1000)
            ).any()


def test_depth_keeps_16_bits_in_every_operation(tmp_path, capsys):
    depth = values(1, 40, 60, 1)
    store(tmp_path / "in" / "a.png", depth)
    left, right = depth[:, :, 0], values(2, 40, 60, 1)
    store(tmp_path / "b" / "a.png", right)
    blanked = left.copy()
    blanked[14:26, 21:39] = 65535  # 0.3 of each side
    expected = {
        ("convert",): left, ("grayscale",): left, ("blank",): blanked,
        ("crop", "--size", "10x20"): left[15:25, 20:40],
        ("resize", "--size", "20x30"): np.floor(
            left.reshape(20, 2, 30, 2).astype(float).mean(axis=(1, 3)) + 0.5),
        ("resize", "--size", "20x30", "--resample", "nearest"): left[1::2, 1::2],
        ("resize", "--size", 60, "--pad"): np.pad(left, [(10, 10), (0, 0)]),
        ("combine", "--b_dir", tmp_path / "b"): np.hstack([left, right[..., 0]]),
        ("stack", "--b_dir", tmp_path / "b"): np.dstack([left, right[..., 0]])}
    for number, (flags, result) in enumerate(expected.items()):
        assert run(tmp_path, *flags, output=f"out{number}") == 0
        pixels, palette = found(tmp_path / f"out{number}" / "a.png")
        assert pixels.dtype == np.uint16 and palette is None
        assert np.array_equal(pixels, result if result.ndim == 3 else result[..., None]), flags
    assert capsys.readouterr().err == ""


def test_results_of_8_bits_of_older_versions_are_not_kept_in_silence(tmp_path, capsys):
    path = store(tmp_path / "in" / "a.png", values(1, 8, 12, 1))
    record = provenance.create_pnginfo({"operation": "convert"}, [path])
    (tmp_path / "out").mkdir()
    Image.fromarray(noise(1, 8, 12)).save(tmp_path / "out" / "a.png", pnginfo=record)
    before = contents(tmp_path / "out")
    assert run(tmp_path, "convert") == 2 and contents(tmp_path / "out") == before
    assert capsys.readouterr().err == (
        f"process.py: error: 1 of 1 results in --output_dir {tmp_path}/out, such as {tmp_path}/out/"
        "a.png, have 8 bits of images of 16, as older versions made them: give --force to make "
        "them again, or another --output_dir\n")
    assert run(tmp_path, "convert", "--force") == 0
    assert run(tmp_path, "convert") == 0
    for _ in range(2):
        assert run(tmp_path, "edges", output="edges") == 0  # which have 8 bits anyway


def test_colour_of_16_bits(tmp_path):
    image = values(1, 8, 12, 3)
    store(tmp_path / "in" / "a.png", image)
    for operation in ("convert", "grayscale"):
        assert run(tmp_path, operation, output=operation) == 0
    assert np.array_equal(found(tmp_path / "convert" / "a.png")[0], image)
    grey, _ = found(tmp_path / "grayscale" / "a.png")
    assert grey.shape == (8, 12, 1)
    assert np.abs(grey[..., 0] - image @ np.array([0.299, 0.587, 0.114])).max() <= 0.501


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_lies_on_white_unless_it_is_kept(tmp_path, dtype):
    white = np.iinfo(dtype).max
    image = values(1, 6, 8, 4, dtype=dtype, high=white + 1)
    image[:3, :, 3], image[3:, :, 3] = 0, white
    store(tmp_path / "in" / "a.png", image)
    assert run(tmp_path, "convert") == 0
    on_white = image[..., :3].copy()
    on_white[:3] = white
    assert np.array_equal(found(tmp_path / "out" / "a.png")[0], on_white)
    assert run(tmp_path, "convert", "--keep_alpha", output="kept") == 0
    assert np.array_equal(found(tmp_path / "kept" / "a.png")[0], image)
    assert run(tmp_path, "resize", "--keep_alpha", "--size", "3x4", output="small") == 0
    means = image.reshape(3, 2, 4, 2, 4).astype(float).mean(axis=(1, 3))
    assert np.array_equal(found(tmp_path / "small" / "a.png")[0], np.floor(means + 0.5))


def test_floating_point_values_are_kept_in_npy(tmp_path, capsys):
    depth = np.random.default_rng(1).normal(size=(8, 12, 1)).astype(np.float32)
    store(tmp_path / "in" / "a.npy", depth)
    for operation, flags, expected in (
            ("convert", [], depth), ("crop", ["--size", 4], depth[2:6, 4:8]),
            ("resize", ["--size", "4x6"], depth.reshape(4, 2, 6, 2, 1).mean(axis=(1, 3)))):
        assert run(tmp_path, operation, *flags, output=operation) == 0
        assert {*contents(tmp_path / operation)} == {"a.npy"}
        result = np.load(tmp_path / operation / "a.npy", allow_pickle=False)
        np.testing.assert_allclose(result, expected, atol=1e-6)
        assert run(tmp_path, operation, *flags, output=operation) == 0
    assert capsys.readouterr() == (
        "wrote 1, skipped 0, failed 0\nwrote 0, skipped 1, failed 0\n" * 3, "")
    assert run(tmp_path, "resize", "--size", 5, output="resize") == 2
    assert "a.npy, were made with --operation resize --pad" not in capsys.readouterr().err
    assert run(tmp_path, "blank", output="blank") == 1
    assert capsys.readouterr().err == (
        f"process.py: {tmp_path}/in/a.npy has values of type float32, of which none is white: give "
        "images of 8 or 16 bits\n")
    assert run(tmp_path, "edges", output="edges") == 1
    assert "a.npy cannot be read (its values are floating-point: " in capsys.readouterr().err


def test_a_result_of_the_other_kind_is_replaced(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.float32([[1.5, 2.5]]))
    assert run(tmp_path, "convert") == 0
    assert {*contents(tmp_path / "out")} == {"a.npy"}
    np.save(tmp_path / "in" / "a.npy", np.uint16([[700, 800, 900]]))
    assert run(tmp_path, "convert") == 2
    assert "1 of 1 results in --output_dir" in capsys.readouterr().err
    assert run(tmp_path, "convert", "--force") == 0
    assert {*contents(tmp_path / "out")} == {"a.png"}
    (tmp_path / "out" / "a.npy").write_bytes(b"mine")  # no result
    assert run(tmp_path, "convert", "--force") == 0
    assert (tmp_path / "out" / "a.npy").read_bytes() == b"mine"


def test_ignored_values_from_the_command_line(tmp_path, capsys):
    depth = np.uint16([[0, 500, 7, 0], [0, 300, 0, 7]])[..., np.newaxis]
    store(tmp_path / "in" / "a.png", depth)
    flags = ["resize", "--size", "1x2"]
    assert run(tmp_path, *flags, "--ignore", 0, 7) == 0
    assert found(tmp_path / "out" / "a.png")[0].ravel().tolist() == [400, 0]
    assert provenance.read_record(tmp_path / "out" / "a.png")["options"] == {
        "operation": "resize", "pad": False, "size": "1x2", "ignore": "0 7"}
    assert run(tmp_path, *flags, "--ignore", "0.0", "7") == 0  # the same command
    assert capsys.readouterr().out == (
        "wrote 1, skipped 0, failed 0\nwrote 0, skipped 1, failed 0\n")
    assert run(tmp_path, *flags) == 2
    assert "were made with --ignore 0 7 --operation resize" in capsys.readouterr().err
    assert run(tmp_path, "resize", "--size", 4, "--pad", "--ignore", 7, 0, output="padded") == 0
    padded, _ = found(tmp_path / "padded" / "a.png")
    assert (padded[[0, 3]] == 7).all() and padded[1:3, :, 0].tolist() == [[7, 500, 7, 7], [7, 300, 7, 7]]
    assert run(tmp_path, "resize", "--size", 4, "--pad", "--ignore", 7, output="seven") == 0
    padded, _ = found(tmp_path / "seven" / "a.png")
    assert (padded[[0, 3]] == 7).all() and np.array_equal(padded[1:3], depth)
    for text in ("-1", "0.5", "70000", "nan"):
        assert run(tmp_path, *flags, "--ignore", text, output="none") == 1
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"process.py: {tmp_path}/in/a.png has values of type uint16, of which none is {text}: "
            "give --ignore values that it may have")


PALETTE = np.uint8([[10, 20, 30], [0, 0, 0], [200, 0, 0], [0, 200, 0]])


def label_indices(height, width):
    """Blocks of four classes as indices: uint8 [height, width, 1]."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows // 3 + columns // 5) % 4).astype(np.uint8)[..., np.newaxis]


def test_palettes_are_kept_where_colours_are(tmp_path, capsys):
    indices = label_indices(20, 30)
    store(tmp_path / "in" / "a.png", indices, PALETTE)
    store(tmp_path / "b" / "a.png", indices[::-1], PALETTE)
    blanked = indices.copy()
    blanked[7:13, 10:19] = 4  # white is new
    white = np.concatenate([PALETTE, [[255] * 3]])
    expected = {
        ("convert",): (indices, PALETTE), ("crop", "--size", 10): (indices[5:15, 10:20], PALETTE),
        ("resize", "--size", "10x15", "--resample", "nearest"): (indices[1::2, 1::2], PALETTE),
        ("resize", "--size", 30, "--pad", "--resample", "nearest"): (
            np.pad(indices, [(5, 5), (0, 0), (0, 0)], constant_values=1), PALETTE),  # black
        ("blank",): (blanked, white),
        ("combine", "--b_dir", tmp_path / "b"): (np.hstack([indices, indices[::-1]]), PALETTE)}
    for number, (flags, (pixels, palette)) in enumerate(expected.items()):
        assert run(tmp_path, *flags, output=f"out{number}") == 0
        result, colours = found(tmp_path / f"out{number}" / "a.png")
        assert np.array_equal(result, pixels) and np.array_equal(colours, palette), flags
    assert capsys.readouterr().err == ""


def test_palettes_become_rgb_where_colours_are_mixed(tmp_path, capsys):
    indices = label_indices(20, 30)
    store(tmp_path / "in" / "a.png", indices, PALETTE)
    rgb = PALETTE[indices[..., 0]]
    assert run(tmp_path, "resize", "--size", "7x10") == 0
    assert np.array_equal(found(tmp_path / "out" / "a.png")[0],
                          process.scale(process.crop_to_aspect(rgb, Size(7, 10)), Size(7, 10)))
    assert "1 of 1 images have few colours, such as " in capsys.readouterr().err
    store(tmp_path / "b" / "a.png", indices, PALETTE[::-1])
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b", output="pairs") == 0
    pixels, palette = found(tmp_path / "pairs" / "a.png")
    assert palette is None
    assert np.array_equal(pixels, np.hstack([rgb, PALETTE[::-1][indices[..., 0]]]))
    full = noise(1, 1, 256)[0] // 2 + 1
    store(tmp_path / "full" / "a.png", indices, full)
    (tmp_path / "in" / "a.png").write_bytes((tmp_path / "full" / "a.png").read_bytes())
    assert run(tmp_path, "blank", output="holes") == 0
    pixels, palette = found(tmp_path / "holes" / "a.png")
    assert palette is None and np.array_equal(pixels, blank_center(full[indices[..., 0]]))


def test_labels_of_16_bits_that_were_blended_are_reported(tmp_path, capsys):
    store(tmp_path / "in" / "a.png", label_indices(40, 60).astype(np.uint16) * 300)
    assert run(tmp_path, "resize", "--size", "23x31") == 0
    assert capsys.readouterr().err == (
        f"process.py: 1 of 1 images have few colours, such as {tmp_path}/in/a.png with 4, and "
        "these were blended: for label images, give --resample nearest --force\n")
    assert run(tmp_path, "resize", "--size", "23x31", "--ignore", 0, "--force") == 0
    assert capsys.readouterr().err == ""  # measurements


def test_combine_of_photo_and_depth_names_the_way_that_works(tmp_path, capsys):
    """Before anything is written; a single pair of another type fails alone."""
    write(tmp_path / "in" / "1.jpg", noise(1, 4, 6))
    store(tmp_path / "b" / "1.png", values(1, 4, 6, 1))
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b") == 2
    assert not (tmp_path / "out").exists()
    text = (f"process.py: {{}}{tmp_path}/in/{{}}.jpg is 8-bit RGB and {tmp_path}/b/{{}}.png 16-bit "
            "grey, which one file cannot hold: keep the two folders and train by python pix2pix.py "
            f"--mode train --a_dir {tmp_path}/in --b_dir {tmp_path}/b\n")
    assert capsys.readouterr().err == text.format("error: ", 1, 1)
    write(tmp_path / "in" / "0.jpg", noise(1, 4, 6))
    write(tmp_path / "b" / "0.png", noise(2, 4, 6))
    assert run(tmp_path, "combine", "--b_dir", tmp_path / "b") == 1
    assert capsys.readouterr() == ("wrote 1, skipped 0, failed 1\n", text.format("", 1, 1))


def test_stack_appends_channels(tmp_path, capsys):
    photo, mask, depth = noise(1, 4, 6), noise(2, 4, 6)[..., :1], values(3, 4, 6, 1)
    floats = np.random.default_rng(1).normal(size=(4, 6, 2)).astype(np.float32)
    cases = {"photo and mask": (photo, mask, "png"), "two grey": (mask, mask[::-1], "png"),
             "four and one": (np.dstack([photo, mask]), mask, "npy"),
             "two of 16 bits": (depth, depth[::-1], "png"), "floats": (floats, floats, "npy"),
             "colour of 16 bits": (values(4, 4, 6, 3), depth, "png")}
    for name, (first, second, suffix) in cases.items():
        for folder, pixels in (("in", first), ("b", second)):
            for path in (tmp_path / folder).glob("*"):
                path.unlink()
            ending = "npy" if pixels.dtype == np.float32 else "png"
            store(tmp_path / folder / f"1.{ending}", pixels)
        assert run(tmp_path, "stack", "--b_dir", tmp_path / "b", output=name) == 0
        assert {*contents(tmp_path / name)} == {f"1.{suffix}"}
        result, _ = found(tmp_path / name / f"1.{suffix}")
        assert result.dtype == first.dtype and np.array_equal(result, np.dstack([first, second]))
        assert provenance.read_record(tmp_path / name / f"1.{suffix}")["options"] == {
            "operation": "stack"}
        assert run(tmp_path, "stack", "--b_dir", tmp_path / "b", output=name) == 0
    assert capsys.readouterr() == (
        "wrote 1, skipped 0, failed 0\nwrote 0, skipped 1, failed 0\n" * len(cases), "")


def test_stack_of_a_palette_and_of_grey_that_is_stored_as_rgb(tmp_path, capsys):
    """A palette of greys is one channel, of colours three."""
    photo, indices = noise(1, 20, 30), label_indices(20, 30)
    write(tmp_path / "in" / "1.png", photo)
    greys = np.repeat(np.uint8([[0], [90], [170], [255]]), 3, axis=1)
    for number, (palette, count) in enumerate([(greys, 1), (PALETTE, 3)]):
        store(tmp_path / "b" / "1.png", indices, palette)
        assert run(tmp_path, "stack", "--b_dir", tmp_path / "b", output=f"out{number}") == 0
        result, _ = found(next((tmp_path / f"out{number}").iterdir()))
        assert np.array_equal(result, np.dstack([photo, palette[indices[..., 0]][..., :count]]))
    assert capsys.readouterr().err == ""
    write(tmp_path / "b" / "1.png", np.repeat(photo[..., :1], 3, axis=2))
    assert run(tmp_path, "stack", "--b_dir", tmp_path / "b", output="six") == 0
    assert found(tmp_path / "six" / "1.npy")[0].shape == (20, 30, 6)
    assert capsys.readouterr().err == (
        f"process.py: 1 of 1 results have an image of three equal channels, such as {tmp_path}/b/"
        "1.png: --operation grayscale makes one channel of it\n")


def test_stack_refuses_other_types_and_sizes(tmp_path, capsys):
    write(tmp_path / "in" / "1.png", noise(1, 4, 6))
    store(tmp_path / "b" / "1.png", values(1, 4, 6, 1))
    assert run(tmp_path, "stack", "--b_dir", tmp_path / "b") == 2
    assert capsys.readouterr().err == (
        f"process.py: error: {tmp_path}/in/1.png is 8-bit RGB and {tmp_path}/b/1.png 16-bit grey, "
        "which one file cannot hold: keep the two folders and train by python pix2pix.py --mode "
        f"train --a_dir {tmp_path}/in --a_dir {tmp_path}/b --b_dir TARGETS\n")
    write(tmp_path / "b" / "1.png", noise(1, 6, 4))
    assert run(tmp_path, "stack", "--b_dir", tmp_path / "b") == 1
    assert capsys.readouterr().err == (
        f"process.py: {tmp_path}/in/1.png and {tmp_path}/b/1.png: 6x4 and 4x6 differ in size: "
        "resize both\n")


def test_files_that_store_16_bits_otherwise_are_converted(tmp_path, capsys):
    """Refused with the command that reads them, which then makes what was meant."""
    far = (2000 + np.add.outer(np.arange(30), 7 * np.arange(40))).astype(np.uint16)
    far[9:12] = 8100 + 5 * np.arange(40)  # beyond 8191 too
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pgm").write_bytes(b"P5 40 30 65535\n" + far.astype("<u2").tobytes())
    assert run(tmp_path, "convert") == 1
    assert "a.pgm cannot be read (its 16-bit samples look little-endian, as in NYU Depth's raw " \
        "files, where the format has them big-endian: convert the folder first by tools/process.py " \
        "--operation convert --sample_format swapped, or " in capsys.readouterr().err
    assert run(tmp_path, "convert", "--sample_format", "swapped") == 0
    assert np.array_equal(found(tmp_path / "out" / "a.png")[0][..., 0], far)
    (tmp_path / "in" / "a.pgm").unlink()
    store(tmp_path / "in" / "a.png", ((far << 3) | (far >> 13))[..., np.newaxis])
    assert run(tmp_path, "resize", "--size", 8, output="small") == 1
    assert "a.png cannot be read (its values look rotated by 3 bits, as SUN RGB-D stores " \
        "millimetres: convert the folder first by tools/process.py --operation convert " \
        "--sample_format rotated, or by standard if" in capsys.readouterr().err
    assert run(tmp_path, "convert", "--sample_format", "rotated", output="right") == 0
    assert np.array_equal(found(tmp_path / "right" / "a.png")[0][..., 0], far)
    store(tmp_path / "in" / "a.png", (far % 8000 << 3)[..., np.newaxis])
    capsys.readouterr()
    assert run(tmp_path, "resize", "--size", 8, output="near") == 0
    assert capsys.readouterr().err == (
        f"process.py: 1 of 1 images have only multiples of 8, such as {tmp_path}/in/a.png: if they "
        "are SUN RGB-D's, whose bits are rotated by 3, convert the folder first with --operation "
        "convert --sample_format rotated\n")
    assert run(tmp_path, "convert", "--sample_format", "standard", output="same") == 0
    assert capsys.readouterr().err == ""


# ---- interrupted, twice at once, strange files


def flags_of(tmp_path, *more):
    """The command that resizes tmp_path/in to tmp_path/out in two processes."""
    return ["process.py", "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "out",
            "--operation", "resize", "--workers", 2, *more]


@pytest.mark.parametrize("workers, number, code", [
    (1, signal.SIGINT, 130), (2, signal.SIGINT, 130), (2, signal.SIGTERM, 143),
    (2, signal.SIGKILL, -9)])
def test_signals_end_it_quietly_with_its_workers(tmp_path, workers, number, code):
    source = write(tmp_path / "in" / "0.png", noise(1, 900, 900))
    for name in range(1, 150):
        os.link(source, tmp_path / "in" / f"{name}.png")
    tool = killing.start(*flags_of(tmp_path, "--workers", workers))
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("out/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    (os.killpg if number == signal.SIGINT else os.kill)(tool.pid, number)
    output, errors = killing.wait_for_all(tool)
    assert (output, tool.returncode) == ("", code)
    assert errors == "" or code == -9  # Python's own resource tracker
    assert 0 < len(list(tmp_path.glob("out/*.png"))) < 150


def test_leftovers_of_a_killed_run_are_removed_unless_another_is_running(tmp_path):
    fcntl = importlib.import_module("fcntl")
    write(tmp_path / "in" / "a.png", noise(1, 5, 7))
    leftover = write(tmp_path / "out" / ".a\n.png.12.tmp", noise(2, 3, 3))
    (tmp_path / "out" / ".mine.tmp").write_bytes(b"mine")
    other = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    assert run(tmp_path, "resize") == 0
    assert leftover.exists()
    os.close(other)
    assert run(tmp_path, "resize") == 0
    assert set(contents(tmp_path / "out")) == {"a.png", ".mine.tmp"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_the_same_command_continues(tmp_path, workers):
    for seed in range(30):
        write(tmp_path / "in" / f"{seed}.png", noise(seed, 9 + 30 * (seed >= 11), 40))
    flags = flags_of(tmp_path, "--pad", "--size", 40, "--workers", workers)
    _, errors = killing.run(*flags, codes=(1,), preexec_fn=killing.limit_files(4000))
    assert errors.count("\n") == 1
    assert f"{tmp_path / 'out' / '11.png'}'" in errors
    assert "No space" in errors or "File too large" in errors
    assert errors.endswith("then run the same command again\n")
    assert not list(tmp_path.glob("out/.*")) and len(list(tmp_path.glob("out/*"))) <= 11
    assert process.main([str(flag) for flag in flags[1:]]) == 0
    assert run(tmp_path, "resize", "--pad", "--size", 40, output="clean") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_a_name_that_cannot_be_written_fails_alone(tmp_path, capsys):
    for name in ("a.png", "b.png", "x" * 250 + ".png"):
        write(tmp_path / "in" / name, noise(1, 5, 7))
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert run(tmp_path, "resize") == 1
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == {
        "b.png", "x" * 200 + ".png"}
    streams = capsys.readouterr()
    assert streams.out == "wrote 2, skipped 0, failed 1\n" and streams.err.count("\n") == 1


def test_strange_names_work_and_what_is_not_a_file_is_reported(tmp_path):
    names = [b"a b", b"'\"", b"line\nbreak", b"<script>", b"100%", "\N{GRINNING FACE}".encode(),
             b"\xff\xfe"]
    for seed, name in enumerate(names):
        write(tmp_path / "in" / os.fsdecode(name + b".png"), noise(seed, 5, 7))
    (tmp_path / "in" / os.fsdecode(b"bad\n\xff.png")).write_bytes(b"no image")
    for name in ("fifo.png", "fifo"):
        os.mkfifo(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").symlink_to("nowhere")
    (tmp_path / "in" / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "in" / "loop.png").symlink_to("loop.png")
    (tmp_path / "in" / "folder.png").mkdir()
    output, errors = killing.run(*flags_of(tmp_path, "--workers", 1), codes=(1,),
                                 env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert output == "wrote 7, skipped 0, failed 5\n"
    others, *lines = errors.splitlines()
    assert others.endswith("/in: 1 without an extension")  # a FIFO
    assert [line.split(" cannot be read")[0].rpartition("/")[2] for line in lines] == [
        r"bad\n\udcff.png", "broken.png", "endless.png", "fifo.png", "loop.png"]
    assert {os.fsencode(path.name) for path in (tmp_path / "out").iterdir()} == {
        name + b".png" for name in names}


def test_a_failed_image_does_not_garble_the_progress_bar(tmp_path):
    """Replays what a terminal received: the message has a line of its own, the bar another."""
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    write(tmp_path / "in" / "a.png", noise(1, 5, 7))
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    write(tmp_path / "in" / "c.png", noise(2, 5, 7))
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    tool = subprocess.Popen(
        [sys.executable, ROOT / "tools" / "process.py", "--input_dir", "in", "--output_dir", "out",
         "--operation", "blank", "--workers", "1"], cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=terminal)
    os.close(terminal)
    received = read_to_end(main)
    assert tool.wait(killing.TIMEOUT) == 1
    shown = replay(received)
    assert [line for line in shown if line.startswith("process.py: in/b.png cannot be read (")] \
        == [line for line in shown if "b.png" in line] != []
    bars = [line for line in shown if "%|" in line]
    assert len(bars) == 1 and bars[0].startswith("100%|") and "3/3" in bars[0]
    assert {*shown} - {*bars} == {line for line in shown if "b.png" in line}


def read_to_end(handle):
    """The text that arrives at a terminal until its last user closes it."""
    received = b""
    with open(handle, "rb", buffering=0) as file:
        try:
            while chunk := file.read(1 << 16):
                received += chunk
        except OSError:  # how Linux reports the end
            pass
    return received.decode()


def replay(text):
    """The lines that a terminal shows after a text with carriage returns, without empty ones."""
    lines = []
    for line in text.split("\n"):
        cells = ""
        for part in line.split("\r"):
            cells = part + cells[len(part):]
        lines.append(cells.rstrip())
    return [line for line in lines if line]


def fill(tmp_path, number):
    """A function that makes tmp_path/out, empty, after this has put images into tmp_path/in."""
    for seed in range(number):
        write(tmp_path / "in" / f"{seed}.png", noise(seed, 500, 500))
    return (tmp_path / "out").mkdir


@pytest.mark.slow
def test_killed_at_random_it_ends_as_a_clean_run(tmp_path):
    killing.kill_at_random(flags_of(tmp_path, "--workers", 1), fill(tmp_path, 40),
                           tmp_path / "out", seed=1, earliest=0.3)


@pytest.mark.slow
def test_killed_at_every_step_it_ends_as_a_clean_run(tmp_path):
    steps = killing.kill_at_every_step(flags_of(tmp_path, "--workers", 1), fill(tmp_path, 3),
                                       tmp_path / "out")
    assert len(list(steps)) > 5


@pytest.mark.slow
def test_two_at_once_end_as_one(tmp_path):
    killing.run_two_at_once(flags_of(tmp_path), fill(tmp_path, 40), tmp_path / "out", seed=2)


def test_tensorflow_is_not_imported():
    code = ("import sys; from tools import process; "
            "assert not {'tensorflow', 'skimage'} & {*sys.modules}")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
