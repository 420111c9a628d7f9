"""One daemon thread with one event loop for every batch of a notebook, and threads that paint beside it.

A button's callback runs on the kernel's loop, or on another thread with its own, depending on the ipykernel; and a
blocking cell would stop the batch. On its own loop it runs the same everywhere and survives a page reload. What is
slow to paint is painted on a thread of its own: on the loop it would be measured as latency of the starts.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_PATIENCE = 3.0  # seconds for what still runs when the kernel ends; Jupyter kills it after five
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def loop() -> asyncio.AbstractEventLoop:
    """The loop of the batches; its thread is started at the first call."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_loop.run_forever, name="capacity-batches", daemon=True)
            thread.start()
            atexit.register(_end, _loop, thread)
        return _loop


def submit(coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Run a coroutine on the loop of the batches; the future may be awaited or asked from any thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop())


def _end(running: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Cancel what runs, so that worker processes and journals are let go of, then end the thread."""

    async def cancel_all() -> None:
        tasks = asyncio.all_tasks(running) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_PATIENCE) if tasks else None

    with contextlib.suppress(Exception):
        asyncio.run_coroutine_threadsafe(cancel_all(), running).result(_PATIENCE + 1.0)
    running.call_soon_threadsafe(running.stop)
    thread.join(1.0)


class Painter:
    """Calls something again and again on a thread of its own, until it is stopped, and a last time then.

    Parameters
    ----------
    paint : callable
        What to call; it is never called twice at once.
    interval : float
        Between two calls [s].
    defect : callable
        Told of the first exception that `paint` raised, which is called again all the same.
    """

    def __init__(self, paint: Callable[[], None], interval: float, defect: Callable[[Exception], None]) -> None:
        self._paint, self._interval, self._defect = paint, interval, defect
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capacity-paint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return once it does not paint any more."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        told = stopped = False
        while not stopped:
            stopped = self._stopping.wait(self._interval)
            try:
                self._paint()
            except Exception as error:  # what it shows next must not stay as it is for that
                if not told:
                    told = True
                    self._defect(error)
