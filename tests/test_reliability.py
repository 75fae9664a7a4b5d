"""What docs/reliability.md promises, by breaking it on purpose, in small runs."""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import (EXPORTS, ROOT, SMALL, assert_equal_runs, before_step, die_at, draw_pairs,
                     finish, read_files, read_shown, read_variables, resume, run, run_graph, start,
                     start_session, stop_at, train_small)
from PIL import Image

import pix2pix
from tools.lib import (cli, dataset, files, monitor, run_folder, run_log, schedule, tf1,
                       validation)
from tools.lib.checkpoints import (CheckpointManager, checkpoint_step, open_checkpoint,
                                   open_variables, read_step)
from tools.lib.cli import RunError, UserError, with_options
from tools.lib.dataset import UNCHECKED, check_folder, checks_path, list_images
from tools.lib.image_files import find_images
from tools.lib.monitor import HealthStats, TrainingMonitor, chance_loss, diagnose
from tools.lib.tf1 import tf

pytestmark = pytest.mark.usefixtures("in_empty_folder")


# ---- exact resume


@pytest.mark.parametrize("save_freq", [2, 100], ids=["", "before the first save"])
def test_resume_is_exact_in_the_middle_of_an_epoch(whole, whole_flags, monkeypatch, save_freq):
    """After a kill; tests of stopped runs are the next and one in test_modes.py."""
    os.symlink(whole / "bars", "bars")
    go_on = die_at(monkeypatch, 6)  # of the four steps of an epoch the second's second
    with pytest.raises(SystemExit):
        train_small("parts", *whole_flags, "--save_freq", save_freq)
    go_on()
    assert resume("parts") == 0
    assert_equal_runs(whole / "whole", "parts")
    rows = Path("parts/log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6", "7"]


def test_resume_is_exact_with_a_cache(whole, whole_flags, monkeypatch):
    os.symlink(whole / "bars", "bars")
    stop_at(monkeypatch, 5)
    assert train_small("parts", *whole_flags, "--cache", 1) == 130
    assert (read_shown("parts")["state"], read_shown("parts")["progress"]["step"]) == ("stopped", 5)
    assert resume("parts") == 0
    assert read_shown("parts")["state"] == "finished"
    assert_equal_runs(whole / "whole", "parts")
    assert json.loads(Path("parts/options.json").read_text())["cache"] == 1


def test_resume_is_exact_in_bfloat16(whole, whole_flags, monkeypatch):
    os.symlink(whole / "bars", "bars")
    assert train_small("one", *whole_flags, "--precision", "bfloat16") == 0
    stop_at(monkeypatch, 5)
    assert train_small("parts", *whole_flags, "--precision", "bfloat16") == 130
    assert resume("parts") == 0
    assert_equal_runs("one", "parts")
    assert json.loads(Path("parts/options.json").read_text())["precision"] == "bfloat16"
    exact = read_variables(whole / "whole")
    assert any((value != exact[name]).any() for name, value in read_variables("one").items())


def test_resume_of_a_run_from_a_checkpoint_before_its_first_save(tiny, monkeypatch):
    os.symlink(tiny / "bars", "bars")
    flags = ["--checkpoint", tiny / "whole", "--max_steps", 3, "--progress_freq", 1]
    assert train_small("one", *flags) == 0
    go_on = die_at(monkeypatch, 9)
    with pytest.raises(SystemExit):
        train_small("parts", *flags)
    go_on()
    assert resume("parts") == 0
    assert_equal_runs("one", "parts")


def continue_log(folder, step):
    """A RunLog that continues a run's log after some step and writes the row of the next."""
    options = cli.Options(**json.loads(Path(folder, "options.json").read_text()))
    options = with_options(options, output_dir=folder)
    averages = dict.fromkeys(("discrim_loss", "gen_loss_GAN", "gen_loss_L1"), 0.5)
    results = pix2pix.Fetches(None, {}, {}, [], averages=averages, lr=0.1)
    none = dataset.ImageList([], [])
    validator = validation.Validator(options, validation.Judge(None, None, 1), None, none, [])
    with tf.Session(graph=tf.Graph()) as sess:
        training = pix2pix.Run(options, none, sess, results, None, None, validator, None, step,
                               step + 1, 4)
        log = run_log.RunLog(training, run_log.kept_rows(options, step), [], {})
    due = schedule.Due(True, *[False] * (len(schedule.Due._fields) - 1))
    log.show(step + 1, due, results, schedule.Progress(2, 4, 1.0, 0.0), {})
    log.close()
    return [row.split(",") for row in Path(folder, "log.csv").read_text().splitlines()]


def test_a_torn_log_goes_on_after_its_last_complete_row(tiny):
    shutil.copytree(tiny / "whole", "run")
    with open("run/log.csv", "a", encoding="utf-8") as file:
        file.write("9,3,0.1")
    os.symlink(tiny / "bars", "bars")
    assert resume("run", "--max_steps", 10) == 0
    rows = [row.split(",") for row in Path("run/log.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["step", "2", "4", "6", "8", "10"]
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("change, is_kept", [
    (lambda text: b"\xef\xbb\xbf" + text, True), (lambda text: text + b"\xff\xfe", True),
    (lambda text: text.replace(b",", b";"), False), (lambda text: text + b"\0" * 200_000, False),
    (lambda text: b"", True)], ids=["BOM", "no text", "other commas", "a hole", "empty"])
def test_a_log_that_another_program_wrote_is_not_lost(tiny, capsys, change, is_kept):
    shutil.copytree(tiny / "whole", "run")
    log = Path("run/log.csv")
    changed = change(log.read_bytes())
    log.write_bytes(changed)
    rows = continue_log("run", 7)
    steps = ["2", "4", "6", "8"] if is_kept and changed else ["8"]
    assert [row[0] for row in rows] == ["step", *steps] and len({len(row) for row in rows}) == 1
    assert ("renaming it to log.csv.old" in capsys.readouterr().err) != is_kept
    assert is_kept or Path("run/log.csv.old").read_bytes() == changed


@pytest.mark.parametrize("flags, expected", [(["--deterministic"], True), ([], False)])
def test_deterministic_switches_on_tensorflows_op_determinism(tmp_path, monkeypatch, flags,
                                                              expected):
    from tensorflow.python.framework import config
    draw_pairs(tmp_path / "bars/train", 2)
    found = []
    monkeypatch.setattr(pix2pix, "train",
                        lambda _: found.append(config.is_op_determinism_enabled()))
    try:
        assert train_small("run", *flags) == 0
    finally:
        config.disable_op_determinism()
    assert found == [expected]


# ---- being stopped


def finish_at_second_signal(process, number):
    """Sends a signal twice to a process that says when it is in its step; its exit code and
    stderr."""
    assert any("in the step" in line for line in process.stdout)
    process.send_signal(number)
    assert "stopping after this step" in process.stderr.readline()
    process.send_signal(number)
    code, _, err = finish(process, 30)
    return code, err


def test_a_second_signal_ends_in_the_middle_of_a_step(tmp_path):
    draw_pairs(tmp_path / "bars/train", 2)
    process = start("""
        def sleep():
            import time
            print("in the step", flush=True)
            time.sleep(600)
            return 0
        def endless(run, *_):
            with run.sess.graph.as_default():
                run.sess.graph._finalized = False
                run.sess.run(pix2pix.tf.numpy_function(sleep, [], pix2pix.tf.int64))
        pix2pix.run_step = endless
        sys.exit(pix2pix.main(argv))""", "--max_steps", 1)
    code, err = finish_at_second_signal(process, signal.SIGINT)
    assert code == 130 and "stopped at once" in err


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143),
                                          (signal.SIGHUP, 129)])
def test_each_second_signal_ends_a_step_that_python_cannot_interrupt(number, code):
    """The step waits in C for a mutex that it holds itself, as one of TensorFlow's would for its
    threads: signals do not end that, and Python's own handlers do not run."""
    step = ("import ctypes\n"
            "from tools.lib.cli import StopRequest\n"
            "stop, library = StopRequest(), ctypes.CDLL(None)\n"
            "mutex = ctypes.create_string_buffer(256)\n"
            "library.pthread_mutex_lock(mutex)\n"
            "print('in the step', flush=True)\n"
            "library.pthread_mutex_lock(mutex)\n")
    process = subprocess.Popen([sys.executable, "-c", step], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    got, err = finish_at_second_signal(process, number)
    assert got == code and "stopped at once" in err


def test_ctrl_c_while_tensorflow_is_imported_ends_at_once(tmp_path):
    draw_pairs(tmp_path / "bars/train", 2)
    code, out, err = finish(start("""
        import importlib, signal
        def interrupted(name):
            signal.raise_signal(signal.SIGINT)
            raise ImportError("initialization failed")  # what a library makes of it
        importlib.import_module = interrupted
        sys.exit(pix2pix.main(argv))"""))
    assert (code, out, err) == (130, "", "") and not Path("run").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_nohup_and_scripts_ignore_stays_ignored(number):
    previous = signal.signal(number, signal.SIG_IGN)
    try:
        with contextlib.closing(cli.StopRequest()) as stop:
            assert signal.getsignal(number) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == stop.receive
    finally:
        signal.signal(number, previous)


# ---- checkpoints


def test_the_newest_and_every_so_many_epochs_are_kept(tmp_path):
    draw_pairs(tmp_path / "bars/train", 2)
    assert train_small("run", "--max_epochs", 5, "--save_freq", 1, "--keep_checkpoints", 2,
                       "--keep_every_epochs", 2) == 0
    kept = sorted(path.stem for path in Path("run").glob("*.index"))
    assert kept == ["epoch-2", "epoch-4", "model-10", "model-9"]
    state = [line.split(": ") for line in Path("run/checkpoint").read_text().splitlines()]
    assert state == [["model_checkpoint_path", '"model-10"'],
                     ["all_model_checkpoint_paths", '"model-9"'],
                     ["all_model_checkpoint_paths", '"model-10"']]
    assert tf.train.load_variable("run/epoch-2", "global_step") == 4
    assert run("--mode", "test", "--input_dir", "bars/train", "--checkpoint", "run/epoch-2",
               "--output_dir", "out") == 0
    assert resume("run", "--max_epochs", 6) == 0
    kept = sorted(path.stem for path in Path("run").glob("*.index"))
    assert kept == ["epoch-2", "epoch-4", "epoch-6", "model-11", "model-12"]


def flip(path, place):
    """Turns all bits of a byte."""
    contents = bytearray(path.read_bytes())
    contents[int(place * (len(contents) - 1))] ^= 0xFF
    path.write_bytes(contents)


def cut(path, place):
    """Leaves a part."""
    path.write_bytes(path.read_bytes()[:int(place * path.stat().st_size)])


DATA, INDEX = "model-7.data-00000-of-00001", "model-7.index"


@pytest.mark.parametrize("damage", [
    lambda folder: flip(folder / DATA, 0.5), lambda folder: cut(folder / DATA, 0.9),
    lambda folder: flip(folder / INDEX, 0.3), lambda folder: cut(folder / INDEX, 0.5),
    lambda folder: cut(folder / INDEX, 0), lambda folder: (folder / INDEX).unlink(),
    lambda folder: (folder / DATA).unlink(),
    lambda folder: [(folder / name).unlink() for name in (DATA, INDEX)]],
    ids=["data flipped", "data cut", "index flipped", "index cut", "index empty", "index gone",
         "data gone", "both gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tiny, tmp_path, capsys, damage):
    shutil.copytree(tiny / "whole", tmp_path / "run")
    damage(tmp_path / "run")
    stored = open_checkpoint(tmp_path / "run")
    assert stored.path.endswith("model-6") and read_step(stored) == 6
    assert "model-7 is not a complete checkpoint" in capsys.readouterr().err


def test_a_damaged_newest_checkpoint_costs_its_steps_alone(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    flip(Path("run", DATA), 0.2)
    (Path("run") / "model-9_temp").mkdir()  # of a process killed while it saved
    assert resume("run") == 0
    printed = capsys.readouterr()
    assert "model-7" in printed.err and "loading model from run/model-6" in printed.out
    assert_equal_runs(tiny / "whole", "run")
    assert not Path("run/model-9_temp").exists()


def test_no_flipped_byte_of_a_checkpoint_goes_unnoticed(tiny, tmp_path):
    expected = open_variables(str(tiny / "whole/model-7")).arrays
    draws, num_refused = np.random.default_rng(3), 0
    for name in (DATA, INDEX):
        for place in draws.uniform(size=60):
            for file in (DATA, INDEX):
                shutil.copy(tiny / "whole" / file, tmp_path / file)
            flip(tmp_path / name, place)
            try:
                got = open_variables(str(tmp_path / "model-7")).arrays
                assert got.keys() == expected.keys()
                for key, value in expected.items():
                    np.testing.assert_array_equal(got[key], value)
            except UserError:
                num_refused += 1
    assert num_refused > 110


def test_all_damaged_is_one_line(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    for path in Path("run").glob("model-*"):
        cut(path, 0.1)
    assert resume("run") == 2
    assert "contains no complete checkpoint" in capsys.readouterr().err.splitlines()[-1]


@contextlib.contextmanager
def file_size_limit(num_bytes):
    """Files cannot become larger inside, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failing_save_is_one_line_and_the_checkpoint_before_is_whole(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    state = Path("run/checkpoint").read_bytes()
    before = {path.name: path.read_bytes() for path in Path("run").glob("model-*")}
    size = Path("run", DATA).stat().st_size
    for limit in (size // 4, size - 1000):
        with file_size_limit(limit):
            code = resume("run", "--max_steps", 9)
        err = capsys.readouterr().err
        last = err.splitlines()[-1]
        assert code == 1 and "cannot save model-9" in last and "model-7 is intact" in last
        assert "Traceback" not in err
        assert {path.name: path.read_bytes() for path in Path("run").glob("model-*")} == before
        assert Path("run/checkpoint").read_bytes() == state
    assert open_checkpoint("run").path == "run/model-7"


def test_what_a_failing_save_leaves_is_removed(options, monkeypatch):
    """TensorFlow removes its own files from a full disk, but not from every failure."""
    folder = Path(options.output_dir)
    folder.mkdir()
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("a", [3])
        sess.run(tf.global_variables_initializer())
        manager = CheckpointManager(sess, options, 0)
        manager.save(4)
        before = read_files(folder)

        def fail(_, prefix, **__):
            Path(f"{prefix}.data-00000-of-00001").write_bytes(b"half")
            Path(f"{prefix}_temp").mkdir()
            Path(f"{prefix}_temp/part-00000").write_bytes(b"half")
            raise OSError(5, "Input/output error")
        monkeypatch.setattr(manager.saver, "save", fail)
        with pytest.raises(RunError, match="cannot save model-9 .*Input/output.*model-4 is intact"):
            manager.save(9)
    assert read_files(folder) == before and not (folder / "model-9_temp").exists()


def test_what_a_killed_save_leaves_is_removed_by_the_next(options):
    """Also of a step that is kept, because the run that was started again saved it whole."""
    folder = Path(options.output_dir)
    folder.mkdir()
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("a", [3])
        sess.run(tf.global_variables_initializer())
        manager = CheckpointManager(sess, options, 0)
        manager.save(4, epoch=2)
        kept = {path.name for path in folder.glob("*-[0-9]*")}
        for name in ("model-4", "model-3", "epoch-2"):
            Path(folder, f"{name}.data-00000-of-00001.tempstate126957593847").write_bytes(b"half")
            Path(folder, f"{name}.index.tempstate126957593847").write_bytes(b"half")
            Path(folder, f"{name}_temp").mkdir()
            Path(folder, f"{name}_temp/part-00000-of-00001.index").write_bytes(b"half")
        manager.save(5)
    names = {path.name for path in folder.glob("*-[0-9]*")}
    assert len(kept) == 4 and names == kept | {name.replace("model-4", "model-5") for name in kept}


def test_a_copied_run_leaves_the_original_alone(tiny, tmp_path, capsys):
    shutil.copytree(tiny / "whole", tmp_path / "original")
    original = tmp_path / "original"
    (original / "checkpoint").write_text("".join(  # as TensorFlow's Saver writes it
        f'{key}: "{original}/model-7"\n'
        for key in ("model_checkpoint_path", "all_model_checkpoint_paths")))
    shutil.copytree(original, "copy")
    before = {path.name: path.read_bytes() for path in original.iterdir() if path.is_file()}
    os.symlink(tiny / "bars", "bars")
    assert resume("copy", "--max_steps", 12, "--save_freq", 1) == 0
    assert "loading model from copy/model-7" in capsys.readouterr().out
    assert before == {path.name: path.read_bytes()
                      for path in original.iterdir() if path.is_file()}
    assert len(list(Path("copy").glob("model-*.index"))) == 3


def test_a_checkpoint_that_does_not_fit_takes_no_run_away(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    shutil.copytree(tiny / "whole", "other")
    stored = json.loads(Path("other/options.json").read_text())
    Path("other/options.json").write_text(json.dumps({**stored, "ngf": 3}))
    before = sorted(os.listdir("run"))
    for folder in ("run", "new"):
        more = ["--overwrite"] if folder == "run" else []
        assert run("--mode", "train", "--input_dir", "bars/train", "--output_dir", folder,
                   "--checkpoint", "other", "--max_steps", 1, *more) == 2
        assert "--ngf 1?" in capsys.readouterr().err
    assert sorted(os.listdir("run")) == before and not Path("new").exists()


def test_a_second_training_in_one_folder_is_refused(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    before = read_files("run")
    with files.lock_folder(Path("run")):
        assert resume("run", "--max_steps", 9) == 2
        assert train_small("run", "--max_steps", 9, "--overwrite") == 2
    assert capsys.readouterr().err.count("another process is using --output_dir run") == 2
    assert read_files("run") == before
    with files.lock_folder(Path("run")):  # no longer held
        pass


def test_checkpoints_without_options_are_a_run_too(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    Path("run/options.json").unlink()
    before = read_files("run")
    assert train_small("run", "--max_steps", 2) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert run("--mode", "test", "--input_dir", "bars/train", "--checkpoint", "run",
               "--output_dir", "run") == 2
    assert read_files("run") == before


def test_what_would_be_lost_is_not_replaced(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    for name in ("site", "site/images"):
        Path(name).mkdir()
        Path(name, "cat-inputs.png").write_text("mine")
    Path("site/log.csv").write_text("mine")
    before = read_files("run"), read_files("site")
    small = ["--mode", "train", "--input_dir", "bars/train", "--max_steps", 1]
    for arguments, text in (
            ([*small, "--checkpoint", "run", "--output_dir", "run", "--overwrite"],
             "is in --output_dir"),
            ([*small, "--checkpoint", "run/model-7", "--output_dir", "run", "--overwrite"],
             "is in --output_dir"),
            ([*small, "--output_dir", "site"], "--mode train did not write it"),
            (["--mode", "test", "--input_dir", "bars/train", "--checkpoint", "run",
              "--output_dir", "site"], "--mode test did not write it")):
        assert run(*arguments) == 2
        assert text in capsys.readouterr().err
    assert (read_files("run"), read_files("site")) == before
    shutil.copytree("run", "export")  # an export that is a checkpoint too
    stored = json.loads(Path("export/options.json").read_text())
    Path("export/options.json").write_text(json.dumps({**stored, "mode": "export"}))
    before = read_files("export")
    assert run("--mode", "export", "--checkpoint", "export", "--output_dir", "export") == 2
    assert read_files("export") == before


def test_a_run_that_has_begun_meanwhile_is_left_alone(tiny, monkeypatch, capsys):
    os.symlink(tiny / "bars", "bars")
    real = files.lock_folder

    def late(folder):
        shutil.copytree(tiny / "whole", "run", dirs_exist_ok=True)
        return real(folder)
    monkeypatch.setattr(pix2pix, "lock_folder", late)
    assert train_small("run", "--max_steps", 1) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert_equal_runs(tiny / "whole", "run")


def test_a_folder_that_is_taken_away_in_training_is_made_again(whole, whole_flags, monkeypatch):
    os.symlink(whole / "bars", "bars")
    before_step(monkeypatch, 4, lambda: files.remove(Path("run")))
    assert train_small("run", *whole_flags) == 0
    expected = read_variables(whole / "whole")
    for name, value in read_variables("run").items():
        np.testing.assert_array_equal(value, expected[name], name)
    assert resume("run", "--max_steps", 8) == 0


# ---- not finite


def poison(monkeypatch, colour):
    """Halves whose first pixel has this red become NaN on their way in."""
    real = pix2pix.transform

    def poisoned(image, *more):
        done = real(image, *more)
        return tf.where(tf.equal(image[0, 0, 0], colour), done * np.nan, done)
    monkeypatch.setattr(pix2pix, "transform", poisoned)


def save_pair(path, colour):
    half = np.random.default_rng(colour).integers(0, 256, (32, 32, 3), np.uint8)
    half[0, 0, 0] = colour
    Image.fromarray(np.concatenate([half, half[::-1]], axis=1)).save(path)


def test_a_step_that_is_not_finite_is_named_and_not_applied(tmp_path, capsys, monkeypatch):
    Path("bars/train").mkdir(parents=True)
    for number in range(4):
        save_pair(f"bars/train/{number}.png", 10 + number)
    poison(monkeypatch, 12)
    flags = ["--max_epochs", 3, "--progress_freq", 1, "--save_freq", 1, "--keep_checkpoints", 20,
             "--summary_freq", 1, "--summary_histograms", "--ema_generator", 0.9,
             "--max_bad_steps", 3]  # in a row, not in all
    assert train_small("run", *flags) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "not finite" in line]
    assert len(lines) == 3
    assert all("gen_loss_L1 nan" in line and "bars/train/2.png" in line for line in lines)
    bad_steps = [int(line.split("step ")[1].split()[0]) for line in lines]
    assert [(step - 1) // 4 for step in bad_steps] == [0, 1, 2]
    saved = {checkpoint_step(path) for path in Path("run").glob("model-*.index")}
    assert saved == {*range(1, 13)} - {*bad_steps} | {12}
    assert all(np.isfinite(value).all() for value in read_variables("run").values())
    rows = Path("run/log.csv").read_text()
    assert "nan" not in rows and len(rows.splitlines()) == 1 + 12 - 3
    # the second epoch's has a good step before and after it
    before, after = (open_variables(f"run/model-{bad_steps[1] + there}").arrays
                     for there in (-1, 1))
    assert after["global_step"] == before["global_step"] + 2
    power = "generator_train/beta1_power"  # of one step of Adam
    assert after[power] == pytest.approx(before[power] * 0.5)


def test_one_loss_or_gradient_that_is_not_finite_is_enough(options, monkeypatch):
    """Of all losses and of the first and last gradient, each alone."""
    real = pix2pix.create_tower
    spoiled = [("losses", 0), ("losses", 1), ("losses", 2), ("gradients", 0), ("gradients", -1)]

    def create_tower(*arguments):
        tower = real(*arguments)
        values = {"losses": [*tower.losses.values()], "gradients": [*tower.gradients]}
        for place, (field, index) in enumerate(spoiled):
            values[field][index] += factors[place] * 0  # infinity * 0 is NaN
        return tower._replace(losses=dict(zip(tower.losses, values["losses"], strict=True)),
                              gradients=tuple(values["gradients"]))
    monkeypatch.setattr(pix2pix, "create_tower", create_tower)
    with tf.Graph().as_default() as graph:
        factors = tf.placeholder(tf.float32, [len(spoiled)])
        images = tf.random.stateless_uniform([1, 32, 32, 3], seed=[1, 2])
        model = pix2pix.create_model(pix2pix.Examples([0], images, images[:, ::-1]),
                                     with_options(options, crop_size=32, patch_size=16))
        assert len(model.losses) == 3
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        with start_session(graph) as sess:
            good = np.ones(len(spoiled))
            sess.run(model.train, {factors: good})
            before = sess.run(variables)
            steps = before.pop("global_step")
            for place in range(len(spoiled)):
                sess.run(model.train, {factors: np.where(np.arange(len(good)) == place, np.inf, 1)})
                after = sess.run(variables)
                assert after.pop("global_step") == steps + 1 + place
                for name, value in before.items():
                    np.testing.assert_array_equal(after[name], value, name)
            sess.run(model.train, {factors: good})
            after = sess.run(variables)
            assert all(np.isfinite(value).all() for value in after.values())
            name = "generator/encoder_1/conv2d/kernel"
            assert (after[name] != before[name]).any()


def test_too_many_in_a_row_go_back_once_and_stop(tmp_path, capsys):
    draw_pairs(tmp_path / "bars/train", 3)
    assert train_small("run", "--max_steps", 4, "--save_freq", 2) == 0
    capsys.readouterr()
    assert resume("run", "--max_steps", 40, "--lr", 1e30, "--max_bad_steps", 3) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pix2pix")]
    assert sum("going back to the last checkpoint, once" in line for line in lines) == 1
    assert lines[-1].startswith("pix2pix.py: error: step ") and "in a row" in lines[-1]
    assert "bars/train/" in lines[-1] and "lower --lr" in lines[-1]
    assert all(np.isfinite(value).all() for value in read_variables("run").values())
    assert read_variables("run")["global_step"] == 4


def test_a_run_without_a_finite_step_has_failed(tmp_path, capsys):
    draw_pairs(tmp_path / "bars/train", 3)
    assert train_small("run", "--max_steps", 3, "--l1_weight", 3e38) == 1
    assert "no step was finite" in capsys.readouterr().err.splitlines()[-1]
    assert read_shown("run")["state"] == "failed"


def test_nothing_to_go_back_to_stops_at_once(tmp_path, capsys):
    draw_pairs(tmp_path / "bars/train", 3)
    assert train_small("run", "--max_steps", 40, "--lr", 1e30) == 1
    assert "no checkpoint has been saved" in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path("run").glob("model-*"))


# ---- dead training


def make_stats(number, **changes):
    """HealthStats of a healthy step."""
    draws = np.random.default_rng(number)
    stats = HealthStats(discrim_loss=draws.uniform(0.5, 1.3), gen_norm=10.0,
                        output_contrast=0.4, target_contrast=0.5,
                        outputs=draws.uniform(-1, 1, (1, 8, 8, 3)),
                        targets=draws.uniform(-1, 1, (1, 8, 8, 3)))
    return stats._replace(**changes)


SAME = np.full((1, 8, 8, 3), 0.3)
PROBLEMS = {
    "discriminator won": ({"discrim_loss": 1e-3}, "always wins"),
    "discriminator dead": ({"discrim_loss": 1.3863}, "cannot tell real from generated"),
    "outputs constant": ({"output_contrast": 0.001, "outputs": SAME}, "of one colour"),
    "outputs alike": ({"outputs": SAME}, "nearly the same image"),
    "gradients vanished": ({"gen_norm": 1e-5}, "has stopped learning")}
TOTAL_WEIGHT = 101.0  # of the generator's losses


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_way_to_die_is_told_once(options, name):
    changes, phrase = PROBLEMS[name]
    health = TrainingMonitor(options, TOTAL_WEIGHT)
    texts = [health.update(make_stats(number, **changes)) for number in range(60)]
    assert [len(new) for new in texts] == [0] * 19 + [1] + [0] * 40
    assert phrase in texts[19][0] and " try " in texts[19][0]


@pytest.mark.parametrize("name", PROBLEMS)
def test_one_healthy_step_among_twenty_keeps_the_monitor_quiet(options, name):
    """About that problem and any other."""
    bad = [make_stats(number, **PROBLEMS[name][0]) for number in range(20)]
    assert [*diagnose(bad, options, TOTAL_WEIGHT)] == [name]
    for place in (0, 9, 19):
        stats = [*bad]
        stats[place] = make_stats(place)
        assert diagnose(stats, options, TOTAL_WEIGHT) == {}


def test_a_healthy_run_and_plain_targets_are_left_alone(options):
    assert diagnose([make_stats(number) for number in range(20)], options, TOTAL_WEIGHT) == {}
    plain = [make_stats(number, outputs=SAME, targets=SAME, output_contrast=0.001,
                        target_contrast=0.001) for number in range(20)]
    assert diagnose(plain, options, TOTAL_WEIGHT) == {}


@pytest.mark.parametrize("gan_loss, smoothing", [("vanilla", 0.0), ("vanilla", 0.1),
                                                 ("lsgan", 0.0), ("lsgan", 0.1), ("hinge", 0.0)])
def test_blind_and_lowest_loss_are_the_discriminators(options, gan_loss, smoothing):
    """Against a search over logits that are the same for real and generated, and free ones."""
    logits = np.linspace(-12, 12, 4801, dtype=np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        real = sess.run(pix2pix.logits_loss(logits, 1 - smoothing, gan_loss))
        fake = sess.run(pix2pix.logits_loss(logits, 0.0, gan_loss))
    got = chance_loss(with_options(options, gan_loss=gan_loss, label_smoothing=smoothing))
    assert got == pytest.approx([(real + fake).min(), real.min() + fake.min()], abs=1e-3)


def test_a_dead_generator_is_told_in_the_log_and_on_the_page(tmp_path, capsys, monkeypatch):
    draw_pairs(tmp_path / "bars/train", 3)
    monkeypatch.setattr(schedule, "MONITOR_FREQ", 1)
    monkeypatch.setattr(monitor, "MONITOR_WINDOW", 3)
    real = pix2pix.create_generator
    monkeypatch.setattr(pix2pix, "create_generator", lambda *more: real(*more) * 0 + 0.99)
    assert train_small("run", "--max_steps", 6) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "; try" in line]
    assert sum("one colour" in line for line in notes) == 1
    assert sum("gradients have been below" in line for line in notes) == 1
    assert read_shown("run")["notes"] == [line.removeprefix("pix2pix.py: ") for line in notes]


# ---- bad files


def check_images(folder):
    """`check_folder` of all images of a folder."""
    return check_folder(folder, find_images(folder))


def make_bad_files(folder):
    """A file of each kind that cannot be used; name -> a part of the reason."""
    whole_jpeg, whole_png = (folder / name for name in ("1.JPG", "2.png"))
    jpeg, png = whole_jpeg.read_bytes(), whole_png.read_bytes()
    huge = png[:16] + (60000).to_bytes(4, "big") * 2 + png[24:]
    (folder / "truncated.jpg").write_bytes(jpeg[:len(jpeg) // 2])
    (folder / "truncated.png").write_bytes(png[:len(png) // 2])
    (folder / "header.png").write_bytes(png[:15])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_bytes(b"no image")
    (folder / "huge.png").write_bytes(huge)
    (folder / "zero.png").write_bytes(png[:16] + bytes(8) + png[24:])
    for name in ("webp", "tif", "gif", "bmp"):
        whole = io.BytesIO()
        Image.open(whole_png).save(whole, {"tif": "TIFF"}.get(name, name.upper()))
        (folder / f"truncated.{name}").write_bytes(whole.getvalue()[:len(whole.getvalue()) // 2])
    bomb = io.BytesIO()
    Image.open(whole_png).save(bomb, "GIF")
    (folder / "bomb.gif").write_bytes(b"GIF89a" + b"\xff" * 4 + bomb.getvalue()[10:])
    (folder / "header.gif").write_bytes(b"GIF89a" + bytes(99))
    (folder / "link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "fifo.jpg")
    Image.new("RGB", (1, 9)).save(folder / "narrow.png")
    Image.new("RGB", (64, 64)).save(folder / "single.png")
    (folder / "two\nlines <b>.jpg").write_bytes(b"")
    return {"truncated.jpg": "cannot be decoded", "truncated.png": "cannot be decoded",
            "header.png": "truncated in its header", "empty.jpg": "empty",
            "text.png": "not a JPEG, PNG, BMP, GIF, TIFF, WebP, PPM or npy file",
            "huge.png": "60000x60000 pixels", "bomb.gif": "4294836225 pixels",
            "header.gif": "damaged in its header",
            "zero.png": "cannot be decoded", "link.png": "broken link",
            "truncated.webp": "file", "truncated.tif": "file", "truncated.gif": "file",
            "truncated.bmp": "file",
            "fifo.jpg": "not a file", "narrow.png": "cannot be split into a pair",
            "single.png": "cannot be split into a pair", "two\\nlines <b>.jpg": "empty"}


@pytest.mark.parametrize("mode", ["train", "test"])
def test_bad_files_are_all_named_before_the_first_step(tiny, tmp_path, capsys, mode):
    folder = draw_pairs(tmp_path / "bars" / "train", 25)
    reasons = make_bad_files(folder)
    arguments = ["--mode", mode, "--input_dir", folder, "--output_dir", "out"]
    arguments += [*SMALL, "--max_steps", 1] if mode == "train" else ["--checkpoint", tiny / "whole"]
    assert run(*arguments) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == len(reasons)
    for name, reason in reasons.items():
        line, = (line for line in lines if f"/{name} cannot be used" in line)
        assert reason in line
    assert "18 of 43 images cannot be used" in last and "--on_bad_image skip" in last
    assert run(*arguments, "--on_bad_image", "skip") == 2  # more than a tenth
    assert "more than 10%" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out").exists()
    for name in [*reasons][2:]:
        files.remove(folder / name.replace("\\n", "\n"))
    assert run(*arguments, "--on_bad_image", "skip") == 0
    printed = capsys.readouterr()
    assert printed.err.count("cannot be used") == 2
    if mode == "test":
        assert "wrote 25 of 25" in printed.out


def test_a_file_without_permission_is_named(tmp_path):
    with tempfile.TemporaryDirectory() as root:  # which others may enter
        os.chmod(root, 0o755)
        folder = draw_pairs(Path(root, "train"), 2)
        os.chmod(folder / "2.png", 0)
        check_images(draw_pairs(tmp_path / "before", 1))  # imports what it needs
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may read everything
        try:
            checks = check_images(folder)
        finally:
            os.seteuid(os.getuid())
    assert [check.reason for check in checks.values()] == ["", "Permission denied"]


def record_checks(monkeypatch):
    """The list of the names of files that are checked from now on."""
    checked, real = [], dataset.check_file
    monkeypatch.setattr(dataset, "check_file",
                        lambda path, *more: checked.append(path.name) or real(path, *more))
    return checked


def test_what_was_checked_is_remembered_until_it_changes(tmp_path, monkeypatch):
    folder = draw_pairs(tmp_path / "bars" / "train", 4)
    checked = record_checks(monkeypatch)
    first = check_images(folder)
    assert sorted(checked) == ["1.JPG", "2.png", "3.JPG", "4.png"]
    assert check_images(folder) == first and len(checked) == 4
    os.utime(folder / "3.JPG", (1, 1))
    (folder / "4.png").write_bytes(b"")
    checks = check_images(folder)
    assert sorted(checked[4:]) == ["3.JPG", "4.png"]
    assert [path.name for path, check in checks.items() if check.reason] == ["4.png"]
    assert check_images(folder) == checks and checked[6:] == ["4.png"]
    checks_path(folder).write_text("[not a dictionary")
    assert check_images(folder) == checks


@pytest.mark.parametrize("variables", [
    {}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "cache"}, {"HOME": "."}], ids=str)
def test_without_a_home_nothing_is_remembered(tmp_path, monkeypatch, variables):
    """And no folder called ~ is made."""
    def forget(uid):
        """Stands for pwd.getpwuid: the system knows nothing of the user, as in a container."""
        raise KeyError(uid)
    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", forget)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    folder = draw_pairs(tmp_path / "bars/train", 2)
    checked = record_checks(monkeypatch)
    assert check_images(folder) == check_images(folder) and len(checked) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["bars"]


def test_without_a_home_the_program_leaves_nothing_but_results(tmp_path, tiny):
    """Keras too would make a folder called ~, when TensorFlow is imported."""
    arguments = ["--mode", "test", "--input_dir", str(tiny / "bars/train"), "--checkpoint",
                 str(tiny / "whole"), "--output_dir", "out"]
    code = f"""
import pwd, sys
pwd.getpwuid = {{}}.__getitem__
sys.path.insert(0, {str(ROOT)!r})
import pix2pix
sys.exit(pix2pix.main({arguments!r}))"""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("HOME", "XDG_CACHE_HOME", "KERAS_HOME")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False,
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("cache, expected", [
    (None, "home/.cache"), ("", "home/.cache"), ("cache", "home/.cache"), ("./cache", "home/.cache"),
    ("{}/cache", "cache")])
def test_the_cache_is_where_the_specification_has_it(tmp_path, monkeypatch, cache, expected):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache.format(tmp_path))
    check_images(draw_pairs(tmp_path / "bars/train", 1))
    assert len([*(tmp_path / expected / "pix2pix").iterdir()]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"bars", expected.split("/")[0]}


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = draw_pairs(tmp_path / "bars/train", 2)
    checked = record_checks(monkeypatch)
    assert check_images(folder) == check_images(folder) and len(checked) == 4
    assert capsys.readouterr() == ("", "")


def test_checking_ends_in_time_and_goes_on_with_the_next_start(options, monkeypatch, capsys):
    folder = draw_pairs(Path("bars/train"), 12)
    options = with_options(options, input_dir=str(folder))
    monkeypatch.setattr(dataset, "CHECK_SECONDS", 0)  # for one file
    for number in range(1, 12):
        paths = list_images(options).paths
        assert [path.stem for path in paths] == [str(number) for number in range(1, 13)]
        checks = [*check_images(folder).values()] if number == 11 else []
        assert f"checked {number} of 12 images; the others" in capsys.readouterr().out
    assert UNCHECKED not in checks
    (folder / "3.JPG").write_bytes(b"")  # the others are as they were
    with pytest.raises(UserError, match="1 of 12 images"):
        list_images(options)


@pytest.mark.parametrize("on_bad_image", ["fail", "skip"])
def test_a_bad_file_that_was_not_checked_is_named_in_its_step(tmp_path, monkeypatch, capsys,
                                                              on_bad_image):
    """And the step's own file alone is looked at."""
    folder = draw_pairs(tmp_path / "bars/train", 23)
    cut(folder / "6.png", 0.3)
    Image.new("RGB", (1, 9)).save(folder / "8.png")
    checked, real_check = record_checks(monkeypatch), dataset.check_files
    monkeypatch.setattr(dataset, "check_files", lambda paths, *more: real_check(paths[:1], *more))
    code = train_small("run", "--max_steps", 23, "--progress_freq", 1, "--on_bad_image",
                       on_bad_image)
    error = capsys.readouterr().err
    if on_bad_image == "fail":
        assert code == 2 and "1 of 23 images cannot be used" in error and len(checked) == 2
        assert checked[1] in ("6.png", "8.png")
    else:
        assert code == 0 and checked[0] == "1.JPG" and sorted(checked[1:]) == ["6.png", "8.png"]
        assert "6.png cannot be used: cannot be decoded" in error
        assert "8.png cannot be used: 1 pixel wide: cannot be split into a pair" in error
        assert len(Path("run/log.csv").read_text().splitlines()) == 1 + 23 - 2


def test_files_are_checked_in_parallel(tmp_path, monkeypatch):
    folder, real = draw_pairs(tmp_path / "bars/train", 4), dataset.check_file
    for name in ("cpu_count", "process_cpu_count"):  # of a machine with two cores
        monkeypatch.setattr(os, name, lambda: 2, raising=False)
    together = threading.Barrier(2, timeout=60)  # one file alone waits in vain
    monkeypatch.setattr(dataset, "check_file",
                        lambda *arguments: together.wait() * 0 or real(*arguments))
    assert not any(check.reason for check in check_images(folder).values())


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_file_that_goes_bad_in_training(tmp_path, capsys, monkeypatch, how):
    """With 11 images one bad is under a tenth."""
    folder = draw_pairs(tmp_path / "bars" / "train", 11)
    before_step(monkeypatch, 12, lambda: os.remove(folder / "4.png") if how == "gone"
                else cut(folder / "4.png", 0.3))
    flags = ["--max_steps", 33, "--progress_freq", 1]
    assert train_small("fails", *flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "4.png cannot be used" in lines[-2] and "1 of 11 images" in lines[-1]
    failed_at = int(read_variables("fails")["global_step"])  # saved before it ends
    assert 12 <= failed_at < 33
    files.remove(folder)
    draw_pairs(folder, 11)
    assert train_small("skips", *flags, "--on_bad_image", "skip") == 0
    assert capsys.readouterr().err.count("4.png cannot be used") == 1
    assert read_variables("skips")["global_step"] == 33
    steps = [int(row.split(",")[0]) for row in Path("skips/log.csv").read_text().splitlines()[1:]]
    orders = run_graph(lambda: [pix2pix.epoch_order(11, 7, epoch) for epoch in (1, 2)])
    places = {11 * epoch + [*order].index(3) + 1 for epoch, order in enumerate(orders, 1)}
    assert failed_at + 1 in places  # how far images are read ahead decides which of them fails
    skipped = {*range(1, 34)} - {*steps}
    assert skipped and skipped <= places and max(places) in skipped


@pytest.mark.parametrize("on_bad_image", ["fail", "skip"])
def test_a_folder_of_images_that_vanishes(tmp_path, capsys, monkeypatch, on_bad_image):
    folder = draw_pairs(tmp_path / "bars" / "train", 11)
    go_on = before_step(monkeypatch, 5, lambda: folder.rename(tmp_path / "elsewhere"))
    assert train_small("run", "--max_steps", 500, "--on_bad_image", on_bad_image) == 2
    assert "--input_dir bars/train cannot be read any more" in capsys.readouterr().err
    step = read_variables("run")["global_step"]
    assert step >= 4
    (tmp_path / "elsewhere").rename(folder)
    go_on()
    if on_bad_image == "fail":
        assert resume("run", "--max_steps", step + 2) == 0


def test_a_file_that_goes_bad_in_test(tiny, tmp_path, capsys, monkeypatch):
    folder = draw_pairs(tmp_path / "val", 11)
    real = run_folder.prepare_test

    def spoiled(options):
        cut(folder / "4.png", 0.5)
        return real(options)
    monkeypatch.setattr(run_folder, "prepare_test", spoiled)
    arguments = ["--mode", "test", "--input_dir", folder, "--checkpoint", tiny / "whole",
                 "--output_dir", "out"]
    assert run(*arguments, "--on_bad_image", "skip") == 0
    printed = capsys.readouterr()
    assert "wrote 10 of 11" in printed.out and "4.png cannot be used" in printed.err
    rows = Path("out/metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["name", *"123", "5", *"6789", "10", "11"]


def test_names_that_are_alike_or_long_keep_their_own_results(tiny, tmp_path):
    folder = draw_pairs(tmp_path / "val", 1)
    png = (folder / "1.JPG").read_bytes()
    names = ["a.png", "A.jpg", "a.png.jpg", "\N{CAT}" * 62 + ".jpg", "\N{CAT}" * 61 + "x.jpg",
             "=1+1.jpg", "-.jpg", "%s.jpg", "..jpg"]
    for name in names:
        (folder / name).write_bytes(png)
    assert run("--mode", "test", "--input_dir", folder, "--checkpoint", tiny / "whole",
               "--output_dir", "out") == 0
    written = os.listdir("out/images")
    assert len(written) == 3 * len(names)  # but for ..jpg, which is hidden
    assert len({name.casefold() for name in written}) == len(written)
    assert sorted(os.listdir(tmp_path)) == ["out", "val"]


# ---- options, memory, logging


@pytest.mark.parametrize("flags", [
    ["--batch_size", "0"], ["--lr", "nan"], ["--lr", "inf"], ["--lr", "0"], ["--ngf", "-1"],
    ["--ngf", "1.5"], ["--crop_size", "33"], ["--crop_size", "0"], ["--scale_size", "16"],
    ["--max_steps", "0"], ["--max_epochs", "-3"], ["--beta1", "1"], ["--l1_weight", "-1"],
    ["--label_smoothing", "0.9"], ["--ema_generator", "1"], ["--seed", "-1"], ["--seed", "x"],
    ["--aspect_ratio", "0"], ["--keep_checkpoints", "0"], ["--keep_every_epochs", "-1"],
    ["--max_bad_steps", "0"], ["--on_bad_image", "weep"], ["--save_freq", "-1"],
    ["--input_dir", "gone"], ["--output_dir", "file"], ["--output_dir", "file/inside"],
    ["--checkpoint", "gone"], ["--nonsense"], ["--mode", "dream"], ["--output_dir", ""],
    ["--input_dir", ""], ["--checkpoint", ""], ["--output_dir", "by\udcff"],
    ["--input_dir", "two\nlines"], ["--scale_size", "2147483647"], ["--ngf", "2147483647"],
    ["--batch_size", "2147483647"], ["--l1_weight", "1e300"], ["--augment", "none", "vflip"]])
def test_a_bad_value_is_one_line_before_tensorflow(tmp_path, capsys, monkeypatch, flags):
    draw_pairs(tmp_path / "bars/train", 1)
    Path("file").write_text("")
    monkeypatch.setattr(tf1.LazyTensorFlow, "__getattr__", pytest.fail)  # if it were used
    before = sorted(tmp_path.rglob("*"))
    assert run("--mode", "train", "--input_dir", "bars/train", "--output_dir", "run", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("pix2pix.py: error: ") and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_gpus_memory_is_taken_as_needed_in_every_session(tiny, monkeypatch):
    """In those that the modes open, not in a list of them."""
    configs, real = [], tf.Session
    formats = [name for name in EXPORTS if name != "onnx"]  # tf2onnx opens its own after ours

    def open_session(*arguments, config=None, **more):
        configs.append(config)
        return real(*arguments, config=config, **more)
    monkeypatch.setattr("tensorflow.compat.v1.Session", open_session)
    os.symlink(tiny / "bars", "bars")
    checkpoint = ["--checkpoint", tiny / "whole"]
    for number, arguments in enumerate((
            ["--mode", "train", "--input_dir", "bars/train", "--max_steps", 1, *checkpoint],
            ["--mode", "test", "--input_dir", "bars/train", *checkpoint],
            ["--mode", "export", "--export_format", *formats, *checkpoint])):
        assert run(*arguments, "--output_dir", f"out{number}") == 0
        assert configs and all(config.gpu_options.allow_growth for config in configs)
        configs.clear()
    pix2pix.load_model("out2")
    assert configs and all(config.gpu_options.allow_growth for config in configs)


def test_out_of_memory_says_what_to_lower(tmp_path, capsys, monkeypatch):
    draw_pairs(tmp_path / "bars/train", 8)

    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    monkeypatch.setattr(pix2pix, "run_step", exhausted)
    assert train_small("run", "--batch_size", 8, "--max_steps", 1) == 1
    line, = (line for line in capsys.readouterr().err.splitlines() if "out of memory" in line)
    assert "--batch_size 4 --grad_accumulation 2 needs about half" in line


def test_out_of_memory_at_an_images_own_size_names_strips(options):
    large = with_options(options, mode="test", native_size=True)
    assert monitor.advise_memory(large) == "give --tile 128, which works in strips"
    for other in (with_options(large, tile=128), with_options(large, native_size=False)):
        assert "smaller --ngf" in monitor.advise_memory(other)


def test_what_cannot_be_shown_does_not_stop_training(tmp_path, capsys, monkeypatch):
    draw_pairs(tmp_path / "bars/train", 2)
    prepare = run_folder.prepare_run

    def spoiled(options):
        prepare(options)
        for name in ("index.html", "log.csv"):
            Path("run", name).mkdir()
    monkeypatch.setattr(run_folder, "prepare_run", spoiled)

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(run_log, "save_images", full)
    real = run_log.Events.add
    monkeypatch.setattr(run_log.Events, "add", lambda events, *more, **what:
                        full() if "summary" in what else real(events, *more, **what))
    assert train_small("run", "--max_steps", 4, "--progress_freq", 1, "--summary_freq", 1,
                       "--display_freq", 1, "--save_freq", 1) == 0
    error = capsys.readouterr().err
    for what in ("log.csv", "index.html", "TensorBoard's events", "images"):
        assert error.count(f"cannot write {what} ") == 1
    assert read_variables("run")["global_step"] == 4


def test_a_row_that_was_written_in_part_gives_way_to_the_next(tmp_path, monkeypatch):
    draw_pairs(tmp_path / "bars/train", 2)

    def tear():
        with open("run/log.csv", "a", encoding="utf-8") as file:
            file.write("2,1,0.")
    before_step(monkeypatch, 3, tear)
    assert train_small("run", "--max_steps", 4, "--progress_freq", 1) == 0
    rows = [row.split(",") for row in Path("run/log.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["step", *"1234"] and len({len(row) for row in rows}) == 1


def test_a_closed_pipe_does_not_stop_training(tmp_path):
    draw_pairs(tmp_path / "bars/train", 2)
    process = start("sys.exit(pix2pix.main(argv))", "--max_steps", 4, "--progress_freq", 1)
    process.stdout.readline()
    for name in ("stdout", "stderr"):
        getattr(process, name).close()
        setattr(process, name, None)
    assert finish(process)[0] == 0
    assert read_variables("run")["global_step"] == 4
