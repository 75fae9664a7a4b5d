"""tools/lib/results_page.py: the page of a test, read by an HTML parser."""

import json
import math
import os
import statistics
import urllib.parse
from html.parser import HTMLParser

import pytest
from helpers import read_page_data

from tools.lib import page, results_page
from tools.lib.metrics import METRICS, summarize_rows


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
    return [(f"n{index}", dict.fromkeys(METRICS, number)) for index, number in enumerate(numbers)]


def write(folder, rows, facts=(), notes=(), kinds=page.KINDS, metrics=METRICS):
    """Writes a test's page; returns its text."""
    summaries = summarize_rows([numbers for _, numbers in rows])
    endings = {kind: [f"-{kind}.png"] for kind in kinds}
    results_page.write_results_page(folder, folder.name, [*facts], notes, endings, metrics, rows,
                                    summaries)
    return (folder / "index.html").read_bytes().decode("utf-8")  # strictly


@pytest.mark.parametrize("metrics", [METRICS, {}])
def test_a_page_is_valid_html(tmp_path, metrics):
    html5lib = pytest.importorskip("html5lib")
    names = ['<b a=">', "a&b", "\udcff\x01", "</script>"]
    rows = [(name, dict.fromkeys(METRICS, number)) for name, number in
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


def test_the_interval_of_a_mean_stands_beside_it(tmp_path):
    write(tmp_path, values(3, 5, math.inf))
    shown = read(tmp_path).texts["dd"]
    assert [text for text in shown if " to " in text] == [
        f"{3:.{metric.digits}f} to {5:.{metric.digits}f}" for metric in METRICS.values()]
    places = [index for index, text in enumerate(shown) if " to " in text]
    assert all(float(shown[place - 1]) == 4 for place in places)  # the mean
    write(tmp_path, values(3))
    assert not any(" to " in text for text in read(tmp_path).texts["dd"])


def test_the_ends_may_be_infinite_but_are_numbers():
    numbers = [1.0, math.nan, 3.0, math.inf, 2.0, -math.inf]
    assert results_page.find_ends(numbers, "higher") == (5, 3, 2, 1)
    assert results_page.find_ends(numbers[:3], "lower") == (2, 0, 0, 1)
    assert results_page.find_ends([math.nan], "lower") == (None, None, 0, 1)
    assert results_page.find_ends([], "higher") == (None, None, 0, 0)


def test_without_a_script_the_summary_is_there(tmp_path):
    text = write(tmp_path, values(0.5, 0.25, math.inf), facts=[("model", "x_train")], notes=["n"])
    shown = Reader(text)
    assert shown.texts["dt"][0] == "model" and shown.texts["dd"][0] == "x_train"
    assert shown.texts["dd"][1:5] == ["0.3750", "0.2500 to 0.5000", "0.3750",
                                      f"{statistics.stdev([.5, .25]):.4f}"]
    assert shown.texts["dd"][5:7] == ["∞", "0.2500"]  # the worst and the best L1
    assert shown.texts["a"][:3] == ["images", "n2", "n1"]
    assert text.count("Of 3 values 1 is infinite: not in the chart") == 3
    assert "needs JavaScript" in text.split("<noscript>")[1].split("</noscript>")[0]


def test_data_holds_names_links_and_values(tmp_path):
    names = ['a <b>&"%41 50%#?', "'; x", "line\nbreak", "\N{GRINNING FACE}", "\udcff"]
    rows = [(name, {"l1": 1 / 3, "psnr": math.inf, "ssim": math.nan}) for name in names]
    write(tmp_path, rows)
    data = read_page_data(tmp_path)
    assert data["kinds"] == [*page.KINDS]
    assert [metric["name"] for metric in data["metrics"]] == [*METRICS]
    assert [metric["better"] for metric in data["metrics"]] == [
        metric.better for metric in METRICS.values()]
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
