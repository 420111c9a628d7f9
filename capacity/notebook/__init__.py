"""Panels for JupyterLab: the explorer, the sweep of a dev cluster, the launch of a batch, the decision.

The explorer works where no Temporal client is installed, so that what launches is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from capacity.notebook.explore import Explorer, explore

if TYPE_CHECKING:
    from capacity.notebook.decide_panel import Decide
    from capacity.notebook.launch import Launch
    from capacity.notebook.launch_entry import LaunchForm, launch_form
    from capacity.notebook.measure_panel import Measure, measure
    from capacity.notebook.server import dev_server, stop_dev_server

__all__ = [
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
]

# A module that had the name of its function would take the function's place here once it is imported.
_LATER = {
    "Decide": "decide_panel",
    "Launch": "launch",
    "LaunchForm": "launch_entry",
    "Measure": "measure_panel",
    "dev_server": "server",
    "launch_form": "launch_entry",
    "measure": "measure_panel",
    "stop_dev_server": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
