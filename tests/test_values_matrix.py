"""Channels, types, ranges, missing values, masks and labels on either side, in combination: each
trains two steps and is tested, or is refused with a line that says what to change."""

import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import SMALL, run

from tools.lib.stored import encode_stored, read_stored

pytestmark = pytest.mark.usefixtures("in_empty_folder")
SHAPE = (40, 48)  # height, width


class Kind(NamedTuple):
    """What the files of a side hold."""

    dtype: str
    channels: int
    highest: float = 255
    is_labels: bool = False


KINDS = {
    "grey": Kind("uint8", 1), "RGB": Kind("uint8", 3), "RGB and alpha": Kind("uint8", 4),
    "six bytes": Kind("uint8", 6), "depth": Kind("uint16", 1, 9000),
    "RGB 16": Kind("uint16", 3, 65535),
    "grey and alpha 16": Kind("uint16", 2, 65535), "float": Kind("float32", 1, 9),
    "two floats": Kind("float32", 2, 9), "eight floats": Kind("float32", 8, 9),
    "indices": Kind("uint8", 1, 3, True), "colours": Kind("uint8", 3, 3, True)}
COLOURS = np.array([[0, 0, 0], [250, 0, 9], [7, 200, 100], [90, 90, 255]], np.uint8)  # of classes
RANGES = ["none", "given", "narrow"]
IGNORED = ["none", "zero"]
MASKS = ["no mask", "mask"]
RESIZES = ["stretch", "pad", "none"]


def draw_side(folder, name, seed):
    """Three images of a kind, a quarter of whose pixels are 0."""
    kind, rng = KINDS[name], np.random.default_rng(seed)
    Path(folder).mkdir()
    for number in range(3):
        pixels = rng.uniform(1, kind.highest, (*SHAPE, 1 if kind.is_labels else kind.channels))
        pixels[rng.random(SHAPE) < 0.25] = 0
        pixels = pixels.astype(kind.dtype)
        contents = encode_stored(COLOURS[pixels[..., 0]] if name == "colours" else pixels)
        ending = "npy" if contents.startswith(b"\x93NUMPY") else "png"
        Path(folder, f"{number}.{ending}").write_bytes(contents)


def flags_of(side, name, value_range, ignored):
    """The flags of a side."""
    highest = KINDS[name].highest
    high = {"given": highest, "narrow": highest / 2, "none": None}[value_range]
    labels = 4
    if name == "colours":
        labels = f"{side}.txt"
        Path(labels).write_text("".join(f"{','.join(map(str, colour))}\n" for colour in COLOURS))
    return [*([f"--{side}_range", 0, high] if high else []),
            *([f"--{side}_ignore", 0] if ignored == "zero" else []),
            *([f"--{side}_labels", labels] if KINDS[name].is_labels else [])]


def find_refusal(a, b, a_range, b_range, a_ignored, mask):
    """Part of the line with which a case is refused; None where it is trained."""
    for side, name, value_range in (("a", a, a_range), ("b", b, b_range)):
        if KINDS[name].is_labels and value_range != "none":
            return f"--{side}_range contradicts --{side}_labels, whose classes are the channels"
    no_mask = "--mask_channel needs inputs that may have no measurement: give --a_ignore"
    if mask == "mask" and a_ignored == a_range == "none":
        return no_mask
    for side, name, value_range in (("A", a, a_range), ("B", b, b_range)):
        if KINDS[name].dtype == "float32" and value_range == "none":
            return f"images of {side} hold floating-point values"
    has_mask = a_ignored == "zero" or KINDS[a].dtype == "float32"
    return no_mask if mask == "mask" and not has_mask else None


def cases():
    """Every pair of values of two kinds occurs, and more."""
    every = itertools.product(KINDS, KINDS, RANGES, RANGES, IGNORED, IGNORED, MASKS, RESIZES)
    drawn = [case for number, case in enumerate(every) if number % 109 == 0 or number % 137 == 0]
    return [pytest.param(*case, marks=[pytest.mark.slow] * (number % 20 > 0))
            for number, case in enumerate(drawn)]


@pytest.mark.parametrize("a, b, a_range, b_range, a_ignored, b_ignored, mask, resize", cases())
def test_a_case_keeps_what_its_files_hold_or_is_refused(
        capsys, a, b, a_range, b_range, a_ignored, b_ignored, mask, resize):
    draw_side("a", a, 1)
    draw_side("b", b, 2)
    folders = ["--a_dir", "a", "--b_dir", "b"]
    flags = [*flags_of("a", a, a_range, a_ignored), *flags_of("b", b, b_range, b_ignored),
             *["--mask_channel"] * (mask == "mask")]
    code = run("--mode", "train", "--output_dir", "run", *folders, *SMALL, "--resize", resize,
               "--max_steps", 2, "--progress_freq", 1, *flags)
    printed = capsys.readouterr()
    refusal = find_refusal(a, b, a_range, b_range, a_ignored, mask)
    if refusal:
        assert code == 2 and refusal in printed.err and "Traceback" not in printed.err
        assert not Path("run").exists()
        return
    assert code == 0, printed.err
    assert "nan" not in Path("run/log.csv").read_text()
    for side, value_range in (("A", a_range), ("B", b_range)):
        is_byte = KINDS[a if side == "A" else b].dtype == "uint8"
        text = f"values of {side} {'outside' if is_byte else 'go up to'}"
        assert (text in printed.out) == (value_range == "narrow"), printed.out
    assert run("--mode", "test", "--checkpoint", "run", "--output_dir", "out", *folders) == 0
    found = json.loads(Path("out/metrics.json").read_text())
    is_photo = b in ("grey", "RGB", "RGB and alpha", "RGB 16") and (b_range, b_ignored) == (
        "none", "none")
    metric = "mean_iou" if KINDS[b].is_labels else "psnr" if is_photo else "rmse"
    assert {"mean_iou", "psnr", "rmse"} & {*found} == {metric}
    for kind, name, ignored in (("inputs", a, a_ignored), ("outputs", b, "none"),
                                ("targets", b, b_ignored)):
        path, = (path for path in Path("out/images").glob(f"0-{kind}.*"))
        pixels, held = read_stored(path).pixels, KINDS[name]
        channels = 3 if name == "RGB and alpha" else held.channels
        assert (pixels.dtype, pixels.shape[2]) == (held.dtype, channels), path
        missing = (pixels == 0).any(axis=2)
        if held.is_labels:
            allowed = COLOURS if name == "colours" else np.arange(4)[:, np.newaxis]
            assert {*map(tuple, pixels.reshape(-1, pixels.shape[2]).tolist())} \
                <= {*map(tuple, allowed.tolist())}
            continue
        assert kind == "outputs" or resize == "none" or missing.mean() < 0.25 or ignored == "none"
        if ignored == "zero" and resize == "none":
            source = read_stored(next(Path("a" if kind == "inputs" else "b").glob("0.*"))).pixels
            if name != "RGB and alpha":
                np.testing.assert_array_equal(missing, (source == 0).any(axis=2))


def test_the_cases_hold_every_pair_of_values():
    values = [case.values for case in cases()]
    kinds = [[*KINDS], [*KINDS], RANGES, RANGES, IGNORED, IGNORED, MASKS, RESIZES]
    for one, other in itertools.combinations(range(len(kinds)), 2):
        found = {(case[one], case[other]) for case in values}
        missing = {*itertools.product(kinds[one], kinds[other])} - found
        assert len(missing) <= 0.1 * len(kinds[one]) * len(kinds[other]), missing
