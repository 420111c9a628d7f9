"""Memory of a launcher process: what is predicted is what a real one takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capacity.model.measurement import LauncherMemory
from capacity.model.memory import launcher_rss

ROOT = Path(__file__).parents[2]
PEERS = Path(os.environ.get("PEER_BIN") or ROOT / "build" / "peer")


@pytest.mark.peer
@pytest.mark.parametrize(("parallelism", "count"), [(8, 10_000), (512, 10_000), (128, 100_000)])
def test_a_real_launcher_takes_what_is_predicted(
    parallelism: int, count: int, require: Callable[[bool, str], None], state_folder: str
) -> None:
    """The highest resident set of a launch on the stub is within 10 % of the model's."""
    require((PEERS / "stub").exists(), "stub frontend: build it with benchmarks/peer/build")
    words = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), "--child", str(parallelism), str(count)]
    environment = {**os.environ, "CAPACITY_STATE_DIR": state_folder}
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=240, env=environment)
    assert float(launcher_rss(parallelism, count)) == pytest.approx(json.loads(done.stdout)["rss"], rel=0.1)


def test_it_grows_with_items_and_with_starts_in_flight_that_are_there() -> None:
    """A batch smaller than the parallelism has only its own starts in flight."""
    memory = LauncherMemory(base=100.0, per_in_flight=2.0, per_item=0.5)
    np.testing.assert_allclose(launcher_rss([1, 8, 512], 16, memory), [110, 124, 140])
