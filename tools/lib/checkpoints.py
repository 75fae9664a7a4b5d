"""Checkpoints of every generation and .pict files: reading, inferring options, loading, saving."""

from __future__ import annotations

import collections
import json
import math
import os
import re
import struct
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np

from tools.lib import fast_conv
from tools.lib.cli import RunError, UserError, describe_error, number_type, printable, say, warn
from tools.lib.files import remove
from tools.lib.image_types import infer_pair
from tools.lib.run_folder import (
    CHECKPOINT_KINDS, check_name, describe_folder, name_some, read_mode, write_options)
from tools.lib.tf1 import tf

OLD_NAMES = {  # in the oldest of affinelayer's scripts, which had no biases -> today's
    "/conv/filter": "/conv2d/kernel", "/deconv/filter": "/conv2d_transpose/kernel",
    "/batchnorm/offset": "/batch_normalization/beta",
    "/batchnorm/scale": "/batch_normalization/gamma"}
HALF_WRITTEN = re.compile(  # TensorFlow's names of what a process writes, or was killed writing
    r"(model|epoch|best)-\d+(_temp|\..+\.tempstate\d+)")
EMA_SUFFIX = "/ExponentialMovingAverage"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # what tf.train.Checkpoint saves beside the variables
PICT_MU = 255  # of the mu-law that spaces the values of a .pict file
PICT_SIZE = 256  # number of these values


def add_choice(add):
    """Which checkpoint to use."""
    add("--which", default="newest", choices=["newest", "best"],
        help="checkpoint of a folder that is used: the newest, or the best in validation")


def add_options(add):
    """When to save, what to keep, and what to use."""
    whole = number_type(int, 0)
    add("--save_freq", type=whole, default=5000, help="steps between checkpoints, 0: only the last")
    add("--keep_checkpoints", type=number_type(int, 1), default=3,
        help="number of checkpoints to keep, the newest")
    add("--keep_every_epochs", type=whole, default=0,
        help="epochs between checkpoints that are never removed, 0: none")
    add_choice(add)


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


class ForeignError(UserError):
    """A complete checkpoint of another program."""


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
        if len(chunks) != 3:
            raise ValueError("it does not consist of three parts")
        index, table, codes = chunks
        table, codes = np.frombuffer(table, "<f4"), np.frombuffer(codes, np.uint8)
        shapes = {str(entry["name"]): entry["shape"] for entry in json.loads(index)}
        sizes = [math.prod(shape) for shape in shapes.values()]
        if len(table) != PICT_SIZE or sum(sizes) != len(codes) or not np.isfinite(table).all():
            raise ValueError("sizes or values do not fit")
        parts = np.split(codes, np.cumsum(sizes)[:-1])
        return {name: table[part].reshape(shape)
                for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a complete .pict file ({error}): get it again") from None


def encode_pict(arrays):
    """A .pict file's bytes of name -> array: each weight becomes the nearest of 256 values, spaced
    by the mu-law between the smallest and the largest weight."""
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
    """Step of a checkpoint by the name of one of its files: model-12.index, best-12.index -> 12; -1
    for others."""
    match = re.fullmatch(r"(?:model|best)-(\d+)([._].*)?", Path(path).name)
    return int(match[1]) if match else -1


def list_best(folder):
    """Names of a folder's checkpoints that were the best in validation, the latest first: it is the
    best."""
    steps = {checkpoint_step(path) for path in Path(folder).glob("best-*.index")} - {-1}
    return [f"best-{step}" for step in sorted(steps, reverse=True)]


def choose_checkpoint(checkpoint, which):
    """--checkpoint, for --which best the prefix of the best checkpoint in it. Raises UserError."""
    if which == "newest" or checkpoint is None:
        return checkpoint
    if not os.path.isdir(checkpoint):
        raise UserError(f"--which best chooses from a training folder, {checkpoint} is none: "
                        "remove it")
    names = list_best(checkpoint)
    if not names:
        raise UserError(f"{checkpoint} has no best checkpoint, which training with --val_dir "
                        "keeps: remove --which best")
    return str(Path(checkpoint, names[0]))


def list_checkpoints(folder):
    """Prefixes of a folder's checkpoints, complete or not, the newest first: those that its state
    file names, wherever and on whichever system it was written, then all others by step. Of a run
    that was killed the best may be newer than these."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:  # empty or not text
        state = None
    named = [*state.all_model_checkpoint_paths, state.model_checkpoint_path] if state else []
    names = [PureWindowsPath(path).name for path in reversed(named)]  # separated by \\ or /
    files = [*Path(folder).glob("model-*.index"), *Path(folder).glob("model-*.data-*")]
    steps = {checkpoint_step(path) for path in files} - {-1}
    names += [f"model-{step}" for step in sorted(steps, reverse=True)]
    newest = max(map(checkpoint_step, names), default=-1)
    names = [name for name in list_best(folder) if checkpoint_step(name) > newest] + names
    return [str(Path(folder, name)) for name in dict.fromkeys(names)]


def open_variables(path):
    """The StoredVariables of a checkpoint's prefix or a .pict file. All are read: TensorFlow
    verifies the checksum of each. Raises UserError, ForeignError."""
    if path.endswith(".pict"):
        return StoredVariables(path, read_pict(path))
    check_name(path, path)
    try:
        if not os.path.exists(f"{path}.index"):
            raise ValueError(f"{Path(path).name}.index is missing")
        reader = tf.train.load_checkpoint(path)
        names = reader.get_variable_to_shape_map()
        # of text TensorFlow gives bytes or an array of them; SavedModels have what is computed too
        arrays = {name: np.asarray(reader.get_tensor(name)) for name in names
                  if not name.endswith(tuple(f"/{kept}" for kept in fast_conv.KEPT))}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(f"{path} is not a complete checkpoint "
                        f"({describe_error(error)}): choose another") from None
    if OBJECT_GRAPH in arrays:
        kind = "a SavedModel of TensorFlow 2" if path.endswith("variables") else \
            "a tf.train.Checkpoint of Keras layers, such as TensorFlow's pix2pix tutorial writes"
        raise ForeignError(f"{path} is {kind}: this program cannot use it, train a model with "
                           "--mode train")
    for old, new in OLD_NAMES.items():
        arrays = {name.replace(old, new): array for name, array in arrays.items()}
    return StoredVariables(path, arrays)


def open_checkpoint(checkpoint):
    """The StoredVariables of a --checkpoint: a .pict file, a checkpoint's prefix, or the newest
    complete checkpoint of a folder; warns of those that are not. Raises UserError."""
    if not os.path.isdir(checkpoint):
        return open_variables(str(checkpoint))
    check_name(str(checkpoint), checkpoint)
    paths = list_checkpoints(checkpoint)
    for index, path in enumerate(paths):
        try:
            return open_variables(path)
        except ForeignError:
            raise
        except UserError as error:
            if len(paths) == 1:
                raise
            last = index == len(paths) - 1
            warn(printable(str(error).removesuffix(": choose another"))
                 + ("" if last else ", trying the one before"))
    if paths:
        raise UserError(f"{checkpoint} contains no complete checkpoint: restore one, or train "
                        "again")
    raise UserError(f"{checkpoint} contains no checkpoint, it is {describe_folder(checkpoint)}: "
                    + ("continue it with --resume" if read_mode(checkpoint) == "train"
                       else f"give {CHECKPOINT_KINDS}"))


def read_step(stored):
    """Number of training steps that StoredVariables come from. Raises UserError."""
    step = stored.arrays.get("global_step", np.zeros([], int))
    if step.shape or step.dtype.kind not in "iuf":
        raise UserError(f"{stored.path} has a global_step that is not a number: choose another")
    return int(step)


def describe_variables(stored):
    """What another program's checkpoint contains, in words."""
    firsts = {name.split("/")[0]: name for name in sorted(stored.arrays, reverse=True)}
    return f"variables such as {name_some(sorted(firsts.values()))}" if firsts else "no variables"


# --------------------------------------------------------------------------------------------------
# Inferring options from variables
# --------------------------------------------------------------------------------------------------


def find_kernel(shapes, scope):
    """[height, width, in, out] of a layer's convolution by name -> shape; None without the layer.
    """
    for kind in ("conv2d/kernel", "separable_conv2d/pointwise_kernel"):
        if f"{scope}/{kind}" in shapes:
            return shapes[f"{scope}/{kind}"]
    height, width, out, channels = shapes.get(f"{scope}/conv2d_transpose/kernel", [None] * 4)
    return out and [height, width, channels, out]


def count_layers(shapes, scope):
    """Number of layers scope1, scope2, ... without a gap."""
    return next(number for number in range(99) if not find_kernel(shapes, f"{scope}{number + 1}"))


def receptive_field(num_layers):
    """Height and width of what one logit of a discriminator of 4x4 convolutions sees: the last two
    have stride 1, the others 2."""
    size = 7
    for _ in range(num_layers - 2):
        size = 2 * size + 2
    return size


def infer_options(shapes):
    """The options that names and shapes of a model's variables show, as a dict.

    Many crop sizes share one network; of these the model's depth or blocks tell one.
    """
    shapes = {name: shape for name, shape in shapes.items()
              if len(shape) == 4 or not name.endswith("kernel")}
    first, last = (find_kernel(shapes, f"generator/{name}") for name in ("encoder_1", "decoder_1"))
    if not first or not last:
        return {}
    norms = [name for name in ("batch", "instance")
             if f"generator/encoder_2/{name}_normalization/gamma" in shapes]
    inferred = {
        "ngf": first[3], "norm": (*norms, "none")[0],
        "separable_conv": "generator/encoder_1/separable_conv2d/depthwise_kernel" in shapes,
        "upsample": "resize" if "generator/decoder_2/conv2d/kernel" in shapes else "deconv",
        **infer_pair(first[2], last[3])}
    if find_kernel(shapes, "generator/block_1/layer_1"):
        has_nine = find_kernel(shapes, "generator/block_9/layer_1")
        inferred.update(generator="resnet", crop_size=256 if has_nine else 128,
                        bottleneck_norm=False)
    else:
        depth = count_layers(shapes, "generator/encoder_")
        innermost = f"generator/encoder_{depth}/batch_normalization/gamma"
        inferred.update(generator="unet" if last[2] == 2 * first[3] else "encoder_decoder",
                        crop_size=2**depth, bottleneck_norm=innermost in shapes)
    layer = find_kernel(shapes, "discriminator/layer_1")
    if layer:
        num_layers = count_layers(shapes, "discriminator/layer_")
        inferred.update(ndf=layer[3], unconditional=layer[2] == last[3],
                        patch_size=1 if layer[0] == 1 else receptive_field(num_layers))
    return inferred


def explain_mismatch(stored_shapes, model_shapes, options):
    """The option in which a file's variables differ from the model's, such as "--ngf 32? its
    options say 16". Both: name -> shape; options: the model's."""
    inferred, built = infer_options(stored_shapes), infer_options(model_shapes)
    for name, value in inferred.items():
        if name in built and built[name] != value:
            text = f"--{name} {value}"
            if isinstance(value, bool):
                text = f"--{name}" if value else f"no --{name}"
            return f"{text}? its options say {getattr(options, name)}"
    return "it is another model's"


# --------------------------------------------------------------------------------------------------
# Loading
# --------------------------------------------------------------------------------------------------


def summarize_names(names):
    """Names of variables in one line; slots of the optimizer and averages are counted."""
    slots = ("Adam", "Adam_1", "moving_mean", "moving_variance", EMA_SUFFIX[1:])
    ends = [name.rsplit("/", 1)[-1] for name in names]
    counts = collections.Counter(end for end in ends if end in slots)
    pairs = sorted(zip(names, ends, strict=True))
    return ", ".join([name for name, end in pairs if end not in slots]
                     + [f"{count} of {end}" for end, count in sorted(counts.items())])


def check_type(stored, name, variable):
    """Raises UserError where a variable is stored as another kind of value: integers or text."""
    dtype = stored.arrays[name].dtype
    kinds = tf.as_dtype(dtype), variable.dtype.base_dtype
    if kinds[0].is_floating != kinds[1].is_floating or kinds[0].is_integer != kinds[1].is_integer:
        raise UserError(f"{stored.path} has {name} of type {kinds[0].name}, the model "
                        f"{kinds[1].name}: it is another model's")


def match_variables(stored, variables, options):
    """Variable -> the value that StoredVariables have for it, the names that these lack, and those
    not used.

    Test and export use the averaged generator if there is one. Raises UserError where a shape
    or type differs or a weight of the generator is missing.
    """
    training, shapes = options.mode == "train", stored.shapes
    model_shapes = {variable.op.name: variable.shape.as_list() for variable in variables}
    has_biases = any(name.endswith("/bias") for name in shapes)
    values, used, missing = {}, set(), []
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        source = name if training or options.ema_generator == 0 else name + EMA_SUFFIX
        if source not in shapes:
            source = name.removesuffix(EMA_SUFFIX)
        if source in shapes:
            if shapes[source] != shape:
                raise UserError(f"{stored.path} has {name} of shape {shapes[source]}, the model "
                                f"{shape}: {explain_mismatch(shapes, model_shapes, options)}")
            values[variable] = stored.arrays[source]
            check_type(stored, source, variable)
            used |= {name, source}
        elif name.endswith("/bias") and not has_biases:
            values[variable] = np.zeros(shape, np.float32)
        elif name.startswith("generator/") and variable in tf.trainable_variables():
            raise UserError(f"{stored.path} lacks {name}: "
                            f"{explain_mismatch(shapes, model_shapes, options)}")
        else:
            missing.append(name)
    left = [name for name in shapes if name not in used and name != "global_step" and (
        training or name.startswith("generator/") and "Adam" not in name
        and not name.endswith(EMA_SUFFIX))]
    return values, missing, left


def load_variables(sess, stored, variables, options):
    """Loads variables from StoredVariables; returns the names that these lack and those not used.
    Raises UserError as `match_variables` does."""
    values, missing, left = match_variables(stored, variables, options)
    # in one run: TensorFlow goes through the whole graph for each new set of fetches
    sess.run([variable.initializer for variable in values],
             {variable.initializer.inputs[1]: value for variable, value in values.items()})
    return missing, left


def restore(sess, stored, variables, options):
    """`load_variables`, and prints what is missing on either side."""
    missing, left = load_variables(sess, stored, variables, options)
    for text, names in (("not in the checkpoint, starting from new values", missing),
                        ("in the checkpoint, not used", left)):
        if names:
            say(f"{text}: {summarize_names(names)}")


# --------------------------------------------------------------------------------------------------
# Saving
# --------------------------------------------------------------------------------------------------


class CheckpointManager:
    """A training folder's checkpoints: model-STEP, of which the newest are kept, epoch-N, and
    best-STEP, the best in validation."""

    def __init__(self, sess, options, start_step):
        """Creates the ops. Checkpoints of the folder up to start_step count as this run's."""
        self.sess, self.options, self.output_dir = sess, options, Path(options.output_dir)
        self.saver = tf.train.Saver(max_to_keep=0)  # we decide which are kept
        steps = (checkpoint_step(path) for path in self.output_dir.glob("model-*.index"))
        self.steps = sorted(step for step in steps if 0 <= step <= start_step)

    def write(self, name):
        """Writes the files of one checkpoint. Raises RunError and leaves no part of it."""
        try:
            self.saver.save(self.sess, str(self.output_dir / name), write_meta_graph=False,
                            write_state=False)
        except (OSError, ValueError, tf.errors.OpError) as error:
            for path in [*self.output_dir.glob(f"{name}.*"), *self.output_dir.glob(f"{name}_*")]:
                remove(path)
            reason = describe_error(error)
            kept = f"model-{self.steps[-1]} is intact" if self.steps else "there is no other"
            raise RunError(f"cannot save {name} in {self.output_dir} ({reason}); {kept}: "
                           "make room and continue with --resume") from None

    def save(self, step, epoch=None):
        """Writes model-STEP, then the state file that names it, then removes the oldest. epoch: to
        keep it for good too, as epoch-N."""
        self.write(f"model-{step}")
        if not (self.output_dir / "options.json").exists():  # the folder has been removed
            write_options(self.options)
        self.steps = sorted({*self.steps, step})[-self.options.keep_checkpoints:]
        names = [f"model-{step}" for step in self.steps]
        tf.train.update_checkpoint_state(os.path.abspath(self.output_dir), names[-1], names)
        for path in [path for kind in ("model", "epoch", "best")
                     for path in self.output_dir.glob(f"{kind}-*")]:
            if HALF_WRITTEN.fullmatch(path.name) or path.name.startswith("model-") \
                    and checkpoint_step(path) not in (-1, *self.steps):
                remove(path)
        if epoch is not None:
            self.write(f"epoch-{epoch}")

    def remove_best(self, kept, last_step):
        """Removes best-STEP of steps up to last_step but the kept ones."""
        for path in self.output_dir.glob("best-*"):
            step = checkpoint_step(path)
            if HALF_WRITTEN.fullmatch(path.name) or 0 <= step <= last_step and step not in kept:
                remove(path)

    def save_best(self, step, kept):
        """Writes best-STEP, then removes all others but the kept ones."""
        self.write(f"best-{step}")
        self.remove_best(kept, math.inf)
