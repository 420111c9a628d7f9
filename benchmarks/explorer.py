"""How fast the explorer follows a key press, and how long until it can be used: in JupyterLab, in a real Chromium.

    python benchmarks/explorer.py [STEPS]

Prints the time from a key press on a slider to the redraw of the figure's title *and* of the table, as p50 and p90
over STEPS key presses (40, each 150 ms after the last redraw), for a control of the scheduler (CPUs) and one of the
cluster (shards, which solves the model anew); what of it is plotly's and JupyterLab's own; and the time from opening
the page, with nothing cached, to an explorer whose figure is drawn.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]

STEP = """([name, key]) => new Promise(resolve => {
  const handle = [...document.querySelectorAll('.jp-OutputArea .noUi-handle')]
    .find(each => each.getAttribute('aria-label') === name + ', slider');
  const title = document.querySelector('.jp-OutputArea .js-plotly-plot .gtitle');
  const table = document.querySelector('.jp-OutputArea table.cap-table').closest('.widget-html-content');
  const before = [title.textContent, table.innerHTML];
  let figure = null, cells = null;
  const start = performance.now();
  const done = () => {
    const now = document.querySelector('.jp-OutputArea .js-plotly-plot .gtitle').textContent;
    if (figure === null && now !== before[0]) figure = performance.now() - start;
    if (cells === null && table.innerHTML !== before[1]) cells = performance.now() - start;
    if (figure !== null && cells !== null) { clearInterval(timer); resolve([figure, cells]); }
    else if (performance.now() - start > 5000) { clearInterval(timer); resolve(null); }
  };
  const timer = setInterval(done, 1);
  handle.focus();
  handle.dispatchEvent(new KeyboardEvent('keydown', { key, keyCode: key === 'ArrowRight' ? 39 : 37, bubbles: true }));
})"""

FLOOR = """async () => {
  const plot = document.querySelector('.jp-OutputArea .js-plotly-plot');
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const median = async act => {
    const took = [];
    for (let i = 0; i < 15; i++) {
      const start = performance.now();
      await act(i);
      took.push(performance.now() - start);
      await new Promise(resolve => setTimeout(resolve, 150));
    }
    return took.sort((a, b) => a - b)[7];
  };
  const y = Array.from(plot.data[1].y);
  return [await median(i => window.Plotly.restyle(plot, { y: [y.map(each => each * (1 + i / 100))] }, [1])),
          await median(() => kernel.requestExecute({ code: '1', silent: true }).done)];
}"""


def fixtures() -> Any:
    """The tests' own JupyterLab, so that both measure the same."""
    package = ModuleType("tests")  # by hand: some installed distribution has a package of this name
    package.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = package
    from tests.notebook.browser import conftest

    return conftest


def main(steps: int = 40) -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    tests = fixtures()
    folders = SimpleNamespace(mktemp=lambda name: Path(tempfile.mkdtemp(prefix=f"{name}-")))
    lab = tests.lab.__wrapped__(folders)
    address = next(lab)
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=tests.CHROMIUM, headless=True, args=tests.ARGUMENTS)
            page = chromium.new_page(viewport={"width": 1500, "height": 1000})
            page.set_default_timeout(120_000)
            start = time.perf_counter()
            page.goto(f"{address}/lab/tree/1-explore.ipynb?reset")
            page.wait_for_function(tests.KERNEL_IDLE, timeout=120_000)
            idle = time.perf_counter() - start
            page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
            page.locator(".jp-OutputArea .js-plotly-plot .gtitle").first.wait_for()
            usable = time.perf_counter() - start
            print(f"cold: kernel idle after {idle:.1f} s, explorer drawn after {usable:.1f} s")
            page.wait_for_function(tests.KERNEL_IDLE, timeout=120_000)
            time.sleep(3)
            for name, first in (("CPUs", 8), ("History shards", 8)):
                _at(page, "CPUs", 8)
                _at(page, name, first)
                took = []
                for step in range(steps):
                    key = "ArrowRight" if step % 8 < 4 else "ArrowLeft"
                    found = page.evaluate(STEP, [name, key])
                    if found is not None:
                        took.append(max(found))
                    time.sleep(0.15)
                print(_line(name, took))
            drawing, message = page.evaluate(FLOOR)
            print(f"of which plotly alone draws one changed line in {drawing:.0f} ms, and an empty message to the")
            print(f"kernel and back takes {message:.0f} ms (both p50 of 15)")
            chromium.close()
    finally:
        next(lab, None)


def _at(page: Any, name: str, number: int) -> None:
    box = page.get_by_label(name, exact=True).first
    box.fill(str(number))
    box.press("Enter")
    time.sleep(1)


def _line(name: str, took: list[float]) -> str:
    if len(took) < 5:
        return f"{name}: only {len(took)} key presses changed both figure and table"
    ninth = statistics.quantiles(took, n=10)[-1]
    return f"{name}: {len(took)} key presses, p50 {statistics.median(took):.0f} ms, p90 {ninth:.0f} ms"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
