"""One of several shipped things by name, or a file of one's own; what cannot be read is refused in words beside it."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import ipywidgets as widgets

from capacity.errors import UsageError

OWN_FILE = "a file ..."

Thing = TypeVar("Thing")


class NamedChoice(Generic[Thing]):
    """A drop-down of names with a box for a path, which shows when "a file ..." is chosen.

    Parameters
    ----------
    name : str
        What it is, as shown.
    names : sequence of str
        What is shipped.
    load : callable
        Makes the thing from a name or path; a `UsageError` is shown.
    source : str
        Name or path at first.
    extra : mapping, optional
        Things that are here already, by name, beside those that can be loaded.

    Raises
    ------
    UsageError
        The first one cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        load: Callable[[str], Thing],
        source: str,
        extra: Mapping[str, Thing] | None = None,
    ) -> None:
        self._from_name, self._following = load, False
        self._extra = dict(extra or {})
        names = (*self._extra, *(each for each in names if each not in self._extra))
        self.on_change: Callable[[], None] = lambda: None
        self.source, self.value = source, self._load(source)
        own = source not in names
        style, layout = {"description_width": "10.5em"}, {"width": "26.8em", "max_width": "100%"}
        self.list = widgets.Dropdown(
            options=[*names, OWN_FILE],
            value=OWN_FILE if own else source,
            description=name,
            style=style,
            layout=layout,
        )
        self.path = widgets.Text(
            value=source if own else "",
            description=f"{name} file",
            placeholder="path, then Enter",
            continuous_update=False,
            style=style,
            layout={**layout, "display": "" if own else "none"},
        )
        self.refusal = widgets.HTML(layout={"margin": "0"})
        self.list.observe(self._chosen, "value")
        self.path.observe(self._typed, "value")
        self.view = widgets.VBox([self.list, self.path, self.refusal])

    def offer(self, name: str, thing: Thing) -> None:
        """Add something that is here already, and choose it."""
        self._extra[name] = thing
        self._following = True
        try:
            self.list.options = (name, *(each for each in self.list.options if each != name))
        finally:
            self._following = False
        self.choose(name)

    def choose(self, source: str) -> None:
        """Take a name or a path, as if it had been chosen.

        Raises
        ------
        UsageError
            It cannot be loaded; what was chosen before stays.
        """
        self.value, self.source = self._load(source), source
        own = source not in self.list.options
        self._following = True
        try:
            self.list.value = OWN_FILE if own else source
            self.path.layout.display = "" if own else "none"
            if own:
                self.path.value = source
            self.refusal.value = ""
        finally:
            self._following = False
        self.on_change()

    def _load(self, source: str) -> Thing:
        return self._extra[source] if source in self._extra else self._from_name(source)

    def _chosen(self, change: dict[str, str]) -> None:
        if self._following:
            return
        if change["new"] == OWN_FILE:
            self.path.layout.display = ""
            if self.path.value.strip():
                self._try(self.path.value.strip())
            return
        self._try(change["new"])

    def _typed(self, change: dict[str, str]) -> None:
        if not self._following and change["new"].strip():
            self._try(change["new"].strip())

    def refuse(self, error: UsageError) -> None:
        """Say why something was not taken, and what stands."""
        style = "display:block;white-space:normal;max-width:30em;line-height:1.4;margin-left:10.8em"
        style += ";color:var(--jp-error-color1,#b00020)"
        words = f"{html.escape(str(error))}. Still {html.escape(self.source)}."
        self.refusal.value = f'<span role="alert" style="{style}">{words}</span>'

    def _try(self, source: str) -> None:
        try:
            self.choose(source)
        except UsageError as error:
            self.refuse(error)
