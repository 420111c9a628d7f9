"""`capacity fleet` where nobody who knows can be asked, or may be; tests/fleet asks a real fleet."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from capacity.cli import fleet
from capacity.cli import run as command
from capacity.cluster.target import Target
from capacity.fleet.looking import Seen
from capacity.fleet.report import Report
from capacity.fleet.workflow import BatchDone, Standing
from capacity.launcher import outcome
from tests.cli.conftest import Command

COUNT = 100_000_000


class Batch:
    """A batch whose workers are all gone."""

    id = "capacity-batch-20261125-040000-abcdef"

    def __init__(self, state: WorkflowExecutionStatus, report: Report | None = None) -> None:
        self._state, self._report = state, report

    async def describe(self) -> Any:
        async def memo() -> dict[str, Any]:
            return {"capacity": {"count": COUNT, "before": 0}}

        return SimpleNamespace(status=self._state, memo=memo)

    async def result(self) -> BatchDone:
        if self._report is None:
            raise WorkflowFailureError(cause=RuntimeError("terminated"))
        return BatchDone(json.loads(json.dumps(self._report.to_json())), [])


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The status of such a batch: as data, and as text."""

    async def nothing(*_: Any) -> None:
        return None

    def ask(batch: Batch, look: Any = nothing) -> tuple[dict[str, Any], str]:
        async def find(*_: Any) -> Batch:
            return batch

        async def none(*_: Any) -> int:
            return 0

        monkeypatch.setattr("capacity.fleet.looking.find", find)
        monkeypatch.setattr("capacity.fleet.looking.look", look)
        monkeypatch.setattr("capacity.fleet.looking.pollers", none)
        monkeypatch.setattr("capacity.fleet.looking.connected", nothing)
        found = asyncio.run(fleet._status(None, None, "q"))  # type: ignore[arg-type]
        capsys.readouterr()
        assert command(["fleet", "status", "--address", "127.0.0.1:7233"]) == 0
        return found, capsys.readouterr().out

    return ask


def test_a_running_batch_whose_workers_are_gone_is_not_known(status: Any) -> None:
    """Nobody answers: what is done is not known and never 0; the command that starts a worker is said."""
    found, text = status(Batch(WorkflowExecutionStatus.RUNNING))
    for name in ("done", "failed", "starts_per_second", "in_flight", "launchers"):
        assert found[name] is None, name
    assert "done       not known of 100,000,000 items: no worker answers" in text
    assert "capacity fleet worker --address 127.0.0.1:7233" in text
    assert "0 of 100" not in text


def test_a_rate_that_is_not_known_yet_is_said_so(status: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look got no answer, the second did: what is done is known, and how fast is not."""
    looks = iter([None, Seen(Standing("running", {}, []), Report(codes={outcome.STARTED: 70}), [], [])] * 2)

    async def look(*_: Any) -> Seen | None:
        return next(looks)

    _, text = status(Batch(WorkflowExecutionStatus.RUNNING), look)
    assert "70 of 100,000,000 items" in text
    assert "now        starts/s not known yet, 0 in flight" in text


def test_a_batch_that_ended_is_told_without_workers(status: Any) -> None:
    """Its result is the server's to give."""
    report = Report(codes={outcome.STARTED: COUNT})
    found, text = status(Batch(WorkflowExecutionStatus.COMPLETED, report))
    assert (found["done"], found["failed"], found["in_flight"]) == (COUNT, 0, 0)
    assert "100,000,000 of 100,000,000 items (100.0%)" in text


def test_a_batch_that_was_terminated_left_no_result(status: Any) -> None:
    """What it did is then in its journal alone."""
    found, text = status(Batch(WorkflowExecutionStatus.TERMINATED))
    assert found["done"] is None
    assert "it was terminated, and left no result" in text


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "cancel", "worker"])
def test_no_part_of_a_fleet_is_dialled_beyond_loopback_unless_allowed(
    verb: str, in_process: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard refuses the address before the SDK or gRPC hears of it; --allow-target lets it through."""
    dialled = []

    async def sdk_client(target: Target) -> None:
        dialled.append(target.address)
        raise RuntimeError("away")

    monkeypatch.setattr("capacity.launcher.worker.sdk_client", sdk_client)
    monkeypatch.setattr("capacity.launcher.transport.connect", lambda target: dialled.append(target.address))
    there = ("--address", "temporal.prod.example:7233")
    assert "refused to connect to temporal.prod.example:7233" in (refused := in_process("fleet", verb, *there)).error
    assert (refused.code, dialled) == (2, [])
    if verb != "worker":
        in_process("fleet", verb, *there, "--allow-target", there[1])
        assert dialled == [there[1]]
