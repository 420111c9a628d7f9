"""What a start does to the store, from what server and database count."""

from __future__ import annotations

import pytest

from capacity.experiment.store import StoreState, counters_of, storage_between, times_between

PAGE = """
# TYPE persistence_requests counter
persistence_requests{namespace="default",operation="CreateWorkflowExecution",service_name="history"} 500
persistence_requests{namespace="temporal_system",operation="CreateWorkflowExecution",service_name="history"} 2
persistence_requests{namespace="default",operation="GetWorkflowExecution",service_name="history"} 500
persistence_requests{namespace="system",operation="GetNamespace",service_name="frontend"} 7
persistence_requests{namespace="default",operation="CreateTasks",service_name="matching"} 484
# TYPE persistence_latency histogram
persistence_latency_bucket{namespace="default",operation="CreateWorkflowExecution",service_name="history",le="0.1"} 500
persistence_latency_sum{namespace="default",operation="CreateWorkflowExecution",service_name="history"} 1.5
persistence_latency_sum{namespace="default",operation="GetWorkflowExecution",service_name="history"} 0.5
persistence_latency_sum{namespace="default",operation="CreateTasks",service_name="matching"} 4.8
visibility_persistence_requests{namespace="default",operation="RecordWorkflowExecutionStarted"} 500
"""


def test_counters_are_added_up_over_namespaces() -> None:
    """Visibility and buckets are left out, namespaces are one."""
    found = counters_of(PAGE)
    assert found["requests", "history", "CreateWorkflowExecution"] == 502
    assert found["seconds", "history", "CreateWorkflowExecution"] == 1.5
    assert len(found) == 7


def test_holds_are_history_s_own_and_the_shard_s_are_those_under_its_semaphore() -> None:
    """Reading a workflow holds a connection, not the shard; matching has connections of its own."""
    times = times_between({}, counters_of(PAGE), 500)
    assert times.shard_hold == pytest.approx(0.003)
    assert times.connection_hold == pytest.approx(0.004)
    assert times.persistence_requests == pytest.approx({"history": 1002 / 500, "frontend": 0.014, "matching": 0.968})


def test_a_single_connection_s_hold_is_not_told_apart_from_its_wait() -> None:
    """SQLite has one connection, for which the queues' own reads wait too: that is no hold of a start."""
    assert times_between({}, counters_of(PAGE), 500, pooled=False).connection_hold is None


def test_times_in_whole_milliseconds_are_not_taken() -> None:
    """They are rounded down, most to nothing; requests are counted under either name."""
    in_milliseconds = PAGE.replace('le="0.1"', 'le="1"').replace("persistence_requests{", "persistence_requests_total{")
    found, ours = counters_of(in_milliseconds), counters_of(PAGE)
    assert found == {key: n for key, n in ours.items() if key[0] == "requests"}
    assert times_between({}, found, 500).shard_hold is None


def test_only_what_came_between_two_pages_counts() -> None:
    """What the server did before is taken off."""
    counters = counters_of(PAGE)
    twice = {key: 3 * value for key, value in counters.items()}
    later, alone = times_between(counters, twice, 1000), times_between({}, counters, 500)
    assert later.model_copy(update={"starts": 500}) == alone


def test_a_page_without_a_store_says_nothing() -> None:
    """Nothing measured is None, never 0."""
    assert times_between({}, {}, 100).shard_hold is None
    assert times_between({}, {}, 100).connection_hold is None


def test_bytes_and_statements_are_per_start() -> None:
    """Sizes and statement times between two states, divided by the starts; shares add up to one."""
    before = StoreState(10_000_000, 1_000_000, 500, 0, 74, {(1, 1): ("INSERT INTO a", 10, 1.0)})
    after = StoreState(
        16_600_000, 44_600_000, 40_000_500, 2000, 74,
        {(1, 1): ("INSERT INTO a", 2010, 2.0), (2, 2): ("INSERT INTO b", 4000, 3.0), (2, 3): ("SELECT", 0, 0.0)},
    )  # fmt: skip
    storage = storage_between(before, after, 2000)
    assert (storage.main, storage.visibility, storage.wal) == (3300.0, 21800.0, 20000.0)
    assert [(s.query, s.calls_per_start, s.share) for s in storage.statements] == [
        ("INSERT INTO b", 2.0, 0.75),
        ("INSERT INTO a", 1.0, 0.25),
    ]
    assert storage.statements[1].seconds_per_start == pytest.approx(0.0005)
