"""The launch panel of one batch, for a cell that knows what it wants; `launch_entry` has the one to fill in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

from capacity.notebook.launch_panel import Panel
from capacity.notebook.launch_request import Request

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.launcher.batch import Batch
    from capacity.observe.run import Run


class Launch(Panel):
    """A panel that launches one batch and shows what becomes of it.

    Parameters
    ----------
    batch : Batch
        What to start, such as ``HeightRange(count=500)``.
    target : Target, optional
        Where, such as ``dev_server()``; by default what Temporal's environment configuration says.
    parallelism : int or str, optional
        Starts in flight, as `capacity.observe.session.launch` takes it.
    rate : float, optional
        Starts due per second instead [1/s].
    with_worker : bool
        Also run a worker process and wait for the workflows to complete.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    launch : callable, optional
        Stands in for `capacity.observe.session.launch`, with the same signature.
    figure : bool
        With a live figure; have one in a notebook.

    Examples
    --------
    >>> from capacity import HeightRange
    >>> from capacity.cluster.target import Target
    >>> Launch(HeightRange(count=500), Target("127.0.0.1:7233")).state
    'idle'
    """

    def __init__(
        self,
        batch: Batch,
        target: Target | None = None,
        *,
        parallelism: int | str | None = None,
        rate: float | None = None,
        with_worker: bool = False,
        allowed: Collection[str] = (),
        launch: Callable[..., Awaitable[Run]] | None = None,
        figure: bool = False,
    ) -> None:
        if target is None:
            from capacity.cluster.profile import load_target

            target = load_target()
        super().__init__(launch=launch, figure=figure)
        self.prepare(Request(batch, target, parallelism, rate, with_worker, tuple(allowed)))
