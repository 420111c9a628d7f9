"""Items files: every record is an item, found by its index, and a bad one stops nothing."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from capacity.errors import UsageError
from capacity.launcher import items
from capacity.launcher.inputs import InputTemplate
from capacity.launcher.items import STRIDE, ItemsFile

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), max_size=12)
identities = texts.filter(str.strip)


def opened(folder: Path, content: str | bytes, name: str = "items.csv", template: str | None = None) -> ItemsFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return ItemsFile.open(path, template=InputTemplate(template) if template else None)


def requests(batch: ItemsFile, first: int = 0) -> list[tuple[int, str | None, object]]:
    found = []
    for index, body in batch.bodies("run", lambda _: False, first):
        if body is None:
            found.append((index, None, None))
            continue
        request = StartWorkflowExecutionRequest.FromString(body)
        assert request.request_id == f"run:{index}"
        found.append((index, request.workflow_id, json.loads(request.input.payloads[0].data)))
    return found


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(identities, texts), min_size=1, max_size=8),
    bom=st.booleans(),
    ending=st.sampled_from("\n\r"),
)
def test_csv_comes_out_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], bom: bool, ending: str
) -> None:
    """Commas, quotes and newlines within fields, a byte-order mark and either line ending change no item."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n" if ending == "\n" else "\r\n")
    writer.writerows([("id", "x"), *rows])
    content = out.getvalue().encode("utf-8-sig" if bom else "utf-8")
    batch = opened(tmp_path_factory.mktemp("csv"), content)
    assert requests(batch) == [(i, identity, {"x": x}) for i, (identity, x) in enumerate(rows)]


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(identities, st.one_of(texts, st.integers(), st.none())), min_size=1, max_size=8),
    bom=st.booleans(),
)
def test_json_lines_keep_their_types(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, object]], bom: bool
) -> None:
    """Numbers, null and texts of a JSON line reach the workflow's input as they are."""
    content = "\n".join(json.dumps({"id": identity, "x": x}) for identity, x in rows)
    batch = opened(tmp_path_factory.mktemp("json"), content.encode("utf-8-sig" if bom else "utf-8"), "items.jsonl")
    assert requests(batch) == [(i, identity, {"x": x}) for i, (identity, x) in enumerate(rows)]


@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n", "\ufeff\n"])
def test_the_kind_of_a_file_without_a_telling_name_is_seen_from_its_first_line(tmp_path: Path, start: str) -> None:
    """A file named .txt whose first record is an object is read as JSON lines, byte-order mark and blanks or not."""
    assert requests(opened(tmp_path, start + '{"id": "a"}\n', "items.txt")) == [(0, "a", {})]
    assert requests(opened(tmp_path, start + "id\na\n", "items.txt")) == [(0, "a", {})]


def test_blank_lines_are_no_items(tmp_path: Path) -> None:
    """Blank lines at the start, between and at the end neither count nor shift an index."""
    batch = opened(tmp_path, "\n\nid,x\n\na,1\n  \n\nb,2\n\n\n")
    assert batch.count == 2
    assert [batch.workflow_id(i) for i in range(2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{broken", "Expecting"),
        ('["a"]', "not a JSON object"),
        ('{"x": 1}', "id is 'None'"),
        ('{"id": ""}', "id is ''"),
        ('{"id": true}', "id is 'True'"),
        ('{"id": 1.5}', "id is '1.5'"),
        ('{"id": "' + "é" * 501 + '"}', "1 to 1000 bytes"),
        ('{"id": "\\ud800"}', "surrogates"),
        ('{"id": "a", "x": NaN}', "NaN is not JSON"),
        ('{"id": "a", "x": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_json_line_fails_alone(tmp_path: Path, bad: str, why: str) -> None:
    """A line that makes no request is an item of its own that says why, and its neighbours are launched."""
    batch = opened(tmp_path, f'{{"id": "a"}}\n{bad}\n{{"id": "b"}}\n', "items.jsonl")
    assert requests(batch) == [(0, "a", {}), (1, None, None), (2, "b", {})]
    with pytest.raises(ValueError, match=why):
        batch.columns(1)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("b", "it has 1 columns"),
        ("b,1,2", "it has 3 columns"),
        (",1", "id is ''"),
        ('"b"x,1', "expected after"),
    ],
)
def test_a_bad_csv_line_fails_alone(tmp_path: Path, bad: str, why: str) -> None:
    """A CSV line with too few or too many columns, no id or text behind a quote is one bad item."""
    batch = opened(tmp_path, f"id,x\na,1\n{bad}\nc,3\n")
    assert [identity for _, identity, _ in requests(batch)] == ["a", None, "c"]
    with pytest.raises(ValueError, match=why):
        batch.columns(1)


def test_bytes_that_are_not_utf8_fail_alone(tmp_path: Path) -> None:
    """A line in another encoding is one bad item, in CSV and in JSON lines."""
    assert [identity for _, identity, _ in requests(opened(tmp_path, b"id\na\n\xff\xfe\nc\n"))] == ["a", None, "c"]
    content = b'{"id": "a"}\n{"id": "\xff"}\n{"id": "c"}\n'
    assert [identity for _, identity, _ in requests(opened(tmp_path, content, "x.jsonl"))] == ["a", None, "c"]


def test_an_inch_mark_within_a_field_swallows_no_line(tmp_path: Path) -> None:
    """A quote inside a field that does not begin with one is text: the lines after it stay items of their own."""
    batch = opened(tmp_path, 'id,x\na,5" pipe\nb,"6"" pipe"\nc,"line 1\nline "" 2"\nd,4\n')
    assert [(identity, data) for _, identity, data in requests(batch)] == [
        ("a", {"x": '5" pipe'}),
        ("b", {"x": '6" pipe'}),
        ("c", {"x": 'line 1\nline " 2'}),
        ("d", {"x": "4"}),
    ]


def test_a_quote_nobody_closes_is_one_bad_item_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open quote takes at most the longest record with it; the lines after that are items again."""
    monkeypatch.setattr(items, "MAXIMUM_RECORD", 100)
    batch = opened(tmp_path, 'id,x\na,"open\n' + "".join(f"b{i},1\n" for i in range(100)))
    found = [identity for _, identity, _ in requests(batch)]
    assert found[0] is None
    assert found[-1] == "b99"
    assert 70 < batch.count < 100


def test_ids_that_are_numbers_are_taken_as_text(tmp_path: Path) -> None:
    """The JSON id 7 is the workflow id '7'."""
    assert requests(opened(tmp_path, '{"id": 7, "x": 1}\n', "x.jsonl")) == [(0, "7", {"x": 1})]


def test_a_template_makes_the_input_of_the_columns(tmp_path: Path) -> None:
    """With a template the input is the template's, and an item without its column is a bad one."""
    batch = opened(tmp_path, '{"id": "a", "x": 1}\n{"id": "b"}\n', "x.jsonl", '{"value": "{x}", "of": "{id}"}')
    assert requests(batch) == [(0, "a", {"value": 1, "of": "a"}), (1, None, None)]


def test_random_access_equals_streaming_across_the_stride(tmp_path: Path) -> None:
    """Item i by its index, from any start, is the i-th of the stream, also where the index of offsets jumps."""
    count = 2 * STRIDE + 10
    batch = opened(tmp_path, "id,x\n" + "".join(f'n{i},"{i}\n{i % 7}"\n\n' for i in range(count)))
    stream = requests(batch)
    assert len(stream) == batch.count == count
    for index in (0, 1, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE - 1, 2 * STRIDE, count - 1):
        assert batch.workflow_id(index) == stream[index][1]
        assert next(iter(requests(batch, index))) == stream[index]
    assert requests(batch, count) == []
    with pytest.raises(ValueError, match="no item"):
        batch.columns(count)


def test_a_start_at_a_full_stride_beyond_the_end_yields_nothing(tmp_path: Path) -> None:
    """A batch of exactly one stride has nothing behind it."""
    batch = opened(tmp_path, "id\n" + "".join(f"n{i}\n" for i in range(STRIDE)))
    assert requests(batch, STRIDE) == []


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_file_that_was_cut_short_is_not_taken_for_done(tmp_path: Path, left: int) -> None:
    """Lines that are gone since the file was opened are named; they are not passed over in silence."""
    batch = opened(tmp_path, "id\na\nb\nc\n")
    (tmp_path / "items.csv").write_text("".join("id\na\nb\n".splitlines(keepends=True)[: left + 1]))
    with pytest.raises(UsageError, match=f"ends after {left} of 3 items: it was changed"):
        requests(batch)


def test_items_that_are_done_are_not_made(tmp_path: Path) -> None:
    """What the journal notes as done is left out, by index, bad lines included."""
    batch = opened(tmp_path, "id\na\n,\nc\nd\n")
    assert [index for index, _ in batch.bodies("run", lambda index: index in (1, 2))] == [0, 3]


def test_some_items_are_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed ones of a large file are exported in the time of reading it once, bad ones with what is bad."""
    lines = [json.dumps({"id": f"w{i}"}) if i % 50 or not i else "[]" for i in range(3 * STRIDE)]
    batch = opened(tmp_path, "\n".join(lines), "items.jsonl")
    parsed: list[bytes] = []
    parse = ItemsFile._parse
    monkeypatch.setattr(ItemsFile, "_parse", lambda batch, record: parsed.append(record) or parse(batch, record))
    opens: list[Path] = []
    opener = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *words, **more: opens.append(path) or opener(path, *words, **more))
    wanted = [STRIDE, 2 * STRIDE + 1, 2 * STRIDE + 8, 2 * STRIDE + 100]
    found = dict(batch.columns_of(wanted))
    assert list(found) == wanted
    for index in wanted:
        assert isinstance(found[index], dict if index % 50 else ValueError)
    assert (len(opens), len(parsed)) == (1, len(wanted))
    assert list(batch.columns_of([])) == []


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times as many items take less than twice the memory to open and stream."""

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        with path.open("w") as file:
            file.write("id,x\n")
            file.writelines(f"number-{i},{i}\n" for i in range(count))
        tracemalloc.start()
        batch = ItemsFile.open(path)
        assert sum(1 for _ in batch.bodies("run", lambda index: index % 50 > 0)) == count // 50
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(40_000) < 2 * peak(4_000)


@pytest.mark.parametrize(
    ("content", "name", "match"),
    [
        ("", "x.csv", "no column 'id'"),
        ("name,x\na,1\n", "x.csv", "no column 'id'; its first line is 'name,x'"),
        ("id,x\n", "x.csv", "has no item"),
        ("id,x,x\na,1,2\n", "x.csv", "two columns 'x'"),
        ('id,"x\n', "x.csv", "first line of items file .* is not CSV"),
        ("\n \n", "x.jsonl", "has no item"),
        (b"\xff\xfei\0d\0\n\0", "x.csv", "it is not UTF-8"),
    ],
)
def test_a_file_without_items_is_refused_in_one_line(
    tmp_path: Path, content: str | bytes, name: str, match: str
) -> None:
    """A file that cannot be a batch is refused with its name before anything is started."""
    with pytest.raises(UsageError, match=match) as raised:
        opened(tmp_path, content, name)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_template_of_a_column_that_a_csv_lacks_is_refused(tmp_path: Path) -> None:
    """A slip in a template's column would fail every item of a CSV: the file is refused, and says what it has."""
    with pytest.raises(UsageError, match=r"input template names 'heigth'; allowed: id, height"):
        opened(tmp_path, "id,height\na,1\n", template='{"h": "{heigth}"}')


@pytest.mark.parametrize(
    "content",
    ['[\n  {"id": "a"},\n  {"id": "b"}\n]\n', '[{"id": "a"}]\n', '{\n  "id": "a"\n}\n', '"a"\n', "id,x\na,1\n"],
)
def test_a_file_that_is_no_json_lines_is_refused(tmp_path: Path, content: str) -> None:
    """An array, an object over many lines, or a CSV named as JSON fails by its first record, not line by line."""
    with pytest.raises(UsageError, match=r"first record of items file .* is no JSON object.* allowed: JSON lines"):
        opened(tmp_path, content, "items.json")


@pytest.mark.parametrize("bad", [b'{"id":"a","x":NaN}', b'{"id":"a",}', b'\xef\xbb\xbf {"id":"\xff"} ', b"{}"])
def test_a_bad_record_is_one_bad_item_wherever_it_stands(tmp_path: Path, bad: bytes) -> None:
    """A slip in the first record stops no batch, nor its resume, that the same slip further down would not stop."""
    batch = opened(tmp_path, bad + b'\n{"id":"b"}\n', "items.jsonl")
    assert [body is None for _, body in batch.bodies("run", lambda _: False)] == [True, False]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is not there, or a folder, is refused with the system's reason."""
    with pytest.raises(UsageError, match="No such file"):
        ItemsFile.open(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="Is a directory"):
        ItemsFile.open(tmp_path)


def test_a_changed_item_is_another_batch(tmp_path: Path) -> None:
    """The checksum follows the records: a changed one changes it, blank lines and the path do not."""
    first = opened(tmp_path, "id\na\nb\n")
    assert opened(tmp_path, "id\n\na\nb\n\n", "other.csv").sha256 == first.sha256
    assert opened(tmp_path, "id\na\nc\n").sha256 != first.sha256
