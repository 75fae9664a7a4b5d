"""Options of a model and a mode: which ones belong to it, and reading a model's from its files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
from pathlib import Path

from tools.lib.checkpoints import describe_variables, infer_options, open_checkpoint
from tools.lib.cli import UserError, all_of, size_of, warn
from tools.lib.geometry import MIN_CROP
from tools.lib.image_types import VALUE_TYPES, turn_sides
from tools.lib.label_maps import labels_of
from tools.lib.run_folder import SOURCES, read_stored

MODEL_OPTIONS = {  # what the network is -> the value of a missing key, affinelayer's
    "which_direction": "AtoB", "num_inputs": 1, "a_channels": 3, "b_channels": 3,
    "a_type": "uint8", "b_type": "uint8", "a_range": None, "b_range": None, "a_ignore": None,
    "b_ignore": None, "mask_channel": False, "a_labels": None, "b_labels": None,
    "a_classes": None, "b_classes": None, "a_nearest": False, "b_nearest": False,
    "lab_colorization": False, "generator": "unet",
    "separable_conv": False, "upsample": "deconv", "norm": "batch", "bottleneck_norm": True,
    "padding": "zero", "ngf": 64, "ndf": 64, "patch_size": 70, "unconditional": False}
DISCRIMINATOR_OPTIONS = ("ndf", "patch_size", "unconditional")  # of these
TRAINING_OPTIONS = (  # how the network is trained and used
    "crop_size", "resize", "aspect_ratio",
    "no_dropout", "test_dropout", "gan_loss", "gan_weight", "l1_weight", "feature_weight",
    "discrim_weight", "label_smoothing", "lr_decay", "grad_accumulation", "ema_generator",
    "augment", "diffaugment", "trained_ratio")
USE_OPTIONS = ("resize", "aspect_ratio", "trained_ratio")  # what variables do not show of its use
DEFAULT_CROP_SIZE = 256  # affinelayer's, of a model that does not say
COUNTS = ("depth", "num_inputs")  # of the options that no flag gives
TYPES = ("a_type", "b_type")  # likewise
CLASSES = {"a_labels": "a_classes", "b_labels": "b_classes"}  # flag -> likewise
MAX_COUNT = 64  # of these

TRAIN_ONLY = (  # what test and export do not look at
    "scale_size", "flip", "augment", "batch_size", "grad_accumulation", "lr", "beta1", "lr_decay",
    "decay_from", "decay_from_epoch", "gan_loss", "gan_weight", "l1_weight", "feature_weight",
    "discrim_weight", "label_smoothing", "diffaugment", "max_steps", "max_epochs", "max_bad_steps",
    "val_dir", "val_freq", "val_metric", "patience", "sample_freq", "progress_freq",
    "summary_freq", "summary_histograms", "display_freq", "trace_freq",
    "save_freq", "keep_checkpoints", "keep_every_epochs")
TEST_ONLY = ("tile", "sheet_columns")
EXPORT_ONLY = ("export_format", "output_filetype")
ONE_SIZE = ("affinelayer", "tflite")  # export formats whose network takes one
ENCODING = {"saved_model", "affinelayer", "graph"}  # export formats that return image files
CHECKED = (  # of these
    "scale_size", "augment", "batch_size", "grad_accumulation", "max_steps", "max_epochs")
UNUSED = {"train": (*EXPORT_ONLY, *TEST_ONLY), "test": (*TRAIN_ONLY, *EXPORT_ONLY),
          "export": (*TRAIN_ONLY, "layout", "on_bad_image", "max_images", "num_gpus", *TEST_ONLY),
          "worker": (),
          "check": (*EXPORT_ONLY, *(name for name in TRAIN_ONLY if name not in CHECKED),
                    *TEST_ONLY, "num_gpus", "cluster", "worker_timeout", "allow_public", "ngf",
                    "separable_conv", "upsample", "norm", "bottleneck_norm", "padding",
                    "no_dropout", "test_dropout", "ema_generator", "precision", "overwrite",
                    "which", *DISCRIMINATOR_OPTIONS)}


def usual_depth(generator, crop_size):
    """The depth of a network for a size: how often a U-Net halves its image, as often as both sides
    allow, or how many residual blocks a resnet has."""
    height, width = size_of(crop_size)
    if generator == "resnet":
        return 9 if min(height, width) > 128 else 6
    return ((height | width) & -(height | width)).bit_length() - 1


def depth_of(options):
    """The depth of a model's network: that for its --crop_size unless it began with another."""
    return options.depth or usual_depth(options.generator, options.crop_size)


def is_valid(action, value):
    """Whether a value is one that an argument of the parser could have given."""
    if value is None or action.nargs == 0:
        return isinstance(value, bool) or value is None and action.default is None
    values = value if action.nargs == "+" or isinstance(value, list) else [value]
    if not isinstance(values, (list, tuple)):
        return False
    try:
        parsed = [(action.type or str)(str(value)) for value in values]
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return parsed == [*values] and (action.choices is None or {*parsed} <= {*action.choices})


@contextlib.contextmanager
def naming_origins(values, explicit, parser):
    """Lets the text of a UserError inside say of flags that were not given whose they are, such as
    "the checkpoint's --crop_size 512". values: name -> value; explicit: names of those given."""
    def name_origin(match):
        """A flag in what the text says is wrong."""
        name, value = match[1], values.get(match[1])
        if name in explicit or value is None or value is False:
            return match[0]
        if name in ("output_dir", "checkpoint") or value == parser.get_default(name):
            return f"the default {match[0]}"
        return f"the {'run' if values['resume'] else 'checkpoint'}'s {match[0]}"
    try:
        yield
    except UserError as error:
        wrong, *remedy = str(error).split(": ", 1)
        raise UserError(": ".join([re.sub(r"--(\w+)", name_origin, wrong), *remedy])) from None


def options_path(checkpoint):
    """Where the options.json of a checkpoint or training folder is, or would be."""
    folder = Path(checkpoint) if os.path.isdir(checkpoint) else Path(checkpoint).parent
    return folder / "options.json"


def export_options(path):
    """The options.json of the export that a file belongs to; {} where it belongs to none."""
    stored = read_stored(options_path(path).parent) or {}
    formats = stored.get("export_format")
    is_part = not str(path).endswith(".pict") or isinstance(formats, list) and "pict" in formats
    return stored if stored.get("mode") == "export" and is_part else {}


def read_options(checkpoint, parser):
    """The options of a model as a dict: its options.json, or where there is none what its variables
    show. Of a .pict file these count, and of the options of its export those of its use. parser:
    tells which options and values there are. Raises UserError."""
    path, is_pict = options_path(checkpoint), str(checkpoint).endswith(".pict")
    if is_pict and export_options(checkpoint):
        stored = read_stored_options(path, parser)
        direction = stored["which_direction"]
        return {"which_direction": direction,
                **turn_sides(options_of_variables(checkpoint), direction),
                **{name: stored[name] for name in USE_OPTIONS if name in stored}}
    return options_of_variables(checkpoint) if is_pict or not path.exists() \
        else read_stored_options(path, parser)


def read_stored_classes(path, stored):
    """The classes of --a_labels and --b_labels by an options.json: its file may be elsewhere now.
    Raises UserError."""
    found = {}
    for flag, name in CLASSES.items():
        if stored.get(flag) is None and stored.get(name) is None:
            continue
        try:
            labels_of(stored.get(name) or [])
        except (UserError, TypeError) as error:
            raise UserError(f"{path} has no classes of --{flag} as {name} ({error}): restore it or "
                            "train again") from None
        found[name] = stored[name]
    return found


def read_stored_options(path, parser):
    """The options of a model by its options.json. parser: as in `read_options`. Raises UserError.
    """
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(f"{path} is not readable JSON: restore it or train again") from None
    ratio, *counts = (stored.get(name) for name in ("trained_ratio", *COUNTS))
    types = {name: stored[name] for name in TYPES if stored.get(name) in VALUE_TYPES}
    types |= read_stored_classes(path, stored)
    stored = {name: value for name, value in stored.items() if name in actions}
    for name, value in stored.items():
        if not is_valid(actions[name], value):
            raise UserError(f"{path} has {name}: {value}, which --{name} does not accept: restore "
                            "it or train again")
    known = {"trained_ratio": ratio} if isinstance(ratio, (int, float)) and ratio > 0 else {}
    known |= types | {name: count for name, count in zip(COUNTS, counts, strict=True)
              if isinstance(count, int) and 1 <= count <= MAX_COUNT}
    return {"crop_size": DEFAULT_CROP_SIZE, **MODEL_OPTIONS, **stored, **known}


def options_of_variables(checkpoint):
    """The options of a model as its variables show them; those that they do not show and the
    command line must tell are missing. Raises UserError."""
    stored = open_checkpoint(checkpoint)
    inferred = infer_options(stored.shapes)
    if inferred.get("crop_size", 0) < MIN_CROP:
        raise UserError(f"{stored.path} is a model of another program, with "
                        f"{describe_variables(stored)}: choose another")
    unknown = {"which_direction", *DISCRIMINATOR_OPTIONS} - inferred.keys()
    return {name: value for name, value in {**MODEL_OPTIONS, **inferred}.items()
            if name not in unknown}


def report_unused(options, explicit, parser, has_dropout):
    """Prints which of the flags that were given are without effect. explicit: names of their
    options; has_dropout: whether the network has layers with dropout."""
    mode, training = options.mode, options.mode == "train"
    one_size = [name for name in options.export_format if name in ONE_SIZE]
    for names, reason in (
            (UNUSED[mode], f"not used by --mode {mode}"),
            (SOURCES * (mode == "export" and {"checkpoint", "output_dir"} <= explicit),
             "--checkpoint and --output_dir are given"),
            (["output_filetype"] * (mode == "export"
                                    and ENCODING.isdisjoint(options.export_format)),
             f"not used by --export_format {' '.join(options.export_format)}"),
            (["native_size"] * (mode == "export" and len(one_size) > 0),
             f"not used by --export_format {' '.join(one_size)}, of one size"),
            (["aspect_ratio"] * (mode == "export" and options.trained_ratio is not None),
             f"the model was trained on images {options.trained_ratio} times as wide as high"),
            (["output_dir"] * (mode == "check" and not options.resume), "--mode check writes none"),
            (["no_dropout"] * (mode in ("test", "export") and not options.test_dropout),
             f"--mode {mode} has dropout with --test_dropout alone"),
            (["no_dropout"] * (training and not options.no_dropout and not has_dropout),
             f"a U-Net of --crop_size {options.crop_size} has no layer with dropout"),
            (["max_epochs"] * (mode in ("train", "check") and "max_steps" in explicit),
             f"--max_steps {options.max_steps} is given"),
            (["which"] * (training and options.checkpoint is None), "no --checkpoint is given"),
            (["scale_size"] * (mode in ("train", "check") and options.resize == "none"),
             "--resize none does not scale"),
            (["ndf"] * (training and options.gan_weight == 0),
             "--gan_weight 0 builds no discriminator")):
        flags = [action.option_strings[0] for action in parser._actions
                 if action.dest in names and action.dest in explicit
                 and (action.nargs != 0 or action.const == getattr(options, action.dest))]
        if flags:
            warn(f"ignoring {all_of(flags)}: {reason}")
