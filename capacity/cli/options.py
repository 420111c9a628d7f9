"""Options that several commands have: what means the same has one name, one metavar and one help text.

What completes a value runs at each press of the tab key, so that it imports nothing heavy.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capacity.errors import UsageError
from capacity.model import shipped

if TYPE_CHECKING:
    from capacity.rules.pool import Sized

CLUSTER, TARGET = "Cluster", "Target"
"""Panels of the help."""
FLAG = ""
"""Metavar of an option that takes no value."""
HOW = "How to print it."
MOST = 10**10
"""Largest whole number: as many items as a journal holds."""
WIDTH = 80
"""Columns that every command's text fits."""


class Format(StrEnum):
    """How a command prints."""

    TEXT = "text"
    JSON = "json"


class Store(StrEnum):
    """What keeps the data of a cluster."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


def whole(typed: str | int) -> int:
    """A whole number as typed; typer's own message does not show the value it refuses."""
    text = str(typed).strip().replace("_", "")  # typer passes the default through here too
    if not re.fullmatch(r"[+-]?[0-9]{1,11}", text, re.ASCII) or abs(int(text)) > MOST:
        raise typer.BadParameter(f"{str(typed)[:40]!r} is not a whole number up to {MOST:,}")
    return int(text)


def quantity(typed: str | float) -> float:
    """A finite number as typed; typer's own message does not show the value it refuses."""
    try:
        value = float(str(typed).strip().replace("_", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{str(typed)[:40]!r} is not a number")
    return value


def whole_numbers(
    option: str, text: str, *, lowest: int = 0, highest: int = 999_999_999, next_step: str | None = None
) -> list[int]:
    """Whole numbers that a list says, separated by commas.

    >>> whole_numbers("--cpus", "8, 16")
    [8, 16]
    """
    words = [word.strip() for word in text.split(",")]
    allowed = f"whole numbers from {lowest} to {highest}, separated by commas"
    if words == [""]:
        raise UsageError(f"{option} is empty", allowed=allowed, next_step=next_step)
    for word in words:
        if not re.fullmatch(r"[0-9]{1,9}", word, re.ASCII) or not lowest <= int(word) <= highest:
            raise UsageError(f"{option} holds {word[:40]!r}", allowed=allowed, next_step=next_step)
    return [int(word) for word in words]


def in_flight(text: str) -> int:
    """Starts in flight that ``128`` says, or ``4x`` on this machine's CPUs; a number above the rules' is refused.

    >>> in_flight("128")
    128
    """
    return in_flight_on(text).value


def in_flight_on(text: str, cpus: int | None = None) -> Sized:
    """The same on the CPUs of any machine, by default those usable here, and why it is as many.

    >>> print(in_flight_on("4x", 16))
    64 (16 CPUs x 4 = 64)
    """
    from capacity.rules import available_cpus
    from capacity.rules.flight import flight_of
    from capacity.rules.pool import DEFAULT_RULES, positive

    if cpus is not None and not text.strip().lower().endswith("x"):
        refuse({"--cpus": cpus}, f"does not go with --parallelism {text}", "it is for a multiplier, like 4x")
    flight = flight_of(text, "--parallelism")
    if flight.number is not None and flight.number > DEFAULT_RULES.maximum:
        raise UsageError(f"--parallelism is {flight.number}", allowed=f"1 to {DEFAULT_RULES.maximum}")
    return flight.on(available_cpus().count if cpus is None else positive("--cpus", cpus))


def refuse(options: Mapping[str, object], why: str, next_step: str) -> None:
    """Refuse the first of these options that was given: one that would do nothing is a mistake."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {why}", next_step=next_step)


def check_once(option: str, key: str, before: Mapping[str, object]) -> None:
    """Refuse a key that is given twice: only one of its values would count."""
    if key in before:
        raise UsageError(f"{option} gives {key[:60]} twice", next_step="pass it once")


def check_out(option: str, path: Path | None, *own: Path | None) -> None:
    """Refuse a file that cannot be written, or that is one of the run's own, before anything is started."""
    if path is None:
        return
    real = os.path.realpath(path)
    written = path if path.exists() and not path.is_file() else os.path.dirname(real)  # as `files.write_whole` does
    if path.is_dir() or not os.access(written, os.W_OK):
        raise UsageError(f"{option} {path} cannot be written", next_step="pass a file in a folder you may write to")
    if any(each is not None and os.path.realpath(each) == real for each in own):
        raise UsageError(f"{option} {path} would replace a file of the run's own", next_step="pass another file")


def _clusters(incomplete: str) -> list[str]:
    return [name for name in shipped.names("clusters") if name.startswith(incomplete)]


def _calibrations(incomplete: str) -> list[str]:
    return [name for name in shipped.names("calibrations") if name.startswith(incomplete)]


def _runs(incomplete: str) -> list[str]:
    """Complete ``last`` and run ids, newest first, by the names of the files alone."""
    from capacity.cluster import state

    files = (state.folder() / "runs").glob("[!.]*.*")
    stems = {file.stem for file in files if file.suffix in (".journal", ".json")}
    return [name for name in ("last", *sorted(stems, reverse=True)) if name.startswith(incomplete)]


def multipliers(incomplete: str) -> list[str]:
    """Complete starts in flight where they must be a number."""
    return [word for word in ("2x", "4x", "8x") if word.startswith(incomplete)]


def parallelisms(incomplete: str) -> list[str]:
    """Complete starts in flight."""
    return [*(["auto"] if "auto".startswith(incomplete) else []), *multipliers(incomplete)]


_CLUSTER_HELP = f"The cluster: a TOML file, or one that is shipped: {', '.join(shipped.names('clusters'))}."
_CALIBRATION_HELP = (
    "What a start costs: a file of 'capacity sweep', or one that is shipped: "
    f"{', '.join(shipped.names('calibrations'))}."
)
_RUN_HELP = "Run id, its beginning, 'last', or a path."

Form = Annotated[Format, typer.Option("--format", help=HOW)]
ClusterName = Annotated[
    str | None, typer.Option("--cluster", metavar="NAME|FILE", help=_CLUSTER_HELP, autocompletion=_clusters)
]
ClusterArgument = Annotated[str, typer.Argument(metavar="CLUSTER", help=_CLUSTER_HELP, autocompletion=_clusters)]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the cluster's description: one of its keys or of dynamic configuration; repeatable.",
    ),
]
CalibrationName = Annotated[
    str, typer.Option("--calibration", metavar="NAME|FILE", help=_CALIBRATION_HELP, autocompletion=_calibrations)
]
CalibrationOfCluster = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="NAME|FILE",
        help=_CALIBRATION_HELP,
        autocompletion=_calibrations,
        show_default="what the cluster names",
    ),
]
CalibrationArgument = Annotated[
    str, typer.Argument(metavar="CALIBRATION", help=_CALIBRATION_HELP, autocompletion=_calibrations)
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP, autocompletion=_runs)]
OptionalRun = Annotated[
    str | None, typer.Argument(metavar="RUN", help=_RUN_HELP, autocompletion=_runs, show_default=False)
]
BaselineRun = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="RUN2",
        help="An earlier run: for memory overhead, and to show beside.",
        autocompletion=_runs,
        show_default=False,
    ),
]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus",
        metavar="N",
        parser=whole,
        help="CPUs of the scheduler's machine.",
        show_default="those usable here",
    ),
]
OptionalParallelism = Annotated[
    str | None,
    typer.Option(
        "--parallelism",
        metavar="P",
        help="Starts in flight: 128, or 4x the CPUs of this machine.",
        autocompletion=multipliers,
        show_default="4x",
    ),
]
AnyParallelism = Annotated[
    str,
    typer.Option("--parallelism", metavar="P", help="Starts in flight: 128, 4x or auto.", autocompletion=parallelisms),
]
Seconds = Annotated[float, typer.Option("--seconds", metavar="SECONDS", help="Measured span of each run.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the random order.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON here too.", show_default=False)]
_STORE_HELP = "An embedded server, or PostgreSQL and a server."
UpStore = Annotated[Store, typer.Option("--store", help=_STORE_HELP, rich_help_panel=CLUSTER)]
OwnStore = Annotated[
    Store | None, typer.Option("--store", help=_STORE_HELP, rich_help_panel=CLUSTER, show_default="sqlite")
]
Shards = Annotated[
    int | None,
    typer.Option("--shards", metavar="N", help="postgres: history shards.", rich_help_panel=CLUSTER, show_default="64"),
]
MaxConns = Annotated[
    int | None,
    typer.Option(
        "--max-conns",
        metavar="N",
        help="postgres: connections per service.",
        rich_help_panel=CLUSTER,
        show_default="40",
    ),
]
ClusterCores = Annotated[
    int | None,
    typer.Option(
        "--cluster-cores",
        metavar="N",
        help="CPUs of that cluster, if it is elsewhere.",
        rich_help_panel=TARGET,
        show_default=False,
    ),
]
