"""Exported models in the programs that run them, to compare their speed.

Each is opened as its own users do who want it fast: on all cores, for images of a known shape where
it can be told. `models` loads exports to use them.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
import warnings
from typing import Any, NamedTuple

from tools.lib.cli import quiet_stderr
from tools.lib.models import EXPORT_FILES
from tools.lib.tf1 import tf


class Runtime(NamedTuple):
    """A way to run an exported model."""

    export_format: str
    # function of the export's folder and an image batch's shape -> a function of float32 arrays of
    # this shape, 0..1, to the same
    open: Any
    packages: tuple = ()  # that it and its export need, beside TensorFlow


def count_cores():
    """Of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def open_saved_model(folder, _shape):
    """The signature serving_default, in TensorFlow 2."""
    import tensorflow
    with tensorflow.init_scope():
        loaded = tensorflow.saved_model.load(str(folder))

    def generate(images, generate=loaded.signatures["serving_default"]):
        """A batch through the network."""
        return generate(input=tensorflow.constant(images))["output"].numpy()
    generate.loaded = loaded  # whose variables the signature does not keep
    return generate


def open_graph(folder, _shape):
    """The frozen graph, in a session of TensorFlow 1."""
    with tf.Graph().as_default() as graph:
        contents = (folder / EXPORT_FILES["graph"]).read_bytes()
        tf.import_graph_def(tf.GraphDef.FromString(contents), name="")
        return tf.Session(graph=graph).make_callable("output:0", ["input:0"])


def open_tflite(folder, _shape):
    """TFLite's interpreter, which takes one image after the other."""
    import numpy as np
    with warnings.catch_warnings(), quiet_stderr():
        warnings.simplefilter("ignore")  # that another package will take the interpreter over
        interpreter = tf.lite.Interpreter(str(folder / EXPORT_FILES["tflite"]),
                                          num_threads=count_cores())
        interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    return lambda images: np.concatenate([run(input=image[None])["output"] for image in images])


def open_onnxruntime(folder, shape):
    """ONNX Runtime."""
    import onnxruntime
    settings = onnxruntime.SessionOptions()
    for name, size in zip(("batch", "height", "width"), shape, strict=False):
        settings.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(str(folder / EXPORT_FILES["onnx"]), settings,
                                           ["CPUExecutionProvider"])
    return lambda images: session.run(["output"], {"input": images})[0]


def open_openvino(folder, shape, precision):
    """OpenVINO. precision: its hint, which says in what it may compute."""
    import openvino
    core = openvino.Core()
    model = core.read_model(folder / EXPORT_FILES["onnx"])
    model.reshape({"input": [*shape]})
    compiled = core.compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision})
    return lambda images: compiled([images])[0]


ONNX_PACKAGES = ("tf2onnx", "onnxruntime")  # that an export as ONNX needs
RUNTIMES = {
    "saved_model": Runtime("saved_model", open_saved_model),
    "graph": Runtime("graph", open_graph),
    "tflite": Runtime("tflite", open_tflite),
    "onnxruntime": Runtime("onnx", open_onnxruntime, ONNX_PACKAGES),
    "openvino float32": Runtime(
        "onnx", lambda folder, shape: open_openvino(folder, shape, "f32"),
        (*ONNX_PACKAGES, "openvino")),
    "openvino bfloat16": Runtime(
        "onnx", lambda folder, shape: open_openvino(folder, shape, "bf16"),
        (*ONNX_PACKAGES, "openvino"))}


def is_installed(package):
    """Whether a package can be found; it is not imported."""
    return importlib.util.find_spec(package) is not None


def find_installed(needed):
    """Those of some names whose packages are installed, and a line for each group of the others.
    needed: name -> packages."""
    installed, missing = [], {}
    for name, packages in needed.items():
        absent = tuple(package for package in packages if not is_installed(package))
        if absent:
            missing.setdefault(absent, []).append(name)
        else:
            installed.append(name)
    # pip would replace libraries of TensorFlow's if it were not named
    return installed, [
        f"leaving out {', '.join(names)}: {shlex.quote(sys.executable)} -m pip install "
        f"{' '.join(absent)} tensorflow=={tf.__version__}" for absent, names in missing.items()]
