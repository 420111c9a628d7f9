"""What a launch costs this process."""

from __future__ import annotations

import threading
import time

from capacity.observe.process import ProcessMeter


def test_cpu_time_is_of_this_process_since_the_meter_was_made() -> None:
    """Work of any thread counts, waiting does not, and what went before the meter is left out."""
    meter = ProcessMeter()

    def work() -> None:
        began = time.thread_time()
        while time.thread_time() - began < 0.05:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert 0.05 <= meter.cpu_seconds < time.process_time()


def test_the_highest_memory_is_kept() -> None:
    """The resident set in the record is one that the process had, and never shrinks."""
    meter = ProcessMeter()
    first = meter.rss_bytes_max
    meter.sample()
    assert meter.rss_bytes_max >= first > 1 << 20
