"""The fleet on paper is the one there is: what the simulation takes as given are the fleet's own numbers."""

from __future__ import annotations

from capacity.fleet import conductor, member, workflow
from capacity.model.fleet_records import STANDARD


def test_the_simulation_takes_the_fleets_own_numbers() -> None:
    """Ranges out at once, times and bounds of the history stand in two rooms, for a workflow may import neither's."""
    assert STANDARD.handed_out == workflow.HANDED_OUT
    assert STANDARD.heartbeat == member.BEAT
    assert STANDARD.heartbeat_timeout == workflow.HEARTBEAT_TIMEOUT
    assert STANDARD.retry_after == workflow.AGAIN.initial_interval.total_seconds()
    assert STANDARD.gone_after == conductor.GONE_AFTER
    assert (STANDARD.continue_at, STANDARD.continue_at_bytes) == (workflow.MANY_EVENTS, workflow.MANY_BYTES)
