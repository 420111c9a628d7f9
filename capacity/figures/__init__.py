"""Results as plotly figures: the title states the finding, the subtitle the inputs. No arithmetic, no widgets.

A figure is first a plain dict in plotly's own schema: made in under a millisecond, where building the same through
plotly's checked objects takes ninety. A widget that follows a slider takes what changed from the dict.
"""

from __future__ import annotations

from capacity.figures.prediction import Across, Curves, PredictionView, prediction_figure, prediction_spec

__all__ = ["Across", "Curves", "PredictionView", "prediction_figure", "prediction_spec"]
