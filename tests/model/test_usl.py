"""The Universal Scalability Law: a published fit, its limits, and what it cannot do."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.model.usl import Usl, Weighting, fit_usl

PUBLISHED = Path(__file__).parents[2] / "data" / "published" / "cisco-usl.csv"


@pytest.fixture(scope="module")
def cisco() -> tuple[list[float], list[float]]:
    with PUBLISHED.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [float(r["concurrency"]) for r in rows], [float(r["throughput_per_second"]) for r in rows]


def test_the_published_fit_of_the_cisco_points(cisco: tuple[list[float], list[float]]) -> None:
    """32 points by Cisco, absolute weighting: the book's lambda, sigma and kappa, to a thousandth (2 % was asked)."""
    found = fit_usl(*cisco)
    assert found.rate == pytest.approx(995.6486, rel=1e-3)
    assert found.sigma == pytest.approx(0.02671591, rel=1e-3)
    assert found.kappa == pytest.approx(7.690945e-4, rel=1e-3)


def test_the_published_peak_of_the_cisco_points(cisco: tuple[list[float], list[float]]) -> None:
    """The book's highest throughput is 12,341 at 35: beyond the 32 that were measured, and lower on both sides."""
    found = fit_usl(*cisco)
    assert int(found.peak) == 35
    assert float(found.throughput_at(found.peak)) == pytest.approx(12341, rel=1e-3)
    assert found.throughput_at(found.peak * 0.9) < found.throughput_at(found.peak) > found.throughput_at(70)


def test_relative_weighting_is_another_fit(cisco: tuple[list[float], list[float]]) -> None:
    """Where every point counts alike, one in flight is met to 1 %, not missed by 4 % as with absolute weighting."""
    levels, rates = cisco
    relative, absolute = fit_usl(levels, rates, "relative"), fit_usl(levels, rates)
    assert float(relative.throughput_at(1)) == pytest.approx(rates[0], rel=0.01)
    assert float(absolute.throughput_at(1)) > rates[0] * 1.04


@pytest.mark.slow
@settings(max_examples=50)
@given(
    rate=st.floats(1, 1e5),
    sigma=st.floats(0.01, 0.9),
    kappa=st.floats(1e-5, 0.01),
    weighting=st.sampled_from(["absolute", "relative"]),
)
def test_a_curve_of_the_law_is_found_again(rate: float, sigma: float, kappa: float, weighting: Weighting) -> None:
    """Points made from three numbers give the same three back, with either weighting."""
    n = [1, 2, 4, 8, 16, 32, 64, 128]
    found = fit_usl(n, Usl(rate, sigma, kappa).throughput_at(np.array(n, dtype=float)), weighting)
    assert found.rate == pytest.approx(rate, rel=1e-3)
    assert found.sigma == pytest.approx(sigma, rel=0.01, abs=1e-4)
    assert found.kappa == pytest.approx(kappa, rel=0.01, abs=1e-7)


def test_without_coherency_the_law_is_amdahls_and_has_no_peak() -> None:
    """With kappa 0 throughput rises to lambda / sigma, so the peak is at infinity."""
    law = Usl(100, 0.25, 0.0)
    assert law.peak == math.inf
    assert float(law.throughput_at(1e9)) == pytest.approx(400, rel=1e-6)


def test_without_contention_either_it_is_a_straight_line() -> None:
    """With sigma and kappa 0, N in flight get N times lambda."""
    assert Usl(100, 0, 0).throughput_at(np.array([1.0, 7.0, 512.0])) == pytest.approx([100, 700, 51200])


@pytest.mark.parametrize(
    ("levels", "rates"), [([1, 2], [10, 18]), ([4, 4, 4, 4], [1, 2, 3, 4]), ([1, 2, 3], [1, 2]), ([1, 2, 4], [1, 0, 2])]
)
def test_too_little_to_fit_is_one_clear_line(levels: list[float], rates: list[float]) -> None:
    """Fewer than three parallelisms, a missing or a zero throughput are refused with what is needed."""
    with pytest.raises(UsageError, match="allowed: a throughput above 0 at each of 3 different parallelisms"):
        fit_usl(levels, rates)
