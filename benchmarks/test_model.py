"""What one prediction costs; read the numbers with `pytest benchmarks`, nothing here asserts a time."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from capacity.model.calibration import Calibration
from capacity.model.fit import fit, structure_of
from capacity.model.measurement import Conditions, Measurements, Point
from capacity.model.network import Parameters, solve
from capacity.model.prediction import predict, throughput_grid

CONDITIONS = Conditions(store="postgres", cluster_cpus=2, launcher_shares_cpus=True, shards=64, max_conns=40)


@pytest.fixture(scope="module")
def sweep() -> Measurements:
    """21 points of a known truth with 3 % of noise."""
    truth = Parameters(cpu=6e-3, background=0.45, lock=2.5e-3, other=2e-4, cpu_waiter=3e-4, lock_waiter=5e-3)
    curve = solve(structure_of(CONDITIONS), truth).throughput
    random = np.random.default_rng(1)
    points = []
    for repeat, level in product(range(3), (1, 2, 4, 8, 16, 32, 64)):
        rate = float(curve[level - 1] * np.exp(0.03 * random.standard_normal()))
        mean = level / rate
        points.append(
            Point(
                parallelism=level,
                repeat=repeat,
                seconds=6,
                starts=int(6 * rate),
                throughput=rate,
                mean=mean,
                p50=0.8 * mean,
                p99=3 * mean,
                server_cpu=2.7e-3,
                database_cpu=3.3e-3,
                launcher_cpu=3e-4,
            )
        )
    return Measurements(conditions=CONDITIONS, points=tuple(points))


@pytest.fixture(scope="module")
def calibration(sweep: Measurements) -> Calibration:
    return Calibration.of(sweep, "benchmark")


def test_the_whole_grid(benchmark: Any, calibration: Calibration) -> None:
    """Throughput for 1,024 CPU counts and 6 multipliers is one call; the aim is 10 ms on a quiet machine."""
    grid = benchmark(throughput_grid, calibration, range(1, 1025), (1, 2, 4, 8, 16, 32))
    assert grid.shape == (1024, 6)


def test_a_prediction_with_intervals(benchmark: Any, calibration: Calibration) -> None:
    """Ten parallelisms with latency, memory and intervals of 200 draws are predicted."""
    assert benchmark(predict, calibration).throughput.value.shape == (10,)


def test_a_prediction_without_intervals(benchmark: Any, calibration: Calibration) -> None:
    """The same without draws: what a slider in a notebook waits for."""
    assert benchmark(lambda: predict(calibration, draws=0)).throughput.value.shape == (10,)


def test_a_fit(benchmark: Any, sweep: Measurements) -> None:
    """21 points are fitted."""
    assert benchmark(fit, sweep).freedom > 1
