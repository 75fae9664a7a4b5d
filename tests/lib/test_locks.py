"""tools/lib/files.py: locks, leftovers of killed runs, atomic writes that are interrupted."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from helpers import ROOT

from tools.lib import files
from tools.lib.cli import RunError, UserError

TIMEOUT = 30  # seconds in which any process here ends
needs_locks = pytest.mark.skipif(files.import_fcntl() is None, reason="Windows has no such locks")


def without_locks(monkeypatch, disk_alone):
    """As on Windows, or on a network disk that has no locks."""
    def fail(_handle, _flags):
        """A disk's answer."""
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl = SimpleNamespace(flock=fail, LOCK_EX=1, LOCK_NB=2, LOCK_SH=4) if disk_alone else None
    monkeypatch.setattr(files, "import_fcntl", lambda: fcntl)


# ---- lock_folder


@needs_locks
def test_a_locked_folder_is_refused_until_it_is_free(tmp_path):
    folder = tmp_path / "a" / "run"
    with files.lock_folder(folder):
        assert folder.is_dir()
        with pytest.raises(UserError, match=f"process is using --output_dir {folder}: wait"):
            with files.lock_folder(folder):
                pass
    with files.lock_folder(folder):
        assert os.listdir(folder) == []


@needs_locks
def test_a_waiting_process_enters_when_the_other_leaves(tmp_path):
    order = []

    def wait():
        """Enters after the other."""
        with files.lock_folder(tmp_path, wait=True):
            order.append("second")
    with files.lock_folder(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join(TIMEOUT)
    assert order == ["first", "second"]


@needs_locks
def test_a_killed_process_holds_no_lock(tmp_path):
    code = ("import sys, time; from tools.lib.files import lock_folder\n"
            f"with lock_folder({str(tmp_path)!r}): print('locked', flush=True); time.sleep(99)")
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError), files.lock_folder(tmp_path):
            pass
        other.kill()
    with files.lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("disk_alone", [False, True])
def test_without_locks_two_may_enter(tmp_path, monkeypatch, disk_alone):
    without_locks(monkeypatch, disk_alone)
    with files.lock_folder(tmp_path / "run"), files.lock_folder(tmp_path / "run", wait=True), \
            files.share_folder(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


# ---- share_folder


def leave_files(folder):
    """Writes leftovers of killed runs below a folder, and a user's files."""
    (folder / "part").mkdir(parents=True)
    for name in (".a.png.12.tmp", "part/.line\nbreak.png.7.tmp", ".mine.tmp", "a.png.12.tmp",
                 ".a.png.x.tmp", ".a.png.12.tmp.png"):
        (folder / name).touch()
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def names(folder):
    """Paths below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@needs_locks
def test_the_only_process_removes_leftovers(tmp_path):
    """In the parts of the folder that it names, and no file of another name."""
    before = leave_files(tmp_path / "run")
    with files.share_folder(tmp_path / "run", ["part"]):
        assert names(tmp_path / "run") == before - {"part/.line\nbreak.png.7.tmp"}
    with files.share_folder(tmp_path / "run"):
        assert names(tmp_path / "run") == before - {"part/.line\nbreak.png.7.tmp",
                                                    ".a.png.12.tmp"}
        assert {".mine.tmp", "a.png.12.tmp"} < names(tmp_path / "run")


@needs_locks
def test_processes_share_a_folder_and_keep_each_others_files(tmp_path):
    """A process that needs the folder for itself is refused meanwhile."""
    with files.share_folder(tmp_path / "run"):
        before = leave_files(tmp_path / "run")
        with files.share_folder(tmp_path / "run"):
            assert names(tmp_path / "run") == before
        with pytest.raises(UserError), files.lock_folder(tmp_path / "run"):
            pass
    with files.lock_folder(tmp_path / "run"):
        pass


@pytest.mark.parametrize("disk_alone", [False, True])
def test_without_locks_leftovers_stay(tmp_path, monkeypatch, disk_alone):
    """Nobody knows whether another process is writing them."""
    without_locks(monkeypatch, disk_alone)
    before = leave_files(tmp_path / "run")
    with files.share_folder(tmp_path / "run"):
        assert names(tmp_path / "run") == before


# ---- lock_file


@needs_locks
def test_a_held_lock_file_is_refused_and_removed_afterwards(tmp_path):
    path = tmp_path / "lock"
    path.write_text("of a killed process")
    with files.lock_file(path, "download"):
        with pytest.raises(RunError, match=f"^another download holds {path}: wait for it to end$"):
            with files.lock_file(path, "download"):
                pass
        assert path.exists()
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), files.lock_file(path, "download"):
        raise ZeroDivisionError
    assert not path.exists()


@needs_locks
def test_a_lock_file_that_is_removed_while_it_is_opened_is_not_held(tmp_path, monkeypatch):
    """The holder removes it; a lock on the removed file would keep nobody out."""
    path, fcntl = tmp_path / "lock", files.import_fcntl()

    def flock(*arguments):
        """The holder leaves, and a third process enters."""
        path.unlink()
        path.touch()
        return real(*arguments)
    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunError, match=f"another download held {path} until now: try again"):
        with files.lock_file(path, "download"):
            pass
    assert path.exists()  # it is the third's


def test_without_locks_the_file_itself_is_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "import_fcntl", lambda: None)
    path = tmp_path / "lock"
    with files.lock_file(path, "download"):
        with pytest.raises(RunError, match="holds .*, or remove the file if there is none"):
            with files.lock_file(path, "download"):
                pass
        assert path.exists()
    assert not path.exists()


# ---- writing and removing


@pytest.mark.parametrize("name", ["a.png", ".hidden", "line\nbreak", "\udcff", "no extension"])
def test_leftovers_are_recognized_by_their_name(tmp_path, monkeypatch, name):
    """What write_atomic leaves when it is killed before the rename."""
    sources = []
    monkeypatch.setattr(os, "replace", lambda source, _target: sources.append(source))
    files.write_atomic(tmp_path / name, b"contents")
    assert [path.name for path in tmp_path.iterdir()] == [sources[0].name]
    assert files.LEFTOVER.fullmatch(sources[0].name)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_sigterm_leaves_nothing_half_written(tmp_path, monkeypatch, moment):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    real = getattr(os, moment)

    def signalled(*arguments):
        """The signal arrives just before the call."""
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    def interrupt(_number, _frame):
        """As run_main's handler."""
        raise KeyboardInterrupt
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        monkeypatch.setattr(os, moment, signalled)
        with pytest.raises(KeyboardInterrupt):
            files.write_atomic(path, b"new")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"old"


def test_json_is_sorted_and_ends_with_a_line(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, None], "a": "\N{GRINNING FACE}"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": "\N{GRINNING FACE}", "b": [1, None]}
    assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")


def test_remove_takes_a_file_a_folder_or_a_link_alone(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "broken", "file", "none"):
        files.remove(tmp_path / name)
    assert names(tmp_path) == {"folder", "folder/inner", "folder/inner/file"}
    files.remove(tmp_path / "folder")
    assert names(tmp_path) == set()
