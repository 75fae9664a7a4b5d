"""What --mode check finds out about files, counts and says."""

import collections
import io

import numpy as np
import pytest
from PIL import Image

from tools.lib import geometry
from tools.lib.cli import Size, with_options
from tools.lib.dataset import ImageCheck
from tools.lib.images import create_decoder
from tools.lib.survey import (Facts, Source, align, describe_epoch, describe_pairs,
                              describe_stretch, find_usual, list_properties, look_at,
                              name_duplicates, name_unlike, percent, property_rows, read_header,
                              size_rows)

NOISE = np.random.default_rng(1).integers(0, 256, (6, 10, 3), np.uint8)


def to_file(image, filetype, **settings):
    """Bytes of a file of a Pillow image."""
    file = io.BytesIO()
    image.save(file, filetype, **settings)
    return file.getvalue()


def facts(width=20, height=10, values=(0, 255), **more):
    """The Facts of an image that can be used."""
    deep_range = more.pop("deep_range", None)
    check = ImageCheck(1, 1, width, height, deep_range=deep_range,
                       dtype="uint16" if deep_range else "uint8")
    return Facts(check, **{"format": "PNG", "channels": "RGB", "bits": 8, **more}, values=values)


# ---- files

RGB = Image.fromarray(NOISE)
DEEP = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 100)
KEYED = RGB.quantize(8)


@pytest.mark.parametrize("image, filetype, settings, expected", [
    (RGB, "JPEG", {}, ("JPEG", "RGB", 8)), (RGB.convert("L"), "JPEG", {}, ("JPEG", "grey", 8)),
    (RGB.convert("CMYK"), "JPEG", {}, ("JPEG", "CMYK", 8)),
    (RGB, "PNG", {}, ("PNG", "RGB", 8)), (RGB.convert("1"), "PNG", {}, ("PNG", "grey", 1)),
    (RGB.convert("LA"), "PNG", {}, ("PNG", "grey + alpha", 8)),
    (RGB.convert("RGBA"), "PNG", {}, ("PNG", "RGB + alpha", 8)),
    (DEEP, "PNG", {}, ("PNG", "grey", 16)), (KEYED, "PNG", {"bits": 4}, ("PNG", "palette", 4)),
    (KEYED, "PNG", {"transparency": 0, "bits": 8}, ("PNG", "palette + alpha", 8)),
    (RGB, "PNG", {"transparency": (1, 2, 3)}, ("PNG", "RGB + alpha", 8)),
    (RGB, "BMP", {}, ("BMP", "RGB", 8)), (RGB.convert("1"), "BMP", {}, ("BMP", "grey", 1)),
    (KEYED, "GIF", {}, ("GIF", "palette", 8)), (RGB, "WEBP", {}, ("WebP", "RGB", 8)),
    (RGB.convert("RGBA"), "WEBP", {"lossless": True}, ("WebP", "RGB + alpha", 8)),
    (DEEP, "TIFF", {}, ("TIFF", "grey", 16)),
    (RGB.convert("CMYK"), "TIFF", {}, ("TIFF", "CMYK", 8))])
def test_every_kind_of_file_is_told(image, filetype, settings, expected):
    """The oracle: what Pillow was asked to write."""
    if "alpha" in expected[1] and filetype == "WEBP":
        image.putpixel((0, 0), (1, 2, 3, 4))  # or libwebp leaves it out
    header = read_header(to_file(image, filetype, **settings))
    assert (header["format"], header["channels"], header["bits"]) == expected
    assert header["frames"] == 1


@pytest.mark.parametrize("array, channels, bits", [
    (NOISE, "RGB", 8), (NOISE[..., 0].astype(np.uint16), "grey", 16),
    (np.float32(NOISE[..., :2]), "2 channels", 32)])
def test_arrays_and_pgm_are_told_as_they_are_stored(array, channels, bits):
    file = io.BytesIO()
    np.save(file, array)
    assert read_header(file.getvalue()) == {"format": "npy", "channels": channels, "bits": bits}
    if bits == 16:  # of which Pillow makes 32
        header = read_header(b"P5 10 6 65535\n" + array.astype(">u2").tobytes())
        assert header == {"format": "PPM", "channels": "grey", "bits": 16}


def test_a_header_that_pillow_cannot_read_does_no_harm():
    """What the graph decodes is usable."""
    assert read_header(b"\xff\xd8\xff" + 30 * b"?") == {
        "format": "JPEG", "channels": "unknown", "bits": 8}


def test_a_group_of_many_duplicates_takes_one_line():
    found = {f"{number:02}.png": facts()._replace(digest=b"same") for number in range(12)}
    assert name_duplicates([Source("", ".", found)]) == [
        "  00.png  01.png  02.png  03.png  04.png  and 7 more"]


def test_frames_and_pages_are_counted():
    others = [Image.fromarray(np.roll(NOISE, number, axis=2)) for number in (1, 2)]
    for filetype in ("GIF", "TIFF", "WEBP"):
        contents = to_file(RGB, filetype, save_all=True, append_images=others)
        assert read_header(contents)["frames"] == 3, filetype
    table = list_properties({"a": facts(frames=3), "b": facts()})
    assert table["format"] == {"a": "PNG, several frames", "b": "PNG"}


def test_a_file_is_read_to_its_pixels(tmp_path):
    decode = create_decoder(with_range=True)
    grey = np.clip(NOISE[..., 0], 7, 201)
    for name, image, values in (("a.png", Image.fromarray(grey), (7, 201)),
                                ("b.bmp", Image.fromarray(grey), (7, 201)),
                                ("c.png", Image.fromarray(grey.astype(np.uint16) * 9), (63, 1809))):
        image.save(tmp_path / name)
        found = look_at(tmp_path / name, decode)
        assert (found.values, found.size, found.check.reason) == (values, "10x6", "")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    assert look_at(tmp_path / "a.jpg", decode).digest == look_at(tmp_path / "a.png", decode).digest
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    cut = look_at(tmp_path / "cut.png", decode)
    assert "cannot be decoded" in cut.check.reason and cut.digest == b""


# ---- counting and naming


def test_values_are_of_kinds():
    found = {"wide": facts(values=(0, 128)), "wider": facts(values=(9, 255)),
             "narrow": facts(values=(3, 130)), "labels": facts(values=(0, 11)),
             "white": facts(values=(255, 255)), "black": facts(values=(0, 0)),
             "deep": facts(values=(5, 9000), deep_range=[5, 9000], bits=16)}
    assert list_properties(found)["values"] == {
        "wide": "0 to 255", "wider": "0 to 255", "narrow": "0 to 130, less than half the range",
        "labels": "0 to 130, less than half the range",
        "white": "0 to 255, each a single value", "black": "0 to 255, each a single value",
        "deep": "5 to 9000, less than half the range"}


def test_rows_of_a_property():
    one, other = collections.Counter({"PNG": 3}), collections.Counter({"JPEG": 2, "PNG": 1})
    assert property_rows("format", [one, other], [3, 3]) == [
        ["format", "PNG", "all", "1"], ["", "JPEG", "-", "2"]]
    sizes = collections.Counter({f"{width}x20": 9 - width for width in range(1, 8)})
    rows = property_rows("size", [sizes], [sum(sizes.values())])
    assert rows[0] == ["size", "1x20", "8"] and rows[5:] == [["", "2 others, 6x20 to 7x20", "5"]]
    del sizes["7x20"]  # a row for one other would take as much room
    assert len(property_rows("size", [sizes], [33])) == 6
    assert property_rows("bits", [collections.Counter({"8": 1})], [1]) == [["bits", "8", "1"]]


def test_columns_are_aligned():
    assert align([["a", "1", "x"], ["bcd", "22", ""]], numbers=(1,), indent="  ") == [
        "  a     1  x", "  bcd  22"]


@pytest.mark.parametrize("texts, usual", [
    (["a"] * 9 + ["b"], "a"), (["a"] * 8 + ["b"], None), (["a"] * 10, None),
    (["a"] * 18 + ["b", "c"], "a")])
def test_nine_tenths_are_usual(texts, usual):
    assert find_usual(texts) == usual


def test_images_of_another_size_or_shape_are_named():
    alike = {f"{number}": facts(200, 100) for number in range(9)}
    assert name_unlike({**alike, "x": facts(100, 100, bits=16)}) == [
        "  x  100x100 (most: 200x100), 16 bits (most: 8 bits)"]
    assert name_unlike({**alike, "x": facts(200, 100, (7, 7)), "y": facts(200, 100, (7, 8))}) == [
        "  x  nothing but the value 7"]
    of_one_shape = {f"{number}": facts(200 + 2 * number, 100 + number) for number in range(19)}
    assert name_unlike(of_one_shape) == []
    assert name_unlike({**of_one_shape, "x": facts(100, 100)}) == [
        "  x  100x100, where most are 2 times as wide as high"]
    assert name_unlike({}) == []


# ---- what is done with them


def test_what_becomes_of_each_size():
    """The oracle is arithmetic."""
    counts = collections.Counter({(100, 200): 3, (50, 50): 2})
    sizing = geometry.Sizing("crop", Size(60, 60), Size(30, 40), 32)
    assert size_rows(counts, sizing, 1.0, ["size", "random crop"]) == [
        ["size", "images", "scaled to", "random crop", "cut off"],
        ["200x100", "3", "120x60", "40x30", "83%"],  # 1 - 1200 / 7200
        ["50x50", "2", "60x60", "40x30", "67%"]]  # 1 - 1200 / 3600
    sizing = geometry.Sizing("pad", Size(50, 50), Size(50, 50), 32)
    assert size_rows(counts, sizing, 1.0, ["half", "in the network"]) == [
        ["half", "images", "scaled to", "in the network", "mirrored border"],
        ["200x100", "3", "50x25", "50x50", "50%"], ["50x50", "2", "not scaled", "", ""]]
    sizing = geometry.Sizing("stretch", Size(50, 50), Size(50, 50), 32)
    assert size_rows(counts, sizing, 1.0, ["size", "random crop"]) == [
        ["size", "images", "scaled to", "shape"],
        ["200x100", "3", "50x50", "2 times narrower"], ["50x50", "2", "not scaled", ""]]
    sizing = geometry.Sizing("none", None, None, 64)
    assert size_rows(counts, sizing, 1.0, ["size", "in the network"])[1] == [
        "200x100", "3", "not scaled", "256x128", "39%"]  # 1 - 20000 / 32768
    many = collections.Counter({(50, 50 + number): 9 - number for number in range(7)})
    assert size_rows(many, sizing, 1.0, ["size", "crop"])[-1][:2] == ["2 others", "7"]


def test_a_stretch_is_told_beyond_the_aspect_ratio():
    assert describe_stretch((100, 150), (64, 64), 1.0) == "1.5 times narrower"
    assert describe_stretch((150, 100), (64, 64), 1.0) == "1.5 times flatter"
    assert describe_stretch((100, 150), (64, 64), 1.5) == describe_stretch(
        (100, 104), (64, 64), 1.0) == describe_stretch((100, 150), (64, 96), 1.0) == ""
    assert (percent(0), percent(0.004), percent(0.006), percent(0.5)) == ("", "<1%", "1%", "50%")


@pytest.mark.parametrize("batch_size, expected", [
    (8, "1 step of 4 images"), (4, "1 step of 4 images"), (3, "2 steps of 3 images, the last one of 1"),
    (1, "4 steps of 1 image")])
def test_the_steps_of_an_epoch(options, batch_size, expected):
    assert describe_epoch(4, with_options(options, batch_size=batch_size)) == expected


@pytest.mark.parametrize("changes, expected", [
    ({}, "2 pairs side by side; the left half (A) is the input, the right half (B) the target"),
    ({"which_direction": "BtoA"},
     "2 pairs side by side; the right half (B) is the input, the left half (A) the target"),
    ({"lab_colorization": True}, "2 single images; the input is lightness, the target colour"),
    ({"lab_colorization": True, "which_direction": "BtoA"},
     "2 single images; the input is colour, the target lightness"),
    ({"lab_colorization": True, "no_targets": True}, "2 single images; the input is lightness"),
    ({"no_targets": True}, "2 single images; inputs without targets"),
    ({"a_dir": ["a"], "b_dir": "b", "input_dir": None}, "2 pairs; A is the input, B the target"),
    ({"a_dir": ["a", "c", "d"], "b_dir": "b", "input_dir": None},
     "2 pairs; A1, A2 and A3 are the input, B the target"),
    ({"a_dir": ["a"], "input_dir": None, "no_targets": True}, "2 images; inputs without targets")])
def test_what_the_images_are_to_training(options, changes, expected):
    assert describe_pairs(2, with_options(options, **changes)) == expected
