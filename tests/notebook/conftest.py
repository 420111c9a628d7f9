"""JupyterLab in the machine's own Chromium: no browser is downloaded, and nothing leaves this machine."""

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

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
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

TOO_BUSY = ("[anywidget] Failed to initialize model", "widget model not found")
"""What the widget libraries say when a busy machine takes over 2 s (anywidget) or 4 s (ipywidgets) to load plotly."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment for a child process: no override set, state of its own."""
    kept = {name: value for name, value in os.environ.items() if "PARALLELISM" not in name}
    return kept | {"CAPACITY_STATE_DIR": str(tmp_path / "state")}


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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
def explored(browser: Any, lab: str) -> Iterator[Any]:
    """1-explore.ipynb, run to its end; at the end of the module nothing had left this machine and no script failed."""
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.capacity_errors, page.capacity_too_busy, page.capacity_off_machine = [], [], []

    def note(error: str) -> None:
        busy = any(words in error for words in TOO_BUSY)
        (page.capacity_too_busy if busy else page.capacity_errors).append(error)

    page.on("pageerror", lambda error: note(str(error)))
    page.on("console", lambda line: line.type == "error" and note(line.text))
    page.on(
        "request",
        lambda request: (
            request.url.startswith((lab, "data:", "blob:")) or page.capacity_off_machine.append(request.url)
        ),
    )
    page.goto(f"{lab}/lab/tree/1-explore.ipynb?reset")
    page.wait_for_function(KERNEL_IDLE, timeout=60_000)
    page.evaluate(RUN_ALL)
    yield page
    context.close()
