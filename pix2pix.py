#!/usr/bin/env python3
"""pix2pix on today's TensorFlow: learns to translate images from pairs, then does it.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
arXiv 1611.07004 ("the paper" below). A TF1-style static graph on `tf.compat.v1` with hand-written
layers; command line, data and checkpoints are those of affinelayer/pix2pix-tensorflow.

    python pix2pix.py --mode train --input_dir facades/train --which_direction BtoA
    python pix2pix.py --mode test --input_dir facades/val

Read from the top: options, files, colour, input, checking images, layers, networks, losses and
training step, images and summaries, checkpoints, watching over a run, modes, command line.
Importing does nothing.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import csv
import functools
import hashlib
import html
import importlib
import io
import json
import math
import multiprocessing.pool
import os
import random
import re
import shutil
import signal
import socket
import stat
import string
import struct
import sys
import tempfile
import threading
import time
import urllib.parse
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

QUIET = "3"  # errors reach us as exceptions; TF_CPP_MIN_LOG_LEVEL=0 shows TensorFlow's own lines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", QUIET)


@contextlib.contextmanager
def quiet_stderr():
    """Shuts stderr inside, and gives a stream to it: C++ writes some lines whatever the log level
    is, TensorFlow's at import (tensorflow issue 100442), TFLite's at its start, libjpeg's."""
    try:
        kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed: python pix2pix.py 2>&-
        yield None
        return
    os.dup2(null, 2)
    try:
        with open(kept, "w", closefd=False) as stream:
            yield stream
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextlib.contextmanager
def end_at_interrupt():
    """Ctrl-C ends the program at once inside: a library that is being imported turns it into an
    error of its own."""
    previous = signal.getsignal(signal.SIGINT)
    if previous != signal.default_int_handler \
            or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class LazyTensorFlow:
    """`tensorflow.compat.v1`, imported at first use: options are checked before that."""

    def __getattr__(self, name):
        module = sys.modules.get("tensorflow.compat.v1")
        if module is None:
            quiet = os.environ["TF_CPP_MIN_LOG_LEVEL"] == QUIET
            with quiet_stderr() if quiet else contextlib.nullcontext(), end_at_interrupt():
                module = importlib.import_module("tensorflow.compat.v1")
            if quiet:
                module.logging.set_verbosity(module.logging.ERROR)  # "deprecated", of all of v1
        return getattr(module, name)


tf = LazyTensorFlow()

# --------------------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------------------

MODEL_OPTIONS = {  # a model's own, always the checkpoint's -> what a missing key stands for
    "which_direction": "AtoB", "lab_colorization": False, "crop_size": 256, "generator": "unet",
    "separable_conv": False, "upsample": "deconv", "norm": "batch", "bottleneck_norm": True,
    "padding": "zero", "ngf": 64, "ndf": 64, "patch_size": 70, "unconditional": False}
DISCRIMINATOR_OPTIONS = ("ndf", "patch_size", "unconditional")
TRAINING_OPTIONS = (  # how a model is trained and used: the checkpoint's unless given
    "no_dropout", "test_dropout", "gan_loss", "gan_weight", "l1_weight", "feature_weight",
    "discrim_weight", "label_smoothing", "lr_decay", "grad_accumulation", "ema_generator",
    "augment", "diffaugment")
AUGMENTATIONS = ("vflip", "rot90", "scale", "brightness", "contrast", "noise")
EXPORT_FORMATS = ("saved_model", "affinelayer", "graph", "tflite", "pict")


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
    no_targets: bool
    seed: int | None
    max_steps: int | None
    max_epochs: int | None
    deterministic: bool
    on_bad_image: str
    max_bad_steps: int
    progress_freq: int
    summary_freq: int
    summary_histograms: bool
    display_freq: int
    trace_freq: int
    save_freq: int
    keep_checkpoints: int
    keep_every_epochs: int
    batch_size: int
    cache: int
    crop_size: int
    scale_size: int
    flip: bool
    augment: tuple
    aspect_ratio: float
    which_direction: str
    lab_colorization: bool
    generator: str
    ngf: int
    separable_conv: bool
    upsample: str
    norm: str
    bottleneck_norm: bool
    padding: str
    no_dropout: bool
    test_dropout: bool
    patch_size: int
    ndf: int
    unconditional: bool
    gan_loss: str
    gan_weight: float
    l1_weight: float
    feature_weight: float
    discrim_weight: float
    label_smoothing: float
    diffaugment: bool
    lr: float
    beta1: float
    lr_decay: str
    decay_from: int | None
    decay_from_epoch: int | None
    grad_accumulation: int
    precision: str
    ema_generator: float
    export_format: tuple
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
        most = min(high, 2**31 - 1 if kind is int else 3.4e38)  # a float32's
        if not low <= value <= most or (open_low and value == low):
            raise argparse.ArgumentTypeError(f"{text}: give a {name} {limits}")
        return value
    return convert


def add_run_options(add):
    """What to do, for how long, and what to show."""
    whole, count = number_type(int, 0), number_type(int, 1)
    add("--mode", required=True, choices=["train", "test", "export"], help="what to do")
    add("--input_dir", help="folder of JPEG and PNG images, each a pair side by side")
    add("--output_dir", help="where results go; left out: DATASET_MODE")
    add("--checkpoint", help="folder or .pict to start from; left out in test: DATASET_train")
    add("--resume", action="store_true", help="go on with the run in output_dir; counts are totals")
    add("--overwrite", action="store_true", help="replace the run in output_dir")
    add("--no_targets", action="store_true", help="test: images are inputs alone, not pairs")
    add("--seed", type=number_type(int, 0, 2**31 - 1), help="left out: drawn, and written down")
    add("--max_steps", type=count, help="number of training steps")
    add("--max_epochs", type=count, help="number of passes over the images")
    add("--deterministic", action="store_true", help="the same bits on every run on a GPU too")
    add("--on_bad_image", default="fail", choices=["fail", "skip"],
        help="what an image that cannot be read does to the run")
    add("--max_bad_steps", type=count, default=5,
        help="steps in a row that may not be finite; they are not applied")
    add("--progress_freq", type=whole, default=50, help="steps between progress lines, 0: none")
    add("--summary_freq", type=whole, default=100, help="steps between TensorBoard summaries")
    add("--summary_histograms", action="store_true", help="summaries of all weights and gradients")
    add("--display_freq", type=whole, default=0, help="steps between images on the run's page")
    add("--trace_freq", type=whole, default=0, help="steps between timelines of one step")
    add("--save_freq", type=whole, default=5000, help="steps between checkpoints, 0: at the end")
    add("--keep_checkpoints", type=count, default=3, help="number kept, the newest")
    add("--keep_every_epochs", type=whole, default=0,
        help="epochs between checkpoints that are kept for good, 0: none")
    add("--export_format", nargs="+", default=["saved_model", "affinelayer"],
        choices=EXPORT_FORMATS, help="what export writes")
    add("--output_filetype", default="png", choices=["png", "jpeg"], help="what export gives out")


def add_image_options(add):
    """Size, direction and augmentation."""
    add("--batch_size", type=number_type(int, 1, 65536), default=1, help="images in a step")
    add("--cache", type=number_type(int, 0), default=0,
        help="MiB of memory for decoded images, which later epochs then need not decode")
    add("--crop_size", type=number_type(int, 32, 4096), default=256,
        help="height and width of an image in the network")
    add("--scale_size", type=number_type(int, 32, 8192), default=286,
        help="scale images to this size before cropping")
    add("--flip", dest="flip", action="store_true", default=True, help="flip images at random")
    add("--no_flip", dest="flip", action="store_false", help="don't")
    add("--augment", nargs="+", default=["none"], choices=["none", *AUGMENTATIONS],
        help="more changes at random; the last three of the input alone")
    add("--aspect_ratio", type=number_type(float, 0, 100, open_low=True), default=1.0,
        help="width / height of the images that test and export write")
    add("--which_direction", default="AtoB", choices=["AtoB", "BtoA"], help="A is the left half")
    add("--lab_colorization", action="store_true",
        help="images are single; learn colour (B) from lightness (A) in Lab space")


def add_network_options(add):
    """The family of networks."""
    count = number_type(int, 1, 1024)
    add("--generator", default="unet", choices=["unet", "encoder_decoder", "resnet"],
        help="U-Net, the same without skips, or residual blocks")
    add("--ngf", type=count, default=64, help="filters in the generator's first layer")
    add("--separable_conv", action="store_true", help="separable convolutions in the generator")
    add("--upsample", default="deconv", choices=["deconv", "resize"],
        help="transposed convolution, or nearest neighbour and convolution")
    add("--norm", default="batch", choices=["batch", "instance", "none"], help="of both networks")
    add("--bottleneck_norm", action="store_true", help="norm on the innermost encoder layer")
    add("--padding", default="zero", choices=["zero", "reflect"], help="of the generator")
    add("--no_dropout", action="store_true", help="no dropout in training either")
    add("--dropout", dest="no_dropout", action="store_false", help="dropout in training")
    add("--test_dropout", action="store_true", help="dropout in test and export too")
    add("--no_test_dropout", dest="test_dropout", action="store_false", help="no such")
    add("--patch_size", type=int, default=70, choices=[1, *PATCH_WIDTHS],
        help="what one logit of the discriminator sees: its receptive field")
    add("--ndf", type=count, default=64, help="filters in the discriminator's first layer")
    add("--unconditional", action="store_true", help="the discriminator does not see the input")


def add_training_options(add):
    """Losses, optimizer and schedule."""
    weight, whole = number_type(float, 0), number_type(int, 0)
    add("--gan_loss", default="vanilla", choices=["vanilla", "lsgan", "hinge"],
        help="cross entropy, least squares or hinge")
    add("--gan_weight", type=weight, default=1.0,
        help="weight of the GAN loss; 0: no discriminator")
    add("--l1_weight", type=weight, default=100.0, help="weight of the L1 loss")
    add("--feature_weight", type=weight, default=0.0,
        help="weight of the L1 loss between the discriminator's features")
    add("--discrim_weight", type=number_type(float, 0, open_low=True), default=1.0,
        help="weight of the discriminator's loss; the paper has 0.5")
    add("--label_smoothing", type=number_type(float, 0, 0.5), default=0.0,
        help="real pairs are labelled 1 minus this")
    add("--diffaugment", action="store_true", help="augment what the discriminator sees")
    add("--no_diffaugment", dest="diffaugment", action="store_false", help="don't")
    add("--lr", type=number_type(float, 0, open_low=True), default=0.0002, help="Adam's rate")
    add("--beta1", type=number_type(float, 0, 0.999999), default=0.5, help="Adam's momentum")
    add("--lr_decay", default="none", choices=["none", "linear", "cosine"],
        help="how the rate falls to 0 at the end of the run")
    add("--decay_from", type=whole, help="step at which it begins; left out: half of the run")
    add("--decay_from_epoch", type=whole, help="the same, in epochs")
    add("--grad_accumulation", type=number_type(int, 1, 65536), default=1,
        help="batches whose gradients make one step")
    add("--precision", default="auto", choices=["auto", "float32", "bfloat16"],
        help="of the layers; weights, statistics, losses and Adam stay float32")
    add("--ema_generator", type=number_type(float, 0, 0.999999), default=0.0,
        help="decay of the averaged generator that test and export use; 0: none")


def create_parser():
    """The command line: affinelayer's flags with their defaults, and ours."""
    parser = OneLineParser(
        prog="pix2pix.py", allow_abbrev=False, description=__doc__.split("\n\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for title, add_options in (("what to do, on what", add_run_options),
                               ("images", add_image_options),
                               ("generator and discriminator", add_network_options),
                               ("losses and learning rate", add_training_options)):
        add_options(parser.add_argument_group(title).add_argument)
    return parser


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------

SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}


def image_format(path):
    """Format of a file by its first bytes: "jpeg", "png" or None, whatever its ending says."""
    with open(path, "rb") as file:
        start = file.read(8)
    return next((name for name, sign in SIGNATURES.items() if start.startswith(sign)), None)


def sorted_by_name(paths):
    """Paths in the order of their names: by number where every stem is digits, else by text."""
    # Path(path) of a Path takes it apart again: half a second of a hundred thousand
    paths = [path if isinstance(path, Path) else Path(path) for path in paths]
    if all(path.stem.isdecimal() for path in paths):
        return sorted(paths, key=lambda path: (int(path.stem), path.name))
    return sorted(paths, key=lambda path: path.name)


def find_images(folder):
    """The JPEG and PNG files directly in a folder, found by content, sorted by name; hidden files
    (another program's, or half written) are none of them."""
    return sorted_by_name(entry for entry in Path(folder).iterdir()
                          if entry.name[0] != "." and entry.is_file() and image_format(entry))


def unique_names(paths):
    """A name per image for its results: the stem, the whole name where stems are shared (as some
    file systems see it: in any case), a number where that is taken; at most 200 bytes long."""
    counts = collections.Counter(path.stem.casefold() for path in paths)
    names, taken = [], set()
    for path in paths:
        full = path.stem if counts[path.stem.casefold()] == 1 else path.name
        while len(os.fsencode(full)) > 200:  # of 255; results add to a name
            full = full[:-1]
        name, number = full, 2
        while name.casefold() in taken:
            name, number = f"{full}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def write_atomic(path, contents, sync=True):
    """Writes bytes so that a reader finds the old file or the new one, never a part.

    With `sync` so does who reads after a loss of power, for the time that the disk takes.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(contents)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def printable(text):
    """A path or message as one line of text: what does not print is escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def describe_error(error):
    """What an error says, in one line: of TensorFlow's long texts the line above the node's."""
    lines = str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__]
    ends = [number for number, line in enumerate(lines) if line.strip().startswith("[[{{node")]
    return lines[ends[0] - 1] if ends and ends[0] else lines[0]


def remove(path):
    """Takes a file or folder away."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def say(text, stream=None):
    """Prints a line. Where that fails, as into a closed pipe, the stream falls silent: what is
    shown never stops what is done."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError) as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        if stream is not sys.stderr:
            warn(f"cannot print any more ({error}), going on")


def warn(text):
    """Says a line on stderr."""
    say(f"pix2pix.py: {text}", sys.stderr)


def write_json(path, value):
    """Writes a value as sorted, indented JSON, whole."""
    write_atomic(path, (json.dumps(value, sort_keys=True, indent=4) + "\n").encode())


@contextlib.contextmanager
def lock_folder(folder):
    """Makes a folder, and no other process's inside. Raises UserError where one works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk may know no locks; they end with the process
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process works in --output_dir {folder}: "
                                "wait for its end or choose another") from None
        yield
    finally:
        os.close(handle)


# what a mode writes; what is there of an earlier one is replaced
RESULT_PATTERNS = {
    "train": ("checkpoint", "model-[0-9]*", "epoch-[0-9]*", "events.out.tfevents.*",
              "trace-*.json", "log.csv", "index.html", "images/*-inputs.png",
              "images/*-outputs.png", "images/*-targets.png"),
    "test": ("metrics.csv", "metrics.json", "index.html", "images/*-inputs.png",
             "images/*-outputs.png", "images/*-targets.png"),
    "export": ("saved_model.pb", "variables", "assets", "export.meta", "export.index",
               "export.data-*", "checkpoint", "graph.pb", "model.tflite", "model.pict")}


def find_results(folder, mode):
    """The files and folders in a folder that have the names of a mode's results."""
    return [path for pattern in RESULT_PATTERNS[mode]
            for path in sorted(Path(folder).glob(pattern))]


def create_progress_bar(total, initial, unit, stream=None):
    """A progress bar on a terminal, nothing elsewhere. stream: in place of stderr."""
    from tqdm import tqdm  # kept out of the way of --help
    stream = stream or sys.stderr
    on_terminal = stream is not None and stream.isatty()
    return tqdm(total=total, initial=initial, unit=unit, disable=not on_terminal,
                dynamic_ncols=True, file=stream)


def fast_precision():
    """What --precision auto trains with: bfloat16 where the machine has instructions for it."""
    gpus = tf.config.experimental.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        is_fast = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        cpu = Path("/proc/cpuinfo")
        flags = cpu.read_text(encoding="utf-8").split() if cpu.exists() else []
        is_fast = not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)
    return "bfloat16" if is_fast else "float32"


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
    """One pair's random draws; None is not drawn."""

    scale_size: Any  # [] int32 or int: height and width before the crop
    offset: Any  # [2] int32: top, left corner of the crop
    flip: Any = None  # [] bool: left to right
    vflip: Any = None  # [] bool: upside down
    turns: Any = None  # [] int32 0..3: quarter turns
    brightness: Any = None  # [] -0.2..0.2: added to the input
    contrast: Any = None  # [] 0.8..1.2: factor of the input's distance from its mean
    noise_seed: Any = None  # [2] int64


class Examples(NamedTuple):
    """A batch of pairs. Which half is inputs is --which_direction's choice."""

    numbers: Any  # [batch] int64: index into the sorted list of files
    inputs: Any  # [batch, crop_size, crop_size, channels] -1..1
    targets: Any = []  # [batch, crop_size, crop_size, channels] -1..1; [] with --no_targets


def examples_per_step(options):
    """Number of images that a step takes together."""
    return options.batch_size * options.grad_accumulation


def steps_per_epoch(count, step_size):
    """Every image once; the last step of an epoch may be smaller."""
    return math.ceil(count / step_size)


def pair_channels(lab_colorization, which_direction):
    """Number of channels of inputs and of targets."""
    if not lab_colorization:
        return 3, 3
    return (1, 2) if which_direction == "AtoB" else (2, 1)


def epoch_order(count, seed, epoch):
    """The order of an epoch: a permutation [count] int64, a pure function of (seed, epoch)."""
    draws = tf.random.stateless_uniform([count], seed=[seed, epoch])
    return tf.cast(tf.argsort(draws, stable=True), tf.int64)


def indices_of_step(step, count, options):
    """The images of a training step, counted from 1: [batch] int64 indices into the files."""
    step_size = examples_per_step(options)
    epoch, place = divmod(step - 1, steps_per_epoch(count, step_size))
    return epoch_order(count, options.seed, epoch)[place * step_size:][:step_size]


def draw_augmentation(seed, number, crop_size, scale_size, kinds):
    """Draws for the number-th pair of a run: a pure function of its arguments.

    kinds: what is drawn beside the place of the crop: "flip" and any of AUGMENTATIONS.
    """
    zoom, top, left, flip, vflip, turn, brightness, contrast = tf.unstack(
        tf.random.stateless_uniform([8], seed=[seed, 2 * number]))
    if "scale" in kinds:  # up to 1.25 times as large
        room = int(1.25 * scale_size) - crop_size + 1
        scale_size = crop_size + tf.cast(zoom * room, tf.int32)
    room = tf.cast(scale_size - crop_size + 1, tf.float32)
    return Augmentation(
        scale_size, tf.cast(tf.stack([top, left]) * room, tf.int32),
        flip=flip < 0.5 if "flip" in kinds else None,
        vflip=vflip < 0.5 if "vflip" in kinds else None,
        turns=tf.cast(4 * turn, tf.int32) if "rot90" in kinds else None,
        brightness=0.4 * brightness - 0.2 if "brightness" in kinds else None,
        contrast=0.4 * contrast + 0.8 if "contrast" in kinds else None,
        noise_seed=[seed, 2 * number + 1] if "noise" in kinds else None)


def flip_where(condition, image, axis):
    """The image, reversed along an axis where the condition [] bool is true, if there is one."""
    if condition is None:
        return image
    # not [::-1], a strided slice: 1 ms of 256x256 where tf.reverse takes 0.03 ms
    return tf.cond(condition, lambda: tf.reverse(image, [axis]), lambda: image)


def transform(image, crop_size, augmentation):
    """One half, uint8 or -1..1 [height, width, channels] -> -1..1 [crop_size, crop_size, channels]:
    scaled, cropped, flipped, turned."""
    size, is_uint8 = augmentation.scale_size, image.dtype == tf.uint8
    image = tf.image.resize(image, [size, size], method="area")  # float32, the range stays
    top, left = tf.unstack(augmentation.offset)
    image = image[top:top + crop_size, left:left + crop_size]
    image = flip_where(augmentation.flip, image, axis=1)
    image = flip_where(augmentation.vflip, image, axis=0)
    if augmentation.turns is not None:
        image = tf.image.rot90(image, augmentation.turns)
    return image / 127.5 - 1 if is_uint8 else image


def jitter_input(inputs, augmentation):
    """An input image [height, width, channels] -1..1, its contrast, brightness and noise
    changed; the shape and the range stay."""
    changed = inputs
    if augmentation.contrast is not None:
        mean = tf.reduce_mean(changed, axis=[0, 1])
        changed = (changed - mean) * augmentation.contrast + mean
    if augmentation.brightness is not None:
        changed += augmentation.brightness
    if augmentation.noise_seed is not None:
        changed += 0.05 * tf.random.stateless_normal(tf.shape(changed), augmentation.noise_seed)
    return inputs if changed is inputs else tf.clip_by_value(changed, -1, 1)


def decode_pixels(contents):
    """Bytes of a JPEG or PNG file, told apart by content -> sRGB uint8 [height, width, 3]."""
    pixels = tf.image.decode_image(contents, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    return pixels


class ImageCache:
    """Decoded images by number, the first that come, as many as the budget holds. A file that
    changes is not read again."""

    def __init__(self, budget):
        """budget: bytes."""
        self.room, self.images, self.lock = budget, {}, threading.Lock()

    def get(self, number):
        """The image uint8 [height, width, 3]; [0, 0, 3] where it is not held."""
        return self.images.get(int(number), np.zeros([0, 0, 3], np.uint8))

    def put(self, number, pixels):
        """Holds a copy of an image where there is room, and returns it."""
        with self.lock:
            if int(number) not in self.images and pixels.nbytes <= self.room:
                self.images[int(number)] = pixels.copy()
                self.room -= pixels.nbytes
        return pixels

    def read(self, number, load):
        """The image of a number [] int64, from memory or of `load(number)`: uint8
        [height, width, 3]."""
        held = tf.numpy_function(self.get, [number], tf.uint8)
        pixels = tf.cond(tf.size(held) > 0, lambda: held,
                         lambda: tf.numpy_function(self.put, [number, load(number)], tf.uint8))
        pixels.set_shape([None, None, 3])
        return pixels


def decode_image(contents):
    """Bytes of a JPEG or PNG file, told apart by content -> sRGB 0..1 [height, width, 3]."""
    return tf.image.convert_image_dtype(decode_pixels(contents), tf.float32)


def to_model(images, lab_colorization, which_direction):
    """sRGB 0..1 [..., 3] -> a network's inputs -1..1 [..., channels]."""
    if not lab_colorization:
        return images * 2 - 1
    return split_lab(images)[0 if which_direction == "AtoB" else 1]


def split_pair(pixels, lab_colorization, which_direction):
    """sRGB uint8 [height, width, 3] -> input and target: halves uint8, which `transform` takes as
    they are, or lightness and colour -1..1."""
    if lab_colorization:
        halves = split_lab(tf.image.convert_image_dtype(pixels, tf.float32))
    else:
        middle = tf.shape(pixels)[1] // 2
        # an odd width leaves its last column out: both halves are equally wide
        halves = pixels[:, :middle], pixels[:, middle:2 * middle]
    return halves if which_direction == "AtoB" else halves[::-1]


def create_path_reader(paths):
    """A function from an image's number [] int64 to the bytes of its file.

    The paths are one string: 137,000 of them took 1.2 s more to start and 180 MB.
    """
    encoded = [os.fsencode(path) for path in paths]
    lengths = np.array([len(path) for path in encoded])
    joined, starts = tf.constant(b"".join(encoded)), tf.constant(np.cumsum(lengths) - lengths)
    lengths = tf.constant(lengths)
    return lambda number: tf.io.read_file(tf.strings.substr(joined, starts[number],
                                                            lengths[number]))


def create_examples(paths, options, first_step=0):
    """Batches from the image files, as Examples.

    Training: endless shuffled epochs, beginning as if `first_step` steps had been taken.
    Otherwise: each image once, in order, scaled to crop_size and not changed at random.
    """
    training = options.mode == "train"
    count, step_size, crop_size = len(paths), examples_per_step(options), options.crop_size
    scale_size = options.scale_size if training else crop_size
    kinds = ("flip",) * options.flip + tuple(options.augment) if training else ()
    form = options.lab_colorization, options.which_direction
    channels = pair_channels(*form)[:1 if options.no_targets else 2]
    first_epoch, steps_done = divmod(first_step, steps_per_epoch(count, step_size))
    read = create_path_reader(paths)
    cache = ImageCache(options.cache * 2**20)

    def epoch_numbers(epoch):
        """The batches of an epoch: indices into the files and running numbers of the pairs."""
        order = epoch_order(count, options.seed, epoch) if training else np.arange(count)
        runs = tf.range(tf.cast(count, tf.int64)) + epoch * count  # a draw's key: pairs seen so far
        return tf.data.Dataset.from_tensor_slices((order, runs)).batch(step_size)

    def load_pixels(number):
        """The image of a number, from its file: uint8 [height, width, 3]."""
        return decode_pixels(read(number))

    def load_pair(arguments):
        """One pair, augmented: input and target, or the input alone."""
        number, run = arguments
        pixels = cache.read(number, load_pixels) if options.cache else load_pixels(number)
        if options.no_targets:
            pair = (to_model(tf.image.convert_image_dtype(pixels, tf.float32), *form),)
        else:
            pair = split_pair(pixels, *form)
        draws = draw_augmentation(options.seed, run, crop_size, scale_size, kinds)
        inputs, *targets = (transform(half, crop_size, draws) for half in pair)
        return (jitter_input(inputs, draws), *targets)

    @tf.autograph.experimental.do_not_convert  # it has no Python to convert; that takes 0.3 s
    def load_batch(numbers, runs):
        """One batch: numbers, inputs and targets."""
        types = (tf.float32,) * len(channels)
        return (numbers, *tf.map_fn(load_pair, (numbers, runs), fn_output_signature=types))

    epochs = tf.data.Dataset.range(first_epoch, 2**31 if training else 1)
    batches = epochs.flat_map(epoch_numbers).skip(steps_done)
    batches = batches.map(load_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    numbers, *images = tf.data.make_one_shot_iterator(
        batches.prefetch(tf.data.AUTOTUNE)).get_next()
    for tensor, depth in zip(images, channels):
        tensor.set_shape([None, crop_size, crop_size, depth])
    return Examples(numbers, *images)


# --------------------------------------------------------------------------------------------------
# Checking images, before the first step
# --------------------------------------------------------------------------------------------------

ENDINGS = (".jpg", ".jpeg", ".png")  # of files that must be images; others may be
MAX_PIXELS = 89_478_485  # of an image: a quarter of a gigabyte in RGB, which is Pillow's limit too
MAX_BYTES = 2**30  # of a file
MAX_BAD_SHARE = 0.1  # of the images, with --on_bad_image skip
CHECK_SECONDS = 10  # that checking takes before the first step


class ImageCheck(NamedTuple):
    """What checking a file has found."""

    size: int = 0  # bytes
    changed: int = 0  # time of modification, ns
    width: int = 0
    height: int = 0
    reason: str = ""  # why it cannot be used, "" where it can


UNCHECKED = ImageCheck()


def create_decoder():
    """A function from a JPEG or PNG file's bytes to height and width, after decoding all of it as
    training does. It raises ValueError with the reason where that cannot be done."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        jpeg_shape = tf.image.extract_jpeg_shape(contents)[:2]
        shape = tf.shape(decode_pixels(contents))[:2]
        sess = tf.Session(graph=graph, config=session_config())
        read_jpeg_shape, decode = (sess.make_callable(end, [contents])
                                   for end in (jpeg_shape, shape))

    def run(file_bytes):
        """The header first: a small file can hold an image larger than memory."""
        is_png = file_bytes.startswith(SIGNATURES["png"])
        if is_png and len(file_bytes) < 24:
            raise ValueError("cut in its header")
        try:
            height, width = struct.unpack(">II", file_bytes[16:24])[::-1] if is_png \
                else read_jpeg_shape(file_bytes)
            if int(height) * int(width) > MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels are more than {MAX_PIXELS}")
            return decode(file_bytes)
        except tf.errors.OpError as error:
            raise ValueError(f"cannot be decoded: {describe_error(error)}") from None
    return run


def read_stamp(path):
    """Size in bytes and time of modification in ns of a file; None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def check_file(path, decode):
    """The ImageCheck of one file, read whole. decode: of `create_decoder`."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return ImageCheck(reason="a folder" if path.is_dir() else "not a file")
        if state.st_size > MAX_BYTES:
            return ImageCheck(reason=f"{state.st_size} bytes are more than {MAX_BYTES}")
        contents = path.read_bytes()
        if not contents.startswith(tuple(SIGNATURES.values())):
            return ImageCheck(reason="neither JPEG nor PNG inside" if contents else "empty")
        height, width = decode(contents)
        return ImageCheck(state.st_size, state.st_mtime_ns, int(width), int(height))
    except OSError as error:
        reason = "a broken link" if path.is_symlink() and not path.exists() else error.strerror
        return ImageCheck(reason=reason)
    except ValueError as error:
        return ImageCheck(reason=str(error))


def is_candidate(path):
    """Whether a file is to be checked: its ending or its first bytes are an image's."""
    if path.name.startswith("."):  # another program's, or half written
        return False
    try:
        return path.suffix.lower() in ENDINGS or bool(path.is_file() and image_format(path))
    except OSError:
        return False


def checks_path(folder):
    """Where what was found in a folder is remembered: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:16]
    return Path(cache, "pix2pix", f"{name}.json")


def read_checks(folder):
    """Name -> ImageCheck of the good files of a folder, as they were; {} where nothing is known."""
    try:
        stored = json.loads(checks_path(folder).read_text(encoding="utf-8"))
        return {name: ImageCheck(*check) for name, check in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def check_files(paths):
    """Path -> ImageCheck of the first of these files: of as many as are decoded in CHECK_SECONDS,
    in parallel, but of one at least."""
    decode, checks, end = create_decoder(), {}, time.monotonic() + CHECK_SECONDS
    with quiet_stderr() as stderr, multiprocessing.pool.ThreadPool() as pool, \
            create_progress_bar(len(paths), 0, "image checked", stderr) as bar:
        for path, check in zip(paths, pool.imap(lambda path: check_file(path, decode), paths)):
            checks[path] = check
            bar.update()
            if time.monotonic() >= end:
                break
    return checks


def check_folder(folder):
    """Path -> ImageCheck of what in a folder is an image or should be one, ordered by name.

    A good one whose size and time are as they were is taken as read; of the others as many are
    checked as time allows, and the next start goes on from there. The rest is UNCHECKED.
    """
    known, checks = read_checks(folder), {}
    for path in Path(folder).iterdir():
        if path.name in known and read_stamp(path) == known[path.name][:2]:
            checks[path] = known[path.name]
        elif is_candidate(path):
            checks[path] = UNCHECKED
    checks = {path: checks[path] for path in sorted_by_name(checks)}
    new = [path for path, check in checks.items() if check is UNCHECKED]
    if new:
        checks.update(check_files(new))
        good = {path.name: check for path, check in checks.items()
                if check is not UNCHECKED and not check.reason}
        with contextlib.suppress(OSError):  # then the next start checks again
            checks_path(folder).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(checks_path(folder), json.dumps(good).encode())
    return checks


def check_shapes(checks, options):
    """The checks, and where images are pairs those refused that can be none: too narrow for two
    halves, or of another shape than nine tenths of all, as a single image among pairs is."""
    if options.no_targets or options.lab_colorization:
        return checks
    ratios = {path: check.width / check.height for path, check in checks.items()
              if check is not UNCHECKED and not check.reason}
    usual = float(np.median([*ratios.values()])) if ratios else 1.0
    alike = sum(abs(ratio / usual - 1) < 0.01 for ratio in ratios.values())
    checked = dict(checks)
    for path, ratio in ratios.items():
        check = checks[path]
        if check.width < 2:
            checked[path] = check._replace(reason="1 pixel wide: no pair")
        elif alike >= 0.9 * len(ratios) and not 1 / 1.5 < ratio / usual < 1.5:
            checked[path] = check._replace(
                reason=f"{check.width}x{check.height} pixels, but nearly all others are "
                       f"{usual:.3g} times as wide as high: no pair")
    return checked


def refuse_bad(num_bad, num_all, options):
    """Raises UserError where so many images of --input_dir cannot be used."""
    if num_bad and options.on_bad_image == "fail":
        raise UserError(f"{num_bad} of {num_all} images cannot be used: repair them, take them "
                        "out, or give --on_bad_image skip")
    if num_bad > MAX_BAD_SHARE * num_all:
        raise UserError(f"{num_bad} of {num_all} images cannot be used, "
                        f"more than {MAX_BAD_SHARE:.0%}: repair them or take them out")


def count_cached(checks, options):
    """Number of these images that --cache holds. Those that are not checked count as the mean of
    the others; which ones it is depends on the order in which they come."""
    sizes = [3 * check.width * check.height for check in checks if check is not UNCHECKED]
    return min(len(checks), int(options.cache * 2**20 / np.mean(sizes)))


def list_images(options):
    """The images of --input_dir that can be used; names the others. Raises UserError where they
    are too many or all."""
    checks = check_shapes(check_folder(options.input_dir), options)
    if not checks:
        raise UserError(f"--input_dir {options.input_dir} holds no JPEG or PNG images: "
                        "check the path")
    bad = {path: check.reason for path, check in checks.items() if check.reason}
    for path, reason in bad.items():
        warn(f"{printable(path)} cannot be used: {reason}")
    num_checked = sum(check is not UNCHECKED for check in checks.values())
    refuse_bad(len(bad), num_checked, options)
    if num_checked < len(checks):
        say(f"{num_checked} of {len(checks)} images are checked, "
            "the others are when their turn comes")
    usable = {path: check for path, check in checks.items() if path not in bad}
    if options.cache:
        num_cached = count_cached([*usable.values()], options)
        if num_cached < len(usable):
            say(f"--cache {options.cache} holds about {num_cached} of {len(usable)} images, "
                "the others are decoded every time")
    return [*usable]


# --------------------------------------------------------------------------------------------------
# Layers. Weights from N(0, 0.02), norm scales from N(1, 0.02) (paper, appendix 6.2)
# --------------------------------------------------------------------------------------------------

KERNEL_SIZE = 4
NORM_EPSILON = 1e-5
IM2COL_MAX_PIXELS = 16 * 16  # pixels, up to which a matrix product is faster than a convolution
WINOGRAD_MIN_CHANNELS = 256 * 512  # in * out, from which tiles are faster than a convolution
WINOGRAD_POINTS = (0.5, -0.5, 1.5, -1.5)  # and infinity: their polynomials have few bits


class DrawKey(NamedTuple):
    """What the random draws of a step depend on, and nothing else."""

    seed: Any  # [] int64
    step: Any  # [] int64: steps taken
    first: Any = 0  # [] int32: place in the step of the batch's first image; None: all draw alike


class Layers(NamedTuple):
    """The layers that a generator is made of."""

    conv: Any  # function of inputs, out_channels, kernel_size, stride
    deconv: Any  # function of inputs, out_channels, kernel_size: twice as high and wide
    norm: Any  # function of inputs


def get_weights(name, shape, mean=0.0):
    """A float32 variable, N(mean, 0.02)."""
    initializer = tf.random_normal_initializer(mean, 0.02)
    return tf.get_variable(name, shape, initializer=initializer, use_resource=True)


def get_bias(channels, name="bias"):
    """A float32 variable [channels] of zeros."""
    return tf.get_variable(name, [channels], initializer=tf.zeros_initializer(), use_resource=True)


def identity(x):
    """No activation."""
    return x


def relu(x):
    """x where x > 0, 0 elsewhere."""
    return tf.nn.relu(x)


def lrelu(x, slope=0.2):
    """x where x > 0, slope * x elsewhere."""
    return tf.nn.leaky_relu(x, slope)


def add_bias(inputs, channels):
    """A bias per channel, added."""
    return tf.nn.bias_add(inputs, tf.cast(get_bias(channels), inputs.dtype))


def custom_gradient(function):
    """`tf.custom_gradient`; TensorFlow is imported only when the function is called."""
    @functools.wraps(function)
    def call(x):
        """The function with its own gradient."""
        return tf.custom_gradient(function)(x)
    return call


@custom_gradient
def im2col(x):
    """What each pixel of a 4x4 convolution with stride 2 sees: [batch, 2height, 2width, channels]
    -> [batch, height, width, 16 * channels], in the order of a kernel's rows and columns.

    Patch (i, j) begins at pixel (2i - 1, 2j - 1). Its row 2a + b is row b of block i + a, where
    blocks are 2x2 pixels; columns alike.
    """
    height, width, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    blocks = tf.nn.space_to_depth(pad(x, 1, 1), 2)
    rows = []
    for a in (0, 1):
        parts = [tf.reshape(blocks[:, a:a + height, c:c + width],
                            [-1, height * width, 2, 2 * channels]) for c in (0, 1)]
        rows.append(tf.reshape(tf.stack(parts, axis=3), [-1, height * width, 8 * channels]))
    patches = tf.stack(rows, axis=2)
    return tf.reshape(patches, [-1, height, width, 16 * channels]), col2im


@custom_gradient
def col2im(patches):
    """The transpose of `im2col`, and its gradient: adds patches where they overlap,
    [batch, height, width, 16 * channels] -> [batch, 2height, 2width, channels]."""
    height, width, channels = patches.shape[1], patches.shape[2], patches.shape[3] // 16
    rows, blocks = tf.reshape(patches, [-1, height * width, 2, 8 * channels]), []
    for a in (0, 1):
        parts = tf.reshape(rows[:, :, a], [-1, height * width, 2, 2, 2 * channels])
        blocks += [tf.pad(tf.reshape(parts[:, :, :, c], [-1, height, width, 4 * channels]),
                          [[0, 0], [a, 1 - a], [c, 1 - c], [0, 0]]) for c in (0, 1)]
    return tf.nn.depth_to_space(tf.add_n(blocks), 2)[:, 1:-1, 1:-1], im2col


def fits_im2col(height, width):
    """Whether a map is known to have at most IM2COL_MAX_PIXELS pixels.

    Its layer has few pixels and many weights. oneDNN spends its time there on reordering the
    kernel, in the forward pass and for both gradients; a matrix product takes it as it lies:
    a training step takes 0.83 times as long in float32, 0.82 in bfloat16 (docs/benchmarks.md).
    """
    return None not in (height, width) and height * width <= IM2COL_MAX_PIXELS


def winograd_matrices():
    """The matrices of `winograd_conv2d` for rows and columns together: of outputs [4, 25], of the
    kernel [25, 16], of inputs [25, 25]. The 25 lie by columns, everything else by rows.

    Along one side, 2 results of a filter of 4 from 5 inputs are the transpose of multiplying
    polynomials of degree 1 and 3: their values at 5 points, 5 products, and back (Toom and Cook).
    """
    outputs, kernel, inputs = np.zeros([2, 5]), np.zeros([5, 4]), np.zeros([5, 5])
    for row, point in enumerate(WINOGRAD_POINTS):
        others = [other for other in WINOGRAD_POINTS if other != point]
        inputs[row, :4] = np.poly(others)[::-1]
        kernel[row] = np.power(point, range(4))
        outputs[:, row] = np.array([1, point]) / np.prod([point - other for other in others])
    inputs[4], kernel[4], outputs[:, 4] = np.poly(WINOGRAD_POINTS)[::-1], [0, 0, 0, 1], [0, 1]
    return (np.einsum("iu,jv->ijvu", outputs, outputs).reshape(4, 25),
            np.einsum("ui,vj->vuij", kernel, kernel).reshape(25, 16), np.kron(inputs, inputs))


@custom_gradient
def extract_tiles(x):
    """Pieces of 5 that begin at every second place: [rest, 2n + 4, inner] ->
    [5, rest, n, inner]."""
    n, pairs = x.shape[1] // 2 - 2, tf.reshape(x, [-1, x.shape[1] // 2, 2, x.shape[2]])
    return tf.stack([pairs[:, i // 2:i // 2 + n, i % 2] for i in range(5)]), overlap_add_tiles


@custom_gradient
def overlap_add_tiles(tiles):
    """The transpose of `extract_tiles`, and its gradient: adds pieces where they overlap."""
    n, inner = tiles.shape[2:]
    padded = [tf.pad(tiles[i], [[0, 0], [i // 2, 2 - i // 2], [0, 0]]) for i in range(5)]
    pairs = tf.stack([tf.add_n(padded[::2]), tf.add_n(padded[1::2])], axis=2)
    return tf.reshape(pairs, [-1, 2 * n + 4, inner]), extract_tiles


def winograd_conv2d(inputs, kernel):
    """`tf.nn.conv2d` of a 4x4 kernel with stride 1 and no padding; 25 matrix products for every
    2x2 results, where it takes 64 (Winograd; Lavin and Gray, arXiv 1509.09308, section 4.1).

    It pays where there are many channels: layer_4 of the discriminator has a third of a step's
    arithmetic; the step takes 0.93 times as long in bfloat16, 0.92 in float32
    (docs/benchmarks.md). Equal to 1e-6 in float32, in bfloat16 to 1%, as oneDNN's gradients are.
    """
    to_outputs, to_kernel, to_inputs = (tf.constant(matrix, inputs.dtype)
                                        for matrix in winograd_matrices())
    height, width, channels = inputs.shape[1] - 3, inputs.shape[2] - 3, inputs.shape[3]
    rows, columns, out_channels = (height + 1) // 2, (width + 1) // 2, kernel.shape[3]  # of tiles
    x = tf.pad(inputs, [[0, 0], [0, height % 2 + 1], [0, width % 2 + 1], [0, 0]])  # whole tiles
    x = extract_tiles(tf.reshape(x, [-1, 2 * rows + 4, (2 * columns + 4) * channels]))
    x = extract_tiles(tf.reshape(x, [-1, 2 * columns + 4, channels]))
    x = tf.matmul(to_inputs, tf.reshape(x, [25, -1]))
    k = tf.matmul(to_kernel, tf.reshape(kernel, [16, channels * out_channels]))
    x = tf.matmul(tf.reshape(x, [25, -1, channels]), tf.reshape(k, [25, channels, out_channels]))
    x = tf.matmul(to_outputs, tf.reshape(x, [25, -1]))
    x = tf.transpose(tf.reshape(x, [2, 2, -1, rows, columns, out_channels]), [2, 3, 0, 4, 1, 5])
    x = tf.reshape(x, [-1, 2 * rows, 2 * columns, out_channels])
    return tf.slice(x, [0, 0, 0, 0], [-1, height, width, -1])  # [:, ...] has a slow gradient


def conv2d(inputs, kernel, stride, padding):
    """`tf.nn.conv2d`; with a small map as result, one matrix product: patches x kernel; with many
    channels and stride 1 `winograd_conv2d`."""
    (size, _, _, channels), (height, width) = kernel.shape, inputs.shape.as_list()[1:3]
    if (size, stride, padding) == (4, 1, "VALID") and None not in (height, width) \
            and kernel.shape[2] * channels >= WINOGRAD_MIN_CHANNELS:
        return winograd_conv2d(inputs, kernel)
    in_blocks = None not in (height, width) and height % 2 == width % 2 == 0
    if (size, stride, padding, in_blocks) != (4, 2, "SAME", True) \
            or not fits_im2col(height // 2, width // 2):
        return tf.nn.conv2d(inputs, kernel, strides=stride, padding=padding)
    patches = im2col(inputs)
    outputs = tf.matmul(tf.reshape(patches, [-1, patches.shape[3]]),
                        tf.reshape(kernel, [patches.shape[3], channels]))
    return tf.reshape(outputs, [-1, height // 2, width // 2, channels])


def conv2d_transpose(inputs, kernel):
    """`tf.nn.conv2d_transpose` that doubles height and width, kernel [height, width, out, in]; of a
    small map one matrix product, whose results are added where they overlap."""
    size, _, out_channels, channels = kernel.shape.as_list()
    height, width = inputs.shape.as_list()[1:3]
    if size == 4 and fits_im2col(height, width):
        # in this order: 1.04 times as fast a step in float32 as pixels x kernel
        patches = tf.matmul(tf.reshape(kernel, [16 * out_channels, channels]),
                            tf.reshape(inputs, [-1, channels]), transpose_b=True)
        return col2im(tf.reshape(tf.transpose(patches),
                                      [-1, height, width, 16 * out_channels]))
    batch, height, width, _ = tf.unstack(tf.shape(inputs))
    outputs = tf.nn.conv2d_transpose(
        inputs, kernel, [batch, 2 * height, 2 * width, out_channels], strides=2)
    outputs.set_shape(doubled_shape(inputs, out_channels))
    return outputs


def conv(inputs, out_channels, kernel_size=KERNEL_SIZE, stride=2, padding="SAME"):
    """Convolution: [batch, height, width, in] -> [batch, height/stride, width/stride, out]."""
    with tf.variable_scope("conv2d"):
        kernel = get_weights("kernel", [kernel_size, kernel_size, inputs.shape[3], out_channels])
        outputs = conv2d(inputs, tf.cast(kernel, inputs.dtype), stride, padding)
        return add_bias(outputs, out_channels)


def pad(inputs, before, after, mode="CONSTANT"):
    """Adds rows and columns on every side; mode REFLECT mirrors at the outermost pixels."""
    return tf.pad(inputs, [[0, 0], [before, after], [before, after], [0, 0]], mode)


def reflect_conv(inputs, out_channels, kernel_size=KERNEL_SIZE, stride=2):
    """`conv` with a mirrored border in place of zeros."""
    around = kernel_size - stride
    return conv(pad(inputs, around // 2, around - around // 2, "REFLECT"), out_channels,
                kernel_size, stride, padding="VALID")


def doubled_shape(inputs, channels):
    """Static shape of a layer that doubles height and width, as far as they are known."""
    batch, height, width = inputs.shape.as_list()[:3]
    return [batch, height and 2 * height, width and 2 * width, channels]


def deconv(inputs, out_channels, kernel_size=KERNEL_SIZE):
    """Transposed convolution: [batch, height, width, in] -> [batch, 2height, 2width, out]."""
    with tf.variable_scope("conv2d_transpose"):
        kernel = get_weights("kernel", [kernel_size, kernel_size, out_channels, inputs.shape[3]])
        return add_bias(conv2d_transpose(inputs, tf.cast(kernel, inputs.dtype)), out_channels)


def enlarge(inputs):
    """[batch, height, width, channels] -> [batch, 2height, 2width, channels], nearest neighbour."""
    height, width = tf.unstack(tf.shape(inputs)[1:3])
    larger = tf.image.resize(inputs, [2 * height, 2 * width], method="nearest")
    larger.set_shape(doubled_shape(inputs, inputs.shape[3]))
    return larger


def resize_conv(inputs, out_channels, _kernel_size=KERNEL_SIZE, conv_layer=conv):
    """Nearest neighbour and a 3x3 convolution, which leaves no checkerboard; shapes as `deconv`
    (Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016)."""
    return conv_layer(enlarge(inputs), out_channels, kernel_size=3, stride=1)


def separable_conv(inputs, out_channels, kernel_size=KERNEL_SIZE, stride=2):
    """Convolution per channel, then 1x1 across channels; shapes as `conv`."""
    with tf.variable_scope("separable_conv2d"):
        channels = inputs.shape[3]
        depthwise = get_weights("depthwise_kernel", [kernel_size, kernel_size, channels, 1])
        pointwise = get_weights("pointwise_kernel", [1, 1, channels, out_channels])
        outputs = tf.nn.separable_conv2d(
            inputs, tf.cast(depthwise, inputs.dtype), tf.cast(pointwise, inputs.dtype),
            strides=[1, stride, stride, 1], padding="SAME")
        return add_bias(outputs, out_channels)


def separable_deconv(inputs, out_channels, kernel_size=KERNEL_SIZE):
    """Nearest neighbour, then `separable_conv`; shapes as `deconv`."""
    return separable_conv(enlarge(inputs), out_channels, kernel_size, stride=1)


def normalize_per_image(inputs, gamma, beta):
    """Zero mean and unit variance per image and channel, then scale and shift."""
    x = tf.cast(inputs, tf.float32)
    mean, variance = tf.nn.moments(x, axes=[1, 2], keepdims=True)
    x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, NORM_EPSILON)
    return tf.cast(x, inputs.dtype)


def batchnorm(inputs, per_image=False):
    """Zero mean and unit variance per channel, then scale and shift; the shape stays.

    Statistics are those of the batch at hand, or of each image, never running averages.
    """
    with tf.variable_scope("batch_normalization"):
        channels = inputs.shape[3]
        beta, gamma = get_bias(channels, "beta"), get_weights("gamma", [channels], mean=1.0)
        if per_image:
            return normalize_per_image(inputs, gamma, beta)
        # the fused operation makes a training step a fifth faster than moments and arithmetic
        return tf.nn.fused_batch_norm(inputs, gamma, beta, epsilon=NORM_EPSILON)[0]


def instancenorm(inputs):
    """Zero mean and unit variance per image and channel, then scale and shift; the shape stays
    (Ulyanov, Vedaldi, Lempitsky, arXiv 1607.08022)."""
    with tf.variable_scope("instance_normalization"):
        channels = inputs.shape[3]
        beta, gamma = get_bias(channels, "beta"), get_weights("gamma", [channels], mean=1.0)
        return normalize_per_image(inputs, gamma, beta)


def draw_uniform(key, number, batch, shape):
    """Uniform 0..1 [batch, *shape], an image's a function of seed, step, its place in the step and
    `number` (0..15): a step in one batch or in parts draws alike."""
    first, count = (0, 1) if key.first is None else (key.first, key.first + batch)
    draws = tf.random.stateless_uniform(
        tf.concat([[count], shape], axis=0), seed=[key.seed * 16 + number, key.step])
    return draws[first:]


def dropout(inputs, rate, key, number):
    """Zeroes a share `rate` of the values and scales the rest."""
    shape = tf.shape(inputs)
    draws = draw_uniform(key, number, shape[0], shape[1:])
    return tf.where(draws >= rate, inputs / (1 - rate), tf.zeros_like(inputs))


def choose_norm(norm, per_image=False):
    """The layer function of --norm."""
    return {"batch": functools.partial(batchnorm, per_image=per_image),
            "instance": instancenorm, "none": identity}[norm]


def choose_layers(options, per_image=False):
    """The generator's Layers. per_image: batch norm sees each image alone."""
    norm = choose_norm(options.norm, per_image)
    if options.separable_conv:
        return Layers(separable_conv, separable_deconv, norm)
    plain = {"zero": conv, "reflect": reflect_conv}[options.padding]
    resize = functools.partial(resize_conv, conv_layer=plain)
    return Layers(plain, {"deconv": deconv, "resize": resize}[options.upsample], norm)


# --------------------------------------------------------------------------------------------------
# Networks (paper, appendix 6.1)
# --------------------------------------------------------------------------------------------------


class GeneratorRow(NamedTuple):
    """A layer of a generator: activation, convolution, norm, dropout."""

    width: int | None  # filters, in units of ngf; None: the image's channels
    activation: Any
    kernel_size: int = KERNEL_SIZE
    stride: int = 2  # how many times smaller, in the decoder larger
    norm: bool = True
    dropout: float = 0.0


class GeneratorRows(NamedTuple):
    """A generator: encoder, residual blocks, decoder."""

    encoder: tuple
    decoder: tuple
    skips: bool = False  # a decoder layer also takes the encoder layer of its size
    block: tuple = ()  # the layers of a block
    num_blocks: int = 0


class DiscriminatorRow(NamedTuple):
    """A layer of the discriminator: convolution, norm, lrelu."""

    width: int  # filters, in units of ndf
    stride: int = 2
    kernel_size: int = KERNEL_SIZE
    norm: bool = True


class DiscriminatorOutput(NamedTuple):
    """What a discriminator says of a batch of pairs."""

    logits: Any  # [batch, height, width, 1]: above 0 for real, below for generated
    features: tuple  # its hidden layers


UNET_ENCODER = (  # for 256x256 images ->
    GeneratorRow(1, identity, norm=False),  # encoder_1 [batch, 128, 128, ngf]
    GeneratorRow(2, lrelu),  # encoder_2 [batch, 64, 64, ngf * 2]
    GeneratorRow(4, lrelu),  # encoder_3 [batch, 32, 32, ngf * 4]
    GeneratorRow(8, lrelu),  # encoder_4 [batch, 16, 16, ngf * 8]
    GeneratorRow(8, lrelu),  # encoder_5 [batch, 8, 8, ngf * 8]
    GeneratorRow(8, lrelu),  # encoder_6 [batch, 4, 4, ngf * 8]
    GeneratorRow(8, lrelu),  # encoder_7 [batch, 2, 2, ngf * 8]
    GeneratorRow(8, lrelu, norm=False),  # encoder_8 [batch, 1, 1, ngf * 8]
)
UNET_DECODER = (  # each takes the layer before and, but for the first, its skip: encoder_N
    GeneratorRow(8, relu, dropout=0.5),  # decoder_8 [batch, 2, 2, ngf * 8]
    GeneratorRow(8, relu, dropout=0.5),  # decoder_7 [batch, 4, 4, ngf * 8]
    GeneratorRow(8, relu, dropout=0.5),  # decoder_6 [batch, 8, 8, ngf * 8]
    GeneratorRow(8, relu),  # decoder_5 [batch, 16, 16, ngf * 8]
    GeneratorRow(4, relu),  # decoder_4 [batch, 32, 32, ngf * 4]
    GeneratorRow(2, relu),  # decoder_3 [batch, 64, 64, ngf * 2]
    GeneratorRow(1, relu),  # decoder_2 [batch, 128, 128, ngf]
    GeneratorRow(None, relu, norm=False),  # decoder_1 [batch, 256, 256, channels]
)
RESNET = GeneratorRows(  # Johnson, Alahi, Fei-Fei, arXiv 1603.08155, as in CycleGAN's code
    encoder=(
        GeneratorRow(1, identity, kernel_size=7, stride=1),  # encoder_1 [batch, 256, 256, ngf]
        GeneratorRow(2, relu, kernel_size=3),  # encoder_2 [batch, 128, 128, ngf * 2]
        GeneratorRow(4, relu, kernel_size=3),  # encoder_3 [batch, 64, 64, ngf * 4]
    ),
    block=(
        GeneratorRow(4, identity, kernel_size=3, stride=1, dropout=0.5),  # block_N/layer_1
        GeneratorRow(4, relu, kernel_size=3, stride=1),  # block_N/layer_2
    ),
    decoder=(
        GeneratorRow(2, identity, kernel_size=3),  # decoder_3 [batch, 128, 128, ngf * 2]
        GeneratorRow(1, relu, kernel_size=3),  # decoder_2 [batch, 256, 256, ngf]
        GeneratorRow(None, relu, kernel_size=7, stride=1, norm=False),  # decoder_1 [.., channels]
    ),
)
DISCRIMINATOR = (  # receptive field 70x70
    DiscriminatorRow(1, norm=False),  # layer_1 [batch, 128, 128, ndf]
    DiscriminatorRow(2),  # layer_2 [batch, 64, 64, ndf * 2]
    DiscriminatorRow(4),  # layer_3 [batch, 32, 32, ndf * 4]
    DiscriminatorRow(8, stride=1),  # layer_4 [batch, 31, 31, ndf * 8]
)  # layer_5 [batch, 30, 30, 1]: logits
PIXEL_DISCRIMINATOR = (  # receptive field 1x1
    DiscriminatorRow(1, stride=1, kernel_size=1, norm=False),  # layer_1 [batch, 256, 256, ndf]
    DiscriminatorRow(2, stride=1, kernel_size=1),  # layer_2 [batch, 256, 256, ndf * 2]
)  # layer_3 [batch, 256, 256, 1]: logits
PATCH_WIDTHS = {16: (1, 2), 34: (1, 2, 4), 70: (1, 2, 4, 8), 142: (1, 2, 4, 8, 8),
                286: (1, 2, 4, 8, 8, 8)}  # receptive field -> rows' widths; the last has stride 1


def num_halvings(generator, crop_size):
    """How often a generator halves its image: a U-Net as often as it can."""
    return 2 if generator == "resnet" else (crop_size & -crop_size).bit_length() - 1


def generator_rows(generator, crop_size, bottleneck_norm=False):
    """The table of a generator. A U-Net has fewer or more of its middle layers by size; old models
    have a norm on its innermost encoder layer too."""
    if generator == "resnet":
        return RESNET._replace(num_blocks=9 if crop_size > 128 else 6)
    middle = num_halvings(generator, crop_size) - 5
    encoder = (*UNET_ENCODER[:4], *UNET_ENCODER[4:5] * middle,
               UNET_ENCODER[-1]._replace(norm=bottleneck_norm))
    return GeneratorRows(encoder, (*UNET_DECODER[:1] * middle, *UNET_DECODER[3:]),
                         skips=generator == "unet")


def discriminator_rows(patch_size):
    """The table of the discriminator whose logits see patch_size x patch_size pixels."""
    if patch_size == 1:
        return PIXEL_DISCRIMINATOR
    *widths, last = PATCH_WIDTHS[patch_size]
    rows = [DiscriminatorRow(width, norm=width > 1) for width in widths]
    return (*rows, DiscriminatorRow(last, stride=1))


def map_size(size, rows):
    """Height of a discriminator's logits for images of a height; below 1 there are none."""
    for row in (*rows, rows[-1]._replace(stride=1)):
        size = (size + 2 * ((row.kernel_size - 1) // 2) - row.kernel_size) // row.stride + 1
    return size


def apply_row(x, row, channels, layers, dropout_key, number, upward=False):
    """A generator's layer: [batch, height, width, in] -> smaller by its stride, upward larger."""
    x = row.activation(x)
    if upward and row.stride > 1:
        x = layers.deconv(x, channels, row.kernel_size)
    else:
        x = layers.conv(x, channels, row.kernel_size, row.stride)
    x = layers.norm(x) if row.norm else x
    if row.dropout and dropout_key is not None:
        x = dropout(x, row.dropout, dropout_key, number)
    return x


def create_generator(inputs, out_channels, ngf, rows, layers, dropout_key=None):
    """[batch, height, width, channels] -> [batch, height, width, out_channels] -1..1, float32.

    All layers compute in the inputs' type; variables and the norms' statistics are float32. Height
    and width are multiples of 2**num_halvings. dropout_key: DrawKey; None: no dropout.
    """
    skips, x = [], inputs
    for number, row in enumerate(rows.encoder, 1):
        with tf.variable_scope(f"encoder_{number}"):
            x = apply_row(x, row, ngf * row.width, layers, dropout_key, number)
        skips.append(x)

    x = relu(x) if rows.num_blocks else x
    for number in range(1, rows.num_blocks + 1):
        residual = x
        for part, row in enumerate(rows.block, 1):
            with tf.variable_scope(f"block_{number}/layer_{part}"):
                residual = apply_row(residual, row, ngf * row.width, layers, dropout_key, number)
        x += residual

    for number, row in zip(range(len(rows.decoder), 0, -1), rows.decoder):
        if rows.skips and number < len(rows.decoder):
            x = tf.concat([x, skips[number - 1]], axis=3)
        with tf.variable_scope(f"decoder_{number}"):
            channels = out_channels if row.width is None else ngf * row.width
            x = apply_row(x, row, channels, layers, dropout_key, number, upward=True)
    return tf.tanh(tf.cast(x, tf.float32))


def create_discriminator(pairs, ndf, rows=DISCRIMINATOR, norm=batchnorm):
    """PatchGAN: [batch, height, width, channels] -> DiscriminatorOutput; each logit judges a part.

    pairs: inputs and targets as one image, or targets alone.
    """
    def padded_conv(x, channels, kernel_size, stride):
        """Convolution with one pixel of padding on every side, as the authors' code."""
        around = (kernel_size - 1) // 2
        return conv(pad(x, around, around), channels, kernel_size, stride, padding="VALID")

    x, features = pairs, []
    for number, row in enumerate(rows, 1):
        with tf.variable_scope(f"layer_{number}"):
            x = padded_conv(x, ndf * row.width, row.kernel_size, row.stride)
            x = lrelu(norm(x) if row.norm else x)
        features.append(x)
    with tf.variable_scope(f"layer_{len(rows) + 1}"):
        logits = padded_conv(x, 1, rows[-1].kernel_size, stride=1)
    return DiscriminatorOutput(tf.cast(logits, tf.float32), tuple(features))


# --------------------------------------------------------------------------------------------------
# Losses and training step (paper, sections 3.1 to 3.3)
# --------------------------------------------------------------------------------------------------

AVERAGE_DECAY = 0.99
AVERAGE_NAMES = (  # in checkpoints, in the order of Losses
    "discriminator_loss/Mean/ExponentialMovingAverage",
    "generator_loss/Mean/ExponentialMovingAverage",
    "generator_loss/Mean_1/ExponentialMovingAverage",
    "generator_loss/Mean_2/ExponentialMovingAverage")
CUTOUT_SIZE = 0.5  # of the image's side (Zhao et al. 2020)
TRANSLATION = 0.125


class Losses(NamedTuple):
    """The losses, or their moving averages; each [] float32, or the list [] where a model has
    none."""

    discrim_loss: Any = []
    gen_loss_GAN: Any = []
    gen_loss_L1: Any = []
    gen_loss_feature: Any = []


class Tower(NamedTuple):
    """One batch's way forward and back."""

    outputs: Any  # [batch, crop_size, crop_size, channels] -1..1
    predict_real: Any  # [batch, height, width, 1] 0..1, or [] without a discriminator
    predict_fake: Any
    losses: Losses
    gradients: tuple  # of the trainable variables, in their order


class GradientNorms(NamedTuple):
    """L2 norms of the networks' gradients, each [] float32, or [] without that network."""

    discrim: Any = []
    gen: Any = []


class Model(NamedTuple):
    """What training runs and shows."""

    outputs: Any  # as in Tower
    predict_real: Any
    predict_fake: Any
    losses: Losses  # this step's
    norms: GradientNorms
    averages: Losses  # over about the last 100 steps
    lr: Any  # [] float32: this step's learning rate
    gradients: list  # (gradient, variable) of both networks
    train: Any  # op: both networks' step, averages, step counter


def present(values):
    """Name -> value of the Losses or Norms that a model has."""
    return {name: value for name, value in values._asdict().items() if not isinstance(value, list)}


def logits_loss(logits, label, gan_loss):
    """How far logits are from a label 0..1 (1 real, 0 generated), one value per logit."""
    if gan_loss == "lsgan":  # Mao et al., arXiv 1611.04076
        return tf.square(logits - label)
    if gan_loss == "hinge":  # Lim and Ye, arXiv 1705.02894
        return tf.nn.relu(1 - (2 * label - 1) * logits)
    # -label * log(sigmoid(x)) - (1 - label) * log(1 - sigmoid(x)), by softplus: right far out too
    return label * tf.nn.softplus(-logits) + (1 - label) * tf.nn.softplus(logits)


def discriminator_loss(real_logits, fake_logits, gan_loss="vanilla", label_smoothing=0.0):
    """Mean distance of real pairs from 1 and generated ones from 0; smoothing is one-sided
    (Salimans et al., arXiv 1606.03498)."""
    return tf.reduce_mean(logits_loss(real_logits, 1 - label_smoothing, gan_loss)
                          + logits_loss(fake_logits, 0.0, gan_loss))


def generator_gan_loss(fake_logits, gan_loss="vanilla"):
    """Mean distance of generated pairs from 1; with hinge the mean of -logits."""
    if gan_loss == "hinge":
        return -tf.reduce_mean(fake_logits)
    return tf.reduce_mean(logits_loss(fake_logits, 1.0, gan_loss))


def l1_loss(targets, outputs):
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(tf.cast(targets - outputs, tf.float32)))


def feature_loss(real_features, fake_features):
    """Mean over layers of the L1 loss between features (Wang et al., arXiv 1711.11585)."""
    losses = [l1_loss(real, fake) for real, fake in zip(real_features, fake_features)]
    return tf.add_n(losses) / len(losses)


def jitter_colour(images, brightness, saturation, contrast):
    """Adds brightness [batch]; multiplies the distance from a pixel's grey by saturation [batch],
    from an image's mean by contrast [batch]."""
    brightness, saturation, contrast = (draws[:, tf.newaxis, tf.newaxis, tf.newaxis]
                                        for draws in (brightness, saturation, contrast))
    x = images + brightness
    grey = tf.reduce_mean(x, axis=3, keepdims=True)
    x = (x - grey) * saturation + grey
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    return (x - mean) * contrast + mean


def translate_images(images, offsets):
    """Moves each image [batch, height, width, channels] by offsets [batch, 2] int32: down and
    right; what comes in is 0."""
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        sources = tf.range(size) - offsets[:, axis - 1, tf.newaxis]  # [batch, size]
        inside = tf.cast((sources >= 0) & (sources < size), images.dtype)
        images = tf.gather(images, tf.clip_by_value(sources, 0, size - 1), axis=axis,
                             batch_dims=1)
        images *= tf.expand_dims(inside[..., tf.newaxis], 3 - axis)
    return images


def cutout_mask(centres, size):
    """[batch, height, width, 1]: 0 in a square hole around centres [batch, 2] 0..1, which may lie
    at the edge; 1 elsewhere. size: [2] height and width."""
    outside = []
    for axis in (0, 1):
        side = tf.cast(size[axis], tf.float32)
        place = tf.range(side) - tf.floor(centres[:, axis, tf.newaxis] * (side + 1))
        outside.append((place < -CUTOUT_SIZE * side / 2) | (place >= CUTOUT_SIZE * side / 2))
    mask = outside[0][:, :, tf.newaxis] | outside[1][:, tf.newaxis, :]
    return tf.cast(mask[..., tf.newaxis], tf.float32)


def diffaugment(pair, key):
    """Colour, translation and cutout (Zhao et al., arXiv 2006.10738, "DiffAugment").

    pair: images that belong together, each [batch, height, width, channels] -1..1: all get the
    same draws. Differs from the paper: real and generated pairs of a step draw alike.
    """
    shape = tf.shape(pair[0])
    draws = draw_uniform(key, 0, shape[0], [7])  # [batch, 7]
    furthest = tf.round(TRANSLATION * tf.cast(shape[1:3], tf.float32))
    offsets = tf.cast(tf.floor(draws[:, 3:5] * (2 * furthest + 1)) - furthest, tf.int32)
    mask = cutout_mask(draws[:, 5:7], shape[1:3])
    return [mask * translate_images(
        jitter_colour(images, draws[:, 0] - 0.5, 2 * draws[:, 1], draws[:, 2] + 0.5), offsets)
            for images in pair]


def learning_rate(options, step, decay_steps):
    """The rate [] float32 of the step after `step` [] int64 steps.

    decay_steps: where it begins to fall and where it would reach 0, in steps.
    """
    if options.lr_decay == "none":
        return tf.constant(options.lr, tf.float32)
    first, last = decay_steps
    share = tf.clip_by_value(tf.cast(step - first, tf.float64) / (last - first), 0, 1)
    factor = 1 - share if options.lr_decay == "linear" else (1 + tf.cos(math.pi * share)) / 2
    return tf.cast(options.lr * factor, tf.float32)


def average_losses(losses, step, finite):
    """Moving averages as Losses; reading them updates them. step: [] int64, steps taken.

    The first loss is the first average, and each step's share is what an average that had begun at
    0, divided by the weight of its steps, would give it. A step that is not finite has none.
    """
    share = (1 - AVERAGE_DECAY) / (1 - tf.pow(AVERAGE_DECAY, tf.cast(step, tf.float32)))
    updated = {}
    for (name, loss), stored_name in zip(losses._asdict().items(), AVERAGE_NAMES):
        if name in present(losses):
            average = tf.get_variable(stored_name, [], use_resource=True, trainable=False,
                                      initializer=tf.constant_initializer(math.nan))
            before = average.read_value()
            after = tf.where(tf.math.is_nan(before), loss, before + share * (loss - before))
            updated[name] = tf.assign(average, tf.where(finite, after, before))
    return Losses(**updated)


def apply_gradients(network, gradients, lr, beta1):
    """The op of one Adam step, under the name that checkpoints know: NETWORK_train/beta1_power."""
    pairs = [pair for pair in gradients if pair[1].op.name.startswith(f"{network}/")]
    with tf.name_scope(f"{network}_train/"):
        return tf.train.AdamOptimizer(lr, beta1).apply_gradients(pairs)


def discriminate(examples, targets, options, key):
    """The discriminator's DiscriminatorOutput of pairs of examples' inputs and some targets."""
    pair = [targets] if options.unconditional else [examples.inputs, targets]
    pair = diffaugment(pair, key) if options.diffaugment else pair
    with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE):
        pairs = tf.cast(tf.concat(pair, axis=3), options.precision)
        return create_discriminator(pairs, options.ndf,
                                    discriminator_rows(options.patch_size),
                                    choose_norm(options.norm))


def create_tower(examples, options, key):
    """The way of a batch forward through both networks and back, as Tower.

    With --gan_weight 0 there is no discriminator.
    """
    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE):
        outputs = create_generator(
            tf.cast(examples.inputs, options.precision), examples.targets.shape[3], options.ngf,
            generator_rows(options.generator, options.crop_size, options.bottleneck_norm),
            choose_layers(options), None if options.no_dropout else key)
    losses = Losses(gen_loss_L1=l1_loss(examples.targets, outputs))
    gen_loss = options.l1_weight * losses.gen_loss_L1
    if options.gan_weight == 0:
        gradients = tf.gradients(gen_loss, tf.trainable_variables("generator/"))
        return Tower(outputs, [], [], losses, tuple(gradients))

    with tf.name_scope("real_discriminator"):
        real = discriminate(examples, examples.targets, options, key)
    with tf.name_scope("fake_discriminator"):
        fake = discriminate(examples, outputs, options, key)
    losses = losses._replace(
        discrim_loss=discriminator_loss(real.logits, fake.logits, options.gan_loss,
                                        options.label_smoothing),
        gen_loss_GAN=generator_gan_loss(fake.logits, options.gan_loss))
    gen_loss += options.gan_weight * losses.gen_loss_GAN
    if options.feature_weight > 0:
        losses = losses._replace(gen_loss_feature=feature_loss(real.features, fake.features))
        gen_loss += options.feature_weight * losses.gen_loss_feature
    gradients = (*tf.gradients(options.discrim_weight * losses.discrim_loss,
                               tf.trainable_variables("discriminator/")),
                 *tf.gradients(gen_loss, tf.trainable_variables("generator/")))
    return Tower(outputs, tf.sigmoid(real.logits), tf.sigmoid(fake.logits), losses, gradients)


def accumulate_gradients(examples, options, key):
    """`create_tower` of a batch in parts of batch_size, one after the other: only one part's layers
    are in memory at a time. Losses and gradients are the means over all images."""
    size, total = options.batch_size, tf.shape(examples.numbers)[0]

    def one_part(first):
        """Images from `first` on: their Tower, what it has per image, its share of the means."""
        part = Examples(*(tensor[first:first + size] for tensor in examples))
        done = create_tower(part, options, key._replace(first=first))
        share = tf.cast(tf.shape(part.numbers)[0], tf.float32) / tf.cast(total, tf.float32)
        means = [share * mean for mean in tf.nest.flatten((done.losses, done.gradients))]
        return done, tf.nest.flatten(done[:3]), means

    def next_part(first, arrays, sums):
        """Loop body: writes and adds a part's."""
        _, images, means = one_part(first)
        arrays = [array.write(first // size, value) for array, value in zip(arrays, images)]
        return first + size, arrays, [one + other for one, other in zip(sums, means)]

    done, images, sums = one_part(0)  # the first by itself: it makes the variables
    arrays = [tf.TensorArray(tf.float32, (total + size - 1) // size, infer_shape=False,
                             element_shape=[None, *value.shape[1:]]).write(0, value)
              for value in images]
    _, arrays, sums = tf.while_loop(lambda first, *_: first < total, next_part,
                                    [tf.constant(size), arrays, sums], parallel_iterations=1)
    losses, gradients = tf.nest.pack_sequence_as((done.losses, done.gradients), sums)
    outputs = tf.nest.pack_sequence_as(done[:3], [array.concat() for array in arrays])
    return Tower(*outputs, losses, gradients)


def create_model(examples, options, decay_steps=None):
    """Both networks, their losses and one training step, as a Model. decay_steps: learning_rate's.

    The generator learns from the discriminator as it was before this step's update, as in the
    authors' code: all gradients are computed before anything is applied. Where a loss or gradient
    is not finite nothing is applied and only the step counter goes on.
    """
    global_step = tf.train.get_or_create_global_step()
    steps_taken = tf.identity(global_step)  # read once: nothing can see it half way
    build = accumulate_gradients if options.grad_accumulation > 1 else create_tower
    done = build(examples, options, DrawKey(options.seed, steps_taken))
    networks = ["discriminator"] * (options.gan_weight > 0) + ["generator"]
    variables = [variable for name in networks for variable in tf.trainable_variables(f"{name}/")]
    gradients = list(zip(done.gradients, variables))
    norms = GradientNorms(*([] if name not in networks else tf.linalg.global_norm(
        [gradient for gradient, variable in gradients if variable.op.name.startswith(f"{name}/")])
                    for name in ("discriminator", "generator")))
    # a norm is finite where all of its gradients are: one pass over them, which Adam's dwarfs
    finite = tf.reduce_all(tf.math.is_finite(
        tf.stack([*present(done.losses).values(), *present(norms).values()])))

    lr = learning_rate(options, steps_taken, decay_steps)

    def update():
        """Both networks' Adam steps, then the averaged generator's."""
        updates = [apply_gradients(name, gradients, lr, options.beta1) for name in networks]
        if options.ema_generator > 0:  # follows more closely at first: weights start from noise
            with tf.control_dependencies(updates):
                ema = tf.train.ExponentialMovingAverage(options.ema_generator, steps_taken + 1)
                updates.append(ema.apply(tf.trainable_variables("generator/")))
        with tf.control_dependencies(updates):
            return tf.constant(True)

    with tf.control_dependencies([tf.cond(finite, update, lambda: tf.constant(False))]):
        step = tf.assign(global_step, steps_taken + 1)
    averages = average_losses(done.losses, step, finite)
    train_op = tf.group(step, *tf.nest.flatten(averages))
    return Model(*done[:4], norms, averages, lr, gradients, train_op)


# --------------------------------------------------------------------------------------------------
# Images and summaries
# --------------------------------------------------------------------------------------------------

PNG_LEVEL = 1  # of zlib: a quarter of 6's time for files a tenth larger (docs/benchmarks.md)
SSIM_SIZE = 11  # pixels; with its sigma the window of Wang et al. 2004
SSIM_SIGMA = 1.5


class DisplayImages(NamedTuple):
    """What a person looks at, for each image of a batch."""

    inputs: Any
    outputs: Any
    targets: Any = []  # [] where there are none


class HealthStats(NamedTuple):
    """What tells after a step whether training is alive."""

    discrim_loss: Any  # [] float32, averaged; [] without a discriminator
    gen_norm: Any  # [] float32: L2 norm of the generator's gradients
    output_contrast: Any  # [] float32: standard deviation within an image, of -1..1
    target_contrast: Any
    outputs: Any  # [batch, 8, 8, channels] -1..1
    targets: Any


class Metrics(NamedTuple):
    """How close outputs are to targets, for each image of a batch: [batch] float32."""

    l1: Any  # mean absolute difference, images in 0..1
    psnr: Any  # dB
    ssim: Any  # Wang et al. 2004: RGB, Gaussian 11x11 window, sigma 1.5


def to_rgb(images, partners, lab_colorization, is_lightness):
    """A network's images -1..1 [..., channels] -> 0..1 [..., 1 or 3]. Lab: colour is shown with
    its partner's lightness, lightness in grey."""
    if lab_colorization and not is_lightness:
        return join_lab(partners, images)
    return (images + 1) / 2


def scale_back(images, size):
    """[..., height, width, channels] -> [..., *size, channels]; the same point stays in the middle,
    which it does not with v1's bicubic interpolation."""
    return tf.compat.v2.image.resize(images, size, method="bicubic", antialias=True)


def create_images(examples, outputs, options):
    """-1..1 in the model's channels -> DisplayImages of uint8 [batch, height, width, 1 or 3]."""
    inputs, targets, lab = examples.inputs, examples.targets, options.lab_colorization
    forward = options.which_direction == "AtoB"
    # without targets there is no lightness to show a colour input with: the middle of the range
    partners = tf.zeros_like(inputs[..., :1]) if isinstance(targets, list) else targets
    shown = [to_rgb(inputs, partners, lab, is_lightness=forward),
             to_rgb(outputs, inputs, lab, is_lightness=not forward)]
    if not isinstance(targets, list):
        shown.append(to_rgb(targets, inputs, lab, is_lightness=not forward))
    if options.aspect_ratio != 1.0:
        size = [options.crop_size, round(options.crop_size * options.aspect_ratio)]
        shown = [scale_back(batch, size) for batch in shown]
    return DisplayImages(*(tf.image.convert_image_dtype(image, tf.uint8, saturate=True)
                      for image in shown))


def encode_images(images):
    """DisplayImages of uint8 -> DisplayImages of PNG files, each [batch] bytes."""
    encode = functools.partial(tf.image.encode_png, compression=PNG_LEVEL)
    return DisplayImages(*(tf.map_fn(encode, batch, fn_output_signature=tf.string)
                      for batch in images if not isinstance(batch, list)))


def blur(images):
    """Means under SSIM's window: [batch, height, width, channels] -> 10 less high and wide.

    The window exp(-(x**2 + y**2) / (2 sigma**2)) is a product of one in x and one in y: 22
    multiplications per value in place of `tf.image.ssim`'s 121, half of its time.
    """
    window = np.exp(-((np.arange(SSIM_SIZE) - SSIM_SIZE // 2) / SSIM_SIGMA) ** 2 / 2)
    window = (window / window.sum()).astype(np.float32)
    for shape in ([SSIM_SIZE, 1, 1, 1], [1, SSIM_SIZE, 1, 1]):
        kernel = np.tile(window.reshape(shape), [1, 1, images.shape[3], 1])
        images = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "VALID")
    return images


def structural_similarity(x, y):
    """SSIM [batch] of images 0..1 [batch, height, width, channels] (Wang et al. 2004)."""
    means_x, means_y, means_xy, means_squares = tf.split(
        blur(tf.concat([x, y, x * y, x * x + y * y], axis=0)), 4)
    product, squares = means_x * means_y, means_x**2 + means_y**2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * (means_xy - product) + c2) / (means_squares - squares + c2)
    return tf.reduce_mean(luminance * structure, axis=[1, 2, 3])


def create_metrics(images):
    """Metrics of uint8 outputs against targets."""
    outputs, targets = (tf.cast(batch, tf.float32) / 255
                        for batch in (images.outputs, images.targets))
    return Metrics(tf.reduce_mean(tf.abs(outputs - targets), axis=[1, 2, 3]),
                   tf.image.psnr(outputs, targets, max_val=1.0),
                   structural_similarity(outputs, targets))


def create_health_stats(examples, model):
    """The HealthStats of a step."""
    pairs = model.outputs, examples.targets
    contrasts = (tf.reduce_mean(tf.math.reduce_std(batch, axis=[1, 2])) for batch in pairs)
    thumbnails = (tf.image.resize(batch, [8, 8], method="area") for batch in pairs)
    return HealthStats(model.averages.discrim_loss, model.norms.gen, *contrasts, *thumbnails)


def create_summaries(model, images, histograms):
    """TensorBoard's summary of a step, [] bytes; histograms of all weights only if asked for."""
    for name, batch in zip(DisplayImages._fields, images):
        tf.summary.image(name, batch)
    if "discrim_loss" in present(model.losses):
        for name in ("predict_real", "predict_fake"):
            prediction = tf.image.convert_image_dtype(getattr(model, name), tf.uint8)
            tf.summary.image(name, prediction)
    for name, loss in {**present(model.averages), "learning_rate": model.lr}.items():
        tf.summary.scalar(name, loss)
    if histograms:
        for gradient, variable in model.gradients:
            tf.summary.histogram(f"{variable.op.name}/values", variable)
            # one that is not finite has no histogram: TensorFlow would stop the step
            finite = tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))
            tf.summary.histogram(f"{variable.op.name}/gradients", finite)
    return tf.summary.merge_all()


def save_images(output_dir, names, images):
    """Writes images/NAME-{inputs,outputs,targets}.png for a batch of encoded DisplayImages."""
    for kind, batch in zip(DisplayImages._fields, images):
        for name, contents in zip(names, batch):
            (output_dir / "images" / f"{name}-{kind}.png").write_bytes(contents)


def write_page(output_dir, title, summary, names, kinds=DisplayImages._fields, notes=()):
    """Writes index.html: a summary, notes and a row per name with its images from images/."""
    template = Path(__file__).with_name("tools") / "page.html"
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


# --------------------------------------------------------------------------------------------------
# Checkpoints: TensorFlow's, those of affinelayer's scripts, and .pict files
# --------------------------------------------------------------------------------------------------

OLD_NAMES = {  # in the oldest of affinelayer's scripts, which had no biases -> today's
    "/conv/filter": "/conv2d/kernel", "/deconv/filter": "/conv2d_transpose/kernel",
    "/batchnorm/offset": "/batch_normalization/beta",
    "/batchnorm/scale": "/batch_normalization/gamma"}
EMA_SUFFIX = "/ExponentialMovingAverage"
PICT_MU = 255  # of the mu-law that spaces the values of a .pict file
PICT_SIZE = 256  # number of these values


class StoredVariables(NamedTuple):
    """The variables of a file, under today's names."""

    path: str
    arrays: dict  # name -> array

    @property
    def shapes(self):
        """Name -> list."""
        return {name: list(array.shape) for name, array in self.arrays.items()}


def read_pict(path):
    """Name -> float32 array of a .pict file (docs/formats.md). Raises UserError."""
    contents, chunks = Path(path).read_bytes(), []
    try:
        while contents:
            size, = struct.unpack_from(">I", contents)
            chunks.append(contents[4:4 + size])
            contents = contents[4 + size:]
        index, table, codes = chunks
        table, codes = np.frombuffer(table, "<f4"), np.frombuffer(codes, np.uint8)
        shapes = {str(entry["name"]): entry["shape"] for entry in json.loads(index)}
        sizes = [math.prod(shape) for shape in shapes.values()]
        if len(table) != PICT_SIZE or sum(sizes) != len(codes) or not np.isfinite(table).all():
            raise ValueError("sizes or values do not fit")
        parts = np.split(codes, np.cumsum(sizes)[:-1])
        return {name: table[part].reshape(shape)
                for (name, shape), part in zip(shapes.items(), parts)}
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a whole .pict file ({error}): fetch it again") from None


def encode_pict(arrays):
    """A .pict file's bytes: name -> array, each weight as the nearest of 256 values, which lie
    evenly on the mu-law curve between the smallest and the largest weight."""
    arrays = dict(sorted(arrays.items()))
    low = min(float(array.min()) for array in arrays.values())
    high = max(float(array.max()) for array in arrays.values())
    scale = max(-low, high) or 1.0
    ends = np.sign([low, high]) * np.log1p(PICT_MU * np.abs([low, high]) / scale)
    curve = np.linspace(*ends, PICT_SIZE)
    table = (np.sign(curve) * np.expm1(np.abs(curve)) / PICT_MU * scale).astype("<f4")
    middles = (table[1:].astype(float) + table[:-1]) / 2
    codes = [np.searchsorted(middles, array.ravel()).astype(np.uint8) for array in arrays.values()]
    index = [{"name": name, "shape": list(array.shape)} for name, array in arrays.items()]
    chunks = json.dumps(index).encode(), table.tobytes(), np.concatenate(codes).tobytes()
    return b"".join(struct.pack(">I", len(chunk)) + chunk for chunk in chunks)


def checkpoint_step(path):
    """Step of a checkpoint by the name of one of its files: model-12.index -> 12; else -1."""
    match = re.fullmatch(r"model-(\d+)([._].*)?", Path(path).name)
    return int(match[1]) if match else -1


def list_checkpoints(folder):
    """Prefixes of a folder's checkpoints, whole or not, the newest first: those that its state file
    names, in whatever place it was written, then all others by step."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:  # empty or no text
        state = None
    named = [*state.all_model_checkpoint_paths, state.model_checkpoint_path] if state else []
    names = [Path(path).name for path in reversed(named)]
    files = [*Path(folder).glob("model-*.index"), *Path(folder).glob("model-*.data-*")]
    steps = {checkpoint_step(path) for path in files} - {-1}
    names += [f"model-{step}" for step in sorted(steps, reverse=True)]
    return [str(Path(folder, name)) for name in dict.fromkeys(names)]


def open_variables(path):
    """The StoredVariables of a checkpoint's prefix or a .pict file, all of them read: TensorFlow
    compares each with its checksum. Raises UserError."""
    if path.endswith(".pict"):
        return StoredVariables(path, read_pict(path))
    try:
        reader = tf.train.load_checkpoint(path)
        arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(f"{path} is not a whole checkpoint "
                        f"({describe_error(error)}): name another") from None
    for old, new in OLD_NAMES.items():
        arrays = {name.replace(old, new): array for name, array in arrays.items()}
    return StoredVariables(path, arrays)


def open_checkpoint(checkpoint):
    """The StoredVariables of what --checkpoint names: a .pict file, a checkpoint's prefix, or a
    folder's newest that is whole; those that are not are named. Raises UserError."""
    if not os.path.isdir(checkpoint):
        return open_variables(str(checkpoint))
    paths = list_checkpoints(checkpoint)
    for number, path in enumerate(paths):
        try:
            return open_variables(path)
        except UserError as error:
            if len(paths) == 1:
                raise
            last = number == len(paths) - 1
            warn(f"{str(error).removesuffix(': name another')}"
                 + ("" if last else ", trying the one before"))
    raise UserError(f"--checkpoint {checkpoint} holds no{' whole' if paths else ''} checkpoint: "
                    + ("restore one, or train again" if paths else "train first"))


def read_step(stored):
    """Number of training steps that StoredVariables have behind them."""
    return int(stored.arrays.get("global_step", 0))


def infer_options(shapes):
    """The options that names and shapes of a model's variables tell, as a dict."""
    def kernel(scope):
        """[height, width, in, out] of a layer's convolution; None where there is no layer."""
        for kind in ("conv2d/kernel", "separable_conv2d/pointwise_kernel"):
            if f"{scope}/{kind}" in shapes:
                return shapes[f"{scope}/{kind}"]
        height, width, out, channels = shapes.get(f"{scope}/conv2d_transpose/kernel", [None] * 4)
        return out and [height, width, channels, out]

    shapes = {name: shape for name, shape in shapes.items()
              if len(shape) == 4 or not name.endswith("kernel")}
    first, last = kernel("generator/encoder_1"), kernel("generator/decoder_1")
    if not first or not last:
        return {}
    depth = next(number for number in range(1, 99) if not kernel(f"generator/encoder_{number + 1}"))
    norms = [name for name in ("batch", "instance")
             if f"generator/encoder_2/{name}_normalization/gamma" in shapes]
    inferred = {"ngf": first[3], "norm": (*norms, "none")[0], "lab_colorization": first[2] != 3,
            "separable_conv": "generator/encoder_1/separable_conv2d/depthwise_kernel" in shapes,
            "upsample": "resize" if "generator/decoder_2/conv2d/kernel" in shapes else "deconv"}
    if first[2] != 3:
        inferred["which_direction"] = "AtoB" if first[2] == 1 else "BtoA"
    if kernel("generator/block_1/layer_1"):
        blocks = 9 if kernel("generator/block_9/layer_1") else 6
        inferred.update(generator="resnet", crop_size=256 if blocks == 9 else 128,
                    bottleneck_norm=False)
    else:
        innermost = f"generator/encoder_{depth}/batch_normalization/gamma"
        inferred.update(generator="unet" if last[2] == 2 * first[3] else "encoder_decoder",
                    crop_size=2**depth, bottleneck_norm=innermost in shapes)
    layer = kernel("discriminator/layer_1")
    if layer:
        count = next(number for number in range(2, 99)
                     if not kernel(f"discriminator/layer_{number + 1}"))
        patches = {len(widths): size for size, widths in PATCH_WIDTHS.items()}
        inferred.update(ndf=layer[3], unconditional=layer[2] == last[3],
                    patch_size=1 if layer[0] == 1 else patches.get(count - 1))
    return inferred


def explain_mismatch(shapes, options):
    """What in the options does not fit a file's variables, such as "--ngf 32?"."""
    inferred = infer_options(shapes)
    if inferred and generator_rows(inferred["generator"], inferred["crop_size"]) == generator_rows(
            inferred["generator"], options.crop_size):
        inferred["crop_size"] = options.crop_size  # several sizes have one table
    unlike = [name for name, value in inferred.items() if getattr(options, name) != value]
    if not unlike:
        return "it is another model's"
    name, value = unlike[0], inferred[unlike[0]]
    text = f"--{name} {value}"
    if isinstance(value, bool):
        text = f"--{name}" if value else f"no --{name}"
    return f"{text}? its options say {getattr(options, name)}"


def summarize_names(names):
    """Names of variables in one line; those that others carry along are counted."""
    along = ("Adam", "Adam_1", "moving_mean", "moving_variance", EMA_SUFFIX[1:])
    ends = [name.rsplit("/", 1)[-1] for name in names]
    counts = collections.Counter(end for end in ends if end in along)
    return ", ".join([name for name, end in sorted(zip(names, ends)) if end not in along]
                     + [f"{count} of {end}" for end, count in sorted(counts.items())])


def load_variables(sess, stored, variables, options):
    """Loads variables from StoredVariables; returns the names that these lack and those left over.

    In test and export an averaged generator takes the place of the last. Raises UserError where a
    shape differs or a weight of the generator is missing.
    """
    training, shapes = options.mode == "train", stored.shapes
    has_biases = any(name.endswith("/bias") for name in shapes)
    values, used, missing = {}, set(), []
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        source = name if training or options.ema_generator == 0 else name + EMA_SUFFIX
        if source not in shapes:
            source = name.removesuffix(EMA_SUFFIX)
        if source in shapes:
            if shapes[source] != shape:
                raise UserError(f"--checkpoint {stored.path} has {name} of shape {shapes[source]}, "
                                f"the model {shape}: {explain_mismatch(shapes, options)}")
            values[variable] = stored.arrays[source]
            used |= {name, source}
        elif name.endswith("/bias") and not has_biases:
            values[variable] = np.zeros(shape, np.float32)
        elif name.startswith("generator/") and variable in tf.trainable_variables():
            raise UserError(f"--checkpoint {stored.path} lacks {name}: "
                            f"{explain_mismatch(shapes, options)}")
        else:
            missing.append(name)
    # in one run: each new set of fetches has TensorFlow go through the whole graph
    sess.run([variable.initializer for variable in values],
             {variable.initializer.inputs[1]: value for variable, value in values.items()})
    left = [name for name in shapes if name not in used and name != "global_step" and (
        training or name.startswith("generator/") and "Adam" not in name
        and not name.endswith(EMA_SUFFIX))]
    return missing, left


class CheckpointManager:
    """The checkpoints of a training folder: model-STEP, the newest of them, and epoch-N."""

    def __init__(self, sess, options, start_step):
        """Makes the ops. Those before start_step are taken over."""
        self.sess, self.options, self.output_dir = sess, options, Path(options.output_dir)
        self.saver = tf.train.Saver(max_to_keep=0)  # which ones are kept is decided here
        steps = (checkpoint_step(path) for path in self.output_dir.glob("model-*.index"))
        self.steps = sorted(step for step in steps if 0 <= step <= start_step)

    def write(self, name):
        """Writes the files of one checkpoint. Raises TrainingError, and leaves no part of it."""
        try:
            self.saver.save(self.sess, str(self.output_dir / name), write_meta_graph=False,
                            write_state=False)
        except (OSError, ValueError, tf.errors.OpError) as error:
            for path in [*self.output_dir.glob(f"{name}.*"), *self.output_dir.glob(f"{name}_*")]:
                remove(path)
            reason = describe_error(error)
            kept = f"model-{self.steps[-1]} is whole" if self.steps else "none is there"
            raise TrainingError(f"cannot save {name} in {self.output_dir} ({reason}); {kept}: "
                                "make room and go on with --resume") from None

    def save(self, step, epoch=None):
        """Writes model-STEP, then the state file that names it, then takes the oldest away.
        epoch: where it is also to be kept for good, as epoch-N."""
        self.write(f"model-{step}")
        if not (self.output_dir / "options.json").exists():  # the folder has been taken away
            write_run_options(self.options)
        self.steps = sorted({*self.steps, step})[-self.options.keep_checkpoints:]
        names = [f"model-{step}" for step in self.steps]
        tf.train.update_checkpoint_state(os.path.abspath(self.output_dir), names[-1], names)
        for path in self.output_dir.glob("model-*"):  # also what a killed process left half done
            if checkpoint_step(path) not in (-1, *self.steps):
                remove(path)
        if epoch is not None:
            self.write(f"epoch-{epoch}")


def restore(sess, stored, variables, options):
    """`load_variables`, with a line of what is missing on either side."""
    missing, left = load_variables(sess, stored, variables, options)
    for text, names in (("not in the checkpoint, starts anew", missing),
                        ("in the checkpoint, not used", left)):
        if names:
            say(f"{text}: {summarize_names(names)}")


# --------------------------------------------------------------------------------------------------
# Watching over a run
# --------------------------------------------------------------------------------------------------

MONITOR_FREQ = 50  # steps between two HealthStats
MONITOR_WINDOW = 20  # HealthStats that must agree: a thousand steps


def chance_loss(options):
    """Loss of a discriminator that has learnt nothing, and the lowest that there is."""
    label = 1 - options.label_smoothing
    if options.gan_loss == "lsgan":  # least over x of (x - label)**2 + x**2
        return label**2 / 2, 0.0
    if options.gan_loss == "hinge":
        return 2.0, 0.0
    rest = 1 - label
    blind = -label * math.log(label / 2) - (2 - label) * math.log(1 - label / 2)  # 2 ln 2 for 1
    return blind, label * math.log(1 / label) + (rest * math.log(1 / rest) if rest else 0)


def diagnose(signs, options):
    """What all of the last MONITOR_WINDOW HealthStats show is wrong: name -> advice, a sentence.
    A property of the run alone: nothing is drawn, stored or changed."""
    if len(signs) < MONITOR_WINDOW:
        return {}
    problems, stretch = {}, f"for {MONITOR_WINDOW * MONITOR_FREQ} steps"
    blind, lowest = chance_loss(options)
    if options.gan_weight > 0:
        shares = [(sign.discrim_loss - lowest) / (blind - lowest) for sign in signs]
        if max(shares) < 0.01:
            problems["discriminator won"] = (
                f"discrim_loss is at {lowest:.2g} {stretch}: the discriminator always wins and "
                "teaches little; try --diffaugment, --label_smoothing 0.1 or a smaller --ndf")
        if max(abs(share - 1) for share in shares) < 0.005:
            problems["discriminator dead"] = (
                f"discrim_loss is at {blind:.3g} {stretch}: the discriminator tells nothing; try a "
                "larger --ndf, --discrim_weight 1, a lower --lr or --norm instance")
    outputs, targets = (np.concatenate([getattr(sign, name) for sign in signs])
                        for name in ("outputs", "targets"))
    spreads = [float(batch.std(axis=0).mean()) for batch in (outputs, targets)]
    if all(sign.output_contrast < 0.01 < 0.05 < sign.target_contrast for sign in signs):
        problems["outputs constant"] = (
            f"the generator's images have one colour {stretch}; try a lower --lr, --norm "
            "instance, or start again with another --seed")
    elif spreads[0] < 0.15 * spreads[1] and spreads[1] > 0.02:
        problems["outputs alike"] = (
            f"the generator gives nearly the same image for every input {stretch}; try "
            "--generator unet, a larger --l1_weight, a lower --lr; do inputs and targets fit?")
    weight = options.l1_weight + options.gan_weight + options.feature_weight
    if max(sign.gen_norm for sign in signs) < 1e-6 * weight:
        problems["gradients vanished"] = (
            f"the generator's gradients are below {1e-6 * weight:.1g} {stretch}: it learns nothing "
            "any more; try a lower --lr, --norm batch or instance, or another --gan_loss")
    return problems


class TrainingMonitor:
    """Looks at a run's HealthStats and reports each problem once."""

    def __init__(self, options):
        """Nothing has been seen."""
        self.options, self.signs, self.reported = options, [], set()

    def look(self, signs):
        """Takes the HealthStats of a step; returns the sentences that are new."""
        self.signs = [*self.signs[1 - MONITOR_WINDOW:], signs]
        problems = diagnose(self.signs, self.options)
        new = [text for name, text in problems.items() if name not in self.reported]
        self.reported.update(problems)
        return new


class NotFiniteError(TrainingError):
    """Too many steps in a row were not finite."""


def name_not_finite(results):
    """What of a step's losses and gradients is not finite, such as "gen_loss_L1 is nan"; "" where
    all is. The graph asks the same and applies no such step."""
    values = {**present(results.losses),
              **{f"gradients of {name}": value for name, value in present(results.norms).items()}}
    return ", ".join(f"{name} {value}" for name, value in values.items()
                     if not math.isfinite(value))


def reading_errors():
    """The errors of a step whose images cannot be read."""
    errors = tf.errors
    return (errors.InvalidArgumentError, errors.NotFoundError, errors.DataLossError,
            errors.FailedPreconditionError, errors.PermissionDeniedError, errors.UnknownError)


class Guard:
    """Counts the steps that were not applied, and ends the run where they are too many."""

    def __init__(self, options, paths):
        """paths: of the images, in the order of their numbers."""
        self.options, self.paths = options, paths
        self.in_row, self.unreadable = 0, {}

    def is_good(self, step, results):
        """Whether a step was finite; says where not. Raises NotFiniteError."""
        what = name_not_finite(results)
        self.in_row = self.in_row + 1 if what else 0
        if what:
            names = ", ".join(printable(self.paths[number]) for number in results.numbers)
            text = f"step {step} is not finite ({what}), its images: {names}"
            if self.in_row >= self.options.max_bad_steps:
                raise NotFiniteError(f"{text}; it is the last of {self.in_row} in a row")
            warn(f"{text}; it is not applied")
        return not what

    def find_numbers(self, step):
        """The images of a training step, as [batch] int64 indices into the paths."""
        with tf.Graph().as_default() as graph:
            numbers = indices_of_step(step, len(self.paths), self.options)
            with tf.Session(graph=graph, config=session_config()) as sess:
                return sess.run(numbers)

    def name_unreadable(self, error, numbers):
        """Looks at the images of these numbers, among which are those that the error is of, and
        names them. Raises UserError where they end the run, TrainingError where it was something
        else."""
        try:
            os.listdir(self.options.input_dir)
        except OSError as reason:
            raise UserError(f"--input_dir {self.options.input_dir} cannot be read any more "
                            f"({reason.strerror}): bring it back") from None
        suspects, decode = [self.paths[number] for number in numbers], create_decoder()
        # decoded again, whatever size and time say: the medium may have changed
        checks = check_shapes({path: check_file(path, decode) for path in suspects}, self.options)
        bad = {path: check.reason for path, check in checks.items() if check.reason}
        if not bad:
            raise TrainingError(describe_error(error))
        for path in bad.keys() - self.unreadable.keys():
            warn(f"{printable(path)} cannot be used: {bad[path]}")
        self.unreadable.update(bad)
        refuse_bad(len(self.unreadable), len(self.paths), self.options)


def advise_memory(options):
    """What to lower where memory is too small, and by how much."""
    if options.mode != "train":
        return "close other programs, or take a model of a smaller --ngf"
    if options.batch_size > 1:
        half = (options.batch_size + 1) // 2
        return (f"--batch_size {half} --grad_accumulation {2 * options.grad_accumulation} takes "
                "about half of it for a step as large")
    smaller = max(options.crop_size // 64 * 32, 32)
    share = (smaller / options.crop_size) ** 2
    return (f"--ngf {max(options.ngf // 2, 1)} --ndf {max(options.ndf // 2, 1)} takes about half "
            f"of it, --crop_size {smaller} about {share:.0%}")


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
    watch: bool
    save: bool
    keep: bool  # for good


class Fetches(NamedTuple):
    """What one session.run brings back; [] is nothing."""

    train: Any
    losses: Any
    norms: Any
    numbers: Any
    averages: Any = []
    lr: Any = []
    signs: Any = []
    summary: Any = []
    images: Any = []


class Progress(NamedTuple):
    """Where a run stands."""

    epoch: int  # from 1
    step: int  # in the epoch, from 1
    rate: float  # images per second, in this run
    remaining: float  # seconds; infinite without an end


class Interrupt:
    """Remembers the first Ctrl-C, SIGTERM or lost terminal, so that the loop ends after its step; a
    second one ends the program at once, in the middle of a step too."""

    def __init__(self):
        """Starts listening. What is ignored, as by nohup or behind a script's &, stays ignored."""
        self.signal = None
        numbers = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]
        numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        # Python's own handlers wait for TensorFlow to end a step; this byte comes at once
        receiver, self.sender = socket.socketpair()
        self.sender.setblocking(False)
        self.previous_fd = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
        self.previous = {number: signal.signal(number, self.receive) for number in numbers}
        threading.Thread(target=self.listen, args=[receiver], daemon=True).start()

    def receive(self, number, _frame):
        """Remembers a signal."""
        self.signal = self.signal or number

    def listen(self, receiver):
        """In its own thread: ends the program at the second signal."""
        with receiver:
            count = 0
            for byte in iter(lambda: receiver.recv(1), b""):
                count += byte[0] in self.previous
                if count == 1:
                    warn("stops after this step and saves; once more stops at once")
                if count == 2:
                    warn("stopped at once; --resume goes on from the last checkpoint")
                    os._exit(128 + byte[0])

    def close(self):
        """Restores the handlers that were there before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.previous_fd)
        self.sender.close()


def due_after(step, stop_step, epoch_steps, options):
    """What is due after the step-th step (from 1): every so many steps, and after the last."""
    def at(freq):
        """Whether something of this frequency is due."""
        return freq > 0 and (step % freq == 0 or step == stop_step)
    keep_freq = options.keep_every_epochs * epoch_steps
    keep = keep_freq > 0 and step % keep_freq == 0
    save = at(options.save_freq) or keep or step == stop_step
    return Due(progress=at(options.progress_freq), summary=at(options.summary_freq),
               display=at(options.display_freq), trace=at(options.trace_freq),
               watch=step % MONITOR_FREQ == 0, save=save, keep=keep)


def find_stop_step(options, start_step, epoch_steps):
    """The step to stop after: counts are totals with --resume, else additional to start_step."""
    steps = ENDLESS
    if options.max_epochs is not None:
        steps = options.max_epochs * epoch_steps
    if options.max_steps is not None:
        steps = options.max_steps
    return steps if options.resume else start_step + steps


def with_totals(options, start_step, stop_step, epoch_steps):
    """The options of a run with its counts as totals, as --resume will read them. Raises
    UserError where the learning rate would begin to fall after the end."""
    first = options.decay_from if options.lr_decay != "none" else None
    if options.decay_from_epoch is not None:
        first = options.decay_from_epoch * epoch_steps
    if first is not None and not options.resume:
        first += start_step
    if first is None and options.lr_decay != "none":
        first = (start_step + stop_step) // 2
    if first is not None and first >= stop_step:
        raise UserError(f"--decay_from: the rate would fall from step {first}, which is not before "
                        f"the end at step {stop_step}: take an earlier step")
    options = with_options(options, decay_from=first, decay_from_epoch=None)
    if start_step > 0 and not options.resume and stop_step < ENDLESS:
        options = with_options(options, max_steps=stop_step, max_epochs=None)
    return options


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
    return "\n".join([head, *(f"{name} {value:.6g}" for name, value in present(averages).items())])


class Events:
    """TensorBoard's file, written at once: its own writer does so in a thread, whose failures are
    nobody's."""

    def __init__(self, output_dir, graph, start_step):
        """Opens a new file. TensorBoard drops what an earlier process wrote after start_step."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.writer = tf.io.TFRecordWriter(str(output_dir / name))
        self.add(file_version="brain.Event:2")
        self.add(graph_def=graph.as_graph_def().SerializeToString())
        self.add(start_step + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def add(self, step=0, **what):
        """Writes an event."""
        event = tf.Event(wall_time=time.time(), step=step, **what)
        self.writer.write(event.SerializeToString())
        self.writer.flush()

    def close(self):
        """Closes the file."""
        self.writer.close()


def read_rows(path):
    """The rows of a CSV file as dicts, as far as they are text; [] where there is none."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        return [*csv.DictReader(file)]


class RunLog:
    """What a run shows: log.csv, TensorBoard's events, images, the page, the progress. Whatever
    of it fails is said once and let go: training goes on."""

    def __init__(self, options, paths, start_step, stop_step, loss_names, graph):
        """Keeps an earlier log's rows up to start_step, as one run would have written them."""
        self.options, self.output_dir = options, Path(options.output_dir)
        self.names, self.failed = unique_names(paths), set()
        self.columns = ("step", "epoch", *loss_names, "lr")
        self.summary, self.notes = f"starts after step {start_step}", []
        self.events, self.size = None, None
        ends = stop_step if stop_step < ENDLESS else None
        self.bar = create_progress_bar(ends, start_step, "step")
        with self.harmless("log.csv"):
            self.start_log(start_step)
        with self.harmless("TensorBoard's events"):
            self.events = Events(self.output_dir, graph, start_step)

    @contextlib.contextmanager
    def harmless(self, what):
        """Turns a failure inside into a warning."""
        try:
            yield
        except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
            if what not in self.failed:
                warn(f"cannot write {what} ({describe_error(error)}), training goes on")
            self.failed.add(what)

    def start_log(self, start_step):
        """Writes log.csv's head and the rows of an earlier log."""
        path, text = self.output_dir / "log.csv", io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        freq = self.options.progress_freq
        try:
            for row in read_rows(path):
                step = int(row["step"]) if (row["step"] or "").isdecimal() else math.inf
                # the last step of an earlier part has a row because it was the last
                if step < start_step or step == start_step and freq and step % freq == 0:
                    writer.writerow(row)
        except (KeyError, csv.Error):
            path.replace(path.with_suffix(".csv.old"))
            warn(f"{path} is not as it was written, it is {path.name}.old now")
        write_atomic(path, text.getvalue().encode())
        self.size = path.stat().st_size

    def show(self, step, due, results, progress):
        """Shows what is due after a step."""
        averages, losses = results.averages, ""
        if due.progress:
            show_progress(self.bar, progress, averages)
            losses = ", ".join(f"{name} {value:.4g}" for name, value in present(averages).items())
            self.summary = f"step {step}, epoch {progress.epoch}: {losses}"
            with self.harmless("log.csv"):
                self.add_row({"step": step, "epoch": progress.epoch, **{
                    name: f"{value:.6g}" for name, value in
                    {**present(averages), "lr": results.lr}.items()}})
        if due.summary and self.events:
            with self.harmless("TensorBoard's events"):
                self.events.add(step, summary=tf.Summary.FromString(results.summary))
        if due.display:
            shown = [f"{step:08d}-{self.names[number]}" for number in results.numbers]
            with self.harmless("images"):
                save_images(self.output_dir, shown, results.images)
        if due.display or due.save:
            self.write_page()

    def add_row(self, row):
        """Appends a row to log.csv, after the last that is whole."""
        if self.size is None:  # it could not be begun
            return
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(row)
        with open(self.output_dir / "log.csv", "r+b") as file:
            file.truncate(self.size)
            file.seek(self.size)
            file.write(text.getvalue().encode())
        self.size += len(text.getvalue().encode())

    def note(self, text):
        """Says a line, and has the page say it."""
        warn(text)
        self.notes.append(text)
        self.write_page()

    def write_page(self):
        """Writes index.html, the newest images first."""
        ending = "-outputs.png"
        with self.harmless("index.html"):
            names = [path.name[:-len(ending)] for path in (self.output_dir / "images").iterdir()
                     if path.name.endswith(ending)]
            write_page(self.output_dir, self.output_dir.name, self.summary,
                       sorted(names, reverse=True), notes=self.notes)

    def close(self):
        """Ends what is open."""
        self.bar.close()
        with self.harmless("TensorBoard's events"):
            if self.events:
                self.events.close()


def write_run_options(options):
    """Writes a run's options.json, for --resume and for those who use the model."""
    write_json(Path(options.output_dir) / "options.json",
               with_options(options, resume=False)._asdict())


def prepare_run(options):
    """Fills the training folder; with --overwrite takes the files of the run in it away. Raises
    UserError where one has begun there meanwhile."""
    output_dir = Path(options.output_dir)
    if not options.resume and not options.overwrite:
        refuse_run(output_dir)
    if options.overwrite:
        for path in find_results(output_dir, "train"):
            remove(path)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    write_run_options(options)


def create_fetches(examples, model, options):
    """The Fetches of a step at which all is due."""
    images = create_images(examples, model.outputs, options)
    summary = create_summaries(model, images, options.summary_histograms)
    return Fetches(model.train, model.losses, model.norms, examples.numbers, model.averages,
                   model.lr, create_health_stats(examples, model), summary, encode_images(images))


def due_fetches(show, due):
    """Of the Fetches of everything what is due: nothing else is computed."""
    return show._replace(averages=show.averages if due.progress else [],
                         lr=show.lr if due.progress else [],
                         signs=show.signs if due.watch else [],
                         summary=show.summary if due.summary else [],
                         images=show.images if due.display else [])


def train(options):
    """Trains a model from pairs; returns the exit code.

    Where too many steps in a row are not finite it goes back to the last checkpoint, once.
    """
    paths = list_images(options)
    try:
        return train_from(options, paths)
    except NotFiniteError as error:
        if not list_checkpoints(options.output_dir):
            raise TrainingError(f"{error}: lower --lr; there is no checkpoint to go back to") \
                from None
        warn(f"{error}: going back to the last checkpoint, once")
    stored = read_options(options.output_dir)  # with its counts as totals
    try:
        return train_from(Options(**{**options._asdict(), **stored, "resume": True}), paths)
    except NotFiniteError as error:
        raise TrainingError(f"{error}, and again so after going back: lower --lr, or take these "
                            "images out; --resume goes on from the last checkpoint") from None


def train_from(options, paths):
    """Builds the graph, loads what there is to load and runs the loop; returns the exit code."""
    epoch_steps = steps_per_epoch(len(paths), examples_per_step(options))
    output_dir, stored = Path(options.output_dir), None
    if options.resume and list_checkpoints(options.output_dir):
        stored = open_checkpoint(options.output_dir)
    elif options.checkpoint:
        stored = open_checkpoint(options.checkpoint)
    start_step = read_step(stored) if stored else 0
    stop_step = find_stop_step(options, start_step, epoch_steps)
    if start_step >= stop_step:
        say(f"nothing to do: {start_step} of {stop_step} steps are done")
        return 0
    options = with_totals(options, start_step, stop_step, epoch_steps)
    if options.precision == "auto":
        options = with_options(options, precision=fast_precision())
    for name, value in sorted(options._asdict().items()):
        say(f"{name} = {value}")
    say(f"examples count = {len(paths)}")

    with tf.Graph().as_default() as graph:
        tf.set_random_seed(options.seed)
        examples = create_examples(paths, options, first_step=start_step)
        model = create_model(examples, options, (options.decay_from, stop_step))
        show = create_fetches(examples, model, options)
        skip = tf.assign_add(tf.train.get_global_step(), 1).op
        initialize = tf.global_variables_initializer()
        weights = sum(math.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
        say(f"parameter_count = {weights}")
        with tf.Session(graph=graph, config=session_config()) as sess:
            say(f"devices = {device_types(sess)}")
            sess.run(initialize)
            if stored:
                say(f"loading model from {stored.path}")
                restore(sess, stored, tf.global_variables(), options)
                stored = None  # its arrays are as large as the model
            with lock_folder(output_dir):  # nothing is made or taken away before all fits
                prepare_run(options)
                checkpoint_manager = CheckpointManager(sess, options, start_step)
                graph.finalize()
                log = RunLog(options, paths, start_step, stop_step, present(show.losses), graph)
                with contextlib.closing(log):
                    return run_training(sess, (show, skip), checkpoint_manager, log, paths, options,
                                        (start_step, stop_step))


def run_training(sess, ops, checkpoint_manager, log, paths, options, steps):
    """The training loop, from one of the two `steps` to the other; returns the exit code.

    ops: Fetches, and the op that counts a step without taking it.
    """
    (show, skip), (start_step, stop_step) = ops, steps
    epoch_steps = steps_per_epoch(len(paths), examples_per_step(options))
    guard, watch = Guard(options, paths), TrainingMonitor(options)
    owes_save, owes_epoch = False, None
    first_done = time.time()  # the first step is not timed: it also sets TensorFlow up
    with contextlib.closing(Interrupt()) as interrupt:
        for step in range(start_step + 1, stop_step + 1):
            due = due_after(step, stop_step, epoch_steps, options)
            try:
                results = run_step(sess, show, due, step, skip, guard, log)
            except (UserError, TrainingError, OSError, tf.errors.OpError):
                if step - 1 > start_step:  # the steps before it are worth keeping
                    checkpoint_manager.save(step - 1)
                raise
            first_done = time.time() if step == start_step + 1 else first_done
            good = results is not None and guard.is_good(step, results)
            progress = measure_progress(step, stop_step, epoch_steps, len(paths),
                                        step - start_step - 1, time.time() - first_done)
            log.bar.update()
            if good:
                log.show(step, due, results, progress)
            if good and due.watch:
                for text in watch.look(results.signs):
                    log.note(text)
            # the step of a checkpoint is a good one, to go back to
            owes_save = owes_save or due.save
            owes_epoch = progress.epoch if due.keep else owes_epoch
            if owes_save and (good or step == stop_step) or interrupt.signal:
                checkpoint_manager.save(step, owes_epoch)
                owes_save, owes_epoch = False, None
            if interrupt.signal:
                log.write_page()
                log.bar.close()
                say(f"stopped and saved after step {step} in {options.output_dir}; "
                    "go on with the same command and --resume")
                return 128 + interrupt.signal
    if guard.in_row >= stop_step - start_step:
        raise TrainingError("no step was finite and none is applied: lower --lr and the weights "
                            "of the losses, and look at the images")
    say(f"trained to step {stop_step}, model in {options.output_dir}")
    return 0


def run_step(sess, show, due, step, skip, guard, log):
    """Takes one training step and returns what is due as Fetches; None where its images cannot
    be read and it is only counted."""
    fetches = due_fetches(show, due)
    try:
        return run_traced(sess, fetches, step, log) if due.trace else sess.run(fetches)
    except reading_errors() as error:
        guard.name_unreadable(error, guard.find_numbers(step))
        sess.run(skip)
        return None


def run_traced(sess, fetches, step, log):
    """`sess.run` with a timeline of the step."""
    from tensorflow.python.client import timeline  # has no public name
    metadata = tf.RunMetadata()
    traced = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    results = sess.run(fetches, options=traced, run_metadata=metadata)
    with log.harmless("timelines"):
        log.events.add(step, tagged_run_metadata=tf.summary.TaggedRunMetadata(
            tag=f"step_{step}", run_metadata=metadata.SerializeToString()))
        trace = timeline.Timeline(metadata.step_stats).generate_chrome_trace_format()
        write_atomic(log.output_dir / f"trace-{step}.json", trace.encode())
    return results


def show_progress(bar, progress, averages):
    """Shows progress on the bar, or as lines where there is none."""
    if bar.disable:
        say(progress_lines(progress, averages))
    else:
        bar.set_postfix_str(", ".join([f"epoch {progress.epoch}", f"{progress.rate:.1f} image/s"]
                                      + [f"{name} {value:.3g}" for name, value
                                         in present(averages).items()]))


# --------------------------------------------------------------------------------------------------
# Mode test
# --------------------------------------------------------------------------------------------------

PIXELS_AT_ONCE = 2**21  # of images being translated: their layers take a gigabyte at ngf 64


def create_outputs(inputs, options, per_image=False, key=None):
    """The generator as test and export use it: [batch, height, width, channels] ->
    [batch, height, width, channels]. key: DrawKey of --test_dropout."""
    _, channels = pair_channels(options.lab_colorization, options.which_direction)
    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE):
        return create_generator(
            tf.cast(inputs, options.precision), channels, options.ngf,
            generator_rows(options.generator, options.crop_size, options.bottleneck_norm),
            choose_layers(options, per_image), key if options.test_dropout else None)


def prepare_test(options):
    """Fills the test folder and takes the results of an earlier test out of it."""
    output_dir = Path(options.output_dir)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    for path in find_results(output_dir, "test"):
        remove(path)
    write_json(output_dir / "options.json", options._asdict())


def kernels_in(precision):
    """A custom getter for `tf.variable_scope`: the kernels are of the type that the layers compute
    in. What all images share is converted once, at loading: 1.2 times as many images/s in
    bfloat16."""
    def get(getter, name, *arguments, dtype=None, **more):
        """The variable."""
        dtype = precision if name.endswith("kernel") else dtype
        return getter(name, *arguments, dtype=dtype, **more)
    return get


def test(options):
    """Translates every image of --input_dir once; returns the exit code.

    Images pass through the network one at a time, whatever --batch_size is: the norm sees that
    image alone, and rounding, which depends on the batch, is always the same.
    """
    options = with_options(options, batch_size=1, grad_accumulation=1)
    paths = list_images(options)
    stored = open_checkpoint(options.checkpoint)
    say(f"loading model from {stored.path}")
    with tf.Graph().as_default() as graph:
        examples = create_examples(paths, options)
        with tf.variable_scope("", custom_getter=kernels_in(options.precision)):
            outputs = create_outputs(examples.inputs, options,
                                     key=DrawKey(options.seed, examples.numbers[0]))
        images = create_images(examples, outputs, options)
        metrics = [] if options.no_targets else create_metrics(images)
        fetches = (examples.numbers, encode_images(images), metrics)
        with tf.Session(graph=graph, config=session_config()) as sess:
            restore(sess, stored, tf.global_variables(), options)
            stored = None  # its arrays are as large as the model
            graph.finalize()
            with lock_folder(Path(options.output_dir)):
                prepare_test(options)
                return run_test(sess.make_callable(fetches), options, paths)


def generate_images(generate, names, options):
    """Translates and saves every image; yields its number and metrics as it is done, or the error
    of reading it.

    translate: function that gives the next image's number, encoded DisplayImages and Metrics. While
    one image's files are packed and written another is in the network. No more of them are in
    memory than are worked on.
    """
    def do_next(_):
        """One image."""
        try:
            (number,), images, metrics = generate()
        except reading_errors() as error:
            return error
        save_images(Path(options.output_dir), [names[number]], images)
        return number, [float(value) for value, in metrics]

    at_once = max(1, min(os.cpu_count() or 1, PIXELS_AT_ONCE // options.crop_size**2))
    pool = multiprocessing.pool.ThreadPool(at_once)
    try:
        yield from pool.imap_unordered(do_next, names)
    finally:  # those at work finish: the session outlives them
        pool.terminate()
        pool.join()


def run_test(generate, options, paths):
    """The test loop; returns the exit code. translate: of `generate_images`."""
    output_dir, guard, start = Path(options.output_dir), Guard(options, paths), time.time()
    all_names, rows, failure = unique_names(paths), {}, None
    with create_progress_bar(len(paths), 0, "image") as bar, \
            contextlib.closing(generate_images(generate, all_names, options)) as results:
        for result in results:
            if isinstance(result, tf.errors.OpError):
                failure = result
                if options.on_bad_image == "fail":
                    break
                continue
            number, metrics = result
            rows[number] = metrics
            bar.update()
    seconds = time.time() - start
    if failure:  # they come nearly in order: an early end need not look at a hundred thousand
        missing = [number for number in range(len(paths)) if number not in rows]
        guard.name_unreadable(failure,
                              missing[:1000] if options.on_bad_image == "fail" else missing)
    numbers = sorted(rows)  # they are done in any order
    names, metrics = [all_names[number] for number in numbers], [rows[number] for number in numbers]
    shown, kinds = "", DisplayImages._fields
    if options.no_targets:
        kinds = kinds[:2]
    else:
        means = write_metrics(output_dir, names, metrics)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
    write_page(output_dir, output_dir.name, f"{len(names)} images {shown}", names, kinds)
    say(f"wrote {len(names)} of {len(paths)} images to {output_dir / 'index.html'}, "
        f"{len(names) / seconds:.1f} image/sec")
    if shown:
        say(shown)
    return 0


def write_metrics(output_dir, names, metrics):
    """Writes metrics.csv (a row per image) and metrics.json (means), returns the means."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *Metrics._fields])
    writer.writerows([name, *(f"{value:.6g}" for value in row)]
                     for name, row in zip(names, metrics))
    write_atomic(output_dir / "metrics.csv", os.fsencode(text.getvalue()))
    means = dict(zip(Metrics._fields, (float(value) for value in np.mean(metrics, axis=0))))
    write_json(output_dir / "metrics.json", {"count": len(metrics), **means})
    return means


# --------------------------------------------------------------------------------------------------
# Mode export: writing, loading back, comparing
# --------------------------------------------------------------------------------------------------

EXPORT_TOLERANCE = {  # largest difference from the checkpoint's own image, in 8-bit levels
    "saved_model": 1, "affinelayer": 1, "graph": 1, "tflite": 2, "pict": 64}
LEAST_SIZE = 8  # of a padded image: a residual block can reflect 2x2 values, not 1x1
MOST_LONG = 16  # times as long as wide: longer images are scaled to fewer pixels
JPEG_TOLERANCE = 12  # more, where the result is a JPEG file: one level may become another step


class Endpoints(NamedTuple):
    """What goes into an exported graph and what comes out; the names are stable."""

    images: Any  # "input": [batch, height, width, 3] sRGB 0..1
    results: Any  # "output": the same
    encoded: Any = None  # "input_bytes": PNG or JPEG files
    encoded_results: Any = None  # "output_bytes"


def mirror_pad(images, multiple):
    """Pads [batch, height, width, channels] on all sides to multiples of a size, mirrored as often
    as it takes; returns it with top and left."""
    starts = []
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        total = tf.maximum((size + multiple - 1) // multiple * multiple, LEAST_SIZE)
        starts.append((total - size) // 2)
        place = tf.math.floormod(tf.range(total) - starts[-1], 2 * size)
        images = tf.gather(images, tf.minimum(place, 2 * size - 1 - place), axis=axis)
    return images, *starts


def generate(images, options, size=None):
    """The model as others use it: sRGB 0..1 [batch, height, width, 3] -> the same, of any size.

    size: height and width to scale to first (as test does: what the network sees, not the sRGB).
    """
    lab, direction = options.lab_colorization, options.which_direction
    inputs = to_model(images, lab, direction)
    inputs = inputs if size is None else tf.image.resize(inputs, size, method="area")
    multiple = 2**num_halvings(options.generator, options.crop_size)
    _, height, width, _ = inputs.shape.as_list()
    fits = None not in (height, width) and height % multiple == width % multiple == 0 \
        and min(height, width) >= LEAST_SIZE
    padded, top, left = (inputs, 0, 0) if fits else mirror_pad(inputs, multiple)
    outputs = create_outputs(padded, options, per_image=True, key=DrawKey(options.seed, 0, None))
    shown = to_rgb(outputs, padded, lab, is_lightness=direction == "BtoA")
    if lab and direction == "BtoA":
        shown = tf.image.grayscale_to_rgb(shown)
    height, width = tf.unstack(tf.shape(inputs)[1:3])
    return shown if fits else shown[:, top:top + height, left:left + width]


def encode(image, filetype):
    """sRGB [height, width, 3], clipped to 0..1 -> bytes of a PNG or JPEG file."""
    pixels = tf.image.convert_image_dtype(image, tf.uint8, saturate=True)
    return {"png": tf.image.encode_png, "jpeg": tf.image.encode_jpeg}[filetype](pixels)


def generate_encoded(contents, options):
    """`generate` from the bytes of a PNG or JPEG file [] to those of another, of the same size.

    The shorter side is scaled to crop_size, at which the model has learnt, and the result back.
    """
    image, crop_size = decode_image(contents), options.crop_size
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    # training has squeezed images that are aspect_ratio times as wide as high into squares
    sides = size / [1.0, options.aspect_ratio]
    scale = crop_size / tf.maximum(tf.reduce_min(sides), tf.reduce_max(sides) / MOST_LONG)
    scaled = tf.maximum(tf.round(sides * scale), 1)
    # what is a square but for one of its pixels is one
    is_square = tf.abs(scaled - crop_size) * tf.reduce_min(size) <= crop_size
    scaled = tf.cast(tf.where(is_square, tf.fill([2], float(crop_size)), scaled), tf.int32)
    result = generate(image[tf.newaxis], options, scaled)
    return encode(scale_back(result[0], tf.shape(image)[:2]), options.output_filetype)


def build_any_size(options):
    """The Endpoints of SavedModel and frozen graph."""
    images = tf.placeholder(tf.float32, [None, None, None, 3], "input")
    results = tf.identity(generate(images, options), "output")
    encoded = tf.placeholder(tf.string, [None], "input_bytes")
    encoded_results = tf.map_fn(lambda contents: generate_encoded(contents, options), encoded,
                                fn_output_signature=tf.string)
    return Endpoints(images, results, encoded, tf.identity(encoded_results, "output_bytes"))


def build_one_size(options):
    """The Endpoints of TFLite: one image of the model's size."""
    images = tf.placeholder(tf.float32, [1, options.crop_size, options.crop_size, 3], "input")
    return Endpoints(images, tf.identity(generate(images, options), "output"))


def build_affinelayer(options):
    """affinelayer's export: from base64 image to base64 image. The collections `inputs` and
    `outputs` hold JSON with the tensors' names."""
    key = tf.placeholder(tf.string, [1])
    encoded = tf.placeholder(tf.string, [1])
    image = decode_image(tf.decode_base64(encoded[0]))[tf.newaxis]
    result = generate(image, options, [options.crop_size, options.crop_size])
    contents = encode(result[0], options.output_filetype)
    result = tf.encode_base64(contents)[tf.newaxis]
    tf.add_to_collection("inputs", json.dumps({"key": key.name, "input": encoded.name}))
    tf.add_to_collection("outputs", json.dumps(
        {"key": tf.identity(key).name, "output": result.name}))
    return Endpoints(None, None, encoded, result)


def write_saved_model(sess, ends, folder):
    """Writes saved_model.pb and variables/ with signatures serving_default and encoded."""
    info = tf.saved_model.build_tensor_info
    signatures = {
        "serving_default": tf.saved_model.build_signature_def(
            {"input": info(ends.images)}, {"output": info(ends.results)},
            tf.saved_model.PREDICT_METHOD_NAME),
        # TensorFlow Serving sends and takes names that end in _bytes as {"b64": ...}
        "encoded": tf.saved_model.build_signature_def(
            {"input_bytes": info(ends.encoded)}, {"output_bytes": info(ends.encoded_results)},
            tf.saved_model.PREDICT_METHOD_NAME)}
    builder = tf.saved_model.Builder(str(folder / "model"))
    builder.add_meta_graph_and_variables(sess, [tf.saved_model.SERVING], signatures)
    builder.save()
    for path in (folder / "model").iterdir():
        path.rename(folder / path.name)
    (folder / "model").rmdir()


def write_affinelayer(sess, _ends, folder):
    """Writes export.meta, export.index, export.data-* and the state file that names them."""
    saver = tf.train.Saver()
    saver.export_meta_graph(str(folder / "export.meta"))
    saver.save(sess, str(folder / "export"), write_meta_graph=False, write_state=False)
    tf.train.update_checkpoint_state(os.path.abspath(folder), "export")


def write_graph(sess, ends, folder):
    """Writes graph.pb: the graph with its weights as constants."""
    outputs = [ends.results.op.name, ends.encoded_results.op.name]
    frozen = tf.graph_util.convert_variables_to_constants(sess, sess.graph.as_graph_def(), outputs)
    write_atomic(folder / "graph.pb", frozen.SerializeToString())


def write_tflite(sess, ends, folder):
    """Writes model.tflite."""
    converter = tf.lite.TFLiteConverter.from_session(sess, [ends.images], [ends.results])
    write_atomic(folder / "model.tflite", converter.convert())


def write_pict(sess, _ends, folder):
    """Writes model.pict."""
    names = {variable.op.name: variable for variable in tf.trainable_variables("generator/")}
    write_atomic(folder / "model.pict", encode_pict(sess.run(names)))


EXPORTERS = {  # format -> builder, writer, the file to load
    "saved_model": (build_any_size, write_saved_model, "saved_model.pb"),
    "affinelayer": (build_affinelayer, write_affinelayer, "export.meta"),
    "graph": (build_any_size, write_graph, "graph.pb"),
    "tflite": (build_one_size, write_tflite, "model.tflite"),
    "pict": (build_one_size, write_pict, "model.pict")}


def load_export(path):
    """A function from a PNG or JPEG file's bytes to another's, of an export: its folder or one of
    its files. Raises UserError."""
    path = Path(path)
    if path.is_dir():
        found = [path / file for _, _, file in EXPORTERS.values() if (path / file).exists()]
        path = found[0] if found else path
    loaders = {"saved_model.pb": load_graph, ".meta": load_graph, ".pb": load_graph,
               ".tflite": load_tflite, ".pict": load_pict}
    loader = loaders.get(path.name) or loaders.get(path.suffix)
    if loader is None or not path.is_file():
        raise UserError(f"--model {path} is no export: name a folder that --mode export wrote, "
                        "or its .pb, .meta, .tflite or .pict file")
    from google.protobuf.message import DecodeError  # comes with TensorFlow
    try:
        return loader(path)
    except (tf.errors.OpError, DecodeError, OSError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--model {path} cannot be loaded ({describe_error(error)}): "
                        "export it again") from None


def load_graph(path):
    """load_export of saved_model.pb, of export.meta and of a frozen graph."""
    with tf.Graph().as_default() as graph:
        sess = tf.Session(graph=graph, config=session_config())
        if path.suffix == ".meta":
            tf.train.import_meta_graph(str(path)).restore(sess, str(path.with_suffix("")))
            ends = [json.loads(tf.get_collection(name)[0])[name[:-1]]
                    for name in ("inputs", "outputs")]
        elif path.name == "saved_model.pb":
            meta = tf.saved_model.load(sess, [tf.saved_model.SERVING], str(path.parent))
            signature = meta.signature_def["encoded"]
            ends = [signature.inputs["input_bytes"].name, signature.outputs["output_bytes"].name]
        else:
            frozen = tf.GraphDef.FromString(path.read_bytes())
            tf.import_graph_def(frozen, name="")
            ends = ["input_bytes:0", "output_bytes:0"]
        run = sess.make_callable(ends[1], [ends[0]])
    if path.suffix != ".meta":
        return lambda contents: run([contents])[0]

    def run_base64(contents):
        """Through base64 for URLs, without padding, as TensorFlow writes it."""
        result = run([base64.urlsafe_b64encode(contents)])[0]
        return base64.urlsafe_b64decode(result + b"=" * (-len(result) % 4))
    return run_base64


def load_tflite(path):
    """load_export of a TFLite file: any image is scaled to its size and back."""
    with warnings.catch_warnings(), quiet_stderr():
        warnings.simplefilter("ignore")  # that another package will take the interpreter over
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        image = decode_image(contents)
        fed = tf.image.resize(image, source["shape"][1:3], method="area"), tf.shape(image)
        result = tf.placeholder(tf.float32, [1, None, None, 3])
        size = tf.placeholder(tf.int32, [2])
        encoded = encode(scale_back(result[0], size), "png")
        sess = tf.Session(graph=graph, config=session_config())

    def run(image_bytes):
        """In, through the interpreter, out."""
        pixels, shape = sess.run(fed, {contents: image_bytes})
        interpreter.set_tensor(source["index"], pixels[np.newaxis])
        interpreter.invoke()
        return sess.run(encoded, {result: interpreter.get_tensor(target["index"]),
                                  size: shape[:2]})
    return run


def load_pict(path):
    """load_export of a .pict file: the network is built from what its variables tell."""
    stored = open_variables(str(path))
    defaults = vars(create_parser().parse_args(["--mode", "export"]))
    options = Options(**{**defaults, **MODEL_OPTIONS, **infer_options(stored.shapes),
                         "precision": "float32"})
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        result = generate_encoded(contents, options)
        sess = tf.Session(graph=graph, config=session_config())
        load_variables(sess, stored, tf.global_variables(), options)
        return sess.make_callable(result, [contents])


def draw_example(height, width):
    """An image of waves and edges in all colours, [height, width, 3] uint8."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    waves = [np.sin(20 * x * (1 + y)), np.cos(31 * y), np.sign(np.sin(25 * (x + y)))]
    return np.uint8(127.5 + 127 * np.stack(waves, axis=2))


def checkpoint_results(stored, options, images):
    """What test mode's network makes of images, each uint8 [height, width, 3]: for each
    {file type: a file's bytes}, of the image's size."""
    lab, direction = options.lab_colorization, options.which_direction
    with tf.Graph().as_default() as graph:
        files = []
        for image in images:
            inputs = to_model(tf.constant(image[np.newaxis] / 255, tf.float32), lab, direction)
            inputs = tf.image.resize(inputs, [options.crop_size] * 2, method="area")
            outputs = create_outputs(inputs, options, key=DrawKey(options.seed, 0, None))
            shown = to_rgb(outputs, inputs, lab, is_lightness=direction == "BtoA")
            shown = scale_back(shown[0], image.shape[:2])
            rgb = shown if shown.shape[2] == 3 else tf.image.grayscale_to_rgb(shown)
            files.append({filetype: encode(rgb, filetype) for filetype in ("png", "jpeg")})
        with tf.Session(graph=graph, config=session_config()) as sess:
            restore(sess, stored, tf.global_variables(), options)
            return sess.run(files)


def largest_difference(results, contents):
    """Largest difference in 8-bit levels between a file's bytes and the one of its type."""
    from PIL import Image  # for export alone
    kind = next(kind for kind, sign in SIGNATURES.items() if contents.startswith(sign))
    one, other = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), int)
                  for file in (results[kind], contents))
    return np.abs(one - other).max(), kind


def export(options):
    """Writes a model that stands alone in each --export_format, and proves it: each is loaded back,
    run on an image and compared with the checkpoint's own result. Returns the exit code."""
    options = with_options(options, export_format=[*dict.fromkeys(options.export_format)])
    stored = open_checkpoint(options.checkpoint)
    inferred = infer_options(stored.shapes)
    unlike = [name for name in MODEL_OPTIONS if name not in ("which_direction", "ndf", "patch_size",
              "unconditional") and inferred.get(name, "zero") != getattr(options, name)]
    if "pict" in options.export_format and unlike:
        raise UserError(f"--export_format pict cannot hold --{unlike[0]} "
                        f"{getattr(options, unlike[0])}: choose another format")
    say(f"loading model from {stored.path}")
    output_dir, size = Path(options.output_dir), options.crop_size
    images = [draw_example(size, width) for width in (size, round(size * options.aspect_ratio))]
    results = checkpoint_results(stored, options, images)
    with lock_folder(output_dir):
        for path in output_dir.glob(".export-*"):  # of one that was killed
            remove(path)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output_dir) as folder:
            for name in options.export_format:
                create_verified_export(name, Path(folder) / name, stored, options, images, results)
            for path in find_results(output_dir, "export"):
                remove(path)
            for name in options.export_format:
                for path in (Path(folder) / name).iterdir():
                    path.replace(output_dir / path.name)
            write_json(output_dir / "options.json", options._asdict())
    say(f"exported {stored.path} to {output_dir}: {', '.join(options.export_format)}")
    return 0


def create_verified_export(name, folder, stored, options, images, results):
    """Writes one format into a new folder and compares what it gives for images with results."""
    write_export(name, folder, stored, options)
    # those that take any size know --aspect_ratio, the others take the square
    shape = 1 if EXPORTERS[name][0] is build_any_size else 0
    verify_export(name, folder, results[shape], images[shape])
    if name == "saved_model":
        verify_floats(folder, results[0], images[0])


def write_export(name, folder, stored, options):
    """Writes one format into a new folder."""
    build, write, _ = EXPORTERS[name]
    folder.mkdir()
    with tf.Graph().as_default() as graph:
        ends = build(options)
        with tf.Session(graph=graph, config=session_config()) as sess:
            load_variables(sess, stored, tf.global_variables(), options)
            write(sess, ends, folder)


def check_difference(what, difference, tolerance):
    """Says how far a format is from the checkpoint. Raises TrainingError where too far."""
    say(f"{what}: largest difference from the checkpoint's image {difference:.0f} of 255, "
          f"allowed {tolerance}")
    if difference > tolerance:
        raise TrainingError(f"--export_format {what} gives another image than the checkpoint: "
                            "nothing is written")


def verify_export(name, folder, results, image):
    """Loads one format back and compares its result. Raises TrainingError where it differs."""
    from PIL import Image
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    contents = load_export(folder / EXPORTERS[name][2])(file.getvalue())
    difference, kind = largest_difference(results, contents)
    check_difference(name, difference, EXPORT_TOLERANCE[name] + JPEG_TOLERANCE * (kind == "jpeg"))


def verify_floats(folder, results, image):
    """`verify_export` of the SavedModel's signature serving_default."""
    from PIL import Image
    expected = np.asarray(Image.open(io.BytesIO(results["png"])), np.float32)
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        meta = tf.saved_model.load(sess, [tf.saved_model.SERVING], str(folder))
        signature = meta.signature_def["serving_default"]
        got = sess.run(signature.outputs["output"].name, {
            signature.inputs["input"].name: image[np.newaxis].astype(np.float32) / 255})
    levels = np.floor(np.clip(got[0], 0, 1) * 255.5)  # as convert_image_dtype does
    check_difference("saved_model, floats", np.abs(levels - expected).max(),
                     EXPORT_TOLERANCE["saved_model"])


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def is_valid(action, value):
    """Whether a value is one that an argument of the parser could have given."""
    if value is None or action.nargs == 0:
        return isinstance(value, bool) or value is None and action.default is None
    values = value if action.nargs == "+" else [value]
    if not isinstance(values, (list, tuple)):
        return False
    try:
        made = [(action.type or str)(str(value)) for value in values]
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return made == [*values] and (action.choices is None or {*made} <= {*action.choices})


def read_options(checkpoint):
    """The options of a model as a dict: its options.json, or where there is none (.pict) what its
    variables tell. Raises UserError."""
    folder = Path(checkpoint) if os.path.isdir(checkpoint) else Path(checkpoint).parent
    path = folder / "options.json"
    if str(checkpoint).endswith(".pict") or not path.exists():
        inferred = infer_options(open_checkpoint(checkpoint).shapes)
        if not inferred:
            raise UserError(f"--checkpoint {checkpoint} holds no generator: name another")
        # its half of the pairs and a discriminator are for the command line to say
        unknown = {"which_direction", *DISCRIMINATOR_OPTIONS} - inferred.keys()
        return {name: value for name, value in {**MODEL_OPTIONS, **inferred}.items()
                if name not in unknown}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored = {name: stored[name] for name in Options._fields if name in dict(stored)}
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(f"{path} is not readable JSON: restore it or train again") from None
    for action in create_parser()._actions:
        value = stored.get(action.dest)
        if action.dest in stored and not is_valid(action, value):
            raise UserError(f"{path} says {action.dest}: {value}, which --{action.dest} does not "
                            "take: restore it or train again")
    return {**MODEL_OPTIONS, **stored}


def default_dir(input_dir, mode):
    """The folder that a mode uses for a dataset: facades/val, "test" -> facades_test."""
    return f"{Path(os.path.abspath(input_dir)).parent.name or 'pix2pix'}_{mode}"


def default_dirs(values):
    """output_dir and checkpoint of a command line that may leave them out. Raises UserError."""
    mode, input_dir, checkpoint = (values[name] for name in ("mode", "input_dir", "checkpoint"))
    if input_dir is None and (mode != "export" or checkpoint is None):
        other = " or --checkpoint" if mode == "export" else ""
        raise UserError(f"--input_dir{other} is missing: name a folder")
    output_dir = values["output_dir"]
    if output_dir is None and input_dir is None:
        name = Path(os.path.abspath(checkpoint)).name.removesuffix("_train").removesuffix(".pict")
        output_dir = f"{name}_{mode}"
    elif output_dir is None:
        output_dir = default_dir(input_dir, mode)
    if checkpoint is None and mode != "train":
        checkpoint = default_dir(input_dir, "train")
    return {"output_dir": output_dir, "checkpoint": checkpoint}


def read_mode(folder):
    """The --mode that made a folder, by its options.json; None where there is none."""
    path = Path(folder) / "options.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("mode", "train")
    except (ValueError, AttributeError, RecursionError):
        return "train"  # a damaged one is a run's until proven otherwise
    except OSError:
        return None


def holds_run(folder):
    """Whether a folder holds a training run, with its options or without."""
    return read_mode(folder) == "train" or any(Path(folder).glob("model-*.index"))


def refuse_run(output_dir):
    """Raises UserError where a folder holds a run already."""
    if holds_run(output_dir):
        raise UserError(f"--output_dir {output_dir} already holds a run: "
                        "give --resume to go on, --overwrite to replace it, or another folder")


def check_results(options):
    """Raises UserError where results would replace what is no result of the same mode."""
    mode, output_dir = options.mode, Path(options.output_dir)
    if mode != "train" and holds_run(output_dir):
        raise UserError(f"--output_dir {output_dir} holds a training run: choose another")
    if options.checkpoint and (mode == "export" or options.overwrite):
        checkpoint = Path(options.checkpoint).resolve()
        if output_dir.resolve() in (checkpoint, checkpoint.parent):
            raise UserError(f"--checkpoint {options.checkpoint} lies in --output_dir and would be "
                            "replaced: choose another --output_dir")
    if mode == "train" and options.resume and not holds_run(output_dir):
        raise UserError(f"--resume finds no run in {output_dir}: leave it out to start one")
    if mode == "train" and not options.resume and not options.overwrite:
        refuse_run(output_dir)
    foreign = find_results(output_dir, mode) if read_mode(output_dir) != mode else []
    if foreign and not holds_run(output_dir):
        raise UserError(f"{foreign[0]} would be replaced, and no --mode {mode} has written it: "
                        "choose another --output_dir")


def check_folders(options, explicit):
    """Raises UserError where the folders cannot be what the mode needs; makes nothing."""
    for name in ("input_dir", "output_dir", "checkpoint"):
        path = getattr(options, name)
        if path is not None and not path:
            raise UserError(f"--{name} is empty: name a folder")
    for name in ("checkpoint", "output_dir"):
        path = getattr(options, name) or ""
        if set("*?[") & set(path) and options.mode != "test":
            raise UserError(f"--{name} {path} has one of * ? [ in its name, "
                            "which TensorFlow takes for a pattern: rename it")
        if os.fsencode(path).decode(errors="ignore") != path:
            raise UserError(f"--{name} {path} has bytes in its name that are no UTF-8, which "
                            "TensorFlow does not write: rename it")
    if options.mode != "export" and not os.path.isdir(options.input_dir):
        raise UserError(f"--input_dir {options.input_dir} is not a folder: check the path")
    checkpoint = options.checkpoint
    if checkpoint is not None and not os.path.isdir(checkpoint) \
            and not os.path.exists(f"{checkpoint}.index") \
            and not (checkpoint.endswith(".pict") and os.path.isfile(checkpoint)):
        hint = "name a training folder" if "checkpoint" in explicit \
            else "name one with --checkpoint"
        raise UserError(f"--checkpoint {checkpoint} is no folder, checkpoint or .pict file: {hint}")
    output_dir = Path(options.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir} is a file: name a folder")
    if options.mode != "export" and not os.access(options.input_dir, os.R_OK | os.X_OK):
        raise UserError(f"--input_dir {options.input_dir} is not readable: check its permissions")
    existing = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--output_dir {output_dir} lies in a file, {existing}: name a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"--output_dir {output_dir} is not writable: choose another")
    if options.input_dir and Path(options.input_dir).resolve() in (
            output_dir.resolve(), (output_dir / "images").resolve()):
        raise UserError(f"--output_dir {output_dir} would hold the results among the images of "
                        "--input_dir: choose another")
    check_results(options)


def check_combinations(options, explicit):
    """Raises UserError where options make no sense together. What a checkpoint brought along and
    does no harm passes: only what was given is held against the user."""
    size, below = options.crop_size, options.crop_size // 32 * 32
    endless = options.max_steps is None and options.max_epochs is None
    discriminator_only = [name for name in (
        "patch_size", "unconditional", "gan_loss", "feature_weight", "discrim_weight",
        "label_smoothing", "diffaugment") if name in explicit]
    for refused, text in (
        (size % 32, f"--crop_size {size} is no multiple of 32: take {below} or {below + 32}"),
        (options.scale_size < size,
         f"--scale_size {options.scale_size} is below --crop_size {size}: take at least that"),
        (options.bottleneck_norm and (options.generator == "resnet" or options.norm != "batch")
         and "bottleneck_norm" in explicit,
         "--bottleneck_norm needs a U-Net with --norm batch: leave it out"),
        (options.separable_conv and options.padding == "reflect",
         "--padding reflect goes with no --separable_conv: leave one out"),
        (options.no_dropout and options.test_dropout and {"no_dropout", "test_dropout"} & explicit,
         "--test_dropout needs a model with dropout: leave --no_dropout out"),
        (options.gan_weight == 0 and options.l1_weight == 0,
         "--gan_weight 0 and --l1_weight 0 leave nothing to learn: raise one"),
        (options.gan_weight == 0 and discriminator_only and options.mode == "train",
         f"--gan_weight 0 builds no discriminator: leave --{' --'.join(discriminator_only)} out"),
        (options.gan_loss == "hinge" and options.label_smoothing > 0,
         "--label_smoothing needs labels, --gan_loss hinge has none: leave one out"),
        (options.gan_weight > 0 and map_size(size, discriminator_rows(options.patch_size)) < 1,
         f"--patch_size {options.patch_size} is too large for --crop_size {size}: take a smaller"),
        ("none" in options.augment and len(options.augment) > 1,
         "--augment none goes with no other: leave it or them out"),
        (options.lab_colorization and options.which_direction == "BtoA"
         and {"brightness", "contrast"} & {*options.augment},
         "--augment brightness and contrast need lightness in the input: leave them out"),
        (options.lr_decay != "none" and endless and options.mode == "train",
         f"--lr_decay {options.lr_decay} needs an end: give --max_steps, --max_epochs or "
         "--lr_decay none"),
        (options.lr_decay == "none" and {"decay_from", "decay_from_epoch"} & explicit,
         "--decay_from needs a decay: give --lr_decay linear or cosine"),
        ({"decay_from", "decay_from_epoch"} <= explicit,
         "--decay_from and --decay_from_epoch say the same: leave one out"),
        (round(size * options.aspect_ratio) < 11,
         f"--aspect_ratio {options.aspect_ratio} leaves an image less than 11 pixels wide: "
         "take a larger"),
        ((options.resume or options.overwrite) and options.mode != "train",
         f"--{'resume' if options.resume else 'overwrite'} is for --mode train: leave it out"),
        (options.cache and options.mode != "train",
         f"--cache {options.cache} is for --mode train, others take each image once: "
         "leave it out"),
        (options.no_targets and options.mode != "test",
         "--no_targets is for --mode test: training needs pairs"),
        (options.mode == "export" and options.precision != "float32"
         and {"tflite", "pict"} & {*options.export_format},
         f"--precision {options.precision} does not fit --export_format tflite and pict: leave one "
         "out"),
        (options.mode == "export" and options.test_dropout
         and {"tflite", "pict"} & {*options.export_format},
         "--test_dropout does not fit --export_format tflite and pict: leave one out"),
    ):
        if refused:
            raise UserError(text)


def merge_options(values, explicit, stored, kept):
    """values, but with the stored ones but for those named in `kept`. A given value that gives way
    is named on stderr."""
    for name, value in stored.items():
        if name in kept:
            continue
        if name in explicit and value != values[name]:
            say(f"--{name} {values[name]} gives way to the model's own: {value}", sys.stderr)
        values = {**values, name: value}
    return values


def parse_args(argv=None):
    """Options from the command line and, where a model is loaded, from its options.json.

    What wins: in test, export and training from --checkpoint the model's options (MODEL_OPTIONS)
    are the checkpoint's, TRAINING_OPTIONS are unless they are given. With --resume every option is
    the run's own but those given now, and the model's and the seed stay. Raises UserError.
    """
    parser = create_parser()
    values = vars(parser.parse_args(argv))
    unset = argparse.Namespace(**dict.fromkeys(values))
    explicit = {name for name, value in vars(parser.parse_args(argv, unset)).items()
             if value is not None}
    if values["resume"] and values["input_dir"] is None and values["output_dir"] is not None \
            and read_mode(values["output_dir"]) == "train":
        values["input_dir"] = read_options(values["output_dir"]).get("input_dir")
    values.update(default_dirs(values))
    training, resume = values["mode"] == "train", values["resume"]
    if resume and (values["overwrite"] or values["checkpoint"] and training):
        raise UserError("--resume goes with neither --overwrite nor --checkpoint: choose one")
    check_folders(Options(**values), explicit)

    if training and resume:
        stored = {"precision": "float32", **read_options(values["output_dir"])}  # older runs' own
        now = explicit - {*MODEL_OPTIONS, "seed"} | {"mode", "output_dir", "resume", "overwrite"}
        for together in ({"max_steps", "max_epochs"}, {"decay_from", "decay_from_epoch"}):
            now |= together if explicit & together else set()  # a new one takes the old one's place
        values = merge_options(values, explicit, stored, now)
    elif values["checkpoint"] is not None:
        stored = read_options(values["checkpoint"])
        restored = {name: value for name, value in stored.items()
                    if name in MODEL_OPTIONS or name in TRAINING_OPTIONS}
        own = {*MODEL_OPTIONS}
        if stored.get("gan_weight") == 0:  # then it has no discriminator
            own -= {*DISCRIMINATOR_OPTIONS}
        values = merge_options(values, explicit, restored, explicit - own)
    if "scale_size" not in explicit and not resume:
        values["scale_size"] = round(values["crop_size"] * 286 / 256)  # the paper's share
    if values["seed"] is None:
        values["seed"] = random.randrange(2**31)
    if values["precision"] == "auto" and not training:
        values["precision"] = "float32"
    options = Options(**values)
    check_combinations(options, explicit)
    return options


def main(argv=None):
    """Runs the program; returns its exit code: 0, 1, 2, 130 or 143 (docs/options.md)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    options = None
    try:
        options = parse_args(argv)
        if options.deterministic:
            tf.compat.v2.config.experimental.enable_op_determinism()
        return {"train": train, "test": test, "export": export}[options.mode](options)
    except UserError as error:
        warn(f"error: {printable(error)}")
        return 2
    except TrainingError as error:
        text = str(error)
    except SystemExit:  # of --help: past this, TensorFlow is imported for the names of its errors
        raise
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        text = f"{error}: make room or check the path; the same command goes on"
    except tf.errors.ResourceExhaustedError as error:
        text = f"out of memory ({describe_error(error)}): {advise_memory(options)}"
    except tf.errors.OpError as error:
        text = f"TensorFlow cannot go on: {describe_error(error)}"
    warn(f"error: {printable(text)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
