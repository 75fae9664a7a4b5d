"""What the tests of interrupted tools share: starting a tool, killing it, comparing folders."""

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from helpers import ROOT

TOOLS = ROOT / "tools"
NUM_KILLS = 15  # that reach the tool while it runs
NUM_PARTIAL = 3  # of them that leave neither the first nor the last state of the folder
MAX_STARTS = 10 * NUM_KILLS  # in all
TIMEOUT = 30  # seconds in which any run ends, its workers too
KILLED = 9  # exit code of STEP_KILLER
STEP_KILLER = f"""
import os, runpy, sys
count, number = 0, int(sys.argv.pop(1))
def hook(event, arguments):
    global count
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
                 "shutil.rmtree") or (event == "open" and isinstance(arguments[1], str)
                                      and not arguments[1].startswith("r")):
        count += 1
        if count == number:
            if event == "open":
                os.open(arguments[0], arguments[2])
            os._exit({KILLED})
del sys.argv[0]
sys.addaudithook(hook)
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # runs a tool and exits just before its n-th change of the disk, or just after opening a file
# to write


def read_tree(folder):
    """Path -> bytes of everything below a folder, hidden files too; None for a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")}


def names_of(folder):
    """The paths of everything below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def start(tool, *arguments, **options):
    """A running tool, in a process group of its own as in a terminal."""
    return subprocess.Popen([sys.executable, TOOLS / tool, *map(str, arguments)], text=True,
                            errors="surrogateescape", stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True, **options)


def wait_for_all(running):
    """Waits for a tool and its workers, which hold its pipes too; returns output and errors."""
    try:
        return running.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)  # its workers too
        raise


def finish(running, codes=(0,)):
    """Waits for a tool, which must end with one of these codes; returns its output and errors."""
    output, errors = wait_for_all(running)
    assert running.returncode in codes and "Traceback" not in errors, errors
    return output, errors


def limit_files(num_bytes):
    """What to run in a new process so that no file grows above a size: write(2) fails, as on a full
    disk."""
    resource = importlib.import_module("resource")  # not on Windows
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def run(tool, *arguments, codes=(0,), **options):
    """Runs a tool to its end; returns its output and errors."""
    return finish(start(tool, *arguments, **options), codes)


def kill_at_random(command, fill, folder, seed, earliest=0.1):
    """Kills a command at random moments and gives it again until it is done, over and over.

    fill() makes `folder` as it is before the command. SIGKILL of the main process alone and SIGINT
    of the group alternate, at a moment between `earliest` and the whole of the time that a clean
    run takes. Each time the command completes, the folder must be what a clean run makes of it, and
    NUM_PARTIAL kills must have left it in between. Fails after MAX_STARTS.

    The time is that of the first run, later shorter or longer by what the kills find: a machine's
    speed changes.
    """
    rng, num_starts, num_kills, num_partial = random.Random(seed), 0, 0, 0
    shutil.rmtree(folder, ignore_errors=True)
    fill()
    before, began = names_of(folder), time.monotonic()
    run(*command)
    duration, clean = time.monotonic() - began, read_tree(folder)
    while num_kills < NUM_KILLS or num_partial < NUM_PARTIAL:
        shutil.rmtree(folder)
        fill()
        started = []
        while not started or started[-1].returncode != 0:
            assert num_starts < MAX_STARTS, (
                f"{num_starts} starts have brought {num_kills} of {NUM_KILLS} kills, {num_partial} "
                f"of {NUM_PARTIAL} between the first and the last state, and this command, started "
                f"{len(started)} times, has not completed: {command}")
            num_starts += 1
            running = start(*command)
            started.append(running)
            time.sleep(rng.uniform(earliest, 1) * duration)
            is_running = running.poll() is None
            if is_running:
                num_kills += 1
                if num_kills % 2:  # the next one starts at once, beside workers without a parent
                    running.kill()
                    running.wait()
                else:
                    os.killpg(running.pid, signal.SIGINT)
                    running.wait(TIMEOUT)
                num_partial += names_of(folder) not in (before, set(clean))
            else:
                finish(running)
            if len(started) == 1 and not is_running:
                duration *= 0.9
            elif len(started) == 1 and names_of(folder) == before:
                duration *= 1.1
        for running in started:
            if not running.stdout.closed:
                wait_for_all(running)
        assert read_tree(folder) == clean


def kill_at_every_step(command, fill, folder):
    """Kills a command at its 1st, 2nd, ... change of the disk, each time from the start.

    The same command given again must make of the folder what a clean run makes of it. Yields the
    paths in the folder after each kill.
    """
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    shutil.rmtree(folder, ignore_errors=True)
    fill()
    run(*command)
    clean, number, killed = read_tree(folder), 0, True
    while killed:
        number += 1
        shutil.rmtree(folder)
        fill()
        done = subprocess.run([sys.executable, "-c", STEP_KILLER, str(number), TOOLS / command[0],
                               *map(str, command[1:])], capture_output=True, env=quiet,
                              timeout=TIMEOUT)
        killed = done.returncode == KILLED
        assert killed or done.returncode == 0, done.stderr
        yield names_of(folder)
        run(*command)
        assert read_tree(folder) == clean, number


def run_two_at_once(command, fill, folder, seed, busy=None, times=5):
    """Runs a command twice at once, some milliseconds apart, and kills the first every other time.

    Both must succeed (or one of them end with exit code 1 and the text `busy`), and the folder must
    be what one run makes of it; where one did not succeed, after one more run.
    """
    rng = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    fill()
    began = time.monotonic()
    run(*command)
    duration, clean = time.monotonic() - began, read_tree(folder)
    for number in range(times):
        shutil.rmtree(folder)
        fill()
        first = start(*command)
        time.sleep(rng.uniform(0, 0.02))
        second = start(*command)
        if number % 2:
            time.sleep(rng.uniform(0.4, 1) * duration)
            first.kill()
        codes = {-9: [0, -9]}.get(first.wait(TIMEOUT), [0])
        for running in (first, second):
            _, errors = finish(running, codes + [1] * bool(busy))
            assert running.returncode != 1 or busy in errors, errors
        if first.returncode or second.returncode:
            assert number % 2 or 0 in (first.returncode, second.returncode)
            run(*command)
        assert read_tree(folder) == clean
