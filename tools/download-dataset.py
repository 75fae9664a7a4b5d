#!/usr/bin/env python3
"""Downloads one of the datasets of the pix2pix paper and unpacks it into a folder of its name.

    python tools/download-dataset.py facades
    python tools/download-dataset.py maps --output_dir datasets

An interrupted download continues where it stopped when you run the command again, and the folder
appears only when it is complete.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("tqdm")

from tools.lib.cli import RunError, UserError, printable, say, warn
from tools.lib.files import lock_file, remove

EXAMPLES = """\
  python tools/download-dataset.py facades
  python tools/download-dataset.py maps --output_dir datasets"""
NAMES = ["facades", "cityscapes", "maps", "edges2shoes", "edges2handbags", "night2day"]
URL = "https://efrosgans.eecs.berkeley.edu/pix2pix/datasets/"
TRIES = 4  # attempts in a row without a new byte
TIMEOUT = 30  # seconds without a byte
WAIT = 1  # seconds before the second attempt, doubled before each later one
CHUNK_SIZE = 1 << 16  # bytes
CORRUPT = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


class BrokenTransfer(RunError):
    """The connection failed in a way that another attempt may fix."""


# ======================================================================
# Download
# ======================================================================


def read_notes(path):
    """The notes about a partial download: a dict with url, validator, total; or {}."""
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def find_validator(headers):
    """The header value for If-Range (RFC 9110, 13.1.5): a strong ETag, else Last-Modified."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def parse_content_range(text):
    """(first byte or None, total or None) of a Content-Range header such as "bytes 5-9/10"."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", (text or "").strip())
    if match is None:
        return None, None
    first, total = match.groups()
    return first and int(first), None if total == "*" else int(total)


def open_url(url, size, notes):
    """The server's response to a request for url from byte `size` on; error 416 is one too.

    Raises BrokenTransfer where another attempt may help, otherwise RunError.
    """
    request = urllib.request.Request(url)
    if size:
        request.add_header("Range", f"bytes={size}-")
        if notes.get("validator"):
            request.add_header("If-Range", notes["validator"])
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and size:
            return error
        kind = BrokenTransfer if error.code >= 500 or error.code == 429 else RunError
        raise kind(f"{url}: HTTP {error.code} {error.reason}") from None
    except http.client.InvalidURL as error:
        raise RunError(f"{url}: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise BrokenTransfer(f"{url}: {reason or type(error).__name__}") from None


def save_body(response, url, path, size, total):
    """Appends a response's body to the file's first `size` bytes, with a progress bar."""
    with open(path, "ab") as file, cli.create_progress_bar(
            total, size, "B", unit_scale=True, unit_divisor=1024, desc=path.name) as bar:
        file.truncate(size)
        while True:
            try:
                chunk = response.read(CHUNK_SIZE)
            except (OSError, http.client.HTTPException) as error:
                raise BrokenTransfer(f"{url}: {error or type(error).__name__}") from None
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
        received = file.tell()
    if total is not None and received != total:
        raise BrokenTransfer(f"{url}: ended at byte {received} of {total}")


def fetch_rest(url, part_path, notes_path):
    """One attempt at the bytes of url that part_path lacks. Raises BrokenTransfer, RunError."""
    notes = read_notes(notes_path)
    size = part_path.stat().st_size if part_path.exists() and notes.get("url") == url else 0
    with contextlib.closing(open_url(url, size, notes)) as response:
        status, headers = response.status, response.headers
        if status in (206, 416):
            first, total = parse_content_range(headers.get("Content-Range"))
            same = total is not None and notes.get("total") in (None, total)
            if status == 416 and same and size == total:
                return
            if status == 416 or first != size or not same:
                part_path.unlink(missing_ok=True)
                raise BrokenTransfer(f"{url}: the server's file has changed, starting over")
        else:
            size, length = 0, headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            part_path.unlink(missing_ok=True)  # the notes must never describe other bytes
            notes = {"url": url, "validator": find_validator(headers), "total": total}
            notes_path.write_text(json.dumps(notes) + "\n", encoding="utf-8")
        save_body(response, url, part_path, size, total)


def partial_paths(path):
    """The paths of an incomplete download's bytes and of the notes about them."""
    return path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")


def download(url, path):
    """Downloads url to path by way of path.part, continuing what has been downloaded.

    Raises RunError after TRIES attempts in a row without a new byte.
    """
    part_path, notes_path = partial_paths(path)
    largest, failures = 0, 0
    while True:
        try:
            fetch_rest(url, part_path, notes_path)
            break
        except BrokenTransfer as error:
            size = part_path.stat().st_size if part_path.exists() else 0
            failures = 1 if size > largest else failures + 1
            largest = max(largest, size)
            if failures >= TRIES:
                raise
            warn(f"{printable(error)}; trying again")
            time.sleep(WAIT * 2 ** (failures - 1))
    os.replace(part_path, path)


# ======================================================================
# Unpack
# ======================================================================


def member_path(member):
    """A member's path inside the folder. Raises RunError for one that is not safe."""
    name = member.name
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).drive or "\\" in name or "\0" in name:
        raise RunError(f"member {name!r} has an absolute or odd name")
    if ".." in path.parts:
        raise RunError(f"member {name!r} points outside the folder")
    if not (member.isreg() or member.isdir()):
        raise RunError(f"member {name!r} is neither a file nor a folder")
    return path


def unpack_members(archive_path, folder):
    """Writes the files and folders of a .tar.gz into a folder. Raises RunError, CORRUPT."""
    with gzip.open(archive_path) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                target = folder / member_path(member)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as file:
                    shutil.copyfileobj(archive.extractfile(member), file, CHUNK_SIZE)
        while stream.read(CHUNK_SIZE):
            pass  # gzip verifies its checksum at the end


def working_paths(folder):
    """Hidden names beside a folder: for it while it is unpacked, the one it replaces, its archive.
    """
    return (folder.with_name(f".{folder.name}.{ending}") for ending in ("unpack", "old", "spent"))


def clear_up(folder, archive_path):
    """Completes or reverts what a stopped or killed `unpack` left."""
    temporary, old, spent = working_paths(folder)
    if (temporary / folder.name).is_dir():  # not in place yet
        if old.is_dir() and not folder.is_dir():
            os.rename(old, folder)
        if spent.is_file():
            os.rename(spent, archive_path)
    spent.unlink(missing_ok=True)
    for path in (temporary, old):
        if os.path.lexists(path):
            remove(path)


def unpack(archive_path, folder):
    """Replaces an archive by the folder in it, which appears completely or not at all.

    Raises RunError, after the archive is removed, where it is corrupt or has unsafe members.
    """
    temporary, old, spent = working_paths(folder)
    temporary.mkdir()
    try:
        unpack_members(archive_path, temporary)
        if not (temporary / folder.name).is_dir():
            raise RunError(f"it contains no folder {folder.name}")
        os.rename(archive_path, spent)
        if folder.is_dir():
            os.rename(folder, old)
        os.rename(temporary / folder.name, folder)  # from here on it is done
    except CORRUPT as error:
        archive_path.unlink()
        raise RunError(f"{archive_path} is corrupt and was removed: {error}") from None
    except RunError as error:
        archive_path.unlink()
        raise RunError(f"{archive_path} is refused and was removed: {error}") from None
    finally:
        clear_up(folder, archive_path)


# ======================================================================
# Command line
# ======================================================================


def get_dataset(name, output_dir, base_url, force):
    """Makes output_dir/name from base_url/name.tar.gz; a folder that exists stays unless forced.

    Raises RunError, OSError.
    """
    folder = Path(output_dir) / name
    archive_path, lock_path = folder.with_name(f"{name}.tar.gz"), folder.with_name(f".{name}.lock")
    if os.path.lexists(folder) and not folder.is_dir():
        raise RunError(f"{folder} is in the way: it is not a folder")
    wanted = force or not folder.is_dir()
    if wanted or any(map(os.path.lexists, [lock_path, *working_paths(folder)])):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(lock_path, "download"):
            clear_up(folder, archive_path)
            wanted = force or not folder.is_dir()  # another process may have made it just now
            if wanted:
                if not archive_path.is_file():
                    download(f"{base_url.rstrip('/')}/{name}.tar.gz", archive_path)
                for path in partial_paths(archive_path):
                    path.unlink(missing_ok=True)
                say(f"unpacking {printable(archive_path)}")
                unpack(archive_path, folder)
    state = "is ready" if wanted else "exists already; --force downloads it again"
    say(f"{printable(folder)} {state}")


def create_parser():
    """The command line."""
    parser = cli.Parser("download-dataset.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--output_dir", default=".", help="folder in which the folder NAME is made")
    parser.add_argument("--url", default=URL, help="where NAME.tar.gz is")
    parser.add_argument("--force", action="store_true", help="replace a folder NAME that exists")
    return parser


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    options = create_parser().parse_args(argv)
    if options.name not in NAMES:
        raise UserError(f"there is no dataset {options.name!r}: give one of {', '.join(NAMES)}")
    if not options.url.startswith(("http://", "https://")):
        raise UserError(f"--url {options.url!r}: give an address with http:// or https://")
    return options


def run(argv):
    """Downloads the dataset. Raises RunError."""
    options = parse_args(argv)
    try:
        get_dataset(options.name, options.output_dir, options.url, options.force)
    except OSError as error:
        raise RunError(f"--output_dir {options.output_dir}: {error}: check the disk, then run the "
                       "same command again") from None


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("download-dataset.py", run, argv, interrupted="interrupted; the same "
                        "command continues the download")


if __name__ == "__main__":
    sys.exit(main())
