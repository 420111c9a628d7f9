"""Where to launch, read from Temporal's own environment configuration (variables and TOML profiles)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from temporalio.envconfig import ClientConfigProfile, ClientConfigTLS

from capacity import files
from capacity.cluster import state
from capacity.cluster.guard import split_address
from capacity.cluster.target import TLS, Target
from capacity.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:7233"


def load_target(
    address: str | None = None,
    namespace: str | None = None,
    *,
    profile: str | None = None,
    api_key: str | None = None,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_server_name: str | None = None,
    tls: bool | None = None,
) -> Target:
    """Find the target; dials nothing.

    Each part comes from the first that names it: the argument, a ``TEMPORAL_*`` variable, the profile in Temporal's
    configuration file; the address then from a cluster that ``capacity cluster up`` started, else 127.0.0.1:7233.

    Parameters
    ----------
    address, namespace : str, optional
        ``host:port`` and the namespace.
    profile : str, optional
        Profile in the configuration file; None is ``TEMPORAL_PROFILE``, else ``default``.
    api_key : str, optional
        Sent as a bearer token. Turns TLS on unless `tls` is False.
    tls_ca, tls_cert, tls_key : Path, optional
        PEM files. Any of them turns TLS on.
    tls_server_name : str, optional
        Name to expect in the server's certificate.
    tls : bool, optional
        Forces TLS on or off.

    Raises
    ------
    UsageError
        If a file, a profile, a variable or the address is missing or malformed. No message shows a secret.

    Examples
    --------
    >>> load_target("127.0.0.1:7233", "default").address
    '127.0.0.1:7233'
    """
    tables = _profile_tables()
    name = profile or os.environ.get("TEMPORAL_PROFILE") or "default"
    if name not in tables and name != "default":
        raise UsageError(
            f"profile {files.shown(name)} is not in {_config_file()}",
            allowed=", ".join(sorted(tables))[:200] or "none is defined",
            next_step="add it with 'temporal config set --profile', or name another with --profile",
        )
    _check_boolean("TEMPORAL_TLS")
    _check_text()
    try:
        # Without a name the SDK takes TEMPORAL_PROFILE's table: where there is none of the name no table is read.
        configured = ClientConfigProfile.load(name if name in tables else None, disable_file=name not in tables)
    except Exception:  # its text quotes the offending line of the file, which may be a secret
        raise UsageError(
            f"a profile in {_config_file()} or a TEMPORAL_* variable has a value of the wrong kind",
            allowed="text for address, namespace, api_key; tables for tls and grpc_meta",
            next_step=f"check it with 'temporal config get --profile {name[:60]}'",
        ) from None
    chosen = address or configured.address or state.running_address() or DEFAULT_ADDRESS
    by_profile = "TEMPORAL_ADDRESS" if os.environ.get("TEMPORAL_ADDRESS") else f"the address of profile {name[:60]}"
    split_address(chosen, by_profile if not address and configured.address else "address")
    key = api_key or configured.api_key
    return Target(
        address=chosen,
        namespace=namespace or configured.namespace or "default",
        tls=_tls(configured.tls, key is not None, tls, tls_ca, tls_cert, tls_key, tls_server_name),
        api_key=key,
        metadata=dict(configured.grpc_meta),
        allowed=_allowed(name, tables.get(name, {})),
    )


def _tls(
    configured: ClientConfigTLS | None,
    has_key: bool,
    wanted: bool | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    server_name: str | None,
) -> TLS | None:
    given = any(part is not None for part in (ca, cert, key, server_name))
    if wanted is False and given:
        raise UsageError("TLS is off but a certificate, key or server name is given", next_step="pass one or the other")
    by_profile = configured is not None and configured.disabled is not True
    by_default = has_key and not (configured is not None and configured.disabled is True)
    if not (by_profile or by_default or given if wanted is None else wanted):
        return None
    source = configured or ClientConfigTLS()
    result = TLS(
        server_root_ca_cert=_read("CA certificate", ca or source.server_root_ca_cert),
        client_cert=_read("client certificate", cert or source.client_cert),
        client_private_key=_read("client key", key or source.client_private_key),
        server_name=server_name or source.server_name,
    )
    if (result.client_cert is None) != (result.client_private_key is None):
        missing = "key" if result.client_private_key is None else "certificate"
        raise UsageError(
            f"the TLS client {missing} is missing",
            allowed="a certificate and its key together, or neither",
            next_step="pass both --tls-cert and --tls-key, or set both in the profile",
        )
    return result


def _read(what: str, source: Path | str | bytes | None) -> bytes | None:
    if not isinstance(source, Path):
        return source.encode() if isinstance(source, str) else source
    try:
        return files.bytes_of(source)
    except (OSError, files.UnreadableError) as error:
        raise UsageError(f"TLS {what} {source}: {files.reason(error)}", next_step="name a readable PEM file") from error


def _config_file() -> Path:
    named = os.environ.get("TEMPORAL_CONFIG_FILE")
    if named:
        return Path(named)
    if os.uname().sysname == "Darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "temporalio" / "temporal.toml"


def _profile_tables() -> Mapping[str, Mapping[str, Any]]:
    path = _config_file()
    try:
        tables = files.toml_file(path).get("profile", {})
    except FileNotFoundError:
        if "TEMPORAL_CONFIG_FILE" not in os.environ or not os.environ["TEMPORAL_CONFIG_FILE"]:
            return {}
        raise UsageError(f"TEMPORAL_CONFIG_FILE names {path}, which does not exist", next_step="unset it") from None
    except (OSError, files.UnreadableError) as error:
        raise UsageError(f"cannot read {path}: {files.reason(error)}", next_step="correct the file") from error
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f"profile in {path} holds {files.shown(tables, 40)}", allowed="tables: [profile.default]")
    return tables


def _allowed(name: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """The profile's ``[profile.NAME.capacity] allow_target``, which Temporal's own tools ignore."""
    own = table.get("capacity", {})
    value = own.get("allow_target", []) if isinstance(own, dict) else None
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise UsageError(
            f"profile {name!r}: capacity.allow_target is of the wrong kind",
            allowed="HOST:PORT or a list of them",
            next_step='for example allow_target = "temporal.dev:7233"',
        )
    return tuple(entries)


def _check_text() -> None:
    """Refuse variables that are no text: the SDK's reader, in Rust, reads all there are and panics at the first."""
    for variable, text in os.environ.items():
        try:
            f"{variable}{text}".encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the variable {variable[:60]!a} is not UTF-8 text", next_step="correct it or unset it"
            ) from None


def _check_boolean(variable: str) -> None:
    text = os.environ.get(variable, "")
    if text and text.lower() not in ("true", "false", "1", "0"):
        raise UsageError(
            f"{variable} is {files.shown(text)}", allowed="true or false", next_step="correct it or unset it"
        )
