"""Two settings in turns: blocks of one run each, in random order, on the same cluster.

Invariants: every block has both settings, one right after the other, with the background work of the first settled; of
every two blocks one begins with the baseline and one with the candidate, so that drift falls on both alike; the same
seed gives the same orders.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from capacity.cluster.guard import starts_left
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.experiment import launched, points, store
from capacity.experiment.local import ClusterCpu, LocalCluster, Quiet
from capacity.experiment.plan import START_SECONDS
from capacity.experiment.setting import Setting
from capacity.experiment.subject import conditions, ours, subject, tell_left
from capacity.experiment.wanted import Wanted
from capacity.model.measurement import Conditions, Point

FULL: Final = 15_000
"""Starts after which a cluster of our own is renewed between two blocks: one that fills becomes slower."""
WARM_UP: Final = 1.0
"""Seconds measured and thrown away on a new cluster: its first starts say nothing."""
MOST_BLOCKS: Final = 200

Subject = Callable[[Wanted, Callable[[str], None]], AbstractContextManager[tuple[Target, LocalCluster]]]


class Block(BaseModel):
    """Both settings, one right after the other.

    Attributes
    ----------
    index : int
        Place in the comparison, from 0.
    baseline_first : bool
        Which came first.
    baseline, candidate : Point
        What they did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    baseline_first: bool
    baseline: Point
    candidate: Point


@dataclass(frozen=True)
class Compared:
    """What a comparison brought.

    Parameters
    ----------
    baseline, candidate : Setting
    blocks : tuple of Block
        Whole ones only.
    conditions : Conditions
    seed : int
    stopped : bool
        Whether the user ended it.
    error : CapacityError, optional
        What ended it.
    left : int
        Workflows it left on an existing cluster; their ids begin with `prefix`.
    prefix : str
    """

    baseline: Setting
    candidate: Setting
    blocks: tuple[Block, ...]
    conditions: Conditions
    seed: int
    stopped: bool
    error: CapacityError | None
    left: int
    prefix: str


def notes(baseline: Setting, candidate: Setting, conditions: Conditions | None = None) -> list[str]:
    """Return what must be known to read a comparison of two settings; `conditions` are known at its end."""
    same = baseline.parallelism is not None and baseline.parallelism == candidate.parallelism
    same = same and baseline.processes == candidate.processes
    if same and baseline.name != candidate.name and not (baseline.needs_own_cluster or candidate.needs_own_cluster):
        return [f"{baseline.name} and {candidate.name} both come to {baseline.parallelism} in flight: one setting"]
    if conditions is not None and conditions.launcher_shares_cpus:
        return ["the launcher shared the cluster's CPUs, as on one machine"]
    return []


def orders(blocks: int, seed: int) -> tuple[bool, ...]:
    """Return for each block whether the baseline comes first: of every two one each, in random order.

    Examples
    --------
    >>> orders(6, seed=1)
    (True, False, False, True, False, True)
    """
    chance = random.Random(seed)
    found: list[bool] = []
    while len(found) < blocks:
        first = chance.random() < 0.5
        found += [first, not first]
    return tuple(found[:blocks])


class Comparing:
    """One comparison under way.

    Parameters
    ----------
    wanted : Wanted
        The cluster, the seconds of a run and the seed; its parallelisms are not used.
    baseline, candidate : Setting
    blocks : int
    on_block : callable
        Told of each block as soon as it is whole.
    say : callable
        Told, in sentences, what else happens.
    stop : callable
        Asked often; when it returns True the block under way is dropped and the comparison ends.
    cluster : callable
        Yields the cluster to measure, as `subject` does.

    Raises
    ------
    UsageError
        If the blocks are too few or too many, or a setting does not fit the cluster.
    """

    def __init__(
        self,
        wanted: Wanted,
        baseline: Setting,
        candidate: Setting,
        blocks: int,
        *,
        on_block: Callable[[Block], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        cluster: Subject = subject,
    ) -> None:
        if not 2 <= blocks <= MOST_BLOCKS:
            raise UsageError(f"blocks is {blocks}", allowed=f"2 to {MOST_BLOCKS}")
        self._orders = orders(blocks, wanted.seed)
        for setting in (baseline, candidate):
            setting.check(wanted.store)
            setting.applied(wanted)  # refuses a value that no server takes before any is started
        self._wanted, self._sides = wanted, (baseline, candidate)
        self._own_each = any(setting.needs_own_cluster for setting in self._sides)
        self._whole = any(setting.processes > 1 for setting in self._sides)
        self._on_block, self._say, self._stop, self._subject = on_block, say, stop, cluster
        self._prefix = f"compare-{secrets.token_hex(4)}"
        self._blocks: list[Block] = []
        self._conditions: Conditions | None = None
        self._started = self._here = self._runs = 0

    def run(self) -> Compared:
        """Take the blocks; blocks, and must not be called on an event loop.

        Raises
        ------
        CapacityError
            If it failed before the first block; what fails later is told in what is returned.
        KeyboardInterrupt
            If it was stopped before the first block.
        """
        stopped, error = False, None
        try:
            self._each_own() if self._own_each else self._on_one()
        except KeyboardInterrupt:
            stopped = True
        except (CapacityError, OSError) as raised:
            error = ours(raised)
        if self._conditions is None or not self._blocks:
            tell_left(self._say, self._started, self._wanted, self._prefix)
            raise error or KeyboardInterrupt
        left = self._started if self._wanted.target is not None else 0
        stopped = stopped or self._stop()
        blocks, seed = tuple(self._blocks), self._wanted.seed
        return Compared(*self._sides, blocks, self._conditions, seed, stopped, error, left, self._prefix)

    def _on_one(self) -> None:
        """All blocks on one cluster, renewed between blocks before it has filled."""
        todo = list(enumerate(self._orders))
        while todo and not self._stop():
            with self._subject(self._wanted, self._say) as (target, cluster):
                quiet = self._begin(target, cluster)
                full = False
                while todo and not full and not self._stop():
                    index, baseline_first = todo.pop(0)
                    taken = []
                    for side in (0, 1) if baseline_first else (1, 0):
                        taken.append(self._take(self._sides[side], target, cluster, quiet))
                    self._add(index, baseline_first, taken)
                    full = self._wanted.target is None and self._here >= FULL

    def _each_own(self) -> None:
        """Each half of a block on a fresh cluster, started as its setting says."""
        for index, baseline_first in enumerate(self._orders):
            taken = []
            for side in (0, 1) if baseline_first else (1, 0):
                if self._stop():
                    return
                setting = self._sides[side]
                with self._subject(setting.applied(self._wanted), self._say) as (target, cluster):
                    setting.prepare(cluster)
                    quiet = self._begin(target, cluster)
                    taken.append(self._take(setting, target, cluster, quiet))
            self._add(index, baseline_first, taken)

    def _begin(self, target: Target, cluster: LocalCluster) -> Quiet:
        self._here = 0
        quiet = Quiet(ClusterCpu(cluster).read)
        quiet.wait(self._stop)
        if self._wanted.target is None and not self._stop():
            self._measure(self._sides[0], target, cluster, WARM_UP)
        return quiet

    def _take(self, setting: Setting, target: Target, cluster: LocalCluster, quiet: Quiet) -> Point | None:
        quiet.wait(self._stop)
        if self._stop():
            return None
        before = self._here
        point = self._measure(setting, target, cluster, self._wanted.seconds)
        if point is None and not self._stop():
            starts_left(self._started)  # says so if the cap on starts is what ended it
            raise ClusterError(f"the run with {setting.name} ended before it was measured")
        return point.model_copy(update={"open_workflows": before}) if point is not None else None

    def _measure(self, setting: Setting, target: Target, cluster: LocalCluster, seconds: float) -> Point | None:
        self._runs += 1
        options: dict[str, Any] = {"prefix": f"{self._prefix}-{self._runs}", "cpu": ClusterCpu(cluster)}
        options |= {"allowed": self._wanted.allowed, "most": starts_left(self._started), "stop": self._stop}
        options["rps_limit"] = store.rps_limit(cluster.metrics_url)
        starts = options["starts"] = points.Starts()
        try:
            if self._whole:
                taken = asyncio.run(launched.measure(target, setting, seconds, **options))
            else:
                controller = options["controller"] = setting.controller()
                taken = asyncio.run(points.measure(target, controller.maximum, seconds, **options))
        finally:  # also of a run that ends with an error
            self._started += starts.made
            self._here += starts.made
        if self._conditions is None:
            self._conditions = conditions(self._wanted, target, cluster, taken.server_version)
        return taken.point

    def _add(self, index: int, baseline_first: bool, taken: Sequence[Point | None]) -> None:
        first, second = (taken[0], taken[1]) if baseline_first else (taken[1], taken[0])
        if first is None or second is None:
            return
        block = Block(index=index, baseline_first=baseline_first, baseline=first, candidate=second)
        self._blocks.append(block)
        self._on_block(block)


def estimate(blocks: int, seconds: float, store: str | None, own_each: bool) -> float:
    """Return how long a comparison takes, about [s]."""
    runs = 2 * blocks
    start = START_SECONDS[store][0] if store else 0.0
    clusters = runs if own_each else max(1, round(runs * seconds * 400 / FULL)) if store else 0
    return runs * (seconds + 3.5) + clusters * (start + WARM_UP + 3.0)
