"""What a fleet's outlook says, in words: its figures, what binds, what would be enough, and what is assumed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from capacity.model.outlook import storage_sentence
from capacity.model.prediction import structure_for
from capacity.model.words import many, number, size, span

if TYPE_CHECKING:
    from capacity.model.fleet import FleetOutlook

WRITES_PER_RANGE: Final = 4
"""Times the batch workflow's state is written for a range: activity scheduled with the workflow task that asks for it,
its start, its completion, the next task's start."""

STATE_LIMIT: Final = 8 * 2**20
"""Bytes of a workflow's state at which a server ends it (``limit.mutableStateSize.error``, server 1.32)."""
MESSAGE_LIMIT: Final = 4 * 2**20
"""Bytes of a gRPC message at which a client refuses it, such as a description with all newest heartbeats."""


def title(found: FleetOutlook) -> str:
    """Return what was asked, in one line."""
    processes = many(found.processes, "launcher process")
    return f"{many(found.count, 'start')} by {processes} on {found.cluster.name}"


def rows(found: FleetOutlook) -> list[tuple[str, str, str]]:
    """Return the figures, as (name, value, what to know)."""
    batch, stored = found.found, found.stored
    rate = batch.starts_per_second
    stores = f"; {size(rate * stored.visibility)}/s stored" if stored else ""
    runs = "one run" if len(batch.history) == 1 else f"the longest of {len(batch.history)} runs"
    longest = size(max(batch.history_bytes))
    result = [
        ("takes", duration(batch.seconds), _between(duration(found.fastest.seconds), duration(found.slowest.seconds))),
        (
            "starts/s",
            number(rate),
            f"{_between(number(found.slowest.starts_per_second), number(found.fastest.starts_per_second))}; "
            f"{number(found.per_process)} each of {batch.at_work:,} at work",
        ),
        ("in flight", f"{found.parallelism:,}", found.parallelism_source),
        ("launcher CPU", f"{found.launcher_utilization:.0%}", "of one CPU, each process at work"),
        ("memory", f"{found.rss_bytes / 2**20:,.0f} MiB", "each process"),
        ("ranges", f"{batch.ranges:,}", f"of {many(found.range_size, 'start')}, {duration(_range_time(found))} each"),
        ("history", f"{max(batch.history):,}", f"events, {longest} in {runs} (limit 50 MB)"),
        ("visibility", f"{number(2 * rate)}/s", f"writes, half at start, half at close{stores}"),
    ]
    if found.lose_every:
        lost, _, of = many(batch.losses, "process").partition(" ")
        result.insert(3, ("lost", lost, f"{of}; {many(batch.resent, 'start', digits=3)} sent again"))
    return result


def sentences(found: FleetOutlook) -> list[tuple[str, str]]:
    """Return what to make of it, as (heading, sentence)."""
    return [
        ("Binds", bound(found)[1]),
        *_risk(found),
        ("Enough", _enough(found)),
        ("A loss", _a_loss(found)),
        ("Its own load", _own_load(found)),
        ("Storage", _storage(found)),
        ("How sure", _certainty(found)),
        ("Assumed", _assumed(found)),
    ]


def bound(found: FleetOutlook) -> tuple[str, str]:
    """Return what keeps the fleet from being faster: in short, and as a sentence."""
    batch, prediction = found.found, found.prediction
    at_most = float(prediction.throughput.value[0])
    loops = batch.at_work / found.calibration.demands.launcher
    bounds = {"cluster": at_most, "launchers": loops, "rate": found.rate or float("inf")}
    lowest = min(bounds, key=lambda name: bounds[name])
    if batch.starts_per_second < 0.9 * bounds[lowest]:
        return _fleets_own(found, bounds[lowest])
    if lowest == "rate":
        return "rate", f"the rate asked for, {number(bounds['rate'])}/s; the cluster would give {number(found.gives)}/s"
    binding, cap = prediction.binding[0], prediction.cap
    if lowest == "launchers" or binding == "launcher":
        return "launchers", _loops(found)
    if cap is not None and binding == cap.key:
        return binding, f"{cap.key} at {number(cap.rate)}/s: {cap.reason}"
    used = {name: float(share[0]) for name, share in prediction.utilization.items()}
    rest = f"; the lowest configured rate, {cap.key}, is {number(cap.rate)}/s" if cap else ""
    if binding == "too few in flight":
        name = max(used, key=lambda each: used[each])
        fullest = f"the fullest ({name}) is used to {used[name]:.0%}"
        return binding, f"{found.parallelism:,} in flight: no resource is full, {fullest}{rest}"
    return binding, f"the cluster ({binding} used to {used[binding]:.0%}){rest}"


def _fleets_own(found: FleetOutlook, at_most: float) -> tuple[str, str]:
    """Return which part of the fleet's own ways costs most, where cluster and loops would do more."""
    batch = found.found
    time = batch.at_work * batch.seconds
    idle = max(time - batch.working - batch.between, 0.0)
    short = "hand-overs" if batch.between > idle else "losses" if batch.losses else "ranges"
    lost = f" or since {batch.losses:,} were lost" if batch.losses else ""
    return short, (
        f"the fleet itself: {batch.between / time:.0%} of its processes' time lies between two ranges, "
        f"{idle / time:.0%} before they join and after the last range{lost}; "
        f"without that it would be {number(at_most)}/s"
    )


def _loops(found: FleetOutlook) -> str:
    words = f"the launchers' loops, {number(1 / found.calibration.demands.launcher)}/s each at most"
    handed_out = found.machinery.handed_out
    if found.processes < handed_out:
        return f"{words}: more processes would be faster"
    return f"{words}: more than {handed_out} would not help, as {handed_out} ranges are out at once"


def _enough(found: FleetOutlook) -> str:
    handed_out = found.machinery.handed_out
    unharmed = "" if found.lose_every is None else " with none lost"  # what it is simulated without
    if found.processes == 1:
        words = "1 process, as asked"
    elif found.enough == found.processes:
        words = f"all {found.processes:,}: one fewer would be more than 2% slower{unharmed}"
    else:
        words = f"{many(found.enough, 'process')}: at most 2% slower{unharmed}"
        words += "; a second one keeps the batch going through a loss" if found.enough == 1 else ""
    if found.parallelism < found.holding:
        have = "has" if found.parallelism == 1 else "have"
        words += f"; of {found.processes:,} only {found.parallelism:,} {have} a start in flight, the others wait"
    elif found.processes > handed_out:
        words += f"; more than {handed_out} have nothing to do, as {handed_out} ranges are out at once"
    return words


def _a_loss(found: FleetOutlook) -> str:
    machinery = found.machinery
    again = min(math.ceil(found.per_process * machinery.beat(found.holding)), found.range_size)
    waits = machinery.heartbeat_timeout + machinery.retry_after
    sent = f"{many(again, 'start')} {'is' if again == 1 else 'are'} sent again"
    return (
        f"a lost process' range goes on elsewhere {waits:g} s after its last heartbeat; up to {sent}, to the same "
        f"runs; {_longer(found.one_lost)}"
    )


def _own_load(found: FleetOutlook) -> str:
    batch = found.found
    starts = many(batch.count / (WRITES_PER_RANGE * batch.ranges), "start", digits=3)
    beats = many(found.heartbeats, "heartbeat/s", "heartbeats/s", digits=3)
    each_hundred = 100 * found.heartbeats / batch.starts_per_second
    return (
        f"{WRITES_PER_RANGE} writes a range, one for {starts}; {beats} of up to {size(found.bytes_per_range)}, "
        f"{number(each_hundred, 2)} for 100 starts, each a write to the batch workflow's one shard (not in the figures)"
    )


def _risk(found: FleetOutlook) -> list[tuple[str, str]]:
    """Return what a server or client would refuse of a fleet this large."""
    state = found.state_bytes
    if state <= MESSAGE_LIMIT:
        return []
    words = (
        f"the newest heartbeats of {found.holding} ranges may be {size(state)}: more than the {size(MESSAGE_LIMIT)} of "
        f"a message that describes them"
    )
    if state > STATE_LIMIT:
        words += f", and than the {size(STATE_LIMIT)} of state at which a server ends a workflow"
    return [("Risk", words)]


def _storage(found: FleetOutlook) -> str:
    words = storage_sentence(found.count, found.cluster, found.calibration)
    if found.stored is None:
        return words
    takes = duration(found.found.seconds)
    return f"{words}. A closed workflow stays for its retention: beyond {takes} of that, all are there at once"


def _certainty(found: FleetOutlook) -> str:
    calibration, conditions = found.calibration, found.calibration.measurements.conditions
    there = many(conditions.cluster_cpus, "CPU")
    words = [f"calibration {calibration.name}: {there}, to {calibration.measured_to} in flight"]
    cpus = structure_for(found.cluster).all_cpus
    if cpus != conditions.cluster_cpus:
        words.append(f"{many(cpus, 'CPU')} {'is' if cpus == 1 else 'are'} extrapolated")
    flight = int(found.prediction.parallelism[0])  # fewer than allowed where a rate needs fewer
    if flight > calibration.measured_to:
        words.append(f"{flight:,} in flight are extrapolated")
    words.append("a store that fills up may slow down, which no sweep of this length shows")
    return "; ".join(words)


def _assumed(found: FleetOutlook) -> str:
    machinery = found.machinery
    return (
        f"a hand-over between ranges takes {span(machinery.hand_over)}, {machinery.handed_out} ranges "
        f"are out at once, a lost process is replaced in {machinery.replaced_after:g} s, each has a CPU of its own"
    )


def _range_time(found: FleetOutlook) -> float:
    batch = found.found
    return found.range_size / (batch.count + batch.resent) * batch.working


def _between(low: str, high: str) -> str:
    if low == high:
        return "90% interval rounds to the same"
    same = low.split()[1:] == high.split()[1:]
    return f"{low.split()[0] if same else low} to {high}, 90%"


def _longer(seconds: float) -> str:
    return "the batch ends no later" if seconds < 0.05 else f"the batch ends {span(seconds)} later"


def duration(seconds: float) -> str:
    """Return a time for people, in days where hours grow many.

    >>> duration(7_000), duration(170_000), duration(308_000)
    ('117 min', '47 h', '3.56 days')
    """
    return span(seconds) if seconds < 172_800 else f"{number(seconds / 86_400)} days"
