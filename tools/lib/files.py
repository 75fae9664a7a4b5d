"""Files and folders: order, names, partners by name, atomic writes, locks, and what killed runs
leave behind."""

from __future__ import annotations

import collections
import contextlib
import importlib
import json
import os
import re
import shutil
import unicodedata
from pathlib import Path

from tools.lib.cli import RunError, UserError

PARTS = ("train", "val", "test")  # the folders of a dataset that is split
LEFTOVER = re.compile(r"\..+\.\d+\.tmp", re.DOTALL)  # the temporary names of write_atomic

# --------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------


def sorted_by_name(paths):
    """Paths in the order of their names: by number where every stem is digits, else by text."""
    # Path(path) of a Path parses it again: half a second for a hundred thousand
    paths = [path if isinstance(path, Path) else Path(path) for path in paths]
    if all(path.stem.isdecimal() for path in paths):
        return sorted(paths, key=lambda path: (int(path.stem), path.name))
    return sorted(paths, key=lambda path: path.name)


def natural_key(path):
    """Sorts paths as people count: frame_2 before frame_10."""
    parts = [re.split(r"(\d+)", part) for part in Path(path).parts]  # text and digits in turn
    return [[(int(text), text) if index % 2 else text for index, text in enumerate(part)]
            for part in parts]


def normal_name(name):
    """A name with its accents composed (Unicode's NFC). Files that come from macOS often have them
    decomposed, as a letter and an accent, which look the same and are other bytes."""
    return unicodedata.normalize("NFC", name)


def fold_name(name):
    """What names have in common that some file system takes for one: in any case, accents composed
    or not."""
    return normal_name(name).casefold()


def describe_missing(path):
    """What to do about a path that is not there: "check the path", or a name that is nearly it."""
    path = Path(path)
    missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), path)
    try:
        names = [] if missing.exists() else sorted(os.listdir(missing.parent))
    except OSError:
        names = []
    for name in names:
        if fold_name(name) == fold_name(missing.name):
            alike = normal_name(name) == normal_name(missing.name)
            how = "in how its accents are encoded" if alike else "in case"
            return f"{missing.with_name(name)} differs only {how}, give that"
    return "check the path"


def flat_name(path, folder):
    """The name of a file in a folder, with those of its subfolders before it."""
    return path.name if folder is None else "_".join(path.relative_to(folder).parts)


def unique_names(paths, folder=None):
    """A name per file for its results: the stem, the whole name where stems are shared (by
    `fold_name`), a number where that is taken; at most 200 bytes long. folder: what subfolders,
    which then are part of the names, count from."""
    wholes = [flat_name(path, folder) for path in paths]
    stems = [whole.removesuffix(path.suffix) for whole, path in zip(wholes, paths, strict=True)]
    counts = collections.Counter(map(fold_name, stems))
    names, taken = [], set()
    for whole, stem in zip(wholes, stems, strict=True):
        full = stem if counts[fold_name(stem)] == 1 else whole
        while len(os.fsencode(full)) > 200:  # of 255; results add to a name
            full = full[:-1]
        name, number = full, 2
        while fold_name(name) in taken:
            name, number = f"{full}-{number}", number + 1
        taken.add(fold_name(name))
        names.append(name)
    return names


# --------------------------------------------------------------------------------------------------
# Partners: files of two folders that make a pair
# --------------------------------------------------------------------------------------------------


def partner_keys(paths):
    """By what each file of a folder finds its partner in another: its stem, its whole name where
    others have that stem."""
    counts = collections.Counter(normal_name(path.stem) for path in paths)
    return [normal_name(path.stem if counts[normal_name(path.stem)] == 1 else path.name)
            for path in paths]


def match_names(paths, others):
    """The partners of one folder's files in another: path -> other path, where there is one.

    Names match whole, else by `partner_keys`, so extensions may differ. Composed and decomposed
    accents match; upper and lower case do not.
    """
    partners, left = {}, dict.fromkeys(others)
    for keys_of in (lambda files: [path.name for path in files],
                    lambda files: [normal_name(path.name) for path in files], partner_keys):
        by_key = {key: other for key, other in zip(keys_of(others), others, strict=True)
                  if other in left}
        for key, path in zip(keys_of(paths), paths, strict=True):
            if path not in partners and by_key.get(key) in left:
                partners[path] = by_key[key]
                del left[by_key[key]]
    return partners


def describe_lonely(paths, others, folder):
    """A line for each file without a partner in a folder. others: the files there without one."""
    near = {fold_name(other.stem): other for other in others}
    lines = []
    for path in paths:
        other = near.get(fold_name(path.stem))
        if other is None:
            advice = "add it or remove the image"
        elif normal_name(other.stem) == normal_name(path.stem):
            advice = f"{other.name} is not the only one with this stem, give both the same name"
        else:
            advice = f"{other.name} differs only in case, rename one"
        lines.append(f"{path} has no partner in {folder}: {advice}")
    return lines


# --------------------------------------------------------------------------------------------------
# Reading, writing, removing
# --------------------------------------------------------------------------------------------------


def write_atomic(path, contents, sync=True):
    """Writes bytes so that a reader finds the old file or the new one, never a part.

    With `sync` this holds after a loss of power too, at the cost of waiting for the disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(contents)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def write_json(path, value):
    """Writes a value as sorted, indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, sort_keys=True, indent=4) + "\n").encode())


def replace_link(path, text):
    """Replaces a symbolic link so that a reader finds the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.symlink(text, temporary)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def remove(path):
    """Removes a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------
# Links
# --------------------------------------------------------------------------------------------------


def identity(path):
    """What tells a file or a link from all others, whatever its path; None where there is none."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def link_target(link):
    """The path that a symbolic link names, by folders that are no links."""
    named = link.parent / os.readlink(link)
    return Path(os.path.realpath(named.parent), named.name)


# --------------------------------------------------------------------------------------------------
# Locks. They belong to the process and end with it, however it ends
# --------------------------------------------------------------------------------------------------


def import_fcntl():
    """The module of locks; None on Windows."""
    try:
        return importlib.import_module("fcntl")
    except ImportError:
        return None


@contextlib.contextmanager
def open_folder(folder):
    """Makes a folder and yields a handle to lock, and fcntl; None twice where there are no locks.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    fcntl = import_fcntl()
    if fcntl is None:
        yield None, None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle, fcntl
    finally:
        os.close(handle)


def remove_leftovers(folder, parts):
    """Removes what killed processes left half written in these parts of a folder."""
    for part in filter(Path.is_dir, [Path(folder, part) for part in parts]):
        for name in filter(LEFTOVER.fullmatch, os.listdir(part)):
            os.unlink(part / name)


@contextlib.contextmanager
def lock_folder(folder, wait=False, parts=()):
    """Makes a folder, keeps other processes out of it inside, and removes what killed ones left
    half written in these parts of it. wait: for another process to leave it, instead of raising
    UserError. Disks without locks (some network disks) and Windows do without."""
    with open_folder(folder) as (handle, fcntl):
        if fcntl:
            with contextlib.suppress(OSError):  # the disk has no locks
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    raise UserError(f"another process is using --output_dir {folder}: "
                                    "wait for it to end or choose another folder") from None
                remove_leftovers(folder, parts)
        yield


@contextlib.contextmanager
def share_folder(folder, parts=(".",)):
    """Makes a folder that several processes may write to, and removes what killed ones left half
    written in these parts of it, unless another process is at work there."""
    with open_folder(folder) as (handle, fcntl):
        if fcntl:
            with contextlib.suppress(OSError):  # another process is at work, or there are no locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_leftovers(folder, parts)
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def lock_file(path, what):
    """Holds a lock file inside and removes it afterwards. Raises RunError where another process
    holds it. what: a process of this kind, such as "download"."""
    fcntl, busy = import_fcntl(), f"another {what} holds {path}: wait for it to end"
    try:
        file = open(path, "a" if fcntl else "x", encoding="utf-8")
    except FileExistsError:
        raise RunError(f"{busy}, or remove the file if there is none") from None
    with file:
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(busy) from None
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise RunError(f"another {what} held {path} until now: try again")
        try:
            yield
        finally:
            if not fcntl:
                file.close()  # Windows does not remove an open file
            path.unlink(missing_ok=True)  # under flock still held, so nobody else's is removed
