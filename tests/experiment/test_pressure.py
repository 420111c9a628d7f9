"""What a load meets: what ends it early is told, whatever it is."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from capacity.cluster.target import Target
from capacity.errors import ClusterError, GuardRefusalError
from capacity.experiment import points, pressure, store
from capacity.experiment.local import LocalCluster
from capacity.experiment.points import Taken

TARGET = Target("127.0.0.1:1")
CLUSTER = LocalCluster(TARGET.address, "postgres", postgres="host=127.0.0.1 port=1 dbname=postgres connect_timeout=1")


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


def test_a_database_that_refuses_is_one_line() -> None:
    """A PostgreSQL that is away, full or restarting ends a measurement with its reason and no traceback."""
    pytest.importorskip("psycopg")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dsn = f"host=127.0.0.1 port={free.getsockname()[1]} dbname=postgres"
    with pytest.raises(ClusterError, match=r"^PostgreSQL: .*refused") as refused:
        store.read_state(dsn)
    assert "\n" not in str(refused.value)
