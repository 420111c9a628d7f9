"""Whose turn it is: items that wait and are due, and those not tried before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from capacity.launcher import outcome, turns
from capacity.launcher.outage import Outage
from capacity.launcher.retries import Pending
from capacity.launcher.turns import FRESH_TURNS, Turns


def bodies(count: int) -> Iterator[tuple[int, bytes | None]]:
    return ((index, b"body") for index in range(count))


def waiting(item: int, due: float = 0.0, *, unanswered: bool = False) -> Pending:
    return Pending(due, item, b"body", 0, 1, 0.0, unanswered)


def taken(some: Turns, count: int, now: float = 1.0) -> list[int | None]:
    found = [some.take(now, now) for _ in range(count)]
    return [one.item if one else None for one in found]


def test_what_is_due_comes_before_what_was_not_tried() -> None:
    some = Turns(bodies(2), [], Outage())
    some.put_back(waiting(100, due=1.0))
    some.put_back(waiting(101, due=5.0))
    assert some.due(1.0)
    assert taken(some, 4) == [100, 0, 1, None]
    assert (some.exhausted, some.empty, some.pause(1.0)) == (True, False, 4.0)
    assert taken(some, 1, now=5.0) == [101]
    assert some.empty


def test_with_many_refused_none_is_begun() -> None:
    some = Turns(bodies(9), [], Outage())
    some.limit = 20
    for item in range(100, 120):
        some.put_back(waiting(item, due=3.0 if item == 100 else 9.0))
    assert (taken(some, 1), some.pause(1.0)) == ([None], 2.0)
    assert taken(some, 2, now=3.0) == [100, 0], "one that is tried again leaves room for one that is begun"


def test_after_an_item_that_nobody_answers_once_more_others_have_three_turns() -> None:
    some = Turns(bodies(9), [], Outage())
    some.limit = 64
    for item in range(100, 105):
        some.put_back(waiting(item, unanswered=True))
    some.unanswered_again()
    assert not some.due(1.0)
    assert taken(some, FRESH_TURNS + 2) == [0, 1, 2, 100, 101]


def test_items_that_nobody_answers_have_a_quarter_of_the_places() -> None:
    some = Turns(bodies(9), [], Outage())
    some.limit = 8
    for item in range(100, 105):
        some.put_back(waiting(item, unanswered=True))
    assert taken(some, 4) == [100, 101, 0, 1]
    some.again_in_flight -= 1  # one of them is answered, or falls due again
    assert taken(some, 2) == [102, 2]


def test_memory_bounds_what_nobody_answers_and_then_only_these_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_UNANSWERED", 1000)
    some = Turns(bodies(9), [], Outage())
    some.limit = 4
    for item in range(100, 110):
        some.put_back(waiting(item, unanswered=True))
    some.unanswered_again()
    assert taken(some, 3) == [100, 101, 102]


def test_in_an_outage_every_other_probe_is_an_item_not_tried_before() -> None:
    outage = Outage()
    some = Turns(bodies(9), [], outage)
    some.put_back(waiting(100, unanswered=True))
    some.put_back(waiting(101, unanswered=True))
    now = 0.0
    found = []
    for item in range(3):
        outage.failed(item, now)
    for _ in range(4):
        now = outage.until
        (one,) = taken(some, 1, now)
        assert one is not None
        found.append(one)
        outage.sent(one)
        outage.failed(one, now)
        some.put_back(waiting(one, due=now + 100, unanswered=True))
    assert [item >= 100 for item in found] == [False, True, False, True]


def test_at_the_end_and_in_an_outage_nothing_waits_for_others() -> None:
    """With no other item left those that nobody answers have all turns; in an outage one not tried before probes."""
    outage = Outage()
    some = Turns(bodies(1), [], outage)
    some.limit = 4
    for item in range(100, 103):
        some.put_back(waiting(item, unanswered=True))
    some.unanswered_again()
    assert (taken(some, 2), some.exhausted) == ([0, None], True)
    assert (some.pause(1.0), taken(some, 3)) == (0.0, [100, 101, 102])
    many = Turns(bodies(9), [], outage)
    for item in range(100, 120):
        many.put_back(waiting(item, due=9.0))
    assert (many.pause(1.0), taken(many, 1)) == (8.0, [None])
    for item in range(3):
        outage.failed(item, 1.0)
    assert outage.asks_fresh
    assert (many.pause(1.0), taken(many, 1)) == (0.0, [0])


def test_lines_that_are_no_items_are_noted_and_leave_others_their_time() -> None:
    others: list[tuple[int, int]] = []
    some = Turns(((index, None) for index in range(1500)), others, Outage())
    assert (taken(some, 1), some.pause(1.0), some.exhausted) == ([None], 0.0, False)
    assert (taken(some, 1), some.exhausted, some.empty) == ([None], True, True)
    assert others == [(index, outcome.BAD_ITEM) for index in range(1500)]
