"""The measure panel, on a sweep of its own that replays shipped measurements. No kernel, no browser."""

from __future__ import annotations

import asyncio
import html
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.model.calibration import Calibration
from capacity.model.measurement import Flag, Measurements, Point
from capacity.model.prediction import predict
from capacity.notebook import markup, measure_panel
from capacity.notebook.measure_form import Controls
from capacity.notebook.measure_panel import Measure, measure
from tests.notebook.helpers import wait_until

HERE = Target("127.0.0.1:7233")


@pytest.fixture(scope="module")
def shipped() -> Measurements:
    return Calibration.named("devserver").measurements


@pytest.fixture
def plan(shipped: Measurements) -> str:
    """The parallelisms of the shipped sweep, as one types them."""
    return ", ".join(str(level) for level in sorted({point.parallelism for point in shipped.points}))


class Replay:
    """A sweep that gives the points it was made with, waiting at a gate before the one it names."""

    def __init__(
        self,
        measurements: Measurements,
        *,
        gate: threading.Event | None = None,
        before: int = 0,
        error: CapacityError | None = None,
        defect: Exception | None = None,
        left: int = 0,
    ) -> None:
        self.left = left
        self.measurements, self.gate, self.before, self.error, self.defect = measurements, gate, before, error, defect
        self.waiting = threading.Event()

    def __call__(self, wanted: Any, *, on_point: Any, say: Any, stop: Any) -> Any:
        def run() -> Any:
            say("a new cluster starts")
            taken: list[Point] = []
            for place, point in enumerate(self.measurements.points):
                if self.gate is not None and place == self.before:
                    self.waiting.set()
                    while not self.gate.is_set() and not stop():
                        time.sleep(0.01)
                if stop() or (self.error is not None and place == self.before):
                    break
                taken.append(point)
                on_point(point)
            if self.defect is not None:
                raise self.defect
            if not taken:
                raise self.error or KeyboardInterrupt
            measured = self.measurements.model_copy(update={"points": tuple(taken)})
            return SimpleNamespace(
                measurements=measured, stopped=stop(), error=self.error, left=self.left, prefix="sweep-x"
            )

        return SimpleNamespace(run=run)


def ended(panel: Measure) -> Calibration:
    return asyncio.run(asyncio.wait_for(panel.wait(), 60))


def traces(panel: Measure) -> dict[str, list[Any]]:
    """The first panel's traces by name, as (x, y) pairs."""
    return {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in panel.figure.plotly.data[:6]}


def test_points_appear_as_they_come_and_then_the_curve(shipped: Measurements, plan: str) -> None:
    """Before the fit the figure has the points so far and no curve; after it all points, curve and band."""
    gate = threading.Event()
    replay = Replay(shipped, gate=gate, before=2)
    panel = Measure(plan, sweep=replay)
    panel.start.click()
    assert replay.waiting.wait(20)
    first = [(point.parallelism, point.throughput) for point in shipped.points[:2]]
    assert traces(panel)["measured"] == first
    assert traces(panel)["fitted"] == []
    assert (panel.bar.value, panel.bar.maximum) == (2, len(panel.controls.wanted.points))
    wait_until(lambda: "2 of" in panel.numbers.value and "left" in panel.numbers.value)
    gate.set()
    calibration = ended(panel)
    assert panel.calibration is calibration
    assert [pair[1] for pair in traces(panel)["measured"]] == [point.throughput for point in shipped.points]
    at, value = zip(*traces(panel)["fitted"], strict=True)
    expected = predict(calibration, [int(each) for each in at], draws=0).throughput.value
    assert list(value) == pytest.approx(list(expected))
    lower = [pair[1] for pair in traces(panel)["90 % of fitted"]]
    upper = list(panel.figure.plotly.data[0].y)
    assert all(low <= middle <= high for low, middle, high in zip(lower, value, upper, strict=True))


def test_the_p99_panel_has_the_same_points_in_milliseconds(shipped: Measurements, plan: str) -> None:
    """Below stands the p99 of each point, in ms."""
    panel = Measure(plan, sweep=Replay(shipped))
    panel.start.click()
    ended(panel)
    below = next(trace for trace in panel.figure.plotly.data[6:] if trace.name == "measured")
    assert list(below.y) == pytest.approx([point.p99 * 1e3 for point in shipped.points])


def test_it_ends_in_words_with_fit_score_and_points(shipped: Measurements, plan: str) -> None:
    """State, fitted rows, score and each point are there as text, and the title says what was found."""
    panel = Measure(plan, sweep=Replay(shipped))
    panel.start.click()
    calibration = ended(panel)
    many = len(shipped.points)
    assert panel.state == "done"
    assert 'role="status"' in panel.status.value
    assert f"Done: {many} of" in panel.status.value
    assert all(html.escape(value) in panel.fitted.value for _, value in calibration.rows())
    assert panel.score is not None
    assert html.escape(panel.score.summary()) in panel.scored.value
    assert panel.taken.value.count("<tr>") == many + 1
    assert panel.taken.value.count('<th scope="row">') == many  # each point is found by its parallelism
    assert "starts/s at" in panel.figure.plotly.layout.title.text


def test_points_out_of_the_fit_are_told_apart(shipped: Measurements, plan: str) -> None:
    """A flagged point and one kept from the fit have marks and words of their own."""
    points = list(shipped.points)
    points[1] = points[1].model_copy(update={"flag": Flag.THROTTLED})
    points[2] = points[2].model_copy(update={"holdout": True})
    panel = Measure(plan, sweep=Replay(shipped.model_copy(update={"points": tuple(points)})))
    panel.start.click()
    ended(panel)
    named = traces(panel)
    assert named["measured, left out: flagged"] == [(points[1].parallelism, points[1].throughput)]
    assert named["measured, kept from the fit"] == [(points[2].parallelism, points[2].throughput)]
    symbols = {trace.marker.symbol for trace in panel.figure.plotly.data[:6] if trace.mode == "markers"}
    assert len(symbols) == 3
    assert "throttled" in panel.taken.value
    assert "kept from the fit" in panel.taken.value


def test_cancel_keeps_and_fits_the_points_so_far(shipped: Measurements, plan: str) -> None:
    """Cancelled after four points, the panel has a calibration of four."""
    replay = Replay(shipped, gate=threading.Event(), before=4)
    panel = Measure(plan, sweep=replay)
    panel.start.click()
    assert replay.waiting.wait(20)
    assert (panel.start.disabled, panel.cancel.disabled) == (True, False)
    panel.cancel.click()
    assert len(ended(panel).measurements.points) == 4
    assert panel.state == "cancelled"
    assert "Cancelled: 4 of" in panel.status.value
    assert (panel.start.disabled, panel.cancel.disabled, panel.save.disabled) == (False, True, False)


def test_too_few_points_are_kept_though_nothing_is_fitted(shipped: Measurements, plan: str, state_folder: str) -> None:
    """One point fits nothing: said in words, also above the figure; Save still keeps it, as measurements."""
    replay = Replay(shipped, gate=threading.Event(), before=1)
    panel = Measure(plan, sweep=replay)
    panel.start.click()
    wait_until(lambda: "left" in panel.numbers.value)
    panel.cancel.click()
    with pytest.raises(UsageError, match="fit nothing"):
        ended(panel)
    assert "1 of" in panel.status.value
    assert "not fitted" in panel.status.value
    assert "Not fitted:" in panel.error.value
    assert panel.numbers.value == ""
    assert "1 of 9 points measured" in panel.figure.plotly.layout.title.text
    panel.save.click()
    assert len(json.loads(panel.file.read_text())["points"]) == 1
    assert "it fits nothing yet" in panel.saved.value
    assert "explore(" not in panel.saved.value
    assert "capacity score" not in panel.saved.value


def test_cancel_before_the_first_point(shipped: Measurements, plan: str) -> None:
    """Nothing is there then; the cell that waits gets one clear line and no KeyboardInterrupt."""
    replay = Replay(shipped, gate=threading.Event(), before=0)
    panel = Measure(plan, sweep=replay)
    panel.start.click()
    assert replay.waiting.wait(20)
    panel.cancel.click()
    with pytest.raises(UsageError, match="cancelled before its first point"):
        ended(panel)
    assert panel.state == "cancelled"
    assert panel.save.disabled


def test_an_error_keeps_the_points_before_it(shipped: Measurements, plan: str) -> None:
    """A cluster that dies after four points leaves a fit of four, and why it ended."""
    replay = Replay(shipped, before=4, error=ClusterError("the dev server died"))
    panel = Measure(plan, sweep=replay)
    panel.start.click()
    assert len(ended(panel).measurements.points) == 4
    assert panel.state == "incomplete"
    assert "the dev server died" in panel.error.value


def test_a_sweep_that_cannot_begin_is_one_clear_line(shipped: Measurements, plan: str) -> None:
    """No program, no traceback, and nothing left that says how long it takes yet."""
    panel = Measure(plan, sweep=Replay(shipped, error=ClusterError("the program 'temporal' is missing")))
    panel.start.click()
    with pytest.raises(ClusterError, match="missing"):
        ended(panel)
    assert (panel.numbers.value, panel.said.value) == ("", "")
    assert "Nothing measured yet" in panel.figure.plotly.layout.title.text
    assert panel.state == "failed"
    assert "is missing" in panel.error.value
    assert "Traceback" not in panel.error.value


def test_a_defect_shows_where(shipped: Measurements, plan: str) -> None:
    """What is no CapacityError is called a defect and keeps its traceback."""
    panel = Measure(plan, sweep=Replay(shipped, defect=ZeroDivisionError("<b>")))
    panel.start.click()
    with pytest.raises(ZeroDivisionError):
        ended(panel)
    assert "A defect of capacity: ZeroDivisionError(&#x27;&lt;b&gt;&#x27;)" in panel.error.value


def test_a_defect_of_what_is_shown_is_told_and_the_sweep_goes_on(
    shipped: Measurements, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time left that cannot be said is told as a defect, once, and is said again as soon as it can be."""
    gate = threading.Event()
    panel = Measure(plan, sweep=Replay(shipped, gate=gate, before=2))

    def broken(_: object) -> str:
        raise ZeroDivisionError("how long")

    monkeypatch.setattr(measure_panel, "duration", broken)
    panel.start.click()
    wait_until(lambda: "A defect of capacity: ZeroDivisionError" in panel.error.value)
    monkeypatch.undo()
    wait_until(lambda: "2 of 9 points" in panel.numbers.value)
    gate.set()
    ended(panel)
    assert panel.state == "done"
    assert panel.error.value.count("A defect of capacity") == 1


def test_a_defect_at_the_end_is_told_and_leaves_the_buttons_right(
    shipped: Measurements, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the figure of a sweep that was cancelled cannot be drawn, one reads so, and can measure again."""
    replay = Replay(shipped, gate=threading.Event(), before=0)
    panel = Measure(plan, sweep=replay)

    def broken(_: object) -> None:
        raise ZeroDivisionError("no figure")

    panel.start.click()
    assert replay.waiting.wait(20)
    monkeypatch.setattr(panel, "_draw", broken)
    panel.cancel.click()
    with pytest.raises(UsageError, match="cancelled"):
        ended(panel)
    assert (panel.state, panel.start.disabled, panel.cancel.disabled) == ("cancelled", False, True)
    assert "A defect of capacity: ZeroDivisionError" in panel.error.value


def test_a_second_click_measures_nothing(shipped: Measurements, plan: str) -> None:
    """Measure pressed twice sweeps once, and no control can be changed meanwhile."""
    replay = Replay(shipped, gate=threading.Event(), before=3)
    panel = Measure(plan, sweep=replay)
    panel.start.click()
    panel.start.click()
    assert replay.waiting.wait(20)
    assert panel.controls.seconds.box.disabled
    replay.gate.set()
    ended(panel)
    assert len(panel.points) == len(shipped.points)
    assert not panel.controls.seconds.box.disabled


def test_what_is_typed_in_mid_sweep_is_for_the_next_one(shipped: Measurements, plan: str) -> None:
    """Boxes set from a cell leave the sweep that runs as it was asked for: its time left, its axis, its name."""
    replay = Replay(shipped, gate=threading.Event(), before=2)
    panel = Measure(plan, sweep=replay)
    panel.controls.name.box.value = "asked-for"
    panel.start.click()
    assert replay.waiting.wait(20)
    axis = panel.figure.plotly.layout.xaxis.range
    panel.controls.parallelisms.box.value, panel.controls.name.box.value = "1, 2", "typed-since"
    wait_until(lambda: "2 of 9 points" in panel.numbers.value)
    panel.controls.seconds.box.value = "0"
    replay.gate.set()
    assert ended(panel).name == "asked-for"
    assert panel.figure.plotly.layout.xaxis.range == axis
    assert panel.start.disabled


def test_a_cell_whose_click_is_refused_gets_the_refusal(shipped: Measurements, plan: str) -> None:
    """With a wrong box wait() raises why, and not the calibration of the sweep before."""
    panel = Measure(plan, sweep=Replay(shipped))
    panel.start.click()
    ended(panel)
    panel.controls.seconds.box.value = "0"
    panel.start.click()
    with pytest.raises(UsageError, match="cannot measure: seconds a point is '0'"):
        ended(panel)


def test_save_writes_a_calibration_that_loads(shipped: Measurements, plan: str, state_folder: str) -> None:
    """The file is in the state folder under the typed name, loads as the same fit, and its use is told."""
    panel = Measure(plan, sweep=Replay(shipped))
    panel.start.click()
    ended(panel)
    panel.controls.name.box.value = "mine"
    panel.save.click()
    assert panel.file == Path(state_folder) / "sweeps" / "mine.json"
    loaded = Calibration.named(str(panel.file))
    assert (loaded.name, loaded.fit) == ("mine", panel.calibration.fit)
    assert str(panel.file) in panel.saved.value
    assert f"explore(cluster='devserver', calibration='{panel.file}')" in html.unescape(panel.saved.value)
    assert "<caption>Calibration mine</caption>" in panel.fitted.value


def test_save_overwrites_no_file_of_another_sweep(shipped: Measurements, plan: str, state_folder: str) -> None:
    """A name that is taken is refused in words and its file is left as it is; saving again is fine."""
    taken = Path(state_folder) / "sweeps" / "mine.json"
    taken.parent.mkdir()
    taken.write_text("{}")
    panel = Measure(plan, sweep=Replay(shipped))
    panel.start.click()
    ended(panel)
    panel.controls.name.box.value = "mine"
    panel.save.click()
    assert "exists" in panel.saved.value
    assert (taken.read_text(), panel.file) == ("{}", None)
    assert panel.calibration.name != "mine"
    panel.controls.name.box.value = "other"
    panel.save.click()
    panel.save.click()
    assert panel.file == taken.with_name("other.json")
    assert "Saved to" in panel.saved.value


def test_waiting_for_nothing_is_a_misuse() -> None:
    """wait() without a sweep says what to do."""
    with pytest.raises(UsageError, match="nothing was measured"):
        ended(measure())


# -- the controls ---------------------------------------------------------------------------------------------------


@pytest.fixture
def controls(state_folder: str) -> Controls:
    return Controls("1, 2, 4", None)


def test_the_controls_are_the_sweep(controls: Controls) -> None:
    """Every control reaches what is asked for."""
    for name, text in (("parallelisms", "1 2,4, 512"), ("holdout", "3"), ("seconds", "2.5"), ("repeats", "2")):
        getattr(controls, name).box.value = text
    controls.extras.value = True
    wanted = controls.wanted
    assert (list(wanted.parallelisms), list(wanted.holdout)) == ([1, 2, 4, 512], [3])
    assert (wanted.seconds, wanted.repeats, wanted.extras, wanted.store) == (2.5, 2, True, "sqlite")
    assert "10 points: about" in controls.plan.value


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("parallelisms", "", "starts in flight is empty"),
        ("parallelisms", "0", "starts in flight is 0; allowed: a whole number from 1 to 512"),
        ("parallelisms", "1, 513", "starts in flight is 513"),
        ("parallelisms", "1, two", "starts in flight is 'two'"),
        ("parallelisms", "4, 4", "starts in flight has 4 twice"),
        ("holdout", "4", "holdout and parallelism share 4"),
        ("holdout", "-3", "kept from the fit is -3"),
        ("seconds", "0", "seconds a point is '0'; allowed: 1 to 600 seconds"),
        ("seconds", "nan", "seconds a point is 'nan'"),
        ("seconds", "601", "seconds a point is '601'"),
        ("repeats", "0", "rounds is 0"),
        ("repeats", "101", "rounds is 101; allowed: a whole number from 1 to 100"),
        ("name", "", "name is ''"),
        ("name", "../evil", "name is '../evil'"),
        ("name", "x" * 81, "80 at most"),
    ],
)
def test_an_absurd_value_is_refused_beside_its_box(controls: Controls, field: str, typed: str, words: str) -> None:
    """The words stand at the box, and nothing can be measured until it is right."""
    box = getattr(controls, field)
    good = box.box.value
    box.box.value = typed
    assert words in html.unescape(box.refusal.value)
    assert 'role="alert"' in box.refusal.value
    assert controls.wanted is None
    assert "Cannot measure" in controls.plan.value
    box.box.value = good
    assert box.refusal.value == ""
    assert controls.wanted is not None


def test_a_running_cluster_is_guarded(controls: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing cluster has its address box; a foreign one is refused at it, loopback is taken."""
    monkeypatch.delenv("CAPACITY_ALLOW_TARGET", raising=False)
    assert controls.address.view.layout.display == "none"
    controls.where.value = "cluster"
    assert controls.address.view.layout.display == ""
    controls.address.box.value = "temporal.example.com:7233"
    assert "refused to connect to temporal.example.com:7233" in controls.address.refusal.value
    assert controls.wanted is None
    controls.address.box.value = HERE.address
    assert (controls.wanted.store, controls.wanted.target.address) == (None, HERE.address)
    controls.cores.box.value = "0"
    assert "its CPUs is 0" in controls.cores.refusal.value


def test_the_postgres_stack_is_offered_where_it_is(monkeypatch: pytest.MonkeyPatch, state_folder: str) -> None:
    """Without its programs the choice is not there, and the words say how to get them."""
    from capacity.cluster import temporal_binaries

    monkeypatch.setattr(temporal_binaries, "find", lambda: None)
    without = Controls("1", None)
    assert "postgres" not in [value for _, value in without.where.options]
    assert "capacity cluster up --store postgres" in html.unescape(without.without.value)
    monkeypatch.setattr(temporal_binaries, "find", lambda: object())
    offered = Controls("1", None)
    assert "postgres" in [value for _, value in offered.where.options]
    offered.where.value = "postgres"
    assert offered.wanted.store == "postgres"


def test_a_bar_is_found_by_name() -> None:
    """A screen reader finds the bar's name, value and end."""
    bar = markup.Bar("Points <1>", 8)
    bar.show(3)
    assert '<progress aria-label="Points &lt;1&gt;" value="3" max="8"' in bar.view.value


def test_what_stays_on_a_running_cluster_is_said(shipped: Measurements, plan: str) -> None:
    """The words name how to end what the sweep left there, also where it ended too early for a fit."""
    panel = Measure(plan, HERE, sweep=Replay(shipped, left=1234))
    panel.controls.cores.box.value = "2"
    panel.start.click()
    ended(panel)
    said = html.unescape(panel.said.value)
    assert "1,234 workflows stay open on the cluster" in said
    assert "STARTS_WITH 'sweep-x'" in said
    panel = Measure(plan, HERE, sweep=Replay(shipped, left=1234, before=1, error=ClusterError("the server died")))
    panel.controls.cores.box.value = "2"
    panel.start.click()
    with pytest.raises(UsageError, match="fit nothing"):
        ended(panel)
    assert "1,234 workflows stay open on the cluster" in html.unescape(panel.said.value)
    panel = Measure(plan, HERE, sweep=Replay(shipped, error=ClusterError("the server died")))
    panel.controls.cores.box.value = "2"
    panel.start.click()
    with pytest.raises(ClusterError):
        ended(panel)
    assert "a new cluster starts" in panel.said.value  # its last word: of a real sweep what it left there


@pytest.mark.devserver
def test_a_sweep_ends_its_cluster_when_the_kernel_leaves(devserver: Any, state_folder: str) -> None:
    """A kernel that leaves in mid-sweep leaves no server of the sweep's own behind."""
    script = (
        "import time\n"
        "from capacity.notebook.measure_panel import measure\n"
        "import psutil\n"
        "panel = measure('1, 4, 16')\n"
        "panel.start.click()\n"
        "def servers():\n"
        "    return [c.pid for c in psutil.Process().children() if 'start-dev' in c.cmdline()]\n"
        "while not servers(): time.sleep(0.05)\n"
        "print(*servers(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
