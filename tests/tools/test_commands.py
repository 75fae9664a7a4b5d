"""What all commands share: --help, refused options, messages, signals, workers, the environment."""

import importlib
import os
import shlex
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest
from helpers import ROOT

from tools import process
from tools.lib import cli, workers


class Command(NamedTuple):
    """A command and the arguments that it requires."""

    module: str
    required: str = ""
    missing: str | None = None  # arguments that lead to an error about the path "{}"


COMMANDS = {
    "pix2pix.py": Command("pix2pix", "--mode export", "--mode train --input_dir {}"),
    "process.py": Command("tools.process", "--input_dir in --output_dir out --operation blank",
                          "--input_dir {} --output_dir out --operation blank"),
    "split.py": Command("tools.split", "--dir in", "--dir {}"),
    "make-sample.py": Command("tools.make-sample", "", "--output_dir file/{}"),
    "download-dataset.py": Command("tools.download-dataset", "facades",
                                   "facades --output_dir file/{}"),
    "apply.py": Command("tools.apply", "--model model --input in --output out",
                        "--model model --input {} --output out"),
    "evaluate.py": Command("tools.evaluate", ".", "{}"),
    "serve.py": Command("tools.serve", missing="--model {} --port 0"),
    "inspect-checkpoint.py": Command("tools.inspect-checkpoint", "model", "{}"),
    "ablation.py": Command("tools.ablation", "--input_dir in --val_dir in --output_dir out",
                           "--input_dir {} --val_dir in --output_dir out --max_steps 1"),
    "benchmark.py": Command("tools.benchmark", "", "--input_dir {}"),
    "quickstart.py": Command("tools.quickstart")}
STRANGE = "line\nbreak \x1b[31m \udcff"  # a file name on Linux: b"\xff" is not UTF-8
ESCAPED = r"line\nbreak \x1b[31m \udcff"

pytestmark = pytest.mark.usefixtures("in_empty_folder")


@pytest.fixture(params=COMMANDS)
def name(request):
    """The name of each command in turn."""
    return request.param


@pytest.fixture
def command(name):
    """Its module."""
    return importlib.import_module(COMMANDS[name].module)


def create_parser(name, monkeypatch):
    """A command's parser, as its main() builds it."""
    command, parsers = importlib.import_module(COMMANDS[name].module), []

    class Noted(cli.Parser):
        """A parser that is kept."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            parsers.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(cli, "Parser", Noted)
        with pytest.raises(SystemExit) as stopped:
            command.main(["--help"])
    assert stopped.value.code == 0
    return parsers[-1]


def refuse(name, arguments, capsys, codes=(2,)):
    """The line that a command prints instead of running: it is one line on stderr, in characters
    that a terminal can show, and nothing was created."""
    before = {*os.listdir()}
    assert importlib.import_module(COMMANDS[name].module).main(arguments) in codes
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.endswith("\n")
    assert streams.err[:-1].isprintable(), streams.err  # so it is one line, too
    assert streams.err.startswith(f"{name}: error: ")
    assert {*os.listdir()} == before
    return streams.err


# ---- options


@pytest.mark.parametrize("wrong", ["--nonsense", "--non\nsense", "more", "--help_me"])
def test_a_wrong_option_is_one_line(name, capsys, wrong):
    error = refuse(name, [*COMMANDS[name].required.split(), wrong], capsys)
    assert cli.printable(wrong) in error and "usage" not in error


def test_a_missing_option_is_one_line(name, capsys):
    if COMMANDS[name].required:
        assert "the following arguments are required: " in refuse(name, [], capsys)


def test_abbreviations_are_refused(name, capsys, monkeypatch):
    """Every flag without its last letter, and the first letters of every flag."""
    parser = create_parser(name, monkeypatch)
    capsys.readouterr()
    flags = {flag for action in parser._actions for flag in action.option_strings
             if flag.startswith("--")}
    assert "--help" in flags
    for prefix in ({flag[:-1] for flag in flags} | {flag[:4] for flag in flags}) - flags:
        arguments = [*COMMANDS[name].required.split(), prefix]
        assert f"unknown flag {prefix}: " in refuse(name, arguments, capsys)


# ---- --help


def test_help_has_true_defaults_and_examples(name, capsys, monkeypatch):
    """A default for a flag with a value that is used if it is not given, and for no other."""
    parser = create_parser(name, monkeypatch)
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {name} ") and "None" not in text
    if COMMANDS[name].required:
        assert "\n\nexamples:\n  python " in text
    text = "".join(text.split())  # argparse wraps lines, at hyphens too
    parsed, num_defaults = vars(parser.parse_args(COMMANDS[name].required.split())), 0
    for action in parser._actions:
        if action.nargs != 0 and parsed[action.dest] is not None and not action.required:
            value, num_defaults = parsed[action.dest], num_defaults + 1
            values = value if isinstance(value, list) else [value]
            shown = f"{action.help} (default: {' '.join(map(str, values))})"
            assert "".join(shown.split()) in text
    assert text.count("(default:") == num_defaults


def test_examples_of_help_parse(name, monkeypatch, capsys):
    parser = create_parser(name, monkeypatch)
    lines = (parser.epilog or "").replace("\\\n", " ").splitlines()[1:]
    assert len(lines) == (parser.epilog or "").replace("\\\n", "").count("python ")
    for line in lines:
        python, path, *arguments = shlex.split(line)
        assert python == "python" and (ROOT / path).is_file() and path.endswith(name)
        parser.parse_args(arguments)


# ---- messages


def test_paths_in_errors_are_escaped(name, capsys):
    """Also in folders that cannot be created: below a file."""
    os.mkdir("in")
    with open("file", "wb"), open("in/1.png", "wb") as image:
        image.write(b"\x89PNG\r\n\x1a\n")
    arguments = COMMANDS[name].missing
    if arguments is not None:
        arguments = [part.format(STRANGE) for part in arguments.split()]
        assert ESCAPED in refuse(name, arguments, capsys, codes=(1, 2))


# ---- signals


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_with_their_code(name, command, monkeypatch, capsys, number, code):
    """In one line at most; afterwards SIGTERM does what it did before."""
    work = "run_mode" if name == "pix2pix.py" else "run"
    monkeypatch.setattr(command, work, lambda argv: signal.raise_signal(number))
    before = signal.getsignal(signal.SIGTERM)
    assert command.main([]) == code
    assert signal.getsignal(signal.SIGTERM) == before
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.count("\n") <= 1
    assert streams.err == "" or streams.err.startswith(f"{name}: interrupted")


# ---- workers


class Pool:
    """Replaces ProcessPoolExecutor: does the work in this process and notes its size."""

    sizes = []

    def __init__(self, size, _context, _initializer):
        self.sizes.append(size)

    def map(self, function, items, chunksize):
        """As the real one."""
        assert chunksize >= 1
        return map(function, items)

    def shutdown(self, cancel_futures):
        """As the real one."""
        assert cancel_futures


@pytest.mark.parametrize("name, arguments", [
    ("process.py", "--input_dir in --output_dir out --operation blank"),
    ("make-sample.py", "--output_dir out --num_train 600")])
def test_no_more_workers_than_windows_allows(command, arguments, monkeypatch):
    os.mkdir("in")
    for number in range(70):
        with open(f"in/{number}.png", "wb"):
            pass
    monkeypatch.setattr(Pool, "sizes", [])
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    done = []
    monkeypatch.setattr(process, "try_file", lambda job, options: done.append(job) or process.Made())
    monkeypatch.setattr(importlib.import_module("tools.make-sample"), "write_pair", done.append)
    assert command.main([*arguments.split(), "--workers", "200"]) == 0
    assert Pool.sizes == [61] and len(done) in (70, 612)


# ---- the environment


def test_without_the_environment_it_is_one_line(name, tmp_path):
    """-S leaves out what is installed; --help needs it as other arguments do."""
    path = ROOT / name if name == "pix2pix.py" else ROOT / "tools" / name
    done = subprocess.run([sys.executable, "-S", path, "--help"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    if name == "quickstart.py":  # it makes the environment
        assert done.returncode == 0 and done.stdout.startswith("usage: ") and done.stderr == ""
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{name}: error: ") and done.stderr.count("\n") == 1
        assert " not installed for this Python: make the environment with `python3 " in done.stderr
        assert f"tools/test.py --install_only` in {ROOT} and enter it with `" in done.stderr
