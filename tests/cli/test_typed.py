"""The words of a command line: an empty one, and what an error calls an option."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from capacity.cli import app
from tests.cli.conftest import Command


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("launch", "--dry-run", "--count", "1", "--address", ""), "--address"),
        (("launch", "--dry-run", "--count", "1", "--address="), "--address"),
        (("launch", "--dry-run", "--count", "1", "--parallelism", ""), "--parallelism"),
        (("launch", "--dry-run", "--count", "1", "--chain-id", ""), "--chain-id"),
        (("launch", "--dry-run", "--count", "1", "--input-template", ""), "--input-template"),
        (("launch", "--dry-run", "--count", "1", "--fleet", "--fleet-queue", ""), "--fleet-queue"),
        (("sweep", "--address", ""), "--address"),
        (("plan", "--cluster", "postgres-dev", "--calibration", ""), "--calibration"),
        (("limits", ""), "an argument"),
        (("", "table"), "an argument"),
    ],
)
def test_an_empty_word_is_no_option_left_out(words: tuple[str, ...], named: str, in_process: Command) -> None:
    """A variable that is not set in the shell is refused; it never means the default, wherever it stands."""
    done = in_process(*words, TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(f"capacity: {named} is empty")


@pytest.mark.parametrize("pair", ["--memo=a=", "--memo=a=b="])
def test_a_field_without_text_is_taken(pair: str, in_process: Command) -> None:
    """What a key is given may be nothing; the word around it is not empty."""
    assert in_process("launch", "--dry-run", "--count", "1", pair).code == 0


def commands(command: Any, *words: str) -> dict[tuple[str, ...], Any]:
    """Every command that is no group, by its words."""
    found: dict[tuple[str, ...], Any] = {} if hasattr(command, "commands") else {words: command}
    for word, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, *words, word)
    return found


BESIDE: dict[tuple[str, ...], tuple[str, ...]] = {
    ("launch",): ("--dry-run", "--count", "5", "--address", "127.0.0.1:1"),
    ("plan",): ("--cluster", "postgres-dev"),
    ("size",): ("--target", "5"),
    ("compare",): ("2x", "4x"),
    ("rollback",): ("--to", "2x"),
    ("alerts",): ("--cluster", "postgres-dev"),
    ("cluster", "up"): ("--store", "postgres"),
    ("levers",): ("--store", "postgres"),
}
"""What a command needs beside an option that is wrong."""
OF_THE_OTHER = {"plan": {"--parallelism", "--rate", "--lose-every"}, "size": {"--batch", "--count", "--within"}}
"""Options that need another one than those."""
NUMBERS = {"N", "M", "K", "P", "RATE", "SECONDS", "MINUTES", "SHARE", "DAYS", "PORT", "PID"}
ANY_NUMBER = {("sweep", "--seed"), ("compare", "--seed")}
ASKED = [
    (words, option)
    for words, command in commands(typer.main.get_command(app)).items()
    for parameter in command.params
    if parameter.metavar in NUMBERS
    for option in parameter.opts
    if option.startswith("--") and (words[0], option) not in ANY_NUMBER
]


@pytest.mark.parametrize(("words", "option"), ASKED)
def test_an_error_calls_an_option_as_it_was_typed(words: tuple[str, ...], option: str, in_process: Command) -> None:
    """A number that no option takes is refused by the option's own name, whichever room refuses it."""
    beside = [*BESIDE.get(words, ())]
    if option in OF_THE_OTHER.get(words[0], ()):
        beside = ["--cluster", "postgres-dev", "--fleet", "2"] if words == ("plan",) else ["--within", "5"]
    if option == "--within":
        beside = ["--batch", "5"]
    if option in ("--count", "--batch") and "--count" in beside:
        beside = beside[:1] + beside[3:]
    done = in_process(*words, *beside, option, "-7")
    assert done.code == 2
    assert done.error.startswith((f"capacity: {option} ", "capacity: Invalid value for")), done.error
    assert f"{option} " in done.error or f"'{option}'" in done.error


@pytest.mark.parametrize(
    "words", [("launch", "--dry-run"), ("plan",), ("size", "--within", "10_000_000"), ("soak", "--address", "x")]
)
def test_a_number_of_starts_is_read_in_one_way(words: tuple[str, ...], in_process: Command) -> None:
    """Underscores between digits are taken, and as many items as a journal holds; more or other words are refused."""
    for typed in ("1_000", "10000000000"):
        assert "--batch" not in in_process(*words, "--count", typed).err
    for typed in ("10000000001", "1e6", "many"):
        done = in_process(*words, "--count", typed)
        assert f"{typed!r} is not a whole number up to 10,000,000,000" in done.error


def test_a_fleets_plan_refuses_any_multiplier(in_process: Command) -> None:
    """Also that which a pool has by default: it would do nothing."""
    done = in_process("plan", "--cluster", "postgres-dev", "--fleet", "2", "--multiplier", "4")
    assert (done.code, "--multiplier does not go with --fleet" in done.error) == (2, True)
