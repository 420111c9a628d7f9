"""The pinned versions: installable with every Python that the README promises."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PINNED = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_oldest_promised_python_can_install_every_pinned_version() -> None:
    """No pin asks for more than Python 3.11.0; a Debian's own 3.11.2 could not set up otherwise."""
    asked, looked = {}, 0
    for name, version in PINNED:
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of an extra or a platform that is not this one's
            continue
        if found.version == version:
            looked += 1
            needs = found.metadata["Requires-Python"] or ""
            if not SpecifierSet(needs).contains("3.11.0"):
                asked[f"{name}=={version}"] = needs
    assert looked > 0.9 * len(PINNED)
    assert asked == {}
