"""The tuning table as plain HTML: readable by a screen reader, in either theme, and without its style."""

from __future__ import annotations

from capacity.model.words import number, span
from capacity.notebook.explore_view import Scene, Tuned

# `<br>` and spaces between the parts matter: an untrusted notebook strips the style, and "32now" would be one word.
# Shown once: a style sheet that comes anew with each table has the browser work out the style of the whole page.
STYLE = """<style>
.cap-table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:12px;
color:var(--jp-content-font-color1,#212121)}
.cap-table caption{caption-side:top;text-align:left;font-size:13px;font-weight:600;padding:0 0 6px;color:inherit}
.cap-table th,.cap-table td{padding:4px 10px;text-align:right;line-height:1.35;white-space:nowrap;
border:1px solid var(--jp-border-color2,#e0e0e0);background:transparent}
.cap-table tbody th{white-space:normal}
.cap-table thead th{border-bottom:2px solid var(--jp-border-color1,#bdbdbd);font-weight:600}
.cap-table td b{font-size:13px}
.cap-table td.missed{background:repeating-linear-gradient(45deg,transparent 0 6px,rgba(213,94,0,.13) 6px 8px)}
.cap-table td.best{outline:2px solid #009E73;outline-offset:-2px}
.cap-table td.now{outline:2px solid #56B4E9;outline-offset:-2px}
.cap-table td.now.best{outline:3px double #0072B2;outline-offset:-3px}
.cap-wide{container-type:inline-size;overflow-x:auto}
@container (min-width:740px){.cap-table br.narrow{display:none}}
.cap-table td i{font-style:normal;font-weight:600}
.cap-table small{font-size:11px;color:var(--jp-content-font-color2,#616161)}
.cap-legend{font-size:12px;line-height:1.5;color:var(--jp-content-font-color2,#616161);margin:6px 0 0;max-width:60em}
</style>"""

PAST_KNEE, SLOW, BIG = "\u2020", "\u2021", "\u00a7"
"""Marks of a cell: beyond the knee, over the p99 wanted, over the memory limit."""


def table_html(found: Scene) -> str:
    """The tuning table with what is predicted of each cell, its marks, and what they mean."""
    heads = "".join(f'<th scope="col">{multiplier}x</th>' for multiplier in found.table.multipliers)
    plan = found.choice.plan
    now = (plan.cpus, plan.multiplier)
    rows = "".join(
        f'<tr><th scope="row">{row[0].cell.cpus}</th>{"".join(_cell(tuned, found, now) for tuned in row)}</tr>'
        for row in found.cells
    )
    caption = "In flight, starts/s, p99, launcher memory, by CPUs and starts per CPU"
    head = f'<thead><tr><th scope="col">CPU Count</th>{heads}</tr></thead>'
    table = f'<table class="cap-table"><caption>{caption}</caption>{head}<tbody>{rows}</tbody></table>'
    return f'<div class="cap-wide">{table}</div>{_legend(found)}'


def _legend(found: Scene) -> str:
    choice, cells = found.choice, [tuned for row in found.cells for tuned in row]
    words = []
    if any(tuned.past_knee for tuned in cells):
        words.append(f"{PAST_KNEE} past the knee of {found.knee:,} in flight: more waiting, hardly more starts")
    if any(tuned.slow for tuned in cells):
        words.append(f"{SLOW} over the p99 wanted, {span(choice.p99 or 0)}")
    if any(tuned.big for tuned in cells):
        words.append(f"{BIG} over the memory limit, {(choice.memory or 0) / 2**20:,.0f} MiB")
    if found.table.legend:
        words.append(found.table.legend)
    return f'<p class="cap-legend">{"<br>".join(words)}</p>' if words else ""


def _cell(tuned: Tuned, found: Scene, now: tuple[int, int]) -> str:
    cell = tuned.cell
    place = (cell.cpus, cell.multiplier)
    current, best, missed = place == now, place == found.recommended, tuned.slow or tuned.big
    classes = " ".join(name for name, on in (("now", current), ("best", best), ("missed", missed)) if on)
    marks = "".join(mark for mark, on in ((PAST_KNEE, tuned.past_knee), (SLOW, tuned.slow), (BIG, tuned.big)) if on)
    overridden = current and found.choice.plan.override is not None
    notes = [words for words, on in (("recommended", best), ("overridden" if overridden else "now", current)) if on]
    title = f"{cell.cpus} CPUs x {cell.multiplier} = {cell.product:,}: {cell.parallelism:,} in flight"
    aria = ' aria-current="true"' if current else ""
    words = f" <i>{', '.join(notes)}</i>" if notes else ""
    return (
        f'<td class="{classes}" title="{title}"{aria}>{words.strip()}{" " if words else ""}<b>{cell}</b>'
        f"{f' {marks}' if marks else ''}<br>{number(tuned.throughput)}/s"
        f'<br class="narrow"> '
        f"<small>{span(tuned.p99)}, {tuned.memory / 2**20:,.0f} MiB</small></td>"
    )
