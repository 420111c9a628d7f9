"""Counts that add up, and the time series with its sustained rate."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.launcher import outcome, progress
from capacity.launcher.progress import Counts, Progress, Sample, Series
from capacity.launcher.tally import Seconds

CODES = [int(code) for code in outcome.DECODED[outcome.DECODED != outcome.DAMAGED] if code != outcome.TO_DO]


def sample(at: float, starts: int, throttled: int = 0, seconds: float = 1.0) -> Sample:
    return Sample(at, seconds, starts, throttled, in_flight=4, limit=8, p50=0.01, p99=0.05)


def series(*starts: int, throttled: dict[int, int] | None = None) -> Series:
    made = Series()
    for second, count in enumerate(starts):
        made.add(sample(second + 1.0, count, (throttled or {}).get(second, 0)))
    return made


@given(st.dictionaries(st.sampled_from(CODES), st.integers(0, 1000)), st.integers(0, 1000))
def test_outcomes_add_up(codes: dict[int, int], rest: int) -> None:
    """Started, already running, already finished, failed and not attempted are the count, whatever happened."""
    counts = Counts(sum(codes.values()) + rest, Counter(codes))
    parts = (counts.started, counts.already_running, counts.already_finished, counts.failed, counts.not_attempted)
    assert sum(parts) == counts.count
    assert sum(counts.errors.values()) == counts.failed
    assert counts.not_attempted == rest


def running(count: int, done: int, elapsed: float, before: int = 0, state: str = "running") -> Progress:
    """A batch of which half of what is done was there already."""
    started, there = done - done // 2, done // 2
    return Progress(
        state, count, started, there, 0, 0, 8, 8, math.nan, math.nan, math.nan, elapsed, 0, done_before=before
    )


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [
        (running(100_000, 90_400, 1.0, before=90_000), 24.0),
        (running(100_000, 50_000, 10.0), 10.0),
        (running(100_000, 90_000, 1.0, before=90_000), None),
        (running(100_000, 0, 0.0), None),
        (running(100, 100, 1.0), None),
        (running(100, 50, 1.0, state="draining"), None),
    ],
)
def test_the_time_left_is_at_what_this_session_has_done(shown: Progress, seconds: float | None) -> None:
    """Items of earlier sessions took none of its time, items that exist already take as much as starts."""
    assert shown.seconds_left == (None if seconds is None else pytest.approx(seconds))


def test_a_rate_is_none_before_its_first_second() -> None:
    """What was not measured yet is nan, and no rate of 0."""
    seconds = Seconds()
    seconds.begin(0.0)
    seconds.add(58, np.full(58, 0.01))
    assert math.isnan(seconds.last[0])
    seconds.close(1.0, 8, 8)
    assert seconds.last[0] == 58


def test_the_sustained_rate_leaves_out_the_first_second_and_the_last_partial_one() -> None:
    """Warming up and running out are no part of the pace."""
    assert series(900, 100, 100, 100, 7).sustained(ramp=0.0) == 100


def test_the_sustained_rate_leaves_out_the_controllers_ramp() -> None:
    """While the controller looked for its limit the rate was not yet the steady one."""
    assert series(10, 20, 40, 80, 100, 100, 100, 3).sustained(ramp=4.0) == 100


def test_the_sustained_rate_leaves_out_the_burst() -> None:
    """Starts up to the first refused attempt, and one second after it, came from the token bucket's store."""
    made = series(500, 400, 150, 200, 200, 200, 1, throttled={1: 3, 4: 1})
    assert made.sustained(ramp=0.0) == 200


def test_too_short_a_run_has_no_sustained_rate() -> None:
    """With less than three seconds left there is no number, rather than a wrong one."""
    assert series(100, 100, 100, 100).sustained(ramp=0.0) is None
    assert Series().sustained(ramp=0.0) is None


def test_a_stall_belongs_to_the_sustained_rate() -> None:
    """Seconds without a start are not left out."""
    assert series(100, 100, 0, 0, 100, 100).sustained(ramp=0.0) == 50


@given(st.integers(1, 700))
def test_a_long_run_halves_its_resolution_and_loses_nothing(count: int) -> None:
    """However long the run, the samples stay bounded and their starts, refusals and seconds add up to all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SERIES_LENGTH", 16)
        made = Series()
        for second in range(count):
            made.add(sample(second + 1.0, second, throttled=second % 3))
            assert len(made.samples) <= 16
        assert sum(s.starts for s in made.samples) == sum(range(count))
        assert sum(s.throttled for s in made.samples) == sum(second % 3 for second in range(count))
        assert sum(s.seconds for s in made.samples) == count
        assert made.samples[-1].at == count
        assert [s.at for s in made.samples] == sorted(s.at for s in made.samples)


def test_joined_samples_keep_the_worst_p99() -> None:
    """A joined sample's p99 is the higher one, and a part without starts takes nothing away."""
    empty = Sample(2.0, 1.0, 0, 0, 0, 8, math.nan, math.nan)
    assert sample(1.0, 5).joined(empty).p99 == 0.05
    assert empty.joined(sample(3.0, 5)).p99 == 0.05
    assert math.isnan(empty.joined(empty).p99)
