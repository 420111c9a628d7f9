"""What of a cluster is on this machine, and when it has come to rest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

import pytest

from capacity.cluster import processes
from capacity.errors import UsageError
from capacity.experiment import local
from capacity.experiment.local import (
    SETTLE_MOST,
    WINDOW,
    ClusterCpu,
    LocalCluster,
    Quiet,
    affinity,
    found,
    held_to,
)


class Uses:
    """CPUs that a cluster used in window after window, and the time slept; the last one goes on forever."""

    def __init__(self, uses: Iterable[float | None]) -> None:
        self._uses = list(uses)
        self.slept = 0.0

    def read(self) -> tuple[float | None, float | None]:
        window = round(self.slept / WINDOW)
        use = self._uses[max(0, min(window, len(self._uses)) - 1)]
        return (None, None) if use is None else (use * 0.75, use * 0.25)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def waited(quiet: Quiet, uses: Uses) -> float:
    before = uses.slept
    quiet.wait()
    return uses.slept - before


def test_the_cpus_of_a_cluster_are_cut_by_its_own_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in a cgroup with half a CPU has one, rounded up, whatever quota this process has."""
    server = processes.created(os.getpid())
    cluster = LocalCluster("127.0.0.1:1", server=(os.getpid(), server))
    monkeypatch.setattr(local, "cpu_quota", {os.getpid(): 0.5}.get)
    assert cluster.cpu_count == 1
    monkeypatch.setattr(local, "cpu_quota", lambda _: None)
    assert cluster.cpu_count == len(os.sched_getaffinity(0))


def test_an_idle_cluster_is_waited_for_one_window() -> None:
    """Nothing to wait for costs half a second."""
    uses = Uses([0.02])
    assert waited(Quiet(uses.read, uses.sleep), uses) == WINDOW


def test_the_work_a_point_left_is_waited_for() -> None:
    """Transfer and visibility tasks of the last point end before the next one begins."""
    uses = Uses([0.02, 1.8, 1.2, 0.4, 0.1])
    quiet = Quiet(uses.read, uses.sleep)
    waited(quiet, uses)
    assert waited(quiet, uses) == 4 * WINDOW


def test_a_cluster_that_never_rests_is_not_waited_for_forever() -> None:
    """The wait is bounded."""
    uses = Uses([0.02, 1.5])
    quiet = Quiet(uses.read, uses.sleep)
    waited(quiet, uses)
    assert waited(quiet, uses) == SETTLE_MOST


def test_idle_is_what_a_shared_cluster_used_before_the_first_point() -> None:
    """A cluster that others keep at half a CPU is at rest when it is back there."""
    uses = Uses([0.5] * 6 + [1.9, 1.0, 0.55])
    quiet = Quiet(uses.read, uses.sleep)
    assert waited(quiet, uses) == 6 * WINDOW
    assert waited(quiet, uses) == 3 * WINDOW


def test_a_cluster_elsewhere_is_waited_for_one_window() -> None:
    """Where no process is known there is nothing to look at."""
    uses = Uses([None])
    assert waited(Quiet(uses.read, uses.sleep), uses) == WINDOW


def test_a_wait_ends_when_told_to_stop() -> None:
    """An interrupt is not kept waiting."""
    uses = Uses([1.0])
    Quiet(uses.read, uses.sleep).wait(lambda: True)
    assert uses.slept == 0


def test_cpu_of_a_process_is_what_it_burns() -> None:
    """A process that does nothing but compute uses a CPU, or what the machine leaves it; a sleeping one none."""
    code = "import sys; print(flush=True)\nwhile {}: {}"
    busy = subprocess.Popen([sys.executable, "-c", code.format("True", "pass")], stdout=subprocess.PIPE)
    idle = subprocess.Popen([sys.executable, "-c", code.format("sys.stdin.read()", "0")], stdin=-1, stdout=-1)
    try:
        assert busy.stdout is not None
        assert idle.stdout is not None
        busy.stdout.readline()
        idle.stdout.readline()
        identities = [(child.pid, processes.created(child.pid)) for child in (busy, idle)]
        meter = ClusterCpu(LocalCluster("127.0.0.1:1", server=identities[0], database=identities[1]))
        assert meter.read() == (None, None)
        before = busy_seconds(busy.pid)
        while busy_seconds(busy.pid) - before < 0.2:
            pass
        server, database = meter.read()
        assert server is not None
        assert 0.05 < server < 1.2
        assert database == pytest.approx(0.0, abs=0.02)
    finally:
        for child in (busy, idle):
            child.kill()
            child.communicate()


def busy_seconds(pid: int) -> float:
    import psutil

    return psutil.Process(pid).cpu_times().user


def test_a_process_that_is_gone_is_not_measured() -> None:
    """A pid with another start time is somebody else's."""
    gone = LocalCluster("127.0.0.1:1", server=(os.getpid(), 1.0))
    assert ClusterCpu(gone).read() == (None, None)
    assert (gone.cpus, gone.cpu_count, gone.launcher_shares_cpus) == (None, None, False)


def test_what_is_started_while_held_stays_held() -> None:
    """A child inherits the CPUs, this process gets its own back."""
    before = affinity(0)
    chosen = frozenset({min(before)})
    with held_to(chosen):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert affinity(child.pid) == chosen
        assert affinity(0) == before
        held = LocalCluster("127.0.0.1:1", server=(child.pid, processes.created(child.pid)))
        assert (held.cpus, held.cpu_count) == (chosen, 1)
        assert held.launcher_shares_cpus == (len(before) == 1)
    finally:
        child.communicate(b"")


@pytest.mark.parametrize("cpus", [frozenset(), frozenset({100_000})])
def test_cpus_that_are_not_there_are_refused(cpus: frozenset[int]) -> None:
    """Holding to no CPU, or to one this process may not use, is one clear line."""
    with pytest.raises(UsageError, match="cluster-cpus is"), held_to(cpus):
        pass


def test_nothing_is_known_of_a_cluster_elsewhere(state_folder: str) -> None:
    """Another host's processes are none of this machine's, whatever listens here on that port."""
    assert found("10.255.255.1:7233") == LocalCluster("10.255.255.1:7233")


def test_a_tunnel_is_no_server(state_folder: str) -> None:
    """A process that listens on the port but is no dev server is not measured in its place."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as tunnel:
        address = f"127.0.0.1:{tunnel.getsockname()[1]}"
        assert found(address) == LocalCluster(address)
