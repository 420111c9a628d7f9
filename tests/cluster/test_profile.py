"""The target comes from Temporal's own configuration, in a fixed order, without showing a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capacity.cluster import processes, state
from capacity.cluster.profile import load_target
from capacity.cluster.state import ClusterState, Component
from capacity.errors import UsageError

FILE = """
[profile.default]
address = "file.dev:7233"
namespace = "from-file"

[profile.keyed]
address = "keyed.dev:7233"
api_key = "s3cret"
[profile.keyed.grpc_meta]
x-team = "s3cret"
[profile.keyed.capacity]
allow_target = "keyed.dev:7233"

[profile.mtls]
address = "mtls.dev:7233"
[profile.mtls.tls]
server_name = "inner"
client_cert_data = "CERT"
client_key_data = "s3cret"

[profile.half.tls]
client_cert_data = "CERT"
"""


@pytest.fixture(autouse=True)
def _own_surroundings(state_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, file or running cluster of the developer reaches these tests."""
    for variable in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file with several profiles."""
    path = tmp_path / "temporal.toml"
    path.write_text(FILE)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(path))
    return path


def _record_running_cluster(address: str) -> None:
    pid = os.getpid()
    component = Component("temporal", pid, processes.created(pid), "1.32.0", {"frontend": 7000}, "log")
    state.write(ClusterState("sqlite", address, "url", (component,), {}, True))


def test_without_anything_it_is_the_usual_dev_address() -> None:
    """Nothing configured, nothing running: 127.0.0.1:7233 in ``default``, plain text."""
    target = load_target()
    assert (target.address, target.namespace, target.tls, target.api_key) == ("127.0.0.1:7233", "default", None, None)


def test_the_order_is_argument_variable_file_running_cluster(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source wins over all that come after it."""
    _record_running_cluster("127.0.0.1:7000")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "variable.dev:7233")
    found = [load_target("argument.dev:7233").address, load_target().address]
    monkeypatch.delenv("TEMPORAL_ADDRESS")
    found.append(load_target().address)
    monkeypatch.delenv("TEMPORAL_CONFIG_FILE")
    found.append(load_target().address)
    assert found == ["argument.dev:7233", "variable.dev:7233", "file.dev:7233", "127.0.0.1:7000"]


def test_a_cluster_that_ended_is_no_target() -> None:
    """A stale state file does not name a target."""
    pid = os.getpid()
    component = Component("temporal", pid, 1.0, "1.32.0", {}, "log")
    state.write(ClusterState("sqlite", "127.0.0.1:7000", "url", (component,), {}, True))
    assert load_target().address == "127.0.0.1:7233"


def test_the_usual_file_is_found_without_a_variable(tmp_path: Path) -> None:
    """Temporal's own default file is read."""
    if os.uname().sysname == "Darwin":
        folder = tmp_path / "Library" / "Application Support" / "temporalio"
    else:
        folder = tmp_path / "temporalio"
    folder.mkdir(parents=True)
    (folder / "temporal.toml").write_text(FILE)
    assert load_target().namespace == "from-file"
    assert load_target(profile="keyed").allowed == ("keyed.dev:7233",)


def test_an_api_key_turns_tls_on(config_file: Path) -> None:
    """A key is never sent in plain text unless TLS is switched off by name."""
    keyed = load_target(profile="keyed")
    assert keyed.api_key == "s3cret"
    assert keyed.metadata == {"x-team": "s3cret"}
    assert keyed.tls is not None
    assert load_target(profile="keyed", tls=False).tls is None


def test_mtls_comes_from_the_profile_and_arguments_win(config_file: Path, tmp_path: Path) -> None:
    """The certificate is the profile's, the authority the argument's."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"CA")
    tls = load_target(profile="mtls", tls_ca=authority).tls
    assert tls is not None
    assert (tls.server_root_ca_cert, tls.client_cert, tls.client_private_key) == (b"CA", b"CERT", b"s3cret")
    assert tls.server_name == "inner"


def test_variables_choose_the_profile(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TEMPORAL_PROFILE names the profile, as for Temporal's own tools."""
    monkeypatch.setenv("TEMPORAL_PROFILE", "mtls")
    assert load_target().address == "mtls.dev:7233"


def test_the_default_profile_is_none_of_another_name(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--profile default`` is not TEMPORAL_PROFILE's where the file has none; the other variables still count."""
    config_file.write_text('[profile.staging]\naddress = "staging.dev:7233"\nnamespace = "s"\napi_key = "s3cret"\n')
    monkeypatch.setenv("TEMPORAL_PROFILE", "staging")
    assert load_target().address == "staging.dev:7233"
    found = load_target(profile="default")
    assert (found.address, found.namespace, found.api_key) == ("127.0.0.1:7233", "default", None)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "variable.dev:7233")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "variable")
    found = load_target(profile="default")
    assert (found.address, found.namespace, found.api_key) == ("variable.dev:7233", "variable", None)


@pytest.mark.parametrize(
    ("profile", "match"),
    [
        ("nowhere", "'nowhere' is not in .*allowed: default, half, keyed, mtls"),
        ("half", "the TLS client key is missing"),
    ],
)
def test_a_profile_that_cannot_be_used_is_said(profile: str, match: str, config_file: Path) -> None:
    """A missing or broken profile is one clear line."""
    with pytest.raises(UsageError, match=match):
        load_target(profile=profile)


@pytest.mark.parametrize("line", ["api_key = s3cret", "[profile", 'api_key = "s3cret', "api_key = ['s3cret']"])
def test_no_error_about_the_file_shows_its_secrets(line: str, config_file: Path) -> None:
    """A broken file is reported by its name and never by its text."""
    config_file.write_text(f"[profile.default]\n{line}\n")
    with pytest.raises(UsageError, match=r"temporal\.toml") as error:
        load_target()
    chain = error.value
    assert "s3cret" not in f"{chain} {chain.__cause__}"
    assert chain.__suppress_context__


@pytest.mark.parametrize(
    ("variable", "value", "match"),
    [
        ("TEMPORAL_CONFIG_FILE", "/nowhere/temporal.toml", "does not exist"),
        ("TEMPORAL_TLS", "perhaps", "TEMPORAL_TLS is 'perhaps'"),
        ("TEMPORAL_ADDRESS", "nonsense", "'nonsense' is not HOST:PORT"),
        ("TEMPORAL_PROFILE", "nowhere", "'nowhere' is not in"),
    ],
)
def test_a_variable_that_cannot_be_used_is_said(
    variable: str, value: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No set variable is ignored in silence."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=match):
        load_target()


def test_a_certificate_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """The path is in the error."""
    with pytest.raises(UsageError, match=r"nowhere\.pem"):
        load_target(tls_ca=tmp_path / "nowhere.pem")
