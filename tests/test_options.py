"""Options: the command line, what a checkpoint brings back, and what is refused."""

import json

import pytest

import pix2pix


@pytest.fixture
def dataset(tmp_path):
    """tmp_path/houses/train and val, both empty."""
    for name in ("train", "val"):
        (tmp_path / "houses" / name).mkdir(parents=True)
    return tmp_path / "houses"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """Default output folders land in tmp_path."""
    monkeypatch.chdir(tmp_path)


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
    options = parse("--mode train --resume --max_epochs 9 --seed 2 --input_dir", dataset / "train")
    assert (options.ngf, options.seed, options.lr, options.batch_size) == (3, 11, 0.5, 6)
    assert options.max_epochs == 9 and options.checkpoint is None


def test_resume_of_affinelayers_run_keeps_its_model(dataset, tmp_path):
    write_run(tmp_path / "houses_train", ngf=4, max_steps=100)
    options = parse("--mode train --resume --max_epochs 9 --input_dir", dataset / "train")
    assert options.bottleneck_norm and options.ngf == 4
    assert (options.max_steps, options.max_epochs) == (None, 9)


def test_a_seed_is_drawn_and_then_fixed(dataset):
    drawn = {parse("--mode train --input_dir", dataset / "train").seed for _ in range(5)}
    assert len(drawn) > 1
    assert parse("--mode train --seed 3 --input_dir", dataset / "train").seed == 3


def test_with_options_copies(dataset):
    options = parse("--mode train --input_dir", dataset / "train")
    assert not pix2pix.with_options(options, flip=False).flip and options.flip


@pytest.mark.parametrize("flags, part", [
    ("--batch_size 0", "--batch_size: 0"), ("--lr nan", "--lr: nan"), ("--lr 0", "--lr: 0"),
    ("--ngf -1", "--ngf: -1"), ("--beta1 1", "--beta1: 1"), ("--scale_size 255", "255"),
    ("--aspect_ratio 0", "--aspect_ratio: 0"), ("--l1_weight inf", "inf"),
    ("--which_direction up", "up"), ("--max_steps 1.5", "1.5"), ("--seed -1", "-1"),
    ("--nonsense", "--nonsense"), ("--max_epoch 3", "--max_epoch"),
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


def test_missing_and_empty_folders(dataset, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, part in [
            (["--mode", "train"], "--input_dir is missing"),
            (["--mode", "train", "--input_dir", "gone"], "gone is not a folder"),
            (["--mode", "train", "--input_dir", str(dataset / "train")], "no JPEG or PNG"),
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
    assert "holds a training run" in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint", "options.json"]


def test_broken_options_file_is_named(dataset, tmp_path, capsys):
    run = write_run(tmp_path / "houses_train")
    (run / "options.json").write_text("{")
    assert pix2pix.main(["--mode", "test", "--input_dir", str(dataset / "val")]) == 2
    assert "options.json" in capsys.readouterr().err


def test_importing_and_help_do_not_load_tensorflow():
    import subprocess
    import sys
    code = ("import sys, pix2pix; pix2pix.main(['--mode', 'train', '--input_dir', 'gone']); "
            "sys.exit('tensorflow' in sys.modules)")
    folder = str(pix2pix.Path(pix2pix.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True)
    assert done.returncode == 0
