"""What a comparison is asked for: each box says what is wrong with it, and all together make an `Asked` or none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import UsageError
from capacity.model.words import duration
from capacity.notebook.field import Field, Refusals, alert, optional, seconds, whole
from capacity.notebook.markup import plain
from capacity.notebook.place import Place

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.setting import Setting
    from capacity.experiment.wanted import Wanted

SETTINGS = ("2x", "4x", "8x", "16", "64", "auto", "rate=300")


@dataclass(frozen=True)
class Asked:
    """What Compare does.

    Parameters
    ----------
    baseline, candidate : Setting
    blocks : int
    wanted : Wanted
        The cluster, and the seconds of a run.
    """

    baseline: Setting
    candidate: Setting
    blocks: int
    wanted: Wanted

    @property
    def own_each(self) -> bool:
        """Whether each run needs a cluster of its own."""
        return self.baseline.needs_own_cluster or self.candidate.needs_own_cluster

    @property
    def estimate(self) -> float:
        """How long it takes, about [s]."""
        from capacity.experiment.blocks import estimate

        return estimate(self.blocks, self.wanted.seconds, self.wanted.store, self.own_each)

    def sentence(self) -> str:
        """Return what will be done, and how long it takes."""
        new = ", new for each run" if self.own_each else ""
        return (
            f"{self.baseline.label} against {self.candidate.label}: {self.blocks} blocks of {self.wanted.seconds:g} s "
            f"each, in random order, {self.wanted.where}{new}; about {duration(self.estimate)}. "
            "Do nothing else on this machine meanwhile."
        )


class Controls:
    """The boxes of a comparison.

    Parameters
    ----------
    baseline, candidate : str
        Settings at first: ``2x``, ``64``, ``auto``, ``rate=300``, a server's ``key=value``, or several with commas.
    target : Target, optional
        A running dev cluster to begin with.
    cpus : int, optional
        CPUs that ``2x`` multiplies; empty in the box means those of this machine.
    blocks : int
    each : float
        Measured span of a run [s].
    allowed : collection of str
        Addresses beyond loopback that may be launched at.

    Attributes
    ----------
    baseline, candidate, cpus, blocks, seconds : Field
        Set `.box.value` to type into one from a cell.
    place : Place
        Which cluster.
    asked : Asked, optional
        What they ask for; None: one of them is refused.
    why_not : str
        Why it is refused, else empty.
    """

    def __init__(
        self,
        baseline: str,
        candidate: str,
        target: Target | None,
        cpus: int | None,
        blocks: int,
        each: float,
        allowed: Collection[str],
    ) -> None:
        from capacity.experiment.blocks import MOST_BLOCKS

        self.on_change: Callable[[], None] = lambda: None
        self._cpus: int | None = None
        self.baseline = Field("Baseline", baseline, self._setting, hint="what there is", options=SETTINGS)
        self.candidate = Field("Candidate", candidate, self._setting, hint="what might be better", options=SETTINGS)
        typed = "" if cpus is None else str(cpus)
        self.cpus = Field("CPUs", typed, optional(whole("CPUs", 1, 4096)), hint="that 2x multiplies: this machine's")
        self.blocks = Field("Blocks", str(blocks), whole("blocks", 2, MOST_BLOCKS))
        self.seconds = Field("Seconds a run", f"{each:g}", seconds("seconds a run", 1, 600))
        self.place = Place(target, allowed)
        self.plan = widgets.HTML()
        self.asked: Asked | None = None
        self.why_not = ""
        self._fields: tuple[Field[Any], ...] = (self.baseline, self.candidate, self.cpus, self.blocks, self.seconds)
        for field in self._fields:
            field.on_change = self._follow
        self.place.on_change = self._follow
        self.view = widgets.VBox([*(field.view for field in self._fields), *self.place.views, self.plan])
        self._follow()

    def disable(self, busy: bool) -> None:
        """Let nothing be changed while a comparison runs."""
        self.place.disable(busy)
        for field in self._fields:
            field.box.disabled = busy

    def _setting(self, text: str) -> Setting:
        from capacity.experiment.setting import setting_of

        if not text:
            raise UsageError("nothing is set here", allowed="2x, 64, auto, rate=300, or a server's key=value")
        setting = setting_of(text, cpus=self._cpus)
        setting.check(self.place.store)
        return setting

    def _follow(self) -> None:
        from capacity.experiment.wanted import Wanted

        tried = Refusals()
        self._cpus, blocks, each = (tried(field.read, field) for field in (self.cpus, self.blocks, self.seconds))
        one, other = (tried(side.read, side) for side in (self.baseline, self.candidate))
        place = self.place.read(tried)
        self.asked = None
        if not tried.words:
            wanted = tried(
                lambda: Wanted(parallelisms=(1,), repeats=1, seconds=each, extras=False, **place), self.seconds
            )
            self.asked = None if wanted is None else Asked(one, other, blocks, wanted)
        self.why_not = tried.words[0] if tried.words else ""
        if self.asked is None:
            self.plan.value = alert(f"Cannot compare: {self.why_not}")
        else:
            self.plan.value = plain(self.asked.sentence())
        self.on_change()
