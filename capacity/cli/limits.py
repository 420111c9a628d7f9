"""`capacity limits`: what caps starts on a cluster, from its configuration alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.options import HOW, Changes, ClusterArgument, check_once
from capacity.cli.plan import calibration_for
from capacity.cli.printing import console, print_columns, warn, wrapped
from capacity.errors import UsageError

if TYPE_CHECKING:
    from capacity.model.cluster import Cluster
    from capacity.model.demands import Demands
    from capacity.model.limits import Ceiling

DEFAULT = "postgres-dev"
HEAD = ("starts/s", "what limits", "set by", "raising buys")


class Format(StrEnum):
    """Forms the ceilings can be printed in."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def limits(
    cluster: ClusterArgument = DEFAULT,
    settings: Changes = None,
    format: Annotated[Format, typer.Option(help=HOW)] = Format.TEXT,
) -> None:
    """Print every ceiling in starts/s, lowest first; which one binds.

    Needs no cluster. A number with ~ rests on what a start cost where it was
    measured: in the calibration that the description names, else where this
    package was made. Raising a ceiling helps only together with all above it.

    Example: capacity limits example-32-core --set frontends=6
    """
    from capacity.model.cluster import Cluster
    from capacity.model.limits import binding, ceilings, verdict

    described = Cluster.load(cluster).changed(settings_of(settings or ()))
    found = ceilings(described, _demands(described))
    if format is Format.JSON:
        first = binding(found)
        result = {
            "cluster": described.to_dict(),
            "ceilings": [ceiling.to_dict() for ceiling in found],
            "binding": first.key if first else None,
            "verdict": verdict(found),
        }
        print(json.dumps(result, indent=2))
    elif format is Format.MARKDOWN:
        _print_markdown(found, verdict(found))
    else:
        _print_text(described, found, verdict(found))


def _demands(cluster: Cluster) -> Demands | None:
    """What a start costs by the calibration that a description names; None where it names none that can be read."""
    if cluster.calibration is None:
        return None
    from capacity.model.demands import fitted
    from capacity.model.words import many

    try:
        measured = calibration_for(cluster, cluster.calibration)
    except UsageError as error:  # most ceilings are of the configuration alone
        until = "without it, a start is taken to cost what it did where this package was made"
        warn(f"{error}; {until}")
        return None
    cpus, times = measured.measurements.conditions.cluster_cpus, measured.measurements.times
    source = f"calibration {measured.name}, measured on {many(cpus, 'CPU')}"
    told = times is not None and times.connection_over_lock is not None
    return fitted(measured.demands, cluster.store, source, connection_measured=told)


def settings_of(pairs: Sequence[str]) -> dict[str, object]:
    """KEY=VALUE pairs as values of TOML's kinds; what is no number and no boolean is text."""
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not key or not equals or not text:
            raise UsageError(f"--set is {pair[:60]!r}", allowed="KEY=VALUE", next_step="for example --set frontends=3")
        check_once("--set", key, values)
        values[key] = _value(text)
    return values


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def rows(found: Sequence[Ceiling]) -> list[tuple[str, str, str, str]]:
    """The ceilings with a number, as the columns of `HEAD`."""
    from capacity.model.limits import ONE_WRITER
    from capacity.model.words import number

    lines = []
    for ceiling in found:
        if not ceiling.known:
            continue
        buys = "not known" if ceiling.caps_starts else "no starts"
        if ceiling.raised is not None:
            up = ceiling.raised.starts_per_second
            buys = f"up to {number(up)}" if up > ceiling.rate else "nothing alone"
        rate = f"{'~' if ceiling.source else ''}{number(ceiling.rate)}"
        hosts = f" x {ceiling.hosts}" if ceiling.hosts > 1 else ""
        value = "sqlite" if ceiling.key == ONE_WRITER else number(ceiling.value)
        lines.append((rate, ceiling.name, f"{ceiling.key} {value}{hosts}", buys))
    return lines


def notes(found: Sequence[Ceiling]) -> list[str]:
    """What the table leaves out: whose costs it rests on, what delays only, what has no number."""
    from capacity.model.limits import NO_LIMIT, NOT_KNOWN
    from capacity.model.words import number

    lines = []
    sources = sorted({ceiling.source for ceiling in found if ceiling.source})
    if sources:
        lines.append(f"~ rests on the cost of a start: {', '.join(sources)}")
    bursts: dict[float, list[str]] = {}
    for ceiling in found:
        if ceiling.known and ceiling.caps_starts and ceiling.burst:
            bursts.setdefault(ceiling.burst, []).append(ceiling.key)
    if bursts:
        passing = "; ".join(f"{number(burst)} ({', '.join(keys)})" for burst, keys in sorted(bursts.items()))
        lines.append(f"starts that pass at once before a limit bites: {passing}")
    late = [ceiling.name for ceiling in found if ceiling.known and not ceiling.caps_starts]
    if late:
        lines.append(f"delays what follows a start, never the start: {', '.join(late)}")
    unlimited = [ceiling.key for ceiling in found if not ceiling.known and ceiling.starts_per_second is not None]
    if unlimited:
        lines.append(f"{NO_LIMIT}: {', '.join(unlimited)}")
    unknown = [ceiling.key for ceiling in found if ceiling.starts_per_second is None]
    if unknown:
        lines.append(f"{NOT_KNOWN}: {', '.join(unknown)}")
    return lines


def _print_text(cluster: Cluster, found: Sequence[Ceiling], verdict: str) -> None:
    from rich.table import Table

    terminal = console()
    if not terminal.is_terminal:
        _print_plain(cluster, found, verdict)
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in HEAD:
        table.add_column(name, justify="right" if name == HEAD[0] else "left", overflow="fold")
    numbered = [ceiling for ceiling in found if ceiling.known]
    for index, (ceiling, row) in enumerate(zip(numbered, rows(found), strict=True)):
        table.add_row(
            *row, style="bold" if index == 0 and ceiling.caps_starts else None if ceiling.caps_starts else "dim"
        )
    terminal.print(cluster.name, style="bold")
    terminal.print(table)
    for note in notes(found):
        terminal.print(note, style="dim")
    terminal.print(verdict, style="bold")


def _print_plain(cluster: Cluster, found: Sequence[Ceiling], verdict: str) -> None:
    print(cluster.name)
    print_columns([HEAD, *rows(found)], left=(1, 2, 3))
    for note in notes(found):
        print("\n".join(wrapped(note, indent="  ")))
    print("\n".join(wrapped(verdict)))


def _print_markdown(found: Sequence[Ceiling], verdict: str) -> None:
    numbered = [ceiling for ceiling in found if ceiling.known]
    print(f"| {' | '.join(HEAD)} | why |\n|---:|---|---|---|---|")
    for ceiling, row in zip(numbered, rows(found), strict=True):
        print(f"| {' | '.join(row)} | {ceiling.reason} |")
    for note in notes(found):
        print(f"\n{note}")
    print(f"\n**{verdict}**")
