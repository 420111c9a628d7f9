"""What a pool gets from a cluster: the plan of the rules next to what the model predicts, and what to make of it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.measurement import Storage
from capacity.model.network import solve
from capacity.model.prediction import Prediction, configured_rate, knee, predict, structure_for
from capacity.model.words import many, number, size, span
from capacity.rules.plan import PoolPlan
from capacity.rules.pool import DEFAULT_RULES, PoolRules, parallelism

MULTIPLIERS: Final = (2, 4, 8)
HEAD: Final = ("", "in flight", "starts/s (90%)", "p50", "p99", "batch takes")

STOCK: Final = Storage(main=3.3e3, visibility=21.8e3, starts=1, visibility_indexes=74)
"""Bytes per start of the stock PostgreSQL schema, before any workflow task, as `capacity sweep` measures them."""


@dataclass(frozen=True)
class Outlook:
    """A pool's plan on a cluster.

    Parameters
    ----------
    plan : PoolPlan
    cluster : Cluster
    calibration : Calibration
    prediction : Prediction
        At the knee and at the plan's parallelism with several multipliers, rising; no more in flight than its batch.
    names : tuple of str
        What each of its points is called: ``knee``, ``this plan``, ``2x`` (two in flight per CPU), or several;
        ``most`` in place of ``knee`` where that lies beyond.
    knee : int
        The smallest parallelism with 0.95 of the highest throughput; the most there may be where that still rises.
    knee_beyond : bool
        Whether it does.
    """

    plan: PoolPlan
    cluster: Cluster
    calibration: Calibration
    prediction: Prediction
    names: tuple[str, ...]
    knee: int
    knee_beyond: bool

    @property
    def here(self) -> int:
        """Index of the plan's own parallelism in the prediction: no more than its batch can be in flight."""
        flight = min(self.plan.parallelism.value, self.plan.batch)
        return int(np.flatnonzero(self.prediction.parallelism == flight)[0])

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table, a row per parallelism, as the columns of `HEAD`."""
        found = self.prediction
        rows: list[tuple[str, ...]] = []
        for i, at in enumerate(found.parallelism):
            x = found.throughput
            rows.append(
                (
                    self.names[i],
                    f"{at}",
                    f"{number(x.value[i])} ({number(x.low[i])} to {number(x.high[i])})",
                    span(found.p50.value[i]),
                    span(found.p99.value[i]),
                    span(found.duration.value[i]),
                )
            )
        return rows

    def sentences(self) -> list[tuple[str, str]]:
        """Return what to make of it, as (heading, sentence)."""
        return [
            *self._whole(),
            ("Binds", self._binds()),
            *self._wider(),
            ("Knee", self._knee()),
            ("Memory", self._memory()),
            ("Storage", storage_sentence(self.plan.batch, self.cluster, self.calibration)),
            ("How sure", self._certainty()),
        ]

    def _whole(self) -> list[tuple[str, str]]:
        at, batch = self.plan.parallelism.value, self.plan.batch
        if at <= batch:
            return []
        return [("In flight", f"a batch of {many(batch, 'start')} has no more in flight, whatever the pool's {at:,}")]

    def _binds(self) -> str:
        found, here = self.prediction, self.here
        binding = found.binding[here]
        cap = found.cap
        rest = ""
        if cap is not None and binding != cap.key:
            rest = f"; the lowest configured rate, {cap.key}, is {number(cap.rate)}/s"
        if binding == "too few in flight":
            name, used = max(((n, float(u[here])) for n, u in found.utilization.items()), key=lambda pair: pair[1])
            return f"too few in flight: no resource is full, the fullest ({name}) is used to {used:.0%}{rest}"
        if cap is not None and binding == cap.key:
            return f"{cap.key} at {number(cap.rate)}/s: {cap.reason}"
        return f"{_with_count(binding, self.cluster)}, used to {float(found.utilization[binding][here]):.0%}{rest}"

    def _wider(self) -> list[tuple[str, str]]:
        found, here = self.prediction, self.here
        if here + 1 >= len(found.parallelism):
            return []
        wider = here + 1
        gain = float(found.throughput.value[wider] / found.throughput.value[here] - 1)
        slower = float(found.p99.value[wider] / found.p99.value[here])
        change = "as many starts/s" if abs(gain) < 0.005 else f"{gain:+.1%} starts/s"
        words = f"{found.parallelism[wider]} in flight give {change} at {slower:.1f} x the p99"
        twice = found.parallelism[wider] == 2 * found.parallelism[here]
        return [("Twice as many" if twice else "More", words)]

    def _knee(self) -> str:
        found, here = self.prediction, self.here
        at = int(np.flatnonzero(found.parallelism == self.knee)[0])
        share = float(found.throughput.value[at] / found.throughput.value[here])
        if self.knee_beyond:
            rest = (
                "" if self.knee == found.parallelism[here] else f"; this plan gets {1 / share:.0%} of what that gives"
            )
            return f"throughput still rises at {self.knee} in flight, and the knee lies beyond{rest}"
        if self.knee == found.parallelism[here]:
            return f"{self.knee} in flight is the knee: more buys latency, not throughput"
        if self.knee > found.parallelism[here]:
            return f"{self.knee} in flight would be the knee, {1 / share:.0%} of which this plan gets"
        return (
            f"{self.knee} in flight give {share:.0%} of this plan's starts/s, "
            f"at p99 {span(found.p99.value[at])} instead of {span(found.p99.value[here])}"
        )

    def _memory(self) -> str:
        each = "each" if self.cluster.launcher_processes > 1 else "a"
        return (
            f"about {self.prediction.rss_bytes[self.here] / 2**20:,.0f} MiB for {each} launcher process of this package"
        )

    def _certainty(self) -> str:
        calibration, conditions = self.calibration, self.calibration.measurements.conditions
        levels = sorted({p.parallelism for p in calibration.measurements.points if p.flag is None})
        words = [
            f"calibration {calibration.name}: measured on {many(conditions.cluster_cpus, 'CPU')} at {levels[0]} to "
            f"{levels[-1]} in flight, a point's noise {calibration.fit.of_a_point:.0%}"
        ]
        cpus = structure_for(self.cluster).all_cpus
        if cpus != conditions.cluster_cpus:
            words.append(
                f"other CPUs ({number(cpus, 9)}) are extrapolated: intervals hold only if what a start costs stays"
            )
        if self.prediction.parallelism[self.here] > calibration.measured_to:
            words.append(f"beyond {calibration.measured_to} in flight it is extrapolated")
        return "; ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Return plan and prediction as JSON values."""
        found, here = self.prediction.to_frame(), self.here
        return {
            **self.plan.to_dict(),
            "cluster": self.cluster.to_dict(),
            "calibration": self.calibration.name,
            "predicted": found[here],
            "knee": self.knee,
            "knee_beyond": self.knee_beyond,
            "others": [row for i, row in enumerate(found) if i != here],
            "sentences": dict(self.sentences()),
            "not_identified": self.calibration.not_identified(),
        }

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{cell}</th>" for cell in HEAD)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in self.rows())
        notes = "".join(f"<li><b>{name}</b>: {html.escape(words)}</li>" for name, words in self.sentences())
        return (
            f"<table><caption>{html.escape(self.cluster.name)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table><ul>{notes}</ul>"
        )


def outlook(
    plan: PoolPlan,
    cluster: Cluster,
    calibration: Calibration,
    *,
    multipliers: Sequence[int] = MULTIPLIERS,
    rules: PoolRules = DEFAULT_RULES,
) -> Outlook:
    """Predict what a plan gets from a cluster, beside the knee and other multipliers of the same CPUs.

    Parameters
    ----------
    plan : PoolPlan
        CPUs, parallelism and batch.
    cluster : Cluster
        Where it is to run.
    calibration : Calibration
        What a start costs there.
    multipliers : sequence of int
        Starts in flight per CPU to show beside the plan's own.
    rules : PoolRules
        Bounds of the parallelism.

    Raises
    ------
    UsageError
        The cluster is Temporal Cloud, whose CPUs are not known.

    Returns
    -------
    Outlook
        Throughput [1/s], p50 and p99 [s] and duration of the batch [s] at each, with 90 % intervals.

    Examples
    --------
    >>> from capacity import Calibration, Cluster, pool_plan
    >>> plan = pool_plan(32, environment={})
    >>> found = outlook(plan, Cluster.load("postgres-dev"), Calibration.named("postgres"))
    >>> found.names[found.here], found.prediction.binding[found.here]
    ('4x, this plan', 'CPUs')
    """
    cap = configured_rate(cluster)
    curve = solve(structure_for(cluster), calibration.demands, rules.maximum).throughput
    at_knee, within = knee(np.minimum(curve[: plan.batch], cap.rate if cap else np.inf))
    labels: dict[int, list[str]] = {at_knee: ["knee" if within else "most"]}
    for multiplier in multipliers:
        flight = min(parallelism(plan.cpus, rules=replace(rules, multiplier=multiplier)).value, plan.batch)
        labels.setdefault(flight, []).append(f"{multiplier}x")
    labels.setdefault(min(plan.parallelism.value, plan.batch), []).append("this plan")
    at = sorted(labels)
    found = predict(calibration, at, cluster=cluster, batch=plan.batch, rules=rules)
    return Outlook(plan, cluster, calibration, found, tuple(", ".join(labels[p]) for p in at), at_knee, not within)


def storage_sentence(batch: int, cluster: Cluster, calibration: Calibration) -> str:
    """Return what a batch leaves in the stores, and the biggest part of it."""
    if cluster.store not in ("postgres", "mysql"):
        return "not measured for this store"
    stored = calibration.measurements.storage
    source = "as swept" if stored else "typical of the stock schema"
    stored = stored or STOCK
    total = batch * (stored.main + stored.visibility)
    indexes = f", {many(stored.visibility_indexes, 'index', 'indexes')}" if stored.visibility_indexes else ""
    return (
        f"{size(total)} for {many(batch, 'start')} before any workflow task ({source}); visibility takes "
        f"{stored.visibility / (stored.main + stored.visibility):.0%} of it{indexes}"
    )


def _with_count(resource: str, cluster: Cluster) -> str:
    counts = cluster.counts()
    if resource not in counts:
        return resource
    count, of = counts[resource], {"CPUs": "of server and database", "connections": "to the main store"}.get(resource)
    counted = many(count, resource.removesuffix("s")) if count else resource
    return " ".join(part for part in ("the", counted, of) if part)
