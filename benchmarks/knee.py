"""Auto against fixed parallelism on a real server, each run on a fresh one, rounds interleaved.

    python benchmarks/knee.py [--store sqlite|postgres] [--rounds 3] [--count 4000] [--fixed 1,2,3,4,8,16,32,64,128]

The knee is the smallest fixed parallelism with 0.95 of the best median throughput. Printed: each setting's median
throughput, the spread of its rounds, its median p99; then auto's share of the best and its p99 over the knee's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
from contextlib import AbstractContextManager

from capacity.cluster import devserver, stack
from capacity.cluster.settings import Settings
from capacity.cluster.state import ClusterState
from capacity.cluster.target import Target
from capacity.launcher.batch import HeightRange
from capacity.observe.session import launch

LIMITS = {"frontend.rps": "100000", "frontend.namespaceRPS": "100000", "history.rps": "100000"}


def fresh(store: str) -> AbstractContextManager[devserver.DevServer | ClusterState]:
    if store == "postgres":
        return stack.running(Settings("postgres", port=0, dynamic_config=LIMITS))
    return devserver.running(dynamic_config=LIMITS)


def one(store: str, setting: str, count: int) -> tuple[float, float, int]:
    """Launch once on a fresh server: (starts/s, p99 [s], last limit)."""
    with fresh(store) as server:
        run = asyncio.run(launch(HeightRange(count), Target(server.address), parallelism=setting, verify=False))
    assert run.scheduled == count
    assert run.latency_seconds.p99 is not None
    return run.starts_per_second, run.latency_seconds.p99, run.controller.limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--fixed", default="1,2,3,4,8,16,32,64,128")
    chosen = parser.parse_args()
    settings = [*chosen.fixed.split(","), "auto"]
    rates: dict[str, list[float]] = {setting: [] for setting in settings}
    tails: dict[str, list[float]] = {setting: [] for setting in settings}
    order = random.Random(1)
    for round_ in range(chosen.rounds):
        for setting in order.sample(settings, len(settings)):
            rate, p99, limit = one(chosen.store, setting, chosen.count)
            rates[setting].append(rate)
            tails[setting].append(p99)
            print(
                f"round {round_ + 1}: {setting:>4}: {rate:4.0f}/s, p99 {p99 * 1e3:4.0f} ms, limit {limit}", flush=True
            )
    median = {setting: statistics.median(values) for setting, values in rates.items()}
    best = max(median[setting] for setting in settings[:-1])
    knee = next(setting for setting in settings[:-1] if median[setting] >= 0.95 * best)
    print("\nsetting  starts/s (lowest to highest)   of best   p99")
    for setting in settings:
        spread = f"{min(rates[setting]):.0f} to {max(rates[setting]):.0f}"
        tail = statistics.median(tails[setting])
        print(
            f"{setting:>7}  {median[setting]:8.0f} ({spread:>10})  {median[setting] / best:14.2f}  {tail * 1e3:5.0f} ms"
        )
    tail = statistics.median(tails["auto"])
    print(
        f"\nknee {knee}; auto: {median['auto'] / best:.2f} of the best throughput, "
        f"p99 {tail / statistics.median(tails[knee]):.2f} x the knee's, "
        f"{statistics.median(tails[settings[-2]]) / tail:.1f} x below fixed {settings[-2]}'s"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["CAPACITY_STATE_DIR"] = state
        main()
