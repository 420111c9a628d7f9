"""The explorer's controls: the scheduler's and the cluster's, and the choice they make together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.model import shipped
from capacity.model.calibration import Calibration
from capacity.model.cluster import Cluster
from capacity.model.words import many
from capacity.notebook.choice import NamedChoice
from capacity.notebook.explore_view import Choice
from capacity.notebook.number import NumberControl
from capacity.rules.cpus import available_cpus
from capacity.rules.plan import PoolPlan, pool_plan
from capacity.rules.pool import DEFAULT_RULES

MIB: Final = 2**20
_MOST_CPUS: Final = DEFAULT_RULES.maximum
_CPUS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_OVERRIDES: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_BATCHES: Final = (1, 10, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 750_000)
_PROCESSES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_MEMORY: Final = (0, 80, 96, 128, 192, 256, 512, 1024, 2048, 4096)
_CORES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
_SHARDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_CONNECTIONS: Final = (1, 2, 5, 10, 20, 40, 80, 160, 320)
_RPS: Final = (100, 200, 400, 800, 1200, 2400, 4800, 10_000, 20_000, 50_000, 100_000)
_DELAYS: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_P99S: Final = (0.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


class Controls:
    """Every control, by name; `on_change` is told of each change, once.

    Parameters
    ----------
    cpus : int, optional
        By default those this process may really use.
    multiplier, batch : int
    cluster : str
        Name of a shipped description, or path of one.
    calibration : str or Calibration, optional
        Name, path, or the thing itself; by default what the cluster names, else the first that is shipped.
    p99, memory : float
        Limits [ms, MiB]; 0 is none.
    """

    def __init__(
        self,
        cpus: int | None,
        multiplier: int,
        batch: int,
        cluster: str,
        calibration: str | Calibration | None,
        p99: float,
        memory: int,
    ) -> None:
        here = available_cpus()
        self.here = f"This machine: {here.source}."
        first = min(here.count, _MOST_CPUS) if cpus is None else cpus
        self.cpus = NumberControl("CPUs", first, _CPUS, 1, _MOST_CPUS, "with more, every multiplier is capped")
        self.multiplier = NumberControl(
            "Starts per CPU", multiplier, range(1, 17), 1, _MOST_CPUS, "with more, one CPU alone is capped"
        )
        self.override = NumberControl(
            "Override (0: none)", 0, _OVERRIDES, 0, 1_000_000, "anything above the cap is cut to it"
        )
        self.batch = NumberControl(
            "Batch (starts)", batch, _BATCHES, 1, 10_000_000, "ten million starts are one batch at most here"
        )
        self.processes = NumberControl(
            "Launcher processes", 1, _PROCESSES, 1, 1000, "with more, each has hardly a start in flight"
        )
        self.memory = NumberControl(
            "Memory limit (MiB)", memory, _MEMORY, 0, 1_048_576, "0 is none; a tebibyte is no limit for a launcher"
        )
        named = shipped.names("calibrations")
        loaded = Cluster.load(cluster)
        own = {calibration.name: calibration} if isinstance(calibration, Calibration) else {}
        source = next(iter(own), None) or calibration or loaded.calibration or _first(named, loaded.store)
        self.calibration = NamedChoice("Calibration", named, Calibration.named, str(source), own)
        many = "no cluster of so many is known"
        self.cores = NumberControl("Cores, shared", 1, _CORES, 1, 100_000, many)
        self.server_cores = NumberControl("Server cores", 1, _CORES, 1, 100_000, many)
        self.database_cores = NumberControl("Database cores", 1, _CORES, 1, 100_000, many)
        self.shards = NumberControl("History shards", 1, _SHARDS, 1, 131_072, "the server takes no more")
        self.connections = NumberControl(
            "Connections a host", 1, _CONNECTIONS, 1, 100_000, "no database takes more of one history host"
        )
        self.rps = NumberControl("RPS a frontend", 1, _RPS, 1, 10_000_000, "no frontend answers more")
        self.actions = NumberControl("Cloud actions/s", 1, _RPS, 1, 10_000_000, "no namespace has more")
        self.delay = NumberControl(
            "Network delay (ms)", 0.0, _DELAYS, 0.0, 60_000.0, "there and back; a minute at most"
        )
        self.p99 = NumberControl("p99 wanted (ms)", float(p99), _P99S, 0.0, 600_000.0, "0 is none; ten minutes at most")
        self.cluster = NamedChoice("Cluster", shipped.names("clusters"), self._loaded, cluster)
        self.hosts = widgets.HTML()
        self.on_change: Callable[[], None] = lambda: None
        self._base = loaded
        self._show_base()
        for control in (*self.numbers(), self.calibration):
            control.on_change = lambda: self.on_change()
        self.cluster.on_change = self._other_cluster
        self.view = widgets.HBox(
            [
                _group(
                    "Scheduler", [self.cpus, self.multiplier, self.override, self.batch, self.processes, self.memory]
                ),
                _group(
                    "Cluster",
                    [
                        self.cluster,
                        self.calibration,
                        self.cores,
                        self.server_cores,
                        self.database_cores,
                        self.shards,
                        self.connections,
                        self.rps,
                        self.actions,
                        self.delay,
                        self.p99,
                    ],
                    self.hosts,
                ),
            ],
            layout={"flex_flow": "row wrap", "grid_gap": "4px 24px"},
        )

    def numbers(self) -> tuple[NumberControl[int] | NumberControl[float], ...]:
        """Every control that is a number, in the order of the screen."""
        return (
            *(self.cpus, self.multiplier, self.override, self.batch, self.processes, self.memory),
            *(self.cores, self.server_cores, self.database_cores, self.shards, self.connections),
            *(self.rps, self.actions, self.delay, self.p99),
        )

    def choice(self) -> tuple[Choice, tuple[str, ...]]:
        """What the controls say, and what to warn of."""
        plan, warnings = self._planned()
        if (other := self.calibration.value.of_another_store(self._base.store)) is not None:
            warnings = (*warnings, other)
        cluster = self._base.changed(self._changes())
        memory = self.memory.value * MIB if self.memory.value else None
        p99 = self.p99.value / 1e3 if self.p99.value else None
        return Choice(plan, cluster, self.calibration.value, p99, memory), warnings

    def take(self, cluster: Cluster, parallelism: int) -> None:
        """Stand at another cluster and an override, and tell of it once."""
        self.override.show(min(parallelism, _MOST_CPUS))
        self.cluster.offer(cluster.name, cluster)

    def _planned(self) -> tuple[PoolPlan, tuple[str, ...]]:
        planned = partial(
            pool_plan,
            self.cpus.value,
            override=self.override.value or None,
            batch=self.batch.value,
            multiplier=self.multiplier.value,
        )
        try:
            plan = planned()
        except UsageError as error:  # SCHEDULER_MAX_PARALLELISM of this process is unusable: said, and left out
            return planned(environment={}), (str(error),)
        return plan, plan.warnings

    def _changes(self) -> dict[str, object]:
        base = self._base
        changes: dict[str, object] = {
            "launcher_processes": self.processes.value,
            "network_delay": self.delay.value / 1e3,
        }
        for field, control in (
            ("cores", self.cores),
            ("server_cores", self.server_cores),
            ("database_cores", self.database_cores),
            ("actions_per_second", self.actions),
        ):
            if getattr(base, field) is not None:
                changes[field] = control.value
        if base.store not in ("sqlite", "cloud"):
            changes |= {"shards": self.shards.value, "max_conns": self.connections.value}
        if base.store != "cloud" and self.rps.value != base.limits["frontend.rps"]:
            changes["frontend.rps"] = self.rps.value
            if base.limits["frontend.namespaceRPS"] == base.limits["frontend.rps"]:  # else it was set on its own
                changes["frontend.namespaceRPS"] = self.rps.value
        return changes

    def _other_cluster(self) -> None:
        self._base = self.cluster.value
        self._show_base()
        named, store = self._base.calibration, self._base.store
        if named is None and self.calibration.value.of_another_store(store) is not None:
            named = next(iter(_of_store(shipped.names("calibrations"), store)), None)
        if named is not None and named != self.calibration.source:
            try:
                self.calibration.choose(named)  # tells of the change
            except UsageError as error:
                self.calibration.refuse(error)
            else:
                return
        self.on_change()

    def _loaded(self, source: str) -> Cluster:
        """Return a cluster that the controls can stand at; one they cannot is refused before any of them moves."""
        cluster = Cluster.load(source)
        for control, value in self._numbers_of(cluster):
            if value is not None:
                control.checked(value)
        return cluster

    def _numbers_of(self, base: Cluster) -> Iterator[tuple[NumberControl[Any], float | None]]:
        """Yield what a cluster says to each control; None: it has no such thing."""
        yield self.cores, base.cores
        yield self.server_cores, base.server_cores
        yield self.database_cores, base.database_cores
        yield self.actions, base.actions_per_second
        yield self.shards, base.shards
        yield self.connections, base.max_conns
        yield self.rps, int(base.limits["frontend.rps"])
        yield self.processes, min(base.launcher_processes, self.processes.highest)
        yield self.delay, base.network_delay * 1e3

    def _show_base(self) -> None:
        base = self._base
        for control, value in self._numbers_of(base):
            _shown(control, value is not None)
            if value is not None:
                control.show(value)
        keeps_shards = base.store not in ("sqlite", "cloud")
        _shown(self.shards, keeps_shards)
        _shown(self.connections, keeps_shards)
        _shown(self.rps, base.store != "cloud")
        hosts = f"{many(base.frontends, 'frontend')}, {many(base.history_hosts, 'history host')}"
        words = "" if base.store == "cloud" else hosts
        style = "font-size:12px;color:var(--jp-content-font-color2,#616161);margin-left:11em"
        self.hosts.value = f'<span style="{style}">{words}</span>' if words else ""


def _of_store(named: tuple[str, ...], store: str) -> tuple[str, ...]:
    return tuple(name for name in named if Calibration.named(name).of_another_store(store) is None)


def _first(named: tuple[str, ...], store: str) -> str:
    if not named:
        raise UsageError(
            "no calibration is shipped with this installation",
            next_step="pass calibration=FILE, made with 'capacity sweep --out FILE'",
        )
    named = _of_store(named, store) or named
    return "postgres" if "postgres" in named else named[0]


def _shown(control: NumberControl[int] | NumberControl[float], on: bool) -> None:
    control.view.layout.display = "" if on else "none"


def _group(name: str, controls: list[object], *more: widgets.Widget) -> widgets.VBox:
    head = widgets.HTML(
        f'<h4 style="margin:2px 0 4px;font-size:14px;color:var(--jp-content-font-color1,#212121)">{name}</h4>'
    )
    views = [control.view for control in controls]  # type: ignore[attr-defined]
    return widgets.VBox([head, *views, *more], layout={"flex": "0 1 auto", "max_width": "100%", "overflow": "visible"})
