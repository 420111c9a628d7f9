"""How panels are laid out: rows that wrap, and what is filled in beside what is shown."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

ROW = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "8px"}
"""Buttons and boxes next to each other, as far as the window is wide enough."""


def beside(
    left: Sequence[widgets.Widget],
    right: Sequence[widgets.Widget],
    *,
    least: str = "30em",
    most: str = "38em",
    shown: dict[str, str] | None = None,
    gap: str = "24px",
) -> widgets.Box:
    """Return a column of controls beside one of results; in a narrow window above it.

    Parameters
    ----------
    left, right : sequence of Widget
        From top to bottom.
    least, most : str
        Widths of the left one, where there is room.
    shown : dict, optional
        Layout of the right one beyond its flexible width; by default that of a figure, which is cut to it.
    gap : str
        Between them.
    """
    column = {"flex": f"1 1 {least}", "min_width": f"min({least}, 100%)", "max_width": most, "overflow": "visible"}
    results = {"flex": "2 1 480px", "min_width": "0", **(shown or {"max_width": "900px", "overflow": "hidden"})}
    both = [widgets.VBox(list(left), layout=column), widgets.VBox(list(right), layout=results)]
    return widgets.HBox(both, layout={"flex_flow": "row wrap", "grid_gap": gap})
