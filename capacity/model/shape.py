"""The shape of a latency: how its measured quantiles lie beside those of theory, and on another cluster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from scipy.interpolate import PchipInterpolator

from capacity.model.fit import structure_of
from capacity.model.network import SQLITE_LOCK, Parameters, Structure, bounds
from capacity.model.queueing import Floats

if TYPE_CHECKING:
    from capacity.model.calibration import Calibration

IN_ORDER: Final = 1.1
"""How many times as much as locks the CPUs could serve, from where on starts are served in the order of arrival."""
_TREND: Final = 0.5
"""How much of the last trend of a latency's shape goes on beyond the highest measured parallelism, per doubling."""
_Ratio = Annotated[float, Field(ge=1e-9, le=1e9)]
_Spread = Annotated[float, Field(ge=0, le=10)]


class Shape(BaseModel):
    """Measured over theoretical quantiles of the latency, by parallelism (rising).

    Theory serves starts in the order of arrival with exponential times. A real cluster does not, and how far it is from
    that changes with parallelism. Between measured points the ratio is interpolated on logarithms of both, monotone and
    smooth (Fritsch & Carlson, SIAM J. Numer. Anal. 17, 1980): with straight lines it would fall as fast just before its
    lowest point as long before. Beyond the highest it follows the last trend, damped.

    Attributes
    ----------
    parallelism : tuple of int
        Where it was measured.
    p50, p99 : tuple of float
        The ratios there.
    p50_spread, p99_spread : float
        Standard deviation of the logarithm of one measured quantile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    parallelism: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(min_length=1)
    p50: tuple[_Ratio, ...]
    p99: tuple[_Ratio, ...]
    p50_spread: _Spread
    p99_spread: _Spread
    _more: float = PrivateAttr(default=1.0)

    def on(self, more: float) -> Shape:
        """Return the shape where so many times as many starts are served at once as in the sweep."""
        scaled = self.model_copy()
        scaled._more = more
        return scaled

    def in_order(self, share: float) -> Shape:
        """Return the shape where so much of its long tail, 0 to 1, is gone: a queue in the order of arrival has none.

        What shortens the tail, as of few in flight, stays.
        """
        kept = 1 - share
        return self.model_copy(
            update={
                "p50": tuple(ratio**kept if ratio < 1 else ratio for ratio in self.p50),
                "p99": tuple(ratio**kept if ratio > 1 else ratio for ratio in self.p99),
            }
        )

    @model_validator(mode="after")
    def _even(self) -> Self:
        if not len(self.parallelism) == len(self.p50) == len(self.p99):
            raise ValueError("parallelism, p50 and p99 differ in length")
        if list(self.parallelism) != sorted(set(self.parallelism)):
            raise ValueError("parallelism does not rise")
        return self

    def factor(self, q: float, parallelism: Floats) -> Floats:
        """Return measured over theoretical quantile, for q 0.5 or 0.99."""
        known = np.log(np.array(self.parallelism, dtype=float))
        values = np.log(np.array(self.p50 if q == 0.5 else self.p99))
        wanted = np.log(parallelism / self._more)
        result = np.full_like(wanted, values[0])
        if known.size > 1:
            result = PchipInterpolator(known, values)(np.clip(wanted, known[0], known[-1]))
            slope = (values[-1] - values[-2]) / (known[-1] - known[-2])
            beyond = np.maximum(wanted - known[-1], 0.0) / math.log(2)
            # The sum of a trend that shrinks by a constant share with every doubling (Gardner's damped trend).
            result = result + slope * math.log(2) * _TREND * (1 - _TREND**beyond) / (1 - _TREND)
        return np.asarray(np.exp(result), dtype=float)


def shape_for(calibration: Calibration, structure: Structure) -> Shape:
    """Return the shape of the latency on other stations.

    Where CPUs bind it follows the starts in flight for each that they can serve. The sweeps of PostgreSQL on one and on
    two CPUs agree so up to 8 in flight per CPU, where a sized cluster works: measured over theoretical p99 is 0.65,
    1.26 and 1.33 at 1, 4 and 8 per CPU on one, 0.68, 1.23 and 1.40 on two. A lock serves in the order of arrival, so
    that theory's tail is its own: with one shard, for which the CPUs could do `IN_ORDER` times as much, measured over
    theory is 0.84 to 1.11 from 4 to 128 in flight, where that of the sweeps above rises to 2.6 (data/measurements).
    From where locks bind to there a longer tail fades. Connections are taken for CPUs: Go's `database/sql` gives a free
    one to any of the starts that wait, so that its queue has a long tail too. SQLite's shape is that of its one
    connection, whatever the CPUs.
    """
    if structure.lock_name == SQLITE_LOCK:
        return calibration.shape
    swept = structure_of(calibration.measurements.conditions)
    (pools, locks), (swept_pools, swept_locks) = (_lowest(one, calibration.demands) for one in (structure, swept))
    found = calibration.shape.on(min(pools, locks) / min(swept_pools, swept_locks))
    if swept_pools > swept_locks:  # its tail is that of a lock
        return found
    return found.in_order(min(max(math.log(pools / locks) / math.log(IN_ORDER), 0.0), 1.0))


def _lowest(structure: Structure, demands: Parameters) -> tuple[float, float]:
    """Return the lowest bound of CPUs and connections, and that of locks [starts/s]."""
    found = bounds(structure, demands)
    pools = (rate for name, rate in found.items() if name.endswith("CPUs") or name == "connections")
    return min(pools), found.get(structure.lock_name, math.inf)


def shaped(shape: Shape, q: float, theory: Floats, mean: Floats, parallelism: Floats, delay: float) -> Floats:
    """Return the quantile of a latency [s] by what theory has for it; of both, `delay` is the network's, a constant.

    Of a latency with a long tail the median is no more than the mean, the 99 % quantile no less: no trend changes that.
    """
    found = delay + np.maximum(theory - delay, 0.0) * shape.factor(q, parallelism)
    return np.minimum(found, mean) if q == 0.5 else np.maximum(found, mean)
