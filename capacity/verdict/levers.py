"""What would make starts faster or cheaper on a live stack, by how much as the model sees it, largest first.

The model's demands are the calibration's, their CPU set to what the load measured here. An unused index costs the
INSERT into visibility a share of its time, each index the same, of which a part is CPU, not waiting:

    saved = PART x seconds(INSERT) x unused / (indexes + ROW)

Source of PART and `DOUBT`: two stacks with 74 visibility indexes, before and after the unused ones were dropped. One
lost 10 to 15 % of 3.0 ms of database CPU where the INSERT took 0.9 ms (temporal-facts.md, section 1), the other
18 % of 7.7 ms, of which half is noise, where it took 1.4 ms: a PART of 0.5 and of 1. 0.75 is their middle, and
DOUBT has both.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from scipy.special import logit

from capacity.experiment.pressure import Index, Pressure
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.measurement import StatementShare
from capacity.model.network import solve
from capacity.model.prediction import configured_rate, structure_for
from capacity.model.what_if import doubled, what_if
from capacity.model.words import number, size, statement
from capacity.observe.server import GAUGES_RENEWED
from capacity.verdict.confirmation import confirmation

PART: Final = 0.75
"""Share of the INSERT's time that is CPU."""
ROW: Final = 10
"""What the row itself, its parsing and its commit cost, in indexes."""
DOUBT: Final = (0.6, 1.4)
"""How far the estimate of what an index costs may be off, as factors."""
NOTHING: Final = 0.005
"""A gain below this is none."""


@dataclass(frozen=True)
class Lever:
    """Something that can be changed.

    Parameters
    ----------
    key : str
        ``indexes``, ``launcher``, or a field of the cluster's description.
    change : str
        In words.
    gain, gain_low, gain_high : float
        Of throughput by the model, a fraction.
    cpu : float
        CPU that each start no longer takes [s].
    bytes : float
        Bytes that each start no longer takes.
    binding : str
        What binds then.
    confirmed : str
        What comparisons showed; empty where there was none.
    wanted : float, optional
        What it is changed to, where that is a number.
    """

    key: str
    change: str
    gain: float
    gain_low: float
    gain_high: float
    cpu: float = 0.0
    bytes: float = 0.0
    binding: str = ""
    confirmed: str = ""
    wanted: float | None = None


@dataclass(frozen=True)
class Levers:
    """Where a start's time goes, and what would lessen it.

    Parameters
    ----------
    pressure : Pressure
    cluster : Cluster
    calibration : str
    levers : tuple of Lever
        Largest gain first; none where the number in flight is not known, which the model goes by.
    """

    pressure: Pressure
    cluster: Cluster
    calibration: str
    levers: tuple[Lever, ...]

    @property
    def unused(self) -> tuple[Index, ...]:
        """Visibility indexes that nobody uses."""
        return self.pressure.unused

    @property
    def statements(self) -> tuple[str, ...]:
        """SQL that drops them: to be run by a person, in visibility's database."""
        return tuple(index.drop for index in self.unused)

    def spent(self) -> list[tuple[str, str]]:
        """Return where a start's time and bytes go, as (name, words)."""
        p = self.pressure
        flight = "an unknown number" if p.in_flight is None else f"{p.in_flight:,.0f}"
        rows = [("load", f"{p.throughput:,.0f} starts/s at {flight} in flight, {p.starts:,} starts")]
        cpu = {"server": p.server_cpu, "database": p.database_cpu, "launcher": p.launcher_cpu}
        known = {name: seconds for name, seconds in cpu.items() if seconds is not None}
        if known:
            parts = [
                f"{name} {seconds * 1e3:.2f} ms ({seconds / sum(known.values()):.0%})"
                for name, seconds in known.items()
            ]
            rows.append(("CPU of a start", ", ".join(parts)))
        if p.storage.statements:
            first = p.storage.statements[:3]
            total = sum(each.seconds_per_start / each.share for each in first[:1] if each.share)
            told = "; ".join(f"{each.share:.0%} {statement(each.query)}" for each in first)
            rows.append(("statements", f"{total * 1e3:.2f} ms a start, CPU waits included: {told}"))
        else:
            rows.append(("statements", "not measured: pg_stat_statements is not there"))
        rows.append(("shard waits", _wait(p.shard_wait)))
        rows.append(("pools", _pools(p.pools)))
        waits = sorted(p.waits.items(), key=lambda each: -each[1])[:3]
        told = ", ".join(f"{name} {mean:.1f}" for name, mean in waits if mean >= 0.05)
        rows.append(("database waits", f"{told} (processes, on average)" if told else "none seen"))
        unused, kept = (sum(i.per_start for i in p.indexes if i.unused is which) for which in (True, False))
        rows.append(
            (
                "bytes of a start",
                f"main {size(p.storage.main)}, visibility {size(p.storage.visibility)}, of which unused indexes "
                f"{size(unused)} and others {size(kept)}",
            )
        )
        return rows

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table for people: a heading and a row per lever."""
        rows: list[tuple[str, ...]] = [("change", "starts/s", "interval", "CPU", "bytes", "then the limit is")]
        for lever in self.levers:
            low, high = round(lever.gain_low * 100), round(lever.gain_high * 100)
            cpu = f"-{lever.cpu * 1e3:.2f} ms" if lever.cpu else ""
            saved = f"-{size(lever.bytes)}" if lever.bytes else ""
            rows.append((lever.change, f"{round(lever.gain * 100):+d}%", f"{low} to {high}", cpu, saved, lever.binding))
        return rows

    def summary(self) -> str:
        """Return in a sentence or two what buys most."""
        if self.pressure.in_flight is None:
            return (
                "What each change would buy cannot be told: how many starts are in flight is not known, since the "
                "server's metrics page did not say how long one takes."
            )
        words = []
        best = max(self.levers, key=lambda lever: lever.gain, default=None)
        if best is not None and best.gain >= NOTHING:
            words.append(f"Most throughput: {best.change}, {best.gain:+.0%} by the model.")
        else:
            words.append("None of these changes buys throughput, by the model.")
        saving = max(self.levers, key=lambda lever: lever.bytes, default=None)
        if saving is not None and saving.bytes > 0:
            total = self.pressure.storage.main + self.pressure.storage.visibility
            cpu = sum(c or 0.0 for c in (self.pressure.server_cpu, self.pressure.database_cpu))
            of_cpu = f" and {saving.cpu / cpu:.0%} of its CPU" if cpu else ""
            words.append(f"Most storage: {saving.change}, {saving.bytes / total:.0%} of a start's bytes{of_cpu}.")
        return " ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        pressure = asdict(replace(self.pressure, storage=None))  # type: ignore[arg-type]  # pydantic's own below
        pressure |= {"storage": self.pressure.storage.model_dump(mode="json")}
        return {
            "summary": self.summary(),
            "calibration": self.calibration,
            "cluster": self.cluster.to_dict(),
            "levers": [asdict(lever) for lever in self.levers],
            "unused_indexes": [asdict(index) for index in self.unused],
            "statements": list(self.statements),
            "pressure": pressure,
        }

    def _repr_html_(self) -> str:
        head, *rows = self.rows()
        top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(name)}: {html.escape(words)}</li>" for name, words in self.spent())
        return f"<table><caption>{html.escape(self.summary())}</caption><tr>{top}</tr>{body}</table><ul>{notes}</ul>"


def levers(
    pressure: Pressure, cluster: Cluster, calibration: Calibration, comparisons: Sequence[Mapping[str, Any]] = ()
) -> Levers:
    """Say what each change would buy.

    Parameters
    ----------
    pressure : Pressure
        What a load met.
    cluster : Cluster
        What the stack has.
    calibration : Calibration
        What a start costs, but for its CPU, which was measured here.
    comparisons : sequence of mappings
        JSON of `capacity compare`, to see which of them it confirmed.
    """
    if pressure.in_flight is None:
        return Levers(pressure, cluster, calibration.name, ())
    here = measured_here(calibration, pressure)
    flight = min(512, max(1, round(pressure.in_flight)))
    changes = doubled(cluster)
    if cluster.launcher_shares_cores:
        changes.append({"launcher_shares_cores": False})
    found = []
    for change, row in zip(changes, what_if(here, cluster, changes, flight).rows[1:], strict=True):
        (key,) = change
        value = change[key]
        wanted = float(value) if isinstance(value, int) and not isinstance(value, bool) else None
        words, cpu = row.change.replace("_", " "), 0.0
        if key == "launcher_shares_cores":
            key, words, cpu = "launcher", "launcher on CPUs of its own", pressure.launcher_cpu or 0.0
        found.append(Lever(key, words, row.gain, row.gain_low, row.gain_high, cpu, 0.0, row.binding, wanted=wanted))
    if pressure.unused:
        found.append(_indexes(pressure, cluster, here, flight))
    found = [replace(lever, confirmed=confirmation(lever, comparisons)) for lever in found]
    found.sort(key=lambda lever: (-round(lever.gain, 3), -lever.bytes, -lever.cpu))
    return Levers(pressure, cluster, calibration.name, tuple(found))


def measured_here(calibration: Calibration, pressure: Pressure) -> Calibration:
    """Return a calibration with the CPU per start that the load measured, where it could."""
    if not pressure.server_cpu or not pressure.database_cpu:
        return calibration
    return _with_cpu(calibration, pressure.server_cpu + pressure.database_cpu, calibration.demands.background)


def saved_cpu(pressure: Pressure) -> float:
    """Return the CPU that a start no longer takes without the unused indexes [s]."""
    insert = visibility_insert(pressure.storage.statements)
    if insert is None or not pressure.indexes:
        return 0.0
    saved = PART * insert.seconds_per_start * len(pressure.unused) / (len(pressure.indexes) + ROW)
    return saved if pressure.database_cpu is None else min(saved, 0.5 * pressure.database_cpu)


def visibility_insert(statements: Sequence[StatementShare]) -> StatementShare | None:
    """Return the statement that writes visibility's row; None where it is not among the longest."""
    return next((s for s in statements if "insert into executions_visibility" in s.query.lower()), None)


def _indexes(pressure: Pressure, cluster: Cluster, here: Calibration, flight: int) -> Lever:
    structure = structure_for(cluster)
    # Where the load did not tell what CPU the database takes, at most half of what the calibration has for it.
    saved = min(saved_cpu(pressure), 0.5 * here.demands.cpu * (here.demands.database or 1.0))
    cap = configured_rate(cluster)
    limit = cap.rate if cap is not None else math.inf

    def throughput(cpu: float) -> float:
        demands = here.demands
        # Visibility is written after the answer.
        after = max(demands.background * demands.cpu - cpu, 0.01 * demands.cpu)
        changed = replace(demands, cpu=demands.cpu - cpu, background=after / (demands.cpu - cpu))
        return min(float(solve(structure, changed if cpu else demands, flight).throughput[-1]), limit)

    now = throughput(0.0)
    middle, low, high = (throughput(saved * factor) / now - 1 for factor in (1.0, *DOUBT))
    return Lever(
        "indexes",
        f"without {len(pressure.unused)} unused indexes",
        middle,
        low,
        high,
        saved,
        sum(index.per_start for index in pressure.unused),
        "",
    )


def _with_cpu(calibration: Calibration, cpu: float, background: float) -> Calibration:
    values = list(calibration.fit.values)
    values[0], values[1] = math.log(cpu), float(np.asarray(logit(background)))
    return calibration.model_copy(update={"fit": calibration.fit.model_copy(update={"values": tuple(values)})})


def _wait(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{seconds * 1e3:.2f} ms for its shard, on average"


def _pools(pools: Mapping[str, tuple[int, int]]) -> str:
    if not pools:
        return f"not measured: a server tells them once a minute, so a load of {GAUGES_RENEWED + 1:.0f} s has them"
    full = {name: pair for name, pair in pools.items() if pair[1] and pair[0] >= 0.9 * pair[1]}
    name, (used, most) = max(pools.items(), key=lambda each: each[1][0] / max(each[1][1], 1))
    words = f"{name} had most in use, {used} of {number(most)}"
    return f"{words}: full" if full else f"{words}: none is full"
