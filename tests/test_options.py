"""Options: the command line, what a checkpoint brings back, and what is refused."""

import json
import re
import subprocess
import sys

import pytest

import pix2pix
from tools.lib import cli
from tools.lib.cli import UserError, with_options
from tools.lib.options import DISCRIMINATOR_OPTIONS, UNUSED, is_valid

pytestmark = pytest.mark.usefixtures("in_empty_folder")  # where default output folders land


@pytest.fixture
def dataset(tmp_path):
    """tmp_path/houses/train and val, both empty."""
    for name in ("train", "val"):
        (tmp_path / "houses" / name).mkdir(parents=True)
    return tmp_path / "houses"


def parse(text, *more):
    return pix2pix.parse_args([*text.split(), *map(str, more)])


def write_run(folder, **stored):
    folder.mkdir()
    (folder / "options.json").write_text(json.dumps(stored))
    return folder


def test_affinelayer_command_has_its_defaults(dataset):
    options = parse("--mode train --output_dir facades_train --max_epochs 200 "
                    "--which_direction BtoA --input_dir", dataset / "train")
    expected = dict(
        mode="train", output_dir="facades_train", max_epochs=200, max_steps=None,
        summary_freq=100, progress_freq=50, trace_freq=0, display_freq=0, save_freq=5000,
        separable_conv=False, aspect_ratio=1.0, lab_colorization=False, batch_size=1,
        which_direction="BtoA", ngf=64, ndf=64, scale_size=286, flip=True, lr=0.0002, beta1=0.5,
        l1_weight=100.0, gan_weight=1.0, output_filetype="png", checkpoint=None)
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize("stored, flags, seed", [
    ({"seed": 5}, "", 5), ({}, "", 0), ({"seed": None}, "", 0), ({"seed": 5}, "--seed 3", 3),
    ({"seed": 5}, "--seed 0", 0)])
def test_the_seed_of_a_test_or_export_is_the_models(dataset, tmp_path, stored, flags, seed):
    write_run(tmp_path / "old", **stored)
    command = f"{flags} --checkpoint old --output_dir new --input_dir"
    for mode in ("test", "export"):
        assert parse(f"--mode {mode} {command}", dataset / "train").seed == seed
    seeds = {parse(f"--mode train {command}", dataset / "train").seed for _ in range(3)}
    assert len(seeds) == (1 if flags else 3)  # a new run's is its own


def test_output_dir_is_named_after_the_dataset(dataset):
    assert parse("--mode train --input_dir", dataset / "train").output_dir == "houses_train"


def test_relative_input_dir_names_the_dataset_too(dataset, monkeypatch):
    monkeypatch.chdir(dataset)
    assert parse("--mode train --input_dir train").output_dir == "houses_train"


def test_test_finds_its_model_and_takes_its_options(dataset, tmp_path):
    write_run(tmp_path / "houses_train", ngf=7, ndf=5, which_direction="BtoA", lr=0.5,
              lab_colorization=False, separable_conv=True, bottleneck_norm=False)
    options = parse("--mode test --ngf 9 --input_dir", dataset / "val")
    assert (options.checkpoint, options.output_dir) == ("houses_train", "houses_test")
    assert (options.ngf, options.ndf, options.which_direction) == (7, 5, "BtoA")
    assert options.separable_conv and not options.bottleneck_norm
    assert options.lr == 0.0002  # no property of the model


def test_options_of_affinelayers_checkpoint_mean_its_behaviour(dataset, tmp_path):
    write_run(tmp_path / "old", ngf=4)
    options = parse("--mode test --checkpoint old --input_dir", dataset / "val")
    assert options.bottleneck_norm and options.ngf == 4


def test_resume_brings_back_all_but_what_is_given(dataset, tmp_path):
    write_run(tmp_path / "houses_train", ngf=3, seed=11, lr=0.5, batch_size=6, max_epochs=4,
              bottleneck_norm=False, checkpoint="elsewhere")
    options = parse("--mode train --resume --max_epochs 9 --seed 11 --input_dir", dataset / "train")
    assert (options.ngf, options.seed, options.lr, options.batch_size) == (3, 11, 0.5, 6)
    # where it started from is where it starts again, should it have saved nothing
    assert options.max_epochs == 9 and options.checkpoint == "elsewhere"
    write_run(tmp_path / "run", input_dir=str(dataset / "train"))
    assert parse("--mode train --resume --output_dir run").input_dir == str(dataset / "train")


def test_resume_of_affinelayers_run_keeps_its_model(dataset, tmp_path):
    write_run(tmp_path / "houses_train", ngf=4, max_steps=100)
    options = parse("--mode train --resume --max_epochs 9 --input_dir", dataset / "train")
    assert options.bottleneck_norm and options.ngf == 4
    assert (options.max_steps, options.max_epochs) == (None, 9)


def test_precision_is_the_machines_in_training_alone_and_the_runs_own(dataset, tmp_path):
    write_run(tmp_path / "old", ngf=4)
    for mode, expected in (("train", "auto"), ("test", "float32")):
        more = "--checkpoint old --output_dir new" if mode == "test" else ""
        assert parse(f"--mode {mode} {more} --input_dir", dataset / "train").precision == expected
    write_run(tmp_path / "old_run", ngf=4)  # of a time when there was no other
    resume = "--mode train --resume --max_epochs 9 --output_dir {} --input_dir"
    assert parse(resume.format("old_run"), dataset / "train").precision == "float32"
    write_run(tmp_path / "run", ngf=4, precision="bfloat16")
    assert parse(resume.format("run"), dataset / "train").precision == "bfloat16"


def test_a_seed_is_drawn_and_then_fixed(dataset):
    drawn = {parse("--mode train --input_dir", dataset / "train").seed for _ in range(5)}
    assert len(drawn) > 1
    assert parse("--mode train --seed 3 --input_dir", dataset / "train").seed == 3


def test_with_options_copies(dataset):
    options = parse("--mode train --input_dir", dataset / "train")
    assert not with_options(options, flip=False).flip and options.flip


@pytest.mark.parametrize("flags, part", [
    ("--batch_size 0", "--batch_size: 0"), ("--lr nan", "--lr: nan"), ("--lr 0", "--lr: 0"),
    ("--ngf -1", "--ngf: -1"), ("--beta1 1", "--beta1: 1"), ("--scale_size 255", "255"),
    ("--aspect_ratio 0", "--aspect_ratio: 0"), ("--l1_weight inf", "inf"),
    ("--which_direction up", "up"), ("--max_steps 1.5", "1.5"), ("--seed -1", "-1"),
    ("--nonsense", "--nonsense"), ("--max_epoch 3", "--max_epoch"), ("--cache -1", "--cache: -1"),
    ("--resume --overwrite", "--resume"), ("--resume", "--resume finds no run"),
    ("--checkpoint gone", "gone is not a folder")])
def test_bad_values_are_one_line_and_exit_code_2(dataset, tmp_path, capsys, flags, part):
    before = sorted(tmp_path.rglob("*"))
    code = pix2pix.main(["--mode", "train", "--input_dir", str(dataset / "train"), *flags.split()])
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert printed.err.startswith("pix2pix.py: error: ") and part in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flags, part", [
    ("--crop_size 100", "--crop_size 100 is not a multiple of 32: give 96 or 128"),
    ("--crop_size 320 --scale_size 300", "--scale_size 300 is below --crop_size 320"),
    ("--generator resnet --bottleneck_norm", "--bottleneck_norm needs a U-Net"),
    ("--norm instance --bottleneck_norm", "--bottleneck_norm needs a U-Net"),
    ("--separable_conv --padding reflect", "--padding reflect does not work with --separable_conv"),
    ("--no_dropout --test_dropout", "--test_dropout contradicts --no_dropout"),
    ("--gan_weight 0 --l1_weight 0", "--gan_weight 0 and --l1_weight 0 leave nothing to learn"),
    ("--separable_conv --upsample deconv", "--upsample deconv contradicts --separable_conv"),
    ("--crop_size 32 --test_dropout", "a U-Net of --crop_size 32 has none"),
    ("--crop_size 96 --generator encoder_decoder --test_dropout", "--crop_size 96 has none"),
    ("--summary_freq 0 --summary_histograms", "--summary_histograms needs summaries"),
    ("--gan_weight 0 --diffaugment --patch_size 16", "remove --patch_size --diffaugment"),
    ("--gan_weight 0 --feature_weight 1", "remove --feature_weight"),
    ("--gan_loss hinge --label_smoothing 0.1", "--gan_loss hinge does not have"),
    ("--crop_size 64 --patch_size 286", "--patch_size 286 is too large for --crop_size 64"),
    ("--lab_colorization --which_direction BtoA --augment brightness", "need lightness"),
    ("--lr_decay linear", "--lr_decay linear needs an end"),
    ("--decay_from 5 --max_steps 9", "--decay_from needs a decay"),
    ("--lr_decay linear --decay_from 5 --decay_from_epoch 2 --max_steps 9",
     "contradict each other"),
    ("--no_targets", "--no_targets is for --mode test"),
    ("--label_smoothing 0.6", "at most 0.5"), ("--ema_generator 1", "--ema_generator: 1"),
    ("--patch_size 71", "71"), ("--discrim_weight 0", "above 0"), ("--augment turn", "turn"),
    ("--grad_accumulation 0", "--grad_accumulation: 0"), ("--export_format coreml", "coreml")])
def test_combinations_that_make_no_sense(dataset, tmp_path, capsys, flags, part):
    before = sorted(tmp_path.rglob("*"))
    code = pix2pix.main(["--mode", "train", "--input_dir", str(dataset / "train"), *flags.split()])
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("pix2pix.py: error: ") and part in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_left_to_learn_follows_from_the_losses(dataset, monkeypatch):
    """Each weight that is named is one that helps; --feature_weight needs a discriminator."""
    command = "--mode train --output_dir new --gan_weight 0 --l1_weight 0 --feature_weight 0"
    monkeypatch.setitem(pix2pix.LOSSES, "gen_loss_TV", pix2pix.LOSSES["gen_loss_L1"]._replace(
        weight="tv_weight", default=0.0, if_weight_0=False))
    text = "--gan_weight 0, --l1_weight 0 and the default --tv_weight 0 leave nothing to learn: " \
           "raise one"
    with pytest.raises(UserError) as caught:
        parse(command, "--input_dir", dataset / "train")
    assert str(caught.value) == text
    for name in ("l1_weight", "tv_weight"):
        with pytest.raises(UserError, match="builds no discriminator: remove --feature_weight"):
            parse(command, f"--{name}", 1, "--input_dir", dataset / "train")


@pytest.mark.parametrize("stored, flags, text", [
    (dict(crop_size=512), "--scale_size 300",
     "--scale_size 300 is below the checkpoint's --crop_size 512: give at least that"),
    (dict(lr_decay="cosine"), "",
     "the checkpoint's --lr_decay cosine needs an end: give --max_steps, --max_epochs or "
     "--lr_decay none"),
    (dict(no_dropout=True), "--test_dropout",
     "--test_dropout contradicts the checkpoint's --no_dropout: remove one of them"),
    (dict(gan_weight=0), "--l1_weight 0",
     "the checkpoint's --gan_weight 0 and --l1_weight 0 leave nothing to learn: raise one"),
    (dict(gan_weight=0), "--patch_size 16",
     "the checkpoint's --gan_weight 0 builds no discriminator: remove --patch_size"),
    (dict(gan_loss="hinge"), "--label_smoothing 0.1",
     "--label_smoothing needs labels, which the checkpoint's --gan_loss hinge does not have: "
     "remove one")])
def test_an_option_of_the_checkpoint_is_called_so(dataset, tmp_path, capsys, stored, flags, text):
    write_run(tmp_path / "old", **stored)
    command = ["--mode", "train", "--input_dir", str(dataset / "train"), "--output_dir", "new"]
    assert pix2pix.main([*command, "--checkpoint", "old", *flags.split()]) == 2
    assert capsys.readouterr().err == f"pix2pix.py: error: {text}\n"
    given = [word for name, value in stored.items()
             for word in (f"--{name}", *([] if value is True else [str(value)]))]
    assert pix2pix.main([*command, *given, *flags.split()]) == 2  # the same, all of it given
    text = text.replace("the checkpoint's ", "")
    assert capsys.readouterr().err == f"pix2pix.py: error: {text}\n"


def test_an_option_of_the_run_is_called_so(dataset, tmp_path, capsys):
    write_run(tmp_path / "run", crop_size=512, scale_size=600, input_dir=str(dataset / "train"))
    assert pix2pix.main(["--mode", "train", "--resume", "--output_dir", "run", "--scale_size",
                         "300"]) == 2
    assert capsys.readouterr().err == (
        "pix2pix.py: error: --scale_size 300 is below the run's --crop_size 512: give at least "
        "that\n")


def test_scale_size_keeps_the_papers_share(dataset):
    for size, scale in (("256", 286), ("128", 143), ("512", 572)):
        assert parse("--mode train --crop_size", size, "--input_dir", dataset).scale_size == scale
    assert parse("--mode train --scale_size 300 --input_dir", dataset).scale_size == 300


FAMILY = dict(
    crop_size=128, generator="resnet", separable_conv=True, upsample="resize", norm="none",
    bottleneck_norm=False, ngf=7, ndf=5, patch_size=16, unconditional=True, no_dropout=True,
    gan_loss="lsgan", gan_weight=2.0, l1_weight=9.0, feature_weight=3.0, discrim_weight=0.5,
    label_smoothing=0.25, lr_decay="cosine", grad_accumulation=3, ema_generator=0.99,
    augment=["rot90"], diffaugment=True)


@pytest.mark.parametrize("mode", ["test", "export", "train"])
def test_the_whole_family_is_restored(dataset, tmp_path, mode, capsys):
    write_run(tmp_path / "run", **FAMILY)
    options = parse(f"--mode {mode} --checkpoint run --output_dir out --max_epochs 2 --input_dir",
                    dataset)
    assert {name: getattr(options, name) for name in FAMILY} == FAMILY
    assert options.padding == "zero"
    if mode == "train":
        assert options.scale_size == 143
    # how it is trained can be changed, what it is cannot
    capsys.readouterr()
    command = (f"--mode {mode} --checkpoint run --output_dir out --gan_loss hinge --ngf {{}} "
               "--label_smoothing 0 --lr_decay none --input_dir")
    if mode == "train":
        with pytest.raises(UserError, match="cannot train with --ngf 9 from --checkpoint run"):
            parse(command.format(9), dataset)
        options = parse(command.format(7), dataset)
        assert capsys.readouterr().err == ""
    else:
        options = parse(command.format(9), dataset)
        assert capsys.readouterr().err == (
            "pix2pix.py: ignoring --ngf 9: the checkpoint was trained with --ngf 7\n")
    assert (options.gan_loss, options.label_smoothing, options.ngf) == ("hinge", 0, 7)


def test_a_checkpoint_whose_training_was_odd_still_tests(dataset, tmp_path):
    write_run(tmp_path / "run", gan_weight=0, bottleneck_norm=True, norm="batch")
    options = parse("--mode test --checkpoint run --input_dir", dataset)
    assert options.gan_weight == 0 and options.bottleneck_norm


def test_missing_and_empty_folders(dataset, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, part in [
            (["--mode", "train"], "--input_dir is missing"),
            (["--mode", "train", "--input_dir", "gone"], "gone is not a folder"),
            (["--mode", "train", "--input_dir", str(dataset / "train")], "contains no JPEG, PNG, "),
            (["--mode", "train", "--input_dir", str(dataset / "train"), "--output_dir", "file"],
             "file is a file"),
            (["--mode", "test", "--input_dir", str(dataset / "val")], "houses_train"),
            (["--mode", "export"], "--input_dir or --checkpoint is missing")]:
        assert pix2pix.main(arguments) == 2
        assert part in capsys.readouterr().err
    assert not (tmp_path / "houses_train").exists()


def test_a_run_is_not_clobbered(dataset, tmp_path, capsys):
    run = write_run(tmp_path / "houses_train", ngf=3)
    (run / "checkpoint").write_text("")
    assert pix2pix.main(["--mode", "train", "--input_dir", str(dataset / "train")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert pix2pix.main(["--mode", "test", "--input_dir", str(dataset / "val"),
                         "--output_dir", str(run)]) == 2
    assert "contains a training run" in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint", "options.json"]


def test_broken_options_file_is_named(dataset, tmp_path, capsys):
    run = write_run(tmp_path / "houses_train")
    (run / "options.json").write_text("{")
    assert pix2pix.main(["--mode", "test", "--input_dir", str(dataset / "val")]) == 2
    assert "options.json" in capsys.readouterr().err


@pytest.mark.parametrize("flags, expected", [
    (["--help"], 0), (["--mode", "train", "--input_dir", "gone"], 2),
    (["--mode", "test", "--ngf", "x"], 2)])
def test_help_and_option_errors_import_nothing_slow(flags, expected):
    code = ("import sys, pix2pix\n"
            "try: code = pix2pix.main(sys.argv[1:])\n"
            "except SystemExit as end: code = end.code\n"
            "slow = {'tensorflow', 'tqdm', 'PIL', 'skimage', 'scipy'} & sys.modules.keys()\n"
            "sys.exit(f'imported {slow}' if slow else code)")
    folder = str(pix2pix.Path(pix2pix.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=folder, capture_output=True,
                          text=True)
    assert done.returncode == expected, done.stderr
    assert ("--mode" in done.stdout) == (expected == 0)


@pytest.mark.parametrize("stored", [
    {"norm": "foo"}, {"ngf": "x"}, {"ngf": 0}, {"patch_size": 71}, {"crop_size": None},
    {"generator": "foo"}, {"separable_conv": 1}, {"augment": ["fog"]}, {"augment": "vflip"}])
def test_a_stored_value_that_no_flag_takes_is_named(dataset, tmp_path, stored):
    write_run(tmp_path / "old", **stored)
    (name, value), = stored.items()
    text = f"options.json has {name}: {value}, which --{name} does not accept"
    with pytest.raises(UserError, match=re.escape(text)):
        parse("--mode test --checkpoint old --input_dir", dataset / "val")


def test_every_default_is_a_value_that_could_be_stored():
    defaults = vars(pix2pix.create_parser().parse_args(["--mode", "train"]))
    for action in pix2pix.create_parser()._actions:
        if action.dest in defaults:
            stored = json.loads(json.dumps(defaults[action.dest]))
            assert is_valid(action, stored), action.dest


def test_switches_of_a_model_can_be_switched_off(dataset, tmp_path):
    write_run(tmp_path / "old", test_dropout=True, diffaugment=True, no_dropout=True,
              augment=["vflip"])
    options = parse("--mode train --no_test_dropout --dropout --no_diffaugment --augment none "
                    "--checkpoint old --output_dir new --input_dir", dataset / "train")
    assert not options.test_dropout and not options.no_dropout and not options.diffaugment
    assert options.augment == ["none"]


def test_a_discriminator_that_a_model_lacks_is_the_command_lines(dataset, tmp_path):
    write_run(tmp_path / "l1", gan_weight=0.0, ndf=64, patch_size=70, ngf=5)
    options = parse("--mode train --gan_weight 1 --ndf 4 --patch_size 16 --ngf 5 "
                    "--checkpoint l1 --output_dir new --input_dir", dataset / "train")
    assert (options.ndf, options.patch_size, options.ngf) == (4, 16, 5)


@pytest.mark.parametrize("flags, expected", [
    # affinelayer's commands for training, as people reuse them
    ("--mode test --max_epochs 200 --which_direction AtoB --scale_size 300 --no_flip --batch_size 4",
     ["--scale_size, --no_flip, --max_epochs and --batch_size: not used by --mode test"]),
    ("--mode export --flip --on_bad_image skip --export_format pict",
     ["--flip and --on_bad_image: not used by --mode export"]),
    ("--mode export --input_dir bars", ["--input_dir: --checkpoint and --output_dir are given"]),
    ("--mode export --export_format tflite pict --output_filetype jpeg",
     ["--output_filetype: not used by --export_format tflite pict"]),
    ("--mode export --export_format tflite graph --output_filetype jpeg", []),
    ("--mode export --native_size --export_format saved_model tflite affinelayer",
     ["--native_size: not used by --export_format tflite affinelayer, of one size"]),
    ("--mode export --native_size --export_format saved_model graph onnx", []),
    ("--mode export --aspect_ratio 2",
     ["--aspect_ratio: the model was trained on images 1.5 times as wide as high"]),
    ("--mode test --output_filetype png", ["--output_filetype: not used by --mode test"]),
    ("--mode test --dropout",
     ["--dropout: --mode test has dropout with --test_dropout alone"]),
    ("--mode test --dropout --test_dropout", []), ("--mode test --ema_generator 0 --seed 3", []),
    ("--mode train --max_steps 50 --max_epochs 200", ["--max_epochs: --max_steps 50 is given"]),
    ("--mode train --gan_weight 0 --ndf 32", ["--ndf: --gan_weight 0 builds no discriminator"]),
    ("--mode train --crop_size 32 --patch_size 16 --dropout --export_format pict --no_diffaugment",
     ["--export_format: not used by --mode train",
      "--dropout: a U-Net of --crop_size 32 has no layer with dropout"]),
    ("--mode check --ngf 9 --batch_size 4 --overwrite --max_epochs 3 --lr 0.1 --export_format pict",
     ["--overwrite, --ngf, --lr and --export_format: not used by --mode check",
      "--output_dir: --mode check writes none"]),
    ("--mode check --augment rot90 scale", ["--output_dir: --mode check writes none"]),
    ("--mode check --gan_weight 0 --ndf 3 --dropout --max_steps 2 --max_epochs 3",
     ["--dropout, --ndf and --gan_weight: not used by --mode check",
      "--output_dir: --mode check writes none", "--max_epochs: --max_steps 2 is given"]),
    ("--mode train --generator resnet --dropout --crop_size 96 --max_steps 3", []),
    ("--mode train --aspect_ratio 2 --test_dropout --upsample resize --separable_conv", [])])
def test_flags_without_effect_are_reported(dataset, tmp_path, capsys, flags, expected):
    write_run(tmp_path / "old", trained_ratio=1.5)
    if "--mode export" not in flags:
        flags += f" --input_dir {dataset / 'train'}"
    if "--mode train" not in flags and "--mode check" not in flags:
        flags += " --checkpoint old"
    flags += " --output_dir new"
    pix2pix.report_ignored(parse(flags), flags.split())
    assert capsys.readouterr().err.splitlines() == [
        f"pix2pix.py: ignoring {line}" for line in expected]


CLUSTER = {"cluster", "task", "worker_timeout", "keep", "allow_public"}


@pytest.mark.parametrize("mode, refused_or_reported", [
    # elsewhere; read when an image turns out unreadable; read before the mode is run; reported where
    # the model knows the shape of its images
    ("test", {"resume", "overwrite", "no_dropout", "on_bad_image", "deterministic", "which",
              "a_labels", "b_labels", *CLUSTER}),
    ("export", {"which", "resume", "overwrite", "no_dropout", "cache", "no_targets", "input_dir",
                "a_dir", "b_dir", "deterministic", "aspect_ratio", *CLUSTER}),
    # read before the mode is run; read with --max_images; reported without --resume
    ("check", {"augment", "seed", "output_dir", "checkpoint", "on_bad_image",
               "deterministic", "a_labels", "b_labels", "task", "keep"})])
def test_what_a_mode_does_not_read_is_reported(tiny, monkeypatch, mode, refused_or_reported):
    """The oracle: which options a run reads."""
    read = set()

    class NotedOptions(cli.Options):
        """Options that note the names that are read."""

        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)
    options = parse(f"--mode {mode} --output_dir out --checkpoint", tiny / "whole",
                    "--input_dir", tiny / "bars/train")
    options = with_options(options, export_format=["saved_model"])
    monkeypatch.setattr(cli, "Options", NotedOptions)  # for with_options
    run = {"test": pix2pix.test, "export": pix2pix.export, "check": pix2pix.check}[mode]
    assert run(NotedOptions(**vars(options))) == 0
    if mode != "check":
        read -= {"batch_size", "grad_accumulation"}  # they are set to 1
    names = {action.dest for action in pix2pix.create_parser()._actions} - {"help"}
    assert names - read == {*UNUSED[mode], *DISCRIMINATOR_OPTIONS, *refused_or_reported}


@pytest.mark.parametrize("flags, part", [
    ("--mode test --resume --checkpoint old", "--resume is for --mode train"),
    ("--mode test --cache 9 --checkpoint old", "--cache 9 is for --mode train"),
    ("--mode test --aspect_ratio 0.01 --checkpoint old", "less than 11 pixels"),
    ("--mode train --output_dir what?", "reads as a pattern"),
    ("--mode train --output_dir [1]", "reads as a pattern"),
    ("--mode test --checkpoint old --output_dir {images}", "mix the results with the images"),
    ("--mode train --output_dir {images}/..", "mix the results with the images"),
    ("--mode export --checkpoint old --output_dir ours", "--mode export did not write it"),
    ("--mode train --max_steps " + 400 * "9", "give a whole number")])
def test_more_that_makes_no_sense(dataset, tmp_path, flags, part):
    write_run(tmp_path / "old")
    (tmp_path / "ours" / "variables").mkdir(parents=True)
    (dataset / "images").mkdir()
    with pytest.raises(UserError, match=re.escape(part)):
        parse(flags.format(images=dataset / "images") + " --input_dir", dataset / "images")
