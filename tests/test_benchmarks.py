"""The benchmarks can be started: nothing else runs them but who measures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if not path.stem.startswith("test_"))


@pytest.mark.slow
def test_every_benchmark_finds_what_it_imports() -> None:
    """Each program of benchmarks/ is there to be started after a change of the package: it imports without a fault."""
    assert len(PROGRAMS) > 5
    script = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script, *PROGRAMS], cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
