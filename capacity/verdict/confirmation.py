"""What comparisons showed of a lever, and whether the model's estimate of it was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capacity import files
from capacity.errors import UsageError

if TYPE_CHECKING:
    from capacity.verdict.levers import Lever


def confirmation(lever: Lever, comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return what comparisons showed of a lever, those whose candidate names it, and whether the model was right.

    >>> from capacity.verdict.levers import Lever
    >>> shards = Lever("shards", "shards x 2", 0.15, 0.1, 0.2)
    >>> found = {"candidate": "shards=64", "throughput_ratio": 1.2, "throughput_interval": [1.1, 1.3]}
    >>> confirmation(shards, [found])
    "confirmed: shards=64 +20% [+10, +30]; the model's +15% lies in that"
    """
    words = {"indexes": "unused-indexes", "max_conns": "max-conns"}.get(lever.key, lever.key)
    for found in comparisons:
        candidate, interval = str(found.get("candidate", "")), found.get("throughput_interval")
        if not any(part.strip().partition("=")[0].replace("_", "-") == words for part in candidate.split(",")):
            continue
        if not interval:
            return f"not settled: {candidate}, too few blocks"
        low, high = (edge - 1 for edge in interval)
        state = "confirmed" if low > 0 else "refuted" if high < 0 else "not settled"
        told = f"{state}: {candidate} {_percent(found['throughput_ratio'] - 1)}% {_edges(low, high)}"
        if found.get("cpu_interval"):
            less, more = (edge - 1 for edge in found["cpu_interval"])
            told += f", CPU of a start {_percent(found['cpu_ratio'] - 1)}% {_edges(less, more)}"
        return f"{told}; the model's {_percent(lever.gain)}% {_agrees(lever, low, high)}"
    return ""


def _agrees(lever: Lever, low: float, high: float) -> str:
    """Return whether the model's gain lies in a measured interval, and if not why it may not."""
    if low <= lever.gain <= high:
        return "lies in that"
    if lever.gain_low <= high and low <= lever.gain_high:
        return f"does not, but its own interval, {_edges(lever.gain_low, lever.gain_high)}, has part of that"
    if lever.key == "indexes":
        more = "their waits for WAL and locks, which it does not count, went as well"
        less = "of an index's time more is waiting here than it takes for CPU, or something else binds"
        return f"is too {'small' if lever.gain < low else 'large'}: {more if lever.gain < low else less}"
    side = "small" if lever.gain < low else "large"
    return f"is too {side}: its calibration is not of this cluster; measure it with 'capacity sweep'"


def _percent(part: float) -> str:
    return f"{round(part * 100) + 0:+d}"


def _edges(low: float, high: float) -> str:
    return f"[{_percent(low)}, {_percent(high)}]"


def comparison_of(path: Path) -> dict[str, Any]:
    """Read what ``capacity compare --out`` wrote.

    Raises
    ------
    UsageError
        If it is no comparison.
    """
    try:
        found = files.json_file(path)
        if not isinstance(found, dict) or not isinstance(found.get("candidate"), str):
            raise files.UnreadableError("is not the JSON of a comparison")
        for figure in ("throughput", "cpu"):
            _check_ratio(found, figure)
    except (OSError, files.UnreadableError) as error:
        raise UsageError(
            f"comparison {path}: {files.reason(error)}", next_step="make one: capacity compare ... --out FILE"
        ) from error
    return dict(found)


def _check_ratio(found: Mapping[str, Any], figure: str) -> None:
    """A ratio and its interval, which is null where the blocks were too few; CPU may be missing altogether."""
    interval, ratio = found.get(f"{figure}_interval"), found.get(f"{figure}_ratio")
    if figure == "throughput" and not {"throughput_ratio", "throughput_interval"} <= found.keys():
        raise files.UnreadableError("is not the JSON of a comparison")
    pair = isinstance(interval, list) and len(interval) == 2
    if interval is not None and not (pair and all(_is_ratio(edge) for edge in [*interval, ratio])):
        raise files.UnreadableError(f"is damaged: {figure}_interval is {files.shown(interval)}")


def _is_ratio(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1e9  # type: ignore[operator]
