"""What others wrote, read as JSON or TOML: a value that every room can work with, or the reason why it cannot be used.

Invariants: what comes out is not nested deeper than `DEEPEST`, its whole numbers fit in 64 bits, its texts in UTF-8,
and of JSON its numbers are finite; nothing of more than `LARGEST` bytes is read. Whatever else there is raises
`UnreadableError`, whose text is a reason for the one line of whoever asked; what the disk refuses stays an `OSError`.
And what we write, whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar

from capacity.errors import UsageError

DEEPEST: Final = 50
"""Levels of tables and lists; ours have 6 at most. Python's own functions end at some hundred, each elsewhere."""
LARGEST: Final = 64 * 2**20
"""Bytes of a file."""
LONGEST_TOML: Final = 2**20
"""Characters of a TOML file, which people write."""
_LONG_KEY: Final = re.compile(
    rf"""(?:^|[\[{{,])[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}""",
    re.ASCII | re.MULTILINE,
)
_INT64: Final = range(-(2**63), 2**63)
_Any = TypeVar("_Any")
_MOST: Final = 1.7976931348623157e308


class UnreadableError(UsageError):
    """Why a file or a line cannot be used, as what is said of it: ``is nested too deeply``."""


class NotJsonError(UnreadableError):
    """It is another text than JSON, not JSON that no room can work with."""


def shown(value: object, most: int = 60) -> str:
    """Return a value for an error: at most so many characters, whatever it is.

    >>> shown("x" * 100, 10), shown(10**5000), shown(0.0), shown(True)
    ("'xxxxxxx..", 'a number of more than 4,300 digits', '0', 'true')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    try:
        words = repr(value)
    except RecursionError:
        return f"a {type(value).__name__}, nested too deeply"
    except ValueError:
        return "a number of more than 4,300 digits"
    return words if len(words) <= most else f"{words[: most - 2]}.."


def reason(error: OSError | UnreadableError) -> str:
    """Return why a file could not be read, in a few words."""
    return f"it {error}" if isinstance(error, UnreadableError) else str(error.strerror)


def first_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the first of what pydantic found, and where it is.

    >>> first_of([{"loc": ("points", 3, "p50"), "msg": "Field required"}])
    'points.3.p50: Field required'
    """
    where = ".".join(str(part) for part in errors[0]["loc"])
    return f"{where[:120]}: {errors[0]['msg']}"


def bytes_of(path: Path) -> bytes:
    """Return what is in a file."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError:
        raise
    except ValueError as error:  # a NUL in its name
        raise UnreadableError("has a name that no file can have") from error
    if len(content) > LARGEST:
        raise UnreadableError(f"has more than {LARGEST:,} bytes")
    return content


def _text_of(path: Path, kind: str) -> str:
    """Return a file's text; a byte-order mark before it is none of it."""
    content = bytes_of(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not {kind}: not UTF-8 from byte {error.start:,} on") from error


def json_file(path: Path) -> Any:
    """Return the value in a JSON file."""
    return json_value(_text_of(path, "JSON"))


def toml_file(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file."""
    text = _text_of(path, "TOML")
    if len(text) > LONGEST_TOML:
        raise UnreadableError(f"has more than {LONGEST_TOML:,} characters")
    if _LONG_KEY.search(text):  # Python's parser takes minutes for a key of some ten thousand parts
        raise UnreadableError("is nested too deeply")
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise UnreadableError("is nested too deeply") from error
    except ValueError as error:  # not only TOMLDecodeError: numbers of thousands of digits
        raise UnreadableError(f"is not TOML: {str(error)[:120]}") from error
    checked(table, finite=False)  # TOML has nan and inf; who wants a number says which
    return table


def json_value(text: str | bytes, *, finite: bool = True) -> Any:
    """Return the value of a JSON text; with `finite` off it may hold what Python writes for an infinite number.

    >>> json_value('{"rate": 1e999}')
    Traceback (most recent call last):
    ...
    capacity.files.UnreadableError: is not usable: rate is inf, not a finite number
    """
    try:
        value = json.loads(text, parse_constant=_no_constant if finite else None)
    except RecursionError as error:
        raise UnreadableError("is nested too deeply") from error
    except UnreadableError:
        raise
    except ValueError as error:
        raise NotJsonError(f"is not JSON: {str(error)[:120]}") from error
    return checked(value, finite=finite)


def _no_constant(word: str) -> None:
    raise NotJsonError(f"is not JSON: {word} is no number of it")


def checked(value: _Any, *, finite: bool = True) -> _Any:
    """Hold a value of JSON against this module's invariants and return it.

    It is one loop over what holds others, for a record of a run has tens of thousands of numbers.
    """
    todo: list[tuple[str, object, int]] = [("", [value], 0)]
    while todo:
        name, holder, depth = todo.pop()
        if depth > DEEPEST:
            raise UnreadableError("is nested too deeply")
        named = isinstance(holder, dict)
        for key, each in holder.items() if isinstance(holder, dict) else ((name, e) for e in holder):  # type: ignore[attr-defined]
            kind = type(each)
            if kind is float:
                if finite and not -_MOST <= each <= _MOST:
                    raise UnreadableError(f"is not usable: {key[:60] or 'it'} is {each}, not a finite number")
            elif kind is int:
                if each not in _INT64:
                    raise UnreadableError(f"is not usable: {key[:60] or 'it'} does not fit in 64 bits")
            elif kind is dict or kind is list:
                todo.append((key, each, depth + 1))
            elif kind is str and not each.isascii():
                _check_text(each)
            if named and not key.isascii():
                _check_text(key)
    return value


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnreadableError(f"is not usable: {text[:40]!a} holds half a character") from error


Kinds = Mapping[str, type | UnionType]
_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "an object"}


def fields(value: object, kinds: Kinds, optional: Kinds | None = None) -> dict[str, Any]:
    """Return the fields of an object of JSON, each of its kind; where a number is wanted a whole one is one too.

    >>> fields({"pid": 7}, {"pid": int})
    {'pid': 7}
    >>> fields({"pid": True}, {"pid": int})
    Traceback (most recent call last):
    ...
    capacity.files.UnreadableError: is damaged: pid is true, not a whole number
    """
    if not isinstance(value, dict):
        raise UnreadableError("is damaged: not an object of JSON")
    every = {**kinds, **(optional or {})}
    for key in value:
        if key not in every:
            raise UnreadableError(f"is damaged: {shown(key)} is not known")
    for key, kind in every.items():
        if key not in value:
            if key in kinds:
                raise UnreadableError(f"is damaged: {key} is missing")
            continue
        given = value[key]
        allowed = kind.__args__ if isinstance(kind, UnionType) else (kind,)
        fits = type(given) in allowed or (type(given) is int and float in allowed)
        if not fits:
            words = " or ".join(_WORDS.get(each, "a list" if each is list else "null") for each in allowed)
            raise UnreadableError(f"is damaged: {key} is {shown(given)}, not {words}")
    return dict(value)


def said_by_the_machine(error: OSError) -> str:
    """Return what a disk, a folder or a limit of this machine refused, in one line."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def write_whole(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a text file that replaces an older one whole or not at all; a link is followed, a device written to.

    Parameters
    ----------
    mode : int
        Who may read it, cut by the umask.

    Raises
    ------
    OSError
        What the disk refuses; nothing is left then.
    """
    if path.exists() and not path.is_file():  # /dev/null, /dev/stdout, a pipe: nothing takes their place
        path.write_text(text, encoding="utf-8")
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=mode)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
