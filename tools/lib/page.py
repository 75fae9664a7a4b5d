"""The HTML page of a run or a test: index.html beside its images."""

from __future__ import annotations

import html
import os
import string
import urllib.parse
from pathlib import Path

from tools.lib.files import write_atomic

KINDS = ("inputs", "outputs", "targets")  # of images/NAME-KIND.png, and columns of the page


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
