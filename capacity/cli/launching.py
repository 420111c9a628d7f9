"""A launch in a terminal: live progress, interrupts, the summary and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from capacity import files, interrupts
from capacity.cli.measuring import say
from capacity.cli.options import check_once, refuse
from capacity.cli.printing import console, print_rows
from capacity.cluster.target import Target
from capacity.errors import CapacityError, InterruptedRunError, RunFailedError, UsageError
from capacity.launcher.batch import Batch, HeightRange, StartOptions
from capacity.launcher.inputs import InputTemplate
from capacity.launcher.items import ItemsFile
from capacity.launcher.progress import Progress
from capacity.launcher.progress_text import facts
from capacity.model.words import size
from capacity.observe import vitals_text
from capacity.observe.run import STOPPED_WAITING, Run
from capacity.observe.session import launch
from capacity.observe.vitals import VitalsSample

LONG = 100_000_000
"""Bytes of a file of items that take seconds to read."""
PLAIN_EVERY = 2.0
"""Seconds between the lines of progress where there is no terminal."""


def batch(
    count: int | None,
    chain_id: str | None,
    from_height: int | None,
    items: Path | None,
    input_template: str | None,
    options: StartOptions,
) -> Batch:
    """Return the batch that the options name: a range of heights or a file of items."""
    template = InputTemplate(input_template) if input_template else None
    if items is not None:
        if count is not None:
            raise UsageError(
                "--items and --count exclude each other", next_step="the file says how many items there are"
            )
        of_heights = {"--chain-id": chain_id, "--from-height": from_height}
        refuse(of_heights, "does not go with --items", "the file has the ids and inputs")
        with contextlib.suppress(OSError, ValueError):  # whatever its name is: opening it says so
            if (length := items.stat().st_size) >= LONG:
                say(f"reading {items}, {size(length)}, to count its items")
        return ItemsFile.open(items, options, template)
    if count is None:
        raise UsageError("no batch is named", allowed="--count N or --items FILE", next_step="for example --count 1000")
    chain_id, from_height = "mainnet" if chain_id is None else chain_id, 0 if from_height is None else from_height
    return HeightRange(count, chain_id, from_height, options, template)


def json_fields(option: str, pairs: list[str] | None) -> dict[str, Any]:
    """Return K=JSON pairs as a dict; a value that is no JSON is text."""
    fields: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise UsageError(f"{option} is {pair!r}", allowed="KEY=VALUE, the value JSON or text")
        check_once(option, key, fields)
        try:
            fields[key] = files.json_value(text)
        except files.UnreadableError:
            fields[key] = text
    return fields


def run(batch: Batch, target: Target, **options: Any) -> Run:
    """Launch with progress on standard error; the first interrupt drains, the second stops at once.

    A terminal that is gone is an interrupt too, unless a fleet has the batch: that goes on without who ordered it.
    """
    return asyncio.run(_run(batch, target, **options))


async def _run(batch: Batch, target: Target, **options: Any) -> Run:
    stop, abort = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        if stop.is_set():
            abort.set()
        else:
            stop.set()
            print("stopping: what is in flight is drained; once more to stop at once", file=sys.stderr)

    loop = asyncio.get_running_loop()
    shown = _Live() if sys.stderr.isatty() else _Plain()
    heard = interrupts.ASKED if options["fleet"] else interrupts.ENDING
    with interrupts.handled(lambda _: loop.call_soon_threadsafe(interrupt), heard), shown:
        return await launch(
            batch, target, stop=stop, abort=abort, on_progress=shown.show, on_vitals=shown.vitals, **options
        )


def words(progress: Progress) -> str:
    """Return a running batch in one line."""
    line = ", ".join(facts(progress))
    return line if progress.state == "running" else f"{progress.state}: {line}"


class _WatchedBar(Bar):
    """A bar with the cluster's vitals below."""

    vitals = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.vitals:
            yield Text(self.vitals, style="dim")


class _Live:
    """A bar that stays on its lines."""

    def __init__(self) -> None:
        words = TextColumn("{task.description}", markup=False)
        self._bar = _WatchedBar(BarColumn(bar_width=16), MofNCompleteColumn(), words, console=console(stderr=True))
        self._task = self._bar.add_task("connecting", total=None)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        self._bar.update(self._task, total=progress.count, completed=progress.done, description=words(progress))

    def vitals(self, sample: VitalsSample) -> None:
        self._bar.vitals = vitals_text.line(sample)


class _Plain:
    """A line every two seconds and at each change of state."""

    def __init__(self) -> None:
        self._shown = time.monotonic()
        self._state = "running"
        self._vitals = ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._shown < PLAIN_EVERY and progress.state == self._state:
            return
        self._shown, self._state = now, progress.state
        print(f"{progress.done:,} of {progress.count:,}: {words(progress)}", file=sys.stderr)
        if self._vitals:
            print(f"  {self._vitals}", file=sys.stderr)
        sys.stderr.flush()

    def vitals(self, sample: VitalsSample) -> None:
        self._vitals = vitals_text.line(sample)


def report(run: Run, as_json: bool) -> None:
    """Print the structured log line and the summary or the record."""
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.get_logger().info(
        "Batch workflow scheduling completed",
        chain_id=run.batch.get("chain_id"),
        scheduled=run.session_scheduled,
        already_running=run.already_running,
        failed=run.failed,
        duration_ms=round(run.duration_seconds * 1e3),
        workflows_per_sec=round(run.starts_per_second, 1),
        parallelism=run.parallelism,
    )
    if as_json:
        print(run.model_dump_json(indent=1))
    else:
        print_rows(run.rows())
        console().print(run.verification(), style="bold green" if run.complete else "bold")


def save(run: Run, path: Path) -> None:
    """Write the record where it was asked for; it is in the state folder already."""
    try:
        run.save(path)
    except CapacityError as error:
        raise RunFailedError(
            error.what, next_step=f"it is kept: capacity runs show {run.run_id} --format json"
        ) from error


def exit_code(run: Run) -> int:
    """Return 0 for a batch that is all there, 130 for an interrupted one; raise what else went wrong."""
    resume = f"go on with: the same command and --resume --journal {run.journal}"
    if run.error:
        raise RunFailedError(run.error, next_step=resume if run.not_attempted else None)
    if run.interrupted and run.not_attempted:
        raise InterruptedRunError(
            f"interrupted: {run.not_attempted:,} of {run.count:,} not attempted", next_step=resume
        )
    if run.stopped == STOPPED_WAITING:
        raise InterruptedRunError(run.stopped)
    if run.failed:
        raise RunFailedError(
            f"{run.failed:,} of {run.count:,} failed", next_step=f"see 'capacity runs failed {run.run_id}'"
        )
    if run.not_attempted:
        why = f"{run.stopped}: " if run.stopped else ""
        raise RunFailedError(f"{why}{run.not_attempted:,} of {run.count:,} not attempted", next_step=resume)
    if run.verified not in (None, run.count):
        raise RunFailedError(f"the server holds {run.verified:,} of {run.count:,}", next_step="see the server's log")
    if not run.complete:
        raise RunFailedError(
            f"{run.completed:,} of {run.scheduled:,} workflows completed, then the task queue stood still for a minute"
        )
    return 0
