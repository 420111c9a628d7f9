"""The journal: what it keeps through crashes, full disks, flipped bits and two launches at once."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.errors import JournalError
from capacity.launcher import journal_file, outcome
from capacity.launcher.header import HEADER_BYTES, Header
from capacity.launcher.journal import Journal

COUNT = 40
NOTED = {0: outcome.STARTED, 7: outcome.ALREADY_RUNNING, 8: outcome.REFUSED + 3, 39: outcome.GAVE_UP + 14}
Require = Callable[[bool, str], None]


def header(count: int = COUNT, mark: str = "f" * 16) -> Header:
    return Header(mark, "run-1", count, batch={"kind": "heights"}, address="127.0.0.1:7233", namespace="default")


def written(path: Path) -> bytes:
    """A closed journal with some notes; its bytes."""
    with Journal.create(path, header()) as journal:
        for index, code in NOTED.items():
            journal.note(np.array([index]), code)
    return path.read_bytes()


def codes(journal: Journal) -> dict[int, int]:
    return {i: int(code) for i, code in enumerate(journal.codes()) if code != outcome.TO_DO}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("whole") / "j")


@pytest.fixture
def small_disk(tmp_path: Path, require: Require) -> Iterator[Path]:
    """A file system of 64 KiB."""
    require(os.geteuid() == 0, "root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    require(mounted.returncode == 0, "right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_notes_and_header_survive_a_close(tmp_path: Path) -> None:
    """A journal opened again says what was noted, of which batch, and that nothing is damaged."""
    written(tmp_path / "j")
    with Journal.open(tmp_path / "j", "f" * 16) as journal:
        assert codes(journal) == NOTED
        assert journal.header == Header.read(tmp_path / "j")
        assert (journal.header.run_id, journal.header.batch, journal.damaged) == ("run-1", {"kind": "heights"}, 0)
        assert [i for i in range(COUNT) if journal.is_done(i)] == sorted(NOTED)
        assert journal.tally() == {outcome.TO_DO: COUNT - 4} | dict.fromkeys(NOTED.values(), 1)


@pytest.mark.slow
def test_notes_outlive_a_process_that_did_not_close(tmp_path: Path) -> None:
    """What was noted before a kill is there, though nobody flushed it."""
    script = (
        "import os, sys, numpy as np; from pathlib import Path\n"
        "from capacity.launcher.header import Header; from capacity.launcher.journal import Journal\n"
        "journal = Journal.create(Path(sys.argv[1]), Header('f', 'run', 100))\n"
        "journal.note(np.arange(50), 1); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "j")], check=False)
    with Journal.open(tmp_path / "j") as journal:
        assert journal.tally() == {outcome.TO_DO: 50, outcome.STARTED: 50}


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    """A new journal at a path that exists is refused, with both ways out, and the file stays as it is."""
    path = tmp_path / "j"
    path.write_text("precious")
    with pytest.raises(JournalError, match=r"exists.*--resume.*another --journal"):
        Journal.create(path, header())
    assert path.read_text() == "precious"


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no links"])
def test_a_journal_has_its_name_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Whoever looks, or is killed, while one is made sees none at its path; once it is made nothing else is there."""
    path, seen = tmp_path / "j", []
    reserve = os.posix_fallocate

    def watched(*words: int) -> None:
        seen.append(path.exists())
        reserve(*words)
        seen.append(path.exists())

    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "posix_fallocate", watched)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    with Journal.create(path, header()):
        assert Journal.peek(path) == {outcome.TO_DO: COUNT}
    assert seen == [False, False]
    assert os.listdir(tmp_path) == ["j"]


def test_of_two_that_make_one_journal_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name goes to one of them, and the other's refusal leaves it alone."""
    path, reserve = tmp_path / "j", os.posix_fallocate

    def overtaken(*words: int) -> None:
        reserve(*words)
        path.write_text("the other's")

    monkeypatch.setattr(os, "posix_fallocate", overtaken)
    with pytest.raises(JournalError, match=r"exists.*--resume"):
        Journal.create(path, header())
    assert os.listdir(tmp_path) == ["j"]
    assert path.read_text() == "the other's"


def test_a_journal_of_another_batch_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    """The refusal shows the journal's fingerprint and this batch's, and no note changes."""
    before = written(tmp_path / "j")
    with pytest.raises(JournalError, match=f"is {'f' * 16}, .*has {'a' * 16}"):
        Journal.open(tmp_path / "j", "a" * 16)
    assert (tmp_path / "j").read_bytes() == before


def test_two_launches_on_one_journal_are_refused(tmp_path: Path) -> None:
    """While one launch holds a journal a second is told so, and the first goes on; afterwards it is free."""
    with Journal.create(tmp_path / "j", header()) as first:
        with pytest.raises(JournalError, match="in use by another launch"):
            Journal.open(tmp_path / "j")
        first.note(np.array([3]), outcome.STARTED)
    with Journal.open(tmp_path / "j") as second:
        assert codes(second) == {3: outcome.STARTED}


def test_who_looks_at_a_journal_does_not_have_it_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a journal is in use is asked by its lock: a launch that finds it taken for that moment tries again."""
    written(tmp_path / "j")
    with (tmp_path / "j").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(journal_file.time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with Journal.open(tmp_path / "j"):
            assert journal_file.in_use(tmp_path / "j")


def test_a_file_system_without_locks_is_no_other_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses a lock for is said in its words: nobody is told to wait for a launch that is none."""
    written(tmp_path / "j")

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    for take in (lambda: Journal.create(tmp_path / "new", header()), lambda: Journal.open(tmp_path / "j")):
        with pytest.raises(JournalError, match=r"cannot lock journal .*: No locks available"):
            take()


def test_a_refused_launch_holds_nothing(tmp_path: Path) -> None:
    """Refusals leave no file descriptor behind."""
    written(tmp_path / "j")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(JournalError):
            Journal.open(tmp_path / "j", "a" * 16)
        with pytest.raises(JournalError):
            Journal.create(tmp_path / "j", header())
    with Journal.open(tmp_path / "j"):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


@settings(max_examples=80)
@given(length=st.one_of(st.integers(0, HEADER_BYTES), st.integers(HEADER_BYTES, HEADER_BYTES + COUNT)))
def test_a_truncated_journal_is_repaired_or_refused(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, length: int
) -> None:
    """Cut at any byte: what is left of the notes is kept and the rest is to do, or one line refuses it."""
    path = tmp_path_factory.mktemp("cut") / "j"
    path.write_bytes(whole[:length])
    if length < HEADER_BYTES:
        with pytest.raises(JournalError, match="is not a journal"):
            Journal.open(path)
        assert path.read_bytes() == whole[:length]
        return
    with Journal.open(path) as journal:
        kept = length - HEADER_BYTES
        assert codes(journal) == {i: code for i, code in NOTED.items() if i < kept}
        assert journal.damaged == COUNT - kept
    assert path.stat().st_size == HEADER_BYTES + COUNT


@settings(max_examples=150)
@given(bit=st.integers(0, (HEADER_BYTES + COUNT) * 8 - 1))
def test_one_flipped_bit_never_marks_an_item_done(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, bit: int
) -> None:
    """One flipped bit anywhere: the journal is refused in one line, or no item has an outcome that it did not have."""
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("flip") / "j"
    path.write_bytes(damaged)
    try:
        journal = Journal.open(path, "f" * 16)
    except JournalError as error:
        assert bit < HEADER_BYTES * 8
        said = str(error)
        assert "\n" not in said
        assert path.read_bytes() == damaged
        return
    with journal:
        assert codes(journal).items() <= NOTED.items()
        assert len(codes(journal)) >= len(NOTED) - 1


@settings(max_examples=100)
@given(flips=st.lists(st.integers(0, (HEADER_BYTES + COUNT) * 8 - 1), min_size=2, max_size=40))
def test_any_damage_is_one_line_or_a_usable_journal(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, flips: list[int]
) -> None:
    """Any number of flipped bits raises nothing but one clear line, and what opens has known outcomes only."""
    damaged = bytearray(whole)
    for bit in flips:
        damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("flips") / "j"
    path.write_bytes(damaged)
    try:
        with Journal.open(path) as journal:
            assert journal.header.count == COUNT
            assert all(outcome.kind(code) for code in journal.tally())
            assert sum(journal.tally().values()) == COUNT
    except JournalError as error:
        said = str(error)
        assert "\n" not in said


@given(st.binary(max_size=HEADER_BYTES + 8))
def test_any_other_file_is_no_journal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """A file of somebody else is refused and left as it is."""
    path = tmp_path_factory.mktemp("other") / "j"
    path.write_bytes(content)
    for look in (Journal.open, Header.read):
        with pytest.raises(JournalError, match="is not a journal"):
            look(path)
    assert path.read_bytes() == content


def test_a_damaged_header_says_that_starting_anew_is_safe(tmp_path: Path) -> None:
    """When the header is gone the advice is a new journal, for ids that exist are not started twice."""
    damaged = bytearray(written(tmp_path / "j"))
    damaged[30] ^= 1
    (tmp_path / "j").write_bytes(damaged)
    with pytest.raises(JournalError, match=r"header of journal .* is damaged.*not started twice"):
        Journal.open(tmp_path / "j")


def test_a_full_disk_is_known_before_the_first_start(small_disk: Path) -> None:
    """A journal that does not fit is refused with its size when it is created, and leaves no file."""
    with pytest.raises(JournalError, match=r"cannot reserve 1,004,096 bytes .*No space left.*free some space"):
        Journal.create(small_disk / "j", header(1_000_000))
    assert list(small_disk.iterdir()) == []


def test_a_journal_keeps_its_room_on_a_disk_that_fills_up(small_disk: Path) -> None:
    """Once created, every note fits although the disk is full by then."""
    with Journal.create(small_disk / "j", header(20_000)) as journal:
        with pytest.raises(OSError, match="No space"):
            (small_disk / "filler").write_bytes(bytes(100_000))
        journal.note(np.arange(20_000), outcome.STARTED)
        journal.sync()
    with Journal.open(small_disk / "j") as journal:
        assert journal.tally() == {outcome.STARTED: 20_000}


def test_a_truncated_journal_on_a_full_disk_is_refused_and_kept(small_disk: Path) -> None:
    """When the missing part cannot be reserved the notes that are left stay for a later try."""
    with Journal.create(small_disk / "j", header(20_000)) as journal:
        journal.note(np.arange(20_000), outcome.STARTED)
    os.truncate(small_disk / "j", HEADER_BYTES + 100)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(100_000))
    with pytest.raises(JournalError, match=r"cannot repair journal .* 19,900 bytes short: No space left"):
        Journal.open(small_disk / "j")
    filler.unlink()
    with Journal.open(small_disk / "j") as journal:
        assert journal.tally() == {outcome.TO_DO: 19_900, outcome.STARTED: 100}


def test_a_read_only_disk_is_one_line(small_disk: Path) -> None:
    """Creating and resuming on a read-only file system say so; reading the header still works."""
    written(small_disk / "j")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(JournalError, match=r"Read-only.*elsewhere with --journal"):
        Journal.create(small_disk / "new", header())
    with pytest.raises(JournalError, match=r"Read-only.*elsewhere with --journal"):
        Journal.open(small_disk / "j")
    assert Header.read(small_disk / "j").count == COUNT


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p, lambda p: p / "file" / "j"])
def test_a_path_that_is_no_file_is_one_line(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """A missing file, a folder, and a path through a file are refused with the system's reason."""
    (tmp_path / "file").write_text("")
    for look in (Journal.open, Header.read):
        with pytest.raises(JournalError, match="cannot open journal"):
            look(make(tmp_path))


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    """A journal in a folder that cannot be made is refused, not raised as a system error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot create journal"):
        Journal.create(tmp_path / "file" / "j", header())


def test_a_new_journal_is_on_the_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first start its content is forced to the disk, then the folder in which it has its name."""
    forced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        forced.append((os.readlink(f"/proc/self/fd/{fd}"), (tmp_path / "j").exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    Journal.create(tmp_path / "j", header()).close()
    (file, named), folder = forced
    assert (Path(file).parent, named) == (tmp_path, False)
    assert folder == (str(tmp_path), True)


def test_a_description_of_any_length_is_kept(tmp_path: Path) -> None:
    """One for which the first page has no room is there while the journal is in use, after it and in a child."""
    path = tmp_path / "j"
    long = replace(header(), batch={"kind": "heights", "template": "é" * 10_000})
    with Journal.create(path, long) as journal:
        journal.note(np.array([COUNT - 1]), outcome.STARTED)
        assert Header.read(path) == long
        child = Journal.inherited(os.dup(journal.descriptor))
        assert child.header == long
        child.close()
    assert Journal.peek(path) == {outcome.TO_DO: COUNT - 1, outcome.STARTED: 1}
    with Journal.open(path, "f" * 16) as journal:
        assert (journal.header, journal.damaged, codes(journal)) == (long, 0, {COUNT - 1: outcome.STARTED})


@settings(max_examples=60)
@given(cut=st.integers(0, 6000), bit=st.none() | st.integers(0, 4000 * 8 - 1))
def test_a_long_description_that_is_damaged_is_none(
    tmp_path_factory: pytest.TempPathFactory, cut: int, bit: int | None
) -> None:
    """Cut or flipped, it takes no note with it: the journal is gone on with, and claims no other batch."""
    path = tmp_path_factory.mktemp("long") / "j"
    long = replace(header(), batch={"kind": "heights", "template": "x" * 5000})
    with Journal.create(path, long) as journal:
        journal.note(np.array([0]), outcome.STARTED)
    whole = path.read_bytes()
    damaged = bytearray(whole[: len(whole) - cut])
    if bit is not None and HEADER_BYTES + COUNT + bit // 8 < len(damaged):
        damaged[HEADER_BYTES + COUNT + bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    if len(damaged) < HEADER_BYTES:
        return
    with Journal.open(path, "f" * 16) as journal:
        assert journal.header.batch == (long.batch if bytes(damaged) == whole else {})
        assert codes(journal) == ({0: outcome.STARTED} if len(damaged) > HEADER_BYTES else {})


def test_the_first_items_with_an_outcome_are_those_of_the_whole_file() -> None:
    """In the order of the batch, wherever they stand in it, and no more than were asked for."""
    journal = Journal.in_memory(Header("f", "r", 200_000))
    started = np.array([3, 70_000, 70_001, 199_999])
    journal.note(started, outcome.STARTED)
    journal.note(np.array([0, 1]), outcome.ALREADY_RUNNING)
    assert journal.first(outcome.STARTED, 9) == started.tolist()
    assert journal.first(outcome.STARTED, 2) == [3, 70_000]


def test_a_journal_in_memory_is_one_without_a_file() -> None:
    """Notes are kept while it lasts, and neither sync nor close needs a disk."""
    with Journal.in_memory(header()) as journal:
        journal.note(np.array([1, 2]), outcome.STARTED)
        journal.sync()
        assert codes(journal) == {1: outcome.STARTED, 2: outcome.STARTED}


def test_reading_takes_no_lock(tmp_path: Path) -> None:
    """`capacity runs` may look at the journal of a launch that is under way."""
    with Journal.create(tmp_path / "j", header()) as journal:
        journal.note(np.array([4]), outcome.STARTED)
        assert Header.read(tmp_path / "j").count == COUNT
        assert Journal.peek(tmp_path / "j") == {outcome.TO_DO: COUNT - 1, outcome.STARTED: 1}
        with (tmp_path / "j").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_reading_a_damaged_journal_counts_damage_as_not_done(tmp_path: Path) -> None:
    """A look at a truncated journal with a flipped note counts those items as to do and changes nothing."""
    damaged = bytearray(written(tmp_path / "j"))
    damaged[HEADER_BYTES] ^= 4
    (tmp_path / "j").write_bytes(damaged[:-1])
    tally = Journal.peek(tmp_path / "j")
    assert tally == {outcome.TO_DO: COUNT - 2, outcome.ALREADY_RUNNING: 1, outcome.REFUSED + 3: 1}
    assert (tmp_path / "j").read_bytes() == damaged[:-1]
