"""`capacity levers`: what takes the time of a start on a live stack, and what each change would buy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.connection import Address, AllowTarget
from capacity.cli.measuring import Where, interruptible, print_left_behind, say
from capacity.cli.options import (
    CLUSTER,
    FLAG,
    CalibrationName,
    Form,
    Format,
    MaxConns,
    Seconds,
    Shards,
    Store,
    in_flight,
    multipliers,
    refuse,
)
from capacity.cli.printing import columns, wrapped
from capacity.errors import UsageError

if TYPE_CHECKING:
    from capacity.experiment.local import LocalCluster
    from capacity.model.cluster import Cluster
    from capacity.verdict.levers import Levers

SHOWN = 6


def levers(
    seconds: Seconds = 8.0,
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Starts in flight: 128, or 4x the CPUs of this machine.",
            autocompletion=multipliers,
            show_default="8",
        ),
    ] = None,
    load: Annotated[
        bool, typer.Option("--load/--no-load", metavar=FLAG, help="Run a load, or read the one running.")
    ] = True,
    comparison: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="JSON of 'capacity compare': what it confirmed.", show_default=False),
    ] = None,
    calibration: CalibrationName = "postgres",
    store: Annotated[
        Store | None,
        typer.Option(help="postgres: a fresh stack.", rich_help_panel=CLUSTER, show_default="the running cluster"),
    ] = None,
    shards: Shards = None,
    max_conns: MaxConns = None,
    address: Address = None,
    allow_target: AllowTarget = None,
    sql: Annotated[bool, typer.Option("--sql", metavar=FLAG, help="Print only the DROP INDEX statements.")] = False,
    form: Form = Format.TEXT,
) -> None:
    """Say what takes a start's time and what each change would buy.

    Runs a short load on a PostgreSQL stack of this machine, or reads the one
    running (--no-load).
    Statements that drop unused indexes are printed, never run.

    Example: capacity levers --store postgres
    """
    from capacity.cluster import state
    from capacity.experiment.local import found as local_cluster
    from capacity.experiment.pressure import press
    from capacity.experiment.subject import subject, tell_left
    from capacity.model.calibration import Calibration
    from capacity.verdict.confirmation import comparison_of
    from capacity.verdict.levers import levers as judged_levers

    if sql and form is Format.JSON:
        raise UsageError("--sql and --format json exclude each other", next_step="the JSON has the statements, too")
    measured = Calibration.named(calibration)
    compared = [comparison_of(path) for path in comparison or ()]
    if not 1 <= seconds <= 600:
        raise UsageError(f"seconds is {seconds:g}", allowed="1 to 600")
    if not load:
        refuse({"--parallelism": parallelism}, "does not go with --no-load", "the load that runs has its own")
    flight = in_flight("8" if parallelism is None else parallelism)
    if store is Store.SQLITE:
        raise UsageError(
            "store is 'sqlite'", allowed="postgres: an embedded server has no statements or indexes to read"
        )
    if store is not None and not load:
        raise UsageError("--no-load and --store exclude each other", next_step="a fresh stack has no load to read")
    if store is None and address is None:
        address = state.running_address()
        if address is None:
            raise UsageError(
                "no cluster is running",
                next_step="pass --store postgres for a fresh one, or run 'capacity cluster up --store postgres'",
            )
    if store is None and local_cluster(address or "").postgres is None:
        raise UsageError(
            f"the database of the cluster at {address} is not known here",
            allowed="a stack that 'capacity cluster up --store postgres' started",
            next_step="or pass --store postgres for a fresh one",
        )
    where = Where(store=store, shards=shards, max_conns=max_conns, address=address, allow_target=allow_target)
    wanted = where.wanted(seconds)
    told = f"a load of {flight} in flight" if load else "reading the load that runs"
    say("\n".join(wrapped(f"{told}, {seconds:g} s, {wanted.where}")))
    with (
        interruptible("stopping; once more to stop at once") as stop,
        subject(wanted, say) as (target, cluster),
    ):
        pressure, prefix, left = press(
            target,
            cluster,
            flight if load else None,
            seconds,
            allowed=wanted.allowed,
            stop=stop.is_set,
            ended_early=lambda left, prefix: tell_left(say, left, wanted, prefix),
        )
        described = cluster_of(cluster)
    found = judged_levers(pressure, described, measured, compared)
    if sql:
        text = "\n".join(found.statements)
    elif form is Format.JSON:
        text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
    else:
        text = "\n".join(report(found, store))
    print(text)
    print_left_behind(left, wanted, prefix, Format.JSON if sql else form)


def cluster_of(cluster: LocalCluster) -> Cluster:
    """Return the description of a stack on this machine."""
    from capacity.model.cluster import DEFAULTS, Cluster

    config = cluster.dynamic_config
    limits = {key: _number(key, config[key]) for key in DEFAULTS if key in config}
    concurrency = _number("history.shardIOConcurrency", config.get("history.shardIOConcurrency", "1"))
    return Cluster(
        name=f"stack at {cluster.address}",
        cores=cluster.cpu_count or 1,
        launcher_shares_cores=cluster.launcher_shares_cpus,
        shards=cluster.shards or 1,
        shard_io_concurrency=max(1, int(concurrency)),
        max_conns=cluster.max_conns or 20,
        visibility_max_conns=max(1, (cluster.max_conns or 20) // 2),
        limits=limits,
    )


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{key} of the running stack is {text[:60]!r}", allowed="a number")
    return int(value) if value.is_integer() else value


def report(found: Levers, store: Store | None = None) -> list[str]:
    """Return levers in lines of at most 80 characters; `store` is that of a fresh stack, which is gone by then."""
    again = "capacity levers" if store is None else f"capacity levers --store {store.value}"
    lines = ["", "Where a start's time goes:"]
    for name, words in found.spent():
        lines += wrapped(f"{name:<16}  {words}", indent=" " * 18)
    if found.pressure.flag:
        lines += wrapped(f"Take care: the load was not a plain one ({found.pressure.flag}).")
    if found.levers:
        lines += ["", "What each change would buy, by the model:"]
        lines += columns([row[:5] for row in found.rows()], left=(0,))
    for lever in found.levers:
        if lever.confirmed:
            lines += wrapped(f"{lever.change}: {lever.confirmed}.")
    lines += ["", *wrapped(found.summary())]
    if found.unused:
        lines += ["", *wrapped(_caution(found))]
        lines += [f"  {statement}" for statement in found.statements[:SHOWN]]
        if len(found.statements) > SHOWN:
            lines.append(f"  ... and {len(found.statements) - SHOWN} more: {again} --sql prints them all")
        lines += [
            "To confirm it on fresh stacks, and to see it beside the model's estimate:",
            "  capacity compare 4x 4x,unused-indexes=dropped --store postgres --out c.json",
            f"  {again} --comparison c.json",
        ]
    return lines


def _caution(found: Levers) -> str:
    held = sum(index.bytes for index in found.unused) / 2**20
    return (
        f"{len(found.unused)} of {len(found.pressure.indexes)} visibility indexes were used by no query since the "
        f"statistics began ({held:,.0f} MiB). Those that lists by id, type, status and time need are not among them. "
        "A list by another search attribute needs its own: drop none that your people filter by. Not run, only shown, "
        "for the database temporal_visibility:"
    )
