"""The committed notebooks: thin, without outputs, and true when they are run."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def nbval(path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=addopts="]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "120", str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=path.parent)


def test_there_is_a_notebook_to_check() -> None:
    """The explorer's notebook is among those found."""
    assert "1-explore" in [path.stem for path in NOTEBOOKS]


@every_notebook
def test_it_is_committed_without_outputs_or_widget_state(path: Path) -> None:
    """No outputs, no execution counts, no widget state, and below 40 kB."""
    cells = code_cells(path)
    assert [cell["outputs"] for cell in cells] == [[]] * len(cells)
    assert {cell["execution_count"] for cell in cells} == {None}
    assert "widgets" not in json.loads(path.read_text())["metadata"]
    assert path.stat().st_size < 40_000


@every_notebook
def test_it_is_thin(path: Path) -> None:
    """Cells have at most 8 lines and define nothing: logic belongs to the package."""
    sources = ["".join(cell["source"]) for cell in code_cells(path)]
    assert max(len(source.splitlines()) for source in sources) <= 8
    assert not [source for source in sources if re.search(r"^\s*(async\s+def|def|class)\b|lambda", source, re.M)]


@every_notebook
def test_every_code_cell_follows_a_sentence(path: Path) -> None:
    """A reader is told before each cell what it does."""
    kinds = [cell["cell_type"] for cell in json.loads(path.read_text())["cells"]]
    assert kinds == ["markdown", "code"] * (len(kinds) // 2)


@pytest.mark.devserver
@every_notebook
def test_it_runs_and_its_checks_hold(
    path: Path, environment: dict[str, str], require: Callable[[bool, str], None]
) -> None:
    """nbval runs the notebook from top to bottom, its assertions included."""
    require(importlib.util.find_spec("nbval") is not None, "nbval")
    done = nbval(path, environment)
    assert done.returncode == 0, done.stdout[-4000:]


BROKEN = [
    ("tuning_table()", '"384"', '"385"'),
    ("to_frame()", ">= 0.95 * max", ">= 1.05 * max"),
    ("cores.value = 200", "> 3 * few", "> 300 * few"),
]
"""A part of a cell of 1-explore, a number in it, and a wrong one."""


@pytest.mark.parametrize(("cell", "right", "wrong"), BROKEN, ids=["table", "prediction", "controls"])
def test_a_wrong_number_would_be_seen(
    tmp_path: Path,
    environment: dict[str, str],
    require: Callable[[bool, str], None],
    cell: str,
    right: str,
    wrong: str,
) -> None:
    """A copy that expects another number fails in that cell and no other, so the check above can fail."""
    require(importlib.util.find_spec("nbval") is not None, "nbval")
    (source,) = (path for path in NOTEBOOKS if path.stem == "1-explore")
    notebook = json.loads(source.read_text())
    kept = [each for each in notebook["cells"] if each["cell_type"] == "code"]
    (changed,) = (each for each in kept if cell in "".join(each["source"]))
    assert right in "".join(changed["source"])
    changed["source"] = [line.replace(right, wrong) for line in changed["source"]]
    broken = tmp_path / "broken.ipynb"
    broken.write_text(json.dumps(notebook | {"cells": kept[: kept.index(changed) + 1]}))
    done = nbval(broken, environment)
    assert (done.returncode, "1 failed" in done.stdout) == (1, True), done.stdout[-4000:]
    assert wrong.strip(">") in done.stdout
