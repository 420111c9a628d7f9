"""A calibration: a sweep and what was fitted to it, as one file that predictions are made from."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from capacity import files
from capacity.errors import CapacityError, UsageError
from capacity.model import shipped
from capacity.model.fit import NAMES, Fit, connection_over_lock, fit, structure_of
from capacity.model.measurement import Measurements, Point, usable
from capacity.model.network import Parameters, solve
from capacity.model.shape import Shape
from capacity.model.words import many

SCHEMA_VERSION: Final = 1

_NOISE: Final = 0.01
"""Share of a latency that is not the network's delay, at least: both are measured, and so may cross."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Model = TypeVar("_Model", bound=BaseModel)


class Calibration(_Record):
    """A sweep with the demands fitted to it.

    Attributes
    ----------
    name : str
        What it is called.
    measurements : Measurements
        The sweep: a throughput [1/s], latencies [s] and CPU [s] for each parallelism, and where they were taken.
    fit : Fit
        The demands of a start [s] that fit it best, and how sure they are.
    shape : Shape
        How latencies lie around their mean, for p50 and p99.

    Examples
    --------
    >>> Calibration.named("postgres").measurements.conditions.store
    'postgres'
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    measurements: Measurements
    fit: Fit
    shape: Shape

    @model_validator(mode="after")
    def _has_points(self) -> Self:
        if not usable(self.measurements.points):
            raise ValueError("no point of the measurements is fitted")
        return self

    @classmethod
    def of(cls, measurements: Measurements, name: str) -> Calibration:
        """Fit a sweep.

        Raises
        ------
        UsageError
            When too few points can be used, or they are such that nothing fits them.
        """
        try:
            with np.errstate(all="ignore"):
                fitted = fit(measurements)
                shape = _shape(measurements, fitted)
            return cls(name=name, measurements=measurements, fit=fitted, shape=shape)
        except (ArithmeticError, ValueError) as error:  # points of no cluster: a matrix without inverse, the log of 0
            why = (str(error).splitlines() or [type(error).__name__])[0][:80]
            raise UsageError(
                f"the points of sweep {name!r} fit no cluster ({why})",
                next_step="look for points that are out of place, or sweep again",
            ) from error

    @property
    def demands(self) -> Parameters:
        """What one start takes."""
        return self.fit.demands()

    @property
    def measured_to(self) -> int:
        """The highest parallelism that was fitted."""
        return max(point.parallelism for point in usable(self.measurements.points))

    def of_another_store(self, store: str) -> str | None:
        """Say that it was measured on another store than a cluster's; None where it was not, or nobody knows."""
        swept = self.measurements.conditions.store
        if swept in (store, "unknown") or store == "cloud":
            return None
        return (
            f"calibration {self.name} was measured on {swept}, the cluster is on {store}, where a start costs otherwise"
        )

    def peak(self) -> int | None:
        """Return the parallelism of the highest throughput where the points show that it falls beyond; else None."""
        curve = solve(structure_of(self.measurements.conditions), self.demands, self.measured_to).throughput
        at = int(np.argmax(curve)) + 1
        fall = math.log(curve[at - 1] / curve[-1])
        return at if fall > 2 * self.fit.noise else None

    def not_identified(self) -> list[str]:
        """Return, in words, what the sweep cannot tell, each with the sweep that would."""
        told = dict(zip(NAMES, self.fit.identified, strict=True))
        conditions, advice = self.measurements.conditions, []
        one_connection = conditions.store == "sqlite"
        lock = "the store's connection" if one_connection else "its shard's lock"
        if not told["cpu"] and all(p.server_cpu is None for p in self.measurements.points):
            advice.append(
                "the CPU of a start: it was not measured, and nothing shows whether CPUs or a lock bind; sweep where "
                "server and database run on this machine, or with other CPU counts"
            )
        elif not one_connection and not self.fit.database:
            advice.append(
                "what of a start's CPU is the database's: the CPUs of both are taken as one pool; sweep where the "
                "database runs on this machine"
            )
        if not told["background"]:
            advice.append(
                "how much of a start's CPU is spent after the answer; sweep parallelism 1, 2 and 4 with more repeats"
            )
        if not told["lock"]:
            times = self.measurements.times
            known = times is not None and times.shard_hold is not None and not one_connection
            source = "as the server's own metrics have it" if known else "as typical for the store"
            how = "on more CPUs, until the connection binds" if one_connection else "with fewer shards: --shards 1"
            advice.append(f"how long a start holds {lock} (taken {source}); sweep {how}")
        if not told["lock_waiter"]:
            how = "at more parallelisms up to 256" if one_connection else "with fewer shards at high parallelism"
            advice.append(f"what starts that wait for {lock} cost; sweep {how}")
        if self.peak() is None:
            advice.append(f"where throughput begins to fall: not measured beyond P = {self.measured_to}")
        return advice

    def save(self, path: Path) -> None:
        """Write the file; it replaces an older one whole or not at all."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise CapacityError(
                f"cannot write calibration {path}: {error.strerror}", next_step="pass another path with --out"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file back; one that is none, or of another schema version, is refused in one line."""
        try:
            data = files.json_file(path)
        except (OSError, files.UnreadableError) as error:
            raise UsageError(
                f"cannot read calibration {path}: {files.reason(error)}",
                next_step="make one with 'capacity sweep --out FILE'",
            ) from error
        if isinstance(data, dict) and "points" in data:  # a sweep that ended before it could be fitted
            measurements = _validated(Measurements, data, path)
            try:
                return cls.of(measurements, path.stem)
            except UsageError as error:
                raise UsageError(f"measurements {path}: {error}") from None
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"calibration {path} has schema version {files.shown(version)}",
                allowed=str(SCHEMA_VERSION),
                next_step="read it with the version of capacity that wrote it, or sweep again",
            )
        found = _validated(cls, data, path)
        if "connection_over_lock" not in found.fit.model_fields_set:  # an older file
            share = {"connection_over_lock": connection_over_lock(found.measurements)}
            found = found.model_copy(update={"fit": found.fit.model_copy(update=share)})
        conditions = found.measurements.conditions
        if conditions.shards is None and conditions.store != "sqlite":  # an older file has them fitted as one lock
            return cls.of(found.measurements, found.name)
        if conditions.network_delay:  # in an older file it is stretched with the rest
            with np.errstate(all="ignore"):
                return found.model_copy(update={"shape": _shape(found.measurements, found.fit)})
        return found

    @classmethod
    def named(cls, name: str) -> Calibration:
        """Load a calibration by the name of a shipped one, or by its path."""
        return cls.load(Path(name) if "/" in name or name.endswith(".json") else shipped.path("calibrations", name))

    def to_dict(self) -> dict[str, Any]:
        """Return the file's content as JSON values."""
        return self.model_dump(mode="json")

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know of it, as (name, value)."""
        conditions, demands = self.measurements.conditions, self.demands
        spread = np.sqrt(np.diag(np.array(self.fit.covariance)))
        told = dict(zip(NAMES, zip(spread, self.fit.identified, strict=True), strict=True))

        def time(name: str, seconds: float) -> str:
            width, identified = told[name]
            text = f"{seconds * 1e3:.2f} ms ({_range(seconds * 1e3, width)})"
            return text if identified else f"{text}, not identified by this sweep"

        shared = ", shared with the launcher" if conditions.launcher_shares_cpus else ""
        shards = f", {many(conditions.shards, 'shard')}" if conditions.shards else ""
        rows = [
            ("cluster", f"{conditions.store}, {many(conditions.cluster_cpus, 'CPU')}{shared}{shards}"),
            ("points", f"{len(usable(self.measurements.points))} of {len(self.measurements.points)} fitted"),
            ("CPU per start", time("cpu", demands.cpu)),
            ("after the answer", f"{demands.background:.0%} of it"),
            ("lock held per start", time("lock", demands.lock)),
            ("noise of a point", f"{self.fit.of_a_point:.1%}"),
        ]
        storage = self.measurements.storage
        if storage:
            rows.append(
                ("stored per start", f"{storage.main / 1e3:.1f} kB, visibility {storage.visibility / 1e3:.1f} kB")
            )
        return rows + [("cannot tell", words) for words in self.not_identified()]

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in self.rows()
        )
        return f"<table><caption>Calibration {html.escape(self.name)}</caption>{rows}</table>"


def _validated(kind: type[_Model], data: object, path: Path) -> _Model:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"calibration {path} is damaged: {files.first_of(error.errors())}") from error


def _range(value: float, log_spread: float) -> str:
    return f"{value * math.exp(-1.645 * log_spread):.2f} to {value * math.exp(1.645 * log_spread):.2f}"


def _shape(measurements: Measurements, fitted: Fit) -> Shape:
    points = usable(measurements.points)
    levels = sorted({point.parallelism for point in points})
    structure = structure_of(measurements.conditions)
    network = solve(structure, fitted.demands(), max(levels)).network
    rows: dict[float, list[float]] = {}
    spreads = {}
    for q in (0.5, 0.99):
        # Theory at the measured throughput: the shape shall not make up for an error of the mean.
        theory = dict(zip(levels, network.quantile(q, 0, levels) / network.response[np.array(levels) - 1], strict=True))
        logs: dict[int, list[float]] = {level: [] for level in levels}
        for point in points:
            logs[point.parallelism].append(_log_ratio(point, q, theory[point.parallelism], structure.network_delay))
        rows[q] = [math.exp(float(np.median(values))) for values in logs.values()]
        off = [value - float(np.mean(values)) for values in logs.values() for value in values]
        spreads[q] = math.sqrt((sum(o * o for o in off) + 0.1**2) / max(len(points) - len(levels) + 1, 1))
    return Shape(
        parallelism=tuple(levels),
        p50=tuple(rows[0.5]),
        p99=tuple(rows[0.99]),
        p50_spread=spreads[0.5],
        p99_spread=spreads[0.99],
    )


def _log_ratio(point: Point, q: float, theory: float, delay: float) -> float:
    """Return the logarithm of measured over theoretical quantile, both without the network's delay [s]."""
    measured, expected = point.p50 if q == 0.5 else point.p99, theory * point.parallelism / point.throughput
    return math.log(max(measured - delay, _NOISE * measured) / max(expected - delay, _NOISE * expected))
