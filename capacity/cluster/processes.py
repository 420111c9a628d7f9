"""Long-lived child processes: started apart from the terminal, known by pid and start time, ended by pid."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from capacity.errors import ClusterError, UsageError

_LAST: Final = 100_000
"""Bytes of a log in which its last words are looked for."""
# A child meant to outlive its caller is neither waited for nor reported as forgotten; stop() reaps it.
_children: dict[int, subprocess.Popen[bytes]] = {}


def launch(
    arguments: Sequence[str],
    log: Path,
    *,
    cpus: Collection[int] | None = None,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, float]:
    """Start a process in its own session, its output appended to `log`.

    Parameters
    ----------
    arguments : sequence of str
        Program and arguments.
    log : Path
        File that takes both output streams.
    cpus : collection of int, optional
        CPUs it may run on; None is any.
    user : str, optional
        User to run it as; needs root.
    environment : Mapping[str, str], optional
        Variables to add.

    Returns
    -------
    tuple of (int, float)
        Process id and start time [s since boot].
    """
    try:
        with log.open("ab") as output, _pinned(cpus):
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                user=user,
                group=_group(user),
                extra_groups=[] if user else None,
                env=_surroundings(environment),
            )
    except OSError as error:
        raise ClusterError(f"cannot start {arguments[0]}: {error.strerror} ({error.filename})") from error
    _children[child.pid] = child
    return child.pid, created(child.pid)


def run(
    arguments: Sequence[str],
    log: Path,
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a short-lived tool to its end and return its output, which is appended to `log` too.

    Raises
    ------
    ClusterError
        If it is missing or fails; with its last words and the log.
    """
    name = Path(arguments[0]).name
    try:
        done = subprocess.run(
            [*with_parent_death_signal(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=user,
            group=_group(user),
            extra_groups=[] if user else None,
            env=_surroundings(environment),
            check=False,
        )
        with log.open("ab") as output:
            output.write(done.stdout)
    except OSError as error:
        raise ClusterError(f"cannot run {name}: {error.strerror} ({error.filename})") from error
    if done.returncode != 0:
        raise ClusterError(
            f"{name} failed with code {done.returncode}: {last_line(log)}", next_step=f"its log is {log}"
        )
    return done.stdout.decode("utf-8", "replace")


def program(name: str, path: str | None = None) -> str | None:
    """Where a program is, on `path` or on PATH; an entry there may be relative, and what is started begins in /."""
    found = shutil.which(name, path=path)
    return str(Path(found).absolute()) if found else None


def with_parent_death_signal() -> list[str]:
    """Prefix that ends a short-lived tool with its caller, even a killed one; empty where there is none."""
    setpriv = program("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def created(pid: int) -> float:
    """When the process began [s since the machine did]; nan if it is gone."""
    try:
        return _since_boot(psutil.Process(pid))
    except (psutil.Error, ValueError):  # below 0 none is
        return float("nan")


def alive(pid: int, born: float) -> bool:
    """Whether the process that began at `born` still runs; a recycled pid or a zombie does not count."""
    try:
        process = psutil.Process(pid)
        same = abs(_since_boot(process) - born) < 2.0  # the clock may be adjusted between two looks at it
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def boot() -> str:
    """What the kernel calls this run of the machine; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _since_boot(process: psutil.Process) -> float:
    # Linux knows when a process began by ticks since boot; as a time of day it moves with each step of the clock.
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)


def stop(pid: int, born: float, *, by: signal.Signals = signal.SIGTERM, grace: float = 15.0) -> None:
    """End that very process: a signal, after `grace` [s] SIGKILL; a process that is gone or another is left alone.

    Raises
    ------
    ClusterError
        If it is not ours to end, or survives.
    """
    for number, patience in ((by, grace), (signal.SIGKILL, 5.0)):
        if not alive(pid, born):
            break
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        except PermissionError as error:
            raise ClusterError(
                f"process {pid} belongs to another user", next_step="stop it as the user who started it"
            ) from error
        deadline = time.monotonic() + patience
        while alive(pid, born) and time.monotonic() < deadline:
            time.sleep(0.02)
    if alive(pid, born):
        raise ClusterError(f"process {pid} did not end", next_step=f"look at it with 'ps -fp {pid}'")
    child = _children.pop(pid, None)
    if child is not None:
        child.wait()


def begin_log(log: Path) -> None:
    """Begin an empty log; what an earlier process wrote, which may say why it ended, is kept beside it as NAME.1.

    Raises
    ------
    UsageError
        If the disk refuses.
    """
    try:
        if log.is_file() and log.stat().st_size:
            log.replace(earlier(log))
        log.write_bytes(b"")
    except OSError as error:
        raise UsageError(f"log {log}: {error.strerror}", next_step="name a writable file") from error


def earlier(log: Path) -> Path:
    """Where `begin_log` keeps what an earlier process wrote."""
    return log.with_name(f"{log.name}.1")


def last_line(log: Path) -> str:
    """The last line of a log that says something; of a JSON line only its message and error, of a fatal one first."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LAST, 0))
            lines = file.read(_LAST).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return "nothing logged"
    said = [line.strip() for line in lines if line.strip()]
    fatal = [line for line in said if '"level":"fatal"' in line or "FATAL:" in line or "PANIC:" in line]
    return _readable([*said, *fatal][-1])[:500] if said else "nothing logged"


def _readable(line: str) -> str:
    for severity in ("FATAL:", "PANIC:"):
        if severity in line:
            return line[line.index(severity) :]
    try:
        entry = json.loads(line)
        return ": ".join(str(entry[key]).strip() for key in ("msg", "error") if entry.get(key)) or line
    except (ValueError, TypeError, AttributeError, RecursionError):
        return line


def _surroundings(added: Mapping[str, str] | None) -> dict[str, str]:
    """This process's variables without those that would steer a Temporal program elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TEMPORAL_", "PG"))}
    return {**kept, **(added or {})}


def _group(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


@contextmanager
def _pinned(cpus: Collection[int] | None) -> Iterator[None]:
    """Hold this thread to `cpus` while it starts a child: the child inherits it from its first instruction on."""
    if cpus is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError(f"cpus is {sorted(cpus)}", allowed="None: this system cannot pin processes to CPUs")
    before = os.sched_getaffinity(0)
    if not cpus or not set(cpus) <= before:
        raise UsageError(f"cpus is {sorted(cpus)}", allowed=f"one or more of {sorted(before)}")
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
