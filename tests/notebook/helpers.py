"""What the tests of several panels use."""

from __future__ import annotations

import time
from collections.abc import Callable

from capacity.launcher.progress import Progress


def progress(count: int, started: int, state: str = "running") -> Progress:
    """A launch of so many items, so far on its way."""
    return Progress(
        state=state,
        count=count,
        started=started,
        already_running=0,
        already_finished=0,
        failed=0,
        in_flight=8,
        limit=8,
        starts_per_second=400.0,
        p50=0.004,
        p99=0.028,
        elapsed=1.0,
        throttled=0,
    )


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once something holds that another thread brings about."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
