"""What users import: which names there are, and what each says of itself."""

from __future__ import annotations

import doctest
import importlib
import inspect
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

PUBLIC = {
    "capacity": (
        "Calibration",
        "CapacityError",
        "Cluster",
        "Decide",
        "HeightRange",
        "Launch",
        "PoolRules",
        "Run",
        "available_cpus",
        "ceilings",
        "explore",
        "launch",
        "outlook",
        "parallelism",
        "pool_plan",
        "predict",
        "queue_size",
        "tuning_table",
    ),
    "capacity.model": ("Ceiling", "Cluster", "Demands", "binding", "ceilings", "typical"),
    "capacity.notebook": (
        "Decide",
        "Explorer",
        "Launch",
        "LaunchForm",
        "Measure",
        "dev_server",
        "explore",
        "launch_form",
        "measure",
        "stop_dev_server",
    ),
}
NEED_A_SERVER = {"Run", "launch", "dev_server"}
"""Names whose example cannot run without a server, or the record of a launch at one."""
NAMES = [(room, name) for room, names in PUBLIC.items() for name in names]


@pytest.mark.parametrize("room", PUBLIC)
def test_the_public_names_are_those_listed(room: str) -> None:
    """No name is public that is not meant to be, none is missing, and each can be imported."""
    module = importlib.import_module(room)
    assert tuple(sorted(module.__all__)) == PUBLIC[room]
    assert [name for name in PUBLIC[room] if not hasattr(module, name)] == []


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_a_public_name_explains_itself(room: str, name: str) -> None:
    """Its own docstring begins with a sentence; a function's names each of its parameters."""
    found = getattr(importlib.import_module(room), name)
    text = vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__
    assert text
    assert text.partition("\n\n")[0].strip().endswith((".", "``."))
    if inspect.isfunction(found):
        assert [each for each in inspect.signature(found).parameters if each not in text] == []


@pytest.mark.parametrize(("room", "name"), [pair for pair in NAMES if pair[1] not in NEED_A_SERVER])
def test_a_public_name_has_an_example_that_pytest_runs(room: str, name: str) -> None:
    """The example is found where pytest looks: in the module that defines the name, though `capacity` is lazy."""
    found = getattr(importlib.import_module(room), name)
    collected = doctest.DocTestFinder(exclude_empty=True, recurse=True).find(sys.modules[found.__module__])
    assert f"{found.__module__}.{name}" in [test.name for test in collected if test.examples]


@pytest.mark.parametrize(("room", "name"), [pair for pair in NAMES if pair[1] in NEED_A_SERVER])
def test_where_no_example_can_run_one_is_shown(room: str, name: str) -> None:
    """What needs a server shows its use in a line to copy."""
    assert any(word in str(getattr(importlib.import_module(room), name).__doc__) for word in (f"{name}(", f"{name}."))


def test_the_package_says_that_it_is_typed() -> None:
    """py.typed and the stubs of the lazy names lie in the package and are among what a wheel holds."""
    files = [("capacity", "py.typed"), ("capacity", "__init__.pyi"), ("capacity.model", "__init__.pyi")]
    assert [pair for pair in files if not resources.files(pair[0]).joinpath(pair[1]).is_file()] == []
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"py.typed", "*.pyi"} <= set(project["tool"]["setuptools"]["package-data"]["capacity"])
