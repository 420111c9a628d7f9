"""What the commands that measure a cluster share: which one, how they are interrupted, what they leave behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capacity.cli.connection import NO_OPTIONS, AllowTarget, Connection, ExistingAddress, Namespace
from capacity.cli.options import ClusterCores, Format, MaxConns, OwnStore, Shards, Store

if TYPE_CHECKING:
    import threading

    from capacity.experiment.wanted import Wanted


@dataclass(frozen=True)
class Where:
    """The cluster that is measured, one of its own or an existing one; a command takes it under `grouped`."""

    store: OwnStore = None
    shards: Shards = None
    max_conns: MaxConns = None
    address: ExistingAddress = None
    cluster_cores: ClusterCores = None
    namespace: Namespace = None
    connection: Connection = NO_OPTIONS
    allow_target: AllowTarget = None

    def wanted(self, seconds: float = 5.0, seed: int = 0) -> Wanted:
        """Return what to measure on that cluster: one in flight for so long [s], or what a command makes of it."""
        from capacity.errors import UsageError
        from capacity.experiment.wanted import Wanted

        existing = self.address is not None or self.connection.profile is not None
        if existing and self.store is not None:
            option = "--address" if self.address is not None else "--profile"
            raise UsageError(
                f"--store {self.store.value} and {option} exclude each other", next_step="pass one of them"
            )
        given = {"namespace": self.namespace, **vars(self.connection)}
        given |= {"allow_target": self.allow_target, "cluster_cores": self.cluster_cores}
        if not existing and (useless := [name for name, value in given.items() if value is not None]):
            option = "--" + useless[0].replace("_", "-")
            raise UsageError(f"{option} is given, but no existing cluster", next_step="add --address HOST:PORT")
        return Wanted(
            parallelisms=(1,),
            seconds=seconds,
            repeats=1,
            seed=seed,
            store=None if existing else (self.store or Store.SQLITE).value,
            target=self.connection.target(self.address, self.namespace) if existing else None,
            allowed=self.allow_target or (),
            shards=self.shards,
            max_conns=self.max_conns,
            cluster_cores=self.cluster_cores,
            extras=False,
        )


HERE = Where()


@contextmanager
def interruptible(words: str) -> Iterator[threading.Event]:
    """Yield an event that the first interrupt sets; the second raises KeyboardInterrupt, later ones do nothing."""
    import threading

    from capacity import interrupts

    stop, at_once = threading.Event(), threading.Event()

    def interrupt(_: int) -> None:
        if at_once.is_set():
            return  # what cleans up is not to be cut short
        if stop.is_set():
            at_once.set()
            raise KeyboardInterrupt
        stop.set()
        with contextlib.suppress(RuntimeError):  # it came while a line was being written: that one may not be entered
            say(words)

    with interrupts.handled(interrupt):
        yield stop


def say(sentence: str) -> None:
    """Tell on standard error."""
    import sys

    print(sentence, file=sys.stderr, flush=True)


def write(path: Path | None, text: str, form: Format) -> None:
    """Write a result to a file, if one is named, before it is told; where that fails, print all of it."""
    from capacity import files
    from capacity.errors import CapacityError

    if path is None:
        return
    try:
        files.write_whole(path, text + "\n")
    except OSError as error:
        if form is not Format.JSON:
            print(text + "\n")
        raise CapacityError(f"out {path}: {error.strerror}", next_step="the result stands above") from error


def print_left_behind(left: int, wanted: Wanted, prefix: str, form: Format) -> None:
    """Print how to end the workflows that stay on an existing cluster: under the text, or beside what is piped."""
    from capacity.experiment.subject import tell_left

    tell_left((lambda words: print(f"\n{words}")) if form is Format.TEXT else say, left, wanted, prefix)
