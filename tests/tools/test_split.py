"""split.py: what goes where, and that nothing is ever lost or overwritten."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import threading

import killing
import pytest
from helpers import ROOT
from PIL import Image

from tools import split


def fill(folder, names):
    """Makes a folder of images of one pixel, each of another colour; returns name -> bytes."""
    folder.mkdir(parents=True)
    names = list(names)
    for number, name in enumerate(names):
        Image.new("RGB", (1, 1), (number, 0, 0)).save(
            folder / name, "JPEG" if name.lower().endswith("g") and number % 2 else "PNG")
    return {name: (folder / name).read_bytes() for name in names}


def tree(folder):
    """Path -> bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def run(folder, *flags):
    """The exit code of the tool."""
    return split.main(["--dir", str(folder), *map(str, flags)])


NAMES = [f"{number}.{ending}" for number, ending in
         enumerate(["png", "jpg", "JPG", "jpeg", "PNG"] * 5, start=1)]


@pytest.mark.parametrize("num_images, train, test, expected", [
    (25, 0.8, 0, (20, 5, 0)), (7, 0.8, 0, (5, 2, 0)), (100, 0.57, 0.29, (57, 14, 29)),
    (10, 0.7, 0.3, (7, 0, 3)), (9, 0, 0, (0, 9, 0)), (1, 1, 0, (1, 0, 0)), (1, 0.5, 0.5, (0, 1, 0)),
    (3, 0, 1, (0, 0, 3))])
def test_counts(num_images, train, test, expected):
    counts = split.count_parts(num_images, train, test)
    assert (counts["train"], counts["val"], counts["test"]) == expected


def test_assignment_is_a_function_of_the_names_and_the_seed():
    first = split.assign_names(NAMES, 0.6, 0.2, seed=0)
    assert first == split.assign_names(NAMES[::-1], 0.6, 0.2, seed=0)
    assert first != split.assign_names(NAMES, 0.6, 0.2, seed=1)
    assert set(first) == set(NAMES)


def test_sort_keeps_the_order_of_the_numbers():
    assignment = split.assign_names(["10.png", "9.jpg", "2.png", "1.png"], 0.5, 0.25)
    assert assignment == {"1.png": "train", "2.png": "train", "9.jpg": "val", "10.png": "test"}


def test_every_image_moves_once_and_other_files_stay(tmp_path, capsys):
    before = fill(tmp_path / "d", [*NAMES[:23], "a b%.png", "\N{GRINNING FACE}"])
    (tmp_path / "d" / "notes.png").write_bytes(b"no image")
    assert run(tmp_path / "d", "--train_frac", 0.6, "--test_frac", 0.2) == 0
    assert capsys.readouterr().out == "train 15, val 5, test 5 (moved 25)\n"
    after = tree(tmp_path / "d")
    assert after.pop("notes.png") == b"no image"
    assert {path.split("/")[1]: data for path, data in after.items()} == before
    assert len(after) == 25
    assert sum(path.startswith("train/") for path in after) == 15


def test_empty_parts_get_no_folder(tmp_path):
    fill(tmp_path / "d", NAMES)
    assert run(tmp_path / "d") == 0
    assert sorted(os.listdir(tmp_path / "d")) == ["train", "val"]


def test_an_interrupted_run_continues(tmp_path, monkeypatch, capsys):
    fill(tmp_path / "clean", NAMES)
    fill(tmp_path / "broken", NAMES)
    assert run(tmp_path / "clean") == 0
    rename, calls = os.rename, []

    def interrupted(source, target):
        calls.append(source)
        if len(calls) == 8:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    assert run(tmp_path / "broken") == 130
    assert len(tree(tmp_path / "broken")) == 25
    assert run(tmp_path / "broken") == 0
    assert tree(tmp_path / "broken") == tree(tmp_path / "clean")
    assert run(tmp_path / "broken") == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["train 20, val 5, test 0 (moved 18)",
                                                        "train 20, val 5, test 0 (moved 0)"]


@pytest.mark.parametrize("flags, words", [
    (["--train_frac", "nan"], "--train_frac: nan: give a number of at least 0 and at most 1"),
    (["--train_frac", "1.01"], "--train_frac: 1.01"),
    (["--test_frac", "-0.1"], "--test_frac: -0.1"),
    (["--test_frac", "0.3"], "add up to 1.1"),
    (["--train_frac", "80%"], "80%: give a number"),
    (["--dir", "nowhere"], "--dir nowhere is not a folder"),
    (["--dir", "."], "--dir . contains no JPEG or PNG images"),
    (["--seed", "x"], "--seed"),
])
def test_user_errors_are_one_line_and_nothing_moves(tmp_path, monkeypatch, capsys, flags, words):
    fill(tmp_path / "d", NAMES)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert split.main(["--dir", "d", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("split.py: error: ") and error.count("\n") == 1
    assert words in error
    assert tree(tmp_path) == before


def test_existing_files_are_not_overwritten(tmp_path, capsys):
    fill(tmp_path / "d", NAMES)
    (tmp_path / "d" / "val").mkdir()
    (tmp_path / "d" / "val" / "7.jpg").write_bytes(b"mine")
    before = tree(tmp_path)
    assert run(tmp_path / "d") == 2
    assert "7.jpg exists, and so does" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_a_target_that_appears_meanwhile_is_not_overwritten(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(split.UserError, match="b exists"):
        split.move(tmp_path / "a", tmp_path / "b")
    assert tree(tmp_path) == {"a": b"a", "b": b"b"}


def test_another_split_is_refused(tmp_path, capsys):
    fill(tmp_path / "d", NAMES)
    assert run(tmp_path / "d") == 0
    before = tree(tmp_path)
    assert run(tmp_path / "d", "--seed", 1) == 2
    assert "is from another split" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_a_file_in_place_of_a_folder_is_refused(tmp_path, capsys):
    fill(tmp_path / "d", NAMES)
    (tmp_path / "d" / "train").write_bytes(b"x")
    assert run(tmp_path / "d") == 2
    assert "train is not a folder" in capsys.readouterr().err


def test_affinelayers_command(tmp_path):
    fill(tmp_path / "photos" / "combined", NAMES)
    done = subprocess.run([sys.executable, ROOT / "tools" / "split.py", "--dir", "photos/combined"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, "train 20, val 5, test 0 (moved 25)\n", "")


# ---- interrupted, twice at once, strange files


def test_it_waits_for_another_run_to_end(tmp_path):
    fcntl = importlib.import_module("fcntl")
    fill(tmp_path / "d", NAMES)
    other = os.open(tmp_path / "d", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    codes = []
    second = threading.Thread(target=lambda: codes.append(run(tmp_path / "d")))
    second.start()
    second.join(0.3)
    assert second.is_alive() and len(list((tmp_path / "d").iterdir())) == 25
    (tmp_path / "d" / "1.png").rename(tmp_path / "d" / "26.png")
    os.close(other)
    second.join(20)
    assert codes == [0] and "26.png" in {path.name for path in tmp_path.glob("d/*/*")}


def test_sigterm_is_143_and_a_failing_disk_1_and_the_same_command_continues(tmp_path, monkeypatch,
                                                                            capsys):
    fill(tmp_path / "clean", NAMES)
    fill(tmp_path / "broken", NAMES)
    assert run(tmp_path / "clean") == 0
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        if len(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    assert run(tmp_path / "broken") == 1
    assert run(tmp_path / "broken") == 143
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "No space left on device" in errors
    assert run(tmp_path / "broken") == 0
    assert killing.read_tree(tmp_path / "broken") == killing.read_tree(tmp_path / "clean")


def test_strange_names_move_and_what_is_not_a_file_stays(tmp_path):
    names = [b"a b.png", b"'\".jpg", b"line\nbreak", b"<script>.png", b"\xff\xfe.png",
             "\N{GRINNING FACE}.png".encode()]
    fill(tmp_path / "d", map(os.fsdecode, names))
    os.mkfifo(tmp_path / "d" / "fifo.png")
    (tmp_path / "d" / "broken.png").symlink_to("nowhere")
    (tmp_path / "d" / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "d" / "folder.png").mkdir()
    command = ["split.py", "--dir", tmp_path / "d", "--train_frac", 0.5]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert killing.run(*command, env=ascii_only) == ("train 3, val 3, test 0 (moved 6)\n", "")
    assert {os.fsencode(path.name) for path in tmp_path.glob("d/*/*")} == set(names)
    assert {path.name for path in tmp_path.glob("d/*")} == {
        "train", "val", "fifo.png", "broken.png", "endless.png", "folder.png"}
    _, errors = killing.run(*command, "--seed", 5, codes=(2,), env=ascii_only)
    assert errors.count("\n") == 1


def fill_many(folder):
    """A function that makes a folder of 1,500 files that begin as PNG files do."""
    def fill_folder():
        folder.mkdir(parents=True)
        for number in range(1500):
            (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n%d" % number)
    return fill_folder


@pytest.mark.slow
def test_killed_at_random_it_ends_as_a_clean_run(tmp_path):
    killing.kill_at_random(["split.py", "--dir", tmp_path / "d"], fill_many(tmp_path / "d"),
                           tmp_path / "d", seed=3, earliest=0.7)


@pytest.mark.slow
def test_killed_at_every_step_it_ends_as_a_clean_run(tmp_path):
    command = ["split.py", "--dir", tmp_path / "d", "--train_frac", 0.5]
    steps = killing.kill_at_every_step(command, lambda: fill(tmp_path / "d", NAMES[:7]),
                                       tmp_path / "d")
    # a folder that must exist and a move, 7 times; before them the folder that is locked; the end
    assert len(list(steps)) == 16


@pytest.mark.slow
def test_two_at_once_end_as_one(tmp_path):
    killing.run_two_at_once(["split.py", "--dir", tmp_path / "d"], fill_many(tmp_path / "d"),
                            tmp_path / "d", seed=4)
