"""What ``capacity cluster up`` left running: one small file that another shell reads.

Invariants: the file is replaced as a whole, is readable by its owner only, and names every process as soon as it
exists, so that a start killed half-way can be cleaned up by whoever reads the file next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from capacity import files
from capacity.cluster import processes
from capacity.cluster.guard import split_address
from capacity.errors import ClusterError, UsageError

SCHEMA = 2
NEVER = -1e9
"""When no process began [s since boot]."""


@dataclass(frozen=True)
class Component:
    """One running process of a cluster.

    Parameters
    ----------
    name : str
        ``temporal`` (the embedded dev server), ``postgresql`` or ``temporal-server``.
    pid : int
        Its process id.
    created : float
        When the process began [s since boot]; tells it from a later process with the same pid.
    version : str
        Version it reported.
    ports : Mapping[str, int]
        Port by what it serves.
    log : str
        Path of its log.
    stop_signal : str
        Signal that ends it in good order.
    """

    name: str
    pid: int
    created: float
    version: str
    ports: Mapping[str, int]
    log: str
    stop_signal: str = "SIGTERM"

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return processes.alive(self.pid, self.created)


@dataclass(frozen=True)
class ClusterState:
    """A cluster that is up, or half-way there.

    Parameters
    ----------
    store : str
        ``sqlite`` or ``postgres``.
    address : str
        Frontend, ``host:port``.
    metrics_url : str
        The server's Prometheus page.
    components : tuple of Component
        In the order they were started.
    settings : Mapping[str, object]
        What was asked for; a second ``up`` compares it.
    ready : bool
        False until the whole cluster answered.
    folder : str, optional
        Data folder that ``down`` drops.
    postgres : str, optional
        Connection string of its database, without the password.
    boot : str
        The run of the machine in which it was started: in another one none of its processes is there.
    """

    store: str
    address: str
    metrics_url: str
    components: tuple[Component, ...]
    settings: Mapping[str, object]
    ready: bool
    folder: str | None = None
    postgres: str | None = None
    boot: str = field(default_factory=processes.boot)
    schema: int = field(default=SCHEMA)

    @property
    def alive(self) -> bool:
        """Whether every process of it still runs."""
        return bool(self.components) and all(component.alive for component in self.components)


_CLUSTER: Final[files.Kinds] = {
    "store": str,
    "address": str,
    "metrics_url": str,
    "components": list,
    "settings": dict,
    "ready": bool,
    "schema": int,
}
_COMPONENT: Final[files.Kinds] = {
    "name": str,
    "pid": int,
    "created": float,
    "version": str,
    "ports": dict,
    "log": str,
}


def folder() -> Path:
    """Folder of the state file, logs and data: ``CAPACITY_STATE_DIR``, else ``capacity`` in the XDG state folder."""
    named = os.environ.get("CAPACITY_STATE_DIR")
    if named:
        return Path(named).absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "capacity"


def made(path: Path) -> Path:
    """The folder, made if need be.

    Raises
    ------
    ClusterError
        If the disk refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"cannot make the folder {path}: {error.strerror}", next_step="set CAPACITY_STATE_DIR to a writable folder"
        ) from error
    return path


def read() -> ClusterState | None:
    """The recorded cluster, running or not; None if there is none.

    Raises
    ------
    ClusterError
        If the file is damaged or of another version.
    """
    path = folder() / "cluster.json"
    try:
        found = files.json_file(path)
        if isinstance(found, dict) and found.get("schema") != SCHEMA:
            raise files.UnreadableError(f"is of schema {files.shown(found.get('schema'))}, not {SCHEMA}")
        found = files.fields(found, _CLUSTER, {"folder": str | None, "postgres": str | None, "boot": str})
        found["components"] = tuple(_component(each) for each in found["components"])
        if found.get("boot") != processes.boot():  # its pids are those of other processes now
            found["components"] = tuple(replace(each, created=NEVER) for each in found["components"])
        if found["ready"] and not found["components"]:
            raise files.UnreadableError("is damaged: it is ready without a component")
        try:
            split_address(found["address"])
        except UsageError as error:
            raise files.UnreadableError(f"is damaged: {error.what}") from error
        return ClusterState(**found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClusterError(f"cannot read {path}: {error.strerror}", next_step="set CAPACITY_STATE_DIR") from error
    except files.UnreadableError as error:
        raise ClusterError(
            f"the state file {path} is damaged or of another version: it {error}",
            next_step="end what it names, if anything, and delete it",
        ) from error


def _component(value: object) -> Component:
    found = files.fields(value, _COMPONENT, {"stop_signal": str})
    files.fields(found["ports"], dict.fromkeys(found["ports"], int))
    if not 0 < found["pid"] < 2**31:  # 0 and less are groups of processes
        raise files.UnreadableError(f"is damaged: pid is {found['pid']}")
    if found.get("stop_signal", "SIGTERM") not in signal.Signals.__members__:
        raise files.UnreadableError(f"is damaged: stop_signal is {files.shown(found['stop_signal'])}")
    return Component(**found)


def write(cluster: ClusterState) -> None:
    """Replace the state file."""
    path = made(folder()) / "cluster.json"
    try:
        files.write_whole(path, json.dumps(dataclasses.asdict(cluster), indent=1), mode=0o600)
    except OSError as error:
        raise ClusterError(f"cannot write {path}: {error.strerror}", next_step="set CAPACITY_STATE_DIR") from error


def clear() -> None:
    """Forget the recorded cluster."""
    (folder() / "cluster.json").unlink(missing_ok=True)


def running_address() -> str | None:
    """Address of the cluster that is up, if its processes live; never raises for a stale or damaged file."""
    try:
        cluster = read()
    except ClusterError:
        return None
    return cluster.address if cluster is not None and cluster.ready and cluster.alive else None


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold off any other ``up`` or ``down`` on this state folder.

    Raises
    ------
    ClusterError
        If another one is under way, or the disk refuses.
    """
    path = made(folder()) / "lock"
    try:
        lock = path.open("w")
    except OSError as error:
        raise ClusterError(
            f"cannot write {path}: {error.strerror}", next_step="set CAPACITY_STATE_DIR to a writable folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ClusterError(
                f"another 'capacity cluster' command is at work in {folder()}", next_step="wait for it to end"
            ) from error
        yield
