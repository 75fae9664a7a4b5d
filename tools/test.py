#!/usr/bin/env python3
"""Runs the tests in an environment of the project's own, which it makes where it is missing.

    python tools/test.py
    python tools/test.py --slow
    python tools/test.py -k lab -x -n 0

Needs a Python alone. What it does not know goes to pytest.
"""

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKERS = ["-n", "auto", "--maxprocesses", "4"]  # of pytest-xdist; `-n 0` puts all in one process
OLDEST, NEWEST = (3, 10), (3, 13)  # the Pythons that TensorFlow comes for


class EnvironmentFailure(RuntimeError):
    """The environment cannot be made; the text is what is shown. Exit code 1."""


# ======================================================================
# Environment
# ======================================================================


def check_version(version):
    """Raises ValueError for a Python (major, minor) that is not supported."""
    if not OLDEST <= tuple(version) <= NEWEST:
        raise ValueError("this is Python %d.%d: run it with Python %d.%d to %d.%d"
                         % (*version, *OLDEST, *NEWEST))


def venv_python(venv_dir, os_name=os.name):
    """Path of the Python of a virtual environment."""
    return venv_dir / ("Scripts/python.exe" if os_name == "nt" else "bin/python")


def compute_stamp(requirements, version):
    """What stamps an environment: a hash of requirements.txt's bytes and Python's version."""
    return hashlib.sha256(b"%d.%d\n" % tuple(version) + requirements).hexdigest()


def read_stamp(path):
    """The stamp in a file, or None."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def is_whole(python, version):
    """Whether an environment's Python runs, is of this version and has pip."""
    code = "import sys, pip; sys.exit(sys.version_info[:2] != (%d, %d))" % tuple(version)
    try:
        return subprocess.run([str(python), "-c", code], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def run_quietly(what, command):
    """Runs a command behind one line that counts seconds. Raises EnvironmentFailure."""
    start = time.monotonic()
    on_terminal = sys.stderr.isatty()
    print(what, end="" if on_terminal else "\n", file=sys.stderr, flush=True)
    environment = {**os.environ, "PIP_USER": "0", "PYTHONNOUSERSITE": "1"}
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT,
                              env=environment) as process:
            while process.poll() is None:
                try:
                    process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    if on_terminal:
                        seconds = time.monotonic() - start
                        print("\r%s %.0f s" % (what, seconds), end="", file=sys.stderr, flush=True)
        if on_terminal:
            print(file=sys.stderr)
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()[-20:]
            raise EnvironmentFailure("\n".join([*lines, "%s failed with exit code %d"
                                                % (" ".join(command), process.returncode)]))


def make_venv(venv_dir, version):
    """Makes a virtual environment from nothing. Raises EnvironmentFailure."""
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise EnvironmentFailure("this Python cannot make environments: install its venv module "
                                 "(Debian, Ubuntu: apt install python%d.%d-venv)" % tuple(version))
    run_quietly("making %s ..." % venv_dir.name,
                [sys.executable, "-m", "venv", "--clear", str(venv_dir)])


def ensure_environment(root, version):
    """Makes root/.venv with what root/requirements.txt names; returns the path of its Python.

    A stamp, written last, tells that it is done; what is half made is made anew.
    """
    venv_dir, requirements_path = root / ".venv", root / "requirements.txt"
    python, stamp_path = venv_python(venv_dir), venv_dir / "requirements.sha256"
    stamp = compute_stamp(requirements_path.read_bytes(), version)
    whole = is_whole(python, version)
    if whole and read_stamp(stamp_path) == stamp:
        return python
    if not whole:
        make_venv(venv_dir, version)
    run_quietly("installing requirements.txt into .venv (minutes, the first time) ...",
                [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                 "--requirement", str(requirements_path)])
    temporary = stamp_path.with_suffix(".part")
    temporary.write_text(stamp + "\n", encoding="ascii")
    os.replace(str(temporary), str(stamp_path))
    return python


# ======================================================================
# Command line
# ======================================================================


def pytest_command(python, slow, extra):
    """The command that runs the tests; paths among the extra arguments stand for `tests`."""
    named = any(not text.startswith("-") and (ROOT / text.split("::")[0]).exists()
                for text in extra)
    return [str(python), "-m", "pytest", *([] if named else ["tests"]), "-q",
            *([] if slow else ["-m", "not slow"]), *WORKERS, *extra]


def run_command(command):
    """Runs a command in the project's folder; returns its exit code, 128 + n after signal n.

    At Ctrl-C, which the command gets too, it waits until the command has ended.
    """
    with subprocess.Popen(command, cwd=str(ROOT)) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    return code if code >= 0 else 128 - code


def create_parser():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="test.py", allow_abbrev=False, description=__doc__.split("\n\n", 1)[0],
        epilog="All other arguments go to pytest.")
    parser.add_argument("--slow", action="store_true", help="run the tests marked slow too")
    parser.add_argument("--install_only", action="store_true",
                        help="make the environment, run no test")
    return parser


def main(argv=None):
    """Runs the tests; returns pytest's exit code, 1 without an environment, 2 or 130."""
    options, extra = create_parser().parse_known_args(argv)
    version = sys.version_info[:2]
    try:
        check_version(version)
    except ValueError as error:
        print("test.py: error: %s" % error, file=sys.stderr)
        return 2
    try:
        python = ensure_environment(ROOT, version)
        if options.install_only:
            return 0
        return run_command(pytest_command(python, options.slow, extra))
    except (EnvironmentFailure, OSError) as error:
        print("test.py: error: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
