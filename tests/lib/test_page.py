"""tools/lib/page.py: what all pages share."""

import base64
import hashlib
import re

import pytest

from tools.lib import page


@pytest.mark.parametrize("siblings", [False, True])
def test_the_policy_allows_this_style_and_script_alone(siblings):
    parts = dict.fromkeys(("facts", "notes", "metrics", "about"), "")
    text = page.render("test", "a", parts, {}, siblings, ("table",)).decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="(.*?)"', text)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        source, = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        own = " 'self'" if siblings and tag == "script" else ""
        assert rules[rule] == f"'sha256-{digest}'{own}"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not re.search(r'\s(style|on\w+)="', text.split("<body>")[1].split("<script")[0])


def test_only_the_drawing_page_asks_its_server():
    """It asks that alone."""
    read = lambda text: re.search('"Content-Security-Policy" content="(.*?)"', text)[1]  # noqa: E731
    parts = dict.fromkeys(("facts", "notes", "metrics", "about"), "")
    assert "connect-src" not in read(page.render("test", "a", parts, {}).decode())
    rules = read(page.render_drawing("a").decode()).split("; ")
    assert "connect-src 'self'" in rules and "default-src 'none'" in rules


def test_no_source_could_end_the_element_that_it_is_in():
    for path in page.PAGES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert max(map(len, text.splitlines())) <= 100, path.name
        assert path.suffix == ".html" or not re.search("</|<!--", text), path.name
        assert path.suffix != ".html" or "://" not in text, path.name
        assert "import" not in re.findall(r"^\s*@?(\w+)", text, re.MULTILINE), path.name


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
