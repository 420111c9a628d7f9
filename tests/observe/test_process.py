"""What a launch costs this process, and what other processes use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from capacity.observe import process
from capacity.observe.process import CpuMeter, ProcessMeter, children, listener, rss_bytes


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


def busy_child(seconds: float) -> subprocess.Popen[bytes]:
    """A process that uses one CPU for so long and then waits to be ended."""
    program = f"import time\nwhile time.process_time() < {seconds}: pass\nprint(1, flush=True)\ninput()"
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [True, False])
def test_cpu_of_other_processes_is_what_they_used(threads: bool) -> None:
    """A child's CPU seconds are those it counted itself, whichever way they are read."""
    began = time.monotonic()
    with busy_child(0.3) as child:
        meter = CpuMeter(threads=threads)
        first = meter.read([child.pid])
        assert first.used is None, "a rate needs two readings"
        assert child.stdout is not None
        child.stdout.readline()
        use = meter.read([child.pid])
        seconds = time.monotonic() - began
        child.communicate(b"\n")
    assert use.used is not None
    assert 0.1 < use.used * seconds < 0.6
    assert use.allowed == len(os.sched_getaffinity(0))


def test_a_child_that_ended_counts_through_its_parent() -> None:
    """What a process used is not lost when it ends between two readings, nor does the sum go backwards."""
    meter = CpuMeter(threads=False)
    with busy_child(0.2) as child:
        pids = [os.getpid(), child.pid]
        meter.read(pids, parent=os.getpid())
        assert child.stdout is not None
        child.stdout.readline()
        child.communicate(b"\n")
    use = meter.read(pids, parent=os.getpid())
    assert use.used is not None
    assert use.used > 0


def test_a_process_that_is_gone_is_no_error() -> None:
    """Reading processes that ended between listing and reading gives no CPU and no affinity, and raises nothing."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert CpuMeter().read([child.pid]).allowed is None
    assert children(child.pid) == []
    assert rss_bytes(child.pid) is None


def test_the_cpus_it_may_use_are_cut_by_its_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a CPU by quota is half a CPU of however many it may run on; without a quota they all are."""
    asked: list[int] = []

    def quota(pid: int) -> float | None:
        asked.append(pid)
        return 0.5 if pid == os.getpid() else None

    monkeypatch.setattr(process, "cpu_quota", quota)
    meter = CpuMeter()
    assert [meter.read([os.getpid()]).allowed for _ in range(3)] == [0.5] * 3
    assert meter.read([os.getppid()]).allowed == len(os.sched_getaffinity(os.getppid()))
    assert asked == [os.getpid(), os.getppid()], "not once a second: it takes many small files"


def test_who_listens_is_found() -> None:
    """A local port's listener is the process that holds it."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        assert listener(held.getsockname()[1]) == os.getpid()
