"""`capacity plan`: parallelism and queue size of a scheduler's pool, and what a cluster would give it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.options import (
    FLAG,
    WIDTH,
    CalibrationOfCluster,
    Changes,
    ClusterName,
    Cpus,
    Form,
    Format,
    refuse,
    whole,
)
from capacity.cli.printing import console, print_columns, print_notes, warn
from capacity.errors import UsageError
from capacity.rules.plan import BATCH, PoolPlan, pool_plan
from capacity.rules.pool import DEFAULT_RULES, positive

if TYPE_CHECKING:
    from capacity.model.calibration import Calibration
    from capacity.model.claim import Claim
    from capacity.model.cluster import Cluster
    from capacity.model.outlook import Outlook


FLEET = "Fleet"


def plan(
    cpus: Cpus = None,
    multiplier: Annotated[
        int | None,
        typer.Option(
            metavar="M", parser=whole, help="Starts in flight per CPU.", show_default=f"{DEFAULT_RULES.multiplier}"
        ),
    ] = None,
    override: Annotated[
        int | None,
        typer.Option(
            metavar="P",
            parser=whole,
            help="Starts in flight, in place of the CPU rule. 0 says no override, whatever the environment says.",
            show_default="SCHEDULER_MAX_PARALLELISM",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", "--count", metavar="N", parser=whole, help="Starts in one batch.")
    ] = BATCH,
    cluster: ClusterName = None,
    calibration: CalibrationOfCluster = None,
    settings: Changes = None,
    claim: Annotated[
        bool, typer.Option("--claim", metavar=FLAG, help="Also set the original's 200,000/s against that cluster.")
    ] = False,
    fleet: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            parser=whole,
            help="Simulate the batch by K launcher processes on that cluster, in place of one pool.",
            rich_help_panel=FLEET,
        ),
    ] = None,
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Starts in flight of the whole fleet: 128 or auto.",
            rich_help_panel=FLEET,
            show_default="auto",
            autocompletion=lambda incomplete: ["auto"] if "auto".startswith(incomplete) else [],
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Starts due per second (open loop).", rich_help_panel=FLEET),
    ] = None,
    lose_every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Lose a process so often; another replaces it.",
            rich_help_panel=FLEET,
            show_default="never",
        ),
    ] = None,
    form: Form = Format.TEXT,
) -> None:
    """Size a scheduler's pool: starts in flight and queue, and why.

    CPUs are those that this process may really use: its affinity, cut by cgroup
    quotas (2.5 CPUs count as 3). With --cluster it also says what that cluster
    gives the pool, what binds there, and what other multipliers would give.

    Example: capacity plan --cpus 32 --batch 750000 --cluster postgres-dev

    Example: capacity plan --count 100000000 --fleet 40 --cluster postgres-dev
    """
    given = {"--fleet": fleet, "--claim": claim or None, "--calibration": calibration, "--set": settings or None}
    if cluster is None:
        refuse(given, "needs a cluster", "pass --cluster postgres-dev, or a file of your own")
    if fleet is not None:
        of_a_pool = {"--cpus": cpus, "--override": override, "--claim": claim or None, "--multiplier": multiplier}
        refuse(of_a_pool, "does not go with --fleet", "a fleet's starts in flight are its --parallelism")
        from capacity.cli.plan_fleet import fleet_of, print_fleet

        assert cluster is not None
        on = described_and_measured(cluster, calibration, settings or ())
        outlook_of_fleet = fleet_of(batch, fleet, on, parallelism, rate, lose_every)
        if form is Format.JSON:
            print(json.dumps(outlook_of_fleet.to_dict(), indent=2, allow_nan=False))
        else:
            print_fleet(outlook_of_fleet)
        return
    refuse({"--parallelism": parallelism, "--rate": rate, "--lose-every": lose_every}, "needs --fleet", "pass it too")
    result = pool_plan(
        None if cpus is None else positive("--cpus", cpus),
        override=override,
        batch=positive("batch", batch),
        multiplier=positive("--multiplier", DEFAULT_RULES.multiplier if multiplier is None else multiplier),
    )
    if cluster is None:
        if form is Format.JSON:
            print(json.dumps(result.to_dict(), indent=2))
        else:
            _print_text(result)
        return
    from capacity.model import claim as claims
    from capacity.model.outlook import outlook

    described, measured = described_and_measured(cluster, calibration, settings or ())
    found = outlook(result, described, measured)
    asked = claims.claim(described, measured) if claim else None
    if form is Format.JSON:
        print(json.dumps({**found.to_dict(), **({"claim": asked.to_dict()} if asked else {})}, indent=2))
        return
    _print_text(result)
    _print_outlook(found)
    if asked:
        _print_claim(asked)


def described_and_measured(
    cluster: str, calibration: str | None, settings: Sequence[str] = ()
) -> tuple[Cluster, Calibration]:
    """Return a cluster's description, changed, and what a start costs there, by their names or files."""
    from capacity.cli.limits import settings_of
    from capacity.model.cluster import Cluster

    described = Cluster.load(cluster).changed(settings_of(settings))
    if described.store == "cloud":  # first: a calibration would not help
        raise UsageError(
            f"cluster {described.name}: its CPUs are not known, and so not what it gives",
            next_step=f"see its limits with 'capacity limits {cluster}'",
        )
    name = calibration or described.calibration
    if name is None:
        raise UsageError(
            f"cluster {described.name} names no calibration, and what a start costs there is not known",
            next_step="pass --calibration, or see its limits with 'capacity limits'",
        )
    return described, calibration_for(described, name)


def calibration_for(cluster: Cluster | None, name: str) -> Calibration:
    """Return a calibration by its name or file; one of another store than the cluster's is warned of."""
    from capacity.model.calibration import Calibration

    found = Calibration.named(name)
    if cluster is not None and (words := found.of_another_store(cluster.store)) is not None:
        warn(words)
    return found


def _print_text(result: PoolPlan) -> None:
    from rich.table import Table  # heavy, and JSON does without
    from rich.text import Text

    terminal = console()
    if terminal.is_terminal:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column(justify="right", style="bold cyan")
        grid.add_column(style="dim")
        for name, value, reason in result.lines():
            grid.add_row(name, value, Text(reason))
        terminal.print(grid)
    else:
        names, values, _ = (max(map(len, column)) for column in zip(*result.lines(), strict=True))
        for name, value, reason in result.lines():
            head = f"{name.ljust(names)}  {value.rjust(values)}  "
            print(textwrap.fill(reason, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))
    for warning in result.warnings:
        warn(warning)


def _print_outlook(found: Outlook) -> None:
    from capacity.model.outlook import HEAD

    print(f"\nOn {found.cluster.name}:")
    print_columns([HEAD, *found.rows()], left=(0,))
    print()
    print_notes(found.sentences() + [("Cannot tell", words) for words in found.calibration.not_identified()])


def _print_claim(asked: Claim) -> None:
    print("\nThe claim, and this cluster:")
    print_columns([("", "the original", "the model"), *asked.said], left=(0,))
    print("\nWhat 200,000 starts/s at 128 workers would need:")
    print_columns([("", "needed", "there"), *asked.needed], left=(0,))
