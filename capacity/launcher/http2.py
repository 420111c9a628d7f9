"""Starts over plain-text HTTP/2, for the hot path: many requests per write, many answers per read.

A unary gRPC call is three things on the wire: a block of headers that is the same for every start, one message, and a
block of trailers with the status. So the headers are encoded once, requests made in the same turn of the event loop
leave in one write, answers that arrive together are read at once, and a block of trailers that has been seen before is
not decoded again. What is not on that path (retries, TLS, other methods) is not here.

Invariants: every header block is decoded in order, or is known not to change the decoder's table; a stream is answered
exactly once; data is sent only within both flow-control windows.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), grpc/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import base64
import math
import struct
import time
import urllib.parse
from collections.abc import Sequence
from typing import Final

import hpack

MAXIMUM_STREAM: Final = 2**30
WINDOW: Final = 2**24
"""What the server may send before we say more [bytes]; answers are small."""
SWEEP: Final = 0.05
"""How often deadlines are looked at [s]."""
SILENCE: Final = 10.0
"""A call waited and nothing was heard for so long: ask whether the server is there. Nothing in as long again: it is
not [s]."""

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE = 1, 2, 4, 13, 14
HIGHEST_STATUS: Final = 16
"""UNAUTHENTICATED: gRPC has no status code beyond it, and an outcome no room for one."""
_RESET_STATUS: Final = {7: UNAVAILABLE, 8: CANCELLED, 11: 8, 12: 7}  # gRPC's mapping; everything else is INTERNAL
_HTTP_STATUS: Final = {"400": 13, "401": 16, "403": 7, "404": 12, "429": 14, "502": 14, "503": 14, "504": 14}
_U32: Final = struct.Struct(">I")


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The answer to an attempt that did not succeed: gRPC status code, message, ``google.rpc.Status`` bytes."""

    def __init__(self, code: int, details: str = "", status_bytes: bytes = b"") -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details
        self.status_bytes = status_bytes


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame."""
    return _U32.pack(len(payload) << 8 | kind) + bytes((flags,)) + _U32.pack(stream) + payload


class Connection(asyncio.Protocol):
    """One connection: streams go out, answers come in, until the server says go away or the connection is lost."""

    def __init__(self, headers: bytes) -> None:
        self._headers = headers
        self._headers_length = _U32.pack(len(headers) << 8 | HEADERS) + bytes((END_HEADERS,))
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._rest = b""
        self._next = 1
        self._calls: dict[int, tuple[asyncio.Future[bytes], float]] = {}
        self._bodies: dict[int, bytes] = {}
        self._statuses: dict[int, list[tuple[str, str]]] = {}
        self._decoder = hpack.Decoder()
        self._known: dict[bytes, list[tuple[str, str]]] = {}
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and beginning of a block that goes on
        self._window = 65_535
        self._stream_window = 65_535
        self._stream_windows: dict[int, int] = {}
        self._frame_size = 16_384
        self._blocked: dict[int, bytes] = {}  # what waits for a window, by stream: in order, and gone with its call
        self._received = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._ask_at = self._lost_at = math.inf  # only what is heard puts them off: calls that end unanswered do not
        self._asked_at = -math.inf
        self._abandoning = False
        self.concurrent = 2**31
        self.usable = True
        self.lost: BaseException | None = None
        self.closed = self._loop.create_future()

    # -- calls ---------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the server allows no further stream for now."""
        return len(self._calls) >= self.concurrent

    def call(self, message: bytes, deadline: float) -> asyncio.Future[bytes]:
        """Send one message and return the future of its answer; `deadline` is of ``time.monotonic`` [s]."""
        stream = self._next
        self._next += 2
        if stream > MAXIMUM_STREAM:
            self.usable = False
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[stream] = (future, deadline)
        length = len(message) + 5
        if not self._out:
            self._loop.call_soon(self._flush)
        identity = _U32.pack(stream)
        if (
            length <= self._window
            and length <= self._frame_size
            and length <= self._stream_window
            and not self._blocked
        ):
            self._window -= length
            head = _U32.pack(length << 8)  # kind DATA is 0
            prefix = b"\0" + _U32.pack(length - 5)
            self._out += (self._headers_length, identity, self._headers, head, b"\1", identity, prefix, message)
        else:
            self._out += (self._headers_length, identity, self._headers)
            self._stream_windows[stream] = self._stream_window
            self._blocked[stream] = b"\0" + _U32.pack(length - 5) + message
            self._unblock()
        return future

    def abandon(self) -> None:
        """Tell the server of calls that were cancelled, in one pass: a launch that is stopped cancels all it has."""
        if not self._abandoning:
            self._abandoning = True
            self._loop.call_soon(self._reset_cancelled)

    def _reset_cancelled(self) -> None:
        self._abandoning = False
        for stream in [stream for stream, (future, _) in self._calls.items() if future.cancelled()]:
            self._reset(stream)

    def close(self) -> None:
        """Close the connection; calls still open are answered UNAVAILABLE."""
        self.usable = False
        if self._transport:
            self._flush()
            self._transport.close()

    def _reset(self, stream: int) -> None:
        self._calls.pop(stream, None)
        self._forget(stream)
        self._send(frame(RST_STREAM, 0, stream, _U32.pack(8)))

    def _forget(self, stream: int) -> None:
        self._bodies.pop(stream, None)
        self._statuses.pop(stream, None)
        self._stream_windows.pop(stream, None)
        self._blocked.pop(stream, None)

    def _send(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _unblock(self) -> None:
        """Send what the windows allow of the messages that wait."""
        sent = []
        for stream, rest in self._blocked.items():
            if self._window <= 0:
                break
            while rest and (size := min(len(rest), self._frame_size, self._window, self._stream_windows[stream])) > 0:
                chunk, rest = rest[:size], rest[size:]
                self._window -= size
                self._stream_windows[stream] -= size
                self._send(frame(DATA, 0 if rest else END_STREAM, stream, chunk))
            self._blocked[stream] = rest
            if not rest:
                sent.append(stream)
        for stream in sent:
            del self._blocked[stream], self._stream_windows[stream]

    def _sweep(self) -> None:
        now = time.monotonic()
        if not (self.usable or self._calls):  # here, not where a call ends: that is the hot path
            self.close()
            return
        if now >= self._lost_at:
            self.lost = TimeoutError(f"nothing was heard within {SILENCE:g} s of a ping")
            self.usable = False
            if self._transport:
                self._transport.abort()
            return
        if now >= self._ask_at:
            self._asked_at, self._ask_at, self._lost_at = now, math.inf, now + SILENCE
            self._send(frame(PING, 0, 0, b"capacity"))
        elif self._calls and self._lost_at == math.inf:
            self._ask_at = min(self._ask_at, now + SILENCE)
        for stream, (future, deadline) in list(self._calls.items()):
            if deadline > now:
                continue  # not a break: one that waited for the connection has an earlier deadline than those before it
            self._reset(stream)
            _answer(future, Refusal(DEADLINE_EXCEEDED, "no answer within the deadline"))
            if self._lost_at == math.inf:  # asked too often, a server ends the connection
                self._ask_at = min(self._ask_at, max(now, self._asked_at + SILENCE))
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        settings = struct.pack(">HIHI", 2, 0, 4, WINDOW)  # no push; the window of each stream
        self._send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings))
        self._send(frame(WINDOW_UPDATE, 0, 0, _U32.pack(WINDOW)))
        self._sweep()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._sweeper:
            self._sweeper.cancel()
        reason = f"the connection was lost: {self.lost or error or 'closed by the server'}"
        calls, self._calls = self._calls, {}
        for future, _ in calls.values():
            _answer(future, Refusal(UNAVAILABLE, reason))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._ask_at = self._lost_at = math.inf
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        try:
            while end - at >= 9:
                length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
                until = at + 9 + length
                if until > end:
                    break
                stream = _U32.unpack_from(data, at + 5)[0] & 0x7FFF_FFFF
                self._frame(data[at + 3], data[at + 4], stream, data[at + 9 : until])
                at = until
        except Exception as error:  # whatever a foreign server sends ends this connection, not the launch
            self.lost = error
            self.usable = False
            if self._transport:
                self._transport.abort()
            return
        self._rest = data[at:]

    # -- frames --------------------------------------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            self._headers_frame(flags, stream, payload)
        elif kind == DATA:
            self._received += len(payload)
            if self._received > WINDOW // 2:
                self._send(frame(WINDOW_UPDATE, 0, 0, _U32.pack(self._received)))
                self._received = 0
            if stream in self._calls:
                self._bodies[stream] = self._bodies.get(stream, b"") + _unpadded(flags, payload)
            if flags & END_STREAM:
                self._finish(stream, self._statuses.get(stream, []))
        elif kind == CONTINUATION and self._block is not None:
            stream, first, begun = self._block
            self._block = (stream, first, begun + payload)
            if flags & END_HEADERS:
                self._block_ended()
        elif kind == WINDOW_UPDATE:
            more = _U32.unpack(payload)[0] & 0x7FFF_FFFF
            if stream == 0:
                self._window += more
            elif stream in self._stream_windows:
                self._stream_windows[stream] += more
            self._unblock()
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._send(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            code = _U32.unpack(payload)[0]
            self._refuse(stream, Refusal(_RESET_STATUS.get(code, INTERNAL), f"the server reset the stream ({code})"))
        elif kind == GOAWAY:
            self._go_away(_U32.unpack_from(payload)[0] & 0x7FFF_FFFF)

    def _headers_frame(self, flags: int, stream: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & PRIORITY:
            block = block[5:]
        self._block = (stream, flags, block)
        if flags & END_HEADERS:
            self._block_ended()

    def _block_ended(self) -> None:
        assert self._block is not None
        stream, flags, block = self._block
        self._block = None
        headers = self._known.get(block)
        if headers is None:
            headers = [(str(name), str(value)) for name, value in self._decoder.decode(block)]
            if block and min(block) >= 0x80 and 0xFF not in block:  # only references of one byte: the table stays
                self._known[block] = headers
            else:
                self._known.clear()
        if flags & END_STREAM:
            self._finish(stream, self._statuses.get(stream, []) + headers if stream in self._statuses else headers)
        elif headers and headers[0] != (":status", "200"):
            self._statuses[stream] = headers

    def _finish(self, stream: int, headers: Sequence[tuple[str, str]]) -> None:
        """Answer a stream that has ended; the last header of a name counts."""
        body = self._bodies.pop(stream, b"")
        call = self._calls.pop(stream, None)
        self._forget(stream)
        if call is None:
            return
        found = dict(headers)
        status = found.get("grpc-status", "")
        if status == "0":
            _answer(call[0], body[5:])
            return
        if not (status.isascii() and status.isdigit()):
            http = found.get(":status", "200")
            code = _HTTP_STATUS.get(http, UNKNOWN)
            _answer(call[0], Refusal(code, f"an answer without a gRPC status (HTTP {http})"))
            return
        details = found.get("grpc-status-details-bin", "")
        try:
            status_bytes = base64.b64decode(details + "=" * (-len(details) % 4))
        except ValueError:
            status_bytes = b""
        message = urllib.parse.unquote(found.get("grpc-message", ""), errors="replace")
        code = int(status) if len(status) <= 2 else UNKNOWN
        _answer(call[0], Refusal(code if 0 < code <= HIGHEST_STATUS else UNKNOWN, message, status_bytes))

    def _refuse(self, stream: int, refusal: Refusal) -> None:
        call = self._calls.pop(stream, None)
        self._forget(stream)
        if call is not None:
            _answer(call[0], refusal)

    def _settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == 3:
                self.concurrent = value
            elif key == 4:
                for stream in self._stream_windows:
                    self._stream_windows[stream] += value - self._stream_window
                self._stream_window = value
            elif key == 5:
                self._frame_size = value
        self._send(frame(SETTINGS, ACK, 0, b""))
        self._unblock()

    def _go_away(self, last: int) -> None:
        """Take no new streams; those the server will not answer are free to be sent again elsewhere."""
        self.usable = False
        for stream in [stream for stream in self._calls if stream > last]:
            self._refuse(stream, Refusal(UNAVAILABLE, "the server goes away"))
        if not self._calls:
            self.close()


def _answer(future: asyncio.Future[bytes], answer: bytes | Refusal) -> None:
    if future.done():
        return
    if isinstance(answer, Refusal):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
