"""The fewest CPUs, locks, connections and launchers that carry a rate: the search behind `sizing`.

Invariants: what `stations_for` gives never falls as the rate grows, so a larger target never needs less; whether it
is enough is asked of the solved network itself (`outcome`), never of the arithmetic that proposed it. A cluster too
large to be solved as a whole is solved as equal cells with an equal share of everything, which errs on the slow side:
two small pools wait longer than one large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from capacity.model.calibration import Calibration
from capacity.model.network import MAXIMUM_PARALLELISM, WITHOUT_LIMIT, Parameters, Solution, Structure, solve
from capacity.model.shape import Shape, shape_for, shaped
from capacity.model.words import milliseconds, short_of

MOST_IN_FLIGHT: Final = 2_048
"""How many starts in flight in one cell are looked at."""

MOST_GROWTH: Final = 16.0
FEW_CORES: Final = 64.0
"""How many times what the target needs, or how many cores if that is more, are tried before a p99 is given up."""

ROUNDING: Final = 5e-4
"""By which share a resource may be busier than allowed: less than is ever shown."""

BUSIEST: Final = 0.95
"""Up to how busy CPUs locks and connections are counted: nearer to full the queue that holds them has no end."""

_CELL: Final = 200
_CELL_CPUS: Final = 16
_NEAR: Final = 32


@dataclass(frozen=True)
class Wish:
    """What is asked of a cluster.

    Parameters
    ----------
    target : float
        Starts per second.
    p99 : float, optional
        Highest 99 % latency [s]; None is any.
    utilization : float
        How busy a pool of CPUs, connections or launchers may be at the target, 0 to 1.
    network_delay : float
        Round trip between launcher and frontend [s].
    shard_io_concurrency : int
        What each shard may do at once.
    launchers : int, optional
        Launcher processes there are; None is as many as it takes.
    store : str
        ``sqlite`` has one connection that everything waits for.
    batch : int, optional
        How many starts there are: no more can be in flight. None is without end.
    """

    target: float
    p99: float | None = None
    utilization: float = 0.8
    network_delay: float = 0.0
    shard_io_concurrency: int = 1
    launchers: int | None = None
    store: str = "postgres"
    batch: int | None = None

    @property
    def lock_utilization(self) -> float:
        """How busy a lock may be: half of a pool's, for each is a queue of its own and no other can help."""
        return self.utilization if self.store == "sqlite" else self.utilization / 2


@dataclass(frozen=True)
class Stations:
    """Resources of a cluster and its launcher; `database` is None where server and database share `server` CPUs."""

    server: int
    database: int | None
    shards: int
    connections: int
    launchers: int

    @property
    def cpus(self) -> int:
        """CPUs of server and database."""
        return self.server + (self.database or 0)

    def structure(self, wish: Wish, cells: int = 1) -> Structure:
        """Return them as the stations of the network, or of one of several equal cells of it."""
        return Structure.of(
            wish.store,
            cpus=self.server / cells,
            database_cpus=None if self.database is None else self.database / cells,
            locks=max(self.shards * wish.shard_io_concurrency // cells, 1),
            connections=self.connections / cells,
            launchers=math.ceil(self.launchers / cells),
            network_delay=wish.network_delay,
        )


@dataclass(frozen=True)
class Outcome:
    """What stations give at the fewest in flight that reach the target, or at most.

    Parameters
    ----------
    parallelism : int
        Starts in flight, over all launcher processes.
    throughput : float
        Starts per second with so many.
    mean, p99 : float
        Latency with so many [s].
    utilization : dict of float
        Of each resource at the target's rate, 0 to 1.
    misses : str, optional
        What they miss, in words; None where they do all that is asked.
    cells : int
        Into how many equal cells they were parted to be solved.
    """

    parallelism: int
    throughput: float
    mean: float
    p99: float
    utilization: dict[str, float]
    misses: str | None
    cells: int = 1


@dataclass(frozen=True)
class Load:
    """Starts of a rate on CPUs that are just as busy as allowed: real numbers, so that they grow with the rate.

    Parameters
    ----------
    holding : float
        Starts that hold a lock.
    connected : float
        Connections in use, for them and for starts that have their answer.
    in_flight : float
    """

    holding: float
    connected: float
    in_flight: float


def response_without_load(demands: Parameters, wish: Wish) -> float:
    """Return the latency of one start that waits for nothing [s]."""
    return demands.cpu * (1 - demands.background) + demands.other + demands.launcher + wish.network_delay


def load_of(demands: Parameters, wish: Wish, rate: float) -> Load:
    """Return how many starts hold a lock, how many connections are in use, and how many are in flight, at a rate."""
    busy, alone = min(wish.utilization, BUSIEST), response_without_load(demands, wish)
    server, database = cpu_needs(demands)
    cells = cells_for(rate * alone, rate * demands.cpu / busy)
    share = rate / cells
    structure = Structure(
        cpus=max(share * server / busy, 1.0),
        database_cpus=None if database is None else max(share * database / busy, 1.0),
        locks=WITHOUT_LIMIT,
        launchers=WITHOUT_LIMIT,
        network_delay=wish.network_delay,
    )
    solution = solved_to(structure, demands, share, MOST_IN_FLIGHT, alone)
    at, reached = place_of(solution, share)
    if not reached:
        return Load(math.inf, math.inf, math.inf)
    holding = cells * _between(solution.utilization()[structure.lock_name], at) * WITHOUT_LIMIT
    locked = wish.lock_utilization
    waiting = max(locked / (1 - locked) * (holding / locked - 1) - holding, 0.0)
    return Load(holding, holding * demands.connection / demands.lock, at * cells + waiting)


def cells_for(in_flight: float, cpus: float) -> int:
    """Return into how many equal cells a cluster is parted to be solved: a power of two, as shards are."""
    wanted = max(math.ceil(math.log2(in_flight / _CELL)), 0) if in_flight > 0 else 0
    return int(2 ** min(wanted, max(math.floor(math.log2(max(cpus, 1.0) / _CELL_CPUS)), 0)))


def cpu_needs(demands: Parameters) -> tuple[float, float | None]:
    """Return CPU per start of server and database [s]; of both and None where the sweep did not tell them apart."""
    if not demands.database:
        return demands.cpu, None
    return demands.cpu * (1 - demands.database), demands.cpu * demands.database


def stations_for(demands: Parameters, wish: Wish, rate: float) -> Stations | None:
    """Return the stations that a rate keeps as busy as allowed; None beyond what can be looked at.

    Locks are held while a start waits for CPUs, and connections with them: their number follows from a solved network
    whose CPUs are just as busy as allowed, not from the demand alone.
    """
    busy = wish.utilization
    server, database = cpu_needs(demands)
    load = load_of(demands, wish, rate)
    if math.isinf(load.holding):
        return None
    launchers = wish.launchers
    if launchers is None:
        in_flight = min(load.in_flight, wish.batch or math.inf)
        launchers = _whole(max(wish.target * demands.launcher / busy, in_flight / MAXIMUM_PARALLELISM))
    each = wish.lock_utilization * wish.shard_io_concurrency  # starts that may hold a lock of one shard
    shards = 1 if wish.store == "sqlite" else 2 ** max(math.ceil(math.log2(load.holding / each)), 0)
    return Stations(
        server=_whole(rate * server / busy),
        database=None if database is None else _whole(rate * database / busy),
        shards=shards,
        connections=_whole(load.connected / busy),
        launchers=launchers,
    )


def outcome(stations: Stations, calibration: Calibration, demands: Parameters, wish: Wish) -> Outcome:
    """Solve the network for these stations and say whether they do what is asked.

    `demands` may be others than the calibration's own, which then gives the shape of the latency only.
    """
    alone = response_without_load(demands, wish)
    cells = min(cells_for(wish.target * alone, stations.cpus), int(2 ** math.floor(math.log2(stations.launchers))))
    able = min(stations.launchers * MAXIMUM_PARALLELISM, wish.batch or math.inf) // cells
    at_most = max(int(min(able, MOST_IN_FLIGHT)), 1)
    target = wish.target / cells
    structure = stations.structure(wish, cells)
    solution = solved_to(structure, demands, target, at_most, alone)
    place, reached = place_of(solution, target)
    each = max(math.ceil(place - 1e-9), 1)
    throughput = float(solution.throughput[each - 1])
    used = {name: _between(share, place) for name, share in solution.utilization().items()}
    used["launcher"] = min(min(throughput * cells, wish.target) * demands.launcher / stations.launchers, 1.0)
    p99 = p99_of(solution, each, shape_for(calibration, structure))
    return Outcome(
        parallelism=each * cells,
        throughput=throughput * cells,
        mean=each / throughput,
        p99=p99,
        utilization=used,
        misses=_missed(used, p99, None if reached else throughput * cells, each * cells, wish, structure.lock_name),
        cells=cells,
    )


def _missed(
    used: dict[str, float], p99: float, at_most: float | None, parallelism: int, wish: Wish, lock: str
) -> str | None:
    allowed = {name: wish.lock_utilization if name == lock else wish.utilization for name in used}
    over = {name: share / allowed[name] for name, share in used.items() if share > allowed[name] * (1 + ROUNDING)}
    # Locks and connections are held while a start waits for a CPU: where both are too busy, the CPUs are why.
    cpus = [name for name in over if name.endswith("CPUs")]
    worst = max(cpus or over, key=lambda name: over[name], default=None)
    if at_most is not None:
        why = f"{worst} {used[worst]:.0%} busy" if worst is not None else "no more may be in flight"
        return f"at most {short_of(at_most, wish.target)}/s with {parallelism:,} in flight: {why}"
    if worst is not None:
        return f"{worst} {above(used[worst], allowed[worst])} busy at the target, more than {allowed[worst]:.0%}"
    if wish.p99 is not None and p99 > wish.p99:
        return f"p99 {milliseconds(p99)}, more than {milliseconds(wish.p99)}"
    return None


def p99_of(solution: Solution, parallelism: int, shape: Shape) -> float:
    """Return the 99 % latency [s], as `predict` has it."""
    theory, mean = solution.network.quantile(0.99, 0, [parallelism]), solution.network.response[[parallelism - 1]]
    return float(shaped(shape, 0.99, theory, mean, np.array([float(parallelism)]), solution.structure.network_delay)[0])


def least_growth(
    calibration: Calibration, demands: Parameters, wish: Wish, *, exact: float = 1e-4
) -> tuple[float, str | None]:
    """Return the least factor by which the target must be overstated so that the stations made for it do what is asked.

    With it what even the largest stations miss; None where some do all. Factor times target lies on one geometric grid
    for all targets, with steps of a share `exact`: two targets that need the same find the same.
    """

    def misses(place: int) -> str | None:
        stations = stations_for(demands, wish, math.exp(place * exact))
        if stations is None:
            return "more starts would have to be in flight than can be looked at"
        return outcome(stations, calibration, demands, wish).misses

    def growth(place: int) -> float:
        return math.exp(place * exact) / wish.target

    low = math.ceil(math.log(wish.target) / exact - 1e-6)
    if misses(low) is None:
        return growth(low), None
    near = low + _NEAR
    if misses(near) is None:  # often a hair is missing: what waiters cost
        return growth(_least(low, near, lambda place: misses(place) is None)), None
    low = near
    most = max(MOST_GROWTH * wish.target, FEW_CORES * wish.utilization / demands.cpu)
    high = math.ceil(math.log(most) / exact)
    said = misses(high)
    if said is not None:
        return growth(high), said
    return growth(_least(low, high, lambda place: misses(place) is None)), None


def _least(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The least of low + 1 .. high that is enough; high is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def solved_to(structure: Structure, demands: Parameters, rate: float, at_most: int, alone: float) -> Solution:
    """Solve for as many in flight as reach a rate, where `at_most` do; it stops where throughput falls."""
    population = min(max(math.ceil(1.5 * rate * alone) + 8, 16), at_most)
    while True:
        solution = solve(structure, demands, population)
        throughput = solution.throughput
        past_peak = int(np.argmax(throughput)) < population - 1
        if throughput.max() >= rate or past_peak or population == at_most:
            return solution
        population = min(2 * population, at_most)


def place_of(solution: Solution, rate: float) -> tuple[float, bool]:
    """Return the number in flight, as a real number, that gives a rate; that of the most where none does."""
    throughput = solution.throughput
    if throughput.max() < rate:
        return float(np.argmax(throughput)) + 1, False
    first = int(np.argmax(throughput >= rate))
    before = 0.0 if first == 0 else float(throughput[first - 1])
    return first + (rate - before) / (float(throughput[first]) - before), True


def _between(values: np.ndarray[tuple[int], np.dtype[np.float64]], place: float) -> float:
    """A quantity by the number in flight, at a real number of them; 0 with none."""
    return float(np.interp(place, np.arange(values.size + 1), np.concatenate([[0.0], values])))


def above(share: float, allowed: float) -> str:
    """A share in per cent, with as many digits as tell it from what is allowed.

    >>> above(0.843, 0.8), above(0.80013, 0.8)
    ('84.3%', '80.01%')
    """
    for digits in (1, 2, 3):
        if round(share * 100, digits) > round(allowed * 100, digits):
            break
    return f"{share:.{digits}%}"


def _whole(need: float) -> int:
    return max(math.ceil(need - 1e-9), 1)
