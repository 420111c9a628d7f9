"""Reading a PostgreSQL: who may see what, what it spends, and no secret anywhere."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from capacity.cluster import ports
from capacity.cluster.state import ClusterState
from capacity.errors import UsageError
from capacity.observe.postgres import APPLICATION, PostgresSource, checked_dsn
from capacity.observe.sources import Places
from capacity.observe.vitals import NotMeasuredError, PostgresVitals

SECRET = "hunter2-is-secret"


def refusal(dsn: str) -> str:
    with pytest.raises(NotMeasuredError) as refused:
        PostgresSource(dsn).read()
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    return str(refused.value)


def test_nobody_listening_is_no_answer() -> None:
    """A PostgreSQL that is away is "no answer" with the system's reason, and its password is not shown."""
    dsn = f"postgresql://temporal:{SECRET}@127.0.0.1:{ports.free(1)[0]}/postgres"
    assert refusal(dsn).startswith("no answer: connection refused")


@pytest.mark.parametrize("dsn", [f"host=h password {SECRET}", f"postgresql://u:{SECRET}@[h/x", f"pass={SECRET}"])
def test_a_dsn_that_cannot_be_read_is_not_repeated(dsn: str) -> None:
    """A wrong connection string is misuse, refused before anything is dialled and without its text."""
    with pytest.raises(UsageError, match="not shown: it may hold a password") as refused:
        Places(postgres=dsn)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_dsn_is_not_in_what_represents_it() -> None:
    """Neither the places nor the source show the connection string."""
    dsn = f"postgresql://u:{SECRET}@h/x"
    assert checked_dsn(dsn) == dsn
    assert SECRET not in repr(Places(postgres=dsn)) + repr(PostgresSource(dsn))


class Scripted:
    """A connection to a PostgreSQL of which a second is told and some statements take too long."""

    def __init__(self, *too_long: str) -> None:
        self.too_long, self.asked = too_long, Counter[str]()

    def execute(self, query: str | sql.Composable) -> Scripted:
        text = query if isinstance(query, str) else query.as_string()
        self.rows: list[tuple[object, ...]] = [({"idle": 3}, {}, 10, 0, 100, 1e9, 100, 3)]
        for word, rows in (("pg_database_size", [("temporal", 7)]), ("extnamespace", [("public",)]), ("calls", [])):
            if word in text:
                self.asked[word] += 1
                self.rows = rows  # type: ignore[assignment]
                if word in self.too_long:
                    raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        return self

    def nextset(self) -> None:
        return None

    def fetchone(self) -> tuple[object, ...]:
        return self.rows[0]

    def fetchall(self) -> list[tuple[object, ...]]:
        return self.rows


@pytest.mark.parametrize(("word", "field"), [("pg_database_size", "database_bytes"), ("calls", "statements")])
def test_what_is_dear_to_read_costs_only_itself(word: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sizes or statements take too long PostgreSQL is not away: they alone are missing, and asked for seldom."""
    now = [100.0]
    monkeypatch.setattr("capacity.observe.postgres.time.monotonic", lambda: now[0])
    source, connection = PostgresSource("postgresql://h/x"), Scripted(word)
    source._connection = connection  # type: ignore[assignment]
    slow = connection.execute

    def execute(query: str | sql.Composable) -> Scripted:
        try:
            return slow(query)
        except psycopg.errors.QueryCanceled:
            now[0] += 0.5
            raise

    monkeypatch.setattr(connection, "execute", execute)
    for second in range(25):
        now[0] = 100.0 + second
        reading = source.read()
        assert reading.vitals.connections_used == 3
        assert getattr(reading.vitals, field) is None
        assert reading.missing[field] == "reading it takes longer than 0.5 s"
        if second:  # where the sizes are dear statements are read a second later
            assert {"database_bytes", "statements"} & set(reading.missing) == {field}
    assert connection.asked[word] == 3


@pytest.fixture
def role(stack: ClusterState) -> Iterator[str]:
    """The connection string of an ordinary role."""
    name = sql.Identifier(f"watch_{uuid4().hex[:8]}")
    with psycopg.connect(str(stack.postgres), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(SECRET)))
        try:
            own = psycopg.conninfo.make_conninfo(str(stack.postgres), user=name.as_string()[1:-1], password=SECRET)
            yield own
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.stack
def test_a_wrong_password_is_the_reason(role: str) -> None:
    """A role that is not let in is not "away": the reason is PostgreSQL's own."""
    wrong = psycopg.conninfo.make_conninfo(role, password=SECRET + "x")
    assert refusal(wrong).startswith("password authentication failed")


@pytest.mark.stack
def test_an_ordinary_role_is_told_what_it_cannot_see(role: str) -> None:
    """Without pg_monitor connections are counted, their states are hidden, and the reason says what to grant."""
    source = PostgresSource(role)
    reading = source.read()
    source.close()
    assert isinstance(reading.vitals, PostgresVitals)
    assert reading.vitals.connections["hidden"] > 5
    assert "pg_monitor" in reading.missing["connections"]
    assert reading.vitals.connections_used <= reading.vitals.connections_max


@pytest.mark.stack
def test_statements_are_those_since_the_watch_began(stack: ClusterState) -> None:
    """What ran longest since the first reading leads, with its own calls and seconds."""
    source = PostgresSource(str(stack.postgres))
    source.read()
    with psycopg.connect(str(stack.postgres), autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT pg_sleep(0.4)")
    source._seldom = 0.0
    vitals = source.read().vitals
    source.close()
    assert vitals.statements
    assert vitals.statements[0].query == "SELECT pg_sleep($1)"
    assert vitals.statements[0].calls == 3
    assert vitals.statements[0].seconds >= 1.2


@pytest.mark.stack
def test_the_watch_is_known_and_is_one_connection(stack: ClusterState) -> None:
    """Whoever looks at PostgreSQL sees one connection under the watch's name, and none once it is closed."""

    def watching() -> int:
        with psycopg.connect(str(stack.postgres)) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
            ).fetchone()
            assert row is not None
            return int(row[0])

    source = PostgresSource(str(stack.postgres))
    for _ in range(3):
        source.read()
    assert watching() == 1
    source.close()
    for _ in range(200):
        if watching() == 0:
            return
    pytest.fail("the watch's connection is still there")


@pytest.mark.stack
def test_local_processes_are_found_without_being_told(stack: ClusterState) -> None:
    """The CPU is that of the server's own processes: found by the connection, so a restart is followed too."""
    source = PostgresSource(str(stack.postgres))
    source.read()
    assert source._postmaster == stack.components[0].pid
    source.close()
    assert Path(f"/proc/{stack.components[0].pid}").exists()
