"""Lists of classes, classes in the graph, and what people see of them."""

import io
import json

import numpy as np
import pytest
from helpers import HAS_ONNX, SHARED, draw, run_graph
from PIL import Image

from tools.lib.cli import UserError
from tools.lib.label_maps import (LIGHTNESS, Labels, arg_max, describe_unknown, find_divisor,
                                  find_unknown, labels_data, labels_of, legend, one_hot,
                                  pack_colours, read_labels, separate_colours, shown, take_nearest,
                                  to_classes, to_pixels)
from tools.lib.tf1 import tf

STREET = Labels(np.array([[128, 128, 128], [128, 0, 0], [60, 40, 222]], np.uint8),
                ["sky", "building", "side walk"])
INDICES = Labels(None, ["0", "1", "2", "3"])


def read_list(tmp_path, text, name="classes.txt", **settings):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_labels(str(tmp_path / name), **settings)


def assert_same(got, expected):
    np.testing.assert_array_equal(got.colours, expected.colours)
    assert got.names == expected.names and got.nearest == expected.nearest
    assert (got.colours is None) == (expected.colours is None)


def draw_colours(seed, count):
    """Different colours in no order, [count, 3]."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.unique(rng.integers(0, 2**24, 2 * count)))[:count]
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8)


def classes_of(pixels, labels):
    return run_graph(lambda: to_classes(tf.constant(pixels), labels))


# ---- lists of classes


@pytest.mark.parametrize("text", [
    "128,128,128 sky\n128,0,0 building\n60,40,222 side walk\n",
    "128 128 128\tsky\r\n128 0 0\t\tbuilding\r\n60 40 222\tside walk\r\n",  # CamVid's
    "name,r,g,b\nsky,128,128,128\nbuilding,128,0,0\nside walk,60,40,222\n",  # class_dict.csv
    "#808080 sky\n#800000 building\n#3C28de side walk",
    "# streets\n\nsky #808080\n#\nbuilding #800000\nside walk #3c28de\n",
    "# label:color_rgb:parts:actions\nsky:128,128,128::\nbuilding:128,0,0:door,wall:\n"  # CVAT's
    "side walk:60,40,222::walk\n",
    "#label:color_rgb:parts:actions\nsky:128,128,128::\nbuilding:128,0,0::\nside walk:60,40,222::",
    "sky = [128,128,128]\nbuilding = [128,0,0]\nside walk = [60,40,222]\n",  # SegNet's
    "\ufeff'sky' : (128, 128, 128),\n'building' : (128, 0, 0),\n'side walk' : (60, 40, 222),\n",
    "r;g;b;name\n128;128;128;sky\n128;0;0;building\n60;40;222;side walk"])
def test_lists_of_other_programs_are_read(tmp_path, text):
    assert_same(read_list(tmp_path, text), STREET)


@pytest.mark.parametrize("items", [
    [{"name": "sky", "color": [128, 128, 128]}, {"name": "building", "colour": "#800000"},
     {"id": 7, "name": "side walk", "rgb": [60, 40, 222]}],
    ["sky 128,128,128", "#800000 building", "60 40 222 side walk"]])
def test_a_json_list_is_read(tmp_path, items):
    assert_same(read_list(tmp_path, json.dumps(items, indent=1), "classes.json"), STREET)


@pytest.mark.parametrize("text, names", [
    ("aeroplane\nbicycle\ntv/monitor", ["aeroplane", "bicycle", "tv/monitor"]),  # VOC's
    ("0 wall\n1: building, edifice\n2\tlane 1\n", ["wall", "building, edifice", "lane 1"]),
    ("index,name\n0,wall\n1\n2,sky", ["wall", "1", "sky"]),
    (json.dumps([{"id": 0, "name": "wall"}, {"name": "2 m"}]), ["wall", "2 m"])])
def test_a_list_without_colours_names_indices(tmp_path, text, names):
    assert_same(read_list(tmp_path, text), Labels(None, names))


def test_a_number_is_that_many_indices():
    assert_same(read_labels("4"), INDICES)
    assert len(read_labels("255").names) == 255


def test_names_keep_what_belongs_to_them(tmp_path):
    labels = read_list(tmp_path, "1,2,3 C# (old)\n1,2,4\n#000000 2nd floor\nclass 3: #00ff00\n"
                                 "0,0,9 # grass\n")
    assert labels.names == ["C# (old)", "1,2,4", "2nd floor", "class 3", "grass"]
    np.testing.assert_array_equal(labels.colours, [[1, 2, 3], [1, 2, 4], [0, 0, 0], [0, 255, 0],
                                                   [0, 0, 9]])


def test_json_keeps_labels_whole():
    for labels in (STREET, INDICES, Labels(None, ["3", "lane 1", "#fff", "0 1 2"])):
        assert_same(labels_of(json.loads(json.dumps(labels_data(labels)))), labels)


FORMS = "write R,G,B name, #rrggbb name, name R,G,B, or where pixels are indices INDEX name"


@pytest.mark.parametrize("text, message", [
    ("1,2,3 sky\n0 128 64 128 road", "line 2 has a number that may be of the name, the index or "
     f"the colour: 0 128 64 128 road: {FORMS}"),
    ("road 128 64 128 255\n", "line 1 has a number that may be of the name, the index or the "
     f"colour: road 128 64 128 255: {FORMS}"),
    ("sky 0.5 0.5 0.5\n", "line 1 has a number that may be"),
    ("0.5 0.5 0.5 sky\n", "line 1 has a number that may be"),
    ("128 64 sky\n", "line 1 has a number that may be"),
    ("0 sky\n255 road\n", "line 2 has index 255 where 1 comes next: list all classes from 0 in "
     "order, or write grey values as colours, such as 255,255,255 for 255"),
    ("0 64 sky\n", "line 1 has a number that may be"), ("car 8\nroad 3", "line 1 has a number"),
    ("#80808 sky\n", f"line 1 is not a class: #80808 sky: {FORMS}"),
    ("sky #808080ff\n", "line 1 is not a class"), ("<labels>\n<sky/>", "line 1 is not a class"),
    ("1,2,3 sky\n1,256,3 road", "line 2 has the value 256, which is more than 255: 1,256,3 road: "),
    ("1,2,3 sky\n\nroad", "line 3 has no colour, unlike the first class: give every class a colour,"
     " or none"),
    ("sky\n1,2,3 road", "line 2 has a colour, unlike the first class"),
    ("# a\n1,2,3 sky\n4,5,6 road\n#010203 car", "line 4 has the colour of line 2, 1,2,3: give each "
     "class its own colour"),
    ("1,2,3 sky\n4,5,6 sky", "line 2 has the name of line 1, sky: give each class its own name"),
    ("# none\n", "no class: list 2 to 255, one a line, such as 128,64,128 road"), ("", "no class"),
    ("1,2,3 sky\n", "1 class: list 2 to 255"),
    ("".join(f"0,{i // 256},{i % 256}\n" for i in range(256)), "256 classes: list 2 to 255"),
    ("1 background\n2 facade", "line 1 has index 1 where 0 comes next"),
    ('["sky 1,2,3", {"color": [1, 2]}]', 'item 2 has no colour of three whole numbers or #rrggbb: '
     '{"color": [1, 2]}: write {"name": "road", "color": [128, 64, 128]}'),
    ('["sky", 7]', "item 2 is not a class: 7: write"), ('[{"x": 1}]', "item 1 has no colour"),
    ('{"sky": [1, 2, 3]}', "line 1 is not a class")])
def test_what_is_wrong_with_a_list_is_said_with_its_place(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        read_list(tmp_path, text, flag="--a_labels")
    assert str(error.value).startswith(f"--a_labels {tmp_path / 'classes.txt'}: {message}")
    assert "\n" not in str(error.value)


def test_what_is_no_list_is_refused(tmp_path):
    (tmp_path / "labels.png").write_bytes(b"\x89PNG\r\n\xff")
    (tmp_path / "classes.json").write_text('[{"name": "sky"\n"color": "#808080"}]')
    for value, message in [
            ("1", ": give 2 to 255 classes, or a file that lists them"), ("-3", ": give 2 to"),
            ("256", ": give 2 to 255 classes"), ("0", ": give 2 to 255 classes"),
            (str(tmp_path), ": cannot be read (Is a directory): give the number of classes, or a "
                            "file that lists them"),
            ("12.5", ": cannot be read (No such file or directory): give the number of classes"),
            (str(tmp_path / "labels.png"), ": not a text file: give one that lists the classes"),
            (str(tmp_path / "classes.json"), ": not JSON (Expecting ',' delimiter: line 2 column 1 "
                                             "(char 16)): correct it")]:
        with pytest.raises(UserError) as error:
            read_labels(value)
        assert str(error.value).startswith(f"--b_labels {value}{message}")


def test_the_nearest_class_needs_colours(tmp_path):
    assert read_list(tmp_path, "1,2,3 sky\n4,5,6 road", nearest=True).nearest
    with pytest.raises(UserError, match="^--a_nearest needs colours, --a_labels 4 has "
                                        "indices: list the classes with their colours$"):
        read_labels("4", "--a_labels", nearest=True)


# ---- in the graph


@pytest.mark.parametrize("count", [2, 12, 150, 255])
def test_exact_colours_are_their_classes_and_others_none(count):
    """Among them colours one step off, and swapped channels."""
    rng = np.random.default_rng(count)
    labels = Labels(draw_colours(count, count), [*map(str, range(count))])
    classes = rng.integers(0, count, (31, 47))
    pixels = labels.colours[classes]
    changed = rng.random(classes.shape) < 0.2
    pixels[changed, rng.integers(0, 3, changed.sum())] ^= 1
    pixels[:2] = pixels[:2, :, ::-1]
    own = {tuple(colour): index for index, colour in enumerate(labels.colours.tolist())}
    expected = [[own.get(tuple(pixel), -1) for pixel in row] for row in pixels.tolist()]
    got = classes_of(pixels, labels)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.int32 and (got == -1).sum() > 100 and (got >= 0).sum() > 100


@pytest.mark.parametrize("colours", [
    [[v, v, v] for v in range(255)], [[0, 0, v] for v in range(0, 255, 5)], [[0, 0, 0], [255] * 3],
    [[255, 255, 255], [0, 0, 0]], [[v, 0, 0] for v in range(250)]])
def test_regular_colours_are_told_apart_too(colours):
    colours = np.array(colours, np.uint8)
    labels = Labels(colours, [*map(str, range(len(colours)))])
    every = np.stack(np.meshgrid(*[[0, 1, 5, 128, 254, 255]] * 3), axis=-1).reshape(1, -1, 3)
    pixels = np.concatenate([colours[np.newaxis], every.astype(np.uint8)], axis=1)
    match = (pixels[0, :, np.newaxis] == colours).all(axis=2)
    expected = np.where(match.any(axis=1), match.argmax(axis=1), -1)
    np.testing.assert_array_equal(classes_of(pixels, labels)[0], expected)


def test_a_divisor_is_the_least_that_tells_numbers_apart():
    assert find_divisor(np.array([0, 3, 6])) == 4  # by 3 all leave 0
    assert find_divisor(np.array([0, 12, 60])) == 7  # 5 and 6 leave 0 of 60 and of 12
    codes = run_graph(lambda: pack_colours(tf.constant([[1, 2, 3], [255, 255, 255]], tf.uint8)))
    np.testing.assert_array_equal(codes, [0x010203, 2**24 - 1])


@pytest.mark.parametrize("dtype, values", [(np.uint8, [0, 3, 4, 255]),
                                           (np.uint16, [1, 4, 256, 258, 65535])])
def test_indices_are_their_classes_and_others_none(dtype, values):
    pixels = np.array(values, dtype)[np.newaxis, :, np.newaxis]
    expected = [value if value < 4 else -1 for value in values]
    np.testing.assert_array_equal(classes_of(pixels, INDICES), [expected])


@pytest.mark.parametrize("count", [3, 150])
def test_the_nearest_colour_is_that_of_arithmetic(count):
    colours = draw_colours(1, count)
    labels = Labels(colours, [*map(str, range(count))], nearest=True)
    pixels = np.random.default_rng(2).integers(0, 256, (19, 23, 3), np.uint8)
    differences = pixels[:, :, np.newaxis].astype(int) - colours.astype(int)
    expected = (differences**2).sum(axis=3).argmin(axis=2)
    np.testing.assert_array_equal(classes_of(pixels, labels), expected)
    tie = Labels(np.array([[4, 0, 0], [0, 0, 0], [8, 0, 0]], np.uint8), ["a", "b", "c"], True)
    np.testing.assert_array_equal(
        classes_of(np.array([[[2, 0, 0], [6, 0, 0], [1, 0, 0]]], np.uint8), tie), [[0, 0, 1]])


def test_labels_saved_as_jpeg_are_read_back():
    classes = np.kron(np.random.default_rng(3).integers(0, 3, (4, 5)), np.ones((16, 16), int))
    contents = io.BytesIO()
    Image.fromarray(STREET.colours[classes]).save(contents, "JPEG", quality=80)
    pixels = np.asarray(Image.open(contents))
    assert (classes_of(pixels, STREET) == -1).mean() > 0.1
    got = classes_of(pixels, STREET._replace(nearest=True))
    assert (got == classes).mean() > 0.97 and got.min() == 0


def test_one_hot_is_one_for_the_class():
    got = run_graph(lambda: one_hot(tf.constant([[2, 0, -1]]), 3))
    np.testing.assert_array_equal(got, [[[-1, -1, 1], [1, -1, -1], [-1, -1, -1]]])
    assert got.dtype == np.float32


@pytest.mark.parametrize("shape, size", [
    ((12, 15), (4, 5)), ((12, 15), (6, 3)), ((4, 5), (12, 15)), ((7, 11), (7, 11)),
    ((7, 11), (5, 30)), ((2, 4), (55, 82)), ((1, 1), (3, 2)), ((37, 41), (1, 2))])
def test_nearest_scaling_takes_the_class_at_the_centre(shape, size):
    classes = np.random.default_rng(1).integers(-1, 200, shape, np.int32)
    got = run_graph(lambda: take_nearest(tf.constant(classes[..., np.newaxis]), size)[..., 0])
    # the centre of pixel i of n lies at (i + 1/2) / n of a side
    rows, columns = ([(2 * i + 1) * side // (2 * n) for i in range(n)]
                     for side, n in zip(shape, size, strict=True))
    np.testing.assert_array_equal(got, classes[rows][:, columns])
    by_tensor = run_graph(lambda: take_nearest(
        tf.constant(classes[..., np.newaxis]), tf.constant(size))[..., 0])
    np.testing.assert_array_equal(by_tensor, got)


def scale(classes, size):
    """`take_nearest` of [height, width]."""
    return take_nearest(tf.constant(classes[..., np.newaxis]), size)[..., 0]


def test_a_batch_is_scaled_as_its_images_are():
    images = draw(2, 2, 5, 7, 3)
    got = run_graph(lambda: take_nearest(tf.constant(images), [8, 3]))
    for image, scaled in zip(images, got, strict=True):
        np.testing.assert_array_equal(
            run_graph(lambda image=image: take_nearest(tf.constant(image), [8, 3])), scaled)


def test_by_odd_factors_nearest_scaling_takes_and_repeats_pixels():
    classes = np.arange(63, dtype=np.int32).reshape(9, 7)
    small = run_graph(lambda: scale(classes, [3, 7]))
    np.testing.assert_array_equal(small, classes[1::3])
    large = run_graph(lambda: scale(classes, [27, 35]))
    np.testing.assert_array_equal(large, np.kron(classes, np.ones((3, 5), int)))
    np.testing.assert_array_equal(run_graph(lambda: scale(large, [9, 7])),
                                  classes)


def test_nearest_scaling_is_pillows():
    """Away from factors by which a centre lies on an edge."""
    classes = np.random.default_rng(4).integers(0, 200, (30, 44), np.int32)
    got = run_graph(lambda: scale(classes, [17, 61]))
    expected = Image.fromarray(classes.astype(np.uint8)).resize((61, 17), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_a_line_of_millions_of_pixels_is_scaled():
    def build():
        line = tf.range(4_000_000)[tf.newaxis, :, tf.newaxis]
        return take_nearest(line, [1, 1000])[..., 0]
    np.testing.assert_array_equal(run_graph(build), [np.arange(1000) * 4000 + 2000])


def test_the_largest_channel_is_the_class():
    images = draw(5, 2, 3, 4, 6)
    np.testing.assert_array_equal(run_graph(lambda: arg_max(tf.constant(images))),
                                  images.argmax(axis=-1))
    assert run_graph(lambda: arg_max(tf.constant([[1.0, 1.0, 0.0]]))) == 0


@pytest.mark.parametrize("labels", [STREET, INDICES], ids=["colours", "indices"])
def test_pixels_come_back_exactly(labels):
    count = len(labels.names)
    classes = np.random.default_rng(6).integers(0, count, (5, 8), np.int32)

    def build():
        pixels = to_pixels(arg_max(one_hot(tf.constant(classes), count)), labels)
        return pixels, to_classes(pixels, labels)
    pixels, back = run_graph(build)
    expected = classes[..., np.newaxis] if labels.colours is None else labels.colours[classes]
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(back, classes)
    assert pixels.dtype == np.uint8


@pytest.mark.skipif(not HAS_ONNX, reason="needs tf2onnx and onnxruntime")
@pytest.mark.parametrize("nearest", [False, True])
def test_classes_are_the_same_in_onnx(nearest):
    """Where tf.one_hot gives class -1 the last channel."""
    import onnxruntime
    import tf2onnx
    labels = STREET._replace(nearest=nearest)
    pixels = np.concatenate([STREET.colours, [[1, 2, 3]]]).astype(np.uint8)[[[0, 3, 1], [2, 2, 3]]]
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        source = tf.placeholder(tf.uint8, [None, None, 3], name="source")
        classes = take_nearest(to_classes(source, labels)[..., tf.newaxis], [3, 7])[..., 0]
        result = tf.identity(one_hot(classes, 3), name="result")
        expected = sess.run(result, {source: pixels})
    model, _ = tf2onnx.convert.from_graph_def(
        graph.as_graph_def(), input_names=["source:0"], output_names=["result:0"], opset=15)
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"source:0": pixels})[0], expected)
    assert (expected.max(axis=2) == -1).any() != nearest


# ---- in arrays


def test_unknown_values_are_counted():
    pixels = STREET.colours[np.zeros((4, 5), int)]
    assert find_unknown(pixels, STREET) == {}
    pixels[0, :3], pixels[1, 0], pixels[2, 0] = [128, 128, 0], [0, 0, 7], [0, 0, 6]
    found = find_unknown(pixels, STREET)
    assert [*found.items()] == [((128, 128, 0), 3), ((0, 0, 6), 1), ((0, 0, 7), 1)]
    assert find_unknown(pixels, STREET._replace(nearest=True)) == {}
    indices = np.array([[[3], [4], [300], [300]]], np.uint16)
    assert [*find_unknown(indices, INDICES).items()] == [(300, 2), (4, 1)]


@pytest.mark.parametrize("unknown, labels, text", [
    ({(128, 128, 0): 200, (1, 2, 3): 10, (0, 0, 0): 4}, STREET,
     "214 pixels of 3 colours that no class of --a_labels has, most often 128,128,0 (200): add "
     "them to the list, or give --a_nearest for label images that were saved as JPEG"),
    ({(1, 2, blue): 1 for blue in range(253)}, STREET,
     "253 pixels of 253 colours that no class of --a_labels has, most often 1,2,0 (1): give "
     "--a_nearest for label images that were saved as JPEG"),
    ({(128, 128, 0): 1}, STREET,
     "1 pixel of the colour 128,128,0, which no class of --a_labels has: add it to the list, or"),
    ({5: 7, 6: 2}, INDICES, "9 pixels of 2 values that no class of --a_labels has, most often 5 "
     "(7): give --a_labels 7 if every value up to it is a class"),
    ({255: 7}, INDICES, "7 pixels of the value 255, which no class of --a_labels has: give "
     "--a_ignore 255 where that stands for no class, or list the values as colours in a file, such "
     "as 0,0,0 and 255,255,255 for a mask of 0 and 255"),
    ({300: 7}, INDICES, "7 pixels of the value 300, which no class of --a_labels has: give images "
     "with values from 0 to 3")])
def test_unknown_values_are_described(unknown, labels, text):
    assert describe_unknown(unknown, labels, "--a_labels").startswith(text)


def test_indices_get_colours_far_apart():
    skimage_color = pytest.importorskip("skimage.color")
    colours = separate_colours(20)
    lab = skimage_color.rgb2lab(colours[np.newaxis] / 255)[0]
    clear = skimage_color.rgb2lab(np.array([[[0, 0, 0], [255] * 3, [128] * 3]]) / 255)[0]
    distances = np.linalg.norm(lab[:, np.newaxis] - np.concatenate([lab, clear]), axis=2)
    distances[np.arange(20), np.arange(20)] = np.inf
    assert distances.min() > 35  # twenty hues of a colour wheel: 9
    assert LIGHTNESS[0] - 0.1 <= lab[:, 0].min() and lab[:, 0].max() <= LIGHTNESS[1] + 0.1
    many = separate_colours(255)
    np.testing.assert_array_equal(many[:20], colours)  # a class keeps its colour in longer lists
    assert len(np.unique(many, axis=0)) == 255


def test_a_legend_shows_what_is_shown():
    assert legend(STREET) == [("sky", (128, 128, 128)), ("building", (128, 0, 0)),
                              ("side walk", (60, 40, 222))]
    classes = np.array([[0, 3, -1], [2, 1, 0]])
    rows = dict(legend(INDICES))
    expected = [[rows["0"], rows["3"], (0, 0, 0)], [rows["2"], rows["1"], rows["0"]]]
    got = shown(classes, INDICES)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.uint8 and len({*rows.values()}) == 4
    np.testing.assert_array_equal(shown(classes[1:], STREET), STREET.colours[classes[1:]])


def test_camvids_colours_and_indices_are_the_same_classes(tmp_path):
    folder = SHARED / "data/camvid/val"
    if not folder.exists():
        pytest.skip("no CamVid here")
    labels = read_list(tmp_path, """\
        128,128,128 sky\n128,0,0 building\n192,192,128 pole\n128,64,128 road\n60,40,222 pavement
        128,128,0 tree\n192,128,128 sign\n64,64,128 fence\n64,0,128 car\n64,64,0 pedestrian
        0,128,192 bicyclist\n0,0,0 unlabelled\n""")
    for path in sorted((folder / "label_rgb").glob("*.png"))[:2]:
        pixels = np.asarray(Image.open(path))
        indices = np.asarray(Image.open(folder / "label_index" / path.name))[..., np.newaxis]
        assert find_unknown(pixels, labels) == find_unknown(indices, read_labels("12")) == {}
        np.testing.assert_array_equal(classes_of(pixels, labels),
                                      classes_of(indices, read_labels("12")))
