"""Latencies in bulk against the hdrh library, value by value."""

from __future__ import annotations

import math
import warnings

import numpy as np
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.launcher import latency
from capacity.launcher.latency import HIGHEST, Latencies

LIBRARY = HdrHistogram(latency.LOWEST, HIGHEST, latency.DIGITS)

micros = st.one_of(
    st.integers(1, HIGHEST),
    st.integers(0, 31).map(lambda power: min(2**power, HIGHEST)),
    st.integers(1, 31).map(lambda power: min(2**power - 1, HIGHEST)),
)
batches = st.lists(st.floats(1e-6, 3600), max_size=60)


def recorded(values: list[float]) -> Latencies:
    latencies = Latencies()
    latencies.add(np.array(values, np.float64))
    return latencies


@given(micros)
def test_a_value_falls_into_the_bucket_that_hdrhistogram_gives_it(value: int) -> None:
    """For any latency from 1 µs to 1 hour numpy's bucket is the library's."""
    assert latency._index(np.array([value]))[0] == LIBRARY._counts_index_for(value)


def test_there_are_as_many_buckets_as_in_hdrhistogram() -> None:
    """The number of counts is the library's for the same range and digits."""
    assert Latencies().counts.size == LIBRARY.counts_len


@given(st.lists(st.floats(1e-6, 3600), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_a_recorded_latency_to_three_digits(values: list[float], fraction: float) -> None:
    """A quantile is the latency of that rank within 0.1 % (or the microsecond that a latency is rounded to)."""
    rank = max(1, math.ceil(fraction * len(values)))
    exact = sorted(values)[rank - 1]
    assert abs(recorded(values).quantile(fraction) - exact) <= 1e-3 * exact + 1e-6


@given(st.lists(st.floats(1e-6, 3600), min_size=1, max_size=60))
def test_no_quantile_exceeds_the_maximum(values: list[float]) -> None:
    """The highest quantile is the exact maximum, never the edge of its bucket beyond it."""
    assert recorded(values).quantile(1.0) <= max(values) == recorded(values).maximum


@given(batches, batches)
def test_merging_is_adding_all(first: list[float], second: list[float]) -> None:
    """Two merged histograms hold what one histogram of all latencies holds."""
    merged = recorded(first)
    merged.merge(recorded(second))
    together = recorded(first + second)
    assert merged.counts.tolist() == together.counts.tolist()
    assert merged.maximum == together.maximum
    assert math.isclose(merged.total, together.total, abs_tol=1e-9)


@settings(max_examples=25)
@given(batches)
def test_an_encoded_histogram_comes_back(values: list[float]) -> None:
    """The V2 text of a histogram decodes to the same counts, and to its maximum and mean within three digits."""
    original = recorded(values)
    decoded = Latencies.decode(original.encode())
    assert decoded.counts.tolist() == original.counts.tolist()
    assert math.isclose(decoded.maximum, original.maximum, rel_tol=1.1e-3, abs_tol=1e-6)
    assert math.isclose(decoded.total, original.total, rel_tol=1.1e-3, abs_tol=len(values) * 1e-6)


@settings(max_examples=25)
@given(st.lists(st.floats(1e-6, 3600), min_size=1, max_size=60))
def test_the_text_is_read_by_any_hdrhistogram(values: list[float]) -> None:
    """The library reads as many latencies from the text as were added, with the same median bucket."""
    latencies = recorded(values)
    histogram = HdrHistogram.decode(latencies.encode().encode())
    assert histogram.get_total_count() == len(values)
    median = histogram.get_value_at_percentile(50) * 1e-6
    assert math.isclose(median, latencies.quantile(0.5), rel_tol=1.1e-3, abs_tol=1.1e-6)


@given(batches, st.floats(1e-6, 3600))
def test_at_most_counts_what_does_not_exceed_a_bound(values: list[float], bound: float) -> None:
    """Only latencies within 0.1 % of the bound may be counted on its other side."""
    counted = recorded(values).at_most(bound)
    margin = 1e-3 * bound + 2e-6
    assert sum(v <= bound - margin for v in values) <= counted <= sum(v <= bound + margin for v in values)


def test_latencies_outside_the_range_count_at_its_ends() -> None:
    """Zero counts as 1 µs and two hours as one hour, and neither is lost; the maximum stays exact."""
    latencies = recorded([0.0, 7200.0])
    assert latencies.count == 2
    assert latencies.quantile(0.5) == 1e-6
    assert math.isclose(latencies.quantile(1.0), 3600, rel_tol=1e-3)
    assert latencies.maximum == 7200.0


def test_an_empty_histogram_has_no_quantile() -> None:
    """Without latencies quantiles and mean are nan, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = recorded([])
        assert math.isnan(empty.quantile(0.99))
        assert math.isnan(empty.mean)
        assert Latencies.decode(empty.encode()).count == 0


def test_a_histogram_that_shrank_has_no_quantile_or_that_of_what_is_left() -> None:
    """A fleet's second in which a lost launcher took back more than the others added is no error."""
    latencies = Latencies()
    latencies.counts[100] = -5
    assert math.isnan(latencies.quantile(0.99))
    latencies.counts[200], latencies.maximum = 3, 1.0
    assert latencies.quantile(0.01) == latencies.quantile(0.99) > 0
