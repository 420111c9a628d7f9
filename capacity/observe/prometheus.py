"""CPU of remote hosts and containers, from a Prometheus by stored queries."""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import quote

from capacity import files
from capacity.observe.pages import Site
from capacity.observe.vitals import NotMeasuredError, PrometheusVitals
from capacity.observe.watcher import Reading

WINDOW: Final = "2m"
"""Rates are over this: two scrapes at the usual interval of a minute or less."""
_TEMPORAL: Final = '=~".*temporal.*"'
_POSTGRES: Final = '=~".*(postgres|pgsql|postgresql).*"'
_CONTAINER: Final = "container_cpu_usage_seconds_total"
QUERIES: Final = {
    "server processes": f"sum(rate(process_cpu_seconds_total{{job{_TEMPORAL}}}[{WINDOW}]))",
    "server containers": (f'sum(rate({_CONTAINER}{{container{_TEMPORAL},container!~".*(ui|web|admin).*"}}[{WINDOW}]))'),
    "server hosts": f'sum(rate(node_cpu_seconds_total{{mode!~"idle|iowait",job{_TEMPORAL}}}[{WINDOW}]))',
    # Not process_cpu_seconds_total: that of a job named after PostgreSQL is its exporter's.
    "PostgreSQL containers": (f'sum(rate({_CONTAINER}{{container{_POSTGRES},container!~".*exporter.*"}}[{WINDOW}]))'),
    "PostgreSQL hosts": f'sum(rate(node_cpu_seconds_total{{mode!~"idle|iowait",job{_POSTGRES}}}[{WINDOW}]))',
}
"""By what they measure, in CPU seconds per second [CPUs]."""


class PrometheusSource:
    """A Prometheus that watches the cluster.

    Parameters
    ----------
    url : str
        Its root, ``http://HOST:9090``.
    """

    component = "prometheus"

    def __init__(self, url: str) -> None:
        self._site = Site(url, "--prometheus")

    def read(self) -> Reading:
        cpus, missing = {}, {}
        for name, query in QUERIES.items():
            value = self._value(query)
            if value is None:
                missing[name] = "the query returned nothing"
            else:
                cpus[name] = value
        return Reading(PrometheusVitals(cpus=cpus), missing)

    def close(self) -> None:
        return None

    def _value(self, query: str) -> float | None:
        answer, size = self._site.get(f"{self._site.path}/api/v1/query?query={quote(query)}")
        try:
            return _value_of(files.json_value(bytes(answer[:size])))
        except (ValueError, KeyError, IndexError, TypeError, files.UnreadableError) as error:
            raise NotMeasuredError("the answer is not Prometheus'") from error


def _value_of(found: Any) -> float | None:
    if found["status"] != "success":
        raise NotMeasuredError(f"Prometheus: {str(found.get('error', 'the query failed'))[:200]}")
    result = found["data"]["result"]
    text = result[0]["value"][1] if result else "NaN"
    value = float(text) if isinstance(text, str) else float("nan")
    return value if math.isfinite(value) else None
