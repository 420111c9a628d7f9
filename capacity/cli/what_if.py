"""`capacity what-if`: what more of something would give on a described cluster."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from capacity.cli.limits import DEFAULT, settings_of
from capacity.cli.options import (
    CalibrationOfCluster,
    Changes,
    ClusterArgument,
    Form,
    Format,
    in_flight,
    multipliers,
)
from capacity.cli.plan import described_and_measured
from capacity.cli.printing import print_columns, wrapped
from capacity.rules.plan import pool_plan


def what_if(
    cluster: ClusterArgument = DEFAULT,
    settings: Changes = None,
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Starts in flight: 128, or 4x the CPUs of this machine.",
            autocompletion=multipliers,
            show_default="as 'capacity plan'",
        ),
    ] = None,
    calibration: CalibrationOfCluster = None,
    form: Form = Format.TEXT,
) -> None:
    """Say what other cores, shards, connections or delays would give.

    Each --set is tried alone and all of them together; without any, each resource
    is doubled in turn. All rows are at the same number in flight. Gains carry
    their 90% interval.

    Example: capacity what-if postgres-dev --set cores=8 --set shards=512
    """
    from capacity.model.what_if import doubled
    from capacity.model.what_if import what_if as asked

    described, measured = described_and_measured(cluster, calibration)
    wanted = settings_of(settings or ())
    changes: list[dict[str, object]] = [{key: value} for key, value in wanted.items()] or doubled(described)
    if len(wanted) > 1:
        changes.append(wanted)
    flight = pool_plan().parallelism.value if parallelism is None else in_flight(parallelism)
    found = asked(measured, described, changes, flight)
    if form is Format.JSON:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    print(f"{described.name}, {flight:,} in flight")
    print_columns(_short(found.lines()), left=(0, 5))
    print("\n".join(wrapped(found.summary())))
    print("Intervals hold the sweep's noise, not what larger clusters may show.")


def _short(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The row of all changes is too wide to repeat them."""
    return [("all together" if ", " in change else change, *rest) for change, *rest in lines]
