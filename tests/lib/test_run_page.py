"""tools/lib/run_page.py: what is written for the training page."""

import json
import math
import os
import urllib.parse

import pytest

import pix2pix
from tools.lib import run_page
from tools.lib.cli import printable, with_options


def make_run(**changes):
    """A run with two rows, of which some parts are changed."""
    return {
        "title": "run", "number": 1, "written": 0.0, "state": "running", "next": 60,
        "progress": {"step": 100, "stop_step": None, "epoch": 1, "rate": None, "remaining": None},
        "facts": [], "options": [], "notes": [], "best": None, "display": [],
        "charts": [{"title": "L1", "about": "", "better": "lower", "healthy": None,
                    "lines": [{"name": "training", "column": "l1"}]}],
        "columns": {"step": [50, 100], "l1": [0.5, 0.25]},
        "samples": {"folder": "samples", "about": "training", "names": [], "steps": []}, **changes}


def read_script(folder):
    """What run.js hands to the page. JSON's reader takes NaN and Infinity, as JavaScript does."""
    text = (folder / "run.js").read_bytes().decode("ascii")
    assert text.startswith("showRun({") and text.endswith("});\n")
    return json.loads(text.removeprefix("showRun(").removesuffix(");\n"))


def test_a_run_is_handed_over_as_it_is(tmp_path):
    run = make_run()
    run_page.write_run_page(tmp_path, run)
    written = read_script(tmp_path)
    assert written["samples"].pop("links") == []
    assert written == run
    assert sorted(os.listdir(tmp_path)) == ["index.html", "run.js"]


def test_what_was_not_measured_is_no_number_and_neither_is_nan(tmp_path):
    values = [0.5, None, math.nan, math.inf, -math.inf]
    columns = {"step": [1, 2, 3, 4, 5], "l1": values}
    run_page.write_run_page(tmp_path, make_run(columns=columns))
    written = read_script(tmp_path)["columns"]["l1"]
    assert written[:2] == [0.5, None] and math.isnan(written[2])
    assert written[3:] == [math.inf, -math.inf]


@pytest.mark.parametrize("name", [
    'a <b>&"%41 50%#?', "'; </script>", "line\nbreak", "\N{GRINNING FACE}", "\udcff", "\u2028"])
def test_any_name_is_a_text_and_an_address(tmp_path, name):
    samples = {"folder": "samples", "about": "training", "names": [name], "steps": [1]}
    run_page.write_run_page(tmp_path, make_run(title=name, samples=samples, display=[name]))
    written = read_script(tmp_path)
    (shown, link), = written["display"]
    assert written["title"] == shown == written["samples"]["names"][0] == printable(name)
    assert written["samples"]["links"] == [link]
    assert os.fsdecode(urllib.parse.unquote_to_bytes(link)) == name
    assert link.isascii() and not {*link} & {*"<>\"'?# \n"}


def test_the_page_itself_is_written_once_and_again_where_it_differs(tmp_path):
    page, script = tmp_path / "index.html", tmp_path / "run.js"
    run_page.write_run_page(tmp_path, make_run())
    first = page.stat().st_ino
    run_page.write_run_page(tmp_path, make_run(number=2))
    assert page.stat().st_ino == first and read_script(tmp_path)["number"] == 2
    contents = page.read_bytes()
    page.write_text("an older version's page")
    run_page.write_run_page(tmp_path, make_run())
    assert page.read_bytes() == contents and script.exists()


def test_the_page_is_valid_html_with_a_strict_policy(tmp_path):
    html5lib = pytest.importorskip("html5lib")
    run_page.write_run_page(tmp_path, make_run(title="a <b>&amp;"))
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    document = parser.parse((tmp_path / "index.html").read_bytes())
    assert [heading.text for heading in document.iter("h1")] == ["a <b>&amp;"]
    policy, = (meta.get("content") for meta in document.iter("meta") if meta.get("http-equiv"))
    parts = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    assert parts["default-src"] == ["'none'"] and parts["img-src"] == ["'self'", "data:", "blob:"]
    assert len(parts["script-src"]) == 2 and parts["script-src"][1] == "'self'"  # run.js
    assert all("style" not in node.attrib for node in document.iter())


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    run_page.write_run_page(tmp_path, make_run())

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        run_page.write_run_page(tmp_path, make_run(number=2))
    assert read_script(tmp_path)["number"] == 1
    assert sorted(os.listdir(tmp_path)) == ["index.html", "run.js"]


# ---- what the page is told


COLUMNS = ("step", "epoch", "discrim_loss", "gen_loss_GAN", "gen_loss_L1", "lr",
           "discrim_real_accuracy", "discrim_fake_accuracy", "val_l1", "val_psnr", "val_ssim")


def titles(columns, *flags):
    """Of the charts of a run: title -> the columns of its lines."""
    options = pix2pix.parse_args(["--mode", "train", "--input_dir", ".", "--output_dir", "none",
                                  *flags])
    return {chart["title"]: [line["column"] for line in chart["lines"]]
            for chart in run_page.choose_charts(options, columns)}


def test_each_column_has_a_chart_and_validation_is_beside_training():
    assert titles(COLUMNS) == {
        "L1": ["train_l1", "val_l1"], "PSNR": ["val_psnr"], "SSIM": ["val_ssim"],
        "Discriminator loss": ["discrim_loss"], "Generator's GAN loss": ["gen_loss_GAN"],
        "Discriminator accuracy": ["discrim_real_accuracy", "discrim_fake_accuracy"]}
    assert titles(("step", "epoch", "gen_loss_L1", "lr"), "--lr_decay", "linear", "--max_steps",
                  "9") == {"L1": ["train_l1"], "Learning rate": ["lr"]}
    assert titles(COLUMNS, "--lab_colorization")["L1"] == ["val_l1"]  # of RGB; the loss is of Lab


@pytest.mark.parametrize("flags, healthy", [
    ([], (0.3, 1.2)), (["--gan_loss", "lsgan"], None), (["--label_smoothing", "0.1"], None)])
def test_the_healthy_range_is_that_of_the_usual_loss(flags, healthy):
    options = pix2pix.parse_args(["--mode", "train", "--input_dir", ".", "--output_dir", "none",
                                  *flags])
    found = {chart["title"]: chart["healthy"] for chart in run_page.choose_charts(options, COLUMNS)}
    assert found.pop("Discriminator loss") == healthy and not any(found.values())


def test_cells_are_numbers_or_were_not_measured():
    charts = [{"lines": [{"column": "train_l1"}, {"column": "val_l1"}]}]
    rows = [{"step": "5", "gen_loss_L1": "0.5", "val_l1": "", "mine": "text"},
            {"step": 7, "gen_loss_L1": 0.0, "val_l1": "0.25"},
            {"step": "9", "gen_loss_L1": "nan", "val_l1": "edited"}]
    got = run_page.read_columns(rows, charts)
    assert got.keys() == {"step", "train_l1", "val_l1"} and got["step"] == [5, 7, 9]
    assert got["val_l1"] == [None, 0.25, None]
    assert got["train_l1"][:2] == [0.25, 0] and math.isnan(got["train_l1"][2])


def test_of_a_long_log_every_so_many_rows_and_all_validations_are_shown():
    rows = [{"step": step, "val_l1": "0.1" if step % 2500 == 7 else ""} for step in range(10001)]
    shown = [row["step"] for row in run_page.choose_rows(rows)]
    assert shown == sorted({*range(0, 10001, 3), 7, 2507, 5007, 7507, 10000})
    assert run_page.choose_rows(rows[:4000]) == rows[:4000] and run_page.choose_rows([]) == []


def test_what_nobody_has_chosen_is_as_good_as_a_default():
    options = pix2pix.parse_args(["--mode", "train", "--input_dir", ".", "--output_dir", "none",
                                  "--ngf", "8"])
    defaults = vars(pix2pix.create_parser().parse_args(["--mode", "train"]))
    options = with_options(options, trained_ratio=1.5, a_channels=1)
    flags = {flag: (text, is_default)
             for flag, text, is_default in run_page.list_options(options, defaults)}
    assert flags["--seed"] == (str(options.seed), True)  # it was drawn
    assert flags["--trained_ratio"] == ("1.5", True) and flags["--a_channels"] == ("1", True)
    assert flags["--ngf"] == ("8", False) and flags["--lr"] == ("0.0002", True)
