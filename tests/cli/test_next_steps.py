"""What a refusal advises is not refused next."""

from __future__ import annotations

from pathlib import Path

import pytest

from capacity.observe.history import runs_folder
from tests.cli.conftest import Command
from tests.verdict.recorded import recorded

NOBODY = ("--address", "127.0.0.1:1")


@pytest.mark.parametrize(
    "words",
    [("plan", "--cluster", "temporal-cloud"), ("what-if", "temporal-cloud"), ("alerts", "--cluster", "temporal-cloud")],
)
def test_a_calibration_is_not_asked_for_where_none_helps(words: tuple[str, ...], in_process: Command) -> None:
    """The CPUs of Temporal Cloud are not known, with a calibration or without: that is said at once."""
    done = in_process(*words)
    assert (done.code, "its CPUs are not known" in done.error, "calibration" in done.error) == (2, True, False)


def test_a_checklist_asks_for_no_calibration_where_none_helps(in_process: Command) -> None:
    """The row that compares with a prediction says why there is none; elsewhere it says to name a calibration."""
    in_process("runs", "list")
    record = recorded()
    record.save(runs_folder() / f"{record.run_id}.json")
    assert "name the calibration" in " ".join(in_process("check", "last").out.split())
    told = " ".join(in_process("check", "last", "--cluster", "temporal-cloud").out.split())
    assert ("are not known" in told, "name the calibration" in told) == (True, False)


def test_what_stands_beside_a_setting_is_no_setting(in_process: Command) -> None:
    """--parallelism of a comparison takes no rate, and does not say that it does."""
    done = in_process("compare", "processes=1", "processes=2", "--parallelism", "rate=300")
    assert done.error == "capacity: --parallelism is 'rate=300'; allowed: 64, 4x or auto"


@pytest.mark.parametrize(("option", "example"), [("--cpus", "8,32,128"), ("--multipliers", "2,4,8")])
def test_an_example_is_one_of_the_option(option: str, example: str, in_process: Command) -> None:
    """CPU counts for CPUs, multipliers for multipliers."""
    assert in_process("table", option, "0").error.endswith(f"for example {option} {example}")


def test_an_address_is_called_by_where_it_was_read(in_process: Command, tmp_path: Path) -> None:
    """A variable, a profile or the option: whichever names the address that is none."""
    words = ("launch", "--count", "2", "--dry-run")
    assert "capacity: TEMPORAL_ADDRESS 'foo' is not HOST:PORT" in in_process(*words, TEMPORAL_ADDRESS="foo").error
    typed = in_process(*words, "--address", "bar", TEMPORAL_ADDRESS="foo")
    assert "capacity: --address 'bar' is not HOST:PORT" in typed.error
    config = tmp_path / "temporal.toml"
    config.write_text('[profile.night]\naddress = "baz"\n', encoding="utf-8")
    done = in_process(*words, "--profile", "night", TEMPORAL_CONFIG_FILE=str(config))
    assert "capacity: the address of profile night 'baz' is not HOST:PORT" in done.error


@pytest.mark.parametrize("words", [("sweep",), ("compare", "2x", "4x"), ("soak",)])
def test_cpus_are_not_asked_for_where_nobody_listens(words: tuple[str, ...], in_process: Command) -> None:
    """A cluster that is not there is missed before its CPUs are."""
    done = in_process(*words, *NOBODY)
    assert (done.code, "--cluster-cores" in done.err) == (1, False)
    assert "no server listens at 127.0.0.1:1; start one" in done.error


def test_launcher_processes_are_counted_before_anything_is_dialled(in_process: Command) -> None:
    """A worker with no process is misuse, as with launch, whether or not a server is there."""
    done = in_process("fleet", "worker", "--processes", "0", *NOBODY)
    assert (done.code, "--processes is 0" in done.error) == (2, True)
