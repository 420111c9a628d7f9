"""A frontend that answers starts by a script, behind a proxy whose connections it can cut.

The script is keyed by item: the k-th attempt that reaches the server gets the k-th step, every attempt after the last
step gets the last one. A step is a word of `STEPS`. What was started is kept, so that a start repeated with the same
request id is answered with the same run, as the real server does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from temporalio.api.common.v1.grpc_status_pb2 import GrpcStatus
from temporalio.api.enums.v1 import ResourceExhaustedCause
from temporalio.api.errordetails.v1 import ResourceExhaustedFailure, WorkflowExecutionAlreadyStartedFailure
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceResponse,
    GetSystemInfoResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
)
from temporalio.api.workflowservice.v1.service_pb2_grpc import (
    WorkflowServiceServicer,
    add_WorkflowServiceServicer_to_server,
)

CAUSES = tuple(name.removeprefix("RESOURCE_EXHAUSTED_CAUSE_") for name in ResourceExhaustedCause.keys())  # noqa: SIM118
STATUSES = {
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "internal": grpc.StatusCode.INTERNAL,
    "unknown": grpc.StatusCode.UNKNOWN,
    "aborted": grpc.StatusCode.ABORTED,
    "cancelled": grpc.StatusCode.CANCELLED,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "denied": grpc.StatusCode.PERMISSION_DENIED,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "no namespace": grpc.StatusCode.NOT_FOUND,
    "unimplemented": grpc.StatusCode.UNIMPLEMENTED,
}
EXISTING = ("running", "finished", "exists without details", "exists with broken details")
STEPS = (
    "ok",
    "late",  # started, but the answer says DEADLINE_EXCEEDED
    "hang",  # never answered, nothing started
    "hang started",  # never answered, yet started
    "cut",  # the connection closes, nothing started
    "cut started",  # the connection closes, yet started
    "too large",
    *EXISTING,
    *STATUSES,
    *CAUSES,
)


def status_bytes(code: int, detail: Any) -> bytes:
    packed = AnyMessage()
    packed.Pack(detail)
    return GrpcStatus(code=code, message="", details=[packed]).SerializeToString()


class FakeFrontend(WorkflowServiceServicer):
    """Answers by a script and remembers what it started.

    Attributes
    ----------
    runs : dict
        Workflow id to the request id that started it.
    attempts : Counter
        Attempts that arrived, by item.
    """

    def __init__(self, script: Mapping[int, Sequence[str]] | None = None, api_key: str | None = None) -> None:
        self.script = {} if script is None else script
        self.api_key = api_key
        self.runs: dict[str, str] = {}
        self.attempts: Counter[int] = Counter()
        self.address = ""
        self.arrived = asyncio.Event()
        self._cut: Callable[[], None] = lambda: None

    def _admit(self, context: Any) -> bool:
        sent = dict(context.invocation_metadata())
        return self.api_key is None or sent.get("authorization") == f"Bearer {self.api_key}"

    async def GetSystemInfo(self, request: Any, context: Any) -> GetSystemInfoResponse:  # noqa: N802
        if not self._admit(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Request unauthorized.")
        return GetSystemInfoResponse(server_version="1.0-fake")

    async def DescribeNamespace(self, request: Any, context: Any) -> DescribeNamespaceResponse:  # noqa: N802
        return DescribeNamespaceResponse()

    async def StartWorkflowExecution(  # noqa: N802
        self, request: StartWorkflowExecutionRequest, context: Any
    ) -> StartWorkflowExecutionResponse:
        if not self._admit(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Request unauthorized.")
        item = int(request.request_id.rpartition(":")[2])
        steps = self.script.get(item, ["ok"])
        step = steps[min(self.attempts[item], len(steps) - 1)]
        self.attempts[item] += 1
        self.arrived.set()
        return await self._answer(step, request, context)

    async def _answer(
        self, step: str, request: StartWorkflowExecutionRequest, context: Any
    ) -> StartWorkflowExecutionResponse:
        if step in ("ok", "late", "hang started", "cut started"):
            before = self.runs.setdefault(request.workflow_id, request.request_id)
            if before != request.request_id:
                await self._exists(context, before, "Workflow execution is already running.")
        if step == "ok":
            return StartWorkflowExecutionResponse(run_id=f"run of {request.workflow_id}", started=True)
        if step.startswith("hang"):
            await asyncio.Event().wait()
        if step.startswith("cut"):
            self._cut()
            await asyncio.Event().wait()
        if step == "late":
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "context deadline exceeded")
        if step in EXISTING:
            ended = "already finished" if step == "finished" else "already running"
            await self._exists(context, "another", f"Workflow execution is {ended}.", step)
        if step in CAUSES:
            failure = ResourceExhaustedFailure(cause=CAUSES.index(step), scope=1)  # type: ignore[arg-type]
            context.set_trailing_metadata((("grpc-status-details-bin", status_bytes(8, failure)),))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
        if step == "too large":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5 vs. 4)")
        await context.abort(STATUSES[step], f"scripted {step}")
        raise AssertionError("unreachable")

    async def _exists(self, context: Any, request_id: str, details: str, step: str = "") -> None:
        failure = WorkflowExecutionAlreadyStartedFailure(start_request_id=request_id, run_id="r")
        content = status_bytes(6, failure)
        if step == "exists with broken details":
            content = b"\xff\xff\xff" + content[::-1]
        if step != "exists without details":
            context.set_trailing_metadata((("grpc-status-details-bin", content),))
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, details)

    @contextlib.asynccontextmanager
    async def serving(self, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[FakeFrontend]:
        """Serve on a free port of loopback while the block lasts; `address` is the proxy's."""
        headers = [("grpc.max_metadata_size", 1 << 16), ("grpc.absolute_max_metadata_size", 1 << 16)]
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *headers])
        add_WorkflowServiceServicer_to_server(self, server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        proxy = _Proxy(port)
        listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        self._cut = proxy.cut
        self.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listener.close()
            proxy.cut()
            await asyncio.gather(*proxy.tasks, return_exceptions=True)
            await listener.wait_closed()
            await server.stop(None)


class _Proxy:
    """Passes bytes on, until it is told to cut all connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            try:
                behind, ahead = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:  # the server behind has stopped, with this connection still waiting to be taken
                writer.transport.abort()
                return
            mine = {writer, ahead}
            self._writers |= mine
            await asyncio.gather(self._pass(reader, ahead), self._pass(behind, writer))
            self._writers -= mine
        finally:
            self.tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
