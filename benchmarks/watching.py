"""The cost of watching: CPU per start of a launch on a stub, vitals on and off in alternating pairs.

    PEER_BIN=/path/to/peers python benchmarks/watching.py [--pairs 7] [--count 200000] [--in-flight 64]

The stub answers at once, so that the launcher's CPU is all there is. What is watched is real: PostgreSQL and a
Temporal server that have taken some starts (a page of megabytes, dozens of connections), or the embedded dev server
where the stack cannot be had. Quoted is the median of the pairwise ratios on / off, with lowest and highest, and the
share of the launcher's CPU that the watch's own threads took, which the machine's other users disturb less. The
server pays for a page a second too: shown as the CPU of its process with and without a watch.
Needs the peers: benchmarks/peer/build.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator

from launcher import ours, stub

from capacity.cluster import devserver, stack, temporal_binaries
from capacity.cluster.settings import Settings
from capacity.observe.postgres import PostgresSource
from capacity.observe.process import CpuMeter
from capacity.observe.server import ServerSource
from capacity.observe.watcher import Source, Watcher


@contextlib.contextmanager
def watched() -> Iterator[tuple[str, str, str | None, int]]:
    """Something real to watch: its address, metrics page, connection string and server's pid."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["CAPACITY_STATE_DIR"] = state
        if temporal_binaries.find() is None:
            with devserver.running() as server:
                yield server.address, server.metrics_url, None, server.pid
        else:
            with stack.running(Settings("postgres", port=0)) as cluster:
                yield cluster.address, cluster.metrics_url, cluster.postgres, cluster.components[-1].pid


def servers_share(metrics: str, dsn: str | None, pid: int, seconds: float = 5.0) -> None:
    used = {}
    for what in ("unwatched", "watched"):
        sources: list[Source] = [ServerSource(metrics)]
        sources += [PostgresSource(dsn)] if dsn else []
        watcher = Watcher(sources)
        if what == "watched":
            watcher.start()
        meter = CpuMeter()
        meter.read([pid])
        time.sleep(seconds)
        used[what] = meter.read([pid]).used
        watcher.stop()
    print(f"an idle server's CPU: {used['unwatched']:.3f} CPUs unwatched, {used['watched']:.3f} watched", flush=True)


def main(pairs: int, count: int, in_flight: int) -> None:
    with watched() as (real, metrics, dsn, pid), stub() as address:
        ours(real, "--count", "500", "--chain-id", "fill")
        servers_share(metrics, dsn, pid)
        places = ["--server-metrics", metrics, *(["--postgres", dsn] if dsn else [])]
        words = ["--count", str(count), "--parallelism", str(in_flight)]
        ours(address, "--count", str(count // 10), "--no-vitals", "--chain-id", "warm")
        ratios, shares = [], []
        for pair in range(pairs):
            cpu = {}
            order = ("off", "on") if pair % 2 else ("on", "off")
            for vitals in order:
                options = places if vitals == "on" else ["--no-vitals"]
                record = ours(address, *words, *options, "--chain-id", f"{vitals}{pair}")
                cpu[vitals] = record["cpu_seconds"] / count * 1e6
                samples = record["vitals"]
                assert bool(samples) == (vitals == "on")
                assert all(sample["server"] for sample in samples), samples[-1]["missing"]
                if samples:
                    shares.append(samples[-1]["watch_cpu_seconds"] / record["cpu_seconds"])
            ratios.append(cpu["on"] / cpu["off"])
            print(
                f"pair {pair + 1}: {cpu['on']:.2f} µs on, {cpu['off']:.2f} µs off: {ratios[-1]:.3f}, "
                f"the watch's own {shares[-1]:.3f} at {record['starts_per_second']:,.0f} starts/s",
                flush=True,
            )
        low, high = min(ratios), max(ratios)
        print(f"CPU per start, vitals on / off: median {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")
        print(f"the watch's own threads, of the launcher's CPU: median {statistics.median(shares):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--in-flight", type=int, default=64)
    chosen = parser.parse_args()
    main(chosen.pairs, chosen.count, chosen.in_flight)
