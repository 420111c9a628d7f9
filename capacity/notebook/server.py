"""The embedded dev server of a notebook: one per kernel, ended with it."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capacity.cluster.devserver import DevServer

_running: list[DevServer] = []


def dev_server() -> DevServer:
    """The embedded dev server of this kernel, started at the first call; it ends with the kernel at the latest.

    Raises
    ------
    ClusterError
        The program is missing, or the server does not come up.
    """
    from capacity.cluster import devserver  # the explorer works without any part of the cluster room

    if _running and devserver.health(_running[0]) != "SERVING":
        stop_dev_server()
    if not _running:
        _running.append(devserver.start())
        atexit.register(stop_dev_server)
    return _running[0]


def stop_dev_server() -> None:
    """End the embedded dev server of this kernel, if it runs."""
    from capacity.cluster import devserver

    while _running:
        devserver.stop(_running.pop())
    atexit.unregister(stop_dev_server)
