"""Errors that name the cause and the remedy.

A `UserError` is a mistake that the reader can fix: the command line prints it as one line and exits with code 2. A
`RunFailed` is work that started well and could not be finished: exit code 1. Neither shows a traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """Bad input: the message names the file or argument, its value, what is allowed and the remedy. Exit code 2."""


class Damaged(UserError):
    """A file of a run or model is damaged: empty, truncated, or something else. Others are not affected."""


class CannotWrite(UserError):
    """A file cannot be written: the disk is full, the folder may not be written to, or something is in the way."""


class BadName(CannotWrite):
    """A file cannot be written because of its name, too long or taken by a folder; those of other names can."""


class WrongSize(UserError):
    """A network cannot take an image of this size; it can take others."""


class RunFailed(Exception):
    """Work that failed on its way; the message says what is saved and how to resume. Exit code 1."""

    result: Any = None
    """What the call would have returned, of the part that is done, where it says so."""


class Stopped(RunFailed):
    """Work that was asked to stop, and has saved what it did. Exit code 1."""


def one_line(error: BaseException) -> str:
    """The message of an error in one line, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of the message of an error, or the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the allowed word nearest to `word`, or an empty string if none is near."""
    close = get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(what: str, word: str, allowed: Iterable[str]) -> UserError:
    """The error for `word` which is none of the `allowed` values of `what`, with the nearest one named."""
    names = sorted(allowed)
    return UserError(f"{what} {word!r} is unknown.{nearest(word, names)} Allowed: {', '.join(names)}.")
