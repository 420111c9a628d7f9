"""One thing a person types or picks: a named box, and beside it the words why what stands there will not do."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import ipywidgets as widgets

from capacity.errors import CapacityError, UsageError

Value = TypeVar("Value")

ERROR = "color:var(--jp-error-color1,#b00020);line-height:1.4;margin:0"
_WIDTH, _NAME = "min(30em, 100%)", "10.5em"


class Field(Generic[Value]):
    """A text box that is read by a function of its own.

    Parameters
    ----------
    name : str
        What it is, as shown and as a screen reader says it.
    text : str
        What stands in it at first.
    read : callable
        Returns what the text means; raises `UsageError` when it means nothing.
    hint : str
        Shown where the box is empty.
    options : sequence of str
        What it suggests; anything else may be typed.

    Attributes
    ----------
    box : ipywidgets.Text
        Set its `.value` to type from a cell.
    refusal : ipywidgets.HTML
        Empty, or why the text is refused.
    """

    def __init__(
        self, name: str, text: str, read: Callable[[str], Value], *, hint: str = "", options: Sequence[str] = ()
    ) -> None:
        self.name, self._read = name, read
        self.on_change: Callable[[], None] = lambda: None
        more: dict[str, Any] = {"options": tuple(options), "ensure_option": False} if options else {}
        kind = widgets.Combobox if options else widgets.Text
        self.box = kind(
            value=text,
            description=name,
            placeholder=hint,
            continuous_update=False,
            style={"description_width": _NAME},
            layout={"width": _WIDTH},
            **more,
        )
        self.refusal = widgets.HTML(layout={"margin": "0", "max_width": _WIDTH})
        self.box.observe(lambda _: self.on_change(), "value")
        self.view = widgets.VBox([self.box, self.refusal], layout={"overflow": "visible"})

    def read(self) -> Value:
        """Return what the box means.

        Raises
        ------
        CapacityError
            If it means nothing; the words stand beside the box then, until it is read again.
        """
        try:
            value = self._read(self.box.value.strip())
        except CapacityError as error:
            self.refuse(str(error))
            raise
        self.refusal.value = ""
        return value

    def refuse(self, words: str) -> None:
        """Say beside the box why what stands there will not do."""
        self.refusal.value = alert(words, "padding-left:11.3em")


class Refusals:
    """What was refused while a form was read: called with what reads a value, and the field at which to say so."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, read: Callable[[], Any], field: Field[Any] | None = None) -> Any:
        """Return what is read, or None where it is refused."""
        try:
            return read()
        except CapacityError as error:
            self.words.append(str(error))
            if field is not None:
                field.refuse(str(error))
            return None


def choice(name: str, options: Sequence[str | tuple[str, str]], value: str) -> widgets.Dropdown:
    """Return a named list to pick from."""
    return widgets.Dropdown(
        options=list(options),
        value=value,
        description=name,
        style={"description_width": _NAME},
        layout={"width": _WIDTH},
    )


def ticked(name: str, value: bool = False) -> widgets.Checkbox:
    """Return a named check box in line with the boxes above."""
    return widgets.Checkbox(value=value, description=name, indent=False, layout={"width": _WIDTH})


def alert(words: str, style: str = "") -> str:
    """Return words that a screen reader says at once."""
    return f'<p role="alert" style="{ERROR};{style}">{html.escape(words)}</p>'


def whole(name: str, lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers between bounds.

    Examples
    --------
    >>> whole("count", 1)("750,000")
    750000
    """
    allowed = f"a whole number of {lowest:,} or more"
    if highest is not None:
        allowed = f"a whole number from {lowest:,} to {highest:,}"

    def read(text: str) -> int:
        digits = re.sub(r"(?<=[0-9])[, _](?=[0-9]{3}\b)", "", text)
        if not re.fullmatch(r"-?[0-9]{1,12}", digits, re.ASCII):
            raise UsageError(f"{name} is {text[:40]!r}", allowed=allowed)
        if int(digits) < lowest or (highest is not None and int(digits) > highest):
            raise UsageError(f"{name} is {int(digits):,}", allowed=allowed)
        return int(digits)

    return read


def optional(read: Callable[[str], Value]) -> Callable[[str], Value | None]:
    """Return a reader of what may be left out: nothing typed is None.

    Examples
    --------
    >>> optional(whole("CPUs", 1))("")
    """
    return lambda text: read(text) if text else None


def seconds(name: str, lowest: float, highest: float) -> Callable[[str], float]:
    """Return a reader of seconds between bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value <= highest:
            raise UsageError(f"{name} is {text[:40]!r}", allowed=f"{lowest:g} to {highest:g} seconds")
        return value

    return read
