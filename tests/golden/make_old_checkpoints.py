#!/usr/bin/env python3
"""Makes the checkpoints in this folder: tiny models as affinelayer's scripts saved them.

    python tests/golden/make_old_checkpoints.py

Names and shapes are those of affinelayer/pix2pix-tensorflow in 2017 and 2018, spelled out here and
not taken from this project's code. A value depends on its variable's name alone, so every run
writes the same checkpoints.
"""

import argparse
import json
import os
import zlib
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

ENCODER_WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)  # encoder_1 to encoder_8, in units of ngf
DECODER_WIDTHS = (8, 8, 8, 8, 4, 2, 1)  # decoder_8 to decoder_2; decoder_1 has the image's channels
DISCRIMINATOR_WIDTHS = (1, 2, 4, 8)  # layer_1 to layer_4, in units of ndf; layer_5 has one channel


class OldModel(NamedTuple):
    """A training folder of affinelayer's."""

    name: str  # the folder's
    step: int
    oldest: bool = False  # the script before `tf.layers`: other names, no biases
    adam: bool = False  # with Adam's slots, which make it three times as large
    ndf: int = 1
    options: dict = {}  # where they differ from DEFAULT_OPTIONS


# The scripts only knew 256x256 images and their depth: one filter, and separable convolutions in
# the Lab model, keep all files together at 300 kB
MODELS = (
    OldModel("plain", step=7, adam=True, options={"which_direction": "BtoA"}),
    OldModel("separable", step=31, options={"which_direction": "BtoA", "separable_conv": True}),
    OldModel("lab", step=52, options={"lab_colorization": True, "separable_conv": True}),
    OldModel("oldest", step=83, oldest=True, ndf=2),
)
DEFAULT_OPTIONS = {  # what the script wrote into options.json when called with few flags
    "aspect_ratio": 1.0, "batch_size": 1, "beta1": 0.5, "checkpoint": None, "display_freq": 0,
    "flip": True, "gan_weight": 1.0, "input_dir": "train", "l1_weight": 100.0,
    "lab_colorization": False, "lr": 0.0002, "max_epochs": None, "mode": "train", "ngf": 1,
    "output_dir": "train", "output_filetype": "png", "progress_freq": 50, "save_freq": 5000,
    "scale_size": 286, "seed": 0, "separable_conv": False, "summary_freq": 100, "trace_freq": 0,
    "which_direction": "AtoB"}
LATER_OPTIONS = ("output_filetype", "separable_conv")  # unknown to the oldest script


class Layer(NamedTuple):
    """A convolution and, in most layers, the norm after it."""

    scope: str
    kind: str  # conv, deconv or separable
    in_channels: int
    out_channels: int
    norm: bool


def make_options(model):
    """What stands in a model's options.json, as a dict."""
    options = {**DEFAULT_OPTIONS, "ndf": model.ndf, "max_steps": model.step, **model.options}
    return {name: value for name, value in options.items()
            if not (model.oldest and name in LATER_OPTIONS)}


def list_layers(options):
    """The Layers of both networks."""
    separable = options.get("separable_conv", False)
    image_in, image_out = (1, 2) if options["lab_colorization"] else (3, 3)
    layers, channels = [], image_in
    for number, width in enumerate(ENCODER_WIDTHS, 1):
        filters = width * options["ngf"]
        layers.append(Layer(f"generator/encoder_{number}", "separable" if separable else "conv",
                            channels, filters, norm=number > 1))
        channels = filters
    for number, width in zip(range(8, 1, -1), DECODER_WIDTHS):
        filters = width * options["ngf"]
        layers.append(Layer(f"generator/decoder_{number}", "separable" if separable else "deconv",
                            channels, filters, norm=True))
        channels = filters + ENCODER_WIDTHS[number - 2] * options["ngf"]  # the skip
    layers.append(Layer("generator/decoder_1", "separable" if separable else "deconv",
                        channels, image_out, norm=False))
    channels = image_in + image_out
    for number, width in enumerate(DISCRIMINATOR_WIDTHS, 1):
        filters = width * options["ndf"]
        layers.append(Layer(f"discriminator/layer_{number}", "conv", channels, filters,
                            norm=number > 1))
        channels = filters
    return [*layers, Layer("discriminator/layer_5", "conv", channels, 1, norm=False)]


def trained_shapes(layer, oldest):
    """Name -> shape of a layer's variables that training changes."""
    scope, _, ins, outs, _ = layer
    kernels = {"conv": {"conv2d/kernel": [4, 4, ins, outs]},
               "deconv": {"conv2d_transpose/kernel": [4, 4, outs, ins]},
               "separable": {"separable_conv2d/depthwise_kernel": [4, 4, ins, 1],
                             "separable_conv2d/pointwise_kernel": [1, 1, ins, outs]}}[layer.kind]
    if oldest:
        shapes = {f"{layer.kind}/filter": [*kernels.values()][0]}
        norm = {"batchnorm/offset": [outs], "batchnorm/scale": [outs]}
    else:
        shapes = {**kernels, f"{[*kernels][0].split('/')[0]}/bias": [outs]}
        norm = {"batch_normalization/gamma": [outs], "batch_normalization/beta": [outs]}
    return {f"{scope}/{name}": shape for name, shape in (
        {**shapes, **norm} if layer.norm else shapes).items()}


def draw(name, shape):
    """Values of a variable, a function of its name and shape. Scales are around 1, Adam's mean
    squares above 0."""
    draws = 0.2 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("/Adam_1"):
        draws = draws**2
    elif name.endswith(("gamma", "scale")):
        draws += 1
    return draws.astype(np.float32)


def make_variables(model):
    """Name -> array of everything in a model's checkpoint."""
    layers = list_layers(make_options(model))
    arrays = {}
    for layer in layers:
        for name, shape in trained_shapes(layer, model.oldest).items():
            arrays[name] = draw(name, shape)
            for slot in ("Adam", "Adam_1") if model.adam else ():
                arrays[f"{name}/{slot}"] = draw(f"{name}/{slot}", shape)
        if layer.norm and not model.oldest:  # tf.layers made them, the script never updated them
            norm = f"{layer.scope}/batch_normalization"
            arrays[f"{norm}/moving_mean"] = np.zeros(layer.out_channels, np.float32)
            arrays[f"{norm}/moving_variance"] = np.ones(layer.out_channels, np.float32)
    for network in ("discriminator", "generator"):
        for number, beta in ((1, 0.5), (2, 0.999)):
            power = np.float32(beta ** (model.step + 1))
            arrays[f"{network}_train/beta{number}_power"] = power
    for loss, value in (("discriminator_loss/Mean", 0.875), ("generator_loss/Mean", 1.25),
                        ("generator_loss/Mean_1", 0.375)):
        arrays[f"{loss}/ExponentialMovingAverage"] = np.float32(value)
    return {**arrays, "global_step": np.int64(model.step)}


def write_model(model, folder):
    """Writes a model's training folder: options.json, checkpoint, model-STEP.{index,data-*}."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.json").write_text(
        json.dumps(make_options(model), sort_keys=True, indent=4), encoding="utf-8")
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = [tf.get_variable(name, initializer=array, use_resource=False)
                     for name, array in sorted(make_variables(model).items())]
        sess.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(sess, str(folder / "model"), model.step,
                                       write_meta_graph=False, write_state=False)
    name = f"model-{model.step}"
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n'
                                       f'all_model_checkpoint_paths: "{name}"\n', encoding="utf-8")


def main(argv=None):
    """Writes all models; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent,
                        help="folder to write the models into (default: this script's)")
    options = parser.parse_args(argv)
    for model in MODELS:
        write_model(model, options.output_dir / model.name)
    return 0


if __name__ == "__main__":
    main()
