"""The figures of a launch and of a sweep, as the dicts that plotly draws."""

from __future__ import annotations

import re
from typing import Any

import pytest

from capacity.figures.run import run_spec, sweep_spec
from capacity.figures.style import WIDTH, card

COLUMNS = ("at", "rate", "p50", "p99", "in_flight", "limit", "lost")
LONG = "1,350 starts/s at 16 in flight, which is what no title of one line on a narrow page has room for"


def launch(title: str = "a title") -> dict[str, Any]:
    return run_spec({name: [] for name in COLUMNS}, title, "inputs")


def sweep(*p99: float, title: str = "a title", band: tuple[float, ...] = ()) -> dict[str, Any]:
    """The figure of a sweep with these p99 [ms], at 1, 2, 3 and so on in flight."""
    points = [(place, 400.0, each) for place, each in enumerate(p99, 1)]
    along = [float(place) for place, _ in enumerate(band, 1)]
    curves = dict.fromkeys(("value", "low", "high", "p99", "p99_low", "p99_high"), band) | {"parallelism": along}
    return sweep_spec({"fitted": points}, curves if band else {}, 4, title, "inputs")


@pytest.mark.parametrize("spec", [launch(), sweep(20.0)])
def test_they_are_the_card_that_every_figure_is(spec: dict[str, Any]) -> None:
    """Margins, type and place of title and legend are every figure's, and a click on the legend hides nothing."""
    common = card("", 600)
    own, text = spec["layout"], spec["layout"]["title"]["text"]
    assert {name: own[name] for name in common} | {"title": common["title"]} == common
    assert own["title"] | {"text": ""} == common["title"]
    assert text.startswith("<b>a title</b>")


@pytest.mark.parametrize("spec", [launch(LONG), sweep(20.0, title=LONG)])
def test_a_title_is_broken_where_a_narrow_page_ends(spec: dict[str, Any]) -> None:
    """No line is longer than a column of 480 pixels shows, and no word is lost."""
    (bold,) = re.findall("<b>(.*?)</b>", spec["layout"]["title"]["text"])
    lines = bold.split("<br>")
    assert max(map(len, lines)) <= WIDTH
    assert " ".join(lines) == LONG


@pytest.mark.parametrize("p99", [(22.1, 23.0, 44.0), (0.3, 0.4), (5.0,), (1.0, 30_000.0), (2.2, 4.4)])
def test_every_p99_of_a_sweep_can_be_read_off(p99: tuple[float, ...]) -> None:
    """Whatever was measured lies within the axis, and three or more ticks do."""
    axis = sweep(*p99)["layout"]["yaxis2"]
    low, high = (10**end for end in axis["range"])
    assert low <= min(p99)
    assert max(p99) <= high
    assert len([tick for tick in axis["tickvals"] if low <= tick <= high]) >= 3


def test_the_axis_holds_the_fitted_band() -> None:
    """A band that is wider than the points is not cut."""
    low, high = sweep(20.0, band=(3.0, 700.0))["layout"]["yaxis2"]["range"]
    assert 10**low <= 3.0
    assert 10**high >= 700.0
