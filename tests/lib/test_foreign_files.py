"""tools/lib/foreign_files.py: what files of other programs are."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from tools.lib.foreign_files import describe_file


def to_zip(*names):
    """Bytes of a ZIP file with these members, empty."""
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w") as file:
        for name in names:
            file.writestr(name, b"")
    return contents.getvalue()


def to_image(format_name):
    """Bytes of an image file."""
    contents = io.BytesIO()
    Image.new("RGB", (2, 3)).save(contents, format_name)
    return contents.getvalue()


# what torch.save wrote first until PyTorch 1.5 (torch/serialization.py)
OLD_TORCH = pickle.dumps(0x1950a86a20f9469cfc6c, protocol=2)


@pytest.mark.parametrize("name, contents, expected", [
    ("net_G.pth", to_zip("archive/data.pkl", "archive/version"), "a PyTorch file"),
    ("last.ckpt", OLD_TORCH + b"\x80\x02M\xe9\x03.", "a PyTorch file"),
    ("net_G.pth", b"\x80\x02}", "a PyTorch file"),
    ("g.keras", to_zip("metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
    ("g.h5", b"\x89HDF\r\n\x1a\n\0\0", "a Keras model or its weights (HDF5)"),
    ("g.onnx", b"\x08\x07", "an ONNX model"), ("g.tflite", b"\x1c\0\0\0TFL3", "a TFLite model"),
    ("g.safetensors", b"\x02", "a safetensors file"), ("graph.pb", b"\x0a", "a TensorFlow graph"),
    ("model", to_image("PNG"), "a PNG image"), ("x.pict", to_image("JPEG"), "a JPEG image"),
    ("a.npz", to_zip("a.npy"), "a ZIP file"), ("a.zip", b"PK\x03\x04torn", "a ZIP file"),
    ("notes.TXT", b"hello", "a .txt file"), ("README", b"hello", "another file"),
    ("model.pth", b"", "an empty file")])
def test_files_are_told_by_content_then_by_name(tmp_path, name, contents, expected):
    (tmp_path / name).write_bytes(contents)
    assert describe_file(tmp_path / name) == expected


def test_what_numpy_writes_is_told(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.ones(3))
    assert describe_file(tmp_path / "weights.npz") == "a ZIP file"


def test_what_is_no_file_is_told(tmp_path):
    assert describe_file(tmp_path) == describe_file(tmp_path / "gone") == "not a file"
