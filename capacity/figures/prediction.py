"""Throughput over p99 by starts in flight: prediction with its band, what caps it, what was measured, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any

from capacity.figures.style import (
    BLUE,
    DARK_PURPLE,
    DARK_VERMILION,
    GREEN,
    GREY,
    IN_FLIGHT,
    PAPER,
    PURPLE,
    VERMILION,
    card,
    decades,
    headed,
    log_axis,
    rounded,
)
from capacity.model.words import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

CEILINGS = 3
"""Ceilings that are drawn at most; the others stand in the table of numbers."""

_APART = 0.085
"""Share of the panel's height that two labels above one another need."""
_HOLLOW = {"color": "rgba(255,255,255,0)", "size": 9, "line": {"color": VERMILION, "width": 2}}


@dataclass(frozen=True)
class Curves:
    """Starts per second and p99 [s] by starts in flight, with their 90 % bands, which are empty while not known."""

    at: tuple[int, ...]
    throughput: tuple[float, ...]
    p99: tuple[float, ...]
    band_at: tuple[int, ...] = ()
    throughput_low: tuple[float, ...] = ()
    throughput_high: tuple[float, ...] = ()
    p99_low: tuple[float, ...] = ()
    p99_high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Across:
    """A ceiling: its rate [1/s] and what sets it, in a few words; `binds` for the lowest."""

    rate: float
    name: str
    binds: bool = False


@dataclass(frozen=True)
class PredictionView:
    """What the figure shows; times in seconds.

    Parameters
    ----------
    finding, inputs : str
        Title and subtitle.
    curves : Curves
    ceilings : tuple of Across
        Lowest first; the first `CEILINGS` are drawn.
    knee : tuple of (int, float)
        Starts in flight, and starts per second there.
    knee_beyond : bool
        Whether throughput still rises there, and the knee lies beyond.
    plan : tuple of (int, float, float)
        Starts in flight, starts per second, p99.
    measured : tuple of (int, float, float)
        The same of each measured point.
    measured_name : str
        What the legend calls them.
    target : float, optional
        Highest p99 wanted.
    """

    finding: str
    inputs: str
    curves: Curves
    ceilings: tuple[Across, ...]
    knee: tuple[int, float]
    knee_beyond: bool
    plan: tuple[int, float, float]
    measured: tuple[tuple[int, float, float], ...]
    measured_name: str
    target: float | None = None


def prediction_figure(view: PredictionView) -> go.Figure:
    """Return the figure."""
    import plotly.graph_objects as go

    return go.Figure(prediction_spec(view))


def prediction_spec(view: PredictionView) -> dict[str, Any]:
    """`prediction_figure` as a plain dict; traces, shapes and notes keep their number and order whatever the view."""
    curves, measured = view.curves, view.measured
    at, in_ms = curves.at, [1e3 * seconds for seconds in curves.p99]
    flight, rate, slow = view.plan
    points = [point[0] for point in measured]
    band = "90 % band"
    data = [
        _band(curves.band_at, curves.throughput_low, curves.throughput_high, BLUE, "", band),
        _line(at, curves.throughput, BLUE, "", "predicted", "%{x} in flight<br>%{y:,.0f} starts/s"),
        _rings(points, [point[1] for point in measured], "", view.measured_name, "%{y:,.0f} starts/s"),
        _mark([flight], [rate], "", "this plan", "%{y:,.0f} starts/s"),
        _band(curves.band_at, [1e3 * s for s in curves.p99_low], [1e3 * s for s in curves.p99_high], GREEN, "2", band),
        _line(at, in_ms, GREEN, "2", "predicted p99", "%{x} in flight<br>p99 %{y:,.3r} ms"),
        _rings(points, [1e3 * point[2] for point in measured], "2", view.measured_name, "p99 %{y:,.3r} ms"),
        _mark([flight], [1e3 * slow], "2", "this plan", "p99 %{y:,.3r} ms"),
    ]
    drawn = view.ceilings[:CEILINGS]
    blank = CEILINGS - len(drawn)
    low, high = rounded(min(curves.throughput) * 0.8, max(*curves.throughput, *(c.rate for c in drawn)) * 1.25)
    fast, slowest = rounded(min(in_ms) * 0.7, max(*in_ms, 1e3 * (view.target or 0)) * 1.2)
    knee, most = view.knee
    called = "the knee lies beyond" if view.knee_beyond else f"knee: {knee:,} in flight"
    target = view.target
    layout = card(headed(view.finding, view.inputs), 540)
    layout |= {
        "xaxis": log_axis(IN_FLIGHT, 0.9, 580, anchor="y", showticklabels=False),
        "xaxis2": log_axis(IN_FLIGHT, 0.9, 580, "Starts in flight", anchor="y2", matches="x"),
        "yaxis": log_axis(decades(low, high), low, high, "Starts per second", domain=[0.42, 1]),
        "yaxis2": log_axis(decades(fast, slowest), fast, slowest, "p99 (ms)", anchor="x2", domain=[0, 0.35]),
        "shapes": [
            *(_across(ceiling.rate, "y", VERMILION if ceiling.binds else GREY) for ceiling in drawn),
            *(_across(1, "y", GREY, shown=False) for _ in range(blank)),
            _across(1e3 * (target or 1), "y2", VERMILION, shown=target is not None),
            _upright(knee),
        ],
        "annotations": [
            *_ceiling_labels(drawn, low, high),
            *(_label(1, "y", "", GREY, shown=False) for _ in range(blank)),
            _label(
                1e3 * (target or 1),
                "y2",
                f"p99 wanted: {number(1e3 * (target or 0))} ms",
                DARK_VERMILION,
                shown=target is not None,
            ),
            _callout(knee, most, f"<b>{called}</b><br>{most:,.0f} starts/s", low, high),
        ],
    }
    return {"data": data, "layout": layout}


def _on(panel: str) -> dict[str, Any]:
    return {"type": "scatter", "xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": not panel}


def _band(
    at: Sequence[int], low: Sequence[float], high: Sequence[float], colour: str, panel: str, name: str
) -> dict[str, Any]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return {
        **_on(panel),
        "mode": "lines",
        "x": [*at, *reversed(at)],
        "y": [*high, *reversed(low)],
        "name": name,
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},.18)",
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
        "hovertemplate": "",
    }


def _line(at: Sequence[int], y: Sequence[float], colour: str, panel: str, name: str, hover: str) -> dict[str, Any]:
    line = {"color": colour, "width": 2.5}
    return {
        **_on(panel),
        "mode": "lines",
        "x": list(at),
        "y": list(y),
        "name": name,
        "line": line,
        "hovertemplate": f"{hover}<extra></extra>",
    }


def _rings(x: Sequence[int], y: Sequence[float], panel: str, name: str, hover: str) -> dict[str, Any]:
    return {
        **_on(panel),
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "marker": _HOLLOW,
        "hovertemplate": f"measured, %{{x}} in flight<br>{hover}<extra></extra>",
    }


def _mark(x: Sequence[int], y: Sequence[float], panel: str, name: str, hover: str) -> dict[str, Any]:
    marker = {"color": "#222", "size": 11, "symbol": "diamond", "line": {"color": "white", "width": 1.5}}
    return {
        **_on(panel),
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "marker": marker,
        "hovertemplate": f"this plan, %{{x}} in flight<br>{hover}<extra></extra>",
    }


def _across(y: float, yref: str, colour: str, shown: bool = True) -> dict[str, Any]:
    line = {"color": colour, "dash": "dash", "width": 1.5}
    ends = {"x0": 0, "x1": 1, "y0": y, "y1": y}
    return {"type": "line", "xref": "paper", "yref": yref, **ends, "line": line, "visible": shown}


def _upright(x: float) -> dict[str, Any]:
    line = {"color": PURPLE, "dash": "dot", "width": 1.5}
    ends = {"x0": x, "x1": x, "y0": 0, "y1": 1}
    return {"type": "line", "xref": "x", "yref": "paper", **ends, "line": line, "visible": True}


def _ceiling_labels(drawn: Sequence[Across], low: float, high: float) -> list[dict[str, Any]]:
    """Return a label on each ceiling: at the left end, at the right where that is taken, else with the one before."""
    labels: list[dict[str, Any]] = []
    last = {"left": -1.0, "right": -1.0}
    for ceiling in drawn:
        height = log10(ceiling.rate / low) / log10(high / low)
        text = f"{ceiling.name}: {ceiling.rate:,.0f}/s"
        side = next((end for end, below in last.items() if height - below >= _APART), None)
        if side is None:
            labels[-1]["text"] += f"<br>{text}"
            labels.append(_label(ceiling.rate, "y", "", GREY, shown=False))
            continue
        last[side] = height
        colour = DARK_VERMILION if ceiling.binds else GREY
        labels.append(_label(ceiling.rate, "y", text, colour, right=side == "right"))
    return labels


def _label(y: float, yref: str, text: str, colour: str, *, right: bool = False, shown: bool = True) -> dict[str, Any]:
    return {
        "x": 1 if right else 0,
        "xref": "paper",
        "xanchor": "right" if right else "left",
        "xshift": -4 if right else 4,
        "y": log10(y),  # log axes: notes want the exponent, shapes the value
        "yref": yref,
        "yanchor": "bottom",
        "showarrow": False,
        "text": text,
        "bgcolor": PAPER,
        "font": {"size": 12, "color": colour},
        "visible": shown,
    }


def _callout(x: int, y: float, text: str, low: float, high: float) -> dict[str, Any]:
    """A note on the knee, in the free corner under the curve."""
    left = x > 48
    return {
        "x": log10(x),
        "xref": "x",
        "y": log10(y),
        "yref": "y",
        "axref": "x",
        "ax": log10(0.45 * x if left else 2.2 * x),
        "ayref": "y",
        "ay": log10(low) + 0.1 * log10(high / low),
        "xanchor": "right" if left else "left",
        "align": "left",
        "showarrow": True,
        "arrowhead": 2,
        "arrowcolor": PURPLE,
        "bgcolor": PAPER,
        "font": {"size": 12, "color": DARK_PURPLE},
        "text": text,
        "visible": True,
    }
