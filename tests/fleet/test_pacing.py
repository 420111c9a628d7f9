"""Launchers that share a namespace's limit, on a fake clock and a fake cluster: used to the full, and not beyond."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from capacity.fleet.conductor import MARGIN, Beat, Conductor, controller_of
from capacity.fleet.member import ASK, ASK_WHEN_PACED
from capacity.fleet.sharing import Told
from capacity.launcher.controller import Pace, Window

STEP, TICK, SERVICE = 0.02, 0.1, 0.02


@dataclass
class Launcher:
    """One launcher: told its share late, away for a moment between two ranges."""

    who: str
    told: Told = field(default_factory=lambda: Told(pace=Pace(MARGIN)))
    asks_at: float = 0.0
    beats_at: float = 0.0
    away_from: float = 5.0
    away_until: float = 0.0
    wanted: float = 0.0
    answered: int = 0
    refused: int = 0
    _before: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.setting = self.told.step(None, 0.0)

    def tick(self, now: float) -> None:
        answered, refused = self._before
        window = Window(TICK, self.answered - answered, self.setting.limit, self.refused - refused)
        self._before = self.answered, self.refused
        if now >= self.away_until:
            self.setting = self.told.step(window, now)


def shared(
    limit: float,
    ceiling: float,
    launchers: int,
    seed: int,
    *,
    raised: float = 1.0,
    seconds: float = 90.0,
    counted_from: float = 15.0,
) -> tuple[float, float]:
    """Starts over what the namespace allows, and refusals over starts, once the burst of two seconds is over.

    After 40 s the limit is `raised` times as high.
    """
    chance = random.Random(seed)
    tokens, at, looked, ticked = 2 * limit, 0.0, 1.0, 0.0
    conductor = Conductor(controller_of({"parallelism": "auto"}), 0.0)
    fleet = [
        Launcher(f"host-{i}", asks_at=chance.random(), beats_at=chance.random(), away_from=chance.uniform(1, 8))
        for i in range(launchers)
    ]
    beats: dict[str, Beat] = {}
    shares = conductor.shares
    early = (0, 0)
    while at < seconds:
        at += STEP
        if raised != 1.0 and at >= 40:
            limit, raised = limit * raised, 1.0
        tokens = min(tokens + limit * STEP, 2 * limit)
        here = [one for one in fleet if at >= one.away_until]
        whole = sum(one.setting.limit for one in here)
        for one in chance.sample(here, len(here)):
            rate = min(whole / SERVICE, ceiling) * one.setting.limit / max(whole, 1)
            rate = min(rate, one.setting.pace or rate)
            one.wanted += rate * STEP * chance.uniform(0.7, 1.3)
            for _ in range(int(one.wanted)):
                one.wanted -= 1
                if tokens >= 1:
                    tokens, one.answered = tokens - 1, one.answered + 1
                else:
                    one.refused += 1
        for one in fleet:
            if at >= one.away_from:
                one.away_until, one.away_from = at + chance.uniform(0.2, 0.6), at + chance.uniform(5.6, 10.4)
            if at >= one.beats_at:
                one.beats_at = at + 1.0
                limit_now = one.setting.limit
                beats[one.who] = Beat(
                    one.who, at, one.answered, one.refused, limit_now, limit_now, False, one.told.share.limit
                )
            if at >= one.asks_at:
                one.asks_at = at + (ASK if one.told.pace.rate is None else ASK_WHEN_PACED)
                one.told.share = shares.get(one.who, one.told.share)
        if at >= ticked + TICK:
            ticked = at
            for one in fleet:
                one.tick(at)
        if at >= looked + 1.0:
            looked = at
            shares = dict(conductor.look(list(beats.values()), at))
        if at < counted_from:
            early = sum(one.answered for one in fleet), sum(one.refused for one in fleet)
    answered = sum(one.answered for one in fleet) - early[0]
    return answered / (limit * (seconds - counted_from)), (sum(one.refused for one in fleet) - early[1]) / answered


@pytest.mark.parametrize("launchers", [2, 4, 8])
@pytest.mark.parametrize(("limit", "ceiling"), [(200, 300), (50, 120), (50, 2000), (200, 2000)])
def test_a_namespaces_limit_is_used_to_the_full_by_all_together(limit: float, ceiling: float, launchers: int) -> None:
    """Within 5 % of the limit and hardly more refused, on average; never far from it.

    What launchers leave unused between two ranges fills the bucket again, and a pace that rises meanwhile meets the
    limit seconds too late.
    """
    every = [shared(limit, ceiling, launchers, seed) for seed in range(3)]
    used, refused = (sum(one) / len(every) for one in zip(*every, strict=True))
    assert 0.95 <= used <= 1.02, every
    assert refused <= 0.055, every
    assert min(one for one, _ in every) >= 0.9, every


@pytest.mark.parametrize(
    ("limit", "ceiling", "launchers", "raised"), [(50, 1000, 4, 4), (50, 1000, 4, 8), (200, 400, 2, 4)]
)
def test_a_raised_limit_is_used_by_all_together(limit: float, ceiling: float, launchers: int, raised: float) -> None:
    """Within 100 s, also where the few in flight that fill the old one cannot fill the new, or the cluster gives less.

    Few attempts are refused on the way there, which goes in steps.
    """
    for seed in range(3):
        used, _ = shared(limit, ceiling, launchers, seed, raised=raised, seconds=180, counted_from=140)
        assert used * raised * limit >= 0.85 * min(raised * limit, ceiling)
        _, refused = shared(limit, ceiling, launchers, seed, raised=raised, seconds=180, counted_from=40)
        assert refused <= 0.06


@pytest.mark.parametrize("lowered", [0.8, 0.25])
def test_a_lowered_limit_is_kept_by_all_together(lowered: float) -> None:
    """Ten seconds after it fell no more than a tenth is refused, and it is used to the full."""
    for seed in range(3):
        used, refused = shared(200, 2000, 4, seed, raised=lowered, seconds=90, counted_from=50)
        assert 0.9 <= used <= 1.05
        assert refused <= 0.1


@pytest.mark.parametrize("launchers", [2, 8])
def test_what_does_not_limit_is_not_paced(launchers: int) -> None:
    """A cluster that gives less than the namespace allows is used as if there were no limit."""
    used, refused = shared(200, 120, launchers, 1)
    assert (used * 200 > 0.9 * 120, refused) == (True, 0.0)
