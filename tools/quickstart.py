#!/usr/bin/env python3
"""Shows the whole way on a CPU: draws a small dataset, trains on it, tests, names the result.

    python tools/quickstart.py

Needs a Python alone: the rest is installed into .venv in the project's folder.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Chosen for about three minutes of training on two cores.
NUM_TRAIN, NUM_VAL = 120, 12  # images
MAX_EPOCHS = 20
NUM_FILTERS = 16  # --ngf and --ndf; the paper's networks have 64

SAMPLE_DIR, TRAIN_DIR, TEST_DIR = "sample", "sample_train", "sample_test"  # below ROOT


def venv_python(os_name=os.name):
    """Path below ROOT of the Python that tools/test.py --install_only makes."""
    return ".venv/Scripts/python.exe" if os_name == "nt" else ".venv/bin/python"


def install_command():
    """The command that makes the environment; it alone runs with the Python at hand."""
    return [sys.executable, "tools/test.py", "--install_only"]


def sample_command():
    """The command that draws the dataset."""
    return [venv_python(), "tools/make-sample.py", "--output_dir", SAMPLE_DIR,
            "--num_train", str(NUM_TRAIN), "--num_val", str(NUM_VAL), "--seed", "0"]


def train_command():
    """The command that trains, in the place of a run of before."""
    return [venv_python(), "pix2pix.py", "--mode", "train", "--input_dir", f"{SAMPLE_DIR}/train",
            "--output_dir", TRAIN_DIR, "--which_direction", "BtoA", "--ngf", str(NUM_FILTERS),
            "--ndf", str(NUM_FILTERS), "--max_epochs", str(MAX_EPOCHS), "--seed", "0",
            "--overwrite"]


def test_command():
    """The command that translates the images that training has not seen."""
    return [venv_python(), "pix2pix.py", "--mode", "test", "--input_dir", f"{SAMPLE_DIR}/val",
            "--checkpoint", TRAIN_DIR, "--output_dir", TEST_DIR]


def has_sample(root):
    """Whether a run of before has drawn the whole dataset."""
    counts = [len(list((root / SAMPLE_DIR / part).glob("*.png"))) for part in ("train", "val")]
    return counts == [NUM_TRAIN, NUM_VAL]


def run_command(command):
    """Runs a command in ROOT; returns its exit code, 128 + n after signal n.

    At Ctrl-C, which the command gets too, it waits until the command has ended.
    """
    program = [str(ROOT / command[0]), *command[1:]]  # an absolute command[0] stays what it is
    with subprocess.Popen(program, cwd=str(ROOT)) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    return code if code >= 0 else 128 - code


def run_steps():
    """Runs the steps in order; returns the exit code of the first that fails, or 0."""
    code = run_command(install_command())
    if code:
        return code  # tools/test.py has said why
    steps = [train_command, test_command]
    if not has_sample(ROOT):
        steps.insert(0, sample_command)
    for step in steps:
        command = step()
        text = " ".join(command)
        print(f"$ {text}", flush=True)
        code = run_command(command)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            print(f"quickstart.py: error: {text} failed with exit code {code}", file=sys.stderr)
            return code
    print(f"open this page in a browser: {(ROOT / TEST_DIR / 'index.html').as_uri()}")
    return 0


def main(argv=None):
    """Runs the quick start; returns the exit code of the step that failed, 0, or 130."""
    argparse.ArgumentParser(prog="quickstart.py", allow_abbrev=False,
                            description=__doc__.split("\n\n", 1)[0]).parse_args(argv)
    try:
        return run_steps()
    except KeyboardInterrupt:
        print("interrupted; the same command starts the training again", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"quickstart.py: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
