"""What caps a cluster's starts, by name: its stations by the calibration's demands, and its configured rates."""

from __future__ import annotations

import math
from typing import Final

from capacity.figures import Across
from capacity.model.calibration import Calibration
from capacity.model.cluster import CLOUD, Cluster
from capacity.model.limits import ceilings
from capacity.model.network import Parameters, Structure, bounds
from capacity.model.prediction import structure_for
from capacity.model.words import many

_VERY_MANY: Final = 1e6
"""CPUs, or locks, that never bind."""


def stations_of(cluster: Cluster) -> Structure:
    """The stations; those of Temporal Cloud are not known, and very many: infinity has no product with 0."""
    if cluster.store != "cloud":
        return structure_for(cluster)
    many, launchers, delay = _VERY_MANY, cluster.launcher_processes, cluster.network_delay
    return Structure(cpus=many, locks=int(many), launchers=launchers, network_delay=delay)


def ceilings_of(cluster: Cluster, calibration: Calibration) -> tuple[Across, ...]:
    """Stations by the calibration's demands, and configured rates; equal ones as one, lowest first."""
    structure, demands = stations_of(cluster), calibration.demands
    named: dict[float, list[str]] = {}
    for rate, name in (*_stations(structure, demands, cluster), *_rates(cluster)):
        if math.isfinite(rate):
            named.setdefault(round(rate, 6), []).append(name)
    rates = sorted(named)
    return tuple(Across(rate, ", ".join(named[rate]), binds=rate == rates[0]) for rate in rates)


def _stations(structure: Structure, demands: Parameters, cluster: Cluster) -> list[tuple[float, str]]:
    known = {"launcher"} if cluster.store == "cloud" else None
    found = bounds(structure, demands).items()
    return [(rate, resource_name(name, cluster)) for name, rate in found if known is None or name in known]


def _rates(cluster: Cluster) -> list[tuple[float, str]]:
    found = (ceiling for ceiling in ceilings(cluster) if ceiling.known and ceiling.caps_starts)
    keys = (*cluster.limits, *CLOUD)
    return [
        (ceiling.rate, f"{ceiling.key} x {ceiling.hosts}" if ceiling.hosts > 1 else ceiling.key)
        for ceiling in found
        if ceiling.key in keys
    ]


def resource_name(resource: str, cluster: Cluster) -> str:
    """Name a resource with how many there are of it."""
    counts = cluster.counts() | {"launcher": cluster.launcher_processes}
    one, several = {"shard locks": ("shard", "shards"), "launcher": ("launcher process", "launcher processes")}.get(
        resource, (resource.removesuffix("s"), resource)
    )
    count = counts.get(resource)
    if count is None:
        return one if resource == "launcher" else several
    return many(count, one, several)
