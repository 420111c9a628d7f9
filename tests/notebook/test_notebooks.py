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
from xml.etree import ElementTree

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def nbval(path: Path, environment: dict[str, str]) -> tuple[int, dict[int, str]]:
    """Run a notebook; return how many of its cells ran, and what those that failed said, by their place."""
    report = path.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=addopts="]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "120", f"--junitxml={report}", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=path.parent)
    assert report.exists(), done.stdout + done.stderr
    ran = [case for case in ElementTree.parse(report).iter("testcase") if case.find("skipped") is None]
    failed = {case.attrib["name"]: each.text for case in ran for each in case if each.tag in ("failure", "error")}
    places = {int("".join(filter(str.isdigit, name)) or -1): f"{name}: {text}" for name, text in failed.items()}
    return len(ran), places


def test_there_is_a_notebook_to_check() -> None:
    """The four of them."""
    assert [path.stem for path in NOTEBOOKS] == ["1-explore", "2-measure", "3-launch", "4-decide"]


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


BROKEN = {
    "1-explore": [
        ('"384"', '"385"'),
        (">= 0.95 * max", ">= 1.05 * max"),
        ("many > 3 * few", "many > 300 * few"),
    ],
    "2-measure": [
        ("== [1, 2, 4, 16]", "== [1, 2, 4, 17]"),
        ("- 1) < 0.1", "- 1) > 0.1"),
        ("1 / 3 < ratio < 3", "3 < ratio < 30"),
        ("flight == 32", "flight == 33"),
    ],
    "3-launch": [
        ("(500, 0, 0)", "(501, 0, 0)"),
        ("== (0, 500)", "== (0, 499)"),
        ("whole.session_scheduled == 1000", "whole.session_scheduled == 1001"),
        ("(500, 500, True)", "(500, 501, True)"),
    ],
    "4-decide": [
        ("{(16, 32)}", "{(16, 33)}"),
        ("<= comparison.p99.value <=", "<= 10 * comparison.p99.value <="),
        ("[400, 400]", "[400, 401]"),
        ("(128, 64)", "(128, 65)"),
        ("value == 64", "value == 65"),
    ],
}
"""Of each notebook: part of an assertion, and what it must not be."""


def with_broken_copies(path: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """Return the notebook with copies of assertions behind their cells, each with another number, and their places."""
    notebook = json.loads(path.read_text())
    cells: list[dict[str, Any]] = []
    wrong = dict(BROKEN[path.stem])
    copies = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cells.append(cell)
        for line in "".join(cell["source"]).splitlines():
            for right in [right for right in wrong if right in line and line.startswith("assert ")]:
                copies[len(cells)] = line.replace(right, wrong.pop(right))
                cells.append(cell | {"id": f"broken-{len(cells)}", "source": copies[len(cells)]})
    assert not wrong, "not in the notebook"
    return notebook | {"cells": cells}, copies


@pytest.mark.devserver
@every_notebook
def test_it_runs_and_its_checks_hold_and_a_wrong_number_would_be_seen(
    path: Path, tmp_path: Path, environment: dict[str, str], require: Callable[[bool, str], None]
) -> None:
    """nbval runs it from top to bottom: each of its cells passes, and each assertion with another number fails."""
    require(importlib.util.find_spec("nbval") is not None, "nbval")
    notebook, copies = with_broken_copies(path)
    copy = tmp_path / path.name
    copy.write_text(json.dumps(notebook))
    cells, failed = nbval(copy, environment)
    unexpected = [said for place, said in failed.items() if place not in copies]
    assert not unexpected, "\n".join(unexpected)
    assert (cells, set(failed)) == (len(notebook["cells"]), set(copies))
    assert all(line in failed[place] and "AssertionError" in failed[place] for place, line in copies.items())
