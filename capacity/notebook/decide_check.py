"""The checklist of the candidate, of two launches made for it or of a recorded run; and the alerts beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError, UsageError
from capacity.notebook import decide_tables as tables
from capacity.notebook import launch_parts as parts
from capacity.notebook.decide_runs import launched, recorded
from capacity.notebook.explore_fold import Fold
from capacity.notebook.launch_field import Field, alert, choice, whole
from capacity.notebook.layout import ROW, beside
from capacity.notebook.work import Work

if TYPE_CHECKING:
    from capacity.launcher.progress import Progress
    from capacity.notebook.decide_form import Asked
    from capacity.notebook.page import Page
    from capacity.observe.run import Run
    from capacity.verdict.checklist import Checklist
    from capacity.verdict.thresholds import Threshold

_STYLES = {"done": "success", "failed": "danger", "cancelled": "warning"}
_NOTHING = UsageError("no run was checked in this panel", next_step="click Check, or panel.checking.start.click()")
_CANCELLED = UsageError("the launches for the checklist were cancelled", next_step="press Check again")
_UNKNOWN = "nothing"


class Checking:
    """Boxes and buttons of the checklist, and what came of it.

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
    run, baseline, count, limits : Field
        A recorded run and its baseline in place of two launches; starts of a launch; a file of one's own limits.
    calibration : ipywidgets.Dropdown
        By which a throughput is predicted.
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
        from capacity.model import shipped

        self._page, self._launch, self._cluster = page, launch, cluster
        self._asked: Asked | None = None
        self._blocked = False
        self._work: Work[Checklist] = Work("check", _NOTHING, _CANCELLED, self._defect)
        self._progress: Progress | None = None
        self._begun = 0
        self.on_state: Callable[[], None] = lambda: None
        self.state = "idle"
        self.runs: tuple[Run, ...] = ()
        self.checklist: Checklist | None = None
        self.predicted: float | None = None
        self.run = Field("Run", "", str, hint="empty: launch both settings now")
        self.baseline = Field("Its baseline", "", str, hint="empty: none")
        self.count = Field("Starts of each", f"{count:,}", whole("starts of each", 1, 10_000_000))
        self.limits = Field("Own limits", "", _limits, hint="a TOML file over the shipped ones")
        names = (_UNKNOWN, *shipped.names("calibrations"))
        self.calibration = choice("Predicted by", names, _UNKNOWN)
        self._fields: tuple[Field[Any], ...] = (self.run, self.baseline, self.count, self.limits)
        self.start = widgets.Button(description="Check", button_style="primary", icon="check")
        self.cancel = widgets.Button(description="Stop the launch", icon="stop", disabled=True)
        self.save_checklist = widgets.Button(
            description="Save checklist", icon="save", disabled=True, layout={"width": "auto"}
        )
        self.save_alerts = widgets.Button(description="Save alert rules", icon="save", layout={"width": "auto"})
        self.bar = parts.Bar("Starts of the launches", 1)
        self.plan, self.status, self.numbers, self.said, self.error = (widgets.HTML() for _ in range(5))
        self.verdict, self.table, self.alerts = (widgets.HTML() for _ in range(3))
        self.shown = (self.status, self.verdict, self.table, self.alerts, self.bar.view)
        self.start.on_click(self._on_start)
        self.cancel.on_click(self._on_cancel)
        self.save_checklist.on_click(self._on_save_checklist)
        self.save_alerts.on_click(self._on_save_alerts)
        for field in self._fields:
            field.on_change = self._follow
        self.calibration.observe(lambda _: self._follow(), "value")
        self.view = self._arranged()
        self._announce("Idle: no run checked yet")
        self._follow()

    @property
    def busy(self) -> bool:
        """Whether launches are under way."""
        return self.state in ("running", "cancelling")

    def prepare(self, asked: Asked | None, blocked: bool) -> None:
        """Take over what is compared; `blocked` while a comparison runs, since launches beside it would disturb it."""
        self._asked, self._blocked = asked, blocked
        self._follow()

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

    # -- what is asked for -----------------------------------------------------------------------------------------

    def _follow(self) -> None:
        refused: list[str] = []
        for field in self._fields:
            try:
                field.read()
            except CapacityError as error:
                refused.append(str(error))
        named = bool(self.run.box.value.strip())
        self.count.view.layout.display = "none" if named else ""
        self.baseline.view.layout.display = "" if named else "none"
        if not named and self._asked is None:
            refused.append("the comparison above is refused")
        self._why_not = refused[0] if refused else ""
        self.plan.value = alert(f"Cannot check: {self._why_not}") if refused else parts.plain(self._planned(named))
        self._switch()
        self._show_alerts()

    def _planned(self, named: bool) -> str:
        if named:
            return f"The record of run {self.run.box.value.strip()} is checked; nothing is launched."
        if self._asked is None:
            return ""
        one, other = self._asked.baseline, self._asked.candidate
        return f"{self.count.box.value} starts with {one.label}, then {other.label}, {self._asked.wanted.where}."

    def _switch(self) -> None:
        self.start.disabled = self.busy or self._blocked or bool(self._why_not)
        self.cancel.disabled = self.state != "running"
        self.save_checklist.disabled = self.checklist is None
        for field in self._fields:
            field.box.disabled = self.busy
        self.calibration.disabled = self.busy

    # -- buttons ---------------------------------------------------------------------------------------------------

    def _on_start(self, _: widgets.Button) -> None:
        if self.busy:
            return
        if self._blocked or self._why_not:
            why = "a comparison is under way" if self._blocked else self._why_not
            self._work.refuse(UsageError(f"cannot check: {why}"))
            return
        self._progress, self._begun, self.checklist, self.runs = None, 0, None, ()
        for each in (self.numbers, self.said, self.error, self.verdict, self.table):
            each.value = ""
        self.state = "running"
        self._announce("Checking")
        self._switch()
        self.on_state()
        asked, run, baseline = self._asked, self.run.box.value.strip(), self.baseline.box.value.strip()
        count, limits = self.count.read(), self.limits.read()
        self.bar.show(0, 1 if run else 2 * count, "")
        self._work.begin(
            lambda stop: self._checked(asked, run, baseline, count, limits, stop), tick=self._tick, ended=self._ended
        )

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

        self._page.save_text("capacity-rules.yml", prometheus(self._limits(), self.predicted), "text/yaml")

    # -- the check, on its thread ----------------------------------------------------------------------------------

    def _checked(
        self,
        asked: Asked | None,
        run: str,
        baseline: str,
        count: int,
        limits: tuple[Threshold, ...],
        stop: Callable[[], bool],
    ) -> Checklist:
        from capacity.model.calibration import Calibration
        from capacity.verdict.checklist import check, predicted_rate

        if run:
            runs = (*((recorded(baseline),) if baseline else ()), recorded(run))
        else:
            assert asked is not None
            runs = self._launched(asked, count, stop)
        name = str(self.calibration.value)
        record, before = runs[-1], runs[0] if len(runs) > 1 else None
        self.predicted = None if name == _UNKNOWN else predicted_rate(record, Calibration.named(name))
        found = check(record, limits, baseline=before, predicted=self.predicted)
        self.runs, self.checklist = runs, found
        self.verdict.value, self.table.value = tables.sentence(found), tables.checklist_table(found)
        self.said.value = parts.plain(_left(runs)) if not run else ""
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
            self.said.value = parts.plain(_left(tuple(made))) if made else ""
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
        self.bar.show(self.bar.maximum if failed is None else self.bar.value, style=_STYLES[self.state])
        self._switch()
        self.on_state()
        for widget in self.shown:
            widget.send_state("value")  # the last word even where a message before it was dropped

    def _defect(self, error: BaseException) -> None:
        self.error.value += parts.failure(error)

    def _note(self, progress: Progress) -> None:
        before = self._progress
        if before is not None and progress.done < before.done:
            self._begun += before.done  # the second launch begins at nothing
        self._progress = progress

    def _say(self, sentence: str) -> None:
        self.said.value = parts.plain(sentence)

    def _tick(self) -> None:
        progress = self._progress
        if progress is not None and self.busy:
            self.bar.show(min(self._begun + progress.done, self.bar.maximum))
            self.numbers.value = parts.plain(parts.numbers(progress))

    # -- words and layout ------------------------------------------------------------------------------------------

    def _limits(self) -> tuple[Threshold, ...]:
        try:
            return self.limits.read()
        except CapacityError:
            return _limits("")

    def _show_alerts(self) -> None:
        self.alerts.value = tables.alerts_table(self._limits(), self.checklist, self.predicted)

    def _announce(self, text: str) -> None:
        self.status.value = parts.status(text)

    def _arranged(self) -> widgets.Box:
        left = [
            *(field.view for field in self._fields),
            self.calibration,
            self.plan,
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


def _limits(text: str) -> tuple[Threshold, ...]:
    from capacity.verdict.thresholds import thresholds

    return thresholds(Path(text).expanduser() if text else None)


def _left(runs: tuple[Run, ...]) -> str:
    names = " and ".join(f"'capacity runs clean {run.run_id}'" for run in runs)
    many = sum(run.session_scheduled for run in runs)
    return f"{many:,} workflows were started; on a running cluster they stay: {names} ends them."
