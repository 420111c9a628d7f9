"""Does something grow that should not? The slope of each figure over the rounds of a soak, with its interval.

The first part is left out (caches fill, allocators find their size). A leak is a slope whose lower bound is above the
limit and that shows in both halves: a single step is none. Of a server it is what it grows by with its cache full.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from capacity.experiment.soaking import Reading
from capacity.model.words import number
from capacity.verdict.slope import FEWEST, LEVEL, longer, slope

WARM_UP: Final = 0.25
"""Share of the time left out at the beginning."""
SHORTEST: Final = 20.0
"""Seconds after the warm-up without which nothing is said: a process finds its size in its first ones."""
CACHE: Final = 128_000
"""Workflows a history host keeps in memory by default (``history.hostLevelCacheMaxSize``)."""
MIB: Final = float(2**20)
LEAK, NONE, SHORT, KEEPS = "leak", "none", "too short", "keeps"


@dataclass(frozen=True)
class Figure:
    """Something that is watched.

    Parameters
    ----------
    key : str
        Field of `Reading`.
    name : str
    unit : str
    scale : float
        One unit in the field's own.
    quantum : float
        Step by which it may change for reasons of its own [the field's unit].
    """

    key: str
    name: str
    unit: str
    scale: float
    quantum: float


SERVER: Final = Figure("server_rss", "server memory", "MiB", MIB, 8 * MIB)
FIGURES: Final = (
    Figure("rss", "launcher memory", "MiB", MIB, 2 * MIB),
    Figure("tasks", "asyncio tasks", "", 1.0, 1.0),
    Figure("threads", "threads", "", 1.0, 1.0),
    Figure("descriptors", "descriptors", "", 1.0, 1.0),
    SERVER,
)


@dataclass(frozen=True)
class Growth:
    """How a figure grows.

    Parameters
    ----------
    name, unit : str
    first, last : float
        At the first reading that counts, and at the last.
    per_hour, low, high : float, optional
        Slope with its interval [unit per hour]; None where there are too few readings.
    per_start : float, optional
        The slope by start, not by hour [bytes or counts].
    limit : float
        Growth that is allowed [unit per hour].
    verdict : str
        ``leak``, ``none``, ``too short``, or ``keeps`` for a server that keeps what was started.
    words : str
        The verdict in a sentence.
    """

    name: str
    unit: str
    first: float
    last: float
    per_hour: float | None
    low: float | None
    high: float | None
    per_start: float | None
    limit: float
    verdict: str
    words: str


@dataclass(frozen=True)
class Soak:
    """What a soak showed.

    Parameters
    ----------
    growths : tuple of Growth
    readings : tuple of Reading
    hours : float
        From the first reading to the last.
    starts, failed : int
        Of the whole soak.
    """

    growths: tuple[Growth, ...]
    readings: tuple[Reading, ...]
    hours: float
    starts: int
    failed: int

    @property
    def leaks(self) -> tuple[str, ...]:
        """Names of what leaks."""
        return tuple(growth.name for growth in self.growths if growth.verdict == LEAK)

    def summary(self) -> str:
        """Return it in a sentence."""
        unsure = [growth.name for growth in self.growths if growth.verdict == SHORT]
        over = f"{self.starts:,} starts in {round(self.readings[-1].at / 60, 1):g} min"
        if self.leaks:
            return f"Leak: {', '.join(self.leaks)} ({over})."
        if unsure:
            return f"No leak found, but too short to tell of {', '.join(unsure)} ({over})."
        return f"No leak ({over})."

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table for people: a heading and a row per figure."""
        rows: list[tuple[str, ...]] = [("", "first", "last", "per hour", f"{LEVEL:.0%}", "verdict")]
        for growth in self.growths:
            values = f"{_plain(growth.first)} {growth.unit}", f"{_plain(growth.last)} {growth.unit}"
            slope, interval = "-", "-"
            if growth.per_hour is not None and growth.low is not None and growth.high is not None:
                slope, low, high = (f"{round(each):+,d}" for each in (growth.per_hour, growth.low, growth.high))
                interval = f"{low} to {high}"
            rows.append((growth.name, *(value.strip() for value in values), slope, interval, growth.verdict))
        return rows

    def to_frame(self) -> list[dict[str, Any]]:
        """Return one row per reading, as plain numbers."""
        return [asdict(reading) for reading in self.readings]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "summary": self.summary(),
            "hours": self.hours,
            "starts": self.starts,
            "failed": self.failed,
            "level": LEVEL,
            "figures": [asdict(growth) for growth in self.growths],
            "readings": self.to_frame(),
        }

    def _repr_html_(self) -> str:
        head, *rows = self.rows()
        top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(f'{each.name}: {each.words}')}</li>" for each in self.growths)
        return f"<table><caption>{html.escape(self.summary())}</caption><tr>{top}</tr>{body}</table><ul>{notes}</ul>"


def judge(
    readings: Sequence[Reading], *, memory_limit: float = 64.0, count_limit: float = 60.0, in_memory: bool = False
) -> Soak:
    """Judge the readings of a soak.

    Parameters
    ----------
    readings : sequence of Reading
        One a round, nothing in flight.
    memory_limit : float
        Growth of the launcher's memory that is allowed [MiB per hour], above 0; 16 times that of the server's.
    count_limit : float
        Growth of tasks, threads and descriptors that is allowed [per hour], above 0: none is told from none by no soak.
    in_memory : bool
        Whether the server keeps its data in memory.
    """
    if not readings:
        raise ValueError("no reading")
    last = readings[-1]
    hours = (last.at - readings[0].at) / 3600
    growths = []
    for figure in FIGURES:
        known = [reading for reading in readings if getattr(reading, figure.key) is not None]
        if known:
            limit = {"rss": memory_limit, "server_rss": 16 * memory_limit}.get(figure.key, count_limit)
            growths.append(_server(known, limit, in_memory) if figure is SERVER else _growth(figure, known, limit))
    return Soak(tuple(growths), tuple(readings), hours, last.starts, last.failed)


def _server(readings: Sequence[Reading], limit: float, in_memory: bool) -> Growth:
    """Judge a server by what it does once its cache is full; until that tells, what it grows by is what it keeps."""
    whole = _growth(SERVER, readings, limit, keeps=True)
    since = [reading for reading in readings if reading.starts >= CACHE]
    if in_memory or not since:
        return whole
    found = _growth(SERVER, since, limit)
    if found.verdict == SHORT and whole.verdict != SHORT:
        return whole
    return replace(found, words=f"{found.words} (counted from {CACHE:,} starts on, with its cache full)")


def _growth(figure: Figure, readings: Sequence[Reading], limit: float, keeps: bool = False) -> Growth:
    begin = readings[0].at + WARM_UP * (readings[-1].at - readings[0].at)
    counted = [reading for reading in readings if reading.at >= begin]
    values = [getattr(reading, figure.key) / figure.scale for reading in counted]
    edges = values[0], values[-1]
    found = slope([reading.at / 3600 for reading in counted], values, figure.quantum / figure.scale)
    lasted = counted[-1].at - counted[0].at
    if found is None or lasted < SHORTEST:
        words = (
            f"too short to tell: {len(counted)} rounds in {lasted:.1f} s after the warm-up; {FEWEST} in "
            f"{SHORTEST:.0f} s are the least"
        )
        return Growth(figure.name, figure.unit, *edges, None, None, None, None, limit, SHORT, words)
    starts = (counted[-1].starts - counted[0].starts) / ((counted[-1].at - counted[0].at) / 3600)
    per_start = found.value * figure.scale / starts if starts else None
    bound = " ".join(part for part in (number(limit), figure.unit, "per hour") if part)
    if found.low > limit and min(found.halves) > limit / 2:
        verdict = KEEPS if keeps else LEAK
        words = f"{found.value:,.0f} {figure.unit} per hour".replace("  ", " ")
        words += _each(per_start, figure.unit)
        words = f"leak: it grows by {words}" if not keeps else f"grows by {words}: it keeps the workflows it was given"
    elif found.high <= limit:
        verdict, words = NONE, f"none above {bound}"
    else:
        verdict, words = SHORT, f"too short to tell whether it grows by {bound}"
        if seconds := longer(found, limit, counted[-1].at - readings[0].at):
            words += f"; about {math.ceil((readings[0].at + seconds) / 60):,} min would tell"
    values_of = figure.name, figure.unit, *edges, found.value, found.low, found.high, per_start
    return Growth(*values_of, limit, verdict, words)


def _each(per_start: float | None, unit: str) -> str:
    if per_start is None:
        return ""
    if unit == "MiB":
        return f", {per_start / 1e3:.2f} kB a start" if per_start < 1e4 else f", {per_start / 1e3:,.0f} kB a start"
    return f", {number(per_start, 2)} a start"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
