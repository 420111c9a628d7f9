"""The fleet's simulation, which knows ranges only, against one that knows every start."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from capacity.model.fleet_simulation import Machinery, simulate
from capacity.model.queueing import closed, multi_server

SERVERS, SERVICE, DELAY = 4, 0.02, 0.03
"""A cluster: CPUs, mean CPU time of a start and mean time on the way [s], both exponential."""
HAND_OVER = 0.1


def start_by_start(count: int, processes: int, parallelism: int, size: int, seed: int) -> float:
    """Return the seconds of a batch whose starts all queue for the cluster's CPUs, first come first served."""
    chance = random.Random(seed)
    ticket = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    ranges = deque(min(size, count - first) for first in range(0, count, size))
    to_send, in_flight = [0] * processes, [0] * processes
    members = list(range(processes))
    waiting: deque[int] = deque()
    busy, now = 0, 0.0

    def after(seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(events, (now + seconds, next(ticket), then))

    def send(who: int) -> None:
        each, more = divmod(parallelism, len(members))
        share = each + (members.index(who) < more) if who in members else 0
        while to_send[who] and in_flight[who] < share:
            to_send[who] -= 1
            in_flight[who] += 1
            after(chance.expovariate(1 / DELAY), lambda: arrive(who))

    def arrive(who: int) -> None:
        waiting.append(who)
        serve()

    def serve() -> None:
        nonlocal busy
        while waiting and busy < SERVERS:
            busy += 1
            who = waiting.popleft()
            after(chance.expovariate(1 / SERVICE), lambda who=who: answer(who))

    def answer(who: int) -> None:
        nonlocal busy
        busy -= 1
        in_flight[who] -= 1
        serve()
        send(who)
        if not to_send[who] and not in_flight[who]:
            if ranges:
                after(HAND_OVER, lambda: take(who))
            else:
                leave(who)

    def take(who: int) -> None:
        if not ranges:
            leave(who)
            return
        to_send[who] = ranges.popleft()
        send(who)

    def leave(who: int) -> None:
        members.remove(who)
        for other in members:
            send(other)

    for process in range(processes):
        take(process)
    while events:
        now, _, then = heapq.heappop(events)
        then()
    return now


@pytest.mark.parametrize(
    ("processes", "parallelism", "size"),
    [(1, 2, 500), (1, 12, 500), (2, 7, 500), (4, 4, 250), (4, 24, 1000), (6, 40, 400), (5, 3, 700)],
)
def test_it_agrees_with_every_start_simulated(processes: int, parallelism: int, size: int) -> None:
    """5,000 starts take as long, within 3 %, where few are in flight, where the CPUs are full, and where some wait.

    The most is missed by one process alone, 2 %: the drain of a range, which the simulation has in its hand-over.
    """
    curve = closed([multi_server(SERVICE, SERVERS, 64)], DELAY).throughput
    truth = np.mean([start_by_start(5_000, processes, parallelism, size, seed) for seed in range(4)])
    found = simulate(
        curve.tolist(),
        count=5_000,
        processes=processes,
        parallelism=parallelism,
        size=size,
        machinery=Machinery(hand_over=HAND_OVER, told_after=0.0, gone_after=0.0),
    )
    assert found.seconds == pytest.approx(truth, rel=0.03)
