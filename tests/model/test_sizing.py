"""Sizing: the smallest cluster for a target, the plans next to it that miss, and what cannot be had."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.cluster import DEFAULTS, Cluster
from capacity.model.limits import ceilings
from capacity.model.measurement import Measurements, StatementShare, Storage, usable
from capacity.model.needs import ROUNDING, Stations, Wish, cells_for, load_of, outcome, stations_for
from capacity.model.network import Structure, solve
from capacity.model.prediction import configured_rate, predict, structure_for
from capacity.model.sized import Sizing
from capacity.model.sizing import STOCK_CLUSTER, size
from capacity.model.storage import storage_need
from capacity.model.what_if import doubled, what_if

Calibrations = dict[str, Calibration]
COUNTED = ("server cores", "database cores", "shards", "connections", "frontends", "history hosts", "matching hosts",
           "launcher processes")  # fmt: skip
"""What a target needs more of; how many are in flight is how the cluster is used."""

TARGETS = st.floats(math.log(0.1), math.log(300_000)).map(math.exp)
P99S = st.sampled_from([None, 0.5, 0.05, 0.02, 0.0125])
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def postgres(calibrations: Calibrations) -> Calibration:
    """The quiet 64-shard sweep on two CPUs."""
    return calibrations["quiet"]


def stations_of(found: Sizing) -> Stations:
    need = found.needs()
    return Stations(
        need["server cores"], need["database cores"], need["shards"], need["connections"], need["launcher processes"]
    )


def wish_of(found: Sizing) -> Wish:
    return Wish(found.target, found.p99, 1 - found.headroom)


@quick
@given(low=TARGETS, factor=st.floats(1.0, 30.0), p99=P99S, headroom=st.sampled_from([0.01, 0.2, 0.5, 0.7]))
@example(low=2378.0, factor=1.0003, p99=None, headroom=0.2)
@example(low=99_000.0, factor=1.02, p99=None, headroom=0.2)  # across a change in how the network is parted
@example(low=1200.0, factor=1.05, p99=0.02, headroom=0.7)  # connections as busy as CPUs
def test_a_larger_target_never_needs_less(
    postgres: Calibration, low: float, factor: float, p99: float | None, headroom: float
) -> None:
    """No core, shard, connection, host or process is saved by asking for more; what more can have, less can."""
    small = size(postgres, low, p99=p99, headroom=headroom, draws=0)
    large = size(postgres, min(low * factor, 1e6), p99=p99, headroom=headroom, draws=0)
    if large.feasible:
        assert small.feasible, small.reason
        less, more = small.needs(), large.needs()
        assert {name: (less[name], more[name]) for name in COUNTED if less[name] > more[name]} == {}


@quick
@given(target=TARGETS, p99=P99S)
def test_a_plan_meets_its_target_when_the_model_is_solved_for_it(
    postgres: Calibration, target: float, p99: float | None
) -> None:
    """Throughput and p99 of `predict` on the plan's own cluster do what was asked, under every configured rate."""
    found = size(postgres, target, p99=p99, draws=0)
    if not found.feasible:
        return
    assert found.cluster is not None
    flight = found.needs()["in flight"]
    cap = configured_rate(found.cluster)
    assert cap is not None
    assert cap.rate * (1 - found.headroom) >= target * (1 - 1e-9)
    if flight <= 512:  # larger ones are solved in cells
        told = predict(postgres, [flight], structure=structure_for(found.cluster), draws=0)
        assert told.throughput.value[0] >= target * (1 - 1e-3)
        assert p99 is None or told.p99.value[0] <= p99 * 1.01
    assert found.throughput is not None
    assert found.throughput.value >= target * (1 - 1e-9)
    assert p99 is None or (found.latency_p99 is not None and found.latency_p99.value <= p99 * (1 + 1e-6))
    assert found.utilization is not None
    locks = found.utilization.pop("shard locks")
    assert locks <= (1 - found.headroom) / 2 * (1 + ROUNDING)
    assert max(found.utilization.values()) <= (1 - found.headroom) * (1 + ROUNDING)


@quick
@given(target=TARGETS, p99=P99S)
def test_cheaper_plans_miss_when_the_model_is_solved_for_them(
    postgres: Calibration, target: float, p99: float | None
) -> None:
    """With the one resource lessened, the network misses the target, the headroom or the p99, as the reason says."""
    found = size(postgres, target, p99=p99, draws=0)
    fields = {"server core": "server", "database core": "database", "shard": "shards", "connection": "connections",
              "launcher process": "launchers"}  # fmt: skip
    for missed in found.missed:
        count, _, rest = missed.change.partition(" ")
        less = int(count.replace(",", ""))
        word = rest.partition(" of ")[0]
        field = next((f for name, f in fields.items() if word.rstrip("es") == name.rstrip("es")), None)
        if field is not None:
            smaller = replace(stations_of(found), **{field: less})
            assert outcome(smaller, postgres, postgres.demands, wish_of(found)).misses == missed.reason
        elif "in flight" in word:
            assert missed.throughput < target
        else:
            key = {"frontend": "frontends", "history": "history_hosts"}[word.split()[0].rstrip("s")]
            assert found.cluster is not None
            fewer = ceilings(found.cluster.changed({key: less}))
            lowest = min(c.rate for c in fewer if c.known and c.key in DEFAULTS and not c.key.startswith("matching."))
            assert lowest * (1 - found.headroom) < target


@pytest.mark.parametrize(("target", "least"), [(216, "215.7"), (814, "813.8"), (1321, "1,320.9")])
def test_a_plan_that_misses_by_a_hair_does_not_read_as_one_that_reaches_it(target: int, least: str) -> None:
    """What is given at most has as many digits as tell it from the target."""
    missed = size(Calibration.named("postgres"), target, headroom=0.05, draws=0).missed
    assert [each.reason.split("/s")[0] for each in missed if least in each.reason] == [f"at most {least}"]
    assert not [each.reason for each in missed if f" {target:,}/s" in each.reason]


def test_without_a_p99_cores_are_the_utilization_law(postgres: Calibration) -> None:
    """target x CPU per start / 0.8, rounded up: 2.53 ms of server and 3.22 ms of database on this sweep."""
    found, demands = size(postgres, 2000, draws=0).needs(), postgres.demands
    server = demands.cpu * (1 - demands.database)
    assert found["server cores"] == math.ceil(2000 * server / 0.8)
    assert found["database cores"] == math.ceil(2000 * demands.cpu * demands.database / 0.8)
    assert found["frontends"] == math.ceil(2000 / 2400 / 0.8)


def test_the_fewest_in_flight_reach_it_and_one_less_does_not(postgres: Calibration) -> None:
    """The parallelism of the plan is the smallest with the target's throughput."""
    found = size(postgres, 2000, draws=0)
    curve = solve(stations_of(found).structure(wish_of(found)), postgres.demands, 64).throughput
    flight = found.needs()["in flight"]
    assert curve[flight - 2] < 2000 <= curve[flight - 1]


def test_a_tighter_p99_takes_more_cores_until_none_helps(postgres: Calibration) -> None:
    """13 ms takes more than 50 ms; what no-load latency exceeds is infeasible, with the latency that remains."""
    loose, tight = size(postgres, 2000, p99=0.05, draws=0), size(postgres, 2000, p99=0.013, draws=0)
    assert tight.needs()["server cores"] > loose.needs()["server cores"]
    assert "for p99 13 ms" in tight.figures[0].reason
    assert "p99" not in loose.figures[0].reason
    never = size(postgres, 2000, p99=0.002, draws=0)
    assert not never.feasible
    assert never.figures == ()
    assert "more than 2 ms" in str(never.reason)
    assert "16 times the cores" in str(never.reason)


def test_a_batch_is_a_target(postgres: Calibration) -> None:
    """750,000 within 600 s are 1,250/s."""
    batch, rate = size(postgres, batch=750_000, within=600, draws=0), size(postgres, 1250, draws=0)
    assert (batch.target, batch.figures) == (1250.0, rate.figures)
    assert batch.storage is not None
    assert batch.storage.per_period == pytest.approx(750_000 * 25.1e3)


@quick
@given(batch=st.integers(1, 5000), slack=st.floats(0.1, 20.0), p99=P99S)
@example(batch=10, slack=0.2, p99=None)
@example(batch=10, slack=1.5, p99=None)
def test_a_batch_takes_no_longer_than_it_may_with_no_more_in_flight_than_it_has(
    postgres: Calibration, batch: int, slack: float, p99: float | None
) -> None:
    """On the plan's own cluster `predict` has the batch done in time; one shorter than a lone start is refused."""
    alone = 1 / float(solve(Structure(1e6, 1_000_000), postgres.demands, 1).throughput[0])
    within = max(slack * alone, batch / 300_000)
    found = size(postgres, batch=batch, within=within, p99=p99, draws=0)
    if within < alone * (1 - 1e-9):
        assert not found.feasible
    if not found.feasible:
        return
    assert found.cluster is not None
    flight = found.needs()["in flight"]
    assert flight <= batch
    if flight <= 200:  # larger ones are solved in cells
        told = predict(postgres, [flight], structure=structure_for(found.cluster), batch=batch, draws=0)
        assert told.duration.value[0] <= within * (1 + 1e-3)


@pytest.mark.parametrize(
    ("within", "said"),
    [
        (0.001, "the batch may take 1 ms, and one start that waits for nothing takes 4."),
        (0.00475, "with 10 in flight: no more may be in flight; that is the whole batch, and a start"),
    ],
)
def test_a_batch_that_no_cluster_starts_in_time_has_a_reason(postgres: Calibration, within: float, said: str) -> None:
    """Ten starts take as long as one that waits for nothing, whatever the cluster."""
    found = size(postgres, batch=10, within=within, draws=0)
    assert said in str(found.reason)


def test_a_small_batch_takes_more_cores_and_says_so(postgres: Calibration) -> None:
    """Ten starts within 5 ms need more cores than the same rate for ever, and the figures say what for."""
    few, many = size(postgres, batch=10, within=0.005, draws=0), size(postgres, 10 / 0.005, draws=0)
    assert few.needs()["server cores"] > many.needs()["server cores"]
    assert "busy for no more than 10 in flight" in few.figures[0].reason
    assert "in flight" not in many.figures[0].reason


def test_more_than_a_cluster_can_have_is_a_reason(postgres: Calibration) -> None:
    """A million starts/s through frontends of 1/s each would take 1,250,000: infeasible, not an error."""
    slow = STOCK_CLUSTER.changed({"frontend.rps": 1})
    assert "frontends is 1250000" in str(size(postgres, 1_000_000, cluster=slow, draws=0).reason)


def test_the_originals_target_reads_as_advice(postgres: Calibration) -> None:
    """200,000/s: 1,150 cores at work, a mean of 0.64 ms for 128 workers, nothing published."""
    found = size(postgres, 200_000, draws=0)
    need, notes = found.needs(), dict(found.notes)
    working = 200_000 * postgres.demands.cpu
    assert working == pytest.approx(1150, rel=0.05)
    assert f"{working:,.0f} of them work all the time" in notes["Cores"]
    assert need["server cores"] + need["database cores"] == pytest.approx(working / 0.8, rel=0.01)
    assert need["frontends"] > 80
    assert need["history hosts"] > 66
    assert "0.64 ms" in notes["128 workers"]
    assert "no published self-hosted cluster above 10,000" in notes["Reality"]
    best = max(point.throughput for point in usable(postgres.measurements.points))
    assert f"{200_000 / best:,.0f} times the highest rate measured" in notes["How sure"]


@pytest.mark.parametrize(
    ("store", "delay", "said"),
    [
        ("quiet", 0.0, ["of the server", "the sweep had 2 for both"]),
        ("quiet", 1.9, ["for both", "in flight (4", "the sweep went to 256"]),
        ("devserver", 0.0, []),
    ],
)
def test_a_plan_is_within_what_was_measured_only_with_its_cpus_and_in_flight(
    calibrations: Calibrations, store: str, delay: float, said: list[str]
) -> None:
    """A rate that was measured does not do: split CPUs, or a delay that has more in flight than swept, extrapolate."""
    far = STOCK_CLUSTER.changed({"network_delay": delay})
    found = size(calibrations[store], 220, cluster=far, headroom=0.4, draws=0)
    assert found.feasible
    sure = dict(found.notes)["How sure"]
    assert "the rate is within what was measured" in sure
    assert [words for words in said if words not in sure] == []
    assert ("extrapolated" in sure) == bool(said)


def test_intervals_hold_the_plan_and_follow_the_noise(postgres: Calibration) -> None:
    """Each figure lies in its interval; one of configuration alone has none; a noisier sweep has wider ones."""
    fit = postgres.fit
    noisy = postgres.model_copy(
        update={"fit": fit.model_copy(update={"covariance": tuple(tuple(9 * c for c in r) for r in fit.covariance)})}
    )
    plain, wide = size(postgres, 20_000, draws=60), size(noisy, 20_000, draws=60)
    for found in (plain, wide):
        assert [f.name for f in found.figures if not f.low <= f.value <= f.high] == []
    of = {f.name: f for f in plain.figures}
    assert of["frontends"].low == of["frontends"].high
    assert of["server cores"].low < of["server cores"].value < of["server cores"].high
    cores = next(f for f in wide.figures if f.name == "server cores")
    assert cores.high - cores.low > 1.5 * (of["server cores"].high - of["server cores"].low)


def test_sqlite_has_one_connection(calibrations: Calibrations) -> None:
    """The dev server cannot be made to start 5,000/s; the reason is its connection, not its cores."""
    found = size(calibrations["devserver"], 5_000, draws=0)
    assert "SQLite has one connection" in str(found.reason)
    small = size(calibrations["devserver"], 50, draws=0)
    assert small.feasible
    assert small.needs()["cores"] == 1
    assert "shards" not in small.needs()


def test_temporal_cloud_has_its_own_limit(postgres: Calibration) -> None:
    """2,000/s are four times the 500 actions/s of a namespace by default; 400/s need only a launcher."""
    cloud = Cluster.load("temporal-cloud")
    over = size(postgres, 2000, cluster=cloud)
    assert "400% of actions_per_second 500" in str(over.reason)
    assert size(postgres, 400, cluster=cloud).needs() == {"launcher processes": 1}


def test_on_temporal_cloud_what_is_on_the_way_is_in_flight(postgres: Calibration) -> None:
    """7,000/s x 0.2 s are 1,400 in flight: three processes of 512, and two are too few."""
    limits = {"actions_per_second": 10_000, "requests_per_second": 10_000, "network_delay": 0.2}
    cloud = Cluster.load("temporal-cloud").changed(limits)
    found = size(postgres, 7000, cluster=cloud)
    assert found.needs() == {"launcher processes": 3}
    assert dict(found.notes)["In flight"].startswith(
        "1,400 for a network_delay of 200 ms; the time that Temporal takes"
    )
    assert "3 launcher processes are needed" in str(size(postgres, 7000, cluster=cloud, launchers=2).reason)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"target": 300, "p99": 0.05}, "no p99 of Temporal Cloud can be told"),
        ({"target": 490}, "98.0% of actions_per_second 500"),
        ({"target": 50_000, "launchers": 1}, "2 launcher processes are needed, of which 1 may be there"),
    ],
)
def test_temporal_cloud_is_held_to_all_that_is_asked(
    postgres: Calibration, wanted: dict[str, Any], reason: str
) -> None:
    """A p99 cannot be told, a fifth of the limit stays free, and launcher processes are counted."""
    cloud = Cluster.load("temporal-cloud").changed({"launcher_processes": 1, "actions_per_second": 100_000})
    if "launchers" not in wanted:
        cloud = cloud.changed({"actions_per_second": 500})
    found = size(postgres, cluster=cloud, **wanted)
    assert found.figures == ()
    assert reason in str(found.reason)


def test_of_temporal_cloud_only_the_limits_are_asked_for(postgres: Calibration) -> None:
    """What Temporal is asked for is a limit of its own, with the headroom, never more launcher processes."""
    limits = {"actions_per_second": 100_000, "requests_per_second": 100_000}
    found = size(postgres, 90_000, cluster=Cluster.load("temporal-cloud").changed(limits))
    assert "90.0% of actions_per_second 100,000" in str(found.reason)
    assert "1.13 times the limit" in dict(found.notes)["What next"]


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 7])
def test_shards_are_a_power_of_two_whatever_each_does_at_once(postgres: Calibration, at_once: int) -> None:
    """The server's own rule for shards holds, and there are as many locks as the starts that hold one need."""
    wish = Wish(10_000, shard_io_concurrency=at_once)
    stations = stations_for(postgres.demands, wish, 10_000)
    assert stations is not None
    assert math.log2(stations.shards).is_integer()
    assert stations.shards * at_once >= load_of(postgres.demands, wish, 10_000).holding / wish.lock_utilization


def test_an_odd_count_of_draws_invents_no_risk(postgres: Calibration) -> None:
    """Eleven draws are eleven: that one is missing does not read as a cluster that fails."""
    assert postgres.fit.draws(11).shape == (11, len(postgres.fit.values))
    assert "Risk" not in dict(size(postgres, 500, draws=11).notes)


def test_shared_cores_are_called_cores_everywhere(postgres: Calibration) -> None:
    """Where a sweep did not tell server and database apart, a plan that misses lacks a core, not a server core."""
    shared = postgres.model_copy(update={"fit": postgres.fit.model_copy(update={"database": 0.0})})
    found = size(shared, 2000, draws=0)
    assert "cores" in found.needs()
    assert [m.change for m in found.missed if "core" in m.change] == [
        change for change in (m.change for m in found.missed) if " cores of " in change and "server" not in change
    ]
    assert any(" cores of " in missed.change for missed in found.missed)


def test_a_cluster_wide_key_is_raised_by_no_host(postgres: Calibration) -> None:
    """frontend.globalRPS = 1,000 makes 2,000/s infeasible; without it frontends make up."""
    capped = Cluster(name="mine", server_cores=1, database_cores=1, limits={"frontend.globalRPS": 1000})
    assert "frontend.globalRPS 1,000" in str(size(postgres, 2000, cluster=capped).reason)
    assert size(postgres, 700, cluster=capped, draws=0).feasible


@pytest.mark.parametrize(("target", "behind"), [(2000, False), (3000, True)])
def test_later_work_falls_behind_only_above_its_limit(postgres: Calibration, target: float, behind: bool) -> None:
    """One history host is 93% used at 2,000/s and lacks headroom; at 3,000/s it is 140% used and falls behind."""
    [missed] = [missed for missed in size(postgres, target, draws=0).missed if "history host" in missed.change]
    assert ("falls behind" in missed.reason) == behind
    assert ("more than 80%" in missed.reason) != behind


def test_too_few_launcher_processes_is_a_reason(postgres: Calibration) -> None:
    """One loop cannot start 100,000/s; and 512 in flight cannot bridge half a second of network at 2,000/s."""
    assert "launcher" in str(size(postgres, 100_000, launchers=1).reason)
    far = Cluster(name="far", server_cores=1, database_cores=1, network_delay=0.5)
    assert "512 in flight" in str(size(postgres, 2000, cluster=far, launchers=1).reason)
    assert size(postgres, 2000, cluster=far, draws=0).needs()["launcher processes"] >= 2


@pytest.mark.parametrize("target", [300, 2000, 10_000])
def test_less_headroom_never_takes_more_cores(postgres: Calibration, target: float) -> None:
    """Down to the lowest headroom a target can be had, for no more cores than with more of it, and without a risk."""
    found = [size(postgres, target, headroom=headroom, draws=5) for headroom in (0.01, 0.012, 0.02, 0.05)]
    assert [each.reason for each in found] == [None] * 4
    cores = [each.needs()["server cores"] + each.needs()["database cores"] for each in found]
    assert cores == sorted(cores)
    assert not [each for each in found if "Risk" in dict(each.notes)]


def test_more_headroom_takes_more(postgres: Calibration) -> None:
    """Half of everything free takes at least as much as a tenth free, and more cores."""
    wide, tight = (
        size(postgres, 3000, headroom=0.5, draws=0).needs(),
        size(postgres, 3000, headroom=0.1, draws=0).needs(),
    )
    assert all(wide[name] >= tight[name] for name in COUNTED)
    assert wide["server cores"] > tight["server cores"]


def test_no_p99_below_the_way_there_and_back_is_promised(postgres: Calibration) -> None:
    """Over a network of 100 ms no cluster has a p99 of 90 ms, and one of 130 ms is possible."""
    far = STOCK_CLUSTER.changed({"network_delay": 0.1})
    assert not size(postgres, 1000, p99=0.09, cluster=far, draws=0).feasible
    assert size(postgres, 1000, p99=0.13, cluster=far, draws=0).feasible


@pytest.mark.parametrize("target", [100, 200, 500, 1000, 2000])
def test_cpus_are_named_before_what_waits_for_them(postgres: Calibration, target: float) -> None:
    """With a core too few CPUs and locks are both too busy: the locks only since starts hold them longer."""
    missed = size(postgres, target, draws=0).missed
    assert all("CPUs" in miss.reason for miss in missed if " core" in miss.change), missed


def test_cells_change_little(postgres: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster for 40,000/s solved in 4 cells needs up to 3 % more in flight than in one: it errs on the slow side."""
    wish = Wish(40_000)
    whole = load_of(postgres.demands, wish, 40_000)
    monkeypatch.setattr("capacity.model.needs._CELL", 80)
    assert cells_for(40_000 * 0.0047, 200) == 4
    parted = load_of(postgres.demands, wish, 40_000)
    assert whole.holding <= parted.holding <= whole.holding * 1.03
    assert whole.in_flight <= parted.in_flight <= whole.in_flight * 1.03


def test_locks_outnumber_what_holds_them(postgres: Calibration) -> None:
    """Shards are the power of two at which a lock is busy 40 % at most, by the starts that hold one."""
    wish = Wish(10_000)
    stations = stations_for(postgres.demands, wish, 10_000)
    holding = load_of(postgres.demands, wish, 10_000).holding
    assert stations is not None
    assert holding / stations.shards <= 0.4 < holding / (stations.shards / 2)


def test_connections_and_shards_are_said_to_be_counted_for_busy_cpus(postgres: Calibration) -> None:
    """At 50/s, where whole cores are less busy than allowed, half of both is enough: no figure says that it is not."""
    found = size(postgres, 50, draws=0)
    there, wish = stations_of(found), wish_of(found)
    for field in ("shards", "connections"):
        fewer = replace(there, **{field: math.ceil(getattr(there, field) / 2)})
        assert outcome(fewer, postgres, postgres.demands, wish).misses is None
        (reason,) = (figure.reason for figure in found.figures if figure.name == field)
        assert "with CPUs 80% busy" in reason
    assert "fewer can be enough" in dict(found.notes)["Enough"]


def test_connections_are_enough_for_what_uses_them(postgres: Calibration) -> None:
    """At 10,000/s there are a quarter more than are in use, before and after the answers, by Little's law at least."""
    stations = stations_for(postgres.demands, Wish(10_000), 10_000)
    assert stations is not None
    assert stations.connections >= 10_000 * (postgres.demands.lock + postgres.demands.later_connection) / 0.8
    found = size(postgres, 10_000, draws=0)
    assert found.needs()["connections"] >= stations.connections
    why = {figure.name: figure.reason for figure in found.figures}
    lock, use = (float(why[name].split(" ms")[0].split()[-1]) for name in ("shards", "connections"))
    assert use == pytest.approx(2.05 * lock, rel=0.01)


def test_storage_is_the_sweeps_where_it_was_measured(
    measurements: Callable[[str], Measurements], postgres: Calibration
) -> None:
    """A sweep's bytes and statements are used and named; else they are typical and say so."""
    typical = storage_need(postgres, 750_000, "batch", 3)
    assert typical is not None
    assert not typical.measured
    assert typical.per_period == pytest.approx(18.8e9, rel=0.01)  # 19 GB
    assert typical.retained == pytest.approx(3 * typical.per_period)
    assert "74 indexes" in typical.lever
    assert "typical" in typical.lever
    statements = (
        StatementShare(
            query="INSERT INTO executions_visibility ...", calls_per_start=1, seconds_per_start=8e-4, share=0.6
        ),
        StatementShare(query="SELECT 1", calls_per_start=1, seconds_per_start=1e-4, share=0.1),
    )
    swept = Storage(main=3000, visibility=20_000, wal=9_000, starts=5000, visibility_indexes=74, statements=statements)
    own = postgres.model_copy(update={"measurements": postgres.measurements.model_copy(update={"storage": swept})})
    measured = storage_need(own, 1000, "batch", 0)
    assert measured is not None
    assert measured.measured
    assert (measured.per_period, measured.retained) == (23e6, 23e6)  # a batch is held at least while it runs
    assert measured.lever.startswith("visibility takes 87% of the bytes; 60% of statement time is INSERT INTO")


def test_json_has_no_number_that_json_lacks(postgres: Calibration) -> None:
    """to_dict is strict JSON, feasible or not; HTML escapes; the result cannot be changed."""
    for found in (size(postgres, 2000, p99=0.05, draws=10), size(postgres, 2000, p99=0.001, draws=10)):
        data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert data["feasible"] is found.feasible
        assert [figure["name"] for figure in data["figures"]] == [figure.name for figure in found.figures]
        assert "<table>" in found._repr_html_()
        with pytest.raises(FrozenInstanceError):
            found.target = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no target is given"),
        ({"target": 5, "batch": 5, "within": 1}, "target and batch are both given"),
        ({"batch": 5}, "batch without within"),
        ({"within": 5}, "within without batch"),
        ({"target": 5, "within": 5}, "target and within are both given"),
        ({"batch": 0, "within": 5}, "batch is 0"),
        ({"batch": 5, "within": 0.0}, "within is 0"),
        ({"target": 0}, "the target is 0 starts/s"),
        ({"target": math.nan}, "the target is nan starts/s"),
        ({"target": 2e6}, "the target is 2e+06 starts/s"),
        ({"target": 5, "p99": -1}, "p99 is -1"),
        ({"target": 5, "p99": math.nan}, "p99 is nan"),
        ({"target": 5, "headroom": 1.0}, "headroom is 1"),
        ({"target": 5, "retention_days": 0.0}, "retention days is 0"),
        ({"target": 5, "launchers": 0}, "processes is 0"),
    ],
)
def test_misuse_is_one_line(postgres: Calibration, arguments: dict[str, Any], said: str) -> None:
    """What is wrong is said with the value and what is allowed."""
    with pytest.raises(UsageError) as caught:
        size(postgres, **arguments)
    assert str(caught.value).startswith(said)
    assert "allowed" in str(caught.value)


def test_twice_the_cores_double_a_cluster_that_cpus_bind(postgres: Calibration) -> None:
    """On 2 cores at 128 in flight CPUs bind: 4 cores give 80 to 110 % more, 128 shards nothing."""
    cluster = Cluster.load("postgres-dev")
    now, cores, shards = what_if(postgres, cluster, [{"cores": 4}, {"shards": 128}], 128).rows
    assert 0.8 < cores.gain < 1.1
    assert cores.gain_low <= cores.gain <= cores.gain_high
    assert abs(shards.gain) < 0.05
    assert now.gain == 0.0
    assert cores.throughput == pytest.approx(now.throughput * (1 + cores.gain))


def test_a_network_delay_costs_what_littles_law_says(postgres: Calibration) -> None:
    """With one in flight, a round trip of 50 ms adds 50 ms to each start."""
    cluster = Cluster.load("postgres-dev")
    now, far = what_if(postgres, cluster, [{"network_delay": 0.05}], 1).rows
    assert 1 / far.throughput == pytest.approx(1 / now.throughput + 0.05, rel=1e-6)


def test_what_if_stops_at_a_configured_rate(postgres: Calibration) -> None:
    """64 times the cores of a stack whose frontend lets 1,000 through give 1,000, and the key is named."""
    cluster = Cluster.load("postgres-dev").changed({"frontend.rps": 1000})
    found = what_if(postgres, cluster, [{"cores": 128}], 256)
    assert (found.rows[1].throughput, found.rows[1].binding) == (1000, "frontend.rps")
    assert "then the limit is frontend.rps" in found.summary()
    json.dumps(found.to_dict(), allow_nan=False)


def test_each_resource_is_doubled_once() -> None:
    """The default question of a described cluster, but for what SQLite cannot have more of."""
    assert {"shards": 128} in doubled(Cluster.load("postgres-dev"))
    assert [next(iter(change)) for change in doubled(Cluster.load("devserver"))] == ["cores", "launcher_processes"]
    assert {"network_delay": 0.00025} in doubled(Cluster.load("example-32-core"))


def test_what_can_be_no_more_is_not_doubled(postgres: Calibration) -> None:
    """A cluster with 131,072 shards and a million cores is asked what else it may have twice, and not refused."""
    full = Cluster(name="full", server_cores=1_000_000, database_cores=64, shards=131_072)
    assert [next(iter(change)) for change in doubled(full)] == ["database_cores", "max_conns", "launcher_processes"]
    assert len(what_if(postgres, full, doubled(full), 8).rows) == 4


def test_what_if_refuses_the_cloud_and_no_parallelism(postgres: Calibration) -> None:
    """Neither has an answer."""
    with pytest.raises(UsageError, match="Temporal Cloud has no cores"):
        what_if(postgres, Cluster.load("temporal-cloud"), [], 8)
    with pytest.raises(UsageError, match="parallelism is 0"):
        what_if(postgres, Cluster.load("postgres-dev"), [], 0)
