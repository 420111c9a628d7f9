"""The judgement of a soak on synthetic readings: leaks, saw-teeth, steps, noise that is alike from one to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from capacity.experiment.soaking import Reading
from capacity.verdict.slope import slope
from capacity.verdict.soak import Growth, Soak, judge

MIB = 2**20
Series = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def readings(
    series: np.ndarray, minutes: float = 10.0, *, starts: int = 100_000, field: str = "rss", base: float = 100 * MIB
) -> list[Reading]:
    """One reading a round; `series` is added to one figure, the others stay."""
    found = []
    for i, more in enumerate(series):
        share = i / (len(series) - 1)
        values = {"rss": 100 * MIB, "tasks": 2, "threads": 9, "descriptors": 14, "server_rss": 400 * MIB}
        values[field] = round((base if field.endswith("rss") else values[field]) + more)
        found.append(Reading(at=60 * minutes * share, starts=round(starts * share), failed=0, **values))
    return found


def growth(soak: Soak, name: str = "launcher memory") -> Growth:
    return next(each for each in soak.growths if each.name == name)


def noise(random: np.random.Generator, count: int, size: float, alike: float = 0.0) -> np.ndarray:
    found = random.normal(0, size, count)
    for i in range(1, count):
        found[i] += alike * found[i - 1]
    return found


def sawtooth(random: np.random.Generator, count: int, period: float, height: float) -> np.ndarray:
    """What a garbage collector makes: a slow rise and a fall at once."""
    return (np.arange(count) + random.uniform(0, period)) % period / period * height


CALM: dict[str, Series] = {
    "white": lambda random, t: noise(random, t.size, 0.5 * MIB),
    "alike": lambda random, t: noise(random, t.size, 0.3 * MIB, 0.8),
    "short teeth": lambda random, t: sawtooth(random, t.size, 5.3, 6 * MIB),
    "long teeth": lambda random, t: sawtooth(random, t.size, 14.7, 6 * MIB),
    "warm-up": lambda random, t: 30 * MIB * (1 - np.exp(-t / 0.06)) + noise(random, t.size, 0.3 * MIB),
    "one step": lambda random, t: 12 * MIB * (t > 0.6) + noise(random, t.size, 0.2 * MIB),
}


@pytest.mark.parametrize("kind", CALM)
def test_what_does_not_leak_is_not_called_a_leak(kind: str) -> None:
    """Noise, a collector's saw-teeth, a warm-up and a single step are no leak, in 50 series each."""
    for seed in range(50):
        random = np.random.default_rng(seed)
        found = judge(readings(CALM[kind](random, np.linspace(0, 1, 80))))
        assert found.leaks == (), (seed, found.growths)


@pytest.mark.parametrize("kind", CALM)
def test_a_leak_is_found_through_all_of_it(kind: str) -> None:
    """1 kB a start at 10,000 starts a minute, 572 MiB per hour, is found beneath each of them, and measured."""
    hidden = {"one step"}  # a step on a leak makes its slope uncertain, never invisible
    for seed in range(20):
        random, t = np.random.default_rng(seed), np.linspace(0, 1, 80)
        found = growth(judge(readings(CALM[kind](random, t) + 1000.0 * 100_000 * t)))
        assert found.verdict == "leak" or (kind in hidden and found.verdict == "too short"), (seed, found)
        assert found.per_start == pytest.approx(1000, rel=0.35)


def test_a_quiet_soak_says_none_above() -> None:
    """Where nothing grows each figure says so with its limit, and the soak has no leak."""
    random = np.random.default_rng(1)
    found = judge(readings(noise(random, 80, 0.2 * MIB), minutes=30))
    assert {each.name: each.verdict for each in found.growths} == dict.fromkeys(
        ("launcher memory", "asyncio tasks", "threads", "descriptors", "server memory"), "none"
    )
    assert growth(found).words == "none above 64 MiB per hour"
    assert found.summary() == "No leak (100,000 starts in 30 min)."


@pytest.mark.parametrize("field", ["tasks", "threads", "descriptors"])
def test_counts_that_rise_are_a_leak(field: str) -> None:
    """One more task, thread or descriptor a round, 480 per hour, is a leak; one more in all is none."""
    rising = judge(readings(np.arange(80.0), field=field))
    name = {"tasks": "asyncio tasks"}.get(field, field)
    assert rising.leaks == (name,)
    assert growth(judge(readings(np.repeat([0.0, 1.0], 40), field=field)), name).verdict != "leak"


def test_a_short_soak_is_too_short_to_tell() -> None:
    """Fewer than eight rounds after the warm-up, or a minute of noisy memory, tell nothing, and it says so."""
    few = growth(judge(readings(np.zeros(6))))
    assert (few.verdict, few.per_hour) == ("too short", None)
    noisy = growth(judge(readings(noise(np.random.default_rng(2), 40, MIB), minutes=1)))
    assert noisy.verdict == "too short"
    assert "min would tell" in noisy.words
    quick = growth(judge(readings(np.linspace(0, 50 * MIB, 40), minutes=0.3)))
    assert quick.verdict == "too short"
    json.dumps(judge(readings(np.zeros(2))).to_dict(), allow_nan=False)


def test_as_long_as_it_says_is_long_enough() -> None:
    """A soak that is too short says about how long would do; of soaks of that length 8 in 10 tell."""
    asked = told = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        short = growth(judge(readings(noise(random, 40, 3 * MIB), minutes=5)))
        if "about " not in short.words:
            continue  # by chance it told at once, or lies on the limit
        asked += 1
        minutes = float(short.words.rsplit("about ", 1)[1].split(" min")[0].replace(",", ""))
        long = judge(readings(noise(random, round(40 * minutes / 5), 3 * MIB), minutes=minutes))
        told += growth(long).verdict == "none"
    assert asked >= 30
    assert told >= 0.8 * asked, (told, asked)


@pytest.mark.parametrize("field", ["rss", "tasks"])
@pytest.mark.parametrize("minutes", [0.5, 0.7, 1.0])
def test_a_flat_figure_is_told_to_be_flat_when_it_says(field: str, minutes: float) -> None:
    """Where one step is what is unsure, a flat figure too short to tell is told after as long as was said, at once."""
    name = {"rss": "launcher memory", "tasks": "asyncio tasks"}[field]
    short = growth(judge(readings(np.zeros(40), minutes)), name)
    assert short.verdict == "too short"
    longer = float(short.words.rsplit("about ", 1)[1].split(" min")[0])
    assert growth(judge(readings(np.zeros(40), longer)), name).verdict == "none"


@pytest.mark.parametrize(
    ("starts", "in_memory", "verdict"), [(100_000, False, "keeps"), (500_000, False, "leak"), (500_000, True, "keeps")]
)
def test_a_server_that_keeps_what_was_started(starts: int, in_memory: bool, verdict: str) -> None:
    """A server may hold workflows in memory up to its cache, one without a disk all of them; beyond it is a leak."""
    t = np.linspace(0, 1, 80)
    found = judge(readings(50_000.0 * starts * t, field="server_rss", starts=starts), in_memory=in_memory)
    assert growth(found, "server memory").verdict == verdict
    assert found.leaks == (("server memory",) if verdict == "leak" else ())


@pytest.mark.parametrize("starts", [127_000, 129_000, 140_000, 160_000, 180_000, 200_000, 250_000, 600_000])
@pytest.mark.parametrize("kept", [5_000, 20_000])
def test_a_server_that_fills_its_cache_does_not_leak(starts: int, kept: int) -> None:
    """However long a soak is, a server that grows by its first 128,000 workflows alone has no leak, and it says so."""
    t = np.linspace(0, 1, 20 + starts // 4000)
    for seed in range(10):
        filling = kept * np.minimum(starts * t, 128_000) + noise(np.random.default_rng(seed), t.size, 2 * MIB)
        found = judge(readings(filling, starts / 18_000, field="server_rss", starts=starts))
        assert found.leaks == ()
        told = growth(found, "server memory")
        assert told.verdict == ("none" if starts >= 160_000 else "keeps"), told
        assert ("with its cache full" in told.words) is (told.verdict == "none")


def test_a_server_that_grows_past_its_cache_leaks() -> None:
    """What a server gains a start once its cache is full is measured without what it kept before."""
    t = np.linspace(0, 1, 120)
    grown = 20_000 * np.minimum(400_000 * t, 128_000) + 3_000 * np.maximum(400_000 * t - 128_000, 0)
    told = growth(judge(readings(grown, 20, field="server_rss", starts=400_000)), "server memory")
    assert (told.verdict, told.per_start) == ("leak", pytest.approx(3_000, rel=0.02))


def test_how_long_a_soak_must_be_includes_the_time_to_fill_the_cache() -> None:
    """Where what follows a full cache is too short to tell, the time it names is that of the whole soak, and tells."""

    def soaked(minutes: float, seed: int) -> Growth:
        t = np.linspace(0, 1, round(12 * minutes))
        starts = round(18_000 * minutes)
        wandering = noise(np.random.default_rng(seed), t.size, 25 * MIB)
        filling = 5_000 * np.minimum(starts * t, 128_000) + wandering
        return growth(
            judge(readings(filling, minutes, field="server_rss", starts=starts, base=2000 * MIB)), "server memory"
        )

    asked = told = 0
    for seed in range(40):
        short = soaked(11, seed)
        if "with its cache full" not in short.words or "about " not in short.words:
            continue
        asked += 1
        minutes = float(short.words.rsplit("about ", 1)[1].split(" min")[0].replace(",", ""))
        assert minutes >= 11
        told += soaked(minutes, seed).verdict == "none"
    assert asked >= 10
    assert told >= 0.8 * asked, (told, asked)


@pytest.mark.parametrize(
    ("count", "alike", "least"), [(12, 0.0, 0.93), (60, 0.5, 0.92), (100, 0.9, 0.90), (100, 0.0, 0.93)]
)
def test_the_interval_covers(count: int, alike: float, least: float) -> None:
    """About 95 % of intervals cover the slope, also where successive readings are alike by 0.9."""
    random, x = np.random.default_rng(0), np.arange(float(count))
    covered = 0
    for _ in range(400):
        found = slope(x, 0.3 * x + noise(random, count, 1.0, alike))
        assert found is not None
        covered += found.low <= 0.3 <= found.high
    assert least <= covered / 400 <= 0.99


def test_a_slope_scales_with_its_units() -> None:
    """Twice the values give twice the slope, twice the time half of it; a constant has none, within its step."""
    x = np.arange(30.0)
    y = 0.7 * x + noise(np.random.default_rng(3), 30, 1.0)
    one, other, slow = slope(x, y), slope(x, 2 * y), slope(2 * x, y)
    assert one is not None
    assert other is not None
    assert slow is not None
    assert (other.value, other.high) == pytest.approx((2 * one.value, 2 * one.high))
    assert slow.value == pytest.approx(one.value / 2)
    few = slope(x[:20], y[:20])
    assert few is not None
    assert few.value == pytest.approx(stats.theilslopes(y[:20], x[:20])[0])
    flat = slope(x, np.full(30, 5.0), quantum=1.0)
    assert flat is not None
    assert (flat.low, flat.value, flat.high) == pytest.approx((-1 / 29, 0, 1 / 29))


def test_it_shows_itself() -> None:
    """In a notebook as a table with a sentence for each figure, as JSON without nan."""
    found = judge(readings(1e5 * 1000.0 * np.linspace(0, 1, 80)))
    assert "launcher memory" in found._repr_html_()
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert kept["figures"][0]["verdict"] == "leak"
    assert len(kept["readings"]) == len(found.to_frame()) == 80
    assert not any(math.isnan(each["rss"]) for each in found.to_frame())
    assert found.summary().startswith("Leak: launcher memory (100,000 starts in 10 min)")
