"""The alerts as Prometheus rules: limits, severities and waiting times are the thresholds'.

What has no live metric has no rule, and an alert whose limit no histogram tells never fires: the file names both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from capacity.verdict.alerts import ALERTS, POSTGRES_NODES, RATE, RATE_MINUTES, SCHEDULER
from capacity.verdict.thresholds import Threshold, quantity

LONGEST: Final = 1000.0
"""Last bound of the histograms, ours and a Temporal server's [s]: nothing above it can be read from them."""
BLIND: Final = "not-measured"
"""Group of the rules on what is not there to be watched."""

_SHOW: Final = {
    "starts/s": "{{ $value | humanize }}/s",
    "share": "{{ $value | humanizePercentage }}",
    "s": "{{ $value | humanizeDuration }}",
    "count": "{{ $value | humanize }}",
}

_BLIND: Final = (
    (
        "TemporalNotMeasured",
        "service_requests",
        "No Temporal metrics",
        " A server with framework: opentelemetry has these names with withoutUnitSuffix, withoutCounterSuffix and "
        "recordTimerInSeconds: true.",
    ),
    ("PostgresNotMeasured", "pg_settings_max_connections", "No postgres_exporter metrics", ""),
    (
        "PostgresCpuNotMeasured",
        f'node_cpu_seconds_total{{job="{POSTGRES_NODES}",mode="idle"}}',
        "No CPU of PostgreSQL's hosts",
        "",
    ),
)
"""A metric that is missing fires no alert of its own, so its absence has one: name, metric, words, what else to do."""
BLIND_FOR: Final = 300


@dataclass(frozen=True)
class Rule:
    """One alerting rule as Prometheus reads it."""

    name: str
    group: str
    expression: str
    seconds: float
    severity: str
    threshold: str
    summary: str
    description: str

    def lines(self) -> list[str]:
        """Return it as YAML; texts are quoted as JSON, which YAML reads."""
        return [
            f"  - alert: {self.name}",
            f"    expr: {json.dumps(self.expression)}",
            f"    for: {self.seconds:.0f}s",
            "    labels:",
            f"      severity: {self.severity}",
            f"      threshold: {self.threshold}",
            "    annotations:",
            f"      summary: {json.dumps(self.summary)}",
            f"      description: {json.dumps(self.description)}",
        ]


def rules(limits: Sequence[Threshold], predicted: float | None = None, of: str = "") -> tuple[Rule, ...]:
    """Return the rules of the thresholds.

    The rate of a launch that has just begun is taken over more time than there was, so it is too low: what may not
    fall below a limit waits at least as long as rates are over.

    Parameters
    ----------
    limits : sequence of Threshold
    predicted : float, optional
        What the model predicts [starts/s]; without it there is no rule for a share of the prediction.
    of : str
        Of which cluster and parallelism, for the rule's words; empty where it goes without saying.
    """
    by_key = {threshold.key: threshold for threshold in limits}
    found = []
    for alert in ALERTS:
        threshold = by_key[alert.threshold]
        limit, unit, basis = threshold.limit, threshold.unit, ""
        if threshold.relative_to == "prediction":
            if predicted is None:
                continue
            basis = f" Predicted: {quantity(predicted, 'starts/s')} of {_literal(of)}." if of else ""
            limit, unit = limit * predicted, "starts/s"
        sign, word = ("<", "below") if threshold.bound == "at least" else (">", "above")
        words = f"{word} {quantity(limit, unit)}"
        seconds = threshold.alert_for
        if threshold.bound == "at least":
            seconds = max(seconds, 60.0 * RATE_MINUTES)
        found.append(
            Rule(
                alert.name,
                alert.group,
                f"{alert.figure} {sign} {limit:.10g}",
                seconds,
                threshold.severity,
                threshold.key,
                f"{_literal(threshold.title[0].upper() + threshold.title[1:])}: {_SHOW[unit]}, {words}",
                f"{alert.runbook} Limit set by {_literal(threshold.source)}.{basis}",
            )
        )
    for name, series, what, more in _BLIND:
        description = f"{what} for {BLIND_FOR} s: the alerts on them cannot fire. "
        description += f"Look at the scrape job and its target.{more}"
        found.append(Rule(name, BLIND, f"absent({series})", BLIND_FOR, "warning", "none", what, description))
    return tuple(found)


def _literal(text: str) -> str:
    """Return a text in which Prometheus sees no template of its own."""
    return text.replace("{{", '{{"{{"}}')


def prometheus(limits: Sequence[Threshold], predicted: float | None = None, of: str = "") -> str:
    """Return the rules as a file for Prometheus' ``rule_files``; see `rules`."""
    found = rules(limits, predicted, of)
    without = [threshold for threshold in limits if threshold.key not in {rule.threshold for rule in found}]
    foretold = [threshold.key for threshold in without if threshold.relative_to == "prediction" and predicted is None]
    unseen = [threshold.key for threshold in without if threshold.key not in foretold]
    endless = {threshold.key for threshold in limits if threshold.limit >= LONGEST}
    mute = [alert.name for alert in ALERTS if alert.threshold in endless and "histogram_quantile" in alert.figure]
    lines = [
        "# Alerting rules by 'capacity alerts'; check them with 'promtool check rules FILE'.",
        f"# Scrape all at least once a minute: rates are over {RATE}, and one of their scrapes may be lost.",
        f"# Scrape node_exporter of PostgreSQL's hosts as job {POSTGRES_NODES}, a Go scheduler as job {SCHEDULER}.",
        f"# No rule, since no live metric has it ('capacity check' reads it from a run): {', '.join(unseen)}.",
        *(f"# No rule without a prediction, for which --cluster names the cluster: {key}." for key in foretold),
        *(f"# Never fires, as no histogram tells more than {LONGEST:,.0f} s: {name}." for name in mute),
        "groups:",
    ]
    for group in dict.fromkeys(rule.group for rule in found):
        lines += [f"- name: {group}", "  rules:"]
        for rule in found:
            if rule.group == group:
                lines += rule.lines()
    return "\n".join(lines) + "\n"
