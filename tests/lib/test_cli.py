"""tools/lib/cli.py: messages, options, exit codes, signals and child processes."""

import argparse
import contextlib
import errno
import io
import os
import platform
import signal
import subprocess
import sys
import threading

import pytest
from helpers import ROOT

from tools.lib import cli
from tools.lib.cli import Options, RunError, UserError, with_options

TIMEOUT = 30  # seconds in which any process here ends


def run_python(code, **options):
    """Runs Python code in the project's folder without installed packages; returns the process."""
    return subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True,
                          text=True, timeout=TIMEOUT, **options)


def test_it_needs_the_standard_library_alone():
    """-S leaves out what is installed; and nothing slow is imported for --help."""
    done = run_python("import sys, tools.lib.cli; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    imported = {name.split(".")[0] for name in done.stdout.split()}
    assert imported - {"tools", "__main__"} <= sys.stdlib_module_names


@pytest.mark.parametrize("home, expected", [
    ("/somewhere", "/somewhere"), (None, None), ("", None), (".", None), ("rel/ative", None)])
def test_the_home_folder(monkeypatch, home, expected):
    """None where the system knows of none, and where `~` would be another folder."""
    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", {}.__getitem__)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert cli.home_dir() == expected


# ---- huge pages

ASKS = """\
import os, sys
from pathlib import Path

sys.path.insert(0, {root!r})
from tools.lib import cli

cli.HUGE_PAGES = Path({setting!r})
print("begun", flush=True)
cli.use_huge_pages()
zeros = bytearray(1 << 26)
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:])
print(*(line.split()[1] for line in open("/proc/self/smaps_rollup") if "AnonHuge" in line))
"""


def run_asking(folder, setting, *more, tunables=None):
    """How often a program began that asks for huge pages, whether its process stayed, its tunables
    and huge kB. setting: the file with Linux's; more: before the script."""
    script = folder / "asks.py"
    script.write_text(ASKS.format(root=str(ROOT), setting=str(setting)))
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {"GLIBC_TUNABLES": tunables} if tunables else {}
    with subprocess.Popen([sys.executable, *more, str(script), "--name", "a b"], text=True,
                          env=environment, stdout=subprocess.PIPE) as process:
        *begun, line, huge = process.communicate(timeout=TIMEOUT)[0].splitlines()
    number, found, arguments = line.split(" ", 2)
    assert process.returncode == 0 and arguments == "--name a b"
    return len(begun), int(number) == process.pid, found, int(huge)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
@pytest.mark.parametrize("setting, more, tunables, expected", [
    ("always [madvise] never\n", [], None, (2, True, "glibc.malloc.hugetlb=1")),
    ("[always] madvise never\n", [], None, (1, True, "None")),
    ("always madvise [never]\n", [], None, (1, True, "None")), (None, [], None, (1, True, "None")),
    ("always [madvise] never\n", [], "glibc.malloc.arena_max=1",
     (1, True, "glibc.malloc.arena_max=1")),  # the user's own
    ("always [madvise] never\n", ["-m", "trace", "--count", "--no-report"], None,
     (1, True, "None"))])  # under another program
def test_it_begins_again_to_get_huge_pages(tmp_path, setting, more, tunables, expected):
    if setting:
        (tmp_path / "enabled").write_text(setting)
    assert run_asking(tmp_path, tmp_path / "enabled", *more, tunables=tunables)[:3] == expected


def test_memory_is_in_huge_pages(tmp_path):
    """With the C library of this machine."""
    if not cli.HUGE_PAGES.exists() or "[madvise]" not in cli.HUGE_PAGES.read_text():
        pytest.skip("Linux does not give huge pages to who asks here")
    name, version = platform.libc_ver()
    if name != "glibc" or [*map(int, version.split("."))] < [2, 35]:
        pytest.skip("needs glibc 2.35")
    assert run_asking(tmp_path, cli.HUGE_PAGES)[3] >= 32 * 1024


# ---- messages


@pytest.mark.parametrize("text, expected", [
    ("plain", "plain"), ("a b", "a b"), ("é\N{GRINNING FACE}", "é\N{GRINNING FACE}"),
    ("a\nb\r\t", r"a\nb\r\t"), ("\x1b[31m", r"\x1b[31m"), ("\udcff", r"\udcff"),
    ("\u2028\u200b", r"\u2028\u200b"), ("back\\slash '\"", "back\\slash '\"")])
def test_printable(text, expected):
    assert cli.printable(text) == expected


@pytest.mark.parametrize("error, expected", [
    (ValueError("one\ntwo"), "one"), (ValueError("\n first \nsecond"), "first "),
    (ValueError(), "ValueError"), (ValueError("  "), "ValueError"),
    (RuntimeError("2 root error(s) found.\n  (0) Not found: no file\n\t [[{{node read}}]]\n"
                  "  (1) other"), "  (0) Not found: no file"),
    (RuntimeError("[[{{node first}}]]\nrest"), "[[{{node first}}]]"),
    (RuntimeError("Graph execution error:\n\nFrom /job:pix2pix/replica:0/task:1:\nSession gone"),
     "Session gone"),
    (RuntimeError("Graph execution error:"), "Graph execution error:")])
def test_errors_are_described_in_one_line(error, expected):
    assert cli.describe_error(error) == expected


def test_tensorflows_message_is_used():
    error = RuntimeError("long text with the graph")
    error.message = "short"
    assert cli.describe_error(error) == "short"


def test_a_closed_pipe_is_reported_once_and_then_silent():
    code = """
import os
from tools.lib import cli
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader)
for number in range(3):
    cli.say(f"line {number}")
cli.warn("still here", "name.py")
print("and print works too")
"""
    done = run_python(code)
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first.startswith("pix2pix.py: cannot print to the output any more (")
    assert second == "name.py: still here"


def test_closed_streams_do_no_harm():
    code = """
import os, sys
from tools.lib import cli
cli.say("nobody")
cli.warn("nobody")
with cli.quiet_stderr() as stream:
    os.write(1, b"%r" % (stream is None))
"""
    # the shell closes stderr, as in `python pix2pix.py 2>&-`
    done = subprocess.run(["sh", "-c", 'exec "$0" -S -c "$1" 2>&-', sys.executable, code], cwd=ROOT,
                          stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert done.returncode == 0 and done.stdout.endswith("True")


def test_quiet_stderr_silences_libraries_but_not_its_stream():
    code = """
import os
from tools.lib import cli
with cli.quiet_stderr() as stream:
    os.write(2, b"a library\\n")
    print("through", file=stream, flush=True)
os.write(2, b"after\\n")
"""
    assert run_python(code).stderr == "through\nafter\n"


def test_a_progress_bar_is_shown_on_a_terminal_alone():
    class Terminal(io.StringIO):
        """A stream that says it is a terminal."""

        def isatty(self):
            """True."""
            return True

    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        with cli.create_progress_bar(7, 2, "apple", stream, desc="fruit") as bar:
            assert bar.disable != is_shown
            bar.update(5)
        text = stream.getvalue()
        assert ("fruit" in text and "7/7" in text and "apple" in text) if is_shown else text == ""


@pytest.mark.parametrize("count, seconds, expected", [
    (3, 0.75, ", 4.0 apples/s"), (2, 40.0, ", 0.1 apples/s"), (0, 0.0, ""), (0, 1.0, ""),
    (1, 1.0, ""), (3, 0.0, ""), (3, -1.0, "")])
def test_a_rate_is_told_of_what_was_measured(count, seconds, expected):
    """Nothing of no work, of the start alone, or by a clock that was set back."""
    assert cli.rate_text(count, seconds, "apples/s") == expected


# ---- options


def test_options_are_frozen_and_copied():
    options = Options(lr=1, flip=True)
    with pytest.raises(AttributeError, match=r"frozen: with_options\(options, lr=\.\.\.\)"):
        options.lr = 2
    changed = with_options(options, flip=False)
    assert vars(changed) == {"lr": 1, "flip": False} and vars(options) == {"lr": 1, "flip": True}
    with pytest.raises(KeyError, match="no such option: apple, pear"):
        with_options(options, pear=1, apple=2, lr=3)
    assert Options(lr=1) == Options(lr=1) != Options(lr=2)


def test_help_shows_defaults_where_there_is_a_value():
    parser = cli.Parser("name.py", "Does it.", "  python tools/name.py")
    parser.add_argument("--size", type=int, default=7, help="of it")
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 5], help="of them")
    parser.add_argument("--kinds", nargs="+", default=("a", "b"), help="of it")
    parser.add_argument("--dir", help="if any")
    parser.add_argument("--on", action="store_true", help="switch")
    parser.add_argument("--no_on", dest="on", action="store_false", help="other way")
    parser.add_argument("--hidden", default=argparse.SUPPRESS, help="unset")
    lines = {line.split()[0]: " ".join(line.split()[1:])
             for line in parser.format_help().splitlines() if line.startswith("  --")}
    assert lines["--size"] == "SIZE of it (default: 7)"
    assert "(default: 3 5)" in parser.format_help() and "(default: a b)" in parser.format_help()
    assert (lines["--dir"], lines["--on"], lines["--no_on"]) == ("DIR if any", "switch",
                                                                 "other way")
    assert lines["--hidden"] == "HIDDEN unset"
    assert parser.format_help().endswith("\n\nexamples:\n  python tools/name.py\n")
    assert "examples" not in cli.Parser("name.py", "Does it.").format_help()


@pytest.mark.parametrize("arguments", [["--si", "3"], ["--nonsense"], ["--size"], ["--size", "x"]])
def test_a_parser_raises_instead_of_printing(capsys, arguments):
    parser = cli.Parser("name.py", "Does it.")
    parser.add_argument("--size", type=int)
    with pytest.raises(UserError, match=arguments[0]):
        parser.parse_args(arguments)
    assert capsys.readouterr() == ("", "")


def create_parser():
    """A parser with flags of every form."""
    parser = cli.Parser("name.py", "Does it.", foreign={
        "dataroot": "--input_dir", "netG": "--kind or --kinds", "gpu_ids": "remove it, it is slow"})
    parser.add_argument("--input_dir")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--kind", choices=["AtoB", "BtoA"])
    parser.add_argument("--kinds", nargs="+", choices=["vflip", "rot90", "none"])
    parser.add_argument("--size", type=int, choices=[1, 16, 70])
    parser.add_argument("--flip", action="store_true", default=True)
    parser.add_argument("--no_flip", dest="flip", action="store_false")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--mode", required=True)
    return parser


@pytest.mark.parametrize("text, expected", [
    # a flag that does not exist, whatever else is missing
    ("--imput_dir x", "unknown flag --imput_dir: did you mean --input_dir?"),
    ("--input-dir x", "unknown flag --input-dir: did you mean --input_dir?"),
    ("-inputdir=x", "unknown flag -inputdir: did you mean --input_dir?"),
    ("--INPUT_DIR x", "unknown flag --INPUT_DIR: did you mean --input_dir?"),
    ("--banana", "unknown flag --banana: see --help"),
    ("-lr 3", "unknown flag -lr: did you mean --lr?"),
    # another program's
    ("--dataroot x", "unknown flag --dataroot: did you mean --input_dir?"),
    ("--data_root=x", "unknown flag --data_root: did you mean --input_dir?"),
    ("--netG x", "unknown flag --netG: did you mean --kind or --kinds?"),
    ("--gpu_ids -1", "unknown flag --gpu_ids: remove it, it is slow"),
    # all are named, each once
    ("--dataroot x --banana --qiet --lr 3 --gpu_ids 0 --banana",
     "unknown flags --dataroot (did you mean --input_dir?), --banana (see --help), "
     "--qiet (did you mean --quiet?), --gpu_ids (remove it, it is slow)"),
    # values
    ("--mode x --kind btoa", "argument --kind: btoa: give AtoB or BtoA (did you mean BtoA?)"),
    ("--mode x --kind BtoA,", "argument --kind: BtoA,: give AtoB or BtoA (did you mean BtoA?)"),
    ("--mode x --kind up", "argument --kind: up: give AtoB or BtoA"),
    ("--mode x --kinds none vfilp",
     "argument --kinds: vfilp: give vflip, rot90 or none (did you mean vflip?)"),
    ("--mode x --size 7", "argument --size: 7: give 1, 16 or 70"),
    # values that no flag takes
    ("--mode x --flip false", "--flip takes no value: remove false, or give --no_flip instead"),
    ("--mode x --no_flip=True", "--no_flip takes no value: remove True, or give --flip instead"),
    ("--quiet=1", "--quiet takes no value: remove 1"),
    ("--mode x --quiet 1", "--quiet takes no value: remove 1"),
    ("--mode x --input_dir my old photos",
     "old photos belongs to no flag: put a value that contains spaces in quotes"),
    ("x --mode x", "x belongs to no flag: put a value that contains spaces in quotes")])
def test_what_was_probably_meant(text, expected):
    with pytest.raises(UserError) as caught:
        create_parser().parse_args(text.split())
    assert str(caught.value) == expected


def test_what_is_no_mistake_is_taken():
    parser = create_parser()
    options = parser.parse_args(["--mode=-1", "--lr", "-1.5", "--input_dir", "-a b", "--no_flip"])
    assert (options.mode, options.lr, options.input_dir, options.flip) == ("-1", -1.5, "-a b",
                                                                           False)
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--mode", "x", "--", "--banana", "--quiet=1"]).rest == [
        "--banana", "--quiet=1"]
    # what others handle, as tools/test.py does
    assert parser.parse_known_args(["--mode", "x", "--banana"])[1] == ["--banana"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--banana", "--help"])


@pytest.mark.parametrize("make, good, bad, text", [
    (lambda: cli.number_type(int, 1), {"1": 1, "2147483647": 2**31 - 1},
     ["0", "2147483648", "1.0", "1e3", "x", ""], "give a whole number of at least 1"),
    (lambda: cli.number_type(int, 32, 64), {"32": 32, "64": 64}, ["31", "65"],
     "give a whole number of at least 32 and at most 64"),
    (lambda: cli.number_type(float, 0), {"0": 0.0, "1e-9": 1e-9, "3e38": 3e38},
     ["-1e-9", "nan", "inf", "-inf", "1e39", "1,5"], "give a number of at least 0"),
    (lambda: cli.number_type(float, 0, 1, open_low=True), {"1": 1.0, "1e-300": 1e-300},
     ["0", "-0.0", "1.0000001"], "give a number above 0 and at most 1")])
def test_numbers_are_finite_and_within_their_limits(make, good, bad, text):
    convert = make()
    for given, value in good.items():
        assert convert(given) == value
    for given in bad:
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            convert(given)
        assert str(caught.value) == f"{given}: {text}"


@pytest.mark.parametrize("text, option, size", [
    ("256", 256, (256, 256)), ("256x256", 256, (256, 256)), ("64x96", "64x96", (64, 96)),
    ("96X64", "96x64", (96, 64)), ("96\u00d764", "96x64", (96, 64))])
def test_a_size_is_a_number_or_height_and_width(text, option, size):
    convert = cli.size_type(32, 4096)
    assert convert(text) == option == convert(str(convert(text)))
    assert cli.size_of(option) == size
    assert str(cli.size_of(option)) == str(option)


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "64x96x3", "31x64", "64x4097", "64 x", "-64",
                                  "64,96", "1e2"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give ") as error:
        cli.size_type(32, 4096)(text)
    assert str(error.value).startswith(f"{text}: ") or "x" in text  # or one of the sides
    if text == "64x":
        assert str(error.value) == "64x: give N, or HEIGHTxWIDTH"


def test_the_first_refused_combination_is_raised():
    cli.check_combinations([(False, "one"), (None, "two"), ([], "three")])
    with pytest.raises(UserError, match="^second$"):
        cli.check_combinations([(0, "first"), (["x"], "second"), (True, "third")])


# ---- running a command


def raise_error(error):
    """A command that raises."""
    def run(_argv):
        """Raises the error."""
        raise error
    return run


@pytest.mark.parametrize("run, code, text", [
    (lambda argv: None, 0, ""), (lambda argv: 0, 0, ""), (lambda argv: 5, 5, ""),
    (raise_error(UserError("a\nb")), 2, "name.py: error: a\\nb\n"),
    (raise_error(RunError("failed")), 1, "name.py: error: failed\n"),
    (raise_error(RunError("failed", 7)), 7, "name.py: error: failed\n"),
    (raise_error(OSError(errno.ENOSPC, "No space left on device", "x\n")), 1,
     "name.py: error: [Errno 28] No space left on device: 'x\\n': check the disk and the path, "
     "then run the same command again\n"),
    (raise_error(KeyboardInterrupt()), 130, "name.py: interrupted\n"),
    (raise_error(KeyboardInterrupt(signal.SIGTERM)), 143, "name.py: interrupted\n")])
def test_exit_codes_and_their_line(capsys, run, code, text):
    assert cli.run_main("name.py", run, ["argument"], "interrupted") == code
    assert capsys.readouterr() == ("", text)


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run_main("name.py", lambda argv: 1 / 0)


def test_the_arguments_are_passed_on():
    seen = []
    cli.run_main("name.py", seen.append, ["--a"])
    cli.run_main("name.py", seen.append)
    assert seen == [["--a"], None]


def test_a_command_within_a_command_has_its_own_name(capsys):
    def outer(_argv):
        """Runs another command, which fails, then warns and fails itself."""
        assert cli.run_main("inner.py", raise_error(UserError("inside"))) == 2
        cli.warn("between")
        raise UserError("outside")
    assert cli.run_main("outer.py", outer) == 2
    assert capsys.readouterr().err == (
        "inner.py: error: inside\nouter.py: between\nouter.py: error: outside\n")


def test_file_names_that_are_not_text_can_be_printed():
    code = ("from tools.lib import cli; "
            "cli.run_main('name.py', lambda argv: cli.say('ü \\udcff') or cli.warn('\\udcff'))")
    done = run_python(code, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.stdout, done.stderr) == ("\\xfc \\udcff\n", "name.py: \\udcff\n")


@contextlib.contextmanager
def handler_of(number, handler):
    """Another signal handler inside."""
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


def test_sigterm_raises_inside_and_the_handler_is_restored():
    with handler_of(signal.SIGTERM, signal.SIG_DFL):
        with pytest.raises(KeyboardInterrupt) as caught, cli.sigterm_as_interrupt():
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.args == (signal.SIGTERM,)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_another_handler_of_sigterm_stays():
    seen = []
    with handler_of(signal.SIGTERM, lambda number, _frame: seen.append(number)):
        with cli.sigterm_as_interrupt():
            signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]


def test_a_thread_leaves_signals_alone():
    seen = []

    def work():
        """Looks at the handler inside."""
        with cli.sigterm_as_interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))
    with handler_of(signal.SIGTERM, signal.SIG_DFL):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [signal.SIG_DFL]


# ---- child processes


def test_a_childs_exit_code(tmp_path):
    code = "import os, sys; sys.exit(7 if os.getcwd() == sys.argv[1] else 1)"
    assert cli.run_child([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path) == 7
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    assert cli.run_child([sys.executable, "-c", code]) == 137


@pytest.mark.parametrize("number, got", [(signal.SIGINT, "nothing"), (signal.SIGTERM, "SIGTERM")])
def test_an_interrupted_parent_waits_for_its_child(tmp_path, number, got):
    """Ctrl-C reaches both in a terminal, so it is not sent again; SIGTERM is passed on."""
    code = f"""
import os, signal, sys, time
received = "nothing"
def save(*_):
    global received
    received = "SIGTERM"
signal.signal(signal.SIGTERM, save)
os.kill(os.getppid(), {int(number)})
end = time.monotonic() + ({TIMEOUT} if {got!r} == "SIGTERM" else 0.5)
while received == "nothing" and time.monotonic() < end:
    time.sleep(0.01)
open("saved", "w").write(received)"""
    with handler_of(signal.SIGTERM, signal.SIG_DFL), pytest.raises(KeyboardInterrupt) as caught, \
            cli.sigterm_as_interrupt():
        cli.run_child([sys.executable, "-c", code], cwd=tmp_path)
    assert caught.value.args == ((number,) if number == signal.SIGTERM else ())
    assert (tmp_path / "saved").read_text() == got


# ---- missing libraries


def test_missing_libraries_are_one_line_with_the_next_step(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/tools/name.py", "--help"])
    cli.require("sys", "argparse")
    with pytest.raises(SystemExit) as stopped:
        cli.require("sys", "no_such_library", "nor_this_one")
    assert stopped.value.code == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.startswith(
        "name.py: error: no_such_library, nor_this_one not installed for this Python: make the "
        f"environment with `python3 tools/test.py --install_only` in {ROOT} and enter it with `")
    assert streams.err.count("\n") == 1
