"""What a sweep is asked for: each box says in words what is wrong with it, and all together make a `Wanted` or none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.model.words import duration, many
from capacity.notebook.field import Field, Refusals, alert, seconds, ticked, whole
from capacity.notebook.markup import plain
from capacity.notebook.place import Place

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.wanted import Wanted


class Controls:
    """The boxes of a sweep.

    Parameters
    ----------
    parallelisms : str
        Starts in flight to measure at first.
    target : Target, optional
        A running dev cluster to begin with; its keys and certificates belong to its own address alone.

    Attributes
    ----------
    where : ipywidgets.Dropdown
        "sqlite", "postgres" or "cluster".
    address, cores, parallelisms, holdout, seconds, repeats, name : Field
        Set `.box.value` to type into one from a cell.
    extras : ipywidgets.Checkbox
    wanted : Wanted, optional
        What they ask for; None: one of them is refused.
    why_not : str
        Why it is refused, else empty.
    """

    def __init__(self, parallelisms: str, target: Target | None) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.place = Place(target)
        self.where, self.address, self.cores = self.place.where, self.place.address, self.place.cores
        self.without = self.place.without
        self.parallelisms = Field("Starts in flight", parallelisms, _numbers("starts in flight"))
        self.holdout = Field("Kept from the fit", "", _numbers("kept from the fit", empty=True), hint="e.g. 3, 24")
        self.seconds = Field("Seconds a point", "6", seconds("seconds a point", 1, 600))
        self.repeats = Field("Rounds", "1", whole("rounds", 1, 100))
        self.name = Field("Name", f"{time.strftime('%Y%m%d-%H%M%S')}-measured", _name)
        self.extras = ticked("Also measure memory, store times and storage")
        self.plan = widgets.HTML()
        self.wanted: Wanted | None = None
        self.why_not = ""
        points: tuple[Field[Any], ...] = (self.parallelisms, self.holdout, self.seconds, self.repeats)
        self._fields = (*points, self.name)
        for field in self._fields:
            field.on_change = self._follow
        self.place.on_change = self._follow
        self.extras.observe(lambda _: self._follow(), "value")
        self.view = widgets.VBox([*self.place.views, *(field.view for field in points), self.extras, self.plan])
        self._follow()

    def disable(self, busy: bool) -> None:
        """Let nothing be changed while a sweep runs."""
        self.place.disable(busy)
        for field in self._fields:
            field.box.disabled = busy
        self.extras.disabled = busy

    def _follow(self) -> None:
        from capacity.experiment.wanted import Wanted

        tried = Refusals()
        points = ("parallelisms", "holdout", "seconds", "repeats")
        asked = {name: tried(field.read, field) for name, field in zip(points, self._fields, strict=False)}
        tried(self.name.read, self.name)
        asked |= self.place.read(tried)
        self.wanted = None
        if not tried.words:
            # What is wrong with no box alone: a parallelism that both lists have.
            self.wanted = tried(lambda: Wanted(extras=self.extras.value, **asked), self.holdout)
        self.why_not = tried.words[0] if tried.words else ""
        self.plan.value = alert(f"Cannot measure: {self.why_not}") if self.why_not else self._planned()
        self.on_change()

    def _planned(self) -> str:
        if self.wanted is None:
            return ""
        usual, most = self.wanted.estimate()
        points = len(self.wanted.points)
        words = f"{many(points, 'point')}: about {duration(usual)}, at most {duration(most)}"
        return plain(f"{words}. They come in random order; do nothing else on this machine meanwhile.")


def _numbers(name: str, *, empty: bool = False) -> Any:
    """Return a reader of whole numbers separated by commas or spaces."""

    def read(text: str) -> list[int]:
        words = re.split(r"[,\s]+", text.strip(", "))
        if words == [""]:
            if empty:
                return []
            raise UsageError(f"{name} is empty", allowed="whole numbers from 1 to 512, separated by commas")
        each = whole(name, 1, 512)
        numbers = [each(word) for word in words]
        twice = next((number for number in numbers if numbers.count(number) > 1), None)
        if twice is not None:
            raise UsageError(f"{name} has {twice} twice", next_step="measure it more often with Rounds")
        return numbers

    return read


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", text):
        raise UsageError(f"name is {text[:40]!r}", allowed="letters, digits, '-', '_' and '.', 80 at most")
    return text
