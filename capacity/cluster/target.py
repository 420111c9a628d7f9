"""Where starts go: an address, a namespace, and the secrets to reach them, which are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class TLS:
    """How to speak TLS to a target; every part is optional.

    Parameters
    ----------
    server_root_ca_cert : bytes, optional
        PEM of the authority that signed the server's certificate; None trusts the system's authorities.
    client_cert, client_private_key : bytes, optional
        PEM of the certificate and key this client shows (mTLS).
    server_name : str, optional
        The name to expect in the server's certificate, when it is not the host dialled.
    """

    server_root_ca_cert: bytes | None = field(default=None, repr=False)
    client_cert: bytes | None = field(default=None, repr=False)
    client_private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None


@dataclass(frozen=True)
class Target:
    """A Temporal frontend and the namespace to start workflows in.

    Parameters
    ----------
    address : str
        ``host:port``.
    namespace : str
        The namespace starts go to.
    tls : TLS, optional
        None speaks plain text.
    api_key : str, optional
        Sent as a bearer token; never shown.
    metadata : Mapping[str, str]
        gRPC headers sent with every call; never shown.
    allowed : tuple of str
        Addresses that the profile this target was read from allows launches at.

    Examples
    --------
    >>> Target("127.0.0.1:7233", api_key="a secret")
    Target(address='127.0.0.1:7233', namespace='default', tls=None, allowed=())
    """

    address: str
    namespace: str = "default"
    tls: TLS | None = None
    api_key: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    allowed: tuple[str, ...] = ()
