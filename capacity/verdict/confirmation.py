"""What comparisons showed of a lever, and whether the model's estimate of it was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capacity import files
from capacity.errors import UsageError

if TYPE_CHECKING:
    from capacity.experiment.setting import Setting
    from capacity.verdict.levers import Lever

_NAMES: Final = {"indexes": "unused-indexes", "max_conns": "max-conns", "launcher_processes": "processes"}
"""Settings of `capacity compare` that are levers of another name."""


def confirmation(lever: Lever, comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return what comparisons showed of a lever, and whether the model was right.

    One counts whose two sides differ in nothing else, and whose candidate has more of it.

    >>> from capacity.verdict.levers import Lever
    >>> shards = Lever("shards", "shards x 2", 0.15, 0.1, 0.2, wanted=64)
    >>> found = {"baseline": "4x,shards=32", "candidate": "4x,shards=64"}
    >>> confirmation(shards, [found | {"throughput_ratio": 1.2, "throughput_interval": [1.1, 1.3]}])
    "confirmed: 4x,shards=64 +20% [+10, +30]; the model's +15% lies in that"
    """
    told = []
    for found in comparisons:
        change = _change(found)
        if change is None or change[0] != _NAMES.get(lever.key, lever.key):
            continue
        _, before, after = change
        if before is None and lever.wanted is not None:
            before = lever.wanted / 2
        if after is not None and before is not None and after <= before:
            continue
        told.append(_shown(lever, found, after))
    return "; ".join(told)


def _shown(lever: Lever, found: Mapping[str, Any], after: float | None) -> str:
    candidate, interval = found["candidate"], found.get("throughput_interval")
    if not interval:
        return f"not settled: {candidate}, too few blocks"
    low, high = (edge - 1 for edge in interval)
    state = "confirmed" if low > 0 else "refuted" if high < 0 else "not settled"
    told = f"{state}: {candidate} {_percent(found['throughput_ratio'] - 1)}% {_edges(low, high)}"
    if found.get("cpu_interval"):
        less, more = (edge - 1 for edge in found["cpu_interval"])
        told += f", CPU of a start {_percent(found['cpu_ratio'] - 1)}% {_edges(less, more)}"
    if after is not None and lever.wanted is not None and after != lever.wanted:
        return f"{told}; the model's {_percent(lever.gain)}% is for {lever.wanted:g}, not {after:g}"
    return f"{told}; the model's {_percent(lever.gain)}% {_agrees(lever, low, high)}"


def _change(found: Mapping[str, Any]) -> tuple[str, float | None, float | None] | None:
    """Return what alone two sides differ in, and its two values where they are numbers.

    None if in more or nothing, and where the candidate does without what the baseline was given.
    """
    from capacity.experiment.setting import setting_of

    def said(setting: Setting, flight: object) -> dict[str, object]:
        keys = {key.replace("max_conns", "max-conns"): value for key, value in setting.keys.items()}
        return {"in flight": flight, "processes": setting.processes, **keys}

    try:
        sides = [setting_of(str(found.get(side, ""))) for side in ("baseline", "candidate")]
    except UsageError:  # settings of another version
        return None
    baseline, candidate = map(said, sides, _flights(found, sides))
    changed = [key for key in baseline | candidate if baseline.get(key) != candidate.get(key)]
    if len(changed) != 1:
        return None
    (key,) = changed
    if key not in candidate:
        return None
    return key, _number(baseline.get(key)), _number(candidate.get(key))


def _flights(found: Mapping[str, Any], sides: Sequence[Setting]) -> list[object]:
    """Return what each side had in flight: where the names do not say the same, as its runs had it.

    A name of keys alone leaves it to ``--parallelism``; ``4x`` is of the machine that compared, not of this one.
    """
    named: list[object] = [(side.parallelism, side.rate) for side in sides]
    if named[0] == named[1] and sides[0].says_flight == sides[1].says_flight:
        return named
    if any(side.parallelism is None for side in sides):  # a rate, or what a controller finds, differs from run to run
        return named
    blocks = found.get("blocks")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return named
    points = [[block.get(side) for block in blocks] for side in ("baseline", "candidate")]
    ran: list[object] = [
        {str(point.get("parallelism")) for point in side if isinstance(point, dict)} for side in points
    ]
    return ran if all(ran) else named


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | str) and str(value).isdecimal() else None


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
        if not isinstance(found, dict) or not all(isinstance(found.get(s), str) for s in ("baseline", "candidate")):
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
