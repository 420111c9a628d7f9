"""A batch from a file: CSV or JSON lines with a column ``id``; the other columns are the workflow's input.

The file is read twice and never held: once to count its records, take its checksum and remember where every
4096th record begins, once to launch it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from capacity.errors import UsageError
from capacity.launcher.batch import MAXIMUM_ID_LENGTH, BodyWriter, StartOptions, check_count
from capacity.launcher.inputs import InputTemplate, compact

STRIDE: Final = 4096
MAXIMUM_RECORD: Final = 1 << 23
"""A record that goes on for longer is a quote nobody closed [bytes]; a server's default takes 2 MiB of input."""
LONGEST_LINE: Final = 1 << 24
_BOM: Final = b"\xef\xbb\xbf"
_QUOTED = re.compile(rb'(?:^|(?<=,))"(?:[^"]|"")*"')
_OPENING = re.compile(rb'(?:^|,)"')
csv.field_size_limit(1 << 27)  # the server says what is too large, not the csv module


@dataclass(frozen=True)
class ItemsFile:
    """The records of a CSV or JSON-lines file; item i is the i-th record.

    Use `ItemsFile.open`. A record that makes no request (no id, not an object, an id that is too long) is an item that
    fails with the kind ``BAD_ITEM``; it does not stop the batch.
    """

    path: Path
    count: int
    sha256: str
    is_csv: bool
    header: tuple[str, ...]
    offsets: tuple[int, ...] = field(repr=False)
    template: InputTemplate | None = None
    options: StartOptions = field(default_factory=StartOptions)

    @classmethod
    def open(cls, path: Path, options: StartOptions | None = None, template: InputTemplate | None = None) -> ItemsFile:
        """Read a file once and return it as a batch.

        Raises
        ------
        UsageError
            When it cannot be read, has no record, or no record can be right: a CSV lacks a column, ``id`` or one that
            the template names; the first of JSON lines is not even a damaged object, from brace to brace.
        """
        try:
            _check_regular(path)
            with path.open("rb", buffering=1 << 20) as file:
                is_csv = _is_csv(path, file)
                header: tuple[str, ...] = ()
                digest, offsets, count = hashlib.sha256(), [], 0
                for offset, record in _records(file, is_csv):
                    digest.update(record)
                    if is_csv and not header:
                        header = tuple(name.strip() for name in _row(record))
                        continue
                    if count == 0 and not is_csv:
                        _check_object(path, record)
                    if count % STRIDE == 0:
                        offsets.append(offset)
                    count += 1
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"cannot read items file {path}: {reason}") from error
        except ValueError as error:
            raise UsageError(f"the first line of items file {path} is not CSV: {str(error)[:120]}") from error
        if is_csv and "id" not in header:
            raise UsageError(
                f"items file {path} has no column 'id'; its first line is {','.join(header)[:60]!r}",
                next_step="name the column with the workflow ids 'id'",
            )
        if len(set(header)) < len(header):
            twice = next(name for name, times in Counter(header).items() if times > 1)
            raise UsageError(f"items file {path} has two columns {twice[:60]!r}", next_step="give them different names")
        for column in template.columns if template and is_csv else ():
            if column not in header:
                raise UsageError(f"input template names {column!r}", allowed=", ".join(header)[:160])
        if count == 0:
            raise UsageError(f"items file {path} has no item")
        check_count(count)
        return cls(path, count, digest.hexdigest(), is_csv, header, tuple(offsets), template, options or StartOptions())

    @property
    def id_prefix(self) -> str:
        return ""

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "items",
            "path": str(self.path.absolute()),
            "count": self.count,
            "sha256": self.sha256,
            "template": self.template.text if self.template else None,
            "options": asdict(self.options),
        }

    def columns(self, index: int) -> dict[str, Any]:
        """Return the record of one item; ValueError says why a bad one is bad."""
        for _, record in self._from(index):
            return self._parse(record)
        raise ValueError(f"{self.path} has no item {index} any more")

    def columns_of(self, indices: Collection[int]) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
        """Yield (index, record) of some items in one pass over the file; in place of a bad one why it is bad."""
        wanted = frozenset(indices)
        last = max(wanted, default=-1)
        for index, record in self._from(min(wanted, default=self.count)):
            if index in wanted:
                try:
                    yield index, self._parse(record)
                except ValueError as error:
                    yield index, error
            if index >= last:
                return

    def workflow_id(self, index: int) -> str:
        return str(self.columns(index)["id"])

    def bodies(
        self, run_id: str, skip: Callable[[int], bool], first: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, bytes | None]]:
        body = BodyWriter()
        for index, record in self._from(first):
            if stop is not None and index >= stop:
                return
            if skip(index):
                continue
            try:
                columns = self._parse(record)
                data = self._input(columns)
            except (ValueError, KeyError):
                yield index, None
                continue
            yield index, body.write(columns["id"], f"{run_id}:{index}", data)

    def _input(self, columns: dict[str, Any]) -> bytes:
        if self.template:
            return self.template.render(columns)
        return compact({name: value for name, value in columns.items() if name != "id"})

    def _from(self, first: int) -> Iterator[tuple[int, bytes]]:
        if not 0 <= first < self.count:
            return
        index = first // STRIDE * STRIDE
        try:
            with self.path.open("rb", buffering=1 << 20) as file:
                file.seek(self.offsets[first // STRIDE])
                for _, record in _records(file, self.is_csv):
                    if index >= self.count:
                        return
                    if index >= first:
                        yield index, record
                    index += 1
        except OSError as error:
            raise self._changed(f"cannot be read any more at item {index}: {error.strerror}") from error
        if index < self.count:
            raise self._changed(f"ends after {index:,} of {self.count:,} items: it was changed since it was opened")

    def _changed(self, what: str) -> UsageError:
        return UsageError(
            f"items file {self.path} {what}", next_step="what was launched is noted: restore the file and resume"
        )

    def _parse(self, record: bytes) -> dict[str, Any]:
        if self.is_csv:
            row = _row(record)
            if len(row) != len(self.header):
                raise ValueError(f"it has {len(row)} columns, the first line has {len(self.header)}")
            columns: Any = dict(zip(self.header, row, strict=True))
        else:
            try:
                columns = json.loads(record, parse_constant=_no_number)
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            if not isinstance(columns, dict):
                raise ValueError("it is not a JSON object")
        identity = columns.get("id")
        if isinstance(identity, int) and not isinstance(identity, bool):
            identity = str(identity)
        if not isinstance(identity, str) or not 1 <= len(identity.encode()) <= MAXIMUM_ID_LENGTH:
            raise ValueError(f"its id is {str(identity)[:40]!r}, not a text of 1 to {MAXIMUM_ID_LENGTH} bytes")
        columns["id"] = identity
        return dict(columns)


def _check_regular(path: Path) -> None:
    """Refuse what cannot be read twice, such as a pipe: it would be empty the second time, when it is launched."""
    try:
        str(path.absolute()).encode()  # a journal keeps it
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL in its name, or bytes that are no text
        raise UsageError(
            f"cannot read items file {str(path)[:60]!a}: its name is not UTF-8 text", next_step="rename it"
        ) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UsageError(
            f"cannot read items file {path}: it is no regular file, and it is read twice",
            next_step="write its lines to a file first",
        )


def _check_object(path: Path, record: bytes) -> None:
    """Refuse a file whose first record is no object, not even a damaged one: an array over many lines, or a CSV."""
    text = record.removeprefix(_BOM).strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise UsageError(
            f"the first record of items file {path} is no JSON object: {text[:40].decode(errors='replace')!r}",
            allowed="JSON lines, an object with an id a line",
            next_step="for an array: jq -c '.[]' FILE > items.jsonl; for objects over many lines: jq -c .",
        )


def _is_csv(path: Path, file: IO[bytes]) -> bool:
    if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        return False
    if path.suffix.lower() == ".csv":
        return True
    first = file.read(4096).removeprefix(_BOM).lstrip()
    file.seek(0)
    return not first.startswith(b"{")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _row(record: bytes) -> list[str]:
    try:
        return next(csv.reader([record.decode("utf-8-sig")], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _records(file: IO[bytes], is_csv: bool) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of each record that is not blank; a CSV record ends where its quotes are closed."""
    offset = file.tell()
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise UsageError(
                f"items file {file.name} has a line of more than {LONGEST_LINE:,} bytes at byte {offset:,}",
                allowed="CSV or JSON lines, a record a line",
            )
        record = _rest(file, line) if is_csv and line.count(b'"') % 2 else line
        if record.removeprefix(_BOM).strip():
            yield offset, record
        offset += len(record)


def _rest(file: IO[bytes], line: bytes) -> bytes:
    """Return a line with those that follow until its quotes are closed; a quote within a field opens none."""
    if not _OPENING.search(_QUOTED.sub(b"", line.removeprefix(_BOM))):
        return line
    lines, size, is_open = [line], len(line), True
    while is_open and size < MAXIMUM_RECORD and (line := file.readline()):
        lines.append(line)
        size += len(line)
        is_open ^= line.count(b'"') % 2 == 1
    return b"".join(lines)
