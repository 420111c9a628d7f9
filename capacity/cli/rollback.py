"""`capacity rollback`: back to a smaller parallelism, and proof that a process honours it."""

from __future__ import annotations

import json
import textwrap
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.options import Cpus, Form, Format, OptionalRun, whole
from capacity.cli.printing import warn, wrapped
from capacity.errors import UsageError
from capacity.rules.flight import Flight, flight_of

if TYPE_CHECKING:
    from capacity.verdict.rollback import Rollback


class Only(StrEnum):
    """Places a scheduler is configured in."""

    ENVIRONMENT = "environment"
    SYSTEMD = "systemd"
    KUBERNETES = "kubernetes"
    GO = "go"
    PYTHON = "python"


def rollback(
    run: OptionalRun = None,
    to: Annotated[
        str | None, typer.Option(metavar="P", help="Starts in flight to go back to: 64 or 2x.", show_default=False)
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="P", help="Starts in flight now: 128 or 4x.")] = "4x",
    cpus: Cpus = None,
    only: Annotated[
        Only | None,
        typer.Option(
            metavar="PLACE", help=f"Print this setting alone, to the letter: {', '.join(Only)}.", show_default=False
        ),
    ] = None,
    pid: Annotated[
        int | None,
        typer.Option(metavar="PID", parser=whole, help="Is a running process back?"),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE|-", help="Is a scheduler back, by its log or record?"),
    ] = None,
    form: Form = Format.TEXT,
) -> None:
    """Print the exact setting that takes a scheduler back.

    To what RUN had in flight, or to --to; for environment, systemd, Kubernetes
    and code, and how to verify it. Changes nothing itself. With --pid or --log it
    says instead whether the scheduler is back; exit code 1 when it is not.

    Example: capacity rollback --to 2x --cpus 32

    Example: capacity rollback --to 64 --log scheduler.log
    """
    from capacity.verdict.logged import read_log
    from capacity.verdict.rollback import rollback as planned
    from capacity.verdict.running import running

    if (run is None) == (to is None):
        what = "both RUN and --to say where to go back to" if run is not None else "where to go back to is not said"
        raise UsageError(what, allowed="RUN, or --to", next_step="for example --to 2x")
    if run is not None:
        from capacity.cli.check import recorded

        before = recorded(run)
        if before.controller.rate is not None:
            raise UsageError(
                f"run {before.run_id} was launched at a rate of {before.controller.rate:g}/s, with no number in flight",
                next_step="name another run, or say the number with --to",
            )
        target = Flight(number=max(before.parallelism, 1))
    else:
        target = flight_of(to or "", "--to")
    if pid is not None and pid < 1:
        raise UsageError(f"--pid is {pid}", allowed="1 or more")
    found = planned(target, source=flight_of(source, "--from"), cpus=cpus)
    if only is not None:
        if pid is not None or log is not None or form is Format.JSON:
            raise UsageError("--only prints a setting alone", next_step="leave --pid, --log and --format out")
        print(found.way(only.value).setting)
        return
    process = running(pid, found.after.value, cpus) if pid is not None else None
    told = read_log(log, found.after.value) if log is not None else None
    proofs = {name: proof for name, proof in (("process", process), ("log", told)) if proof is not None}
    if form is Format.JSON:
        more = {name: proof.to_dict() for name, proof in proofs.items()}
        print(json.dumps({**found.to_dict(), **more}, indent=2))
    else:
        if not proofs:
            _print_text(found)
        for proof in proofs.values():
            print("\n".join(wrapped(proof.sentence())))
        for warning in process.warnings if process is not None else ():
            warn(f"process {pid}: {warning}")
    raise typer.Exit(0 if all(proof.honoured for proof in proofs.values()) else 1)


def _print_text(found: Rollback) -> None:
    from capacity.model.words import many

    print(f"Back from {found.source} to {found.target}, on {many(found.cpus, 'CPU')} ({found.cpus_source})")
    print(f"  now    {found.before}")
    print(f"  then   {found.after}")
    from capacity.verdict.rollback import TITLES

    for way in found.ways:
        print(f"\n{TITLES[way.name]}: {way.where}")
        for line in way.setting.splitlines():
            print(f"    {line.replace(chr(9), '    ')}")
        for command in way.commands:
            print("  then: " + command.replace("\n", "\n" + 8 * " "))
    print("\nVerify")
    for command in found.verify:
        print(textwrap.indent(command, "    "))
    print()
    for note in found.notes:
        print(textwrap.fill(note, 80, initial_indent="- ", subsequent_indent="  "))
