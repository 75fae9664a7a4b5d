"""Files: in which order, and how text is written."""

import os
from pathlib import Path

import pytest

from tools.lib.files import sorted_by_name, unique_names, write_atomic


def test_numbers_sort_as_numbers_only_where_all_are():
    def order(*names):
        return [path.name for path in sorted_by_name(names)]
    assert order("10.png", "9.jpg", "1.png") == ["1.png", "9.jpg", "10.png"]
    assert order("10.png", "9.jpg", "a.png") == ["10.png", "9.jpg", "a.png"]


def test_names_of_results_are_unique():
    paths = [Path(name) for name in ("a.png", "b.png", "a.jpg")]
    assert unique_names(paths) == ["a.png", "b", "a.jpg"]


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
