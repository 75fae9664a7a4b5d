#!/usr/bin/env python3
"""pix2pix on today's TensorFlow: learns to translate images from pairs, then translates new ones.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
arXiv 1611.07004 ("the paper" below). A TF1-style static graph on `tf.compat.v1` with hand-written
layers; command line, data and checkpoints are those of affinelayer/pix2pix-tensorflow.

    python pix2pix.py --mode train --input_dir facades/train --which_direction BtoA
    python pix2pix.py --mode test --input_dir facades/val
    python pix2pix.py --mode export --checkpoint facades_train --output_dir facades_export
    python pix2pix.py --mode check --input_dir facades/train

This file is the method; read it from the top. Its services are in tools/lib, one module per
purpose:

    section                  what                               served by tools/lib/
    Options                  flags, and which contradict        cli, resume, options, run_folder,
                                                                foreign_flags
    Input                    files -> augmented batches         dataset, images (with colour)
    Layers                   convolutions, norms, dropout       fast_conv
    Networks                 generators and discriminators      -
    Losses, training step    losses, gradients, Adam            diffaugment, towers
    Images and summaries     what people look at                images, monitor
    Mode train               the loop                           schedule, resume, checkpoints,
                                                                run_folder, run_log, run_page,
                                                                validation, monitor, cluster
    Mode test                every image once                   checkpoints, metrics, tiling,
                                                                testing, sheet
    Mode export              models that need no checkpoint     export_formats, models
    Command line             main, and --mode check             cli, survey, monitor
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__" and not Path(__file__).with_name("tools").joinpath("lib").is_dir():
    print("pix2pix.py: error: the folder tools is missing: copy it beside pix2pix.py",
          file=sys.stderr)
    sys.exit(2)

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "PIL", "isal", "tensorflow", "tqdm")
    cli.use_huge_pages()

import numpy as np

from tools.lib import (checkpoints, cluster, dataset, diffaugment, export_formats, foreign_flags,
                       geometry, models, monitor, resume, run_folder, run_log, run_page, schedule,
                       sheet, survey, testing, tf1, tiling, towers, validation)
from tools.lib.cli import (Options, RunError, UserError, number_type, printable, say, size_of,
                           warn, with_options)
from tools.lib.display import (
    create_images, create_summaries, draw_images, encode_images, show_images)
from tools.lib.fast_conv import conv2d, conv2d_transpose, doubled_shape, global_norm, layers_for
from tools.lib.files import lock_folder
from tools.lib.image_types import ImageType, pair_of, split_columns
from tools.lib.images import encode_image
from tools.lib.metrics import create_metrics, metrics_of
from tools.lib.options import depth_of, naming_origins, report_unused
from tools.lib.tf1 import is_absent, tf

# --------------------------------------------------------------------------------------------------
# Options. They use what is defined below, such as LOSSES and DISCRIMINATOR_WIDTHS
# --------------------------------------------------------------------------------------------------

AUGMENTATIONS = ("vflip", "rot90", "scale", "brightness", "contrast", "noise")
EXAMPLES = """\
  python pix2pix.py --mode train --input_dir facades/train --which_direction BtoA --max_epochs 200
  python pix2pix.py --mode test --input_dir facades/val
  python pix2pix.py --mode export --checkpoint facades_train --output_dir facades_export
  python pix2pix.py --mode check --input_dir facades/train"""


def add_mode_options(add):
    """Adds --mode and --seed."""
    add("--mode", required=True, choices=["train", "test", "export", "check", "worker"],
        help="what to do; check: read all images and say what training would do with them; worker: "
        "compute for a training on another machine")
    add("--seed", type=number_type(int, 0, 2**31 - 1),
        help="of everything random; if not given it is random in training, else the model's")


def add_image_options(add):
    """Adds flags for direction and augmentation."""
    add("--flip", dest="flip", action="store_true", default=True,
        help="flip images left to right at random (the default)")
    add("--no_flip", dest="flip", action="store_false", help="do not flip")
    add("--augment", nargs="+", default=["none"], choices=["none", *AUGMENTATIONS],
        help="further random changes; the last three change the input alone")
    add("--which_direction", default="AtoB", choices=["AtoB", "BtoA"],
        help="which half is the input; A is the left one")
    add("--lab_colorization", action="store_true",
        help="images are not pairs: learn colour (B) from lightness (A) in Lab space")


def add_network_options(add):
    """Adds flags for the networks."""
    count = number_type(int, 1, 1024)
    add("--generator", default="unet", choices=["unet", "encoder_decoder", "resnet"],
        help="U-Net, the same without skips, or residual blocks")
    add("--ngf", type=count, default=64, help="filters in the generator's first layer")
    add("--separable_conv", action="store_true", help="separable convolutions in the generator")
    add("--upsample", default="deconv", choices=["deconv", "resize"],
        help="transposed convolution, or nearest neighbour and convolution")
    add("--norm", default="batch", choices=["batch", "instance", "none"], help="of both networks")
    add("--bottleneck_norm", action="store_true",
        help="normalize the innermost encoder layer too, as affinelayer's models do")
    add("--padding", default="zero", choices=["zero", "reflect"],
        help="of the generator's convolutions")
    add("--no_dropout", action="store_true", help="no dropout in training")
    add("--dropout", dest="no_dropout", action="store_false",
        help="dropout in training (the default)")
    add("--test_dropout", action="store_true", help="dropout in test and export too")
    add("--no_test_dropout", dest="test_dropout", action="store_false",
        help="no dropout in test and export (the default)")
    add("--patch_size", type=int, default=70, choices=[1, *DISCRIMINATOR_WIDTHS],
        help="receptive field of the discriminator's logits, in pixels")
    add("--ndf", type=count, default=64, help="filters in the discriminator's first layer")
    add("--unconditional", action="store_true",
        help="the discriminator sees the target or output alone, not the input")


def add_loss_options(add):
    """Adds flags for the losses, with a weight for each of LOSSES."""
    for row in LOSSES.values():
        add(f"--{row.weight}", default=row.default, help=row.help,
            type=number_type(float, 0, open_low=not row.allow_zero))
    add("--gan_loss", default="vanilla", choices=["vanilla", "lsgan", "hinge"],
        help="cross entropy, least squares or hinge")
    add("--label_smoothing", type=number_type(float, 0, 0.5), default=0.0,
        help="the label of real pairs is 1 minus this")


def add_step_options(add):
    """Adds flags for the training step and its optimizer."""
    add("--batch_size", type=number_type(int, 1, 65536), default=1, help="images in a batch")
    add("--grad_accumulation", type=number_type(int, 1, 65536), default=1,
        help="batches whose gradients make one step")
    add("--lr", type=number_type(float, 0, open_low=True), default=0.0002,
        help="Adam's learning rate")
    add("--beta1", type=number_type(float, 0, 0.999999), default=0.5, help="Adam's momentum")
    add("--ema_generator", type=number_type(float, 0, 0.999999), default=0.0,
        help="decay of the averaged generator that test and export use; 0: none")


def create_parser():
    """The command line: affinelayer's flags with their defaults, and ours. A service declares and
    checks the flags that are its own."""
    parser = cli.Parser("pix2pix.py", __doc__.split("\n\n", 1)[0], EXAMPLES,
                        foreign_flags.suggestions())
    parser.usage = "pix2pix.py --mode {train,test,export,check,worker} --input_dir FOLDER [flags]"
    for title, *adders in (
            ("mode and folders", add_mode_options, run_folder.add_options),
            ("images", geometry.add_options, tiling.add_options, add_image_options,
             dataset.add_options),
            ("networks", add_network_options),
            ("losses", add_loss_options, diffaugment.add_options),
            ("training", schedule.add_length_options, add_step_options, schedule.add_decay_options,
             monitor.add_options),
            ("validation", validation.add_options),
            ("progress", run_log.add_options, sheet.add_options),
            ("checkpoints", checkpoints.add_options),
            ("devices", tf1.add_options, cluster.add_options),
            ("export", export_formats.add_options)):
        group = parser.add_argument_group(title)
        for add_options in adders:
            add_options(group.add_argument)
    # no flags: training finds them in the images, in --a_dir and in the files of --a_labels; depth
    # is that of the --crop_size unless the network began with another
    parser.set_defaults(trained_ratio=None, depth=None, num_inputs=1, a_type=None, b_type=None,
                        a_classes=None, b_classes=None)
    return parser


def check_network(options, explicit):
    """Raises UserError for networks that cannot be built. explicit: names of the flags that were
    given; contradictions that come from a checkpoint and do no harm are allowed."""
    size, rows = size_of(options.crop_size), choose_discriminator(options.patch_size)
    cli.check_combinations([
        *geometry.refused_sizes(options, explicit, size_multiple(options)),
        (options.bottleneck_norm and (options.generator == "resnet" or options.norm != "batch")
         and "bottleneck_norm" in explicit,
         "--bottleneck_norm needs a U-Net with --norm batch: remove it"),
        ({"separable_conv", "upsample"} <= explicit and options.separable_conv
         and options.upsample == "deconv" and options.mode == "train",
         "--upsample deconv contradicts --separable_conv, which resizes: remove one"),
        (options.separable_conv and options.padding == "reflect",
         "--padding reflect does not work with --separable_conv: remove one"),
        (options.no_dropout and options.test_dropout and {"no_dropout", "test_dropout"} & explicit,
         "--test_dropout contradicts --no_dropout: remove one of them"),
        ("test_dropout" in explicit and options.test_dropout and not has_dropout(options),
         f"--test_dropout needs layers with dropout, a U-Net of --crop_size {size} has none: "
         "remove it"),
        (has_discriminator(options) and map_size(min(size), rows) < 1,
         f"--patch_size {options.patch_size} is too large for --crop_size {size}: give a smaller "
         "one")])


def check_training(options, explicit):
    """Raises UserError for losses and augmentations that contradict each other."""
    discriminator_only = ["patch_size", "unconditional", "gan_loss", "label_smoothing",
                          "diffaugment", *(row.weight for row in LOSSES.values()
                                           if row.needs_discriminator)]
    unused = [name for name in discriminator_only if name in explicit and name != "gan_weight"]
    weights = [row.weight for row in LOSSES.values() if row.network == "generator"
               and (row.weight == "gan_weight" or not row.needs_discriminator)]
    colour_input = options.lab_colorization and options.which_direction == "BtoA" \
        or pair_of(options).inputs.kind == "labels"
    cli.check_combinations([
        (generator_weight(options) == 0,
         f"{cli.all_of(f'--{name} 0' for name in weights)} leave nothing to learn: raise one"),
        (unused and not has_discriminator(options) and options.mode == "train",
         f"--gan_weight 0 builds no discriminator: remove --{' --'.join(unused)}"),
        (options.gan_loss == "hinge" and options.label_smoothing > 0,
         "--label_smoothing needs labels, which --gan_loss hinge does not have: remove one"),
        ("none" in options.augment and len(options.augment) > 1,
         "--augment none contradicts the others: remove it or them"),
        ("rot90" in options.augment and len({*size_of(options.crop_size)}) > 1,
         f"--augment rot90 needs a square, --crop_size {options.crop_size} is none: remove one"),
        (colour_input and {"brightness", "contrast"} & {*options.augment},
         "--augment brightness and contrast need lightness in the input: remove them")])


def same_variables(options, other):
    """Whether the variables of two models have the same names and shapes."""
    def shape_of(options):
        """All that these follow from."""
        pair = pair_of(options)
        generator = generator_of(options)
        upsample = None if options.separable_conv else options.upsample
        return (pair.inputs.channels, pair.targets.channels, generator, options.separable_conv,
                upsample, options.norm, options.ngf, options.ndf, options.patch_size,
                options.unconditional)
    return shape_of(options) == shape_of(other)


def report_ignored(options, argv):
    """Prints which flags of a command line have no effect. options: what it was parsed to."""
    parser = create_parser()
    _, explicit = cli.read_command_line(argv, parser)
    report_unused(options, explicit, parser, has_dropout(options))


def parse_args(argv=None):
    """Options from the command line and, where a model is loaded, from its options.json; the rules
    are those of tools/lib/resume.py. Raises UserError."""
    parser = create_parser()
    values, explicit = cli.read_command_line(argv, parser)
    if values["mode"] == "worker":
        cluster.check_worker(values, explicit)
        return Options(**values)
    values.update(resume.find_sources(values, parser))
    values.update(run_folder.default_dirs(values))
    values.update(dataset.read_classes(values))
    mode, resuming = values["mode"], values["resume"]
    if resuming and values["overwrite"]:
        raise UserError("--resume continues a run and --overwrite replaces it: give one of them")
    with naming_origins(values, explicit, parser):
        run_folder.check_folders(Options(**values), explicit)
    values["checkpoint"] = checkpoints.choose_checkpoint(values["checkpoint"], values["which"])

    values["mode"] = dataset.judging_mode(Options(**values))
    training = values["mode"] == "train"
    if training and resuming:
        values = resume.resume_options(values, explicit, parser, same_variables)
    elif values["checkpoint"] is not None:
        values = resume.checkpoint_options(values, explicit, parser, same_variables)
    if "scale_size" not in explicit and ("crop_size" in explicit or not resuming):
        values["scale_size"] = geometry.usual_scale(values["crop_size"])
    if values["checkpoint"] is None and not resuming:
        values["num_inputs"] = max(len(values["a_dir"] or ()), 1)
    if values["mode"] == "test" and bool(values["a_dir"]) != bool(values["b_dir"]):
        values["no_targets"] = True
    if values["mode"] == "test" and values["tile"]:
        values["native_size"] = True
    if values["seed"] is None:
        values["seed"] = random.randrange(2**31)
    if values["precision"] == "auto" and not training:
        values["precision"] = "float32"
    options = Options(**values)
    with naming_origins(values, explicit, parser):
        for check in (check_network, check_training, schedule.check, run_folder.check,
                      dataset.check, cluster.check, validation.check, run_log.check,
                      export_formats.check):
            check(options, explicit)
    return with_options(options, mode=mode)


# --------------------------------------------------------------------------------------------------
# Input
# --------------------------------------------------------------------------------------------------


class Augmentation(NamedTuple):
    """One pair's random draws; None is not drawn."""

    window: Any  # geometry.Window: the scale and the crop
    flip: Any = None  # [] bool: left to right
    vflip: Any = None  # [] bool: upside down
    turns: Any = None  # [] int32 0..3: quarter turns
    brightness: Any = None  # [] -0.2..0.2: added to the input
    contrast: Any = None  # [] 0.8..1.2: factor of the input's distance from its mean
    noise_seed: Any = None  # [2] int64


class Examples(NamedTuple):
    """The pairs of a step. Which half is inputs is --which_direction's choice."""

    indices: Any  # [batch] int64: into the sorted list of files
    inputs: Any  # [batch, height, width, in_channels] -1..1, of --crop_size in training
    targets: Any = []  # [batch, height, width, out_channels] -1..1; [] with --no_targets
    measured: Any = []  # [batch, height, width, 1]: 0 where a target has no measurement; [] without
    inputs_measured: Any = []  # [batch, height, width, images]: likewise of inputs, for people
    frame: Any = []  # [batch, 4]: top, left, height, width of the images in these; []: all of it


def epoch_order(count, seed, epoch):
    """The order of an epoch: a permutation [count] int64, a pure function of (seed, epoch)."""
    draws = tf.random.stateless_uniform([count], seed=[seed, epoch])
    return tf.cast(tf.argsort(draws, stable=True), tf.int64)


def indices_of_step(step, count, options):
    """The images of a training step, counted from 1: [batch] int64 indices into the files."""
    step_size = schedule.examples_per_step(options)
    epoch, place = divmod(step - 1, schedule.steps_per_epoch(count, step_size))
    return epoch_order(count, options.seed, epoch)[place * step_size:][:step_size]


def draw_augmentation(seed, number, shape, sizing, kinds):
    """Draws for the number-th pair of a run, images of a shape [2]: a pure function of its
    arguments.

    sizing: geometry.Sizing. kinds: what is drawn besides the place of the crop: "flip" and any of
    AUGMENTATIONS.
    """
    zoom, top, left, flip, vflip, turn, brightness, contrast = tf.unstack(
        tf.random.stateless_uniform([8], seed=[seed, 2 * number]))
    window = geometry.choose_window(shape, sizing, tf.stack([top, left]),
                                    zoom if "scale" in kinds else None)
    return Augmentation(
        window, flip=flip < 0.5 if "flip" in kinds else None,
        vflip=vflip < 0.5 if "vflip" in kinds else None,
        turns=tf.cast(4 * turn, tf.int32) if "rot90" in kinds else None,
        brightness=0.4 * brightness - 0.2 if "brightness" in kinds else None,
        contrast=0.4 * contrast + 0.8 if "contrast" in kinds else None,
        noise_seed=[seed, 2 * number + 1] if "noise" in kinds else None)


def flip_where(condition, image, axis):
    """The image, reversed along an axis if the condition [] bool is true; None is false."""
    if condition is None:
        return image
    # not [::-1], a strided slice: 1 ms for 256x256 where tf.reverse takes 0.03 ms
    return tf.cond(condition, lambda: tf.reverse(image, [axis]), lambda: image)


def transform(image, augmentation, resize="stretch", side=ImageType()):
    """What an ImageType takes of an image [height, width, channels] -> what it gives the network,
    [*window.size, channels]: scaled, cropped, flipped, turned."""
    image = geometry.take_window(image, augmentation.window, resize, side.scale)
    image = flip_where(augmentation.flip, image, axis=1)
    image = flip_where(augmentation.vflip, image, axis=0)
    if augmentation.turns is not None:
        image = tf.image.rot90(image, augmentation.turns)
    return image


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


def create_examples(found, options, first_step=0, endless=False, shard=(1, 0)):
    """Pairs from the image files of a dataset.ImageList, a step at a time, as Examples.

    Training: endless shuffled epochs, beginning as if `first_step` steps had been taken.
    Otherwise: each image once, in order, not changed at random; `endless`: again and again. shard:
    (number, index) of the equal parts of the images, every number-th, and of the one to take.
    """
    training, count, pair_type = options.mode == "train", len(found.examples), pair_of(options)
    step_size = schedule.examples_per_step(options)
    choose_sizing = geometry.training_sizing if training else geometry.test_sizing
    sizing = choose_sizing(options, size_multiple(options))
    kinds = ("flip",) * options.flip + tuple(options.augment) if training else ()
    sides = [pair_type.inputs] * options.num_inputs + [pair_type.targets] * (not options.no_targets)
    fields = {"inputs": pair_type.inputs.channels}  # of Examples, besides the indices -> channels
    if not options.no_targets:
        fields["targets"] = pair_type.targets.channels
        fields |= {"measured": 1} if pair_type.targets.has_mask else {}
    if pair_type.inputs.has_mask:
        fields["inputs_measured"] = options.num_inputs
    if not training and sizing.resize in geometry.MIRRORING:
        fields["frame"] = None
    first_epoch, steps_done = divmod(first_step, schedule.steps_per_epoch(count, step_size))
    load = dataset.create_loader(found.examples, options)

    def epoch_indices(epoch):
        """The steps of an epoch: indices into the files, and numbers of the pairs in the run."""
        order = epoch_order(count, options.seed, epoch) if training else np.arange(count)
        pairs = order, tf.range(tf.cast(count, tf.int64)) + epoch * count
        return tf.data.Dataset.from_tensor_slices(pairs).shard(*shard).batch(step_size)

    def load_pair(arguments):
        """One pair, augmented: the fields of its Examples."""
        index, pair_number = arguments
        images = load(index)
        shape = tf.shape(images[0])[:2]
        draws = draw_augmentation(options.seed, pair_number, shape, sizing, kinds) if training \
            else Augmentation(geometry.choose_window(shape, sizing))
        images = [transform(image, draws, sizing.resize, side)
                  for image, side in zip(images, sides, strict=True)]
        inputs, targets = images[:options.num_inputs], images[options.num_inputs:]
        found = {"inputs": pair_type.inputs.join(inputs, lambda x: jitter_input(x, draws)),
                 "frame": geometry.frame_of(draws.window)}
        if targets:
            found["targets"] = targets[0]
        if "measured" in fields:
            found["targets"], found["measured"] = targets[0][..., :-1], targets[0][..., -1:]
        if "inputs_measured" in fields:
            found["inputs_measured"] = tf.concat([image[..., -1:] for image in inputs], axis=-1)
        return tuple(found[name] for name in fields)

    @tf.autograph.experimental.do_not_convert  # it has no Python to convert; that takes 0.3 s
    def load_step(indices, pair_numbers):
        """The pairs of a step: indices, and what `load_pair` returns of each."""
        types = tuple(tf.int32 if name == "frame" else tf.float32 for name in fields)
        return (indices, *tf.map_fn(load_pair, (indices, pair_numbers), fn_output_signature=types))

    epochs = tf.data.Dataset.range(first_epoch, 2**31 if training or endless else 1)
    batches = epochs.flat_map(epoch_indices).skip(steps_done)
    if options.tile and not training:  # images are large: none is read ahead
        reading = tf.data.Options()
        reading.experimental_optimization.inject_prefetch = False
        batches = batches.map(load_step).with_options(reading)
    else:
        batches = batches.map(load_step, num_parallel_calls=tf.data.AUTOTUNE,
                              deterministic=True).prefetch(tf.data.AUTOTUNE)
    indices, *images = tf.data.make_one_shot_iterator(batches).get_next()
    batch_size = step_size if training and count % step_size == 0 else None  # of each batch
    for batch, channels in zip(images, fields.values(), strict=True):
        if channels:
            batch.set_shape([batch_size, *(sizing.crop or (None, None)), channels])
    return Examples(indices, **dict(zip(fields, images, strict=True)))


# --------------------------------------------------------------------------------------------------
# Layers. Weights from N(0, 0.02), norm scales from N(1, 0.02) (paper, appendix 6.2)
# --------------------------------------------------------------------------------------------------

KERNEL_SIZE = 4
NORM_EPSILON = 1e-5
DIFFAUGMENT_STREAM = 0  # of random draws; dropout's are the numbers of the layers


class DrawKey(NamedTuple):
    """All that the random draws of a step depend on."""

    seed: Any  # [] int64
    step: Any  # [] int64: steps taken; in test the image's index, in export 0
    first: Any = 0  # [] int32: the first image's place in the step; None: all get the same draws


class Layers(NamedTuple):
    """The layers that a generator is made of."""

    conv: Any  # function of inputs, out_channels, kernel_size, stride
    deconv: Any  # function of inputs, out_channels, kernel_size: twice as high and wide
    norm: Any  # function of inputs
    lrelu: Any  # function of inputs


def get_weights(name, shape, mean=0.0):
    """A variable drawn from N(mean, 0.02), float32 unless a custom getter chooses otherwise."""
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


def guarded_lrelu(x, slope=0.2):
    """`lrelu` for graphs that others load into TensorFlow, whose remapper fails at a leaky relu
    right behind a bias that is also a skip, and prints an error line."""
    return tf.nn.leaky_relu(tf.ensure_shape(x, x.shape), slope)


def add_bias(inputs, channels):
    """Adds a bias per channel."""
    return tf.nn.bias_add(inputs, tf.cast(get_bias(channels), inputs.dtype))


def pad(inputs, before, after, mode="CONSTANT"):
    """Adds rows and columns on every side; mode REFLECT mirrors at the outermost pixels."""
    return tf.pad(inputs, [[0, 0], [before, after], [before, after], [0, 0]], mode)


def conv(inputs, out_channels, kernel_size=KERNEL_SIZE, stride=2, padding="SAME"):
    """Convolution: [batch, height, width, in] -> [batch, height/stride, width/stride, out]."""
    with tf.variable_scope("conv2d"):
        kernel = get_weights("kernel", [kernel_size, kernel_size, inputs.shape[3], out_channels])
        outputs = conv2d(inputs, kernel, stride, padding)
        return add_bias(outputs, out_channels)


def reflect_conv(inputs, out_channels, kernel_size=KERNEL_SIZE, stride=2):
    """`conv` with a mirrored border instead of zeros."""
    around = kernel_size - stride
    return conv(pad(inputs, around // 2, around - around // 2, "REFLECT"), out_channels,
                kernel_size, stride, padding="VALID")


def deconv(inputs, out_channels, kernel_size=KERNEL_SIZE):
    """Transposed convolution: [batch, height, width, in] -> [batch, 2height, 2width, out]."""
    with tf.variable_scope("conv2d_transpose"):
        kernel = get_weights("kernel", [kernel_size, kernel_size, out_channels, inputs.shape[3]])
        return add_bias(conv2d_transpose(inputs, kernel), out_channels)


def enlarge(inputs):
    """[batch, height, width, channels] -> [batch, 2height, 2width, channels], nearest neighbour."""
    height, width = tf.unstack(tf.shape(inputs)[1:3])
    larger = tf.image.resize(inputs, [2 * height, 2 * width], method="nearest")
    larger.set_shape(doubled_shape(inputs, inputs.shape[3]))
    return larger


def resize_conv(inputs, out_channels, _kernel_size=KERNEL_SIZE, conv_layer=conv):
    """Nearest neighbour and a 3x3 convolution, which has no checkerboard; shapes as `deconv`
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


def image_moments(x):
    """Mean and variance of each image and channel: [batch, height, width, channels] ->
    2 x [batch, 1, 1, channels]."""
    return tf.nn.moments(x, axes=[1, 2], keepdims=True)


def normalize_by(moments, inputs, gamma, beta):
    """`normalize_batch` by the mean and variance that a function of the inputs gives."""
    x = tf.cast(inputs, tf.float32)
    mean, variance = moments(x)
    x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, NORM_EPSILON)
    return tf.cast(x, inputs.dtype)


def normalize_batch(inputs, gamma, beta):
    """Zero mean and unit variance per channel, then scale and shift."""
    # the fused operation: a training step is a fifth faster than with moments and arithmetic
    return tf.nn.fused_batch_norm(inputs, gamma, beta, epsilon=NORM_EPSILON)[0]


def normalize_images(inputs, gamma, beta):
    """`normalize_batch` of each image by itself. One image is its batch, and fused."""
    fused = functools.partial(normalize_batch, inputs, gamma, beta)
    plain = functools.partial(normalize_by, image_moments, inputs, gamma, beta)
    batch = inputs.shape.as_list()[0]
    if batch is None:
        return tf.cond(tf.equal(tf.shape(inputs)[0], 1), fused, plain)
    return fused() if batch == 1 else plain()


def scaled_norm(inputs, normalize, scope):
    """normalize(inputs, scale, shift) with variables in a scope; the shape stays.

    A bias before a norm is left out, as the norm takes it out again (docs/experiments).
    """
    if inputs.op.type == "BiasAdd":
        inputs = inputs.op.inputs[0]
    with tf.variable_scope(scope):
        channels = inputs.shape[3]
        beta, gamma = get_bias(channels, "beta"), get_weights("gamma", [channels], mean=1.0)
        return normalize(inputs, gamma, beta)


def batchnorm(inputs, normalize=normalize_batch):
    """The norm of a batch, never by running averages."""
    return scaled_norm(inputs, normalize, "batch_normalization")


def instancenorm(inputs, normalize=normalize_images):
    """The norm of each image by itself (Ulyanov, Vedaldi, Lempitsky, arXiv 1607.08022)."""
    return scaled_norm(inputs, normalize, "instance_normalization")


def draw_uniform(key, stream, batch, shape):
    """Uniform 0..1 [batch, *shape]. An image's draws are a function of seed, step, its place in the
    step and `stream` (0..15): a step in one batch or in parts draws the same."""
    first, count = (0, 1) if key.first is None else (key.first, key.first + batch)
    draws = tf.random.stateless_uniform(
        tf.concat([[count], shape], axis=0), seed=[key.seed * 16 + stream, key.step])
    return draws[first:]


def dropout(inputs, rate, key, stream):
    """Sets a share `rate` of the values to zero and scales the rest."""
    shape = tf.shape(inputs)
    draws = draw_uniform(key, stream, shape[0], shape[1:])
    draws = tf.broadcast_to(draws, shape) if key.first is None else draws
    return tf.where(draws >= rate, inputs / (1 - rate), tf.zeros_like(inputs))


def choose_norm(norm, normalize=None):
    """The layer function of --norm. normalize: function of inputs, scale and shift that stands for
    `normalize_batch`; None: the layer's own."""
    layer = {"batch": batchnorm, "instance": instancenorm, "none": identity}[norm]
    if normalize is None or layer is identity:
        return layer
    return functools.partial(layer, normalize=normalize)


def choose_layers(options, normalize=None, lrelu=lrelu):
    """The generator's Layers. normalize: as in `choose_norm`."""
    norm = choose_norm(options.norm, normalize)
    if options.separable_conv:
        return Layers(separable_conv, separable_deconv, norm, lrelu)
    plain = {"zero": conv, "reflect": reflect_conv}[options.padding]
    resize = functools.partial(resize_conv, conv_layer=plain)
    return Layers(plain, {"deconv": deconv, "resize": resize}[options.upsample], norm, lrelu)


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


class GeneratorTable(NamedTuple):
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
    """What a discriminator makes of a batch of pairs."""

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
RESNET = GeneratorTable(  # Johnson, Alahi, Fei-Fei, arXiv 1603.08155, as in CycleGAN's code
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
DISCRIMINATOR_WIDTHS = {  # receptive field -> rows' widths, of which the last has stride 1
    16: (1, 2), 34: (1, 2, 4), 70: (1, 2, 4, 8), 142: (1, 2, 4, 8, 8), 286: (1, 2, 4, 8, 8, 8)}


def repeat_rows(rows, count):
    """The first `count` of the rows, repeated as often as that takes."""
    return tuple(rows[index % len(rows)] for index in range(count))


def choose_generator(generator, depth, bottleneck_norm=False):
    """The table of a generator. depth: of `usual_depth`. Old models have a norm on the innermost
    encoder layer too.

    A U-Net has as many middle rows, those with dropout, as its depth needs: three at 256, none at
    32 and other odd multiples of 32.
    """
    if generator == "resnet":
        return RESNET._replace(num_blocks=depth)
    num_middle = depth - 5
    encoder = (*UNET_ENCODER[:4], *repeat_rows(UNET_ENCODER[4:7], num_middle),
               UNET_ENCODER[-1]._replace(norm=bottleneck_norm))
    decoder = (*repeat_rows(UNET_DECODER[:3], num_middle), *UNET_DECODER[3:])
    return GeneratorTable(encoder, decoder, skips=generator == "unet")


def generator_of(options):
    """The table of a model's generator."""
    return choose_generator(options.generator, depth_of(options), options.bottleneck_norm)


def size_multiple(options):
    """What height and width of the generator's input are multiples of."""
    return 4 if options.generator == "resnet" else 2**depth_of(options)


def choose_discriminator(patch_size):
    """The table of the discriminator whose logits see patch_size x patch_size pixels."""
    if patch_size in (1, 70):
        return PIXEL_DISCRIMINATOR if patch_size == 1 else DISCRIMINATOR
    *widths, last = DISCRIMINATOR_WIDTHS[patch_size]
    rows = [DiscriminatorRow(width, norm=width > 1) for width in widths]
    return (*rows, DiscriminatorRow(last, stride=1))


def map_size(size, rows):
    """Height of a discriminator's logits for images of a height; below 1 it does not fit."""
    for row in (*rows, rows[-1]._replace(stride=1)):
        size = (size + 2 * ((row.kernel_size - 1) // 2) - row.kernel_size) // row.stride + 1
    return size


def apply_row(x, row, channels, layers, dropout_key, stream, upward=False):
    """A generator's layer: [batch, height, width, in] -> smaller by its stride, upward larger."""
    x = layers.lrelu(x) if row.activation is lrelu else row.activation(x)
    if upward and row.stride > 1:
        x = layers.deconv(x, channels, row.kernel_size)
    else:
        x = layers.conv(x, channels, row.kernel_size, row.stride)
    x = layers.norm(x) if row.norm else x
    if row.dropout and dropout_key is not None:
        x = dropout(x, row.dropout, dropout_key, stream)
    return x


def create_generator(inputs, out_channels, ngf, rows, layers, dropout_key=None):
    """[batch, height, width, channels] -> [batch, height, width, out_channels] -1..1, float32.

    All layers compute in the inputs' type, the norms' statistics are float32. Height
    and width are multiples of `size_multiple`. dropout_key: DrawKey; None: no dropout.
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

    for number, row in zip(range(len(rows.decoder), 0, -1), rows.decoder, strict=True):
        if rows.skips and number < len(rows.decoder):
            x = tf.concat([x, skips[number - 1]], axis=3)
        with tf.variable_scope(f"decoder_{number}"):
            channels = out_channels if row.width is None else ngf * row.width
            x = apply_row(x, row, channels, layers, dropout_key, number, upward=True)
    return tf.tanh(tf.cast(x, tf.float32))


def create_discriminator(pairs, ndf, rows=DISCRIMINATOR, norm=batchnorm):
    """PatchGAN: [batch, height, width, channels] -> DiscriminatorOutput; each logit sees a patch.

    pairs: inputs and targets as one image, or targets alone.
    """
    def padded_conv(x, channels, kernel_size, stride):
        """Convolution with one pixel of padding on every side, as in the authors' code."""
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


class Forward(NamedTuple):
    """What losses are computed from."""

    targets: Any  # [batch, height, width, channels] -1..1
    outputs: Any  # the same, generated
    measured: Any  # as in Examples
    real: Any = None  # DiscriminatorOutput of the targets; None without or before a discriminator
    fake: Any = None  # DiscriminatorOutput of the outputs


class Loss(NamedTuple):
    """A row of LOSSES."""

    network: str  # the network that it trains: "discriminator" or "generator"
    compute: Any  # function of Forward and options -> [] float32
    weight: str  # the option that holds its weight
    default: float  # of the weight
    help: str  # of the weight
    average: str  # its moving average's name in checkpoints: affinelayer's, or an unused one
    needs_discriminator: bool = True
    allow_zero: bool = True  # as the weight
    if_weight_0: bool = False  # computed and shown even then


class Tower(NamedTuple):
    """One batch's forward and backward pass."""

    outputs: Any  # [batch, height, width, channels] -1..1
    predict_real: Any  # [batch, height, width, 1] 0..1, or [] without a discriminator
    predict_fake: Any
    losses: dict  # name -> [] float32
    gradients: tuple  # of the trainable variables, in their order


class Model(NamedTuple):
    """What training runs and shows."""

    outputs: Any  # as in Tower
    predict_real: Any
    predict_fake: Any
    losses: dict  # this step's
    gradient_norms: dict  # network -> [] float32, the L2 norm of all its gradients
    averages: dict  # of the losses over about the last 100 steps
    lr: Any  # [] float32: this step's learning rate
    gradients: list  # (gradient, variable) of both networks
    train: Any  # op: both networks' step, averages, step counter
    examples: Any  # of the step, as Examples
    compute: Any = None  # op to run before all others; None: they compute what they need


def logits_loss(logits, label, gan_loss):
    """The loss of each logit for a label 0..1 (1 real, 0 generated)."""
    if gan_loss == "lsgan":  # Mao et al., arXiv 1611.04076
        return tf.square(logits - label)
    if gan_loss == "hinge":  # Lim and Ye, arXiv 1705.02894
        return tf.nn.relu(1 - (2 * label - 1) * logits)
    # -label * log(sigmoid(x)) - (1 - label) * log(1 - sigmoid(x)), by softplus, for large x too
    return label * tf.nn.softplus(-logits) + (1 - label) * tf.nn.softplus(logits)


def discriminator_loss(real_logits, fake_logits, gan_loss="vanilla", label_smoothing=0.0):
    """Mean loss of real pairs for label 1 plus generated ones for 0; smoothing is one-sided
    (Salimans et al., arXiv 1606.03498)."""
    return tf.reduce_mean(logits_loss(real_logits, 1 - label_smoothing, gan_loss)
                          + logits_loss(fake_logits, 0.0, gan_loss))


def generator_gan_loss(fake_logits, gan_loss="vanilla"):
    """Mean loss of generated pairs for label 1; with hinge the mean of -logits."""
    if gan_loss == "hinge":
        return -tf.reduce_mean(fake_logits)
    return tf.reduce_mean(logits_loss(fake_logits, 1.0, gan_loss))


def l1_loss(targets, outputs, measured=[]):
    """Mean absolute difference; of what is measured in each image, then over the images, of which
    one without a measurement has 0. measured: as in Examples."""
    errors = tf.abs(tf.cast(targets - outputs, tf.float32))
    if is_absent(measured):
        return tf.reduce_mean(errors)
    count = tf.reduce_sum(measured, axis=[1, 2, 3]) * errors.shape[3]
    return tf.reduce_mean(tf.reduce_sum(errors * measured, axis=[1, 2, 3]) / tf.maximum(count, 1))


def feature_loss(real_features, fake_features):
    """Mean over layers of the L1 loss between features (Wang et al., arXiv 1711.11585)."""
    losses = [l1_loss(real, fake) for real, fake in zip(real_features, fake_features, strict=True)]
    return tf.add_n(losses) / len(losses)


LOSSES = {  # name in log.csv and TensorBoard -> what it is, in the order of the columns
    "discrim_loss": Loss(
        "discriminator", lambda forward, options: discriminator_loss(
            forward.real.logits, forward.fake.logits, options.gan_loss, options.label_smoothing),
        weight="discrim_weight", default=1.0,
        help="weight of the discriminator's loss; 0.5 in the paper",
        average="discriminator_loss/Mean/ExponentialMovingAverage", allow_zero=False),
    "gen_loss_GAN": Loss(
        "generator", lambda forward, options: generator_gan_loss(
            forward.fake.logits, options.gan_loss),
        weight="gan_weight", default=1.0, help="weight of the GAN loss; 0: no discriminator",
        average="generator_loss/Mean/ExponentialMovingAverage"),
    "gen_loss_L1": Loss(
        "generator", lambda forward, _: l1_loss(
            forward.targets, forward.outputs, forward.measured),
        weight="l1_weight", default=100.0, help="weight of the L1 loss",
        average="generator_loss/Mean_1/ExponentialMovingAverage",
        needs_discriminator=False, if_weight_0=True),
    "gen_loss_feature": Loss(
        "generator", lambda forward, _: feature_loss(forward.real.features, forward.fake.features),
        weight="feature_weight", default=0.0,
        help="weight of the L1 loss between the discriminator's features",
        average="generator_loss/Mean_2/ExponentialMovingAverage"),
}


def has_dropout(options):
    """Whether a generator has layers with dropout, used or not."""
    table = generator_of(options)
    return any(row.dropout for row in (*table.encoder, *table.block, *table.decoder))


def has_discriminator(options):
    """Whether a model has a discriminator."""
    return options.gan_weight > 0


def trained_networks(options):
    """The networks that a step trains, in the order of its gradients."""
    return ("discriminator", "generator") if has_discriminator(options) else ("generator",)


def used_losses(options):
    """Name -> row of the LOSSES that a model has."""
    return {name: row for name, row in LOSSES.items()
            if (has_discriminator(options) or not row.needs_discriminator)
            and (getattr(options, row.weight) > 0 or row.if_weight_0)}


def generator_weight(options):
    """Sum of the weights of the generator's losses."""
    return sum(getattr(options, row.weight) for row in used_losses(options).values()
               if row.network == "generator")


def compute_losses(forward, options, needs_discriminator):
    """Name -> a loss and its value times its weight, of those used_losses whose needs_discriminator
    is as given."""
    terms = {}
    for name, row in used_losses(options).items():
        if row.needs_discriminator == needs_discriminator:
            loss = row.compute(forward, options)
            terms[name] = loss, getattr(options, row.weight) * loss
    return terms


def compute_gradients(terms, network, copies=None):
    """Gradients of a network's weighted losses in its variables, 0 of a bias before a norm. terms:
    of `compute_losses`; copies: tensors that stand for the variables, by name."""
    weighted = [value for name, (_, value) in terms.items() if LOSSES[name].network == network]
    variables = tf.trainable_variables(f"{network}/")
    return tf.gradients(tf.add_n(weighted), [
        copies[variable.op.name] if copies else variable for variable in variables],
        unconnected_gradients=tf.UnconnectedGradients.ZERO)


def learning_rate(options, step, decay_steps):
    """The learning rate [] float32 of step number `step` + 1. step: [] int64, steps taken.

    decay_steps: the steps at which it begins to fall and at which it would reach 0.
    """
    if options.lr_decay == "none":
        return tf.constant(options.lr, tf.float32)
    first, last = decay_steps
    share = tf.clip_by_value(tf.cast(step - first, tf.float64) / (last - first), 0, 1)
    factor = 1 - share if options.lr_decay == "linear" else (1 + tf.cos(math.pi * share)) / 2
    return tf.cast(options.lr * factor, tf.float32)


def average_losses(losses, step, finite):
    """Exponential moving averages, name -> [] float32; reading them updates them. step: [] int64,
    steps taken.

    Bias-corrected, as in Adam: after step t the newest loss has the share (1 - d) / (1 - d**t). A
    step that is not finite has none.
    """
    share = (1 - AVERAGE_DECAY) / (1 - tf.pow(AVERAGE_DECAY, tf.cast(step, tf.float32)))
    updated = {}
    for name, loss in losses.items():
        average = tf.get_variable(LOSSES[name].average, [], use_resource=True, trainable=False,
                                  initializer=tf.constant_initializer(math.nan))
        before = average.read_value()
        after = tf.where(tf.math.is_nan(before), loss, before + share * (loss - before))
        updated[name] = tf.assign(average, tf.where(finite, after, before))
    return updated


def apply_gradients(network, gradients, lr, beta1):
    """The op of one Adam step; checkpoints have its variables as NETWORK_train/beta1_power."""
    pairs = [pair for pair in gradients if pair[1].op.name.startswith(f"{network}/")]
    with tf.name_scope(f"{network}_train/"):
        # beta2 0.999 and epsilon 1e-8: TensorFlow's defaults
        return tf.train.AdamOptimizer(lr, beta1).apply_gradients(pairs)


def generate(inputs, options, dropout_key=None, layers=None):
    """The generator's outputs [batch, height, width, out_channels] -1..1 for inputs
    [batch, height, width, in_channels] -1..1. layers: Layers; None: those of training."""
    pair_type = pair_of(options)
    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE):
        return create_generator(
            tf.cast(inputs, options.precision), pair_type.targets.channels, options.ngf,
            generator_of(options), layers or choose_layers(options), dropout_key)


def discriminate(examples, targets, options, key):
    """The DiscriminatorOutput of pairs of examples' inputs and some targets."""
    if not is_absent(examples.measured):  # it sees nothing where there is no measurement
        targets *= tf.cast(examples.measured, targets.dtype)
    pair = [targets] if options.unconditional else [examples.inputs, targets]
    if options.diffaugment:
        pair = diffaugment.augment_pair(
            pair, lambda batch, count: draw_uniform(key, DIFFAUGMENT_STREAM, batch, [count]))
    with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE):
        pairs = tf.cast(tf.concat(pair, axis=3), options.precision)
        return create_discriminator(pairs, options.ndf, choose_discriminator(options.patch_size),
                                    choose_norm(options.norm))


def create_tower(examples, options, key, copies=None):
    """A batch's forward pass through both networks and its gradients, as a Tower. copies: as in
    `compute_gradients`."""
    outputs = generate(examples.inputs, options, None if options.no_dropout else key)
    forward = Forward(examples.targets, outputs, examples.measured)
    predictions = [], []
    # before the discriminator: the seeds of its initial weights count the operations before them
    terms = compute_losses(forward, options, needs_discriminator=False)
    if has_discriminator(options):
        with tf.name_scope("real_discriminator"):
            real = discriminate(examples, examples.targets, options, key)
        with tf.name_scope("fake_discriminator"):
            fake = discriminate(examples, outputs, options, key)
        forward = forward._replace(real=real, fake=fake)
        terms.update(compute_losses(forward, options, needs_discriminator=True))
        predictions = tf.sigmoid(real.logits), tf.sigmoid(fake.logits)
    gradients = [gradient for network in trained_networks(options)
                 for gradient in compute_gradients(terms, network, copies)]
    losses = {name: terms[name][0] for name in used_losses(options)}
    return Tower(outputs, *predictions, losses, tuple(gradients))


def accumulate_gradients(examples, options, key, devices):
    """`create_tower` of a batch in parts of batch_size, dealt to devices; each computes its own one
    after the other: only one part's layers are in memory. Losses and gradients are the means over
    all images, the same bits on any number of devices."""
    examples = examples._replace(inputs_measured=[])  # no network sees it
    made = []  # Towers; all have the structure of the first

    def compute(part, first, copies):
        """A towers.Part: images that come from `first` on."""
        made.append(create_tower(part, options, key._replace(first=first), copies))
        return towers.Part(tf.nest.flatten(made[-1][:3]), tf.nest.flatten(made[-1][3:]))
    images, means = towers.deal_parts(examples, options.batch_size, compute, devices)
    return Tower(*tf.nest.pack_sequence_as(made[0][:3], images),
                 *tf.nest.pack_sequence_as(made[0][3:], means))


def create_model(examples, options, decay_steps=None, devices=("",), is_staged=False):
    """Both networks, their losses and one training step, as a Model. decay_steps: learning_rate's;
    devices: that the parts of a step are dealt to; is_staged: compute in a run of its own.

    The generator learns from the discriminator as it was before this step's update, as in the
    authors' code: all gradients are computed before any is applied. Where a loss or gradient is not
    finite nothing is applied, and only the step counter advances.
    """
    global_step = tf.train.get_or_create_global_step()
    steps_taken = tf.identity(global_step)  # read once: nothing sees it change within a step
    build = create_tower if options.grad_accumulation == 1 else \
        functools.partial(accumulate_gradients, devices=devices)
    tower, compute = build(examples, options, DrawKey(options.seed, steps_taken)), None
    if is_staged:
        (examples, tower), compute = towers.hold((examples, tower))
    networks = trained_networks(options)
    variables = [variable for name in networks for variable in tf.trainable_variables(f"{name}/")]
    gradients = list(zip(tower.gradients, variables, strict=True))
    gradient_norms = {name: global_norm(
        [gradient for gradient, variable in gradients if variable.op.name.startswith(f"{name}/")])
        for name in networks}
    # a norm is finite only if all of its gradients are
    finite = tf.reduce_all(tf.math.is_finite(
        tf.stack([*tower.losses.values(), *gradient_norms.values()])))

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
    averages = average_losses(tower.losses, step, finite)
    train_op = tf.group(step, *averages.values())
    return Model(*tower[:4], gradient_norms, averages, lr, gradients, train_op, examples, compute)


# --------------------------------------------------------------------------------------------------
# Images and summaries
# --------------------------------------------------------------------------------------------------


def create_outputs(inputs, options, layers=None, key=None):
    """`generate` as test and export use it. key: DrawKey of --test_dropout."""
    return generate(inputs, options, key if options.test_dropout else None, layers)


def averaged(getter, name, *arguments, **more):
    """A custom getter for `tf.variable_scope` that takes the averaged generator's variables, as a
    checkpoint's are taken, where training keeps them."""
    variable = getter(name, *arguments, **more)
    averages = tf.global_variables(f"{variable.op.name}{checkpoints.EMA_SUFFIX}:")
    return averages[0] if averages else variable


def pixels_in_network(found, options):
    """Of the largest image of a dataset.ImageList, in test mode."""
    size = geometry.test_sizing(options, size_multiple(options)).crop
    return math.prod(size) if size else max(found.largest, 1)


def discriminator_accuracy(model, gan_loss):
    """Name -> share of a step's logits by which the discriminator is right; {} without one."""
    if is_absent(model.predict_real):
        return {}
    middle = tf.sigmoid(0.5 if gan_loss == "lsgan" else 0.0)  # between the labels' logits
    is_real = model.predict_real > middle, model.predict_fake > middle
    real, fake = (tf.reduce_mean(tf.cast(decisions, tf.float32)) for decisions in is_real)
    return {"discrim_real_accuracy": real, "discrim_fake_accuracy": 1 - fake}


def create_health_stats(examples, model):
    """The HealthStats of a step."""
    pairs = model.outputs, examples.targets
    contrasts = (tf.reduce_mean(tf.math.reduce_std(batch, axis=[1, 2])) for batch in pairs)
    thumbnails = (tf.image.resize(batch, [8, 8], method="area") for batch in pairs)
    return monitor.HealthStats(model.averages.get("discrim_loss", []),
                               model.gradient_norms["generator"], *contrasts, *thumbnails)


# --------------------------------------------------------------------------------------------------
# Mode train
# --------------------------------------------------------------------------------------------------


class Fetches(NamedTuple):
    """What a session.run of the training loop fetches; [] and {} are nothing."""

    train: Any
    losses: Any
    gradient_norms: Any
    indices: Any
    averages: Any = {}
    accuracy: Any = {}
    lr: Any = []
    health: Any = []
    summary: Any = []
    images: Any = []


class Run(NamedTuple):
    """A training run that is ready for its loop."""

    options: Any
    found: Any  # dataset.ImageList
    sess: Any
    fetches: Fetches  # all of them; due_fetches drops what is not due
    devices: Any  # cluster.Devices
    compute: Any  # as in Model
    validator: Any  # validation.Validator
    skip_step: Any  # op that counts a step without taking it
    start_step: int  # steps taken before this run
    stop_step: int
    epoch_steps: int


def create_fetches(model, options):
    """All Fetches of a step."""
    examples = model.examples
    images = show_images(create_images(examples, model.outputs, options), options)
    accuracy = discriminator_accuracy(model, options.gan_loss)
    summary = create_summaries(model, accuracy, images, options.summary_histograms)
    return Fetches(model.train, model.losses, model.gradient_norms, examples.indices,
                   model.averages, accuracy, model.lr, create_health_stats(examples, model),
                   summary, encode_images(images))


def create_look(found, options):
    """Index [1] and DisplayImages of what the generator makes in test mode of one image after the
    other of a dataset.ImageList, again and again."""
    options = validation.test_options(options)
    examples = create_examples(found, options, endless=True)
    with tf.variable_scope("", custom_getter=averaged):
        key = DrawKey(options.seed, examples.indices[0])
        outputs = create_outputs(examples.inputs, options, key=key)
    return examples.indices, create_images(examples, outputs, options)


def create_judge(found, samples, options):
    """What a validation.Judge fetches. found: dataset.ImageList of the validation
    images, or None; samples: of those that are drawn."""
    measure, draw, pixels = None, None, 1
    if found:
        indices, images = create_look(found, options)
        measure = indices, create_metrics(images.outputs, images.targets,
                                          pair_of(options).targets)
        pixels = pixels_in_network(found, options)
    if samples.examples:
        indices, images = create_look(samples, options)
        draw = indices, encode_images(show_images(images, options))
    return validation.Judge(measure, draw, pixels)


def due_fetches(fetches, due):
    """The Fetches without what is not due: it is not computed."""
    return fetches._replace(averages=fetches.averages if due.progress else {},
                            accuracy=fetches.accuracy if due.progress else {},
                            lr=fetches.lr if due.progress else [],
                            health=fetches.health if due.monitor else [],
                            summary=fetches.summary if due.summary else [],
                            images=fetches.images if due.display else [])


def find_indices(step, count, options):
    """The images of a training step, as [batch] int64 indices into the files."""
    with tf.Graph().as_default() as graph:
        indices = indices_of_step(step, count, options)
        with tf.Session(graph=graph, config=tf1.session_config()) as sess:
            return sess.run(indices)


def train(options):
    """Trains a model from pairs; returns the exit code.

    After too many non-finite steps in a row it goes back to the last checkpoint, once.
    """
    found = dataset.list_images(options)
    options = validation.with_metric(with_options(
        dataset.with_sides(options, found.sides), trained_ratio=found.ratio))
    val_found = validation.list_images(options)
    with cluster.open_devices(options) as devices:
        try:
            return train_from(options, found, val_found, devices)
        except monitor.NonFiniteError as error:
            if not checkpoints.list_checkpoints(options.output_dir):
                raise RunError(f"{error}: lower --lr; no checkpoint has been saved") from None
            warn(f"{error}: going back to the last checkpoint, once")
        options = resume.from_folder(options, create_parser())
        try:
            return train_from(options, found, val_found, devices)
        except monitor.NonFiniteError as error:
            raise RunError(f"{error}, again after going back: lower --lr or remove these images; "
                           "--resume continues from the last checkpoint") from None


def train_from(options, found, val_found, devices):
    """Builds the graph, loads what there is to load and runs the loop; returns the exit code.
    found, val_found: dataset.ImageList of training and, or None, validation; devices:
    cluster.Devices."""
    count = len(found.examples)
    epoch_steps = schedule.steps_per_epoch(count, schedule.examples_per_step(options))
    stored = resume.open_start(options)
    start_step = checkpoints.read_step(stored) if stored else 0
    stop_step = schedule.find_stop_step(options, start_step, epoch_steps)
    if start_step >= stop_step:
        say(f"nothing to do: the run has taken {start_step} of {stop_step} steps")
        return 0
    earlier = run_log.kept_rows(options, start_step)
    history = validation.read_history(earlier[1], options.val_metric)
    if val_found and validation.is_exhausted(history, options):
        say(f"nothing to do: {validation.describe_exhausted(history, options)}")
        return 0
    options = resume.with_totals(options, start_step, stop_step, epoch_steps)
    if options.precision == "auto":
        options = with_options(options, precision=tf1.fast_precision())
    for name, value in sorted(vars(options).items()):
        say(printable(f"{name} = {value}"))
    say(f"examples count = {count}")

    with tf.Graph().as_default() as graph, devices.open_session(graph) as (sess, computes_on):
        tf.set_random_seed(options.seed)
        examples = create_examples(found, options, first_step=start_step)
        model = create_model(examples, options, (options.decay_from, stop_step), devices.names,
                             is_staged=len(devices.workers) > 0)
        fetches = create_fetches(model, options)
        samples = validation.choose_samples(val_found or found, options)
        judge = create_judge(val_found, samples, options)
        skip_step = tf.assign_add(tf.train.get_global_step(), 1).op
        initialize = tf.global_variables_initializer()
        weights = sum(math.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
        say(f"parameter_count = {weights}")
        say(f"devices = {computes_on}")
        sess.run(initialize)
        if stored:
            say(f"loading model from {printable(stored.path)}")
            checkpoints.restore(sess, stored, tf.global_variables(), options)
            stored = None  # its arrays are as large as the model
        judge = judge._replace(measure=judge.measure and sess.make_callable(judge.measure),
                               draw=judge.draw and sess.make_callable(judge.draw))
        with lock_folder(options.output_dir):  # from here on files are created and replaced
            run_folder.prepare_run(options)
            manager = checkpoints.CheckpointManager(sess, options, start_step)
            graph.finalize()
            validator = validation.Validator(options, judge, val_found, samples, history)
            run = Run(options, found, sess, fetches, devices, model.compute, validator,
                      skip_step, start_step, stop_step, epoch_steps)
            facts = [*run_page.describe_run(options, found, val_found),
                     ("parameters", f"{weights:,}"), ("computes on", computes_on),
                     ("precision", options.precision)]
            defaults = {**vars(create_parser().parse_args(["--mode", "train"])),
                        "val_metric": next(iter(metrics_of(options)))}
            log = run_log.RunLog(run, earlier, facts, defaults)
            with contextlib.closing(log):
                return run_training(run, manager, log)


def run_training(run, manager, log):
    """The training loop; returns the exit code."""
    options, start_step, stop_step = run.options, run.start_step, run.stop_step
    guard = monitor.NonFiniteGuard(options.max_bad_steps, run.found.paths)
    health = monitor.TrainingMonitor(options, generator_weight(options))
    unreadable = dataset.UnreadableImages(options, run.found.examples)
    validator, owes_save, owes_epoch = run.validator, False, None
    if validator.history:  # what an earlier part's last step may have left is not this run's
        manager.remove_best(validator.best_steps(), start_step)
    if start_step == 0:
        log.draw_samples(start_step)
    log.write_page()
    first_done = time.time()  # the first step is not timed: TensorFlow also sets itself up in it
    with contextlib.closing(cli.StopRequest()) as stop:
        for step in range(start_step + 1, stop_step + 1):
            due = schedule.due_after(step, stop_step, run.epoch_steps, options)
            try:
                results = run_step(run, due, step, unreadable, log)
            except (UserError, RunError, OSError, tf.errors.OpError):
                if step - 1 > start_step:  # the steps before it are worth keeping
                    manager.save(step - 1)
                raise
            first_done = time.time() if step == start_step + 1 else first_done
            good = results is not None and guard.is_finite(step, results)
            progress = schedule.measure_progress(
                step, stop_step, run.epoch_steps, len(run.found.examples), step - start_step - 1,
                time.time() - first_done)
            log.bar.update()
            log.step, log.progress = step, progress
            texts = validator.validate(step) if due.validate else {}
            if due.sample:
                log.draw_samples(step)
            if good or texts:
                log.show(step, due, results if good else None, progress, texts)
            if good and due.monitor:
                for text in health.update(results.health):
                    log.note(text)
            if texts and validator.best.step == step:
                manager.save_best(step, validator.best_steps())
            exhausted = texts and validation.is_exhausted(validator.history, options)
            # a run goes back to a checkpoint: saving waits for a finite step, if another comes
            owes_save = owes_save or due.save
            owes_epoch = progress.epoch if due.keep else owes_epoch
            if (owes_save and (good or step == stop_step)) or stop.signal or exhausted:
                manager.save(step, owes_epoch)
                log.write_inputs(run.found.examples)
                owes_save, owes_epoch = False, None
            if stop.signal:
                log.end("stopped")
                say(f"stopped and saved after step {step}; continue with --mode train --resume "
                    f"--output_dir {printable(options.output_dir)}")
                return 128 + stop.signal
            if exhausted:
                log.end("finished")
                say(f"stopped after step {step}: "
                    f"{validation.describe_exhausted(validator.history, options)}")
                return 0
    if guard.in_row >= stop_step - start_step:
        raise RunError("no step was finite, so none was applied: lower --lr and the weights of the "
                       "losses, and look at the images")
    log.end("finished")
    say(f"trained to step {stop_step}, model in {printable(options.output_dir)}")
    return 0


def run_step(run, due, step, unreadable, log):
    """Takes one training step and returns what is due as Fetches; None where its images cannot be
    read and it is only counted."""
    take = functools.partial(run_log.run_traced, run.sess, step, log) if due.trace else run.sess.run
    try:
        if run.compute is not None:
            run.devices.compute(functools.partial(take, run.compute),
                                cluster.SET_UP_SECONDS if step == run.start_step + 1 else 0)
            take = run.sess.run
        return take(due_fetches(run.fetches, due))
    except dataset.reading_errors() as error:
        unreadable.report(error, find_indices(step, len(run.found.examples), run.options))
        run.sess.run(run.skip_step)
        return None


# --------------------------------------------------------------------------------------------------
# Mode test
# --------------------------------------------------------------------------------------------------

def create_strips(inputs, options, key=None):
    """`create_outputs` of one image in strips of rows, as a tiling.Generator."""
    channels = pair_of(options).targets.channels
    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE):
        return tiling.build_generator(
            tf.cast(inputs, options.precision), channels, options.ngf, generator_of(options),
            apply_row, lambda moments: choose_layers(
                options, functools.partial(normalize_by, moments)),
            key if options.test_dropout else None)


def kernels_in(precision):
    """A custom getter for `tf.variable_scope` that makes kernels of the type that layers compute
    in: they are converted once, at loading, which gives 1.2 times as many images/s in bfloat16."""
    def get(getter, name, *arguments, dtype=None, **more):
        """The variable."""
        dtype = precision if name.endswith("kernel") else dtype
        return getter(name, *arguments, dtype=dtype, **more)
    return get


def create_test_run(found, options, shard, device):
    """A graph that tests the images of a shard on a device, and a function of its session that
    returns one that makes the next image: its index, DisplayImages of its files and of drawn ones,
    and metrics. shard: as in `create_examples`."""
    with tf.Graph().as_default() as graph:
        examples = create_examples(found, options, shard=shard)
        key = DrawKey(options.seed, examples.indices[0])
        with tf.device(device), layers_for("inference"), \
                tf.variable_scope("", custom_getter=kernels_in(options.precision)):
            strips = create_strips(examples.inputs, options, key) if options.tile else None
            outputs = create_outputs(examples.inputs, options, key=key) if strips is None \
                else strips.outputs
        with tf.device(device):
            images = create_images(examples, outputs, options)
            metrics = {} if options.no_targets else create_metrics(
                images.outputs, images.targets, pair_of(options).targets)
        fetches = (examples.indices, encode_images(images), draw_images(images, options), metrics)

    def prepare(sess):
        """What the session runs."""
        return sess.make_callable(fetches) if strips is None else functools.partial(
            tiling.run, sess, strips, fetches, options.tile, once=examples)
    return graph, prepare


def test(options):
    """Generates an output for every image of --input_dir once; returns the exit code.

    Images pass through the network one at a time, whatever --batch_size is: the norm sees that
    image alone, and rounding, which depends on the batch, is always the same. Several GPUs each
    have a network of their own, and take one image after the other.
    """
    options = with_options(options, batch_size=1, grad_accumulation=1)
    devices = cluster.local_devices(options.num_gpus)
    found = dataset.list_images(options)
    devices = devices[:max(len(found.examples), 1)]
    stored = checkpoints.open_checkpoint(options.checkpoint)
    say(f"loading model from {printable(stored.path)}")
    config, runs = (tiling if options.tile else tf1).session_config(), []
    with contextlib.ExitStack() as sessions:
        for index, device in enumerate(devices):
            graph, prepare = create_test_run(found, options, (len(devices), index), device)
            sess = sessions.enter_context(tf.Session(graph=graph, config=config))
            with graph.as_default():
                load = checkpoints.load_variables if runs else checkpoints.restore  # which reports
                load(sess, stored, tf.global_variables(), options)
                sess.run(tf.local_variables_initializer())  # of layers_for
            graph.finalize()
            runs.append(prepare(sess))
        source = {"checkpoint": stored.path, "step": checkpoints.read_step(stored)}
        stored = None  # its arrays are as large as the model
        sessions.enter_context(lock_folder(options.output_dir))
        run_folder.prepare_test(options)
        return testing.run_test(runs, options, found, pixels_in_network(found, options), source)


# --------------------------------------------------------------------------------------------------
# Mode export
# --------------------------------------------------------------------------------------------------

def run_network(images, options, size=None, purpose="inference", create=None):
    """What the network sees of images and what it makes of them, both -1..1
    [batch, height, width, channels] of any size.

    images: of each input what `ImageType.take` gives, in a batch. size: height and width to scale
    them to first, as test mode does. purpose: of `layers_for`; create: what stands for
    `create_outputs`.
    """
    side = pair_of(options).inputs
    inputs = side.join([side.scale(image, size) for image in images])
    layers = choose_layers(options, normalize_images, guarded_lrelu)
    if purpose == "foreign":  # plain operations, which converters know
        layers = choose_layers(options, functools.partial(normalize_by, image_moments))
    # a checkpoint's variables stay as they were trained
    getter = None if purpose == "checkpoint" else kernels_in(options.precision)
    key = DrawKey(options.seed, 0, None)

    def run(inputs):
        """The network."""
        with layers_for(purpose), tf.variable_scope("", custom_getter=getter):
            return (create or create_outputs)(inputs, options, layers, key=key)

    trained_size = None if create or purpose == "foreign" else size_of(options.crop_size)
    return inputs, geometry.run_any_size(run, inputs, size_multiple(options), trained_size)


def generate_floats(images, options, purpose="inference"):
    """The model as others use it: floats of the inputs' files [batch, height, width, channels] ->
    those of the targets', of any size; of images 0..1, of measurements in the files' units. The
    channels of several inputs follow each other. purpose: of `layers_for`."""
    pair_type, count = pair_of(options), options.num_inputs
    parts = tf.split(images, count, axis=-1) if count > 1 else [images]
    inputs, outputs = run_network([*map(pair_type.inputs.from_floats, parts)], options,
                                  purpose=purpose)
    return pair_type.targets.to_floats(outputs, inputs)


def network_shape(shape, options):
    """Height and width [2] at which the network works on an image of a shape [2]."""
    sizing = geometry.test_sizing(options, size_multiple(options))
    return geometry.network_shape(shape, sizing, geometry.squeeze_of(options))


def place_images(options, shape=(None, None, None)):
    """The placeholder "input" of images as `generate_floats` takes them. shape: [batch, height,
    width]."""
    channels = options.num_inputs * pair_of(options).inputs.file_channels
    return tf.placeholder(tf.float32, [*shape, channels], "input")


def generate_encoded(contents, options, create=None, portable=True):
    """The model from the bytes of an image file [] to those of another, of the same size. Several
    inputs lie side by side in the file.

    The image is scaled to the size at which the model was trained, and the result back. create: as
    in `run_network`. portable: without Python, as graphs that leave it need; it takes JPEG and PNG
    files alone then.
    """
    pair_type, own_size = pair_of(options), geometry.is_own_size(options)
    side = pair_type.inputs
    pixels = (side.decode_portable if portable else side.decode)(contents)
    images = [side.take(image) for image in split_columns(pixels, options.num_inputs)]
    shape = tf.shape(images[0])[:2]
    inputs, outputs = run_network([image[tf.newaxis] for image in images], options,
                                  None if own_size else network_shape(shape, options),
                                  create=create)
    results = pair_type.targets.to_pixels(outputs, inputs, size=None if own_size else shape)
    return encode_image(results[0], options.output_filetype, portable)


def build_any_size(options):
    """The Endpoints of SavedModel and frozen graph: those for files, if a graph can read and write
    them without Python."""
    images = place_images(options)
    results = tf.identity(generate_floats(images, options), "output")
    plain = tf.identity(generate_floats(images, options, "foreign"), "output_any_size")
    if not export_formats.has_portable_files(options):
        return export_formats.Endpoints(images, results, plain)
    encoded = tf.placeholder(tf.string, [None], "input_bytes")

    @tf.autograph.experimental.do_not_convert
    def generate_one(contents):
        """One file."""
        return generate_encoded(contents, options)
    encoded_results = tf.map_fn(generate_one, encoded, fn_output_signature=tf.string)
    return export_formats.Endpoints(images, results, plain, encoded,
                                    tf.identity(encoded_results, "output_bytes"))


def build_floats(options, shape=(None, None, None)):
    """The Endpoints of ONNX: images of any size without files. shape: [batch, height, width]."""
    images = place_images(options, shape)
    results = generate_floats(images, options, "foreign")
    return export_formats.Endpoints(images, tf.identity(results, "output"))


def build_one_size(options):
    """The Endpoints of TFLite: one image of the model's size."""
    return build_floats(options, (1, *size_of(options.crop_size)))


def build_affinelayer(options):
    """affinelayer's export: from base64 image to base64 image, under its tensors' names. The
    collections `inputs` and `outputs` hold JSON with them."""
    encoded = tf.placeholder(tf.string, [1], "Placeholder")
    key = tf.placeholder(tf.string, [1], "Placeholder_1")
    same_key = tf.identity(key, "Identity")
    pair_type = pair_of(options)
    with tf.name_scope("decode"):  # these names stay free
        pixels = pair_type.inputs.decode_portable(tf.decode_base64(encoded[0]))
        images = [pair_type.inputs.take(image)[tf.newaxis]
                  for image in split_columns(pixels, options.num_inputs)]
    inputs, outputs = run_network(images, options, [*size_of(options.crop_size)], "checkpoint")
    with tf.name_scope("encode"):
        contents = encode_image(pair_type.targets.to_pixels(outputs, inputs)[0],
                                options.output_filetype)
    result = tf.stack([tf.encode_base64(contents)], name="packed")
    tf.add_to_collection("inputs", json.dumps({"key": key.name, "input": encoded.name}))
    tf.add_to_collection("outputs", json.dumps({"key": same_key.name, "output": result.name}))
    return export_formats.Endpoints(encoded=encoded, encoded_results=result)


NETWORK = models.Network(create_parser, same_variables, generate_encoded, place_images,
                         generate_floats, create_strips, network_shape)


def load_model(path, native_size=False, tile=0, with_floats=False):
    """`models.load_model`."""
    return models.load_model(path, NETWORK, native_size, tile, with_floats)


def checkpoint_results(stored, options, images):
    """What test mode's network makes of images, each [height, width, file_channels] with several
    inputs side by side and the size to scale it to, None for its own: per image, file type -> a
    file's bytes, of the image's size."""
    pair_type, count = pair_of(options), options.num_inputs
    side = pair_type.inputs
    with tf.Graph().as_default() as graph:
        files = []
        for image, size in images:
            parts = [side.take(part)[tf.newaxis]
                     for part in split_columns(tf.constant(image), count)]
            inputs = side.join([side.scale(part, size) for part in parts])
            outputs = create_outputs(inputs, options, key=DrawKey(options.seed, 0, None))
            shape = image.shape[0], image.shape[1] // count
            pixels = pair_type.targets.to_pixels(outputs, inputs, size=shape)[0]
            files.append({filetype: encode_image(pixels, filetype)
                          for filetype in pair_type.targets.filetypes})
        with tf.Session(graph=graph, config=tf1.session_config()) as sess:
            checkpoints.restore(sess, stored, tf.global_variables(), options)
            return sess.run(files)


def check_variables(stored, options):
    """Raises UserError where StoredVariables are not those of the generator."""
    channels = pair_of(options).inputs.channels
    with tf.Graph().as_default():
        inputs = tf.zeros([1, *size_of(options.crop_size), channels])
        create_outputs(inputs, options, key=DrawKey(options.seed, 0, None))
        checkpoints.match_variables(stored, tf.global_variables(), options)


def export(options):
    """Writes a model that stands alone in each --export_format, and proves it: each is loaded back,
    run on an image and compared with the checkpoint's own result. Returns the exit code."""
    options = with_options(options, export_format=[*dict.fromkeys(options.export_format)])
    stored = checkpoints.open_checkpoint(options.checkpoint)
    export_formats.check_sides(options)
    if "pict" in options.export_format:
        export_formats.check_pict(stored, options)
    if "onnx" in options.export_format:
        export_formats.import_onnx("--export_format onnx", "tf2onnx", "onnxruntime")
    check_variables(stored, options)
    say(f"loading model from {printable(stored.path)}")
    network = export_formats.NetworkFunctions(
        {"any_size": build_any_size, "floats": build_floats, "one_size": build_one_size,
         "affinelayer": build_affinelayer}, NETWORK, checkpoint_results)
    with lock_folder(options.output_dir):
        export_formats.write_exports(stored, options, network)
    say(printable(f"exported {stored.path} to {options.output_dir}: "
                  f"{', '.join(options.export_format)}"))
    return 0


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def check(options):
    """Says what training, with --no_targets test, would do with the images; returns the exit code.
    Raises UserError where it would refuse them."""
    return survey.survey(options, size_multiple(options))


def run_mode(argv):
    """Parses a command line and runs its mode; returns the exit code."""
    options = parse_args(argv)
    report_ignored(options, argv)
    if options.deterministic:
        tf.compat.v2.config.experimental.enable_op_determinism()
    try:
        return {"train": train, "test": test, "export": export, "check": check,
                "worker": cluster.serve}[options.mode](options)
    except Exception as error:
        text = monitor.describe_tensorflow_error(error, options)
        if text is None:
            raise
        raise RunError(text) from None


def main(argv=None):
    """Runs the program; returns its exit code: 0, 1, 2, 129, 130 or 143 (docs/options.md)."""
    return cli.run_main("pix2pix.py", run_mode, argv)


if __name__ == "__main__":
    sys.exit(main())
