"""A batch from its own description, as a journal or a record keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from capacity import files
from capacity.errors import UsageError
from capacity.launcher.batch import Batch, HeightRange, StartOptions
from capacity.launcher.inputs import InputTemplate
from capacity.launcher.items import ItemsFile

_HEIGHTS: Final = {"chain_id": str, "from_height": int}
_ITEMS: Final = {"path": str, "sha256": str}
_OPTIONS: Final[files.Kinds] = {
    "workflow_type": str,
    "task_queue": str,
    "on_existing": str,
    "memo": dict,
    "search_attributes": dict,
    "priority_key": int | None,
}


def rebuild(description: dict[str, Any], *, read_items: bool = True) -> Batch:
    """Return the batch that `Batch.describe` described; refuse an items file that has changed since.

    Without `read_items` the file may be gone: what is returned has its options, count and ids' prefix, and no items.
    """
    if not description:
        raise UsageError("what the batch was is lost", next_step="launch it anew: what exists is not started twice")
    kind = description.get("kind")
    if kind not in ("heights", "items"):
        raise UsageError(f"a batch of kind {files.shown(kind)} cannot be rebuilt", allowed="heights, items")
    try:
        own = _HEIGHTS if kind == "heights" else _ITEMS
        found = files.fields(description, {**own, "kind": str, "count": int, "template": str | None, "options": dict})
        options = StartOptions(**files.fields(found["options"], {}, _OPTIONS))
    except files.UnreadableError as error:
        raise UsageError(
            f"the description of the batch {error}", next_step="launch it anew: what exists is not started twice"
        ) from error
    template = InputTemplate(found["template"]) if found["template"] else None
    if kind == "heights":
        return HeightRange(found["count"], found["chain_id"], found["from_height"], options, template)
    if not read_items:
        return ItemsFile(Path(found["path"]), found["count"], found["sha256"], False, (), (), template, options)
    batch = ItemsFile.open(Path(found["path"]), options, template)
    if batch.sha256 != found["sha256"]:
        raise UsageError(
            f"items file {batch.path} has changed since it was launched",
            next_step="restore it, or launch it as a new batch",
        )
    return batch


def reading(description: dict[str, Any]) -> asyncio.Task[Batch]:
    """Rebuild a batch in a thread: 100 million lines take minutes."""
    return asyncio.create_task(asyncio.to_thread(rebuild, description))


async def read(batch: asyncio.Task[Batch], tell: Callable[[], None], every: float) -> Batch:
    """Wait for a batch that is read, which goes on without us, and `tell` every so many seconds that it does."""
    while not (await asyncio.wait({batch}, timeout=every))[0]:
        tell()
    return await batch
