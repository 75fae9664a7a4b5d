"""Processes of a cluster that are killed, frozen or ended; all are on this machine."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from helpers import (ROOT, SMALL, assert_equal_runs, build_once, draw_pairs, free_addresses,
                     in_folder, read_variables, train_small)

import helpers
import pix2pix
from tools.lib import cluster
from tools.lib.checkpoints import checkpoint_step, list_checkpoints
from tools.lib.cli import RunError
from tools.lib.tf1 import tf

pytestmark = pytest.mark.usefixtures("in_empty_folder")

FLAGS = ["--batch_size", 2, "--grad_accumulation", 2, "--augment", "vflip", "noise",
         "--progress_freq", 1]
SAVE_FREQ, LAST_STEP, NUM_KILLS = 3, 12, 20
SECONDS = 120  # in which any process does what it is waited for
PAUSE = """
    real = getattr(pix2pix, {name!r})
    def pause(*arguments, **more):
        if {step} in (None, *arguments[2:3]):
            print("pausing", flush=True)
            sys.stdin.readline()
        return real(*arguments, **more)
    pix2pix.{name} = pause"""  # before a step, or at a function's call


class Machine(NamedTuple):
    """A process of pix2pix.py; what it prints goes into two files."""

    process: subprocess.Popen
    out: Path
    err: Path

    def wait_or_end(self, text):
        """Returns once it has printed a text or ended."""
        end = time.monotonic() + SECONDS
        while text not in self.out.read_text() and self.process.poll() is None:
            assert time.monotonic() < end, "it never happened"
            time.sleep(0.02)

    def wait_for(self, text):
        """Returns once it has printed a text."""
        self.wait_or_end(text)
        assert text in self.out.read_text(), self.err.read_text()

    def kill(self):
        """As the system does when memory runs out."""
        self.process.kill()
        self.process.wait()

    def go_on(self):
        """Ends a pause."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self):
        """Exit code and stderr, once it has ended."""
        code = self.process.wait(SECONDS)
        return code, self.err.read_text()

    def end(self, number):
        """Exit code and stderr after a signal."""
        self.process.send_signal(number)
        return self.finish()

    def steps(self):
        """The steps that it has said it has taken."""
        found = re.findall(r"^progress  epoch (\d+)  step (\d+)", self.out.read_text(),
                           re.MULTILINE)
        return [3 * (int(epoch) - 1) + int(step) for epoch, step in found]  # of 10 images


class Lab:
    """Two machines of a cluster, the first and its worker, again and again."""

    def __init__(self, folder):
        """folder: for what they print."""
        self.addresses = free_addresses(2)
        self.folder, self.machines = folder, []

    def start(self, arguments, pause="", **more):
        """A Machine. pause: PAUSE; more: Popen's."""
        arguments = [*map(str, arguments), "--cluster", self.addresses]
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pix2pix\n" \
            f"{textwrap.dedent(pause)}\nsys.exit(pix2pix.main({arguments!r}))"
        out, err = (self.folder / f"{len(self.machines)}.{name}" for name in ("out", "err"))
        with open(out, "w") as out_file, open(err, "w") as err_file:
            process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                       stdout=out_file, stderr=err_file, text=True, **more)
        self.machines.append(Machine(process, out, err))
        return self.machines[-1]

    def start_worker(self, *flags, **more):
        """The worker, in an empty folder. more: of `start`."""
        folder = self.folder / "worker"
        folder.mkdir(exist_ok=True)
        return self.start(["--mode", "worker", "--task", 1, *flags], cwd=folder, **more)

    def start_first(self, *flags, name="run_step", step=None):
        """The first machine; resumes where there is a run. name, step: where it pauses."""
        pause = "" if name == "run_step" and step is None else PAUSE.format(name=name, step=step)
        resumed = ["--resume"] if Path("run/options.json").exists() else [*SMALL, *FLAGS]
        return self.start(["--mode", "train", "--input_dir", "bars/train", "--output_dir", "run",
                           "--save_freq", SAVE_FREQ, "--worker_timeout", SECONDS, *resumed, *flags],
                          pause)

    def assert_lost(self, first, reason):
        """The first machine ends because of its worker: one line, exit code 1."""
        code, error = first.finish()
        assert code == 1 and error.startswith(
            f"pix2pix.py: error: the worker at {self.addresses.split(',')[1]} {reason}"), error
        assert error.endswith("or leave it out of --cluster\n") and error.count("\n") == 1

    def close(self):
        """Ends all processes, frozen ones too."""
        for machine in self.machines:
            machine.kill()
            machine.process.stdin.close()


@pytest.fixture
def lab(tmp_path, undisturbed):
    """A Lab beside the images; its processes end with the test."""
    (tmp_path / "printed").mkdir()
    os.symlink(undisturbed / "bars", "bars")
    with contextlib.closing(Lab(tmp_path / "printed")) as made:
        yield made


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A folder with bars/train (10 images) and run, of LAST_STEP steps on one device."""
    def build(root):
        draw_pairs(root / "bars/train", 10)
        train_as_processes(root)
    return build_once(tmp_path_factory, "undisturbed", build)


def train_as_processes(root, last_step=LAST_STEP):
    """Trains in root/run on one device, to the bits of a process of its own."""
    with pytest.MonkeyPatch.context() as patch, in_folder(root):
        patch.setattr(helpers, "optimize_graphs", True)
        assert train_small("run", *FLAGS, "--max_steps", last_step) == 0


def logged_steps():
    """The steps in the run's log, each of which has one row."""
    return [int(row.split(",")[0]) for row in Path("run/log.csv").read_text().splitlines()[1:]]


def assert_kept(step):
    """The newest checkpoint is that of a step, and the log has every step up to it once."""
    assert read_variables("run")["global_step"] == step
    assert logged_steps() == [*range(1, step + 1)]


def test_a_killed_worker_costs_no_step_and_a_killed_first_machine_those_since_its_save(lab,
                                                                                       undisturbed):
    """One worker serves two runs one after the other, and keeps nothing."""
    worker, first = lab.start_worker(), lab.start_first("--max_steps", LAST_STEP, step=5)
    first.wait_for("pausing")
    worker.kill()
    first.go_on()
    lab.assert_lost(first, "is gone (Connection refused): no step is lost; continue ")
    assert_kept(4)
    worker, first = lab.start_worker("--keep"), lab.start_first(step=8)
    first.wait_for("pausing")
    first.kill()
    assert checkpoint_step(list_checkpoints("run")[0]) == 6
    assert lab.start_first().finish() == (0, "")
    assert_equal_runs(undisturbed / "run", "run")
    worker.wait_for("ended")
    assert [line.split()[-1] for line in worker.out.read_text().splitlines()[1:]] \
        == ["begun", "begun", "ended"]
    assert worker.end(signal.SIGINT) == (130, "") and os.listdir(lab.folder / "worker") == []


def test_a_frozen_worker_ends_the_run_after_worker_timeout(lab):
    worker = lab.start_worker()
    worker.wait_for("computes")
    first = lab.start_first("--max_steps", LAST_STEP, "--worker_timeout", 10, step=5)
    first.wait_for("pausing")
    worker.process.send_signal(signal.SIGSTOP)
    first.go_on()
    lab.assert_lost(first, "does not answer: ")
    assert_kept(4)
    worker.process.send_signal(signal.SIGCONT)
    assert worker.end(signal.SIGTERM) == (143, "") and os.listdir(lab.folder / "worker") == []


def test_a_worker_that_dies_while_the_graph_is_built_ends_the_run(lab):
    worker = lab.start_worker()
    first = lab.start_first("--max_steps", LAST_STEP, name="create_model")
    first.wait_for("pausing")
    worker.kill()
    first.go_on()
    lab.assert_lost(first, "is gone (Connection refused): ")
    assert not list_checkpoints("run")


def test_a_signal_within_a_session_ends_a_worker(lab):
    """TensorFlow's first run of a session calls Python, prints exceptions there and drops them."""
    worker = lab.start_worker(pause="""
        import numpy, signal
        pix2pix.tf.Session  # imports TensorFlow, which asks too
        real = numpy.lib.NumpyVersion.__init__
        def hear(*arguments):
            signal.raise_signal(signal.SIGINT)
            return real(*arguments)
        numpy.lib.NumpyVersion.__init__ = hear""")
    worker.wait_or_end("computes")
    assert worker.end(signal.SIGINT) == (130, "") and worker.out.read_text() == ""


def test_a_session_that_is_closed_slowly_does_not_abort_the_process(monkeypatch):
    """Its thread comes back from TensorFlow while Python ends. A run waits for it, but after the
    loss of a worker only so long, and then ends without Python's end."""
    go_on, closed, at_exit, ended = threading.Event(), [], [], []

    def open_session(*_, **__):
        """Stands for tf.Session."""
        return SimpleNamespace(list_devices=list,
                               close=lambda: go_on.wait(60) and closed.append(True))
    monkeypatch.setattr(tf, "Session", open_session)
    monkeypatch.setattr(cluster, "ASK_SECONDS", 0.05)
    monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
    monkeypatch.setattr(os, "_exit", ended.append)
    options = pix2pix.create_parser().parse_args(["--mode", "train"])
    devices = cluster.Devices(options, ["", "/job:pix2pix/task:1"], [None])
    with pytest.raises(RunError), devices.open_session(None):
        raise RunError("the worker is gone")
    (leave, closing, code), = at_exit
    leave(closing, code)
    assert not closed and ended == [1]
    go_on.set()
    closing.join(60)
    leave(closing, code)
    assert len(closed) == 1 and ended == [1]
    go_on.clear()
    with devices.open_session(None):
        threading.Timer(0.5, go_on.set).start()
    assert len(closed) == 2 and len(at_exit) == 1


def kill_one(lab, worker, first, draws, seconds):
    """Kills one of two machines at a random moment; returns both, None for what has ended.
    seconds: that a run takes to its first step."""
    before = checkpoint_step(list_checkpoints("run")[0]) if list_checkpoints("run") else 0
    if draws.random() < 0.5:
        first.wait_for("progress  epoch")
        seconds = 1
    time.sleep(draws.uniform(0, seconds))
    assert worker.process.poll() is None and first.process.poll() is None, first.err.read_text()
    if draws.random() < 0.5:
        first.kill()
        saved = (max(first.steps(), default=0) - 1) // SAVE_FREQ * SAVE_FREQ
        newest = list_checkpoints("run")[:1]
        assert max(saved, before) <= max([0, *map(checkpoint_step, newest)])
        return worker, None
    worker.kill()
    end = time.monotonic() + SECONDS
    while first.process.poll() is None and time.monotonic() < end:
        if "waiting for" in first.out.read_text() and "seed = " not in first.out.read_text():
            return None, first  # it had not asked yet
        time.sleep(0.02)
    lab.assert_lost(first, "")
    if first.steps():
        assert_kept(max(first.steps()))
    return None, None


@pytest.mark.slow
def test_killed_twenty_times_a_cluster_equals_one_device_left_alone(lab, tmp_path):
    draws, began = random.Random(17), time.monotonic()
    worker, first = lab.start_worker(), lab.start_first("--max_steps", 10**6)
    first.wait_for("progress  epoch")
    seconds = time.monotonic() - began
    for _ in range(NUM_KILLS):
        worker = worker or lab.start_worker()
        first = first or lab.start_first("--max_steps", 10**6)
        worker, first = kill_one(lab, worker, first, draws, seconds)
    if first:
        first.kill()
    last_step = checkpoint_step(list_checkpoints("run")[0]) + 7
    assert last_step > NUM_KILLS
    worker = worker or lab.start_worker()
    assert lab.start_first("--max_steps", last_step).finish() == (0, "")
    assert worker.finish() == (0, "")
    (tmp_path / "whole").mkdir()
    os.symlink(tmp_path / "bars", "whole/bars")
    train_as_processes(tmp_path / "whole", last_step)
    assert_equal_runs("whole/run", "run")
