"""TLS, mTLS and API keys against a local TLS frontend: it works, or one clear line says why not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from certificates import Authority, Pair
from fake_frontend import FakeFrontend

from capacity.cluster.target import TLS, Target
from capacity.errors import CapacityError, ClusterError, UsageError
from capacity.launcher import service
from capacity.launcher.batch import HeightRange
from capacity.launcher.transport import connect
from capacity.launcher.worker import pack, unpack
from capacity.observe.run import Run
from capacity.observe.session import Journaling, launch

API_KEY = "eyJhbGciOi-very-secret"
AUTHORITY, STRANGER = Authority(), Authority("somebody else")
SERVER, CLIENT = AUTHORITY.pair(), AUTHORITY.pair()
TRUSTING = TLS(server_root_ca_cert=AUTHORITY.certificate)
MUTUAL = replace(TRUSTING, client_cert=CLIENT.certificate, client_private_key=CLIENT.key)


def credentials(pair: Pair = SERVER, *, mutual: bool = False) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], AUTHORITY.certificate if mutual else None, require_client_auth=mutual
    )


def checked(
    server: grpc.ServerCredentials | None, tls: TLS | None, key: str | None = None, wanted: str | None = None
) -> str:
    """Return the version that a check through this connection gives, or raise what it says."""

    async def check() -> str:
        frontend = FakeFrontend(api_key=wanted)
        async with (
            frontend.serving(server),
            connect(Target(frontend.address, tls=tls, api_key=key)) as connection,
        ):
            return await service.check(connection)

    return asyncio.run(check())


@pytest.mark.parametrize(
    ("server", "tls"),
    [
        (credentials(), TRUSTING),
        (credentials(mutual=True), MUTUAL),
        (credentials(AUTHORITY.pair("frontend.test")), replace(TRUSTING, server_name="frontend.test")),
    ],
    ids=["TLS", "mTLS", "another name"],
)
def test_a_trusted_frontend_is_reached(server: grpc.ServerCredentials, tls: TLS) -> None:
    """With the right authority, client certificate and name the frontend answers."""
    assert checked(server, tls) == "1.0-fake"


def test_an_api_key_is_sent_as_a_bearer_token() -> None:
    """A frontend that wants the key lets the call with it in."""
    assert checked(credentials(), TRUSTING, API_KEY, API_KEY) == "1.0-fake"


@pytest.mark.parametrize(
    ("server", "tls", "match"),
    [
        (credentials(), TLS(server_root_ca_cert=STRANGER.certificate), "not trusted.*--tls-ca"),
        (credentials(), TLS(), "not trusted.*--tls-ca"),
        (credentials(AUTHORITY.pair(days=-1)), TRUSTING, "certificate has expired"),
        (credentials(AUTHORITY.pair("frontend.test")), TRUSTING, "name.*--tls-server-name"),
        (credentials(mutual=True), TRUSTING, "--tls-cert"),
        (
            credentials(mutual=True),
            replace(MUTUAL, client_cert=(stray := STRANGER.pair()).certificate, client_private_key=stray.key),
            "--tls-cert",
        ),
        (credentials(), None, "does not speak TLS.*--tls"),
        (None, TRUSTING, "--no-tls"),
        (credentials(), TLS(server_root_ca_cert=b"no certificate"), "--tls-ca"),
        (credentials(mutual=True), replace(MUTUAL, client_private_key=b"no key"), "--tls-key"),
    ],
    ids=[
        "wrong authority",
        "system authorities",
        "expired",
        "wrong name",
        "no client certificate",
        "foreign client certificate",
        "plain text to TLS",
        "TLS to plain text",
        "authority that is no PEM",
        "key that is no PEM",
    ],
)
def test_a_connection_that_cannot_work_is_one_line(
    server: grpc.ServerCredentials | None, tls: TLS | None, match: str
) -> None:
    """Whatever is wrong with the certificates, one line names the frontend and the option to look at."""
    with pytest.raises(ClusterError, match=match) as raised:
        checked(server, tls)
    assert "127.0.0.1:" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert "no key" not in str(raised.value)


@pytest.mark.parametrize("key", [None, "wrong-key"])
def test_a_missing_or_wrong_api_key_is_one_line(key: str | None) -> None:
    """The refusal names the variable with the key and shows neither the key sent nor the one wanted."""
    with pytest.raises(ClusterError, match=r"refuses access .*TEMPORAL_API_KEY") as raised:
        checked(credentials(), TRUSTING, key, API_KEY)
    assert "\n" not in str(raised.value)
    assert "wrong-key" not in str(raised.value)


@pytest.mark.parametrize("key", ["secret-with-newline\n", "secret-é"])
def test_an_api_key_that_no_header_can_carry_is_one_line(key: str) -> None:
    """A key with a line end, as read from a file, or with other than ASCII is refused without being shown."""
    with pytest.raises(CapacityError, match="API key") as raised:
        checked(credentials(), TRUSTING, key, API_KEY)
    assert "secret" not in str(raised.value)


def test_a_binary_header_is_refused_by_its_name() -> None:
    """A header whose name ends in -bin is bytes, which no variable or profile holds: one line, without its value."""

    async def opened() -> None:
        async with connect(Target("127.0.0.1:1", metadata={"Trace-Bin": API_KEY})):
            pass

    with pytest.raises(
        UsageError, match=r"binary headers are not supported: 'trace-bin'.*TEMPORAL_GRPC_META"
    ) as raised:
        asyncio.run(opened())
    assert API_KEY not in str(raised.value)


def test_a_launch_over_mtls_with_a_key_starts_everything_and_shows_no_secret(
    tmp_path: Path, state_folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the API key nor the private key is in a repr, the record, the journal, a log or any output."""
    secrets = (API_KEY, *CLIENT.key.decode().split("\n")[1:3])

    async def run() -> tuple[Run, str]:
        frontend = FakeFrontend({0: ["internal", "ok"]}, API_KEY)
        async with frontend.serving(credentials(mutual=True)):
            target = Target(frontend.address, tls=MUTUAL, api_key=API_KEY, metadata={"x-token": API_KEY})
            async with connect(target) as connection:
                shown = f"{target!r} {target} {connection!r} {connection}"
            journaling = Journaling(tmp_path / "journal")
            run = await launch(HeightRange(50), target, parallelism=4, journaling=journaling, verify=False)
            assert len(frontend.runs) == 50
            return run, shown

    run, shown = asyncio.run(run())
    assert run.scheduled == 50
    written = [path for folder in (tmp_path, Path(state_folder)) for path in folder.rglob("*") if path.is_file()]
    assert len(written) >= 2
    texts = [shown, repr(run), run._repr_html_(), *capfd.readouterr(), *(p.read_text("latin-1") for p in written)]
    for secret in secrets:
        assert all(secret not in text for text in texts)


def test_a_refused_launch_shows_no_secret_and_leaves_the_items_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    """A key that is refused ends the launch before a journal is made, and is not in the error."""

    async def run() -> None:
        frontend = FakeFrontend(api_key="another")
        async with frontend.serving(credentials()):
            await launch(HeightRange(5), Target(frontend.address, tls=TRUSTING, api_key=API_KEY))

    with pytest.raises(ClusterError, match="refuses access") as raised:
        asyncio.run(run())
    assert API_KEY not in f"{raised.value!r}{raised.value}{''.join(capfd.readouterr())}"


def test_a_worker_process_is_told_the_whole_target() -> None:
    """What the worker reads from its standard input is the target with its secrets, and the task queue."""
    target = Target("h:1", "space", replace(MUTUAL, server_name="name"), API_KEY, {"a": "b"})
    assert unpack(pack(target, "queue")) == (target, "queue")
    assert unpack(pack(Target("h:1"), "queue")) == (Target("h:1"), "queue")
