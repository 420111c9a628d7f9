"""What launchers tell each other: orders and lines of processes, reports, outcomes, histograms."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_WORDS, bytes_of, fuzzed, json_files, json_texts, only_ours

from capacity.cluster.target import TLS, Target
from capacity.errors import CapacityError
from capacity.fleet.buckets import pack_buckets, unpack_buckets
from capacity.fleet.child import hello, order_of
from capacity.fleet.launcher import message_of
from capacity.fleet.merged import Merged
from capacity.fleet.notes import RangeNotes, pack, unpack
from capacity.fleet.report import Report
from capacity.launcher import outcome, worker
from capacity.launcher.batch import HeightRange
from capacity.launcher.header import Header
from capacity.launcher.retries import RetryPolicy

REPORT = json.loads(
    json.dumps(
        Report(
            seconds=0.1,
            codes={outcome.STARTED: 3},
            retries={"UNAVAILABLE": 1},
            throttles={"RPS_LIMIT/NAMESPACE": 2},
            buckets={70: 1, 3000: 2},
            first_start=(0, 1.7e9),
        ).to_json()
    )
)
MESSAGES = ({"report": REPORT, "waiting": 1}, {"ready": True}, {"idle": 3}, {"error": "x", "why": "y"})
TARGET = Target("127.0.0.1:7233", "default", TLS(b"ca", b"cert", b"key", "host"), "secret", {"x": "secret"})
HELLO = hello(HeightRange(5), worker.pack(TARGET, "queue"), 3, RetryPolicy(), 64, 7).splitlines(keepends=True)


def _json(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """What the SDK's converter, which is Python's json, makes of a text."""

    def read(text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None

    return texts.map(read)


BOMB = zlib.compress(bytes(50_000_000))
packed_bytes = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(zlib.compress),
    st.just(BOMB),
    st.just(zlib.compress(b"\xff" * 24)),
    st.just(pack_buckets({70: 1, 3: 2})).map(base64.b64decode),
).map(lambda content: base64.b64encode(content).decode())
texts = st.one_of(
    ODD_WORDS, packed_bytes, packed_bytes, st.sampled_from(["=1", "=", "=-1", "=256", "=" + "9" * 5000, "=٣"])
)


@fuzzed(35)
@given(_json(json_texts(REPORT)), texts)
def test_any_report_is_added_up_or_refused(value: Any, packed: str) -> None:
    """What a launcher of any version reports is part of the batch's sum, or one line says that it cannot be read."""
    for found in (value, {**REPORT, "buckets": packed}):
        with only_ours():
            report = Report.from_json(found)
            total = Report()
            total.add(report)
            total.since(report)
            merged = Merged(10, {})
            merged.add(report)
            assert report.latencies.count >= 0
            assert isinstance(merged.counts.errors, dict)


@fuzzed(35)
@given(texts, st.integers(1, 60))
def test_any_outcomes_are_those_of_the_items_or_refused(packed: str, count: int) -> None:
    """Packed outcomes are as many as the items and can be noted, or one line refuses them."""
    with only_ours():
        codes = unpack(packed, count)
        assert codes.shape == (count,)
        assert outcome.ENCODED[codes].shape == (count,)
        assert np.array_equal(unpack(pack(codes), count), codes)
        assert RangeNotes(Header("", "run", count), 0, count, packed).left <= count


@fuzzed()
@given(texts)
def test_any_histogram_is_buckets_or_none(packed: str) -> None:
    """Within a workflow, where only the standard library is, a bad histogram is a ValueError and takes no memory."""
    try:
        assert all(isinstance(index, int) for index in unpack_buckets(packed))
    except ValueError:
        return


@fuzzed(35)
@given(json_files(*MESSAGES))
def test_any_line_of_a_process_is_heard_or_refused(line: bytes) -> None:
    """What a launcher process writes is one of its messages, or one line says that it is not."""
    with only_ours():
        message = message_of(line)
        assert "report" not in message or isinstance(message["waiting"], int)
        assert "error" not in message or isinstance(message["why"], str)


@fuzzed(35)
@given(bytes_of(json_texts(*(json.loads(line) for line in HELLO))))
def test_any_order_to_a_process_is_read_or_refused_without_its_secrets(line: bytes) -> None:
    """A process takes the target and the batch it was told, or ends with one line that shows no secret."""
    with only_ours(secret="secret"):
        target, queue = worker.unpack(line)
        assert isinstance(target.address + target.namespace + queue, str)
    with only_ours():
        order = order_of(line)
        RetryPolicy(**order["policy"])


def test_the_lines_that_are_damaged_here_are_valid() -> None:
    """Without damage all are read: else the mutations would be refused for one and the same reason."""
    assert Report.from_json(REPORT).answered == 3
    assert [message_of(json.dumps(message).encode()) for message in MESSAGES] == list(MESSAGES)
    assert worker.unpack(HELLO[0]) == (TARGET, "queue")
    assert order_of(HELLO[1])["seed"] == 7


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    """Fifty megabytes of zeros in fifty kilobytes are no report."""
    bomb = base64.b64encode(BOMB).decode()
    with pytest.raises(CapacityError, match="cannot be read"):
        Report.from_json({"codes": {}, "buckets": bomb})
