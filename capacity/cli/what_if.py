"""`capacity what-if`: what more of something would give on a described cluster."""

from __future__ import annotations

import json
import textwrap
from enum import StrEnum
from typing import Annotated

import typer

from capacity.cli.limits import DEFAULT
from capacity.cli.limits import settings_of as settings_of
from capacity.cli.plan import described_and_measured, print_columns, whole
from capacity.model import shipped
from capacity.rules.plan import pool_plan, positive


class Format(StrEnum):
    """Forms the answer can be printed in."""

    TEXT = "text"
    JSON = "json"


def what_if(
    cluster: Annotated[
        str,
        typer.Argument(
            metavar="[CLUSTER]", help=f"A TOML file, or one that is shipped: {', '.join(shipped.names('clusters'))}."
        ),
    ] = DEFAULT,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change it so, alone and together with the others; by default each resource is doubled in turn.",
        ),
    ] = None,
    parallelism: Annotated[
        int | None,
        typer.Option(metavar="P", parser=whole, help="Starts in flight; by default what the rules give this machine."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="What a start costs there; by default what the cluster's file names."),
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TEXT,
) -> None:
    """Say what other cores, shards, connections or delays would give.

    All rows are at the same number in flight. Gains carry their 90 % interval.

    Example: capacity what-if postgres-dev --set cores=8 --set shards=512
    """
    from capacity.model.what_if import doubled
    from capacity.model.what_if import what_if as asked

    described, measured = described_and_measured(cluster, calibration)
    wanted = settings_of(settings or ())
    changes: list[dict[str, object]] = [{key: value} for key, value in wanted.items()] or doubled(described)
    if len(wanted) > 1:
        changes.append(wanted)
    flight = pool_plan().parallelism.value if parallelism is None else positive("--parallelism", parallelism)
    found = asked(measured, described, changes, flight)
    if format is Format.JSON:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    print(f"{described.name}, {flight:,} in flight")
    print_columns(_short(found.lines()), left=(0, 5))
    print(textwrap.fill(found.summary(), 80))
    print("Intervals hold the sweep's noise, not what larger clusters may show.")


def _short(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The row of all changes is too wide to repeat them."""
    return [("all together" if ", " in change else change, *rest) for change, *rest in lines]
