"""quickstart.py: the commands it runs, and what happens when one fails."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from tools import quickstart
from tools.lib import sample_run

TOOLS = ROOT / "tools"


class Commands:
    """Replaces run_command: notes `commands` and runs none; `codes` are the exit codes to return
    (0 when used up)."""

    def __init__(self):
        self.commands, self.codes = [], []

    def __call__(self, command):
        """Returns an exit code."""
        self.commands.append(command)
        return self.codes.pop(0) if self.codes else 0


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """The Commands of a quickstart whose project is an empty folder."""
    commands = Commands()
    monkeypatch.setattr(quickstart, "ROOT", tmp_path)
    monkeypatch.setattr(quickstart, "run_command", commands)
    return commands


def value_of(command, flag):
    """The argument after a flag."""
    return command[command.index(flag) + 1]


def test_imports_are_of_the_standard_library(tmp_path):
    """It runs on a machine that has nothing but Python: -S leaves out what is installed."""
    done = subprocess.run([sys.executable, "-S", TOOLS / "quickstart.py", "--help"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: quickstart")


@pytest.mark.parametrize("name", ["tools.test", "tools.quickstart"])
def test_run_command(name, tmp_path, monkeypatch):
    """Exit codes come through, a signal as 128 + n; the folder is the project's."""
    tool = importlib.import_module(name)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.chdir("/")
    code = "import os, sys; sys.exit(7 if os.path.samefile('.', sys.argv[1]) else 1)"
    assert tool.run_command([sys.executable, "-c", code, str(tmp_path)]) == 7
    if os.name == "posix":
        code = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
        assert tool.run_command([sys.executable, "-c", code]) == 137


def test_steps_and_their_folders(ran, tmp_path, capsys):
    """Environment, sample, training, test; each reads what the one before wrote."""
    assert quickstart.main([]) == 0
    install, sample, train, test = ran.commands
    assert install == [sys.executable, "tools/test.py", "--install_only"]
    python = importlib.import_module("tools.test").venv_python(Path(".venv")).as_posix()
    assert sample[:2] == [python, "tools/make-sample.py"]
    assert train[:4] == [python, "pix2pix.py", "--mode", "train"]
    assert test[:4] == [python, "pix2pix.py", "--mode", "test"]
    assert value_of(train, "--input_dir") == value_of(sample, "--output_dir") + "/train"
    assert value_of(train, "--val_dir") == value_of(sample, "--output_dir") + "/val"
    assert value_of(test, "--input_dir") == value_of(sample, "--output_dir") + "/val"
    assert value_of(test, "--checkpoint") == value_of(train, "--output_dir") == "sample_train"
    assert value_of(test, "--output_dir") == "sample_test" and "--overwrite" in train
    page, draw = capsys.readouterr().out.splitlines()[-2:]
    assert page.endswith((tmp_path / "sample_test" / "index.html").as_uri())
    assert "file:///" in page and draw == f"draw with this model: {python} tools/serve.py --demo"


def test_a_complete_sample_is_used_again(ran, tmp_path):
    """The dataset is drawn only where it is not complete."""
    for part, count in [("train", sample_run.NUM_TRAIN), ("val", sample_run.NUM_VAL - 1)]:
        (tmp_path / "sample" / part).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "sample" / part / f"{number}.png").touch()
    assert not sample_run.has_sample(tmp_path)
    (tmp_path / "sample" / "val" / "last.png").touch()
    assert quickstart.main([]) == 0
    assert len(ran.commands) == 3
    assert not any("tools/make-sample.py" in command for command in ran.commands)


def test_failed_environment_ends_it(ran, capsys):
    """test.py has reported why; its exit code comes through."""
    ran.codes = [2]
    assert quickstart.main([]) == 2
    assert len(ran.commands) == 1 and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("step, what", [
    (1, "tools/make-sample.py"), (2, "--mode train"), (3, "--mode test"),
])
def test_failed_step_is_reported(ran, capsys, step, what):
    """The command that failed and its exit code; nothing runs after it."""
    ran.codes = [0] * step + [9]
    assert quickstart.main([]) == 9
    assert len(ran.commands) == step + 1
    error = capsys.readouterr().err
    assert what in error and error.endswith("failed with exit code 9\n")


def test_interrupt(ran, capsys):
    """A step that ends by Ctrl-C (130) ends the quickstart the same way."""
    ran.codes = [0, 0, 130]
    assert quickstart.main([]) == 130
    assert len(ran.commands) == 3 and "interrupted" in capsys.readouterr().err


def test_sigterm(ran, monkeypatch, capsys):
    """SIGTERM during a step: 143, and no further step."""
    def terminated(command):
        """The first step."""
        ran(command)
        signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(quickstart, "run_command", terminated)
    assert quickstart.main([]) == 143
    assert len(ran.commands) == 1 and "interrupted" in capsys.readouterr().err
