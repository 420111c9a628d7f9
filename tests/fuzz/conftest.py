"""What the fuzz tests share: a bound on memory, a file and a state of their own."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib import mode leaves the tests' folder off the path

MOST = 2**30
"""Bytes a reader may ask for, whatever it reads: beyond it there is a MemoryError, which is none of our errors."""


@pytest.fixture(autouse=True)
def _bounded(state_folder: str) -> Iterator[None]:
    """No reader may ask for more memory than `MOST` at once, nor see a developer's state."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MOST, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A path to write an example to."""
    return tmp_path / "example"
