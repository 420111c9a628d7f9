"""What processes of this machine cost: this one, and those of a local server and database."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil

from capacity.cluster import processes
from capacity.rules.cpus import cpu_quota

_LINUX: Final = sys.platform == "linux"
_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
_QUOTA_SECONDS: Final = 10.0
"""A quota is read again after so long: it seldom changes, and takes many small files."""


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


@dataclass(frozen=True)
class CpuUse:
    """What processes did between two readings.

    Parameters
    ----------
    used : float, optional
        CPU seconds per second [CPUs]; None at the first reading and when a counter went backwards.
    waiting : float, optional
        Threads that were ready to run and had no CPU, on average; None also where the kernel does not say.
    allowed : float, optional
        CPUs that at least one of them may run on, or the first one's cgroup quota where that is less.
    """

    used: float | None
    waiting: float | None
    allowed: float | None


class CpuMeter:
    """CPU of a group of processes from one reading to the next; a process that ended counts through its parent.

    Parameters
    ----------
    threads : bool
        Whether the processes have threads; without, a reading costs half.
    """

    def __init__(self, *, threads: bool = True) -> None:
        self._threads = threads
        self._read_at: float | None = None
        self._used = 0.0
        self._waited: dict[str, int] = {}
        self._quota: tuple[int, float, float | None] | None = None  # of which process, when read, CPUs

    def read(self, pids: Sequence[int], parent: int | None = None) -> CpuUse:
        """Return what they used since the last reading.

        Parameters
        ----------
        pids : sequence of int
            The processes, all in the cgroup of the first; those that are gone are passed over.
        parent : int, optional
            Process whose ended children are counted too.
        """
        now = time.monotonic()
        used, waited = self._counters(pids)
        if parent is not None:
            used += _ended_children(parent)
        rate = waiting = None
        if self._read_at is not None and (seconds := now - self._read_at) > 0:
            grown = used - self._used
            # A child's nanoseconds become its parent's clock ticks when it ends.
            rate = max(0.0, grown) / seconds if grown >= -_TICK * (1 + len(pids)) else None
            if waited and self._waited:
                longer = sum(max(0, value - self._waited.get(key, value)) for key, value in waited.items())
                waiting = longer / 1e9 / seconds
        self._read_at, self._used, self._waited = now, used, waited
        return CpuUse(rate, waiting, self._allowed(pids, now))

    def _allowed(self, pids: Sequence[int], now: float) -> float | None:
        cpus = _affinity(pids)
        if not cpus:
            return None
        if self._quota is None or self._quota[0] != pids[0] or now - self._quota[1] >= _QUOTA_SECONDS:
            self._quota = pids[0], now, cpu_quota(pids[0])
        quota = self._quota[2]
        return cpus if quota is None else min(cpus, quota)

    def _counters(self, pids: Sequence[int]) -> tuple[float, dict[str, int]]:
        """Return CPU seconds so far, and of each thread how long it waited for a CPU [ns]."""
        if not _LINUX:
            return sum(map(_portable_cpu_seconds, pids)), {}
        used, waited = 0.0, {}
        for pid in pids:
            if self._threads:
                used += _ticks(pid, 11, 13)
                with contextlib.suppress(OSError):
                    for thread in os.listdir(f"/proc/{pid}/task"):
                        if counts := _schedstat(f"/proc/{pid}/task/{thread}/schedstat"):
                            waited[thread] = counts[1]
            elif counts := _schedstat(f"/proc/{pid}/schedstat"):
                used += counts[0] / 1e9
                waited[str(pid)] = counts[1]
            else:
                used += _ticks(pid, 11, 13)
        return used, waited


def children(pid: int) -> list[int]:
    """Return the pids of a process's children; empty if it is gone."""
    if _LINUX:
        try:  # one file instead of all processes of the machine
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            pass
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def rss_bytes(pid: int) -> int | None:
    """Return a process's resident set [bytes]; None if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def listener(port: int) -> int | None:
    """Return the pid of the process that listens on a local TCP port; None if it cannot be told."""
    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid:
                return found.pid
    return None


@dataclass(frozen=True)
class LocalDevServer:
    """An embedded dev server that somebody started on this machine, known by its own command line.

    Parameters
    ----------
    pid, created : int, float
        Its process and when that began [s since boot].
    metrics_url : str, optional
        Its Prometheus page, if it has one.
    dynamic_config : Mapping of str to str
        The keys it was started with.
    """

    pid: int
    created: float
    metrics_url: str | None
    dynamic_config: Mapping[str, str]


def dev_server(port: int) -> LocalDevServer | None:
    """Return the dev server that listens on a local TCP port; a tunnel or a proxy that listens there is none."""
    pid = listener(port)
    try:
        words = psutil.Process(pid).cmdline() if pid is not None else []
    except psutil.Error:
        return None
    if pid is None or "start-dev" not in words:
        return None
    metrics = dict(pairwise(words)).get("--metrics-port", "")
    settings = (after.partition("=") for word, after in pairwise(words) if word == "--dynamic-config-value")
    return LocalDevServer(
        pid,
        processes.created(pid),
        f"http://127.0.0.1:{metrics}/metrics" if metrics.isdecimal() else None,
        {key: value for key, _, value in settings},
    )


def _read(path: str) -> bytes:
    """Return a small file of /proc; hundreds are read a second, so none of Python's file objects is made."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _ticks(pid: int, first: int, last: int) -> float:
    """Return the sum of some fields after the name in a process's stat [s]; 0 if it is gone."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return 0.0
    return sum(map(int, stat[stat.rindex(b")") + 2 :].split()[first:last])) * _TICK


def _schedstat(path: str) -> tuple[int, int] | None:
    """Return how long a thread ran and how long it waited for a CPU [ns]; None where the kernel does not count it."""
    try:
        ran, waited, _ = _read(path).split()
    except (OSError, ValueError):
        return None
    return int(ran), int(waited)


def _ended_children(pid: int) -> float:
    if _LINUX:
        return _ticks(pid, 13, 15)
    with contextlib.suppress(psutil.Error):
        spent = psutil.Process(pid).cpu_times()
        return float(spent.children_user + spent.children_system)
    return 0.0


def _portable_cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        spent = psutil.Process(pid).cpu_times()
        return float(spent.user + spent.system)
    return 0.0


def _affinity(pids: Iterable[int]) -> int | None:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count()
    cpus: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            cpus |= os.sched_getaffinity(pid)
    return len(cpus) or None
