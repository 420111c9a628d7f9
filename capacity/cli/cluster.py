"""`capacity cluster`: a dev cluster to launch at, for as long as it is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.options import CLUSTER, FLAG, Form, Format, MaxConns, Shards, Store, UpStore, check_once
from capacity.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from capacity.cluster.state import ClusterState

app = typer.Typer(
    help="Start, inspect and stop a dev cluster.\n\nExample: capacity cluster status",
    no_args_is_help=True,
)


Port = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", help="Frontend port; 0 is any free one.", rich_help_panel=CLUSTER, show_default="7233"
    ),
]
DynamicConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--dynamic-config", metavar="KEY=VALUE", help="Temporal setting; repeatable.", rich_help_panel=CLUSTER
    ),
]
Database = Annotated[
    Path | None,
    typer.Option(
        "--db",
        metavar="FILE",
        dir_okay=False,
        help="SQLite file to keep the data in.",
        rich_help_panel=CLUSTER,
        show_default="memory",
    ),
]


@app.command()
def up(
    store: UpStore = Store.SQLITE,
    port: Port = None,
    dynamic_config: DynamicConfig = None,
    database: Database = None,
    shards: Shards = None,
    max_conns: MaxConns = None,
    pg_option: Annotated[
        list[str] | None,
        typer.Option(
            "--pg-option",
            metavar="KEY=VALUE",
            help="postgres: a setting of it; repeatable.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
) -> None:
    """Start a dev cluster and leave it running.

    Example: capacity cluster up --dynamic-config frontend.rps=100000
    """
    from capacity.cluster import lifecycle
    from capacity.cluster.settings import Settings

    stack_only = {"--shards": shards, "--max-conns": max_conns, "--pg-option": pg_option}
    given = [option for option, value in stack_only.items() if value is not None]
    if store is Store.SQLITE and given:
        raise UsageError(f"{given[0]} is given with the store sqlite", next_step="add --store postgres")
    settings = Settings(
        store=store.value,
        port=port,
        dynamic_config=_pairs("--dynamic-config", dynamic_config),
        database=database,
        shards=64 if shards is None else shards,
        max_conns=40 if max_conns is None else max_conns,
        pg_options=_pairs("--pg-option", pg_option),
    )
    with _terminable():
        cluster = lifecycle.up(settings, _say)
    print(_summary(cluster))


@app.command()
def run(port: Port = None, dynamic_config: DynamicConfig = None, database: Database = None) -> None:
    """Run a dev cluster here until Ctrl-C.

    It is an embedded server on SQLite; 'capacity cluster up' has PostgreSQL too.

    Example: capacity cluster run --port 0
    """
    import time

    from capacity.cluster import lifecycle, state
    from capacity.cluster.settings import Settings

    if state.running_address() is not None:
        raise UsageError(
            f"a cluster is already up at {state.running_address()}", next_step="run 'capacity cluster down' first"
        )
    cluster = None
    with _terminable():
        try:
            cluster = lifecycle.up(
                Settings(port=port, dynamic_config=_pairs("--dynamic-config", dynamic_config), database=database), _say
            )
            print(f"{_summary(cluster)}\nCtrl-C ends it.", flush=True)
            while cluster.alive:
                time.sleep(0.2)
        except KeyboardInterrupt:
            if cluster is None:
                raise
        finally:
            ended_by_itself = cluster is not None and not cluster.alive
            if cluster is not None:
                lifecycle.down(lambda _: None, expected=cluster)
    if ended_by_itself:
        raise ClusterError("the server ended by itself", next_step=f"its log is {cluster.components[0].log}")


@app.command()
def status(form: Form = Format.TEXT) -> None:
    """Show each component: health, version, ports, pid, log.

    Exit code 1 when no cluster is up, or one that is not healthy.

    Example: capacity cluster status --format json
    """
    import json

    from capacity.cluster import lifecycle, state

    cluster = state.read()
    said = lifecycle.component_health(cluster) if cluster else {}
    healthy = cluster is not None and cluster.ready and all(health == "SERVING" for health in said.values())
    if form is Format.JSON:
        print(json.dumps({"up": healthy, **(_record(cluster, said) if cluster else {})}, indent=1))
        raise typer.Exit(0 if healthy else 1)
    if cluster is None:
        raise ClusterError("no cluster is up", next_step="start one with 'capacity cluster up'")
    print(_summary(cluster))
    for each in cluster.components:
        served = ", ".join(f"{name} {number}" for name, number in each.ports.items())
        print(f"{each.name} {each.version}: {said[each.name]}, pid {each.pid}, ports: {served}\n  log {each.log}")
    if not healthy:
        raise ClusterError("the cluster is not healthy", next_step="run 'capacity cluster down', then 'up' again")


@app.command()
def down(
    keep_data: Annotated[
        bool, typer.Option("--keep-data", metavar=FLAG, help="postgres: leave the data for the next 'up'.")
    ] = False,
) -> None:
    """End the dev cluster that 'up' started and drop its data.

    A SQLite file given with --db is always left.

    Example: capacity cluster down --keep-data
    """
    from capacity.cluster import lifecycle

    print("the cluster is down" if lifecycle.down(_say, keep_data=keep_data) else "no cluster was up")


def _summary(cluster: ClusterState) -> str:
    return f"Temporal on {cluster.store} at {cluster.address}, metrics {cluster.metrics_url}"


def _record(cluster: ClusterState, said: dict[str, str]) -> dict[str, object]:
    return {
        "store": cluster.store,
        "address": cluster.address,
        "metrics": cluster.metrics_url,
        "components": [
            {
                "name": each.name,
                "health": said[each.name],
                "version": each.version,
                "pid": each.pid,
                "ports": dict(each.ports),
                "log": each.log,
            }
            for each in cluster.components
        ],
    }


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _pairs(option: str, settings: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for key, equals, value in (setting.partition("=") for setting in settings or ()):
        if not key or not equals:
            raise UsageError(f"setting {key!r} has no value", allowed="KEY=VALUE", next_step="e.g. frontend.rps=100000")
        check_once(option, key, pairs)
        pairs[key] = value
    return pairs


@contextmanager
def _terminable() -> Iterator[None]:
    """Within the block `kill` and a lost terminal end like Ctrl-C: what was started is cleaned up."""
    from capacity import interrupts

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with interrupts.handled(interrupt):
        yield
