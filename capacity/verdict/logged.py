"""What a scheduler's own log says it has in flight: the proof that a rollback took effect, wherever it runs.

The original logs ``parallelism`` with each batch, cut to the batch's own size: a batch of 64 or fewer cannot tell a
pool of 64 from one of 128. Such a line counts only where its number already exceeds the wanted one.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

from capacity.errors import CapacityError, UsageError

LONGEST_LINE: Final = 1 << 24
_FREE: Final = re.compile(r'"asked"\s*:\s*"(auto:|[^"]* starts/s due)')
"""What a launch's record says after its parallelism where it was on auto or at a rate."""
_FIELD: Final = re.compile(r"\b(parallelism|scheduled|failed)[\"']?\s*[:=]\s*[\"']?([0-9]{1,9})\b")


@dataclass(frozen=True)
class Logged:
    """What a log says, against what it should.

    Parameters
    ----------
    source : str
        The file, or standard input.
    parallelism : int
        Starts in flight by the last line that tells.
    line : int
        Its number in the log, from 1.
    wanted : int
        What it should be.
    number_set : bool
        Whether it was set; auto and a rate have one at their end that nobody chose.
    """

    source: str
    parallelism: int
    line: int
    wanted: int
    number_set: bool = True

    @property
    def honoured(self) -> bool:
        """Whether it was set to the wanted number."""
        return self.number_set and self.parallelism == self.wanted

    def sentence(self) -> str:
        """Return it in words."""
        reason = "the setting did not reach it" if self.number_set else "no number was set"
        verdict = "as wanted" if self.honoured else f"NOT the {self.wanted:,} wanted: {reason}"
        return f"log {self.source}, line {self.line:,}: it has {self.parallelism:,} in flight: {verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "honoured": self.honoured, "sentence": self.sentence()}


def logged(lines: Iterable[str], wanted: int, source: str = "-") -> Logged:
    """Return what the last line that tells has for ``parallelism``, in JSON, logfmt or the like.

    Raises
    ------
    CapacityError
        If no line tells.

    Examples
    --------
    >>> logged(['msg="Batch workflow scheduling completed" scheduled=1000 failed=0 parallelism=64'], 64).honoured
    True
    """
    found, taken = None, False
    for number, line in enumerate(lines, 1):
        fields = {name: int(value) for name, value in _FIELD.findall(line)}
        value = fields.get("parallelism")
        if value is not None:
            whole = "scheduled" not in fields or fields["scheduled"] + fields.get("failed", 0) > value
            taken = whole or value > wanted
            if taken:
                found = Logged(source, value, number, wanted)
        if found is not None and taken and _FREE.search(line):
            found = replace(found, number_set=False)
    if found is None:
        raise CapacityError(
            f"log {source}: no line tells how many are in flight",
            allowed="lines with parallelism=N, of batches larger than that",
            next_step="take a log that has a batch since the restart",
        )
    return found


def read_log(path: Path, wanted: int) -> Logged:
    """Read a log; ``-`` is standard input.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    if str(path) == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        return logged(_lines(sys.stdin), wanted, "on standard input")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return logged(_lines(file), wanted, str(path))
    except (OSError, ValueError) as error:  # a NUL in its name
        reason = getattr(error, "strerror", None) or "no file can have that name"
        raise UsageError(f"log {path}: {reason}", next_step="pass a file, or - for standard input") from error


def _lines(file: TextIO) -> Iterator[str]:
    """Yield a log's lines; one without an end is none."""
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise UsageError(f"a line of the log has more than {LONGEST_LINE:,} characters: it is no log")
        yield line
