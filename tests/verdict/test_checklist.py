"""The checklist: every limit crossed once and held once, and what was not measured is never a pass."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.observe.joining import joined
from capacity.observe.run import Run
from capacity.verdict import report
from capacity.verdict.checklist import Check, Checklist, check, predicted_rate
from capacity.verdict.measured import held
from capacity.verdict.thresholds import Threshold, thresholds
from tests.model.conftest import measurements_of
from tests.verdict.recorded import recorded, sample, vitals

PREDICTED = 350.0
BASELINE = recorded(parallelism=64, rss_bytes_max=90_000_000)


def at_a_rate(run: Run, rate: float) -> Run:
    """The same run, controlled by an open loop."""
    return run.model_copy(update={"controller": run.controller.model_copy(update={"rate": rate})})


def limits(**changes: dict[str, Any]) -> list[Threshold]:
    return [t.model_copy(update=changes.get(t.key, {})) for t in thresholds()]


def checked(run: Run, **options: Any) -> Checklist:
    return check(run, options.pop("limits", limits()), **{"baseline": BASELINE, "predicted": PREDICTED} | options)


def one(found: Checklist, key: str) -> Check:
    return next(c for c in found.checks if c.key == key)


def watched(seconds: int = 30, **parts: Any) -> dict[str, Any]:
    return {"vitals": [vitals(at + 1, **parts) for at in range(seconds)]}


def leaking(bytes_per_start: float) -> dict[str, Any]:
    """Two minutes in which every start keeps so many bytes, under a saw-tooth of the collector."""
    seconds, rate = 120, 300
    rss = [100_000_000 + int(bytes_per_start * rate * at) + 200_000 * (at % 7) for at in range(1, seconds + 1)]
    samples = [vitals(at + 1, launcher={"rss_bytes": rss[at]}) for at in range(seconds)]
    return {"seconds": seconds, "rate": rate, "vitals": samples}


POOL = {"max_open": 20, "open": 20, "idle": 0}
CROSSED: dict[str, dict[str, Any]] = {
    "throughput": {"rate": 149_000},
    "postgres_cpu": watched(postgres={"cpus_used": 1.72}),
    "start_p99": {"p99": 0.051},
    "start_p99_expected": {"p99": 0.011},
    "tasks": watched(launcher={"tasks": 990}),
    "memory_overhead": {"rss_bytes_max": 111_000_000},
    "batch_duration": {"seconds": 5, "rate": 150_000},
    "throughput_predicted": {"rate": 279},
    "connections": watched(postgres={"connections_used": 241}),
    "failed": {"scheduled": 8999, "failed": 1, "errors": {"INVALID_ARGUMENT": 1}},
    "throttled": {"attempts": 9200, "throttled_attempts": 200, "throttle_cause": "RPS_LIMIT"},
    "launcher_cpu": watched(launcher={"cpus_used": 0.95}),
    "leak": leaking(2000),
    "create_p99": watched(server={"create_p99": 0.06}),
    "sql_pool": {"seconds": 80, **watched(80, server={"sql_pools": {"history main": {**POOL, "in_use": 19}}})},
    "server_goroutines": {"seconds": 80, **watched(80, server={"goroutines": 20_001})},
}
HELD: dict[str, dict[str, Any]] = {
    "throughput": {"rate": 151_000},
    "batch_duration": {"seconds": 3, "rate": 250_000},
    "throughput_predicted": {"rate": 281},
    "leak": leaking(500),
    "sql_pool": {"seconds": 80},
    "server_goroutines": {"seconds": 80},
}


@pytest.mark.parametrize("key", [t.key for t in thresholds()])
def test_each_limit_crossed_and_held(key: str) -> None:
    """A record beyond a limit fails that check, one inside passes it; each shows its value, limit and source."""
    crossed = one(checked(recorded(**CROSSED[key])), key)
    held_ = one(checked(recorded(**HELD.get(key, {}))), key)
    assert (crossed.state, held_.state) == ("fail", "pass")
    assert crossed.value is not None
    assert crossed.limit is not None
    outside = crossed.value < crossed.limit if crossed.bound == "at least" else crossed.value > crossed.limit
    assert outside
    assert crossed.source in crossed.explanation


def test_a_healthy_run_passes_all_that_is_critical() -> None:
    """With everything measured and inside, the verdict is pass and the exit code 0, though 150,000/s is not reached."""
    found = checked(recorded())
    assert (found.verdict, found.exit_code) == ("pass", 0)
    assert [c.key for c in found.of("fail")] == ["throughput", "batch_duration"]
    assert found.sentence().startswith("PASS: all 9 critical checks hold; 1 warning: sustained throughput 300/s")


def test_both_throughputs_are_shown() -> None:
    """The original's 150,000/s and 80 % of the prediction stand side by side, each with its own verdict."""
    found = checked(recorded())
    assert (one(found, "throughput").limit, one(found, "throughput").state) == (150_000, "fail")
    assert (one(found, "throughput_predicted").limit, one(found, "throughput_predicted").state) == (280, "pass")


def test_one_failed_critical_check_decides() -> None:
    """One critical failure gives exit code 1; the same failure as a warning gives 0."""
    run = recorded(p99=0.06)
    assert (checked(run).verdict, checked(run).exit_code) == ("fail", 1)
    mild = checked(run, limits=limits(start_p99={"severity": "warning"}))
    assert (mild.verdict, mild.exit_code) == ("pass", 0)


# -- windows -----------------------------------------------------------------------------------------------------------


def spike(seconds: int, used: float = 1.9) -> Run:
    """Thirty seconds, so many of them with PostgreSQL at 95 % of its CPUs."""
    parts = [{"postgres": {"cpus_used": used}} if 10 <= at < 10 + seconds else {} for at in range(30)]
    return recorded(vitals=[vitals(at + 1, **part) for at, part in enumerate(parts)])


@pytest.mark.parametrize(("seconds", "state"), [(9, "pass"), (10, "fail"), (20, "fail")])
def test_sustained_is_ten_seconds_without_a_break(seconds: int, state: str) -> None:
    """PostgreSQL above 85 % for nine seconds is a peak, for ten it is sustained."""
    assert one(checked(spike(seconds)), "postgres_cpu").state == state


@pytest.mark.parametrize(("key", "part"), [("sql_pool", "sql_pools"), ("server_goroutines", "goroutines")])
def test_one_reading_of_a_minute_is_not_sustained(key: str, part: str) -> None:
    """What a server measures once a minute stands in sixty samples: one such reading beyond the limit fails no run.

    Two in a row do, and a run shorter than that is not measured.
    """
    beyond = {"sql_pools": {"history main": {**POOL, "in_use": 20}}, "goroutines": 30_000}
    before, full = {"server": {part: None}}, {"server": {part: beyond[part]}}

    def state(*parts: dict[str, Any]) -> str:
        run = recorded(len(parts), vitals=[vitals(at + 1, **part) for at, part in enumerate(parts)])
        return one(checked(run), key).state

    assert state(*[before] * 10, *[full] * 45) == "not measured"
    assert state(*[before] * 10, *[full] * 60, *[{}] * 60) == "pass"
    assert state(*[before] * 10, *[full] * 120) == "fail"


@pytest.mark.parametrize(("key", "part"), [("sql_pool", "sql_pools"), ("server_goroutines", "goroutines")])
def test_the_minute_before_a_first_reading_is_no_gap(key: str, part: str) -> None:
    """Up to 61 s go by before a figure of once a minute is of the run: what counts is from there on, and that is said.

    A server that did not answer, then or later, was not measured for that time.
    """
    before, away = {"server": {part: None}}, {"server": None}

    def found(*parts: dict[str, Any]) -> tuple[str, str]:
        run = recorded(len(parts), vitals=[vitals(at + 1, **part) for at, part in enumerate(parts)])
        check = one(checked(run), key)
        return check.state, check.why

    assert found(*[before] * 61, *[{}] * 75) == ("pass", "measured once a minute, so from its first reading on")
    assert found(*[{}] * 75) == ("pass", "")
    assert found(*[away] * 61, *[{}] * 75) == ("not measured", "only 55% of the run was measured")
    assert found(*[before] * 61, *[{}] * 75, *[away] * 61)[0] == "not measured"


def test_the_users_window_counts() -> None:
    """With a window of five seconds a peak of six fails."""
    assert one(checked(spike(6), limits=limits(postgres_cpu={"window": 5.0})), "postgres_cpu").state == "fail"


def in_pairs(run: Run, times: int) -> Run:
    """The same run as a longer watch keeps it: of its samples every two joined to one, and that so many times."""
    samples = run.vitals
    for _ in range(times):
        samples = [joined(samples[at : at + 2]) for at in range(0, len(samples), 2)]
    return Run.model_validate_json(run.model_copy(update={"vitals": samples}).model_dump_json())


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_joined_samples_are_judged_as_those_they_were_joined_from(times: int) -> None:
    """What is beyond its limit every other second was held at no time, what is so for a minute was, in a long run too.

    Nor does a PostgreSQL that answers one second in four become one that was measured.
    """

    def state(key: str, *parts: dict[str, Any]) -> str:
        run = recorded(len(parts), vitals=[vitals(at + 1, **part) for at, part in enumerate(parts)])
        return one(checked(in_pairs(run, times)), key).state

    calm, busy = {"launcher": {"tasks": 100}}, {"launcher": {"tasks": 1100}}
    assert state("tasks", *[calm, busy] * 96) == "pass"
    assert state("tasks", *[calm] * 64, *[busy] * 64, *[calm] * 64) == "fail"
    few, many = ({"postgres": {"connections_used": used}} for used in (30, 270))
    assert state("connections", *[few, many] * 96) == "pass"
    away: dict[str, Any] = {"postgres": None}
    assert state("postgres_cpu", *[away, away, away, {}] * 48) == "not measured"
    assert state("postgres_cpu", *[*[{}] * 7, away] * 24) == "not measured"
    assert state("postgres_cpu", *[*[{}] * 15, away] * 12) == "pass"
    assert state("server_goroutines", *[{"server": {"goroutines": None}}] * 61, *[{}] * 131) == "pass"


def test_samples_that_were_joined_without_their_lowest_are_judged_by_what_they_have() -> None:
    """A record of before that was kept is read, and its figures are those of its samples."""
    samples = [{**vitals(2 * at + 2.0), "postgres": vitals(0)["postgres"] | {"cpus_used": 1.9}} for at in range(15)]
    assert one(checked(recorded(vitals=samples)), "postgres_cpu").state == "fail"


def test_a_dip_of_throughput_is_found() -> None:
    """Ten seconds at 100/s in a run of 400/s fail the prediction's share; the run's mean would have hidden them."""
    rates = [400] * 20 + [100] * 10 + [400] * 20
    series = [sample(at + 1, rate) for at, rate in enumerate(rates)]
    found = one(checked(recorded(50, 340, series=series)), "throughput_predicted")
    assert (found.state, found.value) == ("fail", 100)


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=40), st.integers(1, 12))
def test_held_is_what_brute_force_finds(values: list[float | None], window: int) -> None:
    """The worst held value is the highest minimum over all unbroken stretches of the window."""
    stretches = [values[i : i + window] for i in range(len(values) - window + 1)]
    whole = [[v for v in s if v is not None] for s in stretches]
    expected = max((min(s) for s in whole if len(s) == window), default=None)
    assert held([(1.0, v) for v in values], window, "at most").value == expected
    lowest = min((max(s) for s in whole if len(s) == window), default=None)
    assert held([(1.0, v) for v in values], window, "at least").value == lowest


# -- not measured ------------------------------------------------------------------------------------------------------


def test_an_unwatched_run_is_no_pass() -> None:
    """Without vitals everything they would tell is not measured, the verdict incomplete, and the sentence says what."""
    found = checked(recorded(vitals=[]))
    assert {c.key for c in found.of("not measured", "critical")} == {"postgres_cpu", "tasks", "launcher_cpu"}
    assert (found.verdict, found.exit_code) == ("incomplete", 0)
    assert found.sentence().startswith("NOT A PASS: no critical check failed; not measured: launcher CPU, PostgreSQL")


def test_a_missing_component_gives_its_reason() -> None:
    """Why PostgreSQL was not read stands beside the check; it is neither 0 nor a pass."""
    run = recorded(**watched(postgres=None, missing={"postgres": "no answer: connection refused"}))
    found = one(checked(run), "postgres_cpu")
    assert (found.state, found.value) == ("not measured", None)
    assert "connection refused" in found.explanation


def test_too_short_is_not_measured() -> None:
    """Five seconds cannot show ten, whatever they show."""
    found = checked(recorded(5, 300, p99=0.001, **watched(5)))
    for key in ("throughput", "throughput_predicted", "postgres_cpu", "tasks"):
        assert one(found, key).state == "not measured"
        assert "10 s are needed" in one(found, key).explanation


def test_what_was_too_short_does_not_read_as_long_enough() -> None:
    """Less than the seconds that are needed is never rounded up to these."""
    assert held([(0.9, 0.5)] * 3, 3, "at most").why == "measured for 2.7 s without a break, 3 s are needed"
    found = one(checked(recorded(60, duration_seconds=59.99)), "leak")
    assert found.explanation == "the run took 59.9 s, 60 s are needed"


def test_what_was_not_watched_names_no_option_of_the_command() -> None:
    """A run of a notebook has no command line: the words are true there too."""
    unwatched = checked(recorded(vitals=[]), baseline=None)
    without = checked(recorded(**watched(postgres=None)), baseline=None)
    told = [check.explanation for found in (unwatched, without) for check in found.of("not measured")]
    assert [words for words in told if "--" in words] == []
    assert one(without, "postgres_cpu").explanation.startswith("PostgreSQL was not watched: the launch was not told")


def test_half_a_run_fails_but_does_not_pass() -> None:
    """A watch that lost PostgreSQL for half of the run may prove a failure, never a pass."""

    def half(used: float) -> str:
        parts = [{"postgres": {"cpus_used": used} if at < 15 else None} for at in range(30)]
        run = recorded(vitals=[vitals(at + 1, **part) for at, part in enumerate(parts)])
        return one(checked(run), "postgres_cpu").state

    assert (half(1.9), half(0.1)) == ("fail", "not measured")


def test_without_a_prediction_its_share_is_not_measured() -> None:
    """No calibration named: no number is made up, and what to name is said for command and notebook alike."""
    found = one(checked(recorded(), predicted=None), "throughput_predicted")
    assert (found.state, found.limit) == ("not measured", None)
    assert found.why == "nothing was predicted: name the calibration to predict by"


def test_a_prediction_that_is_no_number_passes_nothing() -> None:
    """Neither a prediction nor a figure of nan is a pass: both compare as false with every limit."""
    found = checked(recorded(), predicted=math.nan)
    assert one(found, "throughput_predicted").state == "not measured"
    json.dumps(found.to_dict(), allow_nan=False)
    odd = recorded().model_copy(update={"rss_bytes_max": math.nan})
    assert one(checked(odd), "memory_overhead").state == "not measured"


def test_a_cluster_whose_cpus_are_unknown_is_not_predicted_for() -> None:
    """For Temporal Cloud there is no number, and so no line that could pass."""
    calibration = Calibration.of(measurements_of("quiet"), "test")
    with pytest.raises(UsageError, match="its CPUs are not known"):
        predicted_rate(recorded(), calibration, Cluster.load("temporal-cloud"))


def test_launchers_of_a_fleet_are_not_measured() -> None:
    """The process that only looks on is no launcher: no limit of a launcher passes, whatever that process needs."""
    missing = {"launcher": "the launchers are a fleet's"}
    found = checked(
        recorded(120, processes=40, vitals=[vitals(at + 1, launcher=None, missing=missing) for at in range(120)])
    )
    for key in ("launcher_cpu", "tasks", "leak"):
        assert (one(found, key).state, "a fleet's" in one(found, key).why) == ("not measured", True), key


def test_without_a_series_no_leak_is_looked_for() -> None:
    """A record with vitals and no series is judged, not a traceback."""
    found = one(checked(recorded(**leaking(500)).model_copy(update={"series": []})), "leak")
    assert (found.state, found.why) == ("not measured", "the run has no series")


@pytest.mark.parametrize(
    ("baseline", "why"),
    [
        (None, "needs a run to compare with, its baseline"),
        (recorded(rate=600, parallelism=64), "18,000 items"),
        (recorded(parallelism=128), "not fewer"),
        (recorded(parallelism=64, processes=2), "the baseline has 2 launcher processes, this run 1"),
        (at_a_rate(recorded(parallelism=64), 50.0), "no fixed number in flight"),
    ],
)
def test_memory_overhead_needs_a_like_baseline(baseline: Run | None, why: str) -> None:
    """Memory over a baseline is measured only against a smaller pool on a batch of the same size."""
    found = one(checked(recorded(), baseline=baseline), "memory_overhead")
    assert found.state == "not measured"
    assert why in found.explanation


def test_the_baselines_figures_stand_beside() -> None:
    """What the baseline run had is shown for every figure both have."""
    found = one(checked(recorded(p99=0.02), baseline=recorded(p99=0.006, parallelism=64)), "start_p99")
    assert (found.value, found.baseline_value) == (0.02, 0.006)
    assert "baseline run: 6 ms" in found.explanation


def test_the_launchers_cpu_is_that_of_one_process() -> None:
    """1.2 CPUs are beyond what one launcher process can use, and room to spare for two."""
    busy = watched(launcher={"cpus_used": 1.2})
    alone, two = (
        one(checked(recorded(**busy)), "launcher_cpu"),
        one(checked(recorded(processes=2, **busy)), "launcher_cpu"),
    )
    assert (alone.state, two.state, two.value) == ("fail", "pass", 0.6)
    assert "of each of 2 processes" in two.explanation


def test_a_p99_of_a_few_starts_is_none() -> None:
    """The p99 of 60 starts is only their slowest."""
    assert one(checked(recorded(30, 2)), "start_p99").state == "not measured"


def test_a_warm_up_of_few_starts_is_no_leak() -> None:
    """4 MB more over 2,000 starts, as seen on a real stack, are no leak: too few starts to tell."""
    rss = [95_000_000 + 60_000 * at for at in range(70)]
    samples = [vitals(at + 1, launcher={"rss_bytes": rss[at]}) for at in range(70)]
    found = one(checked(recorded(70, 57, vitals=samples)), "leak")
    assert found.state == "not measured"
    assert "10,000 are needed" in found.explanation


def test_a_batch_that_was_there_already_has_no_throughput() -> None:
    """Where most items were running already, the rate of starts says nothing about the cluster."""
    run = recorded(30, 10, count=9000, already_running=8700, verified=9000)
    assert one(checked(run), "throughput_predicted").state == "not measured"


# -- is it real --------------------------------------------------------------------------------------------------------


def test_the_originals_claim_was_a_burst() -> None:
    """1,000 starts in 8 ms are 125,000/s, and all fit into the burst of a limit of 2,400/s."""
    run = recorded(
        vitals=[],
        count=1000,
        scheduled=1000,
        session_scheduled=1000,
        verified=1000,
        attempts=1000,
        duration_seconds=0.008,
        starts_per_second=125_000.0,
        sustained_starts_per_second=None,
        series=[],
    )
    found = one(checked(run), "longer_than_burst")
    assert found.state == "fail"
    assert "fit into the burst of 4,800" in found.explanation


@pytest.mark.parametrize(
    ("rate", "sustained", "state"), [(500.0, 300.0, "fail"), (310.0, 300.0, "pass"), (500.0, None, "fail")]
)
def test_a_throttled_run_is_judged_by_what_came_after_the_burst(
    rate: float, sustained: float | None, state: str
) -> None:
    """Where attempts were refused, the rate of the whole run must be that after the burst, and there must be one."""
    run = recorded(
        throttled_attempts=50,
        throttle_cause="RPS_LIMIT",
        starts_per_second=rate,
        sustained_starts_per_second=sustained,
    )
    assert one(checked(run), "longer_than_burst").state == state


def test_a_rate_after_the_ramp_above_the_limit_is_not_called_below_it() -> None:
    """2,450/s sustained is above a limit of 2,400/s, whatever the mean of the whole run is."""
    for seconds in (2, 30):
        run = recorded(seconds, 2390).model_copy(update={"sustained_starts_per_second": 2450.0})
        found = one(checked(run), "longer_than_burst")
        assert found.state != "pass"
        assert "2,450/s" in found.why


def test_a_second_is_too_short_to_tell() -> None:
    """A run of two seconds below every limit is not called real, and not called false."""
    assert one(checked(recorded(2, 300)), "longer_than_burst").state == "not measured"


def test_the_clusters_own_limit_tells_the_burst() -> None:
    """A described limit replaces the default: 300/s are a burst where the namespace has 100/s."""
    described = Cluster(
        name="small", cores=2, limits={"frontend.namespaceRPS": 100, "frontend.namespaceBurstRatio": 90}
    )
    found = one(checked(recorded(), cluster=described), "longer_than_burst")
    assert (found.state, "frontend.namespaceRPS of small" in found.explanation) == ("fail", True)


@pytest.mark.parametrize("key", ["frontend.globalNamespaceRPS", "frontend.globalRPS", "history.rps"])
def test_any_configured_rate_may_be_what_a_burst_passed(key: str) -> None:
    """600/s for 5 s all fit into the burst of a limit of 500/s, whichever key sets it."""
    described = Cluster(name="global", cores=2, frontends=2, limits={key: 500})
    found = one(checked(recorded(5, 600), cluster=described), "longer_than_burst")
    assert (found.state, f"{key} of global" in found.explanation) == ("fail", True)
    assert re.search(
        r"fit into the burst of [0-9,]+ of a limit of [0-9,]+/s .* and the [0-9,]+ it admits in 5\.0 s",
        found.explanation,
    )


def test_above_every_known_limit_and_never_refused_cannot_be_told() -> None:
    """A rate above the limit that outlasts the burst, and was not refused, means the limit is another."""
    run = recorded(30, 10_000, vitals=[])
    assert one(checked(run), "longer_than_burst").state == "not measured"


def test_duplicates_in_the_rate_are_found() -> None:
    """A rate that counts what was already running, as the original's did, is no throughput."""
    run = recorded(session_scheduled=4500, scheduled=4500, already_running=4500)
    found = one(checked(run), "starts_only")
    assert found.state == "fail"
    assert "stands for 9,000 starts, but the run created 4,500" in found.explanation
    assert one(checked(recorded()), "starts_only").state == "pass"


@pytest.mark.parametrize(("verified", "state"), [(9000, "pass"), (8999, "fail"), (None, "not measured")])
def test_the_server_must_have_counted(verified: int | None, state: str) -> None:
    """Verified is what the server says: one missing fails, not asked is not measured."""
    assert one(checked(recorded(verified=verified)), "verified").state == state


# -- the prediction ----------------------------------------------------------------------------------------------------


def test_the_prediction_is_for_how_the_run_was_controlled() -> None:
    """The model is asked for the run's own parallelism; an open loop gets its rate where any number in flight gives it.

    On one shard 512 in flight, as many as a rate may have, give less than a few do.
    """
    from capacity.model.prediction import predict

    calibration = Calibration.of(measurements_of("quiet"), "test")
    run = recorded()
    expected = float(predict(calibration, (128,), draws=0).throughput.value[0])
    assert predicted_rate(run, calibration) == pytest.approx(expected)
    assert predicted_rate(at_a_rate(run, 50.0), calibration) == 50
    one_shard = Calibration.of(measurements_of("one_shard"), "test")
    wide = recorded(parallelism=512)
    most = predicted_rate(wide, one_shard)
    for rate, predicted in ((1.1 * most, 1.1 * most), (100_000, most)):
        assert predicted_rate(at_a_rate(wide, rate), one_shard) == pytest.approx(predicted)


# -- how it reads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [recorded(), recorded(p99=0.3, vitals=[]), recorded(2, 300_000)])
def test_text_fits_80_columns_and_holds_every_check(run: Run) -> None:
    """Each check is a line with state and figures; nothing is wider than 80 columns."""
    found = checked(run)
    lines = report.as_text(found).splitlines()
    assert max(map(len, lines)) <= 80
    for each in found.checks:
        state = "FAIL" if (each.state, each.severity) == ("fail", "critical") else each.state
        assert any(line.startswith(state) and each.title in line for line in lines), each.key


def test_what_failed_says_what_to_do() -> None:
    """Each failed critical check has a next step below the verdict, in every form; a run that passes has none."""
    failed, passed = checked(recorded(p99=0.3, **watched(launcher={"cpus_used": 0.95}))), checked(recorded())
    assert [title for title, _ in failed.advice()] == ["launcher CPU", "p99 of a start"]
    for form in (report.as_text, report.as_markdown, report.as_html):
        assert "capacity rollback --to 2x" in " ".join(form(failed).replace("&#x27;", "'").split())
        assert "capacity rollback" not in form(passed)
    assert failed.to_dict()["advice"].keys() == {"launcher CPU", "p99 of a start"}


def test_markdown_has_a_row_of_six_cells_per_check() -> None:
    """Every check is one table row, whatever its texts hold."""
    found = checked(recorded(failed=1, errors={"a|b": 1}))
    rows = [line for line in report.as_markdown(found).splitlines() if line.startswith("| ")]
    assert len(rows) == len(found.checks) + 2
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}


def test_json_holds_everything() -> None:
    """The dict is JSON and has value, limit, unit, window, severity and source of every check."""
    data = json.loads(json.dumps(checked(recorded()).to_dict()))
    assert (data["verdict"], data["predicted_starts_per_second"]) == ("pass", PREDICTED)
    cpu = next(row for row in data["checks"] if row["key"] == "postgres_cpu")
    assert (cpu["value"], cpu["limit"], cpu["window"], cpu["severity"]) == (0.32, 0.85, 10, "critical")
    assert cpu["source"].startswith("the original")


def test_html_escapes_what_a_server_said() -> None:
    """Text from elsewhere cannot become markup, and states are words, not colours alone."""
    found = checked(recorded(failed=1, errors={"<script>": 1}))
    for text in (found._repr_html_(), report.as_page(found)):
        assert "<script>" not in text
        assert ">FAIL</b>" in text


def test_a_check_says_what_the_figure_was_and_was_expected_to_be() -> None:
    """The original's baseline and expectation stand beside the value, in its unit; so does a limit for so many."""
    found = checked(recorded())
    assert one(found, "postgres_cpu").why == "before the change 32%, expected after it 50% to 60%"
    assert one(found, "batch_duration").why == (
        "9,000 starts; the limit is 4.0 s for 750,000; expected after it 3.0 s to 4.0 s for 750,000"
    )
    assert one(found, "failed").why == ""
