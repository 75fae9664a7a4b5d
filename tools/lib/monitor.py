"""Watches over a training run: is it learning, is it finite, what to lower when memory runs out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tools.lib.cli import (
    RunError, Size, UserError, describe_error, number_type, printable, size_of, warn)
from tools.lib.geometry import is_own_size
from tools.lib.schedule import MONITOR_FREQ
from tools.lib.tf1 import tf

MONITOR_WINDOW = 20  # HealthStats that must agree: a thousand steps


def add_options(add):
    """--max_bad_steps."""
    add("--max_bad_steps", type=number_type(int, 1), default=5,
        help="stop after this many non-finite steps in a row; none of them is applied")


# --------------------------------------------------------------------------------------------------
# Health
# --------------------------------------------------------------------------------------------------


class HealthStats(NamedTuple):
    """What shows after a step whether training is healthy."""

    discrim_loss: Any  # [] float32, averaged; [] without a discriminator
    gen_norm: Any  # [] float32: L2 norm of the generator's gradients
    output_contrast: Any  # [] float32: standard deviation within an image, of -1..1
    target_contrast: Any
    outputs: Any  # [batch, 8, 8, channels] -1..1
    targets: Any


def chance_loss(options):
    """Loss of a discriminator that has learnt nothing, and the lowest possible loss."""
    label = 1 - options.label_smoothing
    if options.gan_loss == "lsgan":  # minimum over x of (x - label)**2 + x**2
        return label**2 / 2, 0.0
    if options.gan_loss == "hinge":
        return 2.0, 0.0
    rest = 1 - label
    chance = -label * math.log(label / 2) - (2 - label) * math.log(1 - label / 2)  # 2 ln 2 for 1
    return chance, label * math.log(1 / label) + (rest * math.log(1 / rest) if rest else 0)


def diagnose(history, options, total_weight):
    """What all of the last MONITOR_WINDOW HealthStats show is wrong: name -> advice, a sentence.

    A function of the run alone. total_weight: of the generator's losses.
    """
    if len(history) < MONITOR_WINDOW:
        return {}
    problems, duration = {}, f"for {MONITOR_WINDOW * MONITOR_FREQ} steps"
    chance, lowest = chance_loss(options)
    if options.gan_weight > 0:
        shares = [(stats.discrim_loss - lowest) / (chance - lowest) for stats in history]
        if max(shares) < 0.01:
            problems["discriminator won"] = (
                f"discrim_loss has been {lowest:.2g} {duration}: the discriminator always wins and "
                "teaches little; try --diffaugment, --label_smoothing 0.1 or a smaller --ndf")
        if max(abs(share - 1) for share in shares) < 0.005:
            problems["discriminator dead"] = (
                f"discrim_loss has been {chance:.3g} {duration}: the discriminator cannot tell "
                "real from generated; try a larger --ndf, --discrim_weight 1, a lower --lr or "
                "--norm instance")
    outputs, targets = (np.concatenate([getattr(stats, name) for stats in history])
                        for name in ("outputs", "targets"))
    spreads = [float(batch.std(axis=0).mean()) for batch in (outputs, targets)]
    if all(stats.output_contrast < 0.01 < 0.05 < stats.target_contrast for stats in history):
        problems["outputs constant"] = (
            f"the generator's images have been of one colour {duration}; try a lower --lr, --norm "
            "instance, or another --seed")
    elif spreads[0] < 0.15 * spreads[1] and spreads[1] > 0.02:
        problems["outputs alike"] = (
            f"the generator has made nearly the same image of every input {duration}; check that "
            "inputs and targets belong together, or try --generator unet, a larger --l1_weight or "
            "a lower --lr")
    if max(stats.gen_norm for stats in history) < 1e-6 * total_weight:
        problems["gradients vanished"] = (
            f"the generator's gradients have been below {1e-6 * total_weight:.1g} {duration}: it "
            "has stopped learning; try a lower --lr, --norm batch or instance, or another "
            "--gan_loss")
    return problems


class TrainingMonitor:
    """Looks at a run's HealthStats and reports each problem once."""

    def __init__(self, options, total_weight):
        """Nothing has been seen. total_weight: of the generator's losses."""
        self.options, self.total_weight = options, total_weight
        self.history, self.reported = [], set()

    def update(self, stats):
        """Takes the HealthStats of a step; returns the sentences that are new."""
        self.history = [*self.history[1 - MONITOR_WINDOW:], stats]
        problems = diagnose(self.history, self.options, self.total_weight)
        new = [text for name, text in problems.items() if name not in self.reported]
        self.reported.update(problems)
        return new


# --------------------------------------------------------------------------------------------------
# Non-finite steps
# --------------------------------------------------------------------------------------------------


class NonFiniteError(RunError):
    """Too many steps in a row were not finite."""


def describe_non_finite(losses, gradient_norms):
    """Which losses and gradients are not finite, such as "gen_loss_L1 nan"; "" for none. The graph
    tests the same and does not apply such a step. Both: name -> value."""
    values = {**losses, **{f"gradients of {name}": norm for name, norm in gradient_norms.items()}}
    return ", ".join(f"{name} {value}" for name, value in values.items()
                     if not math.isfinite(value))


class NonFiniteGuard:
    """Counts the steps in a row that were not finite and so not applied."""

    def __init__(self, max_bad_steps, paths):
        """paths: of the images, by index."""
        self.max_bad_steps, self.paths, self.in_row = max_bad_steps, paths, 0

    def is_finite(self, step, results):
        """Whether a step was finite; warns if not. results: losses, gradient_norms, indices. Raises
        NonFiniteError after too many."""
        reason = describe_non_finite(results.losses, results.gradient_norms)
        self.in_row = self.in_row + 1 if reason else 0
        if reason:
            names = ", ".join(printable(self.paths[index]) for index in results.indices)
            text = f"step {step} is not finite ({reason}), its images: {names}"
            if self.in_row >= self.max_bad_steps:
                raise NonFiniteError(f"{text}; the last of {self.in_row} in a row")
            warn(f"{text}; it is not applied")
        return not reason


# --------------------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------------------


def bytes_per_pixel(options):
    """About how much memory a generator takes for each pixel of a large image; as measured."""
    return (12 if options.generator == "resnet" else 7) * options.ngf + 100


def advise_memory(options):
    """What to lower where memory is too small, and by how much."""
    if options.mode == "test" and is_own_size(options) and not options.tile:
        return "give --tile 128, which works in strips"
    if options.mode != "train":
        return "close other programs, or use a model with a smaller --ngf"
    if options.batch_size > 1:
        half = (options.batch_size + 1) // 2
        return (f"--batch_size {half} --grad_accumulation {2 * options.grad_accumulation} needs "
                "about half of it for the same step")
    size = size_of(options.crop_size)
    smaller = Size(*(max(side // 64 * 32, 32) for side in size))
    share = smaller.height * smaller.width / (size.height * size.width)
    return (f"--ngf {max(options.ngf // 2, 1)} --ndf {max(options.ndf // 2, 1)} needs about half "
            f"of it, --crop_size {smaller} about {share:.0%}")


def describe_tensorflow_error(error, options):
    """One of TensorFlow's errors as one line; None for others."""
    if isinstance(error, (UserError, RunError, OSError)):  # TensorFlow need not be imported for it
        return None
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return f"out of memory ({describe_error(error)}): {advise_memory(options)}"
    if isinstance(error, tf.errors.OpError):
        return f"TensorFlow cannot continue: {describe_error(error)}"
    return None
