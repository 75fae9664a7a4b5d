"""Exported models in six formats: writing, and comparing with the checkpoint once loaded back.

A .pict file is the format of affinelayer's browser demo. What needs the network comes from the
caller: builders of graphs.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.lib.checkpoints import encode_pict, infer_options, load_variables
from tools.lib.cli import (
    RunError, UserError, all_of, check_combinations, quiet_stderr, say, size_of, warn)
from tools.lib.files import remove, write_atomic, write_json
from tools.lib.geometry import squeeze_of
from tools.lib.image_files import format_of
from tools.lib.image_types import CHANNELS, SIDE_OPTIONS, pair_of, stack_images, turn_sides
from tools.lib.images import convert_channels
from tools.lib.models import (
    EXPORT_FILES, ONE_SIZE, import_onnx, load_file, open_onnx, run_on_shapes)
from tools.lib.options import DISCRIMINATOR_OPTIONS, MODEL_OPTIONS
from tools.lib.run_folder import remove_results, write_options
from tools.lib.stored import decode_stored, encode_stored
from tools.lib.tf1 import session_config, tf

LABEL_TOLERANCE = 1  # percent of the pixels of a label map, for each level of others
BFLOAT16_TOLERANCE = 6  # more levels, where layers compute in it: their forms round differently
JPEG_TOLERANCE = 12  # more levels, where the result is a JPEG file: one may become another step
MAX_CONSTANT = 4096  # values of a constant that tf2onnx is given, which copies them dozens of times
ONNX_OPSET = 15  # of 2021, which other programs have caught up with
SIZE_OPTIONS = ("crop_size", "resize", "native_size")  # where a model works
DEMO_WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)  # of the demo's encoder_1 to encoder_8, in units of ngf


class Endpoints(NamedTuple):
    """Inputs and outputs of an exported graph; their names are stable."""

    images: Any = None  # "input": [batch, height, width, channels], of images 0..1
    results: Any = None  # "output": the same
    plain_results: Any = None  # "output_any_size": the same by a graph without branches
    encoded: Any = None  # "input_bytes": PNG or JPEG files
    encoded_results: Any = None  # "output_bytes"


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def write_saved_model(sess, ends, folder):
    """Writes saved_model.pb and variables/ with the signature serving_default, and where there are
    ends for them any_size and encoded."""
    info = tf.saved_model.build_tensor_info
    signatures = {name: tf.saved_model.build_signature_def(
        {"input": info(ends.images)}, {"output": info(results)}, tf.saved_model.PREDICT_METHOD_NAME)
        for name, results in (("serving_default", ends.results), ("any_size", ends.plain_results))
        if results is not None}
    if ends.encoded is not None:
        # TensorFlow Serving sends and takes names that end in _bytes as {"b64": ...}
        signatures["encoded"] = tf.saved_model.build_signature_def(
            {"input_bytes": info(ends.encoded)}, {"output_bytes": info(ends.encoded_results)},
            tf.saved_model.PREDICT_METHOD_NAME)
    builder = tf.saved_model.Builder(str(folder / "model"))
    # those of layers_for too: what loads it by this saver computes nothing
    saver = tf.train.Saver([*tf.global_variables(), *tf.local_variables()])
    builder.add_meta_graph_and_variables(sess, [tf.saved_model.SERVING], signatures, saver=saver)
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
    outputs = [tensor.op.name for tensor in (ends.results, ends.plain_results,
                                             ends.encoded_results) if tensor is not None]
    frozen = tf.graph_util.convert_variables_to_constants(sess, sess.graph.as_graph_def(), outputs)
    write_atomic(folder / "graph.pb", frozen.SerializeToString())


def demo_shapes(ngf):
    """Name -> shape of the variables that affinelayer's browser demo reads from a .pict file, and
    the programs that follow it."""
    shapes, channels = {}, [3, *(ngf * width for width in DEMO_WIDTHS)]
    for number, (below, above) in enumerate(itertools.pairwise(channels), 1):
        inputs = above if number == len(DEMO_WIDTHS) else 2 * above  # with the skip
        for scope, kernel, outputs in ((f"encoder_{number}/conv2d", [4, 4, below, above], above),
                                       (f"decoder_{number}/conv2d_transpose",
                                        [4, 4, below, inputs], below)):
            layer = f"generator/{scope}"
            shapes |= {f"{layer}/kernel": kernel, f"{layer}/bias": [outputs]}
            if number > 1:
                norm = f"{layer.rpartition('/')[0]}/batch_normalization"
                shapes |= {f"{norm}/gamma": [outputs], f"{norm}/beta": [outputs]}
    return shapes


def warn_of_demo(shapes):
    """Warns where a .pict file's variables, name -> shape, are not those that other programs draw
    by."""
    found = infer_options(shapes)
    wanted = demo_shapes(found["ngf"])
    if shapes == wanted:
        return
    wanted, names = infer_options(wanted), ("a_channels", "b_channels")
    if any(found.get(name) != wanted[name] for name in names):  # which is whose they do not tell
        found = {name: value for name, value in found.items() if name not in names}
    flags = [f"{'' if value else 'no '}--{name}" if isinstance(value, bool) else f"--{name} {value}"
             for name, value in wanted.items() if found.get(name) != value]
    warn("affinelayer's browser demo, ml5 and Unity's Pix2Pix cannot draw this model.pict (they "
         f"fail, or draw another image): for them train with {', '.join(flags)}")


def write_pict(sess, _ends, folder):
    """Writes model.pict."""
    names = {variable.op.name: variable for variable in tf.trainable_variables("generator/")}
    warn_of_demo({name: variable.shape.as_list() for name, variable in names.items()})
    write_atomic(folder / "model.pict", encode_pict(sess.run(names)))


# --------------------------------------------------------------------------------------------------
# Converting
# --------------------------------------------------------------------------------------------------


def convert_tflite(folder, _options):
    """Replaces the SavedModel in a folder by model.tflite, which keeps its signature."""
    # version 1's converter, which a session can be given to, writes no signature
    converter = tf.compat.v2.lite.TFLiteConverter.from_saved_model(str(folder))
    with quiet_stderr():  # which of its own settings it ignores, at any log level
        contents = converter.convert()
    for path in folder.iterdir():
        remove(path)
    write_atomic(folder / "model.tflite", contents)


def detach_weights(graph_def):
    """Makes the large constants of a frozen graph its inputs; returns tensor name -> array."""
    weights = {}
    for node in graph_def.node:
        if node.op != "Const":
            continue
        tensor = node.attr["value"].tensor
        if math.prod(dimension.size for dimension in tensor.tensor_shape.dim) > MAX_CONSTANT:
            weights[f"{node.name}:0"] = tf.make_ndarray(tensor)
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
            del node.attr["value"]
    return weights


def attach_weights(graph, weights):
    """Makes inputs of an ONNX graph, name -> array, its constants, transposed where it did that."""
    from onnx import numpy_helper
    constants, nodes = dict(weights), []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in weights:
            constants[node.output[0]] = weights[node.input[0]].transpose(node.attribute[0].ints)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    inputs = [tensor for tensor in graph.input if tensor.name not in weights]
    for field, values in ((graph.node, nodes), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    graph.initializer.extend(numpy_helper.from_array(array, name)
                             for name, array in constants.items() if name in used)


def generator_options(options):
    """What the generator and its images are, as a dict."""
    return {name: getattr(options, name) for name in MODEL_OPTIONS
            if name not in DISCRIMINATOR_OPTIONS}


def convert_onnx(folder, options):
    """Replaces the frozen graph in a folder by model.onnx."""
    tf2onnx, = import_onnx("--export_format onnx", "tf2onnx")
    path = folder / "graph.pb"
    graph_def = tf.GraphDef.FromString(path.read_bytes())
    weights = detach_weights(graph_def)
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def, input_names=["input:0", *weights], output_names=["output:0"],
        tensors_to_rename={"input:0": "input", "output:0": "output"}, opset=ONNX_OPSET)
    attach_weights(model.graph, weights)
    for tensor in (*model.graph.input, *model.graph.output):
        for dimension, name in zip(tensor.type.tensor_type.shape.dim, ("batch", "height", "width"),
                                   strict=False):
            dimension.dim_param = name
    sizes = {name: getattr(options, name) for name in SIZE_OPTIONS}  # at which `load_onnx` uses it
    for name, value in {**sizes, "aspect_ratio": squeeze_of(options),
                        "model": json.dumps(generator_options(options))}.items():
        model.metadata_props.add(key=name, value=str(value))
    write_atomic(folder / "model.onnx", model.SerializeToString())
    verify_onnx(path, folder / "model.onnx", options)
    remove(path)


class ExportFormat(NamedTuple):
    """A format of exported models."""

    graph: str  # which graph the caller builds: "any_size", "floats", "one_size", "affinelayer"
    write: Any  # function of session, Endpoints and folder
    tolerance: int  # largest difference from the checkpoint's own image, in 8-bit levels
    convert: Any = None  # function of folder and options: from what `write` wrote, outside a graph


EXPORT_FORMATS = {
    "saved_model": ExportFormat("any_size", write_saved_model, tolerance=1),
    "affinelayer": ExportFormat("affinelayer", write_affinelayer, tolerance=1),
    "graph": ExportFormat("any_size", write_graph, tolerance=1),
    "tflite": ExportFormat("one_size", write_saved_model, tolerance=2, convert=convert_tflite),
    "onnx": ExportFormat("floats", write_graph, tolerance=1, convert=convert_onnx),
    "pict": ExportFormat("one_size", write_pict, tolerance=64)}


def add_options(add):
    """What to export."""
    add("--export_format", nargs="+", default=["saved_model", "affinelayer"],
        choices=[*EXPORT_FORMATS], help="formats to export")
    add("--output_filetype", default="png", choices=["png", "jpeg"],
        help="image format that an export returns")


def check(options, _explicit):
    """Raises UserError for options that a format cannot hold."""
    foreign = options.mode == "export" and {"tflite", "onnx", "pict"} & {*options.export_format}
    check_combinations([
        (foreign and options.precision != "float32",
         f"--precision {options.precision} does not work with --export_format tflite, onnx and "
         "pict: remove one"),
        (foreign and options.test_dropout,
         "--test_dropout does not work with --export_format tflite, onnx and pict: remove one")])


def has_portable_files(options):
    """Whether a graph can read and write a model's files without Python."""
    inputs, targets = pair_of(options)[:2]
    return inputs.dtype != "float32" and inputs.file_channels in CHANNELS \
        and targets.extension == ".png"


def check_sides(options):
    """Raises UserError where a format cannot hold what the files of a model hold."""
    targets = pair_of(options).targets
    check_combinations([
        ("affinelayer" in options.export_format and not has_portable_files(options),
         "--export_format affinelayer needs files that TensorFlow reads and writes, PNG of 8 or 16 "
         f"bits in {all_of([*map(str, CHANNELS)])} channels: choose another format"),
        (options.output_filetype == "jpeg" and targets.kind == "labels",
         "--output_filetype jpeg changes the colours and indices of label maps: remove it"),
        (options.output_filetype == "jpeg" and "jpeg" not in targets.filetypes,
         "--output_filetype jpeg holds 8 bits in 1 or 3 channels, the results have "
         f"{targets.file_channels} of {targets.dtype}: remove it")])


def check_pict(stored, options):
    """Raises UserError where a .pict file, which is variables alone, cannot describe the model."""
    for side in "ab":
        for name, what in (("type", "a type"), ("range", "a range"), ("ignore", "values to ignore"),
                           ("classes", "classes")):
            if getattr(options, f"{side}_{name}") != MODEL_OPTIONS[f"{side}_{name}"]:
                raise UserError("--export_format pict cannot hold that images of "
                                f"{side.upper()} have {what} of their own: choose another format")
    plain = {f"{side}_{name}": MODEL_OPTIONS[f"{side}_{name}"]
             for side in "ab" for name in SIDE_OPTIONS[1:]}
    inferred = {"padding": "zero", "mask_channel": False, **plain,
                **turn_sides(infer_options(stored.shapes), options.which_direction)}
    for name in ("crop_size", *MODEL_OPTIONS):
        if name not in ("which_direction", "ndf", "patch_size", "unconditional") \
                and inferred.get(name) != getattr(options, name):
            value = getattr(options, name)
            text = f"--{name}" if value is True else f"--{name} {value}"
            raise UserError(f"--export_format pict cannot hold {text}: choose another format")


# --------------------------------------------------------------------------------------------------
# Comparing with the checkpoint
# --------------------------------------------------------------------------------------------------


def draw_waves(height, width, channels):
    """An image of waves and edges in all colours, uint8 [height, width, channels]."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    waves = [np.sin(20 * x * (1 + y)), np.cos(31 * y), np.sign(np.sin(25 * (x + y))),
             np.cos(17 * (x - y))]
    waves = np.stack([waves[channel % len(waves)] for channel in range(max(channels, 3))], axis=2)
    image = np.uint8(127.5 + 127 * waves)
    return convert_channels(image, channels) if channels == 1 else image[..., :channels]


def draw_example(height, width, side):
    """A file of a side: its pixels [height, width, channels]."""
    if side.kind == "labels":
        return side.draw_classes(draw_waves(height, width, 3)[..., 0].astype(int)
                                 * len(side.names) // 256)
    waves = draw_waves(height, width, side.file_channels)
    pixels = (side.low + waves / 255 * (side.high - side.low)).astype(side.dtype)
    if side.has_mask:  # a corner without measurements
        pixels[:height // 4, :width // 4] = side.ignore[0] if side.ignore else np.nan
    return pixels


def to_levels(pixels, side):
    """Pixels of a file of a side -> float64 [height, width, channels] in 255 levels."""
    if side.kind == "labels":
        return pixels.astype(np.float64)
    if "jpeg" in side.filetypes:
        return convert_channels(pixels, 4).astype(np.float64)
    return (pixels.astype(np.float64) - side.low) * 255 / (side.high - side.low)


def read_levels(contents, side):
    """`to_levels` of a file's bytes."""
    if "jpeg" not in side.filetypes:
        return to_levels(decode_stored(contents).pixels, side)
    from PIL import Image
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGBA"), np.float64)


def check_difference(what, differences, tolerance, side, source="checkpoint"):
    """Prints how far a format is from its source. differences: of the pixels [..., channels], in
    levels; side: ImageType of these. Raises RunError where too far."""
    difference = np.abs(differences).max()
    if side.kind == "labels":  # rounding decides between two classes of the same score
        difference, tolerance = 100 * differences.any(axis=-1).mean(), LABEL_TOLERANCE * tolerance
        say(f"{what}: {difference:.2f} % of the pixels are of another class than in the {source}'s "
            f"image, allowed {tolerance} %")
    else:
        say(f"{what}: largest difference from the {source}'s image {difference:.0f} of 255, "
            f"allowed {tolerance}")
    if not difference <= tolerance:  # NaN too
        raise RunError(f"--export_format {what} gives another image than the {source}: nothing "
                       "was written")


def verify_files(what, export, example, side, tolerance):
    """Compares what an export makes of an image file with the checkpoint's result of the same file
    type. export: LoadedModel; example: image and its results, file type -> bytes; side: ImageType
    of the targets. Raises RunError where they differ."""
    image, results = example
    contents = export.generate(encode_stored(image))
    is_jpeg = format_of(contents) == "jpeg"
    expected = read_levels(results["jpeg" if is_jpeg else "png"], side)
    check_difference(what, read_levels(contents, side) - expected,
                     tolerance + JPEG_TOLERANCE * is_jpeg, side)


def stack_floats(image, side):
    """What exports take, [1, height, width, channels], of images side by side in a file."""
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        return stack_images(sess.run(side.floats_of(tf.constant(image))), side.count)[np.newaxis]


def verify_floats(what, export, example, pair, tolerance):
    """As `verify_files`, of floats. pair: PairType."""
    image, results = example
    got = export.generate_floats(stack_floats(image, pair.inputs))
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        pixels = sess.run(pair.targets.pixels_of(tf.constant(got[0])))
    difference = to_levels(pixels, pair.targets) - read_levels(results["png"], pair.targets)
    check_difference(what, difference, tolerance, pair.targets)


def verify_onnx(graph_path, onnx_path, options):
    """Compares an ONNX file with the frozen graph that it comes from, on images of another size
    than the model's: the checkpoint has no result for them."""
    (height, width), (inputs, targets, *_) = size_of(options.crop_size), pair_of(options)
    image = draw_example(height + 1, inputs.count * (2 * width - 1), inputs)
    images = stack_floats(image, inputs)
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        tf.import_graph_def(tf.GraphDef.FromString(graph_path.read_bytes()), name="")
        expected = sess.run("output:0", {"input:0": images})
    generate, *_ = open_onnx(onnx_path)
    levels = 255 if "jpeg" in targets.filetypes else 255 / (targets.high - targets.low)
    check_difference("onnx, another size", levels * (generate(images) - expected),
                     EXPORT_FORMATS["onnx"].tolerance, targets, "graph")


def write_export(name, folder, stored, options, build):
    """Writes one format into a new folder. build: function of options -> Endpoints."""
    row = EXPORT_FORMATS[name]
    folder.mkdir()
    with tf.Graph().as_default() as graph:
        ends = build(options)
        with tf.Session(graph=graph, config=session_config()) as sess:
            load_variables(sess, stored, tf.global_variables(), options)
            sess.run(tf.local_variables_initializer())  # of layers_for
            row.write(sess, ends, folder)
    if row.convert:
        row.convert(folder, options)


def write_verified_export(name, folder, stored, options, network, examples):
    """Writes one format into a new folder, loads it back and compares its results. network: as in
    `write_exports`; examples: (image, its results): of --crop_size, of the shape of training's
    images, and of a size that the network was not trained at."""
    row = EXPORT_FORMATS[name]
    tolerance = row.tolerance + BFLOAT16_TOLERANCE * (options.precision == "bfloat16")
    write_export(name, folder, stored, options, network.builders[row.graph])
    # those that take files of any size squeeze them as training did, the others take the network's
    pair, any_size = pair_of(options), row.graph == "any_size"
    # TFLite's and ONNX's files hold numbers alone, and those of other models where needed
    native_size = row.graph == "floats" or not has_portable_files(options)
    write_json(folder / "options.json", {  # what the loader asks of it; the squeeze is not compared
        "mode": "export", "export_format": [name], **generator_options(options)})
    export = load_file(folder / EXPORT_FILES[name], network.loading,
                       native_size and Path(EXPORT_FILES[name]).suffix not in ONE_SIZE)
    verify_files(name, export, examples[any_size and not native_size], pair.targets, tolerance)
    if any_size:  # there is a branch for the trained size and one for others
        other = examples[2][0].shape[0], examples[2][0].shape[1] // pair.inputs.count
        find_shape = run_on_shapes(lambda shape: network.loading.find_shape(shape, options))
        verify_floats(f"{name}, floats", export, examples[0], pair, tolerance)
        verify_floats(f"{name}, another size", export, examples[2], pair, tolerance)
        if not native_size and find_shape(other) == other:  # files are not scaled to another
            verify_files(f"{name}, files of another size", export, examples[2], pair.targets,
                         tolerance)


class NetworkFunctions(NamedTuple):
    """What the caller knows of the network."""

    builders: dict  # ExportFormat.graph -> function of options -> Endpoints
    loading: Any  # models.Network
    # function of StoredVariables, options and (image, size to scale it to or None) -> file type ->
    # bytes of each
    run: Any


def write_exports(stored, options, network):
    """Writes each --export_format into --output_dir, replacing an earlier export there, after each
    has given the checkpoint's own results. Raises RunError where one does not."""
    output_dir, (height, width) = Path(options.output_dir), size_of(options.crop_size)
    side, squeeze = pair_of(options).inputs, squeeze_of(options)
    images = [draw_example(height, side.count * width, side),
              draw_example(round(height * max(1 / squeeze, 1)),
                           side.count * round(width * max(squeeze, 1)), side),
              draw_example(2 * height, side.count * width, side)]
    sizes = [(height, width), (height, width), None]
    results = network.run(stored, options, [*zip(images, sizes, strict=True)])
    examples = [*zip(images, results, strict=True)]
    for path in output_dir.glob(".export-*"):  # of a process that was killed
        remove(path)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output_dir) as folder:
        for name in options.export_format:
            write_verified_export(name, Path(folder) / name, stored, options, network, examples)
        remove_results(output_dir, "export")
        for name in options.export_format:
            for path in (Path(folder) / name).iterdir():
                path.replace(output_dir / path.name)
        write_options(options)
