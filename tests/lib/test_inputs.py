"""What a training folder keeps of its inputs: statistics and examples."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import read_pixels, run, train_small
from PIL import Image

import pix2pix
from tools.lib import inputs, run_log
from tools.lib.cli import with_options
from tools.lib.image_types import choose_pair
from tools.lib.inputs import describe_inputs, write_inputs

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def save(name, pixels, **settings):
    """Writes uint8 [height, width, 3] or [height, width]; returns the path."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)
    return path


def draw_labels(height=40, width=60):
    """A label map [height, width, 3] of three colours in areas: a half, a third and a sixth."""
    pixels = np.zeros([height, width, 3])
    pixels[:, width // 2:] = 250, 251, 255
    pixels[:, width * 5 // 6:] = 249, 255, 255
    return pixels


def noise(*shape, high=256):
    """Values of another draw each time it is called with another shape."""
    return np.random.default_rng(shape[1]).integers(0, high, shape)


# ---- statistics


def test_a_label_map_has_its_colours_and_white(options):
    pair = np.concatenate([draw_labels(), noise(40, 60, 3)], axis=1)
    examples = [(save(f"{number}.png", pair),) for number in range(2)]
    statistics, shown = describe_inputs(examples, options)
    assert statistics == {
        "images": 2, "images_of": 2, "sizes": [{"width": 60, "height": 40, "images": 2}],
        "channels": 3, "kind": "images", "type": "uint8", "range": [0, 255], "ignore": [],
        "classes": None, "indices": False, "grey": False, "jpeg": False,
        "colours": [{"rgb": [0, 0, 0], "share": 0.5}, {"rgb": [250, 251, 255], "share": 0.3333},
                    {"rgb": [249, 255, 255], "share": 0.1667}],
        "white_share": 0.3333, "examples": ["inputs-1.png", "inputs-2.png"]}
    np.testing.assert_array_equal(shown[0], draw_labels())
    statistics, shown = describe_inputs(examples, with_options(options, which_direction="BtoA"))
    assert statistics["colours"] is None
    np.testing.assert_array_equal(shown[1], noise(40, 60, 3))


def test_jpeg_files_have_no_exact_colours(options):
    """Of flat colour, where compression happens to change none."""
    grey = np.full([32, 64, 3], 255)
    assert describe_inputs([(save("a.png", grey),)], options)[0]["colours"]
    statistics, _ = describe_inputs([(save("a.jpg", grey),)], options)
    assert (statistics["colours"], statistics["jpeg"], statistics["grey"]) == (None, True, True)
    assert statistics["white_share"] == 1
    # a JPEG target does not matter
    files = with_options(options, a_dir=["a"], b_dir="b", input_dir=None)
    pair = (save("a/1.png", grey), save("b/1.jpg", grey))
    assert describe_inputs([pair], files)[0]["colours"]
    assert describe_inputs([pair], with_options(files, which_direction="BtoA"))[0]["jpeg"]


@pytest.mark.parametrize("count, flat, few", [(64, True, True), (65, True, False),
                                              (64, False, False), (2, True, True)])
def test_few_colours_are_at_most_64_in_areas(options, count, flat, few):
    levels = np.arange(count) * 3
    pixels = np.repeat(levels, 10)[None, :].repeat(8, axis=0) if flat \
        else np.resize(levels, [8, 10 * count])
    # two sizes, for colours are counted over all images
    examples = [(save(f"{number}.png", np.tile(pixels[number::2], (1, 2))),) for number in (0, 1)]
    statistics, _ = describe_inputs(examples, options)
    assert (statistics["colours"] is not None) == few and statistics["grey"]
    if few:
        assert {colour["rgb"][0] for colour in statistics["colours"]} == {*levels.tolist()}


def test_lab_inputs_are_shown_as_lightness_in_grey(options):
    """The oracle is CIE 1976: pure red has L* 53.24, pure green 87.73, of 100."""
    red, green = np.zeros([2, 8, 8, 3])
    red[..., 0], green[..., 1] = 255, 255
    lab = with_options(options, lab_colorization=True)
    statistics, shown = describe_inputs(
        [(save("a.png", np.concatenate([red, green], axis=0)),)], lab)
    assert (statistics["channels"], statistics["grey"]) == (1, True)
    for rows, lightness in ((slice(0, 8), 53.24), (slice(8, 16), 87.73)):
        np.testing.assert_allclose(shown[0][rows], 2.55 * lightness, atol=0.51)
    statistics, shown = describe_inputs([(Path("a.png"),)],
                                        with_options(lab, which_direction="BtoA"))
    assert (statistics["channels"], statistics["grey"]) == (2, False)
    np.testing.assert_allclose(shown[0][:8], red, atol=1)


def test_several_inputs_lie_side_by_side(options):
    options = with_options(options, num_inputs=2, a_dir=["a", "m"], b_dir="b", input_dir=None)
    example = (save("a/1.png", noise(30, 50, 3)), save("m/1.png", np.zeros([60, 100])),
               save("b/1.png", np.zeros([30, 50])))
    statistics, (shown,) = describe_inputs([example], options)
    assert statistics["channels"] == 6 and shown.shape == (30, 100, 3)
    np.testing.assert_array_equal(shown[:, :50], noise(30, 50, 3))
    assert not shown[:, 50:].any()


def test_examples_are_small_and_keep_shape_and_colours(options):
    pair = np.tile(draw_labels(300, 600), (1, 2, 1))
    statistics, (shown,) = describe_inputs([(save("a.png", pair),)], options)
    assert shown.shape == (128, 256, 3) and len(statistics["colours"]) == 3
    assert {*map(tuple, shown.reshape(-1, 3))} == {(0, 0, 0), (250, 251, 255), (249, 255, 255)}
    _, (shown,) = describe_inputs([(save("b.png", noise(2000, 16, high=2) * 255),)], options)
    assert shown.shape == (256, 1, 3)
    assert 0 < shown.mean() < 255 and len(np.unique(shown)) > 9  # averaged: no exact colours


def test_a_sample_is_bounded_and_follows_from_the_seed(options, monkeypatch):
    examples = [(save(f"{number}.png", np.full([4, 2 * number + 2], number)),)
                for number in range(40)]
    one, other, third = (describe_inputs(examples, with_options(options, seed=seed))[0]
                         for seed in (1, 1, 2))
    assert one == other != third
    assert (one["images"], one["images_of"]) == (32, 40)
    assert len(one["examples"]) == 3
    monkeypatch.setattr(inputs, "MAX_PIXELS", 0)  # as of large images
    assert describe_inputs(examples, options)[0]["images"] == 4


def test_images_that_cannot_be_read_are_left_out(options):
    good = (save("good.png", noise(4, 8, 3)),)
    Path("bad.png").write_bytes(good[0].read_bytes()[:60])
    statistics, _ = describe_inputs([(Path("bad.png"),), good], options)
    assert statistics["images"] == 1 and statistics["examples"] == ["inputs-1.png"]
    with pytest.raises(ValueError, match="none of 1 images can be read"):
        describe_inputs([(Path("bad.png"),)], options)


# ---- in a training folder


def files_of(folder):
    """Name -> bytes of what is kept of the inputs."""
    return {path.name: path.read_bytes() for path in Path(folder).glob("inputs*")}


def test_they_are_written_with_the_first_save_and_again_by_resume_if_missing(tiny, monkeypatch):
    Path("bars").symlink_to(tiny / "bars")
    saved = []
    real = run_log.RunLog.write_inputs
    monkeypatch.setattr(run_log.RunLog, "write_inputs", lambda log, examples: saved.append(
        sorted(path.name for path in Path("run").glob("model-*.index"))) or real(log, examples))
    assert train_small("run", "--max_steps", 4, "--save_freq", 2) == 0
    assert saved[0] == ["model-2.index"]
    first = files_of("run")
    assert [*sorted(first)] == ["inputs-1.png", "inputs-2.png", "inputs-3.png", "inputs.json"]
    statistics = json.loads(first["inputs.json"])
    assert statistics["images"] == 10 and statistics["jpeg"]
    assert read_pixels(first["inputs-1.png"]).shape == (64, 64, 3)
    for name in first:
        Path("run", name).unlink()
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--max_steps", 5) == 0
    assert files_of("run") == first
    Path("run/inputs.json").write_text("{}")
    Path("run/inputs-3.png").unlink()
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--max_steps", 6) == 0
    assert Path("run/inputs.json").read_text() == "{}"  # what is there stays
    assert train_small("run", "--max_steps", 1, "--overwrite") == 0
    assert files_of("run") == first


def test_a_failure_to_write_them_does_not_stop_training(tiny, capsys):
    Path("bars").symlink_to(tiny / "bars")
    assert train_small("run", "--max_steps", 2) == 0
    for name in files_of("run"):
        Path("run", name).unlink()
    Path("run/inputs-2.png").mkdir()
    capsys.readouterr()
    assert run("--mode", "train", "--resume", "--output_dir", "run", "--max_steps", 4,
               "--save_freq", 1) == 0
    assert capsys.readouterr().err.count("cannot write inputs.json (") == 1
    assert not Path("run/inputs.json").exists()  # never without its examples


def test_an_existing_file_is_not_replaced(options, tmp_path):
    """No image is read either."""
    (tmp_path / "inputs.json").write_text("mine")
    write_inputs(tmp_path, [(Path("gone.png"),)], options)
    assert (tmp_path / "inputs.json").read_text() == "mine"
    assert pix2pix.run_folder.find_results(tmp_path, "train") == [tmp_path / "inputs.json"]


# ---- reading them back


def write_run(**stored):
    """The training folder `run` with these options."""
    Path("run").mkdir()
    Path("run/options.json").write_text(json.dumps(stored))
    return Path("run")


def save_halves(folder, count=4, size=(16, 20)):
    """Images of two halves, each flat: the left of 10 times the image's number, the right of 100
    more."""
    for number in range(count):
        pixels = np.full([size[0], 2 * size[1], 3], 10 * number)
        pixels[:, size[1]:] += 100
        save(f"{folder}/{number}.png", pixels)


def levels_of(examples):
    """The level of each of flat images."""
    assert all(np.ptp(pixels) == 0 for pixels in examples)
    return [int(pixels[0, 0, 0]) for pixels in examples]


def read_run(folder="run", size=(8, 10), count=12, direction="AtoB", **more):
    """`read_examples` of a run. more: of `choose_pair`."""
    examples = inputs.read_examples(folder, choose_pair(False, direction, **more), size, count)
    assert {pixels.shape for pixels in examples} <= {(*size, 3)}
    return examples


@pytest.mark.parametrize("direction, levels", [("AtoB", [0, 10]), ("BtoA", [100, 110])])
def test_examples_are_the_inputs_of_validation(direction, levels):
    write_run(input_dir="train", val_dir=["val"], which_direction=direction)
    save_halves("train", 4)
    save_halves("val", 2)
    assert levels_of(read_run(direction=direction)) == levels


@pytest.mark.parametrize("val_dir", [None, ["gone"]])
def test_examples_are_those_of_training_where_there_is_no_validation(val_dir):
    write_run(input_dir="train", val_dir=val_dir, which_direction="AtoB")
    save_halves("train", 4)
    assert levels_of(read_run()) == [0, 10, 20, 30]
    assert levels_of(read_run(count=2)) == [0, 20]  # evenly chosen
    assert levels_of(read_run(count=3)) == [0, 10, 20]


@pytest.mark.parametrize("direction, levels", [("AtoB", [1, 2]), ("BtoA", [3, 4])])
@pytest.mark.parametrize("where", ["train", "val"])
def test_examples_of_two_folders_are_of_the_side_of_the_inputs(direction, levels, where):
    places = {"a_dir": ["a"], "b_dir": "b", "val_dir": ["a_val", "b_val"] if where == "val"
              else None, "which_direction": direction}
    write_run(input_dir=None, **places)
    for folder in ("a", "b", "a_val", "b_val"):
        first = (1 if folder.startswith("a") else 3) if folder.endswith("val") == (where == "val") \
            else 50
        for number in range(2):
            save(f"{folder}/{number}.png", np.full((9, 9, 3), first + number))
    assert levels_of(read_run(direction=direction)) == levels


def test_examples_are_those_of_the_folder_where_the_images_are_gone(options):
    """And none where it has none, or names what lies elsewhere."""
    folder = write_run(input_dir="gone", val_dir=None, which_direction="AtoB")
    assert read_run() == []
    save_halves("train", 3)
    examples = [(Path(f"train/{number}.png"),) for number in range(3)]
    write_inputs(folder, examples, options)
    assert sorted(levels_of(read_run())) == [0, 10, 20]
    (folder / "inputs-2.png").write_bytes(b"damaged")
    assert len(read_run()) == 2
    save("outside.png", np.full((9, 9, 3), 77))
    (folder / "inputs.json").write_text(json.dumps({"examples": ["../outside.png"]}))
    assert read_run() == []
    (folder / "inputs.json").write_text("no json")
    assert read_run() == []


def test_several_inputs_are_those_that_the_folder_has():
    """Side by side: those of the data are not put together."""
    folder = write_run(a_dir=["a", "m"], b_dir="b", input_dir=None, which_direction="AtoB")
    for name in ("a", "m", "b"):
        save(f"{name}/1.png", np.full((8, 10, 3), 5))
    save(folder / "inputs-1.png", np.full((8, 20, 3), 99))
    (folder / "inputs.json").write_text(json.dumps({"examples": ["inputs-1.png"]}))
    assert levels_of(read_run(size=(8, 20), num_inputs=2)) == [99]


@pytest.mark.parametrize("colours", [None, [{"rgb": [0, 0, 0], "share": 1}]])
def test_examples_are_the_middle_of_images_and_their_colours_stay(colours):
    """Where these are exact they are not blended; elsewhere they are averaged."""
    folder = write_run(input_dir="train", val_dir=None, which_direction="AtoB")
    (folder / "inputs.json").write_text(json.dumps({"colours": colours}))
    pixels = np.zeros([30, 40, 3])
    pixels[::2] = 240
    pixels[:, :5] = pixels[:, 35:] = 7  # lies outside a square in the middle
    save("train/1.png", np.concatenate([pixels, pixels], axis=1))
    (example,) = read_run(size=(15, 15))
    found = {*np.unique(example).tolist()}
    assert found <= {0, 240} if colours else found == {120}
    (whole,) = read_run(size=(30, 30))
    np.testing.assert_array_equal(whole, pixels[:, 5:35])
