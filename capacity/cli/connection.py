"""The options by which every command that talks to a cluster is told which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capacity.cli.options import FLAG
from capacity.cli.options import TARGET as _PANEL

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
    typer.Option("--profile", metavar="NAME", help="Profile of Temporal's configuration file.", rich_help_panel=_PANEL),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="API key; better in TEMPORAL_API_KEY.", rich_help_panel=_PANEL),
]
Tls = Annotated[
    bool | None,
    typer.Option("--tls/--no-tls", metavar=FLAG, help="Speak TLS, or plain text.", rich_help_panel=_PANEL),
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
