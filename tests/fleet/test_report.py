"""Reports add up to the batch, however they travelled; notes of a part keep the indices of the whole."""

from __future__ import annotations

import json
import time
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import ClusterError
from capacity.fleet.merged import Merged
from capacity.fleet.notes import RangeNotes, pack, unpack
from capacity.fleet.report import Report, Reporter
from capacity.fleet.workflow import add_reports
from capacity.launcher import outcome
from capacity.launcher.batch import HeightRange
from capacity.launcher.controller import Fixed, Setting
from capacity.launcher.header import Header
from capacity.launcher.latency import Latencies
from capacity.launcher.scheduler import Scheduler
from capacity.launcher.tally import Seconds

codes = st.sampled_from([outcome.STARTED, outcome.ALREADY_RUNNING, outcome.REFUSED + 3, outcome.GAVE_UP + 14])


@st.composite
def made(draw: st.DrawFn) -> Report:
    """A report as a launcher makes it."""
    latencies = Latencies()
    latencies.add(np.array(draw(st.lists(st.floats(1e-4, 10), max_size=5))))
    used = np.flatnonzero(latencies.counts)
    return Report(
        seconds=draw(st.floats(0, 9)),
        codes=draw(st.dictionaries(codes, st.integers(1, 99), max_size=4)),
        attempts=draw(st.integers(0, 99)),
        throttled=draw(st.integers(0, 99)),
        retries=draw(st.dictionaries(st.sampled_from(["UNAVAILABLE", "ABORTED"]), st.integers(1, 9))),
        throttles=draw(st.dictionaries(st.sampled_from(["RPS_LIMIT/NAMESPACE", "X/"]), st.integers(1, 9))),
        buckets=dict(zip(used.tolist(), latencies.counts[used].tolist(), strict=True)),
        latency_total=latencies.total,
        latency_max=latencies.maximum,
        cpu_seconds=draw(st.floats(0, 9)),
        rss_bytes=draw(st.integers(0, 1 << 40)),
        first_start=draw(st.none() | st.tuples(st.integers(0, 9), st.floats(0, 2e9))),
    )


@given(st.lists(made(), max_size=5))
def test_reports_add_up_the_same_here_and_in_the_workflow(reports: list[Report]) -> None:
    """The workflow's sum of JSON values, which knows no numpy, is the sum of the reports."""
    total: dict[str, object] = {}
    ours = Report()
    for report in reports:
        add_reports(total, json.loads(json.dumps(report.to_json())))
        ours.add(report)
    if reports:
        theirs = Report.from_json(json.loads(json.dumps(total)))
        theirs.in_flight, theirs.limit, theirs.away = ours.in_flight, ours.limit, ours.away
        theirs.seconds, ours.seconds = round(theirs.seconds, 6), round(ours.seconds, 6)
        for name in ("latency_total", "cpu_seconds"):
            assert getattr(theirs, name) == pytest.approx(getattr(ours, name))
            setattr(theirs, name, getattr(ours, name))
        assert theirs == ours


@given(made(), made())
def test_what_came_since_and_what_was_before_are_the_whole(before: Report, later: Report) -> None:
    """``since`` undoes ``add``, also of a sum that has shrunk since."""
    total = Report.from_json(json.loads(json.dumps(before.to_json())))
    total.add(later)
    grown = total.since(before)
    assert (grown.codes, grown.attempts, grown.buckets) == (later.codes, later.attempts, later.buckets)
    assert (grown.retries, grown.throttles) == (later.retries, later.throttles)
    shrunk = before.since(total)
    shrunk.add(later)
    assert not any([*shrunk.codes.values(), *shrunk.buckets.values(), *shrunk.retries.values()])


def test_merged_reports_are_the_batch() -> None:
    """Counts start from what the journal noted; latencies of all launchers are one histogram."""
    merged = Merged(100, {outcome.TO_DO: 90, outcome.STARTED: 10})
    slow, fast = Latencies(), Latencies()
    slow.add(np.full(3, 0.5))
    fast.add(np.full(7, 0.005))
    for latencies in (slow, fast):
        used = np.flatnonzero(latencies.counts)
        buckets = dict(zip(used.tolist(), latencies.counts[used].tolist(), strict=True))
        merged.add(
            Report(
                codes={outcome.STARTED: latencies.count},
                buckets=buckets,
                latency_total=latencies.total,
                latency_max=latencies.maximum,
                throttles={"RPS_LIMIT/NAMESPACE": 2},
            )
        )
    assert (merged.counts.started, merged.started, merged.counts.not_attempted) == (20, 10, 80)
    assert merged.latencies.count == 10
    assert merged.latencies.quantile(0.5) == pytest.approx(0.005, rel=2e-3)
    assert merged.latencies.maximum == pytest.approx(0.5)
    merged.recount({outcome.TO_DO: 75, outcome.STARTED: 25}, {outcome.STARTED: 10})
    assert (merged.counts.started, merged.started, merged.counts.not_attempted) == (25, 15, 75)
    assert merged.progress("running", 3.0, 8, Setting(8)).seconds_left == 15.0, "15 of this session took 3 s"


@given(st.lists(st.integers(0, 127), min_size=1, max_size=200))
def test_packed_outcomes_come_back(values: list[int]) -> None:
    """Packing loses nothing, of ranges that are uniform, mixed or untouched."""
    given_codes = np.array(values, np.uint8)
    assert np.array_equal(unpack(pack(given_codes), given_codes.size), given_codes)


def test_a_range_that_is_done_in_order_packs_small() -> None:
    """A heartbeat of 100,000 items half done fits in some hundred bytes; another size is refused."""
    half = np.zeros(100_000, np.uint8)
    half[:50_000] = outcome.STARTED
    assert len(pack(half)) < 400
    with pytest.raises(ClusterError, match="outcomes of 7 items cannot be read: more than 7"):
        unpack(pack(half), 7)


def test_reports_of_a_range_tell_what_was_answered_and_not_what_is_to_do() -> None:
    """Each counts from what was noted before it; an item that is to do has no outcome to count."""
    notes = RangeNotes(Header("", "run", 2_000), 1_000, 1_500)
    notes.note(np.arange(1_000, 1_003), outcome.STARTED)
    reporter = Reporter(notes.tally(), time.perf_counter())
    connection = mock.MagicMock()
    connection.target.namespace = "default"
    scheduler = Scheduler(HeightRange(2_000), connection, Fixed(1), notes)
    found = []
    for started in (2, 0, 1):
        scheduler._tally.indices += range(started)
        scheduler._tally.latencies += [0.01] * started
        with mock.patch.object(notes, "note"):
            scheduler._tally.note()
        found.append(reporter.report(scheduler, time.perf_counter()))
    assert [report.codes for report in found] == [{outcome.STARTED: 2}, {}, {outcome.STARTED: 1}]
    assert [report.answered for report in found] == [2, 0, 1]


def test_a_sum_that_falls_is_taken_off_the_seconds_after() -> None:
    """What a lost launcher had told is counted again by another: the series counts it once."""
    seconds = Seconds()
    seconds.begin(0.0)
    for now, starts, throttled in ((1.0, 100, 5), (2.0, -40, -5), (3.0, 30, 0), (4.0, 60, 2)):
        seconds.add(starts, np.empty(0))
        seconds.throttled(throttled)
        seconds.close(now, 0, 1)
    assert [(sample.starts, sample.throttled) for sample in seconds.series.samples] == [
        (100, 5),
        (0, 0),
        (0, 0),
        (50, 0),
    ]


def test_notes_of_a_range_keep_the_indices_of_the_batch() -> None:
    """Item 1,000,003 of a batch is noted at its place in its range, and read back from the packed notes."""
    header = Header("", "run", 2_000_000)
    notes = RangeNotes(header, 1_000_000, 1_000_500)
    notes.note(np.array([1_000_003, 1_000_499]), outcome.STARTED)
    assert (notes.is_done(1_000_003), notes.is_done(1_000_004), notes.left) == (1, 0, 498)
    assert notes.tally() == {outcome.TO_DO: 498, outcome.STARTED: 2}
    again = RangeNotes(header, 1_000_000, 1_000_500, notes.pack())
    assert (again.is_done(1_000_499), again.left) == (1, 498)
