"""Fixtures, and what must be set before anything is imported."""

import os
import signal
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="pix2pix-tests-")  # what is remembered

import helpers  # noqa: E402
import pytest  # noqa: E402
from helpers import build_once, draw_pairs, in_folder, run, train_small  # noqa: E402

import pix2pix  # noqa: E402
from tools.lib.cli import with_options  # noqa: E402


def pytest_configure(config):
    # what the tests start hears every signal, also where they are run by nohup or with &
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


CRASHED = []  # tests whose process ended under them


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_handlecrashitem(crashitem, report, sched):
    """Repeats a test once whose process has crashed, and says so at the end. In five runs of all
    tests TensorFlow 2.21 did that three times, in a step of a training in bfloat16, on different
    tests; a hundred such trainings by themselves did not. What crashes again fails."""
    CRASHED.append(crashitem)
    if CRASHED.count(crashitem) == 1:
        report.outcome = "rerun"
        sched.mark_test_pending(crashitem)


def pytest_terminal_summary(terminalreporter):
    skipped = [report.longrepr[2].removeprefix("Skipped: ")
               for report in terminalreporter.getreports("skipped")
               if "browser/" in report.nodeid]
    for reason in dict.fromkeys(skipped):
        terminalreporter.write_line(f"the pages were not tested in a browser: {reason}")
    for crashitem in dict.fromkeys(CRASHED):
        terminalreporter.write_line(f"the process crashed {CRASHED.count(crashitem)} times in "
                                    f"{crashitem}")


@pytest.fixture(autouse=True)
def release_graphs():
    """Frees the graphs of each test: TensorFlow keeps the functions of custom gradients for good,
    and with them 10 MB for each training."""
    yield
    ops = sys.modules.get("tensorflow.python.framework.ops")
    registry = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]


@pytest.fixture
def options(tmp_path):
    """Options of a small model's training; what a test needs otherwise it changes."""
    parsed = pix2pix.parse_args(["--mode", "train", "--input_dir", str(tmp_path), "--output_dir",
                                 str(tmp_path / "run"), "--seed", "11"])
    return with_options(parsed, ngf=2, ndf=3, precision="float32")


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """Works in tmp_path."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def optimized(monkeypatch):
    """Sessions optimize their graphs, as users' do."""
    monkeypatch.setattr(helpers, "optimize_graphs", True)


# Trained models, each made once. Tests copy what they change.


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with bars/train (5 images), bars/val (7) and bars_train, trained 6 steps on batches
    of 2, with all that training can show."""
    def build(root):
        draw_pairs(root / "bars" / "train")
        draw_pairs(root / "bars" / "val", 7)
        with in_folder(root):
            assert run("--mode", "train", "--input_dir", "bars/train", "--ngf", 2, "--ndf", 2,
                       "--crop_size", 64, "--seed", 7, "--max_epochs", 2, "--batch_size", 2,
                       "--which_direction", "BtoA", "--display_freq", 4, "--summary_freq", 3,
                       "--trace_freq", 5, "--progress_freq", 2, "--save_freq", 2) == 0
    return build_once(tmp_path_factory, "trained", build)


WHOLE = ["--crop_size", 64,  # the least with dropout
         "--norm", "batch", "--batch_size", 3, "--progress_freq", 2, "--lr_decay", "linear",
         "--ema_generator", 0.9, "--augment", "vflip", "brightness", "noise", "--max_steps", 7]


@pytest.fixture(scope="session")
def whole_flags():
    """The flags of `whole`, beside those of every small training."""
    return WHOLE


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A folder with bars/train (10 images) and whole, a run of 7 steps on batches of 3 whose every
    part depends on the step; its checkpoints are those of steps 6 and 7."""
    def build(root):
        draw_pairs(root / "bars/train", 10)
        with in_folder(root):
            assert train_small("whole", *WHOLE, "--save_freq", 6) == 0
    return build_once(tmp_path_factory, "whole", build)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """As `whole`, of the smallest network and without all that; for tests of any run."""
    def build(root):
        draw_pairs(root / "bars/train", 10)
        with in_folder(root):
            assert train_small("whole", "--batch_size", 3, "--progress_freq", 2, "--save_freq", 6,
                               "--max_steps", 7) == 0
    return build_once(tmp_path_factory, "tiny", build)
