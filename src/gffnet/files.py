"""Paths and atomic writes: a file or folder appears complete, or what was there stays. Files of the user."""

import codecs
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from gffnet import remote
from gffnet.errors import BadName, CannotWrite, UserError
from gffnet.remote import is_remote

log = logging.getLogger("gffnet")

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of a full disk or an exhausted quota."""


def as_path(path: str | Path) -> Path:
    """Return a path, with the home folder in place of a leading `~`, which not every shell replaces."""
    with suppress(RuntimeError):  # no such user: a file of this name
        return Path(path).expanduser()
    return Path(path)


def utf8(text: str) -> bytes:
    """Encode text. Names of files that are not in UTF-8 themselves get escapes: `\\udc93`."""
    return text.encode("utf-8", "backslashreplace")


_PART = re.compile(r"\.[0-9a-f]{8}\.part")
"""The name of what is being written, by `atomic_file` and `atomic_folder`."""


def is_part(path: Path) -> bool:
    """Return whether a file or folder is one that gffnet is writing, or that a killed process left."""
    return _PART.fullmatch(path.name) is not None


def holds_files(folder: Path) -> bool:
    """Return whether there is anything in a folder but what killed processes left."""
    return not all(map(is_part, folder.iterdir()))


def remove_parts(folder: Path) -> None:
    """Remove the files in a folder that killed processes left; not those of its subfolders, nor folders."""
    for path in folder.glob(".*.part"):
        if is_part(path) and not path.is_dir():
            path.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes | str, durable: bool = False) -> None:
    """Write `data`, text as `utf8` encodes it, to the file or object `path`, as `atomic_file` does."""
    if is_remote(path):
        remote.write({path: data if isinstance(data, bytes) else utf8(data)})
        return
    with atomic_file(path, durable) as file:
        file.write(data if isinstance(data, bytes) else utf8(data))


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON, atomically. Raises `CannotWrite`."""
    atomic_write(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def atomic_file(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, and move it to `path` at the end unless an error is raised.

    Args:
        path: the file to write; its folder is created.
        durable: flush the data to the disk before the move, so that a power cut leaves no incomplete file.

    Raises:
        CannotWrite: the file cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.part")  # short: any name that the file system takes is written
    try:
        if path.is_dir():  # now rather than once everything is written
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a hidden folder beside `path`, and move it to `path` at the end unless an error is raised.

    An existing folder is replaced, and so is a hidden one that a killed process left.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    temporary = path.with_name(f".{hashlib.blake2b(os.fsencode(path.name), digest_size=4).hexdigest()}.part")
    old = temporary.with_suffix(".old")
    try:
        _clear(path, temporary, old)  # a process may have been killed
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.is_dir():
                path.replace(old)  # never in place in part
            temporary.replace(path)
        finally:
            _clear(path, temporary, old)
    except OSError as error:
        raise cannot_write(path, error) from None


def _clear(path: Path, temporary: Path, old: Path) -> None:
    """Remove what is left of replacing a folder; the old one returns if the new one did not take its place."""
    if old.is_dir() and not path.exists():
        old.replace(path)
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Create a folder and a passing file in it, so that work whose results go there fails before it begins.

    Raises:
        CannotWrite: files cannot be written there. An object store is not asked.
    """
    if is_remote(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from None


_REMEDIES = {
    ("ENOSPC",): "Free some space on its disk, or choose another folder",
    ("EDQUOT",): "Your quota of its disk is used up: delete other files, or choose another folder",
    ("EFBIG",): "Its file system takes no file of this size: choose a folder on another one",
    ("EACCES", "EPERM"): "Choose a folder that you may write to, or change its permissions",
    ("EROFS",): "Its disk is read-only: choose a folder on another one",
    ("EIO", "ENXIO", "EREMOTEIO"): "Its disk or network share fails: check it, or choose a folder on another one",
    ("ESTALE", "ENOTCONN"): "Its network share is gone or was replaced: mount it again",
    ("ENOENT",): "A folder on the way was removed, or the path is too long: check it, and run the same command again",
    ("ELOOP",): "Its links lead in a circle: choose another folder",
    ("EISDIR", "ENOTEMPTY"): "A folder has this name: move it away, or choose another folder",
    ("EBUSY", "ETXTBSY"): "Another program uses it: close that, and run the same command again",
    ("EMFILE", "ENFILE"): "Too many files are open: raise the limit, such as by ulimit -n 4096",
    ("EINVAL", "EILSEQ"): "Its file system does not take this name: rename it, or choose a folder on another one",
}
"""By the names of error numbers; not every system has all."""
_OF_A_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR}


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """Return the error for a `path` that the system refuses to write, with the remedy for its cause."""
    name = errno.errorcode.get(error.errno or 0)
    cause = error.strerror or str(error)
    remedy = next((remedy for names, remedy in _REMEDIES.items() if name in names), "Choose another folder")
    if name in {"ENOTDIR", "EEXIST"}:
        there = [each for each in (path, *path.parents) if each.is_symlink() or each.exists()]
        file = next((each for each in there if not each.is_dir()), path)
        found = "link to nothing" if leads_nowhere(file) else "file"
        cause, remedy = f"{file} is a {found}, not a folder", f"Choose another folder, or move that {found[:4]} away"
    elif name == "ENAMETOOLONG":
        longest, whole = (max(len(os.fsencode(each)) for each in of) for of in (path.parts, [path]))
        limit = "file systems take up to 255" if longest > 255 else f"its whole path {whole}"
        remedy = f"Its longest name has {longest} bytes, and {limit}: give what it is made of a shorter name"
    # Windows says of a path that is too long that it does not exist.
    of_a_name = error.errno in _OF_A_NAME or (os.name == "nt" and name == "ENOENT")
    kind = BadName if of_a_name and error.filename is not None else CannotWrite
    return kind(f"cannot write {path}: {cause}. {remedy}.")


# Files of the user


CACHE = "gffnet_cache"
"""The folder in the root of a data set in which its cache is looked for."""
_RECORDS = {
    "predict.json": ("labels", "colour", "overlay", "legend.svg"),
    "ablation.json": ("by_class.png", "by_distance.png"),
    "gates.npz": (
        *("gates.npz", "gates.png", "closed.png", "stats.json", *(f"g{level}.png" for level in range(1, 9))),
        *("image.png", "labels.png", "colour.png", "overlay.png", "changed.png"),  # downloads of the explorer
    ),
}
"""What commands write into a folder, by the file that tells of them."""
COMPARISON = "compare.json"
_KEYS = {
    "stats.json": {"pixels", "levels", "closings"},
    "ablation.json": {"protocol", "learned", "closings"},
    COMPARISON: {"models", "refined_by", "images"},
}
"""Keys by which a record of gates, of a gate ablation or of a comparison is known: others have files of these names."""


def files_in(folder: Path, out: Path | None = None) -> list[Path]:
    """List the files in a folder and its subfolders, sorted; none that is hidden, or that gffnet wrote.

    Links are followed, and broken ones are files. A folder that is linked to is searched once, in its own place if that
    is in `folder`; a link to a folder that contains `folder` is not followed. What is left out is logged.

    Args:
        folder: searched to any depth.
        out: the folder that results are about to be written to: it is left out, too.
    """
    files: list[Path] = []
    top, results = Path(os.path.realpath(folder)), None if out is None else Path(os.path.realpath(out))
    own, linked = deque([folder]), deque[Path]()
    seen = set[tuple[int, int]]()
    while own or linked:
        at = (own or linked).popleft()
        place = Path(os.path.realpath(at))
        if place != top and (place == results or top.is_relative_to(place)):
            continue
        entries = _scan(at, seen)
        written = _results_in(at, {entry.name for entry in entries})
        if written and place != results:
            more = f" and {len(written) - 3} more" if len(written) > 3 else ""
            say_once(f"left out: {', '.join(written[:3])}{more} in {at}, the results of an earlier command")
        for entry in entries:
            path = at / entry.name
            if entry.name.startswith(".") or entry.name == CACHE or entry.name in written:
                continue
            if _is(entry.is_dir):
                (linked if entry.is_symlink() else own).append(path)
            elif _is(entry.is_file) or leads_nowhere(path):
                files.append(path)
    return sorted(files)


def _scan(folder: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted; none if it is among those `seen`, to which it is added, or cannot be read."""
    try:
        status = folder.stat()
        if (identity := (status.st_dev, status.st_ino)) in seen:
            return []
        seen.add(identity)
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        say_once(f"left out: folder {folder} cannot be read ({error.strerror or error})")
        return []


def _is(kind: Callable[[], bool]) -> bool:
    """What a directory entry says of its kind; False where a link leads in a circle or may not be followed."""
    try:
        return kind()
    except OSError:
        return False


def exists(path: Path) -> bool:
    """Return whether a file or folder is there; False where none can be: its name is too long, or one may not look."""
    return os.path.exists(path)  # noqa: PTH110  # Path.exists raises


def leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to something that is not there."""
    return path.is_symlink() and not exists(path)


def _results_in(folder: Path, names: Collection[str]) -> list[str]:
    """The files and folders among the `names` of a folder that commands of gffnet wrote there."""
    written = compared(folder) if COMPARISON in names else set()
    for record, those in _RECORDS.items():
        if record in names and (record not in _KEYS or _own_record(folder / record)):
            written |= {*those}
    return sorted(written.intersection(names))


def compared(folder: Path) -> set[str]:
    """The names of the figures, and of the folders with their panels, that `gffnet compare` wrote into a folder."""
    record = _own_record(folder / COMPARISON)
    try:
        figures = {str(each["figure"]) for each in record["images"]} if record else set()
        return {*record["written"]} if "written" in record else {*figures, *(Path(each).stem for each in figures)}
    except (LookupError, TypeError):  # it is no comparison of gffnet
        return set()


def is_result(path: Path) -> bool:
    """Return whether `gffnet gates`, `gates-ablation` or `compare` wrote a file or folder, as far as records tell."""
    return bool(_own_record(path)) or (path / "gates.npz").is_file() or path.name in compared(path.parent)


def _own_record(path: Path) -> dict[str, Any]:
    """The content of a record that is known by its `_KEYS`; empty for any other file, or none."""
    try:
        record = json.loads(path.read_bytes()) if path.name in _KEYS else None
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.keys() >= _KEYS[path.name] else {}


@cache
def say_once(line: str) -> None:
    """Log a warning, unless it was logged before: a data set is listed more than once."""
    log.warning(line)


def read_text(path: Path, what: str) -> str:
    """Read a text file that a user wrote: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        UserError: it is in another encoding; `what` names its kind.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
        if "\0" not in text:  # as in UTF-16 without a mark
            return text
        line = text[: text.index("\0")].count("\n") + 1
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
    raise UserError(f"{what} {path} is not UTF-8 text (line {line}). Save it as UTF-8.")
