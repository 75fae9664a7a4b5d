#!/usr/bin/env python3
"""pix2pix on today's TensorFlow: learns to translate pictures from pairs, then does it.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
arXiv 1611.07004 ("the paper" below). A TF1-style static graph on `tf.compat.v1` with hand-written
layers; command line, data and checkpoints are those of affinelayer/pix2pix-tensorflow.

    python pix2pix.py --mode train --input_dir facades/train --which_direction BtoA
    python pix2pix.py --mode test --input_dir facades/val

Read from the top: options, files, colour, input, layers, networks, losses and training step,
pictures and summaries, checkpoints, modes, command line. Importing does nothing.
"""

from __future__ import annotations

import argparse
import collections
import csv
import html
import importlib
import io
import json
import math
import os
import random
import signal
import string
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

QUIET = "3"  # errors reach us as exceptions; TF_CPP_MIN_LOG_LEVEL=0 shows TensorFlow's own lines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", QUIET)


def import_quietly(name):
    """Imports a module with stderr shut: some lines come before TensorFlow's log level holds
    (tensorflow issue 100442)."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        return importlib.import_module(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


class LazyTensorFlow:
    """`tensorflow.compat.v1`, imported at first use: options are checked before that."""

    def __getattr__(self, name):
        module = sys.modules.get("tensorflow.compat.v1")
        if module is None:
            quiet = os.environ["TF_CPP_MIN_LOG_LEVEL"] == QUIET
            module = (import_quietly if quiet else importlib.import_module)("tensorflow.compat.v1")
        return getattr(module, name)


tf = LazyTensorFlow()

# --------------------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------------------

CROP_SIZE = 256  # height and width of a picture in the network
MODEL_OPTIONS = {  # restored from a checkpoint's options.json -> what a missing key stands for
    "which_direction": "AtoB", "ngf": 64, "ndf": 64, "lab_colorization": False,
    "separable_conv": False, "bottleneck_norm": True}


class UserError(ValueError):
    """Something that the user can change; its text is the one line that is shown. Exit code 2."""


class TrainingError(RuntimeError):
    """Training cannot go on; its text is the one line that is shown. Exit code 1."""


class Options(NamedTuple):
    """The command line, frozen. Meanings and defaults stand in `create_parser`."""

    mode: str
    input_dir: str | None
    output_dir: str | None
    checkpoint: str | None
    resume: bool
    overwrite: bool
    seed: int | None
    max_steps: int | None
    max_epochs: int | None
    progress_freq: int
    summary_freq: int
    summary_histograms: bool
    display_freq: int
    trace_freq: int
    save_freq: int
    batch_size: int
    scale_size: int
    flip: bool
    aspect_ratio: float
    which_direction: str
    lab_colorization: bool
    separable_conv: bool
    bottleneck_norm: bool
    ngf: int
    ndf: int
    lr: float
    beta1: float
    l1_weight: float
    gan_weight: float
    output_filetype: str


def with_options(options, **changes):
    """A copy of the options with some values changed."""
    return options._replace(**changes)


class OneLineParser(argparse.ArgumentParser):
    """Raises UserError where argparse would print its usage and exit."""

    def error(self, message):
        """Raises UserError(message)."""
        raise UserError(message)


def number_type(kind, low, high=math.inf, open_low=False):
    """An argparse type for a finite int or float in low..high (`open_low`: low itself is out)."""
    name = "whole number" if kind is int else "number"
    above = "above" if open_low else "of at least"
    limits = f"{above} {low}" + ("" if high == math.inf else f" and at most {high}")

    def convert(text):
        """The value of a text. Raises ArgumentTypeError."""
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high or (open_low and value == low):
            raise argparse.ArgumentTypeError(f"{text}: give a {name} {limits}")
        return value
    return convert


def create_parser():
    """The command line: affinelayer's flags with their defaults, and ours."""
    whole, count = number_type(int, 0), number_type(int, 1)
    parser = OneLineParser(
        prog="pix2pix.py", allow_abbrev=False, description=__doc__.split("\n\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument_group("what to do, on what").add_argument
    add("--mode", required=True, choices=["train", "test", "export"], help="what to do")
    add("--input_dir", help="folder of JPEG and PNG pictures, each a pair side by side")
    add("--output_dir", help="where results go; left out: DATASET_MODE")
    add("--checkpoint", help="training folder to start from; left out in test: DATASET_train")
    add("--resume", action="store_true", help="go on with the run in output_dir; counts are totals")
    add("--overwrite", action="store_true", help="replace the run in output_dir")
    add("--seed", type=number_type(int, 0, 2**31 - 1), help="left out: drawn, and written down")

    add = parser.add_argument_group("how long, and what to show").add_argument
    add("--max_steps", type=count, help="number of training steps")
    add("--max_epochs", type=count, help="number of passes over the pictures")
    add("--progress_freq", type=whole, default=50, help="steps between progress lines, 0: none")
    add("--summary_freq", type=whole, default=100, help="steps between TensorBoard summaries")
    add("--summary_histograms", action="store_true", help="summaries of all weights and gradients")
    add("--display_freq", type=whole, default=0, help="steps between pictures on the run's page")
    add("--trace_freq", type=whole, default=0, help="steps between timelines of one step")
    add("--save_freq", type=whole, default=5000, help="steps between checkpoints, 0: at the end")

    add = parser.add_argument_group("pictures").add_argument
    add("--batch_size", type=count, default=1, help="pictures in a step")
    add("--scale_size", type=number_type(int, CROP_SIZE), default=286,
        help="scale pictures to this size before cropping to 256")
    add("--flip", dest="flip", action="store_true", default=True, help="flip pictures at random")
    add("--no_flip", dest="flip", action="store_false", help="don't")
    add("--aspect_ratio", type=number_type(float, 0, 100, open_low=True), default=1.0,
        help="width / height of the pictures that test writes")
    add("--which_direction", default="AtoB", choices=["AtoB", "BtoA"], help="A is the left half")
    add("--lab_colorization", action="store_true",
        help="pictures are single; learn colour (B) from lightness (A) in Lab space")

    add = parser.add_argument_group("model and training").add_argument
    add("--separable_conv", action="store_true", help="separable convolutions in the generator")
    add("--bottleneck_norm", action="store_true", help="norm on the innermost encoder layer")
    add("--ngf", type=count, default=64, help="filters in the generator's first layer")
    add("--ndf", type=count, default=64, help="filters in the discriminator's first layer")
    add("--lr", type=number_type(float, 0, open_low=True), default=0.0002, help="Adam's rate")
    add("--beta1", type=number_type(float, 0, 0.999999), default=0.5, help="Adam's momentum")
    add("--l1_weight", type=number_type(float, 0), default=100.0, help="weight of the L1 loss")
    add("--gan_weight", type=number_type(float, 0), default=1.0, help="weight of the GAN loss")
    add("--output_filetype", default="png", choices=["png", "jpeg"], help="what export gives out")
    return parser


def read_options_file(checkpoint_dir):
    """The options.json beside a checkpoint as a dict. Raises UserError where there is none."""
    path = Path(checkpoint_dir) / "options.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: stored[name] for name in Options._fields if name in stored}
    except OSError:
        raise UserError(f"--checkpoint {checkpoint_dir} holds no options.json: "
                        "name a folder that --mode train wrote") from None
    except (ValueError, TypeError):
        raise UserError(f"{path} is not readable JSON: restore it or train again") from None


def default_dir(input_dir, mode):
    """The folder that a mode uses for a dataset: facades/val, "test" -> facades_test."""
    return f"{Path(os.path.abspath(input_dir)).parent.name or 'pix2pix'}_{mode}"


def check_folders(options, given):
    """Raises UserError where the folders cannot be what the mode needs; makes nothing."""
    if options.mode != "export" and not os.path.isdir(options.input_dir):
        raise UserError(f"--input_dir {options.input_dir} is not a folder: check the path")
    if options.checkpoint is not None and not os.path.isdir(options.checkpoint):
        hint = "name a training folder" if "checkpoint" in given else "name one with --checkpoint"
        raise UserError(f"--checkpoint {options.checkpoint} is not a folder: {hint}")
    output_dir = Path(options.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir} is a file: name a folder")
    existing = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(f"--output_dir {output_dir} is not writable: choose another")
    holds_run = (output_dir / "options.json").exists()
    if options.mode != "train" and (output_dir / "checkpoint").exists() and holds_run:
        raise UserError(f"--output_dir {output_dir} holds a training run: choose another")
    if options.mode == "train" and options.resume and not holds_run:
        raise UserError(f"--resume finds no run in {output_dir}: leave it out to start one")
    if options.mode == "train" and holds_run and not options.resume and not options.overwrite:
        raise UserError(f"--output_dir {output_dir} already holds a run: "
                        "give --resume to go on, --overwrite to replace it, or another folder")


def parse_args(argv=None):
    """Options from the command line and, where a model is loaded, its options.json.

    What wins: in test, export and training from --checkpoint the model's options (MODEL_OPTIONS)
    are the checkpoint's. With --resume every option is the run's own but those given now, and the
    model's and the seed stay. Raises UserError.
    """
    parser = create_parser()
    values = vars(parser.parse_args(argv))
    unset = argparse.Namespace(**dict.fromkeys(values))
    given = {name for name, value in vars(parser.parse_args(argv, unset)).items()
             if value is not None}
    mode, input_dir = values["mode"], values["input_dir"]
    if input_dir is None and (mode != "export" or values["checkpoint"] is None):
        other = " or --checkpoint" if mode == "export" else ""
        raise UserError(f"--input_dir{other} is missing: name a folder")
    if values["output_dir"] is None:
        name = f"{Path(values['checkpoint']).name.removesuffix('_train')}_{mode}" \
            if input_dir is None else default_dir(input_dir, mode)
        values["output_dir"] = name
    if values["checkpoint"] is None and mode != "train":
        values["checkpoint"] = default_dir(input_dir, "train")
    if values["resume"] and (values["overwrite"] or values["checkpoint"] and mode == "train"):
        raise UserError("--resume goes with neither --overwrite nor --checkpoint: choose one")
    check_folders(Options(**values), given)

    if mode == "train" and values["resume"]:
        stored = {**MODEL_OPTIONS, **read_options_file(values["output_dir"]), "checkpoint": None}
        now = given - {*MODEL_OPTIONS, "seed"} | {"mode", "output_dir", "resume", "overwrite"}
        if given & {"max_steps", "max_epochs"}:  # a new end takes the place of the old one
            now |= {"max_steps", "max_epochs"}
        values.update({name: value for name, value in stored.items() if name not in now})
    elif values["checkpoint"] is not None:
        stored = read_options_file(values["checkpoint"])
        values.update({name: stored.get(name, default) for name, default in MODEL_OPTIONS.items()})
    if values["seed"] is None:
        values["seed"] = random.randrange(2**31)
    return Options(**values)


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------

SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}


def picture_format(path):
    """Format of a file by its first bytes: "jpeg", "png" or None, whatever its ending says."""
    with open(path, "rb") as file:
        start = file.read(8)
    return next((name for name, sign in SIGNATURES.items() if start.startswith(sign)), None)


def sorted_by_name(paths):
    """Paths in the order of their names: by number where every stem is digits, else by text."""
    paths = [Path(path) for path in paths]
    if all(path.stem.isdecimal() for path in paths):
        return sorted(paths, key=lambda path: (int(path.stem), path.name))
    return sorted(paths, key=lambda path: path.name)


def find_pictures(folder):
    """The JPEG and PNG files directly in a folder, found by content, sorted by name; hidden files
    (another program's, or half written) are none of them."""
    return sorted_by_name(entry for entry in Path(folder).iterdir()
                          if entry.name[0] != "." and entry.is_file() and picture_format(entry))


def unique_names(paths):
    """A name per picture for its results: the stem, or the whole name where stems are shared."""
    counts = collections.Counter(path.stem for path in paths)
    return [path.stem if counts[path.stem] == 1 else path.name for path in paths]


def write_whole(path, contents):
    """Writes bytes so that a reader finds the old file or the new one, never a part."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def write_json(path, value):
    """Writes a value as sorted, indented JSON, whole."""
    write_whole(path, (json.dumps(value, sort_keys=True, indent=4) + "\n").encode())


# --------------------------------------------------------------------------------------------------
# Colour: sRGB and CIE 1976 L*a*b*, white point D65 (IEC 61966-2-1; CIE 15)
# --------------------------------------------------------------------------------------------------

RGB_TO_XYZ = np.array([[0.412453, 0.212671, 0.019334],  # row: what one unit of R, G, B adds to XYZ
                       [0.357580, 0.715160, 0.119193],
                       [0.180423, 0.072169, 0.950227]], np.float32)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ.astype(np.float64)).astype(np.float32)
WHITE = np.array([0.950456, 1.0, 1.088754], np.float32)  # XYZ of D65 at Y = 1
LAB_EDGE = 6 / 29  # CIE's f is a cube root above this cubed, a line below


def multiply_colours(pixels, matrix):
    """[..., 3] x [3, 3] -> [..., 3]."""
    return tf.tensordot(pixels, tf.constant(matrix), 1)


def rgb_to_lab(rgb):
    """sRGB 0..1 [..., 3] -> L 0..100, a and b about -110..110 [..., 3]."""
    linear = tf.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = multiply_colours(linear, RGB_TO_XYZ) / WHITE
    # the cube root's gradient and value stay finite at 0: that branch is not taken there
    root = tf.where(xyz <= LAB_EDGE**3, xyz / (3 * LAB_EDGE**2) + 4 / 29,
                    tf.maximum(xyz, LAB_EDGE**3) ** (1 / 3))
    x, y, z = tf.unstack(root, axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """L 0..100, a, b [..., 3] -> sRGB [..., 3], clipped to 0..1."""
    lightness, a, b = tf.unstack(lab, axis=-1)
    y = (lightness + 16) / 116
    root = tf.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = tf.where(root <= LAB_EDGE, 3 * LAB_EDGE**2 * (root - 4 / 29), root**3) * WHITE
    linear = tf.clip_by_value(multiply_colours(xyz, XYZ_TO_RGB), 0, 1)
    return tf.where(linear <= 0.0031308, linear * 12.92,
                    1.055 * tf.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def split_lab(rgb):
    """sRGB 0..1 [..., 3] -> lightness [..., 1] and colour [..., 2], both -1..1."""
    lab = rgb_to_lab(rgb)
    return lab[..., :1] / 50 - 1, lab[..., 1:] / 110


def join_lab(lightness, colour):
    """Lightness [..., 1] and colour [..., 2], both -1..1 -> sRGB 0..1 [..., 3]."""
    return lab_to_rgb(tf.concat([(lightness + 1) * 50, colour * 110], axis=-1))


# --------------------------------------------------------------------------------------------------
# Input
# --------------------------------------------------------------------------------------------------


class Augmentation(NamedTuple):
    """One pair's random draws, used for both halves."""

    offset: Any  # [2] int32: top, left corner of the crop
    flip: Any  # [] bool


class Examples(NamedTuple):
    """A batch of pairs. Which half is inputs is --which_direction's choice."""

    numbers: Any  # [batch] int64: index into the sorted list of files
    inputs: Any  # [batch, 256, 256, channels] -1..1
    targets: Any  # [batch, 256, 256, channels] -1..1


def steps_in_epoch(count, batch_size):
    """Every picture once; the last batch of an epoch may be smaller."""
    return math.ceil(count / batch_size)


def picture_order(count, seed, epoch):
    """The order of an epoch: a permutation [count] int64, a pure function of (seed, epoch)."""
    draws = tf.random.stateless_uniform([count], seed=[seed, epoch])
    return tf.cast(tf.argsort(draws, stable=True), tf.int64)


def draw_augmentation(seed, number, scale_size, flip):
    """Draws crop and flip for the number-th pair of a run: a pure function of its arguments."""
    offset = tf.random.stateless_uniform(
        [2], seed=[seed, 2 * number], minval=0, maxval=scale_size - CROP_SIZE + 1, dtype=tf.int32)
    coin = tf.random.stateless_uniform([], seed=[seed, 2 * number + 1])
    return Augmentation(offset, tf.logical_and(flip, coin < 0.5))


def transform(picture, scale_size, augmentation):
    """One half [height, width, channels] -> [256, 256, channels]: scaled, cropped, flipped."""
    picture = tf.image.resize(picture, [scale_size, scale_size], method="area")
    top, left = tf.unstack(augmentation.offset)
    picture = picture[top:top + CROP_SIZE, left:left + CROP_SIZE]
    return tf.cond(augmentation.flip, lambda: picture[:, ::-1], lambda: picture)


def decode_picture(path):
    """A JPEG or PNG file, told apart by content -> sRGB 0..1 [height, width, 3]."""
    picture = tf.image.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    picture.set_shape([None, None, 3])
    return tf.image.convert_image_dtype(picture, tf.float32)


def split_pair(picture, lab_colorization):
    """sRGB 0..1 [height, width, 3] -> halves A and B, -1..1: left and right, or L and ab."""
    if lab_colorization:
        return split_lab(picture)
    middle = tf.shape(picture)[1] // 2
    # an odd width leaves its last column out: both halves are equally wide
    return picture[:, :middle] * 2 - 1, picture[:, middle:2 * middle] * 2 - 1


def create_examples(paths, options, first_step=0):
    """Batches from the picture files, as Examples.

    Training: endless shuffled epochs, beginning as if `first_step` steps had been taken.
    Otherwise: each picture once, in order, scaled to 256 and neither cropped nor flipped.
    """
    training = options.mode == "train"
    count, batch_size = len(paths), options.batch_size
    scale_size = options.scale_size if training else CROP_SIZE
    first_epoch, steps_done = divmod(first_step, steps_in_epoch(count, batch_size))
    path_list = tf.constant([os.fsencode(path) for path in paths])

    def epoch_numbers(epoch):
        """The batches of an epoch: indices into the files and running numbers of the pairs."""
        order = picture_order(count, options.seed, epoch) if training else np.arange(count)
        runs = tf.range(tf.cast(count, tf.int64)) + epoch * count  # a draw's key: pairs seen so far
        return tf.data.Dataset.from_tensor_slices((order, runs)).batch(batch_size)

    def load_pair(arguments):
        """One pair, augmented: halves A and B."""
        number, run = arguments
        halves = split_pair(decode_picture(path_list[number]), options.lab_colorization)
        draws = draw_augmentation(options.seed, run, scale_size, options.flip and training)
        return tuple(transform(half, scale_size, draws) for half in halves)

    def load_batch(numbers, runs):
        """One batch as Examples."""
        a, b = tf.map_fn(load_pair, (numbers, runs), fn_output_signature=(tf.float32, tf.float32))
        return Examples(numbers, *((a, b) if options.which_direction == "AtoB" else (b, a)))

    epochs = tf.data.Dataset.range(first_epoch, 2**31 if training else 1)
    batches = epochs.flat_map(epoch_numbers).skip(steps_done)
    batches = batches.map(load_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    examples = tf.data.make_one_shot_iterator(batches.prefetch(tf.data.AUTOTUNE)).get_next()
    channels = (1, 2) if options.lab_colorization else (3, 3)
    if options.which_direction == "BtoA":
        channels = channels[::-1]
    for tensor, depth in zip(examples[1:], channels):
        tensor.set_shape([None, CROP_SIZE, CROP_SIZE, depth])
    return examples


# --------------------------------------------------------------------------------------------------
# Layers. Weights from N(0, 0.02), norm scales from N(1, 0.02) (paper, appendix 6.2)
# --------------------------------------------------------------------------------------------------

KERNEL_SIZE = 4
NORM_EPSILON = 1e-5


def get_weights(name, shape, mean=0.0):
    """A float32 variable, N(mean, 0.02)."""
    initializer = tf.random_normal_initializer(mean, 0.02)
    return tf.get_variable(name, shape, initializer=initializer, use_resource=True)


def get_bias(channels, name="bias"):
    """A float32 variable [channels] of zeros."""
    return tf.get_variable(name, [channels], initializer=tf.zeros_initializer(), use_resource=True)


def lrelu(x, slope=0.2):
    """x where x > 0, slope * x elsewhere."""
    return tf.nn.leaky_relu(x, slope)


def conv(inputs, out_channels, stride=2, padding="SAME"):
    """4x4 convolution: [batch, height, width, in] -> [batch, height/stride, width/stride, out]."""
    with tf.variable_scope("conv2d"):
        kernel = get_weights("kernel", [KERNEL_SIZE, KERNEL_SIZE, inputs.shape[3], out_channels])
        outputs = tf.nn.conv2d(inputs, kernel, strides=stride, padding=padding)
        return tf.nn.bias_add(outputs, get_bias(out_channels))


def doubled_shape(inputs, channels):
    """Static shape of a layer that doubles height and width, as far as they are known."""
    height, width = inputs.shape.as_list()[1:3]
    return [None, height and 2 * height, width and 2 * width, channels]


def deconv(inputs, out_channels):
    """4x4 transposed convolution: [batch, height, width, in] -> [batch, 2height, 2width, out]."""
    with tf.variable_scope("conv2d_transpose"):
        kernel = get_weights("kernel", [KERNEL_SIZE, KERNEL_SIZE, out_channels, inputs.shape[3]])
        batch, height, width, _ = tf.unstack(tf.shape(inputs))
        outputs = tf.nn.conv2d_transpose(
            inputs, kernel, [batch, 2 * height, 2 * width, out_channels], strides=2)
        outputs.set_shape(doubled_shape(inputs, out_channels))
        return tf.nn.bias_add(outputs, get_bias(out_channels))


def separable_conv(inputs, out_channels, stride=2):
    """4x4 convolution per channel, then 1x1 across channels; shapes as `conv`."""
    with tf.variable_scope("separable_conv2d"):
        channels = inputs.shape[3]
        depthwise = get_weights("depthwise_kernel", [KERNEL_SIZE, KERNEL_SIZE, channels, 1])
        pointwise = get_weights("pointwise_kernel", [1, 1, channels, out_channels])
        outputs = tf.nn.separable_conv2d(
            inputs, depthwise, pointwise, strides=[1, stride, stride, 1], padding="SAME")
        return tf.nn.bias_add(outputs, get_bias(out_channels))


def separable_deconv(inputs, out_channels):
    """Twice the size by nearest neighbour, then `separable_conv`; shapes as `deconv`."""
    height, width = tf.unstack(tf.shape(inputs)[1:3])
    larger = tf.image.resize(inputs, [2 * height, 2 * width], method="nearest")
    larger.set_shape(doubled_shape(inputs, inputs.shape[3]))
    return separable_conv(larger, out_channels, stride=1)


def batchnorm(inputs):
    """Zero mean and unit variance per channel, then scale and shift; the shape stays.

    Statistics are those of the batch at hand, never running averages.
    """
    with tf.variable_scope("batch_normalization"):
        channels = inputs.shape[3]
        beta, gamma = get_bias(channels, "beta"), get_weights("gamma", [channels], mean=1.0)
        # the fused operation makes a training step a fifth faster than moments and arithmetic
        return tf.nn.fused_batch_norm(inputs, gamma, beta, epsilon=NORM_EPSILON)[0]


def dropout(inputs, rate, seed):
    """Zeroes a share `rate` of the values and scales the rest; equal seeds ([2]) draw alike."""
    draws = tf.random.stateless_uniform(tf.shape(inputs), seed=seed)
    return tf.where(draws >= rate, inputs / (1 - rate), tf.zeros_like(inputs))


# --------------------------------------------------------------------------------------------------
# Networks (paper, appendix 6.1)
# --------------------------------------------------------------------------------------------------


class EncoderRow(NamedTuple):
    """A downsampling layer: lrelu (but the first), convolution, norm."""

    width: int  # filters, in units of ngf
    norm: bool = True


class DecoderRow(NamedTuple):
    """An upsampling layer: relu, deconvolution, norm, dropout."""

    width: int  # filters, in units of ngf
    dropout: float = 0.0


class DiscriminatorRow(NamedTuple):
    """A layer of the discriminator: convolution, norm, lrelu."""

    width: int  # filters, in units of ndf
    stride: int = 2
    norm: bool = True


ENCODER = (  # for 256x256 pictures ->
    EncoderRow(1, norm=False),  # encoder_1 [batch, 128, 128, ngf]
    EncoderRow(2),  # encoder_2 [batch, 64, 64, ngf * 2]
    EncoderRow(4),  # encoder_3 [batch, 32, 32, ngf * 4]
    EncoderRow(8),  # encoder_4 [batch, 16, 16, ngf * 8]
    EncoderRow(8),  # encoder_5 [batch, 8, 8, ngf * 8]
    EncoderRow(8),  # encoder_6 [batch, 4, 4, ngf * 8]
    EncoderRow(8),  # encoder_7 [batch, 2, 2, ngf * 8]
    EncoderRow(8, norm=False),  # encoder_8 [batch, 1, 1, ngf * 8]
)
DECODER = (  # each takes the layer before and, but for the first, its skip: encoder_N
    DecoderRow(8, dropout=0.5),  # decoder_8 [batch, 2, 2, ngf * 8]
    DecoderRow(8, dropout=0.5),  # decoder_7 [batch, 4, 4, ngf * 8]
    DecoderRow(8, dropout=0.5),  # decoder_6 [batch, 8, 8, ngf * 8]
    DecoderRow(8),  # decoder_5 [batch, 16, 16, ngf * 8]
    DecoderRow(4),  # decoder_4 [batch, 32, 32, ngf * 4]
    DecoderRow(2),  # decoder_3 [batch, 64, 64, ngf * 2]
    DecoderRow(1),  # decoder_2 [batch, 128, 128, ngf]
)  # decoder_1 [batch, 256, 256, channels]: no norm, tanh
DISCRIMINATOR = (  # receptive field 70x70
    DiscriminatorRow(1, norm=False),  # layer_1 [batch, 128, 128, ndf]
    DiscriminatorRow(2),  # layer_2 [batch, 64, 64, ndf * 2]
    DiscriminatorRow(4),  # layer_3 [batch, 32, 32, ndf * 4]
    DiscriminatorRow(8, stride=1),  # layer_4 [batch, 31, 31, ndf * 8]
)  # layer_5 [batch, 30, 30, 1]: logits


def encoder_rows(bottleneck_norm):
    """The encoder's table; old models have a norm on the innermost layer too."""
    return (*ENCODER[:-1], ENCODER[-1]._replace(norm=bottleneck_norm))


def create_generator(inputs, out_channels, ngf, *, separable=False, dropout_seed=None,
                     encoder=ENCODER, decoder=DECODER):
    """U-Net: [batch, height, width, channels] -> [batch, height, width, out_channels] -1..1.

    Height and width are multiples of 256. dropout_seed: (seed, step), each int or int64 tensor;
    None: no dropout.
    """
    down, up = (separable_conv, separable_deconv) if separable else (conv, deconv)
    skips, x = [], inputs
    for number, row in enumerate(encoder, 1):
        with tf.variable_scope(f"encoder_{number}"):
            x = down(lrelu(x) if number > 1 else x, ngf * row.width)
            x = batchnorm(x) if row.norm else x
            skips.append(x)

    x = skips.pop()
    for number, row in zip(range(len(encoder), 1, -1), decoder):
        with tf.variable_scope(f"decoder_{number}"):
            x = batchnorm(up(tf.nn.relu(x), ngf * row.width))
            if row.dropout and dropout_seed is not None:
                seed, step = dropout_seed
                x = dropout(x, row.dropout, [seed * 16 + number, step])
        x = tf.concat([x, skips.pop()], axis=3)

    with tf.variable_scope("decoder_1"):
        return tf.tanh(up(tf.nn.relu(x), out_channels))


def create_discriminator(inputs, targets, ndf, rows=DISCRIMINATOR):
    """PatchGAN on a pair: two [batch, 256, 256, channels] -> logits [batch, 30, 30, 1].

    Each logit judges a 70x70 part: above 0 for real, below for generated.
    """
    def padded_conv(x, channels, stride):
        """Convolution with one pixel of padding on every side, as the authors' code."""
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        return conv(x, channels, stride, padding="VALID")

    x = tf.concat([inputs, targets], axis=3)
    for number, row in enumerate(rows, 1):
        with tf.variable_scope(f"layer_{number}"):
            x = padded_conv(x, ndf * row.width, row.stride)
            x = lrelu(batchnorm(x) if row.norm else x)
    with tf.variable_scope(f"layer_{len(rows) + 1}"):
        return padded_conv(x, 1, stride=1)


# --------------------------------------------------------------------------------------------------
# Losses and training step (paper, sections 3.1 to 3.3)
# --------------------------------------------------------------------------------------------------

AVERAGE_DECAY = 0.99
AVERAGE_NAMES = (  # in checkpoints, in the order of Losses
    "discriminator_loss/Mean/ExponentialMovingAverage",
    "generator_loss/Mean/ExponentialMovingAverage",
    "generator_loss/Mean_1/ExponentialMovingAverage")


class Losses(NamedTuple):
    """The three losses, or their moving averages; each [] float32."""

    discrim_loss: Any
    gen_loss_GAN: Any
    gen_loss_L1: Any


class Model(NamedTuple):
    """What training runs and shows."""

    outputs: Any  # [batch, 256, 256, channels] -1..1
    predict_real: Any  # [batch, 30, 30, 1] 0..1
    predict_fake: Any  # [batch, 30, 30, 1] 0..1
    losses: Losses  # this step's
    averages: Losses  # over about the last 100 steps
    gradients: list  # (gradient, variable) of both networks
    train: Any  # op: both networks' step, averages, step counter


def discriminator_loss(real_logits, fake_logits):
    """Mean of -log(sigmoid(real)) - log(1 - sigmoid(fake)), by softplus: right far out too."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits))


def generator_gan_loss(fake_logits):
    """Mean of -log(sigmoid(fake)), by softplus."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def l1_loss(targets, outputs):
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(targets - outputs))


def average_losses(losses, step):
    """Moving averages as Losses; reading them updates them. step: [] int64, steps taken.

    They start at 0; dividing by the weight that the steps so far carry takes that bias out.
    """
    share = 1 - tf.pow(AVERAGE_DECAY, tf.cast(step, tf.float32))
    updated = []
    for name, loss in zip(AVERAGE_NAMES, losses):
        average = tf.get_variable(name, [], initializer=tf.zeros_initializer(), trainable=False,
                                  use_resource=True)
        updated.append(tf.assign_add(average, (1 - AVERAGE_DECAY) * (loss - average)) / share)
    return Losses(*updated)


def apply_gradients(network, adam, pairs):
    """The op of one Adam step, under the name that checkpoints know: NETWORK_train/beta1_power."""
    with tf.name_scope(f"{network}_train/"):
        return adam.apply_gradients(pairs)


def create_model(examples, options):
    """Both networks, their losses and one training step, as a Model.

    The generator learns from the discriminator as it was before this step's update, as in the
    authors' code: all gradients are computed before anything is applied.
    """
    out_channels = examples.targets.shape[3]
    global_step = tf.train.get_or_create_global_step()
    with tf.variable_scope("generator"):
        outputs = create_generator(
            examples.inputs, out_channels, options.ngf, separable=options.separable_conv,
            dropout_seed=(options.seed, global_step), encoder=encoder_rows(options.bottleneck_norm))
    with tf.name_scope("real_discriminator"), tf.variable_scope("discriminator"):
        real_logits = create_discriminator(examples.inputs, examples.targets, options.ndf)
    with tf.name_scope("fake_discriminator"), tf.variable_scope("discriminator", reuse=True):
        fake_logits = create_discriminator(examples.inputs, outputs, options.ndf)
    losses = Losses(discriminator_loss(real_logits, fake_logits), generator_gan_loss(fake_logits),
                    l1_loss(examples.targets, outputs))
    gen_loss = options.gan_weight * losses.gen_loss_GAN + options.l1_weight * losses.gen_loss_L1

    gradients, updates = [], []
    for network, loss in (("discriminator", losses.discrim_loss), ("generator", gen_loss)):
        with tf.name_scope(f"{network}_train"):
            adam = tf.train.AdamOptimizer(options.lr, options.beta1)
            pairs = adam.compute_gradients(loss, tf.trainable_variables(f"{network}/"))
        gradients += pairs
        updates.append((network, adam, pairs))
    with tf.control_dependencies([gradient for gradient, _ in gradients]):
        updates = [apply_gradients(*update) for update in updates]
    with tf.control_dependencies(updates):
        step = tf.assign_add(global_step, 1)
    averages = average_losses(losses, step)
    return Model(outputs, tf.sigmoid(real_logits), tf.sigmoid(fake_logits), losses, averages,
                 gradients, tf.group(step, *averages))


# --------------------------------------------------------------------------------------------------
# Pictures and summaries
# --------------------------------------------------------------------------------------------------


class Pictures(NamedTuple):
    """What a person looks at, for each picture of a batch."""

    inputs: Any
    outputs: Any
    targets: Any


class Metrics(NamedTuple):
    """How close outputs are to targets, for each picture of a batch: [batch] float32."""

    l1: Any  # mean absolute difference, pictures in 0..1
    psnr: Any  # dB
    ssim: Any  # Wang et al. 2004: RGB, Gaussian 11x11 window, sigma 1.5


def create_pictures(examples, outputs, options):
    """-1..1 in the model's channels -> Pictures of uint8 [batch, height, width, 1 or 3].

    Lab: a colour half is shown with its pair's lightness, a lightness half in grey.
    """
    inputs, targets = examples.inputs, examples.targets
    if options.lab_colorization and options.which_direction == "AtoB":
        shown = [(inputs + 1) / 2, join_lab(inputs, outputs), join_lab(inputs, targets)]
    elif options.lab_colorization:
        shown = [join_lab(targets, inputs), (outputs + 1) / 2, (targets + 1) / 2]
    else:
        shown = [(inputs + 1) / 2, (outputs + 1) / 2, (targets + 1) / 2]
    if options.aspect_ratio != 1.0:
        size = [CROP_SIZE, round(CROP_SIZE * options.aspect_ratio)]
        shown = [tf.image.resize(picture, size, method="bicubic") for picture in shown]
    return Pictures(*(tf.image.convert_image_dtype(picture, tf.uint8, saturate=True)
                      for picture in shown))


def encode_pictures(pictures):
    """Pictures of uint8 -> Pictures of PNG files, each [batch] bytes."""
    return Pictures(*(tf.map_fn(tf.image.encode_png, batch, fn_output_signature=tf.string)
                      for batch in pictures))


def create_metrics(pictures):
    """Metrics of uint8 outputs against targets."""
    outputs, targets = (tf.cast(batch, tf.float32) / 255
                        for batch in (pictures.outputs, pictures.targets))
    return Metrics(tf.reduce_mean(tf.abs(outputs - targets), axis=[1, 2, 3]),
                   tf.image.psnr(outputs, targets, max_val=1.0),
                   tf.image.ssim(outputs, targets, max_val=1.0))


def create_summaries(model, pictures, histograms):
    """TensorBoard's summary of a step, [] bytes; histograms of all weights only if asked for."""
    for name, batch in zip(Pictures._fields, pictures):
        tf.summary.image(name, batch)
    tf.summary.image("predict_real", tf.image.convert_image_dtype(model.predict_real, tf.uint8))
    tf.summary.image("predict_fake", tf.image.convert_image_dtype(model.predict_fake, tf.uint8))
    for name, loss in zip(Losses._fields, model.averages):
        tf.summary.scalar(name, loss)
    if histograms:
        for gradient, variable in model.gradients:
            tf.summary.histogram(f"{variable.op.name}/values", variable)
            tf.summary.histogram(f"{variable.op.name}/gradients", gradient)
    return tf.summary.merge_all()


def save_pictures(output_dir, names, pictures):
    """Writes images/NAME-{inputs,outputs,targets}.png for a batch of encoded Pictures."""
    for kind, batch in zip(Pictures._fields, pictures):
        for name, contents in zip(names, batch):
            (output_dir / "images" / f"{name}-{kind}.png").write_bytes(contents)


def write_page(output_dir, title, summary, names):
    """Writes index.html: a summary and a row per name with its three pictures from images/."""
    template = Path(__file__).with_name("tools") / "page.html"
    rows = []
    for name in names:
        links = [urllib.parse.quote(os.fsencode(f"images/{name}-{kind}.png"))
                 for kind in Pictures._fields]
        cells = "".join(f'<td><img loading="lazy" alt="" src="{link}"></td>' for link in links)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    page = string.Template(template.read_text(encoding="utf-8")).substitute(
        title=html.escape(title), summary=html.escape(summary), rows="\n".join(rows))
    write_whole(output_dir / "index.html", os.fsencode(page))


# --------------------------------------------------------------------------------------------------
# Checkpoints
# --------------------------------------------------------------------------------------------------

NUM_CHECKPOINTS = 3  # kept: the newest


def find_checkpoint(checkpoint_dir):
    """Path prefix of a folder's newest checkpoint. Raises UserError where it has none."""
    path = tf.train.latest_checkpoint(str(checkpoint_dir))
    if path is None:
        raise UserError(f"--checkpoint {checkpoint_dir} holds no checkpoint: train first")
    return path


def read_step(checkpoint_path):
    """Number of training steps that a checkpoint has behind it."""
    return int(tf.train.load_checkpoint(checkpoint_path).get_tensor("global_step"))


def restore(sess, checkpoint_path, variables):
    """Loads variables from a checkpoint, prints a line for each that it lacks.

    Raises UserError where a shape differs or a weight of a network is missing.
    """
    saved = tf.train.load_checkpoint(checkpoint_path).get_variable_to_shape_map()
    present = [variable for variable in variables if variable.op.name in saved]
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        if name not in saved and variable in tf.trainable_variables():
            raise UserError(f"--checkpoint {checkpoint_path} lacks {name}: it is another model's")
        if name not in saved:
            print(f"not in the checkpoint, starts anew: {name}")
        elif saved[name] != shape:
            raise UserError(f"--checkpoint {checkpoint_path} has {name} {saved[name]}, not {shape}:"
                            " options.json does not belong to it")
    tf.train.Saver(present).restore(sess, checkpoint_path)


def device_types(sess):
    """What a session computes on, such as "CPU, GPU"."""
    return ", ".join(sorted({device.device_type for device in sess.list_devices()}))


def session_config():
    """A session takes a GPU's memory as it needs it."""
    from tensorflow.core.protobuf import rewriter_config_pb2  # has no public name
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    # the remapper gives up on this graph's leaky relus, with an error line on every start
    config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
    return config


# --------------------------------------------------------------------------------------------------
# Mode train
# --------------------------------------------------------------------------------------------------

ENDLESS = 2**32  # steps, as affinelayer's script: until stopped


class Due(NamedTuple):
    """What is shown or saved after a step."""

    progress: bool
    summary: bool
    display: bool
    trace: bool
    save: bool


class Fetches(NamedTuple):
    """What one session.run brings back; [] is nothing."""

    train: Any
    losses: Any
    averages: Any = []
    summary: Any = []
    numbers: Any = []
    pictures: Any = []


class Progress(NamedTuple):
    """Where a run stands."""

    epoch: int  # from 1
    step: int  # in the epoch, from 1
    rate: float  # pictures per second, in this run
    remaining: float  # seconds; infinite without an end


class Interrupt:
    """Remembers the first Ctrl-C or SIGTERM, so that the loop ends after its step; a second one
    acts at once."""

    def __init__(self):
        """Starts listening."""
        self.signal = None
        self.previous = {number: signal.signal(number, self.receive)
                         for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(self, number, _frame):
        """Remembers a signal and gives up the handlers."""
        self.signal = number
        self.close()

    def close(self):
        """Restores the handlers that were there before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def due_after(step, stop_step, options):
    """What is due after the step-th step (from 1): every so many steps, and after the last."""
    def at(freq):
        """Whether something of this frequency is due."""
        return freq > 0 and (step % freq == 0 or step == stop_step)
    return Due(progress=at(options.progress_freq), summary=at(options.summary_freq),
               display=at(options.display_freq), trace=at(options.trace_freq),
               save=at(options.save_freq) or step == stop_step)


def find_stop_step(options, start_step, epoch_steps):
    """The step to stop after: counts are totals with --resume, else additional to start_step."""
    steps = ENDLESS
    if options.max_epochs is not None:
        steps = options.max_epochs * epoch_steps
    if options.max_steps is not None:
        steps = options.max_steps
    return steps if options.resume else start_step + steps


def measure_progress(step, stop_step, epoch_steps, count, steps_timed, seconds):
    """Progress after `step` steps in all, of which this run took `steps_timed` in `seconds`."""
    epoch, step_in_epoch = divmod(step - 1, epoch_steps)
    seconds_per_step = seconds / max(steps_timed, 1)
    rate = count / epoch_steps / seconds_per_step if seconds_per_step else math.inf
    remaining = (stop_step - step) * seconds_per_step if stop_step < ENDLESS else math.inf
    return Progress(epoch + 1, step_in_epoch + 1, rate, remaining)


def progress_lines(progress, averages):
    """affinelayer's lines: the progress, then one loss each."""
    remaining = "" if progress.remaining == math.inf \
        else f"  remaining {progress.remaining / 60:.0f}m"
    head = (f"progress  epoch {progress.epoch}  step {progress.step}"
            f"  image/sec {progress.rate:.1f}{remaining}")
    return "\n".join([head, *(f"{name} {value:.6g}" for name, value in averages._asdict().items())])


def check_finite(losses, step):
    """Raises TrainingError where a loss is not a finite number."""
    for name, value in losses._asdict().items():
        if not math.isfinite(value):
            raise TrainingError(f"{name} is {value} at step {step}: lower --lr; "
                                "the last checkpoint is kept, go on from it with --resume")


class RunLog:
    """log.csv and the run's page."""

    COLUMNS = ("step", "epoch", *Losses._fields, "images_per_second")

    def __init__(self, output_dir, start_step):
        """Keeps an earlier log's rows up to start_step."""
        self.output_dir, self.path = output_dir, output_dir / "log.csv"
        rows = []
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file)
                        if row and row[0].isdecimal() and int(row[0]) <= start_step]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.COLUMNS, *rows])
        write_whole(self.path, text.getvalue().encode())
        self.summary = f"starts after step {start_step}"

    def add(self, step, progress, averages):
        """Appends a row."""
        values = [f"{value:.6g}" for value in (*averages, progress.rate)]
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow([step, progress.epoch, *values])
        losses = ", ".join(f"{name} {value:.4g}" for name, value in averages._asdict().items())
        self.summary = f"step {step}, epoch {progress.epoch}: {losses}"

    def write_page(self):
        """Writes index.html, the newest pictures first."""
        ending = "-outputs.png"
        names = [path.name[:-len(ending)] for path in (self.output_dir / "images").iterdir()
                 if path.name.endswith(ending)]
        write_page(self.output_dir, self.output_dir.name, self.summary, sorted(names, reverse=True))


def list_pictures(options):
    """The pictures of --input_dir; names files that only look like one. Raises UserError where
    there are none."""
    paths = find_pictures(options.input_dir)
    for path in sorted({*Path(options.input_dir).iterdir()} - {*paths}):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.is_file():
            print(f"left out, neither JPEG nor PNG inside: {path}", file=sys.stderr)
    if not paths:
        raise UserError(f"--input_dir {options.input_dir} holds no JPEG or PNG pictures: "
                        "check the path")
    return paths


def name_bad_picture(paths, error):
    """The error to show where a step failed on its input: names the first file that is broken."""
    from PIL import Image  # only the bad end of a run needs it
    for path in paths:
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as reason:
            return UserError(f"{path} cannot be read ({reason}): repair it or take it out")
    return TrainingError(str(error).splitlines()[0])


def prepare_run(options):
    """Makes the training folder; with --overwrite takes the files of the run in it away."""
    output_dir = Path(options.output_dir)
    if options.overwrite and output_dir.exists():
        for pattern in ("checkpoint", "model-*", "events.out.tfevents.*", "trace-*.json",
                        "log.csv", "index.html", "images/*-*.png"):
            for path in output_dir.glob(pattern):
                path.unlink()
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    write_json(output_dir / "options.json", with_options(options, resume=False)._asdict())
    return output_dir


def train(options):
    """Trains a model from pairs; returns the exit code."""
    paths = list_pictures(options)
    checkpoint_dir = options.output_dir if options.resume else options.checkpoint
    checkpoint_path = checkpoint_dir and find_checkpoint(checkpoint_dir)
    start_step = read_step(checkpoint_path) if checkpoint_path else 0
    stop_step = find_stop_step(options, start_step, steps_in_epoch(len(paths), options.batch_size))
    if start_step >= stop_step:
        print(f"nothing to do: {start_step} of {stop_step} steps are done")
        return 0
    output_dir = prepare_run(options)
    for name, value in sorted(options._asdict().items()):
        print(f"{name} = {value}")
    print(f"examples count = {len(paths)}")

    with tf.Graph().as_default() as graph:
        tf.set_random_seed(options.seed)
        examples = create_examples(paths, options, first_step=start_step)
        model = create_model(examples, options)
        pictures = create_pictures(examples, model.outputs, options)
        summary = create_summaries(model, pictures, options.summary_histograms)
        show = Fetches(model.train, model.losses, model.averages, summary, examples.numbers,
                       encode_pictures(pictures))
        saver = tf.train.Saver(max_to_keep=NUM_CHECKPOINTS)
        initialize = tf.global_variables_initializer()
        weights = sum(math.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
        print(f"parameter_count = {weights}")
        with tf.Session(graph=graph, config=session_config()) as sess:
            print(f"devices = {device_types(sess)}")
            sess.run(initialize)
            if checkpoint_path:
                print(f"loading model from {checkpoint_path}")
                restore(sess, checkpoint_path, tf.global_variables())
            saver.recover_last_checkpoints(
                tf.train.get_checkpoint_state(str(output_dir)).all_model_checkpoint_paths
                if options.resume else [])
            graph.finalize()
            return run_training(sess, show, saver, options, paths, start_step, stop_step)


def run_training(sess, show, saver, options, paths, start_step, stop_step):
    """The training loop; returns the exit code."""
    output_dir, interrupt = Path(options.output_dir), Interrupt()
    log = RunLog(output_dir, start_step)
    writer = tf.summary.FileWriter(str(output_dir), sess.graph)
    bar = create_bar(stop_step if stop_step < ENDLESS else None, start_step, "step")
    epoch_steps, names = steps_in_epoch(len(paths), options.batch_size), unique_names(paths)
    first_done = time.time()  # the first step is not timed: it also sets TensorFlow up
    try:
        for step in range(start_step + 1, stop_step + 1):
            due = due_after(step, stop_step, options)
            results = run_step(sess, show, due, step, output_dir, writer)
            check_finite(results.losses, step)
            first_done = time.time() if step == start_step + 1 else first_done
            bar.update()
            if due.progress:
                progress = measure_progress(step, stop_step, epoch_steps, len(paths),
                                            step - start_step - 1, time.time() - first_done)
                show_progress(bar, progress, results.averages)
                log.add(step, progress, results.averages)
            if due.summary:
                writer.add_summary(results.summary, step)
            if due.display:
                shown = [f"{step:08d}-{names[number]}" for number in results.numbers]
                save_pictures(output_dir, shown, results.pictures)
            stopped = interrupt.signal is not None
            if due.save or stopped:
                saver.save(sess, str(output_dir / "model"), step, write_meta_graph=False)
                writer.flush()
            if due.save or due.display or stopped:
                log.write_page()
            if stopped:
                bar.close()
                print(f"stopped and saved after step {step} in {output_dir}; "
                      "go on with the same command and --resume")
                return 128 + interrupt.signal
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        raise name_bad_picture(paths, error) from None
    finally:
        interrupt.close()
        bar.close()
        writer.close()
    print(f"trained to step {stop_step}, model in {output_dir}")
    return 0


def run_step(sess, show, due, step, output_dir, writer):
    """Takes one training step and returns what is due as Fetches."""
    fetches = Fetches(show.train, show.losses,
                      averages=show.averages if due.progress else [],
                      summary=show.summary if due.summary else [],
                      numbers=show.numbers if due.display else [],
                      pictures=show.pictures if due.display else [])
    if not due.trace:
        return sess.run(fetches)
    from tensorflow.python.client import timeline  # has no public name
    metadata = tf.RunMetadata()
    traced = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    results = sess.run(fetches, options=traced, run_metadata=metadata)
    writer.add_run_metadata(metadata, f"step_{step}")
    trace = timeline.Timeline(metadata.step_stats).generate_chrome_trace_format()
    write_whole(output_dir / f"trace-{step}.json", trace.encode())
    return results


def create_bar(total, initial, unit):
    """A progress bar on a terminal, nothing elsewhere."""
    from tqdm import tqdm  # kept out of the way of --help
    return tqdm(total=total, initial=initial, unit=unit, disable=not sys.stderr.isatty(),
                dynamic_ncols=True)


def show_progress(bar, progress, averages):
    """Shows progress on the bar, or as lines where there is none."""
    if bar.disable:
        print(progress_lines(progress, averages), flush=True)
    else:
        bar.set_postfix_str(", ".join([f"epoch {progress.epoch}", f"{progress.rate:.1f} image/s"]
                                      + [f"{name} {value:.3g}" for name, value
                                         in averages._asdict().items()]))


# --------------------------------------------------------------------------------------------------
# Modes test and export
# --------------------------------------------------------------------------------------------------


def create_outputs(inputs, out_channels, options):
    """The generator as test and export use it: on a batch of one picture, without dropout."""
    with tf.variable_scope("generator"):
        return create_generator(inputs, out_channels, options.ngf, separable=options.separable_conv,
                                encoder=encoder_rows(options.bottleneck_norm))


def prepare_test(options):
    """Makes the test folder and takes the results of an earlier test out of it."""
    output_dir = Path(options.output_dir)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    for pattern in ("index.html", "metrics.*", "images/*.png"):
        for path in output_dir.glob(pattern):
            path.unlink()
    write_json(output_dir / "options.json", options._asdict())
    return output_dir


def test(options):
    """Translates every picture of --input_dir once, in order; returns the exit code.

    Pictures pass through the network one at a time, whatever --batch_size is: the norm sees that
    picture alone, and rounding, which depends on the batch, is always the same.
    """
    options = with_options(options, batch_size=1)
    paths = list_pictures(options)
    checkpoint_path = find_checkpoint(options.checkpoint)
    print(f"loading model from {checkpoint_path}")
    with tf.Graph().as_default() as graph:
        examples = create_examples(paths, options)
        outputs = create_outputs(examples.inputs, examples.targets.shape[3], options)
        pictures = create_pictures(examples, outputs, options)
        fetches = (examples.numbers, encode_pictures(pictures), create_metrics(pictures))
        with tf.Session(graph=graph, config=session_config()) as sess:
            restore(sess, checkpoint_path, tf.global_variables())
            graph.finalize()
            output_dir = prepare_test(options)
            return run_test(sess, fetches, options, paths, output_dir)


def run_test(sess, fetches, options, paths, output_dir):
    """The test loop; returns the exit code."""
    names, metrics, start = unique_names(paths), [], time.time()
    bar = create_bar(len(paths), 0, "picture")
    try:
        for _ in range(steps_in_epoch(len(paths), options.batch_size)):
            numbers, pictures, batch_metrics = sess.run(fetches)
            save_pictures(output_dir, [names[number] for number in numbers], pictures)
            metrics += zip(*batch_metrics)
            bar.update(len(numbers))
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        raise name_bad_picture(paths, error) from None
    finally:
        bar.close()
    means = write_metrics(output_dir, names, metrics)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
    write_page(output_dir, output_dir.name, f"{len(metrics)} pictures: {shown}", names)
    print(f"wrote {len(metrics)} of {len(paths)} pictures to {output_dir / 'index.html'}, "
          f"{len(metrics) / (time.time() - start):.1f} image/sec")
    print(shown)
    return 0


def write_metrics(output_dir, names, metrics):
    """Writes metrics.csv (a row per picture) and metrics.json (means), returns the means."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *Metrics._fields])
    writer.writerows([name, *(f"{value:.6g}" for value in row)]
                     for name, row in zip(names, metrics))
    write_whole(output_dir / "metrics.csv", os.fsencode(text.getvalue()))
    means = dict(zip(Metrics._fields, (float(value) for value in np.mean(metrics, axis=0))))
    write_json(output_dir / "metrics.json", {"count": len(metrics), **means})
    return means


def export(options):
    """Writes affinelayer's export: a graph from base64 picture to base64 picture, with weights.

    The collections `inputs` and `outputs` hold JSON with the tensors' names.
    """
    if options.lab_colorization:
        raise UserError("--mode export cannot hold a --lab_colorization model: use --mode test")
    checkpoint_path = find_checkpoint(options.checkpoint)
    output_dir = Path(options.output_dir)
    with tf.Graph().as_default() as graph:
        key = tf.placeholder(tf.string, [1])
        encoded = tf.placeholder(tf.string, [1])
        picture = tf.image.decode_image(tf.decode_base64(encoded[0]), 3, expand_animations=False)
        picture.set_shape([None, None, 3])
        picture = tf.image.convert_image_dtype(picture, tf.float32)[tf.newaxis]
        picture = tf.image.resize(picture, [CROP_SIZE, CROP_SIZE], method="area")
        outputs = create_outputs(picture * 2 - 1, 3, options)
        picture = tf.image.convert_image_dtype((outputs[0] + 1) / 2, tf.uint8, saturate=True)
        encode = {"png": tf.image.encode_png, "jpeg": tf.image.encode_jpeg}[options.output_filetype]
        result = tf.encode_base64(encode(picture))[tf.newaxis]
        tf.add_to_collection("inputs", json.dumps({"key": key.name, "input": encoded.name}))
        tf.add_to_collection("outputs", json.dumps(
            {"key": tf.identity(key).name, "output": result.name}))
        saver = tf.train.Saver()
        with tf.Session(graph=graph, config=session_config()) as sess:
            restore(sess, checkpoint_path, tf.global_variables())
            output_dir.mkdir(parents=True, exist_ok=True)
            saver.export_meta_graph(str(output_dir / "export.meta"))
            saver.save(sess, str(output_dir / "export"), write_meta_graph=False)
    print(f"exported {checkpoint_path} to {output_dir / 'export'}")
    return 0


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def main(argv=None):
    """Runs the program; returns its exit code: 0, 1, 2, 130 or 143 (docs/options.md)."""
    try:
        options = parse_args(argv)
        return {"train": train, "test": test, "export": export}[options.mode](options)
    except UserError as error:
        print(f"pix2pix.py: error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"pix2pix.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
