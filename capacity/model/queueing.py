"""Closed queueing networks, exactly: throughput and response time of N starts in flight.

A station is its rates: ``rates[n - 1]`` is its throughput [1/s] while n starts are at it. Product-form networks of
such stations are solved by convolution [1]_, in logarithms where numbers would leave floating point: only sums of
positive terms, so that it stays exact to a population of 512 with 1,024 servers, where mean value analysis with
marginal probabilities [2]_ loses all digits.

References
----------
.. [1] J. P. Buzen, "Computational algorithms for closed queueing networks with exponential servers", CACM 16(9), 1973.
.. [2] M. Reiser and S. S. Lavenberg, "Mean-value analysis of closed multichain queuing networks", JACM 27(2), 1980.
.. [3] E. D. Lazowska, J. Zahorjan, G. S. Graham and K. C. Sevcik, "Quantitative System Performance", 1984: bounds
   (ch. 5), flow-equivalent stations (ch. 8), simultaneous resources (ch. 9), arrival theorem (ch. 6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv, gammaln

Floats = NDArray[np.float64]


def multi_server(demand: float, servers: float, population: int) -> Floats:
    """Return the rates of one queue before `servers` equal servers, `demand` seconds of one of them per start."""
    return np.minimum(np.arange(1, population + 1), servers) / demand


def separate_queues(demand: float, queues: int, population: int) -> Floats:
    """Return the rates of `queues` single servers, each start going to any one of them alike.

    Exact for a product-form network: n starts keep ``queues n / (n + queues - 1)`` of them busy on average.
    """
    n = np.arange(1, population + 1)
    return queues * n / (n + queues - 1) / demand


def shadowed(foreground: float, background: float, servers: float, busy: Floats) -> Floats:
    """Return the rates of `servers` that owe each start background work after its answer, all work sharing them alike.

    With n starts in the foreground and B pieces of background work each runs at the speed
    ``s(B) = 1 / max(1, (n + B) / servers)``. Where n stays the same and times are exponential, the probability of B is
    ``P(B) ~ a**B / B! / s(B)`` with ``a = n background / foreground``, and starts leave at
    ``n / foreground / E[max(1, (n + B) / servers)]``, where E is the mean for a B that is Poisson's with mean a.

    Parameters
    ----------
    foreground, background : float
        Seconds of one server per start, on the path of its answer (above 0) and after it.
    servers : float
    busy : array of float
        Starts that want a server, for each population.
    """
    behind = busy * background / foreground
    free = np.maximum(servers - busy, 1e-12)
    beyond = behind * gammainc(free, behind) - free * gammainc(free + 1, behind)  # E[max(B - free, 0)]
    beyond = np.where(busy < servers, beyond, busy + behind - servers)
    return np.asarray(busy / foreground / (1 + beyond / servers), dtype=float)


@dataclass(frozen=True)
class Closed:
    """A solved network, for every population 1..N.

    Parameters
    ----------
    throughput : array of float, shape (N,)
        Starts per second.
    rates : tuple of arrays, each of shape (N,)
    log_weights : tuple of arrays, each of shape (N + 1,)
        Unnormalised log probability of n at a station.
    log_outside : array, shape (N + 1,)
        The same of the delay outside the stations.
    log_total : array, shape (N + 1,)
        Log normalisation constants of the network.
    """

    throughput: Floats
    rates: tuple[Floats, ...]
    log_weights: tuple[Floats, ...]
    log_outside: Floats
    log_total: Floats

    @cached_property
    def log_others(self) -> tuple[Floats, ...]:
        """Log normalisation constants of the network without each station, shape (N + 1,)."""
        weights = self.log_weights
        each = (weights[:station] + weights[station + 1 :] for station in range(len(weights)))
        return tuple(reduce(_convolve, others, self.log_outside) for others in each)

    @property
    def response(self) -> Floats:
        """Seconds from one start's begin to the next one's in the same place: Little's law."""
        return np.arange(1, self.throughput.size + 1) / self.throughput

    def marginal(self, station: int, population: int) -> Floats:
        """Return the probabilities of 0..population starts at a station."""
        weights = self.log_weights[station][: population + 1]
        others = self.log_others[station][population::-1]
        return np.asarray(np.exp(weights + others - self.log_total[population]), dtype=float)

    def response_moments(self, station: int, population: int) -> tuple[float, float, float]:
        """Return mean, variance and third central moment of the time at a station, first come first served [s^k].

        An arriving start sees the network with one start less ([3]_ ch. 6). Behind n others it leaves after
        (n + 1) / rate(n + 1) on average; those before it leave one by one, its own service is exponential.
        """
        seen = self.marginal(station, population - 1)
        rates = self.rates[station][:population]
        ahead = np.arange(1, population + 1)
        service = 1 / self.rates[station][0]
        mean = ahead / rates
        in_service = np.minimum(ahead, service * rates)
        waits = np.maximum(ahead - in_service, 0)
        variance = (in_service / rates) ** 2 + waits / rates**2
        third = 2 * (in_service / rates) ** 3 + 2 * waits / rates**3
        expected = float(seen @ mean)
        off = mean - expected
        return expected, float(seen @ (variance + off**2)), float(seen @ (third + 3 * variance * off + off**3))

    def quantile(self, q: float, station: int, populations: Iterable[int]) -> Floats:
        """Return a quantile of the response time [s], of a gamma distribution with the first three moments.

        It has an origin of its own, so that it is exact for an exponential time after a constant wait (many servers,
        more starts than servers) as for an exponential time alone (few starts, or one server).
        """
        result = []
        for population in map(int, populations):
            mean, variance, third = self.response_moments(station, population)
            rest = max(population / float(self.throughput[population - 1]) - mean, 0.0)
            deviation = math.sqrt(variance)
            skew = max(third / deviation**3, 1e-3)  # no less than of a normal distribution, as good as
            standard = (float(gammaincinv(4 / skew**2, q)) * skew / 2) - 2 / skew
            result.append(rest + max(mean + deviation * standard, 0.0))
        return np.array(result)


def closed(rates: Sequence[Floats], delay: float = 0.0) -> Closed:
    """Solve a network of stations, each visited once per start, and a delay without queue [s].

    Parameters
    ----------
    rates : sequence of arrays, all of shape (N,)
        One per station; positive.
    delay : float
        Seconds per start outside the stations, such as the network's round trip.
    """
    population = rates[0].size
    n = np.arange(population + 1)
    weights = [np.concatenate(([0.0], -np.cumsum(np.log(each)))) for each in rates]
    with np.errstate(divide="ignore"):
        outside = np.where(n == 0, 0.0, n * np.log(delay) - gammaln(n + 1)) if delay > 0 else _empty(population)
    total = reduce(_convolve, weights, outside)
    return Closed(
        throughput=np.exp(total[:-1] - total[1:]),
        rates=tuple(rates),
        log_weights=tuple(weights),
        log_outside=outside,
        log_total=total,
    )


def _empty(population: int) -> Floats:
    """Log weights of a place where nothing ever is."""
    return np.concatenate(([0.0], np.full(population, -np.inf)))


_SAFE = 600.0
"""Exponents between which products of two numbers stay inside floating point, added up: e^600 is 1e260."""


def _convolve(a: Floats, b: Floats) -> Floats:
    """Return the logarithms of the convolution of two sequences given by theirs."""
    if a[1] == -np.inf:  # nothing is ever there: `_empty`
        return b
    size = a.size
    n = np.arange(size)
    slope = max(a[-1], b[-1]) / (size - 1)  # tilted, the sequence that dominates stays near 1 at both ends
    left, right = a - slope * n, b - slope * n
    highest = np.maximum(left, right)
    if highest.max() < _SAFE / 2 and highest.min() > -_SAFE:
        with np.errstate(under="ignore"):
            return np.asarray(np.log(np.convolve(np.exp(left), np.exp(right))[:size]) + slope * n, dtype=float)
    result = np.empty(size)
    for k in range(size):
        terms = a[: k + 1] + b[k::-1]
        top = terms.max()
        result[k] = top + np.log(np.exp(terms - top).sum())
    return result
