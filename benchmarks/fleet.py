"""Many launchers against one: what they cost on a stub, and whether they are exact on a real server.

    python benchmarks/fleet.py cost [--pairs 5] [--count 200000] [--in-flight 64] [--together]
    python benchmarks/fleet.py large [--count 750000]      # two processes; the stub counts distinct ids
    python benchmarks/fleet.py killed [--count 20000]      # three fleet workers, one killed every 5 s
    python benchmarks/fleet.py scale [--count 4000] [--rounds 3]   # fleets of 1, 2 and 4 against the simulation
    python benchmarks/fleet.py throttled [--rate 200] [--same-namespace]   # four in auto on a namespace with a limit

`cost`: a launch by one process and one by two on the same stub, in turns; quoted is the median of the pairwise ratios
of throughput per CPU second, two processes over one, with lowest and highest. Each process has 64 in flight, or, with
`--together`, two have them between them. Needs the peers: benchmarks/peer/build.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import threading
from pathlib import Path

from launcher import ours, stub

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fleet"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "launcher"))
from fleet_server import Waits, register, worker
from real_server import runs_by_id

from capacity.cluster import devserver
from capacity.cluster.target import Target
from capacity.fleet import Fleet
from capacity.fleet.looking import connected
from capacity.launcher.batch import HeightRange
from capacity.model.fleet_simulation import simulate
from capacity.observe.run import Run
from capacity.observe.session import launch

LIMITS = {"frontend.rps": "100000", "frontend.namespaceRPS": "100000", "history.rps": "100000"}


def cost(pairs: int, count: int, in_flight: int, together: bool) -> None:
    ratios = []
    for pair in range(pairs):
        each = {}
        for processes in (1, 2) if pair % 2 else (2, 1):
            with stub() as address:
                flight = in_flight * (1 if together else processes)
                words = ["--count", str(count), "--parallelism", str(flight), "--processes", str(processes)]
                each[processes] = ours(address, *words)
        per_cpu = {n: run["scheduled"] / run["cpu_seconds"] for n, run in each.items()}
        ratios.append(per_cpu[2] / per_cpu[1])
        print(
            f"pair {pair + 1}: {per_cpu[1]:,.0f} and {per_cpu[2]:,.0f} starts per CPU second, ratio {ratios[-1]:.2f}; "
            f"{each[1]['starts_per_second']:,.0f} and {each[2]['starts_per_second']:,.0f} starts/s",
            flush=True,
        )
    print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def large(count: int) -> None:
    for size in (count // 10, count):
        said: list[str] = []
        with stub("-track", said=said) as address:
            run = ours(address, "--count", str(size), "--parallelism", "64", "--processes", "2")
        rss = ", ".join(f"{value / 2**20:.1f}" for value in run["process_rss_bytes_max"])
        print(f"{size:,} items: {run['scheduled']:,} started, {run['failed']} failed;", end=" ")
        print(f"peak RSS of each {rss} MiB; stub: {said[0]}")


def fleet_run(address: str, count: int, name: str, parallelism: str, fleet: Fleet = Fleet()) -> Run:  # noqa: B008 - it is frozen
    batch, target = HeightRange(count, name), Target(address)
    return asyncio.run(launch(batch, target, parallelism=parallelism, fleet=fleet, verify=False))


def killed(count: int) -> None:
    over, victims = threading.Event(), []

    with (
        devserver.running(dynamic_config=LIMITS) as server,
        worker(server.address, 3) as fleet,
        Waits(server.address, Fleet()) as waits,
    ):
        fleet.wait_ready(3)

        def kill() -> None:
            while not over.wait(5.0):
                for victim in fleet.launchers()[:1]:
                    victim.kill()
                    victims.append(victim.pid)

        killing = threading.Thread(target=kill)
        killing.start()
        try:
            run = fleet_run(server.address, count, "killed", "9")
        finally:
            over.set()
            killing.join()
        held = runs_by_id(server.address, "killed:index-block:", count)
        print(
            f"{len(victims)} launchers killed; {run.scheduled:,} started, {run.failed} failed, {run.not_attempted} not "
            f"attempted; the server holds {len(held):,} ids with {sum(held.values()):,} runs; "
            f"a range waited for another launcher for {waits.longest:.1f} s at most"
        )


async def first_start_after(address: str, chain: str) -> float:
    """Seconds from the first range that a launcher took to the first start of its batch, by the server's clock."""
    client = await connected(Target(address), Fleet())
    started = [each.start_time async for each in client.list_workflows(f"WorkflowId STARTS_WITH '{chain}:'")]
    (batch,) = [each async for each in client.list_workflows("WorkflowType = 'LaunchBatch'")]
    async for event in client.get_workflow_handle(batch.id).fetch_history_events():
        if event.HasField("activity_task_started_event_attributes"):
            return min(started).timestamp() - event.event_time.ToNanoseconds() / 1e9
    raise AssertionError("no range was taken")


def scale(count: int, rounds: int) -> None:
    """Fleets of 1, 2 and 4 launchers and a launch without one, 8 in flight each, in turns on fresh servers."""
    kinds = (0, 1, 2, 4)
    rates: dict[int, list[float]] = {launchers: [] for launchers in kinds}
    waits = []
    order = random.Random(1)
    for number in range(rounds):
        for launchers in order.sample(kinds, len(kinds)):
            with devserver.running(dynamic_config=LIMITS) as server:
                if launchers:
                    with worker(server.address, launchers) as fleet:
                        fleet.wait_ready(launchers)
                        run = fleet_run(server.address, count, "scale", "8")
                        waits.append(asyncio.run(first_start_after(server.address, "scale")))
                else:
                    batch, target = HeightRange(count, "alone"), Target(server.address)
                    run = asyncio.run(launch(batch, target, parallelism=8, verify=False))
            assert run.scheduled == count
            rates[launchers].append(run.starts_per_second)
            print(f"round {number + 1}: {launchers or 'no'} fleet launchers: {run.starts_per_second:.0f}/s", flush=True)
    print(f"first start {min(waits):.2f} to {max(waits):.2f} s after the first range was taken")
    alone = statistics.median(rates[0])
    for launchers in kinds[1:]:
        found = simulate(lambda _: alone, count=count, processes=launchers, parallelism=8)
        ratios = [many / one for many, one in zip(rates[launchers], rates[0], strict=True)]
        print(
            f"{launchers} launchers over a launch without a fleet: {statistics.median(ratios):.2f} ({min(ratios):.2f} "
            f"to {max(ratios):.2f}) measured, {found.starts_per_second / alone:.2f} simulated"
        )


def throttled(rate: int, same_namespace: bool) -> None:
    """Four launchers in auto on a namespace with a limit: how near to it, and how many attempts are refused."""
    limits = LIMITS | {"frontend.namespaceRPS": str(rate), "frontend.globalNamespaceRPS": "0"}
    with devserver.running(dynamic_config=limits) as server, contextlib.ExitStack() as stack:
        namespace, options = None, []
        if not same_namespace:
            namespace, options = "fleet", ["--fleet-namespace", "fleet"]
            register(server.address, namespace)
        stack.enter_context(worker(server.address, 4, *options)).wait_ready(4)
        run = fleet_run(server.address, 40 * rate, "throttled", "auto", Fleet(namespace=namespace))
        late = [sample for sample in run.series if 10 <= sample.at <= 35]
        seconds = late[-1].at - late[0].at
        refused = f"{run.throttled_attempts:,} of {run.attempts:,} attempts refused"
        print(
            f"{run.scheduled:,} started in {run.duration_seconds:.1f} s, limit {rate}/s: sustained "
            f"{run.sustained_starts_per_second or 0:.1f}/s, seconds 10 to 35 "
            f"{sum(sample.starts for sample in late[1:]) / seconds:.1f}/s; {refused} "
            f"({run.throttled_attempts / run.attempts:.1%})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "large", "killed", "scale", "throttled"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--count", type=int)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--same-namespace", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        os.environ["CAPACITY_STATE_DIR"] = state
        if chosen.what == "cost":
            cost(chosen.pairs, chosen.count or 200_000, chosen.in_flight, chosen.together)
        elif chosen.what == "large":
            large(chosen.count or 750_000)
        elif chosen.what == "killed":
            killed(chosen.count or 20_000)
        elif chosen.what == "scale":
            scale(chosen.count or 4_000, chosen.rounds)
        else:
            throttled(chosen.rate, chosen.same_namespace)


if __name__ == "__main__":
    main()
