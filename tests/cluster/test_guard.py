"""The guard decides from the address alone."""

from __future__ import annotations

import socket

import pytest

from capacity.cluster.guard import check_count, check_target, starts_left
from capacity.cluster.target import TLS, Target
from capacity.errors import GuardRefusalError, UsageError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard neither dials nor resolves: any socket or lookup in these tests fails them."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the guard touched the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    for variable in ("CAPACITY_ALLOW_TARGET", "CAPACITY_MAX_STARTS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "[::1]", "[0:0:0:0:0:0:0:1]", "localhost", "LocalHost"])
def test_loopback_is_a_dev_target(host: str) -> None:
    """Every spelling of loopback passes, and the sentence says why."""
    assert check_target(Target(f"{host}:7233")) == f"{host}:7233 is loopback: a dev target"


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "0.0.0.0",
        "128.0.0.1",
        "temporal.example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "127.1",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
    ],
)
def test_anything_else_is_refused(host: str) -> None:
    """A host that only looks like loopback is refused, and the refusal says how to allow it."""
    with pytest.raises(GuardRefusalError, match="--allow-target") as refusal:
        check_target(Target(f"{host}:7233"))
    assert f"{host}:7233" in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    "address",
    [
        "",
        "temporal",
        ":7233",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:７２３３",
        "127.0.0.1:7233/",
        "::1:7233",
        "[::1]",
        "[127.0.0.1]:7233",
        "http://127.0.0.1:7233",
        "dns:///127.0.0.1:7233",
        "unix:/tmp/socket:1",
        "user@127.0.0.1:7233",
        "127.0.0.1:7233,10.0.0.1:7233",
        " 127.0.0.1:7233",
        "127.0.0.1:7233\n",
    ],
)
def test_a_malformed_address_gets_one_clear_line(address: str) -> None:
    """What is not HOST:PORT is named as such, on one line."""
    with pytest.raises(UsageError, match="is not HOST:PORT") as error:
        check_target(Target(address))
    assert "\n" not in str(error.value)


def test_an_allowed_address_passes_whatever_the_case_of_its_host() -> None:
    """Host names are compared as DNS does: case and a final dot do not matter."""
    sentence = check_target(Target("temporal.dev:7233"), allowed=["other:1", "Temporal.Dev.:7233"])
    assert sentence == "temporal.dev:7233 is allowed by name"


def test_allowing_one_port_allows_no_other() -> None:
    """An allowed address is a host and a port, not a host."""
    with pytest.raises(GuardRefusalError):
        check_target(Target("temporal.dev:7234"), allowed=["temporal.dev:7233"])


@pytest.mark.parametrize(
    "host", ["x.a1b2c.tmprl.cloud", "us-east-1.aws.api.temporal.io", "X.TMPRL.CLOUD", "x.tmprl.cloud."]
)
def test_temporal_cloud_must_be_spelled_out_exactly(host: str) -> None:
    """A Cloud address passes only when it is allowed letter by letter."""
    target = Target(f"{host}:7233")
    with pytest.raises(GuardRefusalError, match="a Temporal Cloud address"):
        check_target(target, allowed=[f"{host.swapcase()}:7233"])
    assert check_target(target, allowed=[f"{host}:7233"]).endswith("allowed by name")


def test_the_variable_and_the_profile_allow_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names who allowed it."""
    assert check_target(Target("a.b:1", allowed=("a.b:1",))) == "a.b:1 is allowed by the profile"
    monkeypatch.setenv("CAPACITY_ALLOW_TARGET", "x:1, a.b:1")
    assert check_target(Target("a.b:1")) == "a.b:1 is allowed by CAPACITY_ALLOW_TARGET"


@pytest.mark.parametrize("source", ["name", "the profile", "CAPACITY_ALLOW_TARGET"])
def test_a_malformed_allowed_address_is_said(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allowed address with a typo is an error that says where it stands, not a silent refusal."""
    typo = ("temporal.dev",)
    monkeypatch.setenv("CAPACITY_ALLOW_TARGET", "temporal.dev" if source == "CAPACITY_ALLOW_TARGET" else "")
    target = Target("temporal.dev:7233", allowed=typo if source == "the profile" else ())
    with pytest.raises(UsageError, match=rf"allowed by {source} 'temporal\.dev' is not HOST:PORT"):
        check_target(target, typo if source == "name" else ())


def test_secrets_are_in_no_repr_and_no_refusal() -> None:
    """Key, certificate and headers never show."""
    tls = TLS(server_root_ca_cert=b"s3cret", client_cert=b"s3cret", client_private_key=b"s3cret")
    target = Target("a.b:1", tls=tls, api_key="s3cret", metadata={"authorization": "s3cret"})
    with pytest.raises(GuardRefusalError) as refusal:
        check_target(target)
    assert "s3cret" not in repr(target) + str(refusal.value) + repr(refusal.value)


def test_the_cap_on_starts_is_read_at_call_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CAPACITY_MAX_STARTS allows up to its number, and any number when unset."""
    check_count(10**9)
    monkeypatch.setenv("CAPACITY_MAX_STARTS", "1000")
    check_count(1000)
    with pytest.raises(GuardRefusalError, match="refused to launch 1001 starts"):
        check_count(1001)


def test_what_the_cap_leaves_is_what_was_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement of many loads keeps to the cap over all of them."""
    assert starts_left(10**9) is None
    monkeypatch.setenv("CAPACITY_MAX_STARTS", "1000")
    assert (starts_left(0), starts_left(999)) == (1000, 1)
    with pytest.raises(GuardRefusalError, match="CAPACITY_MAX_STARTS=1000"):
        starts_left(1000)


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "1e3"])
def test_a_malformed_cap_is_said(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap that cannot be read stops the launch instead of being ignored."""
    monkeypatch.setenv("CAPACITY_MAX_STARTS", text)
    with pytest.raises(UsageError, match="CAPACITY_MAX_STARTS is"):
        check_count(1)
