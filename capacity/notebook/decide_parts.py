"""What a comparison shows while it runs and after: ratios for the figure, words and tables. No widgets, no thread."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from capacity.figures.comparison import BASELINE_FIRST, CANDIDATE_FIRST, LEFT_OUT, Blocks, comparison_spec
from capacity.notebook.markup import headed

if TYPE_CHECKING:
    from capacity.experiment.blocks import Block, Compared
    from capacity.notebook.decide_form import Asked
    from capacity.verdict.comparison import Comparison
    from capacity.verdict.ratio import Ratio

Around = tuple[float, float | None, float | None]
"""A ratio and its interval."""
_COLOURS = {"take": "#009E73", "trade": "#E69F00", "keep": "#0072B2", "open": "#767676"}


def judged(blocks: Sequence[Block], asked: Asked, compared: Compared | None = None) -> Comparison:
    """Return what the blocks so far say."""
    from capacity.experiment.blocks import notes
    from capacity.verdict.comparison import compare

    said = notes(asked.baseline, asked.candidate, compared.conditions if compared else None)
    return compare(blocks, asked.baseline.name, asked.candidate.name, said)


def blocks_view(so_far: Sequence[Comparison]) -> Blocks:
    """Return what the figure draws; `so_far` is the judgement after each block."""
    from capacity.verdict.comparison import is_left_out

    if not so_far:
        return Blocks()
    blocks = so_far[-1].blocks
    kinds = [
        LEFT_OUT if is_left_out(block) else BASELINE_FIRST if block.baseline_first else CANDIDATE_FIRST
        for block in blocks
    ]
    return Blocks(
        number=range(1, len(blocks) + 1),
        kind=kinds,
        change=[_percent(_over(block, "throughput")) for block in blocks],
        factor=[_over(block, "p99") for block in blocks],
        change_so_far=[_percents(_edges(each.throughput)) for each in so_far],
        factor_so_far=[_edges(each.p99) for each in so_far],
    )


def spec(so_far: Sequence[Comparison], asked: Asked | None, title: str) -> dict[str, Any]:
    """Return the figure of the blocks so far."""
    from capacity.verdict.ratio import MARGIN

    under = "Throughput and p99 of the candidate, against the baseline"
    if asked is not None:
        under = f"{asked.candidate.label} against {asked.baseline.label}, {asked.wanted.seconds:g} s a run"
    count = asked.blocks if asked is not None else 12
    return comparison_spec(blocks_view(so_far), count, 100 * MARGIN, html.escape(title), html.escape(under))


def headline(found: Comparison) -> str:
    """Return throughput and p99 of the candidate in one short line."""
    name = found.candidate.name
    return f"{name}: {found.verdict.removeprefix(f'{name}: ').partition(': ')[0]}"


def verdict(found: Comparison, *, final: bool) -> str:
    """Return the sentence of verdict, what would settle it, and what to know of it; before the end as what it is."""
    style = f"margin:6px 0;padding:6px 10px;line-height:1.5;border-left:4px solid {_COLOURS[found.decision]}"
    notes = "".join(f"<br>Note: {html.escape(note)}." for note in found.notes)
    live, so_far = (' role="status"', "") if final else ("", "So far, ")
    return (
        f'<p{live} style="{style};color:var(--jp-content-font-color1,#212121)">'
        f"{so_far}<b>{html.escape(found.verdict)}.</b> {html.escape(settled(found))}.{notes}</p>"
    )


def settled(found: Comparison) -> str:
    """Return how many more blocks are wanted."""
    from capacity.verdict.ratio import MARGIN, MOST_BLOCKS

    if not found.is_judged:
        return "More blocks like these would not tell either"
    if found.more_blocks == 0:
        return "No more blocks are needed to tell its throughput"
    if found.more_blocks >= MOST_BLOCKS:
        return f"Blocks of this length never settle a difference of {MARGIN:.0%} in throughput: take longer ones"
    blocks = f"About {found.more_blocks:,} more blocks of this length"
    return f"{blocks} would settle a difference of {MARGIN:.0%} in throughput"


def summary_table(found: Comparison) -> str:
    """Return both settings, their ratio and its interval."""
    return headed("Medians of each setting, and their ratio", found.rows())


def blocks_table(so_far: Sequence[Comparison]) -> str:
    """Return every number of the figure: each block, and the ratio and interval after it."""
    view = blocks_view(so_far)
    rows: list[tuple[str, ...]] = [
        ("block", "first", "starts/s", "change", "so far", "95 % interval", "p99", "factor", "so far", "95 % interval")
    ]
    for place, block in enumerate(so_far[-1].blocks if so_far else ()):
        one, other = block.baseline, block.candidate
        middle, *edges = view.change_so_far[place]
        factor, *ends = view.factor_so_far[place]
        rows.append(
            (
                str(view.number[place]),
                "left out" if view.kind[place] == LEFT_OUT else view.kind[place].removesuffix(" first"),
                f"{one.throughput:,.0f}, {other.throughput:,.0f}",
                f"{view.change[place]:+.1f} %",
                f"{middle:+.1f} %",
                _interval(edges, "+,.1f", " %"),
                f"{one.p99 * 1e3:,.1f}, {other.p99 * 1e3:,.1f} ms",
                f"{view.factor[place]:.2f}",
                f"{factor:.2f}",
                _interval(ends, ",.2f", ""),
            )
        )
    return headed("Blocks: baseline, then candidate, and what they say together up to each", rows)


def _over(block: Block, figure: str) -> float:
    return float(getattr(block.candidate, figure)) / float(getattr(block.baseline, figure))


def _percent(ratio: float) -> float:
    return (ratio - 1) * 100


def _edges(found: Ratio) -> Around:
    return (found.value, *(found.interval or (None, None)))


def _percents(around: Around) -> Around:
    middle, low, high = around
    return _percent(middle), None if low is None else _percent(low), None if high is None else _percent(high)


def _interval(edges: Sequence[float | None], digits: str, unit: str) -> str:
    low, high = edges
    if low is None or high is None:
        return "too few blocks"
    return f"{low:{digits}} to {high:{digits}}{unit}" if high < 1e4 else f"{low:{digits}} to above 10,000{unit}"


def as_json(found: Comparison) -> str:
    """Return the comparison as a file for programs, as ``capacity compare --format json`` prints it."""
    return json.dumps(found.to_dict(), indent=1, allow_nan=False)
