"""Checkpoints of all generations and .pict files: names, values, what is missing, errors."""

import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import (SHARED, build_once, filled, load_tool, read_page_data, read_variables,
                     run)
from PIL import Image

import pix2pix
from tools.lib.checkpoints import (
    EMA_SUFFIX, encode_pict, explain_mismatch, infer_options, open_checkpoint, read_pict)
from tools.lib.cli import with_options
from tools.lib.dataset import FoundSide, with_sides
from tools.lib.image_types import SIDE_OPTIONS, choose_pair
from tools.lib.options import MODEL_OPTIONS
from tools.lib.tf1 import tf

PICT_DIR = SHARED / "compat" / "pict"


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with images/, and run/: a model with batch norm everywhere, as affinelayer's."""
    def build(root):
        (root / "images").mkdir()
        pixels = np.random.default_rng(1).integers(0, 256, (2, 16, 32, 3), np.uint8)
        for number, image in enumerate(pixels):
            Image.fromarray(image).resize((64, 32)).save(root / "images" / f"{number}.png")
        assert run("--mode", "train", "--input_dir", root / "images", "--output_dir", root / "run",
                   "--crop_size", 32, "--ngf", 3, "--ndf", 2, "--bottleneck_norm", "--seed", 3,
                   "--max_steps", 2, "--ema_generator", 0.5) == 0
    return build_once(tmp_path_factory, "checkpoints", build)


def write(folder, arrays, options=None):
    """A checkpoint model-7 with these variables and, unless None, an options.json."""
    folder.mkdir()
    tf.raw_ops.SaveV2(prefix=str(folder / "model-7"), tensor_names=[*arrays],
                      shape_and_slices=[""] * len(arrays), tensors=[*arrays.values()])
    tf.train.update_checkpoint_state(str(folder), "model-7", ["model-7"])
    if options is not None:
        (folder / "options.json").write_text(json.dumps(options))
    return folder


def outputs(model, checkpoint, out, *flags):
    """The images that a checkpoint gives, [batch, height, width, 3]."""
    assert run("--mode", "test", "--input_dir", model / "images", "--checkpoint", checkpoint,
               "--output_dir", out, *flags) == 0
    return np.stack([np.asarray(Image.open(path), int)
                     for path in sorted((out / "images").glob("*-outputs.png"))])


def plain(arrays):
    """Without averages of weights."""
    return {name: array for name, array in arrays.items()
            if not (name.startswith("generator/") and name.endswith(EMA_SUFFIX))}


OLD = {"conv2d/kernel": "conv/filter", "conv2d_transpose/kernel": "deconv/filter",
       "batch_normalization/beta": "batchnorm/offset",
       "batch_normalization/gamma": "batchnorm/scale"}


def old_generation(arrays):
    """The variables under the names of affinelayer's first script, without biases."""
    renamed = {}
    for name, array in arrays.items():
        new, = [part for part in [*OLD, ""] if f"/{part}/" in f"/{name}/"][:1] or [""]
        if "bias" not in name:
            renamed[name.replace(new, OLD[new]) if new else name] = array
    return renamed


def test_the_oldest_names_load_and_missing_biases_are_zero(model, tmp_path, capsys):
    arrays = plain(read_variables(model / "run"))
    no_bias = {name: np.zeros_like(array) if name.endswith("/bias") else array
               for name, array in arrays.items()}
    stored = {"ngf": 3, "ndf": 2, "crop_size": 32}  # missing keys: affinelayer's behaviour
    expected = outputs(model, write(tmp_path / "new", no_bias, stored), tmp_path / "out1")
    old = write(tmp_path / "old", old_generation(arrays), stored)
    assert "generator/decoder_2/deconv/filter" in read_variables(old)
    assert not any("conv2d" in name for name in read_variables(old))
    np.testing.assert_array_equal(outputs(model, old, tmp_path / "out2"), expected)
    capsys.readouterr()
    assert run("--mode", "train", "--input_dir", model / "images", "--checkpoint", old,
               "--output_dir", tmp_path / "more", "--max_steps", 1, "--lr", 1e-9) == 0
    printed = capsys.readouterr().out
    # Adam's state of the kernels came along, that of the new biases is new
    assert re.search(r"starting from new values: 15 of Adam, 15 of Adam_1\n", printed)
    more = read_variables(tmp_path / "more")
    assert more["global_step"] == 3
    np.testing.assert_allclose(more["discriminator/layer_2/conv2d/kernel"],
                               arrays["discriminator/layer_2/conv2d/kernel"], atol=1e-7)
    slot = "generator/encoder_3/conv2d/kernel/Adam_1"
    assert (more[slot] >= 0.998 * arrays[slot]).all()  # a step keeps 0.999 of it and adds


def test_what_is_missing_on_either_side_is_named_once(model, tmp_path, capsys):
    arrays = plain(read_variables(model / "run"))
    del arrays["discriminator/layer_2/conv2d/bias"]
    arrays["generator/encoder_2/batch_normalization/moving_mean"] = np.zeros(6, np.float32)
    arrays["stranger"] = np.zeros(2, np.float32)
    folder = write(tmp_path / "odd", arrays, {"ngf": 3, "ndf": 2, "crop_size": 32})
    capsys.readouterr()
    assert run("--mode", "train", "--input_dir", model / "images", "--checkpoint", folder,
               "--output_dir", tmp_path / "more", "--max_steps", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ("not in the checkpoint, starting from new values: discriminator/layer_2/conv2d/bias"
            in lines)
    assert "in the checkpoint, not used: stranger, 1 of moving_mean" in lines
    outputs(model, folder, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "checkpoint," in line] == [
        "in the checkpoint, not used: 1 of moving_mean"]  # a test needs no discriminator


@pytest.mark.parametrize("change, first, hint", [
    (dict(ngf=5), "generator/encoder_1/conv2d/kernel of shape [4, 4, 3, 3], the model [4, 4, 3, 5]",
     "--ngf 3? its options say 5"),
    (dict(generator="encoder_decoder"), "generator/decoder_4/conv2d_transpose/kernel of shape "
     "[4, 4, 12, 48], the model [4, 4, 12, 24]", "--generator unet?"),
    (dict(upsample="resize"), "lacks generator/decoder_5/conv2d/kernel", "--upsample deconv?"),
    (dict(norm="none", bottleneck_norm=False), None, None),
    (dict(separable_conv=True), "lacks generator/encoder_1/separable_conv2d/depthwise_kernel",
     "no --separable_conv? its options say True"),
    (dict(crop_size=64), "lacks generator/encoder_6/conv2d/kernel", "--crop_size 32?"),
    (dict(lab_colorization=True), "[4, 4, 3, 3], the model [4, 4, 1, 3]", "--lab_colorization?")])
def test_another_shape_names_variable_shapes_and_option(model, tmp_path, capsys, change, first,
                                                        hint):
    stored = {"ngf": 3, "ndf": 2, "crop_size": 32, **change}
    folder = write(tmp_path / "other", plain(read_variables(model / "run")), stored)
    code = run("--mode", "test", "--input_dir", model / "images", "--checkpoint", folder,
               "--output_dir", tmp_path / "out",
               *["--layout", "single"] * ("lab_colorization" in change))
    printed = capsys.readouterr()
    if first is None:  # fits, and says what it leaves
        assert code == 0 and "not used: generator/decoder_2/batch_normalization" in printed.out
    else:
        assert code == 2 and first in printed.err and hint in printed.err
        assert printed.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_checkpoint_without_options_is_read_from_its_variables(model, tmp_path):
    arrays = plain(read_variables(model / "run"))
    expected = outputs(model, write(tmp_path / "with", arrays, {
        "ngf": 3, "ndf": 2, "crop_size": 32, "which_direction": "BtoA"}), tmp_path / "out1")
    bare = write(tmp_path / "bare", arrays)
    got = outputs(model, bare, tmp_path / "out2", "--which_direction", "BtoA")
    np.testing.assert_array_equal(got, expected)
    prefix = outputs(model, bare / "model-7", tmp_path / "out3", "--which_direction", "BtoA")
    np.testing.assert_array_equal(prefix, expected)
    other = outputs(model, bare, tmp_path / "out4")  # AtoB
    assert np.abs(other - expected).max() > 5


def test_sizes_of_one_table_explain_nothing(options):
    def shapes_of(size):
        """The shapes of the generator's variables."""
        with tf.Graph().as_default():
            pix2pix.create_outputs(tf.zeros([1, size, size, 3]),
                                   with_options(options, crop_size=size))
            return {variable.op.name: variable.shape.as_list()
                    for variable in tf.trainable_variables()}
    stored = shapes_of(128)  # seven layers, as for three times 128
    for size, expected in ((384, "it is another model's"), (128, "it is another model's"),
                           (256, "--crop_size 128? its options say 256"),
                           (96, "--crop_size 128? its options say 96")):
        sized = with_options(options, crop_size=size)
        assert explain_mismatch(stored, shapes_of(size), sized) == expected


@pytest.mark.parametrize("flags", [
    "", "--generator encoder_decoder", "--generator resnet", "--generator resnet --crop_size 128",
    "--upsample resize --crop_size 64", "--norm instance", "--norm none", "--bottleneck_norm",
    "--separable_conv", "--patch_size 1", "--patch_size 16", "--patch_size 286", "--unconditional",
    "--lab_colorization", "--lab_colorization --which_direction BtoA", "--ngf 5 --ndf 3"])
def test_options_are_inferred_from_variables(tmp_path, flags):
    options = pix2pix.parse_args([
        "--mode", "train", "--input_dir", str(tmp_path), "--ngf", "2", "--ndf", "4",
        "--output_dir", str(tmp_path / "run"), "--precision", "float32", *flags.split()])
    options = with_sides(options, [FoundSide()] * 2)
    size, pair = options.crop_size, choose_pair(options.lab_colorization, options.which_direction)
    with tf.Graph().as_default():
        inputs, targets = (tf.zeros([1, size, size, side.channels]) for side in pair[:2])
        pix2pix.create_outputs(inputs, options)
        pix2pix.discriminate(pix2pix.Examples([0], inputs, targets), targets, options, None)
        shapes = {variable.op.name: variable.shape.as_list()
                  for variable in tf.trainable_variables()}
    inferred = infer_options(shapes)
    assert inferred == {name: getattr(options, name) for name in inferred}
    of_files = {f"{side}_{name}" for side in "ab" for name in (*SIDE_OPTIONS[1:], "labels")}
    assert set(MODEL_OPTIONS) - set(inferred) <= {
        "which_direction", "padding", "mask_channel", *of_files}


def test_an_averaged_generator_serves_in_test_and_can_be_left(model, tmp_path):
    arrays = read_variables(model / "run")
    averages = {name.removesuffix(EMA_SUFFIX): array for name, array in arrays.items()
                if name.endswith(EMA_SUFFIX)}
    stored = {"ngf": 3, "ndf": 2, "crop_size": 32}
    expected = outputs(model, write(tmp_path / "averaged", {
        name: averages.get(name, array) for name, array in plain(arrays).items()}, stored),
        tmp_path / "out1")
    np.testing.assert_array_equal(outputs(model, model / "run", tmp_path / "out2"), expected)
    last = outputs(model, model / "run", tmp_path / "out3", "--ema_generator", 0)
    np.testing.assert_array_equal(
        last, outputs(model, write(tmp_path / "plain", plain(arrays), stored), tmp_path / "out4"))
    assert (last != expected).any()


def test_an_average_that_a_checkpoint_lacks_starts_from_its_weights(model, tmp_path):
    folder = write(tmp_path / "plain", plain(read_variables(model / "run")),
                   {"ngf": 3, "ndf": 2, "crop_size": 32})
    assert run("--mode", "train", "--input_dir", model / "images", "--checkpoint", folder,
               "--output_dir", tmp_path / "more", "--max_steps", 1, "--lr", 1e-9,
               "--ema_generator", 0.999) == 0
    more = read_variables(tmp_path / "more")
    name = "generator/encoder_2/conv2d/kernel"
    np.testing.assert_allclose(more[name + EMA_SUFFIX], more[name], atol=1e-7)


@pytest.mark.parametrize("state", [
    None, b'model_checkpoint_path: "/gone/facades_train/model-2"', b"", b"\xff\xfe", b"}}{{"])
def test_a_folder_that_was_moved_or_lost_its_state_file(model, tmp_path, state):
    arrays = plain(read_variables(model / "run"))
    folder = write(tmp_path / "moved", arrays, {"ngf": 3, "ndf": 2, "crop_size": 32})
    for path in folder.glob("model-7.*"):
        (folder / path.name.replace("-7", "-12")).write_bytes(path.read_bytes())
    (folder / "checkpoint").unlink()
    if state is not None:
        (folder / "checkpoint").write_bytes(state)
    (folder / "model-final.index").write_bytes(b"")
    assert open_checkpoint(folder).path == str(folder / "model-12")
    if state == b"\xff\xfe":  # a run in any of these folders would find the same
        assert run("--mode", "train", "--input_dir", model / "images", "--output_dir", folder,
                   "--resume", "--max_steps", 3) == 0
        assert open_checkpoint(folder).path == str(folder / "model-3")


@pytest.mark.parametrize("lines", [
    r'model_checkpoint_path: "C:\\runs\\facades_train\\model-7"',
    r'model_checkpoint_path: "facades_train\\model-7"',
    r'model_checkpoint_path: "D:/runs/facades_train/model-7"',
    r'model_checkpoint_path: "\\\\server\\runs\\model-7"'
    '\nall_model_checkpoint_paths: "model-12"\n'
    r'all_model_checkpoint_paths: "\\\\server\\runs\\model-7"'])
def test_a_state_file_of_windows_is_read_without_an_alarm(model, tmp_path, capfd, lines):
    folder = write(tmp_path / "run", plain(read_variables(model / "run")))
    for path in folder.glob("model-7.*"):  # a later one, which the state file does not name
        shutil.copy(path, folder / path.name.replace("-7", "-12"))
    (folder / "checkpoint").write_bytes(lines.replace("\n", "\r\n").encode() + b"\r\n")
    assert open_checkpoint(folder).path == str(folder / "model-7")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("state", [  # as an editor leaves it
    rb'model_checkpoint_path: "C:\runs\facades_train\model-7"',
    b'\xef\xbb\xbfmodel_checkpoint_path: "C:\\\\runs\\\\model-7"\r\n'])
def test_a_state_file_that_was_edited_is_read_or_ignored(model, tmp_path, capfd, state):
    folder = write(tmp_path / "run", plain(read_variables(model / "run")))
    (folder / "checkpoint").write_bytes(state)
    assert open_checkpoint(folder).path == str(folder / "model-7")
    assert capfd.readouterr() == ("", "")


# checkpoints of other programs


def refusal(capfd, model, checkpoint, *tools):
    """The line that all modes and these tools print of a checkpoint, after their names; nothing is
    created."""
    before, lines = sorted(Path().rglob("*")), []
    for mode in ("test", "train", "export"):
        capfd.readouterr()
        flags = [] if mode == "export" else ["--input_dir", model / "images"]
        flags += ["--max_steps", 1] if mode == "train" else []
        assert run("--mode", mode, "--checkpoint", checkpoint, "--output_dir", "out", *flags) == 2
        lines.append(capfd.readouterr().err)
    for tool in tools:
        assert tool.main([str(checkpoint)]) == 2
        lines.append(capfd.readouterr().err)
    assert sorted(Path().rglob("*")) == before
    texts = {line.split(": error: ", 1)[1] for line in lines}
    assert len(texts) == 1 and all(line.count("\n") == 1 for line in lines)
    return texts.pop().rstrip("\n")


def save_objects(prefix, count):
    """Saves checkpoints prefix-1, prefix-2, ... as TensorFlow's tutorial does."""
    import tensorflow
    layers = tensorflow.Module()
    layers.kernel = tensorflow.Variable(np.ones([4, 4, 3, 2], np.float32))
    checkpoint = tensorflow.train.Checkpoint(generator=layers)
    for _ in range(count):
        checkpoint.save(str(prefix))


@pytest.mark.parametrize("name", ["ckpt", "model"])
def test_the_tutorials_checkpoint_is_named(model, in_empty_folder, capfd, name):
    save_objects(f"training/{name}", 3)
    for checkpoint in ("training", f"training/{name}-3", f"training/{name}-3.index",
                       "training/checkpoint"):
        assert refusal(capfd, model, checkpoint, load_tool("inspect-checkpoint.py")) == (
            f"training/{name}-3 is a tf.train.Checkpoint of Keras layers, such as TensorFlow's "
            "pix2pix tutorial writes: this program cannot use it, train a model with --mode train")
    Path("training/options.json").write_text("{}")
    assert "tutorial" in refusal(capfd, model, "training", load_tool("inspect-checkpoint.py"))


@pytest.mark.parametrize("names, shown", [
    (["resnet/conv1/weights", "resnet/conv2/weights", "global_step"],
     "variables such as global_step, resnet/conv1/weights"),
    (["G/c7s1/weights", "F/c7s1/weights", "D_Y/C64/weights"],  # a CycleGAN
     "variables such as D_Y/C64/weights, F/c7s1/weights, G/c7s1/weights"),
    (["generator/encoder_1/conv2d/kernel", "generator/decoder_1/conv2d_transpose/kernel"],
     "variables such as generator/decoder_1/conv2d_transpose/kernel")])
def test_another_programs_variables_are_named(model, in_empty_folder, capfd, names, shown):
    write(Path("run"), {name: np.ones([4, 4, 3, 6], np.float32) for name in names})
    expected = f"run/model-7 is a model of another program, with {shown}: choose another"
    assert refusal(capfd, model, "run") == expected
    assert refusal(capfd, model, "run/model-7") == expected


@pytest.mark.parametrize("change, shown", [
    (lambda array: array.astype(np.int8), "of type int8, the model float32"),
    (lambda array: array > 0, "of type bool, the model float32"),
    (lambda array: array.astype(np.complex64), "of type complex64, the model float32"),
    (lambda array: np.full(array.shape, b"x", object), "of type string, the model float32"),
    (lambda array: np.array(b"x", object), "of shape [], the model [4, 4, 3, 3]")])
def test_a_weight_of_another_type_is_refused(model, in_empty_folder, capfd, change, shown):
    arrays = plain(read_variables(model / "run"))
    name = "generator/encoder_1/conv2d/kernel"
    write(Path("odd"), {**arrays, name: change(arrays[name])},
          {"ngf": 3, "ndf": 2, "crop_size": 32})
    assert refusal(capfd, model, "odd").startswith(f"odd/model-7 has {name} {shown}: ")


def test_other_floats_and_text_beside_the_weights_are_fine(model, in_empty_folder):
    arrays = plain(read_variables(model / "run"))
    stored = {"ngf": 3, "ndf": 2, "crop_size": 32}
    expected = outputs(model, write(Path("single"), arrays, stored), Path("one"))
    double = {name: array.astype(np.float64) if array.dtype == np.float32 else array
              for name, array in arrays.items()}
    double["note"], double["notes"] = np.array(b"x", object), np.array([b"x", b"yz"], object)
    np.testing.assert_array_equal(
        outputs(model, write(Path("double"), double, stored), Path("two")), expected)


@pytest.mark.parametrize("step", [np.array(b"x", object), np.array([1, 2])])
def test_a_step_that_is_not_a_number_is_one_line(model, in_empty_folder, capfd, step):
    arrays = {**plain(read_variables(model / "run")), "global_step": step}
    write(Path("odd"), arrays, {"ngf": 3, "ndf": 2, "crop_size": 32})
    assert run("--mode", "train", "--input_dir", model / "images", "--checkpoint", "odd",
               "--output_dir", "out", "--max_steps", 1) == 2
    assert load_tool("inspect-checkpoint.py").main(["odd"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and all("global_step that is not a number" in line for line in lines)


def test_files_that_are_not_checkpoints_are_named(model, in_empty_folder, capfd):
    Path("net_G.pth").write_bytes(b"\x80\x02")
    Path("run").mkdir()
    Path("run/options.json").write_text("{}")
    for name, kind in (("net_G.pth", "a PyTorch file"), ("run/options.json", "a .json file")):
        assert refusal(capfd, model, name) == (
            f"--checkpoint {name} is not a checkpoint, it is {kind}: give a training folder, a "
            "checkpoint or a .pict file")
    Path("text.index").write_text("hello\n" * 20)
    assert refusal(capfd, model, "text.index", load_tool("inspect-checkpoint.py")).startswith(
        "text is not a complete checkpoint (")


@pytest.mark.parametrize("paths, kind", [
    ([], "an empty folder"), (["train/", "val/"], "a folder with the folders train, val"),
    (["a.pth", "b.pth", "log.txt"], "a folder with 3 files, such as a .txt file, a PyTorch "
     "file"),
    (["saved_model.pb", "variables/"], "a SavedModel of another program"),
    (["one/model-3.index"], "a folder with the training folders one"),
    (["model.ckpt-3.index", "epoch-2.index"], "a folder with the checkpoints epoch-2, model.ckpt-3")])
def test_folders_without_a_checkpoint_are_named(model, in_empty_folder, capfd, paths, kind):
    for path in ["run/", *(f"run/{path}" for path in paths)]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).mkdir() if path.endswith("/") else Path(path).write_text("x")
    assert refusal(capfd, model, "run", *[load_tool("inspect-checkpoint.py")] * ("saved" not in str(
        paths))) == (f"run contains no checkpoint, it is {kind}: give a training folder, a "
                     "checkpoint or a .pict file")


def test_folders_of_this_program_without_a_checkpoint_are_named(model, in_empty_folder, capfd):
    for name, options, expected in (
            ("a", {"mode": "test", "checkpoint": "m"}, "it is the test of m: give a training"),
            ("b", {"mode": "export", "checkpoint": "m"}, "it is the export of m: give a training"),
            ("c", {"mode": "train"}, "it is a training folder without a save: continue it")):
        Path(name).mkdir()
        Path(name, "options.json").write_text(json.dumps(options))
        assert refusal(capfd, model, name).startswith(f"{name} contains no checkpoint, {expected}")


def test_damage_is_one_line(model, tmp_path, capsys):
    folder = write(tmp_path / "cut", plain(read_variables(model / "run")),
                   {"ngf": 3, "crop_size": 32})
    index, = folder.glob("*.index")
    index.write_bytes(index.read_bytes()[:40])
    (tmp_path / "cut.pict").write_bytes(struct.pack(">I", 10) + b"[]")
    (tmp_path / "cut2.pict").write_bytes(b"")
    for checkpoint in (folder, tmp_path / "cut.pict", tmp_path / "cut2.pict"):
        assert run("--mode", "test", "--input_dir", model / "images", "--checkpoint", checkpoint,
                   "--output_dir", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "cut" in error


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["separable", "lab"])  # others: test_old_checkpoints.py
def test_affinelayers_training_goes_on(tmp_path, capsys, name):
    compat = SHARED / "compat"
    assert run("--mode", "train", "--input_dir", compat / "images", "--checkpoint",
               compat / name / "checkpoint", "--output_dir", tmp_path / "more", "--max_steps", 1,
               "--lr", 1e-9, "--no_flip") == 0
    printed = capsys.readouterr().out
    assert "in the checkpoint, not used: 17 of moving_mean, 17 of moving_variance\n" in printed
    assert "not in the checkpoint" not in printed
    before, after = read_variables(compat / name / "checkpoint"), read_variables(tmp_path / "more")
    assert (before["global_step"], after["global_step"]) == (100, 101)
    for variable, value in before.items():
        if variable.endswith(("kernel", "gamma")):
            np.testing.assert_allclose(after[variable], value, atol=1e-6)
        if variable.endswith("Adam_1"):
            assert (after[variable] >= 0.998 * value).all()
    power = "generator_train/beta2_power"
    assert after[power] == pytest.approx(before[power] * 0.999, rel=1e-5)


# .pict files


def test_pict_holds_the_nearest_of_256_values_for_every_weight(tmp_path):
    arrays = {"generator/b": filled("b", [3, 5]), "generator/a": filled("a", [7]) * 4,
              "generator/zero": np.zeros(2, np.float32)}
    contents = encode_pict(arrays)
    index_size, = struct.unpack_from(">I", contents)
    assert json.loads(contents[4:4 + index_size]) == [
        {"name": "generator/a", "shape": [7]}, {"name": "generator/b", "shape": [3, 5]},
        {"name": "generator/zero", "shape": [2]}]
    table_at = 4 + index_size
    assert struct.unpack_from(">I", contents, table_at) == (1024,)
    table = np.frombuffer(contents[table_at + 4:table_at + 1028], "<f4")
    assert struct.unpack_from(">I", contents, table_at + 1028) == (24,)
    everything = np.concatenate([array.ravel() for array in arrays.values()])
    np.testing.assert_allclose(table[[0, -1]], [everything.min(), everything.max()], rtol=1e-5)
    # evenly spaced on the mu-law curve of all weights together
    scale = np.abs(table).max()
    curve = np.sign(table) * np.log(1 + 255 * np.abs(table) / scale)
    np.testing.assert_allclose(np.diff(curve), np.diff(curve).mean(), rtol=1e-3)
    (tmp_path / "x.pict").write_bytes(contents)
    for name, got in read_pict(tmp_path / "x.pict").items():
        nearest = np.abs(arrays[name].ravel()[:, None] - table).min(axis=1)
        np.testing.assert_array_equal(np.abs(arrays[name] - got).ravel(), nearest)
        assert got.shape == arrays[name].shape and got.dtype == np.float32


def test_a_large_pict_takes_little_memory():
    import tracemalloc
    arrays = {f"generator/{number}": np.full((512, 1024), number / 99, np.float32)
              for number in range(20)}  # 10 million
    tracemalloc.start()
    contents = encode_pict(arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(contents) > 20 * 512 * 1024
    assert peak < 5 * 20 * 512 * 1024  # bytes: not one float64 per weight


def test_a_pict_file_works_as_checkpoint(model, tmp_path, capsys):
    assert run("--mode", "export", "--checkpoint", model / "run", "--output_dir",
               tmp_path / "export", "--export_format", "pict") == 0
    pict = tmp_path / "export/model.pict"
    expected = outputs(model, model / "run", tmp_path / "out1")
    got = outputs(model, pict, tmp_path / "out2")
    assert 0 < np.abs(got - expected).mean() < 8
    capsys.readouterr()
    assert run("--mode", "train", "--input_dir", model / "images", "--checkpoint", pict,
               "--output_dir", tmp_path / "more", "--ndf", 2, "--max_steps", 1, "--lr", 1e-9) == 0
    printed = capsys.readouterr().out
    assert "starting from new values: discriminator/layer_1/conv2d/bias, discriminator/" in printed
    more = read_variables(tmp_path / "more")
    assert more["global_step"] == 1
    for name, array in read_pict(pict).items():
        np.testing.assert_allclose(more[name], array, atol=1e-7)


@pytest.mark.skipif(not PICT_DIR.exists(), reason="needs ../shared")
def test_a_pict_file_of_affinelayers_gives_its_images(tmp_path):
    assert run("--mode", "test", "--checkpoint", PICT_DIR / "doodle2face_ngf16.pict",
               "--input_dir", PICT_DIR / "inputs", "--no_targets", "--output_dir",
               tmp_path / "out") == 0
    paths = sorted((PICT_DIR / "expected").iterdir())
    for path in paths:
        with Image.open(path) as expected, \
                Image.open(tmp_path / "out/images" / f"{path.stem}-outputs.png") as got:
            difference = np.abs(np.asarray(expected.convert("RGB"), int) - np.asarray(got, int))
        assert difference.max() <= 2, path.name
    assert len(paths) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "images", "index.html", "options.json", "sheet.png"]
    assert read_page_data(tmp_path / "out")["kinds"] == ["inputs", "outputs"]
