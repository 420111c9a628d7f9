"""What a sweep is asked for, checked before anything is started."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from capacity.cluster.guard import check_target
from capacity.cluster.settings import Settings
from capacity.cluster.target import Target
from capacity.errors import UsageError
from capacity.experiment import local
from capacity.experiment.memory import LAUNCHES
from capacity.experiment.memory import SECONDS as MEMORY_SECONDS
from capacity.experiment.plan import FRESH, PARALLELISMS, Planned, duration, plan
from capacity.model.measurement import MOST_CPUS

RAISED: Final = {
    "frontend.rps": "1000000",
    "frontend.namespaceRPS": "1000000",
    "frontend.persistenceMaxQPS": "1000000",
    "history.rps": "1000000",
    "history.persistenceMaxQPS": "1000000",
    "matching.rps": "1000000",
    "matching.persistenceMaxQPS": "1000000",
}
"""Limits of a cluster of our own, out of the way so that the cluster itself binds."""
STORAGE_SECONDS: Final = 20.0
"""How long it takes to measure storage, about [s]."""


@dataclass(frozen=True)
class Wanted:
    """What a sweep is asked for.

    Parameters
    ----------
    parallelisms, holdout : sequence of int
        Starts in flight to fit on, and to predict.
    seconds : float
        Measured span of each point [s].
    repeats : int
        Rounds.
    seed : int
        Of the order.
    store : str, optional
        ``sqlite`` or ``postgres``: a cluster of the sweep's own; None: `target`.
    target : Target, optional
        An existing dev cluster.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    fresh : str
        A new cluster of its own for each ``round`` or each ``point``.
    shards, max_conns : int, optional
        Of a PostgreSQL stack of its own.
    cluster_cpus : frozenset of int, optional
        CPUs that a cluster of its own is held to.
    cluster_cores : int, optional
        CPUs of a cluster that is not on this machine.
    extras : bool
        Also measure storage, the store's times and the launcher's memory.
    note : str
        Kept with the measurements.
    dynamic_config : mapping of str
        Keys of a server of its own, beside the limits that are raised.

    Raises
    ------
    UsageError
        If one of them is out of range or does not fit another.
    """

    parallelisms: Sequence[int] = PARALLELISMS
    holdout: Sequence[int] = ()
    seconds: float = 6.0
    repeats: int = 3
    seed: int = 0
    store: str | None = "sqlite"
    target: Target | None = None
    allowed: Collection[str] = ()
    fresh: str = "round"
    shards: int | None = None
    max_conns: int | None = None
    cluster_cpus: frozenset[int] | None = None
    cluster_cores: int | None = None
    extras: bool = True
    note: str = ""
    dynamic_config: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Planned, ...] = field(init=False)

    def __post_init__(self) -> None:
        planned = plan(self.parallelisms, self.repeats, seed=self.seed, holdout=self.holdout)
        object.__setattr__(self, "points", planned)
        if not 1 <= self.seconds <= 600:
            raise UsageError(f"seconds is {self.seconds:g}", allowed="1 to 600")
        if self.fresh not in FRESH:
            raise UsageError(f"fresh is {self.fresh!r}", allowed=" or ".join(FRESH))
        if (self.store is None) == (self.target is None):
            given = "neither a store nor a target is" if self.store is None else "a store and a target are both"
            raise UsageError(f"{given} given", allowed="one of them", next_step="pass --store or --address")
        own = {"shards": self.shards, "max-conns": self.max_conns}
        for name, value in own.items():
            if value is not None and self.store != "postgres":
                raise UsageError(f"{name} is given", allowed="only with the store postgres")
        if self.cluster_cpus is not None:
            if self.store is None:
                raise UsageError(
                    "cluster-cpus is given with an existing cluster", next_step="hold it yourself, or pass --store"
                )
            with local.held_to(self.cluster_cpus):
                pass
        if self.cluster_cores is not None and not 1 <= self.cluster_cores <= MOST_CPUS:
            raise UsageError(f"cluster-cores is {self.cluster_cores}", allowed=f"1 to {MOST_CPUS:,}")
        if self.target is not None:
            check_target(self.target, self.allowed)
        if self.store is not None:
            self.settings()

    @property
    def where(self) -> str:
        """What is measured, in words."""
        if self.target is not None:
            return f"at {self.target.address}"
        place = "on an embedded server"
        if self.store != "sqlite":
            settings = self.settings()
            place = f"on PostgreSQL ({settings.shards} shards, {settings.max_conns} connections)"
        if self.cluster_cpus:
            place += f" held to CPU {','.join(map(str, sorted(self.cluster_cpus)))}"
        return place

    def settings(self) -> Settings:
        """Return what a PostgreSQL stack of its own is asked to be."""
        usual = Settings(store=self.store or "sqlite", port=0, dynamic_config={**RAISED, **self.dynamic_config})
        return replace(
            usual,
            shards=usual.shards if self.shards is None else self.shards,
            max_conns=usual.max_conns if self.max_conns is None else self.max_conns,
        )

    @property
    def freshness(self) -> str:
        """As `Conditions.fresh`."""
        return "no" if self.store is None else self.fresh

    def estimate(self) -> tuple[float, float]:
        """Return how long it takes, and how long at most [s]."""
        more = 0.0
        if self.extras:
            more = len(LAUNCHES) * (MEMORY_SECONDS + 2.0) + self.seconds + 5.0
            more += STORAGE_SECONDS if self.store == "postgres" else 0.0
        return duration(self.points, self.seconds, self.freshness, self.store, more)
