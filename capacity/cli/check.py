"""`capacity check`: a run held to the original's limits, ours and your own."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.options import FLAG, HOW, BaselineRun, CalibrationOfCluster, ClusterName, RunName
from capacity.cli.plan import calibration_for
from capacity.errors import JournalError, UsageError

if TYPE_CHECKING:
    from capacity.model.calibration import Calibration
    from capacity.model.cluster import Cluster
    from capacity.observe.run import Run

Thresholds = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML with limits of your own, over the shipped ones.", show_default=False),
]


class Format(StrEnum):
    """Forms a checklist can be printed in."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


def check(
    run: RunName,
    thresholds: Thresholds = None,
    baseline: BaselineRun = None,
    cluster: ClusterName = None,
    calibration: CalibrationOfCluster = None,
    strict: Annotated[
        bool, typer.Option("--strict", metavar=FLAG, help="Exit 1 also when a critical check is not measured.")
    ] = False,
    format: Annotated[Format, typer.Option(help=HOW)] = Format.TEXT,
) -> None:
    """Hold a run to its limits: pass, fail or not measured.

    Also asks whether its throughput is real: longer than a burst, starts alone,
    verified by the server, not the launcher's own limit. With --cluster also
    against that cluster's limits and what the model predicts there. Exit code 1
    on a failed critical check.

    Example: capacity check last --cluster devserver
    """
    from capacity.verdict import checklist, report
    from capacity.verdict.thresholds import thresholds as loaded

    limits = loaded(thresholds)
    record = recorded(run)
    before = recorded(baseline) if baseline is not None else None
    described, measured = _predictor(cluster, calibration)
    predicted = checklist.predicted_rate(record, measured, described) if measured is not None else None
    found = checklist.check(record, limits, baseline=before, predicted=predicted, cluster=described)
    if format is Format.JSON:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        shown = {Format.TEXT: report.as_text, Format.MARKDOWN: report.as_markdown, Format.HTML: report.as_page}
        print(shown[format](found), end="")
    raise typer.Exit(1 if strict and found.verdict != "pass" else found.exit_code)


def recorded(name: str) -> Run:
    """Return the record of a run named as `capacity runs` accepts it; a launch that runs or was killed has none."""
    from capacity.observe.history import past_run

    try:
        return past_run(name).recorded()
    except JournalError as error:
        raise UsageError(
            f"{name} is neither the record of a run nor its journal", next_step="see 'capacity runs list'"
        ) from error


def _predictor(cluster: str | None, calibration: str | None) -> tuple[Cluster | None, Calibration | None]:
    from capacity.model.cluster import Cluster

    described = Cluster.load(cluster) if cluster is not None else None
    name = calibration or (described.calibration if described else None)
    return described, calibration_for(described, name) if name is not None else None
