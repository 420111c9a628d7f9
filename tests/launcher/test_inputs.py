"""Input templates: what a place becomes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import UsageError
from capacity.launcher.inputs import InputTemplate, compact

values = st.one_of(st.integers(), st.text(), st.booleans(), st.none(), st.lists(st.integers(), max_size=3))


@given(values)
def test_a_whole_place_takes_the_value_as_it_is(value: object) -> None:
    """A string that is one place becomes the column's JSON value, whatever its type."""
    assert json.loads(InputTemplate('{"x": "{column}"}').render({"column": value})) == {"x": value}


@given(st.text())
def test_a_place_inside_a_text_never_breaks_the_json(value: str) -> None:
    """Quotes, newlines and braces in a column stay inside the string they are put into."""
    assert json.loads(InputTemplate('["<{column}>"]').render({"column": value})) == [f"<{value}>"]


@given(st.one_of(values, st.floats(allow_nan=False, allow_infinity=False), st.dictionaries(st.text(), values)))
def test_a_value_within_a_text_is_written_as_json(value: object) -> None:
    """A text stands as it is, anything else as it would in a place of its own: true and null, not True and None."""
    (text,) = json.loads(InputTemplate('["<{column}>"]').render({"column": value}))
    assert text == (f"<{value}>" if isinstance(value, str) else f"<{compact(value).decode()}>")


def test_a_value_with_a_place_in_it_is_not_filled_again() -> None:
    """Columns are data: a column whose text looks like a place is kept literally."""
    rendered = InputTemplate('{"a": "{a}", "b": "x {a}"}').render({"a": "{b}", "b": "never"})
    assert json.loads(rendered) == {"a": "{b}", "b": "x {b}"}


def test_other_braces_stay() -> None:
    """Text in braces that is no column name is left alone, keys included."""
    template = InputTemplate('{"{k}": "{} {1} {a b}"}')
    assert template.columns == []
    assert json.loads(template.render({})) == {"{k}": "{} {1} {a b}"}


def test_a_template_that_is_no_json_is_shown() -> None:
    """The refusal quotes the template and gives an example that works."""
    with pytest.raises(UsageError, match=r"input template '\{height\}' is not JSON") as raised:
        InputTemplate("{height}")
    assert "for example" in str(raised.value)


def test_a_missing_column_is_named() -> None:
    """An item without a column that the template needs says which."""
    with pytest.raises(KeyError, match="height"):
        InputTemplate('{"x": "{height}"}').render({"id": "a"})
