"""The first page of a journal: what it says of the batch whose notes are behind it.

A description of the batch for which the page has no room stands behind the notes.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from capacity import files
from capacity.errors import JournalError, UsageError
from capacity.launcher.journal_file import in_one_line

MAGIC: Final = b"CAPJRNL1"
HEADER_BYTES: Final = 4096
MOST_ITEMS: Final = 10**10
_PREFIX: Final = struct.Struct("<8sII")  # magic, length and CRC-32 of the JSON behind it
_ROOM: Final = HEADER_BYTES - _PREFIX.size
_KNOWN: Final = {"fingerprint": str, "run_id": str, "count": int, "created": float}
_ADDED: Final = {"batch": dict, "address": str, "namespace": str, "batch_bytes": int, "batch_crc": int}


@dataclass(frozen=True)
class Header:
    """What a journal says of itself.

    Parameters
    ----------
    fingerprint : str
        Of the batch and its target (`batch.fingerprint`).
    run_id : str
        The request ids of all attempts, resumed ones included, begin with it.
    count : int
        Items.
    created : float
        Unix time [s].
    batch : dict
        `Batch.describe()`, for `capacity runs`; empty where it was behind the notes and is damaged.
    address, namespace : str
        The target.
    """

    fingerprint: str
    run_id: str
    count: int
    created: float = field(default_factory=time.time)
    batch: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    namespace: str = ""

    def pack(self) -> bytes:
        """Return the first page."""
        text = json.dumps(asdict(self)).encode()
        if behind := self.behind:
            elsewhere = {"batch": {}, "batch_bytes": len(behind), "batch_crc": zlib.crc32(behind)}
            text = json.dumps(asdict(self) | elsewhere).encode()
        return (_PREFIX.pack(MAGIC, len(text), zlib.crc32(text)) + text).ljust(HEADER_BYTES, b"\0")

    @property
    def behind(self) -> bytes:
        """What stands behind the notes: the description of a batch for which the page has no room, else nothing."""
        return json.dumps(self.batch).encode() if len(json.dumps(asdict(self))) > _ROOM else b""

    @classmethod
    def read(cls, path: Path) -> Header:
        """Read the header of a journal without opening it for a launch."""
        with in_one_line(f"cannot open journal {path}"), path.open("rb") as file:
            return cls.of(path, file.fileno())

    @classmethod
    def of(cls, path: Path, fd: int) -> Header:
        """Read the header of an open file."""
        with in_one_line(f"cannot read journal {path}"):
            page, size = os.pread(fd, HEADER_BYTES, 0), os.fstat(fd).st_size
            if len(page) < HEADER_BYTES or page[:8] != MAGIC:
                raise JournalError(f"{path} is not a journal of capacity", next_step="name another file with --journal")
            _, length, checksum = _PREFIX.unpack(page[: _PREFIX.size])
            text = page[_PREFIX.size : _PREFIX.size + length]
            if zlib.crc32(text) != checksum:
                raise JournalError(
                    f"the header of journal {path} is damaged",
                    next_step="the file is left as it is; start the batch anew with another --journal: "
                    "items that exist are recognised by their ids and not started twice",
                )
            try:
                found = files.fields(files.json_value(text), _KNOWN, _ADDED)
                check_size(found["count"])
                length, checksum = found.pop("batch_bytes", 0), found.pop("batch_crc", 0)
                if 0 < length <= size - HEADER_BYTES - found["count"]:
                    text = os.pread(fd, length, HEADER_BYTES + found["count"])
                    if zlib.crc32(text) == checksum:
                        found |= files.fields({"batch": files.json_value(text)}, {"batch": dict})
            except UsageError as error:
                raise JournalError(
                    f"the header of journal {path} {error}",
                    next_step="read it with the version of capacity that wrote it",
                ) from error
        return cls(**found)

    def check(self, path: Path, fingerprint: str) -> None:
        """Refuse the journal of another batch."""
        if self.fingerprint != fingerprint:
            raise JournalError(
                f"journal {path} belongs to another batch: its fingerprint is {self.fingerprint}, "
                f"this batch on this target has {fingerprint}",
                next_step="pass the same batch, options, address and namespace, or another --journal",
            )


def check_size(count: int) -> None:
    """Refuse a number of items that no journal can hold; each takes a byte of it."""
    if not 1 <= count <= MOST_ITEMS:
        raise UsageError(f"count is {files.shown(count)}", allowed=f"1 to {MOST_ITEMS:,} items")
