"""What people draw a model's inputs with, found from what its training folder keeps of them.

A brush for sketches, a palette for label maps, and for all else images that there are.
"""

from __future__ import annotations

import numpy as np

from tools.lib.label_maps import FACADES

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
MIN_BACKGROUND = 0.5  # of the pixels of drawings: of edges 0.9
MAX_LINE_WIDTH = 15
NEAR = 48  # levels from a known colour, as JPEG compression leaves them
MIN_NEAR = 0.7  # of the pixels of label maps: of facades 0.84 and more
MARKER = 4  # width of lines where nothing is known of them
MAX_COLOURFUL = 0.02  # of the pixels of sketches; photos on white have 0.1 and more


def name_colour(colour):
    """A colour's name in known label maps, else "#rrggbb"."""
    names = {rgb: name for name, rgb in FACADES.items()}
    return names.get(tuple(colour)) or "#{:02x}{:02x}{:02x}".format(*colour)


def is_like_facades(images):
    """Whether images, uint8 [height, width, 1 or 3], are label maps of the facades dataset, which
    are JPEG files."""
    colours = np.array([*FACADES.values()], np.int16)
    pixels = np.concatenate([np.broadcast_to(image, (*image.shape[:2], 3))[::4, ::4].reshape(-1, 3)
                             for image in images]).astype(np.int16)
    distances = np.abs(pixels[:, np.newaxis] - colours).max(axis=2)
    return (distances.min(axis=1) <= NEAR).mean() >= MIN_NEAR \
        and len({*distances.argmin(axis=1).tolist()}) > 2


def are_colourful(images):
    """Whether images, uint8 [height, width, 1 or 3], have more colour than the edge of a black line
    that was compressed."""
    spread = np.concatenate([np.ptp(image.astype(np.int16), axis=2).ravel() for image in images]) \
        if len(images) else np.zeros(1)
    return (spread > NEAR).mean() > MAX_COLOURFUL


def measure_lines(images, background):
    """The width of drawn lines in pixels: that at which every line loses one pixel of its width
    where it and its neighbours, right and below, are drawn. images: uint8 [height, width, 1 or 3].
    """
    drawn = inside = 0
    for image in images:
        ink = np.abs(image.astype(np.int16) - np.array(background)).max(axis=2) > 127
        drawn += ink[:-1, :-1].sum()
        inside += (ink[:-1, :-1] & ink[1:, :-1] & ink[:-1, 1:] & ink[1:, 1:]).sum()
    return 1 if drawn == 0 else int(np.clip(round(drawn / max(drawn - inside, 1)), 1,
                                            MAX_LINE_WIDTH))


def describe_brush(images, background):
    """A brush for lines as in images, on a background that is nearly black or white."""
    ink = BLACK if sum(background) > 382 else WHITE
    return {"tool": "brush", "background": [*background], "ink": [*ink],
            "line_width": measure_lines(images, background)}


def describe_palette(colours, background, names=None, indices=None):
    """A palette of colours (r, g, b)."""
    names, indices = names or [*map(name_colour, colours)], indices or [None] * len(colours)
    return {"tool": "palette", "background": [*background], "palette": [
        {"name": name, "color": [*colour], "index": index}
        for name, colour, index in zip(names, colours, indices, strict=True)]}


def choose_tool(statistics, images):
    """What images of 8 bits are drawn with. statistics: of inputs.json, {} where there is none;
    images: examples, uint8 [height, width, 1 or 3]."""
    few = [tuple(row["rgb"]) for row in statistics.get("colours") or []]
    is_grey = statistics.get("grey", True)
    if not statistics:
        return describe_brush([], WHITE) | {"line_width": MARKER}
    if few and is_grey and statistics["colours"][0]["share"] >= MIN_BACKGROUND:
        return describe_brush(images, few[0])
    if not {*few} <= {*FACADES.values()}:
        return describe_palette(few, few[0])
    if few or not is_grey and images and is_like_facades(images):
        return describe_palette([*FACADES.values()], FACADES["background"])
    if statistics.get("white_share", 0) >= MIN_BACKGROUND and not are_colourful(images):
        return describe_brush(images, WHITE)
    return {"tool": "image"}


def describe_tool(side, statistics, images):
    """What inputs are drawn with, as the page has it: "tool", "palette", "indices", "background",
    "ink", "line_width". side: their ImageType; statistics, images: as for `choose_tool`."""
    found = {"palette": None, "indices": False, "background": [*WHITE], "ink": [*BLACK],
             "line_width": 1}
    if side.kind == "labels":
        names, colours = zip(*side.legend, strict=True)
        usual = [tuple(row["rgb"]) for row in statistics.get("colours") or []]
        background = next((colour for colour in usual if colour in colours), colours[0])
        found |= describe_palette(colours, background, names,
                                  [*range(len(colours))] if side.is_drawn else None)
        return found | {"indices": side.is_drawn}
    return found | ({"tool": "image"} if side.kind == "values" or side.count > 1
                    else choose_tool(statistics, images))
