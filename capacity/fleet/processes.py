"""A batch launched by several processes of this machine: one controller, one journal, one result.

Invariants: the journal says what is to do, so a process that dies takes nothing along: what it had not noted goes to
another. The parent alone runs the controller, on what all of them saw together, and shares its setting out; while one
begins in the place of a lost one, the others have all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

from capacity.cluster.target import Target
from capacity.errors import CapacityError, RunFailedError, UsageError
from capacity.fleet import MOST_PROCESSES
from capacity.fleet.child import hello
from capacity.fleet.launcher import Launcher
from capacity.fleet.merged import Merged
from capacity.fleet.report import Report
from capacity.fleet.sharing import shares, together
from capacity.launcher import worker
from capacity.launcher.batch import Batch
from capacity.launcher.controller import Controller, Setting, Window
from capacity.launcher.journal import Journal
from capacity.launcher.latency import Latencies
from capacity.launcher.pacing import TICK
from capacity.launcher.progress import (
    AWAY,
    STOPPED,
    STOPPED_AT_ONCE,
    ProcessUse,
    Progress,
    Result,
    reason_to_stop,
)
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.tasks import end_tasks

LOST_AT_MOST = 3
"""Processes that may die without a start of their own, and with none of others in between."""


def check_processes(processes: int) -> None:
    """Refuse a number of launcher processes that makes no sense."""
    if not 1 <= processes <= MOST_PROCESSES:
        raise UsageError(
            f"processes is {processes}", allowed=f"1 to {MOST_PROCESSES}", next_step="pass for example --processes 2"
        )


class Processes:
    """Starts the items of a batch that its journal does not yet note, by several processes.

    Parameters
    ----------
    batch, target, controller, journal
        As for `Scheduler`; the journal has to be a file.
    processes : int
        How many.
    policy : RetryPolicy
    on_progress : callable, optional
        Called at every tick with a `Progress`, on the event loop.
    """

    def __init__(
        self,
        batch: Batch,
        target: Target,
        controller: Controller,
        journal: Journal,
        *,
        processes: int,
        policy: RetryPolicy | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        check_processes(processes)
        self._batch, self._target, self._journal = batch, target, journal
        self._controller = controller
        self._processes = processes
        self._policy = policy or RetryPolicy()
        self._on_progress = on_progress
        self._before = journal.tally()
        self._merged = Merged(batch.count, self._before)
        self._launchers: list[Launcher] = []
        self._ended: list[Launcher] = []
        self._beginning: set[asyncio.Task[None]] = set()
        self._seeds = itertools.count()
        size = min(max(batch.count // (20 * processes), 100), 50_000)
        self._todo = deque((first, min(first + size, batch.count)) for first in range(0, batch.count, size))
        self._setting = Setting(0)
        self._began = self._ticked = 0.0
        self._answered: float | None = None  # when the last answer was heard of
        self._ramp_seconds = 0.0
        self._stopping = ""
        self._error: CapacityError | None = None
        self._useless = 0  # lost in a row
        self._lost = 0
        self._changed = asyncio.Event()

    # -- what the session asks ---------------------------------------------------------------------------------

    @property
    def latencies(self) -> Latencies:
        """Latencies of the starts of this session, up to the last tick."""
        return self._merged.latencies

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [launcher.pid for launcher in self._launchers]

    @property
    def use(self) -> ProcessUse:
        """What the processes cost so far, this one left out."""
        every = [*self._launchers, *self._ended]
        rss = tuple(launcher.rss_bytes_max for launcher in every)
        return ProcessUse(self._processes, sum(launcher.cpu_seconds for launcher in every), rss, self._lost)

    def progress(self) -> Progress:
        """Return the batch as it stands at the last tick."""
        in_flight = sum(launcher.in_flight for launcher in self._launchers)
        away = any(launcher.away for launcher in self._launchers)
        state = "draining" if self._stopping else AWAY if away else "running"
        return self._merged.progress(state, self._ticked - self._began, in_flight, self._setting)

    async def run(self, drain: asyncio.Event | None = None, abort: asyncio.Event | None = None) -> Result:
        """Start everything there is to start and return what became of it; as `Scheduler.run`."""
        tasks = [asyncio.create_task(self._drain_when(drain))] if drain else []
        tasks += [asyncio.create_task(self._abort_when(abort))] if abort else []
        try:
            await self._start_all()
            self._began = self._ticked = time.perf_counter()
            self._merged.seconds.begin(self._began)
            self._apply(self._controller.step(None, self._began))
            for launcher in [*self._launchers, *self._launchers]:
                self._feed(launcher)
            tasks.append(asyncio.create_task(self._sync_forever()))
            while (self._launchers or self._beginning) and not self._all_done():
                await self._look()
            await self._end_beginning()  # before those that are there are told to drain: no other comes then
            await self._drain()
        finally:
            await end_tasks(*tasks)
            await self._end_beginning()
            await self._end_all()
            if self._began:  # else no process began
                self._tick(time.perf_counter(), last=True)
        self._merged.recount(self._journal.tally(), self._before)
        seconds = (self._answered or self._ticked) - self._began  # not the time their interpreters take to end
        return self._merged.result(
            seconds, self._setting, self._setting.pace, self._ramp_seconds, self._stopping, self._error
        )

    # -- processes ---------------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        """Begin all processes, which takes as long as they read their items; stopped meanwhile, end those that do."""
        self._beginning = pending = {asyncio.create_task(self._start()) for _ in range(self._processes)}
        while pending and not self._stopping:
            done, pending = await asyncio.wait(self._beginning, timeout=TICK, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # raises why it did not begin
        await self._end_beginning()

    async def _start(self) -> None:
        order = hello(
            self._batch,
            worker.pack(self._target, ""),
            self._journal.descriptor,
            self._policy,
            self._controller.maximum,
            next(self._seeds),
        )
        self._launchers.append(await Launcher.start(order, self._journal.descriptor, self._heard))

    def _heard(self, launcher: Launcher, message: dict[str, Any]) -> None:
        if "report" in message:
            report = Report.from_json(message["report"])
            launcher.cpu_seconds += report.cpu_seconds
            launcher.rss_bytes_max = max(launcher.rss_bytes_max, report.rss_bytes)
            launcher.in_flight, launcher.away = report.in_flight, report.away
            launcher.waiting = message["waiting"]
            self._merged.add(report)
            if report.answered:
                self._answered, self._useless, launcher.useful = time.perf_counter(), 0, True
            if launcher.seen is None:
                launcher.seen = report
            else:  # it reported twice since the last tick
                launcher.seen.add(report)
            if launcher.waiting == 0:
                self._feed(launcher)
        elif "idle" in message:
            launcher.in_flight = 0
            launcher.idle = message["idle"] == len(launcher.ranges)  # else one more is on its way to it
            self._feed(launcher)
        elif "error" in message:
            self._give_up(message["why"], RunFailedError(message["error"]))
        self._changed.set()

    def _feed(self, launcher: Launcher) -> None:
        """Give a launcher one more range, which waits behind the one it is at."""
        while self._todo and not self._stopping:
            first, stop = self._todo.popleft()
            if self._journal.all_done(first, stop):
                continue
            launcher.ranges.append((first, stop))
            launcher.tell({"range": [first, stop]})
            launcher.waiting += 1
            launcher.idle = False
            return

    async def _look(self) -> None:
        """Wait for news of every launcher, then tick; see to launchers that died, and to those in their place."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5 * TICK):
                while not self._all_heard() and not self._all_done():
                    self._changed.clear()
                    await self._changed.wait()
        for launcher in [one for one in self._launchers if one.gone]:
            await self._died(launcher)
        for task in [one for one in self._beginning if one.done()]:
            self._beginning.remove(task)
            task.result()  # raises what nobody foresaw
        self._tick(time.perf_counter())

    def _all_heard(self) -> bool:
        heard = all(one.seen is not None or one.idle for one in self._launchers)
        return (heard and bool(self._launchers)) or bool(self._stopping) or any(one.gone for one in self._launchers)

    def _all_done(self) -> bool:
        return bool(self._stopping) or (not self._todo and all(launcher.idle for launcher in self._launchers))

    async def _died(self, launcher: Launcher) -> None:
        self._launchers.remove(launcher)
        self._ended.append(launcher)
        await launcher.end()
        if self._stopping:
            return
        self._lost += 1
        self._useless += not launcher.useful
        self._todo.extendleft(reversed(launcher.ranges))  # what of them is done is passed over
        if self._useless > LOST_AT_MOST:
            self._give_up("launcher processes die", RunFailedError(f"launcher processes die: {launcher.last_words}"))
            return
        self._share_out()
        self._beginning.add(asyncio.create_task(self._replace()))

    async def _replace(self) -> None:
        """Begin a process, which takes as long as it reads its items, in the place of a lost one."""
        try:
            await self._start()
        except (CapacityError, OSError) as error:
            why = RunFailedError(f"a launcher process died, and no other begins in its place: {error}")
            self._give_up("launcher processes die", why)
            return
        self._share_out()

    def _share_out(self) -> None:
        """Give those that are there all of the setting, and work to whoever has none."""
        self._apply(self._setting)
        for launcher in self._launchers:
            if launcher.idle:
                self._feed(launcher)

    async def _end_beginning(self) -> None:
        await end_tasks(*self._beginning)
        self._beginning.clear()

    async def _drain(self) -> None:
        for launcher in self._launchers:
            launcher.tell({"drain": True})
        while not all(launcher.gone for launcher in self._launchers):
            await asyncio.wait([launcher.reading for launcher in self._launchers], timeout=TICK)
            self._tick(time.perf_counter())

    async def _end_all(self) -> None:
        for launcher in self._launchers:
            await launcher.end()
        self._ended += self._launchers
        self._launchers = []

    # -- ticks -------------------------------------------------------------------------------------------------

    def _tick(self, now: float, last: bool = False) -> None:
        seconds = max(now - self._ticked, 1e-9)
        self._ticked = now
        reports = [launcher.seen for launcher in self._launchers if launcher.seen is not None]
        for launcher in self._launchers:
            launcher.seen = None
        in_flight = sum(launcher.in_flight for launcher in self._launchers)
        # When all is done the last second ends with its last answer, not when the processes have ended.
        over = self._answered if not self._stopping and self._all_done() else None
        lasted = self._merged.seconds.lasted(over or now)
        whole = over is None and lasted >= 1 - TICK / 2
        if whole or (last and lasted > 0):
            self._merged.seconds.close(over or now, in_flight, self._setting.limit)
        if not last and not self._stopping and self._launchers:
            windows = [Window(r.seconds, r.answered, r.in_flight, r.throttled, r.away) for r in reports]
            setting = self._controller.step(together(windows, seconds), now)
            if setting.reason == "finding the knee":
                self._ramp_seconds = now - self._began
            self._apply(setting)
        if self._on_progress:
            self._on_progress(self.progress())

    def _apply(self, setting: Setting) -> None:
        self._setting = setting
        busy = [one for one in self._launchers if not one.idle or self._todo]
        for launcher, share in zip(busy, shares(setting, len(busy)), strict=True):
            if share != launcher.share:
                launcher.share = share
                launcher.tell({"share": astuple(share)})

    async def _sync_forever(self) -> None:
        while True:
            await asyncio.sleep(10 * TICK)
            try:
                await asyncio.to_thread(self._journal.sync)
            except CapacityError as error:
                self._give_up("the journal cannot be written", error)
                return

    def _give_up(self, why: str, error: CapacityError | None = None) -> None:
        self._error = self._error or error
        self._stopping = reason_to_stop(self._stopping, why)
        self._changed.set()

    async def _drain_when(self, drain: asyncio.Event) -> None:
        await drain.wait()
        self._give_up(STOPPED)

    async def _abort_when(self, abort: asyncio.Event) -> None:
        await abort.wait()
        self._give_up(STOPPED_AT_ONCE)
        for launcher in self._launchers:
            launcher.kill()
