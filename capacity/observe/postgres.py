"""A PostgreSQL's vitals: what it says of itself in SQL, and the CPU of its processes when it is local.

Connections and CPU are two things: "PostgreSQL at 32 %" can be 95 of 300 connections on a machine at 100 % CPU.
Works on PostgreSQL 14 to 18. One statement a second, so that watching adds one commit a second to what it watches.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final

import psutil

from capacity.errors import UsageError
from capacity.observe.process import CpuMeter, children
from capacity.observe.vitals import (
    FIRST_READING,
    LATE,
    NO_ANSWER,
    NotMeasuredError,
    PostgresVitals,
    Statement,
    connections_full,
)
from capacity.observe.watcher import Reading

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

APPLICATION: Final = "capacity-watch"
STATEMENT_TIMEOUT: Final = 700
"""Milliseconds a statement of the watch may take."""
DEAR_TIMEOUT: Final = 500
"""Milliseconds a reading of what is dear may take: the vitals read before it must still be this second's."""
SELDOM: Final = 10.0
"""Seconds between readings of what is dear to read: statements, and sizes of databases of many files."""
DEAR: Final = 0.05
"""Seconds from which on a reading of the sizes is dear."""
TOP: Final = 5
"""Statements kept."""
HIDDEN: Final = "hidden"

_VITALS: Final = f"""
SELECT
  (SELECT coalesce(json_object_agg(state, n), '{{}}') FROM (
     SELECT coalesce(state, CASE WHEN backend_type IS NULL THEN '{HIDDEN}' ELSE 'starting' END) AS state, count(*) AS n
     FROM pg_stat_activity
     WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL) GROUP BY 1) AS states),
  (SELECT coalesce(json_object_agg(wait, n), '{{}}') FROM (
     SELECT wait_event_type || ': ' || wait_event AS wait, count(*) AS n FROM pg_stat_activity
     WHERE state = 'active' AND wait_event IS NOT NULL AND pid <> pg_backend_pid() GROUP BY 1) AS waits),
  (SELECT sum(xact_commit)::bigint FROM pg_stat_database),
  (SELECT sum(xact_rollback)::bigint FROM pg_stat_database),
  CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint END,
  extract(epoch FROM pg_postmaster_start_time())::float8,
  current_setting('max_connections')::int,
  current_setting('superuser_reserved_connections')::int
    + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0)
"""
_SIZES: Final = """
SELECT datname, pg_database_size(oid) FROM pg_database
WHERE datallowconn AND NOT datistemplate AND has_database_privilege(oid, 'CONNECT')
"""
_STATEMENTS: Final = """
SELECT queryid, sum(calls)::bigint, sum(total_exec_time) / 1000.0
FROM {schema}.pg_stat_statements(false) WHERE queryid IS NOT NULL GROUP BY 1
"""
_TEXTS: Final = """
SELECT DISTINCT ON (queryid) queryid, left(regexp_replace(query, '\\s+', ' ', 'g'), 160)
FROM {schema}.pg_stat_statements WHERE queryid = ANY({unknown})
"""


def checked_dsn(dsn: str) -> str:
    """Return a connection string that can be read; its text is in no error, for it may hold a password.

    Raises
    ------
    UsageError
        If it cannot be read, or psycopg is not installed.
    """
    try:
        import psycopg.conninfo
    except ImportError as error:
        raise UsageError(
            "--postgres is given, but psycopg is not installed", next_step="pip install 'capacity[postgres]'"
        ) from error
    try:
        psycopg.conninfo.conninfo_to_dict(dsn)
    except (psycopg.Error, ValueError):  # half a character
        raise UsageError(
            "--postgres is not a connection string (not shown: it may hold a password)",
            allowed="postgresql://USER@HOST:PORT/DATABASE, or 'host=… port=… user=… passfile=…'",
        ) from None
    return dsn


class PostgresSource:
    """One PostgreSQL.

    Parameters
    ----------
    dsn : str
        Connection string; shown nowhere.
    """

    component = "postgres"

    def __init__(self, dsn: str) -> None:
        with contextlib.suppress(ImportError):
            import psycopg  # noqa: F401 - takes a while: here, not within a launch's first second

        self._dsn = dsn
        self._connection: psycopg.Connection | None = None
        self._before: tuple[float, Any] | None = None
        self._postmaster: int | None = None
        self._meter = CpuMeter(threads=False)
        self._seldom = self._sizes_due = -math.inf
        self._sizes: dict[str, int] | None = None
        self._schema: str | None = None
        self._first_statements: dict[int, tuple[int, float]] | None = None
        self._texts: dict[int, str] = {}
        self._top: tuple[Statement, ...] | None = None
        self._without_statements = "not read yet"

    def read(self) -> Reading:
        try:
            import psycopg
        except ImportError:
            raise NotMeasuredError("psycopg is not installed") from None
        try:
            return self._read()
        except psycopg.errors.QueryCanceled as error:
            raise NotMeasuredError(f"{LATE} {STATEMENT_TIMEOUT / 1e3:g} s") from error
        except psycopg.Error as error:
            self.close()
            raise NotMeasuredError(self._reason(error)) from None  # its own text may quote the connection string

    def close(self) -> None:
        """Close the connection and forget the counters: the next ones may be another server's."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = self._before = self._postmaster = None

    def _reason(self, error: Exception) -> str:
        import psycopg

        said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        telling = [line for line in said if "FATAL:" in line or "failed: " in line]
        last = [*said, *telling][-1]  # libpq follows its reason with advice
        for part in (" failed: ", "FATAL:"):
            last = last.rpartition(part)[2].strip() or last
        secret = psycopg.conninfo.conninfo_to_dict(self._dsn).get("password")
        last = last.replace(str(secret), "***") if secret else last
        # 53300: no connection left; 42501 and class 28: not allowed. It does answer then.
        refused = (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""
        answers = (
            refused == "53300" or refused[:2] in ("28", "42") or connections_full(last) or "authentication" in last
        )
        return last[:200] if answers else f"{NO_ANSWER}: {last[0].lower()}{last[1:200]}"

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            import psycopg

            made = psycopg.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=2,
                application_name=APPLICATION,
                tcp_user_timeout=2000,
                keepalives_idle=2,
                keepalives_interval=1,
                keepalives_count=2,
            )
            self._connection = made
            made.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT}")
            self._postmaster = self._local_postmaster(made)
            self._meter = CpuMeter(threads=False)
            self._seldom = self._sizes_due = -math.inf
        return self._connection

    def _local_postmaster(self, connection: psycopg.Connection) -> int | None:
        """Return the server's first process if our backend is a process of this machine; a container's pid is not."""
        row = connection.execute(
            "SELECT pid, extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        if row is None:
            return None
        with contextlib.suppress(psutil.Error):
            backend = psutil.Process(row[0])
            if "postgres" in backend.name() and abs(backend.create_time() - row[1]) < 2:
                return backend.ppid() or None
        return None

    def _read(self) -> Reading:
        connection = self._connected()
        row = connection.execute(_VITALS).fetchone()
        assert row is not None
        now = time.monotonic()
        states, waits, *counters, started_at, most, reserved = row
        missing: dict[str, str] = {}
        if HIDDEN in states:
            missing["connections"] = missing["waits"] = "of other roles hidden: grant pg_monitor to the watch's role"
        if now >= self._sizes_due:
            self._read_sizes(connection, now)
        if self._sizes is None:
            missing["database_bytes"] = _CANCELED
        if now - self._seldom >= SELDOM and time.monotonic() - now < DEAR:  # not in one second with dear sizes
            self._seldom = now
            self._read_statements(connection)
        if self._top is None:
            missing["statements"] = self._without_statements
        values = self._rates(now, counters, missing) | self._local(missing)
        self._before = (now, counters)
        vitals = PostgresVitals(
            connections=states,
            connections_used=sum(states.values()),
            connections_max=most,
            connections_reserved=reserved,
            waits=waits,
            database_bytes=self._sizes,
            started_at=started_at,
            statements=self._top,
            **values,
        )
        return Reading(vitals, missing)

    def _rates(self, now: float, counters: list[int | None], missing: dict[str, str]) -> dict[str, float | None]:
        values: dict[str, float | None] = {}
        names = ("commits_per_second", "rollbacks_per_second", "wal_bytes_per_second")
        for index, name in enumerate(names):
            counter = counters[index]
            before = self._before[1][index] if self._before is not None else None
            if counter is None:
                missing[name] = "a standby writes none"
            elif before is None or self._before is None:
                missing[name] = FIRST_READING
            elif counter < before:
                missing[name] = "a counter went backwards: statistics were reset"
            else:
                values[name] = (counter - before) / (now - self._before[0])
        return values

    def _local(self, missing: dict[str, str]) -> dict[str, Any]:
        if self._postmaster is None:
            missing["cpus_used"] = "its processes are not on this machine"
            return {}
        backends = children(self._postmaster)
        use = self._meter.read([self._postmaster, *backends], parent=self._postmaster)
        if use.used is None:
            missing["cpus_used"] = FIRST_READING
        return {"cpus_used": use.used, "cpus_waiting": use.waiting, "cpus_allowed": use.allowed}

    def _read_sizes(self, connection: psycopg.Connection, now: float) -> None:
        import psycopg
        from psycopg import sql

        try:
            self._sizes = dict(_dear(connection, sql.SQL(_SIZES)))
        except psycopg.errors.QueryCanceled:
            self._sizes = None
        self._sizes_due = now if time.monotonic() - now < DEAR else now + SELDOM

    def _read_statements(self, connection: psycopg.Connection) -> None:
        import psycopg
        from psycopg import sql

        try:
            if self._schema is None:
                row = connection.execute(
                    "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_stat_statements'"
                ).fetchone()
                if row is None:
                    self._without_statements = "pg_stat_statements is not in the database that the watch connects to"
                    return
                self._schema = str(row[0])
            schema = sql.Identifier(self._schema)
            rows = _dear(connection, sql.SQL(_STATEMENTS).format(schema=schema))
            now = {queryid: (calls, float(seconds)) for queryid, calls, seconds in rows}
            if self._first_statements is None:
                self._first_statements = now
            spent = {queryid: _since(self._first_statements.get(queryid), value) for queryid, value in now.items()}
            longest = sorted((q for q in spent if spent[q][0] > 0), key=lambda q: -spent[q][1])[:TOP]
            if unknown := [queryid for queryid in longest if queryid not in self._texts]:
                asked = sql.SQL(_TEXTS).format(schema=schema, unknown=sql.Literal(unknown))
                self._texts.update(_dear(connection, asked))
            self._top = tuple(
                Statement(query=self._texts.get(queryid, "?"), calls=spent[queryid][0], seconds=spent[queryid][1])
                for queryid in longest
            )
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
            self._without_statements = str(error).strip().splitlines()[0]
        except psycopg.errors.ObjectNotInPrerequisiteState:
            self._without_statements = "pg_stat_statements is not in shared_preload_libraries"
        except psycopg.errors.QueryCanceled:
            self._top, self._without_statements = None, _CANCELED


_CANCELED: Final = f"reading it takes longer than {DEAR_TIMEOUT / 1e3:g} s"


def _dear(connection: psycopg.Connection, query: sql.Composable) -> list[Any]:
    """Return the rows of a query with a time limit of its own, in one round trip and one commit."""
    from psycopg import sql

    cursor = connection.execute(sql.SQL("SET LOCAL statement_timeout = {}; ").format(DEAR_TIMEOUT) + query)
    cursor.nextset()
    return cursor.fetchall()


def _since(before: tuple[int, float] | None, now: tuple[int, float]) -> tuple[int, float]:
    """Return calls and seconds since; after a reset all that there is."""
    if before is None or now[0] < before[0]:
        return now
    return now[0] - before[0], now[1] - before[1]
