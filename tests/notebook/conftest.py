"""What the tests of the notebooks share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment for a child process: no override set, state of its own."""
    kept = {name: value for name, value in os.environ.items() if "PARALLELISM" not in name}
    return kept | {"CAPACITY_STATE_DIR": str(tmp_path / "state")}
