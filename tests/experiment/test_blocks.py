"""Comparisons of real settings on real servers, and what a setting's words mean."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from capacity.cluster.devserver import DevServer
from capacity.cluster.state import ClusterState
from capacity.cluster.target import Target
from capacity.errors import ClusterError, GuardRefusalError, UsageError
from capacity.experiment import blocks as module
from capacity.experiment import launched, points
from capacity.experiment.blocks import Block, Comparing, orders
from capacity.experiment.local import LocalCluster
from capacity.experiment.setting import setting_of
from capacity.experiment.subject import subject
from capacity.experiment.wanted import Wanted
from capacity.launcher.progress import Progress
from capacity.model.measurement import Flag
from capacity.observe.history import runs_folder
from capacity.observe.run import Run
from capacity.observe.session import launch
from capacity.verdict.comparison import compare
from tests.verdict.recorded import recorded


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Journals and clusters go to a folder of the test's own."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2x", (4, None, {})),
        ("64", (64, None, {})),
        ("9999", (512, None, {})),
        ("auto", (None, None, {})),
        ("rate=300", (None, 300.0, {})),
        ("shards=8", (8, None, {"shards": "8"})),
        ("history.shardIOConcurrency=4", (8, None, {"history.shardIOConcurrency": "4"})),
        ("16, max-conns=5,shards=2", (16, None, {"max-conns": "5", "shards": "2"})),
    ],
)
def test_a_setting(text: str, expected: tuple[int | None, float | None, dict[str, str]]) -> None:
    """Words say how many are in flight on 2 CPUs, a rate, or keys of the server, together or alone."""
    found = setting_of(text, cpus=2)
    assert (found.parallelism, found.rate, dict(found.keys)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4x", (8, None, 1)),
        ("processes=2", (8, None, 2)),
        ("2 processes", (8, None, 2)),
        ("1 process", (8, None, 1)),
        ("64, processes: 3", (64, None, 3)),
        ("rate=300,processes=2", (None, 300.0, 2)),
        ("2x,2 processes,shards=8", (4, None, 2)),
    ],
)
def test_a_setting_of_several_processes(text: str, expected: tuple[int | None, float | None, int]) -> None:
    """How many launcher processes share it is said beside what they have in flight; one by default."""
    found = setting_of(text, cpus=2)
    assert (found.parallelism, found.rate, found.processes) == expected
    assert found.name == text


def test_both_sides_are_as_named_whatever_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM, which is for launches, does not make both sides of a comparison one."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "7")
    assert [setting_of(text, cpus=2).parallelism for text in ("2x", "4x")] == [4, 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("processes=0", "processes is '0'; allowed: processes=1 to 64"),
        ("processes=65", "processes is '65'"),
        ("processes=", "processes is ''"),
        ("two processes", "processes is 'two'"),
        ("2 processes,processes=3", "says twice how many processes"),
        ("0x", "the multiplier is 0"),
        ("fast", "setting is 'fast'; allowed: 2x, 64, auto, rate=300"),
        ("", "setting is ''"),
        ("rate=fast", "the rate is no number"),
        ("rate=0", "rate is 0"),
        ("rate=nan", "rate is nan"),
        ("2x,4x", "says twice how many are in flight"),
        ("shards=many", "shards is 'many'"),
        ("colour=blue", "colour is no key of a server"),
        ("a.b=", "allowed"),
        ("a.b=1,a.b=2", "has a.b twice"),
    ],
)
def test_what_is_no_setting(text: str, words: str) -> None:
    """A setting that is none is refused by what it says, in one line."""
    with pytest.raises(UsageError) as refused:
        setting_of(text, cpus=2)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "wanted", "words"),
    [
        ("shards=8", Wanted([1]), "only with the store postgres"),
        ("frontend.rps=9", Wanted([1], store=None, target=Target("127.0.0.1:1")), "is not restarted with other keys"),
    ],
)
def test_keys_that_do_not_fit_the_cluster(text: str, wanted: Wanted, words: str) -> None:
    """Keys of a server are for a server that is ours to restart; a notebook says so, too, and so names no option."""
    with pytest.raises(UsageError, match=words) as refused:
        Comparing(wanted, setting_of("2x"), setting_of(text), 2)
    assert "--" not in str(refused.value)


@pytest.mark.parametrize("count", [0, 1, 201])
def test_a_number_of_blocks_out_of_range(count: int) -> None:
    """One block has no interval and 201 are more than anybody waits for."""
    with pytest.raises(UsageError, match=f"blocks is {count}; allowed: 2 to 200"):
        Comparing(Wanted([1]), setting_of("2x"), setting_of("4x"), count)


@pytest.mark.stack
def test_the_p99_of_64x_on_postgres(stack: ClusterState) -> None:
    """With 128 in flight in place of 4 the p99 is surely more than 3 times as long; the interval says so."""
    wanted = Wanted([1], seconds=1, seed=1, store=None, target=Target(stack.address), cluster_cores=2)
    told: list[Block] = []
    baseline, candidate = setting_of("2x", cpus=2), setting_of("64x", cpus=2)
    found = Comparing(wanted, baseline, candidate, 3, on_block=told.append).run()
    judged = compare(found.blocks, baseline.name, candidate.name)
    assert found.blocks == tuple(told)
    assert [block.baseline_first for block in found.blocks] == list(orders(3, 1))
    assert {block.candidate.parallelism for block in found.blocks} == {128}
    assert judged.p99.interval is not None
    assert judged.p99.value > 3, judged.verdict
    assert judged.p99.is_more
    assert judged.throughput.interval is not None
    assert found.left > 0


@pytest.mark.devserver
def test_auto_and_a_rate_on_an_existing_server(devserver: DevServer) -> None:
    """An open loop gives the rate that is due, auto a number in flight of its own, and what is left is told."""
    wanted = Wanted([1], seconds=2, store=None, target=Target(devserver.address))
    found = Comparing(wanted, setting_of("rate=25"), setting_of("auto"), 2).run()
    for block in found.blocks:
        assert block.baseline.flag is None
        assert block.baseline.throughput < 40  # what a stall before the span held up is still due in it
        assert 1 <= block.candidate.parallelism < 128
        assert block.candidate.throughput > block.baseline.throughput
    assert found.left > sum(block.baseline.starts + block.candidate.starts for block in found.blocks)


def test_a_launchs_span() -> None:
    """Of a whole launch the starts of its span count for throughput, all its starts for latency."""
    run, span = recorded(7, 300, p99=0.02), launched.Measured(5.0, 1500, 6.8)
    point = launched.point_of(run, span, 7, (0.9, 0.6))
    assert (point.seconds, point.starts, point.throughput, point.p99) == (5, 1500, 300, 0.02)
    assert (point.server_cpu, point.database_cpu, point.flag) == (0.003, 0.002, None)
    busy = run.model_copy(update={"cpu_seconds": 13.0})
    assert launched.point_of(busy, span, 7).flag is Flag.LAUNCHER_BOUND
    assert launched.point_of(busy.model_copy(update={"processes": 3}), span, 7).flag is None
    assert launched.point_of(run, span, 7, rps_limit=400.0).flag is None
    burst = launched.point_of(run, span, 7, rps_limit=200.0)  # 300/s of what lets 200/s through: for a while
    assert (burst.flag, burst.throttle_cause) == (Flag.THROTTLED, points.IN_BURST)
    with pytest.raises(ClusterError, match=r"no start was answered within 1 s; take more seconds a run, or look"):
        launched.point_of(run, launched.Measured(1.0, 0, 0.0), 7)


@pytest.mark.usefixtures("state_folder")
def test_a_burst_is_no_part_of_a_whole_launchs_span() -> None:
    """400/s until the burst is spent at 6 s, then the cap of 300/s: the cap is what is measured, as by one process."""

    async def one(*_: Any, on_progress: Callable[[Progress], None], stop: asyncio.Event, **options: Any) -> Run:
        for tick in range(1, 600):
            elapsed = tick / 10
            started = round(400 * min(elapsed, 6) + 300 * max(0.0, elapsed - 6))
            on_progress(progress(started=started, elapsed=elapsed, throttled=10 * (elapsed >= 6)))
            if stop.is_set():
                break
        return recorded(round(elapsed), 300, throttled_attempts=10, throttle_cause="RPS_LIMIT")

    taken = asyncio.run(launched.measure(Target("127.0.0.1:1"), setting_of("4,processes=2"), 5, prefix="b", one=one))
    assert taken.point is not None
    assert (taken.point.throughput, taken.point.seconds) == (pytest.approx(300), pytest.approx(5))
    assert taken.point.flag is Flag.THROTTLED


def progress(*, started: int, elapsed: float, throttled: int) -> Progress:
    """A running batch of two processes."""
    rest = {"already_running": 0, "already_finished": 0, "failed": 0, "in_flight": 4, "limit": 4}
    return Progress(
        "launching", 10**6, started, **rest, starts_per_second=0, p50=0, p99=0, elapsed=elapsed, throttled=throttled
    )


@pytest.mark.devserver
def test_a_point_by_a_whole_launch(devserver: DevServer, state_folder: str) -> None:
    """With processes each run is a launch as `capacity launch` makes it, told how many; no record is left of it."""
    told: list[int] = []

    async def one(*words: Any, processes: int, **options: Any) -> Run:
        told.append(processes)
        return await launch(*words, **options)

    setting = setting_of("4,processes=3")
    target = Target(devserver.address)
    taken = asyncio.run(launched.measure(target, setting, 2, prefix=f"whole{time.time_ns()}", one=one))
    assert told == [3]
    assert taken.point is not None
    assert (taken.point.parallelism, taken.point.flag) == (4, None)
    assert taken.point.throughput == pytest.approx(taken.point.starts / taken.point.seconds)
    assert taken.point.seconds >= 2
    assert not list(runs_folder().glob("*.json"))


def watched(seen: list[LocalCluster]) -> Any:
    """Return what starts clusters for a comparison and notes them."""

    @contextlib.contextmanager
    def started(wanted: Wanted, say: object) -> Iterator[tuple[Target, LocalCluster]]:
        with subject(wanted, lambda _: None) as (target, cluster):
            seen.append(cluster)
            yield target, cluster

    return started


@pytest.mark.devserver
def test_keys_of_the_server_get_a_fresh_cluster_for_each_run(devserver: DevServer) -> None:
    """Each run has a server of its own, started with its keys: a cap of 20/s shows, and is named."""
    seen: list[LocalCluster] = []
    sides = setting_of("4"), setting_of("4,frontend.namespaceRPS=20")
    found = Comparing(Wanted([1], seconds=1, seed=2), *sides, 2, cluster=watched(seen)).run()
    judged = compare(found.blocks, sides[0].name, sides[1].name)
    assert len(seen) == 4
    limits = [cluster.dynamic_config.get("frontend.namespaceRPS", "") for cluster in seen]
    assert sorted(limits) == ["1000000", "1000000", "20", "20"]
    assert all(block.candidate.throughput < 25 for block in found.blocks)
    assert any("RPS_LIMIT" in note for note in judged.notes)


@pytest.mark.devserver
def test_a_server_of_our_own_is_renewed_before_it_has_filled(
    devserver: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a server holds many workflows the next block is on a new one: both halves of a block share one."""
    monkeypatch.setattr(module, "FULL", 50)
    seen: list[LocalCluster] = []
    found = Comparing(Wanted([1], seconds=1), setting_of("2"), setting_of("4"), 2, cluster=watched(seen)).run()
    assert len(seen) == len(found.blocks) == 2
    for block in found.blocks:
        halves = (block.baseline, block.candidate)
        first, second = halves if block.baseline_first else halves[::-1]
        assert second.open_workflows >= first.open_workflows + first.starts


@pytest.mark.devserver
def test_what_ends_early_keeps_whole_blocks(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop keeps whole blocks; a cap on starts is told as the reason."""
    existing = Wanted([1], seconds=1, store=None, target=Target(devserver.address))
    told: list[Block] = []
    sides = setting_of("1"), setting_of("2")
    found = Comparing(existing, *sides, 9, on_block=told.append, stop=lambda: len(told) == 2).run()
    assert (found.stopped, found.error, len(found.blocks)) == (True, None, 2)

    def cap(block: Block) -> None:
        monkeypatch.setenv("CAPACITY_MAX_STARTS", str(block.candidate.starts + block.baseline.starts))

    found = Comparing(existing, *sides, 9, on_block=cap).run()
    assert isinstance(found.error, GuardRefusalError)
    assert len(found.blocks) == 1
