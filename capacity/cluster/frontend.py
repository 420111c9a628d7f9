"""Questions to a Temporal frontend on loopback: does it serve, which version, can a namespace take starts."""

from __future__ import annotations

import time
from pathlib import Path

import grpc

from capacity.cluster import processes
from capacity.errors import ClusterError

SERVING = "SERVING"

_SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
_STATUS = {0: "UNKNOWN", 1: SERVING, 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
# Loopback is dialled as such even where a proxy is set for everything.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 50))


def health(address: str, *, timeout: float = 1.0) -> str:
    """What the frontend says of itself.

    Parameters
    ----------
    address : str
        ``host:port``, plain text.
    timeout : float
        Patience [s].

    Returns
    -------
    str
        ``SERVING``, ``NOT_SERVING``, ``unreachable`` (nobody listens or answers) or ``not a Temporal server``.
    """
    from temporalio.bridge.proto.health.v1 import HealthCheckRequest, HealthCheckResponse

    request = HealthCheckRequest(service=_SERVICE).SerializeToString()
    try:
        answer = _call(address, "/grpc.health.v1.Health/Check", request, timeout)
        return _STATUS.get(HealthCheckResponse.FromString(answer).status, "UNKNOWN")
    except grpc.RpcError as error:
        details = error.details() or ""
        if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND) or "parsing HTTP/2" in details:
            return "not a Temporal server"
        return "unreachable"


def version(address: str, *, timeout: float = 1.0) -> str:
    """Version of the server, or ``unknown``."""
    from temporalio.api.workflowservice.v1 import GetSystemInfoResponse

    try:
        answer = _call(address, f"/{_SERVICE}/GetSystemInfo", b"", timeout)
    except grpc.RpcError:
        return "unknown"
    return str(GetSystemInfoResponse.FromString(answer).server_version)


def namespace_usable(address: str, namespace: str = "default", *, timeout: float = 1.0) -> bool:
    """Whether a start in the namespace would reach a history shard that is ready for it."""
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest

    request = DescribeWorkflowExecutionRequest(
        namespace=namespace, execution=WorkflowExecution(workflow_id="capacity-readiness-probe")
    )
    try:
        _call(address, f"/{_SERVICE}/DescribeWorkflowExecution", request.SerializeToString(), timeout)
    except grpc.RpcError as error:
        # A history shard looked for the workflow; an unknown namespace ends in NOT_FOUND too, but earlier.
        return error.code() is grpc.StatusCode.NOT_FOUND and not (error.details() or "").startswith("Namespace")
    return True


def register_namespace(address: str, namespace: str, *, retention_seconds: int, timeout: float = 5.0) -> None:
    """Create a namespace that keeps closed workflows for `retention_seconds` [s]; raises what gRPC raises."""
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

    request = RegisterNamespaceRequest(
        namespace=namespace, workflow_execution_retention_period=Duration(seconds=retention_seconds)
    )
    _call(address, f"/{_SERVICE}/RegisterNamespace", request.SerializeToString(), timeout)


def wait_until_serving(what: str, address: str, log: Path, pid: int, born: float, *, within: float = 60.0) -> None:
    """Return when the frontend serves and the namespace ``default`` takes starts.

    Parameters
    ----------
    what : str
        What is waited for, for the error.
    address : str
        ``host:port``.
    log : Path
        Log of the server.
    pid, born : int, float
        Its process id and start time [s since boot].
    within : float
        Patience [s].

    Raises
    ------
    ClusterError
        If the process ends or the time runs out.
    """
    deadline = time.monotonic() + within
    said = "unreachable"
    while time.monotonic() < deadline:
        if not processes.alive(pid, born):
            raise ClusterError(f"{what} ended at start: {processes.last_line(log)}", next_step=f"its log is {log}")
        said = health(address)
        if said == SERVING and namespace_usable(address):
            return
        time.sleep(0.05)
    raise ClusterError(f"{what} was not ready within {within:.0f} s ({said})", next_step=f"its log is {log}")


def _call(address: str, method: str, request: bytes, timeout: float) -> bytes:
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        answer: bytes = channel.unary_unary(method)(request, timeout=timeout)
        return answer
