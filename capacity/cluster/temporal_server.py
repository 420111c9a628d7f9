"""One real Temporal server, all four services in a process, on a PostgreSQL of our own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from capacity.cluster import frontend, ports, processes
from capacity.cluster.settings import Settings, checked_config
from capacity.cluster.state import Component
from capacity.cluster.temporal_binaries import Binaries
from capacity.errors import ClusterError, UsageError

MAIN, VISIBILITY = "temporal", "temporal_visibility"
SERVICES = ("frontend", "history", "matching", "worker")
PLUGIN = "postgres12"
RETENTION_HOURS = 24


def set_up_schema(binaries: Binaries, port: int, user: str, password: str, log: Path) -> None:
    """Create both databases and bring their schemas to the server's version."""
    # The password goes by variable: arguments are visible to every user of the machine.
    environment = {"SQL_PASSWORD": password, "SQL_USER": user, "SQL_HOST": ports.HOST, "SQL_PORT": str(port)}
    for database, schema in ((MAIN, "temporal"), (VISIBILITY, "visibility")):
        for step in (
            ["create"],
            ["setup-schema", "-v", "0.0"],
            ["update-schema", "--schema-name", f"postgresql/v12/{schema}"],
        ):
            command = [binaries.sql_tool, "--plugin", PLUGIN, "--db", database, *step]
            processes.run(command, log, environment=environment)


def write_dynamic_config(binaries: Binaries, folder: Path, dynamic_config: Mapping[str, str], log: Path) -> None:
    """Write ``dynamic-config.yaml``; the server itself checks its keys and kinds.

    Raises
    ------
    UsageError
        If a key is unknown or a value is of the wrong kind, both of which a running server ignores.
    """
    values = {key: [{"value": json.loads(text)}] for key, text in checked_config(dynamic_config).items()}
    path = folder / "dynamic-config.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    if not values:
        return
    said = processes.run([binaries.server, "validate-dynamic-config", str(path)], log)
    complaints = re.findall(r"(?:warning|error): (?:validation failed: )?(.*)", said)
    if complaints:
        raise UsageError(
            f"dynamic configuration: {'; '.join(complaints)}", next_step="correct the setting or leave it out"
        )


def launch(
    binaries: Binaries,
    folder: Path,
    settings: Settings,
    port: int,
    postgres_port: int,
    login: tuple[str, str],
    log: Path,
) -> Component:
    """Start the server; it is not ready yet.

    Parameters
    ----------
    binaries : Binaries
        The programs.
    folder : Path
        Takes its configuration, readable by the caller only.
    settings : Settings
        Shards and connections.
    port, postgres_port : int
        Ports of its frontend and of its database.
    login : tuple of (str, str)
        Database role and password.
    log : Path
        Its log.
    """
    # None of these is bound yet: each call could be handed what another was.
    http, metrics, *numbers = [number for number in ports.free(6) if number != port][:5]
    members = [number for number in ports.free_low(9) if number not in (port, http, metrics, *numbers)]
    rpc = dict(zip(SERVICES, [port, *numbers], strict=True))
    config = _config(settings, postgres_port, login, folder)
    config["global"]["metrics"]["prometheus"]["listenAddress"] = f"{ports.HOST}:{metrics}"
    config["clusterMetadata"]["clusterInformation"]["active"]["rpcAddress"] = f"{ports.HOST}:{port}"
    for (service, number), member in zip(rpc.items(), members[:4], strict=True):
        config["services"][service] = {"rpc": {"grpcPort": number, "membershipPort": member, "bindOnLocalHost": True}}
    config["services"]["frontend"]["rpc"]["httpPort"] = http
    path = folder / "server.yaml"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    pid, born = processes.launch([binaries.server, "--config-file", str(path), "--allow-no-auth", "start"], log)
    served = {"frontend": port, "http": http, "metrics": metrics}
    served |= {service: number for service, number in rpc.items() if service != "frontend"}
    return Component("temporal-server", pid, born, binaries.version, served, str(log))


def ensure_namespace(address: str, component: Component, log: Path, *, within: float = 60.0) -> None:
    """Register the namespace ``default`` as soon as the frontend takes it; an existing one is fine.

    Raises
    ------
    ClusterError
        If the server ends or the time [s] runs out.
    """
    deadline = time.monotonic() + within
    said = "unreachable"
    while time.monotonic() < deadline:
        if not component.alive:
            raise ClusterError(
                f"the Temporal server ended at start: {processes.last_line(log)}", next_step=f"its log is {log}"
            )
        try:
            frontend.register_namespace(address, "default", retention_seconds=RETENTION_HOURS * 3600)
            return
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}"
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                return
        time.sleep(0.1)
    raise ClusterError(
        f"the namespace 'default' was not made within {within:.0f} s ({said})", next_step=f"its log is {log}"
    )


def _config(settings: Settings, postgres_port: int, login: tuple[str, str], folder: Path) -> dict[str, Any]:
    def store(database: str, connections: int) -> dict[str, object]:
        return {
            "sql": {
                "pluginName": PLUGIN,
                "databaseName": database,
                "connectAddr": f"{ports.HOST}:{postgres_port}",
                "connectProtocol": "tcp",
                "user": login[0],
                "password": login[1],
                "maxConns": connections,
                "maxIdleConns": connections,
                "maxConnLifetime": "1h",
            }
        }

    return {
        "log": {"stdout": True, "level": "warn"},
        "persistence": {
            "defaultStore": "main",
            "visibilityStore": "visibility",
            "numHistoryShards": settings.shards,
            "datastores": {
                "main": store(MAIN, settings.max_conns),
                "visibility": store(VISIBILITY, max(1, settings.max_conns // 2)),
            },
        },
        "global": {
            "membership": {"maxJoinDuration": "30s", "broadcastAddress": ports.HOST},
            "metrics": {"prometheus": {"framework": "tally", "timerType": "histogram"}},
        },
        "services": {},
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {"active": {"enabled": True, "initialFailoverVersion": 1, "rpcName": "frontend"}},
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "dynamicConfigClient": {"filepath": str(folder / "dynamic-config.yaml"), "pollInterval": "10s"},
    }
