"""Levers: the arithmetic on recorded pressure, and a fresh stack whose indexes are dropped by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from capacity.cli.levers import report
from capacity.cluster import stack as real
from capacity.cluster.settings import Settings
from capacity.cluster.state import ClusterState
from capacity.cluster.target import Target
from capacity.cluster.temporal_server import VISIBILITY
from capacity.experiment import local, store
from capacity.experiment.pressure import STOCK_QUERIES, Index, Pressure, press
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.measurement import StatementShare, Storage
from capacity.verdict.confirmation import confirmation
from capacity.verdict.levers import DOUBT, Lever, Levers, levers, measured_here, saved_cpu, visibility_insert

INSERT = StatementShare(
    query="INSERT INTO executions_visibility (namespace_id) VALUES ($1)",
    calls_per_start=1.0,
    seconds_per_start=0.9e-3,
    share=0.7,
)


def pressure(unused: int = 68, **changed: Any) -> Pressure:
    """The stack of temporal-facts.md: 74 visibility indexes, 0.9 ms for its INSERT, 3 ms of database CPU a start."""
    stock = [Index("public", name, 10**6, 300.0, 0, False) for name in sorted(STOCK_QUERIES)]
    key = Index("public", "executions_visibility_pkey", 10**6, 300.0, 4, True)
    others = [Index("public", f"by_keyword_{i:02}", 10**6, 290.0, 0, False) for i in range(unused)]
    values: dict[str, Any] = {
        "starts": 2000, "seconds": 6.0, "throughput": 330.0, "in_flight": 8.0, "server_cpu": 2.5e-3,
        "database_cpu": 3.0e-3, "launcher_cpu": 0.3e-3, "shard_wait": 0.2e-3,
        "storage": Storage(main=3300, visibility=21_800, starts=2000, visibility_indexes=74, statements=(INSERT,)),
        "indexes": (*others, key, *stock), "pools": {"history main": (12, 40)}, "waits": {"LWLock: WALWrite": 0.4},
    }  # fmt: skip
    return Pressure(**(values | changed))


def cluster(**changed: Any) -> Cluster:
    limits = dict.fromkeys(("frontend.rps", "frontend.namespaceRPS", "history.rps", "matching.rps"), 1_000_000)
    limits |= {f"{name}.persistenceMaxQPS": 1_000_000 for name in ("frontend", "history", "matching")}
    values: dict[str, Any] = {"name": "here", "cores": 2, "launcher_shares_cores": True, "shards": 64, "max_conns": 40}
    return Cluster(**(values | changed), limits=limits)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return Calibration.named("postgres")


def lever(found: Levers, key: str) -> Any:
    return next(each for each in found.levers if each.key == key)


def test_pools_that_were_not_told_say_how_long_they_take(calibration: Calibration) -> None:
    """The eight seconds of a usual load seldom have them; what is enough is said without naming an option."""
    words = dict(levers(pressure(pools={}), cluster(), calibration).spent())["pools"]
    assert words == "not measured: a server tells them once a minute, so a load of 62 s has them"


def test_the_indexes_are_the_largest_storage_lever(calibration: Calibration) -> None:
    """Only the unused indexes lessen the bytes of a start, by what they grew; they save less CPU than the INSERT."""
    found = levers(pressure(), cluster(), calibration)
    saving = lever(found, "indexes")
    assert saving.bytes == 68 * 290
    assert saving.bytes == max(each.bytes for each in found.levers)
    assert 0 < saving.cpu < INSERT.seconds_per_start
    assert 0 < saving.gain_low < saving.gain < saving.gain_high
    assert found.levers[0].key == "cores"
    assert found.levers[0].gain > 0.5


def test_levers_are_sorted_by_effect(calibration: Calibration) -> None:
    """The largest gain comes first, and what gains nothing last."""
    gains = [round(each.gain, 3) for each in levers(pressure(), cluster(), calibration).levers]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) == 6


def test_an_unknown_number_in_flight_is_no_one(calibration: Calibration) -> None:
    """Where it was not measured no lever is judged, and why is said; what was measured stands, unused indexes too."""
    found = levers(pressure(in_flight=None), cluster(), calibration)
    assert found.levers == ()
    assert found.summary().startswith("What each change would buy cannot be told: how many starts are in flight")
    assert dict(found.spent())["load"] == "330 starts/s at an unknown number in flight, 2,000 starts"
    assert len(found.statements) == 68
    told = "\n".join(report(found))
    assert "What each change would buy, by the model" not in told
    assert max(map(len, told.splitlines())) <= 80
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_never_may_be_dropped() -> None:
    """A unique index, one that a query used, and those of the server's own lists are not unused."""
    base = Index("public", "by_keyword_01", 8192, 1.0, 0, False)
    assert base.unused
    assert not replace(base, scans=1).unused
    assert not replace(base, unique=True).unused
    assert not any(replace(base, name=name).unused for name in STOCK_QUERIES)
    assert base.drop == 'DROP INDEX CONCURRENTLY IF EXISTS "public"."by_keyword_01";'


def test_without_unused_indexes_there_is_no_such_lever(calibration: Calibration) -> None:
    """After they are dropped nothing is proposed any more."""
    found = levers(pressure(unused=0), cluster(), calibration)
    assert all(each.key != "indexes" for each in found.levers)
    assert found.statements == ()


def test_saved_cpu_is_what_was_measured() -> None:
    """The range reaches what both stacks lost of their database CPU: 10 to 15 % of 3.0 ms, 18 % of 7.7 ms."""
    low, high = (saved_cpu(pressure()) * factor / 3.0e-3 for factor in DOUBT)
    assert low < 0.15
    assert high > 0.10
    (insert,) = (s for s in pressure().storage.statements if "executions_visibility" in s.query)
    longer = Storage(
        main=1, visibility=1, starts=9, statements=[insert.model_copy(update={"seconds_per_start": 1.4e-3})]
    )
    low, high = (saved_cpu(pressure(storage=longer, database_cpu=7.7e-3)) * f / 7.7e-3 for f in DOUBT)
    assert 0.09 < high < 0.18 + 0.09  # half of the 18 % is noise
    assert low < 0.18
    assert saved_cpu(pressure(unused=34)) < saved_cpu(pressure())
    assert saved_cpu(pressure(storage=Storage(main=1, visibility=1, starts=9))) == 0.0


@pytest.mark.parametrize("database_cpu", [None, 30e-3])
def test_no_index_saves_more_than_half_of_the_databases_cpu(
    calibration: Calibration, database_cpu: float | None
) -> None:
    """An INSERT that waits for 20 ms takes no more CPU than a start of the calibration has of the database's."""
    slow = Storage(main=1, visibility=1, starts=9, statements=[INSERT.model_copy(update={"seconds_per_start": 0.02})])
    told = pressure(storage=slow, server_cpu=None, database_cpu=database_cpu)
    found, demands = lever(levers(told, cluster(), calibration), "indexes"), calibration.demands
    assert found.cpu == pytest.approx(0.5 * demands.cpu * demands.database)
    assert found.gain < demands.database


def test_the_cpu_is_that_of_this_machine(calibration: Calibration) -> None:
    """The model's demand is what the load measured here; where nothing was measured it stays the calibration's."""
    here = measured_here(calibration, pressure(server_cpu=4e-3, database_cpu=6e-3))
    assert here.demands.cpu == pytest.approx(10e-3)
    assert here.demands.background == pytest.approx(calibration.demands.background)
    assert measured_here(calibration, pressure(server_cpu=None)) is calibration


@pytest.mark.parametrize(
    ("candidate", "interval", "words"),
    [
        ("8,unused-indexes=dropped", [1.02, 1.1], "confirmed: "),
        ("8,unused-indexes=dropped", [0.9, 0.97], "refuted: "),
        ("8,unused-indexes=dropped", [0.97, 1.1], "not settled: "),
        ("8,unused-indexes=dropped", None, "too few blocks"),
        ("8,shards=8", [1.02, 1.1], ""),
        ("16,unused-indexes=dropped", [1.02, 1.1], ""),
    ],
)
def test_what_a_comparison_says_of_a_lever(candidate: str, interval: list[float] | None, words: str) -> None:
    """A comparison of that lever alone confirms it, refutes it, or leaves it open; another says nothing."""
    told = confirmation(
        Lever("indexes", "without", 0.05, 0.03, 0.07),
        [{"baseline": "8", "candidate": candidate, "throughput_ratio": 1.04, "throughput_interval": interval}],
    )
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("key", "baseline", "candidate", "words"),
    [
        ("shards", "64,shards=64", "64,shards=128", "the model's +5% lies in that"),
        ("shards", "64", "64,shards=128", "the model's +5% lies in that"),
        ("shards", "64", "64,shards=256", "the model's +5% is for 128, not 256"),
        ("shards", "64", "64,shards=4", ""),
        ("shards", "64", "64,shards=256,max-conns=80", ""),
        ("shards", "32", "64,shards=128", ""),
        ("max_conns", "64", "64,max_conns=128", "the model's +5% lies in that"),
        ("launcher_processes", "4x", "4x,processes=2", "the model's +5% is for 128, not 2"),
        ("launcher_processes", "4x,processes=2", "4x", ""),
        ("shards", "64,shards=128", "64", ""),
        ("indexes", "64,unused-indexes=dropped", "64", ""),
        ("shards", "whatever", "64,shards=128", ""),
    ],
)
def test_a_comparison_confirms_only_what_it_compared(key: str, baseline: str, candidate: str, words: str) -> None:
    """Its sides differ in that lever alone, the candidate has more of it; another amount than the model's is told."""
    found = {"baseline": baseline, "candidate": candidate, "throughput_ratio": 1.04, "throughput_interval": [1.02, 1.1]}
    told = confirmation(Lever(key, "x 2", 0.05, 0.03, 0.07, wanted=128), [found])
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("baseline", "ran", "candidate", "also_ran", "words"),
    [
        ("4x", 8, "shards=128", 128, ""),
        ("shards=64", 128, "4x,shards=128", 8, ""),
        ("shards=64", 64, "64,shards=128", 64, "the model's +5% lies in that"),
        ("4x,shards=64", 64, "64,shards=128", 64, "the model's +5% lies in that"),
        ("shards=64", 128, "shards=128", 128, "the model's +5% lies in that"),
        ("auto,shards=64", 7, "shards=128", 7, ""),
    ],
)
def test_what_was_in_flight_is_what_the_runs_had(
    baseline: str, ran: int, candidate: str, also_ran: int, words: str
) -> None:
    """A name that leaves it to --parallelism, or multiplies another machine's CPUs, is held against the runs."""
    found: dict[str, Any] = {"baseline": baseline, "candidate": candidate, "throughput_ratio": 1.04}
    blocks = [{"baseline": {"parallelism": ran}, "candidate": {"parallelism": also_ran}}] * 2
    found |= {"throughput_interval": [1.02, 1.1], "blocks": blocks}
    told = confirmation(Lever("shards", "x 2", 0.05, 0.03, 0.07, wanted=128), [found])
    assert words in told
    assert bool(told) == bool(words)


def test_every_comparison_of_a_lever_is_told() -> None:
    """A second one that says otherwise is not left out."""
    sides = {"baseline": "8", "candidate": "8,unused-indexes=dropped", "throughput_ratio": 1.0}
    found = [sides | {"throughput_interval": [1.02, 1.1]}, sides | {"throughput_interval": [0.9, 0.98]}]
    told = confirmation(Lever("indexes", "without", 0.05, 0.03, 0.07), found)
    assert ("confirmed: " in told, "refuted: " in told) == (True, True)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([1.02, 1.10], "the model's +5% lies in that"),
        ([1.06, 1.12], "does not, but its own interval, [+3, +7], has part of that"),
        ([1.10, 1.20], "is too small: their waits for WAL and locks, which it does not count, went as well"),
        ([1.00, 1.02], "is too large: of an index's time more is waiting here"),
    ],
)
def test_whether_the_model_was_right(interval: list[float], words: str) -> None:
    """The model's estimate is held against the measured interval: inside, or why not."""
    found = {"baseline": "8", "candidate": "8,unused-indexes=dropped", "throughput_ratio": 1.08}
    found |= {"throughput_interval": interval}
    found |= {"cpu_ratio": 0.9, "cpu_interval": [0.88, 0.93]}
    told = confirmation(Lever("indexes", "without", 0.05, 0.03, 0.07), [found])
    assert words in told
    assert "CPU of a start -10% [-12, -7]" in told
    shards = {**found, "candidate": "8,shards=9"}
    assert confirmation(Lever("shards", "x", 0.5, 0.4, 0.6), [shards]).endswith("sweep'")


def test_it_shows_itself(calibration: Calibration) -> None:
    """As JSON without nan, with the statements, and in a notebook as a table."""
    found = levers(pressure(), cluster(), calibration)
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(kept["statements"]) == len(kept["unused_indexes"]) == 68
    assert kept["pressure"]["storage"]["visibility"] == 21_800
    assert "without 68 unused indexes" in found._repr_html_()
    assert "79% of a start's bytes" in found.summary()


@pytest.fixture
def fresh(stack_programs: None, state_folder: str) -> Iterator[ClusterState]:
    """A stack of this test's own: its indexes are dropped."""
    limits = {key: str(value) for key, value in cluster().limits.items()}
    with real.running(Settings(store="postgres", port=0, dynamic_config=limits)) as running:
        yield running


@pytest.mark.stack
def test_a_fresh_stack_before_and_after_its_indexes_are_dropped(fresh: ClusterState, calibration: Calibration) -> None:
    """On a fresh stack the unused visibility indexes are the largest storage lever and a large CPU lever, with figures;
    once dropped by hand with the printed statements a start takes so many bytes less as was said (within a quarter).
    """
    target, here = Target(fresh.address), local.of_state(fresh)
    described = cluster(cores=here.cpu_count or 1, launcher_shares_cores=here.launcher_shares_cpus)
    before, _, made = press(target, here, 8, 6.0)
    found = levers(before, described, calibration)
    saving = lever(found, "indexes")
    total = before.storage.main + before.storage.visibility
    assert made >= before.starts > 100
    assert saving.bytes == max(each.bytes for each in found.levers) > 0.5 * total
    assert saving.cpu > 0.02 * ((before.server_cpu or 0) + (before.database_cpu or 0))
    assert sorted(found.levers, key=lambda each: -each.cpu).index(saving) <= 1
    assert 60 <= len(found.statements) <= 74
    assert fresh.postgres is not None
    with store.connected(fresh.postgres, VISIBILITY) as connection:
        for statement in found.statements:
            connection.execute(statement)
    after, _, _ = press(target, here, 8, 6.0)
    fell = total - (after.storage.main + after.storage.visibility)
    assert fell == pytest.approx(saving.bytes, rel=0.25)
    inserts = [visibility_insert(each.storage.statements) for each in (before, after)]
    if inserts[1] is not None and inserts[0] is not None:  # it may be among the longest no more
        assert inserts[1].seconds_per_start < 0.8 * inserts[0].seconds_per_start
    assert all(each.key != "indexes" for each in levers(after, described, calibration).levers)
    assert {index.name for index in after.indexes} >= STOCK_QUERIES
