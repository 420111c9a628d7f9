"""Scores: fitted on part of a sweep, set against the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.measurement import Flag, Measurements
from capacity.model.score import repeat_noise, score

Sweeps = Callable[[str], Measurements]


def with_rates(sweep: Measurements, factor: Callable[[int, int], float], rounds: int = 1) -> Measurements:
    """The sweep once per round, each throughput multiplied by what `factor` gives for (parallelism, round)."""
    points = [
        point.model_copy(update={"repeat": i, "throughput": point.throughput * factor(point.parallelism, i)})
        for i in range(rounds)
        for point in sweep.points
    ]
    return sweep.model_copy(update={"points": tuple(points)})


def test_every_second_parallelism_is_kept_from_the_fit(calibrations: dict[str, Calibration]) -> None:
    """1, 4, 16, 64, 128, 256 were measured: 4 and 64 are predicted from the rest, the ends never."""
    found = score(calibrations["quiet"])
    assert [row.parallelism for row in found.held] == [4, 64]
    assert found.fitted == (1, 16, 128, 256)


def test_intervals_of_a_point_hold_it_in_a_fast_and_a_slow_round(measurements: Sweeps) -> None:
    """Rounds on a machine 15 % faster and slower than usual: all points are held; without drift they are narrower."""
    drifting = Calibration.of(with_rates(measurements("quiet"), lambda _, i: (0.85, 1.0, 1.15)[i], 3), "drifting")
    calm = Calibration.of(with_rates(measurements("quiet"), lambda _, i: 1.0, 3), "calm")
    for row, narrow in zip(score(drifting).held, score(calm).held, strict=True):
        assert row.within == row.points == 3
        assert row.high / row.low > 1.2 * narrow.high / narrow.low


def test_points_marked_as_holdout_are_those_predicted(measurements: Sweeps) -> None:
    """Marks of the sweep itself win: what it held out is predicted, all else fitted."""
    sweep = measurements("quiet")
    points = tuple(point.model_copy(update={"holdout": point.parallelism in (16, 256)}) for point in sweep.points)
    found = score(Calibration.of(sweep.model_copy(update={"points": points}), "marked"))
    assert [row.parallelism for row in found.held] == [16, 256]
    assert found.fitted == (1, 4, 64, 128)


@pytest.mark.parametrize(("name", "most"), [("devserver", 0.05), ("quiet", 0.08), ("one_shard", 0.15)])
def test_held_out_points_of_real_servers_are_predicted(
    calibrations: dict[str, Calibration], name: str, most: float
) -> None:
    """The dev server within 5 %, the quiet sweep within 8 %, one shard within 15 %; intervals hold every point."""
    found = score(calibrations[name]).to_dict()
    assert found["throughput_error_max"] < most
    assert found["coverage"] == 1


def test_what_is_held_out_does_not_touch_the_fit(measurements: Sweeps) -> None:
    """The held-out points measured twice as high are missed by half: nothing of them leaks into their prediction."""
    honest = score(Calibration.of(measurements("quiet"), "honest"))
    doubled = with_rates(measurements("quiet"), lambda level, _: 2.0 if level in (4, 64) else 1.0)
    fooled = score(Calibration.of(doubled, "doubled"))
    for before, after in zip(honest.held, fooled.held, strict=True):
        assert after.predicted == pytest.approx(before.predicted, rel=1e-9)
        assert after.throughput_error == pytest.approx((1 + before.throughput_error) / 2 - 1, abs=1e-9)
        assert after.within == 0


def test_errors_are_positive_where_too_much_was_predicted(calibrations: dict[str, Calibration]) -> None:
    """A signed error is predicted over measured, less one; the summary has absolute ones."""
    found = score(calibrations["two_cpus"])
    for row in found.held:
        assert row.throughput_error == pytest.approx(row.predicted / row.measured - 1, rel=1e-9)
        assert row.low <= row.predicted <= row.high
    assert found.to_dict()["throughput_error_max"] == max(abs(row.throughput_error) for row in found.held)


def test_the_dictionary_has_the_keys_of_the_command(calibrations: dict[str, Calibration]) -> None:
    """JSON has the error keys the issue names, as fractions, and null where nothing was repeated."""
    found = json.loads(json.dumps(score(calibrations["quiet"]).to_dict()))
    errors = {"throughput_error_median", "throughput_error_max", "p50_error_median", "p99_error_median", "coverage"}
    assert errors <= found.keys()
    assert all(0 <= found[key] <= 1 for key in errors)
    assert found["repeat_noise"] is None


def test_the_table_has_a_line_per_predicted_parallelism(calibrations: dict[str, Calibration]) -> None:
    """A heading and a row for 4 and 64, as wide as the heading."""
    head, *rows = score(calibrations["quiet"]).lines()
    assert [row[0] for row in rows] == ["4", "64"]
    assert all(len(row) == len(head) for row in rows)


def test_repeats_that_differ_by_4_percent_are_a_noise_of_2(measurements: Sweeps) -> None:
    """Equal points 2 % below and above: half their range over their median is 2 %; single points have no noise."""
    twice = with_rates(measurements("quiet"), lambda _, i: 0.98 if i == 0 else 1.02, rounds=2)
    assert repeat_noise(twice) == pytest.approx(0.02)
    assert math.isnan(repeat_noise(measurements("quiet")))


def test_flagged_points_are_neither_fitted_nor_predicted(measurements: Sweeps) -> None:
    """A throttled point at 4 in flight leaves 1, 16, 64, 128, 256, of which 16 and 128 are predicted."""
    sweep = measurements("quiet")
    flagged = tuple(
        point.model_copy(update={"flag": Flag.THROTTLED}) if point.parallelism == 4 else point for point in sweep.points
    )
    found = score(Calibration.of(sweep.model_copy(update={"points": flagged}), "flagged"))
    assert [row.parallelism for row in found.held] == [16, 128]
    assert 4 not in found.fitted


def test_too_few_parallelisms_to_keep_some_is_one_clear_line(measurements: Sweeps) -> None:
    """Two parallelisms are both needed for the fit: the refusal says so, and how to sweep for a score."""
    two = with_rates(measurements("quiet"), lambda _, i: 1 + 0.01 * i, rounds=2)
    two = two.model_copy(update={"points": tuple(point for point in two.points if point.parallelism in (1, 16))})
    with pytest.raises(UsageError, match=r"nothing to predict.*3 different parallelisms or more; sweep with --holdout"):
        score(Calibration.of(two, "two"))


def test_too_few_left_for_the_fit_is_one_clear_line(measurements: Sweeps) -> None:
    """Three single points leave two once one is held out: too few to fit, and the line says how many."""
    sweep = measurements("quiet")
    three = sweep.model_copy(update={"points": sweep.points[:3]})
    with pytest.raises(UsageError, match=r"2 usable points at 2 parallelisms"):
        score(Calibration.of(three, "three"))
