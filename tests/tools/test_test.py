"""test.py: the environments that it creates, what it installs and runs, and how it fails."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = (3, 12)
REQUIREMENTS = "# both ends\ntensorflow>=2.16,<2.22\nnumpy>=1.26,<3\ntensorflow-io==1\n"
TEST_REQUIREMENTS = "pytest>=8\n"


@pytest.fixture
def runner():
    """tools/test.py as a module, under a name that is nobody else's."""
    spec = importlib.util.spec_from_file_location("tool_test", ROOT / "tools" / "test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(runner, monkeypatch, tmp_path):
    """A folder with both requirements files, where commands are noted in runner.ran and not run. An
    environment is whole once it has been created."""
    runner.ran, created = [], set()
    (tmp_path / "tests").mkdir()
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    (tmp_path / "tests/requirements.txt").write_text(TEST_REQUIREMENTS)

    def note(_what, command):
        """Stands for run_quietly."""
        runner.ran.append(command[1:])
        if "venv" in command:
            Path(command[-1]).mkdir(exist_ok=True)
            created.add(runner.venv_python(Path(command[-1])))

    monkeypatch.setattr(runner, "run_quietly", note)
    monkeypatch.setattr(runner, "is_whole", lambda python, version: python in created)
    return tmp_path


def installs(runner):
    """What pip was told to install, for each time it was run."""
    return [command[5:] for command in runner.ran
            if command[:5] == ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]]


# The command line


def test_python_versions(runner):
    for minor in (10, 11, 12, 13):
        runner.check_python((3, minor))
    for version in [(2, 7), (3, 9), (3, 14), (4, 0)]:  # 3.9 is less than 3.10
        with pytest.raises(ValueError, match=f"Python {version[0]}.{version[1]}: .*3.10 to 3.13"):
            runner.check_python(version)


@pytest.mark.parametrize("text", ["2.16.2", "2.21.0", "2.20.0rc0", "10.0.12"])
def test_tensorflow_versions(runner, text):
    runner.check_tensorflow(text)


@pytest.mark.parametrize("arguments, named", [
    (["--tensorflow"], "--tensorflow"), (["--tensorflow", ""], "--tensorflow"),
    (["--tensorflow", "newest"], "newest"), (["--tensorflow", "2.16"], "2.16"),
    (["--tensorflow", "2.16.2 "], "2.16.2"), (["--tensorflow=2.16.2;x"], "2.16.2;x"),
    (["--tensorflow", ">=2.16.2"], ">=2.16.2"), (["--tensorflow", "../2.16.2"], "../2.16.2"),
    (["--slow=3"], "--slow"), (["--install_only=yes"], "--install_only")])
def test_a_wrong_option_is_one_line(runner, monkeypatch, capsys, arguments, named):
    monkeypatch.setattr(runner, "ensure_environment", None)  # it would fail
    assert runner.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("test.py: error: ") and named in printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_a_wrong_python_is_one_line(runner, monkeypatch, capsys):
    monkeypatch.setattr(runner, "NEWEST", (3, 9))
    monkeypatch.setattr(runner, "ensure_environment", None)
    assert runner.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments, environment, before, after", [
    ([], (True, None), ["-m", "not slow"], []),
    (["--slow", "-k", "lab"], (True, None), [], ["-k", "lab"]),
    (["--tensorflow", "2.16.2", "--maxfail=3"], (True, "2.16.2"), ["-m", "not slow"],
     ["--maxfail=3"])])
def test_unknown_options_and_exit_code_are_pytests(runner, monkeypatch, arguments, environment,
                                                   before, after):
    asked, ran = [], []
    monkeypatch.setattr(runner, "ensure_environment", lambda *args: asked.append(args) or "py")
    monkeypatch.setattr(runner, "run_command", lambda command: ran.append(command) or 5)
    assert runner.main(arguments) == 5  # no tests found
    assert asked == [(runner.ROOT, sys.version_info[:2], *environment)]
    assert ran == [runner.versions_command("py"),
                   ["py", "-m", "pytest", "tests", "-q", *before, *runner.WORKERS, *after]]


def test_a_path_replaces_the_tests_folder(runner):
    node = "tests/tools/test_test.py::test_python_versions"
    assert runner.pytest_command("py", True, [node]) == [
        "py", "-m", "pytest", "-q", *runner.WORKERS, node]
    assert runner.pytest_command("py", True, ["-n", "0"])[-2:] == ["-n", "0"]  # the last one counts


def test_versions_are_printed(runner, capfd):
    from importlib.metadata import version
    assert runner.run_command(runner.versions_command(sys.executable)) == 0
    python = ".".join(map(str, sys.version_info[:3]))
    assert capfd.readouterr().out == f"Python {python}, TensorFlow {version('tensorflow')}\n"


@pytest.mark.parametrize("home, cached", [("/somewhere", "None"), (None, "1")])
def test_pip_makes_no_folder_called_tilde(runner, monkeypatch, tmp_path, home, cached):
    """For a user without a home pip's cache would be one in the folder that it is run in."""
    monkeypatch.setattr(runner.cli, "home_dir", lambda: home)
    monkeypatch.delenv("PIP_NO_CACHE_DIR", raising=False)
    code = "import os, sys; open(sys.argv[1], 'w').write(str(os.environ.get('PIP_NO_CACHE_DIR')))"
    runner.run_quietly("writing ...", [sys.executable, "-c", code, str(tmp_path / "seen")])
    assert (tmp_path / "seen").read_text() == cached


def test_install_only_runs_no_tests(runner, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(runner, "ensure_environment", lambda *args: asked.append(args) or "py")
    monkeypatch.setattr(runner, "run_command", None)
    assert runner.main(["--install_only"]) == 0
    assert asked == [(runner.ROOT, sys.version_info[:2], False, None)]
    assert capsys.readouterr() == ("", "")


def test_a_failed_environment_is_reported(runner, monkeypatch, capsys):
    def fail(*_):
        """Stands for an environment that cannot be created."""
        raise runner.EnvironmentFailure("pip failed", "no disk\nno space")

    monkeypatch.setattr(runner, "ensure_environment", fail)
    assert runner.main([]) == 1
    assert capsys.readouterr().err == "no disk\nno space\ntest.py: error: pip failed\n"


# Environments


def test_program_and_tests_share_one_environment(runner, project):
    runtime = ["tensorflow>=2.16,<2.22", "numpy>=1.26,<3", "tensorflow-io==1"]
    python = runner.ensure_environment(project, VERSION, for_tests=False)  # the quickstart
    assert python == runner.venv_python(project / ".venv")
    assert runner.ran[0] == ["-m", "venv", "--clear", str(project / ".venv")]
    assert installs(runner) == [runtime]
    assert runner.ensure_environment(project, VERSION) == python  # then the tests
    assert installs(runner)[1:] == [[*runtime, "pytest>=8"]]
    for for_tests in (False, True, False):  # from now on there is nothing to do
        assert runner.ensure_environment(project, VERSION, for_tests) == python
    assert len(runner.ran) == 3

    (project / "tests/requirements.txt").write_text("pytest>=9\n")
    runner.ensure_environment(project, VERSION, for_tests=False)
    assert len(runner.ran) == 3
    runner.ensure_environment(project, VERSION)
    assert installs(runner)[2:] == [[*runtime, "pytest>=9"]]
    (project / "requirements.txt").write_text("numpy<2\n")
    runner.ensure_environment(project, VERSION, for_tests=False)
    assert installs(runner)[3:] == [["numpy<2"]]
    runner.ensure_environment(project, VERSION)
    assert installs(runner)[4:] == [["numpy<2", "pytest>=9"]]


def test_a_broken_environment_is_created_again(runner, project, monkeypatch):
    for _ in range(2):
        runner.ensure_environment(project, VERSION)
    assert len(runner.ran) == 2
    monkeypatch.setattr(runner, "is_whole", lambda python, version: False)
    runner.ensure_environment(project, VERSION)
    assert [command[1] for command in runner.ran] == ["venv", "pip"] * 2


def test_another_tensorflow_has_an_environment_of_its_own(runner, project):
    python = runner.ensure_environment(project, VERSION, tensorflow="2.16.2")
    assert python == runner.venv_python(project / ".venv-2.16.2-py3.12")
    assert installs(runner) == [
        ["tensorflow==2.16.2", "numpy>=1.26,<3", "tensorflow-io==1", "pytest>=8"]]
    runner.ensure_environment(project, VERSION, tensorflow="2.16.2")
    assert len(runner.ran) == 2
    assert not (project / ".venv").exists()
    assert ".venv-*/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("installed_before", [False, True])
def test_a_failed_install_is_done_again(runner, project, monkeypatch, installed_before):
    if installed_before:
        runner.ensure_environment(project, VERSION)
        (project / "requirements.txt").write_text("numpy<2\n")
    note = runner.run_quietly

    def fail(what, command):
        """Stands for a pip that fails."""
        note(what, command)
        if "pip" in command:
            raise runner.EnvironmentFailure("no disk")

    monkeypatch.setattr(runner, "run_quietly", fail)
    with pytest.raises(runner.EnvironmentFailure, match="no disk"):
        runner.ensure_environment(project, VERSION)
    monkeypatch.setattr(runner, "run_quietly", note)
    (project / "requirements.txt").write_text(REQUIREMENTS)  # what was installed at first
    before = len(installs(runner))
    runner.ensure_environment(project, VERSION)
    assert len(installs(runner)) == before + 1


def test_a_command_that_fails_shows_its_last_lines(runner):
    command = [sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"]
    with pytest.raises(runner.EnvironmentFailure, match="failed with exit code 3$") as failure:
        runner.run_quietly("failing ...", command)
    assert failure.value.output == "no disk"


def pip_install(folder, requirement):
    """What pip prints where it cannot install from a folder of packages. It looks for nothing, and
    installs nothing, in this environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--find-links", str(folder), "--target", str(folder / "target"),
         requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 1
    return done.stdout.decode()


def test_a_tensorflow_that_pip_cannot_find_is_one_line(runner, project, monkeypatch, tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for version in ("2.20.0rc0", "2.20.0", "2.21.0"):
        (packages / f"tensorflow-{version}-py3-none-any.whl").touch()
    text = pip_install(packages, "tensorflow==2.16.2")
    note = runner.run_quietly

    def fail(what, command):
        """Stands for pip."""
        note(what, command)
        if "pip" in command:
            raise runner.EnvironmentFailure("pip failed", text)

    monkeypatch.setattr(runner, "run_quietly", fail)
    with pytest.raises(runner.EnvironmentFailure) as caught:
        runner.ensure_environment(project, (3, 13), tensorflow="2.16.2")
    assert str(caught.value) == (
        "--tensorflow 2.16.2 does not exist for Python 3.13 (2.20.0, 2.21.0 do): give one of "
        "these, or use Python 3.10, 3.11 or 3.12")
    assert not list(project.glob(".venv*"))


def test_other_complaints_of_pips_are_shown_as_they_are(runner, tmp_path):
    unreachable = pip_install(tmp_path, "tensorflow==2.16.2")  # as without a network
    (tmp_path / "numpy-9.9.9-py3-none-any.whl").touch()
    other = pip_install(tmp_path, "numpy==1.0.0")
    for text in (unreachable, other):
        assert "No matching distribution found" in text
        assert runner.explain_missing(text, VERSION, "2.16.2") is None


def test_a_python_without_ensurepip_is_one_line(runner, monkeypatch, tmp_path):
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: name != "ensurepip")
    with pytest.raises(runner.EnvironmentFailure, match=r"apt install python3\.12-venv") as caught:
        runner.make_venv(tmp_path, VERSION)
    assert "\n" not in str(caught.value)


def test_is_whole(runner, tmp_path):
    version = sys.version_info[:2]
    assert runner.is_whole(sys.executable, version)
    assert not runner.is_whole(sys.executable, (3, 1))
    assert not runner.is_whole(tmp_path / "python", version)


def test_the_program_needs_no_pytest(runner):
    runtime = runner.list_requirements(ROOT, for_tests=False)
    assert not [line for line in runtime if line.startswith("pytest")]
    added = runner.list_requirements(ROOT)[len(runtime):]
    assert sorted(line.split(">=")[0] for line in added) == [
        "axe-core-python", "html5lib", "onnx", "onnxruntime", "pytest", "pytest-xdist", "selenium",
        "tf2onnx"]
    replaced = runner.list_requirements(ROOT, tensorflow="2.16.2")
    assert sum(line not in runtime + added for line in replaced) == 1
    assert "tensorflow==2.16.2" in replaced
