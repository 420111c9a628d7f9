"""The words and tables of a launch, as HTML: everything the figure shows is here in text too."""

from __future__ import annotations

import html
import math
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError
from capacity.launcher.progress import AWAY, Progress
from capacity.launcher.progress_text import facts
from capacity.notebook.field import ERROR, alert

if TYPE_CHECKING:
    from capacity.notebook.launch_request import Request
    from capacity.observe.run import Run
    from capacity.observe.vitals import VitalsSample

_COLOURS = {"": "#0072B2", "success": "#009E73", "danger": "#D55E00", "warning": "#E69F00"}  # Okabe-Ito
_ENDS = {"done": "success", "failed": "danger", "cancelled": "warning", "incomplete": "warning"}
_STYLE = """<style>
.cap-run{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;
color:var(--jp-content-font-color1,#212121)}
.cap-run caption{caption-side:top;text-align:left;font-weight:600;padding:0 0 4px;color:inherit}
.cap-run th,.cap-run td{padding:3px 12px 3px 0;text-align:left;line-height:1.35;background:transparent;
vertical-align:top;font-weight:400;border-bottom:1px solid var(--jp-border-color2,#e0e0e0)}
.cap-run td.n{text-align:right;font-weight:600}
.cap-run tr.bad th::before{content:"! ";font-weight:700}
</style>"""


def sheet() -> widgets.HTML:
    """Return the style of all tables of a panel, to be shown once.

    One that came anew with each table would have the browser work out the style of the whole page.
    """
    return widgets.HTML(_STYLE, layout={"display": "none"})


class Bar:
    """A progress bar that a screen reader finds: its name, how far, and of how many."""

    def __init__(self, name: str, maximum: int) -> None:
        self._name, self._maximum, self._value, self._style = name, max(maximum, 1), 0, ""
        self.view = widgets.HTML(layout={"width": "min(24em, 100%)", "margin": "0"})
        self._draw()

    @property
    def value(self) -> int:
        """How many are done."""
        return self._value

    @property
    def maximum(self) -> int:
        """Of how many."""
        return self._maximum

    @property
    def style(self) -> str:
        """Empty while it goes on; "success", "warning" or "danger" at its end."""
        return self._style

    def show(self, value: int, maximum: int | None = None, style: str | None = None) -> None:
        """Draw it anew; what is not given stays."""
        self._value = value
        self._maximum = self._maximum if maximum is None else max(maximum, 1)
        self._style = self._style if style is None else style
        self._draw()

    def end(self, state: str, value: int | None = None) -> None:
        """Draw it in the look of the state in which what it shows has ended."""
        self.show(self._value if value is None else value, style=_ENDS[state])

    def _draw(self) -> None:
        self.view.value = (
            f'<progress aria-label="{html.escape(self._name)}" value="{self._value}" max="{self._maximum}" '
            f'style="width:100%;height:18px;accent-color:{_COLOURS[self._style]}">'
            f"{self._value} of {self._maximum}</progress>"
        )


def status(text: str) -> str:
    """Return the state in words; a region of its own, since numbers that change often would flood a screen reader."""
    return f'<span role="status" style="font-size:15px"><b>{html.escape(text)}</b></span>'


def plain(text: str) -> str:
    """Return text whose digits do not jump."""
    return f'<span style="display:block;line-height:1.4;font-variant-numeric:tabular-nums">{html.escape(text)}</span>'


def table(caption: str, rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table with scoped heads; with `numbers` the second column is set to the right."""
    body = []
    for first, *others in rows:
        kind = ' class="n"' if numbers else ""
        cells = "".join(
            f"<td{kind if place == 0 else ''}>{html.escape(other)}</td>" for place, other in enumerate(others)
        )
        body.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return f'<table class="cap-run"><caption>{html.escape(caption)}</caption>{"".join(body)}</table>'


def headed(caption: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first row and first column are heads."""
    head, *others = rows
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in others
    )
    return (
        f'<div style="overflow-x:auto"><table class="cap-run"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


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


def failure(error: BaseException) -> str:
    """Return what ended a panel's work: one clear line, or for a defect also where it was."""
    if isinstance(error, CapacityError):
        return alert(str(error), "font-weight:600")
    trace = html.escape("".join(traceback.format_exception(error)))
    return (
        f'<p role="alert" style="{ERROR};font-weight:600">A defect of capacity: {html.escape(repr(error))}</p>'
        f'<details><summary>Where</summary><pre style="max-height:12em;overflow:auto">{trace}</pre></details>'
    )


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
