"""tools/lib/run_page.py: what is written for the training page."""

import json
import math
import os
import urllib.parse

import pytest

from tools.lib import run_page
from tools.lib.cli import printable


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
