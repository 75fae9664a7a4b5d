"""Which files are images: formats by content, and what else a folder holds."""

from __future__ import annotations

import collections
import itertools
import os
import re
from pathlib import Path
from typing import NamedTuple

from tools.lib.cli import UserError, printable, warn
from tools.lib.files import describe_missing, sorted_by_name

# --------------------------------------------------------------------------------------------------
# Formats
# --------------------------------------------------------------------------------------------------


class ImageFormat(NamedTuple):
    """A format of image files, under Pillow's name for it in lower case; npy is NumPy's."""

    signature: bytes  # regular expression of what a file begins with
    extensions: tuple  # of file names; the first is the one we write


FORMATS = {
    "jpeg": ImageFormat(rb"\xff\xd8\xff", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "png": ImageFormat(rb"\x89PNG\r\n\x1a\n", (".png", ".apng")),
    "bmp": ImageFormat(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", (".bmp", ".dib")),
    "gif": ImageFormat(rb"GIF8[79]a", (".gif",)),
    "tiff": ImageFormat(rb"II[*+]\0|MM\0[*+]", (".tif", ".tiff")),
    "webp": ImageFormat(rb"RIFF.{4}WEBP", (".webp",)),
    "ppm": ImageFormat(rb"P[2356]\s+(#|\d+\s)", (".ppm", ".pgm", ".pnm")),
    "npy": ImageFormat(rb"\x93NUMPY", (".npy",))}
GRAPH_FORMATS = ("jpeg", "png")  # that TensorFlow decodes, and exported models; Pillow the others
SIGNATURE_SIZE = 18  # bytes; no signature is longer
EXTENSIONS = tuple(extension for row in FORMATS.values() for extension in row.extensions)
ARRAYS = ".npy"  # files of it are images where a folder has no others
FORMAT_NAMES = "JPEG, PNG, BMP, GIF, TIFF, WebP, PPM or npy"


def format_of(contents):
    """Format of a file's bytes, such as "jpeg", by its first ones; None for no image."""
    return next((name for name, row in FORMATS.items()
                 if re.match(row.signature, contents, re.DOTALL)), None)


def image_format(path):
    """Format of a file by its first bytes, whatever its extension says; None for no image."""
    with open(path, "rb") as file:
        return format_of(file.read(SIGNATURE_SIZE))


def is_image(path):
    """Whether a path is a file that begins as an image does."""
    try:
        return path.is_file() and image_format(path) is not None
    except OSError:
        return False


def is_candidate(path):
    """Whether a file should be an image: its extension or its first bytes say so. TIFF files need
    the extension: raw photos, which are not read, begin with the same bytes."""
    return path.suffix.lower() in EXTENSIONS or is_image(path) and image_format(path) != "tiff"


# --------------------------------------------------------------------------------------------------
# Folders
# --------------------------------------------------------------------------------------------------

COPIES, ONE_COPY = "copies or thumbnails", "copy or thumbnail"
IS_COPY = re.compile(  # what editors, exiftool, browsers and cameras leave beside an image
    r".+(~|_original|\.(bak|backup|orig|old|tmp|part|crdownload|thm))|#.+#|~\$.+",
    re.IGNORECASE | re.DOTALL)
COPY_NAMES = (  # of an image that is there too: a.png.1, a.png-old; a - Copy.png, a copy.png
    re.compile(rf"(.+({'|'.join(map(re.escape, EXTENSIONS))}))[^a-z].*", re.IGNORECASE | re.DOTALL),
    re.compile(r"Copy of (.+)", re.IGNORECASE | re.DOTALL),
    re.compile(r"(.+?)(?: -)? copy(?: \d+| \(\d+\))?(\.[^.]+)", re.IGNORECASE | re.DOTALL))
HIDDEN = ("thumbs.db", "desktop.ini", "@eadir", "__macosx")  # without a dot; in lower case
MAX_COUNTED = 100_000  # files in subfolders


def is_hidden(name):
    """Whether a file is another program's, or half written, and not spoken of."""
    return name.startswith(".") or name.lower() in HIDDEN


def is_copy(name, names):
    """Whether a file is another's copy or thumbnail. names: of all files in its folder."""
    if IS_COPY.fullmatch(name):
        return True
    whole, prefixed, suffixed = (pattern.fullmatch(name) for pattern in COPY_NAMES)
    return whole is not None and whole[1] in names and Path(name).suffix.lower() not in EXTENSIONS \
        or prefixed is not None and prefixed[1] in names \
        or suffixed is not None and suffixed[1] + suffixed[2] in names


def other_kind(path, names):
    """What a file is counted as that is not used as an image, such as ".mp4"; None for one that is.
    names: of all files in its folder."""
    if is_copy(path.name, names):
        return COPIES
    return None if is_candidate(path) else path.suffix.lower() or "without an extension"


class FolderContents(NamedTuple):
    """What a folder holds, hidden files aside."""

    images: list  # paths of what is or should be an image, ordered by name
    others: dict  # kind, such as ".mp4" -> number of files
    folders: list  # paths, ordered by name


def list_folder(folder):
    """The FolderContents of a folder."""
    images, others, folders = [], collections.Counter(), []
    paths = {path.name: path for path in Path(folder).iterdir() if not is_hidden(path.name)}
    for path in paths.values():
        if path.is_dir():
            folders.append(path)
        elif kind := other_kind(path, paths):
            others[kind] += 1
        else:
            images.append(path)
    arrays = [path for path in images if path.suffix.lower() == ARRAYS]
    if len(arrays) < len(images):  # beside images they hold something else
        images = [path for path in images if path not in arrays]
        others.update({ARRAYS: len(arrays)} if arrays else {})
    return FolderContents(sorted_by_name(images), dict(others), sorted_by_name(folders))


def list_tree(folder, left_out=()):
    """The FolderContents of a folder and all below it, each once; `folders` are those that are left
    out, by their resolved paths."""
    images, others, skipped, seen, waiting = [], collections.Counter(), [], set(), [Path(folder)]
    while waiting:
        path = waiting.pop(0)
        place = path.resolve()
        if place in left_out and path != Path(folder):
            skipped.append(path)
        elif place not in seen:  # a link may lead back
            contents = list_folder(path)
            images += contents.images
            others.update(contents.others)
            waiting += contents.folders
        seen.add(place)
    return FolderContents(images, dict(others), skipped)


def describe_others(contents, own_folders=()):
    """What is not used of FolderContents, counted by kind, such as "3 .mp4, 12 in folder old"; ""
    where all is. own_folders: names of folders that need no mention."""
    parts = [f"{count} {ONE_COPY if (kind, count) == (COPIES, 1) else kind}" for kind, count in
             sorted(contents.others.items(), key=lambda item: (-item[1], item[0]))]
    folders = [path for path in contents.folders if path.name not in own_folders]
    files = (name for path in folders for _, _, names in os.walk(path) for name in names
             if not is_hidden(name))
    count = sum(1 for _ in itertools.islice(files, MAX_COUNTED))
    if count:
        names = [path.name for path in folders[:3]] + ["..."] * (len(folders) > 3)
        parts.append(f"{count}{' or more' * (count == MAX_COUNTED)} in "
                     f"folder{'s' * (len(folders) > 1)} {', '.join(names)}")
    return ", ".join(parts)


def find_image_folders(folders, levels=2):
    """Yields those of some folders that hold images, train first, and folders in the others."""
    for path in sorted(folders, key=lambda path: path.name != "train"):
        if os.access(path, os.R_OK | os.X_OK):
            contents = list_folder(path)
            if contents.images:
                yield path
            elif levels > 1:
                yield from find_image_folders(contents.folders, levels - 1)


def describe_no_images(folder, contents):
    """The end of an error about a folder without images: what it holds instead, and what may have
    been meant."""
    inside = next(find_image_folders(contents.folders), None)
    others = describe_others(contents)
    found = f"contains no {FORMAT_NAMES} images" + (f", only {others}" if others else "")
    advice = f"did you mean {inside}?" if inside else "check the path"
    return f"{folder} {found}: {advice}"


def report_others(folder, contents, own_folders=()):
    """Warns of what is not used."""
    others = describe_others(contents, own_folders)
    if others:
        warn(printable(f"not used in {folder}: {others}"))


def find_images(folder):
    """The images directly in a folder, by name: what is or should be an image."""
    return list_folder(folder).images


def require_images(folder, flag, own_folders=()):
    """`find_images` of what a flag names; warns of what else is there. own_folders: as in
    `describe_others`. Raises UserError where there are no images."""
    if not Path(folder).is_dir():
        raise UserError(f"{flag} {folder} is not a folder: {describe_missing(folder)}")
    try:
        contents = list_folder(folder)
    except OSError as error:
        raise UserError(f"{flag} {folder} cannot be read ({error.strerror}): choose another") \
            from error
    if not contents.images:
        raise UserError(f"{flag} {describe_no_images(folder, contents)}")
    report_others(folder, contents, own_folders)
    return contents.images
