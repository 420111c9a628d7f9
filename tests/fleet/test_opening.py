"""Launchers that read a file of items for longer than a launcher may be silent: 100 million lines take minutes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from capacity.errors import ClusterError, UsageError
from capacity.fleet import launcher, member
from capacity.fleet.notes import pack
from capacity.fleet.workflow import Range, RangeDone, RangeOrder
from capacity.launcher import rebuild
from capacity.launcher.batch import HeightRange
from capacity.launcher.retries import RetryPolicy

BATCH = HeightRange(10)


def members_read(monkeypatch: pytest.MonkeyPatch, ends: Exception | None = None) -> tuple[list[Any], threading.Event]:
    """Have batches take to be read until an event is set: what is read, and the event."""
    read: list[Any] = []
    enough = threading.Event()

    def reading(description: dict[str, Any]) -> HeightRange:
        read.append(description["count"])
        assert enough.wait(60)
        if ends is not None:
            raise ends
        return BATCH

    monkeypatch.setattr(rebuild, "rebuild", reading)
    monkeypatch.setattr(member, "BEAT", 0.05)
    return read, enough


def activity_of(said: list[Any], enough: threading.Event) -> tuple[ActivityEnvironment, list[Any]]:
    """An activity whose launcher before it said this, and its beats; the second lets the reading end."""
    environment, beats = ActivityEnvironment(), []
    environment.info = replace(environment.info, heartbeat_details=said)

    def beat(*details: Any) -> None:
        beats.append(details)
        if len(beats) == 2:
            enough.set()

    environment.on_heartbeat = beat
    return environment, beats


LOST = [{"who": "one that was lost"}, pack(np.array([1] * 4 + [0] * 6, np.uint8)), {"attempts": 4, "codes": {"1": 4}}]
ORDER = RangeOrder("run", BATCH.describe(), asdict(RetryPolicy()), "conductor", Range(0, 10))


@pytest.mark.parametrize(("said", "told"), [([], ()), (LOST, (None, *LOST[1:]))])
def test_a_launcher_of_a_fleet_is_not_lost_while_it_reads(
    said: list[Any], told: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats, and hands on what a lost one had done of the range, but not as if that one were there."""
    _, enough = members_read(monkeypatch, UsageError("items file x has changed since it was launched"))
    environment, beats = activity_of(said, enough)
    with pytest.raises(ApplicationError, match="items file x has changed"):
        asyncio.run(environment.run(member.Member(mock.MagicMock(), mock.MagicMock()).launch_range, ORDER))
    assert beats[:2] == [told, told]


def test_a_range_that_is_recalled_while_it_reads_comes_back_with_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lost launcher had told stays told; the reading goes on, and whoever comes next waits for that one."""
    read, enough = members_read(monkeypatch)
    one = member.Member(mock.MagicMock(), mock.MagicMock())

    async def recalled() -> RangeDone:
        environment, _ = activity_of(LOST, threading.Event())
        environment.on_heartbeat = lambda *_: environment.cancel()
        back = await environment.run(one.launch_range, ORDER)
        enough.set()
        assert await one._batch(ORDER.batch, []) is BATCH
        return back

    back = asyncio.run(recalled())
    assert (back.done, back.left, back.report) == (LOST[1], 6, LOST[2])
    assert read == [10]


def test_batches_launched_at_once_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of two batches come in turn; only the oldest of many is read again."""
    read, enough = members_read(monkeypatch)
    enough.set()
    monkeypatch.setattr(member, "BEAT", 60.0)
    one = member.Member(mock.MagicMock(), mock.MagicMock())

    async def opened(numbers: list[int]) -> None:
        for number in numbers:
            assert await one._batch({"count": number}, []) is BATCH

    async def run() -> None:
        await opened([1, 2, 1, 2])
        assert read == [1, 2]
        await opened([*range(3, 3 + member.KEPT - 1), 2, 1])

    asyncio.run(run())
    assert read == [*range(1, 3 + member.KEPT - 1), 1]


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
