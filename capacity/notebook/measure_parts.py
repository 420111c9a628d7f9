"""What a sweep shows while it runs and after: points, fitted curve, words and tables. No widgets, no thread."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from capacity.figures.run import sweep_spec
from capacity.notebook.markup import headed, table

if TYPE_CHECKING:
    from capacity.model.calibration import Calibration
    from capacity.model.measurement import Point
    from capacity.model.score import Score

_DRAWS = 100


def spec(points: Sequence[Point], band: dict[str, list[float]], highest: int, title: str, under: str) -> dict[str, Any]:
    """Return the figure of the points so far and, when it is made, of the fit."""
    kinds: dict[str, list[tuple[int, float, float]]] = {"fitted": [], "holdout": [], "left_out": []}
    for point in points:
        kind = "left_out" if point.flag is not None else "holdout" if point.holdout else "fitted"
        kinds[kind].append((point.parallelism, point.throughput, point.p99 * 1e3))
    return sweep_spec(kinds, band, highest, html.escape(title), html.escape(under))


def fitted(calibration: Calibration, highest: int) -> dict[str, list[float]]:
    """Return what a calibration predicts for its own cluster from 1 to `highest` in flight, with its 90 % band."""
    from capacity.model.prediction import predict

    at = np.unique(np.geomspace(1, highest, 48).round().astype(int))
    found = predict(calibration, [int(each) for each in at], draws=_DRAWS)
    milliseconds = {"p99": found.p99.value, "p99_low": found.p99.low, "p99_high": found.p99.high}
    rates = {"value": found.throughput.value, "low": found.throughput.low, "high": found.throughput.high}
    band = {"parallelism": [float(each) for each in at]}
    band |= {name: [float(each) for each in values] for name, values in rates.items()}
    return band | {name: [float(each) * 1e3 for each in values] for name, values in milliseconds.items()}


def finding(calibration: Calibration, band: dict[str, list[float]]) -> str:
    """Return in a line what the sweep found."""
    from capacity.model.prediction import knee, predict

    highest = int(max(band["parallelism"]))
    curve = predict(calibration, range(1, highest + 1), draws=0).throughput.value
    at, within = knee(curve)
    beyond = "; more buys latency" if within else ": no knee up to there"
    return f"{curve[at - 1]:,.0f} starts/s at {at} in flight{beyond}"


def points_table(points: Sequence[Point]) -> str:
    """Return the points in the order they were taken."""
    rows = [("in flight", "starts/s", "p50", "p99", "CPU of server and database a start", "")]
    for point in points:
        note = point.flag.value if point.flag is not None else "kept from the fit" if point.holdout else ""
        rows.append(
            (
                f"{point.parallelism}",
                f"{point.throughput:,.0f}",
                f"{point.p50 * 1e3:,.1f} ms",
                f"{point.p99 * 1e3:,.1f} ms",
                "not measured" if point.cpu is None else f"{point.cpu * 1e3:.2f} ms",
                note,
            )
        )
    return headed("Measured points, in the order they were taken", rows)


def fit_table(calibration: Calibration) -> str:
    """Return what was fitted."""
    return table(f"Calibration {calibration.name}", calibration.rows())


def score_table(score: Score) -> str:
    """Return what part of the sweep says of the rest."""
    head, *rows = score.lines()
    return f"{headed('Predicted from the other points', [head, *rows])}<p>Score: {html.escape(score.summary())}.</p>"
