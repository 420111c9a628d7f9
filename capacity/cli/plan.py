"""`capacity plan`: parallelism and queue size of a scheduler's pool, and what a cluster would give it."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
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
    whole,
)
from capacity.errors import UsageError
from capacity.rules.plan import BATCH, PoolPlan, pool_plan, positive
from capacity.rules.pool import DEFAULT_RULES

if TYPE_CHECKING:
    from capacity.model.calibration import Calibration
    from capacity.model.claim import Claim
    from capacity.model.cluster import Cluster
    from capacity.model.outlook import Outlook


FLEET = "Fleet"


def plan(
    cpus: Cpus = None,
    multiplier: Annotated[
        int, typer.Option(metavar="M", parser=whole, help="Starts in flight per CPU.")
    ] = DEFAULT_RULES.multiplier,
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
        typer.Option(metavar="SECONDS", help="Lose a process so often; another replaces it.", rich_help_panel=FLEET),
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
        _refuse(given, "needs a cluster", "pass --cluster postgres-dev, or a file of your own")
    if fleet is not None:
        of_a_pool = {"--cpus": cpus, "--override": override, "--claim": claim or None}
        of_a_pool["--multiplier"] = None if multiplier == DEFAULT_RULES.multiplier else multiplier
        _refuse(of_a_pool, "does not go with --fleet", "a fleet's starts in flight are its --parallelism")
        from capacity.cli.plan_fleet import fleet_of, print_fleet

        assert cluster is not None
        on = described_and_measured(cluster, calibration, settings or ())
        outlook_of_fleet = fleet_of(batch, fleet, on, parallelism, rate, lose_every)
        if form is Format.JSON:
            print(json.dumps(outlook_of_fleet.to_dict(), indent=2, allow_nan=False))
        else:
            print_fleet(outlook_of_fleet)
        return
    _refuse({"--parallelism": parallelism, "--rate": rate, "--lose-every": lose_every}, "needs --fleet", "pass it too")
    result = pool_plan(
        None if cpus is None else positive("--cpus", cpus),
        override=override,
        batch=positive("--batch (--count)", batch),
        multiplier=positive("--multiplier", multiplier),
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


def _refuse(options: Mapping[str, object], why: str, next_step: str) -> None:
    """Refuse the first of these options that was given."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {why}", next_step=next_step)


def described_and_measured(
    cluster: str, calibration: str | None, settings: Sequence[str] = ()
) -> tuple[Cluster, Calibration]:
    """Return a cluster's description, changed, and what a start costs there, by their names or files."""
    from capacity.cli.limits import settings_of
    from capacity.model.calibration import Calibration
    from capacity.model.cluster import Cluster

    described = Cluster.load(cluster).changed(settings_of(settings))
    name = calibration or described.calibration
    if name is None:
        raise UsageError(
            f"cluster {described.name} names no calibration, and what a start costs there is not known",
            next_step="pass --calibration, or see its limits with 'capacity limits'",
        )
    if described.store == "cloud":
        raise UsageError(
            f"cluster {described.name}: its CPUs are not known, and so not what it gives",
            next_step=f"see its limits with 'capacity limits {cluster}'",
        )
    return described, Calibration.named(name)


def _print_text(result: PoolPlan) -> None:
    from rich.console import Console  # heavy, and JSON does without
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if console.is_terminal:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column(justify="right", style="bold cyan")
        grid.add_column(style="dim")
        for name, value, reason in result.lines():
            grid.add_row(name, value, Text(reason))
        console.print(grid)
    else:
        names, values, _ = (max(map(len, column)) for column in zip(*result.lines(), strict=True))
        for name, value, reason in result.lines():
            head = f"{name.ljust(names)}  {value.rjust(values)}  "
            print(textwrap.fill(reason, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))
    for warning in result.warnings:
        print(f"capacity: warning: {warning}", file=sys.stderr)


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


def print_columns(lines: Sequence[Sequence[str]], left: Sequence[int] = ()) -> None:
    """Print rows in columns, right-aligned but for those named."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def print_notes(notes: Iterable[tuple[str, str]], width: int = 80) -> None:
    """Print headed sentences, wrapped and hanging."""
    notes = list(notes)
    indent = max(len(name) for name, _ in notes) + 2
    for name, words in notes:
        for i, line in enumerate(textwrap.wrap(words, width - indent)):
            print((name if i == 0 else "").ljust(indent) + line)
