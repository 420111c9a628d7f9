"""What a cell awaits after a click: what the click began, or why it began nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from capacity.errors import UsageError

Result = TypeVar("Result")


class Clicked(Generic[Result]):
    """The last click of a panel: a cell never gets what an earlier one began.

    Parameters
    ----------
    nothing : UsageError
        What `wait` raises before any click.
    """

    def __init__(self, nothing: UsageError) -> None:
        self._nothing = nothing
        self._future: Future[Result] | None = None

    @property
    def running(self) -> bool:
        """Whether what was begun has not ended."""
        return self._future is not None and not self._future.done()

    def began(self, future: Future[Result]) -> None:
        """Take what a click began."""
        self._future = future

    def refused(self, error: UsageError) -> None:
        """Take why a click began nothing; what still runs must have ended."""
        self._future = Future()
        self._future.set_exception(error)

    async def wait(self, interrupted: Callable[[], None]) -> Result:
        """Await its end; raises why it was refused, or what it raised.

        Parameters
        ----------
        interrupted : callable
            Called when the cell that waits is interrupted.
        """
        if self._future is None:
            raise self._nothing
        try:
            return await asyncio.shield(asyncio.wrap_future(self._future))
        except asyncio.CancelledError:
            interrupted()
            raise
