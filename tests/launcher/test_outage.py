"""When no server answers and when it is asked again, on a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from capacity.launcher.outage import Outage


def test_three_unanswered_attempts_in_a_row_are_an_outage() -> None:
    """One or two lost attempts are none, and an answer in between begins the count anew."""
    outage = Outage()
    assert [outage.failed(0, 0.0), outage.failed(1, 0.0)] == [False, False]
    outage.succeeded()
    assert [outage.failed(0, 1.0), outage.failed(1, 2.0), outage.failed(2, 3.0)] == [False, False, True]
    assert outage.since == 1.0


def test_probes_of_a_lost_server_grow_rare_but_not_rarer_than_their_maximum() -> None:
    """While nothing answers the next probe is put off by 0.1 s, 0.2 s, ... up to 2 s."""
    outage, now, gaps = Outage(), 0.0, []
    for _ in range(2):
        outage.failed(0, now)
    for _ in range(8):
        outage.failed(0, now)
        gaps.append(outage.until - now)
        now = outage.until
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])


def test_many_attempts_lost_at_once_put_the_probe_off_only_once() -> None:
    """512 attempts that fail with the same lost connection do not double the backoff 512 times."""
    outage = Outage()
    for item in range(512):
        outage.failed(item, 5.0)
    assert outage.until == pytest.approx(5.1)


def test_a_new_outage_begins_with_short_gaps_again() -> None:
    """Once the server has answered, the next outage is probed as soon as the first was."""
    outage = Outage()
    for now in range(20):
        outage.failed(0, float(now))
    outage.succeeded()
    assert not outage.active
    for _ in range(3):
        outage.failed(0, 100.0)
    assert outage.until == pytest.approx(100.1)
    assert outage.since == 100.0


def test_while_one_item_probes_all_others_wait_until_it_is_answered() -> None:
    """Lost answers of other items, still under way when the outage began, do not free the place of the probe."""
    outage = Outage()
    outage.sent(0)
    assert not outage.probing  # no outage: many may be under way
    for item in range(3):
        outage.failed(item, 0.0)
    assert not outage.probing
    outage.sent(7)
    outage.failed(3, 0.0)
    assert outage.probing
    outage.failed(7, 0.1)
    assert outage.active
    assert not outage.probing
    outage.sent(8)
    assert outage.succeeded()
    assert not outage.active
    assert not outage.succeeded()  # nobody waited for this one


def test_a_late_answer_frees_those_that_waited_for_a_probe_that_has_failed() -> None:
    """While no item is due there is no next probe: those that waited for the last one are freed all the same."""
    outage = Outage()
    for item in range(3):
        outage.failed(item, 0.0)
    outage.sent(7)
    outage.failed(7, 0.1)
    assert not outage.probing
    assert outage.succeeded()


def test_a_server_may_be_away_for_as_long_as_patience_allows() -> None:
    """Hours of probes every two seconds are no number that grows without end."""
    outage, now = Outage(), 0.0
    for item in range(3000):
        now = max(now, outage.until)
        outage.failed(item, now)
    assert outage.until - now == outage.maximum_delay


def test_every_other_probe_is_an_item_that_was_not_tried_before() -> None:
    """Of those that were all may be of a shard that is away, of those that were not all may fail once."""
    outage, asked = Outage(), []
    for item in range(3):
        outage.failed(item, 0.0)
    for item in range(3, 8):
        asked.append(outage.asks_fresh)
        outage.failed(item, outage.until)
    assert asked == [True, False, True, False, True]
    outage.succeeded()
    assert not outage.asks_fresh


def test_an_answer_within_the_pause_before_a_probe_ends_the_outage() -> None:
    """The pause is for one: others wait for it, and an attempt that is answered late frees them at once."""

    async def pause() -> tuple[bool, bool]:
        outage = Outage()
        for item in range(3):
            outage.failed(item, 0.0)
        waiting = asyncio.create_task(outage.pause(0.0))
        await asyncio.sleep(0)
        held, freed = outage.probing, outage.succeeded()
        await waiting
        assert not outage.probing
        return held, freed

    assert asyncio.run(pause()) == (True, True)
