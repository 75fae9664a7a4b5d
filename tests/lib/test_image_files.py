"""tools/lib/image_files.py: formats by content, and what a folder holds."""

import io
import os

import pytest
from helpers import draw_pairs
from PIL import Image

from tools.lib import image_files
from tools.lib.cli import UserError
from tools.lib.image_files import describe_others, find_images, list_folder, require_images


def save(path, filetype="PNG"):
    """Writes a small image, returns its path."""
    Image.new("RGB", (6, 3)).save(path, filetype)
    return path


# ---- formats


@pytest.mark.parametrize("contents, expected", [
    (b"\xff\xd8\xff\xe0rest", "jpeg"), (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\nrest", "png"),
    (b"BM" + b"\x0a\xff" * 6 + b"\x28\0\0\0rest", "bmp"), (b"GIF87a", "gif"), (b"GIF89arest", "gif"),
    (b"II*\0rest", "tiff"), (b"MM\0*", "tiff"), (b"II+\0", "tiff"), (b"RIFF\x0a\x0a\0\0WEBPVP8 ", "webp"),
    (b"\xff\xd8", None), (b"\x89PNG\n\x1a\n", None), (b"GIF88a", None), (b"BMW is a car, not an image", None),
    (b"P5\n640 480\n65535\n", "ppm"), (b"P6 7 5 255 ", "ppm"), (b"P2\n# by GIMP\n7 5", "ppm"),
    (b"\x93NUMPY\1\0", "npy"), (b"P5 is a school", None), (b"P7\nWIDTH 7", None),
    (b"RIFF\0\0\0\0WAVE", None), (b"II-\0", None), (b"", None)])
def test_a_format_is_told_by_the_first_bytes(tmp_path, contents, expected):
    assert image_files.format_of(contents) == expected
    (tmp_path / "name.jpg").write_bytes(contents)
    assert image_files.image_format(tmp_path / "name.jpg") == expected


@pytest.mark.parametrize("name", [name for name in image_files.FORMATS if name != "npy"])
def test_pillow_writes_what_each_row_says(name):
    file = io.BytesIO()
    Image.new("RGB", (7, 5)).save(file, name.upper())
    assert image_files.format_of(file.getvalue()) == name
    assert name.upper() in image_files.FORMAT_NAMES.upper()


# ---- folders


def test_images_are_found_by_extension_or_content(tmp_path):
    """What should be an image is found though it is not one, so that it is reported."""
    save(tmp_path / "b.JPG", "JPEG")
    save(tmp_path / "c.jpeg")  # a PNG in truth
    save(tmp_path / "d", "JPEG")
    save(tmp_path / "e.dat", "WEBP")
    save(tmp_path / "f.tiff", "TIFF")
    save(tmp_path / "g.cr2", "TIFF")  # a raw photo begins as a TIFF file does
    (tmp_path / "h.gif").write_bytes(b"")
    (tmp_path / "i.txt").write_text("no image")
    os.symlink("nowhere", tmp_path / "j.png")
    os.symlink("nowhere", tmp_path / "k")
    save(tmp_path / ".hidden.png")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == [
        "b.JPG", "c.jpeg", "d", "e.dat", "f.tiff", "h.gif", "j.png"]
    assert list_folder(tmp_path).others == {".cr2": 1, ".txt": 1, "without an extension": 1}


def test_arrays_are_images_where_there_are_no_others(tmp_path):
    """Beside images they hold something else, as features of each."""
    for name in ("1.npy", "2.npy"):
        (tmp_path / name).write_bytes(b"\x93NUMPY")
    assert [path.name for path in find_images(tmp_path)] == ["1.npy", "2.npy"]
    assert list_folder(tmp_path).others == {}
    save(tmp_path / "1.png")
    assert [path.name for path in find_images(tmp_path)] == ["1.png"]
    assert list_folder(tmp_path).others == {".npy": 2}


def test_copies_and_thumbnails_are_not_images(tmp_path):
    """Nor are hidden files, on any system; frames that are numbered by the extension are."""
    for name in ("1.jpg", "shot.0000", "shot.0001", "1 (2).jpg", "1.jpg.png",  # images
                 "1.jpg_original", "1.jpg~", "1.THM", "1.jpg.bak", "1.JPG.OLD", "1.jpg.part",
                 "1.jpg.orig", "1.crdownload", "#1.jpg#", "~$1.jpg", "1.jpg.1", "1.jpg-old",
                 "1 - Copy.jpg", "1 copy 2.jpg", "Copy of 1.jpg",
                 "._1.jpg", ".1.jpg.swp", "Thumbs.db", "desktop.ini"):
        save(tmp_path / name)
    contents = list_folder(tmp_path)
    assert [path.name for path in contents.images] == [
        "1 (2).jpg", "1.jpg", "1.jpg.png", "shot.0000", "shot.0001"]
    assert contents.others == {"copies or thumbnails": 15}
    (tmp_path / "1.jpg").unlink()  # without the image itself they may be images
    assert len(list_folder(tmp_path).images) == 4 + 5


def test_every_other_file_is_counted_by_kind(tmp_path):
    for name in ("a.png", "b.PNG"):
        save(tmp_path / name)
    for name in ("1.heic", "2.HEIC", "film.mp4", "README", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    draw_pairs(tmp_path / "old", 3)
    (tmp_path / "old" / "more").mkdir()
    save(tmp_path / "old" / "more" / "c.png")
    (tmp_path / ".git").mkdir()
    (tmp_path / "train").mkdir()
    contents = list_folder(tmp_path)
    assert describe_others(contents) == \
        "2 .heic, 1 .mp4, 1 without an extension, 4 in folders old, train"
    assert describe_others(contents, ["train"]) == \
        "2 .heic, 1 .mp4, 1 without an extension, 4 in folder old"
    assert describe_others(list_folder(tmp_path / "old" / "more")) == ""


def test_required_images_are_there_and_the_rest_is_reported(tmp_path, capsys):
    with pytest.raises(UserError, match="^--dir nowhere is not a folder: check the path$"):
        require_images("nowhere", "--dir")
    save(tmp_path / "x")
    assert require_images(str(tmp_path), "--dir") == [tmp_path / "x"]
    assert capsys.readouterr().err == ""
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert require_images(tmp_path, "--dir") == [tmp_path / "x"]
    assert capsys.readouterr().err == f"pix2pix.py: not used in {tmp_path}: 1 .mp4\n"


def test_a_folder_without_images_is_described(tmp_path):
    names = "JPEG, PNG, BMP, GIF, TIFF, WebP, PPM or npy"
    with pytest.raises(UserError, match=f"^--dir {tmp_path} contains no {names} images: "
                                        "check the path$"):
        require_images(tmp_path, "--dir")
    for name in ("1.heic", "2.heic", "3.heic"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"contains no {names} images, only 3 .heic: check the"):
        require_images(tmp_path, "--dir")
    draw_pairs(tmp_path / "b" / "photo", 1)
    with pytest.raises(UserError, match=f"did you mean {tmp_path}/b/photo\\?$"):
        require_images(tmp_path, "--dir")
    draw_pairs(tmp_path / "a", 2)
    draw_pairs(tmp_path / "train", 1)
    with pytest.raises(UserError, match=f"only 3 .heic, 4 in folders a, b, train: did you mean "
                                        f"{tmp_path}/train\\?$"):
        require_images(tmp_path, "--dir")
