"""What only the browser can do: name the sliders, hand files to the person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget


class Page(anywidget.AnyWidget):
    """Nothing to see.

    It gives the sliders of `NumberControl` the name of their box, since ipywidgets gives them none. It saves files:
    text that is sent to it, and the figure as PNG or SVG by plotly's own code, which came with the figure. It tells
    the kernel once the figure is drawn, since what was sent while a page loads is lost. A button of class ``cap-copy``
    copies the text above it. Nothing of it needs a network.

    Parameters
    ----------
    on_drawn : callable
        Called when a page has loaded and drawn the figure: to send it once more what may have been lost.
    """

    _esm = """
    function save(name, url) {
      const link = document.createElement("a");
      link.href = url; link.download = name;
      document.body.append(link); link.click(); link.remove();
    }
    function nameSliders(root) {
      for (const control of root.querySelectorAll(".cap-number")) {
        const label = control.querySelector(".widget-label");
        const handle = control.querySelector(".noUi-handle");
        const name = label && `${label.textContent.trim()}, slider`;
        if (handle && name && handle.getAttribute("aria-label") !== name) handle.setAttribute("aria-label", name);
        if (handle) {
          const box = control.querySelector("input");
          if (box) handle.setAttribute("aria-valuetext", box.value);
        }
      }
    }
    export default { render({ model, el }) {
      let named, timer;
      const root = () => el.closest(".jp-OutputArea-output") || document.body;
      const onShown = () => {
        nameSliders(root());
        named = new MutationObserver(() => {
          clearTimeout(timer);
          timer = setTimeout(() => nameSliders(root()), 300);
        });
        named.observe(root(), { childList: true, subtree: true });
      };
      requestAnimationFrame(() => requestAnimationFrame(onShown));
      const waiting = setInterval(() => {
        if (!root().querySelector(".js-plotly-plot .gtitle")) return;
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
      return () => {
        clearInterval(waiting);
        if (named) named.disconnect();
        model.off("msg:custom", onMessage);
        document.removeEventListener("click", onClick);
      };
    } };
    """

    def __init__(self, on_drawn: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.on_msg(lambda _, message, __: on_drawn() if message.get("kind") == "drawn" else None)

    def save_text(self, name: str, text: str, kind: str) -> None:
        """Have the browser save a text as a file."""
        self.send({"kind": "text", "name": name, "text": text, "type": kind})

    def save_image(self, name: str, format: str) -> None:
        """Have the browser save the figure, as ``png`` or ``svg``."""
        message: dict[str, Any] = {"kind": "image", "name": name, "format": format}
        self.send(message)
