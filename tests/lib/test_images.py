"""tools/lib/images.py: one rule for reading in the graph and in arrays, writing."""

import errno
import io
import os
import struct
import zlib

import numpy as np
import pytest
from helpers import run_graph, start_session
from PIL import Image

from tools.lib import image_files, images
from tools.lib.cli import RunError
from tools.lib.image_types import CHANNELS, ImageType
from tools.lib.images import ImageError, read_image
from tools.lib.tf1 import tf


def noise(seed, *shape):
    """Random uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


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
    array = io.BytesIO()
    np.save(array, noise(6, 13, 17, 3))
    for name in image_files.FORMATS:
        whole = array.getvalue() if name == "npy" else \
            images.to_bytes(noise(6, 13, 17, 3), name.upper())
        assert decode(whole) == images.Described(13, 17, 3)
        with pytest.raises(ValueError, match="."):
            decode(whole[:len(whole) // 2])
    assert decode(images.to_bytes(noise(7, 3, 5))) == images.Described(3, 5, 1)
    assert decode(images.to_bytes(noise(7, 3, 5, 4))) == images.Described(3, 5, 4)
    assert decode(images.to_bytes(np.uint16([[700, 12000]]))) == images.Described(
        1, 2, 1, "uint16", deep_range=[700, 12000])
    with pytest.raises(ValueError, match="^truncated in its header$"):
        decode(images.to_bytes(noise(6, 13, 17, 3))[:23])
    with pytest.raises(ValueError, match="20000x20000 pixels are more than 89478485"):
        decode(bomb_png())


def test_encoding_saturates():
    """0..1 becomes floor(255.5 * value), as TensorFlow converts it."""
    image, side = np.float32([[[-0.1, 0.5, 2.0]]]), ImageType()
    contents = run_graph(lambda: images.encode_image(side.pixels_of(tf.constant(image)), "png"))
    with Image.open(io.BytesIO(contents)) as file:
        assert (file.format, file.mode) == ("PNG", "RGB")
        assert np.asarray(file).tolist() == [[[0, 127, 255]]]
    contents = run_graph(lambda: images.encode_image(side.pixels_of(tf.constant(image)), "jpeg"))
    assert images.format_of(contents) == "jpeg"


def test_an_image_that_is_scaled_back_stays_where_it_is():
    """A symmetric image remains symmetric, and its centre remains its centre."""
    bump = np.exp(-np.linspace(-2, 2, 8)**2)
    image = np.float32(bump[:, None, None] * bump[None, :, None])
    result = run_graph(lambda: images.scale_back(tf.constant(image), [13, 19]))
    assert result.shape == (13, 19, 1)
    np.testing.assert_allclose(result, result[::-1, ::-1], atol=1e-5)
    assert np.unravel_index(result.argmax(), result.shape)[:2] == (6, 9)


# ---- one rule for reading, in the graph and in arrays


@pytest.fixture(scope="module")
def decode():
    """A function from an image file's bytes and a number of channels to its pixels, by
    `decode_bytes` and by `decode_pixels`, which must give the same."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        with start_session(graph) as sess:
            in_graph = {channels: sess.make_callable(images.decode_pixels(contents, channels),
                                                     [contents]) for channels in CHANNELS}

            def both(file_bytes, channels=3):
                """The pixels."""
                expected = images.decode_bytes(file_bytes, channels).pixels
                np.testing.assert_array_equal(in_graph[channels](file_bytes), expected)
                return expected
            yield both


def to_file(image, filetype="PNG", **settings):
    """The bytes of a file of a Pillow image."""
    file = io.BytesIO()
    image.save(file, filetype, **settings)
    return file.getvalue()


ALPHA = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 200, 51], [0, 0, 0, 128]]],
                 np.uint8)
ON_WHITE = [[[255] * 3, [10, 20, 30], [204, 224, 244], [127] * 3]]  # 51 / 255 = 0.2


@pytest.mark.parametrize("filetype", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_lie_on_white(decode, filetype):
    more = {"lossless": True, "exact": True} if filetype == "WEBP" else {}
    assert decode(to_file(Image.fromarray(ALPHA), filetype, **more)).tolist() == ON_WHITE


def test_transparency_of_every_kind_of_png(decode):
    """Grey with alpha; a transparent entry of a palette, colour and grey."""
    grey = Image.fromarray(ALPHA[..., [0, 3]], "LA")
    assert decode(to_file(grey))[0, :, 0].tolist() == [255, 10, 204, 127]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    palette.putpalette([9, 8, 7, 200, 100, 50, 0, 0, 0])
    opaque = [[9, 8, 7], [200, 100, 50], [0, 0, 0]]
    assert decode(to_file(palette)).tolist() == [opaque]
    assert decode(to_file(palette, transparency=0)).tolist() == [[[255] * 3, *opaque[1:]]]
    half = decode(to_file(palette, transparency=bytes([255, 51, 0]))).tolist()
    assert half == [[[9, 8, 7], [244, 224, 214], [255] * 3]]
    keyed = Image.fromarray(np.uint8([[[1, 2, 3], [1, 2, 4]]]))
    assert decode(to_file(keyed, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [1, 2, 4]]]
    keyed = Image.fromarray(np.uint8([[7, 8]]))
    assert decode(to_file(keyed, transparency=8)).tolist() == [[[7] * 3, [255] * 3]]
    one_bit = Image.fromarray(np.array([[True, False]]))
    assert decode(to_file(one_bit, transparency=0)).tolist() == [[[255] * 3, [255] * 3]]


@pytest.mark.parametrize("filetype", ["PNG", "JPEG", "BMP", "WEBP"])
def test_grey_is_the_luminance_that_pillow_has(decode, filetype):
    more = {"lossless": True} if filetype == "WEBP" else {}
    contents = to_file(PHOTO, filetype, **more)
    with Image.open(io.BytesIO(contents)) as image:
        np.testing.assert_array_equal(decode(contents, 1)[..., 0], np.asarray(image.convert("L")))


def test_what_is_grey_stays_as_it_is(decode):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for image in (Image.fromarray(values), Image.fromarray(np.repeat(values[..., None], 3, 2))):
        np.testing.assert_array_equal(decode(to_file(image), 1)[..., 0], values)
    for filetype in ("PNG", "TIFF"):
        deep = to_file(Image.fromarray(values.astype(np.uint16) * 257), filetype)
        np.testing.assert_array_equal(decode(deep, 1)[..., 0], values)


def test_alpha_is_the_fourth_channel(decode):
    for filetype in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(to_file(Image.fromarray(ALPHA), filetype), 4), ALPHA)
    grey = decode(to_file(Image.fromarray(ALPHA[..., [0, 3]], "LA")), 4)
    np.testing.assert_array_equal(grey, ALPHA[..., [0, 0, 0, 3]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 8, 7, 200, 100, 50])
    assert decode(to_file(palette, transparency=0), 4).tolist() == [[[255] * 4,
                                                                     [200, 100, 50, 255]]]
    for filetype in ("PNG", "JPEG", "BMP"):
        opaque = decode(to_file(PHOTO, filetype), 4)
        np.testing.assert_array_equal(opaque[..., :3], decode(to_file(PHOTO, filetype)))
        assert (opaque[..., 3] == 255).all()
    np.testing.assert_array_equal(decode(to_file(Image.fromarray(ALPHA)), 1)[..., 0],
                                  Image.fromarray(np.uint8(ON_WHITE)).convert("L"))


@pytest.mark.parametrize("size", [(16, 16), (31, 45), (64, 200)])
@pytest.mark.parametrize("settings", [
    {"quality": 75}, {"quality": 95, "subsampling": 0}, {"quality": 30, "progressive": True},
    {"quality": 90, "subsampling": 1}], ids=str)
def test_jpegs_are_decoded_as_by_other_programs(decode, size, settings):
    """Pillow's pixels, to the bit: TensorFlow's fast transform is many levels off."""
    contents = to_file(Image.fromarray(smooth_noise(*size)), "JPEG", **settings)
    with Image.open(io.BytesIO(contents)) as image:
        np.testing.assert_array_equal(decode(contents), np.asarray(image))


def smooth_noise(height, width):
    """uint8 [height, width, 3] with edges and slopes."""
    blocks = np.repeat(np.repeat(noise(height, 1 + height // 4, 1 + width // 4, 3), 4, 0), 4, 1)
    return (blocks[:height, :width] // 2 + noise(width, height, width, 3) // 3).astype(np.uint8)


PHOTO = Image.fromarray(smooth_noise(12, 10))
FILES = {  # name -> a file, and the Pillow image whose pixels it must give
    **{f"{filetype} {mode}": (to_file(PHOTO.convert(mode), filetype), PHOTO.convert(mode))
       for filetype, modes in {"PNG": "RGB L P 1", "BMP": "RGB L P 1", "GIF": "L P 1",
                               "TIFF": "RGB L P 1 CMYK", "WEBP": "RGB"}.items()
       for mode in modes.split() if filetype != "WEBP"},
    "WEBP RGB": (to_file(PHOTO, "WEBP", lossless=True), PHOTO),
    "BMP 32 bits": (to_file(PHOTO.convert("RGBA"), "BMP"), PHOTO),
    "TIFF tiles": (to_file(PHOTO, "TIFF", compression="tiff_lzw"), PHOTO),
    "TIFF pages": (to_file(PHOTO, "TIFF", save_all=True, append_images=[Image.new("RGB", (3, 3))]),
                   PHOTO),
    "GIF frames": (to_file(PHOTO.convert("L"), "GIF", save_all=True,
                           append_images=[Image.new("L", PHOTO.size)]), PHOTO.convert("L")),
    "WEBP frames": (to_file(PHOTO, "WEBP", lossless=True, save_all=True,
                            append_images=[Image.new("RGB", PHOTO.size)]), PHOTO),
    "PNG frames": (to_file(PHOTO, "PNG", save_all=True,
                           append_images=[Image.new("RGB", PHOTO.size)]), PHOTO)}


@pytest.mark.parametrize("contents, image", FILES.values(), ids=FILES)
def test_every_format_and_mode_is_read(decode, contents, image):
    """The first frame or page; grey, palette, 1 bit and CMYK as RGB."""
    np.testing.assert_array_equal(decode(contents), np.asarray(image.convert("RGB")))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]  # first column and row, distance of columns and rows (PNG, 8.1)


@pytest.mark.parametrize("height, width", [(1, 1), (9, 13)])
def test_interlaced_pngs_are_read(decode, height, width):
    """Pillow writes none."""
    pixels = noise(8, height, width, 3)
    passes = [pixels[y::rows, x::columns] for x, y, columns, rows in ADAM7]
    lines = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 1)
    contents = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) \
        + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(contents), pixels)


def test_cmyk_jpegs_are_read(decode):
    """Two roundings may differ."""
    contents = to_file(Image.new("CMYK", (8, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    cmyk = images.decode_bytes(contents).pixels
    assert cmyk.shape == (16, 8, 3) and np.abs(cmyk.astype(int) - [255, 0, 0]).max() <= 3
    graph = run_graph(lambda: images.decode_pixels(tf.constant(contents)))
    assert np.abs(graph.astype(int) - cmyk).max() <= 1


def test_of_16_bits_the_upper_8_are_read(decode):
    values = np.array([[0, 255, 256, 65535, 25700]], np.uint16)
    for filetype in ("PNG", "TIFF"):
        contents = to_file(Image.fromarray(values), filetype)
        assert decode(contents)[0, :, 0].tolist() == [0, 0, 1, 255, 100]
        assert images.decode_bytes(contents).deep_range == [0, 65535]
    assert images.decode_bytes(to_file(Image.fromarray(noise(1, 4, 4)))).deep_range is None
    pixel = zlib.compress(b"\0" + struct.pack(">4H", 3000, 2000, 1000, 0x3333))
    header = struct.pack(">2I5B", 1, 1, 16, 6, 0, 0, 0)
    contents = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) \
        + chunk(b"IEND", b"")
    assert decode(contents).tolist() == [[[206, 205, 205]]]  # 11, 7, 3 at 0.2 on white
    assert images.decode_bytes(contents).deep_range == [1000, 3000]


def to_npy(array):
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_and_pgm_are_read_as_images(decode):
    """Grey as RGB; of 16 bits the upper 8."""
    pixels, values = noise(1, 5, 7, 3), np.uint16([[0, 255, 256, 65535, 25700]])
    np.testing.assert_array_equal(decode(to_npy(pixels)), pixels)
    for contents in (to_npy(values), b"P5 5 1 65535\n" + values.astype(">u2").tobytes()):
        assert decode(contents).tolist() == [[[value] * 3 for value in (0, 0, 1, 255, 100)]]
        assert images.decode_bytes(contents).deep_range == [0, 65535]
    np.testing.assert_array_equal(decode(b"P6 7 5 255\n" + pixels.tobytes()), pixels)
    with pytest.raises(ValueError, match="^it has 5 channels: convert it to 1, 3 or 4$"):
        images.decode_bytes(to_npy(noise(1, 6, 7, 5)))


@pytest.mark.parametrize("array, reason", [
    (np.float32([[0.5, 3.0]]), "its values are floating-point: convert it to 8 or 16 bits"),
    (np.int32([[5, 70000]]), "its values 5 to 70000 do not fit in 16 bits"),
    (np.int32([[-5, 70]]), "its values -5 to 70 do not fit in 16 bits")])
def test_values_that_8_bits_cannot_stand_for_are_refused(array, reason):
    with pytest.raises(ValueError, match=reason):
        images.decode_bytes(to_file(Image.fromarray(array), "TIFF"))


def test_a_narrow_range_of_16_bits_is_reported_with_what_to_do(capsys):
    images.report_deep([None, [500, 5090], [736, 3024], None])
    assert capsys.readouterr().err == (
        "pix2pix.py: 2 of 4 images have 16 bits and are read as 8; their values 500 to 5090 become "
        "1 to 19: scale the values to 0..65535 first, or most of what differs is lost\n")
    images.report_deep([[0, 65000]])
    assert capsys.readouterr().err == ("pix2pix.py: 1 of 1 images have 16 bits and are read as 8; "
                                       "their values 0 to 65000 become 0 to 253\n")
    images.report_deep([None, None])
    assert capsys.readouterr().err == ""


def test_a_graph_that_leaves_python_refuses_what_it_cannot_read():
    """A palette BMP would be read as its indices."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        image = images.decode_pixels(contents, decode_other=images.refuse)
        with start_session(graph) as sess:
            for name in ("jpeg", "png"):
                file_bytes = to_file(PHOTO, name.upper())
                np.testing.assert_array_equal(sess.run(image, {contents: file_bytes}),
                                              images.decode_bytes(file_bytes).pixels)
            for file_bytes in (to_file(PHOTO.convert("P"), "BMP"), to_file(PHOTO, "WEBP"), b"text",
                               to_file(PHOTO.convert("P"), "GIF"), to_file(PHOTO, "TIFF"), b""):
                with pytest.raises(tf.errors.InvalidArgumentError,
                                   match="not a JPEG or PNG file: convert it to one of these"):
                    sess.run(image, {contents: file_bytes})


# ---- reading into arrays


@pytest.mark.parametrize("data", [b"", b"text", b"GIF89a", b"II*\0\x08\0\0\0\xff\xff", b"\xff\xd8\xff\xe0", bomb_png(),
                                  bomb_png(10_000), bomb_png(3), b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_unreadable_files_are_reported(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.png cannot be read \(.+\): repair or remove it"):
        read_image(tmp_path / "a.png")


def test_what_libraries_print_of_a_broken_file_is_silenced(tmp_path, capfd):
    """libtiff names a file of its own."""
    contents = bytearray(to_file(PHOTO, "TIFF", compression="tiff_lzw"))
    contents[12:60] = bytes(range(200, 248))
    (tmp_path / "a.tif").write_bytes(contents)
    with pytest.raises(ImageError, match="a.tif cannot be read"):
        read_image(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""


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
