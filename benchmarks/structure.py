"""One structure calibrated, another predicted and measured, in turns: history shards, or CPUs of the cluster.

    python benchmarks/structure.py shards [--rounds 6]     # PostgreSQL: fitted at 64 shards, predicted at 8 and 1
    python benchmarks/structure.py cpus [--store sqlite]   # fitted on one CPU, predicted on two; PostgreSQL by default
    python benchmarks/structure.py FILE                    # the tables again, of a file written by --out

In each round every structure is measured on a fresh cluster, in random order, so that a machine that gets slower or
faster meets all of them alike. Printed for each structure and parallelism: the median over the rounds of its throughput
over that of the fitted structure at the same parallelism, next to the predicted ratio; its own median throughput next
to the predicted one; and how far equal points of the fitted structure lie apart. `cpus` also prints what a second CPU
of this machine adds to a loop that shares nothing: no model can know what two CPUs do that share a core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from pathlib import Path

from capacity.experiment.sweep import Sweep
from capacity.experiment.wanted import Wanted
from capacity.model.calibration import Calibration
from capacity.model.fit import structure_of
from capacity.model.measurement import Measurements
from capacity.model.prediction import predict

SHARDS = {"64 shards": {"shards": 64}, "8 shards": {"shards": 8}, "1 shard": {"shards": 1}}
CPUS = {"1 CPU": {"cluster_cpus": frozenset({0})}, "2 CPUs": {"cluster_cpus": frozenset({0, 1})}}


def measured(kind: str, rounds: int, seconds: float, store: str) -> dict[str, Measurements]:
    """Measure all structures in turns; the first is the one to be fitted."""
    structures = SHARDS if kind == "shards" else CPUS
    fitted, *_ = structures
    at = (8, 64) if kind == "shards" else (8, 32)
    parts: dict[str, list[Measurements]] = {name: [] for name in structures}
    order = random.Random(1)
    for number in range(rounds):
        for name in order.sample(list(structures), len(structures)):
            wanted = Wanted(
                parallelisms=(1, 4, *at) if name == fitted else at,
                seconds=seconds,
                repeats=1,
                seed=number,
                store=store,
                extras=name == fitted and number == 0,
                **structures[name],
            )
            found = Sweep(wanted).run().measurements
            parts[name].append(found)
            said = ", ".join(f"{p.parallelism}: {p.throughput:.0f}/s" for p in found.points)
            print(f"round {number + 1}: {name}: {said}", flush=True)
    return {name: joined(found) for name, found in parts.items()}


def joined(parts: list[Measurements]) -> Measurements:
    """Return the rounds of one structure as one sweep."""
    points = [point.model_copy(update={"repeat": number}) for number, part in enumerate(parts) for point in part.points]
    return parts[0].model_copy(update={"points": tuple(points)})


def by_round(found: Measurements, parallelism: int) -> dict[int, float]:
    return {p.repeat: p.throughput for p in found.points if p.parallelism == parallelism}


def report(sweeps: dict[str, Measurements]) -> None:
    """Fit the first structure, predict the others, and print both next to what was measured."""
    fitted, *others = sweeps
    calibration = Calibration.of(sweeps[fitted], fitted)
    own = structure_of(sweeps[fitted].conditions)
    print(f"\nfitted on {fitted}; ratios are to that, measured in the same round\n")
    for name in others:
        at = sorted({point.parallelism for point in sweeps[name].points})
        there = predict(calibration, at, structure=structure_of(sweeps[name].conditions))
        here = predict(calibration, at, structure=own, draws=0)
        for i, parallelism in enumerate(at):
            base, found = by_round(sweeps[fitted], parallelism), by_round(sweeps[name], parallelism)
            ratios = [found[number] / base[number] for number in found if number in base]
            ratio, expected = statistics.median(ratios), there.throughput.value[i] / here.throughput.value[i]
            middle = statistics.median(found.values())
            spread = (max(base.values()) - min(base.values())) / 2 / statistics.median(base.values())
            print(
                f"{name}, {parallelism} in flight: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) measured, "
                f"{expected:.2f} predicted, off by {expected / ratio - 1:+.0%}; {middle:.0f}/s measured, "
                f"{there.throughput.value[i]:.0f}/s ({there.throughput.low[i]:.0f} to {there.throughput.high[i]:.0f}) "
                f"predicted; binds: {there.binding[i]}; equal points ±{spread:.0%}"
            )
    for name, words in calibration.rows():
        print(f"  {name}: {words}")


def spin(seconds: float, done: multiprocessing.Queue[int]) -> None:
    turns, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))
        turns += 1
    done.put(turns)


def second_cpu() -> float:
    """Return the work two processes do together over what one does alone, median of five turns."""
    ratios = []
    for _ in range(5):
        work = []
        for count in (1, 2):
            done: multiprocessing.Queue[int] = multiprocessing.Queue()
            running = [multiprocessing.Process(target=spin, args=(1.0, done)) for _ in range(count)]
            for process in running:
                process.start()
            work.append(sum(done.get() for _ in running))
            for process in running:
                process.join()
        ratios.append(work[1] / work[0])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="shards, cpus, or a file")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--store", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "capacity-structure.json")
    chosen = parser.parse_args()
    if chosen.what in ("shards", "cpus"):
        store = chosen.store if chosen.what == "cpus" else "postgres"
        sweeps = measured(chosen.what, chosen.rounds, chosen.seconds, store)
        text = json.dumps({name: found.model_dump(mode="json") for name, found in sweeps.items()})
        chosen.out.write_text(text)
        print(f"kept in {chosen.out}")
    else:
        kept = json.loads(Path(chosen.what).read_text())
        sweeps = {name: Measurements.model_validate(found) for name, found in kept.items()}
    report(sweeps)
    if chosen.what == "cpus":
        print(f"two busy processes do {second_cpu():.2f} times the work of one here")


if __name__ == "__main__":
    main()
