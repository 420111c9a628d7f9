"""The record of a run: one JSON file that says what was asked, what happened and what it cost."""

from __future__ import annotations

import csv
import html
import io
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from capacity import files
from capacity.errors import CapacityError, UsageError
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import STOPPED, STOPPED_AT_ONCE
from capacity.model.words import milliseconds
from capacity.observe import vitals_text
from capacity.observe.findings import Finding, findings
from capacity.observe.joining import joined
from capacity.observe.vitals import VitalsSample

SCHEMA_VERSION: Final = 1
Count = Annotated[int, Field(ge=0)]


class LatencySummary(BaseModel):
    """Latency of the starts of a run [s]; None when there were none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, latencies: Latencies) -> LatencySummary:
        if not latencies.count:
            return cls()
        p50, p90, p99 = (latencies.quantile(q) for q in (0.5, 0.9, 0.99))
        return cls(mean=latencies.mean, p50=p50, p90=p90, p99=p99, max=latencies.maximum)


STOPPED_WAITING: Final = "interrupted before the server had counted the batch"
"""In a run's `stopped`: all its items were done by then."""


class RunSample(BaseModel):
    """One line of the time series; latencies [s] are None where no start was answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    at: float
    seconds: float
    starts: int
    throttled: int
    in_flight: int
    limit: int
    p50: float | None
    p99: float | None


class ControllerState(BaseModel):
    """How the launch was controlled, and its last settings; `rate` is what an open loop was asked for [starts/s]."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    asked: str
    limit: int
    pace: float | None
    reason: str
    ramp_seconds: float
    rate: float | None = None


class Run(BaseModel):
    """What became of a batch; the outcomes add up to `count`.

    ``scheduled`` counts starts of all sessions of the run's journal, ``session_scheduled`` those of this one; rates,
    latencies, attempts, CPU and memory are of this session. Times in seconds, sizes in bytes. With several launcher
    ``processes`` CPU and memory are those of all together, ``process_rss_bytes_max`` is what each of them had.

    Attributes
    ----------
    count, scheduled, already_running, already_finished, failed, not_attempted : int
        Items of the batch, and what became of them.
    verified : int, optional
        Runs of the batch that the server counts; None where it was not asked.
    duration_seconds : float
        From the first attempt to the last answer [s].
    starts_per_second, sustained_starts_per_second : float
        Starts that created a run; without burst and ramp, None where the run was too short [1/s].
    latency_seconds : LatencySummary
        From the intended moment of a start to its answer [s].
    cpu_seconds, rss_bytes_max : float, int
        What the launcher used [s], and the most memory it held [bytes].

    `Run.load` reads the record that a launch kept, ``Run.load(Path("baseline.json")).latency_seconds.p99``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = SCHEMA_VERSION
    run_id: str
    started_at: str
    address: str
    namespace: str
    server_version: str
    batch: dict[str, Any]
    count: Annotated[int, Field(ge=1)]
    scheduled: Count
    session_scheduled: Count
    already_running: Count
    already_finished: Count
    failed: Count
    not_attempted: Count
    verified: Count | None = None
    completed: Count | None = None
    duration_seconds: float
    starts_per_second: float
    sustained_starts_per_second: float | None
    latency_seconds: LatencySummary
    latency_histogram: str
    parallelism: Count
    controller: ControllerState
    attempts: Count
    throttled_attempts: Count
    throttle_cause: str | None
    throttle_scope: str | None
    retries: dict[str, int]
    errors: dict[str, int]
    cpu_seconds: float
    rss_bytes_max: Count
    processes: int = 1
    process_rss_bytes_max: list[int] = []
    journal: str | None
    stopped: str = ""
    error: str | None = None
    warnings: list[str] = []
    series: list[RunSample] = []
    vitals: list[VitalsSample] = []

    @property
    def in_place(self) -> int:
        """Items that exist on the server by its own answers."""
        return self.scheduled + self.already_running + self.already_finished

    @property
    def interrupted(self) -> bool:
        """Whether the user ended it early; a fleet's batch can also be stopped by another."""
        return self.stopped in (STOPPED, STOPPED_AT_ONCE) and self.error is None

    @property
    def complete(self) -> bool:
        """Whether every item is in place, and was found by the server where that was asked."""
        found = self.verified in (None, self.count) and self.completed in (None, self.scheduled)
        return self.in_place == self.count and found and self.error is None

    def findings(self) -> list[Finding]:
        """Return what was in the way, as far as it was watched."""
        return findings(self.vitals, self)

    def latencies(self) -> Latencies:
        """Return the histogram of the starts' latencies."""
        try:
            return Latencies.decode(self.latency_histogram)
        except files.UnreadableError as error:
            raise UsageError(f"record of run {self.run_id}: latency_histogram {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return self.model_dump(mode="json")

    def save(self, path: Path) -> None:
        """Write the record; it replaces an older one whole or not at all."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise CapacityError(
                f"cannot write record {path}: {error.strerror}", next_step="pass another path"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a record back; a file that is none, or of another schema version, is refused in one line."""
        try:
            data = files.json_file(path)
        except (OSError, files.UnreadableError) as error:
            raise UsageError(
                f"cannot read record {path}: {files.reason(error)}", next_step="pass a file written by --record"
            ) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise UsageError(
                f"record {path} has schema version {files.shown(version)}",
                allowed=str(SCHEMA_VERSION),
                next_step="read it with the version of capacity that wrote it, or run the launch again",
            )
        try:
            run = cls.model_validate(data)
            run.latencies()
        except ValidationError as error:
            raise UsageError(f"record {path} is damaged: {files.first_of(error.errors())}") from error
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        return run

    def to_csv(self) -> str:
        """Return the time series as CSV."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(RunSample.model_fields)
        writer.writerows(sample.model_dump().values() for sample in self.series)
        return out.getvalue()

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        outcomes = [f"{self.scheduled:,} started"]
        for value, what in (
            (self.already_running, "already running"),
            (self.already_finished, "already finished"),
            (self.failed, "failed"),
            (self.not_attempted, "not attempted"),
        ):
            if value:
                outcomes.append(f"{value:,} {what}")
        rows = [("outcome", ", ".join(outcomes) + f" of {self.count:,}")]
        if self.errors:
            rows.append(("failures", ", ".join(f"{n:,} {kind}" for kind, n in self.errors.items())))
        rate = f"{self.starts_per_second:,.0f} starts/s over {self.duration_seconds:,.1f} s"
        if self.sustained_starts_per_second is not None:
            rate += f"; sustained {self.sustained_starts_per_second:,.0f}/s"
        rows.append(("throughput", rate))
        latency = self.latency_seconds
        parts = [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("max", latency.max)]
        known = [f"{name} {milliseconds(value)}" for name, value in parts if value is not None]
        if known:
            rows.append(("latency", ", ".join(known)))
        rows.append(("in flight", f"{self.controller.limit} ({self.controller.asked})"))
        if self.throttled_attempts:
            rows.append(("throttled", throttling(self)))
        others = {kind: n for kind, n in self.retries.items() if kind != self.throttle_cause}
        if others:
            rows.append(("retried", ", ".join(f"{n:,} {kind}" for kind, n in others.items())))
        each = f", {self.cpu_seconds / self.session_scheduled * 1e6:,.0f} µs a start" if self.session_scheduled else ""
        rows.append(("launcher", f"{self.cpu_seconds:.1f} s CPU{each}, {vitals_text.mebibytes(self.rss_bytes_max)}"))
        if self.vitals and (cluster := vitals_text.line(joined(self.vitals))):
            rows.append(("cluster", cluster))
        rows += [("in the way", str(finding)) for finding in self.findings()]
        if self.completed is not None:
            rows.append(("completed", f"{self.completed:,} of {self.scheduled:,}"))
        if self.journal:
            rows.append(("journal", self.journal))
        rows += [("warning", warning) for warning in self.warnings]
        return rows

    def verification(self) -> str:
        """Return in words whether the server holds the batch."""
        if self.verified is None:
            return "not verified: the server was not asked"
        return f"verified {self.verified:,} of {self.count:,}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in [*self.rows(), ("server's count", self.verification())]
        )
        return f"<table><caption>Run {html.escape(self.run_id)} on {html.escape(self.address)}</caption>{rows}</table>"


_KEYS = {
    ("RPS_LIMIT", "NAMESPACE"): "frontend.namespaceRPS (or frontend.globalNamespaceRPS)",
    ("RPS_LIMIT", "SYSTEM"): "frontend.rps or history.rps",
    ("CONCURRENT_LIMIT", "NAMESPACE"): "frontend.namespaceCount",
    ("PERSISTENCE_LIMIT", "NAMESPACE"): "history.persistenceNamespaceMaxQPS or frontend.persistenceNamespaceMaxQPS",
    ("PERSISTENCE_LIMIT", "SYSTEM"): "history.persistenceMaxQPS or frontend.persistenceMaxQPS",
    ("SYSTEM_OVERLOADED", "SYSTEM"): "history hosts: their tasks or the database are overloaded",
    ("APS_LIMIT", "NAMESPACE"): "actions per second of the namespace (Temporal Cloud)",
    ("OPS_LIMIT", "NAMESPACE"): "operations per second of the namespace (Temporal Cloud)",
}


def throttling(run: Run) -> str:
    """Return the cause, scope and likely configuration key of a run's throttling."""
    share = run.throttled_attempts / max(run.attempts, 1)
    words = f"{run.throttled_attempts:,} attempts ({share:.1%}): {run.throttle_cause}, scope {run.throttle_scope}"
    key = _KEYS.get((run.throttle_cause or "", run.throttle_scope or ""))
    return f"{words}; likely key: {key}" if key else words
