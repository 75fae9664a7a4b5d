"""make-sample.py: the same bytes for the same seed, and labels that fit the photos."""

import importlib
import os
import signal

import killing
import numpy as np
import pytest
from PIL import Image

tool = importlib.import_module("tools.make-sample")
PALETTE = {  # jet of 16 steps, as counted in the JPEGs of the facades dataset
    (0, 0, 222), (0, 48, 255), (0, 128, 255), (0, 207, 255), (32, 255, 223), (111, 255, 143),
    (192, 255, 63), (255, 239, 0), (255, 159, 0), (255, 80, 0), (255, 0, 0), (175, 0, 0)}
BACKGROUND, FACADE, WINDOW = (0, 0, 222), (0, 48, 255), (0, 128, 255)


@pytest.fixture(scope="module")
def pairs():
    """Photos and label maps of 24 images: two arrays [24, 96, 96, 3]."""
    drawn = np.stack([tool.draw_pair(3, "train", index, 96) for index in range(1, 25)])
    return drawn[:, :, :96], drawn[:, :, 96:]


def draw(folder, *flags, workers=1):
    """Name -> bytes of the files that the tool draws."""
    assert tool.main(["--output_dir", str(folder), "--workers", str(workers), "--size", "40",
                      *flags]) == 0
    return read_folder(folder)


def read_folder(folder):
    """Name -> bytes of the files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def pixels_of(labels, colour):
    """Mask of the pixels that have a label colour."""
    return (labels == np.uint8(colour)).all(-1)


def test_bytes_depend_on_the_seed_alone(tmp_path):
    flags = ["--num_train", "3", "--num_val", "2"]
    first = draw(tmp_path / "a", *flags, "--seed", "5")
    assert list(first) == ["train/0001.png", "train/0002.png", "train/0003.png",
                           "val/0001.png", "val/0002.png"]
    assert len(set(first.values())) == 5
    assert draw(tmp_path / "b", *flags, "--seed", "5") == first
    other = draw(tmp_path / "c", *flags, "--seed", "6")
    assert not set(other.values()) & set(first.values())


def test_a_smaller_number_gives_the_first_images(tmp_path):
    more = draw(tmp_path / "more", "--num_train", "4", "--num_val", "3")
    fewer = draw(tmp_path / "fewer", "--num_train", "2", "--num_val", "1")
    assert len(fewer) == 3 and fewer.items() <= more.items()


def test_workers_change_no_byte(tmp_path, capsys):
    flags = ["--num_train", "15", "--num_val", "2"]
    alone = draw(tmp_path / "one", *flags)
    assert draw(tmp_path / "two", *flags, workers=2) == alone
    assert capsys.readouterr() == (2 * "wrote 17, skipped 0\n", "")


@pytest.mark.parametrize("size", [32, 64, 77, 256])
def test_a_file_is_a_pair_in_rgb(tmp_path, size):
    draw(tmp_path, "--num_train", "1", "--num_val", "0", "--size", str(size))
    with Image.open(tmp_path / "train" / "0001.png") as image:
        assert image.format == "PNG" and image.mode == "RGB"
        assert image.size == (2 * size, size)
        right = np.asarray(image)[:, size:]
    assert set(map(tuple, right.reshape(-1, 3).tolist())) <= PALETTE


def test_labels_have_all_colours_of_the_palette_and_no_other(pairs):
    _, labels = pairs
    assert set(map(tuple, labels.reshape(-1, 3).tolist())) == PALETTE


def test_windows_are_darker_than_the_wall(pairs):
    for photo, labels in zip(*pairs):
        brightness = photo.mean(-1)
        wall = np.median(brightness[pixels_of(labels, FACADE)])
        window = np.median(brightness[pixels_of(labels, WINDOW)])  # glass, not the frame
        assert window < 0.85 * wall


def test_photo_and_labels_are_aligned(pairs):
    """The mean spread of photo colours within a label is least where nothing is shifted."""
    def spread(dx, dy):
        total = 0.0
        for photo, labels in zip(*pairs):
            moved = np.roll(photo, (dy, dx), (0, 1))[4:-4, 4:-4].astype(float)
            for colour in PALETTE - {BACKGROUND}:
                inside = moved[pixels_of(labels[4:-4, 4:-4], colour)]
                total += ((inside - inside.mean(0)) ** 2).sum() if len(inside) else 0.0
        return total

    least = spread(0, 0)
    for shift in ((-2, 0), (2, 0), (0, -2), (0, 2)):
        assert spread(*shift) > 1.03 * least, shift


def test_the_sky_is_blue_and_the_street_grey(pairs):
    for photo, labels in zip(*pairs):
        assert pixels_of(labels[:5], BACKGROUND).all() and pixels_of(labels[-4:], BACKGROUND).all()
        red, _, blue = photo[:5].reshape(-1, 3).mean(0)
        assert blue > red + 5 and blue > 120
        street = photo[-4:].reshape(-1, 3).mean(0)
        assert np.ptp(street) < 12 and street.mean() < 100


def test_what_exists_is_skipped_unless_forced(tmp_path, capsys):
    flags = ["--num_train", "2", "--num_val", "1"]
    drawn = draw(tmp_path, *flags)
    assert capsys.readouterr().out == "wrote 3, skipped 0\n"
    (tmp_path / "train" / "0002.png").write_bytes(b"mine")
    (tmp_path / "val" / "0001.png").unlink()
    assert draw(tmp_path, *flags) == {**drawn, "train/0002.png": b"mine"}
    assert capsys.readouterr().out == "wrote 1, skipped 2\n"
    assert draw(tmp_path, *flags, "--force") == drawn
    assert capsys.readouterr().out == "wrote 3, skipped 0\n"


@pytest.mark.parametrize("flags, asked", [
    (["--seed", "1"], "--seed 1 --size 40"), (["--size", "41"], "--seed 0 --size 41")])
def test_what_was_drawn_with_other_options_is_not_skipped_in_silence(tmp_path, capsys, flags, asked):
    drawn = draw(tmp_path, "--num_train", "2", "--num_val", "1")
    capsys.readouterr()
    assert tool.main(["--output_dir", str(tmp_path), "--size", "40", "--num_train", "4", "--num_val",
                      "1", *flags]) == 2
    assert capsys.readouterr() == ("", (
        f"make-sample.py: error: 3 of 3 results in --output_dir {tmp_path}, such as "
        f"{tmp_path}/train/0001.png, were made with --seed 0 --size 40, this command has {asked}: "
        "give --force to make them again, or another --output_dir\n"))
    assert read_folder(tmp_path) == drawn


@pytest.mark.parametrize("flags, named", [
    (["--size", "31"], "--size: 31: give a whole number of at least 32 and at most 1024"),
    (["--size", "1025"], "--size: 1025"), (["--num_train", "-1"], "--num_train: -1"),
    (["--num_val", "-2"], "--num_val: -2"), (["--seed", "-3"], "--seed: -3"),
    (["--workers", "0"], "--workers: 0: give a whole number of at least 1"),
    (["--size", "big"], "--size"), (["--sizes", "64"], "--sizes"), (["more"], "more")])
def test_a_wrong_flag_is_one_line_and_creates_nothing(tmp_path, capsys, flags, named):
    assert tool.main(["--output_dir", str(tmp_path / "out"), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("make-sample.py: error: ") and captured.err.count("\n") == 1
    assert named in captured.err and captured.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("in_the_way", ["out", "out/val"])
def test_a_file_in_the_way_is_reported(tmp_path, capsys, in_the_way):
    path = tmp_path / in_the_way
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    assert tool.main(["--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1
    assert read_folder(tmp_path) == {in_the_way: b"mine"}


def test_a_folder_in_place_of_an_image_is_one_line(tmp_path, capsys):
    (tmp_path / "train" / "0002.png").mkdir(parents=True)
    flags = ["--output_dir", str(tmp_path), "--size", "40", "--num_train", "2", "--num_val", "0"]
    assert tool.main(flags) == 1
    error = capsys.readouterr().err
    assert error.startswith("make-sample.py: error: ") and error.count("\n") == 1
    assert f"{tmp_path / 'train' / '0002.png'} cannot be written" in error
    assert list(read_folder(tmp_path)) == ["train/0001.png"]


def test_defaults():
    options = tool.parse_args([])
    assert (options.output_dir, options.num_train, options.num_val) == ("sample", 120, 12)
    assert (options.size, options.seed, options.force) == (256, 0, False)


def test_ctrl_c_is_130_and_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    write_pair = tool.write_pair

    def interrupted(task):
        if task[3] == 2:
            raise KeyboardInterrupt
        write_pair(task)

    monkeypatch.setattr(tool, "write_pair", interrupted)
    assert tool.main(["--output_dir", str(tmp_path), "--size", "40", "--workers", "1"]) == 130
    assert list(read_folder(tmp_path)) == ["train/0001.png"]
    assert "interrupted" in capsys.readouterr().err


# ---- interrupted, twice at once


def test_sigterm_is_143(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "write_pair", lambda task: os.kill(os.getpid(), signal.SIGTERM))
    assert tool.main(["--output_dir", str(tmp_path), "--workers", "1"]) == 143


def test_leftovers_of_a_killed_run_are_removed_unless_another_is_running(tmp_path):
    fcntl = importlib.import_module("fcntl")
    (tmp_path / "val").mkdir()
    leftover, own = tmp_path / "val" / ".0001.png.12.tmp", tmp_path / "val" / ".mine.tmp"
    leftover.write_bytes(b"half")
    own.write_bytes(b"mine")
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    flags = ["--num_train", "1", "--num_val", "1"]
    assert "val/.0001.png.12.tmp" in draw(tmp_path, *flags)
    os.close(other)
    assert set(draw(tmp_path, *flags)) == {"train/0001.png", "val/0001.png", "val/.mine.tmp"}


def test_a_full_disk_is_one_line_and_the_same_command_continues(tmp_path):
    flags = ["--output_dir", tmp_path / "full", "--size", 40, "--num_train", 3, "--num_val", 0,
             "--workers", 1]
    clean = draw(tmp_path / "clean", "--num_train", "3", "--num_val", "0")
    sizes = [len(data) for data in clean.values()]
    _, errors = killing.run("make-sample.py", *flags, codes=(1,),
                            preexec_fn=killing.limit_files(max(sizes) - 1))
    assert errors.startswith("make-sample.py: error: ") and errors.count("\n") == 1
    assert f"{sizes.index(max(sizes)) + 1:04d}.png" in errors and "the same command" in errors
    assert not list(tmp_path.glob("full/train/.*"))
    assert draw(tmp_path / "full", "--num_train", "3", "--num_val", "0") == clean


@pytest.mark.slow
def test_killed_at_random_it_ends_as_a_clean_run(tmp_path):
    killing.kill_at_random(["make-sample.py", "--output_dir", tmp_path / "s", "--num_train", 30,
                            "--num_val", 8, "--size", 64, "--workers", 1],
                           (tmp_path / "s").mkdir, tmp_path / "s", seed=5, earliest=0.3)


@pytest.mark.slow
def test_killed_at_every_step_it_ends_as_a_clean_run(tmp_path):
    steps = killing.kill_at_every_step(
        ["make-sample.py", "--output_dir", tmp_path / "s", "--num_train", 2, "--num_val", 1,
         "--size", 32, "--workers", 1], (tmp_path / "s").mkdir, tmp_path / "s")
    assert len(list(steps)) > 8


@pytest.mark.slow
def test_two_at_once_end_as_one(tmp_path):
    killing.run_two_at_once(["make-sample.py", "--output_dir", tmp_path / "s", "--num_train", 60,
                             "--num_val", 4, "--size", 32, "--workers", 2],
                            (tmp_path / "s").mkdir, tmp_path / "s", seed=6)
