"""Closed networks against exact results: formulas, enumeration of every state, laws that hold for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.model import queueing
from capacity.model.network import Parameters, Structure, active_starts, solve
from capacity.model.queueing import Floats, closed, multi_server, separate_queues

EXACT = 1e-9

demands = st.floats(min_value=1e-4, max_value=10)
servers = st.integers(min_value=1, max_value=20)
delays = st.floats(min_value=0, max_value=10)
populations = st.integers(min_value=1, max_value=60)
stations = st.lists(st.tuples(demands, servers), min_size=1, max_size=4)


def network(described: Sequence[tuple[float, int]], delay: float, population: int) -> queueing.Closed:
    return closed([multi_server(demand, many, population) for demand, many in described], delay)


def enumerated(rates: Sequence[Floats], delay: float, population: int) -> tuple[float, list[Floats]]:
    """Solve a closed network by adding up the weight of every state: throughput, and each station's marginals."""

    def weight(state: tuple[int, ...]) -> float:
        outside = population - sum(state)
        product = delay**outside / math.factorial(outside) if outside else 1.0
        for each, count in zip(rates, state, strict=True):
            product /= math.prod(each[:count])
        return product

    spaces = itertools.product(range(population + 1), repeat=len(rates))
    states = [s for s in spaces if sum(s) == population or (delay > 0 and sum(s) < population)]
    weights = np.array([weight(state) for state in states])
    weights /= weights.sum()
    flow = sum(w * rates[0][state[0] - 1] for w, state in zip(weights, states, strict=True) if state[0])
    marginals = [
        np.array([weights[[state[k] == n for state in states]].sum() for n in range(population + 1)])
        for k in range(len(rates))
    ]
    return float(flow), marginals


def bounds(demands: Sequence[tuple[float, float]], delay: float, population: Floats) -> tuple[Floats, Floats]:
    """Asymptotic bounds of the throughput, lowest and highest [1/s] (Lazowska et al. 1984, ch. 5).

    The lowest assumes that every start waits for all others at every station.
    """
    total = sum(demand for demand, _ in demands)
    ceiling = min(servers / demand for demand, servers in demands)
    return population / (population * total + delay), np.minimum(population / (total + delay), ceiling)


def waiting_probability(offered: float, servers: int) -> float:
    """The probability that an arrival at M/M/m waits: Erlang's C formula, for offered load below `servers`."""
    blocked = 1.0
    for k in range(1, servers + 1):  # Erlang's B by its stable recursion
        blocked = offered * blocked / (k + offered * blocked)
    return servers * blocked / (servers - offered * (1 - blocked))


def without_waiting(demands: Parameters) -> Parameters:
    """The same demands where waiters cost nothing."""
    return replace(demands, cpu_waiter=0.0, lock_waiter=0.0)


# --- formulas


@pytest.mark.parametrize("population", [1, 2, 7, 40])
def test_the_machine_repairman_follows_its_closed_formula(population: int) -> None:
    """N machines that fail every 3 s, one repairman who needs 0.5 s: he is idle with 1 / sum of N! / (N - n)! / 6^n."""
    fails, repair = 3.0, 0.5
    idle = 1 / sum(math.perm(population, n) * (repair / fails) ** n for n in range(population + 1))
    found = network([(repair, 1)], fails, population).throughput[-1]
    assert found == pytest.approx((1 - idle) / repair, rel=EXACT)


@pytest.mark.parametrize("repairmen", [2, 5])
def test_several_repairmen_follow_the_birth_and_death_formula(repairmen: int) -> None:
    """With m repairmen the probabilities of n broken machines are those of the birth-death chain."""
    fails, repair, population = 3.0, 0.5, 12
    up = np.arange(population, 0, -1) / fails
    down = np.minimum(np.arange(1, population + 1), repairmen) / repair
    weights = np.concatenate(([1.0], np.cumprod(up / down)))
    probability = weights / weights.sum()
    solved = network([(repair, repairmen)], fails, population)
    assert solved.marginal(0, population) == pytest.approx(probability, rel=EXACT)
    assert solved.throughput[-1] == pytest.approx(float(probability[1:] @ down), rel=EXACT)


@pytest.mark.parametrize("utilization", [0.2, 0.5, 0.8])
def test_many_customers_with_long_thinking_are_an_open_single_server_queue(utilization: float) -> None:
    """M/M/1 is the limit of a closed network: mean s / (1 - u), P(n) = (1 - u) u^n, exponential response."""
    service, population = 1.0, 4096
    # The delay that makes the arrival rate the wanted one: customers not in the queue arrive at rate N / delay.
    solved = network([(service, 1)], population * service / utilization, population)
    mean, variance, third = solved.response_moments(0, population)
    assert solved.throughput[-1] == pytest.approx(utilization / service, rel=0.01)
    assert mean == pytest.approx(service / (1 - utilization), rel=0.01)
    assert variance == pytest.approx(mean**2, rel=0.02)
    assert third == pytest.approx(2 * mean**3, rel=0.05)
    assert solved.marginal(0, population)[:5] == pytest.approx(
        [(1 - utilization) * utilization**n for n in range(5)], rel=0.02
    )


@pytest.mark.parametrize(("many", "utilization"), [(2, 0.5), (8, 0.7), (32, 0.9)])
def test_many_customers_with_long_thinking_wait_as_erlang_has_it(many: int, utilization: float) -> None:
    """M/M/m in the same limit: the probability to wait is Erlang's C, the mean wait C s / (m (1 - u))."""
    service, population = 1.0, 4096
    rate = many * utilization / service
    wait = waiting_probability(many * utilization, many)
    response = service + wait * service / (many * (1 - utilization))
    solved = network([(service, many)], population / rate - response, population)  # then N / (Z + R) is that rate
    marginal = solved.marginal(0, population - 1)  # what an arriving start sees
    mean, *_ = solved.response_moments(0, population)
    assert marginal[many:].sum() == pytest.approx(wait, rel=0.03)
    assert mean == pytest.approx(response, rel=0.01)


def test_erlang_c_has_its_textbook_values() -> None:
    """C(2, 1) = 1/3 and one server waits with probability u; C(m, a) by its definition for m = 10, a = 8."""
    assert waiting_probability(1.0, 2) == pytest.approx(1 / 3, rel=EXACT)
    assert waiting_probability(0.37, 1) == pytest.approx(0.37, rel=EXACT)
    top = 8**10 / math.factorial(10) * 10 / (10 - 8)
    assert waiting_probability(8.0, 10) == pytest.approx(
        top / (sum(8**k / math.factorial(k) for k in range(10)) + top), rel=EXACT
    )


def test_two_equal_stations_worked_by_hand() -> None:
    """N customers, two single servers of demand D, no delay: every state is alike, so X = N / (N + 1) / D."""
    solved = network([(0.25, 1), (0.25, 1)], 0.0, 30)
    n = np.arange(1, 31)
    assert solved.throughput == pytest.approx(n / (n + 1) / 0.25, rel=EXACT)
    assert solved.marginal(0, 30) == pytest.approx(np.full(31, 1 / 31), rel=EXACT)


def test_two_unequal_stations_worked_by_hand() -> None:
    """D = 2 and 1, N = 2: G = 4 + 2 + 1 = 7 and 2 + 1 = 3, so X(2) = 3 / 7, and P(0, 1, 2) = 1, 2, 4 / 7."""
    solved = network([(2.0, 1), (1.0, 1)], 0.0, 2)
    assert solved.throughput == pytest.approx([1 / 3, 3 / 7], rel=EXACT)
    assert solved.marginal(0, 2) == pytest.approx([1 / 7, 2 / 7, 4 / 7], rel=EXACT)


def test_a_central_server_model_by_mean_value_analysis_written_out() -> None:
    """CPU 0.605 s, disks 2.1 s and 1.35 s, 15 s of thinking: MVA's recursion, here in four lines, gives the same."""
    needs, think, population = np.array([0.605, 2.1, 1.35]), 15.0, 20
    queue = np.zeros(3)
    expected = []
    for n in range(1, population + 1):
        residence = needs * (1 + queue)
        expected.append(n / (think + residence.sum()))
        queue = expected[-1] * residence
    solved = network([(need, 1) for need in needs], think, population)
    assert solved.throughput == pytest.approx(expected, rel=EXACT)


# --- every state enumerated


@settings(max_examples=60)
@given(
    described=st.lists(st.tuples(demands, st.integers(1, 4)), min_size=1, max_size=3),
    delay=delays,
    population=st.integers(1, 6),
)
def test_networks_equal_the_sum_over_all_their_states(
    described: list[tuple[float, int]], delay: float, population: int
) -> None:
    """Throughput and marginal probabilities are those of the product form, state by state."""
    rates = [multi_server(demand, many, population) for demand, many in described]
    flow, marginals = enumerated(rates, delay, population)
    solved = closed(rates, delay)
    assert solved.throughput[-1] == pytest.approx(flow, rel=EXACT)
    for station, expected in enumerate(marginals):
        assert solved.marginal(station, population) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("locks", [1, 2, 3, 4])
@pytest.mark.parametrize("population", [1, 2, 5])
@pytest.mark.parametrize("delay", [0.0, 0.7])
def test_separate_queues_equal_all_their_states(locks: int, population: int, delay: float) -> None:
    """`separate_queues` is one station with the throughput of M single servers that starts choose at random."""
    hold = 0.3
    one = multi_server(hold / locks, 1, population)  # a start visits each with probability 1 / M
    flow, marginals = enumerated([one] * locks, delay, population)
    solved = closed((separate_queues(hold, locks, population),), delay)
    # The enumeration counts what leaves the first of them: per start, with its share of the visits in the demand.
    assert solved.throughput[-1] == pytest.approx(flow, rel=EXACT)
    busy = locks * (1 - marginals[0][0])
    assert solved.throughput[-1] * hold == pytest.approx(busy, rel=EXACT)


def test_one_separate_queue_is_a_single_server() -> None:
    """With one queue there is nothing to choose."""
    assert separate_queues(0.2, 1, 9) == pytest.approx(multi_server(0.2, 1, 9), rel=EXACT)


# --- laws


@settings(max_examples=150)
@given(described=stations, delay=delays, population=populations)
def test_asymptotic_bounds_always_hold(described: list[tuple[float, int]], delay: float, population: int) -> None:
    """No network beats its narrowest station or its own demands, none is slower than everybody behind everybody."""
    solved = network(described, delay, population)
    lowest, highest = bounds(described, delay, np.arange(1.0, population + 1))
    assert (solved.throughput <= highest * (1 + EXACT)).all()
    assert (solved.throughput >= lowest * (1 - EXACT)).all()


@settings(max_examples=100)
@given(described=stations, delay=delays, population=populations)
def test_littles_law_holds_in_every_part(described: list[tuple[float, int]], delay: float, population: int) -> None:
    """Those at the stations and those outside are all: sum of mean numbers plus X x delay is the population."""
    solved = network(described, delay, population)
    throughput = solved.throughput[-1]
    at = [float(np.arange(population + 1) @ solved.marginal(k, population)) for k in range(len(described))]
    assert sum(at) + throughput * delay == pytest.approx(population, rel=1e-8)
    assert throughput * solved.response[-1] == pytest.approx(population, rel=EXACT)


@settings(max_examples=100)
@given(described=stations, delay=delays, population=populations)
def test_each_station_passes_what_the_network_passes(
    described: list[tuple[float, int]], delay: float, population: int
) -> None:
    """The utilization law: a station's mean rate is the network's throughput, whichever station is asked."""
    solved = network(described, delay, population)
    for station, rates in enumerate(solved.rates):
        through = float(solved.marginal(station, population)[1:] @ rates)
        assert through == pytest.approx(solved.throughput[-1], rel=1e-8)


@settings(max_examples=100)
@given(described=stations, delay=delays, population=populations)
def test_the_arrival_theorem_gives_the_residence_time(
    described: list[tuple[float, int]], delay: float, population: int
) -> None:
    """What an arriving start sees gives the same time at a station as Little's law there."""
    solved = network(described, delay, population)
    for station in range(len(described)):
        mean, variance, _ = solved.response_moments(station, population)
        there = float(np.arange(population + 1) @ solved.marginal(station, population))
        assert mean == pytest.approx(there / solved.throughput[-1], rel=1e-8)
        assert variance > 0


@settings(max_examples=60)
@given(described=stations, delay=delays, population=st.integers(2, 60))
def test_more_in_flight_never_passes_less_without_a_cost_of_waiting(
    described: list[tuple[float, int]], delay: float, population: int
) -> None:
    """Throughput and response time of queues with servers that do not slow rise with the population."""
    solved = network(described, delay, population)
    assert (np.diff(solved.throughput) >= -EXACT * solved.throughput[1:]).all()
    assert (np.diff(solved.response) >= -EXACT * solved.response[1:]).all()


@given(demand=demands, many=servers, delay=delays, population=populations)
def test_one_in_flight_never_waits(demand: float, many: int, delay: float, population: int) -> None:
    """A lone start takes its demand and its delay, however many servers there are."""
    assert network([(demand, many)], delay, population).response[0] == pytest.approx(demand + delay, rel=EXACT)


@settings(max_examples=60)
@given(described=stations, delay=delays, population=populations, factor=st.floats(1e-6, 1e6))
def test_time_has_no_unit(described: list[tuple[float, int]], delay: float, population: int, factor: float) -> None:
    """All times multiplied by one factor divide throughput by it."""
    once = network(described, delay, population).throughput
    scaled = network([(d * factor, m) for d, m in described], delay * factor, population).throughput
    assert scaled * factor == pytest.approx(once, rel=1e-8)


# --- at the edges


@pytest.mark.parametrize("demand", [1e-9, 1e-3, 1e3])
@pytest.mark.parametrize("other", [1e-9, 1e-3, 1e3])
@pytest.mark.parametrize("many", [1, 64, 1024])
@pytest.mark.parametrize("delay", [0.0, 1e-6, 10.0])
def test_512_in_flight_stay_exact_at_any_demand(demand: float, other: float, many: int, delay: float) -> None:
    """512 in flight, up to 1,024 servers, demands from 1 ns to 1,000 s: finite, rising, probabilities sum to 1."""
    solved = network([(demand, many), (other, 1)], delay, 512)
    assert np.isfinite(solved.throughput).all()
    assert (solved.throughput > 0).all()
    assert (np.diff(solved.throughput) >= -EXACT * solved.throughput[1:]).all()
    for station, population in itertools.product((0, 1), (1, 37, 512)):
        assert solved.marginal(station, population).sum() == pytest.approx(1, abs=1e-9)
    ceiling = min(many / demand, 1 / other)
    assert solved.throughput[-1] <= ceiling * (1 + EXACT)


def test_1024_servers_for_512_starts_are_a_mere_delay() -> None:
    """With a server for everyone nobody waits: X = N / (D + Z), to the last population."""
    n = np.arange(1, 513)
    assert network([(0.006, 1024)], 0.25, 512).throughput == pytest.approx(n / 0.256, rel=EXACT)


def test_512_starts_against_the_birth_and_death_chain() -> None:
    """512 in flight at 100 servers and a delay equal the birth-death chain, added up in logarithms of its ratios."""
    service, delay, many, population = 0.006, 0.05, 100, 512
    up = np.arange(population, 0, -1) / delay
    down = np.minimum(np.arange(1, population + 1), many) / service
    logs = np.concatenate(([0.0], np.cumsum(np.log(up / down))))
    probability = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    solved = network([(service, many)], delay, population)
    assert solved.throughput[-1] == pytest.approx(float(probability[1:] @ down), rel=EXACT)


@settings(max_examples=60)
@given(
    described=st.lists(st.tuples(st.floats(1e-6, 1e2), st.integers(1, 64)), min_size=2, max_size=3),
    delay=st.sampled_from([0.0, 1e-4, 0.01, 1.0]),
    population=st.integers(2, 120),
)
def test_both_ways_to_convolve_agree(described: list[tuple[float, int]], delay: float, population: int) -> None:
    """The fast product of numbers and the careful one of logarithms give the same constants."""
    fast = network(described, delay, population)
    kept, queueing._SAFE = queueing._SAFE, -1.0
    try:
        careful = network(described, delay, population)
    finally:
        queueing._SAFE = kept
    assert fast.log_total == pytest.approx(careful.log_total, rel=1e-9, abs=1e-8)
    assert fast.throughput == pytest.approx(careful.throughput, rel=1e-8)


# --- the cluster of a scheduler

structures = st.builds(
    Structure,
    cpus=st.integers(1, 64),
    database_cpus=st.none() | st.integers(1, 64),
    locks=st.sampled_from([1, 2, 4, 64, 512]),
    connections=st.sampled_from([1.0, 5.0, 40.0, math.inf]),
    shares_cpus=st.booleans(),
    network_delay=st.sampled_from([0.0, 1e-3, 0.05]),
)
takes = st.builds(
    Parameters,
    cpu=st.floats(1e-4, 0.05),
    background=st.floats(0.01, 0.95),
    database=st.floats(0.05, 0.95),
    lock=st.floats(1e-5, 0.02),
    later_connection=st.floats(0, 0.02),
    other=st.floats(1e-6, 0.01),
    cpu_waiter=st.floats(0, 0.01),
    lock_waiter=st.floats(0, 0.05),
)


@settings(max_examples=100)
@given(structure=structures, taken=takes)
def test_a_cluster_without_a_cost_of_waiting_never_falls(structure: Structure, taken: Parameters) -> None:
    """Where waiters cost nothing, throughput rises with the starts in flight, up to 512."""
    throughput = solve(structure, without_waiting(taken)).throughput
    assert (np.diff(throughput) >= -1e-9 * throughput[1:]).all()


@settings(max_examples=100)
@given(structure=structures, taken=takes)
def test_a_cluster_never_passes_more_than_its_cpus_and_locks(structure: Structure, taken: Parameters) -> None:
    """No more starts than CPUs over CPU time, locks over hold, connections over use; utilizations lie in 0 to 1."""
    solution = solve(structure, taken)
    throughput = solution.throughput
    assert np.isfinite(throughput).all()
    server, database = structure.cpus / taken.cpu, math.inf
    if structure.database_cpus is not None:
        server, database = server / (1 - taken.database), structure.database_cpus / taken.cpu / taken.database
    held, used = structure.locks / taken.lock, structure.connections / (taken.lock + taken.later_connection)
    assert (throughput <= min(server, database, held, used) * (1 + EXACT)).all()
    for share in solution.utilization().values():
        assert (share >= 0).all()
        assert (share <= 1).all()


@settings(max_examples=50)
@given(structure=structures, taken=takes)
def test_a_cost_of_waiting_only_slows(structure: Structure, taken: Parameters) -> None:
    """With costs for waiting no population is served faster than without."""
    free = solve(structure, without_waiting(taken)).throughput
    assert (solve(structure, taken).throughput <= free * (1 + EXACT)).all()


@settings(max_examples=50)
@given(structure=structures, taken=takes)
def test_a_lone_start_needs_its_own_work_and_at_most_its_cpus(structure: Structure, taken: Parameters) -> None:
    """One in flight takes at least foreground, launcher, network and other time."""
    alone = solve(structure, taken).network.response[0]
    least = taken.cpu * (1 - taken.background) + taken.other + taken.launcher + structure.network_delay
    assert alone >= least * (1 - EXACT)


@settings(max_examples=50)
@given(structure=structures, taken=takes)
def test_those_with_their_lock_are_no_more_than_all(structure: Structure, taken: Parameters) -> None:
    """Of n starts in the cluster at most n are at work, and never fewer than with one less in it."""
    active = active_starts(structure, taken, 128)
    n = np.arange(1, 129)
    assert (active <= n * (1 + EXACT)).all()
    assert (active > 0).all()
    assert (np.diff(active) >= -EXACT * n[1:]).all()
