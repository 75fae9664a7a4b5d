"""Records of how results were made: what other programs read of such files, and reading them back.
"""

import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tools.lib import provenance

PIXELS = np.random.default_rng(1).integers(0, 256, [9, 14, 3], np.uint8)


def encode(filetype, **settings):
    """Bytes of an image file by Pillow."""
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, filetype, **settings)
    return file.getvalue()


@pytest.mark.parametrize("filetype", ["PNG", "JPEG"])
def test_a_record_is_read_back_and_changes_no_pixel(tmp_path, filetype):
    (tmp_path / "in").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    options = {"size": 7, "pad": True, "name": "é \x00"}
    record = provenance.encode_record(options, [tmp_path / "in", tmp_path / "empty"])
    contents = provenance.add_record(encode(filetype), record)
    (tmp_path / "result").write_bytes(contents)
    expected = {"options": options, "inputs": ["3-352441c2", "0-00000000"]}  # CRC-32 of "abc"
    assert provenance.read_record(tmp_path / "result") == expected
    with Image.open(tmp_path / "result") as image:
        plain = Image.open(io.BytesIO(encode(filetype)))
        assert np.array_equal(np.asarray(image), np.asarray(plain))
        text = image.text["pix2pix-record"] if filetype == "PNG" else \
            image.info["comment"].decode().split("\0", 1)[1]
        assert json.loads(text) == expected


@pytest.mark.parametrize("size", [1, 3000])
def test_a_record_of_an_array_stands_behind_its_values(tmp_path, size):
    """NumPy reads the values as before, from the file or mapped."""
    values = np.random.default_rng(1).normal(size=[size, 2])
    file = io.BytesIO()
    np.save(file, values)
    record = provenance.encode_record({"size": size})
    (tmp_path / "a.npy").write_bytes(provenance.add_record(file.getvalue(), record))
    assert provenance.read_record(tmp_path / "a.npy") == {"options": {"size": size}, "inputs": []}
    for mode in (None, "r"):
        found = np.load(tmp_path / "a.npy", mmap_mode=mode, allow_pickle=False)
        assert np.array_equal(found, values)
    (tmp_path / "b.npy").write_bytes(file.getvalue())
    assert provenance.read_record(tmp_path / "b.npy") is None


def test_a_png_file_with_a_record_is_what_pillow_writes():
    record, by_pillow = provenance.encode_record({"size": 7}), PngInfo()
    by_pillow.add_text("pix2pix-record", '{"inputs": [], "options": {"size": 7}}')
    assert provenance.add_record(encode("PNG"), record) == encode("PNG", pnginfo=by_pillow) \
        == encode("PNG", pnginfo=provenance.create_pnginfo({"size": 7}))


@pytest.mark.parametrize("contents", [
    b"", b"mine", encode("PNG"), encode("JPEG"), provenance.KEYWORD, provenance.KEYWORD + b"[1]",
    provenance.KEYWORD + b'{"options": 3, "inputs": []}', provenance.KEYWORD + b'{"options"',
    provenance.KEYWORD + 2000 * b"["])
def test_what_is_no_record_is_none(tmp_path, contents):
    (tmp_path / "file").write_bytes(contents)
    assert provenance.read_record(tmp_path / "file") is None


def test_the_fingerprint_of_files_is_that_of_their_contents(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "CHUNK_SIZE", 2)
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"6789")
    assert provenance.fingerprint(tmp_path / "a", tmp_path / "b") == "9-cbf43926"  # CRC's check
