"""What a launch panel is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.launcher.batch import Batch


@dataclass(frozen=True)
class Request:
    """What a click on Launch starts, and how."""

    batch: Batch
    target: Target
    parallelism: int | str | None = None
    rate: float | None = None
    with_worker: bool = False
    allowed: tuple[str, ...] = ()
    processes: int = 1
    fleet: bool = False
