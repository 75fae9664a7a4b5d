#!/usr/bin/env python3
"""Shows the whole way on a CPU: draws a small dataset, trains, tests, prints the page to open.

    python tools/quickstart.py

Needs a Python alone: the rest is installed into .venv in the project's folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.lib import cli
from tools.lib.cli import RunError, say

# Trains for about three minutes on two cores.
NUM_TRAIN, NUM_VAL = 120, 12  # images
MAX_EPOCHS = 20
VAL_FREQ = 240  # steps; two epochs
NUM_FILTERS = 16  # --ngf and --ndf; the paper's networks have 64

SAMPLE_DIR, TRAIN_DIR, TEST_DIR = "sample", "sample_train", "sample_test"  # below ROOT


def venv_python(os_name=os.name):
    """Path below ROOT of the Python that tools/test.py --install_only makes."""
    return ".venv/Scripts/python.exe" if os_name == "nt" else ".venv/bin/python"


def install_command():
    """The command that makes the environment; the only one that runs with this Python."""
    return [sys.executable, "tools/test.py", "--install_only"]


def sample_command():
    """The command that draws the dataset."""
    return [venv_python(), "tools/make-sample.py", "--output_dir", SAMPLE_DIR,
            "--num_train", str(NUM_TRAIN), "--num_val", str(NUM_VAL), "--seed", "0"]


def train_command():
    """The command that trains, replacing an earlier run."""
    return [venv_python(), "pix2pix.py", "--mode", "train", "--input_dir", f"{SAMPLE_DIR}/train",
            "--val_dir", f"{SAMPLE_DIR}/val", "--val_freq", str(VAL_FREQ), "--output_dir",
            TRAIN_DIR, "--which_direction", "BtoA", "--ngf", str(NUM_FILTERS), "--ndf",
            str(NUM_FILTERS), "--max_epochs", str(MAX_EPOCHS), "--seed", "0", "--overwrite"]


def test_command():
    """The command that translates images that training has not seen."""
    return [venv_python(), "pix2pix.py", "--mode", "test", "--input_dir", f"{SAMPLE_DIR}/val",
            "--checkpoint", TRAIN_DIR, "--output_dir", TEST_DIR]


def has_sample(root):
    """Whether an earlier run has drawn the whole dataset."""
    counts = [len(list((root / SAMPLE_DIR / part).glob("*.png"))) for part in ("train", "val")]
    return counts == [NUM_TRAIN, NUM_VAL]


def run_command(command):
    """Runs a command in ROOT; returns its exit code, 128 + n after signal n."""
    program = [str(ROOT / command[0]), *command[1:]]  # an absolute command[0] stays as it is
    return cli.run_child(program, cwd=str(ROOT))


def run_steps():
    """Runs the steps in order; returns the exit code. Raises RunError with that of a failing step.
    """
    code = run_command(install_command())
    if code:
        return code  # tools/test.py has reported why
    steps = [train_command, test_command]
    if not has_sample(ROOT):
        steps.insert(0, sample_command)
    for step in steps:
        command = step()
        text = " ".join(command)
        say(f"$ {text}")
        code = run_command(command)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise RunError(f"{text} failed with exit code {code}", code)
    say(f"open this page in a browser: {(ROOT / TEST_DIR / 'index.html').as_uri()}")
    return 0


def run(argv):
    """Runs the quickstart; returns the exit code."""
    cli.Parser("quickstart.py", __doc__.split("\n\n", 1)[0]).parse_args(argv)
    return run_steps()


def main(argv=None):
    """Runs the tool; returns the exit code of the step that failed, 0, 2, 130 or 143."""
    return cli.run_main("quickstart.py", run, argv,
                        interrupted="interrupted; the same command starts the training again")


if __name__ == "__main__":
    sys.exit(main())
