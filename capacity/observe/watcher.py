"""The watch: a sample a second of every source, none of which can delay another or the launch.

Invariants: one thread keeps the beat and waits for no source longer than `DEADLINE`; each source is read in a daemon
thread of its own, where one that hangs does so alone and is asked again once it is through; memory is bounded.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

import psutil

from capacity.launcher.progress import SERIES_LENGTH
from capacity.observe.joining import joined
from capacity.observe.process import CpuMeter, rss_bytes
from capacity.observe.vitals import FIRST_READING, LATE, LauncherVitals, NotMeasuredError, VitalsSample

INTERVAL: Final = 1.0
"""Seconds between samples."""
DEADLINE: Final = 0.8
"""Seconds a source may take; a later answer is not this second's."""


@dataclass(frozen=True)
class Reading:
    """What a source read, and why parts of it are None, by field."""

    vitals: Any
    missing: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Something that can be read once a second, always by the same thread."""

    component: str

    def read(self) -> Reading:
        """Return what it shows now.

        Raises
        ------
        NotMeasuredError
            If it cannot be read; the next reading tries again.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class LauncherSource:
    """This process and the launcher processes it started; `tasks` and `pids` are handed over by its event loop.

    Parameters
    ----------
    elsewhere : str
        Why this process is no launcher, so that nothing of it is measured; empty where it is one.
    """

    component = "launcher"

    def __init__(self, elsewhere: str = "") -> None:
        self._elsewhere = elsewhere
        self._process = psutil.Process()
        self._meter = CpuMeter()
        self._machine: tuple[float, float] | None = None
        self.tasks: int | None = None
        self.pids: Sequence[int] = ()

    def read(self) -> Reading:
        if self._elsewhere:
            raise NotMeasuredError(self._elsewhere)
        pids = self.pids
        use = self._meter.read([os.getpid(), *pids])
        with self._process.oneshot():
            vitals = LauncherVitals(
                rss_bytes=self._process.memory_info().rss + sum(rss_bytes(pid) or 0 for pid in pids),
                cpus_used=use.used,
                processes=max(1, len(pids)),
                threads=self._process.num_threads(),
                tasks=self.tasks,
                descriptors=self._process.num_fds(),
                machine_cpus_used=self._machine_cpus_used(),
                machine_cpus=os.cpu_count() or 1,  # all of them, as `machine_cpus_used` is of all, whatever the quota
            )
        return Reading(vitals, {"cpus_used": FIRST_READING} if use.used is None else {})

    def _machine_cpus_used(self) -> float | None:
        times = psutil.cpu_times()
        # Time stolen by other guests of the host is no more to be had than time in use.
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        now = time.monotonic()
        before, self._machine = self._machine, (now, busy)
        return max(0.0, busy - before[1]) / (now - before[0]) if before and now > before[0] else None

    def close(self) -> None:
        return None


class _Reader:
    """A source in its own thread."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._asked: queue.SimpleQueue[Future[Reading] | None] = queue.SimpleQueue()
        self._answer: Future[Reading] | None = None
        self.cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._serve, name=f"capacity-watch-{source.component}", daemon=True)
        self._thread.start()

    def ask(self) -> Future[Reading]:
        """Return the answer to come; of a source that still hangs the one it owes."""
        if self._answer is None or self._answer.done():
            self._answer = Future()
            self._asked.put(self._answer)
        return self._answer

    def end(self, patience: float) -> None:
        self._asked.put(None)
        self._thread.join(patience)

    def _serve(self) -> None:
        while (answer := self._asked.get()) is not None:
            try:
                answer.set_result(self.source.read())
            except Exception as error:  # one source's defect must end neither the watch nor the launch
                answer.set_exception(error)
            self.cpu_seconds = time.thread_time()
        self.source.close()


class Watcher:
    """Takes a sample a second from its sources until it is stopped; in a ``with`` block until that ends.

    Parameters
    ----------
    sources : sequence of Source
        What is watched.
    interval, deadline : float
        Between samples, and for one source to answer [s].
    on_sample : callable, optional
        Called with each sample in the watcher's thread.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        interval: float = INTERVAL,
        deadline: float = DEADLINE,
        on_sample: Callable[[VitalsSample], None] | None = None,
    ) -> None:
        self._sources = list(sources)
        self._interval, self._deadline, self._on_sample = interval, deadline, on_sample
        self._readers: list[_Reader] = []
        self._stopping = threading.Event()
        self._began = self._beat_cpu_seconds = 0.0
        self._series = _Series()
        self._thread = threading.Thread(target=self._beat, name="capacity-watch", daemon=True)
        self.latest: VitalsSample | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with a sample at once."""
        self._began = time.monotonic()
        self._readers = [_Reader(source) for source in self._sources]
        self._thread.start()

    def stop(self) -> None:
        """End with one more sample, unless the last one is younger than half an interval."""
        if self._stopping.is_set() or not self._readers:
            return
        self._stopping.set()
        self._thread.join()
        if self.latest is None or time.monotonic() - self._began - self.latest.at >= self._interval / 2:
            self._sample()
        for reader in self._readers:
            reader.end(self._deadline / 4)

    @property
    def samples(self) -> list[VitalsSample]:
        """All samples; of the lists of statements only the last."""
        return without_repeated_statements(self._series.samples)

    def _beat(self) -> None:
        due = self._began
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            self._sample()
            due += self._interval * (1 + max(0, int((time.monotonic() - due) / self._interval)))

    def _sample(self) -> None:
        at = time.monotonic() - self._began
        answers = {reader.source.component: reader.ask() for reader in self._readers}
        wait(answers.values(), self._deadline)
        parts: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for component, answer in answers.items():
            if not answer.done():
                missing[component] = f"{LATE} {self._deadline:.1f} s"
            elif (error := answer.exception()) is not None:
                known = isinstance(error, NotMeasuredError)
                missing[component] = str(error) if known else f"{type(error).__name__} in reading it"
            else:
                reading = answer.result()
                parts[component] = reading.vitals
                missing |= {f"{component}.{name}": reason for name, reason in reading.missing.items()}
        if threading.current_thread() is self._thread:
            self._beat_cpu_seconds = time.thread_time()
        own = self._beat_cpu_seconds + sum(reader.cpu_seconds for reader in self._readers)
        self.latest = VitalsSample(at=at, missing=missing, watch_cpu_seconds=own, **parts)
        self._series.add(self.latest)
        if self._on_sample is not None:
            self._on_sample(self.latest)


class LaunchWatch:
    """The watch of a launch as its event loop has it: ticked there, begun and ended without holding it up.

    Parameters
    ----------
    sources : sequence of Source
        What is watched besides this process; None watches nothing at all.
    on_vitals : callable, optional
        Called with each new sample by `tick`, on the loop.
    elsewhere : str
        See `LauncherSource`.
    """

    def __init__(
        self,
        sources: Sequence[Source] | None,
        on_vitals: Callable[[VitalsSample], None] | None = None,
        elsewhere: str = "",
    ) -> None:
        self._launcher = LauncherSource(elsewhere)
        self._watcher = Watcher([self._launcher, *sources]) if sources is not None else None
        self._on_vitals = on_vitals
        self._shown: VitalsSample | None = None

    async def __aenter__(self) -> LaunchWatch:
        if self._watcher is not None:
            self._launcher.tasks = len(asyncio.all_tasks())
            self._watcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    def tick(self, pids: Sequence[int] = ()) -> None:
        """Hand over the number of tasks and further launcher processes, and pass on a sample that is new."""
        self._launcher.pids = pids
        if self._watcher is None or self._watcher.latest is self._shown:
            return
        self._shown = self._watcher.latest
        self._launcher.tasks = len(asyncio.all_tasks())
        if self._on_vitals is not None and self._shown is not None:
            self._on_vitals(self._shown)

    async def end(self) -> list[VitalsSample]:
        """Stop watching; return all samples."""
        if self._watcher is None:
            return []
        await asyncio.to_thread(self._watcher.stop)
        return self._watcher.samples


class _Series:
    """Samples a second apart, or 2, 4, ... s once there are too many."""

    def __init__(self, length: int = SERIES_LENGTH) -> None:
        self._length = length
        self._each = 1
        self._closed: list[VitalsSample] = []
        self._open: list[VitalsSample] = []

    @property
    def samples(self) -> list[VitalsSample]:
        return [*self._closed, *([joined(self._open)] if self._open else [])]

    def add(self, sample: VitalsSample) -> None:
        self._open.append(sample)
        if len(self._open) < self._each:
            return
        self._closed.append(joined(self._open) if len(self._open) > 1 else sample)
        self._open = []
        if len(self._closed) >= self._length:
            self._closed = [joined(pair) for pair in zip(self._closed[::2], self._closed[1::2], strict=True)]
            self._each *= 2


def without_repeated_statements(samples: Sequence[VitalsSample]) -> list[VitalsSample]:
    """Return the samples with the list of statements in the last one that has any, and nowhere else."""
    kept, seen = [], False
    for sample in reversed(samples):
        postgres = sample.postgres
        if postgres is not None and postgres.statements is not None:
            if seen:
                sample = sample.model_copy(update={"postgres": postgres.model_copy(update={"statements": None})})
            seen = True
        kept.append(sample)
    return kept[::-1]
