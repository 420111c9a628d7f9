"""What if the cluster had more of something: another structure, the same demands of a start.

Invariant: every row is at the same number in flight, so that gains compare like with like.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.network import MAXIMUM_PARALLELISM, solve
from capacity.model.prediction import LEVEL, configured_rate, predict, structure_for
from capacity.model.words import number, span

HEAD: Final = ("", "starts/s", "gain", "90%", "p99", "limit")
_DRAWS: Final = 100
_LEVERS: Final = ("cores", "server_cores", "database_cores", "shards", "max_conns", "launcher_processes")


@dataclass(frozen=True)
class Changed:
    """What a change gives at the same number in flight.

    Parameters
    ----------
    change : str
        In words; ``now`` for the cluster as it is.
    throughput, p99 : float
        Starts per second; 99 % latency [s].
    gain, gain_low, gain_high : float
        Of throughput over now, a fraction, with its 90 % interval.
    binding : str
        What binds then.
    """

    change: str
    throughput: float
    p99: float
    gain: float
    gain_low: float
    gain_high: float
    binding: str


@dataclass(frozen=True)
class WhatIf:
    """Changes of a cluster set against what it is; the first row is now."""

    cluster: Cluster
    calibration: str
    parallelism: int
    rows: tuple[Changed, ...]

    def lines(self) -> list[tuple[str, ...]]:
        """Return the table for people: a heading and a line per change."""
        found: list[tuple[str, ...]] = [HEAD]
        for row in self.rows:
            gain = ("", "") if row is self.rows[0] else (f"{round(row.gain * 100):+d}%", _span(row))
            found.append((row.change, number(row.throughput), *gain, span(row.p99), row.binding))
        return found

    def summary(self) -> str:
        """Return in a sentence which change buys most, or costs most where none buys anything."""
        now, *others = self.rows
        best = max(others, key=lambda row: row.gain, default=now)
        at = f"With {self.parallelism:,} in flight"
        if best is now or best.gain < 0.02:
            worst = min(others, key=lambda row: row.gain, default=now)
            costs = f" {worst.change} costs {-worst.gain:.0%}: the limit is then {worst.binding}."
            words = f"{at}, none of these buys more than 2%: the limit is {now.binding}."
            return words + (costs if worst.gain < -0.02 else "")
        buy = "together buy" if ", " in best.change else "buys"
        return f"{at}, {best.change} {buy} most: {best.gain:+.0%}, then the limit is {best.binding}."

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "cluster": self.cluster.to_dict(),
            "calibration": self.calibration,
            "parallelism": self.parallelism,
            "rows": [asdict(row) for row in self.rows],
            "summary": self.summary(),
        }

    def _repr_html_(self) -> str:
        head, *rows = self.lines()
        top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><caption>{html.escape(self.summary())}</caption><tr>{top}</tr>{body}</table>"


def doubled(cluster: Cluster) -> list[dict[str, object]]:
    """Return the changes that double each resource, where there may be twice as many, and halve the network delay."""
    sqlite = cluster.store == "sqlite"
    fields = [name for name in _LEVERS if not (sqlite and name in ("shards", "max_conns"))]
    changes: list[dict[str, object]] = [
        {name: 2 * getattr(cluster, name)} for name in fields if getattr(cluster, name) is not None
    ]
    halved: list[dict[str, object]] = [{"network_delay": cluster.network_delay / 2}] if cluster.network_delay else []
    return [change for change in changes if _possible(cluster, change)] + halved


def _possible(cluster: Cluster, change: Mapping[str, object]) -> bool:
    try:
        cluster.changed(change)
    except UsageError:
        return False
    return True


def what_if(
    calibration: Calibration, cluster: Cluster, changes: Sequence[Mapping[str, object]], parallelism: int
) -> WhatIf:
    """Predict what each change of a cluster gives.

    Parameters
    ----------
    calibration : Calibration
        What a start costs.
    cluster : Cluster
        As it is.
    changes : sequence of mappings
        One row each: fields of the description, or keys of dynamic configuration, and their new values.
    parallelism : int
        Starts in flight, 1 to 512.

    Raises
    ------
    UsageError
        A change is none of the description's, or the description is of Temporal Cloud.
    """
    if cluster.store == "cloud":
        raise UsageError("Temporal Cloud has no cores or shards to change", next_step="see 'capacity limits'")
    if not 1 <= parallelism <= MAXIMUM_PARALLELISM:
        raise UsageError(f"parallelism is {parallelism}", allowed=f"1 to {MAXIMUM_PARALLELISM}")
    clusters = [("now", cluster)]
    for change in changes:
        described = cluster.changed(change)  # refuses what cannot be told in words either
        clusters.append((_words(cluster, change), described))
    vectors = calibration.fit.draws(_DRAWS)
    base: np.ndarray[Any, np.dtype[np.float64]] | None = None
    rows: list[Changed] = []
    for words, described in clusters:
        structure, cap = structure_for(described), configured_rate(described)
        limit = cap.rate if cap else np.inf
        found = predict(calibration, [parallelism], cluster=described, draws=0)
        rate = float(found.throughput.value[0])
        drawn = np.array(
            [min(solve(structure, calibration.fit.demands(v), parallelism).throughput[-1], limit) for v in vectors]
        )
        base = drawn if base is None else base
        gain = rate / rows[0].throughput - 1 if rows else 0.0
        low, high = np.quantile(drawn / base - 1, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        p99, binding = float(found.p99.value[0]), found.binding[0]
        rows.append(Changed(words, rate, p99, gain, min(float(low), gain), max(float(high), gain), binding))
    return WhatIf(cluster, calibration.name, parallelism, tuple(rows))


def _words(cluster: Cluster, change: Mapping[str, object]) -> str:
    now = {**cluster.to_dict(), **cluster.limits}
    return ", ".join(f"{key} {_plain(now.get(key))} -> {_plain(value)}" for key, value in change.items())


def _plain(value: object) -> str:
    return number(value, 6) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _span(row: Changed) -> str:
    return f"{round(row.gain_low * 100)} to {round(row.gain_high * 100)}"
