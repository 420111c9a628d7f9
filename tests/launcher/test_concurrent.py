"""Many launches at once, in one process and in many: exact counts, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from real_server import HASTY, launched, runs_by_id

from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import JournalError
from capacity.launcher.batch import HeightRange
from capacity.observe.run import Run
from capacity.observe.session import Journaling, launch

pytestmark = pytest.mark.devserver
EACH = 60


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_eight_batches_in_one_process_leave_nothing_behind(devserver: DevServer) -> None:
    """Eight batches at once are each complete; then tasks, threads and file descriptors are back where they were."""
    name = f"p{uuid.uuid4().hex[:8]}"

    async def one(number: int) -> Run:
        batch = HeightRange(EACH, f"{name}-{number}")
        return await launch(batch, Target(devserver.address), parallelism=4, policy=HASTY)

    async def eight() -> list[Run]:
        before = asyncio.all_tasks()
        runs = await asyncio.gather(*(one(number) for number in range(8)))
        assert asyncio.all_tasks() == before
        return runs

    launched(HeightRange(1, f"{name}-warm"), devserver.address)  # grpc's own threads and pollers live for good
    gc.collect()
    threads, files = set(threading.enumerate()), descriptors()
    runs = asyncio.run(eight())
    gc.collect()
    assert set(threading.enumerate()) == threads
    assert descriptors() <= files
    assert [(run.scheduled, run.verified) for run in runs] == [(EACH, EACH)] * 8
    assert len({run.run_id for run in runs}) == 8
    held = runs_by_id(devserver.address, f"{name}-", 8 * EACH + 1)
    assert (len(held), set(held.values())) == (8 * EACH + 1, {1})


def test_launches_that_end_badly_leave_nothing_behind(devserver: DevServer, tmp_path: Path) -> None:
    """A launch that is refused, stopped at once or cancelled gives back its threads, tasks and file descriptors."""
    path = tmp_path / "j"
    path.write_text("taken")

    async def badly() -> None:
        before = asyncio.all_tasks()
        with pytest.raises(JournalError):
            await launch(HeightRange(5, "bad"), Target(devserver.address), journaling=Journaling(path))
        abort = asyncio.Event()
        abort.set()
        run = await launch(HeightRange(5000, "bad"), Target(devserver.address), abort=abort)
        assert run.not_attempted > 0
        started = asyncio.Event()
        task = asyncio.create_task(
            launch(HeightRange(50_000, "bad"), Target(devserver.address), on_progress=lambda _: started.set())
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before

    launched(HeightRange(1, f"w{uuid.uuid4().hex[:8]}"), devserver.address)
    gc.collect()
    threads, files = set(threading.enumerate()), descriptors()
    asyncio.run(badly())
    gc.collect()
    assert set(threading.enumerate()) == threads
    assert descriptors() <= files


def test_eight_processes_on_overlapping_ranges_start_each_id_once(devserver: DevServer) -> None:
    """Eight processes that launch the same range share it: what one starts is already running for the others."""
    name = f"m{uuid.uuid4().hex[:8]}"
    options = ["--count", "100", "--chain-id", name, "--parallelism", "4", "--json", "--address", devserver.address]
    command = [sys.executable, "-c", "from capacity.cli import main; main()", "launch", *options]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(8)
    ]
    runs = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sum(run["scheduled"] for run in runs) == 100
    assert [run["scheduled"] + run["already_running"] for run in runs] == [100] * 8
    held = runs_by_id(devserver.address, f"{name}:", 100)
    assert (len(held), set(held.values())) == (100, {1})
