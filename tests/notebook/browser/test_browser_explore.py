"""1-explore.ipynb in a real JupyterLab and a real browser. The page is opened once; each test leaves it usable."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capacity.notebook.explore import explore
from capacity.notebook.explore_export import numbers_html
from capacity.notebook.table import STYLE
from tests.notebook.browser.pages import FAILED_CELL, figure_drawn, reloaded, tabbed

pytestmark = pytest.mark.browser

LINES = ".jp-OutputArea .js-plotly-plot .scatterlayer .js-line"  # without those of the legend
FIGURE = ".jp-OutputArea .js-plotly-plot"
ROOT = ".jp-OutputArea-output:has(.cap-number)"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def explored(opened: Any) -> Any:
    """1-explore.ipynb, run to its end."""
    page = opened("1-explore.ipynb", height=1000)
    page.set_default_timeout(30_000)
    figure_drawn(page, ROOT)
    return page


@pytest.fixture
def page(explored: Any) -> Iterator[Any]:
    """The explorer on 8 CPUs, 4 per CPU, 2 cores."""
    for name, number in (("Cores, shared", 2), ("CPUs", 8)):
        type_into(explored, name, number)
    explored.locator(f"{FIGURE} .gtitle", has_text="4x on 8 CPUs").first.wait_for()
    yield explored
    explored.evaluate("() => window.scrollTo(0, 0)")


def title(page: Any) -> Any:
    return page.locator(f"{FIGURE} .gtitle").first


def marked(page: Any) -> Any:
    return page.locator(f"{ROOT} td[aria-current=true]")


def type_into(page: Any, name: str, number: int) -> None:
    box = page.locator(ROOT).get_by_label(name, exact=True)
    box.fill(str(number))
    box.press("Enter")


def slider(page: Any, name: str) -> Any:
    return page.locator(ROOT).get_by_role("slider", name=f"{name}, slider", exact=True)


def test_no_cell_failed(page: Any, expect: Any) -> None:
    """Every cell of the notebook ran without an error, its assertions included."""
    expect(page.locator(FAILED_CELL)).to_have_count(0)
    expect(page.locator(".jp-OutputArea", has_text="| 128 | 256 | 512* |").first).to_be_attached()


def test_a_key_moves_table_status_and_figure(page: Any, expect: Any) -> None:
    """A key press on the CPU slider changes the marked cell, the box, the status line and the figure's title."""
    slider(page, "CPUs").focus()
    page.keyboard.press("ArrowRight")
    expect(marked(page)).to_contain_text("now 48")
    expect(title(page)).to_contain_text("4x on 12 CPUs")
    expect(page.locator(ROOT).get_by_label("CPUs", exact=True)).to_have_value("12")
    expect(page.locator(f"{ROOT} [role=status]").first).to_contain_text("48 in flight")


def test_a_slider_says_its_number(page: Any, expect: Any) -> None:
    """Moved by key, by its box or by the kernel, a screen reader hears the number, not its place among the stops."""
    cpus = slider(page, "CPUs")
    expect(cpus).to_have_attribute("aria-valuetext", "8")
    cpus.focus()
    page.keyboard.press("ArrowRight")
    assert cpus.get_attribute("aria-valuetext") == "12"  # at once, before the kernel has answered
    type_into(page, "CPUs", 20)  # between two stops
    expect(marked(page)).to_contain_text("now 80")
    page.wait_for_timeout(500)
    assert cpus.get_attribute("aria-valuetext") == "20"
    cpus.drag_to(page.locator(ROOT).get_by_label("CPUs", exact=True))  # to the left end, held beyond it
    assert cpus.get_attribute("aria-valuetext") == "1"
    page.locator(ROOT).get_by_label("Cluster", exact=True).select_option("example-32-core")
    expect(slider(page, "History shards")).to_have_attribute("aria-valuetext", "512")
    page.locator(ROOT).get_by_label("Cluster", exact=True).select_option("postgres-dev")
    page.get_by_role("button", name="Show: size for a target").click()
    target = slider(page, "Target (starts/s)")  # of which nothing else on the page tells
    target.focus()
    for heard in ("5000", "10000"):
        page.keyboard.press("ArrowRight")
        assert target.get_attribute("aria-valuetext") == heard
    box = page.locator(ROOT).get_by_label("Target (starts/s)", exact=True)
    box.evaluate("box => { box.value = '5000'; }")  # as where the kernel has answered the first key alone
    page.wait_for_timeout(1000)
    assert target.get_attribute("aria-valuetext") == "10000"
    type_into(page, "Target (starts/s)", 2000)
    expect(target).to_have_attribute("aria-valuetext", "2000")
    page.get_by_role("button", name="Hide: size for a target").click()


def test_what_is_typed_outlives_the_answer_to_an_earlier_move(page: Any, expect: Any) -> None:
    """A slow kernel's answer to a key, come while a number is typed, neither replaces nor swallows it."""
    box = page.locator(ROOT).get_by_label("CPUs", exact=True)
    for entered in ("Enter", "Tab"):
        for typed, answered, number, held in ("2", "12", "20", 80), ("3", "24", "30", 120):
            box.fill(typed)
            box.evaluate("(box, answer) => { box.value = answer; }", answered)  # as the kernel's answer does
            expect(box).to_have_value(typed)
            box.press("End")
            box.press("0")
            expect(box).to_have_value(number)
            box.evaluate("(box, answer) => { box.value = answer; }", answered)
            box.press(entered)
            expect(marked(page)).to_contain_text(f"now {held}")


def test_a_key_on_a_resource_moves_ceiling_and_curve(page: Any, expect: Any) -> None:
    """One more core moves the named ceiling and the predicted line."""
    line = page.locator(LINES).nth(1)
    before = line.get_attribute("d")
    slider(page, "Cores, shared").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"{FIGURE} .annotation", has_text="3 CPUs").first).to_be_attached()
    expect(line).not_to_have_attribute("d", before)


def test_curves_bands_and_rings_are_drawn(page: Any, expect: Any) -> None:
    """Two curves with their bands, and as many rings in each panel as points were measured."""
    expect(page.locator(LINES)).to_have_count(4)
    for panel in ("xy", "x2y2"):
        # A group of marks per trace: measured points, then the plan.
        groups = page.locator(f"{FIGURE} .subplot.{panel} .scatterlayer .points:has(.point)")
        expect(groups).to_have_count(2)
        assert groups.nth(0).locator(".point").count() > 3
        assert groups.nth(1).locator(".point").count() == 1


def test_the_figure_fits_its_column(page: Any, expect: Any) -> None:
    """The drawing is as wide as its column, on a wide page and on one of 900 pixels, and nothing sticks out."""
    fits = f"""() => {{ const plot = document.querySelector('{FIGURE}');
        return Math.abs(plot.clientWidth - plot.querySelector('svg').clientWidth) < 2 }}"""
    page.wait_for_function(fits)
    size = page.viewport_size
    page.set_viewport_size({"width": 900, "height": 1000})
    try:
        page.wait_for_function(fits)
        over = f"(root => root.scrollWidth - root.clientWidth)(document.querySelector('{ROOT}'))"
        page.wait_for_function(f"() => {over} <= 1")
    finally:
        page.set_viewport_size(size)
    page.wait_for_function(fits)


def test_an_absurd_number_is_refused_beside_its_box(page: Any, expect: Any) -> None:
    """0 CPUs typed: words beside the box, and the table stays."""
    expect(marked(page)).to_contain_text("now 32")
    type_into(page, "CPUs", 0)
    alert = page.locator(f"{ROOT} [role=alert]", has_text="CPUs is 0")
    expect(alert).to_contain_text("allowed: 1 to 512")
    expect(marked(page)).to_contain_text("now 32")
    type_into(page, "CPUs", 8)
    expect(alert).to_have_count(0)


def test_every_control_is_reached_and_named_by_keyboard(page: Any) -> None:
    """Tab goes through every box, list, slider and button, each with a name in the accessibility tree."""
    names, there = tabbed(page, ROOT)
    assert len(names) == there, names
    assert all(names), names
    assert {"CPUs", "CPUs, slider", "Cluster", "Calibration", "p99 wanted (ms)", "Save CSV"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_fold_opens_and_sizes_by_keyboard(page: Any, expect: Any) -> None:
    """Enter opens the target mode, sizes a cluster, and says in words that the controls stand at it."""
    page.get_by_role("button", name="Show: size for a target").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Size the cluster for it").focus()
    page.keyboard.press("Enter")
    expect(page.locator(f"{ROOT} [role=status]", has_text="The controls stand at it")).to_be_attached()
    chosen = page.locator(ROOT).get_by_label("Cluster", exact=True)
    expect(chosen).to_have_value("sized for 2,000 starts/s")
    chosen.select_option("postgres-dev")
    type_into(page, "Override (0: none)", 0)
    page.get_by_role("button", name="Hide: size for a target").click()


def test_files_are_saved_without_a_network(page: Any, tmp_path: Path) -> None:
    """CSV, PNG, SVG and the report come as files of their kind."""
    saved = {}
    for name in ("CSV", "PNG", "SVG", "HTML report"):
        with page.expect_download(timeout=60_000) as waiting:
            page.get_by_role("button", name=f"Save {name}").click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        saved[name] = path
    with saved["CSV"].open() as lines:
        kinds = {row["kind"] for row in csv.DictReader(lines)}
    assert kinds == {"predicted", "measured", "ceiling", "wanted"}
    assert saved["PNG"].read_bytes().startswith(PNG)
    assert saved["PNG"].stat().st_size > 10_000
    assert "<svg" in saved["SVG"].read_text()[:200]
    assert "4x on 8 CPUs" in saved["SVG"].read_text()
    assert saved["HTML report"].stat().st_size > 4_000_000


def test_the_report_opens_and_asks_for_nothing(page: Any, tmp_path: Path, expect: Any) -> None:
    """In a page of its own it draws the figure, makes no request but for itself and writes no error."""
    with page.expect_download(timeout=60_000) as waiting:
        page.get_by_role("button", name="Save HTML report").click()
    path = tmp_path / "report.html"
    waiting.value.save_as(path)
    other = page.context.new_page()
    try:
        asked: list[str] = []
        errors: list[str] = []
        other.on("request", lambda request: asked.append(request.url))
        other.on("pageerror", lambda error: errors.append(str(error)))
        other.on("console", lambda line: line.type == "error" and errors.append(line.text))
        other.goto(path.as_uri())
        expect(other.locator(".js-plotly-plot .gtitle")).to_contain_text("4x on 8 CPUs")
        expect(other.locator(".js-plotly-plot .js-line").first).to_be_attached()
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
        assert errors == []
    finally:
        other.close()


def test_a_reload_keeps_the_current_figure(page: Any, expect: Any) -> None:
    """After a save and a reload the figure shows what was current, not what was first."""
    type_into(page, "CPUs", 96)
    expect(title(page)).to_contain_text("4x on 96 CPUs")
    reloaded(page, lambda: expect(title(page)).to_contain_text("4x on 96 CPUs", timeout=25_000))
    expect(page.locator(LINES)).to_have_count(4)
    expect(marked(page)).to_have_text(re.compile("now.*384", re.DOTALL))


def test_nothing_left_this_machine_and_no_script_failed(page: Any) -> None:
    """All of the above made no request off 127.0.0.1 and no error on the browser's console."""
    assert (page.capacity_off_machine, page.capacity_errors) == ([], [])


def test_a_narrow_window_shows_what_each_ceiling_is(browser: Any) -> None:
    """At 560 pixels the ceilings' starts per second are there without scrolling; long names break into lines."""
    explorer = explore(8)
    page = browser.new_page()
    page.set_content(f'<div style="width:560px;overflow:auto">{STYLE}{numbers_html(*explorer._with_band())}</div>')
    assert page.get_by_role("table", name="Ceilings, lowest first").bounding_box()["width"] <= 560
    page.close()
