"""The launch panel: Launch, Cancel, Resume, progress while it runs, the record after it, one clear line if it fails.

The batch runs on the notebook's own loop thread. Its progress is only noted there; a thread beside it paints ten times
a second, since a browser that is told of every start drops messages and ends on a wrong number.
"""

from __future__ import annotations

import asyncio
import html
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.figures.run import run_spec
from capacity.fleet import Fleet
from capacity.model.words import milliseconds
from capacity.notebook import launch_parts as parts
from capacity.notebook import markup
from capacity.notebook.clicked import Clicked
from capacity.notebook.field import alert
from capacity.notebook.launch_curve import Curve
from capacity.notebook.launch_request import Request
from capacity.notebook.layout import ROW, beside
from capacity.notebook.loop import Painter, loop, submit

if TYPE_CHECKING:
    from capacity.launcher.progress import Progress
    from capacity.observe.run import Run
    from capacity.observe.vitals import VitalsSample

_TICK = 0.1  # seconds between two paintings
_SLOW = 5  # ticks between two redraws of figure and tables
_SAMPLES = 3600  # vitals kept for the live findings
_NOTHING = UsageError("nothing was launched from this panel", next_step="click Launch, or call panel.launch.click()")
Interrupts = tuple[asyncio.Event, asyncio.Event]
"""What ends a launch once what is in flight is answered, and at once."""


class Panel:
    """Buttons, progress, figure and record of launches, one at a time; what is launched is set by `prepare`.

    Parameters
    ----------
    launch : callable, optional
        Stands in for `capacity.observe.session.launch`, with the same signature.
    figure : bool
        With a live figure; each brings 2 MB of script to the browser, so have few in a notebook.

    Attributes
    ----------
    launch, cancel, resume : ipywidgets.Button
        The buttons; `.click()` works from a cell.
    state : str
        "idle", "running", "cancelling", "done", "incomplete", "cancelled" or "failed".
    run : Run, optional
        The record of the last launch that ended.
    """

    def __init__(self, *, launch: Callable[..., Awaitable[Run]] | None = None, figure: bool = False) -> None:
        self._launch = launch
        self._next: Request | None = None
        self._why_not = "nothing is prepared"
        self._current: Request | None = None
        self._interrupts: Interrupts = (asyncio.Event(), asyncio.Event())
        self._clicked: Clicked[Run] = Clicked(_NOTHING)
        self._progress: Progress | None = None
        self._painted: Progress | None = None
        self._painter: Painter | None = None
        self._ticks = 0
        self._curve = Curve()
        self._samples: deque[VitalsSample] = deque(maxlen=_SAMPLES)
        self._drawn: VitalsSample | None = None
        self.state = "idle"
        self.run: Run | None = None
        self.about = widgets.HTML()
        self.launch = widgets.Button(description="Launch", button_style="primary", icon="play", disabled=True)
        self.cancel = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.resume = widgets.Button(description="Resume", icon="step-forward", disabled=True)
        self.bar = markup.Bar("Items of the batch", 1)
        self.status, self.numbers, self.outcomes = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.vitals, self.way, self.error, self.record = (widgets.HTML() for _ in range(4))
        self.every_vital = widgets.HTML(layout={"display": "none"})
        self.show_vitals = widgets.Checkbox(
            description="Show all vitals", indent=False, layout={"width": "auto", "max_width": "100%"}
        )
        self.show_vitals.observe(self._fold_out, "value")
        self.launch.on_click(self._on_launch)
        self.cancel.on_click(self._on_cancel)
        self.resume.on_click(self._on_resume)
        self.figure = self._made_figure() if figure else None
        self.view = self._arranged()
        self._announce("Idle: nothing launched yet")

    _says_where = True

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)

    def prepare(self, request: Request | None, why: str = "") -> None:
        """Set what the next click on Launch starts; None: nothing, with the reason in words.

        A launch that runs goes on as it was asked for, and Resume goes on with the last one.
        """
        self._next, self._why_not = request, why
        self._switch()

    async def wait(self) -> Run:
        """Await the end of the batch from a cell.

        Returns
        -------
        Run
            The record; also of a cancelled batch, with what was not attempted.

        Raises
        ------
        UsageError
            Nothing was launched, or the last click was refused.
        CapacityError
            What ended the launch.
        """
        return await self._clicked.wait(lambda: self._on_cancel(self.cancel))  # interrupted: end it as Cancel would

    # -- buttons ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a batch is under way."""
        return self._clicked.running

    @property
    def _resumable(self) -> bool:
        run = self.run
        return run is not None and run.not_attempted > 0 and run.journal is not None and self._current is not None

    def _on_launch(self, _: widgets.Button) -> None:
        if self.running:
            return
        if self._next is None:
            self._clicked.refused(UsageError(f"cannot launch: {self._why_not}"))
        else:
            self._begin(self._next, None)

    def _on_resume(self, _: widgets.Button) -> None:
        if self.running:
            return
        if self._current is None or not self._resumable:
            self._clicked.refused(UsageError("cannot resume", allowed="a batch that ended short and has a journal"))
        else:
            self._begin(self._current, self.run)

    def _on_cancel(self, _: widgets.Button) -> None:
        """End the batch; the second time without waiting for what is in flight, for a fleet or for a worker."""
        stop, abort = self._interrupts
        if self.state == "running":
            self.state = "cancelling"
            self._switch()
            self._announce("Cancelling: what is in flight is awaited; Cancel once more to stop at once")
            loop().call_soon_threadsafe(stop.set)
        elif self.state == "cancelling":
            loop().call_soon_threadsafe(abort.set)

    def _begin(self, request: Request, before: Run | None) -> None:
        self._current, self.run = request, None
        self._interrupts = (asyncio.Event(), asyncio.Event())
        self._progress = self._painted = self._drawn = None
        self._curve = Curve(before.scheduled if before else 0)
        self._samples.clear()
        for shown in (self.error, self.numbers, self.vitals, self.every_vital, self.outcomes, self.way, self.record):
            shown.value = ""
        done = before.count - before.not_attempted if before else 0
        self.bar.show(done, request.batch.count, "")
        self.state = "running"
        self._announce(_begun(before))
        self._draw(f"{done:,} of {request.batch.count:,} done")
        self._clicked.began(submit(self._run(request, self._interrupts, before)))
        self._switch()

    def _switch(self) -> None:
        """Let each button be pressed exactly when it does something; say what runs, or what Launch would start."""
        ended = self.state not in ("running", "cancelling")
        self.launch.disabled = not ended or self._next is None
        self.cancel.disabled = ended
        self.resume.disabled = not ended or not self._resumable
        request = self._next if ended else self._current
        if request is None:
            self.about.value = alert(f"Cannot launch: {self._why_not}")
        else:  # where is said beside the target of a form: not that of what was typed before
            self.about.value = parts.about(request, self._says_where or request is not self._next)

    # -- the batch, on its loop ------------------------------------------------------------------------------------

    async def _run(self, request: Request, interrupts: Interrupts, before: Run | None) -> Run:
        self._painter = Painter(self._paint, _TICK, self._defect)
        try:
            run = await self._launched(request, interrupts, before)
        except BaseException as error:
            await asyncio.to_thread(self._painter.stop)
            self.run = before  # its journal is still there: it can be resumed again
            self._failed(error)
            raise
        else:
            await asyncio.to_thread(self._painter.stop)
            self.run = run
            try:
                self._ended(run, cancelled=interrupts[0].is_set())
            except Exception as error:
                self._failed(error)
                raise
            return run
        finally:
            self._painter.stop()
            self.bar.end(self.state)
            self._switch()
            for widget in (self.bar.view, self.status, self.numbers, self.outcomes):
                widget.send_state("value")  # the last word even where a message before it was dropped

    async def _launched(self, request: Request, interrupts: Interrupts, before: Run | None) -> Run:
        from capacity.launcher.items import ItemsFile
        from capacity.launcher.rebuild import rebuild
        from capacity.observe import session  # gRPC comes with it

        batch, journal = request.batch, Path(before.journal) if before and before.journal else None
        if isinstance(batch, ItemsFile):  # read again: items are known by their index, so it must be the same file
            if self.state == "running":  # not cancelled by now
                self._announce(f"Reading {batch.path} once more")
            batch = await asyncio.to_thread(rebuild, batch.describe())
            if self.state == "running":
                self._announce(_begun(before))
        launch = self._launch or session.launch
        more: dict[str, Any] = {"rate": request.rate} if request.rate is not None else {}
        more |= {"with_worker": True} if request.with_worker else {}
        more |= {"processes": request.processes} if request.processes > 1 else {}
        more |= {"fleet": Fleet()} if request.fleet else {}
        more |= {"journaling": session.Journaling(journal, resume=True)} if journal else {}
        return await launch(
            batch,
            request.target,
            parallelism=request.parallelism,
            allowed=request.allowed,
            on_progress=self._note,
            on_vitals=self._samples.append,
            stop=interrupts[0],
            abort=interrupts[1],
            **more,
        )

    def _note(self, progress: Progress) -> None:
        self._progress = progress
        self._curve.note(progress)

    # -- painting, on a thread of its own while it runs ------------------------------------------------------------

    def _paint(self) -> None:
        self._ticks += 1
        progress, before = self._progress, self._painted
        if progress is not None and progress is not before:
            if self.state == "running" and (before is None or before.state != progress.state):
                self._announce(parts.words(progress.state, before.state if before else "running"))
            self._painted = progress
            self.bar.show(progress.done)
            self.numbers.value = markup.plain(parts.numbers(progress))
        if self._ticks % _SLOW == 0:
            self._paint_slowly()

    def _paint_slowly(self) -> None:
        progress = self._painted
        if progress is not None:
            self.outcomes.value = parts.outcomes(progress)
            self._draw(parts.title(progress))
        sample = self._samples[-1] if self._samples else None
        if sample is not None and sample is not self._drawn:
            self._drawn = sample
            self.vitals.value, self.every_vital.value = parts.vitals_line(sample, "Last second"), parts.vitals(sample)
            self.way.value = parts.in_the_way(list(self._samples))

    def _ended(self, run: Run, cancelled: bool) -> None:
        done = run.count - run.not_attempted
        self.bar.show(done)
        self.numbers.value = markup.plain(parts.ended(run))
        self.state = "done" if run.complete else "cancelled" if cancelled else "incomplete"
        self._announce(f"{self.state.capitalize()}: {done:,} of {run.count:,}")
        self.outcomes.value = parts.outcomes_of(run)
        if run.vitals:
            from capacity.observe.joining import joined

            self.vitals.value = parts.vitals_line(joined(run.vitals), "Whole run, mean or highest")
        self.way.value = parts.in_the_way([], run)
        self.error.value += "".join(map(alert, [*([run.error] if run.error else []), *run.warnings]))
        self.record.value = run._repr_html_().replace("<table", "<table class=cap-run", 1)
        p99 = run.latency_seconds.p99
        latency = f", p99 {milliseconds(p99)}" if p99 is not None else ""
        self._draw(f"{run.session_scheduled:,} started at {run.starts_per_second:,.0f} starts/s{latency}")

    def _failed(self, error: BaseException) -> None:
        self.state = "failed"
        self.numbers.value = ""
        self._announce("Failed")
        self._defect(error)
        self._draw(f"Failed: {self.bar.value:,} of {self.bar.maximum:,} done")

    def _defect(self, error: BaseException) -> None:
        self.error.value += markup.failure(error)

    def _announce(self, text: str) -> None:
        self.status.value = markup.status(text)

    # -- figure and layout -----------------------------------------------------------------------------------------

    def _made_figure(self) -> Any:
        from capacity.notebook.figure import CapacityFigure

        return CapacityFigure(run_spec(Curve().columns, "Nothing launched yet", "starts/s, latency, starts in flight"))

    def _draw(self, title: str) -> None:
        if self.figure is None or self._current is None:
            return
        request = self._current
        subtitle = f"{request.batch.count:,} × {request.batch.options.workflow_type} at {request.target.address}"
        columns = {name: list(column) for name, column in self._curve.columns.items()}
        self.figure.follow(run_spec(columns, html.escape(title), html.escape(subtitle)))

    def _arranged(self) -> widgets.Box:
        left = [
            markup.sheet(),
            self.about,
            widgets.HBox([self.launch, self.cancel, self.resume], layout=ROW),
            self.bar.view,
            self.status,
            self.numbers,
            self.error,
            self.outcomes,
            self.vitals,
            self.way,
            self.show_vitals,
            self.every_vital,
        ]
        from capacity.notebook.page import Page

        page = Page(lambda: self.view, figure=self.figure is not None)
        if self.figure is None:
            return widgets.VBox([*left, page, self.record], layout={"overflow": "visible"})
        rows = beside(left, [self.figure, page], least="26em", most="44em")
        return widgets.VBox([rows, self.record], layout={"overflow": "visible"})

    def _fold_out(self, change: dict[str, bool]) -> None:
        self.every_vital.layout.display = "" if change["new"] else "none"


def _begun(before: Run | None) -> str:
    return f"Resuming: {before.not_attempted:,} of {before.count:,} are left" if before else "Running"
