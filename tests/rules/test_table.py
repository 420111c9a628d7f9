"""The tuning table."""

from __future__ import annotations

import json

import pytest

from capacity.errors import UsageError
from capacity.rules import tuning_table

# The table the change was announced with, as the project's issue prints it.
ANNOUNCED = """\
| CPU Count | 2x | 4x | 6x | 8x |
|---|---|---|---|---|
| 8 | 16 | 32 | 48 | 64 |
| 16 | 32 | 64 | 96 | 128 |
| 32 | 64 | 128 | 192 | 256 |
| 64 | 128 | 256 | 384 | 512 |
| 128 | 256 | 512* | 512* | 512* |"""


def cell(cpus: int, multiplier: int, multipliers: tuple[int, ...] = (2, 4, 6, 8)) -> str:
    ((*cells,),) = tuning_table([cpus], multipliers).rows
    return str(cells[multipliers.index(multiplier)])


def test_the_announced_table_is_reproduced() -> None:
    """The default table is the announced one, character for character."""
    assert tuning_table().to_markdown() == ANNOUNCED


def test_64_cpus_x_8_is_exact_and_nothing_of_its_row_is_lost() -> None:
    """64 x 8 is exactly 512 with no wider multiplier beside it: unmarked (the original marked it)."""
    assert cell(64, 8) == "512"


def test_128_cpus_x_4_is_exact_but_its_row_is_cut() -> None:
    """128 x 4 is exactly 512 and marked: 6 and 8 per CPU give that row no more."""
    assert cell(128, 4) == "512*"


def test_64_cpus_x_8_is_marked_once_a_wider_multiplier_stands_beside_it() -> None:
    """With a tenth per CPU in the table, the cap cuts the row of 64 CPUs too."""
    assert cell(64, 8, (8, 10)) == "512*"


def test_128_cpus_x_4_alone_is_not_marked() -> None:
    """In a table that ends at 4 per CPU nothing of the row of 128 CPUs is lost."""
    assert cell(128, 4, (2, 4)) == "512"


def test_an_entry_below_the_cap_is_never_marked() -> None:
    """128 x 2 is 256 in a row that the cap cuts: unmarked."""
    assert cell(128, 2) == "256"


def test_the_legend_is_there_only_when_something_is_marked() -> None:
    """A table without marks explains none."""
    assert (tuning_table([8]).legend, tuning_table([128]).legend[:19]) == ("", "* cap of 512 reache")


def test_the_product_before_the_cap_is_kept() -> None:
    """128 x 8 shows 512 and keeps the 1,024 it was cut from."""
    ((*_, last),) = tuning_table([128]).rows
    assert (last.product, last.parallelism, last.capped) == (1024, 512, True)


def test_order_is_kept_and_repeats_are_dropped() -> None:
    """Rows and columns stand as asked for, each once."""
    table = tuning_table([16, 8, 16], [4, 2])
    assert (table.cpus, table.multipliers) == ((16, 8), (4, 2))


def test_the_order_of_the_columns_does_not_change_the_marks() -> None:
    """The widest multiplier decides, wherever it stands."""
    assert cell(128, 4, (8, 4)) == "512*"


def test_it_is_json_ready() -> None:
    """The table survives JSON with the mark apart from the number."""
    cells = json.loads(json.dumps(tuning_table([128], [8]).to_dict()))["cells"]
    assert cells == [{"cpus": 128, "multiplier": 8, "product": 1024, "parallelism": 512, "capped": True}]


@pytest.mark.parametrize(("cpus", "multipliers"), [([], [2]), ([8], []), ([0], [2]), ([8], [-1]), ([2.5], [2])])
def test_empty_or_impossible_heads_are_refused(cpus: list[int], multipliers: list[int]) -> None:
    """No rows, no columns, or a head below 1 is a misuse."""
    with pytest.raises(UsageError, match="allowed: "):
        tuning_table(cpus, multipliers)
