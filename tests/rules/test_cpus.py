"""CPU detection on made cgroup trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capacity.rules import available_cpus
from capacity.rules.cpus import cpu_quota

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def v2(root: Path, quotas: dict[str, str], group: str = "/app.slice/job") -> Path:
    files = {f"sys/fs/cgroup{folder}/cpu.max": text for folder, text in quotas.items()}
    return tree(root, {"proc/self/cgroup": f"0::{group}\n", "proc/self/mountinfo": V2_MOUNT, **files})


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("250000 100000", 3), ("200000 100000", 2), ("200001 100000", 3), ("50000 100000", 1), ("25000 10000", 3)],
)
def test_a_quota_is_rounded_up(tmp_path: Path, quota: str, expected: int) -> None:
    """A 2.5-CPU quota counts as 3, half a CPU as 1, an exact 2 as 2."""
    assert available_cpus(v2(tmp_path, {"/app.slice/job": quota}), affinity=8).count == expected


def test_another_processs_quota_is_that_of_its_own_cgroup(tmp_path: Path) -> None:
    """Whoever watches a container from outside sees its 2.5 CPUs, not the watcher's own, and not rounded."""
    root = v2(tmp_path, {"/app.slice/job": "800000 100000", "/docker/1f": "250000 100000"})
    tree(root, {"proc/7/cgroup": "0::/docker/1f\n"})
    assert cpu_quota(7, root) == 2.5
    assert cpu_quota(8, root) is None, "a process that is gone"
    assert available_cpus(root, affinity=16).count == 8


def test_the_source_says_what_was_detected_and_where(tmp_path: Path) -> None:
    """The quota, its file and the affinity are all named."""
    found = available_cpus(v2(tmp_path, {"/app.slice/job": "250000 100000"}), affinity=8)
    file = "/sys/fs/cgroup/app.slice/job/cpu.max"
    assert found.source == f"cgroup v2 quota of 2.5 CPUs ({file}), 8 CPUs by affinity"


def test_a_parents_quota_binds_too(tmp_path: Path) -> None:
    """The tightest quota on the way to the root is the one that holds."""
    root = v2(tmp_path, {"/app.slice/job": "800000 100000", "/app.slice": "150000 100000", "": "max 100000"})
    assert available_cpus(root, affinity=8).count == 2


def test_affinity_below_the_quota_wins(tmp_path: Path) -> None:
    """Pinned to 2 CPUs with a quota of 4, it is 2, and the source begins with what set it."""
    found = available_cpus(v2(tmp_path, {"/app.slice/job": "400000 100000"}), affinity=2)
    assert (found.count, found.source.split(",")[0]) == (2, "2 CPUs by affinity")


@pytest.mark.parametrize("text", ["max 100000\n", "", "garbage", "0 100000", "-5 100000", "100000 0", "1 2 3"])
def test_no_quota_or_a_file_no_kernel_writes_leaves_the_affinity(tmp_path: Path, text: str) -> None:
    """Without a usable quota the affinity mask counts."""
    found = available_cpus(v2(tmp_path, {"/app.slice/job": text}), affinity=6)
    assert (found.count, found.source) == (6, "6 CPUs by affinity, no cgroup quota")


def test_cgroup_v1_quota(tmp_path: Path) -> None:
    """The CFS quota and period of cgroup v1 count as well, found through the mount that carries `cpu`."""
    folder = "sys/fs/cgroup/cpu,cpuacct/docker/1f"
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/docker/1f\n3:cpuset:/\n",
            "proc/self/mountinfo": V1_MOUNT,
            f"{folder}/cpu.cfs_quota_us": "250000\n",
            f"{folder}/cpu.cfs_period_us": "100000\n",
        },
    )
    found = available_cpus(root, affinity=8)
    assert (found.count, found.source.split(",")[0]) == (3, "cgroup v1 quota of 2.5 CPUs (/sys/fs/cgroup/cpu")


def test_cgroup_v1_without_a_quota_writes_minus_one(tmp_path: Path) -> None:
    """-1 in cgroup v1 is no quota."""
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert available_cpus(root, affinity=8).count == 8


def test_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    """In a container the group's path is often the host's; its quota is then at the mount itself."""
    root = v2(tmp_path, {"": "100000 100000"}, group="/system.slice/docker-1f.scope")
    assert available_cpus(root, affinity=8).count == 1


def test_a_mount_that_begins_inside_the_hierarchy(tmp_path: Path) -> None:
    """A mount whose root is the container's group is read from that group on."""
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/kube/pod7/run\n",
            "proc/self/mountinfo": V2_MOUNT.replace(" / /sys", " /kube/pod7 /sys"),
            "sys/fs/cgroup/run/cpu.max": "300000 100000",
        },
    )
    assert available_cpus(root, affinity=8).count == 3


def test_a_path_outside_the_cgroup_namespace(tmp_path: Path) -> None:
    """`/../..` in the path never leads out of the mount."""
    root = v2(tmp_path, {"/other": "100000 100000"}, group="/../other")
    assert available_cpus(root, affinity=8).count == 1


def test_no_proc_at_all(tmp_path: Path) -> None:
    """Without /proc, as on other systems, the affinity counts."""
    assert available_cpus(tmp_path, affinity=4).count == 4


def test_never_below_one(tmp_path: Path) -> None:
    """An empty affinity mask still counts as one CPU."""
    assert available_cpus(tmp_path, affinity=0).count == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity call on this system")
def test_this_process_is_held_by_its_own_affinity() -> None:
    """Pinned to one CPU, this very process detects 1."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cpus().count == 1
    finally:
        os.sched_setaffinity(0, before)
