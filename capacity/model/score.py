"""How wrong a calibration is: fitted to some points of its sweep, set against the others."""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.measurement import Measurements, Point
from capacity.model.prediction import predict


@dataclass(frozen=True)
class Held:
    """One parallelism that was kept from the fit: the median of its points, and what was predicted.

    Errors are signed fractions: 0.1 is predicted 10 % too high. `within` counts the points whose throughput lies in
    the 90 % interval for one more point.
    """

    parallelism: int
    points: int
    measured: float
    predicted: float
    low: float
    high: float
    within: int
    throughput_error: float
    p50_error: float
    p99_error: float


@dataclass(frozen=True)
class Score:
    """Errors of predictions of points that were not fitted.

    Parameters
    ----------
    name : str
        Of the calibration.
    fitted : tuple of int
        Parallelisms fitted.
    held : tuple of Held
        Those predicted.
    repeat_noise : float
        Median relative spread of equal points of the sweep, (highest - lowest) / 2 over median: what no prediction
        can do better than; nan where nothing was repeated.
    """

    name: str
    fitted: tuple[int, ...]
    held: tuple[Held, ...]
    repeat_noise: float

    def to_dict(self) -> dict[str, Any]:
        """Return the errors as fractions; medians and maxima are of their absolute values."""
        throughput = [abs(row.throughput_error) for row in self.held]
        points = sum(row.points for row in self.held)
        return {
            "calibration": self.name,
            "fitted": list(self.fitted),
            "throughput_error_median": statistics.median(throughput),
            "throughput_error_max": max(throughput),
            "p50_error_median": statistics.median(abs(row.p50_error) for row in self.held),
            "p99_error_median": statistics.median(abs(row.p99_error) for row in self.held),
            "coverage": sum(row.within for row in self.held) / points,
            "points_predicted": points,
            "repeat_noise": None if self.repeat_noise != self.repeat_noise else self.repeat_noise,
            "held": [vars(row) for row in self.held],
        }

    def lines(self) -> list[tuple[str, ...]]:
        """Return the table for people: a heading and a line per parallelism."""
        head = ("in flight", "measured", "predicted", "90% of a point", "error", "p50", "p99", "held")
        rows = [
            (
                f"{row.parallelism}",
                f"{row.measured:,.0f}/s",
                f"{row.predicted:,.0f}/s",
                f"{row.low:,.0f} to {row.high:,.0f}",
                f"{row.throughput_error:+.1%}",
                f"{row.p50_error:+.0%}",
                f"{row.p99_error:+.0%}",
                f"{row.within} of {row.points}",
            )
            for row in self.held
        ]
        return [head, *rows]

    def summary(self) -> str:
        """Return in a sentence how wrong it was."""
        found = self.to_dict()
        noise = "" if found["repeat_noise"] is None else f"; equal points differ by ±{found['repeat_noise']:.1%}"
        return (
            f"throughput off by {found['throughput_error_median']:.1%} (median) and "
            f"{found['throughput_error_max']:.1%} (worst), p50 by {found['p50_error_median']:.0%}, "
            f"p99 by {found['p99_error_median']:.0%}; intervals held {found['coverage']:.0%} of points{noise}"
        )

    def _repr_html_(self) -> str:
        head, *rows = self.lines()
        top = "".join(f"<th>{cell}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        return (
            f"<table><caption>{html.escape(self.name)}: {self.summary()}</caption>"
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
        )


def score(calibration: Calibration) -> Score:
    """Fit part of a calibration's points, predict the others and compare.

    The points marked as holdout are predicted; where none are, every second parallelism.

    Raises
    ------
    UsageError
        When too few different parallelisms were measured to keep some.
    """
    points = [point for point in calibration.measurements.points if point.flag is None]
    if not any(point.holdout for point in points):
        levels = sorted({point.parallelism for point in points})
        points = [point.model_copy(update={"holdout": point.parallelism in levels[1:-1:2]}) for point in points]
    kept = sorted({point.parallelism for point in points if point.holdout})
    if not kept:
        raise UsageError(
            f"calibration {calibration.name} has nothing to predict: its parallelisms are all needed for the fit",
            allowed="3 different parallelisms or more",
            next_step="sweep with --holdout 2,8,32",
        )
    measurements = calibration.measurements.model_copy(update={"points": tuple(points)})
    fitted = Calibration.of(measurements, calibration.name)
    found = predict(fitted, kept, of_a_point=True)
    held = []
    for i, level in enumerate(kept):
        own = [point for point in points if point.holdout and point.parallelism == level]
        low, high = float(found.throughput.low[i]), float(found.throughput.high[i])
        measured = _median(own, "throughput")
        predicted = float(found.throughput.value[i])
        held.append(
            Held(
                parallelism=level,
                points=len(own),
                measured=measured,
                predicted=predicted,
                low=low,
                high=high,
                within=sum(low <= point.throughput <= high for point in own),
                throughput_error=predicted / measured - 1,
                p50_error=float(found.p50.value[i]) / _median(own, "p50") - 1,
                p99_error=float(found.p99.value[i]) / _median(own, "p99") - 1,
            )
        )
    fitted_at = tuple(sorted({point.parallelism for point in points if not point.holdout}))
    return Score(calibration.name, fitted_at, tuple(held), repeat_noise(measurements))


def repeat_noise(measurements: Measurements) -> float:
    """Return the median over parallelisms of half the range of equal points over their median; nan without repeats."""
    points = [point for point in measurements.points if point.flag is None]
    spreads = []
    for level in {point.parallelism for point in points}:
        rates = [point.throughput for point in points if point.parallelism == level]
        if len(rates) > 1:
            spreads.append((max(rates) - min(rates)) / 2 / statistics.median(rates))
    return statistics.median(spreads) if spreads else float("nan")


def _median(points: Sequence[Point], name: str) -> float:
    return float(statistics.median(getattr(point, name) for point in points))
