"""Files: in which order, and how text is written."""

import os
import unicodedata
from pathlib import Path

import pytest

from tools.lib.files import (describe_lonely, describe_missing, match_names, sorted_by_name,
                             unique_names, write_atomic)


def test_numbers_sort_as_numbers_only_where_all_are():
    def order(*names):
        return [path.name for path in sorted_by_name(names)]
    assert order("10.png", "9.jpg", "1.png") == ["1.png", "9.jpg", "10.png"]
    assert order("10.png", "9.jpg", "a.png") == ["10.png", "9.jpg", "a.png"]


def test_names_of_results_are_unique():
    paths = [Path(name) for name in ("a.png", "b.png", "a.jpg")]
    assert unique_names(paths) == ["a.png", "b", "a.jpg"]


DECOMPOSED = unicodedata.normalize("NFD", "Été.png")
COMPOSED = unicodedata.normalize("NFC", "Été.png")


def test_names_of_results_are_unique_on_disks_that_take_accents_and_case_for_one():
    for other in (DECOMPOSED, COMPOSED.lower(), DECOMPOSED.lower(), "ÉTÉ.jpg"):
        names = unique_names([Path(COMPOSED), Path(other)])
        assert len({unicodedata.normalize("NFD", name).lower() for name in names}) == 2


@pytest.mark.parametrize("names, others, expected", [
    (["1.jpg", "2.png"], ["2.tif", "1.png", "3.png"], {"1.jpg": "1.png", "2.png": "2.tif"}),
    ([DECOMPOSED], [COMPOSED], {DECOMPOSED: COMPOSED}),
    ([DECOMPOSED], ["Été.jpg"], {DECOMPOSED: "Été.jpg"}),
    ([COMPOSED, DECOMPOSED], [DECOMPOSED, COMPOSED],
     {COMPOSED: COMPOSED, DECOMPOSED: DECOMPOSED}),
    (["A.png", "a.png"], ["A.jpg", "a.jpg"], {"A.png": "A.jpg", "a.png": "a.jpg"}),
    (["A.png"], ["a.png"], {}),
    # a stem that several share tells no partner, whole names do
    (["a.png", "a.jpg"], ["a.png", "a.jpg"], {"a.png": "a.png", "a.jpg": "a.jpg"}),
    (["a.png", "a.jpg"], ["a.png", "a.tif"], {"a.png": "a.png"}),
    (["a.png", "a.jpg"], ["a.tif"], {}),
    (["a.tif"], ["a.png", "a.jpg"], {}),
    (["shot.0000", "shot.0001"], ["shot.0001", "shot.0000"],
     {"shot.0000": "shot.0000", "shot.0001": "shot.0001"}),
    # what process.py made of the left side is a partner to it
    (["shot.0000", "shot.0001"], ["shot.0000.png", "shot.0001.png"],
     {"shot.0000": "shot.0000.png", "shot.0001": "shot.0001.png"}),
])
def test_partners_have_one_name_or_a_stem_of_their_own(names, others, expected):
    names, others = [Path("a", name) for name in names], [Path("b", name) for name in others]
    expected = {Path("a", name): Path("b", other) for name, other in expected.items()}
    assert match_names(names, others) == expected
    assert match_names(others, names) == {other: name for name, other in expected.items()}


def test_a_near_miss_is_named():
    lonely = [Path("a", name) for name in ("A.png", "x.jpg", "1.png")]
    assert describe_lonely(lonely, [Path("b/a.jpg"), Path("b/x.tif")], "b") == [
        "a/A.png has no partner in b: a.jpg differs only in case, rename one",
        "a/x.jpg has no partner in b: x.tif is not the only one with this stem, give both the same "
        "name",
        "a/1.png has no partner in b: add it or remove the image"]


@pytest.mark.parametrize("path, advice", [
    ("Été/in", f"{unicodedata.normalize('NFD', 'Été')} differs only in how its accents are encoded"),
    ("photos", "Photos differs only in case"), ("./photos/train", "Photos differs only in case"),
    ("Photos/b", "Photos/B differs only in case"), ("other", None), ("Photos/c", None),
    ("other/photos", None), ("Photos/file", None), ("/nowhere/photos", None)])
def test_a_folder_of_nearly_the_same_name_is_named(tmp_path, monkeypatch, path, advice):
    monkeypatch.chdir(tmp_path)
    (tmp_path / unicodedata.normalize("NFD", "Été") / "in").mkdir(parents=True)
    (tmp_path / "Photos" / "B").mkdir(parents=True)
    (tmp_path / "Photos" / "file").write_bytes(b"")
    expected = f"{advice}, give that" if advice else "check the path"
    assert describe_missing(unicodedata.normalize("NFC", path)) == expected


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError("disk full")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError):
        write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
