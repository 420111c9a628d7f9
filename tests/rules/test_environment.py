"""SCHEDULER_MAX_PARALLELISM and what is mistaken for it."""

from __future__ import annotations

import pytest

from capacity.errors import UsageError
from capacity.rules import environment_override, pool_plan


def test_the_documented_variable_is_honoured() -> None:
    """SCHEDULER_MAX_PARALLELISM=64, the documented rollback, sets the parallelism and the reason names it."""
    plan = pool_plan(64, environment={"SCHEDULER_MAX_PARALLELISM": "64"})
    assert str(plan.parallelism) == "64 (SCHEDULER_MAX_PARALLELISM 64)"


def test_the_variable_is_read_at_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable set after the import counts, and so does taking it back."""
    monkeypatch.setenv("SCHEDULER_MAX_PARALLELISM", "7")
    during = pool_plan(64).parallelism.value
    monkeypatch.delenv("SCHEDULER_MAX_PARALLELISM")
    assert (during, pool_plan(64).parallelism.value) == (7, 256)


@pytest.mark.parametrize("text", ["abc", "-1", "64.5", "6_4", "1e3", "٤", "64 workers", "99999999999"])
def test_an_unusable_value_is_refused_with_the_value(text: str) -> None:
    """Anything but a whole number is refused, and the message shows what was found."""
    with pytest.raises(UsageError, match="SCHEDULER_MAX_PARALLELISM is ") as refused:
        environment_override({"SCHEDULER_MAX_PARALLELISM": text})
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(("text", "expected"), [("", None), ("  ", None), ("0", 0), (" 64 ", 64), ("+64", 64)])
def test_empty_is_unset_and_blanks_do_not_matter(text: str, expected: int | None) -> None:
    """An empty variable is none, and 0 is kept as "no override"."""
    assert environment_override({"SCHEDULER_MAX_PARALLELISM": text}).value == expected


@pytest.mark.parametrize(
    "name",
    [
        "SCHEDULER_BATCH_MAX_PARALLELISM",
        "SCHEDULER_MAX_PARALELISM",
        "SCHEDULER_MAX_PARALLELISM_",
        "SCHEDULER_PARALLELISM",
        "scheduler_max_parallelism",
        "SCHEDULER_MAXPARALLELISM",
    ],
)
def test_a_look_alike_is_named_in_a_warning_and_not_read(name: str) -> None:
    """The original's code read SCHEDULER_BATCH_MAX_PARALLELISM: it and typos are warned about by name."""
    found = environment_override({name: "64"})
    assert (found.value, [name in warning for warning in found.warnings]) == (None, [True])


def test_a_look_alike_beside_the_right_name_is_still_named() -> None:
    """Both set: the right one counts and the other is warned about."""
    found = environment_override({"SCHEDULER_MAX_PARALLELISM": "64", "SCHEDULER_BATCH_MAX_PARALLELISM": "32"})
    assert (found.value, len(found.warnings)) == (64, 1)


def test_a_warning_shows_no_value() -> None:
    """What a foreign variable holds is nobody's business."""
    (warning,) = environment_override({"SCHEDULER_MAX_PARALELISM": "hunter2"}).warnings
    assert "hunter2" not in warning


def test_ordinary_variables_are_left_alone() -> None:
    """PATH and other scheduler settings raise no warning."""
    assert environment_override({"PATH": "/bin", "SCHEDULER_MAX_WORKERS": "4", "GOMAXPROCS": "2"}).warnings == ()


def test_an_explicit_override_beats_the_environment() -> None:
    """What the caller asks for wins over the variable."""
    assert pool_plan(64, override=5, environment={"SCHEDULER_MAX_PARALLELISM": "64"}).parallelism.value == 5


def test_an_explicit_zero_switches_the_variable_off() -> None:
    """override=0 says no override, whatever the environment says."""
    plan = pool_plan(16, override=0, environment={"SCHEDULER_MAX_PARALLELISM": "5"})
    assert (plan.parallelism.value, plan.override) == (64, None)


def test_the_plan_shows_its_warnings_in_a_notebook() -> None:
    """The HTML of a plan carries the warning and every number."""
    shown = pool_plan(16, environment={"SCHEDULER_BATCH_MAX_PARALLELISM": "64"})._repr_html_()
    assert all(part in shown for part in ("SCHEDULER_BATCH_MAX_PARALLELISM", "<b>64</b>", "64,000", "16 CPUs x 4 = 64"))
