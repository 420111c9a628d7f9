"""The words and tables of a launch, as HTML: everything the figure shows is here in text too."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from capacity.errors import CapacityError
from capacity.launcher.progress import AWAY, Progress
from capacity.launcher.progress_text import facts
from capacity.notebook.field import ERROR
from capacity.notebook.markup import plain, table

if TYPE_CHECKING:
    from capacity.notebook.launch_request import Request
    from capacity.observe.run import Run
    from capacity.observe.vitals import VitalsSample


def numbers(progress: Progress) -> str:
    """Return a running batch in one line."""
    return " · ".join([f"{progress.done:,} of {progress.count:,}", *facts(progress)])


def title(progress: Progress) -> str:
    """Return the heading of a running batch's figure."""
    rate = progress.starts_per_second
    return f"{progress.done:,} of {progress.count:,} done" + ("" if math.isnan(rate) else f", {rate:,.0f} starts/s")


def outcomes(progress: Progress) -> str:
    """Return what became of the items by kind, which adds up to all of them, and what the attempts met."""
    return _outcomes(progress, progress.errors, progress.retries, progress.attempts, progress.not_attempted)


def outcomes_of(run: Run) -> str:
    """Return the same of a run that ended."""
    return _outcomes(run, run.errors, run.retries, run.attempts, run.not_attempted)


def _outcomes(ended: Any, errors: dict[str, int], retries: dict[str, int], attempts: int, left: int) -> str:
    started = ended.started if isinstance(ended, Progress) else ended.scheduled
    rows = [
        ("started", f"{started:,}", ""),
        ("already running", f"{ended.already_running:,}", ""),
        ("already finished", f"{ended.already_finished:,}", ""),
        ("failed", f"{ended.failed:,}", ", ".join(f"{count:,} {kind}" for kind, count in errors.items())),
        ("not attempted", f"{left:,}", ""),
        ("all items", f"{ended.count:,}", ""),
        ("attempts, this session", f"{attempts:,}", ", ".join(f"{count:,} {kind}" for kind, count in retries.items())),
    ]
    return table("Outcomes", rows, numbers=True)


def vitals(sample: VitalsSample) -> str:
    """Return everything that is watched, a row each."""
    from capacity.observe import vitals_text

    return table("Vitals of launcher, server and PostgreSQL, last second", vitals_text.rows(sample))


def vitals_line(sample: VitalsSample, over: str) -> str:
    """Return what is watched in one line, after over what time it is."""
    from capacity.observe import vitals_text

    return plain(f"{over}: {vitals_text.line(sample, launcher=True)}")


def in_the_way(samples: Sequence[VitalsSample], run: Run | None = None) -> str:
    """Return what was in the way so far, in sentences."""
    from capacity.observe.findings import findings

    found = run.findings() if run is not None else findings(samples)
    return "".join(f'<p style="margin:0;line-height:1.4">In the way: {html.escape(str(each))}</p>' for each in found)


def ended(run: Run) -> str:
    """Return a run that ended in one line."""
    parts = [f"{run.scheduled:,} started"]
    for value, words in (
        (run.already_running, "already running"),
        (run.already_finished, "already finished"),
        (run.failed, "failed"),
        (run.not_attempted, "not attempted"),
    ):
        parts += [f"{value:,} {words}"] if value else []
    if run.verified is not None:
        parts.append(f"verified {run.verified:,} of {run.count:,}")
    parts.append(f"{run.starts_per_second:,.0f} starts/s")
    return " · ".join(parts)


def about(request: Request, with_guard: bool = True) -> str:
    """Return what goes where in words, and whether the guard allows it."""
    from capacity.cluster.guard import check_target

    batch = request.batch
    last = f" … {html.escape(batch.workflow_id(batch.count - 1))}" if batch.count > 1 and batch.id_prefix else ""
    first = html.escape(batch.workflow_id(0)) if batch.id_prefix else "items of a file"
    what = (
        f"<b>{batch.count:,} × {html.escape(batch.options.workflow_type)}</b> on task queue "
        f"{html.escape(batch.options.task_queue)}: {first}{last}"
    )
    flight = "" if request.parallelism is None else f", {html.escape(str(request.parallelism))} in flight"
    flight += "" if request.rate is None else f", {request.rate:g} starts/s due"
    if not with_guard:
        return f'<p style="line-height:1.5;margin:0">{what}{flight}</p>'
    try:
        where = f"Allowed: {html.escape(check_target(request.target, request.allowed))}"
    except CapacityError as error:
        where = f'<span role="alert" style="{ERROR}">{html.escape(str(error))}</span>'
    return f'<p style="line-height:1.5;margin:0">{what}{flight}<br>{where}</p>'


def words(state: str, before: str) -> str:
    """Return a state of the scheduler as a person would say it."""
    if state == AWAY:
        return "Server lost: nothing is sent but one attempt at a time, until it answers again"
    if state == "running" and before == AWAY:
        return "Running again: the server answers"
    return state.capitalize()
