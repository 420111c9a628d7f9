"""What a description of a cluster may hold, and the one line for each mistake in it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from capacity import files
from capacity.errors import UsageError
from capacity.model import shipped

DEFAULTS: Final[Mapping[str, float]] = {
    "frontend.rps": 2400,
    "frontend.namespaceRPS": 2400,
    "frontend.namespaceBurstRatio": 2,
    "frontend.globalRPS": 0,
    "frontend.globalNamespaceRPS": 0,
    "frontend.persistenceMaxQPS": 2000,
    "history.rps": 3000,
    "history.persistenceMaxQPS": 9000,
    "matching.rps": 1200,
    "matching.persistenceMaxQPS": 3000,
}
"""Keys of Temporal's dynamic configuration that cap starts, with the server's defaults
(server 1.32, common/dynamicconfig/constants.go). Of the keys that may be 0, 0 is no limit."""
MAY_BE_ZERO: Final = frozenset(key for key in DEFAULTS if ".global" in key or key.endswith("persistenceMaxQPS"))
MOST: Final = 2**31 - 1
"""What a limit may be: that number is how others write "unlimited"."""
_SPELLED_OTHERWISE: Final = {
    "history.shardIOConcurrency": "shard_io_concurrency",
    "numHistoryShards": "shards",
    "maxConns": "max_conns",
    "cpus": "cores",
}


def table(file: Path) -> dict[str, Any]:
    """Return the table in a description's file, or say why there is none, with the shipped one that may be meant."""
    known = f"a TOML file, or one of {', '.join(shipped.names('clusters'))}"
    try:
        return files.toml_file(file)
    except FileNotFoundError:
        near = difflib.get_close_matches(str(file), shipped.names("clusters"), n=1)
        step = f"did you mean {near[0]}?" if near else None
        raise UsageError(f"cluster {str(file)!r}: no such file", allowed=known, next_step=step) from None
    except OSError as error:
        raise UsageError(f"cluster {str(file)!r}: {error.strerror}", allowed=known) from error
    except files.UnreadableError as error:
        raise UsageError(f"{file} {error}", next_step="correct the file") from error


def limits(given: object) -> dict[str, int | float]:
    """Return every key of `DEFAULTS` with its value, as given or the server's; any other key or kind is refused."""
    if not isinstance(given, Mapping):
        raise UsageError(f"limits is {files.shown(given)}", allowed="a table of dynamic configuration keys")
    flat = dict(_flat("", given))
    refuse_unknown(flat, DEFAULTS, "limit")
    for key, value in flat.items():
        check_limit(key, value, value)
    return {**DEFAULTS, **flat}


def check_limit(key: str, value: Any, given: object) -> None:
    """Refuse the value of a key of `DEFAULTS` that is of another kind or out of range, in the form it was given in."""
    ratio = key.endswith("Ratio")
    low = 0 if key in MAY_BE_ZERO else 1
    right = isinstance(value, int | float if ratio else int) and not isinstance(value, bool)
    if not (right and low <= value <= MOST):
        kind = "a number" if ratio else "a whole number"
        raise UsageError(f"{key} is {files.shown(given)}", allowed=f"{kind} from {low} to {MOST:,}")


def _flat(prefix: str, table: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    """Keys with their dots, however TOML was told of them: ``"frontend.rps" = 1`` or ``frontend.rps = 1``."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse the first key that is not known, with the one that may be meant."""
    known = tuple(known)
    for key in given:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        meant = _SPELLED_OTHERWISE.get(key) or (near[0] if near else None)
        if key in DEFAULTS:
            meant = f'"{key}" in the table [limits]'
        raise UsageError(
            f"unknown {what} {key[:60]!r}",
            allowed=None if meant else ", ".join(known),
            next_step=f"did you mean {meant}?" if meant else None,
        )


def translated(error: ValidationError, model: type[BaseModel]) -> UsageError:
    """Return pydantic's first complaint about a description in our words: the key, its value, what is allowed."""
    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else "the description"
    if problem["type"] == "missing":
        return UsageError(f"{name} is missing")
    schema = _schema(model).get(name, {})
    schema = {**schema, **next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), {})}
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    allowed = " or ".join(schema["enum"]) if "enum" in schema else kind.get(str(schema.get("type")), "")
    if "minimum" in schema:
        allowed += f" from {schema['minimum']:,} to {schema['maximum']:,}"
    if "maxLength" in schema:
        allowed += f" of {schema['minLength']} to {schema['maxLength']} characters"
    return UsageError(f"{name} is {files.shown(problem['input'])}", allowed=allowed or None)


@functools.cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return properties
