"""Calls beside the starts: a server that refuses in passing is asked again, for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.launcher import service
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
