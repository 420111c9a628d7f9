"""What goes wrong under a batch on the real stack: the launcher keeps its N, and the findings name the cause."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from capacity.cluster import postgres, processes
from capacity.cluster import stack as real
from capacity.cluster.settings import Settings
from capacity.cluster.state import ClusterState
from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.launcher.progress import Progress
from capacity.launcher.retries import RetryPolicy
from capacity.observe.process import children
from capacity.observe.run import Run
from capacity.observe.session import launch
from capacity.observe.sources import Places
from tests.conftest import LIMITS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
PATIENT = RetryPolicy(attempts=50)


@pytest.fixture(autouse=True)
def _own_state(state_folder: str, stack_programs: None) -> None:
    """Journals, records and stacks go to a folder of the test's own."""


@contextmanager
def own_stack(max_connections: int, max_conns: int) -> Iterator[ClusterState]:
    options = {"max_connections": str(max_connections)}
    settings = Settings("postgres", port=0, dynamic_config=LIMITS, max_conns=max_conns, pg_options=options)
    with real.running(settings) as cluster:
        yield cluster


def launched(cluster: ClusterState, count: int, parallelism: int, after: Callable[[], None] | None = None) -> Run:
    """Launch a batch with its cluster watched; `after` the first starts something is done to it in a thread."""
    acting: list[threading.Thread] = []

    def act(progress: Progress) -> None:
        if after is not None and not acting and progress.started >= count // 5:
            acting.append(threading.Thread(target=after))
            acting[0].start()

    batch = HeightRange(count, f"f{uuid4().hex[:8]}")
    places = Places(server_metrics=cluster.metrics_url, postgres=cluster.postgres)
    run = asyncio.run(
        launch(
            batch,
            Target(cluster.address),
            parallelism=parallelism,
            policy=PATIENT,
            vitals=places,
            on_progress=act,
        )
    )
    for thread in acting:
        thread.join()
    return run


def causes(run: Run) -> dict[str, str]:
    return {finding.cause: str(finding) for finding in run.findings()}


def test_postgres_restarted_in_mid_batch() -> None:
    """PostgreSQL stopped for three seconds and started again: every item is there once, and the run says why."""
    with own_stack(max_connections=150, max_conns=20) as cluster:
        assert cluster.folder is not None
        assert cluster.postgres is not None
        folder, database = Path(cluster.folder), cluster.components[0]
        again = [database]

        def restart() -> None:
            processes.stop(database.pid, database.created, by=processes.signal.SIGINT)
            time.sleep(3)
            options = {"max_connections": "150"}
            binaries = postgres.find(folder)
            again[0] = postgres.launch(binaries, folder, Path(database.log), database.ports["postgresql"], options)
            postgres.wait_until_ready(again[0], str(cluster.postgres), Path(database.log))

        try:
            run = launched(cluster, 1500, 16, restart)
        finally:
            real.stop(replace(cluster, components=(again[0], *cluster.components[1:])))
    assert (run.in_place, run.verified, run.failed) == (1500, 1500, 0), run.rows()
    found = causes(run)
    assert "PostgreSQL was away: no answer" in found["postgres-away"]
    assert "postgres-restarted" in found
    assert run.vitals[-1].postgres is not None, "it came back by itself"


def test_connections_exhausted() -> None:
    """A server that may hold more connections than PostgreSQL has: every item is there, and the run names that."""
    with own_stack(max_connections=20, max_conns=40) as cluster:
        run = launched(cluster, 400, 32)
    assert (run.in_place, run.verified, run.failed) == (400, 400, 0), run.rows()
    assert "of 20, 3 of them reserved" in causes(run)["connections-exhausted"]


def test_postgres_cpu_halved(stack: ClusterState) -> None:
    """PostgreSQL held to one CPU: every item is there, and the run says how much of which CPUs PostgreSQL used."""
    machine = os.sched_getaffinity(0)
    if len(machine) < 2:
        pytest.skip("one CPU cannot be halved")
    postmaster = stack.components[0].pid
    database = [postmaster, *children(postmaster)]
    try:
        for pid in database:
            os.sched_setaffinity(pid, {min(machine)})
        run = launched(stack, 1500, 32)
    finally:
        for pid in [postmaster, *children(postmaster)]:
            os.sched_setaffinity(pid, machine)
    assert (run.in_place, run.verified, run.failed) == (1500, 1500, 0), run.rows()
    assert "of the 1 CPU it may use" in causes(run)["postgres-cpu"]
