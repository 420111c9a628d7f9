"""What the browser tests share: how to run a notebook, wait for it, and read Chromium's accessibility tree."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from typing import Any

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name but this machine's resolves
]
KERNEL_IDLE = """() => { const widget = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const session = widget && widget.sessionContext && widget.sessionContext.session;
    return session && session.kernel && session.kernel.status === 'idle' }"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"  # resolves when the cells have run
SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"
PUT = """([path, content]) => window.jupyterapp.serviceManager.contents.save(
    path, {type: 'notebook', format: 'json', content})"""
TOO_BUSY = ("[anywidget] Failed to initialize model", "widget model not found")
"""What the widget libraries say when a busy machine takes over 2 s (anywidget) or 4 s (ipywidgets) to load plotly."""
FAILED_CELL = '.jp-OutputArea [data-mime-type="application/vnd.jupyter.error"]'


def watched(page: Any, lab: str) -> None:
    """Note every error of a page, and every request that leaves this machine, on the page itself."""
    page.capacity_errors, page.capacity_too_busy, page.capacity_off_machine = [], [], []

    def note(error: str) -> None:
        busy = any(words in error for words in TOO_BUSY)
        (page.capacity_too_busy if busy else page.capacity_errors).append(error)

    def sent(request: Any) -> None:
        if not request.url.startswith((lab, "data:", "blob:")):
            page.capacity_off_machine.append(request.url)

    page.on("pageerror", lambda error: note(str(error)))
    page.on("console", lambda line: note(line.text) if line.type == "error" else None)
    page.on("request", sent)


def notebook(cells: list[str]) -> dict[str, Any]:
    """Return a notebook of these cells."""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    more: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    made = [more | {"id": f"cell-{place}", "source": source} for place, source in enumerate(cells)]
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def reloaded(page: Any, shows: Callable[[], None]) -> None:
    """Save and reload the page; what `shows` asserts holds afterwards.

    The libraries' time limits are theirs; what is claimed is what the panel shows once it loads.
    """
    page.evaluate(SAVE)
    for last in (False, False, True):
        page.capacity_too_busy.clear()
        page.reload()
        try:
            shows()
        except AssertionError:
            if last or not page.capacity_too_busy:
                raise
        else:
            return


def figure_drawn(page: Any, root: str) -> None:
    """Wait for the figure of an output; where a busy machine made the widget libraries give up, load the page again."""
    from playwright.sync_api import TimeoutError

    for last in (False, False, True):
        try:
            page.locator(f"{root} .js-plotly-plot .gtitle").first.wait_for(state="attached", timeout=60_000)
        except TimeoutError:
            if last or not page.capacity_too_busy:
                raise
            page.capacity_too_busy.clear()
            page.evaluate(SAVE)
            page.reload()
        else:
            return


def tree_name(node: dict[str, Any]) -> str:
    """Return the name of a node of the accessibility tree; a button's icon is a letter of its font."""
    return re.sub("[\ue000-\uf8ff]", "", str(node.get("name", {}).get("value", ""))).strip()


def tree_names(page: Any, selector: str) -> list[str]:
    """Return the names in Chromium's accessibility tree of what a selector finds and is not hidden."""
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    names = []
    for found in session.send("DOM.querySelectorAll", {"nodeId": root, "selector": selector})["nodeIds"]:
        (node, *_) = session.send("Accessibility.getPartialAXTree", {"nodeId": found, "fetchRelatives": False})["nodes"]
        if not node.get("ignored"):
            names.append(tree_name(node))
    session.detach()
    return names


def tabbed(page: Any, root: str) -> tuple[list[str], int]:
    """Press Tab from the first control of an output to its end.

    Returns
    -------
    names : list of str
        Of what was focused, as the accessibility tree has them.
    there : int
        How many controls there are to reach.
    """
    inside = f"document.querySelector({root!r})"
    controls = "input, select, button, [role=slider], [tabindex='0']"
    listed = f"[...{inside}.querySelectorAll({controls!r})].filter(each => each.checkVisibility() && !each.disabled)"
    there = page.evaluate(f"() => {listed}.length")
    page.evaluate(f"() => {listed}[0].focus()")
    session = page.context.new_cdp_session(page)
    session.send("Accessibility.enable")
    names = []
    while page.evaluate(f"() => {inside}.contains(document.activeElement)") and len(names) < 200:
        focused = session.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]["objectId"]
        tree = session.send("Accessibility.getPartialAXTree", {"objectId": focused, "fetchRelatives": False})
        names.append(tree_name(tree["nodes"][0]))
        page.keyboard.press("Tab")
    session.detach()
    return names, there
