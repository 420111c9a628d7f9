"""The decide panel in a real JupyterLab and a real browser, on a real server. The page is opened once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from capacity.notebook.decide_tables import checklist_table
from capacity.verdict.checklist import check
from capacity.verdict.thresholds import thresholds
from tests.notebook.browser.pages import figure_drawn, reloaded, tabbed
from tests.verdict.recorded import recorded

pytestmark = [pytest.mark.browser, pytest.mark.devserver]

ROOT = ".jp-OutputArea-output:has(.cap-copy)"
POINTS = f"{ROOT} .js-plotly-plot .scatterlayer .point"


@pytest.fixture(scope="module")
def page(opened: Any, devserver: Any) -> Any:
    """A notebook of one's own: 1 against 16 in flight, three short blocks, 300 starts for each launch to check."""
    page = opened(
        "own-decide.ipynb",
        [
            "import capacity\nfrom capacity.cluster.target import Target\n"
            f"panel = capacity.Decide('1', '16', Target('{devserver.address}'), blocks=3, seconds=1, starts=300)\npanel"
        ],
    )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    figure_drawn(page, ROOT)
    return page


@pytest.fixture
def panel(page: Any) -> Any:
    return page.locator(ROOT)


def status(panel: Any, place: int) -> Any:
    """The state of the comparison (0) or of the checklist (1)."""
    return panel.locator("[role=status]:not(.cap-copied):not(p)").nth(place)


def button(panel: Any, name: str) -> Any:
    """A button by its whole name; its icon is a letter before it."""
    return panel.get_by_role("button", name=re.compile(rf"^\W*{name}$"))


def test_every_control_is_reached_and_named_by_keyboard(page: Any, panel: Any) -> None:
    """Tab goes through every box, list, button and block to copy, each with a name of its own."""
    names, there = tabbed(page, ROOT)
    assert len(names) == there, names
    assert all(names), names
    assert len(set(names)) == len(names), names
    expected = {"Baseline", "Candidate", "CPUs", "Blocks", "Seconds a run", "Cluster", "Its address", "Compare"}
    expected |= {"Run", "Starts of each", "Own limits", "Predicted by", "Check", "Back from", "Back to", "CPUs there"}
    assert expected | {"Copy the Environment setting", "the Environment setting"} <= set(names)


def test_what_makes_no_sense_is_refused_beside_its_box(panel: Any, expect: Any) -> None:
    """Words beside the box, Compare and Check off; the right setting brings them back."""
    box = panel.get_by_label("Candidate", exact=True)
    for typed, enabled in (("fast", False), ("16", True)):
        box.fill(typed)
        box.press("Enter")
        expect(panel.locator("[role=alert]", has_text="setting is 'fast'")).to_have_count(0 if enabled else 2)
        for name in ("Compare", "Check"):
            expect(button(panel, name)).to_be_enabled(enabled=enabled)


def test_two_settings_are_compared_through_a_reload(page: Any, panel: Any, expect: Any) -> None:
    """By keyboard: blocks appear, a reload in mid-run stops nothing, and the end has figure, verdict and tables."""
    expect(status(panel, 0)).to_have_text("Idle: nothing compared yet")
    button(panel, "Compare").press("Enter")
    expect(status(panel, 0)).to_contain_text("Comparing: 1 of 3 blocks", timeout=60_000)
    expect(panel).to_contain_text("So far, 16: throughput")
    reloaded(page, lambda: expect(page.locator(POINTS).nth(1)).to_be_attached(timeout=25_000))
    expect(status(panel, 0)).to_have_text("Done: 3 of 3 blocks", timeout=90_000)
    expect(page.locator(POINTS)).to_have_count(6)
    expect(panel.locator(".gtitle").first).to_contain_text("16: throughput")
    expect(panel.get_by_role("table", name=re.compile("^Medians"))).to_contain_text("95% interval")
    expect(panel.get_by_role("table", name=re.compile("^Blocks:")).get_by_role("row")).to_have_count(4)
    expect(panel.locator("p[role=status]", has_text="16: throughput")).to_contain_text(re.compile("keep|take"))


def test_the_candidate_is_checked_and_a_reload_keeps_it(page: Any, panel: Any, expect: Any) -> None:
    """Both launches, then checklist and alerts in words; after a reload the page shows verdict and checklist."""
    button(panel, "Check").press("Enter")
    expect(status(panel, 1)).to_contain_text("Checked: ", timeout=120_000)
    panel.get_by_role("button", name="Show: the alerts by the same limits").press("Enter")

    def shows() -> None:
        expect(panel.get_by_role("table", name=re.compile("^Checklist of run"))).to_be_attached(timeout=25_000)
        expect(panel.locator(".gtitle").first).to_contain_text("16: throughput", timeout=25_000)

    reloaded(page, shows)
    expect(page.locator(POINTS)).to_have_count(6)
    checklist = panel.get_by_role("table", name=re.compile("^Checklist of run"))
    expect(checklist.get_by_role("row", name=re.compile("^verified by the server ✓ pass"))).to_be_attached()
    expect(panel.get_by_role("table", name=re.compile("^Alerts"))).to_contain_text("CapacityStartP99High")
    with page.expect_download() as waiting:
        panel.get_by_role("button", name="Save alert rules").click()
    assert waiting.value.suggested_filename == "capacity-rules.yml"


def test_the_way_back_is_copied(page: Any, panel: Any, expect: Any) -> None:
    """Other CPUs move the lines; the button puts them on the clipboard to the letter, and says so."""
    for name, typed in (("Back from", "4x"), ("Back to", "2x"), ("CPUs there", "32")):
        panel.get_by_label(name, exact=True).fill(typed)
        panel.get_by_label(name, exact=True).press("Enter")
    expect(panel.get_by_role("table", name=re.compile("^Back from 4x to 2x on 32 CPUs"))).to_contain_text("64")
    panel.get_by_role("button", name="Copy the Environment setting").press("Enter")
    expect(panel.locator(".cap-copied", has_text="Copied")).to_be_attached()
    assert page.evaluate("() => navigator.clipboard.readText()") == "export SCHEDULER_MAX_PARALLELISM=64"


def test_it_fits_a_narrow_page(page: Any, expect: Any) -> None:
    """On 900 pixels nothing sticks out, and the figure is as wide as its column."""
    size = page.viewport_size
    page.set_viewport_size({"width": 900, "height": 1200})
    try:
        over = f"(root => root.scrollWidth - root.clientWidth)(document.querySelector('{ROOT}'))"
        page.wait_for_function(f"() => {over} <= 1")
    finally:
        page.set_viewport_size(size)


def test_nothing_left_this_machine_and_no_script_failed(page: Any) -> None:
    """All of the above made no request off 127.0.0.1 and no error on the browser's console."""
    assert (page.capacity_off_machine, page.capacity_errors) == ([], [])


def test_a_narrow_checklist_has_room_for_its_reasons(browser: Any, expect: Any) -> None:
    """In a window of 700 pixels why a check stands as it does has a line of its own, and a row is still a row."""
    page = browser.new_page()
    page.set_content(f'<div style="width:560px">{checklist_table(check(recorded(), thresholds()))}</div>')
    widths = page.eval_on_selector_all("tbody td:last-child", "found => found.map(each => each.offsetWidth)")
    assert min(widths) > 500
    expect(page.get_by_role("row", name=re.compile("^p99 of a start"))).to_have_count(1)
    page.close()
