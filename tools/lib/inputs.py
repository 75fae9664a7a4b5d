"""What a model's inputs look like: statistics and three examples, kept in its training folder.

For pages and programs that show or offer what a model expects, such as a sketch, a label map of
certain colours or a grey image.
"""

from __future__ import annotations

import collections
import contextlib
import json
from pathlib import Path

import numpy as np

from tools.lib import run_folder
from tools.lib.files import sorted_by_name, write_json
from tools.lib.image_files import image_format, list_tree
from tools.lib.image_types import pair_of
from tools.lib.images import ImageError, read_decoded, write_image
from tools.lib.stored import read_stored, read_with
from tools.lib.tf1 import session_config, tf

NAME = "inputs.json"
NUM_IMAGES = 32  # that are looked at
MAX_PIXELS = 2**24  # of all of these, NUM_EXAMPLES aside: half a second's work
MAX_COUNTED = 2**20  # pixels of an image
NUM_EXAMPLES = 3
EXAMPLE_SIDE = 256  # pixels; no side of an example is longer
MAX_COLOURS = 64  # that are few: of label maps 12, of boundaries by several people 17
MIN_FLAT = 0.5  # of two neighbours are alike: of label maps and drawings 0.9, of photos 0.2
WHITE = 250  # least value of a white pixel's channels


def input_paths(paths, options):
    """Which files of an example hold its inputs."""
    if len(paths) > 1 and options.which_direction == "BtoA":
        return paths[-1:]
    return paths[:options.num_inputs]


def create_viewer(pair_type):
    """A function from a decoded file, uint8 [height, width, 3], to its input in Lab as people look
    at it, uint8 [height, width, 1 or 3]."""
    with tf.Graph().as_default() as graph:
        pixels = tf.placeholder(tf.uint8, [None, None, 3])
        inputs, targets = pair_type.split(pixels)
        shown = tf.image.convert_image_dtype(pair_type.inputs.to_unit(inputs, targets), tf.uint8,
                                             saturate=True)
        sess = tf.Session(graph=graph, config=session_config())
        return sess.make_callable(shown, [pixels])


def read_input(path, pair_type, is_whole):
    """The input in an image file, as a file of its own holds it: [height, width, channels].
    is_whole: whether the file holds the pair. Raises ImageError."""
    side = pair_type.inputs
    if side.kind == "labels":
        return read_with(path, lambda contents: dict(pair_type.read_labels(contents))[side]
                         if is_whole else side.read(contents))
    pixels = read_decoded(path, side.file_channels).pixels if "jpeg" in side.filetypes \
        else read_stored(path).pixels
    return pair_type.split(pixels)[0] if is_whole else pixels


def read_inputs(paths, pair_type, options):
    """The inputs of an example as people look at them, each uint8 [height, width, 1 or 3]. Raises
    ImageError."""
    is_whole = len(paths) == 1 and pair_type.side_by_side
    return [pair_type.inputs.paint(read_input(path, pair_type, is_whole))
            for path in input_paths(paths, options)]


def sample_inputs(examples, options):
    """Yields the inputs of those examples that can be read: a list of uint8
    [height, width, 1 or 3]."""
    pair_type = pair_of(options)
    view = create_viewer(pair_type) if options.lab_colorization else None
    for paths in examples:
        try:
            files = read_inputs(paths, pair_type, options)
        except ImageError:  # it was not checked; training will report it
            continue
        yield [view(files[0])] if view else files


class Statistics:
    """What is counted in inputs."""

    def __init__(self):
        """Nothing yet."""
        self.images, self.pixels, self.white, self.alike, self.neighbours = 0, 0, 0, 0, 0
        self.sizes, self.colours, self.grey = collections.Counter(), collections.Counter(), True

    def add(self, images):
        """Counts the images of one input, each uint8 [height, width, 1 or 3]."""
        self.images += 1
        self.sizes[images[0].shape[1::-1]] += 1
        for image in images:
            step = int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / MAX_COUNTED)))
            pixels = image[::step, ::step].astype(np.uint32)
            red, green, blue = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1)
            self.grey = self.grey and bool((red == green).all() and (green == blue).all())
            self.pixels += red.size
            self.white += int(((red >= WHITE) & (green >= WHITE) & (blue >= WHITE)).sum())
            codes = red << 16 | green << 8 | blue
            self.alike += int((codes[:, 1:] == codes[:, :-1]).sum())
            self.neighbours += codes[:, 1:].size
            if len(self.colours) <= MAX_COLOURS:
                self.colours.update(dict(zip(*(values.tolist() for values in np.unique(
                    codes, return_counts=True)), strict=True)))

    def has_few_colours(self):
        """Whether the inputs are made of few colours, each in areas, as label maps are."""
        return len(self.colours) <= MAX_COLOURS and self.alike >= MIN_FLAT * self.neighbours

    def describe(self, exact=True):
        """What inputs.json says of colours. exact: whether few colours are the images' own."""
        return {"grey": self.grey,
                "colours": self.list_colours() if exact and self.has_few_colours() else None,
                "white_share": round(self.white / max(self.pixels, 1), 4)}

    def list_colours(self):
        """The colours and their share of all pixels, the most frequent first."""
        return [{"rgb": [code >> 16, code >> 8 & 255, code & 255],
                 "share": round(count / self.pixels, 4)}
                for code, count in self.colours.most_common()]


def count_images(images):
    """The Statistics of images, each an input, uint8 [height, width, 1 or 3]."""
    statistics = Statistics()
    for image in images:
        statistics.add([image])
    return statistics


def describe_colours(images):
    """`Statistics.describe` of images as in `count_images`; {} where there are none."""
    return count_images(images).describe() if images else {}


def find_colours(images):
    """The colours of label images, [classes, 3] uint8, the most frequent first; None where the
    images are no label images: many colours, or few but not in areas. images: uint8
    [height, width, 3]."""
    statistics = count_images(images)
    if not statistics.has_few_colours():
        return None
    return np.array([row["rgb"] for row in statistics.list_colours()], np.uint8)


def shrink(images, resample):
    """Images of one input side by side, no side longer than EXAMPLE_SIDE, as [height, width, 3].
    resample: name of Pillow's filter."""
    from PIL import Image
    height, width = images[0].shape[:2]
    scale = min(EXAMPLE_SIDE / height, EXAMPLE_SIDE / (width * len(images)), 1)
    size = [max(int(side * scale), 1) for side in (width, height)]
    return np.concatenate([
        np.asarray(Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
                   .convert("RGB").resize(size, Image.Resampling[resample])) for image in images],
        axis=1)


def describe_inputs(examples, options):
    """Statistics as JSON has them, and examples, each uint8 [height, width, 3]. examples: of
    dataset.ImageList. Raises ValueError where none can be read."""
    order = np.random.default_rng(options.seed).permutation(len(examples))[:NUM_IMAGES]
    chosen = [examples[index] for index in order]
    statistics, shown, pixels = Statistics(), [], 0
    for images in sample_inputs(chosen, options):
        statistics.add(images)
        pixels += sum(image.shape[0] * image.shape[1] for image in images)
        if len(shown) < NUM_EXAMPLES:  # by the nearest pixel no colour is blended with another
            shown.append([shrink(images, resample) for resample in ("NEAREST", "BOX")])
        elif pixels >= MAX_PIXELS:
            break
    if not shown:
        raise ValueError(f"none of {len(chosen)} images can be read")
    is_jpeg = any(image_format(path) == "jpeg" for paths in chosen
                  for path in input_paths(paths, options))
    side = pair_of(options).inputs
    is_labels = side.kind == "labels"
    exact = is_labels or not is_jpeg and side.kind == "images" and statistics.has_few_colours()
    return {
        "images": statistics.images, "images_of": len(examples),
        "sizes": [{"width": width, "height": height, "images": count}
                  for (width, height), count in statistics.sizes.most_common()],
        "channels": side.channels, "kind": side.kind, "type": side.dtype,
        "range": [side.low, side.high], "ignore": [*side.ignore],
        "classes": [{"name": name, "color": colour} for name, colour in side.legend] or None,
        "indices": is_labels and side.is_drawn, "jpeg": is_jpeg,
        **statistics.describe(exact and not (is_labels and is_jpeg)),
        "examples": [f"inputs-{number}.png" for number in range(1, len(shown) + 1)],
    }, [nearest if exact else averaged for nearest, averaged in shown]


# --------------------------------------------------------------------------------------------------
# Reading them back
# --------------------------------------------------------------------------------------------------


def read_statistics(folder):
    """The statistics of a training folder; {} where it has none that can be read."""
    try:
        return dict(json.loads(Path(folder, NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def has_folders(stored):
    """Whether the two images of a pair are files of their own. stored: an options.json."""
    return bool(stored.get("a_dir") or stored.get("b_dir"))


def find_input_dir(stored, folder):
    """Where images that a model has as input are, those of validation rather than those of
    training; None where they are gone, or inputs are several images. stored: the options.json of
    its training folder."""
    sources = [*(stored.get("a_dir") or []), stored.get("b_dir")] if has_folders(stored) \
        else [stored.get("input_dir")]
    for folders in (stored.get("val_dir") or [], sources):
        if 0 < len(folders) <= 2:
            chosen = folders[-1 if stored.get("which_direction") == "BtoA" else 0]
            for path in run_folder.stored_paths(chosen or "", folder):
                if chosen and path.is_dir():
                    return path
    return None


def fit_pixels(pixels, size, exact):
    """[height, width, channels] -> [*size, channels], the middle of it. exact: by the nearest
    pixel, so that there are no other values."""
    from PIL import Image, ImageOps
    if not exact:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        fitted = ImageOps.fit(image, size[::-1], Image.Resampling.BOX)
        return np.asarray(fitted).reshape(*size, -1)
    scale = min(side / wanted for side, wanted in zip(pixels.shape, size, strict=False))
    rows, columns = (np.int64((np.arange(wanted) + 0.5 - wanted / 2) * scale + side / 2)
                     for side, wanted in zip(pixels.shape, size, strict=False))
    return pixels[rows][:, columns]


def read_some(paths, count, read):
    """What `read` makes of up to so many of paths, evenly chosen, leaving out what cannot be read.
    """
    found = []
    for path in paths[::max(len(paths) // count, 1)][:count]:
        with contextlib.suppress(ImageError):
            found.append(read(path))
    return found


def read_examples(folder, pair_type, size, count):
    """Up to so many inputs of a training folder's model as files hold them, [*size, channels]: from
    its images if they are still there, else those that the folder has."""
    side, stored = pair_type.inputs, run_folder.read_stored(folder) or {}
    exact = side.kind != "images" or side.dtype != "uint8" \
        or read_statistics(folder).get("colours") is not None
    input_dir, is_whole = find_input_dir(stored, folder), \
        pair_type.side_by_side and not has_folders(stored)
    if input_dir is not None:
        return read_some(
            sorted_by_name(list_tree(input_dir).images), count,
            lambda path: fit_pixels(read_input(path, pair_type, is_whole), size, exact))
    names = [] if side.is_drawn else read_statistics(folder).get("examples", [])
    return read_some([Path(folder, Path(name).name) for name in names], count, lambda path:
                     fit_pixels(read_decoded(path, side.file_channels).pixels, size, exact))


def write_inputs(output_dir, examples, options):
    """Writes inputs.json and the examples that it names into a training folder, which may have them
    already. examples: of dataset.ImageList."""
    output_dir = Path(output_dir)
    if (output_dir / NAME).exists():
        return
    statistics, shown = describe_inputs(examples, options)
    for name, image in zip(statistics["examples"], shown, strict=True):
        write_image(output_dir / name, image)
    write_json(output_dir / NAME, statistics)
