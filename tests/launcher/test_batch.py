"""A batch: what bytes it sends, how it is told from another, which names it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from capacity.errors import UsageError
from capacity.fleet.child import hello, order_of
from capacity.launcher.batch import MAXIMUM_ID_LENGTH, RUN_MEMO, HeightRange, StartOptions, fingerprint
from capacity.launcher.header import Header
from capacity.launcher.inputs import InputTemplate
from capacity.launcher.journal import Journal
from capacity.launcher.rebuild import rebuild
from capacity.launcher.retries import RetryPolicy

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), names), lambda leaf: st.lists(leaf, max_size=3)
)


@pytest.mark.slow
@given(
    chain_id=names,
    from_height=st.integers(0, 2**63 - 1),
    count=st.integers(1, 5),
    memo=st.dictionaries(names, json_values, max_size=3),
    attributes=st.dictionaries(names, json_values, max_size=2),
    priority=st.one_of(st.none(), st.integers(1, 5)),
)
def test_the_bytes_of_template_and_item_parse_as_their_merge(
    chain_id: str,
    from_height: int,
    count: int,
    memo: dict[str, object],
    attributes: dict[str, object],
    priority: int | None,
) -> None:
    """The constant bytes followed by an item's own bytes are one request with the fields of both."""
    options = StartOptions("Type", "queue", "rerun", memo, attributes, priority)
    batch = HeightRange(count, chain_id, from_height, options)
    template = options.request_template("space", "run-1")
    bodies = list(batch.bodies("run-1", lambda _: False))
    assert [index for index, _ in bodies] == list(range(count))
    for index, body in bodies:
        assert body is not None
        request = StartWorkflowExecutionRequest.FromString(template + body)
        expected = StartWorkflowExecutionRequest.FromString(template)
        expected.MergeFrom(StartWorkflowExecutionRequest.FromString(body))
        assert request == expected
        assert (request.namespace, request.workflow_type.name, request.task_queue.name) == ("space", "Type", "queue")
        assert request.workflow_id == batch.workflow_id(index) == f"{chain_id}:index-block:{from_height + index}"
        assert request.request_id == f"run-1:{index}"
        data = json.loads(request.input.payloads[0].data)
        assert data == {"chain_id": chain_id, "height": from_height + index}
        fields = {key: json.loads(payload.data) for key, payload in request.memo.fields.items()}
        assert fields == memo | {RUN_MEMO: "run-1"}
        found = {key: json.loads(payload.data) for key, payload in request.search_attributes.indexed_fields.items()}
        assert found == attributes
        assert request.priority.priority_key == (priority or 0)


@pytest.mark.parametrize(
    ("on_existing", "policy"),
    [
        ("skip", "REJECT_DUPLICATE"),
        ("rerun-failed", "ALLOW_DUPLICATE_FAILED_ONLY"),
        ("rerun", "ALLOW_DUPLICATE"),
        ("fail", "REJECT_DUPLICATE"),
    ],
)
def test_on_existing_is_the_servers_reuse_policy(on_existing: str, policy: str) -> None:
    """What is asked for an id that exists is the policy that does it, and a running one is never replaced."""
    template = StartOptions(on_existing=on_existing).request_template("n", "r")
    request = StartWorkflowExecutionRequest.FromString(template)
    assert WorkflowIdReusePolicy.Name(request.workflow_id_reuse_policy) == f"WORKFLOW_ID_REUSE_POLICY_{policy}"
    conflict = WorkflowIdConflictPolicy.Name(request.workflow_id_conflict_policy)
    assert conflict == "WORKFLOW_ID_CONFLICT_POLICY_FAIL"


def test_a_template_makes_the_input() -> None:
    """With a template the input is the template's, filled with the height."""
    batch = HeightRange(1, "c", 7, template=InputTemplate('{"block": "{height}"}'))
    ((_, body),) = batch.bodies("r", lambda _: False)
    request = StartWorkflowExecutionRequest.FromString(body or b"")
    assert request.input.payloads[0].data == b'{"block":7}'
    assert request.input.payloads[0].metadata["encoding"] == b"json/plain"


def test_items_that_are_done_are_not_made() -> None:
    """Indices that the journal notes as done, and those before the first asked for, are left out."""
    batch = HeightRange(10)
    assert [index for index, _ in batch.bodies("r", lambda index: index % 2 == 1, 4)] == [4, 6, 8]


@pytest.mark.parametrize("name", ["n" * (MAXIMUM_ID_LENGTH + 1), "é" * 501, "", "\udcff"])
@pytest.mark.parametrize("what", ["workflow_type", "task_queue"])
def test_a_name_the_server_would_refuse_is_refused_here(what: str, name: str) -> None:
    """Names are 1 to 1000 bytes (not characters) of UTF-8, and the refusal says which name it is."""
    with pytest.raises(UsageError, match=what.replace("_", " ")) as raised:
        StartOptions(**{what: name})
    assert len(str(raised.value)) < 250


def test_a_name_of_exactly_the_limit_is_taken() -> None:
    """1000 bytes are allowed: the limit is the last allowed length."""
    assert StartOptions("n" * MAXIMUM_ID_LENGTH, "é" * 500)


def test_an_id_that_outgrows_the_limit_at_its_last_height_is_refused() -> None:
    """The longest id decides: a chain id that fits at height 9 but not at height 10 is refused for two blocks."""
    chain_id = "c" * (MAXIMUM_ID_LENGTH - len(":index-block:9"))
    assert HeightRange(1, chain_id, 9)
    with pytest.raises(UsageError, match="workflow id"):
        HeightRange(2, chain_id, 9)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: HeightRange(0), "count is 0"),
        (lambda: HeightRange(1, from_height=-1), "from-height is -1"),
        (lambda: HeightRange(1, "\udcff"), "not UTF-8"),
        (lambda: StartOptions(on_existing="replace"), "on-existing is 'replace'; allowed: skip"),
        (lambda: StartOptions(priority_key=0), "priority key is 0"),
        (lambda: StartOptions(priority_key=6), "priority key is 6"),
        (lambda: HeightRange(1, template=InputTemplate('"{hight}"')), "names 'hight'; allowed: id, chain_id, height"),
    ],
)
def test_misuse_is_refused_with_what_is_allowed(make: object, match: str) -> None:
    """A batch that cannot be sent is refused when it is made, with the value."""
    with pytest.raises(UsageError, match=match):
        make()  # type: ignore[operator]


BATCH = HeightRange(10, "main", 5)


@pytest.mark.parametrize(
    "other",
    [
        replace(BATCH, count=11),
        replace(BATCH, chain_id="test"),
        replace(BATCH, from_height=6),
        replace(BATCH, options=StartOptions(on_existing="rerun")),
        replace(BATCH, options=StartOptions(memo={"a": 1})),
        replace(BATCH, template=InputTemplate('{"h": "{height}"}')),
    ],
)
def test_another_batch_has_another_fingerprint(other: HeightRange) -> None:
    """Count, chain, heights, options and template tell two batches apart."""
    assert fingerprint(BATCH, "a:1", "n") != fingerprint(other, "a:1", "n")


def test_another_target_has_another_fingerprint() -> None:
    """The same batch on another address or in another namespace is another one; on the same it is the same."""
    marks = {fingerprint(BATCH, address, space) for address in ("a:1", "b:1") for space in ("n", "m")}
    assert len(marks) == 4
    assert fingerprint(replace(BATCH), "a:1", "n") in marks


def test_a_batch_is_rebuilt_from_its_description() -> None:
    """The description that a journal keeps, as JSON, gives the batch back."""
    batch = HeightRange(3, "c", 4, StartOptions(memo={"k": [1]}, priority_key=2), InputTemplate('{"h": "{height}"}'))
    again = rebuild(json.loads(json.dumps(batch.describe())))
    assert again.describe() == batch.describe()
    assert list(again.bodies("r", lambda _: False)) == list(batch.bodies("r", lambda _: False))


def test_a_description_that_is_lost_says_so() -> None:
    """A journal whose description is damaged has none: that is said, and that the batch can be launched anew."""
    with pytest.raises(UsageError, match="what the batch was is lost; launch it anew"):
        rebuild({})


@pytest.mark.slow
@pytest.mark.parametrize("template", [None, InputTemplate('{"block": "{height}"}')])
def test_memory_does_not_grow_with_what_was_written(template: InputTemplate | None) -> None:
    """Writing 300,000 requests leaves the process as small as it was: a reused message must not keep old values."""
    process = psutil.Process()
    batch = HeightRange(300_000, chain_id="c" * 50, template=template)
    bodies = batch.bodies("run", lambda _: False)
    for _ in range(10_000):
        next(bodies)
    before = process.memory_info().rss
    assert sum(1 for _ in bodies) == 290_000
    assert process.memory_info().rss - before < 10 * 2**20


def test_a_memo_that_is_taken_can_be_read_back(tmp_path: Path) -> None:
    """One nested so deep that a journal or another process could not read it is refused where it is given."""

    def batch(depth: int) -> HeightRange:
        return HeightRange(3, options=StartOptions(memo=json.loads('{"a":' * depth + "{}" + "}" * depth)))

    deepest = batch(46)
    with pytest.raises(UsageError, match="memo is nested too deeply"):
        batch(47)
    with Journal.create(tmp_path / "j", Header("f", "r", 3, batch=deepest.describe())):
        assert rebuild(Header.read(tmp_path / "j").batch) == deepest
    assert order_of(hello(deepest, b"", 3, RetryPolicy(), 4, 0))
