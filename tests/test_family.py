"""Every row of the family: trains, tests, exports and is loaded again, end to end."""

import json

import numpy as np
import pytest
from helpers import load_tool, read_pixels, run

import pix2pix
from tools.lib.options import MODEL_OPTIONS, TRAINING_OPTIONS

DEFAULTS = "--crop_size 64 --ngf 3 --ndf 2 --max_steps 8 --seed 5 --which_direction BtoA " \
    "--summary_freq 0 "  # of the rows
ROWS = [  # flags; together every value of every option of the family
    "--crop_size 96 --patch_size 1 --ema_generator 0.9 --lr_decay linear --decay_from 5",
    "--patch_size 16 --unconditional --feature_weight 10 --diffaugment "
    "--augment vflip rot90 scale brightness contrast noise",
    "--patch_size 34 --gan_loss lsgan --label_smoothing 0.1 --upsample resize --norm none "
    "--padding reflect",
    "--patch_size 142 --crop_size 128 --gan_loss hinge --l1_weight 0 --separable_conv "
    "--bottleneck_norm --test_dropout",
    "--patch_size 286 --crop_size 160 --discrim_weight 0.5 --grad_accumulation 2 "
    "--lr_decay cosine --decay_from_epoch 3 --norm instance",
    "--gan_weight 0 --generator encoder_decoder --resize none --a_channels 1 --b_channels 4",
    "--generator resnet --padding reflect --norm instance --resize pad --a_channels 4",
    "--generator resnet --separable_conv --no_dropout --resize crop --b_channels 1",
    "--a_channels 3 --b_channels 3 --which_direction AtoB",
    "--a_range 0 240 --a_ignore 255 --b_range -20 300 --b_ignore 0 1 --mask_channel",
    "--a_labels classes.txt --a_nearest --b_nearest",
    "--b_labels classes.txt --b_nearest --which_direction AtoB --a_labels classes.txt --a_nearest",
    "--lab_colorization --which_direction AtoB --generator encoder_decoder --upsample resize "
    "--crop_size 96 --aspect_ratio 2 --layout single",  # the sample's 192x96 pairs as single images
]


def parse(flags):
    """The options of a row."""
    return pix2pix.create_parser().parse_args(["--mode", "train", *(DEFAULTS + flags).split()])


def test_rows_have_every_value_of_every_option():
    rows = [vars(parse(flags)) for flags in ROWS]
    for action in pix2pix.create_parser()._actions:
        if action.dest in {*MODEL_OPTIONS, *TRAINING_OPTIONS}:
            values = [row[action.dest] for row in rows]
            used = {value for row in values for value in (row if isinstance(row, list) else [row])}
            assert used >= {*(action.choices or [])}, action.dest
            assert len(used) > 1 or action.dest in ("ngf", "ndf"), action.dest


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The drawn sample: sample/train and sample/val."""
    folder = tmp_path_factory.mktemp("family") / "sample"
    assert load_tool("make-sample.py").main([
        "--output_dir", str(folder), "--num_train", "4", "--num_val", "1", "--size", "96"]) == 0
    return folder


@pytest.mark.parametrize("flags", ROWS, ids=lambda flags: flags[:60])
def test_a_row_of_the_family(sample, tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.txt").write_text("0,0,222 background\n0,48,255\n255,80,0\n175,0,0\n")
    assert run("--mode", "train", "--input_dir", sample / "train", "--output_dir", "run",
               *(DEFAULTS + flags).split()) == 0
    explicit = parse(flags)
    stored = json.loads((tmp_path / "run/options.json").read_text())
    assert all(stored[name] == value for name, value in vars(explicit).items()
               if f"--{name} " in f"{DEFAULTS}{flags} " and name != "decay_from_epoch")
    shape = ["--aspect_ratio", explicit.aspect_ratio, "--seed", 5]
    assert run("--mode", "test", "--input_dir", sample / "val", "--checkpoint", "run",
               "--output_dir", "out", *shape) == 0
    assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
               "--export_format", "saved_model", *shape) == 0
    assert ", allowed " in capsys.readouterr().out
    inputs, outputs = sorted((tmp_path / "out/images").glob("*puts.png"))
    source = next((sample / "val").iterdir()) if explicit.lab_colorization else inputs
    expected = read_pixels(outputs)
    got = read_pixels(pix2pix.load_model("export").generate(source.read_bytes()))
    size = stored["crop_size"] if explicit.resize != "none" else 96
    assert expected.shape == got.shape == (size, round(size * explicit.aspect_ratio), 3)
    # inputs were rounded to 8 bits on their way through the file
    assert np.abs(expected - got).mean() < (12 if explicit.test_dropout else 1)
    assert np.abs(expected - read_pixels(source)).mean() > 2
