"""Files in object stores, through fsspec: `s3://`, `gs://`, `az://`, `hf://` and whatever else it has.

A URL may travel as a `Path`, which drops one of its slashes; `open_url` takes both. What it returns has the methods of
a `Path` (universal_pathlib), as far as gffnet uses them. fsspec is imported when there is a URL, and not before.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

from gffnet.errors import RunFailed, UserError

T = TypeVar("T")

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "adl": "az"}
"""By scheme, the extra of gffnet that installs its package."""
_TRIES = 4
"""How often a request is made before its error is final; between two of them 0.5, 2 and 8 seconds pass."""


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
        RunFailed: it failed every time.
    """
    for wait in (0.5, 2.0, 8.0, None):
        try:
            return work()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # of aiohttp, botocore, ...
            if wait is None:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise RunFailed(
                    f"{what} failed {_TRIES} times ({reason}). What is written is kept: run the same command again."
                ) from None
            time.sleep(wait)
    raise AssertionError


# Objects


def modified(file: Path) -> float:
    """Return when an object was written, in seconds, by the clock of its store. Raises `FileNotFoundError`."""
    at: float = again(lambda: _fs(file).modified(_key(file)), f"a look at {file}").timestamp()
    return at


def holds_any(folder: Path) -> bool:
    """Return whether there is an object under a prefix."""
    try:
        return next(_keys(folder), None) is not None
    except FileNotFoundError:
        return False


def server_time(folder: Path) -> float:
    """Return the time by the clock of a store, in seconds, which an object in `folder` tells that is removed again."""
    probe = folder / f".{secrets.token_hex(4)}.part"
    write({probe: b"."})
    try:
        return modified(probe)
    finally:
        probe.unlink(missing_ok=True)


def write(contents: Mapping[Path, bytes]) -> None:
    """Write several objects at once, each atomically. Raises `RunFailed`, `UserError`."""

    def put(file: Path) -> None:
        try:
            again(lambda: _fs(file).pipe_file(_key(file), contents[file]), f"writing {file}")
        except (FileNotFoundError, PermissionError) as error:
            raise UserError(f"cannot write {file}: {error}. Check the bucket, and that you may write to it.") from None

    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(put, contents):
            pass


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
            again(lambda: _fs(place).put_file(str(file), _key(place)), f"writing {place}")  # noqa: B023
        else:
            waiting[place] = file.read_bytes()
    write(waiting)


_WHOLE = 2**25
"""Files up to this size are held in memory while they are written."""


def download(file: Path, to: Path) -> None:
    """Write an object to a local file. Raises `FileNotFoundError`, `PermissionError`, `RunFailed`."""
    to.parent.mkdir(parents=True, exist_ok=True)
    again(lambda: _fs(file).get_file(_key(file), str(to)), f"reading {file}")


def list_files(folder: Path, extensions: Sequence[str]) -> Iterator[Path]:
    """Yield the files under a URL, or the one that it names, whose suffix is one of `extensions`, as they are listed.

    On S3, a page of a thousand keys is held at a time; elsewhere, the files of one folder. Hidden ones are left out.

    Raises:
        UserError: there is nothing, or it may not be listed.
        RunFailed: the store cannot be reached.
    """
    top, empty = _key(folder).rstrip("/"), True
    try:
        for key in _keys(folder):
            empty = False
            inside = PurePosixPath(key[len(top) + 1 :] if len(key) > len(top) else key.rpartition("/")[2])
            hidden = any(part.startswith(".") for part in inside.parts)
            if not hidden and (key == top or inside.suffix.lower() in extensions):
                yield folder / str(inside) if key != top else folder
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"{folder} cannot be listed: {error}. Check the name, and that you may read it.") from None
    if empty:
        raise UserError(f"{folder} does not exist: give the URL of an image, or of a folder of images.")


def _keys(folder: Path) -> Iterator[str]:
    """Yield the keys under a prefix, or the key that it is."""
    fs, top = _fs(folder), _key(folder).rstrip("/")
    if again(lambda: fs.isfile(top), f"a look at {folder}"):
        yield top
        return
    if "s3" not in fs.protocol:
        for at, _, files in fs.walk(top):
            yield from sorted(f"{at.rstrip('/')}/{name}" for name in files)
        return
    bucket, _, prefix = top.partition("/")
    more: dict[str, str] = {}
    while True:
        within = f"{prefix}/" if prefix else ""
        page = again(
            lambda: fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=within, **more),  # noqa: B023
            f"listing {folder}",
        )
        yield from (f"{bucket}/{each['Key']}" for each in page.get("Contents", []) if not each["Key"].endswith("/"))
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def relative(file: Path, folder: Path) -> Path:
    """Return the path of an object within a folder; of the folder's own, if it is an object, its name."""
    inside = _key(file)[len(_key(folder).rstrip("/")) + 1 :]
    return Path(inside or file.name)


def _fs(file: Path) -> Any:
    return cast(Any, file).fs


def _key(file: Path) -> str:
    return str(cast(Any, file).path)
