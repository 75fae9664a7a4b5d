"""The metrics, against scikit-image and TensorFlow; what is written of them."""

import io
import json
import math

import numpy as np
import pytest
import scipy.stats
import skimage.data
import skimage.metrics
from PIL import Image, ImageChops, ImageFilter

from tools.lib import metrics
from tools.lib.metrics import (create_metrics, describe_means, structural_similarity, summarize,
                               summarize_rows, write_metrics)
from tools.lib.tf1 import tf


def read_json(path):
    """A JSON file as strict readers take it, which know no Infinity."""
    def refuse(name):
        raise ValueError(name)
    return json.loads(path.read_text(), parse_constant=refuse)


# ---- in the graph


def compare(outputs, targets):
    """Metrics of one image by name."""
    with tf.Graph().as_default(), tf.Session() as sess:
        return {name: value for name, (value,) in sess.run(
            create_metrics(outputs[np.newaxis], targets[np.newaxis])).items()}


def save_and_open(image, file_format, **settings):
    """A Pillow image as it comes back from a file."""
    contents = io.BytesIO()
    image.save(contents, file_format, **settings)
    return Image.open(contents)


CHANGES = {  # of a photo, as generators go wrong
    "none": lambda photo: photo,
    "blurred": lambda photo: photo.filter(ImageFilter.GaussianBlur(2)),
    "compressed": lambda photo: save_and_open(photo, "JPEG", quality=15),
    "darker": lambda photo: photo.point(lambda value: int(0.8 * value)),
    "shifted": lambda photo: ImageChops.offset(photo, 3, 1),
    "noise": lambda photo: Image.fromarray(np.random.default_rng(4).integers(
        0, 256, (photo.height, photo.width, 3), np.uint8))}


@pytest.mark.parametrize("name, change", CHANGES.items(), ids=CHANGES)
@pytest.mark.parametrize("photo", ["astronaut", "coffee"])
def test_metrics_agree_with_scikit_image(photo, name, change):
    photo = Image.fromarray(getattr(skimage.data, photo)()[50:230, 60:350])
    outputs, targets = np.asarray(change(photo)), np.asarray(photo)
    got = compare(outputs, targets)
    assert got["l1"] == pytest.approx(np.abs(outputs / 255 - targets / 255).mean(), abs=1e-6)
    with np.errstate(divide="ignore"):
        expected = skimage.metrics.peak_signal_noise_ratio(targets, outputs)
    assert got["psnr"] == pytest.approx(expected, abs=1e-3)
    _, whole = skimage.metrics.structural_similarity(
        outputs, targets, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True)
    # scikit-image pads; the inner part is what both compute
    assert got["ssim"] == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-5)
    assert (got["ssim"] < 0.99) == (name != "none")


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_tensorflows(channels):
    rng = np.random.default_rng(channels)
    images = rng.uniform(size=(3, 31, 43, channels)).astype(np.float32)
    changed = np.clip(images + 0.3 * rng.standard_normal(images.shape), 0, 1).astype(np.float32)
    changed[2] = images[2]
    with tf.Graph().as_default(), tf.Session() as sess:
        got, expected = sess.run([structural_similarity(images, changed),
                                  tf.image.ssim(images, changed, max_val=1.0)])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got[2] == pytest.approx(1, abs=1e-6) and 0.1 < got[0] < 0.95 and got[0] != got[1]


@pytest.mark.parametrize("height", [5, 70])
def test_ssim_in_bands_is_that_of_the_whole_image(monkeypatch, height):
    x, noise = np.random.default_rng(height).uniform(size=(2, 2, height, 23, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        whole = sess.run(structural_similarity(x, (x + noise) / 2))
        monkeypatch.setattr(metrics, "SSIM_BAND", 13)
        bands = sess.run(structural_similarity(x, (x + noise) / 2))
    np.testing.assert_allclose(bands, whole, rtol=1e-5)
    assert whole[0] != whole[1]


# ---- in files


def test_metrics_files_hold_rows_and_means(tmp_path):
    rows = [{"l1": 0.25, "psnr": 10, "ssim": 0.5}, {"l1": 0.75, "psnr": 20, "ssim": 1}]
    write_metrics(tmp_path, ["a,b", "c"], rows, summarize_rows(rows), {"step": 7})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "name,l1,psnr,ssim", '"a,b",0.25,10,0.5', "c,0.75,20,1"]
    written = read_json(tmp_path / "metrics.json")
    assert {name: written[name] for name in ("step", "count", "l1", "psnr", "ssim")} == {
        "step": 7, "count": 2, "l1": 0.5, "psnr": 15, "ssim": 0.75}
    assert written["median"] == {"l1": 0.5, "psnr": 15, "ssim": 0.75}
    assert written["standard_deviation"]["psnr"] == pytest.approx(50**0.5)
    assert written["infinite"] == {"l1": 0, "psnr": 0, "ssim": 0}
    assert {*written["protocol"]} == {"images", "interval", "l1", "psnr", "ssim"}


def test_an_infinite_psnr_is_left_out_of_the_mean_and_counted(tmp_path):
    rows = [{"l1": 0, "psnr": psnr, "ssim": 1} for psnr in (math.inf, 20, 30)]
    summaries = summarize_rows(rows)
    write_metrics(tmp_path, "abc", rows, summaries)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "a,0,inf,1"
    written = read_json(tmp_path / "metrics.json")
    assert (written["psnr"], written["infinite"]["psnr"]) == (25, 1)
    assert describe_means(summaries) == "l1 0, psnr 25, ssim 1"
    summaries = summarize_rows(rows[:1])
    write_metrics(tmp_path, "a", rows[:1], summaries)
    written = read_json(tmp_path / "metrics.json")
    assert [written[name] for name in ("psnr", "l1")] == [None, 0]
    assert [written[name]["psnr"] for name in ("median", "interval", "standard_deviation")] \
        == [None] * 3
    assert describe_means(summaries) == "l1 0, psnr infinite, ssim 1"


def test_the_interval_of_a_mean_is_scipys_and_nearly_the_normal_distributions():
    values = np.random.default_rng(2).gamma(2, size=150)
    low, high = summarize(values).interval
    assert [low, high] == summarize(values[::-1]).interval  # it does not change
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile",
                                     random_state=1).confidence_interval
    error = values.std(ddof=1) / len(values)**0.5
    assert [low, high] == pytest.approx([expected.low, expected.high], abs=0.25 * error)
    assert [low, high] == pytest.approx(values.mean() + np.array([-1.96, 1.96]) * error,
                                        abs=0.3 * error)
