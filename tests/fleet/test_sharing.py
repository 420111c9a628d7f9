"""One setting shared out to many launchers, and what they saw put together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.fleet.sharing import Share, Told, shares, together
from capacity.launcher.controller import Setting, Window

limits = st.integers(0, 2000)
launchers = st.integers(1, 64)


@given(limits, launchers)
def test_shares_of_a_limit_add_up_and_differ_by_at_most_one(limit: int, count: int) -> None:
    """Nothing of the limit is lost or invented, and nobody gets more than one above another."""
    got = [share.limit for share in shares(Setting(limit), count)]
    assert (len(got), sum(got)) == (count, limit)
    assert max(got) - min(got) <= 1


@given(st.integers(1, 2000), launchers, st.floats(0.1, 1e6))
def test_shares_of_a_schedule_add_up_and_go_to_those_who_may_start(limit: int, count: int, rate: float) -> None:
    """Starts are due only from launchers that may have one in flight, and all of them are due from somebody."""
    got = shares(Setting(limit, schedule=rate), count)
    assert sum(share.schedule or 0.0 for share in got) == pytest.approx(rate)
    assert all((share.schedule or 0.0) == 0.0 for share in got if share.limit == 0)


def test_nobody_to_share_with_gets_nothing() -> None:
    """A batch whose launchers are all gone has no shares, and no division by their number."""
    assert shares(Setting(8, schedule=3.0), 0) == []


def test_windows_of_launchers_add_up() -> None:
    """Answers, refusals and attempts in flight are summed; one launcher without a server is enough to say away."""
    seen = together([Window(0.1, 3, 2.0, 1), Window(0.1, 4, 1.5, 0, away=True)], 0.1)
    assert (seen.answered, seen.in_flight, seen.throttled, seen.away) == (7, 3.5, 1, True)


def test_a_launcher_keeps_to_its_share_and_paces_itself() -> None:
    """The limit is the share's; refusals of its own set a pace below what it was admitted."""
    told = Told(share=Share(4))
    assert told.step(None, 0.0).limit == 4
    told.share = Share(7, 20.0)
    assert (told.step(Window(0.1, 5, 7.0), 0.1).limit, told.step(Window(0.1, 5, 7.0), 0.2).schedule) == (7, 20.0)
    setting = Setting(0)
    for tick in range(100):
        setting = told.step(Window(0.1, 10, 7.0, throttled=5), 0.3 + tick / 10)
    assert setting.limit == 7
    assert setting.pace is not None
    assert 80 <= setting.pace <= 100
    told.share = Share(7, pace=50.0)
    assert told.step(Window(0.1, 5, 7.0), 11.0).pace == 50.0, "the whole batch's pace binds where it is lower"


@given(limits, launchers, st.floats(1, 1e6))
def test_shares_of_a_pace_add_up(limit: int, count: int, pace: float) -> None:
    """Together the launchers that may start anything keep to the pace of the batch."""
    got = shares(Setting(limit, pace), count)
    assert sum(share.pace or 0.0 for share in got) == pytest.approx(pace if limit else 0.0)


def test_refusals_of_its_own_hold_no_longer_than_the_whole_batchs_pace_takes() -> None:
    """Admitted 25/s of what four share, a launcher does not stay there once the others have gone and it is told so."""
    told = Told(share=Share(2))
    setting = told.step(None, 0.0)
    for tick in range(100):
        setting = told.step(Window(0.1, 3 - tick % 2, 2.0, throttled=5), 0.1 + tick / 10)
    assert setting.pace == pytest.approx(24.5, rel=0.15)
    told.share = Share(2, pace=24.0)
    for tick in range(50):
        setting = told.step(Window(0.1, 2, 2.0), 10.1 + tick / 10)
    assert setting.pace == pytest.approx(24.0)
    told.share = Share(8, pace=96.0)
    assert told.step(Window(0.1, 2, 2.0), 15.2).pace == pytest.approx(96.0)
    told.share = Share(8)
    assert told.step(Window(0.1, 2, 2.0), 15.3).pace is None, "nothing limits the batch any more"
    told.share = Share(8, pace=96.0)
    told.step(Window(0.1, 9, 8.0, throttled=9), 15.4)
    for tick in range(20):
        setting = told.step(Window(0.1, 9, 8.0, throttled=1), 15.5 + tick / 10)
    assert setting.pace is not None
    assert 80 < setting.pace < 96, "refused, it slows down before it is told to"
