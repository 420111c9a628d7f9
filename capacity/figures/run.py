"""A launch and a sweep while they run, as plotly figures in plain dicts: no arithmetic, no widgets.

Invariants: the traces keep their number and order whatever has come so far, so that a live figure only takes data;
lines that share a panel differ by dash or mark, not by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from capacity.figures.style import (
    BLUE,
    GREEN,
    GREY,
    IN_FLIGHT,
    VERMILION,
    axis,
    card,
    decades,
    headed,
    line,
    log_axis,
    rounded,
)

Column = Sequence[float | None]


def run_spec(columns: Mapping[str, Column], title: str, subtitle: str) -> dict[str, Any]:
    """Starts per second over latency over in flight, against the time of a run.

    Parameters
    ----------
    columns : mapping of sequences
        ``at`` [s], ``rate`` [1/s], ``p50`` and ``p99`` [ms], ``in_flight`` and ``limit``, and ``lost``: 0 where no
        server answered, else None. All of one length; None leaves a gap.
    title, subtitle : str
        The finding and the inputs.
    """
    at = list(columns["at"])
    traces = [
        _trace(at, columns["rate"], "", "starts/s", BLUE, "solid", "%{y:,.0f} starts/s", 2.5),
        _trace(at, columns["lost"], "", "server lost", VERMILION, "solid", "no server answered", 9),
        _trace(at, columns["p99"], "2", "p99", VERMILION, "solid", "p99 %{y:,.1f} ms", 2.5),
        _trace(at, columns["p50"], "2", "p50", GREY, "dot", "p50 %{y:,.1f} ms", 1.75),
        _trace(at, columns["in_flight"], "3", "in flight", GREEN, "solid", "%{y} in flight", 2.5),
        _trace(at, columns["limit"], "3", "limit", GREY, "dash", "limit %{y}", 1.75),
    ]
    traces[-1]["line"]["shape"] = "hv"
    layout = card(headed(title, subtitle), 600)
    layout["xaxis"] = axis(anchor="y", showticklabels=False, rangemode="tozero")
    layout["xaxis2"] = axis(anchor="y2", matches="x", showticklabels=False)
    layout["xaxis3"] = axis("Seconds since the start", anchor="y3", matches="x")
    layout["yaxis"] = axis("Starts per second", domain=[0.55, 1], rangemode="tozero", tickformat=",")
    layout["yaxis2"] = axis("Latency (ms)", domain=[0.28, 0.5], anchor="x2", rangemode="tozero", tickformat=",")
    # A range below 4 would get ticks at halves of a start.
    counts: dict[str, Any] = {"tickformat": ",d", "autorangeoptions": {"include": 4}}
    layout["yaxis3"] = axis("In flight", domain=[0, 0.22], anchor="x3", rangemode="tozero", **counts)
    return {"data": traces, "layout": layout}


def sweep_spec(
    points: Mapping[str, Sequence[tuple[int, float, float]]],
    band: Mapping[str, Sequence[float]],
    highest: int,
    title: str,
    subtitle: str,
) -> dict[str, Any]:
    """Starts per second and p99 by parallelism: measured points, and the fitted curve with its band.

    Parameters
    ----------
    points : mapping of sequences
        (parallelism, starts per second, p99 [ms]) under ``fitted``, ``holdout`` and ``left_out``.
    band : mapping of sequences
        ``parallelism``, and ``value``, ``low``, ``high`` [1/s] and ``p99``, ``p99_low``, ``p99_high`` [ms]; empty
        before the fit.
    highest : int
        The highest parallelism to show.
    title, subtitle : str
        The finding and the inputs.
    """
    traces = []
    for panel, value, low, high, unit in (
        ("", "value", "low", "high", "%{y:,.0f} starts/s"),
        ("2", "p99", "p99_low", "p99_high", "p99 %{y:,.1f} ms"),
    ):
        x = list(band.get("parallelism", ()))
        upper = _trace(x, band.get(high, ()), panel, "", BLUE, "solid", "", 0)
        lower = _trace(x, band.get(low, ()), panel, "90 % of fitted", BLUE, "solid", "", 0)
        lower |= {"fill": "tonexty", "fillcolor": "rgba(0,114,178,.18)"}
        fitted = _trace(
            x, band.get(value, ()), panel, "fitted", BLUE, "solid", f"%{{x}} in flight, fitted<br>{unit}", 2.5
        )
        for trace in (upper, lower):
            trace["hoverinfo"] = "skip"
        traces += [upper, lower, fitted]
        for kind, name, symbol, colour in (
            ("fitted", "measured", "circle", VERMILION),
            ("holdout", "measured, kept from the fit", "diamond", GREEN),
            ("left_out", "measured, left out: flagged", "x-thin", GREY),
        ):
            own = points.get(kind, ())
            marks = _trace(
                [point[0] for point in own],
                [point[2 if panel else 1] for point in own],
                panel,
                name,
                colour,
                "solid",
                f"%{{x}} in flight, {name}<br>{unit}",
                2,
            )
            marks |= {"mode": "markers", "marker": _mark(symbol, colour)}
            traces.append(marks)
    for trace in traces:
        trace["showlegend"] = trace["yaxis"] == "y" and bool(trace["name"])
    layout = card(headed(title, subtitle), 600)
    few, many = 0.85, 1.2 * max(highest, 2)
    layout["xaxis"] = log_axis(IN_FLIGHT, few, many, anchor="y", showticklabels=False)
    layout["xaxis2"] = log_axis(IN_FLIGHT, few, many, "Starts in flight", anchor="y2", matches="x")
    layout["yaxis"] = axis("Starts per second", domain=[0.42, 1], rangemode="tozero", tickformat=",")
    times = [point[2] for own in points.values() for point in own]
    times += [each for name in ("p99_low", "p99", "p99_high") for each in band.get(name, ())]
    fast, slow = rounded(min(times, default=10) * 0.9, max(times, default=100) * 1.1)
    layout["yaxis2"] = log_axis(decades(fast, slow), fast, slow, "p99 (ms)", domain=[0, 0.34], anchor="x2")
    return {"data": traces, "layout": layout}


def _trace(
    x: Sequence[float | None],
    y: Column,
    panel: str,
    name: str,
    colour: str,
    dash: str,
    hover: str,
    width: float,
) -> dict[str, Any]:
    look = line(x, y, panel, name, color=colour, dash=dash, width=width)
    return {**look, "hovertemplate": f"{hover}<extra></extra>"}


def _mark(symbol: str, colour: str) -> dict[str, Any]:
    return {"color": "white", "size": 10, "symbol": symbol, "line": {"color": colour, "width": 2.25}}
