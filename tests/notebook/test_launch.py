"""The launch panel, on a launch of its own instead of a server's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from capacity.cluster.target import Target
from capacity.errors import ClusterError, GuardRefusalError, UsageError
from capacity.launcher.batch import HeightRange
from capacity.launcher.progress import Progress
from capacity.notebook import Launch
from capacity.observe.run import Run

HERE = Target("127.0.0.1:7233")


def progress(count: int, started: int, state: str = "running") -> Progress:
    return Progress(
        state=state,
        count=count,
        started=started,
        already_running=0,
        already_finished=0,
        failed=0,
        in_flight=8,
        limit=8,
        starts_per_second=400.0,
        p50=0.004,
        p99=0.028,
        elapsed=1.0,
        throttled=0,
    )


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
    assert (panel.state, panel.bar.value, panel.bar.max) == ("done", 500, 500)
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
    assert "100 of 500 · 400 starts/s · p99 28 ms · 8 in flight · 1 s left" in panel.numbers.value
    assert panel.bar.value == 100
    panel.cancel.click()
    ended(panel)


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


def test_a_defect_shows_where() -> None:
    """What is no CapacityError is called a defect and keeps its traceback for the report."""
    panel = Launch(HeightRange(count=5), HERE, launch=failing(ZeroDivisionError("<b>")))
    panel.launch.click()
    with pytest.raises(ZeroDivisionError):
        ended(panel)
    assert "A defect of capacity: ZeroDivisionError(&#x27;&lt;b&gt;&#x27;)" in panel.error.value
    assert "Traceback" in panel.error.value


def test_a_batch_that_ended_short_is_not_done() -> None:
    """Failed starts and a server that went away are said, with the reason."""
    run = record(10, 7, failed=1, not_attempted=2, verified=None, error="the server went away", warnings=["one note"])
    panel = Launch(HeightRange(count=10), HERE, launch=at_once(run))
    panel.launch.click()
    ended(panel)
    assert (panel.state, panel.bar.bar_style, panel.bar.value) == ("incomplete", "warning", 8)
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


@pytest.mark.devserver
def test_a_real_batch_through_the_panel(devserver: Any, state_folder: str) -> None:
    """On a real server 50 workflows are started and found by the server."""
    panel = Launch(HeightRange(count=50, chain_id="panel"), Target(devserver.address), parallelism=4)
    panel.launch.click()
    run = ended(panel)
    assert (run.scheduled, run.verified, panel.state, panel.bar.value) == (50, 50, "done", 50)
