"""`capacity plan --fleet`: a batch by many launcher processes, simulated and printed."""

from __future__ import annotations

from capacity.cli.printing import print_columns, print_notes, wrapped
from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.fleet import FleetOutlook, fleet_outlook
from capacity.model.fleet_text import title
from capacity.rules.flight import flight_of, is_auto


def fleet_of(
    count: int,
    processes: int,
    on: tuple[Cluster, Calibration],
    parallelism: str | None,
    rate: float | None,
    lose_every: float | None,
) -> FleetOutlook:
    """Simulate what was asked for on the command line."""
    return fleet_outlook(count, processes, *on, parallelism=_flight(parallelism), rate=rate, lose_every=lose_every)


def print_fleet(found: FleetOutlook) -> None:
    """Print the screen."""
    print("\n".join(wrapped(title(found))))
    print_columns(found.rows(), left=(0, 2))
    print()
    print_notes(found.sentences())


def _flight(typed: str | None) -> int | None:
    if typed is None or is_auto(typed):
        return None
    allowed = "auto, or a whole number from 1 on"
    flight = flight_of(typed, "--parallelism", allowed)
    if flight.number is None:
        raise UsageError(f"--parallelism is {typed!r}", allowed=allowed)
    return flight.number
