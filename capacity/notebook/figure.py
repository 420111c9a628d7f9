"""The one live figure of a notebook; each FigureWidget sends 5 MB of script to the browser, so use no second one."""

from __future__ import annotations

import threading
from copy import deepcopy
from typing import Any

from capacity.notebook.quick import figure_widget


class CapacityFigure(figure_widget()):  # type: ignore[misc]
    """A FigureWidget whose current traces and layout survive a page reload.

    Plotly hands its state to the browser at construction and display only, so that a reload brings back the first
    data. This one refreshes that state whenever it is asked for it. It uses private names of plotly 7, which is why
    no other one is allowed.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.__dict__["_axes"] = _axes(spec)  # plotly takes no attribute that it does not know
        self.__dict__["_telling"] = threading.Lock()
        # The mode bar covers the title; responsive listens to the window, see page.Page.
        self._config = {"displayModeBar": False, "showTips": False, "responsive": True}

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        """The widget's state, with the traces and the layout as they are now."""
        if key is None and "_data" in self.__dict__ and "_layout_obj" in self.__dict__:
            self._trait_values["_widget_data"] = deepcopy(self._data)
            self._trait_values["_widget_layout"] = deepcopy(self._layout_obj._props)
        return super().get_state(key=key, drop_defaults=drop_defaults)

    def follow(self, spec: dict[str, Any]) -> None:
        """Take over data, texts, shapes and notes of a spec made by the same function: one message, same zoom.

        Past plotly's checked objects, which would take most of the time of a key press; `data` and `layout` read what
        is written here.
        """
        changed = [i for i, (old, new) in enumerate(zip(self._data, spec["data"], strict=True)) if _differs(old, new)]
        for i in changed:
            self._data[i].update({key: spec["data"][i].get(key) for key in _OF_TRACE})
        styles = {key: [spec["data"][i].get(key) for i in changed] for key in _OF_TRACE}
        moved: dict[str, Any] = {}
        shown, layout = self._layout_obj._props, spec["layout"]
        for name in ("shapes", "annotations"):
            for i, (old, new) in enumerate(zip(shown.get(name, ()), layout.get(name, ()), strict=True)):
                # Replaced ones do not reach the browser, changed ones do.
                moved |= {f"{name}[{i}].{key}": value for key, value in new.items() if old.get(key) != value}
                old.update(new)
        for name, axis in _axes(spec).items():  # against the last spec: a zoom of the person's own stays
            was = self._axes[name]
            moved |= {f"{name}.{key}": value for key, value in axis.items() if was.get(key) != value}
            shown[name].update({key: value for key, value in axis.items() if was.get(key) != value})
        self.__dict__["_axes"] = _axes(spec)
        if shown["title"]["text"] != layout["title"]["text"]:
            moved["title.text"] = shown["title"]["text"] = layout["title"]["text"]
        if changed or moved:
            self._tell(styles if changed else {}, moved, changed or list(range(len(self._data))))

    def resend(self) -> None:
        """Send everything that may have changed, to a page that has just loaded."""
        shown = self._layout_obj._props
        moved: dict[str, Any] = {"title.text": shown["title"]["text"]}
        for name in ("shapes", "annotations"):
            moved |= {f"{name}[{i}].{key}": each[key] for i, each in enumerate(shown.get(name, ())) for key in each}
        for name in self._axes:
            moved |= {f"{name}.{key}": shown[name][key] for key in _OF_AXIS if shown[name].get(key) is not None}
        traces = list(range(len(self._data)))
        self._tell({key: [self._data[i].get(key) for i in traces] for key in _OF_TRACE}, moved, traces)

    def _tell(self, styles: dict[str, Any], moved: dict[str, Any], traces: list[int]) -> None:
        """Do what plotly's `_send_update_msg` does, in one message in place of its four."""
        with self._telling, self.hold_sync():
            self._last_trace_edit_id += 1
            self._last_layout_edit_id += 1
            self._trace_edit_in_process = self._layout_edit_in_process = True
            self._py2js_update = {
                "style_data": styles,
                "layout_data": moved,
                "style_traces": traces,
                "trace_edit_id": self._last_trace_edit_id,
                "layout_edit_id": self._last_layout_edit_id,
                "source_view_id": None,
            }
        self._trait_values["_py2js_update"] = None  # done with; a reloaded page is sent the state, not the way to it


_OF_TRACE = ("x", "y", "name")
_OF_AXIS = ("tickvals", "ticktext", "range")


def _axes(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What may change of each axis."""
    layout = spec["layout"]
    return {name: {key: layout[name].get(key) for key in _OF_AXIS} for name in layout if "axis" in name}


def _differs(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return any(not _same(old.get(key), new.get(key)) for key in _OF_TRACE)


def _same(old: Any, new: Any) -> bool:
    if new is None or isinstance(new, str):
        return bool(old == new)
    return old is not None and len(old) == len(new) and list(old) == list(new)
