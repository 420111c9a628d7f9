"""`capacity fleet`: launchers on any number of machines, and the batches they work on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

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
from capacity.cli.options import Form, Format
from capacity.fleet import TASK_QUEUE, Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from temporalio.client import Client, WorkflowHandle

    from capacity.cluster.target import Target
    from capacity.fleet.report import Report
    from capacity.fleet.workflow import BatchDone, LaunchBatch

app = typer.Typer(
    help="""Launch one batch from many machines.

    'capacity launch --fleet' orders a batch; workers take ranges of it, one at a
    time, and say with heartbeats what of it is done. The range of one that falls
    silent goes on elsewhere from there.

    --rate and auto hold for the fleet as a whole; against a limit of the cluster
    each launcher paces itself by the refusals it gets. Whoever ordered a batch
    may leave: the same command with --resume watches it again, or fetches the
    result. A resumed batch of millions of mixed outcomes is ordered in parts; the
    launch that ordered it has to stay.

    An items file must be readable at the same path on every worker. A namespace
    at its request limit refuses the fleet's own calls first: --fleet-namespace
    puts them into another.

    Example: capacity fleet worker --processes 2

    Example: capacity launch --count 100000 --fleet

    Example: capacity fleet status
    """,
    no_args_is_help=True,
)
Batch = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run id of the batch.", show_default="the one ordered last")
]
Running = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run id of the batch.", show_default="the only one that runs")
]


@app.command("worker")
@grouped
def worker(
    processes: Annotated[int, typer.Option(metavar="K", help="Launcher processes on this machine.")] = 1,
    fleet_queue: FleetQueue = TASK_QUEUE,
    fleet_namespace: FleetNamespace = None,
    address: Address = None,
    namespace: Namespace = None,
    connection: Connection = NO_OPTIONS,
    allow_target: AllowTarget = None,
) -> None:
    """Take ranges of batches and launch them, until Ctrl-C.

    Run it on any number of machines. On Ctrl-C it drains and hands the rest of
    its range to others; a lost worker's range moves after 5 s.
    A batch for another --namespace than its own is refused.

    Example: capacity fleet worker --address 127.0.0.1:7233 --processes 2
    """
    import asyncio
    import sys

    from capacity import interrupts
    from capacity.cluster.guard import check_target
    from capacity.fleet import workers
    from capacity.fleet.processes import check_processes
    from capacity.launcher import service
    from capacity.launcher.transport import connect

    check_processes(processes)
    target = connection.target(address, namespace)
    check_target(target, allow_target or ())

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        with interrupts.handled(lambda _: loop.call_soon_threadsafe(stop.set)):
            async with connect(target) as connection:
                await service.check(connection)
            say(f"fleet {fleet_queue!r} on {target.address}, namespace {target.namespace}; Ctrl-C drains and ends")
            await workers.serve(
                target, processes, task_queue=fleet_queue, own_namespace=fleet_namespace, stop=stop, say=say
            )

    asyncio.run(serve())


@app.command("status")
@grouped
def status(
    batch: Batch = None,
    fleet_queue: FleetQueue = TASK_QUEUE,
    fleet_namespace: FleetNamespace = None,
    address: Address = None,
    namespace: Namespace = None,
    connection: Connection = NO_OPTIONS,
    allow_target: AllowTarget = None,
    form: Form = Format.TEXT,
) -> None:
    """Show how a batch stands and which launchers are at work.

    Example: capacity fleet status --format json
    """

    target = connection.target(address, namespace)
    fleet = Fleet(fleet_queue, fleet_namespace)
    found = _ask(target, allow_target, fleet_namespace, lambda client: _status(client, batch, fleet_queue))
    if form is Format.JSON:
        print(json.dumps(found, indent=1))
        return
    from capacity.cli.printing import print_columns

    print(f"batch      {found['run_id']}, {found['state']}")
    if found["done"] is None:
        print(f"done       not known of {found['count']:,} items: {_unknown(found['state'], target, fleet)}")
        print(f"launchers  {found['pollers']} ask for ranges")
        return
    done = f"{found['done']:,} of {found['count']:,} items ({found['done'] / max(found['count'], 1):.1%})"
    print(f"done       {done}, {found['failed']:,} of them failed")
    if found["state"] in ("running", "paused", "stopping"):
        rate = found["starts_per_second"]
        now = "starts/s not known yet" if rate is None else f"{rate:,.0f} starts/s"
        print(f"now        {now}, {found['in_flight']} in flight")
    elif found["done"] < found["count"]:
        print("to do      the rest: the launch that ordered it goes on with --resume")
    print(f"launchers  {len(found['launchers'])} at work, {found['pollers']} ask for ranges")
    for words in found["failing"]:
        print(f"failed     {words}")
    if found["launchers"]:
        head = ("", "range", "done of it", "in flight", "throttled")
        rows = [
            (one["who"], one["range"], f"{one['answered']:,}", f"{one['in_flight']}", f"{one['throttled']:,}")
            for one in found["launchers"]
        ]
        print()
        print_columns([head, *rows], left=(0, 1))


def _unknown(state: str, target: Target, fleet: Fleet) -> str:
    """Return why a batch does not say what is done of it."""
    if state == "running":
        return f"no worker answers; start one: {fleet.worker_command(target.address, target.namespace)}"
    return f"it was {state}, and left no result; the launch that ordered it goes on with --resume"


async def _status(client: Client, batch: str | None, task_queue: str) -> dict[str, Any]:
    """Return how a batch stands; what its workers, who alone know, do not tell is None."""
    import asyncio
    import time

    from capacity.fleet.looking import find, look, pollers
    from capacity.fleet.workflow import run_id_of
    from capacity.launcher import outcome
    from capacity.model.fleet_records import STANDARD

    handle = await find(client, batch)
    described = await handle.describe()
    state = (described.status.name if described.status else "unknown").lower()
    memo = (await described.memo()).get("capacity", {})
    running = state == "running"
    first, began = await look(client, handle) if running else None, time.monotonic()
    # Reports come with heartbeats: within two of them each launcher has told one more second or so.
    await asyncio.sleep(2 * STANDARD.beat(len(first.launchers)) if first else 0)
    seen, seconds = await look(client, handle) if running else None, time.monotonic() - began
    total = (seen.total if seen else None) if running else await _result(handle)
    unknown = None if running else 0
    failed = sum(n for code, n in total.codes.items() if outcome.is_failure(code)) if total else None
    started = total.since(first.total).codes.get(outcome.STARTED, 0) if total and first else None
    launchers = [{"range": name.partition(".")[0], **vars(beat)} for name, beat in seen.launchers] if seen else []
    return {
        "run_id": run_id_of(handle.id),
        "state": seen.standing.state if seen else state,
        "count": memo.get("count", 0),
        "done": memo.get("before", 0) + total.answered if total else None,
        "failed": failed,
        "starts_per_second": unknown if started is None else max(started, 0) / seconds,
        "in_flight": seen.in_flight if seen else unknown,
        "pollers": await pollers(client, task_queue),
        "launchers": launchers if seen or not running else None,
        "failing": seen.failing if seen else [],
    }


async def _result(handle: WorkflowHandle[LaunchBatch, BatchDone]) -> Report | None:
    """Return what became of a batch that ended; its result needs no worker. None of one that was ended from outside."""
    from temporalio.client import WorkflowFailureError

    from capacity.fleet.report import Report

    try:
        done = await handle.result()
    except WorkflowFailureError:
        return None
    return Report.from_json(done.report) if done.report else Report()


def _steering(name: str, signal: str, said: str, help: str) -> None:
    """Make a command that sends a batch a signal."""

    @grouped
    def steer(
        batch: Running = None,
        fleet_namespace: FleetNamespace = None,
        address: Address = None,
        namespace: Namespace = None,
        connection: Connection = NO_OPTIONS,
        allow_target: AllowTarget = None,
    ) -> None:

        target = connection.target(address, namespace)
        steered = _ask(target, allow_target, fleet_namespace, lambda client: _sent(client, batch, signal))
        print(f"batch {steered} {said}")

    app.command(name, help=f"{help}\n\nExample: capacity fleet {name}")(steer)


async def _sent(client: Client, batch: str | None, signal: str) -> str:
    """Send a batch a signal; return its run id."""
    from temporalio.service import RPCError, RPCStatusCode

    from capacity.errors import UsageError
    from capacity.fleet.looking import find
    from capacity.fleet.workflow import run_id_of

    handle = await find(client, batch, to_steer=True)
    run_id = run_id_of(handle.id)
    try:
        await handle.signal(signal)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise UsageError(f"batch {run_id} has ended", next_step="see 'capacity fleet status'") from None
    return run_id


_drained = "what is in flight is drained"
_steering("pause", "pause", f"pauses: {_drained}", "Have the launchers of a batch drain and wait.")
_steering("resume", "resume", "goes on", "Go on with a paused batch.")
_steering(
    "cancel",
    "stop",
    f"ends: {_drained}",
    "End a batch once what is in flight is answered.\n\nThe launch that ordered it says how to go on with it.",
)


def _ask(
    target: Target,
    allowed: Collection[str] | None,
    own: str | None,
    question: Callable[[Client], Coroutine[Any, Any, Any]],
) -> Any:
    """Ask something of a server that may be dialled; what goes wrong becomes one clear line."""
    import asyncio

    from temporalio.service import RPCError

    from capacity.cluster.guard import check_target
    from capacity.errors import ClusterError
    from capacity.fleet.looking import connected

    check_target(target, allowed or ())

    async def ask() -> Any:
        client = await connected(target, Fleet(namespace=own))
        try:
            return await question(client)
        except RPCError as error:
            raise ClusterError(f"{target.address} refuses: {error.message}", next_step="see the server's log") from None

    return asyncio.run(ask())
