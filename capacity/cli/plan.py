"""`capacity plan`: parallelism and queue size of a scheduler's pool, each with what set it."""

from __future__ import annotations

import json
import re
import sys
from enum import StrEnum
from typing import Annotated

import typer

from capacity.rules.plan import BATCH, PoolPlan, pool_plan, positive
from capacity.rules.pool import DEFAULT_RULES


class Format(StrEnum):
    """Forms a plan can be printed in."""

    TEXT = "text"
    JSON = "json"


def whole(typed: str | int) -> int:
    """A whole number as typed; typer's own message does not show the value it refuses."""
    text = str(typed).strip()  # typer passes the default through here too
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        raise typer.BadParameter(f"{text[:40]!r} is not a whole number of at most 9 digits")
    return int(text)


def plan(
    cpus: Annotated[
        int | None,
        typer.Option(metavar="N", parser=whole, help="CPUs of the scheduler's machine; by default those usable here."),
    ] = None,
    multiplier: Annotated[
        int, typer.Option(metavar="M", parser=whole, help="Starts in flight per CPU.")
    ] = DEFAULT_RULES.multiplier,
    override: Annotated[
        int | None,
        typer.Option(
            metavar="P",
            parser=whole,
            help="Starts in flight, in place of the CPU rule; by default SCHEDULER_MAX_PARALLELISM. "
            "0 says no override, whatever the environment says.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", parser=whole, help="Starts in one batch.")] = BATCH,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TEXT,
) -> None:
    """Size a scheduler's pool: starts in flight and queue, and what set each.

    CPUs are those that this process may really use: its affinity, cut by cgroup
    quotas (2.5 CPUs count as 3).
    """
    result = pool_plan(
        None if cpus is None else positive("--cpus", cpus),
        override=override,
        batch=positive("--batch", batch),
        multiplier=positive("--multiplier", multiplier),
    )
    if format is Format.JSON:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _print_text(result)


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
            print(f"{name.ljust(names)}  {value.rjust(values)}  {reason}")
    for warning in result.warnings:
        print(f"capacity: warning: {warning}", file=sys.stderr)
