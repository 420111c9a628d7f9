"""The checklist, the alerts and the way back as HTML: states are words, and everything to copy is text."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from capacity.model.words import many
from capacity.notebook.markup import headed
from capacity.verdict.rollback import TITLES

if TYPE_CHECKING:
    from capacity.verdict.checklist import Check, Checklist
    from capacity.verdict.rollback import Rollback, Way
    from capacity.verdict.thresholds import Threshold

_STATES = {"pass": ("✓ pass", "#009E73"), "fail": ("✗ FAIL", "#D55E00"), "not measured": ("? not measured", "#767676")}
_COMMANDS = ("systemd", "kubernetes")
"""Ways whose commands are for a shell, to the letter; those of the others are words."""
_BUTTON = (
    "margin:2px 8px 0 0;padding:2px 10px;border:1px solid var(--jp-border-color1,#bdbdbd);border-radius:2px;"
    "background:var(--jp-layout-color1,#fff);color:var(--jp-content-font-color1,#212121);cursor:pointer"
)
_PRE = (
    "margin:0;padding:6px 8px;overflow-x:auto;white-space:pre;width:0;min-width:100%;box-sizing:border-box;"
    "font-size:12px;line-height:1.45;tab-size:4;"
    "background:var(--jp-layout-color2,#eee);color:var(--jp-content-font-color1,#212121)"
)

# In a narrow window why a check stands as it does takes a line of its own: beside the rest it would have a word a line.
_CHECKS = """<style>
.cap-checks{container-type:inline-size;overflow-x:auto}
@container (max-width:700px){
.cap-checks :is(table,caption,thead,tbody){display:block}
.cap-checks tr{display:grid;grid-template-columns:7fr 7fr 4fr 7fr 4fr}
.cap-checks .cap-run tr>:is(th,td):not(:last-child){border:0;padding-bottom:0}
.cap-checks tr>:is(:last-child,[colspan]){grid-column:1/-1}
}
</style>"""


def checklist_table(checklist: Checklist) -> str:
    """Return a run's checks: state, value against limit, severity, and what stands behind it."""
    body = []
    for group in dict.fromkeys(check.group for check in checklist.checks):
        body.append(f'<tr><th colspan="6" scope="rowgroup" style="font-weight:600">{html.escape(group)}</th></tr>')
        body += [_check(check) for check in checklist.checks if check.group == group]
    names = ("check", "state", "value", "limit", "severity", "why")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    beside = f", beside {checklist.baseline_id}" if checklist.baseline_id else ""
    caption = f"Checklist of run {checklist.run_id} at {checklist.address}{beside}"
    return (
        f'{_CHECKS}<div class="cap-checks"><table class="cap-run"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _check(check: Check) -> str:
    words, colour = _STATES[check.state]
    state = f'<td style="white-space:nowrap;box-shadow:inset 3px 0 {colour};padding-left:10px"><b>{words}</b></td>'
    figures = "".join(
        f'<td style="white-space:nowrap">{html.escape(cell)}</td>' for cell in (check.shown_value, check.shown_limit)
    )
    cells = f"{figures}<td>{check.severity}</td><td>{html.escape(check.explanation)}</td>"
    return f'<tr><th scope="row">{html.escape(check.title)}</th>{state}{cells}</tr>'


def sentence(checklist: Checklist) -> str:
    """Return the verdict on a run in words."""
    colour = {"pass": "#009E73", "fail": "#D55E00", "incomplete": "#E69F00"}[checklist.verdict]
    style = f"margin:6px 0;padding:6px 10px;line-height:1.5;max-width:60em;border-left:4px solid {colour}"
    return (
        f'<p role="status" style="{style};color:var(--jp-content-font-color1,#212121)">'
        f"<b>{html.escape(checklist.sentence())}.</b></p>"
    )


def alerts_table(limits: Sequence[Threshold], checklist: Checklist | None, predicted: float | None) -> str:
    """Return the alerts of the limits: when each fires, and what the run under the checklist had."""
    from capacity.verdict.alert_rules import rules
    from capacity.verdict.thresholds import quantity

    by_key = {threshold.key: threshold for threshold in limits}
    checks = {check.key: check for check in checklist.checks} if checklist is not None else {}
    rows: list[tuple[str, ...]] = [("alert", "fires when", "for", "severity", "this run")]
    for rule in rules(limits, predicted):
        threshold, check = by_key.get(rule.threshold), checks.get(rule.threshold)
        when = rule.summary
        if threshold is not None:
            limit, unit = threshold.limit, threshold.unit
            if threshold.relative_to == "prediction" and predicted is not None:
                limit, unit = limit * predicted, "starts/s"
            when = f"{threshold.title} {'below' if threshold.bound == 'at least' else 'above'} {quantity(limit, unit)}"
        found = "" if check is None else check.shown_value if check.value is not None else "not measured"
        rows.append((rule.name, when, f"{rule.seconds:.0f} s", rule.severity, found))
    return headed("Alerts that Prometheus would raise by the same limits", rows)


def rollback_html(found: Rollback) -> str:
    """Return the way back: parallelism before and after, the lines for each place, how to verify, what to heed."""
    rows = [
        ("", "setting", "in flight", "why"),
        ("now", str(found.source), f"{found.before.value:,}", found.before.reason),
        ("after", str(found.target), f"{found.after.value:,}", found.after.reason),
    ]
    source = "" if found.cpus_source == "as given" else f" ({found.cpus_source})"
    caption = f"Back from {found.source} to {found.target} on {many(found.cpus, 'CPU')}{source}"
    verify = _copied("the commands that verify it", "\n".join(found.verify))
    ways = [_way(way) for way in found.ways] + [_card("Verify", "a shell where capacity is installed", verify)]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in found.notes)
    return (
        f"{headed(caption, rows)}"
        f'<div style="display:flex;flex-wrap:wrap;gap:14px 24px;margin:10px 0">{"".join(ways)}</div>'
        f'<ul style="line-height:1.5;max-width:60em">{notes}</ul>'
    )


def _way(way: Way) -> str:
    title = TITLES[way.name]
    blocks = [_copied(f"the {title} setting", way.setting)]
    if way.name in _COMMANDS:
        blocks.append(_copied(f"the {title} commands", "\n".join(way.commands)))
    else:
        blocks.append(f'<p style="margin:4px 0;line-height:1.4">Then: {html.escape("; ".join(way.commands))}.</p>')
    return _card(title, way.where, "".join(blocks))


def _card(title: str, where: str, content: str) -> str:
    return (
        '<section style="flex:1 1 24em;min-width:0;max-width:44em">'
        f'<h5 style="margin:0 0 2px;font-size:13px">{html.escape(title)}</h5>'
        f'<p style="margin:0 0 4px;line-height:1.4;overflow-wrap:anywhere">{html.escape(where)}</p>{content}</section>'
    )


def _copied(what: str, text: str) -> str:
    """Return text with a button that copies it (`page.Page` does), and where it then says so."""
    name = html.escape(what)
    return (
        f'<div style="margin:0 0 6px"><pre tabindex="0" role="region" aria-label="{name}" style="{_PRE}">'
        f"{html.escape(text)}</pre>"
        f'<button type="button" class="cap-copy" aria-label="Copy {name}" style="{_BUTTON}">Copy</button>'
        f'<span role="status" class="cap-copied"></span></div>'
    )
