"""The workflow a dev batch runs, so that `capacity launch --worker` has real work: one short activity.

Nothing is imported here but the SDK: Temporal's sandbox imports this module again for every run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow


@activity.defn(name="index_block")
async def index_block(block: dict[str, Any]) -> str:
    """Stand for the work on one block."""
    return f"{block.get('chain_id')}:{block.get('height')}"


@workflow.defn(name="IndexBlockWorkflow")
class IndexBlockWorkflow:
    """Index one block: the original's workflow, reduced to what costs the cluster something."""

    @workflow.run
    async def run(self, block: dict[str, Any]) -> str:
        result: str = await workflow.execute_activity(
            "index_block", block, start_to_close_timeout=timedelta(seconds=30), result_type=str
        )
        return result
