"""The tuning table: parallelism for each CPU count and multiplier, and where the cap holds a row back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from capacity.errors import UsageError
from capacity.rules.pool import DEFAULT_RULES, PoolRules, parallelism, whole_number

CPU_COUNTS = (8, 16, 32, 64, 128)
MULTIPLIERS = (2, 4, 6, 8)


@dataclass(frozen=True)
class Cell:
    """One entry of the tuning table.

    Parameters
    ----------
    cpus, multiplier : int
        CPUs of the scheduler's machine, and starts in flight per CPU.
    product : int
        cpus x multiplier [starts in flight], before any clamp.
    parallelism : int
        Starts in flight the rules give.
    capped : bool
        Whether the entry stands at the cap in a row that the cap cuts; see `tuning_table`.
    """

    cpus: int
    multiplier: int
    product: int
    parallelism: int
    capped: bool

    def __str__(self) -> str:
        return f"{self.parallelism}{'*' if self.capped else ''}"


@dataclass(frozen=True)
class TuningTable:
    """Parallelism by CPU count (rows) and multiplier (columns).

    Parameters
    ----------
    cpus, multipliers : tuple of int
        Heads of the rows and of the columns.
    maximum : int
        The cap [starts in flight].
    rows : tuple of tuple of Cell
        One tuple per CPU count, one cell per multiplier.
    """

    cpus: tuple[int, ...]
    multipliers: tuple[int, ...]
    maximum: int
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def legend(self) -> str:
        """What `*` means, in one sentence; empty when nothing is marked."""
        if not any(cell.capped for row in self.rows for cell in row):
            return ""
        return f"* cap of {self.maximum} reached, and it cuts this row: a higher multiplier buys nothing"

    def to_dict(self) -> dict[str, object]:
        """The table as JSON-ready values, `capped` apart from the number."""
        return {
            "maximum": self.maximum,
            "legend": self.legend,
            "cells": [vars(cell) for row in self.rows for cell in row],
        }

    def to_markdown(self) -> str:
        """The table as a Markdown table, `*` after what `tuning_table` says."""
        lines = ["| " + " | ".join(["CPU Count", *(f"{multiplier}x" for multiplier in self.multipliers)]) + " |"]
        lines.append("|---" * (len(self.multipliers) + 1) + "|")
        lines += ["| " + " | ".join([str(row[0].cpus), *map(str, row)]) + " |" for row in self.rows]
        return "\n".join(lines)


def tuning_table(
    cpus: Sequence[int] = CPU_COUNTS, multipliers: Sequence[int] = MULTIPLIERS, rules: PoolRules = DEFAULT_RULES
) -> TuningTable:
    """Parallelism for each CPU count and multiplier, marked where the cap holds a row back.

    An entry is marked when it stands at the cap and the cap cuts its row, that is when CPUs x the widest multiplier
    of the table exceeds the cap. So 128 x 4 is marked though its product is exactly 512, since 6 and 8 per CPU give
    that row no more; 64 x 8 is not, since nothing of its row is lost. The original marked both.

    Parameters
    ----------
    cpus : sequence of int
        CPU counts, each at least 1; in the order given, each once.
    multipliers : sequence of int
        Starts in flight per CPU, each at least 1; in the order given, each once.
    rules : PoolRules
        Bounds; its own multiplier is not used.

    Returns
    -------
    TuningTable
        The heads and the cells.

    Raises
    ------
    UsageError
        No CPU count or no multiplier, or one that is not a whole number of at least 1.

    Examples
    --------
    >>> print(tuning_table(cpus=[64, 128], multipliers=[4, 8]).to_markdown())
    | CPU Count | 4x | 8x |
    |---|---|---|
    | 64 | 256 | 512 |
    | 128 | 512* | 512* |
    """
    heads, columns = _heads("cpus", cpus), _heads("multipliers", multipliers)
    rows = tuple(_row(count, columns, rules) for count in heads)
    return TuningTable(heads, columns, rules.maximum, rows)


def _row(cpus: int, multipliers: tuple[int, ...], rules: PoolRules) -> tuple[Cell, ...]:
    cut = cpus * max(multipliers) > rules.maximum
    cells = []
    for multiplier in multipliers:
        value = parallelism(cpus, rules=replace(rules, multiplier=multiplier)).value
        cells.append(Cell(cpus, multiplier, cpus * multiplier, value, capped=cut and value == rules.maximum))
    return tuple(cells)


def _heads(name: str, values: Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(dict.fromkeys(whole_number(name, value) for value in values))
    if not numbers or min(numbers) < 1:
        shown = f"holds {min(numbers)}" if numbers else "is empty"
        raise UsageError(f"{name} {shown}", allowed="whole numbers of 1 or more")
    return numbers
