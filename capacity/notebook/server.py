"""The embedded dev server of a notebook: one per kernel, ended with it, even with one that is killed."""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capacity.cluster.devserver import DevServer
    from capacity.cluster.target import Target

# Reads until the kernel's end of the pipe is closed, which not even a kill leaves undone.
_GUARDIAN = (
    "import sys; sys.stdin.buffer.read(); from capacity.cluster import processes; "
    "processes.stop(int(sys.argv[1]), float(sys.argv[2]))"
)
_lock = threading.Lock()
_running: list[tuple[DevServer, subprocess.Popen[bytes]]] = []


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
    from capacity.cluster.target import Target

    with _lock:
        if _running and devserver.health(_running[0][0]) != "SERVING":
            _stop()
        if not _running:
            server = devserver.start()
            command = [sys.executable, "-c", _GUARDIAN, str(server.pid), repr(server.started_at)]
            guardian = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
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
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait()
