"""What a launcher process occupies: three short launches by the command line, each in a process of its own.

One in flight and few items give the base, many in flight what each adds, many items what each adds (its byte of the
journal, which is mapped into memory). The resident set is the highest a launch reports of itself.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from capacity.cluster import processes, state
from capacity.cluster.target import Target
from capacity.errors import ClusterError, UsageError
from capacity.experiment.local import LocalCluster
from capacity.experiment.points import TASK_QUEUE
from capacity.model.measurement import LauncherMemory
from capacity.observe.run import Run

SECONDS: Final = 3.0
"""How long each launch runs once it has begun [s]."""
FEW: Final = 20_000
MANY_IN_FLIGHT: Final = 512
MANY_ITEMS: Final = 20_000_000
LAUNCHES: Final = ((1, FEW), (MANY_IN_FLIGHT, FEW), (1, MANY_ITEMS))
"""Parallelism and items of each."""


def launcher_memory(
    target: Target,
    cluster: LocalCluster,
    prefix: str,
    count: Callable[[int], None],
    stop: Callable[[], bool] = lambda: False,
) -> LauncherMemory | None:
    """Return the memory of a launcher [bytes]; None when stopped. `count` is told the starts made for it.

    Only for a target in plain text and without a key: others' secrets would have to be handed on.

    Raises
    ------
    ClusterError
        If it cannot be measured: the target has secrets, or a launch left no record.
    """
    if target.tls or target.api_key or target.metadata:
        raise ClusterError("the target has TLS, a key or headers, which no process of its own is given")
    sizes = []
    with tempfile.TemporaryDirectory(prefix=".memory-", dir=state.made(state.folder())) as folder:
        for parallelism, items in LAUNCHES:
            record = None if stop() else _launched(target, cluster, Path(folder), prefix, parallelism, items, stop)
            if record is None:
                return None
            sizes.append(record.rss_bytes_max)
            count(record.scheduled)
    return memory_of(sizes)


def memory_of(sizes: list[int]) -> LauncherMemory:
    """Return what the resident sets of the three `LAUNCHES` say [bytes]; noise below nothing counts as nothing.

    >>> memory_of([50_040_000, 60_260_000, 70_020_000])
    LauncherMemory(base=50000000.0, per_in_flight=20000.0, per_item=1.0)
    """
    least, wide, long = sizes
    per_item = max(0.0, (long - least) / (MANY_ITEMS - FEW))
    per_in_flight = max(0.0, (wide - least) / (MANY_IN_FLIGHT - 1))
    return LauncherMemory(
        base=float(round(least - per_item * FEW - per_in_flight)),
        per_in_flight=float(round(per_in_flight)),
        per_item=round(per_item, 3),
    )


def _launched(
    target: Target,
    cluster: LocalCluster,
    folder: Path,
    prefix: str,
    parallelism: int,
    items: int,
    stop: Callable[[], bool],
) -> Run | None:
    """Launch, interrupt it after a while, and return its record; None if there is none since it was to stop."""
    name = secrets.token_hex(4)
    record, log = folder / f"{name}.json", folder / f"{name}.log"
    words = ["launch", "--count", items, "--chain-id", f"{prefix}-{name}", "--task-queue", TASK_QUEUE]
    words += ["--parallelism", parallelism, "--address", target.address, "--namespace", target.namespace]
    words += ["--allow-target", target.address, "--record", record, "--no-verify"]
    words += ["--server-metrics", cluster.metrics_url] if cluster.metrics_url else []
    words += ["--postgres", cluster.postgres] if cluster.postgres else []
    # Its own state folder: journals and records of ours are none of the user's runs. And no profile, key or address of
    # the user's: the target is all on the command line.
    nothing = folder / "temporal.toml"
    nothing.touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TEMPORAL_")}
    environment |= {"CAPACITY_STATE_DIR": str(folder), "TEMPORAL_CONFIG_FILE": str(nothing)}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "capacity", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # a Ctrl-C is told to us, and we tell it
        )
        try:
            begun = _wait(child, lambda: any(folder.glob("runs/*.journal")), 30.0, stop)
            if begun:
                _wait(child, lambda: False, SECONDS, stop)
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
            try:
                child.wait(20.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    for journal in folder.glob("runs/*"):
        journal.unlink()
    try:
        return Run.load(record)
    except UsageError as error:
        if stop():
            return None
        raise ClusterError(f"a launch for it left no record: {processes.last_line(log)}") from error


def _wait(child: subprocess.Popen[bytes], done: Callable[[], bool], seconds: float, stop: Callable[[], bool]) -> bool:
    """Return True once `done`, False when the child has ended, the time is over or it is to stop."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None and not stop():
        if done():
            return True
        time.sleep(0.05)
    return False
