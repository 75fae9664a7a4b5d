"""tools/lib/run_folder.py: default names, what is refused, whose results a folder holds."""

import json
import os
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_pairs, load_tool, read_files, run
from PIL import Image

import pix2pix
from tools.lib.checkpoints import encode_pict, open_checkpoint
from tools.lib.cli import UserError
from tools.lib.run_folder import default_dir, find_checkpoint

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


def write_test(folder, **stored):
    """A test folder."""
    write_folder(folder, mode="test", **stored)
    Path(folder, "index.html").write_text("results")
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


# ---- default names


@pytest.mark.parametrize("folders, input_dir, name", [
    (["facades/train", "facades/val"], "facades/train", "facades"),
    (["facades/train", "facades/val"], "facades/val", "facades"),
    (["facades/train", "facades/mine"], "facades/mine", "facades"),
    (["facades/val"], "facades/val", "facades"), (["maps/Training"], "maps/Training", "maps"),
    (["coco/train2017", "coco/val2017"], "coco/val2017", "coco"),
    (["own/photos", "own/drawings"], "own/photos", "photos"),
    (["own/photos", "own/drawings"], "own/drawings/", "drawings"),
    (["own/photos", "own/trained"], "own/photos", "photos"), (["photos"], "photos", "photos")])
def test_default_names(folders, input_dir, name):
    for folder in folders:
        Path(folder).mkdir(parents=True)
    for mode in ("train", "test", "export"):
        assert default_dir(input_dir, mode) == f"{name}_{mode}"
    assert default_dir("/", "train") == "pix2pix_train"


def test_a_file_called_train_is_no_part_of_a_dataset():
    Path("own/photos").mkdir(parents=True)
    Path("own/train").touch()
    assert default_dir("own/photos", "train") == "photos_train"


def test_a_run_under_the_name_of_earlier_versions_is_not_lost(capsys):
    for name in ("own/photos", "own/drawings"):
        Path(name).mkdir(parents=True)
    write_run("own_train", input_dir="own/photos", max_steps=9)
    on_photos = ["--mode", "train", "--input_dir", "own/photos"]
    assert parse(*on_photos, "--resume").output_dir == "own_train"
    assert capsys.readouterr().err == (
        "pix2pix.py: continuing own_train: there is no photos_train, the default --output_dir "
        "today\n")
    assert parse(*on_photos).output_dir == "photos_train"
    assert capsys.readouterr().err == (
        "pix2pix.py: training in photos_train, the default --output_dir today; own_train contains "
        "an earlier run on own/photos\n")
    # another dataset neither continues it nor hears of it
    assert refusal(capsys, "--mode", "train", "--input_dir", "own/drawings", "--resume") == (
        "--resume finds no run in drawings_train: remove the flag to start one (training folders "
        "here: own_train)")
    parse("--mode", "train", "--input_dir", "own/drawings")
    assert capsys.readouterr().err == ""
    options = parse("--mode", "test", "--input_dir", "own/photos")
    assert (options.checkpoint, options.output_dir) == ("own_train", "photos_test")
    assert capsys.readouterr().err == (
        "pix2pix.py: using the model in own_train, trained on own/photos: there is no "
        "photos_train, the default --checkpoint today\n")
    write_run("photos_train", input_dir="own/photos", max_steps=9)
    assert parse("--mode", "test", "--input_dir", "own/photos").checkpoint == "photos_train"
    assert parse(*on_photos, "--resume").output_dir == "photos_train"
    assert capsys.readouterr().err == ""


# ---- whose results


@pytest.mark.parametrize("mode", ["test", "export"])
def test_results_of_another_model_are_refused(two_models, capsys, mode):
    write_folder("out", mode=mode, checkpoint="one")
    Path("out", "index.html" if mode == "test" else "graph.pb").touch()
    command = ["--mode", mode, "--input_dir", "bars/val", "--checkpoint"]
    assert refusal(capsys, *command, "two", "--output_dir", "out") == (
        f"--output_dir out contains the {mode} of another model, one: give another --output_dir "
        "for two")
    parse(*command, "one", "--output_dir", "out")
    os.rename("out", f"bars_{mode}")
    assert refusal(capsys, *command, "two").startswith(
        f"the default --output_dir bars_{mode} contains the {mode} of another model, one: give ")


@pytest.mark.parametrize("stored", ["one", "one/model-1", "one/epoch-3", "./one", "{here}/one",
                                    "{here}/one/model-1", "gone/one", "/gone/one/model-1"])
def test_another_step_or_place_of_a_run_is_the_same_model(two_models, capsys, stored):
    write_test("out", checkpoint=stored.format(here=Path.cwd()))
    for given in ("one", "one/model-2", "one/model-2.index", Path("one").absolute()):
        parse(*TEST, given, "--output_dir", "out")
    assert "of another model" in refusal(capsys, *TEST, "two", "--output_dir", "out")


def test_a_relative_model_counts_from_where_the_test_was_started(two_models, capsys, monkeypatch):
    write_test("out", checkpoint="one")
    for name in ("a/b/bars/val", "a/c"):
        Path(name).mkdir(parents=True)
    for folder, here in (("a/c", False), ("a/b", True)):
        monkeypatch.chdir(folder)
        up = "../.."
        parse("--mode", "test", "--input_dir", f"{up}/bars/val", "--checkpoint", f"{up}/one",
              "--output_dir", f"{up}/out")
        if here:  # another model of the same name
            write_run("one")
            assert "of another model, one" in refusal(capsys, *TEST, "one", "--output_dir",
                                                      f"{up}/out")
        monkeypatch.chdir(up)


def test_files_of_the_browser_demo_are_each_a_model(two_models, capsys):
    for name in ("a.pict", "b.pict"):
        Path(name).touch()
    write_test("out", checkpoint="a.pict")
    assert "of another model, a.pict" in refusal(capsys, *TEST, "b.pict", "--output_dir", "out")


@pytest.mark.parametrize("stored", [{}, {"checkpoint": None}, {"checkpoint": 5}])
def test_a_test_that_does_not_say_of_which_model_is_replaced(two_models, stored):
    write_test("out", **stored)
    parse(*TEST, "one", "--output_dir", "out")


# ---- a dataset's own folders


@pytest.mark.parametrize("output_dir", ["facades", "facades/", "facades/train/..", "link"])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_results_do_not_go_into_the_folder_of_the_dataset(capsys, output_dir, mode):
    Path("facades/train").mkdir(parents=True)
    os.symlink("facades", "link")
    write_run("run")
    more = ["--checkpoint", "run"] if mode == "test" else []
    error = refusal(capsys, "--mode", mode, "--input_dir", "facades/train", "--output_dir",
                    output_dir, *more)
    assert error.endswith(f"is the folder that --input_dir facades/train is in: choose another, "
                          f"such as facades_{mode}")


def test_a_dataset_behind_a_link_has_two_folders_of_its_own(capsys):
    Path("disk/train").mkdir(parents=True)
    Path("facades").mkdir()
    os.symlink(Path("disk/train").absolute(), "facades/train")
    for output_dir in ("facades", "disk"):
        assert "is in: choose another" in refusal(
            capsys, "--mode", "train", "--input_dir", "facades/train", "--output_dir", output_dir)


def test_results_do_not_go_among_other_images_of_the_dataset(capsys):
    for name in ("facades/train", "facades/val", "facades/results"):
        Path(name).mkdir(parents=True)
    Image.new("RGB", (4, 2)).save("facades/val/1.png")
    command = ["--mode", "train", "--input_dir", "facades/train", "--output_dir"]
    assert refusal(capsys, *command, "facades/val") == (
        "--output_dir facades/val contains images: choose another")
    for output_dir in ("facades/results", "facades/new", "facades/train/run"):
        assert parse(*command, output_dir).output_dir == output_dir


def test_a_run_in_the_folder_of_the_dataset_continues():
    Path("facades/train").mkdir(parents=True)
    write_run("facades/old")
    for path in Path("facades/old").iterdir():
        path.rename(Path("facades", path.name))
    command = ["--mode", "train", "--input_dir", "facades/train", "--output_dir", "facades"]
    assert parse(*command, "--resume", "--max_steps", 9).output_dir == "facades"


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


def test_a_name_that_differs_in_case_is_said_to(capsys):
    Path("Facades/train").mkdir(parents=True)
    write_run("Facades_train")
    if Path("facades").exists():
        pytest.skip("the disk does not tell upper from lower case")
    assert refusal(capsys, "--mode", "train", "--input_dir", "facades/train") == (
        "--input_dir facades/train is not a folder: Facades differs only in case, give that")
    for arguments in (["--mode", "train", "--resume", "--output_dir"],
                      ["--mode", "test", "--input_dir", "Facades/train", "--checkpoint"]):
        assert ": Facades_train differs only in case, give that" in refusal(
            capsys, *arguments, "facades_train")


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
