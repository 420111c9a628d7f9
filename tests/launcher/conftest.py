"""What the launch room's tests share; the modules beside this one are imported by their bare names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib import mode leaves the tests' folder off the path


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Journals and records go to a folder of the test's own."""
