"""quickstart.py and test.py: what they would run, and what they do when it fails."""

import ast
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


def load_tool(name):
    """A tool as a module, under a name that is nobody else's."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runner():
    """tools/test.py."""
    return load_tool("test")


@pytest.fixture
def quickstart(monkeypatch, tmp_path):
    """tools/quickstart.py in a folder of its own, where commands are noted and not run.

    quickstart.commands are the commands, quickstart.codes their exit codes (0 when used up).
    """
    module = load_tool("quickstart")
    module.commands, module.codes = [], []

    def note(command):
        """Stands for run_command."""
        module.commands.append(command)
        return module.codes.pop(0) if module.codes else 0

    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "run_command", note)
    return module


def value_of(command, flag):
    """The argument after a flag."""
    return command[command.index(flag) + 1]


@pytest.mark.parametrize("name", ["test", "quickstart"])
def test_imports_are_of_the_standard_library(name):
    """Both run on a machine that has Python alone."""
    tree = ast.parse((TOOLS / f"{name}.py").read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
               for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names


# ======================================================================
# test.py
# ======================================================================


def test_versions(runner):
    """3.10 to 3.13, and nothing beside; 3.9 is less than 3.10."""
    for minor in (10, 11, 12, 13):
        runner.check_version((3, minor))
    for version in [(2, 7), (3, 9), (3, 14), (4, 0)]:
        with pytest.raises(ValueError, match=f"Python {version[0]}.{version[1]}: .*3.10 to 3.13"):
            runner.check_version(version)


def test_wrong_version_is_one_line(runner, monkeypatch, capsys):
    """An unsupported Python: one line, exit code 2, nothing made."""
    monkeypatch.setattr(runner, "NEWEST", (3, 9))
    monkeypatch.setattr(runner, "ensure_environment", None)
    assert runner.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_stamp(runner):
    """The stamp is SHA-256 of version and requirements, and changes with both."""
    expected = subprocess.run([sys.executable, "-c", "import hashlib; print(hashlib.sha256("
                               "b'3.11\\nnumpy\\n').hexdigest())"],
                              capture_output=True, text=True, check=True).stdout.strip()
    assert runner.compute_stamp(b"numpy\n", (3, 11)) == expected
    assert runner.compute_stamp(b"numpy\n", (3, 12)) != expected
    assert runner.compute_stamp(b"numpy<3\n", (3, 11)) != expected


def make_project(runner, monkeypatch, folder, whole):
    """A folder with requirements.txt and .venv; returns the list of what would be run in it."""
    (folder / ".venv").mkdir()
    (folder / "requirements.txt").write_bytes(b"numpy\n")
    ran = []
    monkeypatch.setattr(runner, "is_whole", lambda python, version: whole)
    monkeypatch.setattr(runner, "run_quietly", lambda what, command: ran.append(command))
    return ran


def test_environment_is_made_once(runner, monkeypatch, tmp_path):
    """A half made .venv is made anew and filled; with the stamp of today nothing is done."""
    ran = make_project(runner, monkeypatch, tmp_path, whole=False)
    python = runner.ensure_environment(tmp_path, (3, 11))
    assert python == runner.venv_python(tmp_path / ".venv")
    assert ran[0] == [sys.executable, "-m", "venv", "--clear", str(tmp_path / ".venv")]
    assert ran[1][:4] == [str(python), "-m", "pip", "install"]
    assert value_of(ran[1], "--requirement") == str(tmp_path / "requirements.txt")
    stamp = (tmp_path / ".venv" / "requirements.sha256").read_text().strip()
    assert stamp == runner.compute_stamp(b"numpy\n", (3, 11))

    monkeypatch.setattr(runner, "is_whole", lambda python, version: True)
    runner.ensure_environment(tmp_path, (3, 11))
    assert len(ran) == 2
    (tmp_path / "requirements.txt").write_bytes(b"numpy\npillow\n")
    runner.ensure_environment(tmp_path, (3, 11))
    assert len(ran) == 3 and "pip" in ran[2]


def test_failed_install_leaves_no_stamp(runner, monkeypatch, tmp_path):
    """The stamp is written last."""
    make_project(runner, monkeypatch, tmp_path, whole=True)
    run_quietly = load_tool("test").run_quietly
    failing = [sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"]

    def fail(what, command):
        """Stands for a pip that fails."""
        run_quietly(what, failing)

    monkeypatch.setattr(runner, "run_quietly", fail)
    with pytest.raises(RuntimeError, match="no disk\n.* failed with exit code 3"):
        runner.ensure_environment(tmp_path, (3, 11))
    assert os.listdir(tmp_path / ".venv") == []


def test_missing_ensurepip(runner, monkeypatch, tmp_path):
    """A Python without ensurepip: one line that names the package to install."""
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: name != "ensurepip")
    with pytest.raises(runner.EnvironmentFailure, match=r"apt install python3\.12-venv") as caught:
        runner.make_venv(tmp_path, (3, 12))
    assert "\n" not in str(caught.value)


def test_is_whole(runner, tmp_path):
    """This Python is of its own version and no other; a file that is not there is not whole."""
    version = sys.version_info[:2]
    assert runner.is_whole(sys.executable, version)
    assert not runner.is_whole(sys.executable, (3, 1))
    assert not runner.is_whole(tmp_path / "python", version)


def test_pytest_command(runner):
    """The quick tests unless --slow is given; a path that exists stands for `tests`."""
    start = ["py", "-m", "pytest"]
    more = runner.WORKERS
    assert runner.pytest_command("py", False, []) == [*start, "tests", "-q", "-m", "not slow",
                                                      *more]
    assert runner.pytest_command("py", True, ["-x"]) == [*start, "tests", "-q", *more, "-x"]
    node = "tests/tools/test_quickstart.py::test_pytest_command"
    assert runner.pytest_command("py", True, [node]) == [*start, "-q", *more, node]
    assert runner.pytest_command("py", True, ["-n", "0"])[-2:] == ["-n", "0"]  # it wins


@pytest.mark.parametrize("arguments, expected", [
    ([], [["-m", "not slow"], []]), (["--slow", "-k", "lab"], [[], ["-k", "lab"]]),
])
def test_main_gives_pytests_code(runner, monkeypatch, arguments, expected):
    """pytest's exit code comes through, 5 (no tests) too."""
    ran = []
    monkeypatch.setattr(runner, "ensure_environment", lambda root, version: "py")
    monkeypatch.setattr(runner, "run_command", lambda command: ran.append(command) or 5)
    assert runner.main(arguments) == 5
    before, after = expected
    assert ran == [["py", "-m", "pytest", "tests", "-q", *before, *runner.WORKERS, *after]]


def test_install_only_runs_no_test(runner, monkeypatch, capsys):
    """--install_only makes the environment and says nothing."""
    monkeypatch.setattr(runner, "ensure_environment", lambda root, version: "py")
    monkeypatch.setattr(runner, "run_command", None)
    assert runner.main(["--install_only"]) == 0
    assert capsys.readouterr() == ("", "")


def test_failed_environment_is_told(runner, monkeypatch, capsys):
    """Exit code 1 and the reason."""
    def fail(root, version):
        """Stands for an environment that cannot be made."""
        raise runner.EnvironmentFailure("no disk")

    monkeypatch.setattr(runner, "ensure_environment", fail)
    assert runner.main([]) == 1
    assert capsys.readouterr().err == "test.py: error: no disk\n"


@pytest.mark.parametrize("name", ["test", "quickstart"])
def test_run_command(name, tmp_path, monkeypatch):
    """Exit codes come through, a signal as 128 + n; the folder is the project's."""
    tool = load_tool(name)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.chdir("/")
    code = "import os, sys; sys.exit(7 if os.path.samefile('.', sys.argv[1]) else 1)"
    assert tool.run_command([sys.executable, "-c", code, str(tmp_path)]) == 7
    if os.name == "posix":
        code = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
        assert tool.run_command([sys.executable, "-c", code]) == 137


# ======================================================================
# quickstart.py
# ======================================================================


def test_steps_and_their_folders(quickstart, tmp_path, capsys):
    """Environment, sample, training, test; each reads what the one before wrote."""
    assert quickstart.main([]) == 0
    install, sample, train, test = quickstart.commands
    assert install == [sys.executable, "tools/test.py", "--install_only"]
    python = load_tool("test").venv_python(Path(".venv")).as_posix()
    assert sample[:2] == [python, "tools/make-sample.py"]
    assert train[:4] == [python, "pix2pix.py", "--mode", "train"]
    assert test[:4] == [python, "pix2pix.py", "--mode", "test"]
    assert value_of(train, "--input_dir") == value_of(sample, "--output_dir") + "/train"
    assert value_of(test, "--input_dir") == value_of(sample, "--output_dir") + "/val"
    assert value_of(test, "--checkpoint") == value_of(train, "--output_dir") == "sample_train"
    assert value_of(test, "--output_dir") == "sample_test" and "--overwrite" in train
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith((tmp_path / "sample_test" / "index.html").as_uri())
    assert "file:///" in last


def test_a_whole_sample_is_used_again(quickstart, tmp_path):
    """The dataset is drawn only where it is not whole."""
    for part, count in [("train", quickstart.NUM_TRAIN), ("val", quickstart.NUM_VAL - 1)]:
        (tmp_path / "sample" / part).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "sample" / part / f"{number}.png").touch()
    assert not quickstart.has_sample(tmp_path)
    (tmp_path / "sample" / "val" / "last.png").touch()
    assert quickstart.main([]) == 0
    assert len(quickstart.commands) == 3
    assert not any("tools/make-sample.py" in command for command in quickstart.commands)


def test_failed_environment_ends_it(quickstart, capsys):
    """test.py has said why; its exit code comes through."""
    quickstart.codes = [2]
    assert quickstart.main([]) == 2
    assert len(quickstart.commands) == 1 and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("step, what", [
    (1, "tools/make-sample.py"), (2, "--mode train"), (3, "--mode test"),
])
def test_failed_step_is_named(quickstart, capsys, step, what):
    """The command that failed and its exit code; nothing runs after it."""
    quickstart.codes = [0] * step + [9]
    assert quickstart.main([]) == 9
    assert len(quickstart.commands) == step + 1
    error = capsys.readouterr().err
    assert what in error and error.endswith("failed with exit code 9\n")


def test_interrupt(quickstart, capsys):
    """A step that ends by Ctrl-C (130) ends the quick start the same way."""
    quickstart.codes = [0, 0, 130]
    assert quickstart.main([]) == 130
    assert len(quickstart.commands) == 3 and "interrupted" in capsys.readouterr().err
