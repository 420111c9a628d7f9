"""One batch by many launchers: processes of this machine, or workers on any number of machines.

Nothing is imported here: the names below are for whoever names a fleet without having one at hand, and Temporal's
sandbox imports this package again for every run of its workflows.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

TASK_QUEUE = "capacity-fleet"
"""Of a fleet that was given no other."""
MOST_PROCESSES = 64
"""Launcher processes at most on one machine."""


@dataclass(frozen=True)
class Fleet:
    """Which fleet: its task queue, and the namespace of its own workflows where that is not the batch's."""

    task_queue: str = TASK_QUEUE
    namespace: str | None = None

    def namespace_for(self, batch: str) -> str:
        """Return the namespace of its own workflows, given that of a batch's starts."""
        return self.namespace or batch

    def worker_command(self, address: str, namespace: str = "default") -> str:
        """Return the command that starts a launcher for its batches; keys and certificates are left to the profile.

        >>> Fleet("night").worker_command("127.0.0.1:7233")
        'capacity fleet worker --address 127.0.0.1:7233 --fleet-queue night'
        """
        options = (
            ("--namespace", namespace, "default"),
            ("--fleet-queue", self.task_queue, TASK_QUEUE),
            ("--fleet-namespace", self.namespace, None),
        )
        words = [f"{name} {shlex.quote(str(value))}" for name, value, usual in options if value != usual]
        return " ".join(["capacity fleet worker --address", address, *words])
