"""Results as plotly figures: the title states the finding, the subtitle the inputs. No arithmetic, no widgets.

A figure is first a plain dict in plotly's own schema: made in under a millisecond, where building the same through
plotly's checked objects takes ninety. A widget that follows a slider takes what changed from the dict.
"""

from __future__ import annotations

from math import log10
from typing import Any

import plotly.graph_objects as go

from capacity.rules.curves import Curve, PoolCurves
from capacity.rules.plan import PoolPlan

# Okabe-Ito, each with a dash of its own, so that the lines are told apart without colour.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#4d4d4d"
DARK_VERMILION, DARK_PURPLE = "#a34700", "#7a3f62"  # for text, where the plain ones are too pale on white
_LINES = ((SKY, "dot"), (ORANGE, "dash"), (GREEN, "dashdot"), (PURPLE, "longdash"))
_CPU_TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_FLIGHT_TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_QUEUE_TICKS = (4096, 16384, 65536, 262144)


def pool_figure(plan: PoolPlan, compared: PoolCurves, chosen: PoolCurves) -> go.Figure:
    """Parallelism by CPUs for each multiplier, over the queue size of the chosen one; the current choice is marked.

    Parameters
    ----------
    plan : PoolPlan
        The current choice.
    compared : PoolCurves
        The multipliers to compare, at most four.
    chosen : PoolCurves
        The current multiplier's or override's curve alone, over the same CPU counts.

    Returns
    -------
    plotly.graph_objects.Figure
        Two panels over one axis of CPUs.
    """
    return go.Figure(pool_spec(plan, compared, chosen))


def pool_spec(plan: PoolPlan, compared: PoolCurves, chosen: PoolCurves) -> dict[str, Any]:
    """`pool_figure` as a plain dict; traces, shapes and annotations keep their number and order whatever the input."""
    (current,) = chosen.curves
    flight, queue = plan.parallelism.value, plan.queue.value
    name = f"now: {current.multiplier} per CPU" if plan.override is None else f"now: override {plan.override:,}"
    lines = [
        _line(compared.cpus, curve.parallelism, f"{curve.multiplier} per CPU", colour, dash, 1.75)
        for curve, (colour, dash) in zip(compared.curves, _LINES, strict=False)
    ]
    lines.append(_line(chosen.cpus, current.parallelism, name, BLUE, "solid", 3))
    waiting = _line(chosen.cpus, current.queue, "queue", GREEN, "solid", 2.5)
    waiting |= {
        "xaxis": "x2",
        "yaxis": "y2",
        "showlegend": False,
        "hovertemplate": "%{x} CPUs<br>queue of %{y:,}<extra></extra>",
    }
    rules = chosen.rules
    return {
        "data": [*lines, waiting, _mark(plan.cpus, flight, ""), _mark(plan.cpus, queue, "2")],
        "layout": {
            "template": "none",
            "height": 620,
            "autosize": True,
            "margin": {"l": 92, "r": 24, "t": 104, "b": 58},
            "font": {"family": "DejaVu Sans, Liberation Sans, Arial, sans-serif", "size": 13, "color": "#222"},
            "hovermode": "closest",
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "title": {
                "text": f"<b>{_finding(plan, current)}</b><br>"
                f'<span style="font-size:13px;color:#555">{_inputs(plan)}</span>',
                "font": {"size": 17},
                "x": 0,
                "xref": "paper",
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
            },
            "xaxis": _axis(_CPU_TICKS, 0.9, 580, anchor="y", showticklabels=False),
            "xaxis2": _axis(_CPU_TICKS, 0.9, 580, "CPUs of the scheduler's machine", anchor="y2", matches="x"),
            "yaxis": _axis(_FLIGHT_TICKS, 0.8, 900, "Starts in flight", domain=[0.42, 1]),
            "yaxis2": _axis(_QUEUE_TICKS, 2100, 600000, "Queue (starts)", anchor="x2", domain=[0, 0.34]),
            "shapes": [
                _across(rules.maximum, "y", VERMILION),
                _across(rules.queue_maximum, "y2", VERMILION),
                _across(rules.queue_minimum, "y2", GREY),
                _upright(plan.cpus),
            ],
            "annotations": [
                _label(rules.maximum, "y", f"cap {rules.maximum:,}", DARK_VERMILION, "bottom"),
                _label(rules.queue_maximum, "y2", f"at most {rules.queue_maximum:,}", DARK_VERMILION, "bottom"),
                _label(rules.queue_minimum, "y2", f"at least {rules.queue_minimum:,}", GREY, "top"),
                _callout(
                    plan.cpus, flight, f"<b>{flight:,} in flight</b><br>{plan.parallelism.reason.replace(', ', '<br>')}"
                ),
            ],
        },
    }


def _finding(plan: PoolPlan, current: Curve) -> str:
    flight = f"{plan.parallelism.value:,} start{'' if plan.parallelism.value == 1 else 's'} in flight"
    if plan.override is not None:
        return f"{flight}, whatever the CPUs: an override is set"
    if current.capped_from is None:
        return f"{flight}; the cap is out of reach"
    if plan.cpus > current.capped_from:
        return f"{flight}, as with {current.capped_from:,} CPUs"
    return f"{flight}; CPUs beyond {current.capped_from:,} add none"


def _inputs(plan: PoolPlan) -> str:
    rule = f"{plan.cpus:,} CPU{'' if plan.cpus == 1 else 's'} × {plan.multiplier}"
    if plan.override is not None:
        rule = f"override {plan.override:,} in place of {rule}"
    return f"{rule}, batches of {plan.batch:,}: up to {plan.queue.value:,} may wait"


def _line(x: tuple[int, ...], y: tuple[int, ...], name: str, colour: str, dash: str, width: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "xaxis": "x",
        "yaxis": "y",
        "name": name,
        "line": {"color": colour, "dash": dash, "width": width},
        "hovertemplate": f"%{{x}} CPUs, {name}<br>%{{y:,}} starts in flight<extra></extra>",
    }


def _mark(x: int, y: int, panel: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x],
        "y": [y],
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "name": "now",
        "showlegend": False,
        "marker": {"color": "white", "size": 11, "line": {"color": VERMILION, "width": 2.5}},
        "hovertemplate": "now: %{x} CPUs<br>%{y:,} starts<extra></extra>",
    }


def _across(y: int, yref: str, colour: str) -> dict[str, Any]:
    line = {"color": colour, "dash": "dash", "width": 1.5}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": yref, "y0": y, "y1": y, "line": line}


def _upright(x: int) -> dict[str, Any]:
    line = {"color": PURPLE, "dash": "dot", "width": 1.5}
    return {"type": "line", "xref": "x", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _label(y: int, yref: str, text: str, colour: str, anchor: str) -> dict[str, Any]:
    return {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "xshift": 6,
        "y": log10(y),
        "yref": yref,
        "yanchor": anchor,  # log axes: annotations want the exponent, shapes the value
        "showarrow": False,
        "text": text,
        "bgcolor": "rgba(255,255,255,.85)",
        "font": {"size": 12, "color": colour},
    }


def _callout(x: int, y: int, text: str) -> dict[str, Any]:
    """A note on the current choice, in the free corner under the lines."""
    right = x <= 24
    return {
        "x": log10(x),
        "xref": "x",
        "y": log10(y),
        "yref": "y",
        "axref": "x",
        "ax": log10(max(2.2 * x, 4) if right else 0.7 * x),
        "ayref": "y",
        "ay": log10(min(max(y / 5, 1.6), 5)),
        "xanchor": "left" if right else "right",
        "align": "left",
        "arrowhead": 2,
        "arrowcolor": PURPLE,
        "bgcolor": "rgba(255,255,255,.85)",
        "font": {"size": 12, "color": DARK_PURPLE},
        "text": text,
    }


def _axis(ticks: tuple[int, ...], low: float, high: float, title: str = "", **more: Any) -> dict[str, Any]:
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
        "range": [log10(low), log10(high)],
        "title": {"text": title, "font": {"size": 13}, "standoff": 10},
        "gridcolor": "#e6e6e6",
        "zeroline": False,
        "showline": True,
        "linecolor": "#999",
        "ticks": "outside",
        "tickcolor": "#999",
        **more,
    }
