"""What the tests of alerts and dashboard share."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import Require


@pytest.fixture
def promtool(require: Require) -> str:
    found = shutil.which("promtool")
    require(found is not None, "promtool (Debian's package prometheus)")
    return str(found)
