"""The launch form and the measure panel in a real JupyterLab and a real browser, against real servers.

The page of the form is opened once; each test leaves it idle. The servers are the test's, so that it can kill them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from capacity.cluster import devserver as embedded
from capacity.errors import ClusterError
from capacity.figures.run import run_spec
from tests.notebook.browser.pages import FAILED_CELL, figure_drawn, reloaded, tree_names

pytestmark = pytest.mark.browser

FAKE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from fake_frontend import FakeFrontend
async def main():
    async with FakeFrontend().serving() as frontend:
        print(frontend.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""
MANY = 20_000


class Server:
    """A dev server that can be killed and brought back with its data, on the same port."""

    def __init__(self, folder: Path) -> None:
        self._more: dict[str, Any] = {"database": folder / "kept.db", "log": folder / "server.log"}
        self.running = embedded.start(**self._more)
        self.address = self.running.address

    def kill(self) -> None:
        os.kill(self.running.pid, signal.SIGKILL)

    def revive(self) -> None:
        embedded.stop(self.running)
        port = int(self.address.rpartition(":")[2])
        for _ in range(50):
            with contextlib.suppress(ClusterError):  # the port of a killed server is not free at once
                self.running = embedded.start(port, **self._more)
                return
            time.sleep(0.2)
        pytest.fail(f"the dev server did not come back on port {port}")


@pytest.fixture(scope="module")
def server(require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        embedded.find_binary()
    except ClusterError:
        require(False, "temporal program")
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    embedded.stop(started.running)


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    """The address of a frontend that says yes to everything: the panel's limits, not a server's."""
    folder = Path(__file__).parents[2] / "launcher"
    command = [sys.executable, "-c", FAKE, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def page(opened: Any, server: Server, fake: str) -> Any:
    """A notebook with the form on the dev server, and below it a panel with 20,000 items on the fake frontend."""
    page = opened(
        "live.ipynb",
        [
            "from capacity.cluster.target import Target\n"
            "from capacity.notebook.launch_entry import launch_form\n"
            f"form = launch_form(Target('{server.address}'), count=300)\nform",
            "import capacity\n"
            f"many = capacity.Launch(capacity.HeightRange({MANY}), Target('{fake}'), parallelism=64)\nmany",
        ],
    )
    figure_drawn(page, ".jp-CodeCell .jp-OutputArea")
    return page


@pytest.fixture
def form(page: Any) -> Any:
    """The output of the form's cell."""
    return page.locator(".jp-CodeCell").nth(0).locator(".jp-OutputArea")


def fill(form: Any, name: str, text: str) -> None:
    box = form.get_by_label(name, exact=True)
    box.fill(text)
    box.press("Enter")


def press(form: Any, name: str) -> None:
    form.get_by_role("button", name=name).click()


def state(form: Any) -> Any:
    return form.locator("[role=status]").first


def asked(form: Any, chain: str, count: int, parallelism: str) -> None:
    """Fill in a batch of its own and launch it."""
    for name, text in (("Chain id", chain), ("Count", str(count)), ("Parallelism", parallelism)):
        fill(form, name, text)
    press(form, "Launch")
    form.locator(f'progress[max="{count}"]').wait_for()  # the bar of this batch, not that of the one before


def done_so_far(form: Any) -> int:
    return int(form.locator("progress").get_attribute("value"))


def until_more_than(form: Any, count: int) -> None:
    """Wait until the bar is beyond a count."""
    deadline = time.monotonic() + 90
    while done_so_far(form) <= count:
        assert time.monotonic() < deadline, form.inner_text()
        time.sleep(0.1)


def test_every_control_has_a_name_in_chromiums_tree(page: Any, form: Any) -> None:
    """Each box, list, button and bar of the form is named for a screen reader."""
    names = tree_names(page, ".jp-CodeCell .jp-OutputArea :is(input, select, button, progress)")
    assert len(names) >= 18
    assert not [name for name in names if not re.search(r"[A-Za-z]{3}", name)]
    assert set(names) >= {"Target", "Count", "Parallelism", "Launch", "Cancel", "Resume", "Items of the batch"}


def test_a_launch_ends_on_the_right_number(form: Any, expect: Any) -> None:
    """300 items: progress, then Done in words, the server's count, a line in the figure and the record."""
    expect(state(form)).to_have_text("Idle: nothing launched yet")
    asked(form, "a", 300, "4")
    expect(state(form)).to_have_text("Done: 300 of 300", timeout=120_000)
    expect(form).to_contain_text("verified 300 of 300")
    expect(form.locator("progress")).to_have_attribute("value", "300")
    expect(form.locator(".js-plotly-plot .gtitle").first).to_contain_text("300 started at")
    expect(form.locator(".js-plotly-plot .scatterlayer .js-line").first).to_be_attached()
    expect(form.get_by_text("Run 20").first).to_be_attached()


def test_cancel_then_resume_by_keyboard(form: Any, expect: Any) -> None:
    """Cancel in mid-run keeps what is done; Resume ends the same batch. No mouse."""
    asked(form, "b", 600, "2")
    until_more_than(form, 20)
    form.get_by_role("button", name="Cancel").press("Enter")
    expect(state(form)).to_contain_text("Cancelled: ", timeout=60_000)
    cut = done_so_far(form)
    assert 0 < cut < 600
    form.get_by_role("button", name="Resume").press("Enter")
    expect(state(form)).to_have_text("Done: 600 of 600", timeout=180_000)
    expect(form).to_contain_text("verified 600 of 600")
    expect(form.get_by_role("button", name="Resume")).to_be_disabled()


def test_a_server_killed_in_mid_launch_is_lost_and_recovers(form: Any, expect: Any, server: Server) -> None:
    """The panel says that the server is lost, then that it answers again, and goes on."""
    asked(form, "c", 5000, "4")
    until_more_than(form, 20)
    server.kill()
    expect(state(form)).to_contain_text("Server lost", timeout=60_000)
    before = done_so_far(form)
    server.revive()
    expect(state(form)).to_have_text("Running again: the server answers", timeout=60_000)
    until_more_than(form, before + 5)
    press(form, "Cancel")
    expect(state(form)).to_contain_text("Cancelled: ", timeout=60_000)
    expect(form).to_contain_text("In the way: the server was away")


def test_a_reload_in_mid_run_keeps_state_and_goes_on(page: Any, form: Any, expect: Any) -> None:
    """After a reload the panel is there as it is now, still moves, and its Cancel works."""
    asked(form, "d", 20_000, "2")
    until_more_than(form, 10)
    before = done_so_far(form)

    def shows() -> None:
        expect(state(form)).to_have_text("Running", timeout=60_000)
        expect(form.locator(".js-plotly-plot .gtitle").first).to_contain_text("of 20,000 done", timeout=60_000)
        other = page.locator(".jp-CodeCell").nth(1).get_by_role("button", name="Launch")
        expect(other).to_be_attached(timeout=60_000)

    reloaded(page, shows)
    until_more_than(form, before)
    expect(form.get_by_label("Count", exact=True)).to_have_value("20000")
    press(form, "Cancel")
    expect(state(form)).to_contain_text("Cancelled: ", timeout=60_000)


def test_what_makes_no_sense_is_refused_beside_its_box(form: Any, expect: Any) -> None:
    """Words beside the box, Launch off; the right number brings it back."""
    fill(form, "Count", "-3")
    expect(form.locator("[role=alert]", has_text="count is -3").first).to_be_visible()
    expect(form.get_by_role("button", name="Launch")).to_be_disabled()
    fill(form, "Count", "10")
    expect(form.get_by_role("button", name="Launch")).to_be_enabled()


def test_a_foreign_target_is_refused_in_words(form: Any, expect: Any, server: Server) -> None:
    """The guard says what it refuses and how to allow it."""
    fill(form, "Target", "temporal.example.com:7233")
    expect(form.locator("[role=alert]", has_text="Refused.").first).to_contain_text("Allow by name")
    expect(form.get_by_role("button", name="Launch")).to_be_disabled()
    fill(form, "Target", server.address)
    expect(form).to_contain_text("is loopback: a dev target")


def test_many_items_end_on_the_right_number(page: Any, expect: Any) -> None:
    """20,000 items as fast as a frontend without a store takes them: the last message reaches the browser."""
    many = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea")
    press(many, "Launch")
    expect(state(many)).to_have_text(f"Done: {MANY:,} of {MANY:,}", timeout=240_000)
    assert done_so_far(many) == MANY
    expect(many).to_contain_text(f"{MANY:,} started")


def test_the_measure_notebook_in_the_browser(opened: Any, expect: Any) -> None:
    """2-measure runs to its end: four rings and a fitted curve in each panel, the fit and the file in words."""
    page = opened("2-measure.ipynb")
    expect(page.locator(FAILED_CELL)).to_have_count(0)
    panel = page.locator(".jp-CodeCell").nth(0).locator(".jp-OutputArea")
    expect(panel.locator("[role=status]").first).to_have_text("Done: 4 of 4 points, fitted")
    expect(panel.locator(".js-plotly-plot .scatterlayer .point")).to_have_count(8)
    expect(panel.locator(".js-plotly-plot .gtitle").first).to_contain_text("starts/s at")
    expect(panel).to_contain_text("CPU per start")
    expect(panel).to_contain_text("Saved to")
    assert (page.capacity_off_machine, page.capacity_errors) == ([], [])


def test_nothing_left_this_machine_and_no_script_failed(page: Any) -> None:
    """All of the above made no request off 127.0.0.1 and no error on the browser's console."""
    assert (page.capacity_off_machine, page.capacity_errors) == ([], [])


def test_starts_in_flight_are_ticked_in_whole_numbers(browser: Any, tmp_path: Path) -> None:
    """With one, two or three in flight no tick stands at half a start, under a number that another has too."""
    graph = pytest.importorskip("plotly.graph_objects")
    page = browser.new_page(viewport={"width": 900, "height": 650})
    file = tmp_path / "figure.html"
    for count in (1, 2, 3):
        columns = {"at": [0.25, 0.5], "rate": [9.0, 9.0], "p50": [8.0, 8.0], "p99": [9.0, 9.0], "lost": [None, None]}
        spec = run_spec(columns | {"in_flight": [count] * 2, "limit": [count] * 2}, "a title", "inputs")
        graph.Figure(spec).write_html(file, include_plotlyjs=True)
        page.goto(f"file://{file}")
        page.wait_for_selector(".y3tick", state="attached")
        ticks = page.eval_on_selector_all(".y3tick text", "found => found.map(each => each.textContent)")
        assert ticks == sorted(set(ticks), key=int)
        assert len(ticks) > count
    page.close()


def test_a_long_title_fits_a_narrow_column(browser: Any, tmp_path: Path) -> None:
    """In 480 pixels the title of a launch of 750,000 is not cut, and its legend does not lie on it."""
    graph = pytest.importorskip("plotly.graph_objects")
    page = browser.new_page(viewport={"width": 480, "height": 650})
    columns = {name: [1.0, 2.0] for name in ("at", "rate", "p50", "p99", "in_flight", "limit", "lost")}
    title = "750,000 started at 12,345 starts/s, p99 1,153 ms, and so on until there is a second line"
    file = tmp_path / "figure.html"
    graph.Figure(run_spec(columns, title, "750,000 × PrecomputeBlock at 127.0.0.1:7233")).write_html(file)
    page.goto(f"file://{file}")
    page.wait_for_selector(".gtitle")
    box = "each => { const box = each.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom] }"
    left, right, _, bottom = page.eval_on_selector(".gtitle", box)
    assert left >= 0
    assert right <= 480
    assert bottom <= page.eval_on_selector(".legend", box)[2]
    page.close()
