"""How a result was made, kept in the image file itself: by which options, of which files.

A tool that skips results that exist tells by this which of them the command would make otherwise.
The record is a tEXt chunk of a PNG file, a comment of a JPEG file or what follows the values of a
.npy file, the same for the same options and files.
"""

from __future__ import annotations

import json
import os
import struct
import zlib

from tools.lib.cli import UserError, printable, warn

KEYWORD = b"pix2pix-record\0"  # what a record begins with
HEAD_SIZE = 4096  # bytes at the beginning of a file, in which its record is; at the end of .npy
NPY_START = b"\x93NUMPY"  # of a .npy file
CHUNK_SIZE = 1 << 20  # bytes read at once


# --------------------------------------------------------------------------------------------------
# Records
# --------------------------------------------------------------------------------------------------


def fingerprint(*paths):
    """Size and CRC-32 of the contents of files, as text."""
    size, checksum = 0, 0
    for path in paths:
        with open(path, "rb") as file:
            while data := file.read(CHUNK_SIZE):
                size, checksum = size + len(data), zlib.crc32(data, checksum)
    return f"{size}-{checksum:08x}"


def describe_set(paths):
    """What tells a set of files from others by their names and sizes, as text: "400-2f5e8b01"."""
    rows = sorted(f"{path.name}\0{path.stat().st_size}" for path in paths)
    return f"{len(rows)}-{zlib.crc32(os.fsencode('/'.join(rows))):08x}"


def encode_record(options, inputs=()):
    """Bytes of a record. options: name -> value; inputs: paths of the files a result is made of."""
    record = {"options": options, "inputs": [fingerprint(path) for path in inputs]}
    return KEYWORD + json.dumps(record, sort_keys=True).encode()


def create_pnginfo(options, inputs=()):
    """The same for Pillow, which writes it into a PNG file."""
    from PIL.PngImagePlugin import PngInfo
    info = PngInfo()
    info.add(b"tEXt", encode_record(options, inputs))
    return info


def add_record(contents, record):
    """Bytes of a PNG or JPEG file with a record in it, or of a .npy file with one at its end, where
    NumPy does not look."""
    if contents.startswith(NPY_START):
        return contents + record
    if contents.startswith(b"\x89PNG"):
        chunk, start = b"tEXt" + record, 33  # after the signature and IHDR
        data = struct.pack(">I", len(record)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    else:
        has_jfif = contents[2:4] == b"\xff\xe0"  # APP0, which must come first
        start = 4 + struct.unpack(">H", contents[4:6])[0] if has_jfif else 2
        data = b"\xff\xfe" + struct.pack(">H", len(record) + 2) + record
    return contents[:start] + data + contents[start:]


def read_record(path):
    """Options and inputs of a result's record, as a dict; None where it has none."""
    try:
        with open(path, "rb") as file:
            part = file.read(HEAD_SIZE)
            if part.startswith(NPY_START):
                file.seek(-min(HEAD_SIZE, os.fstat(file.fileno()).st_size), os.SEEK_END)
                part = file.read()
        _, _, text = part.partition(KEYWORD)
        record, _ = json.JSONDecoder().raw_decode(text.decode("latin-1"))
        return {"options": dict(record["options"]), "inputs": list(record["inputs"])}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


# --------------------------------------------------------------------------------------------------
# Checking what would be skipped
# --------------------------------------------------------------------------------------------------


def is_changed(path, recorded, result, read_all=False):
    """Whether a file is not the one of a fingerprint. It is read only if it has the same size and
    is newer than its result, or with read_all."""
    try:
        state = os.stat(path)
        return recorded.split("-")[0] != str(state.st_size) or (
            (read_all or state.st_mtime_ns > os.stat(result).st_mtime_ns)
            and fingerprint(path) != recorded)
    except OSError:  # it has vanished, its result stays
        return False


def show_flags(options):
    """Recorded options as flags of a command."""
    return " ".join(f"--{name}" if value is True else f"--{name} {value}"
                    for name, value in options.items() if value is not False)


def explain_flags(made, asked):
    """How two commands differ, for `check_results`."""
    return f"with {show_flags(made)}, this command has {show_flags(asked)}"


def check_results(results, options, flag, folder, explain=explain_flags, alike=(), read_all=False):
    """Raises UserError where results that would be skipped were made with other options or of files
    that have changed; warns where some have no record.

    results: path -> paths of its inputs; flag: the one that names their folder; explain: function
    of recorded and present options -> text; alike: options that make the same results; read_all: as
    in `is_changed`, where results are not named after their inputs.
    """
    unknown, other, changed = [], [], []
    for path, inputs in results.items():
        record = read_record(path)
        if record is None:
            unknown.append(path)
        elif record["options"] not in [options, *alike]:
            other.append((path, record["options"]))
        elif len(record["inputs"]) != len(inputs) or any(
                is_changed(file, recorded, path, read_all)
                for file, recorded in zip(inputs, record["inputs"], strict=True)):
            changed.append(path)
    number = f"of {len(results)} results in {flag} {folder}"
    if other:
        path, made = other[0]
        raise UserError(f"{len(other)} {number}, such as {path}, were made {explain(made, options)}"
                        f": give --force to make them again, or another {flag}")
    if changed:
        raise UserError(f"{len(changed)} {number}, such as {changed[0]}, were made of other files, "
                        "or of files that have changed: give --force to make them again, or "
                        "remove them")
    if unknown:
        warn(printable(f"{len(unknown)} {number} do not say how they were made and are kept: if "
                       "this command would make others, give --force"))
