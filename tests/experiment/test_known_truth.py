"""Points of a stub frontend whose truth is known: so many servers of so much service time, or a token bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from capacity.cluster.target import Target
from capacity.experiment.points import measure
from capacity.model.measurement import Flag, Point

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("state_folder")]


def taken(address: str, parallelism: int, seconds: float) -> Point:
    found = asyncio.run(measure(Target(address), parallelism, seconds, prefix=f"truth-{parallelism}")).point
    assert found is not None
    return found


def test_four_servers_of_20_ms(stub: Callable[..., tuple[str, int]]) -> None:
    """One in flight takes 20 ms; beyond four, throughput stays at 4/20 ms and latency is in flight / throughput.

    The stub cannot be faster than that; 40 % below leaves room for a busy machine.
    """
    address, _ = stub("-service", "20ms", "-servers", "4")
    points = {parallelism: taken(address, parallelism, 2.0) for parallelism in (1, 8, 64)}
    assert [point.flag for point in points.values()] == [None, None, None]
    for parallelism, ceiling in ((1, 50), (8, 200), (64, 200)):
        assert 0.6 * ceiling < points[parallelism].throughput <= 1.02 * ceiling
    assert points[1].p50 == pytest.approx(0.020, rel=0.5)
    assert points[64].mean == pytest.approx(64 / points[64].throughput, rel=0.05)
    assert points[64].p50 == pytest.approx(points[64].mean, rel=0.1)


def test_a_token_bucket_is_measured_beyond_its_burst(stub: Callable[..., tuple[str, int]]) -> None:
    """A bucket of 100/s lets 200 pass at once: what is told is the 100/s, never the burst."""
    point = taken(stub("-rps", "100")[0], 16, 4.0)
    assert point.flag is Flag.THROTTLED
    assert point.throttled > 0
    assert point.throughput == pytest.approx(100, rel=0.1)
