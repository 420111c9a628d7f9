"""The options by which every command that talks to a cluster is told which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Target"

Address = Annotated[
    str | None,
    typer.Option("--address", help="Frontend, HOST:PORT.", rich_help_panel=_PANEL, show_default="the running cluster"),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", help="Namespace.", rich_help_panel=_PANEL, show_default="default")
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="Profile of Temporal's configuration file.", rich_help_panel=_PANEL)
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", help="API key; better in TEMPORAL_API_KEY.", rich_help_panel=_PANEL)
]
Tls = Annotated[bool | None, typer.Option("--tls/--no-tls", help="Speak TLS, or plain text.", rich_help_panel=_PANEL)]
TlsCa = Annotated[Path | None, typer.Option("--tls-ca", help="Authority to trust, PEM.", rich_help_panel=_PANEL)]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help="Client certificate, PEM.", rich_help_panel=_PANEL)]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Client key, PEM.", rich_help_panel=_PANEL)]
TlsName = Annotated[
    str | None, typer.Option("--tls-server-name", help="Name in the server's certificate.", rich_help_panel=_PANEL)
]
AllowTarget = Annotated[
    list[str] | None,
    typer.Option("--allow-target", help="Allow a target beyond loopback, HOST:PORT.", rich_help_panel=_PANEL),
]
FleetQueue = Annotated[str, typer.Option("--fleet-queue", help="Task queue of the fleet.", rich_help_panel=_PANEL)]
FleetNamespace = Annotated[
    str | None,
    typer.Option(
        "--fleet-namespace",
        help="Of the fleet's own workflows.",
        rich_help_panel=_PANEL,
        show_default="that of the batches",
    ),
]
