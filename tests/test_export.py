"""Export: every format against the checkpoint's own images, through its own loader and ours."""

import base64
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import (EXPORTS, HAS_ONNX, ROOT, SHARED, build_once, draw, read_files, read_pixels, run,
                     run_graph, start_session, to_jpeg)
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

import pix2pix
from tools.lib import geometry
from tools.lib.checkpoints import StoredVariables
from tools.lib.cli import RunError, UserError, with_options
from tools.lib.export_formats import MAX_CONSTANT, check_difference, check_pict
from tools.lib.image_files import format_of
from tools.lib.image_types import SIDE_OPTIONS, ImageType
from tools.lib.images import to_bytes
from tools.lib.options import MODEL_OPTIONS
from tools.lib.tf1 import tf


needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs tf2onnx and onnxruntime")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with images/, a trained run/, its test out/ and its export/ in every format."""
    def build(root):
        (root / "images").mkdir()
        pixels = np.random.default_rng(2).integers(0, 256, (5, 10, 3), np.uint8)
        Image.fromarray(pixels).resize((128, 64)).save(root / "images/one.png")
        assert run("--mode", "train", "--input_dir", root / "images", "--output_dir", root / "run",
                   "--crop_size", 64, "--ngf", 4, "--gan_weight", 0, "--seed", 3, "--max_steps",
                   30, "--lr", 0.002) == 0
        assert run("--mode", "test", "--input_dir", root / "images", "--checkpoint", root / "run",
                   "--output_dir", root / "out") == 0
        assert run("--mode", "export", "--checkpoint", root / "run", "--output_dir",
                   root / "export", "--export_format", *EXPORTS) == 0
    return build_once(tmp_path_factory, "export", build)


def png(array):
    """Bytes of a PNG file."""
    return to_bytes(array.astype(np.uint8))


@pytest.mark.parametrize("file, tolerance", [
    ("", 1), ("saved_model.pb", 1), ("export.meta", 1), ("graph.pb", 1), ("model.tflite", 2),
    pytest.param("model.onnx", 1, marks=needs_onnx)])
def test_each_format_gives_the_images_of_test(model, file, tolerance):
    generate = pix2pix.load_model(model / "export" / file).generate
    got = read_pixels(generate((model / "out/images/one-inputs.png").read_bytes()))
    expected = read_pixels(model / "out/images/one-outputs.png")
    assert np.abs(got - expected).max() <= tolerance
    assert expected.std() > 5 and np.abs(expected[::-1] - expected).mean() > 2


def test_pict_gives_the_images_of_test_with_rounded_weights(model, tmp_path):
    """And no others: those of the network whose weights are what the file holds."""
    contents = (model / "out/images/one-inputs.png").read_bytes()
    got = read_pixels(pix2pix.load_model(model / "export/model.pict").generate(contents))
    expected = read_pixels(model / "out/images/one-outputs.png")
    assert 0 < np.abs(got - expected).mean() < 6
    assert run("--mode", "test", "--input_dir", model / "images", "--checkpoint",
               model / "export/model.pict", "--output_dir", tmp_path / "out") == 0
    assert np.abs(got - read_pixels(tmp_path / "out/images/one-outputs.png")).max() <= 1


def test_saved_model_has_both_signatures_for_any_batch_and_size(model):
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = tf.saved_model.load(sess, ["serve"], str(model / "export"))
        plain, encoded = (meta.signature_def[name] for name in ("serving_default", "encoded"))
        assert (list(plain.inputs), list(plain.outputs)) == (["input"], ["output"])
        assert (list(encoded.inputs), list(encoded.outputs)) == (["input_bytes"], ["output_bytes"])

        def call(batch):
            return sess.run(plain.outputs["output"].name, {plain.inputs["input"].name: batch})
        batch = draw(1, 3, 64, 64, 3, low=0, high=1)
        results = call(batch)
        assert results.shape == batch.shape and 0 <= results.min() < results.max() <= 1
        for index in range(3):  # an image's result does not depend on its neighbours
            np.testing.assert_allclose(call(batch[index:index + 1])[0], results[index], atol=1e-5)
        assert np.abs(results[0] - results[1]).mean() > 1e-3
        odd = draw(2, 1, 70, 41, 3, low=0, high=1)
        # mirrored to 96 x 64 or so around, then cut back
        rows, columns = (np.pad(np.arange(size), [(before, after)], mode="symmetric")
                         for size, before, after in ((70, 29, 29), (41, 11, 12)))
        around = call(odd[:, rows][:, :, columns])
        np.testing.assert_allclose(call(odd), around[:, 29:99, 11:52], atol=1e-5)

        files = [png(draw(3, 64, 64, 3, low=0, high=255)),
                 png(draw(4, 50, 120, 3, low=0, high=255))]
        together = sess.run(encoded.outputs["output_bytes"].name,
                            {encoded.inputs["input_bytes"].name: files})
        alone = pix2pix.load_model(model / "export").generate
        assert [read_pixels(result).shape for result in together] == [(64, 64, 3), (50, 120, 3)]
        for file, result in zip(files, together, strict=True):
            assert np.abs(read_pixels(alone(file)) - read_pixels(result)).max() <= 1
        float_result = call(read_pixels(files[0])[np.newaxis].astype(np.float32) / 255)[0] * 255.5
        assert np.abs(np.floor(float_result) - read_pixels(together[0])).max() <= 1


def read_functions(path):
    """The nodes of a graph and of its functions, of a SavedModel or a frozen graph."""
    contents = path.read_bytes()
    graph_def = tf.GraphDef.FromString(contents) if path.name == "graph.pb" else \
        saved_model_pb2.SavedModel.FromString(contents).meta_graphs[0].graph_def
    return [graph_def.node, *(function.node_def for function in graph_def.library.function)]


@pytest.mark.parametrize("file", ["saved_model.pb", "graph.pb"])
def test_an_export_has_a_branch_of_the_trained_size_and_the_weights_once(model, file):
    """The fast forms of layers need a known size; they are products of matrices."""
    functions = read_functions(model / "export" / file)
    assert sum(any(node.op == "MatMul" for node in nodes) for nodes in functions) == 2  # two ends
    assert not any("PyFunc" in node.op for nodes in functions for node in nodes)
    with tf.Graph().as_default(), tf.Session() as sess:
        size_of_weights = sum(
            sess.run(tensor).nbytes for tensor in import_weights(model / "export/graph.pb"))
    if file == "saved_model.pb":
        size = (model / "export/variables/variables.data-00000-of-00001").stat().st_size
    else:
        size = sum(tf.make_ndarray(node.attr["value"].tensor).nbytes for nodes in functions
                   for node in nodes if node.op == "Const" and node.attr["dtype"].type != 7)
    assert size_of_weights <= size < 1.5 * size_of_weights  # with indices and transforms of layers


def import_weights(path):
    """The weights of a frozen graph."""
    tf.import_graph_def(tf.GraphDef.FromString(path.read_bytes()), name="")
    return [operation.outputs[0] for operation in tf.get_default_graph().get_operations()
            if operation.type == "Const"
            and operation.name.endswith(("/kernel", "/bias", "/gamma", "/beta"))]


def test_both_branches_are_the_same_network(options):
    """Of batches, of which each image has its own statistics."""
    options = with_options(options, crop_size="64x128")
    with tf.Graph().as_default() as graph:
        images = pix2pix.place_images(options)
        both, general = (pix2pix.generate_floats(images, options, purpose)
                         for purpose in ("inference", "foreign"))
        types = [operation.type for operation in graph.get_operations()]
        assert types.count("If") == 1
        with start_session(graph, fill=True) as sess:
            for shape in ((3, 64, 128), (1, 64, 128), (2, 128, 64), (1, 70, 41)):
                got, expected = sess.run([both, general], {images: draw(7, *shape, 3, low=0)})
                np.testing.assert_allclose(got, expected, atol=1e-4)
                assert got.shape == (*shape, 3) and got.std() > 0.05


def test_a_saved_model_keeps_transformed_kernels_and_a_checkpoint_does_not(model):
    """What is computed of kernels is stored with them, once for all of the graph's forms."""
    stored = tf.train.load_checkpoint(str(model / "export/variables/variables"))
    names = set(stored.get_variable_to_shape_map())
    kept = {name for name in names if name.endswith("/inner_taps")}
    assert {name.split("/")[1] for name in kept} == {"encoder_6", "decoder_6"}
    for name in kept:
        kernel = stored.get_tensor(f"{name.rpartition('/')[0]}/kernel")
        np.testing.assert_array_equal(
            stored.get_tensor(name), kernel[1:3, 1:3].reshape(-1, kernel.shape[3]))
    plain = tf.train.load_checkpoint(str(model / "export/export"))
    assert set(plain.get_variable_to_shape_map()) == names - kept


def test_a_saved_model_as_a_checkpoint(model, tmp_path, capsys):
    assert run("--mode", "test", "--input_dir", model / "images", "--checkpoint",
               model / "export/variables/variables", "--output_dir", tmp_path / "out") == 0
    assert "not used" not in capsys.readouterr().out
    np.testing.assert_array_equal(*(read_pixels(folder / "images/one-outputs.png")
                                    for folder in (model / "out", tmp_path / "out")))
    assert run("--mode", "train", "--input_dir", model / "images", "--output_dir",
               tmp_path / "run", "--checkpoint", model / "export/variables/variables",
               "--crop_size", 64, "--ngf", 4, "--gan_weight", 0, "--max_steps", 1) == 0
    assert "inner_taps" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["saved_model", "graph", "affinelayer"])
def test_an_export_in_bfloat16(model, tmp_path, capsys, name):
    """Kernels are stored in it, but not in a checkpoint; other sizes, some of which leave a column
    of one pixel, give the checkpoint's results too."""
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir", tmp_path,
               "--precision", "bfloat16", "--export_format", name) == 0
    assert f"{name}: largest difference from the checkpoint's image" in capsys.readouterr().out
    file = {"saved_model": "variables/variables.data-00000-of-00001", "graph": "graph.pb",
            "affinelayer": "export.data-00000-of-00001"}[name]
    sizes = [(folder / file).stat().st_size for folder in (tmp_path, model / "export")]
    if name == "graph":  # whose nodes are larger than the weights of so small a model
        with tf.Graph().as_default() as graph:
            assert {tensor.dtype for tensor in import_weights(tmp_path / file)
                    if tensor.op.name.endswith("/kernel")} == {tf.bfloat16}
            plain = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ["output_any_size"])
            assert not {"If", "StatelessIf"} & {node.op for node in plain.node}
    else:
        assert sizes[0] == sizes[1] if name == "affinelayer" else sizes[0] < 0.6 * sizes[1]
    got, expected = (read_pixels(pix2pix.load_model(folder).generate(
        (model / "out/images/one-inputs.png").read_bytes())) for folder in (
            tmp_path, model / "export"))
    assert np.abs(got - expected).max() <= 8


def test_a_part_of_a_frozen_graph_has_no_branches(model):
    """Programs that convert it put the weights into each branch, and may be wrong in one."""
    with tf.Graph().as_default(), tf.Session() as sess:
        graph_def = tf.GraphDef.FromString((model / "export/graph.pb").read_bytes())
        plain = tf.graph_util.extract_sub_graph(graph_def, ["output_any_size"])
        assert {"Conv2D", "LeakyRelu"} < {node.op for node in plain.node}
        assert not {"If", "StatelessIf"} & {node.op for node in plain.node}
        assert {"If", "StatelessIf"} & {node.op for node in graph_def.node}
        tf.import_graph_def(graph_def, name="")
        for shape in ((2, 64, 64), (1, 70, 41)):
            images = draw(1, *shape, 3, low=0)
            got, expected = sess.run(["output_any_size:0", "output:0"], {"input:0": images})
            np.testing.assert_allclose(got, expected, atol=1e-4)


def test_an_export_that_is_wrong_at_other_sizes_fails(model, tmp_path, capsys, monkeypatch):
    """Nothing of it shows at the trained size."""
    real = geometry.run_padded
    monkeypatch.setattr(geometry, "run_padded",
                        lambda run, images, multiple: 0.9 * real(run, images, multiple))
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir",
               tmp_path / "export", "--export_format", "saved_model") == 1
    assert "saved_model, another size gives another image" in capsys.readouterr().err


def test_a_tall_image_keeps_its_shape_inside_the_model(model):
    """Its shorter side is scaled to the model's size, not its whole into a square."""
    half = np.kron(draw(5, 6, 3, 3, low=0, high=255), np.ones((64, 64, 1)))  # 384 x 192
    got = read_pixels(pix2pix.load_model(model / "export/graph.pb").generate(png(half)))
    small = half.reshape(128, 3, 64, 3, 3).mean((1, 3))
    expected = read_pixels(pix2pix.load_model(model / "export/graph.pb").generate(png(small)))
    assert got.shape == (384, 192, 3) and expected.shape == (128, 64, 3)
    shrunk = np.asarray(Image.fromarray(got.astype(np.uint8)).resize((64, 128)), int)
    assert np.abs(shrunk - expected).mean() < 6


def test_keras_free_loading_of_the_saved_model_by_tf2(model):
    """As users of version 2 do, not in a graph of version 1."""
    v2 = tf.compat.v2
    loaded = v2.saved_model.load(str(model / "export"))
    floats = loaded.signatures["serving_default"](input=v2.zeros([2, 64, 64, 3]))["output"]
    contents = v2.io.read_file(str(model / "out/images/one-inputs.png"))
    encoded = loaded.signatures["encoded"](input_bytes=v2.stack([contents]))["output_bytes"]
    assert floats.shape == (2, 64, 64, 3)
    expected = read_pixels(model / "out/images/one-outputs.png")
    assert np.abs(read_pixels(encoded[0].numpy()) - expected).mean() < 0.6


def run_affinelayers_graph(folder, contents):
    """The file that affinelayer's graph makes of an image file, fed as its scripts do."""
    with tf.Graph().as_default(), tf.Session() as sess:
        saver = tf.train.import_meta_graph(str(folder / "export.meta"))
        saver.restore(sess, tf.train.latest_checkpoint(str(folder)))
        inputs = json.loads(tf.get_collection("inputs")[0])
        outputs = json.loads(tf.get_collection("outputs")[0])
        got, key = sess.run([outputs["output"], outputs["key"]],
                            {inputs["input"]: [base64.urlsafe_b64encode(contents)],
                             inputs["key"]: ["k"]})
    assert key[0] == b"k"
    return base64.urlsafe_b64decode(got[0] + b"=" * (-len(got[0]) % 4))


def test_affinelayers_graph_is_fed_as_its_scripts_do(model):
    result = run_affinelayers_graph(model / "export",
                                    (model / "out/images/one-inputs.png").read_bytes())
    expected = read_pixels(model / "out/images/one-outputs.png")
    assert format_of(result) == "png" and np.abs(read_pixels(result) - expected).max() <= 1


def test_affinelayers_graph_has_the_tensor_names_of_its_script(model):
    """Programs rely on them; the text and array that they feed are its process-local.py's."""
    contents = (model / "out/images/one-inputs.png").read_bytes()
    text = np.array(base64.urlsafe_b64encode(contents).decode("ascii"))
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        tf.train.import_meta_graph(str(model / "export/export.meta")).restore(
            sess, str(model / "export/export"))
        assert json.loads(tf.get_collection("inputs")[0]) == {
            "input": "Placeholder:0", "key": "Placeholder_1:0"}
        assert json.loads(tf.get_collection("outputs")[0]) == {
            "output": "packed:0", "key": "Identity:0"}
        for name in ("Placeholder:0", "Placeholder_1:0", "packed:0", "Identity:0"):
            tensor = graph.get_tensor_by_name(name)
            assert (tensor.dtype, tensor.shape.as_list()) == (tf.string, [1])
        result = sess.run("packed:0", {"Placeholder:0": np.expand_dims(text, axis=0)})[0]
        assert sess.run("Identity:0", {"Placeholder_1:0": ["0"]}) == [b"0"]
    result = result.decode("ascii")
    got = read_pixels(base64.urlsafe_b64decode(result + "=" * (-len(result) % 4)))
    assert np.abs(got - read_pixels(model / "out/images/one-outputs.png")).max() <= 1


@pytest.mark.filterwarnings("ignore:.*Interpreter:UserWarning")  # that it moves to a package
def test_tflite_has_a_signature_of_one_image(model):
    interpreter = tf.lite.Interpreter(str(model / "export/model.tflite"))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["input"], "outputs": ["output"]}}
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert list(source["shape"]) == [1, 64, 64, 3] and source["dtype"] == np.float32
    assert (source["name"], target["name"]) == ("input:0", "output:0")
    pixels = read_pixels(model / "out/images/one-inputs.png")
    outputs = interpreter.get_signature_runner()(input=np.float32(pixels[np.newaxis]) / 255)
    expected = read_pixels(model / "out/images/one-outputs.png")
    assert np.abs(np.floor(outputs["output"][0] * 255.5) - expected).max() <= 1


def test_tflite_uses_all_cores(model, monkeypatch):
    """Its own default is one."""
    real, seen = tf.lite.Interpreter, []
    monkeypatch.setattr("tensorflow.compat.v1.lite.Interpreter",
                        lambda path, **more: seen.append(more) or real(path, **more))
    pix2pix.load_model(model / "export/model.tflite")
    assert seen == [{"num_threads": os.cpu_count()}]


@pytest.mark.filterwarnings("ignore:.*Interpreter:UserWarning")
def test_a_tflite_file_without_signature_is_read(model, tmp_path):
    """As exports were before they had one."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [1, 8, 8, 3])
        converter = tf.lite.TFLiteConverter.from_session(sess, [images], [1 - images])
        (tmp_path / "model.tflite").write_bytes(converter.convert())
    pixels = draw(1, 8, 8, 3, low=0, high=255).astype(np.uint8)
    got = read_pixels(pix2pix.load_model(tmp_path / "model.tflite").generate(png(pixels)))
    np.testing.assert_allclose(got, 255 - pixels.astype(int), atol=1)


@needs_onnx
def test_onnx_takes_any_batch_and_size(model):
    """As the frozen graph does, also where images are mirrored more than once."""
    import onnxruntime
    session = onnxruntime.InferenceSession(model / "export/model.onnx",
                                           providers=["CPUExecutionProvider"])
    source, target = session.get_inputs()[0], session.get_outputs()[0]
    assert (source.name, target.name) == ("input", "output")
    assert source.shape == target.shape == ["batch", "height", "width", 3]
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.import_graph_def(tf.GraphDef.FromString((model / "export/graph.pb").read_bytes()),
                            name="")
        for shape in ((1, 64, 64), (2, 128, 64), (2, 200, 300), (1, 70, 41), (3, 5, 7), (1, 1, 1)):
            images = draw(1, *shape, 3, low=0)
            expected = sess.run("output:0", {"input:0": images})
            got = session.run(["output"], {"input": images})[0]
            np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=str(shape))
            assert got.shape == images.shape


@needs_onnx
def test_onnx_holds_the_weights_in_its_convolutions(model):
    """Programs that compile a model want constants there, each once."""
    import onnx
    graph = onnx.load(model / "export/model.onnx").graph
    onnx.checker.check_model(onnx.load(model / "export/model.onnx"))
    constants = {constant.name: math.prod(constant.dims) for constant in graph.initializer}
    kernels = [node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert {*kernels} <= {*constants} and [tensor.name for tensor in graph.input] == ["input"]
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.import_graph_def(tf.GraphDef.FromString((model / "export/graph.pb").read_bytes()))
        sizes = [sess.run(op.outputs[0]).size for op in sess.graph.get_operations()
                 if op.type == "Const" and op.name.endswith("/kernel")]
    assert max(sizes) > MAX_CONSTANT > min(sizes)
    assert sorted(constants[name] for name in kernels) == sorted(sizes)


@needs_onnx
def test_onnx_scales_files_as_the_signature_encoded_does(model):
    contents = png(draw(3, 150, 90, 3, low=0, high=255))
    got, expected = (read_pixels(pix2pix.load_model(model / "export" / file).generate(contents))
                     for file in ("model.onnx", "saved_model.pb"))
    assert got.shape == (150, 90, 3) and np.abs(got - expected).max() <= 1


@needs_onnx
def test_a_wrong_conversion_to_onnx_fails_the_export(model, tmp_path, capsys, monkeypatch):
    """tf2onnx converts floormod of values below 0 to a remainder below 0; the image of the model's
    own size does not show it."""
    real = tf.math.floormod
    monkeypatch.setattr("tensorflow.compat.v1.math.floormod",
                        lambda x, y: real(x - y * ((x[0] + y - 1) // y), y))
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir",
               tmp_path / "export", "--export_format", "onnx") == 1
    assert "onnx, another size gives another image than the graph" in capsys.readouterr().err
    assert not (tmp_path / "export/model.onnx").exists()


@pytest.mark.parametrize("missing", ["tf2onnx", "onnxruntime"])
def test_onnx_without_its_packages_is_one_line(model, tmp_path, capsys, monkeypatch, missing):
    for name in ("tf2onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir",
               tmp_path / "export", "--export_format", "saved_model", "onnx") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "onnx needs tf2onnx and onnxruntime" in error
    assert (f"{shlex.quote(sys.executable)} -m pip install tf2onnx onnxruntime 'onnx!=1.19.0' "
            f"tensorflow=={tf.__version__}") in error
    assert not any(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="model.onnx needs onnxruntime .* install onnxruntime ten"):
        pix2pix.load_model(tmp_path / "model.onnx")


def test_jpeg_files_come_out_where_asked_for(model, tmp_path):
    """The pixels of the PNG files, as another library packs them."""
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir",
               tmp_path / "export", "--output_filetype", "jpeg") == 0
    contents = (model / "out/images/one-inputs.png").read_bytes()
    results = [run_affinelayers_graph(tmp_path / "export", contents)]
    results += [pix2pix.load_model(tmp_path / "export" / file).generate(contents)
                for file in ("saved_model.pb", "export.meta")]
    expected = read_pixels(pix2pix.load_model(model / "export").generate(contents))
    for result in results:
        assert format_of(result) == "jpeg"
        difference = np.abs(read_pixels(result) - read_pixels(to_jpeg(expected)))
        assert difference.max() <= 2  # with a quality of 94 instead of 95 it is 17


def test_lab_in_every_format(model, tmp_path, capsys):
    assert run("--mode", "train", "--input_dir", model / "images", "--output_dir",
                tmp_path / "run", "--crop_size", 32, "--ngf", 2, "--gan_weight", 0, "--seed", 3,
                "--max_steps", 9, "--lr", 0.01, "--lab_colorization", "--layout", "single") == 0
    assert run("--mode", "export", "--checkpoint", tmp_path / "run", "--output_dir",
                tmp_path / "export", "--export_format", *EXPORTS) == 0
    # SavedModel and frozen graph are compared three times, ONNX twice
    assert capsys.readouterr().out.count("largest difference") == len(EXPORTS) + 4 + HAS_ONNX
    grey = np.repeat(draw(6, 32, 32, 1, low=40, high=200).astype(int), 3, axis=2)
    grey = np.repeat(grey, 2, axis=1)  # of the shape of training's: all squeeze it into a square
    results = [read_pixels(pix2pix.load_model(tmp_path / "export" / file).generate(png(grey)))
               for file in ("saved_model.pb", "export.meta", "graph.pb", "model.tflite",
                            *["model.onnx"] * HAS_ONNX)]
    assert np.ptp(results[0], axis=2).mean() > 3  # it has colour
    for result in results[1:]:
        assert np.abs(result - results[0]).max() <= 2


def test_a_wrong_format_fails_the_export_and_leaves_the_earlier_one(model, tmp_path, capsys,
                                                                   monkeypatch):
    target = tmp_path / "export"
    shutil.copytree(model / "export", target)
    before = read_files(target)
    monkeypatch.setattr(pix2pix, "normalize_images", lambda inputs, *_: inputs)
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir", target) == 1
    printed = capsys.readouterr()
    assert "--export_format saved_model gives another image" in printed.err
    assert read_files(target) == before


def test_pict_refuses_what_it_cannot_hold(model, tmp_path, capsys):
    assert run("--mode", "train", "--input_dir", model / "images", "--output_dir",
               tmp_path / "run", "--ngf", 2, "--gan_weight", 0, "--max_steps", 1,
               "--crop_size", 96) == 0
    assert run("--mode", "export", "--checkpoint", tmp_path / "run", "--output_dir",
               tmp_path / "export", "--export_format", "pict") == 2
    assert "pict cannot hold --crop_size 96" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


MODEL_SIDES = {f"{side}_{name}": MODEL_OPTIONS[f"{side}_{name}"] for side in "ab"
               for name in SIDE_OPTIONS}


@pytest.mark.parametrize("changes, text", [
    (dict(), None), (dict(padding="reflect"), "--padding reflect"),
    (dict(generator="resnet", crop_size=128, padding="reflect"), "--padding reflect"),
    (dict(generator="resnet", crop_size=64), "--crop_size 64"),
    (dict(b_nearest=True), "--b_nearest"),
    (dict(which_direction="BtoA"), None)])
def test_which_options_a_pict_file_can_hold(options, changes, text):
    options = with_options(options, **{**MODEL_SIDES, "crop_size": 64, **changes})
    with tf.Graph().as_default():
        size = options.crop_size
        pix2pix.create_outputs(tf.zeros([1, size, size, 3]), options)
        stored = StoredVariables("model-1", {
            variable.op.name: np.zeros(variable.shape.as_list(), np.float32)
            for variable in tf.trainable_variables()})
    if text is None:
        check_pict(stored, options)
    else:
        with pytest.raises(UserError, match=f"pict cannot hold {text}: "):
            check_pict(stored, options)


def test_the_error_of_a_format_that_is_not_a_number_fails_it():
    with pytest.raises(RunError, match="gives another image"):
        check_difference("graph", np.array([np.nan]), 1, ImageType())


def test_what_is_no_model_is_one_line(tmp_path):
    (tmp_path / "x.pb").write_bytes(b"nonsense")
    (tmp_path / "y.txt").write_text("")
    (tmp_path / "nonsense").mkdir()
    (tmp_path / "nonsense/z.onnx").write_bytes(b"nonsense")
    for path in (tmp_path, tmp_path / "x.pb", tmp_path / "y.txt", tmp_path / "gone.pict",
                 *[tmp_path / "nonsense/z.onnx"] * HAS_ONNX):
        with pytest.raises(UserError, match="--model .*(is not a|cannot be loaded)"):
            pix2pix.load_model(path)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["plain", "lab"])
def test_affinelayers_checkpoints_export(tmp_path, name):
    compat = SHARED / "compat" / name
    assert run("--mode", "export", "--checkpoint", compat / "checkpoint", "--output_dir",
                tmp_path / "export") == 0
    if name != "lab":  # its inputs are shown in grey, not as they went in
        generate = pix2pix.load_model(tmp_path / "export").generate
        got = read_pixels(generate((compat / "expected/1-inputs.png").read_bytes()))
        assert np.abs(got - read_pixels(compat / "expected/1-outputs.png")).max() <= 2


def test_importing_needs_nothing_but_tensorflow():
    code = ("import sys; sys.modules.update(PIL=None, tqdm=None, skimage=None); import pix2pix; "
            "pix2pix.load_model")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_export_replaces_the_earlier_one_whole(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # a relative folder, as users write it
    arguments = ["--mode", "export", "--checkpoint", model / "run", "--output_dir", "export"]
    assert run(*arguments, "--export_format", "affinelayer", "pict", "pict") == 0
    assert "for them train with --crop_size 256, --bottleneck_norm\n" in capsys.readouterr().err
    assert tf.train.latest_checkpoint("export") == os.path.join("export", "export")
    assert run("--mode", "export", "--checkpoint", "export", "--output_dir", "again",
                "--export_format", "pict") == 0
    assert Path("again/model.pict").read_bytes() == Path("export/model.pict").read_bytes()
    Path("export/.export-of-one-that-was-killed").mkdir()
    assert run(*arguments, "--export_format", "graph") == 0
    printed = capsys.readouterr().out
    for what in ("graph", "graph, floats", "graph, another size", "graph, files of another size"):
        assert f"{what}: largest difference from the checkpoint's image" in printed
    assert sorted(os.listdir("export")) == ["graph.pb", "options.json"]


@pytest.mark.parametrize("height, width", [(1024, 512), (64, 64), (300, 450)])
def test_scaling_there_and_back_moves_nothing(options, monkeypatch, height, width):
    """A white square's centre stays, with a generator that changes nothing."""
    monkeypatch.setattr(pix2pix, "create_outputs", lambda inputs, *_, **__: inputs)
    image = np.zeros([height, width, 3], np.uint8)
    image[height // 4:height // 2, width // 8:width // 2] = 255
    with tf.Graph().as_default(), tf.Session() as sess:
        got = read_pixels(sess.run(pix2pix.generate_encoded(tf.constant(png(image)), options)))
    assert got.shape == image.shape
    for axis in (0, 1):
        centres = [(values.sum(axis=(1 - axis, 2)) * np.arange(image.shape[axis])).sum()
                   / values.sum() for values in (image.astype(float), got.astype(float))]
        assert centres[0] == pytest.approx(centres[1], abs=0.1)


def test_the_smallest_images_go_through_residual_blocks(options):
    changed = with_options(options, generator="resnet", padding="reflect", crop_size=64)
    for shape in ((1, 1), (3, 70), (4, 4)):
        image = draw(1, 1, *shape, 3, low=0)
        result = run_graph(lambda image=image: pix2pix.generate_floats(tf.constant(image), changed))
        assert result.shape == (1, *shape, 3)


def test_a_batch_with_dropout_draws_the_same_for_each_image(options):
    changed = with_options(options, test_dropout=True, crop_size=64)
    images = draw(8, 3, 64, 64, 3, low=0)
    together, alone = (run_graph(lambda batch=batch: pix2pix.generate_floats(
        tf.constant(batch), changed), fill=True) for batch in (images, images[1:2]))
    without = run_graph(lambda: pix2pix.generate_floats(
        tf.constant(images), with_options(changed, test_dropout=False)), fill=True)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-4)
    assert np.abs(together - without).mean() > 1e-2
