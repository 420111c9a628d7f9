"""The input of a workflow, made of an item's columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from capacity import files
from capacity.errors import UsageError

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class InputTemplate:
    """A JSON text with places for columns, such as ``{"chain": "{chain_id}", "block": "{height}"}``.

    A string that is one place takes the column's value as it is, number or text; within a longer string a text stands
    as it is, and any other value as JSON. Any other text stays.

    Examples
    --------
    >>> InputTemplate('{"block": "{height}", "name": "block {height}"}').render({"height": 7})
    b'{"block":7,"name":"block 7"}'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._value = files.json_value(text)
        except files.UnreadableError as error:
            raise UsageError(
                f"input template {text[:60]!r} {error}",
                next_step="""for example '{"chain": "{chain_id}", "block": "{height}"}'""",
            ) from error
        self.columns = sorted(set(_columns(self._value)))

    def render(self, columns: Mapping[str, Any]) -> bytes:
        """Return the input as JSON; KeyError names a column that the item lacks."""
        return compact(self._fill(self._value, columns))

    def _fill(self, value: Any, columns: Mapping[str, Any]) -> Any:
        if isinstance(value, str):
            whole = _PLACE.fullmatch(value)
            if whole:
                return columns[whole[1]]
            return _PLACE.sub(lambda place: _written(columns[place[1]]), value)
        if isinstance(value, list):
            return [self._fill(item, columns) for item in value]
        if isinstance(value, dict):
            return {key: self._fill(item, columns) for key, item in value.items()}
        return value


def _written(value: Any) -> str:
    return str(value) if type(value) in (str, int) else compact(value).decode()  # bool is an int, and no number


def _columns(value: Any) -> list[str]:
    if isinstance(value, str):
        return _PLACE.findall(value)
    if isinstance(value, dict):
        value = list(value.values())
    return [column for item in value for column in _columns(item)] if isinstance(value, list) else []


def compact(value: Any) -> bytes:
    """Return a JSON value without spaces; ValueError says that it cannot be written as JSON.

    >>> compact({"height": 7})
    b'{"height":7}'
    """
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
