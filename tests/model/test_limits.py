"""Ceilings from configuration: their arithmetic, their order, and what raising one of them buys."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.cluster import devserver as embedded
from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.launcher.batch import HeightRange
from capacity.launcher.progress import Progress
from capacity.model.cluster import Cluster
from capacity.model.limits import Ceiling, Demands, binding, ceilings, typical, verdict
from capacity.model.measurement import Measurements
from capacity.observe.session import launch

WHOLE = Demands(
    server_cpu=0.002,
    database_cpu=0.004,
    launcher_cpu=0.001,
    shard_hold=0.01,
    connection_hold=0.005,
    visibility_hold=0.002,
    persistence_requests={"frontend": 0.5, "history": 3.0, "matching": 1.5},
    later_requests={"history": 6.0},
)
RATES = ("frontend.rps", "frontend.namespaceRPS", "history.rps", "matching.rps")
QPS = ("frontend.persistenceMaxQPS", "history.persistenceMaxQPS", "matching.persistenceMaxQPS")


def cluster(**fields: Any) -> Cluster:
    return Cluster.model_validate({"name": "mine", "server_cores": 8, "database_cores": 8, **fields})


def by_key(found: tuple[Ceiling, ...]) -> dict[str, Ceiling]:
    """By key; what only delays does not hide what caps."""
    return {ceiling.key: ceiling for ceiling in sorted(found, key=lambda ceiling: ceiling.caps_starts)}


def clusters() -> st.SearchStrategy[Cluster]:
    few, rate = st.integers(1, 20), st.integers(1, 50_000)
    return st.builds(
        lambda limits, fields: cluster(limits=limits, **fields),
        st.fixed_dictionaries({}, optional=dict.fromkeys((*RATES, *QPS, "frontend.globalRPS"), rate)),
        st.fixed_dictionaries(
            dict.fromkeys(
                (
                    "server_cores",
                    "database_cores",
                    "shards",
                    "max_conns",
                    "frontends",
                    "history_hosts",
                    "matching_hosts",
                    "launcher_processes",
                    "shard_io_concurrency",
                ),
                few,
            )
        ),
    )


def demands() -> st.SearchStrategy[Demands]:
    cost = st.none() | st.floats(1e-6, 0.1)
    requests = st.dictionaries(
        st.sampled_from(["frontend", "history", "matching"]), st.just(0.0) | st.floats(0.001, 10)
    )
    return st.builds(Demands, cost, cost, cost, cost, cost, cost, cost, requests)


def test_each_ceiling_is_the_arithmetic_of_its_key() -> None:
    """Every ceiling of a cluster of several hosts, worked by hand."""
    described = cluster(
        server_cores=10,
        database_cores=6,
        launcher_processes=2,
        shards=16,
        shard_io_concurrency=2,
        max_conns=20,
        visibility_max_conns=10,
        frontends=2,
        history_hosts=3,
        matching_hosts=4,
    )
    assert {key: ceiling.starts_per_second for key, ceiling in by_key(ceilings(described, WHOLE)).items()} == {
        "frontend.rps": 4800,  # 2400 x 2
        "frontend.namespaceRPS": 4800,
        "history.rps": 9000,  # 3000 x 3
        "matching.rps": 4800,  # 1200 x 4
        "frontend.persistenceMaxQPS": 8000,  # 2000 x 2 / 0.5
        "history.persistenceMaxQPS": 9000,  # 9000 x 3 / 3
        "matching.persistenceMaxQPS": 8000,  # 3000 x 4 / 1.5
        "server_cores": pytest.approx(5000),  # 10 / 0.002
        "database_cores": pytest.approx(1500),  # 6 / 0.004
        "launcher_processes": pytest.approx(2000),  # 2 / 0.001
        "shards": pytest.approx(3200),  # 16 x 2 / 0.01
        "max_conns": pytest.approx(12000),  # 20 x 3 / 0.005
        "visibility_max_conns": pytest.approx(15000),  # 10 x 3 / 0.002
    }


def test_shared_cores_serve_server_database_and_a_launcher_that_shares_them() -> None:
    """On shared cores the costs add up; the launcher's only where it runs on them."""
    alone, shared = (Cluster(name="mine", cores=6, launcher_shares_cores=shares) for shares in (False, True))
    assert by_key(ceilings(alone, WHOLE))["cores"].starts_per_second == pytest.approx(1000)  # 6 / 0.006
    assert by_key(ceilings(shared, WHOLE))["cores"].starts_per_second == pytest.approx(6 / 0.007)


def test_the_measured_machine_binds_where_it_was_measured() -> None:
    """The typical ceiling of the 2-core stack is within 10 % of the 325 starts/s measured there."""
    first = binding(ceilings(Cluster.load("postgres-dev")))
    assert first is not None
    assert (first.key, first.starts_per_second) == ("cores", pytest.approx(325, rel=0.1))


def test_a_cluster_wide_limit_takes_the_place_of_the_one_per_host() -> None:
    """With frontend.globalRPS set, more frontends change nothing and frontend.rps is not in force (server 1.32)."""
    found = by_key(ceilings(cluster(frontends=4, limits={"frontend.globalRPS": 3000}), WHOLE))
    assert "frontend.rps" not in found
    assert found["frontend.globalRPS"].starts_per_second == 3000
    assert found["frontend.namespaceRPS"].starts_per_second == 9600


def test_bursts_are_counted_in_starts() -> None:
    """Twice the rate for requests, the ratio for a namespace, on every host; one second of starts for the database."""
    found = by_key(ceilings(cluster(frontends=2, limits={"frontend.namespaceBurstRatio": 3}), WHOLE))
    assert found["frontend.rps"].burst == 9600
    assert found["frontend.namespaceRPS"].burst == 14400
    assert found["history.rps"].burst == 6000
    assert found["history.persistenceMaxQPS"].burst == 3000
    assert found["server_cores"].burst is None


def test_matchings_limits_delay_the_first_task_and_never_bind() -> None:
    """However low matching's limits, a start is answered before they are asked."""
    found = ceilings(cluster(limits={"matching.rps": 1, "matching.persistenceMaxQPS": 1}), WHOLE)
    late = [ceiling for ceiling in found if ceiling.key.startswith("matching.")]
    assert [ceiling.caps_starts for ceiling in late] == [False, False]
    assert all("delays the first task, not the start" in ceiling.reason for ceiling in late)
    first = binding(found)
    assert first is not None
    assert first.rate > 1


def test_what_history_does_after_the_answer_waits_long_before_starts_do() -> None:
    """At 9,000 database requests a second of 3 before and 6 after the answer: 3,000 starts, later work of 1,000."""
    found = {ceiling.name: ceiling for ceiling in ceilings(cluster(), WHOLE)}
    before, after = found["history to store"], found["later work"]
    assert (before.starts_per_second, before.caps_starts) == (3000, True)
    assert (after.starts_per_second, after.caps_starts) == (1000, False)


def test_what_is_not_known_has_no_number_and_stands_last() -> None:
    """Without demands the costs' ceilings are not known from configuration alone; the configured ones are."""
    found = ceilings(cluster(), Demands())
    unknown = [ceiling for ceiling in found if ceiling.starts_per_second is None]
    assert unknown == list(found[-len(unknown) :])
    assert {"server_cores", "shards", "max_conns", "history.persistenceMaxQPS"} <= {c.key for c in unknown}
    assert {ceiling.to_dict()["status"] for ceiling in unknown} == {"not known from configuration"}


def test_a_limit_that_is_switched_off_is_none() -> None:
    """persistenceMaxQPS = 0 is no limit, and says so in place of a number."""
    off = by_key(ceilings(cluster(limits={"history.persistenceMaxQPS": 0}), WHOLE))["history.persistenceMaxQPS"]
    assert (off.starts_per_second, off.burst) == (math.inf, None)
    assert (off.to_dict()["starts_per_second"], off.to_dict()["status"]) == (None, "no limit")


def test_temporal_cloud_is_its_two_rates() -> None:
    """Of Temporal Cloud nothing is known but actions, requests and one's own launcher."""
    found = ceilings(Cluster.load("temporal-cloud"))
    assert [ceiling.key for ceiling in found] == ["actions_per_second", "requests_per_second", "launcher_processes"]
    assert found[0].starts_per_second == 500


@pytest.mark.parametrize("store", ["mysql", "cassandra"])
def test_nobodys_cost_is_guessed(store: str) -> None:
    """A store that was never measured here has no typical cost."""
    assert by_key(ceilings(cluster(store=store)))["server_cores"].starts_per_second is None


def test_a_borrowed_figure_says_so() -> None:
    """Ceilings from typical costs carry their source; those from configuration and from given demands carry none."""
    borrowed = by_key(ceilings(cluster()))
    assert "not on yours" in borrowed["server_cores"].source
    assert borrowed["frontend.rps"].source == ""
    assert {ceiling.source for ceiling in ceilings(cluster(), WHOLE)} == {""}


def test_the_verdict_names_all_that_bind_at_once_and_the_burst() -> None:
    """Two equal limits must both be raised; the sentence says how far, and what a burst hides."""
    text = verdict(ceilings(cluster(server_cores=64, database_cores=64), Demands(server_cpu=0.001)))
    assert text.startswith(
        "The limit is 2,400 starts/s, set by frontend requests (frontend.rps) and namespace limit "
        "(frontend.namespaceRPS): 2,400 requests a second on the one frontend"
    )
    assert "A burst of 4,800 starts passes before it bites" in text
    assert "frontend.rps from 2,400 to 3,000 and frontend.namespaceRPS from 2,400 to 3,000 (1.25 times)" in text
    assert text.endswith("to reach 3,000 starts/s, where history.rps is next.")


def test_no_burst_passes_where_a_resource_binds_as_well() -> None:
    """CPUs that give just the configured rate save nothing up: no sentence promises a burst."""
    found = ceilings(cluster(server_cores=24, database_cores=64), Demands(server_cpu=0.010))
    text = verdict(found)
    assert "server_cores" in text
    assert "frontend.rps" in text
    assert "burst" not in text


def test_without_any_number_the_verdict_asks_for_a_measurement() -> None:
    """Nothing known, nothing claimed."""
    assert "run capacity sweep" in verdict(())


@pytest.mark.slow
@given(clusters(), demands())
def test_ceilings_are_in_the_announced_order(described: Cluster, needs: Demands) -> None:
    """Capping ones rise, then those that delay rise, then come those without a number."""
    found = ceilings(described, needs)
    order = [(not ceiling.known, not ceiling.caps_starts, ceiling.rate) for ceiling in found]
    assert order == sorted(order)
    assert all(re.match(r"[a-z]", ceiling.key) and ceiling.reason for ceiling in found)


@pytest.mark.slow
@given(clusters(), demands(), st.data())
def test_raising_a_key_never_lowers_what_binds(described: Cluster, needs: Demands, data: st.DataObject) -> None:
    """More of anything never costs starts."""
    key = data.draw(st.sampled_from([c.key for c in ceilings(described, needs) if not c.key.startswith("frontend.g")]))
    before = described.limits[key] if key in described.limits else getattr(described, key)
    higher = described.changed({key: before + data.draw(st.integers(1, 100_000))}) if before else described
    low, high = binding(ceilings(described, needs)), binding(ceilings(higher, needs))
    assert low is not None
    assert high is not None
    assert high.rate >= low.rate


@pytest.mark.slow
@given(clusters(), demands())
def test_doubling_hosts_doubles_what_each_host_has(described: Cluster, needs: Demands) -> None:
    """Twice the frontends, history and matching hosts: twice every ceiling that is per host, and no other changes."""
    hosts = ("frontends", "history_hosts", "matching_hosts")
    double = by_key(ceilings(described.changed({name: 2 * getattr(described, name) for name in hosts}), needs))
    for key, ceiling in by_key(ceilings(described, needs)).items():
        per_host = ceiling.scope.startswith("each") or key in ("max_conns", "visibility_max_conns")
        assert double[key].rate == pytest.approx((2 if per_host else 1) * ceiling.rate)


@pytest.mark.slow
@given(clusters(), demands())
def test_raised_is_the_next_ceiling_and_its_value_reaches_it(described: Cluster, needs: Demands) -> None:
    """Setting a key to the value named, and those below it, makes the next ceiling the binding one."""
    found = [ceiling for ceiling in ceilings(described, needs) if ceiling.known and ceiling.caps_starts]
    for low, high in pairwise(found):
        assert low.raised is not None
        assert (low.raised.starts_per_second, low.raised.binds) == (high.rate, high.key)
        if low.raised.value <= (131_072 if low.key == "shards" else 1_000_000):  # what a description takes
            reached = by_key(ceilings(described.changed({low.key: int(low.raised.value)}), needs))[low.key]
            assert reached.rate >= high.rate * (1 - 1e-9)
    assert found[-1].raised is None


def test_typical_costs_are_those_that_were_measured(measurements: Callable[[str], Measurements]) -> None:
    """CPU of PostgreSQL's sweep at 64 in flight, the hold of a single shard's best rate, SQLite's CPU of its sweep."""
    point = next(point for point in measurements("quiet").points if point.parallelism == 64)
    postgres, sqlite = typical("postgres"), typical("sqlite")
    assert (postgres.server_cpu, postgres.database_cpu) == pytest.approx((point.server_cpu, point.database_cpu))
    best = max(point.throughput for point in measurements("one_shard").points)
    assert 1 / (postgres.shard_hold or 1) == pytest.approx(best, rel=0.01)
    seen = [point.server_cpu or 0.0 for point in measurements("devserver").points]
    assert min(seen) <= (sqlite.cluster_cpu or 0.0) <= max(seen)


@pytest.mark.devserver
@pytest.mark.parametrize("key", ["frontend.namespaceRPS", "history.rps"])
def test_a_real_server_goes_on_at_the_ceiling(key: str, require: Any, state_folder: str) -> None:
    """Held to 25 by one key, the dev server lets the burst of 50 through, refuses, and goes on at 25/s within 10 %."""
    try:
        embedded.find_binary()
    except ClusterError:
        require(False, "temporal program")
    first = binding(ceilings(Cluster.load("devserver").changed({key: 25})))
    assert first is not None
    assert (first.key, first.rate, first.burst) == (key, 25, 50)
    seen: list[Progress] = []
    with embedded.running(dynamic_config={key: "25"}) as server:
        target = Target(address=server.address, namespace="default")
        batch = HeightRange(300, "ceiling")
        run = asyncio.run(launch(batch, target, parallelism=16, verify=False, vitals=False, on_progress=seen.append))
    assert run.scheduled == 300
    assert seen[-1].throttled > 0
    settled = [progress for progress in seen if progress.done >= 150]
    done, elapsed = settled[-1].done - settled[0].done, settled[-1].elapsed - settled[0].elapsed
    assert done / elapsed == pytest.approx(first.rate, rel=0.1)
