"""What only the browser can do: name the sliders, hand files to the person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from capacity.notebook.figure import CapacityFigure


class Page(anywidget.AnyWidget):
    """Nothing to see.

    It gives the sliders of `NumberControl` the name of their box, since ipywidgets gives them none, and as their
    value the number instead of its place among the stops. It saves files: text that is sent to it, and the figure as
    PNG or SVG by plotly's own code, which came with the figure. What is sent while a page loads is lost there: once it
    has loaded and drawn the figure, everything in the view is sent once more. A button of class ``cap-copy`` copies
    the text above it. Nothing of it needs a network.

    Parameters
    ----------
    view : callable
        Returns the widget with everything that is shown, this one too.
    figure : bool
        Whether a figure is in it.
    """

    _figure = traitlets.Bool().tag(sync=True)

    _esm = """
    function save(name, url) {
      const link = document.createElement("a");
      link.href = url; link.download = name;
      document.body.append(link); link.click(); link.remove();
    }
    const said = new WeakMap();  // what a handle says
    const slid = new WeakMap();  // the number to which a handle was slid by hand, until the box has it
    function say(handle, text) {
      said.set(handle, text);
      if (handle.getAttribute("aria-valuetext") !== text) handle.setAttribute("aria-valuetext", text);
    }
    function sayBox(control) {
      const handle = control.querySelector(".noUi-handle"), box = control.querySelector("input");
      if (!handle || !box) return;
      slid.delete(handle);
      say(handle, box.value);
    }
    function nameSliders(root) {
      for (const control of root.querySelectorAll(".cap-number")) {
        const label = control.querySelector(".widget-label");
        const handle = control.querySelector(".noUi-handle");
        const box = control.querySelector("input");
        const name = label && `${label.textContent.trim()}, slider`;
        if (handle && name && handle.getAttribute("aria-label") !== name) handle.setAttribute("aria-label", name);
        if (handle && box && (slid.get(handle) ?? box.value) === box.value) sayBox(control);
      }
    }
    // The slider says a stop's index at each move. Slid by hand, its hidden readout has the number at once, the box
    // only when the kernel has answered; moved by the kernel, the box has it before, also one between two stops.
    function sayNumbers(records, held) {
      for (const { target } of records) {
        if (!held || !held.contains(target) || !target.classList.contains("widget-readout")) continue;
        const handle = held.querySelector(".noUi-handle");
        slid.set(handle, String(Number(target.textContent.replaceAll(",", ""))));
        say(handle, slid.get(handle));
      }
      for (const { target } of records)
        if (said.has(target) && target.getAttribute("aria-valuetext") !== said.get(target))
          sayBox(target.closest(".cap-number"));
    }
    export default { render({ model, el }) {
      let named, timer, held, typed;
      const root = () => el.closest(".jp-OutputArea-output") || document.body;
      const onShown = () => {
        nameSliders(root());
        named = new MutationObserver((records) => {
          sayNumbers(records, held);
          clearTimeout(timer);
          timer = setTimeout(() => nameSliders(root()), 300);
        });
        named.observe(root(), { childList: true, subtree: true, attributeFilter: ["aria-valuetext"] });
      };
      requestAnimationFrame(() => requestAnimationFrame(onShown));
      const waiting = setInterval(() => {
        if (model.get("_figure") && !root().querySelector(".js-plotly-plot .gtitle")) return;
        clearInterval(waiting);
        model.send({ kind: "drawn" });
      }, 250);
      const onMessage = async (message) => {
        if (message.kind === "text") {
          const url = URL.createObjectURL(new Blob([message.text], { type: message.type }));
          save(message.name, url);
          setTimeout(() => URL.revokeObjectURL(url), 10000);
        } else {
          const plot = root().querySelector(".js-plotly-plot");
          if (!plot || !window.Plotly) return;
          const size = { width: plot.clientWidth, height: plot.clientHeight };
          const scale = message.format === "png" ? 2 : 1;
          save(message.name, await window.Plotly.toImage(plot, { format: message.format, scale, ...size }));
        }
      };
      model.on("msg:custom", onMessage);
      const onClick = async (event) => {
        const button = event.target.closest && event.target.closest(".cap-copy");
        if (!button || !root().contains(button)) return;
        const said = button.parentElement.querySelector("[role=status]");
        try {
          await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
          said.textContent = "Copied";
        } catch (error) { said.textContent = "Not copied: the browser refuses; select the lines instead"; }
        setTimeout(() => { said.textContent = ""; }, 4000);
      };
      document.addEventListener("click", onClick);
      const within = (event, part) => {
        const found = event.target.closest && event.target.closest(`.cap-number ${part}`);
        return found && root().contains(found) ? found.closest(".cap-number") : null;
      };
      const onHeld = (event) => { held = within(event, ".noUi-target"); };
      const onFreed = () => setTimeout(() => { held = null; }, 0);
      // The kernel's answer to an earlier move must not replace what is being typed since: it is put back until it is
      // entered, and said to be a change then, since the browser says so only of what no script has set.
      const keep = () => {
        if (!typed) return;
        if (typed.box.value !== typed.text) { typed.box.value = typed.text; typed.replaced = true; }
        requestAnimationFrame(keep);
      };
      const onTyping = (event) => {
        if (!within(event, "input")) return;
        const idle = !typed, replaced = typed?.box === event.target && typed.replaced;
        typed = { box: event.target, text: event.target.value, replaced };
        if (idle) keep();
      };
      const onEntered = (event) => {
        if (typed?.box !== event.target || (event.type === "keydown" && event.key !== "Enter")) return;
        const { box, text, replaced } = typed;
        typed = null;
        if (!replaced && box.value === text) return;
        box.value = text;
        box.dispatchEvent(new Event("change", { bubbles: true }));
      };
      const onTyped = (event) => {
        if (!within(event, "input")) return;
        typed = null;
        sayBox(within(event, "input"));
      };
      const listening = [["keydown", onHeld], ["pointerdown", onHeld], ["change", onTyped], ["input", onTyping]];
      for (const entered of ["keydown", "focusout"]) listening.push([entered, onEntered]);
      for (const freed of ["keyup", "pointerup", "pointercancel"]) listening.push([freed, onFreed]);
      for (const [kind, act] of listening) document.addEventListener(kind, act, true);
      return () => {
        clearInterval(waiting);
        typed = null;
        if (named) named.disconnect();
        model.off("msg:custom", onMessage);
        document.removeEventListener("click", onClick);
        for (const [kind, act] of listening) document.removeEventListener(kind, act, true);
      };
    } };
    """

    def __init__(self, view: Callable[[], widgets.Widget], *, figure: bool = True) -> None:
        super().__init__(_figure=figure)
        self.on_msg(lambda _, message, __: _send_again(view()) if message.get("kind") == "drawn" else None)

    def save_text(self, name: str, text: str, kind: str) -> None:
        """Have the browser save a text as a file."""
        self.send({"kind": "text", "name": name, "text": text, "type": kind})

    def save_image(self, name: str, format: str) -> None:
        """Have the browser save the figure, as ``png`` or ``svg``."""
        message: dict[str, Any] = {"kind": "image", "name": name, "format": format}
        self.send(message)


def _send_again(view: widgets.Widget) -> None:
    for widget in _within(view):
        if isinstance(widget, CapacityFigure):
            widget.resend()
        elif not isinstance(widget, Page):
            widget.send_state()
            widget.layout.send_state("display")


def _within(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _within(child)
