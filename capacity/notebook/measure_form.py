"""What a sweep is asked for: each box says in words what is wrong with it, and all together make a `Wanted` or none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError, UsageError
from capacity.notebook.launch_field import Field, alert, choice, seconds, ticked, whole
from capacity.notebook.launch_parts import plain
from capacity.notebook.measure_parts import span

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.experiment.wanted import Wanted


class Controls:
    """The boxes of a sweep.

    Parameters
    ----------
    parallelisms : str
        Starts in flight to measure at first.
    target : Target, optional
        A running dev cluster to begin with; its keys and certificates belong to its own address alone.

    Attributes
    ----------
    where : ipywidgets.Dropdown
        "sqlite", "postgres" or "cluster".
    address, cores, parallelisms, holdout, seconds, repeats, name : Field
        Set `.box.value` to type into one from a cell.
    extras : ipywidgets.Checkbox
    wanted : Wanted, optional
        What they ask for; None: one of them is refused.
    """

    def __init__(self, parallelisms: str, target: Target | None) -> None:
        self._target = target
        self.on_change: Callable[[], None] = lambda: None
        options, without = _places()
        self.where = choice("Cluster", options, "cluster" if target else "sqlite")
        self.without = widgets.HTML(f'<p style="margin:0;padding-left:11.3em">{plain(without)}</p>' if without else "")
        self.address = Field("Its address", target.address if target else _running(), str, hint="HOST:PORT")
        self.cores = Field("Its CPUs", "", _cores, hint="only if it is on another machine")
        self.parallelisms = Field("Starts in flight", parallelisms, _numbers("starts in flight"))
        self.holdout = Field("Kept from the fit", "", _numbers("kept from the fit", empty=True), hint="e.g. 3, 24")
        self.seconds = Field("Seconds a point", "6", seconds("seconds a point", 1, 600))
        self.repeats = Field("Rounds", "1", whole("rounds", 1, 100))
        self.name = Field("Name", f"{time.strftime('%Y%m%d-%H%M%S')}-measured", _name)
        self.extras = ticked("Also measure memory, store times and storage")
        self.plan = widgets.HTML()
        points = (self.parallelisms, self.holdout, self.seconds, self.repeats)
        self._fields: tuple[Field[Any], ...] = (self.address, self.cores, *points, self.name)
        self.wanted: Wanted | None = None
        for field in self._fields:
            field.on_change = self._follow
        for picked in (self.where, self.extras):
            picked.observe(lambda _: self._follow(), "value")
        boxes = [field.view for field in self._fields[:-1]]
        self.view = widgets.VBox([self.where, self.without, *boxes, self.extras, self.plan])
        self._follow()

    def disable(self, busy: bool) -> None:
        """Let nothing be changed while a sweep runs."""
        for field in self._fields:
            field.box.disabled = busy
        self.where.disabled = self.extras.disabled = busy

    def _follow(self) -> None:
        from capacity.experiment.wanted import Wanted

        existing = self.where.value == "cluster"
        for field in (self.address, self.cores):
            field.view.layout.display = "" if existing else "none"
        refused: list[str] = []

        def tried(read: Callable[[], Any], field: Field[Any] | None = None) -> Any:
            try:
                return read()
            except CapacityError as error:
                refused.append(str(error))
                if field is not None:
                    field.refuse(str(error))
                return None

        asked: dict[str, Any] = {
            "parallelisms": tried(self.parallelisms.read),
            "holdout": tried(self.holdout.read),
            "seconds": tried(self.seconds.read),
            "repeats": tried(self.repeats.read),
        }
        tried(self.name.read)
        if existing:
            asked |= {"target": tried(self._where, self.address), "cluster_cores": tried(self.cores.read)}
        store = None if existing else self.where.value
        self.wanted = None
        if not refused:
            # What is wrong with no box alone: a parallelism that both lists have.
            self.wanted = tried(lambda: Wanted(store=store, extras=self.extras.value, **asked), self.holdout)
        self.plan.value = alert(f"Cannot measure: {refused[0]}") if refused else self._planned()
        self.on_change()

    def _where(self) -> Target:
        from capacity.cluster.guard import check_target
        from capacity.cluster.profile import load_target

        address, known = self.address.read(), self._target
        target = replace(known) if known is not None and known.address == address else load_target(address)
        check_target(target)
        return target

    def _planned(self) -> str:
        if self.wanted is None:
            return ""
        usual, most = self.wanted.estimate()
        points = len(self.wanted.points)
        words = f"{points} point{'' if points == 1 else 's'}: about {span(usual)}, at most {span(most)}"
        return plain(f"{words}. They come in random order; do nothing else on this machine meanwhile.")


def _places() -> tuple[list[tuple[str, str]], str]:
    """Return the clusters that can be measured here, and what is missing for another."""
    from capacity.cluster import temporal_binaries

    places = [("a new embedded dev server", "sqlite")]
    missing = ""
    try:
        found = temporal_binaries.find()
    except CapacityError as error:
        found, missing = None, f"no PostgreSQL stack: {error}"
    if found is not None:
        places.append(("a new PostgreSQL and Temporal server", "postgres"))
    elif not missing:
        missing = "no PostgreSQL stack: 'capacity cluster up --store postgres' builds its server, once"
    return [*places, ("a running dev cluster", "cluster")], missing


def _running() -> str:
    from capacity.cluster import state

    try:
        return state.running_address() or ""
    except CapacityError:
        return ""


def _numbers(name: str, *, empty: bool = False) -> Any:
    """Return a reader of whole numbers separated by commas or spaces."""

    def read(text: str) -> list[int]:
        words = re.split(r"[,\s]+", text.strip(", "))
        if words == [""]:
            if empty:
                return []
            raise UsageError(f"{name} is empty", allowed="whole numbers from 1 to 512, separated by commas")
        each = whole(name, 1, 512)
        numbers = [each(word) for word in words]
        twice = next((number for number in numbers if numbers.count(number) > 1), None)
        if twice is not None:
            raise UsageError(f"{name} has {twice} twice", next_step="measure it more often with Rounds")
        return numbers

    return read


def _cores(text: str) -> int | None:
    return whole("its CPUs", 1, 10_000)(text) if text else None


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", text):
        raise UsageError(f"name is {text[:40]!r}", allowed="letters, digits, '-', '_' and '.', 80 at most")
    return text
