"""The runs this machine remembers: journals and records in the state folder, found by run id."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from capacity.cluster import state
from capacity.errors import CapacityError, JournalError, UsageError
from capacity.launcher import journal_file, outcome
from capacity.launcher.header import Header
from capacity.launcher.journal import Journal
from capacity.launcher.progress import Counts
from capacity.launcher.rebuild import rebuild
from capacity.observe.run import Run


def runs_folder() -> Path:
    """Return where journals and records go that are given no path."""
    return state.folder() / "runs"


def forget(run: Run) -> None:
    """Delete the record of a launch that was made to measure something: nobody looks for it."""
    (runs_folder() / f"{run.run_id}.json").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others' runs are there, or the folder is not
        runs_folder().rmdir()


@dataclass(frozen=True)
class PastRun:
    """A run by its journal, its record, or both.

    One whose record is missing is running, or was killed; its journal then says what it had done.
    """

    run_id: str
    header: Header | None
    journal: Path | None
    record: Run | None

    @property
    def running(self) -> bool:
        """Whether a launch of it is at work."""
        return self.journal is not None and journal_file.in_use(self.journal)

    def recorded(self) -> Run:
        """Return its record.

        Raises
        ------
        UsageError
            There is none, or none yet.
        """
        if self.record is not None:
            return self.record
        if self.running:
            raise UsageError(f"run {self.run_id} has no record yet: it is still running", next_step="wait for its end")
        raise UsageError(
            f"run {self.run_id} has no record: its launch was killed",
            next_step=f"name another run, or go on with the same launch and --resume --journal {self.journal}",
        )

    @property
    def counts(self) -> Counts:
        """Items by outcome, from the journal where there is one."""
        if self.journal is not None:
            counts = Counts(self.header.count if self.header else 0)
            counts.codes.update({code: n for code, n in Journal.peek(self.journal).items() if code != outcome.TO_DO})
            return counts
        assert self.record is not None
        counts = Counts(self.record.count)
        counts.codes.update(
            {
                outcome.STARTED: self.record.scheduled,
                outcome.ALREADY_RUNNING: self.record.already_running,
                outcome.ALREADY_FINISHED: self.record.already_finished,
                outcome.GAVE_UP + 2: self.record.failed,  # UNKNOWN: a record has them by kind, not by code
            }
        )
        return counts

    @property
    def batch(self) -> dict[str, Any]:
        """The description of its batch."""
        return (self.header.batch if self.header else None) or (self.record.batch if self.record else {})

    @property
    def address(self) -> str:
        return self.header.address if self.header else self.record.address if self.record else ""

    @property
    def namespace(self) -> str:
        return self.header.namespace if self.header else self.record.namespace if self.record else ""

    def failed_items(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield (columns, kind) of each failed item; a record that makes no request has its index as its only column.

        Raises
        ------
        UsageError
            When there is no journal, or the items file is gone or has changed.
        """
        if self.journal is None:
            raise UsageError(f"run {self.run_id} has no journal any more", next_step="its failures are lost")
        batch = rebuild(self.batch)
        codes = Journal.peek_codes(self.journal)
        failed = np.nonzero((codes >= outcome.REFUSED) & (codes != outcome.DAMAGED))[0]
        for index, columns in batch.columns_of(failed.tolist()):
            if isinstance(columns, ValueError):
                columns = {"id": None, "index": index, "problem": str(columns)}
            yield columns, outcome.kind(int(codes[index]))


def past_runs() -> list[PastRun]:
    """Return all runs of the state folder, newest first."""
    return list(_newest_first())


def _newest_first() -> Iterator[PastRun]:
    """Yield the runs of the state folder; each is read when it is asked for."""
    stems = {path.stem for pattern in ("*.journal", "*.json") for path in runs_folder().glob(pattern)}
    for stem in sorted(stems, reverse=True):
        if (found := _found(stem)) is not None:
            yield found


def past_run(name: str) -> PastRun:
    """Return a run by its id, by an unambiguous beginning of it, by ``last``, or by the path of its journal or record.

    Raises
    ------
    UsageError
        When there is none, or more than one.
    """
    path = Path(name)
    if path.suffix == ".json" and _is_file(path):
        record = Run.load(path)
        journal = _journal_of(record)
        return PastRun(record.run_id, Header.read(journal) if journal else None, journal, record)
    if _is_file(path):
        header = Header.read(path)
        record_path = runs_folder() / f"{header.run_id}.json"
        return PastRun(header.run_id, header, path, Run.load(record_path) if _is_file(record_path) else None)
    known = _newest_first()
    matches = [*itertools.islice(known, 1)] if name == "last" else [run for run in known if run.run_id.startswith(name)]
    exact = [run for run in matches if run.run_id == name]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    raise UsageError(
        f"{len(matches) or 'no'} runs match {name[:60]!r}",
        allowed="a run id, its beginning, last, or a path",
        next_step="see 'capacity runs list'",
    )


def _found(run_id: str) -> PastRun | None:
    journal: Path | None = runs_folder() / f"{run_id}.journal"
    record = header = None
    with contextlib.suppress(CapacityError):
        record = Run.load(runs_folder() / f"{run_id}.json")
    if not journal or not _is_file(journal):
        journal = _journal_of(record) if record else None
    try:
        header = Header.read(journal) if journal else None
    except JournalError:
        journal = None
    return PastRun(run_id, header, journal, record) if header or record else None


def _journal_of(record: Run) -> Path | None:
    """Return the journal that a record names, if it is still there and still that run's."""
    if not record.journal or not _is_file(Path(record.journal)):
        return None
    journal = Path(record.journal)
    with contextlib.suppress(JournalError):
        if Header.read(journal).run_id != record.run_id:
            return None
    return journal


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name too long for one, or in a folder that is closed to us, names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
