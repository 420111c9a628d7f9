"""What a sweep measures beside its points: the launcher's memory, the store's times at one in flight, storage."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from capacity.errors import CapacityError
from capacity.experiment import store
from capacity.experiment.local import LocalCluster
from capacity.experiment.points import FEWEST, Taken
from capacity.model.measurement import Storage, StoreTimes

STORAGE_STARTS: Final = 2000
STORAGE_PARALLELISM: Final = 8

Load = Callable[[int, str, int | None], Taken]
"""(parallelism, name, starts at most) to what became of them; returns once the cluster is idle again."""


def measure_extras(
    cluster: LocalCluster,
    run: Load,
    memory: Callable[[], object],
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """Return fields of `Measurements` by name; what cannot be measured is said and left out.

    Parameters
    ----------
    cluster : LocalCluster
    run : callable
        Makes starts.
    memory : callable
        Returns the launcher's memory.
    say : callable
        Told what could not be measured.
    stop : callable
        When it returns True what is left is left out.
    """
    parts: dict[str, Callable[[], object]] = {
        "memory": memory,
        "times": lambda: _times(cluster, run),
        "storage": lambda: _storage(cluster, run),
    }
    found: dict[str, Any] = {}
    for name, part in parts.items():
        try:
            value = None if stop() else part()
        except CapacityError as error:
            say(f"{name} not measured: {error}")
            continue
        if not stop():
            found[name] = value
    return found


def _times(cluster: LocalCluster, run: Load) -> StoreTimes | None:
    if cluster.metrics_url is None:
        return None
    time.sleep(store.RENEWED)
    before = store.counters_of(store.page(cluster.metrics_url))
    taken = run(1, "times", None)
    time.sleep(store.RENEWED)
    after = store.counters_of(store.page(cluster.metrics_url))
    if taken.point is None or taken.started < FEWEST:
        return None
    times = store.times_between(before, after, taken.started, pooled=cluster.max_conns != 1)
    return times.model_copy(update={"mean": taken.point.mean})


def _storage(cluster: LocalCluster, run: Load) -> Storage | None:
    if cluster.postgres is None:
        return None
    before = store.read_state(cluster.postgres)
    starts = run(STORAGE_PARALLELISM, "storage", STORAGE_STARTS).started
    store.wait_for_rows(cluster.postgres, before.rows + starts)
    after = store.read_state(cluster.postgres)
    return store.storage_between(before, after, starts) if starts >= FEWEST else None
