"""The other way round: the fewest CPUs that start so many workflows per second, and what a smaller cluster lacks.

Shards and connections are counted for CPUs as busy as allowed: no more of them are needed, and often fewer are enough.

Invariants: a plan does what is asked when the model is solved for it. What cannot be done is a result with its reason,
never an error.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np

from capacity.errors import UsageError
from capacity.model import advice
from capacity.model.calibration import Calibration
from capacity.model.cheaper import cheaper
from capacity.model.cluster import CLOUD, Cluster
from capacity.model.limits import Ceiling, ceilings
from capacity.model.needs import Outcome, Stations, Wish, least_growth, outcome, response_without_load, stations_for
from capacity.model.network import MAXIMUM_PARALLELISM, Parameters
from capacity.model.prediction import predict
from capacity.model.sized import Figure, Predicted, Sizing
from capacity.model.storage import DAY, storage_need
from capacity.model.words import milliseconds, number

HEADROOM: Final = 0.2
"""Share of every resource that is left free."""
MOST: Final = 1_000_000
"""The highest target, starts per second."""
DRAWS: Final = 100
"""Parameter vectors for the intervals."""
_COARSE_DRAWS: Final = 40
STOCK_CLUSTER: Final = Cluster(name="the server's defaults", server_cores=1, database_cores=1)


def size(
    calibration: Calibration,
    target: float | None = None,
    *,
    p99: float | None = None,
    batch: int | None = None,
    within: float | None = None,
    retention_days: float = 1.0,
    headroom: float = HEADROOM,
    cluster: Cluster = STOCK_CLUSTER,
    launchers: int | None = None,
    draws: int = DRAWS,
) -> Sizing:
    """Find the smallest cluster that reaches a target: the fewest CPUs, and what lets them be as busy as allowed.

    Parameters
    ----------
    calibration : Calibration
        What a start costs.
    target : float, optional
        Starts per second, up to `MOST`; or `batch` starts `within` seconds.
    p99 : float, optional
        Highest 99 % latency [s].
    retention_days : float
        How long a finished workflow is kept.
    headroom : float
        Share of CPUs, connections, launchers and rates left free, 0.01 to 0.9; of a shard's lock half of the rest is.
    cluster : Cluster
        Whose configured rates, network delay and `shard_io_concurrency` apply; its counts do not.
    launchers : int, optional
        Launcher processes there are; by default as many as it takes.
    draws : int
        Parameter vectors for the intervals; 0 gives intervals of no width.

    Raises
    ------
    UsageError
        The target is missing, given twice, or out of range.
    """
    wanted = _target(target, batch, within)
    for name, value, low, high in (
        ("p99", p99, 1e-6, 3600.0),
        ("retention days", retention_days, 0.04, 36_500.0),  # a server keeps an hour at least
        ("headroom", headroom, 0.01, 0.9),
        ("processes", launchers, 1, 10_000),
    ):
        if value is not None and not low <= value <= high:
            raise UsageError(f"{name} is {value:g}", allowed=f"{low:g} to {high:g}")
    wish = Wish(
        target=wanted,
        p99=p99,
        utilization=1 - headroom,
        network_delay=cluster.network_delay,
        shard_io_concurrency=cluster.shard_io_concurrency,
        launchers=launchers,
        store=calibration.measurements.conditions.store,
        batch=batch,
    )
    starts, period = (wanted * DAY, "day") if batch is None else (float(batch), "batch")
    blank = Sizing(wanted, p99, headroom, batch, within, calibration.name, None)
    result = replace(blank, storage=storage_need(calibration, starts, period, retention_days))
    if cluster.store == "cloud":
        return _on_cloud(blank, cluster, wish, calibration)
    return _Search(calibration, wish, cluster, draws).fill(result)


def _target(target: float | None, batch: int | None, within: float | None) -> float:
    beside = [name for name, value in (("batch", batch), ("within", within)) if value is not None]
    if (target is None) != bool(beside):
        given = "no target is given" if target is None else f"target and {beside[0]} are both given"
        raise UsageError(given, allowed="a target in starts/s, or a batch with within")
    if (batch is None) != (within is None):
        raise UsageError(
            "batch without within" if within is None else "within without batch",
            allowed="both: so many starts within so many seconds",
            next_step="for example --batch 750000 --within 600",
        )
    if batch is not None and within is not None:
        if batch < 1:
            raise UsageError(f"batch is {batch}", allowed="1 start or more")
        if not 0 < within < math.inf:
            raise UsageError(f"within is {within:g}", allowed="more than 0 seconds")
        target = batch / within
    assert target is not None
    if not 0.001 <= target <= MOST:
        raise UsageError(f"the target is {target:g} starts/s", allowed=f"0.001 to {MOST:,}")
    return float(target)


def _on_cloud(blank: Sizing, cluster: Cluster, wish: Wish, calibration: Calibration) -> Sizing:
    cap = next(ceiling for ceiling in ceilings(cluster) if ceiling.key in CLOUD)
    busy = wish.target * calibration.demands.launcher / wish.utilization
    loops = max(math.ceil(busy), math.ceil(wish.target * wish.network_delay / MAXIMUM_PARALLELISM), 1)
    notes = advice.of_cloud(cap, wish)
    if wish.p99 is not None:
        return replace(blank, reason="no p99 of Temporal Cloud can be told: its CPUs are not known", notes=notes)
    if wish.launchers is not None and loops > wish.launchers:
        return replace(blank, reason=advice.too_few_loops(loops, wish.launchers), notes=notes)
    if wish.target > cap.rate * wish.utilization:
        return replace(blank, reason=advice.above(cap, wish), notes=notes)
    figure = Figure("launcher processes", loops, loops, loops, "launcher_processes", advice.of_loops(calibration))
    return replace(blank, figures=(figure,), cluster=cluster, notes=notes)


class _Search:
    """One search: the plan, its intervals, and the plans next to it."""

    def __init__(self, calibration: Calibration, wish: Wish, cluster: Cluster, draws: int) -> None:
        self.calibration, self.wish, self.base, self.draws = calibration, wish, cluster, draws
        store = wish.store if wish.store in ("sqlite", "postgres") else "postgres"
        self.one_host = cluster.changed({"frontends": 1, "history_hosts": 1, "matching_hosts": 1, "store": store})

    def fill(self, blank: Sizing) -> Sizing:
        calibration, wish = self.calibration, self.wish
        notes = advice.notes(calibration, wish)
        fixed = [c for c in self._rates() if ".global" in c.key and c.rate * wish.utilization < wish.target]
        if fixed:
            return replace(blank, reason=advice.above(fixed[0], wish), notes=notes)
        if wish.batch is not None and wish.batch / wish.target < response_without_load(calibration.demands, wish):
            return replace(blank, reason=advice.too_soon(None, calibration, wish), notes=notes)
        growth, missed = least_growth(calibration, calibration.demands, wish)
        endless = replace(wish, batch=None)
        if (
            missed is not None
            and endless != wish
            and least_growth(calibration, calibration.demands, endless)[1] is None
        ):
            return replace(blank, reason=advice.too_soon(missed, calibration, wish), notes=notes)
        if missed is not None:
            return replace(blank, reason=advice.infeasible(missed, calibration, wish), notes=notes)
        stations = self._stations(calibration.demands, growth)
        result = self._outcome(stations)
        hosts = {kind: self._hosts(kind) for kind in ("frontend", "history", "matching")}
        each = math.ceil(stations.connections / hosts["history"][0])
        try:
            cluster = self._cluster(stations, each, {kind: count for kind, (count, _) in hosts.items()})
        except UsageError as error:
            return replace(blank, reason=f"it takes more than a cluster can have: {error}", notes=notes)
        throughput, mean, p99 = self._predicted(stations, result)
        drawn, beyond = self._drawn(growth)
        figures = []
        rows = advice.figures(stations, result, calibration, wish, growth, self._forced(growth), each, hosts)
        for name, key, value, reason in rows:
            low, high = drawn.get(name, (value, value))
            figures.append(Figure(name, value, min(low, value), max(high, value), key, reason))
        return replace(
            blank,
            figures=tuple(figures),
            cluster=cluster,
            throughput=throughput,
            mean=mean,
            latency_p99=p99,
            utilization=result.utilization,
            missed=tuple(cheaper(stations, result, hosts, calibration, wish)),
            notes=(
                *advice.notes(calibration, wish, (stations, result)),
                *advice.risk(beyond),
                *advice.found(result, stations, calibration, wish),
            ),
        )

    def _stations(self, demands: Parameters, growth: float) -> Stations:
        found = stations_for(demands, self.wish, self.wish.target * growth)
        assert found is not None, "least_growth found it possible"
        return found

    def _forced(self, growth: float) -> str:
        """Why stations are made for more than the target, in words; empty where it needs so many by itself."""
        wish = self.wish
        for less, why in (
            (replace(wish, p99=None), f" for p99 {milliseconds(wish.p99 or 0)}"),
            (replace(wish, p99=None, batch=None), f" for no more than {wish.batch or 0:,} in flight"),
        ):
            if less != wish and least_growth(self.calibration, self.calibration.demands, less)[0] < growth:
                return why
        return ""

    def _outcome(self, stations: Stations) -> Outcome:
        return outcome(stations, self.calibration, self.calibration.demands, self.wish)

    def _rates(self) -> list[Ceiling]:
        """The configured rates of one host of each service."""
        found = ceilings(self.one_host)
        return [ceiling for ceiling in found if ceiling.known and ceiling.key in self.base.limits]

    def _hosts(self, kind: str) -> tuple[int, Ceiling | None]:
        """How many hosts of a service its lowest key asks for, so that what follows a start keeps up as well."""
        own = [c for c in self._rates() if c.key.startswith(f"{kind}.") and ".global" not in c.key]
        if not own:
            return 1, None
        lowest = min(own, key=lambda ceiling: ceiling.rate)
        return max(math.ceil(self.wish.target / (lowest.rate * self.wish.utilization) - 1e-9), 1), lowest

    def _cluster(self, stations: Stations, max_conns: int, hosts: dict[str, int]) -> Cluster:
        sqlite = self.wish.store == "sqlite"
        described: dict[str, Any] = {
            "name": f"sized for {number(self.wish.target, 6)} starts/s",
            "store": self.one_host.store,
            "shards": stations.shards,
            "shard_io_concurrency": self.wish.shard_io_concurrency,
            "max_conns": 1 if sqlite else max_conns,
            "frontends": hosts["frontend"],
            "history_hosts": hosts["history"],
            "matching_hosts": hosts["matching"],
            "launcher_processes": stations.launchers,
            "network_delay": self.wish.network_delay,
            "limits": self.base.limits,
        }
        if stations.database is None:
            return Cluster.model_validate({**described, "cores": stations.server})
        cores = {"server_cores": stations.server, "database_cores": stations.database}
        return Cluster.model_validate({**described, **cores})

    def _predicted(self, stations: Stations, result: Outcome) -> tuple[Predicted, Predicted, Predicted]:
        """What `predict` says of the plan, with intervals; of a large one by its cells."""
        calibration, cells = self.calibration, result.cells
        found = predict(
            calibration,
            [result.parallelism // cells],
            structure=stations.structure(self.wish, cells),
            draws=self.draws,
        )
        rate, mean, p99 = found.throughput, found.mean, found.p99
        return (
            Predicted(*(float(each[0]) * cells for each in (rate.value, rate.low, rate.high))),
            Predicted(*(float(each[0]) for each in (mean.value, mean.low, mean.high))),
            Predicted(*(float(each[0]) for each in (p99.value, p99.low, p99.high))),
        )

    def _drawn(self, growth: float) -> tuple[dict[str, tuple[int, int]], float]:
        """What 5 % and 95 % of the demands that the sweep leaves possible need, and the share that nothing serves."""
        calibration, wish, rows = self.calibration, self.wish, []
        count, exact = (self.draws, 1e-4) if growth < 1.01 else (min(self.draws, _COARSE_DRAWS), 0.01)
        for vector in calibration.fit.draws(count):
            demands = calibration.fit.demands(vector)
            factor, missed = least_growth(calibration, demands, wish, exact=exact)
            stations = stations_for(demands, wish, wish.target * factor) if missed is None else None
            if stations is not None:
                result = outcome(stations, calibration, demands, wish)
                rows.append(advice.counts(stations, result.parallelism))
        if not rows:
            return {}, 1.0 if count else 0.0
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        ends = {
            name: (int(np.quantile(values, 0.05, method="lower")), int(np.quantile(values, 0.95, method="higher")))
            for name, values in table.items()
        }
        return ends, 1 - len(rows) / count
