"""One plan of the pool: CPUs, override and batch put together, each number with its reason."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace

from capacity.rules.cpus import available_cpus
from capacity.rules.environment import VARIABLE, environment_override
from capacity.rules.pool import (
    DEFAULT_RULES,
    PoolRules,
    Sized,
    parallelism,
    queue_size,
    reported_pool_size,
    whole_number,
)

BATCH = 1000
"""Starts in one batch where none is given: the original's first batch size."""


@dataclass(frozen=True)
class PoolPlan:
    """How a scheduler's pool would be sized here, and why.

    Parameters
    ----------
    cpus : int
        CPUs counted.
    cpus_source : str
        Where that number comes from.
    multiplier : int
        Starts in flight per CPU.
    override : int or None
        Starts in flight asked for; None when the CPU rule applies.
    batch : int
        Starts in one batch.
    parallelism, queue : Sized
        Starts in flight, and starts that may wait, each with what set it.
    reported_pool_size : int
        min(parallelism, batch), as the original logs it.
    warnings : tuple of str
        Variables that look like the override and are not read.
    """

    cpus: int
    cpus_source: str
    multiplier: int
    override: int | None
    batch: int
    parallelism: Sized
    queue: Sized
    reported_pool_size: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON-ready values."""
        return {
            "parallelism": self.parallelism.value,
            "parallelism_reason": self.parallelism.reason,
            "queue_size": self.queue.value,
            "queue_reason": self.queue.reason,
            "reported_pool_size": self.reported_pool_size,
            "cpus": self.cpus,
            "cpus_source": self.cpus_source,
            "multiplier": self.multiplier,
            "override": self.override,
            "batch": self.batch,
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[tuple[str, str, str]]:
        """The plan for people: (name, value, where it comes from) of each number."""
        return [
            ("CPUs", f"{self.cpus:,}", self.cpus_source),
            ("Parallelism", f"{self.parallelism.value:,}", self.parallelism.reason),
            ("Queue size", f"{self.queue.value:,}", self.queue.reason),
            ("Reported pool size", f"{self.reported_pool_size:,}", "the smaller of parallelism and batch"),
        ]

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th><td style="text-align:right"><b>{value}</b></td>'
            f'<td style="text-align:left">{html.escape(reason)}</td></tr>'
            for name, value, reason in self.lines()
        )
        notes = "".join(f"<p>Warning: {html.escape(warning)}</p>" for warning in self.warnings)
        return f"<table><caption>Pool of a batch scheduler</caption><tbody>{rows}</tbody></table>{notes}"


def pool_plan(
    cpus: int | None = None,
    *,
    override: int | None = None,
    batch: int = BATCH,
    rules: PoolRules = DEFAULT_RULES,
    multiplier: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> PoolPlan:
    """Size the pool of a scheduler: an explicit override, else SCHEDULER_MAX_PARALLELISM, else CPUs x multiplier.

    Parameters
    ----------
    cpus : int, optional
        CPUs of the scheduler's machine; by default those this process may really use.
    override : int, optional
        Starts in flight; None leaves it to the environment, 0 says no override whatever the environment says.
    batch : int
        Starts in one batch.
    rules : PoolRules
        Multiplier and bounds.
    multiplier : int, optional
        Starts in flight per CPU, in place of the rules' own.
    environment : mapping of str to str, optional
        Variables; by default those of this process at the time of the call.

    Returns
    -------
    PoolPlan
        Every number with its reason.

    Raises
    ------
    UsageError
        A negative override, a multiplier below 1, or an unusable SCHEDULER_MAX_PARALLELISM.

    Examples
    --------
    >>> plan = pool_plan(16, environment={"SCHEDULER_MAX_PARALLELISM": "40"})
    >>> print(plan.parallelism)
    40 (SCHEDULER_MAX_PARALLELISM 40)
    >>> print(pool_plan(16, override=0, environment={"SCHEDULER_MAX_PARALLELISM": "40"}).parallelism)
    64 (16 CPUs x 4 = 64)
    """
    if multiplier is not None:
        rules = replace(rules, multiplier=multiplier)
    found = environment_override(environment)
    name = "override" if override is not None else VARIABLE
    asked = override if override is not None else found.value
    if cpus is None:
        detected = available_cpus()
        cpus, source = detected.count, detected.source
    else:
        cpus, source = whole_number("cpus", cpus), "as given"
    flight = parallelism(cpus, asked, rules, override_name=name)
    return PoolPlan(
        cpus=cpus,
        cpus_source=source,
        multiplier=rules.multiplier,
        override=asked or None,
        batch=batch,
        parallelism=flight,
        queue=queue_size(flight.value, batch, rules),
        reported_pool_size=reported_pool_size(flight.value, batch),
        warnings=found.warnings,
    )
