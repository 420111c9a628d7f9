"""`capacity launch`: a live batch on a dev cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from capacity.cli.connection import (
    NO_OPTIONS,
    Address,
    AllowTarget,
    Connection,
    FleetNamespace,
    FleetQueue,
    Namespace,
    grouped,
)
from capacity.cli.options import FLAG, HOW, Format, check_out, parallelisms, refuse, whole
from capacity.cli.watch import PostgresDsn, PrometheusUrl, ServerMetrics
from capacity.fleet import TASK_QUEUE, Fleet

BATCH, CONTROL, RECORD = "Batch", "Control", "Record"
ON_EXISTING = ("skip", "rerun-failed", "rerun", "fail")
"""As in `capacity.launcher.batch`, which imports what the help and the completion do without."""


@grouped
def launch(
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "--batch",
            metavar="N",
            parser=whole,
            help="Starts in one batch.",
            rich_help_panel=BATCH,
            show_default=False,
        ),
    ] = None,
    chain_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Chain whose blocks are indexed.", rich_help_panel=BATCH, show_default="mainnet"
        ),
    ] = None,
    from_height: Annotated[
        int | None,
        typer.Option(metavar="N", help="Height of the first block.", rich_help_panel=BATCH, show_default="0"),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or JSON lines with 'id' and input columns.",
            rich_help_panel=BATCH,
            show_default=False,
        ),
    ] = None,
    workflow_type: Annotated[
        str, typer.Option(metavar="NAME", help="Workflow type.", rich_help_panel=BATCH)
    ] = "IndexBlockWorkflow",
    task_queue: Annotated[str, typer.Option(metavar="NAME", help="Task queue.", rich_help_panel=BATCH)] = "capacity",
    input_template: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Input as JSON with places: \'{"h": "{height}"}\'.', rich_help_panel=BATCH),
    ] = None,
    on_existing: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help=f"If an id exists: {', '.join(ON_EXISTING)}.",
            rich_help_panel=BATCH,
            autocompletion=lambda incomplete: [how for how in ON_EXISTING if how.startswith(incomplete)],
        ),
    ] = "skip",
    memo: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Memo field, its value JSON; repeatable.", rich_help_panel=BATCH),
    ] = None,
    search_attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Search attribute, its value JSON; repeatable.", rich_help_panel=BATCH),
    ] = None,
    priority_key: Annotated[
        int | None,
        typer.Option(metavar="N", help="Priority, 1 (first) to 5.", rich_help_panel=BATCH, show_default=False),
    ] = None,
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Starts in flight: 128, 4x or auto.",
            rich_help_panel=CONTROL,
            show_default="auto",
            autocompletion=parallelisms,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Starts due per second (open loop).", rich_help_panel=CONTROL),
    ] = None,
    max_in_flight: Annotated[
        int | None,
        typer.Option(metavar="N", help="Bound for auto and --rate.", rich_help_panel=CONTROL, show_default="512"),
    ] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long an attempt may take.", rich_help_panel=CONTROL)
    ] = 10.0,
    attempts: Annotated[
        int,
        typer.Option(metavar="N", help="Most attempts per item; throttled ones do not count.", rich_help_panel=CONTROL),
    ] = 10,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for a lost server.", rich_help_panel=CONTROL)
    ] = 300.0,
    processes: Annotated[
        int, typer.Option(metavar="K", help="Launcher processes on this machine.", rich_help_panel=CONTROL)
    ] = 1,
    fleet: Annotated[
        bool,
        typer.Option("--fleet", metavar=FLAG, help="Let a fleet's workers launch it.", rich_help_panel=CONTROL),
    ] = False,
    fleet_queue: FleetQueue = TASK_QUEUE,
    fleet_namespace: FleetNamespace = None,
    with_worker: Annotated[
        bool,
        typer.Option("--worker", metavar=FLAG, help="Also run a worker; wait for completion.", rich_help_panel=CONTROL),
    ] = False,
    address: Address = None,
    namespace: Namespace = None,
    connection: Connection = NO_OPTIONS,
    allow_target: AllowTarget = None,
    vitals: Annotated[
        bool,
        typer.Option(
            "--vitals/--no-vitals", metavar=FLAG, help="Watch server and PostgreSQL.", rich_help_panel="Vitals"
        ),
    ] = True,
    server_metrics: ServerMetrics = None,
    postgres: PostgresDsn = None,
    prometheus: PrometheusUrl = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Journal of outcomes.",
            rich_help_panel=RECORD,
            show_default="a new one in the state folder",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", metavar=FLAG, help="Go on with the batch's journal.", rich_help_panel=RECORD),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            "--out",
            metavar="FILE",
            help="Write the JSON here too.",
            rich_help_panel=RECORD,
            show_default=False,
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Serve Prometheus metrics at http://127.0.0.1:PORT/metrics.",
            rich_help_panel=RECORD,
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify", metavar=FLAG, help="Ask the server for the count.", rich_help_panel=RECORD
        ),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar=FLAG, help="Show what would be sent; start nothing.", rich_help_panel=RECORD),
    ] = False,
    form: Annotated[Format, typer.Option("--format", help=HOW, rich_help_panel=RECORD)] = Format.TEXT,
    as_json: Annotated[
        bool, typer.Option("--json", metavar=FLAG, help="The same as --format json.", rich_help_panel=RECORD)
    ] = False,
) -> None:
    """Start a batch of workflows on a dev cluster; verify the count.

    The batch is --count starts, or the items of a file (--items). Exit code 1
    when not all of it is there in the end.

    Example: capacity launch --count 2000 --parallelism 4x

    Example: capacity launch --count 2000 --parallelism 4x --resume

    Example: capacity launch --items items.csv --workflow-type ImportOrder

    Example: capacity launch --count 100000 --fleet
    """
    from capacity.cli import launching
    from capacity.errors import UsageError
    from capacity.launcher.batch import StartOptions
    from capacity.launcher.controller import Fixed
    from capacity.launcher.retries import RetryPolicy
    from capacity.launcher.settings import controller_for
    from capacity.observe.session import Journaling
    from capacity.observe.sources import Places

    as_json = as_json or form is Format.JSON
    check_out("--record", record, items, journal)
    places = Places(server_metrics, postgres, prometheus)
    if not vitals:
        watched = {"--server-metrics": server_metrics, "--postgres": postgres, "--prometheus": prometheus}
        refuse(watched, "does not go with --no-vitals", "leave one of them out")
    options = StartOptions(
        workflow_type,
        task_queue,
        on_existing,
        launching.json_fields("--memo", memo),
        launching.json_fields("--search-attribute", search_attribute),
        priority_key,
    )
    batch = launching.batch(count, chain_id, from_height, items, input_template, options)
    target = connection.target(address, namespace)
    policy = RetryPolicy(deadline=deadline, attempts=attempts, patience=patience)
    if not fleet:
        of_fleet = {"--fleet-queue": None if fleet_queue == TASK_QUEUE else fleet_queue}
        refuse(of_fleet | {"--fleet-namespace": fleet_namespace}, "needs --fleet", "pass it too")
    own_fleet = Fleet(fleet_queue, fleet_namespace) if fleet else None
    if max_in_flight is not None:
        controller, asked = controller_for(parallelism, rate=rate)
        if isinstance(controller, Fixed):
            raise UsageError(
                f"--max-in-flight does not go with {asked}", next_step="pass --parallelism auto, or leave it out"
            )
    bound = 512 if max_in_flight is None else max_in_flight
    control: dict[str, Any] = {"parallelism": parallelism, "rate": rate, "max_in_flight": bound}
    if dry_run:
        from capacity.cli.dry_run import dry_run as show

        control |= {"processes": processes, "fleet": own_fleet, "metrics_port": metrics_port}
        control |= {"with_worker": with_worker, "journaling": Journaling(journal, resume)}
        show(batch, target, allow_target or (), policy, as_json, **control)
        return
    run = launching.run(
        batch,
        target,
        **control,
        journaling=Journaling(journal, resume),
        processes=processes,
        fleet=own_fleet,
        with_worker=with_worker,
        verify=verify,
        allowed=allow_target or (),
        policy=policy,
        metrics_port=metrics_port,
        vitals=places if vitals else False,
    )
    try:
        if record:
            launching.save(run, record)
    finally:
        launching.report(run, as_json)
    raise typer.Exit(launching.exit_code(run))
