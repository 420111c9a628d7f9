"""Starts to one address over our own HTTP/2: a connection when one is needed, another when the server asks for it.

Invariant: while a usable connection is there, calls share it; a timeout is part of the encoded headers, so a change of
it starts another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import hpack

from capacity.launcher.http2 import DEADLINE_EXCEEDED, UNAVAILABLE, Connection, Refusal


class StartChannel:
    """Starts to one address: a connection when one is needed, another when the server asks for it.

    Parameters
    ----------
    host, port : str, int
    path : str
        The gRPC method.
    metadata : sequence of (str, str)
        Sent with every call.
    """

    def __init__(self, host: str, port: int, path: str, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._host, self._port = host, port
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "capacity"),
            *metadata,
        ]
        self._timeout = 0.0
        self._headers = b""
        self._current: Connection | None = None
        self._all: set[Connection] = set()
        self._connecting = asyncio.Lock()

    async def call(self, message: bytes, timeout: float) -> bytes:
        """Return the answer to one start; `timeout` [s] is told to the server and kept here."""
        deadline = time.monotonic() + timeout
        connection = self._current
        waited_for = self._connecting.locked()  # whoever waits for a stream or a connection comes first
        if waited_for or connection is None or not connection.usable or connection.full or timeout != self._timeout:
            connection = await self._connection(timeout, deadline)
        future = connection.call(message, deadline)
        try:
            return await future
        except asyncio.CancelledError:
            connection.abandon()
            raise

    async def _connection(self, timeout: float, deadline: float) -> Connection:
        async with self._connecting:
            if timeout != self._timeout:
                self._timeout = timeout
                fields = [*self._fields, ("grpc-timeout", f"{max(1, round(timeout * 1000))}m")]
                self._headers = hpack.Encoder().encode(
                    [hpack.NeverIndexedHeaderTuple(*pair) for pair in fields], huffman=False
                )
                if self._current:
                    self._current.usable = False
            while self._current and self._current.usable and self._current.full:
                if time.monotonic() > deadline:
                    raise Refusal(DEADLINE_EXCEEDED, "the server allows no further stream")
                await asyncio.sleep(0.001)
            if self._current is None or not self._current.usable:
                self._current = await self._connect(max(deadline - time.monotonic(), 0.001))
            return self._current

    async def _connect(self, timeout: float) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(lambda: Connection(self._headers), self._host, self._port)
        except TimeoutError:
            raise Refusal(UNAVAILABLE, f"no connection to {self._host}:{self._port} in time") from None
        except OSError as error:
            raise Refusal(
                UNAVAILABLE, f"no connection to {self._host}:{self._port}: {error.strerror or error}"
            ) from error
        self._all.add(connection)
        connection.closed.add_done_callback(lambda _: self._all.discard(connection))
        return connection

    async def close(self) -> None:
        """Close every connection."""
        closing = list(self._all)
        for connection in closing:
            connection.close()
        if closing:
            await asyncio.wait([connection.closed for connection in closing], timeout=5)
