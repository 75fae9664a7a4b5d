"""tools/inspect-checkpoint.py: what it says of every kind of model."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pix2pix

ROOT = Path(pix2pix.__file__).resolve().parent
SHARED = ROOT.parent / "shared" / "compat"
spec = importlib.util.spec_from_file_location("inspect_tool", ROOT / "tools/inspect-checkpoint.py")
inspect_tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(inspect_tool)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with run/, of two steps, and export/ in the formats that hold variables."""
    root = tmp_path_factory.mktemp("inspect")
    (root / "pairs").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (32, 64, 3), np.uint8)
    Image.fromarray(pixels).save(root / "pairs/1.png")
    assert pix2pix.main(["--mode", "train", "--input_dir", str(root / "pairs"), "--output_dir",
                         str(root / "run"), "--crop_size", "32", "--ngf", "2", "--ndf", "3",
                         "--max_steps", "2", "--save_freq", "1", "--seed", "2", "--patch_size",
                         "16", "--padding", "reflect", "--ema_generator", "0.9"]) == 0
    assert pix2pix.main(["--mode", "export", "--checkpoint", str(root / "run"), "--output_dir",
                         str(root / "export"), "--export_format", "saved_model",
                         "affinelayer"]) == 0
    return root


def describe(capsys, *arguments):
    """What the tool prints, as {key: value} and the lines of variables."""
    capsys.readouterr()
    assert inspect_tool.main([str(argument) for argument in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return (dict(line.split(" = ", 1) for line in lines if " = " in line),
            [line for line in lines if " = " not in line])


def count_unet32(ngf):
    """Weights of the U-Net of 32x32 images, five layers deep, by its widths."""
    encoder = [3, ngf, 2 * ngf, 4 * ngf, 8 * ngf, 8 * ngf]
    decoder = [(8, 8), (16, 4), (8, 2), (4, 1)]
    pairs = [*zip(encoder, encoder[1:]), *((a * ngf, b * ngf) for a, b in decoder), (2 * ngf, 3)]
    norms = sum(encoder[2:5]) + sum(b * ngf for _, b in decoder)
    return sum(16 * one * other + other for one, other in pairs) + 2 * norms


def test_a_training_folder(model, capsys):
    shown, variables = describe(capsys, model / "run", "--variables")
    assert shown["file"].endswith("run/model-2") and shown["steps"] == "2"
    assert (shown["ngf"], shown["ndf"], shown["patch_size"]) == ("2", "3", "16")
    assert (shown["padding"], shown["ema_generator"]) == ("reflect", "0.9")
    assert int(shown["generator_weights"]) == count_unet32(2)
    # C3-C6 and the logit: kernels, biases, one norm
    assert int(shown["discriminator_weights"]) == 16 * (6 * 3 + 3 * 6 + 6) + 3 + 6 + 1 + 12
    assert len(variables) == int(shown["variables"])
    assert "generator/encoder_1/conv2d/kernel 4x4x3x2" in variables
    assert "global_step scalar" in variables
    size = sum(path.stat().st_size for path in (model / "run").glob("model-2.*"))
    assert int(shown["bytes"]) == size


def test_a_prefix_names_an_earlier_checkpoint(model, capsys):
    assert describe(capsys, model / "run/model-1")[0]["steps"] == "1"
    assert describe(capsys, model / "run/model-1.index")[0]["steps"] == "1"


@pytest.mark.parametrize("name", ["export", "export/saved_model.pb", "export/export.index"])
def test_exports_tell_by_their_variables(model, capsys, name):
    shown, _ = describe(capsys, model / name)
    assert (shown["generator"], shown["crop_size"], shown["ngf"]) == ("unet", "32", "2")
    assert int(shown["generator_weights"]) == count_unet32(2)
    assert shown["discriminator_weights"] == "0" and "steps" not in shown


def test_a_pict_file(tmp_path, capsys):
    arrays = {"generator/encoder_1/conv2d/kernel": np.ones([4, 4, 3, 5], np.float32),
              "generator/decoder_1/conv2d_transpose/kernel": np.ones([4, 4, 3, 10], np.float32)}
    (tmp_path / "x.pict").write_bytes(pix2pix.encode_pict(arrays))
    shown, _ = describe(capsys, tmp_path / "x.pict")
    assert (shown["ngf"], shown["generator_weights"]) == ("5", str(4 * 4 * 3 * 15))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_affinelayers_files(capsys):
    shown, _ = describe(capsys, SHARED / "lab/checkpoint")
    assert (shown["lab_colorization"], shown["bottleneck_norm"]) == ("True", "True")
    assert shown["steps"] == "100" and shown["ngf"] == "4"
    shown, variables = describe(capsys, SHARED / "pict/doodle2face_ngf16.pict", "--variables")
    assert shown["ngf"] == "16"
    inferred = (SHARED / "pict/tensors.txt").read_text().splitlines()
    assert len(variables) == len(inferred) == 88
    for line, expected in zip(variables, inferred):
        name, shape = expected.split(" ", 1)
        assert line == f"{name} {'x'.join(map(str, json.loads(shape)))}"


def test_mistakes_are_one_line(tmp_path, capsys):
    (tmp_path / "x.txt").write_text("")
    for path, part in (("gone", "does not exist"), ("x.txt", "is no checkpoint"), ("", "holds no")):
        assert inspect_tool.main([str(tmp_path / path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and part in error
