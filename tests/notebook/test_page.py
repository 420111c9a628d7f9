"""What a page that has just loaded is told. No kernel, no browser; what the browser does with it is in `browser`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets as widgets
import pytest

import capacity
from capacity.cluster.target import Target
from capacity.notebook.figure import CapacityFigure
from capacity.notebook.launch import Launch
from capacity.notebook.launch_entry import LaunchForm
from capacity.notebook.measure_panel import Measure
from capacity.notebook.page import Page

HERE = Target("127.0.0.1:7233")
PANELS: dict[str, Callable[[], Any]] = {
    "explorer": lambda: capacity.explore(2),
    "measure": lambda: Measure("1, 2"),
    "launch": lambda: Launch(capacity.HeightRange(count=5), HERE),
    "launch with a figure": lambda: Launch(capacity.HeightRange(count=5), HERE, figure=True),
    "form": lambda: LaunchForm(HERE),
    "decide": lambda: capacity.Decide("2x", "4x", HERE, cpus=2),
}


def within(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from within(child)


@pytest.mark.parametrize("name", PANELS)
def test_a_page_that_has_loaded_is_sent_everything_once_more(
    name: str, monkeypatch: pytest.MonkeyPatch, state_folder: str
) -> None:
    """Words, boxes, buttons and what is hidden follow once it says it has drawn; the figure without its script."""
    panel = PANELS[name]()
    (page,) = (each for each in within(panel.view) if isinstance(each, Page))
    sent: dict[int, Any] = {}
    monkeypatch.setattr(widgets.Widget, "send_state", lambda each, key=None: sent.update({id(each): key}))
    page._handle_custom_msg({"kind": "drawn"}, [])
    for each in within(panel.view):
        if isinstance(each, CapacityFigure):
            assert sent[id(each)] == "spec"
        elif each is not page:
            assert sent[id(each)] is None
            assert sent[id(each.layout)] == "display"
    assert any(isinstance(each, widgets.Button) and id(each) in sent for each in within(panel.view))
    assert id(page) not in sent


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_brings_the_style_of_its_tables_once(name: str, state_folder: str) -> None:
    """One widget has the style sheet, none that is drawn anew does."""
    kinds = (each.value for each in within(PANELS[name]().view) if isinstance(each, widgets.HTML))
    assert len([text for text in kinds if "<style" in text]) == 1
