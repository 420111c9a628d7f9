"""A checklist as text of 80 columns, as Markdown and as HTML."""

from __future__ import annotations

import html
import textwrap
from typing import Final

from capacity.verdict.checklist import LIMITS, REAL, Check, Checklist

WIDTH: Final = 80
HEAD: Final = ("state", "what", "value", "limit", "severity")
_COLOURS: Final = {"pass": "#1b7837", "FAIL": "#b2182b", "fail": "#8a5a00", "not measured": "#5f5f5f"}
"""Behind white words, so that they can be read on a light page and on a dark one."""
_BADGE: Final = "color:#fff;padding:0 .4em;border-radius:3px;white-space:nowrap"


def _row(check: Check) -> tuple[str, ...]:
    """Return the cells of a check; only what decides the verdict is a FAIL in capitals."""
    state = "FAIL" if (check.state, check.severity) == ("fail", "critical") else check.state
    return (state, check.title, check.shown_value, check.shown_limit, check.severity)


def _groups(checklist: Checklist) -> list[tuple[str, list[Check]]]:
    return [(group, [c for c in checklist.checks if c.group == group]) for group in (REAL, LIMITS)]


def _headline(checklist: Checklist) -> str:
    beside = f", beside run {checklist.baseline_id}" if checklist.baseline_id else ""
    return f"Checklist of run {checklist.run_id} at {checklist.address}{beside}"


def as_text(checklist: Checklist) -> str:
    """Return the checklist for a terminal: a line a check, what stands behind it indented below."""
    rows = [HEAD, *map(_row, checklist.checks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "

    def columns(cells: tuple[str, ...]) -> str:
        padded = [c.rjust(w) if i == 2 else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return gap.join(padded).rstrip()

    lines = [*textwrap.wrap(_headline(checklist), WIDTH), "", columns(HEAD)]
    indent = " " * (widths[0] + 2)
    for group, checks in _groups(checklist):
        lines += ["", group]
        for check in checks:
            lines.append(columns(_row(check)))
            lines += textwrap.wrap(check.explanation, WIDTH, initial_indent=indent, subsequent_indent=indent)
    lines += ["", *textwrap.wrap(checklist.sentence(), WIDTH)]
    for title, advice in checklist.advice():
        lines += textwrap.wrap(f"- {title}: {advice}", WIDTH, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def as_markdown(checklist: Checklist) -> str:
    """Return the checklist as Markdown tables."""
    lines = [f"# {_headline(checklist)}", "", f"**{_escaped(checklist.sentence())}**"]
    for group, checks in _groups(checklist):
        lines += [
            "",
            f"## {group}",
            "",
            "| state | what | value | limit | severity | why |",
            "|---|---|---:|---|---|---|",
        ]
        lines += [
            "| " + " | ".join(_escaped(cell) for cell in (*_row(check), check.explanation)) + " |" for check in checks
        ]
    advice = [f"- {_escaped(title)}: {_escaped(words)}" for title, words in checklist.advice()]
    return "\n".join([*lines, *(["", "## What to do", ""] if advice else []), *advice]) + "\n"


def as_html(checklist: Checklist) -> str:
    """Return the checklist as a piece of HTML; states are words, their colour only helps."""
    body = []
    for group, checks in _groups(checklist):
        body.append(f'<tr><th colspan="6" scope="rowgroup" style="text-align:left">{html.escape(group)}</th></tr>')
        for check in checks:
            state, *others = _row(check)
            cells = "".join(
                f'<td style="text-align:left;white-space:nowrap">{html.escape(cell)}</td>' for cell in others
            )
            badge = f'<b style="background:{_COLOURS[state]};{_BADGE}">{state}</b>'
            left = '<td style="text-align:left">'
            body.append(f"<tr>{left}{badge}</td>{cells}{left}{html.escape(check.explanation)}</td></tr>")
    head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in (*HEAD, "why"))
    advice = "".join(f"<li>{html.escape(title)}: {html.escape(words)}</li>" for title, words in checklist.advice())
    return (
        f"<p><strong>{html.escape(checklist.sentence())}</strong></p>"
        + (f"<ul>{advice}</ul>" if advice else "")
        + f"<table><caption>{html.escape(_headline(checklist))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def as_page(checklist: Checklist) -> str:
    """Return the checklist as an HTML page of its own."""
    style = "body{font-family:sans-serif;margin:2em}td,th{padding:.2em .8em .2em 0;vertical-align:top}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(_headline(checklist))}</title><style>{style}</style></head>"
        f"<body>{as_html(checklist)}</body></html>\n"
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
