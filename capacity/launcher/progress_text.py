"""A running batch in words, the same in a terminal and in a notebook."""

from __future__ import annotations

import math

from capacity.launcher.progress import Progress
from capacity.model.words import duration, milliseconds


def facts(progress: Progress) -> list[str]:
    """Return how fast it goes and what is in its way; what is not known yet, or is none, is left out."""
    listed = []
    if not math.isnan(progress.starts_per_second):
        listed.append(f"{progress.starts_per_second:,.0f} starts/s")
    if not math.isnan(progress.p99):
        listed.append(f"p99 {milliseconds(progress.p99)}")
    listed.append(f"{progress.in_flight:,} of {progress.limit:,} in flight")
    for value, words in ((progress.failed, "failed"), (progress.throttled, "throttled")):
        listed += [f"{value:,} {words}"] if value else []
    left = progress.seconds_left
    return [*listed, f"{duration(left)} left"] if left is not None else listed
