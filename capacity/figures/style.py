"""The look that all figures share: colours that the colour-blind tell apart, axes with round ticks, one card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import log10
from textwrap import wrap
from typing import Any

# Okabe-Ito; each is used with a dash or mark of its own, so that nothing rests on colour alone.
BLUE, GREEN, VERMILION = "#0072B2", "#009E73", "#D55E00"
PURPLE, GREY = "#CC79A7", "#4d4d4d"
DARK_VERMILION, DARK_PURPLE = "#a34700", "#7a3f62"  # for text, where the plain ones are too pale on white
FONT = "DejaVu Sans, Liberation Sans, Arial, sans-serif"
PAPER = "rgba(255,255,255,.88)"
WIDTH = 52
"""Characters of a line of a title, on a narrow page."""
IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Ticks of an axis of starts in flight."""


def card(title: str, height: int) -> dict[str, Any]:
    """Return the layout that every figure starts from: a white card that reads in either theme."""
    return {
        "template": {},
        "height": height,
        "autosize": True,
        "margin": {"l": 84, "r": 22, "t": 118, "b": 54},
        "font": {"family": FONT, "size": 13, "color": "#222"},
        "hovermode": "closest",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "title": {
            "text": title,
            "font": {"size": 15},
            "x": 0.015,
            "xref": "container",
            "xanchor": "left",
            "y": 0.965,
            "yref": "container",
            "yanchor": "top",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.01,
            "yanchor": "bottom",
            "font": {"size": 12},
            "itemclick": False,
            "itemdoubleclick": False,
        },
    }


def headed(finding: str, inputs: str) -> str:
    """Return a title: what is found, in bold, over what went in; plotly itself breaks no line."""
    broken = "<br>".join(wrap(finding, WIDTH, break_long_words=False))
    return f'<b>{broken}</b><br><span style="font-size:12px;color:#555">{inputs}</span>'


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis as all figures have it."""
    return {
        "title": {"text": title, "font": {"size": 13}, "standoff": 10},
        "gridcolor": "#e6e6e6",
        "zeroline": False,
        "showline": True,
        "linecolor": "#999",
        "ticks": "outside",
        "tickcolor": "#999",
        **more,
    }


def line(x: Sequence[Any], y: Sequence[Any], panel: str, name: str, **look: Any) -> dict[str, Any]:
    """Return a line in one of a figure's panels (``""``, ``"2"``); `look` is its colour, dash and width."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "name": name,
        "line": look,
    }


def log_axis(ticks: Sequence[float], low: float, high: float, title: str = "", **more: Any) -> dict[str, Any]:
    """Return a logarithmic axis with the ticks that people set."""
    scale = {
        "type": "log",
        "tickvals": list(ticks),
        "ticktext": [f"{tick:,.10g}" for tick in ticks],
        "range": [log10(low), log10(high)],
    }
    return axis(title, **scale, **more)


def decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two numbers; fewer where they would crowd.

    >>> decades(80, 600)
    [100, 200, 500]
    >>> decades(200, 500)
    [200, 250, 300, 400, 500]
    >>> decades(0.002, 30)[:3]
    [0.01, 0.1, 1]
    """
    spans = ((6, (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)), (300, (1, 2, 5)), (3000, (1, 3)), (math.inf, (1,)))
    steps = next(steps for most, steps in spans if high / low < most)
    found = [step * 10.0**power for power in range(-7, 8) for step in steps]
    return [round(tick) if tick >= 1 else round(tick, 7) for tick in found if low <= tick <= high]


def rounded(low: float, high: float) -> tuple[float, float]:
    """Return bounds at 1, 2 or 5 times a power of ten around two numbers, so that an axis seldom moves.

    >>> rounded(170, 650)
    (100.0, 1000.0)
    """
    stops = [step * 10.0**power for power in range(-7, 8) for step in (1, 2, 5)]
    below = max((stop for stop in stops if stop <= low), default=stops[0])
    above = min((stop for stop in stops if stop >= high), default=stops[-1])
    return below, above
