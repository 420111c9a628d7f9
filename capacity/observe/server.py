"""A Temporal server's vitals from its Prometheus page, and its process's CPU when it is local."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import psutil

from capacity.cluster import processes
from capacity.observe.pages import Site
from capacity.observe.process import CpuMeter, listener, rss_bytes
from capacity.observe.server_page import HISTOGRAMS, Histogram, Page, Parser
from capacity.observe.vitals import FIRST_READING, NotMeasuredError, ServerVitals, SqlPool
from capacity.observe.vitals_text import mebibytes, pools_in_words
from capacity.observe.watcher import Reading

RENEWED: Final = 0.9
"""Seconds within which counters may not have been renewed yet: a rate over less would be 0 or double."""
GAUGES_RENEWED: Final = 61.0
"""Seconds after which each gauge of the runtime and of a pool was renewed, which is once a minute, and on the page."""
NONE: Final = "the page has none"
NO_FRONTEND: Final = f"{NONE} of the frontend"
ONCE_A_MINUTE: Final = "the server renews it once a minute"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_Groups = Mapping[str, Mapping[str, float]]
"""Gauges by what they are of."""


class ServerSource:
    """A server's metrics page.

    Parameters
    ----------
    url : str
        The page.
    pid, created : int and float, optional
        The local server's process, where it is known; else a process named after Temporal that listens on a loopback
        URL's port.
    """

    component = "server"

    def __init__(self, url: str, pid: int | None = None, created: float | None = None) -> None:
        self._site = Site(url, "--server-metrics")
        self._parser = Parser()
        self._looked = -math.inf
        known = (pid, created) if pid is not None and created is not None else None
        self._process = known or self._found(time.monotonic())  # looking for it takes a while: not within a launch
        self._meter = CpuMeter()
        self._before: tuple[float, Page] | None = None
        self._runtimes, self._pools = _OnceAMinute(), _OnceAMinute()

    def read(self) -> Reading:
        try:
            page = self._parser.parse(*self._site.get(self._site.path))
        except NotMeasuredError:
            self._before = None
            raise
        now = time.monotonic()
        if not page.lines:
            self._before = None
            raise NotMeasuredError("the page has no metrics of a Temporal server")
        missing: dict[str, str] = {}
        values = self._gauges(page, now, missing) | self._rates(page, now, missing) | self._local(now, missing)
        if self._before is None or now - self._before[0] >= RENEWED:
            self._before = (now, page)
        return Reading(ServerVitals(**values), missing)

    def close(self) -> None:
        return None

    def _gauges(self, page: Page, now: float, missing: dict[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = {
            "host_rps_limit": page.gauges.get("host_rps_limit"),
            "namespace_rps_limit": page.gauges.get("namespace_host_rps_limit"),
        }
        goroutines, memory = partial(_of_process, "num_goroutines"), partial(_of_process, "memory_allocated")
        once_a_minute: tuple[tuple[str, _OnceAMinute, _Groups, Callable[[_Groups], Any], Callable[[Any], str]], ...] = (
            ("sql_pools", self._pools, page.pools, _of_pools, pools_in_words),
            ("goroutines", self._runtimes, page.runtimes, goroutines, "{:,}".format),
            ("memory_bytes", self._runtimes, page.runtimes, memory, mebibytes),
        )
        for name, gauges, groups, value, words in once_a_minute:
            values[name] = value(gauges.renewed(groups, now))
            if values[name] is None:
                before = value(groups)
                missing[name] = ONCE_A_MINUTE + (f"; before the watch: {words(before)}" if before else "")
        if not page.pools:
            missing["sql_pools"] = "the server reports them once a minute, and only of SQL stores"
        for name, gauge in (("goroutines", "num_goroutines"), ("memory_bytes", "memory_allocated")):
            if not any(gauge in runtime for runtime in page.runtimes.values()):
                missing[name] = NONE
        return values

    def _rates(self, page: Page, now: float, missing: dict[str, str]) -> dict[str, Any]:
        names = ("starts_per_second", "requests_per_second", "resource_exhausted_per_second")
        if self._before is None:
            missing.update(dict.fromkeys((*names, *HISTOGRAMS), FIRST_READING))
            return {}
        before, then = self._before[1], now - self._before[0]
        if then < RENEWED:
            missing.update(dict.fromkeys((*names, *HISTOGRAMS), "the server renews its counters once a second"))
            return {}
        if page.requests < before.requests or page.starts < before.starts:
            missing.update(dict.fromkeys((*names, *HISTOGRAMS), "a counter went backwards: the server was restarted"))
            return {}
        values: dict[str, Any] = {}
        if page.of_frontend:
            refused = {cause: n - before.exhausted.get(cause, 0.0) for cause, n in page.exhausted.items()}
            values = {
                "starts_per_second": (page.starts - before.starts) / then,
                "requests_per_second": (page.requests - before.requests) / then,
                "resource_exhausted_per_second": {cause: n / then for cause, n in refused.items() if n > 0},
            }
        else:
            missing.update(dict.fromkeys(names, NO_FRONTEND))
        for key, quantiles in (("start", (0.5, 0.99)), ("shard_wait", (0.5, 0.99)), ("create", (0.99,))):
            if key not in page.histograms:
                missing[key] = NO_FRONTEND if key == "start" and not page.of_frontend else NONE
                continue
            later = page.histograms[key].since(before.histograms.get(key, Histogram()))
            if later is None or not later.count:
                missing[key] = "a counter went backwards" if later is None else "there were none"
                continue
            values[f"{key}_mean"] = later.mean()
            values.update({f"{key}_p{q * 100:.0f}": later.quantile(q) for q in quantiles})
        return values

    def _local(self, now: float, missing: dict[str, str]) -> dict[str, Any]:
        if self._process is None or not processes.alive(*self._process):
            self._process = self._found(now)
            self._meter = CpuMeter()
        if self._process is None:
            missing["cpus_used"] = "its process is not known on this machine"
            return {}
        pid = self._process[0]
        use = self._meter.read([pid])
        if use.used is None:
            missing["cpus_used"] = FIRST_READING
        return {
            "rss_bytes": rss_bytes(pid),
            "cpus_used": use.used,
            "cpus_waiting": use.waiting,
            "cpus_allowed": use.allowed,
        }

    def _found(self, now: float) -> tuple[int, float] | None:
        if self._site.host not in _LOOPBACK or now - self._looked < 10:
            return None
        self._looked = now
        pid = listener(self._site.port)
        with contextlib.suppress(psutil.Error):
            if pid is not None and "temporal" in psutil.Process(pid).name():  # else a tunnel, whose CPU says nothing
                return pid, processes.created(pid)
        return None


class _OnceAMinute:
    """Groups of gauges that the server renews once a minute, each at a moment of its own.

    What a first page has was measured before the watch. A group that differs from it was renewed since; one that does
    not may have been renewed with the same values, and was so after `GAUGES_RENEWED` seconds.
    """

    def __init__(self) -> None:
        self._first: tuple[float, dict[str, dict[str, float]]] | None = None
        self._changed: set[str] = set()

    def renewed(self, groups: _Groups, now: float) -> _Groups:
        """Return the groups that were measured since the first page."""
        if self._first is None:
            self._first = now, {name: dict(group) for name, group in groups.items()}
        began, first = self._first
        if now - began >= GAUGES_RENEWED:
            return groups
        self._changed |= {name for name, group in groups.items() if group != first.get(name)}
        return {name: group for name, group in groups.items() if name in self._changed}


def _of_process(name: str, runtimes: _Groups) -> int | None:
    """Return a gauge of the process: each of its services reports all of it; 0 is one that is not set yet."""
    return int(max((runtime.get(name, 0.0) for runtime in runtimes.values()), default=0.0)) or None


def _of_pools(found: _Groups) -> dict[str, SqlPool] | None:
    """Return the pools whose gauges are set; None where there are none."""
    pools = {
        name: SqlPool(
            max_open=int(pool["max_open_conn"]),
            open=int(pool["open_conn"]),
            in_use=int(pool["in_use"]),
            idle=int(pool["idle_conn"]),
        )
        for name, pool in sorted(found.items())
        if len(pool) == 4 and any(pool.values())
    }
    return pools or None
