"""Real servers that reconnect, hang, die and come back in mid-batch."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from real_server import HASTY, runs_by_id

from capacity.cluster import devserver as embedded
from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.launcher.batch import HeightRange
from capacity.launcher.progress import Progress
from capacity.observe.run import Run
from capacity.observe.session import launch
from tests.conftest import LIMITS

pytestmark = pytest.mark.devserver


@pytest.fixture
def own_server(request: pytest.FixtureRequest, tmp_path: Path, devserver: DevServer) -> Iterator[DevServer]:
    """A server of the test's own, with a file store; a parameter is further dynamic configuration."""
    config = LIMITS | getattr(request, "param", {})
    with embedded.running(dynamic_config=config, database=tmp_path / "temporal.db") as server:
        yield server


def with_trouble(
    batch: HeightRange, server: DevServer, trouble: Callable[[], Awaitable[None]], **options: object
) -> Run:
    """Launch a batch and make trouble once a quarter of it is started."""

    async def run() -> Run:
        quarter = asyncio.Event()

        def watch(progress: Progress) -> None:
            if progress.done > batch.count / 4:
                quarter.set()

        async def later() -> None:
            await quarter.wait()
            await trouble()

        task = asyncio.create_task(later())
        arguments = {"parallelism": 8, "policy": HASTY} | options
        result = await launch(batch, Target(server.address), on_progress=watch, **arguments)  # type: ignore[arg-type]
        await task
        return result

    return asyncio.run(asyncio.wait_for(run(), 120))


@pytest.mark.parametrize("own_server", [{"frontend.keepAliveMaxConnectionAge": "2s"}], indirect=True)
def test_reconnects_cost_no_start(own_server: DevServer) -> None:
    """A frontend that ends every connection after 2 s is launched at over four of them without a repeated attempt."""
    port = int(own_server.address.rpartition(":")[2])
    process, connections, stop = psutil.Process(), set(), asyncio.Event()

    def look(progress: Progress) -> None:
        for found in process.net_connections("tcp"):
            if found.raddr and found.raddr.port == port and found.status == psutil.CONN_ESTABLISHED:
                connections.add(found.laddr.port)
        if len(connections) > 4:
            stop.set()

    batch = HeightRange(100_000, "reconnect")
    run = asyncio.run(launch(batch, Target(own_server.address), parallelism=3, on_progress=look, stop=stop))
    assert len(connections) > 4
    assert (run.failed, run.retries) == (0, {})
    assert run.attempts == run.scheduled == run.count - run.not_attempted > 0


def test_a_server_that_hangs_for_a_while_loses_nothing(own_server: DevServer) -> None:
    """A server stopped in mid-batch and continued is waited for: every item is started, each exactly once."""

    async def hang() -> None:
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(4)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)

    batch = HeightRange(240, "hang")
    run = with_trouble(batch, own_server, hang)
    assert run.retries.get("DEADLINE_EXCEEDED", 0) > 0
    assert (run.scheduled, run.failed, run.not_attempted, run.verified) == (240, 0, 0, 240)
    held = runs_by_id(own_server.address, batch.id_prefix, 240)
    assert (len(held), set(held.values())) == (240, {1})


def test_a_server_killed_and_restarted_loses_nothing(own_server: DevServer) -> None:
    """A server killed in mid-batch that comes back with its store is waited for: exactly N runs, each id once."""
    port = int(own_server.address.rpartition(":")[2])
    again: list[DevServer] = []

    async def crash() -> None:
        embedded_process = psutil.Process(own_server.pid)
        embedded_process.kill()
        await asyncio.to_thread(embedded_process.wait)
        assert own_server.database is not None
        again.append(await asyncio.to_thread(embedded.start, port, dynamic_config=LIMITS, database=own_server.database))

    batch = HeightRange(240, "crash")
    try:
        run = with_trouble(batch, own_server, crash)
        assert run.retries.get("UNAVAILABLE", 0) > 0
        assert (run.scheduled, run.failed, run.not_attempted, run.verified) == (240, 0, 0, 240)
        held = runs_by_id(own_server.address, batch.id_prefix, 240)
        assert (len(held), set(held.values())) == (240, {1})
    finally:
        for server in again:
            embedded.stop(server)


def test_a_server_that_is_not_there_is_one_line_before_anything_is_made(state_folder: str) -> None:
    """Where nobody listens the launch ends in one line and leaves no journal."""
    with pytest.raises(ClusterError, match=r"no server listens at 127\.0\.0\.1:1; start one"):
        asyncio.run(launch(HeightRange(5), Target("127.0.0.1:1")))
    assert not list(Path(state_folder).rglob("*.journal"))


def test_a_namespace_that_is_not_there_is_one_line(devserver: DevServer) -> None:
    """A missing namespace is named, with the command that creates it."""
    with pytest.raises(ClusterError, match=r"namespace 'nowhere' does not exist .*namespace create -n nowhere"):
        asyncio.run(launch(HeightRange(5), Target(devserver.address, "nowhere")))


def test_http_ports_are_told_from_grpc(devserver: DevServer) -> None:
    """The server's metrics port is not mistaken for a frontend."""
    address = devserver.metrics_url.removeprefix("http://").partition("/")[0]
    with pytest.raises(ClusterError, match=f"{address} answers, but speaks HTTP/1"):
        asyncio.run(launch(HeightRange(5), Target(address)))
