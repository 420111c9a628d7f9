"""A journal as a file: its name, its lock, and what can go wrong with either, in one line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from capacity.errors import JournalError

_LOCK_TRIES: Final = 3
_LOCK_PAUSE: Final = 0.02
"""Seconds between two of them."""
_SEE: Final = "see the path given to --journal"


@contextlib.contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turn an OSError into one clear line."""
    try:
        yield
    except ValueError as error:  # a NUL in the path
        raise JournalError(f"{what}: no file can have that name", next_step=_SEE) from error
    except OSError as error:
        advice = {
            errno.ENOSPC: "free some space or put it elsewhere with --journal",
            errno.EDQUOT: "free some space or put it elsewhere with --journal",
            errno.EROFS: "the file system is read-only: put it elsewhere with --journal",
            errno.EACCES: "put it where you may write with --journal",
            errno.ENOENT: "check the path given to --journal",
        }
        raise JournalError(f"{what}: {error.strerror}", next_step=advice.get(error.errno or 0, _SEE)) from error


def taken(path: Path) -> JournalError:
    return JournalError(f"journal {path} is in use by another launch", next_step="wait for it to end, or stop it first")


def exists(path: Path) -> JournalError:
    return JournalError(f"journal {path} exists", next_step="pass --resume to go on with it, or another --journal")


def check_new(path: Path) -> None:
    """Refuse a path that no journal can be created at; create none."""
    if os.path.lexists(path):
        raise exists(path)
    there = next(folder for folder in path.parents if os.path.lexists(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise JournalError(f"cannot create journal {path}", next_step="put it where you may write with --journal")


def give_name(beside: str, path: Path) -> None:
    """Give a file its name, unless another has it; it keeps that through a power cut."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise exists(path) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.rename(beside, path)  # a file system without links
    with contextlib.suppress(OSError):  # one that cannot, or a folder that may not be read
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def lock(path: Path, fd: int) -> None:
    """Take a journal's lock, again where it is not to be had: who asks `in_use` has it for a moment."""
    for tries_left in reversed(range(_LOCK_TRIES)):
        with in_one_line(f"cannot lock journal {path}"):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if not tries_left:
                    raise taken(path) from error
        time.sleep(_LOCK_PAUSE)


def check_free(path: Path) -> None:
    """Refuse a journal that a launch has open."""
    if in_use(path):
        raise taken(path)


def in_use(path: Path) -> bool:
    """Tell whether a launch has a journal open, by asking for its lock for a moment."""
    with in_one_line(f"cannot read journal {path}"), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
