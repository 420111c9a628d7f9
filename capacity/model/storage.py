"""What starts leave behind in the stores, for how long, and what takes the database's time.

Invariant: a figure that no sweep measured says that it is typical of the stock schema.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from capacity.model.calibration import Calibration
from capacity.model.outlook import STOCK
from capacity.model.words import statement

DAY: Final = 86_400.0

_VISIBILITY_INSERT: Final = 0.9 / 1.3
"""Share of visibility's INSERT in the statement time of a start, stock schema on PostgreSQL 15."""

_USED_INDEXES: Final = 6
_WITHOUT_UNUSED: Final = 2.2e3
"""Bytes of a visibility row without the indexes that no query of a stock server uses."""


@dataclass(frozen=True)
class StorageNeed:
    """Bytes that starts take before any workflow task of theirs.

    Parameters
    ----------
    main, visibility : float
        Bytes per start in each store.
    wal : float, optional
        Bytes per start written to the log on top, which is recycled.
    measured : bool
        Whether this calibration's sweep measured them; else they are typical of the stock PostgreSQL schema.
    starts : float
        Of one period.
    period : str
        ``batch``, or ``day`` at the target all day long.
    retention_days : float
        Days a finished workflow is kept; one batch a day is assumed.
    lever : str
        The largest part of bytes and statement time, and what it would take to lessen it.
    """

    main: float
    visibility: float
    wal: float | None
    measured: bool
    starts: float
    period: str
    retention_days: float
    lever: str

    @property
    def per_period(self) -> float:
        """Bytes that one period adds."""
        return self.starts * (self.main + self.visibility)

    @property
    def retained(self) -> float:
        """Bytes held at any time, once as much expires as comes; of a batch at least its own."""
        return self.per_period * max(self.retention_days, 1.0 if self.period == "batch" else self.retention_days)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "per_period": self.per_period, "retained": self.retained}


def storage_need(calibration: Calibration, starts: float, period: str, retention_days: float) -> StorageNeed | None:
    """Return what starts take; None for a store in memory.

    Parameters
    ----------
    calibration : Calibration
        Its sweep may have measured bytes per start.
    starts : float
        Starts of one period.
    period : str
        ``batch`` or ``day``.
    retention_days : float
    """
    if calibration.measurements.conditions.store == "sqlite":
        return None
    swept = calibration.measurements.storage
    stored = swept or STOCK
    return StorageNeed(
        main=stored.main,
        visibility=stored.visibility,
        wal=stored.wal,
        measured=swept is not None,
        starts=starts,
        period=period,
        retention_days=retention_days,
        lever=_lever(calibration),
    )


def _lever(calibration: Calibration) -> str:
    swept = calibration.measurements.storage
    stored = swept or STOCK
    share = stored.visibility / (stored.main + stored.visibility)
    if swept is not None and swept.statements:
        longest = max(swept.statements, key=lambda each: each.share)
        time = f"{longest.share:.0%} of statement time is {statement(longest.query)} (measured)"
        is_visibility = "visibility" in longest.query.lower()
    else:
        time = f"its INSERT is about {_VISIBILITY_INSERT:.0%} of statement time (typical, not measured here)"
        is_visibility = True
    words = f"visibility takes {share:.0%} of the bytes; {time}"
    indexes = stored.visibility_indexes
    if is_visibility and indexes is not None and indexes > _USED_INDEXES:
        words += (
            f"; of its {indexes} indexes a stock server's queries use {_USED_INDEXES}: without the others a row took "
            f"{_WITHOUT_UNUSED / 1e3:.1f} kB and a start 10 to 15% less database CPU"
        )
    return words
