"""Mode check: every file is read and counted, judged as training judges, and nothing is written."""

import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, draw_pairs, read_files, run, train_small
from PIL import Image

from tools.lib import dataset, survey
from tools.lib.cli import with_options

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def draw_images(folder, sizes, kind="RGB", start=1, filetype="png"):
    """Writes images of noise of each (width, height), 1.png, 2.png, ..., each another."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate(sizes, start):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).convert(kind).save(folder / f"{number}.{filetype}")
    return folder


def check(*flags):
    """Runs the mode; returns the exit code."""
    return run("--mode", "check", *flags)


def refused_by(mode, capsys, *flags):
    """The lines on stderr of a mode that refuses its images with exit code 2."""
    capsys.readouterr()
    more = [] if mode == "check" else ["--output_dir", "run", "--max_steps", 1, *SMALL]
    assert run("--mode", mode, *flags, *more) == 2
    assert not Path("run").exists()
    return capsys.readouterr().err.splitlines()


# ---- what there is


def test_a_folder_of_pairs_that_are_alike_takes_a_few_lines(capsys):
    draw_images("pairs", [(128, 64)] * 4)
    assert check("--input_dir", "pairs", "--crop_size", 32) == 0
    printed = capsys.readouterr()
    num_bytes = sum(path.stat().st_size for path in Path("pairs").iterdir())
    assert num_bytes < 1e5 and printed.err == ""
    assert printed.out == f"""\
pairs  4 images  {num_bytes / 1e3:.1f} kB

format    PNG       all
size      128x64    all
channels  RGB       all
bits      8         all
values    0 to 255  all

In --mode train:
  images    4 pairs side by side; the left half (A) is the input, the right half (B) the target
  channels  3 of the input, 3 of the target
  epoch     4 steps of 1 image

  half   images  scaled to  random crop  cut off
  64x64       4  36x36      32x32        21%
"""


def test_two_folders_have_a_column_each(capsys):
    draw_images("set/labels", [(64, 64)] * 3, "L")
    for number in (1, 2, 3):  # a depth map: a tenth of 16 bits
        depth = np.mgrid[:64, :64][1] * 100 + number
        Path("set/depth").mkdir(exist_ok=True)
        Image.fromarray(depth.astype(np.uint16)).save(f"set/depth/{number}.png")
    draw_images("set/depth", [(64, 64)], "CMYK", start=4, filetype="jpg")
    draw_images("set/labels", [(64, 64)], "P", start=4)
    assert check("--a_dir", "set/labels", "--b_dir", "set/depth", "--which_direction", "BtoA") == 0
    printed = capsys.readouterr()
    assert printed.out.split("\n\n")[1] == """\
                                                 A    B
format    PNG                                  all    3
          JPEG                                   -    1
size      64x64                                all  all
channels  grey                                   3    3
          palette                                1    -
          CMYK                                   -    1
bits      8                                    all    1
          16                                     -    3
values    0 to 255                             all    1
          1 to 6303, less than half the range    -    3"""
    assert [line.split()[:2] for line in printed.out.splitlines()[:2]] == [
        ["A", "set/labels"], ["B", "set/depth"]]
    assert "4 pairs; B is the input, A the target" in printed.out
    assert "3 of 4 images have 16 bits and are read as 8; their values 1 to 6303" in printed.err


def test_many_sizes_take_a_few_rows(capsys):
    draw_images("photos", [(64 + number, 64) for number in range(9)] + [(64, 64)] * 2)
    assert check("--input_dir", "photos", "--lab_colorization") == 0
    table, plan = capsys.readouterr().out.split("In --mode train:\n")
    rows = [line.split() for line in table.splitlines()]
    place = next(place for place, row in enumerate(rows) if row[:1] == ["size"])
    assert rows[place] == ["size", "64x64", "3"]
    assert rows[place + 5] == ["4", "others,", "69x64", "to", "72x64", "4"]
    assert "11 single images; the input is lightness, the target colour" in plan
    assert plan.splitlines()[-1].split() == ["4", "others", "4"]


def test_what_differs_from_nearly_all_and_what_is_there_twice_is_named(capsys):
    folder = draw_images("pairs", [(128, 64)] * 19)
    noise = np.random.default_rng(0).integers(0, 256, (64, 130), np.uint8)
    Image.fromarray(noise).save(folder / "odd.jpg")
    (folder / "again.png").write_bytes((folder / "7.png").read_bytes())
    assert check("--input_dir", folder) == 0
    out = capsys.readouterr().out
    assert ("Unlike nine tenths of the others:\n"
            "  pairs/odd.jpg  JPEG (most: PNG), 130x64 (most: 128x64), grey (most: RGB)\n") in out
    assert ("Duplicates, the same bytes in each line:\n"
            "  pairs/7.png  pairs/again.png\n") in out
    (folder / "18.png").unlink()
    for number in range(1, 10):  # now there are two kinds of images
        Image.fromarray(noise).save(folder / f"{number}.png")
    assert check("--input_dir", folder) == 0
    assert "Unlike nine tenths of the others:\n  pairs/odd.jpg  JPEG (most: PNG)\n" in \
        capsys.readouterr().out


# ---- training's judgement


def broken(folder):
    """Writes a truncated image into a folder."""
    data = next(Path(folder).glob("1.*")).read_bytes()
    Path(folder, "broken.png").write_bytes(data[:len(data) // 2])


def test_it_refuses_what_training_refuses_in_the_same_words(capsys):
    """The oracle: training itself, on the same folders."""
    draw_images("single", [(64, 64)] * 3)
    broken(draw_images("broken", [(128, 64)] * 3))
    draw_images("one_single", [(128, 64)] * 3 + [(70, 64)])
    Path("empty").mkdir()
    draw_pairs("split/train", 2)
    for flags in (["--input_dir", "single"], ["--input_dir", "broken"],
                  ["--input_dir", "broken", "--on_bad_image", "skip"],
                  ["--input_dir", "one_single"], ["--input_dir", "empty"],
                  ["--input_dir", "split"], ["--input_dir", "split/train", "--lab_colorization"],
                  ["--input_dir", "gone"], ["--input_dir", "single", "--no_targets", "--cache", 2],
                  ["--a_dir", "single"], ["--input_dir", "single", "--layout", "single"]):
        if "--no_targets" in flags:  # a test is judged
            assert "--cache 2 is for --mode train" in refused_by("check", capsys, *flags)[0]
            continue
        assert refused_by("check", capsys, *flags) == refused_by("train", capsys, *flags), flags


def test_images_without_a_partner_do_not_hide_what_else_is_wrong(capsys):
    draw_images("a", [(64, 64)] * 4)
    draw_images("b", [(64, 64), (64, 64), (32, 64)])
    draw_images("b", [(64, 64)], start=7)
    broken("a")
    flags = ["--a_dir", "a", "--b_dir", "b"]
    lines, expected = [refused_by(mode, capsys, *flags) for mode in ("check", "train")]
    assert lines[-1] == expected[-1] and "3 images have no partner" in lines[-1]
    assert {*expected} < {*lines}
    assert re.search(r"b/3.png cannot be used: 32x64 pixels, a/3.png has 64x64", "\n".join(lines))
    assert re.search(r"a/broken.png cannot be used: cannot be decoded", "\n".join(lines))


@pytest.mark.parametrize("flags, steps", [
    (["--batch_size", 3, "--max_epochs", 2], 8), (["--max_steps", 5], 5),
    (["--max_images", 7, "--batch_size", 7, "--max_epochs", 3], 3)])
def test_steps_are_those_of_training(capsys, flags, steps):
    draw_pairs("bars/train", 10)
    assert check("--input_dir", "bars/train", *flags) == 0
    out = capsys.readouterr().out
    assert f"training ends after {steps} steps" in out
    assert train_small("run", *flags) == 0
    assert f"trained to step {steps}, " in capsys.readouterr().out
    assert ("not used  3 of 10 images\n" in out) == ("--max_images" in flags)


def test_batches_of_one_step_are_counted_together(options):
    options = with_options(options, batch_size=2, grad_accumulation=3, max_epochs=4)
    assert survey.describe_epoch(13, options) == \
        "3 steps of 6 images, the last one of 1; training ends after 12 steps, 4 epochs"
    assert survey.describe_epoch(12, with_options(options, max_epochs=None)) == "2 steps of 6 images"


def test_inputs_without_targets_are_judged_as_test_does(tiny, capsys):
    draw_images("photos", [(100, 80)] * 2)
    flags = ["--input_dir", "photos", "--no_targets"]
    assert check(*flags) == 0
    out = capsys.readouterr().out
    assert out.endswith("""\
In --mode test:
  images    2 single images; inputs without targets
  channels  3 of the input

  size    images  scaled to  shape
  100x80       2  256x256    1.2 times narrower
""")
    assert check(*flags, "--checkpoint", tiny / "whole") == 0  # whose size is 32
    assert "32x32" in capsys.readouterr().out
    assert check("--input_dir", "photos/1.png", "--no_targets") == 0
    assert "1 single image;" in capsys.readouterr().out


def test_the_options_of_a_run_or_model_are_read(tiny, capsys):
    whole = tiny / "whole"
    bars = tiny / "bars/train"
    assert check("--resume", "--output_dir", whole, "--input_dir", bars) == 0
    assert "  4 steps of 3 images, the last one of 1; training ends after 7 steps" in \
        capsys.readouterr().out
    assert check("--checkpoint", whole, "--input_dir", bars) == 0
    assert "36x36      32x32" in capsys.readouterr().out
    assert check("--checkpoint", whole, "--ngf", 5, "--input_dir", bars) == 2
    assert "cannot train with --ngf 5 from --checkpoint" in capsys.readouterr().err
    assert check("--resume", "--output_dir", "gone", "--input_dir", bars) == 2
    assert "--resume finds no run in gone" in capsys.readouterr().err


# ---- reading


def test_every_file_is_read_once_whatever_the_time_and_then_remembered(capsys, monkeypatch):
    folder = draw_images("pairs", [(128, 64)] * 12)
    (folder / "last.png").write_bytes(b"")
    before, reads, read_bytes = read_files("."), [], Path.read_bytes
    monkeypatch.setattr(dataset, "CHECK_SECONDS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read_bytes(path))
        assert check("--input_dir", folder, "--on_bad_image", "skip") == 0
    assert {*reads} == {*folder.iterdir()}
    assert len(reads) <= len({*reads}) + 2  # one of photos tells that they are no label maps
    printed = capsys.readouterr()
    assert "last.png cannot be used: empty" in printed.err and "checked" not in printed.out
    assert read_files(".") == before  # nothing is written here
    (folder / "last.png").unlink()
    monkeypatch.setattr(dataset, "check_file", None)  # reading a file again fails
    assert run("--mode", "train", "--input_dir", folder, "--output_dir", "run", "--max_steps", 1,
               *SMALL) == 0


def test_files_are_looked_at_in_parallel(monkeypatch):
    for name in ("cpu_count", "process_cpu_count"):  # of a machine with two cores
        monkeypatch.setattr(os, name, lambda: 2, raising=False)
    together, real = threading.Barrier(2, timeout=60), survey.look_at  # one alone waits in vain
    monkeypatch.setattr(survey, "look_at",
                        lambda *arguments: together.wait() * 0 or real(*arguments))
    assert check("--input_dir", draw_images("pairs", [(128, 64)] * 2)) == 0
