"""What the commands that measure a cluster share."""

import io
import signal
import sys

import pytest

from capacity.cli.measuring import interruptible, say


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
