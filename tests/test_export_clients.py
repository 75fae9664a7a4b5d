"""Exports through the programs they are for: those of docs/formats.md as printed, and the demo's."""

import base64
import contextlib
import http.server
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import (EXPORTS, HAS_ONNX, ROOT, build_once, filled, read_pixels, run, run_graph,
                     smooth_images)
from PIL import Image

import pix2pix
from tools.lib.checkpoints import encode_pict, read_pict
from tools.lib.cli import with_options
from tools.lib.export_formats import warn_of_demo
from tools.lib.models import EXPORT_FILES
from tools.lib.tf1 import tf

PAGE = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
SECTION = PAGE.split("### Call an exported model\n")[1].split("\n### ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
ADDRESS = "localhost:8501"  # of TensorFlow Serving in the page
COMPARE_FLOATS = """
import numpy as np
pixels = tf.image.decode_png(results[0]).numpy().astype(int)
assert np.abs(np.floor(outputs[0].numpy() * 255.5) - pixels).max() <= 1
"""


def build_variables(options):
    """Name -> `filled` array of the generator's variables."""
    with tf.Graph().as_default():
        size = options.crop_size
        channels = pix2pix.pair_of(options).inputs.channels
        pix2pix.create_outputs(tf.zeros([1, size, size, channels]), options)
        return {variable.op.name: filled(variable.op.name, variable.shape.as_list())
                for variable in tf.trainable_variables("generator/")}


@pytest.fixture(scope="session")
def facades(tmp_path_factory):
    """A folder with facades_train.pict, a model that the demo can draw, label.png, the image that
    test mode makes of it, and facades_export/ in every format."""
    def build(root):
        parsed = pix2pix.create_parser().parse_args(["--mode", "export"])
        options = pix2pix.Options(**{**vars(parsed), "ngf": 1, "bottleneck_norm": True,
                                     "precision": "float32"})
        (root / "facades_train.pict").write_bytes(encode_pict(build_variables(options)))
        pixels = np.uint8(127.5 + 127 * smooth_images(3, 1)[0])
        (root / "labels").mkdir()
        Image.fromarray(pixels).save(root / "labels/label.png")
        shutil.copy(root / "labels/label.png", root)
        assert run("--mode", "test", "--no_targets", "--input_dir", root / "labels", "--checkpoint",
                   root / "facades_train.pict", "--output_dir", root / "facades_test") == 0
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            assert run("--mode", "export", "--checkpoint", root / "facades_train.pict",
                       "--output_dir", root / "facades_export", "--export_format", *EXPORTS) == 0
        assert errors.getvalue() == ""
    return build_once(tmp_path_factory, "facades", build)


# ---- the programs of docs/formats.md


class Serving(http.server.BaseHTTPRequestHandler):
    """Answers by TensorFlow Serving's REST conventions: values of names that end in _bytes are
    {"b64": ...}, and of a single output its values alone come back."""

    def do_POST(self):
        """predict, row format."""
        assert self.path == "/v1/models/facades:predict"
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        files = [base64.b64decode(instance["input_bytes"]["b64"])
                 for instance in request["instances"]]
        signature = self.server.model.signatures[request["signature_name"]]
        results = signature(input_bytes=tf.compat.v2.constant(files))["output_bytes"].numpy()
        answer = {"predictions": [{"b64": base64.b64encode(result).decode()}
                                  for result in results]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def serving(facades):
    """The address of a server of the SavedModel."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving) as server:
        server.model = tf.compat.v2.saved_model.load(str(facades / "facades_export"))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_format_has_a_program():
    for name, path in EXPORT_FILES.items():
        file = {"saved_model": '.load("facades_export")'}.get(name, f"facades_export/{path}")
        assert sum(file in text for _, text in BLOCKS) == 1, name
    assert sum(ADDRESS in text for _, text in BLOCKS) == 1 and len(BLOCKS) == 7


@pytest.mark.parametrize("kind, text", BLOCKS, ids=range(len(BLOCKS)))
def test_a_program_of_the_docs_runs_as_printed(facades, request, tmp_path, monkeypatch, kind, text):
    """In a process as users start it, in which TensorFlow prints all it has to say."""
    if "onnx" in text and not HAS_ONNX:
        pytest.skip("needs onnxruntime")
    if "outputs = translate_images" in text:  # it writes the other result
        text += COMPARE_FLOATS
    if ADDRESS in text:
        text = text.replace(ADDRESS, request.getfixturevalue("serving"))
    for name in ("label.png", "facades_export"):
        (tmp_path / name).symlink_to(facades / name)
    command, photo = [sys.executable, "-c", text], tmp_path / "photo.png"
    if kind == "sh":
        words = shlex.split(text)
        command, photo = [sys.executable, ROOT / words[1], *words[2:]], tmp_path / "photos/label.png"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # such as: meta_optimizer.cc:967] remapper failed: INVALID_ARGUMENT: Mutation::Apply error
    assert not re.search("optimizer|failed: INVALID|fanout|oneDNN supports", done.stderr), done.stderr
    expected = read_pixels(facades / "facades_test/images/label-outputs.png")
    tolerance = 30 if ".pict" in text else 1
    assert np.abs(read_pixels(photo) - expected).max() <= tolerance
    assert expected.std() > 20 and np.abs(expected - expected[::-1]).mean() > 5


# ---- affinelayer's browser demo


def draw_as_the_demo(weights, image):
    """What affinelayer's demo makes of an image [256, 256, 3] 0..1 by weights, name -> array: every
    norm is there, with the image's own statistics."""
    def normalize(x, scope):
        """Over height and width."""
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return tf.nn.batch_normalization(
            x, mean, variance, weights[f"{scope}/batch_normalization/beta"],
            weights[f"{scope}/batch_normalization/gamma"], 1e-5)

    def build():
        """The graph."""
        x, layers = tf.constant(image[np.newaxis] * 2 - 1), []
        for number in range(1, 9):
            scope = f"generator/encoder_{number}"
            x = x if number == 1 else tf.maximum(x, 0.2 * x)
            x = tf.nn.conv2d(x, weights[f"{scope}/conv2d/kernel"], 2, "SAME")
            x += weights[f"{scope}/conv2d/bias"]
            x = x if number == 1 else normalize(x, scope)
            layers.append(x)
        for number in range(8, 0, -1):
            scope = f"generator/decoder_{number}"
            x = tf.nn.relu(x if number == 8 else tf.concat([x, layers[number - 1]], axis=3))
            kernel, side = weights[f"{scope}/conv2d_transpose/kernel"], 2**(9 - number)
            x = tf.nn.conv2d_transpose(x, kernel, [1, side, side, kernel.shape[2]], 2, "SAME")
            x += weights[f"{scope}/conv2d_transpose/bias"]
            x = x if number == 1 else normalize(x, scope)
        return (tf.tanh(x)[0] + 1) / 2
    return run_graph(build)


def test_the_demo_draws_a_model_with_its_norms(facades):
    """From the names in model.pict alone."""
    label = facades / "label.png"
    weights = read_pict(facades / "facades_export/model.pict")
    drawn = draw_as_the_demo(weights, read_pixels(label).astype(np.float32) / 255) * 255
    expected = read_pixels(pix2pix.load_model(facades / "facades_export/model.pict").generate(
        label.read_bytes()))
    assert np.abs(drawn - expected).max() <= 1
    del weights["generator/encoder_8/batch_normalization/beta"]  # as of a default model
    with pytest.raises(KeyError):
        draw_as_the_demo(weights, np.zeros([256, 256, 3], np.float32))


@pytest.mark.parametrize("changes, flags", [
    (dict(bottleneck_norm=True), None), (dict(bottleneck_norm=True, ngf=3, ndf=9), None),
    (dict(), "--bottleneck_norm"), (dict(crop_size=128), "--crop_size 256, --bottleneck_norm"),
    (dict(crop_size=512, bottleneck_norm=True), "--crop_size 256"),
    (dict(generator="encoder_decoder", bottleneck_norm=True), "--generator unet"),
    (dict(generator="resnet"), "--generator unet, --bottleneck_norm"),
    (dict(separable_conv=True, bottleneck_norm=True), "no --separable_conv"),
    (dict(upsample="resize", bottleneck_norm=True), "--upsample deconv"),
    (dict(norm="instance", bottleneck_norm=True), "--norm batch, --bottleneck_norm"),
    (dict(lab_colorization=True, bottleneck_norm=True), "no --lab_colorization")])
def test_a_model_that_the_demo_cannot_draw_is_named(options, capsys, changes, flags):
    arrays = build_variables(with_options(options, **{"ngf": 1, **changes}))
    warn_of_demo({name: [*array.shape] for name, array in arrays.items()})
    error = capsys.readouterr().err
    if flags is None:
        assert error == ""
    else:
        assert error.endswith(f": for them train with {flags}\n") and error.count("\n") == 1
        assert "browser demo" in error and "ml5" in error
