"""The explorer: set scheduler, cluster and limits; table, figure, finding and recommendation follow. No server needed.

What follows a key press is worked out at once, without intervals. Bands and what is folded out come a moment later,
on a thread of their own, once the controls have stood still: they take a tenth of a second, too long for each step.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ipywidgets as widgets

from capacity.errors import CapacityError
from capacity.figures import prediction_spec
from capacity.model.calibration import Calibration
from capacity.model.claim import claim
from capacity.model.outlook import Outlook, outlook
from capacity.model.prediction import Prediction
from capacity.model.words import number, span
from capacity.notebook.explore_controls import MIB, Controls
from capacity.notebook.explore_export import numbers_csv, numbers_html, report_html, styled
from capacity.notebook.explore_figure import banded, figure_view
from capacity.notebook.explore_target import TargetMode
from capacity.notebook.explore_view import Choice, Scene, scene
from capacity.notebook.explore_words import explained, finding
from capacity.notebook.figure import CapacityFigure
from capacity.notebook.fold import Fold
from capacity.notebook.page import Page
from capacity.notebook.table import STYLE, table_html
from capacity.rules.plan import BATCH, PoolPlan
from capacity.rules.pool import DEFAULT_RULES

_STILL: Final = 0.25
"""Seconds without a change after which bands and folds are worked out."""


class Explorer:
    """Controls, tuning table, figure and recommendation that follow one another.

    Parameters are those of `explore`.

    Attributes
    ----------
    controls : Controls
        Every control by name; set `.value` to move one from a cell, as in ``explorer.controls.cpus.value = 32``.
    scene : Scene
        Everything that is shown now.

    Examples
    --------
    >>> Explorer(cpus=32, multiplier=2).plan.multiplier
    2
    """

    def __init__(
        self,
        cpus: int | None = None,
        *,
        multiplier: int = DEFAULT_RULES.multiplier,
        batch: int = BATCH,
        cluster: str = "postgres-dev",
        calibration: str | Calibration | None = None,
        p99: float | None = 0.1,
        memory: int | None = 256,
    ) -> None:
        milliseconds = 0.0 if p99 is None else 1e3 * p99
        self.controls = Controls(cpus, multiplier, batch, cluster, calibration, milliseconds, memory or 0)
        self.summary, self.warning = widgets.HTML(), widgets.HTML()
        self.table, self.advice = widgets.HTML(), widgets.HTML()
        self.use = widgets.Button(layout={"width": "auto", "align_self": "flex-start"}, icon="check")
        self.page = Page(lambda: self.view)
        self.target = TargetMode(self.controls)
        self._lock, self._timer = threading.RLock(), threading.Timer(0, lambda: None)
        self._bands: dict[str, Prediction] = {}
        self._exported: tuple[Scene, Prediction] | None = None
        choice, _ = self.controls.choice()
        self.scene: Scene = scene(choice)
        self.figure = CapacityFigure(prediction_spec(figure_view(self.scene, None)))
        self._claim, self._notes, self._numbers = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.claim = Fold("the claim of 200,000/s against this cluster", [self._claim])
        self.notes = Fold("what binds, what it stores, how sure this is", [self._notes])
        self.numbers = Fold("every number of the figure", [self._numbers])
        for fold in (self.claim, self.notes, self.numbers):
            fold.on_open = self.settle
        self.view = self._laid_out()
        self.controls.on_change = self._follow
        self.use.on_click(self._take_recommended)
        self._follow()

    @property
    def plan(self) -> PoolPlan:
        """What the rules give now."""
        return self.scene.choice.plan

    @property
    def prediction(self) -> Prediction:
        """What is predicted now, with 90 % intervals; `to_frame()` gives rows to make a data frame from."""
        return self._with_band()[1]

    @property
    def outlook(self) -> Outlook:
        """The plan on the cluster, beside the knee and other multipliers, with what to make of it."""
        choice = self.scene.choice
        return outlook(choice.plan, choice.cluster, choice.calibration)

    def csv(self) -> str:
        """Every number of the figure as CSV."""
        return numbers_csv(*self._with_band())

    def report(self, path: str | Path | None = None) -> str:
        """One HTML file with everything in it, nothing to fetch; written to a path where one is given."""
        text = report_html(*self._with_band(), self.outlook)
        if path is not None:
            try:
                Path(path).write_text(text, encoding="utf-8")
            except OSError as error:
                raise CapacityError(
                    f"cannot write report {path}: {error.strerror}", next_step="pass another path"
                ) from error
        return text

    def settle(self) -> None:
        """Work out now what else would come a moment after the last change: bands and what is folded out."""
        self._timer.cancel()
        found = self.scene
        key = _key(found.choice)
        band = self._bands.get(key) or banded(found.choice)
        made: tuple[tuple[Fold, widgets.HTML, Callable[[], str]], ...] = (
            (self.claim, self._claim, lambda: styled(claim(found.choice.cluster, found.choice.calibration))),
            (self.notes, self._notes, lambda: _sentences(self.outlook)),
            (self.numbers, self._numbers, lambda: numbers_html(*self._with_band())),
        )
        contents = [(widget, _or_why_not(make)) for fold, widget, make in made if fold.open]
        with self._lock:
            if found is not self.scene:  # a control moved meanwhile, and will come back here
                return
            self._bands = {key: band}
            self.figure.follow(prediction_spec(figure_view(found, band)))
            for widget, text in contents:
                widget.value = text

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)

    def _laid_out(self) -> widgets.VBox:
        files = [
            ("CSV", "table", self._save_csv),
            ("PNG", "image", lambda _: self.page.save_image("capacity.png", "png")),
            ("SVG", "image", lambda _: self.page.save_image("capacity.svg", "svg")),
            ("HTML report", "file-text-o", self._save_report),
        ]
        buttons = []
        for name, icon, act in files:
            button = widgets.Button(description=f"Save {name}", icon=icon, layout={"width": "auto"})
            button.on_click(act)
            buttons.append(button)
        self.save = dict(zip(("csv", "png", "svg", "html"), buttons, strict=True))
        row = {"flex_flow": "row wrap", "grid_gap": "6px", "align_items": "center", "margin": "6px 0 8px"}
        left = widgets.VBox(
            [self.controls.view, self.advice, self.use, self.warning],
            layout={"flex": "1 1 28em", "min_width": "0", "max_width": "100%", "overflow": "visible"},
        )
        right = widgets.VBox(
            [self.summary, self.figure, self.page, self.table],
            layout={"flex": "100 1 600px", "min_width": "0", "max_width": "900px", "overflow": "visible"},
        )
        top = widgets.HBox([left, right], layout={"flex_flow": "row wrap", "grid_gap": "8px 28px"})
        folds = [fold.view for fold in (self.target.fold, self.claim, self.notes, self.numbers)]
        return widgets.VBox(
            [widgets.HTML(STYLE), top, widgets.HBox(buttons, layout=row), *folds], layout={"overflow": "visible"}
        )

    def _follow(self) -> None:
        choice, warnings = self.controls.choice()
        found = scene(choice)
        with self._lock:
            self.scene = found
            band = self._bands.get(_key(choice))
            self.table.value = table_html(found)  # first: the page tells the kernel at length what it has drawn
            self.figure.follow(prediction_spec(figure_view(found, band)))
            self.summary.value = _summary(found, self.controls.here)
            self.advice.value = _advice(found)
            self.use.disabled = found.enough is None or found.enough == found.flight
            self.use.description = (
                "Nothing keeps the limits" if found.enough is None else f"Use {found.enough:,} in flight as override"
            )
            self.warning.value = "".join(map(_alert, warnings))
            self.target.follow(choice)
        self._timer.cancel()
        self._timer = threading.Timer(_STILL, self.settle)
        self._timer.daemon = True
        self._timer.start()

    def _take_recommended(self, _: object) -> None:
        if self.scene.enough is not None:
            self.controls.override.value = self.scene.enough

    def _save_csv(self, _: object) -> None:
        self.page.save_text("capacity.csv", self.csv(), "text/csv")

    def _save_report(self, _: object) -> None:
        try:
            self.page.save_text("capacity.html", self.report(), "text/html")
        except CapacityError as error:
            self.warning.value = _alert(str(error))

    def _with_band(self) -> tuple[Scene, Prediction]:
        """The scene, and its prediction with intervals at every parallelism it shows."""
        found = self.scene
        if self._exported is None or self._exported[0] is not found:
            self._exported = (found, banded(found.choice, found.prediction.parallelism.tolist()))
        return self._exported


def explore(
    cpus: int | None = None,
    *,
    multiplier: int = DEFAULT_RULES.multiplier,
    batch: int = BATCH,
    cluster: str = "postgres-dev",
    calibration: str | Calibration | None = None,
    p99: float | None = 0.1,
    memory: int | None = 256,
) -> Explorer:
    """Show what a scheduler's pool gets from a cluster, and what else it could be.

    Parameters
    ----------
    cpus : int, optional
        CPUs at first; by default those this process may really use.
    multiplier : int
        Starts in flight per CPU at first.
    batch : int
        Starts in one batch at first.
    cluster : str
        Name of a shipped cluster, or path of a description.
    calibration : str or Calibration, optional
        Name of a shipped one, path, or the thing itself, such as that of 2-measure; by default what the cluster names.
    p99 : float, optional
        Highest p99 wanted [s]; None is any.
    memory : int, optional
        What all launcher processes may take together [MiB]; None is any.

    Returns
    -------
    Explorer
        A panel that shows itself; `.plan`, `.prediction` and `.outlook` are what its controls give now.
        ``pandas.DataFrame(explorer.prediction.to_frame())`` makes a data frame where pandas is installed: it is not
        needed otherwise, and `to_frame` returns a list of dicts.

    Raises
    ------
    UsageError
        A number is out of range, or a cluster or calibration cannot be loaded.

    Examples
    --------
    >>> explore(cpus=32).plan.cpus
    32
    """
    return Explorer(
        cpus,
        multiplier=multiplier,
        batch=batch,
        cluster=cluster,
        calibration=calibration,
        p99=p99,
        memory=memory,
    )


def _or_why_not(make: Callable[[], str]) -> str:
    """Return what a fold shows: a cluster whose stations are not known has no such figures, and says so."""
    try:
        return make()
    except CapacityError as error:
        return _alert(str(error))


def _key(choice: Choice) -> str:
    """What the band depends on: of the plan the batch alone, and not the limits that are only wanted."""
    return f"{choice.calibration.name}{id(choice.calibration)}{choice.cluster!r}{choice.plan.batch}"


_SMALL: Final = "font-size:12px;line-height:1.5;color:var(--jp-content-font-color2,#616161)"


def _summary(found: Scene, here: str) -> str:
    plan = found.choice.plan
    rate, p99 = found.at(found.flight)
    return (
        '<p role="status" style="font-size:15px;line-height:1.5;margin:0;color:var(--jp-content-font-color1,#212121)">'
        f"<b>{plan.parallelism.value:,} in flight</b>: {number(rate)} starts/s, p99 {span(p99)}, "
        f"{found.memory(found.flight) / MIB:,.0f} MiB; queue of {plan.queue.value:,}</p>"
        f'<p style="{_SMALL};margin:0 0 6px">Parallelism: {html.escape(plan.parallelism.reason)}. '
        f"Queue: {html.escape(plan.queue.reason)}. {html.escape(here)}</p>"
    )


def _advice(found: Scene) -> str:
    style = "margin:10px 0 4px;padding:6px 10px;line-height:1.5;max-width:34em;border-left:4px solid #009E73"
    return (
        f'<p style="{style};color:var(--jp-content-font-color1,#212121)"><b>{html.escape(finding(found))}.</b> '
        f"{html.escape(explained(found))}</p>"
    )


def _alert(text: str) -> str:
    style = "margin:0 0 10px;padding:4px 8px;line-height:1.4;max-width:34em;border-left:4px solid #E69F00"
    return f'<p role="alert" style="{style}"><b>Warning:</b> {html.escape(text)}</p>'


def _sentences(found: Outlook) -> str:
    notes = [*found.sentences(), *(("Cannot tell", words) for words in found.calibration.not_identified())]
    lines = "".join(f"<li><b>{html.escape(name)}</b>: {html.escape(words)}</li>" for name, words in notes)
    return f'<ul style="line-height:1.6;max-width:60em">{lines}</ul>'
