"""The original's checklist on a run's record: each limit passed, failed or not measured.

Invariants: not measured is never a pass; only a failed critical check decides the exit code; every check carries its
value, its limit and where the limit is from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from capacity.errors import UsageError
from capacity.observe.run import Run
from capacity.verdict.alerts import ALERTS
from capacity.verdict.measured import COVERED, measured
from capacity.verdict.reality import reality
from capacity.verdict.thresholds import Threshold, quantity

if TYPE_CHECKING:
    from capacity.model.calibration import Calibration
    from capacity.model.cluster import Cluster

State = Literal["pass", "fail", "not measured"]
REAL: Final = "Is the throughput real?"
LIMITS: Final = "Limits"
_OF_THE_LAUNCHER: Final = ("launcher_cpu",)
"""Limits that belong to the question whether the throughput is the cluster's."""
_ADVICE: Final = {
    "launcher_cpu": "The launcher itself is what bound, not the cluster: launch from more processes or from another "
    "machine, then check that run.",
    "verified": "The server does not hold what it said it started: launch the same batch with --resume, look at the "
    "server's log, and quote no figure of this run.",
    "starts_only": "Quote no throughput of this run: its rate does not stand for starts that it made.",
    "longer_than_burst": "Quote no throughput of this run: launch for longer, or raise the limit that is named.",
}
"""What to do about what no alert watches."""


@dataclass(frozen=True)
class Check:
    """One line of the checklist.

    Parameters
    ----------
    key, title, group : str
        Its name for programs, for people, and where it stands.
    state : str
        ``pass``, ``fail`` or ``not measured``.
    severity : str
        ``critical``, ``warning`` or ``info``.
    value, limit : float, optional
        In `unit`; None where there is no figure.
    bound, unit, source : str
        On which side of the limit the value must stay, the unit of both, who set the limit.
    window : float
        For how long the limit must be crossed [s]; 0 for a figure of the whole run.
    why : str
        The figures behind it, or why it was not measured.
    baseline_value : float, optional
        The same of the baseline run.
    """

    key: str
    title: str
    group: str
    state: State
    severity: str
    value: float | None
    limit: float | None
    bound: str
    unit: str
    source: str
    window: float
    why: str
    baseline_value: float | None = None

    @property
    def shown_value(self) -> str:
        """The value for people."""
        return quantity(self.value, self.unit)

    @property
    def shown_limit(self) -> str:
        """The limit for people, with its window."""
        if self.limit is None:
            return ""
        sign = ">=" if self.bound == "at least" else "<="
        window = f", {self.window:g} s" if self.window else ""
        return f"{sign} {quantity(self.limit, self.unit)}{window}"

    @property
    def explanation(self) -> str:
        """What a person wants to know beside the figures."""
        parts = [self.why]
        if self.baseline_value is not None:
            parts.append(f"baseline run: {quantity(self.baseline_value, self.unit)}")
        if self.state == "fail" and self.source:
            parts.append(f"limit set by {self.source}")
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Checklist:
    """The checks of one run.

    Parameters
    ----------
    run_id, address : str
        The run, and what it was launched at.
    checks : tuple of Check
        In the order in which they are shown.
    predicted : float, optional
        What the model predicts for it [starts/s].
    baseline_id : str, optional
        The run it was compared with.
    """

    run_id: str
    address: str
    checks: tuple[Check, ...]
    predicted: float | None = None
    baseline_id: str | None = None

    def of(self, state: str, severity: str | None = None) -> tuple[Check, ...]:
        """Return the checks in a state, of one severity or of all."""
        return tuple(c for c in self.checks if c.state == state and severity in (None, c.severity))

    @property
    def verdict(self) -> str:
        """``fail``: a critical check failed; ``incomplete``: one was not measured; else ``pass``."""
        if self.of("fail", "critical"):
            return "fail"
        return "incomplete" if self.of("not measured", "critical") else "pass"

    @property
    def exit_code(self) -> int:
        """1 when a critical check failed, else 0."""
        return 1 if self.verdict == "fail" else 0

    def sentence(self) -> str:
        """Return the verdict in words."""
        failed, missing = self.of("fail", "critical"), self.of("not measured", "critical")
        warned = self.of("fail", "warning")
        more = f"; {len(warned)} warning{'s' if len(warned) > 1 else ''}: {_titles(warned)}" if warned else ""
        unknown = f"; not measured: {_titles(missing)}" if missing else ""
        if failed:
            return f"FAIL: {_titles(failed)}{unknown}{more}"
        if missing:
            return f"NOT A PASS: no critical check failed{unknown}{more}"
        return f"PASS: all {len(self.of('pass', 'critical'))} critical checks hold{more}"

    def advice(self) -> list[tuple[str, str]]:
        """Return for each failed critical check its title and what to do, as the alert on the same limit says it."""
        known = {alert.threshold: alert.runbook for alert in reversed(ALERTS)} | _ADVICE
        return [(c.title, known[c.key]) for c in self.of("fail", "critical") if c.key in known]

    def to_frame(self) -> list[dict[str, Any]]:
        """Return one row per check, as plain values: what a data frame is made from."""
        return [asdict(check) for check in self.checks]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "run_id": self.run_id,
            "address": self.address,
            "baseline": self.baseline_id,
            "predicted_starts_per_second": self.predicted,
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "advice": dict(self.advice()),
            "checks": self.to_frame(),
        }

    def _repr_html_(self) -> str:
        from capacity.verdict.report import as_html

        return as_html(self)


def check(
    run: Run,
    limits: Sequence[Threshold],
    *,
    baseline: Run | None = None,
    predicted: float | None = None,
    cluster: Cluster | None = None,
) -> Checklist:
    """Hold a run to its limits.

    Parameters
    ----------
    run : Run
        The record.
    limits : sequence of Threshold
        As `capacity.verdict.thresholds.thresholds` returns them.
    baseline : Run, optional
        An earlier run, for what is a difference, and to show beside.
    predicted : float, optional
        What the model predicts for this run [starts/s], see `predicted_rate`.
    cluster : Cluster, optional
        Whose configured limits tell how large a burst is.

    Returns
    -------
    Checklist
    """
    predicted = predicted if predicted is not None and math.isfinite(predicted) else None
    checks = [
        _answered(question.key, question.title, question.answer, question.why) for question in reality(run, cluster)
    ]
    unknown = "name the calibration to predict by"
    if cluster is not None and cluster.store == "cloud":
        unknown = f"the CPUs of {cluster.name} are not known"
    compared = [_compared(limit, run, baseline, predicted, unknown) for limit in limits]
    checks += [each for each in compared if each.group == REAL]
    checks += [each for each in compared if each.group == LIMITS]
    return Checklist(run.run_id, run.address, tuple(checks), predicted, baseline.run_id if baseline else None)


def predicted_rate(run: Run, calibration: Calibration, cluster: Cluster | None = None) -> float:
    """Return the throughput the model predicts for how a run was controlled [starts/s].

    An open loop takes as few in flight as give its rate; where none do, all that it may are in flight.

    Raises
    ------
    UsageError
        If the cluster's CPUs are not known: nothing can be predicted of it then.
    """
    from capacity.model.network import MAXIMUM_PARALLELISM
    from capacity.model.prediction import predict

    if cluster is not None and cluster.store == "cloud":
        raise UsageError(
            f"cluster {cluster.name}: its CPUs are not known, and so not what it gives",
            next_step="name no calibration: its limits are checked without",
        )
    at = min(max(run.parallelism, 1), MAXIMUM_PARALLELISM)
    rate = run.controller.rate
    flights = (at,) if rate is None else tuple(range(1, at + 1))
    found = predict(calibration, flights, cluster=cluster, batch=max(run.count, 1), draws=0).throughput.value
    return float(found[-1]) if rate is None or found.max() < rate else rate


def _answered(key: str, title: str, answer: bool | None, why: str) -> Check:
    state: State = "not measured" if answer is None else "pass" if answer else "fail"
    return Check(key, title, REAL, state, "critical", None, None, "", "", "", 0.0, why)


def _compared(threshold: Threshold, run: Run, baseline: Run | None, predicted: float | None, unknown: str) -> Check:
    group = REAL if threshold.key in _OF_THE_LAUNCHER else LIMITS
    found = measured(threshold, run, baseline)
    limit: float | None = threshold.limit
    unit, why = threshold.unit, found.why
    if threshold.relative_to == "prediction":
        unit = "starts/s"
        share = f"{threshold.limit:.0%} of the prediction"
        limit = None if predicted is None else threshold.limit * predicted
        if predicted is None:
            why = f"nothing was predicted: {unknown}"
        elif not why:
            why = f"{share}, {quantity(predicted, unit)}"
    if threshold.per is not None and limit is not None:
        limit = limit * run.session_scheduled / threshold.per
        if found.value is not None:
            why = f"{why}; the limit is {quantity(threshold.limit, unit)} for {threshold.per:,}"
    state: State = "not measured"
    if found.value is not None and math.isfinite(found.value) and limit is not None:
        state = "fail" if threshold.crossed(found.value, limit) else "pass"
        if state == "pass" and found.covered < COVERED:
            state, why = "not measured", f"only {found.covered:.0%} of the run was measured"
    if state != "not measured":
        why = "; ".join(part for part in (why, threshold.history) if part)
    before = None if baseline is None or threshold.figure == "memory_overhead" else measured(threshold, baseline).value
    return Check(
        threshold.key,
        threshold.title,
        group,
        state,
        threshold.severity,
        found.value,
        limit,
        threshold.bound,
        unit,
        threshold.source,
        threshold.window,
        why,
        before,
    )


def _titles(checks: Sequence[Check]) -> str:
    return ", ".join(
        f"{check.title} {check.shown_value}" if check.state == "fail" and check.value is not None else check.title
        for check in checks
    )
