"""The original's sizing rules, its own checks included."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.rules import PoolRules, Sized, parallelism, queue_size, reported_pool_size

numbers = st.integers(min_value=-(10**12), max_value=10**12)


@pytest.mark.parametrize(("override", "expected"), [(128, 128), (1, 1), (1024, 512), (512, 512)])
def test_an_override_wins_and_is_cut_to_512(override: int, expected: int) -> None:
    """An override above 0 is taken as it is, cut to 512 (the original's checks)."""
    assert parallelism(8, override=override).value == expected


@pytest.mark.parametrize(
    ("pool", "batch", "expected"),
    [
        (64, 10, 4096),
        (128, 1000, 128000),
        (256, 10000, 262144),
        (0, 100, 4096),
        (64, 0, 4096),
        (8 * 4, 750000, 262144),
        (-5, -5, 4096),
    ],
)
def test_queue_sizes_of_the_original(pool: int, batch: int, expected: int) -> None:
    """The queue is max(parallelism, 1) x max(batch, 1) within [4096, 262144] (the original's checks)."""
    assert queue_size(pool, batch).value == expected


@pytest.mark.parametrize("override", [None, 0])
def test_none_and_zero_mean_no_override(override: int | None) -> None:
    """Without an override, and with 0, the CPU rule sets the parallelism."""
    assert parallelism(16, override=override) == Sized(64, "16 CPUs x 4 = 64")


def test_the_multiplier_before_the_change_was_two() -> None:
    """Rules with a multiplier of 2 give the original's size before the change."""
    assert parallelism(64, rules=PoolRules(multiplier=2)).value == 128


def test_a_negative_override_is_an_error() -> None:
    """An override of -1 is refused with its value and what is allowed."""
    with pytest.raises(UsageError, match="override is -1; allowed: 1 or more, or 0 for no override"):
        parallelism(16, override=-1)


@pytest.mark.parametrize("cpus", [0, -3])
def test_a_cpu_count_below_one_counts_as_one(cpus: int) -> None:
    """A machine that reports no CPU is sized as one CPU, and the reason says so."""
    assert parallelism(cpus) == Sized(4, f"a CPU count of {cpus} counts as 1: 1 CPU x 4 = 4")


def test_the_minimum_holds_for_the_cpu_rule_only() -> None:
    """One CPU x 1 is raised to 2, an override of 1 is not."""
    rules = PoolRules(multiplier=1)
    assert (parallelism(1, rules=rules).value, parallelism(1, override=1, rules=rules).value) == (2, 1)


@pytest.mark.parametrize(
    ("sized", "reason"),
    [
        (parallelism(256), "256 CPUs x 4 = 1,024, cut to the maximum of 512"),
        (parallelism(128), "128 CPUs x 4 = 512"),
        (parallelism(1, rules=PoolRules(multiplier=1)), "1 CPU x 1 = 1, raised to the minimum of 2"),
        (parallelism(8, override=1024), "override 1,024, cut to the maximum of 512"),
        (parallelism(8, override=9, override_name="--parallelism"), "--parallelism 9"),
        (queue_size(64, 10), "64 in flight x batch of 10 = 640, raised to the minimum of 4,096"),
        (queue_size(256, 10000), "256 in flight x batch of 10,000 = 2,560,000, cut to the maximum of 262,144"),
        (queue_size(128, 1000), "128 in flight x batch of 1,000 = 128,000"),
    ],
)
def test_the_reason_names_the_rule_or_clamp(sized: Sized, reason: str) -> None:
    """Every size says which rule or clamp set it, with the arithmetic."""
    assert sized.reason == reason


@given(cpus=numbers, override=st.none() | st.integers(0, 10**12), multiplier=st.integers(1, 10**6))
def test_parallelism_is_always_in_bounds(cpus: int, override: int | None, multiplier: int) -> None:
    """Whatever the CPU count, multiplier or override, the parallelism lies in [1, 512], by the CPU rule in [2, 512]."""
    sized = parallelism(cpus, override=override, rules=PoolRules(multiplier=multiplier))
    assert (1 if override else 2) <= sized.value <= 512


@given(override=st.integers(max_value=-1))
def test_no_negative_override_gets_through(override: int) -> None:
    """No negative override is taken for anything."""
    with pytest.raises(UsageError, match=str(override)):
        parallelism(8, override=override)


@given(pool=numbers, batch=numbers)
def test_the_queue_is_always_in_bounds(pool: int, batch: int) -> None:
    """Whatever the input, negative included, the queue lies in [4096, 262144]."""
    assert 4096 <= queue_size(pool, batch).value <= 262144


@given(cpus=st.integers(1, 10**6), more=st.integers(0, 10**6))
def test_more_cpus_never_give_less(cpus: int, more: int) -> None:
    """Parallelism never falls when CPUs are added."""
    assert parallelism(cpus).value <= parallelism(cpus + more).value


@pytest.mark.parametrize(("pool", "batch", "expected"), [(64, 10, 10), (64, 64, 64), (64, 1000, 64), (64, -5, 1)])
def test_the_reported_pool_size_is_the_smaller_one(pool: int, batch: int, expected: int) -> None:
    """The log's pool size is min(pool size, batch), 1 or more."""
    assert reported_pool_size(pool, batch) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"multiplier": 0}, "multiplier is 0; allowed: 1 or more"),
        ({"minimum": 600}, "minimum is 600, above the maximum of 512"),
        ({"queue_maximum": 1}, "queue_minimum is 4096, above the queue_maximum of 1"),
        ({"maximum": 2.5}, "maximum is 2.5; allowed: a whole number"),
    ],
)
def test_impossible_rules_are_refused_when_made(changed: dict[str, int], message: str) -> None:
    """Rules that contradict themselves cannot be constructed."""
    with pytest.raises(UsageError, match=message):
        PoolRules(**changed)


def test_rules_cannot_be_changed() -> None:
    """Rules are frozen: one plan cannot change another's."""
    with pytest.raises(FrozenInstanceError):
        PoolRules().multiplier = 8  # type: ignore[misc]


def test_a_fractional_cpu_count_is_refused() -> None:
    """2.5 CPUs must be rounded by whoever detected them, not here in silence."""
    with pytest.raises(UsageError, match=r"cpus is 2\.5; allowed: a whole number"):
        parallelism(2.5)  # type: ignore[arg-type]
