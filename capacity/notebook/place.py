"""Which cluster is measured: a new one of its own, or a running one, which the guard must allow."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError
from capacity.notebook.field import Field, choice, whole
from capacity.notebook.markup import plain

if TYPE_CHECKING:
    from capacity.cluster.target import Target


class Place:
    """A list of clusters; for a running one its address and, if it is elsewhere, its CPUs.

    Parameters
    ----------
    target : Target, optional
        A running dev cluster to begin with; its keys and certificates belong to its own address alone.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.

    Attributes
    ----------
    where : ipywidgets.Dropdown
        "sqlite", "postgres" or "cluster".
    address, cores : Field
    without : ipywidgets.HTML
        Why there is no PostgreSQL stack to choose.
    """

    def __init__(self, target: Target | None, allowed: Collection[str] = ()) -> None:
        self._target, self._allowed = target, tuple(allowed)
        self.on_change: Callable[[], None] = lambda: None
        options, without = _places()
        self.where = choice("Cluster", options, "cluster" if target else "sqlite")
        self.without = widgets.HTML(f'<p style="margin:0;padding-left:11.3em">{plain(without)}</p>' if without else "")
        self.address = Field("Its address", target.address if target else _running(), str, hint="HOST:PORT")
        self.cores = Field("Its CPUs", "", _cores, hint="only if it is on another machine")
        self.fields: tuple[Field[Any], ...] = (self.address, self.cores)
        for field in self.fields:
            field.on_change = self._changed
        self.where.observe(lambda _: self._changed(), "value")
        self.views = (self.where, self.without, self.address.view, self.cores.view)
        self._show()

    @property
    def store(self) -> str | None:
        """That of a cluster of its own; None: a running one."""
        return None if self.where.value == "cluster" else str(self.where.value)

    def read(self, tried: Callable[[Callable[[], Any], Field[Any]], Any]) -> dict[str, Any]:
        """Return what `Wanted` is to know of it.

        Parameters
        ----------
        tried : callable
            Reads, and says at the field what was refused.
        """
        if self.store is not None:
            return {"store": self.store}
        target, cores = tried(self._where, self.address), tried(self.cores.read, self.cores)
        return {"store": None, "target": target, "cluster_cores": cores, "allowed": self._allowed}

    def disable(self, busy: bool) -> None:
        """Let nothing be changed while something runs there."""
        self.where.disabled = self.address.box.disabled = self.cores.box.disabled = busy

    def _changed(self) -> None:
        self._show()
        self.on_change()

    def _show(self) -> None:
        for field in self.fields:
            field.view.layout.display = "" if self.store is None else "none"

    def _where(self) -> Target:
        from capacity.cluster.guard import check_target
        from capacity.cluster.profile import load_target

        address, known = self.address.read(), self._target
        target = replace(known) if known is not None and known.address == address else load_target(address)
        check_target(target, self._allowed)
        return target


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


def _cores(text: str) -> int | None:
    return whole("its CPUs", 1, 10_000)(text) if text else None
