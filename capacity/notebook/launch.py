"""The launch panel: target and batch, Launch and Cancel, progress, and one clear line when it fails.

The batch runs on the notebook's own loop thread. Its progress is only noted there; a ticker paints it ten times a
second, since a browser that is told of every start drops messages and ends on a wrong number.
"""

from __future__ import annotations

import asyncio
import html
import math
import traceback
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError, UsageError
from capacity.notebook.loop import loop, submit

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.launcher.batch import Batch
    from capacity.launcher.progress import Progress
    from capacity.observe.run import Run
    from capacity.observe.vitals import VitalsSample

_TICK = 0.1  # seconds between two paintings
_STYLES = {"done": "success", "failed": "danger", "cancelled": "warning", "incomplete": "warning"}


class Launch:
    """A panel that launches one batch and shows what becomes of it.

    Parameters
    ----------
    batch : Batch
        What to start, such as ``HeightRange(count=500)``.
    target : Target, optional
        Where; by default what Temporal's environment configuration says.
    parallelism : int or str, optional
        Starts in flight, as `capacity.observe.session.launch` takes it.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    launch : callable, optional
        Stands in for `capacity.observe.session.launch`, with the same signature.

    Attributes
    ----------
    launch, cancel : ipywidgets.Button
        The buttons; `.click()` works from a cell.
    state : str
        "idle", "running", "cancelling", "done", "incomplete", "cancelled" or "failed".
    """

    def __init__(
        self,
        batch: Batch,
        target: Target | None = None,
        *,
        parallelism: int | str | None = None,
        allowed: Collection[str] = (),
        launch: Callable[..., Awaitable[Run]] | None = None,
    ) -> None:
        if target is None:
            from capacity.cluster.profile import load_target

            target = load_target()
        self.batch, self.target, self.parallelism, self.allowed = batch, target, parallelism, allowed
        self._launch = launch
        self._stop = asyncio.Event()
        self._future: Future[Run] | None = None
        self._progress: Progress | None = None
        self._painted: Progress | None = None
        self.state = "idle"
        self.about = widgets.HTML(self._about())
        self.launch = widgets.Button(description="Launch", button_style="primary", icon="play")
        self.cancel = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.bar = widgets.IntProgress(max=batch.count, layout={"width": "min(24em, 100%)"})
        self.status = widgets.HTML()
        self.numbers = widgets.HTML()
        self.vitals = widgets.HTML()
        self.error = widgets.HTML()
        self.launch.on_click(self._on_launch)
        self.cancel.on_click(self._on_cancel)
        row = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "8px"}
        self.view = widgets.VBox(
            [
                self.about,
                widgets.HBox([self.launch, self.cancel, self.bar], layout=row),
                widgets.HBox([self.status, self.numbers], layout=row),
                self.vitals,
                self.error,
            ]
        )
        self._announce("Idle: nothing launched yet")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)

    async def wait(self) -> Run:
        """Await the end of the batch from a cell.

        Returns
        -------
        Run
            The record; also of a cancelled batch, with what was not attempted.

        Raises
        ------
        UsageError
            Nothing was launched.
        CapacityError
            What ended the launch.
        """
        if self._future is None:
            raise UsageError(
                "nothing was launched from this panel", next_step="click Launch, or call panel.launch.click()"
            )
        try:
            return await asyncio.shield(asyncio.wrap_future(self._future))
        except asyncio.CancelledError:  # the cell was interrupted: end the batch as Cancel would
            self._on_cancel(self.cancel)
            raise

    def _about(self) -> str:
        from capacity.cluster.guard import check_target

        count = self.batch.count
        last = f" … {html.escape(self.batch.workflow_id(count - 1))}" if count > 1 else ""
        options = self.batch.options
        what = (
            f"<b>{count:,} × {html.escape(options.workflow_type)}</b> on task queue {html.escape(options.task_queue)}: "
            f"{html.escape(self.batch.workflow_id(0))}{last}"
        )
        try:
            where = html.escape(check_target(self.target, self.allowed))
        except CapacityError as error:
            where = f'<span role="alert" style="color:var(--jp-error-color1,#b00020)">{html.escape(str(error))}</span>'
        flight = "" if self.parallelism is None else f", {html.escape(str(self.parallelism))} in flight"
        return f'<p style="line-height:1.5;margin:0">{what}{flight}<br>{where}</p>'

    def _on_launch(self, _: widgets.Button) -> None:
        if self._future is not None and not self._future.done():
            return
        self.launch.disabled, self.cancel.disabled = True, False
        self._stop, self._progress, self._painted = asyncio.Event(), None, None
        self.bar.value, self.bar.bar_style, self.error.value, self.numbers.value = 0, "", "", ""
        self.vitals.value = ""
        self.state = "running"
        self._announce("Running")
        self._future = submit(self._run(self._stop))

    def _on_cancel(self, _: widgets.Button) -> None:
        if self.state != "running":
            return
        self.cancel.disabled = True
        self.state = "cancelling"
        self._announce("Cancelling: what is in flight is awaited")
        loop().call_soon_threadsafe(self._stop.set)

    async def _run(self, stop: asyncio.Event) -> Run:
        ticker = asyncio.create_task(self._tick())
        try:
            run = await self._launched(stop)
        except BaseException as error:
            self._failed(error)
            raise
        else:
            self._ended(run, cancelled=stop.is_set())
            return run
        finally:
            ticker.cancel()
            self.launch.disabled, self.cancel.disabled = False, True
            self.bar.bar_style = _STYLES[self.state]
            for widget in (self.bar, self.status, self.numbers):
                widget.send_state("value")  # the last word even where a message before it was dropped

    async def _launched(self, stop: asyncio.Event) -> Run:
        launch = self._launch
        if launch is None:
            from capacity.observe import session  # gRPC comes with it

            launch = session.launch
        return await launch(
            self.batch,
            self.target,
            parallelism=self.parallelism,
            allowed=self.allowed,
            on_progress=self._note,
            on_vitals=self._show_vitals,
            stop=stop,
        )

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _show_vitals(self, sample: VitalsSample) -> None:
        from capacity.observe import vitals_text

        self.vitals.value = _plain(vitals_text.line(sample))

    async def _tick(self) -> None:
        while True:
            self._paint()
            await asyncio.sleep(_TICK)

    def _paint(self) -> None:
        progress = self._progress
        if progress is None or progress is self._painted:
            return
        if self.state == "running" and (self._painted is None or self._painted.state != progress.state):
            self._announce(progress.state.capitalize())
        self._painted = progress
        self.bar.value = progress.done
        self.numbers.value = _plain(_numbers(progress))

    def _ended(self, run: Run, cancelled: bool) -> None:
        done = run.count - run.not_attempted
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
        self.bar.value = done
        self.numbers.value = _plain(" · ".join(parts))
        self.state = "done" if run.complete else "cancelled" if cancelled else "incomplete"
        self._announce(f"{self.state.capitalize()}: {done:,} of {run.count:,}")
        if run.vitals:
            self.vitals.value = _watched(run)
        reasons = [*([run.error] if run.error else []), *run.warnings]
        self.error.value = "".join(f'<p role="alert" style="margin:0">{html.escape(reason)}</p>' for reason in reasons)

    def _failed(self, error: BaseException) -> None:
        self._paint()
        self.state = "failed"
        self._announce("Failed")
        red = "color:var(--jp-error-color1,#b00020);font-weight:600;margin:0;line-height:1.4"
        if isinstance(error, CapacityError):
            self.error.value = f'<p role="alert" style="{red}">{html.escape(str(error))}</p>'
            return
        trace = html.escape("".join(traceback.format_exception(error)))
        self.error.value = (
            f'<p role="alert" style="{red}">A defect of capacity: {html.escape(repr(error))}</p>'
            f'<details><summary>Where</summary><pre style="max-height:12em;overflow:auto">{trace}</pre></details>'
        )

    def _announce(self, text: str) -> None:
        # A live region of its own: numbers that change ten times a second would flood a screen reader.
        self.status.value = f'<span role="status"><b>{html.escape(text)}</b></span>'


def _watched(run: Run) -> str:
    """Return the cluster over the whole run, and what was in the way."""
    from capacity.observe import vitals_text
    from capacity.observe.vitals import joined

    ways = "".join(f"<div>In the way: {html.escape(str(finding))}</div>" for finding in run.findings())
    return _plain(vitals_text.line(joined(run.vitals))) + ways


def _numbers(progress: Progress) -> str:
    parts = [f"{progress.done:,} of {progress.count:,}", f"{progress.starts_per_second:,.0f} starts/s"]
    if not math.isnan(progress.p99):
        parts.append(f"p99 {progress.p99 * 1e3:,.0f} ms")
    parts.append(f"{progress.in_flight:,} in flight")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    left = progress.count - progress.done
    if left and progress.starts_per_second > 0:
        parts.append(f"{left / progress.starts_per_second:,.0f} s left")
    return " · ".join(parts)


def _plain(text: str) -> str:
    return f'<span style="font-variant-numeric:tabular-nums">{html.escape(text)}</span>'
