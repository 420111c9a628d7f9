"""A frontend that fails in every way it can: nothing is lost, nothing runs twice, nothing hangs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fake_frontend import CAUSES, FakeFrontend, status_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure

from capacity.cluster.target import Target
from capacity.errors import ClusterError, RunFailedError
from capacity.launcher import outcome, turns
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.controller import Fixed, OpenLoop, Setting, Window
from capacity.launcher.header import Header
from capacity.launcher.http2 import Refusal
from capacity.launcher.journal import Journal
from capacity.launcher.pacing import Pacing, Place
from capacity.launcher.progress import Progress, Result
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.transport import Meaning, StartCall, connect, read

CALLS = {"grpc": False, "http2": True}
"""Both ways of a start, as `connect` tells them apart."""
QUICK = RetryPolicy(deadline=0.4, attempts=6, first_delay=0.005, maximum_delay=0.02, patience=20)
Script = Mapping[int, Sequence[str]]


@dataclass
class Steady:
    """So many in flight, whatever is refused; with a list, one limit after the other."""

    limits: list[int]

    @property
    def maximum(self) -> int:
        return max(self.limits)

    def step(self, window: Window | None, now: float) -> Setting:
        return Setting(self.limits.pop(0) if len(self.limits) > 1 else self.limits[0])


@dataclass
class Seen:
    """What the launcher said of a batch, and what the frontend knows."""

    result: Result
    codes: list[int]
    frontend: FakeFrontend
    most_in_flight: int


@dataclass
class Counted:
    """A start call that counts how many are under way at once.

    Here, not at the frontend: that hears of a call its caller has given up, or lost with the connection, only later.
    """

    start: StartCall
    slower: float = 0.0
    in_flight: int = 0
    most: int = 0

    async def __call__(self, request: bytes, timeout: float) -> bytes:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            if self.slower:
                await asyncio.sleep(self.slower)
            return await self.start(request, timeout)
        finally:
            self.in_flight -= 1


def launched(
    script: Script,
    count: int = 12,
    *,
    plain_http2: bool = True,
    policy: RetryPolicy | None = None,
    controller: Any = None,
    on_existing: str = "skip",
    on_progress: Callable[[Progress], None] | None = None,
    within: float = 60.0,
    slower: float = 0.0,
    meanwhile: Callable[[FakeFrontend, asyncio.Event, asyncio.Event], Any] | None = None,
) -> Seen:
    """Launch a batch at a frontend with this script; a hang beyond `within` seconds fails the test.

    By default an attempt that is never answered is given up soon; one on its way has time, also on a busy machine.
    Each attempt takes `slower` seconds more.
    """
    hangs = any(step.startswith("hang") for steps in script.values() for step in steps)
    policy = policy or (QUICK if hangs else replace(QUICK, deadline=20.0))

    async def run() -> Seen:
        frontend = FakeFrontend(script)
        drain, abort = asyncio.Event(), asyncio.Event()
        async with frontend.serving(), connect(Target(frontend.address), plain_http2=plain_http2) as connection:
            batch = HeightRange(count, options=StartOptions(on_existing=on_existing))
            with Journal.in_memory(Header("f", "run", count)) as journal:
                counted = Counted(connection.start, slower)
                connection = replace(connection, start=counted)
                scheduler = Scheduler(
                    batch, connection, controller or Steady([4]), journal, policy=policy, on_progress=on_progress
                )
                helper = asyncio.create_task(meanwhile(frontend, drain, abort)) if meanwhile else None
                result = await asyncio.wait_for(scheduler.run(drain, abort), within)
                if helper:
                    await helper
                return Seen(result, journal.codes().tolist(), frontend, counted.most)

    return asyncio.run(run())


TRANSIENT = (
    "late",
    "internal",
    "unknown",
    "aborted",
    "cancelled",
    "BUSY_WORKFLOW",
    "hang started",
    "unavailable",
    "cut",
    "cut started",
)
LAST = {
    "ok": outcome.STARTED,
    "running": outcome.ALREADY_RUNNING,
    "finished": outcome.ALREADY_FINISHED,
    "exists without details": outcome.ALREADY_RUNNING,
    "exists with broken details": outcome.ALREADY_RUNNING,
    "invalid": outcome.REFUSED + 3,
    "too large": outcome.TOO_LARGE,
    "internal": outcome.GAVE_UP + 13,
}
"""What an item comes to whose last step, repeated for ever, is this one."""


@st.composite
def scripts(draw: st.DrawFn) -> dict[int, list[str]]:
    """Up to 12 items with a step or two that pass and one that lasts; outages are few, for each costs its backoff."""
    away = 3
    script = {}
    for item in range(12):
        steps = draw(st.lists(st.sampled_from((*TRANSIENT, *CAUSES)), max_size=2))
        for place, step in enumerate(steps):
            if step in ("hang started", "unavailable", "cut", "cut started"):
                away -= 1
                if away < 0:
                    steps[place] = "aborted"
        last = draw(st.sampled_from(("ok", "ok", "ok", *LAST)))
        if any(step in ("late", "hang started", "cut started") for step in steps):
            last = "ok"  # what was started with this request id can only be answered with its run
        script[item] = [*steps, last]
    return script


@settings(max_examples=12)
@given(script=scripts())
def test_whatever_the_frontend_does_each_item_gets_its_outcome(script: dict[int, list[str]]) -> None:
    """Outcomes are those the script asks for and add up, no id starts under two request ids, over either call."""
    for plain_http2 in CALLS.values():
        seen = launched(script, plain_http2=plain_http2)
        assert seen.codes == [LAST[script[item][-1]] for item in range(12)]
        counts = seen.result.counts
        parts = (counts.started, counts.already_running, counts.already_finished, counts.failed, counts.not_attempted)
        assert sum(parts) == 12
        assert counts.not_attempted == 0
        started = {int(identity.rpartition(":")[2]) for identity in seen.frontend.runs}
        assert started == {item for item, code in enumerate(seen.codes) if code == outcome.STARTED}
        assert all(request == f"run:{identity.rpartition(':')[2]}" for identity, request in seen.frontend.runs.items())
        assert sum(seen.result.retries.values()) + 12 == seen.result.attempts + sum(
            code >= outcome.GAVE_UP and code < outcome.TOO_LARGE for code in seen.codes
        )
        assert seen.most_in_flight <= 4


@pytest.mark.parametrize("plain_http2", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("late", "DEADLINE_EXCEEDED"),
        ("hang", "DEADLINE_EXCEEDED"),
        ("hang started", "DEADLINE_EXCEEDED"),
        ("unavailable", "UNAVAILABLE"),
        ("internal", "INTERNAL"),
        ("unknown", "UNKNOWN"),
        ("aborted", "ABORTED"),
        ("cancelled", "CANCELLED"),
        *((cause, cause) for cause in CAUSES),
    ],
)
def test_a_retry_is_counted_by_its_kind(step: str, kind: str, plain_http2: bool) -> None:
    """One attempt that fails in passing is one retry of that kind, and the item is started."""
    seen = launched({1: [step, "ok"]}, 3, plain_http2=plain_http2, policy=RetryPolicy(deadline=0.4, first_delay=0.01))
    assert seen.result.retries == {kind: 1}
    assert seen.codes == [outcome.STARTED] * 3
    assert seen.result.attempts == 4


@pytest.mark.parametrize("plain_http2", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("step", ["cut", "cut started"])
def test_a_closed_connection_costs_retries_and_no_start(step: str, plain_http2: bool) -> None:
    """All attempts of a lost connection are repeated under their request ids on the next one."""
    seen = launched({2: [step, "ok"]}, 8, plain_http2=plain_http2)
    assert set(seen.result.retries) == {"UNAVAILABLE"}
    assert seen.codes == [outcome.STARTED] * 8
    assert len(seen.frontend.runs) == 8


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause != "BUSY_WORKFLOW"])
def test_throttling_is_told_by_cause_and_scope(cause: str) -> None:
    """Refused attempts are counted as throttled, with the most frequent cause and its scope."""
    seen = launched({0: [cause, cause, "ok"]}, 4)
    assert seen.result.throttled == 2
    assert (seen.result.throttle_cause, seen.result.throttle_scope) == (cause, "NAMESPACE")


def test_a_busy_workflow_delays_only_its_item() -> None:
    """BUSY_WORKFLOW is no throttling: nothing slows down, the item is tried again."""
    seen = launched({0: ["BUSY_WORKFLOW", "ok"]}, 4, controller=Fixed(4))
    assert (seen.result.throttled, seen.result.pace) == (0, None)
    assert seen.result.retries == {"BUSY_WORKFLOW": 1}


def test_throttled_attempts_never_use_up_an_item() -> None:
    """An item that is refused for its rate more often than it has attempts is started in the end."""
    seen = launched({0: ["RPS_LIMIT"] * 20 + ["ok"]}, 1)
    assert seen.codes == [outcome.STARTED]
    assert seen.frontend.attempts[0] == 21


@pytest.mark.parametrize("step", ["internal", "late"])
def test_an_item_gives_up_after_its_attempts(step: str) -> None:
    """An item that never gets an answer has exactly as many attempts as the policy gives it, and is named so."""
    seen = launched({1: [step]}, 3)
    assert seen.frontend.attempts[1] == QUICK.attempts
    kind = {"internal": "INTERNAL", "late": "DEADLINE_EXCEEDED"}[step]
    assert seen.result.counts.errors == {f"gave up: {kind}": 1}
    assert seen.result.counts.started == 2


@pytest.mark.parametrize("plain_http2", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("denied", "PERMISSION_DENIED"),
        ("unauthenticated", "UNAUTHENTICATED"),
        ("unimplemented", "UNIMPLEMENTED"),
    ],
)
def test_an_answer_that_holds_for_all_ends_the_batch(step: str, kind: str, plain_http2: bool) -> None:
    """Where no item can succeed the launch stops, says why, and leaves the rest to do instead of failing it."""
    script = {item: ["ok"] if item < 10 else [step] for item in range(200)}
    seen = launched(script, 200, plain_http2=plain_http2)
    assert isinstance(seen.result.error, RunFailedError)
    assert kind in str(seen.result.error)
    assert (seen.result.counts.started, seen.result.counts.failed) == (10, 0)
    assert seen.result.counts.not_attempted == 190
    assert sum(seen.frontend.attempts.values()) <= 10 + 4


@pytest.mark.parametrize(
    ("most", "count", "limit", "slower"),
    [
        pytest.param(1 << 26, 150, 4, 0.0, id="few"),
        pytest.param(1 << 26, 150, 4, 0.01, id="more due than can be tried"),
        pytest.param(1 << 26, 150, 1, 0.0, id="one in flight"),
        pytest.param(1500, 50, 4, 0.0, id="more than may wait"),
        pytest.param(1500, 50, 1, 0.0, id="more than may wait, one in flight"),
    ],
)
def test_items_without_an_answer_hold_up_no_others(
    monkeypatch: pytest.MonkeyPatch, most: int, count: int, limit: int, slower: float
) -> None:
    """Each fifth id is answered by nobody, as where a shard is away: all others are started meanwhile.

    Only then, with nothing else left to start, does the launch give up on them; they stay to do. So it is when more of
    them wait than may, and where they fall due more often (30 each 15 ms) than attempts can be made (400 a second).
    """
    monkeypatch.setattr(turns, "MOST_UNANSWERED", most)
    script = {item: ["unavailable"] for item in range(2, count, 5)}
    policy = replace(QUICK, deadline=20.0, patience=1.0)
    seen = launched(script, count, policy=policy, controller=Steady([limit]), within=50, slower=slower)
    assert seen.codes == [outcome.TO_DO if item in script else outcome.STARTED for item in range(count)]
    assert "no server started anything for 1 s" in str(seen.result.error)


def test_while_many_wait_one_looks_for_the_next_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 in flight that fail thrice each: had each of the idle looked for itself, they would have asked many times."""
    asked, take = [0], turns.Turns.take

    def counted(*args: Any) -> Any:
        asked[0] += 1
        return take(*args)

    monkeypatch.setattr(turns.Turns, "take", counted)
    policy = replace(QUICK, deadline=20.0, first_delay=0.1, maximum_delay=0.4)
    script = {item: ["internal", "internal", "internal", "ok"] for item in range(400)}
    seen = launched(script, 400, policy=policy, controller=Steady([64]))
    assert (seen.result.counts.started, seen.result.attempts) == (400, 1600)
    assert seen.most_in_flight <= 64
    assert asked[0] <= 3 * seen.result.attempts


@pytest.mark.parametrize(("limits", "count"), [((64,), 2000), ((64, 64, 64, 4), 600)])
def test_those_that_have_nothing_to_take_all_go_on_once_they_have(limits: tuple[int, ...], count: int) -> None:
    """Each of 64 has failed and waits a second; then all are started, by as many at once as the limit is by then."""
    policy = replace(QUICK, deadline=20.0, first_delay=1.0, maximum_delay=1.0)
    script = {item: ["internal", "ok"] for item in range(64)}
    after: list[int] = []

    def note(progress: Progress) -> None:
        if 64 < progress.started <= count - 64:
            after.append(progress.in_flight)

    seen = launched(script, count, policy=policy, controller=Steady([*limits]), slower=0.05, on_progress=note)
    assert seen.result.counts.started == count
    assert sorted(after)[len(after) // 2] == limits[-1]


def test_a_stop_does_not_wait_for_those_that_have_nothing_to_take() -> None:
    """Whoever is idle leaves with the others, however many they are and however long their items wait."""
    policy = replace(QUICK, deadline=20.0, first_delay=500.0, maximum_delay=500.0)
    script = {item: ["internal"] for item in range(1000)}

    async def stop(frontend: FakeFrontend, drain: asyncio.Event, _: asyncio.Event) -> None:
        while sum(frontend.attempts.values()) < 64:
            await asyncio.sleep(0.05)
        drain.set()

    seen = launched(script, 1000, policy=policy, controller=Steady([64]), meanwhile=stop, within=30.0)
    assert (seen.result.stopped, seen.result.counts.not_attempted) == ("stopped by the user", 1000)


@pytest.mark.parametrize("plain_http2", CALLS.values(), ids=CALLS.keys())
def test_a_namespace_that_was_never_there_ends_the_batch(plain_http2: bool) -> None:
    """NOT_FOUND before the first start is final."""
    seen = launched({item: ["no namespace"] for item in range(50)}, 50, plain_http2=plain_http2)
    assert "NOT_FOUND" in str(seen.result.error)
    assert (seen.result.counts.failed, seen.result.counts.not_attempted) == (0, 50)


@pytest.mark.parametrize("plain_http2", CALLS.values(), ids=CALLS.keys())
def test_a_namespace_that_is_away_for_a_while_is_waited_for(plain_http2: bool) -> None:
    """NOT_FOUND after a start is what a frontend says whose store refuses it: the batch waits and completes."""
    script = {item: ["ok"] if item < 10 else ["no namespace", "ok"] for item in range(60)}
    seen = launched(script, 60, plain_http2=plain_http2)
    assert (seen.result.error, seen.result.counts.started) == (None, 60)
    assert seen.result.retries["NOT_FOUND"] > 0


@pytest.mark.parametrize("step", ["running", "exists without details", "exists with broken details"])
def test_an_existing_id_fails_where_that_was_asked(step: str) -> None:
    """With on-existing fail an id that somebody else started is a failure, our own repeated start is not."""
    seen = launched({0: [step], 1: ["late", "ok"]}, 3, on_existing="fail")
    assert seen.codes == [outcome.REFUSED + 6, outcome.STARTED, outcome.STARTED]


def test_our_own_start_is_recognised_in_a_refusal() -> None:
    """ALREADY_EXISTS that names our request id is the answer to a start of ours, even with on-existing fail."""
    failure = WorkflowExecutionAlreadyStartedFailure(start_request_id="run:5")
    refusal = Refusal(6, "Workflow execution already finished", status_bytes(6, failure))
    for on_existing in ("skip", "fail"):
        verdict = read(refusal, "run:5", on_existing)
        assert (verdict.meaning, verdict.outcome) == (Meaning.DONE, outcome.STARTED)
    assert read(refusal, "run:6").outcome == outcome.ALREADY_FINISHED


@settings(max_examples=200)
@given(code=st.integers(-1, 40), details=st.text(max_size=40), content=st.binary(max_size=60))
def test_no_answer_can_break_the_reader(code: int, details: str, content: bytes) -> None:
    """Whatever status, text and detail bytes a server sends, they have one meaning, and a final one has a name."""
    verdict = read(Refusal(code, details, content), "run:1")
    if verdict.meaning is Meaning.DONE:
        assert outcome.kind(verdict.outcome)
    else:
        assert verdict.kind


def test_a_server_that_stays_away_ends_the_launch_and_fails_no_item() -> None:
    """After the policy's patience without any answer the launch gives up in one line; what is left stays to do."""
    script = {item: ["ok"] if item < 20 else ["unavailable"] for item in range(100)}
    seen = launched(script, 100, policy=RetryPolicy(deadline=0.4, first_delay=0.01, patience=0.8))
    assert isinstance(seen.result.error, ClusterError)
    assert "no server started anything for 0.8 s" in str(seen.result.error)
    assert (seen.result.counts.started, seen.result.counts.failed, seen.result.counts.not_attempted) == (20, 0, 80)


def test_a_lost_server_is_asked_by_one_probe_at_a_time() -> None:
    """During an outage not all workers knock: after one attempt each, the probes that follow are few."""
    states: set[str] = set()
    seen = launched(
        {item: ["unavailable"] for item in range(64)},
        64,
        controller=Steady([32]),
        policy=RetryPolicy(deadline=0.4, first_delay=0.001, maximum_delay=0.001, patience=1.2),
        on_progress=lambda progress: states.add(progress.state),
    )
    assert "waiting for the server" in states
    assert sum(seen.frontend.attempts.values()) <= 32 + 8


def test_deadlines_of_a_lost_server_use_up_no_item() -> None:
    """Once nobody answers, an attempt that runs into its deadline is part of the outage, not one of the item's own."""
    policy = RetryPolicy(deadline=0.4, attempts=2, first_delay=0.005, maximum_delay=0.02)
    seen = launched({0: ["unavailable"] * 3 + ["late"] * 3 + ["ok"]}, 1, policy=policy)
    assert seen.codes == [outcome.STARTED]


def test_a_retry_is_served_though_the_limit_has_shrunk_and_the_batch_is_at_its_end() -> None:
    """The worker whose attempt fails last serves it again, even when the limit no longer has room for its place."""
    script = {item: ["ok"] for item in range(3)} | {3: ["hang", "ok"]}
    seen = launched(script, 4, controller=Steady([4, 1]), within=20)
    assert seen.codes == [outcome.STARTED] * 4


@pytest.mark.parametrize("limits", [[8, 2], [8, 1, 8, 1], [1, 8]])
def test_what_is_in_flight_follows_the_limit(limits: list[int]) -> None:
    """A limit that moves up and down loses no item, and never more than the highest is in flight."""
    script = {item: ["internal", "ok"] if item % 5 == 0 else ["ok"] for item in range(300)}
    seen = launched(script, 300, controller=Steady(limits))
    assert seen.codes == [outcome.STARTED] * 300
    assert seen.most_in_flight <= 8


def test_a_scheduled_batch_ends_with_its_last_answer() -> None:
    """In the open loop the places that idle workers took in the schedule beyond the last item are not waited for."""
    seen = launched({}, 10, controller=OpenLoop(rate=20, maximum=512), within=12)
    assert seen.codes == [outcome.STARTED] * 10
    assert seen.result.seconds >= 9 / 20


@dataclass
class ToldLater:
    """Nothing to do for a while, then a schedule: a launcher that joins a fleet."""

    schedule: float
    after: float
    maximum: int = 64
    _began: float | None = None

    def step(self, window: Window | None, now: float) -> Setting:
        self._began = self._began or now
        return Setting(8, schedule=self.schedule) if now - self._began >= self.after else Setting(0)


def test_nothing_is_due_before_there_is_a_schedule() -> None:
    """A launcher that is told its rate a second late makes up for nothing, and no start is charged with that second."""
    at: list[tuple[float, int]] = []
    seen = launched(
        {}, 30, controller=ToldLater(20.0, 1.0), on_progress=lambda now: at.append((now.elapsed, now.attempts))
    )
    begun = next(elapsed for elapsed, attempts in at if attempts)
    assert begun >= 1.0
    assert max(attempts for elapsed, attempts in at if elapsed <= begun + 0.2) <= 10
    assert seen.result.latencies.maximum < 0.8
    assert seen.codes == [outcome.STARTED] * 30


@dataclass
class AwayForASecond(dict[int, Sequence[str]]):
    """No answer from half a second after the first attempt on, for a second."""

    first: float | None = None

    def get(self, item: int, default: Any = None) -> Any:
        self.first = self.first or time.perf_counter()
        return ["unavailable"] if 0.5 <= time.perf_counter() - self.first < 1.5 else ["ok"]


@pytest.mark.parametrize(
    ("script", "started"),
    [
        pytest.param({item: ["unavailable"] for item in range(0, 300, 5)}, 240, id="a shard for ever"),
        pytest.param(AwayForASecond(), 300, id="all for a while"),
    ],
)
def test_items_without_an_answer_hasten_no_others(script: Script, started: int) -> None:
    """In the open loop a retry takes no place of the schedule, and nothing else goes in its place."""
    at: list[tuple[float, int]] = []
    seen = launched(
        script,
        300,
        policy=replace(QUICK, deadline=20.0, patience=0.5 if started < 300 else 20.0),
        controller=OpenLoop(rate=100, maximum=64),
        on_progress=lambda now: at.append((now.elapsed, now.started)),
    )
    assert seen.result.counts.started == started
    assert [(elapsed, started) for elapsed, started in at if started > 100 * elapsed + 1] == []


def test_a_place_that_is_given_back_is_the_next_one() -> None:
    """Whoever has to wait after all loses nothing of the schedule, and a retry has none to lose."""
    retrying = False

    async def places() -> list[Place]:
        nonlocal retrying
        pacing = Pacing(lambda: False, lambda: retrying)
        pacing.apply(Setting(8, schedule=1000.0, pace=1000.0))

        async def place() -> Place:
            found = await pacing.place()
            assert found is not None
            return found

        first = await place()
        pacing.give_back(first)
        found = [first, await place(), await place()]
        retrying = True
        again = await place()
        pacing.give_back(again)
        retrying = False
        return [*found, again, await place()]

    first, second, third, retry, last = asyncio.run(places())
    assert (first.due, first.scheduled, retry.scheduled) == (pytest.approx(second.due), True, False)
    assert [third.due - second.due, last.due - third.due] == pytest.approx([0.001, 0.001])


def test_a_stall_is_charged_to_every_start_that_was_due_in_it() -> None:
    """In the open loop latency counts from the intended moment: one hanging attempt delays those behind it."""
    seen = launched({0: ["hang", "ok"]}, 20, controller=OpenLoop(rate=50, maximum=1))
    latencies = seen.result.latencies
    assert latencies.count == 20
    assert latencies.count - latencies.at_most(0.1) >= 15


def test_draining_leaves_the_rest_to_do() -> None:
    """The first interrupt waits for what is in flight, notes it, and starts nothing more."""

    async def interrupt(frontend: FakeFrontend, drain: asyncio.Event, abort: asyncio.Event) -> None:
        await frontend.arrived.wait()
        drain.set()

    seen = launched({}, 50_000, meanwhile=interrupt)
    counts = seen.result.counts
    assert seen.result.stopped == "stopped by the user"
    assert seen.result.error is None
    assert 0 < counts.started == len(seen.frontend.runs)
    assert counts.started + counts.not_attempted == 50_000
    assert Counter(seen.codes)[outcome.STARTED] == counts.started


@pytest.mark.parametrize("drained_first", [False, True])
def test_stopping_at_once_waits_for_no_answer(drained_first: bool) -> None:
    """The second interrupt leaves attempts that hang, notes what was answered, and is done long before the deadline."""

    async def interrupt(frontend: FakeFrontend, drain: asyncio.Event, abort: asyncio.Event) -> None:
        while frontend.attempts.total() < 14:  # four of those hang
            await asyncio.sleep(0.01)
        if drained_first:
            drain.set()
            await asyncio.sleep(0.3)
        abort.set()

    script = {item: ["ok"] if item < 10 else ["hang"] for item in range(100)}
    seen = launched(script, 100, policy=RetryPolicy(deadline=3000), meanwhile=interrupt, within=20)
    assert seen.result.stopped == "stopped at once by the user"
    assert (seen.result.counts.started, seen.result.counts.not_attempted) == (10, 90)


def test_an_interrupt_ends_the_wait_for_a_lost_server() -> None:
    """Draining during an outage ends the launch though no server ever answers."""

    async def interrupt(frontend: FakeFrontend, drain: asyncio.Event, abort: asyncio.Event) -> None:
        while sum(frontend.attempts.values()) < 6:
            await asyncio.sleep(0.01)
        drain.set()

    seen = launched({item: ["unavailable"] for item in range(50)}, 50, meanwhile=interrupt, within=20)
    assert seen.result.counts.not_attempted == 50
    assert seen.result.error is None


def test_a_progress_display_that_fails_ends_the_launch() -> None:
    """An exception of the caller's own is not swallowed: the launch would go on without control or journal."""

    told = []

    def broken(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 1:
            raise ZeroDivisionError

    script = {item: ["hang"] for item in range(4)}
    with pytest.raises(ZeroDivisionError):
        launched(script, 4, on_progress=broken, policy=RetryPolicy(deadline=3000), within=20)


@pytest.mark.parametrize("length", [1, 14_000, 30_000])
def test_both_calls_agree_on_what_is_sent(length: int) -> None:
    """Our own HTTP/2 sends the headers that grpc sends, and leaves to it those that take more than one frame."""

    async def sent(plain_http2: bool) -> dict[str, Any]:
        frontend = FakeFrontend()
        seen: dict[str, Any] = {}
        frontend._admit = lambda context: bool(seen.update(dict(context.invocation_metadata()))) or True  # type: ignore[method-assign]
        async with frontend.serving():
            target = Target(frontend.address, api_key="key", metadata={"X-Extra": "1" * length})
            async with connect(target, plain_http2=plain_http2) as connection:
                template = StartOptions().request_template("n", "run")
                ((_, body),) = HeightRange(1).bodies("run", lambda _: False)
                await connection.start(template + (body or b""), 5.0)
        return seen

    public, direct = (asyncio.run(sent(plain_http2)) for plain_http2 in (False, True))
    assert public["authorization"] == "Bearer key"
    assert public["x-extra"] == "1" * length
    own, theirs = direct.pop("user-agent"), public.pop("user-agent")
    assert own == ("capacity" if length < 15_000 else theirs)
    assert theirs.startswith("grpc-python")
    assert direct == public
