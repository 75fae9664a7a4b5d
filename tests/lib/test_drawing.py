"""With what people draw a model's inputs: found from drawn sketches, label maps and photos."""

import numpy as np
import pytest
from helpers import read_pixels, smooth_images, to_jpeg

from tools.lib.drawing import describe_tool, name_colour
from tools.lib.image_types import ImageType, choose_side
from tools.lib.inputs import describe_colours
from tools.lib.label_maps import FACADES

RGB = ImageType()


def draw_sketch(width=3, ink=0, paper=255, size=(300, 280), channels=3):
    """Three long lines of a width, two of them level."""
    pixels = np.full((*size, channels), paper, np.uint8)
    pixels[10:10 + width] = pixels[60:60 + width] = ink
    pixels[:, 40:40 + width] = ink
    return pixels


def draw_labels(colours, side=16):
    """Blocks of colours with sides of so many pixels, the first on most of them."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, len(colours), (96 // side, 96 // side))
    blocks[rng.random(blocks.shape) < 0.4] = 0
    blocks.ravel()[-len(colours):] = range(len(colours))
    return np.kron(np.array(colours, np.uint8)[blocks], np.ones((side, side, 1), np.uint8))


def draw_photo(number=1, size=64):
    return np.uint8(127.5 + 127 * smooth_images(number, 1, size=size)[0])


def through_jpeg(pixels):
    """As JPEG compression leaves it."""
    return read_pixels(to_jpeg(pixels)).astype(np.uint8)


def find_tool(*images, side=RGB, **more):
    """What is found from images and their own statistics. more: of these."""
    return describe_tool(side, {**describe_colours(images), **more}, images)


def compressed(*images):
    """What is found from JPEG files, whose colours are not exact."""
    images = [*map(through_jpeg, images)]
    return find_tool(*images, colours=None, jpeg=True)


# ---- sketches


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("ink, paper", [(0, 255), (255, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sketch_has_its_paper_its_ink_and_its_lines_width(width, ink, paper, channels):
    found = find_tool(draw_sketch(width, ink, paper, channels=channels), side=ImageType(channels))
    assert found == {"tool": "brush", "background": [paper] * 3, "ink": [ink] * 3,
                     "line_width": width, "palette": None, "indices": False}


def test_a_sketch_that_was_compressed_is_one_too():
    found = compressed(draw_sketch(2), draw_sketch(2, size=(80, 96)))
    assert (found["tool"], found["background"], found["ink"], found["line_width"]) == \
        ("brush", [255] * 3, [0] * 3, 2)


def test_lines_are_never_wider_than_a_brush():
    assert find_tool(draw_sketch(19))["line_width"] == 15
    blank = np.full((32, 32, 3), 255, np.uint8)
    assert find_tool(blank) == {"tool": "brush", "background": [255] * 3, "ink": [0] * 3,
                                "line_width": 1, "palette": None, "indices": False}


# ---- label maps


def test_a_label_map_has_a_palette_of_its_exact_colours():
    colours = [(10, 20, 30), (200, 0, 7), (0, 255, 128), (255, 255, 255)]
    found = find_tool(draw_labels(colours))
    assert found["tool"] == "palette" and not found["indices"]
    assert {(row["name"], *row["color"], row["index"]) for row in found["palette"]} == {
        ("#0a141e", 10, 20, 30, None), ("#c80007", 200, 0, 7, None),
        ("#00ff80", 0, 255, 128, None), ("#ffffff", 255, 255, 255, None)}
    assert found["background"] == found["palette"][0]["color"] == [10, 20, 30]  # the most frequent


@pytest.mark.parametrize("draw", [find_tool, compressed])
@pytest.mark.parametrize("count, side", [(5, 16), (12, 16), (12, 10)])
def test_facades_have_their_twelve_names(draw, count, side):
    """Also those that the examples lack, and where the files are JPEG, as the dataset's are: there
    a fifth of the pixels is far from all twelve."""
    found = draw(draw_labels([*FACADES.values()][:count], side))
    assert found["tool"] == "palette" and found["background"] == [0, 0, 222]
    assert [(row["name"], tuple(row["color"])) for row in found["palette"]] == [*FACADES.items()]


def test_colours_are_named_where_they_are_known():
    assert [name_colour(colour) for colour in ((0, 0, 222), [175, 0, 0], (1, 2, 3))] == [
        "background", "shop", "#010203"]


@pytest.mark.parametrize("classes, indices", [
    ([{"name": "sky", "color": [1, 2, 3]}, {"name": "a <wall>", "color": [9, 0, 9]}], False),
    ([{"name": "sky"}, {"name": "wall"}, {"name": "void"}], True)])
def test_label_maps_with_a_list_have_its_names_whatever_the_images_are(classes, indices):
    side = choose_side(classes=classes)
    second = side.legend[1][1]
    for images in ((), (np.full((8, 8, 3), second, np.uint8),), (draw_photo(),)):
        found = describe_tool(side, describe_colours(images), images)
        assert (found["tool"], found["indices"]) == ("palette", indices)
        assert [row["name"] for row in found["palette"]] == [row["name"] for row in classes]
        assert [row["index"] for row in found["palette"]] == (
            [*range(len(classes))] if indices else [None] * len(classes))
        if not indices:
            assert [row["color"] for row in found["palette"]] == [row["color"] for row in classes]
        # the most frequent of the list, else the first
        expected = second if len(images) and len(np.unique(images[0])) < 4 else side.legend[0][1]
        assert found["background"] == [*expected]


# ---- all else


@pytest.mark.parametrize("draw", [find_tool, compressed])
def test_photos_are_images(draw):
    assert draw(draw_photo(1), draw_photo(2))["tool"] == "image"
    grey = np.repeat(draw_photo(3)[..., :1], 3, axis=2)
    assert draw(grey)["tool"] == "image"


@pytest.mark.parametrize("draw", [find_tool, compressed])
def test_a_photo_on_white_is_no_sketch(draw):
    """As those of handbags and shoes."""
    photo = np.full((96, 96, 3), 255, np.uint8)
    photo[16:80, 16:80] = draw_photo(1)
    assert (photo == 255).all(axis=2).mean() > 0.5
    assert draw(photo)["tool"] == "image"


def test_measurements_and_several_inputs_are_images():
    depth = choose_side(channels=1, dtype="uint16")
    assert describe_tool(depth, describe_colours([draw_sketch()]), [draw_sketch()])["tool"] \
        == "image"
    assert find_tool(draw_sketch(), side=ImageType(count=2))["tool"] == "image"


def test_what_is_unknown_is_drawn_with_a_brush():
    """Of a model without statistics, such as a .pict file."""
    found = describe_tool(RGB, {}, [])
    assert (found["tool"], found["background"], found["ink"]) == ("brush", [255] * 3, [0] * 3)
    # of one whose examples are gone but not its statistics
    statistics = describe_colours([draw_sketch(4)])
    assert describe_tool(RGB, statistics, [])["line_width"] == 1
    assert describe_tool(RGB, describe_colours([draw_photo()]), [])["tool"] == "image"
