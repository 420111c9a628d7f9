"""The judgement of a comparison: coverage on drifting data, the arithmetic of limiting cases, the sentences."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from capacity.experiment.blocks import Block, orders
from capacity.experiment.points import IN_BURST
from capacity.model.measurement import Flag, Point
from capacity.notebook.decide_parts import settled
from capacity.verdict.comparison import Comparison, compare
from capacity.verdict.ratio import MARGIN, Ratio, blocks_needed, estimate


def point(throughput: float, p99: float = 0.05, **changed: object) -> Point:
    values: dict[str, object] = {"parallelism": 8, "seconds": 5.0, "starts": round(5 * throughput), "mean": 0.02}
    values |= {"throughput": throughput, "p50": 0.015, "p99": p99, "server_cpu": 0.003, "database_cpu": 0.0025}
    return Point.model_validate(values | changed)


def blocks_of(
    first: list[tuple[float, float]], second: list[tuple[float, float]], seed: int = 0, **changed: object
) -> list[Block]:
    """Blocks from (throughput, p99) of baseline and candidate."""
    return [
        Block(index=i, baseline_first=order, baseline=point(*a), candidate=point(*b, **changed))
        for i, (order, a, b) in enumerate(zip(orders(len(first), seed), first, second, strict=True))
    ]


def drift(seed: int, blocks: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Logs of a server's speed and of its p99 in each run: random walk, a day's wave, noise, and a line that falls."""
    random, runs = np.random.default_rng(seed), 2 * blocks
    walk = np.cumsum(random.normal(0, 0.015, runs))
    wave = 0.15 * np.sin(2 * math.pi * (np.arange(runs) / random.uniform(24, 200) + random.uniform(0, 1)))
    level = walk + wave - slope * np.arange(runs)
    return level + random.normal(0, 0.03, runs), -level + random.normal(0, 0.2, runs)


def drifting(
    seed: int, blocks: int = 12, *, ratio: float = 1.0, p99_ratio: float = 1.0, slope: float = 0.0
) -> list[Block]:
    """Blocks of a server whose speed wanders."""
    speed, tail = drift(seed, blocks, slope)
    found = []
    for index, baseline_first in enumerate(orders(blocks, seed)):
        runs = [point(320 * math.exp(speed[i]), 0.1 * math.exp(tail[i])) for i in (2 * index, 2 * index + 1)]
        one, other = runs if baseline_first else runs[::-1]
        other = point(other.throughput * ratio, other.p99 * p99_ratio)
        found.append(Block(index=index, baseline_first=baseline_first, baseline=one, candidate=other))
    return found


def covers(found: Ratio, truth: float = 1.0) -> bool:
    assert found.interval is not None
    return found.interval[0] <= truth <= found.interval[1]


def test_a_setting_with_itself_covers_one() -> None:
    """Of 40 comparisons of a setting with itself on a drifting server 36 to 40 intervals cover 1 (seeds 0 to 39).

    Over 1,000 seeds the coverage is between 93 and 97 %: `test_coverage_over_many_seeds`.
    """
    found = [compare(drifting(seed), "2x", "2x") for seed in range(40)]
    assert 36 <= sum(covers(each.throughput) for each in found) <= 40
    assert 36 <= sum(covers(each.p99) for each in found) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_coverage_over_many_seeds(slope: float) -> None:
    """Of 1,000 comparisons 93 to 97 % cover the truth, also on a server that loses 5 % with every run."""
    covered = np.zeros(2)
    for seed in range(1000, 2000):
        baseline_first = np.array(orders(12, seed))
        for i, runs in enumerate(drift(seed, 12, slope)):
            signs = np.where(baseline_first, 1.0, -1.0)
            covered[i] += covers(estimate(0.1 + signs * (runs[1::2] - runs[::2]), signs), math.exp(0.1))
    assert 930 <= covered.min() <= covered.max() <= 970


def test_a_server_that_only_becomes_slower_does_not_decide() -> None:
    """Where each run is 5 % slower than the one before, equal settings are told equal, and so is the drift."""
    a, b = [], []
    for index, baseline_first in enumerate(orders(8, seed=3)):
        early, late = 300 * 0.95 ** (2 * index), 300 * 0.95 ** (2 * index + 1)
        a.append((early if baseline_first else late, 0.05))
        b.append((late if baseline_first else early, 0.05))
    found = compare(blocks_of(a, b, seed=3), "2x", "4x").throughput
    assert found.value == pytest.approx(1, abs=1e-9)
    assert found.order == pytest.approx(0.95)


def test_the_order_is_taken_out() -> None:
    """Without noise the ratio is exact and its interval has no width, whatever the order adds."""
    signs = np.array([1, -1, -1, 1, 1, -1])
    found = estimate(np.log(1.25) + 0.3 * signs, signs)
    assert found.value == pytest.approx(1.25)
    assert found.order == pytest.approx(math.exp(0.3))
    assert found.interval == pytest.approx((1.25, 1.25))


def test_a_t_interval_by_hand() -> None:
    """Two blocks have one degree of freedom: mean ± 12.706 x deviation / sqrt(2) (table of Student's t)."""
    logs = np.log([1.0, 1.1])
    found = estimate(logs, np.array([1, -1]))
    half = 12.706 * abs(logs[1] - logs[0]) / math.sqrt(2) / math.sqrt(2)
    middle = float(logs.mean())
    assert found.interval == pytest.approx((math.exp(middle - half), math.exp(middle + half)), rel=1e-4)


def test_swapping_the_sides_inverts_the_ratio() -> None:
    """Candidate over baseline is the inverse of baseline over candidate, interval and all."""
    there = drifting(5, ratio=1.2)
    back = [
        Block(index=b.index, baseline_first=not b.baseline_first, baseline=b.candidate, candidate=b.baseline)
        for b in there
    ]
    one, other = compare(there, "a", "b").throughput, compare(back, "b", "a").throughput
    assert one.value * other.value == pytest.approx(1)
    assert one.interval is not None
    assert other.interval is not None
    assert one.interval[0] * other.interval[1] == pytest.approx(1)


def test_one_block_has_no_interval() -> None:
    """One block gives ratios and no interval, decides nothing, and its JSON says null."""
    found = compare(blocks_of([(300, 0.05)], [(400, 0.05)]), "2x", "4x")
    assert (found.decision, found.throughput.interval) == ("open", None)
    assert found.more_blocks >= 2
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["throughput_interval"] is None


NOISE = [0.01, -0.01, 0.005, -0.005, 0.008, -0.008]


@pytest.mark.parametrize(
    ("throughput", "p99", "noise", "decision", "words"),
    [
        (0.99, 4.3, 0.5, "keep", "p99 4.3 x"),
        (0.99, 4.3, 3.0, "keep", "keep 2x"),
        (1.4, 1.0, 1.0, "take", "take 4x"),
        (1.4, 1.08, 8.0, "take", "take 4x, if a longer p99 will do: whether it has one is not settled"),
        (1.4, 3.0, 1.0, "trade", "only where that p99 will do"),
        (0.6, 0.3, 1.0, "trade", "keep 2x unless p99 is what counts"),
        (0.6, 1.0, 1.0, "keep", "keep 2x"),
        (1.0, 0.3, 0.5, "take", "as many starts, less latency"),
        (1.0, 1.0, 0.5, "keep", "keep 2x"),
        (1.01, 1.0, 8.0, "open", "more blocks would settle"),
        (1.05, 3.0, 8.0, "keep", "more blocks would settle"),
        (1.01, 1.0, 40.0, "open", "hardly settle its throughput: take more seconds a run"),
    ],
)
def test_the_verdict(throughput: float, p99: float, noise: float, decision: str, words: str) -> None:
    """Each combination of more, fewer or as many starts and of latency has its decision and its sentence.

    Which says what to do in words that are true in a notebook, too, where there are no options.
    """
    first = [(300.0, 0.05)] * 6
    tail = noise if p99 < 2 else 1
    second = [(300 * throughput * (1 + noise * each), 0.05 * p99 * (1 + tail * each)) for each in NOISE]
    found = compare(blocks_of(first, second), "2x", "4x")
    assert found.decision == decision, found.verdict
    assert words in found.verdict
    assert found.verdict.startswith("4x: throughput ")
    assert "--" not in found.verdict


@pytest.mark.parametrize(
    ("throughput", "p99", "decision"),
    [(0.993, 0.5, "take"), (1.007, 0.5, "take"), (0.993, 1.0, "keep"), (1.007, 2.0, "keep")],
)
@pytest.mark.parametrize("noise", [0.2, 0.8])
def test_a_difference_that_does_not_matter_decides_nothing(
    throughput: float, p99: float, decision: str, noise: float
) -> None:
    """Within the margin p99 alone decides, also where the blocks are so many that the difference is sure."""
    second = [(300 * throughput * (1 + noise * each), 0.05 * p99 * (1 + each)) for each in NOISE]
    found = compare(blocks_of([(300.0, 0.05)] * 6, second), "2x", "4x")
    assert found.throughput.is_same
    assert (found.throughput.is_more or found.throughput.is_less) == (noise < 0.5)
    assert found.decision == decision, found.verdict


def test_the_sentence_of_the_issue() -> None:
    """Signed per cent with its interval, then the factor with its own, then which to take, and no more."""
    second = [(297 * (1 + 3 * each), 0.215) for each in NOISE]
    found = compare(blocks_of([(300.0, 0.05)] * 6, second), "2x", "4x")
    assert found.verdict == "4x: throughput -1% [-4, +2], p99 4.3 x [4.3, 4.3]: keep 2x"


def test_more_blocks_narrow_the_interval_as_promised() -> None:
    """With as many blocks as were asked for, about 80 % of comparisons tell a difference of 2 % from none."""
    first = compare(drifting(1, blocks=12), "a", "b").throughput
    assert first.spread is not None
    wanted = 12 + blocks_needed(Ratio(1.0, (0.9, 1.1), 0.045, 10, 1.0), 12)
    random = np.random.default_rng(0)
    signs = np.array([1.0 if each else -1.0 for each in orders(wanted, 0)])
    told = 0
    for _ in range(400):
        found = estimate(math.log1p(MARGIN) + random.normal(0, 0.045, wanted), signs)
        told += found.is_more
    assert 0.74 <= told / 400 <= 0.86


def test_a_settled_comparison_needs_no_more_blocks() -> None:
    """Once the interval lies on one side of 1, or within the margin, no more are asked for."""
    assert blocks_needed(Ratio(1.1, (1.05, 1.15), 0.05, 10, 1.0), 12) == 0
    assert blocks_needed(Ratio(1.0, (0.99, 1.01), 0.01, 10, 1.0), 12) == 0
    assert blocks_needed(Ratio(1.0, (0.97, 1.03), 0.05, 10, 1.0), 12) > 0


BURST: dict[str, Any] = {"flag": Flag.THROTTLED, "throttle_cause": IN_BURST}


@pytest.mark.parametrize(
    ("marks", "why"),
    [
        ({"flag": Flag.FAILED}, "starts failed"),
        ({"flag": Flag.TOO_SHORT}, "too few starts to tell"),
        (BURST, "within the burst of the server's rate limit"),
    ],
)
def test_blocks_that_say_nothing_are_left_out(marks: dict[str, Any], why: str) -> None:
    """A block with failed starts, too few, or only such as a burst let through does not pull the ratio; it is counted.

    Whichever of its two runs it is.
    """
    good = blocks_of([(300.0, 0.05)] * 4, [(300.0, 0.05)] * 4)
    bad = good[0].model_copy(update={"index": 4, "candidate": point(3.0, **marks)})
    for each in (bad, bad.model_copy(update={"baseline": bad.candidate, "candidate": bad.baseline})):
        found = compare([*good, each], "2x", "4x")
        assert found.throughput.value == pytest.approx(1)
        assert found.left_out == 1
        assert f"1 of 5 blocks are left out: {why}" in found.notes


def test_figures_that_disagree_are_told() -> None:
    """Runs whose in flight, throughput and latency are not one closed loop's are judged, with a note."""
    found = compare(blocks_of([(300.0, 0.05)] * 4, [(200.0, 0.05)] * 4, flag=Flag.LITTLE), "2x", "4x")
    assert found.decision == "keep"
    assert "4x: in flight, throughput and latency disagree in 4 of 4 runs: take care with its figures" in found.notes


@pytest.mark.parametrize(
    ("marks", "then"),
    [
        ({"flag": Flag.TOO_SHORT}, "take more seconds a run"),
        ({"flag": Flag.FAILED}, "for why starts failed"),
        (BURST, "the burst of the server's rate limit, which does not last"),
    ],
)
def test_blocks_that_all_say_nothing_decide_nothing(marks: dict[str, Any], then: str) -> None:
    """Where no block is worth anything nothing is decided, no more are asked for, and it says what to do."""
    found = compare(blocks_of([(300.0, 0.05)] * 12, [(900.0, 0.01)] * 12, **marks), "2x", "4x")
    assert (found.decision, found.throughput.interval, found.left_out) == ("open", None, 12)
    assert found.more_blocks == 0
    assert "no block could be judged" in found.verdict
    assert then in found.verdict
    assert "more blocks" not in found.verdict
    assert "--" not in found.verdict
    assert settled(found) == "More blocks like these would not tell either"


def test_throttling_is_told() -> None:
    """A cap that took part is named with its cause."""
    throttled = {"throttled": 9, "throttle_cause": "RPS_LIMIT", "flag": Flag.THROTTLED}
    found = compare(blocks_of([(300.0, 0.05)] * 4, [(200.0, 0.05)] * 4, **throttled), "2x", "4x")
    assert "4x: throttled in 4 of 4 runs (RPS_LIMIT): that cap is what was measured" in found.notes
    assert found.decision == "keep"


def shown() -> Comparison:
    return compare(drifting(2, ratio=1.3, p99_ratio=4), "2x <b>", "4x")


def test_it_shows_itself() -> None:
    """In a notebook as a table with names escaped, in JSON with the keys of the issue and every block."""
    found = shown()
    assert "2x &lt;b&gt;" in found._repr_html_()
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert kept["throughput_ratio"] == found.throughput.value
    assert kept["p99_interval"] == list(found.p99.interval or ())
    assert kept["verdict"] == found.verdict
    assert [Block.model_validate(each) for each in kept["blocks"]] == list(found.blocks)
    assert len(found.to_frame()) == 12


@pytest.mark.parametrize("seed", range(5))
def test_orders_are_balanced(seed: int) -> None:
    """Of every two blocks one begins with the baseline, which one is chance."""
    found = orders(12, seed)
    assert all(found[i] != found[i + 1] for i in range(0, 12, 2))
    assert len({orders(12, each) for each in range(20)}) > 10


def test_the_cpu_of_a_start_is_compared_too() -> None:
    """Where server and database were measured their CPU per start has a ratio; where not it is null."""
    less = blocks_of([(300.0, 0.05)] * 4, [(300.0, 0.05)] * 4, database_cpu=2.0e-3)
    found = compare(less, "8", "8,unused-indexes=dropped")
    assert found.cpu is not None
    assert found.cpu.value == pytest.approx(5.0 / 5.5)
    unknown = compare(blocks_of([(300.0, 0.05)] * 4, [(300.0, 0.05)] * 4, server_cpu=None), "2x", "4x")
    assert (unknown.cpu, unknown.to_dict()["cpu_ratio"]) == (None, None)
