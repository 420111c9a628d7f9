"""The override that an operator sets in the environment, and the names that merely look like it.

The original's document says SCHEDULER_MAX_PARALLELISM; its code read SCHEDULER_BATCH_MAX_PARALLELISM, so the
documented rollback did nothing. Here the documented name is read, and a look-alike is named in a warning.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from capacity.errors import UsageError

VARIABLE = "SCHEDULER_MAX_PARALLELISM"
_LOOKS_LIKE_IT = 0.8  # SCHEDULER_BATCH_MAX_PARALLELISM has 0.89, SCHEDULER_MAX_WORKERS 0.65


@dataclass(frozen=True)
class EnvironmentOverride:
    """What the environment says about parallelism.

    Parameters
    ----------
    value : int or None
        Starts in flight that SCHEDULER_MAX_PARALLELISM asks for; None when it is unset or empty.
    warnings : tuple of str
        One sentence for each variable that is set, looks like it and is not read.
    """

    value: int | None
    warnings: tuple[str, ...] = ()


def environment_override(environment: Mapping[str, str] | None = None) -> EnvironmentOverride:
    """Read SCHEDULER_MAX_PARALLELISM now, and name what was perhaps meant to be it.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Variables; by default those of this process at the time of the call.

    Returns
    -------
    EnvironmentOverride
        The override (0 is kept: it says "no override") and the warnings.

    Raises
    ------
    UsageError
        The variable holds anything but a whole number of at least 0.

    Examples
    --------
    >>> environment_override({"SCHEDULER_MAX_PARALLELISM": "64"})
    EnvironmentOverride(value=64, warnings=())
    >>> environment_override({"SCHEDULER_BATCH_MAX_PARALLELISM": "64"}).value is None
    True
    """
    environment = os.environ if environment is None else environment
    text = environment.get(VARIABLE, "").strip()
    if text and not re.fullmatch(r"\+?[0-9]{1,9}", text, re.ASCII):
        raise UsageError(
            f"{VARIABLE} is {_shortened(text)!r}",
            allowed="a whole number from 0 (no override) to 999999999",
            next_step="correct or unset it",
        )
    return EnvironmentOverride(int(text) if text else None, lookalikes(environment))


def lookalikes(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return one sentence for each variable that is set, looks like the override and is not read.

    >>> lookalikes({"SCHEDULER_BATCH_MAX_PARALLELISM": "64"})[0].partition(",")[0]
    'SCHEDULER_BATCH_MAX_PARALLELISM is set'
    """
    environment = os.environ if environment is None else environment
    folded: dict[str, list[str]] = {}
    for name in environment:
        if name != VARIABLE:
            folded.setdefault(name.upper(), []).append(name)
    near = difflib.get_close_matches(VARIABLE, folded, n=max(len(folded), 1), cutoff=_LOOKS_LIKE_IT)
    names = sorted(name for match in near for name in folded[match])
    return tuple(f"{name} is set, but only {VARIABLE} is read: it changes nothing here" for name in names)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
