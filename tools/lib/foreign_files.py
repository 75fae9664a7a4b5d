"""What a file of another program is, by its content and its name, in words for messages."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from tools.lib.image_files import format_of

SIGNATURES = {  # what a file begins with -> what it is
    b"\x89HDF\r\n\x1a\n": "a Keras model or its weights (HDF5)",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": "a PyTorch file"}  # until PyTorch 1.5
MEMBERS = {  # what a ZIP file contains -> what it is
    "model.weights.h5": "a Keras model", "data.pkl": "a PyTorch file"}
EXTENSIONS = {  # of a file's name -> what it is
    ".onnx": "an ONNX model", ".safetensors": "a safetensors file", ".tflite": "a TFLite model",
    ".pb": "a TensorFlow graph", ".pth": "a PyTorch file", ".pt": "a PyTorch file"}


def describe_zip(path):
    """What a ZIP file is."""
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.rsplit("/", 1)[-1] for name in file.namelist()}
    except (OSError, zipfile.BadZipFile):
        names = set()
    return next((text for name, text in MEMBERS.items() if name in names), "a ZIP file")


def describe_file(path):
    """What a file is, such as "a PyTorch file"."""
    path, start = Path(path), b""
    if not path.is_file():
        return "not a file"
    if os.access(path, os.R_OK):
        with open(path, "rb") as file:
            start = file.read(64)
        if not start:
            return "an empty file"
    if format_of(start):
        return f"a {format_of(start).upper()} image"
    if start.startswith(b"PK\x03\x04"):
        return describe_zip(path)
    kinds = [text for signature, text in SIGNATURES.items() if start.startswith(signature)]
    suffix = path.suffix.lower()
    return (*kinds, EXTENSIONS.get(suffix, f"a {suffix} file" if suffix else "another file"))[0]
