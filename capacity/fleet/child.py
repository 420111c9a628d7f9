"""A launcher process of a batch: started fresh, told its ranges on standard input, it reports on standard output.

It notes outcomes in the batch's own journal, whose descriptor it inherits; so whatever becomes of it, what it noted
stays, and what it did not is to do. When its standard input is closed, its parent is gone: it ends at once.

Lines in, each a JSON object: first the batch and the target, then ``{"range": [first, stop]}``, ``{"share": [limit,
schedule, pace]}``, ``{"drain": true}``. Lines out: ``{"opening": true}`` while it reads a file of items,
``{"ready": true}``, then ten times a second ``{"report": ..., "waiting": ranges not begun}``, ``{"idle": ranges it was
given so far}`` when it has done them, and ``{"error": ..., "why": ...}`` when no item can succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from capacity import files
from capacity.errors import CapacityError, ClusterError
from capacity.fleet.notes import SharedNotes
from capacity.fleet.report import Reporter
from capacity.fleet.sharing import Share, Told
from capacity.launcher import worker
from capacity.launcher.batch import Batch
from capacity.launcher.journal import Journal
from capacity.launcher.progress import Progress
from capacity.launcher.rebuild import read, reading
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.tasks import end_tasks
from capacity.launcher.transport import Connection, connect

ALIVE_EVERY: Final = 5.0
"""Seconds between its words while it reads a file of items."""


class Child:
    """Launches the ranges it is given, one after the other as one stream, until it is told to drain."""

    def __init__(
        self, batch: Batch, connection: Connection, journal: Journal, policy: RetryPolicy, maximum: int, seed: int
    ) -> None:
        self._batch, self._connection, self._policy, self._seed = batch, connection, policy, seed
        self._notes = SharedNotes(journal)
        self._controller = Told(maximum)
        self._ranges: deque[tuple[int, int]] = deque()
        self._told = 0  # ranges it was given so far
        self._cpu_seconds = time.process_time()
        self._more = asyncio.Event()
        self._drain = asyncio.Event()

    def told(self, line: bytes) -> None:
        """Take one line of standard input."""
        order = json.loads(line)
        if "range" in order:
            first, stop = order["range"]
            self._ranges.append((first, stop))
            self._told += 1
            self._more.set()
        elif "share" in order:
            self._controller.share = Share(*order["share"])
        elif "drain" in order:
            self._drain.set()
            self._more.set()

    async def run(self) -> None:
        """Launch until told to drain, or until no item can succeed."""
        while not self._drain.is_set():
            if not self._ranges:
                self._more.clear()
                await self._more.wait()
                continue
            reporter = Reporter({}, time.perf_counter())

            def show(_: Progress) -> None:
                report = reporter.report(scheduler, time.perf_counter())  # noqa: B023 - called within this turn
                cpu_seconds = time.process_time()
                report.cpu_seconds, report.rss_bytes = cpu_seconds - self._cpu_seconds, rss_bytes()
                self._cpu_seconds = cpu_seconds
                say({"report": report.to_json(), "waiting": len(self._ranges)})

            scheduler = Scheduler(
                self._batch,
                self._connection,
                self._controller,
                self._notes,
                bodies=self._bodies(),
                policy=self._policy,
                namespace_known=True,
                seed=self._seed,
                on_progress=show,
            )
            result = await scheduler.run(self._drain)
            if result.error is not None:
                say({"error": str(result.error), "why": result.stopped})
                return
            if not self._drain.is_set() and not self._ranges:
                say({"idle": self._told})

    def _bodies(self) -> Iterator[tuple[int, bytes | None]]:
        notes = self._notes
        while self._ranges:
            first, stop = self._ranges.popleft()
            yield from self._batch.bodies(notes.header.run_id, notes.is_done, first, stop)


def say(message: dict[str, Any]) -> None:
    """Write one line; a reader that is gone ends this process."""
    sys.stdout.buffer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    sys.stdout.buffer.flush()


def say_opening() -> None:
    """Say that it reads its items; without a parent end at once, which no thread that reads can be told."""
    try:
        say({"opening": True})
    except BrokenPipeError:
        os._exit(1)


def rss_bytes() -> int:
    """Return the resident set of this process [bytes]."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hello(batch: Batch, target: bytes, descriptor: int, policy: RetryPolicy, maximum: int, seed: int) -> bytes:
    """Return the first two lines of a child's standard input."""
    fields = {
        "batch": batch.describe(),
        "journal": descriptor,
        "policy": asdict(policy),
        "maximum": maximum,
        "seed": seed,
    }
    return target + json.dumps(fields).encode() + b"\n"


_NUMBERS: Final = dict.fromkeys(("journal", "maximum", "seed"), int)
_POLICY: Final[files.Kinds] = {
    **dict.fromkeys(("deadline", "first_delay", "maximum_delay", "patience"), float),
    "attempts": int,
}


def order_of(line: bytes) -> dict[str, Any]:
    """Return the second line that `hello` wrote.

    Raises
    ------
    ClusterError
        If it is none.
    """
    try:
        found = files.fields(files.json_value(line, finite=False), {"batch": dict, "policy": dict, **_NUMBERS})
        files.fields(found["policy"], {}, _POLICY)
    except files.UnreadableError as error:
        raise ClusterError(f"a launcher process was told what it does not understand: it {error}") from error
    return found


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    target, _ = worker.unpack(await lines.readline())
    fields = order_of(await lines.readline())
    batch = await read(reading(fields["batch"]), say_opening, ALIVE_EVERY)
    policy = RetryPolicy(**fields["policy"])
    with Journal.inherited(fields["journal"]) as journal:
        async with connect(target) as connection:
            child = Child(batch, connection, journal, policy, fields["maximum"], fields["seed"])
            say({"ready": True})
            running = asyncio.create_task(child.run())

            async def listen() -> None:
                while line := await lines.readline():
                    child.told(line)

            listening = asyncio.create_task(listen())
            await asyncio.wait([running, listening], return_when=asyncio.FIRST_COMPLETED)
            await end_tasks(running, listening)
            with contextlib.suppress(asyncio.CancelledError):
                await running


def main() -> None:
    """Serve until drained, or until standard input ends."""
    try:
        asyncio.run(_serve())
    except CapacityError as error:
        say({"error": str(error), "why": "a launcher process could not begin"})
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)


if __name__ == "__main__":
    main()
