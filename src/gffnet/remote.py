"""Files in object stores, through fsspec: `s3://`, `gs://`, `az://`, `hf://` and whatever else it has.

A URL may travel as a `Path`, which drops one of its slashes; `open_url` takes both. What it returns has the methods of
a `Path` (universal_pathlib), as far as gffnet uses them. fsspec is imported when there is a URL, and not before.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from filelock import FileLock

from gffnet.errors import RunFailed, UserError, one_line

T = TypeVar("T")

log = logging.getLogger(__name__)

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "adl": "az"}
"""By scheme, the extra of gffnet that installs its package."""
_WAITS = (0.5, 2.0, 8.0)
"""Seconds that pass before a request that failed is made again; then its error is final."""


def is_url(path: object) -> bool:
    """Return whether a path is the URL of an object store: `s3://bucket/key`, also as a `Path`, `s3:/bucket/key`."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", str(path)) is not None


def as_url(path: object) -> str:
    """Return a URL with both of the slashes that a `Path` makes one."""
    return re.sub(r"^([a-z][a-z0-9+.-]+):/+", r"\1://", str(path))


def open_url(path: object) -> Path:
    """Return the file or folder at a URL, with the methods of a `Path`; `file://` is a `Path`.

    Raises:
        UserError: a package is missing, or fsspec does not know the scheme.
    """
    url = as_url(path)
    scheme, _, place = url.partition("://")
    if scheme == "file":
        return Path("/" + place.lstrip("/"))
    try:
        from upath import UPath
    except ImportError:
        raise _missing(url, scheme) from None
    try:
        # Listings are not remembered: other processes write, too.
        opened = UPath(url, use_listings_cache=False)
        _ = opened.fs
    except ImportError:
        raise _missing(url, scheme) from None
    except ValueError as error:
        raise UserError(f"{url}: {error}. Known are s3://, gs://, az://, hf:// and the others of fsspec.") from None
    return cast(Path, opened)


def _missing(url: str, scheme: str) -> UserError:
    extra = _EXTRAS.get(scheme)
    remedy = f"pip install 'gffnet[{extra}]'" if extra else f"pip install universal-pathlib 'fsspec[{scheme}]'"
    return UserError(f"{url}: a package that reads {scheme}:// is missing: {remedy}.")


def is_remote(path: Path) -> bool:
    """Return whether a path is one of `open_url` that is not of this machine."""
    return not isinstance(path, Path)


def again(work: Callable[[], T], what: str) -> T:
    """Return what `work` returns, which is tried four times where a connection fails.

    Raises:
        FileNotFoundError, PermissionError: at once.
        UserError: there are no credentials.
        RunFailed: it failed every time.
    """
    for wait in (*_WAITS, None):
        try:
            return work()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # of aiohttp, botocore, ...
            reason = one_line(error)
            if "Credential" in type(error).__name__:
                raise UserError(f"{what} needs credentials ({reason}): set those of its store.") from None
            if wait is None:
                tries = 1 + len(_WAITS)
                raise RunFailed(
                    f"{what} failed {tries} times ({reason}). What is written is kept: run the same command again."
                ) from None
            time.sleep(wait)
    raise AssertionError


# Objects


def modified(file: Path) -> float:
    """Return when an object was written, in seconds, by the clock of its store. Raises `FileNotFoundError`."""
    at: float = again(lambda: _fs(file).modified(_key(file)), f"a look at {file}").timestamp()
    return at


def key_size(file: Path) -> int:
    """Return the number of bytes of an object's key, without the bucket."""
    return len(_key(file).partition("/")[2].encode("utf-8", "surrogateescape"))


def holds_any(folder: Path) -> bool:
    """Return whether there is an object under a prefix. Raises `RunFailed`, `UserError`."""
    try:
        return next(_entries(folder), None) is not None
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise _cannot_list(folder, error) from None


def server_time(folder: Path) -> float:
    """Return the time by the clock of a store, in seconds, which an object in `folder` tells that is removed again."""
    probe = folder / f".{secrets.token_hex(4)}.part"
    write({probe: b"."})
    try:
        return modified(probe)
    finally:
        with suppress(OSError):  # write permission does not imply delete permission
            remove(probe)


def write(contents: Mapping[Path, bytes]) -> None:
    """Write several objects at once, each atomically. Raises `RunFailed`, `UserError`."""

    def put(file: Path) -> None:
        _put(file, lambda: _fs(file).pipe_file(_key(file), contents[file]))

    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(put, contents):
            pass


def _put(file: Path, put: Callable[[], object]) -> None:
    try:
        again(put, f"writing {file}")
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"cannot write {file}: {error}. Check the bucket, and that you may write to it.") from None


def upload(folder: Path, to: Path) -> None:
    """Write all files of a local folder to a store, those in `.json` last. Raises as `write`."""
    files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.suffix == ".json")
    waiting: dict[Path, bytes] = {}
    for file in files:
        place = to / file.relative_to(folder).as_posix()
        if file.stat().st_size > _WHOLE or file.suffix == ".json":
            write(waiting)
            waiting = {}
        if file.stat().st_size > _WHOLE:
            _put(place, lambda: _fs(place).put_file(str(file), _key(place)))  # noqa: B023
        else:
            waiting[place] = file.read_bytes()
    write(waiting)


_WHOLE = 2**25
"""Files up to this size are held in memory while they are written."""


def remove(file: Path) -> None:
    """Remove an object, if it is there. Raises `PermissionError`, `RunFailed`, `UserError`."""
    with suppress(FileNotFoundError):
        modified(file)  # a store may refuse to remove what is not there
        again(lambda: _fs(file).rm_file(_key(file)), f"removing {file}")


def read(file: Path) -> bytes:
    """Return the content of an object. Raises `FileNotFoundError`, `PermissionError`, `RunFailed`, `UserError`."""
    return again(file.read_bytes, f"reading {file}")


def download(file: Path, to: Path) -> None:
    """Write an object to a local file. Raises `FileNotFoundError`, `PermissionError`, `RunFailed`."""
    to.parent.mkdir(parents=True, exist_ok=True)
    again(lambda: _fs(file).get_file(_key(file), str(to)), f"reading {file}")


def list_files(folder: Path, extensions: Sequence[str]) -> Iterator[str]:
    """Yield the files under a URL whose suffix is one of `extensions`, relative to it, as they are listed.

    If the URL is that of a file, "" is yielded. On S3, a page of a thousand keys is held at a time; elsewhere, the
    files of one folder. Hidden files are left out.

    Raises:
        UserError: there is nothing, or it may not be listed.
        RunFailed: the store cannot be reached.
    """
    empty, endings = True, tuple(extensions)
    try:
        for inside, _, _ in _entries(folder):
            empty = False
            if not inside or (inside.lower().endswith(endings) and "/." not in f"/{inside}" and _is_path(inside)):
                yield inside
    except (FileNotFoundError, PermissionError) as error:
        raise _cannot_list(folder, error) from None
    if empty:
        raise UserError(f"{folder} does not exist: give the URL of an image, or of a folder of images.")


def _is_path(inside: str) -> bool:
    """Return whether a key below a prefix is a path below a folder as well; if not, log that it is left out.

    A key may have parts that are empty, `.` or `..`: they would lead to other files, also outside the folder.
    """
    if not inside or {"", ".", ".."}.isdisjoint(inside.split("/")):
        return True
    log.warning(f"left out: object {inside!r}, whose key is no path: it has a part that is empty, '.' or '..'")
    return False


def _cannot_list(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be listed: {error}. Check the name, and that you may read it.")


def _entries(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Yield path below a prefix, size in bytes and time of change of the objects under it; "" is the object itself.

    Raises as `_objects`.
    """
    start = len(_key(folder).rstrip("/")) + 1
    return ((key[start:], size, changed) for key, size, changed in _objects(folder))


def _objects(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Yield key, size in bytes and time of change of the objects under a prefix, or of the object that it is.

    Raises:
        FileNotFoundError, PermissionError: it cannot be listed; what is missing may also yield nothing.
        RunFailed, UserError: as `again`.
    """
    fs, top = _fs(folder), _key(folder).rstrip("/")

    def look() -> Mapping[str, Any] | None:
        with suppress(FileNotFoundError, PermissionError):  # it may be allowed to list, but not to look
            found: Mapping[str, Any] = fs.info(top)
            return found
        return None

    there = again(look, f"a look at {folder}")
    if there is not None and there["type"] == "file":
        yield _entry(top, there)
        return
    if "s3" not in fs.protocol:
        yield from _walk(fs, top)
        return
    bucket, _, prefix = top.partition("/")
    more: dict[str, str] = {}
    while True:
        within = f"{prefix}/" if prefix else ""
        page = again(
            lambda: fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=within, **more),  # noqa: B023
            f"listing {folder}",
        )
        found = page.get("Contents", [])
        yield from (_entry(f"{bucket}/{each['Key']}", each) for each in found if not each["Key"].endswith("/"))
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _walk(fs: Any, at: str) -> Iterator[tuple[str, int, float]]:
    """Yield the entries of the files in a folder, by name, and then those in its subfolders.

    `fs.walk` does not raise the errors of subfolders, whose files would be missing.
    """
    try:
        listed = again(lambda: fs.ls(at, detail=True), f"listing {at}")
    except FileNotFoundError:  # it was removed meanwhile
        return
    found = [(info["name"].rstrip("/"), info) for info in listed]
    files = [each for each in found if each[1]["type"] != "directory" and each[0] != at]  # `at/` may be an object, too
    yield from (_entry(key, info) for key, info in sorted(files, key=lambda each: each[0]))
    for key, info in found:
        if info["type"] == "directory" and key != at:
            yield from _walk(fs, key)


def _entry(key: str, info: Mapping[str, Any]) -> tuple[str, int, float]:
    time = next((info[name] for name in ("LastModified", "mtime", "last_modified", "created") if info.get(name)), 0.0)
    return key, int(info.get("size", info.get("Size", 0)) or 0), getattr(time, "timestamp", lambda: float(time or 0))()


def _fs(file: Path) -> Any:
    return cast(Any, file).fs


def _key(file: Path) -> str:
    return str(cast(Any, file).path)


# Copies of objects, in a cache of bounded size


SIZE = "GFFNET_CACHE_SIZE"
"""The environment variable with the bytes that copies of objects may take, such as 50GB."""
_DEFAULT_SIZE = "20GB"
EMPTY = 8
"""Bytes at the start of a file that are all 0 where its content is not here: no format that is read begins so."""
_RECORD = "url.json"
_SMALL = 10**6
"""Bytes up to which a file stays that is fetched at once, such as a list or a config."""


def cache_folder() -> Path:
    """Return the folder of what is kept between processes: `gffnet` in $XDG_CACHE_HOME, or in ~/.cache."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gffnet"
    except RuntimeError:  # a user without a home
        return Path(os.devnull) / "gffnet"  # which cannot be written


def _copies() -> Path:
    return Path(os.path.realpath(cache_folder() / "objects"))


def local_folder(url: object, later: Sequence[str] = ()) -> Path:
    """Return a local folder, or file, with the objects under a URL.

    Files with one of the suffixes `later` have name, size and time of their objects, but no content until `fetch` is
    called. All others are fetched now.

    Raises:
        UserError: there is nothing at the URL, it may not be read, or the cache cannot be written.
        RunFailed: the store cannot be reached.
    """
    opened = open_url(url)
    if not is_remote(opened):
        return opened
    at = _copies() / hashlib.blake2b(as_url(url).encode(), digest_size=8).hexdigest()
    root, seen = at / (opened.name or "root"), set[Path]()
    try:
        at.mkdir(parents=True, exist_ok=True)
        with FileLock(at / ".lock"):  # of several processes, one makes the files
            _write_record(at, json.dumps([as_url(opened), *later]))
            for inside, size, changed in _entries(opened):
                if not _is_path(inside):
                    continue
                file = root / inside
                seen.add(file)
                if not _is_copy(file, size, changed):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _replace(file, size, changed)
                if file.suffix.lower() not in later:
                    fetch(file)
            for file in root.rglob("*"):
                if file.suffix != ".part" and file not in seen and file.is_file():
                    file.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_copy(opened, at, error) from None
    if not seen:
        raise UserError(f"{opened} does not exist: give the URL of a folder that holds something.")
    return root


def _cannot_copy(opened: Path, at: Path, error: OSError) -> UserError:
    """The error of the store or, where it names a file in the cache, of this machine."""
    if isinstance(error, FileNotFoundError | PermissionError) and not str(error.filename).startswith(str(at)):
        return UserError(f"{opened} cannot be read: {error}. Check the name, and that you may read it.")
    return UserError(
        f"cannot write {at}: {error.strerror}. Set XDG_CACHE_HOME to a folder that you may write to, with room."
    )


def fetch(file: Path) -> bool:
    """Fetch the content of a file of `local_folder`, if it is not here.

    What was read longest ago is removed where all copies together would take more than the cache may.

    Returns:
        Whether it was fetched; False of any other file.

    Raises:
        RunFailed: the store cannot be reached.
        OSError: the object is gone, or the copy cannot be written.
    """
    copies = _copies()
    if not file.is_relative_to(copies) or not is_empty(file):
        return False
    at = copies / file.relative_to(copies).parts[0]
    opened, inside = open_url(_record(at)[0]), file.relative_to(at).parts[1:]
    changed = file.stat().st_mtime
    with _in_place_of(file) as temporary:
        download(opened.joinpath(*inside) if inside else opened, temporary)
        _room.make(temporary.stat().st_size, copies)
        os.utime(temporary, (time.time(), changed))
    return True


def _record(at: Path) -> list[str]:
    """The URL of a folder of copies, and the suffixes of those that are made later."""
    found: list[str] = json.loads((at / _RECORD).read_text(encoding="utf-8"))
    return found


def _write_record(at: Path, text: str) -> None:
    """Write it, unless it is there: other processes read it meanwhile, without the lock."""
    record = at / _RECORD
    if not record.is_file() or record.read_bytes() != text.encode():
        with _in_place_of(record) as temporary:
            temporary.write_bytes(text.encode())


def is_empty(file: Path) -> bool:
    """Return whether a file has no content yet."""
    with file.open("rb") as opened:
        start = opened.read(EMPTY)
    return bool(start) and not any(start)


def _is_copy(file: Path, size: int, changed: float) -> bool:
    try:
        status = file.stat()
    except OSError:
        return False
    return (status.st_size, int(status.st_mtime)) == (size, int(changed))


def _replace(file: Path, size: int, changed: float) -> None:
    """Put a file of zeros, which takes no room, in place of a copy."""
    with _in_place_of(file) as temporary:
        with temporary.open("xb") as opened:
            opened.truncate(size)
        os.utime(temporary, (0, changed))


@contextmanager
def _in_place_of(file: Path) -> Iterator[Path]:
    """Yield the name of a temporary file that becomes `file` at the end, unless an error is raised."""
    temporary = file.with_name(f".{secrets.token_hex(4)}.part")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


class _Room:
    """Keeps the copies within the limit. They are counted each time that this process has fetched a fiftieth of it."""

    def __init__(self) -> None:
        self._left = 0

    def make(self, size: int, copies: Path) -> None:
        """Remove copies until there is room for another of `size`."""
        self._left -= size
        if self._left > 0:
            return
        limit = _limit()
        self._left = limit // 50
        kept = []
        for record in copies.glob(f"*/{_RECORD}"):
            later = _record(record.parent)[1:]
            for file in record.parent.rglob("*"):  # the object of a URL lies beside its record
                if file == record or file.suffix == ".part" or not file.is_file():
                    continue
                status = file.stat()
                if status.st_blocks and (file.suffix.lower() in later or status.st_size > _SMALL):
                    kept.append((status.st_atime, status, file))
        used = size + sum(status.st_size for _, status, _ in kept)
        for _, status, file in sorted(kept, key=lambda each: each[0]):
            if used <= limit * 0.9:
                return
            with suppress(OSError):
                _replace(file, status.st_size, status.st_mtime)
                used -= status.st_size


_room = _Room()


def _limit() -> int:
    text = os.environ.get(SIZE) or _DEFAULT_SIZE
    parts = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(MB|GB|TB)", text)
    if parts is None or not float(parts[1]):
        raise UserError(f"{SIZE}={text} must be a size, such as 500MB, 50GB or 2TB.")
    return int(float(parts[1]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[parts[2]])
