"""Formats, sizes, shapes, ways of pairing and of resizing, whole and damaged, in combination: each
trains two steps and is tested, or is refused with a line that names the file."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, read_images, read_pixels, run
from PIL import Image

pytestmark = pytest.mark.usefixtures("in_empty_folder")
FORMATS = {  # name -> Pillow's format, and the mode of the image
    "jpeg": ("JPEG", "RGB"), "grey jpeg": ("JPEG", "L"), "cmyk jpeg": ("JPEG", "CMYK"),
    "png": ("PNG", "RGB"), "png with alpha": ("PNG", "RGBA"), "palette png": ("PNG", "P"),
    "black and white png": ("PNG", "1"), "16 bit png": ("PNG", "I;16"), "bmp": ("BMP", "RGB"),
    "gif": ("GIF", "P"), "webp": ("WEBP", "RGB"), "tiff": ("TIFF", "RGB"),
    "16 bit tiff": ("TIFF", "I;16")}
SHAPES = [(1, 1), (20, 33), (64, 64), (90, 160), (300, 17)]  # height, width
PAIRINGS = ["side by side", "two folders", "inputs twice", "lab", "from b"]
RESIZES = ["stretch", "crop", "pad", "none"]
DAMAGES = ["whole", "cut", "empty", "text"]


def draw(shape, mode):
    """A Pillow image of noise."""
    rng = np.random.default_rng(shape)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, shape, np.uint16))
    image = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
    return image.convert(mode)


def write(path, shape, name, damage="whole"):
    """An image file of a format, damaged or not."""
    file_format, mode = FORMATS[name]
    contents = io.BytesIO()
    draw(shape, mode).save(contents, file_format)
    contents = contents.getvalue()
    contents = {"whole": contents, "cut": contents[:len(contents) // 2], "empty": b"",
                "text": b"no image\n"}[damage]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


def shown_shape(shape, resize):
    """Of the results, for networks of 32x32."""
    height, width = shape
    if resize == "pad":
        scale = 32 / max(shape)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
    return shape if resize == "none" else (32, 32)


def train_case(name, shape, pairing, resize, damage):
    """Writes two examples and a third, of which a file may be damaged, and trains; returns its
    folders, the files' ending, the exit code and the flags that name the images."""
    height, width = shape
    ending = {"JPEG": "jpg", "TIFF": "tif"}.get(FORMATS[name][0], FORMATS[name][0].lower())
    folders = {"two folders": "ab", "inputs twice": "acb", "from b": "ab"}.get(pairing, "x")
    for folder in folders:
        for number in (1, 2, 3):
            written = (height, 2 * width) if pairing == "side by side" else shape
            write(Path(folder, f"{number}.{ending}"), written, name,
                  damage if number == 3 and folder == folders[-1] else "whole")
    flags = [] if folders == "x" else [word for folder in folders for word in (
        "--b_dir" if folder == "b" else "--a_dir", folder)]
    flags += {"side by side": ["--input_dir", "x", "--layout", "pairs"],
              "lab": ["--input_dir", "x", "--layout", "single"]}.get(pairing, [])
    train = [*SMALL, "--resize", resize, "--max_steps", 2, "--batch_size", 2,
             *["--lab_colorization"] * (pairing == "lab"),
             *["--which_direction", "BtoA"] * (pairing == "from b")]
    code = run("--mode", "train", "--output_dir", "run", *flags, *train)
    return folders, ending, code, flags


def cases():
    """Every pair of values of two kinds occurs, and more."""
    every = itertools.product(FORMATS, SHAPES, PAIRINGS, RESIZES, DAMAGES)
    drawn = [case for number, case in enumerate(every) if number % 47 == 0 or number % 61 == 0]
    return [pytest.param(*case, marks=[pytest.mark.slow] * (number % 18 > 0))
            for number, case in enumerate(drawn)]


@pytest.mark.parametrize("name, shape, pairing, resize, damage", cases())
def test_a_case_trains_and_tests_or_is_refused(capsys, name, shape, pairing, resize, damage):
    folders, ending, code, flags = train_case(name, shape, pairing, resize, damage)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    if damage != "whole":
        assert code == 2 and not Path("run").exists()
        lines = printed.err.splitlines()
        assert any(f"{folders[-1]}/3.{ending} cannot be used: " in line for line in lines)
        assert "1 of 3 images cannot be used: repair or remove them" in lines[-1]
        return
    assert code == 0 and "examples count = 3\n" in printed.out
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "out", *flags) == 0
    results = {path: read_pixels(contents) for path, contents in read_images("out").items()
               if not path.endswith("-shown.png")}
    assert len(results) == 9
    high, wide = shown_shape(shape, resize)
    for path, pixels in results.items():
        several = 2 if pairing == "inputs twice" and path.endswith("-inputs.png") else 1
        assert pixels.shape == (high, several * wide, 3), path
    rows = Path("out/metrics.csv").read_text().splitlines()
    assert len(rows) == 4 and "nan" not in "".join(rows)


def test_the_cases_hold_every_pair_of_values():
    values = [case.values for case in cases()]
    for one, other in itertools.combinations(range(5), 2):
        kinds = [[*FORMATS], SHAPES, PAIRINGS, RESIZES, DAMAGES]
        found = {(case[one], case[other]) for case in values}
        missing = {*itertools.product(kinds[one], kinds[other])} - found
        assert len(missing) <= 0.1 * len(kinds[one]) * len(kinds[other]), missing
