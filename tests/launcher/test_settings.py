"""From what the user asks for to the controller that does it."""

from __future__ import annotations

import pytest

from capacity.errors import UsageError
from capacity.launcher.controller import Fixed, OpenLoop
from capacity.launcher.knee import Auto
from capacity.launcher.settings import controller_for, settled


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_MAX_PARALLELISM", raising=False)


@pytest.mark.parametrize(("wanted", "limit"), [(1, 1), ("128", 128), (512, 512), ("1024", 512)])
def test_a_number_is_so_many_in_flight(wanted: int | str, limit: int) -> None:
    """A number is taken as it is, cut to the original's 512."""
    controller, _ = controller_for(wanted)
    assert isinstance(controller, Fixed)
    assert controller.limit == limit


def test_a_cut_is_said() -> None:
    """That a number was cut stands in the reason the summary shows."""
    assert "cut to the maximum of 512" in controller_for(1024)[1]


def test_a_multiplier_is_the_original_rule() -> None:
    """4x is this machine's CPUs times four."""
    from capacity.rules import available_cpus, parallelism

    controller, _ = controller_for("4x")
    assert isinstance(controller, Fixed)
    assert controller.limit == parallelism(available_cpus().count).value


def test_the_rollback_variable_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEDULER_MAX_PARALLELISM holds where nothing is asked for, and over the CPU rule; an explicit number wins."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "7")
    limits = [controller_for(wanted)[0].maximum for wanted in (None, "4x", "9")]
    assert limits == [7, 7, 9]


@pytest.mark.parametrize(
    ("wanted", "rate", "most"),
    [(None, None, 512), ("4x", None, 512), (700, None, 512), ("auto", None, 64), (None, 50.0, 9)],
)
def test_a_settled_controller_is_the_same_elsewhere(
    monkeypatch: pytest.MonkeyPatch, wanted: int | str | None, rate: float | None, most: int
) -> None:
    """What is ordered from a fleet is settled here: whoever shares it out has other CPUs and another environment."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "24")
    here, _ = controller_for(wanted, rate=rate, max_in_flight=most)
    order = settled(here)
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "7")
    there, _ = controller_for(order["parallelism"], rate=order["rate"], max_in_flight=order["max_in_flight"])
    assert there == here


def test_auto_is_the_default() -> None:
    """Nothing asked for means auto, bounded by max-in-flight."""
    controller, _ = controller_for(max_in_flight=33)
    assert isinstance(controller, Auto)
    assert controller.maximum == 33


def test_a_rate_is_an_open_loop() -> None:
    """A rate is a schedule of starts."""
    controller, _ = controller_for(rate=300)
    assert isinstance(controller, OpenLoop)
    assert controller.rate == 300


@pytest.mark.parametrize("wanted", ["", " ", "0", "-4", "x", "4.5x", "0x", "4xx", "auto!", "1e3", "١"])
def test_anything_else_is_refused_with_its_value(wanted: str) -> None:
    """What is neither a number, a multiplier nor auto is refused by value; blank counts as not given."""
    if not wanted.strip():
        assert isinstance(controller_for(wanted)[0], Auto)
        return
    with pytest.raises(UsageError, match="parallelism is"):
        controller_for(wanted)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    """A rate must be a positive, finite number of starts per second."""
    with pytest.raises(UsageError, match="rate is"):
        controller_for(rate=rate)
