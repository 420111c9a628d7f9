"""`capacity score`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capacity.cli import run
from capacity.model.calibration import Calibration
from tests.model.conftest import measurements_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "two.json"
    Calibration.of(measurements_of("two_cpus"), "two").save(path)
    return path


def test_json_has_the_documented_fractions(calibration: Path, capsys: Capture) -> None:
    """Errors are fractions, coverage a share, and every second parallelism was predicted."""
    assert run(["score", str(calibration), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["parallelism"] for row in found["held"]] == [2, 8, 32]
    assert found["fitted"] == [1, 4, 16, 64, 128]
    for key in ("throughput_error_median", "throughput_error_max", "p50_error_median", "p99_error_median"):
        assert 0 <= found[key] < 1
    worst = max(abs(row["throughput_error"]) for row in found["held"])
    assert found["throughput_error_max"] == worst
    assert 0 <= found["coverage"] <= 1


def test_the_table_fits_a_terminal(calibration: Path, capsys: Capture) -> None:
    """80 columns, one line per parallelism, the summary below."""
    assert run(["score", str(calibration)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "throughput off by" in out


def test_points_marked_as_held_out_are_the_ones_predicted(tmp_path: Path, capsys: Capture) -> None:
    """A sweep's own holdout decides, not every second one."""
    swept = measurements_of("two_cpus")
    points = [p.model_copy(update={"holdout": p.parallelism in (64, 128)}) for p in swept.points]
    path = tmp_path / "held.json"
    Calibration.of(swept.model_copy(update={"points": tuple(points)}), "held").save(path)
    assert run(["score", str(path), "--format", "json"]) == 0
    assert [row["parallelism"] for row in json.loads(capsys.readouterr().out)["held"]] == [64, 128]


def test_a_sweep_that_could_not_be_fitted_says_so(tmp_path: Path, capsys: Capture) -> None:
    """The file of a sweep that was interrupted too early is refused in one line that says what it needs."""
    swept = measurements_of("two_cpus")
    path = tmp_path / "early.json"
    path.write_text(swept.model_copy(update={"points": swept.points[:2]}).model_dump_json())
    assert run(["score", str(path)]) == 2
    error = capsys.readouterr().err
    assert "2 usable points" in error
    assert len(error.splitlines()) == 1
