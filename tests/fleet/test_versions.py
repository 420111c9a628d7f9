"""A launcher of a fleet that is handed what it cannot read says so once, and is not asked again."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from capacity.cluster.target import Target
from capacity.fleet.member import Member
from capacity.fleet.workflow import Range, RangeOrder
from capacity.launcher.batch import HeightRange
from capacity.launcher.retries import RetryPolicy
from capacity.launcher.transport import Connection

POLICY = asdict(RetryPolicy())


@pytest.mark.parametrize(
    ("batch", "policy", "done", "said"),
    [
        (HeightRange(10).describe(), {**POLICY, "haste": 3}, "", []),
        (HeightRange(10).describe(), POLICY, "what is this", []),
        (HeightRange(10).describe(), POLICY, "", [{}, "", {"attempts": "many"}]),
        ({"kind": "stars"}, POLICY, "", []),
    ],
)
def test_an_order_of_another_version_ends_the_batch_with_its_reason(
    batch: dict[str, Any], policy: dict[str, Any], done: str, said: list[Any]
) -> None:
    """Tried again by the same launchers it would fail again, for ever, and its reason would reach nobody."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_details=said)
    member = Member(mock.MagicMock(), mock.MagicMock())
    order = RangeOrder("run", batch, policy, "conductor", Range(0, 10, done))
    with pytest.raises(ApplicationError) as refused:
        asyncio.run(environment.run(member.launch_range, order))
    assert refused.value.non_retryable
    assert refused.value.message.startswith(member._who)


def test_an_order_for_another_namespace_is_refused() -> None:
    """Launched into the worker's own, its workflows would be where nobody looks for them, and all would seem well."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_details=[])
    connection = Connection(Target("127.0.0.1:1", "mine"), None, None, ())  # type: ignore[arg-type]
    order = RangeOrder("run", HeightRange(10).describe(), POLICY, "conductor", Range(0, 10), "theirs")
    with pytest.raises(ApplicationError, match="start its worker with --namespace theirs") as refused:
        asyncio.run(environment.run(Member(mock.MagicMock(), connection).launch_range, order))
    assert refused.value.non_retryable
