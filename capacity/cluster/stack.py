"""The real stack: PostgreSQL and a Temporal server on it, from nothing to taking starts and back to nothing.

Invariants: a data folder without its marker is half-made and is dropped; one with it keeps its shards for life;
whatever ends a start early, no process and no half-made folder stays; a folder that was not made here is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from capacity import files
from capacity.cluster import frontend, ports, postgres, processes, state, temporal_binaries, temporal_server
from capacity.cluster.settings import DEFAULT_PORT, Settings
from capacity.cluster.state import ClusterState, Component
from capacity.errors import ClusterError, UsageError

OWNED = ".capacity"
"""In every data folder made here, from its first moment to its last: nothing else is ever deleted."""
MARKER = "complete.json"
"""Beside it once the data are whole: what they were made with."""
FOLDER_FOR_ROOT = Path("/var/lib/capacity")


def data_folder() -> Path:
    """Where the stack's data live: in the state folder, or, for root, where PostgreSQL's user can reach them."""
    own = state.folder() / "postgres"
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in own.parents if parent.exists()):
        return own
    name = hashlib.sha256(str(own).encode()).hexdigest()[:12]
    return FOLDER_FOR_ROOT / name


def owned(folder: Path) -> bool:
    """Whether a data folder was made here; one of an older version has no `OWNED`, but a password beside its marker."""
    return (folder / OWNED).exists() or ((folder / MARKER).exists() and (folder / "pgpass").exists())


def start(
    settings: Settings,
    *,
    spawned: Callable[[ClusterState], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> ClusterState:
    """Start the stack and return when it takes starts in the namespace ``default``.

    Parameters
    ----------
    settings : Settings
        What to start.
    spawned : callable
        Told of the stack so far as soon as another process of it exists.
    say : callable
        Told, in sentences, what takes long.

    Raises
    ------
    ClusterError
        If a component is missing, dies or does not get ready, with its last words and its log. Nothing is left running,
        and data that were there before are kept.
    UsageError
        If a setting is out of range or kept data have other shards.
    """
    port = DEFAULT_PORT if settings.port is None else settings.port
    if port:
        ports.require_free(port, next_step="end it, or pass --port 0 for any free port")
    programs = temporal_binaries.find_or_build(say)
    folder = data_folder()
    fresh = not (folder / MARKER).exists()
    if fresh:
        drop(folder)
    logs = state.made(state.folder() / "logs")
    database_log, server_log, setup_log = (logs / f"{name}.log" for name in ("postgresql", "temporal-server", "setup"))
    for log in (database_log, server_log, setup_log):
        processes.begin_log(log)
    found_port, database_port = ports.free(2)
    port = port or found_port
    address = f"{ports.HOST}:{port}"
    dsn = postgres.connection_string(folder, database_port)
    cluster = ClusterState("postgres", address, "", (), settings.recorded(), False, str(folder), dsn)
    try:
        _make_reachable(folder)
        database = postgres.find(folder)
        if fresh:
            postgres.prepare(database, folder, setup_log)
        else:
            _require_same_data(folder, settings, database, programs.version)
        temporal_server.write_dynamic_config(programs, folder, settings.dynamic_config, setup_log)
        options = {"max_connections": str(_connections(settings)), **settings.pg_options}
        component = postgres.launch(database, folder, database_log, database_port, options)
        cluster = replace(cluster, components=(component,))
        spawned(cluster)
        postgres.wait_until_ready(component, dsn, database_log)
        login = (postgres.ROLE, postgres.password(folder))
        if fresh:
            postgres.set_up_roles(folder, dsn)
            temporal_server.set_up_schema(programs, database_port, *login, setup_log)
        server = temporal_server.launch(programs, folder, settings, port, database_port, login, server_log)
        metrics = f"http://{ports.HOST}:{server.ports['metrics']}/metrics"
        cluster = replace(cluster, components=(component, server), metrics_url=metrics)
        spawned(cluster)
        temporal_server.ensure_namespace(address, server, server_log)
        frontend.wait_until_serving("the Temporal server", address, server_log, server.pid, server.created)
        if fresh:
            made = {"shards": settings.shards, "postgresql": database.major, "temporal": programs.version}
            (folder / MARKER).write_text(json.dumps(made), encoding="utf-8")
    except BaseException:
        stop(cluster)
        if fresh:
            drop(folder)
        raise
    return replace(cluster, ready=True)


def stop(cluster: ClusterState) -> None:
    """End the components, last started first; the data stay."""
    for component in reversed(cluster.components):
        by = signal.Signals[component.stop_signal]
        processes.stop(component.pid, component.created, by=by, grace=grace_of(component))


def grace_of(component: Component) -> float:
    """Return how long a component may take to end before it is killed [s]."""
    # A server may wait half a minute for its own long polls and loses nothing when cut short; a database may not.
    return 30.0 if component.name == "postgresql" else 5.0


def drop(folder: Path) -> bool:
    """Delete a data folder, ending first a PostgreSQL on it that nobody recorded; True if there was one.

    Raises
    ------
    ClusterError
        If the folder holds what was not made here, or the disk refuses.
    """
    try:
        if not folder.exists() or (not owned(folder) and not any(folder.iterdir())):
            return False
        _require_owned(folder)
        orphan = postgres.leftover(folder)
        if orphan is not None:
            processes.stop(*orphan, by=signal.SIGINT)
        (folder / OWNED).touch()
        for each in folder.iterdir():
            if each.name != OWNED:  # goes last, so that what an interrupted drop leaves can be dropped again
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
        shutil.rmtree(folder)
        if folder.parent == FOLDER_FOR_ROOT and not any(FOLDER_FOR_ROOT.iterdir()):
            FOLDER_FOR_ROOT.rmdir()
    except OSError as error:
        raise ClusterError(
            f"cannot delete {error.filename}: {error.strerror}", next_step="delete it as the user who made it"
        ) from error
    return True


@contextmanager
def running(
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
    spawned: Callable[[ClusterState], None] = lambda _: None,
) -> Iterator[ClusterState]:
    """A stack for the length of a ``with`` block, in the current state folder; its data are dropped."""
    cluster = start(settings, spawned=spawned, say=say)
    try:
        yield cluster
    finally:
        stop(cluster)
        if cluster.folder is not None:
            drop(Path(cluster.folder))


def _make_reachable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.parent == FOLDER_FOR_ROOT:
            FOLDER_FOR_ROOT.chmod(0o711)  # whatever root's umask
        # Root's PostgreSQL runs as another user, who must be able to walk through, not to read.
        if any(folder.iterdir()):
            _require_owned(folder)
        (folder / OWNED).touch()
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise ClusterError(f"cannot make {folder}: {error.strerror}", next_step="set CAPACITY_STATE_DIR") from error


def _require_owned(folder: Path) -> None:
    if not owned(folder):
        raise ClusterError(
            f"{folder} is no data folder of capacity and is left alone",
            next_step="move it, or set CAPACITY_STATE_DIR to another folder",
        )


def _require_same_data(folder: Path, settings: Settings, database: postgres.Binaries, temporal: str) -> None:
    try:
        made = files.fields(files.json_file(folder / MARKER), {"shards": int, "postgresql": str}, {"temporal": str})
        shards, major = made["shards"], made["postgresql"]
    except (OSError, files.UnreadableError) as error:
        raise ClusterError(
            f"the data kept in {folder} are damaged", next_step="drop them with 'capacity cluster down'"
        ) from error
    # A schema is of one minor version: another server would end over it, or change it under the older one.
    schema, served = (re.match(r"\d+\.\d+", text) for text in (made.get("temporal", ""), temporal))
    for what, kept, wanted in (
        ("shards", shards, settings.shards),
        ("PostgreSQL", major, database.major),
        ("Temporal's schema", schema and schema[0], served[0] if schema and served else schema and schema[0]),
    ):
        if kept != wanted:
            raise UsageError(
                f"the data kept in {folder} have {what} {kept}, asked for {wanted}",
                next_step="use the same, or drop the data with 'capacity cluster down'",
            )


def _connections(settings: Settings) -> int:
    """Enough for every service to fill its pools of both stores, and for whoever watches."""
    per_service = settings.max_conns + max(1, settings.max_conns // 2)
    return max(100, len(temporal_server.SERVICES) * per_service + 20)
