"""The claim that started it: 200,000 workflows a second from 128 workers, next to what a cluster really gives.

The original's numbers are those of its change: 125,000/s at 64 workers (1,000 starts in 8 ms), 200,000/s and more at
128, 750,000 in 3 to 4 s, 10 to 20 MB for 128 workers, a start's p99 below 10 ms.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any, Final

from capacity.model.calibration import Calibration
from capacity.model.cluster import DEFAULTS, Cluster
from capacity.model.network import Structure, solve
from capacity.model.prediction import predict, structure_for
from capacity.model.words import number, span

CLAIMED: Final = 200_000
WORKERS: Final = 128
BATCH: Final = 750_000


@dataclass(frozen=True)
class Claim:
    """The original's numbers beside the model's, and what would have to be true.

    Parameters
    ----------
    said : tuple of (str, str, str)
        (what, the original's, the model's).
    needed : tuple of (str, str, str)
        (what, what 200,000/s need, what there is).
    """

    cluster: str
    said: tuple[tuple[str, str, str], ...]
    needed: tuple[tuple[str, str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return both tables as JSON values."""
        keys = ("what", "original", "model"), ("what", "needed", "there")
        tables = (self.said, self.needed)
        said, needed = ([dict(zip(k, row, strict=True)) for row in t] for k, t in zip(keys, tables, strict=True))
        return {"cluster": self.cluster, "said": said, "needed": needed}

    def _repr_html_(self) -> str:
        def table(title: str, head: tuple[str, ...], rows: tuple[tuple[str, str, str], ...]) -> str:
            top = "".join(f"<th>{cell}</th>" for cell in head)
            body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
            return f"<table><caption>{title}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"

        name = html.escape(self.cluster)
        return table("The claim", ("", "the original", name), self.said) + table(
            f"What {CLAIMED:,}/s at {WORKERS} workers need", ("", "needed", name), self.needed
        )


def claim(cluster: Cluster, calibration: Calibration) -> Claim:
    """Set the original's numbers against a cluster, and say what they would need."""
    found = predict(calibration, (1, 64, WORKERS), cluster=cluster, batch=BATCH, draws=0)
    rates, demands = found.throughput.value, calibration.demands
    said = (
        ("starts/s, 64 workers", "125,000", number(rates[1])),
        ("starts/s, 128 workers", "200,000 and more", number(rates[2])),
        ("750,000 starts", "3 to 4 s", span(float(found.duration.value[2]))),
        ("p99 of a start, 128 workers", "below 10 ms", span(float(found.p99.value[2]))),
        ("memory, 128 workers", "10 to 20 MB", f"{found.rss_bytes[2] / 1e6:,.0f} MB, a whole process"),
    )
    structure, limits = structure_for(cluster), cluster.limits
    alone = float(solve(structure, demands, 1).network.response[0])  # whatever rates are configured
    needed = [
        ("mean time of a start", span(WORKERS / CLAIMED), f"{span(alone)} with nothing else under way"),
        *_cpus(CLAIMED, calibration, structure),
        (
            "shards, half of the time locked",
            f"{math.ceil(2 * CLAIMED * demands.lock / cluster.shard_io_concurrency):,}",
            f"{cluster.shards:,}" if cluster.store != "sqlite" else "none to set",
        ),
        _hosts("frontends", cluster.frontends, "frontend.rps", limits),
        _hosts("history hosts", cluster.history_hosts, "history.rps", limits),
        ("launcher processes", f"{math.ceil(CLAIMED * demands.launcher):,}", f"{cluster.launcher_processes:,}"),
    ]
    return Claim(cluster.name, said, tuple(needed))


def _cpus(rate: float, calibration: Calibration, structure: Structure) -> list[tuple[str, str, str]]:
    needed = f"{math.ceil(rate * calibration.demands.cpu):,}"
    return [("CPUs of server and database", needed, f"{structure.all_cpus:,.0f}")]


def _hosts(what: str, there: int, key: str, limits: dict[str, float]) -> tuple[str, str, str]:
    stock = DEFAULTS[key]
    return f"{what}, {key} {stock:,}", f"{math.ceil(CLAIMED / stock):,}", f"{there} at {limits[key]:,.0f}"
