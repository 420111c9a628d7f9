"""What a sizing found: figures with what forced them, the cheaper plans that miss, and what to know.

Invariant: where there is no such cluster there is a reason and no figures.
"""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, replace
from typing import Any

from capacity.model import advice
from capacity.model.cluster import Cluster
from capacity.model.storage import StorageNeed


@dataclass(frozen=True)
class Figure:
    """How many of a resource, between which for 90 % of what the sweep leaves possible, and what forced it."""

    name: str
    value: int
    low: int
    high: int
    key: str
    reason: str


@dataclass(frozen=True)
class Missed:
    """A cheaper plan that does not do it: what is less, what it gives at best, and what it misses."""

    change: str
    throughput: float
    p99: float
    reason: str


@dataclass(frozen=True)
class Predicted:
    """A figure of the plan with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sizing:
    """The smallest cluster for a target, or why there is none.

    Parameters
    ----------
    target : float
        Starts per second.
    p99 : float, optional
        Highest 99 % latency [s].
    headroom : float
        Share of every resource left free.
    batch, within : int, float, optional
        Where the target comes from: so many starts in so many seconds.
    calibration : str
        Name of what a start costs.
    reason : str, optional
        Why it cannot be done; None where it can.
    figures : tuple of Figure
    cluster : Cluster, optional
        The figures as a description.
    throughput, mean, latency_p99 : Predicted, optional
        What the model predicts of it [1/s, s, s].
    utilization : dict of float
        Of each resource at the target, 0 to 1.
    missed : tuple of Missed
    storage : StorageNeed, optional
    notes : tuple of (str, str)
        Headed sentences to know before anything is bought.
    """

    target: float
    p99: float | None
    headroom: float
    batch: int | None
    within: float | None
    calibration: str
    reason: str | None
    figures: tuple[Figure, ...] = ()
    cluster: Cluster | None = None
    throughput: Predicted | None = None
    mean: Predicted | None = None
    latency_p99: Predicted | None = None
    utilization: dict[str, float] | None = None
    missed: tuple[Missed, ...] = ()
    storage: StorageNeed | None = None
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether there is such a cluster."""
        return self.reason is None

    def needs(self) -> dict[str, int]:
        """Return the figures by name."""
        return {figure.name: figure.value for figure in self.figures}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        found = asdict(replace(self, cluster=None, storage=None))
        return {
            **found,
            "feasible": self.feasible,
            "cluster": self.cluster.to_dict() if self.cluster else None,
            "storage": self.storage.to_dict() if self.storage else None,
            "notes": dict(self.notes),
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(f.name)}</th><td>{f.value:,}</td>'
            f'<td>{advice.interval(f)}</td><td style="text-align:left">{html.escape(f.reason)}</td></tr>'
            for f in self.figures
        )
        missed = "".join(f"<li>{html.escape(m.change)}: {html.escape(m.reason)}</li>" for m in self.missed)
        notes = "".join(f"<li><b>{html.escape(a)}</b>: {html.escape(b)}</li>" for a, b in self.notes)
        head = "<thead><tr><th></th><th>needed</th><th>90%</th><th>set by</th></tr></thead>" if rows else ""
        return (
            f"<table><caption>{html.escape(advice.headline(self))}</caption>{head}<tbody>{rows}</tbody></table>"
            + (f"<p>Cheaper plans that miss</p><ul>{missed}</ul>" if missed else "")
            + f"<ul>{notes}</ul>"
        )
