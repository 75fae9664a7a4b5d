"""The page of an evaluation, in a browser: its images, its orders, its contrast."""

import numpy as np
import pytest
from PIL import Image

from tools import evaluate

NAMES = ["1", "2", "50%25 <b>#?", *"3456"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two runs, beside their folders; the second differs more from image to image."""
    root = tmp_path_factory.mktemp("evaluation")
    for index, name in enumerate(NAMES):
        target = np.random.default_rng(index).integers(40, 200, (24, 32, 3), np.uint8)
        for folder, change in (("targets", 0), ("one", 20), ("two", 20 + 2 * index)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(target + np.uint8(change)).save(root / folder / f"{name}.png")
    assert evaluate.main([*(str(root / name) for name in ("one", "two")), "--targets",
                          str(root / "targets"), "--output_dir", str(root / "out")]) == 0
    return root / "out/index.html"


def test_images_of_other_folders_are_shown(browser, page):
    browser.open(page, size=(1280, 4000))
    browser.settle()
    widths = browser.run("return [...document.images].map((image) => image.naturalWidth)")
    assert widths == [32] * 3 * len(NAMES)


def test_rows_are_sorted_by_what_is_chosen(browser, page):
    from selenium.webdriver.support.ui import Select
    browser.open(page)
    assert browser.texts("#rows tbody th") == NAMES[::-1]  # by the largest difference
    select = Select(browser.one("#sort"))
    select.select_by_visible_text("name")
    assert browser.texts("#rows tbody th") == sorted(NAMES)
    select.select_by_visible_text("worst L1 of two")
    assert browser.texts("#rows tbody th") == NAMES[::-1]


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_can_be_read(browser, page, dark):
    """Every text has enough contrast and every control a name; at 400 pixels only tables scroll."""
    browser.open(page, size=(400, 800), dark=dark)
    assert browser.low_contrasts() == [] and browser.unnamed() == []
    assert browser.run("return document.documentElement.scrollWidth") <= 400
