"""Two launches for the checklist: the baseline's and the candidate's, one after the other on the same cluster.

A comparison's blocks are too short for a limit that must hold for ten seconds, and keep no record; these do.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from capacity.notebook.decide_form import Asked

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.local import LocalCluster
    from capacity.experiment.setting import Setting
    from capacity.launcher.progress import Progress
    from capacity.observe.run import Run

Stop = Callable[[], bool]


def launched(
    asked: Asked,
    count: int,
    *,
    stop: Stop,
    say: Callable[[str], None],
    note: Callable[[Progress], None],
    launch: Callable[..., Awaitable[Run]] | None = None,
    cluster: Callable[..., Any] | None = None,
) -> Iterator[Run]:
    """Launch a batch with each setting and yield each record as it is made, the baseline's first; fewer when stopped.

    Parameters
    ----------
    asked : Asked
        The settings and the cluster.
    count : int
        Starts of each batch.
    stop, say, note : callable
        Whether to end; told in sentences what happens; told ten times a second how far it is.
    launch, cluster : callable, optional
        Stand in for `capacity.observe.session.launch` and `capacity.experiment.subject.subject`.

    Raises
    ------
    CapacityError
        What ended a launch or its cluster.
    """
    from capacity.experiment.subject import subject

    on = cluster or subject
    chain = f"decide-{secrets.token_hex(3)}"
    with ExitStack() as whole:
        shared = None if asked.own_each else whole.enter_context(on(asked.wanted, say))
        for role, side in (("baseline", asked.baseline), ("candidate", asked.candidate)):
            with ExitStack() as own:
                target, local = shared or own.enter_context(on(side.applied(asked.wanted), say))
                if shared is None:
                    side.prepare(local)
                _until_quiet(local, stop)
                if stop():
                    break
                say(f"Launching {count:,} starts with {side.label}")
                yield asyncio.run(_one(side, f"{chain}-{role}", count, target, local, asked, stop, note, launch))


async def _one(
    side: Setting,
    chain: str,
    count: int,
    target: Target,
    local: LocalCluster,
    asked: Asked,
    stop: Stop,
    note: Callable[[Progress], None],
    launch: Callable[..., Awaitable[Run]] | None,
) -> Run:
    from capacity.launcher.batch import HeightRange
    from capacity.observe import session
    from capacity.observe.sources import Places

    stopping = asyncio.Event()

    async def watch() -> None:
        while not stop():
            await asyncio.sleep(0.1)
        stopping.set()

    # A stack of our own has a state folder of its own, where nobody else looks for its metrics and its database.
    vitals = Places(local.metrics_url, local.postgres) if local.postgres is not None else True
    watching = asyncio.create_task(watch())
    try:
        return await (launch or session.launch)(
            HeightRange(count, chain),
            target,
            **side.control,
            allowed=asked.wanted.allowed,
            vitals=vitals,
            on_progress=note,
            stop=stopping,
        )
    finally:
        watching.cancel()


def _until_quiet(local: LocalCluster, stop: Stop) -> None:
    from capacity.experiment.local import ClusterCpu, Quiet

    Quiet(ClusterCpu(local).read).wait(stop)


def recorded(name: str) -> Run:
    """Return the record of an earlier run, named as `capacity runs` accepts it.

    Raises
    ------
    UsageError
        There is none, or it has no record.
    """
    from capacity.observe.history import past_run

    return past_run(name).recorded()


def stays(runs: Sequence[Run], target: Target | None) -> str:
    """Return what the launches leave on a running cluster, and how to end it; empty for one of their own."""
    if target is None or not runs:
        return ""
    names = " and ".join(f"'capacity runs clean {run.run_id}'" for run in runs)
    many = sum(run.session_scheduled for run in runs)
    return f"{many:,} workflows were started and stay on the cluster: {names} end{'s' if len(runs) == 1 else ''} them."
