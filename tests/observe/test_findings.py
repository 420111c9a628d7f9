"""From vitals to causes."""

from __future__ import annotations

from typing import Any

from capacity.observe.findings import findings
from capacity.observe.vitals import LauncherVitals, PostgresVitals, ServerVitals, SqlPool, VitalsSample


def launcher(**values: Any) -> LauncherVitals:
    defaults = {"rss_bytes": 1, "threads": 1, "machine_cpus": 2, "cpus_used": 0.1, "machine_cpus_used": 1.0}
    return LauncherVitals(**(defaults | values))


def postgres(**values: Any) -> PostgresVitals:
    fields: dict[str, Any] = {
        "connections": {"idle": 5},
        "connections_used": 5,
        "connections_max": 100,
        "connections_reserved": 3,
        "waits": {},
        "database_bytes": {},
        "started_at": 1e9,
        "cpus_used": 0.2,
        "cpus_allowed": 2,
    }
    return PostgresVitals(**(fields | values))


def causes(*samples: VitalsSample) -> list[str]:
    return [finding.cause for finding in findings(samples)]


def constant(seconds: int = 4, **parts: Any) -> list[VitalsSample]:
    return [VitalsSample(at=at, **parts) for at in range(seconds)]


def test_a_quiet_run_has_nothing_in_the_way() -> None:
    """Components with room to spare are not named."""
    server = ServerVitals(cpus_used=0.5, cpus_allowed=2, start_mean=0.01, shard_wait_mean=0.001)
    assert causes(*constant(launcher=launcher(), server=server, postgres=postgres())) == []


def test_away_and_back_names_when() -> None:
    """One second without an answer is named with its reason and its moment; a password problem is not "away"."""
    here, gone = constant(3, postgres=postgres()), VitalsSample(at=3, missing={"postgres": "no answer: refused"})
    [finding] = findings([*here, gone, VitalsSample(at=4, postgres=postgres())])
    assert str(finding) == "PostgreSQL was away: no answer: refused (at 3 s)"
    assert causes(VitalsSample(at=0, missing={"postgres": "password authentication failed"})) == []


def test_one_late_answer_is_not_away() -> None:
    """A page that took too long once, also in the last sample, is nothing; twice in a row it is away or slow."""
    here, late = VitalsSample(at=0, postgres=postgres()), {"postgres": "no answer within 0.8 s"}

    def watched(*kinds: bool) -> list[VitalsSample]:
        return [VitalsSample(at=at, missing=late) if kind else here for at, kind in enumerate(kinds)]

    assert causes(*watched(True, False, True, False, False, True)) == []
    [finding] = findings(watched(False, True, True, False, True, False, True, True, True))
    assert finding.cause == "postgres-late"
    assert str(finding) == ("PostgreSQL was away, or too slow for the watch: no answer within 0.8 s (from 1 to 8 s)")
    assert finding.samples == 5
    joined_away = VitalsSample(at=9, missing=late, samples=2)
    assert causes(here, joined_away, here) == ["postgres-late"]
    assert causes(*[VitalsSample(at=9, missing=late, samples=2, postgres=postgres())] * 3) == []


def test_a_restart_between_two_samples_is_seen() -> None:
    """A PostgreSQL with another start time was restarted, even if no sample fell into the gap."""
    assert causes(*constant(postgres=postgres()), VitalsSample(at=9, postgres=postgres(started_at=2e9))) == [
        "postgres-restarted"
    ]


def test_connections_are_exhausted_at_what_ordinary_roles_can_have() -> None:
    """97 of 100 with 3 reserved is the end, 96 is not; a refusal of the watch itself says the same."""
    assert causes(VitalsSample(at=0, postgres=postgres(connections_used=96))) == []
    [finding] = findings([VitalsSample(at=0, postgres=postgres(connections_used=97))])
    assert (finding.cause, finding.value, finding.limit) == ("connections-exhausted", 97, 97)
    refused = VitalsSample(at=0, missing={"postgres": "sorry, too many clients already"})
    assert causes(refused) == ["connections-exhausted"]


def test_cpu_is_bound_at_what_it_may_use() -> None:
    """0.95 CPUs bind a PostgreSQL held to one CPU and not one that may use two."""
    assert causes(*constant(postgres=postgres(cpus_used=0.95, cpus_allowed=1))) == ["postgres-cpu"]
    assert causes(*constant(postgres=postgres(cpus_used=0.95))) == []


def test_a_quota_of_part_of_a_cpu_binds_at_that_part() -> None:
    """0.48 CPUs are the half of one that a quota leaves, whatever the machine has."""
    [finding] = findings(constant(launcher=launcher(), postgres=postgres(cpus_used=0.48, cpus_allowed=0.5)))
    assert finding.sentence == "PostgreSQL was bound by CPU: 0.48 of the 0.5 CPUs it may use"


def test_waiting_for_cpus_of_its_own_binds_too() -> None:
    """Processes that wait for the one CPU they are held to are bound by it though others use half of it."""
    held = postgres(cpus_used=0.5, cpus_allowed=1, cpus_waiting=3.0)
    [finding] = findings(constant(launcher=launcher(), postgres=held))
    assert finding.sentence == "PostgreSQL was bound by CPU: 0.50 of the 1 CPU it may use, 3.0 more waited for one"
    free = postgres(cpus_used=0.5, cpus_waiting=3.0)
    assert causes(*constant(launcher=launcher(), postgres=free)) == []


def test_a_busy_second_is_not_a_cause() -> None:
    """CPU must be at its limit for a third of the time, and never for one sample alone."""
    busy, calm = postgres(cpus_used=2.0), postgres()
    assert causes(*constant(9, postgres=calm), VitalsSample(at=9, postgres=busy)) == []
    assert causes(VitalsSample(at=0, postgres=busy)) == []


def test_a_full_machine_says_who_uses_it() -> None:
    """The machine's CPUs are shared out by name, what is left to all others."""
    full = launcher(cpus_used=0.25, machine_cpus_used=2.0)
    [finding] = findings(constant(launcher=full, postgres=postgres(cpus_used=1.0)))
    assert finding.cause == "machine-cpu"
    assert "2.0 of 2 (PostgreSQL 1.0, launcher 0.2, all others 0.8)" in finding.sentence


def test_the_shard_lock_is_named_when_starts_mostly_wait_for_it() -> None:
    """80 of 100 ms on the lock are a cause, 20 of 100 ms are not."""
    assert causes(*constant(server=ServerVitals(start_mean=0.1, shard_wait_mean=0.08))) == ["shard-lock"]
    assert causes(*constant(server=ServerVitals(start_mean=0.1, shard_wait_mean=0.02))) == []


def test_throttling_and_pools_are_named_at_once() -> None:
    """One second of refusals or of an empty pool is enough; the limit it ran into stands beside it."""
    pool = {"history main": SqlPool(max_open=40, open=40, in_use=40, idle=0)}
    server = ServerVitals(resource_exhausted_per_second={"RPS_LIMIT": 50.0}, host_rps_limit=2400, sql_pools=pool)
    throttled, exhausted = findings([VitalsSample(at=0, server=server)])
    assert (throttled.cause, throttled.value, throttled.limit) == ("throttled-rps-limit", 50, 2400)
    assert (exhausted.cause, exhausted.value, exhausted.limit) == ("sql-pool-exhausted", 40, 40)
    assert "by a reading up to a minute old" in exhausted.sentence


def test_a_launcher_on_its_one_core_is_named() -> None:
    """One Python process can use one CPU, whatever the machine has."""
    assert causes(*constant(launcher=launcher(cpus_used=0.97))) == ["launcher-cpu"]


def test_several_launcher_processes_can_use_a_cpu_each() -> None:
    """Four at 0.3 CPUs each are in nobody's way; at 0.95 each they are bound."""
    assert causes(*constant(launcher=launcher(cpus_used=1.2, processes=4, machine_cpus=8))) == []
    [finding] = findings(constant(launcher=launcher(cpus_used=3.8, processes=4, machine_cpus=8)))
    assert "3.80 of the 4 CPUs that its 4 processes can use" in str(finding)
