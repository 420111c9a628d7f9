"""The fleet on paper: small cases worked by hand, properties of any, and what its outlook says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.fleet import FleetOutlook, fleet_outlook
from capacity.model.fleet_simulation import Machinery, Simulated, loop_utilization, range_size, simulate
from capacity.model.outlook import outlook
from capacity.model.prediction import predict
from capacity.rules.plan import pool_plan

Calibrations = dict[str, Calibration]
AT_ONCE = Machinery(hand_over=0.0, told_after=0.0, gone_after=0.0, retry_after=0.0)
"""Nothing that the fleet does itself takes time."""
PROMPT = replace(AT_ONCE, hand_over=0.05)
"""Nothing but hand-overs."""


def run(throughput: float, **arguments: Any) -> Simulated:
    """A cluster that gives the same whatever is in flight, ranges of 100."""
    return simulate(lambda n: throughput, **{"size": 100, "machinery": AT_ONCE, **arguments})


# Worked by hand.


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_without_overhead_a_batch_takes_its_count_over_the_throughput(processes: int) -> None:
    """400 starts at 50/s take 8 s, however many processes share the cluster."""
    found = run(50, count=400, processes=processes, parallelism=8)
    assert found.seconds == pytest.approx(8)
    assert found.working == pytest.approx(8 * processes)


def test_a_process_hands_over_between_its_ranges() -> None:
    """One process with 4 ranges hands over 3 times: 8 s and 3 x 0.05 s."""
    found = run(50, count=400, processes=1, parallelism=8, machinery=PROMPT)
    assert found.seconds == pytest.approx(8.15)
    assert found.between == pytest.approx(0.15)


def test_while_one_hands_over_the_others_have_the_cluster() -> None:
    """Two processes whose hand-overs do not meet lose nothing where the cluster gives all to one.

    Both begin at once with 25/s each; the shorter range ends at 2 s, its process is away for 1 s, the other goes on
    at 50/s: 150 starts in 3 s.
    """
    found = run(50, count=150, size=100, processes=2, parallelism=2, machinery=replace(AT_ONCE, hand_over=1.0))
    assert found.seconds == pytest.approx(3)


def test_loops_bind_where_the_cluster_would_give_more() -> None:
    """Two loops of 10 ms a start do 200/s of a cluster's 1,000: 400 starts in 2 s."""
    assert run(1000, count=400, processes=2, parallelism=8, launcher_cpu=0.01).seconds == pytest.approx(2)


def test_the_last_ranges_leave_loops_without_work() -> None:
    """Three ranges of 1 s each for two bound loops take 2 s, not 1.5."""
    found = run(1000, count=300, processes=2, parallelism=8, launcher_cpu=0.01)
    assert found.seconds == pytest.approx(2)
    assert found.starts_per_second == pytest.approx(150)


def test_the_last_process_gets_the_shares_of_the_others() -> None:
    """Where the cluster binds, 3 ranges for 2 processes cost nothing: the last has all of it."""
    assert run(50, count=300, processes=2, parallelism=2).seconds == pytest.approx(6)


def test_shares_are_whole_and_the_remainder_goes_to_the_first() -> None:
    """10 in flight of 4 processes are 3, 3, 2, 2; at a start a second each, the last two have 5 each from 4 s on."""
    found = simulate(lambda n: n, count=48, processes=4, parallelism=10, size=12, machinery=AT_ONCE)
    assert found.seconds == pytest.approx(4.8)


def test_a_process_without_a_share_waits_with_its_range() -> None:
    """One in flight for two processes: the second waits 2 s, and nothing is gained or lost."""
    found = run(50, count=200, processes=2, parallelism=1)
    assert (found.seconds, found.without, found.at_work) == (pytest.approx(4), pytest.approx(2), 1)


def test_a_process_has_no_more_in_flight_than_it_may() -> None:
    """At one start a second each, 512 of 1,000 in flight are what one process does."""
    assert simulate(
        lambda n: n, count=5120, processes=1, parallelism=1000, size=5120, machinery=AT_ONCE
    ).seconds == pytest.approx(10)


def test_a_rate_is_kept() -> None:
    """400 starts due at 20/s take 20 s, on a cluster that gives 1,000."""
    assert run(1000, count=400, processes=2, parallelism=8, rate=20.0).seconds == pytest.approx(20)


def test_a_loss_costs_the_timeout_and_what_was_not_noted() -> None:
    """Lost at 3.5 s with 30 noted at 3 s: taken up at 8 s, 70 to do at 10/s, 5 of them sent before."""
    at_once = replace(AT_ONCE, replaced_after=0.0)
    found = run(10, count=100, processes=1, parallelism=4, lose_at=[3.5], machinery=at_once)
    assert found.seconds == pytest.approx(15)
    assert (found.losses, found.resent, found.sent) == (1, pytest.approx(5), pytest.approx(105))


def test_a_loss_waits_for_another_process() -> None:
    """The same with a process that comes 10 s after the loss: taken up at 13.5 s."""
    found = run(10, count=100, processes=1, parallelism=4, lose_at=[3.5])
    assert found.seconds == pytest.approx(20.5)


def test_a_loss_is_made_good_by_the_others() -> None:
    """Two processes at 5/s each; one is lost at 3.5 s and never replaced.

    It had noted 15. The other has the whole cluster from then on: 62.5 at 8 s, its range done at 11.75 s, then the 85
    that are left of the lost one at 20.25 s.
    """
    never = replace(AT_ONCE, replaced_after=1e6)
    found = run(10, count=200, processes=2, parallelism=2, lose_at=[3.5], machinery=never)
    assert found.seconds == pytest.approx(20.25)


def test_the_share_of_a_lost_process_is_missed_until_it_is_noticed() -> None:
    """At a start a second each, two of four in flight are gone for 4.5 s, from the loss to the timeout.

    By 3.5 s each has done 7; at 8 s the other has done 16 and gets all 4 in flight: its 100 are done at 29 s. The 94 of
    the lost one, 6 noted at 3 s, take 23.5 s more.
    """
    never = replace(AT_ONCE, replaced_after=1e6)
    found = simulate(lambda n: n, count=200, size=100, processes=2, parallelism=4, lose_at=[3.5], machinery=never)
    assert found.seconds == pytest.approx(52.5)


def test_a_process_has_none_in_flight_until_it_is_told() -> None:
    """At a start a second each: none of 100 starts in the first 2 s, then 10 at once."""
    found = simulate(
        lambda n: n, count=100, processes=1, parallelism=10, size=100, machinery=replace(AT_ONCE, told_after=2.0)
    )
    assert found.seconds == pytest.approx(12)


def test_the_share_of_a_process_that_has_no_range_goes_to_others_a_little_later() -> None:
    """10 + 40 starts, 2 in flight each: one ends at 5 s, and 2.5 s later the other, 15 done, has 4 in flight."""
    slow = replace(AT_ONCE, gone_after=2.5)
    found = simulate(lambda n: n, count=50, size=40, processes=2, parallelism=4, machinery=slow)
    assert found.seconds == pytest.approx(7.5 + 25 / 4)


def test_the_workflow_continues_as_new_with_its_ranges_called_back() -> None:
    """Past its number of events it calls all ranges back, and hands their rests out anew.

    One process, 5 ranges of 2 s, 2 handed out at once. Events: 10, 1 for each handed out, 5 more for each that is
    done, 6 for each called back. Two done are 23: past 20, so the third comes back, and is the first of the new run;
    so again. There is a hand-over after each range, whether within a run or to the next.
    """
    short = replace(AT_ONCE, hand_over=0.5, handed_out=2, continue_at=20)
    found = run(50, count=500, processes=1, parallelism=8, machinery=short)
    assert found.history == (10 + 3 + 2 * 5 + 6, 10 + 3 + 2 * 5 + 6, 10 + 1 + 5)
    assert found.seconds == pytest.approx(12)


def test_a_range_called_back_half_done_goes_on_where_it_was() -> None:
    """Two processes, of ranges of 100 and 60: when the shorter is done the other is called back with 40 to do.

    60 of each at 25/s by 2.4 s; 0.5 s for the drain and the new run; the 40 left at 50/s: 3.7 s.
    """
    short = replace(AT_ONCE, hand_over=0.5, continue_at=15)
    found = run(50, count=160, processes=2, parallelism=2, machinery=short)
    assert found.seconds == pytest.approx(3.7)
    assert (found.sent, found.resent) == (pytest.approx(160), 0)


def test_bytes_of_results_make_a_history_long_too() -> None:
    """Ranges of 66.5 kB pass 8 MB after 121, far before their events pass 8,000."""
    large = Machinery(bytes_per_range=66_500)
    found = simulate(lambda n: 325.0, count=100_000_000, processes=4, parallelism=8, machinery=large)
    assert max(found.history) < 2_000
    assert 7 <= len(found.history) <= 12
    assert 8_000_000 < found.history_bytes[0] < 9_000_000


def test_more_processes_than_ranges_handed_out_do_nothing() -> None:
    """Of 1,000 processes 128 are at work, and no faster than 128."""
    many, enough = (
        run(1e6, count=20_000, processes=processes, parallelism=512, launcher_cpu=0.01) for processes in (1000, 128)
    )
    assert many.at_work == 128
    assert many.seconds == pytest.approx(enough.seconds)


def test_a_curve_may_be_a_sequence() -> None:
    """``curve[n - 1]`` is the throughput with n in flight, and its last value holds beyond."""
    curve = [10.0, 18.0, 24.0]
    for parallelism, rate in ((1, 10), (3, 24), (50, 24)):
        found = simulate(curve, count=240, processes=1, parallelism=parallelism, machinery=AT_ONCE)
        assert found.seconds == pytest.approx(240 / rate)


# Sizes.


@pytest.mark.parametrize("count", [1, 10_000_000, 100_000_000, 999_999_999])
def test_work_grows_with_ranges_not_with_starts(count: int) -> None:
    """A few events a range and process; no run of the workflow has 10,000 events or 20 MB."""
    found = simulate(lambda n: 325.0, count=count, processes=40, parallelism=80, seed=1)
    assert found.ranges == -(-count // range_size(count))
    assert found.events <= 4 * found.ranges + 5 * 40 * len(found.history)
    assert max(found.history) < 10_000
    assert max(found.history_bytes) < 20_000_000


def test_a_hundred_million_are_a_thousand_ranges() -> None:
    """With results that are small they are 6,010 events in one run: no continue-as-new."""
    small = Machinery(bytes_per_range=2_000.0)
    found = simulate(lambda n: 325.0, count=100_000_000, processes=40, parallelism=80, machinery=small)
    assert (found.ranges, found.history) == (1000, (6010,))
    assert found.history_bytes == (2_000_000,)


# Properties.

cases = st.fixed_dictionaries(
    {
        "count": st.integers(1, 20_000),
        "processes": st.integers(1, 100),
        "parallelism": st.integers(1, 600),
        "size": st.integers(200, 3000),
        "launcher_cpu": st.sampled_from([0.0, 1e-4, 0.01]),
        "rate": st.sampled_from([None, 3.0, 500.0]),
        "lose_every": st.sampled_from([None, 7.0, 60.0]),
        "seed": st.integers(0, 1000),
    }
)


def rising(n: int) -> float:
    """A cluster of 8 CPUs and 20 ms a start."""
    return min(n, 8) / 0.02


@given(cases)
@settings(max_examples=100)
def test_every_start_is_sent_and_what_was_not_noted_again(case: dict[str, Any]) -> None:
    """What was sent is the batch and what was sent again; no bound is broken; the same case gives the same result."""
    case = {**case, "machinery": PROMPT}
    found = simulate(rising, **case)
    assert found.sent == pytest.approx(case["count"] + found.resent, rel=1e-6)
    assert bool(found.resent) <= bool(found.losses)
    assert found.history == (6 * found.ranges + 10,)
    loops = case["processes"] / case["launcher_cpu"] if case["launcher_cpu"] else np.inf
    most = min(rising(case["parallelism"]), loops, case["rate"] or np.inf)
    assert found.starts_per_second <= most * (1 + 1e-6)
    assert found.at_work <= min(case["processes"], case["parallelism"], PROMPT.handed_out)
    assert found == simulate(rising, **case)


def case_of(**numbers: Any) -> dict[str, Any]:
    """One of `cases`."""
    return {"launcher_cpu": 0.0, "rate": None, "lose_every": None, "seed": 0, **numbers}


@given(cases)
@example(case_of(count=2401, processes=2, parallelism=87, size=200))  # in step: every hand-over costs all
@example(case_of(count=19_865, processes=5, parallelism=8, size=200, rate=500.0))  # 2 and 1 in flight, rates alike
@settings(max_examples=100)
def test_more_processes_are_never_slower(case: dict[str, Any]) -> None:
    """One process more costs at most a hand-over for each range of one of them and, where loops bind, one range.

    Processes alike end their ranges at the same moments, so that the cluster idles at each of their hand-overs, where
    unequal shares have them take turns.
    """
    alike = {**case, "seed": None, "lose_every": None, "machinery": PROMPT}
    fewer = simulate(rising, **alike)
    more = simulate(rising, **{**alike, "processes": case["processes"] + 1})
    last = min(case["size"], case["count"]) * case["launcher_cpu"]
    at_once = min(case["processes"] + 1, case["parallelism"], PROMPT.handed_out)
    assert more.seconds <= fewer.seconds * 1.001 + -(-more.ranges // at_once) * PROMPT.hand_over + last


@given(cases, st.integers(12, 200), st.integers(1, 20))
@settings(max_examples=100)
def test_nothing_is_lost_when_the_workflow_continues_as_new(case: dict[str, Any], events: int, out: int) -> None:
    """However often that is, and whoever is lost meanwhile."""
    found = simulate(rising, **case, machinery=Machinery(continue_at=events, handed_out=out))
    assert found.sent == pytest.approx(case["count"] + found.resent, rel=1e-6)
    assert max(found.history) <= max(events, 10 + out) + 12 * (out + 1)


@given(cases)
@settings(max_examples=50)
def test_a_faster_cluster_is_never_slower(case: dict[str, Any]) -> None:
    """Twice the throughput takes between half the time and all of it, but for hand-overs that meet or do not."""
    alike = {**case, "lose_every": None, "machinery": PROMPT}
    slow, fast = simulate(rising, **alike), simulate(lambda n: 2 * rising(n), **alike)
    last = min(case["size"], case["count"]) * case["launcher_cpu"]
    hand_over = PROMPT.hand_over
    assert slow.seconds / 2 - hand_over <= fast.seconds <= slow.seconds * 1.001 + 2 * hand_over + last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"count": 0}, "count is 0; allowed: 1 to 2,000,000,000"),
        ({"processes": 0}, "fleet is 0; allowed: 1 to 100,000"),
        ({"processes": 100_001}, "fleet is 100001"),
        ({"parallelism": 0}, "parallelism is 0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": 1e-300}, "rate is 1e-300; allowed: one at which .* starts take 1,000 years at most"),
        ({"lose_every": 0.5}, "lose-every is 0.5; allowed: 1 second or more"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], said: str) -> None:
    """One line with the value and what is allowed."""
    with pytest.raises(UsageError, match=said):
        run(50, **{"count": 100, "processes": 1, "parallelism": 1, **arguments})


def test_a_fleet_that_is_lost_faster_than_it_works_is_refused() -> None:
    """One process, lost every second and replaced after ten, never ends 100 starts at one a minute."""
    with pytest.raises(UsageError, match="with 100,000 losses the batch has not ended"):
        run(1 / 60, count=100, processes=1, parallelism=1, lose_every=1.0)


# The outlook.


def on(calibration: Calibration, count: int = 100_000_000, processes: int = 40, **changes: Any) -> FleetOutlook:
    """A fleet's outlook on the PostgreSQL stack; fields of the cluster may be changed, options are given."""
    options = {
        name: changes.pop(name) for name in ("parallelism", "rate", "lose_every", "machinery") if name in changes
    }
    cluster = Cluster.load("postgres-dev").changed(changes)
    return fleet_outlook(count, processes, cluster, calibration, **options)


LARGE: dict[str, object] = {
    "cores": 100_000,
    "shards": 131_072,
    "max_conns": 100_000,
    "launcher_shares_cores": False,
    "frontend.rps": 10**9,
    "frontend.namespaceRPS": 10**9,
    "history.rps": 10**9,
    "frontend.persistenceMaxQPS": 0,
    "history.persistenceMaxQPS": 0,
}
"""A cluster that no launcher fills."""
TWO_RANGES: dict[str, object] = {
    "count": 600,
    "processes": 2,
    "parallelism": 1024,
    "machinery": replace(PROMPT, joined_within=0.0),
}
"""500 starts for one process, 100 for the other."""


def test_a_hundred_million_take_what_the_cluster_gives(calibrations: Calibrations) -> None:
    """The duration is the count over the predicted throughput, its interval that of the throughput, within 1 %."""
    found = on(calibrations["quiet"], parallelism=128)
    x = predict(calibrations["quiet"], [128], cluster=found.cluster).throughput
    for simulated, rate in ((found.found, x.value), (found.slowest, x.low), (found.fastest, x.high)):
        assert simulated.seconds == pytest.approx(100e6 / rate[0], rel=0.01)
    assert found.binds() == "CPUs"
    assert found.enough == 1


def test_by_default_the_knee_is_in_flight(calibrations: Calibrations) -> None:
    """It is the knee that `capacity plan` names for a pool; fewer processes than that wait for nothing."""
    found = on(calibrations["quiet"])
    plan = pool_plan(32, override=0, environment={})
    assert found.parallelism == outlook(plan, found.cluster, calibrations["quiet"]).knee
    assert found.found.at_work == found.parallelism
    assert "the others wait" in dict(found.sentences())["Enough"]


@pytest.mark.parametrize("rate", [None, 10.0])
def test_no_more_is_in_flight_than_the_batch_has(calibrations: Calibrations, rate: float | None) -> None:
    """A batch of one start has one in flight, whatever the knee or the bound of a rate is."""
    found = on(calibrations["quiet"], count=1, processes=1, rate=rate)
    assert found.parallelism == 1
    assert "1" in [value for name, value, _ in found.rows() if name == "in flight"]


def test_a_knee_beyond_what_is_solved_is_not_called_one(calibrations: Calibrations) -> None:
    """With a second of network delay more in flight would always give more: 512 is what `auto` tries."""
    found = on(calibrations["quiet"], processes=2, network_delay=1.0, **LARGE)
    assert found.parallelism == 512
    assert "the knee lies beyond" in found.parallelism_source


def test_a_rate_has_as_few_in_flight_as_give_it(calibrations: Calibrations) -> None:
    """On one shard 512 in flight give less than a few: a rate in between is kept, and one above all of them is not."""
    calibration, one_shard = calibrations["one_shard"], {"shards": 1, "count": 20_000, "processes": 4}
    most = predict(calibration, [512], cluster=Cluster.load("postgres-dev").changed({"shards": 1})).throughput.value[0]
    kept = on(calibration, rate=1.1 * most, **one_shard)
    assert (kept.binds(), kept.found.at_work) == ("rate", 4)
    assert kept.gives > 1.2 * most
    assert kept.found.starts_per_second == pytest.approx(1.1 * most, rel=0.05)
    over = on(calibration, rate=100_000.0, **one_shard)
    assert kept.prediction.p99.value[0] < over.prediction.p99.value[0] / 3
    assert over.found.starts_per_second < 1.1 * most
    # What binds is what as many in flight as are there get, whoever asked for them; a few would give more.
    assert over.gives > 1.2 * most
    given = on(calibration, parallelism=512, **one_shard)
    assert (over.binds(), dict(over.sentences())["Binds"]) == (given.binds(), dict(given.sentences())["Binds"])


@pytest.mark.parametrize(
    ("count", "changes", "again"),
    [
        (1, {}, "up to 1 start is sent again"),
        (50, {}, "up to 50 starts are sent again"),
        (100_000, LARGE, "up to 500 starts are sent again"),
    ],
)
def test_no_more_is_sent_again_than_was_handed_out(
    calibrations: Calibrations, count: int, changes: dict[str, Any], again: str
) -> None:
    """A lost process' starts since its last heartbeat are no more than its range has, nor than the batch."""
    found = on(calibrations["quiet"], count=count, processes=2, **changes)
    assert found.per_process > found.range_size
    assert again in dict(found.sentences())["A loss"]


@pytest.mark.parametrize(
    ("changes", "binds", "said"),
    [
        ({"frontend.namespaceRPS": 100}, "frontend.namespaceRPS", "frontend.namespaceRPS at 100/s"),
        ({"rate": 50.0}, "rate", "the rate asked for, 50/s"),
        ({"parallelism": 1}, "too few in flight", "1 in flight: no resource is full"),
        (
            {"count": 10_000, "processes": 1, "machinery": replace(PROMPT, hand_over=5.0)},
            "hand-overs",
            "the fleet itself",
        ),
        ({**LARGE, "processes": 2, "parallelism": 1024}, "launchers", "38,462/s each at most: more processes would"),
        ({**LARGE, **TWO_RANGES}, "ranges", "after the last range"),
        ({"lose_every": 20.0, "processes": 1, "count": 100_000, "parallelism": 4}, "losses", "were lost"),
    ],
)
def test_it_says_what_binds(calibrations: Calibrations, changes: dict[str, Any], binds: str, said: str) -> None:
    """Each way of being bound is named, with its number."""
    found = on(calibrations["quiet"], **changes)
    assert (found.binds(), said in dict(found.sentences())["Binds"]) == (binds, True)


def test_enough_is_the_smallest_fleet_that_is(calibrations: Calibrations) -> None:
    """Where loops bind before the cluster does, a fleet of that many is within 2 % and one fewer is not.

    Asked for themselves they are a little slower still: the model then has fewer loops too.
    """
    large = {**LARGE, "cores": 1000, "parallelism": 512}
    found = on(calibrations["quiet"], **large)
    assert 1 < found.enough < 40
    that_many, fewer = (on(calibrations["quiet"], processes=k, **large) for k in (found.enough, found.enough - 1))
    assert that_many.found.seconds < 1.1 * found.found.seconds
    assert fewer.found.seconds > max(1.02 * found.found.seconds, that_many.found.seconds)


def test_a_loss_is_told_and_losses_are_counted(calibrations: Calibrations) -> None:
    """With losses the batch takes longer, what was sent again is said, and that `Enough` counts without them."""
    calm, harmed = (
        on(calibrations["quiet"], count=100_000, processes=4, parallelism=8, lose_every=every) for every in (None, 20.0)
    )
    assert harmed.found.seconds > calm.found.seconds
    assert harmed.found.losses == pytest.approx(harmed.found.seconds / 20, rel=0.2)
    assert ("lost", f"{harmed.found.losses:,}") in [row[:2] for row in harmed.rows()]
    assert 0 <= calm.one_lost < 15
    told = [dict(found.sentences())["Enough"] for found in (calm, harmed)]
    assert ["slower with none lost" in words for words in told] == [False, True]


def test_memory_history_visibility_and_storage(calibrations: Calibrations) -> None:
    """The figures are their arithmetic: 5 kB a start in flight, 2 bytes an item, two records a start."""
    small = Machinery(bytes_per_range=2_000.0)
    found = on(calibrations["quiet"], parallelism=80, machinery=small)
    told = found.to_dict()
    assert told["launcher_rss_bytes"] == pytest.approx(94.6 * 2**20 + 2 * 5e3 + 2.0 * 100_000)
    assert (told["history_events"], told["continued_as_new"]) == (6010, 0)
    assert (told["history_bytes_longest_run"], told["workflow_state_bytes"]) == (2_000_000, 80_000)
    assert told["visibility_writes_per_second"] == pytest.approx(2 * told["starts_per_second"])
    assert told["stored_bytes"] == pytest.approx(100e6 * 25.1e3)
    assert told["heartbeats_per_second"] == 20
    assert on(calibrations["devserver"], store="sqlite", cores=2).to_dict()["stored_bytes"] is None


@pytest.mark.parametrize(("processes", "said"), [(60, None), (80, "4.19 MB of a message"), (128, "8.39 MB of state")])
def test_heartbeats_too_large_for_a_server_are_a_risk(
    calibrations: Calibrations, processes: int, said: str | None
) -> None:
    """66.5 kB of each range under way: 63 fill a message of 4 MiB, 126 the state a server allows, 8 MiB."""
    large = Machinery(bytes_per_range=66_500)
    found = on(calibrations["quiet"], processes=processes, parallelism=128, machinery=large)
    risk = dict(found.sentences()).get("Risk")
    assert risk is None if said is None else risk is not None and said in risk


@pytest.mark.parametrize(("rate", "said"), [(None, True), (5.0, False)])
def test_in_flight_beyond_the_sweep_is_extrapolated_where_it_is_used(
    calibrations: Calibrations, rate: float | None, said: bool
) -> None:
    """512 in flight on a sweep to 256 are called extrapolated; where a rate needs only one of them, nothing is."""
    cluster = Cluster.load("postgres-dev")
    found = fleet_outlook(100_000, 4, cluster, calibrations["quiet"], parallelism=512, rate=rate)
    sure = dict(found.sentences())["How sure"]
    assert ("512 in flight are extrapolated" in sure) == said
    assert ("512" in sure) == said


def test_a_loop_takes_what_wakes_it_and_what_it_does() -> None:
    """Utilization is the fixed point of a cost that falls as the loop is awake anyway; 1 at saturation, 0 at rest."""
    busy, idle = 26e-6, 300e-6
    for rate in (1.0, 400.0, 10_000.0, 1 / busy):
        used = loop_utilization(rate, busy, idle)
        assert used == pytest.approx(rate * (busy + (idle - busy) * (1 - used)))
    assert loop_utilization(1 / busy, busy, idle) == pytest.approx(1)
    assert loop_utilization(1000, busy, 0.0) == pytest.approx(0.026)


def test_it_shows_itself_and_is_json(calibrations: Calibrations) -> None:
    """Each figure and sentence is in the HTML, names are escaped, and the dictionary has no NaN."""
    found = on(calibrations["quiet"], name="<mine>")
    page = found._repr_html_()
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    assert all(f"<b>{value}</b>" in page for _, value, _ in found.rows())
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["seconds_low"] <= again["seconds"] <= again["seconds_high"]


def test_a_cluster_of_unknown_cpus_is_refused(calibrations: Calibrations) -> None:
    """Temporal Cloud's limits are known, what it gives is not."""
    with pytest.raises(UsageError, match="its CPUs are not known"):
        fleet_outlook(1000, 2, Cluster.load("temporal-cloud"), calibrations["quiet"])
