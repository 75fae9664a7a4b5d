"""tools/lib/resume.py: which value wins, and how an ignored one is reported."""

import json

import pytest

import pix2pix
from tools.lib import resume
from tools.lib.cli import Options
from tools.lib.options import MODEL_OPTIONS, TRAINING_OPTIONS


@pytest.mark.parametrize("name, value, expected", [
    ("ngf", 7, "--ngf 7"), ("lr", 2e-4, "--lr 0.0002"), ("separable_conv", True,
                                                         "--separable_conv"),
    ("separable_conv", False, "no --separable_conv"),
    ("augment", ["vflip", "rot90"], "--augment vflip rot90"), ("augment", ("none",),
                                                               "--augment none"),
    ("max_steps", None, "--max_steps None")])
def test_an_option_as_a_user_would_give_it(name, value, expected):
    assert resume.flag_text(name, value) == expected


def merge(capsys, explicit, replaceable=()):
    """Command line and stored options, merged; and what was reported."""
    values = {"ngf": 9, "norm": "none", "lr": 0.1, "separable_conv": True, "mode": "train"}
    stored = {"ngf": 7, "norm": "none", "lr": 0.2, "separable_conv": False}
    merged = resume.merge_options(values, {*explicit}, stored, {*replaceable}, "run")
    assert values["ngf"] == 9 and stored["ngf"] == 7  # both are left as they are
    return merged, capsys.readouterr().err


STORED = {"ngf": 7, "norm": "none", "lr": 0.2, "separable_conv": False, "mode": "train"}


def test_stored_options_win_over_defaults_silently(capsys):
    assert merge(capsys, []) == (STORED, "")


def test_explicit_values_that_are_ignored_are_reported(capsys):
    """Unless they agree with the stored ones."""
    merged, reported = merge(capsys, ["ngf", "norm", "separable_conv", "mode"])
    assert merged == STORED
    assert reported.splitlines() == [
        "pix2pix.py: ignoring --ngf 9: the run was trained with --ngf 7",
        "pix2pix.py: ignoring --separable_conv: the run was trained with no --separable_conv"]


def test_explicit_values_win_where_they_may(capsys):
    assert merge(capsys, ["lr"], ["lr", "ngf"]) == ({**STORED, "lr": 0.1}, "")


# ---- a command line and options.json


def write_run(folder, **changes):
    """A training folder with the stored options of a plain run."""
    folder.mkdir()
    stored = vars(pix2pix.create_parser().parse_args(["--mode", "train"]))
    stored.update(seed=5, input_dir="stored", output_dir="stored", precision="bfloat16", **changes)
    (folder / "options.json").write_text(json.dumps(stored))
    return stored


def values_of(*arguments):
    """Values of a command line, and the names of those that it gives."""
    parser = pix2pix.create_parser()
    values = vars(parser.parse_args(["--mode", "train", *map(str, arguments)]))
    explicit = {part[2:] for part in map(str, arguments) if part.startswith("--")} | {"mode"}
    return values, explicit, parser


def resume_run(folder, *arguments):
    """The options of --resume."""
    return resume.resume_options(*values_of("--resume", "--output_dir", folder, *arguments))


def test_resume_takes_all_options_of_the_run(tmp_path):
    stored = write_run(tmp_path / "run", ngf=7, lr=0.1, max_steps=9, flip=False)
    assert resume_run(tmp_path / "run") == {
        **stored, "resume": True, "output_dir": str(tmp_path / "run")}


def test_resume_replaces_what_is_given_but_network_and_seed(tmp_path, capsys):
    write_run(tmp_path / "run", ngf=7, lr=0.1, max_steps=9)
    merged = resume_run(tmp_path / "run", "--lr", 0.3, "--ngf", 8, "--seed", 6, "--input_dir", "in",
                        "--precision", "float32")
    assert (merged["lr"], merged["input_dir"], merged["precision"]) == (0.3, "in", "float32")
    assert (merged["ngf"], merged["seed"], merged["max_steps"]) == (7, 5, 9)
    assert capsys.readouterr().err.splitlines() == [
        "pix2pix.py: ignoring --ngf 8: the run was trained with --ngf 7",
        "pix2pix.py: ignoring --seed 6: the run was trained with --seed 5"]


@pytest.mark.parametrize("together", resume.EITHER_OF, ids=sorted)
def test_flags_that_stand_for_each_other_replace_each_other(tmp_path, together):
    """Otherwise the run's --max_steps would end a run of more --max_epochs."""
    write_run(tmp_path / "run", **{name: 9 for name in together})
    for name in together:
        merged = resume_run(tmp_path / "run", f"--{name}", 12)
        assert {other: merged[other] for other in together} == {
            other: 12 if other == name else None for other in together}


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
        assert resume.find_input_dir(values_of(*arguments)[0], parser) == expected


def start_from(folder, *arguments):
    """The options of --checkpoint in training."""
    return resume.checkpoint_options(*values_of("--checkpoint", folder, *arguments))


def test_a_checkpoint_gives_its_network_and_how_it_was_trained(tmp_path, capsys):
    """Network options always, training options unless given; nothing else."""
    changes = {"ngf": 7, "generator": "resnet", "l1_weight": 50.0, "gan_loss": "lsgan"}
    stored = write_run(tmp_path / "run", **changes, lr=0.1, batch_size=3, max_steps=9)
    merged = start_from(tmp_path / "run", "--ngf", 8, "--gan_loss", "hinge")
    for name in (*MODEL_OPTIONS, *TRAINING_OPTIONS):
        assert merged[name] == ("hinge" if name == "gan_loss" else stored[name]), name
    assert (merged["lr"], merged["batch_size"], merged["max_steps"]) == (0.0002, 1, None)
    assert (merged["seed"], merged["input_dir"]) == (None, None)
    assert capsys.readouterr().err == (
        "pix2pix.py: ignoring --ngf 8: the checkpoint was trained with --ngf 7\n")


def test_a_checkpoint_without_a_discriminator_leaves_its_options_to_the_command_line(tmp_path):
    write_run(tmp_path / "run", gan_weight=0.0, ndf=7)
    merged = start_from(tmp_path / "run", "--gan_weight", 1, "--ndf", 8, "--patch_size", 16)
    assert (merged["gan_weight"], merged["ndf"], merged["patch_size"]) == (1.0, 8, 16)
    assert start_from(tmp_path / "run")["ndf"] == 7


def test_a_run_continues_from_its_own_folder_within_a_command(tmp_path):
    stored = write_run(tmp_path / "run", lr=0.1)
    options = Options(**{**stored, "lr": 0.5, "output_dir": str(tmp_path / "run")})
    continued = vars(resume.from_folder(options, pix2pix.create_parser()))
    assert continued == {**stored, "resume": True}


def test_training_starts_from_nothing_without_a_checkpoint(tmp_path):
    for options in (Options(resume=False, checkpoint=None, output_dir=str(tmp_path)),
                    Options(resume=True, checkpoint=None, output_dir=str(tmp_path))):
        assert resume.open_start(options) is None
