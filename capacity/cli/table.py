"""`capacity table`: the tuning table, in the form asked for."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from capacity.cli.options import HOW, whole_numbers
from capacity.cli.printing import console, print_columns
from capacity.rules.table import CPU_COUNTS, MULTIPLIERS, TuningTable, tuning_table


class Format(StrEnum):
    """Forms a table can be printed in."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


def table(
    cpus: Annotated[str, typer.Option(metavar="N,N,...", help="CPU counts, one row each.")] = ",".join(
        map(str, CPU_COUNTS)
    ),
    multipliers: Annotated[
        str, typer.Option(metavar="M,M,...", help="Starts in flight per CPU, one column each.")
    ] = ",".join(map(str, MULTIPLIERS)),
    format: Annotated[Format, typer.Option(help=HOW)] = Format.TEXT,
) -> None:
    """Print the parallelism the rules give, by CPUs and multiplier.

    An entry is marked * when it stands at the cap of 512 and the cap cuts its
    row: a higher multiplier in the table would exceed it. 128 CPUs x 4 is
    marked: it is exactly 512, and 6 and 8 per CPU give no more. 64 CPUs x 8 is
    exactly 512 too and not marked: nothing of that row is lost.

    csv and json hold the mark in a column of its own (capped), beside the
    product before any clamp.

    Example: capacity table --cpus 8,32,128 --format markdown
    """
    result = tuning_table(_counts("--cpus", cpus, "8,32,128"), _counts("--multipliers", multipliers, "2,4,8"))
    if format is Format.MARKDOWN:
        print(result.to_markdown())
    elif format is Format.JSON:
        print(json.dumps(result.to_dict(), indent=2))
    elif format is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["cpus", "multiplier", "product", "parallelism", "capped"])
        for cell in (cell for row in result.rows for cell in row):
            writer.writerow([cell.cpus, cell.multiplier, cell.product, cell.parallelism, str(cell.capped).lower()])
    else:
        _print_text(result)


def _counts(option: str, text: str, example: str) -> list[int]:
    return whole_numbers(option, text, lowest=1, next_step=f"for example {option} {example}")


def _print_text(result: TuningTable) -> None:
    from rich import box  # heavy, and the other three forms do without
    from rich.table import Table
    from rich.text import Text

    terminal = console()
    if not terminal.is_terminal:
        _print_plain(result)
        return
    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("CPU Count", justify="right", style="bold")
    for multiplier in result.multipliers:
        grid.add_column(f"{multiplier}x", justify="right")
    for row in result.rows:
        # A blank in place of the mark keeps the digits of a column under one another.
        marks = (Text(f"{cell.parallelism}") + Text("*" if cell.capped else " ", style="yellow") for cell in row)
        grid.add_row(str(row[0].cpus), *marks)
    terminal.print("Starts in flight at once, by CPUs and starts per CPU", style="bold")
    terminal.print(grid)
    if result.legend:
        terminal.print(result.legend, style="dim")


def _print_plain(result: TuningTable) -> None:
    lines = [["CPU Count", *(f"{multiplier}x" for multiplier in result.multipliers)]]
    lines += [[str(row[0].cpus), *map(str, row)] for row in result.rows]
    print_columns(lines)
    if result.legend:
        print(result.legend)
