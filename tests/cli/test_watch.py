"""`capacity watch` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time

import pytest

from capacity.cluster import ports
from capacity.cluster.devserver import DevServer
from capacity.cluster.state import ClusterState
from tests.cli.conftest import Command, arguments_of


@pytest.fixture
def nowhere() -> str:
    return f"127.0.0.1:{ports.free(1)[0]}"


def test_nothing_known_is_misuse(in_process: Command, nowhere: str) -> None:
    """At an address without a known cluster there is one clear line and code 2."""
    done = in_process("watch", "--once", "--address", nowhere)
    assert done.code == 2
    assert nowhere in done.error
    assert "--server-metrics" in done.error


def test_a_wrong_url_is_misuse(in_process: Command) -> None:
    """A metrics URL that is none is refused with code 2, for a launch before anything is started."""
    for command in (("watch", "--once"), ("launch", "--count", 1)):
        done = in_process(*command, "--server-metrics", "nonsense")
        assert done.code == 2
        assert "--server-metrics is 'nonsense'" in done.error


def test_seconds_of_a_single_sample_are_misuse(in_process: Command) -> None:
    """An option that would do nothing is refused."""
    done = in_process("watch", "--once", "--seconds", 3)
    assert (done.code, "--seconds does not go with --once" in done.error) == (2, True)


def test_a_password_is_not_shown(in_process: Command) -> None:
    """Neither a wrong connection string nor a database that is away shows its password."""
    secret = "hunter2-is-secret"
    wrong = in_process("watch", "--once", "--postgres", f"postgresql://u:{secret}@[h/x")
    assert wrong.code == 2
    away = in_process("watch", "--once", "--postgres", f"postgresql://u:{secret}@127.0.0.1:1/x")
    assert away.code == 0
    assert "not measured: no answer: connection refused" in away.out
    assert secret not in wrong.out + wrong.err + away.out + away.err


@pytest.mark.devserver
def test_once_as_text_is_a_table_of_80_columns(capacity: Command, devserver: DevServer) -> None:
    """One table with a row for each vital sign of the server fits into 80 columns."""
    done = capacity("watch", "--once", "--address", devserver.address, COLUMNS="200")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for sign in ("CPU", "memory", "requests", "shard lock wait", "refused", "limits", "goroutines"):
        assert sign in done.out
    assert "once a minute" in done.out


@pytest.mark.devserver
def test_json_is_a_sample_a_line(capacity: Command, devserver: DevServer) -> None:
    """With --format json each second is one JSON object on a line of its own.

    A rate stands in one of the two after the first at least: where a busy machine reads the one late, the other follows
    before the server has renewed its counters, and says so.
    """
    done = capacity("watch", "--seconds", 2, "--format", "json", "--server-metrics", devserver.metrics_url)
    samples = [json.loads(line) for line in done.out.splitlines()]
    assert [round(sample["at"]) for sample in samples] == [0, 1, 2]
    assert samples[0]["server"]["requests_per_second"] is None
    told = [sample["server"]["requests_per_second"] is not None for sample in samples[1:]]
    reasons = [sample["missing"].get("server.requests_per_second") for sample in samples[1:]]
    assert any(told)
    assert [reason is None for reason in reasons] == told
    assert samples[-1]["server"]["cpus_used"] is not None


@pytest.mark.devserver
def test_without_a_terminal_each_second_is_a_plain_line(capacity: Command, devserver: DevServer) -> None:
    """In a pipe there is a line a second without escape codes."""
    done = capacity("watch", "--seconds", 1, "--address", devserver.address)
    lines = [line for line in done.out.splitlines() if not line.startswith("in the way")]
    assert [line.partition(":")[0] for line in lines] == ["0 s", "1 s"]
    assert "\x1b" not in done.out


@pytest.mark.stack
def test_in_a_terminal_a_live_table_shows_both(stack: ClusterState, state_folder: str) -> None:
    """A terminal of 80 columns shows the table of server and PostgreSQL, anew each second."""
    outer, inner = pty.openpty()
    words = ("watch", "--seconds", 2, "--server-metrics", stack.metrics_url, "--postgres", stack.postgres)
    environment = os.environ | {"CAPACITY_STATE_DIR": state_folder, "COLUMNS": "80", "LINES": "50", "TERM": "xterm"}
    child = subprocess.Popen(arguments_of(words), stdout=inner, stderr=inner, stdin=inner, env=environment)
    os.close(inner)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(outer, 65536)
        except OSError:
            break  # the child closed it
        if not part:
            break
        shown += part
    os.close(outer)
    assert child.wait(20) == 0, shown.decode()
    assert shown.count(b"shard lock wait") >= 3
    assert b"PostgreSQL" in shown
    assert b"\x1b[" in shown
