"""Files that people write in TOML: descriptions of clusters, thresholds, Temporal's own profiles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_WORDS, fuzzed, json_texts, only_ours, refused, toml_files, unreadable

from capacity.cluster.guard import check_target, split_address
from capacity.cluster.profile import load_target
from capacity.errors import UsageError
from capacity.model import shipped
from capacity.model.cluster import DEFAULTS, Cluster
from capacity.model.limits import ceilings
from capacity.verdict.thresholds import quantity, thresholds

CLUSTERS = tuple(shipped.path("clusters", name).read_text(encoding="utf-8") for name in shipped.names("clusters"))
LIMITS = """
[start_p99]
limit = 0.1
[batch_duration]
per = 1000
[tasks]
window = 30
title = "Tasks"
severity = "info"
baseline = [1.0, 2.0]
source = "us"
"""
PROFILES = """
[profile.default]
address = "127.0.0.1:7233"
namespace = "default"
api_key = "secret"
[profile.default.tls]
disabled = true
server_name = "host"
client_cert_path = "/nowhere/cert.pem"
client_key_path = "/nowhere/key.pem"
[profile.default.grpc_meta]
"x-y" = "z"
[profile.default.capacity]
allow_target = ["temporal.dev:7233"]
"""


@fuzzed(30)
@given(toml_files(*CLUSTERS))
def test_any_description_of_a_cluster_has_ceilings_or_is_refused(file: Path, content: bytes) -> None:
    """Whatever a description holds, its ceilings can be told or one line says what is wrong."""
    file.write_bytes(content)
    with only_ours():
        cluster = Cluster.load(file)
        json.dumps(cluster.to_dict(), allow_nan=False)
        assert isinstance(ceilings(cluster), list | tuple)


TABLE: dict[str, Any] = {
    "name": "mine",
    "store": "postgres",
    "cores": 8,
    "shards": 4,
    "network_delay": 0.001,
    "frontends": 2,
    "limits": {"frontend.rps": 2400, "history": {"rps": 3000}, "frontend.namespaceBurstRatio": 2.0},
}


@fuzzed(30)
@given(json_texts(TABLE), st.sampled_from([*Cluster.model_fields, *DEFAULTS, "x"]))
def test_any_table_is_a_cluster_or_one_line(text: str, key: str) -> None:
    """Any keys and values, of any kind and size, give a cluster or one line; so does any change to one."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        return
    with only_ours():
        if isinstance(table, dict):
            assert set(Cluster.model_validate(table).limits) == set(DEFAULTS)
    with only_ours():
        Cluster(name="mine", cores=8).changed({key: table})
    with only_ours():
        Cluster(name="mine", cores=8).changed(table if isinstance(table, dict) else {"cores": 10**5000})


@fuzzed(30)
@given(toml_files(LIMITS))
def test_any_thresholds_are_thresholds_or_refused(file: Path, content: bytes) -> None:
    """Whatever a file of thresholds holds, each can be shown and crossed, or one line refuses the file."""
    file.write_bytes(content)
    with only_ours():
        for threshold in thresholds(file):
            json.dumps(threshold.to_dict(), allow_nan=False)
            assert quantity(threshold.limit, threshold.unit)
            assert threshold.crossed(-1.0) != threshold.crossed(1e300)


def _variables(**given: str) -> Any:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TEMPORAL_", "CAPACITY_ALLOW"))}
    return mock.patch.dict(os.environ, {**kept, **given}, clear=True)


@fuzzed(30)
@given(toml_files(PROFILES), st.sampled_from([None, "default", "x", "profile", "\0"]))
def test_any_profile_is_a_target_or_refused(file: Path, content: bytes, name: str | None) -> None:
    """Whatever Temporal's configuration file holds, it names a target or one line without a secret refuses it."""
    file.write_bytes(content)
    with _variables(TEMPORAL_CONFIG_FILE=str(file)), only_ours(secret="secret"):
        check_target(load_target(profile=name))


VARIABLES = (
    *("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE"),
    *("TEMPORAL_TLS", "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_SERVER_NAME"),
    *("TEMPORAL_TLS_CLIENT_CERT_DATA", "TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"),
    *("TEMPORAL_GRPC_META_X", "CAPACITY_ALLOW_TARGET", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "CAPACITY_STATE_DIR"),
)
_SETTABLE = ODD_WORDS.filter(lambda word: "\0" not in word and all(not "\ud800" <= c <= "\udc7f" for c in word))
"""What an operating system lets a variable be."""


@fuzzed()
@given(st.dictionaries(st.sampled_from(VARIABLES), _SETTABLE, min_size=1, max_size=4))
def test_any_variables_are_a_target_or_refused(values: dict[str, str]) -> None:
    """Whatever the variables say that name a target, there is one or one line says which of them is wrong."""
    with _variables(**values), only_ours():
        check_target(load_target())


@fuzzed()
@given(ODD_WORDS, st.sampled_from(["{}", "{}:7233", "[{}]:7233", "127.0.0.1:{}", "a.{}.tmprl.cloud:7233"]))
def test_any_address_is_split_or_refused(word: str, around: str) -> None:
    """An address is a host and a port from 1 to 65535 or it is refused; nothing is resolved."""
    with only_ours():
        host, port = split_address(around.format(word))
        assert host
        assert 1 <= port <= 65535


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    """A folder, a missing file, a name that cannot be and a file without an end are refused with their name."""
    for path in unreadable(tmp_path):
        for read in (Cluster.load, thresholds, lambda path: load_target(tls_ca=path)):
            with refused():
                read(path)
        if "\0" not in str(path) and "\udcff" not in str(path):
            with _variables(TEMPORAL_CONFIG_FILE=str(path)), refused():
                load_target()


def test_dots_in_a_text_are_no_nesting(file: Path) -> None:
    """A note with a long dotted word is a note; only a key of so many parts is nested too deeply."""
    dotted = ".".join("x" * 60)
    file.write_text(f'note = "see {dotted}" # {dotted}\ncores = 2\n')
    assert Cluster.load(file).note == f"see {dotted}"
    for nested in (f"{dotted} = 1", f"[{dotted}]", f" [[ {dotted} ]]", f"a = {{ b = 1, {dotted} = 1 }}"):
        file.write_text(f"cores = 2\n{nested}\n")
        with pytest.raises(UsageError, match="nested too deeply"):
            Cluster.load(file)


@pytest.mark.parametrize("content", [b"cores = 0x" + b"f" * 9000, b"limits." + b"a." * 9000 + b"b = 1"])
def test_what_toml_allows_and_nobody_can_show_is_refused(file: Path, content: bytes) -> None:
    """A number of thousands of digits and a key of thousands of parts are legal TOML, and one line here."""
    file.write_bytes(content)
    for read in (Cluster.load, thresholds):
        with refused():
            read(file)
