"""Closed networks against simulations that know nothing of the formulas.

Queues alone are simulated by ciw. Work after the answer, and locks held while CPUs are shared or a connection is waited
for, ciw cannot express: those are simulated here as Markov chains, jump by jump, with exponential times.
Seeds are fixed, so nothing here is left to chance; bounds are those of issue 7, or what was seen, rounded up.
"""

from __future__ import annotations

import functools
import math
import random
from collections import deque

import ciw
import numpy as np
import pytest

from capacity.model.network import Parameters, Structure, solve
from capacity.model.queueing import Closed, closed, multi_server, shadowed

SERVICE, DELAY = 0.006, 0.002
NETWORKS = [(8, 4), (8, 10), (8, 32), (32, 16), (32, 40), (32, 96), (128, 64), (128, 150), (128, 256)]
"""Servers and starts in flight: below, near and above as many as servers."""


@functools.cache
def by_ciw(servers: int, population: int) -> tuple[float, float, float]:
    """Throughput, p50 and p99 of the time of a round: a constant delay, then a queue, first come first served."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Sequential([1e-9, math.inf]), None],
        batching_distributions=[ciw.dists.Deterministic(population), ciw.dists.Deterministic(1)],
        service_distributions=[ciw.dists.Deterministic(DELAY), ciw.dists.Exponential(1 / SERVICE)],
        number_of_servers=[math.inf, servers],
        routing=[[0.0, 1.0], [1.0, 0.0]],
    )
    ciw.seed(servers + population)
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(15000 / min(population / (SERVICE + DELAY), servers / SERVICE))
    records = sorted((r for r in simulation.get_all_records() if r.node == 2), key=lambda r: float(r.exit_date))
    records = records[len(records) // 10 :]
    times = [record.waiting_time + record.service_time + DELAY for record in records]
    throughput = (len(records) - 1) / (records[-1].exit_date - records[0].exit_date)
    return float(throughput), float(np.quantile(times, 0.5)), float(np.quantile(times, 0.99))


def solved(servers: int, population: int) -> Closed:
    return closed([multi_server(SERVICE, servers, population)], DELAY)


@pytest.mark.parametrize(("servers", "population"), NETWORKS)
def test_throughput_of_many_servers_is_the_simulated_one(servers: int, population: int) -> None:
    """8 to 128 servers, below and above as many in flight: throughput within 2 %."""
    assert solved(servers, population).throughput[-1] == pytest.approx(by_ciw(servers, population)[0], rel=0.02)


@pytest.mark.parametrize(("servers", "population"), NETWORKS)
def test_the_median_response_is_the_simulated_one(servers: int, population: int) -> None:
    """The same networks: p50 within 5 %."""
    assert solved(servers, population).quantile(0.5, 0, [population])[0] == pytest.approx(
        by_ciw(servers, population)[1], rel=0.05
    )


@pytest.mark.parametrize(("servers", "population"), NETWORKS)
def test_the_slowest_responses_are_the_simulated_ones(servers: int, population: int) -> None:
    """The same networks: p99 within 15 %."""
    assert solved(servers, population).quantile(0.99, 0, [population])[0] == pytest.approx(
        by_ciw(servers, population)[2], rel=0.15
    )


def simulated(
    cpus: int, population: int, taken: Parameters, *, locks: int = 1, delay: float = 2e-4, jumps: int = 60000
) -> float:
    """Throughput of starts that work without a lock, then with one of `locks`, answer, and leave background work.

    All runnable work shares the CPUs.
    """
    draw = random.Random(cpus * 1000 + population).random
    unlocked = taken.cpu * (1 - taken.background) - taken.lock
    after = taken.cpu * taken.background
    outside, working, behind = population, 0, 0
    waiting, held = [0] * locks, []  # starts at each lock, its holder included; the locks that are held
    now = begun = 0.0
    answered = 0
    for jump in range(jumps):
        if jump == jumps // 5:  # the first fifth warms up
            begun, answered = now, 0
        runnable = working + len(held) + behind
        share = min(1.0, cpus / runnable) if runnable else 0.0
        rates = (
            outside / delay,
            working * share / unlocked,
            len(held) * share / taken.lock if taken.lock else 0.0,
            behind * share / after if after else 0.0,
        )
        total = sum(rates)
        now -= math.log(1 - draw()) / total
        which = draw() * total
        if which < rates[0]:
            outside, working = outside - 1, working + 1
        elif which < rates[0] + rates[1]:
            working -= 1
            if taken.lock:
                lock = int(draw() * locks)
                waiting[lock] += 1
                if waiting[lock] == 1:
                    held.append(lock)
                continue
            outside, behind, answered = outside + 1, behind + (after > 0), answered + 1
        elif which < rates[0] + rates[1] + rates[2]:
            at = int(draw() * len(held))
            waiting[held[at]] -= 1
            if not waiting[held[at]]:
                held[at] = held[-1]
                held.pop()
            outside, behind, answered = outside + 1, behind + (after > 0), answered + 1
        else:
            behind -= 1
    return answered / (now - begun)


def test_the_simulation_itself_is_right_where_the_answer_is_known() -> None:
    """Without background and locks it is the machine repairman with shared CPUs, which is solved exactly."""
    taken = Parameters(cpu=0.006, background=0.0, lock=0.0)
    exact = closed([multi_server(0.006, 4, 8)], 2e-3).throughput[-1]
    assert simulated(4, 8, taken, delay=2e-3) == pytest.approx(exact, rel=0.02)


def background_error(cpus: int, population: int, background: float) -> float:
    taken = Parameters(cpu=0.006, background=background, lock=0.0)
    after = taken.cpu * background
    rates = shadowed(taken.cpu - after, after, cpus, np.arange(1.0, population + 1))
    return float(closed([rates], 2e-4).throughput[-1]) / simulated(cpus, population, taken) - 1


@pytest.mark.parametrize("background", [0.2, 0.45, 0.7])
@pytest.mark.parametrize(("cpus", "population"), [(1, 1), (1, 4), (2, 2), (2, 8), (8, 8), (8, 32), (32, 32), (32, 128)])
def test_work_after_the_answer_with_as_many_in_flight_as_cpus(cpus: int, population: int, background: float) -> None:
    """From as many in flight as CPUs on, the approximation of background work is within 5 % of a simulation."""
    assert abs(background_error(cpus, population, background)) < 0.05


@pytest.mark.parametrize("background", [0.2, 0.45, 0.7])
@pytest.mark.parametrize(("cpus", "population"), [(2, 1), (8, 1), (8, 4), (32, 2), (32, 16)])
def test_work_after_the_answer_with_fewer_in_flight_than_cpus(cpus: int, population: int, background: float) -> None:
    """With fewer in flight than CPUs the approximation errs to the low side, by up to a third: idle CPUs take the
    background work, while it spreads it over all of them. It never promises what is not there."""
    assert -0.34 < background_error(cpus, population, background) < 0.03


def cluster_error(cpus: int, locks: int, population: int, background: float, hold: float) -> float:
    taken = Parameters(cpu=0.006, background=background, lock=0.006 * hold, other=2e-4, launcher=1e-9)
    predicted = solve(Structure(cpus=cpus, locks=locks), taken, population).throughput[-1]
    return float(predicted) / simulated(cpus, population, taken, locks=locks) - 1


@pytest.mark.parametrize(("background", "hold"), [(0.1, 0.4), (0.45, 0.2), (0.45, 0.4)])
@pytest.mark.parametrize(("cpus", "locks"), [(2, 4), (8, 16), (32, 64)])
def test_locks_that_do_not_bind(cpus: int, locks: int, background: float, hold: float) -> None:
    """Twice as many locks as CPUs and four times as many in flight: within 3 % of the simulation of both."""
    assert abs(cluster_error(cpus, locks, 4 * cpus, background, hold)) < 0.03


@pytest.mark.parametrize(("background", "hold"), [(0.1, 0.4), (0.45, 0.2), (0.45, 0.4), (0.45, 0.5)])
@pytest.mark.parametrize(("cpus", "locks", "population"), [(2, 1, 8), (2, 2, 2), (8, 1, 32), (8, 4, 32), (32, 4, 128)])
def test_locks_that_bind(cpus: int, locks: int, population: int, background: float, hold: float) -> None:
    """Where few locks bind, throughput is within 27 % below and 13 % above the simulation of locks and CPUs."""
    assert -0.27 < cluster_error(cpus, locks, population, background, hold) < 0.13


def pooled(
    connections: int, population: int, taken: Parameters, *, locks: int, delay: float = 2e-4, jumps: int = 60000
) -> float:
    """Throughput of starts that with their lock need a connection, and another one for work after their answer.

    Connections are given in the order of asking. CPUs do not bind.
    """
    draw = random.Random(connections * 1000 + population).random
    unlocked = taken.cpu * (1 - taken.background) - taken.lock
    outside, working, later = population, 0, 0
    waiting = [0] * locks  # starts at each lock, its holder included
    using: list[int] = []  # locks whose holders have a connection
    asking: deque[int | None] = deque()  # for a connection: locks, and None for work after an answer
    now = begun = 0.0
    answered = 0
    for jump in range(jumps):
        if jump == jumps // 5:  # the first fifth warms up
            begun, answered = now, 0
        while asking and len(using) + later < connections:
            lock = asking.popleft()
            if lock is None:
                later += 1
            else:
                using.append(lock)
        rates = (
            outside / delay,
            working / unlocked,
            len(using) / taken.lock,
            later / taken.later_connection if later else 0.0,
        )
        total = sum(rates)
        now -= math.log(1 - draw()) / total
        which = draw() * total
        if which < rates[0]:
            outside, working = outside - 1, working + 1
        elif which < rates[0] + rates[1]:
            working, at = working - 1, int(draw() * locks)
            waiting[at] += 1
            if waiting[at] == 1:
                asking.append(at)
        elif which < rates[0] + rates[1] + rates[2]:
            at = using.pop(int(draw() * len(using)))
            waiting[at] -= 1
            asking.extend([at] if waiting[at] else [])
            asking.extend([None] if taken.later_connection else [])
            outside, answered = outside + 1, answered + 1
        else:
            later -= 1
    return answered / (now - begun)


def pool_error(connections: int, population: int, locks: int, later: float) -> float:
    taken = Parameters(cpu=0.006, background=0.2, lock=0.004, later_connection=later, other=2e-4, launcher=1e-9)
    structure = Structure(cpus=1e6, locks=locks, connections=connections)
    return (
        float(solve(structure, taken, population).throughput[-1]) / pooled(connections, population, taken, locks=locks)
        - 1
    )


@pytest.mark.parametrize("later", [0.0, 0.002, 0.006])
@pytest.mark.parametrize("locks", [4, 64])
@pytest.mark.parametrize(("connections", "population"), [(1, 8), (2, 4), (4, 16), (16, 8), (16, 64)])
def test_a_pool_of_connections(connections: int, population: int, locks: int, later: float) -> None:
    """Few connections and many, used as long after the answer as before or not at all: within 7 % of the simulation."""
    assert abs(pool_error(connections, population, locks, later)) < 0.07


@pytest.mark.parametrize("connections", [1, 2, 4])
def test_a_lone_start_behind_its_own_later_work(connections: int) -> None:
    """With one connection a lone start waits for what the one before it left, by up to a fifth too long; with four not
    at all: the connection's time does not come on top of the lock's."""
    error = pool_error(connections, 1, 64, 0.004)
    assert -0.2 < error < 0.01
    assert connections < 4 or error > -0.02
