"""What the tests share: values, images, running a graph, running the program, and comparing."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # compatibility checkpoints, not part of the project
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

from tools.lib import tf1  # noqa: E402
from tools.lib.tf1 import tf  # noqa: E402

real_session_config = tf1.session_config
optimize_graphs = False


def session_config():
    """A session's configuration, without the optimization of graphs unless a test asks for it by
    the fixture `optimized`: where a small graph runs a few steps it takes longer than it saves, and
    a training twice as long. Processes that tests start are as users start them."""
    config = real_session_config()
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimize_graphs
    return config


tf1.session_config = session_config  # before the other modules import it by name

import pix2pix  # noqa: E402
from tools.lib.export_formats import EXPORT_FORMATS  # noqa: E402
from tools.lib.files import lock_folder  # noqa: E402

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnxruntime"))
EXPORTS = [name for name in EXPORT_FORMATS if name != "onnx" or HAS_ONNX]  # that can be made here

# ---- values


def draw(seed, *shape, low=-1.0, high=1.0):
    """Uniform float32 values."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def filled(name, shape):
    """Values for a variable, a function of its name and shape; norm scales are around 1."""
    draws = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return (draws * 0.2 + (1 if name.endswith("gamma") else 0)).astype(np.float32)


def smooth_images(seed, batch, channels=3, size=256):
    """[batch, size, size, channels] -1..1: slow waves, each channel another."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.random.default_rng(seed).uniform(0.5, 3, [batch, channels, 3])
    return np.stack([np.stack([np.sin(6 * (a * x + b * y + c)) for a, b, c in image], axis=-1)
                     for image in waves]).astype(np.float32)


def draw_pairs(folder, count=5, kind="pair"):
    """Writes images of coloured bars, 64 pixels high: 1.JPG, 2.png, 3.JPG, ...; the right half of a
    pair is the left one inverted. kind: "pair" or "single"."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(1, count + 1):
        bars = np.repeat(rng.integers(0, 256, (1, 8, 3), np.uint8), 8, axis=1)
        half = np.broadcast_to(bars, (64, 64, 3))
        pixels = half if kind == "single" else np.concatenate([half, 255 - half], axis=1)
        ending = "JPG" if number % 2 else "png"
        Image.fromarray(pixels).save(folder / f"{number}.{ending}",
                                     "JPEG" if number % 2 else "PNG")
    return folder


def read_pixels(source):
    """RGB pixels of an image file or its bytes, [height, width, 3] int."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image.convert("RGB"), int)


def to_jpeg(pixels):
    """The JPEG file that TensorFlow makes of pixels [height, width, 3] by default, from Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=95, subsampling="4:2:0")
    return file.getvalue()


# ---- running a graph


def start_session(graph, fill=False):
    """A session of a graph with its variables initialized or `filled`."""
    with graph.as_default():
        sess = tf.Session(graph=graph, config=session_config())
        sess.run(tf.global_variables_initializer())
        if fill:
            variables = tf.trainable_variables()
            sess.run([variable.initializer for variable in variables],
                     {variable.initializer.inputs[1]:
                      filled(variable.op.name, variable.shape.as_list()) for variable in variables})
        sess.run(tf.local_variables_initializer())  # of fast_conv.layers_for
    return sess


def run_graph(build, fill=False):
    """The value of what `build()` returns in a new graph, variables initialized or `filled`."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(5)
        fetches = build()
        with start_session(graph, fill) as sess:
            return sess.run(fetches)


# ---- running the program

SMALL = [  # of the quickest training
    "--ngf", "1", "--ndf", "1", "--crop_size", "32", "--patch_size", "16", "--norm", "none",
    "--precision", "float32", "--summary_freq", "0", "--sample_freq", "0", "--seed", "7"]


def build_once(tmp_path_factory, name, build):
    """The folder `name` after build(folder), which is called once, whatever number of processes
    pytest-xdist runs the tests in."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # one for all of them
    folder, lock_dir = root / name, root / f"{name}.lock"
    with lock_folder(lock_dir, wait=True):
        if not (lock_dir / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            (lock_dir / "done").touch()
    return folder


@contextlib.contextmanager
def in_folder(folder):
    """Works in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def load_tool(name):
    """The module of a command in tools/, whose name need not be one of Python's."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / "tools" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments):
    """Runs pix2pix.py in this process; returns the exit code."""
    return pix2pix.main([str(argument) for argument in arguments])


def train(output_dir, *flags):
    """Trains a small model on the images that the flags name; returns the exit code."""
    return run("--mode", "train", "--output_dir", output_dir, *SMALL, *flags)


def run_test_mode(output_dir, *flags):
    """Tests; returns metrics.json."""
    assert run("--mode", "test", "--output_dir", output_dir, *flags) == 0
    return json.loads(Path(output_dir, "metrics.json").read_text())


def train_small(folder, *flags):
    """Trains the smallest model on bars/train; returns the exit code."""
    return train(folder, "--input_dir", "bars/train", *flags)


def resume(folder, *flags):
    """Continues a run on bars/train; returns the exit code."""
    return run("--mode", "train", "--input_dir", "bars/train", "--output_dir", folder, "--resume",
               *flags)


def start(code, *arguments, **more):
    """Starts a Python process with pix2pix imported and `argv` the arguments of a small training.
    more: arguments of Popen."""
    argv = ["--mode", "train", "--input_dir", "bars/train", "--output_dir", "run", *SMALL,
            *map(str, arguments)]
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pix2pix; argv = {argv!r}\n"
    return subprocess.Popen([sys.executable, "-c", head + textwrap.dedent(code)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def finish(process, seconds=120):
    """Exit code, stdout and stderr; a process that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"hangs: {process.communicate()}")
    return process.returncode, out, err


def before_step(monkeypatch, at_step, happen):
    """Calls happen() before the at_step-th step of trainings; returns a function that undoes it."""
    real = pix2pix.run_step

    def run_step(training, due, step, *more):
        if step == at_step:
            happen()
        return real(training, due, step, *more)
    monkeypatch.setattr(pix2pix, "run_step", run_step)
    return lambda: monkeypatch.setattr(pix2pix, "run_step", real)


def stop_at(monkeypatch, at_step, number=signal.SIGINT):
    """A signal, Ctrl-C, during the at_step-th step of trainings; returns a function that undoes it.
    """
    return before_step(monkeypatch, at_step, lambda: signal.raise_signal(number))


def die_at(monkeypatch, at_step):
    """Ends trainings before their at_step-th step by SystemExit, without a chance to save; returns
    a function that undoes it."""
    def die():
        raise SystemExit("killed")
    return before_step(monkeypatch, at_step, die)


def free_addresses(count):
    """A --cluster of ports that nothing listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)


# ---- what a run leaves


def read_variables(folder):
    """Name -> array of the newest checkpoint in a folder."""
    reader = tf.train.load_checkpoint(str(folder))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def read_images(folder):
    """Name -> bytes of the files in a folder's images/."""
    return {path.name: path.read_bytes() for path in Path(folder, "images").iterdir()}


def read_files(folder):
    """Path -> bytes of all files in a folder."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def read_page_data(folder):
    """What a folder's index.html holds for its script."""
    page = Path(folder, "index.html").read_text(encoding="utf-8")
    return json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])


def read_shown(folder):
    """What a run's page shows: what its run.js says."""
    return json.loads(Path(folder, "run.js").read_text().removeprefix("showRun(").rstrip(");\n"))


def assert_equal_runs(one, other):
    """Every variable and every line of the log, bit for bit."""
    variables, others = read_variables(one), read_variables(other)
    assert variables.keys() == others.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)
    logs = [Path(name, "log.csv").read_text() for name in (one, other)]
    assert logs[0] == logs[1] and logs[0].count("\n") > 2
