"""Hosts of a fleet as network namespaces: one is cut off in mid-batch, and the batch is complete and exact."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_server import worker
from real_server import wait_for

from capacity.cluster import devserver as embedded

pytestmark = pytest.mark.devserver
HOSTS = 3
COUNT = 1000
CUT_OFF = 10.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def inside(host: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", host)


@pytest.fixture
def hosts(require: object) -> Iterator[list[str]]:
    """A namespace for the server and one for each launcher, on one bridge: 10.77.0.1, 10.77.0.2, ..."""
    able = os.geteuid() == 0 and shutil.which("ip") is not None
    able = able and subprocess.run(["ip", "netns"], capture_output=True).returncode == 0
    require(able, "right to make network namespaces")  # type: ignore[operator]
    mark = uuid.uuid4().hex[:4]
    names = [f"cap{mark}{n}" for n in range(HOSTS + 1)]
    bridge = f"cap{mark}br"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for n, name in enumerate(names):
            ip("netns", "add", name)
            ip("link", "add", f"{name}o", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}o", "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.77.0.{n + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True)


@contextlib.contextmanager
def server_on(host: str, database: Path) -> Iterator[str]:
    """The dev server in a namespace; its address there."""
    command = [*inside(host), embedded.find_binary(), "server", "start-dev", "--headless", "--ip", "0.0.0.0"]
    command += ["--port", "7233", "--log-level", "error", "--db-filename", str(database)]
    for key in ("frontend.rps", "frontend.namespaceRPS", "history.rps"):
        command += ["--dynamic-config-value", f"{key}=100000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    listens = [*inside(host), "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7233"]
    try:
        wait_for(lambda: subprocess.run(listens, capture_output=True).returncode == 0, 60)
        yield "10.77.0.1:7233"
    finally:
        process.terminate()
        process.wait()


def test_a_host_that_is_cut_off_in_mid_batch_costs_no_item(hosts: list[str], tmp_path: Path) -> None:
    """Three launcher hosts, one cut off for two heartbeats' time: its range goes to others, every id has one run."""
    server, *launchers = hosts
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(server_on(server, tmp_path / "temporal.db"))
        allow = ("--allow-target", address)
        for host in launchers:
            fleet = stack.enter_context(worker(address, 1, *allow, prefix=inside(host)))
            fleet.wait_ready(1)
        command = [
            *inside(server),
            sys.executable,
            "-m",
            "capacity",
            "launch",
            "--fleet",
            "--count",
            str(COUNT),
            "--json",
        ]
        command += ["--rate", "60", "--max-in-flight", "9", "--address", address, *allow]
        command += ["--journal", str(tmp_path / "j")]
        launch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert launch.stderr is not None
        assert launch.stdout is not None
        said = []
        for line in launch.stderr:
            said.append(line)
            if f" of {COUNT:,}: " in line and not line.startswith("0 "):
                break
        ip("-n", launchers[0], "link", "set", "eth0", "down")
        time.sleep(CUT_OFF)
        ip("-n", launchers[0], "link", "set", "eth0", "up")
        output, errors = launch.communicate(timeout=240)
        assert launch.returncode == 0, "".join([*said, errors, output])
        run = json.loads(output)
        assert (run["scheduled"], run["failed"], run["not_attempted"]) == (COUNT, 0, 0)
        assert run["verified"] == COUNT
        assert not [warning for warning in run["warnings"] if "more runs" in warning]
