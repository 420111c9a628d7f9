"""Our own HTTP/2: flow control, padding, continuations, going away, silence and nonsense, against a scripted server."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.launcher import http2
from capacity.launcher.channel import StartChannel
from capacity.launcher.http2 import Refusal, frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GRPC_ANSWER = b"\0" + struct.pack(">I", 3) + b"run"


@dataclass
class Peer:
    """A server's side of one connection: reads frames, writes whatever the test says."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    encoder: hpack.Encoder = field(default_factory=hpack.Encoder)
    decoder: hpack.Decoder = field(default_factory=hpack.Decoder)

    async def next(self) -> tuple[int, int, int, bytes]:
        head = await self.reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:9], "big"), await self.reader.readexactly(length)

    async def call(self) -> tuple[int, dict[str, str], bytes]:
        """Return the next whole call: stream, headers, message."""
        headers: dict[str, str] = {}
        body = b""
        while True:
            kind, flags, stream, payload = await self.next()
            if kind == http2.HEADERS:
                headers = {str(k): str(v) for k, v in self.decoder.decode(payload)}
            elif kind == http2.DATA:
                body += payload
                if flags & http2.END_STREAM:
                    return stream, headers, body[5:]

    def write(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def headers(self, stream: int, fields: list[tuple[str, str]], flags: int = 0) -> bytes:
        return frame(http2.HEADERS, http2.END_HEADERS | flags, stream, self.encoder.encode(fields))

    def answer(self, stream: int, status: str = "0", *more: tuple[str, str]) -> bytes:
        return (
            self.headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            + frame(http2.DATA, 0, stream, GRPC_ANSWER)
            + self.headers(stream, [("grpc-status", status), *more], http2.END_STREAM)
        )


def against(
    server: Callable[[Peer], Awaitable[None]], client: Callable[[StartChannel], Awaitable[object]], opening: bytes = b""
) -> object:
    """Run a client against a scripted server; each connection begins with the server's settings."""

    async def run() -> object:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer)
            try:
                assert await reader.readexactly(len(PREFACE)) == PREFACE
                peer.write(opening or frame(http2.SETTINGS, 0, 0, b""))
                await server(peer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        channel = StartChannel("127.0.0.1", port, "/service/Start", [("x-extra", "1")])
        try:
            return await asyncio.wait_for(client(channel), 20)
        finally:
            await channel.close()
            listener.close()

    return asyncio.run(run())


async def answer_all(peer: Peer) -> None:
    while True:
        stream, _, _ = await peer.call()
        peer.write(peer.answer(stream))


async def one(channel: StartChannel) -> bytes:
    return await channel.call(b"request", 5.0)


def test_a_call_is_a_grpc_call() -> None:
    """Method, path, timeout and metadata are what gRPC says they are, and the message comes back without its prefix."""
    seen: dict[str, str] = {}

    async def server(peer: Peer) -> None:
        stream, headers, message = await peer.call()
        seen.update(headers, message=message.decode())
        peer.write(peer.answer(stream))
        await peer.next()

    assert against(server, one) == b"run"
    assert seen[":path"] == "/service/Start"
    assert (seen[":method"], seen["te"], seen["grpc-timeout"]) == ("POST", "trailers", "5000m")
    assert (seen["x-extra"], seen["message"]) == ("1", "request")


def test_repeated_answers_are_read_by_their_references() -> None:
    """Answers whose headers are references into the decoder's table mean the same each time, also after it changed."""

    async def client(channel: StartChannel) -> list[object]:
        return await asyncio.gather(*(channel.call(b"m", 5.0) for _ in range(60)), return_exceptions=True)

    async def server(peer: Peer) -> None:
        for number in range(60):
            stream, _, _ = await peer.call()
            more = [("grpc-message", f"number {number}")] if number % 7 == 3 else []
            peer.write(peer.answer(stream, "3" if number % 7 == 3 else "0", *more))
        await peer.next()

    answers = against(server, client)
    assert isinstance(answers, list)
    for number, answer in enumerate(answers):
        if number % 7 == 3:
            assert isinstance(answer, Refusal)
            assert (answer.code, answer.details) == (3, f"number {number}")
        else:
            assert answer == b"run"


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 150_000), min_size=1, max_size=5),
    window=st.integers(64, 70_000),
    grant=st.integers(1000, 60_000),
)
def test_no_byte_is_sent_beyond_a_window(sizes: list[int], window: int, grant: int) -> None:
    """Whatever the sizes of messages, windows and grants, messages arrive whole and no window is ever overrun."""
    opening = frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, window))

    async def server(peer: Peer) -> None:
        connection, streams, bodies = 65_535, {}, {}
        while True:
            kind, flags, stream, payload = await peer.next()
            if kind == http2.SETTINGS and flags & http2.ACK:
                streams = dict.fromkeys(streams, window)
            if kind == http2.HEADERS:
                streams[stream], bodies[stream] = window, b""
            if kind != http2.DATA:
                continue
            connection -= len(payload)
            streams[stream] -= len(payload)
            assert len(payload) <= 16_384
            assert connection >= 0
            assert streams[stream] >= 0
            bodies[stream] += payload
            if flags & http2.END_STREAM:
                peer.write(peer.answer(stream, "0" if bodies[stream][5:] == b"x" * (len(bodies[stream]) - 5) else "13"))
            if connection < 20_000:
                peer.write(frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 45_000)))
                connection += 45_000
            if streams[stream] <= 500 and not flags & http2.END_STREAM:
                peer.write(frame(http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", grant)))
                streams[stream] += grant

    async def client(channel: StartChannel) -> list[bytes]:
        await channel.call(b"", 10.0)  # from here on the server's settings are known
        return await asyncio.gather(*(channel.call(b"x" * size, 10.0) for size in sizes))

    assert against(server, client, opening) == [b"run"] * len(sizes)


def test_a_message_that_waits_for_a_window_ends_with_its_call() -> None:
    """A server that opens no window for minutes costs no memory for the calls that timed out meanwhile."""

    async def server(peer: Peer) -> None:
        while True:
            await peer.next()

    async def client(channel: StartChannel) -> int:
        with pytest.raises(Refusal):
            await channel.call(b"m", 0.1)
        connection = channel._current
        assert connection
        connection.call(b"x" * 100_000, time.monotonic() + 10.0)  # is sent in part, and waits before the others
        await asyncio.gather(*(channel.call(b"x" * 1000, 0.1) for _ in range(20)), return_exceptions=True)
        return len(connection._blocked)

    assert against(server, client) == 1


def test_padding_priority_and_continuation_are_understood() -> None:
    """A header block may be padded, carry a priority and go on in further frames; data may be padded."""

    async def server(peer: Peer) -> None:
        stream, _, _ = await peer.call()
        block = peer.encoder.encode([(":status", "200")])
        padded = b"\3" + b"\0\0\0\0\1" + block + b"\0\0\0"
        peer.write(frame(http2.HEADERS, http2.END_HEADERS | http2.PADDED | http2.PRIORITY, stream, padded))
        peer.write(frame(http2.DATA, http2.PADDED, stream, b"\2" + GRPC_ANSWER + b"\0\0"))
        trailers = peer.encoder.encode([("grpc-status", "0")])
        peer.write(frame(http2.HEADERS, http2.END_STREAM, stream, trailers[:2]))
        peer.write(frame(http2.CONTINUATION, 0, stream, trailers[2:4]))
        peer.write(frame(http2.CONTINUATION, http2.END_HEADERS, stream, trailers[4:]))
        await peer.next()

    assert against(server, one) == b"run"


def test_frames_may_arrive_in_any_pieces() -> None:
    """Answers cut into single bytes by the network are answers all the same."""

    async def server(peer: Peer) -> None:
        stream, _, _ = await peer.call()
        for byte in peer.answer(stream):
            peer.write(bytes((byte,)))
            await peer.writer.drain()
            await asyncio.sleep(0)
        await peer.next()

    assert against(server, one) == b"run"


def test_going_away_finishes_what_was_taken() -> None:
    """After GOAWAY the server's accepted streams are answered, the others are free to be sent again elsewhere."""
    connections = 0

    async def server(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await answer_all(peer)
        first, _, _ = await peer.call()
        await peer.call()
        peer.write(frame(http2.GOAWAY, 0, 0, struct.pack(">II", first, 0)), peer.answer(first))
        await peer.next()

    async def client(channel: StartChannel) -> list[object]:
        both = await asyncio.gather(channel.call(b"a", 5.0), channel.call(b"b", 5.0), return_exceptions=True)
        return [*both, await channel.call(b"b", 5.0)]

    answers = against(server, client)
    assert isinstance(answers, list)
    first, second, again = answers
    assert (first, again) == (b"run", b"run")
    assert isinstance(second, Refusal)
    assert second.code == http2.UNAVAILABLE
    assert connections == 2


@pytest.mark.parametrize("reason", ["the server goes away", "another timeout", "no stream is left"])
def test_a_connection_that_takes_no_more_calls_is_closed_after_its_last(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leaves the closing to the client, as HTTP/2 asks, is left with no connection that nobody uses."""
    if reason == "no stream is left":
        monkeypatch.setattr(http2, "MAXIMUM_STREAM", 0)

    async def server(peer: Peer) -> None:
        while True:
            stream, _, _ = await peer.call()
            if reason == "the server goes away":
                peer.write(frame(http2.GOAWAY, 0, 0, struct.pack(">II", stream, 0)))
            await asyncio.sleep(0.05)
            peer.write(peer.answer(stream))

    async def client(channel: StartChannel) -> int:
        for number in range(5):
            assert await channel.call(b"m", 5.0 + number) == b"run"
        connections = len(channel._all)
        while len(channel._all) > (reason == "another timeout"):  # the last one is in use
            await asyncio.sleep(0.01)
        return connections

    assert against(server, client) >= 1  # type: ignore[operator]


def test_the_servers_limit_of_streams_is_kept() -> None:
    """No more streams are open than SETTINGS_MAX_CONCURRENT_STREAMS allows; the others wait their turn."""
    most = 0

    async def server(peer: Peer) -> None:
        nonlocal most
        open_streams: set[int] = set()

        async def answer(stream: int) -> None:
            await asyncio.sleep(0.01)
            open_streams.discard(stream)
            peer.write(peer.answer(stream))

        async with asyncio.TaskGroup() as answers:
            for _ in range(21):
                open_streams.add((await peer.call())[0])
                most = max(most, len(open_streams))
                answers.create_task(answer(max(open_streams)))
        await peer.next()

    async def client(channel: StartChannel) -> list[bytes]:
        await channel.call(b"m", 5.0)  # from here on the server's settings are known
        return await asyncio.gather(*(channel.call(b"m", 5.0) for _ in range(20)))

    assert against(server, client, frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 3, 3))) == [b"run"] * 20
    assert most == 3


def test_whoever_waits_for_a_stream_gets_the_next_one() -> None:
    """With two streams for eight callers none is passed over by those whose call has just ended."""

    async def server(peer: Peer) -> None:
        async def answer(stream: int) -> None:
            await asyncio.sleep(0.002)
            peer.write(peer.answer(stream))

        async with asyncio.TaskGroup() as answers:
            while True:
                answers.create_task(answer((await peer.call())[0]))

    async def client(channel: StartChannel) -> list[int]:
        await channel.call(b"m", 5.0)  # from here on the server's settings are known
        done = [0] * 8

        async def caller(n: int) -> None:
            while max(done) < 20:
                await channel.call(b"m", 5.0)
                done[n] += 1

        await asyncio.gather(*(caller(n) for n in range(8)))
        return done

    done = against(server, client, frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 3, 2)))
    assert min(done) >= 15, done  # type: ignore[call-overload]


def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When calls wait and not even a ping is answered, the connection is dropped long before its deadline."""
    monkeypatch.setattr(http2, "SILENCE", 0.2)
    pings: list[bytes] = []

    async def server(peer: Peer) -> None:
        while True:
            kind, _, _, payload = await peer.next()
            if kind == http2.PING:
                pings.append(payload)

    async def client(channel: StartChannel) -> object:
        return (await asyncio.gather(channel.call(b"m", 15.0), return_exceptions=True))[0]

    refusal = against(server, client)
    assert isinstance(refusal, Refusal)
    assert refusal.code == http2.UNAVAILABLE
    assert "nothing was heard" in refusal.details
    assert len(pings) == 1


def test_a_connection_that_falls_silent_between_calls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that end without an answer, and the pauses between them, put off nothing: a new connection serves them."""
    monkeypatch.setattr(http2, "SILENCE", 0.4)
    connections = 0

    async def server(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await answer_all(peer)
        while True:
            await peer.next()

    async def client(channel: StartChannel) -> bytes:
        for _ in range(30):  # as at a batch's end: the last items wait for another attempt, and no call is open
            try:
                return await channel.call(b"m", 0.1)
            except Refusal:
                await asyncio.sleep(0.15)
        return b"lost"

    assert against(server, client) == b"run"
    assert connections == 2


def test_a_missed_deadline_asks_at_once_but_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers pings and no call keeps its connection, and is not asked oftener than servers allow."""
    monkeypatch.setattr(http2, "SILENCE", 1.0)
    pings: list[float] = []
    connections = 0

    async def server(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        while True:
            kind, _, _, payload = await peer.next()
            if kind == http2.PING:
                pings.append(time.monotonic())
                peer.write(frame(http2.PING, http2.ACK, 0, payload))

    async def client(channel: StartChannel) -> float:
        began = time.monotonic()
        while len(pings) < 2:
            with pytest.raises(Refusal):
                await channel.call(b"m", 0.05)
        return began

    began = against(server, client)
    assert isinstance(began, float)
    assert pings[0] - began < 1.0
    assert pings[1] - pings[0] > 0.5
    assert connections == 1


@pytest.mark.parametrize(("code", "status"), [(0, 13), (1, 13), (7, 14), (8, 1), (11, 8), (12, 7)])
def test_a_reset_stream_has_grpcs_meaning(code: int, status: int) -> None:
    """RST_STREAM means what gRPC's protocol says: refused is UNAVAILABLE, cancelled CANCELLED, the rest INTERNAL."""

    async def server(peer: Peer) -> None:
        stream, _, _ = await peer.call()
        peer.write(frame(http2.RST_STREAM, 0, stream, struct.pack(">I", code)))
        await peer.next()

    with pytest.raises(Refusal) as refusal:
        against(server, one)
    assert refusal.value.code == status


def test_an_answer_without_a_grpc_status() -> None:
    """A proxy's own HTTP error has the status code gRPC gives it."""

    async def server(peer: Peer) -> None:
        stream, _, _ = await peer.call()
        peer.write(peer.headers(stream, [(":status", "503")], http2.END_STREAM))
        await peer.next()

    with pytest.raises(Refusal) as refusal:
        against(server, one)
    assert (refusal.value.code, "HTTP 503" in refusal.value.details) == (http2.UNAVAILABLE, True)


@pytest.mark.parametrize("status", ["17", "99", "163", "00", "1" * 5000])
def test_a_status_that_grpc_does_not_have_is_unknown(status: str) -> None:
    """What an item comes to has no room for it: it counts as gRPC's own UNKNOWN, and the connection goes on."""

    async def server(peer: Peer) -> None:
        stream, _, _ = await peer.call()
        peer.write(peer.answer(stream, status))
        await peer.next()

    with pytest.raises(Refusal) as refusal:
        against(server, one)
    assert refusal.value.code == http2.UNKNOWN


def test_a_call_that_waited_for_the_connection_keeps_its_deadline() -> None:
    """Deadlines are kept whatever the order in which calls were sent: an earlier one may come later."""

    async def server(peer: Peer) -> None:
        await asyncio.gather(peer.call(), peer.call())
        await asyncio.sleep(10)

    async def client(channel: StartChannel) -> object:
        patient = asyncio.create_task(channel.call(b"m", 8.0))
        await asyncio.sleep(0.05)
        connection = channel._current
        assert connection is not None
        with pytest.raises(Refusal) as refusal:
            await asyncio.wait_for(connection.call(b"m", time.monotonic() + 0.2), 4)
        patient.cancel()
        return refusal.value.code

    assert against(server, client) == http2.DEADLINE_EXCEEDED


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=200))
def test_nonsense_from_a_server_ends_in_a_refusal(nonsense: bytes) -> None:
    """Whatever bytes a server sends, a call ends in a refusal or an answer, never in another error or a hang."""

    async def server(peer: Peer) -> None:
        await peer.call()
        peer.write(nonsense)

    async def client(channel: StartChannel) -> object:
        return (await asyncio.gather(channel.call(b"m", 2.0), return_exceptions=True))[0]

    answer = against(server, client)
    assert isinstance(answer, Refusal | bytes)


def test_a_cancelled_call_tells_the_server() -> None:
    """A call nobody waits for any more is reset at the server, and the connection goes on."""
    resets: list[int] = []

    async def server(peer: Peer) -> None:
        first, _, _ = await peer.call()
        while True:
            kind, flags, stream, _ = await peer.next()
            if kind == http2.RST_STREAM:
                resets.append(stream - first)
            if kind == http2.DATA and flags & http2.END_STREAM:
                peer.write(peer.answer(stream))

    async def client(channel: StartChannel) -> bytes:
        task = asyncio.ensure_future(channel.call(b"m", 5.0))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await channel.call(b"m", 5.0)

    assert against(server, client) == b"run"
    assert resets == [0]


def test_many_calls_cancelled_at_once_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops a launch with thousands in flight does not wait for each to be found among all."""
    passes = 0
    reset = http2.Connection._reset_cancelled

    def counted(connection: http2.Connection) -> None:
        nonlocal passes
        passes += 1
        reset(connection)

    monkeypatch.setattr(http2.Connection, "_reset_cancelled", counted)

    async def server(peer: Peer) -> None:
        while True:
            await peer.next()

    async def client(channel: StartChannel) -> tuple[int, int]:
        calls = [asyncio.ensure_future(channel.call(b"m", 5.0)) for _ in range(500)]
        await asyncio.sleep(0.1)
        assert channel._current is not None
        before = len(channel._current._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        return before, len(channel._current._calls)

    assert against(server, client) == (500, 0)
    assert passes == 1
