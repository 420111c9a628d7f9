"""Which words a command line may not have."""

from __future__ import annotations

import pytest

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
