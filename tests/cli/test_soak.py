"""`capacity soak` as a user runs it, and leaks put into a launcher on a real server."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from typing import Any

import pytest

from capacity.cli.soak import report
from capacity.cluster.devserver import DevServer
from capacity.cluster.target import Target
from capacity.errors import CapacityError
from capacity.experiment.soaking import Plan, Reading, Soaking
from capacity.experiment.wanted import Wanted
from capacity.observe.run import Run
from capacity.observe.session import launch
from capacity.verdict.soak import SHORTEST, WARM_UP, Growth, judge

from .conftest import Command

KEPT = 16_384
"""Bytes a leaky launcher keeps of each start."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--minutes", "0"), "minutes is 0; allowed: above 0, up to a week"),
        (("--minutes", "nan"), "minutes is nan"),
        (("--concurrent", "0"), "concurrent is 0; allowed: 1 to 64"),
        (("--batch", "0"), "batch is 0"),
        (("--parallelism", "many"), "parallelism is 'many'"),
        (("--memory-limit", "-1"), "memory-limit is -1"),
        (("--memory-limit", "0"), "memory-limit is 0; allowed: above 0"),
        (("--count-limit", "0"), "count-limit is 0; allowed: above 0"),
        (("--address", "127.0.0.1:1", "--store", "sqlite"), "exclude each other"),
        (("--address", "temporal.prod.example:7233"), "--allow-target"),
        (("--out", "/nowhere/at/all.json"), "--out /nowhere/at/all.json cannot be written"),
    ],
)
def test_misuse_is_one_line(in_process: Command, words: tuple[str, ...], expected: str) -> None:
    """What is wrong with a request is said before anything is launched, with exit code 2."""
    done = in_process("soak", *words)
    assert done.code == 2
    assert expected in done.error
    assert done.out == ""


@pytest.mark.devserver
def test_a_short_soak_says_that_it_is_too_short(capacity: Command, devserver: DevServer) -> None:
    """A few seconds tell nothing, and the exit code is 0: not found to leak is not a failure."""
    done = capacity("soak", "--minutes", "0.1", "--batch", "5", "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["summary"].startswith("No leak found, but too short to tell of launcher memory")
    assert found["failed"] == 0
    assert found["starts"] == len(found["readings"]) * 45


@pytest.mark.devserver
def test_a_cap_on_starts_ends_a_soak(capacity: Command, devserver: DevServer) -> None:
    """CAPACITY_MAX_STARTS holds for a whole soak; what was read before is judged."""
    done = capacity("soak", "--minutes", "1", "--batch", "5", CAPACITY_MAX_STARTS="100")
    assert done.code == 1
    assert "which are judged" in done.error
    assert "CAPACITY_MAX_STARTS" in done.error
    assert "90 starts" in " ".join(done.out.split())


def judged_over(told: list[Reading]) -> float:
    """Return the seconds from the first reading after the warm-up to the last."""
    begin = told[0].at + WARM_UP * (told[-1].at - told[0].at)
    return told[-1].at - next(reading.at for reading in told if reading.at >= begin)


def soaked(one: Any, address: str) -> Growth:
    """What half a minute of a launcher says of its memory; half of `KEPT` a start is allowed."""
    told: list[Reading] = []
    soaking = Soaking(
        Wanted([1], store=None, target=Target(address), cluster_cores=1, extras=False),
        Plan(minutes=5, batch=25),
        on_reading=told.append,
        stop=lambda: len(told) >= 14 and judged_over(told) > SHORTEST + 2,
        one=one,
    )
    found = soaking.run()
    assert found.error is None
    last = found.readings[-1]
    limit = 0.5 * KEPT * last.starts / last.at * 3600 / 2**20
    return next(each for each in judge(found.readings, memory_limit=limit).growths if each.name == "launcher memory")


@pytest.mark.peer
@pytest.mark.usefixtures("state_folder")
def test_a_leak_is_found_and_none_where_there_is_none(stub: Callable[..., tuple[str, int]]) -> None:
    """A launcher that keeps 16 kB of each start leaks, as much as it keeps; the same without it does not.

    On the stub, which gives 200 starts a second on any machine: it is the launcher that is looked at.
    """
    address, _ = stub("-service", "5ms", "-servers", "1")
    kept: list[mmap.mmap] = []

    async def leaky(*words: Any, **options: Any) -> Run:
        run = await launch(*words, **options)
        kept.append(mmap.mmap(-1, KEPT * run.scheduled))  # pages of its own: freed ones of other tests are not used
        kept[-1].write(b"x" * len(kept[-1]))
        return run

    sound, found = soaked(launch, address), soaked(leaky, address)
    kept.clear()
    assert sound.verdict == "none", sound
    assert found.verdict == "leak", found
    assert found.per_start == pytest.approx(KEPT, rel=0.4)


@pytest.mark.devserver
def test_a_batch_that_ends_early_ends_the_soak(devserver: DevServer, state_folder: str) -> None:
    """Eight batches that fail at once are one error, in one line, with the rounds before kept."""
    launched = 0

    async def failing(*words: Any, **options: Any) -> Run:
        nonlocal launched
        launched += 1
        if launched > 10:
            raise CapacityError("the disk is full")
        return await launch(*words, **options)

    wanted = Wanted([1], store=None, target=Target(devserver.address), extras=False)
    found = Soaking(wanted, Plan(minutes=1, batch=3), one=failing).run()
    assert str(found.error) == "the disk is full"
    assert len(found.readings) == 1
    assert found.left == 27 + 3


def test_the_widest_report_fits_80_columns() -> None:
    """Gigabytes and millions of starts stay within the terminal."""
    readings = [
        Reading(
            at=360.0 * i, starts=10**6 * i, failed=7 * i, rss=10**9 + 10**8 * i, tasks=100 * i, threads=9 + i,
            descriptors=1000 * i, server_rss=10**10 + 10**9 * i,
        )
        for i in range(40)
    ]  # fmt: skip
    lines = report(judge(readings))
    assert max(map(len, lines)) <= 80, lines
