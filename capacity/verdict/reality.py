"""Is a run's throughput real: not a burst, not duplicates, counted by the server as well.

The original's 125,000/s were 1,000 calls inside one token bucket's burst, and it counted what was already started,
and what failed, as scheduled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from capacity.model.cluster import Cluster
from capacity.model.description import DEFAULTS
from capacity.model.prediction import configured_rate
from capacity.observe.run import Run

SHORTEST: Final = 3.0
"""Seconds after ramp and burst from which on a rate is one."""
INFLATED: Final = 1.1
"""Rate of the whole run over that after the burst from which on the first is not real."""


@dataclass(frozen=True)
class Question:
    """One question about the run's throughput.

    Parameters
    ----------
    key, title : str
        Its name for programs and for people.
    answer : bool or None
        None: cannot be told.
    why : str
        The figures behind it.
    """

    key: str
    title: str
    answer: bool | None
    why: str


def reality(run: Run, cluster: Cluster | None = None) -> list[Question]:
    """Return the questions whose answers make a throughput one: burst, counting, the server's count.

    Parameters
    ----------
    cluster : Cluster, optional
        Whose configured limits tell how large a burst is; else those the run's vitals have, else the server's defaults.
    """
    return [_burst(run, cluster), _counted(run), _verified(run)]


def _burst(run: Run, cluster: Cluster | None) -> Question:
    def told(answer: bool | None, why: str) -> Question:
        return Question("longer_than_burst", "longer than a burst", answer, why)

    if run.session_scheduled == 0:
        return told(None, "nothing was started in this run")
    rate, steady = run.starts_per_second, run.sustained_starts_per_second
    if run.throttled_attempts:
        if steady is None:
            return told(
                False,
                f"refused for its rate, and too short after the burst: {rate:,.0f}/s may be the burst alone; "
                f"launch for {SHORTEST:g} s longer",
            )
        words = f"{rate:,.0f}/s in all, {steady:,.0f}/s after the burst"
        return told(rate <= INFLATED * steady, words if rate <= INFLATED * steady else f"{words}: quote the second")
    limit, burst, source = _limit(run, cluster)
    highest = max(rate, steady or 0.0)  # the two differ by the ramp and by what a resumed run found there
    if highest > limit:
        admitted = burst + limit * run.duration_seconds
        if run.session_scheduled <= admitted:
            what = f"the burst of {burst:,.0f} of a limit of {limit:,.0f}/s ({source})"
            if run.session_scheduled > burst:
                what += f" and the {limit * run.duration_seconds:,.0f} it admits in {run.duration_seconds:.1f} s"
            starts = f"all {run.session_scheduled:,} starts"
            return told(False, f"{starts} fit into {what}: {highest:,.0f}/s would not last")
        words = f"{highest:,.0f}/s is above {limit:,.0f}/s ({source}), yet nothing was refused: name its limits"
        return told(None, words)
    if steady is None:
        return told(
            None, f"{run.duration_seconds:.1f} s are too short: {SHORTEST:g} s beside the ramp and the end are needed"
        )
    return told(True, f"{steady:,.0f}/s is below the limit of {limit:,.0f}/s ({source}), so no burst was needed")


def _limit(run: Run, cluster: Cluster | None) -> tuple[float, float, str]:
    """Return the lowest limit of the rate [1/s], its burst [starts] and where it is from."""
    cap = configured_rate(cluster) if cluster is not None else None
    if cluster is not None and cap is not None:
        return cap.rate, cap.burst or 0.0, f"{cap.key} of {cluster.name}"
    served = [
        limit
        for sample in run.vitals
        if sample.server is not None
        for limit in (sample.server.host_rps_limit, sample.server.namespace_rps_limit)
        if limit
    ]
    if served:
        return min(served), 2 * min(served), "as the server reports it"
    return DEFAULTS["frontend.namespaceRPS"], 2 * DEFAULTS["frontend.namespaceRPS"], "the server's default"


def _counted(run: Run) -> Question:
    others = run.already_running + run.already_finished
    counted = run.starts_per_second * run.duration_seconds
    parts = [f"{n:,} that {what}" for n, what in ((others, "were already there"), (run.failed, "failed")) if n]
    left_out = f"; {' and '.join(parts)} are left out" if parts else ""
    if abs(counted - run.session_scheduled) > max(0.5, 0.01 * run.session_scheduled):
        return Question(
            "starts_only",
            "counts starts alone",
            False,
            f"the rate stands for {counted:,.0f} starts, but the run created {run.session_scheduled:,}{left_out}",
        )
    if run.session_scheduled == 0:
        return Question("starts_only", "counts starts alone", False, f"nothing was started{left_out}")
    return Question("starts_only", "counts starts alone", True, f"{run.session_scheduled:,} created a run{left_out}")


def _verified(run: Run) -> Question:
    answer = None if run.verified is None else run.verified == run.in_place and run.error is None
    why = run.error or run.verification()
    if run.verified is not None and not answer and run.error is None:
        why = f"the server holds {run.verified:,} of {run.in_place:,} said to be in place"
    return Question("verified", "verified by the server", answer, why)
