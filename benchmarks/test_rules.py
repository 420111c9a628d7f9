"""What one sizing costs; read the numbers with `pytest benchmarks`, nothing here asserts a time."""

from __future__ import annotations

from typing import Any

from capacity.rules import parallelism, queue_size


def test_parallelism(benchmark: Any) -> None:
    """The parallelism of a 64-CPU machine is computed."""
    assert benchmark(parallelism, 64).value == 256


def test_queue_size(benchmark: Any) -> None:
    """The queue of 256 in flight and batches of 1,000 is computed."""
    assert benchmark(queue_size, 256, 1000).value == 256000
