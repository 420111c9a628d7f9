"""What a run is held to, as data: the original's limits number for number, ours, and the user's own over both.

Invariants: a threshold is complete (limit, unit, window, severity, source); a file of the user's changes single keys
of known thresholds, and what it misspells is refused by name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from capacity import files
from capacity.errors import UsageError
from capacity.model import shipped
from capacity.model.words import number, size, span

Figure = Literal[
    "starts_per_second",
    "postgres_cpu",
    "start_p99",
    "tasks",
    "memory_overhead",
    "duration",
    "connections",
    "failed",
    "throttled",
    "launcher_cpu",
    "memory_per_start",
    "create_p99",
    "sql_pool",
    "server_goroutines",
]
Severity = Literal["critical", "warning", "info"]
Unit = Literal["starts/s", "share", "s", "count", "bytes", "CPUs"]
Pair = tuple[float, float]
Seconds = Annotated[float, Field(ge=0, le=86_400)]

OURS: Final = ("title", "limit", "window", "alert_for", "severity", "baseline", "expected", "source", "per")
"""Keys a file of the user's may change."""
_WHERE_SHIPPED: Final = {
    "window": "no window: it is a figure of the whole run",
    "alert_for": "no alert_for: no alert watches it",
    "per": "no per: its limit is not for a number of starts",
}
"""Keys it may change only of a threshold that is shipped with them: elsewhere nothing reads them."""


class Threshold(BaseModel):
    """One limit of one figure.

    Attributes
    ----------
    key, title : str
        Its name for programs and for people.
    figure : str
        What is measured.
    bound : str
        ``at least`` or ``at most``: on which side of the limit a run must stay.
    limit : float
        In `unit`; with `relative_to` a share of that.
    unit : str
        Of the limit; ``share`` is 0 to 1.
    window : float
        How long the limit must be crossed without a break [s]; none for a figure of the whole run.
    alert_for : float
        How long Prometheus waits before it alerts [s].
    severity : str
        ``critical`` decides the exit code, ``warning`` does not, ``info`` is shown only.
    source : str
        Who set it, and why.
    baseline, expected : tuple of two floats, optional
        What the original had before its change, and expected after it, in `unit`: from and to.
    relative_to : str, optional
        ``prediction``: the limit is a share of what the model predicts.
    per : int, optional
        The limit is for so many starts and goes in proportion.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    key: str
    title: Annotated[str, Field(min_length=1, max_length=24, pattern=r"^[^\x00-\x1f]+$")]
    figure: Figure
    bound: Literal["at least", "at most"]
    limit: Annotated[float, Field(ge=0, le=1e15)]
    unit: Unit
    window: Seconds = 0.0
    alert_for: Seconds = 60.0
    severity: Severity
    source: Annotated[str, Field(min_length=1)]
    baseline: Pair | None = None
    expected: Pair | None = None
    relative_to: Literal["prediction"] | None = None
    per: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, data: Any) -> Any:
        """TOML has lists where the strict model wants pairs."""
        if not isinstance(data, Mapping):
            return data
        pairs = {k: tuple(v) for k, v in data.items() if k in ("baseline", "expected") and isinstance(v, list)}
        return {**data, **pairs}

    def crossed(self, value: float, limit: float | None = None) -> bool:
        """Return whether a value lies on the wrong side; the limit itself does not.

        Examples
        --------
        >>> start = {t.key: t for t in thresholds()}["start_p99"]
        >>> start.crossed(0.05), start.crossed(0.051)
        (False, True)
        """
        limit = self.limit if limit is None else limit
        return value < limit if self.bound == "at least" else value > limit

    @property
    def history(self) -> str:
        """What the figure was before the original's change and was expected to be after it; empty if nothing is said.

        Examples
        --------
        >>> {t.key: t for t in thresholds()}["postgres_cpu"].history
        'before the change 32%, expected after it 50% to 60%'
        """
        said = [f"before the change {_between(self.baseline, self.unit)}"] if self.baseline else []
        said += [f"expected after it {_between(self.expected, self.unit)}"] if self.expected else []
        return ", ".join(said) + (f" for {self.per:,}" if said and self.per else "")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.model_dump(mode="json")


def thresholds(file: Path | None = None) -> tuple[Threshold, ...]:
    """Return the shipped thresholds, the original's first, with the changes of a file.

    Parameters
    ----------
    file : Path, optional
        TOML with a table for each threshold to change, such as ``[start_p99]`` with ``limit = 0.1`` [s].

    Raises
    ------
    UsageError
        The file cannot be read, or holds a threshold, key or value that there is not.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name in shipped.names("thresholds"):
        tables.update(_read(shipped.path("thresholds", name)))
    changes = _read(file) if file is not None else {}
    for key, changed in changes.items():
        _refuse(key, tables, "threshold", file)
        if not isinstance(changed, dict):
            raise UsageError(f"{file}: {key} is {files.shown(changed)}", allowed=f"a table, [{key}] with limit = ...")
        for name in changed:
            _refuse(name, OURS, f"key of [{key}]", file)
            if (
                name in _WHERE_SHIPPED
                and name not in tables[key]
                and changed[name] != Threshold.model_fields[name].default
            ):
                given = files.shown(changed[name])
                raise UsageError(f"{file}: {name} of [{key}] is {given}", allowed=_WHERE_SHIPPED[name])
        tables[key] = {**tables[key], **changed}
    return tuple(_made(key, table, file) for key, table in tables.items())


def _read(file: Path) -> dict[str, Any]:
    try:
        return files.toml_file(file)
    except OSError as error:
        raise UsageError(
            f"cannot read thresholds {file}: {error.strerror}", next_step="pass a TOML file with --thresholds"
        ) from error
    except files.UnreadableError as error:
        raise UsageError(f"thresholds {file} {error}", next_step="correct the file") from error


def _refuse(given: str, known: Iterable[str], what: str, file: Path | None) -> None:
    known = tuple(known)
    if given in known:
        return
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    raise UsageError(
        f"{file}: unknown {what}: {given[:60]!r}",
        allowed=None if near else ", ".join(known),
        next_step=f"did you mean {near[0]}?" if near else None,
    )


_KINDS: Final = {
    "title": "text of 1 to 24 characters on one line",
    "limit": "a number of at least 0",
    "window": "seconds from 0 to 86,400",
    "alert_for": "seconds from 0 to 86,400",
    "severity": ", ".join(get_args(Severity)),
    "source": "text",
    "baseline": "two numbers, [from, to]",
    "expected": "two numbers, [from, to]",
    "per": "a whole number of starts, 1 or more",
}


def _made(key: str, table: Mapping[str, Any], file: Path | None) -> Threshold:
    try:
        found = Threshold.model_validate({**table, "key": key})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else key
        raise UsageError(
            f"{file}: {name} of [{key}] is {str(table.get(name))[:60]!r}", allowed=_KINDS.get(name)
        ) from None
    if found.unit == "share" and not found.limit <= 1:
        raise UsageError(
            f"{file}: limit of [{key}] is {found.limit:g}", allowed="a share from 0 to 1", next_step="85% is 0.85"
        )
    return found


def _between(pair: Pair, unit: str) -> str:
    low, high = (quantity(value, unit) for value in pair)
    return low if low == high else f"{low} to {high}"


def quantity(value: float | None, unit: str) -> str:
    """Return a figure for people.

    >>> quantity(0.0123, "s"), quantity(0.856, "share"), quantity(20e6, "bytes"), quantity(312.4, "starts/s")
    ('12 ms', '85.6%', '20 MB', '312/s')
    >>> quantity(0.0213, "s"), quantity(None, "s"), quantity(1000, "count"), quantity(0.45, "CPUs")
    ('21 ms', '-', '1,000', '0.45')
    """
    if value is None or math.isnan(value):
        return "-"
    if unit == "s":
        return span(value) if value < 1 else f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"
    if unit == "share":
        return f"{number(value * 100)}%"
    if unit == "bytes":
        return ("-" if value < 0 else "") + size(abs(value))
    if unit == "starts/s":
        return f"{number(value, 2)}/s"
    return f"{value:,.0f}" if unit == "count" else f"{value:.2f}"
