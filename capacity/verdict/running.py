"""What a running process has in flight: by the environment and command line it was started with, and by its metrics.

Of a foreign process we know only what the rules would give it; whether its code follows them only its log tells.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from capacity.errors import CapacityError, UsageError
from capacity.observe.pages import Site
from capacity.rules.cpus import available_cpus
from capacity.rules.environment import VARIABLE, environment_override
from capacity.rules.plan import pool_plan
from capacity.rules.pool import DEFAULT_RULES, Sized, parallelism

PROC: Final = Path("/proc")
SETTLES: Final = 0.5
"""Seconds after which a process without arguments is none that was started."""
_LOOK: Final = "see 'pgrep -a scheduler'"


@dataclass(frozen=True)
class Honoured:
    """What a running process uses, against what it should.

    Parameters
    ----------
    pid : int
    variable : str or None
        What SCHEDULER_MAX_PARALLELISM holds there; None when it is not set.
    cpus : int
        CPUs that process may use.
    parallelism : Sized or None
        What it would have in flight; None for ``auto`` and a rate, which have no set number.
    wanted : int
        What it should have.
    warnings : tuple of str
        Variables there that look like the override and are not read.
    ours : bool
        Whether it is a ``capacity launch``.
    served : int, optional
        What its own metrics page says it has at most (``--metrics-port``).
    """

    pid: int
    variable: str | None
    cpus: int
    parallelism: Sized | None
    wanted: int
    warnings: tuple[str, ...]
    ours: bool = False
    served: int | None = None
    rate: str | None = None
    """Starts due per second, where that is what it was asked for; it has no number then."""

    @property
    def honoured(self) -> bool:
        """Whether it was set to the wanted number: by what it serves where it does, else by the rules."""
        if self.parallelism is None:  # one that happens to have it has another a moment later
            return False
        return (self.parallelism.value if self.served is None else self.served) == self.wanted

    def sentence(self) -> str:
        """Return it in words."""
        number = "auto: it finds a number by itself"
        if self.rate is not None:
            number = f"no set number: {self.rate} starts/s are due"
        uses = str(self.parallelism) if self.parallelism is not None else number
        variable = f"{VARIABLE}={self.variable}" if self.variable is not None else f"{VARIABLE} is not set"
        served = f"; its metrics say {self.served:,}" if self.served is not None else ""
        reason = "no number was set" if self.parallelism is None else "it was started before, or elsewhere"
        verdict = f"NOT the {self.wanted:,} wanted: {reason}"
        if self.honoured:
            verdict = "as wanted" if self.ours else "as wanted, if its code follows them: its log tells (--log FILE)"
        return f"process {self.pid}: {variable}; by the rules it has in flight {uses}{served}: {verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "pid": self.pid,
            "variable": self.variable,
            "cpus": self.cpus,
            "parallelism": self.parallelism.value if self.parallelism else None,
            "reason": self.parallelism.reason if self.parallelism else "auto" if self.rate is None else "rate",
            "served": self.served,
            "wanted": self.wanted,
            "honoured": self.honoured,
            "warnings": list(self.warnings),
            "sentence": self.sentence(),
        }


def running(pid: int, wanted: int, cpus: int | None = None) -> Honoured:
    """Read the environment a process was started with, and say what it would use.

    Parameters
    ----------
    pid : int
        A process of this machine, of this user unless root asks.
    wanted : int
        What it should have in flight.
    cpus : int, optional
        CPUs of its machine; by default those its affinity allows, cut by this process's own cgroup quota.

    Raises
    ------
    UsageError
        There is no such process, or this is not Linux.
    CapacityError
        Its environment may not be read.
    """
    environment = read_environment(pid)
    if cpus is None:
        try:
            allowed = len(os.sched_getaffinity(pid))
        except ProcessLookupError:  # it ended since
            raise _no_process(pid) from None
        cpus = available_cpus(affinity=allowed).count
    return honoured(pid, environment, _arguments(pid), wanted, cpus)


def honoured(pid: int, environment: Mapping[str, str], arguments: Sequence[str], wanted: int, cpus: int) -> Honoured:
    """Return what an environment and a command line come to; a number on the command line wins.

    Examples
    --------
    >>> honoured(1, {"SCHEDULER_BATCH_MAX_PARALLELISM": "64"}, ["scheduler"], 64, 32).honoured
    False
    """
    variable = environment.get(VARIABLE)
    try:
        override = environment_override(environment)
    except UsageError as error:
        raise CapacityError(f"process {pid}: {error}") from error
    asked = _option(arguments, "--parallelism")
    rate = _option(arguments, "--rate")
    launches = "launch" in arguments and any("capacity" in word for word in arguments)
    flight: Sized | None
    if asked is not None and re.fullmatch(r"[1-9][0-9]{0,8}", asked, re.ASCII):
        flight = parallelism(cpus, int(asked), override_name="--parallelism")
    elif asked == "auto" or rate is not None or (launches and not asked and not override.value):
        flight = None
    else:
        found = re.fullmatch(r"([1-9][0-9]{0,5})x", asked or "", re.ASCII)
        multiplier = int(found[1]) if found else DEFAULT_RULES.multiplier
        flight = pool_plan(cpus, multiplier=multiplier, environment=environment).parallelism
    port = _option(arguments, "--metrics-port") if launches else None
    serves = served(port) if port else None
    return Honoured(pid, variable, cpus, flight, wanted, override.warnings, launches, serves, rate)


def served(port: str) -> int | None:
    """Return what the metrics page of a launch on this machine says it has in flight at most; None: no answer."""
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
        return None
    try:
        body, size = Site(f"http://127.0.0.1:{port}/metrics", "--metrics-port", timeout=2).get("/metrics")
    except CapacityError:
        return None
    return limit_of(body[:size].decode("utf-8", "replace"))


def limit_of(page: str) -> int | None:
    """Return what a launch's metrics page says it has in flight at most; None where it says nothing.

    >>> limit_of('capacity_limit{run_id="a"} 64.0'), limit_of("capacity_limit 1e999")
    (64, None)
    """
    found = re.search(r"^capacity_limit(?:\{[^}]*\})? ([0-9]{1,9})(?:\.0)?$", page, re.MULTILINE)
    return int(found[1]) if found else None


def read_environment(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; what it changed later does not show there.

    Raises
    ------
    UsageError
        There is no such process, or it has none: it has ended, or belongs to the kernel.
    """
    deadline = time.monotonic() + SETTLES
    while not _arguments(pid):  # for a moment after its begin a process shows neither arguments nor environment
        if time.monotonic() > deadline:
            raise UsageError(f"--pid is {pid}: it has ended, or belongs to the kernel", next_step=_LOOK)
        time.sleep(0.005)
    pairs = (word.partition("=") for word in _read(pid, "environ").split("\0") if "=" in word)
    return {name: value for name, _, value in pairs}


def _arguments(pid: int) -> list[str]:
    return [word for word in _read(pid, "cmdline").split("\0") if word]


def _read(pid: int, name: str) -> str:
    if not PROC.is_dir():
        raise UsageError("--pid needs /proc, which is Linux's", next_step="look at the process's own record instead")
    try:
        return (PROC / str(pid) / name).read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        raise _no_process(pid) from None
    except OSError as error:
        raise CapacityError(
            f"cannot read the environment of process {pid}: {error.strerror}", next_step="ask as its user, or as root"
        ) from error


def _no_process(pid: int) -> UsageError:
    return UsageError(f"--pid is {pid}: no such process", next_step=_LOOK)


def _option(arguments: Sequence[str], name: str) -> str | None:
    value = None
    for i, word in enumerate(arguments):
        if word == name and i + 1 < len(arguments):
            value = arguments[i + 1]
        elif word.startswith(f"{name}="):
            value = word.removeprefix(f"{name}=")
    return value.strip().lower() if value is not None else None
