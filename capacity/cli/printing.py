"""How commands print: rows in columns, headed sentences, and a console that shows every text as it stands."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from capacity.cli.options import WIDTH

if TYPE_CHECKING:
    from rich.console import Console


def console(**options: Any) -> Console:
    """Return a console that reads no markup and no emoji into names, paths and reasons.

    >>> console().print("/tmp/[x]/a :x:")
    /tmp/[x]/a :x:
    """
    from rich.console import Console  # heavy, and JSON does without

    return Console(highlight=False, markup=False, emoji=False, **options)


def columns(rows: Sequence[Sequence[str]], left: Collection[int] = ()) -> list[str]:
    """Return rows as lines of columns, right-aligned but for those named.

    >>> columns([("name", "n"), ("a", "10")], left=(0,))
    ['name   n', 'a     10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def wrapped(text: str, *, indent: str = "") -> list[str]:
    """Return a text in lines of at most `WIDTH` characters, those after the first indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False)


def print_columns(rows: Sequence[Sequence[str]], left: Collection[int] = ()) -> None:
    """Print rows in columns, right-aligned but for those named."""
    print("\n".join(columns(rows, left)))


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print named values: folded into a terminal, as `print_notes` into a pipe."""
    from rich.table import Table

    shown = console()
    if not shown.is_terminal:
        print_notes(rows)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    shown.print(table)


def print_notes(notes: Iterable[tuple[str, str]]) -> None:
    """Print headed sentences, wrapped and hanging; no path or other word is broken."""
    notes = list(notes)
    indent = max(len(name) for name, _ in notes) + 2
    for name, words in notes:
        lines = textwrap.wrap(words, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
        for i, line in enumerate(lines):
            print((name if i == 0 else "").ljust(indent) + line)


def warn(sentence: object) -> None:
    """Warn on standard error, where it is in no result's way."""
    print(f"capacity: warning: {sentence}", file=sys.stderr)
