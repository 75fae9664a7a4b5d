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

from tools.lib import cli, sample_run
from tools.lib.cli import say

TEST_DIR = "sample_test"  # below ROOT


def venv_python(os_name=os.name):
    """Path below ROOT of the Python that tools/test.py --install_only makes."""
    return ".venv/Scripts/python.exe" if os_name == "nt" else ".venv/bin/python"


def install_command():
    """The command that makes the environment; the only one that runs with this Python."""
    return [sys.executable, "tools/test.py", "--install_only"]


def test_command():
    """The command that translates images that training has not seen."""
    return [venv_python(), "pix2pix.py", "--mode", "test", "--input_dir",
            f"{sample_run.SAMPLE_DIR}/val", "--checkpoint", sample_run.TRAIN_DIR, "--output_dir",
            TEST_DIR]


def run_command(command):
    """Runs a command in ROOT; returns its exit code, 128 + n after signal n."""
    return sample_run.run_command(ROOT, command)


def run_steps():
    """Runs the steps in order; returns the exit code. Raises RunError with that of a failing step.
    """
    code = run_command(install_command())
    if code:
        return code  # tools/test.py has reported why
    python = venv_python()
    sample_run.run_commands([*sample_run.list_commands(ROOT, python), test_command()], run_command)
    say(f"open this page in a browser: {(ROOT / TEST_DIR / 'index.html').as_uri()}")
    say(f"draw with this model: {python} tools/serve.py --demo")
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
