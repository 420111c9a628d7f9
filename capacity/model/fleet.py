"""A fleet on paper: how long a batch takes many launcher processes on a described cluster, what binds, what it costs.

Invariants: the cluster's throughput is the model's, with its configured rates, one curve for the whole simulation; the
interval of the duration is that of the throughput; what is assumed and not measured is said with the result.
"""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from capacity.errors import UsageError
from capacity.model import fleet_text
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.fleet_records import STANDARD, Machinery, Simulated, range_bytes
from capacity.model.fleet_simulation import check, loop_utilization, range_size, simulate
from capacity.model.measurement import Storage
from capacity.model.memory import launcher_rss
from capacity.model.network import MAXIMUM_PARALLELISM, Structure, solve
from capacity.model.outlook import STOCK
from capacity.model.prediction import Prediction, configured_rate, knee, predict, structure_for
from capacity.model.queueing import Floats

__all__ = ["MOST_IN_FLIGHT", "STANDARD", "FleetOutlook", "Machinery", "Simulated", "fleet_outlook", "simulate"]

MOST_IN_FLIGHT: Final = 4_096
"""Starts in flight of a whole fleet, as far as the network is solved."""
SPARE: Final = 1.25
"""Times a rate that what may be in flight for it would give."""
ENOUGH: Final = 0.02
"""By how much longer a fleet may take that is said to be enough."""
SEED: Final = 1
NEVER: Final = 10**15


@dataclass(frozen=True)
class FleetOutlook:
    """A batch by a fleet on a cluster.

    Parameters
    ----------
    count, processes : int
    parallelism : int
        Starts in flight of the whole fleet, at most.
    parallelism_source : str
        Where that number comes from, in words.
    rate : float, optional
        Starts due per second [1/s].
    cluster : Cluster
    calibration : Calibration
    machinery : Machinery
    prediction : Prediction
        What the cluster gives at that many in flight.
    found, slowest, fastest : Simulated
        With the throughput as predicted, and at the ends of its 90 % interval.
    enough : int
        The smallest fleet that is at most `ENOUGH` slower, none lost.
    one_lost : float
        Seconds by which the loss of one process, in mid-batch, lengthens it.
    gives : float
        What the cluster gives at most with no more than `parallelism` in flight [1/s].
    lose_every : float, optional
        Seconds between two losses [s].
    """

    count: int
    processes: int
    parallelism: int
    parallelism_source: str
    rate: float | None
    cluster: Cluster
    calibration: Calibration
    machinery: Machinery
    prediction: Prediction
    found: Simulated
    slowest: Simulated
    fastest: Simulated
    enough: int
    one_lost: float
    gives: float
    lose_every: float | None = None

    @property
    def range_size(self) -> int:
        """Starts of a range, but for the last."""
        return min(range_size(self.count), self.count)

    @property
    def per_process(self) -> float:
        """Starts per second of a process at work."""
        return self.found.starts_per_second / self.found.at_work

    @property
    def launcher_utilization(self) -> float:
        """Share of one CPU that the loop of a process at work takes: see `loop_utilization`."""
        demands = self.calibration.demands
        return loop_utilization(self.per_process, demands.launcher, demands.launcher_idle)

    @property
    def rss_bytes(self) -> float:
        """Resident set of a process [bytes]: its share in flight, the journal of one range."""
        share = min(-(-self.parallelism // self.found.at_work), self.machinery.most_in_flight)
        return float(launcher_rss(share, self.range_size, self.calibration.measurements.memory))

    @property
    def stored(self) -> Storage | None:
        """Bytes a start leaves in the stores; None where that is not known for this store."""
        if self.cluster.store not in ("postgres", "mysql"):
            return None
        return self.calibration.measurements.storage or STOCK

    @property
    def holding(self) -> int:
        """Processes that hold a range at once, at most; without a share of the starts in flight one waits."""
        return min(self.processes, self.machinery.handed_out, self.found.ranges)

    @property
    def heartbeats(self) -> float:
        """Heartbeats of the processes that hold a range [1/s]; each is a write to the store."""
        return self.holding / self.machinery.beat(self.holding)

    @property
    def bytes_per_range(self) -> float:
        """Bytes of a range's result, and of a heartbeat at its end."""
        given = self.machinery.bytes_per_range
        return range_bytes(self.range_size) if given is None else given

    @property
    def state_bytes(self) -> float:
        """Bytes that the server holds of the newest heartbeats, when all ranges are near their end."""
        return self.holding * self.bytes_per_range

    def binds(self) -> str:
        """What keeps it from being faster, in short: a resource, a key, ``rate``, ``launchers``, or the fleet's own."""
        return fleet_text.bound(self)[0]

    def rows(self) -> list[tuple[str, str, str]]:
        """Return its figures, as (name, value, what to know)."""
        return fleet_text.rows(self)

    def sentences(self) -> list[tuple[str, str]]:
        """Return what to make of it, as (heading, sentence)."""
        return fleet_text.sentences(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        found, stored = self.found, self.stored
        rate = found.starts_per_second
        return {
            "count": self.count,
            "fleet": self.processes,
            "parallelism": self.parallelism,
            "parallelism_source": self.parallelism_source,
            "rate": self.rate,
            "lose_every": self.lose_every,
            "cluster": self.cluster.to_dict(),
            "calibration": self.calibration.name,
            "seconds": found.seconds,
            "seconds_low": self.fastest.seconds,
            "seconds_high": self.slowest.seconds,
            "starts_per_second": rate,
            "starts_per_second_low": self.slowest.starts_per_second,
            "starts_per_second_high": self.fastest.starts_per_second,
            "starts_per_second_per_process": self.per_process,
            "binds": self.binds(),
            "processes_at_work": found.at_work,
            "enough_processes": self.enough,
            "launcher_utilization": self.launcher_utilization,
            "launcher_rss_bytes": self.rss_bytes,
            "ranges": found.ranges,
            "range_size": self.range_size,
            "history_events": sum(found.history),
            "history_events_longest_run": max(found.history),
            "history_bytes_longest_run": max(found.history_bytes),
            "continued_as_new": len(found.history) - 1,
            "visibility_writes_per_second": 2 * rate,
            "visibility_bytes_per_second": None if stored is None else rate * stored.visibility,
            "stored_bytes": None if stored is None else self.count * (stored.main + stored.visibility),
            "heartbeats_per_second": self.heartbeats,
            "heartbeat_bytes": self.bytes_per_range,
            "workflow_state_bytes": self.state_bytes,
            "lost_processes": found.losses,
            "sent_again": found.resent,
            "seconds_per_lost_process": self.one_lost,
            "assumed": asdict(self.machinery),
            "predicted": self.prediction.to_frame()[0],
            "simulated": found.to_dict(),
            "sentences": dict(self.sentences()),
        }

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th><td style="text-align:right"><b>{value}</b></td>'
            f'<td style="text-align:left">{html.escape(words)}</td></tr>'
            for name, value, words in self.rows()
        )
        notes = "".join(f"<li><b>{name}</b>: {html.escape(words)}</li>" for name, words in self.sentences())
        return (
            f"<table><caption>{html.escape(fleet_text.title(self))}</caption><tbody>{body}</tbody></table>"
            f"<ul>{notes}</ul>"
        )


def fleet_outlook(
    count: int,
    processes: int,
    cluster: Cluster,
    calibration: Calibration,
    *,
    parallelism: int | None = None,
    rate: float | None = None,
    lose_every: float | None = None,
    machinery: Machinery = STANDARD,
) -> FleetOutlook:
    """Simulate a batch by a fleet on a cluster.

    Parameters
    ----------
    count : int
        Starts of the batch, 1 to 2,000,000,000.
    processes : int
        Launcher processes, 1 to 100,000, each with a CPU of its own.
    parallelism : int, optional
        Starts in flight of the whole fleet, up to `MOST_IN_FLIGHT`; by default the knee, or with a rate as many as it
        takes, both up to 512 and to the batch itself.
    rate : float, optional
        Starts due per second of the whole fleet [1/s].
    lose_every : float, optional
        Seconds between two losses of a process, 1 or more [s].

    Raises
    ------
    UsageError
        A number is out of range, or the cluster's CPUs are not known (Temporal Cloud).
    """
    check(count, processes, 1, rate, lose_every)
    able = min(processes, machinery.handed_out, -(-count // range_size(count)))
    most = min(able * machinery.most_in_flight, MOST_IN_FLIGHT)
    if parallelism is not None and not 1 <= parallelism <= most:
        raise UsageError(f"parallelism is {parallelism}", allowed=f"auto, or 1 to {most:,} for this fleet and batch")
    structure = replace(structure_for(cluster), launchers=able)
    cap = configured_rate(cluster)
    limit = cap.rate if cap else math.inf
    source = "as given"
    if parallelism is None and rate is not None:
        parallelism, source = min(most, MAXIMUM_PARALLELISM, count), "at most; as many as the rate takes"
    if parallelism is None:
        parallelism, source = _knee(structure, calibration, limit)
        if count < parallelism:
            parallelism, source = count, "the whole batch at once"
    able_to = solve(structure, calibration.demands, parallelism).throughput
    flight = parallelism if rate is None else _for_rate(able_to, rate)
    curve = np.minimum(able_to[:flight], limit)
    prediction, low, high = _predicted(calibration, flight, cluster, structure, count)

    def batch(factor: float = 1.0, fleet: int = processes, **changes: Any) -> Simulated:
        options: dict[str, Any] = {"machinery": machinery, "seed": SEED, **changes}
        return simulate(
            np.minimum(curve * factor, limit).tolist(),
            count=count,
            processes=fleet,
            parallelism=parallelism,
            launcher_cpu=calibration.demands.launcher,
            rate=rate,
            **options,
        )

    unharmed = batch()
    enough, less = min(processes, machinery.handed_out), 0
    while enough - less > 1:
        middle = (enough + less) // 2
        slower = batch(fleet=middle).seconds > unharmed.seconds * (1 + ENOUGH)
        enough, less = (enough, middle) if slower else (middle, less)
    # Without new runs of the workflow, which would come at other moments, the difference is the loss alone.
    endless = replace(machinery, continue_at=NEVER, continue_at_bytes=NEVER)
    harmed = batch(machinery=endless, lose_at=[unharmed.seconds / 2])
    one_lost = harmed.seconds - batch(machinery=endless).seconds
    return FleetOutlook(
        count=count,
        processes=processes,
        parallelism=parallelism,
        parallelism_source=source,
        rate=rate,
        cluster=cluster,
        calibration=calibration,
        machinery=machinery,
        prediction=prediction,
        found=batch(lose_every=lose_every) if lose_every else unharmed,
        slowest=batch(low, lose_every=lose_every),
        fastest=batch(high, lose_every=lose_every),
        enough=enough,
        one_lost=max(one_lost, 0.0),
        gives=float(min(able_to.max(), limit)),
        lose_every=lose_every,
    )


def _for_rate(throughput: Floats, rate: float) -> int:
    """Return how many a rate has in flight: as few as give it with a quarter to spare, all where none give it."""
    if throughput.max() < rate:
        return throughput.size
    return int(np.argmax(throughput >= min(SPARE * rate, throughput.max()))) + 1


def _knee(structure: Structure, calibration: Calibration, limit: float) -> tuple[int, str]:
    """Return the knee, as far as `auto` looks for it, and what it is."""
    most = MAXIMUM_PARALLELISM
    curve: Floats = np.minimum(solve(structure, calibration.demands, most).throughput, limit)
    found, within = knee(curve)
    return found, "the knee, as auto finds it" if within else "the most that auto tries; the knee lies beyond"


def _predicted(
    calibration: Calibration, parallelism: int, cluster: Cluster, structure: Structure, count: int
) -> tuple[Prediction, float, float]:
    """Return the prediction, and the ends of the throughput's interval as shares of it.

    The interval beyond 512 in flight is taken to be that at 512: its draws would take a minute.
    """
    drawn = predict(calibration, [min(parallelism, MAXIMUM_PARALLELISM)], cluster=cluster, structure=structure)
    value, low, high = (
        float(each[0]) for each in (drawn.throughput.value, drawn.throughput.low, drawn.throughput.high)
    )
    found = predict(calibration, [parallelism], cluster=cluster, structure=structure, batch=count, draws=0)
    return found, low / value, high / value
