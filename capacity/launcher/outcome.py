"""What became of one item, as the one byte the journal keeps.

Invariants: ``TO_DO`` is 0, so that a fresh journal is all zeros. The lower seven bits are the code; the top
bit makes the number of set bits even, so that a single flipped bit on disk is never read as another outcome.
"""

from __future__ import annotations

from typing import Final

import grpc
import numpy as np
import numpy.typing as npt

TO_DO: Final = 0
STARTED: Final = 1
ALREADY_RUNNING: Final = 2
ALREADY_FINISHED: Final = 3
REFUSED: Final = 0x20
"""Added to the gRPC status code: the server refused this item for good."""
GAVE_UP: Final = 0x40
"""Added to the gRPC status code: the item used up its attempts, this was the last answer."""
TOO_LARGE: Final = 0x60
"""The message is over the size the server takes."""
BAD_ITEM: Final = 0x61
"""The line of the items file does not make a request."""

_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_FIXED = {
    TO_DO: "not attempted",
    STARTED: "started",
    ALREADY_RUNNING: "already running",
    ALREADY_FINISHED: "already finished",
    TOO_LARGE: "MESSAGE_TOO_LARGE",
    BAD_ITEM: "BAD_ITEM",
}


def kind(code: int) -> str:
    """Return the name of an outcome, as the errors of a record count it.

    >>> kind(STARTED), kind(REFUSED + 3), kind(GAVE_UP + 14)
    ('started', 'INVALID_ARGUMENT', 'gave up: UNAVAILABLE')
    """
    if code in _FIXED:
        return _FIXED[code]
    if REFUSED <= code < REFUSED + 17:
        return str(_STATUS[code - REFUSED].name)
    if GAVE_UP <= code < GAVE_UP + 17:
        return f"gave up: {_STATUS[code - GAVE_UP].name}"
    raise ValueError(f"outcome code {code} is unknown")


def is_failure(code: int) -> bool:
    """Tell whether an outcome counts as failed."""
    return code >= REFUSED


def _encoded() -> npt.NDArray[np.uint8]:
    codes = np.arange(128)
    parity = np.array([bin(code).count("1") % 2 for code in codes])
    return (codes | parity << 7).astype(np.uint8)


def _decoded() -> npt.NDArray[np.uint8]:
    known = [*_FIXED, *range(REFUSED, REFUSED + 17), *range(GAVE_UP, GAVE_UP + 17)]
    table = np.full(256, DAMAGED, np.uint8)
    table[ENCODED[known]] = known
    return table


DAMAGED: Final = 255
ENCODED: Final = _encoded()
"""Code to byte, shape (128,)."""
DECODED: Final = _decoded()
"""Byte to code, shape (256,); ``DAMAGED`` where no outcome has that byte."""
