"""What a sweep measures: an existing cluster or a new one of its own, and the conditions it is measured under.

Invariants: a cluster of a sweep's own has a state folder of its own, so that a recorded cluster and its data are never
touched; it ends with its block, which no interrupt cuts short, and with its process, even one that is killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from capacity import files, interrupts
from capacity.cluster import devserver, stack, state
from capacity.cluster.guard import split_address
from capacity.cluster.guardian import Guardian
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.experiment import local
from capacity.experiment.local import LocalCluster
from capacity.experiment.wanted import Wanted
from capacity.launcher.cleaning import left_behind
from capacity.model.measurement import Conditions


@contextlib.contextmanager
def subject(wanted: Wanted, say: Callable[[str], None]) -> Iterator[tuple[Target, LocalCluster]]:
    """Yield what to measure: the existing cluster, or a new one that ends with the block.

    Raises
    ------
    UsageError
        If the CPUs of an existing cluster are neither seen nor told.
    """
    if wanted.target is not None:
        existing = local.found(wanted.target.address)
        if existing.cpu_count is None and wanted.cluster_cores is None:
            _check_listens(existing.address)
            raise UsageError(
                f"the CPUs of the cluster at {existing.address} cannot be seen from here",
                next_step="say with --cluster-cores how many server and database have together",
            )
        yield wanted.target, existing
        return
    with contextlib.ExitStack() as running:
        guardian = running.enter_context(contextlib.closing(Guardian()))
        with local.held_to(wanted.cluster_cpus):
            if wanted.store == "postgres":
                # The current state folder may hold data that the user keeps.
                folder = running.enter_context(_folder())
                guardian.watch_folder(folder)
                with _state_folder(folder):
                    guardian.watch_data(stack.data_folder())
                    started = running.enter_context(stack.running(wanted.settings(), say, guardian.watch_stack))
                cluster = local.of_state(started)
            else:
                config = wanted.settings().dynamic_config
                server = devserver.running(dynamic_config=config, spawned=guardian.watch_server)
                cluster = local.of_devserver(running.enter_context(server))
        try:
            yield Target(cluster.address), cluster
        finally:
            with _uninterrupted():
                running.close()


def _check_listens(address: str) -> None:
    """Say that nobody listens where that is so: it would be the next thing to be refused."""
    try:
        socket.create_connection(split_address(address), timeout=2.0).close()
    except ConnectionRefusedError:
        raise ClusterError(
            f"no server listens at {address}",
            next_step="start one with 'capacity cluster up' or pass --address HOST:PORT",
        ) from None
    except OSError:
        return  # whether it is there is asked again, and told in full, once its CPUs are known


def ours(error: CapacityError | OSError) -> CapacityError:
    """Return what ends a measurement as an error of ours: also a disk that is full costs none of what was measured.

    >>> str(ours(OSError(28, "No space left on device", "/tmp/a")))
    '/tmp/a: No space left on device'
    """
    return error if isinstance(error, CapacityError) else CapacityError(files.said_by_the_machine(error))


def tell_left(say: Callable[[str], None], left: int, wanted: Wanted, prefix: str) -> None:
    """Say how to end the workflows that stay on an existing cluster, where nothing else of what made them is told."""
    if left and wanted.target is not None:
        say("\n".join(left_behind(left, wanted.target, prefix)))


def conditions(wanted: Wanted, target: Target, cluster: LocalCluster, server_version: str) -> Conditions:
    """Return where the sweep is made."""
    config = dict(cluster.dynamic_config)
    concurrency = config.get("history.shardIOConcurrency", "1") if cluster.store != "unknown" else ""
    return Conditions(
        store=cluster.store,
        cluster_cpus=cluster.cpu_count or wanted.cluster_cores or 1,
        launcher_shares_cpus=cluster.launcher_shares_cpus,
        shards=cluster.shards,
        shard_io_concurrency=int(concurrency) if re.fullmatch(r"[0-9]{1,6}", concurrency) else None,
        max_conns=cluster.max_conns,
        history_hosts=1 if cluster.server else None,
        frontends=1 if cluster.server else None,
        network_delay=_network_delay(target.address),
        dynamic_config=config,
        server_version=server_version,
        database_version=cluster.database_version,
        fresh=wanted.freshness,
    )


def _network_delay(address: str, attempts: int = 5) -> float:
    """Return the shortest time a TCP connection took, which is a round trip [s]; 0 on loopback."""
    host, port = split_address(address)
    if host in local.LOOPBACK:
        return 0.0
    shortest = float("inf")
    for _ in range(attempts):
        began = time.perf_counter()
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2.0):
            shortest = min(shortest, time.perf_counter() - began)
    if shortest == float("inf"):
        raise ClusterError(f"the round trip to {address} cannot be measured: no TCP connection to it is made")
    return shortest


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back interrupts for the length of a block; the last of them comes after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    try:
        with interrupts.handled(held.append):
            yield
    finally:
        if held:
            signal.raise_signal(held[-1])


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".sweep-", dir=state.made(state.folder())))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _state_folder(folder: Path) -> Iterator[None]:
    before = os.environ.get("CAPACITY_STATE_DIR")
    os.environ["CAPACITY_STATE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CAPACITY_STATE_DIR"]
        else:
            os.environ["CAPACITY_STATE_DIR"] = before
