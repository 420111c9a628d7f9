"""The checklist of the candidate, of two launches made for it or of a recorded run; and the alerts beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.notebook import decide_tables as tables
from capacity.notebook import launch_parts as parts
from capacity.notebook import markup
from capacity.notebook.decide_check_form import Boxes, ToCheck
from capacity.notebook.decide_runs import launched, recorded, stays
from capacity.notebook.fold import Fold
from capacity.notebook.layout import ROW, beside
from capacity.notebook.work import Work

if TYPE_CHECKING:
    from capacity.launcher.progress import Progress
    from capacity.notebook.decide_form import Asked
    from capacity.notebook.page import Page
    from capacity.observe.run import Run
    from capacity.verdict.checklist import Checklist

_NOTHING = UsageError("no run was checked in this panel", next_step="click Check, or panel.checking.start.click()")
_CANCELLED = UsageError("the launches for the checklist were cancelled", next_step="press Check again")


class Checking:
    """The buttons of the checklist, and what came of it.

    Parameters
    ----------
    page : Page
        Hands files to the browser.
    count : int
        Starts of each launch at first.
    launch, cluster : callable, optional
        Stand in for `capacity.observe.session.launch` and `capacity.experiment.subject.subject`.

    Attributes
    ----------
    start, cancel, save_checklist, save_alerts : ipywidgets.Button
    boxes : Boxes
        What is checked, and by which limits.
    state : str
        "idle", "running", "cancelling", "done", "cancelled" or "failed".
    runs : tuple of Run
        What was checked last: the baseline's where there is one, then the candidate's.
    checklist : Checklist, optional
    """

    def __init__(
        self,
        page: Page,
        count: int,
        *,
        launch: Callable[..., Awaitable[Run]] | None = None,
        cluster: Callable[..., Any] | None = None,
    ) -> None:
        self._page, self._launch, self._cluster = page, launch, cluster
        self._blocked = False
        self._work: Work[Checklist] = Work("check", _NOTHING, _CANCELLED, self._defect)
        self._progress: Progress | None = None
        self._begun = 0
        self._predicted: tuple[str, float] | None = None
        self.on_state: Callable[[], None] = lambda: None
        self.state = "idle"
        self.runs: tuple[Run, ...] = ()
        self.checklist: Checklist | None = None
        self.boxes = Boxes(count)
        self.start = widgets.Button(description="Check", button_style="primary", icon="check")
        self.cancel = widgets.Button(description="Stop the launch", icon="stop", disabled=True)
        self.save_checklist = widgets.Button(
            description="Save checklist", icon="save", disabled=True, layout={"width": "auto"}
        )
        self.save_alerts = widgets.Button(description="Save alert rules", icon="save", layout={"width": "auto"})
        self.bar = markup.Bar("Starts of the launches", 1)
        self.status, self.numbers, self.said, self.error = (widgets.HTML() for _ in range(4))
        self.verdict, self.table, self.alerts = (widgets.HTML() for _ in range(3))
        self.start.on_click(self._on_start)
        self.cancel.on_click(self._on_cancel)
        self.save_checklist.on_click(self._on_save_checklist)
        self.save_alerts.on_click(self._on_save_alerts)
        self.boxes.on_change = self._follow
        self.view = self._arranged()
        self._announce("Idle: no run checked yet")
        self.boxes.follow()

    @property
    def busy(self) -> bool:
        """Whether launches are under way."""
        return self.state in ("running", "cancelling")

    @property
    def predicted(self) -> float | None:
        """What the calibration that is named predicts of the run that was checked [starts/s]; None: nothing."""
        name, rate = self._predicted or (None, None)
        return rate if name == self.boxes.predicts else None

    def prepare(self, asked: Asked | None, blocked: bool) -> None:
        """Take over what is compared; `blocked` while a comparison runs, since launches beside it would disturb it."""
        self._blocked = blocked
        self.boxes.prepare(asked)

    async def wait(self) -> Checklist:
        """Await the checklist from a cell.

        Raises
        ------
        UsageError
            Nothing was checked, the last click was refused, or it was cancelled.
        CapacityError
            What ended a launch.
        """
        return await self._work.wait(lambda: self._on_cancel(self.cancel))

    # -- buttons ---------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self._switch()
        self._show_alerts()

    def _switch(self) -> None:
        self.start.disabled = self.busy or self._blocked or self.boxes.wanted is None
        self.cancel.disabled = self.state != "running"
        self.save_checklist.disabled = self.checklist is None
        self.save_alerts.disabled = self.boxes.thresholds is None
        self.boxes.disable(self.busy)

    def _on_start(self, _: widgets.Button) -> None:
        if self.busy:
            return
        self.boxes.follow()  # the file of limits may be another since its path was typed
        wanted = self.boxes.wanted
        if self._blocked or wanted is None:
            why = "a comparison is under way" if self._blocked else self.boxes.why_not
            self._work.refuse(UsageError(f"cannot check: {why}"))
            return
        self._progress, self._begun, self._predicted, self.checklist, self.runs = None, 0, None, None, ()
        for each in (self.numbers, self.said, self.error, self.verdict, self.table):
            each.value = ""
        self._show_alerts()
        self.state = "running"
        self._announce("Checking")
        self._switch()
        self.on_state()
        self.bar.show(0, 1 if wanted.run else 2 * wanted.count, "")
        self._work.begin(lambda stop: self._checked(wanted, stop), tick=self._tick, ended=self._ended)

    def _on_cancel(self, _: widgets.Button) -> None:
        if self.state == "running":
            self.state = "cancelling"
            self._announce("Cancelling: what is in flight is awaited")
            self._switch()
            self._work.stop()

    def _on_save_checklist(self, _: widgets.Button) -> None:
        from capacity.verdict.report import as_page

        if self.checklist is not None:
            self._page.save_text(f"checklist-{self.checklist.run_id}.html", as_page(self.checklist), "text/html")

    def _on_save_alerts(self, _: widgets.Button) -> None:
        from capacity.verdict.alert_rules import prometheus

        self.boxes.follow()  # as at Check
        if self.boxes.thresholds is not None:
            rules = prometheus(self.boxes.thresholds, self.predicted)
            self._page.save_text("capacity-rules.yml", rules, "text/yaml")

    # -- the check, on its thread ----------------------------------------------------------------------------------

    def _checked(self, wanted: ToCheck, stop: Callable[[], bool]) -> Checklist:
        from capacity.model.calibration import Calibration
        from capacity.verdict.checklist import check, predicted_rate

        if wanted.asked is None:
            runs = tuple(recorded(name) for name in (wanted.baseline, wanted.run) if name)
        else:
            runs = self._launched(wanted.asked, wanted.count, stop)
        record, before = runs[-1], runs[0] if len(runs) > 1 else None
        name, rate = wanted.calibration, None
        if name is not None:
            rate = predicted_rate(record, Calibration.named(name))
        found = check(record, wanted.limits, baseline=before, predicted=rate)
        self.runs, self.checklist = runs, found
        self._predicted = None if name is None or rate is None else (name, rate)
        self.verdict.value, self.table.value = tables.sentence(found), tables.checklist_table(found)
        self.said.value = "" if wanted.asked is None else markup.plain(stays(runs, wanted.asked.wanted.target))
        self._show_alerts()
        self.state = "done"
        self._announce(f"Checked: {found.verdict}")
        return found

    def _launched(self, asked: Asked, count: int, stop: Callable[[], bool]) -> tuple[Run, ...]:
        """Launch both settings; where that ends early say what was started."""
        made: list[Run] = []
        told: dict[str, Any] = {"stop": stop, "say": self._say, "note": self._note}
        try:
            for run in launched(asked, count, **told, launch=self._launch, cluster=self._cluster):
                made.append(run)
            if stop() or len(made) < 2:
                raise KeyboardInterrupt
        except BaseException:
            self.said.value = markup.plain(stays(made, asked.wanted.target))
            raise
        return tuple(made)

    def _ended(self, failed: BaseException | None) -> None:
        if failed is not None:
            stopped = isinstance(failed, KeyboardInterrupt)
            self.state = "cancelled" if stopped else "failed"
            self._announce("Cancelled: nothing was checked" if stopped else "Failed")
            if not stopped:
                self._defect(failed)
        self.numbers.value = ""
        self.bar.end(self.state, self.bar.maximum if failed is None else None)
        self._switch()
        self.on_state()
        for widget in (self.status, self.verdict, self.table, self.alerts, self.bar.view):
            widget.send_state("value")  # the last word even where a message before it was dropped

    def _defect(self, error: BaseException) -> None:
        self.error.value += markup.failure(error)

    def _note(self, progress: Progress) -> None:
        before = self._progress
        if before is not None and progress.done < before.done:
            self._begun += before.done  # the second launch begins at nothing
        self._progress = progress

    def _say(self, sentence: str) -> None:
        self.said.value = markup.plain(sentence)

    def _tick(self) -> None:
        progress = self._progress
        if progress is not None and self.busy:
            self.bar.show(min(self._begun + progress.done, self.bar.maximum))
            self.numbers.value = markup.plain(parts.numbers(progress))

    # -- words and layout ------------------------------------------------------------------------------------------

    def _show_alerts(self) -> None:
        limits = self.boxes.thresholds
        if limits is None:
            self.alerts.value = markup.plain("None: your own limits are refused.")
        else:
            self.alerts.value = tables.alerts_table(limits, self.checklist, self.predicted)

    def _announce(self, text: str) -> None:
        self.status.value = markup.status(text)

    def _arranged(self) -> widgets.Box:
        left = [
            *self.boxes.views,
            widgets.HBox([self.start, self.cancel], layout=ROW),
            self.bar.view,
            self.status,
            self.numbers,
            self.said,
            self.error,
        ]
        self.fold = Fold("the alerts by the same limits", [self.alerts])
        saved = widgets.HBox([self.save_checklist, self.save_alerts], layout=ROW)
        rows = beside(left, [self.verdict, self.table], shown={"overflow": "visible"}, gap="12px 24px")
        return widgets.VBox([rows, saved, self.fold.view], layout={"overflow": "visible"})
