"""When a failed attempt is tried again, on a clock of the test's own."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.launcher.retries import Pending, RetryPolicy, Waiting


@given(st.integers(1, 10_000), st.integers())
def test_backoff_doubles_up_to_its_maximum_with_at_most_half_taken_off(attempt: int, seed: int) -> None:
    """The delay after the n-th failure is between half and all of min(first x 2^(n-1), maximum)."""
    policy = RetryPolicy(first_delay=0.1, maximum_delay=5.0)
    whole = min(0.1 * 2 ** (attempt - 1), 5.0) if attempt < 100 else 5.0
    assert whole / 2 <= policy.delay(attempt, random.Random(seed)) <= whole


def test_the_same_seed_gives_the_same_delays() -> None:
    """Jitter comes from the generator it is given, from nowhere else."""
    policy = RetryPolicy()
    first, second = (
        [policy.delay(n, generator) for n in range(1, 20)] for generator in (random.Random(7), random.Random(7))
    )
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"deadline": 0}, "deadline is 0"),
        ({"deadline": math.nan}, "deadline is nan"),
        ({"deadline": math.inf}, "deadline is inf"),
        ({"attempts": 0}, "attempts is 0"),
        ({"patience": -1}, "patience is -1"),
        ({"patience": math.nan}, "patience is nan"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(arguments: dict[str, float], match: str) -> None:
    """A deadline of nothing, no attempt at all and negative patience are refused by name."""
    with pytest.raises(UsageError, match=match):
        RetryPolicy(**arguments)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0, 100))
def test_items_leave_in_the_order_they_are_due_and_never_before(dues: list[float], now: float) -> None:
    """At any moment exactly those that are due come out, soonest first."""
    waiting = Waiting()
    for item, due in enumerate(dues):
        waiting.push(Pending(due, item, b"", 0, 0, 0.0))
    left = []
    while (pending := waiting.pop(now)) is not None:
        left.append(pending.due)
    assert left == sorted(due for due in dues if due <= now)
    assert len(waiting) == sum(due > now for due in dues)


def test_what_had_no_answer_is_counted_while_it_waits() -> None:
    """In number and in memory, of those alone that had none."""
    waiting = Waiting()
    for item in range(4):
        waiting.push(Pending(float(item), item, bytes(1000), 0, 0, 0.0, unanswered=item % 2 == 1))
    assert (len(waiting), waiting.unanswered) == (4, 2)
    assert 2_000 < waiting.unanswered_bytes < 3_000
    while waiting.pop(9.0):
        pass
    assert (waiting.unanswered, waiting.unanswered_bytes) == (0, 0)
