"""Which points a sweep takes, in which order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.experiment.plan import duration, groups, plan

LISTS = st.lists(st.integers(1, 512), min_size=1, max_size=12, unique=True)


@given(LISTS, st.integers(1, 6), st.integers(0, 10_000))
def test_each_round_has_each_parallelism_once(parallelisms: list[int], repeats: int, seed: int) -> None:
    """Points are interleaved: no parallelism comes a second time before all have come once."""
    points = plan(parallelisms, repeats, seed=seed)
    for repeat, group in enumerate(groups(points, "round")):
        assert sorted(point.parallelism for point in group) == sorted(parallelisms)
        assert {point.repeat for point in group} == {repeat}
    assert [point.order for point in points] == list(range(len(parallelisms) * repeats))


def test_the_seed_makes_the_order() -> None:
    """The same seed gives the same plan; others differ, and so do the rounds of one."""
    orders = {tuple(p.parallelism for p in plan(range(1, 9), 1, seed=seed)) for seed in range(20)}
    assert plan(range(1, 9), 3, seed=5) == plan(range(1, 9), 3, seed=5)
    assert len(orders) == 20
    first, second, _ = groups(plan(range(1, 9), 3, seed=5), "round")
    assert [p.parallelism for p in first] != [p.parallelism for p in second]


def test_no_parallelism_is_favoured_with_the_first_place() -> None:
    """Over many seeds each one comes first about as often: drift is no parallelism's own."""
    firsts = Counter(plan([1, 2, 4, 8], 1, seed=seed)[0].parallelism for seed in range(400))
    assert min(firsts.values()) > 60


def test_holdout_points_are_mixed_in_and_marked() -> None:
    """Points to predict are taken under the same conditions as those to fit, round by round."""
    points = plan([1, 4], 2, holdout=[2, 8])
    assert Counter((p.parallelism, p.holdout) for p in points) == {
        (1, False): 2, (4, False): 2, (2, True): 2, (8, True): 2,
    }  # fmt: skip
    assert {p.holdout for p in groups(points, "round")[0]} == {True, False}


@pytest.mark.parametrize(("fresh", "sizes"), [("round", [3, 3]), ("point", [1] * 6), ("no", [6])])
def test_clusters_are_shared_as_asked(fresh: str, sizes: list[int]) -> None:
    """A new cluster for each round, for each point, or none."""
    shares = groups(plan([1, 2, 4], 2), fresh)
    assert [len(share) for share in shares] == sizes
    assert [point for share in shares for point in share] == list(plan([1, 2, 4], 2))


@pytest.mark.parametrize(
    ("parallelisms", "holdout", "repeats", "expected"),
    [
        ([], [], 1, "parallelism is empty"),
        ([0], [], 1, "parallelism holds 0"),
        ([513], [], 1, "parallelism holds 513"),
        ([4, 4], [], 1, "parallelism holds 4 twice"),
        ([1, 4], [4, 8], 1, "holdout and parallelism share 4"),
        ([1], [1000], 1, "holdout holds 1000"),
        ([1], [], 0, "repeats is 0"),
    ],
)
def test_a_plan_that_cannot_be(parallelisms: list[int], holdout: list[int], repeats: int, expected: str) -> None:
    """What is wrong with the lists is named."""
    with pytest.raises(UsageError, match=expected):
        plan(parallelisms, repeats, holdout=holdout)


def test_a_longer_sweep_is_said_to_take_longer() -> None:
    """The estimate grows with points, seconds and fresh clusters, and is below its bound."""
    few, many = plan([1, 2], 1), plan([1, 2], 3)
    base = duration(few, 6, "round", "sqlite", 0)
    assert base[0] < base[1]
    assert duration(many, 6, "round", "sqlite", 0)[0] == pytest.approx(3 * base[0])
    assert duration(few, 7, "round", "sqlite", 0)[0] == pytest.approx(base[0] + 2)
    assert duration(few, 6, "point", "sqlite", 0)[0] > base[0] > duration(few, 6, "no", None, 0)[0]
