"""One ceiling of a cluster: the most starts per second that a limit or resource allows, and what raising it buys."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final

NOT_KNOWN: Final = "not known from configuration"
NO_LIMIT: Final = "no limit"


@dataclass(frozen=True)
class Raised:
    """What raising a ceiling, and those below it, buys: the next one up and the value that reaches it.

    Parameters
    ----------
    starts_per_second : float
        The next ceiling [1/s].
    binds : str
        Its key.
    value : float
        What the raised key must be to get there.
    """

    starts_per_second: float
    binds: str
    value: float


@dataclass(frozen=True)
class Ceiling:
    """The most starts per second that one limit or resource allows.

    Parameters
    ----------
    name : str
        What limits.
    starts_per_second : float, optional
        The ceiling [1/s]; ``inf`` is no limit, None is not known from configuration.
    key, value : str, float
        What sets it and what it is set to.
    scope : str
        What it is a limit of: ``cluster``, ``namespace``, ``each frontend``, ``each history host``
        or ``each matching host``.
    burst : float, optional
        Starts that pass at once before it bites; None where nothing is saved up.
    reason : str
        The arithmetic, and what to know.
    raised : Raised, optional
        What raising it buys; None where nothing known comes after it.
    caps_starts : bool
        False when it only delays what follows a start.
    source : str
        Whose figures it rests on; empty when the configuration or this cluster's own.
    hosts : int
        Hosts that each have it.

    Examples
    --------
    >>> ceiling = Ceiling("frontend requests", None, "frontend.rps", 2400, "host", 4800, "one request a start")
    >>> ceiling.known, ceiling.rate
    (False, inf)
    """

    name: str
    starts_per_second: float | None
    key: str
    value: float
    scope: str
    burst: float | None
    reason: str
    raised: Raised | None = None
    caps_starts: bool = True
    source: str = ""
    hosts: int = 1

    @property
    def known(self) -> bool:
        """Whether it has a number."""
        return self.starts_per_second is not None and math.isfinite(self.starts_per_second)

    @property
    def rate(self) -> float:
        """The ceiling as a number: ``inf`` also where it is not known."""
        return math.inf if self.starts_per_second is None else self.starts_per_second

    def passes(self, batch: int) -> float:
        """The least time in which it lets a batch through [s]."""
        return passes(batch, self.rate, self.burst)

    def to_dict(self) -> dict[str, object]:
        """The ceiling as JSON-ready values: null and a status in words where it has no number."""
        status = "known" if self.known else NOT_KNOWN if self.starts_per_second is None else NO_LIMIT
        return {**asdict(self), "starts_per_second": self.starts_per_second if self.known else None, "status": status}


def passes(batch: int, rate: float, burst: float | None) -> float:
    """The least time in which a token bucket lets a batch through [s]: `burst` at once, the rest at its rate.

    >>> passes(9600, 2400, 4800), passes(4000, 2400, 4800), passes(4800, 2400, None)
    (2.0, 0.0, 2.0)
    """
    return max(batch - (burst or 0.0), 0.0) / rate
