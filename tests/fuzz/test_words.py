"""Words of the command line and of the environment: parallelism, settings, options as K=V, numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import ODD_WORDS, fuzzed, only_ours, refused

from capacity.cluster.guard import MAX_STARTS_VARIABLE, check_count
from capacity.cluster.settings import Settings, checked_config
from capacity.cluster.temporal_binaries import find
from capacity.errors import UsageError
from capacity.experiment.setting import setting_of
from capacity.experiment.wanted import Wanted
from capacity.fleet.conductor import controller_of
from capacity.launcher.settings import controller_for
from capacity.rules import environment_override, pool_plan
from capacity.rules.cpus import available_cpus
from capacity.rules.environment import VARIABLE
from capacity.rules.flight import flight_of
from capacity.rules.pool import PoolRules, parallelism, queue_size
from capacity.verdict.rollback import rollback
from capacity.verdict.running import honoured

settable = ODD_WORDS.filter(lambda word: "\0" not in word and all(not "\ud800" <= c <= "\udc7f" for c in word))
"""What an operating system lets a variable be."""
numbers = st.one_of(st.integers(-3, 600), st.sampled_from([10**18, 10**400, 10**5000, -(10**5000), True, 2**63]))
rates = st.one_of(st.floats(), st.sampled_from([10**400, 10**5000, -1, 0, 300]))


@fuzzed()
@given(st.one_of(ODD_WORDS, numbers), st.none() | rates, numbers)
def test_any_parallelism_is_a_controller_or_refused(wanted: Any, rate: Any, most: int) -> None:
    """However much is asked to be in flight, there is a controller and a reason, or one line."""
    with only_ours():
        assert controller_for(wanted, rate=rate, max_in_flight=most)[1]
    with only_ours():
        assert controller_for(wanted)[1]
    with only_ours():
        assert controller_for(rate=rate)[1]
    with only_ours():
        controller_of({"parallelism": wanted, "rate": rate, "max_in_flight": most})


@fuzzed()
@given(st.lists(ODD_WORDS, min_size=1, max_size=3).map(",".join))
def test_any_setting_of_a_comparison_is_one_or_refused(text: str) -> None:
    """A word that `capacity compare` takes has a label and can be launched so, or one line refuses it."""
    with only_ours():
        setting = setting_of(text, cpus=2)
        assert setting.label
        assert setting.controller()
        setting.applied(Wanted(store="postgres"))


@fuzzed()
@given(st.dictionaries(ODD_WORDS, ODD_WORDS, max_size=3))
def test_any_dynamic_configuration_is_json_or_refused(given_config: dict[str, str]) -> None:
    """Every value comes out as JSON that a YAML file can hold."""
    with only_ours():
        for value in checked_config(given_config).values():
            json.dumps(json.loads(value), allow_nan=False)
    with only_ours():
        Settings(dynamic_config=given_config).recorded()


@fuzzed()
@given(ODD_WORDS)
def test_any_number_to_go_back_to_is_one_or_refused(text: str) -> None:
    """A setting of a rollback is a number, or CPUs times one, or refused."""
    with only_ours():
        assert rollback(flight_of(text), cpus=32)


@fuzzed()
@given(settable, settable)
def test_any_value_of_the_override_is_read_or_refused(value: str, other: str) -> None:
    """SCHEDULER_MAX_PARALLELISM is a whole number, or nothing, or one line; so in our process and in another's."""
    environment = {VARIABLE: value, "SCHEDULER_BATCH_MAX_PARALLELISM": other, other or "x": "1"}
    with only_ours():
        assert environment_override(environment).value is None or value.strip()
    with only_ours():
        assert pool_plan(4, environment=environment).lines()
    with only_ours():
        assert honoured(1, environment, ["scheduler", "--parallelism", other, "--metrics-port", "x"], 64, 4).sentence()
    with mock.patch.dict(os.environ, {VARIABLE: value}), only_ours():
        assert controller_for()[1]


@fuzzed()
@given(settable)
def test_any_cap_on_starts_is_kept_or_refused(value: str) -> None:
    """CAPACITY_MAX_STARTS is a whole number or nothing, or one line."""
    with mock.patch.dict(os.environ, {MAX_STARTS_VARIABLE: value}), only_ours():
        check_count(1000)


@fuzzed()
@given(settable)
def test_any_name_of_a_server_is_found_or_refused(value: str) -> None:
    """TEMPORAL_SERVER names a program or is refused; nothing that is none is run."""
    with mock.patch.dict(os.environ, {"TEMPORAL_SERVER": f"none-{value[:200]}"}), refused():
        find()


@fuzzed()
@given(numbers, numbers, numbers)
def test_any_numbers_make_a_pool_or_are_refused(cpus: int, override: int, batch: int) -> None:
    """Sizes and their reasons are written out, however long the numbers; what is too long is refused."""
    with only_ours():
        assert pool_plan(cpus, override=override, batch=batch, environment={}).lines()
    with only_ours():
        assert str(queue_size(parallelism(cpus).value, batch))
    with only_ours():
        PoolRules(multiplier=cpus, maximum=override)


CGROUP = "0::/user.slice\n4:cpu,cpuacct:/docker/1f\n"
MOUNTS = (
    "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
)


@st.composite
def _damaged(draw: st.DrawFn, text: str) -> str:
    words = text.split(" ")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words) - 1))
        words[at] = draw(
            st.one_of(ODD_WORDS, st.sampled_from(["//x", "relative", "/a\\000b", "/..", "\\777", ":::", "0:://a"]))
        )
    return " ".join(words)


@fuzzed()
@given(
    st.one_of(_damaged(CGROUP), st.sampled_from(["0:://a\n", "0::relative\n", "0::/../x\n", "0::\0\n"])),
    _damaged(MOUNTS),
    st.one_of(
        ODD_WORDS, st.sampled_from(["max 100000", "200000 100000", "1 0", "9" * 19 + " 1", "1 " + "9" * 19, "-1"])
    ),
)
def test_any_cgroup_leaves_at_least_one_cpu(tmp_path: Path, group: str, mounts: str, quota: str) -> None:
    """Whatever the kernel's files say, there is a count of CPUs, from 1 to those allowed."""
    for name, text in (("proc/self/cgroup", group), ("proc/self/mountinfo", mounts), ("sys/fs/cgroup/cpu.max", quota)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    assert 1 <= available_cpus(tmp_path, affinity=8).count <= 8


def test_a_batch_in_words_is_refused_by_name() -> None:
    """A number of thousands of digits is named, not shown."""
    with pytest.raises(UsageError, match=r"cpus is a number of more than 4,300 digits"):
        pool_plan(10**5000)
