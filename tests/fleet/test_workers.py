"""Launcher processes of a fleet's worker that do not begin."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from capacity.cluster.target import Target
from capacity.fleet import workers


class Silent:
    """A process that neither says that it is ready nor ends."""

    def __init__(self) -> None:
        self.stdin, self.stdout, self.process = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
        self.stdin.drain = mock.AsyncMock()
        self.stdout.readline = self.process.wait = lambda: asyncio.Event().wait()
        self.ended = False

    async def end(self, _: float) -> None:
        self.ended = True


def words_of(silent: Silent, stopped: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    silent.last_words = ""  # type: ignore[attr-defined]
    monkeypatch.setattr(workers.Spawned, "start", mock.AsyncMock(return_value=silent))

    async def run() -> str:
        stop = asyncio.Event()
        if stopped:
            asyncio.get_running_loop().call_later(0.1, stop.set)
        once = workers._once(Target("127.0.0.1:1"), "queue", None, stop, lambda _: None)
        return await asyncio.wait_for(once, 10)

    return asyncio.run(run())


def test_a_process_that_is_never_ready_is_ended_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not kept for ever without a word."""
    monkeypatch.setattr(workers, "READY_WITHIN", 0.2)
    silent = Silent()
    assert words_of(silent, False, monkeypatch) == "it was not ready within 0.2 s"
    assert silent.ended


def test_an_interrupt_does_not_wait_for_a_process_that_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C within the minute that a process may take to begin ends it at once."""
    silent = Silent()
    words_of(silent, True, monkeypatch)
    assert silent.ended
