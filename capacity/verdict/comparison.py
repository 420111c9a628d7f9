"""Is the candidate better than the baseline? Ratios with intervals from blocks that have both, and a sentence.

The arithmetic is `capacity.verdict.ratio`'s.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from capacity.experiment.blocks import Block
from capacity.experiment.points import IN_BURST
from capacity.model.measurement import Flag, Point
from capacity.model.words import number, span
from capacity.verdict.ratio import LEVEL, MARGIN, Ratio, blocks_needed, ratio

_WORTHLESS: Final = {
    Flag.FAILED: ("starts failed", "look in the server's log for why starts failed"),
    Flag.TOO_SHORT: ("too few starts to tell", "take more seconds a run: they have too few starts"),
    IN_BURST: (
        "within the burst of the server's rate limit",
        "take more seconds a run: they fit into the burst of the server's rate limit, which does not last",
    ),
}
"""Why a block with such a run says nothing, and what to do if all do."""
LONGER: Final = 0.1
"""Growth of p99 that matters, as a fraction."""
PATIENCE: Final = 200
"""Blocks beyond which longer runs are the better advice."""


@dataclass(frozen=True)
class Side:
    """Medians of one setting: starts per second, 99 % latency [s], CPU of server and database per start [s]."""

    name: str
    throughput: float
    p99: float
    cpu: float | None


@dataclass(frozen=True)
class Comparison:
    """A candidate against a baseline.

    Parameters
    ----------
    baseline, candidate : Side
    throughput, p99 : Ratio
    cpu : Ratio, optional
        Of the CPU of server and database per start; None where it was not measured.
    blocks : tuple of Block
    left_out : int
        Blocks that say nothing: failed or too few starts, or none that would last.
    more_blocks : int
        How many more would settle whether the throughput differs by `MARGIN`; 0 where none could be judged.
    decision : str
        ``take``, ``keep``, ``trade`` or ``open``.
    verdict : str
        In a sentence.
    notes : tuple of str
        What to know of it.
    """

    baseline: Side
    candidate: Side
    throughput: Ratio
    p99: Ratio
    cpu: Ratio | None
    blocks: tuple[Block, ...]
    left_out: int
    more_blocks: int
    decision: str
    verdict: str
    notes: tuple[str, ...] = ()

    @property
    def is_judged(self) -> bool:
        """Whether any block could be judged."""
        return self.left_out < len(self.blocks)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table for people: a heading, a row per setting and the ratios."""
        head = ("", "starts/s", "p99", "CPU a start")
        sides = [
            (
                side.name,
                number(side.throughput),
                span(side.p99),
                "-" if side.cpu is None else f"{side.cpu * 1e3:.2f} ms",
            )
            for side in (self.baseline, self.candidate)
        ]
        ratio = (
            "ratio",
            f"{self.throughput.value:.3f}",
            f"{self.p99.value:.2f}",
            f"{self.cpu.value:.3f}" if self.cpu else "",
        )
        edges = (
            f"{LEVEL:.0%} interval",
            _edges(self.throughput, 3),
            _edges(self.p99, 2),
            _edges(self.cpu, 3) if self.cpu else "",
        )
        return [head, *sides, ratio, edges]

    def to_frame(self) -> list[dict[str, Any]]:
        """Return one row per block, as plain numbers."""
        return [
            {
                "block": block.index,
                "first": self.baseline.name if block.baseline_first else self.candidate.name,
                "baseline_throughput": block.baseline.throughput,
                "candidate_throughput": block.candidate.throughput,
                "baseline_p99": block.baseline.p99,
                "candidate_p99": block.candidate.p99,
            }
            for block in self.blocks
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "baseline": self.baseline.name,
            "candidate": self.candidate.name,
            "throughput_ratio": self.throughput.value,
            "throughput_interval": self.throughput.interval and list(self.throughput.interval),
            "p99_ratio": self.p99.value,
            "p99_interval": self.p99.interval and list(self.p99.interval),
            "cpu_ratio": self.cpu and self.cpu.value,
            "cpu_interval": self.cpu and self.cpu.interval and list(self.cpu.interval),
            "verdict": self.verdict,
            "decision": self.decision,
            "level": LEVEL,
            "more_blocks": self.more_blocks,
            "blocks_left_out": self.left_out,
            "notes": list(self.notes),
            "blocks": [block.model_dump(mode="json") for block in self.blocks],
        }

    def _repr_html_(self) -> str:
        head, *rows = self.rows()
        top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        caption = html.escape(self.verdict)
        return f"<table><caption>{caption}</caption><tr>{top}</tr>{body}</table>" + (
            f"<ul>{notes}</ul>" if notes else ""
        )


def compare(blocks: Sequence[Block], baseline: str, candidate: str, notes: Sequence[str] = ()) -> Comparison:
    """Judge blocks.

    Parameters
    ----------
    blocks : sequence of Block
        At least one.
    baseline, candidate : str
        What the settings are called.
    notes : sequence of str
        What else to know of it.

    Raises
    ------
    ValueError
        If there is no block.
    """
    if not blocks:
        raise ValueError("no block")
    used = [block for block in blocks if not is_left_out(block)]
    told = list(notes) + _notes(used or blocks, baseline, candidate)
    left_out = len(blocks) - len(used)
    if left_out:
        why = ", or ".join(_WORTHLESS[each][0] for each in _worthless(blocks))
        told.append(f"{left_out} of {len(blocks)} blocks are left out: {why}")
    throughput = ratio(used or blocks, "throughput")
    p99 = ratio(used or blocks, "p99")
    if not used:  # their numbers are shown and decide nothing
        throughput, p99 = (Ratio(found.value, None, None, 0, 1.0) for found in (throughput, p99))
    more = blocks_needed(throughput, len(used)) if used else 0
    decision, advice = _decide(throughput, p99, baseline, candidate, more) if used else _unjudged(blocks, baseline)
    first = "throughput " + _percent(throughput) + ", p99 " + _times(p99)
    return Comparison(
        baseline=_side(baseline, [block.baseline for block in used or blocks]),
        candidate=_side(candidate, [block.candidate for block in used or blocks]),
        throughput=throughput,
        p99=p99,
        cpu=ratio(used, "cpu") if used and all(p.cpu for b in used for p in (b.baseline, b.candidate)) else None,
        blocks=tuple(blocks),
        left_out=left_out,
        more_blocks=more,
        decision=decision,
        verdict=f"{candidate}: {first}: {advice}",
        notes=tuple(told),
    )


def _decide(throughput: Ratio, p99: Ratio, baseline: str, candidate: str, more: int) -> tuple[str, str]:
    blocks = f"about {more:,} more blocks would settle its throughput"
    if more > PATIENCE:
        blocks = "runs this short hardly settle its throughput: take more seconds a run"
    if throughput.is_same:  # asked first: more blocks must not make a difference of what is smaller than one
        if p99.is_less:
            return "take", f"take {candidate}: as many starts, less latency"
        return "keep", f"keep {baseline}"
    if throughput.is_more and p99.is_more:
        return "trade", f"more starts for more latency; take {candidate} only where that p99 will do"
    if throughput.is_more:
        settled = p99.interval is not None and p99.interval[1] < 1 + LONGER
        unsure = "" if settled else ", if a longer p99 will do: whether it has one is not settled"
        return "take", f"take {candidate}{unsure}"
    if throughput.is_less and p99.is_less:
        return "trade", f"less latency for fewer starts; keep {baseline} unless p99 is what counts"
    if throughput.is_less:
        return "keep", f"keep {baseline}"
    if p99.is_more:
        return "keep", f"keep {baseline}" + ("" if throughput.value < 1 + MARGIN else f"; {blocks}")
    return "open", f"not settled, keep {baseline} for now; {blocks}"


def is_left_out(block: Block) -> bool:
    """Return whether a block says nothing: a run of it failed, was too short, or would not have lasted."""
    return bool(_worthless([block]))


def _worthless(blocks: Sequence[Block]) -> list[str]:
    """Return the keys of `_WORTHLESS` that some run of the blocks has."""
    found = {key for block in blocks for run in (block.baseline, block.candidate) for key in _marks(run)}
    return [key for key in _WORTHLESS if key in found]


def _marks(run: Point) -> tuple[str | None, str | None]:
    return run.flag, run.throttle_cause


def _unjudged(blocks: Sequence[Block], baseline: str) -> tuple[str, str]:
    then = " and ".join(_WORTHLESS[each][1] for each in _worthless(blocks))
    return "open", f"no block could be judged, keep {baseline} for now; {then}"


def _notes(blocks: Sequence[Block], baseline: str, candidate: str) -> list[str]:
    found = []
    for name, runs in ((baseline, [b.baseline for b in blocks]), (candidate, [b.candidate for b in blocks])):
        if count := sum(run.throttled > 0 for run in runs):
            causes = {run.throttle_cause for run in runs if run.throttle_cause}
            told = f" ({', '.join(sorted(causes))})" if causes else ""
            found.append(f"{name}: throttled in {count} of {len(runs)} runs{told}: that cap is what was measured")
        if count := sum(run.flag is Flag.LAUNCHER_BOUND for run in runs):
            found.append(f"{name}: the launcher itself was what bound in {count} of {len(runs)} runs")
        if count := sum(run.flag is Flag.LITTLE for run in runs):
            found.append(f"{name}: {Flag.LITTLE.value} in {count} of {len(runs)} runs: take care with its figures")
        if count := sum(run.flag is Flag.FAILED for run in runs):
            found.append(f"{name}: starts failed in {count} of {len(runs)} runs")
    return found


def _side(name: str, runs: Sequence[Point]) -> Side:
    cpu = [each for run in runs if (each := run.cpu) is not None]
    rates, tails = [run.throughput for run in runs], [run.p99 for run in runs]
    return Side(name, float(np.median(rates)), float(np.median(tails)), float(np.median(cpu)) if cpu else None)


def _percent(found: Ratio) -> str:
    """As "-1% [-4, +2]"; a decimal where whole per cent would say nothing."""
    edges = found.interval or (found.value, found.value)
    digits = 1 if max(abs(edge - 1) for edge in edges) < 0.02 else 0
    low, high = (_signed(edge, digits) for edge in edges)
    interval = f"[{low}, {high}]" if found.interval else "[too few blocks]"
    return f"{_signed(found.value, digits)}% {interval}"


def _signed(value: float, digits: int) -> str:
    percent = round((value - 1) * 100, digits)
    return f"{percent + 0.0:+.{digits}f}" if percent else "0"


def _times(found: Ratio) -> str:
    interval = f" [{_factor(found.interval[0])}, {_factor(found.interval[1])}]" if found.interval else ""
    return f"{_factor(found.value)} x{interval}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 20 else f"{value:,.0f}"


def _edges(found: Ratio, digits: int) -> str:
    if found.interval is None:
        return "too few blocks"
    low, high = found.interval
    return f"{low:.{digits}f} to {high:.{digits}f}"
