"""The form of a launch: what, where and how, each refused in words beside its box; below it the panel that runs it."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from capacity.errors import CapacityError, UsageError
from capacity.fleet import MOST_PROCESSES
from capacity.model.words import size
from capacity.notebook.field import ERROR, Field, Refusals, choice, ticked, whole
from capacity.notebook.launch_panel import Panel
from capacity.notebook.launch_request import Request

if TYPE_CHECKING:
    from capacity.cluster.target import Target
    from capacity.launcher.batch import Batch, StartOptions
    from capacity.launcher.items import ItemsFile
    from capacity.observe.run import Run

_HEIGHTS, _ITEMS = "range of heights", "file of items"
_EXISTING = (
    ("never start it twice", "skip"),
    ("start it again if it failed", "rerun-failed"),
    ("start it again if it is closed", "rerun"),
    ("count it as failed", "fail"),
)


_LAUNCHERS = (
    ("this kernel", "here"),
    ("several processes of this machine", "processes"),
    ("a fleet: capacity fleet worker", "fleet"),
)


class LaunchForm(Panel):
    """A launch to fill in, and the panel that runs it, with a live figure.

    Parameters
    ----------
    target : Target, optional
        Where at first, such as ``dev_server()``; by default what Temporal's environment configuration says.
    count : int
        Items at first.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.
    launch : callable, optional
        Stands in for `capacity.observe.session.launch`, with the same signature.

    Attributes
    ----------
    address, namespace, allow, count, height, chain, items, parallelism, rate, processes : Field
        The boxes; set `.box.value` to type into one from a cell.
    source, existing, launcher : ipywidgets.Dropdown
    worker : ipywidgets.Checkbox
    guard : ipywidgets.HTML
        Whether the target is allowed, why, and what would allow it.

    Examples
    --------
    >>> from capacity.cluster.target import Target
    >>> LaunchForm(Target("127.0.0.1:7233"), count=500).count.read()
    500
    """

    def __init__(
        self,
        target: Target | None = None,
        *,
        count: int = 500,
        allowed: Collection[str] = (),
        launch: Callable[..., Awaitable[Run]] | None = None,
    ) -> None:
        self._target, trouble = _target(target)
        self._file: tuple[tuple[Any, ...], ItemsFile] | None = None
        address, namespace = (self._target.address, self._target.namespace) if self._target else ("", "default")
        self.address = Field("Target", address, str, hint="HOST:PORT of a dev cluster's frontend")
        self.namespace = Field("Namespace", namespace, _named("namespace"))
        self.allow = Field("Allow by name", ", ".join(allowed), _addresses, hint="HOST:PORT, unless loopback")
        self.guard = widgets.HTML(layout={"margin": "0 0 0 11.3em", "max_width": "24em"})
        self.source = choice("Batch", (_HEIGHTS, _ITEMS), _HEIGHTS)
        self.count = Field("Count", f"{count:,}", whole("count", 1, 100_000_000))
        self.height = Field("From height", "0", whole("from height", 0))
        self.chain = Field("Chain id", "mainnet", _named("chain id"))
        self.items = Field("Items file", "", _file, hint="CSV or JSON lines with a column 'id'")
        self.existing = choice("An id that exists", _EXISTING, "skip")
        self.parallelism = Field("Parallelism", "auto", str, options=("auto", "2x", "4x", "8x", "16", "64", "256"))
        self.rate = Field("Rate (starts/s)", "", _rate, hint="empty: no fixed rate")
        self.launcher = choice("Launched by", _LAUNCHERS, "here")
        self.processes = Field("Processes", "2", whole("processes", 1, MOST_PROCESSES))
        self.worker = ticked("Run a worker too; wait until all complete")
        self.how = widgets.HTML(layout={"margin": "0 0 0 11.3em", "max_width": "24em"})
        self._fields = (
            *(self.address, self.namespace, self.allow, self.count, self.height, self.chain),
            *(self.items, self.parallelism, self.rate, self.processes),
        )
        self._choices = (self.source, self.existing, self.launcher, self.worker)
        super().__init__(launch=launch, figure=True)
        for each in self._fields:
            each.on_change = self._follow
        for picked in self._choices:
            picked.observe(lambda _: self._follow(), "value")
        self._follow()
        if trouble:
            self.address.refuse(trouble)

    _says_where = False  # the guard stands beside the target

    def _follow(self) -> None:
        """Read every box, so that each says what is wrong with it, and make of them what Launch starts."""
        heights = self.source.value == _HEIGHTS
        for field in (self.count, self.height, self.chain):
            field.view.layout.display = "" if heights else "none"
        self.items.view.layout.display = "none" if heights else ""
        several = self.launcher.value == "processes"
        self.processes.view.layout.display = "" if several else "none"
        tried = Refusals()
        target, allowed = tried(self._where), tried(self.allow.read) or ()
        if target is not None:
            tried(lambda: self._guarded(target, allowed))
        batch, control = tried(self._batch), tried(self._control)
        processes = tried(self.processes.read) if several else 1
        fleet = self.launcher.value == "fleet"
        if tried.words:
            self.prepare(None, tried.words[0])
        else:
            more = {"with_worker": self.worker.value, "allowed": allowed, "processes": processes, "fleet": fleet}
            self.prepare(Request(batch, target, **control, **more))

    def _on_launch(self, button: widgets.Button) -> None:
        if not self.running:
            self._follow()  # the items file may have grown since its path was typed
        super()._on_launch(button)

    def _where(self) -> Target:
        from capacity.cluster.guard import split_address
        from capacity.cluster.target import Target

        self.guard.value = ""
        address, namespace = self.address.read(), self.namespace.read()
        try:
            split_address(address)
        except UsageError as error:
            self.address.refuse(str(error))
            raise
        known = self._target  # its keys and certificates belong to its own address alone
        if known is not None and known.address == address:
            return replace(known, namespace=namespace)
        return Target(address, namespace)

    def _guarded(self, target: Target, allowed: tuple[str, ...]) -> None:
        from capacity.cluster.guard import check_target

        try:
            words = check_target(target, allowed)
        except CapacityError as error:
            self.guard.value = (
                f'<p role="alert" style="{ERROR}"><b>Refused.</b> {html.escape(str(error))}. '
                f"Here: type {html.escape(target.address)} into <i>Allow by name</i>.</p>"
            )
            raise
        self.guard.value = f'<p style="margin:0;line-height:1.4"><b>Allowed.</b> {html.escape(words)}</p>'

    def _batch(self) -> Batch:
        from capacity.cluster.guard import check_count
        from capacity.launcher.batch import HeightRange, StartOptions

        options = StartOptions(on_existing=self.existing.value)
        if self.source.value == _ITEMS:
            field: Field[Any] = self.items
            path = self.items.read()
        else:
            field = self.count
            readings = [(each, each.box.value) for each in (self.count, self.height, self.chain)]
            refused = [error for each, _ in readings if (error := _refusal(each)) is not None]
            if refused:
                raise refused[0]
        try:
            if self.source.value == _ITEMS:
                batch: Batch = self._opened(path, options)
            else:
                batch = HeightRange(self.count.read(), self.chain.read(), self.height.read(), options)
            check_count(batch.count)
        except CapacityError as error:
            field.refuse(str(error))
            raise
        return batch

    def _opened(self, path: Path, options: StartOptions) -> ItemsFile:
        """Return the file as a batch: read when it is named or has changed, not for each box that changes."""
        from capacity.launcher.items import ItemsFile

        try:
            found = path.stat()
        except (OSError, ValueError):
            return ItemsFile.open(path, options)  # which says what is wrong
        state = (path.absolute(), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if self._file is None or self._file[0] != state:
            self.about.value = f'<p role="status">Reading {html.escape(str(path))}, {size(found.st_size)} …</p>'
            self._file = state, ItemsFile.open(path)
        return replace(self._file[1], path=path, options=options)

    def _control(self) -> dict[str, Any]:
        from capacity.launcher.settings import controller_for

        rate, text = self.rate.read(), self.parallelism.read()
        parallelism = None if rate is not None and text in ("", "auto") else text or None
        try:
            _, words = controller_for(parallelism, rate=rate)
        except CapacityError as error:
            (self.parallelism if rate is None or parallelism else self.rate).refuse(str(error))
            self.how.value = ""
            raise
        self.how.value = f'<p style="margin:0;line-height:1.4">{html.escape(words)}</p>'
        return {"parallelism": parallelism, "rate": rate}

    def _switch(self) -> None:
        super()._switch()
        busy = self.state in ("running", "cancelling")
        for each in self._fields:
            each.box.disabled = busy
        for picked in self._choices:
            picked.disabled = busy

    def _arranged(self) -> widgets.Box:
        groups = (
            ("Where", (self.address.view, self.guard, self.namespace.view, self.allow.view)),
            ("What", (self.source, self.count.view, self.height.view, self.chain.view, self.items.view, self.existing)),
            (
                "How",
                (self.parallelism.view, self.how, self.rate.view, self.launcher, self.processes.view, self.worker),
            ),
        )
        column = {"flex": "1 1 30em", "min_width": "min(30em, 100%)", "max_width": "34em", "overflow": "visible"}
        columns = [
            widgets.VBox([widgets.HTML(f'<h4 style="margin:4px 0">{name}</h4>'), *children], layout=column)
            for name, children in groups
        ]
        form = widgets.HBox(columns, layout={"flex_flow": "row wrap", "grid_gap": "8px 24px"})
        return widgets.VBox([form, super()._arranged()], layout={"overflow": "visible", "grid_gap": "12px"})


def launch_form(target: Target | None = None, *, count: int = 500, allowed: Collection[str] = ()) -> LaunchForm:
    """Show a launch to fill in: where, what and how; then run it with live progress, cancel and resume.

    Parameters
    ----------
    target : Target, optional
        Where at first, such as ``dev_server()``; by default what Temporal's environment configuration says.
    count : int
        Items at first.
    allowed : collection of str
        Addresses beyond loopback that may be launched at.

    Returns
    -------
    LaunchForm
        Shows itself; ``form.launch.click()`` and ``await form.wait()`` work from a cell.

    Examples
    --------
    >>> from capacity.cluster.target import Target
    >>> launch_form(Target("127.0.0.1:7233")).address.read()
    '127.0.0.1:7233'
    """
    return LaunchForm(target, count=count, allowed=allowed)


def _target(given: Target | None) -> tuple[Target | None, str]:
    """Return the target to begin with, or why Temporal's environment configuration names none."""
    if given is not None:
        return given, ""
    from capacity.cluster.profile import load_target

    try:
        return load_target(), ""
    except CapacityError as error:
        return None, str(error)


def _refusal(field: Field[Any]) -> CapacityError | None:
    try:
        field.read()
    except CapacityError as error:
        return error
    return None


def _named(what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not text:
            raise UsageError(f"{what} is empty", allowed="a name")
        return text

    return read


def _addresses(text: str) -> tuple[str, ...]:
    from capacity.cluster.guard import split_address

    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in found:
        split_address(address)
    return found


def _file(text: str) -> Path:
    if not text:
        raise UsageError("items file is empty", allowed="the path of a CSV or JSON-lines file with a column 'id'")
    return Path(text).expanduser()


def _rate(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text.replace(",", ""))
    except ValueError:
        raise UsageError(f"rate is {text[:40]!r}", allowed="a number of starts per second, or nothing") from None
