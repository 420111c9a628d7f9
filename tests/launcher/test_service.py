"""Calls beside the starts: a server that refuses in passing is asked again, for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from capacity.cluster.target import Target
from capacity.errors import ClusterError, UsageError
from capacity.launcher import service
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.transport import Connection

HERE = Connection(Target("127.0.0.1:7233"), None, None, ())  # type: ignore[arg-type]


class Answers:
    """A call that fails with one status code after the other, and then answers."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        self.codes, self.calls = list(codes), 0

    async def __call__(self, request: Any, **_: Any) -> str:
        self.calls += 1
        if self.codes:
            raise grpc.aio.AioRpcError(self.codes.pop(0), grpc.aio.Metadata(), grpc.aio.Metadata(), "scripted")
        return "answer"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AGAIN", 0.0)


@pytest.mark.parametrize("code", service.PASSING)
def test_what_fails_in_passing_is_asked_again(code: grpc.StatusCode) -> None:
    """A server that restarts, or refuses for its rate, costs a question nothing but time."""
    answers = Answers(code, code)
    assert asyncio.run(service.ask(HERE, answers, None, patience=60.0)) == "answer"
    assert answers.calls == 3


@pytest.mark.parametrize(("code", "patience"), [("PERMISSION_DENIED", 60.0), ("UNAVAILABLE", 0.0)])
def test_what_does_not_pass_is_said_at_once(code: str, patience: float) -> None:
    """A refusal for good is one line after one call, and so is any without patience."""
    answers = Answers(grpc.StatusCode[code], grpc.StatusCode[code])
    with pytest.raises(ClusterError):
        asyncio.run(service.ask(HERE, answers, None, patience=patience))
    assert answers.calls == 1


def test_runs_are_found_whatever_their_names() -> None:
    """A name that is lost, or has a quote or a backslash, is not in the query whose finds the memo sorts."""
    batch = HeightRange(3, "o'neil", options=StartOptions(workflow_type="Index", task_queue="back\\slash"))
    assert service.wider_query(batch) == "StartTime >= '1970-01-01T00:00:00Z' AND WorkflowType = 'Index'"
    with pytest.raises(UsageError, match="names with quotes or backslashes"):
        service.batch_query(batch, 0)
    assert service.wider_query(None) == "StartTime >= '1970-01-01T00:00:00Z'"
    plain = HeightRange(3)
    assert service.wider_query(plain) == service.batch_query(plain, 0).replace(".000000Z", "Z")


def test_a_wait_for_completion_lasts_as_long_as_its_queue_moves_and_asks_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the runs of others a batch is waited for, these are told, and hours of it cost a count every other second.

    A queue that stands still for as long as it is given ends the wait, with those that still run.
    """
    queue = [500 - max(0, 2 * i - 30) for i in range(250)] + [10] * 1000  # others first, stuck at the last ten
    now, told, pauses = [0.0], [], []

    async def count(_: Connection, query: str, **__: Any) -> int:
        all_of_them = queue[len(told)]
        return all_of_them if "WorkflowId" not in query else min(40, all_of_them)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(service, "count", count)
    monkeypatch.setattr(service.asyncio, "sleep", sleep)
    monkeypatch.setattr(service.time, "monotonic", lambda: now[0])
    batch = HeightRange(40)
    wait = service.completed(HERE, batch, 0.0, on_count=lambda *numbers: told.append(numbers))
    with pytest.raises(StopIteration) as ended:
        wait.send(None)
    assert ended.value.value == 10
    assert told[0] == (40, 460)
    assert told[-1] == (10, 0)
    assert pauses[0] == 0.25
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2.0
    stood = pauses[len(queue) - 1000 :]
    assert 60 < sum(stood) < 66
