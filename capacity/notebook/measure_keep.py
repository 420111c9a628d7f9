"""Where a sweep is kept: one file in the state folder, never beside the notebook."""

from __future__ import annotations

import html
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from capacity.errors import UsageError

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.blocks import Compared
    from capacity.experiment.sweep import Swept
    from capacity.model.calibration import Calibration
    from capacity.model.measurement import Measurements


def keep(name: str, measured: Calibration | Measurements, before: Path | None) -> Path:
    """Write a calibration, or measurements that fit nothing, under a name; return the file.

    Raises
    ------
    UsageError
        If the file is there already and is not `before`, or cannot be written.
    """
    from capacity.cluster import state
    from capacity.experiment import sweep
    from capacity.model.calibration import Calibration

    path = state.made(state.folder() / "sweeps") / f"{name}.json"
    if path.exists() and path != before:
        raise UsageError(f"{path} exists", next_step="type another name")
    if isinstance(measured, Calibration):
        measured.save(path)
    else:
        sweep.save(measured, path)
    return path


def how_to_use(path: Path, measured: Calibration | Measurements) -> str:
    """Return where it is and what to do with it: of a store that nobody knows, which cluster is left to the reader."""
    from capacity.experiment.sweep import DESCRIBED
    from capacity.model.calibration import Calibration

    where = f"<code>{html.escape(str(path))}</code>"
    told = [f'<span role="status">Saved to {where}</span>']
    if isinstance(measured, Calibration):
        cluster = DESCRIBED.get(measured.measurements.conditions.store)
        if cluster is not None:
            call = f"explore(cluster={cluster!r}, calibration={str(path)!r})"
            told.append(f"In 1-explore: <code>{html.escape(call)}</code>")
        told.append(f"In a terminal: <code>capacity score {html.escape(shlex.quote(str(path)))}</code>")
    else:
        told[0] = f'<span role="status">Saved to {where}; it fits nothing yet</span>'
    return f'<p style="margin:0;line-height:1.5;overflow-wrap:anywhere">{"<br>".join(told)}</p>'


def left_behind(done: Swept | Compared, target: Target | None) -> str:
    """Return what stays on an existing cluster, and how to end it; empty for one of its own."""
    from capacity.launcher import cleaning

    if not done.left or target is None:
        return ""
    return " ".join(line.strip(" \\") for line in cleaning.left_behind(done.left, target, done.prefix))
