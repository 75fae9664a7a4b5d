"""tools/lib/runtimes.py: every program that runs exports gives the checkpoint's results."""

import sys

import numpy as np
import pytest
from helpers import EXPORTS, build_once, draw, run

import pix2pix
from tools.lib import runtimes
from tools.lib.tf1 import tf


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory, tiny):
    """The tiny model in every format."""
    def build(root):
        assert run("--mode", "export", "--checkpoint", tiny / "whole", "--output_dir",
                   root / "export", "--export_format", *EXPORTS) == 0
    return build_once(tmp_path_factory, "runtimes", build) / "export"


@pytest.mark.parametrize("name", runtimes.RUNTIMES)
def test_every_runtime_gives_the_checkpoints_results(tiny, export_dir, name):
    runtime = runtimes.RUNTIMES[name]
    for package in runtime.packages:
        pytest.importorskip(package)
    images = draw(5, 3, 32, 32, 3, low=0)
    model = pix2pix.load_model(tiny / "whole", with_floats=True)
    expected = model.generate_floats(images)
    generate = runtime.open(export_dir, images.shape)
    results = generate(images)
    tolerance = 0.03 if name.endswith("bfloat16") else 1e-4
    assert results.shape == images.shape and results.dtype == np.float32
    assert np.abs(results - expected).max() < tolerance * np.ptp(expected)
    assert np.array_equal(generate(images), results)


def test_what_is_missing_is_named_with_the_command_to_install_it():
    names, lines = runtimes.find_installed({
        "a": (), "b": ("json", "math"), "c float32": ("no_c",), "c bfloat16": ("no_c",),
        "d": ("json", "no_d", "no_c")})
    assert names == ["a", "b"]
    end = f"tensorflow=={tf.__version__}"
    assert lines == [
        f"leaving out c float32, c bfloat16: {sys.executable} -m pip install no_c {end}",
        f"leaving out d: {sys.executable} -m pip install no_d no_c {end}"]
