"""The way back from the candidate to the baseline, for a machine of so many CPUs. It prints, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.notebook.decide_tables import rollback_html
from capacity.notebook.field import Field, Refusals, alert, optional, whole
from capacity.rules.flight import flight_of

if TYPE_CHECKING:
    from capacity.verdict.rollback import Rollback


class Back:
    """Two settings and a number of CPUs; below them the lines to copy.

    Attributes
    ----------
    source, target, cpus : Field
        What holds now, what shall hold, and on how many CPUs; empty CPUs are this machine's.
    rollback : Rollback, optional
        None: one of them is refused.
    """

    def __init__(self, source: str, target: str, cpus: int | None) -> None:
        self.source = Field("Back from", source, lambda text: flight_of(text, "back from"))
        self.target = Field("Back to", target, lambda text: flight_of(text, "back to"))
        there = "" if cpus is None else str(cpus)
        self.cpus = Field(
            "CPUs there", there, optional(whole("CPUs there", 1, 4096)), hint="of the scheduler's machine"
        )
        self.lines = widgets.HTML()
        self.rollback: Rollback | None = None
        self._taken, self._taken_cpus = (source, target), self.cpus.box.value
        self._fields: tuple[Field[Any], ...] = (self.source, self.target, self.cpus)
        for field in self._fields:
            field.on_change = self._follow
        row = {"flex_flow": "row wrap", "grid_gap": "0 24px"}
        boxes = widgets.HBox([field.view for field in self._fields], layout=row)
        self.view = widgets.VBox([boxes, self.lines], layout={"overflow": "visible"})
        self._follow()

    def take(self, source: str, target: str, cpus: str) -> None:
        """Stand at the settings that are compared, and at their CPUs, as soon as they are other ones."""
        if (source, target) != self._taken:
            self._taken = source, target
            self.source.box.value, self.target.box.value = source, target
        if cpus != self._taken_cpus:  # apart: other settings leave the CPUs that were typed here
            self._taken_cpus = cpus
            self.cpus.box.value = cpus

    def _follow(self) -> None:
        from capacity.verdict.rollback import rollback

        tried = Refusals()
        source, target, cpus = (tried(field.read) for field in self._fields)
        self.rollback = None
        if tried.words:
            self.lines.value = alert(f"No way back: {tried.words[0]}")
            return
        self.rollback = rollback(target, source=source, cpus=cpus)
        self.lines.value = rollback_html(self.rollback)
