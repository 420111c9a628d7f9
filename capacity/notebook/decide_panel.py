"""The decide panel: two settings in turns on one cluster, the verdict, the candidate's checklist, and the way back.

The comparison blocks, so it has a thread of its own; it ends with the kernel, and whatever ends it keeps whole blocks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.model.words import duration
from capacity.notebook import decide_parts as shown
from capacity.notebook import markup
from capacity.notebook.decide_back import Back
from capacity.notebook.decide_check import Checking
from capacity.notebook.decide_form import Asked, Controls
from capacity.notebook.field import alert
from capacity.notebook.layout import ROW, beside
from capacity.notebook.measure_keep import left_behind
from capacity.notebook.work import Work

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.blocks import Block, Compared
    from capacity.observe.run import Run
    from capacity.verdict.checklist import Checklist
    from capacity.verdict.comparison import Comparison
    from capacity.verdict.rollback import Rollback

BLOCKS, SECONDS, STARTS = 12, 5.0, 2000
"""Blocks of a comparison, seconds of each run, and starts of each launch for the checklist, at first."""
_RUNNING = ("running", "cancelling")
_NOTHING = UsageError("nothing was compared in this panel", next_step="click Compare, or panel.start.click()")
_CANCELLED = UsageError("the comparison was cancelled before its first block", next_step="press Compare again")


class Decide:
    """Controls of a comparison, its blocks on a figure as they come, the verdict, the checklist and the way back.

    Parameters
    ----------
    baseline, candidate : str
        Settings at first: ``2x``, ``64``, ``auto``, ``rate=300``, a server's ``key=value``, or several with commas.
    target : Target, optional
        A running dev cluster, such as ``dev_server()``; by default a new embedded server.
    cpus : int, optional
        CPUs that ``2x`` multiplies; by default those of this machine.
    blocks : int
        Blocks at first, each with both settings.
    seconds : float
        Measured span of each run at first [s].
    starts : int
        Starts of each of the two launches for the checklist, at first.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    comparing, launch, cluster : callable, optional
        Stand in for `capacity.experiment.blocks.Comparing`, `capacity.observe.session.launch` and
        `capacity.experiment.subject.subject`, with the same signatures.

    Attributes
    ----------
    start, cancel : ipywidgets.Button
        The buttons; `.click()` works from a cell.
    controls : Controls
        What is compared where.
    state : str
        "idle", "running", "cancelling", "done", "incomplete", "cancelled" or "failed".
    comparison : Comparison, optional
        What the blocks so far say.
    checking : Checking
        The checklist: its boxes, buttons and runs.
    back : Back
        The way back: its boxes, and what they give.

    Examples
    --------
    >>> Decide("2x", "4x").state
    'idle'
    """

    def __init__(
        self,
        baseline: str = "2x",
        candidate: str = "4x",
        target: Target | None = None,
        *,
        cpus: int | None = None,
        blocks: int = BLOCKS,
        seconds: float = SECONDS,
        starts: int = STARTS,
        allowed: Collection[str] = (),
        comparing: Callable[..., Any] | None = None,
        launch: Callable[..., Awaitable[Run]] | None = None,
        cluster: Callable[..., Any] | None = None,
    ) -> None:
        from capacity.notebook.figure import CapacityFigure
        from capacity.notebook.page import Page

        self._comparing = comparing
        self._work: Work[Comparison] = Work("compare", _NOTHING, _CANCELLED, self._defect)
        self._current: Asked | None = None
        self._so_far: list[Comparison] = []
        self._began = 0.0
        self.state = "idle"
        self.comparison: Comparison | None = None
        self.page = Page(lambda: self.view)
        self.controls = Controls(baseline, candidate, target, cpus, blocks, seconds, allowed)
        self.checking = Checking(self.page, starts, launch=launch, cluster=cluster)
        self.back = Back(candidate, baseline, cpus)
        self.start = widgets.Button(description="Compare", button_style="primary", icon="play")
        self.cancel = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.save = widgets.Button(description="Save comparison", icon="save", disabled=True, layout={"width": "auto"})
        self.bar = markup.Bar("Blocks of the comparison", 1)
        self.status, self.numbers, self.said, self.error = (widgets.HTML() for _ in range(4))
        self.verdict, self.summary, self.table = (widgets.HTML() for _ in range(3))
        self.figure = CapacityFigure(shown.spec((), None, "Nothing compared yet"))
        self.start.on_click(self._on_start)
        self.cancel.on_click(self._on_cancel)
        self.save.on_click(self._on_save)
        self.controls.on_change = self._follow
        self.checking.on_state = self._switch
        self.view = self._arranged()
        self._announce("Idle: nothing compared yet")
        self._follow()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)

    async def wait(self) -> Comparison:
        """Await the end of the comparison from a cell.

        Raises
        ------
        UsageError
            Nothing was compared, the last click was refused, or it was cancelled before its first block.
        CapacityError
            What ended it before its first block.
        """
        return await self._work.wait(lambda: self._on_cancel(self.cancel))  # interrupted: end it as Cancel would

    async def checked(self) -> Checklist:
        """Await the checklist of the candidate from a cell, after ``panel.checking.start.click()``."""
        return await self.checking.wait()

    @property
    def rollback(self) -> Rollback:
        """The way back that the panel shows.

        Raises
        ------
        UsageError
            One of its boxes is refused.
        """
        if self.back.rollback is None:
            raise UsageError("no way back is shown", next_step="correct the boxes under 'The way back'")
        return self.back.rollback

    # -- buttons ---------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        asked = self.controls.asked
        if asked is not None and self.state not in _RUNNING:
            compared = (self.controls.candidate, self.controls.baseline, self.controls.cpus)
            self.back.take(*(field.box.value for field in compared))
        self._switch()

    def _switch(self) -> None:
        busy = self.state in _RUNNING
        self.start.disabled = busy or self.checking.busy or self.controls.asked is None
        self.cancel.disabled = self.state != "running"
        self.save.disabled = busy or self.comparison is None
        self.controls.disable(busy or self.checking.busy)
        if not self.checking.busy:
            self.checking.prepare(self.controls.asked, busy)

    def _on_start(self, _: widgets.Button) -> None:
        asked = self.controls.asked
        if self.state in _RUNNING:
            return
        if asked is None or self.checking.busy:
            why = "launches for the checklist are under way" if self.checking.busy else self.controls.why_not
            self._work.refuse(UsageError(f"cannot compare: {why}"))
            return
        self._began, self._current = time.monotonic(), asked
        self._so_far, self.comparison = [], None
        for each in (self.numbers, self.said, self.error, self.verdict, self.summary, self.table):
            each.value = ""
        self.bar.show(0, asked.blocks, "")
        self.state = "running"
        self._announce("Comparing")
        self._switch()
        self._draw(f"Comparing {asked.candidate.name} with {asked.baseline.name}")
        self._work.begin(lambda stop: self._compared(asked, stop), tick=self._tick, ended=self._ended)

    def _on_cancel(self, _: widgets.Button) -> None:
        if self.state == "running":
            self.state = "cancelling"
            self._announce("Cancelling: whole blocks are kept")
            self._switch()
            self._work.stop()

    def _on_save(self, _: widgets.Button) -> None:
        if self.comparison is not None:
            self.page.save_text("comparison.json", shown.as_json(self.comparison), "application/json")

    # -- the comparison, on its thread -----------------------------------------------------------------------------

    def _compared(self, asked: Asked, stop: Callable[[], bool]) -> Comparison:
        from capacity.experiment.blocks import Comparing

        make = self._comparing or Comparing
        sides = asked.baseline, asked.candidate
        running = make(asked.wanted, *sides, asked.blocks, on_block=self._came, say=self._say, stop=stop)
        try:
            compared: Compared = running.run()
        except BaseException:
            if asked.wanted.target is None:  # of a running cluster it said last what stays there
                self.said.value = ""
            raise
        found = self.comparison = shown.judged(compared.blocks, asked, compared)
        self._so_far[-1:] = [found]
        self.said.value = markup.plain(left_behind(compared, asked.wanted.target))
        if compared.error is not None:
            self.error.value += alert(f"The comparison ended early, whole blocks are kept: {compared.error}")
        early = "cancelled" if compared.stopped else "done"
        self.state = "incomplete" if compared.error is not None else early
        self._show(found)
        self._announce(f"{self.state.capitalize()}: {len(compared.blocks)} of {asked.blocks} blocks")
        return found

    def _ended(self, failed: BaseException | None) -> None:
        if failed is not None:
            stopped = isinstance(failed, KeyboardInterrupt)
            self.state = "cancelled" if stopped else "failed"
            self._announce("Cancelled: before the first block" if stopped else "Failed")
            if not stopped:
                self._defect(failed)
        self.numbers.value = ""
        self.bar.end(self.state)
        self._switch()
        if failed is not None:
            done = f"{self.bar.value} of {self.bar.maximum} blocks compared"
            self._draw(done if self._so_far else "Nothing compared yet")
        for widget in (self.status, self.verdict, self.summary, self.table, self.bar.view):
            widget.send_state("value")  # the last word even where a message before it was dropped

    def _defect(self, error: BaseException) -> None:
        self.error.value += markup.failure(error)

    def _came(self, block: Block) -> None:
        asked = self._current
        assert asked is not None
        blocks = (*(self._so_far[-1].blocks if self._so_far else ()), block)
        found = self.comparison = shown.judged(blocks, asked)
        self._so_far.append(found)
        self.bar.show(len(blocks))
        if self.state == "running":
            self._announce(f"Comparing: {len(blocks)} of {asked.blocks} blocks")
        self._show(found)

    def _show(self, found: Comparison) -> None:
        self.verdict.value = shown.verdict(found, final=self.state not in _RUNNING)
        self.summary.value = shown.summary_table(found)
        self.table.value = shown.blocks_table(self._so_far)
        self._draw(shown.headline(found))

    def _say(self, sentence: str) -> None:
        self.said.value = markup.plain(sentence)

    def _tick(self) -> None:
        asked = self._current
        if asked is None or self.state not in _RUNNING:
            return
        done, elapsed = len(self._so_far), time.monotonic() - self._began
        left = elapsed * (asked.blocks - done) / done if done else max(asked.estimate - elapsed, 0.0)
        self.numbers.value = markup.plain(f"{done} of {asked.blocks} blocks · about {duration(left)} left")

    # -- figure and layout -----------------------------------------------------------------------------------------

    def _draw(self, title: str) -> None:
        self.figure.follow(shown.spec(self._so_far, self._current, title))

    def _announce(self, text: str) -> None:
        self.status.value = markup.status(text)

    def _arranged(self) -> widgets.Box:
        left = [
            self.controls.view,
            widgets.HBox([self.start, self.cancel, self.save], layout=ROW),
            self.bar.view,
            self.status,
            self.numbers,
            self.said,
            self.error,
            self.verdict,
        ]
        rows = beside(left, [self.figure, self.page, self.summary, self.table])
        parts_ = [
            markup.sheet(),
            _heading("Which is better?"),
            rows,
            _heading("Does the candidate pass the checklist?"),
            self.checking.view,
            _heading("The way back"),
            self.back.view,
        ]
        return widgets.VBox(parts_, layout={"overflow": "visible", "grid_gap": "8px"})


def _heading(words: str) -> widgets.HTML:
    return widgets.HTML(f'<h4 style="margin:12px 0 2px">{words}</h4>')
