"""The scheduler: as many starts in flight as the controller allows, each item noted once it is answered.

Invariants: an item is to do, waiting, in flight or noted, in exactly one of these; what is in flight is bounded by
the number of awake workers; a worker sends bytes and notes index and latency, all else happens in bulk at ticks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from capacity.errors import CapacityError, ClusterError, RunFailedError
from capacity.launcher import outcome
from capacity.launcher.batch import Batch
from capacity.launcher.controller import Controller, Setting, Window
from capacity.launcher.http2 import Refusal
from capacity.launcher.journal import Notes
from capacity.launcher.latency import Latencies
from capacity.launcher.outage import Outage
from capacity.launcher.pacing import TICK, Pacing
from capacity.launcher.progress import AWAY, STOPPED, STOPPED_AT_ONCE, Progress, Result, reason_to_stop
from capacity.launcher.retries import Pending, RetryPolicy
from capacity.launcher.tally import Tally
from capacity.launcher.tasks import end_tasks
from capacity.launcher.transport import Connection, Meaning, read
from capacity.launcher.turns import Turns
from capacity.launcher.waits import Waits


class Scheduler:
    """Starts the items of a batch that its journal does not yet note.

    Parameters
    ----------
    batch, connection, controller, journal
        What, where, how many at once, and where it is noted.
    bodies : iterator, optional
        The items to start, as `Batch.bodies` yields them; all that the journal does not note by default.
    policy : RetryPolicy
    namespace_known : bool
        Whether the server has answered for this namespace: one that says later it is not there is without its store.
    seed : int
        Of the jitter.
    on_progress : callable, optional
        Called at every tick with a `Progress`, on the event loop.
    """

    def __init__(
        self,
        batch: Batch,
        connection: Connection,
        controller: Controller,
        journal: Notes,
        *,
        bodies: Iterator[tuple[int, bytes | None]] | None = None,
        policy: RetryPolicy | None = None,
        namespace_known: bool = False,
        seed: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._batch = batch
        self._start = connection.start
        self._controller = controller
        self._journal = journal
        self._policy = policy or RetryPolicy()
        self._namespace_known = namespace_known
        self._random = random.Random(seed)
        self._on_progress = on_progress
        self._run_id = journal.header.run_id
        self._on_existing = batch.options.on_existing
        self._template = batch.options.request_template(connection.target.namespace, self._run_id)
        self._bodies = batch.bodies(self._run_id, journal.is_done) if bodies is None else bodies

        self._tally = Tally(journal, batch.count)
        self._others = self._tally.others
        self._in_flight = 0
        self._attempts = 0
        self._throttled = 0
        self._throttled_at_tick = 0
        self._retries: Counter[str] = Counter()
        self._throttles: Counter[tuple[str, str]] = Counter()

        self._outage = Outage()
        self._turns = Turns(self._bodies, self._others, self._outage)
        self._setting = Setting(0)
        self._ramp_seconds = 0.0
        self._slow = True  # something other than "take the next item" must be looked at before an attempt
        self._pacing = Pacing(
            lambda: bool(self._stopping) or self._turns.empty, lambda: self._turns.due(time.perf_counter())
        )
        self._waits = Waits()
        self._workers: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()  # no worker is left, or one failed
        self._failure: BaseException | None = None
        self._stopping = ""
        self._fatal: CapacityError | None = None
        self._began = 0.0
        self._ticked = 0.0

    async def run(self, drain: asyncio.Event | None = None, abort: asyncio.Event | None = None) -> Result:
        """Start everything there is to start and return what became of it.

        Parameters
        ----------
        drain, abort : asyncio.Event, optional
            Set the first to end early once what is in flight is answered, the second not to wait even for that.

        Returns
        -------
        Result
            Its `error` says why a batch ended early by itself: no item can succeed (namespace gone, permission denied),
            no server answered for `policy.patience` seconds, the disk refuses the notes.
        """
        self._began = self._ticked = time.perf_counter()
        self._tally.seconds.begin(self._began)
        self._apply(self._controller.step(None, self._began))
        writer = ThreadPoolExecutor(1, thread_name_prefix="capacity-journal")
        ticks, left = asyncio.create_task(self._tick_forever()), asyncio.create_task(self._left.wait())
        tasks: list[asyncio.Task[Any]] = [ticks, left, asyncio.create_task(self._sync_forever(writer))]
        tasks += [asyncio.create_task(self._drain_when(drain))] if drain else []
        tasks += [asyncio.create_task(self._abort_when(abort))] if abort else []
        try:
            await asyncio.wait([ticks, left], return_when=asyncio.FIRST_COMPLETED)
            if ticks.done():
                ticks.result()  # raises: without ticks nothing would be noted or controlled any more
            if self._failure is not None:
                raise self._failure
        finally:
            await end_tasks(*tasks, *self._workers)
            self._tick(last=True)  # before the wait for a disk: the batch lasted until now
            writer.shutdown()
        return self.result()

    def result(self) -> Result:
        """Return what became of the batch up to the last tick."""
        return Result(
            counts=self._tally.counts,
            session_started=self._tally.started,
            seconds=self._ticked - self._began,
            attempts=self._attempts,
            throttled=self._throttled,
            retries=dict(self._retries),
            throttles=dict(self._throttles),
            latencies=self._tally.histogram,
            series=self._tally.seconds.series,
            limit=self._setting.limit,
            pace=self._setting.pace,
            ramp_seconds=self._ramp_seconds,
            reason=self._setting.reason,
            stopped=self._stopping,
            error=self._fatal,
            first_start=self._tally.first_start,
        )

    # -- the hot path ------------------------------------------------------------------------------------------

    async def _worker(self, slot: int) -> None:
        clock, start, template, deadline = time.perf_counter, self._start, self._template, self._policy.deadline
        bodies, indices, latencies = self._bodies, self._tally.indices, self._tally.latencies
        now = clock()
        while True:
            if self._slow or slot >= self._setting.limit:
                pending = await self._next(slot)
                if pending is None:
                    return
                _, index, body, attempt, tries, intended, again = pending
            else:
                try:
                    index, own = next(bodies)
                except StopIteration:
                    self._turns.exhausted = self._slow = True
                    continue
                if own is None:
                    self._others.append((index, outcome.BAD_ITEM))
                    await asyncio.sleep(0)  # a file of bad lines must not keep the loop to itself
                    now = clock()  # nor be waited for by the next item
                    continue
                body, attempt, tries, intended, again = own, 0, 0, now, False
            self._attempts += 1
            self._in_flight += 1
            try:
                await start(template + body, deadline)
            except Refusal as refusal:
                now = clock()
                self._refused(Pending(now, index, body, attempt, tries, intended, again), refusal, now)
            else:
                now = clock()
                indices.append(index)
                latencies.append(now - intended)
                if self._slow:
                    self._answered()
            finally:
                self._in_flight -= 1
                if again:
                    self._turns.again_in_flight -= 1

    # -- everything that is not the plain case -----------------------------------------------------------------

    def _answered(self) -> None:
        if self._outage.succeeded():
            self._waits.wake()

    def _refused(self, item: Pending, refusal: Refusal, now: float) -> None:
        verdict = read(refusal, f"{self._run_id}:{item.item}", self._on_existing)
        meaning = verdict.meaning
        if verdict.kind == "NOT_FOUND" and (self._namespace_known or self._tally.started or self._tally.indices):
            meaning = Meaning.AWAY  # the namespace was there: a server refused by its store says the same as without it
        if verdict.kind == "DEADLINE_EXCEEDED":  # no answer: it ends no outage, and within one it is part of it
            meaning = Meaning.AWAY if self._outage.active else meaning
        elif meaning is not Meaning.AWAY:
            self._answered()
        if meaning is Meaning.DONE:
            self._others.append((item.item, verdict.outcome))
            return
        if meaning is Meaning.STOP:
            self._give_up(
                RunFailedError(f"the server refuses the whole batch: {verdict.kind}: {refusal.details}"), verdict.kind
            )
            return
        self._retries[verdict.kind] += 1
        attempt, tries = item.attempt, item.tries + 1
        if meaning is Meaning.AWAY:
            # Some ids may have no answer, those of a shard that is away, while all others have: fresh ones tell.
            only_retries = self._turns.exhausted or self._turns.again_in_flight >= self._in_flight
            tells = item.tries == 0 or only_retries or self._outage.active
            away = tells and self._outage.failed(item.item, now)
            if away and now - self._outage.since > self._policy.patience:
                error = ClusterError(
                    f"no server started anything for {self._policy.patience:g} s: {refusal.details}",
                    next_step="see the server's log",
                )
                self._give_up(error, "no server answered")
            if item.unanswered:
                self._turns.unanswered_again()
        elif meaning is Meaning.THROTTLED:
            self._throttled += 1
            self._throttles[verdict.kind, verdict.scope] += 1
        else:
            attempt += 1
            if attempt >= self._policy.attempts:
                self._others.append((item.item, outcome.GAVE_UP + refusal.code))
                return
        due = now + self._policy.delay(tries, self._random)
        self._turns.put_back(item._replace(due=due, attempt=attempt, tries=tries, unanswered=meaning is Meaning.AWAY))
        self._slow = True

    async def _next(self, slot: int) -> Pending | None:
        """Return the next attempt for a worker once it may be made; None when there is nothing left for it."""
        clock, outage, turns = time.perf_counter, self._outage, self._turns
        while not self._stopping and not turns.empty:
            now = clock()
            if self._held(slot):
                await self._waits.park()
                continue
            if outage.quiet(now):
                await outage.pause(now)
                continue
            place = await self._pacing.place()
            if place is None:
                continue
            now = clock()
            must_wait = self._stopping or self._held(slot) or outage.quiet(now)  # it may have waited long for its place
            pending = None if must_wait else turns.take(place.due, now)
            if pending is not None:
                outage.sent(pending.item)
                self._waits.took()
                if len(self._workers) - self._in_flight <= 1:  # it was the last that waited
                    self._begin(len(self._workers) + 1)
                return pending
            self._pacing.give_back(place)
            if not must_wait:
                await self._waits.look(turns.pause(now))
        self._waits.wake()  # whoever is parked has nothing left to wait for either
        return None

    def _held(self, slot: int) -> bool:
        """Whether a worker has to wait until it is woken: for a probe, or since enough others are at work."""
        if self._turns.exhausted:  # others leave then, so a place is not a slot any more
            return self._outage.probing or self._in_flight >= self._setting.limit
        return self._outage.probing or slot >= self._setting.limit

    def _give_up(self, error: CapacityError | None, why: str) -> None:
        if error is not None and self._fatal is None:
            self._fatal = error
        self._stopping = reason_to_stop(self._stopping, why)
        self._slow = True
        self._waits.wake()

    async def _drain_when(self, drain: asyncio.Event) -> None:
        await drain.wait()
        self._give_up(None, STOPPED)

    async def _abort_when(self, abort: asyncio.Event) -> None:
        await abort.wait()
        self._give_up(None, STOPPED_AT_ONCE)
        for worker in self._workers:
            worker.cancel()

    # -- ticks -------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._tick()

    async def _sync_forever(self, writer: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(10 * TICK)
            try:
                await loop.run_in_executor(writer, self._journal.sync)
            except CapacityError as error:
                self._give_up(error, "the journal cannot be written")
                return

    def _apply(self, setting: Setting) -> None:
        raised = setting.limit > self._setting.limit
        self._setting = setting
        self._turns.limit = setting.limit
        self._pacing.apply(setting)
        as_needed = self._pacing.binds or self._turns.exhausted  # who takes an item begins the next
        self._begin(self._in_flight + 1 if as_needed else setting.limit)
        if raised:
            self._waits.wake()

    def _begin(self, workers: int) -> None:
        """Have as many workers as that, or as the limit allows; with a limit of 0 one waits for another."""
        if self._stopping or self._turns.empty:
            return
        for slot in range(len(self._workers), max(min(workers, self._setting.limit), 1)):
            worker = asyncio.create_task(self._worker(slot))
            self._workers.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if isinstance(error, CapacityError):
            self._give_up(error, "the batch cannot be read")
        elif error is not None:
            self._failure = error
        if self._failure or not self._workers:
            self._left.set()

    def _tick(self, last: bool = False) -> None:
        now = time.perf_counter()
        seconds = max(now - self._ticked, 1e-9)
        self._ticked = now
        answered = self._tally.note()
        throttled = self._throttled - self._throttled_at_tick
        self._throttled_at_tick = self._throttled
        self._tally.seconds.throttled(throttled)
        if self._tally.seconds.lasted(now) >= 1 - TICK / 2 or last:
            self._tally.seconds.close(now, self._in_flight, self._setting.limit)
        if not last:
            window = Window(seconds, answered, self._in_flight, throttled, self._outage.active)
            setting = self._controller.step(window, now)
            if setting.reason == "finding the knee":
                self._ramp_seconds = now - self._began
            self._apply(setting)
            turns = self._turns
            self._slow = bool(
                self._stopping or turns.exhausted or turns.some_wait or self._outage.active or self._pacing.binds
            )
        if self._waits.nobody_looks or (self._outage.active and not self._outage.probing):
            self._waits.wake()  # the worker that was to look next, or probed, may be parked itself now
        if self._on_progress:
            self._on_progress(self.progress())

    @property
    def in_flight(self) -> int:
        """Attempts in flight."""
        return self._in_flight

    @property
    def away(self) -> bool:
        """Whether no server answers."""
        return self._outage.active

    @property
    def latencies(self) -> Latencies:
        """Latencies of the starts of this session, up to the last tick."""
        return self._tally.histogram

    def progress(self) -> Progress:
        """Return the batch as it stands at the last tick."""
        state = "running"
        if self._stopping:
            state = "draining"
        elif self._outage.active:
            state = AWAY
        rate, p50, p99 = self._tally.seconds.last
        counts = self._tally.counts
        return Progress(
            state=state,
            count=counts.count,
            started=counts.started,
            already_running=counts.already_running,
            already_finished=counts.already_finished,
            failed=counts.failed,
            in_flight=self._in_flight,
            limit=self._setting.limit,
            starts_per_second=rate,
            p50=p50,
            p99=p99,
            elapsed=self._ticked - self._began,
            throttled=self._throttled,
            attempts=self._attempts,
            retries=dict(self._retries),
            errors=counts.errors,
            reason=self._setting.reason,
            done_before=self._tally.done_before,
        )
