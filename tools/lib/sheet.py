"""The contact sheet of a test: sheet.png, some of its images for a quick look or a paper."""

from __future__ import annotations

import io

import numpy as np

from tools.lib.cli import number_type
from tools.lib.files import write_atomic
from tools.lib.stored import blend_on_white

MAX_SIDE = 2000  # pixels of the sheet
GAP = 2  # pixels between the images of an example
MARGIN = 10  # pixels between examples, and around them
MEASURED = 100  # examples whose size decides how large a place is; larger ones are scaled down
WHITE = (255, 255, 255)


def add_options(add):
    """How the sheet is laid out."""
    add("--sheet_columns", type=number_type(int, 0, 32), default=2,
        help="examples side by side in sheet.png of a test, 0: no sheet")


def spread(count, total):
    """Indices of so many of total items, evenly spaced, the first and the last among them."""
    if count >= total:
        return [*range(total)]
    if count == 1:
        return [0]
    return [round(place * (total - 1) / (count - 1)) for place in range(count)]


def fit_example(sizes, columns):
    """The sizes at which the images of an example lie on a sheet: (width, height) of each kind ->
    the same, scaled down until so many examples fit side by side."""
    room = MAX_SIDE - MARGIN * (columns + 1) - columns * GAP * (len(sizes) - 1)
    scale = min(1, room / (columns * sum(width for width, _ in sizes)),
                (MAX_SIDE - 2 * MARGIN) / max(height for _, height in sizes))
    return [tuple(max(1, int(side * scale)) for side in size) for size in sizes]


def count_rows(height, total, columns):
    """Rows of examples on a sheet: as many as there are, up to its largest height."""
    return min(-(-total // columns), max(1, (MAX_SIDE - MARGIN) // (height + MARGIN)))


def largest_sizes(paths):
    """The largest width and height of the images of each kind. paths: a list for each example."""
    from PIL import Image
    sizes = []
    for kind in zip(*paths, strict=True):
        of_kind = []
        for path in kind:
            with Image.open(path) as image:
                of_kind.append(image.size)
        sizes.append(tuple(max(sides) for sides in zip(*of_kind, strict=True)))
    return sizes


def read_scaled(path, size):
    """An image of a file in RGB, scaled down by area until it is no larger than size."""
    from PIL import Image
    with Image.open(path) as image:
        if image.mode == "RGBA":
            image = Image.fromarray(blend_on_white(np.asarray(image)))
        image = image.convert("RGB")
    scale = min(1, *(limit / side for limit, side in zip(size, image.size, strict=True)))
    if scale == 1:
        return image
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)


def draw_sheet(paths, columns):
    """A sheet as a Pillow image. paths: for each example its images, which lie side by side; where
    not all examples fit, some that are evenly spaced are shown."""
    from PIL import Image
    measured = [paths[index] for index in spread(MEASURED, len(paths))]
    cells = fit_example(largest_sizes(measured), columns)
    height = max(height for _, height in cells)
    columns = min(columns, len(paths))
    paths = [paths[index] for index in
             spread(columns * count_rows(height, len(paths), columns), len(paths))]
    width = sum(width for width, _ in cells) + GAP * (len(cells) - 1)
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (MARGIN + columns * (width + MARGIN),
                              MARGIN + rows * (height + MARGIN)), WHITE)
    for index, example in enumerate(paths):
        row, column = divmod(index, columns)
        x, y = MARGIN + column * (width + MARGIN), MARGIN + row * (height + MARGIN)
        for path, cell in zip(example, cells, strict=True):
            sheet.paste(read_scaled(path, cell), (x, y))
            x += cell[0] + GAP
    return sheet


def write_sheet(output_dir, names, endings, columns):
    """Writes sheet.png of the images in images/: input, output and target of examples that are
    evenly spaced over all names, so the same ones for every model that is tested on these images.
    """
    if not names or not columns:
        return
    paths = [[output_dir / "images" / f"{name}{ending}" for ending in endings] for name in names]
    file = io.BytesIO()
    draw_sheet(paths, columns).save(file, "PNG", compress_level=1)  # a tenth larger, twice as fast
    write_atomic(output_dir / "sheet.png", file.getvalue())
