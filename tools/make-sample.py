#!/usr/bin/env python3
"""Draws a small dataset of house fronts and their label maps, without the network.

    python tools/make-sample.py
    python tools/make-sample.py --output_dir datasets/sample --num_train 400

An image is a pair side by side like those of the facades dataset: photo left (A), labels in the
colours of that dataset right (B). Image i of a folder depends on (seed, folder, i) alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "PIL", "tqdm")

import numpy as np
from PIL import Image, ImageDraw

from tools.lib import provenance, workers
from tools.lib.cli import Options, UserError, number_type
from tools.lib.files import share_folder
from tools.lib.images import write_image
from tools.lib.label_maps import FACADES

SPLITS = ("train", "val")
SMALLEST, LARGEST = 32, 1024  # --size
IMAGES_PER_WORKER = 8  # fewer are drawn sooner than another process starts
EXAMPLES = """\
  python tools/make-sample.py
  python tools/make-sample.py --output_dir datasets/sample --num_train 400"""

LAYERS = ("facade", "roof", "neighbour", "window", "door", "shop", "blind", "pillar", "sill",
          "cornice", "deco", "molding", "balcony")  # painted in this order; later ones cover

STYLES = {  # colours in 0..1; which one a house has follows from the parts it has
    "brick": {"wall": (0.70, 0.40, 0.31), "trim": (0.86, 0.80, 0.70), "roof": (0.36, 0.37, 0.41),
              "door": (0.20, 0.33, 0.27), "blind": (0.83, 0.77, 0.64)},
    "stucco": {"wall": (0.91, 0.76, 0.50), "trim": (0.96, 0.92, 0.83), "roof": (0.63, 0.31, 0.22),
               "door": (0.45, 0.26, 0.15), "blind": (0.30, 0.46, 0.38)},
    "stone": {"wall": (0.77, 0.74, 0.68), "trim": (0.90, 0.88, 0.83), "roof": (0.34, 0.38, 0.46),
              "door": (0.26, 0.29, 0.40), "blind": (0.50, 0.55, 0.60)}}
SKY_TOP, SKY_BOTTOM = (0.36, 0.58, 0.86), (0.80, 0.89, 0.96)
NEIGHBOUR_WALL = (0.60, 0.55, 0.53)
GLASS_TOP, GLASS_BOTTOM = (0.25, 0.34, 0.44), (0.09, 0.12, 0.16)
IRON = (0.11, 0.12, 0.13)
PAVEMENT = (0.50, 0.49, 0.48)


class Part(NamedTuple):
    """A rectangle of a house front; x and y in 0..1 of the image, y down."""

    kind: str
    left: float
    top: float
    right: float
    bottom: float


class Scene(NamedTuple):
    """What is drawn: a style, the parts in the order of LAYERS, where the street begins (y)."""

    style: str
    parts: list
    street: float


# --------------------------------------------------------------------------------------------------
# Layout: which parts a house has, and where
# --------------------------------------------------------------------------------------------------


def plan_scene(rng):
    """A house front drawn by lot, as a Scene."""
    style = str(rng.choice(list(STYLES)))
    street = rng.uniform(0.91, 0.94)
    left, right = (float(rng.choice([0.0, rng.uniform(0.08, 0.17)])) for _ in range(2))
    house = Part("facade", left, rng.uniform(0.19, 0.27), 1 - right, street)
    parts = [house, *plan_top(rng, house, style)]
    if left:
        parts += plan_neighbour(rng, 0.0, left, street)
    if right:
        parts += plan_neighbour(rng, 1 - right, 1.0, street)
    num_columns = round((house.right - house.left) / rng.uniform(0.17, 0.25))
    num_floors = int(rng.integers(2, 5))
    margin = 0.035
    columns = np.linspace(house.left + margin, house.right - margin, num_columns + 1)
    ground_floor = street - 0.72 / (num_floors + 1.2) * 1.15
    floors = np.linspace(house.top + 0.035, ground_floor, num_floors + 1)
    parts += plan_upper_floors(rng, style, columns, floors)
    parts += plan_ground_floor(rng, style, columns, ground_floor, street)
    parts.append(Part("molding", house.left, ground_floor - 0.012, house.right,
                      ground_floor + 0.016))
    if style == "stone":
        parts += [Part("pillar", x, house.top + 0.03, x + 0.028, ground_floor)
                  for x in (house.left + 0.004, house.right - 0.032)]
    return Scene(style, sorted(parts, key=lambda part: LAYERS.index(part.kind)), street)


def plan_top(rng, house, style):
    """The main cornice, and above it a parapet with an ornament (brick) or a roof with dormers."""
    overhang = 0.012
    parts = [Part("molding", max(house.left - overhang, 0), house.top - 0.012,
                  min(house.right + overhang, 1), house.top + 0.026)]
    middle = (house.left + house.right) / 2
    if style == "brick":
        half = rng.uniform(0.09, 0.16)
        return parts + [Part("deco", middle - half, house.top - 0.075, middle + half,
                             house.top - 0.012)]
    height = rng.uniform(0.09, 0.13)
    parts.append(Part("roof", house.left, house.top - height, house.right, house.top - 0.012))
    num_dormers = int(rng.integers(1, 4))
    for x in np.linspace(house.left, house.right, num_dormers + 2)[1:-1]:
        top = house.top - height * 0.72
        parts += [Part("window", x - 0.026, top, x + 0.026, house.top - 0.02),
                  Part("cornice", x - 0.038, top - 0.018, x + 0.038, top)]
    return parts


def plan_neighbour(rng, left, right, street):
    """The house next door, of which a strip is seen: background with windows and a cornice."""
    top = rng.uniform(0.30, 0.46)
    parts = [Part("neighbour", left, top, right, street),
             Part("cornice", left, top, right, top + 0.02)]
    middle, half = (left + right) / 2, (right - left) * 0.27
    for y in np.arange(top + 0.065, street - 0.1, 0.16):
        parts += [Part("window", middle - half, y, middle + half, y + 0.085),
                  Part("sill", middle - half - 0.008, y + 0.085, middle + half + 0.008, y + 0.1)]
    return parts


def plan_upper_floors(rng, style, columns, floors):
    """Windows in rows and columns with what surrounds them in this style."""
    width = (columns[1] - columns[0]) * rng.uniform(0.42, 0.52)
    height = (floors[1] - floors[0]) * rng.uniform(0.55, 0.62)
    has_shutters = style == "stucco" and rng.random() < 0.7
    balcony_floor = int(rng.integers(0, len(floors) - 1)) if style != "brick" else -1
    balcony_step = int(rng.integers(1, 3))
    parts = []
    for row, floor_top in enumerate(floors[:-1]):
        top = floor_top + (floors[1] - floors[0] - height) * 0.52
        for column, middle in enumerate((columns[1:] + columns[:-1]) / 2):
            window = Part("window", middle - width / 2, top, middle + width / 2, top + height)
            parts += plan_window(rng, style, window, row, has_shutters)
            if row == balcony_floor and column % balcony_step == 0:
                reach = width * 0.22
                parts.append(Part("balcony", window.left - reach, top + height * 0.62,
                                  window.right + reach, top + height + 0.018))
            else:
                parts.append(Part("sill", window.left - 0.012, top + height, window.right + 0.012,
                                  top + height + 0.016))
    return parts


def plan_window(rng, style, window, row, has_shutters):
    """One window: a cornice or a pediment over it, shutters beside it or a blind in it."""
    left, top, right, bottom = window[1:]
    parts = [window]
    if style == "stone" and row % 2:
        parts.append(Part("deco", left - 0.018, top - 0.045, right + 0.018, top - 0.006))
    elif style != "stucco" or not has_shutters:
        parts.append(Part("cornice", left - 0.012, top - 0.022, right + 0.012, top - 0.002))
    if has_shutters:
        reach = (right - left) * 0.42
        parts += [Part("blind", left - reach, top, left, bottom),
                  Part("blind", right, top, right + reach, bottom)]
    elif rng.random() < 0.3:
        parts.append(Part("blind", left, top, right, top + (bottom - top) * rng.uniform(0.25, 0.6)))
    return parts


def plan_ground_floor(rng, style, columns, top, street):
    """One door, and beside it shops or windows."""
    has_shops = rng.random() < 0.55
    door_column = int(rng.integers(0, len(columns) - 1))
    column_width = columns[1] - columns[0]
    head = top + (street - top) * 0.24
    parts = []
    for column, middle in enumerate((columns[1:] + columns[:-1]) / 2):
        if column == door_column:
            half = min(column_width * 0.3, 0.055)
            parts += [Part("door", middle - half, head, middle + half, street),
                      Part("cornice", middle - half - 0.014, head - 0.024, middle + half + 0.014,
                           head - 0.004)]
        elif has_shops:
            half = column_width * 0.42
            parts.append(Part("shop", middle - half, head - 0.015, middle + half, street - 0.012))
        else:
            half = column_width * 0.25
            bottom = head + (street - head) * 0.62
            parts += [Part("window", middle - half, head, middle + half, bottom),
                      Part("sill", middle - half - 0.01, bottom, middle + half + 0.01,
                           bottom + 0.016)]
    if style == "stone":
        parts += [Part("pillar", x - 0.011, top + 0.016, x + 0.011, street) for x in columns[1:-1]]
    return parts


# --------------------------------------------------------------------------------------------------
# Tools of the painter; a canvas is [height, width, 3] in 0..1, a box (left, top, right, bottom)
# --------------------------------------------------------------------------------------------------


def to_box(part, size):
    """A part's box in whole pixels of an image of this size, at least one pixel in it."""
    left, top = (min(max(round(value * size), 0), size - 1) for value in part[1:3])
    right, bottom = (min(max(round(value * size), 0), size) for value in part[3:5])
    return left, top, max(right, left + 1), max(bottom, top + 1)


def view(canvas, left, top, right, bottom):
    """The part of a canvas in a box, cut at the edges."""
    return canvas[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]


def inset(box, by):
    """A box that is smaller by so many pixels on each side."""
    left, top, right, bottom = box
    return left + by, top + by, right - by, bottom - by


def blend(first, last, num_rows):
    """Colours from first to last: [num_rows, 1, 3]."""
    position = np.linspace(0, 1, num_rows, dtype=np.float32)[:, None, None]
    return np.float32(first) * (1 - position) + np.float32(last) * position


def make_noise(rng, height, width, grain):
    """Smooth noise of mean 0, deviation about 1, and a grain in pixels: [height, width]."""
    grid = rng.standard_normal((-(-height // grain) + 1, -(-width // grain) + 1), np.float32)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def cast_shadow(canvas, box, depth, strength=0.42):
    """Darkens what lies right of and below a box; the light comes from the upper left."""
    left, top, right, bottom = box
    area = view(canvas, left + depth // 2, top + depth // 2, right + depth // 2, bottom + depth)
    height, width = area.shape[:2]
    soft = max(depth * 0.5, 1.0)
    down = np.clip((height - np.arange(height, dtype=np.float32)) / soft, 0, 1)
    across = np.clip((width - np.arange(width, dtype=np.float32)) / soft, 0, 1)
    area *= 1 - strength * (down[:, None] * across)[..., None]


def paint_relief(canvas, box, colour, edge):
    """A block of trim with a lit upper and left edge and a dark lower one."""
    left, top, right, bottom = box
    view(canvas, *box)[:] = colour
    view(canvas, left, top, right, min(top + edge, bottom))[:] *= 1.1
    view(canvas, left, top, min(left + edge, right), bottom)[:] *= 1.05
    view(canvas, left, max(bottom - edge, top), right, bottom)[:] *= 0.72


# --------------------------------------------------------------------------------------------------
# Sky, street, walls, roof
# --------------------------------------------------------------------------------------------------


def paint_sky(canvas, rng):
    """Blue that pales downwards, with soft clouds in the upper half."""
    size = len(canvas)
    canvas[:] = blend(SKY_TOP, SKY_BOTTOM, size)
    height = size // 2
    clouds = sum(make_noise(rng, height, size, max(size // parts, 1)) / weight
                 for parts, weight in ((3, 1), (7, 2), (16, 4)))
    cover = np.clip(clouds * 0.55 - 0.1, 0, 0.75)[..., None]
    canvas[:height] += (np.float32((0.98, 0.98, 0.99)) - canvas[:height]) * cover


def paint_street(canvas, top, unit):
    """A pavement of slabs, its kerb, and the road, which darkens towards the lower edge."""
    size = len(canvas)
    canvas[top:] = blend(PAVEMENT, np.float32(PAVEMENT) * 0.8, size - top)
    kerb = top + (size - top) * 55 // 100
    canvas[top:kerb, ::max(34 * unit // 2, 2)] *= 0.86
    canvas[top:top + 3 * unit] *= 0.62
    canvas[kerb:] = blend((0.30, 0.30, 0.32), (0.20, 0.20, 0.22), size - kerb)
    canvas[kerb:kerb + 2 * unit] = (0.62, 0.61, 0.59)


def lay_courses(rng, height, width, course, length, joint):
    """Brightness of a wall of bricks or blocks, the joints, both [height, width]."""
    rows = np.arange(height) // course
    shifted = np.arange(width)[None] + (rows % 2 * (length // 2))[:, None]
    tones = rng.standard_normal((rows[-1] + 1, width // length + 2), np.float32)
    joints = (np.arange(height) % course < joint)[:, None] | (shifted % length < joint)
    return tones[rows[:, None], shifted // length], joints


def paint_facade(canvas, box, unit, rng, style):
    """A wall of bricks, plaster or blocks of stone."""
    area = view(canvas, *box)
    height, width = area.shape[:2]
    tint = np.float32(STYLES[style]["wall"]) * rng.uniform(0.95, 1.04)
    tint = tint * (1 + 0.01 * rng.standard_normal(3, np.float32))
    stains = 0.02 * make_noise(rng, height, width, 48 * unit)
    if style == "stucco":
        grain = 0.025 * rng.standard_normal((height, width), np.float32)
        area[:] = tint * (1 + grain + stains + 0.015 * make_noise(rng, height, width, 6 * unit)
                          )[..., None]
        return
    course, length = (7 * unit, 16 * unit) if style == "brick" else (22 * unit, 46 * unit)
    tones, joints = lay_courses(rng, height, width, course, length, max(unit, 1))
    depth = 0.075 if style == "brick" else 0.03
    grain = 0.02 * rng.standard_normal((height, width), np.float32)
    area[:] = tint * (1 + depth * tones + grain + stains)[..., None]
    mortar = (0.74, 0.66, 0.58) if style == "brick" else np.float32(tint) * 0.78
    area[joints] = area[joints] * 0.4 + np.float32(mortar) * 0.6


def paint_roof(canvas, box, unit, rng, style):
    """Rows of tiles in a trapezoid; what lies beside it stays."""
    left, top, right, bottom = box
    area = view(canvas, *box)
    height, width = area.shape[:2]
    tones, joints = lay_courses(rng, height, width, 6 * unit, 10 * unit, max(unit, 1))
    tiles = np.float32(STYLES[style]["roof"]) * (1 + 0.09 * tones - 0.28 * joints)[..., None]
    tiles *= blend((1.12,) * 3, (0.88,) * 3, height)
    distance = np.arange(width)
    slope = np.linspace(slope_of(height), 0, height)[:, None]
    inside = (distance >= slope) & (distance < width - slope)
    area[inside] = tiles[inside]
    cap = int(slope_of(height))
    view(canvas, left + cap, top, right - cap, top + 3 * unit)[:] *= 0.7


def slope_of(height):
    """How far a roof's upper edge stands back on each side, in pixels, for its height."""
    return height * 0.45


def paint_neighbour(canvas, box, unit, rng, _style):
    """A plain wall, greyer and darker than that of the house."""
    area = view(canvas, *box)
    noise = 0.02 * rng.standard_normal(area.shape[:2], np.float32)
    area[:] = np.float32(NEIGHBOUR_WALL) * (1 + noise)[..., None]


# --------------------------------------------------------------------------------------------------
# Windows, doors, shops, trim
# --------------------------------------------------------------------------------------------------


def paint_glass(canvas, box, unit, rng):
    """Glass that mirrors the sky above and is dark below, a slanting gleam, at times a curtain."""
    area = view(canvas, *box)
    height, width = area.shape[:2]
    if not height or not width:
        return
    area[:] = blend(GLASS_TOP, GLASS_BOTTOM, height) * rng.uniform(0.9, 1.1)
    slant = np.arange(width)[None] + np.arange(height)[:, None] * 0.6
    start = rng.uniform(0.2, 0.7) * width
    gleam = (slant > start) & (slant < start + 0.35 * width)
    area[gleam] += np.float32((0.07, 0.08, 0.09))
    if rng.random() < 0.35:
        reach = max(width // 5, 1)
        folds = 0.62 + 0.08 * np.sin(np.arange(reach) * (1.6 / unit))
        for side in (area[:, :reach], area[:, -reach:]):
            side[:] = folds[None, :, None] * np.float32((0.85, 0.82, 0.76)) * 0.8


def paint_window(canvas, box, unit, rng, style):
    """A frame with a mullion and a transom around glass that lies back in the wall."""
    left, top, right, bottom = box
    frame = np.float32((0.80, 0.79, 0.76))
    bar = max(min(2 * unit, (right - left) // 14), 1)
    glass = inset(box, min(bar + unit, (right - left) // 7))
    view(canvas, *box)[:] = frame
    paint_glass(canvas, glass, unit, rng)
    middle, transom = (left + right - bar) // 2, top + (bottom - top) * 3 // 10
    view(canvas, middle, top, middle + bar, bottom)[:] = frame * 0.96
    view(canvas, left, transom, right, transom + bar)[:] = frame
    view(canvas, left, transom + bar, right, transom + bar + unit)[:] *= 0.7
    view(canvas, left, top, right, min(top + 5 * unit, bottom))[:] *= 0.5
    view(canvas, left, top, min(left + 3 * unit, right), bottom)[:] *= 0.62


def paint_door(canvas, box, unit, rng, style):
    """Two leaves of three panels each under a window, with a handle and a step."""
    left, top, right, bottom = box
    colour = np.float32(STYLES[style]["door"])
    view(canvas, *box)[:] = np.float32(STYLES[style]["trim"]) * 0.9
    light = top + (bottom - top) // 4
    paint_glass(canvas, (left + 3 * unit, top + 3 * unit, right - 3 * unit, light - unit), unit,
                rng)
    step = bottom - 4 * unit
    leaves = (left + 3 * unit, light + unit, right - 3 * unit, step)
    view(canvas, *leaves)[:] = colour
    middle = (left + right) // 2
    for start, end in ((leaves[0], middle), (middle, leaves[2])):
        edges = np.linspace(leaves[1], step, 4).astype(int)
        for upper, lower in zip(edges[:-1], edges[1:]):
            panel = inset((start, upper, end, lower), 3 * unit)
            view(canvas, *panel)[:] = colour * 0.68
            view(canvas, panel[0] + unit, panel[1] + unit, panel[2], panel[3])[:] = colour * 1.22
            view(canvas, *inset(panel, 2 * unit))[:] = colour * 1.02
    view(canvas, middle, leaves[1], middle + unit, step)[:] = colour * 0.4
    handle = (leaves[1] + step) // 2
    view(canvas, middle + 2 * unit, handle, middle + 4 * unit, handle + 6 * unit)[:] = (.8, .68, .3)
    view(canvas, left, step, right, bottom)[:] = (0.66, 0.65, 0.62)
    view(canvas, left, top, right, min(top + 6 * unit, bottom))[:] *= 0.55
    view(canvas, left, top, min(left + 3 * unit, right), bottom)[:] *= 0.65


def paint_shop(canvas, box, unit, rng, style):
    """A shop window with a plinth under a striped awning."""
    left, top, right, bottom = box
    wood = np.float32(STYLES[style]["door"]) * 0.8
    view(canvas, *box)[:] = wood
    awning = top + (bottom - top) * 30 // 100
    pane = (left + 4 * unit, awning, right - 4 * unit, bottom - (bottom - top) // 7)
    paint_glass(canvas, pane, unit, rng)
    area = view(canvas, *pane)
    if area.size:  # the lamps within
        glow = blend((0.10, 0.07, 0.03), (0.34, 0.25, 0.12), len(area))
        area += glow
    third = (right - left) // 3
    for x in (left + third, left + 2 * third):
        view(canvas, x, awning, x + 2 * unit, pane[3])[:] = wood
    view(canvas, left, awning, right, awning + 7 * unit)[:] *= 0.5
    stripes = np.arange(right - left) * 7 // max(right - left, 1) % 2
    colours = np.float32([(0.72, 0.17, 0.15), (0.95, 0.92, 0.86)])[stripes]
    view(canvas, left, top, right, awning)[:] = colours[None]
    view(canvas, left, top, right, awning)[:] *= blend((1.05,) * 3, (0.8,) * 3, awning - top)
    view(canvas, left, awning - 2 * unit, right, awning)[:] *= 0.72


def paint_blind(canvas, box, unit, rng, style):
    """Slats in a frame."""
    left, top, right, bottom = box
    colour = np.float32(STYLES[style]["blind"])
    cast_shadow(canvas, box, 5 * unit)
    paint_relief(canvas, box, colour, unit)
    area = view(canvas, *inset(box, 2 * unit))
    slats = np.arange(len(area)) % (4 * unit) / (4 * unit)
    area *= (1.1 - 0.45 * slats)[:, None, None]


def paint_pillar(canvas, box, unit, rng, style):
    """A half-round pillar with grooves, a base and a capital."""
    left, top, right, bottom = box
    cast_shadow(canvas, box, 8 * unit)
    across = np.linspace(-1, 1, right - left, dtype=np.float32)
    light = 1.04 - 0.35 * np.clip(across + 0.25, 0, None) ** 2 - 0.12 * np.clip(-across, 0, 1) ** 2
    light -= 0.06 * (np.arange(right - left) // (2 * unit) % 2)
    view(canvas, *box)[:] = light[None, :, None] * np.float32(STYLES[style]["trim"])
    for upper, lower in ((top, top + 7 * unit), (bottom - 9 * unit, bottom)):
        paint_relief(canvas, (left, max(upper, top), right, min(lower, bottom)),
                     STYLES[style]["trim"], 2 * unit)


def paint_sill(canvas, box, unit, rng, style):
    """A ledge below a window."""
    cast_shadow(canvas, box, 7 * unit)
    paint_relief(canvas, box, STYLES[style]["trim"], 2 * unit)


def paint_cornice(canvas, box, unit, rng, style):
    """A ledge over a window, of two steps."""
    left, top, right, bottom = box
    cast_shadow(canvas, box, 9 * unit)
    paint_relief(canvas, box, np.float32(STYLES[style]["trim"]) * 0.9, 2 * unit)
    paint_relief(canvas, (left, top, right, (top + bottom) // 2), STYLES[style]["trim"], unit)


def paint_deco(canvas, box, unit, rng, style):
    """A gable with a round ornament on a block."""
    left, top, right, bottom = box
    trim = np.float32(STYLES[style]["trim"])
    cast_shadow(canvas, box, 7 * unit)
    paint_relief(canvas, box, trim * 0.86, 2 * unit)
    height, width = bottom - top, right - left
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rise = y / max(height, 1) - np.abs(2 * x / max(width, 1) - 1)
    area = view(canvas, *box)
    area[rise > -0.08] = trim * 1.04
    area[rise > 0.14] = trim * 0.74
    distance = np.hypot(y - height * 0.66, x - width * 0.5) / max(height, 1)
    area[distance < 0.2] = trim
    area[distance < 0.1] = trim * 0.66
    view(canvas, left, bottom - 3 * unit, right, bottom)[:] = trim


def paint_molding(canvas, box, unit, rng, style):
    """A band across the house: a lit ledge over a row of dentils."""
    left, top, right, bottom = box
    trim = np.float32(STYLES[style]["trim"])
    cast_shadow(canvas, (left, top, right - 12 * unit, bottom), 12 * unit)  # none on the sky
    paint_relief(canvas, box, trim * 0.93, 2 * unit)
    ledge = top + (bottom - top) * 45 // 100
    paint_relief(canvas, (left, top, right, ledge), trim, 2 * unit)
    view(canvas, left, ledge, right, ledge + 2 * unit)[:] *= 0.75
    gaps = np.arange(right - left) % (8 * unit) >= 5 * unit
    view(canvas, left, ledge + 2 * unit, right, bottom - 2 * unit)[:, gaps] *= 0.66


def paint_balcony(canvas, box, unit, rng, style):
    """An iron railing in front of the windows, on a slab with a shadow below."""
    left, top, right, bottom = box
    slab = bottom - max((bottom - top) // 4, 4 * unit)
    cast_shadow(canvas, (left, slab, right, bottom), 16 * unit)
    view(canvas, left, top, right, slab)[:] *= 0.78
    bars = np.arange(right - left) % (6 * unit) < max(3 * unit // 2, 1)
    view(canvas, left, top, right, slab)[:, bars] = IRON
    for y in (top, (top + slab) // 2, slab - 3 * unit):
        view(canvas, left, y, right, y + 2 * unit)[:] = IRON
    view(canvas, left, top, right, top + unit)[:] = np.float32(IRON) * 2.4
    paint_relief(canvas, (left, slab, right, bottom), STYLES[style]["trim"], 2 * unit)


# --------------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------------

PAINTERS = {
    "facade": paint_facade, "roof": paint_roof, "neighbour": paint_neighbour,
    "window": paint_window, "door": paint_door, "shop": paint_shop, "blind": paint_blind,
    "pillar": paint_pillar, "sill": paint_sill, "cornice": paint_cornice, "deco": paint_deco,
    "molding": paint_molding, "balcony": paint_balcony}


def draw_labels(scene, size):
    """The label map of a scene: uint8 [size, size, 3], colours of FACADES alone."""
    image = Image.new("RGB", (size, size), FACADES["background"])
    draw = ImageDraw.Draw(image)
    for part in scene.parts:
        left, top, right, bottom = to_box(part, size)
        if part.kind == "roof":
            cap = slope_of(bottom - top)
            draw.polygon([(left + cap, top), (right - 1 - cap, top), (right - 1, bottom - 1),
                          (left, bottom - 1)], fill=FACADES["facade"])
        elif part.kind == "neighbour":
            continue  # the house next door is background but for its windows
        else:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=FACADES[part.kind])
    return np.asarray(image)


def light_photo(photo, street):
    """Lights a photo: brighter at the upper left, darker at the edges and towards the street."""
    size = len(photo)
    x = ((np.arange(size, dtype=np.float32) + 0.5) / size)[None]
    y = x.T
    light = 1.06 - 0.09 * x - 0.05 * y - 0.10 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    light = light - 0.14 * np.clip((y - street + 0.10) / 0.10, 0, 1) * (y < street)
    return photo * light[..., None]


def draw_photo(scene, size, rng):
    """The photo of a scene: uint8 [size, size, 3], painted at twice the size and halved."""
    unit = max(round(size / 256), 1)  # about 1/512 of the canvas
    canvas = np.empty((2 * size, 2 * size, 3), np.float32)
    paint_sky(canvas, rng)
    for part in scene.parts:
        box = tuple(2 * value for value in to_box(part, size))
        PAINTERS[part.kind](canvas, box, unit, rng, scene.style)
    paint_street(canvas, 2 * round(scene.street * size), unit)
    photo = canvas.reshape(size, 2, size, 2, 3).mean((1, 3))  # [2s, 2s, 3] -> [s, s, 3]
    photo = light_photo(photo, scene.street)
    photo += 0.008 * rng.standard_normal((size, size, 1), np.float32)
    return (np.clip(photo, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_pair(seed, split, index, size):
    """Image `index` of a split, photo left and labels right: uint8 [size, 2 * size, 3]."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene = plan_scene(rng)
    return np.concatenate([draw_photo(scene, size, rng), draw_labels(scene, size)], axis=1)


def recorded_options(seed, size):
    """What a file depends on besides its own path."""
    return {"seed": seed, "size": size}


def write_pair(task):
    """Draws a pair and writes it as PNG, with a record of how. task: its path and the arguments of
    `draw_pair`. Raises OSError, with the file's name."""
    path, seed, split, index, size = task
    write_image(path, draw_pair(seed, split, index, size), compress_level=4,
                pnginfo=provenance.create_pnginfo(recorded_options(seed, size)))


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line."""
    parser = cli.Parser("make-sample.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add, count = parser.add_argument, number_type(int, 0)
    add("--output_dir", default="sample", help="folder in which train and val are made")
    add("--num_train", type=count, default=120, help="images in train")
    add("--num_val", type=count, default=12, help="images in val")
    add("--size", type=number_type(int, SMALLEST, LARGEST), default=256,
        help="height of an image, which is twice as wide")
    add("--seed", type=count, default=0, help="another seed draws other houses")
    workers.add_options(add)
    add("--force", action="store_true", help="draw files again that exist")
    return parser


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    options = Options(**vars(create_parser().parse_args(argv)))
    folder = Path(options.output_dir)
    for path in (*reversed(folder.parents), folder, *(folder / split for split in SPLITS)):
        if os.path.lexists(path) and not path.is_dir():
            raise UserError(f"--output_dir {folder}: {path} is not a folder")
    return options


def list_tasks(options):
    """Tasks of `write_pair` for the images to draw, and the number of those that exist. Raises
    UserError where those were drawn with other options."""
    tasks, kept = [], []
    for split, number in zip(SPLITS, (options.num_train, options.num_val), strict=True):
        for index in range(1, number + 1):
            path = Path(options.output_dir) / split / f"{index:04d}.png"
            if path.is_file() and not options.force:
                kept.append(path)
            else:
                tasks.append((path, options.seed, split, index, options.size))
    provenance.check_results(dict.fromkeys(kept, ()), recorded_options(options.seed, options.size),
                             "--output_dir", options.output_dir)
    return tasks, len(kept)


def run(argv):
    """Draws the dataset."""
    options = parse_args(argv)
    tasks, num_skipped = list_tasks(options)
    for split in SPLITS:
        (Path(options.output_dir) / split).mkdir(parents=True, exist_ok=True)
    with share_folder(options.output_dir, SPLITS), \
            cli.create_progress_bar(len(tasks), 0, "image") as bar:
        for _ in workers.map_parallel(write_pair, tasks, options.workers, IMAGES_PER_WORKER):
            bar.update()
    cli.say(f"wrote {len(tasks)}, skipped {num_skipped}")


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("make-sample.py", run, argv,
                        interrupted="interrupted; the same command draws the rest")


if __name__ == "__main__":
    sys.exit(main())
