"""Every row of the family: trains, tests, exports and is loaded again, end to end."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

import pix2pix
from conftest import ROOT

ROWS = [  # flags; together every value of every option of the family
    "",
    "--crop_size 96 --patch_size 1",
    "--patch_size 16 --unconditional --feature_weight 10",
    "--patch_size 34 --gan_loss lsgan --label_smoothing 0.1",
    "--patch_size 142 --crop_size 128 --gan_loss hinge --l1_weight 0",
    "--patch_size 286 --crop_size 160 --discrim_weight 0.5",
    "--gan_weight 0 --generator encoder_decoder",
    "--generator resnet --padding reflect --norm instance",
    "--generator resnet --separable_conv --no_dropout",
    "--upsample resize --norm none --padding reflect",
    "--separable_conv --bottleneck_norm --test_dropout",
    "--ema_generator 0.9 --lr_decay linear --decay_from 5",
    "--grad_accumulation 2 --lr_decay cosine --decay_from_epoch 3 --norm instance",
    "--diffaugment --augment vflip rot90 scale brightness contrast noise",
    "--lab_colorization --which_direction AtoB --generator encoder_decoder --upsample resize "
    "--crop_size 96 --aspect_ratio 2",  # the sample's 192x96 pairs as single images
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The drawn sample: sample/train and sample/val."""
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "tools/make-sample.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    folder = tmp_path_factory.mktemp("family") / "sample"
    assert tool.main(["--output_dir", str(folder), "--num_train", "4", "--num_val", "1",
                      "--size", "96"]) == 0
    return folder


def run(*arguments):
    assert pix2pix.main([str(argument) for argument in arguments]) == 0


def pixels(source):
    with Image.open(source) as image:
        return np.asarray(image.convert("RGB"), int)


@pytest.mark.parametrize("flags", ROWS, ids=lambda flags: flags[:60] or "defaults")
def test_a_row_of_the_family(sample, tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    run("--mode", "train", "--input_dir", sample / "train", "--output_dir", "run", "--ngf", 3,
        "--ndf", 2, "--max_steps", 20, "--seed", 5, "--which_direction", "BtoA", "--crop_size", 64,
        "--summary_freq", 0, *flags.split())
    explicit = pix2pix.create_parser().parse_args(["--mode", "train", *flags.split()])
    stored = json.loads((tmp_path / "run/options.json").read_text())
    assert all(stored[name] == value for name, value in vars(explicit).items()
               if f"--{name} " in f"{flags} " and name != "decay_from_epoch")
    shape = ["--aspect_ratio", explicit.aspect_ratio, "--seed", 5]
    run("--mode", "test", "--input_dir", sample / "val", "--checkpoint", "run", "--output_dir",
        "out", *shape)
    run("--mode", "export", "--checkpoint", "run", "--output_dir", "export", "--export_format",
        "saved_model", *shape)
    assert "largest difference" in capsys.readouterr().out
    inputs, outputs = sorted((tmp_path / "out/images").glob("*puts.png"))
    source = next((sample / "val").iterdir()) if explicit.lab_colorization else inputs
    (tmp_path / "again.png").write_bytes(pix2pix.load_export("export")(source.read_bytes()))
    expected, got = pixels(outputs), pixels("again.png")
    size = stored["crop_size"]
    assert expected.shape == got.shape == (size, round(size * explicit.aspect_ratio), 3)
    # inputs were rounded to 8 bits on their way through the file
    assert np.abs(expected - got).mean() < (12 if explicit.test_dropout else 1)
    assert np.abs(expected - pixels(source)).mean() > 2
