"""Trained models, ready to use: training folders, checkpoints and exports in six formats.

What needs the network comes from the caller, as a Network.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.lib import tf1, tiling
from tools.lib.checkpoints import (
    checkpoint_step, infer_options, load_variables, open_checkpoint)
from tools.lib.cli import (
    Options, RunError, UserError, describe_error, quiet_stderr, size_of, with_options)
from tools.lib.geometry import network_shape, squeeze_of, test_sizing
from tools.lib.image_files import GRAPH_FORMATS, format_of
from tools.lib.image_types import (
    CHANNELS, ImageType, choose_pair, pair_of, split_columns)
from tools.lib.images import (
    ImageError, decode_bytes, encode_image, is_deep_png, to_bytes)
from tools.lib.monitor import bytes_per_pixel
from tools.lib.options import MODEL_OPTIONS, export_options
from tools.lib.resume import checkpoint_options
from tools.lib.run_folder import check_name, find_model
from tools.lib.stored import decode_stored, encode_stored, narrow
from tools.lib.tf1 import session_config, tf

EXPORT_FILES = {  # --export_format -> the file to load
    "saved_model": "saved_model.pb", "affinelayer": "export.meta", "graph": "graph.pb",
    "tflite": "model.tflite", "onnx": "model.onnx", "pict": "model.pict"}
ONE_SIZE = (".meta", ".tflite")  # files whose network takes images of one size
SIGNATURES = {  # of a SavedModel; a frozen graph has the same ends
    "floats": ("serving_default", "input", "output"),
    "files": ("encoded", "input_bytes", "output_bytes")}


class Network(NamedTuple):
    """What the caller knows of the network: functions."""

    create_parser: Any  # the command line
    same_variables: Any  # as for resume.checkpoint_options
    generate: Any  # of an image file's bytes [] and options: those of the result, by Python too
    place_images: Any  # of options: the placeholder of a batch of images as floats
    generate_floats: Any  # of this and options: those of the results
    create_strips: Any  # of inputs, options and key: the tiling.Strips
    find_shape: Any  # of an image's shape [2] and options: that in the network


class LoadedModel(NamedTuple):
    """A model, ready to use."""

    path: Any  # the file or checkpoint that it comes from
    generate: Any  # function from the bytes of an image file to those of another, as large
    # function from an image's (height, width) to those that it has in the network; None: unknown
    network_shape: Any = None
    bytes_per_pixel: int = 0  # of memory at an image's own size; 0: unknown
    pair: Any = choose_pair(False, "AtoB")  # image_types.PairType
    trained_ratio: float | None = None  # width / height of training's images; None: unknown
    size: Any = None  # (height, width) of training's crops; None: unknown
    # function of floats as exports take them, [1, height, width, channels], to those that they
    # give; None: there is none
    generate_floats: Any = None

    @property
    def num_inputs(self):
        """Images that lie side by side in a file."""
        return self.pair.inputs.count

    @property
    def channels(self):
        """Of such a file."""
        return self.pair.inputs.file_channels


def run_on_shapes(choose_shape):
    """A function of (height, width) to another, by one of tensors [2]."""
    with tf.Graph().as_default() as graph:
        shape = tf.placeholder(tf.int32, [2])
        chosen = tf.convert_to_tensor(choose_shape(shape))
        run = tf.Session(graph=graph, config=session_config()).make_callable(chosen, [shape])
    return lambda shape: tuple(map(int, run(shape)))


# --------------------------------------------------------------------------------------------------
# Checkpoints
# --------------------------------------------------------------------------------------------------


def options_to_apply(model, network):
    """The options with which a model is used outside test mode, by a path to it: its own, and the
    same seed each time. Raises UserError."""
    argv = ["--mode", "export", "--seed", "0", "--checkpoint", str(model)]
    parser = network.create_parser()
    values = vars(parser.parse_args(argv))
    values = checkpoint_options(values, set(), parser, network.same_variables)
    own_size = export_options(model).get("native_size") is True
    return Options(**{**values, "precision": "float32", "native_size": own_size})


def load_checkpoint(path, network, native_size=False, tile=0, with_floats=False):
    """`load_model` of a training folder, a checkpoint's prefix or a .pict file. with_floats: for
    `LoadedModel.generate_floats` too, which takes as long again."""
    options, stored = options_to_apply(path, network), open_checkpoint(str(path))
    options = with_options(options, native_size=native_size or options.native_size)
    strips = []

    def create(inputs, options, _layers, key):
        """The network in strips."""
        strips.append(network.create_strips(inputs, options, key))
        return strips[0].outputs

    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        result = network.generate(contents, options, create if tile else None, portable=False)
        images = network.place_images(options) if with_floats else None
        floats = network.generate_floats(images, options) if with_floats else None
        sess = tf.Session(graph=graph, config=(tiling if tile else tf1).session_config())
        load_variables(sess, stored, tf.global_variables(), options)
        sess.run(tf.local_variables_initializer())  # of layers_for
        generate = sess.make_callable(result, [contents]) if not tile else \
            lambda data: tiling.run(sess, *strips, result, tile, feeds={contents: data})
        return LoadedModel(
            stored.path, generate, run_on_shapes(lambda shape: network.find_shape(shape, options)),
            bytes_per_pixel(options), pair_of(options), options.trained_ratio,
            size_of(options.crop_size),
            sess.make_callable(floats, [images]) if with_floats else None)


# --------------------------------------------------------------------------------------------------
# Exports
# --------------------------------------------------------------------------------------------------


def find_export(path):
    """The file to load of an export's folder, or the file itself; None for anything else."""
    path = Path(path)
    if path.is_dir():
        files = [path / name for name in EXPORT_FILES.values()]
        return None if any(path.glob("model-*.index")) else next(filter(Path.is_file, files), None)
    suffixes = [Path(name).suffix for name in EXPORT_FILES.values()]
    # model-100.meta is part of a checkpoint
    return path if path.suffix in suffixes and path.is_file() and checkpoint_step(path) < 0 \
        else None


def import_onnx(flag, *names):
    """The modules with these names, which only ONNX needs. Raises UserError."""
    try:
        return [importlib.import_module(name) for name in names]
    except Exception as error:  # one that does not fit TensorFlow's libraries raises anything
        # pip would replace libraries of TensorFlow's if it were not named
        packages = [*names, *["'onnx!=1.19.0'"] * ("tf2onnx" in names),
                    f"tensorflow=={tf.__version__}"]
        raise UserError(
            f"{flag} needs {' and '.join(names)} ({describe_error(error)}): "
            f"{shlex.quote(sys.executable)} -m pip install {' '.join(packages)}") from None


def load_file(path, network, native_size=False, with_floats=False):
    """The LoadedModel of a file of an export, by what it alone says. native_size: it works at each
    image's own size. Raises UserError."""
    path, pict = Path(path), lambda path, native_size: load_checkpoint(
        path, network, native_size, with_floats=with_floats)
    loaders = {".meta": load_affinelayer, ".pb": load_graph, ".tflite": load_tflite,
               ".onnx": load_onnx, ".pict": pict}
    if native_size and path.suffix in ONE_SIZE:
        raise UserError(f"--native_size does not work with {path}, which has one size: give the "
                        "training folder or another format")
    from google.protobuf.message import DecodeError  # comes with TensorFlow
    try:
        return loaders[path.suffix](path, native_size)
    except (tf.errors.OpError, DecodeError, OSError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--model {path} cannot be loaded ({describe_error(error)}): "
                        "export it again") from None


def load_affinelayer(path, _native_size):
    """`load_file` of export.meta; results, which are squares, are scaled to the image's size."""
    check_name(str(path), f"--model {path}")
    with tf.Graph().as_default() as graph:
        sess = tf.Session(graph=graph, config=session_config())
        tf.train.import_meta_graph(str(path)).restore(sess, str(path.with_suffix("")))
        ends = [json.loads(tf.get_collection(name)[0])[name[:-1]] for name in ("inputs", "outputs")]
        run = sess.make_callable(ends[1], [ends[0]])
        shapes = {variable.op.name: variable.shape.as_list()
                  for variable in tf.global_variables("generator/")}
    pair_type = pair_of(Options(**{**MODEL_OPTIONS, **infer_options(shapes),
                                   **export_options(path)}))
    fit = create_fitter(pair_type)

    def generate(contents):
        """Through TensorFlow's base64: the one for URLs, without padding."""
        result = run([base64.urlsafe_b64encode(contents)])[0]
        return fit(base64.urlsafe_b64decode(result + b"=" * (-len(result) % 4)), contents)
    return LoadedModel(path, generate, pair=pair_type)


def create_fitter(pair_type):
    """A function from the bytes of a result and of its image, inputs side by side, to those of the
    result, of an input's size and as it was encoded."""
    with tf.Graph().as_default() as graph:
        result, contents = tf.placeholder(tf.string, []), tf.placeholder(tf.string, [])
        inputs, targets = pair_type[:2]
        first, *_ = split_columns(inputs.decode_portable(contents), inputs.count)
        image, shape = targets.decode_portable(result), tf.shape(first)[:2]
        fitted = targets.scaled_pixels(targets.floats_of(image), shape)
        encoded = encode_image(fitted, portable=False)
        if "jpeg" in targets.filetypes:
            encoded = tf.cond(tf.equal(tf.strings.substr(result, 0, 4), b"\x89PNG"),
                              lambda: encoded, lambda: encode_image(fitted, "jpeg"))
        fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], shape))
        chosen = tf.cond(fits, lambda: result, lambda: encoded)
        return tf.Session(graph=graph, config=session_config()).make_callable(
            chosen, [result, contents])


def find_pair(path, channels, known=None):
    """The PairType of an export by its options, else of 8-bit images. channels: of all inputs;
    known: the options; None: those in the options.json beside it."""
    known = known or export_options(path)
    pair = pair_of(Options(**{**MODEL_OPTIONS, **known}))
    if known and pair.inputs.count * pair.inputs.file_channels == channels:
        return pair
    each = channels if channels in CHANNELS else 1 if channels % 3 else 3  # it lies there alone
    return choose_pair(False, "AtoB", channels // each, ImageType(each))


def find_shape_of(path):
    """The function for `apply_to_files` by the options.json beside an export. Raises UserError."""
    known = export_options(path)
    if not known:
        raise UserError(f"--model {path} is not a model of image files: give one that --mode "
                        "export wrote, with the options.json beside it, and --native_size "
                        "otherwise")
    options = Options(**known)
    sizing, squeeze = test_sizing(options, 1), squeeze_of(options)
    return lambda shape: network_shape(shape, sizing, squeeze)


def load_graph(path, native_size):
    """`load_file` of saved_model.pb and a frozen graph."""
    with tf.Graph().as_default() as graph:
        sess = tf.Session(graph=graph, config=session_config())
        if path.name == "saved_model.pb":
            check_name(str(path), f"--model {path}")
            meta = tf.saved_model.load(sess, [tf.saved_model.SERVING], str(path.parent))
            signatures, has_files = meta.signature_def, "encoded" in meta.signature_def
            if not has_files and not export_options(path):
                raise UserError(f"--model {path} is a SavedModel of another program: give one that "
                                "--mode export wrote")
            ends = {kind: (signatures[name].inputs[first].name, signatures[name].outputs[last].name)
                    for kind, (name, first, last) in SIGNATURES.items() if name in signatures}
        else:
            graph_def = tf.GraphDef.FromString(path.read_bytes())
            has_files = any(node.name == SIGNATURES["files"][1] for node in graph_def.node)
            tf.import_graph_def(graph_def, name="")
            ends = {kind: (f"{first}:0", f"{last}:0")
                    for kind, (_, first, last) in SIGNATURES.items()}
        channels = int(graph.get_tensor_by_name(ends["floats"][0]).shape[-1])
        run = {kind: sess.make_callable(last, [first]) for kind, (first, last) in ends.items()
               if has_files or kind == "floats"}
    if native_size or not has_files:
        return apply_to_files(path, run["floats"], (lambda shape: shape) if native_size
                              else find_shape_of(path), channels)
    return LoadedModel(path, lambda contents: run["files"]([contents])[0],
                       pair=find_pair(path, channels), generate_floats=run["floats"])


def apply_to_files(path, generate, choose_shape, channels, known=None):
    """The LoadedModel of a function `generate` of floats as exports take them,
    [1, height, width, channels], to those that they give. choose_shape: function of an image's
    shape [2] to that for it; known: as for `find_pair`."""
    pair = find_pair(path, int(channels), known)
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        parts = split_columns(pair.inputs.decode(contents), pair.inputs.count)
        shape = tf.shape(parts[0])[:2]
        size = choose_shape(shape)
        fed = tf.concat([pair.inputs.scaled_floats(part, size) for part in parts], axis=2), shape
        is_array = pair.targets.extension == ".npy"
        result = tf.placeholder(
            tf.float32, [1, None, None, pair.targets.file_channels if is_array else None])
        size = tf.placeholder(tf.int32, [2])
        encoded = encode_image(pair.targets.scaled_pixels(result[0], size), portable=False)
        sess = tf.Session(graph=graph, config=session_config())

    def run(image_bytes):
        """One image through the model."""
        pixels, shape = sess.run(fed, {contents: image_bytes})
        return sess.run(encoded, {result: generate(pixels[np.newaxis]), size: shape})
    return LoadedModel(path, run, run_on_shapes(choose_shape), pair=pair, generate_floats=generate)


def load_tflite(path, _native_size):
    """`load_file` of a TFLite file: any image is scaled to its size and back."""
    with warnings.catch_warnings(), quiet_stderr():
        warnings.simplefilter("ignore")  # that another package will take the interpreter over
        interpreter = tf.lite.Interpreter(str(path), num_threads=os.cpu_count() or 1)
        interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if interpreter.get_signature_list():
        runner = interpreter.get_signature_runner("serving_default")
        return apply_to_files(path, lambda pixels: runner(input=pixels)["output"],
                              lambda _: source["shape"][1:3], source["shape"][3])

    def generate(pixels):
        """Of an older export, which has no signature."""
        interpreter.set_tensor(source["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])
    return apply_to_files(path, generate, lambda _: source["shape"][1:3], source["shape"][3])


def open_onnx(path):
    """An ONNX file's function of float32 [batch, height, width, channels] 0..1 to the same, its
    metadata and its number of channels. Raises UserError, ValueError; the function RunError."""
    onnxruntime, = import_onnx(path, "onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # it prints nothing: errors are raised
    try:
        session = onnxruntime.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
    except Exception as error:  # its errors share no class
        raise ValueError(describe_error(error)) from None

    def generate(images):
        """One batch through the model."""
        try:
            return session.run(["output"], {"input": images})[0]
        except Exception as error:
            raise RunError(f"{path} cannot be run ({describe_error(error)}): export it again") \
                from None
    return (generate, session.get_modelmeta().custom_metadata_map,
            session.get_inputs()[0].shape[3])


def load_onnx(path, native_size):
    """`load_file` of an ONNX file: any image is scaled as in the signature `encoded`."""
    generate, metadata, channels = open_onnx(path)
    # those of an export from before --resize are missing
    sizing = test_sizing(Options(**{"resize": "stretch", **metadata, "native_size": native_size
                                    or metadata.get("native_size") == "True"}), 1)
    return apply_to_files(path, generate, lambda shape: network_shape(
        shape, sizing, float(metadata["aspect_ratio"])), channels,
        json.loads(metadata.get("model", "{}")))


def load_export(path, network, native_size=False, with_floats=False):
    """`load_model` of a file of an export, with what the options.json beside it says."""
    model = load_file(path, network, native_size, with_floats)
    if path.suffix == ".pict" or not export_options(path):
        return model
    options = options_to_apply(path, network)
    find_shape = model.network_shape or run_on_shapes(
        lambda shape: size_of(options.crop_size) if path.suffix in ONE_SIZE
        else network.find_shape(shape, options))
    return model._replace(network_shape=find_shape, trained_ratio=options.trained_ratio,
                          size=size_of(options.crop_size))


def load_model(path, network, native_size=False, tile=0, with_floats=False):
    """The LoadedModel of a training folder, a checkpoint, a .pict file or an export.

    network: Network. native_size: it works at each image's own size; tile: in strips of so many
    rows. with_floats: its `generate_floats` is wanted too. Raises UserError.
    """
    export_file = find_export(path)
    if tile and not (export_file and export_file.suffix != ".pict"):
        return load_checkpoint(export_file or find_model(path), network, True, tile)
    if tile:
        raise UserError(f"--tile {tile} does not work with {export_file}, which is one graph: give "
                        "the training folder, a checkpoint or a .pict file")
    return load_export(export_file, network, native_size, with_floats) if export_file \
        else load_checkpoint(find_model(path), network, native_size, with_floats=with_floats)


# --------------------------------------------------------------------------------------------------
# Images for them
# --------------------------------------------------------------------------------------------------


class Readable(NamedTuple):
    """An image file as a model reads it."""

    contents: bytes  # of a file of a type that it reads
    # what the file said that these do not tell any more; None: they do
    deep_range: Any = None  # as in Decoded
    channels: int | None = None


def make_readable(contents, side, name="the image"):
    """The Readable of an image file's bytes, of any format. side: ImageType of the model's inputs;
    name: of the image, for messages. Raises ValueError, ImageError."""
    channels = side.file_channels
    if side.kind == "labels":
        return Readable(encode_stored(side.read(contents)), None, channels)
    if "jpeg" not in side.filetypes:
        pixels = narrow(decode_stored(contents).pixels, side.dtype)
        taken, found = (channels, side.dtype), (pixels.shape[2], pixels.dtype.name)
        if found != taken:
            raise ImageError(f"{name} has {found[0]} channels of {found[1]}, the model takes "
                             f"{taken[0]} of {taken[1]}: convert it")
        return Readable(encode_stored(pixels), None, channels)
    if format_of(contents) in GRAPH_FORMATS and not is_deep_png(contents):
        return Readable(contents)
    decoded = decode_bytes(contents, channels)
    return Readable(to_bytes(decoded.pixels), decoded.deep_range, decoded.channels)
