"""A dev server of a test's own and launchers of a fleet on it, as processes that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from real_server import wait_for
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

from capacity.cluster.target import Target
from capacity.errors import UsageError
from capacity.fleet import Fleet
from capacity.fleet.conductor import RUNNING, describe
from capacity.fleet.looking import connected, find

MEMBER = "capacity.fleet.member"


@dataclass
class Worker:
    """`capacity fleet worker` in a process, and what it said."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def launchers(self) -> list[psutil.Process]:
        """Its launcher processes."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if MEMBER in child.cmdline():
                    found.append(child)
        return found

    def kill(self) -> None:
        """SIGKILL for the whole worker, launchers and all."""
        for process in [*self.launchers(), psutil.Process(self.process.pid)]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def wait_ready(self, count: int, seconds: float = 90.0) -> None:
        """Wait until so many launchers are ready."""
        deadline = time.monotonic() + seconds
        while sum("is ready" in line for line in self.lines) < count:
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.05)


@contextlib.contextmanager
def worker(address: str, processes: int = 1, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Worker]:
    """Run `capacity fleet worker` while the block lasts; `prefix` is a command to run it under."""
    command = [*prefix, sys.executable, "-m", "capacity", "fleet", "worker", "--address", address]
    command += ["--processes", str(processes), *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    running = Worker(process)
    assert process.stderr is not None
    reading = threading.Thread(target=lambda: running.lines.extend(process.stderr), daemon=True)  # type: ignore[arg-type]
    reading.start()
    try:
        yield running
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            running.kill()
        reading.join(5)
        process.stderr.close()


def _seconds(moment: Timestamp) -> float:
    """Return a time [s since the epoch]; 0 of one that is not set."""
    return moment.ToMicroseconds() / 1e6


class Waits:
    """How long the ranges under way waited for their next sign of life: a heartbeat, or another launcher."""

    def __init__(self, address: str, fleet: Fleet) -> None:
        self._address, self._fleet = address, fleet
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()))
        self.longest = 0.0
        self.looks = 0

    def __enter__(self) -> Waits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _watch(self) -> None:
        client = await connected(Target(self._address), self._fleet)
        handle = None
        while not self._over.is_set():
            await asyncio.sleep(0.3)
            if handle is None:
                with contextlib.suppress(UsageError):
                    handle = await find(client, None)
            elif found := await describe(client, handle.id):
                if found.workflow_execution_info.status != RUNNING:
                    handle = None
                    continue
                now = time.time()
                for one in found.pending_activities:
                    if one.attempt > 1 or one.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
                        sign = max(_seconds(one.last_heartbeat_time), _seconds(one.last_started_time))
                        # Of one lost before its first heartbeat the server tells only when it counted as lost.
                        sign = sign or _seconds(one.last_attempt_complete_time) or now
                        self.longest = max(self.longest, now - sign)
                        self.looks += 1


def capacity(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "capacity", *words], capture_output=True, text=True)


def register(address: str, namespace: str) -> None:
    """Make a namespace; the server takes some seconds to know it everywhere."""

    async def make() -> None:
        client = await connected(Target(address), Fleet())
        day = Duration(seconds=86400)
        request = RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=day)
        await client.workflow_service.register_namespace(request)

    asyncio.run(make())
    wait_for(
        lambda: capacity("fleet", "status", "--address", address, "--fleet-namespace", namespace).returncode == 2, 90
    )
