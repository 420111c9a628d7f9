"""The controllers against real answers: a throttled dev server, and a stub whose service time changes under way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from capacity.cluster import devserver as embedded
from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.launcher.progress import Progress
from capacity.observe.run import Run, throttling
from capacity.observe.session import launch

LIMIT = 40
"""Requests per second the namespace is held to: below what even a busy machine reaches."""


@pytest.mark.devserver
@pytest.mark.usefixtures("state_folder")
@pytest.mark.parametrize("parallelism", ["auto", "64"])
def test_a_throttled_namespace_is_used_to_the_full(require: Callable[[bool, str], None], parallelism: str) -> None:
    """Behind namespaceRPS nothing is lost, the steady rate is the limit within 5 %, few attempts are refused, and the
    summary names cause, scope and key.

    Few are 5 % at 200/s; at a limit that this machine's server is sure to reach one stall of the machine refuses as
    many as are in flight, so it is a tenth, over a quarter of a minute.
    """
    limits = {"frontend.namespaceRPS": str(LIMIT), "frontend.rps": "100000", "history.rps": "100000"}
    throttled_at_ten: list[int] = []
    started_at_ten: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.elapsed >= 10 and not throttled_at_ten:
            throttled_at_ten.append(progress.throttled)
            started_at_ten.append(progress.started)

    with embedded.running(dynamic_config=limits) as server:
        target = Target(server.address)
        run = asyncio.run(
            launch(HeightRange(26 * LIMIT), target, parallelism=parallelism, on_progress=watch, verify=False)
        )
    assert (run.scheduled, run.failed, run.not_attempted) == (26 * LIMIT, 0, 0)
    assert run.sustained_starts_per_second == pytest.approx(LIMIT, rel=0.05)
    late = run.throttled_attempts - throttled_at_ten[0]
    assert late <= 0.1 * (run.scheduled - started_at_ten[0])
    assert (run.throttle_cause, run.throttle_scope) == ("RPS_LIMIT", "NAMESPACE")
    assert "frontend.namespaceRPS" in throttling(run)


def started_between(run: Run, begin: float, end: float) -> float:
    chosen = [sample for sample in run.series if begin <= sample.at - sample.seconds and sample.at <= end]
    return sum(sample.starts for sample in chosen) / sum(sample.seconds for sample in chosen)


@pytest.mark.peer
@pytest.mark.usefixtures("state_folder")
@pytest.mark.parametrize(
    "flags",
    [
        ("-service", "20ms", "-servers", "8", "-then-service", "20ms", "-then-servers", "24"),
        ("-service", "20ms", "-servers", "8", "-then-service", "80ms", "-then-servers", "8"),
        ("-service", "40ms", "-servers", "8", "-then-service", "10ms", "-then-servers", "8"),
    ],
    ids=["larger", "slower", "faster"],
)
def test_auto_follows_a_server_that_changes(stub: Callable[..., tuple[str, int]], flags: tuple[str, ...]) -> None:
    """When the server changes in mid-batch, auto is within five seconds near what 64 in flight then get of it."""
    address, pid = stub(*flags)
    changed: list[float] = []

    async def scenario() -> tuple[Run, Run]:
        stop = asyncio.Event()

        def watch(progress: Progress) -> None:
            if progress.elapsed >= 5 and not changed:
                os.kill(pid, signal.SIGUSR1)
                changed.append(progress.elapsed)
            if changed and progress.elapsed >= changed[0] + 8:
                stop.set()

        auto = await launch(HeightRange(100_000), Target(address), on_progress=watch, stop=stop, verify=False)
        enough = asyncio.Event()

        def enough_seen(progress: Progress) -> None:
            if progress.elapsed >= 4:
                enough.set()

        many = HeightRange(100_000, from_height=200_000)
        fixed = await launch(many, Target(address), parallelism=64, on_progress=enough_seen, stop=enough, verify=False)
        return auto, fixed

    auto, fixed = asyncio.run(scenario())
    assert started_between(auto, changed[0] + 5, changed[0] + 8) >= 0.88 * started_between(fixed, 1, 3.7)
