"""tools/lib/resume.py: which value wins, and how an ignored one is reported."""

import json
import shutil

import pytest

import pix2pix
from tools.lib import resume
from tools.lib.cli import Options, UserError, size_of, with_options
from tools.lib.dataset import read_classes
from tools.lib.image_types import pair_of
from tools.lib.label_maps import labels_data, read_labels
from tools.lib.options import CLASSES, COUNTS, MODEL_OPTIONS, TRAINING_OPTIONS, TYPES
from tools.lib.tf1 import tf


@pytest.mark.parametrize("name, value, expected", [
    ("ngf", 7, "--ngf 7"), ("lr", 2e-4, "--lr 0.0002"), ("separable_conv", True,
                                                         "--separable_conv"),
    ("separable_conv", False, "no --separable_conv"),
    ("augment", ["vflip", "rot90"], "--augment vflip rot90"), ("augment", ("none",),
                                                               "--augment none"),
    ("max_steps", None, "--max_steps None")])
def test_an_option_as_a_user_would_give_it(name, value, expected):
    assert resume.flag_text(name, value) == expected


VALUES = {"ngf": 9, "norm": "none", "lr": 0.1, "separable_conv": True, "mode": "train"}
STORED = {"ngf": 7, "norm": "none", "lr": 0.2, "separable_conv": False, "seed": None}


def merge(explicit, replaceable=()):
    """VALUES and STORED, merged; and their conflicts."""
    arguments = VALUES, {*explicit}, STORED, {*replaceable}
    before = {**VALUES}, {**STORED}
    result = resume.merge_options(*arguments), resume.find_conflicts(*arguments)
    assert before == (VALUES, STORED)  # both are left as they are
    return result


def test_stored_options_win_over_defaults():
    assert merge([]) == ({**STORED, "mode": "train"}, [[], []])


def test_explicit_values_that_differ_are_conflicts():
    """Unless they agree with the stored ones, or nothing is known of these."""
    merged, conflicts = merge(["ngf", "norm", "separable_conv", "mode", "seed"])
    assert merged == {**STORED, "mode": "train"}
    assert conflicts == [["--ngf 9", "--separable_conv"], ["--ngf 7", "no --separable_conv"]]


def test_explicit_values_win_where_they_may():
    assert merge(["lr"], ["lr", "ngf"]) == ({**STORED, "lr": 0.1, "mode": "train"}, [[], []])


# ---- a command line and options.json


def write_run(folder, **changes):
    """A training folder with the stored options of a plain run."""
    folder.mkdir()
    stored = vars(pix2pix.create_parser().parse_args(["--mode", "train"]))
    stored.update(a_channels=3, b_channels=3, a_type="uint8", b_type="uint8")
    stored.update(seed=5, input_dir=None if "b_dir" in changes else "stored", output_dir="stored",
                  precision="bfloat16", **changes)
    (folder / "options.json").write_text(json.dumps(stored))
    return stored


def values_of(*arguments):
    """Values of a command line, and the names of those that it gives."""
    parser = pix2pix.create_parser()
    values = vars(parser.parse_args(["--mode", "train", *map(str, arguments)]))
    explicit = {part[2:] for part in map(str, arguments) if part.startswith("--")} | {"mode"}
    return values | read_classes(values), explicit, parser


def resume_run(folder, *arguments):
    """The options of --resume."""
    return resume.resume_options(*values_of("--resume", "--output_dir", folder, *arguments),
                                 pix2pix.same_variables)


def test_resume_takes_all_options_of_the_run(tmp_path):
    stored = write_run(tmp_path / "run", ngf=7, lr=0.1, max_steps=9, flip=False)
    assert resume_run(tmp_path / "run") == {
        **stored, "resume": True, "output_dir": str(tmp_path / "run")}


def test_resume_replaces_what_is_given_but_network_and_seed(tmp_path):
    write_run(tmp_path / "run", ngf=7, lr=0.1, max_steps=9)
    merged = resume_run(tmp_path / "run", "--lr", 0.3, "--ngf", 7, "--seed", 5, "--input_dir", "in",
                        "--precision", "float32")
    assert (merged["lr"], merged["input_dir"], merged["precision"]) == (0.3, "in", "float32")
    assert (merged["ngf"], merged["seed"], merged["max_steps"]) == (7, 5, 9)
    with pytest.raises(UserError) as caught:
        resume_run(tmp_path / "run", "--lr", 0.3, "--ngf", 8, "--seed", 6, "--separable_conv")
    assert str(caught.value) == (
        f"cannot resume with --separable_conv --ngf 8 --seed 6, the run in {tmp_path / 'run'} was "
        "trained with no --separable_conv --ngf 7 --seed 5: remove what differs, or train without "
        "--resume into another --output_dir")


def test_the_same_command_with_resume_may_name_where_the_run_started(tmp_path):
    write_run(tmp_path / "run", checkpoint="old/model-7")
    for given in ("old/model-7", "./old//model-7"):
        assert resume_run(tmp_path / "run", "--checkpoint", given)["checkpoint"] == "old/model-7"
    with pytest.raises(UserError, match="--checkpoint old contradicts --resume, the run in .*run "
                                        "started from old/model-7: remove one of the flags"):
        resume_run(tmp_path / "run", "--checkpoint", "old")
    write_run(tmp_path / "new")
    with pytest.raises(UserError, match="started without one"):
        resume_run(tmp_path / "new", "--checkpoint", "old")


OTHER_VALUES = {  # another value for each of MODEL_OPTIONS than the default
    "which_direction": "BtoA", "lab_colorization": True, "generator": "resnet",
    "separable_conv": True, "upsample": "resize", "norm": "instance", "bottleneck_norm": True,
    "padding": "reflect", "ngf": 8, "ndf": 8, "patch_size": 16, "unconditional": True,
    "a_channels": 1, "b_channels": 4, "a_range": [0, 99], "b_range": [-1, 2.5],
    "a_ignore": [0], "b_ignore": [0, 255], "mask_channel": True,  # the last with a_ignore
    "a_labels": "12", "b_labels": "3", "a_nearest": True, "b_nearest": True}


def flag_of(name, value):
    """The words of a command line for an option."""
    return [f"--{name}", *([] if value is True else value if isinstance(value, list)
                          else [value])]


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_resume_refuses_another_network(tmp_path, name):
    """What has the same variables too: the run would not be the one that was begun."""
    write_run(tmp_path / "run", crop_size=64)
    with pytest.raises(UserError, match=f"cannot resume with --{name}"):
        resume_run(tmp_path / "run", *flag_of(name, OTHER_VALUES[name]))


def test_each_option_of_a_model_has_another_value():
    assert {*OTHER_VALUES} == {*MODEL_OPTIONS} - {*COUNTS, *TYPES, *CLASSES.values()}  # no flags


@pytest.mark.parametrize("together", resume.EITHER_OF[:2], ids=sorted)
def test_flags_that_stand_for_each_other_replace_each_other(tmp_path, together):
    """Otherwise the run's --max_steps would end a run of more --max_epochs."""
    write_run(tmp_path / "run", **{name: 9 for name in together})
    for name in together:
        merged = resume_run(tmp_path / "run", f"--{name}", 12)
        assert {other: merged[other] for other in together} == {
            other: 12 if other == name else None for other in together}


def test_other_folders_replace_all_of_the_runs(tmp_path):
    write_run(tmp_path / "run", a_dir=["a", "c"], b_dir="b", num_inputs=2)
    merged = resume_run(tmp_path / "run")
    assert (merged["a_dir"], merged["b_dir"], merged["num_inputs"]) == (["a", "c"], "b", 2)
    merged = resume_run(tmp_path / "run", "--input_dir", "x")
    assert (merged["input_dir"], merged["a_dir"], merged["b_dir"]) == ("x", None, None)
    merged = resume_run(tmp_path / "run", "--a_dir", "x", "--a_dir", "z", "--b_dir", "y")
    assert (merged["input_dir"], merged["a_dir"], merged["b_dir"]) == (None, ["x", "z"], "y")


def test_runs_older_than_precision_stay_float32(tmp_path):
    stored = write_run(tmp_path / "run")
    del stored["precision"]
    (tmp_path / "run/options.json").write_text(json.dumps(stored))
    assert resume_run(tmp_path / "run")["precision"] == "float32"
    assert resume_run(tmp_path / "run", "--precision", "bfloat16")["precision"] == "bfloat16"


def test_input_dir_may_be_left_out_to_resume_a_run(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    parser = pix2pix.create_parser()
    for arguments, expected in (
            (["--resume", "--output_dir", tmp_path / "run"], "stored"),
            (["--resume", "--output_dir", tmp_path / "run", "--input_dir", "in"], "in"),
            (["--output_dir", tmp_path / "run"], None), (["--resume"], None),
            (["--resume", "--output_dir", tmp_path / "empty"], None)):
        assert resume.find_sources(values_of(*arguments)[0], parser) == {
            "input_dir": expected, "a_dir": None, "b_dir": None}


def start_from(folder, *arguments, mode="train"):
    """The options of --checkpoint in training."""
    values, explicit, parser = values_of("--checkpoint", folder, *arguments)
    return resume.checkpoint_options({**values, "mode": mode}, explicit, parser,
                                     pix2pix.same_variables)


def test_a_checkpoint_gives_its_network_and_how_it_was_trained(tmp_path):
    """Network options always, training options unless given; nothing else."""
    changes = {"ngf": 7, "generator": "resnet", "l1_weight": 50.0, "gan_loss": "lsgan"}
    stored = write_run(tmp_path / "run", **changes, lr=0.1, batch_size=3, max_steps=9)
    merged = start_from(tmp_path / "run", "--ngf", 7, "--gan_loss", "hinge")
    for name in (*MODEL_OPTIONS, *TRAINING_OPTIONS):
        expected = {"gan_loss": "hinge", "a_type": None, "b_type": None}  # types: the new files'
        assert merged[name] == expected.get(name, stored[name]), name
    assert (merged["lr"], merged["batch_size"], merged["max_steps"]) == (0.0002, 1, None)
    assert (merged["seed"], merged["input_dir"]) == (None, None)


def test_what_does_not_fit_a_checkpoint_is_refused_in_training_and_ignored_elsewhere(tmp_path,
                                                                                     capsys):
    write_run(tmp_path / "run", ngf=7)
    given = ["--ngf", 8, "--norm", "instance", "--which_direction", "BtoA"]
    with pytest.raises(UserError) as caught:
        start_from(tmp_path / "run", *given)
    assert str(caught.value) == (
        f"cannot train with --norm instance --ngf 8 from --checkpoint {tmp_path / 'run'}, which "
        "was trained with --norm batch --ngf 7: remove what differs, or train without --checkpoint")
    for mode in ("test", "export"):
        merged = start_from(tmp_path / "run", *given, mode=mode)
        assert (merged["ngf"], merged["norm"], merged["which_direction"]) == (7, "batch", "AtoB")
        assert capsys.readouterr().err.splitlines() == [
            "pix2pix.py: ignoring --which_direction BtoA: the checkpoint was trained with "
            "--which_direction AtoB",
            "pix2pix.py: ignoring --norm instance: the checkpoint was trained with --norm batch",
            "pix2pix.py: ignoring --ngf 8: the checkpoint was trained with --ngf 7"]


def variables_of(options):
    """Name -> shape of the variables of a model that is built."""
    pair = pair_of(options)
    sizes = size_of(options.crop_size)
    with tf.Graph().as_default():
        inputs = tf.zeros([1, *sizes, pair.inputs.channels])
        examples = pix2pix.Examples(tf.zeros([1], tf.int64), inputs)
        pix2pix.generate(inputs, options)
        pix2pix.discriminate(examples, tf.zeros([1, *sizes, pair.targets.channels]), options, None)
        return {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}


@pytest.mark.parametrize("stored, tried, expected", [
    ({}, [*OTHER_VALUES.items(), ("crop_size", 128), ("crop_size", 192), ("crop_size", "64x192")],
     [("which_direction", "BtoA"), ("padding", "reflect"), ("a_range", [0, 99]),
      ("b_range", [-1, 2.5]), ("a_ignore", [0]), ("b_ignore", [0, 255]), ("b_labels", "3"),
      ("a_nearest", True), ("b_nearest", True), ("crop_size", 128), ("crop_size", 192),
      ("crop_size", "64x192")]),
    ({"lab_colorization": True, "separable_conv": True},
     [("which_direction", "BtoA"), ("upsample", "resize")], [("upsample", "resize")]),
    ({"generator": "resnet", "crop_size": 160},
     [("crop_size", 192), ("crop_size", 128), ("padding", "reflect")],
     [("crop_size", 192), ("crop_size", 128), ("padding", "reflect")])], ids=["unet", "lab", "resnet"])
def test_a_new_run_takes_what_leaves_the_variables_as_they_are(tmp_path, stored, tried, expected):
    """The oracle: the models are built, and their variables compared. Another size keeps the
    network's depth."""
    values = vars(pix2pix.create_parser().parse_args(["--mode", "train"]))
    base = Options(**{**values, "crop_size": 64, "ngf": 1, "ndf": 1, "patch_size": 34,
                      "precision": "float32", "a_channels": 3, "b_channels": 3, **stored})
    write_run(tmp_path / "run", crop_size=base.crop_size,
              **{name: getattr(base, name) for name in MODEL_OPTIONS})
    variables, taken = variables_of(base), []
    for name, value in tried:
        changes = {name: value}
        if name in CLASSES:
            changes[CLASSES[name]] = labels_data(read_labels(value))
        try:
            merged = start_from(tmp_path / "run", *flag_of(name, value))
        except UserError:
            assert variables_of(with_options(base, **changes)) != variables, (name, value)
        else:
            changes["depth"] = merged["depth"]
            assert variables_of(with_options(base, **changes)) == variables, (name, value)
            assert merged[name] == value
            taken.append((name, value))
    assert taken == expected


def test_a_network_without_a_discriminator_leaves_its_options_to_the_command_line(tmp_path):
    write_run(tmp_path / "run", gan_weight=0.0, ndf=7)
    for merge_run in (start_from, resume_run):
        merged = merge_run(tmp_path / "run", "--gan_weight", 1, "--ndf", 8, "--patch_size", 16)
        assert (merged["gan_weight"], merged["ndf"], merged["patch_size"]) == (1.0, 8, 16)
        assert merge_run(tmp_path / "run")["ndf"] == 7


def test_a_run_without_its_options_takes_what_its_variables_do_not_show(tmp_path, tiny):
    for path in (tiny / "whole").glob("model-7.*"):
        shutil.copy(path, tmp_path)
    # a U-Net that halves 5 times: of 32, 96, 160, ... pixels
    merged = resume_run(tmp_path, "--crop_size", 96, "--which_direction", "BtoA", "--seed", 3)
    assert (merged["crop_size"], merged["which_direction"], merged["seed"]) == (96, "BtoA", 3)
    assert merged["depth"] is None  # that of the size
    assert resume_run(tmp_path, "--crop_size", 64)["depth"] == 5


@pytest.mark.parametrize("stored, crop_size, depth", [
    ({}, 512, 8), ({}, "256x768", None), ({"crop_size": 512, "depth": 8}, 256, None),
    ({"crop_size": 512, "depth": 8}, 1024, 8), ({"generator": "resnet", "crop_size": 128}, 256, 6),
    ({"crop_size": 512, "depth": "8"}, 512, None)])
def test_a_network_keeps_its_depth_at_another_size(tmp_path, stored, crop_size, depth):
    """256 halves 8 times; a depth that is no number is as none."""
    write_run(tmp_path / "run", **stored)
    for merge_run in (start_from, resume_run):
        assert merge_run(tmp_path / "run", "--crop_size", crop_size)["depth"] == depth


def test_a_model_is_used_at_another_size_with_a_line(tmp_path, capsys):
    write_run(tmp_path / "run")
    merged = start_from(tmp_path / "run", "--crop_size", 512, mode="test")
    assert (merged["crop_size"], merged["depth"]) == (512, 8)
    assert capsys.readouterr().err == \
        "pix2pix.py: using the model at --crop_size 512: it was trained at 256\n"


def test_a_run_continues_from_its_own_folder_within_a_command(tmp_path):
    stored = write_run(tmp_path / "run", lr=0.1)
    options = Options(**{**stored, "lr": 0.5, "output_dir": str(tmp_path / "run")})
    continued = vars(resume.from_folder(options, pix2pix.create_parser()))
    assert continued == {**stored, "resume": True}


def test_training_starts_from_nothing_without_a_checkpoint(tmp_path):
    for options in (Options(resume=False, checkpoint=None, output_dir=str(tmp_path)),
                    Options(resume=True, checkpoint=None, output_dir=str(tmp_path))):
        assert resume.open_start(options) is None
