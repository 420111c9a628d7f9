"""Memory of a launcher process, measured and predicted, on the stub frontend.

    python benchmarks/memory.py [--fit]

Each line is a process of its own that launches a batch at a fixed parallelism; its peak resident set is set against
`capacity.model.memory`. With --fit the constants of a `LauncherMemory` for these measurements are printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from capacity.model.memory import launcher_rss

CASES = [(p, n) for p in (8, 128, 512) for n in (10_000, 1_000_000)]


def measured(parallelism: int, count: int) -> int:
    """Return the peak resident set of a process that launches `count` items [bytes]."""
    words = [sys.executable, __file__, "--child", str(parallelism), str(count)]
    with tempfile.TemporaryDirectory() as state:
        done = subprocess.run(
            words, env={**os.environ, "CAPACITY_STATE_DIR": state}, stdout=subprocess.PIPE, text=True, check=True
        )
    return int(json.loads(done.stdout)["rss"])


def child(parallelism: int, count: int) -> None:
    import asyncio

    from launcher import stub

    from capacity.cluster.target import Target
    from capacity.launcher.batch import HeightRange
    from capacity.observe.session import launch

    with stub() as address:
        run = asyncio.run(launch(HeightRange(count), Target(address), parallelism=parallelism, verify=False))
    assert run.scheduled == count
    print(json.dumps({"rss": run.rss_bytes_max}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fit", action="store_true")
    chosen = parser.parse_args()
    if chosen.child:
        child(*chosen.child)
        return
    print("in flight      items   measured  predicted  error")
    found = []
    for parallelism, count in CASES:
        rss = measured(parallelism, count)
        found.append(rss)
        predicted = float(launcher_rss(parallelism, count))
        sizes = f"{rss / 2**20:5.1f} MiB  {predicted / 2**20:5.1f} MiB"
        print(f"{parallelism:9}  {count:9,}  {sizes}  {predicted / rss - 1:+.1%}", flush=True)
    if chosen.fit:
        design = np.array([[1, p, n] for p, n in CASES], dtype=float)
        base, flight, item = np.linalg.lstsq(design, np.array(found, dtype=float), rcond=None)[0]
        print(f"base {base / 2**20:.1f} MiB, per start in flight {flight:,.0f} bytes, per item {item:.2f} bytes")


if __name__ == "__main__":
    main()
