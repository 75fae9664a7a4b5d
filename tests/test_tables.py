"""Adding a loss, a metric or an image format is one row: all that shows or uses it follows."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_pairs, read_page_data, read_shown, read_variables, run, run_graph, smooth_images
from PIL import Image

import pix2pix
from tools.lib import dataset, image_files, images, metrics
from tools.lib.checkpoints import infer_options
from tools.lib.display import DisplayImages
from tools.lib.image_files import ImageFormat, find_images
from tools.lib.images import read_image
from tools.lib.tf1 import tf


def tv_loss(outputs):
    """Mean absolute difference of neighbouring rows."""
    return tf.reduce_mean(tf.abs(outputs[:, 1:] - outputs[:, :-1]))


ROW = pix2pix.Loss(
    "generator", lambda forward, _: tv_loss(forward.outputs), weight="tv_weight", default=0.0,
    help="weight of the total variation", average="generator_loss/Mean_3/ExponentialMovingAverage",
    needs_discriminator=False)


@pytest.fixture
def tv_row(monkeypatch, in_empty_folder):
    """LOSSES with a row more, and images to train on."""
    monkeypatch.setitem(pix2pix.LOSSES, "gen_loss_TV", ROW)
    draw_pairs("bars/train", 3)


def train(folder, *flags):
    """Two steps of a small training; returns the rows of log.csv."""
    assert run("--mode", "train", "--input_dir", "bars/train", "--output_dir", folder, "--seed", 7,
               "--ngf", 1, "--ndf", 1, "--crop_size", 96, "--summary_freq", 0, "--precision",
               "float32", "--max_steps", 2, "--progress_freq", 1, *flags) == 0
    return [*csv.DictReader(Path(folder, "log.csv").open())]


@pytest.mark.parametrize("flags, names", [
    ([], ["discrim_loss", "gen_loss_GAN", "gen_loss_L1", "gen_loss_TV"]),
    (["--gan_weight", 0], ["gen_loss_L1", "gen_loss_TV"]),
    (["--batch_size", 2, "--grad_accumulation", 2],
     ["discrim_loss", "gen_loss_GAN", "gen_loss_L1", "gen_loss_TV"])])
def test_a_row_of_losses_is_all_that_a_loss_needs(tv_row, capsys, flags, names):
    rows = train("run", "--tv_weight", 5, *flags)
    assert [*rows[0]][:len(names) + 3] == ["step", "epoch", *names, "lr"]  # its column
    assert all(0 < float(row["gen_loss_TV"]) < 2 for row in rows)
    assert ROW.average in read_variables("run")  # its average
    assert "gen_loss_TV 0." in capsys.readouterr().out  # its line of progress
    shown = read_shown("run")  # and on the page
    assert shown["columns"]["gen_loss_TV"] == [float(row["gen_loss_TV"]) for row in rows]
    assert "gen_loss_TV" in [chart["title"] for chart in shown["charts"]]
    assert json.loads(Path("run/options.json").read_text())["tv_weight"] == 5  # its flag


def test_a_loss_of_weight_0_is_not_computed(tv_row):
    assert "gen_loss_TV" not in train("run")[0]
    assert ROW.average not in read_variables("run")


def generator_gradients(tv_weight, gan_weight):
    """All gradients of the generator, for fixed images and weights."""
    options = pix2pix.with_options(pix2pix.parse_args(
        ["--mode", "train", "--input_dir", "bars/train", "--crop_size", "96", "--no_dropout"]),
        ngf=2, ndf=1, precision="float32", tv_weight=tv_weight, gan_weight=gan_weight)

    def build():
        """The gradients, by name."""
        pairs = [tf.constant(smooth_images(seed, 1, size=96)) for seed in (1, 2)]
        model = pix2pix.create_model(pix2pix.Examples(tf.range(1), *pairs), options)
        return [gradient for gradient, variable in model.gradients
                if variable.op.name.startswith("generator/")]
    return np.concatenate([gradient.ravel() for gradient in run_graph(build, fill=True)])


@pytest.mark.parametrize("gan_weight", [1.0, 0.0])
def test_its_weight_is_in_the_sum_that_the_generator_minimizes(tv_row, gan_weight):
    one, three, seven = (generator_gradients(weight, gan_weight) for weight in (100., 300., 700.))
    np.testing.assert_allclose((seven - three) / 4, (three - one) / 2, rtol=1e-3,
                               atol=1e-4 * np.abs(three).max())
    assert np.abs(three - one).max() > 0.1 * np.abs(one).max()


def test_summaries_have_it(tv_row, options):
    with tf.Graph().as_default():
        pairs = [tf.zeros([1, 256, 256, 3])] * 2
        model = pix2pix.create_model(
            pix2pix.Examples(tf.range(1), *pairs),
            pix2pix.with_options(pix2pix.parse_args(
                ["--mode", "train", "--input_dir", "bars/train", "--tv_weight", "2"]),
                ngf=1, ndf=1, precision="float32"))
        assert "gen_loss_TV" in model.losses and "gen_loss_TV" in model.averages
        images = DisplayImages(*[tf.zeros([1, 8, 8, 3], tf.uint8)] * 3)
        tags = [tensor.op.inputs[0] for tensor in tf.get_collection(tf.GraphKeys.SUMMARIES)]
        assert not tags
        pix2pix.create_summaries(model, {}, images, False)
        names = {tensor.op.name for tensor in tf.get_collection(tf.GraphKeys.SUMMARIES)}
    assert "gen_loss_TV" in names


def test_the_monitor_counts_its_weight(tv_row):
    options = pix2pix.parse_args(["--mode", "train", "--input_dir", "bars/train", "--tv_weight",
                                  "2", "--l1_weight", "10", "--feature_weight", "4"])
    assert pix2pix.generator_weight(options) == 2 + 10 + 4 + 1


def test_a_row_of_metrics_is_all_that_a_metric_needs(trained, monkeypatch, tmp_path, capsys):
    def bias(outputs, targets):
        """Mean difference."""
        return tf.reduce_mean(outputs - targets, axis=[1, 2, 3])
    monkeypatch.setitem(metrics.METRICS, "bias", metrics.Metric("Bias", "lower", 4, "", bias))
    monkeypatch.chdir(trained)
    assert run("--mode", "test", "--input_dir", "bars/val", "--checkpoint", "bars_train",
               "--output_dir", tmp_path) == 0
    rows = [*csv.DictReader((tmp_path / "metrics.csv").open())]
    assert [*rows[0]] == ["name", "l1", "psnr", "ssim", "bias"]
    for row in rows:
        output, target = (np.asarray(Image.open(tmp_path / "images" / f"{row['name']}-{kind}.png"),
                                     float) for kind in ("outputs", "targets"))
        assert float(row["bias"]) == pytest.approx((output - target).mean() / 255, abs=1e-5)
    mean = np.mean([float(row["bias"]) for row in rows])
    assert json.loads((tmp_path / "metrics.json").read_text())["bias"] == pytest.approx(mean,
                                                                                        abs=1e-5)
    shown = f"bias {mean:.3g}"[:9]
    assert shown in capsys.readouterr().out
    on_page = read_page_data(tmp_path)["metrics"][-1]
    assert on_page["name"] == "bias" and on_page["mean"] == pytest.approx(mean, abs=1e-5)


def test_a_row_of_formats_is_found_checked_and_read(tmp_path, monkeypatch):
    """TGA, which Pillow knows: found, checked, read in arrays and in the graph."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    contents = images.to_bytes(pixels, "TGA")
    (tmp_path / "a.tga").write_bytes(contents)
    assert not find_images(tmp_path)
    monkeypatch.setitem(image_files.FORMATS, "tga", ImageFormat(rb"\x00\x00\x02", (".tga",)))
    path, = find_images(tmp_path)
    np.testing.assert_array_equal(read_image(path), pixels)
    np.testing.assert_array_equal(run_graph(lambda: images.decode_pixels(tf.constant(contents))),
                                  pixels)
    check = dataset.check_file(path, images.create_decoder())
    assert (check.width, check.height, check.reason) == (7, 5, "")
    path.write_bytes(contents[:20])
    assert "truncated" in dataset.check_file(path, images.create_decoder()).reason


def test_channels_that_no_pair_has_are_not_taken_for_lab():
    shapes = {"generator/encoder_1/conv2d/kernel": [4, 4, 4, 8],
              "generator/decoder_1/conv2d_transpose/kernel": [4, 4, 1, 16]}
    assert not infer_options(shapes)["lab_colorization"]
    for channels, lab in (((3, 3), False), ((1, 2), True), ((2, 1), True)):
        shapes["generator/encoder_1/conv2d/kernel"][2] = channels[0]
        shapes["generator/decoder_1/conv2d_transpose/kernel"][2] = channels[1]
        assert infer_options(shapes)["lab_colorization"] is lab
