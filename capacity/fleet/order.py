"""A journal and a fleet: what is to do goes out as an order, what was done comes back as notes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from capacity.fleet.looking import LastTold
from capacity.fleet.notes import pack, unpack
from capacity.fleet.workflow import MANY_OUTCOMES, BatchDone, BatchOrder, Range, bytes_of
from capacity.launcher import outcome
from capacity.launcher.batch import Batch
from capacity.launcher.journal import Journal
from capacity.launcher.retries import RetryPolicy
from capacity.model.fleet_simulation import range_size


def order_of(
    batch: Batch, journal: Journal, control: dict[str, Any], policy: RetryPolicy, outcome_bytes: int = MANY_OUTCOMES
) -> BatchOrder:
    """Return the order for what a journal does not note yet, or for as much of it as an order may hold."""
    size = range_size(batch.count)
    order = BatchOrder(
        journal.header.run_id, batch.describe(), asdict(policy), control, batch.count, size, outcome_bytes=outcome_bytes
    )
    if journal.tally().get(outcome.TO_DO, 0) == batch.count:
        return order
    order.cursor = batch.count
    codes, held = journal.codes(), 0
    for first in range(0, batch.count, size):
        part = codes[first : first + size]
        if not part.all() and held <= outcome_bytes:
            order.ranges.append(Range(first, first + part.size, pack(part)))
            held += bytes_of(order.ranges[-1])
    return order


def note(journal: Journal, done: BatchDone) -> None:
    """Note in a journal what a fleet did."""
    for item in done.outcomes:
        _note(journal, item.first, unpack(item.done, item.stop - item.first))
    journal.sync()


def note_told(journal: Journal, told: LastTold) -> list[dict[str, Any]]:
    """Note what launchers told while they lived and the batch ended without: it was done all the same.

    Parameters
    ----------
    journal : Journal
        With what the batch itself brought back.
    told : LastTold

    Returns
    -------
    list of dict
        Reports on the ranges of which the batch had not brought back all that was told.
    """
    noted, lost = journal.codes(), []
    for name, (packed, report) in told.items():
        first, stop = map(int, name.split("-"))
        codes = np.where(noted[first:stop] == outcome.TO_DO, unpack(packed, stop - first), outcome.TO_DO)
        _note(journal, first, codes)
        lost += [report] if codes.any() else []
    journal.sync()
    return lost


def _note(journal: Journal, first: int, codes: npt.NDArray[np.uint8]) -> None:
    for code in np.unique(codes):
        if code != outcome.TO_DO:
            journal.note(first + np.flatnonzero(codes == code), int(code))
