"""A worker for `IndexBlockWorkflow`, in a process of its own.

It is started fresh, never forked, for the SDK's runtime survives no fork; it takes its target from standard
input, so that no secret stands on a command line; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn

from capacity import files
from capacity.cluster.target import TLS, Target
from capacity.errors import ClusterError
from capacity.launcher.spawn import Spawned

if TYPE_CHECKING:
    from temporalio.client import Client


_ORDER: Final[files.Kinds] = {
    "address": str,
    "namespace": str,
    "api_key": str | None,
    "metadata": dict,
    "tls": dict | None,
    "task_queue": str,
}
_PEM: Final = dict.fromkeys(("server_root_ca_cert", "client_cert", "client_private_key"), str)


def pack(target: Target, task_queue: str) -> bytes:
    """Return a target and a task queue as one line for the worker's standard input."""
    tls = None
    if target.tls:
        parts = {
            "server_root_ca_cert": target.tls.server_root_ca_cert,
            "client_cert": target.tls.client_cert,
            "client_private_key": target.tls.client_private_key,
        }
        tls = {name: b64encode(part).decode() for name, part in parts.items() if part is not None}
        tls["server_name"] = target.tls.server_name or ""
    fields = {
        "address": target.address,
        "namespace": target.namespace,
        "api_key": target.api_key,
        "metadata": dict(target.metadata),
        "tls": tls,
        "task_queue": task_queue,
    }
    return json.dumps(fields).encode() + b"\n"


def unpack(line: bytes) -> tuple[Target, str]:
    """Return what `pack` packed.

    Raises
    ------
    ClusterError
        If it is cut off or is nothing of `pack`'s; it may hold secrets and is not shown.
    """
    try:
        found = files.fields(files.json_value(line), _ORDER)
        tls = files.fields(found["tls"], {"server_name": str}, _PEM) if found["tls"] is not None else None
        parts = {name: b64decode(text, validate=True) for name, text in (tls or {}).items() if name in _PEM}
        metadata = files.fields(found["metadata"], dict.fromkeys(found["metadata"], str))
    except (ValueError, files.UnreadableError):
        raise ClusterError("a worker process was told nothing it understands", next_step="start it anew") from None
    given = TLS(**parts, server_name=tls["server_name"] or None) if tls is not None else None
    return Target(found["address"], found["namespace"], given, found["api_key"], metadata), found["task_queue"]


@contextlib.asynccontextmanager
async def running(target: Target, task_queue: str) -> AsyncIterator[Spawned]:
    """Run a worker process while the block lasts; whether it still runs is for the block to see."""
    spawned = await Spawned.start("capacity.launcher.worker")
    try:
        spawned.stdin.write(pack(target, task_queue))
        with contextlib.suppress(ConnectionError):
            await spawned.stdin.drain()
        try:
            ready = await asyncio.wait_for(spawned.stdout.readline(), 60)
        except TimeoutError:
            raise ClusterError("the worker was not ready within 60 s", next_step="see the server's log") from None
        if ready.strip() != b"ready":
            await spawned.end(15)
            raise ClusterError(f"the worker did not start: {spawned.last_words}")
        yield spawned
    finally:
        await spawned.end(15)


async def sdk_client(target: Target) -> Client:
    """Return the SDK's client for a target."""
    from temporalio.client import Client
    from temporalio.runtime import Runtime, TelemetryConfig
    from temporalio.service import TLSConfig

    # Its own log goes to standard output, where a record as JSON may go.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)), error_if_already_set=False)
    tls: TLSConfig | bool = False
    if target.tls:
        tls = TLSConfig(
            server_root_ca_cert=target.tls.server_root_ca_cert,
            client_cert=target.tls.client_cert,
            client_private_key=target.tls.client_private_key,
            domain=target.tls.server_name,
        )
    return await Client.connect(
        target.address,
        namespace=target.namespace,
        tls=tls,
        api_key=target.api_key,
        rpc_metadata=dict(target.metadata),
    )


async def _serve(line: bytes) -> None:
    from temporalio.worker import Worker

    from capacity.launcher.workflows import IndexBlockWorkflow, index_block

    target, task_queue = unpack(line)
    client = await sdk_client(target)
    async with Worker(client, task_queue=task_queue, workflows=[IndexBlockWorkflow], activities=[index_block]):
        print("ready", flush=True)
        await input_ended()


async def input_ended() -> None:
    """Wait until standard input ends; on the loop, since a thread that reads would keep a failed worker from ending."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while await reader.read(1 << 16):
        pass


def to_its_end(serving: Coroutine[Any, Any, None]) -> NoReturn:
    """Run what serves in this process, and end it: with 1 and one line where that fails."""
    code = 0
    try:
        asyncio.run(serving)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        code = 1
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # the SDK's runtime can crash in the interpreter's own exit (temporalio/sdk-python#300)


def main() -> None:
    """Serve until standard input ends."""
    to_its_end(_serve(sys.stdin.buffer.readline()))


if __name__ == "__main__":
    main()
