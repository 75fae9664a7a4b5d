"""split.py: what goes where, and that nothing is ever lost or overwritten."""

import errno
import importlib
import os
import random
import signal
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import killing
import pytest
from helpers import ROOT
from PIL import Image

from tools import split
from tools.lib.files import remove


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
    (["--dir", "nowhere"], "--dir nowhere is not a folder: check the path"),
    (["--dir", "D"], "--dir D is not a folder: d differs only in case, give that"),
    (["--dir", "."], "only 25 in folder d: did you mean d?"),
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


@pytest.mark.parametrize("flags, words", [
    (["--seed", 1], "nothing to move: images"), (["--sort"], "nothing to move: images"),
    (["--train_frac", 0.4, "--test_frac", 0.2],
     "--train_frac 0.4 and --test_frac 0.2 ask for train 10, val 10, test 5, but images")])
def test_what_is_placed_stays_and_that_is_said(tmp_path, capsys, flags, words):
    fill(tmp_path / "d", NAMES)
    assert run(tmp_path / "d") == 0
    assert capsys.readouterr() == ("train 20, val 5, test 0 (moved 25)\n", "")
    before = tree(tmp_path)
    assert run(tmp_path / "d", *flags) == 0
    streams = capsys.readouterr()
    assert streams.out == "train 20, val 5, test 0 (moved 0)\n"
    assert streams.err == (f"split.py: {words} that are placed stay; to split them again, move "
                           f"them back to {tmp_path / 'd'}\n")
    assert tree(tmp_path) == before


# ---- a set that grows


def choose_set(rng):
    """Names, and the parts of some of them as any earlier splits may have placed them."""
    names = [f"{rng.randrange(40)}.{rng.choice(['png', 'jpg', '0001'])}"
             for _ in range(rng.randrange(1, 60))]
    return {*names}, {name: rng.choice(split.PARTS) for name in {*names} if rng.random() < 0.5}


def test_whatever_is_placed_the_rest_is_assigned_as_before():
    """A run that grows a set may be interrupted anywhere, in any order of moves."""
    rng = random.Random(1)
    for _ in range(300):
        names, placed = choose_set(rng)
        train_frac = rng.random()
        flags = train_frac, (1 - train_frac) * rng.random(), rng.choice([None, 0, 7])
        assignment = split.assign_names(names, *flags, placed)
        assert placed.items() <= assignment.items() and {*assignment} == names
        done = {**placed, **{name: part for name, part in assignment.items() if rng.random() < 0.5}}
        assert split.assign_names(names, *flags, done) == assignment


def test_new_images_bring_the_parts_as_near_to_the_fractions_as_possible():
    rng = random.Random(2)
    for _ in range(300):
        counts = {part: rng.randrange(40) for part in split.PARTS}
        train_frac = rng.random()
        wanted = split.count_parts(sum(counts.values()) + rng.randrange(40), train_frac,
                                   (1 - train_frac) * rng.random())
        full = split.fill_parts(counts, wanted)
        assert sum(full.values()) == sum(wanted.values())
        for part in split.PARTS:  # none has more than it must, so the sum of what lacks is least
            assert counts[part] <= full[part] <= max(counts[part], wanted[part])
        lacking = {part: full[part] / wanted[part] for part in split.PARTS
                   if counts[part] < full[part] < wanted[part]}
        for part, share in lacking.items():  # they lack alike, to one image
            assert share - 1 / wanted[part] <= min(lacking.values()) + 1e-9


@pytest.mark.parametrize("flags, counts", [
    ([], "train 20, val 5, test 0 (moved 15)"),
    (["--sort"], "train 20, val 5, test 0 (moved 15)"),
    (["--test_frac", 0.2], "train 18, val 2, test 5 (moved 15)")])  # of 20, 0, 5: 0.9 and 1
def test_new_images_are_added_to_a_split(tmp_path, capsys, flags, counts):
    """8 and 2 of 10 at first; an interrupted run continues as if it had not been."""
    for name in ("clean", "broken"):
        before = fill(tmp_path / name, NAMES[:10])
        assert run(tmp_path / name) == 0
        placed = tree(tmp_path / name)
        fill(tmp_path / "more", NAMES[10:])
        for path in (tmp_path / "more").iterdir():
            before[path.name] = path.read_bytes()
            path.rename(tmp_path / name / path.name)
        (tmp_path / "more").rmdir()
    assert run(tmp_path / "clean", *flags) == 0
    assert capsys.readouterr().out.splitlines()[-1] == counts
    after = tree(tmp_path / "clean")
    assert placed.items() <= after.items()
    assert {path.split("/")[1]: data for path, data in after.items()} == before
    moved = [path for path in after if path not in placed]
    for path in moved[:4] + moved[9:12]:  # what an interrupted run may have moved, in any order
        (tmp_path / "broken" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "broken" / Path(path).name).rename(tmp_path / "broken" / path)
    assert run(tmp_path / "broken", *flags) == 0
    assert tree(tmp_path / "broken") == after


def test_one_name_in_two_parts_is_refused(tmp_path, capsys):
    fill(tmp_path / "d", NAMES)
    fill(tmp_path / "d" / "train", ["x.png"])
    fill(tmp_path / "d" / "test", ["x.png"])
    before = tree(tmp_path)
    assert run(tmp_path / "d") == 2
    folder = tmp_path / "d"
    assert capsys.readouterr().err == (f"split.py: error: {folder / 'train/x.png'} and "
                                       f"{folder / 'test/x.png'} have one name: rename or remove "
                                       "one\n")
    assert tree(tmp_path) == before


# ---- names


def test_versions_of_an_image_go_to_one_part(tmp_path, capsys):
    """Also where some are placed and others added; frames numbered by extension are no versions."""
    names = [f"{number}.{ending}" for number in range(20) for ending in ("png", "jpg", "JPEG")]
    fill(tmp_path / "d", names[:50] + [f"shot.{number:04d}" for number in range(20)])
    assert run(tmp_path / "d", "--train_frac", 0.5) == 0
    fill(tmp_path / "more", names[50:])
    for path in (tmp_path / "more").iterdir():
        path.rename(tmp_path / "d" / path.name)
    assert run(tmp_path / "d", "--train_frac", 0.5) == 0
    assert capsys.readouterr().err == ""
    parts = {}
    for path in (tmp_path / "d").glob("*/*"):
        parts.setdefault(path.stem if path.stem != "shot" else path.name, set()).add(
            path.parent.name)
    assert len(parts) == 40 and all(len(found) == 1 for found in parts.values())
    assert sorted(map(sorted, parts.values())).count(["train"]) == 20


def test_versions_that_are_in_two_parts_already_are_named(tmp_path, capsys):
    fill(tmp_path / "d" / "train", ["1.png", "2.png"])
    fill(tmp_path / "d" / "val", ["1.jpg"])
    assert run(tmp_path / "d") == 0
    assert (f"split.py: {tmp_path / 'd/train/1.png'} and {tmp_path / 'd/val/1.jpg'} may be "
            "versions of one image in two parts (1 in all): move them together if they are\n"
            ) in capsys.readouterr().err


def test_accents_composed_or_not_give_the_same_split():
    names = [f"{accented}{number}.png" for number in range(30) for accented in ("é", "z", "Å")]
    forms = [{unicodedata.normalize("NFC", name): part for name, part in split.assign_names(
        [unicodedata.normalize(form, name) for name in names], 0.5, 0.2, seed).items()}
        for form in ("NFC", "NFD") for seed in (0,)]
    assert forms[0] == forms[1]
    together = split.assign_names(
        [unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD")],
        0.5, 0.2, 0)
    assert {unicodedata.normalize("NFC", name): part for name, part in together.items()} \
        == forms[0] and len(together) == 150


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


# ---- links


def add_links(root):
    """Adds to the images 1.png to 6.png in root/d, and to others in root/store, links of all kinds.
    """
    fill(root / "store", ["a.png", "b.jpg"])
    fill(root / "d", [f"{number}.png" for number in range(1, 7)])
    (root / "d/val").mkdir()
    (root / "alias").symlink_to("d")
    links = {
        "d/out.png": "../store/a.png", "d/absolute.jpg": root / "store/b.jpg",
        "d/beside.png": "1.png", "d/dotted.png": "./../d/2.png", "d/absolute.png": root / "d/3.png",
        "d/by_alias.png": "../alias/3.png", "d/to_link.png": "beside.png",
        "d/to_link_to_link": "to_link.png", "d/to_out.png": "out.png",
        "store/back.png": "../d/4.png", "d/there_and_back.png": "../store/back.png",
        "d/.hidden": "5.png", "d/val/placed.png": "../5.png", "d/broken.png": "../nowhere.png",
        "d/old/deep.png": "../6.png"}
    (root / "d/old").mkdir()
    for path, target in links.items():
        (root / path).symlink_to(target)
    return root / "d"


def open_all(folder):
    """Name -> bytes of every file and link in a folder and its parts that opens."""
    return {path.name: path.read_bytes() for path in (*folder.iterdir(), *folder.glob("*/*"))
            if path.is_file()}


def read_texts(folder):
    """Path -> text of the links below a folder."""
    return {path.relative_to(folder).as_posix(): os.readlink(path)
            for path in folder.rglob("*") if path.is_symlink()}


def test_every_link_opens_the_same_file_afterwards(tmp_path, capsys):
    """Those that move, those whose file moves, and both."""
    folder = add_links(tmp_path)
    before, texts = open_all(folder), read_texts(folder)
    assert len(before) == 6 + 13 and "broken.png" not in before
    assert run(folder, "--train_frac", 0.5) == 0
    printed = capsys.readouterr()
    assert printed.out == "train 8, val 9, test 0 (moved 16)\n"
    assert printed.err == (f"split.py: not used in {folder}: 1 that cannot be read, "
                           "1 in folder old\n")
    assert open_all(folder) == before
    after = {Path(path).name: text for path, text in read_texts(folder).items()}
    assert after.keys() == {Path(path).name for path in texts}
    assert after["out.png"] == "../../store/a.png"
    assert after["absolute.jpg"] == texts["absolute.jpg"]
    assert after["broken.png"] == texts["broken.png"]
    place = {path.name: path.parent.name for path in folder.glob("*/*")}
    assert after["beside.png"] == f"../{place['1.png']}/1.png" or \
        (place["beside.png"], after["beside.png"]) == (place["1.png"], "1.png")
    assert after["absolute.png"] == str(folder / place["3.png"] / "3.png")
    assert Path(after["to_link.png"]).name == "beside.png"
    assert after[".hidden"] == f"{place['5.png']}/5.png"


def test_links_open_whenever_a_run_is_interrupted_and_it_continues(tmp_path, monkeypatch):
    """Before each change of the disk."""
    clean = add_links(tmp_path / "clean")
    assert run(clean, "--train_frac", 0.5) == 0
    before, number, code = open_all(clean), 0, None
    real = {name: getattr(os, name) for name in ("link", "symlink", "rename", "replace", "unlink")}
    count = 0

    def interruptible(change):
        """A function of os that a Ctrl-C may precede."""
        def interrupted(*arguments):
            nonlocal count
            count += 1
            if count == number:
                raise KeyboardInterrupt
            return change(*arguments)
        return interrupted
    while code != 0:
        folder, number, count = add_links(tmp_path / str(number)), number + 1, 0
        with monkeypatch.context() as patch:
            for name, change in real.items():
                patch.setattr(os, name, interruptible(change))
            code = run(folder, "--train_frac", 0.5)
        assert open_all(folder) == before, number
        assert run(folder, "--train_frac", 0.5) == 0
        assert open_all(folder) == before
        assert {path: os.path.relpath(text, folder) if os.path.isabs(text) else text
                for path, text in read_texts(folder).items()} == {
            path: os.path.relpath(text, clean) if os.path.isabs(text) else text
            for path, text in read_texts(clean).items()}, number
        assert names_below(folder) == names_below(clean), number
    assert number > 30


def names_below(folder):
    """The paths below a folder, hidden ones and links too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_what_a_killed_run_left_of_a_link_is_removed(tmp_path):
    fill(tmp_path / "d", NAMES)
    (tmp_path / "d/train").mkdir()
    (tmp_path / "d/train/.x.png.12.tmp").symlink_to("../1.png")
    assert run(tmp_path / "d") == 0
    assert not list(tmp_path.glob("d/train/.*"))


def test_a_link_in_the_way_is_not_overwritten(tmp_path, capsys):
    """A view of the images, as made by hand: links in the parts to what is in the folder."""
    fill(tmp_path / "d", NAMES)
    (tmp_path / "d/train").mkdir()
    (tmp_path / "d/train/1.png").symlink_to("../1.png")
    before = tree(tmp_path)
    assert run(tmp_path / "d", "--train_frac", 1) == 2
    assert "train/1.png exists, and so does" in capsys.readouterr().err
    assert tree(tmp_path) == before


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
    output, errors = killing.run(*command, env=ascii_only)
    assert output == "train 3, val 3, test 0 (moved 6)\n"
    assert errors == f"split.py: not used in {tmp_path / 'd'}: 3 that cannot be read\n"
    assert {os.fsencode(path.name) for path in tmp_path.glob("d/*/*")} == set(names)
    assert {path.name for path in tmp_path.glob("d/*")} == {
        "train", "val", "fifo.png", "broken.png", "endless.png", "folder.png"}
    _, errors = killing.run(*command, "--seed", 5, env=ascii_only)
    assert errors.count("\n") == 2


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
def test_killed_at_every_step_links_open(tmp_path):
    def fill_again():
        for path in ("store", "alias"):
            remove(tmp_path / path)
        add_links(tmp_path)
    steps = killing.kill_at_every_step(["split.py", "--dir", tmp_path / "d", "--train_frac", 0.5],
                                       fill_again, tmp_path / "d")
    assert len(list(steps)) > 30


@pytest.mark.slow
def test_two_at_once_end_as_one(tmp_path):
    killing.run_two_at_once(["split.py", "--dir", tmp_path / "d"], fill_many(tmp_path / "d"),
                            tmp_path / "d", seed=4)
