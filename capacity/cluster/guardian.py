"""Servers that end with this process, even with one that is killed: a guardian ends them once this one is gone.

Invariant: the guardian reads a pipe whose other end only this process holds, which not even a kill leaves open; what
has ended in good order by then, it finds gone and leaves alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from capacity.cluster import processes, stack
from capacity.cluster.devserver import DevServer
from capacity.cluster.state import ClusterState
from capacity.errors import CapacityError


class Guardian:
    """A process that ends what it was told of when this one has ended, or closes it.

    It has a session of its own: no interrupt and no end of a terminal reaches it.
    """

    def __init__(self) -> None:
        quiet = subprocess.DEVNULL
        command = [sys.executable, "-m", "capacity.cluster.guardian"]
        self._process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def watch_server(self, server: DevServer) -> None:
        """Note a dev server."""
        self._note("end", server.pid, server.started_at, "SIGTERM", 15.0)

    def watch_stack(self, cluster: ClusterState) -> None:
        """Note the components of a PostgreSQL stack."""
        for each in cluster.components:
            self._note("end", each.pid, each.created, each.stop_signal, stack.grace_of(each))

    def watch_data(self, folder: Path) -> None:
        """Note a data folder to be dropped, before there is one: making it takes seconds, in which a kill may come."""
        self._note("drop", str(folder))

    def watch_folder(self, folder: Path) -> None:
        """Note a folder of our own to be deleted."""
        self._note("delete", str(folder.absolute()))

    def close(self) -> None:
        """End the guardian, and what it was told of and has not ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _note(self, *words: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a guardian that was killed guards nothing, and is no reason to end
            self._process.stdin.write(json.dumps(words).encode() + b"\n")


def main() -> None:
    """Read until whoever started this is gone; then end what was noted, last noted first, and delete what it kept."""
    notes = [json.loads(line) for line in sys.stdin.buffer.read().splitlines()]
    for what, *words in reversed(notes):
        if what == "end":
            pid, born, by, grace = words
            with contextlib.suppress(CapacityError):
                processes.stop(pid, born, by=signal.Signals[by], grace=grace)
    for what, *words in reversed(notes):
        if what == "drop":
            _drop(Path(words[0]))
        elif what == "delete":
            shutil.rmtree(words[0], ignore_errors=True)


def _drop(folder: Path, attempts: int = 30) -> None:
    """Drop a data folder; what a killed command was making it with may write on for a moment."""
    for _ in range(attempts):
        with contextlib.suppress(CapacityError):
            stack.drop(folder)
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main()
