"""The original's sizing of a batch scheduler's worker pool: how many starts in flight, how long a queue.

Invariants, whatever the input: ``parallelism`` lies in [1, maximum], in [minimum, maximum] unless an override
set it; ``queue_size`` lies in [queue_minimum, queue_maximum]. Every number comes with the rule or clamp that set it.

Source: the Go change that went from 2 x CPU to 4 x CPU (its pool and queue functions and their tests).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields

from capacity import files
from capacity.errors import UsageError

_TOO_LONG = 10**100  # a product of two is written out, which Python does of 4,300 digits at most


def whole_number(name: str, value: object) -> int:
    """`value` as an int; anything that is not a whole number is refused by name and value."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"{name} is {files.shown(value)}", allowed="a whole number") from error
    if abs(number) >= _TOO_LONG:
        raise UsageError(f"{name} is {files.shown(value)}", allowed="a whole number of at most 100 digits")
    return number


def positive(name: str, value: object) -> int:
    """`value` where a person set it and only 1 or more makes sense; the rules themselves count less than 1 as 1."""
    number = whole_number(name, value)
    if number < 1:
        raise UsageError(f"{name} is {value}", allowed="1 or more")
    return number


@dataclass(frozen=True)
class PoolRules:
    """The five numbers of the original's sizing.

    Parameters
    ----------
    multiplier : int
        Starts in flight per CPU of the scheduler's machine.
    minimum, maximum : int
        Bounds of the parallelism [starts in flight]. The minimum holds for the CPU rule only.
    queue_minimum, queue_maximum : int
        Bounds of the queue [starts waiting].

    Raises
    ------
    UsageError
        A number is not a whole one of at least 1, or a minimum lies above its maximum.

    Examples
    --------
    >>> PoolRules(multiplier=2)
    PoolRules(multiplier=2, minimum=2, maximum=512, queue_minimum=4096, queue_maximum=262144)
    """

    multiplier: int = 4
    minimum: int = 2
    maximum: int = 512
    queue_minimum: int = 4096
    queue_maximum: int = 262144

    def __post_init__(self) -> None:
        for field in fields(self):
            positive(field.name, getattr(self, field.name))
        for low, high in (("minimum", "maximum"), ("queue_minimum", "queue_maximum")):
            if getattr(self, low) > getattr(self, high):
                raise UsageError(
                    f"{low} is {getattr(self, low)}, above the {high} of {getattr(self, high)}",
                    allowed=f"{low} <= {high}",
                )


@dataclass(frozen=True)
class Sized:
    """A size and what set it.

    Parameters
    ----------
    value : int
        The size [starts in flight, or starts waiting].
    reason : str
        The rule, override or clamp that set it, with its arithmetic.
    """

    value: int
    reason: str

    def __str__(self) -> str:
        return f"{self.value:,} ({self.reason})"


DEFAULT_RULES = PoolRules()


def parallelism(
    cpus: int, override: int | None = None, rules: PoolRules = DEFAULT_RULES, *, override_name: str = "override"
) -> Sized:
    """Starts in flight at once: an override cut to the maximum, else CPUs x multiplier held in its bounds.

    Parameters
    ----------
    cpus : int
        CPUs of the scheduler's machine; a count below 1 counts as 1.
    override : int, optional
        Starts in flight asked for. None and 0 mean no override; 1 gives 1, since the minimum is for the CPU rule.
    rules : PoolRules
        Multiplier and bounds.
    override_name : str
        What the reason and the error call the override, such as the variable that it came from.

    Returns
    -------
    Sized
        The parallelism and the rule or clamp that set it.

    Raises
    ------
    UsageError
        The override is negative, or a number is not a whole one.

    Examples
    --------
    >>> print(parallelism(16))
    64 (16 CPUs x 4 = 64)
    >>> print(parallelism(16, override=1024))
    512 (override 1,024, cut to the maximum of 512)
    >>> print(parallelism(1, rules=PoolRules(multiplier=1)))
    2 (1 CPU x 1 = 1, raised to the minimum of 2)
    """
    cpus = whole_number("cpus", cpus)
    asked = 0 if override is None else whole_number(override_name, override)
    if asked < 0:
        raise UsageError(
            f"{override_name} is {asked}",
            allowed="1 or more, or 0 for no override",
            next_step=f"leave it out to get CPUs x {rules.multiplier}",
        )
    if asked > 0:
        return _clamped(asked, 1, rules.maximum, f"{override_name} {asked:,}")
    counted = max(cpus, 1)
    product = counted * rules.multiplier
    reason = f"{counted:,} CPU{'s' if counted > 1 else ''} x {rules.multiplier} = {product:,}"
    if counted != cpus:
        reason = f"a CPU count of {cpus} counts as 1: {reason}"
    return _clamped(product, rules.minimum, rules.maximum, reason)


def queue_size(parallelism: int, batch: int, rules: PoolRules = DEFAULT_RULES) -> Sized:
    """Starts that may wait inside the scheduler: max(parallelism, 1) x max(batch, 1), held in its bounds.

    Parameters
    ----------
    parallelism : int
        Starts in flight at once; below 1 counts as 1.
    batch : int
        Starts in one batch; below 1 counts as 1.
    rules : PoolRules
        Bounds of the queue.

    Returns
    -------
    Sized
        The queue size [starts] and the rule or clamp that set it.

    Examples
    --------
    >>> print(queue_size(128, 1000))
    128,000 (128 in flight x batch of 1,000 = 128,000)
    >>> print(queue_size(64, 10))
    4,096 (64 in flight x batch of 10 = 640, raised to the minimum of 4,096)
    """
    flight = max(whole_number("parallelism", parallelism), 1)
    items = max(whole_number("batch", batch), 1)
    product = flight * items
    return _clamped(
        product,
        rules.queue_minimum,
        rules.queue_maximum,
        f"{flight:,} in flight x batch of {items:,} = {product:,}",
    )


def reported_pool_size(pool_size: int, batch: int) -> int:
    """Pool size as the original logs it: min(pool size, batch), since a small batch never fills the pool; 1 or more.

    Examples
    --------
    >>> reported_pool_size(64, 10)
    10
    """
    return min(max(pool_size, 1), max(batch, 1))


def _clamped(value: int, low: int, high: int, reason: str) -> Sized:
    if value > high:
        return Sized(high, f"{reason}, cut to the maximum of {high:,}")
    if value < low:
        return Sized(low, f"{reason}, raised to the minimum of {low:,}")
    return Sized(value, reason)
