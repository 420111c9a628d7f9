"""CPU of remote hosts by a Prometheus."""

from __future__ import annotations

import json
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
