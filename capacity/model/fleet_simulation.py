"""A fleet of launcher processes as discrete events: who takes which range, how fast it goes, and what a loss costs.

Invariants: what is sent is the batch and what was sent again; the same arguments give the same result. An event is a
range taken, completed or lost, never a start: 100 million starts are about two thousand events.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from capacity.errors import UsageError
from capacity.model.fleet_events import Fleet
from capacity.model.fleet_records import STANDARD, Machinery, Simulated
from capacity.model.words import LONGEST

__all__ = ["STANDARD", "Machinery", "Simulated", "check", "loop_utilization", "range_size", "simulate"]

MOST_PROCESSES: Final = 100_000
MOST_STARTS: Final = 2_000_000_000
"""Beyond some three billion a fleet's history is full of what it carries from run to run."""


def range_size(count: int) -> int:
    """Return the starts of a range: a thousandth of the batch, 500 to 100,000.

    >>> range_size(750), range_size(20_000), range_size(750_000), range_size(10_000_000), range_size(10**9)
    (500, 500, 750, 10000, 100000)
    """
    return min(max(-(-count // 1_000), 500), 100_000)


def simulate(
    throughput: Callable[[int], float] | Sequence[float],
    *,
    count: int,
    processes: int,
    parallelism: int,
    launcher_cpu: float = 0.0,
    rate: float | None = None,
    size: int | None = None,
    machinery: Machinery = STANDARD,
    lose_every: float | None = None,
    lose_at: Sequence[float] = (),
    seed: int | None = None,
) -> Simulated:
    """Run a batch through a fleet.

    Parameters
    ----------
    throughput : callable or sequence of float
        Starts per second of the cluster with n in flight: ``throughput(n)``, or ``throughput[n - 1]``, whose last
        value holds beyond.
    count, processes : int
    parallelism : int
        Starts in flight of the whole fleet, shared out in whole numbers, the remainder to the first processes.
    launcher_cpu : float
        CPU seconds of a process' loop per start, which bound what one process can do; 0 is no bound [s].
    rate : float, optional
        Starts due per second, shared out alike [1/s].
    size : int, optional
        Starts of a range; by default `range_size`.
    lose_every : float, optional
        Seconds between two losses of a process at work, 1 or more [s].
    lose_at : sequence of float
        Moments of further losses [s].
    seed : int, optional
        Of when processes join, how long a hand-over takes, when one is lost (both 0.5 to 1.5 of what is given) and
        which; without it all join at once, times are as given and the first process is lost.

    Raises
    ------
    UsageError
        A number is out of range, or processes are lost so fast that the batch never ends.

    Examples
    --------
    Half a second until it is told its share, four ranges of 2 s, three hand-overs; then two whose loops take 10 ms
    a start.

    >>> round(simulate([50.0], count=400, processes=1, parallelism=8, size=100).seconds, 2)
    8.65
    >>> round(simulate([1000.0], count=400, processes=2, parallelism=8, size=100, launcher_cpu=0.01).seconds, 2)
    2.55
    """
    check(count, processes, parallelism, rate, lose_every)
    fleet = Fleet(
        at=_curve(throughput),
        count=count,
        processes=processes,
        parallelism=parallelism,
        fastest=1 / launcher_cpu if launcher_cpu else math.inf,
        rate=math.inf if rate is None else rate,
        size=size or range_size(count),
        machinery=machinery,
        lose_every=lose_every,
        lose_at=lose_at,
        chance=None if seed is None else random.Random(seed),
        losing=None if seed is None else random.Random(seed),
    )
    return fleet.run()


def _curve(throughput: Callable[[int], float] | Sequence[float]) -> Callable[[int], float]:
    if callable(throughput):
        return functools.lru_cache(maxsize=None)(throughput)
    curve = [float(value) for value in throughput]
    return lambda n: curve[min(n, len(curve)) - 1]


def check(count: int, processes: int, parallelism: int, rate: float | None, lose_every: float | None) -> None:
    """Refuse numbers that are out of range, each in one line."""
    for name, number, most in (
        ("count", count, MOST_STARTS),
        ("fleet", processes, MOST_PROCESSES),
        ("parallelism", parallelism, math.inf),
    ):
        if not 1 <= number <= most:
            raise UsageError(f"{name} is {number}", allowed=f"1 to {most:,}" if most < math.inf else "1 or more")
    if rate is not None and not 0 < rate < math.inf:
        raise UsageError(f"rate is {rate:g}", allowed="more than 0 starts per second")
    if rate is not None and count / rate > LONGEST:
        raise UsageError(f"rate is {rate:g}", allowed=f"one at which {count:,} starts take 1,000 years at most")
    if lose_every is not None and not 1 <= lose_every < math.inf:
        raise UsageError(f"lose-every is {lose_every:g}", allowed="1 second or more")


def loop_utilization(rate: float, busy: float, idle: float) -> float:
    """Return the share of a CPU that a launcher's loop takes at a rate.

    A start costs `busy` when the loop is awake anyway and `idle` when it wakes for it: with utilization u the mean is
    ``busy + (idle - busy) (1 - u)``, so that ``u = rate idle / (1 + rate (idle - busy))``.

    Parameters
    ----------
    rate : float
        Starts per second of one process [1/s].
    busy, idle : float
        CPU seconds per start, saturated and at low rates [s].

    Examples
    --------
    >>> round(loop_utilization(400, 26e-6, 262e-6), 3), loop_utilization(1 / 26e-6, 26e-6, 262e-6)
    (0.096, 1.0)
    """
    idle = max(busy, idle)
    return min(rate * idle / (1 + rate * (idle - busy)), 1.0)
