"""A dev server of a test's own and launchers of a fleet on it, as processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

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
