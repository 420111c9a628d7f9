"""plotly's FigureWidget without two seconds that nothing here needs.

plotly imports nbformat, that jsonschema, and that the checker of international addresses where it is installed, whose
grammar takes two seconds to build: half of the wait for the first explorer. jsonschema does without it when it cannot
be imported, so it cannot be while plotly comes in. Whoever has loaded it before keeps it.
"""

from __future__ import annotations

import sys
from typing import Any, Final

_CHECKER: Final = "rfc3987_syntax"


def figure_widget() -> Any:
    """Import and return the class."""
    absent = _CHECKER not in sys.modules
    if absent:
        sys.modules[_CHECKER] = None  # type: ignore[assignment]
    try:
        from plotly.graph_objects import FigureWidget
    finally:
        if absent:
            del sys.modules[_CHECKER]
    return FigureWidget
