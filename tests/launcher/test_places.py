"""Places in flight: as many workers as are needed, however many are allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.launcher.controller import Controller, Fixed, OpenLoop
from capacity.launcher.header import Header
from capacity.launcher.http2 import INTERNAL, Refusal
from capacity.launcher.journal import Journal
from capacity.launcher.pacing import TICK
from capacity.launcher.progress import Result
from capacity.launcher.scheduler import Scheduler


def launched(
    start: Any, count: int, controller: Controller, bodies: Iterator[tuple[int, bytes | None]] | None = None
) -> Result:
    """Launch a batch whose starts are answered by `start`, without a server."""

    async def run() -> Result:
        connection: Any = SimpleNamespace(start=start, target=Target("127.0.0.1:1"))
        with Journal.in_memory(Header("f", "run", count)) as journal:
            scheduler = Scheduler(HeightRange(count), connection, controller, journal, bodies=bodies)
            return await asyncio.wait_for(scheduler.run(), 60)

    return asyncio.run(run())


def test_a_paced_launch_takes_what_is_in_flight_not_what_may_be() -> None:
    """A million places allowed cost neither memory nor time where a few starts a second are due."""
    most = 0

    async def start(request: bytes, timeout: float) -> bytes:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        await asyncio.sleep(0.001)
        return b""

    assert launched(start, 50, OpenLoop(200.0, 1_000_000)).counts.started == 50
    assert most < 100


@pytest.mark.parametrize("controller", [OpenLoop(100_000.0, 40), Fixed(40)])
def test_all_places_are_taken_when_nothing_is_answered(controller: Controller) -> None:
    """However slow the answers, as many starts are in flight as are allowed, and no more."""
    full, in_flight, most = asyncio.Event(), 0, 0

    async def start(request: bytes, timeout: float) -> bytes:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        if in_flight == 40:
            full.set()
        await full.wait()
        await asyncio.sleep(0.01)
        in_flight -= 1
        return b""

    assert launched(start, 100, controller).counts.started == 100
    assert most == 40


def test_retries_have_all_places_when_no_other_item_is_left() -> None:
    """Items refused at once need few workers; tried again at the batch's end they are in flight all the same."""
    again, full = 0, asyncio.Event()

    async def start(request: bytes, timeout: float) -> bytes:
        nonlocal again
        if request not in refused:
            refused.add(request)
            raise Refusal(INTERNAL, "in passing")
        again += 1
        if again == 30:
            full.set()
        await full.wait()
        return b""

    refused: set[bytes] = set()
    assert launched(start, 30, OpenLoop(1000.0, 40)).counts.started == 30


def test_a_start_that_raises_what_nobody_foresaw_ends_the_launch() -> None:
    """An error of ours is not lost with its worker: the launch ends with it, though others are still in flight."""

    async def start(request: bytes, timeout: float) -> bytes:
        if b":index-block:7" in request:
            raise ZeroDivisionError
        await asyncio.sleep(30)
        return b""

    with pytest.raises(ZeroDivisionError):
        launched(start, 100, Fixed(20))


def test_a_start_waits_for_no_lines_that_are_no_items() -> None:
    """The latency of the first good item behind a stretch of bad ones is the server's, not the time they took."""
    took = 0.0

    def bodies() -> Iterator[tuple[int, bytes | None]]:
        nonlocal took
        yield 0, b"first"
        began = time.perf_counter()
        for index in range(1, 101):
            time.sleep(0.002)
            yield index, None
        took = time.perf_counter() - began
        yield 101, b"second"

    async def start(request: bytes, timeout: float) -> bytes:
        if request.endswith(b"first"):
            await asyncio.sleep(2 * TICK)  # from the first tick on a worker draws from the items itself
        return b""

    result = launched(start, 102, Fixed(1), bodies())
    assert (result.counts.started, result.counts.failed) == (2, 100)
    assert result.latencies.quantile(0.25) < took / 2
