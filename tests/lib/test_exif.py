"""tools/lib/exif.py: the orientation of image files, read twice: in arrays and in the graph."""

import io
import struct

import numpy as np
import pytest
from helpers import start_session
from PIL import Image

from tools.lib import exif, images
from tools.lib.tf1 import tf

PIXELS = np.random.default_rng(3).integers(0, 256, (16, 24, 3), np.uint8)  # upright
STORED = {  # EXIF 2.32, 4.6.4: where the image's 0th row and 0th column are -> what a camera stores
    1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1],
    5: PIXELS.swapaxes(0, 1), 6: np.rot90(PIXELS), 7: PIXELS[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(PIXELS, -1)}


def make_block(*entries, order="<", count=None):
    """An EXIF block, from its TIFF header on, of entries (tag, type, count, 4 bytes)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8,
                                                                  count or len(entries))
    return head + b"".join(struct.pack(f"{order}2HI", *entry[:3]) + entry[3]
                           for entry in entries) + bytes(4)


def short(value, order="<", tag=0x0112):
    """An entry of one SHORT."""
    return tag, 3, 1, struct.pack(f"{order}2H", value, 0)


def to_file(stored, block, filetype):
    """Bytes of an image file, lossless but for JPEG, with an EXIF block."""
    file = io.BytesIO()
    jpeg = {"quality": 100, "subsampling": 0}
    more = {"JPEG": jpeg, "WEBP": {"lossless": True}, "PNG": {},
            "MPO": {**jpeg, "save_all": True, "append_images": [Image.new("RGB", (8, 8))]}}
    Image.fromarray(stored).save(file, filetype, exif=b"Exif\0\0" + block, **more[filetype])
    return file.getvalue()


@pytest.fixture(scope="module")
def decode():
    """A function from an image file's bytes to what the graph decodes."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        pixels = images.decode_pixels(contents)
        with start_session(graph) as sess:
            yield sess.make_callable(pixels, [contents])


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("filetype", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_every_orientation_is_applied(decode, orientation, order, filetype):
    """In both byte orders, in all formats that have the tag, in arrays and in the graph."""
    block = make_block(short(7, order, 0x0100), short(orientation, order),
                       (0x011a, 5, 1, bytes(4)), order=order)
    if filetype == "TIFF":
        file = io.BytesIO()
        Image.fromarray(STORED[orientation]).save(file, "TIFF", tiffinfo={274: orientation})
        contents = file.getvalue()
    else:
        contents = to_file(STORED[orientation], block, filetype)
    upright, graph = images.decode_bytes(contents).pixels, decode(contents)
    tolerance = 8 if filetype in ("JPEG", "MPO") else 0
    assert upright.shape == PIXELS.shape
    assert np.abs(upright.astype(int) - PIXELS).max() <= tolerance
    np.testing.assert_array_equal(graph, upright)


WRONG = {  # block -> the orientation that is read
    "none": (b"", 1), "cut in its header": (b"II*\0\x08", 1),
    "not a TIFF header": (b"XX*\0" + make_block(short(6))[4:], 1),
    "no entries": (make_block(), 1), "of other tags": (make_block(short(6, tag=0x0100)), 1),
    "cut behind the entry": (make_block(short(6), count=9)[:-4] + b"\x1a", 6),
    "cut in the entry": (make_block(short(6))[:-5], 1),
    "offset beyond the end": (b"II*\0" + struct.pack("<I", 2**31 + 5) + bytes(20), 1),
    "offset at the end": (b"MM\0*" + struct.pack(">I", 28) + bytes(20), 1),
    "99": (make_block(short(99)), 1), "0": (make_block(short(0)), 1),
    "two values": (make_block((0x0112, 3, 2, struct.pack("<2H", 6, 3))), 6),
    "LONG": (make_block((0x0112, 4, 1, struct.pack("<I", 6))), 6),
    "LONG, big-endian": (make_block((0x0112, 4, 1, struct.pack(">I", 6)), order=">"), 6),
    "BYTE, big-endian": (make_block((0x0112, 1, 1, b"\6\0\0\0"), order=">"), 6),
    "of text": (make_block((0x0112, 2, 2, b"6\0\0\0")), 1),
    "of text, then right": (make_block((0x0112, 2, 2, b"6\0\0\0"), short(8)), 8),
    "twice": (make_block(short(6), short(3)), 6),
    "behind wrong tags": (make_block((0x0132, 7, 20, b"\xff" * 4), (0x011a, 5, 1, b"\xff" * 4),
                                     (0x8769, 4, 1, struct.pack("<I", 10**6)), short(6)), 6)}


@pytest.mark.parametrize("block, expected", WRONG.values(), ids=WRONG)
def test_wrong_blocks_cost_nothing_but_the_orientation(decode, block, expected, capfd):
    """Arrays and graph read the same of them, and an image always comes."""
    assert exif.find_orientation(block)[0] == expected
    with tf.Graph().as_default() as graph, start_session(graph) as sess:
        assert sess.run(exif.read_orientation(tf.constant(block))) == expected
    plain = images.to_bytes(PIXELS, "JPEG", quality=100)
    segment = b"Exif\0\0" + block
    contents = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    upright = images.decode_bytes(contents).pixels
    np.testing.assert_array_equal(decode(contents), upright)
    np.testing.assert_array_equal(
        upright, exif.turn_array(images.decode_bytes(plain).pixels, expected))
    assert capfd.readouterr().err == ""


def test_a_jpegs_block_is_found_behind_other_segments(decode):
    """Behind a comment, a profile, other uses of APP1 and filling bytes; not behind the pixels."""
    plain = to_file(STORED[6], make_block(short(6)), "JPEG")
    jfif, rest = plain[:20], plain[20:]
    size = struct.unpack(">H", rest[2:4])[0] + 2
    block, tail = rest[:size], rest[size:]
    others = b"\xff\xfe\0\x05abc\xff\xe1\0\x09http:/x\xff\xff\xe2\0\x0eICC_PROFILE\0"
    for contents, shape in ((jfif + others + block + tail, PIXELS.shape),
                            (jfif + others + tail, STORED[6].shape),
                            (jfif + tail + block, STORED[6].shape)):
        assert images.decode_bytes(contents).pixels.shape == shape
        assert decode(contents).shape == shape


@pytest.mark.parametrize("filetype", ["JPEG", "PNG", "WEBP"])
def test_what_is_cut_anywhere_never_hangs_or_crashes(decode, filetype):
    """Both readings end, with an image or an error."""
    whole = to_file(STORED[6], make_block(short(6)), filetype)
    for length in [*range(12, 120), *range(120, len(whole), 97)]:
        for read in (lambda contents: images.decode_bytes(contents).pixels, decode):
            try:
                assert read(whole[:length]).ndim == 3
            except (ValueError, tf.errors.InvalidArgumentError):
                pass


def test_a_png_without_its_end_is_truncated(decode):
    """Pillow would take it, TensorFlow does not."""
    whole = images.to_bytes(PIXELS)
    for cut in (1, 4, 12, 16):
        with pytest.raises(ValueError, match="^truncated$"):
            images.decode_bytes(whole[:-cut])
    np.testing.assert_array_equal(images.decode_bytes(whole + b"rest").pixels, PIXELS)


@pytest.mark.parametrize("name, extra", [
    ("iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"history " * 200_000),
    ("tEXt", b"workflow\0" + b"{}," * 500_000), ("zTXt", b"x\0\0no zlib"),
    ("iCCP", b"ICC\0\0no zlib"), ("gAMA", b"\0"), ("eXIf", b"nonsense")])
def test_a_pngs_metadata_does_not_keep_it_from_being_read(decode, name, extra):
    """More text than Pillow takes, and what is damaged."""
    plain = images.to_bytes(PIXELS)
    chunk = struct.pack(">I", len(extra)) + name.encode() + extra + b"\0\0\0\0"  # a wrong check
    contents = plain[:33] + chunk + plain[33:]
    np.testing.assert_array_equal(images.decode_bytes(contents).pixels, PIXELS)
    np.testing.assert_array_equal(decode(contents), PIXELS)
