"""A sweep in words and columns of at most 80 characters."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable

from capacity.experiment.sweep import Swept
from capacity.experiment.wanted import Wanted
from capacity.model.measurement import Flag, Measurements, Point
from capacity.model.words import duration, many

WIDTH = 80


def announcement(wanted: Wanted) -> str:
    """Return what a sweep is about to do, and how long that takes."""
    usual, most = wanted.estimate()
    place = wanted.where if wanted.target else f"{wanted.where}, new for each {wanted.fresh}"
    rounds = many(wanted.repeats, "round")
    text = (
        f"{many(len(wanted.points), 'point')} of {wanted.seconds:g} s in {rounds} {place}: "
        f"about {duration(usual)}, at most {duration(most)}. Ctrl-C keeps the points so far."
    )
    return textwrap.fill(text, WIDTH)


class Lines:
    """A line for each point as it comes.

    Parameters
    ----------
    points : int
        How many will come.
    say : callable
        Takes a line.
    """

    def __init__(self, points: int, say: Callable[[str], None]) -> None:
        self._points = points
        self._say = say
        self._done = 0

    def show(self, point: Point) -> None:
        if not self._done:
            self._say(f"{'':>7}  in flight  starts/s   p50 ms   p99 ms  CPU ms a start")
        self._done += 1
        kept = "*" if point.holdout else " "
        self._say(
            f"{self._done:>3}/{self._points:<3}  {point.parallelism:>8}{kept}  {point.throughput:>8,.0f}"
            f"  {_ms(point.p50)}  {_ms(point.p99)}  {_cpu_ms(point):>14}"
        )
        if point.flag is not None:
            for line in textwrap.wrap(why(point), WIDTH - 9):
                self._say(f"{'':>9}{line}")


def why(point: Point) -> str:
    """Return in words why a point is left out of a fit."""
    if point.flag is Flag.THROTTLED:
        told = ", ".join(part for part in (point.throttle_cause, point.throttle_scope) if part)
        return f"throttled ({told or 'cause not told'}): this is the cap, not the cluster; left out of a fit"
    if point.flag is Flag.LAUNCHER_BOUND:
        return "the launcher itself was what bound: left out of a fit"
    if point.flag is Flag.TOO_SHORT:
        return f"only {point.starts} starts: too few to tell; left out of a fit"
    if point.flag is Flag.LITTLE:
        expected = point.throughput * point.mean
        return f"throughput x latency is {expected:.1f}, in flight were {point.in_flight:.1f}: left out of a fit"
    return f"{point.flag.value if point.flag else ''}: left out of a fit"


def report(swept: Swept) -> list[str]:
    """Return the medians of all points by parallelism, and what else was measured."""
    measurements = swept.measurements
    lines = ["", f"in flight  starts/s {'(least to most)':<16}   p50 ms   p99 ms  CPU ms a start  points"]
    by_parallelism: dict[int, list[Point]] = {}
    for point in measurements.points:
        by_parallelism.setdefault(point.parallelism, []).append(point)
    for parallelism, points in sorted(by_parallelism.items()):
        lines.append(_row(parallelism, points))
    flags = Counter(point.flag for point in measurements.points if point.flag is not None)
    if any(point.holdout for point in measurements.points):
        lines.append("* kept from the fit, to be predicted")
    if flags:
        left_out = ", ".join(f"{count} {flag.value}" for flag, count in flags.items())
        lines += textwrap.wrap(f"Left out, of medians too where others are there: {left_out}.", WIDTH)
    lines += [""] + [line for text in _words(measurements) for line in textwrap.wrap(text, WIDTH)]
    return lines


def _row(parallelism: int, points: list[Point]) -> str:
    good = [point for point in points if point.flag is None]
    used = good or points
    rates = [point.throughput for point in used]
    spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
    cpu = [value for point in used if (value := point.cpu) is not None]
    mark = "*" if points[0].holdout else " "
    count = str(len(points)) if len(good) == len(points) else f"{len(good)} of {len(points)}"
    return (
        f"{parallelism:>8}{mark}  {statistics.median(rates):>8,.0f} {spread:<16}"
        f"  {_ms(_median(point.p50 for point in used))}  {_ms(_median(point.p99 for point in used))}"
        f"  {f'{_median(cpu) * 1e3:.2f}' if cpu else '-':>14}  {count:>6}"
    )


def _words(measurements: Measurements) -> list[str]:
    conditions = measurements.conditions
    cpus = many(conditions.cluster_cpus, "CPU")
    shared = "shared with the launcher" if conditions.launcher_shares_cpus else "the launcher had others too"
    texts = [f"Server and database had {cpus}, {shared}."]
    launcher = [point.launcher_cpu for point in measurements.points if point.launcher_cpu is not None]
    if launcher:
        texts.append(f"The launcher used {statistics.median(launcher) * 1e3:.2f} ms of CPU a start.")
    if (storage := measurements.storage) is not None:
        wal = f", {storage.wal / 1e3:.1f} kB of write-ahead log" if storage.wal is not None else ""
        indexes = storage.visibility_indexes
        of = "" if indexes is None else f" ({many(indexes, 'index', 'indexes')})"
        texts.append(
            f"A start leaves {storage.main / 1e3:.1f} kB in the main store and {storage.visibility / 1e3:.1f} kB in "
            f"visibility{of}{wal}."
        )
        if storage.statements:
            first = storage.statements[0]
            texts.append(
                f"{first.share:.0%} of the database's statement time goes to {first.query.partition('(')[0]}".strip()
                + "."
            )
    if (times := measurements.times) is not None and times.shard_hold is not None:
        hold = times.connection_hold
        connection = f" and a connection {hold * 1e3:.2f} ms" if hold is not None else ""
        texts.append(f"At one in flight a start holds its shard {times.shard_hold * 1e3:.2f} ms{connection}.")
    if (memory := measurements.memory) is not None:
        texts.append(
            f"A launcher occupies {memory.base / 2**20:.0f} MiB, {memory.per_in_flight / 1024:.1f} KiB more for each "
            f"in flight and {memory.per_item:.1f} bytes for each item."
        )
    return texts


def _cpu_ms(point: Point) -> str:
    if point.server_cpu is None:
        return "-"
    if point.database_cpu is None:
        return f"{point.server_cpu * 1e3:.2f}"
    return f"{point.server_cpu * 1e3:.2f} + {point.database_cpu * 1e3:.2f}"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:>7,.1f}" if seconds < 9.9995 else f"{seconds * 1e3:>7,.0f}"
