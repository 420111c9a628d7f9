"""Records read back: runs and the folder of them, sweeps, calibrations, comparisons, latency histograms."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import bytes_of, fuzzed, json_files, only_ours, refused, unreadable

from capacity.errors import CapacityError
from capacity.launcher.latency import Latencies
from capacity.model import shipped
from capacity.model.calibration import Calibration
from capacity.model.prediction import predict
from capacity.observe import history
from capacity.observe.run import Run
from capacity.verdict.checklist import check
from capacity.verdict.confirmation import comparison_of, confirmation
from capacity.verdict.levers import Lever
from capacity.verdict.report import as_page, as_text
from capacity.verdict.thresholds import thresholds


def _latencies() -> Latencies:
    latencies = Latencies()
    latencies.add(np.array([0.010, 0.012, 0.250]))
    return latencies


def _sample(at: float) -> dict[str, Any]:
    return {"at": at, "seconds": 1.0, "starts": 3, "throttled": 0, "in_flight": 4, "limit": 4, "p50": 0.01, "p99": None}


def _vitals(at: float) -> dict[str, Any]:
    pool = {"max_open": 20, "open": 20, "in_use": 9, "idle": 11}
    return {
        "at": at,
        "launcher": {"rss_bytes": 10**8, "cpus_used": 0.1, "threads": 14, "tasks": 20, "machine_cpus": 2},
        "server": {
            "starts_per_second": 300.0,
            "goroutines": 3300,
            "sql_pools": {"history main": pool},
            "cpus_allowed": 2,
        },
        "postgres": {
            "connections": {"idle": 86},
            "connections_used": 95,
            "connections_max": 300,
            "connections_reserved": 3,
            "waits": {},
            "database_bytes": {"temporal": 1},
            "started_at": 1e9,
            "cpus_used": 0.6,
            "cpus_allowed": 2,
            "statements": [{"query": "INSERT", "calls": 4, "seconds": 0.1}],
        },
        "prometheus": {"cpus": {"server hosts": 1.0}},
        "missing": {"create": "there were none"},
    }


RECORD: dict[str, Any] = {
    "schema_version": 1,
    "run_id": "20260101-000000-abcdef",
    "started_at": "2026-01-01T00:00:00.000+00:00",
    "address": "127.0.0.1:7233",
    "namespace": "default",
    "server_version": "1.32.0",
    "batch": {"kind": "heights"},
    "count": 10,
    "scheduled": 3,
    "session_scheduled": 3,
    "already_running": 2,
    "already_finished": 1,
    "failed": 1,
    "not_attempted": 3,
    "verified": 6,
    "completed": 3,
    "duration_seconds": 2.0,
    "starts_per_second": 1.5,
    "sustained_starts_per_second": None,
    "latency_seconds": {"mean": 0.1, "p50": 0.1, "p90": 0.2, "p99": 0.2, "max": 1},
    "latency_histogram": _latencies().encode(),
    "parallelism": 4,
    "attempts": 8,
    "throttled_attempts": 2,
    "controller": {"asked": "4x", "limit": 4, "pace": None, "reason": "fixed", "ramp_seconds": 0.0},
    "throttle_cause": "RPS_LIMIT",
    "throttle_scope": "NAMESPACE",
    "retries": {"UNAVAILABLE": 1},
    "errors": {"NOT_FOUND": 1},
    "cpu_seconds": 0.5,
    "rss_bytes_max": 90_000_000,
    "processes": 2,
    "process_rss_bytes_max": [1, 2],
    "journal": "j",
    "stopped": "",
    "error": None,
    "warnings": ["w"],
    "series": [_sample(1.0), _sample(2.0)],
    "vitals": [
        _vitals(1.0),
        _vitals(2.0),
        {**_vitals(3.0), "samples": 2, "lowest": {"tasks": {"value": 34, "samples": 1}}},
    ],
}
CALIBRATION: dict[str, Any] = json.loads(shipped.path("calibrations", "postgres").read_text(encoding="utf-8"))
SWEEP: dict[str, Any] = {
    **CALIBRATION["measurements"],
    "points": [p for p in CALIBRATION["measurements"]["points"] if p["parallelism"] <= 16][:5],
}
SHORT: dict[str, Any] = {**CALIBRATION, "measurements": SWEEP}
COMPARISON: dict[str, Any] = {
    "baseline": "4x",
    "candidate": "shards=64",
    "throughput_ratio": 1.2,
    "throughput_interval": [1.1, 1.3],
    "cpu_ratio": 0.9,
    "cpu_interval": [0.8, 0.95],
    "blocks": [{"baseline": {"parallelism": 8}, "candidate": {"parallelism": 8}}] * 2,
    "note": "what else a comparison has",
}


@fuzzed(30)
@given(json_files(RECORD))
def test_any_record_of_a_run_is_shown_and_judged_or_refused(file: Path, content: bytes) -> None:
    """Whatever a record holds, it is read and can be shown and judged, or one line refuses it."""
    file.write_bytes(content)
    with only_ours():
        run = Run.load(file)
        _all_of(run)


def _all_of(run: Run) -> None:
    """Use all that a record offers: what loads has to be of use."""
    assert run.rows()
    assert run.to_csv()
    assert run._repr_html_()
    assert run.verification()
    json.dumps(run.to_dict(), allow_nan=False)
    assert run.latencies().count >= 0
    found = check(run, thresholds())
    assert as_text(found)
    assert as_page(found)


def test_the_records_that_are_damaged_here_are_valid(file: Path) -> None:
    """Without damage each of them loads: else the mutations would all be refused for one and the same reason."""
    file.write_text(json.dumps(RECORD))
    _all_of(Run.load(file))
    file.write_text(json.dumps(SHORT))
    assert predict(Calibration.load(file), (4,)).throughput.value[0] > 0
    file.write_text(json.dumps(SWEEP))
    assert Calibration.load(file).rows()
    file.write_text(json.dumps(COMPARISON))
    assert confirmation(Lever("shards", "", 0.15, 0.1, 0.2), [comparison_of(file)])


@fuzzed(8)
@given(st.lists(json_files(RECORD), min_size=1, max_size=3))
@example([json.dumps({**RECORD, "run_id": "bad", "count": -1}).encode()])
def test_a_damaged_record_hides_no_other_run(state_folder: str, contents: list[bytes]) -> None:
    """The list of past runs is that of the good records, whatever lies beside them."""
    folder = Path(state_folder) / "runs"
    folder.mkdir(exist_ok=True)
    (folder / "good.json").write_text(json.dumps({**RECORD, "journal": None}))
    for number, content in enumerate(contents):
        (folder / f"bad{number}.json").write_bytes(content)
        (folder / f"bad{number}.journal").write_bytes(content)
    with only_ours():
        assert any(run.run_id == "good" for run in history.past_runs())
        for run in history.past_runs():
            assert run.counts.count > 0
            assert isinstance(run.batch, dict)
            assert isinstance(run.address + run.namespace, str)


@fuzzed()
@given(
    st.one_of(
        st.text(max_size=10), st.sampled_from(["x" * 300, "x" * 5000, "\0", "\0.json", "last", "", "/", "\ud800"])
    )
)
def test_any_name_of_a_run_is_found_or_refused(state_folder: str, name: str) -> None:
    """A name of a run that no file can have is one that no run has."""
    with only_ours():
        history.past_run(name)


@fuzzed(20)
@given(json_files(SHORT))
def test_any_calibration_predicts_or_is_refused(file: Path, content: bytes) -> None:
    """What loads as a calibration can be shown and predicts numbers; anything else is one line."""
    file.write_bytes(content)
    with only_ours():
        calibration = Calibration.load(file)
        assert calibration.rows()
        assert calibration._repr_html_()
        found = predict(calibration, (1, 64), draws=8)
        assert np.isfinite(found.throughput.value).all()


@fuzzed(12)
@given(json_files(SWEEP))
def test_any_sweep_is_fitted_or_refused(file: Path, content: bytes) -> None:
    """A sweep that was never fitted is fitted when it is loaded, in bounded time, or one line says why it is not."""
    file.write_bytes(content)
    with only_ours():
        assert Calibration.load(file).rows()


@fuzzed()
@given(json_files(COMPARISON), st.sampled_from(["shards", "indexes"]))
def test_any_comparison_is_told_or_refused(file: Path, content: bytes, key: str) -> None:
    """What loads as a comparison is told in words."""
    file.write_bytes(content)
    with only_ours():
        assert isinstance(confirmation(Lever(key, "", 0.15, 0.1, 0.2), [comparison_of(file)]), str)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder, a missing file, a name that cannot be and a file without an end are refused with their name."""
    for path in unreadable(tmp_path):
        for read in (Run.load, Calibration.load, comparison_of):
            with refused():
                read(path)


@pytest.mark.parametrize("read", [Run.load, Calibration.load, comparison_of])
def test_deep_nesting_is_named_as_such(file: Path, read: Any) -> None:
    """A file nested beyond what any function could walk is refused for that."""
    file.write_text('{"a":' * 5000 + "1" + "}" * 5000)
    with pytest.raises(CapacityError, match="nested too deeply"):
        read(file)


# -- latency histograms -----------------------------------------------------------------------------------------------


def _packed(payload: bytes, header: tuple[Any, ...] = (0x1C849313, None, 0, 3, 1, 3_600_000_000, 1.0)) -> str:
    """HdrHistogram's V2 format around some counts."""
    cookie, length, *rest = header
    inner = struct.pack(">iiiiqqd", cookie, len(payload) if length is None else length, *rest) + payload
    outer = zlib.compress(inner)
    return base64.b64encode(struct.pack(">ii", 0x1C849314, len(outer)) + outer).decode()


_HEADERS = st.tuples(
    st.sampled_from([0x1C849313, 0, -1]),
    st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    st.integers(-3, 3),
    st.integers(-1, 9),
    st.integers(-1, 3),
    st.sampled_from([3_600_000_000, 2**62, 1, -1]),
    st.sampled_from([1.0, 0.0, float("nan")]),
)


@fuzzed(30)
@given(
    st.one_of(
        st.text(max_size=60),
        bytes_of(st.just(_latencies().encode())).map(lambda content: content.decode("latin-1")),
        st.builds(_packed, st.binary(max_size=60)),
        st.builds(_packed, st.binary(max_size=10), _HEADERS),
        st.just(_packed(b"\x7f" * 10_000_000)),
    )
)
def test_any_histogram_has_quantiles_or_is_refused(text: str) -> None:
    """Whatever stands for a histogram, its quantiles lie in the range of latencies or it is one line."""
    with only_ours():
        latencies = Latencies.decode(text)
        assert (latencies.counts >= 0).all()
        if latencies.count:
            assert 0 <= latencies.quantile(0.5) <= latencies.quantile(0.99) <= latencies.maximum
