"""The page of a test, in a browser: what it shows, every control, every key."""

import itertools
import math
import os
import re
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from tools.lib import page
from tools.lib.metrics import METRICS, summarize, summarize_rows
from tools.lib.results_page import write_results_page

ODD_NAMES = ['<img src=x onerror="document.title=1">', "a'b\"c%41&amp;#?", "two\nlines", "\udcff",
             "<!--<script>", "\N{CAT}", " "]
ORDER = "#sorting .choice:not([hidden]) button"
LISTED = "#rows tr[data-place]"


def draw_images(folder, name, size=(24, 20), seed=0, kinds=page.KINDS):
    """Writes an image of noise for each kind, in blocks of 4 pixels; returns kind -> pixels."""
    (folder / "images").mkdir(exist_ok=True)
    rng, drawn = np.random.default_rng(seed), {}
    for kind in kinds:
        width, height = size[kind] if isinstance(size, dict) else size
        blocks = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), np.uint8)
        drawn[kind] = np.kron(blocks, np.ones((4, 4, 1), np.uint8))[:height, :width]
        Image.fromarray(drawn[kind]).save(folder / "images" / f"{name}-{kind}.png")
    return drawn


def draw_values(count, seed=3):
    """Metrics of so many images, no two alike."""
    rng = np.random.default_rng(seed)
    return [{"l1": float(l1), "psnr": float(psnr), "ssim": float(ssim)} for l1, psnr, ssim in zip(
        rng.permutation(count) / count / 2, rng.permutation(count) / count * 20 + 10,
        rng.permutation(count) / count, strict=True)]


def write_page(folder, rows, kinds=page.KINDS, notes=()):
    """Writes a test's page; returns its path."""
    metrics = METRICS if "targets" in kinds else {}
    endings = {kind: [f"-{kind}.png"] for kind in kinds}
    write_results_page(folder, "a test", [("images", str(len(rows)))], notes, endings, metrics,
                       rows, summarize_rows([numbers for _, numbers in rows]) if metrics else {})
    return folder / "index.html"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page of 40 images, and its rows: names 1 to 40."""
    folder = tmp_path_factory.mktemp("made")
    rows = [(str(number), values) for number, values in enumerate(draw_values(40), 1)]
    for index, (name, _) in enumerate(rows):
        draw_images(folder, name, seed=index)
    return write_page(folder, rows), rows


def listed(browser):
    """The names of the first rows, of those that are drawn."""
    return browser.texts(f"{LISTED} th")[:8]


def values_of(rows, metric):
    """The values of a metric."""
    return np.array([values[metric] for _, values in rows])


def names_by(rows, metric, worst_first=True):
    """Names in the order of a metric."""
    is_better_low = metric == "l1"
    order = sorted(rows, key=lambda row: row[1][metric], reverse=is_better_low == worst_first)
    return [name for name, _ in order]


# ---- metrics


def test_histograms_count_every_image_and_mark_mean_and_median(browser, made):
    path, rows = made
    browser.open(path)
    for metric in ("l1", "psnr", "ssim"):
        values = values_of(rows, metric)
        chart = browser.run("""
          const svg = document.querySelector(`[data-metric=${arguments[0]}] svg`);
          const at = (node, ...names) => names.map((name) => Number(node.getAttribute(name)));
          return {
            bars: [...svg.querySelectorAll(".bar")].map((bar) => [
              ...at(bar.querySelector(".fill"), "x", "width", "height"),
              bar.getAttribute("aria-label")]),
            ticks: [...svg.querySelectorAll("line.tick")].map((line) => [
              ...at(line, "x1"), Number(line.nextSibling.textContent)]),
            counts: [...svg.querySelectorAll("line.grid")].map((line) => [
              ...at(line, "y1"), Number(line.nextSibling.textContent)]),
            mean: at(svg.querySelector(".mark-mean line"), "x1")[0],
            median: at(svg.querySelector(".mark-median line"), "x1")[0],
          };""", metric)
        # the axis: value = slope * x + start, from its first and last number
        (x0, low), (x1, high) = chart["ticks"][0], chart["ticks"][-1]
        value_at = lambda x: low + (x - x0) * (high - low) / (x1 - x0)  # noqa: E731
        assert value_at(chart["mean"]) == pytest.approx(values.mean(), rel=1e-3)
        assert value_at(chart["median"]) == pytest.approx(np.median(values), rel=1e-3)
        (y0, count0), (y1, count1) = chart["counts"][0], chart["counts"][-1]
        assert count0 == 0
        edges = [value_at(x - 0.5) for x, *_ in chart["bars"]]
        edges.append(value_at(sum(chart["bars"][-1][:2]) + 0.5))
        counts, _ = np.histogram(values, np.array(edges) - 1e-7)
        assert counts.sum() == 40
        for (_, _, height, label), count in zip(chart["bars"], counts, strict=True):
            assert label.endswith(f": {count} image{'' if count == 1 else 's'}")
            assert height * count1 / (y0 - y1) == pytest.approx(count, abs=0.01)


def test_a_bar_shows_only_its_images(browser, made):
    from selenium.webdriver import ActionChains, Keys
    path, rows = made
    browser.open(path)
    bars = browser.all('[data-metric="psnr"] .bar')
    low, high = map(float, bars[3].get_attribute("aria-label").split(":")[0].split(" to "))
    expected = [name for name in names_by(rows, "l1")
                if low <= dict(rows)[name]["psnr"] < high]
    assert 1 < len(expected) < 20
    ActionChains(browser.driver).move_to_element(bars[3]).click().perform()
    assert listed(browser) == expected[:8]
    assert browser.one("#count").text == f"{len(expected)} of 40 shown"
    assert browser.one("#unbin").text == f"PSNR {low:g} to {high:g} ✕"
    hint = browser.one('[data-metric="psnr"] .hint')
    assert hint.text == f"{low:g} to {high:g}: {len(expected)} images"  # under the pointer
    browser.settle()  # then the browser knows that the pointer is over the new bar
    ActionChains(browser.driver).move_to_element(browser.one("h1")).perform()
    assert hint.text == f"Only {low:g} to {high:g} below"
    browser.click("#unbin")
    assert len(browser.all("#unbin:not([hidden])")) == 0
    assert browser.one("#count").text == "40 of 40 shown"
    # by keyboard: one bar of each chart is reached by Tab, arrows go on
    browser.run("arguments[0].focus()", browser.one('[data-metric="psnr"] .bar[tabindex="0"]'))
    browser.press(Keys.HOME, *[Keys.ARROW_RIGHT] * 3, Keys.ENTER)
    assert listed(browser) == expected[:8]
    browser.press(Keys.ENTER)  # the focus is still on the bar
    assert browser.one("#count").text == "40 of 40 shown"
    browser.press(Keys.ENTER)
    browser.click(f"{LISTED} img")
    browser.press(Keys.ESCAPE)  # closes the image alone
    browser.wait("!document.querySelector('dialog[open]')")
    assert browser.one("#count").text == f"{len(expected)} of 40 shown"
    browser.press(Keys.ESCAPE)
    assert browser.one("#count").text == "40 of 40 shown"
    bin_name = browser.all('[data-metric="psnr"] .bar')[3].get_attribute("data-bin")
    browser.show(f"bin=psnr:{bin_name}&find=x")
    assert browser.one("#empty").text == "No image has this name and these values."


def test_statistics_of_each_metric(browser, made):
    path, rows = made
    browser.open(path)
    for metric, digits in (("l1", 4), ("psnr", 2), ("ssim", 4)):
        values = values_of(rows, metric)
        order = names_by(rows, metric)
        ends = [dict(rows)[name][metric] for name in (order[0], order[-1])]
        numbers = [values.mean(), np.median(values), values.std(ddof=1), *ends]
        mean, *others = [f"{number:.{digits}f}" for number in numbers]
        interval = " to ".join(f"{end:.{digits}f}" for end in summarize(values).interval)
        shown = browser.texts(f'[data-metric="{metric}"] .statistics dt + dd')
        assert shown == [mean, interval, *others]
        assert browser.texts(f'[data-metric="{metric}"] .statistics a') == [order[0], order[-1]]
    browser.click('[data-metric="ssim"] .statistics a')
    assert browser.one("#viewer-name").text == names_by(rows, "ssim")[0]


def test_values_that_are_not_finite_are_counted_apart(browser, tmp_path):
    values = draw_values(6)
    values[0]["psnr"] = values[1]["psnr"] = math.inf
    values[2]["psnr"] = math.nan
    rows = [(f"n{number}", row) for number, row in enumerate(values)]
    for name, _ in rows:
        draw_images(tmp_path, name)
    browser.open(write_page(tmp_path, rows), "sort=psnr")
    assert browser.texts('[data-metric="psnr"] .note') == [
        "Of 6 values 2 are infinite and 1 is NaN: not in the chart, the mean, the median and the "
        "deviation."]
    assert len(browser.all(".note")) == 1
    mean = np.mean([row["psnr"] for row in values[3:]])
    shown = browser.texts('[data-metric="psnr"] .statistics dt + dd')
    assert shown[0] == f"{mean:.2f}" and shown[-1] == "∞"
    worst = sorted(range(3, 6), key=lambda number: values[number]["psnr"])
    assert listed(browser) == [*(f"n{number}" for number in worst), "n0", "n1", "n2"]
    browser.click(ORDER, 1)  # best first; NaN stays last
    assert listed(browser)[-1] == "n2" and {*listed(browser)[:2]} == {"n0", "n1"}
    assert browser.texts('#rows td[data-label="PSNR"]')[-1] == "NaN"


def test_equal_values_make_one_bar_and_none_make_no_chart(browser, tmp_path):
    rows = [(name, {"l1": 0.0, "psnr": math.inf, "ssim": math.nan}) for name in "ab"]
    for name in "ab":
        draw_images(tmp_path, name)
    path = write_page(tmp_path, rows)
    for sort in ("l1", "psnr", "ssim"):
        browser.open(path, f"sort={sort}&image=a")
        assert listed(browser) == ["a", "b"]
    assert [bar.get_attribute("aria-label") for bar in browser.all(".bar")] == [
        "0.0000 to 0.0001: 2 images"]
    assert browser.texts(".mark text") == ["mean", "median"]
    assert browser.texts("#viewer-metrics div")[1:] == ["PSNR∞ worst of 2", "SSIMNaN no rank"]
    assert browser.texts('[data-metric="ssim"] .statistics dd') == ["–"] * 3
    assert [text.split(":")[0] for text in browser.texts(".note")] == [
        "Of 2 values 2 are infinite", "Of 2 values 2 are NaN"]


# ---- sort and filter


def test_sorted_worst_first_by_header_button_list_and_choice(browser, made):
    path, rows = made
    browser.open(path)
    assert listed(browser)[:5] == names_by(rows, "l1")[:5]  # the worst, at once
    heads = '#head [data-column="{}"]'
    assert browser.one(heads.format("l1")).get_attribute("aria-sort") == "descending"
    browser.click(heads.format("psnr") + " button")
    assert listed(browser) == names_by(rows, "psnr")[:8]
    assert browser.one(heads.format("psnr")).get_attribute("aria-sort") == "ascending"
    assert browser.one(heads.format("l1")).get_attribute("aria-sort") is None
    browser.click(heads.format("psnr") + " button")
    assert listed(browser) == names_by(rows, "psnr", worst_first=False)[:8]
    assert browser.one(heads.format("psnr")).get_attribute("aria-sort") == "descending"
    assert browser.texts(ORDER) == ["worst first", "best first"]
    browser.click(ORDER, 0)
    assert listed(browser) == names_by(rows, "psnr")[:8]
    browser.click(heads.format("name") + " button")
    assert listed(browser) == [str(number) for number in range(1, 9)]
    assert browser.texts(ORDER) == ["A to Z", "Z to A"]
    browser.click(ORDER, 1)
    assert listed(browser)[:3] == ["40", "39", "38"]
    browser.one("#sort option[value=ssim]").click()
    assert listed(browser) == names_by(rows, "ssim")[:8]


def test_filter_by_name_says_how_many(browser, made):
    path, _ = made
    browser.open(path, "sort=name")
    browser.press("/")
    browser.press(*"3 ")
    assert listed(browser) == ["3", "13", "23", *map(str, range(30, 35))]
    assert browser.one("#count").text == "13 of 40 shown"
    assert browser.one("#count").get_attribute("role") == "status"
    assert browser.one("#table").get_attribute("aria-rowcount") == "14"
    browser.press(*"x?")  # in the box a ? is only a letter
    assert browser.one("#empty").text == "No image has this name."
    assert browser.one("#count").text == "0 of 40 shown" and not browser.all("#keys[open]")


def test_what_is_found_is_reached_by_keys(browser, made):
    from selenium.webdriver import Keys
    path, rows = made
    browser.open(path, "sort=name")
    browser.press("/", *"3", Keys.ARROW_DOWN)
    assert browser.run("return document.activeElement.textContent") == "3"
    browser.press("/", *"7", Keys.ENTER)  # 37 is the only one
    assert browser.one("#viewer-name").text == "37"
    # one alone has those beside it in the list as its neighbours
    assert browser.one("#viewer-place").text == "37 of 40"
    browser.press(Keys.ARROW_RIGHT)
    assert browser.one("#viewer-name").text == "38"
    browser.press(Keys.ESCAPE)
    browser.wait("document.activeElement.textContent === '38'")
    assert browser.one("#count").text == "40 of 40 shown"
    browser.press("/", *"9", Keys.ENTER)  # of several, these are the neighbours
    assert browser.one("#viewer-place").text == "1 of 4"


def test_names_are_found_in_any_case_and_with_accents_of_any_encoding(browser, tmp_path):
    names = ["Cafe\u0301 1", "caf\xe9 2", "cafe 3"]
    for name in names:
        draw_images(tmp_path, name)
    browser.open(write_page(tmp_path, [*zip(names, draw_values(3), strict=True)]),
                 "sort=name&find=CAF%C3%89")
    browser.settle()
    assert listed(browser) == names[:2]
    assert browser.run("return [...document.images].every((image) => image.naturalWidth)")


def test_ten_thousand_rows_are_usable(browser, tmp_path):
    draw_images(tmp_path, "x")
    (tmp_path / "images").rename(tmp_path / "one")
    (tmp_path / "images").mkdir()
    rows = [(f"frame_{number}", values) for number, values in enumerate(draw_values(10_000))]
    for (name, _), kind in itertools.product(rows, page.KINDS):
        os.link(tmp_path / "one" / f"x-{kind}.png", tmp_path / "images" / f"{name}-{kind}.png")
    browser.open(write_page(tmp_path, rows))
    assert browser.one("#count").text == "10,000 of 10,000 shown"
    assert browser.one("#table").get_attribute("aria-rowcount") == "10001"
    assert len(browser.all("#rows tr")) < 60
    times = browser.run("""
      const times = [];
      for (const changes of [{ sort: "psnr" }, { order: "best" }, { sort: "name", order: "up" },
        { find: "99" }, { find: "" }, { bin: "ssim:3" }, { bin: null }]) {
        const start = performance.now();
        update(changes);
        document.body.getBoundingClientRect(); // the layout too
        times.push(performance.now() - start);
      }
      return times;""")
    assert sum(times) < 5000, times  # 70 on two cores that do nothing else
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    browser.wait("document.querySelector('#rows').textContent.includes('frame_9999')")
    assert browser.run(f"return [...document.querySelectorAll('{LISTED}')].at(-1).ariaRowIndex") \
        == "10001"
    assert len(browser.all("#rows tr")) < 60
    # and the height is that of all rows: every place of the scroll bar leads somewhere
    browser.run("window.scrollTo(0, document.body.scrollHeight / 2)")
    browser.wait("Number(document.querySelector('#rows tr[data-place]').dataset.place) < 9000")
    first = browser.run(f"return document.querySelector('{LISTED}').dataset.place")
    assert 4500 < int(first) < 5500


def test_rows_are_reached_by_keyboard(browser, made):
    from selenium.webdriver import Keys
    path, rows = made
    browser.open(path, "sort=name")
    focused = "document.activeElement.textContent"
    browser.run("document.querySelector('#rows button[tabindex=\"0\"]').focus()")
    browser.press(*[Keys.ARROW_DOWN] * 3)
    assert browser.run(f"return {focused}") == "4"
    browser.press(Keys.END)
    assert browser.run(f"return {focused}") == "40"
    row = "document.activeElement.closest('tr')"
    rect = browser.run(f"return {row}.getBoundingClientRect().toJSON()")
    assert 0 <= rect["top"] and rect["bottom"] <= 800 + 1
    assert len(browser.all('#rows button[tabindex="0"]')) == 1
    browser.press(Keys.ENTER)
    assert browser.one("#viewer-name").text == "40"
    browser.press(Keys.ARROW_UP, Keys.ESCAPE)
    browser.wait(f"{focused} === '39'")


# ---- the large view


def shown_images(browser):
    """The boxes of the large view's images in device pixels: kind -> (left, top, width, height)."""
    return browser.run("""
      return Object.fromEntries([...document.querySelectorAll("#stage img")].map((image) => {
        const { left, top, width, height } = image.getBoundingClientRect();
        return [image.dataset.kind,
          [left, top, width, height].map((value) => value * devicePixelRatio)];
      }));""")


def cut(pixels, box):
    """The part of a screenshot that a box of whole device pixels holds."""
    left, top, width, height = (round(value) for value in box)
    assert np.abs(np.array(box) - [left, top, width, height]).max() < 0.05, box  # 1/64 at most
    return pixels[top:top + height, left:left + width]


def test_a_row_opens_by_click_and_arrows_go_on(browser, made):
    from selenium.webdriver import Keys
    path, rows = made
    order = names_by(rows, "l1")
    browser.open(path)
    browser.click(f"{LISTED} img")
    name, place = browser.one("#viewer-name"), browser.one("#viewer-place")
    assert (name.text, place.text) == (order[0], "1 of 40")
    assert not browser.one("#previous").is_enabled()
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert (name.text, place.text) == (order[2], "3 of 40")
    shown = browser.texts("#viewer-metrics div")
    assert shown[0] == f"L1{dict(rows)[order[2]]['l1']:.4f} 3rd worst of 40"
    for text, metric in zip(shown[1:], ("psnr", "ssim"), strict=True):
        rank = names_by(rows, metric).index(order[2]) + 1
        place, word = (rank, "worst") if rank <= 20 else (41 - rank, "best")
        assert re.search(rf" {place}(st|nd|rd|th) {word} of 40$", text)
    browser.press(Keys.ARROW_LEFT)
    assert name.text == order[1]
    browser.click("#next")
    assert name.text == order[2]
    links = browser.all("#files a")
    assert [urllib.parse.unquote(link.get_attribute("href")).rsplit("/", 2)[1:] for link in links] \
        == [["images", f"{order[2]}-{kind}.png"] for kind in page.KINDS]
    browser.press(Keys.ESCAPE)
    browser.wait("!document.querySelector('dialog[open]')")
    browser.wait(f"document.activeElement.textContent === '{order[2]}' && !location.hash")


def test_side_by_side_shows_the_pixels_and_sizes(browser, made):
    path, rows = made
    browser.open(path, "image=7")
    pixels, boxes = browser.pixels(), shown_images(browser)
    for kind in page.KINDS:
        expected = np.asarray(Image.open(path.parent / "images" / f"7-{kind}.png"), int)
        got = cut(pixels, boxes[kind])
        scale = got.shape[0] // 20
        assert scale > 8
        np.testing.assert_array_equal(got, np.kron(expected, np.ones((scale, scale, 1), int)))
    assert browser.texts("#stage .caption") == [f"{kind}, 24 × 20" for kind in
                                                ("input", "output", "target")]


@pytest.mark.parametrize("ratio, zoom", [(1, 4), (2, 1), (1.5, 8)])
def test_zoom_is_of_whole_device_pixels_without_blur(browser_of, made, ratio, zoom):
    path, rows = made
    browser = browser_of(ratio)
    browser.open(path, f"image=7&view=flip&zoom={zoom}", size=(801, 603))
    pixels, box = browser.pixels(), shown_images(browser)["outputs"]
    expected = np.asarray(Image.open(path.parent / "images" / "7-outputs.png"), int)
    expected = np.kron(expected, np.ones((zoom, zoom, 1), int))
    np.testing.assert_array_equal(cut(pixels, box), expected)


def test_a_large_image_is_moved_and_zoomed_around_the_pointer(browser, tmp_path):
    from selenium.webdriver import ActionChains, Keys
    drawn = draw_images(tmp_path, "a", size=(700, 500), seed=2)
    browser.open(write_page(tmp_path, [("a", draw_values(1)[0])]), "image=a&view=flip",
                 size=(640, 480))
    browser.settle()
    assert shown_images(browser)["outputs"][2] < 640  # fits, so it is scaled down
    browser.press("+")
    browser.settle()
    left, top, width, height = shown_images(browser)["outputs"]
    assert (width, height) == (700, 500)
    stage = browser.one("#stage .box")
    ActionChains(browser.driver).drag_and_drop_by_offset(stage, 20, 10).perform()
    browser.settle()
    moved = shown_images(browser)["outputs"]
    assert moved[:2] == [left + 20, top + 10]
    browser.press((Keys.SHIFT, Keys.ARROW_RIGHT))
    # the pixels in the middle are those of the image there
    pixels, box = browser.pixels(), shown_images(browser)["outputs"]
    x, y = 320 - round(box[0]), 300 - round(box[1])
    np.testing.assert_array_equal(pixels[290:310, 310:330],
                                  drawn["outputs"][y - 10:y + 10, x - 10:x + 10])
    assert box[0] < moved[0]


def test_difference_is_that_of_the_pixels(browser, made):
    path, rows = made
    one, other = (np.asarray(Image.open(path.parent / "images" / f"7-{kind}.png"), int)
                  for kind in ("outputs", "targets"))
    browser.open(path, "image=7&zoom=4")
    browser.press("d")
    for index, factor in enumerate((1, 4, 8)):
        browser.click("#viewer-bar [aria-label^=Brightness] button", index)
        got = cut(browser.pixels(), shown_images(browser)["outputs"])
        expected = np.minimum(255, np.abs(one - other) * factor)
        np.testing.assert_array_equal(got, np.kron(expected, np.ones((4, 4, 1), int)))
        assert browser.texts("#stage .caption") == [f"|output − target| × {factor}, 24 × 20"]
    browser.one("#viewer-bar option[value=inputs-targets]").click()
    one = np.asarray(Image.open(path.parent / "images" / "7-inputs.png"), int)
    got = cut(browser.pixels(), shown_images(browser)["targets"])
    np.testing.assert_array_equal(got[::4, ::4], np.minimum(255, np.abs(one - other) * 8))


def test_swipe_shows_one_image_left_and_the_other_right(browser, made):
    from selenium.webdriver import ActionChains, Keys
    path, rows = made
    one, other = (np.kron(np.asarray(Image.open(path.parent / "images" / f"7-{kind}.png"), int),
                          np.ones((8, 8, 1), int)) for kind in ("outputs", "targets"))
    browser.open(path, "image=7&zoom=8")
    browser.press("w")

    def check():
        """The pixels on both sides of the line; returns where it is."""
        got = cut(browser.pixels(), shown_images(browser)["outputs"])
        line = float(browser.one("#swipe-range").get_attribute("value")) / 100 * got.shape[1]
        before, after = math.floor(line) - 3, math.ceil(line) + 3
        np.testing.assert_array_equal(got[:, :before], one[:, :before])
        np.testing.assert_array_equal(got[:, after:], other[:, after:])
        return line / got.shape[1]
    assert check() == 0.5
    slider = browser.one("#swipe-range")
    browser.run("arguments[0].focus()", slider)
    browser.press(*[Keys.ARROW_RIGHT] * 5)  # moves the slider and not to the next image
    assert browser.one("#viewer-name").text == "7" and check() > 0.5
    assert slider.get_attribute("aria-valuetext").endswith("% target")
    box = browser.one("#stage .box")
    width = box.size["width"]
    ActionChains(browser.driver).move_to_element_with_offset(box, round(-width / 4), 0) \
        .click_and_hold().release().perform()
    assert check() == pytest.approx(0.25, abs=0.02)
    browser.press(Keys.END)


def test_flip_shows_kinds_in_place(browser, made):
    from selenium.webdriver import Keys
    path, rows = made
    browser.open(path, "image=7&zoom=4")

    def shown():
        """The kind whose pixels are there, and the caption's."""
        got = cut(browser.pixels(), shown_images(browser)["outputs"])[::4, ::4]
        kinds = [kind for kind in page.KINDS if np.array_equal(got, np.asarray(
            Image.open(path.parent / "images" / f"7-{kind}.png"), int))]
        assert browser.texts("#stage .caption") == [f"{kinds[0][:-1]}, 24 × 20"]
        return kinds
    browser.press("2")
    assert shown() == ["outputs"]
    place = shown_images(browser)["outputs"]
    browser.press("3")
    assert shown() == ["targets"] and shown_images(browser)["targets"] == place
    browser.press(Keys.SPACE)
    assert shown() == ["outputs"]
    browser.press(Keys.SPACE)
    assert shown() == ["targets"]
    browser.click("#viewer-bar [aria-label=Image] button", 0)
    assert shown() == ["inputs"]
    browser.wait("location.hash === '#image=7&view=flip&zoom=4'")


@pytest.mark.parametrize("width, height, factor", [(1280, 800, None), (2560, 1440, 3)])
def test_fit_fills_the_window(browser, tmp_path, width, height, factor):
    """By a fraction below twice the size, from there on by whole multiples with sharp pixels."""
    draw_images(tmp_path, "a", size=(256, 256))
    browser.open(write_page(tmp_path, [("a", draw_values(1)[0])]), "image=a", size=(width, height))
    browser.settle()
    boxes = shown_images(browser)
    across = sum(box[2] for box in boxes.values())
    rendering = browser.run(
        "return getComputedStyle(document.querySelector('#stage img')).imageRendering")
    if factor:
        assert {box[2] for box in boxes.values()} == {256 * factor} and rendering == "pixelated"
    else:
        assert width - 80 < across < width and rendering == "auto"
    browser.click("#viewer-bar [aria-label=Zoom] button", 1)
    browser.settle()
    assert {box[2] for box in shown_images(browser).values()} == {256}


def test_captions_stay_whole_above_zoomed_images(browser, tmp_path):
    draw_images(tmp_path, "a", size=(256, 256))
    browser.open(write_page(tmp_path, [("a", draw_values(1)[0])]), "image=a")
    for view, zoom in itertools.product(("side", "swipe", "flip", "difference"), (1, 8)):
        browser.show(f"image=a&view={view}&zoom={zoom}")
        for caption, box in zip(browser.all("#stage .caption"), browser.all("#stage .box"),
                                strict=True):
            above, below = caption.rect, box.rect
            assert above["height"] == 24 and above["y"] + 24 <= below["y"] + 0.5, (view, zoom)


def test_question_mark_lists_the_keys(browser, made):
    from selenium.webdriver import Keys
    path, _ = made
    browser.open(path)
    browser.press("?")
    assert "large view of the row" in browser.one("#keys").text
    browser.press(Keys.ESCAPE)
    browser.click(f"{LISTED} img")
    browser.press("?")
    assert browser.all("#keys[open]")
    browser.press(Keys.ESCAPE)
    browser.wait("!document.querySelector('#keys[open]')")
    assert browser.all("#viewer[open]")
    browser.click("#viewer-help")
    assert browser.all("#keys[open]")


# ---- state, names, other kinds of tests


def test_a_link_shows_the_same(browser, made):
    path, rows = made
    browser.open(path)
    browser.click('#head [data-column="ssim"] button')
    browser.click('#head [data-column="ssim"] button')
    browser.run("document.getElementById('find').focus()")
    browser.press("2")
    browser.click(f"{LISTED} img", 2)
    browser.press("d")
    browser.click("#viewer-bar [aria-label=Zoom] button", 4)
    state = browser.wait("location.hash.endsWith('&view=difference&zoom=8') ? location.hash : 0")
    assert state.startswith("#sort=ssim&order=best&find=2&image=")
    before = [*listed(browser)], browser.one("#viewer").text, shown_images(browser)
    browser.open(path, state[1:])
    browser.settle()
    assert ([*listed(browser)], browser.one("#viewer").text, shown_images(browser)) == before
    browser.driver.refresh()
    browser.settle()
    assert ([*listed(browser)], browser.one("#viewer").text, shown_images(browser)) == before
    # an address that is changed by hand
    browser.run("location.hash = '#sort=name'")
    browser.wait("!document.querySelector('dialog[open]')")
    assert listed(browser)[:3] == ["1", "2", "3"]
    assert browser.one("#find").get_attribute("value") == ""


@pytest.mark.parametrize("state", ["sort=none&order=worst", "bin=l1:9999", "bin=x", "image=none",
                                   "view=none&pair=a-b&zoom=3&factor=x&image=7", "size=1",
                                   "constructor=1&__proto__=1", "bin=constructor:1", "%", "&&==="])
def test_an_address_that_makes_no_sense_is_harmless(browser, made, state):
    path, rows = made
    browser.open(path, state)
    assert browser.one("#count").text == "40 of 40 shown"
    assert listed(browser)[:5] == names_by(rows, "l1")[:5]


def test_names_are_text_whatever_they_hold(browser, tmp_path):
    rows = [*zip(ODD_NAMES, draw_values(len(ODD_NAMES)), strict=True)]
    for index, name in enumerate(ODD_NAMES):
        draw_images(tmp_path, name, seed=index)
    path = write_page(tmp_path, rows, notes=["<b>a & b</b>"])
    browser.open(path, "sort=name")
    browser.settle()
    shown = [name.replace("\udcff", "\N{REPLACEMENT CHARACTER}") for name in ODD_NAMES]
    assert sorted(browser.texts(f"{LISTED} th")) == sorted(shown)
    assert browser.run("return [...document.images].every((image) => image.naturalWidth === 24)")
    assert browser.run("return document.title") == "a test"
    assert not browser.all("b") and browser.texts(".note") == ["<b>a & b</b>"]
    for index in range(len(ODD_NAMES)):
        browser.show("sort=name")
        browser.click(f"{LISTED} img", 3 * index)
        name = browser.texts("#viewer-name")
        browser.wait("location.hash.includes('image=')")
        browser.driver.refresh()
        browser.settle()
        assert browser.texts("#viewer-name") == name and name[0] in shown
        assert browser.texts("#stage .caption")[0] == "input, 24 × 20"


def test_without_targets_there_is_a_page_too(browser, tmp_path):
    kinds = page.KINDS[:2]
    drawn = {}
    for name in ("b", "a10", "a9"):
        drawn = draw_images(tmp_path, name, kinds=kinds)
    browser.open(write_page(tmp_path, [(name, {}) for name in ("b", "a10", "a9")], kinds))
    assert listed(browser) == ["a9", "a10", "b"]
    assert browser.texts("#head th") == ["name▲", "input", "output"]
    assert not browser.all("svg") and "target" not in browser.one("body").text
    browser.click(f"{LISTED} img")
    for key in "swfd":
        browser.press(key)
        browser.settle()
        assert "target" not in browser.one("#viewer").text
    got = cut(browser.pixels(), shown_images(browser)["outputs"])
    scale = got.shape[0] // 20
    np.testing.assert_array_equal(got[::scale, ::scale], np.abs(
        drawn["inputs"].astype(int) - drawn["outputs"]))


def test_images_of_any_size_side_by_side(browser, tmp_path):
    """Mixed sizes, and inputs that are several images side by side."""
    sizes = [{"inputs": (90, 20), "outputs": (30, 20), "targets": (30, 20)},
             {"inputs": (4, 4), "outputs": (4, 4), "targets": (4, 4)},
             {"inputs": (2000, 1200), "outputs": (2000, 1200), "targets": (2000, 1200)}]
    rows = [*zip("abc", draw_values(3), strict=True)]
    for (name, _), size in zip(rows, sizes, strict=True):
        draw_images(tmp_path, name, size=size)
    path = write_page(tmp_path, rows)
    browser.open(path, size=(900, 700))
    browser.settle()
    widths = browser.run("""
      return [...document.querySelectorAll("#head .image")].map((head) => head.clientWidth - 12);""")
    assert widths[0] / widths[1] == pytest.approx(4 / 1.6667, rel=0.03)  # 4 is the most
    for (name, _), size in zip(rows, sizes, strict=True):
        for view in ("side", "swipe", "flip", "difference"):
            browser.show(f"image={name}&view={view}")
            stage = browser.run(
                "return document.querySelector('#stage').getBoundingClientRect().toJSON()")
            for kind, (left, top, width, height) in shown_images(browser).items():
                assert width / height == pytest.approx(size[kind][0] / size[kind][1], rel=1e-2)
                assert stage["left"] - 1 <= left and left + width <= stage["right"] + 1
                assert stage["top"] - 1 <= top and top + height <= stage["bottom"] + 1
            captions = " ".join(browser.texts("#stage .caption"))
            assert "{} × {}".format(*size["outputs"]) in captions
    browser.show("image=a&view=swipe&pair=inputs-outputs")
    assert browser.texts("#stage .caption") == ["input | output, 90 × 20 and 30 × 20"]


def test_a_page_without_images_says_so(browser, tmp_path):
    browser.open(write_page(tmp_path, []))
    assert browser.one("#empty").text == "There are no images yet."
    assert browser.one("#count").text == "0 of 0 shown"


# ---- everybody


@pytest.mark.parametrize("width, height, thumb", [(1280, 800, 160), (2560, 1440, 448)])
def test_two_rows_are_whole_beside_the_summary(browser, tmp_path, width, height, thumb):
    rows = [*zip("abc", draw_values(3), strict=True)]
    for name, _ in rows:
        draw_images(tmp_path, name, size=(256, 256))
    browser.open(write_page(tmp_path, rows), size=(width, height))
    browser.settle()
    image = browser.all(f"{LISTED} img")[0].rect
    assert (image["width"], image["height"]) == (thumb, thumb)
    second = browser.all(LISTED)[1].rect
    assert second["y"] + second["height"] <= height
    assert browser.one("#metrics").rect["y"] > 0 and browser.run("return scrollY") == 0


@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_statistics_stay_in_their_cards(browser, tmp_path, width):
    rows = [(name, {"l1": 0.25 + number, "psnr": -12.34 + number, "ssim": -0.0291 - number})
            for number, name in enumerate(("short", "a_long_name_" * 9, "-" * 99))]
    for name, _ in rows:
        draw_images(tmp_path, name)
    browser.open(write_page(tmp_path, rows), size=(width, 900))
    assert browser.run("""
      return [...document.querySelectorAll("#metrics .card")].every((card) => {
        const inside = card.getBoundingClientRect();
        return [...card.querySelectorAll("dt, dd, svg, .hint")].every((node) => {
          const box = node.getBoundingClientRect();
          return box.left >= inside.left && box.right <= inside.right - 8
            && box.bottom <= inside.bottom;
        });
      });""")


@pytest.mark.parametrize("width", [400, 1280, 2560])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_window_and_all_text_is_readable(browser, made, width, dark):
    path, _ = made
    browser.open(path, size=(width, 900), dark=dark)
    for state in ("", "bin=l1:3&find=1", "image=7", "image=7&view=swipe", "image=7&view=flip",
                  "image=7&view=difference"):
        browser.show(state)
        assert browser.run("return document.documentElement.scrollWidth") <= width, state
        assert browser.run("""
          return [...document.querySelectorAll("#viewer[open] :is(button, select, input, a)")]
            .filter((node) => node.checkVisibility()).map((node) => node.getBoundingClientRect())
            .every(({ left, right, top, bottom }) => left >= 0 && right <= innerWidth
              && top >= 0 && bottom <= innerHeight);"""), state
        assert browser.low_contrasts() == [], state


def test_every_control_has_a_name(browser, made):
    path, _ = made
    browser.open(path)
    for state in ("", "bin=l1:3", "image=7&view=swipe", "image=7&view=difference"):
        browser.show(state)
        assert browser.unnamed() == []


def test_paper_holds_the_summary_and_the_worst_rows(browser, made):
    path, rows = made
    browser.open(path)
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.texts(f"{LISTED} th") == names_by(rows, "l1")[:20]
    assert browser.texts("#printed") == ["20 of 40 images, by L1, worst first"]
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    browser.command("Page.printToPDF")  # fires both by itself
    assert browser.one("#table").get_attribute("aria-rowcount") == "41"
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    browser.wait("document.querySelector('#rows').lastChild.previousSibling.dataset.place === '39'")
