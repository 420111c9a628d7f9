"""Parallelism and queue over every CPU count, for a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from capacity.rules.pool import DEFAULT_RULES, PoolRules, parallelism, queue_size


@dataclass(frozen=True)
class Curve:
    """What one multiplier gives at each CPU count.

    Parameters
    ----------
    multiplier : int
        Starts in flight per CPU.
    parallelism, queue : tuple of int
        Starts in flight, and starts that may wait, one entry per CPU count.
    capped_from : int or None
        The smallest CPU count that reaches the cap; None when none does.
    """

    multiplier: int
    parallelism: tuple[int, ...]
    queue: tuple[int, ...]
    capped_from: int | None


@dataclass(frozen=True)
class PoolCurves:
    """Curves of several multipliers over the same CPU counts.

    Parameters
    ----------
    cpus : tuple of int
        CPU counts, ascending.
    curves : tuple of Curve
        One per multiplier.
    rules : PoolRules
        The bounds that hold for all of them.
    """

    cpus: tuple[int, ...]
    curves: tuple[Curve, ...]
    rules: PoolRules


def pool_curves(
    cpus: Sequence[int],
    multipliers: Sequence[int],
    batch: int,
    rules: PoolRules = DEFAULT_RULES,
    *,
    override: int | None = None,
) -> PoolCurves:
    """Parallelism and queue size at each CPU count, for each multiplier.

    Parameters
    ----------
    cpus : sequence of int
        CPU counts, ascending.
    multipliers : sequence of int
        Starts in flight per CPU.
    batch : int
        Starts in one batch.
    rules : PoolRules
        Bounds; its own multiplier is not used.
    override : int, optional
        Starts in flight at every CPU count, in place of the CPU rule.

    Examples
    --------
    >>> pool_curves([64, 128, 256], [4], batch=100).curves[0]
    Curve(multiplier=4, parallelism=(256, 512, 512), queue=(25600, 51200, 51200), capped_from=128)
    """
    curves = []
    for multiplier in multipliers:
        own = replace(rules, multiplier=multiplier)
        flight = tuple(parallelism(count, override, own).value for count in cpus)
        queue = tuple(queue_size(value, batch, own).value for value in flight)
        capped = (count for count, value in zip(cpus, flight, strict=True) if value == rules.maximum)
        curves.append(Curve(multiplier, flight, queue, next(capped, None)))
    return PoolCurves(tuple(cpus), tuple(curves), rules)
