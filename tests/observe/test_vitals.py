"""The watch: its beat, what is away, what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from capacity.observe import vitals_text, watcher
from capacity.observe.joining import joined, lowest
from capacity.observe.vitals import (
    LauncherVitals,
    Lowest,
    NotMeasuredError,
    PostgresVitals,
    PrometheusVitals,
    ServerVitals,
    SqlPool,
    Statement,
    VitalsSample,
)
from capacity.observe.watcher import LauncherSource, Reading, Watcher, without_repeated_statements

PAUSE = 0.05


class Fake:
    """A source that does what it is told at each reading."""

    def __init__(self, component: str, read: Callable[[], Any]) -> None:
        self.component, self._read, self.closed = component, read, False

    def read(self) -> Reading:
        return Reading(self._read())

    def close(self) -> None:
        self.closed = True


def watched(*sources: Any, samples: int, **options: Any) -> list[VitalsSample]:
    """Watch until there are some samples."""
    enough = threading.Event()

    def count(_: VitalsSample) -> None:
        if len(watch.samples) >= samples:
            enough.set()

    watch = Watcher(sources, interval=PAUSE, on_sample=count, **options)
    watch.start()
    assert enough.wait(20)
    watch.stop()
    return watch.samples


def launcher(**values: Any) -> LauncherVitals:
    return LauncherVitals(**({"rss_bytes": 1, "threads": 1, "machine_cpus": 2} | values))


def postgres(**values: Any) -> PostgresVitals:
    fields: dict[str, Any] = {
        "connections": {"idle": 5},
        "connections_used": 5,
        "connections_max": 100,
        "connections_reserved": 3,
        "waits": {},
        "database_bytes": {},
        "started_at": 1e9,
    }
    return PostgresVitals(**(fields | values))


def test_a_source_that_hangs_delays_no_other_and_comes_back() -> None:
    """While one hangs the others are sampled at every beat; it is missing with that reason until it answers."""
    hang, good = threading.Event(), Fake("launcher", launcher)
    stuck = Fake("server", lambda: hang.wait(20) and ServerVitals(goroutines=7))
    seen: list[VitalsSample] = []
    back = threading.Event()

    def note(sample: VitalsSample) -> None:
        seen.append(sample)
        if len(seen) == 5:
            hang.set()
        if sample.server is not None:
            back.set()

    watch = Watcher([good, stuck], interval=PAUSE, deadline=PAUSE / 2, on_sample=note)
    watch.start()
    assert back.wait(20)
    watch.stop()
    assert all(sample.launcher is not None for sample in seen[:5])
    assert all(sample.missing["server"].startswith("no answer within") for sample in seen[:5])
    assert stuck.closed


def test_what_cannot_be_read_is_none_with_its_reason() -> None:
    """A source that is away or defect is None, and the sample says why; it is never a zero."""

    def refused() -> None:
        raise NotMeasuredError("no answer: connection refused")

    def defect() -> None:
        raise ZeroDivisionError("secret")

    sample = watched(Fake("server", refused), Fake("postgres", defect), samples=1)[0]
    assert (sample.server, sample.postgres) == (None, None)
    assert sample.missing == {
        "server": "no answer: connection refused",
        "postgres": "ZeroDivisionError in reading it",
    }


def test_the_end_is_sampled_too() -> None:
    """A launch shorter than a second still has a second reading, and with it rates."""
    watch = Watcher([LauncherSource()], interval=30)
    watch.start()
    while watch.latest is None:
        time.sleep(0.01)
    watch._interval = 0.0
    watch.stop()
    first, last = watch.samples
    assert first.launcher is not None
    assert first.launcher.cpus_used is None
    assert first.missing["launcher.cpus_used"] == "a rate needs two readings"
    assert last.launcher is not None
    assert last.launcher.cpus_used is not None


def test_the_end_has_as_much_time_to_answer_as_any_second() -> None:
    """A source that takes more than half of the deadline is not missing from the last sample alone."""

    def slow() -> ServerVitals:
        time.sleep(1.2)
        return ServerVitals(cpus_used=1.0)

    watch = Watcher([Fake("server", slow)], interval=0.01, deadline=2.0)
    watch.start()
    while watch.latest is None:
        time.sleep(0.01)
    watch.stop()
    assert len(watch.samples) >= 2
    assert [sample.missing for sample in watch.samples] == [{}] * len(watch.samples)


def test_memory_is_bounded() -> None:
    """Beyond its length the series halves its resolution and goes on over the whole time."""
    series = watcher._Series(length=8)
    for second in range(100):
        series.add(VitalsSample(at=second, launcher=launcher(rss_bytes=second, cpus_used=1.0)))
        assert len(series.samples) <= 9
    assert series.samples[-1].at == 99
    assert {sample.launcher.cpus_used for sample in series.samples if sample.launcher} == {1.0}
    highest = [sample.launcher.rss_bytes for sample in series.samples if sample.launcher]
    assert highest == [sample.at for sample in series.samples], "of counts the highest is kept"


def test_joining_keeps_the_lowest_of_what_has_a_limit_and_how_much_was_measured() -> None:
    """However often samples are joined, each figure's lowest value stays, and the number of seconds that had it."""
    series = watcher._Series(length=4)
    for second in range(32):
        parts = {"launcher": launcher(tasks=99 + second, threads=1)}
        if second % 4 == 3:
            parts["postgres"] = postgres(cpus_used=0.1 * second, cpus_allowed=2.0)
        series.add(VitalsSample(at=second, **parts))
    first, *_ = series.samples
    assert first.samples > 8
    assert lowest(first, "tasks") == Lowest(value=100, samples=first.samples)
    found = lowest(first, "postgres_cpu")
    assert found is not None
    assert (round(found.value, 9), found.samples) == (0.15, first.samples // 4)
    assert lowest(first, "create_p99") is None
    assert sum(sample.samples for sample in series.samples) == 32
    assert VitalsSample.model_validate_json(first.model_dump_json()) == first


def test_joining_takes_means_of_rates_and_what_was_measured() -> None:
    """Of two samples: the mean of floats, the highest count, what only one measured, and every reason."""
    one = VitalsSample(at=1, postgres=postgres(commits_per_second=100.0, connections_used=9), missing={"server": "x"})
    two = VitalsSample(at=2, postgres=postgres(commits_per_second=300.0), server=ServerVitals(goroutines=3))
    both = joined([one, two])
    assert both.at == 2
    assert both.postgres is not None
    assert (both.postgres.commits_per_second, both.postgres.connections_used) == (200, 9)
    assert both.postgres.started_at == 1e9
    assert both.server == two.server
    assert both.missing == {"server": "x"}


def test_a_cause_that_did_not_occur_counts_as_none_in_the_mean() -> None:
    """Throttling in one of two seconds is half of it on average."""
    refused = ServerVitals(resource_exhausted_per_second={"RPS_LIMIT": 50.0})
    calm = ServerVitals(resource_exhausted_per_second={})
    for pair in ([refused, calm], [calm, refused]):
        assert joined(pair).resource_exhausted_per_second == {"RPS_LIMIT": 25.0}


def test_a_query_that_returned_nothing_is_no_zero() -> None:
    """A container that was not scraped in one of two seconds used what it did in the other."""
    one, other = (PrometheusVitals(cpus=cpus) for cpus in ({"server": 3.0, "host": 1.0}, {"host": 2.0}))
    assert joined([one, other]).cpus == {"server": 3.0, "host": 1.5}


def test_statements_are_kept_once() -> None:
    """A record has the list of statements in the last sample that knows them, and nowhere else."""
    statements = (Statement(query="SELECT 1", calls=1, seconds=0.1),)
    samples = [
        VitalsSample(at=0, postgres=postgres(statements=statements)),
        VitalsSample(at=1, postgres=postgres(statements=statements)),
        VitalsSample(at=2, missing={"postgres": "no answer"}),
    ]
    kept = [sample.postgres and sample.postgres.statements for sample in without_repeated_statements(samples)]
    assert kept == [None, statements, None]


def test_what_is_older_than_a_second_says_so() -> None:
    """Beside values of the last second, what is measured once a minute or over minutes stands with that."""
    pools = {"history main": SqlPool(max_open=20, open=20, in_use=3, idle=17)}
    sample = VitalsSample(at=0, server=ServerVitals(goroutines=2387, memory_bytes=2**20, sql_pools=pools))
    rows = {what: value for _, what, value in vitals_text.rows(sample)}
    assert rows["goroutines"] == "2,387 (up to a minute old)"
    assert rows["Go memory"] == "1 MiB (up to a minute old)"
    assert rows["SQL pools"] == "history main 3 in use, 20 open of 20 (up to a minute old)"
    assert vitals_text.line(sample) == "server Go memory 1 MiB (up to a minute old)"
    scraped = VitalsSample(at=0, prometheus=PrometheusVitals(cpus={"server containers": 0.17}))
    assert vitals_text.line(scraped) == "server containers 0.2 CPUs (Prometheus, over 2 min)"
    assert [value for *_, value in vitals_text.rows(scraped)] == ["0.17 CPUs over 2 min"]


def test_a_line_without_anything_says_so() -> None:
    """A host of which nothing in the line is measured is no bare word."""
    assert vitals_text.line(VitalsSample(at=0, server=ServerVitals(create_p99=0.1))) == "server not measured"


def test_a_sample_survives_the_record() -> None:
    """A sample written as JSON reads back as it was."""
    sample = VitalsSample(at=1.5, launcher=launcher(tasks=3), postgres=postgres(), missing={"server": "no answer"})
    assert VitalsSample.model_validate_json(sample.model_dump_json()) == sample
