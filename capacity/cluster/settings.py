"""What a dev cluster can be asked to be."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from capacity import files
from capacity.errors import UsageError
from capacity.model import description

DEFAULT_PORT = 7233
STORES = ("sqlite", "postgres")
_LIMITS: Final = {key.lower(): key for key in description.DEFAULTS}
"""A server takes its keys in any case."""
_NEAR: Final = 0.9
"""Likeness from which on a key is a misspelt one of these: no other key of a server is as like one of them."""


@dataclass(frozen=True)
class Settings:
    """What ``up`` was asked for.

    Parameters
    ----------
    store : str
        ``sqlite`` (the embedded dev server) or ``postgres`` (PostgreSQL and the real server).
    port : int, optional
        Port of the frontend; None is 7233, 0 any free one.
    dynamic_config : Mapping[str, str]
        Temporal's dynamic configuration; a value that is not JSON is taken as text.
    database : Path, optional
        SQLite file; None keeps everything in memory.
    shards : int
        History shards of a PostgreSQL stack; fixed for the life of its data.
    max_conns : int
        Connections each Temporal service may hold to its store.
    pg_options : Mapping[str, str]
        PostgreSQL configuration.
    """

    store: str = "sqlite"
    port: int | None = None
    dynamic_config: Mapping[str, str] = field(default_factory=dict)
    database: Path | None = None
    shards: int = 64
    max_conns: int = 40
    pg_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.store not in STORES:
            raise UsageError(f"store is {self.store!r}", allowed=" or ".join(STORES))
        if self.store == "postgres" and self.database is not None:
            raise UsageError(f"database is {self.database}", allowed="a file only with the store sqlite")
        # For one machine; how many shards the server itself takes is in model/cluster.py.
        for name, value, most in (("shards", self.shards, 16384), ("max_conns", self.max_conns, 1000)):
            if not 1 <= value <= most:
                raise UsageError(f"{name} is {value}", allowed=f"1 to {most}")

    def recorded(self) -> dict[str, object]:
        """What a second ``up`` is compared with; the port only when it was named."""
        common: dict[str, object] = {
            "store": self.store,
            "port": self.port or None,
            "dynamic_config": checked_config(self.dynamic_config),
        }
        if self.store == "sqlite":
            return {**common, "database": str(self.database.absolute()) if self.database is not None else None}
        return {
            **common,
            "shards": self.shards,
            "max_conns": self.max_conns,
            "pg_options": dict(self.pg_options),
        }


def checked_config(dynamic_config: Mapping[str, str]) -> dict[str, str]:
    """The dynamic configuration with every value as JSON.

    Raises
    ------
    UsageError
        If a value cannot be read, a limit is no number or out of range, or a key is a limit's but for a slip: a running
        server takes either without a word and goes by its default.

    Examples
    --------
    >>> checked_config({"frontend.rps": "100000", "system.visibilityStore": "default"})
    {'frontend.rps': '100000', 'system.visibilityStore': '"default"'}
    """
    checked = {_checked_key(key): _as_json(str(value)) for key, value in dynamic_config.items()}
    for key, text in checked.items():
        if limit := _LIMITS.get(key.lower()):
            description.check_limit(limit, files.json_value(text), str(dynamic_config[key]))
    return checked


def _checked_key(key: str) -> str:
    if not key or any(character.isspace() or character in "='\"" for character in key):
        raise UsageError(
            f"dynamic configuration key {key[:60]!r}", allowed="a name", next_step="for example frontend.rps"
        )
    if key.lower() not in _LIMITS and (near := difflib.get_close_matches(key.lower(), _LIMITS, n=1, cutoff=_NEAR)):
        raise UsageError(
            f"unknown dynamic configuration key {key[:60]!r}", next_step=f"did you mean {_LIMITS[near[0]]}?"
        )
    return key


def _as_json(text: str) -> str:
    try:
        files.json_value(text)
    except files.NotJsonError:
        return json.dumps(text)
    except files.UnreadableError as error:
        raise UsageError(f"dynamic configuration value {files.shown(text)} {error}") from error
    return text
