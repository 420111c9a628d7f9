"""`capacity launch` and `capacity runs` as a user meets them, on the real dev server."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from capacity.cluster.devserver import DevServer
from capacity.launcher.header import Header
from capacity.launcher.progress import STOPPED_AT_ONCE
from tests.cli.conftest import Command, arguments_of

pytestmark = pytest.mark.devserver


@pytest.fixture
def chain() -> str:
    """A chain id of the test's own, so that no test sees another's workflows."""
    return f"chain-{os.urandom(4).hex()}"


def record(out: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(out)
    assert loaded["count"] == sum(
        int(str(loaded[key])) for key in ("scheduled", "already_running", "already_finished", "failed", "not_attempted")
    )
    return loaded


def test_a_batch_is_started_and_verified(capacity: Command, devserver: DevServer, chain: str) -> None:
    """A launch says how many the server holds, and logs the original's line."""
    done = capacity(
        "launch", "--count", 300, "--chain-id", chain, "--address", devserver.address, "--parallelism", "4x"
    )
    assert done.code == 0, done.err
    assert "verified 300 of 300" in done.out
    line = next(json.loads(line) for line in done.err.splitlines() if line.startswith("{"))
    assert line["event"] == "Batch workflow scheduling completed"
    assert (line["chain_id"], line["scheduled"], line["already_running"], line["failed"]) == (chain, 300, 0, 0)
    assert line["workflows_per_sec"] > 0


def test_the_same_batch_again_is_not_a_fast_one(capacity: Command, devserver: DevServer, chain: str) -> None:
    """Starting what already runs reports 0 scheduled, N already running, and no throughput."""
    words = ("launch", "--count", 200, "--chain-id", chain, "--address", devserver.address, "--json")
    assert capacity(*words).code == 0
    done = capacity(*words)
    again = record(done.out)
    assert done.code == 0
    assert (again["scheduled"], again["already_running"], again["failed"], again["verified"]) == (0, 200, 0, 200)
    assert again["starts_per_second"] == 0


def test_a_worker_completes_the_batch(capacity: Command, devserver: DevServer, chain: str) -> None:
    """With --worker the workflows are executed, and launching them again finds them finished."""
    words = (
        "launch",
        "--count",
        40,
        "--chain-id",
        chain,
        "--task-queue",
        chain,
        "--address",
        devserver.address,
        "--json",
    )
    done = capacity(*words, "--worker")
    assert done.code == 0, done.err
    assert record(done.out)["completed"] == 40
    assert record(capacity(*words).out)["already_finished"] == 40


def test_no_server(capacity: Command) -> None:
    """An address where nothing listens is one line and exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    done = capacity("launch", "--count", 5, "--address", address)
    assert (done.code, f"no server listens at {address}" in done.error) == (1, True)


def test_a_port_that_speaks_http(capacity: Command, devserver: DevServer) -> None:
    """The server's HTTP port instead of its gRPC port is recognised as such."""
    done = capacity("launch", "--count", 5, "--address", f"127.0.0.1:{devserver.http_port}")
    assert (done.code, "HTTP" in done.error) == (1, True)


def test_a_port_that_says_nothing(capacity: Command) -> None:
    """A port that accepts and never answers is named as no Temporal frontend."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = capacity("launch", "--count", 5, "--address", address)
    assert (done.code, "does not answer as a Temporal frontend" in done.error) == (1, True)


def test_a_missing_namespace(capacity: Command, devserver: DevServer) -> None:
    """A namespace that does not exist is named, with the command that creates it."""
    done = capacity("launch", "--count", 5, "--address", devserver.address, "--namespace", "nowhere")
    assert done.code == 1
    assert "namespace 'nowhere' does not exist" in done.error
    assert "temporal operator namespace create" in done.error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--count", "0"), "count is 0; allowed: 1 or more"),
        (("--count", "-3"), "count is -3; allowed: 1 or more"),
        (("--count", "many"), "'many'"),
        ((), "no batch is named"),
        (("--count", "5", "--task-queue", "q" * 2000), "is 2,000 bytes long"),
        (("--count", "5", "--chain-id", "c" * 2000), "workflow id"),
        (("--count", "5", "--parallelism", "fast"), "parallelism is 'fast'"),
        (("--count", "5", "--parallelism", "0"), "parallelism is '0'"),
        (("--count", "5", "--parallelism", "0x"), "the multiplier is 0"),
        (("--count", "5", "--rate", "-1"), "rate is -1"),
        (("--count", "5", "--rate", "5", "--parallelism", "3"), "--rate and --parallelism exclude each other"),
        (("--count", "5", "--on-existing", "replace"), "on-existing is 'replace'"),
        (("--count", "5", "--priority-key", "9"), "--priority-key is 9"),
        (("--count", "5", "--input-template", "{"), "is not JSON"),
        (("--count", "5", "--input-template", '"{blok}"'), "names 'blok'"),
        (("--count", "5", "--memo", "x"), "--memo is 'x'"),
        (("--count", "5", "--memo", "a=1", "--memo", "a=2"), "--memo gives a twice; pass it once"),
        (("--items", "f.csv", "--from-height", "0"), "--from-height does not go with --items; the file has the ids"),
        (("--items", "f.csv", "--chain-id", "mainnet"), "--chain-id does not go with --items"),
        (("--count", "5", "--no-vitals", "--prometheus", "http://a:1"), "--prometheus does not go with --no-vitals"),
        (("--count", "5", "--parallelism", "8", "--max-in-flight", "4"), "--max-in-flight does not go with"),
        (("--items", "nowhere.csv"), "cannot read items file nowhere.csv"),
        (("--count", "5", "--record", "/nowhere/at/all.json"), "--record /nowhere/at/all.json cannot be written"),
        (("--count", "5", "--record", "a.json", "--journal", "a.json"), "would replace a file of the run's own"),
        (("--count", "5", "--address", "here"), "'here' is not HOST:PORT"),
        (("--count", "5", "--address", "temporal.prod.example:7233"), "--allow-target"),
        (("--count", "5", "--deadline", "0"), "deadline is 0 s"),
        (("--count", "5", "--from-height", "-1"), "from-height is -1"),
        (("--count", "5", "--fleet-queue", "q"), "--fleet-queue needs --fleet"),
        (("--count", "5", "--fleet-namespace", "n"), "--fleet-namespace needs --fleet"),
        (("--count", "5", "--dry-run", "--fleet", "--processes", "4"), "--processes and --fleet exclude each other"),
        (("--count", "5", "--dry-run", "--processes", "0"), "processes is 0"),
        (("--count", "5", "--dry-run", "--metrics-port", "99999"), "--metrics-port 99999"),
    ],
)
def test_misuse_is_one_line(in_process: Command, words: tuple[str, ...], expected: str) -> None:
    """What is wrong with a request is said before anything is dialled, with exit code 2."""
    done = in_process("launch", *words)
    assert done.code == 2
    assert expected in done.error


def test_the_cap_on_starts(capacity: Command, devserver: DevServer) -> None:
    """CAPACITY_MAX_STARTS refuses a larger batch."""
    done = capacity("launch", "--count", 50, "--address", devserver.address, CAPACITY_MAX_STARTS="49")
    assert done.code == 2
    assert "CAPACITY_MAX_STARTS" in done.error


def test_a_bound_that_would_do_nothing_is_refused_and_no_other(in_process: Command) -> None:
    """--max-in-flight bounds auto and --rate, however they are asked for; what fixes the starts in flight is named."""
    words = ("launch", "--count", "5", "--dry-run", "--max-in-flight", "9")
    for fixed, environment in ((("--parallelism", "48"), {}), ((), {"SCHEDULER_MAX_PARALLELISM": "48"})):
        done = in_process(*words, *fixed, **environment)
        name = "parallelism" if fixed else "SCHEDULER_MAX_PARALLELISM"
        assert done.code == 2
        assert f"--max-in-flight does not go with 48 in flight: {name} 48; pass --parallelism auto" in done.error
    for bounded in ((), ("--parallelism", " Auto "), ("--rate", "3")):
        assert "at most 9 in flight" in in_process(*words, *bounded).out
    assert "at most 9 in flight" in in_process(*words, "--rate", "3", SCHEDULER_MAX_PARALLELISM="48").out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_drains_and_can_be_resumed(
    devserver: DevServer, capacity: Command, state_folder: str, chain: str, number: int
) -> None:
    """One interrupt drains what is in flight, says how to go on, and the rest is started by --resume."""
    words = ("launch", "--count", "400", "--chain-id", chain, "--address", devserver.address, "--json")
    environment = {**os.environ, "CAPACITY_STATE_DIR": state_folder}
    process = subprocess.Popen(
        arguments_of((*words, "--rate", "40")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()  # the first line of progress: it is under way
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    interrupted = record(out)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert line
    assert 0 < int(str(interrupted["scheduled"])) < 400
    assert int(str(interrupted["not_attempted"])) > 0
    assert f"--resume --journal {interrupted['journal']}" in err
    resumed = record(capacity(*words, "--resume", "--journal", interrupted["journal"]).out)
    assert (resumed["scheduled"], resumed["verified"], resumed["not_attempted"]) == (400, 400, 0)
    assert resumed["run_id"] == interrupted["run_id"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_second_interrupt_stops_at_once(
    devserver: DevServer, capacity: Command, state_folder: str, chain: str, processes: str
) -> None:
    """Two interrupts do not wait even for a server that stands still; the journal stays usable."""
    words = ("launch", "--count", "320", "--chain-id", chain, "--address", devserver.address, "--json")
    environment = {**os.environ, "CAPACITY_STATE_DIR": state_folder}
    process = subprocess.Popen(
        arguments_of((*words, "--rate", "32", "--processes", processes)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()
    os.kill(devserver.pid, signal.SIGSTOP)
    time.sleep(0.2)  # by now some are in flight
    try:
        process.send_signal(signal.SIGINT)
        said = ""
        while "once more to stop at once" not in said:  # two signals before the first is seen are one
            said = process.stderr.readline()
            assert said, "it ended at the first"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        os.kill(devserver.pid, signal.SIGCONT)
    assert process.returncode == 130, err
    assert record(out)["stopped"] == STOPPED_AT_ONCE
    resumed = record(capacity(*words, "--resume").out)
    assert (resumed["scheduled"], resumed["verified"]) == (320, 320)


def test_an_items_file_and_its_failures(capacity: Command, devserver: DevServer, tmp_path: Path, chain: str) -> None:
    """A CSV of items is launched; a bad line fails alone, and what failed exports as an items file that launches."""
    items = tmp_path / "items.csv"
    with items.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "chain_id", "note"])
        rows.writerows([f"{chain}:{i}", chain, 'a "quoted",\nnote'] for i in range(50))
        rows.writerow(["", chain, "no id"])
        rows.writerow([f"{chain}:big", chain, "x" * 3_000_000])
    done = capacity("launch", "--items", items, "--address", devserver.address, "--json")
    made = record(done.out)
    assert done.code == 1
    assert "2 of 52 failed" in done.error
    assert made["scheduled"] == 50
    errors = made["errors"]
    assert isinstance(errors, dict)
    assert errors.pop("BAD_ITEM") == 1
    assert sum(errors.values()) == 1
    again = tmp_path / "again.jsonl"
    assert capacity("runs", "failed", "last", "--out", again).code == 0
    lines = [json.loads(line) for line in again.read_text().splitlines()]
    assert [line["id"] for line in lines] == [None, f"{chain}:big"]
    lines[1]["note"] = "shorter"
    again.write_text(json.dumps(lines[1]) + "\n")
    assert record(capacity("launch", "--items", again, "--address", devserver.address, "--json").out)["verified"] == 1


def test_a_dry_run_starts_nothing(capacity: Command, devserver: DevServer, chain: str) -> None:
    """--dry-run shows target, guard, policy, first and last request, and no workflow exists afterwards."""
    words = ("launch", "--count", 100, "--chain-id", chain, "--address", devserver.address)
    done = capacity(*words, "--dry-run")
    assert done.code == 0
    for expected in ("is loopback", "REJECT_DUPLICATE", f"{chain}:index-block:0", f"{chain}:index-block:99", "nothing"):
        assert expected in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert record(capacity(*words, "--json").out)["scheduled"] == 100


def test_a_dry_run_never_dials(capacity: Command) -> None:
    """--dry-run works with no server at all."""
    assert capacity("launch", "--count", 5, "--address", "127.0.0.1:1", "--dry-run").code == 0


@pytest.mark.parametrize(("rate", "takes"), [("1e-310", "more than 1,000 years"), ("0.001", "1 h 23 min")])
def test_a_dry_run_says_how_long_any_rate_takes(in_process: Command, rate: str, takes: str) -> None:
    """However low a rate is, how long the batch takes at it is told."""
    done = in_process("launch", "--count", 5, "--dry-run", "--rate", rate)
    assert (done.code, f"{takes} at the {float(rate):g}/s asked for" in " ".join(done.out.split())) == (0, True)


@pytest.mark.parametrize(("count", "takes"), [(4000, "under 1 s"), (9600, "2 s")])
def test_a_dry_run_knows_that_a_limit_passes_a_burst(in_process: Command, count: int, takes: str) -> None:
    """A namespace's default limit of 2,400/s passes 4,800 starts at once, as `capacity limits` says too."""
    done = in_process("launch", "--count", count, "--dry-run")
    assert f"{takes} at best where frontend.namespaceRPS is the default 2,400/s" in " ".join(done.out.split())


def test_a_journal_is_not_overwritten(capacity: Command, devserver: DevServer, tmp_path: Path, chain: str) -> None:
    """An existing journal is refused without --resume, and one of another batch with both fingerprints."""
    words = ("launch", "--chain-id", chain, "--address", devserver.address, "--journal", tmp_path / "j")
    assert capacity(*words, "--count", 20).code == 0
    assert "pass --resume" in capacity(*words, "--count", 20).error
    foreign = capacity(*words, "--count", 21, "--resume")
    assert foreign.code == 2
    assert "belongs to another batch" in foreign.error
    assert capacity(*words, "--count", 20, "--resume").code == 0


def test_runs_are_remembered(capacity: Command, devserver: DevServer, chain: str) -> None:
    """`runs list` and `runs show` know a finished run."""
    capacity("launch", "--count", 30, "--chain-id", chain, "--address", devserver.address)
    (listed,) = json.loads(capacity("runs", "list", "--format", "json").out)
    assert (listed["count"], listed["started"], listed["failed"]) == (30, 30, 0)
    shown = capacity("runs", "show", "last")
    assert listed["run_id"] in shown.out
    assert "verified 30 of 30" in shown.out
    assert capacity("runs", "show", "nothing-like-it").code == 2


def test_clean_ends_just_its_own_run(capacity: Command, devserver: DevServer, chain: str) -> None:
    """`runs clean` ends what its run started, and leaves another run's workflows with the same prefix running.

    While it looks for them it says among how many, and how many of these it has seen.
    """
    words = ("launch", "--chain-id", chain, "--address", devserver.address, "--json")
    other = record(capacity(*words, "--count", 60).out)
    mine = record(capacity(*words, "--count", 160).out)
    assert (mine["scheduled"], mine["already_running"]) == (100, 60)
    done = capacity("runs", "clean", mine["run_id"])
    assert "100 of 100 workflows ended" in done.out
    looking = f"looking for workflows of run {mine['run_id']} among 160 of their kind\n160 of 160\n"
    assert done.err.startswith(looking)
    again = record(capacity(*words, "--count", 160).out)
    assert (again["already_running"], again["already_finished"]) == (60, 100)
    assert other["scheduled"] == 60
    Path(str(other["journal"])).unlink()  # the record alone names the batch, and the memo whose its workflows are
    assert "60 of 60 workflows ended" in capacity("runs", "clean", other["run_id"]).out


def test_clean_finds_a_run_of_a_clock_that_was_ahead(capacity: Command, devserver: DevServer, chain: str) -> None:
    """A run whose journal was made an hour ahead of the server's clock is ended like any other."""
    run = record(capacity("launch", "--chain-id", chain, "--address", devserver.address, "--json", "--count", 20).out)
    journal = Path(str(run["journal"]))
    ahead = replace(Header.read(journal), created=time.time() + 3600).pack()
    journal.write_bytes(ahead + journal.read_bytes()[len(ahead) :])
    assert "20 of 20 workflows ended" in capacity("runs", "clean", run["run_id"]).out


def test_clean_finds_a_run_whose_names_no_query_can_hold(capacity: Command, devserver: DevServer, chain: str) -> None:
    """A chain with an apostrophe is launched like any other, and its workflows, and no others, are ended."""
    words = ("launch", "--address", devserver.address, "--task-queue", chain, "--json")
    other = record(capacity(*words, "--chain-id", chain, "--count", 5).out)
    run = record(capacity(*words, "--chain-id", f"{chain}'s", "--count", 20).out)
    assert "20 of 20 workflows ended" in capacity("runs", "clean", run["run_id"]).out
    assert "5 of 5 workflows ended" in capacity("runs", "clean", other["run_id"]).out


def test_metrics_are_served_while_it_runs(capacity: Command, devserver: DevServer, chain: str) -> None:
    """--metrics-port serves Prometheus text whose counters agree with the batch, and is closed afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pages: list[str] = []

    def scrape() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as page:
                    pages.append(page.read().decode())
            except OSError:
                if pages:
                    return
            time.sleep(0.1)

    reader = threading.Thread(target=scrape)
    reader.start()
    words = ("--rate", 80, "--metrics-port", port, "--json")
    done = capacity("launch", "--count", 200, "--chain-id", chain, "--address", devserver.address, *words)
    reader.join()
    run = {"run_id": record(done.out)["run_id"]}
    scrapes = [values(page) for page in pages]
    count = ("capacity_items_total", *labels(outcome="started", **run))
    started = [scrape[count] for scrape in scrapes if count in scrape]  # the first may come before the first tick
    assert scrapes[-1]["capacity_items_planned", *labels(**run)] == 200
    assert started == sorted(started)
    assert 0 < started[-1] <= 200
    assert scrapes[-1]["capacity_start_latency_seconds_count", *labels(**run)] == started[-1]
    assert ("capacity_start_latency_seconds_bucket", *labels(le="0.001", **run)) in scrapes[-1]


def labels(**pairs: str) -> list[tuple[str, str]]:
    return sorted(pairs.items())


def values(page: str) -> dict[tuple[object, ...], float]:
    """Return the samples of a Prometheus page by name and sorted labels."""
    families = text_string_to_metric_families(page)
    return {(s.name, *labels(**s.labels)): s.value for family in families for s in family.samples}


def test_a_taken_metrics_port_is_refused(capacity: Command, devserver: DevServer) -> None:
    """A metrics port in use is one line, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = capacity("launch", "--count", 5, "--address", devserver.address, "--metrics-port", port)
    assert (done.code, f"--metrics-port {port}" in done.error) == (2, True)


def test_the_open_loop_keeps_its_rate(capacity: Command, devserver: DevServer, chain: str) -> None:
    """--rate 100 never goes faster than asked, though the server could: 300 starts take three seconds or more."""
    words = ("launch", "--count", 300, "--chain-id", chain, "--address", devserver.address, "--rate", 100, "--json")
    assert record(capacity(*words).out)["starts_per_second"] <= 101
