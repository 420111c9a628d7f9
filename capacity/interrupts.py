"""What asks this process to end: Ctrl-C, `kill`, and a terminal that is gone."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

ASKED: Final = (signal.SIGINT, signal.SIGTERM)
"""By someone who wants it to end."""
ENDING: Final = (*ASKED, signal.SIGHUP)


@contextlib.contextmanager
def handled(interrupt: Callable[[int], object], numbers: tuple[int, ...] = ENDING) -> Iterator[None]:
    """Within the block, in the main thread, call a function with the number of each of these signals.

    A terminal that is gone says so twice, by its shell and by the kernel: SIGHUP counts only where it comes first.
    It is left alone where it was ignored before, which is what `nohup` does.
    """
    heard = False

    def called(number: int, _: FrameType | None) -> None:
        nonlocal heard
        if number != signal.SIGHUP or not heard:
            heard = True
            interrupt(number)

    kept = signal.SIGHUP if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else None
    before = {number: signal.signal(number, called) for number in numbers if number != kept}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
