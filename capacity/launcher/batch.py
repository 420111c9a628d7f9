"""What is to be started: item i of a batch is addressed by its index, and its request is a function of the index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from temporalio.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from capacity import files
from capacity.errors import UsageError
from capacity.launcher.header import check_size
from capacity.launcher.inputs import InputTemplate

MAXIMUM_ID_LENGTH = 1000
"""`limit.maxIDLength` of the server: workflow ids, task queues, workflow types [bytes]."""

RUN_MEMO = "capacity_run"
"""Memo field that says which run started a workflow: by it `capacity runs clean` knows its own."""

ON_EXISTING = {
    "skip": WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
    "rerun-failed": WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
    "rerun": WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
    "fail": WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
}
"""What an existing workflow id means, and the server's reuse policy that does it."""


@dataclass(frozen=True)
class StartOptions:
    """What all starts of a batch have in common.

    Parameters
    ----------
    workflow_type, task_queue : str
        Names, at most 1000 bytes each.
    on_existing : {"skip", "rerun-failed", "rerun", "fail"}
        What to do with an id that exists: never run it twice, run it again if it failed, run it again if it is
        closed, or count it as failed. A running one is never started twice.
    memo, search_attributes : mapping
        JSON values, the same for all items.
    priority_key : int, optional
        1 (first) to 5 (last); None leaves the server's default.
    """

    workflow_type: str = "IndexBlockWorkflow"
    task_queue: str = "capacity"
    on_existing: str = "skip"
    memo: dict[str, Any] = field(default_factory=dict)
    search_attributes: dict[str, Any] = field(default_factory=dict)
    priority_key: int | None = None

    def __post_init__(self) -> None:
        check_name("workflow type", self.workflow_type)
        check_name("task queue", self.task_queue)
        for what, values in (("memo", self.memo), ("search attributes", self.search_attributes)):
            try:  # a journal and a record keep them, so deep within, and have to be readable
                files.checked({"batch": {"options": {what: values}}})
            except files.UnreadableError as error:
                raise UsageError(f"{what} {error}") from error
        if self.on_existing not in ON_EXISTING:
            raise UsageError(f"on-existing is {files.shown(self.on_existing)}", allowed=", ".join(ON_EXISTING))
        if self.priority_key is not None and not 1 <= self.priority_key <= 5:
            raise UsageError(f"priority key is {files.shown(self.priority_key)}", allowed="1 (first) to 5 (last)")

    def request_template(self, namespace: str, run_id: str) -> bytes:
        """Return the constant part of every request; the bytes of a request's own part are appended to it."""
        request = StartWorkflowExecutionRequest(
            namespace=namespace,
            identity=f"capacity@{run_id}",
            workflow_id_reuse_policy=ON_EXISTING[self.on_existing],
            workflow_id_conflict_policy=WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
        )
        request.workflow_type.name = self.workflow_type
        request.task_queue.name = self.task_queue
        for key, value in (self.memo | {RUN_MEMO: run_id}).items():
            _set_json(request.memo.fields[key], value)
        for key, value in self.search_attributes.items():
            _set_json(request.search_attributes.indexed_fields[key], value)
        if self.priority_key is not None:
            request.priority.priority_key = self.priority_key
        return request.SerializeToString()


class BodyWriter:
    """Writes the own part of requests: one message for many, since setting three fields costs less than a new one.

    A message keeps the memory of every value it ever held, so it is replaced by a new one now and then.
    """

    RENEWED_AFTER = 256

    def __init__(self) -> None:
        self._left = 0

    def write(self, workflow_id: str, request_id: str, data: bytes) -> bytes:
        """Return the bytes to put behind those of `StartOptions.request_template`; `data` is the input as JSON."""
        if not self._left:
            self._left = self.RENEWED_AFTER
            self._message = StartWorkflowExecutionRequest()
            self._payload = self._message.input.payloads.add()
            self._payload.metadata["encoding"] = b"json/plain"
        self._left -= 1
        self._message.workflow_id = workflow_id
        self._message.request_id = request_id
        self._payload.data = data
        return self._message.SerializeToString()


class Batch(Protocol):
    """N items with deterministic ids."""

    @property
    def count(self) -> int:
        """How many items."""

    @property
    def options(self) -> StartOptions:
        """What all items have in common."""

    @property
    def id_prefix(self) -> str:
        """What all workflow ids begin with; may be empty."""

    def describe(self) -> dict[str, Any]:
        """Return what identifies the batch, as JSON values."""

    def columns(self, index: int) -> dict[str, Any]:
        """Return the columns of one item, its ``id`` among them; ValueError says why an item is bad."""

    def columns_of(self, indices: Collection[int]) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
        """Yield the index and the columns of some items, by index; in place of a bad one why it is bad."""

    def workflow_id(self, index: int) -> str:
        """Return the workflow id of one item."""

    def bodies(
        self, run_id: str, skip: Callable[[int], bool], first: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, bytes | None]]:
        """Yield (index, own part of the request) of the items [first, stop) but for those `skip` names.

        None for the own part: a bad item.
        """


@dataclass(frozen=True)
class HeightRange:
    """Blocks of one chain by height: ids ``{chain_id}:index-block:{height}``, input ``{chain_id, height}``.

    Parameters
    ----------
    count : int
        Workflows to start, at least 1.
    chain_id : str
        The chain.
    from_height : int
        Height of the first block.
    options : StartOptions
        What all of them have in common: workflow type, task queue, what an existing id means, memo, priority.
    template : InputTemplate, optional
        Makes the input of each; by default chain and height.

    Examples
    --------
    >>> batch = HeightRange(count=3, chain_id="mainnet", from_height=100)
    >>> batch.workflow_id(2)
    'mainnet:index-block:102'
    """

    count: int
    chain_id: str = "mainnet"
    from_height: int = 0
    options: StartOptions = field(default_factory=StartOptions)
    template: InputTemplate | None = None

    def __post_init__(self) -> None:
        check_count(self.count)
        if not 0 <= self.from_height < 2**63:
            raise UsageError(f"from-height is {files.shown(self.from_height)}", allowed=f"0 to {2**63 - 1}")
        check_name("workflow id", self.workflow_id(self.count - 1))
        for column in self.template.columns if self.template else ():
            if column not in self.columns(0):
                raise UsageError(f"input template names {column!r}", allowed=", ".join(self.columns(0)))

    @property
    def id_prefix(self) -> str:
        return f"{self.chain_id}:index-block:"

    def describe(self) -> dict[str, Any]:
        template = self.template.text if self.template else None
        return {
            "kind": "heights",
            "count": self.count,
            "chain_id": self.chain_id,
            "from_height": self.from_height,
            "template": template,
            "options": asdict(self.options),
        }

    def columns(self, index: int) -> dict[str, Any]:
        height = self.from_height + index
        return {"id": self.workflow_id(index), "chain_id": self.chain_id, "height": height}

    def columns_of(self, indices: Collection[int]) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
        return ((index, self.columns(index)) for index in sorted(indices))

    def workflow_id(self, index: int) -> str:
        return f"{self.id_prefix}{self.from_height + index}"

    def bodies(
        self, run_id: str, skip: Callable[[int], bool], first: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, bytes | None]]:
        prefix, low, template = self.id_prefix, self.from_height, self.template
        constant = b'{"chain_id":%b,"height":' % json.dumps(self.chain_id).encode()
        body = BodyWriter()
        for index in range(first, self.count if stop is None else min(stop, self.count)):
            if skip(index):
                continue
            height = low + index
            data = template.render(self.columns(index)) if template else b"%b%d}" % (constant, height)
            yield index, body.write(f"{prefix}{height}", f"{run_id}:{index}", data)


def fingerprint(batch: Batch, address: str, namespace: str) -> str:
    """Return what tells two batches apart: their items, options and target, as 16 hexadecimal digits."""
    description = {name: value for name, value in batch.describe().items() if name != "path"}
    text = json.dumps([description, address, namespace], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_count(count: int) -> None:
    """Refuse a number of items below 1, or of more than a journal holds."""
    if count < 1:
        raise UsageError(
            f"count is {files.shown(count)}", allowed="1 or more", next_step="pass for example --count 1000"
        )
    check_size(count)


def check_name(what: str, name: str) -> None:
    """Refuse a name that the server would refuse."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} {files.shown(name)} is not UTF-8 text") from error
    if not 1 <= length <= MAXIMUM_ID_LENGTH:
        shown = name if length <= 40 else f"{name[:37]}..."
        raise UsageError(
            f"{what} {shown!r} is {length:,} bytes long",
            allowed=f"1 to {MAXIMUM_ID_LENGTH:,} bytes (the server's limit.maxIDLength)",
        )


def _set_json(payload: Any, value: Any) -> None:
    payload.metadata["encoding"] = b"json/plain"
    payload.data = json.dumps(value).encode()
