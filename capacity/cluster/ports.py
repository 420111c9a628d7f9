"""Ports on loopback: which are free, and who holds one that is not."""

from __future__ import annotations

import contextlib
import errno
import random
import socket

import psutil

from capacity.errors import ClusterError, UsageError

HOST = "127.0.0.1"


def free(count: int) -> list[int]:
    """Different free ports on loopback; they stay free only until somebody takes them."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def free_low(count: int) -> list[int]:
    """Different free ports below 32768: Temporal keeps membership ports in a signed 16-bit column on PostgreSQL."""
    found: list[int] = []
    for port in random.sample(range(15_000, 32_768), 500):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError("no free ports between 15000 and 32767", next_step="end what holds them")


def require_free(port: int, *, next_step: str) -> None:
    """Make sure that a server may listen on a port.

    Raises
    ------
    UsageError
        If the number is no port.
    ClusterError
        If it is taken (says by whom) or not permitted.
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"port is {port}", allowed="1 to 65535, or 0 for any free port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is no holder
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise UsageError(f"port {port} needs root", allowed="1024 to 65535", next_step=next_step) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ClusterError(f"port {port}: {error.strerror}", next_step=next_step) from error
            raise ClusterError(f"port {port} is in use by {holder(port)}", next_step=next_step) from error


def holder(port: int) -> str:
    """Who listens on a port, as far as this user may know: ``pid 12 (name)`` or ``another process``."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,) and connection.pid:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another process"
