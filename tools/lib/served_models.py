"""Models as a server has them: loaded again while training goes on, described for people's pages,
with example inputs.

Loading needs the network, so the caller passes a function.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.lib.checkpoints import checkpoint_step, choose_checkpoint, list_checkpoints
from tools.lib.cli import UserError, describe_error, printable, say, warn
from tools.lib.drawing import describe_tool
from tools.lib.image_files import FORMATS, format_of
from tools.lib.inputs import describe_colours, read_examples, read_statistics
from tools.lib.models import find_export, make_readable
from tools.lib.options import options_path
from tools.lib.run_folder import model_dir, read_path, stored_paths
from tools.lib.stored import TooLargeError, decode_stored, encode_stored, read_size
from tools.lib.tf1 import tf

DEFAULT_SIZE = (256, 256)  # of models that do not say theirs
LARGEST_SIDE = 1024  # of what people draw
NUM_EXAMPLES = 12
MAX_PIXELS = 2**24  # of an image
MAX_MEMORY = 4e9  # bytes that one may take at its own size
WITHOUT_TYPE = ("npy", "ppm")  # formats that have no media type


def check_pixels(contents, model):
    """Raises TooLargeError for an image file of too many pixels, before these are decoded. model:
    LoadedModel."""
    width, height = read_size(contents)
    if width * height > MAX_PIXELS:
        raise TooLargeError(f"the image has {width}x{height} pixels: send at most {MAX_PIXELS}")
    rows, columns = model.network_shape((height, width // model.num_inputs)) \
        if model.network_shape else (0, 0)
    if rows * columns * model.bytes_per_pixel > MAX_MEMORY:
        raise TooLargeError(f"an image of {width}x{height} pixels takes too much memory at its own "
                            "size: send a smaller one")


class Loaded(NamedTuple):
    """A model that is being served, and what is known of it."""

    model: Any  # LoadedModel
    step: int | None  # of its training; None: unknown
    examples: list  # inputs as files hold them
    description: dict  # for the page

    @property
    def version(self):
        """As TensorFlow Serving has them: a whole number from 1."""
        return str(self.step or 1)


def find_training(path):
    """The training folder of a model; that of an export by its options.json."""
    folder = options_path(path).parent
    checkpoint = read_path(folder, "checkpoint")
    if find_export(path) is None or not checkpoint:
        return folder
    return next((model_dir(place) for place in stored_paths(checkpoint, folder)
                 if model_dir(place).is_dir()), folder)


def canvas_size(model):
    """(height, width) of the inputs that people draw, of the shape of training's images."""
    height, width = model.size or DEFAULT_SIZE
    ratio = model.trained_ratio or width / height
    if ratio < width / height:
        height = width / ratio
    scale = min(LARGEST_SIDE / height, LARGEST_SIDE / (height * ratio), 1)
    return max(round(height * scale), 1), max(round(height * ratio * scale), 1)


def file_type(side):
    """The type of a side's files: "png" or "npy"."""
    return side.extension.removeprefix(".")


def describe(name, loaded_model, step, examples, statistics):
    """What pages know of a model (docs/serving.md). examples: inputs as people look at them;
    statistics: of inputs.json, {} where nothing is known."""
    height, width = canvas_size(loaded_model)
    inputs, targets = loaded_model.pair[:2]
    values = [targets.low, targets.high] if targets.kind == "values" else None
    return {
        "name": name, "step": step, "state": "AVAILABLE", "examples": len(examples),
        "floats": loaded_model.generate_floats is not None,
        "inputs": {
            "count": inputs.count, "width": width, "height": height,
            "channels": inputs.file_channels, "kind": inputs.kind, "type": inputs.dtype,
            "file": file_type(inputs), **describe_tool(inputs, statistics, examples)},
        "outputs": {
            "channels": targets.file_channels, "kind": targets.kind, "type": targets.dtype,
            "file": file_type(targets), "range": values, "legend": [
                {"name": name, "color": [*colour]} for name, colour in targets.legend] or None}}


class ServedModel:
    """A model under a name. Its methods may be called by several threads at once."""

    def __init__(self, name, path, which, load):
        """Loads it. which: "newest" or "best" of a training folder; load: function of a path to a
        LoadedModel. Raises UserError."""
        self.name, self.path, self.which, self.load = name, path, which, load
        self.refused = None  # a checkpoint that could not be loaded
        # an interpreter of TFLite computes one image at a time
        is_single = getattr(find_export(path), "suffix", "") == ".tflite"
        self.turn = threading.Lock() if is_single else contextlib.nullcontext()
        self.current = self.load_now(choose_checkpoint(path, which))

    def load_now(self, path):
        """Loaded of a path."""
        model = self.load(path)
        step = checkpoint_step(model.path)
        step, folder = step if step >= 0 else None, find_training(model.path)
        (height, width), side = canvas_size(model), model.pair.inputs
        examples = read_examples(folder, model.pair, (height, width * side.count), NUM_EXAMPLES)
        shown = [side.paint(pixels) for pixels in examples]
        statistics = read_statistics(folder) or describe_colours(shown)
        return Loaded(model, step, [encode_stored(pixels) for pixels in examples],
                      describe(self.name, model, step, shown, statistics))

    # ---- going on with training

    def find_newer(self):
        """A checkpoint of the training folder that is newer than what is served; None where there
        is none."""
        if find_export(self.path) or not os.path.isdir(self.path):
            return None
        try:
            newest = choose_checkpoint(self.path, self.which) if self.which == "best" \
                else next(iter(list_checkpoints(self.path)), None)
        except (UserError, OSError):  # it is just being replaced
            return None
        is_known = newest in (None, str(self.current.model.path), self.refused)
        return None if is_known or not Path(f"{newest}.index").is_file() else newest

    def refresh(self):
        """Serves a newer checkpoint if there is one; what is being computed ends with the older.
        Returns whether there was one."""
        newer = self.find_newer()
        if newer is None:
            return False
        try:
            self.current = self.load_now(newer)
        except (UserError, OSError, tf.errors.OpError) as error:
            self.refused = newer
            warn(printable(f"{newer} cannot be loaded ({describe_error(error)}): serving "
                           f"{self.current.model.path} still"))
            return False
        say(printable(f"serving {self.name} from {newer}"))
        return True

    # ---- using it

    def generate(self, contents):
        """A result's bytes, of an image file's of any format, and the step of the model. Raises
        ValueError, ImageError, TooLargeError."""
        current = self.current
        check_pixels(contents, current.model)
        readable = make_readable(contents, current.model.pair.inputs)
        with self.turn:
            return current.model.generate(readable.contents), current.step

    def generate_floats(self, images):
        """`LoadedModel.generate_floats` of one image [height, width, channels]. Raises ValueError.
        """
        model = self.current.model
        if model.generate_floats is None:
            raise ValueError(f"{self.name} takes image files alone: use the signature encoded")
        height, width, _ = images.shape
        if height * width > MAX_PIXELS or height * width * model.bytes_per_pixel > MAX_MEMORY:
            raise TooLargeError(f"the image has {width}x{height} pixels: send fewer")
        with self.turn:
            return model.generate_floats(images[np.newaxis])[0]

    def show_input(self, contents):
        """The PNG file of an input as people look at it. Raises as `generate`."""
        model = self.current.model
        check_pixels(contents, model)
        readable = make_readable(contents, model.pair.inputs)
        return show_file(readable.contents, model.pair.inputs)

    def show_output(self, contents):
        """The PNG file of a result, by its bytes, as people look at it, with its scale."""
        return show_file(contents, self.current.model.pair.targets)


def show_file(contents, side):
    """The PNG or JPEG file of what people look at, by the bytes of a side's file."""
    if not side.is_drawn:
        return contents
    return encode_stored(side.paint(decode_stored(contents).pixels, has_scale=True))


def media_type(contents):
    """The media type of an image file's bytes."""
    name = format_of(contents)
    return f"image/{name}" if name in FORMATS and name not in WITHOUT_TYPE \
        else "application/octet-stream"
