"""Target mode: say what is needed, and the controls move to the smallest cluster that does it."""

from __future__ import annotations

import html
from typing import Final

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.model.sized import Sizing
from capacity.model.sizing import size
from capacity.notebook.explore_controls import Controls
from capacity.notebook.explore_export import styled
from capacity.notebook.explore_view import Choice
from capacity.notebook.fold import Fold
from capacity.notebook.number import NumberControl
from capacity.rules.pool import DEFAULT_RULES

_TARGETS: Final = (0, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)
_SECONDS: Final = (0, 60, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400)


class TargetMode:
    """A target in starts/s or a deadline for the batch, the p99 of the controls, and a button.

    Attributes
    ----------
    target, deadline : NumberControl
        [1/s, s]; 0 is none, and one of them must be set.
    go : ipywidgets.Button
    sizing : Sizing or None
        What the last press found; None where it was refused.
    """

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._stood: Choice | None = None
        self._said = self._found = ""
        self.sizing: Sizing | None = None
        self.target = NumberControl("Target (starts/s)", 2000, _TARGETS, 0, 1_000_000, "0 leaves it to the deadline")
        self.deadline = NumberControl(
            "Batch within (s)", 0, _SECONDS, 0, 31_536_000, "0 leaves it to the target; a year at most"
        )
        self.go = widgets.Button(
            description="Size the cluster for it",
            icon="arrows-alt",
            layout={"width": "auto", "align_self": "flex-start"},
        )
        self.result = widgets.HTML()
        self.go.on_click(self._size)
        told = "The batch, the p99 wanted, the calibration, the rates and the delay are those of the controls."
        self.fold = Fold(
            "size for a target", [self.target.view, self.deadline.view, widgets.HTML(told), self.go, self.result]
        )

    def follow(self, choice: Choice) -> None:
        """Take what the controls say now: moved, they stand no more at the size that was found."""
        if self._stood is not None:
            self._show(self._said if choice == self._stood else "The controls stood at it, and were moved since.")

    def _show(self, said: str) -> None:
        self.result.value = f'<p role="status"><b>{said}</b></p>{self._found}'

    def _size(self, _: object) -> None:
        self.sizing = self._stood = None
        choice, _warnings = self._controls.choice()
        target, deadline = self.target.value, self.deadline.value
        try:
            if (target == 0) == (deadline == 0):
                given = "neither a target nor a deadline is set" if target == 0 else "target and deadline are both set"
                raise UsageError(given, allowed="one of them", next_step="set the other to 0")
            sizing = size(
                choice.calibration,
                target or None,
                p99=choice.p99,
                batch=choice.plan.batch if deadline else None,
                within=float(deadline) if deadline else None,
                cluster=choice.cluster,
            )
        except UsageError as error:
            self.result.value = f'<p role="alert">{html.escape(str(error))}.</p>'
            return
        self.sizing = sizing
        said = "The controls stand at it." if sizing.feasible and sizing.cluster else "The controls were left alone."
        flight = sizing.needs().get("in flight", 0)
        if sizing.feasible and sizing.cluster and flight:
            self._controls.take(sizing.cluster, flight)
            if flight > DEFAULT_RULES.maximum:
                said += f" The scheduler's cap of {DEFAULT_RULES.maximum} holds here; {flight:,} need more schedulers."
            self._stood, _warnings = self._controls.choice()
        reason = f"<p>{html.escape(sizing.reason)}.</p>" if sizing.reason else ""
        self._said, self._found = said, f"{reason}{styled(sizing)}"
        self._show(said)
