"""`capacity alerts`: the thresholds as Prometheus rules, and a Grafana dashboard."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from capacity.cli.check import Thresholds
from capacity.errors import UsageError


class Format(StrEnum):
    """What to print."""

    PROMETHEUS = "prometheus"
    GRAFANA = "grafana"


def alerts(
    format: Annotated[Format, typer.Option(help="Rules, or a dashboard.")] = Format.PROMETHEUS,
    thresholds: Thresholds = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The cluster, for the rule on a share of its predicted throughput."),
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="What a start costs there, if not what the cluster names.")
    ] = None,
    parallelism: Annotated[
        str, typer.Option(metavar="4x|128", help="Starts in flight that the prediction is for.")
    ] = "4x",
) -> None:
    """Print Prometheus alerting rules, or a Grafana dashboard, of the thresholds.

    Rules are for our metrics (launch --metrics-port), Temporal's, and those of
    postgres_exporter and node_exporter.

    Example: capacity alerts > capacity-rules.yml
    """
    from capacity.verdict.thresholds import thresholds as loaded

    limits = loaded(thresholds)
    if cluster is None and calibration is not None:
        raise UsageError(
            "--calibration needs a cluster", next_step="pass --cluster postgres-dev, or a file of your own"
        )
    if format is Format.GRAFANA:
        from capacity.verdict.dashboard import grafana

        print(json.dumps(grafana(limits), indent=2))
        return
    from capacity.verdict.alerts import prometheus

    predicted = _predicted(cluster, calibration, parallelism) if cluster is not None else None
    print(prometheus(limits, predicted), end="")


def _predicted(cluster: str, calibration: str | None, parallelism: str) -> float:
    from capacity.cli.plan import described_and_measured
    from capacity.model.prediction import predict
    from capacity.rules import available_cpus
    from capacity.verdict.rollback import Setting

    at = Setting.of(parallelism, "--parallelism").on(available_cpus().count).value
    described, measured = described_and_measured(cluster, calibration)
    return float(predict(measured, (at,), cluster=described, draws=0).throughput.value[0])
