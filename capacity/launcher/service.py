"""What is asked of the server besides starts: is it there, how many runs does it hold, end them."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeNamespaceRequest,
    DescribeWorkflowExecutionRequest,
    GetSystemInfoRequest,
)

from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.launcher.batch import Batch
from capacity.launcher.transport import Connection

TIMEOUT = 10.0
"""Deadline of one such call [s]."""


PASSING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)
"""Failures that a server under load or one that restarts has for a while."""
AGAIN: Final = 0.5
"""Seconds until such a call is made again."""


async def ask(connection: Connection, method: Callable[..., Any], request: Any, *, patience: float = 0.0) -> Any:
    """Make one call, again for `patience` seconds where it fails in passing; a failure becomes one clear line."""
    until = time.monotonic() + patience
    while True:
        try:
            return await method(request, timeout=TIMEOUT, metadata=connection.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() not in PASSING or time.monotonic() >= until:
                raise explain(error, connection) from None
        await asyncio.sleep(AGAIN)


def explain(error: grpc.aio.AioRpcError, connection: Connection) -> CapacityError:
    """Return what a failed call means for the user."""
    target, details = connection.target, error.details() or ""
    where, code = target.address, error.code()
    tls = "speaks TLS" if target.tls else "does not speak TLS"
    if code is grpc.StatusCode.UNAVAILABLE and "http1.x" in details:
        return ClusterError(
            f"{where} answers, but speaks HTTP/1, not gRPC", next_step="pass the frontend's gRPC port with --address"
        )
    if "CERTIFICATE_VERIFY_FAILED" in details or "certificate verify failed" in details:
        reason = details.rpartition("CERTIFICATE_VERIFY_FAILED: ")[2].rstrip(") ").removesuffix(": OK")
        return ClusterError(
            f"the certificate of {where} is not trusted: {reason}",
            next_step="pass its authority with --tls-ca, its name with --tls-server-name, or renew it",
        )
    if "Hostname Verification" in details:
        return ClusterError(
            f"the certificate of {where} is for another name",
            next_step="pass the name it is for with --tls-server-name",
        )
    if code is grpc.StatusCode.UNAVAILABLE and "refused" in details:
        return ClusterError(
            f"no server listens at {where}",
            next_step="start one with 'capacity cluster up' or pass --address HOST:PORT",
        )
    if code is grpc.StatusCode.UNAVAILABLE and ("handshake" in details.lower() or "ssl" in details.lower()):
        return ClusterError(
            f"no TLS connection to {where}: {_short(details)}",
            next_step="check --tls-ca, --tls-cert and --tls-key, or pass --no-tls for a plain-text frontend",
        )
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ClusterError(
            f"{where} does not answer as a Temporal frontend ({code.name}: {_short(details)}); this client {tls}",
            next_step="check the address, and whether the frontend wants a client certificate (--tls-cert, --tls-key)"
            if target.tls
            else "check the address and whether the frontend wants TLS (--tls) or plain text (--no-tls)",
        )
    if code is grpc.StatusCode.NOT_FOUND and "amespace" in details:
        return ClusterError(
            f"namespace {target.namespace!r} does not exist at {where}",
            next_step=f"create it with 'temporal operator namespace create -n {target.namespace}' or pass --namespace",
        )
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return ClusterError(
            f"{where} refuses access to namespace {target.namespace!r} ({code.name}: {_short(details)})",
            next_step="check the API key (TEMPORAL_API_KEY) or the client certificate",
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ClusterError(
            f"{where} speaks gRPC but is not a Temporal frontend",
            next_step="pass the frontend's address with --address",
        )
    return ClusterError(f"{where} answered {code.name}: {_short(details)}", next_step="see the server's log")


def _short(details: str) -> str:
    text = " ".join(details.split())
    return text if len(text) <= 160 else f"{text[:157]}..."


async def check(connection: Connection) -> str:
    """Return the server's version, or say in one line why this target cannot be used."""
    info = await ask(connection, connection.service.GetSystemInfo, GetSystemInfoRequest())
    request = DescribeNamespaceRequest(namespace=connection.target.namespace)
    try:
        await connection.service.DescribeNamespace(request, timeout=TIMEOUT, metadata=connection.metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:  # a proxy or stub may serve starts alone
            raise explain(error, connection) from None
    return str(info.server_version)


async def count(connection: Connection, query: str, *, patience: float = 0.0) -> int:
    """Return how many runs match a visibility query."""
    request = CountWorkflowExecutionsRequest(namespace=connection.target.namespace, query=query)
    response = await ask(connection, connection.service.CountWorkflowExecutions, request, patience=patience)
    return int(response.count)


async def started_at(connection: Connection, workflow_id: str) -> float:
    """Return when a workflow was started, by the server's clock [Unix time, s]."""
    request = DescribeWorkflowExecutionRequest(
        namespace=connection.target.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    response = await ask(connection, connection.service.DescribeWorkflowExecution, request)
    started: Timestamp = response.workflow_execution_info.start_time
    return started.seconds + started.nanos * 1e-9


async def clock_offset(connection: Connection, workflow_id: str, answered: float) -> float:
    """Return how far the server's clock is behind ours at least [s], from a start that was answered at `answered`.

    The server stamped it before it answered, so the true offset is at most this much larger.
    """
    return answered - await started_at(connection, workflow_id)


def batch_query(batch: Batch, since: float) -> str:
    """Return the visibility query for runs of a batch since a moment of the server's clock [Unix time, s]."""
    moment = datetime.datetime.fromtimestamp(since, datetime.UTC).isoformat(timespec="microseconds")
    clauses = [f"{what} {_quoted(name)}" for what, name in _names(batch)]
    return " AND ".join([f"StartTime >= {_quoted(moment.replace('+00:00', 'Z'))}", *clauses])


def wider_query(batch: Batch | None) -> str:
    """Return a query for the runs of a batch, and for others where names are lost or cannot be asked about."""
    names = _names(batch) if batch else []
    clauses = [f"{what} {_quoted(name)}" for what, name in names if _can_be_quoted(name)]
    return " AND ".join(["StartTime >= '1970-01-01T00:00:00Z'", *clauses])


def _names(batch: Batch) -> list[tuple[str, str]]:
    """Return what a query compares with which names of a batch."""
    options, prefix = batch.options, batch.id_prefix
    names = [("WorkflowType =", options.workflow_type), ("TaskQueue =", options.task_queue)]
    return [*names, ("WorkflowId STARTS_WITH", prefix)] if prefix else names


def _can_be_quoted(text: str) -> bool:
    return "'" not in text and "\\" not in text


def _quoted(text: str) -> str:
    if not _can_be_quoted(text):
        raise UsageError(
            f"the server cannot be asked about names with quotes or backslashes like {text!r}",
            next_step="pass --no-verify",
        )
    return f"'{text}'"


async def settle(connection: Connection, query: str, expected: int, *, patience: float = 15.0) -> int:
    """Return the count a query settles at: as soon as it is `expected`, else when it has not moved for `patience` s."""
    last = -1
    began = moved = time.monotonic()
    while True:
        found = await count(connection, query, patience=patience)
        if found >= expected:
            return found
        if found != last:
            last, moved = found, time.monotonic()
        elif time.monotonic() - moved > patience:
            return found
        await asyncio.sleep(_until_next_count(began))


async def completed(
    connection: Connection, batch: Batch, since: float, *, patience: float = 60.0, on_count: Callable[[int, int], None]
) -> int:
    """Wait until no run of a batch is running; return how many still are once its task queue has stopped moving.

    Runs of other batches may stand before it in the queue, so it is the queue that must move; `on_count` is told how
    many run of this batch and of others.
    """
    mine = f"{batch_query(batch, since)} AND ExecutionStatus = 'Running'"
    queue = f"TaskQueue = {_quoted(batch.options.task_queue)} AND ExecutionStatus = 'Running'"
    last = -1
    began = moved = time.monotonic()
    while True:
        running = await count(connection, mine, patience=patience)
        if running == 0:
            return 0
        waiting = await count(connection, queue, patience=patience)
        on_count(running, max(0, waiting - running))
        if waiting != last:
            last, moved = waiting, time.monotonic()
        elif time.monotonic() - moved > patience:
            return running
        await asyncio.sleep(_until_next_count(began))


def _until_next_count(began: float) -> float:
    """Return how long to wait [s]: a wait of hours asks the server, and tells the user, every other second."""
    return min(0.25 + 0.1 * (time.monotonic() - began), 2.0)
