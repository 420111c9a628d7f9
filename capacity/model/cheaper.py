"""The plans next to the smallest one: each has less of one thing, and misses what is asked.

Invariant: each of them was solved for, over all parallelisms, and its reason is what that found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from capacity.model import advice
from capacity.model.calibration import Calibration
from capacity.model.limits import Ceiling
from capacity.model.needs import Outcome, Stations, Wish, above, outcome, p99_of
from capacity.model.network import solve
from capacity.model.shape import shape_for
from capacity.model.sized import Missed
from capacity.model.words import many, short_of


def cheaper(
    stations: Stations, result: Outcome, hosts: advice.Hosts, calibration: Calibration, wish: Wish
) -> Iterator[Missed]:
    """For each resource yield the nearest smaller number that does not do it.

    Parameters
    ----------
    stations : Stations
        Of the plan.
    result : Outcome
        What they give.
    hosts : dict
        Hosts of each service and the key that asks for so many.
    calibration : Calibration
    wish : Wish
        What is asked.
    """
    for field, one, several in advice.resources(stations):
        value = getattr(stations, field)
        if value is None or (wish.store == "sqlite" and field in ("shards", "connections")):
            continue
        less = _nearest_miss(stations, field, calibration, wish)
        if less:
            found = outcome(replace(stations, **{field: less}), calibration, calibration.demands, wish)
            change = f"{many(less, one, several)} of {value:,}"
            yield Missed(change, found.throughput, found.p99, str(found.misses))
    for kind in ("frontend", "history"):
        count, cap = hosts[kind]
        if cap is not None and count > 1:
            rate = cap.rate * (count - 1)
            fewer = f"{many(count - 1, 'frontend' if kind == 'frontend' else 'history host')} of {count:,}"
            throughput = min(rate, result.throughput) if cap.caps_starts else result.throughput
            yield Missed(fewer, throughput, result.p99, _over(cap, rate, wish))
    cells = result.cells
    half = result.parallelism // 2 // cells
    if half:
        structure = stations.structure(wish, cells)
        solution = solve(structure, calibration.demands, half)
        rate = float(solution.throughput[-1]) * cells
        p99 = p99_of(solution, half, shape_for(calibration, structure))
        change = f"{half * cells:,} in flight of {result.parallelism:,}"
        yield Missed(change, rate, p99, f"only {short_of(rate, wish.target)}/s")


def _nearest_miss(stations: Stations, field: str, calibration: Calibration, wish: Wish) -> int:
    """The largest smaller number of a resource that does not do it; 0 where there is none."""

    def misses(count: int) -> bool:
        fewer = replace(stations, **{field: count})
        return outcome(fewer, calibration, calibration.demands, wish).misses is not None

    enough = getattr(stations, field)
    less = enough // 2
    while less and not misses(less):
        enough, less = less, less // 2
    while field != "shards" and less and enough - less > 1:
        middle = (enough + less) // 2
        enough, less = (enough, middle) if misses(middle) else (middle, less)
    return int(less)


def _over(cap: Ceiling, rate: float, wish: Wish) -> str:
    """Say what too few hosts that share a rate miss."""
    if rate >= wish.target:
        used = above(wish.target / rate, wish.utilization)
        return f"{cap.key} {used} used at the target, more than {wish.utilization:.0%}"
    if cap.caps_starts:
        return f"at most {short_of(rate, wish.target)}/s: {cap.key}"
    return f"{cap.key} {wish.target / rate:.0%} used at the target: {advice.LATER}"
