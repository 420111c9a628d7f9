"""Which points a sweep takes, in which order, and how long that takes.

Invariants: every round has every parallelism once, in an order of its own; the same seed gives the same plan.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from capacity.errors import UsageError
from capacity.experiment.local import SETTLE_MOST
from capacity.experiment.points import RAMP, Span

PARALLELISMS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
MOST_IN_FLIGHT: Final = 512
START_SECONDS: Final = {"sqlite": (2.5, 20.0), "postgres": (9.0, 60.0)}
"""How long a cluster of our own takes to start and end, and at most [s]."""
FRESH: Final = ("round", "point")


@dataclass(frozen=True)
class Planned:
    """One point to take."""

    parallelism: int
    repeat: int
    order: int
    holdout: bool = False


def plan(
    parallelisms: Sequence[int], repeats: int, *, seed: int = 0, holdout: Sequence[int] = ()
) -> tuple[Planned, ...]:
    """Return the points of a sweep, each round in a random order.

    Parameters
    ----------
    parallelisms, holdout : sequence of int
        Starts in flight: points to fit, and points to predict.
    repeats : int
        Rounds.
    seed : int
        Of the orders.

    Raises
    ------
    UsageError
        If a list is empty where it may not be, has a number out of range or twice, or both share one.

    Examples
    --------
    >>> [point.parallelism for point in plan([1, 2, 4], 2, seed=1)]
    [1, 4, 2, 1, 2, 4]
    """
    check_parallelisms("parallelism", parallelisms)
    if holdout:
        check_parallelisms("holdout", holdout)
    if shared := sorted(set(parallelisms) & set(holdout)):
        raise UsageError(
            f"holdout and parallelism share {', '.join(map(str, shared))}",
            allowed="numbers that the other list does not have",
            next_step="a point is either fitted or predicted",
        )
    if not 1 <= repeats <= 100:
        raise UsageError(f"repeats is {repeats}", allowed="1 to 100")
    order = random.Random(seed)
    every = [*((p, False) for p in parallelisms), *((p, True) for p in holdout)]
    rounds = [(repeat, each) for repeat in range(repeats) for each in order.sample(every, len(every))]
    return tuple(Planned(p, repeat, place, kept) for place, (repeat, (p, kept)) in enumerate(rounds))


def check_parallelisms(name: str, parallelisms: Sequence[int]) -> None:
    """Refuse an empty list, and numbers outside 1 to 512 or twice there."""
    if not parallelisms:
        raise UsageError(f"{name} is empty", allowed="one or more numbers", next_step=f"for example --{name} 1,4,16,64")
    for number in parallelisms:
        if not 1 <= number <= MOST_IN_FLIGHT:
            raise UsageError(f"{name} holds {number}", allowed=f"whole numbers from 1 to {MOST_IN_FLIGHT}")
    if len(set(parallelisms)) < len(parallelisms):
        twice = next(number for number in parallelisms if list(parallelisms).count(number) > 1)
        raise UsageError(f"{name} holds {twice} twice", next_step="repeat points with --repeats")


def groups(points: Sequence[Planned], fresh: str) -> list[list[Planned]]:
    """Return the points by the cluster they share: one for each ``round`` or ``point``, one for all when ``no``."""
    if fresh == "point":
        return [[point] for point in points]
    if fresh == "round":
        return [list(group) for _, group in groupby(points, key=lambda point: point.repeat)]
    return [list(points)]


def duration(
    points: Sequence[Planned], seconds: float, fresh: str, store: str | None, more: float
) -> tuple[float, float]:
    """Return how long a sweep takes, and how long at most [s].

    Parameters
    ----------
    points : sequence of Planned
    seconds : float
        Of a point's span [s].
    fresh, store : str
        When a cluster of our own is started, and which.
    more : float
        What is measured besides the points [s].
    """
    start, start_most = START_SECONDS[store] if store else (0.0, 0.0)
    clusters = len(groups(points, fresh))
    usual = sum(RAMP + seconds + 1.5 + point.parallelism / 100 for point in points)
    most = len(points) * (Span.longest(seconds) + SETTLE_MOST + 10.0)
    return clusters * start + usual + more, clusters * start_most + most + 3 * more
