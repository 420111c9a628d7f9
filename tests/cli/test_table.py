"""`capacity table`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from capacity.cli import run

HEAVY = {"temporalio", "grpc", "numpy", "scipy", "plotly", "ipywidgets"}


def modules_after(code: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.split())


def test_markdown_is_the_announced_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`--format markdown` prints the announced table and nothing else."""
    assert run(["table", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == (
        "| CPU Count | 2x | 4x | 6x | 8x |\n"
        "|---|---|---|---|---|\n"
        "| 8 | 16 | 32 | 48 | 64 |\n"
        "| 16 | 32 | 64 | 96 | 128 |\n"
        "| 32 | 64 | 128 | 192 | 256 |\n"
        "| 64 | 128 | 256 | 384 | 512 |\n"
        "| 128 | 256 | 512* | 512* | 512* |\n"
    )


def test_text_is_plain_when_piped_and_explains_the_mark(capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe go aligned columns and the legend, with no control codes."""
    assert run(["table"]) == 0
    out = capsys.readouterr().out
    assert "      128  256  512*  512*  512*\n* cap of 512 reached" in out
    assert "\x1b" not in out


def test_text_on_a_terminal_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an 80-column terminal no line is wider, and the legend stands on one line."""
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert run(["table"]) == 0
    lines = capsys.readouterr().out.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "* cap of 512 reached, and it cuts this row: a higher multiplier buys nothing"


def test_csv_has_the_mark_in_a_column_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A spreadsheet gets clean numbers: capped is true or false."""
    assert run(["table", "--cpus", "64,128", "--multipliers", "8", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["cpus"], row["parallelism"], row["capped"]) for row in rows] == [
        ("64", "512", "false"),
        ("128", "512", "true"),
    ]


def test_json_has_the_mark_in_a_field_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON cells carry numbers and a boolean."""
    assert run(["table", "--cpus", "128", "--multipliers", "2,8", "--format", "json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [(cell["parallelism"], cell["capped"]) for cell in cells] == [(256, False), (512, True)]


@pytest.mark.parametrize("text", ["0", "-8", "8,,16", "8;16", "2.5", "eight", "8,9999999999", "٨"])
@pytest.mark.parametrize("option", ["--cpus", "--multipliers"])
def test_bad_lists_get_one_line_and_exit_code_2(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A list that is not one of whole numbers from 1 is refused in one line that names the option."""
    assert run(["table", option, text]) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), option in error, "allowed: whole numbers from 1" in error) == (1, True, True)


def test_an_unknown_format_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """`--format xml` is refused with the list of formats."""
    assert run(["table", "--format", "xml"]) == 2
    error = capsys.readouterr().err
    assert [name for name in ("xml", "text", "markdown", "csv", "json") if name not in error] == []


def test_the_help_explains_the_mark(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` says what * means at both exact cells."""
    assert run(["table", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(words in out for words in ("128 CPUs x 4 is marked", "64 CPUs x 8 is exactly 512 too and not marked"))


@pytest.mark.parametrize("arguments", [["table"], ["plan"], ["table", "--format", "json"]])
def test_the_command_imports_nothing_heavy(arguments: list[str]) -> None:
    """`capacity table` and `capacity plan` start without Temporal, gRPC, numpy, scipy, plotly or widgets."""
    assert HEAVY & modules_after(f"from capacity.cli import run; assert run({arguments!r}) == 0") == set()


def test_import_capacity_loads_the_package_and_lazy_loader_only() -> None:
    """`import capacity` adds nothing but itself, lazy_loader and the standard library."""
    added = modules_after("import capacity") - set(sys.stdlib_module_names) - modules_after("pass")
    assert added == {"capacity", "lazy_loader"}
