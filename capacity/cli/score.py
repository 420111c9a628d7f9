"""`capacity score`: how wrong a calibration's predictions are."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from capacity.cli.plan import print_columns, print_notes
from capacity.model import shipped


class Format(StrEnum):
    """Forms a score can be printed in."""

    TEXT = "text"
    JSON = "json"


def score(
    calibration: Annotated[
        str,
        typer.Argument(
            metavar="CALIBRATION",
            help=f"A file of 'capacity sweep', or one that is shipped: {', '.join(shipped.names('calibrations'))}.",
        ),
    ],
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TEXT,
) -> None:
    """Fit part of a sweep, predict the other points, and print the errors.

    The points of 'sweep --holdout' are predicted; where none were kept, every
    second parallelism. Errors are signed: +10% is predicted too high.
    """
    from capacity.model.calibration import Calibration
    from capacity.model.score import score as scored

    measured = Calibration.named(calibration)
    found = scored(measured)
    if format is Format.JSON:
        print(json.dumps(found.to_dict(), indent=2))
        return
    fitted = ", ".join(map(str, found.fitted))
    print(f"{measured.name}: fitted at {fitted} in flight, predicted at the others\n")
    print_columns(found.lines())
    print()
    print_notes([("Score", found.summary()), *(("Cannot tell", words) for words in measured.not_identified())])
