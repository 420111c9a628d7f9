"""What a person takes along: every number of the figure as a table and as CSV, and a report that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from typing import Any, Final

from capacity import __version__
from capacity.figures import prediction_figure
from capacity.model.claim import claim
from capacity.model.outlook import Outlook
from capacity.model.prediction import Prediction
from capacity.model.words import each_of, many, number, span
from capacity.notebook.explore_figure import figure_view
from capacity.notebook.explore_view import Scene
from capacity.notebook.explore_words import explained, finding
from capacity.notebook.table import STYLE, table_html

COLUMNS: Final = (
    "kind",
    "name",
    "in_flight",
    "starts_per_second",
    "starts_per_second_low",
    "starts_per_second_high",
    "p99_seconds",
    "p99_seconds_low",
    "p99_seconds_high",
)
"""Of the CSV; low and high are the ends of the 90 % interval."""

Row = tuple[object, ...]


def rows(found: Scene, band: Prediction) -> list[Row]:
    """Every number of the figure, as the columns of `COLUMNS`; what a row does not have is empty."""
    listed: list[Row] = []
    for i, flight in enumerate(band.parallelism.tolist()):
        names = _names(found, flight, "plan")
        rate, p99 = band.throughput, band.p99
        figures = (figure[i] for figure in (rate.value, rate.low, rate.high, p99.value, p99.low, p99.high))
        listed.append(("predicted", " and ".join(names) or band.binding[i], flight, *(f"{x:.6g}" for x in figures)))
    for point in found.choice.calibration.measurements.points:
        if point.flag is None:
            cells = (f"{point.throughput:.6g}", "", "", f"{point.p99:.6g}", "", "")
            listed.append(("measured", found.choice.calibration.name, point.parallelism, *cells))
    listed += [("ceiling", ceiling.name, "", f"{ceiling.rate:.6g}", "", "", "", "", "") for ceiling in found.ceilings]
    if found.choice.p99 is not None:
        listed.append(("wanted", "p99", "", "", "", "", f"{found.choice.p99:.6g}", "", ""))
    return listed


def _names(found: Scene, flight: int, plan: str) -> list[str]:
    is_knee = flight == found.knee and not found.knee_beyond
    return [word for word, on in (("knee", is_knee), (plan, flight == found.flight)) if on]


def numbers_csv(found: Scene, band: Prediction) -> str:
    """The numbers as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(found, band))
    return text.getvalue()


def numbers_html(found: Scene, band: Prediction) -> str:
    """The numbers as tables: what is predicted, what was measured, the ceilings."""
    predicted = []
    for i, flight in enumerate(band.parallelism.tolist()):
        names = _names(found, flight, "this plan")
        rate, p99 = band.throughput, band.p99
        predicted.append(
            (
                f"{flight:,}",
                number(rate.value[i]),
                f"{number(rate.low[i])} to {number(rate.high[i])}",
                span(p99.value[i]),
                f"{span(p99.low[i])} to {span(p99.high[i])}",
                band.binding[i],
                ", ".join(names),
            )
        )
    points = found.choice.calibration.measurements.points
    measured = [(f"{p.parallelism:,}", number(p.throughput), span(p.p99)) for p in points if p.flag is None]
    ceilings = [(ceiling.name, number(ceiling.rate)) for ceiling in found.ceilings]
    name = html.escape(found.choice.calibration.name)
    return "".join(
        (
            _table("Predicted", ("In flight", "Starts/s", "90%", "p99", "90%", "Binds", ""), predicted),
            _table(f"Measured: calibration {name}", ("In flight", "Starts/s", "p99"), measured),
            _table("Ceilings, lowest first", ("Set by", "Starts/s"), ceilings),
        )
    )


def settings(found: Scene) -> list[tuple[str, str]]:
    """What was chosen, in words."""
    choice = found.choice
    plan, cluster = choice.plan, choice.cluster
    cores = f"{cluster.cores:,} shared" if cluster.cores is not None else "not known"
    if cluster.server_cores is not None:
        cores = f"{cluster.server_cores:,} of the server, {cluster.database_cores:,} of the database"
    listed = [
        ("CPUs of the scheduler", f"{plan.cpus:,}"),
        ("In flight", f"{plan.parallelism.value:,} ({plan.parallelism.reason})"),
        ("Queue", f"{plan.queue.value:,} ({plan.queue.reason})"),
        ("Launcher processes", f"{cluster.launcher_processes:,}"),
        ("Memory limit", "none" if choice.memory is None else f"{choice.memory / 2**20:,.0f} MiB"),
        ("p99 wanted", "any" if choice.p99 is None else span(choice.p99)),
        ("Cluster", cluster.name),
        ("Cores", cores),
        ("Network delay", f"{cluster.network_delay * 1e3:.3g} ms"),
    ]
    if cluster.store == "cloud":
        listed.append(("Limit", f"{cluster.actions_per_second:,} actions/s"))
    else:
        listed.append(
            ("Limit", f"frontend.rps {cluster.limits['frontend.rps']:,}, {many(cluster.frontends, 'frontend')}")
        )
    if cluster.store not in ("sqlite", "cloud"):
        listed.append(("Shards", f"{cluster.shards:,}"))
        listed.append(("Connections", f"{cluster.max_conns:,} on {each_of('history host', cluster.history_hosts)}"))
    return [*listed, ("Calibration", choice.calibration.name)]


def styled(result: Any) -> str:
    """A result that shows itself, in the look of the explorer's tables."""
    text: str = result._repr_html_()
    return text.replace("<table", '<table class="cap-table" style="margin-bottom:14px"')


def report_html(found: Scene, band: Prediction, outlook: Outlook) -> str:
    """One HTML file with everything in it, plotly's script included: no link, nothing to fetch, 5 MB."""
    figure = prediction_figure(figure_view(found, band))
    drawn = figure.to_html(full_html=False, include_plotlyjs=True, config={"displayModeBar": False, "showTips": False})
    chosen = _table("Chosen", ("", ""), settings(found))
    notes = "".join(f"<li><b>{html.escape(a)}</b>: {html.escape(b)}</li>" for a, b in outlook.sentences())
    told = styled(claim(found.choice.cluster, found.choice.calibration))
    body = (
        f"<h1>{html.escape(finding(found))}</h1><p>{html.escape(explained(found))}</p>{drawn}{table_html(found)}"
        f"<ul>{notes}</ul>{chosen}{told}{numbers_html(found, band)}<p>Made by capacity {__version__}.</p>"
    )
    style = (
        "body{font:14px/1.5 sans-serif;color:#212121;background:#fff;max-width:62em;margin:2em auto;padding:0 1em}"
        "h1{font-size:22px;line-height:1.3}table{margin:1em 0}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(finding(found))}</title>'
        f"<style>{style}</style>{STYLE}</head><body>{body}</body></html>\n"
    )


def _table(caption: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    head = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    body = "".join(
        f'<tr><th scope="row">{html.escape(line[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    table = f'<table class="cap-table"><caption>{caption}</caption>{head}<tbody>{body}</tbody></table>'
    return f'<div class="cap-wide">{table}</div>'  # a box of its own: a wide table does not widen those below it
