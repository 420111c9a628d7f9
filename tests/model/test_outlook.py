"""The plan's screen and the claim: what they say is what the model says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.claim import claim
from capacity.model.cluster import Cluster
from capacity.model.fleet import fleet_outlook
from capacity.model.fleet_text import duration
from capacity.model.outlook import Outlook, outlook
from capacity.model.prediction import predict, throughput_grid
from capacity.model.sizing import size as size_for
from capacity.model.what_if import what_if
from capacity.model.words import milliseconds, number, size, span
from capacity.rules.plan import pool_plan
from capacity.verdict.thresholds import quantity

Calibrations = dict[str, Calibration]


def on(
    calibration: Calibration, *, cpus: int = 32, multiplier: int = 4, batch: int = 750_000, **changes: object
) -> Outlook:
    cluster = Cluster.load("postgres-dev").changed(changes)
    plan = pool_plan(cpus, multiplier=multiplier, batch=batch, override=0, environment={})
    return outlook(plan, cluster, calibration)


def test_the_screen_answers_the_four_questions(calibrations: Calibrations) -> None:
    """What they get, what binds, that 8x does not help and how sure: each is in the sentences."""
    found = on(calibrations["quiet"])
    sentences = dict(found.sentences())
    assert found.plan.parallelism.value == 128
    assert found.prediction.throughput.value[found.here] == pytest.approx(317, rel=0.03)  # the raw sweep's own point
    assert "2 CPUs of server and database" in sentences["Binds"]
    assert float(re.search(r"give ([+-][0-9.]+)%", sentences["Twice as many"])[1]) < 1  # type: ignore[index]
    assert "1 to 256 in flight" in sentences["How sure"]
    assert found.knee <= 8
    for row in found.rows():
        assert len(row) == 6


def test_rows_are_the_prediction_and_name_the_plan(calibrations: Calibrations) -> None:
    """One row per parallelism, rising; the plan's own is named once, also where it is one of the multipliers."""
    found = on(calibrations["quiet"])
    assert [int(row[1]) for row in found.rows()] == sorted({found.knee, 64, 128, 256})
    assert [row[0] for row in found.rows() if "this plan" in row[0]] == ["4x, this plan"]
    other = on(calibrations["quiet"], cpus=3)
    assert [row[0] for row in other.rows() if "this plan" in row[0]] == ["4x, this plan"]


def test_a_batch_smaller_than_the_pool_is_in_flight_at_once(calibrations: Calibrations) -> None:
    """Ten starts and 128 workers: one row with ten in flight for every multiplier, and that is said."""
    found = on(calibrations["quiet"], batch=10)
    assert [row[0] for row in found.rows()][-1] == "2x, 4x, 8x, this plan"
    assert found.rows()[-1][1] == "10"
    sentences = dict(found.sentences())
    assert sentences["In flight"] == "a batch of 10 starts has no more in flight, whatever the pool's 128"
    assert "Twice as many" not in sentences
    assert "In flight" not in dict(on(calibrations["quiet"]).sentences())


def test_a_knee_beyond_the_cap_has_no_number(calibrations: Calibrations) -> None:
    """Over a network of 200 ms throughput still rises at 512 in flight: 0.95 of that is no knee, and none is told."""
    found = on(calibrations["quiet"], cores=64, shards=512, max_conns=400, network_delay=0.2)
    assert (found.knee, found.knee_beyond) == (512, True)
    said = dict(found.sentences())["Knee"]
    assert said.startswith("throughput still rises at 512 in flight, and the knee lies beyond; this plan gets ")
    assert [row[0] for row in found.rows()][-1] == "most"
    assert not on(calibrations["quiet"]).knee_beyond


@pytest.mark.parametrize("batch", [50, 100, 460])
def test_the_end_of_a_batch_is_no_knee(calibrations: Calibrations, batch: int) -> None:
    """Over a network of 1 s throughput rises in a straight line as far as a batch goes: what ends it is the batch."""
    found = on(calibrations["quiet"], batch=batch, cores=64, shards=512, max_conns=200, network_delay=1.0)
    assert (found.knee, found.knee_beyond) == (batch, True)
    assert "more buys latency" not in dict(found.sentences())["Knee"]


def test_a_lone_start_waits_for_no_rate(calibrations: Calibrations) -> None:
    """What a start takes with nothing else under way is the cluster's, whatever frontend.rps caps starts at."""
    free = Cluster.load("postgres-dev")
    told, capped = (
        {what: there for what, _, there in claim(cluster, calibrations["quiet"]).needed}["mean time of a start"]
        for cluster in (free, free.changed({"frontend.rps": 50}))
    )
    assert capped == told
    assert capped.endswith("with nothing else under way")


def test_a_configured_rate_below_the_cluster_binds(calibrations: Calibrations) -> None:
    """With namespaceRPS at 100 the plan gets 100/s, and that key is what binds."""
    found = on(calibrations["quiet"], **{"frontend.namespaceRPS": 100})
    assert found.prediction.throughput.value[found.here] == 100
    assert "frontend.namespaceRPS at 100/s" in dict(found.sentences())["Binds"]


def test_more_cpus_are_said_to_be_extrapolated(calibrations: Calibrations) -> None:
    """Another CPU count is predicted, and said to rest on the demands staying what they are."""
    found = on(calibrations["quiet"], cores=16)
    assert "extrapolated" in dict(found.sentences())["How sure"]
    assert found.prediction.throughput.value[found.here] > 5 * 317


def test_one_of_a_thing_is_not_called_several(calibrations: Calibrations) -> None:
    """A batch of one on one core, by a fleet with a heartbeat a second: nothing says 1 CPUs, starts or heartbeats."""
    found = on(calibrations["quiet"], batch=1, cores=1)
    fleet = fleet_outlook(1, 1, found.cluster, found.calibration, parallelism=1)
    said = [words for _, words in (*found.sentences(), *fleet.sentences())]
    assert not [words for words in said if re.search(r"\b1 (CPUs|starts|heartbeats|connections|shard locks)\b", words)]
    assert any("the 1 CPU of server and database" in words for words in said)
    assert any("1 heartbeat/s" in words for words in said)


def test_a_million_cores_are_written_out(calibrations: Calibrations) -> None:
    """No count of cores is a power of ten, in a plan, a fleet's, a what-if or a sizing's name."""
    huge = Cluster(name="huge", server_cores=1_000_000, database_cores=1_000_000, shards=4096)
    calibration = calibrations["quiet"]
    plan = outlook(pool_plan(4, override=0, environment={}), huge, calibration).sentences()
    fleet = fleet_outlook(1000, 1, huge, calibration, parallelism=8).sentences()
    asked = what_if(calibration, huge.changed({"server_cores": 1000}), [{"server_cores": 1_000_000}], 8)
    named = size_for(calibration, 1_000_000, draws=0).cluster
    assert named is not None
    said = [*(words for _, words in (*plan, *fleet)), asked.rows[1].change, named.name]
    assert not [words for words in said if re.search(r"[0-9]e[+][0-9]", words)], said


def test_a_change_that_costs_is_not_said_to_buy_little_alone(calibrations: Calibrations) -> None:
    """A limit of 10 requests a second where the cluster gives hundreds costs most of them, and the sentence says so."""
    found = what_if(calibrations["quiet"], Cluster.load("postgres-dev"), [{"frontend.rps": 10}], 8)
    assert found.rows[1].gain == pytest.approx(10 / found.rows[0].throughput - 1)
    costs = f"frontend.rps 100,000 -> 10 costs {-found.rows[1].gain:.0%}: the limit is then frontend.rps."
    assert found.summary() == f"With 8 in flight, none of these buys more than 2%: the limit is CPUs. {costs}"


def test_beyond_the_measured_parallelism_is_said(calibrations: Calibrations) -> None:
    """512 in flight on a calibration measured to 256 say so."""
    assert "beyond 256" in dict(on(calibrations["quiet"], cpus=128).sentences())["How sure"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "heading"), [(64, "Twice as many"), (100, "More"), (32, "Twice as many"), (20, "More")]
)
def test_twice_as_many_is_said_of_twice_as_many(calibrations: Calibrations, plan: int, heading: str) -> None:
    """The heading follows the numbers: 100 to 128 in flight is more, not twice as many; 64 to 128 is twice."""
    pool = pool_plan(16, override=plan, environment={})
    found = outlook(pool, Cluster.load("postgres-dev"), calibrations["quiet"], multipliers=(2, 4, 8))
    said = dict(found.sentences())
    assert heading in said
    assert {"Twice as many", "More"} & set(said) == {heading}


def test_temporal_cloud_is_refused_not_predicted(calibrations: Calibrations) -> None:
    """Its CPUs are not known: every prediction says so, and none has a number that is none."""
    cloud, calibration = Cluster.load("temporal-cloud"), calibrations["quiet"]
    plan = pool_plan(4, environment={})
    for predicted in (
        lambda: predict(calibration, (1, 8), cluster=cloud),
        lambda: outlook(plan, cloud, calibration),
        lambda: throughput_grid(calibration, [4], [2], cluster=cloud),
        lambda: claim(cloud, calibration),
        lambda: fleet_outlook(1000, 2, cloud, calibration),
    ):
        with pytest.raises(UsageError, match=r"Temporal Cloud.*: its CPUs are not known.*capacity limits"):
            predicted()


def test_little_holds_where_a_configured_rate_caps(calibrations: Calibrations) -> None:
    """Throughput x mean latency is the parallelism, where frontend.rps = 50 caps it too."""
    cluster = Cluster.load("postgres-dev").changed({"frontend.rps": 50})
    found = predict(calibrations["quiet"], range(1, 513), cluster=cluster, draws=0)
    np.testing.assert_allclose(found.throughput.value * found.mean.value, found.parallelism)


def test_the_claim_is_set_against_the_cluster(calibrations: Calibrations) -> None:
    """200,000/s need about 1,150 CPUs at what a start costs here, 84 default frontends and 0.64 ms a start."""
    found = claim(Cluster.load("postgres-dev"), calibrations["quiet"])
    needed = {row[0]: row[1] for row in found.needed}
    assert needed["mean time of a start"] == "0.64 ms"
    assert float(needed["CPUs of server and database"].replace(",", "")) == pytest.approx(1150, rel=0.1)
    assert needed["frontends, frontend.rps 2,400"] == "84"
    assert {row[0]: row[1] for row in found.said}["starts/s, 64 workers"] == "125,000"
    assert found.to_dict()["needed"][0]["needed"] == "0.64 ms"


@pytest.mark.parametrize(("seconds", "text"), [(119.9, "120 s"), (120, "2.0 min"), (7199, "120 min"), (7200, "2.0 h")])
def test_times_change_unit_where_people_do(seconds: float, text: str) -> None:
    """Each unit up to 120 of it."""
    assert span(seconds) == text


def test_sizes_up_to_terabytes() -> None:
    """100 million starts of the stock schema are 2.51 TB."""
    assert size(100e6 * 25.1e3) == "2.51 TB"


@pytest.mark.parametrize(("seconds", "text"), [(1.5, "1,500 ms"), (0.0999, "99.9 ms"), (3600, "3,600,000 ms")])
def test_no_time_is_a_power_of_ten(seconds: float, text: str) -> None:
    """A wanted p99 of 1.5 s is 1,500 ms on the screen, not 1.5e+03."""
    assert milliseconds(seconds) == text


@given(st.floats(-1e15, 1e15), st.sampled_from(["s", "share", "bytes", "starts/s", "count"]))
def test_nothing_is_a_power_of_ten(value: float, unit: str) -> None:
    """Numbers, times, sizes and the figures of a checklist are written out, whatever their size."""
    shown = [number(value), milliseconds(value), span(value), size(value), duration(value), quantity(value, unit)]
    assert not [text for text in shown if re.search(r"[0-9]e[+][0-9]", text)], shown
