"""The one live figure of a notebook; each FigureWidget sends 5 MB of script to the browser, so use no second one."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import anywidget
import plotly.graph_objects as go


class CapacityFigure(go.FigureWidget):  # type: ignore[misc]
    """A FigureWidget whose current traces and layout survive a page reload.

    Plotly hands its state to the browser at construction and display only, so that a reload brings back the first
    data. This one refreshes that state whenever it is asked for it. It uses three private names of plotly 7.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        # The mode bar covers the title; responsive listens to the window, see Fit.
        self._config = {"displayModeBar": False, "showTips": False, "responsive": True}

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        """The widget's state, with the traces and the layout as they are now."""
        if key is None and "_data" in self.__dict__ and "_layout_obj" in self.__dict__:
            self._trait_values["_widget_data"] = deepcopy(self._data)
            self._trait_values["_widget_layout"] = deepcopy(self._layout_obj._props)
        return super().get_state(key=key, drop_defaults=drop_defaults)

    def follow(self, spec: dict[str, Any]) -> None:
        """Take over data, texts, shapes and notes of a spec made by the same function: one message, same zoom."""
        with self.batch_update():
            for trace, new in zip(self.data, spec["data"], strict=True):
                for key in ("x", "y", "name", "hovertemplate"):
                    if getattr(trace, key) != new[key]:
                        setattr(trace, key, new[key])
            layout = spec["layout"]
            # Replaced shapes do not reach the browser, changed ones do.
            for shape, new in zip(self.layout.shapes, layout["shapes"], strict=True):
                if (shape.x0, shape.y0) != (new["x0"], new["y0"]):
                    shape.update({key: new[key] for key in ("x0", "x1", "y0", "y1")})
            for note, new in zip(self.layout.annotations, layout["annotations"], strict=True):
                if (note.x, note.y, note.text) != (new["x"], new["y"], new["text"]):
                    note.update(new)
            self.layout.title.text = layout["title"]["text"]


class Fit(anywidget.AnyWidget):
    """An empty line as wide as its box, which makes the figure beside it fit whenever that width changes.

    A FigureWidget measures itself before the page is laid out and takes 700 pixels; a responsive one measures itself
    again when the window changes, but not when its column does: first layout, a side bar.
    """

    _esm = """
    export default { render({ el }) {
      el.style.width = "100%";
      let width = 0;
      const observer = new ResizeObserver(() => {
        if (el.clientWidth === width) return;
        width = el.clientWidth;
        requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
      });
      observer.observe(el);
      return () => observer.disconnect();
    } };
    """
