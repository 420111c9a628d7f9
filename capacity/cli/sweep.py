"""`capacity sweep`: what a dev cluster does at one parallelism after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.cli.connection import (
    AllowTarget,
    ApiKey,
    ExistingAddress,
    Namespace,
    Profile,
    Tls,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsName,
)
from capacity.cli.options import (
    CLUSTER,
    FLAG,
    ClusterCores,
    Form,
    Format,
    MaxConns,
    OwnStore,
    Seconds,
    Seed,
    Shards,
    Store,
)

if TYPE_CHECKING:
    from capacity.experiment.sweep import Swept
    from capacity.experiment.wanted import Wanted


class Fresh(StrEnum):
    """When a new cluster of the sweep's own is started."""

    ROUND = "round"
    POINT = "point"


def sweep(
    parallelism: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Starts in flight, 1 to 512, a point each.", show_default="1,2,4,8,16,32,64,128"
        ),
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="More of them: kept from the fit, to be predicted.", show_default=False),
    ] = None,
    seconds: Seconds = 6.0,
    repeats: Annotated[int, typer.Option(metavar="N", help="Rounds, each in an order of its own.")] = 3,
    seed: Seed = 0,
    points_only: Annotated[
        bool, typer.Option("--points-only", metavar=FLAG, help="No memory, store times, storage.")
    ] = False,
    store: OwnStore = None,
    fresh: Annotated[
        Fresh, typer.Option(help="A new one for each round or point.", rich_help_panel=CLUSTER)
    ] = Fresh.ROUND,
    shards: Shards = None,
    max_conns: MaxConns = None,
    cluster_cpus: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Hold it to these CPUs.", rich_help_panel=CLUSTER, show_default=False),
    ] = None,
    address: ExistingAddress = None,
    cluster_cores: ClusterCores = None,
    namespace: Namespace = None,
    profile: Profile = None,
    api_key: ApiKey = None,
    tls: Tls = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsName = None,
    allow_target: AllowTarget = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the JSON here.", show_default="a new one in the state folder"),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Kept with it.", show_default=False)] = "",
    form: Form = Format.TEXT,
) -> None:
    """Measure throughput, latency and CPU at each parallelism.

    Points come in random order, in rounds, each on a fresh cluster. Ctrl-C
    keeps the points so far.

    Example: capacity sweep --store postgres --repeats 2
    """
    from capacity.cluster.profile import load_target
    from capacity.errors import UsageError
    from capacity.experiment.plan import PARALLELISMS
    from capacity.experiment.wanted import Wanted

    held = _numbers("--holdout", holdout) if holdout is not None else []
    if parallelism is not None:
        fitted = _numbers("--parallelism", parallelism)
    else:
        fitted = [number for number in PARALLELISMS if number not in held]
    elsewhere: dict[str, object] = {
        "--namespace": namespace,
        "--profile": profile,
        "--api-key": api_key,
        "--tls": tls,
        "--tls-ca": tls_ca,
    }
    elsewhere |= {"--tls-cert": tls_cert, "--tls-key": tls_key, "--tls-server-name": tls_server_name}
    elsewhere |= {"--allow-target": allow_target, "--cluster-cores": cluster_cores}
    existing = address is not None or profile is not None
    if existing and store is not None:
        given = "--address" if address is not None else "--profile"
        raise UsageError(f"--store {store.value} and {given} exclude each other", next_step="pass one of them")
    if not existing and (useless := [option for option, value in elsewhere.items() if value is not None]):
        raise UsageError(f"{useless[0]} is given, but no existing cluster", next_step="add --address HOST:PORT")
    target = None
    if existing:
        target = load_target(
            address,
            namespace,
            profile=profile,
            api_key=api_key,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_server_name=tls_server_name,
        )
    wanted = Wanted(
        parallelisms=fitted,
        holdout=held,
        seconds=seconds,
        repeats=repeats,
        seed=seed,
        store=None if existing else (store or Store.SQLITE).value,
        target=target,
        allowed=allow_target or (),
        fresh=fresh.value,
        shards=shards,
        max_conns=max_conns,
        cluster_cpus=frozenset(_numbers("--cluster-cpus", cluster_cpus)) if cluster_cpus is not None else None,
        cluster_cores=cluster_cores,
        extras=not points_only,
        note=note,
    )
    path = _out(out, wanted)
    swept = _run(wanted)
    _finish(swept, wanted, path, form)


def _numbers(option: str, text: str) -> list[int]:
    import re

    from capacity.errors import UsageError

    words = [word.strip() for word in text.split(",")]
    if words == [""]:
        raise UsageError(f"{option} is empty", allowed="whole numbers, separated by commas")
    for word in words:
        if not re.fullmatch(r"[0-9]{1,9}", word, re.ASCII):
            raise UsageError(f"{option} holds {word[:40]!r}", allowed="whole numbers, separated by commas")
    return [int(word) for word in words]


def _out(path: Path | None, wanted: Wanted) -> Path:
    """Return where to write, after having written there: nothing is measured that could not be kept."""
    import datetime
    import os

    from capacity.cluster import state
    from capacity.errors import UsageError

    if path is None:
        name = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{wanted.store or 'cluster'}.json"
        return state.made(state.folder() / "sweeps") / name
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"out {path} cannot be written", next_step="pass a file in a folder you may write to")
    return path


def _run(wanted: Wanted) -> Swept:
    """Sweep with a line per point; the first interrupt ends it with the points so far, the second at once."""
    import signal
    import sys
    import threading

    from capacity.cli import sweep_text
    from capacity.experiment.sweep import Sweep

    stop, at_once = threading.Event(), threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if at_once.is_set():
            return  # what cleans up is not to be cut short
        if stop.is_set():
            at_once.set()
            raise KeyboardInterrupt
        stop.set()
        print("stopping: the points so far are kept; once more to stop at once", file=sys.stderr, flush=True)

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    print(sweep_text.announcement(wanted), file=sys.stderr)
    lines: Callable[..., None] = sweep_text.Lines(len(wanted.points), say).show
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return Sweep(wanted, on_point=lines, say=say, stop=stop.is_set).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(swept: Swept, wanted: Wanted, path: Path, form: Format) -> None:
    """Write the file, print the table or the file, and end with the code that says how it went."""
    from capacity.cli import sweep_text
    from capacity.cli.plan import print_notes
    from capacity.errors import InterruptedRunError, RunFailedError, UsageError
    from capacity.experiment.sweep import save
    from capacity.model.calibration import Calibration

    if form is Format.TEXT:
        lines: Sequence[str] = sweep_text.report(swept, wanted.target.address if wanted.target else "")
        print("\n".join(lines))
    try:
        fitted = Calibration.of(swept.measurements, path.stem)
    except UsageError as error:
        save(swept.measurements, path)
        title, notes = "", [("not fitted", str(error))]
    else:
        fitted.save(path)
        title, notes = "Fitted:", list(fitted.rows())
        notes += [("use it", "capacity plan --cluster NAME --calibration FILE"), ("its errors", "capacity score FILE")]
    if form is Format.JSON:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print("\n" + title if title else "")
        print_notes(notes)
        print(f"\nwritten to {path}")
    done = f"{len(swept.measurements.points)} of {len(wanted.points)} points"
    if swept.error is not None:
        raise RunFailedError(f"the sweep ended after {done}, which are kept: {swept.error}")
    if swept.stopped:
        raise InterruptedRunError(f"interrupted after {done}, which are kept")
