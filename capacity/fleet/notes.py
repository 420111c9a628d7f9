"""Notes of a part of a batch; indices are those of the whole batch."""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.errors import ClusterError
from capacity.fleet.buckets import unpacked
from capacity.launcher import outcome
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal

SAME_VERSION: Final = "give all launchers of a fleet the same version of capacity"


class SharedNotes:
    """A journal that several processes hold: each counts what it notes itself, and one of them syncs it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def header(self) -> Header:
        return self._journal.header

    @property
    def is_done(self) -> Callable[[int], bool]:
        return self._journal.is_done

    def note(self, indices: npt.NDArray[np.int64], code: int) -> None:
        self._journal.note(indices, code)

    def tally(self) -> dict[int, int]:
        return {}

    def sync(self) -> None:
        """Leave it to the process that began the batch."""


class RangeNotes:
    """Outcome codes of the items [first, stop), in memory; packed they travel in heartbeats and results.

    Examples
    --------
    >>> notes = RangeNotes(Header("", "run", 100), 10, 20)
    >>> notes.note(np.array([12]), outcome.STARTED)
    >>> again = RangeNotes(Header("", "run", 100), 10, 20, notes.pack())
    >>> again.is_done(12), again.is_done(13), again.left
    (1, 0, 9)
    """

    def __init__(self, header: Header, first: int, stop: int, packed: str = "") -> None:
        self.header = header
        self.first, self.stop = first, stop
        self.codes: npt.NDArray[np.uint8] = unpack(packed, stop - first)
        self._view = memoryview(self.codes.data)

    def is_done(self, index: int) -> bool:
        return self._view[index - self.first]  # type: ignore[return-value]

    @property
    def left(self) -> int:
        """How many items have no outcome yet."""
        return int((self.codes == outcome.TO_DO).sum())

    def note(self, indices: npt.NDArray[np.int64], code: int) -> None:
        self.codes[indices - self.first] = code

    def tally(self) -> dict[int, int]:
        codes, counts = np.unique(self.codes, return_counts=True)
        return {int(code): int(count) for code, count in zip(codes, counts, strict=True)}

    def sync(self) -> None:
        """Nothing to do: whoever holds them sends them on."""

    def pack(self) -> str:
        """Return the codes compressed: tens of bytes for a range that is done in order."""
        return pack(self.codes)


def pack(codes: npt.NDArray[np.uint8]) -> str:
    """Return outcome codes, shape (n,), as text: ``"=1"`` where all are 1, empty where nothing is done.

    >>> pack(np.array([1, 1], np.uint8)), pack(np.array([0, 0], np.uint8))
    ('=1', '')
    """
    if (codes == codes[0]).all():
        return f"={codes[0]}" if codes[0] else ""
    return b64encode(zlib.compress(codes.tobytes(), 6)).decode()


def unpack(packed: str, count: int) -> npt.NDArray[np.uint8]:
    """Return the outcome codes, shape (count,), that `pack` packed; all zeros for an empty text.

    Raises
    ------
    ClusterError
        If it packed none, or those of another number of items.
    """
    if not packed:
        return np.zeros(count, np.uint8)
    try:
        if packed.startswith("="):
            codes = np.full(count, _one_code(packed[1:]), np.uint8)
        else:
            codes = np.frombuffer(unpacked(packed, count), np.uint8).copy()
    except ValueError as error:
        raise ClusterError(
            f"a launcher's outcomes of {count:,} items cannot be read: {error}", next_step=SAME_VERSION
        ) from error
    if codes.size != count or (codes >= outcome.ENCODED.size).any():
        wrong = f"{codes.size:,} outcomes for {count:,} items" if codes.size != count else "some are none"
        raise ClusterError(f"a launcher's outcomes cannot be read: {wrong}", next_step=SAME_VERSION)
    return codes


def _one_code(digits: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", digits) or int(digits) > 255:
        raise ValueError("no outcome")
    return int(digits)
