"""Starts in flight as a person writes them: a number, a multiplier of the CPUs, or `AUTO` where that may be.

Every command, variable of a notebook and setting of a comparison that takes one reads it here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from capacity import files
from capacity.errors import UsageError
from capacity.rules.pool import PoolRules, Sized, parallelism

AUTO: Final = "auto"
ALLOWED: Final = "a number like 64, or CPUs times a multiplier like 2x"


@dataclass(frozen=True)
class Flight:
    """Starts in flight as they are written down: a number, or a multiplier of the CPUs.

    Parameters
    ----------
    number : int or None
        Starts in flight.
    multiplier : int or None
        Starts in flight per CPU; exactly one of both is set.
    """

    number: int | None = None
    multiplier: int | None = None

    def __str__(self) -> str:
        return f"{self.multiplier}x" if self.multiplier is not None else str(self.number)

    def on(self, cpus: int, name: str = "set to") -> Sized:
        """Return what the rules make of it on a machine; the reason calls a number by `name`.

        Examples
        --------
        >>> print(flight_of("2x").on(32))
        64 (32 CPUs x 2 = 64)
        >>> print(flight_of("600").on(32))
        512 (set to 600, cut to the maximum of 512)
        """
        if self.multiplier is not None:
            return parallelism(cpus, rules=PoolRules(multiplier=self.multiplier))
        return parallelism(cpus, self.number, override_name=name)


def flight_of(text: str, name: str = "parallelism", allowed: str = ALLOWED) -> Flight:
    """Read ``64`` or ``2x``; small letters or capitals, with or without spaces around it.

    Parameters
    ----------
    text : str
        As typed.
    name, allowed : str
        What an error calls it, and what the error says is allowed.

    Raises
    ------
    UsageError
        It is neither, or 0.

    Examples
    --------
    >>> flight_of(" 4X ")
    Flight(number=None, multiplier=4)
    """
    found = re.fullmatch(r"([0-9]{1,9})|([0-9]{1,6})x", text.strip().lower(), re.ASCII)
    number, multiplier = (int(part) if part else None for part in found.groups()) if found else (None, None)
    if multiplier == 0:
        raise UsageError(f"{name} is {files.shown(text)}: the multiplier is 0", allowed=allowed)
    if not (number or multiplier):
        raise UsageError(f"{name} is {files.shown(text)}", allowed=allowed)
    return Flight(number, multiplier)


def is_auto(text: str) -> bool:
    """Whether it is left to a controller to find them."""
    return text.strip().lower() == AUTO
