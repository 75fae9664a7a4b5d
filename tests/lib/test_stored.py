"""tools/lib/stored.py: every type, palette and layout is read as it is stored, and written."""

import base64
import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from helpers import run_graph
from PIL import Image

from tools.lib import stored
from tools.lib.stored import ImageError, decode_stored, encode_stored, read_stored
from tools.lib.tf1 import tf


def noise(seed, *shape, dtype=np.uint16):
    """Random values of a type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def smooth(height, width, most):
    """Depth that rises across the image, with a little noise: uint16 [height, width]."""
    ramp = np.linspace(most / 3, most, width)[np.newaxis] + np.linspace(0, 40, height)[:, np.newaxis]
    return (ramp + np.random.default_rng(1).integers(0, 5, [height, width])).astype(np.uint16)


def to_file(image, filetype="PNG", **settings):
    """The bytes of a file of a Pillow image."""
    file = io.BytesIO()
    image.save(file, filetype, **settings)
    return file.getvalue()


def to_npy(array, **settings):
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def to_tiff(array, **settings):
    """The bytes of a TIFF file."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **settings)
    return file.getvalue()


def to_pgm(values, dtype=">u2", kind=5, largest=65535):
    """The bytes of a PGM or PPM file, binary."""
    height, width = values.shape[:2]
    return b"P%d\n# made by a test\n%d %d\n%d\n" % (kind, width, height, largest) \
        + values.astype(dtype).tobytes()


def check(contents, expected, palette=None, has_alpha=False):
    """A file is read as these values, type and all."""
    found = decode_stored(contents)
    expected = expected if expected.ndim == 3 else expected[..., np.newaxis]
    assert found.pixels.dtype == expected.dtype and found.pixels.shape == expected.shape
    np.testing.assert_array_equal(found.pixels, expected)
    assert (found.palette is None) == (palette is None) and found.has_alpha == has_alpha
    if palette is not None:
        np.testing.assert_array_equal(found.palette[:len(palette)], palette)


# ---- 8 bits


@pytest.mark.parametrize("filetype", ["PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_files_of_8_bits_are_read_as_they_are(filetype, mode):
    image = Image.fromarray(noise(1, 7, 5, 4, dtype=np.uint8), "RGBA").convert(mode)
    if mode not in {"BMP": "1 L RGB", "WEBP": "RGB RGBA"}.get(filetype, mode).split():
        return
    more = {"lossless": True, "exact": True} if filetype == "WEBP" else {}
    expected = np.asarray(image.convert("L") if mode == "1" else image)
    check(to_file(image, filetype, **more), expected, has_alpha=mode.endswith("A"))


PALETTE = np.uint8([[9, 8, 7], [200, 100, 50], [0, 0, 0], [5, 250, 5], [90, 90, 90]])


@pytest.mark.parametrize("filetype", ["PNG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_palettes_are_kept(filetype, bits):
    count = min(len(PALETTE), 2**bits)
    indices = noise(2, 6, 9, dtype=np.uint8) % count
    image = Image.fromarray(indices)
    image.putpalette(PALETTE[:count].tobytes())
    contents = to_file(image, filetype, **({"optimize": False} if filetype == "GIF" else {}))
    check(contents, indices, PALETTE[:count])


def test_transparent_colours_of_a_palette_lie_on_white():
    image = Image.fromarray(np.uint8([[0, 1, 2]]))
    image.putpalette(PALETTE[:3].tobytes())
    check(to_file(image, transparency=bytes([255, 51, 0])), np.uint8([[0, 1, 2]]),
          np.uint8([[9, 8, 7], [244, 224, 214], [255, 255, 255]]))  # 51 / 255 = 0.2
    check(to_file(image, transparency=1), np.uint8([[0, 1, 2]]),
          np.uint8([[9, 8, 7], [255, 255, 255], [0, 0, 0]]))


def test_a_transparent_value_becomes_alpha():
    keyed = to_file(Image.fromarray(np.uint8([[7, 8]])), transparency=8)
    check(keyed, np.uint8([[[7, 255], [8, 0]]]), has_alpha=True)
    deep = to_file(Image.fromarray(np.uint16([[700, 8]])))
    keyed = deep[:33] + stored.png_chunk(b"tRNS", struct.pack(">H", 700)) + deep[33:]
    check(keyed, np.uint16([[[700, 0], [8, 65535]]]), has_alpha=True)


# ---- 16 bits and more


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(7, 5), (1, 1), (64, 33)])
def test_png_of_16_bits_against_tensorflow(size, channels):
    """Both ways: what we write is what TensorFlow reads, and what it writes is what we read."""
    values = noise(channels, *size, channels)
    contents = encode_stored(values)
    decoded = run_graph(lambda: tf.image.decode_png(tf.constant(contents), 0, tf.uint16))
    np.testing.assert_array_equal(decoded, values)
    check(contents, values, has_alpha=channels in (2, 4))
    written = run_graph(lambda: tf.image.encode_png(tf.constant(values)))
    check(written, values, has_alpha=channels in (2, 4))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]  # first column and row, distance of columns and rows (PNG, 8.1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_png_of_16_bits(channels):
    values = noise(channels, 9, 13, channels)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for x, y, columns, rows in ADAM7
                     for row in values[y::rows, x::columns])
    header = struct.pack(">2I5B", 13, 9, 16, stored.PNG_TYPES[channels], 0, 0, 1)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    contents = b"".join(stored.png_chunk(*part) for part in parts)
    check(b"\x89PNG\r\n\x1a\n" + contents, values, has_alpha=channels in (2, 4))


@pytest.mark.parametrize("array", [
    noise(1, 7, 5), noise(2, 7, 5, 3), noise(3, 7, 5, 4), noise(4, 7, 5, 2), noise(5, 7, 5, 6),
    noise(6, 7, 5, 5, dtype=np.uint8), noise(7, 7, 5, dtype=np.float32),
    noise(8, 7, 5, 3, dtype=np.float32), noise(9, 7, 5, 9, dtype=np.float32),
    noise(1, 7, 5, dtype=np.int32), noise(2, 7, 5, dtype=np.uint32)],
    ids=lambda array: f"{array.dtype} {array.shape}")
@pytest.mark.parametrize("settings", [
    {"planarconfig": "contig"}, {"planarconfig": "separate"},
    {"planarconfig": "contig", "compression": "zlib", "predictor": True},
    {"planarconfig": "contig", "byteorder": ">"},
    {"planarconfig": "contig", "tile": (16, 16)}], ids=str)
def test_tiffs_of_any_type_and_number_of_channels(array, settings):
    if settings.get("predictor") and array.dtype.kind == "f":
        settings = {**settings, "predictor": False}  # needs a library that we do not have
    planar = settings["planarconfig"] == "separate" and array.ndim == 3
    contents = to_tiff(np.moveaxis(array, 2, 0) if planar else array, photometric="minisblack",
                       **settings if array.ndim == 3 else
                       {**settings, "planarconfig": None})
    check(contents, array)


def to_lzw(data):
    """Bytes as LZW has them in TIFF (TIFF 6.0, section 13), each as a code of 9 bits: the table is
    cleared before codes grow to 10."""
    codes = []
    for place in range(0, len(data), 200):
        codes += [256, *data[place:place + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes((len(bits) + 7) // 8, "big")


def to_lzw_tiff(values, order):
    """The bytes of a TIFF file of 16 bits that is compressed by LZW. order: < or >."""
    height, width, channels = values.shape
    strip = to_lzw(values.astype(f"{order}u2").tobytes())
    bits_at, strip_at = 8, 8 + 2 * channels
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits_at), (259, 3, 1, 5),
            (262, 3, 1, 2), (273, 4, 1, strip_at), (277, 3, 1, channels), (278, 4, 1, height),
            (279, 4, 1, len(strip)), *[(338, 3, 1, 2)] * (channels == 4)]
    rows = b"".join(struct.pack(f"{order}2HI{'HH' if kind == 3 and count == 1 else 'I'}", tag, kind,
                                count, value, *[0] * (kind == 3 and count == 1))
                    for tag, kind, count, value in tags)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", strip_at + len(strip)) \
        + struct.pack(f"{order}{channels}H", *[16] * channels) + strip \
        + struct.pack(f"{order}H", len(tags)) + rows + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_tiffs_of_16_bits_that_are_compressed_by_lzw(order, channels):
    """Which tifffile cannot read without another library, and Pillow as 8 bits."""
    values = noise(1, 7, 5, channels)
    check(to_lzw_tiff(values, order), values, has_alpha=channels == 4)


@pytest.mark.parametrize("array", [noise(1, 7, 5), noise(2, 7, 5, dtype=np.float32)])
def test_grey_tiffs_that_are_compressed_by_lzw(array):
    check(to_file(Image.fromarray(array), "TIFF", compression="tiff_lzw"), array)


def test_a_compression_that_nothing_reads_is_named():
    """For 32 bits, of which Pillow makes signed ones."""
    image = Image.fromarray(noise(1, 7, 5, dtype=np.int32))
    with pytest.raises(ValueError, match="its compression LZW is not supported for such values: "
                                         "save it uncompressed or by Deflate"):
        decode_stored(to_file(image, "TIFF", compression="tiff_lzw"))


def test_float64_and_small_types_of_npy():
    check(to_npy(noise(1, 4, 6, dtype=np.float64).astype(np.float64)),
          noise(1, 4, 6, dtype=np.float64).astype(np.float32))
    check(to_npy(noise(2, 4, 6, 7, dtype=np.float32)), noise(2, 4, 6, 7, dtype=np.float32))
    check(to_npy(noise(3, 4, 6).astype(">u2")), noise(3, 4, 6))
    check(to_npy(np.asfortranarray(noise(4, 4, 6, 3))), noise(4, 4, 6, 3))
    check(to_npy(np.arange(24).reshape(4, 6)), np.arange(24, dtype=np.int32).reshape(4, 6))
    check(to_npy(np.arange(24).reshape(4, 6) > 9),
          np.where(np.arange(24).reshape(4, 6) > 9, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("array, reason", [
    (np.zeros([4]), r"its shape is \(4,\): save \[height, width\] or \[height, width, channels\]"),
    (np.zeros([1, 4, 5, 3]), r"its shape is \(1, 4, 5, 3\): save"),
    (np.zeros([0, 4]), r"its shape is \(0, 4\): save"),
    (np.zeros([3, 20, 24]), r"its shape \(3, 20, 24\) looks like channels first: save np.moveaxis"),
    (np.zeros([4, 5], complex), "its values are of type complex128: save numbers"),
    (np.zeros([4, 5], "U3"), "its values are of type <U3: save numbers"),
    (np.int64([[2**40]]), "its values are of type int64: save them as uint8, uint16, int32"),
    (np.zeros([4, 5], [("a", "u1")]), "save numbers")])
def test_arrays_that_are_no_images_are_refused(array, reason):
    with pytest.raises(ValueError, match=reason):
        decode_stored(to_npy(array))


def test_npy_is_never_unpickled_and_memory_is_not_spent():
    class Harmful:
        """What an unpickled file would run."""

        def __reduce__(self):
            """Ends the test."""
            return pytest.fail, ("unpickled",)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|O", "fortran_order": False, "shape": (1, 1)})
    with pytest.raises(ValueError, match="its values are of type object: save numbers"):
        decode_stored(file.getvalue() + pickle.dumps([Harmful()]))
    whole = to_npy(noise(1, 4, 6))
    with pytest.raises(ValueError, match="^truncated$"):
        decode_stored(whole[:-1])
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with pytest.raises(ValueError, match="1000000x1000000 pixels are more than"):
        decode_stored(file.getvalue())


def test_tiffs_that_cannot_be_read_say_why():
    with pytest.raises(ValueError, match="it has 3 pages: save the one to read alone, or all as "
                                         "channels of one .npy file"):
        decode_stored(to_tiff(noise(1, 3, 20, 24), photometric="minisblack"))
    whole = to_tiff(noise(1, 20, 24, 5), photometric="minisblack", planarconfig="contig")
    for size in (5, 60, len(whole) // 2, len(whole) - 3):
        with pytest.raises(ValueError, match="."):
            decode_stored(whole[:size])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_files_are_turned_upright(orientation):
    values = noise(1, 3, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(values)
    expected = decode_stored(to_file(image)).pixels
    turned = stored.exif.turn_array(expected, orientation)
    for contents in (to_file(image, exif=exif),
                     to_tiff(values, extratags=[(274, 3, 1, orientation, True)])):
        np.testing.assert_array_equal(decode_stored(contents).pixels, turned)


# ---- PGM and PPM


@pytest.mark.parametrize("largest, dtype", [(255, np.uint8), (11, np.uint8), (65535, np.uint16),
                                            (4000, np.uint16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pgm_and_ppm_are_read_unscaled(largest, dtype, channels):
    """Pillow stretches values to 65535 whatever the header says."""
    shape = (6, 7) if channels == 1 else (6, 7, 3)
    values = (noise(1, *shape).astype(int) % (largest + 1)).astype(dtype)
    binary = ">u2" if largest > 255 else "u1"
    check(to_pgm(values, binary, 4 + (channels + 1) // 2, largest), values)
    text = b"P%d 7 6\n%d\n" % (1 + (channels + 1) // 2, largest) \
        + b" ".join(b"%d" % value for value in values.flat)
    check(text, values)
    with pytest.raises(ValueError, match="^truncated$"):
        decode_stored(to_pgm(values, binary, 4 + (channels + 1) // 2, largest)[:-1])


@pytest.mark.parametrize("header", [b"P5 7 ", b"P5 7 5 0\n", b"P5 0 5 255\n", b"P5 7 5 70000\n"])
def test_damaged_headers_of_pgm(header):
    with pytest.raises(ValueError, match="^damaged in its header$"):
        decode_stored(header + bytes(99))


def test_little_endian_pgm_is_told_from_the_standards(tmp_path):
    """As NYU Depth's raw files are: kinect values of 11 bits, the lower byte first."""
    values = smooth(40, 60, 2047)
    with pytest.raises(ValueError, match="its 16-bit samples look little-endian, as in NYU Depth's "
                                         "raw files.*--sample_format swapped, or by standard"):
        decode_stored(to_pgm(values, "<u2"))
    swapped = decode_stored(to_pgm(values, "<u2"), "swapped")
    np.testing.assert_array_equal(swapped.pixels[..., 0], values)
    as_it_stands = decode_stored(to_pgm(values, "<u2"), "standard")
    np.testing.assert_array_equal(as_it_stands.pixels[..., 0], values.byteswap())
    for valid in (values, noise(1, 40, 60), smooth(40, 60, 60000), values * 0 + 700,
                  smooth(40, 60, 255) << 8, smooth(40, 60, 255) * 257, smooth(40, 60, 4000) << 4):
        check(to_pgm(valid), valid)
    (tmp_path / "a.pgm").write_bytes(to_pgm(values, "<u2"))
    with pytest.raises(ImageError, match="a.pgm cannot be read .its 16-bit samples look"):
        read_stored(tmp_path / "a.pgm")


def test_rotated_bits_are_told_from_values_times_8():
    """As SUN RGB-D's are: from 8192 millimetres on the upper bits are where the lower ones were."""
    far = smooth(40, 60, 2000)
    far[10:13] += 7000
    rotated = (far << 3) | (far >> 13)
    with pytest.raises(ValueError, match="its values look rotated by 3 bits, as SUN RGB-D.*"
                                         "--sample_format rotated, or by standard"):
        decode_stored(encode_stored(rotated[..., np.newaxis]))
    found = decode_stored(encode_stored(rotated[..., np.newaxis]), "rotated")
    np.testing.assert_array_equal(found.pixels[..., 0], far)
    near = smooth(40, 60, 5000)
    check(encode_stored((near << 3)[..., np.newaxis]), near << 3)  # times 8 is as likely
    assert stored.may_be_rotated(near << 3)
    touched = near << 3
    touched[7, 7::9] += 3  # a few values that were interpolated
    for valid in (near, noise(1, 40, 60), near * 0 + 8, near // 5 * 5, touched):
        check(encode_stored(valid[..., np.newaxis]), valid)
        assert not stored.may_be_rotated(valid)


# ---- writing


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
def test_what_is_written_is_read(channels, dtype):
    values = noise(1, 9, 4, channels, dtype=dtype)
    contents = encode_stored(values)
    is_png = channels < 5 and dtype in (np.uint8, np.uint16)
    assert contents.startswith(b"\x89PNG" if is_png else b"\x93NUMPY")
    check(contents, values, has_alpha=is_png and channels in (2, 4))
    if not is_png:
        np.testing.assert_array_equal(np.load(io.BytesIO(contents), allow_pickle=False), values)


def paeth(left, up, corner):
    """The predictor in the words of PNG 3rd edition, 9.4."""
    sums = left + up - corner
    return min((abs(sums - value), order, value) for order, value in enumerate(
        (left, up, corner)))[2]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 3), (1, 6, 4), (9, 8, 2), (12, 7, 3)])
@pytest.mark.parametrize("most", [3, 255])
@pytest.mark.parametrize("block_bytes", [1, 40, 2**16])
def test_rows_are_filtered_as_the_standard_says(monkeypatch, dtype, shape, most, block_bytes):
    monkeypatch.setattr(stored, "BLOCK_BYTES", block_bytes)
    values = np.random.default_rng(5).integers(0, most + 1, shape).astype(dtype)
    data = values.astype(values.dtype.newbyteorder(">")).tobytes()
    rows = np.frombuffer(data, np.uint8).reshape(shape[0], -1).astype(int)
    around, step = np.pad(rows, [(1, 0), (values[0, 0].nbytes, 0)]), values[0, 0].nbytes
    expected = [[4] + [(around[y + 1, x + step] - paeth(
        around[y + 1, x], around[y, x + step], around[y, x])) % 256
        for x in range(rows.shape[1])] for y in range(rows.shape[0])]
    np.testing.assert_array_equal(stored.filter_rows(values), expected)


def test_what_is_written_fast_is_as_small_as_zlibs_fastest():
    y, x = np.mgrid[:200, :300]
    photo = np.stack([100 + 60 * np.sin(x / 20 + y / 30), x / 2, y], axis=2) \
        + np.random.default_rng(6).normal(0, 4, (200, 300, 3))
    for pixels in (photo.astype(np.uint8), photo.astype(np.uint8) // 64 * 64):
        sizes = [len(encode_stored(pixels, **settings)) for settings in (
            {}, {"compress_level": 1})]
        assert sizes[0] < 1.1 * sizes[1] < 200 * 300 * 3


@pytest.mark.parametrize("count", [1, 5, 17, 256])
def test_palettes_are_written(count):
    indices = (noise(1, 9, 40, 1) % count).astype(np.uint8)
    palette = noise(2, count, 3, dtype=np.uint8)
    contents = encode_stored(indices, palette)
    with Image.open(io.BytesIO(contents)) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette[indices[..., 0]])
    check(contents, indices, palette)
    assert struct.unpack(">I", contents[16:20]) == (40,)


ENDLESS_TIFF = (  # each of its pages says that there is another
    "SUkqAAgAAAAKAAABBAABAAAAGAAAAAEAAAAYAAAAAQAAABgAAAABAAAAGAAAAAEAAAAYAAAAAQAAABgAAAABAAAAGA"
    "AAAAEAAAAYAAAAAQAAABgAAAABAAAAGAAAAAEAAAAYAAAAAQAAABgAAAABAAAAGAAAAAEAAAAYAAAAAQAAABgAAAAB"
    "AAAAGAAAAAEAAAAYAAAAAQAAABgAAAABAAAAGAAAAAEAAAAYAAAAAQEEAA==")


def test_a_tiff_file_whose_pages_go_in_circles_is_refused():
    """It was read for ever, and took ever more memory."""
    with pytest.raises(ValueError, match="pages"):
        decode_stored(base64.b64decode(ENDLESS_TIFF))
