"""Dev clusters only: decides from the address alone, before anything is dialled or resolved.

Invariants: loopback by number (127.0.0.0/8, ::1) or by the one name ``localhost`` is a dev target; every other
address must be allowed by name; a Temporal Cloud address must be spelled out exactly as it is dialled.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection

from capacity import files
from capacity.cluster.target import Target
from capacity.errors import GuardRefusalError, UsageError

ALLOW_VARIABLE = "CAPACITY_ALLOW_TARGET"
MAX_STARTS_VARIABLE = "CAPACITY_MAX_STARTS"

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_CLOUD_SUFFIXES = (".tmprl.cloud", ".api.temporal.io")


def split_address(address: str, name: str = "address") -> tuple[str, int]:
    """Split ``host:port`` without resolving anything; an IPv6 host stands in brackets. Errors call it by `name`.

    Raises
    ------
    UsageError
        If the address is anything but a host and a port from 1 to 65535.

    Examples
    --------
    >>> split_address("[::1]:7233")
    ('::1', 7233)
    """
    host, colon, port_text = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    port = int(port_text) if re.fullmatch(r"[0-9]{1,5}", port_text) else 0
    if not colon or not 1 <= port <= 65535 or not (_is_ipv6(bare) if bracketed else _HOST.fullmatch(bare)):
        raise UsageError(
            f"{name} {files.shown(address, 100)} is not HOST:PORT",
            allowed="a host name or IP and a port from 1 to 65535; IPv6 in brackets",
            next_step="for example 127.0.0.1:7233 or [::1]:7233",
        )
    return bare, port


def check_target(target: Target, allowed: Collection[str] = ()) -> str:
    """Say why this target may be dialled, or refuse; dials and resolves nothing.

    Parameters
    ----------
    target : Target
        Where starts would go.
    allowed : collection of str
        ``HOST:PORT`` allowed by the user, as given to ``--allow-target``. The profile's own list
        (``target.allowed``) and the comma-separated variable ``CAPACITY_ALLOW_TARGET`` count too.

    Returns
    -------
    str
        One sentence: the address and the reason.

    Raises
    ------
    GuardRefusalError
        If the target is neither loopback nor allowed.
    UsageError
        If the target's or an allowed address is malformed.

    Examples
    --------
    >>> check_target(Target("127.0.0.1:7233"))
    '127.0.0.1:7233 is loopback: a dev target'
    """
    address = target.address
    host, _ = split_address(address)
    if _is_loopback(host):
        return f"{address} is loopback: a dev target"
    sources = {
        "name": tuple(allowed),
        "the profile": target.allowed,
        ALLOW_VARIABLE: tuple(part.strip() for part in os.environ.get(ALLOW_VARIABLE, "").split(",") if part.strip()),
    }
    cloud = _is_cloud(host)
    for source, entries in sources.items():
        for entry in entries:
            if _normal(entry, f"the address allowed by {source}") == _normal(address) and (
                entry == address or not cloud
            ):
                return f"{address} is allowed by {source}"
    kind = "a Temporal Cloud address" if cloud else "not loopback"
    raise GuardRefusalError(
        f"refused to connect to {address}: {kind}, and not allowed by name",
        allowed="loopback, or an address allowed " + ("exactly as it is spelled" if cloud else "as HOST:PORT"),
        next_step=f"if it is a dev cluster, pass --allow-target {address}, set {ALLOW_VARIABLE}, "
        "or set allow_target in the profile's [profile.NAME.capacity] table",
    )


def check_count(count: int) -> None:
    """Refuse a batch larger than ``CAPACITY_MAX_STARTS`` allows; an unset variable allows any.

    Raises
    ------
    GuardRefusalError
        If the batch is too large.
    UsageError
        If the variable is not a whole number of 0 or more.
    """
    text = _cap()
    if not text:
        return
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(
            f"{MAX_STARTS_VARIABLE} is {files.shown(text)}",
            allowed="a whole number of 0 or more, of at most 18 digits",
            next_step="correct it or unset it",
        )
    if count > int(text):
        raise GuardRefusalError(
            f"refused to launch {count} starts: more than {MAX_STARTS_VARIABLE}={text}",
            allowed=f"{int(text)} or fewer",
            next_step=f"launch fewer, or raise {MAX_STARTS_VARIABLE}",
        )


def starts_left(made: int) -> int | None:
    """Return how many starts ``CAPACITY_MAX_STARTS`` leaves after those made; None: no cap.

    Raises
    ------
    GuardRefusalError
        If it leaves none.
    """
    check_count(made + 1)
    cap = _cap()
    return int(cap) - made if cap else None


def _cap() -> str:
    return os.environ.get(MAX_STARTS_VARIABLE, "").strip()


def _normal(address: str, name: str = "address") -> tuple[str, int]:
    host, port = split_address(address, name)
    return host.lower().rstrip("."), port


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A mapped address (::ffff:127.0.0.1) is loopback for newer Pythons only; here it never is.
    return parsed == ipaddress.IPv6Address("::1") or (parsed.version == 4 and parsed.is_loopback)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_cloud(host: str) -> bool:
    return f".{host.lower().rstrip('.')}".endswith(_CLOUD_SUFFIXES)
