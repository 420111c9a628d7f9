"""The embedded dev server of a notebook: one per kernel, ended with it, even with one that is killed."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capacity.cluster.devserver import DevServer
    from capacity.cluster.guardian import Guardian
    from capacity.cluster.target import Target

_lock = threading.Lock()
_running: list[tuple[DevServer, Guardian]] = []


def dev_server() -> Target:
    """Return the embedded dev server of this kernel as a target, started at the first call.

    It keeps its data in memory and ends with the kernel at the latest.

    Raises
    ------
    ClusterError
        The program is missing, or the server does not come up.

    Examples
    --------
    ``run = await capacity.launch(capacity.HeightRange(count=500), dev_server())``
    """
    from capacity.cluster import devserver  # the explorer works without any part of the cluster room
    from capacity.cluster.guardian import Guardian
    from capacity.cluster.target import Target

    with _lock:
        if _running and devserver.health(_running[0][0]) != "SERVING":
            _stop()
        if not _running:
            guardian = Guardian()
            try:
                server = devserver.start(spawned=guardian.watch_server)
            except BaseException:
                guardian.close()
                raise
            _running.append((server, guardian))
            atexit.register(stop_dev_server)
        return Target(_running[0][0].address)


def stop_dev_server() -> None:
    """End the embedded dev server of this kernel, if it runs.

    Examples
    --------
    >>> stop_dev_server()
    """
    with _lock:
        _stop()
    atexit.unregister(stop_dev_server)


def _stop() -> None:
    from capacity.cluster import devserver

    while _running:
        server, guardian = _running.pop()
        devserver.stop(server)
        guardian.close()
