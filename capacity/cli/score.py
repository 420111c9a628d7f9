"""`capacity score`: how wrong a calibration's predictions are."""

from __future__ import annotations

import json

from capacity.cli.options import CalibrationArgument, Form, Format
from capacity.cli.printing import print_columns, print_notes


def score(calibration: CalibrationArgument, form: Form = Format.TEXT) -> None:
    """Fit part of a sweep, predict the rest, and print the errors.

    The points of 'sweep --holdout' are predicted; where none were kept, every
    second parallelism. Errors are signed: +10% is predicted too high.

    Example: capacity score postgres
    """
    from capacity.model.calibration import Calibration
    from capacity.model.score import score as scored

    measured = Calibration.named(calibration)
    found = scored(measured)
    if form is Format.JSON:
        print(json.dumps(found.to_dict(), indent=2))
        return
    fitted = ", ".join(map(str, found.fitted))
    print(f"{measured.name}: fitted at {fitted} in flight, predicted at the others\n")
    print_columns(found.lines())
    print()
    print_notes([("Score", found.summary()), *(("Cannot tell", words) for words in measured.not_identified())])
