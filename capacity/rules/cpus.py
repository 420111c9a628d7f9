"""CPUs that this process may really use: its affinity, cut by the tightest cgroup quota above it.

A container's `nproc` is the host's; the quota is what the kernel enforces. A quota is rounded up, since a pool
for 2 CPUs would leave half a CPU of a 2.5-CPU quota unused.

Source: Linux cgroup-v2 (`cpu.max`) and CFS bandwidth (`cpu.cfs_quota_us`, `cpu.cfs_period_us`) documentation, proc(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class CpuCount:
    """CPUs this process may use, and where the number comes from.

    Parameters
    ----------
    count : int
        CPUs, at least 1.
    source : str
        What was detected and where, for people.
    """

    count: int
    source: str


@dataclass(frozen=True)
class _Quota:
    microseconds: int
    period: int
    version: int
    file: str

    @property
    def cpus(self) -> float:
        return self.microseconds / self.period

    @property
    def whole_cpus(self) -> int:
        return max(-(-self.microseconds // self.period), 1)


def available_cpus(root: Path = Path("/"), affinity: int | None = None) -> CpuCount:
    """CPUs this process may really use: min(affinity, ceil(tightest cgroup quota)), at least 1.

    Parameters
    ----------
    root : Path
        Where `proc` and `sys` are found; a test passes a made tree.
    affinity : int, optional
        CPUs of the affinity mask; by default that of this process.

    Returns
    -------
    CpuCount
        The count and what it comes from.

    Examples
    --------
    >>> available_cpus(affinity=1).count
    1
    """
    if affinity is None:
        allowed, mask = _affinity()
    else:
        allowed, mask = affinity, f"{_cpus(affinity)} by affinity"
    quota = _tightest(root, "self")
    if quota is None:
        return CpuCount(max(allowed, 1), f"{mask}, no cgroup quota")
    found = f"cgroup v{quota.version} quota of {quota.cpus:.4g} CPUs ({quota.file})"
    if quota.whole_cpus < allowed:
        return CpuCount(quota.whole_cpus, f"{found}, {mask}")
    return CpuCount(max(allowed, 1), f"{mask}, {found}")


def cpu_quota(process: int, root: Path = Path("/")) -> float | None:
    """Return the tightest quota of a process's own cgroup, not rounded [CPUs]; None where it has none.

    Parameters
    ----------
    process : int
        Its pid; its cgroup may be another than this process's.
    root : Path
        As in `available_cpus`.
    """
    quota = _tightest(root, str(process))
    return None if quota is None else quota.cpus


def _affinity() -> tuple[int, str]:
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        return allowed, f"{_cpus(allowed)} by affinity"
    allowed = os.cpu_count() or 1  # macOS and Windows have no affinity call
    return allowed, f"{_cpus(allowed)} of the machine"


def _cpus(count: int) -> str:
    return f"{count:,} CPU{'' if count == 1 else 's'}"


def _tightest(root: Path, process: str) -> _Quota | None:
    return min(_quotas(root, process), key=lambda quota: quota.cpus, default=None)


def _quotas(root: Path, process: str) -> Iterator[_Quota]:
    """Every quota on the way from a process's cgroup up to the root of its hierarchy: each one binds."""
    for version, group in _memberships(root, process):
        for mount_root, mount_point in _mounts(root, version):
            for folder in _upwards(group, mount_root):
                file = mount_point / folder / ("cpu.max" if version == 2 else "cpu.cfs_quota_us")
                pair = _read_v2(root, file) if version == 2 else _read_v1(root, file)
                if pair is not None:
                    yield _Quota(*pair, version, str(file))


def _memberships(root: Path, process: str) -> Iterator[tuple[int, PurePosixPath]]:
    """(cgroup version, path) of a process, from lines such as `0::/user.slice` and `4:cpu,cpuacct:/docker/1f`."""
    for line in _read(root, PurePosixPath(f"/proc/{process}/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # A path outside our cgroup namespace begins with /..; nothing above the mount can be read anyway.
        group = PurePosixPath("/", *(part for part in PurePosixPath(path).parts if part not in ("/", "//", "..")))
        if controllers == "":
            yield 2, group
        elif "cpu" in controllers.split(","):
            yield 1, group


def _mounts(root: Path, version: int) -> list[tuple[PurePosixPath, PurePosixPath]]:
    """(root inside the hierarchy, mount point) of the cgroup mounts that carry the cpu controller, as we see them."""
    found = []
    for line in _read(root, PurePosixPath("/proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        place, kind = left.split(), right.split()
        if len(place) < 5 or len(kind) < 3:
            continue
        if (version == 2 and kind[0] == "cgroup2") or (
            version == 1 and kind[0] == "cgroup" and "cpu" in kind[2].split(",")
        ):
            found.append((PurePosixPath(_unescaped(place[3])), PurePosixPath(_unescaped(place[4]))))
    usual = PurePosixPath("/sys/fs/cgroup" if version == 2 else "/sys/fs/cgroup/cpu")
    return found or [(PurePosixPath("/"), usual)]


def _upwards(group: PurePosixPath, mount_root: PurePosixPath) -> Iterator[PurePosixPath]:
    """The folders to look into under the mount point: the group's own, then each parent up to the mount itself.

    A container often sees the host's path of its group but a mount that begins at that group: then only the mount
    itself is there, and its deeper folders are missing files, which `_read` passes over.
    """
    below = group.relative_to(mount_root) if group.is_relative_to(mount_root) else group.relative_to("/")
    yield from (below, *below.parents)[: len(below.parts) + 1]


def _read_v2(root: Path, file: PurePosixPath) -> tuple[int, int] | None:
    words = _read(root, file).split()
    if len(words) != 2 or words[0] == "max":
        return None
    return _positive(*words)


def _read_v1(root: Path, file: PurePosixPath) -> tuple[int, int] | None:
    return _positive(_read(root, file).strip(), _read(root, file.with_name("cpu.cfs_period_us")).strip())


def _positive(quota: str, period: str) -> tuple[int, int] | None:
    """The pair as numbers; None for v1's -1 (no quota) and for what a kernel never writes."""
    if re.fullmatch(r"[1-9][0-9]{0,18}", quota) and re.fullmatch(r"[1-9][0-9]{0,18}", period):
        return int(quota), int(period)
    return None


def _read(root: Path, file: PurePosixPath) -> str:
    try:
        return (root / file.relative_to("/")).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a mount with a NUL in its name, or none of this root
        return ""


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
