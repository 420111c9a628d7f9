"""One byte per item: what it says, and what a damaged one never says."""

from __future__ import annotations

import grpc
import pytest

from capacity.launcher import outcome

KNOWN = [int(code) for code in outcome.DECODED[outcome.DECODED != outcome.DAMAGED]]


def test_every_outcome_survives_its_byte() -> None:
    """Encoding and decoding an outcome gives the same outcome."""
    assert [int(outcome.DECODED[outcome.ENCODED[code]]) for code in KNOWN] == KNOWN


def test_a_fresh_journal_is_all_zeros() -> None:
    """The zero byte means that the item is to do."""
    assert outcome.DECODED[0] == outcome.TO_DO
    assert outcome.ENCODED[outcome.TO_DO] == 0


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_never_another_outcome(bit: int) -> None:
    """A byte with one flipped bit is read as damaged, whatever the outcome was."""
    flipped = outcome.ENCODED[KNOWN] ^ (1 << bit)
    assert set(outcome.DECODED[flipped].tolist()) == {outcome.DAMAGED}


def test_outcomes_have_distinct_names() -> None:
    """No two outcomes are counted under one name."""
    names = [outcome.kind(code) for code in KNOWN]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("status", list(grpc.StatusCode), ids=lambda status: status.name)
def test_a_refusal_keeps_the_status_of_the_answer(status: grpc.StatusCode) -> None:
    """Refused and given-up items are failures named after the server's last status."""
    number = status.value[0]
    assert outcome.kind(outcome.REFUSED + number) == status.name
    assert outcome.kind(outcome.GAVE_UP + number) == f"gave up: {status.name}"
    assert outcome.is_failure(outcome.REFUSED + number)
    assert outcome.is_failure(outcome.GAVE_UP + number)


def test_what_is_in_place_is_no_failure() -> None:
    """Started, already running, already finished and to do do not count as failed; bad items do."""
    fine = (outcome.TO_DO, outcome.STARTED, outcome.ALREADY_RUNNING, outcome.ALREADY_FINISHED)
    assert not any(map(outcome.is_failure, fine))
    assert all(map(outcome.is_failure, (outcome.BAD_ITEM, outcome.TOO_LARGE)))


def test_an_unknown_code_has_no_name() -> None:
    """A code that no outcome has is refused, not named."""
    with pytest.raises(ValueError, match="outcome code 5"):
        outcome.kind(5)
