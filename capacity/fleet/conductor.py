"""The one controller of a fleet: it reads what the launchers say in heartbeats and shares its setting out.

Invariants: a window is made only of seconds in which every launcher kept to the share it was given, so that the
controller sees what its own setting did; what it says stands in its own heartbeat, where the launchers read it.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import astuple, dataclass, replace
from typing import Any, Final

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from capacity import files
from capacity.fleet.sharing import Share, shares, together
from capacity.launcher.controller import Controller, Fixed, OpenLoop, Pace, Setting, Window
from capacity.launcher.knee import Auto
from capacity.launcher.settings import controller_for

INTERVAL: Final = 1.0
"""Seconds between two looks at the launchers."""
SHORTEST: Final = 0.5
"""Seconds between two heartbeats of which a window is made: in less there is too little to tell a rate."""
COMING: Final = 2.0
"""Seconds at the begin of a batch in which its launchers come: each waits for its share."""
SOON: Final = 0.25
"""Seconds between two looks in that time."""
GONE_AFTER: Final = 1.5
"""Seconds without a range after which a launcher gets no share: between two ranges it keeps its own."""
MARGIN: Final = 0.04
"""Share of an admitted rate that starts leave to the fleet's own calls: these are refused first where none is left."""
RUNNING: Final = 1


@dataclass(frozen=True)
class Beat:
    """What a launcher says of itself once a second.

    Parameters
    ----------
    who : str
        Its host and process.
    at : float
        Its own clock, 0 when it joined the batch [s].
    answered, throttled : int
        Since then, over all its ranges.
    in_flight, limit : int
    away : bool
    share : int
        The limit it was told last.
    """

    who: str
    at: float
    answered: int
    throttled: int
    in_flight: int
    limit: int
    away: bool
    share: int


BEAT: Final[files.Kinds] = {
    "who": str,
    **dict.fromkeys(("answered", "throttled", "in_flight", "limit", "share"), int),
    "at": float,
    "away": bool | int,
}


def window_between(before: Beat, after: Beat) -> Window | None:
    """Return what a launcher did between two of its heartbeats; None when they are not of one share, or too close."""
    seconds = after.at - before.at
    if seconds < SHORTEST or after.answered < before.answered or before.share != after.share:
        return None
    in_flight = (before.in_flight + after.in_flight) / 2
    return Window(seconds, after.answered - before.answered, in_flight, after.throttled - before.throttled, after.away)


class Conductor:
    """Turns heartbeats into shares.

    Parameters
    ----------
    controller : Controller
    now : float
        When it begins [s].
    """

    def __init__(self, controller: Controller, now: float) -> None:
        self._controller = controller
        self._beats: dict[str, Beat] = {}
        self._windows: dict[str, Window] = {}
        self._last_seen: dict[str, float] = {}
        self.setting: Setting = controller.step(None, now)
        self.shares: dict[str, Share] = {}

    def look(self, beats: list[Beat], now: float) -> dict[str, Share]:
        """Take the newest heartbeat of every launcher; return who gets what."""
        for beat in beats:
            before = self._beats.get(beat.who)
            # The first of a range may follow the last of another at once: the next one is held against that.
            follows = before is not None and before.share == beat.share and 0 <= beat.at - before.at < SHORTEST
            if not follows:
                window = window_between(before, beat) if before else None
                told = self.shares.get(beat.who)
                if window and told is not None and beat.share == told.limit:
                    self._windows[beat.who] = window
                self._beats[beat.who] = beat
            self._last_seen[beat.who] = now
        there = sorted(who for who, seen in self._last_seen.items() if now - seen < GONE_AFTER)
        for who in set(self._beats) - set(there):
            self._beats.pop(who)
            self._last_seen.pop(who, None)
            self._windows.pop(who, None)
        idle = {who for who in there if who in self.shares and self.shares[who].limit == 0}
        if there and all(who in self._windows for who in there if who not in idle):
            self._step(now)
        if [*self.shares] != there:
            self._share(there)
        return self.shares

    def _step(self, now: float) -> None:
        windows = list(self._windows.values())
        self._windows.clear()
        answered = sum(window.answered / window.seconds for window in windows)  # rounded once: one in two seconds is 0
        throttled = sum(window.throttled / window.seconds for window in windows)
        second = replace(together(windows, 1.0), answered=round(answered), throttled=math.ceil(throttled))
        self.setting = self._controller.step(second, now)
        self._share([*self.shares])

    def _share(self, there: list[str]) -> None:
        if self.setting.pace is not None and self.setting.limit < len(there):
            # What binds is the pace: with one in flight each, none has to wait for a share that another has to lose.
            self.setting = replace(self.setting, limit=len(there))
        self.shares = dict(zip(there, shares(self.setting, len(there)), strict=True))


def controller_of(control: dict[str, Any]) -> Controller:
    """Return the controller of a fleet, which sees a window a second and its own changes a second or two later."""
    controller, _ = controller_for(
        control.get("parallelism"), rate=control.get("rate"), max_in_flight=control.get("max_in_flight", 512)
    )
    pace = Pace(MARGIN, prompt=True)
    if isinstance(controller, Auto):
        return Auto(controller.maximum, dwell=1.0, interval=10.0, pace=pace)
    assert isinstance(controller, Fixed | OpenLoop)
    return replace(controller, pace=pace)


async def conduct(client: Client, workflow_id: str, control: dict[str, Any], first_run_id: str = "") -> None:
    """Share out the controller of a batch until its workflow has ended, or was deleted.

    What was ordered anew under its id since begins with another run, and has a conductor of its own.
    """
    began = time.monotonic()
    conductor = Conductor(controller_of(control), began)
    who_was_told: list[str] | None = None
    while True:
        coming = time.monotonic() - began < COMING
        found = None
        try:
            found = await described(client, workflow_id)
        except RPCError as error:
            if forgotten(error):
                return
        if found is not None:
            info = found.workflow_execution_info
            if info.status != RUNNING or (first_run_id and info.first_run_id not in ("", first_run_id)):
                return
            there = conductor.look([beat for _, beat in beats_of(found)], time.monotonic())
            told = {who: astuple(share) for who, share in there.items()}
            setting = conductor.setting
            if not coming or [*told] != who_was_told:
                activity.heartbeat({"shares": told, "limit": setting.limit, "reason": setting.reason})
                who_was_told = [*told]
        await asyncio.sleep(SOON if coming else INTERVAL)


async def described(client: Client, workflow_id: str) -> DescribeWorkflowExecutionResponse:
    """Return a workflow with its pending activities.

    Raises
    ------
    RPCError
        If the server does not answer now, or does not know it: see `forgotten`.
    """
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    return await client.workflow_service.describe_workflow_execution(request)


def forgotten(error: RPCError) -> bool:
    """Tell whether a server knows a workflow no more.

    One that its store refuses says NOT_FOUND too, but of the namespace: that passes.
    """
    return error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower()


async def describe(client: Client, workflow_id: str) -> DescribeWorkflowExecutionResponse | None:
    """Return a workflow with its pending activities; None when the server does not tell it now."""
    try:
        return await described(client, workflow_id)
    except RPCError:
        return None


def details(pending: PendingActivityInfo) -> list[Any]:
    """Return what an activity said in its last heartbeat."""
    from temporalio.converter import DataConverter

    said = pending.heartbeat_details.payloads
    return DataConverter.default.payload_converter.from_payloads(said) if said else []


def beats_of(found: DescribeWorkflowExecutionResponse) -> list[tuple[str, Beat]]:
    """Return (activity id, newest heartbeat) of the ranges under way."""
    started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    under_way = [one for one in found.pending_activities if one.state == started]
    said = [(one.activity_id, details(one)) for one in under_way]
    beats = [(name, _beat(values[0])) for name, values in said if values]
    return [(name, beat) for name, beat in beats if beat is not None]


def _beat(value: Any) -> Beat | None:
    """Return what a launcher said; None where it is of a version that says something else."""
    try:
        return Beat(**files.fields(value, BEAT))
    except files.UnreadableError:
        return None


async def told_shares(client: Client, conductor: str) -> dict[str, Share] | None:
    """Return the shares a conductor has given out last; None when it cannot be asked or has said nothing yet."""
    found = await describe(client, conductor)
    for one in found.pending_activities if found else ():
        if values := details(one):
            try:
                return {who: Share(*share) for who, share in values[0]["shares"].items()}
            except (TypeError, KeyError, AttributeError):  # a conductor of another version
                return None
    return None
