"""tools/lib/sheet.py: which examples, where, how large."""

import numpy as np
import pytest
from PIL import Image

from tools.lib import sheet

KINDS = ("inputs", "outputs", "targets")
ENDINGS = [f"-{kind}.png" for kind in KINDS]


def draw(folder, names, size=(6, 4), kinds=KINDS):
    """Writes images of noise; returns (name, kind) -> pixels. size: of all, or of each kind."""
    (folder / "images").mkdir(exist_ok=True)
    rng, drawn = np.random.default_rng(len(names)), {}
    for name in names:
        for kind in kinds:
            width, height = size[kind] if isinstance(size, dict) else size
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{name}-{kind}.png")
            drawn[name, kind] = pixels
    return drawn


def read(folder):
    """The sheet's pixels."""
    with Image.open(folder / "sheet.png") as image:
        return np.asarray(image.convert("RGB"))


def test_all_examples_in_rows_of_input_output_and_target(tmp_path):
    names = [f"n{number}" for number in range(5)]
    drawn = draw(tmp_path, names)
    sheet.write_sheet(tmp_path, names, ENDINGS, 2)
    got = read(tmp_path)
    width, height = 3 * 6 + 2 * sheet.GAP, 4
    expected = np.full([10 + 3 * (height + 10), 10 + 2 * (width + 10), 3], 255, np.uint8)
    for index, name in enumerate(names):
        y, x = 10 + index // 2 * (height + 10), 10 + index % 2 * (width + 10)
        for place, kind in enumerate(KINDS):
            left = x + place * (6 + sheet.GAP)
            expected[y:y + 4, left:left + 6] = drawn[name, kind]
    np.testing.assert_array_equal(got, expected)


def test_large_images_are_scaled_down_by_area(tmp_path):
    drawn = draw(tmp_path, ["a"], size=(1980, 1200), kinds=("outputs",))
    sheet.write_sheet(tmp_path, ["a"], ["-outputs.png"], 3)  # 3 of 660 would be too wide by the margins
    got = read(tmp_path)[10:-10, 10:-10]
    scale = got.shape[1] / 1980
    assert got.shape[0] == pytest.approx(1200 * scale, abs=1) and 3 * got.shape[1] <= 2000
    assert got.mean() == pytest.approx(drawn["a", "outputs"].mean(), abs=0.5)
    # a whole factor: the mean of each block, rounded
    sizes = sheet.read_scaled(tmp_path / "images/a-outputs.png", (660, 400)).size
    assert sizes == (660, 400)
    scaled = np.asarray(sheet.read_scaled(tmp_path / "images/a-outputs.png", (660, 400)), float)
    blocks = drawn["a", "outputs"].reshape(400, 3, 660, 3, 3).mean(axis=(1, 3))
    assert np.abs(scaled - blocks).max() <= 1


@pytest.mark.parametrize("size, columns, count, expected", [
    ((256, 256), 2, 300, (1574, 1872)),  # 2 * (3 * 256 + 4 + 10) + 10, 7 * 266 + 10
    ((64, 64), 5, 300, (1040, 1934)), ((1, 1), 2, 7, (44, 54)), ((1, 1), 9, 2, (44, 21)),
    ((3000, 200), 1, 9, (1998, 487)),  # scaled to 658x43
    ((200, 3000), 2, 9, (830, 2000))])  # to 132x1980
def test_a_sheet_is_at_most_2000_pixels_wide_and_high(size, columns, count, expected, monkeypatch):
    image = Image.new("RGB", size)
    monkeypatch.setattr(Image, "open", lambda _: image.copy())
    assert sheet.draw_sheet([["x", "y", "z"]] * count, columns).size == expected


def test_smaller_images_keep_their_size_and_larger_ones_fit(tmp_path):
    draw(tmp_path, ["a"], size={"inputs": (12, 4), "outputs": (6, 4), "targets": (6, 4)})
    small = draw(tmp_path, ["b"], size=(2, 2))
    sheet.write_sheet(tmp_path, ["a", "b"], ENDINGS, 1)
    got = read(tmp_path)
    assert got.shape == (10 + 2 * 14, 10 + 12 + 6 + 6 + 4 + 10, 3)
    np.testing.assert_array_equal(got[24:26, 10:12], small["b", "inputs"])
    assert (got[26:, 10:] == 255).all()


def test_examples_are_spread_evenly_from_the_first_to_the_last():
    assert sheet.spread(3, 101) == [0, 50, 100]
    assert sheet.spread(5, 5) == sheet.spread(9, 5) == [0, 1, 2, 3, 4]
    assert sheet.spread(1, 7) == [0]
    for count in range(1, 40):
        places = sheet.spread(count, 40)
        assert len({*places}) == count and places == sorted(places)
        assert max(np.diff(places), default=0) - min(np.diff(places), default=0) <= 1


def test_without_images_or_columns_there_is_none(tmp_path):
    draw(tmp_path, ["a"])
    sheet.write_sheet(tmp_path, [], ENDINGS, 2)
    sheet.write_sheet(tmp_path, ["a"], ENDINGS, 0)
    assert not (tmp_path / "sheet.png").exists()
