"""The limits: the original's number for number, and a user's own over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.score import score
from capacity.verdict.thresholds import Threshold, quantity, thresholds


def by_key(file: Path | None = None) -> dict[str, Threshold]:
    return {threshold.key: threshold for threshold in thresholds(file)}


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("key", "bound", "limit", "unit", "window", "baseline", "expected"),
    [
        ("throughput", "at least", 150_000, "starts/s", 10, (125_000, 125_000), (200_000, 200_000)),
        ("postgres_cpu", "at most", 0.85, "share", 10, (0.32, 0.32), (0.5, 0.6)),
        ("start_p99", "at most", 0.050, "s", 0, None, None),
        ("start_p99_expected", "at most", 0.010, "s", 0, None, None),
        ("tasks", "at most", 1000, "count", 10, (100, 200), (250, 350)),
        ("memory_overhead", "at most", 20e6, "bytes", 0, None, (10e6, 20e6)),
        ("batch_duration", "at most", 4, "s", 0, None, (3, 4)),
    ],
)
def test_the_originals_numbers(
    key: str,
    bound: str,
    limit: float,
    unit: str,
    window: float,
    baseline: tuple[float, float] | None,
    expected: tuple[float, float] | None,
) -> None:
    """Each limit of the original's document is shipped with its number, unit, window, baseline and expectation."""
    found = by_key()[key]
    assert (found.bound, found.limit, found.unit, found.window) == (bound, limit, unit, window)
    assert (found.baseline, found.expected) == (baseline, expected)
    assert found.source.startswith("the original")


def test_the_originals_come_first_and_each_has_a_source() -> None:
    """The list opens with the original's seven; every limit says who set it."""
    found = thresholds()
    assert [t.source.startswith("the original") for t in found] == [True] * 7 + [False] * (len(found) - 7)
    assert all(t.source and t.severity in ("critical", "warning", "info") for t in found)


def test_connections_are_not_cpu() -> None:
    """95 of 300 connections stand as the connections' baseline, which the original called PostgreSQL at 32 %."""
    assert by_key()["connections"].baseline == (0.317, 0.317)
    assert round(95 / 300, 3) == 0.317
    assert "95 of 300" in by_key()["postgres_cpu"].source


def test_the_limit_itself_is_not_crossed() -> None:
    """On the limit is still inside, for both bounds."""
    found = by_key()
    assert [found["start_p99"].crossed(v) for v in (0.049, 0.05, 0.0501)] == [False, False, True]
    assert [found["throughput"].crossed(v) for v in (149_999, 150_000, 150_001)] == [True, False, False]


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    """A user's limit and severity replace the shipped ones; all other keys and thresholds stay."""
    file = written(tmp_path, '[start_p99]\nlimit = 0.2\nseverity = "warning"\nsource = "our SLO"\n')
    before, after = by_key(), by_key(file)
    assert (after["start_p99"].limit, after["start_p99"].severity, after["start_p99"].source) == (
        0.2,
        "warning",
        "our SLO",
    )
    assert after["start_p99"].unit == before["start_p99"].unit
    assert {k: v for k, v in after.items() if k != "start_p99"} == {k: v for k, v in before.items() if k != "start_p99"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[start_p9]\nlimit = 1\n", r"unknown threshold: 'start_p9'; did you mean start_p99\?"),
        ("[zzz]\nlimit = 1\n", "unknown threshold: 'zzz'; allowed: throughput, postgres_cpu"),
        ("[start_p99]\nlimt = 1\n", r"unknown key of \[start_p99\]: 'limt'; did you mean limit\?"),
        ("[start_p99]\nfigure = 'tasks'\n", r"unknown key of \[start_p99\]: 'figure'"),
        ("start_p99 = 0.1\n", r"start_p99 is 0.1; allowed: a table, \[start_p99\]"),
        ("[start_p99]\nlimit = '50 ms'\n", r"limit of \[start_p99\] is '50 ms'; allowed: a number of at least 0"),
        ("[start_p99]\nlimit = true\n", r"limit of \[start_p99\] is 'True'"),
        ("[start_p99]\nlimit = -1\n", r"limit of \[start_p99\] is '-1'"),
        ("[start_p99]\nlimit = nan\n", r"limit of \[start_p99\] is 'nan'"),
        ("[postgres_cpu]\nlimit = 85\n", r"limit of \[postgres_cpu\] is 85; allowed: a share .*; 85% is 0.85"),
        ("[tasks]\nseverity = 'fatal'\n", r"severity of \[tasks\] is 'fatal'; allowed: critical, warning, info"),
        ("[tasks]\nwindow = -1\n", r"window of \[tasks\] is '-1'; allowed: seconds from 0"),
        ("[start_p99]\nwindow = 60\n", r"window of \[start_p99\] is 60; allowed: no window: .* of the whole run"),
        ("[throttled]\nwindow = 30\n", r"window of \[throttled\] is 30; allowed: no window"),
        ("[failed]\nlimit = 5\nper = 1000\n", r"per of \[failed\] is 1000; allowed: no per: its limit is not for"),
        ("[leak]\nalert_for = 30\n", r"alert_for of \[leak\] is 30; allowed: no alert_for: no alert watches it"),
        ("[tasks]\nexpected = [1]\n", r"expected of \[tasks\] is '\[1\]'; allowed: two numbers"),
        (
            '[tasks]\ntitle = "a\\nb"\n',
            r"title of \[tasks\] is 'a\\nb'; allowed: text of 1 to 24 characters on one line",
        ),
        ("[tasks\n", "is not TOML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    """A misspelt name suggests the nearest; a wrong value is named with its table and what is allowed."""
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=expected) as caught:
        thresholds(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_key_of_a_threshold_can_be_changed_where_it_is_shipped(tmp_path: Path) -> None:
    """A window, a wait and a number of starts are changed where there are such, and only there."""
    file = written(tmp_path, "[batch_duration]\nper = 1000\n[tasks]\nwindow = 5.0\nalert_for = 9.0\n")
    after = by_key(file)
    assert (after["batch_duration"].per, after["tasks"].window, after["tasks"].alert_for) == (1000, 5, 9)


def test_what_says_no_more_than_the_default_is_taken(tmp_path: Path) -> None:
    """A figure of the whole run has no window: 0 s says just that, and stood in the shipped file that people copy."""
    whole = ("start_p99", "failed", "throttled", "memory_overhead", "batch_duration")
    assert by_key(written(tmp_path, "".join(f"[{key}]\nwindow = 0\n" for key in whole))) == by_key()


@pytest.mark.parametrize("name", ["nowhere.toml", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    """A missing file and a folder are refused by path."""
    with pytest.raises(UsageError, match="cannot read thresholds"):
        thresholds(tmp_path / name)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 is no TOML."""
    file = tmp_path / "latin.toml"
    file.write_bytes(b"[tasks]\nsource = '\xff'\n")
    with pytest.raises(UsageError, match="is not TOML"):
        thresholds(file)


def test_every_limit_can_be_shown() -> None:
    """No limit reads as nothing or in another unit than its own."""
    shown = {key: quantity(t.limit, t.unit) for key, t in by_key().items()}
    assert shown["throughput"] == "150,000/s"
    assert shown["postgres_cpu"] == "85%"
    assert shown["memory_overhead"] == "20 MB"
    assert "-" not in shown.values()


def test_the_limit_on_a_prediction_quotes_its_score() -> None:
    """How far predictions are off is said as `capacity score postgres` has it, and the limit lies beyond the worst."""
    found, threshold = score(Calibration.named("postgres")).to_dict(), by_key()["throughput_predicted"]
    median, worst = (float(str(found[f"throughput_error_{which}"])) for which in ("median", "max"))
    assert f"{median:.0%} off in the median, {worst:.0%} at worst" in threshold.source
    assert threshold.limit < 1 / (1 + worst)
