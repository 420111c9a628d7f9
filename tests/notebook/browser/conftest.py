"""JupyterLab in the machine's own Chromium: no browser is downloaded, and nothing leaves this machine.

One JupyterLab and one browser for all tests of this folder. They end with it: while Playwright runs, no test of
another folder could run an event loop of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.browser.pages import ARGUMENTS, CHROMIUM, KERNEL_IDLE, PUT, RUN_ALL, notebook, watched

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


@pytest.fixture(scope="package")
def browser(require: Callable[[bool, str], None]) -> Iterator[Any]:
    """Chromium, headless."""
    require(importlib.util.find_spec("playwright") is not None, "playwright")
    require(importlib.util.find_spec("jupyterlab") is not None, "jupyterlab")
    require(CHROMIUM is not None, "chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab on copies of the notebooks, with settings of its own; gives its address."""
    home, root = tmp_path_factory.mktemp("jupyter-home"), tmp_path_factory.mktemp("notebooks")
    shutil.copytree(NOTEBOOKS, root, dirs_exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if "PARALLELISM" not in name}
    environment["CAPACITY_STATE_DIR"] = str(home / "state")
    for name in ("CONFIG_DIR", "RUNTIME_DIR", "DATA_DIR"):
        environment[f"JUPYTER_{name}"] = str(home / name.lower())
    for name in ("SETTINGS_DIR", "WORKSPACES_DIR"):
        environment[f"JUPYTERLAB_{name}"] = str(home / name.lower())
    environment["IPYTHONDIR"] = str(home / "ipython")
    quiet = home / "settings_dir" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    news = {"fetchNews": "false", "checkForUpdates": False}
    (quiet / "notification.jupyterlab-settings").write_text(json.dumps(news))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += [f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True"]
    command += ["--LabApp.extension_manager=readonly"]
    log = home / "lab.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        try:
            _wait_until_it_answers(address, process, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
        if process.poll() is not None:
            break
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def opened(browser: Any, lab: str) -> Iterator[Callable[..., Any]]:
    """``opened(name, cells)`` writes a notebook where JupyterLab serves from, if cells are given, and runs it."""
    contexts = []

    def open_(name: str, cells: list[str] | None = None, height: int = 2200) -> Any:
        context = browser.new_context(viewport={"width": 1500, "height": height})
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        watched(page, lab)
        if cells is not None:
            page.goto(f"{lab}/lab?reset")
            page.wait_for_function("() => window.jupyterapp && window.jupyterapp.serviceManager.isReady")
            page.evaluate(PUT, [name, notebook(cells)])
        page.goto(f"{lab}/lab/tree/{name}?reset")
        page.wait_for_function(KERNEL_IDLE, timeout=90_000)
        page.evaluate(RUN_ALL)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def expect() -> Any:
    """Playwright's assertions, which wait."""
    return pytest.importorskip("playwright.sync_api").expect
