"""The ratio of two settings with its interval, from blocks that have both.

Each block gives the log of a ratio, so what drifts from block to block cancels. Drift within a block favours whichever
ran first: it is fitted as an effect of its own (tau), with the orders balanced and random,

    log(candidate / baseline) = mu + tau s + e,  s = +1 where the baseline came first, else -1,

and mu has a Student t interval. Invariants: a ratio above 1 says the candidate has more; an interval that the blocks
do not give is None. Source: Box, Hunter and Hunter, "Statistics for Experimenters", 2005, ch. 3 and 4 (paired
comparison in blocks, randomised).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.special import stdtrit

from capacity.experiment.blocks import Block
from capacity.model.measurement import Point

LEVEL: Final = 0.95
"""Coverage of the intervals."""
MARGIN: Final = 0.02
"""Difference of throughput that matters, as a fraction."""
POWER: Final = 0.8
"""Probability with which so many blocks show a difference of `MARGIN`."""
MOST_BLOCKS: Final = 10_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Ratio:
    """Candidate over baseline.

    Parameters
    ----------
    value : float
    interval : pair of float, optional
        With probability `LEVEL`; None where there are too few blocks.
    spread : float, optional
        Standard deviation of one block's log ratio.
    freedom : int
        Degrees of freedom of `spread`.
    order : float
        By which factor a run's place in its block changed the figure: drift.
    """

    value: float
    interval: Interval | None
    spread: float | None
    freedom: int
    order: float

    @property
    def is_more(self) -> bool:
        """Whether the candidate surely has more."""
        return self.interval is not None and self.interval[0] > 1

    @property
    def is_less(self) -> bool:
        """Whether the candidate surely has less."""
        return self.interval is not None and self.interval[1] < 1

    @property
    def is_same(self) -> bool:
        """Whether they surely differ by no more than `MARGIN`."""
        return self.interval is not None and 1 / (1 + MARGIN) <= self.interval[0] <= self.interval[1] <= 1 + MARGIN


def ratio(blocks: Sequence[Block], figure: str) -> Ratio:
    """Return candidate over baseline of ``throughput``, ``p99`` or ``cpu``, what drifts taken out."""

    def of(point: Point) -> float:
        return point.cpu or math.nan if figure == "cpu" else float(getattr(point, figure))

    pairs = [(of(block.candidate), of(block.baseline)) for block in blocks]
    logs = np.log([over / under for over, under in pairs])
    signs = np.array([1.0 if block.baseline_first else -1.0 for block in blocks])
    return estimate(logs, signs)


def estimate(logs: Any, signs: Any) -> Ratio:
    """Return the ratio from each block's log ratio and the sign of its order.

    Parameters
    ----------
    logs : array of float, shape (blocks,)
    signs : array of float, shape (blocks,)
        +1 where the baseline came first, else -1.

    Examples
    --------
    >>> found = estimate(np.log([1.1, 0.9 / 1.0, 1.1, 0.9]), np.array([1, -1, 1, -1]))
    >>> round(found.value, 3), round(found.order, 2)
    (0.995, 1.11)
    """
    logs, signs = np.asarray(logs, dtype=float), np.asarray(signs, dtype=float)
    count = logs.size
    # With one block of an order its residual is nothing: the order is told apart from four blocks on.
    with_order = count >= 4 and min((signs > 0).sum(), (signs < 0).sum()) >= 2
    design = np.column_stack([np.ones(count), signs]) if with_order else np.ones((count, 1))
    beta, *_ = np.linalg.lstsq(design, logs, rcond=None)
    freedom = count - design.shape[1]
    value, order = math.exp(beta[0]), math.exp(beta[1]) if with_order else 1.0
    if freedom < 1:
        return Ratio(value, None, None, 0, order)
    rest = logs - design @ beta
    spread = math.sqrt(float(rest @ rest) / freedom)
    error = spread * math.sqrt(float(np.linalg.inv(design.T @ design)[0, 0]))
    width = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Ratio(value, (math.exp(beta[0] - width), math.exp(beta[0] + width)), spread, freedom, order)


def blocks_needed(found: Ratio, done: int) -> int:
    """Return how many more blocks settle whether the throughput differs by `MARGIN`; 0 when it is settled.

    The number at which a difference of `MARGIN` is found with probability `POWER`, and at least two more.
    Source: the power of a paired t test, n = (t_(1+L)/2 + t_POWER)^2 spread^2 / log(1 + MARGIN)^2.
    """
    if found.is_more or found.is_less or found.is_same:
        return 0
    if found.spread is None:
        return max(2, 4 - done)
    margin, count = math.log1p(MARGIN), 12
    for _ in range(20):  # the quantiles depend on the number, weakly: a few turns settle it
        quantiles = np.asarray(stdtrit(max(count - 2, 1), [(1 + LEVEL) / 2, POWER]))
        before, count = count, min(MOST_BLOCKS, max(4, math.ceil((quantiles.sum() * found.spread / margin) ** 2)))
        if count == before:
            break
    return MOST_BLOCKS if count >= MOST_BLOCKS else max(2, count - done)
