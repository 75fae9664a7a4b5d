"""A small model that several modules test, made once for all workers of pytest-xdist."""

import os

import numpy as np
from helpers import EXPORTS, run
from PIL import Image

from tools.lib.files import lock_folder


def build_once(tmp_path_factory, name, build):
    """The folder `name` after build(folder), which the first process to ask for it calls."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # one for all workers
    folder, lock_dir = root / name, root / f"{name}.lock"
    with lock_folder(lock_dir, wait=True):
        if not (lock_dir / "done").exists():
            folder.mkdir()
            build(folder)
            (lock_dir / "done").touch()
    return folder


def train_and_export(root):
    """Makes root/run of two steps, a checkpoint after each, and root/export in every format."""
    (root / "pairs").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (32, 64, 3), np.uint8)
    Image.fromarray(pixels).save(root / "pairs/1.png")
    assert run("--mode", "train", "--input_dir", root / "pairs", "--output_dir", root / "run",
               "--crop_size", 32, "--ngf", 2, "--ndf", 3, "--max_steps", 2, "--save_freq", 1,
               "--seed", 2, "--patch_size", 16, "--ema_generator", 0.9) == 0
    assert run("--mode", "export", "--checkpoint", root / "run", "--output_dir", root / "export",
               "--export_format", *EXPORTS) == 0


def small_model(tmp_path_factory):
    """A folder with a training folder run/ and export/ in every format."""
    return build_once(tmp_path_factory, "small_model", train_and_export)
