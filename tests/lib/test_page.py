"""tools/lib/page.py: the page of a run or a test, read by an HTML parser."""

import os
import urllib.parse
from html.parser import HTMLParser

import pytest

from tools.lib import page


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


def test_a_row_per_name_and_a_column_per_kind(tmp_path):
    page.write_page(tmp_path, "run", "step 3", ["b", "a"], notes=["one", "two"])
    shown = read(tmp_path)
    assert shown.images == [f"images/{name}-{kind}.png" for name in ("b", "a")
                            for kind in ("inputs", "outputs", "targets")]
    assert shown.texts["th"] == ["name", "input", "output", "target", "b", "a"]
    assert shown.texts["p"] == ["step 3", "one", "two"]
    page.write_page(tmp_path, "run", "step 3", ["b"], kinds=("inputs", "outputs"))
    shown = read(tmp_path)
    assert shown.images == ["images/b-inputs.png", "images/b-outputs.png"]
    assert shown.texts["th"] == ["name", "input", "output", "b"]
    assert os.listdir(tmp_path) == ["index.html"]


@pytest.mark.parametrize("name", [
    'a <b>&"%41 50%#?', "'; x", "line\nbreak", "\N{GRINNING FACE}", "\udcff", "a/../b"])
def test_any_name_is_shown_and_links_to_its_file(tmp_path, name):
    page.write_page(tmp_path, name, "1 < 2", [name], notes=[name])
    shown = read(tmp_path)
    assert shown.texts["th"][-1].split() == name.split() and "b" not in shown.texts
    for source, kind in zip(shown.images, page.KINDS, strict=True):
        assert os.fsdecode(urllib.parse.unquote_to_bytes(source)) == f"images/{name}-{kind}.png"
        assert source.isascii() and not {*source} & {*"<>\"'?# \n"}


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
