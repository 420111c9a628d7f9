"""One daemon thread with one event loop for every batch of a notebook.

A button's callback runs on the kernel's loop, or on another thread with its own, depending on the ipykernel; and a
blocking cell would stop the batch. On its own loop it runs the same everywhere and survives a page reload.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def loop() -> asyncio.AbstractEventLoop:
    """The loop of the batches; its thread is started at the first call."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="capacity-batches", daemon=True).start()
        return _loop


def submit(coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Run a coroutine on the loop of the batches; the future may be awaited or asked from any thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop())
