"""The training page, in a browser: what it shows, every control, every key, and its refreshing."""

import csv
import io
import math
import time

import numpy as np
import pytest
from PIL import Image

from tools.lib import run_page

NAMES = ["one", 'two <b>"x" %41#?&amp;']
STEPS = [200, 400, 600, 800]
CHARTS = [
    {"title": "L1", "about": "Should fall.", "better": "lower", "healthy": None,
     "lines": [{"name": "training", "column": "l1"}, {"name": "validation", "column": "val_l1"}]},
    {"title": "Discriminator", "about": "Between.", "better": None, "healthy": [0.3, 1.2],
     "lines": [{"name": "training", "column": "discrim_loss"}]}]
GEOMETRY = """
  // The lines, axes and marks of a chart, in pixels.
  const svg = document.querySelectorAll(".plot svg")[arguments[0]];
  const at = (node, ...names) => names.map((name) => Number(node.getAttribute(name)));
  const number = (node) => Number(node.textContent.replaceAll(",", "").replace("−", "-"));
  return {
    xs: [...svg.querySelectorAll(".x-tick")].map((tick) => [...at(tick, "x"), number(tick)]),
    ys: [...svg.querySelectorAll(".y-tick")].map((tick) => [at(tick, "y")[0] - 4, number(tick)]),
    paths: [...svg.querySelectorAll(".raw, .smoothed")].map((path) => [
      path.getAttribute("class"), path.getAttribute("d")]),
    dots: svg.querySelectorAll(".dot").length,
    band: [...svg.querySelectorAll(".band")].map((band) => at(band, "y", "height"))[0],
    ring: [...svg.querySelectorAll(".best-ring")].map((ring) => at(ring, "cx", "cy"))[0],
    stars: [...svg.querySelectorAll("text.best")].map((star) => at(star, "x")[0]),
    gaps: [...svg.querySelectorAll(".gap")].map((gap) => gap.getAttribute("d")),
    texts: [...svg.querySelectorAll("text")].map((text) => text.textContent),
  };"""


def draw_figures(count, every=10, seed=4):
    """The columns of so many rows: training falls noisily, validation falls and rises again."""
    rng, index = np.random.default_rng(seed), np.arange(1, count + 1)
    part = index / max(count, 1)
    training = (0.1 + 0.3 * np.exp(-4 * part)) * rng.lognormal(0, 0.1, count)
    validation = 0.2 + 0.4 * (part - 0.6) ** 2
    return {"step": [int(step) for step in 10 * index],
            "l1": [round(float(value), 6) for value in training],
            "val_l1": [round(float(value), 6) if row % every == 0 else None
                       for row, value in zip(index, validation, strict=True)],
            "discrim_loss": [round(float(value), 6) for value in rng.uniform(0.4, 1.6, count)]}


def make_run(rows=80, **changes):
    """A run that lives, of which some parts are changed."""
    columns = draw_figures(rows)
    measured = [(value, step) for value, step in zip(columns["val_l1"], columns["step"],
                                                     strict=True) if value is not None]
    value, step = min(measured, default=(None, None))
    return {
        "title": "facades_train", "number": time.time_ns() // 1000, "written": time.time(),
        "state": "running", "next": 60,
        "progress": {"step": 10 * rows, "stop_step": 1600, "epoch": 3, "rate": 6.123,
                     "remaining": 540},
        "facts": [["pairs", "400"]], "notes": [],
        "options": [["--lr", "0.0002", True], ["--ngf", "8", False]],
        "charts": CHARTS, "columns": columns,
        "best": {"metric": "L1", "step": step, "value": value,
                 "checkpoint": f"best-{step}"} if measured else None,
        "samples": {"folder": "samples", "about": "validation", "names": NAMES, "steps": STEPS},
        "display": [], **changes}


def draw_samples(folder, names=NAMES, steps=STEPS):
    """Writes images of 8x6 pixels."""
    (folder / "samples").mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for name in names:
        files = [f"{name}-inputs.png", f"{name}-targets.png",
                 *(f"{step:08d}-{name}-outputs.png" for step in steps)]
        for file in files:
            image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
            image.save(folder / "samples" / file)


@pytest.fixture
def folder(tmp_path):
    """A folder with samples."""
    draw_samples(tmp_path)
    return tmp_path


def settle(browser):
    """Waits until the charts have their width and the images of the film strip are there, in place
    of those shown before."""
    browser.wait("[...document.querySelectorAll('.plot')].every((plot) => !plot.clientWidth ||"
                 "!plot.firstChild || plot.firstChild.getAttribute('width') == plot.clientWidth)")
    browser.wait("[...document.querySelectorAll('.samples .image')].every((box) => box.firstChild)"
                 "&& [...document.querySelectorAll('[data-source]')].every("
                 "(box) => box.firstChild?.getAttribute('src') === box.dataset.source)"
                 "&& [...document.querySelectorAll('.strip img')].every((image) => image.complete)")


def show(browser, folder, run, **view):
    """Writes a run and opens its page; returns the run."""
    run_page.write_run_page(folder, run)
    browser.open(folder / "index.html", **view)
    browser.wait("page.run !== null")
    settle(browser)
    return run


def refresh(browser, folder, run):
    """Writes a run again and shows the page that was hidden."""
    run_page.write_run_page(folder, run)
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    browser.wait("page.run.number === arguments[0]", run["number"])
    settle(browser)


def scale(ticks):
    """The function from pixels to values of an axis, from its first and last tick."""
    (x0, low), (x1, high) = ticks[0], ticks[-1]
    return lambda x: low + (x - x0) * (high - low) / (x1 - x0)


def points_of(chart, kind, index=0, log=False):
    """The points of a line of a chart's GEOMETRY, in steps and values, without gaps."""
    d = [d for classes, d in chart["paths"] if kind in classes.split()][index]
    step_at = scale(chart["xs"])
    value_at = scale([(y, math.log(value) if log else value) for y, value in chart["ys"]])
    pairs = [pair.split() for pair in d.replace("M", "L").split("L")[1:]]
    return [(step_at(float(x)), math.exp(value_at(float(y))) if log else value_at(float(y)))
            for x, y in pairs]


def smooth(steps, values, span):
    """The average of each value and those before it, weighted by exp(-distance / span)."""
    steps = np.array(steps, float)
    return [np.average(values[:end], weights=np.exp((steps[:end] - steps[end - 1]) / span))
            for end in range(1, len(steps) + 1)]


def legend(browser, chart=0):
    """The texts of a chart's legend: the step, then each line."""
    return browser.run("return [...document.querySelectorAll('.legend')[arguments[0]].children]"
                       ".map((node) => node.textContent)", chart)


def point_at(browser, step, chart=0):
    """Moves the mouse over a step of a chart; returns where it is, from the chart's corner."""
    from selenium.webdriver import ActionChains
    plot = browser.all(".plot")[chart]
    (x0, low), (x1, high) = [browser.run(GEOMETRY, chart)["xs"][end] for end in (0, -1)]
    x = x0 + (step - low) * (x1 - x0) / (high - low)
    ActionChains(browser.driver, duration=0).move_to_element_with_offset(
        plot, round(x - plot.size["width"] / 2), 0).perform()


def sources(browser, kind=None):
    """The addresses of the images that are shown in the strip, from samples/ on."""
    found = browser.run("return [...document.querySelectorAll('.samples img')].map("
                        "(image) => image.getAttribute('src'))")
    return found if kind is None else found[kind::3]


# ---- charts


@pytest.mark.parametrize("rows", [1, 2, 5, 80])
def test_charts_draw_every_value_at_its_place(browser, folder, rows):
    run = show(browser, folder, make_run(rows), state="smoothing=0")
    chart = browser.run(GEOMETRY, 1)
    steps, values = run["columns"]["step"], run["columns"]["discrim_loss"]
    drawn = points_of(chart, "smoothed")
    assert len(drawn) == rows
    height = abs(chart["ys"][0][1] - chart["ys"][-1][1])
    for (step, value), expected, actual in zip(drawn, steps, values, strict=True):
        assert step == pytest.approx(expected, abs=steps[-1] / 500)
        assert value == pytest.approx(actual, abs=height / 100)
    for ticks in (chart["xs"], chart["ys"]):  # round numbers, equally far apart
        numbers = np.array([number for _, number in ticks])
        assert np.ptp(np.diff(numbers)) < 1e-9
        spacing = f"{numbers[1] - numbers[0]:e}"
        assert spacing[0] in "125" and float(spacing[1:spacing.index("e")]) == 0
    assert "step" in chart["texts"]


def test_a_run_without_figures_says_so(browser, tmp_path):
    run = make_run(0, samples={**make_run()["samples"], "names": [], "steps": []})
    show(browser, tmp_path, run)
    assert [chart["texts"] for chart in (browser.run(GEOMETRY, 0), browser.run(GEOMETRY, 1))] == \
        [["no figures yet"]] * 2
    assert browser.texts("#verdict") == ["There are no figures yet."]
    assert browser.texts("#tone") == ["Too early to tell."]
    assert not browser.one(".strip").is_displayed()


def test_many_values_are_thinned_but_lowest_and_highest_stay(browser, folder):
    run = make_run(5000)
    values = run["columns"]["discrim_loss"]
    values[1234], values[3456] = 9.0, -3.0
    show(browser, folder, run)
    drawn = points_of(browser.run(GEOMETRY, 1), "raw")
    assert 1000 < len(drawn) <= 4 * browser.all(".plot")[1].size["width"]
    shown = [value for _, value in drawn]
    assert max(shown) == pytest.approx(9, abs=0.1) and min(shown) == pytest.approx(-3, abs=0.1)
    assert (drawn[0][0], drawn[-1][0]) == pytest.approx((10, 50000), abs=100)


def test_smoothing_is_an_average_weighted_by_steps(browser, folder):
    run = make_run(200)
    columns = run["columns"]
    columns["step"] = [step + 300 * (step > 1000) for step in columns["step"]]  # unequally far
    show(browser, folder, run)
    span = 0.02 * (columns["step"][-1] - columns["step"][0])
    for position, part in ((None, 0.02), (5, 0.1)):
        if position:
            browser.run("find('span').value = arguments[0];"
                        "find('span').dispatchEvent(new Event('input'))", position)
        span = part * (columns["step"][-1] - columns["step"][0])
        expected = smooth(columns["step"], columns["discrim_loss"], span)
        chart = browser.run(GEOMETRY, 1)
        drawn = [value for _, value in points_of(chart, "smoothed")]
        assert drawn == pytest.approx(expected, abs=0.01)
        assert browser.texts("#span-text") == [f"over {span:.0f} steps"]
        text = f"smoothed {expected[-1]:#.4g}"
        assert legend(browser, 1)[1].endswith(text)
        assert len(points_of(chart, "raw")) == 200
    # validation, measured every tenth time, is drawn as it is
    validation = points_of(browser.run(GEOMETRY, 0), "smoothed", 1)
    assert [value for _, value in validation] == pytest.approx(
        [value for value in columns["val_l1"] if value is not None], abs=0.01)


@pytest.mark.parametrize("rows, smoothed", [(40, False), (60, True)])
def test_values_are_marked_where_they_are_not_averages(browser, folder, rows, smoothed):
    """An average over less than a row is none."""
    show(browser, folder, make_run(rows))
    assert browser.run(GEOMETRY, 1)["dots"] == (0 if smoothed else rows)
    assert ("smoothed" in legend(browser, 1)[1]) == smoothed
    text, = browser.texts("#span-text")
    assert text == ("over 12 steps" if smoothed else "too few rows yet")


def test_early_steps_can_be_ignored(browser, folder):
    run = show(browser, folder, make_run(), state="smoothing=0")
    box = browser.one("#from")
    box.send_keys("300")
    browser.press("\ue007")
    drawn = points_of(browser.run(GEOMETRY, 1), "smoothed")
    assert len(drawn) == sum(step >= 300 for step in run["columns"]["step"]) == 51
    assert drawn[0][0] == pytest.approx(300, abs=2)


def test_log_scale(browser, folder):
    columns = draw_figures(6)
    columns["discrim_loss"] = [100.0, 10.0, 1.0, 0.0, -1.0, 0.01]
    show(browser, folder, make_run(6, columns=columns), state="smoothing=0")
    browser.click("#log")
    chart = browser.run(GEOMETRY, 1)
    assert browser.one("#log").get_attribute("aria-pressed") == "true"
    drawn = [value for _, value in points_of(chart, "smoothed", log=True)]
    assert drawn == pytest.approx([100, 10, 1, 0.01], rel=0.03)
    paths = [d for classes, d in chart["paths"] if "smoothed" in classes]
    assert paths[0].count("M") == 2  # nothing is drawn across what cannot be shown
    assert browser.texts(".remarks")[1] == "2 values of 0 or less cannot be shown on a log scale"
    top, height = chart["band"]
    value_at = scale([(y, math.log(value)) for y, value in chart["ys"]])
    assert math.exp(value_at(top)) == pytest.approx(1.2, rel=0.05)
    assert math.exp(value_at(top + height)) == pytest.approx(0.3, rel=0.05)


def test_nan_leaves_a_gap_and_a_mark_but_what_was_not_measured_does_not(browser, folder):
    columns = draw_figures(9)
    columns["discrim_loss"][3], columns["discrim_loss"][6] = math.nan, math.inf
    columns["l1"][4] = None
    show(browser, folder, make_run(9, columns=columns), state="smoothing=0")
    charts = [browser.run(GEOMETRY, index) for index in (0, 1)]
    assert charts[1]["paths"][0][1].count("M") == 3 and charts[0]["paths"][0][1].count("M") == 1
    step_at = scale(charts[1]["xs"])
    assert [round(step_at(float(gap[1:].split()[0]) + 3)) for gap in charts[1]["gaps"]] == [40, 70]
    assert charts[0]["gaps"] == []
    assert browser.texts(".remarks") == ["", "× 2 values NaN or infinite"]


def test_the_healthy_range_and_the_best_step_are_marked(browser, folder):
    run = show(browser, folder, make_run())
    first, second = (browser.run(GEOMETRY, index) for index in (0, 1))
    value_at = scale(second["ys"])
    top, height = second["band"]
    assert (value_at(top), value_at(top + height)) == pytest.approx((1.2, 0.3), abs=0.02)
    assert "healthy: 0.3 to 1.2" in second["texts"] and first["band"] is None
    x, y = first["ring"]
    best = run["best"]
    assert scale(first["xs"])(x) == pytest.approx(best["step"], abs=2)
    assert scale(first["ys"])(y) == pytest.approx(best["value"], abs=0.005)
    assert f"★ best {best['value']:#.4g}" in first["texts"]
    assert second["ring"] is None
    assert [scale(second["xs"])(x) for x in second["stars"]] == pytest.approx([best["step"]], abs=2)
    assert first["texts"][-3:-1] == ["validation", "training"]  # at the ends of their lines


BEST_COVERS = """
  // How many points of lines lie under the label of the best step, whether a name of a line does,
  // and whether it is all there.
  const svg = document.querySelector(".plot svg");
  const label = svg.querySelector("text.best").getBoundingClientRect();
  const covers = (x, y) => x > label.left && x < label.right && y > label.top && y < label.bottom;
  const origin = svg.getBoundingClientRect();
  const lines = [...svg.querySelectorAll(".raw, .smoothed")].map((path) => {
    const places = Array.from({ length: 4000 }, (_, index) =>
      path.getPointAtLength(path.getTotalLength() * index / 3999));
    return places.filter(({ x, y }) => covers(origin.left + x, origin.top + y)).length;
  });
  const names = [...svg.querySelectorAll(".name")].map((name) => name.getBoundingClientRect());
  return [lines, names.some((name) => name.left < label.right && name.top < label.bottom
    && name.bottom > label.top), label.left >= origin.left];"""


@pytest.mark.parametrize("best", [0, 0.3, 0.5, 0.97, 1])
def test_the_label_of_the_best_step_covers_no_line_and_no_name(browser, folder, best):
    columns = draw_figures(240, every=8)
    rng = np.random.default_rng(2)
    validation = [row for row, value in enumerate(columns["val_l1"]) if value is not None]
    for row in validation:
        columns["val_l1"][row] = 0.3 + 0.02 * rng.normal()
    row = validation[round(best * (len(validation) - 1))]
    columns["val_l1"][row] = value = 0.24
    for width in (400, 1280):
        show(browser, folder, make_run(columns=columns, best={
            "metric": "L1", "step": columns["step"][row], "value": value, "checkpoint": None}),
             size=(width, 900))
        lines, covers_name, is_inside = browser.run(BEST_COVERS)
        assert lines == [0, 0, 0] and not covers_name and is_inside


def test_equal_steps_are_at_equal_places_in_all_charts(browser, folder):
    columns = draw_figures(100)
    columns["discrim_loss"] = [1e5 * value for value in columns["discrim_loss"]]
    charts = [*CHARTS, {**CHARTS[0], "title": "PSNR", "lines": [CHARTS[0]["lines"][1]]}]
    show(browser, folder, make_run(charts=charts, columns=columns))
    for state in ("view.log", "!view.log"):
        places = [dict(map(reversed, browser.run(GEOMETRY, chart)["xs"])) for chart in range(3)]
        assert len(places[0]) >= 3 and places[0] == places[1] == places[2], state
        browser.click("#log")


def test_each_validation_line_says_its_own_best(browser, folder):
    columns = draw_figures(50)
    columns["val_psnr"] = [None if value is None else 20 + row / 10 if row < 30 else 10.0
                           for row, value in enumerate(columns["val_l1"])]
    psnr = {**CHARTS[0], "title": "PSNR", "better": "higher",
            "lines": [{"name": "validation", "column": "val_psnr"}]}
    show(browser, folder, make_run(charts=[*CHARTS, psnr], columns=columns))
    assert legend(browser, 2)[1] == "validation 10.00best 22.90 at step 300"
    assert "best" not in "".join(legend(browser, 1)) + legend(browser, 0)[1]


def test_what_a_chart_shows_is_one_line_that_unfolds(browser, folder):
    about = ("a value of pixels; " + "infinite where they are equal " * 9).strip()
    show(browser, folder, make_run(charts=[{**CHARTS[0], "about": about}, CHARTS[1]]),
         size=(400, 900))
    text = browser.one("details.about")
    assert text.size["height"] < 30 and text.text == "a value of pixels"
    browser.click("details.about summary")
    assert text.size["height"] > 60 and text.text.endswith("they are equal")
    assert browser.texts("p.about") == ["Between."]


def test_names_of_lines_do_not_cover_each_other(browser, folder):
    columns = {"step": [1, 2], "a": [0.0, 1.0], "b": [5.0, 0.0], "c": [2.0, 0.0]}
    charts = [{**CHARTS[0], "lines": [{"name": name, "column": name} for name in "abc"]}]
    show(browser, folder, make_run(charts=charts, columns=columns))
    places = browser.run("return [...document.querySelectorAll('.plot .name')].map("
                         "(name) => Number(name.getAttribute('y')))")
    axis = browser.run("return document.querySelector('.plot .axis').getBBox().y")
    assert np.diff(sorted(places)).min() >= 12 and max(places) <= axis + 5


def test_the_cursor_shows_the_values_of_all_charts(browser, folder):
    run = show(browser, folder, make_run())
    columns = run["columns"]
    newest = [f"newest, step {columns['step'][-1]}",
              f"training {columns['discrim_loss'][-1]:#.4g}"]
    assert legend(browser, 1)[0] == newest[0] and legend(browser, 1)[1].startswith(newest[1])
    point_at(browser, 333)
    row = columns["step"].index(330)
    at, training, validation = legend(browser, 0)
    assert at == "step 330"
    assert training.startswith(f"training {columns['l1'][row]:#.4g}")
    near, best = (columns["val_l1"][columns["step"].index(step)] for step in (300, 500))
    assert validation == f"validation {near:#.4g}at step 300best {best:#.4g} at step 500"
    assert legend(browser, 1)[0] == "step 330"
    assert legend(browser, 1)[1].startswith(f"training {columns['discrim_loss'][row]:#.4g}")
    lines = browser.run("return [...document.querySelectorAll('.plot svg')].map("
                        "(svg) => svg.querySelector('.cursor').getAttribute('d'))")
    step_at = scale(browser.run(GEOMETRY, 1)["xs"])
    assert step_at(float(lines[1][1:].split()[0])) == pytest.approx(330, abs=2)
    assert len(lines) == 2
    browser.run("document.querySelector('.plot').dispatchEvent(new PointerEvent('pointerleave'))")
    assert legend(browser, 1)[0] == newest[0]


def test_the_cursor_stays_where_a_finger_has_touched(browser, folder):
    show(browser, folder, make_run())
    browser.run("""
      const plot = document.querySelectorAll('.plot')[1];
      const box = plot.getBoundingClientRect();
      const touch = (type) => plot.dispatchEvent(new PointerEvent(type, {
        pointerType: "touch", clientX: box.x + box.width / 2, clientY: box.y + 50 }));
      ["pointerdown", "pointerup", "pointerleave"].forEach(touch);""")
    step = browser.run("return view.hover")
    assert 300 < step < 500 and legend(browser, 0)[0] == f"step {step}"
    assert browser.run("return getComputedStyle(document.querySelector('.plot')).touchAction") == \
        "pan-y"  # so that the page scrolls


def test_the_cursor_moves_by_keys_and_sets_the_images(browser, folder):
    from selenium.webdriver import Keys
    show(browser, folder, make_run())
    browser.run("document.querySelectorAll('.plot')[1].focus()")
    places = []
    for keys in ([Keys.ARROW_LEFT], [Keys.ARROW_LEFT], [Keys.PAGE_DOWN], [Keys.ARROW_RIGHT],
                 [Keys.HOME], [Keys.END], [Keys.HOME, *[Keys.PAGE_UP] * 5]):
        browser.press(*keys)
        places.append(legend(browser, 1)[0])
    assert places == ["step 790", "step 780", "step 700", "step 710", "step 10", "step 800",
                      "step 410"]
    plot = browser.all(".plot")[1]
    assert plot.get_attribute("aria-valuetext").startswith("step 410: training 1.")
    browser.press(Keys.ENTER)
    assert browser.run("return strip.step()") == 400
    browser.press(Keys.ESCAPE)
    assert legend(browser, 1)[0] == "newest, step 800"
    assert browser.run("return strip.step()") == 400


def test_a_click_in_a_chart_sets_the_images(browser, folder):
    from selenium.webdriver import ActionChains
    show(browser, folder, make_run())
    point_at(browser, 590, chart=1)
    ActionChains(browser.driver, duration=0).click().perform()
    assert browser.run("return strip.step()") == 600
    settle(browser)
    assert sources(browser, 1)[0] == "samples/00000600-one-outputs.png"
    marks = browser.run("return [...document.querySelectorAll('.plot svg')].map("
                        "(svg) => svg.querySelector('.chosen').getAttribute('d'))")
    step_at = scale(browser.run(GEOMETRY, 0)["xs"])
    assert step_at(float(marks[0][1:].split()[0])) == pytest.approx(600, abs=2)


def test_figures_as_a_table_and_as_a_file(browser, folder):
    run = make_run(600)
    run["columns"]["l1"][-1] = math.nan
    show(browser, folder, run)
    browser.click(".chart .plain")
    assert browser.one(".figures:not([hidden]) caption").text == \
        "The newest 500 of 600 rows; the CSV file has all."
    rows = browser.run("return [...document.querySelectorAll('.figures tbody tr')].map("
                       "(row) => [...row.cells].map((cell) => cell.textContent))")
    columns = run["columns"]
    assert len(rows) == 500 and rows[0] == ["6,000", "NaN", f"{columns['val_l1'][-1]:#.4g}"]
    assert rows[1] == ["5,990", f"{columns['l1'][-2]:#.4g}", ""]
    browser.run("URL.createObjectURL = (blob) => { window.blob = blob; return 'about:blank' };"
                "HTMLAnchorElement.prototype.click = function () { window.file = this.download }")
    browser.click("#chart-1-figures button")
    text = browser.driver.execute_async_script("window.blob.text().then(arguments[0])")
    written = [*csv.reader(io.StringIO(text))]
    assert written[0] == ["step", "l1", "val_l1"] and len(written) == 601
    assert browser.run("return window.file") == "L1.csv"
    for row, cells in enumerate(written[1:-1]):
        assert cells == [str(columns["step"][row]), str(columns["l1"][row]),
                         "" if columns["val_l1"][row] is None else str(columns["val_l1"][row])]
    browser.click(".chart .plain")
    assert not browser.all(".figures")[0].is_displayed()


# ---- whether the run is getting better


def open_any(browser, folder):
    """Opens a training page, unless one is open."""
    if not browser.run("return typeof judge === 'function'"):
        show(browser, folder, make_run(2))


def judge(browser, cases, better="lower", unit=""):
    """The page's tone and sentence about each case: values of training and validation, 100 steps
    apart."""
    chart = {"title": "L1", "better": better, "unit": unit, "lines": [
        {"name": "training", "column": "a"}, {"name": "validation", "column": "b"}]}
    return browser.run("""
      return arguments[1].map(([a, b]) => {
        const step = (a.length > b.length ? a : b).map((_, row) => 100 * (row + 1));
        const run = { charts: [arguments[0]], best: null, columns: { step, a, b } };
        return [judge(run).tone, judge(run).text];
      });""", chart, cases)


@pytest.mark.parametrize("training, validation, tone, text", [
    ([], [0.5, 0.4], "early", "Validation L1 has been measured twice so far, best "
     "0.4000 at step 200: a verdict needs 5, which there are at about step 500."),
    ([], [0.8, 0.6, 0.5, 0.45, 0.42, 0.4, 0.38, 0.36], "better",
     "Validation L1 is still improving: best 0.3600 at step 800, 10% better than 200 steps "
     "earlier (0.4000)."),
    ([], [0.8, 0.6, 0.5, 0.45, 0.42, 0.4, 0.36, 0.38], "better",
     "Validation L1 is still improving: best 0.3600 at step 700, 1 validation ago, 10% better than "
     "100 steps earlier (0.4000)."),
    ([], [0.8, 0.6, 0.5, 0.4, 0.41, 0.4, 0.41, 0.4], "flat",
     "Validation L1 has not improved for 400 steps: it was best at step 400 (0.4000)."),
    ([], [0.8, 0.6, 0.5, 0.4, 0.45, 0.5, 0.55, 0.61], "worse",
     "Validation L1 has not improved for 400 steps: it was best at step 400 (0.4000) and is now "
     "38% worse (0.5533)."),
    ([0.8 - 0.02 * row for row in range(30)], [
        0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.45, 0.4, *[0.5 + 0.01 * row for row in range(22)]],
     "worse",
     "Validation L1 has not improved for 2,200 steps: it was best at step 800 (0.4000) and is now "
     "75% worse (0.7000). Meanwhile L1 on the training images improved by 62%, a sign of "
     "overfitting."),
    ([0.5] * 30, [0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.45, 0.4, *[0.5 + 0.01 * row for row in range(
        22)]], "worse",
     "Validation L1 has not improved for 2,200 steps: it was best at step 800 (0.4000) and is now "
     "75% worse (0.7000)."),
    ([0.5] * 9, [], "early", "There are only 9 values of L1 so far: a verdict needs 10, which "
     "there are at about step 1,000."),
    ([0.5], [], "early", "There is only 1 value of L1 so far: a verdict needs 10, which there are "
     "at about step 1,000."),
    ([0.31, 0.27, 0.24, 0.22, 0.21, 0.202, 0.2, 0.193, 0.19, 0.19], [], "better",
     "L1 on the training images is still improving: average 0.1950 over the last 400 steps, 22% "
     "better than over as many before. Without validation nothing is known about other images."),
    ([0.31, 0.25, *[0.19 + 0.002 * (row % 2) for row in range(28)]], [], "better",
     "L1 on the training images is still improving: average 0.1911 over the last 1,400 steps, 5.8% "
     "better than over as many before. Without validation nothing is known about other images."),
    ([1 / (1 + row) for row in range(64)], [], "better",
     "L1 on the training images is still improving: average 0.01782 over the last 1,500 steps, 29% "
     "better than over as many before. Without validation nothing is known about other images."),
    ([1 + row % 2 for row in range(128)], [], "flat",
     "L1 on the training images has not clearly changed in the last 3,100 steps (average 1.500). "
     "Without validation nothing is known about other images."),
])
def test_the_verdict(browser, folder, training, validation, tone, text):
    open_any(browser, folder)
    assert judge(browser, [[training, validation]]) == [[tone, text]]
    turned = [[-value for value in values] for values in (training, validation)]
    assert judge(browser, [turned], "higher")[0][0] == tone


def test_decibels_are_compared_by_their_difference(browser, folder):
    open_any(browser, folder)
    rising, falling = [11, 13, 14, 14.5, 15, 15.5], [11, 13, 15, 14.5, 14, 13, 12, 12, 12]
    assert judge(browser, [[[], rising], [[], falling]], "higher", "dB") == [
        ["better", "Validation L1 is still improving: best 15.50 at step 600, 1.000 dB better than "
         "200 steps earlier (14.50)."],
        ["worse", "Validation L1 has not improved for 600 steps: it was best at step 300 (15.00) "
         "and is now 3.000 dB worse (12.00)."]]


def test_noise_is_not_called_progress(browser, folder):
    """Of validations and losses that do not change but are noisy, at most every eighth is said to
    get better or worse, by chance; of those that clearly improve, most are."""
    open_any(browser, folder)
    rng = np.random.default_rng(0)

    def find_tones(values, validation=True):
        """The tones of 200 runs with such values and noise."""
        noisy = (values + 0.03 * rng.normal(size=(200, len(values)))).tolist()
        return [tone for tone, _ in judge(browser, [
            [[], part] if validation else [part, []] for part in noisy])]

    for count in (6, 20, 60):
        assert find_tones(np.ones(count)).count("flat") >= 175
    for count in (10, 20, 63, 200):
        assert find_tones(np.ones(count), validation=False).count("flat") >= 175
    early = find_tones(1 - 0.4 * np.arange(12) / 12, validation=False)
    assert early.count("better") >= 175 and "worse" not in early
    tones = find_tones(1 - 0.4 * np.arange(20) / 20)
    assert tones.count("better") >= 175 and "worse" not in tones


# of a run on the facades, where validation was level while training fell: L1 * 10,000, every 50 and
# every 400 steps
FACADES_TRAINING = [int(number) / 1e4 for number in """
    1727 1688 1744 1729 1695 1691 1727 1714 1714 1705 1725 1751 1728 1752 1715 1721 1728 1714
    1721 1736 1704 1726 1736 1738 1722 1755 1788 1735 1756 1727 1707 1734 1735 1739 1746 1734
    1719 1715 1717 1745 1729 1725 1710 1719 1727 1717 1723 1730 1710 1738 1719 1745 1744 1732
    1707 1672 1685 1675 1714 1721 1729 1700 1736 1722 1729 1734 1713 1679 1664 1655 1699 1696
    1693 1693 1666 1688 1683 1658 1681 1675 1626 1628 1673 1654 1672 1686 1665 1668 1649 1633
    1651 1683 1677 1688 1658 1667 1646 1690 1675 1687 1645 1648 1645 1632 1596 1590 1634 1630
    1646 1680 1662 1672 1621 1620 1608 1640 1651 1635 1628 1622 1633 1615 1596 1602 1611 1620
    1605 1614 1649 1628 1587 1579 1594 1581 1619 1628 1628 1612 1637 1615 1595 1593 1617 1604
    1595 1611 1564 1582 1600 1597 1665 1637 1617 1568 1545 1580 1565 1570 1604 1623 1602 1582
    1588 1607 1628 1594 1575 1575 1570 1562 1593 1597 1604 1592 1583 1564 1585 1623 1590 1560
    1581 1572 1550 1568 1569 1559 1565 1581 1566 1588 1583 1567 1546 1563 1561 1546 1569 1583
    1540 1558 1538 1553 1544 1548 1553 1572 1576 1559 1567 1549 1581 1592 1586 1576 1537 1538
    1545 1520 1508 1512 1546 1584 1548 1547 1519 1507 1546 1567 1579 1569 1533 1531 1498 1446
    1463 1513 1542 1551 1568 1559""".split()]
FACADES_VALIDATION = [int(number) / 1e4 for number in """
    1778 1793 1828 1783 1779 1769 1765 1814 1763 1739 1778 1765 1762 1726 1742 1728 1802 1778
    1757 1768 1809 1758 1817 1750 1778 1746 1739 1776 1724 1773""".split()]


def test_training_that_still_improves_while_validation_is_level_is_told(browser, folder):
    open_any(browser, folder)
    validation = [value for level in FACADES_VALIDATION for value in (*[None] * 7, level)]
    noisy = np.random.default_rng(5).normal(size=(200, 240))
    level = (0.17 + 0.005 * noisy).tolist()
    first, *others = judge(browser, [[FACADES_TRAINING, validation],
                                     *([training, validation] for training in level)])
    assert first == [
        "flat", "Validation L1 has hardly improved: best 0.1724 at step 23,200, 1 validation ago, "
        "0.12% better than 12,000 steps earlier (0.1726), which is within its usual ups and downs. "
        "Meanwhile L1 on the training images still falls, from 0.1725 to 0.1551: it begins to "
        "learn these by heart."]
    assert not any("by heart" in text for _, text in others)
    # from the step on at which validation came to its level, not from the beginning
    fallen = [0.4 - 0.01 * row for row in range(20)]
    fallen += [0.2 + 0.001 * (row % 2) for row in range(40)]
    (tone, text), = judge(browser, [[fallen, fallen]])
    assert tone == "flat" and "by heart" not in text


def test_the_page_shows_the_verdict_and_the_best_images(browser, folder):
    run = show(browser, folder, make_run())
    text, = browser.texts("#verdict")
    assert text.startswith("Validation L1 has not improved for 300 steps: it was best at step 500")
    assert browser.texts("#tone") == ["Getting worse."]
    assert run["best"]["step"] == 500
    browser.click("#show-best")
    assert browser.run("return strip.step()") == 400  # 600 is as near
    assert browser.texts(".samples div span")[1] == "output, step 400 ★"
    assert browser.one("#kept").text == \
        "Kept as best-500: test and export take it with --which best."
    refresh(browser, folder, make_run(best={**run["best"], "checkpoint": None}))
    assert not browser.one("#kept").is_displayed()


# ---- the film strip


def test_one_slider_drives_every_sample_over_the_saved_steps(browser, folder):
    from selenium.webdriver import Keys
    show(browser, folder, make_run())
    assert browser.texts(".strip h2")[0] == "Validation images"
    slider = browser.one(".slider input")
    assert slider.get_attribute("aria-valuetext") == "step 800"
    assert [slider.get_attribute(name) for name in ("min", "max", "value")] == ["0", "3", "3"]
    odd = "two%20%3Cb%3E%22x%22%20%2541%23%3F%26amp%3B"
    slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    settle(browser)
    assert slider.get_attribute("aria-valuetext") == "step 400, near the best"
    assert sources(browser) == [
        f"samples/{file}" for name in ("one", odd) for file in (
            f"{name}-inputs.png", f"00000400-{name}-outputs.png", f"{name}-targets.png")]
    assert browser.run("return [...document.querySelectorAll('.samples img')].every("
                       "(image) => image.naturalWidth === 8)")
    assert browser.texts("figcaption[title]") == NAMES
    labels = [box.get_attribute("aria-label") for box in browser.all(".samples .image")]
    assert labels[:3] == ["Enlarge one: input", "Enlarge one: output, step 400, near the best",
                          "Enlarge one: target"]
    assert browser.one(".strip input[type=number]").get_attribute("value") == "400"


def test_steps_by_buttons_keys_and_number(browser, folder):
    from selenium.webdriver import Keys
    show(browser, folder, make_run())
    step = lambda: browser.run("return strip.step()")  # noqa: E731
    browser.click("[aria-label='Previous step']")
    assert step() == 600
    browser.run("document.activeElement.blur()")
    browser.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert step() == 200
    browser.press(Keys.ARROW_RIGHT)
    assert step() == 400
    box = browser.one(".strip input[type=number]")
    box.send_keys(Keys.CONTROL + "a", Keys.NULL, "730", Keys.ENTER)
    assert step() == 800 and box.get_attribute("value") == "800"
    said = browser.one(".strip-controls [role=status]")
    assert said.text == "no images at step 730, step 800 is shown"
    browser.click("[aria-label='Previous step']")
    assert step() == 600 and said.text == ""
    box.send_keys(Keys.CONTROL + "a", Keys.NULL, "800", Keys.ENTER)
    assert step() == 800 and said.text == ""
    browser.click("[title='Images of the best step']")
    assert step() == 400


def test_playing_shows_every_step_and_ends_at_the_newest(browser, folder):
    show(browser, folder, make_run())
    browser.run("window.seen = []; const shown = strip.changed;"
                "strip.changed = () => { seen.push(strip.step()); shown() }")
    play = browser.one("[data-role=play]")
    play.click()
    assert play.text == "Pause"
    browser.wait("strip.timer === null")
    assert browser.run("return seen") == STEPS and play.text == "Play"


def test_all_steps_of_one_sample(browser, folder):
    run = show(browser, folder, make_run())
    browser.click("[data-value=film]")
    frames = ".outputs .frame"
    assert browser.texts(frames) == ["200", "400 ★", "600", "800"]
    assert browser.all(frames)[3].get_attribute("aria-current") == "true"
    browser.click(frames, 0)
    assert browser.run("return strip.step()") == 200
    assert browser.all(frames)[0].get_attribute("aria-current") == "true"
    browser.run("document.querySelector('.strip select').value = '1';"
                "document.querySelector('.strip select').dispatchEvent(new Event('change'))")
    settle(browser)
    assert browser.run("return [...document.querySelectorAll('.film img')].every("
                       "(image) => image.naturalWidth === 8 && "
                       "image.getAttribute('src').includes('two%20'))")
    browser.run("window.kept = [...document.querySelectorAll('.frame')]")
    draw_samples(folder, steps=[*STEPS, 1000])
    refresh(browser, folder, make_run(samples={**run["samples"], "steps": [*STEPS, 1000]}))
    assert browser.texts(frames)[-1] == "1,000"
    assert browser.run("return kept.length === 6 && kept.every((frame) => frame.isConnected)")
    browser.click("[data-value=step]")
    settle(browser)
    assert sources(browser, 1)[0] == "samples/00000200-one-outputs.png"


def test_an_image_is_enlarged_with_crisp_pixels(browser_of, folder):
    browser = browser_of(1.5)
    from selenium.webdriver import Keys
    show(browser, folder, make_run())
    browser.click(".samples .image", 4)
    settle(browser)
    assert browser.one(".viewer").is_displayed()
    assert browser.texts(".viewer h2") == [f"{NAMES[1]}, step 800"]
    read = """return [...document.querySelectorAll('.viewer img')].filter(
      (image) => image.checkVisibility()).map((image) => [image.getAttribute('src'),
      image.getBoundingClientRect().width * devicePixelRatio / image.naturalWidth,
      getComputedStyle(image).imageRendering,
      image.getBoundingClientRect().width / image.parentNode.clientWidth])"""
    shown = browser.run(read)
    assert len(shown) == 3 and "00000800-two" in shown[1][0]
    for _, factor, rendering, part in shown:
        assert 0.9 < part <= 1
        assert factor == pytest.approx(round(factor), abs=0.01) and factor >= 20
        assert rendering == "pixelated"
    browser.press(Keys.ARROW_LEFT)
    browser.wait("document.querySelectorAll('.viewer img')[1].src.includes('00000600-two')")
    browser.click(".viewer .choice button", 0)  # without the input there is more room
    browser.wait("!document.querySelectorAll('.viewer figure')[0].checkVisibility()")
    assert len(browser.run(read)) == 2 and browser.run(read)[0][1] > shown[1][1]
    browser.press(Keys.ESCAPE)
    assert not browser.one(".viewer").is_displayed()
    assert browser.run("return strip.step()") == 600


def test_the_large_view_goes_to_other_images_and_steps(browser, folder):
    from selenium.webdriver import Keys
    show(browser, folder, make_run())
    browser.click(".samples .image", 1)
    browser.press(Keys.ARROW_DOWN, Keys.ARROW_LEFT)
    assert browser.texts(".viewer h2") == [f"{NAMES[1]}, step 600"]
    browser.press(Keys.ARROW_DOWN)  # there are no more
    browser.press("?")
    assert "previous, next image" in browser.one("#keys").text
    browser.press(Keys.ARROW_UP, Keys.ESCAPE)  # in the list they do nothing
    browser.wait("!find('keys').open && strip.viewer.element.open")
    assert browser.texts(".viewer h2") == [f"{NAMES[1]}, step 600"]
    hint = browser.one(".viewer .hint")
    assert hint.is_displayed() and hint.text == "← → step, ↑ ↓ image, ? all keys"
    for image, caption in zip(browser.all(".viewer .image"), browser.all(".viewer figcaption"),
                              strict=True):
        box, text = image.rect, caption.rect
        assert text["x"] + text["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=1)
        assert caption.value_of_css_property("text-align") == "center"
    browser.press(Keys.ESCAPE)
    browser.click("[data-value=film]")  # of the image that was seen last
    assert browser.one(".strip select").get_attribute("value") == "1"
    browser.run("document.activeElement.blur()")
    browser.click("#help")
    assert browser.one("#keys").is_displayed()


def test_the_large_view_stays_at_its_step_while_new_ones_come(browser, folder):
    from selenium.webdriver import Keys
    run = show(browser, folder, make_run())
    browser.click(".samples .image", 1)
    for last, shown in ((1000, 800), (1200, 800), (1400, 1400)):
        draw_samples(folder, steps=[*STEPS, last])
        refresh(browser, folder, make_run(samples={**run["samples"], "steps": [*STEPS, last]}))
        assert browser.run("return strip.step()") == shown
        if last == 1200:
            browser.press(Keys.ESCAPE)  # then they are followed again


def test_images_that_are_missing_are_no_error_of_the_page(started_browser, tmp_path):
    """They are looked for again when the run is next read."""
    browser = started_browser
    (tmp_path / "samples").mkdir()
    show(browser, tmp_path, make_run())
    assert browser.texts(".samples .image") == ["no image"] * 6
    draw_samples(tmp_path)
    refresh(browser, tmp_path, make_run())
    browser.wait("document.querySelectorAll('.samples img').length === 6")
    assert all("ERR_FILE_NOT_FOUND" in problem for problem in browser.problems())


# ---- status and refreshing


def test_the_state_of_a_run(browser, folder):
    run = show(browser, folder, make_run())
    none = {**run["samples"], "names": [], "links": [], "steps": []}
    cases = [
        ("running", 3, "running", ["Running", "last update 3 s ago", "9 min left", "epoch 3",
                                   "step 800 of 1,600 (50%)", "6.12 images/s"]),
        ("running", 149, "running", ["Running", "last update 2 min ago", "7 min left"]),
        ("running", 3600, "dead", ["The run has probably died", "--resume continues it",
                                   "no update for 1 h, although one was due within 60 s"]),
        ("finished", 7260, "finished", ["Finished", "2 h 1 min ago"]),
        ("stopped", 30, "stopped", ["Stopped by hand", "30 s ago", "--resume continues it"]),
        ("failed", 30, "failed", ["Failed", "--resume continues from the last checkpoint"])]
    for index, (state, age, shown, words) in enumerate(cases, 1):
        browser.run("Date.now = () => arguments[1]; showRun(arguments[0])",
                    {**run, "number": run["number"] + index, "state": state, "samples": none},
                    1000 * (run["written"] + age))
        text = browser.one("#status").text
        assert browser.one("#status").get_attribute("data-state") == shown
        assert [word for word in words if word not in text] == []
        assert ("left" in text) == (shown == "running")
        part = "50%" if shown == "running" else shown
        assert browser.driver.title == f"{part} · facades_train"
    progress = browser.one("progress")
    assert [progress.get_attribute(name) for name in ("value", "max")] == ["800", "1600"]


def test_a_run_without_an_end_or_a_rate(browser, folder):
    progress = {"step": 800, "stop_step": None, "epoch": 3, "rate": None, "remaining": None}
    show(browser, folder, make_run(progress=progress))
    assert browser.texts("#place") == ["step 800 · epoch 3"]
    assert not browser.one("progress").is_displayed()


def test_a_run_that_falls_silent_is_called_dead_and_lives_when_it_writes_again(browser, folder):
    show(browser, folder, make_run())
    browser.run("const now = Date.now; window.late = 0; Date.now = () => now() + 1000 * late;"
                "window.late = 151")
    browser.wait("find('status').dataset.state === 'dead'")
    run = make_run(written=time.time() + 151)
    refresh(browser, folder, run)
    assert browser.one("#status").get_attribute("data-state") == "running"


def test_the_page_refreshes_by_itself_while_the_run_lives(browser, folder):
    show(browser, folder, make_run(next=6))
    run = make_run(90, next=6)
    run_page.write_run_page(folder, run)
    browser.wait("page.run.number === arguments[0]", run["number"])
    assert legend(browser, 1)[0] == "newest, step 900"
    # the scripts that read it do not pile up
    assert browser.run("return document.querySelectorAll('script[src]').length") <= 1


def test_the_page_looks_less_often_at_a_run_that_has_ended(browser, folder):
    show(browser, folder, make_run(next=6))
    browser.wait("page.wait === 2")
    refresh(browser, folder, make_run(next=6, state="finished"))
    waits = []
    for _ in range(7):
        browser.run("planLoad()")
        waits.append(browser.run("return page.wait"))
    assert waits == sorted(waits) and waits[0] >= 5 and waits[-1] == 120
    refresh(browser, folder, make_run(next=6))  # it has been resumed
    browser.wait("page.wait === 2")


def test_a_hidden_page_does_not_look(browser, folder):
    show(browser, folder, make_run())
    scripts = browser.run(
        "Object.defineProperty(document, 'hidden', {get: () => window.hidden});"
        "window.hidden = true; page.timer = -1;"
        "window.setTimeout = (act) => { window.planned = true };"
        "document.dispatchEvent(new Event('visibilitychange')); planLoad();"
        "return document.querySelectorAll('script[src]').length")
    assert browser.run("return [page.timer, window.planned]") == [-1, None] and scripts == 0


def test_an_older_run_is_not_shown(browser, folder):
    run = show(browser, folder, make_run())
    browser.run("showRun({...page.run, number: page.run.number - 1, title: 'older', notes: ['x']})")
    assert browser.run("return page.run.number") == run["number"]
    assert browser.all(".note") == []


def test_a_refresh_keeps_what_the_user_has_set(browser, folder):
    run = make_run()
    run["display"] = []
    show(browser, folder, run, size=(500, 700))
    browser.run("strip.choose(400); find('facts').querySelector('details').open = true;"
                "find('log').click()")
    browser.click(".chart .plain")
    settle(browser)
    browser.run("window.kept = [...document.querySelectorAll('.samples img, .plot, details')];"
                "document.querySelector('.figures').scrollTop = 150; hover(300); scrollTo(0, 333)")
    draw_samples(folder, steps=[*STEPS, 1000])
    samples = {**run["samples"], "steps": [*STEPS, 1000]}
    refresh(browser, folder, make_run(100, samples=samples))
    assert browser.run("return kept.every((node) => node.isConnected)")  # nothing flickers
    assert browser.run("return [strip.step(), scrollY, view.hover, view.log]") == [400, 333, 300,
                                                                                   True]
    assert browser.run("return document.querySelector('.figures').scrollTop") == 150
    assert browser.run("return find('facts').querySelector('details').open")
    assert legend(browser, 1)[0] == "step 300"
    assert browser.one(".slider input").get_attribute("max") == "4"


def test_the_newest_images_are_followed(browser, folder):
    run = show(browser, folder, make_run())
    draw_samples(folder, steps=[*STEPS, 1000])
    refresh(browser, folder, make_run(100, samples={**run["samples"], "steps": [*STEPS, 1000]}))
    browser.wait("document.querySelectorAll('.samples img')[1].src.includes('00001000-one')")
    assert browser.run("return strip.step()") == 1000


def test_the_address_keeps_the_view(browser, folder):
    show(browser, folder, make_run())
    browser.run("strip.setFilm(true, 1); strip.choose(400); find('log').click();"
                "find('span').value = 5; find('span').dispatchEvent(new Event('input'))")
    state = browser.wait("location.hash.includes('smoothing') && location.hash.slice(1)")
    show(browser, folder, make_run(), state=state)
    assert browser.run("return [strip.film, strip.sample, strip.step(), view.log, view.span]") == [
        True, 1, 400, True, 0.1]
    assert browser.one("#span").get_attribute("value") == "5"


def test_a_page_without_its_run_says_so(started_browser, tmp_path):
    browser = started_browser
    run_page.write_run_page(tmp_path, make_run())
    (tmp_path / "run.js").unlink()
    browser.open(tmp_path / "index.html")
    browser.wait("find('state').textContent === 'There is nothing to show yet'")
    assert all("ERR_FILE_NOT_FOUND" in problem for problem in browser.problems())


# ---- the whole page


def test_what_looks_like_html_is_text(browser, tmp_path):
    odd = '<img src=x onerror="document.title=1">&amp;\udcff\n'
    draw_samples(tmp_path, names=[odd])
    charts = [{**CHARTS[0], "title": odd, "about": odd, "lines": [{"name": odd, "column": "l1"}]}]
    run = make_run(title=odd, facts=[(odd, odd)], options=[(odd, odd, False)], notes=[odd],
                   charts=charts, samples={"folder": "samples", "about": "training",
                                           "names": [odd], "steps": STEPS}, display=[odd])
    (tmp_path / "images").mkdir()
    for kind in ("inputs", "outputs", "targets"):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{odd}-{kind}.png")
    show(browser, tmp_path, run)
    shown = odd[:-2] + r"\udcff\n"
    for selector in (".note", "dt", "dd", ".chart h2", "figcaption[title]"):
        assert {*browser.texts(selector)} == {shown}, selector
    assert browser.texts(".strip h2")[0] == "Training images"
    browser.run("find('display').scrollIntoView()")
    browser.settle()
    assert browser.run("return [...document.images].map((image) => image.naturalWidth)") == \
        [8, 8, 8, 4, 4, 4]


def test_facts_options_notes_and_other_images(browser, folder):
    (folder / "images").mkdir()
    names = [f"{step:08d}-x" for step in range(500, 0, -100)]
    for name in names:
        for kind in ("inputs", "outputs", "targets"):
            Image.new("RGB", (4, 4)).save(folder / "images" / f"{name}-{kind}.png")
    show(browser, folder, make_run(display=names, notes=["the discriminator always wins"]))
    assert browser.one(".note").text == "the discriminator always wins"
    assert browser.one("#notes").rect["y"] < browser.one("main").rect["y"]
    assert browser.texts("#facts summary") == ["Options: 1 of 2 are not at their defaults"]
    assert browser.texts("#facts .options dt") == ["--ngf", "--lr"]
    assert browser.all("#facts .options dl div")[0].get_attribute("class") == "changed"
    assert browser.texts("#display figcaption") == names
    assert browser.texts("#display summary") == ["2 older rows"]
    assert not browser.all("#display details figure")[0].is_displayed()


def test_options_are_in_columns_where_there_is_room(browser, folder):
    options = [[f"--flag_{number}", "x" * 40, True] for number in range(30)]
    for width, columns in ((400, 1), (1280, 3), (2560, 4)):
        show(browser, folder, make_run(options=options), size=(width, 900))
        browser.click(".options summary")
        places = {flag.location["x"] for flag in browser.all(".options dt")}
        assert len(places) == columns


@pytest.mark.parametrize("width, dark", [(400, True), (1280, False), (1280, True), (2560, False)])
def test_the_page_fits_any_window(browser, folder, width, dark):
    run = make_run(notes=["a note"], written=time.time() - 9999 * dark)
    show(browser, folder, run, size=(width, 900), dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.low_contrasts() == []
    assert browser.unnamed() == []
    small = browser.run("return [...document.querySelectorAll('svg text')].filter((text) => {"
                        "const box = text.getBoundingClientRect();"
                        "return box.left < 0 || box.right > innerWidth }).length")
    assert small == 0


def test_the_charts_have_a_summary_for_those_who_cannot_see_them(browser, folder):
    run = show(browser, folder, make_run(5))
    columns = run["columns"]
    low, high = min(columns["l1"]), max(columns["l1"])
    text = browser.texts(".chart .spoken")[0]
    assert text == (
        f"L1, by step. training: 5 values, newest {columns['l1'][-1]:#.4g}, lowest {low:#.4g} at "
        f"step {columns['step'][columns['l1'].index(low)]}, highest {high:#.4g} at step "
        f"{columns['step'][columns['l1'].index(high)]}. validation: no figures yet.")
    plot = browser.all(".plot")[0]
    assert plot.get_attribute("aria-describedby") == "chart-1-summary"
    assert plot.get_attribute("role") == "slider"


def test_what_the_script_draws_is_valid_html(browser, folder):
    html5lib = pytest.importorskip("html5lib")
    show(browser, folder, make_run(notes=["a note"]))
    browser.click(".chart .plain")
    drawn = browser.run("return document.documentElement.outerHTML")
    assert "<svg" in drawn and "<table" in drawn
    html5lib.HTMLParser(strict=True).parse("<!DOCTYPE html>" + drawn)


def test_a_long_run_is_shown_quickly(browser, folder):
    show(browser, folder, make_run(5000))
    seconds = browser.run("const start = performance.now();"
                          "showRun({...page.run, number: page.run.number + 1e6});"
                          "return (performance.now() - start) / 1000")
    assert seconds < 5
