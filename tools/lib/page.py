"""What the pages of runs, tests and evaluations share.

A page is one file. Its style and script, which lie in pages/, are written into it, and its policy
names their hashes, so that nothing else runs and nothing is loaded but images beside it. Only the
drawing page has a server, and asks it alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import string
import urllib.parse
from pathlib import Path

from tools.lib.cli import printable
from tools.lib.image_files import format_of

KINDS = ("inputs", "outputs", "targets")  # of images/NAME-KIND.png, and columns of the page
PAGES = Path(__file__).with_name("pages")
DRAW_SOURCES = ("png", "pixels", "model_input", "undo", "pad", "live", "photo", "share",
                "draw_input", "draw_view")


def escape(text):
    """A text as HTML shows it, on one line."""
    return html.escape(printable(text))


def source_hash(source):
    """What a Content-Security-Policy calls a style or script that a page holds."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def read_sources(ending, names):
    """Style or script files of pages/, those of these names that there are, as one text."""
    paths = [PAGES / f"{name}{ending}" for name in names]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.exists())


def write_data(data):
    """Data as JSON that an HTML script element may hold: no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def render(name, title, parts=None, data=None, siblings=False, sources=(), connects=False):
    """A page of pages/NAME.html with base and NAME of both .css and .js: bytes.

    parts: name -> HTML that stands for $name in NAME.html. data: what the script reads from the
    element `data`. siblings: whether the page loads scripts that lie beside it. sources: more
    styles and scripts, between base and NAME. connects: whether the page asks its server.
    """
    css, js = (read_sources(ending, ["base", *sources, name]) for ending in (".css", ".js"))
    own = " 'self'" if siblings else ""
    connect = "connect-src 'self'; " if connects else ""
    policy = ("default-src 'none'; img-src 'self' data: blob:; "
              f"style-src {source_hash(css)}; script-src {source_hash(js)}{own}; "
              f"{connect}base-uri 'none'; form-action 'none'")
    shell, body = (string.Template((PAGES / f"{part}.html").read_text(encoding="utf-8"))
                   for part in ("shell", name))
    body = body.substitute({"title": escape(title), **(parts or {})})
    return shell.substitute(policy=policy, title=escape(title), css=css, js=js, body=body.rstrip(),
                            data=write_data(data)).encode()


def render_drawing(title):
    """The page that people draw on, which its server serves: bytes."""
    return render("draw", title, sources=DRAW_SOURCES, connects=True)


def render_calls(models, has_token):
    """The page with calls to copy, for those who write programs: bytes. models: their descriptions
    (served_models); has_token: whether its server asks for one."""
    rows = []
    for model in models:
        inputs, outputs = model["inputs"], model["outputs"]
        rows.append({
            "name": model["name"], "input": inputs["file"], "output": outputs["file"],
            "drawn": outputs["kind"] != "images", "floats": model["floats"],
            "height": inputs["height"], "width": inputs["width"],
            "channels": inputs["channels"] * inputs["count"],
            "unit": 0.5 if inputs["kind"] == "images" else 0})
    return render("api", "pix2pix API", data={"models": rows, "token": has_token})


def number_data(value):
    """A float for `write_data`, as JavaScript's Number reads it: the text where it is not finite,
    for which JSON has no number."""
    if math.isfinite(value):
        return float(f"{value:.6g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def write_facts(facts):
    """(name, value) texts as an HTML list."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
                   for name, value in facts)
    return f'<dl class="facts">{rows}</dl>' if facts else ""


def write_notes(notes):
    """Warnings as HTML."""
    return "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def number_text(value, digits):
    """A number as the page shows it, as `formatNumber` of base.js does."""
    if value is None or math.isnan(value):
        return "–" if value is None else "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}".replace("-", "−")


def image_link(name):
    """The name of an image's files, without "-KIND.png", as part of an address."""
    return urllib.parse.quote(os.fsencode(name))


def save_images(output_dir, names, images, drawn=()):
    """Writes images/NAME-{inputs,outputs,targets}.png, or .npy. images: for each kind a list of
    files, which is empty where there is no such kind; drawn: likewise, of NAME-KIND-shown.png."""
    for ending, kinds in (("", images), ("-shown", drawn)):
        for kind, batch in zip(KINDS, kinds, strict=len(kinds) > 0):
            for name, contents in zip(names, batch, strict=len(batch) > 0):
                suffix = ".npy" if format_of(contents) == "npy" else ".png"
                path = output_dir / "images" / f"{name}-{kind}{ending}{suffix}"
                path.write_bytes(contents)
