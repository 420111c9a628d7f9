"""The arithmetic of one point: which span, what came within it, and why it may say nothing of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.experiment.points import (
    BUSY,
    FEWEST,
    PACED,
    RAMP,
    RAMP_MOST,
    Mark,
    Span,
    flag_of,
    latencies_between,
    limit_exceeded,
)
from capacity.launcher.latency import Latencies
from capacity.model.measurement import Flag

GOOD = {"starts": 1000, "seconds": 10.0, "mean": 0.08, "in_flight": 8.0, "loop_cpu": 0.5}


def told(span: Span, counts: Callable[[float], tuple[int, int]], until: float = 60.0) -> dict[str, float]:
    """Return when each decision came last, tick by tick; `counts` gives starts and refusals at a moment."""
    moments: dict[str, float] = {}
    for tick in range(1, round(until * 10)):
        elapsed = tick / 10
        what = span.tick(elapsed, *counts(elapsed))
        if what:
            moments[what] = elapsed
        if what == "end":
            break
    return moments


def test_the_ramp_is_left_out_and_the_span_is_as_long_as_asked() -> None:
    """A quick cluster: a second is left out, then so many seconds are measured."""
    assert told(Span(8, 5.0), lambda t: (round(400 * t), 0)) == {
        "begin": pytest.approx(RAMP),
        "end": pytest.approx(RAMP + 5),
    }


def test_a_wide_loop_has_a_longer_ramp() -> None:
    """Each place in flight is answered twice first: 256 in flight at 200/s are there after 2.6 s."""
    assert told(Span(256, 5.0), lambda t: (round(200 * t), 0))["begin"] == pytest.approx(2.6)


def test_a_ramp_ends() -> None:
    """However slow the cluster, the ramp is bounded."""
    assert told(Span(512, 1.0), lambda t: (round(5 * t), 0))["begin"] == pytest.approx(RAMP_MOST)


def test_a_burst_that_ends_within_the_span_begins_it_anew() -> None:
    """Refused from 4 s on: measured is what comes once the pace is found, for the whole span asked for."""
    moments = told(Span(8, 5.0), lambda t: (round(400 * t), 10 if t >= 4 else 0))
    assert moments == {"begin": pytest.approx(4 + PACED), "end": pytest.approx(4 + PACED + 5)}


def test_further_refusals_do_not_prolong_a_throttled_point() -> None:
    """The span begins anew once: a cluster that refuses forever is measured too."""
    moments = told(Span(8, 5.0), lambda t: (round(100 * t), round(max(0, t - 2) * 10)))
    assert moments["end"] <= 2.2 + PACED + 5


@given(st.integers(1, 512), st.floats(1, 60), st.floats(0, 1000), st.floats(0, 130))
def test_a_point_never_takes_longer_than_is_said(parallelism: int, seconds: float, rate: float, refused: float) -> None:
    """Whatever the cluster does, the span ends within `Span.longest`."""
    moments = told(Span(parallelism, seconds), lambda t: (int(rate * t), int(t >= refused)), until=200)
    assert moments["end"] <= Span.longest(seconds)


def test_latencies_of_the_span_are_those_between_its_marks() -> None:
    """What came before the begin changes neither mean nor quantiles nor count."""
    latencies, early, late = Latencies(), np.full(500, 3.0), np.linspace(0.010, 0.030, 101)
    latencies.add(early)
    begin = mark(latencies, 500)
    latencies.add(late)
    between = latencies_between(begin, mark(latencies, 601))
    assert between.count == 101
    assert between.mean == pytest.approx(0.020)
    assert between.quantile(0.5) == pytest.approx(0.020, rel=1e-3)
    assert between.quantile(0.99) == pytest.approx(0.0298, rel=1e-2)


def mark(latencies: Latencies, started: int) -> Mark:
    return Mark(0.0, started, latencies.counts.copy(), latencies.total, latencies.maximum, 0.0, 0.0)


def test_a_point_without_fault_has_no_flag() -> None:
    """100/s at 80 ms with 8 in flight agree by Little's law."""
    assert flag_of(**GOOD) is None


@pytest.mark.parametrize(
    ("changed", "flag"),
    [
        ({"failed": 1}, Flag.FAILED),
        ({"throttled": True}, Flag.THROTTLED),
        ({"starts": FEWEST - 1, "mean": 8.0 * 10 / (FEWEST - 1)}, Flag.TOO_SHORT),
        ({"loop_cpu": BUSY * 10}, Flag.LAUNCHER_BOUND),
        ({"loop_cpu": BUSY * 10 - 0.1}, None),
        ({"mean": 0.08 * 1.09}, None),
        ({"mean": 0.08 * 1.12}, Flag.LITTLE),
        ({"mean": 0.08 * 0.88}, Flag.LITTLE),
        ({"in_flight": 5.0}, Flag.LITTLE),
    ],
)
def test_what_makes_a_point_useless_is_flagged(changed: dict[str, Any], flag: Flag | None) -> None:
    """Each fault by itself has its flag, and one just below its bound has none."""
    assert flag_of(**(GOOD | changed)) is flag


@given(st.integers(1, 512), st.floats(30, 20_000), st.floats(1, 60))
def test_a_loop_that_keeps_littles_law_is_never_accused(parallelism: int, throughput: float, seconds: float) -> None:
    """Mean latency in flight / throughput, at any parallelism, rate and span."""
    starts = round(throughput * seconds)
    mean = parallelism * seconds / starts
    found = flag_of(starts=starts, seconds=seconds, mean=mean, in_flight=float(parallelism), loop_cpu=0.0)
    assert found is None


def test_a_throughput_over_the_limit_is_a_burst() -> None:
    """What the server says it admits is believed before it is felt; no limit and 0 are none."""
    assert limit_exceeded(2500, 2400)
    assert not limit_exceeded(2300, 2400)
    assert not limit_exceeded(2500, None)
    assert not limit_exceeded(2500, 0)
