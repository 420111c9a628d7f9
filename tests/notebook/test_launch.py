"""The launch panel and its form, on a launch of their own instead of a server's. No kernel, no browser."""

from __future__ import annotations

import asyncio
import html
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capacity.cli.launching import words
from capacity.cluster import devserver as embedded
from capacity.cluster import processes
from capacity.cluster.target import Target
from capacity.errors import ClusterError, GuardRefusalError, UsageError
from capacity.launcher import rebuild
from capacity.launcher.batch import HeightRange
from capacity.launcher.items import ItemsFile
from capacity.launcher.progress import AWAY
from capacity.notebook import launch_parts as parts
from capacity.notebook.launch import Launch
from capacity.notebook.launch_curve import MOST, Curve
from capacity.notebook.launch_entry import LaunchForm
from capacity.notebook.loop import loop
from capacity.observe.run import ControllerState, LatencySummary, Run
from capacity.observe.session import Journaling, launch
from capacity.observe.vitals import LauncherVitals, VitalsSample
from tests.notebook.helpers import progress, wait_until

HERE = Target("127.0.0.1:7233")


def record(count: int, scheduled: int, **more: Any) -> Run:
    """A run with what the panel reads."""
    fields: dict[str, Any] = {
        "already_running": 0,
        "already_finished": 0,
        "failed": 0,
        "not_attempted": count - scheduled,
        "starts_per_second": 400.0,
        "verified": scheduled,
        "throttled_attempts": 0,
        "duration_seconds": 1.0,
        "cpu_seconds": 0.1,
        "stopped": "",
        "error": None,
        "run_id": "20260101-000000-abcdef",
        "address": HERE.address,
        "session_scheduled": scheduled,
        "attempts": scheduled,
        "retries": {},
        "errors": {},
        "throttle_cause": None,
        "sustained_starts_per_second": None,
        "latency_seconds": LatencySummary(p50=0.004, p90=0.01, p99=0.028, max=0.1),
        "controller": ControllerState(asked="auto", limit=8, pace=None, reason="", ramp_seconds=0.0),
        "rss_bytes_max": 1 << 27,
        "journal": None,
    }
    return Run.model_construct(count=count, scheduled=scheduled, **(fields | more))


Launched = Callable[..., Coroutine[Any, Any, Run]]


def until_stopped(count: int, started: int, began: threading.Event) -> Launched:
    """A launch that shows its progress and goes on until it is told to stop."""

    async def launch(batch: Any, target: Any, *, stop: asyncio.Event, on_progress: Any, **_: Any) -> Run:
        on_progress(progress(count, started))
        began.set()
        await stop.wait()
        return record(count, started)

    return launch


def at_once(run: Run) -> Launched:
    async def launch(batch: Any, target: Any, *, on_progress: Any, **_: Any) -> Run:
        on_progress(progress(run.count, run.scheduled, "done"))
        return run

    return launch


def failing(error: Exception) -> Launched:
    async def launch(*_: Any, **__: Any) -> Run:
        raise error

    return launch


def ended(panel: Launch) -> Run:
    return asyncio.run(asyncio.wait_for(panel.wait(), 20))


def test_it_ends_on_the_right_number() -> None:
    """After 500 starts the bar is full, the state is done and the words carry the server's count."""
    panel = Launch(HeightRange(count=500), HERE, launch=at_once(record(500, 500)))
    panel.launch.click()
    assert ended(panel).scheduled == 500
    assert (panel.state, panel.bar.value, panel.bar.maximum) == ("done", 500, 500)
    assert "Done: 500 of 500" in panel.status.value
    assert "500 started · verified 500 of 500" in panel.numbers.value


def test_cancel_drains_and_keeps_the_record() -> None:
    """Cancel sets the stop of the launch; wait() gives a record with what was not attempted."""
    began = threading.Event()
    panel = Launch(HeightRange(count=500), HERE, launch=until_stopped(500, 120, began))
    panel.launch.click()
    assert began.wait(20)
    assert (panel.launch.disabled, panel.cancel.disabled) == (True, False)
    panel.cancel.click()
    run = ended(panel)
    assert (run.scheduled, run.not_attempted, panel.state) == (120, 380, "cancelled")
    assert "Cancelled: 120 of 500" in panel.status.value
    assert (panel.launch.disabled, panel.cancel.disabled) == (False, True)


def test_progress_is_painted_while_it_runs() -> None:
    """The ticker brings count, rate, p99 and time left to the screen before the end."""
    began = threading.Event()
    panel = Launch(HeightRange(count=500), HERE, launch=until_stopped(500, 100, began))
    painted = threading.Event()
    panel.numbers.observe(lambda change: change["new"] and painted.set(), "value")
    panel.launch.click()
    assert painted.wait(20)
    assert "100 of 500 · 400 starts/s · p99 28 ms · 8 of 8 in flight · 4 s left" in panel.numbers.value
    assert panel.bar.value == 100
    panel.cancel.click()
    ended(panel)


def test_a_rate_that_is_not_measured_yet_is_left_out() -> None:
    """In a launch's first second there are no starts/s, in the words, the figure's heading and the command's line."""
    first = replace(progress(600, 58), starts_per_second=math.nan, elapsed=0.5)
    assert parts.numbers(first) == "58 of 600 · p99 28 ms · 8 of 8 in flight · 5 s left"
    assert parts.title(first) == "58 of 600 done"
    assert words(first) == "p99 28 ms, 8 of 8 in flight, 5 s left"
    assert words(replace(first, starts_per_second=400.0)).startswith("400 starts/s, p99")


def test_terminal_and_notebook_tell_the_same_of_a_running_batch() -> None:
    """A p99 below a millisecond is no 0 ms in either, and what failed or was throttled is in both."""
    now = replace(progress(600, 58), p99=0.0004, failed=3, throttled=77)
    assert words(now).split(", ") == parts.numbers(now).split(" · ")[1:]
    assert "p99 0.4 ms, 8 of 8 in flight, 3 failed, 77 throttled" in words(now)


def test_what_is_redrawn_brings_no_style_sheet() -> None:
    """Tables that come twice a second are tables alone: a new style sheet has the browser style the whole page anew."""
    assert "<style" not in parts.outcomes(progress(500, 100))
    assert "<style" not in parts.vitals(VitalsSample(at=0.0))


def test_a_second_click_starts_nothing() -> None:
    """Launch pressed twice launches once."""
    began, calls = threading.Event(), []
    inner = until_stopped(10, 1, began)

    async def launch(*arguments: Any, **named: Any) -> Run:
        calls.append(arguments)
        return await inner(*arguments, **named)

    panel = Launch(HeightRange(count=10), HERE, launch=launch)
    panel.launch.click()
    panel.launch.click()
    assert began.wait(20)
    panel.cancel.click()
    ended(panel)
    assert len(calls) == 1


def test_a_cell_whose_click_is_refused_gets_the_refusal() -> None:
    """With a wrong box, or nothing to resume, wait() raises why: not the run before, on which asserts would pass."""
    form = LaunchForm(HERE, count=5, launch=at_once(record(5, 5)))
    form.launch.click()
    ended(form)
    form.count.box.value = "5,0000"
    form.launch.click()
    with pytest.raises(UsageError, match="cannot launch: count is '5,0000'"):
        ended(form)
    form.resume.click()
    with pytest.raises(UsageError, match="cannot resume"):
        ended(form)
    form.count.box.value = "5"
    form.launch.click()
    assert ended(form).scheduled == 5


def test_it_can_be_launched_again() -> None:
    """A finished panel launches again from zero."""
    panel = Launch(HeightRange(count=5), HERE, launch=at_once(record(5, 5)))
    panel.launch.click()
    ended(panel)
    panel.launch.click()
    assert (ended(panel).scheduled, panel.state, panel.bar.value) == (5, "done", 5)


def test_an_error_is_one_clear_line_and_wait_raises_it() -> None:
    """An unreachable server is one line in the box, without a traceback, and the cell that waits gets the error."""
    error = ClusterError("no server answers at 127.0.0.1:7233", next_step="start one: capacity cluster up")
    panel = Launch(HeightRange(count=5), HERE, launch=failing(error))
    panel.launch.click()
    with pytest.raises(ClusterError, match="no server answers"):
        ended(panel)
    assert panel.state == "failed"
    assert "no server answers at 127.0.0.1:7233; start one: capacity cluster up" in panel.error.value
    assert "Traceback" not in panel.error.value


def test_a_launch_that_fails_shows_nothing_of_the_one_before() -> None:
    """Neither while it begins nor after it failed does the figure have the points or the title of the run before."""
    answers: list[Launched] = [at_once(record(500, 500)), failing(ClusterError("no server answers"))]
    drawn: list[str] = []

    async def launch(*arguments: Any, **named: Any) -> Run:
        drawn.append(form.figure.plotly.layout.title.text)
        return await answers.pop(0)(*arguments, **named)

    form = LaunchForm(HERE, count=500, launch=launch)
    form.launch.click()
    ended(form)
    form.count.box.value = "9,000"
    form.launch.click()
    with pytest.raises(ClusterError):
        ended(form)
    drawn.append(form.figure.plotly.layout.title.text)
    assert ["0 of 9,000 done" in title for title in drawn[1:]] == [True, True]
    assert [len(trace.x) for trace in form.figure.plotly.data] == [0] * 6
    assert form.numbers.value == ""


def test_a_defect_shows_where() -> None:
    """What is no CapacityError is called a defect and keeps its traceback for the report."""
    panel = Launch(HeightRange(count=5), HERE, launch=failing(ZeroDivisionError("<b>")))
    panel.launch.click()
    with pytest.raises(ZeroDivisionError):
        ended(panel)
    assert "A defect of capacity: ZeroDivisionError(&#x27;&lt;b&gt;&#x27;)" in panel.error.value
    assert "Traceback" in panel.error.value


def test_a_defect_of_what_is_shown_is_told_and_what_comes_after_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted once in vain, the panel says so at once, goes on to the numbers of now, and ends as the batch does."""
    broken: list[Exception] = [ZeroDivisionError("painted in vain")]
    began, more = threading.Event(), asyncio.Event()
    whole = parts.numbers

    def numbers(progress: Any) -> str:
        if broken:
            raise broken.pop()
        return whole(progress)

    async def launch(*_: Any, on_progress: Any, **__: Any) -> Run:
        on_progress(progress(500, 100))
        began.set()
        await more.wait()
        on_progress(progress(500, 200))
        await asyncio.sleep(0.5)
        return record(500, 500)

    monkeypatch.setattr(parts, "numbers", numbers)
    panel = Launch(HeightRange(count=500), HERE, launch=launch)
    panel.launch.click()
    wait_until(lambda: "A defect of capacity: ZeroDivisionError" in panel.error.value)
    loop().call_soon_threadsafe(more.set)
    wait_until(lambda: "200 of 500" in panel.numbers.value)
    ended(panel)
    assert (panel.state, panel.bar.value) == ("done", 500)
    assert panel.error.value.count("A defect of capacity") == 1


def test_a_defect_after_the_batch_is_no_success() -> None:
    """Where the record cannot be shown the panel says failed and why; the record is there, and Launch works again."""
    runs = [record(500, 500, latency_seconds=None), record(500, 500)]

    async def launch(*_: Any, **__: Any) -> Run:
        return runs.pop(0)

    panel = Launch(HeightRange(count=500), HERE, launch=launch)
    panel.launch.click()
    with pytest.raises(AttributeError):
        ended(panel)
    assert (panel.state, panel.bar.style, panel.launch.disabled) == ("failed", "danger", False)
    assert "A defect of capacity: AttributeError" in panel.error.value
    assert panel.run.scheduled == 500
    panel.launch.click()
    ended(panel)
    assert (panel.state, panel.error.value) == ("done", "")


def test_a_batch_that_ended_short_is_not_done() -> None:
    """Failed starts and a server that went away are said, with the reason."""
    run = record(10, 7, failed=1, not_attempted=2, verified=None, error="the server went away", warnings=["one note"])
    panel = Launch(HeightRange(count=10), HERE, launch=at_once(run))
    panel.launch.click()
    ended(panel)
    assert (panel.state, panel.bar.style, panel.bar.value) == ("incomplete", "warning", 8)
    assert "7 started · 1 failed · 2 not attempted" in panel.numbers.value
    assert "the server went away" in panel.error.value
    assert "one note" in panel.error.value


def test_the_panel_shows_batch_and_the_guards_word() -> None:
    """Before anything is launched one reads how many of what go where, and why that is allowed."""
    shown = Launch(HeightRange(count=500), HERE, parallelism="4x").about.value
    assert all(
        words in shown
        for words in (
            "500 × IndexBlockWorkflow",
            "mainnet:index-block:499",
            "4x in flight",
            "is loopback: a dev target",
        )
    )


def test_the_guard_refuses_a_foreign_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A production address is refused on the panel, and the real launch refuses it without dialling."""
    monkeypatch.delenv("CAPACITY_ALLOW_TARGET", raising=False)
    panel = Launch(HeightRange(count=5), Target("temporal.example.com:7233"))
    assert 'role="alert"' in panel.about.value
    panel.launch.click()
    with pytest.raises(GuardRefusalError, match=r"temporal\.example\.com"):
        ended(panel)
    assert "temporal.example.com:7233" in panel.error.value


def test_waiting_for_nothing_is_a_misuse() -> None:
    """wait() without a launch says what to do."""
    with pytest.raises(UsageError, match="nothing was launched"):
        ended(Launch(HeightRange(count=5), HERE))


def test_an_interrupted_cell_ends_the_batch() -> None:
    """Interrupting the cell that waits cancels the batch as the button would, and its record is kept."""
    began = threading.Event()
    panel = Launch(HeightRange(count=10), HERE, launch=until_stopped(10, 3, began))
    panel.launch.click()
    assert began.wait(20)

    async def interrupted() -> Run:
        waiting = asyncio.create_task(panel.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await asyncio.wait_for(panel.wait(), 20)

    assert (asyncio.run(interrupted()).scheduled, panel.state) == (3, "cancelled")


def test_resume_goes_on_with_the_same_journal(tmp_path: Path) -> None:
    """After Cancel, Resume hands the journal of the cancelled run to the launch, and the bar goes on from there."""
    journal, asked = tmp_path / "a.journal", []

    async def launch(batch: Any, target: Any, *, stop: Any, on_progress: Any, journaling: Any = None, **_: Any) -> Run:
        asked.append((batch, journaling))
        if journaling is None:
            on_progress(progress(100, 40))
            await stop.wait()
            return record(100, 40, journal=str(journal))
        return record(100, 100, journal=str(journal))

    panel = Launch(HeightRange(count=100), HERE, launch=launch)
    assert panel.resume.disabled
    panel.launch.click()
    wait_until(lambda: "40 of 100" in panel.numbers.value)
    panel.cancel.click()
    ended(panel)
    assert (panel.state, panel.resume.disabled) == ("cancelled", False)
    panel.resume.click()
    assert (ended(panel).scheduled, panel.state, panel.bar.value) == (100, "done", 100)
    (first, none), (second, journaling) = asked
    assert (first, none, journaling.path, journaling.resume) == (second, None, journal, True)
    assert panel.resume.disabled


def test_a_second_cancel_does_not_wait() -> None:
    """A fleet without launchers, or a worker with hours of work, never ends a drain: Cancel again stops at once."""
    waiting = threading.Event()

    async def launch(batch: Any, target: Any, *, stop: Any, abort: Any, **_: Any) -> Run:
        waiting.set()
        await stop.wait()
        await abort.wait()
        return record(10, 4, journal="/nowhere/a.journal")

    panel = Launch(HeightRange(count=10), HERE, launch=launch)
    panel.launch.click()
    assert waiting.wait(20)
    panel.cancel.click()
    assert (panel.state, panel.cancel.disabled) == ("cancelling", False)
    assert "once more to stop at once" in panel.status.value
    panel.cancel.click()
    assert (ended(panel).scheduled, panel.state, panel.cancel.disabled) == (4, "cancelled", True)


def test_a_resume_that_fails_can_be_tried_again() -> None:
    """The server is down when Resume is clicked: what was cancelled still has its journal."""
    answers: list[Run | ClusterError] = [
        record(10, 4, journal="/nowhere/a.journal"), ClusterError("no server listens"), record(10, 10)
    ]  # fmt: skip

    async def launch(*_: Any, **__: Any) -> Run:
        answer = answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    panel = Launch(HeightRange(count=10), HERE, launch=launch)
    panel.launch.click()
    ended(panel)
    panel.resume.click()
    with pytest.raises(ClusterError):
        ended(panel)
    assert (panel.state, panel.resume.disabled) == ("failed", False)
    panel.resume.click()
    assert (ended(panel).scheduled, panel.state) == (10, "done")


def test_an_items_file_that_has_changed_is_not_resumed(tmp_path: Path) -> None:
    """Rows put in at the top would move all others: they would count as done, and the last would never be started.

    What a file holds when Launch is clicked is what is launched.
    """
    path, counts = tmp_path / "items.csv", []

    async def launch(batch: Any, *_: Any, **__: Any) -> Run:
        counts.append(batch.count)
        return record(batch.count, 1, journal="/nowhere/a.journal")

    path.write_text("id\na\nb\n")
    form = LaunchForm(HERE, launch=launch)
    form.source.value = "file of items"
    form.items.box.value = str(path)
    path.write_text("id\na\nb\nc\n")
    form.launch.click()
    ended(form)
    path.write_text("id\nnew\na\nb\nc\n")
    form.resume.click()
    with pytest.raises(UsageError, match="has changed since it was launched"):
        ended(form)
    assert counts == [3]


def test_resume_does_not_follow_what_was_typed_since() -> None:
    """Another count typed after Cancel is for the next Launch; Resume goes on with the batch that was cancelled."""
    counts = []

    async def launch(batch: Any, target: Any, **_: Any) -> Run:
        counts.append(batch.count)
        return record(batch.count, 1, journal="/nowhere/a.journal")

    form = LaunchForm(HERE, count=9, launch=launch)
    form.launch.click()
    ended(form)
    form.count.box.value = "77"
    form.resume.click()
    ended(form)
    form.launch.click()
    ended(form)
    assert counts == [9, 9, 77]


def test_what_runs_is_said_above_the_buttons_whatever_was_typed_since() -> None:
    """Resumed, one reads the batch and where it goes, though the boxes name another; after it, what Launch starts."""
    began = threading.Event()

    async def launch(batch: Any, target: Any, *, stop: asyncio.Event, **_: Any) -> Run:
        began.set()
        await stop.wait()
        return record(batch.count, 120, journal="/nowhere/a.journal")

    def about() -> str:
        return re.sub("<[^>]+>", "", form.about.value)

    form = LaunchForm(HERE, count=500, launch=launch)
    form.launch.click()
    assert began.wait(20)
    assert "500 × IndexBlockWorkflow" in about()
    form.cancel.click()
    ended(form)
    form.count.box.value, form.address.box.value = "9,000", "127.0.0.1:9999"
    assert "9,000 × IndexBlockWorkflow" in about()
    began.clear()
    form.resume.click()
    assert began.wait(20)
    assert "500 × IndexBlockWorkflow" in about()
    assert f"Allowed: {HERE.address}" in about()
    form.count.box.value = "70"  # from a cell: the boxes are disabled
    assert "500 × IndexBlockWorkflow" in about()
    form.count.box.value = "0"
    assert "500 × IndexBlockWorkflow" in about()
    form.cancel.click()
    ended(form)
    assert "Cannot launch: count is 0" in about()
    form.count.box.value = "70"
    assert "70 × IndexBlockWorkflow" in about()


def test_a_lost_server_shows_as_such_and_so_does_its_return() -> None:
    """The state says that the server is lost, then that it answers again; the figure keeps when it was lost."""
    lost, back = threading.Event(), threading.Event()

    async def launch(batch: Any, target: Any, *, on_progress: Any, **_: Any) -> Run:
        on_progress(replace(progress(10, 1), elapsed=0.5))
        while not lost.is_set():
            await asyncio.sleep(0.01)
        on_progress(replace(progress(10, 1, AWAY), elapsed=1.0))
        while not back.is_set():
            await asyncio.sleep(0.01)
        on_progress(replace(progress(10, 5), elapsed=1.5))
        await asyncio.sleep(0.5)
        return record(10, 10)

    form = LaunchForm(HERE, count=10, launch=launch)
    form.launch.click()
    wait_until(lambda: "1 of 10" in form.numbers.value)
    lost.set()
    wait_until(lambda: "Server lost" in form.status.value)
    back.set()
    wait_until(lambda: "Running again: the server answers" in form.status.value)
    ended(form)
    assert list(form.figure.plotly.data[1].y) == [None, 0.0, None]


def test_the_figure_shows_what_the_progress_said() -> None:
    """Rates are starts over time between points, latencies in ms; the title ends on the record's numbers."""

    async def launch(batch: Any, target: Any, *, on_progress: Any, **_: Any) -> Run:
        for started, elapsed in ((0, 0.01), (100, 0.5), (300, 1.0)):
            on_progress(replace(progress(300, started), elapsed=elapsed))
        return record(300, 300)

    form = LaunchForm(HERE, count=300, launch=launch)
    form.launch.click()
    ended(form)
    rate, _, p99, p50, in_flight, limit = form.figure.plotly.data
    assert (list(rate.x), list(rate.y)) == ([0.5, 1.0], [200.0, 400.0])
    assert (list(p99.y), list(p50.y), list(in_flight.y), list(limit.y)) == ([28.0] * 2, [4.0] * 2, [8] * 2, [8] * 2)
    assert "300 started at 400 starts/s, p99 28 ms" in form.figure.plotly.layout.title.text


def test_a_long_run_does_not_grow_the_figure() -> None:
    """An hour of ticks keeps at most MOST points, in order, the mean rate and the one outage among them."""
    curve = Curve()
    for tick in range(36_000):
        state = AWAY if 18_000 <= tick < 18_600 else "running"
        curve.note(replace(progress(10**6, 10 * tick, state), elapsed=0.1 * tick))
    at = curve.columns["at"]
    assert MOST / 2 - 1 <= len(at) <= MOST
    assert at == sorted(at)
    assert {len(column) for column in curve.columns.values()} == {len(at)}
    assert all(rate == pytest.approx(100.0) for rate in curve.columns["rate"])
    assert 0.0 in curve.columns["lost"]


def test_a_short_outage_and_a_stall_stay_in_the_figure_of_a_long_run() -> None:
    """Three seconds of either are seen after four hours, when points are a minute apart; and so is the newest point."""
    curve = Curve()
    for second in range(4 * 3600):
        now = replace(progress(10**6, 100 * second), elapsed=float(second))
        if 7201 <= second < 7204:
            now = replace(now, state=AWAY)
        if 10_801 <= second < 10_804:
            now = replace(now, p50=1.0, p99=8.0)
        if curve.note(now):
            assert curve.columns["at"][-1] == second
    assert curve.columns["lost"].count(0.0) == 1
    assert (max(curve.columns["p50"]), max(curve.columns["p99"])) == (1000.0, 8000.0)


def test_outcomes_by_kind_add_up_to_all_items() -> None:
    """Started, existing, failed by kind and not attempted are listed, and their sum is the batch."""
    errors = {"failed": 2, "already_running": 3, "already_finished": 4, "not_attempted": 1}
    run = record(20, 10, **errors, errors={"BAD_ITEM": 2}, retries={"UNAVAILABLE": 7}, attempts=27)
    panel = Launch(HeightRange(count=20), HERE, launch=at_once(run))
    panel.launch.click()
    ended(panel)
    shown = dict(re.findall(r'<th scope="row">([^<]+)</th><td class="n">([\d,]+)</td>', panel.outcomes.value))
    kinds = ("started", "already running", "already finished", "failed", "not attempted")
    assert [int(shown[kind]) for kind in kinds] == [10, 3, 4, 2, 1]
    assert sum(int(shown[kind]) for kind in kinds) == int(shown["all items"]) == 20
    assert "2 BAD_ITEM" in panel.outcomes.value
    assert "7 UNAVAILABLE" in panel.outcomes.value


def test_vitals_say_what_time_they_are_of() -> None:
    """While it runs the line is of the last second; at its end of the whole run, and says so."""
    launcher = LauncherVitals(rss_bytes=10**8, cpus_used=0.5, threads=9, machine_cpus=2)
    watched = [VitalsSample(at=at, launcher=launcher) for at in (1.0, 2.0)]
    said: list[str] = []

    async def launch(batch: Any, target: Any, *, on_progress: Any, on_vitals: Any, **_: Any) -> Run:
        on_progress(progress(10, 1))
        on_vitals(watched[0])
        while not panel.vitals.value:
            await asyncio.sleep(0.02)
        said.append(panel.vitals.value)
        return record(10, 10, vitals=watched)

    panel = Launch(HeightRange(count=10), HERE, launch=launch)
    panel.launch.click()
    ended(panel)
    assert ">Last second: launcher" in said[0]
    assert ">Whole run, mean or highest: launcher" in panel.vitals.value


def test_all_vitals_fold_out() -> None:
    """The long table is hidden until its box is ticked."""
    panel = Launch(HeightRange(count=5), HERE)
    assert panel.every_vital.layout.display == "none"
    panel.show_vitals.value = True
    assert panel.every_vital.layout.display == ""


# -- the form ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_form() -> LaunchForm:
    """One figure for the module: each takes a while to make."""
    return LaunchForm(HERE)


@pytest.fixture
def form(shared_form: LaunchForm, monkeypatch: pytest.MonkeyPatch) -> LaunchForm:
    """The form as it comes: 500 heights of mainnet on this machine."""
    for variable in ("CAPACITY_ALLOW_TARGET", "CAPACITY_MAX_STARTS", "SCHEDULER_MAX_PARALLELISM"):
        monkeypatch.delenv(variable, raising=False)
    first = {"address": HERE.address, "namespace": "default", "allow": "", "count": "500", "height": "0"}
    first |= {"chain": "mainnet", "items": "", "parallelism": "auto", "rate": ""}
    for name, text in first.items():
        getattr(shared_form, name).box.value = text
    shared_form.source.value, shared_form.existing.value = "range of heights", "skip"
    shared_form.worker.value = False
    shared_form._follow()
    return shared_form


def test_the_form_is_the_request(form: LaunchForm) -> None:
    """Every control reaches the request that Launch would start."""
    for name, text in (("count", "1,234"), ("height", "100"), ("chain", "testnet"), ("namespace", "other")):
        getattr(form, name).box.value = text
    form.parallelism.box.value, form.existing.value, form.worker.value = "4x", "rerun", True
    request = form._next
    assert request.batch.workflow_id(1233) == "testnet:index-block:1333"
    assert (request.batch.count, request.batch.options.on_existing) == (1234, "rerun")
    assert (request.target.namespace, request.parallelism, request.with_worker) == ("other", "4x", True)


def test_a_rate_takes_the_place_of_parallelism(form: LaunchForm) -> None:
    """With a rate, auto is no second wish; a number beside it is refused."""
    form.rate.box.value = "120.5"
    assert (form._next.rate, form._next.parallelism) == (120.5, None)
    form.parallelism.box.value = "64"
    assert form._next is None
    assert "rate and parallelism exclude each other; leave one of them out" in form.parallelism.refusal.value


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("count", "0", "count is 0; allowed: a whole number from 1"),
        ("count", "-5", "count is -5"),
        ("count", "many", "count is 'many'"),
        ("count", "1e9", "count is '1e9'"),
        ("count", "99999999999999", "count is"),
        ("count", "", "count is ''"),
        ("height", "-1", "from height is -1; allowed: a whole number of 0 or more"),
        ("chain", "", "chain id is empty"),
        ("chain", "x" * 2000, "bytes long"),
        ("namespace", "", "namespace is empty"),
        ("address", "", "is not HOST:PORT"),
        ("address", "127.0.0.1", "is not HOST:PORT"),
        ("address", "127.0.0.1:99999", "is not HOST:PORT"),
        ("allow", "somewhere", "is not HOST:PORT"),
        ("parallelism", "lots", "parallelism is 'lots'; allowed: a number like 128"),
        ("parallelism", "0x", "the multiplier is 0"),
        ("parallelism", "-4", "parallelism is '-4'"),
        ("rate", "fast", "rate is 'fast'"),
        ("rate", "0", "rate is 0; allowed: above 0"),
        ("rate", "nan", "rate is nan"),
    ],
)
def test_an_absurd_value_is_refused_beside_its_box(form: LaunchForm, field: str, typed: str, words: str) -> None:
    """The words stand at the box, Launch cannot be pressed, and a click from a cell starts nothing."""
    getattr(form, field).box.value = typed
    shown = form.count if field == "chain" and typed else getattr(form, field)
    assert words in html.unescape(shown.refusal.value)
    assert 'role="alert"' in shown.refusal.value
    assert form.launch.disabled
    assert "Cannot launch" in form.about.value
    form.launch.click()
    assert form.state == "idle"


@pytest.mark.parametrize(("typed", "limit"), [("512", "512 in flight"), ("9999", "512 in flight"), ("1", "in flight")])
def test_the_edges_of_parallelism_are_explained(form: LaunchForm, typed: str, limit: str) -> None:
    """1, the cap and beyond the cap are taken, and the words say what comes of them."""
    form.parallelism.box.value = typed
    assert limit in form.how.value
    assert not form.launch.disabled


def test_a_refusal_goes_when_the_box_is_right_again(form: LaunchForm) -> None:
    """A corrected box has no words left beside it and Launch can be pressed."""
    form.count.box.value = "0"
    form.count.box.value = "10"
    assert (form.count.refusal.value, form.launch.disabled) == ("", False)
    assert "10 × IndexBlockWorkflow" in form.about.value


def test_the_guard_is_visible_and_says_how_to_allow(form: LaunchForm) -> None:
    """A foreign address is refused in words with the way out; named in the box it is allowed."""
    assert "<b>Allowed.</b> 127.0.0.1:7233 is loopback" in form.guard.value
    form.address.box.value = "temporal.example.com:7233"
    assert "<b>Refused.</b>" in form.guard.value
    assert "type temporal.example.com:7233 into <i>Allow by name</i>" in form.guard.value
    assert "CAPACITY_ALLOW_TARGET" in form.guard.value
    assert form.launch.disabled
    form.allow.box.value = "temporal.example.com:7233"
    assert "<b>Allowed.</b> temporal.example.com:7233 is allowed by name" in form.guard.value
    assert form._next.allowed == ("temporal.example.com:7233",)
    assert not form.launch.disabled


def test_the_guards_word_goes_with_the_address_it_was_of(form: LaunchForm) -> None:
    """With a namespace that cannot be read, nothing is said of an address: another one had 'Allowed' beside it."""
    form.namespace.box.value = ""
    form.address.box.value = "temporal.example.com:7233"
    assert form.guard.value == ""
    form.namespace.box.value = "default"
    assert "<b>Refused.</b>" in form.guard.value


def test_keys_do_not_go_to_another_address(form: LaunchForm) -> None:
    """Secrets of the target the form began with stay with its address."""
    keyed = LaunchForm(Target(HERE.address, api_key="secret"))
    assert keyed._next.target.api_key == "secret"
    keyed.address.box.value = "127.0.0.1:7299"
    assert keyed._next.target == Target("127.0.0.1:7299")
    assert keyed._next.target.api_key is None


def test_the_cap_on_starts_is_said_at_the_count(form: LaunchForm, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAPACITY_MAX_STARTS=100 refuses 500 at the count, by name."""
    monkeypatch.setenv("CAPACITY_MAX_STARTS", "100")
    form.count.box.value = "501"
    assert "CAPACITY_MAX_STARTS=100" in form.count.refusal.value
    assert form.launch.disabled


def test_a_file_of_items_takes_the_place_of_heights(form: LaunchForm, tmp_path: Path) -> None:
    """A CSV gives the batch; the boxes of heights are hidden; a missing file is refused at its box."""
    file = tmp_path / "items.csv"
    file.write_text("id,height\na,1\nb,2\nc,3\n")
    form.source.value = "file of items"
    assert "items file is empty" in form.items.refusal.value
    assert (form.count.view.layout.display, form.items.view.layout.display) == ("none", "")
    form.items.box.value = str(file)
    assert form._next.batch.count == 3
    form.items.box.value = str(tmp_path / "none.csv")
    assert "cannot read items file" in form.items.refusal.value
    assert form.launch.disabled


def test_a_file_of_items_is_read_once_until_it_changes(
    form: LaunchForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of gigabytes takes a while: it is said, and another box that changes does not have it read again."""
    read, said, opened = [], [], ItemsFile.open

    def open_(path: Path, *rest: Any) -> ItemsFile:
        read.append(path)
        said.append(form.about.value)
        return opened(path, *rest)

    monkeypatch.setattr(ItemsFile, "open", open_)
    file = tmp_path / "items.csv"
    file.write_text("id\na\nb\n")
    form.source.value = "file of items"
    form.items.box.value = str(file)
    form.parallelism.box.value = "64"
    form.existing.value = "rerun"
    assert (read, form._next.batch.count, form._next.batch.options.on_existing) == ([file], 2, "rerun")
    assert "Reading" in said[0]
    assert "items.csv, 7 B" in said[0]
    assert "Reading" not in form.about.value
    file.write_text("id\na\nb\nc\n")
    form.parallelism.box.value = "32"
    assert (len(read), form._next.batch.count) == (2, 3)


def test_a_launch_says_that_it_reads_its_file_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is known to be the same file nothing is started, and the words say why; then they are as before."""
    said: list[str] = []

    async def launch(batch: Any, *_: Any, **__: Any) -> Run:
        said.append(form.status.value)
        return record(batch.count, 0)

    def rebuilt(described: dict[str, Any], again: Any = rebuild.rebuild) -> Any:
        said.append(form.status.value)
        return again(described)

    path = tmp_path / "items.csv"
    path.write_text("id\na\n")
    form = LaunchForm(HERE, launch=launch)
    form.source.value = "file of items"
    form.items.box.value = str(path)
    monkeypatch.setattr(rebuild, "rebuild", rebuilt)
    form.launch.click()
    ended(form)
    assert ["items.csv once more" in said[0], "Running" in said[1]] == [True, True]


def test_the_form_is_still_while_it_runs() -> None:
    """No box can be changed in mid-run, and all can again at its end."""
    began = threading.Event()
    form = LaunchForm(HERE, count=10, launch=until_stopped(10, 1, began))
    form.launch.click()
    assert began.wait(20)
    assert {field.box.disabled for field in form._fields} == {True}
    form.cancel.click()
    ended(form)
    assert {field.box.disabled for field in form._fields} == {False}


def test_a_broken_configuration_is_said_at_the_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Temporal's configuration that cannot be read leaves a form whose target says so."""
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    form = LaunchForm()
    assert "does not exist" in form.address.refusal.value
    assert form.launch.disabled


@pytest.mark.devserver
def test_a_real_batch_through_the_panel(devserver: Any, state_folder: str) -> None:
    """On a real server 50 workflows are started and found by the server."""
    panel = Launch(HeightRange(count=50, chain_id="panel"), Target(devserver.address), parallelism=4)
    panel.launch.click()
    run = ended(panel)
    assert (run.scheduled, run.verified, panel.state, panel.bar.value) == (50, 50, "done", 50)


@pytest.mark.devserver
def test_cancel_and_resume_of_a_real_batch(devserver: Any, state_folder: str) -> None:
    """On a real server a cancelled batch is resumed from its journal: all there, none twice, one run id."""
    panel = Launch(HeightRange(count=400, chain_id="resumed"), Target(devserver.address), parallelism=2)
    panel.launch.click()
    wait_until(lambda: panel.bar.value > 0)
    panel.cancel.click()
    cut = ended(panel)
    assert 0 < cut.not_attempted < 400
    panel.resume.click()
    whole = ended(panel)
    assert (whole.run_id, whole.scheduled, whole.verified, whole.already_running) == (cut.run_id, 400, 400, 0)
    assert whole.session_scheduled == 400 - cut.scheduled


@pytest.mark.devserver
def test_a_server_killed_in_mid_launch_is_lost_and_recovers(require: Any, state_folder: str, tmp_path: Path) -> None:
    """The panel says that the server is lost; once it is back with its data the batch ends complete."""
    try:
        server = embedded.start(database=tmp_path / "kept.db")
    except ClusterError:
        require(False, "temporal program")
    port = int(server.address.rpartition(":")[2])
    panel = Launch(HeightRange(count=300, chain_id="lost"), Target(server.address), parallelism=4)
    try:
        panel.launch.click()
        wait_until(lambda: panel.bar.value > 20)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: "Server lost" in panel.status.value)
        server = again(port, tmp_path / "kept.db")
        run = asyncio.run(asyncio.wait_for(panel.wait(), 120))
    finally:
        embedded.stop(server)
    assert (run.scheduled + run.already_running, run.verified, panel.state) == (300, 300, "done")
    assert run.retries


def again(port: int, database: Path) -> embedded.DevServer:
    """Start the server on the same port, once the port is free."""
    for _ in range(50):
        try:
            return embedded.start(port, database=database)
        except ClusterError:
            time.sleep(0.2)
    return embedded.start(port, database=database)


KERNEL = """
import sys, time
from capacity.notebook import server
target = server.dev_server()
assert server.dev_server() is not None and len(server._running) == 1
print(server._running[0][0].pid, server._running[0][0].started_at, target.address, flush=True)
sys.stdin.read()
"""


@pytest.mark.devserver
@pytest.mark.parametrize("end", ["leaves", "is killed"])
def test_the_dev_server_ends_with_its_kernel(require: Any, state_folder: str, end: str) -> None:
    """A kernel that leaves, or that is killed, takes its dev server with it."""
    try:
        embedded.find_binary()
    except ClusterError:
        require(False, "temporal program")
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert kernel.stdin is not None
    assert kernel.stdout is not None
    with kernel.stdout:
        pid, began, address = kernel.stdout.readline().split()
        assert processes.alive(int(pid), float(began))
        assert embedded.health(address) == "SERVING"
        if end == "is killed":
            kernel.kill()
        kernel.stdin.close()
        kernel.wait(30)
    wait_until(lambda: not processes.alive(int(pid), float(began)))


@pytest.mark.devserver
def test_a_batch_that_runs_when_the_kernel_leaves_can_be_resumed(devserver: Any, state_folder: str) -> None:
    """A kernel that leaves in mid-launch ends at once; its journal has what was done, and the rest can be started."""
    script = (
        "import sys, time\n"
        "from capacity.cluster.target import Target\n"
        "from capacity.launcher.batch import HeightRange\n"
        "from capacity.notebook.launch import Launch\n"
        f"panel = Launch(HeightRange(count=400, chain_id='left'), Target('{devserver.address}'), parallelism=2)\n"
        "panel.launch.click()\n"
        "while panel.bar.value < 5: time.sleep(0.05)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    batch = HeightRange(count=400, chain_id="left")
    run = asyncio.run(launch(batch, Target(devserver.address), parallelism=8, journaling=Journaling(resume=True)))
    assert (run.scheduled, run.already_running, run.verified) == (400, 0, 400)
    assert 0 < run.session_scheduled < 400


def test_the_form_says_who_launches(form: LaunchForm) -> None:
    """This kernel, so many processes, or a fleet; a number of processes that makes no sense is refused in words."""
    try:
        form.launcher.value = "processes"
        assert form.processes.view.layout.display == ""
        form.processes.box.value = "3"
        request = form._next
        assert (request.processes, request.fleet) == (3, False)
        form.processes.box.value = "65"
        assert "processes is 65; allowed: a whole number from 1 to 64" in form.processes.refusal.value
        assert form.launch.disabled
        form.launcher.value = "fleet"
        request = form._next
        assert (request.processes, request.fleet) == (1, True)
        assert form.processes.view.layout.display == "none"
        assert not form.launch.disabled
    finally:
        form.processes.box.value, form.launcher.value = "2", "here"
