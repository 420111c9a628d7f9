"""CPU of remote hosts by a Prometheus."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from capacity.observe.prometheus import QUERIES, PrometheusSource
from capacity.observe.vitals import NotMeasuredError
from tests.observe.pages_served import serving


def prometheus(path: str) -> tuple[int, bytes]:
    """Knows the server's processes and nothing else."""
    [query] = parse_qs(urlsplit(path).query)["query"]
    assert all(each in query for each in QUERIES.values()), "one round trip for all"
    asked = f'label_replace({QUERIES["server processes"]}, "what", "server processes", "", "")'
    result = [{"metric": {"what": "server processes"}, "value": [1, "3.25"]}] if asked in query else []
    return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def test_what_a_query_does_not_find_is_not_measured() -> None:
    """Each stored query that returns nothing is missing with that reason; the others have their value."""
    with serving(prometheus) as url:
        reading = PrometheusSource(url).read()
    assert reading.vitals.cpus == {"server processes": 3.25}
    assert set(reading.missing) == set(QUERIES) - {"server processes"}
    assert set(reading.missing.values()) == {"the query returned nothing"}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status":"success","data":{"result":[{}]}}'])
def test_another_service_is_named_as_such(body: bytes) -> None:
    """What is no Prometheus is not measured, whatever it answers."""
    with serving(lambda _: (200, body)) as url, pytest.raises(NotMeasuredError, match="not Prometheus'"):
        PrometheusSource(url).read()


def test_its_own_error_is_passed_on() -> None:
    """A query that Prometheus refuses shows Prometheus' words."""
    body = json.dumps({"status": "error", "error": "too many samples"}).encode()
    with serving(lambda _: (200, body)) as url, pytest.raises(NotMeasuredError, match="too many samples"):
        PrometheusSource(url).read()


# -- a real one -------------------------------------------------------------------------------------------------------

COUNTERS = {
    "process_cpu_seconds": {
        'job="temporal-frontend"': 0.5,
        'job="temporal-history"': 0.7,
        'job="postgres-exporter"': 0.2,
    },
    "container_cpu_usage_seconds": {
        'container="temporal-history"': 1.1,
        'container="temporal-ui"': 5.0,
        'container="postgresql"': 0.8,
        'container="postgres-exporter"': 3.0,
    },
    "node_cpu_seconds": {
        'job="temporal-nodes",mode="user",cpu="0"': 0.3,
        'job="temporal-nodes",mode="system",cpu="1"': 0.15,
        'job="temporal-nodes",mode="idle",cpu="0"': 1.5,
        'job="postgres-nodes",mode="user",cpu="0"': 0.6,
        'job="postgres-nodes",mode="iowait",cpu="0"': 0.9,
        'job="postgres-nodes",mode="steal",cpu="1"': 0.7,
    },
}
"""CPU seconds per second of each series of a cluster's exporters, those that must be left out included."""


@pytest.fixture(scope="module")
def real(require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped such exporters every five seconds for five minutes; gives its address."""
    require(shutil.which("prometheus") is not None, "prometheus")
    folder, now = tmp_path_factory.mktemp("prometheus"), int(time.time())
    lines = []
    for name, series in COUNTERS.items():
        lines.append(f"# TYPE {name} counter")
        for labels, rate in series.items():
            lines += [f"{name}_total{{{labels}}} {rate * at} {now - 300 + at}" for at in range(0, 330, 5)]
    (folder / "scraped").write_text("\n".join([*lines, "# EOF", ""]))
    (folder / "prometheus.yml").write_text("")
    made = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "scraped"), str(folder / "data")]
    subprocess.run(made, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://{address}/-/ready", timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def test_a_real_prometheus_answers_every_stored_query(real: str) -> None:
    """Processes, containers and hosts of server and PostgreSQL, each without its UI, exporters and unused CPUs."""
    reading = PrometheusSource(real).read()
    assert reading.missing == {}
    assert reading.vitals.cpus == pytest.approx(
        {
            "server processes": 0.5 + 0.7,
            "server containers": 1.1,
            "server hosts": 0.3 + 0.15,
            "PostgreSQL containers": 0.8,
            "PostgreSQL hosts": 0.6,
        },
        rel=0.02,
    )
