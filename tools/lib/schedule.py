"""Steps, epochs and totals, and what is due after a step: arithmetic, no TensorFlow."""

from __future__ import annotations

import math
from typing import NamedTuple

from tools.lib.cli import check_combinations, number_type

ENDLESS = 2**32  # steps, as in affinelayer's script: until stopped
MONITOR_FREQ = 50  # steps between two looks at the health of training
MIN_TIMED = 2  # steps from which a rate is told


def add_length_options(add):
    """How long to train."""
    count = number_type(int, 1)
    add("--max_steps", type=count, help="stop after this many training steps")
    add("--max_epochs", type=count, help="stop after this many passes over the images")


def add_decay_options(add):
    """How the learning rate falls."""
    add("--lr_decay", default="none", choices=["none", "linear", "cosine"],
        help="how the learning rate falls to 0 at the end of the run")
    add("--decay_from", type=number_type(int, 0),
        help="step at which it begins to fall; half of the run if not given")
    add("--decay_from_epoch", type=number_type(int, 0), help="the same, in epochs")


def check(options, explicit):
    """Raises UserError where flags for the learning rate contradict each other."""
    endless = options.max_steps is None and options.max_epochs is None
    check_combinations([
        (options.lr_decay != "none" and endless and options.mode == "train",
         f"--lr_decay {options.lr_decay} needs an end: give --max_steps, --max_epochs or "
         "--lr_decay none"),
        (options.lr_decay == "none" and {"decay_from", "decay_from_epoch"} & explicit,
         "--decay_from needs a decay: give --lr_decay linear or cosine"),
        ({"decay_from", "decay_from_epoch"} <= explicit,
         "--decay_from and --decay_from_epoch contradict each other: give one")])


class Due(NamedTuple):
    """What to show and save after a step."""

    progress: bool
    summary: bool
    display: bool
    trace: bool
    monitor: bool
    validate: bool
    sample: bool
    save: bool
    keep: bool  # the checkpoint for good


class Progress(NamedTuple):
    """Where a run stands."""

    epoch: int  # from 1
    step: int  # in the epoch, from 1
    rate: float | None = None  # images per second, in this run; None until MIN_TIMED steps
    remaining: float | None = None  # seconds; None without an end, or as above


def examples_per_step(options):
    """Number of examples that one training step takes."""
    return options.batch_size * options.grad_accumulation


def steps_per_epoch(count, step_size):
    """Number of steps that take every example once; the last one may take fewer."""
    return math.ceil(count / step_size)


def find_stop_step(options, start_step, epoch_steps):
    """The step to stop after, by --max_steps or --max_epochs: totals with --resume, otherwise
    additional to start_step."""
    steps = ENDLESS
    if options.max_epochs is not None:
        steps = options.max_epochs * epoch_steps
    if options.max_steps is not None:
        steps = options.max_steps
    return steps if options.resume else start_step + steps


def due_after(step, stop_step, epoch_steps, options):
    """What is Due after a step, counted from 1: every so many steps, and after the last."""
    def at(freq):
        """Whether something of this frequency is due."""
        return freq > 0 and (step % freq == 0 or step == stop_step)
    keep_freq = options.keep_every_epochs * epoch_steps
    keep = keep_freq > 0 and step % keep_freq == 0
    save = at(options.save_freq) or keep or step == stop_step
    validate = options.val_dir is not None and at(options.val_freq)
    return Due(progress=at(options.progress_freq) or validate, summary=at(options.summary_freq),
               display=at(options.display_freq), trace=at(options.trace_freq),
               monitor=step % MONITOR_FREQ == 0, validate=validate,
               sample=at(options.sample_freq), save=save, keep=keep)


def measure_progress(step, stop_step, epoch_steps, count, steps_timed, seconds):
    """The Progress after `step` steps in all, of which `steps_timed` took `seconds`. count: of the
    examples in an epoch."""
    epoch, step_in_epoch = divmod(step - 1, epoch_steps)
    progress = Progress(epoch + 1, step_in_epoch + 1)
    if steps_timed < MIN_TIMED or seconds <= 0:
        return progress
    seconds_per_step = seconds / steps_timed
    remaining = (stop_step - step) * seconds_per_step if stop_step < ENDLESS else None
    return progress._replace(rate=count / epoch_steps / seconds_per_step, remaining=remaining)


def progress_lines(progress, averages):
    """affinelayer's lines: the progress, then one per loss. averages: name -> loss."""
    head = f"progress  epoch {progress.epoch}  step {progress.step}"
    if progress.rate is not None:
        head += f"  image/sec {progress.rate:.1f}"
    if progress.remaining is not None:
        head += f"  remaining {progress.remaining / 60:.0f}m"
    return "\n".join([head, *(f"{name} {value:.6g}" for name, value in averages.items())])
