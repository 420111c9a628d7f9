"""Work of a panel that blocks: one at a time, on a thread of its own, which ends with the kernel.

The thread is not the kernel's, so that a cell, a button and a page reload leave it alone; and not the loop of the
batches, which must not be held up.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from capacity.errors import UsageError
from capacity.notebook.clicked import Clicked
from capacity.notebook.loop import Painter

Result = TypeVar("Result")

_TICK = 0.5  # seconds between two paintings of the time left
_END = 20.0  # seconds for the work to end its cluster when the kernel ends


class Work(Generic[Result]):
    """One piece of work at a time, to be awaited from a cell.

    Parameters
    ----------
    name : str
        What it is, such as "sweep".
    nothing : UsageError
        What `wait` raises before any was begun.
    cancelled : UsageError
        What `wait` raises where it was stopped with nothing to show; a KeyboardInterrupt would end the kernel's loop.
    defect : callable
        Shows what went wrong while something else was shown.
    """

    def __init__(
        self, name: str, nothing: UsageError, cancelled: UsageError, defect: Callable[[Exception], None]
    ) -> None:
        self._name, self._cancelled, self._defect = name, cancelled, defect
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._clicked: Clicked[Result] = Clicked(nothing)

    def begin(
        self,
        work: Callable[[Callable[[], bool]], Result],
        *,
        tick: Callable[[], None] = lambda: None,
        ended: Callable[[BaseException | None], None] = lambda _: None,
    ) -> None:
        """Do a piece of work; the one before must have ended.

        Parameters
        ----------
        work : callable
            Is told how to ask whether to stop.
        tick : callable
            Called twice a second meanwhile.
        ended : callable
            Called with what it raised, or None, before `wait` returns.
        """
        self._stop = threading.Event()
        future: Future[Result] = Future()
        self._clicked.began(future)
        arguments = (work, tick, ended, self._stop, future)
        self._thread = threading.Thread(target=self._run, args=arguments, name=f"capacity-{self._name}", daemon=True)
        atexit.register(self._end)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end."""
        self._stop.set()

    def refuse(self, error: UsageError) -> None:
        """Say why a click began nothing; `wait` raises it. The work before must have ended."""
        self._clicked.refused(error)

    async def wait(self, interrupted: Callable[[], None]) -> Result:
        """Await its end, as `Clicked.wait`."""
        return await self._clicked.wait(interrupted)

    def _run(
        self,
        work: Callable[[Callable[[], bool]], Result],
        tick: Callable[[], None],
        ended: Callable[[BaseException | None], None],
        stop: threading.Event,
        future: Future[Result],
    ) -> None:
        painter = Painter(tick, _TICK, self._defect)
        failed: BaseException | None = None
        result: list[Result] = []
        try:
            result.append(work(stop.is_set))
        except BaseException as error:
            failed = error
        painter.stop()
        atexit.unregister(self._end)
        try:
            ended(failed)
        except Exception as error:  # a defect must not leave a cell waiting
            failed = failed or error
            self._defect(error)
        if failed is None:
            future.set_result(result[0])
        else:
            future.set_exception(self._cancelled if isinstance(failed, KeyboardInterrupt) else failed)

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_END)
