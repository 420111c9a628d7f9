"""The way to a frontend, and what an attempt's answer means.

Starts go as bytes and their answers come back unparsed: over `http2` where the target speaks plain text, which costs
a fraction of a ``grpc.aio`` call (benchmarks/RESULTS.md), else over ``grpc.aio``. Everything that is not a start
(namespace, counting, batch operations) goes through the generated stub on a ``grpc.aio`` channel.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import grpc
import grpc.aio
from temporalio.api.common.v1.grpc_status_pb2 import GrpcStatus
from temporalio.api.enums.v1 import ResourceExhaustedCause, ResourceExhaustedScope
from temporalio.api.errordetails.v1 import ResourceExhaustedFailure, WorkflowExecutionAlreadyStartedFailure
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

from capacity import files
from capacity.cluster.guard import split_address
from capacity.cluster.target import Target
from capacity.errors import UsageError
from capacity.launcher import outcome
from capacity.launcher.channel import StartChannel
from capacity.launcher.http2 import Refusal

METHOD: Final = "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution"
OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # a proxy of the shell must not catch even loopback
    ("grpc.enable_retries", 0),  # retries belong to the scheduler, which counts them
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_send_message_length", -1),  # the server decides what is too large
    ("grpc.use_local_subchannel_pool", 1),
)

LONGEST_METADATA: Final = 15_000
"""With method and address they are one frame of HTTP/2 (16,384 bytes), which is all that ours makes of headers."""

StartCall = Callable[[bytes, float], Awaitable[bytes]]
"""(request, timeout [s]) to response; raises `Refusal`."""


def grpc_call(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> StartCall:
    """Return the start call over ``grpc.aio``: for TLS, and what the other one is held against."""
    method = channel.unary_unary(METHOD)

    async def call(request: bytes, timeout: float) -> bytes:
        try:
            response: bytes = await method(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise refusal_of(error) from None
        return response

    return call


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Return a public grpc error as a `Refusal`."""
    return Refusal(error.code().value[0], error.details() or "", _status_bytes(error.trailing_metadata()))


def _status_bytes(metadata: Any) -> bytes:
    for key, value in metadata or ():
        if key == "grpc-status-details-bin":
            return bytes(value)
    return b""


class Meaning(Enum):
    """What the scheduler does with an answer."""

    DONE = "the item has its outcome"
    THROTTLED = "the cluster asks for fewer; try again when the pace allows"
    AWAY = "no server answered; try again when it is back"
    RETRY = "this item failed in passing or its fate is unknown; try again with the same request id"
    STOP = "no item of this batch can succeed"


@dataclass(frozen=True)
class Verdict:
    """An answer read: its meaning, the outcome code if done, and the name by which it is counted."""

    meaning: Meaning
    outcome: int = outcome.TO_DO
    kind: str = ""
    scope: str = ""


_RETRIED = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
}
_HOPELESS = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def read(refusal: Refusal, request_id: str, on_existing: str = "skip") -> Verdict:
    """Tell what an answer other than success means for its item.

    A malformed detail never raises: the status code alone then decides.
    """
    status = _CODES.get(refusal.code, grpc.StatusCode.UNKNOWN)
    if status is grpc.StatusCode.ALREADY_EXISTS:
        return _existing(refusal, request_id, on_existing)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(refusal)
    if status is grpc.StatusCode.UNAVAILABLE:
        return Verdict(Meaning.AWAY, kind=status.name)
    if status in _RETRIED:
        return Verdict(Meaning.RETRY, kind=status.name)
    meaning = Meaning.STOP if status in _HOPELESS else Meaning.DONE
    return Verdict(meaning, outcome.REFUSED + status.value[0], status.name)


def _existing(refusal: Refusal, request_id: str, on_existing: str) -> Verdict:
    failure = _detail(refusal, WorkflowExecutionAlreadyStartedFailure)
    if failure is not None and failure.start_request_id == request_id:
        return Verdict(Meaning.DONE, outcome.STARTED, "started")
    if on_existing == "fail":
        return Verdict(Meaning.DONE, outcome.REFUSED + refusal.code, "ALREADY_EXISTS")
    finished = "already finished" in refusal.details  # the detail has no field for it
    code = outcome.ALREADY_FINISHED if finished else outcome.ALREADY_RUNNING
    return Verdict(Meaning.DONE, code, outcome.kind(code))


def _exhausted(refusal: Refusal) -> Verdict:
    failure = _detail(refusal, ResourceExhaustedFailure)
    if failure is None and "message larger than max" in refusal.details:
        return Verdict(Meaning.DONE, outcome.TOO_LARGE, "MESSAGE_TOO_LARGE")
    cause = _enum_name(ResourceExhaustedCause, failure.cause if failure else 0, "RESOURCE_EXHAUSTED_CAUSE_")
    scope = _enum_name(ResourceExhaustedScope, failure.scope if failure else 0, "RESOURCE_EXHAUSTED_SCOPE_")
    if cause == "BUSY_WORKFLOW":
        return Verdict(Meaning.RETRY, kind=cause, scope=scope)
    return Verdict(Meaning.THROTTLED, kind=cause, scope=scope)


def _enum_name(enum: Any, value: int, prefix: str) -> str:
    try:
        return str(enum.Name(value)).removeprefix(prefix)
    except ValueError:
        return f"{prefix.removeprefix('RESOURCE_EXHAUSTED_')}{value}"


def _detail(refusal: Refusal, message: Any) -> Any:
    if not refusal.status_bytes:
        return None
    try:
        status = GrpcStatus.FromString(refusal.status_bytes)
        for detail in status.details:
            if detail.Is(message.DESCRIPTOR):
                found = message()
                detail.Unpack(found)
                return found
    except Exception:  # DecodeError and whatever else a foreign server's bytes can cause: the code decides
        return None
    return None


@dataclass(frozen=True)
class Connection:
    """An open channel: `start` for the hot path, `service` for everything else."""

    target: Target
    start: StartCall
    service: WorkflowServiceStub
    metadata: tuple[tuple[str, str], ...] = field(repr=False)


@contextlib.asynccontextmanager
async def connect(target: Target, *, plain_http2: bool = True) -> AsyncIterator[Connection]:
    """Open the way to `target` and close it at the end; nothing is dialled before the first call.

    With `plain_http2` False even a plain-text target is reached over ``grpc.aio``, as is one with so much metadata that
    they take more than one frame.
    """
    metadata = tuple((key.lower(), value) for key, value in target.metadata.items())
    if target.api_key:
        metadata += (("authorization", f"Bearer {target.api_key}"), ("temporal-namespace", target.namespace))
    for key, value in metadata:
        if not (value.isascii() and value.isprintable() and re.fullmatch(r"[0-9a-z_.-]+", key)):
            what = "the API key" if key == "authorization" else f"the value of header {key!r}"
            raise UsageError(f"{what} has characters that no header can carry, perhaps a line end")
        if key.endswith("-bin"):  # by gRPC's rule its value is bytes
            raise UsageError(
                f"binary headers are not supported: {files.shown(key)}",
                allowed="headers of text, whose name does not end in -bin",
                next_step="leave it out of the TEMPORAL_GRPC_META_ variables and the profile's grpc_meta",
            )
    options: list[tuple[str, Any]] = list(OPTIONS)
    if target.tls is None:
        channel = grpc.aio.insecure_channel(target.address, options=options)
    else:
        credentials = grpc.ssl_channel_credentials(
            target.tls.server_root_ca_cert, target.tls.client_private_key, target.tls.client_cert
        )
        if target.tls.server_name:
            options.append(("grpc.ssl_target_name_override", target.tls.server_name))
            options.append(("grpc.default_authority", target.tls.server_name))
        channel = grpc.aio.secure_channel(target.address, credentials, options=options)
    async with channel:
        service = WorkflowServiceStub(channel)
        length = sum(len(key) + len(value) + 8 for key, value in metadata)  # 7 at most around a field (RFC 7541, 6.2.3)
        if target.tls is not None or not plain_http2 or length > LONGEST_METADATA:
            yield Connection(target, grpc_call(channel, metadata), service, metadata)
            return
        starts = StartChannel(*split_address(target.address), METHOD, metadata)
        try:
            yield Connection(target, starts.call, service, metadata)
        finally:
            await starts.close()
