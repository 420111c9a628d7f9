"""Results as plotly figures: the title states the finding, the subtitle the inputs. No arithmetic, no widgets.

A figure is first a plain dict in plotly's own schema: made in under a millisecond, where building the same through
plotly's checked objects takes ninety. The live figure of a notebook draws that dict.
"""

from __future__ import annotations

from capacity.figures.prediction import Across, Curves, PredictionView, prediction_figure, prediction_spec

__all__ = ["Across", "Curves", "PredictionView", "prediction_figure", "prediction_spec"]
