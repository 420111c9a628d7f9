"""The original's sizing of a batch scheduler's pool, as data and pure functions."""

from __future__ import annotations

from capacity.rules.cpus import CpuCount, available_cpus
from capacity.rules.environment import EnvironmentOverride, environment_override
from capacity.rules.plan import PoolPlan, pool_plan
from capacity.rules.pool import PoolRules, Sized, parallelism, queue_size, reported_pool_size
from capacity.rules.table import Cell, TuningTable, tuning_table

__all__ = [
    "Cell",
    "CpuCount",
    "EnvironmentOverride",
    "PoolPlan",
    "PoolRules",
    "Sized",
    "TuningTable",
    "available_cpus",
    "environment_override",
    "parallelism",
    "pool_plan",
    "queue_size",
    "reported_pool_size",
    "tuning_table",
]
