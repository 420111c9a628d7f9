"""`capacity alerts`: the thresholds as Prometheus rules, and a Grafana dashboard."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from capacity.cli.check import Thresholds
from capacity.cli.options import CalibrationOfCluster, ClusterName, Cpus, OptionalParallelism, in_flight_on, refuse


class Format(StrEnum):
    """What to print."""

    PROMETHEUS = "prometheus"
    GRAFANA = "grafana"


def alerts(
    thresholds: Thresholds = None,
    cluster: ClusterName = None,
    calibration: CalibrationOfCluster = None,
    parallelism: OptionalParallelism = None,
    cpus: Cpus = None,
    format: Annotated[Format, typer.Option(help="Rules, or a dashboard, which is JSON.")] = Format.PROMETHEUS,
) -> None:
    """Print the thresholds as Prometheus rules or a Grafana dashboard.

    Rules are for our metrics (launch --metrics-port), Temporal's, and those of
    postgres_exporter and node_exporter. With --cluster there is one more, for a
    share of what is predicted there with --parallelism in flight, which 4x makes
    of --cpus.

    Example: capacity alerts > capacity-rules.yml
    """
    from capacity.verdict.thresholds import thresholds as loaded

    limits = loaded(thresholds)
    if format is Format.GRAFANA:
        given = {"--cluster": cluster, "--calibration": calibration, "--parallelism": parallelism, "--cpus": cpus}
        refuse(given, "does not go with --format grafana", "a dashboard has no rule for a prediction")
    if cluster is None:
        given = {"--calibration": calibration, "--parallelism": parallelism, "--cpus": cpus}
        refuse(given, "needs a cluster", "pass --cluster postgres-dev, or a file of your own")
    if format is Format.GRAFANA:
        from capacity.verdict.dashboard import grafana

        print(json.dumps(grafana(limits), indent=2))
        return
    from capacity.verdict.alert_rules import prometheus

    foretold = _predicted(cluster, calibration, parallelism or "4x", cpus) if cluster is not None else (None, "")
    print(prometheus(limits, *foretold), end="")


def _predicted(cluster: str, calibration: str | None, parallelism: str, cpus: int | None) -> tuple[float, str]:
    """Return the starts per second that are predicted, and of what."""
    from capacity.cli.plan import described_and_measured
    from capacity.model.prediction import predict

    at = in_flight_on(parallelism, cpus)
    described, measured = described_and_measured(cluster, calibration)
    rate = float(predict(measured, (at.value,), cluster=described, draws=0).throughput.value[0])
    return rate, f"{described.name} with {at.value:,} in flight ({at.reason})"
