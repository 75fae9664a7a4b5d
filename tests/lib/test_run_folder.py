"""tools/lib/run_folder.py: what a path to a model means."""

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import read_files, run

import pix2pix
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
