"""tools/lib/run_folder.py: what is refused, and what messages say."""

import json
import os
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_pairs, load_tool, read_files, run

import pix2pix
from tools.lib.checkpoints import encode_pict, open_checkpoint
from tools.lib.cli import UserError
from tools.lib.run_folder import find_checkpoint

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def parse(*arguments):
    """The options of a command line."""
    return pix2pix.parse_args([*map(str, arguments)])


def write_folder(folder, **stored):
    """A folder with an options.json."""
    Path(folder).mkdir(parents=True)
    Path(folder, "options.json").write_text(json.dumps(stored))
    return folder


def write_run(folder, **stored):
    """A training folder whose files are empty, with the checkpoint of step 2."""
    write_folder(folder, mode="train", **stored)
    for name in ("model-2.index", "model-2.data-00000-of-00001", "checkpoint"):
        Path(folder, name).touch()
    return folder


def refusal(capsys, *arguments):
    """What a command line that is refused prints, on one line; nothing is created."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return printed.err.removeprefix("pix2pix.py: error: ").rstrip("\n")


@pytest.fixture
def two_models():
    """bars/train and bars/val, empty, and the training folders one and two."""
    for name in ("bars/train", "bars/val"):
        Path(name).mkdir(parents=True)
    for name in ("one", "two"):
        write_run(name)


TEST = ["--mode", "test", "--input_dir", "bars/val", "--checkpoint"]


# ---- names that TensorFlow reads as patterns


@pytest.mark.parametrize("character", "*?[]\\")
@pytest.mark.parametrize("form", ["runs{}1", "runs{}1/run", "{}"])
def test_a_name_that_is_a_pattern_is_refused_in_every_mode(tiny, capsys, character, form):
    os.symlink(tiny / "bars", "bars")
    name = form.format(character)
    text = f"has {character} in its name, which TensorFlow reads as a pattern: "
    train = ["--mode", "train", "--input_dir", "bars/train", "--max_steps", 1]
    for arguments in (train, ["--mode", "export", "--checkpoint", tiny / "whole"]):
        error = refusal(capsys, *arguments, "--output_dir", name)
        assert error.startswith(f"--output_dir {name} {text}")
    shutil.copytree(tiny / "whole", name)
    for arguments in (train, ["--mode", "test", "--input_dir", "bars/train"], ["--mode", "export"]):
        for checkpoint in (name, f"{name}/model-7", f"{name}/model-7.index"):
            error = refusal(capsys, *arguments, "--output_dir", "out", "--checkpoint", checkpoint)
            assert error.startswith("--checkpoint ") and error.endswith(f"{text}rename it")
    assert text in refusal(capsys, *train, "--output_dir", name, "--resume")
    with pytest.raises(UserError) as error:  # as tools open it
        open_checkpoint(name)
    assert str(error.value) == f"{name} {text}rename it"
    assert load_tool("inspect-checkpoint.py").main([name]) == 2
    assert "complete" not in capsys.readouterr().err


def test_every_other_character_is_left_alone(tiny):
    name = "".join(sorted({*string.punctuation} - {*"*?[]\\/"})) + " é\n"
    shutil.copytree(tiny / "whole", name)
    np.testing.assert_equal(open_checkpoint(name).arrays, open_checkpoint(tiny / "whole").arrays)


def test_a_windows_path_is_told_the_separator(tiny, capsys):
    os.symlink(tiny / "bars", "bars")
    assert refusal(capsys, "--mode", "train", "--input_dir", "bars/train", "--output_dir",
                   r"C:\runs\bars_train").endswith("as a pattern: separate folders by /")


def test_where_tensorflow_opens_no_file_any_name_will_do(tmp_path):
    draw_pairs("set [1]/val", 1)
    arrays = {f"generator/{name}/kernel": np.ones(shape, np.float32) for name, shape in {
        **{f"encoder_{n}/conv2d": [4, 4, 3 if n == 1 else 1, 1] for n in range(1, 6)},
        **{f"decoder_{n}/conv2d_transpose": [4, 4, 3 if n == 1 else 1, 2] for n in range(1, 6)}
    }.items()}
    Path("models [1]").mkdir()
    Path("models [1]/x.pict").write_bytes(encode_pict(arrays))
    options = parse("--mode", "test", "--input_dir", "set [1]/val", "--checkpoint",
                    "models [1]/x.pict", "--output_dir", r"out\[1]")
    assert options.crop_size == 32


def test_a_default_that_is_a_pattern_names_the_flag_to_give(capsys):
    Path("photos [2020]/train").mkdir(parents=True)
    assert refusal(capsys, "--mode", "train", "--input_dir", "photos [2020]/train") == (
        "the default --output_dir photos [2020]_train has [ ] in its name, which TensorFlow reads "
        "as a pattern: give --output_dir")
    assert refusal(capsys, "--mode", "test", "--input_dir", "photos [2020]/train").endswith(
        "as a pattern: give --checkpoint")


# ---- flags that were not given


def test_resume_from_another_folder_says_whose_images_are_missing(tiny, capsys, monkeypatch):
    Path("work/data/bars").mkdir(parents=True)
    os.symlink(tiny / "bars/train", "work/data/bars/train")
    shutil.copytree(tiny / "whole", "work/run")
    stored = json.loads(Path("work/run/options.json").read_text())
    for input_dir in ("data/bars/train", "/gone/train"):
        Path("work/run/options.json").write_text(json.dumps({**stored, "input_dir": input_dir}))
        error = refusal(capsys, "--mode", "train", "--resume", "--output_dir", "work/run")
        assert error == (
            "work/run was trained on /gone/train, which no longer exists: give --input_dir"
            if input_dir.startswith("/") else
            "work/run was trained on data/bars/train, which counts from where training was started "
            f"and does not exist here: give --input_dir {Path('work').resolve()}/data/bars/train")
    assert refusal(capsys, "--mode", "train", "--resume", "--output_dir", "work/run",
                   "--input_dir", "elsewhere").startswith("--input_dir elsewhere is not a folder")
    monkeypatch.chdir("work")
    Path("run/options.json").write_text(json.dumps({**stored, "input_dir": "data/bars/train"}))
    assert parse("--mode", "train", "--resume", "--output_dir", "run").input_dir \
        == "data/bars/train"


def test_resume_without_input_dir_says_what_it_lacks(capsys):
    write_run("old")
    command = ["--mode", "train", "--resume"]
    assert refusal(capsys, *command) == (
        "--resume needs a run: give its --output_dir or --input_dir")
    assert refusal(capsys, *command, "--output_dir", "gone") == (
        "--resume finds no run in gone: check the path (training folders here: old)")
    assert refusal(capsys, *command, "--output_dir", "old") == (
        "old does not say what it was trained on: give --input_dir")


def test_a_test_without_a_model_says_where_it_looked_and_what_there_is(capsys):
    Path("newcomer/val").mkdir(parents=True)
    command = ["--mode", "test", "--input_dir", "newcomer/val"]
    start = "there is no training folder newcomer_train, the default for --input_dir newcomer/val: "
    assert refusal(capsys, *command) == f"{start}give --checkpoint or train first"
    Path("newcomer/train").mkdir()
    for name in "gfedcba":
        write_run(f"{name}_train")
    assert refusal(capsys, *command) == (
        f"{start}give --checkpoint (training folders here: a_train, b_train, c_train, d_train, "
        "e_train, ...) or train first with --mode train --input_dir newcomer/train")
    assert refusal(capsys, "--mode", "export", "--input_dir", "newcomer/val").startswith(start)
    assert refusal(capsys, *command, "--checkpoint", "gone").startswith(
        "--checkpoint gone is not a folder, checkpoint or .pict file: check the path (training")


def test_a_default_folder_is_called_so(capsys):
    Path("bars/train").mkdir(parents=True)
    command = ["--mode", "train", "--input_dir", "bars/train"]
    Path("bars_train").touch()
    assert refusal(capsys, *command).startswith("the default --output_dir bars_train is a file: ")
    Path("bars_train").unlink()
    write_run("bars_train")
    assert refusal(capsys, *command).startswith(
        "the default --output_dir bars_train already contains a run: give --resume ")
    assert refusal(capsys, *command, "--output_dir", "bars_train").startswith(
        "--output_dir bars_train already contains a run: ")


# ---- paths to a model


@pytest.mark.parametrize("path, expected", [
    ("run", "run"), ("run/", "run/"), ("run/checkpoint", "run"), ("run/model-2", "run/model-2"),
    ("run/model-2/", "run/model-2"), ("run/model-2.index", "run/model-2"),
    ("run/model-2.data-00000-of-00001", "run/model-2"), ("run/model-2.meta", "run/model-2"),
    ("run/model-9.index", "run/model-9.index"), ("run/options.json", "run/options.json"),
    ("checkpoint", "checkpoint"), ("gone", "gone"), ("", "")])
def test_a_file_of_a_checkpoint_means_the_checkpoint(path, expected):
    write_run("run")
    Path("checkpoint").mkdir()  # a training folder may be called so
    assert find_checkpoint(path) == expected


@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_a_file_of_a_checkpoint_is_taken_in_every_mode(two_models, mode):
    for name, expected in (("model-2.index", "one/model-2"), ("checkpoint", "one"),
                           ("model-2.data-00000-of-00001", "one/model-2")):
        options = parse("--mode", mode, "--input_dir", "bars/train", "--output_dir", "out",
                        "--checkpoint", f"one/{name}")
        assert options.checkpoint == expected


def test_a_state_file_tests_the_folder_it_is_in(tiny, monkeypatch):
    os.symlink(tiny / "bars", "bars")
    shutil.copytree(tiny / "whole", "run")
    monkeypatch.chdir("run")
    command = ["--mode", "test", "--input_dir", "../bars/train", "--checkpoint"]
    assert run(*command, "checkpoint", "--output_dir", "../one") == 0
    assert run(*command, "model-7.index", "--output_dir", "../two") == 0
    images = [{path.name: contents for path, contents in read_files(f"../{name}/images").items()}
              for name in ("one", "two")]
    assert images[0] == images[1] and len(images[0]) == 30


def test_a_step_that_is_not_there_names_those_that_are(two_models, capsys):
    Path("one/epoch-4.index").touch()
    assert refusal(capsys, *TEST, "one/model-9") == (
        "--checkpoint one/model-9 does not exist: give one of those in one (epoch-4, model-2)")
