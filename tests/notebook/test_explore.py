"""The explorer: set a control, read what follows. No kernel, no browser, no server."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import capacity
from capacity.errors import CapacityError, UsageError
from capacity.model.calibration import Calibration
from capacity.model.outlook import Outlook
from capacity.model.words import span
from capacity.notebook import Explorer, explore
from capacity.rules import tuning_table


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCHEDULER_MAX_PARALLELISM", "SCHEDULER_BATCH_MAX_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def shared() -> Explorer:
    """One figure for the module: each takes half a second to make."""
    return explore(8)


@pytest.fixture
def explorer(shared: Explorer) -> Explorer:
    """The explorer on postgres-dev at 8 CPUs, 4 per CPU, batches of 1,000, p99 100 ms, 256 MiB, no override."""
    controls = shared.controls
    controls.cluster.path.value = controls.calibration.path.value = ""
    controls.cluster.choose("postgres-dev")
    for name, value in (("cpus", 8), ("multiplier", 4), ("batch", 1000), ("override", 0), ("memory", 256)):
        getattr(controls, name).value = value
    controls.p99.value = 100.0
    return shared


def cells(explorer: Explorer, kind: str) -> list[str]:
    """The text of the cells of a class."""
    found = re.findall(rf'<td class="[^"]*\b{kind}\b[^>]*>(.*?)</td>', explorer.table.value)
    return [" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in found]


def title(explorer: Explorer) -> str:
    return " ".join(re.sub("<[^>]+>", " ", explorer.figure.plotly.layout.title.text).split())


def planned(explorer: Explorer) -> str:
    """How long the batch takes by `capacity plan`."""
    return explorer.outlook.rows()[explorer.outlook.here][-1]


def drawn(explorer: Explorer, name: str) -> list[tuple[float, float]]:
    """Points of the upper panel's trace of that name."""
    trace = next(trace for trace in explorer.figure.plotly.data if trace.name == name and trace.yaxis == "y")
    return list(zip(trace.x, trace.y, strict=True))


def test_it_starts_with_the_cpus_of_this_process() -> None:
    """Without an argument the explorer shows this machine, and it is there as `capacity.explore`."""
    assert capacity.explore().plan.cpus == min(capacity.available_cpus().count, 512)


def test_a_slider_moves_box_table_sizes_and_figure(explorer: Explorer) -> None:
    """Moving CPUs to 64 shows 256 in flight everywhere."""
    explorer.controls.cpus.slider.value = 64
    assert explorer.controls.cpus.box.value == 64
    assert explorer.plan.parallelism.value == 256
    assert cells(explorer, "now")[0].startswith("now 256")
    assert "<b>256 in flight</b>" in explorer.summary.value
    assert "queue of 256,000" in explorer.summary.value
    assert title(explorer).startswith("4x on 64 CPUs")
    assert [x for x, _ in drawn(explorer, "this plan")] == [256]


def test_table_figure_and_sentence_say_the_same(explorer: Explorer) -> None:
    """Starts per second of the marked cell, of the figure's mark and of the status line are one number."""
    explorer.controls.cpus.value = 32
    (mark,) = drawn(explorer, "this plan")
    said = f"{mark[1]:,.0f}"
    assert f"{said}/s" in cells(explorer, "now")[0]
    assert f"{said} starts/s" in explorer.summary.value
    assert explorer.scene.at(128)[0] == pytest.approx(mark[1])
    assert dict(drawn(explorer, "predicted"))[128] == pytest.approx(mark[1])


def test_what_is_shown_is_what_the_model_predicts(explorer: Explorer) -> None:
    """The marked cell's p99 and throughput are those of `capacity.predict` for the same cluster."""
    choice = explorer.scene.choice
    found = capacity.predict(choice.calibration, (32,), cluster=choice.cluster, draws=0)
    assert explorer.scene.at(32) == pytest.approx((found.throughput.value[0], found.p99.value[0]), rel=0.01)


def test_more_cores_move_curve_ceiling_and_knee(explorer: Explorer) -> None:
    """With 16 times the cores the plan gets more, the CPUs' ceiling rises as much, and the knee lies further out."""
    before, knee = explorer.scene.at(32)[0], explorer.scene.knee
    ceiling = next(c.rate for c in explorer.scene.ceilings if c.name == "2 CPUs")
    explorer.controls.cores.slider.value = 32
    assert explorer.scene.at(32)[0] > 4 * before
    assert explorer.scene.knee > knee
    assert next(c.rate for c in explorer.scene.ceilings if c.name == "32 CPUs") == pytest.approx(16 * ceiling)


def test_a_request_limit_caps_the_curve_and_is_named(explorer: Explorer) -> None:
    """At 100 requests a second nothing of the figure exceeds 100, and the title names the key."""
    explorer.controls.rps.value = 100
    assert max(y for _, y in drawn(explorer, "predicted")) == 100
    assert "frontend.rps binds at 100/s" in title(explorer)
    notes = [note.text for note in explorer.figure.plotly.layout.annotations if note.visible]
    assert any("frontend.rps" in note and "100/s" in note for note in notes)
    assert explorer.scene.choice.cluster.limits["frontend.namespaceRPS"] == 100


def test_fewer_shards_and_connections_lower_the_curve(explorer: Explorer) -> None:
    """On 200 cores one shard, or one connection, gives far less than 64 of them."""
    explorer.controls.cores.value = 200
    free = explorer.scene.at(32)[0]
    explorer.controls.shards.value = 1
    assert explorer.scene.at(32)[0] < free / 4
    explorer.controls.shards.value = 64
    explorer.controls.connections.value = 1
    assert explorer.scene.at(32)[0] < free / 4


def test_network_delay_lowers_what_one_in_flight_gets(explorer: Explorer) -> None:
    """100 ms there and back leave one start in flight fewer than 10 a second, and more in flight make up for it."""
    explorer.controls.delay.box.value = 100.0
    assert explorer.scene.at(1)[0] < 10
    assert explorer.scene.at(16)[0] == pytest.approx(16 * explorer.scene.at(1)[0], rel=0.05)


def test_a_typed_number_moves_the_slider_to_the_nearest_stop(explorer: Explorer) -> None:
    """77 CPUs are taken as they are; the slider stands at 64."""
    explorer.controls.cpus.box.value = 77
    assert (explorer.plan.cpus, explorer.controls.cpus.slider.value) == (77, 64)
    assert cells(explorer, "now")[0].startswith("now 308")


def test_the_multiplier_gets_a_column_of_its_own(explorer: Explorer) -> None:
    """5 per CPU is not in the announced table, and is shown in its place."""
    explorer.controls.multiplier.slider.value = 5
    heads = re.findall(r'<th scope="col">(.*?)</th>', explorer.table.value)
    assert heads == ["CPU Count", "2x", "4x", "5x", "6x", "8x"]


def test_the_batch_sets_queue_and_duration(explorer: Explorer) -> None:
    """750,000 starts reach the longest queue, and the figure says how long they take."""
    explorer.controls.batch.slider.value = 750_000
    assert explorer.plan.queue.value == 262_144
    assert "cut to the maximum of 262,144" in explorer.summary.value
    assert title(explorer).endswith(f"750,000 starts in {planned(explorer)}")


@pytest.mark.parametrize(
    ("cluster", "cpus", "batch", "rps"), [("helm-default", 32, 1000, 400), ("example-32-core", 128, 10, None)]
)
def test_the_figures_duration_is_the_plans(
    explorer: Explorer, cluster: str, cpus: int, batch: int, rps: int | None
) -> None:
    """A limit's burst, and a batch smaller than what may be in flight, count in the figure as they do in the plan."""
    controls = explorer.controls
    controls.cluster.choose(cluster)
    controls.cpus.value, controls.batch.value = cpus, batch
    if rps is not None:
        controls.rps.value = rps
    at_once = ", all in flight at once," if batch < explorer.plan.parallelism.value else ""
    assert title(explorer).endswith(f"{batch:,} starts{at_once} in {planned(explorer)}")


def test_a_batch_smaller_than_the_pool_is_in_flight_at_once(explorer: Explorer) -> None:
    """Ten starts and 32 workers get what ten in flight get, and the panel says so."""
    explorer.controls.batch.value = 10
    assert explorer.scene.at(32) == explorer.scene.at(10) == explorer.scene.at(512)
    assert f"10 starts, all in flight at once, in {span(explorer.scene.duration)}" in title(explorer)


def test_a_knee_beyond_the_cap_is_not_drawn_as_one(explorer: Explorer) -> None:
    """Where throughput still rises at 512 in flight, figure, sentence and numbers tell no knee."""
    explorer.controls.cluster.choose("example-32-core")
    explorer.controls.delay.value = 200.0
    assert explorer.scene.knee_beyond
    assert "the knee lies beyond" in str(explorer.figure.plotly.layout.annotations)
    assert "512 in flight give" in title(explorer)
    explorer.settle()
    assert "predicted,knee" not in explorer.csv()
    explorer.controls.batch.value = 50  # nor is the end of a batch one
    assert (explorer.scene.knee, explorer.scene.knee_beyond) == (50, True)


def test_an_override_replaces_the_rule(explorer: Explorer) -> None:
    """Override 64 gives 64 whatever the CPUs; the table says that its cell is overridden."""
    explorer.controls.override.box.value = 64
    assert explorer.plan.parallelism.reason == "override 64"
    assert cells(explorer, "now")[0].startswith("overridden 32")
    assert title(explorer).startswith("64 in flight")


def test_the_cap_of_512(explorer: Explorer) -> None:
    """512 CPUs stand at the cap, an override above it is cut to it, and the curves end there."""
    explorer.controls.cpus.value = 512
    assert explorer.plan.parallelism.value == 512
    assert drawn(explorer, "predicted")[-1][0] == 512
    explorer.controls.override.value = 100_000
    assert explorer.plan.parallelism.reason == "override 100,000, cut to the maximum of 512"


def test_one_in_flight(explorer: Explorer) -> None:
    """An override of 1 is the left end of every curve, and the title says what more would give."""
    explorer.controls.override.value = 1
    assert [x for x, _ in drawn(explorer, "this plan")] == [1]
    assert title(explorer).startswith("1 in flight gets")


def test_marks_are_explained_in_words(explorer: Explorer) -> None:
    """Cells past the knee, over the p99 and over the memory limit carry a mark each, and the legend explains it."""
    explorer.controls.memory.value = 1
    explorer.controls.p99.value = 50.0
    past, slow, big = "\u2020", "\u2021", "\u00a7"
    assert cells(explorer, "now")[0].startswith(f"now 32 {past}{slow}{big}")
    assert f"{past} past the knee of {explorer.scene.knee} in flight" in explorer.table.value
    assert f"{slow} over the p99 wanted, 50 ms" in explorer.table.value
    assert f"{big} over the memory limit, 1 MiB" in explorer.table.value


def test_without_limits_nothing_is_over_them(explorer: Explorer) -> None:
    """Limits of 0 are none: no cell is marked over them, and no line is drawn for the p99."""
    explorer.controls.memory.value, explorer.controls.p99.value = 0, 0.0
    assert cells(explorer, "missed") == []
    assert "p99 wanted" not in explorer.table.value
    assert not [n for n in explorer.figure.plotly.layout.annotations if n.visible and "wanted" in n.text]


@pytest.mark.parametrize(
    ("cores", "p99", "cell"),
    [
        (16, 100.0, "2x, 16 in flight"),  # 1,873/s, of at most 1,895 with 4x
        (32, 100.0, "4x, 32 in flight"),  # 3,731/s, of at most 3,791 with 6x; 2x gets 2,306
        (64, 100.0, "6x, 48 in flight"),  # 4,718/s, of at most 4,723 with 8x; 4x gets 4,106
        (64, 17.5, "4x, 32 in flight"),  # as 6x takes 18 ms
    ],
)
def test_the_recommended_cell_keeps_the_limits_and_loses_nothing(
    explorer: Explorer, cores: int, p99: float, cell: str
) -> None:
    """It is of the plan's CPUs, within the limits, has the fewest in flight with 95 % of what others there give."""
    explorer.controls.cores.value, explorer.controls.p99.value = cores, p99
    (best,) = cells(explorer, "best")
    assert best.startswith("recommended")
    assert f"Recommended for 8 CPUs: {cell}" in explorer.advice.value


def test_where_no_cell_keeps_the_limits_it_says_so(explorer: Explorer) -> None:
    """At 1 ms p99 nothing is recommended, the words say why, and there is no override to take."""
    explorer.controls.p99.value = 1.0
    assert cells(explorer, "best") == []
    assert "No multiplier of 8 CPUs keeps p99 1 ms and 256 MiB" in explorer.advice.value
    assert explorer.use.disabled


@pytest.mark.parametrize(
    ("p99", "memory", "why"),
    [(0.0, 10, r"\d+ MiB"), (1.0, 256, r"p99 [\d.]+ ms"), (1.0, 10, r"p99 [\d.]+ ms and \d+ MiB")],
)
def test_the_reason_is_the_limit_that_one_in_flight_misses(
    explorer: Explorer, p99: float, memory: int, why: str
) -> None:
    """Where nothing keeps the limits, the words name what one in flight takes too much of, and nothing else."""
    explorer.controls.p99.value, explorer.controls.memory.value = p99, memory
    assert re.search(f"One in flight does not either: {why}\\.", explorer.advice.value)


def test_the_button_takes_what_is_enough(explorer: Explorer) -> None:
    """Pressing it sets the override, which then keeps the p99 wanted and stands at 95 % of the best that does."""
    assert not explorer.use.disabled
    explorer.use.click()
    assert explorer.controls.override.value == explorer.plan.parallelism.value == explorer.scene.enough
    assert explorer.scene.at(explorer.scene.flight)[1] <= 0.1
    assert explorer.use.disabled


def test_more_launcher_processes_take_more_memory(explorer: Explorer) -> None:
    """Four processes take more than three times what one takes: almost all of it is libraries."""
    one = explorer.scene.memory(32)
    explorer.controls.processes.value = 4
    assert 3 * one < explorer.scene.memory(32) < 4.1 * one
    assert explorer.scene.choice.cluster.launcher_processes == 4


def test_another_cluster_moves_its_controls(explorer: Explorer) -> None:
    """The example's cores are split: two boxes take the place of one, shards and hosts are its own."""
    explorer.controls.cluster.list.value = "example-32-core"
    controls = explorer.controls
    assert (controls.server_cores.value, controls.database_cores.value, controls.shards.value) == (32, 16, 512)
    assert (controls.cores.view.layout.display, controls.server_cores.view.layout.display) == ("none", "")
    assert "3 frontends, 3 history hosts" in controls.hosts.value
    assert "16 database CPUs" in {ceiling.name for ceiling in explorer.scene.ceilings}


def test_a_cluster_brings_its_calibration(explorer: Explorer) -> None:
    """The dev server's calibration comes with it, and its one connection is a ceiling; it has no shards to set."""
    explorer.controls.cluster.list.value = "devserver"
    assert explorer.controls.calibration.source == "devserver"
    assert explorer.controls.shards.view.layout.display == "none"
    assert "SQLite's connection" in {ceiling.name for ceiling in explorer.scene.ceilings}


def test_a_cluster_that_names_no_calibration_gets_one_of_its_store(explorer: Explorer, tmp_path: Path) -> None:
    """After the dev server a PostgreSQL cluster is predicted as on a fresh panel; what was measured on its own store
    stays, and where nothing was, the panel says so."""
    explorer.controls.cluster.choose("devserver")
    explorer.controls.cluster.choose("example-32-core")
    assert explorer.controls.calibration.source == "postgres"
    assert explorer.scene.at(32) == explore(8, cluster="example-32-core").scene.at(32)
    assert "was measured on" not in explorer.warning.value
    mine = tmp_path / "mine.toml"
    for store, source, warned in (("sqlite", "devserver", False), ("mysql", "devserver", True)):
        mine.write_text(f'store = "{store}"\ncores = 2\n')
        explorer.controls.cluster.choose(str(mine))
        assert explorer.controls.calibration.source == source
        assert ("calibration devserver was measured on sqlite" in explorer.warning.value) == warned
    assert explore(8, cluster=str(mine)).controls.calibration.source == "postgres"


def test_what_cannot_be_told_of_temporal_cloud_is_said(explorer: Explorer) -> None:
    """Its stations are not known: the folds say so in place of another cluster's numbers, and Save report warns."""
    explorer.claim.button.value = explorer.notes.button.value = True
    explorer.settle()
    before = explorer._claim.value, explorer._notes.value
    explorer.controls.cluster.list.value = "temporal-cloud"
    explorer.settle()
    for shown, old in zip((explorer._claim.value, explorer._notes.value), before, strict=True):
        assert shown != old
        assert "its CPUs are not known" in shown
    explorer.save["html"].click()
    assert "its CPUs are not known" in explorer.warning.value


def test_temporal_cloud_is_capped_by_its_actions(explorer: Explorer) -> None:
    """500 actions a second cap the curve; raised to 1,000 they cap it there, and no core has a control."""
    explorer.controls.cluster.list.value = "temporal-cloud"
    assert max(y for _, y in drawn(explorer, "predicted")) == 500
    assert explorer.controls.cores.view.layout.display == "none"
    explorer.controls.actions.value = 1000
    assert max(y for _, y in drawn(explorer, "predicted")) == 1000


def test_a_cluster_of_ones_own_is_a_file(explorer: Explorer, tmp_path: Path) -> None:
    """A path typed below the list is loaded; its cores are shown."""
    mine = tmp_path / "mine.toml"
    mine.write_text('cores = 24\nshards = 8\ncalibration = "postgres"\n')
    explorer.controls.cluster.list.value = "a file ..."
    assert explorer.controls.cluster.path.layout.display == ""
    explorer.controls.cluster.path.value = str(mine)
    assert (explorer.controls.cores.value, explorer.controls.shards.value) == (24, 8)
    assert explorer.scene.choice.cluster.name == "mine"


@pytest.mark.parametrize("kind", ["cluster", "calibration"])
def test_a_file_that_is_none_is_refused_beside_its_box(explorer: Explorer, kind: str, tmp_path: Path) -> None:
    """Words say what is wrong with it and what stands; the figure stays."""
    control, before = getattr(explorer.controls, kind), (explorer.scene, title(explorer))
    for content, name in ((None, "absent.json"), ("{}", "wrong.json"), ("\x00", "noise.json")):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        control.list.value = "a file ..."
        control.path.value = str(path)
        assert 'role="alert"' in control.refusal.value
        assert name in control.refusal.value
        assert f"Still {control.source}" in control.refusal.value
        assert (explorer.scene, title(explorer)) == before
    control.choose("postgres-dev" if kind == "cluster" else "postgres")
    assert control.refusal.value == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("cores = 200_000", "Cores, shared is 200,000; allowed: 1 to 100,000"),
        ("cores = 2\nmax_conns = 200_000", "Connections a host is 200,000; allowed: 1 to 100,000"),
    ],
)
def test_a_cluster_beyond_a_control_is_refused_whole(
    explorer: Explorer, tmp_path: Path, content: str, words: str
) -> None:
    """A file that a control cannot stand at changes nothing: not the one that stands, no control, not the scene."""
    controls, before = explorer.controls, explorer.scene
    numbers = [control.value for control in controls.numbers()]
    big = tmp_path / "big.toml"
    big.write_text(f'store = "postgres"\n{content}\n')
    controls.cluster.list.value = "a file ..."
    controls.cluster.path.value = str(big)
    assert f"{words} (" in controls.cluster.refusal.value
    assert "Still postgres-dev." in controls.cluster.refusal.value
    assert (controls.cluster.source, explorer.scene) == ("postgres-dev", before)
    assert [control.value for control in controls.numbers()] == numbers
    controls.cores.value = 3
    assert explorer.scene.choice.cluster == before.choice.cluster.changed({"cores": 3})


def test_a_calibration_from_a_cell_is_taken_as_it_is() -> None:
    """`explore(calibration=measure.calibration)` shows that one, by its name."""
    own = Calibration.named("postgres").model_copy(update={"name": "this morning"})
    explorer = explore(8, calibration=own)
    assert explorer.scene.choice.calibration is own
    assert explorer.controls.calibration.list.value == "this morning"


@pytest.mark.parametrize(
    ("control", "typed", "allowed"),
    [
        ("cpus", 0, "1 to 512"),
        ("cpus", -8, "1 to 512"),
        ("cpus", 10**9, "1 to 512"),
        ("multiplier", 0, "1 to 512"),
        ("batch", -1, "1 to 10,000,000"),
        ("override", -1, "0 to 1,000,000"),
        ("processes", 0, "1 to 1,000"),
        ("memory", -1, "0 to 1,048,576"),
        ("cores", 0, "1 to 100,000"),
        ("shards", 131_073, "1 to 131,072"),
        ("connections", 0, "1 to 100,000"),
        ("rps", 0, "1 to 10,000,000"),
        ("delay", -1.0, "0.0 to 60,000.0"),
        ("delay", float("nan"), "0.0 to 60,000.0"),
        ("p99", float("inf"), "0.0 to 600,000.0"),
    ],
)
def test_an_absurd_number_is_refused_in_words(explorer: Explorer, control: str, typed: float, allowed: str) -> None:
    """The box says what is allowed, and the last good state stays on the screen."""
    before = (explorer.scene, explorer.table.value, title(explorer))
    number = getattr(explorer.controls, control)
    number.box.value = typed
    assert 'role="alert"' in number.refusal.value
    assert f"{typed:,}; allowed: {allowed}" in number.refusal.value
    assert (explorer.scene, explorer.table.value, title(explorer)) == before
    number.value = number.value  # the next test's box holds a good number
    assert number.refusal.value == ""


def test_an_absurd_number_from_a_cell_is_an_error(explorer: Explorer) -> None:
    """`explorer.controls.cpus.value = 0` raises, since there is no box to say it beside."""
    with pytest.raises(UsageError, match="CPUs is 0"):
        explorer.controls.cpus.value = 0
    assert explorer.plan.cpus == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cpus": 0}, "CPUs is 0; allowed: 1 to 512"),
        ({"cluster": "postgres-deff"}, "did you mean postgres-dev"),
        ({"calibration": "postgrs"}, "did you mean postgres"),
        ({"p99": -1.0}, "p99 wanted"),
    ],
)
def test_an_absurd_first_value_is_an_error(arguments: dict[str, object], words: str) -> None:
    """`explore(...)` refuses it at once, in one line."""
    with pytest.raises(UsageError, match=re.escape(words)):
        explore(**arguments)  # type: ignore[arg-type]


def test_a_look_alike_variable_is_warned_about(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that the original's code read is named on the screen."""
    monkeypatch.setenv("SCHEDULER_BATCH_MAX_PARALLELISM", "64")
    explorer.controls.cpus.slider.value = 16
    assert "SCHEDULER_BATCH_MAX_PARALLELISM is set, but only" in explorer.warning.value


def test_the_variable_of_this_process_counts(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM holds here as it would in a launch, and is named."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "48")
    explorer.controls.cpus.slider.value = 16
    assert "Parallelism: SCHEDULER_MAX_PARALLELISM 48." in explorer.summary.value


def test_an_unusable_variable_is_said_and_left_out(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM=lots does not break the panel: it says so and shows the rule."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "lots")
    explorer.controls.cpus.slider.value = 16
    assert "SCHEDULER_MAX_PARALLELISM is &#x27;lots&#x27;" in explorer.warning.value
    assert explorer.plan.parallelism.value == 64


def test_the_table_reads_without_its_style(explorer: Explorer) -> None:
    """Caption, scoped heads, the marked cell and the meaning of * are text and roles, not colour."""
    explorer.controls.cpus.value = 128
    html = explorer.table.value
    assert html.count('scope="row"') == len(tuning_table().cpus)
    assert html.count('scope="col"') == 1 + len(tuning_table().multipliers)
    assert "<caption>In flight, starts/s, p99, launcher memory, by CPUs and starts per CPU</caption>" in html
    assert html.count('aria-current="true"') == 1
    assert cells(explorer, "now")[0].startswith("now 512*")
    assert "* cap of 512 reached, and it cuts this row: a higher multiplier buys nothing" in html


def test_every_box_has_its_label_as_name(explorer: Explorer) -> None:
    """Sliders of ipywidgets have no accessible name, so the box beside each carries it; no two are alike."""
    names = [number.box.description for number in explorer.controls.numbers()]
    names += [control.list.description for control in (explorer.controls.cluster, explorer.controls.calibration)]
    assert all(names)
    assert len(set(names)) == len(names)


def test_the_band_comes_once_the_controls_stand_still(explorer: Explorer) -> None:
    """Another cluster's band is not shown; its own comes, holds the curve, and stays while only the plan moves."""
    explorer.settle()
    explorer.controls.cores.value = 12
    assert drawn(explorer, "90 % band") == []
    explorer.settle()
    band = drawn(explorer, "90 % band")
    assert len(band) > 50
    high, low = dict(band[: len(band) // 2]), dict(band[len(band) // 2 :])
    curve = dict(drawn(explorer, "predicted"))
    assert all(low[at] <= curve[at] <= high[at] for at in low)
    explorer.controls.cpus.value = 16
    assert drawn(explorer, "90 % band") == band


def test_the_band_is_of_the_batch(explorer: Explorer) -> None:
    """Batches of 50 are all in flight at once above 50: their p99 stands within its interval, not in that of 1,000."""
    explorer.settle()
    explorer.controls.batch.value = 50
    explorer.settle()
    traces = [trace for trace in explorer.figure.plotly.data if trace.yaxis == "y2"]
    band, curve = (next(trace for trace in traces if trace.name == name) for name in ("90 % band", "predicted p99"))
    half = len(band.x) // 2
    high, low = (dict(zip(band.x[part], band.y[part], strict=True)) for part in (slice(half), slice(half, None)))
    p99 = dict(zip(curve.x, curve.y, strict=True))
    assert all(low[at] <= p99[at] <= high[at] for at in low)


def test_the_band_comes_by_itself(explorer: Explorer) -> None:
    """Nobody has to ask for it: it is there a moment after the last change."""
    import time

    explorer.controls.cores.value = 5
    until = time.monotonic() + 60
    while not drawn(explorer, "90 % band") and time.monotonic() < until:
        time.sleep(0.02)
    assert drawn(explorer, "90 % band")


def test_the_figures_state_is_the_current_one_after_a_reload(explorer: Explorer) -> None:
    """What a reloaded page is sent holds the current title and the current mark, not the first ones."""
    explorer.controls.cpus.value = 96
    spec = explorer.figure.get_state()["spec"]
    assert "4x on 96 CPUs" in spec["layout"]["title"]["text"]
    assert [list(trace["x"]) for trace in spec["data"] if trace["name"] == "this plan"] == [[384], [384]]


def test_the_figure_holds_what_a_fresh_one_would(explorer: Explorer) -> None:
    """After many moves traces, shapes, notes and axes are those of a figure made for the last state."""
    for cluster in ("example-32-core", "temporal-cloud", "devserver", "postgres-dev"):
        explorer.controls.cluster.choose(cluster)
        explorer.controls.cpus.value = 64
        explorer.controls.p99.value = 0.0 if cluster == "devserver" else 20.0
    fresh = explore(64, p99=0.02)
    fresh.settle()
    explorer.settle()
    for old, new in zip(explorer.figure.plotly.data, fresh.figure.plotly.data, strict=True):
        assert list(old.x) == list(new.x)
        assert list(old.y) == pytest.approx(list(new.y))
    mine, other = explorer.figure.plotly.layout.to_plotly_json(), fresh.figure.plotly.layout.to_plotly_json()
    for part in ("shapes", "annotations", "yaxis", "yaxis2", "title"):
        assert mine[part] == other[part], part


def test_the_measured_points_are_the_calibrations(explorer: Explorer) -> None:
    """Open rings stand at what was swept, and the legend names the CPUs of the sweep."""
    points = explorer.scene.choice.calibration.measurements.points
    cpus = explorer.scene.choice.calibration.measurements.conditions.cluster_cpus
    assert drawn(explorer, f"measured on {cpus} CPUs") == [(p.parallelism, p.throughput) for p in points if not p.flag]


def test_every_number_of_the_figure_is_in_the_csv(explorer: Explorer) -> None:
    """Curve, band, measured points, ceilings and the p99 wanted are rows; the plan's and the knee's are named."""
    explorer.settle()
    rows = list(csv.DictReader(io.StringIO(explorer.csv())))
    predicted = {int(row["in_flight"]): row for row in rows if row["kind"] == "predicted"}
    for at, rate in drawn(explorer, "predicted"):
        assert float(predicted[int(at)]["starts_per_second"]) == pytest.approx(rate, rel=1e-5)
    band = drawn(explorer, "90 % band")
    for at, high in band[: len(band) // 2]:
        assert float(predicted[int(at)]["starts_per_second_high"]) == pytest.approx(high, rel=1e-5)
    assert "plan" in predicted[32]["name"]
    assert "knee" in predicted[explorer.scene.knee]["name"]
    ceilings = [row["name"] for row in rows if row["kind"] == "ceiling"]
    assert ceilings == [ceiling.name for ceiling in explorer.scene.ceilings]
    assert [row["p99_seconds"] for row in rows if row["kind"] == "wanted"] == ["0.1"]
    measured = explorer.scene.choice.calibration.measurements.points
    assert len([row for row in rows if row["kind"] == "measured"]) == len([p for p in measured if not p.flag])


def test_what_is_folded_out_follows(explorer: Explorer) -> None:
    """Opened, the claim, the notes and the numbers show this cluster's, and another's once controls stand still."""
    explorer.claim.button.value = explorer.notes.button.value = explorer.numbers.button.value = True
    try:
        claim, notes, numbers = (
            fold.body.children[0].value for fold in (explorer.claim, explorer.notes, explorer.numbers)
        )
        assert "200,000" in claim
        assert "PostgreSQL dev stack" in claim
        assert "<b>Binds</b>" in notes
        assert "this plan" in numbers
        assert "Ceilings, lowest first" in numbers
        explorer.controls.cluster.choose("example-32-core")
        explorer.settle()
        assert "Example: 32 server cores" in explorer.claim.body.children[0].value
        assert "16 database CPUs" in explorer.numbers.body.children[0].value
    finally:
        explorer.claim.button.value = explorer.notes.button.value = explorer.numbers.button.value = False
    assert explorer.claim.body.layout.display == "none"


def test_the_report_holds_everything_and_no_link(explorer: Explorer, tmp_path: Path) -> None:
    """One file: finding, plotly's script, the table, every number; outside its scripts not one address."""
    path = tmp_path / "report.html"
    text = explorer.report(path)
    assert path.read_text() == text
    plain = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert "://" not in plain
    assert not re.search(r"\b(href|src)\s*=", plain)
    assert not re.search(r"<script[^>]*\bsrc\s*=", text)
    assert "Plotly.newPlot" in text
    for words in ("4x on 8 CPUs", "CPU Count", "Ceilings, lowest first", "The claim", "Made by capacity"):
        assert words in plain


def test_a_report_that_cannot_be_written_is_one_line(explorer: Explorer, tmp_path: Path) -> None:
    """A folder that is not there is named."""
    with pytest.raises(CapacityError, match=r"cannot write report .*No such file"):
        explorer.report(tmp_path / "absent" / "report.html")


def test_plan_outlook_and_prediction_are_plain_results(explorer: Explorer) -> None:
    """`.outlook` and `.prediction` are of the current controls; `to_frame` gives rows with intervals."""
    explorer.controls.cpus.value = 16
    assert isinstance(explorer.outlook, Outlook)
    assert explorer.outlook.plan == explorer.plan
    rows = {row["parallelism"]: row for row in explorer.prediction.to_frame()}
    assert rows[64]["throughput_low"] <= rows[64]["throughput"] <= rows[64]["throughput_high"]
    assert rows[64]["throughput_low"] < rows[64]["throughput_high"]


def test_a_target_moves_the_controls_to_what_reaches_it(explorer: Explorer) -> None:
    """2,000 starts/s: the controls then stand at a cluster that the same model says reaches it, with reasons."""
    target = explorer.target
    target.target.value, target.deadline.value = 2000, 0
    target.go.click()
    assert target.sizing is not None
    needs = target.sizing.needs()
    assert explorer.controls.override.value == needs["in flight"]
    assert explorer.controls.server_cores.value == needs["server cores"]
    assert explorer.controls.shards.value == needs["shards"]
    rate, p99 = explorer.scene.at(explorer.scene.flight)
    assert rate >= 1999
    assert p99 <= 0.1
    assert "The controls stand at it" in target.result.value
    assert "set by" in target.result.value
    assert explorer.controls.cluster.list.value == "sized for 2,000 starts/s"
    explorer.controls.cluster.list.value = "postgres-dev"
    assert explorer.controls.cores.value == 2


def test_controls_that_were_moved_since_are_not_said_to_stand_at_the_target(explorer: Explorer) -> None:
    """One control moved, of cluster or limit, and the sentence is of the past; moved back, it holds again."""
    explorer.target.target.value, explorer.target.deadline.value = 2000, 0
    explorer.target.go.click()
    for control, moved in ((explorer.controls.server_cores, 1), (explorer.controls.p99, 20.0)):
        stood = control.value
        control.value = moved
        assert "The controls stood at it, and were moved since." in explorer.target.result.value
        assert "set by" in explorer.target.result.value
        control.value = stood
        assert "The controls stand at it." in explorer.target.result.value
    explorer.controls.cluster.list.value = "postgres-dev"
    assert "The controls stand at it" not in explorer.target.result.value


def test_a_deadline_is_a_target_too(explorer: Explorer) -> None:
    """750,000 within 600 s are 1,250 a second."""
    explorer.controls.batch.value = 750_000
    explorer.target.target.value, explorer.target.deadline.value = 0, 600
    explorer.target.go.click()
    assert explorer.target.sizing is not None
    assert explorer.target.sizing.target == 1250
    assert explorer.scene.choice.plan.batch / explorer.scene.at(explorer.scene.flight)[0] <= 600.5


def test_what_cannot_be_had_leaves_the_controls_alone(explorer: Explorer) -> None:
    """A p99 of 1 ms is below what one start takes: the reason is shown, and nothing moves."""
    explorer.controls.p99.value = 1.0
    before = explorer.scene
    explorer.target.target.value, explorer.target.deadline.value = 2000, 0
    explorer.target.go.click()
    assert "The controls were left alone" in explorer.target.result.value
    assert explorer.scene is before


@pytest.mark.parametrize(("target", "deadline", "words"), [(0, 0, "neither"), (100, 60, "both set")])
def test_target_and_deadline_exclude_each_other(explorer: Explorer, target: int, deadline: int, words: str) -> None:
    """None or both is refused in words, nothing moves, and what was found before is not found again."""
    explorer.target.target.value, explorer.target.deadline.value = 2000, 0
    explorer.target.go.click()
    before = explorer.scene
    explorer.target.target.value, explorer.target.deadline.value = target, deadline
    explorer.target.go.click()
    assert 'role="alert"' in explorer.target.result.value
    assert words in explorer.target.result.value
    assert explorer.scene is before
    assert explorer.target.sizing is None


def test_the_explorer_needs_no_cluster_and_no_client() -> None:
    """The explorer imports neither Temporal nor gRPC: it works where only the lab is installed."""
    code = "import sys, capacity; capacity.explore(); print({'temporalio', 'grpc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "set()\n"


def test_a_namespaces_own_rate_holds_whatever_a_frontend_passes(explorer: Explorer, tmp_path: Path) -> None:
    """A description with frontend.namespaceRPS of its own: no frontend.rps above it changes what the plan gets."""
    file = tmp_path / "own.toml"
    file.write_text(
        'server_cores = 64\ndatabase_cores = 64\nshards = 512\n[limits]\n"frontend.rps" = 2400\n'
        '"frontend.namespaceRPS" = 600\n'
    )
    explorer.controls.cluster.path.value = str(file)
    found = {}
    for rps in (300, 1200, 2400, 2401, 10_000):
        explorer.controls.rps.value = rps
        found[rps] = (explorer.scene.at(explorer.scene.flight)[0], explorer.scene.binding)
    assert found.pop(300) == (300, "frontend.rps")
    assert set(found.values()) == {(600, "frontend.namespaceRPS")}
