"""The controller of a fleet, from heartbeats to shares: on a fake clock and a fake cluster, no server."""

from __future__ import annotations

from dataclasses import replace

from capacity.fleet.conductor import GONE_AFTER, Beat, Conductor, controller_of, window_between
from capacity.launcher.controller import Fixed, OpenLoop


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
    assert window_between(first, beat("a", 2.0, answered=3, share=2)) is None, "another range"
    assert window_between(first, replace(first, at=0.5)) is None


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
