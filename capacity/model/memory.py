"""Memory of a launcher process.

Items are made when their turn comes and noted in a memory-mapped journal of one byte each, so a batch costs little
more than its journal; what remains is the interpreter with its libraries and, per start in flight, a task, a request
and a stream.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from capacity.model.measurement import LauncherMemory
from capacity.model.queueing import Floats

TYPICAL: Final = LauncherMemory(base=94.6 * 2**20, per_in_flight=5e3, per_item=2.0)
"""Fitted to `benchmarks/memory.py` on CPython 3.11, x86-64; the base is almost all libraries."""


def launcher_rss(
    parallelism: ArrayLike, batch: int, memory: LauncherMemory | None = None, processes: int = 1
) -> Floats:
    """Return the highest resident set of a launcher process [bytes], for each parallelism.

    Parameters
    ----------
    parallelism : array_like of int
        Of all processes together.
    batch : int
        Items of the batch.
    memory : LauncherMemory, optional
        As measured; by default `TYPICAL`.
    processes : int
        Launcher processes that share both.
    """
    used, items = memory or TYPICAL, math.ceil(batch / processes)
    flight: Any = np.minimum(np.ceil(np.asarray(parallelism, dtype=float) / processes), items)
    return np.asarray(used.base + used.per_in_flight * flight + used.per_item * items, dtype=float)
