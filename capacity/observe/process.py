"""What a launch costs this process."""

from __future__ import annotations

import time

import psutil


class ProcessMeter:
    """CPU time and highest memory of this process since the meter was made.

    Attributes
    ----------
    rss_bytes_max : int
        Highest resident set seen at a `sample` [bytes].
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cpu = time.process_time()
        self._sampled = 0.0
        self.rss_bytes_max = 0
        self.sample()

    def sample(self) -> None:
        """Look at the memory, at most once a second."""
        now = time.monotonic()
        if now - self._sampled >= 1:
            self._sampled = now
            self.rss_bytes_max = max(self.rss_bytes_max, int(self._process.memory_info().rss))

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads since the meter was made [s]."""
        return time.process_time() - self._cpu
