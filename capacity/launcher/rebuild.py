"""A batch from its own description, as a journal or a record keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from capacity.errors import UsageError
from capacity.launcher.batch import Batch, HeightRange, StartOptions
from capacity.launcher.inputs import InputTemplate
from capacity.launcher.items import ItemsFile


def rebuild(description: dict[str, Any]) -> Batch:
    """Return the batch that `Batch.describe` described; refuse an items file that has changed since."""
    kind = description.get("kind")
    if kind not in ("heights", "items"):
        raise UsageError(f"a batch of kind {kind!r} cannot be rebuilt", allowed="heights, items")
    options = StartOptions(**description["options"])
    template = InputTemplate(description["template"]) if description["template"] else None
    if kind == "heights":
        return HeightRange(description["count"], description["chain_id"], description["from_height"], options, template)
    batch = ItemsFile.open(Path(description["path"]), options, template)
    if batch.sha256 != description["sha256"]:
        raise UsageError(
            f"items file {batch.path} has changed since it was launched",
            next_step="restore it, or launch it as a new batch",
        )
    return batch
