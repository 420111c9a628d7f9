"""Every error a user can meet: one line that says what, which value, what is allowed, what to do next."""

from __future__ import annotations


class CapacityError(Exception):
    """An error with one clear line and an exit code; the root of all others.

    Parameters
    ----------
    what : str
        What went wrong, the value included.
    allowed : str, optional
        Which values or states are allowed.
    next_step : str, optional
        What the user can do now.

    Examples
    --------
    >>> str(UsageError("count is 0", allowed="1 or more", next_step="pass --count 1000"))
    'count is 0; allowed: 1 or more; pass --count 1000'
    """

    exit_code = 1

    def __init__(self, what: str, *, allowed: str | None = None, next_step: str | None = None) -> None:
        self.what = what
        self.allowed = allowed
        self.next_step = next_step
        parts = [what, f"allowed: {allowed}" if allowed else None, next_step]
        super().__init__("; ".join(_line(part) for part in parts if part))

    def _render_traceback_(self) -> list[str]:
        """Tell IPython to show the one line and no traceback."""
        return [f"{type(self).__name__}: {self}"]


LONGEST = 1000
"""Characters of each part of an error; a path or a value may have any number."""


def _line(text: str) -> str:
    """Return a text on one line; of a long one the middle is left out, for names come first and reasons last."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 4 :]}"


class UsageError(CapacityError):
    """The request itself is wrong: nothing was started, nothing was changed."""

    exit_code = 2


class GuardRefusalError(UsageError):
    """The target is not a dev target and was not allowed by name."""


class JournalError(UsageError):
    """A journal cannot be used: it belongs to another batch, is damaged, or its disk refuses."""


class ClusterError(CapacityError):
    """A component (server, database, binary, port) is missing, away or not what it should be."""


class RunFailedError(CapacityError):
    """A batch ran and did not end well; its record was kept."""


class InterruptedRunError(CapacityError):
    """The user interrupted a run; what was in flight was drained and noted."""

    exit_code = 130
