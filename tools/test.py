#!/usr/bin/env python3
"""Runs the tests in a virtual environment of the project, which it creates where there is none.

    python tools/test.py
    python tools/test.py --slow
    python tools/test.py -k lab -x -n 0
    python3.12 tools/test.py --tensorflow 2.16.2

Needs nothing but Python. Options that it does not know go to pytest.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.lib import cli
from tools.lib.cli import RunError, UserError, say

WORKERS = ["-n", "auto", "--maxprocesses", "4"]  # of pytest-xdist; `-n 0` runs all in one process
OLDEST, NEWEST = (3, 10), (3, 13)  # the Pythons that TensorFlow supports


EXAMPLES = """\
  python tools/test.py
  python tools/test.py --slow
  python3.12 tools/test.py --tensorflow 2.16.2"""


class EnvironmentFailure(RunError):
    """The environment cannot be created."""

    def __init__(self, text, output=""):
        """output: what the command that failed printed last."""
        super().__init__(text)
        self.output = output


# ======================================================================
# Environment
# ======================================================================


def check_python(version):
    """Raises UserError for a Python (major, minor) that is not supported."""
    if not OLDEST <= tuple(version) <= NEWEST:
        raise UserError("this is Python %d.%d: use Python %d.%d to %d.%d"
                         % (*version, *OLDEST, *NEWEST))


def check_tensorflow(text):
    """Raises UserError for what is not the number of a release."""
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", text, re.ASCII):
        raise UserError("--tensorflow %s is not a version: give one such as 2.16.2" % text)


def venv_python(venv_dir, os_name=os.name):
    """Path of the Python of a virtual environment."""
    return venv_dir / ("Scripts/python.exe" if os_name == "nt" else "bin/python")


def venv_name(version, tensorflow=None):
    """The environment's folder: .venv, or one that belongs to a version of TensorFlow alone."""
    return ".venv-%s-py%d.%d" % (tensorflow, *version) if tensorflow else ".venv"


def read_lines(path):
    """The lines of a text file without comments and empty ones; [] where there is no such file."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return [line for line in lines if line and not line.startswith("#")]


def list_requirements(root, for_tests=True, tensorflow=None):
    """What pip is to install: requirements.txt, for the tests tests/requirements.txt too.

    tensorflow: a version that replaces the range in requirements.txt.
    """
    paths = [root / "requirements.txt"] + [root / "tests" / "requirements.txt"] * for_tests
    lines = [line for path in paths for line in read_lines(path)]
    if tensorflow:
        lines = [re.sub(r"^tensorflow *[<>=!~].*", "tensorflow==" + tensorflow, line)
                 for line in lines]
    return lines


def is_whole(python, version):
    """Whether an environment's Python runs, has this version and has pip."""
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
    if cli.home_dir() is None:  # pip would make a folder called ~
        environment.setdefault("PIP_NO_CACHE_DIR", "1")
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
            raise EnvironmentFailure("%s failed with exit code %d"
                                     % (" ".join(command), process.returncode), "\n".join(lines))


def make_venv(venv_dir, version):
    """Creates a virtual environment from nothing. Raises EnvironmentFailure."""
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise EnvironmentFailure("this Python cannot create environments: install its venv module "
                                 "(Debian, Ubuntu: apt install python%d.%d-venv)" % tuple(version))
    run_quietly("creating %s ..." % venv_dir.name,
                [sys.executable, "-m", "venv", "--clear", str(venv_dir)])


def explain_missing(text, version, tensorflow):
    """One line for pip's complaint that it knows no such TensorFlow; None for any other."""
    found = re.search(r"requirement tensorflow==\S+ \(from versions: (.*?)\)", text)
    if not found or found[1] == "none":  # none at all: pip did not reach its index
        return None
    known = [name for name in found[1].split(", ") if name.replace(".", "").isdigit()]
    others = ["3.%d" % minor for minor in range(OLDEST[1], NEWEST[1] + 1) if minor != version[1]]
    return "--tensorflow %s does not exist for Python %d.%d (%s do): give one of these, or use " \
        "Python %s or %s" % (tensorflow, *version, ", ".join(known), ", ".join(others[:-1]),
                             others[-1])


def ensure_environment(root, version, for_tests=True, tensorflow=None):
    """Installs what is required into an environment below root; returns the path of its Python.

    installed.txt in it, written last, lists what has been installed. An environment with more than
    is required serves as it is: tests and quickstart share one. A broken one is created again.
    """
    venv_dir = root / venv_name(version, tensorflow)
    python, installed_path = venv_python(venv_dir), venv_dir / "installed.txt"
    required = list_requirements(root, for_tests, tensorflow)
    whole = is_whole(python, version)
    if whole and set(required) <= set(read_lines(installed_path)):
        return python
    if not whole:
        make_venv(venv_dir, version)
    elif installed_path.exists():
        installed_path.unlink()
    try:
        run_quietly("installing into %s (takes minutes the first time) ..." % venv_dir.name,
                    [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                     *required])
    except EnvironmentFailure as error:
        explanation = explain_missing(error.output, version, tensorflow)
        if not explanation:
            raise
        shutil.rmtree(str(venv_dir))
        raise EnvironmentFailure(explanation) from None
    temporary = installed_path.with_suffix(".part")
    temporary.write_text("\n".join(required) + "\n", encoding="utf-8")
    os.replace(str(temporary), str(installed_path))
    return python


# ======================================================================
# Command line
# ======================================================================


def create_parser():
    """The command line."""
    parser = cli.Parser("test.py", __doc__.split("\n\n", 1)[0]
                        + "\nThe tests use this Python; all other options go to pytest.", EXAMPLES)
    parser.add_argument("--slow", action="store_true", help="also run the tests marked slow")
    parser.add_argument("--tensorflow", metavar="VERSION",
                        help="test with this version of TensorFlow, such as 2.16.2, in an "
                             "environment of its own (default: .venv and its version)")
    parser.add_argument("--install_only", action="store_true",
                        help="install what the program needs, without pytest, and run no tests")
    return parser


def pytest_command(python, slow, extra):
    """The command that runs the tests: all of them unless one of the extra arguments is a path."""
    named = any(not text.startswith("-") and (ROOT / text.split("::")[0]).exists()
                for text in extra)
    return [str(python), "-m", "pytest", *([] if named else ["tests"]), "-q",
            *([] if slow else ["-m", "not slow"]), *WORKERS, *extra]


def versions_command(python):
    """The command that prints the versions in an environment."""
    code = ("import platform, importlib.metadata as m; print('Python %s, TensorFlow %s' "
            "% (platform.python_version(), m.version('tensorflow')))")
    return [str(python), "-c", code]


def run_command(command):
    """Runs a command in the project's folder; returns its exit code, 128 + n after signal n."""
    return cli.run_child(command, cwd=str(ROOT))


def run(argv):
    """Runs the tests; returns pytest's exit code. Raises UserError, EnvironmentFailure."""
    version = sys.version_info[:2]
    options, extra = create_parser().parse_known_args(argv)
    check_python(version)
    if options.tensorflow is not None:
        check_tensorflow(options.tensorflow)
    try:
        python = ensure_environment(ROOT, version, not options.install_only, options.tensorflow)
    except EnvironmentFailure as error:
        if error.output:
            say(error.output, sys.stderr)
        raise
    if options.install_only:
        return 0
    run_command(versions_command(python))
    return run_command(pytest_command(python, options.slow, extra))


def main(argv=None):
    """Runs the tests; returns the exit code: pytest's, 1 without an environment, 2, 130 or 143."""
    return cli.run_main("test.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
