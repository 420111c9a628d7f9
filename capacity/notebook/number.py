"""One number a person sets: a box to type into, a slider over the usual values, a word when it is refused.

The box carries the name, since sliders of ipywidgets have none for a screen reader (`page.Page` gives them one). It
is not a bounded one and not linked in the browser: those cut a wrong number in silence, this says what is allowed and
keeps the last good one.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import ipywidgets as widgets

from capacity.errors import UsageError

Number = TypeVar("Number", bound=float)


class NumberControl(Generic[Number]):
    """A number between bounds, typed or slid; whole where `value` is an int.

    Parameters
    ----------
    name : str
        What it is, as shown, with its unit.
    value : int or float
        What it is at first.
    stops : sequence of int or float
        What the slider offers, ascending; any other number within the bounds can be typed.
    lowest, highest : int or float
        The bounds.
    why : str
        Why nothing above `highest` makes sense; shown with a refusal.
    """

    def __init__(
        self, name: str, value: Number, stops: Sequence[Number], lowest: Number, highest: Number, why: str
    ) -> None:
        self.name, self.lowest, self.highest, self.why = name, lowest, highest, why
        self._value, self._stops, self._following = self.checked(value), tuple(stops), False
        self.on_change: Callable[[], None] = lambda: None
        box = widgets.FloatText if isinstance(value, float) else widgets.IntText
        self.box = box(value=value, description=name, style={"description_width": "10.5em"}, layout={"width": "17em"})
        self.slider = widgets.SelectionSlider(
            options=[(f"{stop:,}", stop) for stop in stops],
            value=self._nearest(value),
            readout=False,
            layout={"width": "10em", "min_width": "7em", "margin": "2px 10px"},
        )
        self.refusal = widgets.HTML(layout={"margin": "0"})
        self.box.observe(self._typed, "value")
        self.slider.observe(self._slid, "value")
        self.view = widgets.VBox([widgets.HBox([self.box, self.slider]), self.refusal])
        self.view.add_class("cap-number")

    @property
    def value(self) -> Number:
        """The last good number."""
        return self._value

    @value.setter
    def value(self, value: Number) -> None:
        self.show(value)
        self.on_change()

    def show(self, value: Number) -> None:
        """Stand at a number without telling anybody."""
        self._value = self.checked(value)
        self._following = True
        try:
            self.box.value, self.slider.value, self.refusal.value = value, self._nearest(value), ""
        finally:
            self._following = False

    def checked(self, value: Number) -> Number:
        """Return a number that it can stand at.

        Raises
        ------
        UsageError
            It is out of bounds.
        """
        if not self.lowest <= value <= self.highest:
            raise UsageError(f"{self.name} is {value:,}", allowed=f"{self.lowest:,} to {self.highest:,} ({self.why})")
        return value

    def _typed(self, change: dict[str, Number]) -> None:
        if self._following:
            return
        try:
            self.value = change["new"]
        except UsageError as error:
            style = "display:block;white-space:normal;max-width:24em;line-height:1.4;margin-left:10.8em"
            style += ";color:var(--jp-error-color1,#b00020)"
            words = f"{html.escape(str(error))}. Still at {self.value:,}."
            self.refusal.value = f'<span role="alert" style="{style}">{words}</span>'

    def _slid(self, change: dict[str, Number]) -> None:
        if not self._following:
            self.value = change["new"]

    def _nearest(self, value: Number) -> Number:
        return min(self._stops, key=lambda stop: (abs(stop - value), stop))
