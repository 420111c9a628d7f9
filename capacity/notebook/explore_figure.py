"""What the explorer's figure shows of a scene, and the intervals that come a moment later."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from capacity.figures import Across, Curves, PredictionView
from capacity.model.prediction import Prediction, predict
from capacity.model.words import many, span
from capacity.notebook.explore_ceilings import stations_of
from capacity.notebook.explore_view import GRID, Choice, Scene
from capacity.notebook.explore_words import finding

_DRAWN_UP_TO: Final = 4.0
"""Ceilings above so many times the highest throughput are named, not drawn: they would flatten the curve."""


def figure_view(found: Scene, band: Prediction | None) -> PredictionView:
    """What the figure shows; `band` holds the intervals once they are there."""
    prediction, choice = found.prediction, found.choice
    curves = Curves(
        at=tuple(prediction.parallelism.tolist()),
        throughput=tuple(prediction.throughput.value.tolist()),
        p99=tuple(prediction.p99.value.tolist()),
    )
    if band is not None:
        curves = replace(
            curves,
            band_at=tuple(band.parallelism.tolist()),
            throughput_low=tuple(band.throughput.low.tolist()),
            throughput_high=tuple(band.throughput.high.tolist()),
            p99_low=tuple(band.p99.low.tolist()),
            p99_high=tuple(band.p99.high.tolist()),
        )
    measured = choice.calibration.measurements
    cpus = measured.conditions.cluster_cpus
    rate, p99 = found.at(found.flight)
    return PredictionView(
        finding=finding(found),
        inputs=f"{html.escape(choice.cluster.name)}: p99 {span(p99)}, {many(choice.plan.batch, 'start')}"
        f"{', all in flight at once,' if choice.plan.batch < found.flight else ''} in {span(found.duration)}",
        curves=curves,
        ceilings=drawn(found),
        knee=(found.knee, found.at(found.knee)[0]),
        knee_beyond=found.knee_beyond,
        plan=(found.flight, rate, p99),
        measured=tuple((p.parallelism, p.throughput, p.p99) for p in measured.points if p.flag is None),
        measured_name=f"measured on {many(cpus, 'CPU')}",
        target=choice.p99,
    )


DRAWS: Final = 60
"""Parameter vectors behind a band: as many as a person who waits a moment can have."""


def banded(choice: Choice, grid: Sequence[int] = GRID) -> Prediction:
    """The prediction with its 90 % intervals, in some fifty milliseconds."""
    return predict(
        choice.calibration,
        grid,
        cluster=choice.cluster,
        structure=stations_of(choice.cluster),
        batch=choice.plan.batch,
        draws=DRAWS,
    )


def drawn(found: Scene) -> tuple[Across, ...]:
    """The ceilings that the figure draws: the lowest, and those not far above the curve."""
    most = float(found.prediction.throughput.value.max())
    return tuple(c for i, c in enumerate(found.ceilings) if i == 0 or c.rate <= _DRAWN_UP_TO * most)
