"""tools/lib/images.py: formats by content, types of pairs, reading, writing, decoding."""

import errno
import io
import os
import struct
import zlib

import numpy as np
import pytest
from helpers import draw, run_graph
from PIL import Image

from tools.lib import images
from tools.lib.cli import RunError, UserError
from tools.lib.images import LAB, SIDE_BY_SIDE, ImageError, choose_pair, infer_pair, read_image
from tools.lib.tf1 import tf


def noise(seed, *shape):
    """Random uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# ---- formats


@pytest.mark.parametrize("contents, expected", [
    (b"\xff\xd8\xff\xe0rest", "jpeg"), (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\nrest", "png"),
    (b"\xff\xd8", None), (b"\x89PNG\n\x1a\n", None), (b"GIF89a", None), (b"", None)])
def test_a_format_is_told_by_the_first_bytes(tmp_path, contents, expected):
    assert images.format_of(contents) == expected
    (tmp_path / "name.gif").write_bytes(contents)
    assert images.image_format(tmp_path / "name.gif") == expected


def test_pillow_and_tensorflow_know_every_format():
    """The rows of FORMATS: to_bytes writes them, format_of recognizes them, TensorFlow decodes
    them, and messages list them."""
    assert images.FORMAT_NAMES == "JPEG or PNG"
    assert images.EXTENSIONS == (".jpg", ".jpeg", ".png")
    for name in images.FORMATS:
        contents = images.to_bytes(np.full([5, 7, 3], 100, np.uint8), name.upper())
        assert images.format_of(contents) == name
        pixels = run_graph(lambda: images.decode_pixels(tf.constant(contents)))
        assert pixels.shape == (5, 7, 3) and np.abs(pixels.astype(int) - 100).max() <= 1


def test_candidates_are_told_by_extension_or_content(tmp_path):
    """A candidate may turn out unreadable; a hidden file is none."""
    png = images.to_bytes(noise(1, 2, 3, 3))
    contents = {"a.png": b"", "b.JPeG": b"text", "c": png, "d.txt": png, "e.txt": b"text", "f": b"",
                ".g.png": png}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    os.symlink("nowhere", tmp_path / "h.jpg")
    os.symlink("nowhere", tmp_path / "i")
    found = {path.name for path in tmp_path.iterdir() if images.is_candidate(path)}
    assert found == {"a.png", "b.JPeG", "c", "d.txt", "h.jpg"}
    assert [path.name for path in images.find_images(tmp_path)] == ["c", "d.txt"]


def test_required_images_are_there_or_it_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=f"^--dir {tmp_path} contains no JPEG or PNG images: check"):
        images.require_images(tmp_path, "--dir")
    with pytest.raises(UserError, match="^--dir nowhere is not a folder: check the path$"):
        images.require_images("nowhere", "--dir")
    (tmp_path / "x").write_bytes(images.to_bytes(noise(1, 2, 3)))
    assert images.require_images(str(tmp_path), "--dir") == [tmp_path / "x"]


# ---- types of images and pairs

PAIRS = {(lab, direction): choose_pair(lab, direction)
         for lab in (False, True) for direction in ("AtoB", "BtoA")}


def test_the_four_pairs():
    assert PAIRS[False, "AtoB"] == SIDE_BY_SIDE and PAIRS[True, "AtoB"] == LAB
    channels = {key: (pair.inputs.channels, pair.targets.channels) for key, pair in PAIRS.items()}
    assert channels == {(False, "AtoB"): (3, 3), (False, "BtoA"): (3, 3), (True, "AtoB"): (1, 2),
                        (True, "BtoA"): (2, 1)}
    assert {key: pair.side_by_side for key, pair in PAIRS.items()} == {
        (lab, direction): not lab for lab, direction in PAIRS}


def test_a_file_is_split_into_halves():
    """An odd width loses its last column; reversed, the right half is the input."""
    pixels = noise(2, 4, 9, 3)
    halves = run_graph(lambda: SIDE_BY_SIDE.split(tf.constant(pixels)))
    np.testing.assert_array_equal(halves[0], pixels[:, :4])
    np.testing.assert_array_equal(halves[1], pixels[:, 4:8])
    swapped = run_graph(lambda: SIDE_BY_SIDE.reversed().split(tf.constant(pixels)))
    np.testing.assert_array_equal(swapped[0], halves[1])
    np.testing.assert_array_equal(swapped[1], halves[0])


@pytest.mark.parametrize("key", PAIRS)
def test_both_ends_of_a_type_are_inverse(key):
    """What goes into the network from an image comes out as the image. Lightness is shown in
    grey, and colour takes its lightness from the other side."""
    rgb, pair = draw(3, 2, 5, 7, 3, low=0, high=1), PAIRS[key]
    grey = np.repeat(rgb.mean(axis=3, keepdims=True), 3, axis=3)
    for side, other in (pair[:2], pair[1::-1]):
        image = grey if side.channels == 1 else rgb

        def build(side=side, other=other, image=image):
            """The values at the network's end, and the image they stand for."""
            values = side.from_rgb(tf.constant(image))
            return values, side.to_rgb(values, other.from_rgb(tf.constant(image)))
        values, shown = run_graph(build)
        assert values.shape == (2, 5, 7, side.channels) and np.abs(values).max() <= 1
        if side.channels == 3:
            np.testing.assert_allclose(values, 2 * image - 1, atol=1e-6)
        if side.channels == 1:  # lightness 0..100 of CIE Lab, shown as grey 0..1
            assert shown.shape == (2, 5, 7, 1)
            luminance = np.where(image > 0.04045, ((image + 0.055) / 1.055)**2.4, image / 12.92)
            lightness = 116 * np.cbrt(luminance[..., :1]) - 16  # where above 0.008856
            np.testing.assert_allclose(shown * 100, lightness, atol=0.05)
        else:
            np.testing.assert_allclose(shown, image, atol=2e-3)


def test_a_lab_file_is_split_as_both_ends_say():
    """The same values whether a file is split or an image is converted at an end."""
    pixels = noise(4, 5, 7, 3)

    def build():
        """Lightness and colour, from the split and from both ends."""
        rgb = tf.constant(pixels / 255, tf.float32)
        return LAB.split(tf.constant(pixels)), (LAB.inputs.from_rgb(rgb),
                                                LAB.targets.from_rgb(rgb))
    split, ends = run_graph(build)
    for got, expected in zip(split, ends, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_a_decoded_file_is():
    """Derived from channels and dtype, so that another bit depth changes one place."""
    assert (images.RGB.max_value, images.RGB.bytes_per_pixel) == (255, 3)
    deep = images.RGB._replace(dtype="uint16", file_channels=4)
    assert (deep.max_value, deep.bytes_per_pixel) == (65535, 8)
    contents = images.to_bytes(noise(5, 3, 4, 3))
    grey = images.RGB._replace(file_channels=1, dtype="uint16")
    pixels = run_graph(lambda: images.decode_pixels(tf.constant(contents), grey))
    assert pixels.shape == (3, 4, 1) and pixels.dtype == np.uint16 and pixels.max() > 255


@pytest.mark.parametrize("channels, expected", [
    ((3, 3), {"lab_colorization": False}),  # the direction does not show
    ((1, 2), {"lab_colorization": True, "which_direction": "AtoB"}),
    ((2, 1), {"lab_colorization": True, "which_direction": "BtoA"}),
    ((3, 1), {}), ((1, 1), {}), ((4, 3), {})])
def test_a_pair_is_inferred_from_the_networks_ends(channels, expected):
    assert infer_pair(*channels) == expected


# ---- decoding in the graph


def chunk(name, data):
    """A chunk of a PNG file."""
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def bomb_png(side=20_000):
    """A small PNG file whose header claims a very large image."""
    header = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) \
        + chunk(b"IEND", b"")


def test_the_decoder_gives_sizes_and_reasons():
    """Height and width of an intact file; for others ValueError, before memory is spent."""
    decode = images.create_decoder()
    for name in ("PNG", "JPEG"):
        whole = images.to_bytes(noise(6, 13, 17, 3), name)
        assert [*decode(whole)] == [13, 17]
        with pytest.raises(ValueError, match="cannot be decoded: |truncated in its header"):
            decode(whole[:len(whole) // 2])
    assert [*decode(images.to_bytes(noise(7, 3, 5)))] == [3, 5]  # grey
    with pytest.raises(ValueError, match="^truncated in its header$"):
        decode(images.to_bytes(noise(6, 13, 17, 3))[:23])
    with pytest.raises(ValueError, match="20000x20000 pixels are more than 89478485"):
        decode(bomb_png())


def test_encoding_saturates():
    """0..1 becomes floor(255.5 * value), as TensorFlow converts it."""
    image = np.float32([[[-0.1, 0.5, 2.0]]])
    contents = run_graph(lambda: images.encode_image(tf.constant(image), "png"))
    with Image.open(io.BytesIO(contents)) as file:
        assert (file.format, file.mode) == ("PNG", "RGB")
        assert np.asarray(file).tolist() == [[[0, 127, 255]]]
    contents = run_graph(lambda: images.encode_image(tf.constant(image), "jpeg"))
    assert images.format_of(contents) == "jpeg"


def test_an_image_that_is_scaled_back_stays_where_it_is():
    """A symmetric image remains symmetric, and its centre remains its centre."""
    bump = np.exp(-np.linspace(-2, 2, 8)**2)
    image = np.float32(bump[:, None, None] * bump[None, :, None])
    result = run_graph(lambda: images.scale_back(tf.constant(image), [13, 19]))
    assert result.shape == (13, 19, 1)
    np.testing.assert_allclose(result, result[::-1, ::-1], atol=1e-5)
    assert np.unravel_index(result.argmax(), result.shape)[:2] == (6, 9)


# ---- reading into arrays


def save(tmp_path, image, name="a.png", **arguments):
    """Saves a Pillow image, returns what read_image makes of it."""
    image.save(tmp_path / name, **arguments)
    return read_image(tmp_path / name)


def test_transparent_parts_become_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 200, 51]]], np.uint8)
    expected = [[[255, 255, 255], [10, 20, 30], [204, 224, 244]]]  # 51 / 255 = 0.2
    assert save(tmp_path, Image.fromarray(pixels)).tolist() == expected
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([9, 8, 7, 200, 100, 50])
    assert save(tmp_path, palette).tolist() == [[[9, 8, 7], [200, 100, 50]]]
    assert save(tmp_path, palette, transparency=0).tolist() == [[[255] * 3, [200, 100, 50]]]
    grey = Image.fromarray(np.array([[[77, 0], [77, 255]]], np.uint8), "LA")
    assert save(tmp_path, grey).tolist() == [[[255] * 3, [77] * 3]]


def test_other_modes(tmp_path):
    values = np.array([[0, 128, 129, 65535, 25700]], np.uint16)
    assert save(tmp_path, Image.fromarray(values))[0, :, 0].tolist() == [0, 0, 1, 255, 100]
    assert save(tmp_path, Image.new("L", (2, 1), 77)).tolist() == [[[77] * 3] * 2]
    assert save(tmp_path, Image.new("1", (1, 1), 1)).tolist() == [[[255] * 3]]
    cmyk = save(tmp_path, Image.new("CMYK", (8, 16), (0, 255, 255, 0)), "a.jpg", quality=100)
    assert cmyk.shape == (16, 8, 3)
    assert np.abs(cmyk - np.array([255, 0, 0])).max() <= 3


def test_exif_orientation_is_applied(tmp_path):
    image = noise(9, 3, 5, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    upright = save(tmp_path, Image.fromarray(image), exif=exif)
    assert np.array_equal(upright, np.rot90(image, -1))


@pytest.mark.parametrize("data", [b"", b"text", b"GIF89a", b"\xff\xd8\xff\xe0", bomb_png(),
                                  bomb_png(10_000), bomb_png(3), b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_unreadable_files_are_reported(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.png cannot be read \(.+\): repair or remove it"):
        read_image(tmp_path / "a.png")


def test_what_is_not_a_file_is_reported_without_opening_it(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    os.symlink("nowhere", tmp_path / "link")
    for name, reason in (("fifo", "not a file"), ("folder", "not a file"), ("link", "No such file"),
                         ("none", "No such file"), ("n" * 300, "File name too long")):
        with pytest.raises(ImageError, match=rf"/{name} cannot be read \(.*{reason}.*\): repair"):
            read_image(tmp_path / name)


def test_an_unreadable_image_ends_a_command_that_does_not_expect_it():
    """In one line, exit code 1; UserError's 2 would say that the command line is wrong."""
    assert issubclass(ImageError, RunError) and ImageError("x").code == 1


# ---- writing


@pytest.mark.parametrize("shape, mode", [((3, 5, 3), "RGB"), ((3, 5), "L")])
def test_written_images_are_read_back(tmp_path, shape, mode):
    image = noise(10, *shape)
    images.write_image(tmp_path / "a.png", image, compress_level=4)
    with Image.open(tmp_path / "a.png") as file:
        assert (file.format, file.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(file), image)
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_name_that_cannot_be_written_is_the_images_failure(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "n" * 260 + ".png"):
        with pytest.raises(ImageError, match=rf"/{name} cannot be written \(.+\): change the name"):
            images.write_image(tmp_path / name, noise(11, 2, 2))
    assert os.listdir(tmp_path) == ["folder.png"]


def test_a_disk_that_fails_is_an_oserror_with_the_images_name(tmp_path, monkeypatch):
    def fail(*_):
        """A full disk."""
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left on device: '.*/a.png'") as caught:
        images.write_image(tmp_path / "a.png", noise(12, 2, 2))
    assert caught.value.errno == errno.ENOSPC and os.listdir(tmp_path) == []


def test_only_a_synced_write_waits_for_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    images.write_image(tmp_path / "a.png", noise(13, 2, 2), sync=False)
    assert synced == []
    images.write_image(tmp_path / "a.png", noise(13, 2, 2))
    assert len(synced) == 1
