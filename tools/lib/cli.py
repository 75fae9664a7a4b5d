"""What all command lines share: options, one-line errors, messages, signals and exit codes.

Needs the standard library alone, so that a command that lacks a library can say so in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import contextvars
import difflib
import importlib.util
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# what warnings begin with; threads see the default
PROGRAM = contextvars.ContextVar("PROGRAM", default="pix2pix.py")

# --------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------


class UserError(ValueError):
    """Something that the user can change; its text is the one line that is printed. Exit code 2."""


class RunError(RuntimeError):
    """The command cannot continue; its text is the one line that is printed. Exit code 1 unless
    another is given."""

    def __init__(self, text, code=1):
        """code: exit code."""
        super().__init__(text)
        self.code = code


def describe_error(error):
    """What an error says, in one line: of TensorFlow's long texts the line above the node's, or the
    first that is more than a heading."""
    lines = str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__]
    headings = ("Graph execution error:", "From /job:")
    while len(lines) > 1 and (not lines[0].strip() or lines[0].startswith(headings)):
        lines.pop(0)
    ends = [number for number, line in enumerate(lines) if line.strip().startswith("[[{{node")]
    return lines[ends[0] - 1] if ends and ends[0] else lines[0]


def require(*modules):
    """Ends the process with one line where a library is not installed: call it before importing
    any, so that even --help can say how to get them."""
    packages = {"PIL": "Pillow"}  # where the module has another name
    missing = [packages.get(name, name) for name in modules
               if importlib.util.find_spec(name) is None]
    if missing:
        root = Path(__file__).resolve().parents[2]
        enter = r".venv\Scripts\activate" if os.name == "nt" else ". .venv/bin/activate"
        warn(f"error: {', '.join(missing)} not installed for this Python: make the environment "
             f"with `python3 tools/test.py --install_only` in {root} and enter it with `{enter}`",
             Path(sys.argv[0]).name)
        sys.exit(2)


def use_huge_pages():
    """Starts the program again, once, so that its memory is in huge pages where Linux gives these
    on request: they make reading the weights faster (docs/experiments).

    The request is a variable that the C library reads as it starts. Call this where `require` is
    called. Under a debugger, in a notebook and the like it does nothing.
    """
    if sys.orig_argv[1:] != sys.argv or "GLIBC_TUNABLES" in os.environ:
        return
    with contextlib.suppress(OSError):  # another system
        if "[madvise]" in HUGE_PAGES.read_text(encoding="ascii"):
            os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
            os.execv(sys.executable, [sys.executable, *sys.argv])


def home_dir():
    """The user's home folder; None where there is none, as in a container: `~` then stands for a
    folder of that name, or with an empty HOME for the root of the file system."""
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) and os.environ.get("HOME") != "" else None


# --------------------------------------------------------------------------------------------------
# Messages
# --------------------------------------------------------------------------------------------------


def printable(text):
    """A path or message as one line of text: what does not print is escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def say(text, stream=None):
    """Prints a line. A stream that fails, such as a closed pipe, is silenced: what is printed never
    stops the work."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError) as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        if stream is not sys.stderr:
            warn(f"cannot print to the output any more ({error}), continuing without it")


def warn(text, program=None):
    """Prints a line to stderr, after the program's name."""
    say(f"{program or PROGRAM.get()}: {text}", sys.stderr)


def rate_text(count, seconds, unit):
    """A rate as the end of a line, such as ", 3.2 images/s"; "" for fewer than two pieces of work,
    whose time is mostly that of the start."""
    return f", {count / seconds:.1f} {unit}" if count >= 2 and seconds > 0 else ""


@contextlib.contextmanager
def quiet_stderr():
    """Silences stderr inside and yields a stream that still reaches it (None where it is closed):
    C++ libraries print some lines at any log level, TensorFlow at import (tensorflow issue
    100442), TFLite at its start, libjpeg while it decodes."""
    try:
        original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed: python pix2pix.py 2>&-
        yield None
        return
    os.dup2(null, 2)
    try:
        with open(original, "w", closefd=False) as stream:
            yield stream
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)


def create_progress_bar(total, initial, unit, stream=None, **settings):
    """A tqdm progress bar on a terminal, nothing elsewhere. stream: instead of stderr; settings:
    tqdm's."""
    from tqdm import tqdm  # slow to import, and --help does not need it
    stream = stream or sys.stderr
    on_terminal = stream is not None and stream.isatty()
    return tqdm(total=total, initial=initial, unit=unit, disable=not on_terminal,
                dynamic_ncols=True, file=stream, **settings)


# --------------------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------------------


class Options(argparse.Namespace):
    """The values of a command line, frozen: one attribute per flag. The parser alone declares them.
    """

    def __init__(self, **values):
        """values: name -> value, as vars() of argparse's namespace."""
        vars(self).update(values)

    def __setattr__(self, name, value):
        """Raises AttributeError."""
        raise AttributeError(f"options are frozen: with_options(options, {name}=...) copies them")


def with_options(options, **changes):
    """A copy of the options with some values changed. Raises KeyError for an unknown name."""
    unknown = changes.keys() - vars(options).keys()
    if unknown:
        raise KeyError(f"no such option: {', '.join(sorted(unknown))}")
    return Options(**{**vars(options), **changes})


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Adds the default to the help of flags that take a value and have a default."""

    def _get_help_string(self, action):
        """The help text of one flag."""
        if action.nargs == 0 or action.default in (None, argparse.SUPPRESS):
            return action.help
        default = action.default
        text = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
        return f"{action.help} (default: {text})"


def is_flag(text):
    """Whether a word of a command line has the form of a flag."""
    try:
        float(text)
    except ValueError:
        return text.startswith("-") and len(text) > 1 and " " not in text
    return False


def plain(name):
    """A name without what people mix up: capital letters, leading dashes, - for _."""
    return name.lower().lstrip("-").replace("-", "_")


def closest(name, choices):
    """The choice that a mistyped name was probably meant to be; None where none is like it."""
    choices = {plain(choice): choice for choice in choices}
    matches = difflib.get_close_matches(plain(name), choices, n=1, cutoff=0.7)
    return choices[matches[0]] if matches else None


def all_of(words, conjunction="and"):
    """"a, b and c"."""
    *others, last = map(str, words)
    return f"{', '.join(others)} {conjunction} {last}" if others else last


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError instead of printing its usage, takes no abbreviations, and
    says what a mistyped flag or value was probably meant to be."""

    def __init__(self, prog, description, examples="", foreign=None):
        """examples: command lines, shown at the end of --help. foreign: names of flags in other
        programs -> the flag to use here, or what to do in words."""
        epilog = f"examples:\n{examples}" if examples else None
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False,
                         formatter_class=HelpFormatter)
        self.foreign = foreign or {}

    def error(self, message):
        """Raises UserError."""
        raise UserError(message)

    def parse_args(self, args=None, namespace=None):
        """argparse's. Raises UserError, which names all unknown flags before anything else."""
        args = [*(sys.argv[1:] if args is None else args)]
        self.check_flags(args)
        namespace, extra = self.parse_known_args(args, namespace)
        if extra:
            self.error(self.describe_extra(extra, args))
        return namespace

    def check_flags(self, args):
        """Raises UserError for flags that do not exist and switches with =VALUE."""
        known = self._option_string_actions
        args = args[:args.index("--")] if "--" in args else args
        flags = [word.split("=")[0] for word in args if is_flag(word)]
        unknown = [*dict.fromkeys(flag for flag in flags if flag not in known)]
        if "--help" in flags or "-h" in flags:
            return
        if len(unknown) == 1:
            self.error(f"unknown flag {unknown[0]}: {self.suggest_flag(unknown[0])}")
        if unknown:
            self.error("unknown flags " + ", ".join(f"{flag} ({self.suggest_flag(flag)})"
                                                    for flag in unknown))
        for word in args:
            flag, equals, value = word.partition("=")
            if equals and flag in known and known[flag].nargs == 0:
                self.error(self.describe_switch(flag, value))

    def suggest_flag(self, flag):
        """What to do about a flag that does not exist."""
        own = [*self._option_string_actions]
        meant = self.foreign.get(plain(flag)) or closest(flag, own)
        if meant is None:
            meant = self.foreign.get(closest(flag, self.foreign))
        if meant is None:
            return "see --help"
        return f"did you mean {meant}?" if meant.startswith("--") else meant

    def describe_switch(self, flag, value):
        """The error of a value for a flag that takes none."""
        switch = self._option_string_actions[flag]
        opposite = [action.option_strings[0] for action in self._actions
                    if action.dest == switch.dest and action is not switch]
        return f"{flag} takes no value: remove {value}" \
            + "".join(f", or give {other} instead" for other in opposite)

    def describe_extra(self, words, args):
        """The error of words that no flag takes."""
        before = args[max(0, args.index(words[0]) - 1)]
        switch = self._option_string_actions.get(before)
        if switch is not None and switch.nargs == 0:
            return self.describe_switch(before, words[0])
        return f"{' '.join(words)} belongs to no flag: put a value that contains spaces in quotes"

    def _check_value(self, action, value):
        """argparse's, of one value. Raises ArgumentError with the choices."""
        if action.choices is not None and value not in action.choices:
            meant = closest(str(value), map(str, action.choices))
            hint = f" (did you mean {meant}?)" if meant else ""
            raise argparse.ArgumentError(
                action, f"{value}: give {all_of(action.choices, 'or')}{hint}")


def read_command_line(argv, parser):
    """The values of a command line by name, and the names of those that it gives. Raises UserError.
    """
    values = vars(parser.parse_args(argv))
    # argparse leaves what a namespace already has, here None, where a flag is not given
    unset = argparse.Namespace(**dict.fromkeys(values))
    given = vars(parser.parse_args(argv, unset))
    return values, {name for name, value in given.items() if value is not None}


def number_type(kind, low, high=math.inf, open_low=False):
    """An argparse type for a finite int or float in low..high (`open_low`: greater than low)."""
    name = "whole number" if kind is int else "number"
    above = "above" if open_low else "of at least"
    limits = f"{above} {low}" + ("" if high == math.inf else f" and at most {high}")

    def convert(text):
        """The value of a text. Raises ArgumentTypeError."""
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        largest = min(high, 2**31 - 1 if kind is int else 3.4e38)  # of int32, of float32
        if not low <= value <= largest or (open_low and value == low):
            raise argparse.ArgumentTypeError(f"{text}: give a {name} {limits}")
        return value
    return convert


class Size(NamedTuple):
    """Of an image, in pixels."""

    height: int
    width: int

    def __str__(self):
        """As a flag takes it: "256", or "256x512" for 256 rows of 512 pixels."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"


def size_option(size):
    """A Size as options and options.json have it: an int for squares, else text such as "256x512".
    """
    return size.height if size.height == size.width else str(size)


def size_of(option):
    """The Size of an option."""
    height, _, width = str(option).partition("x")
    return Size(int(height), int(width or height))


def size_type(low, high=math.inf):
    """An argparse type for N or HEIGHTxWIDTH, whole numbers in low..high: a `size_option`."""
    side = number_type(int, low, high)

    def convert(text):
        """The value of a text. Raises ArgumentTypeError."""
        parts = text.lower().replace("\N{MULTIPLICATION SIGN}", "x").split("x")
        if len(parts) > 2 or "" in parts:
            raise argparse.ArgumentTypeError(f"{text}: give N, or HEIGHTxWIDTH")
        return size_option(Size(side(parts[0]), side(parts[-1])))
    return convert


def check_combinations(rows):
    """Raises UserError with the text of the first row (refused, text) that is refused."""
    for refused, text in rows:
        if refused:
            raise UserError(text)


# --------------------------------------------------------------------------------------------------
# Running a command
# --------------------------------------------------------------------------------------------------


def interrupt(number, _frame):
    """A signal handler that ends the command as Ctrl-C does."""
    raise KeyboardInterrupt(number)


@contextlib.contextmanager
def sigterm_as_interrupt():
    """Raises KeyboardInterrupt at SIGTERM inside, so that files and processes are cleaned up."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def fail(text, code):
    """Prints an error as one line and returns the exit code."""
    warn(f"error: {printable(text)}")
    return code


def run_main(program, run, argv=None, interrupted=None):
    """Runs a command, `run(argv)`, prints an error as one line and returns the exit code.

    0: done (or what `run` returns); 1: failed; 2: UserError, the user must change something;
    128 + n: ended by signal n. interrupted: a line to print after a signal.
    """
    outer = PROGRAM.set(program)  # a command may run another in its own process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be valid text
            stream.reconfigure(errors="backslashreplace")
    try:
        with sigterm_as_interrupt():
            return run(argv) or 0
    except UserError as error:
        return fail(error, 2)
    except RunError as error:
        return fail(error, error.code)
    except KeyboardInterrupt as error:
        if interrupted:
            warn(interrupted)
        return 128 + next(iter(error.args), signal.SIGINT)
    except OSError as error:
        return fail(f"{error}: check the disk and the path, then run the same command again", 1)
    finally:
        PROGRAM.reset(outer)


def run_child(command, **options):
    """Runs another command; returns its exit code, 128 + n after signal n. options: Popen's.

    When interrupted it waits for the command to end, so that a training can save: Ctrl-C reaches
    both, other signals are passed on.
    """
    with subprocess.Popen(command, **options) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt as error:
            for number in error.args:
                child.send_signal(number)
            child.wait()
            raise
    return code if code >= 0 else 128 - code


class StopRequest:
    """Remembers the first Ctrl-C, SIGTERM or lost terminal, so that a loop can end after its step;
    a second one ends the process at once, even within a step."""

    def __init__(self):
        """Starts listening. Signals that are ignored, as by nohup or after a script's &, stay so.
        """
        self.signal = None
        numbers = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]
        numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        # Python runs its own handlers only between TensorFlow's steps; this byte comes at once
        receiver, self.sender = socket.socketpair()
        self.sender.setblocking(False)
        self.previous_fd = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
        self.previous = {number: signal.signal(number, self.receive) for number in numbers}
        threading.Thread(target=self.listen, args=[receiver], daemon=True).start()

    def receive(self, number, _frame):
        """Remembers a signal."""
        self.signal = self.signal or number

    def listen(self, receiver):
        """In its own thread: ends the process at the second signal."""
        with receiver:
            count = 0
            for byte in iter(lambda: receiver.recv(1), b""):
                count += byte[0] in self.previous
                if count == 1:
                    warn("stopping after this step and saving; press again to stop at once")
                if count == 2:
                    warn("stopped at once; --resume continues from the last checkpoint")
                    os._exit(128 + byte[0])

    def close(self):
        """Restores the handlers that were there before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.previous_fd)
        self.sender.close()
