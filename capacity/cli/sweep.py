"""`capacity sweep`: what a dev cluster does at one parallelism after another."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.connection import grouped
from capacity.cli.measuring import HERE, Where, interruptible, print_left_behind, say, write
from capacity.cli.options import CLUSTER, FLAG, Form, Format, Seconds, Seed, check_out, refuse, whole_numbers

if TYPE_CHECKING:
    from capacity.experiment.sweep import Swept
    from capacity.experiment.wanted import Wanted
    from capacity.model.measurement import Measurements


class Fresh(StrEnum):
    """When a new cluster of the sweep's own is started."""

    ROUND = "round"
    POINT = "point"


@grouped
def sweep(
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Starts in flight, 1 to 512, a point each.", show_default="1,2,4,8,16,32,64,128"
        ),
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Further points, kept out of the fit and predicted.", show_default=False),
    ] = None,
    seconds: Seconds = 6.0,
    repeats: Annotated[int, typer.Option(metavar="N", help="Rounds, each in an order of its own.")] = 3,
    seed: Seed = 0,
    points_only: Annotated[
        bool, typer.Option("--points-only", metavar=FLAG, help="Skip memory, store times and storage.")
    ] = False,
    where: Where = HERE,
    fresh: Annotated[
        Fresh | None,
        typer.Option(help="A new cluster for each round or point.", rich_help_panel=CLUSTER, show_default="round"),
    ] = None,
    cluster_cpus: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Pin the cluster to these CPUs.", rich_help_panel=CLUSTER, show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the JSON here.", show_default="a new one in the state folder"),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Note to keep in the file.", show_default=False)] = "",
    form: Form = Format.TEXT,
) -> None:
    """Measure throughput, latency and CPU at each parallelism.

    Rounds have the points in random order, each round on a fresh cluster
    (--fresh point: each point) unless an existing one is named. Ctrl-C keeps
    the points so far.

    Example: capacity sweep --store postgres --repeats 2
    """
    from capacity.experiment.plan import MOST_IN_FLIGHT, PARALLELISMS

    held = whole_numbers("--holdout", holdout, lowest=1, highest=MOST_IN_FLIGHT) if holdout is not None else []
    if parallelism is not None:
        fitted = whole_numbers("--parallelism", parallelism, lowest=1, highest=MOST_IN_FLIGHT)
    else:
        fitted = [number for number in PARALLELISMS if number not in held]
    wanted = where.wanted(seconds, seed)
    if wanted.target is not None:
        refuse({"--fresh": fresh}, "does not go with an existing cluster", "leave it out, or pass --store")
    wanted = replace(
        wanted,
        parallelisms=fitted,
        holdout=held,
        repeats=repeats,
        fresh=(fresh or Fresh.ROUND).value,
        cluster_cpus=frozenset(whole_numbers("--cluster-cpus", cluster_cpus)) if cluster_cpus is not None else None,
        extras=not points_only,
        note=note,
    )
    path = _out(out, wanted)
    swept = _run(wanted)
    _finish(swept, wanted, path, form)


def _out(path: Path | None, wanted: Wanted) -> Path:
    """Return where to write: nothing is measured that could not be kept."""
    from capacity.cluster import state
    from capacity.observe.session import new_run_id

    if path is None:
        path = state.made(state.folder() / "sweeps") / f"{new_run_id()}-{wanted.store or 'cluster'}.json"
    check_out("--out", path)
    return path


def _run(wanted: Wanted) -> Swept:
    """Sweep with a line per point; the first interrupt ends it with the points so far, the second at once."""
    from capacity.cli import sweep_text
    from capacity.experiment.sweep import Sweep

    say(sweep_text.announcement(wanted))
    lines: Callable[..., None] = sweep_text.Lines(len(wanted.points), say).show
    with interruptible("stopping: the points so far are kept; once more to stop at once") as stop:
        return Sweep(wanted, on_point=lines, say=say, stop=stop.is_set).run()


def _finish(swept: Swept, wanted: Wanted, path: Path, form: Format) -> None:
    """Write the file, print the table or the file, and end with the code that says how it went."""
    from capacity.cli import sweep_text
    from capacity.cli.printing import print_notes
    from capacity.errors import InterruptedRunError, RunFailedError, UsageError
    from capacity.experiment.sweep import DESCRIBED
    from capacity.model.calibration import Calibration

    kept: Calibration | Measurements = swept.measurements
    try:
        kept = fitted = Calibration.of(swept.measurements, path.stem)
    except UsageError as error:
        title, notes = "", [("not fitted", str(error))]
    else:
        title, notes = "Fitted:", list(fitted.rows())
    text = kept.model_dump_json(indent=1)
    try:
        write(path, text, form)
    finally:
        if form is Format.TEXT:
            print("\n".join(sweep_text.report(swept)))
        print_left_behind(swept.left, wanted, swept.prefix, form)
        if form is Format.JSON:
            print(text)
        else:
            print("\n" + title if title else "")
            print_notes(notes)
    if form is Format.TEXT:
        print(f"\nwritten to {path}")
        if title:
            cluster = DESCRIBED.get(swept.measurements.conditions.store)
            if cluster is not None:
                print(f"use it:      capacity plan --cluster {cluster} --calibration {shlex.quote(str(path))}")
            print(f"its errors:  capacity score {shlex.quote(str(path))}")
    done = f"{len(swept.measurements.points)} of {len(wanted.points)} points"
    if swept.error is not None:
        raise RunFailedError(f"the sweep ended after {done}, which are kept: {swept.error}")
    if swept.stopped:
        raise InterruptedRunError(f"interrupted after {done}, which are kept")
