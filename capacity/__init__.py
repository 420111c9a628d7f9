"""Plan and prove the capacity of a Temporal batch scheduler.

Names are imported when first used: Temporal's workflow sandbox re-imports this package, and numpy or
ipywidgets imported there would break it.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
