"""Models as a server has them: test mode's results, descriptions, examples, newer checkpoints."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import build_once, in_folder, read_pixels, run, run_test_mode, train
from PIL import Image
from serving import draw_image, stand_in

import pix2pix
from tools.lib import served_models
from tools.lib.images import to_bytes
from tools.lib.served_models import ServedModel, canvas_size, find_training, media_type
from tools.lib.stored import TooLargeError, decode_stored, encode_stored

pytestmark = pytest.mark.usefixtures("in_empty_folder")
SIZE = 32  # of the networks, and of most images: then test mode scales nothing either
COLOURS = np.array([[0, 0, 0], [128, 64, 0], [60, 40, 222], [255, 255, 255]], np.uint8)
NAMES = ["void", "wall", "side <walk>", "sky"]


def write(path, pixels):
    """An array as a PNG or .npy file."""
    contents = encode_stored(pixels)
    path = Path(path).with_suffix(".npy" if contents.startswith(b"\x93NUMPY") else ".png")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(contents)


def draw_files():
    """Folders of three images each: photos, more photos, grey ones, depth, floats, labels."""
    for number in range(3):
        rng = np.random.default_rng(number)
        blocks, large = rng.integers(0, 4, (8, 8)), np.ones((4, 4), int)
        classes = np.kron(blocks, large)
        photo = np.kron(rng.integers(0, 256, (8, 8, 3)), large[..., np.newaxis]).astype(np.uint8)
        depth = np.uint16(600 + 800 * classes + rng.integers(0, 50, (SIZE, SIZE)))
        depth[rng.random((SIZE, SIZE)) < 0.2] = 0
        for folder, pixels in (
                ("photos", photo), ("others", 255 - photo), ("grey", photo[..., :1]),
                ("depth", depth[..., np.newaxis]), ("colours", COLOURS[classes]),
                ("floats", rng.uniform(-3, 7, (SIZE, SIZE, 2)).astype(np.float32)),
                ("targets", rng.uniform(-3, 7, (SIZE, SIZE, 2)).astype(np.float32)),
                ("indices", classes[..., np.newaxis].astype(np.uint8))):
            write(f"{folder}/{number}", pixels)
    Path("classes.txt").write_text("".join(
        f"{','.join(map(str, colour))} {name}\n"
        for colour, name in zip(COLOURS.tolist(), NAMES, strict=True)))


KINDS = {  # name -> folders of the inputs, that of the targets, flags
    "depth": (["photos"], "depth", "--b_ignore 0 --b_range 500 4500"),
    "floats": (["floats"], "targets",
               "--a_range -3 7 --b_range -3 7 --a_channels 2 --b_channels 2"),
    "labels": (["colours"], "indices", "--a_labels classes.txt --b_labels 4"),
    "indices": (["indices"], "colours", "--a_labels 4 --b_labels classes.txt"),
    "lab": (["photos"], "others", "--lab_colorization"),
    "two": (["photos", "others"], "grey", "--b_channels 1"),
    "own": (["grey"], "photos", "--a_channels 1 --resize none")}


def train_kind(name):
    """A model of a kind, and what test mode makes of its images: run-NAME and
    test-NAME."""
    inputs, targets, flags = KINDS[name]
    folders = [*sum((["--a_dir", folder] for folder in inputs), []), "--b_dir", targets]
    if name == "lab":  # one image is both
        folders = ["--input_dir", "photos"]
    assert train(f"run-{name}", *folders, *flags.split(), "--max_steps", 4, "--lr", 0.1) == 0
    run_test_mode(f"test-{name}", "--checkpoint", f"run-{name}", *folders)


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """A folder with `draw_files`, and of each of KINDS a run and its test."""
    def build(root):
        with in_folder(root):
            draw_files()
            for name in KINDS:
                train_kind(name)
    return build_once(tmp_path_factory, "served_kinds", build)


def load(path):
    """As tools/serve.py does."""
    return pix2pix.load_model(path, with_floats=True)


def serve(path, name="model", which="newest"):
    """The ServedModel of a path."""
    return ServedModel(name, str(path), which, load)


@pytest.fixture(scope="module")
def served(kinds):
    """A function of a kind's name to its ServedModel."""
    models = {}

    def find(name):
        """Loaded once."""
        if name not in models:
            models[name] = serve(kinds / f"run-{name}", name)
        return models[name]
    return find


def read_input(kinds, name, number):
    """The file of an input, of several images side by side."""
    paths = [next((kinds / folder).glob(f"{number}.*")) for folder in KINDS[name][0]]
    if len(paths) == 1:
        return paths[0].read_bytes()
    return encode_stored(np.concatenate([decode_stored(path.read_bytes()).pixels
                                         for path in paths], axis=1))


# ---- results


@pytest.mark.parametrize("name", KINDS)
def test_results_are_test_modes_own(kinds, served, name):
    """To the last bit, in the type and the units of the targets' files; only floats, which nothing
    rounds, tell that the network of a server takes images of any size, and test mode's of one."""
    results = []
    for number in range(3):
        result, step = served(name).generate(read_input(kinds, name, number))
        expected, = (kinds / f"test-{name}/images").glob(f"{number}-outputs.*")
        found, wanted = decode_stored(result).pixels, decode_stored(expected.read_bytes()).pixels
        assert found.dtype == wanted.dtype and step == 4
        if found.dtype == np.float32:
            np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=3e-6)
        else:
            np.testing.assert_array_equal(found, wanted)
        results.append(found)
    assert len(np.unique(results)) > 3 or name == "labels"


@pytest.mark.parametrize("name", KINDS)
def test_results_are_shown_as_test_mode_shows_them(kinds, served, name):
    model = served(name)
    result, _ = model.generate(read_input(kinds, name, 0))
    shown = model.show_output(result)
    expected = [*(kinds / f"test-{name}/images").glob("0-outputs-shown.png")]
    assert len(expected) == (name in ("depth", "floats", "labels"))
    np.testing.assert_array_equal(read_pixels(shown), read_pixels(expected[0] if expected else
                                                                  io.BytesIO(result)))


@pytest.mark.parametrize("name", KINDS)
def test_inputs_are_shown_as_people_look_at_them(kinds, served, name):
    contents = read_input(kinds, name, 0)
    shown = read_pixels(served(name).show_input(contents))
    expected = [*(kinds / f"test-{name}/images").glob("0-inputs-shown.png")]
    assert len(expected) == (name in ("floats", "indices"))
    np.testing.assert_array_equal(shown, read_pixels(expected[0] if expected else contents))


def save_as(pixels, name, **settings):
    """The bytes of a file of a format of Pillow's."""
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, name, **settings)
    return contents.getvalue()


@pytest.mark.parametrize("name, settings", [
    ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("GIF", {}), ("PPM", {}),
    ("TIFF", {"compression": "tiff_lzw"})])
def test_files_of_other_formats_give_what_a_png_gives(tiny, name, settings):
    model = serve(tiny / "whole")
    pixels = np.kron(np.random.default_rng(1).integers(0, 9, (8, 8, 3)) * 28,
                     np.ones((4, 4, 1))).astype(np.uint8)
    result, _ = model.generate(to_bytes(pixels))
    other = save_as(pixels, name, **settings)
    same = np.array_equal(read_pixels(other), pixels)
    assert same or name == "GIF"  # which has fewer colours
    expected = result if same else model.generate(to_bytes(read_pixels(other).astype(np.uint8)))[0]
    assert model.generate(other)[0] == expected
    assert media_type(model.generate(other)[0]) == "image/png"


def test_a_jpeg_file_gives_what_test_mode_makes_of_it(tiny):
    Path("in").mkdir()
    pixels = np.kron(np.random.default_rng(1).integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1)))
    contents = save_as(pixels.astype(np.uint8), "JPEG", quality=90)
    Path("in/a.jpg").write_bytes(contents)
    assert run("--mode", "test", "--output_dir", "out", "--checkpoint", tiny / "whole",
               "--input_dir", "in", "--no_targets") == 0
    result, _ = serve(tiny / "whole").generate(contents)
    np.testing.assert_array_equal(read_pixels(result), read_pixels("out/images/a-outputs.png"))


@pytest.mark.parametrize("name, contents, part", [
    ("labels", to_bytes(np.full((SIZE, SIZE, 3), 7, np.uint8)), "pixels of the colour 7,7,7"),
    ("indices", encode_stored(np.full((SIZE, SIZE, 1), 4, np.uint8)), "pixels of the value 4"),
    ("labels", save_as(COLOURS[np.zeros((SIZE, SIZE), int)], "JPEG"), "JPEG"),
    ("floats", draw_image(), "3 channels of uint8, the model takes 2 of float32"),
    ("floats", encode_stored(np.zeros((SIZE, SIZE, 3), np.float32)), "3 channels of float32")])
def test_what_a_model_does_not_take_is_refused_by_name(served, name, contents, part):
    for use in (served(name).generate, served(name).show_input):
        with pytest.raises((ValueError, RuntimeError), match=part):
            use(contents)


@pytest.mark.parametrize("size", [(SIZE, SIZE), (2 * SIZE, 3 * SIZE), (45, 37)])
def test_a_model_of_own_sizes_takes_each_as_it_is(kinds, served, size):
    grey = np.random.default_rng(3).integers(0, 256, (*size, 1), np.uint8)
    result, _ = served("own").generate(encode_stored(grey))
    assert read_pixels(result).shape == (*size, 3)
    write("in/a", grey)
    assert run("--mode", "test", "--output_dir", "out", "--checkpoint", kinds / "run-own",
               "--a_dir", "in", "--no_targets") == 0
    np.testing.assert_array_equal(read_pixels(result), read_pixels("out/images/a-outputs.png"))


def test_own_sizes_stop_where_memory_does(served, monkeypatch):
    monkeypatch.setattr(served_models, "MAX_MEMORY", 1e6)
    assert served("own").current.model.bytes_per_pixel > 100
    contents = encode_stored(np.zeros((640, 640, 1), np.uint8))
    with pytest.raises(TooLargeError, match="640x640 pixels"):
        served("own").generate(contents)
    with pytest.raises(TooLargeError, match="640x640 pixels"):
        served("own").generate_floats(np.zeros((640, 640, 1), np.float32))
    # of one size they are scaled first
    served("lab").generate(to_bytes(np.zeros((640, 640, 3), np.uint8)))


# ---- descriptions


def test_descriptions_say_what_files_hold(kinds, served):
    found = {name: served(name).current.description for name in KINDS}
    assert {name: [row["inputs"][key] for key in ("count", "channels", "kind", "type", "file")]
            for name, row in found.items()} == {
        "depth": [1, 3, "images", "uint8", "png"], "floats": [1, 2, "values", "float32", "npy"],
        "labels": [1, 3, "labels", "uint8", "png"], "indices": [1, 1, "labels", "uint8", "png"],
        "lab": [1, 3, "images", "uint8", "png"], "two": [2, 3, "images", "uint8", "png"],
        "own": [1, 1, "images", "uint8", "png"]}
    assert {name: [row["outputs"][key] for key in ("channels", "kind", "type", "file", "range")]
            for name, row in found.items()} == {
        "depth": [1, "values", "uint16", "png", [500, 4500]],
        "floats": [2, "values", "float32", "npy", [-3, 7]],
        "labels": [1, "labels", "uint8", "png", None],
        "indices": [3, "labels", "uint8", "png", None], "lab": [3, "images", "uint8", "png", None],
        "two": [1, "images", "uint8", "png", None], "own": [3, "images", "uint8", "png", None]}
    for name, row in found.items():
        assert (row["name"], row["step"], row["state"], row["examples"]) == (
            name, 4, "AVAILABLE", 3)
        assert (row["inputs"]["width"], row["inputs"]["height"]) == (SIZE, SIZE)
    assert json.loads(json.dumps(found)) == found


def test_label_maps_are_described_with_names_and_exact_colours(served):
    labels, indices = (served(name).current.description for name in ("labels", "indices"))
    palette = labels["inputs"]["palette"]
    assert [row["name"] for row in palette] == NAMES
    assert [row["color"] for row in palette] == COLOURS.tolist()
    assert [row["index"] for row in palette] == [None] * 4 and not labels["inputs"]["indices"]
    assert [row["name"] for row in labels["outputs"]["legend"]] == ["0", "1", "2", "3"]
    assert [row["index"] for row in indices["inputs"]["palette"]] == [0, 1, 2, 3]
    assert indices["inputs"]["indices"] and indices["inputs"]["tool"] == "palette"
    assert indices["outputs"]["legend"] == [{"name": name, "color": colour} for name, colour in
                                            zip(NAMES, COLOURS.tolist(), strict=True)]


@pytest.mark.parametrize("name", KINDS)
def test_examples_are_inputs_that_the_model_takes(kinds, served, name):
    """Of the size of the canvas, unchanged where the images have it; of several inputs those that
    the training folder has, in an order of its own."""
    def list_pixels(files):
        """Theirs."""
        pixels = [decode_stored(contents).pixels.tobytes() for contents in files]
        return sorted(pixels) if name == "two" else pixels
    model, inputs = served(name), [read_input(kinds, name, number) for number in range(3)]
    assert list_pixels(model.current.examples) == list_pixels(inputs)
    model.generate(model.current.examples[0])


@pytest.mark.parametrize("size, ratio, expected", [
    (None, None, (256, 256)), ((256, 256), None, (256, 256)), ((32, 32), 1.0, (32, 32)),
    ((256, 256), 2.0, (256, 512)), ((256, 256), 0.5, (512, 256)), ((256, 512), None, (256, 512)),
    ((256, 512), 2.0, (256, 512)), ((512, 256), 0.5, (512, 256)), ((64, 96), 3.0, (64, 192)),
    ((2048, 2048), None, (1024, 1024)), ((1024, 1024), 2.0, (512, 1024)),
    ((256, 256), 16.0, (64, 1024)), ((256, 256), 5000.0, (1, 1024))])
def test_the_canvas_has_trainings_shape(size, ratio, expected):
    """With the network's pixels on the shorter side, no side above 1024."""
    model = stand_in(size=size, trained_ratio=ratio).current.model
    assert canvas_size(model) == expected
    described = stand_in(size=size, trained_ratio=ratio).current.description["inputs"]
    assert (described["height"], described["width"]) == expected


@pytest.mark.parametrize("extension, expected", [
    (draw_image(), "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF1234WEBP", "image/webp"),
    (b"\x93NUMPY", "application/octet-stream"), (b"P6 1 1 255\n", "application/octet-stream"),
    (b"<html>", "application/octet-stream")])
def test_media_types(extension, expected):
    assert media_type(extension) == expected


def test_the_training_folder_of_an_export_is_found(tiny):
    shutil.copytree(tiny / "whole", "whole")
    assert run("--mode", "export", "--checkpoint", "whole", "--output_dir", "export",
               "--export_format", "graph") == 0
    for path in ("export", "export/graph.pb"):
        assert Path(find_training(path)).resolve() == Path("whole").resolve()
    shutil.rmtree("whole")
    assert find_training("export/graph.pb") == Path("export")  # it is gone
    model = serve("export/graph.pb")
    assert (model.current.step, model.current.version, model.current.examples) == (None, "1", [])
    assert model.current.description["inputs"]["tool"] == "brush"


# ---- going on with training


@pytest.fixture
def growing(tiny):
    """The path of a run that goes on, here at step 6; its step 7 is in the folder `later`."""
    shutil.copytree(tiny / "whole", "later")
    Path("run").mkdir()
    for path in Path("later").iterdir():
        if path.is_file() and "-7" not in path.name:
            shutil.copy(path, "run")
    name_newest(6)
    return Path("run")


def name_newest(*steps):
    """Writes the state file of run/."""
    Path("run/checkpoint").write_text(
        f'model_checkpoint_path: "model-{steps[-1]}"\n'
        + "".join(f'all_model_checkpoint_paths: "model-{step}"\n' for step in steps))


def write_newer(damage=lambda path: None):
    """Copies step 7 as training writes it. damage: of its data file."""
    for path in Path("later").glob("model-7*"):
        shutil.copy(path, "run")
        if "data" in path.name:
            damage(Path("run", path.name))
    name_newest(6, 7)


def test_a_newer_checkpoint_is_served(growing, capsys):
    model = serve(growing)
    assert model.current.step == 6 and not model.refresh()
    before = model.generate(draw_image(1, (SIZE, SIZE)))
    capsys.readouterr()
    write_newer()
    assert model.refresh() and not model.refresh()
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("serving model from run/model-7\n", "")
    assert (model.current.step, model.current.version) == (7, "7")
    assert model.current.description["step"] == 7
    after = model.generate(draw_image(1, (SIZE, SIZE)))
    assert (before[1], after[1]) == (6, 7) and before[0] != after[0]
    fresh = serve(growing)
    assert fresh.generate(draw_image(1, (SIZE, SIZE))) == after


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.unlink(),
    lambda path: path.write_bytes(bytes(path.stat().st_size)),
    lambda path: path.with_name("model-7.index").write_bytes(b"no index"),
    lambda path: path.with_name("model-7.index").write_bytes(b"")])
def test_a_broken_newer_one_keeps_the_old_and_says_so_once(growing, capsys, damage):
    model = serve(growing)
    before = model.current
    capsys.readouterr()
    for path in Path("later").glob("model-7*"):
        shutil.copy(path, "run")
    damage(Path("run/model-7.data-00000-of-00001"))
    name_newest(6, 7)
    assert [model.refresh() for _ in range(3)] == [False] * 3
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.count("\n") == 1
    assert "run/model-7 cannot be loaded (" in streams.err
    assert streams.err.endswith("serving run/model-6 still\n") and model.current is before
    assert model.generate(draw_image())[1] == 6


def test_what_is_half_written_or_gone_is_waited_for(growing, capsys):
    model = serve(growing)
    capsys.readouterr()
    name_newest(6, 7)  # its files are still to come
    assert not model.refresh()
    Path("run/checkpoint").write_text("model_check")
    assert not model.refresh()
    Path("run").rename("moved")
    assert not model.refresh() and model.generate(draw_image())[1] == 6
    Path("moved").rename("run")
    write_newer()
    assert model.refresh() and model.current.step == 7
    assert capsys.readouterr().err == ""


def test_a_checkpoint_of_its_own_stays(growing):
    model = serve("run/model-6")
    write_newer()
    assert not model.refresh() and model.current.step == 6


def test_which_best_follows_the_best(growing, capsys):
    for path in growing.glob("model-6*"):
        shutil.copy(path, growing / path.name.replace("model", "best"))
    model = serve(growing, which="best")
    assert model.current.step == 6 and Path(model.current.model.path).name == "best-6"
    write_newer()
    assert not model.refresh()  # it is no better
    for path in growing.glob("model-7*"):
        shutil.copy(path, growing / path.name.replace("model", "best"))
    assert model.refresh() and Path(model.current.model.path).name == "best-7"
