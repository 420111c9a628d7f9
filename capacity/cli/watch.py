"""`capacity watch`: the vitals of a cluster, by component, once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.connection import Address
from capacity.cli.options import FLAG, Format, quantity, refuse
from capacity.cli.printing import console

if TYPE_CHECKING:
    from rich.table import Table

    from capacity.observe.vitals import VitalsSample
    from capacity.observe.watcher import Watcher

_PANEL = "Vitals"
ServerMetrics = Annotated[
    str | None,
    typer.Option(
        "--server-metrics",
        metavar="URL",
        help="The server's Prometheus page.",
        rich_help_panel=_PANEL,
        show_default="that of the running cluster",
    ),
]
PostgresDsn = Annotated[
    str | None,
    typer.Option(
        "--postgres",
        metavar="DSN",
        help="Its PostgreSQL; password better in PGPASSWORD or a passfile.",
        rich_help_panel=_PANEL,
        show_default="that of the running cluster",
    ),
]
PrometheusUrl = Annotated[
    str | None,
    typer.Option(
        "--prometheus",
        metavar="URL",
        help="A Prometheus that knows CPU of hosts and containers.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def watch(
    address: Address = None,
    server_metrics: ServerMetrics = None,
    postgres: PostgresDsn = None,
    prometheus: PrometheusUrl = None,
    once: Annotated[
        bool, typer.Option("--once", metavar=FLAG, help="One sample with rates over a second, then end.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", parser=quantity, help="How long.", show_default="until Ctrl-C"),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Text, or a JSON object a sample.")] = Format.TEXT,
) -> None:
    """Show the vitals of server and PostgreSQL once a second.

    Example: capacity watch --seconds 60
    """
    import math

    from capacity.cluster.profile import load_target
    from capacity.errors import UsageError
    from capacity.observe.sources import Places, find
    from capacity.observe.watcher import Watcher

    if once:
        refuse({"--seconds": seconds}, "does not go with --once", "it takes one sample")
    if seconds is not None and seconds < 0:
        raise UsageError(f"--seconds is {seconds:g}", allowed="0 or more")
    places = Places(server_metrics, postgres, prometheus)
    target = load_target(address).address
    sources = find(target, places)
    if not sources:
        raise UsageError(
            f"nothing to watch: no local cluster is known at {target}",
            next_step="start one with 'capacity cluster up', or pass --server-metrics, --postgres or --prometheus",
        )
    span = 1.0 if once else math.inf if seconds is None else seconds
    try:
        _show(Watcher(sources), span, form, once)
    except KeyboardInterrupt:
        if seconds is not None or once:
            raise  # it was to end by itself


def _show(watcher: Watcher, span: float, form: Format, once: bool) -> None:
    """Show samples until one is `span` seconds old or more; with `once` only that one."""
    import sys
    import time
    from contextlib import nullcontext

    from rich.live import Live

    live = (
        Live(console=console(), auto_refresh=False)
        if sys.stdout.isatty() and form is Format.TEXT and not once
        else None
    )
    shown: VitalsSample | None = None
    try:
        with watcher, live or nullcontext():
            while shown is None or shown.at < span - 0.05:
                time.sleep(0.05)
                sample = watcher.latest
                if sample is None or sample is shown:
                    continue
                shown = sample
                if once and shown.at < span - 0.05:
                    continue
                if live is not None:
                    live.update(table(shown), refresh=True)
                else:
                    _print(shown, form, whole=once)
    finally:
        _print_findings(watcher, form)


def _print(sample: VitalsSample, form: Format, whole: bool) -> None:
    from capacity.observe import vitals_text

    if form is Format.JSON:
        print(sample.model_dump_json(), flush=True)
    elif whole:
        console().print(table(sample))
    else:
        print(f"{sample.at:.0f} s: {vitals_text.line(sample)}", flush=True)


def _print_findings(watcher: Watcher, form: Format) -> None:
    from capacity.observe.findings import findings

    if form is Format.TEXT:
        for finding in findings(watcher.samples):
            print(f"in the way: {finding}", flush=True)


def table(sample: VitalsSample) -> Table:
    """Return all vitals by component as a table of at most 80 columns."""
    from rich.table import Table

    from capacity.observe import vitals_text

    grid = Table(box=None, show_header=False, pad_edge=False, width=80)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    before = ""
    for component, what, value in vitals_text.rows(sample):
        missing = value.startswith(vitals_text.NOT_MEASURED)
        grid.add_row(component if component != before else "", what, value, style="dim" if missing else None)
        before = component
    return grid
