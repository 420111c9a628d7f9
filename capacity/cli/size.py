"""`capacity size`: the smallest cluster for a target, and what a cheaper one would lack."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.options import WIDTH, CalibrationOfCluster, ClusterName, Form, Format, quantity, whole
from capacity.cli.plan import calibration_for
from capacity.cli.printing import print_columns, print_notes, wrapped

if TYPE_CHECKING:
    from capacity.model.sized import Sizing

DEFAULT = "postgres"


def size(
    target: Annotated[
        float | None, typer.Option(metavar="RATE", parser=quantity, help="Starts per second to reach.")
    ] = None,
    p99: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", parser=quantity, help="Highest 99% latency of a start.", show_default="no limit"
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", "--count", metavar="N", parser=whole, help="Starts in one batch."),
    ] = None,
    within: Annotated[
        float | None, typer.Option(metavar="SECONDS", parser=quantity, help="How long the batch may take.")
    ] = None,
    retention_days: Annotated[
        float, typer.Option(metavar="DAYS", parser=quantity, help="How long finished workflows are kept.")
    ] = 1.0,
    headroom: Annotated[
        float,
        typer.Option(metavar="SHARE", parser=quantity, help="Share of every resource left free, 0.01 to 0.9."),
    ] = 0.2,
    launchers: Annotated[
        int | None,
        typer.Option(
            "--processes",
            metavar="K",
            parser=whole,
            help="Launcher processes.",
            show_default="as many as needed",
        ),
    ] = None,
    cluster: ClusterName = None,
    calibration: CalibrationOfCluster = None,
    form: Form = Format.TEXT,
) -> int:
    """Size a cluster for a rate, or for a batch to be done in time.

    Pass --target, or --batch and --within. Each figure comes with what forced it
    and, where it rests on a measurement, its 90% interval. The plan has the
    fewest CPUs; shards and connections are sized not to hold them back. Of
    --cluster only rates, network delay, shard_io_concurrency and calibration
    are used; by default the server's own, and postgres.
    Exit code 1: no cluster does it, and why.

    Example: capacity size --batch 750000 --within 600 --p99 0.05
    """
    from capacity.model.cluster import Cluster
    from capacity.model.sizing import STOCK_CLUSTER
    from capacity.model.sizing import size as sized

    described = STOCK_CLUSTER if cluster is None else Cluster.load(cluster)
    found = sized(
        calibration_for(described, calibration or described.calibration or DEFAULT),
        target,
        p99=p99,
        batch=batch,
        within=within,
        retention_days=retention_days,
        headroom=headroom,
        launchers=launchers,
        cluster=described,
    )
    if form is Format.JSON:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        _print_text(found)
    return 0 if found.feasible else 1


def _print_text(found: Sizing) -> None:
    from capacity.model.advice import headline
    from capacity.model.words import short_of, span

    print(headline(found))
    if found.reason is not None:
        print("\n".join(wrapped(f"{found.reason}.")))
        print()
        print_notes(found.notes)
        return
    print()
    _print_figures(found)
    print()
    print_notes(_predicted(found) + _stored(found) + list(found.notes))
    if found.missed:
        print("\nCheaper plans that miss, everything else as above:")
        head = ("with only", "starts/s", "p99", "why it misses")
        rows = [
            (miss.change, short_of(miss.throughput, found.target), span(miss.p99), miss.reason) for miss in found.missed
        ]
        _print_folded([head, *rows], left=(0, 3))


def _print_figures(found: Sizing) -> None:
    from capacity.model.advice import interval

    rows = [(f.name, f"{f.value:,}", interval(f), f.reason) for f in found.figures]
    _print_folded([("", "needed", "90%", "what forces it"), *rows], left=(0, 3))


def _print_folded(lines: list[tuple[str, ...]], left: tuple[int, ...]) -> None:
    """Columns whose last is folded at the terminal's width."""
    *widths, _ = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = max(WIDTH - sum(widths) - 2 * len(widths), 20)
    folded: list[tuple[str, ...]] = []
    for *cells, last in lines:
        parts = textwrap.wrap(last, room) or [""]
        folded.append((*cells, parts[0]))
        folded.extend((*("" for _ in cells), part) for part in parts[1:])
    print_columns(folded, left=left)


def _predicted(found: Sizing) -> list[tuple[str, str]]:
    from capacity.model.words import milliseconds, number

    rate, mean, p99 = found.throughput, found.mean, found.latency_p99
    if rate is None or mean is None or p99 is None:
        return []
    low, high = number(rate.low), number(rate.high)
    words = f"{number(rate.value)} starts/s (90%: {low} to {high}), mean {milliseconds(mean.value)}, "
    words += f"p99 {milliseconds(p99.value)} ({milliseconds(p99.low)} to {milliseconds(p99.high)})"
    return [("Gives", words)]


def _stored(found: Sizing) -> list[tuple[str, str]]:
    from capacity.model.words import many, number
    from capacity.model.words import size as in_bytes

    need = found.storage
    if need is None:
        return []
    source = "as swept" if need.measured else "typical of the stock schema, not measured here"
    each = f"{number(need.main / 1e3)} kB main and {number(need.visibility / 1e3)} kB visibility a start, {source}"
    once = "a batch" if need.period == "batch" else "a day at this rate"
    daily = ", one batch a day" if need.period == "batch" else ""
    days = many(need.retention_days, "day", digits=6)
    words = f"{in_bytes(need.per_period)} {once}, {in_bytes(need.retained)} held with {days} of retention"
    rest = "before any workflow task" + (f", and {number(need.wal / 1e3)} kB of log" if need.wal else "")
    return [("Storage", f"{words}{daily} ({each}, {rest})"), ("Lever", need.lever)]
