"""The launcher against a Go reference on a stub frontend, in turns: CPU per start, throughput, memory.

    python benchmarks/launcher.py [--pairs 5] [--count 200000] [--in-flight 64]

Both clients start `count` workflows on the same stub, one after the other, `pairs` times; ours with journal,
histogram and controller on. Quoted is the median of the pairwise ratios ours / Go with their lowest and highest.
Needs the peers: benchmarks/peer/build.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capacity.cluster import ports

PEERS = Path(os.environ.get("PEER_BIN") or Path(__file__).parents[1] / "build" / "peer")


@contextlib.contextmanager
def stub(*flags: str, said: list[str] | None = None) -> Iterator[str]:
    """A stub frontend on a free port; its address. What it says at its end joins `said`."""
    (port,) = ports.free(1)
    process = subprocess.Popen([PEERS / "stub", "-port", str(port), *flags], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        if said is not None and process.stdout is not None:
            said.append(process.stdout.read().strip())


def go(address: str, in_flight: int, count: int, run: str) -> dict[str, Any]:
    done = subprocess.run([PEERS / "client", address, str(in_flight), str(count), run], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ours(address: str, *words: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as state:
        done = subprocess.run(
            [sys.executable, "-m", "capacity", "launch", *words, "--address", address, "--no-verify", "--json"],
            capture_output=True,
            env={**os.environ, "CAPACITY_STATE_DIR": state},
        )
    if done.returncode:
        sys.exit(done.stderr.decode())
    record: dict[str, Any] = json.loads(done.stdout)
    assert record["scheduled"] == record["count"]
    return record


def compare(pairs: int, count: int, in_flight: int) -> None:
    cpu, speed = [], []
    with stub() as address:
        go(address, in_flight, count // 10, "warm")
        for pair in range(pairs):
            theirs = go(address, in_flight, count, f"go{pair}")
            mine = ours(address, "--count", str(count), "--parallelism", str(in_flight), "--chain-id", f"c{pair}")
            own = mine["cpu_seconds"] / count * 1e6
            cpu.append(own / theirs["cpu_us_per_start"])
            speed.append(mine["starts_per_second"] / theirs["starts_per_second"])
            print(
                f"pair {pair + 1}: Go {theirs['cpu_us_per_start']:.1f} µs, {theirs['starts_per_second']:,.0f}/s, "
                f"{theirs['rss_mib']} MiB; ours {own:.1f} µs, {mine['starts_per_second']:,.0f}/s, "
                f"{mine['rss_bytes_max'] / 2**20:.0f} MiB",
                flush=True,
            )
    for name, ratios in (("CPU per start", cpu), ("throughput", speed)):
        print(f"{name}, ours / Go: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--in-flight", type=int, default=64)
    chosen = parser.parse_args()
    compare(chosen.pairs, chosen.count, chosen.in_flight)
