"""What servers and programs say: metrics pages, HTTP answers, a Prometheus' answers, logs."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import ODD_WORDS, TOKENS, bytes_of, fuzzed, json_files, only_ours, refused, unreadable

from capacity.cluster.processes import last_line
from capacity.errors import CapacityError
from capacity.experiment.store import counters_of, rps_limit_of
from capacity.observe import pages
from capacity.observe.pages import Site
from capacity.observe.prometheus import PrometheusSource
from capacity.observe.server import ServerSource
from capacity.observe.server_page import Parser
from capacity.observe.sources import Places
from capacity.observe.vitals import ServerVitals
from capacity.verdict.logged import read_log
from capacity.verdict.running import limit_of, served

PAGE = """# HELP service_requests requests
service_requests{operation="StartWorkflowExecution",service_name="frontend"} 12
service_errors_resource_exhausted{service_name="frontend",resource_exhausted_cause="RpsLimit"} 3
service_latency_bucket{operation="StartWorkflowExecution",service_name="frontend",le="0.005"} 4
service_latency_bucket{operation="StartWorkflowExecution",service_name="frontend",le="+Inf"} 8
service_latency_count{operation="StartWorkflowExecution",service_name="frontend"} 8
service_latency_sum{operation="StartWorkflowExecution",service_name="frontend"} 0.5
persistence_latency_bucket{operation="CreateWorkflowExecution",service_name="history",le="0.005"} 4
persistence_requests{operation="GetShard",service_name="history"} 3
host_rps_limit{service_name="frontend"} 2400
num_goroutines{service_name="frontend"} 300
memory_allocated{service_name="frontend"} 1e9
persistence_sql_max_open_conn{db_kind="main",service_name="history"} 20
persistence_sql_open_conn{db_kind="main",service_name="history"} 20
persistence_sql_in_use{db_kind="main",service_name="history"} 9
persistence_sql_idle_conn{db_kind="main",service_name="history"} 11
capacity_limit{run_id="a"} 64.0
"""
NUMBERS = (
    "NaN",
    "+Inf",
    "-Inf",
    "1e999",
    "-1",
    "1e308",
    "x",
    "",
    "1_0",
    "0x1",
    "9" * 5000,
    "1.2.3",
    "٣",
    "1e18",
    "1 2",
)


@st.composite
def page_texts(draw: st.DrawFn) -> str:
    """A metrics page with one to five lines wrong in it."""
    lines = PAGE.splitlines()
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(lines) - 1))
        name, _, value = lines[at].rpartition(" ")
        lines[at] = draw(
            st.sampled_from(
                [f"{name} {draw(st.sampled_from(NUMBERS))}"] * 3
                + [name, lines[at].replace("frontend", "x" * 70_000), lines[at].replace('"', ""), name.replace("}", "")]
                + [lines[at].replace("{", '{le="NaN",'), lines[at].replace('"0.005"', '"NaN"'), f"{name}{value}"]
                + [
                    lines[at].replace("le=", "xx="),
                    lines[at].replace("service_name", "\\\n"),
                    "\0",
                    "{} 1",
                    "# EOF",
                    "a{",
                ]
            )
        )
    return "\n".join(lines) + "\n"


any_page = st.one_of(bytes_of(page_texts()), bytes_of(page_texts()), st.binary(max_size=60))


@fuzzed(35)
@given(any_page, any_page)
def test_any_metrics_page_is_measured_or_not(first: bytes, second: bytes) -> None:
    """Whatever a page says, what is taken of it are finite numbers, and rates of two pages are too, or reasons."""
    source = ServerSource("http://192.0.2.1/metrics")
    answers = iter([first, second])
    source._site.get = lambda *_: (bytearray(found := next(answers)), len(found))  # type: ignore[method-assign]
    for _ in (1, 2):
        with only_ours():
            reading = source.read()
            assert isinstance(reading.vitals, ServerVitals)
            json.dumps(reading.vitals.model_dump(mode="python"), allow_nan=False)
        if source._before is not None:
            source._before = source._before[0] - 2, source._before[1]
    histogram = Parser().parse(first).histograms["start"]
    assert histogram.quantile(0.99) is None or math.isfinite(histogram.quantile(0.99) or 0.0)


@fuzzed(35)
@given(any_page)
@example(b'host_rps_limit{service_name="frontend"} 1.2.3\n')
def test_any_page_read_for_a_sweep_is_counted_or_refused(content: bytes) -> None:
    """A sweep's own readers of a page, and the one that proves a rollback, take numbers or nothing."""
    text = content.decode("utf-8", "replace")
    with only_ours():
        counters_of(text)
    with only_ours():
        limit = rps_limit_of(text)
        assert limit is None or math.isfinite(limit)
    assert limit_of(text) is None or 0 <= (limit_of(text) or 0) < 10**9


QUERY = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.7e9, "1.5"]}]}}
FAILED = {"status": "error", "errorType": "bad_data", "error": "parse error"}


@fuzzed(35)
@given(json_files(QUERY, FAILED))
def test_any_answer_of_a_prometheus_is_measured_or_not(content: bytes) -> None:
    """What a query returns is a finite number, nothing, or not measured with its reason."""
    source = PrometheusSource("http://192.0.2.1:9090")
    source._site.get = lambda *_: (bytearray(content), len(content))  # type: ignore[method-assign]
    with only_ours():
        reading = source.read()
        json.dumps(reading.vitals.model_dump(), allow_nan=False)


class _Said:
    """A socket whose other side says something and nothing more."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._content)

    def sendall(self, *_: object) -> None:
        return None

    def setsockopt(self, *_: object) -> None:
        return None

    def close(self) -> None:
        return None


HEADS = (
    "HTTP/1.0 200 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 500 x",
    "HTTP/1.1 abc",
    "SSH-2.0-OpenSSH",
    "",
    "HTTP/9 200",
    "\0",
)
LINES = ("Content-Length: 5", "Content-Length: -1", "Content-Length: x", "Content-Length: " + "9" * 5000, "x")
MORE_LINES = ("Transfer-Encoding: chunked", "X: " + "y" * 70_000, ": ", "Content-Length: 99999999999", "\0: \0")


@fuzzed(35)
@given(
    st.sampled_from(HEADS),
    st.lists(st.sampled_from([*LINES, *MORE_LINES]), max_size=3),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"ffffffffffffffff\r\n", b"-5\r\nabc", b"5\r\nabc"])),
)
def test_any_answer_over_http_is_a_page_or_not_measured(head: str, lines: list[str], body: bytes) -> None:
    """Whatever answers at a port, it is a page or the reason why it is none; nothing is believed of a length."""
    said = "\r\n".join([head, *lines, "", ""]).encode("latin-1") + body
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages._Connection, "connect", lambda self: setattr(self, "sock", _Said(said)))
        with only_ours():
            answer, size = Site("http://192.0.2.1/metrics", "--server-metrics").get("/metrics")
            assert answer[:size] in body
        with only_ours():
            assert served("1") is None or head.startswith("HTTP")


@fuzzed()
@given(st.one_of(ODD_WORDS, ODD_WORDS.map("http://{}:80/metrics".format), ODD_WORDS.map("https://h/{}".format)))
def test_any_url_is_a_page_or_refused(url: str) -> None:
    """A URL is one of HTTP or refused; one that HTTP has no words for is not measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.create_connection", _as_python_does)
        with only_ours():
            Places(server_metrics=url, prometheus=url)
            site = Site(url, "--server-metrics")
            site.get(site.path)
    assert served(url) is None


def _as_python_does(address: tuple[str, int], *_: object, **__: object) -> Any:
    address[0].encode("idna")
    raise ConnectionRefusedError(111, "Connection refused")


@fuzzed()
@given(st.one_of(ODD_WORDS, ODD_WORDS.map("postgresql://u:p@{}/x".format), ODD_WORDS.map("host={}".format)))
def test_any_connection_string_is_one_or_refused(dsn: str) -> None:
    """A connection string is read or refused; its text, which may hold a password, is in no error."""
    pytest.importorskip("psycopg")
    with only_ours():
        Places(postgres=dsn)


LOG = 'time=1 msg="Batch workflow scheduling completed" scheduled=1000 failed=0 parallelism=64'


@fuzzed()
@given(
    st.lists(
        st.one_of(
            st.just(LOG),
            st.sampled_from([LOG.replace("64", n) for n in ("", "-1", "9" * 12, "٣", "1e3", '"8"', "0")]),
            st.sampled_from(TOKENS),
            ODD_WORDS,
        ),
        max_size=4,
    ).map("\n".join),
    st.booleans(),
)
def test_any_log_tells_or_is_refused(file: Path, text: str, piped: bool) -> None:
    """A log, in a file or piped, tells how many are in flight or one line says that it does not."""
    content = text.encode("utf-8", "surrogatepass")
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, only_ours():
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        assert read_log(Path("-") if piped else file, 64).parallelism >= 0
    assert len(last_line(file)) <= 500


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    """A folder, a missing file, a name that cannot be and a file without an end are refused with their name."""
    for path in unreadable(tmp_path):
        with refused():
            read_log(path, 64)
        if path != Path("/dev/zero"):
            assert last_line(path) == "nothing logged"


def test_last_words_of_gigabytes_are_found_at_their_end(file: Path) -> None:
    """Of a huge log only the end is read; a fatal line beyond any JSON is said as it is."""
    with file.open("wb") as log:
        log.truncate(2**33)
        log.seek(0, 2)
        log.write(b'\n{"level":"fatal","msg":' + b"[" * 5000 + b"\n")
    assert last_line(file).startswith('{"level":"fatal"')


def test_a_page_without_end_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never ends its answer is given up by its size."""

    class Endless(io.RawIOBase):
        def readinto(self, buffer: Any) -> int:
            return len(buffer)

        def readline(self, *_: object) -> bytes:
            return next(lines, b"\r\n")

    lines = iter([b"HTTP/1.0 200 OK\r\n", b"\r\n"])
    said = _Said(b"")
    monkeypatch.setattr(said, "makefile", lambda *_: Endless())
    monkeypatch.setattr(pages, "LARGEST", 2**20)
    monkeypatch.setattr(pages._Connection, "connect", lambda self: setattr(self, "sock", said))
    with pytest.raises(CapacityError, match="has no end"):
        Site("http://192.0.2.1/", "--prometheus").get("/")
