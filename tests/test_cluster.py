"""Several machines: here processes of one, workers and the first machine, on 127.0.0.1."""

import contextlib
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import (ROOT, assert_equal_runs, draw_pairs, finish, free_addresses, read_images,
                     resume, run, stop_at, train_small)

import pix2pix
from tools.lib import cluster, run_folder
from tools.lib.cli import UserError

pytestmark = pytest.mark.usefixtures("in_empty_folder")

PARTS = ["--batch_size", 2, "--grad_accumulation", 4, "--progress_freq", 1]


@contextlib.contextmanager
def workers(addresses, *flags, tasks=None):
    """Workers of a --cluster, all if not given some tasks, as processes."""
    started = [subprocess.Popen(
        [sys.executable, ROOT / "pix2pix.py", "--mode", "worker", "--cluster", addresses, "--task",
         str(task), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for task in tasks or range(1, addresses.count(",") + 1)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.usefixtures("optimized")
def test_processes_change_no_bit(tmp_path, monkeypatch, capsys):
    """Three of them, with all that training shows, and a resume on two devices of none of them."""
    draw_pairs(tmp_path / "bars/train", 11)
    draw_pairs(tmp_path / "bars/val", 3)
    flags = [*PARTS, "--crop_size", 64, "--norm", "batch", "--ema_generator", 0.9, "--display_freq",
             1, "--val_dir", "bars/val", "--val_freq", 2, "--max_steps", 4]
    assert train_small("one", *flags) == 0
    capsys.readouterr()
    addresses = free_addresses(3)
    first, *others = addresses.split(",")
    started, real_say = [], cluster.say

    def say(text):
        """The workers are started when the first machine waits for them."""
        if text.startswith("waiting for") and not started:
            started.extend(stack.enter_context(workers(addresses)))
        real_say(text)
    monkeypatch.setattr(cluster, "say", say)
    with contextlib.ExitStack() as stack:
        go_on = stop_at(monkeypatch, 4)
        assert train_small("several", *flags, "--trace_freq", 3, "--max_steps", 9,
                           "--cluster", addresses) == 130
        go_on()
        printed = [finish(process) for process in started]
    output = capsys.readouterr().out
    assert f"start it there: python pix2pix.py --mode worker --cluster {addresses} --task 1\n" \
        in output
    assert "devices = CPU (3 devices of 3 machines)" in output
    for number, (address, (code, out, err)) in enumerate(zip(others, printed, strict=True), 1):
        assert code == 0 and not err
        assert out.splitlines()[1:] == [f"the run of {first} has begun",
                                        f"the run of {first} has ended"]
        assert out.startswith(f"worker {number} at {address} ({cluster.describe_machine()})")
    assert Path("several/trace-3.json").stat().st_size > 1000
    assert_equal_runs("one", "several")
    assert read_images("one") == read_images("several")
    assert "cluster" not in (run_folder.read_stored("several") or {})
    for folder in ("one", "several"):
        assert resume(folder, "--max_steps", 5) == 0
    assert_equal_runs("one", "several")


def test_a_worker_serves_one_run_after_the_other(tmp_path, capsys):
    """With --keep; the second goes back from a step that is not finite."""
    draw_pairs(tmp_path / "bars/train", 11)
    flags = [*PARTS, "--save_freq", 1]
    addresses = free_addresses(2)
    with workers(addresses, "--keep") as (process,):
        for folder, *more in (["one", "--max_steps", 1], ["huge", "--max_steps", 3, "--lr", 1e30,
                                                          "--max_bad_steps", 1]):
            code = train_small(folder, *flags, *more, "--cluster", addresses)
            assert code == (1 if folder == "huge" else 0)
        assert "going back to the last checkpoint, once" in capsys.readouterr().err
        assert process.poll() is None
        process.terminate()
        code, out, _ = finish(process)
    assert code == 143
    first = addresses.split(",")[0]
    assert out.splitlines()[1:] == [f"the run of {first} has {what}"
                                    for what in ("begun", "ended", "begun")]


def test_what_the_first_machine_refuses_of_a_worker(tmp_path, capsys, monkeypatch):
    """A worker of another cluster or of another kind, and one that cannot reach this machine or
    finds another in its place."""
    draw_pairs(tmp_path / "bars/train", 5)
    addresses = free_addresses(2)
    first, other = addresses.split(",")
    flags, mine = [*PARTS, "--max_steps", 1], free_addresses(1)
    real = cluster.start_server
    monkeypatch.setattr(pix2pix.tf.compat.v2.config.experimental, "enable_op_determinism",
                        lambda: None)  # it would hold for the tests that follow in this process

    def refused(*more):
        assert train_small("run", *flags, "--worker_timeout", 60, *more) == 2
        return capsys.readouterr().err
    with workers(addresses) as (process,):
        with monkeypatch.context() as patch:
            patch.setattr(cluster, "start_server", lambda *_: None)  # nobody listens at `first`
            assert f"{other} cannot reach {first}: open its port" in refused("--cluster", addresses)
            real(addresses, 0)  # and now somebody: the command was given on another machine
            patch.setattr(cluster, "start_server", lambda *_: real(f"{mine},{other}", 0))
            assert f"{other} finds another machine at {first}: train on the machine whose" \
                in refused("--cluster", addresses)
        assert f"the worker at {other} was started with --cluster {addresses} --task 1: restart " \
            f"it with --cluster {mine},{other} --task 1" in refused("--cluster", f"{mine},{other}")
        assert f"the worker at {other} was started without --deterministic" in refused(
            "--cluster", addresses, "--deterministic")
        assert not Path("run").exists()
        worker = cluster.ask(other)
        options = pix2pix.create_parser().parse_args(["--mode", "train", "--cluster", addresses])
        cluster.check_workers([worker], options)
        assert capsys.readouterr().err == ""
        for changes, text in (
                ({"machine": "8 cores of Another"}, f"{other} is 8 cores of Another, this machine "
                 f"{cluster.describe_machine()}: the result may differ"),
                ({"tensorflow": "1.2.3"}, f"{other} has TensorFlow 1.2.3, this machine")):
            cluster.check_workers([worker._replace(**changes)], options)
            assert text in capsys.readouterr().err
        cluster.tell(worker, cluster.END)
        code, out, err = finish(process)
        assert code == 0 and not err and out.count("\n") == 2  # it was told of no run that began


def test_wrong_images_are_named_before_workers_are_waited_for(capsys):
    assert train_small("run", *PARTS, "--cluster", free_addresses(2)) == 2
    printed = capsys.readouterr()
    assert "--input_dir bars/train is not a folder" in printed.err
    assert not printed.out


def test_workers_are_told_of_a_run_that_is_stopped_while_it_is_built(monkeypatch):
    told = []
    options = pix2pix.create_parser().parse_args(
        ["--mode", "train", "--grad_accumulation", "2", "--cluster", "127.0.0.1:1,127.0.0.1:2"])
    worker = cluster.Worker("127.0.0.1:2", options.cluster, 1, "", pix2pix.tf.__version__,
                            cluster.describe_machine(), False, ["/cpu:0"])
    for name, value in (("start_server", lambda *_: None), ("wait_for", lambda *_: worker),
                        ("check_ways_back", lambda *_: None)):
        monkeypatch.setattr(cluster, name, value)
    monkeypatch.setattr(cluster.Devices, "__init__", lambda *_: None)
    monkeypatch.setattr(cluster.Devices, "tell", lambda _, news: told.append(news))
    with pytest.raises(KeyboardInterrupt), cluster.open_devices(options):
        raise KeyboardInterrupt
    assert told == [cluster.BEGIN, cluster.END]


def test_the_shortest_timeout_is_not_none():
    """TensorFlow waits for ever where it is 0."""
    devices = cluster.Devices(pix2pix.Options(worker_timeout=1e-6), [""])
    assert devices.compute(lambda options: options.timeout_in_ms) == 1


def test_a_list_in_another_order_is_named_and_harms_no_other_worker(tmp_path, capsys):
    """TensorFlow's servers end sessions of another that says that it is the same task."""
    draw_pairs(tmp_path / "bars/train", 5)
    first, one, other = free_addresses(3).split(",")
    addresses, swapped = f"{first},{one},{other}", f"{first},{other},{one}"
    with workers(addresses, tasks=[1]) as (right,), workers(swapped, tasks=[1]) as (wrong,):
        assert train_small("run", *PARTS, "--cluster", addresses) == 2
        assert f"the worker at {other} was started with --cluster {swapped} --task 1: restart it " \
            f"with --cluster {addresses} --task 2" in capsys.readouterr().err
        for process, address in ((right, one), (wrong, other)):
            cluster.tell(cluster.ask(address), cluster.END)
            code, _, err = finish(process)
            assert code == 0 and not err


def test_a_port_that_is_taken(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run("--mode", "worker", "--cluster", f"127.0.0.1:1,127.0.0.1:{port}", "--task",
                   1) == 2
    assert f"cannot listen on port {port} (Address already in use): end what uses it" \
        in capsys.readouterr().err


def test_a_host_that_does_not_answer_is_named_before_the_graph_is_built(tmp_path, capsys,
                                                                        monkeypatch):
    draw_pairs(tmp_path / "bars/train", 5)
    addresses = free_addresses(2)
    other = addresses.split(",")[1]
    monkeypatch.setattr(pix2pix, "create_examples", None)
    assert train_small("run", *PARTS, "--cluster", addresses, "--worker_timeout", 0.5) == 2
    printed = capsys.readouterr()
    assert f"waiting for {other} (Connection refused), start it there: python pix2pix.py --mode " \
        f"worker --cluster {addresses} --task 1" in printed.out
    assert f"no worker answers at {other} (Connection refused)" in printed.err
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(cluster, "ASK_SECONDS", 1)
        other = f"127.0.0.1:{silent.getsockname()[1]}"
        assert train_small("run", *PARTS, "--cluster", f"{free_addresses(1)},{other}",
                           "--worker_timeout", 0.5) == 2
        assert f"no worker answers at {other} (" in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.parametrize("flags, text", [
    (["--cluster", "127.0.0.1:2222"], "127.0.0.1:2222 is one machine: give two or more"),
    (["--cluster", "a:1,a:1"], "a:1 is there twice"),
    (["--cluster", "a,b"], "a is no address: give HOST:PORT"),
    (["--cluster", "a:1,b:70000"], "b:70000 is no address"),
    (["--cluster", "[::1]:1,b:2"], "[::1]:1 is no address"),
    (["--cluster", "http://a:1,b:2"], "http://a:1 is no address"),
    (["--cluster", "a:1,"], "a:1, is no address"),
    (["--cluster", "127.0.0.1:1,no-such-host.invalid:2"],
     "--cluster: the address of no-such-host.invalid cannot be found"),
    (["--cluster", "127.0.0.1:1,8.8.8.8:2"], "8.8.8.8:2 is 8.8.8.8, an address of the internet"),
    (["--cluster", "127.0.0.1:1,192.168.7.7:2"], "every machine takes 127.0.0.1:1 for itself"),
    (["--cluster", "127.0.0.1:1,8.8.8.8:2", "--allow_public"],
     "every machine takes 127.0.0.1:1 for itself"),
    (["--task", 1], "--task is for --mode worker"),
    (["--keep"], "--keep is for --mode worker"),
    (["--worker_timeout", 5], "--worker_timeout is for a training with --cluster"),
    (["--allow_public"], "--allow_public is for a training with --cluster")])
def test_wrong_options_of_the_first_machine(tmp_path, capsys, flags, text):
    draw_pairs(tmp_path / "bars/train", 5)
    assert train_small("run", *PARTS, *flags) == 2
    assert text in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.parametrize("flags, text", [
    ([], "--mode worker needs --cluster"),
    (["--cluster", "a:1,b:2"], "--mode worker needs --task, its place in --cluster: give 1 to 1"),
    (["--cluster", "a:1,b:2,c:3", "--task", 3], "--task 3 is not in --cluster, which has 3 "
     "machines: give 1 to 2; 0 is the first, which trains"),
    (["--cluster", "a:1,b:2", "--task", 0], "--task: 0: give a whole number of at least 1"),
    (["--cluster", "a:1,b:2", "--task", 1, "--ngf", 9, "--input_dir", "x"],
     "give --input_dir --ngf there, not here"),
    (["--cluster", "127.0.0.1:1,8.8.8.8:2", "--task", 1], "an address of the internet")])
def test_wrong_options_of_a_worker(capsys, flags, text):
    assert run("--mode", "worker", *flags) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["test", "export"])
def test_other_modes_take_no_cluster(trained, capsys, mode):
    assert run("--mode", mode, "--input_dir", trained / "bars/val", "--checkpoint",
               trained / "bars_train", "--output_dir", "out", "--cluster", "a:1,b:2") == 2
    assert "--cluster is for --mode train and --mode worker: remove it" in capsys.readouterr().err


@pytest.mark.parametrize("number, is_refused", [
    ("127.0.0.1", False), ("10.1.2.3", False), ("172.20.0.1", False), ("192.168.0.9", False),
    ("169.254.1.1", False), ("100.64.0.7", False),  # a provider's own network, also of VPNs
    ("8.8.8.8", True), ("172.32.0.1", True), ("100.128.0.1", True)])
def test_which_addresses_are_public(number, is_refused):
    if is_refused:
        with pytest.raises(UserError, match=re.escape(f"{number}:1 is {number}, an address of")):
            cluster.resolve(f"{number}:1")
    assert cluster.resolve(f"{number}:1", allow_public=is_refused) == number


def test_a_worker_of_another_version_is_named(monkeypatch):
    class Session:
        """Of a worker that says less about itself."""

        def run(self, _):
            return b'{"task": 1}'

    @contextlib.contextmanager
    def visit(*_):
        with pix2pix.tf.Graph().as_default():
            yield Session(), cluster.create_noticeboard()
    monkeypatch.setattr(cluster, "visit", visit)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="is of another version of this program"):
            cluster.ask(f"127.0.0.1:{taken.getsockname()[1]}")
