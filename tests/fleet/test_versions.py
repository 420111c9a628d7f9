"""A launcher of a fleet that is handed what it cannot read says so once, and is not asked again."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from capacity.fleet.member import Member
from capacity.fleet.workflow import Range, RangeOrder
from capacity.launcher.batch import HeightRange
from capacity.launcher.retries import RetryPolicy

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
