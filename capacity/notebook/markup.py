"""What every panel shows as HTML: the style of tables, a progress bar, states, tables, and what went wrong."""

from __future__ import annotations

import html
import traceback
from collections.abc import Iterable, Sequence

import ipywidgets as widgets

from capacity.errors import CapacityError
from capacity.notebook.field import ERROR, alert

_COLOURS = {"": "#0072B2", "success": "#009E73", "danger": "#D55E00", "warning": "#E69F00"}  # Okabe-Ito
_ENDS = {"done": "success", "failed": "danger", "cancelled": "warning", "incomplete": "warning"}
_STYLE = """<style>
.cap-run{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;
color:var(--jp-content-font-color1,#212121)}
.cap-run caption{caption-side:top;text-align:left;font-weight:600;padding:0 0 4px;color:inherit}
.cap-run th,.cap-run td{padding:3px 12px 3px 0;text-align:left;line-height:1.35;background:transparent;
vertical-align:top;font-weight:400;border-bottom:1px solid var(--jp-border-color2,#e0e0e0)}
.cap-run td.n{text-align:right;font-weight:600}
.cap-run tr.bad th::before{content:"! ";font-weight:700}
</style>"""


def sheet() -> widgets.HTML:
    """Return the style of all tables of a panel, to be shown once.

    One that came anew with each table would have the browser work out the style of the whole page.
    """
    return widgets.HTML(_STYLE, layout={"display": "none"})


class Bar:
    """A progress bar that a screen reader finds: its name, how far, and of how many."""

    def __init__(self, name: str, maximum: int) -> None:
        self._name, self._maximum, self._value, self._style = name, max(maximum, 1), 0, ""
        self.view = widgets.HTML(layout={"width": "min(24em, 100%)", "margin": "0"})
        self._draw()

    @property
    def value(self) -> int:
        """How many are done."""
        return self._value

    @property
    def maximum(self) -> int:
        """Of how many."""
        return self._maximum

    @property
    def style(self) -> str:
        """Empty while it goes on; "success", "warning" or "danger" at its end."""
        return self._style

    def show(self, value: int, maximum: int | None = None, style: str | None = None) -> None:
        """Draw it anew; what is not given stays."""
        self._value = value
        self._maximum = self._maximum if maximum is None else max(maximum, 1)
        self._style = self._style if style is None else style
        self._draw()

    def end(self, state: str, value: int | None = None) -> None:
        """Draw it in the look of the state in which what it shows has ended."""
        self.show(self._value if value is None else value, style=_ENDS[state])

    def _draw(self) -> None:
        self.view.value = (
            f'<progress aria-label="{html.escape(self._name)}" value="{self._value}" max="{self._maximum}" '
            f'style="width:100%;height:18px;accent-color:{_COLOURS[self._style]}">'
            f"{self._value} of {self._maximum}</progress>"
        )


def status(text: str) -> str:
    """Return the state in words; a region of its own, since numbers that change often would flood a screen reader."""
    return f'<span role="status" style="font-size:15px"><b>{html.escape(text)}</b></span>'


def plain(text: str) -> str:
    """Return text whose digits do not jump."""
    return f'<span style="display:block;line-height:1.4;font-variant-numeric:tabular-nums">{html.escape(text)}</span>'


def table(caption: str, rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table with scoped heads; with `numbers` the second column is set to the right."""
    body = []
    for first, *others in rows:
        kind = ' class="n"' if numbers else ""
        cells = "".join(
            f"<td{kind if place == 0 else ''}>{html.escape(other)}</td>" for place, other in enumerate(others)
        )
        body.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return f'<table class="cap-run"><caption>{html.escape(caption)}</caption>{"".join(body)}</table>'


def headed(caption: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first row and first column are heads."""
    head, *others = rows
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in others
    )
    return (
        f'<div style="overflow-x:auto"><table class="cap-run"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def failure(error: BaseException) -> str:
    """Return what ended a panel's work: one clear line, or for a defect also where it was."""
    if isinstance(error, CapacityError):
        return alert(str(error), "font-weight:600")
    trace = html.escape("".join(traceback.format_exception(error)))
    return (
        f'<p role="alert" style="{ERROR};font-weight:600">A defect of capacity: {html.escape(repr(error))}</p>'
        f'<details><summary>Where</summary><pre style="max-height:12em;overflow:auto">{trace}</pre></details>'
    )
