"""Gunther's Universal Scalability Law: throughput as a curve of three numbers, for comparison with the model.

    X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))

lambda is the throughput of one, sigma the share that is done one at a time, kappa what each pair costs. It describes a
curve and does not say why: no resource, other cluster or latency follows from it, which is what `network` is for.

References
----------
.. [1] N. J. Gunther, "Guerrilla Capacity Planning", 2007, ch. 4 to 6.
.. [2] B. Schwartz, "Practical Scalability Analysis with the Universal Scalability Law", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy.optimize import least_squares

from capacity.errors import UsageError
from capacity.model.queueing import Floats

Weighting = Literal["absolute", "relative"]
"""What the fit makes small: the squares of errors in starts per second, as in [2]_, or those of their logarithms."""

_LEAST_KAPPA: Final = 1e-12
"""Below it the curve counts as one without a peak."""


@dataclass(frozen=True)
class Usl:
    """A curve of the law.

    Parameters
    ----------
    rate : float
        lambda, throughput of one [1/s].
    sigma : float
        Contention, 0 to 1.
    kappa : float
        Coherency, 0 or more.
    """

    rate: float
    sigma: float
    kappa: float

    def throughput_at(self, parallelism: float | Floats) -> Floats:
        """Return the throughput with so many in flight [1/s]."""
        n = np.asarray(parallelism, dtype=float)
        return np.asarray(self.rate * n / (1 + self.sigma * (n - 1) + self.kappa * n * (n - 1)), dtype=float)

    @property
    def peak(self) -> float:
        """Parallelism of the highest throughput, ``sqrt((1 - sigma) / kappa)``; infinite where the curve has none."""
        return math.sqrt((1 - self.sigma) / self.kappa) if self.kappa > _LEAST_KAPPA else math.inf


def fit_usl(
    parallelism: Sequence[float] | Floats, throughput: Sequence[float] | Floats, weighting: Weighting = "absolute"
) -> Usl:
    """Fit the law by least squares, sigma within 0 to 1, kappa 0 or more.

    Parameters
    ----------
    parallelism : sequence of float
        1 or more.
    throughput : sequence of float
        As many [1/s], above 0.
    weighting : str
        ``absolute`` is how published fits were made: the highest throughputs count most. ``relative`` is right where
        the noise of a point is a share of it.

    Raises
    ------
    UsageError
        When fewer than three different parallelisms were measured: the law has three numbers.
    """
    n, x = np.asarray(parallelism, dtype=float), np.asarray(throughput, dtype=float)
    kinds = np.unique(n).size
    if n.size != x.size or kinds < 3 or (n < 1).any() or not (x > 0).all():
        raise UsageError(
            f"{x.size} throughputs at {kinds} parallelisms fit no scalability law",
            allowed="a throughput above 0 at each of 3 different parallelisms or more, all 1 or more",
            next_step="measure more points",
        )
    scale = np.array([float((x / n).max()), 0.1, 0.001])

    def residuals(values: Floats) -> Floats:
        fitted = Usl(*values).throughput_at(n)
        return np.asarray(np.log(fitted / x) if weighting == "relative" else (fitted - x) / x.max(), dtype=float)

    found = least_squares(
        residuals, scale, x_scale=scale, bounds=([1e-12, 0, 0], [np.inf, 1, np.inf]), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    return Usl(*(float(value) for value in found.x))
