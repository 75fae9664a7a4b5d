"""download-dataset.py against a web server on this machine that breaks in every way we know of."""

import gzip
import importlib
import io
import os
import random
import signal
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep  # not the one that a test replaces in the tool

import killing
import pytest

from tools.lib.files import lock_file

FILES = {
    "facades/train/1.jpg": random.Random(1).randbytes(150_001),  # does not compress, many chunks
    "facades/train/2.jpg": b"",
    "facades/val/1.jpg": random.Random(2).randbytes(70_003),
}


def make_archive(files=FILES, extra=()):
    """Bytes of a .tar.gz of files {name: bytes}, then of the TarInfos in extra."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return buffer.getvalue()


def make_member(name, kind=tarfile.REGTYPE, link=""):
    """A member without data."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


class Handler(BaseHTTPRequestHandler):
    """Serves server.data; server.breaks is how many bytes each coming response really gives.

    server.pause is the seconds between pieces of 64 KiB.
    """

    def do_GET(self):  # noqa: N802, the name that http.server calls
        """Answers a request, and remembers it."""
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        if self.path != "/data/facades.tar.gz":
            return self.send_error(404)
        data, first = server.data, 0
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, server.etag)
        if asked and same and server.ranges:
            first = int(asked[len("bytes="):-1])
            if first >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        body = data[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[:server.breaks.pop(0)] if server.breaks else body
        try:
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start:start + (1 << 16)])
                sleep(server.pause)
        except OSError:
            self.close_connection = True  # the tool was killed

    def log_message(self, *args):
        """Says nothing."""


@pytest.fixture
def server():
    """A running server; server.url is its --url."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.data, running.etag, running.ranges = make_archive(), '"one"', True
        running.breaks, running.requests, running.pause = [], [], 0
        running.url = f"http://127.0.0.1:{running.server_port}/data/"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def tool(monkeypatch):
    """The tool, which does not wait between tries."""
    module = importlib.import_module("tools.download-dataset")
    monkeypatch.setattr(module, "WAIT", 0)
    return module


def run(tool, server, folder, *more):
    """Exit code of a download of facades into folder."""
    return tool.main(["facades", "--output_dir", str(folder), "--url", server.url, *more])


def read_tree(folder):
    """{name: bytes} of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def asked_ranges(server):
    """The Range header of each request."""
    return [headers.get("Range") for _, headers in server.requests]


def test_a_complete_download_leaves_only_the_folder(tool, server, tmp_path, capsys):
    """The folder holds the archive's files; archive, notes and lock are gone."""
    assert run(tool, server, tmp_path / "new") == 0
    assert read_tree(tmp_path / "new") == FILES
    assert os.listdir(tmp_path / "new") == ["facades"]
    assert "is ready" in capsys.readouterr().out
    assert asked_ranges(server) == [None]


def test_url_without_slash(tool, server, tmp_path):
    """--url means the same with and without its last slash."""
    arguments = ["facades", "--output_dir", str(tmp_path), "--url", server.url.rstrip("/")]
    assert tool.main(arguments) == 0


def test_break_resumes_in_one_run(tool, server, tmp_path):
    """A connection that closes half way is continued at the byte where it closed."""
    server.breaks = [100_000, 50_000]
    assert run(tool, server, tmp_path) == 0
    assert asked_ranges(server) == [None, "bytes=100000-", "bytes=150000-"]
    assert server.requests[1][1]["If-Range"] == '"one"'
    assert read_tree(tmp_path) == FILES


def test_break_resumes_in_next_run(tool, server, tmp_path, capsys):
    """After the last attempt the bytes stay, and the next run asks for the rest only."""
    server.breaks = [100_000, 0, 0, 0]
    assert run(tool, server, tmp_path) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"ended at byte 100000 of {len(server.data)}" in message and server.url in message
    assert (tmp_path / "facades.tar.gz.part").read_bytes() == server.data[:100_000]
    assert not (tmp_path / "facades").exists()
    assert run(tool, server, tmp_path) == 0
    assert asked_ranges(server) == [None] + 4 * ["bytes=100000-"]
    assert read_tree(tmp_path) == FILES


def test_tries_are_counted_without_progress_only(tool, server, tmp_path):
    """A connection that breaks often but brings something each time succeeds."""
    server.breaks = [20_000] * 9
    assert run(tool, server, tmp_path) == 0
    assert len(server.requests) == 10
    assert read_tree(tmp_path) == FILES


def test_range_ignored_starts_over(tool, server, tmp_path):
    """A server that answers 200 to a Range sends all from the first byte."""
    server.ranges, server.breaks = False, [100_000]
    assert run(tool, server, tmp_path) == 0
    assert len(server.requests) == 2
    assert read_tree(tmp_path) == FILES


def test_a_wrong_length_is_noticed(tool, server, tmp_path, capsys):
    """A server that always stops early gives no folder, and no endless attempts."""
    server.ranges, server.breaks = False, [len(server.data) - 1] * 9
    assert run(tool, server, tmp_path) == 1
    assert len(server.requests) == tool.TRIES
    assert f"ended at byte {len(server.data) - 1} of" in capsys.readouterr().err
    assert not (tmp_path / "facades").exists()


@pytest.mark.parametrize("etag", ['"two"', None])
def test_changed_file_starts_over(tool, server, tmp_path, etag):
    """Halves of two different files are never joined: by ETag, without one by length."""
    server.etag = etag and '"one"'
    server.breaks = [100_000, 0, 0, 0]
    assert run(tool, server, tmp_path) == 1
    files = {"facades/train/9.jpg": random.Random(3).randbytes(160_007)}
    server.data, server.etag = make_archive(files), etag
    assert run(tool, server, tmp_path) == 0
    assert read_tree(tmp_path) == files


def test_complete_part_is_not_downloaded_again(tool, server, tmp_path):
    """416 for a partial file that is complete: it is unpacked."""
    server.breaks = [100_000, 0, 0, 0]
    assert run(tool, server, tmp_path) == 1
    (tmp_path / "facades.tar.gz.part").write_bytes(server.data)
    assert run(tool, server, tmp_path) == 0
    assert asked_ranges(server)[-1] == f"bytes={len(server.data)}-"
    assert read_tree(tmp_path) == FILES


def test_overlong_part_starts_over(tool, server, tmp_path):
    """416 for a partial file that is longer than the server's: from the first byte."""
    server.breaks = [100_000, 0, 0, 0]
    assert run(tool, server, tmp_path) == 1
    (tmp_path / "facades.tar.gz.part").write_bytes(server.data + b"more")
    assert run(tool, server, tmp_path) == 0
    assert asked_ranges(server)[-1] is None
    assert read_tree(tmp_path) == FILES


def test_part_of_unknown_origin_starts_over(tool, server, tmp_path):
    """A partial file without notes is not continued."""
    (tmp_path / "facades.tar.gz.part").write_bytes(b"what is this")
    assert run(tool, server, tmp_path) == 0
    assert asked_ranges(server) == [None]


@pytest.mark.parametrize("member", [
    make_member("../evil"), make_member("facades/../../evil"), make_member("/tmp/evil"),
    make_member("C:\\evil"), make_member("facades\\..\\..\\evil"),
    make_member("facades/evil", tarfile.SYMTYPE, "/etc"),
    make_member("facades/evil", tarfile.LNKTYPE, "facades/train/1.jpg"),
    make_member("facades/evil", tarfile.CHRTYPE), make_member("facades/evil", tarfile.FIFOTYPE),
], ids=["up", "inner_up", "absolute", "drive", "backslash", "symlink", "hardlink", "device",
        "fifo"])
def test_evil_archive_is_refused(tool, server, tmp_path, capsys, member):
    """One unsafe member is reported, and nothing of the archive is unpacked or kept."""
    server.data = make_archive(extra=[member])
    folder = tmp_path / "in"
    assert run(tool, server, folder) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "is refused" in error and repr(member.name) in error
    assert os.listdir(folder) == [] and os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("damage", [
    lambda data: data[:-9], lambda data: data[:100_000] + b"\0\0\0\0" + data[100_004:],
    lambda data: b"no archive at all", lambda data: b"", lambda data: gzip.compress(b"x" * 999),
], ids=["cut", "changed", "text", "empty", "no_tar"])
def test_corrupt_archive_is_removed(tool, server, tmp_path, capsys, damage):
    """A corrupt archive is reported and removed, and leaves nothing behind."""
    server.data = damage(server.data)
    assert run(tool, server, tmp_path) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "is corrupt and was removed" in error and "facades.tar.gz" in error
    assert os.listdir(tmp_path) == []


def test_archive_of_something_else_is_refused(tool, server, tmp_path, capsys):
    """The archive must hold the folder of its name."""
    server.data = make_archive({"maps/train/1.jpg": b"x"})
    assert run(tool, server, tmp_path) == 1
    assert "contains no folder facades" in capsys.readouterr().err


def test_not_found_is_reported_once(tool, server, tmp_path, capsys):
    """404: one line with the address, and no second attempt."""
    assert tool.main(["maps", "--output_dir", str(tmp_path), "--url", server.url]) == 1
    assert capsys.readouterr().err == (
        f"download-dataset.py: error: {server.url}maps.tar.gz: HTTP 404 Not Found\n")
    assert len(server.requests) == 1 and os.listdir(tmp_path) == []


def test_connection_refused(tool, server, tmp_path, capsys):
    """No server: the last line has the address that was tried."""
    url = server.url
    server.server_close()
    assert tool.main(["facades", "--output_dir", str(tmp_path), "--url", url]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == tool.TRIES and f"{url}facades.tar.gz: " in error[-1]


def test_existing_folder_stays_without_network(tool, server, tmp_path, capsys):
    """A folder that exists: a line, exit code 0, no request; --force replaces it."""
    (tmp_path / "facades").mkdir()
    (tmp_path / "facades" / "mine.txt").write_text("mine")
    assert run(tool, server, tmp_path) == 0
    assert "exists already" in capsys.readouterr().out and server.requests == []
    assert run(tool, server, tmp_path, "--force") == 0
    assert read_tree(tmp_path) == FILES


def test_failing_force_keeps_the_folder(tool, server, tmp_path):
    """--force with an archive that is corrupt leaves the folder as it was."""
    (tmp_path / "facades").mkdir()
    (tmp_path / "facades" / "mine.txt").write_text("mine")
    server.data = server.data[:-9]
    assert run(tool, server, tmp_path, "--force") == 1
    assert read_tree(tmp_path) == {"facades/mine.txt": b"mine"}


def test_a_complete_archive_is_unpacked_without_network(tool, server, tmp_path):
    """An archive that an interrupted run left is used."""
    (tmp_path / "facades.tar.gz").write_bytes(server.data)
    assert run(tool, server, tmp_path) == 0
    assert server.requests == [] and os.listdir(tmp_path) == ["facades"]


def test_two_at_once(tool, server, tmp_path, capsys):
    """The second of two reports that the first is running, and touches nothing."""
    with lock_file(tmp_path / ".facades.lock", "download"):
        assert run(tool, server, tmp_path) == 1
    assert "another download holds" in capsys.readouterr().err
    assert server.requests == [] and os.listdir(tmp_path) == []
    assert run(tool, server, tmp_path) == 0


def test_interrupt_keeps_the_partial_file(tool, server, tmp_path, monkeypatch):
    """Ctrl-C during a download: exit code 130, the bytes stay, the lock is removed, the next run
    continues."""
    server.breaks = [100_000]

    def interrupt(seconds):
        """Ctrl-C in the pause before the second attempt."""
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tool.time, "sleep", interrupt)
        assert run(tool, server, tmp_path) == 130
    assert sorted(os.listdir(tmp_path)) == ["facades.tar.gz.part", "facades.tar.gz.part.json"]
    assert run(tool, server, tmp_path) == 0
    assert asked_ranges(server) == [None, "bytes=100000-"]
    assert read_tree(tmp_path) == FILES


def test_wrong_name_and_wrong_url(tool, capsys):
    """One line each, exit code 2; the line lists the names."""
    assert tool.main(["facade"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(name in error for name in tool.NAMES)
    assert tool.main(["facades", "--url", "file:///etc"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text, expected", [
    ("bytes 5-9/10", (5, 10)), ("bytes */10", (None, 10)), ("bytes 0-3/*", (0, None)),
    ("lines 5-9/10", (None, None)), (None, (None, None)),
])
def test_parse_content_range(tool, text, expected):
    """The forms of RFC 9110, 14.4."""
    assert tool.parse_content_range(text) == expected


@pytest.mark.parametrize("headers, expected", [
    ({"ETag": '"x"', "Last-Modified": "then"}, '"x"'),
    ({"ETag": 'W/"x"', "Last-Modified": "then"}, "then"), ({}, None),
])
def test_find_validator(tool, headers, expected):
    """If-Range takes no weak ETag."""
    assert tool.find_validator(headers) == expected


# ---- interrupted, twice at once


def write_tree(folder, files):
    """Writes files {name: bytes} below a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


OLD, HALF = {"facades/mine.txt": b"mine"}, {".facades.unpack/facades/train/1.jpg": b"half"}
WHOLE = {f".facades.unpack/{name}": data for name, data in FILES.items()}
BEFORE = {f".facades.old/{name[8:]}": data for name, data in OLD.items()}
PARTIAL = {"facades.tar.gz.part": b"any", "facades.tar.gz.part.json": b"{}"}


@pytest.mark.parametrize("left, flags, expected, num_requests", [
    ({".facades.lock": b"", **PARTIAL}, [], FILES, 1),
    ({"facades.tar.gz": make_archive(), "facades.tar.gz.part.json": b"{}"}, [], FILES, 0),
    ({"facades.tar.gz": make_archive(), **HALF}, [], FILES, 0),
    ({".facades.spent": make_archive(), **WHOLE}, [], FILES, 0),
    ({".facades.spent": make_archive(), ".facades.unpack/x": b"", **FILES}, [], FILES, 0),
    ({".facades.lock": b"", **OLD}, [], OLD, 0),
    ({".facades.spent": make_archive(), **WHOLE, **BEFORE}, ["--force"], FILES, 0),
    ({".facades.spent": b"x", ".facades.unpack/x": b"", **FILES, **BEFORE}, [], FILES, 0),
    ({".facades.unpack/x": b"", **BEFORE}, [], FILES, 1),
], ids=["in_part", "archive", "unpacking", "unpacked", "in_place", "lock", "replacing", "replaced",
        "clearing_up"])
def test_what_a_killed_run_left(tool, server, tmp_path, left, flags, expected, num_requests):
    """From each state that a kill leaves on the disk: complete in the end, and nothing beside it.
    """
    write_tree(tmp_path, left)
    assert run(tool, server, tmp_path, *flags) == 0
    assert read_tree(tmp_path) == expected
    assert os.listdir(tmp_path) == ["facades"] and len(server.requests) == num_requests


def test_failing_replacement_keeps_the_old_folder_and_the_archive(tool, server, tmp_path,
                                                                  monkeypatch, capsys):
    """The last rename of --force fails: all is as before it, and the archive stays."""
    write_tree(tmp_path, OLD)
    rename = os.rename

    def failing(source, target):
        if ".unpack" in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        assert run(tool, server, tmp_path, "--force") == 1
    assert "No space left on device: check the disk" in capsys.readouterr().err.splitlines()[-1]
    assert read_tree(tmp_path) == {**OLD, "facades.tar.gz": server.data}
    assert run(tool, server, tmp_path, "--force") == 0
    assert read_tree(tmp_path) == FILES and len(server.requests) == 1


@pytest.mark.parametrize("limit", [100_000, len(make_archive()) + 4000])
def test_a_full_disk_is_one_line_and_the_same_command_continues(tool, server, tmp_path, limit):
    """During the download, and while a file of the archive is written: one line, exit code 1."""
    files = {**FILES, "facades/zeros": bytes(limit + 1)}  # larger than the archive
    server.data = make_archive(files)
    arguments = ["facades", "--output_dir", tmp_path, "--url", server.url]
    _, errors = killing.run("download-dataset.py", *arguments, codes=(1,),
                            preexec_fn=killing.limit_files(limit))
    assert errors.startswith(f"download-dataset.py: error: --output_dir {tmp_path}: ")
    assert errors.endswith("then run the same command again\n") and errors.count("\n") == 1
    left = set(os.listdir(tmp_path))
    assert left == ({"facades.tar.gz"} if limit > 100_000 else
                    {"facades.tar.gz.part", "facades.tar.gz.part.json"})
    assert run(tool, server, tmp_path) == 0
    assert read_tree(tmp_path) == files and os.listdir(tmp_path) == ["facades"]


def test_sigterm_is_143_and_a_strange_folder_prints(tool, server, tmp_path, monkeypatch, capsys):
    """SIGTERM keeps what has been downloaded; names that no terminal can show are escaped."""
    folder = tmp_path / os.fsdecode(b"line\nbreak \xff")
    server.breaks = [100_000]
    with monkeypatch.context() as patch:
        patch.setattr(tool.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
        assert run(tool, server, folder) == 143
    assert (folder / "facades.tar.gz.part").stat().st_size == 100_000
    assert run(tool, server, folder) == 0
    assert r"line\nbreak \udcff/facades is ready" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_killed_at_every_step_it_ends_as_a_clean_run(server, tmp_path, flags):
    """Killed at its 1st, 2nd, ... change of the disk; the folder is complete or missing."""
    folder = tmp_path / "d"
    command = ["download-dataset.py", "facades", "--output_dir", folder, "--url", server.url]
    before = OLD if flags else {"other": b""}
    steps = killing.kill_at_every_step([*command, *flags], lambda: write_tree(folder, before),
                                       folder)
    whole = [{name for name in names if name.startswith("facades/")} for names in steps]
    assert len(whole) > 15
    files = {"facades/train", "facades/val", *FILES}
    assert all(names in (files, set(), {"facades/mine.txt"}) for names in whole)
    assert {"facades", *files} == killing.names_of(folder) - {"other"}


def many_files():
    """An archive of 600 files, 1.6 MB."""
    return make_archive({f"facades/train/{number}.jpg": random.Random(number).randbytes(2700)
                         for number in range(600)})


@pytest.mark.slow
def test_killed_at_random_it_ends_as_a_clean_run(server, tmp_path):
    """Killed during the download and while it is unpacked."""
    server.data, server.pause = many_files(), 0.01
    killing.kill_at_random(["download-dataset.py", "facades", "--output_dir", tmp_path / "d",
                            "--url", server.url], (tmp_path / "d").mkdir, tmp_path / "d", seed=7)


@pytest.mark.slow
def test_two_at_once_end_as_one(server, tmp_path):
    """The second of two ends at once and harms nothing."""
    server.data, server.pause = many_files(), 0.01
    killing.run_two_at_once(["download-dataset.py", "facades", "--output_dir", tmp_path / "d",
                             "--url", server.url], (tmp_path / "d").mkdir, tmp_path / "d", seed=8,
                            busy="another download")
