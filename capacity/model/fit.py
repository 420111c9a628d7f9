"""Parameters from points: a weighted fit with weak prior knowledge, and what the points cannot tell.

The parameters are free on the whole line (logarithms of times, logit of a share, roots of what waiters cost), so
intervals follow from one covariance. Roots, because a cost too small to be seen is 0 for all purposes: a logarithm has
no 0, so that what is not seen could as well be ten times larger, and intervals came out twice as wide and lopsided.
A parameter whose spread stays that of its prior (`prior`) is *not identified* by the sweep, and said to be so.
Points differ by a common factor from round to round (a machine drifts), and with how much CPU the same start took at
that moment (a machine shared with others): both are fitted and taken out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.optimize import least_squares
from scipy.special import expit

from capacity.errors import UsageError
from capacity.model.demands import CONNECTION_OVER_LOCK, LAUNCHER_CPU
from capacity.model.measurement import MOST_OVER_LOCK, Conditions, Measurements, Point, usable
from capacity.model.network import WITHOUT_LIMIT, Parameters, Structure, solve
from capacity.model.prior import prior
from capacity.model.queueing import Floats
from capacity.model.words import many

NAMES: Final = ("cpu", "background", "lock", "other", "cpu_waiter", "lock_waiter")
"""Fitted parameters, in this order; `Parameters` says what each is."""

MOST_STEPS: Final = 60
"""Steps of each of the fit's four rounds; a sweep takes 10 or so, points of no cluster would take hundreds."""

_DRIFT: Final = 0.2
_SLOWNESS: Final = 1.0
_LEAST_NOISE: Final = 0.01


class Fit(BaseModel):
    """Fitted parameters with their covariance, in the fit's own scale.

    Attributes
    ----------
    values : tuple of float
        Of `NAMES`: logarithms, but the logit of background, and roots of the waiters' shares (below 0: none).
    covariance : tuple of tuples of float
    noise : float
        Standard deviation of a point's log throughput, drift between rounds and slow moments taken out.
    scatter : float
        The same with both left in: how far a point lies from the curve, whenever it is measured; 0 in files that do not
        have it.
    freedom : float
        Degrees of freedom of the noise.
    identified : tuple of bool
        Of `NAMES`: whether the points, not the prior, decide it.
    database : float
        Share of the cluster's CPU that is the database's.
    launcher, launcher_idle : float
        CPU of the launcher per start [s], busy and as measured.
    connection_over_lock : float
        How many times as long as the lock a connection to the main store is in use: what contention adds to one it adds
        to the other. Files that do not have it are given their sweep's (`Calibration.load`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    values: tuple[Annotated[float, Field(ge=-50, le=50)], ...]
    covariance: tuple[tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...], ...]
    noise: float = Field(ge=0, le=10)
    scatter: float = Field(ge=0, le=10, default=0.0)
    freedom: float = Field(ge=1, le=1e9)
    identified: tuple[bool, ...]
    database: float = Field(ge=0, le=1)
    launcher: float = Field(ge=0, le=3600)
    launcher_idle: float = Field(ge=0, le=3600)
    connection_over_lock: float = Field(ge=1, le=MOST_OVER_LOCK, default=CONNECTION_OVER_LOCK)

    @model_validator(mode="after")
    def _of_all(self) -> Self:
        size = len(NAMES)
        if not (len(self.values) == len(self.identified) == size):
            raise ValueError(f"values and identified are not {size} each: {', '.join(NAMES)}")
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            raise ValueError(f"covariance is not {size} by {size}")
        try:
            self._root()
        except np.linalg.LinAlgError:
            raise ValueError("covariance is that of no parameters: it is not positive") from None
        return self

    def _root(self) -> Floats:
        return np.asarray(np.linalg.cholesky(np.array(self.covariance) + 1e-14 * np.eye(len(self.values))), dtype=float)

    def demands(self, values: Sequence[float] | Floats | None = None) -> Parameters:
        """Return the demands of the fit, or of other values of its parameters."""
        return demands_of(self.values if values is None else values, self)

    @property
    def of_a_point(self) -> float:
        """Standard deviation of one more point's log throughput around the curve."""
        return max(self.noise, self.scatter)

    def draws(self, count: int, seed: int = 0) -> Floats:
        """Return parameter vectors as the fit leaves them possible, shape (count, parameters): multivariate t."""
        random = np.random.default_rng(seed)
        half = random.standard_normal(((count + 1) // 2, len(self.values)))
        normal = np.concatenate([half, -half])[:count]  # antithetic: an even count keeps the centre exactly
        wide = np.sqrt(self.freedom / random.chisquare(self.freedom, len(half)))
        wide = np.concatenate([wide, wide])[:count, None]
        return np.asarray(np.array(self.values) + (normal @ self._root().T) * wide, dtype=float)


@dataclass(frozen=True)
class _Fixed:
    database: float
    launcher: float
    launcher_idle: float
    connection_over_lock: float


def demands_of(values: Sequence[float] | Floats, fixed: Fit | _Fixed) -> Parameters:
    """Return demands from parameters in the fit's own scale."""
    cpu, background, lock, other, cpu_waiter, lock_waiter = (float(value) for value in values)
    return Parameters(
        cpu=math.exp(cpu),
        background=float(expit(background)),
        lock=math.exp(lock),
        other=math.exp(other),
        cpu_waiter=max(cpu_waiter, 0.0) ** 2,
        lock_waiter=max(lock_waiter, 0.0) ** 2,
        database=fixed.database,
        launcher=fixed.launcher,
        launcher_idle=fixed.launcher_idle,
        later_connection=math.exp(lock) * (fixed.connection_over_lock - 1),
    )


def structure_of(conditions: Conditions) -> Structure:
    """Return what the cluster of a sweep had."""
    hosts = conditions.history_hosts or 1
    shards = conditions.shards or (1 if conditions.store == "sqlite" else WITHOUT_LIMIT)  # unknown ones cannot bind
    return Structure.of(
        conditions.store,
        cpus=conditions.cluster_cpus,
        locks=shards * (conditions.shard_io_concurrency or 1),
        connections=math.inf if conditions.max_conns is None else conditions.max_conns * hosts,
        shares_cpus=conditions.launcher_shares_cpus,
        network_delay=conditions.network_delay,
    )


def fit(measurements: Measurements) -> Fit:
    """Fit the demands of a start to the points of a sweep.

    Raises
    ------
    UsageError
        When fewer than three points, or fewer than two different parallelisms, can be used.
    """
    points = usable(measurements.points)
    kinds = {point.parallelism for point in points}
    if len(points) < 3 or len(kinds) < 2:
        flagged = len(measurements.points) - len(points)
        levels = many(len(kinds), "parallelism")
        raise UsageError(
            f"{many(len(points), 'usable point')} at {levels} ({flagged} flagged or held out) fit nothing",
            allowed="3 points or more, at 2 parallelisms or more",
            next_step="sweep more points, for example --parallelism 1,2,4,16,64 --repeats 3",
        )
    problem = _Problem(points, measurements)
    noise = 0.05
    for _ in range(4):
        solution = least_squares(
            problem.residuals, problem.start, x_scale=problem.scale, args=(noise,), max_nfev=MOST_STEPS
        )
        problem.start = solution.x
        data = solution.fun[: len(points)] * noise
        jacobian = np.asarray(solution.jac, dtype=float)
        normal = np.linalg.inv(jacobian.T @ jacobian)
        used = float(np.trace(jacobian[: len(points)] @ normal @ jacobian[: len(points)].T))
        freedom = max(len(points) - used, 1.0)
        # One pseudo-observation of usual noise keeps a lucky sweep of few points from claiming to have none.
        noise = max(math.sqrt((float(data @ data) + 0.03**2) / (freedom + 1)), _LEAST_NOISE)
    size = len(NAMES)
    around = problem.around(solution.x[:size])
    spread = np.sqrt(np.diag(normal))[:size]
    return Fit(
        values=tuple(solution.x[:size]),
        covariance=tuple(tuple(row[:size]) for row in normal[:size]),
        noise=noise,
        scatter=math.sqrt(float(around @ around) / freedom),
        freedom=freedom + 1,
        identified=tuple(bool(s < 0.6 * p) for s, p in zip(spread, problem.prior.spread, strict=True)),
        database=problem.fixed.database,
        launcher=problem.fixed.launcher,
        launcher_idle=problem.fixed.launcher_idle,
        connection_over_lock=problem.fixed.connection_over_lock,
    )


class _Problem:
    """Residuals of points and priors for a vector of parameters, a drift per round, and what a slow machine costs."""

    def __init__(self, points: list[Point], measurements: Measurements) -> None:
        self.structure = structure_of(measurements.conditions)
        self.parallelism = np.array([point.parallelism for point in points])
        self.log_throughput = np.log([point.throughput for point in points])
        rounds = sorted({point.repeat for point in points})
        self.round = np.array([rounds.index(point.repeat) for point in points])
        self.slowness = _slowness(points)
        self.fixed = _fixed(points, measurements)
        self.prior = prior(measurements)
        self.start = np.concatenate([self.prior.centre, np.zeros(len(rounds) + 1)])
        self.scale = np.concatenate([self.prior.spread, np.full(len(rounds), _DRIFT), [_SLOWNESS]])
        self._solved: tuple[bytes, Floats] = (b"", np.empty(0))

    def around(self, values: Floats) -> Floats:
        """Return predicted over measured throughput of each point, as a logarithm.

        The last answer is kept: a fit also asks for other drifts of the same demands.
        """
        key = values.tobytes()
        if key != self._solved[0]:
            population = int(self.parallelism.max())
            rate = solve(self.structure, demands_of(values, self.fixed), population).throughput[self.parallelism - 1]
            self._solved = key, np.asarray(np.log(rate) - self.log_throughput, dtype=float)
        return self._solved[1]

    def residuals(self, values: Floats, noise: float) -> Floats:
        size = len(NAMES)
        drifts, cost = values[size:-1], values[-1]
        machine = (drifts - drifts.mean())[self.round] - cost * self.slowness
        data = (self.around(values[:size]) + machine) / noise
        held = (values[:size] - self.prior.centre) / self.prior.spread
        return np.concatenate([data, held, drifts / _DRIFT, [cost / _SLOWNESS]])


def _slowness(points: list[Point]) -> Floats:
    """Return by how much each point's starts took more CPU than equal points' did, as a logarithm, median 0.

    The same start takes more CPU time where somebody else uses the same cores' caches and threads: a covariate that
    tells a point on a slow moment of the machine from one at a slow place of the curve.
    """
    cpu = [p.cpu or math.nan for p in points]
    logs = np.log(np.array(cpu))
    if np.isnan(logs).any():
        return np.zeros(len(points))
    levels = np.array([point.parallelism for point in points])
    return np.asarray(logs - np.array([np.median(logs[levels == level]) for level in levels]), dtype=float)


def connection_over_lock(measurements: Measurements) -> float:
    """Return how many times as long as its shard a start holds a connection: a sweep's, else the typical."""
    found = measurements.times.connection_over_lock if measurements.times is not None else None
    return CONNECTION_OVER_LOCK if found is None else found


def _fixed(points: list[Point], measurements: Measurements) -> _Fixed:
    pairs = [(p.server_cpu, p.database_cpu) for p in points if p.server_cpu and p.database_cpu is not None]
    shares = [database / (server + database) for server, database in pairs]
    launchers = [point.launcher_cpu for point in points if point.launcher_cpu]
    idle = float(np.median(launchers)) if launchers else 0.0
    return _Fixed(
        database=float(np.median(shares)) if shares else 0.0,
        launcher=min(LAUNCHER_CPU, idle or LAUNCHER_CPU),
        launcher_idle=idle,
        connection_over_lock=connection_over_lock(measurements),
    )
