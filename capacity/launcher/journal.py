"""What became of each item, on disk: one byte per item behind one page of header, in a memory-mapped file.

Invariants: a byte is written only after the answer it notes; a note lost in a crash means one more attempt with
the same request id, which the server answers with the same run. A byte that no outcome has (see `outcome`) counts
as not done, for the same reason. One process at a time holds a journal.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from capacity.errors import JournalError
from capacity.launcher import outcome
from capacity.launcher.header import HEADER_BYTES, Header
from capacity.launcher.journal_file import exists, give_name, in_one_line, lock

_PIECE: Final = 1 << 16


class Notes(Protocol):
    """Where outcomes are noted: a journal, or a part of one."""

    @property
    def header(self) -> Header:
        """Of the journal."""

    @property
    def is_done(self) -> Callable[[int], bool]:
        """Tell whether item i has an outcome."""

    def note(self, indices: npt.NDArray[np.int64], code: int) -> None:
        """Note one outcome for items, shape (n,)."""

    def tally(self) -> dict[int, int]:
        """Return how many items have which outcome code."""

    def sync(self) -> None:
        """Force the notes to the disk."""


class Journal:
    """An open journal.

    Attributes
    ----------
    header : Header
    damaged : int
        Notes found damaged or missing when it was opened; their items count as not done.
    """

    def __init__(self, path: Path | None, header: Header, fd: int, buffer: mmap.mmap, damaged: int = 0) -> None:
        self.path = path
        self.header: Header = header
        self.damaged = damaged
        self._fd = fd
        self._buffer = buffer
        self._notes: npt.NDArray[np.uint8] = np.frombuffer(buffer, np.uint8, header.count, HEADER_BYTES)
        self._view = memoryview(buffer)[HEADER_BYTES:]

    @classmethod
    def in_memory(cls, header: Header) -> Journal:
        """Return a journal that no file keeps."""
        return cls(None, header, -1, mmap.mmap(-1, HEADER_BYTES + header.count))

    @classmethod
    def create(cls, path: Path, header: Header) -> Journal:
        """Create a journal; its whole size is reserved now, so that a full disk is known before the first start.

        It is made beside its place and gets its name when it is whole: a launch killed right here leaves no journal,
        but a file ``.journal-*`` that nothing needs.
        """
        with in_one_line(f"cannot create journal {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                raise exists(path)
            fd, beside = tempfile.mkstemp(prefix=".journal-", dir=path.parent)
        try:
            lock(path, fd)  # before it has its name: nobody can have opened it yet
            behind, size = header.behind, HEADER_BYTES + header.count
            with in_one_line(f"cannot reserve {size + len(behind):,} bytes for journal {path}"):
                os.fchmod(fd, 0o644)
                os.posix_fallocate(fd, 0, size + len(behind))
                os.pwrite(fd, header.pack(), 0)
                os.pwrite(fd, behind, size)
                os.fsync(fd)
            with in_one_line(f"cannot create journal {path}"):
                give_name(beside, path)
        except BaseException:
            os.close(fd)
            raise
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        return cls(path, header, fd, mmap.mmap(fd, size))

    @classmethod
    def open(cls, path: Path, fingerprint: str | None = None) -> Journal:
        """Open a journal to go on with it; refuse one of another batch."""
        with in_one_line(f"cannot open journal {path}"):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = Header.of(path, fd)
            if fingerprint is not None:
                header.check(path, fingerprint)
            lock(path, fd)
            size = HEADER_BYTES + header.count
            missing = max(0, size - os.fstat(fd).st_size)
            with in_one_line(f"cannot repair journal {path}, which is {missing:,} bytes short"):
                os.posix_fallocate(fd, 0, size)
            journal = cls(path, header, fd, mmap.mmap(fd, size))
        except BaseException:
            os.close(fd)
            raise
        journal._repair(missing)
        return journal

    @property
    def descriptor(self) -> int:
        """File descriptor; a process that inherits it shares the lock, until the last one of them ends."""
        return self._fd

    @classmethod
    def inherited(cls, descriptor: int) -> Journal:
        """Return the open journal behind a descriptor that this process got from its parent."""
        header = Header.of(Path(f"descriptor {descriptor}"), descriptor)
        return cls(None, header, descriptor, mmap.mmap(descriptor, HEADER_BYTES + header.count))

    @staticmethod
    def peek_codes(path: Path) -> npt.NDArray[np.uint8]:
        """Return the outcome codes of a journal, shape (count,), without opening it for a launch; it may be in use."""
        header = Header.read(path)
        with in_one_line(f"cannot read journal {path}"):
            there = max(path.stat().st_size - HEADER_BYTES, 0)
            notes = np.fromfile(path, np.uint8, min(header.count, there), offset=HEADER_BYTES)
        try:
            codes = np.zeros(header.count, np.uint8)
        except MemoryError as error:
            raise JournalError(f"journal {path} is of {header.count:,} items: more than memory holds") from error
        for start, piece in enumerate(_pieces(notes)):
            codes[start * _PIECE : start * _PIECE + piece.size] = outcome.DECODED[piece]
        return codes

    @classmethod
    def peek(cls, path: Path) -> dict[int, int]:
        """Return how many items of a journal have which outcome code; a damaged note counts as not done."""
        tally = _tally(cls.peek_codes(path))
        damaged = tally.pop(outcome.DAMAGED, 0)
        return tally | {outcome.TO_DO: tally.get(outcome.TO_DO, 0) + damaged} if damaged else tally

    def _repair(self, missing: int) -> None:
        self.damaged = missing
        for piece in _pieces(self._notes):
            broken = outcome.DECODED[piece] == outcome.DAMAGED
            self.damaged += int(broken.sum())
            piece[broken] = 0

    @property
    def is_done(self) -> Callable[[int], bool]:
        """Tell whether item i has an outcome: the cheapest way to ask."""
        return self._view.__getitem__  # type: ignore[return-value]

    def all_done(self, first: int, stop: int) -> bool:
        """Tell whether every item of [first, stop) has an outcome."""
        return bool(self._notes[first:stop].all())

    def note(self, indices: npt.NDArray[np.int64], code: int) -> None:
        """Note one outcome for items, shape (n,)."""
        self._notes[indices] = outcome.ENCODED[code]

    def codes(self) -> npt.NDArray[np.uint8]:
        """Return the outcome code of every item, shape (count,)."""
        return outcome.DECODED[self._notes]

    def first(self, code: int, most: int) -> list[int]:
        """Return the first items with an outcome, `most` at most."""
        found: list[int] = []
        for start, piece in enumerate(_pieces(self._notes)):
            found += (np.flatnonzero(outcome.DECODED[piece] == code)[: most - len(found)] + start * _PIECE).tolist()
            if len(found) >= most:
                break
        return found

    def tally(self) -> dict[int, int]:
        """Return how many items have which outcome code."""
        return _tally(self._notes, outcome.DECODED)

    def sync(self) -> None:
        """Force the notes to the disk; blocks, so call it from a thread."""
        if self._fd >= 0:
            with in_one_line(f"cannot write journal {self.path}"):
                os.fdatasync(self._fd)

    def close(self) -> None:
        """Write what is left and let go of the file."""
        try:
            self.sync()
        finally:
            self._view.release()
            self._notes = np.zeros(0, np.uint8)
            self._buffer.close()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pieces(notes: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield views of a long array: what numpy makes of each must not grow with the batch."""
    for start in range(0, notes.size, _PIECE):
        yield notes[start : start + _PIECE]


def _tally(notes: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8] | None = None) -> dict[int, int]:
    counts = np.zeros(256, np.int64)
    for piece in _pieces(notes):
        counts += np.bincount(piece if table is None else table[piece], minlength=256)
    return {int(code): int(counts[code]) for code in np.nonzero(counts)[0]}
