"""The options by which every command that talks to a cluster is told which."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from capacity.cli.options import FLAG
from capacity.cli.options import TARGET as _PANEL

if TYPE_CHECKING:
    from capacity.cluster.target import Target

_ADDRESS_HELP = "Frontend of the cluster."
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help=_ADDRESS_HELP,
        rich_help_panel=_PANEL,
        show_default="the running cluster",
    ),
]
ExistingAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help=_ADDRESS_HELP,
        rich_help_panel=_PANEL,
        show_default="a cluster of its own",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Namespace.", rich_help_panel=_PANEL, show_default="default"),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Profile of Temporal's configuration file.",
        rich_help_panel=_PANEL,
        show_default="TEMPORAL_PROFILE, else default",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="API key; better in TEMPORAL_API_KEY.", rich_help_panel=_PANEL),
]
Tls = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        metavar=FLAG,
        help="Speak TLS, or plain text.",
        rich_help_panel=_PANEL,
        show_default="off, unless a key, certificate or profile asks for it",
    ),
]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", metavar="FILE", help="Authority to trust, PEM.", rich_help_panel=_PANEL)
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Client certificate, PEM.", rich_help_panel=_PANEL)
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", help="Client key, PEM.", rich_help_panel=_PANEL)
]
TlsName = Annotated[
    str | None,
    typer.Option("--tls-server-name", metavar="NAME", help="Name in the server's certificate.", rich_help_panel=_PANEL),
]
AllowTarget = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-target",
        metavar="HOST:PORT",
        help="Allow a target beyond loopback; repeatable.",
        rich_help_panel=_PANEL,
    ),
]
FleetQueue = Annotated[
    str, typer.Option("--fleet-queue", metavar="NAME", help="Task queue of the fleet.", rich_help_panel=_PANEL)
]
FleetNamespace = Annotated[
    str | None,
    typer.Option(
        "--fleet-namespace",
        metavar="NAME",
        help="Namespace of the fleet's own workflows.",
        rich_help_panel=_PANEL,
        show_default="that of the batches",
    ),
]


@dataclass(frozen=True)
class Connection:
    """What the options say of a connection beside address and namespace; a command takes it under `grouped`."""

    profile: Profile = None
    api_key: ApiKey = field(default=None, repr=False)
    tls: Tls = None
    tls_ca: TlsCa = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    tls_server_name: TlsName = None

    def target(self, address: str | None, namespace: str | None) -> Target:
        """Return the cluster that these options and Temporal's environment configuration name."""
        from capacity.cluster.profile import load_target

        return load_target(address, namespace, **vars(self))


NO_OPTIONS = Connection()


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of those of its parameters that are groups of options, in their place.

    A group is a dataclass whose fields are options, or groups; `Connection` is one.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    groups = {one.name: one.annotation for one in own if is_dataclass(one.annotation)}
    parameters = [each for one in own for each in _options(one)]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        command(**{name: _taken(group, given) for name, group in groups.items()}, **given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _options(one: inspect.Parameter) -> list[inspect.Parameter]:
    """Return the options of a parameter: itself, or those of the group that it is."""
    if not is_dataclass(one.annotation):
        return [one]
    hints, kind = get_type_hints(one.annotation, include_extras=True), inspect.Parameter.POSITIONAL_OR_KEYWORD
    fields = [inspect.Parameter(name, kind, default=None, annotation=hint) for name, hint in hints.items()]
    return [each for field in fields for each in _options(field)]


def _taken(group: Any, given: dict[str, Any]) -> Any:
    """Return a group filled with its options, which are taken out of what is given."""
    hints = get_type_hints(group, include_extras=True)
    return group(**{n: _taken(hint, given) if is_dataclass(hint) else given.pop(n) for n, hint in hints.items()})
