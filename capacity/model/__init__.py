"""Prediction: what a plan will get, and which limit binds first.

Names are imported when first used: most of them need pydantic, some numpy and scipy.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
