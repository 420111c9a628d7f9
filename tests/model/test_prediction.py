"""Predictions: from one cluster to another that was measured too, and what always holds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.fit import structure_of
from capacity.model.measurement import Measurements
from capacity.model.network import bounds, solve
from capacity.model.prediction import (
    Prediction,
    configured_rate,
    knee,
    predict,
    structure_for,
    throughput_grid,
)
from capacity.model.shape import Shape
from capacity.rules import PoolRules, parallelism

Sweeps = Callable[[str], Measurements]


def across(
    calibration: Calibration, target: Measurements, levels: tuple[int, ...], *, of_a_point: bool = False
) -> Prediction:
    """Predict the cluster of another sweep."""
    return predict(calibration, levels, structure=structure_of(target.conditions), of_a_point=of_a_point)


def measured(sweep: Measurements, levels: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([point.throughput for level in levels for point in sweep.points if point.parallelism == level])


# --- other clusters, measured


@pytest.mark.parametrize("source", ["quiet", "two_cpus"])
def test_two_cpus_predict_one(calibrations: dict[str, Calibration], measurements: Sweeps, source: str) -> None:
    """Fitted on two CPUs that the launcher shares, one CPU without it is predicted within 15 % from 8 in flight on."""
    levels = (8, 16, 32, 64, 128)
    found = across(calibrations[source], measurements("one_cpu"), levels)
    assert found.throughput.value == pytest.approx(measured(measurements("one_cpu"), levels), rel=0.15)
    assert set(found.binding) == {"CPUs"}


@pytest.mark.parametrize(("target", "levels"), [("quiet", (16, 64, 128, 256)), ("two_cpus", (8, 16, 32, 64, 128))])
def test_one_cpu_predicts_two(
    calibrations: dict[str, Calibration], measurements: Sweeps, target: str, levels: tuple[int, ...]
) -> None:
    """The other way round, from 8 in flight on, within 15 % too."""
    found = across(calibrations["one_cpu"], measurements(target), levels)
    assert found.throughput.value == pytest.approx(measured(measurements(target), levels), rel=0.15)


def test_64_shards_predict_one(calibrations: dict[str, Calibration], measurements: Sweeps) -> None:
    """Fitted on 64 shards of the same hour, one shard is predicted within 15 % at 8 in flight; the lock binds."""
    found = across(calibrations["two_cpus"], measurements("one_shard"), (8,))
    assert found.throughput.value == pytest.approx(measured(measurements("one_shard"), (8,)), rel=0.15)
    assert found.binding == ("shard locks",)


@pytest.mark.parametrize("source", ["quiet", "two_cpus"])
def test_intervals_of_one_shard_hold_what_was_measured(
    calibrations: dict[str, Calibration], measurements: Sweeps, source: str
) -> None:
    """64 shards do not tell what waiters on a shard cost: at 64 in flight the interval is wide and holds 146/s."""
    found = across(calibrations[source], measurements("one_shard"), (64,)).throughput
    assert found.low[0] <= measured(measurements("one_shard"), (64,))[0] <= found.high[0]
    assert found.high[0] > 1.5 * found.low[0]


@pytest.mark.parametrize("target", ["one_cpu", "one_shard"])
def test_intervals_of_a_point_hold_most_points_of_another_cluster(
    calibrations: dict[str, Calibration], measurements: Sweeps, target: str
) -> None:
    """From the sweep of the same hour, 90 % intervals for one more point hold at least 7 of 8 points elsewhere."""
    levels = (1, 2, 4, 8, 16, 32, 64, 128)
    found = across(calibrations["two_cpus"], measurements(target), levels, of_a_point=True).throughput
    points = measured(measurements(target), levels)
    assert ((found.low <= points) & (points <= found.high)).sum() >= 7


# --- what always holds


LEVELS = (1, 2, 3, 4, 7, 8, 16, 33, 64, 128, 256, 512)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["devserver", "quiet", "two_cpus", "one_cpu", "one_shard"])
def test_figures_of_a_prediction_agree_with_each_other(calibrations: dict[str, Calibration], name: str) -> None:
    """Little's law, duration, order of quantiles, intervals around their values, utilization within 0 to 1."""
    found = predict(calibrations[name], LEVELS, batch=5000)
    assert found.throughput.value * found.mean.value == pytest.approx(np.array(LEVELS), rel=1e-9)
    assert found.duration.value * found.throughput.value == pytest.approx(5000, rel=1e-9)
    assert (found.p50.value <= found.mean.value * (1 + 1e-9)).all()
    assert (found.p50.value < found.p99.value).all()
    for figure in (found.throughput, found.mean, found.p50, found.p99, found.duration):
        assert np.isfinite([figure.low, figure.value, figure.high]).all()
        assert (figure.low <= figure.value).all()
        assert (figure.value <= figure.high).all()
    for used in found.utilization.values():
        assert ((used >= 0) & (used <= 1)).all()


def test_one_at_a_time_equals_all_at_once(calibrations: dict[str, Calibration]) -> None:
    """A throughput does not depend on what else was asked."""
    whole = predict(calibrations["quiet"], LEVELS, draws=0).throughput.value
    alone = [predict(calibrations["quiet"], (level,), draws=0).throughput.value[0] for level in LEVELS]
    assert whole == pytest.approx(alone, rel=1e-9)


def test_latency_at_measured_parallelism_is_the_measured_one(
    calibrations: dict[str, Calibration], measurements: Sweeps
) -> None:
    """Where it was measured, p50 over mean and p99 over mean are the sweep's own."""
    points = measurements("quiet").points
    found = predict(calibrations["quiet"], [point.parallelism for point in points], draws=0)
    assert found.p99.value / found.mean.value == pytest.approx([p.p99 / p.mean for p in points], rel=0.1)
    assert found.p50.value / found.mean.value == pytest.approx([min(p.p50 / p.mean, 1) for p in points], rel=0.1)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 512), st.floats(0.01, 10)), min_size=1, max_size=6, unique_by=lambda p: p[0]))
def test_the_shape_between_two_points_lies_between_theirs(points: list[tuple[int, float]]) -> None:
    """At a measured parallelism it is the measured one, between two it neither dips nor peaks."""
    levels, ratios = zip(*sorted(points), strict=True)
    shape = Shape(parallelism=levels, p50=ratios, p99=(1.0,) * len(levels), p50_spread=0.1, p99_spread=0.1)
    assert shape.factor(0.5, np.array(levels, float)) == pytest.approx(ratios)
    assert shape.factor(0.5, np.array([levels[0] / 2])) == pytest.approx(ratios[:1])
    for (low, a), (high, b) in itertools.pairwise(zip(levels, ratios, strict=True)):
        between = shape.factor(0.5, np.geomspace(low, high, 20))
        steps = np.diff(between) * np.sign(b - a)
        assert steps.min() >= -1e-9 * max(a, b)


@pytest.mark.parametrize("more", [0.25, 0.5, 2, 7.5])
def test_the_shape_follows_the_starts_in_flight_per_cpu(more: float) -> None:
    """On other CPUs the ratio is that of the sweep at as many per CPU, also between levels that lie close together."""
    shape = Shape(parallelism=(4, 5, 6, 8), p50=(0.9, 0.8, 0.7, 0.6), p99=(1, 2, 3, 4), p50_spread=0, p99_spread=0)
    at = np.array([4.0, 5.5, 8.0, 20.0])
    np.testing.assert_allclose(shape.on(more).factor(0.99, at * more), shape.factor(0.99, at))


def test_one_shards_latency_is_that_of_theory(calibrations: dict[str, Calibration], measurements: Sweeps) -> None:
    """Fitted where CPUs bind, p99 over mean of a cluster that one lock binds is off by 25 % at most from 4 to 128."""
    levels = (4, 8, 16, 32, 64, 128)
    found = across(calibrations["quiet"], measurements("one_shard"), levels)
    points = {point.parallelism: point for point in measurements("one_shard").points}
    wanted = [points[level].p99 / points[level].mean for level in levels]
    assert found.p99.value / found.mean.value == pytest.approx(wanted, rel=0.25)


@pytest.mark.parametrize("shards", [1, 2, 4, 64])
def test_a_core_more_lengthens_no_latency(calibrations: dict[str, Calibration], shards: int) -> None:
    """From 1 to 64 cores neither p99 nor mean rises by 5 % with a core more, wherever shard locks begin to bind."""
    cluster = Cluster.load("postgres-dev").changed({"shards": shards})
    found = [
        predict(calibrations["quiet"], (4, 8, 32, 128), cluster=cluster.changed({"cores": cores}), draws=0)
        for cores in range(1, 65)
    ]
    for figure in ("p99", "mean"):
        times = np.array([getattr(each, figure).value for each in found])
        assert (times[1:] / times[:-1]).max() < 1.05


def test_further_cpus_leave_the_tail_of_few_connections(calibrations: dict[str, Calibration]) -> None:
    """Where four connections bind, CPUs change no p99, and it is far from the mean: any that waits may be the next."""
    found = [predict(calibrations["quiet"], [64], cluster=few_connections(cores), draws=0) for cores in (8, 16, 32, 64)]
    assert {each.binding[0] for each in found} == {"connections"}
    assert [each.p99.value[0] for each in found] == pytest.approx([found[0].p99.value[0]] * 4, rel=0.01)
    assert found[0].p99.value[0] > 1.8 * found[0].mean.value[0]


def few_connections(cores: int) -> Cluster:
    return Cluster(name="few", cores=cores, shards=64, max_conns=4)


def test_further_cpus_leave_the_latency_of_sqlites_connection(calibrations: dict[str, Calibration]) -> None:
    """On 64 cores in place of 2, 128 in flight on the dev server wait as long for its one connection, within 10 %."""
    dev = Cluster.load("devserver")
    few, many = (
        predict(calibrations["devserver"], (128,), cluster=dev.changed({"cores": cores}), draws=0) for cores in (2, 64)
    )
    assert many.p99.value == pytest.approx(few.p99.value, rel=0.1)
    assert many.p50.value == pytest.approx(few.p50.value, rel=0.1)


@pytest.mark.parametrize("name", ["quiet", "two_cpus", "one_cpu", "one_shard", "devserver"])
def test_a_round_trip_is_added_once_and_never_stretched(calibrations: dict[str, Calibration], name: str) -> None:
    """One start alone takes 100 ms longer over a network of 100 ms: so do its median, as far as the mean lets it, and
    its 99 % quantile, whatever a cluster makes of them.
    """
    here = structure_of(calibrations[name].measurements.conditions)
    near, far = (predict(calibrations[name], (1,), structure=replace(here, network_delay=d), draws=0) for d in (0, 0.1))
    assert far.mean.value == pytest.approx(near.mean.value + 0.1)
    assert far.p50.value == pytest.approx(near.p50.value + 0.1)
    assert far.p99.value == pytest.approx(near.p99.value + 0.1)


def test_a_kept_calibration_over_a_network_has_its_shape_made_anew(measurements: Sweeps, tmp_path: Path) -> None:
    """One that was kept when the round trip was stretched with the rest predicts as one that is fitted now."""
    near = measurements("quiet")
    points = tuple(
        p.model_copy(update={"p50": p.p50 + 0.05, "p99": p.p99 + 0.05, "mean": p.mean + 0.05}) for p in near.points
    )
    conditions = near.conditions.model_copy(update={"network_delay": 0.05})
    fitted = Calibration.of(Measurements(conditions=conditions, points=points), "far")
    older = fitted.model_copy(update={"shape": fitted.shape.model_copy(update={"p99": (1.0,) * len(points)})})
    (tmp_path / "far.json").write_text(older.model_dump_json())
    assert Calibration.load(tmp_path / "far.json").shape == fitted.shape


@pytest.mark.parametrize("name", ["quiet", "devserver"])
@pytest.mark.parametrize("changed", [{}, {"cores": 1}, {"cores": 1024}, {"shards": 1}, {"network_delay": 1.0}])
def test_the_mean_lies_between_p50_and_p99(
    calibrations: dict[str, Calibration], name: str, changed: dict[str, float]
) -> None:
    """On any cluster, for any number in flight."""
    cluster = Cluster.load("devserver" if name == "devserver" else "postgres-dev").changed(changed)
    found = predict(calibrations[name], (1, 2, 8, 64, 128, 512), cluster=cluster, draws=0)
    assert (found.p50.value <= found.mean.value).all()
    assert (found.mean.value <= found.p99.value).all()


def test_a_batch_has_no_more_in_flight_than_it_has(calibrations: dict[str, Calibration]) -> None:
    """One start takes its own mean, whatever the parallelism; eight take what eight in flight do."""
    cluster = Cluster.load("postgres-dev")
    for batch in (1, 8):
        alone, many = predict(calibrations["quiet"], (batch, 512), cluster=cluster, batch=batch, draws=0).duration.value
        assert many == alone
    assert predict(calibrations["quiet"], (1,), cluster=cluster, batch=1).duration.value == pytest.approx(
        predict(calibrations["quiet"], (1,), cluster=cluster).mean.value
    )


def test_launcher_processes_share_the_batch_and_what_is_in_flight(calibrations: dict[str, Calibration]) -> None:
    """Each of two processes takes the memory that one takes for half of it."""
    cluster = Cluster.load("postgres-dev")
    two = predict(
        calibrations["quiet"], (128,), cluster=cluster.changed({"launcher_processes": 2}), batch=10**6, draws=0
    )
    one = predict(calibrations["quiet"], (64,), cluster=cluster, batch=10**6 // 2, draws=0)
    assert two.rss_bytes == one.rss_bytes


def test_a_database_that_no_sweep_told_apart_is_not_free(calibrations: dict[str, Calibration]) -> None:
    """Where a sweep has the CPU of server and database only together, 32 and 16 CPUs are 48 that both share, and it
    says so: the server's are not taken to do all of it, nor the database's none."""
    quiet = calibrations["quiet"]
    together = quiet.model_copy(update={"fit": quiet.fit.model_copy(update={"database": 0.0})})
    rest = {"name": "mine", "shards": 512, "max_conns": 400}
    rest |= {"limits": dict.fromkeys(("frontend.rps", "frontend.namespaceRPS", "history.rps"), 1_000_000)}
    parted, shared = (
        predict(together, (4, 64, 512), cluster=Cluster.model_validate(rest | cores), draws=0)
        for cores in ({"server_cores": 32, "database_cores": 16}, {"cores": 48})
    )
    assert (parted.throughput.value == shared.throughput.value).all()
    assert set(parted.utilization) >= {"CPUs"}
    assert any("CPUs of both are taken as one pool" in words for words in together.not_identified())
    assert not any("one pool" in words for words in quiet.not_identified())


def test_no_more_than_the_batch_is_in_flight(calibrations: dict[str, Calibration]) -> None:
    """Ten starts at 128 workers are ten in flight: rates, latencies, what is used and what binds are those of ten."""
    cluster = Cluster.load("postgres-dev")
    many, ten = (predict(calibrations["quiet"], (at,), cluster=cluster, batch=10) for at in (128, 10))
    for name in ("throughput", "mean", "p50", "p99", "duration"):
        figure, same = getattr(many, name), getattr(ten, name)
        assert (figure.value, figure.low, figure.high) == (same.value, same.low, same.high)
    assert (many.utilization, many.binding, many.parallelism[0]) == (ten.utilization, ten.binding, 128)


def test_every_configured_rate_and_its_burst_hold_a_batch(calibrations: dict[str, Calibration]) -> None:
    """50/s with a burst of 50,000 lets 40,000 starts through at once, but 100/s with a burst of 200 does not: the
    batch takes 398 s."""
    limits = {"frontend.namespaceRPS": 50, "frontend.namespaceBurstRatio": 1000, "frontend.rps": 100}
    cluster = Cluster.load("postgres-dev").changed(limits)
    found = predict(calibrations["quiet"], (16,), cluster=cluster, batch=40_000).duration
    assert found.value[0] == pytest.approx((40_000 - 200) / 100)


def test_a_batch_inside_a_burst_takes_as_unsure_as_without_the_rate(calibrations: dict[str, Calibration]) -> None:
    """90 starts in the burst of 100 of frontend.rps = 50: duration and interval are those without any rate."""
    free = Cluster.load("postgres-dev")
    found, without = (
        predict(calibrations["quiet"], (16,), cluster=cluster, batch=90).duration
        for cluster in (free.changed({"frontend.rps": 50}), free)
    )
    assert found.low[0] < found.value[0] < found.high[0]
    assert (found.value, found.low, found.high) == (without.value, without.low, without.high)


def test_a_batch_within_a_rates_burst_never_feels_it(calibrations: dict[str, Calibration]) -> None:
    """A limit of 100/s whose bucket holds 200: 200 starts take as long as without it, 1,200 ten seconds."""
    free = Cluster.load("postgres-dev")
    slow = free.changed({"frontend.namespaceRPS": 100})
    cap = configured_rate(slow)
    assert cap is not None
    assert (cap.rate, cap.burst) == (100, 200)

    def takes(cluster: Cluster, batch: int) -> float:
        return float(predict(calibrations["quiet"], (64,), cluster=cluster, batch=batch, draws=0).duration.value[0])

    assert takes(slow, 200) == takes(free, 200)
    assert takes(slow, 1200) == pytest.approx(10)


def test_the_shape_is_level_at_its_lowest_point() -> None:
    """Ratios that fall to 4 in flight and rise from there: at 3 and 5 they are nearer to it than straight lines are."""
    shape = Shape(parallelism=(1, 4, 16, 64), p50=(0.5, 0.25, 0.7, 1.0), p99=(1.0,) * 4, p50_spread=0.1, p99_spread=0.1)
    three, five = shape.factor(0.5, np.array([3.0, 5.0]))
    assert three < 0.25 * (0.5 / 0.25) ** (np.log(4 / 3) / np.log(4))
    assert five < 0.9 * 0.25 * (0.7 / 0.25) ** (np.log(5 / 4) / np.log(4))


def test_a_point_is_less_sure_than_the_mean_of_many(calibrations: dict[str, Calibration]) -> None:
    """An interval for one more measurement is wider than that for the mean: it has the noise of a point in it."""
    mean = predict(calibrations["quiet"], (64,)).throughput
    point = predict(calibrations["quiet"], (64,), of_a_point=True).throughput
    assert point.low[0] < mean.low[0] < mean.high[0] < point.high[0]


def test_farther_beyond_the_sweep_is_less_sure(calibrations: dict[str, Calibration]) -> None:
    """The relative width of an interval grows from the highest measured parallelism to twice and four times that."""
    found = predict(calibrations["two_cpus"], (128, 256, 512)).throughput
    assert (np.diff(found.high / found.low) > 0).all()


def test_without_draws_an_interval_has_no_width(calibrations: dict[str, Calibration]) -> None:
    """No draws: low and high are the value itself."""
    found = predict(calibrations["quiet"], (8,), draws=0).throughput
    assert found.low == found.value == found.high


# --- what if


def test_more_cpus_never_cost_throughput(calibrations: dict[str, Calibration]) -> None:
    """1 to 64 CPUs with the quiet sweep's demands: never less, and 64 give at least 20 times what two give."""
    base = structure_of(calibrations["quiet"].measurements.conditions)
    structures = [replace(base, cpus=cpus, locks=512, connections=1000.0) for cpus in (1, 2, 4, 8, 16, 32, 64)]
    found = [predict(calibrations["quiet"], (256,), structure=s, draws=0).throughput.value[0] for s in structures]
    assert (np.diff(found) > 0).all()
    assert found[-1] > 20 * found[1]


def test_more_shards_cost_next_to_no_throughput(calibrations: dict[str, Calibration]) -> None:
    """1, 4, 16, 64 and 512 shards, 64 in flight: what binds turns from locks to CPUs.

    Each step gains, but for 1 %: starts that no longer wait for a lock wait for a CPU, which has its own small cost.
    """
    base = structure_of(calibrations["quiet"].measurements.conditions)
    found = [
        predict(calibrations["quiet"], (64,), structure=replace(base, locks=shards), draws=0)
        for shards in (1, 4, 16, 64, 512)
    ]
    rates = np.array([f.throughput.value[0] for f in found])
    assert (rates[1:] > 0.99 * rates[:-1]).all()
    assert rates[-1] > 1.5 * rates[0]
    assert found[0].binding == ("shard locks",)
    assert found[-1].binding == ("CPUs",)


def test_a_longer_way_needs_more_in_flight_not_more_cpus(calibrations: dict[str, Calibration]) -> None:
    """50 ms of network: one in flight gets less than 20/s, and 256 get what they get without within 3 %."""
    base = structure_of(calibrations["quiet"].measurements.conditions)
    far = predict(
        calibrations["quiet"], (1, 256), structure=replace(base, network_delay=0.05), draws=0
    ).throughput.value
    near = predict(calibrations["quiet"], (1, 256), structure=base, draws=0).throughput.value
    assert far[0] < 20 < near[0]
    assert far[1] == pytest.approx(near[1], rel=0.03)


CLUSTER = Cluster(name="described", store="postgres", cores=32, shards=512, max_conns=100)


def test_a_configured_rate_caps_throughput_and_is_named(calibrations: dict[str, Calibration]) -> None:
    """32 cores could do more than the lowest configured rate: throughput and its interval stop there, with its key."""
    cap = configured_rate(CLUSTER)
    assert cap is not None
    found = predict(calibrations["quiet"], (1, 512), cluster=CLUSTER)
    assert found.cap == cap
    assert found.throughput.value[1] == found.throughput.high[1] == pytest.approx(cap.rate)
    assert found.binding == ("too few in flight", cap.key)
    assert found.throughput.value[0] < cap.rate


def test_a_described_cluster_has_the_stations_it_says() -> None:
    """Cores, shards and connections of the description are those of the network."""
    structure = structure_for(CLUSTER)
    assert (structure.cpus, structure.locks, structure.connections) == (32, 512, 100)


@pytest.mark.parametrize("name", ["helm-default", "example-32-core", "postgres-dev"])
def test_what_binds_is_what_allows_the_fewest_starts(calibrations: dict[str, Calibration], name: str) -> None:
    """Starts wait for a CPU with a connection in hand: all are in use, and the CPUs bind, as their bound is lower."""
    cluster, calibration = Cluster.load(name), calibrations["quiet"]
    most = bounds(structure_for(cluster), calibration.demands)
    found = predict(calibration, [512], cluster=cluster, draws=0)
    assert found.utilization["connections"][0] > 0.99
    assert found.binding == (min(most, key=most.__getitem__),)


# --- the grid, the knee, the rules


def test_the_grid_is_the_prediction_of_every_cell(calibrations: dict[str, Calibration]) -> None:
    """CPUs x multipliers in one call equals predictions one by one, with the parallelism of the rules."""
    cpus, multipliers = [1, 2, 8, 64, 1024], [1, 2, 4, 8]
    grid = throughput_grid(calibrations["quiet"], cpus, multipliers)
    flights = [[parallelism(c, rules=PoolRules(multiplier=m)).value for m in multipliers] for c in cpus]
    single = [predict(calibrations["quiet"], row, draws=0).throughput.value for row in flights]
    assert grid == pytest.approx(np.array(single), rel=1e-9)


def test_the_grid_keeps_to_the_configured_rate(calibrations: dict[str, Calibration]) -> None:
    """No cell of the grid exceeds the lowest configured rate of the cluster."""
    cap = configured_rate(CLUSTER)
    assert cap is not None
    assert throughput_grid(calibrations["quiet"], range(1, 1025), (1, 2, 4, 8), cluster=CLUSTER).max() == cap.rate


def test_the_knee_is_where_95_percent_of_the_peak_are_reached(calibrations: dict[str, Calibration]) -> None:
    """On two CPUs a few in flight are enough: the knee lies below 8, and one less in flight is below the share."""
    conditions = calibrations["quiet"].measurements.conditions
    curve = solve(structure_of(conditions), calibrations["quiet"].demands).throughput
    at, within = knee(curve)
    assert within
    assert 1 < at < 8
    assert curve[at - 2] < 0.95 * curve.max() <= curve[at - 1]


def test_a_frame_has_a_row_per_parallelism_and_is_json(calibrations: dict[str, Calibration]) -> None:
    """Everything is there as plain numbers: one row per parallelism, and JSON of the whole."""
    found = predict(calibrations["quiet"], (1, 8), batch=1000)
    rows = found.to_frame()
    assert [row["parallelism"] for row in rows] == [1, 8]
    assert rows[1]["throughput_low"] <= rows[1]["throughput"] <= rows[1]["throughput_high"]
    assert json.loads(json.dumps(found.to_dict()))["measured_to"] == 256
