"""The slope of a noisy series, with its interval.

The series is cut into blocks whose medians stand for them: a garbage collector's saw-teeth and a neighbour's burst go.
The slope is Theil and Sen's, the median of all pairs' slopes; its interval comes from the scatter about that line,
widened by (1 + r) / (1 - r) where successive blocks are alike by r, and never narrower than what one step of the figure
would make.
Source: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

LEVEL: Final = 0.95
"""Coverage of the intervals."""
FEWEST: Final = 8
"""Values without which nothing is said."""
BLOCKS: Final = 12


@dataclass(frozen=True)
class Slope:
    """A slope per unit of time, half its interval by scatter and by one step of the figure, and that of each half."""

    value: float
    scatter: float
    step: float
    halves: tuple[float, float]

    @property
    def low(self) -> float:
        """Lower bound of the interval."""
        return self.value - max(self.scatter, self.step)

    @property
    def high(self) -> float:
        """Upper bound of the interval."""
        return self.value + max(self.scatter, self.step)


def slope(at: Sequence[float], values: Sequence[float], quantum: float = 0.0) -> Slope | None:
    """Return the slope of a noisy series; None where it is too short.

    Parameters
    ----------
    at : sequence of float
        Times, rising.
    values : sequence of float
    quantum : float
        Step that says nothing.

    Examples
    --------
    >>> found = slope(range(20), [3.0 * x for x in range(20)])
    >>> found.value, found.low, found.high
    (3.0, 3.0, 3.0)
    """
    if len(values) < FEWEST:
        return None
    parts = np.array_split(np.arange(len(values)), BLOCKS if len(values) >= 2 * BLOCKS else len(values))
    time, size = np.asarray(at, dtype=float), np.asarray(values, dtype=float)
    x = np.array([time[part].mean() for part in parts])
    y = np.array([np.median(size[part]) for part in parts])
    value = _median_slope(x, y)
    rest = y - value * x
    rest = rest - rest.mean()
    count = len(x)
    spread = float(rest @ rest)
    # Residuals about a fitted line are less alike than the noise was: by about 2 / n where it was not alike at all.
    alike = float(rest[1:] @ rest[:-1]) / spread if spread > 0 else 0.0
    alike = min(0.8, max(0.0, (count * alike + 2) / (count - 4)))
    error = math.sqrt(spread / (count - 2) / float(((x - x.mean()) ** 2).sum()) * (1 + alike) / (1 - alike))
    scatter = float(stdtrit(count - 2, (1 + LEVEL) / 2)) * error
    middle = count // 2
    halves = tuple(_median_slope(x[part], y[part]) for part in (slice(middle), slice(middle, None)))
    return Slope(value, scatter, quantum / float(time[-1] - time[0]), (halves[0], halves[1]))


def _median_slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Return the median of the slopes of all pairs, Theil and Sen's estimate."""
    run, rise = x[:, None] - x, y[:, None] - y
    return float(np.median(rise[run > 0] / run[run > 0]))


def longer(found: Slope, limit: float, seconds: float) -> float | None:
    """Return after how many seconds the limit is outside the interval: scatter falls by time^1.5, a step by time."""
    distance = abs(found.value - limit)
    if distance <= 0.05 * (found.high - found.low) / 2:
        return None
    return seconds * 1.25 * max(1.0, found.step / distance, math.pow(found.scatter / distance, 2 / 3))  # 1/4 for luck
