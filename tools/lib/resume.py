"""Continuing a run (--resume) and starting from a model (--checkpoint): their rules, in one place.

What wins.
    --resume: every option is the run's own unless it is given now. What the network is
    (MODEL_OPTIONS, and its depth), the seed and the checkpoint that it started from cannot change:
    another value is refused, as the result would be neither run's. --max_steps and --max_epochs
    stand for each other, so do --decay_from and --decay_from_epoch, and --input_dir and --a_dir
    with --b_dir: giving one drops the run's other. Runs older than --precision stay float32.
    --checkpoint (train, test, export): MODEL_OPTIONS are the checkpoint's, TRAINING_OPTIONS too
    unless given; everything else is the command line's. In test and export the seed, if not given,
    is the checkpoint's, or 0, so that they can be repeated. Where a given one of MODEL_OPTIONS
    differs, test and export report and ignore it: it would give wrong images. Training does what
    was asked if the variables keep their names and shapes, since it adapts them: --which_direction
    except in Lab, --padding. Anything else is refused.
    The network's depth follows from --crop_size only at its beginning: afterwards both flags take
    any --crop_size that the network fits, and options.json holds the depth where it is not that of
    the size.
    Options of a discriminator that the checkpoint or run does not have are the command line's.
What is a total. --resume: --max_steps, --max_epochs and --decay_from count from the run's first
    step. --checkpoint in training: they are additional to the checkpoint's steps, and options.json
    then stores totals, so that --resume of the new run reads them as such.
What is loaded. --resume: the newest complete checkpoint in the run's folder; without any the run
    starts from its first step. All variables: weights, Adam's moments, moving averages, the step.
    Test and export load the averaged generator where there is one.
What is repeated exactly. Everything random is a function of (seed, step, place in the step), the
    order of the images of (seed, epoch): a resumed run gives the bits of one that was not stopped.
    With another number of images or another batch size every epoch counts with its new length.
What is written when. options.json when training starts, before the first step (and again at a save
    if the folder has been removed). A checkpoint: model-STEP first, then the state file that names
    it, then the oldest are removed, so that a kill at any moment leaves one complete.
What is kept. log.csv: the rows up to the step that is resumed from, and TensorBoard's events by its
    own rule; checkpoints: the newest --keep_checkpoints and every epoch-N; images and the page.
"""

from __future__ import annotations

import os

from tools.lib.checkpoints import list_checkpoints, open_checkpoint
from tools.lib.cli import Options, UserError, warn, with_options
from tools.lib.image_types import turn_sides
from tools.lib.options import (CLASSES, DISCRIMINATOR_OPTIONS, MODEL_OPTIONS, TRAINING_OPTIONS,
                               TYPES, options_path, read_options, usual_depth)
from tools.lib.run_folder import SOURCES, read_mode
from tools.lib.schedule import ENDLESS

NONE_IS_KNOWN = ("a_range", "b_range", "a_ignore", "b_ignore", *CLASSES)  # that there is none
EITHER_OF = ({"max_steps", "max_epochs"}, {"decay_from", "decay_from_epoch"}, {*SOURCES})


def flag_text(name, value):
    """An option as a user would give it, such as "--ngf 7" or "no --separable_conv"."""
    if isinstance(value, bool) or value is None and name in NONE_IS_KNOWN:
        return f"--{name}" if value else f"no --{name}"
    if isinstance(value, (list, tuple)):
        value = " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return f"--{name} {value}"


def find_conflicts(values, explicit, stored, replaceable):
    """The explicit options that differ from the stored ones and may not replace them, and these, as
    a user would give them: a list each."""
    names = []
    for name, value in stored.items():
        compared = CLASSES.get(name, name)  # the same classes may be listed by another file
        if name in explicit and name not in (*replaceable, *CLASSES.values()) \
                and (value is not None or name in NONE_IS_KNOWN) \
                and stored.get(compared) != values[compared]:
            names.append(name)
    given, known = ([flag_text(name, options[name]) for name in names]
                    for options in (values, stored))
    return [given, [f"{text} as it was then" if text in given else text for text in known]]


def merge_options(values, explicit, stored, replaceable):
    """values, replaced by the stored ones unless they are explicit and replaceable."""
    explicit = explicit | {CLASSES[name] for name in explicit & CLASSES.keys()}
    return {**values, **{name: value for name, value in stored.items()
                         if name not in explicit or name not in replaceable}}


def without_discriminator(stored):
    """The options that a model leaves open because it has no discriminator."""
    return {*DISCRIMINATOR_OPTIONS} if stored.get("gan_weight") == 0 else set()


def same_network(values, stored, same_variables):
    """The MODEL_OPTIONS for which a stored model's variables can take the given value."""
    model, names = {**values, **stored}, {*MODEL_OPTIONS} - {*CLASSES.values()}

    def fits(name):
        """The classes of a flag come with it."""
        given = {other: values[other] for other in (name, CLASSES.get(name, name))}
        return same_variables(Options(**model), Options(**{**model, **given}))
    fitting = {name for name in names if fits(name)}
    return fitting | {CLASSES[name] for name in fitting & CLASSES.keys()}


def keep_depth(values, stored):
    """values with the depth of the stored network; None where it is that for their --crop_size."""
    depth = stored.get("depth") or usual_depth(stored["generator"], stored["crop_size"])
    usual = usual_depth(values["generator"], values["crop_size"])
    return {**values, "depth": None if depth == usual else depth}


def find_sources(values, parser):
    """The folders of images of a command line; with --resume they need not be given: the run's."""
    given = {name: values[name] for name in SOURCES}
    if values["resume"] and not any(given.values()) and values["output_dir"] is not None \
            and read_mode(values["output_dir"]) == "train":
        stored = read_options(values["output_dir"], parser)
        return {name: stored.get(name) for name in SOURCES}
    return given


def check_start(values, stored):
    """Raises UserError for a --checkpoint with --resume that the run did not start from."""
    given, own = values["checkpoint"], stored.get("checkpoint")
    if given is not None and (own is None or os.path.abspath(given) != os.path.abspath(own)):
        start = "without one" if own is None else f"from {own}"
        raise UserError(f"--checkpoint {given} contradicts --resume, the run in "
                        f"{values['output_dir']} started {start}: remove one of the flags")


def resume_options(values, explicit, parser, same_variables):
    """The options of a command line with --resume, merged with the run's. Raises UserError.

    same_variables: whether the variables of models with two Options have the same names and shapes.
    """
    folder = values["output_dir"]
    stored = turn_sides(read_options(folder, parser), values["which_direction"])
    stored = {"precision": "float32", **stored}
    check_start(values, stored)
    fixed = {*MODEL_OPTIONS, "seed", "checkpoint"} - without_discriminator(stored)
    if not options_path(folder).exists():  # then the variables alone show what the network is
        fixed -= same_network(values, stored, same_variables)
    given, trained = find_conflicts(values, explicit & fixed, stored, {"checkpoint"})
    if given:
        raise UserError(f"cannot resume with {' '.join(given)}, the run in {folder} was trained "
                        f"with {' '.join(trained)}: remove what differs, or train without "
                        "--resume into another --output_dir")
    replaceable = explicit - fixed | {"mode", "output_dir", "resume", "overwrite"}
    for together in EITHER_OF:
        replaceable |= together if explicit & together else set()
    return keep_depth(merge_options(values, replaceable, stored, replaceable), stored)


def checkpoint_options(values, explicit, parser, same_variables):
    """The options of a command line with --checkpoint, merged with the model's. Raises UserError.
    same_variables: as in `resume_options`."""
    path, training = values["checkpoint"], values["mode"] == "train"
    stored = turn_sides(read_options(path, parser), values["which_direction"])
    if not training and values["seed"] is None:
        values = {**values, "seed": stored.get("seed") or 0}
    replaceable = {*TRAINING_OPTIONS} | without_discriminator(stored)
    stored = {name: value for name, value in stored.items()
              if name in MODEL_OPTIONS or name in TRAINING_OPTIONS or name == "depth"}
    if training:
        stored = {name: value for name, value in stored.items() if name not in TYPES}  # the files'
        replaceable |= same_network(values, stored, same_variables)
    given, trained = find_conflicts(values, explicit, stored, replaceable)
    if training and given:
        raise UserError(f"cannot train with {' '.join(given)} from --checkpoint {path}, which was "
                        f"trained with {' '.join(trained)}: remove what differs, or train without "
                        "--checkpoint")
    for flag, own in zip(given, trained, strict=True):
        warn(f"ignoring {flag}: the checkpoint was trained with {own}")
    merged = keep_depth(merge_options(values, explicit, stored, replaceable), stored)
    if not training and merged["crop_size"] != stored["crop_size"]:
        warn(f"using the model at --crop_size {merged['crop_size']}: it was trained at "
             f"{stored['crop_size']}")
    return merged


def from_folder(options, parser):
    """The options with which a run continues from its own folder, within one command."""
    return Options(**{**vars(options), **read_options(options.output_dir, parser), "resume": True})


def open_start(options):
    """The StoredVariables that training starts from; None for new ones. Raises UserError."""
    if options.resume and list_checkpoints(options.output_dir):
        return open_checkpoint(options.output_dir)
    return open_checkpoint(options.checkpoint) if options.checkpoint else None


def with_totals(options, start_step, stop_step, epoch_steps):
    """The options of a run with its counts as totals, as --resume reads them. Raises UserError
    where the learning rate would begin to fall after the end."""
    first = options.decay_from if options.lr_decay != "none" else None
    if options.decay_from_epoch is not None:
        first = options.decay_from_epoch * epoch_steps
    if first is not None and not options.resume:
        first += start_step
    if first is None and options.lr_decay != "none":
        first = (start_step + stop_step) // 2
    if first is not None and first >= stop_step:
        raise UserError(f"--decay_from: the learning rate would begin to fall at step {first}, not "
                        f"before the end at step {stop_step}: give an earlier step")
    options = with_options(options, decay_from=first, decay_from_epoch=None)
    if start_step > 0 and not options.resume and stop_step < ENDLESS:
        options = with_options(options, max_steps=stop_step, max_epochs=None)
    return options
