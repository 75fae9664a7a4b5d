"""Values as people look at them: a colour map, and an image with its scale.

The map is a helix in CIE Lab: from dark blue by purple, red and orange to light yellow lightness
rises evenly, hue turns evenly and chroma stays. So equal differences of values are equal distances
of colours, and no colour comes near the grey of missing pixels.
"""

from __future__ import annotations

import functools
import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tools.lib.colour import lab_to_rgb
from tools.lib.tf1 import session_config, tf
from tools.lib.values import multiple, round_step

COLOURS = 256
LIGHTNESS = (16, 92)  # of the lowest value and the highest
HUE = (300, 465)  # degrees, likewise
CHROMA = 55
MISSING = (165, 165, 165)  # light enough for dark dots on it, dark enough for light ones
SPARSE = 0.125  # of the pixels; where fewer are measured, they are drawn larger

FONT_SIZE = (11, 22)  # of the scale: least and most
FONT_SHARE = 1 / 42  # of the image's width, between these
MAX_LEGEND = 0.4  # of the image's width
LABEL_GAP = 6  # pixels between labels, at least
BACKGROUND, INK = (255, 255, 255), (32, 32, 32)


@functools.cache
def map_colours():
    """The colours from the lowest value to the highest: uint8 [COLOURS, 3]."""
    place = np.linspace(0, 1, COLOURS)
    lightness = LIGHTNESS[0] + place * (LIGHTNESS[1] - LIGHTNESS[0])
    hue = np.radians(HUE[0] + place * (HUE[1] - HUE[0]))
    lab = np.stack([lightness, CHROMA * np.cos(hue), CHROMA * np.sin(hue)], axis=1)
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        rgb = sess.run(lab_to_rgb(tf.constant(lab, tf.float32)))
    return np.round(rgb * 255).astype(np.uint8)


def colour_map(values, low, high, missing=None):
    """Values [height, width] -> sRGB uint8 [height, width, 3]. What lies outside of low..high has
    the colour of its end; missing: bool, where there is no value."""
    missing = ~np.isfinite(values) if missing is None else missing | ~np.isfinite(values)
    share = (np.where(missing, low, values).astype(np.float32) - low) / (high - low)
    colours = map_colours()[np.round(np.clip(share, 0, 1) * (COLOURS - 1)).astype(np.uint8)]
    colours[missing] = MISSING
    return colours


def grow_measured(values, missing):
    """Gives missing pixels the value of a measured neighbour, so that single ones can be seen:
    values and missing, both [height, width]."""
    grown, still = values.copy(), missing.copy()
    height, width = values.shape
    padded, absent = np.pad(values, 1), np.pad(missing, 1, constant_values=True)
    for top, left in ((1, 0), (1, 2), (0, 1), (2, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
        area = (slice(top, top + height), slice(left, left + width))
        found = still & ~absent[area]
        grown[found] = padded[area][found]
        still &= ~found
    return grown, still


def label_of(value, step):
    """The text of a tick."""
    if abs(value) >= 1e6 or step < 1e-4:
        return f"{value:g}"
    return f"{value:.{max(0, -math.floor(math.log10(step)))}f}"


def list_ticks(low, high, step, unit):
    """The multiples of a step in a range, as (value, label); the last label has the unit."""
    counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ticks = [(multiple(count, step), label_of(multiple(count, step), step)) for count in counts]
    if ticks and unit:
        ticks[-1] = (ticks[-1][0], f"{ticks[-1][1]} {unit}")
    return ticks


class Tick(NamedTuple):
    """A mark of a scale, in pixels from the left."""

    place: int  # of the mark
    label: str
    start: float  # of the label
    end: float


def place_ticks(low, high, left, room, width, measure, unit=""):
    """The Ticks of a scale at round numbers, as many as have room for their labels.

    left, room: where low..high lies; width: of the image; measure: function of a label -> its width
    in pixels.
    """
    step = round_step((high - low) / room)  # a tick at every pixel or few
    while True:
        ticks = []
        for value, label in list_ticks(low, high, step, unit):
            place, size = left + round((value - low) / (high - low) * (room - 1)), measure(label)
            start = min(max(place - size / 2, LABEL_GAP / 2), width - size - LABEL_GAP / 2)
            ticks.append(Tick(place, label, start, start + size))
        if all(after.start - before.end >= LABEL_GAP for before, after in pairwise(ticks)):
            return ticks
        step = round_step(1.01 * step)


def draw_scale(width, low, high, unit="", has_missing=False):
    """A scale as wide as an image, as a Pillow image: a bar of the map with ticks and labels, and
    what the colour of missing pixels is, where there is room for that."""
    from PIL import Image, ImageDraw, ImageFont
    font_size = int(np.clip(width * FONT_SHARE, *FONT_SIZE))
    font, gap = ImageFont.load_default(font_size), font_size // 2
    legend = font_size + gap + math.ceil(font.getlength("missing")) + 2 * gap
    has_legend = has_missing and legend <= MAX_LEGEND * width
    room = max(width - 2 * gap - legend * has_legend, 2)  # pixels of the bar
    top, bottom = gap, gap + font_size
    scale = Image.new("RGB", (width, bottom + gap + font_size + gap), BACKGROUND)
    draw = ImageDraw.Draw(scale)
    bar = colour_map(np.linspace(low, high, room)[np.newaxis], low, high)
    scale.paste(Image.fromarray(bar).resize((room, font_size)), (gap, top))
    for tick in place_ticks(low, high, gap, room, width, font.getlength, unit):
        draw.line((tick.place, bottom, tick.place, bottom + font_size // 3), INK)
        draw.text((tick.start, bottom + gap), tick.label, INK, font)
    if has_legend:
        left = width + gap - legend
        draw.rectangle((left, top, left + font_size - 1, bottom - 1), MISSING)
        draw.text((left + font_size + gap, (top + bottom) / 2), "missing", INK, font, "lm")
    return scale


def draw_shown(values, low, high, missing=None, unit=""):
    """`colour_map` with its scale below it: uint8 [height + that of the scale, width, 3]. Where few
    pixels are measured they are drawn three pixels wide. unit: of the values, for the scale."""
    missing = ~np.isfinite(values) if missing is None else missing | ~np.isfinite(values)
    has_missing = bool(missing.any())
    if (~missing).mean() < SPARSE:
        values, missing = grow_measured(values, missing)
    scale = draw_scale(values.shape[1], low, high, unit, has_missing)
    return np.concatenate([colour_map(values, low, high, missing), np.asarray(scale)])
