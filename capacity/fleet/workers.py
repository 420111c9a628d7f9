"""Launcher processes of a fleet on this machine: started, watched, started again when one dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.fleet import TASK_QUEUE
from capacity.fleet.launcher import READY_WITHIN
from capacity.fleet.processes import check_processes
from capacity.launcher import worker
from capacity.launcher.retries import backoff
from capacity.launcher.spawn import Spawned
from capacity.launcher.tasks import end_tasks

SHORT = 10.0
"""A process that lives for less than this did not begin well [s]."""
SHORT_LIVES = 3
"""After so many such processes in a row, and none before that lived longer, `serve` ends with the last one's words."""
LONGEST_PAUSE = 8.0
"""Before another takes the place of one that did not begin well [s]: a server may be restarting."""
DRAIN_WITHIN = 30.0
"""Seconds a process has to drain what it has in flight."""


async def serve(
    target: Target,
    processes: int = 1,
    *,
    task_queue: str = TASK_QUEUE,
    own_namespace: str | None = None,
    stop: asyncio.Event,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Keep so many launcher processes at work until told to stop; then they drain.

    `own_namespace` is where the fleet's own workflows are, by default that of the batches. In one of its own they do
    not count against the request limit of the batches' namespace, which refuses such calls first.

    Raises
    ------
    ClusterError
        When a process cannot begin.
    """
    check_processes(processes)
    tasks = [asyncio.create_task(_keep(target, task_queue, own_namespace, stop, say)) for _ in range(processes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_tasks(*tasks)


async def _keep(
    target: Target, task_queue: str, own: str | None, stop: asyncio.Event, say: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    short_lives, lived = 0, False
    while not stop.is_set():
        began = loop.time()
        words = await _once(target, task_queue, own, stop, say)
        if stop.is_set():
            return
        short_lives = short_lives + 1 if loop.time() - began < SHORT else 0
        lived = lived or short_lives == 0
        if short_lives >= SHORT_LIVES and not lived:
            raise ClusterError(f"a launcher process does not stay: {words}", next_step="check --address and namespace")
        say(f"a launcher process ended ({words}); another takes its place")
        if short_lives:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), backoff(1.0, short_lives, LONGEST_PAUSE))


async def _once(
    target: Target, task_queue: str, own: str | None, stop: asyncio.Event, say: Callable[[str], None]
) -> str:
    """Run one process until it ends or is told to; return its last words."""
    spawned = await Spawned.start("capacity.fleet.member")
    stopping = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(spawned.process.wait())
    first = asyncio.create_task(spawned.stdout.readline())
    try:
        spawned.stdin.write(worker.pack(target, task_queue) + (own or "").encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await spawned.stdin.drain()
        done, _ = await asyncio.wait(
            [first, stopping, ended], timeout=READY_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return f"it was not ready within {READY_WITHIN:g} s"
        if first in done and first.result().strip() == b"ready":
            say(f"launcher process {spawned.process.pid} is ready")
        await asyncio.wait([stopping, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        try:
            await end_tasks(stopping, ended, first)
        finally:
            await spawned.end(DRAIN_WITHIN)
    return spawned.last_words
