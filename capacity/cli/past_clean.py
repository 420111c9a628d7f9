"""Ending what a past run started, in a terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection

from capacity.cluster.guard import check_target
from capacity.cluster.target import Target
from capacity.errors import RunFailedError
from capacity.launcher import cleaning, service
from capacity.launcher.rebuild import rebuild
from capacity.launcher.transport import connect
from capacity.model.words import duration
from capacity.observe.history import PastRun


def clean_run(run: PastRun, target: Target, delete: bool, allowed: Collection[str]) -> None:
    """End or delete the workflows of a run, with progress."""
    check_target(target, allowed)
    asyncio.run(_clean(run, target, delete))


async def _clean(run: PastRun, target: Target, delete: bool) -> None:
    batch = rebuild(run.batch, read_items=False) if run.batch else None  # lost: the memo tells all the same
    async with connect(target) as connection:
        await service.check(connection)
        query = service.wider_query(batch)  # the memo tells whose they are; a time would be by this machine's clock
        if not delete:
            query += " AND ExecutionStatus = 'Running'"
        among = await service.count(connection, query, patience=cleaning.PATIENCE)
        print(f"looking for workflows of run {run.run_id} among {among:,} of their kind", file=sys.stderr, flush=True)
        looking = cleaning.of_run(connection, query, run.run_id, on_progress=_shown(among))
        executions = [execution async for execution in looking]
        what = "delete" if delete else "end"
        seconds = len(executions) / cleaning.SERVER_RATE
        print(
            f"{len(executions):,} workflows to {what}; at the server's default of {cleaning.SERVER_RATE:g}/s "
            f"that takes {duration(seconds)}",
            file=sys.stderr,
        )
        if not executions:
            return
        done = await cleaning.clean(connection, executions, delete=delete, on_progress=_shown(len(executions)))
    print(f"run {run.run_id}: {done:,} of {len(executions):,} workflows {'deleted' if delete else 'ended'}")
    if done < len(executions):
        raise RunFailedError(f"{len(executions) - done:,} workflows are left", next_step="run the same command again")


def _shown(count: int) -> Callable[[int], None]:
    """Return what tells how many of them are done, at every twentieth."""
    shown = 0

    def show(done: int) -> None:
        nonlocal shown
        if done != shown and (done - shown >= count / 20 or done == count):
            shown = done
            print(f"{done:,} of {count:,}", file=sys.stderr, flush=True)

    return show
