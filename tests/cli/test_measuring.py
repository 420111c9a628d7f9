"""What the commands that measure a cluster share."""

import asyncio
import io
import os
import signal
import sys
from pathlib import Path

import pytest

from capacity.cli import launching
from capacity.cli.measuring import interruptible, say
from capacity.cli.options import check_out
from capacity.cluster.target import Target
from capacity.errors import UsageError
from capacity.fleet import Fleet
from capacity.interrupts import ENDING
from capacity.launcher.batch import HeightRange


@pytest.mark.parametrize("number", ENDING)
def test_whatever_asks_a_measurement_to_end_is_heard(number: int) -> None:
    """Ctrl-C, `kill` and a terminal that is gone keep what was measured, and none of them is handled afterwards."""
    before = [signal.getsignal(each) for each in ENDING]
    with interruptible("stopping") as stop:
        signal.raise_signal(number)
        assert stop.is_set()
    assert [signal.getsignal(each) for each in ENDING] == before


def test_a_lost_terminal_is_no_second_interrupt() -> None:
    """Shell and kernel both say that a terminal is gone: what is kept is kept; Ctrl-C after it ends at once."""
    with interruptible("stopping") as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_nohup_is_heeded() -> None:
    """What was started to outlive its terminal does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible("stopping") as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("fleet", [None, Fleet()])
def test_a_lost_terminal_ends_a_launch_and_not_the_batch_of_a_fleet(
    monkeypatch: pytest.MonkeyPatch, fleet: Fleet | None
) -> None:
    """A launch here drains when its terminal is gone; a batch that a fleet has goes on without who ordered it."""

    before = signal.getsignal(signal.SIGHUP)

    async def launch(*_: object, stop: asyncio.Event, **__: object) -> bool:
        gone = False
        if signal.getsignal(signal.SIGHUP) is not before:
            signal.raise_signal(signal.SIGHUP)
            gone = await asyncio.wait_for(stop.wait(), 10)
        for number in (signal.SIGINT, signal.SIGTERM):
            assert signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler)
        return gone

    monkeypatch.setattr(launching, "launch", launch)
    assert launching.run(HeightRange(5), Target("127.0.0.1:1"), fleet=fleet) is (fleet is None)  # type: ignore[comparison-overlap]


def test_a_result_needs_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the place of an older file: its folder is what must be writable, whatever that file is."""
    monkeypatch.setattr(os, "access", lambda path, _: bool(Path(path).stat().st_mode & 0o222))  # of no root
    for name in ("writable", "protected"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "out.json").write_text("{}")
    (tmp_path / "writable" / "out.json").chmod(0o444)
    (tmp_path / "protected").chmod(0o555)
    for path in (tmp_path / "writable" / "out.json", tmp_path / "writable" / "new.json", Path(os.devnull)):
        check_out("--out", path)
    for path in (tmp_path / "protected" / "out.json", tmp_path / "protected" / "new.json"):
        with pytest.raises(UsageError, match="cannot be written; pass a file in a folder you may write to"):
            check_out("--out", path)


class Interrupting(io.RawIOBase):
    """A terminal at which Ctrl-C is pressed while the first line is written to it."""

    def __init__(self) -> None:
        self.told = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        first, self.told = not self.told, self.told + bytes(data)  # type: ignore[call-overload]
        if first:
            signal.raise_signal(signal.SIGINT)
        return len(data)  # type: ignore[arg-type]


def test_an_interrupt_while_a_line_is_written_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is being written may not be entered again: the interrupt counts, its own words are left out."""
    raw = Interrupting()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), write_through=True))
    with interruptible("stopping") as stop:
        say("block 3 of 9")
        assert stop.is_set()
        say("block 4 of 9")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert raw.told == b"block 3 of 9\nblock 4 of 9\n"
