"""Prometheus metrics of a running launch, served on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from capacity.errors import UsageError
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import AWAY, Progress

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
"""Upper bounds of the latency histogram [s]: a p99 below 10 ms can be read from them, and one of minutes."""


class LaunchMetrics(Collector):
    """What a launch looked like at its last tick, for Prometheus to read at any moment."""

    def __init__(self) -> None:
        self._families: list[Metric] = []

    def update(self, run_id: str, progress: Progress, latencies: Latencies) -> None:
        """Take the picture the next scrapes will see; called on the launch's loop."""
        labels = [run_id]
        counter = CounterMetricFamily("capacity_items", "Items by outcome", labels=["run_id", "outcome"])
        outcomes = {
            "started": progress.started,
            "already_running": progress.already_running,
            "already_finished": progress.already_finished,
            "failed": progress.failed,
        }
        for outcome, value in outcomes.items():
            counter.add_metric([*labels, outcome], value)
        attempts = CounterMetricFamily("capacity_attempts", "Start RPCs sent", labels=["run_id"])
        attempts.add_metric(labels, progress.attempts)
        throttled = CounterMetricFamily(
            "capacity_throttled_attempts", "Attempts refused for their rate", labels=["run_id"]
        )
        throttled.add_metric(labels, progress.throttled)
        retried = CounterMetricFamily(
            "capacity_retries", "Attempts to be repeated, by status or throttling cause", labels=["run_id", "kind"]
        )
        for kind, value in progress.retries.items():
            retried.add_metric([*labels, kind], value)
        buckets = [(f"{bound:g}", latencies.at_most(bound)) for bound in BUCKETS]
        histogram = HistogramMetricFamily("capacity_start_latency_seconds", "Latency of starts", labels=["run_id"])
        histogram.add_metric(labels, [*buckets, ("+Inf", latencies.count)], latencies.total)
        self._families = [counter, attempts, throttled, retried, histogram]
        for name, text, value in (
            ("capacity_items_planned", "Items of the batch", progress.count),
            ("capacity_in_flight", "Attempts in flight", progress.in_flight),
            ("capacity_limit", "Attempts in flight at most", progress.limit),
            ("capacity_server_away", "1 while no server answers and the launch waits for one", progress.state == AWAY),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["run_id"])
            gauge.add_metric(labels, value)
            self._families.append(gauge)

    def collect(self) -> Iterator[Metric]:
        """Yield the families of the last picture."""
        yield from self._families


@contextlib.contextmanager
def serving(metrics: LaunchMetrics, port: int) -> Iterator[None]:
    """Serve metrics at ``http://127.0.0.1:{port}/metrics`` while the block lasts."""
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = prometheus_client.start_http_server(port, "127.0.0.1", registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "not a port, which is 0 to 65535"
        raise UsageError(f"metrics port {port}: {reason}", next_step="pass another --metrics-port") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
