"""From a calibration to what a scheduler will get: throughput, latency, memory, duration, and what binds.

Invariants: every figure that rests on a measurement carries its 90 % interval; a throughput never exceeds a
configured rate; beyond the parallelism that was measured the result says so.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.fit import structure_of
from capacity.model.limits import ONE_WRITER, SHARDS, Ceiling, ceilings
from capacity.model.memory import launcher_rss
from capacity.model.network import MAXIMUM_PARALLELISM, Structure, bounds, solve
from capacity.model.queueing import Floats
from capacity.model.shape import shape_for, shaped
from capacity.rules.pool import DEFAULT_RULES, PoolRules, queue_size

LEVEL: Final = 0.9
"""Nominal coverage of intervals."""

DRAWS: Final = 200

AS_GOOD: Final = 0.95
"""Share of the highest throughput that is as good as it."""

BINDS: Final = 0.9
"""Utilization from which on a resource is said to bind."""
_RISES: Final = 0.9
"""Where a curve reaches `AS_GOOD` of its end only beyond this share of it, it goes on rising as good as straight."""


@dataclass(frozen=True)
class Interval:
    """A figure for each parallelism, with the interval that holds it with probability `LEVEL`."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Prediction:
    """What a scheduler gets from a cluster, for each parallelism asked.

    Parameters
    ----------
    parallelism : array of int
    batch : int
        Starts of the batch that `duration` and `queue` are of.
    throughput : Interval
        Starts per second, with no more in flight than the batch has.
    mean, p50, p99 : Interval
        Latency [s].
    utilization : dict of array
        Of each resource, 0 to 1.
    binding : tuple of str
        What binds: a resource, a configured rate, or too few in flight.
    rss_bytes : array
        Resident set of each launcher process [bytes].
    queue : array of float
        Starts that wait inside the original's scheduler for one of its workers.
    duration : Interval
        Seconds of the batch; its first starts pass in the bursts of configured rates.
    measured_to : int
        Highest parallelism of the sweep; beyond it the figures extrapolate.
    cap : Ceiling, optional
        The lowest configured rate.
    """

    parallelism: np.ndarray[Any, np.dtype[np.int64]]
    batch: int
    throughput: Interval
    mean: Interval
    p50: Interval
    p99: Interval
    utilization: dict[str, Floats]
    binding: tuple[str, ...]
    rss_bytes: Floats
    queue: Floats
    duration: Interval
    measured_to: int
    cap: Ceiling | None

    def to_frame(self) -> list[dict[str, Any]]:
        """Return one row per parallelism, as plain numbers: what a data frame is made from."""
        rows = []
        for i, at in enumerate(self.parallelism):
            row: dict[str, Any] = {"parallelism": int(at)}
            for name in ("throughput", "mean", "p50", "p99", "duration"):
                figure: Interval = getattr(self, name)
                row |= {name: float(figure.value[i]), f"{name}_low": float(figure.low[i])}
                row[f"{name}_high"] = float(figure.high[i])
            row |= {f"utilization_{name}": float(used[i]) for name, used in self.utilization.items()}
            row |= {"binding": self.binding[i], "rss_bytes": float(self.rss_bytes[i]), "queue": int(self.queue[i])}
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"batch": self.batch, "measured_to": self.measured_to, "points": self.to_frame()}

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("in flight", "starts/s", "90%", "p50", "p99", "binds"))
        body = "".join(
            f"<tr><td>{at}</td><td>{self.throughput.value[i]:,.0f}</td>"
            f"<td>{self.throughput.low[i]:,.0f} to {self.throughput.high[i]:,.0f}</td>"
            f"<td>{self.p50.value[i] * 1e3:,.1f} ms</td><td>{self.p99.value[i] * 1e3:,.1f} ms</td>"
            f'<td style="text-align:left">{html.escape(self.binding[i])}</td></tr>'
            for i, at in enumerate(self.parallelism)
        )
        return f"<table><caption>Prediction</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def structure_for(cluster: Cluster) -> Structure:
    """Return the stations a described cluster has.

    Raises
    ------
    UsageError
        The cluster is Temporal Cloud, whose stations are not known.
    """
    server = cluster.cores if cluster.cores is not None else cluster.server_cores
    if server is None:
        raise UsageError(
            f"cluster {cluster.name}: its CPUs are not known, and so not what it gives",
            next_step="see its limits with 'capacity limits temporal-cloud'",
        )
    return Structure.of(
        cluster.store,
        cpus=server,
        database_cpus=cluster.database_cores,
        locks=cluster.shards * cluster.shard_io_concurrency,
        connections=cluster.max_conns * cluster.history_hosts,
        launchers=cluster.launcher_processes,
        shares_cpus=cluster.launcher_shares_cores,
        network_delay=cluster.network_delay,
    )


def predict(
    calibration: Calibration,
    at: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    *,
    cluster: Cluster | None = None,
    structure: Structure | None = None,
    batch: int | None = None,
    rules: PoolRules = DEFAULT_RULES,
    draws: int = DRAWS,
    of_a_point: bool = False,
) -> Prediction:
    """Predict for each parallelism, with intervals.

    Parameters
    ----------
    calibration : Calibration
        Where the demands of a start come from.
    at : sequence of int
        Parallelism, 1 to 512 for each launcher process.
    cluster : Cluster, optional
        The cluster, with its configured rates; by default the calibrated one, without any.
    structure : Structure, optional
        Stations in place of the cluster's.
    batch : int, optional
        Starts of the batch, of which no more than all are in flight; by default 1,000, or as many as are asked to be.
    rules : PoolRules
        Bounds of the queue.
    draws : int
        Parameter vectors for the intervals; 0 gives intervals of no width, in a few milliseconds.
    of_a_point : bool
        Intervals of one more measurement, its noise and the machine's included, in place of the mean of many.

    Returns
    -------
    Prediction
        Throughput [1/s], latencies [s], memory [bytes] and what binds, for each.

    Raises
    ------
    UsageError
        A parallelism, `batch` or `draws` is out of range, or the cluster is Temporal Cloud.

    Examples
    --------
    >>> from capacity import Calibration
    >>> found = predict(Calibration.named("postgres"), (1, 64), draws=0)
    >>> one, many = found.mean.value
    >>> bool(many > one)
    True
    """
    asked = np.array(at, dtype=np.int64)
    if structure is None:
        structure = structure_of(calibration.measurements.conditions) if cluster is None else structure_for(cluster)
    most = MAXIMUM_PARALLELISM * structure.launchers
    if not asked.size or asked.min() < 1 or asked.max() > most:
        outside = [int(p) for p in asked if not 1 <= p <= most]
        raise UsageError(
            f"parallelism is {outside[0] if outside else 'empty'}",
            allowed=f"1 to {MAXIMUM_PARALLELISM} for each launcher process",
        )
    if draws < 0 or draws == 1:
        raise UsageError(f"draws is {draws}", allowed="0 for no intervals, or 2 and more")
    batch = max(1000, int(asked.max())) if batch is None else batch
    if batch < 1:
        raise UsageError(f"batch is {batch}", allowed="1 or more")
    flight = np.minimum(asked, batch)
    at_most = int(flight.max())
    caps = configured_rates(cluster) if cluster is not None else ()
    cap = next(iter(caps), None)
    demands = calibration.demands
    solution = solve(structure, demands, at_most)
    uncapped = solution.throughput[flight - 1]
    low, high = _range(calibration, structure, flight, draws, of_a_point)
    low, high = np.minimum(low, uncapped), np.maximum(high, uncapped)
    throughput = Interval(*(np.minimum(rate, cap.rate if cap else math.inf) for rate in (uncapped, low, high)))
    value = throughput.value
    mean = Interval(flight / value, flight / throughput.high, flight / throughput.low)
    network = solution.network
    coarse = _coarse(at_most)
    quantiles = []
    shape = shape_for(calibration, structure)
    for q, spread in ((0.5, calibration.shape.p50_spread), (0.99, calibration.shape.p99_spread)):
        theory = np.interp(
            np.log(flight), np.log(coarse), network.quantile(q, 0, coarse) / network.response[coarse - 1]
        )
        middle = shaped(shape, q, mean.value * theory, mean.value, flight.astype(float), structure.network_delay)
        width = 1.645 * spread if draws else 0.0
        below = np.hypot(np.log(mean.value / mean.low), width)
        above = np.hypot(np.log(mean.high / mean.value), width)
        quantiles.append(Interval(middle, middle * np.exp(-below), middle * np.exp(above)))
    utilization = {name: used[flight - 1] * value / uncapped for name, used in solution.utilization().items()}
    return Prediction(
        parallelism=asked,
        batch=batch,
        throughput=throughput,
        mean=mean,
        p50=quantiles[0],
        p99=quantiles[1],
        utilization=utilization,
        binding=_binding(utilization, bounds(structure, solution.demands), uncapped, cap),
        rss_bytes=launcher_rss(asked, batch, calibration.measurements.memory, structure.launchers),
        queue=_waiting(asked, batch, rules),
        duration=Interval(*(_takes(batch, rate, caps) for rate in (uncapped, high, low))),
        measured_to=calibration.measured_to,
        cap=cap,
    )


def throughput_grid(
    calibration: Calibration,
    cpus: Sequence[int],
    multipliers: Sequence[int],
    *,
    cluster: Cluster | None = None,
    rules: PoolRules = DEFAULT_RULES,
) -> Floats:
    """Return starts per second for a scheduler of each CPU count and multiplier, shape (cpus, multipliers)."""
    structure = structure_of(calibration.measurements.conditions) if cluster is None else structure_for(cluster)
    cap = configured_rate(cluster) if cluster is not None else None
    curve = solve(structure, calibration.demands, rules.maximum).throughput
    flight = np.clip(np.multiply.outer(np.maximum(cpus, 1), multipliers), rules.minimum, rules.maximum)
    return np.asarray(np.minimum(curve[flight - 1], cap.rate if cap else np.inf), dtype=float)


_STATIONS: Final = frozenset(
    (
        *("cores", "server_cores", "database_cores", SHARDS, ONE_WRITER),
        *("max_conns", "visibility_max_conns", "launcher_processes"),
    )
)


def configured_rates(cluster: Cluster) -> tuple[Ceiling, ...]:
    """Return the ceilings that are configured rates, not a resource the network has as a station, lowest first."""
    found = (ceiling for ceiling in ceilings(cluster) if ceiling.known and ceiling.caps_starts)
    return tuple(ceiling for ceiling in found if ceiling.key not in _STATIONS)


def configured_rate(cluster: Cluster) -> Ceiling | None:
    """Return the lowest of `configured_rates`."""
    return next(iter(configured_rates(cluster)), None)


def knee(throughput: Floats) -> tuple[int, bool]:
    """Return the smallest parallelism that reaches `AS_GOOD` of the highest throughput, for 1..N in flight, and True.

    Where throughput still rises at N the knee lies beyond: N and False.

    Examples
    --------
    >>> knee(np.minimum(np.arange(1.0, 513.0), 100.0)), knee(np.arange(1.0, 513.0))
    ((95, True), (512, False))
    """
    found = int(np.argmax(throughput >= AS_GOOD * throughput.max())) + 1
    return (found, True) if found <= _RISES * throughput.size else (throughput.size, False)


def _coarse(at_most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return populations at which the shape of the latency is worked out; it is smooth between them."""
    found = np.unique(np.concatenate([np.arange(1, 9), np.geomspace(8, max(at_most, 9), 16).round()]))
    return np.asarray(found[found <= at_most], dtype=np.int64)


def _range(
    calibration: Calibration, structure: Structure, asked: Any, draws: int, of_a_point: bool
) -> tuple[Floats, Floats]:
    if not draws:
        return np.full(asked.size, np.inf), np.zeros(asked.size)  # narrowed to the value by the caller
    fitted, at_most = calibration.fit, int(asked.max())
    vectors = fitted.draws(draws)
    logs = np.log([solve(structure, fitted.demands(v), at_most).throughput[asked - 1] for v in vectors])
    if of_a_point:
        random = np.random.default_rng(1)
        logs = logs + fitted.of_a_point * random.standard_t(fitted.freedom, logs.shape)
    low, high = np.exp(np.quantile(logs, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))
    return low, high


def _binding(
    utilization: dict[str, Floats], most: dict[str, float], uncapped: Floats, cap: Ceiling | None
) -> tuple[str, ...]:
    """Return what binds at each point: of the resources in full use the one that allows the fewest starts.

    Locks and connections are held while a start waits for a CPU: where both are full, the lower of their bounds says
    which is why.
    """
    words = []
    for i, free in enumerate(uncapped):
        if cap is not None and free > cap.rate:
            words.append(cap.key)
            continue
        full = [name for name, used in utilization.items() if used[i] >= BINDS]
        words.append(min(full, key=most.__getitem__) if full else "too few in flight")
    return tuple(words)


def _takes(batch: int, uncapped: Floats, caps: Sequence[Ceiling]) -> Floats:
    """Return how long a batch takes [s]: what the bucket of a configured rate holds passes before that rate bites."""
    throttled = max((cap.passes(batch) for cap in caps), default=0.0)
    return np.asarray(np.maximum(batch / uncapped, throttled), dtype=float)


def _waiting(asked: Any, batch: int, rules: PoolRules) -> Floats:
    sizes = np.array([queue_size(int(p), batch, rules).value for p in asked])
    return np.asarray(np.minimum(np.maximum(batch - asked, 0), sizes), dtype=float)
