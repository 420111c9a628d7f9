"""From what the user asked for to the controller that does it."""

from __future__ import annotations

from typing import Any, Final

from capacity import files
from capacity.errors import UsageError
from capacity.launcher.controller import Controller, Fixed, OpenLoop
from capacity.launcher.knee import Auto
from capacity.rules import environment_override, parallelism, pool_plan
from capacity.rules.flight import AUTO, flight_of, is_auto

MOST_IN_FLIGHT: Final = 1_000_000
ALLOWED = "a number like 128, CPUs times a multiplier like 4x, or auto"


def controller_for(
    wanted: int | str | None = None, *, rate: float | None = None, max_in_flight: int = 512
) -> tuple[Controller, str]:
    """Return the controller for a parallelism and why it is the one.

    Parameters
    ----------
    wanted : int or str, optional
        Starts in flight: a number (cut to 512), ``"4x"`` (the original's rule on this machine's CPUs) or ``"auto"``.
        None is ``SCHEDULER_MAX_PARALLELISM`` where that is set, else ``"auto"``.
    rate : float, optional
        Starts due per second, whether or not the answers keep up [1/s].
    max_in_flight : int
        Bound of what ``auto`` and `rate` may have in flight.

    Examples
    --------
    >>> controller_for(128)[1]
    '128 in flight: parallelism 128'
    """
    if not 1 <= max_in_flight <= MOST_IN_FLIGHT:
        raise UsageError(f"max-in-flight is {files.shown(max_in_flight)}", allowed=f"1 to {MOST_IN_FLIGHT:,}")
    if rate is not None:
        if wanted is not None:
            raise UsageError("rate and parallelism exclude each other", next_step="leave one of them out")
        if not 0 < rate <= 1e6:
            raise UsageError(f"rate is {files.shown(rate)}", allowed="above 0, up to 1,000,000 starts/s")
        return OpenLoop(rate, max_in_flight), f"{rate:g} starts/s due, at most {max_in_flight} in flight"
    if isinstance(wanted, int) and not 0 < wanted < 10**9:
        raise UsageError(f"parallelism is {files.shown(wanted)}", allowed=ALLOWED)
    text = "" if wanted is None else str(wanted)
    if not text.strip():
        override = environment_override().value
        if override:
            sized = parallelism(1, override, override_name="SCHEDULER_MAX_PARALLELISM")
            return Fixed(sized.value), f"{sized.value} in flight: {sized.reason}"
        text = AUTO
    if is_auto(text):
        return Auto(max_in_flight), f"auto: finds the knee, at most {max_in_flight} in flight"
    flight = flight_of(text, "parallelism", ALLOWED)
    if flight.multiplier is not None:
        sized = pool_plan(multiplier=flight.multiplier).parallelism  # SCHEDULER_MAX_PARALLELISM wins over it
    else:
        sized = flight.on(1, "parallelism")
    return Fixed(sized.value), f"{sized.value} in flight: {sized.reason}"


def settled(controller: Controller) -> dict[str, Any]:
    """Return what `controller_for` makes this controller of on any machine, whatever its CPUs and environment.

    >>> settled(Fixed(16))
    {'parallelism': 16, 'rate': None, 'max_in_flight': 16}
    """
    rate = controller.rate if isinstance(controller, OpenLoop) else None
    fixed = controller.limit if isinstance(controller, Fixed) else "auto"
    return {"parallelism": fixed if rate is None else None, "rate": rate, "max_in_flight": controller.maximum}
