"""A launcher process of this machine as its parent sees it; the other side is `child`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from capacity import files
from capacity.errors import CapacityError, ClusterError
from capacity.fleet.report import Report
from capacity.fleet.sharing import Share
from capacity.launcher.spawn import Spawned
from capacity.launcher.tasks import end_tasks

READY_WITHIN = 60.0
"""Seconds a process may be silent before it is ready."""
END_WITHIN = 10.0
"""Seconds it has to end once nobody tells it anything any more."""
NOTHING = Share(0)


@dataclass
class Launcher:
    """One process, what it was told and what it said.

    Attributes
    ----------
    ranges : deque of (int, int)
        All it was given so far.
    waiting : int
        How many of these it had not begun when it last reported.
    idle : bool
        Whether it has done all of them.
    useful : bool
        Whether any item got its outcome by it.
    share : Share
        The last it was told.
    seen : Report, optional
        What it reported since the last tick.
    away : bool
        Whether no server answers it.
    cpu_seconds : float
        CPU time so far [s].
    rss_bytes_max : int
        Highest resident set so far [bytes].
    """

    spawned: Spawned
    ranges: deque[tuple[int, int]] = field(default_factory=deque)
    waiting: int = 0
    idle: bool = True
    useful: bool = False
    share: Share = NOTHING
    seen: Report | None = None
    in_flight: int = 0
    away: bool = False
    cpu_seconds: float = 0.0
    rss_bytes_max: int = 0
    reading: asyncio.Task[None] = field(init=False)
    _garbled: str = ""

    @classmethod
    async def start(cls, order: bytes, descriptor: int, heard: Callable[[Launcher, dict[str, Any]], None]) -> Launcher:
        """Start a process and wait until it is ready.

        Parameters
        ----------
        order : bytes
            Its first lines: see `child.hello`.
        descriptor : int
            Of the journal.
        heard : callable
            Called with all it says from then on.

        Raises
        ------
        ClusterError
            If it does not begin.
        """
        spawned = await Spawned.start("capacity.fleet.child", pass_fds=(descriptor,))
        launcher = cls(spawned)
        spawned.stdin.write(order)
        try:
            message: dict[str, Any] = {"opening": True}
            while message.get("opening"):
                line = await asyncio.wait_for(spawned.stdout.readline(), READY_WITHIN)
                message = message_of(line) if line else {}
            if not message.get("ready"):
                await spawned.end(END_WITHIN)
                words = message.get("error") or spawned.last_words
                raise ClusterError(f"a launcher process did not begin: {words}")
        except (ValueError, files.UnreadableError) as error:
            await spawned.end(END_WITHIN)
            raise ClusterError(f"a launcher process did not begin: what it says {error}") from error
        except TimeoutError:
            await spawned.end(END_WITHIN)
            raise ClusterError(f"a launcher process said nothing within {READY_WITHIN:g} s") from None
        except asyncio.CancelledError:  # while it reads it would not hear of it, and it has noted nothing
            await spawned.end(0)
            raise
        launcher.reading = asyncio.create_task(launcher._read(heard))
        return launcher

    async def _read(self, heard: Callable[[Launcher, dict[str, Any]], None]) -> None:
        try:
            while line := await self.spawned.stdout.readline():
                if not line.endswith(b"\n"):
                    break  # killed in the middle of it
                heard(self, message_of(line))
        except (ValueError, CapacityError) as error:  # it is of another version, or something else writes to its output
            self._garbled = f"what it says cannot be read: {error}"
            self.kill()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.spawned.process.pid

    @property
    def gone(self) -> bool:
        """Whether it will say nothing more."""
        return self.reading.done()

    @property
    def last_words(self) -> str:
        """Why it ended."""
        return self._garbled or self.spawned.last_words

    def tell(self, order: dict[str, Any]) -> None:
        """Write it one line; it may be gone."""
        if not self.spawned.stdin.is_closing():
            self.spawned.stdin.write(json.dumps(order).encode() + b"\n")

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.spawned.process.kill()

    async def end(self) -> None:
        """Have it end, and let go of it."""
        await self.spawned.end(END_WITHIN)
        await end_tasks(self.reading)


_MESSAGE: Final[files.Kinds] = {
    **dict.fromkeys(("opening", "ready"), bool),
    "report": dict,
    "waiting": int,
    "idle": int,
    "error": str,
    "why": str,
}


def message_of(line: bytes) -> dict[str, Any]:
    """Return what a launcher process said in one line.

    Raises
    ------
    UnreadableError
        If it is nothing that `child` says.
    """
    message = files.fields(files.json_value(line), {}, _MESSAGE)
    for first, second in (("report", "waiting"), ("error", "why")):
        if first in message and second not in message:
            raise files.UnreadableError(f"is damaged: {second} is missing")
    return message
