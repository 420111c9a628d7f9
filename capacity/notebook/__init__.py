"""Panels for JupyterLab: the explorer of the sizing rules, and the launch of a batch."""

from __future__ import annotations

from capacity.notebook.explore import Explorer, explore
from capacity.notebook.launch import Launch
from capacity.notebook.server import dev_server, stop_dev_server

__all__ = ["Explorer", "Launch", "dev_server", "explore", "stop_dev_server"]
