"""The description of a cluster: what its configuration says, as a small TOML file.

Invariants: a `Cluster` is complete (every limit is there, the server's default where nothing was said) and possible
(each number in its range, CPUs either shared or split); whatever is wrong with a description is one `UsageError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from capacity.errors import UsageError
from capacity.model import description, shipped
from capacity.model.description import DEFAULTS, MOST

__all__ = ["CLOUD", "DEFAULTS", "Cluster"]

CLOUD: Final = {"actions_per_second": 500, "requests_per_second": 2000}
"""Defaults of a Temporal Cloud namespace (docs.temporal.io/cloud/limits)."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[int, Field(ge=1, le=MOST)]


class Cluster(BaseModel):
    """What a cluster's configuration says of it.

    Attributes
    ----------
    name, note : str
        What it is called, and a sentence about it.
    store : str
        ``sqlite``, ``postgres``, ``mysql``, ``cassandra``, or ``cloud`` for Temporal Cloud.
    cores : int, optional
        CPUs that server and database share.
    server_cores, database_cores : int, optional
        CPUs of each, where they do not share; both or neither, and not with `cores`. Temporal Cloud has none of them.
    launcher_shares_cores : bool
        Whether the launcher runs on those `cores` too.
    launcher_processes : int
        Launcher processes.
    network_delay : float
        Round trip between launcher and frontend [s].
    shards, shard_io_concurrency : int
        History shards, and what each may do at once (``history.shardIOConcurrency``).
    max_conns, visibility_max_conns : int
        Connections each host may hold to the main store and to visibility's.
    frontends, history_hosts, matching_hosts : int
        Hosts of each service.
    limits : dict of float
        The keys of `DEFAULTS`, spelled as in dynamic configuration [1/s, but for the ratio].
    actions_per_second, requests_per_second : int, optional
        Of a Temporal Cloud namespace [1/s]; None elsewhere.
    calibration : str, optional
        Name of a shipped calibration, or path of one.

    Raises
    ------
    UsageError
        A key is unknown, a value is of the wrong kind or out of range, or two values exclude each other.

    Examples
    --------
    >>> Cluster(name="mine", cores=8, limits={"frontend.rps": 4800}).limits["frontend.rps"]
    4800
    >>> Cluster(name="mine", cores=8).limits["history.rps"]
    3000
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    note: str = ""
    store: Literal["sqlite", "postgres", "mysql", "cassandra", "cloud"] = "postgres"
    cores: Count | None = None
    server_cores: Count | None = None
    database_cores: Count | None = None
    launcher_shares_cores: bool = False
    launcher_processes: Count = 1
    network_delay: Annotated[float, Field(ge=0, le=60)] = 0.0
    shards: Annotated[int, Field(ge=1, le=131_072)] = 4
    shard_io_concurrency: Count = 1
    max_conns: Count = 20
    visibility_max_conns: Count = 10
    frontends: Count = 1
    history_hosts: Count = 1
    matching_hosts: Count = 1
    limits: dict[str, int | float] = Field(default_factory=lambda: dict(DEFAULTS))
    actions_per_second: Rate | None = None
    requests_per_second: Rate | None = None
    calibration: str | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, data: Any, validated: Callable[[Any], Self]) -> Self:
        if not isinstance(data, Mapping):
            return validated(data)
        given = dict(data)
        description.refuse_unknown(given, cls.model_fields, "key")
        given["limits"] = description.limits(given.get("limits", {}))
        if given.get("store") == "cloud":
            given = {**CLOUD, **given}
        try:
            cluster = validated(given)
        except ValidationError as error:
            raise description.translated(error, cls) from None
        cluster._check_cores()
        return cluster

    def _check_cores(self) -> None:
        split = [name for name in ("server_cores", "database_cores") if getattr(self, name) is not None]
        if self.store == "cloud":
            if self.cores is not None or split:
                raise UsageError(f"{'cores' if self.cores else split[0]} is set, but Temporal Cloud's are not known")
            return
        for name in CLOUD:
            if getattr(self, name) is not None:
                raise UsageError(f'{name} is set, but store is "{self.store}"', allowed='only with store = "cloud"')
        if self.cores is not None and split:
            raise UsageError(
                f"cores and {split[0]} are both set",
                allowed="cores (shared), or server_cores and database_cores",
                next_step="leave one of them out",
            )
        if self.cores is None and len(split) < 2:
            missing = "cores" if not split else ({"server_cores", "database_cores"} - set(split)).pop()
            raise UsageError(f"{missing} is missing", allowed="cores (shared), or server_cores and database_cores")
        if self.launcher_shares_cores and self.cores is None:
            raise UsageError("launcher_shares_cores is true without cores", next_step="set cores, which all share")

    @classmethod
    def load(cls, source: str | Path) -> Cluster:
        """Read a description.

        Parameters
        ----------
        source : str or Path
            Name of a shipped one (without suffix), else the path of a TOML file.

        Raises
        ------
        UsageError
            The file is not there, is not TOML, or describes no cluster; one line says where and what.

        Examples
        --------
        >>> Cluster.load("devserver").store
        'sqlite'
        """
        named = str(source) in shipped.names("clusters")
        file = shipped.path("clusters", str(source)) if named else Path(source)
        table = description.table(file)
        table.setdefault("name", file.stem)
        try:
            cluster = cls.model_validate(table)
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        calibration = cluster.calibration
        if calibration is None or not _is_path(calibration):
            return cluster
        return cluster.model_copy(update={"calibration": str((file.parent / calibration).absolute())})

    def changed(self, changes: Mapping[str, object]) -> Cluster:
        """This cluster with other values, each named by its field or its dynamic configuration key.

        Raises
        ------
        UsageError
            As in the constructor.

        Examples
        --------
        >>> Cluster(name="mine", cores=8).changed({"cores": 16, "history.rps": 9000}).limits["history.rps"]
        9000
        """
        fields: dict[str, object] = {name: value for name, value in self.to_dict().items() if value is not None}
        limits = dict(self.limits)
        for key, value in changes.items():
            if key in DEFAULTS:
                limits[key] = value  # type: ignore[assignment]  # checked by the constructor
            elif key in _OWN_FIELDS:
                fields[key] = value
            else:
                description.refuse_unknown({key: value}, (*_OWN_FIELDS, *DEFAULTS), "key")
        return type(self).model_validate({**fields, "limits": limits})

    def counts(self) -> dict[str, int | None]:
        """How many it has of each resource, by the names that the network gives them; None is not known."""
        return {
            "CPUs": self.cores,
            "server CPUs": self.server_cores,
            "database CPUs": self.database_cores,
            "shard locks": self.shards * self.shard_io_concurrency,
            "connections": self.max_conns * self.history_hosts,
        }

    def to_dict(self) -> dict[str, object]:
        """The description as JSON-ready values; the constructor takes them back."""
        return self.model_dump()


_OWN_FIELDS: Final = tuple(name for name in Cluster.model_fields if name != "limits")


def _is_path(calibration: str) -> bool:
    return "/" in calibration or calibration.endswith(".json")
