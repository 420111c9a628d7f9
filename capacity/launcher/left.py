"""What a launch would find in a journal, without opening it for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capacity.launcher import outcome
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.journal_file import check_free


@dataclass(frozen=True)
class Left:
    """What of a batch a resume has to do.

    Parameters
    ----------
    path : Path
        The journal.
    run_id : str
        Of the launch that made it.
    count, first, last : int
        Items left, and the indices of the first and the last of them; both are 0 where none is.
    """

    path: Path
    run_id: str
    count: int
    first: int
    last: int


def left_in(path: Path, fingerprint: str) -> Left:
    """Return what is left in a journal; refuse one that no launch of that batch can go on with."""
    header = Header.read(path)
    header.check(path, fingerprint)
    check_free(path)
    codes = Journal.peek_codes(path)
    to_do = (codes == outcome.TO_DO) | (codes == outcome.DAMAGED)
    count = int(np.count_nonzero(to_do))
    first, last = (int(to_do.argmax()), to_do.size - 1 - int(to_do[::-1].argmax())) if count else (0, 0)
    return Left(path, header.run_id, count, first, last)
