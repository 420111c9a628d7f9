"""A part that opens when its button is pressed. An Accordion of ipywidgets cannot be reached with the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as widgets


class Fold:
    """A button, and what it shows and hides.

    Parameters
    ----------
    title : str
    children : sequence of widgets
    """

    def __init__(self, title: str, children: Sequence[widgets.Widget]) -> None:
        self._title = title
        self.button = widgets.ToggleButton(
            value=False, layout={"width": "auto", "margin": "2px 0", "align_self": "flex-start"}
        )
        self.body = widgets.VBox(children, layout={"display": "none", "margin": "4px 0 12px 12px"})
        self.on_open: Callable[[], None] = lambda: None
        self.button.observe(self._toggled, "value")
        self.view = widgets.VBox([self.button, self.body])
        self._show()

    @property
    def open(self) -> bool:
        """Whether it shows its content."""
        return bool(self.button.value)

    def _toggled(self, _: object) -> None:
        self._show()
        if self.open:
            self.on_open()

    def _show(self) -> None:
        self.button.description = f"{'Hide' if self.open else 'Show'}: {self._title}"
        self.button.icon = "angle-down" if self.open else "angle-right"
        self.body.layout.display = "" if self.open else "none"
