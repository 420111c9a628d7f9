"""The measure panel: a sweep of a dev cluster with its points as they come, the fit, its score, and the file to keep.

The sweep blocks, so it has a thread of its own; it ends with the kernel, and whatever ends it keeps its points.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError, UsageError
from capacity.model.words import duration, many
from capacity.notebook import markup
from capacity.notebook import measure_parts as shown
from capacity.notebook.field import alert
from capacity.notebook.layout import ROW, beside
from capacity.notebook.measure_form import Controls
from capacity.notebook.measure_keep import how_to_use, keep, left_behind
from capacity.notebook.work import Work

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.sweep import Swept
    from capacity.experiment.wanted import Wanted
    from capacity.model.calibration import Calibration
    from capacity.model.measurement import Point
    from capacity.model.score import Score

POINTS = "1, 2, 4, 8, 16, 32, 64"
_RUNNING = ("running", "cancelling", "fitting")
_NOTHING = UsageError("nothing was measured from this panel", next_step="click Measure, or panel.start.click()")
_CANCELLED = UsageError("the sweep was cancelled before its first point", next_step="press Measure again")


class Measure:
    """Controls of a sweep, its points on a figure as they come, and the calibration fitted to them.

    Parameters
    ----------
    parallelisms : str
        Starts in flight to measure at first.
    target : Target, optional
        A running dev cluster to begin with; by default a new embedded server for each round.
    sweep : callable, optional
        Stands in for `capacity.experiment.sweep.Sweep`, with the same signature.

    Attributes
    ----------
    start, cancel, save : ipywidgets.Button
        The buttons; `.click()` works from a cell.
    controls : Controls
        Where, which points, and the name of the calibration.
    state : str
        "idle", "running", "cancelling", "fitting", "done", "incomplete", "cancelled" or "failed".
    points : list of Point
        Those there so far.
    calibration : Calibration, optional
        The fit of the last sweep, for ``capacity.predict(measure.calibration, ...)``.
    score : Score, optional
        What part of the sweep says of the rest.
    file : Path, optional
        Where it was saved.

    Examples
    --------
    >>> Measure("1,2,4").state
    'idle'
    """

    def __init__(
        self, parallelisms: str = POINTS, target: Target | None = None, *, sweep: Callable[..., Any] | None = None
    ) -> None:
        self._sweep = sweep
        self._current: Wanted | None = None
        self._swept: Swept | None = None
        self._work: Work[Calibration] = Work("sweep", _NOTHING, _CANCELLED, self._defect)
        self._began = 0.0
        self._band: dict[str, list[float]] = {}
        self.state = "idle"
        self.points: list[Point] = []
        self.calibration: Calibration | None = None
        self.score: Score | None = None
        self.file: Path | None = None
        self.controls = Controls(parallelisms, target)
        self.start = widgets.Button(description="Measure", button_style="primary", icon="play")
        self.cancel = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.save = widgets.Button(description="Save", icon="save", disabled=True)
        self.bar = markup.Bar("Points of the sweep", 1)
        self.status, self.numbers, self.said, self.error = (widgets.HTML() for _ in range(4))
        self.fitted, self.scored, self.saved, self.taken = (widgets.HTML() for _ in range(4))
        from capacity.notebook.figure import CapacityFigure

        self.figure = CapacityFigure(self._spec("Nothing measured yet"))
        self.start.on_click(self._on_start)
        self.cancel.on_click(self._on_cancel)
        self.save.on_click(self._on_save)
        self.controls.on_change = self._switch
        self.view = self._arranged()
        self._announce("Idle: nothing measured yet")
        self._switch()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)

    async def wait(self) -> Calibration:
        """Await the end of the sweep and its fit from a cell.

        Raises
        ------
        UsageError
            Nothing was measured, or too little to fit, or the last click was refused.
        CapacityError
            What ended the sweep before its first point.
        """
        return await self._work.wait(lambda: self._on_cancel(self.cancel))  # interrupted: end it as Cancel would

    # -- buttons ---------------------------------------------------------------------------------------------------

    def _switch(self) -> None:
        busy = self.state in _RUNNING
        self.start.disabled = busy or self.controls.wanted is None
        self.cancel.disabled = self.state != "running"
        self.save.disabled = busy or self._swept is None
        self.controls.disable(busy)

    def _on_start(self, _: widgets.Button) -> None:
        wanted, name = self.controls.wanted, self.controls.name.box.value.strip()
        if self.state in _RUNNING:
            return
        if wanted is None:
            self._work.refuse(UsageError(f"cannot measure: {self.controls.why_not}"))
            return
        self._began, self._current = time.monotonic(), wanted
        self.points, self._band, self._swept = [], {}, None
        self.calibration = self.score = self.file = None
        for each in (self.numbers, self.said, self.error, self.fitted, self.scored, self.saved, self.taken):
            each.value = ""
        self.bar.show(0, len(wanted.points), "")
        self.state = "running"
        self._announce("Measuring")
        self._switch()
        self._draw("Measuring")
        self._work.begin(lambda stop: self._measured(wanted, name, stop), tick=self._tick, ended=self._ended)

    def _on_cancel(self, _: widgets.Button) -> None:
        if self.state != "running":
            return
        self.state = "cancelling"
        self._announce("Cancelling: the points so far are kept")
        self._switch()
        self._work.stop()

    # -- the sweep, on its thread ----------------------------------------------------------------------------------

    def _ended(self, failed: BaseException | None) -> None:
        self.numbers.value = ""
        if failed is not None:
            self._failed(failed)
        self.bar.end(self.state)
        self._switch()
        if failed is not None:
            done = f"{self.bar.value} of {self.bar.maximum} points measured"
            self._draw(done if self.points else "Nothing measured yet")
        for widget in (self.status, self.numbers, self.fitted, self.bar.view):
            widget.send_state("value")  # the last word even where a message before it was dropped

    def _measured(self, wanted: Wanted, name: str, stop: Callable[[], bool]) -> Calibration:
        from capacity.experiment.sweep import Sweep
        from capacity.model.calibration import Calibration

        sweep = self._sweep or Sweep
        try:
            swept = self._swept = sweep(wanted, on_point=self._came, say=self._say, stop=stop).run()
        except BaseException:
            if wanted.target is None:  # of a running cluster it said last what stays there
                self.said.value = ""
            raise
        ended = "incomplete" if swept.error is not None else "cancelled" if swept.stopped else "done"
        done = f"{len(self.points)} of {len(wanted.points)} points"
        self.said.value = markup.plain(left_behind(swept, wanted.target))
        if swept.error is not None:
            self.error.value += alert(f"The sweep ended early, the points so far are kept: {swept.error}")
        self.state = "fitting"
        self._announce("Fitting")
        try:
            calibration = Calibration.of(swept.measurements, name)
            self._band = shown.fitted(calibration, self._highest())
        except CapacityError as error:
            self.state = ended if ended != "done" else "incomplete"
            self._announce(f"{self.state.capitalize()}: {done}, not fitted")
            self.error.value += alert(f"Not fitted: {error}")
            raise
        self.calibration = calibration
        self.fitted.value = shown.fit_table(calibration)
        self._score(calibration)
        self._draw(shown.finding(calibration, self._band))
        self.state = ended
        self._announce(f"{ended.capitalize()}: {done}, fitted")
        return calibration

    def _score(self, calibration: Calibration) -> None:
        from capacity.model.score import score

        try:
            self.score = score(calibration)
        except CapacityError as error:
            self.scored.value = markup.plain(f"No score: {error}")
        else:
            self.scored.value = shown.score_table(self.score)

    def _came(self, point: Point) -> None:
        self.points = [*self.points, point]
        self.bar.show(len(self.points))
        self.taken.value = shown.points_table(self.points)
        self._draw(f"Measured: {point.throughput:,.0f} starts/s at {point.parallelism} in flight")

    def _say(self, sentence: str) -> None:
        self.said.value = markup.plain(sentence)

    def _tick(self) -> None:
        wanted = self._current
        if wanted is None or self.state not in _RUNNING:
            return
        share, elapsed = len(self.points) / len(wanted.points), time.monotonic() - self._began
        expected = elapsed * (1 - share) / share if share else max(wanted.estimate()[0] - elapsed, 0.0)
        words = f"{len(self.points)} of {len(wanted.points)} points · {duration(expected)} left"
        self.numbers.value = markup.plain(words)

    def _failed(self, error: BaseException) -> None:
        if self.state in ("incomplete", "cancelled"):
            return  # measured, and only not fitted: said already
        stopped = isinstance(error, KeyboardInterrupt)
        self.state = "cancelled" if stopped else "failed"
        self._announce("Cancelled: before the first point" if stopped else "Failed")
        if not stopped:
            self._defect(error)

    def _defect(self, error: BaseException) -> None:
        self.error.value += markup.failure(error)

    # -- keeping it ------------------------------------------------------------------------------------------------

    def _on_save(self, _: widgets.Button) -> None:
        if self._swept is None:
            return
        fitted = self.calibration
        try:
            name = self.controls.name.read()
            if fitted is not None:
                fitted = fitted.model_copy(update={"name": name})
            kept = fitted or self._swept.measurements
            self.file = keep(name, kept, self.file)
        except CapacityError as error:
            self.saved.value = alert(f"Not saved: {error}")
            return
        self.saved.value = how_to_use(self.file, kept)
        if fitted is not None:
            self.calibration, self.fitted.value = fitted, shown.fit_table(fitted)

    # -- figure and layout -----------------------------------------------------------------------------------------

    def _highest(self) -> int:
        return max((point.parallelism for point in self.points), default=1)

    def _spec(self, title: str) -> dict[str, Any]:
        under = "Starts per second and p99 by starts in flight"
        if self.points and self._swept is not None and self._band:
            conditions = self._swept.measurements.conditions
            under = f"{conditions.store} on {many(conditions.cluster_cpus, 'CPU')}, {many(len(self.points), 'point')}"
        wanted = self._current or self.controls.wanted
        planned = [point.parallelism for point in wanted.points] if wanted else [64]
        return shown.spec(self.points, self._band, max(planned), title, under)

    def _draw(self, title: str) -> None:
        self.figure.follow(self._spec(title))

    def _announce(self, text: str) -> None:
        self.status.value = markup.status(text)

    def _arranged(self) -> widgets.Box:
        from capacity.notebook.page import Page

        left = [
            self.controls.view,
            widgets.HBox([self.start, self.cancel], layout=ROW),
            self.bar.view,
            self.status,
            self.numbers,
            self.said,
            self.error,
            widgets.HBox([self.controls.name.view, self.save], layout=ROW),
            self.saved,
        ]
        rows = beside(left, [self.figure, Page(lambda: self.view)])
        tables = widgets.HBox(
            [self.fitted, self.scored, self.taken], layout={"flex_flow": "row wrap", "grid_gap": "12px 32px"}
        )
        return widgets.VBox([markup.sheet(), rows, tables], layout={"overflow": "visible", "grid_gap": "12px"})


def measure(parallelisms: str = POINTS, target: Target | None = None) -> Measure:
    """Show a sweep to fill in; run it with points as they come, then fit, score and keep it.

    Parameters
    ----------
    parallelisms : str
        Starts in flight to measure at first, separated by commas.
    target : Target, optional
        A running dev cluster to begin with; by default a new embedded server for each round.

    Returns
    -------
    Measure
        Shows itself; ``panel.start.click()`` and ``await panel.wait()`` work from a cell.

    Examples
    --------
    >>> measure("1,2,4").points
    []
    """
    return Measure(parallelisms, target)
