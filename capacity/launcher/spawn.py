"""Processes of this package: started fresh, never forked, for neither gRPC nor the SDK's runtime survives a fork.

Invariant: such a process ends with its standard input, so that it never outlives whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Collection

from capacity.launcher.tasks import end_tasks

LINE = 1 << 24
"""Longest line of a process's output [bytes]."""


class Spawned:
    """A running ``python -m MODULE`` with pipes to it.

    Attributes
    ----------
    process : asyncio.subprocess.Process
    stdin, stdout
        Its pipes; of its standard error only the last line is kept.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout
        self._last_line = ""
        self._errors = asyncio.create_task(self._read(process.stderr))

    @classmethod
    async def start(cls, module: str, *, pass_fds: Collection[int] = ()) -> Spawned:
        """Start a module of this package."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is the parent's to handle
                pass_fds=tuple(pass_fds),
                limit=LINE,
            )
        )

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self._last_line = line.decode(errors="replace").strip() or self._last_line

    async def end(self, patience: float) -> None:
        """Close its standard input and wait for its end; kill it after so many seconds, or when cancelled."""
        self.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), patience)
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            await asyncio.wait([self._errors], timeout=1)  # what it said last is still on its way
            await end_tasks(self._errors)

    @property
    def last_words(self) -> str:
        """Why it ended: the last line of its standard error, else its signal or exit code."""
        code = self.process.returncode or 0
        return self._last_line or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
