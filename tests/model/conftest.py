"""Calibrations made from this project's raw sweeps, so that no test needs a shipped one."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from capacity.model.calibration import Calibration
from capacity.model.measurement import Conditions, Measurements, Point

MEASUREMENTS = Path(__file__).parents[2] / "data" / "measurements"


def _postgres(shards: int, cpus: int = 2) -> Conditions:
    shared = cpus == 2  # held to one CPU, the cluster left the other to the launcher
    return Conditions(store="postgres", shards=shards, max_conns=40, cluster_cpus=cpus, launcher_shares_cpus=shared)


CONDITIONS = {
    "devserver": (
        "devserver-memory-2cpus",
        Conditions(store="sqlite", shards=1, cluster_cpus=2, launcher_shares_cpus=True),
    ),
    "quiet": ("postgres15-64shards-2cpus-quiet", _postgres(64)),
    "two_cpus": ("postgres15-64shards-2cpus", _postgres(64)),
    "one_cpu": ("postgres15-64shards-1cpu", _postgres(64, cpus=1)),
    "one_shard": ("postgres15-1shard-2cpus", _postgres(1)),
}
"""Name of a sweep: its file and where it was made."""


def measurements_of(name: str) -> Measurements:
    """The raw sweep of that name: one round, so that no drift is fitted."""
    file, conditions = CONDITIONS[name]
    points = []
    with (MEASUREMENTS / f"{file}.csv").open(encoding="utf-8") as lines:
        for order, row in enumerate(csv.DictReader(lines)):
            parallelism, throughput = int(row["parallelism"]), float(row["starts_per_second"])
            database = row["database_cpu_us"]
            points.append(
                Point(
                    parallelism=parallelism,
                    order=order,
                    seconds=6,
                    starts=int(6 * throughput),
                    throughput=throughput,
                    mean=parallelism / throughput,  # a closed loop: Little's law
                    p50=float(row["p50_ms"]) / 1e3,
                    p99=float(row["p99_ms"]) / 1e3,
                    launcher_cpu=float(row["launcher_cpu_us"]) * 1e-6,
                    server_cpu=float(row["server_cpu_us"]) * 1e-6,
                    database_cpu=float(database) * 1e-6 if database else None,
                )
            )
    return Measurements(conditions=conditions, points=tuple(points))


@pytest.fixture(scope="session")
def measurements() -> Callable[[str], Measurements]:
    """``measurements("quiet")``: a raw sweep, by a name of `CONDITIONS`."""
    return measurements_of


@pytest.fixture(scope="session")
def calibrations() -> dict[str, Calibration]:
    """Every raw sweep fitted, by a name of `CONDITIONS`."""
    return {name: Calibration.of(measurements_of(name), name) for name in CONDITIONS}
