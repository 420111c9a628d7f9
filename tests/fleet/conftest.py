"""What the fleet's tests share; the helpers for a real server are those of the launcher's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "launcher"):
    sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True)
def _own_state(state_folder: str) -> None:
    """Journals and records go to a folder of the test's own."""
