"""tools/inspect-checkpoint.py: what it prints about every kind of model."""

import importlib
import json
import shutil

import models
import numpy as np
import pytest
from helpers import SHARED

from tools.lib.checkpoints import encode_pict
from tools.lib.tf1 import tf

COMPAT = SHARED / "compat"
inspect_tool = importlib.import_module("tools.inspect-checkpoint")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with run/, of two steps, and export/."""
    return models.small_model(tmp_path_factory)


def describe(capsys, *arguments):
    """What the tool prints: key -> value, and the lines of variables."""
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


def test_a_training_folder(model, tmp_path, capsys):
    run_dir = shutil.copytree(model / "run", tmp_path / "run")
    stored = json.loads((run_dir / "options.json").read_text())
    # what variables do not show
    (run_dir / "options.json").write_text(json.dumps({**stored, "padding": "reflect"}))
    shown, variables = describe(capsys, run_dir, "--variables")
    assert shown["file"].endswith("run/model-2") and shown["steps"] == "2"
    assert (shown["ngf"], shown["ndf"], shown["patch_size"]) == ("2", "3", "16")
    assert (shown["padding"], shown["ema_generator"]) == ("reflect", "0.9")
    assert int(shown["generator_weights"]) == count_unet32(2)
    # C3-C6 and the logit: kernels, biases, one norm
    assert int(shown["discriminator_weights"]) == 16 * (6 * 3 + 3 * 6 + 6) + 3 + 6 + 1 + 12
    assert len(variables) == int(shown["variables"])
    assert "generator/encoder_1/conv2d/kernel 4x4x3x2" in variables
    assert "global_step scalar" in variables
    size = sum(path.stat().st_size for path in run_dir.glob("model-2.*"))
    assert int(shown["bytes"]) == size


def test_a_prefix_names_an_earlier_checkpoint(model, capsys):
    assert describe(capsys, model / "run/model-1")[0]["steps"] == "1"
    assert describe(capsys, model / "run/model-1.index")[0]["steps"] == "1"
    assert describe(capsys, model / "run/model-1.data-00000-of-00001")[0]["steps"] == "1"
    assert describe(capsys, model / "run/checkpoint")[0]["steps"] == "2"


@pytest.mark.parametrize("name", ["export", "export/saved_model.pb", "export/export.index"])
def test_exports_are_described_by_their_variables(model, capsys, name):
    shown, _ = describe(capsys, model / name)
    assert (shown["generator"], shown["crop_size"], shown["ngf"]) == ("unet", "32", "2")
    assert int(shown["generator_weights"]) == count_unet32(2)
    assert shown["discriminator_weights"] == "0" and "steps" not in shown


def test_a_pict_file(tmp_path, capsys):
    arrays = {"generator/encoder_1/conv2d/kernel": np.ones([4, 4, 3, 5], np.float32),
              "generator/decoder_1/conv2d_transpose/kernel": np.ones([4, 4, 3, 10], np.float32)}
    (tmp_path / "x.pict").write_bytes(encode_pict(arrays))
    shown, _ = describe(capsys, tmp_path / "x.pict")
    assert (shown["ngf"], shown["generator_weights"]) == ("5", str(4 * 4 * 3 * 15))


@pytest.mark.skipif(not COMPAT.exists(), reason="needs ../shared")
def test_affinelayers_files(capsys):
    shown, _ = describe(capsys, COMPAT / "lab/checkpoint")
    assert (shown["lab_colorization"], shown["bottleneck_norm"]) == ("True", "True")
    assert shown["steps"] == "100" and shown["ngf"] == "4"
    shown, variables = describe(capsys, COMPAT / "pict/doodle2face_ngf16.pict", "--variables")
    assert shown["ngf"] == "16"
    inferred = (COMPAT / "pict/tensors.txt").read_text().splitlines()
    assert len(variables) == len(inferred) == 88
    for line, expected in zip(variables, inferred):
        name, shape = expected.split(" ", 1)
        assert line == f"{name} {'x'.join(map(str, json.loads(shape)))}"


def test_a_model_of_another_program_is_listed_and_said_to_be_one(tmp_path, capsys):
    with tf.Graph().as_default(), tf.Session() as sess:
        sess.run(tf.raw_ops.SaveV2(prefix=str(tmp_path / "model-3"), tensor_names=["a/weights"],
                                   shape_and_slices=[""], tensors=[np.ones([2, 3])]))
    assert inspect_tool.main([str(tmp_path), "--variables"]) == 0
    printed = capsys.readouterr()
    assert printed.err == (f"inspect-checkpoint.py: {tmp_path / 'model-3'} is a model of another "
                           "program, with variables such as a/weights\n")
    assert printed.out.endswith("variables = 1\na/weights 2x3\n")


def test_mistakes_are_one_line(tmp_path, capsys):
    (tmp_path / "x.txt").write_text("")
    for path, part in (("gone", "does not exist"), ("x.txt", "it is an empty file"),
                       ("", "contains no checkpoint")):
        assert inspect_tool.main([str(tmp_path / path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and part in error
