"""tools/evaluate.py: scores of folders, comparisons, files and the page."""

import contextlib
import csv
import json
import math
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from helpers import draw_pairs, in_folder, read_page_data, read_pixels
from helpers import run as run_pix2pix
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import pix2pix
from tools import evaluate
from tools.lib import outside_metrics
from tools.lib.models import LoadedModel

METRICS = ("l1", "psnr", "ssim")

pytestmark = pytest.mark.usefixtures("in_empty_folder")


@pytest.fixture(scope="module")
def tested(tiny, tmp_path_factory):
    """A folder with one_test and two_test, of two checkpoints of a model."""
    root = tmp_path_factory.mktemp("tested")
    with in_folder(root):
        draw_pairs(Path("pairs"), 7)
        for name, step in (("one", 6), ("two", 7)):
            assert run_pix2pix("--mode", "test", "--input_dir", "pairs", "--output_dir",
                               f"{name}_test", "--checkpoint", tiny / f"whole/model-{step}") == 0
    return root


def run(*arguments):
    """Runs the tool in this process; returns the exit code."""
    return evaluate.main([str(argument) for argument in arguments])


def draw_image(seed, size=(16, 12)):
    """An image of noise: uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)


def save(path, pixels):
    """Writes an image and the folder it is in."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_runs(count=8, runs=("a", "b"), ending="{}.png"):
    """Writes targets/N.png and a folder for each run, whose images are nearer than the last one's;
    returns the targets."""
    targets = {str(number): draw_image(number) for number in range(count)}
    for name, pixels in targets.items():
        save(f"targets/{name}.png", pixels)
        for index, folder in enumerate(runs):
            noise = draw_image(f"{folder}{name}".encode()[0] * 100 + int(name))
            save(f"{folder}/{ending.format(name)}",
                 (pixels + (noise - pixels.astype(float)) / (index + 2)).astype(np.uint8))
    return targets


def read_json(folder):
    """metrics.json of an evaluation."""
    return json.loads(Path(folder, "metrics.json").read_text())


def read_rows(path):
    """Rows of a CSV file as dictionaries."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- figures


def test_figures_are_those_of_test_mode(tested):
    """To the printed digit, of every image and over all."""
    assert run(tested / "one_test", tested / "two_test") == 0
    found = read_rows("one_evaluate/metrics.csv")
    data = read_json("one_evaluate")
    assert len(found) == 7 and data["targets"] == str(tested / "one_test")
    for number, name in enumerate(["one_test", "two_test"]):
        own = read_rows(tested / name / "metrics.csv")
        assert [{key: row[f"{name} {key}"] for key in METRICS} for row in found] == [
            {key: row[key] for key in METRICS} for row in own]
        expected = read_json(tested / name)
        for key in ("count", *METRICS, "standard_deviation", "median", "interval", "infinite"):
            assert data["runs"][number][key] == expected[key], key
    assert [row["name"] for row in found] == [row["name"] for row in own]


def test_figures_of_plain_folders_agree_with_arithmetic(capsys):
    targets = save_runs(runs=["a"])
    save("targets/grey.png", draw_image(50)[..., 0])  # one channel, its output three
    save("a/grey.png", np.repeat(draw_image(50)[..., :1], 3, axis=2))
    assert run("a", "--targets", "targets", "--output_dir", "out") == 0
    for row in read_rows("out/metrics.csv"):
        if row["name"] == "grey":
            assert (float(row["a l1"]), float(row["a psnr"])) == (0, math.inf)
            continue
        output = np.asarray(Image.open(f"a/{row['name']}.png"), float) / 255
        target = targets[row["name"]] / 255
        assert float(row["a l1"]) == pytest.approx(abs(output - target).mean(), abs=1e-6)
        assert float(row["a psnr"]) == pytest.approx(
            peak_signal_noise_ratio(target, output, data_range=1), abs=1e-3)
    assert read_json("out")["runs"][0]["infinite"]["psnr"] == 1
    assert "comparisons" in read_json("out") and " than " not in capsys.readouterr().out


def test_the_table_has_a_row_per_run_and_the_verdicts(capsys):
    save_runs(20)
    assert run("a", "b", "--targets", "targets") == 0
    lines, data = capsys.readouterr().out.splitlines(), read_json("a_evaluate")
    assert lines[0].split() == ["L1", "PSNR", "SSIM", "images"]
    for line, found in zip(lines[1:3], data["runs"], strict=True):
        low, high = found["interval"]["l1"]
        assert line.startswith(f"{found['name']}  {found['l1']:.4f} ({low:.4f} to {high:.4f})  ")
        assert line.endswith("  20")
    assert lines[3:-1] == [row["words"] for row in data["comparisons"]]
    assert lines[3].startswith("L1: b is better than a by ") and lines[3].endswith(", p < 0.001")
    differences = [float(row["b l1"]) - float(row["a l1"])
                   for row in read_rows("a_evaluate/metrics.csv")]
    assert data["comparisons"][0]["difference"] == pytest.approx(np.mean(differences), abs=1e-6)
    assert lines[-1] == "wrote a_evaluate/index.html"


# ---- folders


@pytest.mark.parametrize("target, output", [("{}_real_B", "{}_fake_B"), ("{}-targets", "{}-outputs"),
                                            (None, "{}_synthesized_image")])
def test_files_of_other_programs_are_found_by_their_endings(target, output):
    """In the folder, or in images/ beside a page and other images."""
    for number in range(3):
        save(f"results/images/{output.format(number)}.png", draw_image(number))
        save(f"results/images/{number}_real_A.png", draw_image(30))
        save(f"targets/{number}.png", draw_image(number))
        if target:
            save(f"results/images/{target.format(number)}.png", draw_image(number))
    save("results/sheet.png", draw_image(4))
    more = [] if target else ["--targets", "targets"]
    assert run("results", *more) == 0 and run("results/images", *more, "--output_dir", "two") == 0
    for folder in ("results_evaluate", "two"):
        (found,) = read_json(folder)["runs"]
        assert (found["count"], found["l1"], found["infinite"]["psnr"]) == (3, 0, 3)


def test_files_without_a_partner_are_named(capsys):
    save_runs(8)
    Path("a/3.png").rename("a/three.png")
    Path("b/0.png").unlink()
    assert run("a", "b", "--targets", "targets") == 0
    streams = capsys.readouterr()
    assert streams.err.splitlines() == [
        "evaluate.py: a/three.png has no target in targets: ignored",
        "evaluate.py: targets/3.png has no output in a: ignored for it",
        "evaluate.py: targets/0.png has no output in b: ignored for it"]
    data = read_json("a_evaluate")
    assert [found["count"] for found in data["runs"]] == [7, 7]
    assert {row["count"] for row in data["comparisons"]} == {6}  # that both have
    rows = {row["name"]: row for row in read_rows("a_evaluate/metrics.csv")}
    assert rows["3"]["a l1"] == "" != rows["3"]["b l1"]


def refuse(capsys, *arguments):
    """The one line of a refused command, which leaves nothing."""
    before = sorted(Path().rglob("*"))
    assert run(*arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return streams.err.removeprefix("evaluate.py: error: ").rstrip("\n")


def test_other_sizes_are_refused_by_name(capsys):
    save_runs(3)
    save("b/2.png", draw_image(1, (20, 12)))
    assert refuse(capsys, "a", "b", "--targets", "targets") == (
        "b/2.png is 20x12 and targets/2.png 16x12 pixels: make them equal, such as with "
        "tools/process.py --operation resize --size 12x16")
    save("targets/0.png", draw_image(1, (64, 24)))
    assert refuse(capsys, "a", "--targets", "targets") == (
        "a/0.png is 16x12 and targets/0.png 64x24 pixels: that seems to be a pair, give a folder "
        "of the targets alone")


def test_folders_that_do_not_fit_are_refused(capsys, tested):
    save_runs(3)
    save("other/x.png", draw_image(1))
    Path("empty").mkdir()
    for arguments, text in (
            (["a"], "a contains no targets, such as NAME-targets.png: give their folder as "
                    "--targets"),
            (["other", "--targets", "targets"], "no image in other has the name of one in targets, "
             "such as 0.png: give both the same names"),
            (["empty", "--targets", "targets"], "the run empty contains no JPEG, PNG, BMP, GIF, "
             "TIFF, WebP, PPM or npy images: check the path"),
            (["a", "--targets", "missing"], "--targets missing is not a folder: check the path"),
            (["a", "./a", "--targets", "targets"], "./a is given twice: give each run once"),
            (["a", "--targets", "targets", "--output_dir", "b"], "--output_dir b is neither empty "
             "nor an earlier evaluation: choose another"),
            ([tested / "one_test", "--output_dir", tested / "two_test"], f"--output_dir "
             f"{tested / 'two_test'} is neither empty nor an earlier evaluation: choose another")):
        assert refuse(capsys, *arguments) == text


def test_an_earlier_evaluation_is_replaced():
    save_runs(3)
    assert run("a", "--targets", "targets") == 0
    assert run("a", "b", "--targets", "targets") == 0
    assert len(read_json("a_evaluate")["runs"]) == 2


def test_runs_of_the_same_name_are_told_by_their_paths():
    save_runs(3, ["x/run", "y/run", "z"])
    assert run("x/run", "y/run", "z", "--targets", "targets", "--output_dir", "out") == 0
    assert [found["name"] for found in read_json("out")["runs"]] == ["x/run", "y/run", "z"]


# ---- the page


def test_the_page_links_images_where_they_are():
    """A name that looks like HTML and an address is text; every link leads to a file."""
    html5lib = pytest.importorskip("html5lib")
    save_runs(3)
    odd = "<b>&amp; 50%25 #1?.png"
    for folder in ("targets", "a", "b"):
        shutil.copy(f"{folder}/0.png", f"{folder}/{odd}")
    Path("b/1.png").unlink()
    assert run("a", "b", "--targets", "targets", "--output_dir", "deep/out") == 0
    text = Path("deep/out/index.html").read_text()
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    links = [image.get("src") for image in page.iter("img")]
    assert len(links) == 4 * 3 - 1
    for link in links:
        assert Path("deep/out", unquote(link)).resolve().is_file() and link.startswith("../../")
    assert any(row.text == "<b>&amp; 50%25 #1?" for row in page.iter("th"))


def test_the_page_sorts_by_difference_and_by_the_worst():
    save_runs(9)
    assert run("a", "b", "--targets", "targets") == 0
    rows = {row["name"]: row for row in read_rows("a_evaluate/metrics.csv")}
    text = Path("a_evaluate/index.html").read_text()
    shown = re.findall(r'<tr><th scope="row">(\d)</th>', text)
    values = {name: {key: float(row[key]) for key in row if key != "name"}
              for name, row in rows.items()}
    keys = {"largest difference in L1": lambda name: -abs(values[name]["a l1"]
                                                          - values[name]["b l1"]),
            "name": int, "worst PSNR of b": lambda name: values[name]["b psnr"],
            "worst L1 of a": lambda name: -values[name]["a l1"]}
    orders = {order["label"]: order["order"] for order in read_page_data("a_evaluate")["orders"]}
    for label, key in keys.items():
        assert [shown[index] for index in orders[label]] == sorted(rows, key=key), label
    assert orders["largest difference in L1"] == [*range(9)]


# ---- reading the inputs back

COLOURS = np.array([[0, 0, 222], [0, 48, 255], [255, 159, 0]], np.uint8)


@pytest.fixture
def copying_reader(monkeypatch):
    """A reader that reads every image as it is, called "reader"."""
    monkeypatch.setattr(evaluate, "load_model",
                        lambda path: LoadedModel(path, lambda contents: contents))


def save_labels(count=6):
    """Writes label images to targets/ and inputs/, and a/ and b/, where every eighth and every
    fourth pixel is of another class; returns the classes of inputs, a and b."""
    classes = {folder: [] for folder in ("inputs", "a", "b")}
    for number in range(count):
        blocks = np.random.default_rng(number).integers(0, 3, (2, 4))
        real = np.kron(blocks, np.ones((8, 8), int))
        for folder, step in (("inputs", None), ("targets", None), ("a", 8), ("b", 4)):
            read = real.copy()
            if step:
                read.ravel()[number % 2::step] += 1
            save(f"{folder}/{number}.png", COLOURS[read % 3])
            if folder in classes:
                classes[folder].append(read % 3)
    return classes


def test_labels_are_read_back_by_the_papers_figures(copying_reader, capsys):
    classes = save_labels()
    assert run("a", "b", "--targets", "targets", "--inputs", "inputs", "--read_back", "reader") == 0
    found, out = read_json("a_evaluate")["read_back"], capsys.readouterr().out
    ceiling, *runs = found["runs"]
    assert (ceiling["name"], ceiling["pixel_accuracy"], ceiling["mean_iou"], ceiling["l1"]) == (
        "real targets", 1, 1, 0)
    real = np.array(classes["inputs"])
    for row in runs:
        read = np.array(classes[row["name"]])
        right = [((real == index) & (read == index)).sum() for index in range(3)]
        either = [((real == index) | (read == index)).sum() for index in range(3)]
        assert row["pixel_accuracy"] == pytest.approx((real == read).mean())
        assert row["class_accuracy"] == pytest.approx(np.mean(
            [right[index] / (real == index).sum() for index in range(3)]))
        assert row["mean_iou"] == pytest.approx(np.divide(right, either).mean())
        assert sum(part["share"] for part in row["classes"]) == pytest.approx(1)
        assert {part["colour"] for part in row["classes"]} == {"0000de", "0030ff", "ff9f00"}
    assert "\npixel accuracy: b is worse than a by 0.125 (0.125 to 0.125), p = 0.031\n" in out
    page = Path("a_evaluate/index.html").read_text()
    assert "Inputs read back" in page and "real targets" in page and found["about"][:40] in page
    assert float(read_rows("a_evaluate/metrics.csv")[0]["a read_back_pixel_accuracy"]) == 0.875


def test_colours_of_blurred_labels_can_be_given(copying_reader, capsys):
    save_labels()
    for number in range(6):
        pixels = np.asarray(Image.open(f"inputs/{number}.png")).astype(int)
        noise = np.random.default_rng(number).integers(-9, 10, pixels.shape)
        save(f"inputs/{number}.png", np.clip(pixels + noise, 0, 255).astype(np.uint8))
    arguments = ["a", "--targets", "targets", "--inputs", "inputs", "--read_back", "reader"]
    assert run(*arguments) == 0
    assert "not made of a few exact colours" in capsys.readouterr().out
    assert "pixel_accuracy" not in read_json("a_evaluate")["read_back"]["runs"][0]
    assert run(*arguments, "--label_colours", "0000de", "0030FF", "#ff9f00") == 0
    ceiling, a = read_json("a_evaluate")["read_back"]["runs"]
    assert (ceiling["pixel_accuracy"], a["pixel_accuracy"]) == (1, 0.875)


def test_a_model_reads_the_inputs_of_test_folders_back(tested, tiny, capsys):
    """What the model makes of each output, by the function that apply.py uses, against the input.
    """
    reader = tiny / "whole/model-7"
    assert run(tested / "one_test", "--read_back", reader) == 0
    streams, row = capsys.readouterr(), read_rows("one_evaluate/metrics.csv")[3]
    assert "was trained AtoB, as was a model that is scored" in streams.err
    image = str(tested / "one_test/images" / f"{row['name']}-{{}}.png")
    generate = pix2pix.load_model(reader).generate
    for column, kind in (("one_test", "outputs"), ("real targets", "targets")):
        read = read_pixels(generate(Path(image.format(kind)).read_bytes()))
        expected = abs(read - read_pixels(image.format("inputs"))).mean() / 255
        assert float(row[f"{column} read_back_l1"]) == pytest.approx(expected, abs=1e-6)


def test_readers_and_inputs_that_do_not_fit_are_refused(copying_reader, capsys):
    save_runs(3)
    save("inputs/0.png", draw_image(1, (20, 12)))
    targets = ["a", "--targets", "targets"]
    for arguments, text in (
            (["--inputs", "inputs"], "--inputs belongs to --read_back: give that too"),
            (["--read_back", "reader"], "a contains no inputs, such as NAME-inputs.png: give their "
             "folder as --inputs"),
            (["--read_back", "reader", "--inputs", "targets", "--label_colours", "red"],
             "argument --label_colours: red: give a colour as RRGGBB, such as ff8000")):
        assert refuse(capsys, *targets, *arguments) == text
    assert run(*targets, "--read_back", "reader", "--inputs", "inputs") == 2
    error = capsys.readouterr().err
    assert "targets/1.png has no input in inputs: not read back\n" in error
    assert "inputs/0.png is 20x12 and targets/0.png 16x12 pixels: " in error
    assert not Path("a_evaluate").exists()


# ---- FID and LPIPS, by replacements of the packages


class Torch:
    """Replaces torch: tensors are arrays."""

    def __init__(self, folder):
        self.hub = self.cuda = self
        self.get_dir, self.is_available = lambda: str(folder), lambda: False
        self.device, self.no_grad = str, contextlib.nullcontext

    @staticmethod
    def from_numpy(array):
        """An array that has a device, too."""
        class Tensor(np.ndarray):
            """Moves nowhere."""

            def to(self, device):
                """Itself."""
                assert device == "cpu"
                return self
        return array.view(Tensor)


class Lpips:
    """Replaces lpips: keeps how it is called, and measures the mean absolute difference."""

    calls = []

    def LPIPS(self, **settings):  # noqa: N802
        """The network."""
        self.calls.append(settings)
        return self

    def to(self, device):
        """Itself."""
        assert device == "cpu"
        return self

    def __call__(self, output, target):
        """Of batches [1, 3, height, width] -1..1."""
        assert output.shape == target.shape == (1, 3, 12, 16) and output.dtype == np.float32
        assert -1 <= target.min() < -0.9 and 0.9 < target.max() <= 1
        return abs(output - target).mean()


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """clean-fid, lpips and torch are installed, and lpips' weights; returns the folder of weights.
    """
    weights = tmp_path / "weights"
    (weights / "checkpoints").mkdir(parents=True)
    (weights / "checkpoints/alexnet-owt-7be5be79.pth").touch()
    monkeypatch.setattr(Lpips, "calls", [])
    for name, module in (("torch", Torch(weights)), ("lpips", Lpips())):
        monkeypatch.setitem(sys.modules, name, module)
    return weights


def test_lpips_is_a_metric_of_each_image(packages, capsys):
    save_runs()
    assert run("a", "b", "--targets", "targets", "--lpips") == 0
    assert Lpips.calls == [{"net": "alex", "version": "0.1", "verbose": False}]
    for row in read_rows("a_evaluate/metrics.csv"):
        assert float(row["b lpips"]) == pytest.approx(2 * float(row["b l1"]), abs=1e-5)
    data = read_json("a_evaluate")
    assert "AlexNet" in data["protocol"]["lpips"] and "LPIPS: b is better" in capsys.readouterr().out
    assert data["runs"][0]["lpips"] == pytest.approx(2 * data["runs"][0]["l1"], abs=1e-5)


def test_fid_is_that_of_the_outputs_and_their_targets(packages, monkeypatch, capsys):
    """A target without an output does not count, nor other files of a folder."""
    calls = []

    class Fid:
        """Replaces cleanfid.fid."""

        @staticmethod
        def compute_fid(*folders, **settings):
            """Keeps the pixels of both folders."""
            files = [sorted(Path(folder).iterdir()) for folder in folders]
            calls.append(([[read_pixels(path) for path in paths] for paths in files], settings))
            return 12.345

    monkeypatch.setitem(sys.modules, "cleanfid.fid", Fid)
    monkeypatch.setattr(outside_metrics, "require_weights", lambda *arguments: None)
    save_runs(3)
    Path("a/1.png").unlink()
    assert run("a", "--targets", "targets", "--fid") == 0
    ((outputs, targets), settings), = calls
    for found, folder in ((outputs, "a"), (targets, "targets")):
        np.testing.assert_array_equal(found, [read_pixels(f"{folder}/{name}.png")
                                              for name in "02"])
    assert settings["mode"] == "clean" and settings["device"] == "cpu"
    lines, data = capsys.readouterr().out.splitlines(), read_json("a_evaluate")
    Path("a/2.png").unlink()
    assert "--fid needs at least two images, a has one: leave --fid out" in refuse(
        capsys, "a", "--targets", "targets", "--fid")
    assert lines[0].split()[-2:] == ["FID", "images"] and lines[1].split()[-2:] == ["12.35", "2"]
    assert data["runs"][0]["fid"] == 12.345 and "clean-fid" in data["protocol"]["fid"]
    assert "FID" in Path("a_evaluate/index.html").read_text()


def test_what_is_not_installed_is_named(packages, monkeypatch, capsys):
    save_runs(3)
    weights = packages / "checkpoints/alexnet-owt-7be5be79.pth"
    weights.unlink()
    assert refuse(capsys, "a", "--targets", "targets", "--lpips") == (
        f"--lpips needs weights, {weights.with_name('alexnet-owt-*.pth')}: download them with "
        "`python -c 'import lpips; lpips.LPIPS(net=\"alex\")'`")
    for flag, module, package in (("--lpips", "lpips", "lpips"),
                                  ("--fid", "cleanfid.fid", "clean-fid")):
        monkeypatch.setitem(sys.modules, module, None)
        error = refuse(capsys, "a", "--targets", "targets", flag)
        assert error.startswith(f"{flag} needs {package} (")
        assert error.endswith(f"): install it with `pip install {package}`")
