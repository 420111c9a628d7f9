"""What is checked: each box says what is wrong with it, and all together make a `ToCheck` or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from capacity.notebook.field import Field, Refusals, alert, choice, whole
from capacity.notebook.markup import plain

if TYPE_CHECKING:
    from capacity.notebook.decide_form import Asked
    from capacity.verdict.thresholds import Threshold

_UNKNOWN = "nothing"


@dataclass(frozen=True)
class ToCheck:
    """What Check does.

    Parameters
    ----------
    asked : Asked, optional
        The settings to launch; None: a recorded run is checked.
    count : int
        Starts of each launch; 0: nothing is launched.
    run, baseline : str
        A recorded run and its baseline; empty where there is none.
    limits : tuple of Threshold
    calibration : str, optional
        By which a throughput is predicted; None: by none.
    """

    asked: Asked | None
    count: int
    run: str
    baseline: str
    limits: tuple[Threshold, ...]
    calibration: str | None


class Boxes:
    """The boxes of the checklist.

    Parameters
    ----------
    count : int
        Starts of each launch at first.

    Attributes
    ----------
    run, baseline, count, limits : Field
        A recorded run and its baseline in place of two launches; starts of a launch; a file of one's own limits.
    calibration : ipywidgets.Dropdown
    thresholds : tuple of Threshold, optional
        The limits; None: the file of one's own is refused.
    wanted : ToCheck, optional
        What they ask for; None: one of them is refused.
    why_not : str
        Why it is refused, else empty.
    """

    def __init__(self, count: int) -> None:
        from capacity.model import shipped

        self.on_change: Callable[[], None] = lambda: None
        self.run = Field("Run", "", str, hint="empty: launch both settings now")
        self.baseline = Field("Its baseline", "", str, hint="empty: none")
        self.count = Field("Starts of each", f"{count:,}", whole("starts of each", 1, 10_000_000))
        self.limits = Field("Own limits", "", _limits, hint="a TOML file over the shipped ones")
        self.calibration = choice("Predicted by", (_UNKNOWN, *shipped.names("calibrations")), _UNKNOWN)
        self.plan = widgets.HTML()
        self.thresholds: tuple[Threshold, ...] | None = None
        self.wanted: ToCheck | None = None
        self.why_not = ""
        self._asked: Asked | None = None
        self._fields = (self.run, self.baseline, self.count, self.limits)
        for field in self._fields:
            field.on_change = self.follow
        self.calibration.observe(lambda _: self.follow(), "value")
        self.views = (*(field.view for field in self._fields), self.calibration, self.plan)

    @property
    def predicts(self) -> str | None:
        """The calibration by which a throughput is predicted; None: by none."""
        return None if self.calibration.value == _UNKNOWN else str(self.calibration.value)

    def prepare(self, asked: Asked | None) -> None:
        """Take over what is compared."""
        self._asked = asked
        self.follow()

    def disable(self, busy: bool) -> None:
        """Let nothing be changed while something is checked."""
        for field in self._fields:
            field.box.disabled = busy
        self.calibration.disabled = busy

    def follow(self) -> None:
        """Read every box, and the file of one's own limits as it is now."""
        tried = Refusals()
        run, baseline, self.thresholds = (tried(field.read) for field in (self.run, self.baseline, self.limits))
        count = 0 if run else tried(self.count.read)
        self.count.view.layout.display = "none" if run else ""
        self.baseline.view.layout.display = "" if run else "none"
        if not run and self._asked is None:
            tried.words.append("the comparison above is refused")
        self.why_not = tried.words[0] if tried.words else ""
        self.wanted = None
        if not tried.words and self.thresholds is not None:
            asked = None if run else self._asked
            self.wanted = ToCheck(asked, count, run, baseline if run else "", self.thresholds, self.predicts)
        self.plan.value = alert(f"Cannot check: {self.why_not}") if self.why_not else plain(self._planned())
        self.on_change()

    def _planned(self) -> str:
        if self.wanted is None:
            return ""
        asked = self.wanted.asked
        if asked is None:
            return f"The record of run {self.wanted.run} is checked; nothing is launched."
        one, other = asked.baseline, asked.candidate
        return f"{self.wanted.count:,} starts with {one.label}, then {other.label}, {asked.wanted.where}."


def _limits(text: str) -> tuple[Threshold, ...]:
    from capacity.verdict.thresholds import thresholds

    return thresholds(Path(text).expanduser() if text else None)
