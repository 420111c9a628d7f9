"""Journals whose header is right by its checksum and wrong otherwise, and descriptions of batches made anew.

Cut and flipped journals: `tests/launcher/test_journal.py`.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mutations import bytes_of, fuzzed, json_texts, only_ours, refused, unreadable

from capacity.launcher.batch import HeightRange
from capacity.launcher.header import HEADER_BYTES, MAGIC, Header
from capacity.launcher.items import ItemsFile
from capacity.launcher.journal import Journal
from capacity.launcher.rebuild import rebuild

HEADER: dict[str, Any] = {
    "fingerprint": "f" * 16,
    "run_id": "20260101-000000-abcdef",
    "count": 40,
    "created": 1.7e9,
    "batch": HeightRange(40).describe(),
    "address": "127.0.0.1:7233",
    "namespace": "default",
}


def _journal(text: bytes, notes: bytes, length: int | None) -> bytes:
    page = MAGIC + (len(text) if length is None else length).to_bytes(4, "little")
    return (page + zlib.crc32(text).to_bytes(4, "little") + text).ljust(HEADER_BYTES, b"\0")[:HEADER_BYTES] + notes


journals = st.builds(
    _journal, bytes_of(json_texts(HEADER)), st.binary(max_size=50), st.one_of(st.none(), st.integers(0, 2**32 - 1))
)


@fuzzed(35)
@given(journals)
def test_any_header_with_a_right_checksum_is_read_or_refused(file: Path, content: bytes) -> None:
    """A journal of another version, or of no version, is looked at and opened, or one line refuses it."""
    file.write_bytes(content)
    with only_ours():
        header = Header.read(file)
        assert isinstance(header.run_id + header.address + header.namespace, str)
        assert json.dumps(header.batch, allow_nan=False)
        if header.count <= 100_000:  # what is missing is made good on the disk
            assert sum(Journal.peek(file).values()) == header.count
            with Journal.open(file) as journal:
                assert sum(journal.tally().values()) == header.count


def test_a_journal_of_more_items_than_memory_holds_is_refused(file: Path) -> None:
    """A header that says ten billion items takes no memory before it is known whether there is any."""
    file.write_bytes(_journal(json.dumps({**HEADER, "count": 10**10}).encode(), b"", None))
    assert Header.read(file).count == 10**10
    with refused():
        Journal.peek(file)


def test_the_header_that_is_damaged_here_is_valid(file: Path) -> None:
    """Without damage it opens: else all would be refused for one and the same reason."""
    file.write_bytes(_journal(json.dumps(HEADER).encode(), b"", None))
    with Journal.open(file) as journal:
        assert journal.header.count == 40


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder, a missing file, a name that cannot be and a file without an end are refused with their name."""
    for path in unreadable(tmp_path):
        for read in (Header.read, Journal.open, Journal.peek):
            with refused():
                read(path)


@fuzzed(35)
@given(json_texts(HEADER["batch"], {**HEADER["batch"], "kind": "items", "path": "x", "sha256": "0"}))
def test_any_description_of_a_batch_is_one_or_refused(state_folder: str, text: str) -> None:
    """What a journal keeps of its batch makes the batch anew, or one line says why it does not."""
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(description, dict):
        return  # a header of a journal and a record hold an object there, or are refused
    with only_ours():
        batch = rebuild(description)
        assert isinstance(batch, HeightRange | ItemsFile)
        assert batch.workflow_id(0)
