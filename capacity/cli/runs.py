"""`capacity runs`: what was launched, what failed, and how to end it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from capacity.cli.connection import NO_OPTIONS, AllowTarget, Connection, grouped
from capacity.cli.options import FLAG, Form, Format, RunName

app = typer.Typer(
    help="List past runs; export failures; terminate what they started.\n\nExample: capacity runs list",
    no_args_is_help=True,
)


@app.command("list")
def list_runs(form: Form = Format.TEXT) -> None:
    """List the runs this machine remembers, newest first.

    Example: capacity runs list
    """
    from capacity.cli import past

    past.show_list(form is Format.JSON)


@app.command()
def show(run: RunName, form: Form = Format.TEXT) -> None:
    """Show one run: its record, or its journal if it has none.

    Example: capacity runs show last --format json
    """
    from capacity.cli import past

    past.show_run(run, form is Format.JSON)


@app.command()
def failed(
    run: RunName,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them here.", show_default="standard output")
    ] = None,
) -> None:
    """Export the items that failed, to be launched again.

    They are JSON lines, which 'capacity launch --items' reads.

    Example: capacity runs failed last --out again.jsonl
    """
    from capacity.cli import past

    past.export_failed(run, out, sys.stdout)


@app.command()
@grouped
def clean(
    run: RunName,
    delete: Annotated[
        bool, typer.Option("--delete", metavar=FLAG, help="Delete them instead of terminating them.")
    ] = False,
    connection: Connection = NO_OPTIONS,
    allow_target: AllowTarget = None,
) -> None:
    """Terminate (or delete) only the workflows that this run started.

    Example: capacity runs clean last
    """
    from capacity.cli import past_clean
    from capacity.observe.history import past_run

    found = past_run(run)
    target = connection.target(found.address, found.namespace)
    past_clean.clean_run(found, target, delete, allow_target or ())
