"""Standard output and standard error, so that what is said of a command never ends it.

Invariants: the numbers 0 to 2 are taken, so that no file of ours is written to as one of the streams; standard output
takes every text, whatever the locale; words on standard error that nobody takes any more are lost, and nothing else is.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any, Final

ESCAPED: Final = "capacity.escaped"
"""What stands for a character that the locale has not: ``\\u00b5``, which in JSON says the same."""


class Heedless(io.FileIO):
    """A file that takes every byte: what its reader, its disk or its terminal does not is lost."""

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            written: int | None = super().write(data)
        except OSError:
            return size
        return size if written is None else written  # None: it does not wait for a slow reader


def prepare() -> None:
    """Make the streams of this process so."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(number, True)
    os.close(number)
    codecs.register_error(ESCAPED, _escaped)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ESCAPED)
    raw = io.BufferedWriter(Heedless(2, "w", closefd=False))
    encoding = getattr(sys.stderr, "encoding", None)
    sys.stderr = io.TextIOWrapper(raw, encoding, ESCAPED, line_buffering=True)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)), error.end
