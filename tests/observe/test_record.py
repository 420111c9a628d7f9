"""The record of a run: it loads back as it was, and a file that is none is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from capacity.cli.launching import exit_code
from capacity.cluster.target import Target
from capacity.errors import CapacityError, InterruptedRunError, RunFailedError, UsageError
from capacity.fleet import Fleet
from capacity.fleet.client import FleetBatch
from capacity.launcher.batch import HeightRange
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.latency import Latencies
from capacity.launcher.progress import STOPPED
from capacity.observe.history import past_run, runs_folder
from capacity.observe.recording import of_processes, unasked
from capacity.observe.run import STOPPED_WAITING, ControllerState, LatencySummary, Run, RunSample, throttling
from capacity.observe.session import Journaling


def run_of(**changes: Any) -> Run:
    latencies = Latencies()
    latencies.add(np.array([0.010, 0.012, 0.250]))
    fields: dict[str, Any] = {
        "run_id": "20260101-000000-abcdef",
        "started_at": "2026-01-01T00:00:00.000+00:00",
        "address": "127.0.0.1:7233",
        "namespace": "default",
        "server_version": "1.32.0",
        "batch": {"kind": "heights", "chain_id": "mainnet"},
        "count": 10,
        "scheduled": 3,
        "session_scheduled": 3,
        "already_running": 2,
        "already_finished": 1,
        "failed": 1,
        "not_attempted": 3,
        "duration_seconds": 2.0,
        "starts_per_second": 1.5,
        "sustained_starts_per_second": None,
        "latency_seconds": LatencySummary.of(latencies),
        "latency_histogram": latencies.encode(),
        "parallelism": 4,
        "controller": ControllerState(asked="4x", limit=4, pace=None, reason="fixed", ramp_seconds=0.0),
        "attempts": 8,
        "throttled_attempts": 0,
        "throttle_cause": None,
        "throttle_scope": None,
        "retries": {},
        "errors": {"INVALID_ARGUMENT": 1},
        "cpu_seconds": 0.5,
        "rss_bytes_max": 90_000_000,
        "journal": None,
        "series": [
            RunSample(at=1.0, seconds=1.0, starts=3, throttled=0, in_flight=4, limit=4, p50=0.012, p99=0.25),
            RunSample(at=2.0, seconds=1.0, starts=0, throttled=0, in_flight=4, limit=4, p50=None, p99=None),
        ],
    }
    return Run(**fields | changes)


def test_a_record_loads_back(tmp_path: Path) -> None:
    """What was saved is what is loaded, to the last field."""
    path = tmp_path / "run.json"
    run_of().save(path)
    assert Run.load(path) == run_of()


def test_the_histogram_survives() -> None:
    """Percentiles can be read from the record's own histogram."""
    assert run_of().latencies().quantile(0.5) == pytest.approx(0.012, rel=1e-3)


def test_another_schema_version_says_so(tmp_path: Path) -> None:
    """A record of another version is refused by its version, not by an odd failure."""
    path = tmp_path / "old.json"
    path.write_text(json.dumps(run_of().to_dict() | {"schema_version": 99}))
    with pytest.raises(UsageError, match="schema version 99; allowed: 1"):
        Run.load(path)


def test_a_damaged_field_is_named(tmp_path: Path) -> None:
    """A field of the wrong kind is named."""
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(run_of().to_dict() | {"count": "many"}))
    with pytest.raises(UsageError, match="count"):
        Run.load(path)


def test_a_record_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """An unwritable path is one clear line."""
    with pytest.raises(CapacityError, match="cannot write record"):
        run_of().save(tmp_path)


def test_the_series_exports_to_csv() -> None:
    """One line a second, the header first, an unmeasured latency left empty."""
    assert run_of().to_csv().splitlines() == [
        "at,seconds,starts,throttled,in_flight,limit,p50,p99",
        "1.0,1.0,3,0,4,4,0.012,0.25",
        "2.0,1.0,0,0,4,4,,",
    ]


@pytest.mark.parametrize(
    ("changes", "complete"),
    [
        ({}, False),
        ({"failed": 0, "errors": {}, "not_attempted": 0, "scheduled": 7}, True),
        ({"failed": 0, "not_attempted": 0, "scheduled": 7, "verified": 10}, True),
        ({"failed": 0, "not_attempted": 0, "scheduled": 7, "verified": 9}, False),
        ({"failed": 0, "not_attempted": 0, "scheduled": 7, "verified": 10, "completed": 6}, False),
        ({"failed": 0, "not_attempted": 0, "scheduled": 7, "error": "no server answered"}, False),
    ],
)
def test_complete_means_all_there(changes: dict[str, Any], complete: bool) -> None:
    """A run is complete when every item is in place, found by the server, and completed where that was waited for."""
    assert run_of(**changes).complete is complete


def test_items_that_were_never_tried_are_no_success() -> None:
    """Whatever ended a launch early, and if nothing says why: its exit code is 1 and it says how to go on."""
    run = run_of(failed=0, errors={}, journal="j")
    with pytest.raises(RunFailedError, match=r"^3 of 10 not attempted; go on with: .*--resume --journal j"):
        exit_code(run)
    with pytest.raises(RunFailedError, match=r"^stopped by another: 3 of 10 not attempted"):
        exit_code(run.model_copy(update={"stopped": "stopped by another"}))
    with pytest.raises(InterruptedRunError, match=r"^interrupted: 3 of 10 not attempted"):
        exit_code(run.model_copy(update={"stopped": STOPPED}))


def test_throttling_names_the_key() -> None:
    """The likely configuration key stands beside cause and scope."""
    words = throttling(run_of(throttled_attempts=4, throttle_cause="RPS_LIMIT", throttle_scope="NAMESPACE"))
    assert words.startswith("4 attempts (50.0%): RPS_LIMIT, scope NAMESPACE")
    assert "frontend.namespaceRPS" in words


def test_html_escapes_what_a_server_said() -> None:
    """Text from elsewhere cannot become markup in a notebook."""
    assert "<script>" not in run_of(warnings=["<script>"])._repr_html_()


@pytest.mark.parametrize(
    ("fleet", "scope", "warned"),
    [
        (Fleet(), "NAMESPACE", True),
        (Fleet(namespace="default"), "NAMESPACE", True),
        (Fleet(namespace="fleet"), "NAMESPACE", False),
        (Fleet(), "SYSTEM", False),
        (Fleet(), None, False),
        (None, "NAMESPACE", False),
    ],
)
def test_a_fleet_in_a_namespace_at_its_limit_is_told_to_leave_it(
    fleet: Fleet | None, scope: str | None, warned: bool
) -> None:
    """Its own calls are refused before starts are; launcher processes of this machine make none."""
    with Journal.in_memory(Header("", "run", 10)) as journal:
        launchers = FleetBatch(HeightRange(10), Target("127.0.0.1:1"), journal, {}, fleet=fleet or Fleet())
        warnings = of_processes(run_of(throttle_scope=scope), launchers, fleet)["warnings"]
    assert any("--fleet-namespace" in words for words in warnings) is warned


def test_a_journal_of_another_run_is_not_taken_for_a_runs_own(tmp_path: Path, state_folder: str) -> None:
    """A record that names its journal by a path that is another run's by now has none; who asks is not told of both."""
    Journal.create(tmp_path / "a.journal", Header("", "mine", 3)).close()
    mine = run_of(run_id="mine", journal=str(tmp_path / "a.journal"))
    runs_folder().mkdir(parents=True, exist_ok=True)
    mine.save(runs_folder() / "mine.json")
    assert past_run("mine").journal == tmp_path / "a.journal"
    (tmp_path / "a.journal").unlink()
    Journal.create(tmp_path / "a.journal", Header("", "theirs", 3)).close()
    assert past_run("mine").journal is None


def test_a_journal_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as beside one, it is found from any other folder."""
    monkeypatch.chdir(tmp_path)
    with Journaling(Path("a.journal")).open(HeightRange(3), Target("127.0.0.1:1")) as journal:
        assert journal.path == tmp_path / "a.journal"
    with Journaling(Path("a.journal"), resume=True).open(HeightRange(3), Target("127.0.0.1:1")) as journal:
        assert journal.path == tmp_path / "a.journal"


def test_an_interrupted_run_whose_count_is_not_waited_for_stays_interrupted() -> None:
    """Ctrl-C, then once more while the server counts: items are left, and that is what is to be told."""
    stopped = unasked(run_of(stopped=STOPPED, scheduled=4, not_attempted=6))
    assert (stopped.stopped, stopped.interrupted) == (STOPPED, True)
    assert STOPPED_WAITING in stopped.warnings
    for all_there in (run_of(), run_of(stopped=STOPPED, not_attempted=0)):
        assert unasked(all_there).stopped == STOPPED_WAITING
