"""tools/lib/page.py: the page of a run or a test, read by an HTML parser."""

import base64
import hashlib
import json
import math
import os
import re
import statistics
import urllib.parse
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import read_page_data

from tools.lib import page

ALL = ("l1", "psnr", "ssim")
METRICS = [page.Metric("l1", "L1", "lower", 4, "mean absolute difference"),
           page.Metric("psnr", "PSNR", "higher", 2, "in dB"),
           page.Metric("ssim", "SSIM", "higher", 4, "<structural> similarity")]


class Reader(HTMLParser):
    """Collects what a page shows."""

    def __init__(self, text):
        super().__init__()
        self.images, self.texts, self.tags = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        """Notes an image's source."""
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        """Ends an element."""
        while self.tags and self.tags.pop() != tag:
            pass

    def handle_data(self, data):
        """Notes a text under the element that it is in."""
        if data.strip() and self.tags:
            self.texts.setdefault(self.tags[-1], []).append(data.strip())


def read(folder):
    """What index.html shows."""
    return Reader((folder / "index.html").read_text(encoding="utf-8", errors="surrogateescape"))


def values(*numbers):
    """Metrics of as many images: each number as every metric."""
    return [(f"n{index}", dict.fromkeys(ALL, number)) for index, number in enumerate(numbers)]


def write(folder, rows, facts=(), notes=(), kinds=page.KINDS, metrics=METRICS):
    """Writes a test's page; returns its text."""
    page.write_test_page(folder, folder.name, [*facts], notes, kinds, metrics, rows)
    return (folder / "index.html").read_bytes().decode("utf-8")  # strictly


# ---- what all pages share


@pytest.mark.parametrize("siblings", [False, True])
def test_the_policy_allows_this_style_and_script_alone(siblings):
    text = page.render("test", "a", {"facts": "", "notes": "", "metrics": ""}, {}, siblings,
                       ("table",)).decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="(.*?)"', text)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        source, = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        own = " 'self'" if siblings and tag == "script" else ""
        assert rules[rule] == f"'sha256-{digest}'{own}"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not re.search(r'\s(style|on\w+)="', text.split("<body>")[1].split("<script")[0])


def test_no_source_could_end_the_element_that_it_is_in():
    for path in page.PAGES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert max(map(len, text.splitlines())) <= 100, path.name
        assert path.suffix == ".html" or not re.search("</|<!--", text), path.name
        assert path.suffix != ".html" or "://" not in text, path.name
        assert "import" not in re.findall(r"^\s*@?(\w+)", text, re.MULTILINE), path.name


@pytest.mark.parametrize("metrics", [METRICS, []])
def test_a_page_is_valid_html(tmp_path, metrics):
    html5lib = pytest.importorskip("html5lib")
    names = ['<b a=">', "a&b", "\udcff\x01", "</script>"]
    rows = [(name, dict.fromkeys(ALL, number)) for name, number in
            zip(names, (1.5, math.inf, math.nan, 2.0), strict=True)]
    text = write(tmp_path, rows, [("<i>", "a & b\x07")], ["<p>&nbsp;\udcff"], page.KINDS, metrics)
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    document = parser.parse(text)
    assert document.find("head/title").text == tmp_path.name
    ids = [node.get("id") for node in document.iter() if node.get("id")]
    assert len(ids) == len({*ids})
    assert document.find(".//dl/div/dt").text == "<i>"
    assert document.find(".//p[@class='note']").text == "<p>&nbsp;\\udcff"
    data, = [node for node in document.iter("script") if node.get("id") == "data"]
    assert [row[0] for row in json.loads(data.text)["rows"]] == names
    assert not [*document.iter("b")] and not [*document.iter("i")]


# ---- the page of a test


def test_the_interval_of_a_mean_stands_beside_it(tmp_path):
    first, second = METRICS[:2]
    page.write_test_page(tmp_path, "test", [], [], page.KINDS, [first, second], values(3, 5),
                         {first.name: [3.25, 4.75], second.name: None})
    shown = read(tmp_path).texts["dd"]
    interval = f"{3.25:.{first.digits}f} to {4.75:.{first.digits}f}"
    assert shown.count(interval) == 1 and sum(" to " in text for text in shown) == 1
    assert shown.index(interval) == shown.index(f"{4:.{first.digits}f}") + 1  # after the mean


def test_statistics_are_of_the_finite_values_and_others_are_counted():
    rng = np.random.default_rng(4)
    numbers = [*map(float, rng.normal(5, 2, 30)), math.inf, math.nan, -math.inf, math.nan]
    counted = page.summarize(numbers, "higher")
    finite = numbers[:30]
    assert counted.mean == pytest.approx(np.mean(finite))
    assert counted.median == pytest.approx(np.median(finite))
    assert counted.deviation == pytest.approx(np.std(finite, ddof=1))
    assert (counted.infinite, counted.nan) == (2, 2)
    assert (counted.worst, counted.best) == (32, 30)  # the infinite ones
    lower = page.summarize(numbers[:30], "lower")
    assert (lower.worst, lower.best) == (np.argmax(finite), np.argmin(finite))
    assert page.summarize([math.nan], "lower") == (None, None, None, None, None, 0, 1)
    assert page.summarize([3.0], "lower") == (3, 3, None, 0, 0, 0, 0)
    assert page.summarize([], "lower")[:5] == (None,) * 5


def test_without_a_script_the_summary_is_there(tmp_path):
    text = write(tmp_path, values(0.5, 0.25, math.inf), facts=[("model", "x_train")], notes=["n"])
    shown = Reader(text)
    assert shown.texts["dt"][0] == "model" and shown.texts["dd"][0] == "x_train"
    assert shown.texts["dd"][1:4] == ["0.3750", "0.3750", f"{statistics.stdev([.5, .25]):.4f}"]
    assert shown.texts["dd"][4:6] == ["∞", "0.2500"]  # the worst and the best L1
    assert shown.texts["a"][:3] == ["images", "n2", "n1"]
    assert text.count("Of 3 values 1 is infinite: not in the chart") == 3
    assert "needs JavaScript" in text.split("<noscript>")[1].split("</noscript>")[0]


def test_data_holds_names_links_and_values(tmp_path):
    names = ['a <b>&"%41 50%#?', "'; x", "line\nbreak", "\N{GRINNING FACE}", "\udcff"]
    rows = [(name, {"l1": 1 / 3, "psnr": math.inf, "ssim": math.nan}) for name in names]
    write(tmp_path, rows)
    data = read_page_data(tmp_path)
    assert data["kinds"] == [*page.KINDS]
    assert [metric["name"] for metric in data["metrics"]] == [*ALL]
    assert [metric["better"] for metric in data["metrics"]] == ["lower", "higher", "higher"]
    for name, (shown, link, *numbers) in zip(names, data["rows"], strict=True):
        assert shown == name and os.fsdecode(urllib.parse.unquote_to_bytes(link)) == name
        assert link.isascii() and not {*link} & {*"<>\"'?# \n"}
        assert numbers == [0.333333, "Infinity", "NaN"]


def test_a_page_replaces_the_one_before_whole(tmp_path, monkeypatch):
    before = write(tmp_path, values(1, 2))

    def fail(*_):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            write(tmp_path, values(3, 4))
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["index.html"]


def test_images_are_saved_by_name_and_kind(tmp_path):
    """A kind without images is left out; a kind with another number of them is a mistake."""
    (tmp_path / "images").mkdir()
    page.save_images(tmp_path, ["a", "b"], ([b"1", b"2"], [b"3", b"4"], []))
    files = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert files == {"a-inputs.png": b"1", "b-inputs.png": b"2", "a-outputs.png": b"3",
                     "b-outputs.png": b"4"}
    with pytest.raises(ValueError, match="shorter|longer"):
        page.save_images(tmp_path, ["a", "b"], ([b"1"], [], []))
    with pytest.raises(ValueError, match="shorter|longer"):
        page.save_images(tmp_path, ["a"], ([b"1"], [b"2"]))
