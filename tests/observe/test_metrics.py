"""Prometheus metrics of a running launch, scraped as Prometheus scrapes them."""

from __future__ import annotations

import math
import socket
import threading
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from capacity.errors import UsageError
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import AWAY, Progress
from capacity.observe.metrics import BUCKETS, LaunchMetrics, serving

PROGRESS = Progress(
    state="running",
    count=100,
    started=40,
    already_running=3,
    already_finished=2,
    failed=1,
    in_flight=8,
    limit=16,
    starts_per_second=20.0,
    p50=0.01,
    p99=math.nan,
    elapsed=2.0,
    throttled=5,
    attempts=60,
    retries={"RPS_LIMIT": 5, "UNAVAILABLE": 2},
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(latencies: Latencies, progress: Progress = PROGRESS) -> dict[tuple[str, str], float]:
    """Serve one picture, scrape it; value by (sample name, its label other than the run's)."""
    metrics, port = LaunchMetrics(), free_port()
    with serving(metrics, port):
        metrics.update("run-1", progress, latencies)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            text = page.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("run_id") == "run-1"
            found[sample.name, next(iter(labels.values()), "")] = sample.value
    return found


def test_a_scrape_shows_outcomes_attempts_and_retries_by_kind() -> None:
    """Counters hold what the last progress held, by outcome and by kind of retry."""
    found = scraped(Latencies())
    assert found["capacity_items_total", "started"] == 40
    assert found["capacity_items_total", "already_running"] == 3
    assert found["capacity_items_total", "failed"] == 1
    assert found["capacity_attempts_total", ""] == 60
    assert found["capacity_retries_total", "RPS_LIMIT"] == 5
    assert found["capacity_throttled_attempts_total", ""] == 5
    assert found["capacity_in_flight", ""] == 8
    assert found["capacity_limit", ""] == 16


def test_a_launch_that_waits_for_a_server_says_so() -> None:
    """Whoever watches the launch sees 1 while no server answers, and 0 while one does."""
    assert scraped(Latencies())["capacity_server_away", ""] == 0
    assert scraped(Latencies(), replace(PROGRESS, state=AWAY))["capacity_server_away", ""] == 1


def test_the_histogram_counts_latencies_from_a_millisecond_up() -> None:
    """Buckets are cumulative, begin at 1 ms and end with all; their sum is that of the latencies."""
    latencies = Latencies()
    latencies.add(np.array([0.0005, 0.003, 0.003, 0.2, 60.0]))
    found = scraped(latencies)
    buckets = [found["capacity_start_latency_seconds_bucket", f"{bound:g}"] for bound in BUCKETS]
    assert BUCKETS[0] == 0.001
    assert buckets == [sum(value <= bound for value in (0.0005, 0.003, 0.003, 0.2, 60.0)) for bound in BUCKETS]
    assert found["capacity_start_latency_seconds_bucket", "+Inf"] == 5
    assert found["capacity_start_latency_seconds_sum", ""] == pytest.approx(60.2065)


def test_before_the_first_tick_there_is_nothing_to_scrape() -> None:
    """A scrape that comes early gets an empty page, not an error."""
    port = free_port()
    with serving(LaunchMetrics(), port), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        assert page.read().strip() == b""


def test_a_taken_port_is_one_line() -> None:
    """A port somebody listens on is named, before anything is started."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"metrics port {port}: .*--metrics-port"),
            serving(LaunchMetrics(), port),
        ):
            pass


def test_the_server_ends_with_the_launch() -> None:
    """Afterwards neither its thread nor its port is held."""
    threads, port = set(threading.enumerate()), free_port()
    with serving(LaunchMetrics(), port):
        assert set(threading.enumerate()) > threads
    assert set(threading.enumerate()) == threads
    with serving(LaunchMetrics(), port):
        pass
