"""ablation.py: which commands it runs in which order, and its results, table and sheet."""

import csv
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

import pix2pix
from tools import ablation
from tools.lib.checkpoints import open_checkpoint
from tools.lib.cli import Options, with_options
from tools.lib.files import write_json
from tools.lib.image_files import find_images
from tools.lib.images import read_image
from tools.lib.metrics import METRICS, summarize_rows, write_metrics

ALL = ["l1", "gan_unconditional", "gan", "l1_gan_unconditional", "l1_gan", "encoder_decoder_l1",
       "encoder_decoder_l1_gan", "patch_1", "patch_16", "patch_286"]
COMMAND = ["--input_dir", "data/train", "--val_dir", "data/val", "--output_dir", "out",
           "--which_direction", "BtoA", "--ngf", "5", "--max_steps", "7"]
INPUT, TARGET = (10, 20, 30), (200, 210, 220)  # colours of the images that the stub writes
OUTPUTS = {"l1": (250, 0, 0), "gan": (0, 250, 0), "patch_1": (0, 0, 250)}
SIZE = 32  # of them
TIMEOUT = 30  # seconds after which a command that does not end fails the test
run_command = ablation.run_command  # the real one


def fill(folder, names=("1.png", "2.png", "3.png")):
    """Makes a folder of small images; returns it."""
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (4, 2)).save(folder / name)
    return folder


def save(path, colour, mode="RGB"):
    """Writes an image of one colour, of the size that test mode writes."""
    Image.new("RGB", (SIZE, SIZE), colour).convert(mode).save(path)


class Stub:
    """Replaces run_command: does what pix2pix.py does to the folders.

    commands: what was run, as Options; codes: exit codes to return (0 when used up); interrupted
    and killed runs leave a checkpoint if `saves`.
    """

    def __init__(self):
        self.commands, self.arguments, self.codes, self.saves, self.time = [], [], [], True, 0.0

    def __call__(self, command, log_path):
        """Returns an exit code."""
        assert command[:2] == [sys.executable, str(ROOT / "pix2pix.py")]
        options = pix2pix.parse_args(command[2:])  # refuses what the real one would refuse
        self.commands.append(options)
        self.arguments.append(command)
        self.time += 100
        code = self.codes.pop(0) if self.codes else 0
        (self.train if options.mode == "train" else self.test)(options, code, log_path)
        return code

    def train(self, options, code, log_path):
        """Makes a training folder."""
        folder = Path(options.output_dir)
        assert not ablation.read_record(folder.parent).tested  # after a kill now it is not complete
        folder.mkdir(exist_ok=True)
        write_json(folder / "options.json", vars(with_options(options, resume=False)))
        if code == 0 or self.saves:
            (folder / "checkpoint").touch()
        with open(log_path, "a", encoding="utf-8") as log:
            log.write("parameter_count = 1234567\n")

    def test(self, options, code, _log_path):
        """Makes a test folder, without metrics where the code is not 0."""
        folder = Path(options.output_dir)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        write_json(folder / "options.json", vars(options))
        names = [path.stem for path in find_images(options.input_dir)]
        grey = "L" if options.lab_colorization else "RGB"
        for name in names:
            save(folder / "images" / f"{name}-inputs.png", INPUT, grey)
            save(folder / "images" / f"{name}-targets.png", TARGET)
            save(folder / "images" / f"{name}-outputs.png", OUTPUTS.get(folder.parent.name, INPUT))
        if code == 0:
            rows = np.arange(3 * len(names)).reshape(-1, 3) + len(folder.parent.name)
            rows = [dict(zip(METRICS, row, strict=True)) for row in rows]
            write_metrics(folder, names, rows, summarize_rows(rows))

    def runs(self):
        """What was run, such as "gan/train"."""
        return [str(Path(options.output_dir).relative_to("out")) for options in self.commands]


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Works in a folder with data/{train,val}; nothing is run, and each command takes 100 s."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "data" / "train")
    fill(tmp_path / "data" / "val", [f"{number}.png" for number in range(1, 12)])
    runner = Stub()
    monkeypatch.setattr(ablation, "run_command", runner)
    monkeypatch.setattr(ablation, "time", SimpleNamespace(monotonic=lambda: runner.time))
    return runner


def run(*variants, flags=()):
    """The exit code of the tool on some variants."""
    return ablation.main([*COMMAND, *flags, *(["--variants", *variants] if variants else [])])


def read_table():
    """out/table.csv as a list of dicts."""
    return list(csv.DictReader(io.StringIO(Path("out/table.csv").read_text(encoding="utf-8"))))


def contents(folder):
    """Path -> bytes of all files in a folder."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# ======================================================================
# Variants and their commands
# ======================================================================


def test_variants_are_the_papers(stub):
    """Each differs from the default model in what the paper's tables 1 to 3 say, no more."""
    assert run() == 0
    trained = {path.split("/")[0]: options
               for path, options in zip(stub.runs(), stub.commands, strict=True)
               if options.mode == "train"}
    default = trained.pop("l1_gan")
    assert (default.generator, default.patch_size, default.unconditional, default.gan_weight,
            default.l1_weight) == ("unet", 70, False, 1, 100)
    unlike = {name: {field: value for field, value in vars(options).items()
                     if value != vars(default)[field] and field != "output_dir"}
              for name, options in trained.items()}
    assert unlike == {
        "l1": {"gan_weight": 0}, "gan": {"l1_weight": 0},
        "gan_unconditional": {"l1_weight": 0, "unconditional": True},
        "l1_gan_unconditional": {"unconditional": True},
        "encoder_decoder_l1": {"generator": "encoder_decoder", "gan_weight": 0},
        "encoder_decoder_l1_gan": {"generator": "encoder_decoder"},
        "patch_1": {"patch_size": 1}, "patch_16": {"patch_size": 16},
        "patch_286": {"patch_size": 286}}


def test_order_and_folders(stub):
    """Variants in the order of the table, each trained, then tested on its own model."""
    assert run("gan", "l1") == 0
    assert stub.runs() == ["l1/train", "l1/test", "gan/train", "gan/test"]
    for train, test in (stub.commands[:2], stub.commands[2:]):
        assert (train.mode, test.mode) == ("train", "test")
        assert (train.input_dir, test.input_dir) == ("data/train", "data/val")
        assert test.checkpoint == train.output_dir


def test_options_come_through(stub):
    """What the user gives is what pix2pix.py gets; --ndf follows --ngf, the seed is 0."""
    assert run("l1_gan") == 0
    options = stub.commands[0]
    assert (options.ngf, options.ndf, options.seed, options.batch_size) == (5, 5, 0, 1)
    assert (options.max_steps, options.max_epochs, options.crop_size) == (7, None, 256)
    flags = ["--output_dir", "out/b", "--ndf", "3", "--max_epochs", "9", "--batch_size", "2",
             "--seed", "4", "--crop_size", "96", "--lab_colorization"]
    assert run("l1_gan", flags=flags) == 0
    options = stub.commands[2]
    assert (options.ngf, options.ndf, options.seed, options.batch_size) == (5, 3, 4, 2)
    assert (options.max_steps, options.max_epochs, options.crop_size) == (7, 9, 96)
    assert options.lab_colorization and options.which_direction == "BtoA"
    assert stub.commands[3].seed == 4 and options.scale_size == 107  # 96 * 286 / 256


# ======================================================================
# Continuing
# ======================================================================


def test_done_is_skipped(stub, capsys):
    """A second run runs nothing and writes the same files."""
    assert run("l1", "gan") == 0
    before, lines = contents("out"), capsys.readouterr().out
    assert run("l1", "gan") == 0
    assert len(stub.commands) == 4 and contents("out") == before
    assert capsys.readouterr().out.count("(done before)") == 2 and "before" not in lines


@pytest.mark.parametrize("code, again, seconds", [
    (130, "--resume", "200.0"), (1, "--resume", "200.0"), (137, "--overwrite", "100.0"),
])
def test_interrupted_training_continues(stub, capsys, code, again, seconds):
    """From the checkpoint, with the time of both parts; from scratch where there is none."""
    stub.codes, stub.saves = [0, 0, code], again == "--resume"
    assert run("l1", "gan") == code
    assert stub.runs() == ["l1/train", "l1/test", "gan/train"]
    assert "the same command continues\n" in capsys.readouterr().err
    assert not Path("out/table.md").exists()
    assert run("l1", "gan") == 0
    assert stub.runs()[3:] == ["gan/train", "gan/test"]
    assert stub.arguments[3][2:] == [*stub.arguments[2][2:], again]
    assert [row["seconds"] for row in read_table()] == ["100.0", seconds]


def test_interrupted_test_is_repeated(stub):
    """Training that is complete is not started again."""
    stub.codes = [0, 130]
    assert run("l1") == 130
    assert run("l1") == 0
    assert stub.runs() == ["l1/train", "l1/test", "l1/test"]
    assert read_table()[0]["seconds"] == "100.0"


def test_a_lost_test_is_repeated_a_lost_run_too(stub):
    """What a user removes is made again, and after a new training its test."""
    assert run("l1") == 0
    Path("out/l1/test/metrics.json").unlink()
    assert run("l1") == 0
    assert stub.runs()[2:] == ["l1/test"]
    for path in Path("out/l1/train").iterdir():
        path.unlink()
    stub.codes = [130]
    assert run("l1") == 130
    assert not ablation.is_complete(Path("out/l1"))
    assert run("l1") == 0
    assert stub.runs()[3:] == ["l1/train", "l1/train", "l1/test"]


@pytest.mark.parametrize("codes, log", [([0, 0, 9], "train.log"), ([0, 0, 0, 9], "test.log")])
def test_failed_variant_is_reported(stub, capsys, codes, log):
    """Its exit code, its name and its log in one line; nothing runs after it."""
    stub.codes = list(codes)
    assert run("l1", "gan", "patch_1") == 9
    assert len(stub.commands) == len(codes)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ablation.py: error: gan failed with exit code 9")
    assert str(Path("out/gan") / log) in error


def test_other_variants_stay_in_the_table(stub):
    """Complete ones that were not chosen are shown, incomplete ones not."""
    stub.codes = [0, 0, 130]
    assert run("l1", "gan") == 130
    assert run("patch_1") == 0
    assert [row["name"] for row in read_table()] == ["l1", "patch_1"]
    assert "U-Net, cGAN" not in Path("out/table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("flags, stored", [
    (["--ngf", "6"], "--ngf 5"), (["--ndf", "6"], "--ndf 5"), (["--seed", "1"], "--seed 0"),
    (["--batch_size", "2"], "--batch_size 1"), (["--which_direction", "AtoB"], "BtoA"),
    (["--max_steps", "8"], "--max_steps 7"), (["--max_epochs", "8"], "--max_epochs None"),
    (["--crop_size", "128"], "--crop_size 256"), (["--input_dir", "data/val"], "data/train"),
    (["--lab_colorization"], "--lab_colorization False"),
    (["--val_dir", "data/train"], "has data/train"),
    (["--crop_size", "32"], "--crop_size 256"),
])
def test_other_settings_are_refused(stub, capsys, flags, stored):
    """Before anything is run or written, also for a variant that only the table would show."""
    assert run("patch_286") == 0
    before = contents("out")
    capsys.readouterr()
    assert run("l1", flags=flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and stored in error and "patch_286" in error
    assert len(stub.commands) == 2 and contents("out") == before


def test_another_spelling_of_the_same_folder(stub):
    """data/train/ is data/train."""
    assert run("l1") == 0
    assert run("l1", flags=["--input_dir", "data/train/", "--val_dir", "./data/val"]) == 0
    assert len(stub.commands) == 2


def test_other_images_are_refused(stub, capsys):
    """An image was added after a variant's test."""
    assert run("l1") == 0
    save("data/val/12.png", INPUT)
    assert run("l1", "gan") == 2
    assert "tested other images than --val_dir data/val has now" in capsys.readouterr().err
    assert len(stub.commands) == 2


@pytest.mark.parametrize("path, words", [
    ("data/train/1.png", "out/l1/train was trained on other images than --input_dir data/train has "
     "now: choose another --output_dir"),
    ("data/train/new.png", "out/l1/train was trained on other images than"),
    ("data/val/1.png", "out/l1/test tested other images than --val_dir data/val has now: remove it, "
     "the same command tests again")])
def test_images_that_were_replaced_or_added_are_refused(stub, capsys, path, words):
    """Also where a variant is still in training, before anything is run."""
    stub.codes = [0, 0, 130]
    assert run("l1", "gan") == 130
    save(path, INPUT)
    before = contents("out")
    capsys.readouterr()
    assert run("gan") == 2
    assert words in capsys.readouterr().err
    assert len(stub.commands) == 3 and contents("out") == before
    if "val" in path:
        shutil.rmtree("out/l1/test")
        assert run("l1", "gan") == 0


def test_records_of_older_versions_are_accepted(stub):
    assert run("l1") == 0
    record = json.loads(Path("out/l1/record.json").read_text(encoding="utf-8"))
    assert record.pop("train_images").startswith("3-") and record.pop("val_images")
    Path("out/l1/record.json").write_text(json.dumps(record), encoding="utf-8")
    save("data/train/new.png", INPUT)
    assert run("l1") == 0
    assert len(stub.commands) == 2


def test_broken_record_is_reported(stub, capsys):
    """One line and what to do."""
    assert run("l1") == 0
    Path("out/l1/record.json").write_text("{", encoding="utf-8")
    assert run("l1") == 2
    assert f"{Path('out/l1/record.json')} is not readable JSON" in capsys.readouterr().err
    Path("out/l1/record.json").unlink()
    assert run("l1") == 0


# ======================================================================
# Results
# ======================================================================


def make_result(name, l1, psnr, ssim, weights, seconds):
    """A Result of three images."""
    variant = next(row for row in ablation.VARIANTS if row.name == name)
    return ablation.Result(variant, l1, psnr, ssim, weights, seconds, ["a", "b", "c"])


def test_table_text():
    """Every number in its column; the command and the number of images above them."""
    options = Options(
        input_dir=Path("my data/train"), val_dir=Path("my data/val"), output_dir=Path("out"),
        which_direction="BtoA", lab_colorization=True, crop_size=128, ngf=16, ndf=12,
        max_epochs=10, max_steps=None, batch_size=2, seed=3, variants=(), num_pictures=4)
    results = [make_result("l1", 0.17912, 12.854, 0.24528, 1234567, 3723.4),
               make_result("l1_gan", 0.2, 11, 0.3, None, 59.6)]
    assert ablation.table_text(results, options) == (
        "All variants: `--input_dir 'my data/train' --which_direction BtoA --crop_size 128 --ngf 16"
        " --ndf 12 --batch_size 2 --seed 3 --max_epochs 10 --lab_colorization`. L1, PSNR and SSIM "
        "are means over the 3 images of `my data/val`.\n\n"
        "| variant | flags | L1 (0..1) | PSNR (dB) | SSIM | weights | training time |\n"
        "|---|---|---|---|---|---|---|\n"
        "| U-Net, L1 | `--gan_weight 0` | 0.1791 | 12.85 | 0.2453 | 1,234,567 | 1:02:03 |\n"
        "| U-Net, L1+cGAN, patch 70 | defaults | 0.2000 | 11.00 | 0.3000 | unknown | 0:01:00 |\n")


def test_table_of_a_run(stub, capsys):
    """Both tables hold the numbers in metrics.json; the output ends with table and paths."""
    assert run("l1", "gan") == 0
    for row, name in zip(read_table(), ["l1", "gan"], strict=True):
        metrics = json.loads(Path(f"out/{name}/test/metrics.json").read_text(encoding="utf-8"))
        assert row["name"] == name and row["weights"] == "1234567"
        for key in ("l1", "psnr", "ssim"):
            assert float(row[key]) == pytest.approx(metrics[key], rel=1e-5)
    table = Path("out/table.md").read_text(encoding="utf-8")
    lines = capsys.readouterr().out
    paths = "".join(f"{Path('out') / name}\n" for name in ("table.md", "table.csv", "sheet.png",
                                                           "sheet.jpg"))
    # 11 images, rows 0 3 6 ... 30 plus the length of the name
    assert lines == ("l1: L1 17.0000, PSNR 18.00 dB, SSIM 19.0000, 1,234,567 weights, trained in "
                     "0:01:40\n"
                     "gan: L1 18.0000, PSNR 19.00 dB, SSIM 20.0000, 1,234,567 weights, trained in "
                     f"0:01:40\n\n{table}\n{paths}")


def test_read_weights():
    """The last training's; None where there is none."""
    assert ablation.read_weights("a\nparameter_count = 12\nb\nparameter_count = 345\nc\n") == 345
    assert ablation.read_weights("the parameter_count = 12 \n") is None


@pytest.mark.parametrize("length, count, expected", [
    (100, 4, [12, 37, 62, 87]), (11, 3, [1, 5, 9]), (2, 4, [0, 1]), (5, 5, [0, 1, 2, 3, 4]),
    (9, 1, [4]),
])
def test_choose_evenly(length, count, expected):
    """The middles of equal parts."""
    assert ablation.choose_evenly(list(range(length)), count) == expected


# ======================================================================
# Sheet
# ======================================================================


def test_wrap_title():
    """Broken after commas, and only where the line is too long."""
    assert ablation.wrap_title("ab, cd ef, gh", 10, len) == ["ab, cd ef,", "gh"]
    assert ablation.wrap_title("ab, cd ef, gh", 9, len) == ["ab,", "cd ef, gh"]
    assert ablation.wrap_title("ab, cd ef, gh", 13, len) == ["ab, cd ef, gh"]
    assert ablation.wrap_title("ab, cd ef, gh", 1, len) == ["ab,", "cd ef,", "gh"]


def cells(sheet, num_columns, num_rows):
    """The images of a sheet [row][column], and what is above them."""
    step, top = ablation.CELL + ablation.GAP, len(sheet) - num_rows * (ablation.CELL + ablation.GAP)
    assert sheet.shape[1] == ablation.GAP + num_columns * step
    lefts = [ablation.GAP + step * column for column in range(num_columns)]
    rows = [[sheet[top + step * row:, left:][:ablation.CELL, :ablation.CELL] for left in lefts]
            for row in range(num_rows)]
    return rows, sheet[:top]


def test_draw_sheet_places_images():
    """Each in its row and column, scaled from any size, with white between them."""
    titles = [row.title for row in ablation.VARIANTS[:3]]
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14
    images = [[np.full([size, size, 3], colour, np.uint8) for colour, size
               in zip(row, (64, 192, 300), strict=True)] for row in colours]
    sheet = ablation.draw_sheet(titles, images)
    rows, head = cells(sheet, 3, 2)
    for row, expected in zip(rows, colours, strict=True):
        for cell, colour in zip(row, expected, strict=True):
            assert np.array_equal(cell, np.broadcast_to(colour, cell.shape))
    below = sheet[len(head):].astype(int)
    area = ablation.CELL ** 2
    assert (255 - below).sum() == ((255 - colours.astype(int)) * area).sum()


def test_every_title_is_readable():
    """Dark letters above each column, none outside its cell, none truncated at the top."""
    titles = ["input", "target", *(row.title for row in ablation.VARIANTS)]
    image = np.zeros([8, 8, 3], np.uint8)
    sheet = ablation.draw_sheet(titles, [[image] * len(titles)])
    _, head = cells(sheet, len(titles), 1)
    dark = (head < 128).all(axis=2)
    assert not dark[:ablation.GAP].any() and not dark[-ablation.GAP // 2:].any()
    step = ablation.CELL + ablation.GAP
    for column in range(len(titles)):
        left = ablation.GAP + step * column
        assert dark[:, left:left + ablation.CELL].sum() > 100
        assert not dark[:, left - ablation.GAP:left].any()


def test_sheet_of_a_run(stub):
    """Input, target and each variant's own outputs, of as many images as asked for."""
    assert run("l1", "gan", flags=["--num_pictures", "2"]) == 0
    sheet = read_image(Path("out/sheet.png"))
    rows, _ = cells(sheet, 4, 2)
    for row in rows:
        assert [tuple(cell[100, 100]) for cell in row] == [INPUT, TARGET, OUTPUTS["l1"],
                                                           OUTPUTS["gan"]]
    with Image.open("out/sheet.jpg") as image:
        assert image.format == "JPEG" and image.size == sheet.shape[1::-1]
        assert np.abs(np.asarray(image).astype(int) - sheet).mean() < 3


def test_sheet_takes_grey_inputs(stub):
    """--lab_colorization writes its inputs as grey images."""
    assert run("l1", flags=["--lab_colorization", "--which_direction", "AtoB"]) == 0
    rows, _ = cells(read_image(Path("out/sheet.png")), 3, 4)
    assert len({*rows[0][0][100, 100]}) == 1 and tuple(rows[0][1][100, 100]) == TARGET
    assert read_image("out/l1/test/images/1-inputs.png").shape == (SIZE, SIZE, 3)


def test_sheet_takes_evenly_spread_images(stub, tmp_path):
    """The 2nd, 6th and 10th of eleven, which are the middles of thirds."""
    assert run("l1") == 0
    for number in range(1, 12):
        save(tmp_path / f"out/l1/test/images/{number}-inputs.png", (number, 0, 0))
    results = ablation.read_results(Path("out"))
    rows, _ = cells(ablation.make_sheet(results, Path("out"), 3), 3, 3)
    assert [row[0][0, 0, 0] for row in rows] == [2, 6, 10]


def test_jpeg_fits():
    """Noise is scaled down to just below the limit; an image that fits keeps its size."""
    noise = np.random.default_rng(1).integers(0, 256, [301, 402, 3], np.uint8)
    whole = ablation.encode_jpeg(noise)
    with Image.open(io.BytesIO(whole)) as image:
        assert image.size == (402, 301)
    limit = len(whole) * 2 // 3
    smaller = ablation.encode_jpeg(noise, limit)
    with Image.open(io.BytesIO(smaller)) as image:
        width, height = image.size
    assert limit * 0.7 < len(smaller) <= limit
    assert width < 402 and width / height == pytest.approx(402 / 301, rel=0.01)


# ======================================================================
# Command line
# ======================================================================


@pytest.mark.parametrize("flags, part", [
    (["--input_dir", "nowhere"], "--input_dir nowhere is not a folder"),
    (["--val_dir", "nowhere"], "--val_dir nowhere is not a folder"),
    (["--val_dir", "empty"], "--val_dir empty contains no JPEG, PNG"),
    (["--input_dir", "empty"], "--input_dir empty contains no JPEG, PNG"),
    (["--output_dir", "data/train"], "--output_dir data/train is --input_dir too"),
    (["--output_dir", "./data/val"], "--output_dir data/val is --val_dir too"),
    (["--output_dir", "data/val/1.png"], "is a file"),
    (["--crop_size", "50"], "error: --crop_size 50 is not a multiple of 32: give 32 or 64"),
    (["--crop_size", "64"], "patch_286 cannot run, --patch_size 286 is too large for --crop_size 64"
     ": give a larger --crop_size or leave it out of --variants"),
    (["--seed", "-1"], "--seed"), (["--num_pictures", "0"], "--num_pictures"),
    (["--ndf", "0"], "--ndf"), (["--variants", "l2"], "--variants: l2: give l1, "),
    (["--variants"], "--variants"),
])
def test_wrong_options(stub, tmp_path, capsys, flags, part):
    """One line, exit code 2, nothing run and nothing created."""
    (tmp_path / "empty").mkdir()
    before = {*tmp_path.rglob("*")}
    assert ablation.main(COMMAND + flags) == 2
    error = capsys.readouterr().err
    assert part.replace("/", os.sep) in error and error.count("\n") == 1
    assert stub.commands == [] and {*tmp_path.rglob("*")} == before


def test_smallest_size_of_all_variants(stub):
    """96 pixels are enough for patch 286; 64 are for the others."""
    assert run(flags=["--crop_size", "96"]) == 0
    assert len(stub.commands) == 2 * len(ALL)
    assert run(*ALL[:-1], flags=["--crop_size", "64", "--output_dir", "other"]) == 0


def test_length_is_needed(stub, capsys):
    """--max_epochs or --max_steps."""
    assert ablation.main(COMMAND[:-2]) == 2
    assert capsys.readouterr().err == ("ablation.py: error: --max_epochs or --max_steps is missing:"
                                       " give one\n")
    assert ablation.main([*COMMAND[:-2], "--max_epochs", "2", "--variants", "l1"]) == 0


# ======================================================================
# The real thing
# ======================================================================


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_run_command(tmp_path):
    """Exit codes come through, a signal as 128 + n; both streams are appended to the log."""
    log = tmp_path / "log"

    def run_code(code):
        """The exit code of a Python command."""
        return ablation.run_command([sys.executable, "-c", code], log)

    assert run_code("import sys; print('one'); sys.exit(7)") == 7
    assert run_code("import sys; print('two', file=sys.stderr)") == 0
    assert log.read_text().split() == ["one", "two"]
    assert run_code(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})") == 137
    # Ctrl-C: it waits for what the command does then
    code = f"import os; os.kill(os.getppid(), {int(signal.SIGINT)}); print('saved')"
    with pytest.raises(KeyboardInterrupt):
        run_code(code)
    assert log.read_text().split() == ["one", "two", "saved"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_reaches_the_training_and_the_same_command_continues(stub, monkeypatch, capsys):
    """Exit code 143 after the training has saved; its time is kept."""
    def terminated(command, log_path):
        """Trains until SIGTERM, which the ablation alone gets from outside."""
        stub.saves = True
        stub(command, log_path)
        code = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("saved") or 143))
os.kill(os.getppid(), signal.SIGTERM)
time.sleep({2 * TIMEOUT})"""
        return run_command([sys.executable, "-c", code], log_path)

    with monkeypatch.context() as patch:
        patch.setattr(ablation, "run_command", terminated)
        assert run("l1") == 143
    assert capsys.readouterr().err.endswith("interrupted; the same command continues\n")
    assert Path("out/l1/train.log").read_text().endswith("saved\n")
    assert not list(Path("out").rglob("*.tmp"))
    assert run("l1") == 0
    assert stub.runs() == ["l1/train", "l1/train", "l1/test"]
    assert stub.arguments[1][-1] == "--resume" and read_table()[0]["seconds"] == "200.0"


def test_a_broken_image_of_a_test_is_one_line(stub, capsys):
    assert run("l1") == 0
    Path("out/l1/test/images/2-inputs.png").write_bytes(b"no image")
    assert run("l1", flags=["--num_pictures", "11"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ablation.py: error: ") and "2-inputs.png cannot be read" in error


@pytest.mark.slow
def test_real_run(tmp_path, monkeypatch):
    """Trains and tests; the table's L1 is that of the images, and the sheet shows them."""
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 2), ("val", 3)):
        Path(part).mkdir()
        for number in range(count):
            pair = np.random.default_rng(number).integers(0, 256, [32, 64, 3], np.uint8)
            Image.fromarray(pair).save(Path(part, f"{number}.png"))
    command = ["--input_dir", "train", "--val_dir", "val", "--output_dir", "out", "--ngf", "2",
               "--crop_size", "32", "--max_steps", "2", "--variants", "l1_gan"]
    assert ablation.main(command) == 0
    images = Path("out/l1_gan/test/images")
    outputs, targets = (np.stack([read_image(images / f"{number}-{kind}.png")
                                  for number in range(3)]) / 255
                        for kind in ("outputs", "targets"))
    row, = read_table()
    assert float(row["l1"]) == pytest.approx(np.abs(outputs - targets).mean(), rel=1e-4)
    stored = open_checkpoint("out/l1_gan/train").shapes
    assert int(row["weights"]) == sum(int(np.prod(shape)) for name, shape in stored.items()
                                      if name.split("/")[0] in ("generator", "discriminator")
                                      and name.split("/")[-1] in ("kernel", "bias", "gamma",
                                                                  "beta"))
    rows, _ = cells(read_image(Path("out/sheet.png")), 3, 3)
    assert np.abs(rows[1][2].mean() - 255 * outputs[1].mean()) < 2
