"""What the explorer shows for one setting of its controls: pure functions, no widgets.

Invariants: everything of a `Scene` is of one plan on one cluster; a cell is recommended only where it keeps every
limit; the figure and the table are of one solution of the model, so they cannot disagree.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from capacity.figures import Across, Curves, PredictionView
from capacity.model.calibration import Calibration
from capacity.model.cluster import CLOUD, Cluster
from capacity.model.limits import ceilings
from capacity.model.memory import launcher_rss
from capacity.model.network import Parameters, Structure, solve
from capacity.model.outlook import number, span
from capacity.model.prediction import Prediction, configured_rate, knee, predict, structure_for
from capacity.model.queueing import Floats
from capacity.rules.plan import PoolPlan
from capacity.rules.pool import DEFAULT_RULES
from capacity.rules.table import CPU_COUNTS, MULTIPLIERS, Cell, TuningTable, tuning_table

GRID: Final = (*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 513, 16))
"""Starts in flight at which the figure's curves are worked out; the plan's, the knee and the table's come on top."""

_DRAWN_UP_TO: Final = 4.0
"""Ceilings above so many times the highest throughput are named, not drawn: they would flatten the curve."""

_VERY_MANY: Final = 1e6
"""CPUs, or locks, that never bind."""

_AS_GOOD: Final = 0.95
"""Share of the best throughput that is as good as it: the knee's."""


@dataclass(frozen=True)
class Choice:
    """What the controls say.

    Parameters
    ----------
    plan : PoolPlan
    cluster : Cluster
        With the controls' cores, shards, connections, limits, delay and launcher processes.
    calibration : Calibration
    p99 : float, optional
        Highest p99 wanted [s].
    memory : float, optional
        What all launcher processes may take together [bytes].
    """

    plan: PoolPlan
    cluster: Cluster
    calibration: Calibration
    p99: float | None
    memory: float | None


@dataclass(frozen=True)
class Tuned:
    """A cell of the tuning table with what is predicted of it.

    Parameters
    ----------
    cell : Cell
        Parallelism by the rules.
    throughput, p99, memory : float
        Starts per second; seconds; bytes of all launcher processes.
    past_knee, slow, big : bool
        Beyond the knee, over the p99 wanted, over the memory limit.
    """

    cell: Cell
    throughput: float
    p99: float
    memory: float
    past_knee: bool
    slow: bool
    big: bool


@dataclass(frozen=True)
class Scene:
    """Everything on the screen for one choice.

    Parameters
    ----------
    choice : Choice
    prediction : Prediction
        At every parallelism of figure and table, without band.
    knee : int
    table : TuningTable
    cells : tuple of tuple of Tuned
    recommended : tuple of (int, int), optional
        CPUs and multiplier of the marked cell; None where no cell of the plan's row keeps the limits.
    enough : int, optional
        The fewest in flight that get as much within the limits, whatever the multiplier; None where none keeps them.
    ceilings : tuple of Across
        Lowest first.
    """

    choice: Choice
    prediction: Prediction
    knee: int
    table: TuningTable
    cells: tuple[tuple[Tuned, ...], ...]
    recommended: tuple[int, int] | None
    enough: int | None
    ceilings: tuple[Across, ...]

    @property
    def flight(self) -> int:
        """The plan's own parallelism."""
        return self.choice.plan.parallelism.value

    def at(self, flight: int) -> tuple[float, float]:
        """Starts per second and p99 [s] at a parallelism that is on the grid."""
        index = int(np.searchsorted(self.prediction.parallelism, flight))
        return float(self.prediction.throughput.value[index]), float(self.prediction.p99.value[index])

    def memory(self, flight: int) -> float:
        """Bytes of all launcher processes."""
        return float(_memory(self.choice, flight))

    @property
    def binding(self) -> str:
        """What binds at the plan's parallelism."""
        index = int(np.searchsorted(self.prediction.parallelism, self.flight))
        return self.prediction.binding[index]


def scene(choice: Choice) -> Scene:
    """Work out everything for a choice, in about ten milliseconds."""
    plan, cluster, calibration = choice.plan, choice.cluster, choice.calibration
    cap = configured_rate(cluster)
    curve = np.minimum(_curve(_stations_of(cluster), calibration.demands), cap.rate if cap else np.inf)
    at_knee = knee(curve)
    table = tuning_table(sorted({*CPU_COUNTS, plan.cpus}), sorted({*MULTIPLIERS, plan.multiplier}))
    wanted = {cell.parallelism for row in table.rows for cell in row}
    grid = sorted({*GRID, *wanted, at_knee, plan.parallelism.value})
    found = predict(calibration, grid, cluster=cluster, structure=_stations_of(cluster), batch=plan.batch, draws=0)
    where = {int(flight): i for i, flight in enumerate(found.parallelism)}

    def tuned(cell: Cell) -> Tuned:
        i = where[cell.parallelism]
        p99, memory = float(found.p99.value[i]), float(_memory(choice, cell.parallelism))
        return Tuned(
            cell=cell,
            throughput=float(found.throughput.value[i]),
            p99=p99,
            memory=memory,
            past_knee=cell.parallelism > at_knee,
            slow=choice.p99 is not None and p99 > choice.p99,
            big=choice.memory is not None and memory > choice.memory,
        )

    cells = tuple(tuple(tuned(cell) for cell in row) for row in table.rows)
    (row,) = (row for row in cells if row[0].cell.cpus == plan.cpus)
    return Scene(
        choice=choice,
        prediction=found,
        knee=at_knee,
        table=table,
        cells=cells,
        recommended=_recommended(row),
        enough=_enough(choice, found),
        ceilings=_ceilings(cluster, calibration),
    )


def _stations_of(cluster: Cluster) -> Structure:
    """The stations; those of Temporal Cloud are not known, and very many: infinity has no product with 0."""
    structure = structure_for(cluster)
    if cluster.store != "cloud":
        return structure
    return replace(structure, cpus=_VERY_MANY, locks=int(_VERY_MANY), connections=math.inf)


@lru_cache(maxsize=64)
def _curve(structure: Structure, demands: Parameters) -> Floats:
    return solve(structure, demands, DEFAULT_RULES.maximum).throughput


def _memory(choice: Choice, flight: int) -> float:
    processes = choice.cluster.launcher_processes
    each = launcher_rss(
        math.ceil(flight / processes),
        math.ceil(choice.plan.batch / processes),
        choice.calibration.measurements.memory,
    )
    return float(each) * processes


def _recommended(row: tuple[Tuned, ...]) -> tuple[int, int] | None:
    allowed = [tuned for tuned in row if not (tuned.slow or tuned.big)]
    if not allowed:
        return None
    best = max(tuned.throughput for tuned in allowed)
    good = (tuned for tuned in allowed if tuned.throughput >= _AS_GOOD * best)
    chosen = min(good, key=lambda tuned: (tuned.cell.parallelism, tuned.cell.multiplier)).cell
    return chosen.cpus, chosen.multiplier


def _enough(choice: Choice, found: Prediction) -> int | None:
    kept = [
        i
        for i, flight in enumerate(found.parallelism)
        if (choice.p99 is None or found.p99.value[i] <= choice.p99)
        and (choice.memory is None or _memory(choice, int(flight)) <= choice.memory)
    ]
    if not kept:
        return None
    best = max(found.throughput.value[i] for i in kept)
    return next(int(found.parallelism[i]) for i in kept if found.throughput.value[i] >= _AS_GOOD * best)


def _ceilings(cluster: Cluster, calibration: Calibration) -> tuple[Across, ...]:
    """Stations by the calibration's demands, and configured rates; equal ones as one, lowest first."""
    structure, demands = _stations_of(cluster), calibration.demands
    named: dict[float, list[str]] = {}
    for rate, name in (*_stations(structure, demands, cluster), *_rates(cluster)):
        if math.isfinite(rate):
            named.setdefault(round(rate, 6), []).append(name)
    rates = sorted(named)
    return tuple(Across(rate, ", ".join(named[rate]), binds=rate == rates[0]) for rate in rates)


def _stations(structure: Structure, demands: Parameters, cluster: Cluster) -> list[tuple[float, str]]:
    own = demands.launcher_idle if structure.shares_cpus else 0.0
    loops = (structure.launchers / demands.launcher, _resource("launcher", cluster))
    if cluster.store == "cloud":
        return [loops]
    if structure.database_cpus is None:
        found = [(structure.cpus / (demands.cpu + own), _resource("CPUs", cluster))]
    else:
        server = demands.cpu * (1 - demands.database)
        found = [(structure.cpus / server if server else math.inf, _resource("server CPUs", cluster))]
        database = demands.cpu * demands.database
        if database:
            found.append((structure.database_cpus / database, _resource("database CPUs", cluster)))
    if demands.lock:
        found.append((structure.locks / demands.lock, _resource(structure.lock_name, cluster)))
        if math.isfinite(structure.connections):
            found.append((structure.connections / demands.lock, _resource("connections", cluster)))
    return [*found, loops]


def _rates(cluster: Cluster) -> list[tuple[float, str]]:
    found = (ceiling for ceiling in ceilings(cluster) if ceiling.known and ceiling.caps_starts)
    keys = (*cluster.limits, *CLOUD)
    return [
        (ceiling.rate, f"{ceiling.key} x {ceiling.hosts}" if ceiling.hosts > 1 else ceiling.key)
        for ceiling in found
        if ceiling.key in keys
    ]


def _resource(resource: str, cluster: Cluster) -> str:
    """Name a resource with how many there are of it."""
    counts = {
        "CPUs": cluster.cores,
        "server CPUs": cluster.server_cores,
        "database CPUs": cluster.database_cores,
        "shard locks": cluster.shards * cluster.shard_io_concurrency,
        "connections": cluster.max_conns * cluster.history_hosts,
        "launcher": cluster.launcher_processes,
    }
    name = {"shard locks": "shards", "launcher": "launcher process"}.get(resource, resource)
    many = counts.get(resource)
    if many is None:
        return name
    if resource == "launcher" and many > 1:
        name = "launcher processes"
    return f"{many:,} {name.removesuffix('s') if many == 1 and name.endswith('s') and resource != 'launcher' else name}"


def drawn(found: Scene) -> tuple[Across, ...]:
    """The ceilings that the figure draws: the lowest, and those not far above the curve."""
    most = float(found.prediction.throughput.value.max())
    return tuple(c for i, c in enumerate(found.ceilings) if i == 0 or c.rate <= _DRAWN_UP_TO * most)


def rule(plan: PoolPlan) -> str:
    """What set the parallelism, in a few words."""
    if plan.override is not None:
        return f"{plan.parallelism.value:,} in flight"
    return f"{plan.multiplier}x on {plan.cpus:,} CPU{'' if plan.cpus == 1 else 's'}"


def finding(found: Scene) -> str:
    """The one line that says what the plan gets and what is in its way."""
    flight, at_knee, cluster = found.flight, found.knee, found.choice.cluster
    rate, _ = found.at(flight)
    most, _ = found.at(at_knee)
    who = rule(found.choice.plan)
    if flight < at_knee:
        return f"{who} gets {number(rate)}/s; {at_knee:,} in flight give {number(most)}/s"
    binds = _binds(found.binding, cluster, rate)
    if flight == at_knee:
        return f"{who} stands at the knee: {binds}"
    gain = rate / most - 1
    if gain < -0.02:
        return f"{who} gives {-gain:.0%} less than {at_knee:,} in flight: {binds}"
    bought = "nothing" if gain < 0.005 else f"{gain:.0%}"
    return f"{who} buys {bought} over {at_knee:,} in flight: {binds}"


def _binds(binding: str, cluster: Cluster, rate: float) -> str:
    if binding == "too few in flight":
        return f"{number(rate)}/s"
    named = _resource(binding, cluster)
    if named == binding:  # a key, or what there is one of
        return f"{named} binds at {number(rate)}/s"
    return f"the {named} {'binds' if named.startswith('1 ') else 'bind'} at {number(rate)}/s"


def explained(found: Scene) -> str:
    """Why which cell is recommended, in words."""
    choice = found.choice
    cpus = f"{choice.plan.cpus:,} CPU{'' if choice.plan.cpus == 1 else 's'}"
    limits = " and ".join(
        words
        for words, on in (
            (f"p99 {span(choice.p99 or 0)}", choice.p99 is not None),
            (f"{(choice.memory or 0) / 2**20:,.0f} MiB", choice.memory is not None),
        )
        if on
    )
    within = f" within {limits}" if limits else ""
    if found.recommended is None:
        words = f"No multiplier of {cpus} keeps{within.removeprefix(' within') or ' its limits'}."
    else:
        (cell,) = (
            tuned
            for row in found.cells
            for tuned in row
            if (tuned.cell.cpus, tuned.cell.multiplier) == found.recommended
        )
        flight = cell.cell.parallelism
        words = (
            f"Recommended for {cpus}: {cell.cell.multiplier}x, {flight:,} in flight, {number(cell.throughput)}/s at "
            f"p99 {span(cell.p99)}: the fewest in flight with {_AS_GOOD:.0%} of what any multiplier gets{within}."
        )
    if found.enough is None:
        return f"{words} One in flight does not either: p99 {span(found.at(1)[1])}."
    rate, p99 = found.at(found.enough)
    enough = f"{found.enough:,} in flight {'are' if found.enough > 1 else 'is'} enough"
    return f"{words} {enough}: {number(rate)}/s at p99 {span(p99)}."


def figure_view(found: Scene, band: Prediction | None) -> PredictionView:
    """What the figure shows; `band` holds the intervals once they are there."""
    prediction, choice = found.prediction, found.choice
    curves = Curves(
        at=tuple(prediction.parallelism.tolist()),
        throughput=tuple(prediction.throughput.value.tolist()),
        p99=tuple(prediction.p99.value.tolist()),
    )
    if band is not None:
        curves = replace(
            curves,
            band_at=tuple(band.parallelism.tolist()),
            throughput_low=tuple(band.throughput.low.tolist()),
            throughput_high=tuple(band.throughput.high.tolist()),
            p99_low=tuple(band.p99.low.tolist()),
            p99_high=tuple(band.p99.high.tolist()),
        )
    measured = choice.calibration.measurements
    cpus = measured.conditions.cluster_cpus
    rate, p99 = found.at(found.flight)
    return PredictionView(
        finding=finding(found),
        inputs=f"{html.escape(choice.cluster.name)}: p99 {span(p99)}, {choice.plan.batch:,} starts in "
        f"{span(choice.plan.batch / rate)}",
        curves=curves,
        ceilings=drawn(found),
        knee=(found.knee, found.at(found.knee)[0]),
        plan=(found.flight, rate, p99),
        measured=tuple((p.parallelism, p.throughput, p.p99) for p in measured.points if p.flag is None),
        measured_name=f"measured on {cpus} CPU{'' if cpus == 1 else 's'}",
        target=choice.p99,
    )


DRAWS: Final = 60
"""Parameter vectors behind a band: as many as a person who waits a moment can have."""


def banded(choice: Choice, grid: Sequence[int] = GRID) -> Prediction:
    """The prediction with its 90 % intervals, in some fifty milliseconds."""
    return predict(
        choice.calibration,
        grid,
        cluster=choice.cluster,
        structure=_stations_of(choice.cluster),
        batch=choice.plan.batch,
        draws=DRAWS,
    )
