"""CPU of remote hosts and containers, from a Prometheus by stored queries."""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import quote

from capacity import files
from capacity.observe.pages import Site
from capacity.observe.vitals import PROMETHEUS_MINUTES, NotMeasuredError, PrometheusVitals
from capacity.observe.watcher import Reading

UNUSED: Final = "idle|iowait|steal"
"""Modes of node_exporter's CPU seconds in which nothing of the host runs."""
WINDOW: Final = f"{PROMETHEUS_MINUTES}m"
_TEMPORAL: Final = '=~".*temporal.*"'
_POSTGRES: Final = '=~".*(postgres|pgsql|postgresql).*"'
_CONTAINER: Final = "container_cpu_usage_seconds_total"
QUERIES: Final = {
    "server processes": f"sum(rate(process_cpu_seconds_total{{job{_TEMPORAL}}}[{WINDOW}]))",
    "server containers": (f'sum(rate({_CONTAINER}{{container{_TEMPORAL},container!~".*(ui|web|admin).*"}}[{WINDOW}]))'),
    "server hosts": f'sum(rate(node_cpu_seconds_total{{mode!~"{UNUSED}",job{_TEMPORAL}}}[{WINDOW}]))',
    # Not process_cpu_seconds_total: that of a job named after PostgreSQL is its exporter's.
    "PostgreSQL containers": (f'sum(rate({_CONTAINER}{{container{_POSTGRES},container!~".*exporter.*"}}[{WINDOW}]))'),
    "PostgreSQL hosts": f'sum(rate(node_cpu_seconds_total{{mode!~"{UNUSED}",job{_POSTGRES}}}[{WINDOW}]))',
}
"""By what they measure, in CPU seconds per second [CPUs]."""
QUERY: Final = " or ".join(f'label_replace({query}, "what", "{name}", "", "")' for name, query in QUERIES.items())
"""All of them at once: each round trip would take its part of the second in which they are read."""


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
        answer, size = self._site.get(f"{self._site.path}/api/v1/query?query={quote(QUERY)}")
        try:
            cpus = _values_of(files.json_value(bytes(answer[:size])))
        except (ValueError, KeyError, IndexError, TypeError, files.UnreadableError) as error:
            raise NotMeasuredError("the answer is not Prometheus'") from error
        missing = {name: "the query returned nothing" for name in QUERIES if name not in cpus}
        return Reading(PrometheusVitals(cpus=cpus), missing)

    def close(self) -> None:
        return None


def _values_of(found: Any) -> dict[str, float]:
    """Return the finite values of an answer to `QUERY`, by what they measure."""
    if found["status"] != "success":
        raise NotMeasuredError(f"Prometheus: {str(found.get('error', 'the query failed'))[:200]}")
    values = {each["metric"]["what"]: float(each["value"][1]) for each in found["data"]["result"]}
    return {name: value for name, value in values.items() if name in QUERIES and math.isfinite(value)}
