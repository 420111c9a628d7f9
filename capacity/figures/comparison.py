"""A comparison while it runs: the ratios of its blocks, and the interval that narrows with them. No arithmetic.

Invariant: traces, shapes and notes keep their number and order whatever has come so far, so that a live figure only
takes data. Blocks in which the baseline came first and those in which it came second differ by mark, not by colour
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from capacity.figures.style import BLUE, GREEN, GREY, PURPLE, VERMILION, axis, card, headed, line

BASELINE_FIRST, CANDIDATE_FIRST, LEFT_OUT = "baseline first", "candidate first", "left out"
"""Kinds of blocks."""
_MARKS = {BASELINE_FIRST: ("circle", VERMILION), CANDIDATE_FIRST: ("diamond", PURPLE), LEFT_OUT: ("x-thin", GREY)}
_FACTORS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20, 50, 100, 200, 500)
_FINE = (0.8, 0.9, 1.1, 1.25)


@dataclass(frozen=True)
class Blocks:
    """Candidate over baseline, block by block; all sequences of one length.

    Parameters
    ----------
    number : sequence of int
        Of each block, from 1.
    kind : sequence of str
        `BASELINE_FIRST`, `CANDIDATE_FIRST` or `LEFT_OUT`.
    change : sequence of float
        Of throughput [%].
    factor : sequence of float
        Of p99.
    change_so_far, factor_so_far : sequence of (middle, low, high)
        From all blocks up to each; low and high are None where there are too few.
    """

    number: Sequence[int] = ()
    kind: Sequence[str] = ()
    change: Sequence[float] = ()
    factor: Sequence[float] = ()
    change_so_far: Sequence[tuple[float, float | None, float | None]] = ()
    factor_so_far: Sequence[tuple[float, float | None, float | None]] = ()


def comparison_spec(blocks: Blocks, count: int, margin: float, title: str, subtitle: str) -> dict[str, Any]:
    """Return change of throughput over factor of p99, by block.

    Parameters
    ----------
    blocks : Blocks
        Those there so far.
    count : int
        How many there will be.
    margin : float
        Difference of throughput that matters [%].
    title, subtitle : str
        The finding and the inputs.
    """
    data = [
        *_panel(blocks, blocks.change, blocks.change_so_far, "", BLUE, "%{y:+.1f} %"),
        *_panel(blocks, blocks.factor, blocks.factor_so_far, "2", GREEN, "p99 %{y:.2f} ×"),
    ]
    low, high = _percent_range(blocks, margin)
    least, most = _factor_range(blocks)
    ticks = [each for each in (*_FACTORS, *(_FINE if most / least < 4 else ())) if least <= each <= most]
    layout = card(headed(title, subtitle), 540)
    layout["margin"]["r"] = 74
    layout["legend"]["traceorder"] = "normal"  # filled traces would turn it round
    ends = [0.5, count + 0.5]
    numbers = list(range(1, count + 1, max(1, round(count / 12))))
    along = axis(range=ends, tickvals=numbers, ticktext=[str(number) for number in numbers])
    layout |= {
        "xaxis": {**along, "anchor": "y", "showticklabels": False},
        "xaxis2": {**along, "anchor": "y2", "matches": "x", "title": axis("Block")["title"]},
        "yaxis": axis("Change of throughput", range=[low, high], domain=[0.44, 1], ticksuffix=" %"),
        "yaxis2": axis(
            "p99, times",
            type="log",
            range=[log10(least), log10(most)],
            domain=[0, 0.36],
            anchor="x2",
            tickvals=sorted(ticks),
            ticktext=[f"{each:g} ×" for each in sorted(ticks)],
        ),
        "shapes": [
            _shape("rect", "y", -margin, margin, fillcolor="rgba(77,77,77,.13)", line={"width": 0}, layer="below"),
            _shape("line", "y", 0, 0, line={"color": GREY, "width": 1.5, "dash": "dash"}),
            _shape("line", "y2", 1, 1, line={"color": GREY, "width": 1.5, "dash": "dash"}),
        ],
        "annotations": [
            _note(0.0, "y", f"baseline<br>± {margin:g} %"),
            _note(0.0, "y2", "baseline"),  # notes on a logarithmic axis want the logarithm
        ],
    }
    return {"data": data, "layout": layout}


def _panel(
    blocks: Blocks,
    values: Sequence[float],
    so_far: Sequence[tuple[float, float | None, float | None]],
    panel: str,
    colour: str,
    unit: str,
) -> list[dict[str, Any]]:
    bounded = [(x, each) for x, each in zip(blocks.number, so_far, strict=True) if each[1] is not None]
    at = [x for x, _ in bounded]
    upper = line(at, [each[2] for _, each in bounded], panel, "", color=colour, width=2.5)
    lower = line(at, [each[1] for _, each in bounded], panel, "95 % interval so far", color=colour, width=2.5)
    middle = line(blocks.number, [each[0] for each in so_far], panel, "ratio so far", color=colour, width=2.5)
    for edge in (upper, lower):
        edge["line"] = {"width": 0, "color": colour}
        edge["hoverinfo"] = "skip"
    lower |= {"fill": "tonexty", "fillcolor": "rgba(0,114,178,.18)" if not panel else "rgba(0,158,115,.18)"}
    middle["hovertemplate"] = f"after %{{x}} blocks<br>{unit}<extra></extra>"
    marks = []
    for kind, (symbol, ink) in _MARKS.items():
        own = [i for i, each in enumerate(blocks.kind) if each == kind]
        at_own, own_values = [blocks.number[i] for i in own], [values[i] for i in own]
        mark = line(at_own, own_values, panel, f"block, {kind}", color=ink, width=2.5)
        mark |= {
            "mode": "markers",
            "marker": {"color": "white", "size": 9, "symbol": symbol, "line": {"color": ink, "width": 2}},
            "hovertemplate": f"block %{{x}}, {kind}<br>{unit}<extra></extra>",
        }
        marks.append(mark)
    traces = [upper, lower, middle, *marks]
    for trace in traces:
        trace["showlegend"] = not panel and bool(trace["name"])
    return traces


def _percent_range(blocks: Blocks, margin: float) -> tuple[float, float]:
    """Return an axis around what the blocks are, and the last interval as far as it is not wider by far."""
    most = max([3 * margin, *(abs(each) for each in blocks.change)])
    edges = [edge for edge in blocks.change_so_far[-1][1:] if edge is not None] if blocks.change_so_far else []
    low = min([-3 * margin, *blocks.change, *(max(edge, -2 * most) for edge in edges)])
    high = max([3 * margin, *blocks.change, *(min(edge, 2 * most) for edge in edges)])
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000, 1e9) if (high - low) / step <= 20)
    return _down(low * 1.08, step), -_down(-high * 1.08, step)


def _down(value: float, step: float) -> float:
    return float(value // step * step)


def _factor_range(blocks: Blocks) -> tuple[float, float]:
    least, most = min([0.7, *blocks.factor]), max([1.4, *blocks.factor])
    edges = [edge for edge in blocks.factor_so_far[-1][1:] if edge is not None] if blocks.factor_so_far else []
    low = min([least, *(max(edge, least / 2) for edge in edges)])
    high = max([most, *(min(edge, most * 2) for edge in edges)])
    below = max((each for each in _FACTORS if each <= low / 1.1), default=_FACTORS[0])
    above = min((each for each in _FACTORS if each >= high * 1.1), default=_FACTORS[-1])
    return below, above


def _shape(kind: str, axis: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"type": kind, "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": low, "y1": high, **more}


def _note(y: float, axis: str, words: str) -> dict[str, Any]:
    return {
        "text": words,
        "x": 1,
        "xref": "paper",
        "xanchor": "left",
        "xshift": 4,
        "y": y,
        "yref": axis,
        "yanchor": "middle",
        "align": "left",
        "showarrow": False,
        "font": {"size": 12, "color": GREY},
    }
