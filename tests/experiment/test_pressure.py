"""What a load meets: what ends it early is told, whatever it is."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from capacity.cluster.target import Target
from capacity.errors import ClusterError, GuardRefusalError
from capacity.experiment import points, pressure, store
from capacity.experiment.local import LocalCluster
from capacity.experiment.points import Starts, Taken
from capacity.experiment.store import StoreState
from capacity.model.measurement import Point, Storage

TARGET = Target("127.0.0.1:1")
CLUSTER = LocalCluster(TARGET.address, "postgres", postgres="host=127.0.0.1 port=1 dbname=postgres connect_timeout=1")
POINT = Point(parallelism=4, seconds=1.0, starts=300, throughput=300.0, mean=0.01, p50=0.01, p99=0.02, in_flight=4.0)


def counted(rows: int, at: float) -> StoreState:
    return StoreState(0, 0, 0, rows, 0, {}, at)


def test_a_load_keeps_to_the_cap_on_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """CAPACITY_MAX_STARTS caps the load of `capacity levers` as it does a launch, and is named when it ends it."""
    caps: list[int | None] = []

    async def measure(*_: object, most: int | None, **__: Any) -> Taken:
        caps.append(most)
        return Taken(None, most or 0, "1.0")

    monkeypatch.setattr(points, "measure", measure)
    monkeypatch.setattr(store, "read_state", lambda _: None)
    monkeypatch.setattr(pressure, "_sizes", lambda _: ())
    for cap, made in (("10", [10]), ("0", [])):
        caps.clear()
        monkeypatch.setenv("CAPACITY_MAX_STARTS", cap)
        with pytest.raises(GuardRefusalError, match=f"CAPACITY_MAX_STARTS={cap}"):
            pressure.press(TARGET, CLUSTER, 4, 1.0)
        assert caps == made


def test_a_load_that_ends_early_says_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, or with its database or server gone, it still tells what stays on the cluster, by its prefix."""

    async def measure(*_: object, prefix: str, starts: Starts, **__: Any) -> Taken:
        prefixes.append(prefix)
        starts.made = 300
        if len(prefixes) == 3:
            raise ClusterError("no server answers any more")
        if len(prefixes) == 4:
            raise OSError(24, "Too many open files")
        return Taken(POINT, 300, "1.0")

    def gone(*_: object) -> None:
        raise ClusterError("PostgreSQL: connection refused")

    prefixes: list[str] = []
    left: list[tuple[int, str]] = []
    monkeypatch.setattr(points, "measure", measure)
    monkeypatch.setattr(store, "read_state", lambda _: counted(0, 0.0))
    monkeypatch.setattr(pressure, "_sizes", lambda _: ())
    monkeypatch.setattr(store, "wait_for_rows", gone)
    endings = [(KeyboardInterrupt, lambda: True), *((error, lambda: False) for error in (*[ClusterError] * 2, OSError))]
    for error, stop in endings:
        with pytest.raises(error):
            pressure.press(TARGET, CLUSTER, 4, 1.0, stop=stop, ended_early=lambda *told: left.append(told))
    assert left == [(300, prefix) for prefix in prefixes]
    assert len(set(prefixes)) == 4


def test_a_load_that_is_only_read_is_rated_over_the_time_between_its_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 rows between two looks 4 s apart are 125 starts/s, however long the looks themselves took."""
    looks = iter([counted(1000, 10.0), counted(1500, 14.0)])
    monkeypatch.setattr(store, "read_state", lambda _: next(looks))
    monkeypatch.setattr(pressure, "_sizes", lambda _: ())
    monkeypatch.setattr(store, "storage_between", lambda *_: Storage(main=1, visibility=1, starts=500))
    found, _, started = pressure.press(TARGET, CLUSTER, None, 0.2)
    assert (found.throughput, found.seconds, started) == (125.0, 4.0, 0)
    assert found.in_flight is None, "no metrics page has said how long a start takes"


def test_a_database_that_refuses_is_one_line() -> None:
    """A PostgreSQL that is away, full or restarting ends a measurement with its reason and no traceback."""
    pytest.importorskip("psycopg")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dsn = f"host=127.0.0.1 port={free.getsockname()[1]} dbname=postgres"
    with pytest.raises(ClusterError, match=r"^PostgreSQL: .*refused") as refused:
        store.read_state(dsn)
    assert "\n" not in str(refused.value)
