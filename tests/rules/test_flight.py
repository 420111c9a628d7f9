"""Starts in flight as a person writes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from capacity.cli.options import in_flight
from capacity.cli.plan_fleet import _flight
from capacity.errors import UsageError
from capacity.experiment.setting import setting_of
from capacity.launcher.settings import controller_for
from capacity.rules import available_cpus
from capacity.rules.flight import flight_of, is_auto

READERS: dict[str, Callable[[str], int | None]] = {
    "launch": lambda text: controller_for(text)[0].maximum,
    "compare": lambda text: setting_of(text).parallelism,
    "rollback": lambda text: flight_of(text, "--to").on(available_cpus().count).value,
    "what-if, alerts, levers": in_flight,
}


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_MAX_PARALLELISM", raising=False)


@pytest.mark.parametrize("text", ["1", "128", " 128 ", "0128", "512", "4x", " 4X ", "04x", "300x"])
def test_every_command_reads_it_alike(text: str) -> None:
    """What one command takes for so many in flight, 512 at most, is as many for every other."""
    assert len({reader(text) for reader in READERS.values()}) == 1


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text", ["+8", "-8", "0", "0x", "4 x", "x4", "1.5x", "1e2", "1_000", "8\uff18", "4xx", "9" * 10]
)
def test_every_command_refuses_it_alike(reader: str, text: str) -> None:
    """What is neither a number nor a multiplier from 1 on is refused everywhere, as it was typed."""
    with pytest.raises(UsageError) as refused:
        READERS[reader](text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["auto", "AUTO", " Auto "])
def test_auto_is_auto_however_it_is_written(text: str) -> None:
    """Capitals and spaces are no other word: where auto may be, it is, and elsewhere it is refused."""
    assert is_auto(text)
    assert controller_for(text)[1].startswith("auto")
    assert setting_of(text).is_auto
    assert _flight(text) is None
    with pytest.raises(UsageError, match="--parallelism is"):
        in_flight(text)


def test_nothing_is_predicted_for_more_than_a_launch_has_in_flight() -> None:
    """A launch cuts 600 to 512 and says so; a prediction, an alert and a load for levers refuse it."""
    assert "cut to the maximum of 512" in controller_for("600")[1]
    with pytest.raises(UsageError, match="--parallelism is 600; allowed: 1 to 512"):
        in_flight("600")
