"""A journal and a fleet: what is to do goes out as an order, what was done comes back as notes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from capacity.cluster.target import Target
from capacity.errors import ClusterError
from capacity.fleet import Fleet
from capacity.fleet.conductor import RUNNING, described, forgotten
from capacity.fleet.looking import LastTold
from capacity.fleet.notes import pack, unpack
from capacity.fleet.workflow import MANY_OUTCOMES, BatchDone, BatchOrder, LaunchBatch, Range, batch_id, bytes_of
from capacity.launcher import outcome
from capacity.launcher.batch import Batch
from capacity.launcher.journal import Journal
from capacity.launcher.retries import RetryPolicy
from capacity.model.fleet_simulation import range_size

PLACE_WITHIN: Final = 20.0
"""Seconds for which an order is tried again."""
PLACE_AGAIN: Final = 1.0
"""Seconds between two tries of that."""


class Ordering:
    """Orders what a journal does not note yet, or takes up the batch that runs.

    Parameters
    ----------
    batch, target, journal, control, fleet, policy
        As for `FleetBatch`.

    Attributes
    ----------
    taken_up : bool
        Whether another launch had ordered what runs.
    warnings : tuple of str
        What this launch asked for and that one had not.
    """

    def __init__(
        self, batch: Batch, target: Target, journal: Journal, control: dict[str, Any], fleet: Fleet, policy: RetryPolicy
    ) -> None:
        self._batch, self._target, self._journal, self._control = batch, target, journal, control
        self._fleet, self._policy = fleet, policy
        self._placed = False  # by this launch, be its answer lost
        self.taken_up = False
        self.warnings: tuple[str, ...] = ()

    async def place(
        self, client: Client, rest_of: BatchDone | None = None
    ) -> WorkflowHandle[LaunchBatch, BatchDone] | None:
        """Start the batch's workflow, or take up the one that runs; None when an ended one had done all there is.

        What an ended one did is noted before; that of the one whose rest is ordered is noted already.

        Raises
        ------
        ClusterError
            If the server does not take it; where it refuses in passing it is asked again for `PLACE_WITHIN` seconds.
        """
        passing = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.RESOURCE_EXHAUSTED)
        until = time.monotonic() + PLACE_WITHIN
        while True:
            try:
                return await self._place(client, rest_of)
            except RPCError as error:
                if error.status not in passing or time.monotonic() > until:
                    raise ClusterError(
                        f"{self._target.address} does not take the order: {error.message}",
                        next_step="see the server's log; should it have it after all, --resume takes the batch up",
                    ) from None
                await asyncio.sleep(PLACE_AGAIN)

    async def _place(self, client: Client, rest_of: BatchDone | None) -> WorkflowHandle[LaunchBatch, BatchDone] | None:
        run_id = self._journal.header.run_id
        running = None if rest_of else await self._note_ended(client, batch_id(run_id))
        to_do = self._journal.tally().get(outcome.TO_DO, 0)
        if running is not None and not self._placed:
            self._take_up(running)
        elif running is None and not to_do:
            return None
        order = order_of(self._batch, self._journal, self._control, self._policy)
        order.namespace, order.paused = self._target.namespace, rest_of is not None and rest_of.paused
        self._placed = True
        known: dict[str, Any] = {"count": self._batch.count, "before": self._batch.count - to_do}
        known |= {"control": self._control, "policy": asdict(self._policy)}
        return await client.start_workflow(
            LaunchBatch.run,
            order,
            id=batch_id(run_id),
            task_queue=self._fleet.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            memo={"capacity": known},
        )

    def _take_up(self, running: DescribeWorkflowExecutionResponse) -> None:
        """Go on with a batch as it was ordered, and say so where this launch asks for something else."""
        self.taken_up = True
        memo = running.workflow_execution_info.memo.fields.get("capacity")
        found = DataConverter.default.payload_converter.from_payload(memo) if memo is not None else {}
        control, policy, mine = found.get("control") or self._control, found.get("policy"), asdict(self._policy)
        if policy is None or policy.keys() != mine.keys():  # it was ordered by another version
            policy = mine
        ordered, asked = {**control, **policy}, {**self._control, **mine}
        others = [name for name, value in ordered.items() if value is not None and value != asked.get(name)]
        if others:
            said = ", ".join(f"{name.replace('_', ' ')} {ordered[name]}" for name in others)
            self.warnings = (
                f"the fleet went on with the batch as it was ordered ({said}): what this launch says of that changes "
                "nothing; cancel the batch and resume it for it",
            )
            self._control, self._policy = control, RetryPolicy(**policy)

    async def _note_ended(self, client: Client, workflow_id: str) -> DescribeWorkflowExecutionResponse | None:
        """Note what an earlier order of this journal did, if it ended while nobody looked on; return one that runs."""
        try:
            found = await described(client, workflow_id)
        except RPCError as error:
            if forgotten(error):
                return None
            raise
        if found.workflow_execution_info.status == RUNNING:
            return found
        handle = client.get_workflow_handle_for(LaunchBatch.run, workflow_id)
        with contextlib.suppress(WorkflowFailureError):  # terminated or failed: its items are to do
            note(self._journal, await handle.result())
        return None


def order_of(
    batch: Batch, journal: Journal, control: dict[str, Any], policy: RetryPolicy, outcome_bytes: int = MANY_OUTCOMES
) -> BatchOrder:
    """Return the order for what a journal does not note yet, or for as much of it as an order may hold."""
    size = range_size(batch.count)
    order = BatchOrder(
        journal.header.run_id, batch.describe(), asdict(policy), control, batch.count, size, outcome_bytes=outcome_bytes
    )
    if journal.tally().get(outcome.TO_DO, 0) == batch.count:
        return order
    order.cursor = batch.count
    codes, held = journal.codes(), 0
    for first in range(0, batch.count, size):
        part = codes[first : first + size]
        if not part.all() and held <= outcome_bytes:
            order.ranges.append(Range(first, first + part.size, pack(part)))
            held += bytes_of(order.ranges[-1])
    return order


def note(journal: Journal, done: BatchDone) -> None:
    """Note in a journal what a fleet did."""
    for item in done.outcomes:
        _note(journal, item.first, unpack(item.done, item.stop - item.first))
    journal.sync()


def note_told(journal: Journal, told: LastTold) -> list[dict[str, Any]]:
    """Note what launchers told while they lived and the batch ended without: it was done all the same.

    Parameters
    ----------
    journal : Journal
        With what the batch itself brought back.
    told : LastTold

    Returns
    -------
    list of dict
        Reports on the ranges of which the batch had not brought back all that was told.
    """
    noted, lost = journal.codes(), []
    for name, (packed, report) in told.items():
        first, stop = map(int, name.split("-"))
        codes = np.where(noted[first:stop] == outcome.TO_DO, unpack(packed, stop - first), outcome.TO_DO)
        _note(journal, first, codes)
        lost += [report] if codes.any() else []
    journal.sync()
    return lost


def _note(journal: Journal, first: int, codes: npt.NDArray[np.uint8]) -> None:
    for code in np.unique(codes):
        if code != outcome.TO_DO:
            journal.note(first + np.flatnonzero(codes == code), int(code))
