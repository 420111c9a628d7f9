"""The controllers as dialogues of windows and settings, and against simulated clusters."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from capacity.launcher.controller import Controller, Fixed, OpenLoop, Pace, Setting, Window
from capacity.launcher.knee import Auto

TICK = 0.1


@dataclass
class Cluster:
    """A closed queueing network: a delay, then `servers` that take `service` seconds each, with stalls now and then."""

    service: float
    servers: int
    delay: float = 0.0
    noise: float = 0.5
    stall_every: float = 0.0
    stall: float = 0.0
    admitted: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def service_time(self) -> float:
        return self.service * (1 - self.noise + 2 * self.noise * self.random.random())


@dataclass
class Outcome:
    """What a simulated launch saw, start by start."""

    finished: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    throttled: list[float] = field(default_factory=list)
    settings: list[tuple[float, Setting]] = field(default_factory=list)

    def rate(self, begin: float, end: float) -> float:
        return sum(begin <= t < end for t in self.finished) / (end - begin)

    def p99(self, begin: float = 0.0, end: float = 1e9) -> float:
        chosen = sorted(x for t, x in zip(self.finished, self.latencies, strict=True) if begin <= t < end)
        return chosen[len(chosen) * 99 // 100]

    def limit_at(self, moment: float) -> int:
        return [setting.limit for t, setting in self.settings if t <= moment][-1]


def simulate(
    controller: Controller, cluster: Cluster, seconds: float, change: Callable[[Cluster, float], None] | None = None
) -> Outcome:
    """Run a controller against a cluster on a clock of its own."""
    seen = Outcome()
    setting = controller.step(None, 0.0)
    seen.settings.append((0.0, setting))
    free = [0.0] * cluster.servers
    heapq.heapify(free)
    running: list[tuple[float, float, bool]] = []  # (answer, sent, refused)
    tokens, filled, pace_next, sent_total = 2 * cluster.admitted, 0.0, 0.0, 0
    now, tick = 0.0, TICK
    answered = refused = 0
    stalled_until = 0.0
    next_stall = cluster.stall_every or float("inf")

    def send(at: float) -> None:
        nonlocal tokens, filled, sent_total
        sent_total += 1
        if cluster.admitted:
            tokens = min(2 * cluster.admitted, tokens + (at - filled) * cluster.admitted)
            filled = at
            if tokens < 1:
                heapq.heappush(running, (at + 0.002, at, True))
                return
            tokens -= 1
        while len(free) < cluster.servers:
            heapq.heappush(free, at)
        while len(free) > cluster.servers:
            free.remove(max(free))
            heapq.heapify(free)
        begin = max(heapq.heappop(free), at + cluster.delay, stalled_until)
        end = begin + cluster.service_time()
        heapq.heappush(free, end)
        heapq.heappush(running, (end, at, False))

    while now < seconds:
        while len(running) < setting.limit and (setting.pace is None or pace_next <= now):
            if setting.pace is not None:
                pace_next = max(pace_next, now - TICK) + 1 / setting.pace
            send(now)
        upcoming = [tick]
        if running:
            upcoming.append(running[0][0])
        if setting.pace is not None and len(running) < setting.limit:
            upcoming.append(pace_next)
        now = min(upcoming)
        if now >= next_stall:
            stalled_until = now + cluster.stall * cluster.random.random() * 2
            next_stall = now + cluster.stall_every * cluster.random.random() * 2
        while running and running[0][0] <= now:
            end, sent, no = heapq.heappop(running)
            if no:
                refused += 1
                seen.throttled.append(end)
            else:
                answered += 1
                seen.finished.append(end)
                seen.latencies.append(end - sent)
        if now >= tick:
            if change:
                change(cluster, now)
            setting = controller.step(Window(TICK, answered, len(running), refused), now)
            seen.settings.append((now, setting))
            answered = refused = 0
            tick += TICK
    return seen


def dialogue(controller: Controller, windows: list[Window]) -> list[Setting]:
    """Return the settings that windows of a tick each lead to."""
    settings = [controller.step(None, 0.0)]
    settings += [controller.step(window, TICK * (i + 1)) for i, window in enumerate(windows)]
    return settings


def by_windows(curve: Callable[[int, float], float], seed: int, seconds: float = 13.0) -> list[tuple[float, int, int]]:
    """Answers of each window of `Auto` where the throughput wanders by 6 % over seconds, as a shared machine's does.

    Parameters
    ----------
    curve : callable
        Throughput by limit and second.

    Returns
    -------
    list of (second, limit, answers)
    """
    dice, auto, wander = random.Random(seed), Auto(), 0.0
    setting, seen = auto.step(None, 0.0), []
    for tick in range(1, round(seconds / TICK) + 1):
        wander += -wander * TICK / 3 + 0.06 * math.sqrt(2 * TICK / 3) * dice.gauss(0, 1)
        expected = curve(setting.limit, tick * TICK) * math.exp(wander) * TICK
        answered = max(0, round(dice.gauss(expected, math.sqrt(expected))))
        seen.append((tick * TICK, setting.limit, answered))
        setting = auto.step(Window(TICK, answered, setting.limit, 0), tick * TICK)
    return seen


POSTGRES = {1: 168, 2: 175, 3: 188, 4: 242, 8: 259, 16: 250, 64: 260, 512: 260}
"""Starts/s by starts in flight of a real one (benchmarks/knee.py): 2 for 1 buy little, 4 for 2 much."""


def test_auto_is_not_taken_in_by_a_first_doubling_without_gain() -> None:
    """On PostgreSQL's curve, with the noise of a shared machine, 9 of 10 launches get 0.8 of the best, half 0.93."""

    def curve(limit: int, _: float) -> float:
        low, high = max(p for p in POSTGRES if p <= limit), min(p for p in POSTGRES if p >= limit)
        share = math.log(limit / low) / math.log(high / low) if high > low else 0.0
        return POSTGRES[low] + share * (POSTGRES[high] - POSTGRES[low])

    shares = sorted(sum(n for *_, n in by_windows(curve, seed)) / 13 / 260 for seed in range(40))
    assert shares[4] >= 0.8
    assert shares[20] >= 0.93


def test_auto_climbs_after_a_cluster_that_grew_whatever_the_noise() -> None:
    """Three times the servers at second 6: from second 11 on 9 of 10 launches have 0.88 of what they give."""

    def grown(limit: int, second: float) -> float:
        return min(50.0 * limit, 400.0 if second < 6 else 1200.0)

    rates = sorted(sum(n for t, _, n in by_windows(grown, seed, 15) if t > 11) / 4 for seed in range(40))
    assert rates[4] >= 0.88 * 1200


def test_fixed_keeps_its_limit() -> None:
    """A fixed parallelism stays what the user asked for, whatever the cluster does."""
    windows = [Window(TICK, answered, 8, throttled) for answered in (40, 0, 3) for throttled in (0, 5)]
    assert {setting.limit for setting in dialogue(Fixed(8), windows)} == {8}


def test_fixed_is_paced_once_throttled() -> None:
    """Throttling slows even a fixed parallelism down: to just under the rate that was admitted."""
    settings = dialogue(Fixed(8), [Window(TICK, 20, 8, 30)] * 12)
    assert settings[1].pace is None
    assert settings[-1].pace == pytest.approx(200 * 0.98)


def test_open_loop_keeps_its_schedule() -> None:
    """An open loop's schedule does not depend on the answers."""
    settings = dialogue(OpenLoop(300, maximum=64), [Window(TICK, 0, 64)] * 5 + [Window(TICK, 60, 10)] * 5)
    assert {(setting.schedule, setting.limit) for setting in settings} == {(300, 64)}


def test_pace_ignores_the_burst() -> None:
    """The admitted rate is measured after the token bucket has run dry, not over the burst before it."""
    pace = Pace()
    assert [pace.step(Window(TICK, 400, 8), TICK), pace.step(Window(TICK, 300, 8, 10), 2 * TICK)] == [None, None]
    for tick in range(3, 9):
        rate = pace.step(Window(TICK, 20, 8, 20), tick * TICK)
    assert rate == pytest.approx(196)


@pytest.mark.parametrize(("raised", "highest"), [(1.0, 125.0), (4.0, 750.0)])
def test_a_bucket_that_filled_again_is_no_raised_limit(raised: float, highest: float) -> None:
    """What 20 s at 90/s leave of 100/s lasts for seconds beyond it: until then the pace is at most a quarter above.

    Where the limit is four times as high it is found within a minute from then on.
    """
    pace, tokens = Pace(0.04, prompt=True), 0.0
    rate = pace.step(Window(1.0, 100, 4, 50), 0.0)
    for second in range(1, 81):
        assert rate is not None
        limit = 100.0 if second <= 20 else 100.0 * raised
        sent = round(min(rate, 90.0) if second <= 20 else rate)
        admitted = min(sent, int(tokens + limit))
        tokens = min(tokens + limit - admitted, 2 * limit)
        rate = pace.step(Window(1.0, admitted, 4, sent - admitted), float(second))
        if sent > admitted:
            break
        assert rate is not None
        assert rate <= highest
    assert sent > admitted, "it met the limit"


def test_a_pace_is_not_dropped_while_launchers_that_were_refused_hold_back() -> None:
    """The first pace was too high by the rest of a burst: what holds them back shows nothing of the cluster."""
    pace = Pace(0.04, prompt=True)
    pace.step(Window(1.0, 90, 4, 5), 0.0)
    rates = [pace.step(Window(1.0, 47, 4), 1.0 + second) for second in range(12)]
    assert rates[6] is not None
    assert rates[-1] is None


@pytest.mark.slow
def test_a_lifted_limit_is_found_where_few_in_flight_cannot_fill_the_pace() -> None:
    """20/s were admitted to 16 servers of 50 ms; then all is, and what held the launch to a few in flight lets go."""

    def lifted(cluster: Cluster, now: float) -> None:
        if now > 15:
            cluster.admitted = 0.0

    seen = simulate(Auto(), Cluster(0.05, 16, admitted=20), 100, lifted)
    assert seen.rate(90, 100) >= 0.9 * 16 / 0.05


@pytest.mark.parametrize("prompt", [False, True])
def test_hours_without_a_refusal_are_no_error(prompt: bool) -> None:
    """A process that was stopped for hours, or a launcher of a fleet that is told its pace, sees none for as long."""
    pace = Pace(prompt=prompt)
    for hour in range(0, 8, 2):
        pace.rate = 100.0  # told anew, as `Told` does
        rates = [pace.step(Window(1.0, 100, 8), 3600.0 * hour + second) for second in range(3)]
        assert None not in rates
        pace.step(Window(7200.0, 720_000, 8), 3600.0 * (hour + 2))


def test_pace_is_dropped_when_it_no_longer_binds() -> None:
    """A pace that the starts stay well below for three seconds is lifted."""
    pace = Pace(rate=1000)
    rates = [pace.step(Window(TICK, 10, 2), tick * TICK) for tick in range(40)]
    assert rates[5] is not None
    assert rates[-1] is None


@pytest.mark.slow
@pytest.mark.parametrize("maximum", [1, 2, 7, 512])
def test_auto_stays_within_its_maximum(maximum: int) -> None:
    """Auto never has more in flight than --max-in-flight, and never less than one."""
    seen = simulate(Auto(maximum), Cluster(service=0.005, servers=64), 12)
    limits = {setting.limit for _, setting in seen.settings}
    assert min(limits) >= 1
    assert max(limits) <= maximum


CLUSTERS = {
    "one slow core with stalls": lambda: Cluster(0.0025, 1, delay=0.0004, stall_every=0.35, stall=0.025),
    "two cores": lambda: Cluster(0.0058, 2, delay=0.0008, stall_every=0.5, stall=0.012),
    "32 cores": lambda: Cluster(0.006, 32, delay=0.001),
    "16 servers without noise": lambda: Cluster(0.005, 16, noise=0.0),
    "four cores far away": lambda: Cluster(0.006, 4, delay=0.03),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLUSTERS)
def test_auto_finds_the_knee(name: str) -> None:
    """Once it has looked around, auto gets 0.92 of the best throughput at no more than about twice the knee's p99."""
    begin, end = 6.0, 20.0
    fixed = {p: simulate(Fixed(p), CLUSTERS[name](), end) for p in (1, 2, 4, 8, 16, 32, 64, 128)}
    best = max(seen.rate(begin, end) for seen in fixed.values())
    knee = min(p for p, seen in fixed.items() if seen.rate(begin, end) >= 0.95 * best)
    auto = simulate(Auto(), CLUSTERS[name](), end)
    assert auto.rate(begin, end) >= 0.92 * best
    assert auto.p99(begin, end) <= 2.1 * fixed[knee].p99(begin, end)


def wandering(sigma: float, seconds: float, seed: int) -> Callable[[Cluster, float], None]:
    """A shared machine: the service time wanders by e^sigma and forgets in so many seconds where it was."""
    chance, keeps, at = random.Random(seed), math.exp(-TICK / seconds), [0.0]

    def change(cluster: Cluster, now: float) -> None:
        at[0] = keeps * at[0] + math.sqrt(1 - keeps**2) * chance.gauss(0, sigma)
        cluster.service = 0.012 * math.exp(at[0])

    return change


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("sigma", "seconds"), [(0.2, 0.5), (0.4, 0.5), (0.4, 3), (0.6, 2)])
def test_auto_is_not_carried_away_by_a_noisy_machine(sigma: float, seconds: float, seed: int) -> None:
    """Where throughput wanders by far more than a limit is worth, auto is not carried to hundreds in flight.

    Its throughput is at least 0.93 of the knee's, its limit at most 48 in the median where 3 fill the cluster, its p99
    within 20 times the knee's. If a lucky probe were enough it would climb on, for a lower limit never shows then that
    it is no worse.
    """
    fixed = simulate(Fixed(3), Cluster(0.012, 2), 60, wandering(sigma, seconds, seed))
    auto = simulate(Auto(), Cluster(0.012, 2), 60, wandering(sigma, seconds, seed))
    assert auto.rate(0, 60) >= 0.93 * fixed.rate(0, 60)
    assert auto.p99(10) <= 20 * fixed.p99(10)
    limits = sorted(auto.limit_at(moment) for moment in range(20, 60))
    assert limits[20] <= 48


def steps(**changes: float) -> Callable[[Cluster, float], None]:
    def change(cluster: Cluster, now: float) -> None:
        if now > 8:
            for name, value in changes.items():
                setattr(cluster, name, value)

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "delay", "best"),
    [
        ({"service": 0.020}, 0.0, 16 / 0.020),
        ({"servers": 4}, 0.0, 4 / 0.005),
        ({"servers": 64}, 0.0, 64 / 0.005),
        ({"service": 0.001}, 0.005, 16 / 0.001),
    ],
)
def test_auto_follows_a_step(changes: dict[str, float], delay: float, best: float) -> None:
    """When the cluster gets slower, smaller, larger or faster, auto is near the new best within five seconds."""
    seen = simulate(Auto(), Cluster(0.005, 16, delay=delay, noise=0.0), 18, steps(**changes))
    assert seen.rate(13, 18) >= 0.9 * best


@pytest.mark.slow
@pytest.mark.parametrize("controller", [Auto, lambda: Fixed(64), lambda: Fixed(8)])
@pytest.mark.parametrize("admitted", [200, 1000])
def test_throttling_is_honoured(controller: Callable[[], Controller], admitted: int) -> None:
    """Behind a token bucket the steady rate is the bucket's within 5 %, and at most 5 % of the attempts are refused."""
    service = 0.3 / admitted
    seen = simulate(controller(), Cluster(service, 1, delay=0.0004, noise=0.4, admitted=admitted), 30)
    assert seen.rate(10, 30) == pytest.approx(admitted, rel=0.05)
    refused = sum(moment >= 10 for moment in seen.throttled)
    assert refused <= 0.05 * sum(moment >= 10 for moment in seen.finished)


def test_a_raised_limit_is_found() -> None:
    """When the namespace's limit is doubled, the pace gets there within three quarters of a minute."""

    def doubled(cluster: Cluster, now: float) -> None:
        if now > moment:
            cluster.admitted = 400

    for moment in (15, 19, 23):
        seen = simulate(Auto(), Cluster(0.001, 1, noise=0.4, admitted=200), moment + 60, doubled)
        assert seen.rate(moment + 45, moment + 60) >= 0.9 * 400


def test_the_ramp_waits_for_a_first_answer() -> None:
    """A cluster that takes five seconds for its first start has shown nothing by then, least of all a knee."""
    auto = Auto(64)
    for tick in range(50):
        setting = auto.step(Window(TICK, 0, 1, 0), tick * TICK)
    assert (setting.limit, setting.reason) == (1, "finding the knee")
    for tick in range(50, 100):
        setting = auto.step(Window(TICK, 100 * setting.limit, setting.limit, 0), tick * TICK)
    assert setting.limit > 8
