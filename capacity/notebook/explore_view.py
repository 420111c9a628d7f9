"""What the explorer shows for one setting of its controls: pure functions, no widgets.

Invariants: everything of a `Scene` is of one plan on one cluster; a cell is recommended only where it keeps every
limit; the figure and the table are of one solution of the model, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from capacity.figures import Across
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.memory import launcher_rss
from capacity.model.network import Parameters, Structure, solve
from capacity.model.prediction import AS_GOOD, Prediction, configured_rate, knee, predict
from capacity.model.queueing import Floats
from capacity.notebook.explore_ceilings import ceilings_of, stations_of
from capacity.rules.plan import PoolPlan
from capacity.rules.pool import DEFAULT_RULES
from capacity.rules.table import CPU_COUNTS, MULTIPLIERS, Cell, TuningTable, tuning_table

GRID: Final = (*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 513, 16))
"""Starts in flight at which the figure's curves are worked out; the plan's, the knee and the table's come on top."""


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
        The smallest parallelism with 0.95 of the highest throughput; the most there may be where that still rises.
    knee_beyond : bool
        Whether it does.
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
    knee_beyond: bool
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
    def duration(self) -> float:
        """How long the plan's batch takes [s]."""
        index = int(np.searchsorted(self.prediction.parallelism, self.flight))
        return float(self.prediction.duration.value[index])

    @property
    def binding(self) -> str:
        """What binds at the plan's parallelism."""
        index = int(np.searchsorted(self.prediction.parallelism, self.flight))
        return self.prediction.binding[index]


def scene(choice: Choice) -> Scene:
    """Work out everything for a choice, in about ten milliseconds."""
    plan, cluster, calibration = choice.plan, choice.cluster, choice.calibration
    cap = configured_rate(cluster)
    curve = _curve(stations_of(cluster), calibration.demands)
    at_knee, within = knee(np.minimum(curve[: plan.batch], cap.rate if cap else np.inf))
    table = tuning_table(sorted({*CPU_COUNTS, plan.cpus}), sorted({*MULTIPLIERS, plan.multiplier}))
    wanted = {cell.parallelism for row in table.rows for cell in row}
    grid = sorted({*GRID, *wanted, at_knee, plan.parallelism.value})
    found = predict(calibration, grid, cluster=cluster, structure=stations_of(cluster), batch=plan.batch, draws=0)
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
        knee_beyond=not within,
        table=table,
        cells=cells,
        recommended=_recommended(row),
        enough=_enough(choice, found),
        ceilings=ceilings_of(cluster, calibration),
    )


@lru_cache(maxsize=64)
def _curve(structure: Structure, demands: Parameters) -> Floats:
    return solve(structure, demands, DEFAULT_RULES.maximum).throughput


def _memory(choice: Choice, flight: int) -> float:
    processes = choice.cluster.launcher_processes
    each = launcher_rss(flight, choice.plan.batch, choice.calibration.measurements.memory, processes)
    return float(each) * processes


def _recommended(row: tuple[Tuned, ...]) -> tuple[int, int] | None:
    allowed = [tuned for tuned in row if not (tuned.slow or tuned.big)]
    if not allowed:
        return None
    best = max(tuned.throughput for tuned in allowed)
    good = (tuned for tuned in allowed if tuned.throughput >= AS_GOOD * best)
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
    return next(int(found.parallelism[i]) for i in kept if found.throughput.value[i] >= AS_GOOD * best)
