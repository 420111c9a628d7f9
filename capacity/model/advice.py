"""What a sizing says in words: what forced each figure, and what to know before anything is bought."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from capacity.model import needs
from capacity.model.calibration import Calibration
from capacity.model.fit import NAMES
from capacity.model.limits import Ceiling
from capacity.model.measurement import usable
from capacity.model.needs import BUSIEST, MOST_GROWTH, Outcome, Stations, Wish, cpu_needs, response_without_load
from capacity.model.network import MAXIMUM_PARALLELISM
from capacity.model.words import each_of, many, milliseconds, number

if TYPE_CHECKING:
    from capacity.model.sized import Figure, Sizing

RESOURCES: Final = (
    ("server", "server core", "server cores"),
    ("database", "database core", "database cores"),
    ("shards", "shard", "shards"),
    ("connections", "connection", "connections"),
    ("launchers", "launcher process", "launcher processes"),
)
"""Fields of `Stations`, and what one and many of them are called where server and database share no cores."""

PUBLISHED: Final = 10_000
"""Starts per second above which no self-hosted cluster was found published."""
ORIGINAL: Final = 128
"""Workers of the original, for which it claimed 200,000 starts per second."""
CHART_SHARDS: Final = 512

LATER: Final = "what follows the answer falls behind"

Hosts = dict[str, tuple[int, Ceiling | None]]
_KINDS: Final = (
    ("frontend", "frontends", ""),
    ("history", "history hosts", ""),
    ("matching", "matching hosts", "; above 100% first tasks fall behind, not starts"),
)


def resources(stations: Stations) -> tuple[tuple[str, str, str], ...]:
    """Return the fields of some stations, and what one and many of them are called."""
    return RESOURCES if stations.database is not None else (("server", "core", "cores"), *RESOURCES[1:])


def counts(stations: Stations, parallelism: int) -> dict[str, int]:
    """Return how many of each resource, by the names of the figures."""
    named = {many: getattr(stations, field) for field, _, many in resources(stations)}
    return {name: value for name, value in {**named, "in flight": parallelism}.items() if value is not None}


def figures(
    stations: Stations,
    result: Outcome,
    calibration: Calibration,
    wish: Wish,
    growth: float,
    why: str,
    max_conns: int,
    hosts: Hosts,
) -> list[tuple[str, str, int, str]]:
    """Return (name, key, value, what forced it) of each figure.

    Parameters
    ----------
    growth : float
        By how much more than for the target the stations were made.
    why : str
        What they are made for more for, in words; empty where the target needs so many by itself.
    max_conns : int
        Connections of each history host.
    hosts : dict
        Hosts of each service and the key that asks for so many.
    """
    there, demands = counts(stations, result.parallelism), calibration.demands
    server, database = cpu_needs(demands)
    busy = f"at most {wish.utilization / (growth if why else 1.0):.0%} busy{why}"
    lock = wish.lock_utilization / (growth if why else 1.0)
    counted = f"with CPUs {min(wish.utilization, BUSIEST):.0%} busy"
    rows = []
    if database is None:
        rows.append(("cores", "cores", stations.server, f"{milliseconds(server)} of CPU a start, {busy}"))
    else:
        rows.append(("server cores", "server_cores", stations.server, f"{milliseconds(server)} of CPU a start, {busy}"))
        rows.append(
            ("database cores", "database_cores", there["database cores"], f"{milliseconds(database)} a start, {busy}")
        )
    if wish.store != "sqlite":
        shards = result.utilization["shard locks"] * stations.shards * wish.shard_io_concurrency
        hold = milliseconds(shards / wish.target)
        rows.append(
            (
                "shards",
                "shards",
                stations.shards,
                f"lock held {hold} a start, at most {lock:.0%}{why} {counted}; power of 2",
            )
        )
        use = milliseconds(result.utilization["connections"] * stations.connections / wish.target)
        each = f"max_conns {max_conns} on {each_of('history host', hosts['history'][0])}"
        rows.append(
            ("connections", "max_conns", stations.connections, f"one in use {use} a start, {busy} {counted}; {each}")
        )
    for kind, name, rest in _KINDS:
        count, cap = hosts[kind]
        if cap is not None:
            if kind == "history" and not cap.caps_starts:
                rest = f"; above 100% {LATER}"
            reason = f"{cap.key} {number(cap.value)} each, {wish.utilization:.0%} used at most{rest}"
            rows.append((name, _field(name), count, reason))
    loops = stations.launchers
    rows.append(("launcher processes", "launcher_processes", loops, of_loops(calibration)))
    flight = f"{number(wish.target)}/s x {milliseconds(result.mean)}, the fewest that reach it"
    if result.parallelism == 1:
        flight = f"one after the other is enough, {milliseconds(result.mean)} each"
    elif result.parallelism == wish.batch:
        flight = f"the whole batch at once, {milliseconds(result.mean)} each"
    if loops > 1:
        flight += f"; {math.ceil(result.parallelism / loops)} in each process"
    rows.append(("in flight", "parallelism", result.parallelism, flight))
    return rows


def of_loops(calibration: Calibration) -> str:
    """Say what a launcher process can do."""
    cost = milliseconds(calibration.demands.launcher)
    return f"{cost} of CPU a start in a busy loop, {MAXIMUM_PARALLELISM} in flight each"


def found(result: Outcome, stations: Stations, calibration: Calibration, wish: Wish) -> tuple[tuple[str, str], ...]:
    """Return what to know of a plan that does it."""
    pools, locks = f"{wish.utilization:.0%}", f"{wish.lock_utilization:.0%}"
    lock = "lock of a shard" if wish.store != "sqlite" else "SQLite connection"
    works, loops = wish.target * calibration.demands.cpu, wish.target * calibration.demands.launcher
    said = [
        (
            "Cores",
            f"{stations.cpus:,} in all; a start takes {milliseconds(calibration.demands.cpu)} of CPU, so "
            f"{number(works)} of them work all the time, and {number(loops)} of the launcher's",
        ),
        (
            "Rule",
            f"no CPU, connection, launcher or rate is used above {pools} at the target, and no {lock} above "
            f"{locks}: nearer to full, waiting and p99 grow faster than starts (--headroom)",
        ),
    ]
    said.append(
        (
            "Margin",
            "where starts take longer than predicted, more in flight make up for it while there is headroom: let the "
            "launcher find how many; the high end of the interval is what to buy to be sure",
        )
    )
    if wish.store == "sqlite":
        return tuple(said)
    if stations.shards < CHART_SHARDS:
        said.append(
            (
                "Shards",
                f"their number can never be changed and they cost little: take {CHART_SHARDS}, the Helm chart's, "
                "unless the cluster will stay small",
            )
        )
    said.append(
        (
            "Enough",
            "shards and connections are counted for CPUs as busy as allowed; the whole cores of a small cluster are "
            "less busy, and then fewer can be enough",
        )
    )
    said.append(("Keys", "hosts are counted at the keys given; raising a key saves hosts, never cores"))
    return tuple(said)


def notes(
    calibration: Calibration, wish: Wish, plan: tuple[Stations, Outcome] | None = None
) -> tuple[tuple[str, str], ...]:
    """Return how far a target and its plan are from what was measured and published, and what it would take."""
    alone = response_without_load(calibration.demands, wish)
    said = []
    if wish.target > PUBLISHED:
        said.append(
            (
                "Reality",
                f"no published self-hosted cluster above {PUBLISHED:,} starts/s was found. Spread the starts over "
                "several clusters (namespaces of one share its database), or reconsider the target: who needs them so "
                f"fast, and what would run them? One second's starts take {wish.target / (PUBLISHED / 10):,.0f} s at "
                f"{PUBLISHED // 10:,}/s",
            )
        )
    if wish.target * alone > ORIGINAL or wish.target > PUBLISHED:
        said.append(
            (
                f"{ORIGINAL} workers",
                f"would need a mean of {milliseconds(ORIGINAL / wish.target)} a start (Little's law); here one that "
                f"waits for nothing takes {milliseconds(alone)}",
            )
        )
    said.append(("How sure", _certainty(calibration, wish, plan)))
    if not dict(zip(NAMES, calibration.fit.identified, strict=True))["lock"] and wish.store != "sqlite":
        said.append(
            ("Not told", "the sweep could not tell how long a start holds its shard's lock; a typical time is used")
        )
    return tuple(said)


def _certainty(calibration: Calibration, wish: Wish, plan: tuple[Stations, Outcome] | None) -> str:
    cpus = calibration.measurements.conditions.cluster_cpus
    best = max(point.throughput for point in usable(calibration.measurements.points))
    factor = wish.target / best
    if factor > 1:
        return (
            f"{number(factor)} times the highest rate measured ({number(best)}/s on {many(cpus, 'CPU')}, calibration "
            f"{calibration.name}). Intervals hold the noise of that sweep; they do not cover what was never seen: a "
            "large database's own locks and disks, the network between hosts. Sweep a cluster of a tenth of this size "
            "before buying it"
        )
    words = f"the rate is within what was measured ({number(best)}/s at best, calibration {calibration.name})"
    other = []
    if plan is not None:
        stations, result = plan
        if stations.database is not None:
            there = f"{stations.server:,} of the server, {stations.database:,} of the database"
            other.append(f"CPUs ({there}; the sweep had {cpus:,} for both)")
        elif stations.server != cpus:
            other.append(f"CPUs ({stations.server:,}; the sweep had {cpus:,})")
        if result.parallelism > calibration.measured_to:
            other.append(f"starts in flight ({result.parallelism:,}; the sweep went to {calibration.measured_to:,})")
    if not other:
        return words
    return f"{words}; {' and '.join(other)} are extrapolated: intervals hold only if what a start costs stays"


def risk(beyond: float) -> tuple[tuple[str, str], ...]:
    """Say for which share of the demands that the sweep leaves possible no cluster does it."""
    if not beyond:
        return ()
    return (("Risk", f"for {beyond:.0%} of what the sweep leaves possible, no cluster does what is asked"),)


def too_soon(missed: str | None, calibration: Calibration, wish: Wish) -> str:
    """Say that a batch is to be done before its starts can be, be they all in flight at once."""
    alone = milliseconds(response_without_load(calibration.demands, wish))
    if missed is None:
        within = milliseconds((wish.batch or 0) / wish.target)
        return f"the batch may take {within}, and one start that waits for nothing takes {alone}"
    return f"{missed}; that is the whole batch, and a start that waits for nothing takes {alone}"


def infeasible(missed: str, calibration: Calibration, wish: Wish) -> str:
    """Say why nothing does it, from what even stations many times too large miss."""
    if wish.store == "sqlite":
        return f"{missed}: SQLite has one connection, and no cores or shards add another; use PostgreSQL"
    if missed.startswith("p99"):
        return (
            f"{missed}, even with {MOST_GROWTH:.0f} times the cores or more, where a start waits for nothing and takes "
            f"{milliseconds(response_without_load(calibration.demands, wish))} on average: what remains is not "
            "waiting, and no cluster of such cores takes it away"
        )
    if wish.launchers is not None:
        loops = f"{wish.launchers} launcher process{'es' if wish.launchers > 1 else ''}"
        return f"{missed}: {loops} with at most {MAXIMUM_PARALLELISM} in flight each; allow more of them"
    return missed


def above(cap: Ceiling, wish: Wish) -> str:
    """Say that a rate which no number of hosts raises is too low."""
    share = wish.target / cap.rate
    used = f"{share:.0%}" if share > 1 else needs.above(share, wish.utilization)
    words = f"{number(wish.target)} starts/s are {used} of {cap.key} {number(cap.rate)} ({cap.name})"
    return f"{words}, more than {wish.utilization:.0%}; it holds for the whole {cap.scope} and grows with no host"


def too_few_loops(needed: int, there: int) -> str:
    """Say that launcher processes are missing."""
    return f"{needed:,} launcher processes are needed, of which {there:,} may be there; allow more of them"


def of_cloud(cap: Ceiling, wish: Wish) -> tuple[tuple[str, str], ...]:
    """Return what to know of a target on Temporal Cloud."""
    there = f"{number(wish.target * wish.network_delay)} for a network_delay of {milliseconds(wish.network_delay)}"
    said = [
        ("Cloud", "Temporal runs the cluster: only a namespace's limits and the launcher are yours to size"),
        (
            "In flight",
            f"{there}; the time that Temporal takes for a start is not known and comes on top, at "
            f"{MAXIMUM_PARALLELISM} in flight a process",
        ),
    ]
    times = math.ceil(wish.target / (cap.rate * wish.utilization) * 100 - 1e-6) / 100
    if times > 1:
        more = number(times)
        said.append(("What next", f"ask Temporal for {more} times the limit, or take {more} times as long"))
    return tuple(said)


def headline(sizing: Sizing) -> str:
    """Say in a sentence what was asked and whether it can be had."""
    asked = f"{number(sizing.target)} starts/s"
    if sizing.batch is not None:
        asked += f" ({sizing.batch:,} within {number(sizing.within or 0, 6)} s)"
    if sizing.p99 is not None:
        asked += f" at p99 {milliseconds(sizing.p99)}"
    if sizing.reason is not None:
        return f"Cannot be had: {asked}"
    return f"The smallest cluster for {asked}"


def interval(figure: Figure) -> str:
    """Say between what a figure lies; empty where it follows from configuration alone."""
    return "" if figure.low == figure.high else f"{figure.low:,} to {figure.high:,}"


def _field(name: str) -> str:
    return name.replace(" ", "_")
