"""The HTML page of a run or a test: index.html beside its images.

A page is one file. Its style and script, which lie in pages/, are written into it, and its policy
names their hashes, so that nothing else runs and nothing is loaded but images beside it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import string
import urllib.parse
from pathlib import Path

from tools.lib.cli import printable
from tools.lib.files import write_atomic

KINDS = ("inputs", "outputs", "targets")  # of images/NAME-KIND.png, and columns of the page
PAGES = Path(__file__).with_name("pages")


def escape(text):
    """A text as HTML shows it, on one line."""
    return html.escape(printable(text))


def source_hash(source):
    """What a Content-Security-Policy calls a style or script that a page holds."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def read_sources(ending, names):
    """Style or script files of pages/ as one text."""
    return "\n".join((PAGES / f"{name}{ending}").read_text(encoding="utf-8") for name in names)


def write_data(data):
    """Data as JSON that an HTML script element may hold: no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def render(name, title, parts=None, data=None, siblings=False):
    """A page of pages/NAME.{html,css,js}, with what all pages share: bytes.

    parts: name -> HTML that stands for $name in NAME.html. data: what the script reads from the
    element `data`. siblings: whether the page loads scripts that lie beside it.
    """
    css, js = read_sources(".css", ["base", name]), read_sources(".js", ["base", name])
    own = " 'self'" if siblings else ""
    policy = ("default-src 'none'; img-src 'self' data: blob:; "
              f"style-src {source_hash(css)}; script-src {source_hash(js)}{own}; "
              "base-uri 'none'; form-action 'none'")
    shell, body = (string.Template((PAGES / f"{part}.html").read_text(encoding="utf-8"))
                   for part in ("shell", name))
    body = body.substitute({"title": escape(title), **(parts or {})})
    return shell.substitute(policy=policy, title=escape(title), css=css, js=js, body=body.rstrip(),
                            data=write_data(data)).encode()


def write_facts(facts):
    """(name, value) texts as an HTML list."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
                   for name, value in facts)
    return f'<dl class="facts">{rows}</dl>' if facts else ""


def write_notes(notes):
    """Warnings as HTML."""
    return "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def write_page(output_dir, title, summary, names, kinds=KINDS, notes=()):
    """Writes index.html: a summary, notes and a row per name with its images from images/."""
    template = Path(__file__).with_name("page.html")
    heads = "".join(f"<th>{kind.removesuffix('s')}</th>" for kind in ("names", *kinds))
    rows = []
    for name in names:
        links = [urllib.parse.quote(os.fsencode(f"images/{name}-{kind}.png")) for kind in kinds]
        cells = "".join(f'<td><img loading="lazy" alt="" src="{link}"></td>' for link in links)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    page = string.Template(template.read_text(encoding="utf-8")).substitute(
        title=html.escape(title), summary=html.escape(summary), heads=heads, rows="\n".join(rows),
        notes="".join(f'<p class="note">{html.escape(note)}</p>\n' for note in notes))
    write_atomic(output_dir / "index.html", os.fsencode(page))


def save_images(output_dir, names, images):
    """Writes images/NAME-{inputs,outputs,targets}.png. images: for each kind a list of PNG files,
    which is empty where there is no such kind."""
    for kind, batch in zip(KINDS, images, strict=True):
        for name, contents in zip(names, batch, strict=len(batch) > 0):
            (output_dir / "images" / f"{name}-{kind}.png").write_bytes(contents)
