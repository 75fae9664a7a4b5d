"""What the tests share: the project on the path, options, values, and running a graph."""

import os
import signal
import sys
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="pix2pix-tests-")  # what is remembered
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # compatibility checkpoints, not part of the project
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import pix2pix  # noqa: E402


def pytest_configure(config):
    # what the tests start hears every signal, also where they are run by nohup or with &
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


def run(build, fill=False):
    """The value of what `build()` returns in a new graph, variables initialized or filled."""
    with pix2pix.tf.Graph().as_default() as graph:
        pix2pix.tf.set_random_seed(5)
        fetches = build()
        with start_session(graph, fill) as sess:
            return sess.run(fetches)


def start_session(graph, fill=False):
    """A session of a graph with its variables initialized or filled."""
    with graph.as_default():
        config = pix2pix.session_config()
        # small graphs run a few steps: optimizing them takes longer than it saves
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        sess = pix2pix.tf.Session(graph=graph, config=config)
        sess.run(pix2pix.tf.global_variables_initializer())
        if fill:
            variables = pix2pix.tf.trainable_variables()
            sess.run([variable.initializer for variable in variables],
                     {variable.initializer.inputs[1]:
                      filled(variable.op.name, variable.shape.as_list()) for variable in variables})
    return sess


def filled(name, shape):
    """Values for a variable, a function of its name and shape; norm scales are around 1."""
    draws = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return (draws * 0.2 + (1 if name.endswith("gamma") else 0)).astype(np.float32)


def draw(seed, *shape, low=-1.0, high=1.0):
    """Uniform float32 values."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def smooth_images(seed, batch, channels=3, size=256):
    """[batch, size, size, channels] -1..1: slow waves, each channel another."""
    y, x = np.mgrid[:size, :size] / size
    waves = np.random.default_rng(seed).uniform(0.5, 3, [batch, channels, 3])
    return np.stack([np.stack([np.sin(6 * (a * x + b * y + c)) for a, b, c in image], axis=-1)
                     for image in waves]).astype(np.float32)


@pytest.fixture
def options(tmp_path):
    """Options of a small model's training; what a test needs otherwise it changes."""
    parsed = pix2pix.parse_args(["--mode", "train", "--input_dir", str(tmp_path), "--output_dir",
                                 str(tmp_path / "run"), "--seed", "11"])
    return pix2pix.with_options(parsed, ngf=2, ndf=3, precision="float32")


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """Works in tmp_path."""
    monkeypatch.chdir(tmp_path)
