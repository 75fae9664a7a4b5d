"""tools/lib/workers.py: the same results for any number of workers, and how they end."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT

from tools.lib import workers
from tools.lib.cli import RunError

TIMEOUT = 30  # seconds in which all processes here end


def square(number):
    """A worker's function."""
    return number**2, os.getpid()


def fail_at_five(number):
    """Raises ValueError for 5."""
    if number == 5:
        raise ValueError(f"no {number}")
    return number


def kill_yourself(_item):
    """Ends a worker as the kernel does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_order(count):
    results = [*workers.map_parallel(square, range(21), count)]
    assert [result for result, _ in results] == [number**2 for number in range(21)]
    processes = {process for _, process in results}
    assert processes == {os.getpid()} if count == 1 else os.getpid() not in processes


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_a_worker_is_raised_here(count):
    results = workers.map_parallel(fail_at_five, range(9), count)
    with pytest.raises(ValueError, match="no 5"):
        [*results]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_worker_is_one_line():
    with pytest.raises(RunError, match="a worker process was killed: give fewer --workers"):
        [*workers.map_parallel(kill_yourself, range(2), 2)]


class Pool:
    """Replaces ProcessPoolExecutor: works in this process and notes how it was called."""

    calls = []

    def __init__(self, size, context, initializer):
        assert context.get_start_method() == "spawn"  # fork would copy TensorFlow's threads
        assert initializer is workers.start_worker
        self.size = size

    def map(self, function, items, chunksize):
        """As the real one; Ctrl-C is ignored, which the processes started here inherit."""
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        self.calls.append((self.size, chunksize))
        return map(function, items)

    def shutdown(self, cancel_futures):
        """Notes that waiting work is cancelled."""
        self.calls.append(cancel_futures)


@pytest.mark.parametrize("num_items, count, items_per_worker, expected", [
    (1000, 200, 1, (61, 8)), (1000, 61, 1, (61, 8)), (1000, 60, 1, (60, 8)),
    (62, 4000, 1, (61, 2)),  # of 62 items two for a worker at most
    (5, 200, 1, (5, 1)), (30, 2, 1, (2, 8)), (10, 4, 1, (4, 3)), (600, 200, 8, (61, 8)),
    (17, 200, 8, (3, 6)), (8, 200, 8, None), (9, 1, 1, None), (0, 200, 1, None),
    (1, 200, 1, None)])
def test_the_size_of_the_pool(monkeypatch, num_items, count, items_per_worker, expected):
    """At most 61, as Windows allows, no more than there is work for; none for a little work."""
    monkeypatch.setattr(Pool, "calls", [])
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    before = signal.getsignal(signal.SIGINT)
    results = workers.map_parallel(square, range(num_items), count, items_per_worker)
    assert [result for result, _ in results] == [number**2 for number in range(num_items)]
    assert Pool.calls == ([] if expected is None else [expected, True])
    assert signal.getsignal(signal.SIGINT) == before


def test_work_that_is_not_needed_is_cancelled(monkeypatch):
    """As when Ctrl-C ends the loop over the results."""
    monkeypatch.setattr(Pool, "calls", [])
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    results = workers.map_parallel(square, range(40), 2)
    assert next(results) == (0, os.getpid())
    results.close()
    assert Pool.calls == [(2, 8), True]


def test_the_flag_counts_from_1():
    parser = argparse.ArgumentParser()
    workers.add_options(parser.add_argument)
    assert parser.parse_args([]).workers == os.cpu_count()
    assert parser.parse_args(["--workers", "200"]).workers == 200
    with pytest.raises(SystemExit):
        parser.parse_args(["--workers", "0"])


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    """The parent, which waits for two sleeping workers, is killed and can tell them nothing."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from tools.lib.workers import map_parallel

def work(number):
    open(f"{tmp_path}/{{os.getpid()}}.pid", "w").close()
    time.sleep({2 * TIMEOUT})

if __name__ == "__main__":
    list(map_parallel(work, range(2), 2))
""")
    parent = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: len([*tmp_path.glob("*.pid")]) == 2)
        children = [int(path.stem) for path in tmp_path.glob("*.pid")]
    finally:
        parent.kill()
    wait_for(lambda: not any(map(is_running, children)))
    parent.communicate(timeout=TIMEOUT)


def is_running(number):
    """Whether a process exists and has not ended."""
    try:
        with open(f"/proc/{number}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(is_true):
    """Waits until a condition holds; fails after TIMEOUT."""
    end = time.monotonic() + TIMEOUT
    while not is_true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
