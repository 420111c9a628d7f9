"""`capacity rollback`: back to a smaller parallelism, and proof that a process honours it."""

from __future__ import annotations

import json
import sys
import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.plan import whole
from capacity.errors import UsageError

if TYPE_CHECKING:
    from capacity.verdict.rollback import Rollback
    from capacity.verdict.running import Honoured


class Format(StrEnum):
    """Forms a rollback can be printed in."""

    TEXT = "text"
    JSON = "json"


def rollback(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Back to what this run had in flight.", show_default=False)
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="2x|64", help="Back to this.", show_default=False)] = None,
    source: Annotated[str, typer.Option("--from", metavar="4x|128", help="What holds now.")] = "4x",
    cpus: Annotated[
        int | None,
        typer.Option(metavar="N", parser=whole, help="CPUs of the scheduler's machine; by default those usable here."),
    ] = None,
    pid: Annotated[
        int | None,
        typer.Option(metavar="PID", parser=whole, help="Also check a running process; exit 1 if it is not there yet."),
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TEXT,
) -> None:
    """Print the exact setting that takes a scheduler back, for environment,
    systemd, Kubernetes and code, and how to verify it. Changes nothing itself.

    Example: capacity rollback --to 2x --cpus 32
    """
    from capacity.verdict.rollback import Setting
    from capacity.verdict.rollback import rollback as planned
    from capacity.verdict.running import running

    if (run is None) == (to is None):
        what = "both RUN and --to say where to go back to" if run is not None else "where to go back to is not said"
        raise UsageError(what, allowed="RUN, or --to", next_step="for example --to 2x")
    if run is not None:
        from capacity.cli.check import recorded

        target = Setting(number=max(recorded(run).parallelism, 1))
    else:
        target = Setting.of(to or "")
    if pid is not None and pid < 1:
        raise UsageError(f"--pid is {pid}", allowed="1 or more")
    found = planned(target, source=Setting.of(source, "--from"), cpus=cpus)
    process = running(pid, found.after.value, cpus) if pid is not None else None
    if format is Format.JSON:
        more = {"process": process.to_dict()} if process else {}
        print(json.dumps({**found.to_dict(), **more}, indent=2))
    else:
        _print_text(found, process)
    raise typer.Exit(1 if process is not None and not process.honoured else 0)


def _print_text(found: Rollback, process: Honoured | None) -> None:
    print(f"Back from {found.source} to {found.target}, on {found.cpus:,} CPUs ({found.cpus_source})")
    print(f"  now    {found.before}")
    print(f"  then   {found.after}")
    titles = {
        "environment": "Environment",
        "systemd": "systemd drop-in",
        "kubernetes": "Kubernetes patch",
        "go": "Go code",
        "python": "Python code",
    }
    for way in found.ways:
        print(f"\n{titles[way.name]}: {way.where}")
        for line in way.setting.splitlines():
            print(f"    {line.replace(chr(9), '    ')}")
        for command in way.commands:
            print(f"  then: {command}")
    print("\nVerify")
    for command in found.verify:
        print(textwrap.indent(command, "    "))
    print()
    for note in found.notes:
        print(textwrap.fill(note, 80, initial_indent="- ", subsequent_indent="  "))
    if process is not None:
        print()
        print(textwrap.fill(process.sentence(), 80))
        for warning in process.warnings:
            print(f"capacity: warning: process {process.pid}: {warning}", file=sys.stderr)
