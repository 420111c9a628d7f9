"""The tuning table as plain HTML: readable by a screen reader, in either theme, and without its style."""

from __future__ import annotations

from capacity.rules.table import Cell, TuningTable

# `<br>` before each note matters: an untrusted notebook strips the style, and "32now" would be one word.
STYLE = """<style>
.cap-table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;
color:var(--jp-content-font-color1,#212121)}
.cap-table caption{caption-side:top;text-align:left;font-weight:600;padding:0 0 6px;color:inherit}
.cap-table th,.cap-table td{padding:5px 14px;text-align:right;line-height:1.35;
border:1px solid var(--jp-border-color2,#e0e0e0);background:transparent}
.cap-table thead th{border-bottom:2px solid var(--jp-border-color1,#bdbdbd);font-weight:600}
.cap-table td{background:color-mix(in srgb,#0072B2 calc(var(--share)*1%),transparent)}
.cap-table td.capped{background:repeating-linear-gradient(45deg,transparent 0 5px,rgba(213,94,0,.22) 5px 7px)}
.cap-table td.now{outline:2px solid #56B4E9;outline-offset:-2px;font-weight:700}
.cap-table small{font-size:11px;opacity:.8;font-weight:400}
.cap-legend{font-size:12px;color:var(--jp-content-font-color2,#616161);margin:6px 0 0}
</style>"""


def table_html(table: TuningTable, current: tuple[int, int], note: str = "now") -> str:
    """The tuning table with one cell marked.

    Parameters
    ----------
    table : TuningTable
        What to show.
    current : tuple of int
        (CPUs, multiplier) of the cell to mark; a table without it marks none.
    note : str
        The words in the marked cell, since an outline alone is no text.

    Returns
    -------
    str
        A style sheet, the table with caption and scoped heads, and the meaning of `*` where it stands.
    """
    heads = "".join(f'<th scope="col">{multiplier}x</th>' for multiplier in table.multipliers)
    rows = "".join(
        f'<tr><th scope="row">{row[0].cpus}</th>' + "".join(_cell(cell, table.maximum, current, note) for cell in row)
        for row in table.rows
    )
    legend = f'<p class="cap-legend">{table.legend}</p>' if table.legend else ""
    return (
        f'{STYLE}<table class="cap-table"><caption>Starts in flight, by CPUs and starts per CPU</caption>'
        f'<thead><tr><th scope="col">CPU Count</th>{heads}</tr></thead><tbody>{rows}</tbody></table>{legend}'
    )


def _cell(cell: Cell, maximum: int, current: tuple[int, int], note: str) -> str:
    marked = (cell.cpus, cell.multiplier) == current
    classes = " ".join(name for name, on in (("now", marked), ("capped", cell.capped)) if on)
    title = f"{cell.cpus} CPUs x {cell.multiplier} = {cell.product:,}: {cell.parallelism:,} in flight"
    aria = ' aria-current="true"' if marked else ""
    words = f"<br><small>{note}</small>" if marked else ""
    share = 40 * cell.parallelism // maximum
    return f'<td class="{classes}" style="--share:{share}" title="{title}"{aria}>{cell}{words}</td>'
