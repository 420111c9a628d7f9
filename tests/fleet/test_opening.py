"""Launchers that read a file of items for longer than a launcher may be silent: 100 million lines take minutes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from capacity.errors import ClusterError, UsageError
from capacity.fleet import launcher, member
from capacity.fleet.workflow import Range, RangeOrder
from capacity.launcher import rebuild
from capacity.launcher.batch import HeightRange
from capacity.launcher.retries import RetryPolicy

BATCH = HeightRange(10)


def slow(monkeypatch: pytest.MonkeyPatch, ends: Exception | None = None) -> list[dict[str, Any]]:
    """Have each batch take 0.3 s to read; return what is read."""
    read: list[dict[str, Any]] = []

    def reading(description: dict[str, Any]) -> HeightRange:
        read.append(description)
        time.sleep(0.3)
        if ends is not None:
            raise ends
        return BATCH

    monkeypatch.setattr(rebuild, "rebuild", reading)
    return read


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], ()),
        ([{"who": "one that was lost"}, "0:10", {"started": 4}], (None, "0:10", {"started": 4})),
    ],
)
def test_a_launcher_of_a_fleet_is_not_lost_while_it_reads(
    said: list[Any], told: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats, and hands on what a lost one had done of the range, but not as if that one were there."""
    monkeypatch.setattr(member, "BEAT", 0.05)
    slow(monkeypatch, UsageError("items file x has changed since it was launched"))
    environment, beats = ActivityEnvironment(), []
    environment.info = replace(environment.info, heartbeat_details=said)
    environment.on_heartbeat = lambda *details: beats.append(details)
    order = RangeOrder("run", BATCH.describe(), asdict(RetryPolicy()), "conductor", Range(0, 10))
    with pytest.raises(ApplicationError, match="items file x has changed"):
        asyncio.run(environment.run(member.Member(mock.MagicMock(), mock.MagicMock()).launch_range, order))
    assert len(beats) >= 2
    assert set(map(str, beats)) == {str(told)}


def test_batches_launched_at_once_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of two batches come in turn; only the oldest of many is read again."""
    read = slow(monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    one = member.Member(mock.MagicMock(), mock.MagicMock())

    async def opened(numbers: list[int]) -> None:
        for number in numbers:
            assert await one._batch({"number": number}, []) is BATCH

    asyncio.run(opened([1, 2, 1, 2]))
    assert [each["number"] for each in read] == [1, 2]
    asyncio.run(opened([*range(3, 3 + member.KEPT - 1), 2, 1]))
    assert [each["number"] for each in read] == [*range(1, 3 + member.KEPT - 1), 1]


class Process:
    """A launcher process that says these lines, 0.1 s apart, and then nothing."""

    def __init__(self, *lines: bytes) -> None:
        self.stdin, self.last_words, self.ended = mock.MagicMock(), "", False
        self.stdout = self
        self._lines = self._said(lines)

    async def _said(self, lines: tuple[bytes, ...]) -> AsyncIterator[bytes]:
        for line in lines:
            await asyncio.sleep(0.1)
            yield line
        await asyncio.Event().wait()

    async def readline(self) -> bytes:
        return await anext(self._lines)

    async def end(self, _: float) -> None:
        self.ended = True


def started(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "READY_WITHIN", 0.4)
    monkeypatch.setattr(launcher.Spawned, "start", mock.AsyncMock(return_value=process))

    async def run() -> None:
        found = await launcher.Launcher.start(b"", 0, lambda *_: None)
        found.reading.cancel()

    asyncio.run(run())


def test_a_process_that_says_it_reads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is how long it says nothing, not how long it takes."""
    process = Process(*[b'{"opening": true}\n'] * 6, b'{"ready": true}\n')
    started(process, monkeypatch)
    assert not process.ended


def test_a_process_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says how long it was silent."""
    process = Process(b'{"opening": true}\n')
    with pytest.raises(ClusterError, match=r"a launcher process said nothing within 0\.4 s"):
        started(process, monkeypatch)
    assert process.ended
