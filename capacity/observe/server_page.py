"""The wanted numbers of a Temporal server's Prometheus page.

The page is about a megabyte, of which a few hundred lines are wanted. `semaphore_latency{operation="ShardInfo"}` is
what a request waits for its shard's I/O semaphore (server:service/history/shard/context_impl.go);
`dd_shard_io_semaphore_latency` is only the deadlock detector's own probe, so it is not read. A server with
``framework: opentelemetry`` counts whole milliseconds, rounded down, unless told ``recordTimerInSeconds``
(server:common/metrics/config.go).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

HISTOGRAMS: Final = {
    "start": ("service_latency", "StartWorkflowExecution"),
    "shard_wait": ("semaphore_latency", "ShardInfo"),
    "create": ("persistence_latency", "CreateWorkflowExecution"),
}
_SINGLE: Final = (
    *("service_requests", "service_errors_resource_exhausted", "host_rps_limit", "namespace_host_rps_limit"),
    *("num_goroutines", "memory_allocated", "persistence_sql_max_open_conn", "persistence_sql_open_conn"),
    *("persistence_sql_idle_conn", "persistence_sql_in_use"),
)
_SINGLE_FAMILIES: Final = {"", *_SINGLE}
_OPERATIONS: Final = {name: f'operation="{one}"'.encode() for name, one in HISTOGRAMS.values()}
"""What is searched: these families, and whatever stands before the first line with a type. The others, most of a page,
are passed over by that line."""
_TYPE: Final = b"\n# TYPE "
# Each alternative begins with the same literal byte: the search skips from line to line, which "^" makes 20 x slower.
_WANTED: Final = re.compile(
    rf"\n((?:{'|'.join(_SINGLE)})(?:_total)?[{{ ][^\n]*"
    rf"|(?:{'|'.join(name for name, _ in HISTOGRAMS.values())})(?:_(?:milli)?seconds)?_(?:bucket|sum|count)\{{[^\n]*"
    rf'operation="(?:{"|".join(operation for _, operation in HISTOGRAMS.values())})"[^\n]*)'.encode()
)
_UNITS: Final = {"_milliseconds": 1e-3, "_seconds": 1.0}
"""Of a histogram, where its name says it [s]."""
_NAME: Final = re.compile(rb"(\w+)(?:\{(.*)\})?$")
_LABEL: Final = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')
PART: Final = 131072
"""Bytes of a page searched at a time, if the line ends there."""
LARGEST: Final = 1e18
"""Of a value: more is not counted in bytes or starts, and neither NaN nor infinite is."""
MOST_SERIES: Final = 20_000
"""Series whose labels are remembered."""


def in_milliseconds(lowest: float) -> bool:
    """Tell by its lowest bound whether a histogram whose name says no unit was counted in milliseconds."""
    return 1 <= lowest < math.inf


@dataclass
class Histogram:
    """A histogram's counters: observations up to each bound [s], their number and sum [s].

    Until it is `in_seconds` it is in a unit [s]; None is one that its name does not say.
    """

    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    count: float = 0.0
    sum: float = 0.0
    unit: float | None = 1.0

    def since(self, before: Histogram) -> Histogram | None:
        """Return what came after `before`; None if a counter went backwards."""
        buckets = {bound: n - before.buckets.get(bound, 0.0) for bound, n in self.buckets.items()}
        later = Histogram(buckets, self.count - before.count, self.sum - before.sum)
        return None if later.count < 0 or min(buckets.values(), default=0.0) < 0 else later

    def in_seconds(self) -> Histogram:
        """Return it in seconds."""
        unit = self.unit or (1e-3 if in_milliseconds(min(self.buckets, default=0.0)) else 1.0)
        return Histogram({bound * unit: n for bound, n in self.buckets.items()}, self.count, self.sum * unit)

    def mean(self) -> float | None:
        """Return the mean [s]; None of nothing."""
        return self.sum / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """Return a quantile, interpolated in its bucket [s]; None of nothing.

        Source: the definition of Prometheus' ``histogram_quantile``; above the last bound it is that bound.

        Examples
        --------
        >>> Histogram({0.001: 50, 0.002: 100, math.inf: 100}, 100, 0.1).quantile(0.75)
        0.0015
        """
        if not self.count:
            return None
        rank, low, below = q * self.count, 0.0, 0.0
        for bound, n in sorted(self.buckets.items()):
            if math.isinf(bound):
                return low
            if n >= rank:
                return low + (bound - low) * (rank - below) / (n - below) if n > below else bound
            low, below = bound, n
        return low


@dataclass
class Page:
    """The wanted numbers of one metrics page; of a histogram that it has not there is no key.

    `of_frontend` tells whether it has any of the frontend's requests: the page of another host has none.
    """

    of_frontend: bool = False
    starts: float = 0.0
    requests: float = 0.0
    exhausted: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gauges: dict[str, float] = field(default_factory=dict)
    runtimes: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    pools: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    histograms: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    lines: int = 0

    def add(self, series: _Series, value: float) -> None:
        """Take the value of one series of the page."""
        kind, key, part = series
        self.lines += 1
        if kind in ("bucket", "count", "sum"):
            bound, unit = part
            histogram = self.histograms[key]
            histogram.unit = unit
            if kind == "bucket":
                histogram.buckets[bound] += value
            elif kind == "count":
                histogram.count += value
            else:
                histogram.sum += value
        elif kind == "request":
            self.of_frontend = True
            self.requests += value
            self.starts += value if key == "StartWorkflowExecution" else 0.0
        elif kind == "exhausted":
            self.exhausted[key] += value
        elif kind == "pool":
            self.pools[key][part] = value
        elif kind == "lowest":
            self.gauges[key] = min(value, self.gauges.get(key, math.inf))
        elif kind == "runtime":
            self.runtimes[key][part] = max(value, self.runtimes[key].get(part, 0.0))


_Series = tuple[str, str, Any]
"""What a series is, of what, and which part of it."""
_NOT_WANTED: Final[_Series] = ("", "", None)


class Parser:
    """Reads pages of Prometheus text; the labels of a series are read the first time it is seen."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Series] = {}

    def parse(self, text: bytes | bytearray, size: int | None = None) -> Page:
        """Return the wanted numbers of the first `size` bytes of a text."""
        size = len(text) if size is None else size
        page, begin, family = Page(), max(0, text.find(b"\n", 0, size)), ""
        self._scan(page, b"\n" + text[:begin], 0, begin + 1)
        looked = begin
        while begin < size:
            found = text.find(_TYPE, looked, size)
            until = size if found < 0 else found
            if family in _OPERATIONS:
                self._jump(page, text, begin, until, _OPERATIONS[family])
            elif family in _SINGLE_FAMILIES:
                self._search(page, text, begin, until)
            name = text[until + len(_TYPE) : text.find(b" ", until + len(_TYPE), size)]
            family, _ = _bare(name.decode("utf-8", "replace"))
            begin, looked = until, until + 1
        for key, histogram in page.histograms.items():
            page.histograms[key] = histogram.in_seconds()
        return page

    def _jump(self, page: Page, text: bytes | bytearray, begin: int, until: int, operation: bytes) -> None:
        """Scan just the lines with an operation, a few of thousands."""
        while (found := text.find(operation, begin, until)) >= 0:
            begin, line = text.find(b"\n", found, until), text.rfind(b"\n", begin, found)
            begin = begin if begin >= 0 else until
            self._scan(page, text, line, begin)

    def _search(self, page: Page, text: bytes | bytearray, begin: int, until: int) -> None:
        """Scan in parts: a search holds the interpreter, and with it a launch's event loop, until its end."""
        while begin < until:
            end = text.rfind(b"\n", begin + 1, begin + PART) if begin + PART < until else until
            end = end if end > begin else until
            self._scan(page, text, begin, end)
            begin = end

    def _scan(self, page: Page, text: bytes | bytearray, begin: int, end: int) -> None:
        for line in _WANTED.findall(text, begin, end):
            name, _, value = line.rpartition(b" ")
            series = self._known.get(name)
            if series is None:
                if len(self._known) > MOST_SERIES:
                    self._known.clear()
                series = self._known[name] = _series(name)
            if series is not _NOT_WANTED:
                with contextlib.suppress(ValueError):  # not Prometheus text
                    number = float(value)
                    if -LARGEST <= number <= LARGEST:
                        page.add(series, number)


def _series(text: bytes) -> _Series:
    found = _NAME.match(text)
    if found is None:
        return _NOT_WANTED
    labels = {key.decode(): value.decode("utf-8", "replace") for key, value in _LABEL.findall(found[2] or b"")}
    try:
        return _meaning(found[1].decode().removesuffix("_total"), labels)
    except (KeyError, ValueError):
        return _NOT_WANTED  # a label that this needs is not there


def _meaning(name: str, labels: Mapping[str, str]) -> _Series:
    # An error or a request travels through the services and each counts it: the frontend's is the caller's.
    at_frontend = labels["service_name"] == "frontend"
    if name == "service_requests":
        return ("request", labels["operation"], None) if at_frontend else _NOT_WANTED
    if name == "service_errors_resource_exhausted":
        return ("exhausted", _cause(labels["resource_exhausted_cause"]), None) if at_frontend else _NOT_WANTED
    if name.startswith("persistence_sql_"):
        return "pool", f"{labels['service_name']} {labels['db_kind']}", name.removeprefix("persistence_sql_")
    if name in ("num_goroutines", "memory_allocated"):
        return "runtime", labels["service_name"], name
    if name.endswith("_rps_limit"):
        return "lowest", name, None
    family, _, part = name.rpartition("_")
    family, unit = _bare(family)
    ours = next((key for key, names in HISTOGRAMS.items() if names == (family, labels["operation"])), None)
    if ours is None or (ours == "start" and not at_frontend):
        return _NOT_WANTED
    bound = float(labels["le"]) if part == "bucket" else None
    wanted = bound is None or 0 <= bound <= 1e9 or bound == math.inf
    return (part, ours, (bound, unit)) if wanted else _NOT_WANTED


def _bare(family: str) -> tuple[str, float | None]:
    """Return a family's name without what says that it counts or in which unit, and that unit [s].

    >>> _bare("service_latency_milliseconds"), _bare("service_requests_total")
    (('service_latency', 0.001), ('service_requests', None))
    """
    for suffix, unit in _UNITS.items():
        if family.endswith(suffix):
            return family.removesuffix(suffix), unit
    return family.removesuffix("_total"), None


def _cause(text: str) -> str:
    """Return a cause as the API spells it: the page has ``RpsLimit`` where the API has ``RPS_LIMIT``.

    >>> _cause("RpsLimit"), _cause("BusyWorkflow"), _cause("RPS_LIMIT")
    ('RPS_LIMIT', 'BUSY_WORKFLOW', 'RPS_LIMIT')
    """
    return text if text.isupper() else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).upper()
