"""tools/lib/run_log.py: the bar in a terminal. What else it shows is tested with whole runs."""

import os
import re
import struct
import sys

import pytest

from tools.lib import run_log
from tools.lib.cli import create_progress_bar
from tools.lib.schedule import Progress

LOSSES = {"discrim_loss": 0.5517, "gen_loss_GAN": 2.378, "gen_loss_L1": 0.3457}


@pytest.mark.parametrize("seconds, expected", [
    (0.2, "0s"), (59.4, "59s"), (59.6, "1m"), (3540, "59m"), (3590, "1h00m"), (30000, "8h20m"),
    (35969, "9h59m"), (35970, "10h"), (360000, "100h")])
def test_the_time_that_is_left(seconds, expected):
    assert run_log.time_text(seconds) == expected


def test_the_first_of_the_texts_that_fit_are_shown():
    texts = ["four", "fourteen chars", "six xx"]
    count = "{n_fmt}/{total_fmt}"  # 3 + 1 + 3 columns
    for width, expected in ((11, count), (12, f"{count} four"), (18, f"{count} four"),
                            (19, f"{count} four six xx"), (26, f"{count} four six xx"),
                            (27, f"{count} four fourteen chars"),
                            (34, f"{count} four fourteen chars six xx"),
                            (50, f"{count} four fourteen chars six xx"),
                            (51, "{percentage:3.0f}%|{bar}| " + count
                             + " four fourteen chars six xx")):
        assert run_log.bar_format(width, 400, texts) == expected
    assert run_log.bar_format(90, None, texts) == "step {n_fmt} four fourteen chars six xx"


def draw_bar(width, total, step, *shown):
    """The lines that a terminal of a width gets of a bar at a step, the last one as is. shown:
    arguments of show_progress."""
    pty, termios, fcntl = (pytest.importorskip(name) for name in ("pty", "termios", "fcntl"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with open(slave, "w", encoding="utf-8") as stream:
        with create_progress_bar(total, 0, "step", stream, leave=True) as bar:
            bar.update(step)
            run_log.show_progress(bar, *shown)
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(master, 4096)
    os.close(master)
    return [line for line in re.split(r"[\r\n]+", text.decode()) if line.strip()]


@pytest.mark.parametrize("width, expected", [
    (40, "199950/200000 gen_loss_L1 0.346"),
    (60, "199950/200000 gen_loss_L1 0.346 9h59m left epoch 500"),
    (80, "199950/200000 gen_loss_L1 0.346 9h59m left discrim_loss 0.552 gen_loss_GAN 2.38"),
    (100, "199950/200000 gen_loss_L1 0.346 9h59m left discrim_loss 0.552 gen_loss_GAN 2.38 "
     "epoch 500"),
    (130, "199950/200000 gen_loss_L1 0.346 9h59m left discrim_loss 0.552 gen_loss_GAN 2.38 "
     "epoch 500 6.1 image/s")])
@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
def test_the_longest_bar_of_a_long_run_fits_the_terminal(width, expected):
    line = draw_bar(width, 200000, 199950, Progress(500, 20, 6.1, 35960.0), LOSSES)[-1]
    assert len(line) <= width and line.endswith(expected)
    assert ("100%|" in line) == (width == 130)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_every_bar_shows_the_l1_loss_whole(width):
    """With more losses, at the first step, and in a run without an end."""
    losses = {**LOSSES, "gen_loss_L1": 1.23e-05, "gen_loss_feature": 0.123}
    for total, step, progress in ((200000, 7, Progress(1, 7)), (None, 123456, Progress(9, 1, 6.1)),
                                  (9, 9, Progress(1, 9, 0.04, 0.0))):
        lines = draw_bar(width, total, step, progress, losses)
        assert all(len(line) <= width for line in lines)
        assert "gen_loss_L1 1.23e-05" in lines[-1] and str(step) in lines[-1]
        assert all(re.fullmatch(r"[\d.e+-]+", value)  # none is cut off
                   for value in re.findall(r"loss\w* (\S+)", lines[-1]))
        assert ("left" in lines[-1]) == (progress.remaining is not None)
        assert "image/s" not in lines[-1] if progress.rate is None else True
