"""The controller of a fleet, from heartbeats to shares: on a fake clock and a fake cluster, no server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from capacity.fleet import conductor as module
from capacity.fleet import member as members
from capacity.fleet.conductor import COMING, GONE_AFTER, INTERVAL, Beat, Conductor, controller_of, window_between
from capacity.fleet.sharing import Share, Told
from capacity.launcher.controller import Fixed, OpenLoop, Setting, Window


def beat(
    who: str, at: float, answered: int = 0, share: int = 1, throttled: int = 0, in_flight: int | None = None
) -> Beat:
    return Beat(who, at, answered, throttled, share if in_flight is None else in_flight, share, False, share)


def test_a_launcher_that_joins_or_leaves_changes_the_shares_of_all() -> None:
    """Eight in flight are one launcher's, then two share them, then the one that is left has all again."""
    conductor = Conductor(Fixed(8), 0.0)
    assert {who: share.limit for who, share in conductor.look([beat("a", 1)], 1.0).items()} == {"a": 8}
    both = conductor.look([beat("a", 2, share=8), beat("b", 1)], 2.0)
    assert {who: share.limit for who, share in both.items()} == {"a": 4, "b": 4}
    still = conductor.look([beat("a", 3, share=4)], 2.0 + GONE_AFTER / 2)  # b is between two ranges
    assert set(still) == {"a", "b"}
    alone = conductor.look([beat("a", 5, share=4)], 3.0 + GONE_AFTER)
    assert {who: share.limit for who, share in alone.items()} == {"a": 8}


class Clock:
    """Time that passes only while somebody sleeps; `stop` after so many seconds."""

    def __init__(self, stop: float) -> None:
        self.now, self.stop = 0.0, stop

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.stop:
            raise asyncio.CancelledError


def test_who_comes_with_the_batch_is_told_within_the_first_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the begin a launcher is seen and told before a usual look would come; then there is a look a second."""
    clock, comes = Clock(5.0), {"a": 0.3, "b": 0.6}
    told: list[tuple[float, set[str]]] = []
    looks: list[float] = []

    async def described(*_: Any) -> Any:
        looks.append(clock.now)
        return SimpleNamespace(workflow_execution_info=SimpleNamespace(status=module.RUNNING))

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "asyncio", clock)
    monkeypatch.setattr(module, "described", described)
    monkeypatch.setattr(
        module, "beats_of", lambda _: [("", beat(who, clock.now)) for who, at in comes.items() if clock.now >= at]
    )
    monkeypatch.setattr(
        module, "activity", SimpleNamespace(heartbeat=lambda said: told.append((clock.now, set(said["shares"]))))
    )
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(module.conduct(None, "w", {"parallelism": 8}))  # type: ignore[arg-type]
    early = [(at, who) for at, who in told if at < COMING]
    assert [who for _, who in early] == [set(), {"a"}, {"a", "b"}]
    assert early[-1][0] < INTERVAL
    late = [at for at in looks if at >= COMING]
    assert {after - before for before, after in pairwise(late)} == {INTERVAL}
    assert [at for at, _ in told if at >= COMING] == late


def test_a_launcher_without_a_share_looks_for_it_soon_and_then_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three looks in the first second, one a second from when it has its share, or has waited for long."""
    clock, at = Clock(12.0), list[float]()

    async def shares(*_: Any) -> dict[str, Share] | None:
        at.append(clock.now)
        return {one._who: Share(4)} if clock.now > comes else None

    one = members.Member(None, None)  # type: ignore[arg-type]
    monkeypatch.setattr(members, "asyncio", clock)
    monkeypatch.setattr(members, "told_shares", shares)
    for comes, most in ((0.5, 3), (99.0, 4)):
        clock.now = 0.0
        at.clear()
        told = Told()
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(one._follow("w", told))
        assert 3 <= sum(look < 1.0 for look in at) <= most
        assert told.share.limit == (4 if comes < 1 else 0)
        assert at[-1] - at[-2] == members.ASK


def test_a_rate_is_due_once_from_the_whole_fleet() -> None:
    """Three launchers of a fleet at 90/s owe 30/s each."""
    conductor = Conductor(OpenLoop(90.0, 12), 0.0)
    told = conductor.look([beat(who, 1) for who in "abc"], 1.0)
    assert [(share.limit, share.schedule) for share in told.values()] == [(4, 30.0)] * 3


def test_seconds_under_an_older_share_tell_the_controller_nothing() -> None:
    """Only a window within one range and one share counts; one that began under another share is left out."""
    first = beat("a", 1.0, answered=10, share=2)
    assert window_between(first, beat("a", 2.0, answered=40, share=2)).answered == 30  # type: ignore[union-attr]
    assert window_between(first, beat("a", 2.0, answered=40, share=4)) is None
    assert window_between(first, beat("a", 2.0, answered=3, share=2)) is None, "another launcher of that name"
    assert window_between(first, replace(first, at=0.5)) is None


def test_the_first_heartbeat_of_a_range_at_the_heels_of_another_makes_no_rate() -> None:
    """Two answers in 0.6 ms are no 3,300/s: the next window goes back to the heartbeat before."""
    conductor = Conductor(Fixed(4), 0.0)
    seen: list[Window] = []
    step = conductor._controller.step

    def noted(window: Window | None, now: float) -> Setting:
        if window is not None:
            seen.append(window)
        return step(window, now)

    conductor._controller.step = noted  # type: ignore[method-assign]
    for at, answered in ((1.0, 40), (2.0, 80), (2.0006, 82), (3.0, 120), (3.1, 124), (4.0, 160)):
        conductor.look([beat("a", at, answered, share=4)], at)
    assert [window.answered for window in seen] == [40, 40, 40]


class FakeCluster:
    """Launchers on a cluster that gives so much at most, each start taking 20 ms when it is not full."""

    def __init__(self, ceiling: float, launchers: int) -> None:
        self.ceiling = ceiling
        self.told = dict.fromkeys((f"host-{i}" for i in range(launchers)), 1)
        self.answered = dict.fromkeys(self.told, 0.0)

    def second(self, at: float) -> list[Beat]:
        whole = sum(self.told.values())
        rate = min(whole / 0.02, self.ceiling)
        for who, limit in self.told.items():
            self.answered[who] += rate * limit / max(whole, 1)
        return [beat(who, at, int(self.answered[who]), limit) for who, limit in self.told.items()]


def test_auto_finds_the_knee_of_the_whole_fleet() -> None:
    """Four launchers settle together near the 8 in flight that fill a cluster of 400/s, far from 512 each."""
    cluster, conductor = FakeCluster(400.0, 4), Conductor(controller_of({"parallelism": "auto"}), 0.0)
    limits = []
    for second in range(1, 120):
        told = conductor.look(cluster.second(float(second)), float(second))
        cluster.told = {who: share.limit for who, share in told.items()}
        assert sum(cluster.told.values()) == conductor.setting.limit
        limits.append(conductor.setting.limit)
    assert 8 <= sorted(limits[60:])[30] <= 16, "probes aside"


def test_auto_with_fewer_starts_than_launchers_leaves_some_without() -> None:
    """A cluster that one start in flight fills is not given one for each of eight launchers."""
    cluster, conductor = FakeCluster(50.0, 8), Conductor(controller_of({"parallelism": "auto"}), 0.0)
    for second in range(1, 120):
        told = conductor.look(cluster.second(float(second)), float(second))
        cluster.told = {who: share.limit for who, share in told.items()}
    assert sum(cluster.told.values()) <= 6
