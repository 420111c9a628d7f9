"""Reading a Temporal server's metrics page."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from capacity.errors import UsageError
from capacity.observe import server, server_page
from capacity.observe.server import ServerSource
from capacity.observe.server_page import Histogram, Page, Parser
from capacity.observe.vitals import NotMeasuredError, ServerVitals
from tests.observe.pages_served import serving


def histogram(name: str, labels: str, counts: list[int], total: float) -> list[str]:
    bounds = ["0.001", "0.002", "0.005", "+Inf"]
    lines = [f'{name}_bucket{{{labels},le="{b}"}} {n}' for b, n in zip(bounds, counts, strict=True)]
    return [*lines, f"{name}_sum{{{labels}}} {total}", f"{name}_count{{{labels}}} {counts[-1]}"]


def page(starts: int = 10, exhausted: int = 0, pool_in_use: int | None = None, goroutines: int = 2300) -> bytes:
    """A page as a server writes it: what is wanted between what is not."""
    start = 'namespace="default",operation="StartWorkflowExecution",service_name'
    lines = [
        "# HELP service_requests service_requests counter",
        "# TYPE service_requests counter",
        f'service_requests{{{start}="frontend"}} {starts}',
        f'service_requests{{{start}="history"}} {starts}',
        'service_requests{namespace="a\\"b,c",operation="Check",service_name="frontend"} 4',
        *histogram("service_latency", f'{start}="frontend"', [0, starts // 2, starts, starts], starts * 0.002),
        *histogram("service_latency", f'{start}="history"', [starts] * 4, 0.1),
        *histogram("semaphore_latency", 'operation="ShardInfo",priority="0",service_name="history"', [starts] * 4, 0.0),
        *histogram(
            "dd_shard_io_semaphore_latency", 'operation="DeadlockDetector",service_name="history"', [9] * 4, 9.0
        ),
        'host_rps_limit{service_name="frontend"} 2400',
        f'num_goroutines{{service_name="frontend"}} {goroutines}',
        'num_goroutines{service_name="matching"} 60',
        'memory_allocated{service_name="frontend"} 2.098072e+07',
    ]
    if exhausted:
        labels = 'namespace="default",operation="StartWorkflowExecution",resource_exhausted_cause="RpsLimit"'
        for service in ("frontend", "history"):
            lines.append(f'service_errors_resource_exhausted{{{labels},service_name="{service}"}} {exhausted}')
    if pool_in_use is not None:
        for part, value in (("max_open_conn", 40), ("open_conn", 40), ("idle_conn", 0), ("in_use", pool_in_use)):
            lines.append(f'persistence_sql_{part}{{db_kind="main",service_name="history"}} {value}')
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The reader's clock: its only element is the time [s]."""
    now = [100.0]
    monkeypatch.setattr(server.time, "monotonic", lambda: now[0])
    return now


def readings(*pages: bytes, clock: list[float]) -> list[tuple[ServerVitals, dict[str, str]]]:
    """Two seconds apart."""
    answers = iter(pages)
    found = []
    with serving(lambda _: (200, next(answers))) as url:
        source = ServerSource(f"{url}/metrics")
        for _ in pages:
            reading = source.read()
            found.append((reading.vitals, dict(reading.missing)))
            clock[0] += 2
    return found


def parse(text: bytes) -> Page:
    """Read a page twice: first when it is new to the parser, then when its series are known."""
    parser = Parser()
    new = parser.parse(text)
    assert parser.parse(bytearray(text) + b"service_requests{", len(text)) == new, "what is beyond the size is not read"
    return new


@pytest.mark.parametrize("size", [1, 7, 64, 300, 1000, 2000])
def test_parts_of_any_size_read_the_same(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page is cut for searching makes no difference to what is read, nor does what its first line is."""
    text = page(exhausted=3, pool_in_use=5)
    whole = parse(text)
    assert whole.lines == 23, "as counted by hand above"
    monkeypatch.setattr(server_page, "PART", size)
    assert parse(text) == parse(text.rstrip()) == whole
    assert parse(text.partition(b"counter\n# TYPE service_requests counter\n")[2]) == whole


@pytest.mark.parametrize(
    "suffixes", [("_total", "_seconds"), ("_total", "_milliseconds"), ("", "_milliseconds"), ("", "")]
)
def test_a_page_of_opentelemetry_reads_the_same(suffixes: tuple[str, str]) -> None:
    """Whatever its server's configuration makes of names and units; as server 1.32 wrote them with each."""
    counter, unit = suffixes
    text = page(exhausted=3, pool_in_use=5).decode().replace("{", '{otel_scope_name="temporal",')
    text = re.sub(r"(service_requests|service_errors_resource_exhausted)", rf"\1{counter}", text)
    text = re.sub(r"_(latency)_(bucket|sum|count)", rf"_\1{unit}_\2", text)
    if unit != "_seconds":
        text = re.sub(r'le="([0-9.]+)"', lambda found: f'le="{float(found[1]) * 1e3:g}"', text)
        text = re.sub(r"(_sum\{.*\}) ([0-9.]+)", lambda found: f"{found[1]} {float(found[2]) * 1e3:g}", text)
    assert "1e+03" not in text
    ours = parse(page(exhausted=3, pool_in_use=5))
    theirs = parse(text.encode())
    for key, histogram in ours.histograms.items():
        assert dict(theirs.histograms[key].buckets) == pytest.approx(dict(histogram.buckets))
        assert theirs.histograms[key].sum == pytest.approx(histogram.sum)
        assert theirs.histograms[key].quantile(0.75) == pytest.approx(histogram.quantile(0.75))
        theirs.histograms[key] = histogram
    assert theirs == ours


@pytest.mark.parametrize(("name", "bounds"), [("_milliseconds", "0.5 1"), ("_seconds", "1 2"), ("", "0.5 1")])
def test_a_name_that_says_its_unit_is_believed(name: str, bounds: str) -> None:
    """Bounds are the server's configuration: they tell only where the name does not."""
    low, high = bounds.split()
    labels = 'operation="StartWorkflowExecution",service_name="frontend"'
    lines = [f'service_latency{name}_bucket{{{labels},le="{bound}"}} 4' for bound in (low, high, "+Inf")]
    lines += [f"service_latency{name}_sum{{{labels}}} 4", f"service_latency{name}_count{{{labels}}} 4"]
    found = parse("\n".join(lines).encode()).histograms["start"]
    unit = 1e-3 if name == "_milliseconds" else 1.0
    assert [*found.buckets] == pytest.approx([float(low) * unit, float(high) * unit, math.inf])
    assert found.mean() == pytest.approx(unit)


def test_a_page_with_the_type_of_each_family_reads_the_same() -> None:
    """A real page names each family before its lines; what stands under another one's name is passed over."""
    text = page(exhausted=3, pool_in_use=5)
    typed: list[str] = []
    before = ""
    for line in text.decode().splitlines()[2:]:
        family = re.sub(r"_(bucket|sum|count)$", "", line.partition("{")[0])
        typed += [f"# HELP {family} what it is", f"# TYPE {family} untyped"] if family != before else []
        typed.append(line)
        before = family
    assert parse("\n".join(typed).encode()) == parse(text)
    assert parse("\n".join(typed).replace(" untyped", "_other untyped").encode()).lines == 0


def test_counters_agree_with_the_parser_of_prometheus() -> None:
    """The frontend's requests are those that Prometheus' own parser finds on the page."""
    families = text_string_to_metric_families(page(starts=123).decode())
    theirs = sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("service_requests") and sample.labels["service_name"] == "frontend"
    )
    assert parse(page(starts=123)).requests == theirs == 127


def test_a_first_reading_has_gauges_and_no_rates(clock: list[float]) -> None:
    """A rate needs two readings: until then it is None and says so."""
    [(vitals, missing)] = readings(page(), clock=clock)
    assert vitals.host_rps_limit == 2400
    assert vitals.requests_per_second is None
    assert missing["requests_per_second"] == "a rate needs two readings"


def test_rates_are_differences_over_the_time_between(clock: list[float]) -> None:
    """200 starts more after two seconds are 100/s; the latencies are of these alone."""
    _, (vitals, _) = readings(page(10), page(210), clock=clock)
    assert (vitals.starts_per_second, vitals.requests_per_second) == (100, 100)
    assert vitals.start_mean == pytest.approx(0.002)
    assert vitals.start_p99 == pytest.approx(0.002 + 0.003 * 0.98)
    assert vitals.resource_exhausted_per_second == {}


def test_a_rate_over_less_than_the_servers_second_is_not_measured(clock: list[float]) -> None:
    """The server renews its counters once a second: half a second after a reading they tell nothing yet."""
    pages = iter([page(10), page(10), page(110)])
    with serving(lambda _: (200, next(pages))) as url:
        source = ServerSource(f"{url}/metrics")
        source.read()
        clock[0] += 0.5
        early = source.read()
        clock[0] += 0.5
        assert source.read().vitals.starts_per_second == 100
    assert early.vitals.starts_per_second is None
    assert "once a second" in early.missing["starts_per_second"]


def test_throttling_is_counted_once_and_by_cause(clock: list[float]) -> None:
    """A refusal that two services count is one, under the API's name for its cause."""
    _, (vitals, _) = readings(page(), page(exhausted=50), clock=clock)
    assert vitals.resource_exhausted_per_second == {"RPS_LIMIT": 25}


def test_a_restarted_server_gives_no_rate(clock: list[float]) -> None:
    """A counter that went backwards is not measured for that time, neither negative nor huge."""
    _, (restarted, missing), (after, _) = readings(page(500), page(10), page(30), clock=clock)
    assert (restarted.starts_per_second, restarted.start_mean) == (None, None)
    assert "restarted" in missing["starts_per_second"]
    assert after.starts_per_second == 10


def test_pools_are_not_measured_until_the_server_reports_them(clock: list[float]) -> None:
    """The SQL pools appear after a minute: before that they are None with a reason, not 0."""
    (before, missing), (after, _) = readings(page(), page(pool_in_use=40), clock=clock)
    assert before.sql_pools is None
    assert "once a minute" in missing["sql_pools"]
    assert after.sql_pools is not None
    assert after.sql_pools["history main"].in_use == 40


def test_a_gauge_measured_before_the_watch_is_not_of_the_watch(clock: list[float]) -> None:
    """A pool that was full before the launch says nothing of it, until the server has renewed its once-a-minute gauge.

    What it was before stands in the reason.
    """
    full, calm = page(pool_in_use=40), page(pool_in_use=2, goroutines=4300)
    (first, why), (still, _), (renewed, missing) = readings(full, full, calm, clock=clock)
    assert (first.sql_pools, first.goroutines, first.memory_bytes) == (still.sql_pools, *[None] * 2) == (None,) * 3
    once = "the server renews it once a minute; before the watch: "
    assert why["sql_pools"] == f"{once}history main 40 in use, 40 open of 40"
    assert (why["goroutines"], why["memory_bytes"]) == (f"{once}2,300", f"{once}20 MiB")
    assert renewed.sql_pools is not None
    assert renewed.sql_pools["history main"].in_use == 2
    assert (renewed.goroutines, renewed.memory_bytes) == (4300, 20980720), "one report of the runtime renews both"
    assert not {"sql_pools", "goroutines", "memory_bytes"} & set(missing)


def test_each_service_renews_its_gauges_at_a_moment_of_its_own(clock: list[float]) -> None:
    """A pool that was renewed counts while another one's value is still from before the watch, and so do goroutines."""

    def both(history: int) -> bytes:
        lines = page(pool_in_use=history, goroutines=2300 + history).decode().splitlines()
        pool = [line.replace("history", "matching") for line in lines if line.startswith("persistence_sql")]
        full = [f"{line.rpartition(' ')[0]} 40" if "in_use" in line else line for line in pool]
        return "\n".join([*lines, *full, ""]).replace('"matching"} 60', '"matching"} 9000').encode()

    _, (vitals, _) = readings(both(9), both(10), clock=clock)
    assert vitals.sql_pools is not None
    assert [*vitals.sql_pools] == ["history main"]
    assert vitals.goroutines == 2310, "not the 9,000 that another service of the process told before the watch"


def test_a_gauge_renewed_as_it_was_counts_after_a_minute(clock: list[float]) -> None:
    """A pool that stays full looks the same when it is renewed: a minute and a second on it is measured in any case."""
    (first, _), *_, (last, missing) = readings(*[page(pool_in_use=40)] * 32, clock=clock)
    assert (first.sql_pools, first.goroutines) == (None, None)
    assert last.sql_pools is not None
    assert last.sql_pools["history main"].in_use == 40
    assert (last.goroutines, "sql_pools" in missing) == (2300, False)


def test_a_gauge_that_is_not_set_yet_is_no_zero(clock: list[float]) -> None:
    """A young server's page has 0 goroutines and no memory until it reports them: that is not measured."""
    unset = page(goroutines=0).replace(b" 2.098072e+07", b" 0").replace(b'"matching"} 60', b'"matching"} 0')
    (young, missing), (older, _) = readings(unset, page(goroutines=2387), clock=clock)
    assert (young.goroutines, young.memory_bytes) == (None, None)
    assert missing["goroutines"] == missing["memory_bytes"] == "the server renews it once a minute"
    assert (older.goroutines, older.memory_bytes) == (2387, 20980720)


def test_a_page_without_a_gauge_is_not_one_that_will_renew_it(clock: list[float]) -> None:
    """A filtered or federated page without goroutines or memory has none: no minute of waiting brings them."""
    no_memory = page().replace(b"memory_allocated", b"other")
    neither = no_memory.replace(b"num_goroutines", b"others")
    (_, half), (vitals, missing) = readings(no_memory, neither, clock=clock)
    assert half["memory_bytes"] == "the page has none"
    assert half["goroutines"].startswith("the server renews it once a minute")
    assert (vitals.goroutines, missing["goroutines"], missing["memory_bytes"]) == (None, *["the page has none"] * 2)


def test_no_starts_have_no_latency(clock: list[float]) -> None:
    """In a second without starts their latency is None, not 0."""
    _, (vitals, missing) = readings(page(10), page(10), clock=clock)
    assert (vitals.starts_per_second, vitals.start_p99) == (0, None)
    assert missing["start"] == "there were none"


def test_a_page_without_a_frontend_has_no_rates_of_requests(clock: list[float]) -> None:
    """The page of a history host tells nothing of requests, starts and refusals: none of them is 0."""

    def of_history(starts: int) -> bytes:
        lines = page(starts, exhausted=starts).decode().splitlines()
        lines += histogram(
            "persistence_latency", 'operation="CreateWorkflowExecution",service_name="history"', [starts] * 4, 1.0
        )
        return "\n".join([line for line in lines if '"frontend"' not in line] + [""]).encode()

    _, (vitals, missing) = readings(of_history(10), of_history(60), clock=clock)
    none = ("starts_per_second", "requests_per_second", "resource_exhausted_per_second", "start_mean")
    assert [getattr(vitals, name) for name in none] == [None] * 4
    assert {missing[name] for name in (*none[:3], "start")} == {"the page has none of the frontend"}
    assert vitals.create_p99 is not None, "what the host does have is measured"


def test_a_page_without_a_histogram_is_not_one_without_observations(clock: list[float]) -> None:
    """That nothing waited for a shard is said of a page that counts it, of another that it has no such histogram."""
    _, (_, counted), (_, absent) = readings(page(10), page(10), page(10).replace(b"semaphore", b"other"), clock=clock)
    assert (counted["shard_wait"], absent["shard_wait"]) == ("there were none", "the page has none")
    assert absent["create"] == "the page has none"


@pytest.mark.parametrize(("q", "expected"), [(0.0, 0.0), (0.25, 0.0005), (0.5, 0.001), (1.0, 0.002)])
def test_quantiles_are_interpolated_as_prometheus_does(q: float, expected: float) -> None:
    """A quantile lies in its bucket in proportion; beyond the last bound it is that bound."""
    assert Histogram({0.001: 50, 0.002: 99, math.inf: 100}, 100, 0.2).quantile(q) == pytest.approx(expected)


def test_a_tunnel_is_not_taken_for_the_server(clock: list[float]) -> None:
    """Whatever hands the page on listens here, too; its CPU would be shown as the server's."""
    for vitals, missing in readings(page(900), page(1000), clock=clock):
        assert (vitals.cpus_used, vitals.rss_bytes) == (None, None)
        assert missing["cpus_used"] == "its process is not known on this machine"


def test_a_server_that_is_away_says_so_and_comes_back(clock: list[float]) -> None:
    """Nobody listening is "no answer: connection refused"; the same reader goes on when the server is back."""
    with serving(lambda _: (200, page(900))) as url:
        source = ServerSource(f"{url}/metrics")
        source.read()
    port = int(url.rpartition(":")[2])
    with pytest.raises(NotMeasuredError, match=r"^no answer: connection refused$"):
        source.read()
    with serving(lambda _: (200, page(1000)), port):
        back = source.read()
        assert (back.vitals.host_rps_limit, back.vitals.starts_per_second) == (2400, None)
        clock[0] += 1
        assert source.read().vitals.starts_per_second == 0


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(503, b"", "HTTP status 503"), (200, b"<html>hello</html>", "no metrics of a Temporal server")],
)
def test_another_page_is_not_measured(status: int, body: bytes, reason: str) -> None:
    """An error page or some other site is a reason, not a row of zeros."""
    with serving(lambda _: (status, body)) as url, pytest.raises(NotMeasuredError, match=reason):
        ServerSource(f"{url}/metrics").read()


@pytest.mark.parametrize("url", ["localhost:9090", "ftp://h/m", "http://", "http://u:hunter2@h/metrics", "http://h:x/"])
def test_a_wrong_url_is_refused_before_anything_is_read(url: str) -> None:
    """A URL that cannot be one is misuse; a password in it is not repeated."""
    with pytest.raises(UsageError, match="--server-metrics is") as refused:
        ServerSource(url)
    assert "hunter2" not in str(refused.value)
