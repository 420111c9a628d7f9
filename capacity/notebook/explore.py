"""The explorer: set CPUs, multiplier, batch and override; table, sizes, reasons and figure follow. No server needed."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.figures import pool_spec
from capacity.notebook.figure import CapacityFigure, Fit
from capacity.notebook.number import NumberControl
from capacity.notebook.table import table_html
from capacity.rules.cpus import available_cpus
from capacity.rules.curves import pool_curves
from capacity.rules.plan import BATCH, PoolPlan, pool_plan
from capacity.rules.pool import DEFAULT_RULES
from capacity.rules.table import CPU_COUNTS, MULTIPLIERS, tuning_table

_MOST_CPUS = DEFAULT_RULES.maximum
_AXIS = (*range(1, 128), *range(128, _MOST_CPUS + 1, 4))
_CPU_STOPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_MULTIPLIER_STOPS = tuple(range(1, 17))
_BATCH_STOPS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 750_000)
_OVERRIDE_STOPS = (0, 1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class Explorer:
    """Controls, tuning table, sizes with their reasons, and one figure that follow one another.

    Parameters
    ----------
    cpus : int, optional
        CPUs at first; by default those this process may really use.
    multiplier : int
        Starts in flight per CPU at first.
    batch : int
        Starts in one batch at first.

    Attributes
    ----------
    cpus, multiplier, batch, override : NumberControl
        The controls; set `.value` to move one from a cell.
    plan : PoolPlan
        What they give now.
    """

    def __init__(
        self, cpus: int | None = None, *, multiplier: int = DEFAULT_RULES.multiplier, batch: int = BATCH
    ) -> None:
        here = available_cpus()
        self._here = f"This machine: {here.source}."
        first = min(here.count, _MOST_CPUS) if cpus is None else cpus
        self.cpus = NumberControl("CPUs", first, _CPU_STOPS, 1, _MOST_CPUS, "with more, every multiplier is capped")
        self.multiplier = NumberControl(
            "Starts per CPU", multiplier, _MULTIPLIER_STOPS, 1, _MOST_CPUS, "with more, one CPU alone is capped"
        )
        self.batch = NumberControl(
            "Batch (starts)", batch, _BATCH_STOPS, 1, 10_000_000, "ten million starts are one batch at most here"
        )
        self.override = NumberControl(
            "Override (0: none)", 0, _OVERRIDE_STOPS, 0, 1_000_000, "anything above the cap is cut to it"
        )
        self.summary = widgets.HTML()
        self.warning = widgets.HTML()
        self.table = widgets.HTML()
        self._compared = pool_curves(_AXIS, MULTIPLIERS, BATCH)
        self.plan = self._planned()
        self.figure = CapacityFigure(self._spec())
        controls = (self.cpus, self.multiplier, self.batch, self.override)
        for control in controls:
            control.on_change = self._follow
        left = widgets.VBox(
            [*(control.view for control in controls), self.summary, self.warning, self.table],
            layout={"flex": "0 1 auto", "min_width": "min(31em, 100%)", "overflow": "visible"},
        )
        right = widgets.VBox(
            [self.figure, Fit()],
            layout={"flex": "1 1 480px", "min_width": "0", "max_width": "900px", "overflow": "hidden"},
        )
        self.view = widgets.HBox([left, right], layout={"flex_flow": "row wrap", "grid_gap": "24px"})
        self._follow()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)

    def _planned(self) -> PoolPlan:
        planned = partial(
            pool_plan,
            self.cpus.value,
            override=self.override.value or None,
            batch=self.batch.value,
            multiplier=self.multiplier.value,
        )
        try:
            plan = planned()
        except UsageError as error:  # SCHEDULER_MAX_PARALLELISM of this process is unusable: said, and left out
            plan = planned(environment={})
            self.warning.value = _alert(str(error))
        else:
            self.warning.value = "".join(map(_alert, plan.warnings))
        return plan

    def _spec(self) -> dict[str, Any]:
        plan = self.plan
        chosen = pool_curves(_AXIS, (plan.multiplier,), plan.batch, override=plan.override)
        return pool_spec(plan, self._compared, chosen)

    def _follow(self) -> None:
        self.plan = plan = self._planned()
        self.figure.follow(self._spec())
        table = tuning_table(sorted({*CPU_COUNTS, plan.cpus}), sorted({*MULTIPLIERS, plan.multiplier}))
        self.table.value = table_html(
            table, (plan.cpus, plan.multiplier), "now" if plan.override is None else "overridden"
        )
        self.summary.value = _summary(plan, self._here)


def explore(cpus: int | None = None, *, multiplier: int = DEFAULT_RULES.multiplier, batch: int = BATCH) -> Explorer:
    """Show how CPUs, multiplier, batch size and override set the pool of a scheduler.

    Parameters
    ----------
    cpus : int, optional
        CPUs at first; by default those this process may really use.
    multiplier : int
        Starts in flight per CPU at first.
    batch : int
        Starts in one batch at first.

    Returns
    -------
    Explorer
        A panel that shows itself; `.plan` is what its controls give now.
    """
    return Explorer(cpus, multiplier=multiplier, batch=batch)


def _summary(plan: PoolPlan, here: str) -> str:
    small = "font-size:12px;line-height:1.5;color:var(--jp-content-font-color2,#616161)"
    return (
        '<p role="status" style="font-size:15px;margin:10px 0 2px;color:var(--jp-content-font-color1,#212121)">'
        f"<b>{plan.parallelism.value:,} in flight</b>, queue of <b>{plan.queue.value:,}</b></p>"
        f'<p style="{small};margin:0 0 10px;max-width:34em">Parallelism: {html.escape(plan.parallelism.reason)}.<br>'
        f"Queue: {html.escape(plan.queue.reason)}.<br>{html.escape(here)}</p>"
    )


def _alert(text: str) -> str:
    style = "margin:0 0 10px;padding:4px 8px;line-height:1.4;max-width:34em;border-left:4px solid #E69F00"
    return f'<p role="alert" style="{style}"><b>Warning:</b> {html.escape(text)}</p>'
