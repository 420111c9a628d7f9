"""The explorer's sentences: what a plan gets, what is in its way, why which cell is recommended."""

from __future__ import annotations

import math

from capacity.model.cluster import Cluster
from capacity.model.prediction import AS_GOOD
from capacity.model.words import many, number, span
from capacity.notebook.explore_ceilings import resource_name
from capacity.notebook.explore_view import Scene
from capacity.rules.plan import PoolPlan


def rule(plan: PoolPlan) -> str:
    """What set the parallelism, in a few words."""
    if plan.override is not None:
        return f"{plan.parallelism.value:,} in flight"
    return f"{plan.multiplier}x on {many(plan.cpus, 'CPU')}"


def finding(found: Scene) -> str:
    """The one line that says what the plan gets and what is in its way."""
    flight, at_knee, cluster = found.flight, found.knee, found.choice.cluster
    rate, _ = found.at(flight)
    most, _ = found.at(at_knee)
    who = rule(found.choice.plan)
    if flight < at_knee:
        return f"{who} gets {number(rate)}/s; {at_knee:,} in flight give {number(most)}/s"
    binds = _binds(found.binding, cluster, rate)
    if found.knee_beyond:
        return f"{who} gets {number(rate)}/s, the most there may be in flight, and the knee lies beyond"
    if flight == at_knee:
        return f"{who} stands at the knee: {binds}"
    gain = rate / most - 1
    if gain < -0.02:
        return f"{who} gives {-gain:.0%} less than {at_knee:,} in flight: {binds}"
    bought = "nothing" if gain < 0.005 else f"{gain:.0%}"
    return f"{who} buys {bought} over {at_knee:,} in flight: {binds}"


def _binds(binding: str, cluster: Cluster, rate: float) -> str:
    if binding == "too few in flight":
        return f"{number(rate)}/s"
    named = resource_name(binding, cluster)
    if named == binding:  # a key, or what there is one of
        return f"{named} binds at {number(rate)}/s"
    return f"the {named} {'binds' if named.startswith('1 ') else 'bind'} at {number(rate)}/s"


def explained(found: Scene) -> str:
    """Why which cell is recommended, in words."""
    choice = found.choice
    cpus = many(choice.plan.cpus, "CPU")
    limits = _joined(choice.p99, choice.memory)
    within = f" within {limits}" if limits else ""
    if found.recommended is None:
        words = f"No multiplier of {cpus} keeps{within.removeprefix(' within') or ' its limits'}."
    else:
        (cell,) = (
            tuned
            for row in found.cells
            for tuned in row
            if (tuned.cell.cpus, tuned.cell.multiplier) == found.recommended
        )
        flight = cell.cell.parallelism
        words = (
            f"Recommended for {cpus}: {cell.cell.multiplier}x, {flight:,} in flight, {number(cell.throughput)}/s at "
            f"p99 {span(cell.p99)}: the fewest in flight with {AS_GOOD:.0%} of what any multiplier gets{within}."
        )
    if found.enough is None:
        _, p99 = found.at(1)
        memory = found.memory(1)
        slow, big = p99 > (choice.p99 or math.inf), memory > (choice.memory or math.inf)
        return f"{words} One in flight does not either: {_joined(p99 if slow else None, memory if big else None)}."
    rate, p99 = found.at(found.enough)
    enough = f"{found.enough:,} in flight {'are' if found.enough > 1 else 'is'} enough"
    return f"{words} {enough}: {number(rate)}/s at p99 {span(p99)}."


def _joined(p99: float | None, memory: float | None) -> str:
    """A p99 [s] and a memory [bytes] in words, as far as they are given."""
    parts = [f"p99 {span(p99)}"] if p99 is not None else []
    parts += [f"{memory / 2**20:,.0f} MiB"] if memory is not None else []
    return " and ".join(parts)
