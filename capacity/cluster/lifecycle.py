"""Up and down: one recorded cluster per state folder, whatever its store, and nothing left behind on any way out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from capacity.cluster import devserver, frontend, ports, postgres, processes, stack, state
from capacity.cluster.guard import split_address
from capacity.cluster.settings import DEFAULT_PORT, Settings
from capacity.cluster.state import ClusterState, Component
from capacity.errors import ClusterError, UsageError


def up(settings: Settings, say: Callable[[str], None]) -> ClusterState:
    """Start the cluster, or find it up already.

    Parameters
    ----------
    settings : Settings
        What to start.
    say : callable
        Told, in sentences, what happens on the way.

    Returns
    -------
    ClusterState
        The cluster, ready for starts.

    Raises
    ------
    UsageError
        If a cluster with other settings is up.
    ClusterError
        If it cannot be started; nothing is left running then. If one is up that does not answer; it is left running.
    """
    wanted = settings.recorded()
    with state.exclusive():
        found = state.read()
        if found is not None and found.ready and found.alive:
            _require_same(found, wanted)
            _require_healthy(found)
            say(f"already up at {found.address}")
            return found
        if found is not None:
            say(_stale(found))
            _end(found)
        return _start_postgres(settings, say) if settings.store == "postgres" else _start_sqlite(settings, wanted)


def down(say: Callable[[str], None], *, keep_data: bool = False, expected: ClusterState | None = None) -> bool:
    """End the recorded cluster.

    Parameters
    ----------
    say : callable
        Told, in sentences, what happens on the way.
    keep_data : bool
        Leave a stack's data for the next ``up``. A SQLite file is the user's and is always left, and data that a stack
        left earlier are no part of a SQLite cluster: they go by a ``down`` when no cluster is up.
    expected : ClusterState, optional
        End only this very cluster.

    Returns
    -------
    bool
        Whether there was a cluster, or data of one, to put away.
    """
    with state.exclusive():
        found = state.read()
        if expected is not None and (found is None or found.components != expected.components):
            return False
        if found is not None:
            if not found.alive:
                say(_stale(found))
            _end(found)
        if found is not None and found.folder is None:
            return True
        folder = Path(found.folder) if found is not None and found.folder else stack.data_folder()
        if found is None and not stack.owned(folder):
            return False
        if keep_data and (folder / stack.MARKER).exists():
            say(f"the data stay in {folder}")
        elif stack.drop(folder):
            say(f"dropped the data in {folder}")
        return True


def component_health(cluster: ClusterState) -> dict[str, str]:
    """For each component ``SERVING``, ``ended``, or what else it says of itself."""
    return {each.name: _health(cluster, each) if each.alive else "ended" for each in cluster.components}


def _health(cluster: ClusterState, component: Component) -> str:
    if component.name == "postgresql" and cluster.postgres is not None:
        return postgres.health(cluster.postgres)
    return frontend.health(cluster.address)


def _start_postgres(settings: Settings, say: Callable[[str], None]) -> ClusterState:
    try:
        cluster = stack.start(settings, spawned=state.write, say=say)
    except BaseException:
        _clear_if_ended()
        raise
    state.write(cluster)
    return cluster


def _clear_if_ended() -> None:
    """Forget a cluster that did not come up, unless a second interrupt has left a process of it: `down` ends that."""
    with contextlib.suppress(ClusterError):
        left = state.read()
        if left is not None and any(component.alive for component in left.components):
            return
    state.clear()


def _start_sqlite(settings: Settings, wanted: dict[str, object]) -> ClusterState:
    port = DEFAULT_PORT if settings.port is None else settings.port
    if port:
        ports.require_free(port, next_step="end it, or pass --port 0 for any free port")
    log = state.made(state.folder() / "logs") / "temporal.log"

    def recorded(server: devserver.DevServer, *, ready: bool) -> ClusterState:
        served = {
            "frontend": split_address(server.address)[1],
            "http": server.http_port,
            "metrics": int(server.metrics_url.rpartition(":")[2].partition("/")[0]),
        }
        component = Component("temporal", server.pid, server.started_at, server.version, served, str(server.log))
        cluster = ClusterState("sqlite", server.address, server.metrics_url, (component,), wanted, ready)
        state.write(cluster)
        return cluster

    def spawned(server: devserver.DevServer) -> None:
        recorded(server, ready=False)

    try:
        server = devserver.start(
            port or None,
            dynamic_config=settings.dynamic_config,
            database=settings.database,
            log=log,
            spawned=spawned,
        )
    except BaseException:
        _clear_if_ended()
        raise
    return recorded(server, ready=True)


def _require_same(found: ClusterState, wanted: Mapping[str, object]) -> None:
    different = [
        f"{key} is {found.settings.get(key)!r}, asked for {value!r}"
        for key, value in wanted.items()
        if value != found.settings.get(key) and not (key == "port" and value in (None, _port_of(found)))
    ]
    if different:
        raise UsageError(
            f"a cluster with other settings is up at {found.address}: {'; '.join(different)}",
            next_step="use it as it is, or run 'capacity cluster down' first",
        )


def _require_healthy(found: ClusterState) -> None:
    ill = [f"{name}: {said}" for name, said in component_health(found).items() if said != frontend.SERVING]
    if ill:
        raise ClusterError(
            f"the cluster recorded at {found.address} runs but does not answer: {', '.join(ill)}",
            next_step="wait, or run 'capacity cluster down' first",
        )


def _port_of(cluster: ClusterState) -> int:
    return split_address(cluster.address)[1]


def _stale(cluster: ClusterState) -> str:
    gone = [each for each in cluster.components if not each.alive]
    ended = ", ".join(f"{each.name} (pid {each.pid})" for each in gone)
    if cluster.ready:
        logs = ", ".join(
            f"{each.log} (kept as {processes.earlier(Path(each.log)).name} by the next start)" for each in gone
        )
        return (
            f"the cluster recorded at {cluster.address} is no longer whole: {ended} ended by itself; cleaning up; "
            f"what it said is in {logs}"
        )
    return f"an earlier start at {cluster.address} did not finish; cleaning up"


def _end(cluster: ClusterState) -> None:
    stack.stop(cluster)
    state.clear()
