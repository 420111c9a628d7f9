"""1-explore.ipynb in a real JupyterLab and a real browser. The page is opened once; each test leaves it usable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.browser

LINES = ".jp-OutputArea .js-plotly-plot .scatterlayer .js-line"  # without those of the legend


@pytest.fixture
def expect() -> Any:
    """Playwright's assertions, which wait."""
    return pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def page(explored: Any) -> Iterator[Any]:
    yield explored
    explored.evaluate("() => window.scrollTo(0, 0)")


def title(page: Any) -> Any:
    return page.locator(".jp-OutputArea .js-plotly-plot .gtitle").first


def marked(page: Any) -> Any:
    return page.locator(".jp-OutputArea table.cap-table td[aria-current=true]")


def type_into(page: Any, name: str, number: int) -> None:
    box = page.get_by_label(name, exact=True)
    box.fill(str(number))
    box.press("Enter")


def test_the_batch_of_the_notebook_ended_on_the_right_number(page: Any, expect: Any) -> None:
    """The panel stands at 500 of 500, verified with the server: the last message reached the browser."""
    status = page.locator(".jp-OutputArea [role=status]", has_text="Done: 500 of 500")
    expect(status).to_be_attached()
    expect(page.locator(".jp-OutputArea", has_text="verified 500 of 500").first).to_be_attached()
    expect(page.locator(".jp-OutputArea", has_text="500 started of 500").first).to_be_attached()


def test_no_cell_failed(page: Any, expect: Any) -> None:
    """Every cell of the notebook ran without an error."""
    expect(page.locator('.jp-OutputArea [data-mime-type="application/vnd.jupyter.error"]')).to_have_count(0)


def test_a_slider_moves_table_and_figure(page: Any, expect: Any) -> None:
    """A key press on the CPU slider changes the marked cell, the box and the figure's title."""
    type_into(page, "CPUs", 8)
    expect(marked(page)).to_have_text(re.compile("32.*now", re.DOTALL))
    expect(title(page)).to_contain_text("32 starts in flight")
    page.locator(".jp-OutputArea").get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    expect(marked(page)).to_have_text(re.compile("48.*now", re.DOTALL))
    expect(title(page)).to_contain_text("48 starts in flight")
    expect(page.get_by_label("CPUs", exact=True)).to_have_value("12")


def test_the_lines_are_drawn(page: Any, expect: Any) -> None:
    """Four multipliers, the current choice, its queue: six lines, each with a path of its own."""
    expect(page.locator(LINES)).to_have_count(6)


def test_the_figure_fits_its_column(page: Any, expect: Any) -> None:
    """The drawing is as wide as its column, not 700 pixels in a narrower one."""
    widths = """() => { const plot = document.querySelector('.jp-OutputArea .js-plotly-plot');
        return Math.abs(plot.clientWidth - plot.querySelector('svg').clientWidth) < 2 }"""
    page.wait_for_function(widths)


def test_an_absurd_number_is_refused_beside_its_box(page: Any, expect: Any) -> None:
    """0 CPUs typed: words beside the box, and the table stays."""
    type_into(page, "CPUs", 16)
    expect(marked(page)).to_contain_text("64")
    type_into(page, "CPUs", 0)
    alert = page.locator(".jp-OutputArea [role=alert]", has_text="CPUs is 0")
    expect(alert).to_contain_text("allowed: 1 to 512")
    expect(marked(page)).to_contain_text("64")
    type_into(page, "CPUs", 16)
    expect(alert).to_have_count(0)


def test_launch_without_its_server_says_so(page: Any, expect: Any) -> None:
    """The notebook ended its server; Launch then fails with one line and no traceback."""
    page.locator(".jp-OutputArea button", has_text="Launch").click()
    expect(page.locator(".jp-OutputArea [role=status]", has_text="Failed")).to_be_attached(timeout=60_000)
    alert = page.locator(".jp-OutputArea [role=alert]", has_text="127.0.0.1")
    expect(alert).not_to_contain_text("Traceback")


def test_a_reload_keeps_the_current_figure(page: Any, expect: Any) -> None:
    """After a save and a reload the figure shows what was current, not what was first."""
    type_into(page, "CPUs", 96)
    expect(title(page)).to_contain_text("384 starts in flight")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    for last in (False, False, True):
        page.capacity_too_busy.clear()
        page.reload()
        try:
            expect(title(page)).to_contain_text("384 starts in flight", timeout=25_000)
            break
        except AssertionError:
            # The libraries' time limits are theirs; what is claimed here is what the figure shows once it loads.
            if last or not page.capacity_too_busy:
                raise
    expect(page.locator(LINES)).to_have_count(6)
    expect(marked(page)).to_contain_text("384")


def test_nothing_left_this_machine_and_no_script_failed(page: Any) -> None:
    """All of the above made no request off 127.0.0.1 and no error on the browser's console."""
    assert (page.capacity_off_machine, page.capacity_errors) == ([], [])
