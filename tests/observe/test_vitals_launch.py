"""A launch keeps the vitals of what it launched at."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from capacity.cluster.devserver import DevServer
from capacity.cluster.state import ClusterState
from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.observe import sources
from capacity.observe.run import Run
from capacity.observe.session import launch, runs_folder
from capacity.observe.sources import Places
from capacity.observe.vitals import VitalsSample


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Journals and records go to a folder of the test's own."""


def launched(address: str, count: int = 200, **options: Any) -> Run:
    batch = HeightRange(count, f"v{uuid4().hex[:8]}")
    return asyncio.run(launch(batch, Target(address), parallelism=8, verify=False, **options))


@pytest.mark.devserver
def test_a_local_dev_server_is_watched_without_being_told(devserver: DevServer) -> None:
    """The record of a launch at a dev server of this machine has its CPU, memory and requests, and reads back."""
    shown: list[VitalsSample] = []
    run = launched(devserver.address, on_vitals=shown.append)
    assert Run.load(runs_folder() / f"{run.run_id}.json") == run
    last = run.vitals[-1]
    assert last.server is not None
    assert last.server.rss_bytes is not None
    assert last.server.rss_bytes > 2**20
    assert sum(sample.server.cpus_used or 0.0 for sample in run.vitals if sample.server) > 0
    assert last.launcher is not None
    assert last.launcher.tasks is not None
    assert last.launcher.tasks > 0
    assert last.postgres is None
    assert "postgres" not in last.missing, "a dev server has no PostgreSQL to miss"
    assert shown[0] == run.vitals[0]
    assert ("cluster", "server") in [(name, value[:6]) for name, value in run.rows()]


@pytest.mark.devserver
def test_watching_can_be_left_out(devserver: DevServer) -> None:
    """Without vitals a record has none."""
    assert launched(devserver.address, 20, vitals=False).vitals == []


@pytest.mark.devserver
def test_what_is_away_is_a_reason_in_the_record(devserver: DevServer) -> None:
    """A PostgreSQL that was named and is not there neither fails the launch nor becomes a zero."""
    secret = "hunter2-is-secret"
    places = Places(postgres=f"postgresql://u:{secret}@127.0.0.1:1/x")
    run = launched(devserver.address, 20, vitals=places)
    assert run.scheduled == 20
    assert {sample.postgres for sample in run.vitals} == {None}
    assert run.vitals[0].missing["postgres"] == "no answer: connection refused"
    assert secret not in run.model_dump_json()
    assert "PostgreSQL was away" in "".join(map(str, run.findings()))


@pytest.mark.stack
def test_the_stack_is_found_by_its_state_file(stack: ClusterState, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the address of the cluster that is up its server and its PostgreSQL are found, at another nothing is."""
    monkeypatch.setattr("capacity.cluster.state.read", lambda: stack)
    port = stack.address.rpartition(":")[2]
    for address in (stack.address, f"localhost:{port}"):
        assert [source.component for source in sources.find(address, Places())] == ["server", "postgres"]
    assert sources.find("127.0.0.1:1", Places()) == []
    named = sources.find(stack.address, Places(server_metrics="http://elsewhere:9090/metrics"))
    assert [source.component for source in named] == ["server", "postgres"]
    assert named[0]._site.host == "elsewhere"  # type: ignore[attr-defined]
