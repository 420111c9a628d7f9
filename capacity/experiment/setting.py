"""One side of a comparison: how many in flight, or how fast, by how many processes, with which keys of the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from capacity.cluster.settings import checked_config
from capacity.errors import UsageError
from capacity.experiment.local import LocalCluster
from capacity.experiment.pressure import drop_unused
from capacity.experiment.wanted import Wanted
from capacity.fleet import MOST_PROCESSES
from capacity.launcher.controller import Controller
from capacity.launcher.settings import controller_for
from capacity.rules.cpus import available_cpus
from capacity.rules.flight import flight_of, is_auto

ALLOWED: Final = "2x, 64, auto, rate=300, processes=2, or a server's key=value"
DROPPED: Final = "unused-indexes"
"""Setting of a PostgreSQL stack of our own: ``unused-indexes=dropped``."""
_OF_THE_STACK: Final = {"shards": "shards", "max-conns": "max_conns", "max_conns": "max_conns"}


@dataclass(frozen=True)
class Setting:
    """One side of a comparison.

    Parameters
    ----------
    name : str
        As it was asked for: ``4x``, ``auto``, ``rate=300``, ``history.shardIOConcurrency=4``.
    parallelism : int, optional
        Starts in flight; None where a controller finds them or a rate is due.
    rate : float, optional
        Starts due per second [1/s].
    reason : str
        Where the number comes from.
    processes : int
        Launcher processes that share the starts in flight, or the rate.
    keys : mapping of str
        Dynamic configuration, ``shards`` and ``max_conns`` of its own cluster.
    says_flight : bool
        Whether its name says how many are in flight, or how many are due.
    """

    name: str
    parallelism: int | None
    rate: float | None = None
    reason: str = ""
    processes: int = 1
    keys: Mapping[str, str] = field(default_factory=dict)
    says_flight: bool = True

    @property
    def needs_own_cluster(self) -> bool:
        """Whether each of its runs needs a cluster of its own."""
        return bool(self.keys)

    @property
    def label(self) -> str:
        """Its name, and in flight what that comes to where the name does not say it."""
        said = self.parallelism is None or str(self.parallelism) in self.name.split(",")
        return self.name if said else f"{self.name} ({self.parallelism} in flight)"

    @property
    def is_auto(self) -> bool:
        """Whether a controller finds how many are in flight."""
        return self.parallelism is None and self.rate is None

    @property
    def control(self) -> dict[str, Any]:
        """The options with which `capacity.launch` launches so."""
        parallelism = "auto" if self.is_auto else self.parallelism
        return {"parallelism": parallelism, "rate": self.rate, "processes": self.processes}

    def controller(self) -> Controller:
        """Return what decides in its runs."""
        if self.rate is not None:
            return controller_for(rate=self.rate)[0]
        return controller_for("auto" if self.parallelism is None else self.parallelism)[0]

    def applied(self, wanted: Wanted) -> Wanted:
        """Return the cluster its runs are on."""
        own = {_OF_THE_STACK[key]: int(value) for key, value in self.keys.items() if key in _OF_THE_STACK}
        config = {key: value for key, value in self.keys.items() if key not in _OF_THE_STACK and key != DROPPED}
        return replace(wanted, **own, dynamic_config={**wanted.dynamic_config, **config})  # type: ignore[arg-type]

    def check(self, store: str | None) -> None:
        """Refuse keys of a server that is not ours to restart, or that the store does not have."""
        if not self.needs_own_cluster:
            return
        if store is None:
            raise UsageError(
                f"{self.name}: an existing cluster is not restarted with other keys",
                next_step="name no address: a cluster of its own is started for each run",
            )
        for key in self.keys:
            if (key in _OF_THE_STACK or key == DROPPED) and store != "postgres":
                raise UsageError(f"{self.name}: {key} is given", allowed="only with the store postgres")

    def prepare(self, cluster: LocalCluster) -> None:
        """Do to a fresh cluster what is to be done."""
        if DROPPED in self.keys:
            drop_unused(cluster)


def setting_of(text: str, *, cpus: int | None = None, beside: str = "4x") -> Setting:
    """Return what a word of the command line says.

    Parameters
    ----------
    text : str
        As in `ALLOWED`; several are joined by commas: ``64,history.shardIOConcurrency=4``.
    cpus : int, optional
        CPUs that ``2x`` multiplies; by default those of this machine.
    beside : str
        Parallelism of a setting that names only keys of the server.

    Raises
    ------
    UsageError
        In one line.

    Examples
    --------
    >>> setting_of("4x", cpus=2).parallelism, setting_of("rate=300").rate
    (8, 300.0)
    >>> setting_of("shards=8", cpus=2).label
    'shards=8 (8 in flight)'
    >>> setting_of("4x,processes=2", cpus=2).processes, setting_of("2 processes", cpus=2).parallelism
    (2, 8)
    """
    launcher: Setting | None = None
    processes: int | None = None
    keys: dict[str, str] = {}
    for part in (part.strip() for part in text.split(",")):
        if (count := _processes(part)) is not None:
            if processes is not None:
                raise UsageError(f"setting {text!r} says twice how many processes")
            processes = count
            continue
        key, equals, value = part.partition("=")
        if key == DROPPED:
            if value != "dropped":
                raise UsageError(f"{key} is {value!r}", allowed="dropped")
            keys |= {key: value}
            continue
        if equals and key != "rate":
            if key in keys:
                raise UsageError(f"setting {text!r} has {key} twice")
            keys |= _key(key, value)
            continue
        if launcher is not None:
            raise UsageError(f"setting {text!r} says twice how many are in flight", allowed=ALLOWED)
        launcher = _rate(part, value) if equals else _flight(part, cpus)
    says_flight, launcher = launcher is not None, launcher or _flight(beside, cpus, "parallelism", "64, 4x or auto")
    return replace(launcher, name=text.strip(), processes=processes or 1, keys=keys, says_flight=says_flight)


def _processes(part: str) -> int | None:
    """Return how many processes ``processes=2`` or ``2 processes`` says; None where it says something else."""
    found = re.fullmatch(r"process(?:es)? *[=:] *(?P<a>.*)|(?P<b>\S+) +process(?:es)?", part)
    if found is None:
        return None
    word = found["a"] if found["a"] is not None else found["b"]
    if not re.fullmatch(r"[0-9]{1,4}", word, re.ASCII) or not 1 <= int(word) <= MOST_PROCESSES:
        raise UsageError(f"setting {part!r}: processes is {word!r}", allowed=f"processes=1 to {MOST_PROCESSES}")
    return int(word)


def _key(key: str, value: str) -> dict[str, str]:
    if not key or not value:
        raise UsageError(f"setting {f'{key}={value}'!r}", allowed=ALLOWED)
    if key in _OF_THE_STACK:
        if not re.fullmatch(r"[0-9]{1,5}", value):
            raise UsageError(f"{key} is {value!r}", allowed="a whole number")
        return {key: value}
    if "." not in key:
        raise UsageError(f"setting {f'{key}={value}'!r}: {key} is no key of a server", allowed=ALLOWED)
    checked_config({key: value})
    return {key: value}


def _rate(text: str, value: str) -> Setting:
    try:
        rate = float(value)
    except ValueError:
        raise UsageError(
            f"setting {text!r}: the rate is no number", allowed="rate=300: starts due per second"
        ) from None
    controller_for(rate=rate)
    return Setting(text, None, rate, f"{rate:g} starts/s are due")


def _flight(text: str, cpus: int | None, name: str = "setting", allowed: str = ALLOWED) -> Setting:
    if is_auto(text):
        return Setting(text, None, None, "auto finds the knee")
    # Both sides of a comparison are as named: SCHEDULER_MAX_PARALLELISM would make them one.
    sized = flight_of(text, name, allowed).on(available_cpus().count if cpus is None else cpus)
    return Setting(text, sized.value, None, sized.reason)
