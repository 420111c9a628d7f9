"""What a dev cluster can be asked to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from capacity import files
from capacity.errors import UsageError

DEFAULT_PORT = 7233
STORES = ("sqlite", "postgres")


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

    Examples
    --------
    >>> checked_config({"frontend.rps": "100000", "system.visibilityStore": "default"})
    {'frontend.rps': '100000', 'system.visibilityStore': '"default"'}
    """
    return {_checked_key(key): _as_json(str(value)) for key, value in dynamic_config.items()}


def _checked_key(key: str) -> str:
    if not key or any(character.isspace() or character in "='\"" for character in key):
        raise UsageError(
            f"dynamic configuration key {key[:60]!r}", allowed="a name", next_step="for example frontend.rps"
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
