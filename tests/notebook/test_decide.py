"""The decide panel, on comparisons and launches of its own. No kernel, no browser; two tests on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import capacity
from capacity.cluster.target import Target
from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.experiment.blocks import Block, orders
from capacity.experiment.local import LocalCluster
from capacity.model.measurement import Flag, Point
from capacity.notebook import decide_parts
from capacity.notebook.decide_panel import Decide
from capacity.observe.run import Run
from capacity.verdict.comparison import compare
from tests.notebook.helpers import progress, wait_until
from tests.verdict.recorded import recorded

HERE = Target("127.0.0.1:7233")


def point(throughput: float, p99: float, **changed: Any) -> Point:
    values: dict[str, Any] = {"parallelism": 8, "seconds": 5.0, "starts": round(5 * throughput), "mean": p99 / 3}
    values |= {"throughput": throughput, "p50": p99 / 4, "p99": p99, "server_cpu": 0.003, "database_cpu": 0.0025}
    return Point.model_validate(values | changed)


def noisy(count: int, ratio: float, p99_ratio: float, seed: int = 0) -> list[Block]:
    """Blocks of two settings on a server that drifts by some per cent."""
    random = np.random.default_rng(seed)
    found = []
    for index, first in enumerate(orders(count, seed)):
        one, other = (300 * np.exp(random.normal(0, 0.02, 2))).tolist()
        slow, slower = (0.02 * np.exp(random.normal(0, 0.1, 2))).tolist()
        sides = point(one, slow), point(other * ratio, slower * p99_ratio)
        found.append(Block(index=index, baseline_first=first, baseline=sides[0], candidate=sides[1]))
    return found


class Replay:
    """A comparison that gives the blocks it was made with, waiting at a gate before the one it names."""

    def __init__(
        self,
        blocks: list[Block],
        *,
        before: int | None = None,
        error: CapacityError | None = None,
        defect: Exception | None = None,
        left: int = 0,
    ) -> None:
        self.blocks, self.before, self.error, self.defect, self.left = blocks, before, error, defect, left
        self.gate, self.waiting = threading.Event(), threading.Event()
        self.asked: tuple[Any, ...] = ()

    def __call__(self, *asked: Any, on_block: Any, say: Any, stop: Any) -> Any:
        self.asked = asked

        def run() -> Any:
            say("a new cluster starts")
            taken: list[Block] = []
            for place, block in enumerate(self.blocks):
                if place == self.before and self.error is None:
                    self.waiting.set()
                    while not self.gate.is_set() and not stop():
                        time.sleep(0.01)
                if stop() or (self.error is not None and place == (self.before or 0)):
                    break
                taken.append(block)
                on_block(block)
            if self.defect is not None:
                raise self.defect
            if not taken:
                raise self.error or KeyboardInterrupt
            shares = SimpleNamespace(launcher_shares_cpus=True)
            done = {"conditions": shares, "stopped": stop(), "error": self.error, "left": self.left, "prefix": "cmp-x"}
            return SimpleNamespace(blocks=tuple(taken), **done)

        return SimpleNamespace(run=run)


@contextlib.contextmanager
def somewhere(wanted: Any, say: Any) -> Iterator[tuple[Target, LocalCluster]]:
    """A cluster that is none."""
    yield HERE, LocalCluster(HERE.address)


def record(count: int, run_id: str) -> Run:
    """A healthy run of 20 s."""
    return recorded(20, count / 20, 0.02, run_id=run_id)


class Launches:
    """Stands in for `capacity.launch`: notes what it was asked and gives records; waits where told to."""

    def __init__(self, *, hold: bool = False, error: Exception | None = None, before: int = 0) -> None:
        self.before = before  # launches that go well before the error
        self.asked: list[dict[str, Any]] = []
        self.chains: list[str] = []
        self.hold, self.error, self.began = hold, error, threading.Event()

    async def __call__(self, batch: Any, target: Target, *, on_progress: Any, stop: asyncio.Event, **asked: Any) -> Run:
        self.asked.append(asked | {"address": target.address, "count": batch.count})
        self.chains.append(batch.chain_id)
        if self.error is not None and len(self.asked) > self.before:
            raise self.error
        on_progress(progress(batch.count, batch.count // 2))
        self.began.set()
        if self.hold:
            await stop.wait()
        return record(batch.count, f"20260101-00000{len(self.asked)}-abcdef")


def panel_of(comparing: Any = None, launch: Any = None, **more: Any) -> Decide:
    asked: dict[str, Any] = {"cpus": 2, "blocks": 6, "starts": 6000} | more
    return Decide(comparing=comparing, launch=launch or Launches(), cluster=somewhere, **asked)


def ended(panel: Decide) -> Any:
    return asyncio.run(asyncio.wait_for(panel.wait(), 60))


def compared(blocks: list[Block], **more: Any) -> Decide:
    panel = panel_of(Replay(blocks), blocks=len(blocks), **more)
    panel.start.click()
    ended(panel)
    return panel


def checked(panel: Decide) -> Any:
    panel.checking.start.click()
    return asyncio.run(asyncio.wait_for(panel.checked(), 60))


def text(shown: Any) -> str:
    """What a person reads of an HTML widget."""
    return html.unescape(" ".join(re.sub("<style>.*?</style>|<[^>]+>", " ", shown.value, flags=re.S).split()))


def drawn(panel: Decide, name: str, axis: str = "y") -> list[tuple[float, float]]:
    trace = next(trace for trace in panel.figure.plotly.data if trace.name == name and trace.yaxis == axis)
    return list(zip(trace.x, trace.y, strict=True))


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, state_folder: str) -> None:
    for name in ("SCHEDULER_MAX_PARALLELISM", "CAPACITY_ALLOW_TARGET", "CAPACITY_MAX_STARTS"):
        monkeypatch.delenv(name, raising=False)


# -- the comparison ---------------------------------------------------------------------------------------------------


def test_it_is_a_public_helper() -> None:
    """``capacity.Decide`` and ``capacity.Launch`` are there for notebooks of one's own."""
    from capacity.notebook.launch import Launch

    assert (capacity.Decide, capacity.Launch) == (Decide, Launch)


def test_the_verdict_is_that_of_compare() -> None:
    """Sentence, ratios and how many more blocks are those that the verdict room gives for the same blocks."""
    blocks = noisy(12, 1.0, 4.0)
    panel = compared(blocks)
    expected = compare(blocks, "2x", "4x", ["the launcher shared the cluster's CPUs, as on one machine"])
    assert panel.comparison == expected
    assert panel.state == "done"
    assert "Done: 12 of 12 blocks" in text(panel.status)
    assert 'role="status"' in panel.status.value
    assert expected.verdict in text(panel.verdict)
    assert "keep 2x" in expected.verdict
    assert decide_parts.settled(expected) in text(panel.verdict)
    assert all(cell in text(panel.summary) for row in expected.rows() for cell in row)


def test_the_figure_has_each_block_and_the_interval_so_far() -> None:
    """Rings and diamonds by order, the running ratio, and a band that is the interval of the blocks up to there."""
    blocks = noisy(8, 1.2, 2.0, seed=3)
    panel = compared(blocks)
    first = {
        b.index + 1: (b.candidate.throughput / b.baseline.throughput - 1) * 100 for b in blocks if b.baseline_first
    }
    second = {b.index + 1: b.candidate.p99 / b.baseline.p99 for b in blocks if not b.baseline_first}
    assert dict(drawn(panel, "block, baseline first")) == pytest.approx(first)
    assert dict(drawn(panel, "block, candidate first", "y2")) == pytest.approx(second)
    for name, low, high in (("y", 0, 1), ("y2", 6, 7)):
        so_far = [compare(blocks[: n + 1], "a", "b") for n in range(8)]
        ratios = [each.throughput if name == "y" else each.p99 for each in so_far]
        scaled = (lambda r: (r - 1) * 100) if name == "y" else (lambda r: r)
        assert [y for _, y in drawn(panel, "ratio so far", name)] == pytest.approx([scaled(r.value) for r in ratios])
        edges = [r.interval for r in ratios if r.interval is not None]
        assert list(panel.figure.plotly.data[low].y) == pytest.approx([scaled(edge[1]) for edge in edges])
        assert list(panel.figure.plotly.data[high].y) == pytest.approx([scaled(edge[0]) for edge in edges])
    assert panel.comparison.throughput.is_more
    assert panel.figure.plotly.layout.yaxis.range[1] >= max(first.values())
    assert "4x: throughput +" in text(SimpleNamespace(value=panel.figure.plotly.layout.title.text))


def test_every_number_of_the_figure_is_in_the_table() -> None:
    """Each block's rates and latencies, its ratios, and the interval after it are text as well."""
    panel = compared(noisy(5, 1.0, 3.0, seed=1))
    table = text(panel.table)
    for name, digits in (("y", "{:+.1f} %"), ("y2", "{:.2f}")):
        traces = [trace for trace in panel.figure.plotly.data if trace.yaxis == name]
        for trace in traces[2:]:
            assert all(digits.format(value) in table for value in trace.y), trace.name
        edges = [(low, high) for high, low in zip(traces[0].y, traces[1].y, strict=True) if high < 1e4]
        assert len(edges) == 4
        sign = "+,.1f" if name == "y" else ",.2f"
        assert all(f"{low:{sign}} to {high:{sign}}" in table for low, high in edges)
    for row in panel.comparison.to_frame():
        assert f"{row['baseline_throughput']:,.0f}, {row['candidate_throughput']:,.0f}" in table
        assert f"{row['baseline_p99'] * 1e3:,.1f}, {row['candidate_p99'] * 1e3:,.1f} ms" in table


def test_blocks_appear_as_they_come() -> None:
    """With two of six there are two marks, a bar at two, words for how long, and a verdict that says so far."""
    replay = Replay(noisy(6, 1.0, 4.0), before=2)
    panel = panel_of(replay)
    panel.start.click()
    assert replay.waiting.wait(20)
    assert "Comparing: 2 of 6 blocks" in text(panel.status)
    assert len(drawn(panel, "ratio so far")) == 2
    assert (panel.bar.value, panel.bar.maximum) == (2, 6)
    assert text(panel.verdict).startswith("So far, 4x:")
    wait_until(lambda: "2 of 6 blocks" in panel.numbers.value and "left" in panel.numbers.value)
    assert (panel.start.disabled, panel.cancel.disabled, panel.checking.start.disabled) == (True, False, True)
    assert panel.controls.blocks.box.disabled
    replay.gate.set()
    ended(panel)
    assert not text(panel.verdict).startswith("So far")
    assert (panel.start.disabled, panel.cancel.disabled, panel.checking.start.disabled) == (False, True, False)


def test_a_second_comparison_begins_anew() -> None:
    """Compared again with fewer blocks, nothing of the first is left, nor on the axis."""
    panel = compared(noisy(6, 1.0, 4.0))
    panel._comparing = Replay(noisy(3, 1.5, 1.0))
    panel.controls.blocks.box.value = "3"
    panel.start.click()
    ended(panel)
    assert len(drawn(panel, "ratio so far")) == 3
    assert tuple(panel.figure.plotly.layout.xaxis.tickvals) == (1, 2, 3)


def test_cancel_keeps_whole_blocks() -> None:
    """Cancelled after three blocks, the verdict is of three."""
    replay = Replay(noisy(6, 1.0, 4.0), before=3)
    panel = panel_of(replay)
    panel.start.click()
    assert replay.waiting.wait(20)
    panel.cancel.click()
    assert len(ended(panel).blocks) == 3
    assert panel.state == "cancelled"
    assert "Cancelled: 3 of 6 blocks" in text(panel.status)


def test_cancel_before_the_first_block() -> None:
    """The cell that waits gets one clear line and no KeyboardInterrupt."""
    replay = Replay(noisy(6, 1.0, 4.0), before=0)
    panel = panel_of(replay)
    panel.start.click()
    assert replay.waiting.wait(20)
    panel.cancel.click()
    with pytest.raises(UsageError, match="cancelled before its first block"):
        ended(panel)
    assert panel.state == "cancelled"
    assert (panel.save.disabled, panel.start.disabled) == (True, False)


def test_an_error_keeps_the_blocks_before_it() -> None:
    """A cluster that dies after four blocks leaves a verdict of four, and why it ended."""
    panel = panel_of(Replay(noisy(6, 1.0, 4.0), before=4, error=ClusterError("the dev server died")))
    panel.start.click()
    assert len(ended(panel).blocks) == 4
    assert panel.state == "incomplete"
    assert "the dev server died" in text(panel.error)


def test_a_comparison_that_cannot_begin_is_one_clear_line() -> None:
    """No program, no traceback."""
    panel = panel_of(Replay(noisy(2, 1, 1), error=ClusterError("the program 'temporal' is missing")))
    panel.start.click()
    with pytest.raises(ClusterError, match="missing"):
        ended(panel)
    assert panel.state == "failed"
    assert "Traceback" not in panel.error.value
    assert (text(panel.said), text(panel.numbers)) == ("", "")


def test_a_defect_shows_where() -> None:
    """What is no CapacityError is called a defect and keeps its traceback."""
    panel = panel_of(Replay(noisy(2, 1, 1), defect=ZeroDivisionError("<b>")))
    panel.start.click()
    with pytest.raises(ZeroDivisionError):
        ended(panel)
    assert "A defect of capacity: ZeroDivisionError('<b>')" in text(panel.error)


def test_a_defect_leaves_the_blocks_before_it() -> None:
    """They stay drawn, and the figure says how many they are."""
    panel = panel_of(Replay(noisy(4, 1, 1), defect=ZeroDivisionError("x")), blocks=6)
    panel.start.click()
    with pytest.raises(ZeroDivisionError):
        ended(panel)
    assert "4 of 6 blocks compared" in panel.figure.plotly.layout.title.text


def test_a_block_that_says_nothing_is_marked_and_left_out() -> None:
    """A run in which starts failed: its block has a mark and a word of its own, and does not decide."""
    blocks = noisy(6, 1.0, 4.0)
    failed = blocks[2].model_copy(update={"candidate": point(100, 0.5, flag=Flag.FAILED)})
    panel = compared([*blocks[:2], failed, *blocks[3:]])
    assert [x for x, _ in drawn(panel, "block, left out")] == [3]
    assert "3 left out" in text(panel.table)
    assert panel.comparison.left_out == 1
    symbols = {trace.marker.symbol for trace in panel.figure.plotly.data if trace.mode == "markers"}
    assert len(symbols) == 3


@pytest.mark.parametrize(
    ("ratio", "p99_ratio", "decision", "words"),
    [
        (1.3, 1.0, "take", "take 4x"),
        (0.7, 1.0, "keep", "keep 2x"),
        (1.3, 4.0, "trade", "more starts for more latency"),
        (1.0, 1.0, "open", "more blocks of this length would settle a difference of 2%"),
    ],
)
def test_each_decision_is_said(ratio: float, p99_ratio: float, decision: str, words: str) -> None:
    """Better, worse, a trade, and not settled: each in words, with how many more blocks it would take."""
    panel = compared(noisy(6, ratio, p99_ratio))
    assert panel.comparison.decision == decision
    assert words in text(panel.verdict)


def test_what_stays_on_a_running_cluster_is_said() -> None:
    """The words name how to end what the comparison left there."""
    panel = panel_of(Replay(noisy(2, 1, 1), left=1234), target=HERE, blocks=2)
    panel.start.click()
    ended(panel)
    assert "1,234 workflows stay open" in text(panel.said)
    assert "STARTS_WITH 'cmp-x'" in text(panel.said)
    panel = panel_of(Replay(noisy(2, 1, 1), error=ClusterError("the server died")), target=HERE, blocks=2)
    panel.start.click()
    with pytest.raises(ClusterError):
        ended(panel)
    assert text(panel.said) == "a new cluster starts"  # its last word: of a real comparison what it left there


def test_the_comparison_can_be_saved_as_compare_prints_it() -> None:
    """Save gives the browser what ``capacity compare --format json`` has."""
    panel = compared(noisy(4, 1.0, 4.0))
    sent: list[Any] = []
    panel.page.send = sent.append  # type: ignore[method-assign]
    panel.save.click()
    (message,) = sent
    assert json.loads(message["text"]) == panel.comparison.to_dict()


def test_waiting_for_nothing_is_a_misuse() -> None:
    """wait() and checked() without a click say what to do."""
    panel = panel_of()
    with pytest.raises(UsageError, match="nothing was compared"):
        ended(panel)
    with pytest.raises(UsageError, match="no run was checked"):
        asyncio.run(panel.checked())


def test_a_cell_whose_click_is_refused_gets_the_refusal() -> None:
    """With a wrong box, or while the other half runs, a wait raises why, and not the result of the click before."""
    panel = compared(noisy(4, 1.0, 1.0))
    checked(panel)
    panel.checking.boxes.count.box.value = "0"
    with pytest.raises(UsageError, match="cannot check: starts of each is 0"):
        checked(panel)
    panel.checking.boxes.count.box.value = "6,000"
    launches = panel.checking._launch = Launches(hold=True)
    panel.checking.start.click()
    assert launches.began.wait(20)
    panel.start.click()
    with pytest.raises(UsageError, match="cannot compare: launches for the checklist are under way"):
        ended(panel)
    panel.checking.cancel.click()
    with pytest.raises(UsageError, match="cancelled"):
        asyncio.run(asyncio.wait_for(panel.checked(), 60))
    panel.controls.blocks.box.value = "0"
    panel.start.click()
    with pytest.raises(UsageError, match="cannot compare: blocks is 0"):
        ended(panel)


def test_the_state_is_the_current_one_after_a_reload() -> None:
    """What a reloaded page is sent are the blocks of now, not an empty figure."""
    panel = compared(noisy(5, 1.0, 4.0))
    spec = panel.figure.get_state()["spec"]
    marks = [trace for trace in spec["data"] if trace["name"] == "ratio so far"]
    assert [len(trace["y"]) for trace in marks] == [5, 5]
    assert "throughput" in spec["layout"]["title"]["text"]


# -- its controls -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Decide:
    """One figure for the tests that only type."""
    return panel_of()


@pytest.fixture
def panel(shared: Decide) -> Decide:
    """2x against 4x on 2 CPUs, 6 blocks of 5 s, on a server of its own."""
    controls, checking = shared.controls, shared.checking
    controls.place.where.value = "sqlite"
    for name, value in (("cpus", "2"), ("baseline", "2x"), ("candidate", "4x"), ("blocks", "6"), ("seconds", "5")):
        getattr(controls, name).box.value = value
    for name, value in (("run", ""), ("baseline", ""), ("count", "6,000"), ("limits", "")):
        getattr(checking.boxes, name).box.value = value
    checking.boxes.calibration.value = "nothing"
    for name, value in (("source", "4x"), ("target", "2x"), ("cpus", "2")):
        getattr(shared.back, name).box.value = value
    return shared


def on_running(panel: Decide) -> None:
    """Compare and check on a running cluster."""
    panel.controls.place.where.value, panel.controls.place.address.box.value = "cluster", HERE.address


def test_the_controls_are_the_comparison(panel: Decide) -> None:
    """Every control reaches what is asked for."""
    controls = panel.controls
    for name, typed in (
        ("cpus", "16"),
        ("baseline", "auto"),
        ("candidate", "8x"),
        ("blocks", "40"),
        ("seconds", "2.5"),
    ):
        getattr(controls, name).box.value = typed
    asked = controls.asked
    assert (asked.baseline.parallelism, asked.candidate.parallelism, asked.blocks) == (None, 128, 40)
    assert (asked.wanted.seconds, asked.wanted.store) == (2.5, "sqlite")
    assert "auto against 8x (128 in flight): 40 blocks of 2.5 s each" in text(controls.plan)
    assert "about 8 min" in text(controls.plan)


def test_an_empty_cpus_box_is_this_machine(panel: Decide) -> None:
    """2x is then twice the CPUs of this process, and SCHEDULER_MAX_PARALLELISM does not make both sides one."""
    panel.controls.cpus.box.value = ""
    cpus = capacity.available_cpus().count
    assert panel.controls.asked.baseline.parallelism == 2 * cpus
    assert panel.controls.asked.candidate.parallelism == 4 * cpus


def test_keys_of_a_server_are_a_setting(panel: Decide) -> None:
    """They need a cluster of their own for each run, which is said; a running one is not restarted."""
    panel.controls.candidate.box.value = "8,history.shardIOConcurrency=4"
    assert panel.controls.asked.own_each
    assert "new for each run" in text(panel.controls.plan)
    panel.controls.place.where.value = "cluster"
    panel.controls.place.address.box.value = HERE.address
    assert "an existing cluster is not restarted" in text(panel.controls.candidate.refusal)
    assert panel.controls.asked is None


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("baseline", "", "nothing is set here; allowed: 2x, 64, auto"),
        ("candidate", "fast", "setting is 'fast'"),
        ("candidate", "0x", "the multiplier is 0"),
        ("candidate", "0", "setting is '0'"),
        ("candidate", "rate=0", "rate is 0"),
        ("candidate", "rate=nan", "rate is nan"),
        ("candidate", "2x,4x", "says twice how many are in flight"),
        ("candidate", "shards=8", "shards is given; allowed: only with the store postgres"),
        ("cpus", "0", "CPUs is 0; allowed: a whole number from 1 to 4,096"),
        ("cpus", "many", "CPUs is 'many'"),
        ("blocks", "1", "blocks is 1; allowed: a whole number from 2 to 200"),
        ("blocks", "201", "blocks is 201"),
        ("blocks", "2.5", "blocks is '2.5'"),
        ("seconds", "0.5", "seconds a run is '0.5'; allowed: 1 to 600 seconds"),
        ("seconds", "nan", "seconds a run is 'nan'"),
        ("seconds", "601", "seconds a run is '601'"),
    ],
)
def test_an_absurd_value_is_refused_beside_its_box(panel: Decide, field: str, typed: str, words: str) -> None:
    """The words stand at the box; nothing can be compared, or launched to be checked, until it is right."""
    box = getattr(panel.controls, field)
    good = box.box.value
    box.box.value = typed
    assert words in text(box.refusal)
    assert 'role="alert"' in box.refusal.value
    assert "Cannot compare" in text(panel.controls.plan)
    assert (panel.start.disabled, panel.checking.start.disabled) == (True, True)
    panel.start.click()
    assert panel.state == "idle"
    box.box.value = good
    assert box.refusal.value == ""
    assert (panel.start.disabled, panel.checking.start.disabled) == (False, False)


def test_a_box_made_right_is_right_whatever_else_is_wrong(panel: Decide) -> None:
    """A setting that was refused, and is corrected while the CPUs are refused, is no longer called wrong."""
    for side in (panel.controls.baseline, panel.controls.candidate):
        good = side.box.value
        side.box.value = "fast"
        panel.controls.cpus.box.value = "0"
        assert "setting is 'fast'" in text(side.refusal)
        side.box.value = good
        assert side.refusal.value == ""
        assert "Cannot compare: CPUs is 0" in text(panel.controls.plan)
        panel.controls.cpus.box.value = "2"
    assert panel.controls.asked is not None


def test_the_edge_of_parallelism(panel: Decide) -> None:
    """More than the rules' 512 in flight is cut to 512, and the words say what it comes to."""
    panel.controls.candidate.box.value = "9999"
    assert panel.controls.asked.candidate.parallelism == 512
    assert "512 in flight" in text(panel.controls.plan)


def test_a_running_cluster_is_guarded(panel: Decide) -> None:
    """An existing cluster has its address box; a foreign one is refused at it, loopback is taken."""
    place = panel.controls.place
    assert place.address.view.layout.display == "none"
    place.where.value = "cluster"
    place.address.box.value = "temporal.example.com:7233"
    assert "refused to connect to temporal.example.com:7233" in text(place.address.refusal)
    assert panel.controls.asked is None
    place.address.box.value = HERE.address
    assert panel.controls.asked.wanted.target.address == HERE.address
    place.cores.box.value = "0"
    assert "its CPUs is 0" in text(place.cores.refusal)
    place.cores.box.value = ""
    assert panel.controls.asked is not None


def test_every_box_and_button_has_a_name(panel: Decide) -> None:
    """What a screen reader calls each control is there, and no two are called the same."""
    import ipywidgets as widgets

    def inside(widget: Any) -> Iterator[Any]:
        yield widget
        for child in getattr(widget, "children", ()):
            yield from inside(child)

    kinds = (widgets.Text, widgets.Combobox, widgets.Dropdown, widgets.Checkbox, widgets.Button, widgets.ToggleButton)
    names = [each.description for each in inside(panel.view) if isinstance(each, kinds)]
    assert len(names) >= 20
    assert all(names)
    assert len(set(names)) == len(names), names


# -- the checklist ----------------------------------------------------------------------------------------------------


def test_check_launches_both_and_holds_the_candidate_to_its_limits(panel: Decide) -> None:
    """Baseline first, then candidate, on the same cluster, with ids of their own; the checks are the verdict room's."""
    from capacity.verdict.checklist import check
    from capacity.verdict.thresholds import thresholds

    launches = panel.checking._launch = Launches()
    found = checked(panel)
    assert [each["parallelism"] for each in launches.asked] == [4, 8]
    assert [each["count"] for each in launches.asked] == [6000, 6000]
    assert len(set(launches.chains)) == 2
    one, other = panel.checking.runs
    assert found == panel.checking.checklist == check(other, thresholds(), baseline=one)
    assert found.baseline_id == one.run_id
    assert found.sentence() in text(panel.checking.verdict)
    shown = text(panel.checking.table)
    for each in found.checks:
        words = {"pass": "✓ pass", "fail": "✗ FAIL", "not measured": "? not measured"}[each.state]
        assert " ".join(f"{each.title} {words} {each.shown_value} {each.shown_limit}".split()) in shown
        assert each.explanation in shown
    assert "Checked: " in text(panel.checking.status)
    assert panel.checking.bar.style == "success"


def test_what_stays_on_a_running_cluster_is_said_and_an_own_server_keeps_nothing(panel: Decide) -> None:
    """Launched on a running cluster, one reads how to end the workflows of both runs; a server of its own is gone."""
    panel.checking._launch = Launches()
    checked(panel)
    assert text(panel.checking.said) == ""
    on_running(panel)
    panel.checking._launch = Launches()
    checked(panel)
    assert "12,000 workflows were started and stay on the cluster" in text(panel.checking.said)
    assert all(f"capacity runs clean {run.run_id}" in text(panel.checking.said) for run in panel.checking.runs)


def test_check_launches_by_as_many_processes_as_were_compared() -> None:
    """8 by one process and by two are two settings: compared without a note, and launched so for the checklist."""
    panel = panel_of(Replay(noisy(2, 1.0, 1.0)), baseline="8", candidate="8,processes=2", blocks=2)
    panel.start.click()
    ended(panel)
    assert "one setting" not in text(panel.verdict)
    launches = panel.checking._launch = Launches()
    checked(panel)
    assert [(each["parallelism"], each["processes"]) for each in launches.asked] == [(8, 1), (8, 2)]


def test_the_alert_table_has_each_rule_and_what_the_run_had(panel: Decide) -> None:
    """Name, limit, wait and severity of every rule; beside it the value of the run that was checked."""
    from capacity.verdict.alert_rules import rules
    from capacity.verdict.thresholds import thresholds

    panel.checking._launch = Launches()
    checked(panel)
    shown = text(panel.checking.alerts)
    found = rules(thresholds())
    assert all(rule.name in shown for rule in found)
    titles = {each.key: each.title for each in thresholds()}
    assert f"CapacityStartP99High {titles['start_p99']} above 50 ms 120 s critical 20 ms" in shown
    assert f"CapacityThroughputBelowOriginal {titles['throughput']} below 150,000/s 300 s warning 300/s" in shown
    assert panel.checking.alerts.value.count("<tr>") == len(found) + 1


def test_files_are_handed_to_the_browser(panel: Decide) -> None:
    """The checklist as a page, and the rules as ``capacity alerts`` prints them."""
    from capacity.verdict.alert_rules import prometheus
    from capacity.verdict.thresholds import thresholds

    panel.checking._launch = Launches()
    found = checked(panel)
    sent: list[Any] = []
    panel.page.send = sent.append  # type: ignore[method-assign]
    panel.checking.save_checklist.click()
    panel.checking.save_alerts.click()
    assert [message["name"] for message in sent] == [f"checklist-{found.run_id}.html", "capacity-rules.yml"]
    assert html.escape(found.sentence()) in sent[0]["text"]
    assert sent[1]["text"] == prometheus(thresholds())


def test_limits_of_ones_own(panel: Decide, tmp_path: Path) -> None:
    """A file changes limit and alert; one that is none is refused in words beside its box."""
    own = tmp_path / "own.toml"
    own.write_text("[start_p99]\nlimit = 0.015\n")
    panel.checking.boxes.limits.box.value = str(own)
    assert "p99 of a start above 15 ms" in text(panel.checking.alerts)
    panel.checking._launch = Launches()
    found = checked(panel)
    assert "start_p99" in [each.key for each in found.of("fail", "critical")]
    assert re.match("FAIL: .* 20 ms", text(panel.checking.verdict))
    own.write_text("[start_p98]\nlimit = 1\n")
    panel.checking.boxes.limits.box.value = ""
    panel.checking.boxes.limits.box.value = str(own)
    assert "did you mean start_p99?" in text(panel.checking.boxes.limits.refusal)
    assert panel.checking.start.disabled
    panel.checking.boxes.limits.box.value = str(tmp_path / "none.toml")
    assert "cannot read thresholds" in text(panel.checking.boxes.limits.refusal)


def test_limits_that_are_refused_are_neither_shown_as_alerts_nor_saved(panel: Decide, tmp_path: Path) -> None:
    """The shipped ones do not stand in for them: there is no table and nothing to save until they are right."""
    sent: list[Any] = []
    panel.page.send = sent.append  # type: ignore[method-assign]
    panel.checking.boxes.limits.box.value = str(tmp_path / "none.toml")
    assert panel.checking.save_alerts.disabled
    assert text(panel.checking.alerts) == "None: your own limits are refused."
    panel.checking.save_alerts.click()
    assert sent == []
    panel.checking.boxes.limits.box.value = ""
    assert "CapacityStartP99High" in text(panel.checking.alerts)
    panel.checking.save_alerts.click()
    assert len(sent) == 1


def test_limits_that_are_gone_since_they_were_typed_are_refused_at_the_click(panel: Decide, tmp_path: Path) -> None:
    """Neither Check nor Save takes a file that cannot be read any more, and both work again without it."""
    own = tmp_path / "own.toml"
    own.write_text("[start_p99]\nlimit = 0.015\n")
    panel.checking.boxes.limits.box.value = str(own)
    before = panel.checking.state
    assert not panel.checking.start.disabled
    own.unlink()
    with pytest.raises(UsageError, match="cannot check: cannot read thresholds"):
        checked(panel)
    assert panel.checking.state == before
    assert "cannot read thresholds" in text(panel.checking.boxes.limits.refusal)
    assert panel.checking.save_alerts.disabled
    panel.checking.boxes.limits.box.value = ""
    panel.checking._launch = Launches()
    checked(panel)
    assert panel.checking.state == "done"


def test_a_recorded_run_needs_no_count(panel: Decide) -> None:
    """A number of starts that is refused is no hindrance where nothing is launched and its box is not shown."""
    panel.checking.boxes.count.box.value = "0"
    panel.checking.boxes.run.box.value = "last"
    assert "nothing is launched" in text(panel.checking.boxes.plan)
    assert not panel.checking.start.disabled


@pytest.mark.parametrize("typed", ["0", "-1", "many", "1e9", "10,000,001"])
def test_absurd_starts_are_refused_beside_their_box(panel: Decide, typed: str) -> None:
    """The words stand at the box, and Check is off; Compare is not."""
    panel.checking.boxes.count.box.value = typed
    assert "starts of each is" in text(panel.checking.boxes.count.refusal)
    assert (panel.checking.start.disabled, panel.start.disabled) == (True, False)


def test_a_recorded_run_is_checked_without_a_launch(panel: Decide, state_folder: str) -> None:
    """A run id in the box: its record is checked, beside a baseline where one is named, and nothing is launched."""
    folder = Path(state_folder) / "runs"
    folder.mkdir(parents=True)
    for place in (1, 2):
        name = f"20260101-00000{place}-abcdef"
        (folder / f"{name}.json").write_text(record(6000, name).model_dump_json())
    launches = panel.checking._launch = Launches()
    panel.checking.boxes.run.box.value, panel.checking.boxes.baseline.box.value = "last", "20260101-000001"
    assert "nothing is launched" in text(panel.checking.boxes.plan)
    found = checked(panel)
    assert (found.run_id, found.baseline_id) == ("20260101-000002-abcdef", "20260101-000001-abcdef")
    assert launches.asked == []
    panel.checking.boxes.run.box.value = "nowhere"
    with pytest.raises(UsageError, match="no runs match 'nowhere'"):
        checked(panel)
    assert "no runs match 'nowhere'" in text(panel.checking.error)
    assert panel.checking.state == "failed"


def test_a_prediction_can_be_named(panel: Decide) -> None:
    """By a shipped calibration the throughput is held to a share of what is predicted; by none it is not measured."""
    panel.checking._launch = Launches()
    assert {each.key: each.state for each in checked(panel).checks}["throughput_predicted"] == "not measured"
    panel.checking.boxes.calibration.value = "devserver"
    found = {each.key: each for each in checked(panel).checks}["throughput_predicted"]
    assert found.limit == pytest.approx(0.8 * panel.checking.predicted)
    assert "CapacityThroughputBelowPrediction" in text(panel.checking.alerts)


def test_the_alerts_are_of_the_run_and_the_prediction_that_stand_there(panel: Decide) -> None:
    """Predicted by nothing, or checked again in vain, neither table nor file has a limit by the prediction before."""
    sent: list[Any] = []
    panel.page.send = sent.append  # type: ignore[method-assign]

    def predicted() -> bool:
        """Whether the table, and the file, have the alert by the prediction."""
        panel.checking.save_alerts.click()
        shown = "CapacityThroughputBelowPrediction" in text(panel.checking.alerts)
        assert shown == ("- alert: CapacityThroughputBelowPrediction" in sent[-1]["text"])
        return shown

    panel.checking._launch = Launches()
    panel.checking.boxes.calibration.value = "devserver"
    checked(panel)
    assert predicted()
    panel.checking.boxes.calibration.value = "nothing"
    assert not predicted()
    assert panel.checking.predicted is None
    panel.checking.boxes.calibration.value = "devserver"
    assert predicted()
    assert "20 ms" in text(panel.checking.alerts)
    panel.checking._launch = Launches(error=ClusterError("nobody answers"))
    with pytest.raises(ClusterError):
        checked(panel)
    assert not predicted()
    assert "20 ms" not in text(panel.checking.alerts)


def test_stopping_the_launches_checks_nothing(panel: Decide) -> None:
    """Stop ends the launch under way and leaves out the next; the panel can be used again."""
    launches = panel.checking._launch = Launches(hold=True)
    panel.checking.start.click()
    assert launches.began.wait(20)
    assert (panel.start.disabled, panel.controls.blocks.box.disabled) == (True, True)
    panel.checking.cancel.click()
    with pytest.raises(UsageError, match="launches for the checklist were cancelled"):
        asyncio.run(asyncio.wait_for(panel.checked(), 60))
    assert len(launches.asked) == 1
    assert panel.checking.state == "cancelled"
    assert (panel.start.disabled, panel.checking.start.disabled, panel.controls.blocks.box.disabled) == (False,) * 3


def test_a_launch_that_fails_is_one_clear_line(panel: Decide) -> None:
    """Nobody answers: said once, and no checklist is made up; what was started before it is said to stay."""
    on_running(panel)
    panel.checking._launch = Launches(error=ClusterError("nobody answers"))
    with pytest.raises(ClusterError):
        checked(panel)
    assert "nobody answers" in text(panel.checking.error)
    assert text(panel.checking.said) == ""
    panel.checking._launch = Launches(error=ClusterError("nobody answers"), before=1)
    with pytest.raises(ClusterError):
        checked(panel)
    assert "6,000 workflows were started and stay on the cluster" in text(panel.checking.said)
    assert "'capacity runs clean 20260101-000001-abcdef' ends them" in text(panel.checking.said)
    assert panel.checking.checklist is None
    assert panel.checking.save_checklist.disabled


# -- the way back -----------------------------------------------------------------------------------------------------


def test_the_way_back_is_that_of_the_comparison(panel: Decide) -> None:
    """From candidate to baseline, following the controls; before and after are what the rules give."""
    panel.back.cpus.box.value = "32"
    found = panel.rollback
    assert (found.before.value, found.after.value) == (128, 64)
    shown = text(panel.back.lines)
    assert "now 4x 128 32 CPUs x 4 = 128" in shown
    assert "after 2x 64 32 CPUs x 2 = 64" in shown
    panel.controls.candidate.box.value = "8x"
    assert (panel.rollback.before.value, panel.rollback.after.value) == (256, 64)


def test_the_way_back_is_on_the_cpus_of_the_comparison(panel: Decide) -> None:
    """CPUs typed above are those of the lines to copy; typed below, they stay until others are typed above."""
    panel.controls.cpus.box.value = "32"
    assert (panel.rollback.before.value, panel.rollback.after.value) == (128, 64)
    assert "Back from 4x to 2x on 32 CPUs" in text(panel.back.lines)
    panel.back.cpus.box.value = "8"
    panel.controls.candidate.box.value = "8x"
    assert (panel.rollback.before.value, panel.rollback.after.value) == (64, 16)
    panel.controls.cpus.box.value = "many"
    assert panel.rollback.cpus == 8
    panel.controls.cpus.box.value = ""
    assert panel.rollback.cpus == capacity.available_cpus().count


def test_every_line_to_copy_is_text_with_a_button(panel: Decide) -> None:
    """Each way's setting and commands, and the verification, stand to the letter in a block with a named button."""
    blocks = re.findall(r"<pre[^>]*>(.*?)</pre><button[^>]*aria-label=\"(.*?)\"", panel.back.lines.value, re.S)
    copied = {html.unescape(name): html.unescape(content) for content, name in blocks}
    found = panel.rollback
    assert copied["Copy the Environment setting"] == found.way("environment").setting
    assert copied["Copy the systemd drop-in setting"] == found.way("systemd").setting
    assert copied["Copy the systemd drop-in commands"] == "\n".join(found.way("systemd").commands)
    assert copied["Copy the Kubernetes patch setting"] == found.way("kubernetes").setting
    assert copied["Copy the Go code setting"] == found.way("go").setting
    assert copied["Copy the Python code setting"] == found.way("python").setting
    assert copied["Copy the commands that verify it"] == "\n".join(found.verify)
    assert len(blocks) == len(copied) == 8


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("source", "auto", "back from is 'auto'; allowed: a number like 64"),
        ("target", "", "back to is ''"),
        ("target", "0x", "back to is '0x'"),
        ("cpus", "0", "CPUs there is 0"),
        ("cpus", "4097", "CPUs there is 4,097"),
    ],
)
def test_no_way_back_is_said_beside_the_box(panel: Decide, field: str, typed: str, words: str) -> None:
    """What is no parallelism to go back to is refused in words, and no lines are shown."""
    getattr(panel.back, field).box.value = typed
    assert words in text(getattr(panel.back, field).refusal)
    assert "No way back" in text(panel.back.lines)
    with pytest.raises(UsageError, match="no way back is shown"):
        panel.rollback  # noqa: B018
