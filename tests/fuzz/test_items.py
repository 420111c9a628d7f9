"""Files of items, CSV and JSON lines, and templates of what is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_WORDS, TOKENS, bytes_of, fuzzed, json_texts, only_ours, refused, unreadable

from capacity.errors import UsageError
from capacity.launcher.batch import HeightRange, StartOptions
from capacity.launcher.inputs import InputTemplate
from capacity.launcher.items import LONGEST_LINE, ItemsFile

ITEM = {"id": "block-1", "height": 7, "chain": {"name": "mainnet", "tags": ["a"]}}
TEMPLATE = {"chain": "{chain}", "list": ["{height}", "x {id} y"], "n": 1}

_json_lines = st.lists(st.one_of(json_texts(ITEM), st.just(json.dumps(ITEM)), st.sampled_from(TOKENS)), max_size=4)
_cells = st.one_of(ODD_WORDS, st.sampled_from(["id", '"', '""', '"a', 'a"b', '"a\nb"', "\r", ",,", '"a"b']))
_csv_lines = st.lists(st.lists(_cells, max_size=4).map(",".join), max_size=5).map(
    lambda lines: ["id,height,chain", *lines]
)


@fuzzed(40)
@given(
    bytes_of(st.one_of(_json_lines, _csv_lines).map("\n".join)),
    st.sampled_from(["items.csv", "items.jsonl", "items"]),
    st.booleans(),
)
def test_any_file_is_a_batch_with_bad_items_or_refused(
    tmp_path: Path, content: bytes, name: str, with_template: bool
) -> None:
    """Each record makes a request that JSON allows or is a bad item, the same each time; or the file is none."""
    path = tmp_path / name
    path.write_bytes(content)
    with only_ours():
        template = InputTemplate(json.dumps(TEMPLATE)) if with_template else None
        batch = ItemsFile.open(path, template=template)
        made = dict(batch.bodies("run", lambda _: False))
        assert list(made) == list(range(batch.count))
        for index, body in made.items():
            try:
                assert 1 <= len(batch.workflow_id(index).encode()) <= 1000
                data = batch._input(batch.columns(index))
            except (ValueError, KeyError):
                assert body is None
                continue
            assert body is not None
            json.loads(data, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        assert dict(batch.bodies("run", lambda _: False, batch.count - 1)) == {batch.count - 1: made[batch.count - 1]}


@fuzzed(35)
@given(st.one_of(json_texts(TEMPLATE), ODD_WORDS, st.sampled_from(TOKENS)))
def test_any_template_renders_or_is_refused(text: str) -> None:
    """What is taken as a template renders to JSON, given its columns; anything else is one line."""
    with only_ours():
        template = InputTemplate(text)
        rendered = template.render(dict.fromkeys(template.columns, "x"))
        json.loads(rendered, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        HeightRange(5, template=template)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder, a missing file, a name that cannot be and a file without an end are refused with their name."""
    for path in [*unreadable(tmp_path), Path("/dev/urandom")]:
        with refused():
            ItemsFile.open(path)


def test_a_line_without_an_end_is_refused_before_it_is_held(file: Path) -> None:
    """A file of gigabytes without a line end is no items file; it is not read to its end."""
    with file.open("wb") as sparse:
        sparse.truncate(2**34)
    with pytest.raises(UsageError, match=f"a line of more than {LONGEST_LINE:,} bytes"):
        ItemsFile.open(file)


@fuzzed()
@given(ODD_WORDS, ODD_WORDS, ODD_WORDS, st.sampled_from([None, 0, 1, 10**5000]))
def test_any_names_are_options_or_refused(workflow: str, queue: str, existing: str, key: int | None) -> None:
    """Names that the server would refuse, or no server could be sent, are refused here."""
    with only_ours():
        StartOptions(workflow, queue, "skip", priority_key=key).request_template("default", "run")
    with only_ours():
        StartOptions(workflow, queue, existing)


def test_a_number_of_items_that_no_journal_holds_is_refused() -> None:
    """From one to ten billion items; more is said before a file of that size is asked for."""
    for count in (0, -1, 10**11, 10**5000):
        with refused():
            HeightRange(count)
